#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What mmap(2) says of mappings of files, as test-mmap-conform expects it of the
# kernel, of a store's files, whose shared mappings its server pages: through the API, of an
# unmodified program, and of a program that faultline is not loaded into.
. "${FL_SRC:-.}/tests/functions.sh"
bare_environment

mkdir "$work/mnt"
"$faultline" store init "$work/store"
"$faultline" mkswap --size 256M "$work/store/swap/disk0"
"$faultline" mount -o cache=4M "$work/store" "$work/mnt"

# conform LEAST WHICH NOT COMMAND...: so many cases at the least, with their files on the mount
conform() {
	least=$1 which=$2 not=$3
	shift 3
	TMPDIR=$work/mnt/files CMOCKA_MESSAGE_OUTPUT=TAP "$@" \
		"$FL_BUILD/tests/live/test-mmap-conform" "$which" "$not" >"$work/out" 2>"$work/err" || {
		cat "$work/out" "$work/err"
		fail "$which of $*: status $?"
	}
	passed=$(grep -c "^ok .*$which" "$work/out") || true
	[ "$passed" -ge "$least" ] || fail "$which of $*: only $passed cases ran"
}

conform 35 'paged: *' none env FL_STORE="$work/mnt"
conform 3 'stored: *' none env FL_STORE="$work/mnt"
conform 40 'native: *' none \
	"$faultline" run --limit 4M --store "$work/mnt" --verify=7 --stats="$work/stats" --
awk '/differences found/ && $NF != 0 { exit 1 } /pages evicted/ { n += $NF } END { exit n == 0 }' \
	"$work/stats" || fail "$(cat "$work/stats")"
# Without faultline the kernel maps them. Of a FUSE file it keeps what was stored behind the end
# of the last page when the file grows, which its own file systems clear.
conform 39 'native: *' 'native: behind_the_end_are_zeros' env
[ "$(ls "$work/mnt/files")" = "" ] || fail "files are left"
"$faultline" umount "$work/mnt"
"$faultline" store check "$work/store"
