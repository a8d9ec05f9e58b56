/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem-faultline.c - the worker's memory by fl_mmap(): the side "faultline API".
 */
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "faultline.h"

const int mem_takes_options = 1;

static struct fl *fl;
static int in_thread;

static int choice(const char *what, const char *name, const char *const *names)
{
	for (int i = 0; names[i]; i++)
		if (!strcmp(name, names[i]))
			return i;
	die("unknown %s '%s'", what, name);
}

void mem_open(const struct mem_options *o)
{
	/* In the order of enum fl_engine and enum fl_wp. */
	static const char *const engines[] = {"auto", "uring", "sync", NULL};
	static const char *const wps[] = {"auto", "sync", "off", NULL};
	struct fl_options opt = {
		.size = sizeof(opt),
		.limit = o->limit,
		.swap_dir = o->swap_dir,
		.engine = (enum fl_engine)choice("engine", o->engine, engines),
		.wp = (enum fl_wp)choice("wp mode", o->wp, wps),
		.pagers = o->pagers,
		.near = o->near,
		.compress = o->pool ? FL_COMPRESS_LZ4 : FL_COMPRESS_NONE,
		.pool = o->pool,
		.no_swap = o->no_swap,
		.log_level = FL_LOG_WARN,
	};
	int err = fl_open(&fl, &opt);

	in_thread = o->in_thread;
	if (err)
		die("fl_open: %s", strerror(-err));
}

void *mem_map(size_t bytes, int noreserve)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (noreserve ? MAP_NORESERVE : 0) |
		    (in_thread ? FL_MAP_IN_THREAD : 0);
	void *p = fl_mmap(fl, NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == FL_FAILED)
		die("fl_mmap of %zu bytes: %s", bytes, strerror(errno));
	return p;
}

void mem_unmap(void *p, size_t bytes)
{
	int err = fl_munmap(fl, p, bytes);

	if (err)
		die("fl_munmap: %s", strerror(-err));
}

void mem_report(void)
{
	struct fl_stats s;
	int err = fl_stats(fl, &s, sizeof(s));

	if (err)
		die("fl_stats: %s", strerror(-err));
#define REPORT(name) printf("stat " #name " %llu\n", (unsigned long long)s.name)
	REPORT(limit);
	REPORT(mapped);
	REPORT(armed);
	REPORT(resident_max);
	REPORT(faults_minor);
	REPORT(faults_major);
	REPORT(faults_wp);
	REPORT(faults_staged);
	REPORT(faults_around);
	REPORT(faults_in_thread);
	REPORT(reads);
	REPORT(read_pages);
	REPORT(writes);
	REPORT(write_pages);
	REPORT(readahead_hits);
	REPORT(readahead_misses);
	REPORT(evicted);
	REPORT(dropped_clean);
	REPORT(bookkeeping);
	REPORT(compressed);
	REPORT(compressed_bytes);
	REPORT(pool);
	REPORT(faults_compressed);
	REPORT(compress_rejects);
	REPORT(written_through);
#undef REPORT
}

uint64_t mem_misses(void)
{
	struct fl_stats s;
	int err = fl_stats(fl, &s, sizeof(s));

	if (err)
		die("fl_stats: %s", strerror(-err));
	return s.faults_major;
}

uint64_t mem_reads(void)
{
	struct fl_stats s;
	int err = fl_stats(fl, &s, sizeof(s));

	if (err)
		die("fl_stats: %s", strerror(-err));
	return s.read_pages;
}

void mem_close(void)
{
	int err = fl_close(fl);

	if (err)
		die("fl_close: %s", strerror(-err));
}
