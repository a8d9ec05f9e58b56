# SPDX-License-Identifier: LGPL-2.1-or-later
#
# make bench prints the table of docs/performance.md (minutes; the kernel's
# sides need root); make bench-quick a small one in under a minute;
# tests/bench/bench-pause compares the pause of a snapshot with that of fork(2).  More
# options in BENCH_ARGS: see tests/bench/bench.py --help.

PYTHON3 = python3
BENCH_ARGS =

bench_programs = \
	tests/bench/bench-device \
	tests/bench/bench-empty \
	tests/bench/bench-pause \
	tests/bench/bench-startup \
	tests/bench/bench-unarmed \
	tests/bench/bench-worker \
	tests/bench/bench-worker-faultline
check_PROGRAMS += $(bench_programs)
CLEANFILES += bench.csv
EXTRA_DIST += \
	docs/performance.md \
	tests/bench/bench.py \
	tests/bench/device.py \
	tests/bench/programs.py \
	tests/bench/sides.py \
	tests/bench/unarmed.py

# Optimised whatever the build is: what is timed is the paging, not the worker.
tests_bench_bench_worker_SOURCES = tests/bench/worker.c tests/bench/mem.h tests/bench/mem-plain.c
tests_bench_bench_worker_CFLAGS = $(AM_CFLAGS) -O2 -pthread

tests_bench_bench_worker_faultline_SOURCES = \
	tests/bench/worker.c tests/bench/mem.h tests/bench/mem-faultline.c
tests_bench_bench_worker_faultline_CFLAGS = $(AM_CFLAGS) -O2 -pthread
tests_bench_bench_worker_faultline_LDADD = lib/libfaultline.la
tests_bench_bench_worker_faultline_LDFLAGS = $(AM_LDFLAGS) -no-install

tests_bench_bench_empty_SOURCES = tests/bench/empty.c
tests_bench_bench_pause_SOURCES = tests/bench/pause.c
tests_bench_bench_pause_CFLAGS = $(AM_CFLAGS) -O2
tests_bench_bench_pause_LDADD = lib/libfaultline.la
tests_bench_bench_startup_SOURCES = tests/bench/startup.c
tests_bench_bench_unarmed_SOURCES = tests/bench/unarmed.c
tests_bench_bench_unarmed_CFLAGS = $(AM_CFLAGS) -O2 -pthread

# A library with nothing in it: what preloading one costs in any case.
check_LTLIBRARIES += tests/bench/bench-preload.la
tests_bench_bench_preload_la_SOURCES = tests/bench/preload.c
tests_bench_bench_preload_la_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath /nowhere

tests_bench_bench_device_SOURCES = tests/bench/device.c
tests_bench_bench_device_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS)
tests_bench_bench_device_LDADD = $(LIBURING_LIBS)

.PHONY: bench bench-quick
bench bench-quick: all $(bench_programs) tests/bench/bench-preload.la
	@command -v $(PYTHON3) >/dev/null || { \
		echo 'faultline: the benchmark needs python3; on Debian: apt-get install python3' >&2; exit 1; }
	$(AM_V_at)$(PYTHON3) $(srcdir)/tests/bench/bench.py --build . --csv bench.csv \
		`test $@ = bench || echo --quick` $(BENCH_ARGS)

test_scripts += tests/bench/test-bench.sh
if INTERCEPT
program_tests += tests/bench/test-bench.sh
endif
