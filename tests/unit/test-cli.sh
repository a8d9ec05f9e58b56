#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# faultline(1)'s manners: help on standard output and status 0; what is not
# understood, one line on standard error and status 2; doctor says missing, and
# fails, where something is missing.
. "${FL_SRC:-.}/tests/functions.sh"

chmod 755 "$work"

# run STATUS ARGUMENT...
run() {
	want=$1
	shift
	expect "$want" "$faultline" "$@"
}

helps() {
	run 0 "$@"
	grep -q '^usage: faultline' "$work/out" || fail "faultline $*: no usage"
	[ ! -s "$work/err" ] || fail "faultline $*: help on standard error"
}

# refuses TEXT ARGUMENT...
refuses() {
	text=$1
	shift
	run 2 "$@"
	one_line "$text" "$@"
}

helps --help
helps help
helps doctor --help
helps help doctor
helps version --help
run 0 version
grep -q '^faultline [0-9.]*$' "$work/out" || fail "version: no version"
run 0 --version
run 2
grep -q '^usage: faultline' "$work/err" || fail "no usage without a command"

refuses "unknown option '-x'" -x
refuses "unknown option '-h'" -h
refuses "unknown option '--bogus'" --bogus
refuses "no command 'bogus'" bogus
refuses "no command 'bogus'" help bogus
refuses "no argument: 'x'" version x
refuses "unknown option '--bogus'" doctor --bogus
refuses "unknown option '-z'" doctor -zy
refuses "takes no argument: '--help=3'" doctor --help=3
refuses "'--swap-dir' wants an argument" doctor --swap-dir
refuses "no argument: 'x'" doctor x

# mkswap takes what is blank, says why it does not take the rest, and leaves nothing behind.
# unmakeable TEXT ARGUMENT...
unmakeable() {
	text=$1
	shift
	run 1 mkswap "$@"
	[ ! -s "$work/out" ] || fail "mkswap $*: standard output is not empty"
	[ "$(wc -l <"$work/err")" -eq 1 ] || fail "mkswap $*: not one line"
	grep -q "^faultline: swap area .*$text" "$work/err" || fail "mkswap $*: does not say '$text'"
}

refuses "'--size' wants an argument" mkswap --size
refuses "'5x' is not a size" mkswap --size 5x "$work/a"
refuses "'0' is not a size" mkswap --size 0 "$work/a"
refuses "wants a file" mkswap
refuses "one file: 'b'" mkswap a b
unmakeable "no such file" "$work/a"
unmakeable "too small" --size 4096 "$work/a"
unmakeable "is a directory" "$work"
unmakeable "do not fit" --size 8192T "$work/a"
unmakeable "neither a file nor a block device" /dev/null
[ ! -e "$work/a" ] || fail "mkswap left a file behind"
unmakeable "no such device" "/dev/none-$$"
unmakeable "no such device" --size 1M "/dev/none-$$"
for name in "//dev/none-$$" "/usr/../dev/none-$$" "none-$$"; do
	status=0
	(cd /dev && "$faultline" mkswap --size 1M "$name") 2>"$work/err" || status=$?
	[ "$status" -eq 1 ] && grep -q 'no such device$' "$work/err" || fail "mkswap $name: $status"
done
"$faultline" mkswap --size 1M "/dev/..$work/beside" || fail "mkswap: not a device's name"
rm "$work/beside"
[ ! -e "/dev/none-$$" ] || fail "mkswap made a file among the devices"

run 0 mkswap --size 1.5M "$work/a"
[ "$(stat -c %s "$work/a")" -eq 1572864 ] || fail "mkswap: 1.5M are not 1572864 bytes"
[ "$(head -c 16 "$work/a")" = FAULTLINE-SWAP-1 ] || fail "mkswap: no header"
[ "$(stat -c %a "$work/a")" -eq 600 ] || fail "mkswap: others may look into the area"
run 0 mkswap "$work/a"

head -c 1000000 /dev/urandom >"$work/data"
cp "$work/data" "$work/copy"
unmakeable "not blank" "$work/data"
cmp -s "$work/data" "$work/copy" || fail "mkswap wrote into what was not blank"

(
	flock 9
	unmakeable "in use" "$work/a"
) 9<"$work/a"
rm "$work/a" "$work/data" "$work/copy"

