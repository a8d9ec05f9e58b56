#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# While one thread pages alone, it and the pager share a CPU (lib/near.h).  The
# program (affinity.c) never sees it: not in its own affinity, not in that of
# what it starts, and what it chooses for itself stays.  Another thread, looking
# through /proc, does see it, unless --near=no.
. "${FL_SRC:-.}/tests/functions.sh"

affinity=$FL_BUILD/tests/live/affinity
bare_environment
use_swap

# paged NEAR: the same output as natively; $bound: how often the binding was seen
paged() {
	"$faultline" run --limit 8M --near="$1" -- "$affinity" 32 "$work/bound" >"$work/paged" 2>&1 ||
		fail "--near=$1: $(cat "$work/paged")"
	diff "$work/native" "$work/paged" || fail "--near=$1: differs from native (<)"
	bound=$(sed -n 's/^bound //p' "$work/bound")
}

[ "$(nproc)" -ge 2 ] || fail "this test needs two CPUs"
"$affinity" 32 >"$work/native" || fail "native: $(cat "$work/native")"
paged no
[ "$bound" -eq 0 ] || fail "--near=no: bound $bound times"
paged yes
# On a busy machine a binding is given up at once: try again before calling it missing.
tries=0
while [ "$bound" -eq 0 ] && [ "$tries" -lt 10 ]; do
	paged yes
	tries=$((tries + 1))
done
[ "$bound" -gt 0 ] || fail "--near=yes: the thread was never bound"
if "$faultline" run --near=perhaps -- true 2>"$work/error"; then
	fail "--near=perhaps was taken"
fi
grep -q "perhaps" "$work/error" || fail "--near=perhaps: $(cat "$work/error")"
