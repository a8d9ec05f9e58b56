#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Programs with habits (habits.c) behave under faultline as they do natively:
# they close all descriptors, become daemons, call the kernel past the C library,
# have no randomised addresses.  An ordinary user is told how to get access to
# the device, and with the group of the udev rule runs what is installed.
. "${FL_SRC:-.}/tests/functions.sh"

habits=$FL_BUILD/tests/live/habits
made= # a directory that was not there
finish() {
	remove_work
	[ -z "$made" ] || rmdir "$made"
}
chmod 755 "$work"
bare_environment
use_swap

# same WHAT COMMAND...: equal output, errors and status both ways
same() {
	what=$1
	shift
	status=0
	"$@" >"$work/native" 2>&1 || status=$?
	[ "$status" -eq 0 ] || fail "$what: native status $status: $(cat "$work/native")"
	rm -f "$work/stats"
	"$faultline" run --limit 8M --stats="$work/stats" -- "$@" >"$work/paged" 2>&1 || status=$?
	[ "$status" -eq 0 ] || fail "$what: status $status: $(cat "$work/paged")"
	diff "$work/native" "$work/paged" || fail "$what: differs from native (<)"
	grep -q '^  pages evicted  *[1-9]' "$work/stats" || fail "$what: was not paged"
}

for habit in closefrom close_range close listed all pipe maps forks daemon locks nothing; do
	same "$habit" "$habits" "$habit" 24
done
same 'close, 30 descriptors' sh -c 'ulimit -n 30; exec "$0" "$@"' "$habits" close 24
same 'setarch -R' setarch -R "$habits" nothing 24
same 'setarch -R, close' setarch -R "$habits" close 24
same 'nohup' sh -c 'nohup "$0" "$@" </dev/null 2>&1' "$habits" nothing 24
same 'setsid' setsid -w "$habits" nothing 24
same 'timeout' timeout 600 "$habits" nothing 24

# Pagers run, and nothing is paged.
"$habits" locks 24 >"$work/native"
"$faultline" run --limit 256M --snapshots --stats="$work/stats" -- "$habits" locks 24 >"$work/paged" 2>&1 ||
	fail "locks, not paged: $(cat "$work/paged")"
diff "$work/native" "$work/paged" || fail "locks, not paged: differs from native (<)"

# Code that cannot be patched: said once.
"$faultline" run --limit 8M -- "$habits" code 24 >"$work/paged" 2>&1 || fail "code: $(cat "$work/paged")"
[ "$(grep -c '^faultline: code that was mapped at 0x[0-9a-f]* cannot be patched' "$work/paged")" -eq 1 ] ||
	fail "code: $(cat "$work/paged")"

# What is locked fits the limit, which nobody has natively.
for options in --limit=8M '--limit=64M --limit-group'; do
	# shellcheck disable=SC2086 # several words
	"$faultline" run $options --stats="$work/stats" -- "$habits" locks-more 96 >"$work/paged" 2>&1 ||
		fail "locks-more, $options: $(cat "$work/paged")"
	grep -q '^  pages evicted  *[1-9]' "$work/stats" || fail "locks-more, $options: was not paged"
done

# A daemon by itself: it is the child that is paged, and it reports for itself.
"$habits" starts 24 >"$work/native"
"$faultline" run --limit 8M --stats="$work/stats" -- "$habits" starts 24 >"$work/paged" 2>&1
diff "$work/native" "$work/paged" || fail "a daemon: differs from native (<)"

# --- an ordinary user ---

user=54320 group=54321

# What is installed, for whoever may not read the build tree.
make --no-print-directory -C "$FL_BUILD" install DESTDIR="$work/root" >"$work/log" 2>&1 || {
	cat "$work/log"
	exit 1
}
prefix=$(sed -n 's/^prefix = //p' "$FL_BUILD/Makefile")
rule=$(find "$work/root" -name 60-faultline.rules)
mode=$(sed -n 's/^KERNEL=="userfaultfd".* MODE="\([0-7]*\)".*/\1/p' "$rule")
[ -n "$mode" ] || fail "the udev rule sets no mode for userfaultfd"
grep -q '^KERNEL=="userfaultfd".* GROUP="faultline"' "$rule" || fail "the udev rule names no group"
cp "$habits" "$work/habits"
mkdir -m 1777 "$work/swap"

# In a mount namespace of its own: the tree that was installed in its place,
# and a device as the rule makes it, with a number for its group.
cat >"$work/inside" <<'END'
set -eu
work=$1 prefix=$2 mode=$3 group=$4
shift 4
mount --bind "$work/root$prefix" "$prefix"
mknod "$work/device" c "0x$(stat -c %t /dev/userfaultfd)" "0x$(stat -c %T /dev/userfaultfd)"
chown "root:$group" "$work/device"
chmod "$mode" "$work/device"
mount --bind "$work/device" /dev/userfaultfd
status=0
"$@" || status=$?
umount /dev/userfaultfd
rm "$work/device"
exit "$status"
END

before=$(stat -c '%a %u %g %t %T' /dev/userfaultfd)
inside() {
	unshare --mount --propagation private sh "$work/inside" "$work" "$prefix" "$mode" "$group" "$@"
}

# a store would be another user's
unset FAULTLINE_STORE
if [ ! -d "$prefix" ]; then
	mkdir -p "$prefix"
	made=$prefix
fi
status=0
inside setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --bounding-set=-all \
	"$prefix/bin/faultline" run --limit 8M -- echo words >"$work/out" 2>"$work/err" || status=$?
[ "$status" -eq 125 ] || fail "a user without access: status $status"
[ ! -s "$work/out" ] || fail "a user without access: the program ran"
[ "$(wc -l <"$work/err")" -eq 1 ] || fail "a user without access: not one line: $(cat "$work/err")"
grep -q "^faultline: no access to /dev/userfaultfd: .*'faultline doctor'" "$work/err" ||
	fail "a user without access: is not told whom to ask: $(cat "$work/err")"
status=0
inside setpriv --reuid "$user" --regid "$user" --clear-groups --inh-caps=-all --bounding-set=-all \
	"$prefix/bin/faultline" doctor --swap-dir "$work/swap" >"$work/out" 2>&1 || status=$?
[ "$status" -eq 1 ] || fail "doctor, a user without access: status $status"
grep -q "mend: .*groupadd .*faultline; usermod -aG faultline " "$work/out" ||
	fail "a user without access: doctor does not tell how to get it: $(cat "$work/out")"

"$work/habits" listed 24 >"$work/native" </dev/null
inside setpriv --reuid "$user" --regid "$user" --groups "$group" --inh-caps=-all --bounding-set=-all \
	"$prefix/bin/faultline" run --limit 8M --swap-dir "$work/swap" --stats="$work/swap/stats" -- \
	"$work/habits" listed 24 >"$work/out" 2>&1 </dev/null ||
	fail "a user with access: status $?: $(cat "$work/out")"
diff "$work/native" "$work/out" || fail "a user with access: differs from native (<)"
grep -q '^  pages evicted  *[1-9]' "$work/swap/stats" || fail "a user with access: was not paged"
[ "$(stat -c %u "$work/swap/stats")" -eq "$user" ] || fail "it was not the user"

[ "$(stat -c '%a %u %g %t %T' /dev/userfaultfd)" = "$before" ] || fail "the device is not as before"
