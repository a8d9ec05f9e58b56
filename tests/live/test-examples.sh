#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The examples run, and show what they say: each ends with 0 when it is so.
set -eu

work=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-examples.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=0

run() {
	name=$1
	shift
	if ! timeout -k 5 120 "$FL_BUILD/examples/$name" "$@" >"$work/out" 2>&1; then
		echo "examples/$name $* failed:"
		cat "$work/out"
		failed=1
	fi
}

for source in "$FL_SRC"/examples/*.c; do
	name=$(basename "$source" .c)
	if [ "$name" = poison-handler ]; then
		fallocate -l 64M "$work/area"
		"$FL_BUILD/src/cli/faultline" mkswap "$work/area"
		run "$name" "$work/area"
	else
		run "$name"
	fi
done
exit $failed
