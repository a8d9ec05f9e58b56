/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkio.c - requests: order, merging, and what becomes of each attempt.
 *
 * A request goes from `plug` to `waiting` when the queue is flushed, into a
 * submission when one is free, and to `done` when it ended; it is on one of
 * these lists or in one submission, never both.
 *
 * Order.  `plug` is sorted by operation, device and offset, unless requests in
 * it overlap and one of them writes: such a plug stays in the order in which
 * it was queued.  `waiting` is strictly first come, first served, and its head
 * is not started while an active submission overlaps it and one of the two
 * writes.  So of two requests that conflict the earlier one has ended when the
 * later one begins.
 *
 * Memory.  Everything is mapped by blkio_open(); the iovecs of a merged
 * submission take memory only when they are first used.
 *
 * Accepted: a conflict holds up what was queued after it, conflicting or
 * not: callers do not queue conflicts but by mistake.  Bytes that an
 * attempt moved past the last multiple of 512 are moved again, because direct
 * I/O cannot go on there.
 */
#include "blkio.h"

#include "blkio-engine.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ALIGN_MASK ((uint64_t)4095)
#define SECTOR ((uint64_t)512)
#define ATTEMPT_MAX ((uint64_t)0x7ffff000) /* the kernel's MAX_RW_COUNT */

long (*blkio_inject)(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len);
void (*blkio_inject_data)(const struct blk_req *req);

static void list_add(struct req_list *l, struct blk_req *req)
{
	req->next = NULL;
	if (l->head == NULL)
		l->head = req;
	else
		l->tail->next = req;
	l->tail = req;
}

/* Put the chain first..last, which is linked but not ended, in front of l. */
static void list_prepend(struct req_list *l, struct blk_req *first, struct blk_req *last)
{
	last->next = l->head;
	if (l->head == NULL)
		l->tail = last;
	l->head = first;
}

static void req_end(struct blkio *q, struct blk_req *req, int res)
{
	req->res = res;
	req->ended = ++q->nended;
	if (res == 0 && req->op == BLK_READ && blkio_inject_data != NULL)
		blkio_inject_data(req);
	list_add(&q->done, req);
}

/* Sorting. */

/* The order of the bytes of requests of one operation. */
static bool pos_before(const struct blk_req *a, const struct blk_req *b)
{
	if (a->dev != b->dev)
		return (uintptr_t)a->dev < (uintptr_t)b->dev;
	return a->off < b->off;
}

static bool disk_before(const struct blk_req *a, const struct blk_req *b)
{
	return a->op != b->op ? a->op < b->op : pos_before(a, b);
}

static bool queued_before(const struct blk_req *a, const struct blk_req *b)
{
	return a->seq < b->seq;
}

typedef bool (*req_before)(const struct blk_req *a, const struct blk_req *b);

/* Stable: of equals the one from a goes first. */
static struct blk_req *merge(struct blk_req *a, struct blk_req *b, req_before before)
{
	struct blk_req *head = NULL, **tail = &head;

	while (a != NULL && b != NULL) {
		struct blk_req **least = before(b, a) ? &b : &a;

		*tail = *least;
		tail = &(*least)->next;
		*least = (*least)->next;
	}
	*tail = a != NULL ? a : b;
	return head;
}

/* Merge sort from below: bin i holds a sorted chain of 2^i requests. */
static void list_sort(struct req_list *l, req_before before)
{
	struct blk_req *bin[32] = {NULL}, *req = l->head, *all = NULL;
	unsigned nbin = 0;

	while (req != NULL) {
		struct blk_req *one = req;
		unsigned i;

		req = req->next;
		one->next = NULL;
		for (i = 0; i < nbin && bin[i] != NULL; i++) {
			one = merge(bin[i], one, before);
			bin[i] = NULL;
		}
		if (i == nbin)
			nbin++;
		bin[i] = one;
	}
	for (unsigned i = 0; i < nbin; i++)
		if (bin[i] != NULL)
			all = merge(bin[i], all, before);
	l->head = all;
	while (all != NULL && all->next != NULL)
		all = all->next;
	l->tail = all;
}

/* Whether requests of a chain in disk order overlap, one of them a write. */
static bool chain_conflicts(struct blk_req *head)
{
	const struct blk_req *r = head, *w = head;
	const struct blk_dev *dev = NULL;
	uint64_t read_end = 0, write_end = 0; /* of what was passed on dev */

	while (w != NULL && w->op == BLK_READ)
		w = w->next;
	if (w == NULL)
		return false;
	/* Pass over reads and writes together, by position. */
	while (w != NULL || r->op == BLK_READ) {
		bool read = r->op == BLK_READ && (w == NULL || pos_before(r, w));
		const struct blk_req *x = read ? r : w;

		if (x->dev != dev) {
			dev = x->dev;
			read_end = write_end = 0;
		}
		if (x->off < write_end || (!read && x->off < read_end))
			return true;
		if (read) {
			if (x->off + x->len > read_end)
				read_end = x->off + x->len;
			r = r->next;
		} else {
			write_end = x->off + x->len;
			w = w->next;
		}
	}
	return false;
}

