# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# functions.sh - what shell tests share.  Sourced after a test's opening comment:
# $faultline is the program that was built, $work a directory of the test's own, which
# is removed whatever happens.  Standard output and error of what is run are in
# $work/out and $work/err; where a test fails they are shown.

set -eu

hang_seconds=300 # as HANG_SECONDS of tests/unit/test.h
faultline=$FL_BUILD/src/cli/faultline
work=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-test.XXXXXX")

# A test that has more to clean up says so in a function of this name, which calls remove_work.
finish() {
	remove_work
}

# A store of the test's own is mounted on $work/mnt.
remove_work() {
	[ ! -d "$work/mnt" ] || "$faultline" umount --lazy "$work/mnt" 2>/dev/null || true
	rm -rf "$work"
}

# left_out WHAT: the rest of a test passes, but it counts as skipped.  scripts/test fails then.
something_left_out=
left_out() {
	echo "faultline: not tested: $*"
	something_left_out=yes
}

# by_root WHAT: whether this can be tried
by_root() {
	[ "$(id -u)" -eq 0 ] && return
	left_out "$*: only root can"
	return 1
}

# has TOOL WHAT: the same of what takes a program
has() {
	! command -v "$1" >/dev/null || return 0
	left_out "$2: there is no $1"
	return 1
}

at_end() {
	status=$?
	trap - EXIT
	finish
	[ "$status" -ne 0 ] || [ -z "$something_left_out" ] || status=77
	exit "$status"
}
trap at_end EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
	echo "$*"
	for said in out err; do
		[ ! -e "$work/$said" ] || sed "s/^/  $said: /" "$work/$said" | tail -n 40
	done
	exit 1
}

# expect STATUS COMMAND...
expect() {
	want=$1
	shift
	status=0
	"$@" >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$want" ] || fail "$*: status $status instead of $want"
}

# until_so COMMAND...: what comes to be in a moment
until_so() {
	end=$(($(date +%s) + hang_seconds))
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || fail "$*: not within $hang_seconds seconds"
		sleep 0.05
	done
}

# one_line TEXT WHAT...: that is all it said
one_line() {
	text=$1
	shift
	[ ! -s "$work/out" ] || fail "$*: standard output is not empty"
	[ "$(wc -l <"$work/err")" -eq 1 ] || fail "$*: not one line"
	grep -q -e "^faultline: .*$text" "$work/err" || fail "$*: does not say '$text'"
}

# Nothing that the caller's environment says about paging is for this test's programs,
bare_environment() {
	for variable in $(env | sed -n 's/^\(FAULTLINE_[A-Z_]*\)=.*/\1/p') LD_PRELOAD; do
		unset "$variable"
	done
}

# but the store that its tests are to use, and how they are to compress.
use_swap() {
	[ -z "${FL_STORE:-}" ] || export FAULTLINE_STORE="$FL_STORE"
	[ -z "${FL_COMPRESS:-}" ] || export FAULTLINE_COMPRESS="$FL_COMPRESS"
}

# An option of 'faultline mount': a sanitizer's own system calls are not on the server's list.
sandbox=
if grep -q -e __asan_init -e __tsan_init "$faultline"; then
	sandbox=--no-sandbox
fi
