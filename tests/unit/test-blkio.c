/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Block I/O, each case with both engines: data arrive where they belong,
 * neighbours are merged, an error meets only the request that it belongs to,
 * what overlaps keeps its order, and a wait ends for each of its reasons and
 * for no other.
 *
 * Files are opened for direct I/O where the filesystem has it.
 */
#include "test.h"

#include "rnd.h"
#include "blkio.h"
#include "sys.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define PAGE 4096U
#define FILE_PAGES 4096U
#define ATTEMPTS_MAX 65536U

struct env {
	enum fl_engine engine;
	struct blkio *q;
	struct blk_dev dev;
	char *mem; /* FILE_PAGES pages */
};

static enum fl_engine engines[] = {FL_ENGINE_URING, FL_ENGINE_SYNC};

/* What blkio_inject() saw and does. */
static struct attempt {
	enum blk_op op;
	uint64_t off, len;
} attempts[ATTEMPTS_MAX];
static unsigned nattempts;
static long (*inject_rule)(const struct attempt *a, unsigned nth);

static long inject(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	struct attempt a = {op, off, len};

	assert_non_null(dev);
	assert_true(nattempts < ATTEMPTS_MAX);
	attempts[nattempts++] = a;
	return inject_rule != NULL ? inject_rule(&a, nattempts - 1) : 0;
}

static void *pages(size_t n)
{
	void *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static int temp_file(uint64_t size)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	int fd, flags;

	snprintf(path, sizeof(path), "%s/faultline-test-XXXXXX", dir != NULL ? dir : "/var/tmp");
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	flags = fcntl(fd, F_GETFL);
	(void)fcntl(fd, F_SETFL, flags | O_DIRECT); /* refused: buffered it is */
	return fd;
}

static void open_queue(struct env *e, unsigned depth)
{
	if (e->q != NULL)
		blkio_close(e->q);
	assert_int_equal(blkio_open(&e->q, e->engine, depth), 0);
	assert_string_equal(blkio_engine_name(e->q),
			    e->engine == FL_ENGINE_URING ? "uring" : "sync");
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	e->engine = **(enum fl_engine **)state;
	e->dev.name = "test file";
	e->dev.size = (uint64_t)FILE_PAGES * PAGE;
	e->dev.fd = temp_file(e->dev.size);
	e->mem = pages(FILE_PAGES);
	seed = 88172645463325252U;
	nattempts = 0;
	inject_rule = NULL;
	blkio_inject = inject;
	blkio_inject_data = NULL;
	open_queue(e, 64);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	blkio_close(e->q);
	blkio_inject = NULL;
	blkio_inject_data = NULL;
	close(e->dev.fd);
	munmap(e->mem, (size_t)FILE_PAGES * PAGE);
	free(e);
	return 0;
}

/* A request with memory for its iovecs, and how it ended. */
struct io {
	struct blk_req req;
	struct iovec iov[4];
	bool ended;
	int res;
	struct io *then; /* queued by the callback */
	struct blkio *q;
};

static unsigned ended;

static void done(struct blk_req *req, int res)
{
	struct io *io = (struct io *)(void *)req;

	assert_false(io->ended);
	io->ended = true;
	io->res = res;
	ended++;
	if (io->then != NULL)
		blkio_queue(io->q, &io->then->req);
}

static void io_init(struct env *e, struct io *io, enum blk_op op, uint64_t page, void *mem,
		    unsigned npages)
{
	memset(io, 0, sizeof(*io));
	io->iov[0].iov_base = mem;
	io->iov[0].iov_len = (size_t)npages * PAGE;
	io->req.dev = &e->dev;
	io->req.op = op;
	io->req.off = page * PAGE;
	io->req.iov = io->iov;
	io->req.niov = 1;
	io->req.done = done;
	io->q = e->q;
}

static void finish(struct env *e)
{
	while (blkio_inflight(e->q) != 0) {
		int r = blkio_wait(e->q, -1, UINT64_MAX);

		assert_int_equal(r, BLKIO_COMPLETED);
		assert_true(blkio_reap(e->q) > 0);
	}
}

static int one(struct env *e, enum blk_op op, uint64_t page, void *mem, unsigned npages)
{
	struct io io;

	io_init(e, &io, op, page, mem, npages);
	blkio_queue(e->q, &io.req);
	finish(e);
	assert_true(io.ended);
	return io.res;
}

/* Content that tells page and generation. */
static void fill(void *mem, uint64_t page, unsigned generation)
{
	uint64_t *w = mem;

	for (unsigned i = 0; i < PAGE / 8; i++)
		w[i] = page << 40 | (uint64_t)generation << 16 | i;
}

static void check(const void *mem, uint64_t page, unsigned generation)
{
	char want[PAGE];

	fill(want, page, generation);
	assert_memory_equal(mem, want, PAGE);
}

/* The file's first n pages as another reader sees them; good until the next call. */
static const char *file_now(struct env *e, unsigned n)
{
	static char *buf;

	if (buf == NULL)
		buf = pages(FILE_PAGES);
	assert_int_equal(pread(e->dev.fd, buf, (size_t)n * PAGE, 0), (ssize_t)n * PAGE);
	return buf;
}

/* Write generation g to pages 0 to n - 1. */
static void write_pages(struct env *e, unsigned n, unsigned g)
{
	char *buf = pages(n);

	for (unsigned i = 0; i < n; i++)
		fill(buf + (size_t)i * PAGE, i, g);
	assert_int_equal(pwrite(e->dev.fd, buf, (size_t)n * PAGE, 0), (ssize_t)n * PAGE);
	munmap(buf, (size_t)n * PAGE);
}

