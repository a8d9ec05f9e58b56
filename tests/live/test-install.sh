#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What 'make install' puts where, and that README.md's program, built against
# that with pkg-config, works.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

make --no-print-directory -C "$FL_BUILD" install DESTDIR="$root" >"$work/log" 2>&1 || {
	cat "$work/log"
	exit 1
}
prefix=$root$(sed -n 's/^prefix = //p' "$FL_BUILD/Makefile")

for file in bin/faultline include/faultline.h lib/libfaultline.so lib/pkgconfig/faultline.pc \
	lib/udev/rules.d/60-faultline.rules share/man/man1/faultline.1 share/man/man3/fl_open.3 \
	share/man/man7/faultline.7; do
	[ -e "$prefix/$file" ] || {
		echo "not installed: $file"
		find "$root" -type f
		exit 1
	}
done
if [ "$(uname -m)" = x86_64 ] && [ ! -e "$prefix/lib/libfaultline-preload.so" ]; then
	echo "not installed: lib/libfaultline-preload.so"
	exit 1
fi
if find "$root" -name '*test*' -o -name '*measure*' | grep .; then
	echo "installed, and should not be"
	exit 1
fi

sed -n '/^## In a C program/,/^Built with/s/^    //p' "$FL_SRC/README.md" >"$work/prog.c"
grep -q fl_mmap "$work/prog.c" || {
	echo "README.md has no program"
	exit 1
}
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
# shellcheck disable=SC2046
$FL_CC -Wall -Werror -o "$work/prog" "$work/prog.c" $FL_CFLAGS $(pkg-config --cflags --libs faultline)
LD_LIBRARY_PATH=$prefix/lib "$work/prog" >"$work/out" 2>"$work/err" || {
	echo "README.md's program: status $?"
	cat "$work/out" "$work/err"
	exit 1
}
[ "$(cat "$work/out")" = 12345678 ] || {
	echo "README.md's program printed $(cat "$work/out") instead of 12345678"
	exit 1
}
