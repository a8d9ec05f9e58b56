/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mem.h - where the bench worker's memory comes from.
 *
 * The worker is one program linked twice: with mem-plain.c it maps memory as
 * any program does, and whatever pages it (nothing, the kernel, `faultline
 * run`) is unseen by it; with mem-faultline.c it asks a runtime of its own.
 */
#ifndef BENCH_MEM_H
#define BENCH_MEM_H

#include <stddef.h>
#include <stdint.h>

struct mem_options {
	uint64_t limit;	      /* bytes of frames */
	const char *swap_dir; /* where the area lies */
	const char *engine;   /* auto, uring, sync */
	const char *wp;	      /* auto, sync, off */
	unsigned pagers;      /* 0: the default */
	uint64_t pool;	      /* bytes of compressed pages, of the limit's; 0: none */
	int no_swap;	      /* what does not fit there has nowhere to go */
	int in_thread;	      /* faults are answered in the thread that takes them */
	unsigned near;	      /* a pager and a thread that pages alone may be bound to one CPU */
};

/* True when the options above mean something to this build. */
extern const int mem_takes_options;

/* Each ends the program with one line when it cannot. */
void mem_open(const struct mem_options *o);
void *mem_map(size_t bytes, int noreserve);
void mem_unmap(void *p, size_t bytes);
void mem_report(void);	   /* lines "stat NAME VALUE", if there is anything to say */
uint64_t mem_misses(void); /* faults that waited for I/O, until now */
uint64_t mem_reads(void);  /* pages read, until now */
void mem_close(void);

_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
