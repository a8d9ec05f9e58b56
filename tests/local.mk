# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A C test is a cmocka program with one group of cases; it speaks TAP, so that
# each case is counted.  A shell test (.sh) is one case: 0 passed, anything
# else failed.  Each group of tests has a target of its own: make check-unit.
#
# Every test is ended after TEST_TIMEOUT seconds: a hang is a failure.

TEST_TIMEOUT = 900
TEST_EXTENSIONS = .sh
LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_COMPILER = timeout
AM_LOG_FLAGS = -k 10 $(TEST_TIMEOUT)
SH_LOG_COMPILER = timeout
AM_SH_LOG_FLAGS = -k 10 $(TEST_TIMEOUT) $(SHELL)
# A test that runs make is not to take this one's options and jobs.
AM_TESTS_ENVIRONMENT = \
	unset MAKEFLAGS MFLAGS MAKELEVEL; \
	CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT; \
	FL_SRC='$(abs_top_srcdir)'; export FL_SRC; \
	FL_BUILD='$(abs_top_builddir)'; export FL_BUILD; \
	FL_CC='$(CC)'; export FL_CC; \
	FL_CFLAGS='$(AM_CFLAGS) $(CFLAGS)'; export FL_CFLAGS;

test_cppflags = $(AM_CPPFLAGS) $(CMOCKA_CFLAGS)
test_ldadd = lib/libfaultline-core.la $(CMOCKA_LIBS)

unit_tests =
live_tests =
fault_tests =
fuzz_tests =
program_tests =
torture_tests =
test_programs = # C programs among the tests
test_scripts =  # shell scripts among the tests

# unit

test_programs += tests/unit/test-lock tests/unit/test-pool tests/unit/test-log tests/unit/test-sys
unit_tests += tests/unit/test-lock tests/unit/test-pool tests/unit/test-log tests/unit/test-sys

tests_unit_test_lock_SOURCES = tests/unit/test-lock.c tests/unit/test.h
tests_unit_test_lock_CPPFLAGS = $(test_cppflags)
tests_unit_test_lock_LDADD = $(test_ldadd)

tests_unit_test_pool_SOURCES = tests/unit/test-pool.c tests/unit/test.h
tests_unit_test_pool_CPPFLAGS = $(test_cppflags)
tests_unit_test_pool_LDADD = $(test_ldadd)

tests_unit_test_log_SOURCES = tests/unit/test-log.c tests/unit/test.h
tests_unit_test_log_CPPFLAGS = $(test_cppflags)
tests_unit_test_log_LDADD = $(test_ldadd)

tests_unit_test_sys_SOURCES = tests/unit/test-sys.c tests/unit/test.h
tests_unit_test_sys_CPPFLAGS = $(test_cppflags)
tests_unit_test_sys_LDADD = $(test_ldadd)

test_scripts += tests/unit/test-cli.sh tests/unit/test-symbols.sh tests/unit/test-docs.sh
unit_tests += tests/unit/test-cli.sh tests/unit/test-symbols.sh tests/unit/test-docs.sh

if INTERCEPT
test_programs += tests/unit/test-patch
if !SANITIZED
unit_tests += tests/unit/test-patch
endif
endif

tests_unit_test_patch_SOURCES = tests/unit/test-patch.c tests/unit/test.h \
	src/preload/entry.S src/preload/entry-init.c src/preload/entry.h src/preload/hook.h \
	src/preload/patch.c src/preload/patch.h src/preload/entry-offsets.h \
	src/preload/signals.c src/preload/signals.h src/preload/signals-entry.S
tests_unit_test_patch_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/src/preload
tests_unit_test_patch_LDADD = $(test_ldadd)

test_programs += tests/unit/test-port
unit_tests += tests/unit/test-port

tests_unit_test_port_SOURCES = tests/unit/test-port.c tests/unit/test.h
tests_unit_test_port_CPPFLAGS = $(test_cppflags)
tests_unit_test_port_LDADD = $(test_ldadd)

test_programs += tests/unit/test-group
unit_tests += tests/unit/test-group

tests_unit_test_group_SOURCES = tests/unit/test-group.c tests/unit/test.h
tests_unit_test_group_CPPFLAGS = $(test_cppflags)
tests_unit_test_group_LDADD = $(test_ldadd)

test_programs += tests/unit/test-options
unit_tests += tests/unit/test-options

tests_unit_test_options_SOURCES = tests/unit/test-options.c tests/unit/test.h
tests_unit_test_options_CPPFLAGS = $(test_cppflags)
tests_unit_test_options_LDADD = $(test_ldadd)

test_programs += tests/unit/test-blkio
unit_tests += tests/unit/test-blkio

tests_unit_test_blkio_SOURCES = tests/unit/test-blkio.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_blkio_CPPFLAGS = $(test_cppflags)
tests_unit_test_blkio_LDADD = $(test_ldadd)

test_programs += tests/unit/test-zipf
unit_tests += tests/unit/test-zipf

tests_unit_test_zipf_SOURCES = tests/unit/test-zipf.c tests/unit/test.h tests/bench/zipf.h
tests_unit_test_zipf_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/tests/bench
tests_unit_test_zipf_LDADD = $(test_ldadd) -lm

test_programs += tests/unit/test-swap-slot
unit_tests += tests/unit/test-swap-slot

