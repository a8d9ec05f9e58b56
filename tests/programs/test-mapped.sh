#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Programs that map files privately, whose mappings are managed: a sort of a file
# of four times the limit within its mapping, and a search; FL_MAPPED_MIB (default
# 32) is the file's size.
. "${FL_SRC:-.}/tests/programs/paged.sh"

mib=${FL_MAPPED_MIB:-32}
mapped=$FL_BUILD/tests/programs/mapped
"$mapped" make "$dir/records" "$mib"

FAULTLINE_FILES=$dir/rec*
export FAULTLINE_FILES
limit=$((mib * 256))

# file_was_managed NAME: and no mapping of it was left to the kernel
file_was_managed() {
	[ "$(stat "$1" 'faults in files, no read')" -gt 0 ] || fail "$1: no page of a file was given"
	[ "$(stat "$1" 'mappings of files, managed')" -gt 0 ] || fail "$1: no mapping was managed"
	! grep -q 'not managed' "$dir/$1.stats" || fail "$1: $(grep 'not managed' "$dir/$1.stats")"
	is=$(peak "$1" paged)
	[ "$is" -lt $((limit + 8192)) ] || fail "$1: held $is KiB with a limit of $limit KiB"
}

native sort "$mapped" sort "$dir/records"
managed sort "$mapped" sort "$dir/records"
same sort
grep -q '^sorted ' "$dir/sort.paged.out" || fail "sort: nothing was sorted"
file_was_managed sort
was_paged sort

native find "$mapped" find "$dir/records" w000
managed find "$mapped" find "$dir/records" w000
same find
[ "$(wc -l <"$dir/find.paged.out")" -ge 33 ] || fail "find: found next to nothing"
file_was_managed find
