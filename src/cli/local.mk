# SPDX-License-Identifier: LGPL-2.1-or-later

bin_PROGRAMS += src/cli/faultline
src_cli_faultline_CPPFLAGS = $(AM_CPPFLAGS) -DFL_LIBDIR='"$(libdir)"' $(store_cppflags) $(NCURSES_CFLAGS)
src_cli_faultline_LDADD = src/store/libfaultline-store.la lib/libfaultline-core.la $(NCURSES_LIBS)
src_cli_faultline_SOURCES = \
	src/cli/cli.h \
	src/cli/control.c \
	src/cli/doctor.c src/cli/doctor.h \
	src/cli/doctor-uffd.c \
	src/cli/image-read.c src/cli/image-read.h \
	src/cli/main.c \
	src/cli/map.c \
	src/cli/mkswap.c \
	src/cli/processes.c src/cli/processes.h \
	src/cli/run.c \
	src/cli/snapshot.c \
	src/cli/store.c \
	src/cli/top.c
if STORE_SERVER
src_cli_faultline_SOURCES += src/cli/mount.c
else
src_cli_faultline_SOURCES += src/cli/no-mount.c
endif