static void writes_arrive_and_are_read(void **state)
{
	struct env *e = *state;
	const char *file;
	struct io io[3];

	for (unsigned i = 0; i < 9; i++)
		fill(e->mem + i * PAGE, 10 + i, 1);
	io_init(e, &io[0], BLK_WRITE, 10, e->mem, 1);
	/* one request from pieces of memory that lie apart */
	io_init(e, &io[1], BLK_WRITE, 11, e->mem + 1 * PAGE, 1);
	io[1].iov[1] = (struct iovec){e->mem + 2 * PAGE, 2 * PAGE};
	io[1].iov[2] = (struct iovec){e->mem + 4 * PAGE, 4 * PAGE};
	io[1].req.niov = 3;
	io_init(e, &io[2], BLK_WRITE, 18, e->mem + 8 * PAGE, 1);
	for (unsigned i = 0; i < 3; i++)
		blkio_queue(e->q, &io[i].req);
	assert_int_equal(blkio_inflight(e->q), 3);
	finish(e);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(io[i].res, 0);
	file = file_now(e, 19);
	for (unsigned i = 10; i < 19; i++)
		check(file + i * PAGE, i, 1);
	memset(e->mem, 0x55, 9 * PAGE);
	assert_int_equal(one(e, BLK_READ, 10, e->mem, 9), 0);
	for (unsigned i = 0; i < 9; i++)
		check(e->mem + i * PAGE, 10 + i, 1);
}

static void callbacks_run_in_reap_alone(void **state)
{
	struct env *e = *state;
	struct io io;

	io_init(e, &io, BLK_READ, 0, e->mem, 1);
	blkio_queue(e->q, &io.req);
	blkio_flush(e->q);
	assert_false(io.ended);
	assert_int_equal(blkio_inflight(e->q), 1);
	assert_int_equal(blkio_wait(e->q, -1, UINT64_MAX), BLKIO_COMPLETED);
	assert_false(io.ended);
	/* and again, for it was not called back yet */
	assert_int_equal(blkio_wait(e->q, -1, UINT64_MAX), BLKIO_COMPLETED);
	assert_int_equal(blkio_reap(e->q), 1);
	assert_true(io.ended);
	assert_int_equal(io.res, 0);
	assert_int_equal(blkio_inflight(e->q), 0);
	assert_int_equal(blkio_reap(e->q), 0);
}

/* In the order in which they ended; what ends meanwhile comes after those that are left. */
static void some_are_called_back_and_then_the_rest(void **state)
{
	struct env *e = *state;
	struct io io[6];

	/* out of bounds: each has ended when it was queued */
	for (unsigned i = 0; i < 6; i++)
		io_init(e, &io[i], BLK_READ, FILE_PAGES + i, e->mem, 1);
	io[0].then = &io[5];
	for (unsigned i = 0; i < 5; i++)
		blkio_queue(e->q, &io[i].req);
	assert_int_equal(blkio_reap_some(e->q, 2), 2);
	assert_true(io[0].ended && io[1].ended && !io[2].ended);
	assert_int_equal(blkio_inflight(e->q), 4);
	assert_int_equal(blkio_ended(e->q), 6);
	assert_int_equal(io[4].req.ended, 5);
	assert_true(blkio_ready(e->q));
	assert_int_equal(blkio_wait(e->q, -1, UINT64_MAX), BLKIO_COMPLETED);
	assert_int_equal(blkio_reap_some(e->q, 3), 3);
	assert_true(io[4].ended && !io[5].ended);
	assert_int_equal(blkio_reap_some(e->q, 3), 1);
	assert_true(io[5].ended);
	assert_int_equal(blkio_inflight(e->q), 0);
	assert_false(blkio_ready(e->q));
}