tests_unit_test_swap_slot_SOURCES = tests/unit/test-swap-slot.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_swap_slot_CPPFLAGS = $(test_cppflags)
tests_unit_test_swap_slot_LDADD = $(test_ldadd)

test_programs += tests/unit/test-swap-area
unit_tests += tests/unit/test-swap-area

tests_unit_test_swap_area_SOURCES = tests/unit/test-swap-area.c tests/unit/test.h
tests_unit_test_swap_area_CPPFLAGS = $(test_cppflags)
tests_unit_test_swap_area_LDADD = $(test_ldadd)

test_programs += tests/unit/test-region tests/unit/test-pte tests/unit/test-fill \
	tests/unit/test-readahead tests/unit/test-uffd tests/unit/test-zpool
unit_tests += tests/unit/test-region tests/unit/test-pte tests/unit/test-fill \
	tests/unit/test-readahead tests/unit/test-uffd tests/unit/test-zpool

tests_unit_test_region_SOURCES = tests/unit/test-region.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_region_CPPFLAGS = $(test_cppflags)
tests_unit_test_region_LDADD = $(test_ldadd) -lpthread

tests_unit_test_pte_SOURCES = tests/unit/test-pte.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_pte_CPPFLAGS = $(test_cppflags)
tests_unit_test_pte_LDADD = $(test_ldadd)

tests_unit_test_fill_SOURCES = tests/unit/test-fill.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_fill_CPPFLAGS = $(test_cppflags)
tests_unit_test_fill_LDADD = $(test_ldadd)

tests_unit_test_readahead_SOURCES = tests/unit/test-readahead.c tests/unit/test.h
tests_unit_test_readahead_CPPFLAGS = $(test_cppflags)
tests_unit_test_readahead_LDADD = $(test_ldadd)

tests_unit_test_zpool_SOURCES = tests/unit/test-zpool.c tests/unit/rnd.h \
	tests/unit/random.h tests/unit/test.h
tests_unit_test_zpool_CPPFLAGS = $(test_cppflags)
tests_unit_test_zpool_LDADD = $(test_ldadd)

test_programs += tests/unit/test-near
unit_tests += tests/unit/test-near

tests_unit_test_near_SOURCES = tests/unit/test-near.c tests/unit/test.h
tests_unit_test_near_CPPFLAGS = $(test_cppflags)
tests_unit_test_near_LDADD = $(test_ldadd)

test_programs += tests/unit/test-workingset
unit_tests += tests/unit/test-workingset

tests_unit_test_workingset_SOURCES = tests/unit/test-workingset.c tests/unit/test.h
tests_unit_test_workingset_CPPFLAGS = $(test_cppflags)
tests_unit_test_workingset_LDADD = $(test_ldadd)

test_programs += tests/unit/test-choose
unit_tests += tests/unit/test-choose

tests_unit_test_choose_SOURCES = tests/unit/test-choose.c tests/unit/test.h
tests_unit_test_choose_CPPFLAGS = $(test_cppflags)
tests_unit_test_choose_LDADD = $(test_ldadd)

tests_unit_test_uffd_SOURCES = tests/unit/test-uffd.c tests/unit/test.h
tests_unit_test_uffd_CPPFLAGS = $(test_cppflags)
tests_unit_test_uffd_LDADD = $(test_ldadd)

# live

live_cppflags = $(test_cppflags) -I$(top_srcdir)/tests/unit
live_ldadd = lib/libfaultline.la $(CMOCKA_LIBS) -lpthread

test_programs += tests/live/test-mmap-conform tests/live/test-live-files
live_tests += tests/live/test-mmap-conform tests/live/test-live-files

tests_live_test_live_files_SOURCES = tests/live/test-live-files.c tests/live/memsource.h \
	tests/live/live.h tests/unit/test.h
tests_live_test_live_files_CPPFLAGS = $(live_cppflags)
tests_live_test_live_files_LDADD = $(live_ldadd)

tests_live_test_run_files_SOURCES = tests/live/test-run-files.c tests/live/subject-checks.h \
	tests/live/subjects.h tests/unit/test.h
tests_live_test_run_files_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/tests/unit
tests_live_test_run_files_LDADD = $(CMOCKA_LIBS) -lpthread

tests_live_test_mmap_conform_SOURCES = tests/live/test-mmap-conform.c tests/live/live.h tests/unit/test.h
tests_live_test_mmap_conform_CPPFLAGS = $(live_cppflags)
tests_live_test_mmap_conform_LDADD = $(live_ldadd)

test_programs += tests/live/test-live-hold tests/live/test-live-prefetch tests/live/test-live-scan \
	tests/live/test-live-traits
live_tests += tests/live/test-live-hold tests/live/test-live-prefetch tests/live/test-live-scan \
	tests/live/test-live-traits

tests_live_test_live_hold_SOURCES = tests/live/test-live-hold.c tests/live/memsource.h \
	tests/live/live.h tests/unit/test.h
tests_live_test_live_hold_CPPFLAGS = $(live_cppflags)
tests_live_test_live_hold_LDADD = $(live_ldadd)

tests_live_test_live_scan_SOURCES = tests/live/test-live-scan.c tests/live/memsource.h \
	tests/live/live.h tests/unit/test.h
tests_live_test_live_scan_CPPFLAGS = $(live_cppflags)
tests_live_test_live_scan_LDADD = $(live_ldadd)

