# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The library that LD_PRELOAD brings into an unmodified program.  It exports
# nothing, is initialised before every other library, and needs none but the C
# library, lest the program get another liburing than its own: the runtime's
# objects are linked into it, and liburing and the compressors from their archives.
# Each program that starts pays for it: so it has two segments rather than four,
# no code of the compiler's own at start and end, and what the archives would
# like to have, and nobody defines, is not looked for.

codec_archives =
if LZ4
codec_archives += -Wl,-l:liblz4.a
endif
if ZSTD
codec_archives += -Wl,-l:libzstd.a
endif

if INTERCEPT
lib_LTLIBRARIES += src/preload/libfaultline-preload.la
src_preload_libfaultline_preload_la_LIBADD = $(lib_libfaultline_core_la_OBJECTS)
src_preload_libfaultline_preload_la_DEPENDENCIES = $(lib_libfaultline_core_la_OBJECTS)
src_preload_libfaultline_preload_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared \
	-XCClinker -nostartfiles -Wl,-z,initfirst -Wl,-z,noseparate-code \
	-Wl,-z,nodynamic-undefined-weak -Wl,--exclude-libs,ALL -Wl,-l:liburing.a \
	$(codec_archives)
src_preload_libfaultline_preload_la_SOURCES = \
	src/preload/entry.S \
	src/preload/entry-init.c \
	src/preload/entry.h \
	src/preload/entry-offsets.h \
	src/preload/filter.c \
	src/preload/filter.h \
	src/preload/hook.c \
	src/preload/hook.h \
	src/preload/patch.c \
	src/preload/patch.h \
	src/preload/preload.c \
	src/preload/report.c \
	src/preload/report.h \
	src/preload/signals.c \
	src/preload/signals.h \
	src/preload/signals-entry.S
endif
