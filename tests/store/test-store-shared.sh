#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Unmodified programs that map one file of a store share its pages: what one
# stores the other loads, and so does who reads the file; a child has the mapping
# of its parent; one that is killed has lost nothing.
. "${FL_SRC:-.}/tests/functions.sh"

mkdir "$work/mnt"
bare_environment

"$faultline" store init "$work/store"
"$faultline" mkswap --size 64M "$work/store/swap/disk0"
"$faultline" mount -o cache=4M "$work/store" "$work/mnt"
truncate -s 16M "$work/mnt/files/data"
mkfifo "$work/in" "$work/out"

cat >"$work/first.py" <<'END'
import mmap, os, sys
f = open(sys.argv[1] + '/mnt/files/data', 'r+b')
m = mmap.mmap(f.fileno(), 0)
for page in range(0, 4096, 2):
    m[page * 4096:page * 4096 + 8] = b'one%05d' % page
open(sys.argv[1] + '/out', 'w').write('stored')
open(sys.argv[1] + '/in').read()
def check():
    for page in range(1, 4096, 2):
        if m[page * 4096:page * 4096 + 8] != b'two%05d' % page:
            sys.exit('page %d' % page)
    for page in range(0, 4096, 2):
        if m[page * 4096:page * 4096 + 8] != b'one%05d' % page:
            sys.exit('page %d' % page)
check()
pid = os.fork()
if pid == 0:
    check()
    m[:8] = b'a child!'
    os._exit(0)
if os.waitpid(pid, 0)[1] != 0 or m[:8] != b'a child!':
    sys.exit('the child')
m[8:16] = b'not lost'
os.kill(os.getpid(), 9)
END
cat >"$work/second.py" <<'END'
import mmap, sys
f = open(sys.argv[1] + '/mnt/files/data', 'r+b')
m = mmap.mmap(f.fileno(), 0)
for page in range(0, 4096, 2):
    if m[page * 4096:page * 4096 + 8] != b'one%05d' % page:
        sys.exit('page %d' % page)
for page in range(1, 4096, 2):
    m[page * 4096:page * 4096 + 8] = b'two%05d' % page
m.flush()
END
(
	status=0
	"$faultline" run --limit 64M --store "$work/mnt" -- python3 "$work/first.py" "$work" ||
		status=$?
	echo "$status" >"$work/status"
) &
cat "$work/out" >/dev/null
"$faultline" run --limit 64M --store "$work/mnt" --verify --stats="$work/stats" -- \
	python3 "$work/second.py" "$work"
grep -q '^  mappings of files, managed  *[1-9]' "$work/stats"
grep -q '^  differences found  *0$' "$work/stats"
# what the one synced is on the disk
[ "$(dd if="$work/store/files/data" bs=1 skip=4096 count=8 status=none)" = two00001 ]
echo go >"$work/in"
wait
[ "$(cat "$work/status")" -eq 137 ]
[ "$(head -c 16 "$work/mnt/files/data")" = 'a child!not lost' ]
"$faultline" umount "$work/mnt"
[ "$(head -c 16 "$work/store/files/data")" = 'a child!not lost' ]

# A limit of files' length is raised as far as it may be; else programs page by themselves, and one line says so.
rm "$work/in" "$work/out"
cat >"$work/alone.py" <<'END'
import mmap, sys
f = open(sys.argv[1] + '/mnt/files/data', 'r+b')
m = mmap.mmap(f.fileno(), 0)
m[:8192] = sys.argv[2].encode() * 8192
m.flush()
END
# with_limit WORD OPTION...: it stores that, and what it is told is in $work/err
with_limit() {
	word=$1
	shift
	(
		for option; do
			ulimit "$option" -f 1000000
		done
		expect 0 "$faultline" mount -o cache=4M "$work/store" "$work/mnt"
	)
	"$faultline" run --limit 64M --store "$work/mnt" --stats="$work/stats" -- \
		python3 "$work/alone.py" "$work" "$word" 2>"$work/said"
	"$faultline" umount "$work/mnt"
	[ "$(dd if="$work/store/files/data" bs=1 skip=8184 count=8 status=none)" = \
		"$word$word$word$word$word$word$word$word" ]
}
with_limit x -S
[ ! -s "$work/err" ] || fail "a limit that may be raised: it is spoken of"
if grep -q 'not managed' "$work/stats" || [ -s "$work/said" ]; then
	fail "a limit that may be raised: the server does not page"
fi
with_limit y -S -H
one_line 'programs page mapped files by themselves.*RLIMIT_FSIZE' mount
