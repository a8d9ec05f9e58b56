# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The runtime: everything is in the convenience library, which the tests and
# the preload library link; libfaultline.so shows the public functions only.

noinst_LTLIBRARIES += lib/libfaultline-core.la
lib_libfaultline_core_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS) $(LIBXXHASH_CFLAGS) \
	$(LIBLZ4_CFLAGS) $(LIBZSTD_CFLAGS)
lib_libfaultline_core_la_LIBADD = $(LIBURING_LIBS) $(LIBXXHASH_LIBS) $(LIBLZ4_LIBS) $(LIBZSTD_LIBS)
# First, and so next to each other in memory, what each process of `faultline run`
# needs at its start and in its calls: it is mapped 64 KiB a page fault.
lib_libfaultline_core_la_SOURCES = \
	lib/sys.c lib/sys.h \
	lib/lock.c lib/lock.h \
	lib/pool.c lib/pool.h \
	lib/region.c lib/region.h \
	lib/mmap.c lib/mmap.h \
	lib/do-mmap.c \
	lib/open.c lib/open.h \
	lib/options.c lib/options.h \
	lib/log.c lib/log.h \
	lib/readahead.c lib/readahead.h \
	lib/fill.c lib/fill.h \
	lib/near.c lib/near.h \
	lib/snapshot.c lib/snapshot.h \
	lib/blkio-engine.h \
	lib/blkio-sync.c \
	lib/blkio-uring.c \
	lib/blkio.c lib/blkio.h \
	lib/choose.c lib/choose.h \
	lib/codec.c lib/codec.h \
	lib/detour.c lib/detour.h \
	lib/do-file.c \
	lib/unshare.c \
	lib/do-madvise.c \
	lib/do.h \
	lib/event.c lib/event.h \
	lib/fault-compressed.c \
	lib/fault-file.c \
	lib/fault-swap.c \
	lib/fault-wp.c \
	lib/fault.c lib/fault.h \
	lib/fork.c lib/fork.h \
	lib/grant.c lib/grant.h \
	lib/group.c lib/group.h \
	lib/hold.c lib/hold.h \
	lib/hop.c lib/hop.h \
	lib/image.h \
	lib/landing.c lib/landing.h \
	lib/in-thread.c lib/in-thread.h \
	lib/mm.h \
	lib/pagecache.c lib/pagecache.h \
	lib/peer.c lib/peer.h \
	lib/filedata.c lib/filedata.h \
	lib/share.c lib/share.h \
	lib/pager.c lib/pager.h \
	lib/port.c lib/port.h \
	lib/prefetch.c lib/prefetch.h \
	lib/proc.c lib/proc.h \
	lib/pte.c lib/pte.h \
	lib/publish.c lib/publish.h \
	lib/reclaim.c lib/reclaim.h \
	lib/snapshot-port.c \
	lib/snapshot-protect.c \
	lib/snapshot-save.c \
	lib/snapshot-work.h \
	lib/source.c lib/source.h \
	lib/staging.c lib/staging.h \
	lib/store-client.c lib/store-client.h \
	lib/store-wire.c lib/store-wire.h \
	lib/swap-area.c lib/swap-area.h \
	lib/swap-off.c \
	lib/swap-slot.c lib/swap-slot.h \
	lib/tier.c lib/tier.h \
	lib/traits.c lib/traits.h \
	lib/truncate.c lib/truncate.h \
	lib/uffd-abi.h \
	lib/uffd.c lib/uffd.h \
	lib/verify.c lib/verify.h \
	lib/workingset.c lib/workingset.h \
	lib/writeback.c \
	lib/zpool.c lib/zpool.h
# last: its 2 MiB of zeros would lie between variables that each process touches
lib_libfaultline_core_la_SOURCES += lib/fault-anon.c

lib_LTLIBRARIES += lib/libfaultline.la
lib_libfaultline_la_SOURCES = lib/api.c lib/api.h lib/api-files.c lib/at-exit.c lib/backing.c
lib_libfaultline_la_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS) $(LIBXXHASH_CFLAGS)
lib_libfaultline_la_LIBADD = lib/libfaultline-core.la
lib_libfaultline_la_LDFLAGS = $(AM_LDFLAGS) -version-info $(FL_LT_VERSION) \
	-Wl,--version-script=$(srcdir)/lib/libfaultline.map
EXTRA_lib_libfaultline_la_DEPENDENCIES = lib/libfaultline.map
EXTRA_DIST += lib/libfaultline.map

pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = lib/faultline.pc
