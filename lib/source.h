/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * source.h - a program's own source of pages (struct fl_backing_ops), and the
 * queue between pagers and the threads that call it.
 *
 * The threads are ordinary ones of the program's C library, made and joined by
 * backing.c: the functions may block, allocate and use the program's
 * descriptors.  A pager posts an I/O; a thread takes it, calls the function with
 * the alias of the page cache as memory, and hands the result to a pager by a
 * hop (HOP_SOURCE_DONE), which is served also within other calls.
 *
 * Locks.  The queue has a lock of its own, taken under the mm lock by pagers and
 * alone by the threads.
 */
#ifndef FL_SOURCE_H
#define FL_SOURCE_H

#include "faultline.h"
#include "lock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct file_io;
struct mm;
struct pagecache;

#define SOURCE_THREADS 16U

struct source {
	struct mm *mm;
	struct fl_backing_ops ops;
	void *ctx;
	unsigned nthreads;
	pthread_t thread[SOURCE_THREADS];
	struct lock lock; /* RANK_SOURCE; guards */
	struct file_io *head, *last;
	bool stop;
	uint32_t seq; /* futex: grows with each post; changed under the lock */
};

/* On a pager. */
void source_post(struct source *s, struct file_io *io);

/* On a thread of the source's: the next I/O, waiting for one; NULL: the end. */
struct file_io *source_take(struct source *s);

/* Let the threads end. */
void source_stop(struct source *s);

#endif
