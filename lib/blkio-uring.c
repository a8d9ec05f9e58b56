/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkio-uring.c - the engine on io_uring(7).
 *
 * One ring a queue, made and used by one thread, so that the kernel needs no
 * lock of its own for it and runs completions only when that thread enters
 * the kernel for them (SINGLE_ISSUER, DEFER_TASKRUN).  Attempts become
 * entries of the submission ring when they are started; the kernel learns of
 * them with the next io_uring_enter(2), which for a pager that waits is the
 * wait itself.
 *
 * liburing maps the ring and prepares its entries, without malloc and errno:
 * these functions are inline or make bare system calls.  io_uring_setup and
 * io_uring_enter are made through the table of sys.h.
 *
 * Invariants.
 * 1. The submission ring has room for every submission of the queue and the
 *    two entries of each watch below, and the completion ring for twice that:
 *    neither is ever full.
 * 2. An attempt is in the submission ring, in the kernel, or in blkio.ended.
 * 3. At most one poll request is armed for each watch.  Its user_data holds a
 *    generation, so that the completion of one that was cancelled is told from the
 *    present one.
 *
 * Readiness is a level although a poll request completes once: completions of
 * the poll count only during a wait, and a wait that finds none armed arms
 * one, which completes at once when the descriptor is still readable.  The
 * entry rides on the io_uring_enter(2) of the wait and costs no call.
 *
 * Trouble.  When io_uring_enter(2) refuses new entries (no memory, a
 * completion backlog), what it has not taken is taken back and done by
 * preadv(2) and pwritev(2): slower, but nobody waits for the kernel to recover.
 */
#include "blkio-engine.h"

#include "sys.h"

#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#define TAG_POLL 1U /* low bits of user_data; a submission's address has none */
#define TAG_CANCEL 2U
#define TAG_MASK 3U
#define GENERATION 4U
#define WORKERS_MAX 512U
#define TROUBLE_NS 1000000U /* how often completions are looked for when waits fail */
#define TROUBLE_MAX 1000U   /* failures in a row after which a wait gives up */

struct watch {
	uint64_t tag; /* user_data of the present poll request */
	int fd;	      /* what it polls */
	bool armed;   /* it has not completed */
	bool polled;  /* it completed since this was cleared, with */
	int res;
};

struct uring {
	struct io_uring ring;
	struct watch watch[2]; /* the descriptor of waits, and the one beside it */
	uint64_t last_tag;
	unsigned failures; /* of io_uring_enter(2) in waits, in a row */
};

static struct uring *ring_of(const struct blkio *q)
{
	return q->priv;
}

/* Entries that the kernel has not taken. */
static unsigned untaken(const struct uring *u)
{
	return u->ring.sq.sqe_tail - io_uring_smp_load_acquire(u->ring.sq.khead);
}

/* Take every completion out of the ring. */
static void drain(struct blkio *q)
{
	struct uring *u = ring_of(q);
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		uint64_t data = cqe->user_data;

		n++;
		if ((data & TAG_MASK) == 0) {
			sub_ended(q, (struct blk_sub *)(uintptr_t)data, cqe->res);
			continue;
		}
		for (unsigned i = 0; i < 2; i++) {
			struct watch *w = &u->watch[i];

			if (!w->armed || data != w->tag)
				continue;
			w->armed = false;
			w->polled = true;
			w->res = cqe->res;
		}
	}
	io_uring_cq_advance(&u->ring, n);
}

/*
 * io_uring_enter(2): hand over what is in the submission ring and wait for
 * min_complete completions.  How many entries were taken, or -errno.
 */
static long enter(struct uring *u, unsigned min_complete, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(timeout_ns / 1000000000U),
		.tv_nsec = (int64_t)(timeout_ns % 1000000000U),
	};
	struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&ts};
	bool timed = min_complete != 0 && timeout_ns != UINT64_MAX;
	unsigned flags = IORING_ENTER_GETEVENTS | (timed ? IORING_ENTER_EXT_ARG : 0);

	/*
	 * The entries are in place before the tail that shows them: pairs with
	 * the kernel's acquire load of the tail.
	 */
	io_uring_smp_store_release(u->ring.sq.ktail, u->ring.sq.sqe_tail);
	u->ring.sq.sqe_head = u->ring.sq.sqe_tail;
	return SYS6(uring_enter, u->ring.ring_fd, untaken(u), min_complete, flags,
		    timed ? &arg : NULL, timed ? sizeof(arg) : 0);
}