static void unplug(struct blkio *q)
{
	if (q->plug.head == NULL)
		return;
	if (q->plug.head != q->plug.tail) {
		if (!q->plug_sorted)
			list_sort(&q->plug, disk_before);
		if (chain_conflicts(q->plug.head))
			list_sort(&q->plug, queued_before);
	}
	if (q->waiting.head == NULL)
		q->waiting.head = q->plug.head;
	else
		q->waiting.tail->next = q->plug.head;
	q->waiting.tail = q->plug.tail;
	q->plug.head = q->plug.tail = NULL;
}

/* Submissions. */

static bool active_conflict(const struct blkio *q, const struct blk_req *req, uint64_t len)
{
	for (unsigned i = 0; i < q->nactive; i++) {
		const struct blk_sub *s = q->active[i];

		if (s->dev == req->dev && (s->op == BLK_WRITE || req->op == BLK_WRITE) &&
		    req->off < s->off + s->len && s->off < req->off + len)
			return true;
	}
	return false;
}

/*
 * Make a submission of the head of `waiting` and of what may be merged with
 * it.  NULL when there is none to make, or none may be started now.
 */
static struct blk_sub *sub_build(struct blkio *q)
{
	struct blk_req *first = q->waiting.head, *last = first;
	struct blk_sub *s = q->free;
	unsigned niov;
	uint64_t len;

	if (first == NULL || s == NULL)
		return NULL;
	niov = first->niov;
	len = first->len;
	if (!first->alone) {
		for (struct blk_req *r = first->next; r != NULL; r = r->next) {
			if (r->alone || r->dev != first->dev || r->op != first->op ||
			    r->off != first->off + len || niov + r->niov > BLK_IOV_MAX ||
			    len + r->len > BLK_MERGE_MAX)
				break;
			niov += r->niov;
			len += r->len;
			last = r;
		}
	}
	if (active_conflict(q, first, len))
		return NULL;
	q->waiting.head = last->next;
	last->next = NULL;
	q->free = s->next;
	s->first = first;
	s->dev = first->dev;
	s->op = first->op;
	s->off = first->off;
	s->len = len;
	s->moved = 0;
	s->tries = 0;
	s->index = q->nactive;
	q->active[q->nactive++] = s;
	return s;
}

/* The memory for `len` bytes from s->moved; pieces that follow each other become one. */
static void sub_own_iov(struct blk_sub *s, uint64_t len)
{
	uint64_t skip = s->moved;

	s->niov = 0;
	s->iov = s->own;
	for (const struct blk_req *r = s->first; r != NULL && len != 0; r = r->next) {
		for (unsigned i = 0; i < r->niov && len != 0; i++) {
			char *base = r->iov[i].iov_base;
			uint64_t n = r->iov[i].iov_len;
			struct iovec *last = s->niov != 0 ? &s->own[s->niov - 1] : NULL;

			if (skip >= n) {
				skip -= n;
				continue;
			}
			base += skip;
			n -= skip;
			skip = 0;
			if (n > len)
				n = len;
			len -= n;
			if (last != NULL && (char *)last->iov_base + last->iov_len == base) {
				last->iov_len += n;
			} else {
				s->own[s->niov].iov_base = base;
				s->own[s->niov++].iov_len = n;
			}
		}
	}
}

static void sub_attempt(struct blkio *q, struct blk_sub *s)
{
	uint64_t len = s->len - s->moved;

	if (blkio_inject != NULL) {
		long r = blkio_inject(s->op, s->dev, sub_pos(s), len);
		uint64_t most = ((uint64_t)r + SECTOR - 1) & ~(SECTOR - 1);

		if (r < 0) {
			sub_ended(q, s, r);
			return;
		}
		if (r > 0 && most < len)
			len = most;
	}
	if (len > ATTEMPT_MAX)
		len = ATTEMPT_MAX;
	if (s->first->next == NULL && len == s->len) {
		s->iov = s->first->iov;
		s->niov = s->first->niov;
	} else {
		sub_own_iov(s, len);
	}
	q->engine->start(q, s);
}

/* Give the submission back; its requests, which the caller has, stay linked. */
static void sub_free(struct blkio *q, struct blk_sub *s)
{
	struct blk_sub *last = q->active[--q->nactive];

	q->active[s->index] = last;
	last->index = s->index;
	s->next = q->free;
	q->free = s;
}

