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
 * other.  Writes go to cached pages, which are dirty then; the rest is written to
 * the backing by the caller, and after that to what was read in meanwhile.  So no
 * page is written to the backing in two ways at once: direct and buffered writes of
 * one page at one time are an error to the host, which fsync(2) tells.
 */
#ifndef FL_FILEDATA_H
#define FL_FILEDATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pager;
struct sync_wait;

struct filedata {
	uint64_t dev, ino;
	int fd;	      /* of the backing: opened; open for writing: cut, allocate */
	int mode;     /* allocate: as fallocate(2) */
	uint64_t off; /* bytes */
	uint64_t size;
	char *buf;
	bool *have;  /* read, write: one for each page that [off, off + size) meets: done */
	bool append; /* write: off is the file's end */
	struct sync_wait *wait;
	uint64_t *heard; /* sync, opened: peers_sync_file() */
};

/* Copy what is cached of [off, off + size), which ends at the file's end at most from here on. */
long filedata_read(struct pager *p, void *arg);
/* Write to what is cached of [off, off + size). */
long filedata_write(struct pager *p, void *arg);
/* What was then written to the backing goes to what is cached by now. */
long filedata_written(struct pager *p, void *arg);
/* ftruncate(2) of fd to `size`. */
long filedata_cut(struct pager *p, void *arg);
/* fallocate(2) of fd. */
long filedata_allocate(struct pager *p, void *arg);
/* Write what is dirty and make it durable; wait->pending falls to 0 then.  -errno: it is not waited for. */
long filedata_sync(struct pager *p, void *arg);
/* What one has heard of who opens the file now, as fd. */
long filedata_opened(struct pager *p, void *arg);
/* Look at the file's size; 1: dirty pages are not written yet, 0: none are. */
long filedata_dirty(struct pager *p, void *arg);
/* 1: it may be stored to by a mapping, whose descriptor may be closed; 0: not. */
long filedata_stored_to(struct pager *p, void *arg);

#endif