tests_live_test_live_traits_SOURCES = tests/live/test-live-traits.c tests/live/memsource.h \
	tests/live/live.h tests/unit/test.h
tests_live_test_live_traits_CPPFLAGS = $(live_cppflags)
tests_live_test_live_traits_LDADD = $(live_ldadd)

tests_live_test_live_prefetch_SOURCES = tests/live/test-live-prefetch.c tests/live/memsource.h \
	tests/live/live.h tests/unit/test.h
tests_live_test_live_prefetch_CPPFLAGS = $(live_cppflags)
tests_live_test_live_prefetch_LDADD = $(live_ldadd)

test_programs += tests/live/test-near-api
live_tests += tests/live/test-near-api

tests_live_test_near_api_SOURCES = tests/live/test-near-api.c tests/live/live.h tests/unit/test.h
tests_live_test_near_api_CPPFLAGS = $(live_cppflags)
tests_live_test_near_api_LDADD = $(live_ldadd)

test_programs += tests/live/test-live-mmap tests/live/test-live-faults tests/live/test-live-swap
live_tests += tests/live/test-live-mmap tests/live/test-live-faults tests/live/test-live-swap

tests_live_test_live_mmap_SOURCES = tests/live/test-live-mmap.c tests/live/live.h tests/unit/test.h
tests_live_test_live_mmap_CPPFLAGS = $(live_cppflags)
tests_live_test_live_mmap_LDADD = $(live_ldadd)

tests_live_test_live_faults_SOURCES = tests/live/test-live-faults.c tests/live/live.h tests/unit/test.h
tests_live_test_live_faults_CPPFLAGS = $(live_cppflags)
tests_live_test_live_faults_LDADD = $(live_ldadd)

tests_live_test_live_swap_SOURCES = tests/live/test-live-swap.c tests/live/live.h tests/unit/test.h
tests_live_test_live_swap_CPPFLAGS = $(live_cppflags)
tests_live_test_live_swap_LDADD = $(live_ldadd)

# Compressed pages: in builds that have both libraries.
if LZ4
if ZSTD
test_programs += tests/live/test-live-tier tests/fault/test-fault-tier
live_tests += tests/live/test-live-tier
if INTERCEPT
live_tests += tests/live/test-compress.sh
endif
tier_fault_tests = tests/fault/test-fault-tier
endif
endif

test_scripts += tests/live/test-compress.sh

tests_live_test_live_tier_SOURCES = tests/live/test-live-tier.c tests/live/live.h tests/unit/test.h
tests_live_test_live_tier_CPPFLAGS = $(live_cppflags)
tests_live_test_live_tier_LDADD = $(live_ldadd)

test_programs += tests/live/test-in-thread
live_tests += tests/live/test-in-thread

tests_live_test_in_thread_SOURCES = tests/live/test-in-thread.c tests/live/live.h tests/unit/test.h
tests_live_test_in_thread_CPPFLAGS = $(live_cppflags)
tests_live_test_in_thread_LDADD = $(live_ldadd)

test_programs += tests/live/test-snapshot
live_tests += tests/live/test-snapshot

tests_live_test_snapshot_SOURCES = tests/live/test-snapshot.c tests/live/live.h tests/unit/test.h \
	src/cli/image-read.c src/cli/image-read.h
tests_live_test_snapshot_CPPFLAGS = $(live_cppflags) -I$(top_srcdir)/src/cli $(LIBXXHASH_CFLAGS)
tests_live_test_snapshot_LDADD = $(live_ldadd)

test_programs += tests/live/test-absent
live_tests += tests/live/test-absent

tests_live_test_absent_SOURCES = tests/live/test-absent.c tests/live/live.h tests/unit/test.h
tests_live_test_absent_CPPFLAGS = $(live_cppflags) $(LIBURING_CFLAGS)
tests_live_test_absent_LDADD = $(live_ldadd) $(LIBURING_LIBS)

test_programs += tests/live/test-verify
live_tests += tests/live/test-verify

tests_live_test_verify_SOURCES = tests/live/test-verify.c tests/live/live.h tests/unit/test.h
tests_live_test_verify_CPPFLAGS = $(live_cppflags)
tests_live_test_verify_LDADD = $(live_ldadd)

test_scripts += tests/live/test-install.sh
live_tests += tests/live/test-install.sh

if INTERCEPT
test_programs += tests/live/test-fork tests/live/test-intercept tests/live/test-signals
live_tests += tests/live/test-fork tests/live/test-intercept tests/live/test-run.sh
live_tests += tests/live/test-debug.sh tests/live/test-exec.sh tests/live/test-habits.sh
live_tests += tests/live/test-mappings.sh tests/live/test-near.sh tests/live/test-signals
live_tests += tests/live/test-group.sh tests/live/test-strangers.sh
test_programs += tests/live/test-run-files
live_tests += tests/live/test-run-files tests/live/test-run-conform.sh
if !SANITIZED
unit_tests += tests/unit/test-imports.sh
endif
live_tests += tests/live/test-top.sh tests/live/test-snapshot-command.sh
check_PROGRAMS += tests/live/affinity tests/live/deny \
	tests/live/exec-become tests/live/exec-show tests/live/exec-show-static tests/live/habits \
	tests/live/group-tree tests/live/mappings tests/live/snapshot-writer tests/live/arming
