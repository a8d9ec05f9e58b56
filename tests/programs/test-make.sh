#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# make -j4 builds a C project with gcc, FL_MAKE_FILES (default 6) made sources;
# the objects, the archive and the program are compared byte for byte.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs make gcc ar python3
limit=12288
mkdir "$dir/project" "$dir/kept"
python3 "$FL_SRC/tests/programs/project.py" "$dir/project" "${FL_MAKE_FILES:-6}" 36

native make make -s -j4 -C "$dir/project" CC=gcc
mv "$dir/project"/*.o "$dir/project/libunits.a" "$dir/project/program" "$dir/kept"
managed make make -s -j4 -C "$dir/project" CC=gcc
same make
[ "$(cat "$dir/make.native.status")" -eq 0 ] || fail "make: $(cat "$dir/make.native.err")"
for file in "$dir/kept"/*; do
	cmp "$file" "$dir/project/${file##*/}" >&2 || fail "make: ${file##*/} differs from native"
done
[ "$("$dir/project/program")" = "$("$dir/kept/program")" ] || fail "make: the program differs"
family_was_paged make "${FL_MAKE_FILES:-6}"
