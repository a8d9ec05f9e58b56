#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Programs whose mappings of files are shared, of files several times as large as
# the store's cache: sqlite3 with mmap_size, LMDB there and back, a sort and two
# searches say what they say of files of an ordinary directory, and leave the same.
# A writer is killed in the middle of a transaction: who comes next goes on.
. "${FL_SRC:-.}/tests/functions.sh"

mapped=$FL_BUILD/tests/programs/mapped
plain=$work/plain
stored=$work/mnt/files
mkdir "$work/mnt" "$plain"
bare_environment

finish() {
	[ -z "${writer:-}" ] || kill -KILL "$writer" 2>/dev/null || true
	remove_work
}

"$faultline" store init "$work/store"
"$faultline" mkswap --size 64M "$work/store/swap/disk0"
"$faultline" mount -o cache=2M "$work/store" "$work/mnt"

# managed STATS COMMAND...
managed() {
	stats=$work/$1
	shift
	"$faultline" run --limit 4M --store "$work/mnt" --verify --stats="$stats" -- "$@"
}

# was_shared STATS: all that was mapped there was managed, and is where it is said to be
was_shared() {
	grep -q '^  mappings of files, managed  *[1-9]' "$work/$1" || fail "$1: nothing was managed"
	if grep '^  differences found  *[1-9]' "$work/$1" || grep 'not managed' "$work/$1"; then
		fail "$1: not as it should be"
	fi
	grep -q '^  differences found  *0$' "$work/$1" || fail "$1: nothing was compared"
	rm "$work/$1"
}

# twice NAME COMMAND...: with @ for the directory, in the ordinary one and in the store
twice() {
	name=$1
	shift
	for dir in "$plain" "$stored"; do
		(
			for word; do
				case $word in
				*@*) set -- "$@" "${word%%@*}$dir${word#*@}" ;;
				*) set -- "$@" "$word" ;;
				esac
				shift
			done
			if [ "$dir" = "$plain" ]; then
				"$@" >"$work/native"
			else
				managed "$name" "$@" >"$work/managed"
			fi
		)
	done
	cmp "$work/native" "$work/managed" || fail "$name: differs from native"
	was_shared "$name"
}

# value NAME: of the server's figures
value() {
	sed -n "s/^$1: //p" "$work/mnt/stats"
}

# --- a sort and searches ---

"$mapped" make "$plain/records" 8
cp "$plain/records" "$stored/records"
twice search "$mapped" search @/records w000
twice ripgrep rg --mmap --byte-offset --only-matching --text 'w0001[0-9]*' @/records
twice order "$mapped" order @/records
cmp "$plain/records" "$stored/records"
# what was stored last went to the disk when nobody had it mapped any more
until_so cmp -s "$plain/records" "$work/store/files/records"

# --- sqlite3 ---

for mode in delete wal; do
	cat >"$work/work.sql" <<-END
		PRAGMA journal_mode = $mode;
		PRAGMA mmap_size = 268435456;
		PRAGMA synchronous = OFF;
		PRAGMA cache_size = 100;
		CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT, n INTEGER);
		INSERT INTO t SELECT value, hex(value * 7919) || hex(zeroblob(600)), value * 31 % 1009
			FROM generate_series(1, 5000);
		CREATE INDEX by_n ON t (n);
		UPDATE t SET word = word || 'x' WHERE id % 7 = 0;
		DELETE FROM t WHERE id % 11 = 0;
		SELECT n, count(*), sum(id), max(word) FROM t GROUP BY n ORDER BY n LIMIT 200;
		SELECT sum(length(word)) FROM t WHERE n BETWEEN 100 AND 400;
		PRAGMA integrity_check;
	END
	twice "$mode" sqlite3 -bail "@/$mode.db" ".read $work/work.sql"
	tail -n 1 "$work/managed" | grep -qx ok || fail "$mode: the integrity check did not say ok"
	cmp "$plain/$mode.db" "$stored/$mode.db"
	[ "$(stat -c %s "$stored/$mode.db")" -gt 5000000 ] || fail "$mode: too small for the cache"
done

# pays FROM TO: so many transactions, none of which changes the sum
pays() {
	awk -v i="$1" -v n="$2" 'BEGIN {
		for (; i < n; i++)
			printf "BEGIN; UPDATE a SET v = v - %d WHERE id = %d; " \
				"UPDATE a SET v = v + %d WHERE id = %d; COMMIT;\n",
				i, i * 7 % 1000, i, i * 13 % 1000
	}'
}

# sums N: the same as often as that
sums() {
	awk -v n="$1" 'BEGIN { while (n-- > 0) print "SELECT sum(v) FROM a;" }'
}

mkfifo "$work/go" "$work/in" "$work/said"
for dir in "$plain" "$stored"; do
	{
		echo "PRAGMA journal_mode = wal;"
		echo "CREATE TABLE a (id INTEGER PRIMARY KEY, v INTEGER, more TEXT);"
		echo "INSERT INTO a SELECT value, 1000, hex(zeroblob(500)) FROM generate_series(0, 999);"
	} | sqlite3 -bail "$dir/pays.db" >/dev/null
done
{
	echo ".timeout 60000"
	echo "PRAGMA mmap_size = 268435456;"
	echo "PRAGMA synchronous = OFF;"
} >"$work/as.sql"

# One writes while another reads: neither is done before the other began.
{ pays 0 300; cat "$work/go" >/dev/null; pays 300 600; } |
	managed writes sqlite3 -bail -cmd ".read $work/as.sql" "$stored/pays.db" >/dev/null &
writes=$!
{
	sums 20
	printf '.output %s\nSELECT 1;\n.output stdout\n' "$work/go"
	sums 100
} | managed reads sqlite3 -bail -cmd ".read $work/as.sql" \
	"$stored/pays.db" >"$work/sums"
