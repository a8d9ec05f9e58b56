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
# As configure was told; each may name those before it.
for var in prefix exec_prefix bindir includedir libdir datarootdir datadir pkgdatadir \
	mandir udevrulesdir systemdunitdir; do
	eval "$var=$(sed -n "s/^$var = //p" "$FL_BUILD/Makefile" | tr '()' '{}')"
done

# shellcheck disable=SC2154
for file in $bindir/faultline $includedir/faultline.h $libdir/libfaultline.so \
	$libdir/pkgconfig/faultline.pc $udevrulesdir/60-faultline.rules \
	$pkgdatadir/faultline-gdb.py \
	$mandir/man1/faultline.1 $mandir/man3/fl_open.3 $mandir/man7/faultline.7 \
	$mandir/man7/faultline-store.7 $systemdunitdir/faultline-store@.service; do
	[ -e "$root$file" ] || {
		echo "not installed: $file"
		find "$root" -type f
		exit 1
	}
done
if [ "$(uname -m)" = x86_64 ] && [ ! -e "$root$libdir/libfaultline-preload.so" ]; then
	echo "not installed: $libdir/libfaultline-preload.so"
	exit 1
fi
# What programs load is the name that is inside the library.
soname=$(objdump -p "$root$libdir/libfaultline.so" | awk '$1 == "SONAME" { print $2 }')
case $soname in
libfaultline.so.[0-9]*) ;;
*)
	echo "libfaultline.so is called '$soname' inside"
	exit 1
	;;
esac
if [ ! -L "$root$libdir/$soname" ] || [ ! -e "$root$libdir/$soname" ]; then
	echo "no link $libdir/$soname to the library"
	exit 1
fi
if find "$root" -name '*test*' -o -name '*measure*' | grep .; then
	echo "installed, and should not be"
	exit 1
fi

sed -n '/^## In a C program/,/^Build it with/s/^    //p' "$FL_SRC/README.md" >"$work/prog.c"
grep -q fl_mmap "$work/prog.c" || {
	echo "README.md has no program"
	exit 1
}
export PKG_CONFIG_PATH="$root$libdir/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
# shellcheck disable=SC2046,SC2086
$FL_CC -Wall -Werror -o "$work/prog" "$work/prog.c" $FL_CFLAGS $(pkg-config --cflags --libs faultline)
LD_LIBRARY_PATH=$root$libdir "$work/prog" >"$work/out" 2>"$work/err" || {
	echo "README.md's program: status $?"
	cat "$work/out" "$work/err"
	exit 1
}
[ "$(cat "$work/out")" = 12345678 ] || {
	echo "README.md's program printed $(cat "$work/out") instead of 12345678"
	exit 1
}
