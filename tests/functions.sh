# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# functions.sh - what shell tests share.  Sourced after a test's opening comment:
# $faultline is the program that was built, $work a directory of the test's own, which
# is removed whatever happens.  Standard output and error of what is run are in
# $work/out and $work/err; where a test fails they are shown.

set -eu

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
trap finish EXIT
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
