#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Some of the tests that page, with their swap on a store: its areas, and again
# through its mount (io=fuse).  `make check-io` does the same with all of them.
. "${FL_SRC:-.}/tests/functions.sh"

# through IO COMMAND: what went through the mount is $written, in bytes
through() {
	sh "$FL_SRC/tests/store/with-store.sh" "$1" sh -euc "$2" >"$work/out" 2>&1 || {
		cat "$work/out"
		echo "faultline: failed with the store's io=$1"
		exit 1
	}
	grep -v '^ok\|^1\.\.\|^\[' "$work/out"
	written=$(sed -n 's/^written_bytes: //p' "$work/out")
}

# shellcheck disable=SC2016
torture='
	"$FL_BUILD/tests/torture/torture" --seconds 2 --seed 5
	[ ! -e "$FL_BUILD/src/preload/.libs/libfaultline-preload.so" ] ||
		"$FL_BUILD/src/cli/faultline" run --limit 2M -- \
			"$FL_BUILD/tests/torture/torture-fork" --seconds 2 --seed 5
'
# shellcheck disable=SC2016
more='
	"$FL_BUILD/tests/torture/torture" --seconds 2 --seed 6 --engine sync --pagers 2
	"$FL_BUILD/tests/torture/torture-files" --seconds 2 --seed 5
	"$FL_BUILD/tests/live/test-live-faults" || exit 1
'
through direct "$torture"
[ "$written" -eq 0 ] || { echo "$written bytes went through the mount"; exit 1; }
through fuse "$torture$more"
[ "$written" -gt 100000000 ] || { echo "only $written bytes went through the mount"; exit 1; }