check_LTLIBRARIES += tests/live/inline-sites.la
endif
test_scripts += tests/live/test-run.sh tests/live/test-exec.sh tests/live/test-habits.sh \
	tests/live/test-debug.sh tests/live/test-group.sh tests/live/test-mappings.sh \
	tests/live/test-near.sh tests/live/test-strangers.sh \
	tests/unit/test-imports.sh
test_scripts += tests/live/test-top.sh tests/live/test-snapshot-command.sh \
	tests/live/test-run-conform.sh

tests_live_snapshot_writer_SOURCES = tests/live/snapshot-writer.c
tests_live_snapshot_writer_LDADD = -lpthread

tests_live_test_signals_SOURCES = tests/live/test-signals.c tests/live/subjects.h tests/unit/test.h
tests_live_test_signals_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/tests/unit
tests_live_test_signals_LDADD = $(CMOCKA_LIBS) -lpthread

tests_live_test_fork_SOURCES = tests/live/test-fork.c tests/live/subject-checks.h \
	tests/live/subjects.h tests/unit/test.h
tests_live_test_fork_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/tests/unit
tests_live_test_fork_LDADD = $(CMOCKA_LIBS)

tests_live_test_intercept_SOURCES = tests/live/test-intercept.c tests/live/subject-checks.h \
	tests/live/subjects.h tests/unit/test.h
tests_live_test_intercept_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/tests/unit
tests_live_test_intercept_LDADD = $(CMOCKA_LIBS)

tests_live_group_tree_SOURCES = tests/live/group-tree.c
tests_live_deny_SOURCES = tests/live/deny.c

tests_live_affinity_SOURCES = tests/live/affinity.c
tests_live_affinity_LDADD = -lpthread
tests_live_arming_SOURCES = tests/live/arming.c
tests_live_arming_LDADD = -lpthread
tests_live_mappings_SOURCES = tests/live/mappings.c
tests_live_mappings_LDADD = -lpthread
tests_live_habits_SOURCES = tests/live/habits.c
tests_live_exec_become_SOURCES = tests/live/exec-become.c
tests_live_exec_become_LDADD = -lpthread
tests_live_exec_show_SOURCES = tests/live/exec-show.c
tests_live_exec_show_static_SOURCES = tests/live/exec-show.c
# no sanitizer links statically
tests_live_exec_show_static_CFLAGS = $(AM_CFLAGS) -fno-sanitize=all
tests_live_exec_show_static_LDFLAGS = $(AM_LDFLAGS) -all-static

tests_live_inline_sites_la_SOURCES = tests/live/inline-sites.c
tests_live_inline_sites_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

test_scripts += tests/live/test-examples.sh
live_tests += tests/live/test-examples.sh

# store

store_tests =
store_test_cppflags = $(test_cppflags) -I$(top_srcdir)/tests/unit $(store_cppflags)
store_test_ldadd = src/store/libfaultline-store.la $(test_ldadd)

test_programs += tests/store/test-peek
store_tests += tests/store/test-peek

tests_store_test_view_SOURCES = tests/store/test-view.c tests/store/spoil.h \
	tests/store/mounted.h tests/live/live.h \
	tests/unit/test.h lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_store_test_view_CPPFLAGS = $(store_test_cppflags)
tests_store_test_view_LDADD = $(store_test_ldadd) -lpthread

tests_store_test_runtimes_SOURCES = tests/store/test-runtimes.c tests/store/spoil.h \
	tests/store/mounted.h \
	tests/live/live.h tests/unit/test.h lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_store_test_runtimes_CPPFLAGS = $(store_test_cppflags)
tests_store_test_runtimes_LDADD = $(store_test_ldadd) -lpthread

tests_store_test_peek_SOURCES = tests/store/test-peek.c tests/live/live.h tests/unit/test.h lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_store_test_peek_CPPFLAGS = $(store_test_cppflags)
tests_store_test_peek_LDADD = $(store_test_ldadd) -lpthread

test_scripts += tests/store/test-store.sh tests/store/test-store-programs.sh \
	tests/store/test-store-mapped.sh tests/store/test-store-shared.sh \
	tests/store/test-store-databases.sh tests/store/test-store-robust.sh \
	tests/store/test-store-conform.sh
if STORE_SERVER
test_programs += tests/store/test-store-files tests/store/test-clients tests/store/test-view \
	tests/store/test-runtimes
shared_tests = tests/store/test-shared tests/store/test-shared-advice \
	tests/store/test-shared-direct tests/store/test-shared-hostile \
	tests/store/test-shared-random tests/store/test-shared-takeover \
	tests/store/test-shared-faults
test_programs += $(shared_tests)
store_tests += tests/store/test-store-files tests/store/test-view $(shared_tests) \
	tests/store/test-runtimes
check_PROGRAMS += tests/store/pages tests/store/slow tests/store/robust
test_programs += tests/store/test-store-crash
store_tests += tests/store/test-store-crash
if STORE_CONFINED
test_programs += tests/store/test-confine
store_tests += tests/store/test-confine
endif
if INTERCEPT
store_tests += tests/store/test-clients tests/store/test-store-mapped.sh
store_tests += tests/store/test-store-shared.sh tests/store/test-store-databases.sh \
	tests/store/test-store-robust.sh
