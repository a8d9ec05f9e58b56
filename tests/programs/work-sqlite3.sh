# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work-sqlite3.sh ROWS DIRECTORY: several processes write to one database at
# once, others read and sort it meanwhile.
set -eu

rows=$1 db=$2/work.db
rm -f "$db"*

# sql: statements from standard input, with all the memory that they like
sql() {
	sqlite3 -bail -cmd '.timeout 300000' -cmd 'PRAGMA cache_size = -65536' \
		-cmd 'PRAGMA temp_store = MEMORY' "$db"
}

sql <<END
PRAGMA journal_mode = WAL;
CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER, word TEXT, weight INTEGER);
CREATE TABLE tally (owner INTEGER PRIMARY KEY, n INTEGER, total INTEGER);
INSERT INTO tally SELECT value, 0, 0 FROM generate_series(0, 3);
END

writer() {
	for round in 0 1 2 3; do
		sql <<END
BEGIN IMMEDIATE;
INSERT INTO item
	SELECT value * 4 + $1, $1,
		printf('%08x', (value * 2654435761) % 4294967296) || hex(zeroblob(value % 60)),
		(value * 7919) % 100003
	FROM generate_series($rows / 4 * $round, $rows / 4 * ($round + 1) - 1);
UPDATE tally SET n = n + $rows / 4,
	total = (SELECT sum(weight) FROM item WHERE item.owner = $1) WHERE owner = $1;
COMMIT;
END
	done
}

# A reader sees whole transactions only.
reader() {
	sql <<END
BEGIN;
SELECT CASE WHEN (SELECT sum(n) FROM tally) = (SELECT count(*) FROM item)
	AND (SELECT sum(total) FROM tally) = (SELECT coalesce(sum(weight), 0) FROM item)
	THEN 'whole' ELSE 'torn' END;
SELECT count(*) >= 0 FROM (SELECT * FROM item ORDER BY word DESC, weight);
COMMIT;
END
}

jobs=
for owner in 0 1 2 3; do
	writer "$owner" &
	jobs="$jobs $!"
	reader >"$db.reader.$owner" &
	jobs="$jobs $!"
done
for job in $jobs; do
	wait "$job"
done
cat "$db".reader.*

sql <<END
PRAGMA integrity_check;
SELECT * FROM tally;
CREATE INDEX by_word ON item (word, weight);
SELECT owner, count(*), sum(weight), min(word), max(word) FROM item GROUP BY owner;
SELECT group_concat(id % 97, '') FROM (SELECT id FROM item ORDER BY word, weight, id LIMIT 1000);
SELECT a.id, b.id FROM item a JOIN item b ON a.word = b.word AND a.id < b.id
	ORDER BY a.id, b.id LIMIT 20;
VACUUM;
PRAGMA integrity_check;
END
sqlite3 "$db" .dump | md5sum
sqlite3 "$db" ".backup $db.copy"
sqlite3 "$db.copy" .dump | md5sum
rm -f "$db"*
