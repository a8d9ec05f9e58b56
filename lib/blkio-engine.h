/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkio-engine.h - what blkio.c and its engines know of each other.
 *
 * blkio.c makes submissions of requests and decides what becomes of each
 * attempt; an engine carries out one attempt of a submission at a time and
 * waits.  A submission is, in turn,
 *
 *	free ──sub_build()──▶ active ──engine's start()──▶ with the engine
 *	  ▲                      ▲                              │ sub_ended()
 *	  │                      └──short, try again── ended ◀──┘
 *	  └───────────whole, or failed: sub_settle()─────┘
 *
 * and is on the list `free` or `ended` or on none.
 */
#ifndef FL_BLKIO_ENGINE_H
#define FL_BLKIO_ENGINE_H

#include "blkio.h"

struct req_list {
	struct blk_req *head, *tail;
};

/* One or more requests whose bytes follow each other on a device. */
struct blk_sub {
	struct blk_sub *next;
	struct blk_req *first; /* its requests, linked, by offset */
	const struct blk_dev *dev;
	uint64_t off, len;
	uint64_t moved; /* bytes of len, from the front */
	enum blk_op op;
	unsigned tries; /* attempts since bytes moved last */
	unsigned index; /* in blkio.active */
	/* the attempt */
	unsigned niov;
	const struct iovec *iov; /* a request's, or `own` */
	int64_t res;		 /* bytes that it moved, or -errno */
	struct iovec *own;	 /* BLK_IOV_MAX of them */
};

struct blkio_engine {
	const char *name;
	size_t priv_size;
	int (*open)(struct blkio *q);
	void (*close)(struct blkio *q);
	/* Begin an attempt; there is always room for one of each submission. */
	void (*start)(struct blkio *q, struct blk_sub *sub);
	/* Hand what was started to the kernel. */
	void (*submit)(struct blkio *q);
	/* sub_ended() for each attempt that ended; `enter`: ask the kernel if it has more. */
	void (*collect)(struct blkio *q, bool enter);
	/* Whether collect() may find something. */
	bool (*ready)(const struct blkio *q);
	/*
	 * Submit, then sleep until an attempt ended or fd, or with it q->also, is
	 * readable or the time is over, or for no reason.  BLKIO_READABLE,
	 * BLKIO_ALSO, or -errno.
	 */
	int (*wait)(struct blkio *q, int fd, uint64_t timeout_ns);
	/* From the next submission on, ready() tells that fd is readable, where it can. */
	void (*watch)(struct blkio *q, int fd);
	void (*unwatch)(struct blkio *q);
};

struct blkio {
	const struct blkio_engine *engine;
	void *priv; /* the engine's */
	size_t mem_size;
	unsigned depth, inflight;
	int also; /* watched beside the descriptor of each wait; -1: none */
	uint64_t seq, nended;
	struct req_list plug;	 /* queued, not sorted yet */
	struct req_list waiting; /* in the order in which they are to be started */
	struct req_list done;	 /* ended, to be called back */
	bool plug_sorted;	 /* plug is in order already */
	struct blk_sub *free;
	struct blk_sub *ended, **ended_tail;
	struct blk_sub **active; /* every submission that is neither free nor settled */
	unsigned nactive;
	struct blk_sub *subs;
};

extern const struct blkio_engine blkio_uring, blkio_uring_restricted, blkio_sync;

/* It moves no bytes, and is not merged. */
static inline bool op_is_bare(enum blk_op op)
{
	return op == BLK_SYNC || op == BLK_PUNCH;
}

static inline void sub_ended(struct blkio *q, struct blk_sub *sub, int64_t res)
{
	sub->res = res;
	sub->next = NULL;
	*q->ended_tail = sub;
	q->ended_tail = &sub->next;
}

/* The byte range that an attempt is for begins here. */
static inline uint64_t sub_pos(const struct blk_sub *sub)
{
	return sub->off + sub->moved;
}

/* blkio-sync.c: an attempt by preadv(2) or pwritev(2), also for an engine in trouble. */
int64_t sync_attempt(const struct blk_sub *sub);
/*
 * poll(2) for reading: BLKIO_READABLE, BLKIO_ALSO (fd < 0: neither) or -errno.
 * -EINVAL: for as many the process's limit of descriptors is too low.
 */
int sync_poll(int fd, int also, uint64_t timeout_ns);
/*
 * The same whatever that limit is, where nothing else can be asked; of high numbers both may
 * be readable then, after a moment.
 */
int sync_look(int fd, int also, uint64_t timeout_ns);

#endif