endif
store_tests += tests/store/test-store.sh tests/store/test-store-programs.sh tests/store/test-io.sh \
	tests/store/test-store-conform.sh
store_tests += tests/store/test-boot.sh
endif
test_scripts += tests/store/test-io.sh tests/store/test-boot.sh tests/store/with-store.sh

tests_store_test_store_files_SOURCES = tests/store/test-store-files.c tests/store/mounted.h \
	tests/unit/test.h
tests_store_test_store_files_CPPFLAGS = $(store_test_cppflags)
tests_store_test_store_files_LDADD = $(CMOCKA_LIBS) -lpthread

tests_store_test_clients_SOURCES = tests/store/test-clients.c tests/store/mounted.h \
	tests/store/owner.h tests/unit/test.h lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_store_test_clients_CPPFLAGS = $(store_test_cppflags)
tests_store_test_clients_LDADD = $(test_ldadd) -lpthread

shared_test_sources = tests/store/shared.h tests/store/mounted.h tests/unit/test.h lib/api.c lib/at-exit.c \
	lib/api-files.c lib/backing.c
tests_store_test_shared_SOURCES = tests/store/test-shared.c $(shared_test_sources)
tests_store_test_shared_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_LDADD = $(test_ldadd) -lpthread
tests_store_test_shared_advice_SOURCES = tests/store/test-shared-advice.c $(shared_test_sources)
tests_store_test_shared_advice_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_advice_LDADD = $(test_ldadd) -lpthread
tests_store_test_shared_direct_SOURCES = tests/store/test-shared-direct.c $(shared_test_sources)
tests_store_test_shared_direct_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_direct_LDADD = $(test_ldadd) -lpthread
tests_store_test_shared_hostile_SOURCES = tests/store/test-shared-hostile.c $(shared_test_sources)
tests_store_test_shared_hostile_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_hostile_LDADD = $(test_ldadd) -lpthread
tests_store_test_shared_random_SOURCES = tests/store/test-shared-random.c $(shared_test_sources)
tests_store_test_shared_random_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_random_LDADD = $(test_ldadd) -lpthread
tests_store_test_shared_takeover_SOURCES = tests/store/test-shared-takeover.c $(shared_test_sources)
tests_store_test_shared_takeover_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_takeover_LDADD = $(test_ldadd) -lpthread
# with the server: tests/store/within.c has the functions
tests_store_test_shared_faults_SOURCES = tests/store/test-shared-faults.c \
	tests/store/within.c tests/store/within.h $(shared_test_sources)
tests_store_test_shared_faults_CPPFLAGS = $(store_test_cppflags)
tests_store_test_shared_faults_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=confine_limits \
	-Wl,--wrap=fstat -Wl,--wrap=fstatfs -Wl,--wrap=open -Wl,--wrap=pwrite \
	-Wl,--wrap=io_uring_submit -Wl,--wrap=recvmsg -Wl,--wrap=sys_now \
	-Wl,--wrap=truncate -Wl,--wrap=__io_uring_get_cqe
tests_store_test_shared_faults_LDADD = $(store_test_ldadd) -lpthread

# The server itself, with points at which it is killed: tests/store/crash.c has the functions.
crash_wrapped = chmod confine_limits copy_file_range fallocate ftruncate io_uring_submit linkat \
	mkdirat open pwrite recvmsg sendmsg setxattr symlinkat syscall truncate unlinkat utimensat
tests_store_test_store_crash_SOURCES = tests/store/test-store-crash.c tests/store/crash.c \
	tests/store/crash.h tests/store/crash-clients.c tests/store/crash-clients.h \
	tests/store/crash-course.h tests/store/crash-files.c tests/store/crash-memory.c \
	tests/store/crash-world.c tests/store/crash-world.h tests/store/mounted.h tests/unit/test.h \
	lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_store_test_store_crash_CPPFLAGS = $(store_test_cppflags)
tests_store_test_store_crash_LDFLAGS = $(AM_LDFLAGS) $(crash_wrapped:%=-Wl,--wrap=%)
tests_store_test_store_crash_LDADD = $(store_test_ldadd) -lpthread

tests_store_pages_SOURCES = tests/store/pages.c tests/store/owner.c tests/store/owner.h
tests_store_pages_LDADD = -lpthread

tests_store_robust_SOURCES = tests/store/robust.c
tests_store_robust_LDADD = -lpthread

tests_store_slow_SOURCES = tests/store/slow.c
tests_store_slow_CPPFLAGS = $(AM_CPPFLAGS) $(LIBFUSE3_CFLAGS)
tests_store_slow_LDADD = $(LIBFUSE3_LIBS)

tests_store_test_confine_SOURCES = tests/store/test-confine.c tests/unit/test.h
tests_store_test_confine_CPPFLAGS = $(store_test_cppflags)
tests_store_test_confine_LDADD = $(store_test_ldadd)

# fault

# The library's entry points are among what they share: they replace what is inside.
tests_fault_libdrive_la_SOURCES = tests/fault/drive.c tests/fault/drive.h tests/fault/mapped.c \
	tests/fault/mapped.h tests/fault/rows.c tests/fault/rows.h tests/unit/test.h \
	lib/api.c lib/at-exit.c lib/api-files.c lib/backing.c
