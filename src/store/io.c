/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * io.c - the data of files and areas, by one io_uring.
 *
 * Workers submit, one at a time, and go on with the next request; one thread
 * waits for completions and answers from there.  A read of what the host has
 * in its page cache is answered at once, by the worker: preadv2(2) with
 * RWF_NOWAIT says whether that is so.
 *
 * The ring may read, write and sync, nothing else: what it does is not seen by
 * the list of confine.c.
 *
 * A read or write that the host answers in part is answered in part, as read(2)
 * and write(2) may be; a read goes on until the end of the file, as the kernel
 * takes a short one for that.
 */
#include "shared.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_ENTRIES 256U
#define WAITING_MAX 256U

struct io {
	fuse_req_t req;
	enum tally_op op;
	struct beside beside; /* writes to files */
	int fd;
	void *mem; /* to be freed */
	char *buf;
	size_t size;
	size_t done;   /* bytes that are read already */
	bool append;   /* writes */
	bool datasync; /* syncs */
	int err;       /* syncs: what is answered whatever comes of it; 0: that is */
	off_t off;
	void (*ended)(void *arg, int res); /* instead of an answer */
	void *arg;
};

static struct io_uring ring;
static pthread_mutex_t submit_lock = PTHREAD_MUTEX_INITIALIZER; /* of the submission side */
static pthread_t answerer;

/* Not all builds of liburing 2.3 export their functions for these two. */
static int ring_register(unsigned what, void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring.ring_fd, what, arg, n) < 0 ? -errno : 0;
}

int io_start(struct why *why)
{
	struct io_uring_restriction only[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_NOP},
	};
	/* What the host cannot do asynchronously each keeps one of the kernel's threads. */
	unsigned waiting[2] = {WAITING_MAX, WAITING_MAX};
	int err = io_uring_queue_init(RING_ENTRIES, &ring, IORING_SETUP_R_DISABLED);

	if (err == 0) {
		err = ring_register(IORING_REGISTER_IOWQ_MAX_WORKERS, waiting, 2);
		if (err == 0)
			err = ring_register(IORING_REGISTER_RESTRICTIONS, only,
					    sizeof(only) / sizeof(only[0]));
		if (err == 0)
			err = ring_register(IORING_REGISTER_ENABLE_RINGS, NULL, 0);
		if (err != 0)
			io_uring_queue_exit(&ring);
	}
	if (err != 0)
		return why_set(why, err, "io_uring cannot be set up: %s", strerror(-err));
	return 0;
}

static void io_free(struct io *io)
{
	free(io->mem);
	free(io);
	tally_sub(&tally.inflight, 1);
}

/*
 * A write has ended.  One that appends has done so at the file's end: the kernel lets no other one
 * begin before, and the parts of a direct one have their places (ops.c).  Accepted: who makes
 * the file longer past the mount at that very time.
 */
static void end_beside(struct io *io, size_t written)
{
	uint64_t off = (uint64_t)io->off;
	struct stat st;

	if (io->append && fstat(io->fd, &st) == 0)
		off = (uint64_t)st.st_size - written;
	shared_beside_end(&io->beside, io->buf, written, off);
}

static void io_answer(struct io *io, int res)
{
	if (io->op == TALLY_write)
		end_beside(io, res > 0 ? (size_t)res : 0);
	if (io->ended != NULL) {
		io->ended(io->arg,
			  res < 0 && io->done == 0 ? res : (int)io->done + (res > 0 ? res : 0));
	} else if (io->err != 0) {
		ops_error(io->req, io->op, io->err);
	} else if (res < 0 && io->done == 0) {
		ops_error(io->req, io->op, -res);
	} else if (io->op == TALLY_read) {
		size_t n = io->done + (res > 0 ? (size_t)res : 0);

		tally_add(&tally.read_bytes, n);
		fuse_reply_buf(io->req, io->buf, n);
	} else if (io->op == TALLY_write) {
		tally_add(&tally.written_bytes, (uint64_t)res);
		fuse_reply_write(io->req, (size_t)res);
	} else {
		fuse_reply_err(io->req, 0);
	}
	io_free(io);
}

/* What was prepared, under the lock. */
static void submit(void)
{
	int r;

	do
		r = io_uring_submit(&ring);
	while (r == -EINTR || r == -EAGAIN || r == -EBUSY);
	if (r < 0) {
		/* The kernel takes what it is given; else the ring itself is broken. */
		fprintf(stderr, "faultline: io_uring: %s\n", strerror(-r));
		abort();
	}
}

