#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What mmap(2) says of mappings of files, as test-mmap-conform expects it of the
# kernel, of an unmodified program whose files are managed.
. "${FL_SRC:-.}/tests/functions.sh"

bare_environment
use_swap
TMPDIR=$work CMOCKA_MESSAGE_OUTPUT=TAP
export TMPDIR CMOCKA_MESSAGE_OUTPUT

# figure LABEL: of the summaries, which children write, too
figure() {
	awk -v label="$1" '{ sub(/^ +/, "") } index($0, label " ") == 1 { n += $NF } END { print n + 0 }' \
		"$work/stats"
}

for options in '--wp auto' '--wp sync --engine sync' '--wp off --pagers 3'; do
	rm -f "$work/stats"
	status=0
	# shellcheck disable=SC2086
	"$faultline" run --limit 4M --files "$work/*" $options --verify=7 --stats="$work/stats" -- \
		"$FL_BUILD/tests/live/test-mmap-conform" 'native: *' >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 0 ] || fail "$options: status $status"
	passed=$(grep -c '^ok .*native: ' "$work/out") || true
	[ "$passed" -ge 40 ] || fail "$options: only $passed cases ran"
	[ "$(figure 'differences found')" = 0 ] || fail "$options: differences"
	[ "$(figure 'and with one')" -gt 0 ] || fail "$options: no page of a file was read"
	[ "$(figure 'pages evicted')" -gt 100 ] || fail "$options: nothing was evicted"
done
