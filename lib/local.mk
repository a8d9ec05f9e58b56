# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The runtime: everything is in the convenience library, which the tests and
# the preload library link; libfaultline.so shows the public functions only.

noinst_LTLIBRARIES += lib/libfaultline-core.la
lib_libfaultline_core_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS) $(LIBXXHASH_CFLAGS)
lib_libfaultline_core_la_LIBADD = $(LIBURING_LIBS) $(LIBXXHASH_LIBS)
lib_libfaultline_core_la_SOURCES = \
	lib/blkio.c lib/blkio.h lib/blkio-engine.h \
	lib/blkio-sync.c \
	lib/blkio-uring.c \
	lib/lock.c lib/lock.h \
	lib/log.c lib/log.h \
	lib/mmap.h \
	lib/open.h \
	lib/options.c lib/options.h \
	lib/pool.c lib/pool.h \
	lib/swap-area.c lib/swap-area.h \
	lib/swap-slot.c lib/swap-slot.h \
	lib/sys.c lib/sys.h \
	lib/uffd-abi.h

lib_LTLIBRARIES += lib/libfaultline.la
lib_libfaultline_la_SOURCES =
lib_libfaultline_la_LIBADD = lib/libfaultline-core.la
lib_libfaultline_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(FL_LT_VERSION) \
	-Wl,--version-script=$(srcdir)/lib/libfaultline.map
EXTRA_lib_libfaultline_la_DEPENDENCIES = lib/libfaultline.map
EXTRA_DIST += lib/libfaultline.map

pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = lib/faultline.pc