/* It failed with err after s->moved bytes: each request that is not whole is tried alone. */
static void sub_failed(struct blkio *q, struct blk_sub *s, int err)
{
	struct blk_req *req = s->first;
	uint64_t good = s->off + s->moved;

	sub_free(q, s);
	if (req->next == NULL) {
		req_end(q, req, err);
		return;
	}
	while (req != NULL && req->off + req->len <= good) {
		struct blk_req *next = req->next;

		req_end(q, req, 0);
		req = next;
	}
	if (req != NULL) {
		struct blk_req *last = req;

		for (last->alone = true; last->next != NULL; last->alone = true)
			last = last->next;
		list_prepend(&q->waiting, req, last);
	}
}

static void sub_whole(struct blkio *q, struct blk_sub *s)
{
	struct blk_req *req = s->first, *next;

	sub_free(q, s);
	for (; req != NULL; req = next) {
		next = req->next;
		req_end(q, req, 0);
	}
}

/* A read met the end of its file, after s->res bytes of the attempt: zeros follow. */
static void sub_at_end(struct blkio *q, struct blk_sub *s)
{
	s->moved += (uint64_t)s->res;
	sub_own_iov(s, s->len - s->moved);
	for (unsigned i = 0; i < s->niov; i++)
		memset(s->own[i].iov_base, 0, s->own[i].iov_len);
	sub_whole(q, s);
}

/* Decide what becomes of a submission whose attempt ended. */
static void sub_settle(struct blkio *q, struct blk_sub *s)
{
	uint64_t left = s->len - s->moved;

	if (s->res > 0) {
		uint64_t n = (uint64_t)s->res;

		if (s->dev->file && s->op == BLK_READ && n < left && n % SECTOR != 0) {
			sub_at_end(q, s);
			return;
		}
		n = n < left ? n & ~(SECTOR - 1) : left;
		s->moved += n;
		if (n == left) {
			sub_whole(q, s);
		} else if (n != 0) {
			s->tries = 0;
			sub_attempt(q, s);
		} else {
			sub_failed(q, s, -EIO);
		}
	} else if (s->res == 0 && op_is_bare(s->op)) {
		sub_whole(q, s);
	} else if (s->res == 0 && s->dev->file && s->op == BLK_READ) {
		sub_at_end(q, s);
	} else if ((s->res == -EINTR || s->res == -EAGAIN || s->res == -ECANCELED) &&
		   ++s->tries < BLKIO_TRIES) {
		sub_attempt(q, s);
	} else {
		sub_failed(q, s, s->res < 0 ? (int)s->res : -EIO);
	}
}

/*
 * Settle what ended and start what may be started, until nothing more comes of
 * it: an attempt may end within engine->start().
 */
static void advance(struct blkio *q)
{
	struct blk_sub *s;

	do {
		while ((s = q->ended) != NULL) {
			q->ended = s->next;
			if (q->ended == NULL)
				q->ended_tail = &q->ended;
			sub_settle(q, s);
		}
		while ((s = sub_build(q)) != NULL)
			sub_attempt(q, s);
	} while (q->ended != NULL);
}

/* The interface. */

bool blkio_is_sync(const struct blkio *q)
{
	return q->engine == &blkio_sync;
}

const char *blkio_engine_name(const struct blkio *q)
{
	return q->engine->name;
}

