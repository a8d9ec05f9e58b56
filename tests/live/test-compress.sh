#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Some of the tests that page, with a small pool of compressed pages between
# memory and their swap.  `make check-compress` does the same with all of them.
. "${FL_SRC:-.}/tests/functions.sh"

# compressed HOW COMMAND...
compressed() {
	how=$1
	shift
	FL_COMPRESS=$how FAULTLINE_COMPRESS=$how "$@" >"$work/out" 2>&1 || fail "$how: $*: status $?"
	grep -v '^ok\|^1\.\.\|^\[' "$work/out" || true
}

compressed lz4,512K "$FL_BUILD/tests/live/test-live-swap"
compressed zstd,512K "$FL_BUILD/tests/live/test-live-prefetch"
compressed lz4,512K "$FL_BUILD/tests/live/test-live-scan"
compressed zstd,512K sh "$FL_SRC/tests/programs/test-stress-ng.sh"
compressed lz4 "$FL_BUILD/tests/torture/torture-files" --seconds 1 --seed 5 --compress lz4
