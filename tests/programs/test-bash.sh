#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# bash with an array of FL_BASH_ELEMENTS (default 25000, some 15 MB), and its
# subshells, pipelines, jobs and traps, 5 MiB for each process.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs bash sort md5sum tac
limit=5120
paged_family bash 20 bash "$FL_SRC/tests/programs/work.bash" "${FL_BASH_ELEMENTS:-25000}" "$dir"
[ "$(cat "$dir/bash.native.status")" -eq 7 ] || fail "bash: the script did not reach its end"
