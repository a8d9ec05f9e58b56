#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The examples run, and show what they say: each ends with 0 when it is so.
. "${FL_SRC:-.}/tests/functions.sh"
failed=0

run() {
	name=$1
	shift
	if ! timeout -k 5 300 "$FL_BUILD/examples/$name" "$@" >"$work/out" 2>&1; then
		echo "examples/$name $* failed:"
		cat "$work/out"
		failed=1
	fi
}

for source in "$FL_SRC"/examples/*.c; do
	name=$(basename "$source" .c)
	if [ "$name" = poison-handler ]; then
		fallocate -l 64M "$work/area"
		"$faultline" mkswap "$work/area"
		run "$name" "$work/area"
	elif [ "$name" = store ]; then
		"$faultline" store init "$work/store"
		"$faultline" mkswap --size 64M "$work/store/swap/area"
		mkdir "$work/mnt"
		# shellcheck disable=SC2086
		"$faultline" mount $sandbox "$work/store" "$work/mnt"
		run "$name" "$work/mnt" area
		grep -q '^used: [1-9]' "$work/out" || failed=1
		"$faultline" umount "$work/mnt"
	else
		run "$name"
	fi
done
exit $failed