static void io_submit(struct io *io)
{
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&submit_lock);
	/* What was got before was submitted before: there is room. */
	sqe = io_uring_get_sqe(&ring);
	if (io->op == TALLY_read) {
		io_uring_prep_read(sqe, io->fd, io->buf + io->done, (unsigned)(io->size - io->done),
				   (uint64_t)io->off + io->done);
	} else if (io->op == TALLY_write) {
		io_uring_prep_write(sqe, io->fd, io->buf, (unsigned)io->size, (uint64_t)io->off);
		if (io->append)
			sqe->rw_flags = RWF_APPEND;
	} else {
		io_uring_prep_fsync(sqe, io->fd, io->datasync ? IORING_FSYNC_DATASYNC : 0);
	}
	io_uring_sqe_set_data(sqe, io);
	submit();
	pthread_mutex_unlock(&submit_lock);
}

static void *answer(void *arg)
{
	bool stopping = false;

	(void)arg;
	while (!stopping || __atomic_load_n(&tally.inflight, __ATOMIC_RELAXED) != 0) {
		struct io_uring_cqe *cqe;
		struct io *io;
		int r = io_uring_wait_cqe(&ring, &cqe);

		if (r != 0)
			continue;
		io = io_uring_cqe_get_data(cqe);
		r = cqe->res;
		io_uring_cqe_seen(&ring, cqe);
		if (io == NULL)
			stopping = true;
		else if (r == -EINTR || r == -EAGAIN)
			io_submit(io);
		else if (io->op == TALLY_read && r > 0 && io->done + (size_t)r < io->size) {
			io->done += (size_t)r;
			io_submit(io);
		} else {
			io_answer(io, r);
		}
	}
	return NULL;
}

int io_thread(struct why *why)
{
	int err = pthread_create(&answerer, NULL, answer, NULL);

	if (err != 0)
		return why_set(why, -err, "a thread cannot be made: %s", strerror(err));
	return 0;
}

void io_stop(void)
{
	struct io_uring_sqe *sqe;

	/* Nobody submits any more, but the answerer the rest of short reads. */
	pthread_mutex_lock(&submit_lock);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	submit();
	pthread_mutex_unlock(&submit_lock);
	pthread_join(answerer, NULL);
	io_uring_queue_exit(&ring);
}

static struct io *io_new(fuse_req_t req, enum tally_op op, int fd)
{
	struct io *io = calloc(1, sizeof(*io));

	if (io != NULL) {
		io->req = req;
		io->op = op;
		io->fd = fd;
		tally_add(&tally.inflight, 1);
	}
	return io;
}

/* What the page cache has of it; true when that is all there is to read. */
static bool read_cached(struct io *io)
{
	while (io->done < io->size) {
		struct iovec v = {io->buf + io->done, io->size - io->done};
		ssize_t n = preadv2(io->fd, &v, 1, io->off + (off_t)io->done, RWF_NOWAIT);

		if (n < 0)
			return false;
		if (n == 0)
			break;
		io->done += (size_t)n;
	}
	return true;
}

void io_read(fuse_req_t req, int fd, size_t size, off_t off)
{
	struct io *io = io_new(req, TALLY_read, fd);

	if (io != NULL)
		io->mem = io->buf = malloc(size != 0 ? size : 1);
	if (io == NULL || io->mem == NULL) {
		if (io != NULL)
			io_free(io);
		ops_error(req, TALLY_read, ENOMEM);
		return;
	}
	io->size = size;
	io->off = off;
	if (read_cached(io))
		io_answer(io, 0);
	else
		io_submit(io);
}

int io_ahead(int fd, char *buf, size_t size, off_t off, void (*done)(void *arg, int res), void *arg)
{
	struct io *io = io_new(NULL, TALLY_read, fd);

	if (io == NULL)
		return -ENOMEM;
	io->buf = buf;
	io->size = size;
	io->off = off;
	io->ended = done;
	io->arg = arg;
	io_submit(io);
	return 0;
}

bool io_write(fuse_req_t req, const struct node *n, int fd, const char *buf, size_t size, off_t off,
	      bool append)
{
	struct io *io = io_new(req, TALLY_write, fd);

	if (io == NULL) {
		ops_error(req, TALLY_write, ENOMEM);
		return true;
	}
	if (n != NULL) {
		shared_beside(&io->beside, n);
		if (shared_is_cached(n)) {
			shared_beside_end(&io->beside, NULL, 0, 0);
			io_free(io);
			return false;
		}
	}
	io->mem = ops_steal_buffer();
	io->buf = (char *)io->mem + (buf - (const char *)io->mem);
	io->size = size;
	io->off = off;
	io->append = append;
	io_submit(io);
	return true;
}

void io_fsync(fuse_req_t req, int fd, bool datasync, enum tally_op op, int err)
{
	struct io *io = io_new(req, op, fd);

	if (io == NULL) {
		ops_error(req, op, err != 0 ? err : ENOMEM);
		return;
	}
	io->datasync = datasync;
	io->err = err;
	io_submit(io);
}