/* An error of io_uring_enter(2) after which all is as before. */
static bool passes(long err)
{
	return err == -EINTR || err == -ETIME;
}

/*
 * Take back the entries that the kernel would not take, and do them without
 * it.  The kernel reads the tail in io_uring_enter(2) alone, so it may move back.
 */
static void take_back(struct blkio *q)
{
	struct uring *u = ring_of(q);
	unsigned head = io_uring_smp_load_acquire(u->ring.sq.khead);
	unsigned tail = u->ring.sq.sqe_tail;

	u->ring.sq.sqe_tail = u->ring.sq.sqe_head = head;
	io_uring_smp_store_release(u->ring.sq.ktail, head);
	for (; head != tail; head++) {
		uint64_t data = u->ring.sq.sqes[head & u->ring.sq.ring_mask].user_data;

		if ((data & TAG_MASK) == 0) {
			struct blk_sub *sub = (struct blk_sub *)(uintptr_t)data;

			sub_ended(q, sub, sync_attempt(sub));
			continue;
		}
		for (unsigned i = 0; i < 2; i++)
			if (data == u->watch[i].tag)
				u->watch[i].armed = false;
	}
}

static void uring_submit(struct blkio *q)
{
	struct uring *u = ring_of(q);

	while (untaken(u) != 0) {
		long r = enter(u, 0, 0);

		if (r <= 0 && !passes(r)) {
			take_back(q);
			return;
		}
	}
}

static struct io_uring_sqe *entry(struct blkio *q)
{
	struct uring *u = ring_of(q);
	struct io_uring_sqe *sqe;

	/* Invariant 1 holds as long as each wait hands over what it adds. */
	while ((sqe = io_uring_get_sqe(&u->ring)) == NULL)
		uring_submit(q);
	return sqe;
}

/* Attempts. */

static void uring_start(struct blkio *q, struct blk_sub *sub)
{
	struct io_uring_sqe *sqe = entry(q);
	bool vec = sub->niov != 1;
	const void *addr;
	unsigned len;
	int op;

	if (sub->op == BLK_SYNC) {
		io_uring_prep_rw(IORING_OP_FSYNC, sqe, sub->dev->fd, NULL, 0, 0);
		io_uring_sqe_set_data(sqe, sub);
		return;
	}
	if (sub->op == BLK_PUNCH) {
		io_uring_prep_fallocate(sqe, sub->dev->fd,
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, sub_pos(sub),
					sub->first->hole);
		io_uring_sqe_set_data(sqe, sub);
		return;
	}
	addr = vec ? (const void *)sub->iov : sub->iov[0].iov_base;
	len = vec ? sub->niov : (unsigned)sub->iov[0].iov_len;
	if (sub->op == BLK_READ)
		op = vec ? IORING_OP_READV : IORING_OP_READ;
	else
		op = vec ? IORING_OP_WRITEV : IORING_OP_WRITE;
	io_uring_prep_rw(op, sqe, sub->dev->fd, addr, len, sub_pos(sub));
	io_uring_sqe_set_data(sqe, sub);
}

