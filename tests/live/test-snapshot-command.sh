#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# 'faultline snapshot' of programs under `faultline run`: images of a program whose threads
# write and that forks all the time are each of one instant; what is in them is
# shown, cut out and checked; one line and no file for what cannot be done.
. "${FL_SRC:-.}/tests/functions.sh"
export LC_ALL=C.UTF-8

finish() {
	exec 3>&- 4>&-
	wait
	remove_work
}

# run STATUS ARGUMENT...
run() {
	want=$1
	shift
	expect "$want" timeout -k 5 300 "$faultline" "$@" </dev/null
}

# refuses STATUS TEXT ARGUMENT...: one line
refuses() {
	want=$1
	text=$2
	shift 2
	run "$want" "$@"
	one_line "$text" "$@"
}

# --- a program that writes and forks ---

pages=1200
mkfifo "$work/in" "$work/says"
"$faultline" run --limit 4M --swap-dir "$work" -- "$FL_BUILD/tests/live/snapshot-writer" $pages \
	<"$work/in" >"$work/says" 3>&- &
writer=$!
exec 3>"$work/in" 4<"$work/says"
read -r address <&4
end=$(printf '%x' $((0x$address + 3 * pages * 4096)))
# the process itself: run becomes it
pid=$writer

last=0
for i in 1 2 3 4 5 6; do
	rm -f "$work/image"
	run 0 snapshot --no-sync "$pid" "$work/image"
	grep -Eq "^$work/image: [0-9]+ MiB of process $pid, which stood for [0-9.]+ ms\$" "$work/out" ||
		fail "snapshot: does not say what it did"
	run 0 snapshot --extract "$address-$end" "$work/image"
	[ "$(wc -c <"$work/out")" -eq $((3 * pages * 4096)) ] || fail "extract: not the whole range"
	# the first word of each page
	first=$(perl -e 'binmode STDIN; my ($last, $first);
		while (read(STDIN, my $page, 4096) == 4096) {
			my $v = unpack "Q<", $page;
			die "more than the page before it\n" if defined $last && $v > $last;
			$last = $v;
			$first = $v unless defined $first;
		}
		print $first' <"$work/out") || fail "image $i is of no one instant"
	[ "$first" -ge "$last" ] || fail "image $i is older than the one before it"
	last=$first
done
[ "$last" -gt 1 ] || fail "the program did not go on"

run 0 snapshot --check "$work/image"
grep -q ': whole: [0-9]* pages, 0 of them lost' "$work/out" || fail "check: not whole"
run 0 snapshot --maps "$work/image"
grep -Eq '^[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] ' "$work/out" || fail "maps: no region"
run 0 snapshot --list "$work/image"
grep -q "^process $pid, " "$work/out" || fail "list: not of this process"
awk '/^[0-9a-f]+-/ { kib += $4; data += $5 } /^total/ { exit !(kib == $2 && data == $3 && data > 10000) }' \
	"$work/out" || fail "list: not a table with its sum"

# a file that is there is not written over
refuses 1 'cannot make .*: File exists' snapshot "$pid" "$work/image"
run 0 snapshot --check "$work/image"

# somebody who goes away leaves a program that goes on, and the next one is served
for i in 1 2 3; do
	"$faultline" snapshot "$pid" "$work/half" >"$work/out" 2>"$work/err" &
	kill -INT $! 2>/dev/null || true
	wait $! || true
	rm -f "$work/half"
done
taken() {
	! "$faultline" snapshot --no-sync "$pid" "$work/whole" >"$work/out" 2>"$work/err" || return 0
	grep -q 'another snapshot' "$work/err" || fail "not taken after others were given up"
	return 1
}
until_so taken
run 0 snapshot --check "$work/whole"

exec 3>&-
read -r said <&4
[ "$said" = "0 failed" ] || fail "the program says: $said"
status=0
wait "$writer" || status=$?
[ "$status" -eq 0 ] || fail "the program ended with $status"

# --- damage ---

cp --sparse=always "$work/image" "$work/torn"
printf 'x' | dd of="$work/torn" bs=1 seek=$((4096 * 200)) conv=notrunc 2>/dev/null
run 1 snapshot --check "$work/torn"
grep -q 'damaged: 1 of ' "$work/err" || fail "one wrong byte is not found"
truncate -s -4096 "$work/torn"
refuses 1 'not an image, or not a complete one' snapshot --list "$work/torn"
: >"$work/empty"
refuses 1 'not an image' snapshot --list "$work/empty"
refuses 1 'No such file' snapshot --check "$work/nothing"

# --- a private mapping of a file: what was written is in the image, the rest is the file's ---

perl -e 'print "x" x (4096 * 20)' >"$work/data"
mkfifo "$work/go" "$work/ready"
"$faultline" run --limit 256M --swap-dir "$work" --files "$work/data" -- python3 -c '
import mmap, sys
f = open(sys.argv[1], "rb")
m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY, offset=4096 * 4)
m[8192:8197] = b"hello"
print(m[4096:4097].decode(), flush=True)
sys.stdin.read()
assert m[8192:8198] == b"hellox"
' "$work/data" <"$work/go" >"$work/ready" &
mapper=$!
exec 3>"$work/go" 4<"$work/ready"
read -r said <&4
[ "$said" = x ] || fail "the program with a mapping says: $said"
run 0 snapshot --no-sync "$mapper" "$work/files"
exec 3>&-
wait "$mapper" || fail "the program with a mapping failed"
run 0 snapshot --check "$work/files"
grep -q ' unwritten ones of mapped files$' "$work/out" || fail "check: no page of a file"
run 0 snapshot --maps "$work/files"
start=$(sed -n "s|^\([0-9a-f]*\)-.* rw-p 00004000 00:00 0 $work/data\$|\1|p" "$work/out")
[ -n "$start" ] || fail "maps: the file is not there, with its offset"
hex() {
	printf '%x' $((0x$start + $1))
}
run 0 snapshot --extract "$(hex 8192)-$(hex 8198)" "$work/files"
[ "$(cat "$work/out")" = hellox ] || fail "extract: not what was written to the mapping"
refuses 1 "is that of $work/data at 20480" snapshot --extract "$(hex 4096)-$(hex 4097)" "$work/files"

