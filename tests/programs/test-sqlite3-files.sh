#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# sqlite3 processes that share one database file of FL_SQLITE3_ROWS (default
# 12000) rows for each of four writers.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs sqlite3 md5sum
limit=3072
paged_family sqlite3-files 2 sh "$FL_SRC/tests/programs/work-sqlite3.sh" \
	"${FL_SQLITE3_ROWS:-12000}" "$dir"
[ "$(grep -cx ok "$dir/sqlite3-files.native.out")" -eq 2 ] ||
	fail "sqlite3: the integrity check did not say ok"
if grep -q torn "$dir/sqlite3-files.native.out"; then
	fail "sqlite3: a reader saw half a transaction"
fi
