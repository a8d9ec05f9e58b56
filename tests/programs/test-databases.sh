#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Databases that map their files, all files chosen: sqlite3 with mmap_size, and
# LMDB there and back.  They map shared, which is the kernel's without a store.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs sqlite3 mdb_load mdb_dump mdb_stat
FAULTLINE_FILES=$dir/*
export FAULTLINE_FILES
limit=2048

cat >"$dir/work.sql" <<'END'
PRAGMA mmap_size = 268435456;
PRAGMA synchronous = OFF;
PRAGMA cache_size = 100;
CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, n INTEGER);
INSERT INTO t SELECT value, hex(value * 7919) || hex(zeroblob(value % 90)), value * 31 % 1009
	FROM generate_series(1, 60000);
CREATE INDEX by_n ON t (n, word);
UPDATE t SET word = word || 'x' WHERE id % 7 = 0;
DELETE FROM t WHERE id % 11 = 0;
SELECT n, count(*), sum(id), max(word) FROM t GROUP BY n ORDER BY n LIMIT 20;
SELECT sum(length(word)) FROM t WHERE n BETWEEN 100 AND 400;
PRAGMA integrity_check;
END
native sqlite sqlite3 -bail "$dir/one.db" ".read $dir/work.sql"
rm "$dir/one.db"
managed sqlite sqlite3 -bail "$dir/one.db" ".read $dir/work.sql"
same sqlite
grep -qx ok "$dir/sqlite.paged.out" || fail "sqlite3: the integrity check did not say ok"

awk 'BEGIN {
	print "VERSION=3\nformat=print\ntype=btree\nmapsize=67108864\nHEADER=END"
	for (i = 0; i < 8000; i++) {
		v = sprintf("%d", i * 7919 % 1000003)
		printf " key%06d\n %s-%s-%s-%s\n", i, v, v, v, v
	}
	print "DATA=END"
}' >"$dir/dump"
cat >"$dir/lmdb.sh" <<'END'
set -e
mkdir "$1/env"
mdb_load -f "$1/dump" "$1/env"
mdb_stat "$1/env"
mdb_dump -p "$1/env" | md5sum
mdb_copy -c "$1/env" >"$1/copy.mdb"
mkdir "$1/again"
mv "$1/copy.mdb" "$1/again/data.mdb"
mdb_dump -p "$1/again" | grep -c key
rm -r "$1/env" "$1/again"
END
native lmdb sh "$dir/lmdb.sh" "$dir"
managed lmdb sh "$dir/lmdb.sh" "$dir"
same lmdb
[ "$(tail -n 1 "$dir/lmdb.paged.out")" -eq 8000 ] || fail "LMDB: entries are missing"

mkdir "$dir/env"
mdb_load -f "$dir/dump" "$dir/env"
native dump mdb_dump -p "$dir/env"
managed dump mdb_dump -p "$dir/env"
same dump
for name in sqlite dump; do
	[ "$(stat "$name" 'not managed: shared')" -gt 0 ] ||
		fail "$name: no shared mapping of a chosen file was seen"
	echo "$name: equal to native, $(seconds "$name" native) s natively, $(seconds "$name" paged) s"
done