tests_fault_libdrive_la_CPPFLAGS = $(test_cppflags)
fault_ldadd = tests/fault/libdrive.la $(test_ldadd)
fault_programs = tests/fault/test-fault-calls tests/fault/test-fault-fork tests/fault/test-fault-io tests/fault/test-fault-files tests/fault/test-fault-full tests/fault/test-fault-hold
fault_programs += tests/fault/test-fault-snapshot tests/fault/test-fault-sync
fault_programs += tests/fault/test-fault-truncate
tests_fault_test_fault_truncate_SOURCES = tests/fault/test-fault-truncate.c
tests_fault_test_fault_truncate_CPPFLAGS = $(live_cppflags)
tests_fault_test_fault_truncate_LDADD = $(fault_ldadd)
fault_programs += tests/fault/test-fault-landing
tests_fault_test_fault_landing_SOURCES = tests/fault/test-fault-landing.c
tests_fault_test_fault_landing_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_landing_LDADD = $(fault_ldadd)
fault_programs += tests/fault/test-fault-ahead
tests_fault_test_fault_ahead_SOURCES = tests/fault/test-fault-ahead.c
tests_fault_test_fault_ahead_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_ahead_LDADD = $(fault_ldadd)
tests_fault_test_fault_ahead_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=sys_now
test_programs += $(fault_programs)
fault_tests += $(fault_programs) $(tier_fault_tests)

tests_fault_test_fault_calls_SOURCES = tests/fault/test-fault-calls.c
tests_fault_test_fault_calls_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_calls_LDADD = $(fault_ldadd)

tests_fault_test_fault_fork_SOURCES = tests/fault/test-fault-fork.c
tests_fault_test_fault_fork_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_fork_LDADD = $(fault_ldadd)

tests_fault_test_fault_io_SOURCES = tests/fault/test-fault-io.c
tests_fault_test_fault_io_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_io_LDADD = $(fault_ldadd)

tests_fault_test_fault_tier_SOURCES = tests/fault/test-fault-tier.c
tests_fault_test_fault_tier_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_tier_LDADD = $(fault_ldadd)
tests_fault_test_fault_files_SOURCES = tests/fault/test-fault-files.c
tests_fault_test_fault_files_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_files_LDADD = $(fault_ldadd)

tests_fault_test_fault_hold_SOURCES = tests/fault/test-fault-hold.c
tests_fault_test_fault_hold_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_hold_LDADD = $(fault_ldadd)

tests_fault_test_fault_sync_SOURCES = tests/fault/test-fault-sync.c
tests_fault_test_fault_sync_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_sync_LDADD = $(fault_ldadd)

tests_fault_test_fault_snapshot_SOURCES = tests/fault/test-fault-snapshot.c \
	src/cli/image-read.c src/cli/image-read.h
tests_fault_test_fault_snapshot_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/src/cli $(LIBXXHASH_CFLAGS)
tests_fault_test_fault_snapshot_LDADD = $(fault_ldadd)

tests_fault_test_fault_full_SOURCES = tests/fault/test-fault-full.c
tests_fault_test_fault_full_CPPFLAGS = $(test_cppflags)
tests_fault_test_fault_full_LDADD = $(fault_ldadd)

# fuzz

test_programs += tests/fuzz/fuzz-area tests/fuzz/fuzz-options tests/fuzz/fuzz-wire
fuzz_tests += tests/fuzz/fuzz-area tests/fuzz/fuzz-options tests/fuzz/fuzz-wire

test_programs += tests/fuzz/fuzz-peek tests/fuzz/fuzz-image
fuzz_tests += tests/fuzz/fuzz-peek tests/fuzz/fuzz-image

tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz-image.c tests/fuzz/fuzz.h tests/unit/test.h \
	src/cli/image-read.c src/cli/image-read.h
tests_fuzz_fuzz_image_CPPFLAGS = $(test_cppflags) -I$(top_srcdir)/src/cli $(LIBXXHASH_CFLAGS)
tests_fuzz_fuzz_image_LDADD = $(test_ldadd)

tests_fuzz_fuzz_peek_SOURCES = tests/fuzz/fuzz-peek.c tests/fuzz/fuzz.h tests/unit/test.h
tests_fuzz_fuzz_peek_CPPFLAGS = $(store_test_cppflags)
tests_fuzz_fuzz_peek_LDADD = $(store_test_ldadd)

# What takes one input, and is driven by libFuzzer, too: see target.h.
test_programs += tests/fuzz/fuzz-store tests/fuzz/fuzz-map
fuzz_tests += tests/fuzz/fuzz-store tests/fuzz/fuzz-map
target_cppflags = $(test_cppflags) -I$(top_srcdir)/src/store \
	-DFUZZ_CORPUS='"$(abs_top_srcdir)/tests/fuzz/corpus"'
target_headers = tests/fuzz/corpus.h tests/fuzz/fuzz.h tests/fuzz/target.h tests/unit/test.h
EXTRA_DIST += tests/fuzz/corpus

tests_fuzz_fuzz_area_SOURCES = tests/fuzz/fuzz-area.c tests/fuzz/target-area.c $(target_headers)
tests_fuzz_fuzz_area_CPPFLAGS = $(target_cppflags)
tests_fuzz_fuzz_area_LDADD = src/store/libfaultline-store.la $(test_ldadd)

