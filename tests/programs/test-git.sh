#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# git imports a made history of FL_GIT_COMMITS (default 50), clones, collects,
# checks, compares and merges it.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs git python3
HOME=$dir GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null LC_ALL=C TZ=UTC
GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
export HOME GIT_CONFIG_NOSYSTEM GIT_CONFIG_GLOBAL LC_ALL TZ GIT_AUTHOR_DATE GIT_COMMITTER_DATE
python3 "$FL_SRC/tests/programs/history.py" "${FL_GIT_COMMITS:-50}" >"$dir/history"

limit=8192
FAULTLINE_FILES=$dir/*
export FAULTLINE_FILES
native git sh "$FL_SRC/tests/programs/work-git.sh" "$dir/history" "$dir"
[ "$(cat "$dir/git.native.status")" -eq 0 ] || fail "git: $(cat "$dir/git.native.err")"
rm -rf "$dir/work"
managed git sh "$FL_SRC/tests/programs/work-git.sh" "$dir/history" "$dir"
same git
family_was_paged git 5
