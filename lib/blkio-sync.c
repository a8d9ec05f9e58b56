/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkio-sync.c - the engine without an asynchronous interface: an attempt is a
 * system call, made when it is started.
 *
 * Everything has ended when blkio_flush() returns, so a wait is for the
 * descriptor alone.
 */
#include "blkio-engine.h"

#include "sys.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/syscall.h>

#define SELECT_FDS 1024
#define LOOK_NS 1000000U /* how often is looked where there is no way to wait for descriptors */

int64_t sync_attempt(const struct blk_sub *sub)
{
	int fd = sub->dev->fd;
	uint64_t pos = sub_pos(sub);

	if (sub->op == BLK_SYNC)
		return SYS1(fsync, fd);
	if (sub->op == BLK_PUNCH)
		return SYS4(fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos,
			    sub->first->hole);

	/* The high half of the position (the fifth argument) is for 32-bit machines. */
	if (sub->niov == 1) {
		void *base = sub->iov[0].iov_base;
		size_t len = sub->iov[0].iov_len;

		return sub->op == BLK_READ ? SYS4(pread, fd, base, len, pos)
					   : SYS4(pwrite, fd, base, len, pos);
	}
	return sub->op == BLK_READ ? SYS5(preadv, fd, sub->iov, sub->niov, pos, 0)
				   : SYS5(pwritev, fd, sub->iov, sub->niov, pos, 0);
}

int sync_poll(int fd, int also, uint64_t timeout_ns)
{
	struct pollfd pfd[2] = {{.fd = fd, .events = POLLIN}, {.fd = also, .events = POLLIN}};
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(timeout_ns / 1000000000U),
		.tv_nsec = (int64_t)(timeout_ns % 1000000000U),
	};
	unsigned n = fd < 0 ? 0 : also < 0 ? 1 : 2;
	long r = SYS5(poll, pfd, n, timeout_ns != UINT64_MAX ? &ts : NULL, NULL, 8);

	if (r == -EINTR)
		return 0;
	if (r < 0)
		return (int)r;
	if (((pfd[0].revents | pfd[1].revents) & POLLNVAL) != 0)
		return -EBADF;
	return (pfd[0].revents != 0 ? BLKIO_READABLE : 0) | (pfd[1].revents != 0 ? BLKIO_ALSO : 0);
}

static bool is_set(const uint64_t *set, int fd)
{
	return fd >= 0 && (set[fd / 64] >> fd % 64 & 1) != 0;
}

/* As sync_poll(), of low numbers only, but whatever the process's limit of descriptors. */
static int sync_select(int fd, int also, uint64_t timeout_ns)
{
	struct __kernel_timespec ts = {
		.tv_sec = (int64_t)(timeout_ns / 1000000000U),
		.tv_nsec = (int64_t)(timeout_ns % 1000000000U),
	};
	uint64_t set[SELECT_FDS / 64] = {0};
	long r;

	set[fd / 64] |= (uint64_t)1 << fd % 64;
	if (also >= 0)
		set[also / 64] |= (uint64_t)1 << also % 64;
	r = sys_bare(SYS_pselect6, (fd > also ? fd : also) + 1, (long)set, 0, 0,
		     timeout_ns != UINT64_MAX ? (long)&ts : 0, 0);
	if (r <= 0)
		return r == -EINTR ? 0 : (int)r;
	return (is_set(set, fd) ? BLKIO_READABLE : 0) | (is_set(set, also) ? BLKIO_ALSO : 0);
}

int sync_look(int fd, int also, uint64_t timeout_ns)
{
	int r = sync_poll(fd, also, timeout_ns);

	if (r != -EINVAL || fd < 0)
		return r;
	if (fd < SELECT_FDS && also < SELECT_FDS)
		return sync_select(fd, also, timeout_ns);
	sync_poll(-1, -1, timeout_ns < LOOK_NS ? timeout_ns : LOOK_NS);
	return BLKIO_READABLE | (also >= 0 ? BLKIO_ALSO : 0);
}

static int sync_open(struct blkio *q)
{
	(void)q;
	return 0;
}

static void sync_nothing(struct blkio *q)
{
	(void)q;
}

static void sync_start(struct blkio *q, struct blk_sub *sub)
{
	sub_ended(q, sub, sync_attempt(sub));
}

static void sync_collect(struct blkio *q, bool enter)
{
	(void)q;
	(void)enter;
}

static bool sync_ready(const struct blkio *q)
{
	(void)q;
	return false;
}

static void sync_watch(struct blkio *q, int fd)
{
	(void)q;
	(void)fd;
}

static int sync_wait(struct blkio *q, int fd, uint64_t timeout_ns)
{
	if (fd < 0 && timeout_ns == 0)
		return 0;
	return sync_look(fd, q->also, timeout_ns);
}

const struct blkio_engine blkio_sync = {
	.name = "sync",
	.open = sync_open,
	.close = sync_nothing,
	.start = sync_start,
	.submit = sync_nothing,
	.collect = sync_collect,
	.ready = sync_ready,
	.wait = sync_wait,
	.watch = sync_watch,
	.unwatch = sync_nothing,
};