static void flush_and_reap_are_enough(void **state)
{
	struct env *e = *state;
	struct io io[8];
	unsigned n = 0;

	for (unsigned i = 0; i < 8; i++) {
		io_init(e, &io[i], BLK_READ, 7 * i, e->mem + i * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	blkio_flush(e->q);
	while (n < 8)
		n += blkio_reap(e->q);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(io[i].res, 0);
}

static void neighbours_are_merged(void **state)
{
	struct env *e = *state;
	static struct io io[1024];
	unsigned order[1024];
	const char *file;

	/* memory apart, queued in any order: 512 pieces are the most of one submission */
	for (unsigned i = 0; i < 1024; i++)
		order[i] = i;
	for (unsigned i = 1023; i > 0; i--) {
		unsigned j = rnd(i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (unsigned i = 0; i < 1024; i++) {
		unsigned p = order[i];
		char *mem = e->mem + (size_t)p * 2 * PAGE;

		fill(mem, p, 3);
		io_init(e, &io[i], BLK_WRITE, p, mem, 1);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_int_equal(nattempts, 2);
	assert_int_equal(attempts[0].off, 0);
	assert_int_equal(attempts[0].len, 512 * PAGE);
	assert_int_equal(attempts[1].off, 512 * PAGE);
	assert_int_equal(attempts[1].len, 512 * PAGE);
	file = file_now(e, 1024);
	for (unsigned i = 0; i < 1024; i++) {
		assert_int_equal(io[i].res, 0);
		check(file + (size_t)i * PAGE, i, 3);
	}
	/* memory that is adjacent too */
	nattempts = 0;
	for (unsigned i = 0; i < 256; i++) {
		io_init(e, &io[i], BLK_READ, i * 2, e->mem + (size_t)i * 2 * PAGE, 2);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_int_equal(nattempts, 1);
	for (unsigned i = 0; i < 512; i++)
		check(e->mem + (size_t)i * PAGE, i, 3);
	/* a gap, another direction, and another device end a submission */
	nattempts = 0;
	io_init(e, &io[0], BLK_READ, 0, e->mem, 1);
	io_init(e, &io[1], BLK_READ, 2, e->mem + 2 * PAGE, 1);
	io_init(e, &io[2], BLK_WRITE, 3, e->mem + 3 * PAGE, 1);
	for (unsigned i = 0; i < 3; i++)
		blkio_queue(e->q, &io[i].req);
	finish(e);
	assert_int_equal(nattempts, 3);
}

static void devices_are_kept_apart(void **state)
{
	struct env *e = *state;
	struct blk_dev other = {.size = 64 * PAGE, .name = "other"};
	struct io io[16];

	other.fd = temp_file(other.size);
	for (unsigned i = 0; i < 16; i++) {
		fill(e->mem + i * PAGE, i, i % 2);
		io_init(e, &io[i], BLK_WRITE, i / 2, e->mem + i * PAGE, 1);
		if (i % 2 != 0)
			io[i].req.dev = &other;
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_int_equal(nattempts, 2);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(pread(i % 2 ? other.fd : e->dev.fd, e->mem, PAGE, i / 2 * PAGE),
				 PAGE);
		check(e->mem, i, i % 2);
	}
	close(other.fd);
}

static void reads_go_before_writes_and_by_offset(void **state)
{
	struct env *e = *state;
	static const unsigned page[] = {50, 10, 40, 20, 30, 60};
	struct io io[6];

	for (unsigned i = 0; i < 6; i++) {
		io_init(e, &io[i], i % 2 ? BLK_READ : BLK_WRITE, page[i], e->mem + i * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_int_equal(nattempts, 6);
	for (unsigned i = 0; i < 6; i++) {
		static const unsigned want[] = {10, 20, 60, 30, 40, 50};

		assert_int_equal(attempts[i].op, i < 3 ? BLK_READ : BLK_WRITE);
		assert_int_equal(attempts[i].off, want[i] * PAGE);
	}
}

static void bounds_are_checked(void **state)
{
	struct env *e = *state;
	struct {
		uint64_t off, len;
		unsigned niov;
		int res;
	} c[] = {
		{(uint64_t)FILE_PAGES * PAGE, PAGE, 1, -ERANGE},
		{(uint64_t)(FILE_PAGES - 1) * PAGE, 2 * PAGE, 1, -ERANGE},
		{(uint64_t)0 - PAGE, PAGE, 1, -ERANGE},
		{(uint64_t)0 - PAGE, 2 * PAGE, 1, -ERANGE},
		{(uint64_t)1 << 60, PAGE, 1, -ERANGE},
		{512, PAGE, 1, -EINVAL},
		{0, 512, 1, -EINVAL},
		{0, 0, 1, -EINVAL},
		{0, PAGE, 0, -EINVAL},
		{0, PAGE, BLK_IOV_MAX + 1, -EINVAL},
		{(uint64_t)(FILE_PAGES - 1) * PAGE, PAGE, 1, 0},
	};

	for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		struct io io;

		io_init(e, &io, BLK_READ, 0, e->mem, 1);
		io.req.off = c[i].off;
		io.iov[0].iov_len = c[i].len;
		io.req.niov = c[i].niov;
		nattempts = 0;
		blkio_queue(e->q, &io.req);
		assert_false(io.ended);
		finish(e);
		assert_int_equal(io.res, c[i].res);
		assert_int_equal(nattempts, c[i].res == 0);
	}
}

static void end_of_file_is_an_error(void **state)
{
	struct env *e = *state;
	struct io io[4];

	/* the device is said to be larger than it is; the file ends within page 6 */
	write_pages(e, 8, 2);
	assert_int_equal(ftruncate(e->dev.fd, 6 * PAGE + 100), 0);
	assert_int_equal(one(e, BLK_READ, 7, e->mem, 1), -EIO);
	assert_int_equal(one(e, BLK_READ, 6, e->mem, 1), -EIO);
	assert_int_equal(one(e, BLK_READ, 5, e->mem, 3), -EIO);
	/* merged with others it is theirs alone */
	for (unsigned i = 0; i < 4; i++) {
		io_init(e, &io[i], BLK_READ, 2 * i, e->mem + 2 * i * PAGE, 2);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(io[i].res, i < 3 ? 0 : -EIO);
	for (unsigned i = 0; i < 6; i++)
		check(e->mem + i * PAGE, i, 2);
}

/* What a file does not have any more reads as zeros; a write may end within a page. */
static void a_file_may_end_within_a_page(void **state)
{
	struct env *e = *state;
	struct io io[3];
	struct stat st;

	e->dev.file = true;
	write_pages(e, 8, 2);
	assert_int_equal(ftruncate(e->dev.fd, 6 * PAGE + 100), 0);
	memset(e->mem, 0xee, 8 * PAGE);
	for (unsigned i = 0; i < 3; i++) {
		io_init(e, &io[i], BLK_READ, i == 0 ? 0 : i + 4,
			e->mem + (i == 0 ? 0 : i + 4) * PAGE, i == 0 ? 5 : i);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(io[i].res, 0);
	for (unsigned i = 0; i < 6; i++)
		check(e->mem + i * PAGE, i, 2);
	for (size_t i = 100; i < 2 * PAGE; i++)
		assert_int_equal(e->mem[6 * PAGE + i], 0);
	assert_int_equal(one(e, BLK_READ, 20, e->mem, 2), 0);
	for (size_t i = 0; i < 2 * PAGE; i++)
		assert_int_equal(e->mem[i], 0);
	/* no further than it is told, buffered */
	assert_int_equal(fcntl(e->dev.fd, F_SETFL, 0), 0);
	fill(e->mem, 6, 3);
	io_init(e, &io[0], BLK_WRITE, 6, e->mem, 1);
	io[0].iov[0].iov_len = 1234;
	blkio_queue(e->q, &io[0].req);
	finish(e);
	assert_int_equal(io[0].res, 0);
	assert_int_equal(fstat(e->dev.fd, &st), 0);
	assert_int_equal(st.st_size, 6 * PAGE + 1234);
	/* only the last piece may be a part of a page, and only of a write */
	io_init(e, &io[0], BLK_READ, 6, e->mem, 1);
	io[0].iov[0].iov_len = 1234;
	blkio_queue(e->q, &io[0].req);
	finish(e);
	assert_int_equal(io[0].res, -EINVAL);
}

static unsigned syncs;
static long (*real_fsync)(long, long, long, long, long, long);

static long counted_fsync(long fd, long b, long c, long d, long e, long f)
{
	syncs++;
	return syncs == 2 ? -EIO : real_fsync(fd, b, c, d, e, f);
}

static void a_device_can_be_made_durable(void **state)
{
	struct env *e = *state;
	struct io io[3];
	bool sync = strcmp(blkio_engine_name(e->q), "sync") == 0;

	real_fsync = sys_table[SYSROW_fsync].fn;
	sys_table[SYSROW_fsync].fn = counted_fsync;
	syncs = 0;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 3; i++) {
			fill(e->mem + i * PAGE, i, round);
			io_init(e, &io[i], i == 1 ? BLK_SYNC : BLK_WRITE, i, e->mem + i * PAGE, 1);
			if (i == 1)
				io[i].req.niov = 0;
			blkio_queue(e->q, &io[i].req);
		}
		finish(e);
		assert_int_equal(io[0].res, 0);
		assert_int_equal(io[1].res, sync && round == 1 ? -EIO : 0);
		assert_int_equal(io[2].res, 0);
	}
	assert_int_equal(syncs, sync ? 2 : 0); /* io_uring has an operation for it */
	sys_table[SYSROW_fsync].fn = real_fsync;
}

static long no_holes(const struct attempt *a, unsigned nth)
{
	(void)nth;
	return a->op == BLK_PUNCH ? -ENXIO : 0;
}

static void holes_are_punched(void **state)
{
	struct env *e = *state;
	char *zeros = pages(1);
	struct stat st;
	struct io io;

	if (e->engine == FL_ENGINE_URING) {
		blkio_close(e->q);
		assert_int_equal(blkio_open_restricted(&e->q, e->engine, 64), 0);
	}
	write_pages(e, 8, 2);
	for (unsigned round = 0; round < 2; round++) {
		io_init(e, &io, BLK_PUNCH, 2, NULL, 0);
		io.req.niov = 0;
		io.req.hole = 3 * PAGE;
		inject_rule = round == 0 ? no_holes : NULL;
		blkio_queue(e->q, &io.req);
		finish(e);
		assert_int_equal(io.res, round == 0 ? -ENXIO : 0);
		inject_rule = NULL;
		assert_int_equal(one(e, BLK_READ, 0, e->mem, 8), 0);
		for (unsigned i = 0; i < 8; i++) {
			if (round == 1 && i >= 2 && i < 5)
				assert_memory_equal(e->mem + i * PAGE, zeros, PAGE);
			else
				check(e->mem + i * PAGE, i, 2);
		}
	}
	assert_int_equal(fstat(e->dev.fd, &st), 0);
	assert_int_equal(st.st_size, FILE_PAGES * PAGE);
	munmap(zeros, PAGE);
}

static uint64_t bad_off;

static long fail_at_bad_off(const struct attempt *a, unsigned nth)
{
	(void)nth;
	return a->off <= bad_off && bad_off < a->off + a->len ? -ENXIO : 0;
}

static void a_merged_failure_meets_its_request(void **state)
{
	struct env *e = *state;
	const char *file;
	struct io io[32];

	for (unsigned op = BLK_READ; op <= BLK_WRITE; op++) {
		for (unsigned bad = 0; bad < 32; bad += 31) {
			write_pages(e, 32, 4);
			bad_off = (uint64_t)bad * PAGE;
			inject_rule = fail_at_bad_off;
			nattempts = 0;
			for (unsigned i = 0; i < 32; i++) {
				fill(e->mem + i * PAGE, i, op == BLK_WRITE ? 5 : 0);
				io_init(e, &io[i], op, i, e->mem + i * PAGE, 1);
				blkio_queue(e->q, &io[i].req);
			}
			finish(e);
			assert_int_equal(nattempts, 33);
			file = file_now(e, 32);
			for (unsigned i = 0; i < 32; i++) {
				assert_int_equal(io[i].res, i == bad ? -ENXIO : 0);
				if (op == BLK_READ && i != bad)
					check(e->mem + i * PAGE, i, 4);
				check(file + i * PAGE, i, op == BLK_WRITE && i != bad ? 5 : 4);
			}
		}
	}
}

/* Moves some, then fails for good: what was moved is whole, the rest tried alone. */
static long torn(const struct attempt *a, unsigned nth)
{
	(void)a;
	return nth == 0 ? (long)(5 * PAGE + 512) : nth == 1 ? -EIO : 0;
}

static void a_torn_transfer_is_finished(void **state)
{
	struct env *e = *state;
	const char *file;
	struct io io[16];

	inject_rule = torn;
	for (unsigned i = 0; i < 16; i++) {
		fill(e->mem + i * PAGE, i, 6);
		io_init(e, &io[i], BLK_WRITE, i, e->mem + i * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_int_equal(nattempts, 2 + 11);
	assert_int_equal(attempts[1].off, 5 * PAGE + 512);
	assert_int_equal(attempts[2].off, 5 * PAGE);
	file = file_now(e, 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(io[i].res, 0);
		check(file + i * PAGE, i, 6);
	}
}

static long always_short(const struct attempt *a, unsigned nth)
{
	(void)a;
	return 1 + (nth * 1237) % 9000;
}

static void short_transfers_are_continued(void **state)
{
	struct env *e = *state;
	const char *file;
	struct io io[32];

	inject_rule = always_short;
	for (unsigned i = 0; i < 32; i++) {
		fill(e->mem + i * PAGE, i, 7);
		io_init(e, &io[i], BLK_WRITE, i, e->mem + i * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_true(nattempts > 15);
	file = file_now(e, 32);
	for (unsigned i = 0; i < 32; i++) {
		assert_int_equal(io[i].res, 0);
		check(file + i * PAGE, i, 7);
	}
	memset(e->mem, 0, 64 * PAGE);
	nattempts = 0;
	for (unsigned i = 0; i < 32; i++) {
		io_init(e, &io[i], BLK_READ, i, e->mem + i * 2 * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	finish(e);
	assert_true(nattempts > 15);
	for (unsigned i = 0; i < 32; i++)
		check(e->mem + i * 2 * PAGE, i, 7);
}

static long again_error;
static unsigned again_times;

static long again(const struct attempt *a, unsigned nth)
{
	(void)a;
	return nth < again_times ? again_error : 0;
}

static void interruptions_are_tried_again(void **state)
{
	struct env *e = *state;
	static const long errors[] = {-EINTR, -EAGAIN, -ECANCELED};

	write_pages(e, 2, 8);
	inject_rule = again;
	for (unsigned i = 0; i < 3; i++) {
		again_error = errors[i];
		again_times = BLKIO_TRIES - 1;
		nattempts = 0;
		assert_int_equal(one(e, BLK_READ, 0, e->mem, 2), 0);
		assert_int_equal(nattempts, BLKIO_TRIES);
		check(e->mem + PAGE, 1, 8);
		/* but not for ever */
		again_times = UINT32_MAX;
		nattempts = 0;
		assert_int_equal(one(e, BLK_READ, 0, e->mem, 2), errors[i]);
		assert_int_equal(nattempts, BLKIO_TRIES);
	}
}

static void spoil(const struct blk_req *req)
{
	((char *)req->iov[0].iov_base)[17] ^= 1;
}

static void bytes_can_be_spoiled(void **state)
{
	struct env *e = *state;

	write_pages(e, 1, 9);
	blkio_inject_data = spoil;
	assert_int_equal(one(e, BLK_READ, 0, e->mem, 1), 0);
	e->mem[17] ^= 1;
	check(e->mem, 0, 9);
	assert_int_equal(one(e, BLK_WRITE, 0, e->mem, 1), 0);
	check(file_now(e, 1), 0, 9);
	assert_int_equal(one(e, BLK_READ, FILE_PAGES, e->mem, 1), -ERANGE);
	check(e->mem, 0, 9);
}

static void overlapping_requests_keep_their_order(void **state)
{
	struct env *e = *state;
	static struct io io[400];
	static struct {
		unsigned page, n;
		enum blk_op op;
		unsigned want[4];
	} what[400];
	unsigned model[24] = {0};
	const char *file;

	write_pages(e, 24, 0);
	for (unsigned round = 0; round < 40; round++) {
		unsigned n = 2 + rnd(398);

		for (unsigned i = 0; i < n; i++) {
			char *mem = e->mem + (size_t)i * 4 * PAGE;
			unsigned len = 1 + rnd(4), page = rnd(24 - len + 1);

			what[i].page = page;
			what[i].n = len;
			what[i].op = rnd(2) ? BLK_READ : BLK_WRITE;
			for (unsigned j = 0; j < len; j++) {
				if (what[i].op == BLK_WRITE) {
					model[page + j] = round * 400 + i + 1;
					fill(mem + j * PAGE, page + j, model[page + j]);
				}
				what[i].want[j] = model[page + j];
			}
			io_init(e, &io[i], what[i].op, page, mem, len);
			blkio_queue(e->q, &io[i].req);
			if (rnd(10) == 0)
				blkio_flush(e->q);
		}
		nattempts = 0;
		finish(e);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(io[i].res, 0);
			for (unsigned j = 0; j < what[i].n && what[i].op == BLK_READ; j++)
				check(e->mem + ((size_t)i * 4 + j) * PAGE, what[i].page + j,
				      what[i].want[j]);
		}
		file = file_now(e, 24);
		for (unsigned i = 0; i < 24; i++)
			check(file + i * PAGE, i, model[i]);
	}
}

static void more_requests_than_depth(void **state)
{
	struct env *e = *state;
	static struct io io[1000];
	const char *file;

	for (unsigned depth = 1; depth <= 4; depth += 3) {
		open_queue(e, depth);
		for (unsigned i = 0; i < 1000; i++) {
			fill(e->mem + (size_t)i * PAGE, 2 * i, depth);
			io_init(e, &io[i], BLK_WRITE, 2 * i, e->mem + (size_t)i * PAGE, 1);
			blkio_queue(e->q, &io[i].req);
		}
		assert_int_equal(blkio_inflight(e->q), 1000);
		finish(e);
		file = file_now(e, 2000);
		for (unsigned i = 0; i < 1000; i++) {
			assert_int_equal(io[i].res, 0);
			check(file + (size_t)i * 2 * PAGE, 2 * i, depth);
		}
	}
}

static void requests_may_be_large(void **state)
{
	struct env *e = *state;
	static struct iovec iov[BLK_IOV_MAX];
	const char *file;
	struct io io;

	/* 8 MiB in the most pieces that there may be, backwards in memory */
	for (unsigned i = 0; i < BLK_IOV_MAX; i++) {
		iov[i].iov_base = e->mem + (size_t)(BLK_IOV_MAX - 1 - i) * 4 * PAGE;
		iov[i].iov_len = 4 * PAGE;
		for (unsigned j = 0; j < 4; j++)
			fill((char *)iov[i].iov_base + j * PAGE, 4 * i + j, 11);
	}
	for (unsigned pass = 0; pass < 2; pass++) {
		io_init(e, &io, BLK_WRITE, 0, NULL, 1);
		io.req.iov = iov;
		io.req.niov = BLK_IOV_MAX;
		blkio_queue(e->q, &io.req);
		finish(e);
		assert_int_equal(io.res, 0);
		file = file_now(e, 4 * BLK_IOV_MAX);
		for (unsigned i = 0; i < 4 * BLK_IOV_MAX; i++)
			check(file + (size_t)i * PAGE, i, 11);
		assert_int_equal(ftruncate(e->dev.fd, 0), 0);
		inject_rule = always_short;
	}
}

static void callbacks_may_queue(void **state)
{
	struct env *e = *state;
	static struct io io[200];

	write_pages(e, 200, 12);
	for (unsigned i = 200; i-- > 0;) {
		io_init(e, &io[i], BLK_READ, i, e->mem + (size_t)i * PAGE, 1);
		io[i].then = i + 1 < 200 ? &io[i + 1] : NULL;
	}
	blkio_queue(e->q, &io[0].req);
	finish(e);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(io[i].ended);
		check(e->mem + (size_t)i * PAGE, i, 12);
	}
}

/* Waiting. */

static void readiness_is_a_level(void **state)
{
	struct env *e = *state;
	struct io io;
	int fds[2], r;
	char c;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(blkio_wait(e->q, fds[0], 0), 0);
	assert_int_equal(write(fds[1], "ab", 2), 2);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
		assert_int_equal(blkio_wait(e->q, fds[0], 0), BLKIO_READABLE);
	}
	/* a byte less is not all bytes less, and no event of its own */
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
	assert_int_equal(read(fds[0], &c, 1), 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(blkio_wait(e->q, fds[0], 0), 0);
		assert_int_equal(blkio_wait(e->q, fds[0], 1000), 0);
	}
	/* readable and empty again between two waits, and reaped in between */
	assert_int_equal(write(fds[1], "a", 1), 1);
	assert_int_equal(blkio_reap(e->q), 0);
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(blkio_wait(e->q, fds[0], 0), 0);
	/* beside I/O */
	for (unsigned i = 0; i < 200; i++) {
		bool readable = rnd(2);
		int seen = 0;

		if (readable)
			assert_int_equal(write(fds[1], "a", 1), 1);
		io_init(e, &io, BLK_READ, i, e->mem, 1);
		blkio_queue(e->q, &io.req);
		while ((seen & BLKIO_COMPLETED) == 0) {
			r = blkio_wait(e->q, fds[0], UINT64_MAX);
			assert_true(r > 0);
			seen |= r;
		}
		assert_int_equal(seen, BLKIO_COMPLETED | (readable ? BLKIO_READABLE : 0));
		assert_int_equal(blkio_reap(e->q), 1);
		assert_int_equal(blkio_wait(e->q, fds[0], 0), readable ? BLKIO_READABLE : 0);
		if (readable)
			assert_int_equal(read(fds[0], &c, 1), 1);
	}
	/* hang-up */
	close(fds[1]);
	assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
	blkio_unwatch(e->q);
	close(fds[0]);
}

static void readiness_is_told_while_requests_keep_ending(void **state)
{
	struct env *e = *state;
	struct io io;
	int fds[2];
	bool seen = false;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "a", 1), 1);
	/* something has always ended already when the wait begins */
	for (unsigned i = 0; i < 10 && !seen; i++) {
		io_init(e, &io, BLK_READ, FILE_PAGES + i, e->mem, 1);
		blkio_queue(e->q, &io.req);
		seen = (blkio_wait(e->q, fds[0], UINT64_MAX) & BLKIO_READABLE) != 0;
		assert_int_equal(blkio_reap(e->q), 1);
	}
	assert_true(seen);
	blkio_unwatch(e->q);
	close(fds[0]);
	close(fds[1]);
}

static void readiness_is_told_without_a_wait(void **state)
{
	struct env *e = *state;
	int fds[2];
	char c;

	assert_int_equal(pipe(fds), 0);
	for (unsigned i = 0; i < 3; i++) {
		blkio_watch(e->q, fds[0]);
		blkio_flush(e->q);
		assert_false(blkio_ready(e->q));
		assert_int_equal(write(fds[1], "a", 1), 1);
		/* the other engine cannot tell, and says at least nothing wrong */
		until(e->engine != FL_ENGINE_URING || blkio_ready(e->q));
		assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
		assert_int_equal(read(fds[0], &c, 1), 1);
		assert_int_equal(blkio_wait(e->q, fds[0], 0), 0);
	}
	blkio_unwatch(e->q);
	close(fds[0]);
	close(fds[1]);
}

static void waits_end_in_time(void **state)
{
	struct env *e = *state;
	int fds[2];
	uint64_t t;

	assert_int_equal(pipe(fds), 0);
	for (unsigned i = 0; i < 2; i++) {
		t = sys_now();
		assert_int_equal(blkio_wait(e->q, i == 0 ? -1 : fds[0], 20000000), 0);
		assert_true(sys_now() - t >= 20000000);
	}
	assert_int_equal(blkio_wait(e->q, -1, 0), 0);
	assert_int_equal(blkio_wait(e->q, -1, UINT64_MAX), -EINVAL);
	blkio_unwatch(e->q);
	close(fds[0]);
	close(fds[1]);
}

/* A program may lower how many descriptors there may be, for the pagers, too. */
static void limits_of_descriptors_are_no_matter(void **state)
{
	struct env *e = *state;
	struct rlimit was, few;
	int fds[2], also[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(also), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	for (rlim_t n = 0; n < 3; n++) {
		char c;

		few = (struct rlimit){.rlim_cur = n, .rlim_max = was.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		blkio_also(e->q, also[0]);
		assert_int_equal(blkio_wait(e->q, fds[0], 0), 0);
		assert_int_equal(blkio_wait(e->q, fds[0], 20000000), 0);
		assert_int_equal(write(fds[1], "a", 1), 1);
		assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
		assert_int_equal(read(fds[0], &c, 1), 1);
		blkio_wait(e->q, fds[0], 0); /* once more at most */
		assert_int_equal(blkio_wait(e->q, fds[0], 1000), 0);
		assert_int_equal(write(also[1], "b", 1), 1);
		assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_ALSO);
		assert_int_equal(read(also[0], &c, 1), 1);
		blkio_wait(e->q, fds[0], 0);
		assert_int_equal(blkio_wait(e->q, fds[0], 20000000), 0);
		blkio_unwatch(e->q);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	close(fds[0]);
	close(fds[1]);
	close(also[0]);
	close(also[1]);
}

static void *ring_bells(void *arg)
{
	int *fd = arg;
	char c;

	/* each byte is the answer to one */
	for (unsigned i = 0; i < 2000; i++) {
		if (write(fd[0], "a", 1) != 1 || read(fd[1], &c, 1) != 1)
			return arg;
	}
	return NULL;
}

static void another_thread_wakes_a_wait(void **state)
{
	struct env *e = *state;
	int to[2], from[2], fd[2];
	pthread_t thread;
	void *failed;
	char c;

	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	fd[0] = to[1];
	fd[1] = from[0];
	assert_int_equal(pthread_create(&thread, NULL, ring_bells, fd), 0);
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(blkio_wait(e->q, to[0], UINT64_MAX), BLKIO_READABLE);
		assert_int_equal(read(to[0], &c, 1), 1);
		assert_int_equal(write(from[1], "b", 1), 1);
	}
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	blkio_unwatch(e->q);
	for (unsigned i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
}

/* Readable, so that the watch wakes up, and not any more: another has read it. */
static void unwatching_ends_though_another_read(void **state)
{
	struct env *e = *state;
	uint64_t v = 1;
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_true(fd >= 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(blkio_wait(e->q, fd, 0), 0);
		assert_int_equal(write(fd, &v, sizeof(v)), sizeof(v));
		assert_int_equal(read(fd, &v, sizeof(v)), sizeof(v));
		blkio_unwatch(e->q);
	}
	close(fd);
}

/* Both descriptors are told as long as they are readable, with requests in flight and without. */
static void a_second_descriptor_ends_waits(void **state)
{
	struct env *e = *state;
	struct io io;
	int a[2], b[2];
	char c;

	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	blkio_also(e->q, b[0]);
	for (unsigned i = 0; i < 200; i++) {
		unsigned seen = 0, want = BLKIO_ALSO | (i % 3 == 0 ? BLKIO_READABLE : 0);
		bool io_too = i % 2 == 0;

		if (i % 5 == 0)
			blkio_unwatch(e->q);
		blkio_also(e->q, b[0]);
		assert_int_equal(blkio_wait(e->q, a[0], 1000), 0);
		assert_int_equal(write(b[1], "b", 1), 1);
		if (want & BLKIO_READABLE)
			assert_int_equal(write(a[1], "a", 1), 1);
		if (io_too) {
			io_init(e, &io, BLK_READ, i % FILE_PAGES, e->mem, 1);
			blkio_queue(e->q, &io.req);
			want |= BLKIO_COMPLETED;
		}
		while (seen != want) {
			int r = blkio_wait(e->q, a[0], UINT64_MAX);

			assert_true(r > 0);
			assert_int_equal(r & ~(int)want, 0);
			seen |= (unsigned)r;
		}
		/* and again, as long as there is something */
		assert_true(blkio_wait(e->q, a[0], UINT64_MAX) & (int)want);
		finish(e);
		assert_int_equal(read(b[0], &c, 1), 1);
		if (want & BLKIO_READABLE)
			assert_int_equal(read(a[0], &c, 1), 1);
		/* once more at most */
		blkio_wait(e->q, a[0], 0);
	}
	blkio_unwatch(e->q);
	/* forgotten: it ends no wait any more, nor is it kept open */
	assert_int_equal(write(b[1], "b", 1), 1);
	assert_int_equal(blkio_wait(e->q, a[0], 1000), 0);
	blkio_unwatch(e->q);
	close(b[0]);
	assert_int_equal(write(b[1], "b", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(b[1]);
	close(a[0]);
	close(a[1]);
}

static void the_watched_descriptor_may_change(void **state)
{
	struct env *e = *state;
	int a[2], b[2];

	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(blkio_wait(e->q, a[0], 0), 0);
		assert_int_equal(blkio_wait(e->q, b[0], 0), 0);
	}
	assert_int_equal(write(a[1], "a", 1), 1);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(blkio_wait(e->q, b[0], 0), 0);
		assert_int_equal(blkio_wait(e->q, -1, 0), 0);
		assert_int_equal(blkio_wait(e->q, a[0], 0), BLKIO_READABLE);
	}
	blkio_unwatch(e->q);
	assert_int_equal(blkio_wait(e->q, b[0], 0), 0);
	/* an unwatched file is not kept open */
	blkio_unwatch(e->q);
	blkio_unwatch(e->q);
	close(b[0]);
	assert_int_equal(write(b[1], "b", 1), -1);
	assert_int_equal(errno, EPIPE);
	/* and its number may come back as another file's */
	assert_int_equal(dup2(a[0], b[0]), b[0]);
	assert_int_equal(blkio_wait(e->q, b[0], 0), BLKIO_READABLE);
	blkio_unwatch(e->q);
	close(a[0]);
	close(b[0]);
	assert_int_equal(blkio_wait(e->q, b[0], 0), -EBADF);
	close(a[1]);
	close(b[1]);
}

/* Random requests that do not overlap, with every kind of interruption. */

static long often_odd(const struct attempt *a, unsigned nth)
{
	(void)a;
	(void)nth;
	switch (rnd(8)) {
	case 0:
		return -EINTR;
	case 1:
		return -EAGAIN;
	case 2:
		return 1 + rnd(64 * PAGE);
	case 3:
		return a->len > PAGE && rnd(4) == 0 ? -EIO : 0; /* mends when tried alone */
	default:
		return 0;
	}
}

static void random_requests(void **state)
{
	struct env *e = *state;
	static struct io io[FILE_PAGES];
	static unsigned generation[FILE_PAGES];
	const char *file;

	memset(generation, 0, sizeof(generation));
	write_pages(e, FILE_PAGES, 0);
	inject_rule = often_odd;
	for (unsigned round = 1; round <= 40; round++) {
		unsigned n = 0, page = 0;

		nattempts = 0;
		open_queue(e, 1 + rnd(64));
		while ((page += rnd(rnd(8) == 0 ? 100 : 2)) < FILE_PAGES) {
			bool write = rnd(3) == 0;
			char *mem = e->mem + (size_t)page * PAGE;

			if (write)
				generation[page] = round;
			fill(mem, page, write ? round : 0xdead);
			io_init(e, &io[n], write ? BLK_WRITE : BLK_READ, page, mem, 1);
			blkio_queue(e->q, &io[n++].req);
			if (rnd(50) == 0)
				blkio_flush(e->q);
			if (rnd(50) == 0)
				blkio_reap(e->q);
			page++;
		}
		finish(e);
		for (unsigned i = 0; i < n; i++) {
			uint64_t p = io[i].req.off / PAGE;

			assert_true(io[i].ended);
			assert_int_equal(io[i].res, 0);
			check(e->mem + p * PAGE, p, generation[p]);
		}
	}
	file = file_now(e, FILE_PAGES);
	for (unsigned i = 0; i < FILE_PAGES; i++)
		check(file + (size_t)i * PAGE, i, generation[i]);
}

/* io_uring alone. */

static sys_fn enter_was;
static unsigned enters, enter_every;
static long enter_error;

static long counted_enter(long a, long b, long c, long d, long f, long g)
{
	enters++;
	if (enter_every != 0 && enters % enter_every == 0)
		return enter_error;
	return enter_was(a, b, c, d, f, g);
}

static int setup_enter(void **state)
{
	enter_was = sys_table[SYSROW_uring_enter].fn;
	enters = enter_every = 0;
	sys_table[SYSROW_uring_enter].fn = counted_enter;
	return setup(state);
}

static int teardown_enter(void **state)
{
	enter_every = 0;
	teardown(state);
	sys_table[SYSROW_uring_enter].fn = enter_was;
	return 0;
}

static void one_call_starts_and_waits(void **state)
{
	struct env *e = *state;
	struct io io[4];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	enters = 0;
	for (unsigned i = 0; i < 100; i++) {
		io_init(e, &io[0], BLK_READ, i, e->mem, 1);
		blkio_queue(e->q, &io[0].req);
		assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_COMPLETED);
		assert_int_equal(blkio_reap(e->q), 1);
	}
	assert_int_equal(enters, 100);
	enters = 0;
	for (unsigned i = 0; i < 4; i++) {
		io_init(e, &io[i], BLK_READ, 3 * i, e->mem + i * PAGE, 1);
		blkio_queue(e->q, &io[i].req);
	}
	blkio_flush(e->q);
	blkio_flush(e->q);
	assert_int_equal(enters, 1);
	finish(e);
	/* nothing to do costs nothing */
	enters = 0;
	blkio_flush(e->q);
	assert_int_equal(blkio_wait(e->q, -1, 0), 0);
	assert_int_equal(blkio_reap(e->q), 0);
	assert_int_equal(enters, 0);
	blkio_unwatch(e->q);
	close(fds[0]);
	close(fds[1]);
}

static void a_refused_enter_harms_nothing(void **state)
{
	struct env *e = *state;
	static const long errors[] = {-EAGAIN, -EBUSY, -ENOMEM, -EINTR, -EIO};
	static struct io io[64];
	int fds[2];
	char c;

	assert_int_equal(pipe(fds), 0);
	for (unsigned k = 0; k < 5; k++) {
		/* each, every second, and rarer ones; EINTR each time would be no error at all */
		for (enter_every = errors[k] == -EINTR ? 2 : 1; enter_every < 5; enter_every++) {
			unsigned g = 20 + k * 8 + enter_every;

			enter_error = errors[k];
			for (unsigned pass = 0; pass < 4; pass++) {
				enum blk_op op = pass % 2 ? BLK_READ : BLK_WRITE;

				for (unsigned i = 0; i < 64; i++) {
					fill(e->mem + i * PAGE, 2 * i, op == BLK_WRITE ? g : 0);
					io_init(e, &io[i], op, 2 * i, e->mem + i * PAGE, 1);
					blkio_queue(e->q, &io[i].req);
				}
				if (pass < 2)
					blkio_flush(e->q);
				finish(e);
				for (unsigned i = 0; i < 64; i++) {
					assert_int_equal(io[i].res, 0);
					check(e->mem + i * PAGE, 2 * i, g);
				}
			}
			assert_int_equal(write(fds[1], "a", 1), 1);
			assert_int_equal(blkio_wait(e->q, fds[0], UINT64_MAX), BLKIO_READABLE);
			assert_int_equal(read(fds[0], &c, 1), 1);
			assert_int_equal(blkio_wait(e->q, fds[0], 2000000), 0);
		}
	}
	enter_every = 0;
	blkio_unwatch(e->q);
	close(fds[0]);
	close(fds[1]);
}

static void a_dead_ring_is_not_waited_for(void **state)
{
	struct env *e = *state;
	struct blk_dev dev = {.size = PAGE, .name = "pipe"};
	struct io io;
	int fds[2];

	/* a read that the kernel has, and then no call gets through any more */
	assert_int_equal(pipe(fds), 0);
	dev.fd = fds[0];
	io_init(e, &io, BLK_READ, 0, e->mem, 1);
	io.req.dev = &dev;
	blkio_queue(e->q, &io.req);
	blkio_flush(e->q);
	enter_every = 1;
	enter_error = -EBADF;
	assert_int_equal(blkio_wait(e->q, -1, UINT64_MAX), -EBADF);
	enter_every = 0;
	fill(e->mem + PAGE, 3, 3);
	assert_int_equal(write(fds[1], e->mem + PAGE, PAGE), PAGE);
	finish(e);
	assert_int_equal(io.res, 0);
	check(e->mem, 3, 3);
	close(fds[0]);
	close(fds[1]);
}

static long refused_setup(long a, long b, long c, long d, long f, long g)
{
	(void)a, (void)b, (void)c, (void)d, (void)f, (void)g;
	return -EPERM;
}

static void auto_takes_what_there_is(void **state)
{
	sys_fn was = sys_table[SYSROW_uring_setup].fn;
	struct blkio *q;

	(void)state;
	assert_int_equal(blkio_open(&q, FL_ENGINE_AUTO, 8), 0);
	assert_string_equal(blkio_engine_name(q), "uring");
	blkio_close(q);
	sys_table[SYSROW_uring_setup].fn = refused_setup;
	assert_int_equal(blkio_open(&q, FL_ENGINE_URING, 8), -EPERM);
	assert_int_equal(blkio_open(&q, FL_ENGINE_AUTO, 8), 0);
	assert_string_equal(blkio_engine_name(q), "sync");
	blkio_close(q);
	sys_table[SYSROW_uring_setup].fn = was;
	assert_int_equal(blkio_open(&q, FL_ENGINE_AUTO, 0), -EINVAL);
	assert_int_equal(blkio_open(&q, FL_ENGINE_AUTO, BLKIO_DEPTH_MAX + 1), -EINVAL);
	assert_int_equal(blkio_open(&q, FL_ENGINE_URING, BLKIO_DEPTH_MAX), 0);
	blkio_close(q);
}

#define BOTH(f)                                                                                    \
	{"uring: " #f, f, setup, teardown, &engines[0]},                                           \
	{                                                                                          \
		"sync: " #f, f, setup, teardown, &engines[1]                                       \
	}
#define URING(f)                                                                                   \
	{                                                                                          \
		"uring: " #f, f, setup_enter, teardown_enter, &engines[0]                          \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(writes_arrive_and_are_read),
		BOTH(callbacks_run_in_reap_alone),
		BOTH(some_are_called_back_and_then_the_rest),
		BOTH(flush_and_reap_are_enough),
		BOTH(neighbours_are_merged),
		BOTH(devices_are_kept_apart),
		BOTH(reads_go_before_writes_and_by_offset),
		BOTH(bounds_are_checked),
		BOTH(end_of_file_is_an_error),
		BOTH(a_file_may_end_within_a_page),
		BOTH(a_device_can_be_made_durable),
		BOTH(holes_are_punched),
		BOTH(a_merged_failure_meets_its_request),
		BOTH(a_torn_transfer_is_finished),
		BOTH(short_transfers_are_continued),
		BOTH(interruptions_are_tried_again),
		BOTH(bytes_can_be_spoiled),
		BOTH(overlapping_requests_keep_their_order),
		BOTH(more_requests_than_depth),
		BOTH(requests_may_be_large),
		BOTH(callbacks_may_queue),
		BOTH(readiness_is_a_level),
		BOTH(readiness_is_told_while_requests_keep_ending),
		BOTH(readiness_is_told_without_a_wait),
		BOTH(waits_end_in_time),
		BOTH(limits_of_descriptors_are_no_matter),
		BOTH(another_thread_wakes_a_wait),
		BOTH(unwatching_ends_though_another_read),
		BOTH(a_second_descriptor_ends_waits),
		BOTH(the_watched_descriptor_may_change),
		BOTH(random_requests),
		URING(one_call_starts_and_waits),
		URING(a_refused_enter_harms_nothing),
		URING(a_dead_ring_is_not_waited_for),
		cmocka_unit_test(auto_takes_what_there_is),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("blkio", tests, NULL, NULL);
}