/* The kernel has completions that are not in the ring yet. */
static bool more(const struct uring *u)
{
	return (IO_URING_READ_ONCE(*u->ring.sq.kflags) &
		(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static void uring_collect(struct blkio *q, bool ask)
{
	struct uring *u = ring_of(q);

	if (ask && more(u))
		(void)enter(u, 0, 0); /* an error is left to the next wait */
	drain(q);
}

static bool uring_ready(const struct blkio *q)
{
	const struct uring *u = ring_of(q);

	return more(u) || io_uring_smp_load_acquire(u->ring.cq.ktail) != *u->ring.cq.khead;
}

/* The watches. */

static void disarm(struct blkio *q, const struct watch *w)
{
	struct io_uring_sqe *sqe = entry(q);

	io_uring_prep_rw(IORING_OP_POLL_REMOVE, sqe, -1, NULL, 0, 0);
	sqe->addr = w->tag;
	io_uring_sqe_set_data64(sqe, TAG_CANCEL);
}

static void arm(struct blkio *q, struct watch *w, int fd)
{
	struct uring *u = ring_of(q);
	struct io_uring_sqe *sqe;

	if (w->armed && w->fd == fd)
		return;
	if (w->armed)
		disarm(q, w);
	sqe = entry(q);
	u->last_tag += GENERATION;
	w->tag = u->last_tag;
	w->fd = fd;
	w->armed = true;
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data64(sqe, w->tag);
}

static void uring_watch(struct blkio *q, int fd)
{
	arm(q, &ring_of(q)->watch[0], fd);
}

static void uring_unwatch(struct blkio *q)
{
	struct uring *u = ring_of(q);

	uring_submit(q);
	/*
	 * A removal that meets a wake-up is refused (EALREADY), and the poll goes
	 * on when somebody else has read what there was: so each round asks anew,
	 * and waits for no more than the answer to that.
	 */
	for (unsigned i = 0; i < 2; i++)
		while (u->watch[i].armed) {
			long r;

			disarm(q, &u->watch[i]);
			r = enter(u, 1, UINT64_MAX);
			drain(q);
			if (r < 0 && !passes(r))
				return; /* closing the ring does it, if later */
		}
}

/* io_uring_enter(2) failed: go on without it.  As uring_wait(). */
static int in_trouble(struct blkio *q, int fd, uint64_t timeout_ns, int err)
{
	struct uring *u = ring_of(q);

	take_back(q);
	if (q->ended != NULL)
		return 0;
	if (++u->failures > TROUBLE_MAX && q->nactive != 0)
		return err;   /* what is in flight will not be heard of again */
	(void)enter(u, 0, 0); /* what it refuses may be the new entries alone */
	drain(q);
	if (q->ended != NULL)
		return 0;
	return sync_look(fd, q->also, timeout_ns < TROUBLE_NS ? timeout_ns : TROUBLE_NS);
}

static int uring_wait(struct blkio *q, int fd, uint64_t timeout_ns)
{
	struct uring *u = ring_of(q);
	const int fds[2] = {fd, fd >= 0 ? q->also : -1};
	bool hand_over;
	int mask = 0;
	long r;

	/*
	 * Nothing else can end it: poll(2) costs less than a poll request and its completion.
	 * The second watch, once armed, stays so for long, and is no reason against it.
	 */
	if (q->nactive == 0 && timeout_ns != 0 && fd >= 0 && !u->watch[0].armed &&
	    untaken(u) == 0) {
		/* a program may have fewer descriptors than two: the ring takes them all the same */
		r = sync_poll(fd, q->also, timeout_ns);
		if (r != -EINVAL)
			return (int)r;
	}
	for (unsigned i = 0; i < 2; i++) {
		u->watch[i].polled = false;
		if (fds[i] >= 0)
			arm(q, &u->watch[i], fds[i]);
	}
	hand_over = untaken(u) != 0;
	if (hand_over || timeout_ns != 0 || more(u)) {
		r = enter(u, timeout_ns != 0, timeout_ns);
		drain(q);
		if ((r < 0 && !passes(r)) || (r == 0 && hand_over))
			return in_trouble(q, fd, timeout_ns, (int)r);
		u->failures = 0;
	} else {
		drain(q);
	}
	for (unsigned i = 0; i < 2; i++) {
		const struct watch *w = &u->watch[i];

		if (fds[i] < 0 || !w->polled || w->res == -ECANCELED)
			continue;
		if (w->res < 0)
			return w->res;
		mask |= i == 0 ? BLKIO_READABLE : BLKIO_ALSO;
	}
	return mask;
}

/*
 * Requests that wait for a file's lock have a kernel's worker each.  As many as there are CPUs,
 * times four, and no others would find one: also not what the lock's holder waits for.
 */
static void allow_workers(const struct uring *u)
{
	unsigned most[2] = {u->ring.sq.ring_entries, 0};

	if (most[0] > WORKERS_MAX)
		most[0] = WORKERS_MAX;
	/* before Linux 5.15 there are those */
	(void)sys_bare(SYS_io_uring_register, u->ring.ring_fd, IORING_REGISTER_IOWQ_MAX_WORKERS,
		       (long)most, 2, 0, 0);
}

static int setup(struct uring *u, unsigned entries, unsigned flags)
{
	struct io_uring_params p = {.flags = flags};
	unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
	long fd = SYS2(uring_setup, entries, &p);
	int err;

	if (fd < 0)
		return (int)fd;
	err = (p.features & needed) == needed ? io_uring_queue_mmap((int)fd, &p, &u->ring)
					      : -ENOSYS;
	if (err != 0) {
		SYS1(close, fd);
		return err;
	}
	u->ring.features = p.features;
	/* Entry i of the ring is element i of the array of entries, always. */
	for (unsigned i = 0; i < u->ring.sq.ring_entries; i++)
		u->ring.sq.array[i] = i;
	/* Else the mapping in a child would keep the ring, and what it polls, alive. */
	(void)io_uring_ring_dontfork(&u->ring);
	allow_workers(u);
	return 0;
}

/* What a ring does passes no filter of system calls. */
static int restrict_ring(const struct uring *u)
{
	static const uint8_t op[] = {IORING_OP_READ,	 IORING_OP_READV,      IORING_OP_WRITE,
				     IORING_OP_WRITEV,	 IORING_OP_FSYNC,      IORING_OP_FALLOCATE,
				     IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE};
	struct io_uring_restriction only[sizeof(op)];
	long r;

	memset(only, 0, sizeof(only));
	for (unsigned i = 0; i < sizeof(op); i++) {
		only[i].opcode = IORING_RESTRICTION_SQE_OP;
		only[i].sqe_op = op[i];
	}
	r = sys_bare(SYS_io_uring_register, u->ring.ring_fd, IORING_REGISTER_RESTRICTIONS,
		     (long)only, sizeof(op), 0, 0);
	if (!sys_err(r))
		r = sys_bare(SYS_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
			     0, 0, 0, 0);
	return (int)r;
}

static int open_ring(struct blkio *q, unsigned more)
{
	/* The kernel takes the best that it knows. */
	static const unsigned tries[] = {
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
			IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	struct uring *u = ring_of(q);
	int err = -EINVAL;

	u->last_tag = u->watch[0].tag = u->watch[1].tag = TAG_POLL;
	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]) && err == -EINVAL; i++)
		err = setup(u, q->depth + 8, tries[i] | more);
	return err;
}

static int uring_open(struct blkio *q)
{
	return open_ring(q, 0);
}

static int uring_open_restricted(struct blkio *q)
{
	int err = open_ring(q, IORING_SETUP_R_DISABLED);

	if (err != 0)
		return err;
	err = restrict_ring(ring_of(q));
	if (err != 0)
		io_uring_queue_exit(&ring_of(q)->ring);
	return err;
}

static void uring_close(struct blkio *q)
{
	io_uring_queue_exit(&ring_of(q)->ring);
}

const struct blkio_engine blkio_uring = {
	.name = "uring",
	.priv_size = sizeof(struct uring),
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.submit = uring_submit,
	.collect = uring_collect,
	.ready = uring_ready,
	.wait = uring_wait,
	.watch = uring_watch,
	.unwatch = uring_unwatch,
};

const struct blkio_engine blkio_uring_restricted = {
	.name = "uring",
	.priv_size = sizeof(struct uring),
	.open = uring_open_restricted,
	.close = uring_close,
	.start = uring_start,
	.submit = uring_submit,
	.collect = uring_collect,
	.ready = uring_ready,
	.wait = uring_wait,
	.watch = uring_watch,
	.unwatch = uring_unwatch,
};
