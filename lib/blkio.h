/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkio.h - block I/O: requests, merging, bounds, completion.
 *
 * A request names a device, a byte range of it and the memory for it.  It is
 * queued with blkio_queue() and started by blkio_flush(), which sorts what was
 * queued, merges neighbours that touch on the device into one submission, and
 * hands it to the engine.  blkio_reap() calls back each request that ended.
 *
 * A queue belongs to one pager; no function here locks.  The callbacks run in
 * blkio_reap() (never in blkio_flush()), so the caller decides what it holds.
 * A request ends whole: short transfers are continued, EINTR and EAGAIN tried
 * again (BLKIO_TRIES times without progress), and a transfer that makes no
 * progress, as a read at the end of a file, ends as -EIO.  When a merged
 * submission fails, its requests are tried one by one, so that an error meets
 * only the request that it belongs to.
 *
 * Order.  Requests of one queue whose bytes overlap, one of them a write, are
 * carried out in the order in which they were queued.  All others may be
 * carried out in any order; reads are started before writes.
 *
 * Both engines serve the same interface.  io_uring: asynchronous.  sync:
 * preadv(2)/pwritev(2) inside blkio_flush() and blkio_wait().
 */
#ifndef FL_BLKIO_H
#define FL_BLKIO_H

#include "faultline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A file or block device that holds an area.  Immutable once in use, except size (grows only). */
struct blk_dev {
	int fd;		  /* in the pagers' descriptor table */
	uint64_t size;	  /* bytes; a request beyond it ends as -ERANGE without being started */
	const char *name; /* for messages; lives as long as the device */
	bool file; /* may end within what is read: zeros follow; a write may end within a page */
};

/*
 * BLK_SYNC: what was written before it was queued, and has ended, is durable when it ends.
 * BLK_PUNCH: `hole` bytes of a file from off on are a hole when it ends; its length stays.  No
 * order with other requests is kept.
 */
enum blk_op { BLK_READ, BLK_WRITE, BLK_SYNC, BLK_PUNCH };

struct blk_req {
	/* set by the caller */
	const struct blk_dev *dev;
	enum blk_op op;
	uint64_t off;		 /* bytes, a multiple of 4096 */
	const struct iovec *iov; /* each a multiple of 4096, aligned; stays put until done */
	unsigned niov;		 /* 1 to BLK_IOV_MAX; BLK_SYNC, BLK_PUNCH: 0 */
	uint64_t hole;		 /* BLK_PUNCH: bytes */
	void (*done)(struct blk_req *req, int res); /* res: 0 or -errno; may free or reuse req */
	/* blkio's own until done is called */
	uint64_t len;	/* sum of iov */
	uint64_t seq;	/* the order in which requests were queued */
	uint64_t ended; /* how many had ended when this one had; 0: it has never */
	struct blk_req *next;
	int res;
	bool alone; /* was in a merged submission that failed: not merged again */
};

#define BLK_IOV_MAX 512U
#define BLK_MERGE_MAX ((uint64_t)2 << 20) /* bytes of a merged submission */
#define BLKIO_DEPTH_MAX 4096U
#define BLKIO_TRIES 64U

struct blkio;

/* Names of the engines: "uring", "sync". */
const char *blkio_engine_name(const struct blkio *q);

/* Whether a request is done where it is started. */
bool blkio_is_sync(const struct blkio *q);

/*
 * Open a queue of `depth` submissions, 1 to BLKIO_DEPTH_MAX.  FL_ENGINE_AUTO
 * takes io_uring, and sync where that is refused.  Returns 0 or -errno.  The
 * queue is used and closed on the thread that opened it.
 */
int blkio_open(struct blkio **out, enum fl_engine engine, unsigned depth);
/* The same for a process that confines itself: the ring takes nothing but what this room asks of it. */
int blkio_open_restricted(struct blkio **out, enum fl_engine engine, unsigned depth);

/* No request may be in flight. */
void blkio_close(struct blkio *q);

/* In a forked child: give back the memory of a queue that the parent goes on with. */
void blkio_forget(struct blkio *q);

/*
 * A request that cannot be is ended without being started: -ERANGE beyond the
 * device, -EINVAL without a whole number of pages.
 */
void blkio_queue(struct blkio *q, struct blk_req *req);

/*
 * Start all that is queued, as far as the depth allows; the rest follows when
 * something ended.  Never fails: what cannot be started ends with its error.
 * Not needed before blkio_wait(), which starts and waits in one system call.
 */
void blkio_flush(struct blkio *q);

/* Requests that were queued or started and not yet called back. */
unsigned blkio_inflight(const struct blkio *q);

/* How many ended so far, called back or not. */
uint64_t blkio_ended(const struct blkio *q);

/*
 * Sleep until a request ended, or fd (-1: none) is readable, or timeout_ns
 * passed (UINT64_MAX: for ever; 0: do not sleep).  Flushes first.  Returns a
 * mask of BLKIO_READABLE, BLKIO_COMPLETED, BLKIO_ALSO (0: none), or -errno:
 * -EINVAL when there is nothing that could end the wait.  Readiness is a level:
 * it is told again for as long as fd is readable (an error or hang-up of fd
 * counts).  It may be told once too often when fd was read without having been
 * told, and where poll(2) is refused.
 */
#define BLKIO_READABLE 1
#define BLKIO_COMPLETED 2
#define BLKIO_ALSO 4
int blkio_wait(struct blkio *q, int fd, uint64_t timeout_ns);

/*
 * From now on a wait for a descriptor ends, too, when this one (-1: none) is
 * readable: BLKIO_ALSO.  To watch both through an epoll would cost each wait more.
 */
void blkio_also(struct blkio *q, int fd);

/*
 * Forget the fd of blkio_wait(), and that of blkio_also().  Needed before one is
 * closed: until then the queue keeps its file open, and would take another file of
 * the same number for it.  blkio_close() does it.
 */
void blkio_unwatch(struct blkio *q);

/* From the next blkio_flush() on, blkio_ready() tells, too, that fd is readable, where the engine can. */
void blkio_watch(struct blkio *q, int fd);

/* Whether blkio_reap() would call something back: without a system call, and at times late. */
bool blkio_ready(const struct blkio *q);

/* Call back every request that ended, or `most` of the first; how many there were. */
unsigned blkio_reap(struct blkio *q);
unsigned blkio_reap_some(struct blkio *q, unsigned most);

/*
 * Error injection for tests: called before each attempt to move bytes (a
 * submission, its continuation after a short transfer, or a retry), with the
 * bytes that it is for; what it returns: 0 go on, -errno the attempt ends with
 * that error, n > 0 transfer only n bytes in it (rounded up to 512, direct I/O
 * knows nothing smaller).  NULL: none.  Set while no queue is open.
 */
extern long (*blkio_inject)(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len);

/* Called after a read's bytes arrived and before its callback, so that a test may spoil them. */
extern void (*blkio_inject_data)(const struct blk_req *req);

#endif
