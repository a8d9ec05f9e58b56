#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Every kind of memory that a program may map (mappings.c), paged and not yet
# paged: results as natively, and after each call what is mapped is what is
# managed, or is not managed for a reason.  The same while paging begins in the
# midst of several threads' calls (arming.c).
. "${FL_SRC:-.}/tests/functions.sh"

mappings=$FL_BUILD/tests/live/mappings
bare_environment
use_swap

status=0
"$mappings" 24 >"$work/native" 2>&1 || status=$?
[ "$status" -eq 0 ] || fail "native status $status: $(cat "$work/native")"
[ "$(wc -l <"$work/native")" -ge 30 ] || fail "shows next to nothing"

for options in '--limit 12M' '--limit 12M --wp sync' '--limit 12M --wp off --pagers 3' '--limit 4G'; do
	# shellcheck disable=SC2086
	"$faultline" run $options --verify=1 --stats="$work/stats" -- "$mappings" 24 >"$work/paged" 2>&1 ||
		status=$?
	[ "$status" -eq 0 ] || fail "$options: status $status: $(tail -n 5 "$work/paged")"
	diff "$work/native" "$work/paged" || fail "$options: differs from native (<)"
	case $options in
	*12M*) grep -q '^  pages evicted  *[1-9]' "$work/stats" || fail "$options: was not paged" ;;
	*) grep -q 'memory never got tight' "$work/stats" || fail "$options: was paged" ;;
	esac
	rm "$work/stats"
done

for limit in 12M 4G; do
	"$faultline" run --limit "$limit" --verify --stats="$work/stats" -- "$FL_BUILD/tests/live/arming" 4 24 \
		>"$work/out" 2>&1 || fail "arming, $limit: $(tail -n 5 "$work/out")"
	[ "$(cat "$work/out")" = 'all there' ] || fail "arming, $limit: $(cat "$work/out")"
	case $limit in
	12M) grep -q '^  pages evicted  *[1-9]' "$work/stats" || fail "arming, $limit: was not paged" ;;
	*) grep -q 'memory never got tight' "$work/stats" || fail "arming, $limit: was paged" ;;
	esac
	rm "$work/stats"
done
