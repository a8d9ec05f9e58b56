# SPDX-License-Identifier: LGPL-2.1-or-later
#
# make bench prints the tables of docs/performance.md that take minutes (the
# kernel's sides need root); make bench-quick a small one in under a minute;
# make bench-all every table there is, part by part, going on where an earlier one
# was ended; make bench-store what a store costs.  Each writes its values to a CSV
# file and charts to bench-charts.
# More options in BENCH_ARGS: see tests/bench/bench.py --help.

PYTHON3 = python3
BENCH_ARGS =

bench_programs = \
	tests/bench/bench-attach \
	tests/bench/bench-device \
	tests/bench/bench-empty \
	tests/bench/bench-files \
	tests/bench/bench-graph \
	tests/bench/bench-micro \
	tests/bench/bench-pause \
	tests/bench/bench-startup \
	tests/bench/bench-stream \
	tests/bench/bench-unarmed \
	tests/bench/bench-worker \
	tests/bench/bench-worker-faultline
check_PROGRAMS += $(bench_programs)
CLEANFILES += bench.csv bench-store.csv
EXTRA_DIST += \
	docs/performance.md \
	tests/bench/bench.py \
	tests/bench/checks.py \
	tests/bench/device.py \
	tests/bench/files.py \
	tests/bench/micro.py \
	tests/bench/paged.py \
	tests/bench/pause.py \
	tests/bench/programs.py \
	tests/bench/sides.py \
	tests/bench/store.py \
	tests/bench/svg.py \
	tests/bench/unarmed.py

# Optimised whatever the build is: what is timed is the paging, not the worker.
tests_bench_bench_worker_SOURCES = tests/bench/worker.c tests/bench/mem.h tests/bench/mem-plain.c \
	tests/bench/zipf.h
tests_bench_bench_worker_CFLAGS = $(AM_CFLAGS) -O2 -pthread
tests_bench_bench_worker_LDADD = -lm

tests_bench_bench_worker_faultline_SOURCES = \
	tests/bench/worker.c tests/bench/mem.h tests/bench/mem-faultline.c tests/bench/zipf.h
tests_bench_bench_worker_faultline_CFLAGS = $(AM_CFLAGS) -O2 -pthread
tests_bench_bench_worker_faultline_LDADD = lib/libfaultline.la -lm
tests_bench_bench_worker_faultline_LDFLAGS = $(AM_LDFLAGS) -no-install

tests_bench_bench_attach_SOURCES = tests/bench/attach.c
tests_bench_bench_attach_LDADD = lib/libfaultline.la
tests_bench_bench_attach_LDFLAGS = $(AM_LDFLAGS) -no-install
tests_bench_bench_files_SOURCES = tests/bench/files.c tests/bench/zipf.h
tests_bench_bench_files_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS)
tests_bench_bench_files_CFLAGS = $(AM_CFLAGS) -O2 -pthread
tests_bench_bench_files_LDADD = lib/libfaultline.la $(LIBURING_LIBS) -lm
tests_bench_bench_files_LDFLAGS = $(AM_LDFLAGS) -no-install

tests_bench_bench_micro_SOURCES = tests/bench/micro.c
tests_bench_bench_micro_CFLAGS = $(AM_CFLAGS) -O2 -pthread
tests_bench_bench_micro_LDADD = lib/libfaultline.la
tests_bench_bench_micro_LDFLAGS = $(AM_LDFLAGS) -no-install

tests_bench_bench_graph_SOURCES = tests/bench/graph.c
tests_bench_bench_graph_CFLAGS = $(AM_CFLAGS) -O2
tests_bench_bench_graph_LDADD = -lm
tests_bench_bench_stream_SOURCES = tests/bench/stream.c
tests_bench_bench_stream_CFLAGS = $(AM_CFLAGS) -O2

tests_bench_bench_empty_SOURCES = tests/bench/empty.c
tests_bench_bench_pause_SOURCES = tests/bench/pause.c
tests_bench_bench_pause_CFLAGS = $(AM_CFLAGS) -O2 -pthread
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

.PHONY: bench bench-quick bench-all
bench bench-quick bench-all: all $(bench_programs) tests/bench/bench-preload.la
	@command -v $(PYTHON3) >/dev/null || { \
		echo 'faultline: the benchmark needs python3; on Debian: apt-get install python3' >&2; exit 1; }
	$(AM_V_at)$(PYTHON3) $(srcdir)/tests/bench/bench.py --build . --csv bench.csv \
		--svg bench-charts `case $@ in bench-quick) echo --quick ;; \
		bench-all) echo --parts all --sides all --part-seconds 480 --state bench-state ;; esac` $(BENCH_ARGS)

clean-local: clean-bench
.PHONY: clean-bench
clean-bench:
	rm -rf bench-charts bench-state

# make bench-store: what a store costs; tests/bench/store.py --help.
.PHONY: bench-store
bench-store: all $(bench_programs) tests/store/pages
	$(AM_V_at)$(PYTHON3) $(srcdir)/tests/bench/store.py --build . --csv bench-store.csv \
		--svg bench-charts $(BENCH_ARGS)

test_scripts += tests/bench/test-bench.sh
if INTERCEPT
program_tests += tests/bench/test-bench.sh
endif
