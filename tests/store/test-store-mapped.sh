#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A program's private mappings of the store's files are managed without being
# named: a sort and a search, through the mount and paged to the store, say what
# they say of the file itself.
. "${FL_SRC:-.}/tests/functions.sh"

mapped=$FL_BUILD/tests/programs/mapped
mkdir "$work/mnt"
bare_environment

"$faultline" store init "$work/store"
"$faultline" mkswap --size 64M "$work/store/swap/disk0"
"$faultline" mount "$work/store" "$work/mnt"
"$mapped" make "$work/mnt/files/records" 16

# compare COMMAND [WORD]: of the file itself, and of the one on the mount
compare() {
	command=$1
	shift
	"$mapped" "$command" "$work/store/files/records" "$@" >"$work/native"
	"$faultline" run --limit 4M --store "$work/mnt" --verify --stats="$work/stats" -- \
		"$mapped" "$command" "$work/mnt/files/records" "$@" >"$work/paged"
	cmp "$work/native" "$work/paged"
	grep -q '^  mappings of files, managed  *[1-9]' "$work/stats"
	grep -q '^  differences found  *0$' "$work/stats"
	grep -q '^  read from files  *[1-9]' "$work/stats"
	if grep 'not managed' "$work/stats"; then
		exit 1
	fi
	rm "$work/stats"
}
compare sort
compare find w000
"$faultline" umount "$work/mnt"