wait "$writes"
[ "$(grep -cx 1000000 "$work/sums")" -eq 120 ] || fail "a reader saw a part of a transaction"
was_shared writes
was_shared reads
pays 0 600 | sqlite3 -bail "$plain/pays.db"
twice paid sqlite3 -bail -cmd ".read $work/as.sql" @/pays.db "SELECT id, v FROM a"

# kill_writer: when it has said that it is in the middle
kill_writer() {
	kill -KILL "$writer"
	status=0
	wait "$writer" || status=$?
	[ "$status" -eq 137 ] || fail "the writer was not killed: $status"
	writer=
}

for dir in "$plain" "$stored"; do
	if [ "$dir" = "$plain" ]; then
		set --
	else
		set -- "$faultline" run --limit 4M --store "$work/mnt" --
	fi
	"$@" sqlite3 -bail -cmd ".read $work/as.sql" -cmd "PRAGMA cache_size = 20" \
		"$dir/pays.db" <"$work/in" >/dev/null &
	writer=$!
	{
		pays 600 700
		echo "BEGIN; UPDATE a SET v = 0, more = hex(zeroblob(600));"
		printf '.output %s\nSELECT 1;\n.output stdout\n' "$work/said"
		cat "$work/go"
	} >"$work/in" &
	feeder=$!
	cat "$work/said" >/dev/null
	kill_writer
	echo >"$work/go"
	wait "$feeder" || true
done
twice killed sqlite3 -bail -cmd ".read $work/as.sql" @/pays.db \
	"SELECT id, v FROM a; SELECT sum(v) FROM a; PRAGMA integrity_check"
tail -n 2 "$work/managed" | tr '\n' ' ' | grep -qx '1000000 ok ' || fail "sqlite3: killed, not sound"

# --- LMDB ---

# entries FROM TO
entries() {
	awk -v i="$1" -v n="$2" 'BEGIN {
		print "VERSION=3\nformat=print\ntype=btree\nmapsize=67108864\nHEADER=END"
		for (; i < n; i++)
			printf " key%06d\n %d-%0300d\n", i, i * 7919 % 1000003, i
	}'
}

{ entries 0 20000; echo DATA=END; } >"$work/dump"
mkdir "$plain/env" "$stored/env"
twice load mdb_load -f "$work/dump" @/env
twice stat mdb_stat -ef @/env
twice dump mdb_dump -p @/env
[ "$(grep -c '^ key' "$work/managed")" -eq 20000 ] || fail "LMDB: entries are missing"
[ "$(stat -c %s "$stored/env/data.mdb")" -gt 6000000 ] || fail "LMDB: too small for the cache"

# One reads while another adds, which waits in the middle: it sees what was committed.
{ entries 20000 22050; cat "$work/go" >/dev/null; entries 22050 24000 | sed 1,5d; echo DATA=END; } |
	managed adds mdb_load "$stored/env" &
adds=$!
managed reads mdb_dump -p "$stored/env" >"$work/part"
echo >"$work/go"
managed later mdb_dump -p "$stored/env" >"$work/more"
wait "$adds"
was_shared adds
was_shared reads
was_shared later
{ entries 20000 24000; echo DATA=END; } | mdb_load "$plain/env"
twice added mdb_dump -p @/env
for part in part more; do
	sed '1,/^HEADER=END/d; /^DATA=END/d' "$work/$part" >"$work/body"
	lines=$(wc -l <"$work/body")
	[ "$lines" -ge 40000 ] && [ $((lines % 200)) -eq 0 ] || fail "LMDB: $lines lines of a dump"
	sed '1,/^HEADER=END/d' "$work/managed" | head -n "$lines" | cmp - "$work/body"
done

# Killed in the middle of a transaction it has the lock of writers, which the next one gets.
for dir in "$plain" "$stored"; do
	if [ "$dir" = "$plain" ]; then
		set --
	else
		set -- "$faultline" run --limit 4M --store "$work/mnt" --
	fi
	"$@" mdb_load "$dir/env" <"$work/in" &
	writer=$!
	{
		entries 24000 24550
		echo >"$work/said"
		cat "$work/go"
	} >"$work/in" &
	feeder=$!
	cat "$work/said" >/dev/null
	[ "$dir" = "$plain" ] || [ "$(value cache_pages)" -gt 0 ] ||
		fail "LMDB: the server has no pages of what is mapped"
	kill_writer
	echo >"$work/go"
	wait "$feeder" || true
done
mdb_dump -p "$plain/env" >"$work/native"
managed dump mdb_dump -p "$stored/env" >"$work/managed"
was_shared dump
for dump in native managed; do
	sed '1,/^HEADER=END/d; /^DATA=END/d' "$work/$dump" >"$work/$dump.body"
	lines=$(wc -l <"$work/$dump.body")
	[ "$lines" -ge 48000 ] && [ $((lines % 200)) -eq 0 ] || fail "LMDB: killed, $lines lines"
	entries 0 24600 | sed 1,5d | head -n "$lines" | cmp - "$work/$dump.body"
done
{ entries 24000 25000; echo DATA=END; } >"$work/dump"
twice again timeout "$hang_seconds" mdb_load -f "$work/dump" @/env
twice whole mdb_dump -p @/env
mdb_dump -p "$plain/env" >"$work/native"

"$faultline" umount "$work/mnt"
cmp "$plain/records" "$work/store/files/records"
for base in delete wal pays; do
	cmp "$plain/$base.db" "$work/store/files/$base.db"
done
mdb_dump -p "$work/store/files/env" | cmp "$work/native" -
"$faultline" store check "$work/store"
