#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# python3's multiprocessing, forked and spawned, on a list of FL_WORKERS_MIB
# (default 16).
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs python3
limit=8192
paged_family multiprocessing 15 "$(python3_itself)" "$FL_SRC/tests/programs/workers.py" \
	"${FL_WORKERS_MIB:-16}"
[ "$(cat "$dir/multiprocessing.native.status")" -eq 3 ] ||
	fail "multiprocessing: the script did not reach its end"
