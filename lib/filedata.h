/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filedata.h - the bytes of a file for who reads, writes and cuts it while
 * others have it mapped (the kernel's filemap_read, generic_perform_write and
 * truncate_pagecache).
 *
 * Each function takes a struct filedata in memory that is not managed and is for
 * hop_run(): it runs on a pager, with the mm lock held, and may wait there for I/O
 * while faults are answered.  -ENOENT: nothing of the file is cached, and its
 * bytes are the backing's.
 *
 * Reads take what is cached first and leave the rest to the caller, who reads the
 * backing afterwards: what was stored before the read began is in the one or in the
 * other.  Writes go from their first byte to the last: to the pages that are cached, which
 * are dirty then, and past the cache to the backing for those that are not, by the caller.
 * So what comes behind an error is as it was, no page is written to the backing in two ways
 * at once (direct and buffered writes of one page at one time are an error to the host, which
 * fsync(2) tells), and no copy of what was written is needed for pages that came meanwhile:
 *
 * Past the cache.  While the backing of absent pages is changed by somebody else than us
 * they stay absent: a touch waits in the kernel's queue, and is woken to look again.  So no
 * page has bytes from before that change after it, and nothing is stored to a page of which
 * it is not known whether the bytes of the change are in it.
 */
#ifndef FL_FILEDATA_H
#define FL_FILEDATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pagecache;
struct pager;
struct sync_wait;

/* Pages [page, end) whose backing somebody else than us changes; in his memory. */
struct past {
	struct past *next;
	uint64_t page, end;
	bool awaited; /* a touch waits for its end */
};

struct filedata {
	uint64_t dev, ino;
	int fd;	      /* of the backing: opened; open for writing: write, cut, allocate */
	int mode;     /* allocate: as fallocate(2) */
	uint64_t off; /* bytes */
	uint64_t size;
	char *buf;
	bool *have;	     /* read: one for each page that [off, off + size) meets: done */
	bool append;	     /* write: off is the file's end */
	bool is_past;	     /* write: `past` is noted */
	uint64_t done, stop; /* write: so much of it is written, and is to be by the caller */
	struct past past;
	struct past *whole; /* hold, let_go */
	struct sync_wait *wait;
	uint64_t *heard; /* sync, opened: peers_sync_file() */
};

/* Copy what is cached of [off, off + size), which ends at the file's end at most from here on. */
long filedata_read(struct pager *p, void *arg);
/*
 * Go on with a write, from `done` on: 0 with done < stop when [done, stop) is the caller's to write
 * to the backing, who says so by `done` when he calls again; with done == size when all is written.
 * -errno: nothing more is.
 */
long filedata_write(struct pager *p, void *arg);
/* The caller could not, and writes no more. */
long filedata_give_up(struct pager *p, void *arg);
/*
 * Somebody changes the backing who began before anything was cached: `whole` is noted for all
 * pages; and he has.  What was cached at once, of a server before us, has what he wrote
 * then, too: `buf`, or NULL.
 */
long filedata_hold(struct pager *p, void *arg);
long filedata_let_go(struct pager *p, void *arg);
/* Whether a page is to stay absent; waits: a touch waits for it. */
bool filedata_is_past(const struct pagecache *pc, uint64_t page, bool waits);
/* ftruncate(2) of fd to `size`. */
long filedata_cut(struct pager *p, void *arg);
/* fallocate(2) of fd. */
long filedata_allocate(struct pager *p, void *arg);
/* Write what is dirty and make it durable; wait->pending falls to 0 then.  -errno: it is not waited for. */
long filedata_sync(struct pager *p, void *arg);
/* The same, but it need not be durable. */
long filedata_clean(struct pager *p, void *arg);
/* What one has heard of who opens the file now, as fd. */
long filedata_opened(struct pager *p, void *arg);
/* Look at the file's size; 1: dirty pages are not written yet, 0: none are. */
long filedata_dirty(struct pager *p, void *arg);
/* 1: it may be stored to by a mapping, whose descriptor may be closed; 0: not. */
long filedata_stored_to(struct pager *p, void *arg);

#endif
