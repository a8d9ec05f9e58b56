dnl SPDX-License-Identifier: LGPL-2.1-or-later

dnl FL_FLAGS(VARIABLE, FLAG...)
dnl Append to VARIABLE each of the flags, a blank-separated list, that the compiler takes.
AC_DEFUN([FL_FLAGS], [
for fl_flag in m4_normalize([$2]); do
	AC_MSG_CHECKING([whether $CC takes $fl_flag])
	fl_save_CFLAGS=$CFLAGS
	CFLAGS="$CFLAGS -Werror $fl_flag"
	AC_LINK_IFELSE([AC_LANG_PROGRAM()],
		[AC_MSG_RESULT([yes])
		$1="$$1 $fl_flag"],
		[AC_MSG_RESULT([no])])
	CFLAGS=$fl_save_CFLAGS
done
])

dnl FL_REQUIRE(PREFIX, PKG-CONFIG MODULE, LEAST VERSION, WHAT IT IS FOR, DEBIAN PACKAGE)
dnl Find a library; what is missing is told all at once by FL_REQUIRED.
AC_DEFUN([FL_REQUIRE], [
PKG_CHECK_MODULES([$1], [$2 >= $3],
	[fl_have_$1="yes ($2 `$PKG_CONFIG --modversion $2`)"],
	[fl_have_$1="no"
	fl_missing="$fl_missing
  $2 $3 or later, for $4"
	fl_missing_debs="$fl_missing_debs $5"])
])

dnl FL_OPTIONAL(PREFIX, PKG-CONFIG MODULE, LEAST VERSION, DEBIAN PACKAGE)
dnl The same for what can be done without: fl_with_PREFIX is yes or no.
AC_DEFUN([FL_OPTIONAL], [
PKG_CHECK_MODULES([$1], [$2 >= $3],
	[fl_with_$1=yes
	fl_have_$1="yes ($2 `$PKG_CONFIG --modversion $2`)"],
	[fl_with_$1=no
	fl_have_$1="no (no $2; on Debian: apt-get install $4)"])
])

AC_DEFUN([FL_REQUIRED], [
AS_IF([test -n "$fl_missing"], [AC_MSG_ERROR([missing:$fl_missing
On Debian: apt-get install$fl_missing_debs])])
])
