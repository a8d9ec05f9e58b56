#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What mmap(2) says of mappings of files, as test-mmap-conform expects it of the
# kernel, of a store's files, whose shared mappings its server pages.
. "${FL_SRC:-.}/tests/functions.sh"
bare_environment

mkdir "$work/mnt"
"$faultline" store init "$work/store"
"$faultline" mkswap --size 256M "$work/store/swap/disk0"
"$faultline" mount -o cache=4M "$work/store" "$work/mnt"

# A client does not keep a file open that it has mapped: it may be executed (faultline-store(7)).
FL_STORE=$work/mnt TMPDIR=$work/mnt/files CMOCKA_MESSAGE_OUTPUT=TAP \
	"$FL_BUILD/tests/live/test-mmap-conform" 'paged: *' 'paged: a_file_that_is_mapped_writable_is_busy' \
	>"$work/out" 2>"$work/err" || fail "status $?"
passed=$(grep -c '^ok .*paged: ' "$work/out") || true
[ "$passed" -ge 28 ] || fail "only $passed cases ran"
[ "$(ls "$work/mnt/files")" = "" ] || fail "files are left"
"$faultline" umount "$work/mnt"
"$faultline" store check "$work/store"
