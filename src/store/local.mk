# SPDX-License-Identifier: LGPL-2.1-or-later

noinst_LTLIBRARIES += src/store/libfaultline-store.la
store_cppflags = -I$(top_srcdir)/src/store $(LIBFUSE3_CFLAGS) $(LIBSECCOMP_CFLAGS) $(LIBURING_CFLAGS)
src_store_libfaultline_store_la_CPPFLAGS = $(AM_CPPFLAGS) $(store_cppflags)
src_store_libfaultline_store_la_LIBADD = $(LIBFUSE3_LIBS) $(LIBSECCOMP_LIBS) $(LIBURING_LIBS) -lpthread
if STORE_SERVER
src_store_libfaultline_store_la_SOURCES = \
	src/store/area.c \
	src/store/areas.c \
	src/store/aside.c src/store/aside.h \
	src/store/attach.c src/store/attach.h \
	src/store/clients.c src/store/clients.h \
	src/store/confine.c \
	src/store/control.c \
	src/store/dir.c \
	src/store/files.c \
	src/store/io.c \
	src/store/mapped.c src/store/mapped.h \
	src/store/mounts.c \
	src/store/node.c \
	src/store/ops.c \
	src/store/peek.c src/store/peek.h \
	src/store/peek-text.c src/store/peek-text.h \
	src/store/view-proc.c src/store/view-proc.h \
	src/store/server.c src/store/server.h \
	src/store/shared.c src/store/shared.h \
	src/store/store.h \
	src/store/tally.c \
	src/store/view.c
else
src_store_libfaultline_store_la_SOURCES = src/store/area.c src/store/clients.c src/store/clients.h src/store/dir.c src/store/store.h \
	src/store/peek.c src/store/peek.h src/store/peek-text.c src/store/peek-text.h
endif

systemdunitdir = $(prefix)/lib/systemd/system
dist_systemdunit_DATA = dist/faultline-store@.service
EXTRA_DIST += dist/fstab.example
