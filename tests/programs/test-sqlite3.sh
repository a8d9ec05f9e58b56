#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# sqlite3 with a database in memory, and its integrity check.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs sqlite3
paged sqlite3 sqlite3 -bail :memory: ".read $FL_SRC/tests/programs/tables.sql"
tail -n 1 "$dir/sqlite3.paged.out" | grep -qx ok ||
	fail "sqlite3: the integrity check did not say ok"
