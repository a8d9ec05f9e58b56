#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The examples run, and show what they say: each ends with 0 when it is so.
set -eu

work=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-examples.XXXXXX")
trap 'finish' EXIT
failed=0

finish() {
	"$FL_BUILD/src/cli/faultline" umount --lazy "$work/mnt" 2>/dev/null || true
	rm -rf "$work"
}

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
		"$FL_BUILD/src/cli/faultline" mkswap "$work/area"
		run "$name" "$work/area"
	elif [ "$name" = store ]; then
		sandbox=
		if grep -q -e __asan_init -e __tsan_init "$FL_BUILD/src/cli/faultline"; then
			sandbox=--no-sandbox
		fi
		"$FL_BUILD/src/cli/faultline" store init "$work/store"
		"$FL_BUILD/src/cli/faultline" mkswap --size 64M "$work/store/swap/area"
		mkdir "$work/mnt"
		# shellcheck disable=SC2086
		"$FL_BUILD/src/cli/faultline" mount $sandbox "$work/store" "$work/mnt"
		run "$name" "$work/mnt" area
		grep -q '^used: [1-9]' "$work/out" || failed=1
		"$FL_BUILD/src/cli/faultline" umount "$work/mnt"
	else
		run "$name"
	fi
done
exit $failed
