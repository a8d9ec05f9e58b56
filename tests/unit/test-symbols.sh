#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# libfaultline.so shows what include/faultline.h declares: not one symbol more
# or less, each under the version node of the release that brought it.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the preprocessor leaves of the header are declarations, one function each.
$FL_CC -E -P "$FL_SRC/include/faultline.h" | tr '\n' ' ' | tr ';' '\n' |
	sed -n 's/.*[ *]\(fl_[a-z0-9_]*\)(.*/\1/p' | sort -u >"$work/declared"
[ -s "$work/declared" ] || {
	echo "no function found in faultline.h"
	exit 1
}

${NM:-nm} -D --defined-only "$FL_BUILD/lib/.libs/libfaultline.so" |
	awk '$2 != "A" { print $3 }' >"$work/symbols"
sed 's/@.*//' "$work/symbols" | sort >"$work/exported"

diff -u "$work/declared" "$work/exported" || {
	echo "- declared in faultline.h, + exported by libfaultline.so"
	exit 1
}
if grep -v '@@FAULTLINE_[0-9.]*$' "$work/symbols"; then
	echo "exported without a version"
	exit 1
fi