tests_fuzz_fuzz_store_SOURCES = tests/fuzz/fuzz-store.c tests/fuzz/target-store.c $(target_headers)
tests_fuzz_fuzz_store_CPPFLAGS = $(target_cppflags)
tests_fuzz_fuzz_store_LDADD = src/store/libfaultline-store.la $(test_ldadd)

tests_fuzz_fuzz_map_SOURCES = tests/fuzz/fuzz-map.c tests/fuzz/target-map.c $(target_headers)
tests_fuzz_fuzz_map_CPPFLAGS = $(target_cppflags)
tests_fuzz_fuzz_map_LDADD = $(test_ldadd)

tests_fuzz_fuzz_wire_SOURCES = tests/fuzz/fuzz-wire.c tests/fuzz/target-wire.c $(target_headers)
tests_fuzz_fuzz_wire_CPPFLAGS = $(target_cppflags)
tests_fuzz_fuzz_wire_LDADD = $(test_ldadd)

# make fuzz SECONDS=600: each target as long as that, by libFuzzer; what it finds is in fuzz/
FUZZ_CC = clang
FUZZ_FLAGS = -g -O1 -std=gnu11 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
fuzz_seconds = $(if $(SECONDS),$(SECONDS),60)
fuzz_wire_sources = $(srcdir)/lib/store-wire.c
fuzz_area_sources = $(srcdir)/lib/swap-area.c $(srcdir)/lib/swap-slot.c $(srcdir)/src/store/area.c
fuzz_map_sources = $(srcdir)/lib/swap-slot.c
fuzz_store_sources = $(srcdir)/src/store/dir.c $(srcdir)/src/store/area.c
.PHONY: clean-fuzz fuzz fuzz-wire fuzz-area fuzz-map fuzz-store
fuzz: fuzz-wire fuzz-area fuzz-map fuzz-store
fuzz-wire fuzz-area fuzz-map fuzz-store: lib/libfaultline-core.la
	@$(MKDIR_P) fuzz/$(@:fuzz-%=%)
	@echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
		$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -xc -o fuzz/probe - 2>fuzz/probe.log || { \
		echo 'faultline: make fuzz needs clang with its fuzzer ($(FUZZ_CC); see fuzz/probe.log); on Debian: apt-get install clang libclang-rt-dev' >&2; \
		exit 1; }
	$(LIBTOOL) --silent --tag=CC --mode=link $(FUZZ_CC) $(FUZZ_FLAGS) $(DEFS) $(AM_CPPFLAGS) \
		-I$(top_srcdir)/src/store -o fuzz/$@ $(srcdir)/tests/fuzz/target-$(@:fuzz-%=%).c \
		$($(subst -,_,$@)_sources) lib/libfaultline-core.la
	cd fuzz && ./$@ -timeout=30 -max_len=1024 -max_total_time=$(fuzz_seconds) \
		-print_final_stats=1 $(@:fuzz-%=%) $(abs_top_srcdir)/tests/fuzz/corpus/$(@:fuzz-%=%)

clean-local: clean-fuzz
clean-fuzz:
	rm -rf fuzz

tests_fuzz_fuzz_options_SOURCES = tests/fuzz/fuzz-options.c tests/fuzz/fuzz.h tests/unit/test.h
tests_fuzz_fuzz_options_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_options_LDADD = $(test_ldadd) -lm

# programs

paged_tests = \
	tests/programs/test-bash.sh \
	tests/programs/test-containers.sh \
	tests/programs/test-databases.sh \
	tests/programs/test-git.sh \
	tests/programs/test-java.sh \
	tests/programs/test-make.sh \
	tests/programs/test-mapped.sh \
	tests/programs/test-multiprocessing.sh \
	tests/programs/test-node.sh \
	tests/programs/test-openssl.sh \
	tests/programs/test-parallel.sh \
	tests/programs/test-perl.sh \
	tests/programs/test-postgres.sh \
	tests/programs/test-python3.sh \
	tests/programs/test-redis.sh \
	tests/programs/test-redis-bgsave.sh tests/programs/test-redis-group.sh \
	tests/programs/test-sort.sh \
	tests/programs/test-sqlite3.sh \
	tests/programs/test-sqlite3-files.sh \
	tests/programs/test-stress-ng.sh
test_scripts += $(paged_tests)
check_PROGRAMS += tests/programs/mapped
tests_programs_mapped_SOURCES = tests/programs/mapped.c
EXTRA_DIST += \
	tests/programs/bgsave.sh \
	tests/programs/containers.cpp \
	tests/programs/dict.py \
	tests/programs/history.py \
	tests/programs/job-awk.sh \
	tests/programs/paged.sh \
	tests/programs/project.py \
	tests/programs/tables.sql \
	tests/programs/Work.java \
	tests/programs/work.bash \
	tests/programs/work-git.sh \
	tests/programs/work.mjs \
	tests/programs/work-openssl.sh \
	tests/programs/work-parallel.sh \
	tests/programs/work.pl \
	tests/programs/work-postgres.sh \
	tests/programs/work-sqlite3.sh \
	tests/programs/workers.py
if INTERCEPT
program_tests += $(paged_tests)
endif

# torture

