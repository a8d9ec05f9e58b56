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

said() {
	grep -q "$1" "$work/out" || {
		echo "examples/$name did not say $1, but:"
		cat "$work/out"
		failed=1
	}
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
	elif [ "$name" = kv-store ]; then
		run "$name"
		run "$name" "$work/kv" put one 1
		run "$name" "$work/kv" put two 2
		run "$name" "$work/kv" get one
		said '^1$'
		# it is not in the journal, whose pages are touched when the store is opened
		run "$name" "$work/kv" stalls one
		said '^one would wait for the disk$'
		said '^1$'
		run "$name" "$work/kv" control one
		said '^told to leave: 1 is, that of one$'
		run "$name" "$work/kv" errors one
		said 'repaired 1, one is whole$'
		said 'lost 1, one is (nothing)$'
		run "$name" "$work/kv" get two
		said '^2$'
	else
		run "$name"
	fi
done
exit $failed