static size_t round_up(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

static int open_engine(struct blkio **out, const struct blkio_engine *engine, unsigned depth)
{
	size_t priv = round_up(sizeof(struct blkio));
	size_t subs = priv + round_up(engine->priv_size);
	size_t active = subs + round_up(depth * sizeof(struct blk_sub));
	/* the iovecs from a page's start: BLK_IOV_MAX of them are two pages */
	size_t iovs = (active + depth * sizeof(struct blk_sub *) + ALIGN_MASK) & ~ALIGN_MASK;
	size_t size = iovs + depth * BLK_IOV_MAX * sizeof(struct iovec);
	char *mem = sys_mem_alloc(size);
	struct blkio *q = (struct blkio *)(void *)mem;
	int err;

	if (mem == NULL)
		return -ENOMEM;
	q->engine = engine;
	q->priv = mem + priv;
	q->mem_size = size;
	q->depth = depth;
	q->also = -1;
	q->ended_tail = &q->ended;
	q->subs = (struct blk_sub *)(void *)(mem + subs);
	q->active = (struct blk_sub **)(void *)(mem + active);
	for (unsigned i = depth; i-- != 0;) {
		struct blk_sub *s = &q->subs[i];

		s->own = (struct iovec *)(void *)(mem + iovs) + (size_t)i * BLK_IOV_MAX;
		s->next = q->free;
		q->free = s;
	}
	err = engine->open(q);
	if (err != 0) {
		sys_mem_free(mem, size);
		return err;
	}
	*out = q;
	return 0;
}

static int open_any(struct blkio **out, enum fl_engine engine, const struct blkio_engine *uring,
		    unsigned depth)
{
	if (depth == 0 || depth > BLKIO_DEPTH_MAX)
		return -EINVAL;
	switch (engine) {
	case FL_ENGINE_AUTO:
		if (open_engine(out, uring, depth) == 0)
			return 0;
		return open_engine(out, &blkio_sync, depth);
	case FL_ENGINE_URING:
		return open_engine(out, uring, depth);
	case FL_ENGINE_SYNC:
		return open_engine(out, &blkio_sync, depth);
	}
	return -EINVAL;
}

int blkio_open(struct blkio **out, enum fl_engine engine, unsigned depth)
{
	return open_any(out, engine, &blkio_uring, depth);
}

int blkio_open_restricted(struct blkio **out, enum fl_engine engine, unsigned depth)
{
	return open_any(out, engine, &blkio_uring_restricted, depth);
}

void blkio_close(struct blkio *q)
{
	q->engine->unwatch(q);
	q->engine->close(q);
	sys_mem_free(q, q->mem_size);
}

void blkio_forget(struct blkio *q)
{
	sys_mem_free(q, q->mem_size);
}

void blkio_queue(struct blkio *q, struct blk_req *req)
{
	uint64_t size = __atomic_load_n(&req->dev->size, __ATOMIC_RELAXED);
	uint64_t odd = req->off;

	q->inflight++;
	req->seq = q->seq++;
	req->alone = false;
	req->len = 0;
	if (op_is_bare(req->op) && req->niov == 0) {
		q->plug_sorted = false;
		req->alone = true;
		list_add(&q->plug, req);
		return;
	}
	if (req->niov == 0 || req->niov > BLK_IOV_MAX) {
		req_end(q, req, -EINVAL);
		return;
	}
	for (unsigned i = 0; i < req->niov; i++) {
		odd |= (uintptr_t)req->iov[i].iov_base;
		if (!req->dev->file || req->op != BLK_WRITE || i + 1 < req->niov)
			odd |= req->iov[i].iov_len;
		req->len += req->iov[i].iov_len;
	}
	if ((odd & ALIGN_MASK) != 0 || req->len == 0) {
		req_end(q, req, -EINVAL);
		return;
	}
	if (req->off > size || req->len > size - req->off) {
		req_end(q, req, -ERANGE);
		return;
	}
	q->plug_sorted =
		q->plug.head == NULL || (q->plug_sorted && !disk_before(req, q->plug.tail));
	list_add(&q->plug, req);
}

void blkio_flush(struct blkio *q)
{
	q->engine->collect(q, false);
	unplug(q);
	advance(q);
	q->engine->submit(q);
}

unsigned blkio_inflight(const struct blkio *q)
{
	return q->inflight;
}

uint64_t blkio_ended(const struct blkio *q)
{
	return q->nended;
}

int blkio_wait(struct blkio *q, int fd, uint64_t timeout_ns)
{
	bool timed = timeout_ns != 0 && timeout_ns != UINT64_MAX;
	uint64_t start = timed ? sys_now() : 0;
	uint64_t left = timeout_ns;

	if (fd < 0 && q->inflight == 0 && timeout_ns == UINT64_MAX)
		return -EINVAL;
	q->engine->collect(q, false);
	unplug(q);
	for (;;) {
		int r, mask;

		advance(q);
		r = q->engine->wait(q, fd, q->done.head != NULL ? 0 : left);
		advance(q);
		if (r < 0)
			return r;
		mask = r | (q->done.head != NULL ? BLKIO_COMPLETED : 0);
		if (mask != 0 || timeout_ns == 0)
			return mask;
		if (timed) {
			uint64_t gone = sys_now() - start;

			if (gone >= timeout_ns)
				return 0;
			left = timeout_ns - gone;
		}
	}
}

bool blkio_ready(const struct blkio *q)
{
	return q->done.head != NULL || q->ended != NULL || q->engine->ready(q);
}

void blkio_watch(struct blkio *q, int fd)
{
	q->engine->watch(q, fd);
}

void blkio_also(struct blkio *q, int fd)
{
	q->also = fd;
}

void blkio_unwatch(struct blkio *q)
{
	q->also = -1;
	q->engine->unwatch(q);
}

unsigned blkio_reap_some(struct blkio *q, unsigned most)
{
	struct blk_req *req, *next, *last;
	unsigned n = 0;

	q->engine->collect(q, true);
	advance(q);
	/* what ends within a callback is for the next call */
	req = q->done.head;
	last = q->done.tail;
	q->done.head = q->done.tail = NULL;
	for (; req != NULL && n < most; req = next) {
		next = req->next;
		q->inflight--;
		n++;
		req->done(req, req->res);
	}
	if (req != NULL)
		list_prepend(&q->done, req, last);
	return n;
}

unsigned blkio_reap(struct blkio *q)
{
	return blkio_reap_some(q, UINT_MAX);
}