# --- who has nothing to show ---

refuses 1 'has no memory that faultline manages' snapshot $$ "$work/none"
[ ! -e "$work/none" ] || fail "a file is left of a snapshot that was refused"
refuses 1 'No such process' snapshot 4194304 "$work/none"
mkfifo "$work/idle"
exec 3<>"$work/idle"
"$faultline" run --limit 1G -- cat <&3 >/dev/null &
cat=$!
seen() {
	"$faultline" snapshot "$cat" "$work/none" 2>"$work/err" || ! grep -q 'no memory' "$work/err"
}
until_so seen
refuses 1 'is not paged, .*: its memory is below its limit, .* --snapshots' snapshot "$cat" "$work/none"
kill "$cat"
exec 3>&-
wait "$cat" 2>/dev/null || true

# --- below the limit, with a pager from the start ---

"$faultline" run --limit 1G --snapshots --swap-dir "$work" -- python3 -c '
import os, sys
data = bytearray(b"abcdefgh" * (1 << 20))
print(flush=True)
sys.stdin.read()
assert data == b"abcdefgh" * (1 << 20)
if os.fork() == 0:
    data[5] = 0
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0 and data[5] == ord("f")
' <"$work/go" >"$work/ready" &
idle=$!
exec 3>"$work/go" 4<"$work/ready"
read -r said <&4
run 0 snapshot --no-sync "$idle" "$work/idle-image"
exec 3>&-
wait "$idle" || fail "the program with a pager from the start failed"
run 0 snapshot --check "$work/idle-image"
[ "$(grep -ac 'abcdefghabcdefgh' "$work/idle-image")" -gt 0 ] || fail "its memory is not in the image"

# --- what is not understood ---

refuses 2 'wants a process number and a file' snapshot
refuses 2 'wants a process number and a file' snapshot 1
refuses 2 'not a process number' snapshot x "$work/none"
refuses 2 'an image is wanted' snapshot --list
refuses 2 'one image at a time' snapshot --list a b
refuses 2 'not a range' snapshot --extract 10 "$work/image"
refuses 2 'not a range' snapshot --extract 20-10 "$work/image"
refuses 2 'one of --list' snapshot --list --maps "$work/image"
refuses 2 'is for taking' snapshot --no-sync --list "$work/image"
refuses 2 'unknown option' snapshot --bogus