check_PROGRAMS += tests/torture/torture tests/torture/torture-fork tests/torture/torture-files
tests_torture_torture_files_SOURCES = tests/torture/torture-files.c
tests_torture_torture_files_LDADD = lib/libfaultline.la -lpthread
tests_torture_torture_fork_SOURCES = tests/torture/torture-fork.c
tests_torture_torture_fork_LDADD = -lpthread
tests_torture_torture_SOURCES = tests/torture/torture.c
tests_torture_torture_LDADD = lib/libfaultline.la -lpthread

torture_tests += tests/torture/run-torture.sh
test_scripts += tests/torture/run-torture.sh

# make torture SECONDS=600 SEED=7: as long as that, from that seed on
.PHONY: torture
torture: all tests/torture/torture tests/torture/torture-fork tests/torture/torture-files
	FL_SRC='$(abs_top_srcdir)' FL_BUILD='$(abs_top_builddir)' \
		$(SHELL) $(srcdir)/tests/torture/run-torture.sh '$(SECONDS)' '$(SEED)'

# What scripts measure with.
check_PROGRAMS += tests/measure tests/held
tests_held_SOURCES = tests/held.c
tests_measure_SOURCES = tests/measure.c

if HAVE_CMOCKA
check_PROGRAMS += $(test_programs)
check_LTLIBRARIES += tests/fault/libdrive.la
TESTS += $(unit_tests) $(live_tests) $(store_tests) $(fault_tests) $(fuzz_tests) $(program_tests) $(torture_tests)
# A test has its results by its name, less .sh: of two of one name only the first would be run.
check-local:
	@same='$(words $(sort $(TESTS))) $(words $(sort $(TESTS:.sh=)))'; \
	[ "$${same% *}" -eq "$${same#* }" ] || { \
		echo 'faultline: two tests have one name, but for .sh: one of them is not run' >&2; exit 1; }
else
check-local:
	@echo 'faultline: the tests need cmocka; on Debian: apt-get install libcmocka-dev' >&2; exit 1
endif
EXTRA_DIST += $(test_scripts) tests/functions.sh tests/summary .ci/run scripts/common.sh scripts/demo scripts/test

# make check-together: all, JOBS of them at a time, the longest first; those that look at what
# the machine has to spare come afterwards, one by one.
JOBS = 2
long_tests = tests/fault/test-fault-calls tests/torture/run-torture.sh tests/bench/test-bench.sh
lone_tests = tests/live/test-near.sh tests/live/test-near-api
crowd_tests = $(filter $(TESTS),$(long_tests)) $(filter-out $(long_tests) $(lone_tests),$(TESTS))
.PHONY: check-together
check-together:
	status=0; \
	$(MAKE) $(AM_MAKEFLAGS) -j$(JOBS) -O check TESTS='$(crowd_tests)' || status=$$?; \
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(filter $(lone_tests),$(TESTS))' || status=$$?; \
	exit $$status

# make check-io: what pages, with the swap on a store: its areas, then through its mount.
# Not those whose matter is a private area, or how a machine is that has no store.
io_not = tests/live/test-run.sh tests/live/test-debug.sh tests/live/test-install.sh \
	tests/live/test-examples.sh tests/live/test-top.sh tests/programs/test-postgres.sh \
	tests/bench/test-bench.sh
.PHONY: check-io
check-io:
	for io in direct fuse; do \
		echo "==> io=$$io" && \
		FL_BUILD='$(abs_top_builddir)' $(SHELL) $(srcdir)/tests/store/with-store.sh $$io \
			$(MAKE) $(AM_MAKEFLAGS) check \
			TESTS='$(filter-out $(io_not),$(live_tests) $(program_tests) $(torture_tests))' || \
			exit 1; \
	done

# make check-compress: what pages, with a pool of compressed pages, so small that pages go on
# to an area.  Not those that have pools of their own, or do not look at what the environment says.
compress_not = tests/live/test-live-tier tests/live/test-compress.sh tests/live/test-run.sh \
	tests/live/test-install.sh tests/live/test-examples.sh tests/bench/test-bench.sh
.PHONY: check-compress
check-compress:
	for compress in lz4,512K zstd,512K; do \
		echo "==> compress=$$compress" && \
		FL_COMPRESS=$$compress FAULTLINE_COMPRESS=$$compress $(MAKE) $(AM_MAKEFLAGS) check \
			TESTS='$(filter-out $(compress_not),$(live_tests) $(program_tests) $(torture_tests))' || \
			exit 1; \
	done

# make torture-store SECONDS=600 SEED=7: programs of a store killed for so long, and its server
.PHONY: torture-store
torture-store: all tests/store/test-clients tests/store/pages
	FL_BUILD='$(abs_top_builddir)' FL_STORE_SECONDS='$(SECONDS)' FL_STORE_SEED='$(SEED)' \
		tests/store/test-clients all_at_once

# make crash SEED=7: a store's server killed at each of its steps
.PHONY: crash
crash: all tests/store/test-store-crash
	FL_BUILD='$(abs_top_builddir)' FL_CRASH_KILLS=all FL_CRASH_SEED='$(SEED)' \
		tests/store/test-store-crash

.PHONY: check-unit check-live check-store check-fault check-fuzz check-programs check-torture
check-unit:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(unit_tests)'
check-live:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(live_tests)'
check-store:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(store_tests)'
check-fault:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(fault_tests)'
check-fuzz:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(fuzz_tests)'
check-programs:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(program_tests)'
check-torture:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(torture_tests)'
