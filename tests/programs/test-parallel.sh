#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# xargs -P and GNU parallel with many jobs of awk, FL_PARALLEL_ROWS (default
# 40000) rows each.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs parallel xargs awk
HOME=$dir
export HOME
limit=5120
paged_family parallel 20 sh "$FL_SRC/tests/programs/work-parallel.sh" "${FL_PARALLEL_ROWS:-40000}" \
	"$FL_SRC/tests/programs/job-awk.sh" "$dir"
