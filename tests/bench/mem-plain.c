/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem-plain.c - the worker's memory by mmap(2): the worker of the native and
 * kernel-swap sides, and the unmodified program that `faultline run` pages.
 */
#include "mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

const int mem_takes_options;

void mem_open(const struct mem_options *o)
{
	(void)o;
}

void *mem_map(size_t bytes, int noreserve)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (noreserve ? MAP_NORESERVE : 0);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED)
		die("cannot map %zu bytes: %s", bytes, strerror(errno));
	return p;
}

void mem_unmap(void *p, size_t bytes)
{
	if (munmap(p, bytes))
		die("cannot unmap: %s", strerror(errno));
}

void mem_report(void)
{
}

uint64_t mem_misses(void)
{
	return 0;
}

uint64_t mem_reads(void)
{
	return 0;
}

void mem_close(void)
{
}