# Every command that help lists answers --help.
"$faultline" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' >"$work/commands"
[ "$(wc -l <"$work/commands")" -ge 3 ] || fail "help lists no commands"
while read -r command; do
	helps "$command" --help
done <"$work/commands"

# This machine runs the tests, so it can run faultline.
run 0 doctor --swap-dir "$work"
grep -q '^This machine can run faultline\.$' "$work/out" || fail "doctor: no verdict"
if grep -q 'missing' "$work/out"; then
	fail "doctor: something is missing, and status 0"
fi
for row in kernel userfaultfd 'absent-page faults' 'write-protect faults' 'move pages' \
	'poison pages' PAGEMAP_SCAN; do
	grep -q "^$row  *ok " "$work/out" || fail "doctor: $row is not ok"
done

run 1 doctor --swap-dir "$work/nowhere"
grep -q '^swap directory  *missing .*No such file' "$work/out" ||
	fail "doctor: a directory that is not there is not missing"
grep -q '^This machine cannot run faultline: 1 needed thing is missing\.$' "$work/out" ||
	fail "doctor: no verdict about one missing thing"
[ -z "$(ls "$work" | grep -v -e '^out$' -e '^err$' -e '^commands$')" ] ||
	fail "doctor left something behind"

# limited ULIMIT... PATTERN STATUS: doctor under a limit
limited() {
	status=0
	(ulimit "$1" "$2" && exec "$faultline" doctor --swap-dir "$work") \
		>"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$4" ] || fail "doctor, ulimit $1 $2: status $status instead of $4"
	grep -q "$3" "$work/out" || fail "doctor, ulimit $1 $2: no line '$3'"
}
limited -f 8192 '^file size  *optional  *[48].0M a file (RLIMIT_FSIZE)' 0
limited -f 1024 '^file size  *missing  *\(512K\|1.0M\) a file (RLIMIT_FSIZE)' 1
limited -n 32 '^open files  *missing  *32 descriptors' 1
# The thread sanitizer does not start under such a limit.
grep -q __tsan_init "$faultline" ||
	limited -v 68719476736 '^address space  *optional  *64T of mappings (RLIMIT_AS)' 0

# An area in memory would save none: said, but no reason to stop.
if by_root "an area in memory"; then
	mkdir "$work/dir"
	status=0
	unshare -m sh -c 'mount -t tmpfs -o size=128m none "$2" && exec "$1" doctor --swap-dir "$2"' \
		sh "$faultline" "$work/dir" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 0 ] || fail "doctor, tmpfs: status $status instead of 0"
	grep -q '^swap directory  *optional .*lies in memory' "$work/out" ||
		fail "doctor, tmpfs: not told"
	status=0
	unshare -m sh -c 'mount -t tmpfs -o size=1m none "$2" && exec "$1" doctor --swap-dir "$2"' \
		sh "$faultline" "$work/dir" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 1 ] || fail "doctor, full disk: status $status instead of 1"
	grep -q '^swap directory  *missing .*too little' "$work/out" || fail "doctor, full disk: not told"
	rmdir "$work/dir"
fi

# One who may not open the device is told what to do, and gets status 1.
if by_root "one who may not open the device"; then
	cp "$faultline" "$work/faultline"
	chmod 755 "$work/faultline"
	mkdir -m 777 "$work/dir"
	device=$(stat -c %a /dev/userfaultfd)
	if [ "${device#"${device%?}"}" -ne 0 ] ||
		[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" -ne 0 ]; then
		left_out "one who may not open the device: here everybody may"
	else
		status=0
		setpriv --reuid=65534 --regid=65534 --clear-groups "$work/faultline" doctor \
			--swap-dir "$work/dir" >"$work/out" 2>"$work/err" || status=$?
		[ "$status" -eq 1 ] || fail "doctor as nobody: status $status instead of 1"
		grep -q '^userfaultfd  *missing  */dev/userfaultfd: Permission denied' "$work/out" ||
			fail "doctor as nobody: the device is not missing"
		grep -q 'mend: sudo .*chgrp faultline /dev/userfaultfd' "$work/out" ||
			fail "doctor as nobody: nothing mends it"
		grep -q '^move pages  *untried ' "$work/out" ||
			fail "doctor as nobody: features were tried"
	fi
fi
