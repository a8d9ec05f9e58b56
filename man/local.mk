# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A page that serves a family of functions is reached under each name by a
# one-line page with .so.  tests/unit/test-docs.sh keeps this list, the header
# and the pages together.

dist_man_MANS = \
	man/faultline.1 \
	man/faultline-doctor.1 \
	man/faultline-map.1 \
	man/faultline-limit.1 \
	man/faultline-mkswap.1 \
	man/faultline-mount.1 \
	man/faultline-run.1 \
	man/faultline-snapshot.1 \
	man/faultline-store.1 \
	man/faultline-top.1 \
	man/faultline-swapoff.1 \
	man/faultline-swapon.1 \
	man/faultline-umount.1 \
	man/fl_backing_close.3 \
	man/fl_backing_file.3 \
	man/fl_backing_open.3 \
	man/fl_close.3 \
	man/fl_ftruncate.3 \
	man/fl_madvise.3 \
	man/fl_mlock.3 \
	man/fl_mlock2.3 \
	man/fl_mmap.3 \
	man/fl_mmap_backing.3 \
	man/fl_mprotect.3 \
	man/fl_mremap.3 \
	man/fl_remap_file_pages.3 \
	man/fl_msync.3 \
	man/fl_munlock.3 \
	man/fl_munmap.3 \
	man/fl_open.3 \
	man/fl_page_state.3 \
	man/fl_prefetch.3 \
	man/fl_region_set.3 \
	man/fl_register.3 \
	man/fl_set_limit.3 \
	man/fl_snapshot.3 \
	man/fl_snapshot_wait.3 \
	man/fl_stats.3 \
	man/fl_swapoff.3 \
	man/fl_swapon.3 \
	man/fl_sync.3 \
	man/fl_try.3 \
	man/fl_unregister.3 \
	man/fl_verify.3 \
	man/faultline-store.7 \
	man/faultline.7
