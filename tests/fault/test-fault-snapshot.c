/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A snapshot while reads, writes and system calls fail: it is refused, or ends with
 * an error and no image, or the image is right but for pages that it says are lost.
 * The program's memory is right whatever comes, and the next snapshot is taken.
 *
 * And some in which little fails: a thread is led to write to a page between its protection
 * and the instant; one is refused beside a fl_sync(); one is taken beside another pager's call.
 */
#include "drive.h"
#include "image-read.h"
#include "swap-area.h"

#include "uffd-abi.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGES 720U
#define FIRST 3U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum io_kind { IO_NONE, IO_ERROR, IO_SHORT, IO_FLIP };

struct scene {
	enum fl_engine engine;
	enum fl_wp wp;
	struct injection in;
	enum io_kind io;
	bool image;  /* of the image, not of an area */
	bool direct; /* only what goes past the kernel's cache */
	enum blk_op op;
	long err;
	unsigned long nth;
	bool persist;
};

static const struct scene *now;
static bool snapping; /* what is before the snapshot is not spoilt */

static bool due(enum blk_op op, const struct blk_dev *dev)
{
	unsigned long n;

	if (!__atomic_load_n(&snapping, __ATOMIC_RELAXED) || op != now->op ||
	    now->image != (strcmp(dev->name, "image") == 0))
		return false;
	if (now->direct && !(sys_bare(SYS_fcntl, dev->fd, F_GETFL, 0, 0, 0, 0) & O_DIRECT))
		return false;
	n = __atomic_add_fetch(&report->attempts[op == BLK_READ ? 0 : 1], 1, __ATOMIC_RELAXED);
	if (n != now->nth && !(now->persist && n > now->nth))
		return false;
	__atomic_fetch_add(&report->hits, 1, __ATOMIC_RELAXED);
	return true;
}

static long io_inject(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)off;
	(void)len;
	if ((now->io != IO_ERROR && now->io != IO_SHORT) || !due(op, dev))
		return 0;
	return now->io == IO_SHORT ? 512 : now->err;
}

static void io_inject_data(const struct blk_req *req)
{
	if (now->io == IO_FLIP && due(BLK_READ, req->dev))
		((unsigned char *)req->iov[0].iov_base)[1234] ^= 0x10;
}

/* Hold an image against what memory was. */
static void check_image(const struct mem *m, int fd, const char *was, int lost)
{
	static char page[PG] __attribute__((aligned(64)));
	struct image im;
	char why[128];
	int n = 0;

	if (image_open(&im, fd, why, sizeof(why)) != 0)
		wrong("a snapshot ended well, its image is %s", why);
	for (size_t i = 0; i < PAGES; i++) {
		enum image_page what;
		int err = image_page(&im, (uintptr_t)m->base + i * PG, page, &what);

		if (err != 0 || what == IMAGE_PAGE_TORN)
			wrong("page %zu of the image: %s", i, err != 0 ? strerror(-err) : "torn");
		n += what == IMAGE_PAGE_LOST;
		if (what == IMAGE_PAGE_GOOD && memcmp(page, was + i * PG, PG) != 0)
			wrong("page %zu of the image is not what it was", i);
	}
	if (n != lost)
		wrong("%d pages are lost in the image, %d were said to be", n, lost);
	image_close(&im);
}

/* One snapshot, with writes meanwhile; its result, INT_MIN when it was refused. */
static int take(struct mem *m, char *was, const char *name)
{
	int fd = open(getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/var/tmp", O_TMPFILE | O_RDWR,
		      0600);
	struct image im;
	char why[128];
	int r;

	if (fd < 0)
		wrong("no file for an image");
	memcpy(was, m->shadow, PAGES * PG);
	at(name);
	r = fl_snapshot(m->fl, m->base, PAGES * PG, fd, FL_SNAPSHOT_NOSYNC, -1);
	if (r != 0) {
		count_refusal("fl_snapshot", r);
		close(fd);
		return INT32_MIN;
	}
	for (unsigned i = 0; i < 150; i++)
		mem_change(m, (PAGES - 1 - i * 5 % PAGES) % PAGES);
	r = fl_snapshot_wait(m->fl);
	if (r < 0) {
		count_refusal("fl_snapshot_wait", r);
		if (image_open(&im, fd, why, sizeof(why)) == 0)
			wrong("a snapshot that failed left an image");
	} else {
		check_image(m, fd, was, r);
	}
	close(fd);
	return r;
}

static void play(void *arg)
{
	const struct fl_swap_spec area = {.path = case_file(0), .prio = 5};
	const struct scene *s = arg;
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.areas = &area,
		.nareas = 1,
		.engine = s->engine,
		.wp = s->wp,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	char *was = malloc(PAGES * PG);
	struct mem m;
	struct fl *fl;
	char why[256];
	int r;

	if (was == NULL || swap_format(case_file(0), 8 << 20, why, sizeof(why)) != 0)
		wrong("%s", why);
	now = s;
	blkio_inject = io_inject;
	blkio_inject_data = io_inject_data;
	if (fl_open(&fl, &o) != 0 || !mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_open: %s", report->line[0]);
	for (size_t i = 0; i < PAGES; i++)
		mem_fill(&m, i, i % 9 == 3);
	if (fl_madvise(fl, m.base, 64 * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT");
	inject_calls(&s->in);
	__atomic_store_n(&snapping, true, __ATOMIC_RELAXED);
	r = take(&m, was, "the first snapshot");
	__atomic_store_n(&snapping, false, __ATOMIC_RELAXED);
	if (report->hits == 0 && r != 0)
		wrong("nothing failed but the snapshot: %d", r);
	/* pages of an area that were lost are lost for the program as well */
	report->refused = r == INT32_MIN || r < 0;
	if (!s->in.persist) {
		unsigned hits = report->hits;

		r = take(&m, was, "the next snapshot");
		/* the call that fails may be one of its own */
		if (r != 0 && report->hits == hits && !(r > 0 && s->io != IO_NONE && !s->image))
			wrong("the next snapshot: %d", r);
	}
	at("the end");
	mem_check_all(&m, "at the end");
	if (fl_close(fl) != 0 && !s->in.persist)
		wrong("fl_close");
}

/* ---- what fails ---- */

static unsigned seen_hits, seen_refusals;

static void one(const struct scene *s, const char *what)
{
	struct scene scene = *s;
	struct report *r;
	enum ending end = run_case(play, &scene, &r);

	seen_hits += r->hits != 0;
	seen_refusals += r->refused != 0;
	if (end != END_WELL)
		fail_msg("%s, number %lu%s, error %ld: %s\n    at %s; %u hits, %u lost\n    %s\n   "
			 " %s",
			 what, s->io != IO_NONE ? s->nth : s->in.nth,
			 s->persist || s->in.persist ? " and all after" : "",
			 s->io != IO_NONE ? s->err : s->in.err, r->wrong, r->at, r->hits, r->lost,
			 r->line[0], r->stderr_text);
	/* an area's page that is lost to a fault of the program may only be by an area's failure */
	if (r->lost != 0 && (s->io == IO_NONE || s->image))
		fail_msg("%s: %u pages of the program were lost", what, r->lost);
}

static void image_writes_fail(void **state)
{
	static const struct {
		enum io_kind io;
		long err;
		bool persist;
	} how[] = {
		{IO_ERROR, -ENOSPC, true},
		{IO_ERROR, -EIO, false},
		{IO_SHORT, 0, false},
		{IO_SHORT, 0, true},
	};

	(void)state;
	seen_hits = seen_refusals = 0;
	for (unsigned engine = FL_ENGINE_URING; engine <= FL_ENGINE_SYNC; engine++)
		for (size_t h = 0; h < sizeof(how) / sizeof(how[0]); h++)
			for (unsigned long nth = 1; nth <= 31; nth += 10) {
				const struct scene s = {
					.engine = (enum fl_engine)engine,
					.in = {.row = -1},
					.io = how[h].io,
					.image = true,
					.op = BLK_WRITE,
					.err = how[h].err,
					.nth = nth,
					.persist = how[h].persist,
				};

				one(&s, "a write of the image");
			}
	assert_true(seen_hits > 20);
	assert_true(seen_refusals > 10);
}

/* A file system that opens a file for direct writes may refuse each of them: then it is buffered. */
static void direct_image_writes_fail(void **state)
{
	(void)state;
	seen_hits = seen_refusals = 0;
	for (unsigned engine = FL_ENGINE_URING; engine <= FL_ENGINE_SYNC; engine++)
		for (unsigned long nth = 1; nth <= 11; nth += 10) {
			const struct scene s = {
				.engine = (enum fl_engine)engine,
				.in = {.row = -1},
				.io = IO_ERROR,
				.image = true,
				.direct = true,
				.op = BLK_WRITE,
				.err = -EINVAL,
				.nth = nth,
				.persist = true,
			};

			one(&s, "a direct write of the image");
		}
	assert_int_equal(seen_hits, 4);
	assert_int_equal(seen_refusals, 0);
}

static void area_reads_fail(void **state)
{
	(void)state;
	seen_hits = 0;
	for (unsigned engine = FL_ENGINE_URING; engine <= FL_ENGINE_SYNC; engine++)
		for (unsigned kind = IO_ERROR; kind <= IO_FLIP; kind++)
			for (unsigned long nth = 1; nth <= 9; nth += 4) {
				const struct scene s = {
					.engine = (enum fl_engine)engine,
					.in = {.row = -1},
					.io = (enum io_kind)kind,
					.op = BLK_READ,
					.err = -EIO,
					.nth = nth,
				};

				one(&s, "a read of an area");
			}
	assert_true(seen_hits > 10);
}

static const struct {
	int row;
	enum fl_wp wp;
	long err[3];
	bool lasting;
} rows[] = {
	{SYSROW_mmap, FL_WP_AUTO, {-ENOMEM}, true},
	{SYSROW_fstat, FL_WP_AUTO, {-EIO}, true},
	{SYSROW_fcntl, FL_WP_AUTO, {-EINVAL}, true},
	{SYSROW_openat, FL_WP_AUTO, {-EMFILE, -EACCES}, true},
	{SYSROW_pidfd_getfd, FL_WP_AUTO, {-EPERM, -EMFILE}, true},
	{SYSROW_madvise, FL_WP_AUTO, {-ENOMEM}, false},
	{SYSROW_uffd_register, FL_WP_OFF, {-ENOMEM}, true},
	{SYSROW_uffd_writeprotect, FL_WP_AUTO, {-EAGAIN, -ENOMEM, -ENOENT}, false},
	{SYSROW_uffd_writeprotect, FL_WP_OFF, {-ENOMEM}, true},
	{SYSROW_uffd_move, FL_WP_AUTO, {-EBUSY, -ENOMEM}, false},
	{SYSROW_uffd_copy, FL_WP_AUTO, {-ENOMEM, -EAGAIN}, false},
	{SYSROW_pread, FL_WP_AUTO, {-EIO, ERR_NOTHING, ERR_PARTIAL}, false},
	{SYSROW_pagemap_scan, FL_WP_AUTO, {-ENOMEM}, false},
	{SYSROW_ftruncate, FL_WP_AUTO, {-EIO}, false},
	{SYSROW_uring_enter, FL_WP_AUTO, {-EAGAIN, -EINTR}, false},
};

static void calls_fail(void **state)
{
	(void)state;
	seen_hits = seen_refusals = 0;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (unsigned e = 0; e < 3 && rows[i].err[e] != 0; e++)
			for (unsigned long nth = 1; nth <= FIRST + rows[i].lasting; nth++) {
				struct scene s = {
					.engine = FL_ENGINE_URING,
					.wp = rows[i].wp,
					.in = {.row = rows[i].row,
					       .nth = nth <= FIRST ? nth * nth : 1,
					       .err = rows[i].err[e],
					       .persist = nth > FIRST},
				};

				one(&s, sys_table[rows[i].row].name);
			}
	assert_true(seen_hits > 40);
	assert_true(seen_refusals > 10);
}

/* ---- between the protection of a page and the instant ---- */

#define MANY 16384U /* pages: they are protected in more than two calls */
#define PATIENCE 10000000000U

static struct {
	pthread_t thread;
	char stat[64]; /* /proc/self/task/TID/stat */
	volatile uint64_t *word;
	uint32_t go, written; /* atomic */
	unsigned protected;   /* calls so far; pager */
	sys_fn writeprotect;
} early;

static void *write_early(void *arg)
{
	snprintf(early.stat, sizeof(early.stat), "/proc/self/task/%ld/stat", syscall(SYS_gettid));
	__atomic_store_n(&early.go, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&early.go, __ATOMIC_ACQUIRE) == 1)
		sched_yield();
	*early.word = 2;
	__atomic_store_n(&early.written, 1, __ATOMIC_RELEASE);
	return arg;
}

/* On the pager, which has no descriptor of the program's. */
static bool writer_waits(void)
{
	char text[128];
	long fd = sys_bare(SYS_openat, AT_FDCWD, (long)early.stat, O_RDONLY, 0, 0, 0);
	long n = sys_bare(SYS_read, fd, (long)text, sizeof(text) - 1, 0, 0, 0);
	const char *state;

	sys_bare(SYS_close, fd, 0, 0, 0, 0, 0);
	if (sys_err(n))
		return false;
	text[n] = '\0';
	state = strstr(text, ") ");
	return state != NULL && state[2] == 'S';
}

/*
 * After the second call the thread writes to a page that the first one protected, until
 * it waits for the pager; before the third it was answered, and goes on.
 */
static long protect_early(long fd, long request, long arg, long d, long e, long f)
{
	const struct uffdio_writeprotect *w = (const void *)arg;
	uint64_t end = sys_now() + PATIENCE;
	bool on = w->mode & UFFDIO_WRITEPROTECT_MODE_WP;
	long r;

	if (on && early.protected == 2)
		while (!__atomic_load_n(&early.written, __ATOMIC_ACQUIRE) && sys_now() < end)
			sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	r = early.writeprotect(fd, request, arg, d, e, f);
	if (on && ++early.protected == 2) {
		__atomic_store_n(&early.go, 2, __ATOMIC_RELEASE);
		while (!writer_waits() && sys_now() < end)
			sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	return r;
}

static void play_early(void *arg)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = 4 * MANY * PG,
		.wp = *(enum fl_wp *)arg,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	const char *dir = getenv("TMPDIR");
	int fd = open(dir != NULL ? dir : "/var/tmp", O_TMPFILE | O_RDWR, 0600);
	struct fl_stats st;
	struct image im;
	struct fl *fl;
	char *mem;
	char why[128];

	if (fd < 0 || fl_open(&fl, &o) != 0)
		wrong("fl_open");
	mem = fl_mmap(fl, NULL, MANY * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (mem == FL_FAILED)
		wrong("fl_mmap");
	/* pages of 4 KiB, as after arming: a huge one would be protected whole */
	madvise(mem, MANY * PG, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < MANY; i++)
		mem[i * PG] = 1;
	early.word = (volatile uint64_t *)(void *)mem;
	early.writeprotect = sys_table[SYSROW_uffd_writeprotect].fn;
	if (pthread_create(&early.thread, NULL, write_early, NULL) != 0)
		wrong("pthread_create");
	while (!__atomic_load_n(&early.go, __ATOMIC_ACQUIRE))
		sched_yield();
	sys_table[SYSROW_uffd_writeprotect].fn = protect_early;
	if (fl_snapshot(fl, mem, MANY * PG, fd, FL_SNAPSHOT_NOSYNC, -1) != 0)
		wrong("fl_snapshot");
	if (!__atomic_load_n(&early.written, __ATOMIC_ACQUIRE))
		wrong("the write waited for the instant");
	for (size_t i = 0; i < MANY; i++)
		mem[i * PG] = 3;
	if (fl_snapshot_wait(fl) != 0 || image_open(&im, fd, why, sizeof(why)) != 0)
		wrong("fl_snapshot_wait");
	for (size_t i = 0; i < MANY; i++) {
		static char page[PG] __attribute__((aligned(64)));
		enum image_page what;

		if (image_page(&im, (uintptr_t)mem + i * PG, page, &what) != 0 ||
		    what != IMAGE_PAGE_GOOD || page[0] != (i == 0 ? 2 : 1))
			wrong("page %zu of the image has %d", i, page[0]);
	}
	image_close(&im);
	fl_stats(fl, &st, sizeof(st));
	if (st.snapshot_early == 0 || st.snapshot_pages != MANY)
		wrong("no write before the instant was counted");
	pthread_join(early.thread, NULL);
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void written_before_the_instant(void **state)
{
	(void)state;
	for (enum fl_wp wp = FL_WP_AUTO; wp <= FL_WP_OFF; wp++) {
		struct report *r;

		if (run_case(play_early, &wp, &r) != END_WELL)
			fail_msg("wp %d: %s %s", (int)wp, r->wrong, r->line[0]);
	}
}

/* ---- a refused snapshot beside a fl_sync() ---- */

#define HUGE_PAGE ((size_t)2 << 20)
#define BESIDE 16U /* pages of anonymous memory, and as many that are held, in one leaf */

static struct {
	struct fl *fl;
	char *held;
	char bytes[BESIDE * PG]; /* of the source */
	uint32_t writing, go;	 /* atomic: the first write has begun, and may end */
	uint32_t protects;	 /* atomic: pages were write-protected since this was 0 */
	sys_fn mmap, writeprotect;
} beside;

static int source_read(void *ctx, uint64_t offset, void *buf, size_t length)
{
	(void)ctx;
	memcpy(buf, beside.bytes + offset, length);
	return 0;
}

static int source_write(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	(void)ctx;
	memcpy(beside.bytes + offset, buf, length);
	__atomic_store_n(&beside.writing, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&beside.go, __ATOMIC_ACQUIRE))
		sched_yield();
	return 0;
}

static void *sync_held(void *arg)
{
	if (fl_sync(beside.fl, beside.held, BESIDE * PG) != 0)
		wrong("fl_sync");
	return arg;
}

static long protect_seen(long fd, long request, long arg, long d, long e, long f)
{
	const struct uffdio_writeprotect *w = (const void *)arg;

	if (w->mode & UFFDIO_WRITEPROTECT_MODE_WP)
		__atomic_store_n(&beside.protects, 1, __ATOMIC_RELEASE);
	return beside.writeprotect(fd, request, arg, d, e, f);
}

/* The tables are made when all is protected. */
static long mmap_fails_late(long addr, long len, long prot, long flags, long fd, long off)
{
	if (__atomic_load_n(&beside.protects, __ATOMIC_ACQUIRE))
		return -ENOMEM;
	return beside.mmap(addr, len, prot, flags, fd, off);
}

static char *map_beside(struct fl_backing *b)
{
	char *room = mmap(NULL, 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	const int prot = PROT_READ | PROT_WRITE;

	if (room == MAP_FAILED)
		wrong("no room");
	if (fl_mmap(beside.fl, at, BESIDE * PG, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0) != at)
		wrong("fl_mmap");
	beside.held = fl_mmap_backing(beside.fl, at + BESIDE * PG, BESIDE * PG, prot,
				      MAP_SHARED | FL_MAP_HOLD | MAP_FIXED, b, 0);
	if (beside.held != at + BESIDE * PG)
		wrong("fl_mmap_backing");
	return at;
}

static void play_beside(void *arg)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	const struct fl_backing_ops ops = {
		.size = sizeof(ops),
		.read = source_read,
		.write = source_write,
	};
	const char *dir = getenv("TMPDIR");
	int fd = open(dir != NULL ? dir : "/var/tmp", O_TMPFILE | O_RDWR, 0600);
	struct fl_backing *b;
	pthread_t thread;
	char *mem;
	int r;

	(void)arg;
	if (fd < 0 || fl_open(&beside.fl, &o) != 0 ||
	    fl_backing_open(beside.fl, &b, &ops, NULL, sizeof(beside.bytes)) != 0)
		wrong("fl_open");
	mem = map_beside(b);
	memset(mem, 1, 2 * BESIDE * PG);
	if (pthread_create(&thread, NULL, sync_held, NULL) != 0)
		wrong("pthread_create");
	while (!__atomic_load_n(&beside.writing, __ATOMIC_ACQUIRE))
		sched_yield();
	beside.mmap = sys_table[SYSROW_mmap].fn;
	beside.writeprotect = sys_table[SYSROW_uffd_writeprotect].fn;
	sys_table[SYSROW_uffd_writeprotect].fn = protect_seen;
	sys_table[SYSROW_mmap].fn = mmap_fails_late;
	r = fl_snapshot(beside.fl, NULL, 0, fd, FL_SNAPSHOT_NOSYNC, -1);
	if (r != -ENOMEM || !beside.protects)
		wrong("a snapshot without memory for its tables: %d", r);
	sys_table[SYSROW_mmap].fn = beside.mmap;
	/* anew: the pages' bytes of before are on their way */
	memset(beside.held, 2, BESIDE * PG);
	__atomic_store_n(&beside.go, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	if (beside.bytes[0] != 1)
		wrong("the first fl_sync wrote %d", beside.bytes[0]);
	if (fl_sync(beside.fl, beside.held, BESIDE * PG) != 0)
		wrong("fl_sync");
	if (memcmp(beside.bytes, beside.held, BESIDE * PG) != 0)
		wrong("fl_sync did not write what was stored during the one before it");
	close(fd);
	if (fl_close(beside.fl) != 0)
		wrong("fl_close");
}

static void refused_beside_a_sync(void **state)
{
	struct report *r;

	(void)state;
	if (run_case(play_beside, NULL, &r) != END_WELL)
		fail_msg("%s %s", r->wrong, r->line[0]);
}

/* ---- beside a call of another pager ---- */

#define AWAY 64U /* pages in slots, and as many that are present */

static struct {
	struct fl *fl;
	char *away;
	uint32_t reader; /* atomic: the pager that reads slots, within a call */
	uint32_t go;	 /* atomic: its ring works */
	int unregistered;
	sys_fn writeprotect, enter, unregister;
} busy;

static long read_begins(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	(void)len;
	if (op == BLK_READ && __atomic_load_n(&busy.reader, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&busy.reader, (uint32_t)sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0),
				 __ATOMIC_RELEASE);
	return 0;
}

/* The other pager protects pages, and the instant may follow at once. */
static long protect_lets_go(long fd, long request, long arg, long d, long e, long f)
{
	const struct uffdio_writeprotect *w = (const void *)arg;

	if (w->mode & UFFDIO_WRITEPROTECT_MODE_WP)
		__atomic_store_n(&busy.go, 1, __ATOMIC_RELEASE);
	return busy.writeprotect(fd, request, arg, d, e, f);
}

static long enter_waits(long fd, long submit, long complete, long flags, long arg, long size)
{
	uint32_t reader = __atomic_load_n(&busy.reader, __ATOMIC_ACQUIRE);

	if (reader != 0 && !__atomic_load_n(&busy.go, __ATOMIC_ACQUIRE) &&
	    reader == (uint32_t)sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0)) {
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		return -EINTR;
	}
	return busy.enter(fd, submit, complete, flags, arg, size);
}

static long unregister_fails(long fd, long request, long arg, long d, long e, long f)
{
	(void)fd, (void)request, (void)arg, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void *unregister(void *arg)
{
	busy.unregistered = fl_unregister(busy.fl, busy.away, AWAY * PG);
	return arg;
}

static bool all_away(const struct mem *m)
{
	unsigned char vec[AWAY];
	bool all = true;

	if (fl_page_state(m->fl, m->base, AWAY * PG, vec) != 0)
		wrong("fl_page_state");
	for (size_t i = 0; i < AWAY; i++)
		all &= FL_PAGE_KIND(vec[i]) == FL_PAGE_SWAPPED;
	return all;
}

static void play_busy(void *arg)
{
	const struct fl_swap_spec area = {.path = case_file(0), .prio = 5};
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.areas = &area,
		.nareas = 1,
		.engine = FL_ENGINE_URING,
		.pagers = 2,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	const char *dir = getenv("TMPDIR");
	int fd = open(dir != NULL ? dir : "/var/tmp", O_TMPFILE | O_RDWR, 0600);
	static char page[PG] __attribute__((aligned(64)));
	struct image im;
	pthread_t thread;
	struct mem m;
	char why[256];
	int r;

	(void)arg;
	if (fd < 0 || swap_format(case_file(0), 8 << 20, why, sizeof(why)) != 0)
		wrong("no files");
	blkio_inject = read_begins;
	if (fl_open(&busy.fl, &o) != 0 || !mem_map(&m, busy.fl, 2 * AWAY, 2 * AWAY))
		wrong("fl_open");
	busy.away = m.base;
	/* that arms */
	if (fl_mmap(busy.fl, NULL, 2 * FL_LIMIT_MIN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) == FL_FAILED)
		wrong("fl_mmap");
	for (size_t i = 0; i < 2 * AWAY; i++)
		mem_fill(&m, i, false);
	if (fl_madvise(busy.fl, m.base, AWAY * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT");
	while (!all_away(&m))
		sched_yield();
	busy.writeprotect = sys_table[SYSROW_uffd_writeprotect].fn;
	busy.enter = sys_table[SYSROW_uring_enter].fn;
	sys_table[SYSROW_uffd_writeprotect].fn = protect_lets_go;
	sys_table[SYSROW_uring_enter].fn = enter_waits;
	busy.unregister = sys_table[SYSROW_uffd_unregister].fn;
	sys_table[SYSROW_uffd_unregister].fn = unregister_fails;
	if (pthread_create(&thread, NULL, unregister, NULL) != 0)
		wrong("pthread_create");
	while (!__atomic_load_n(&busy.reader, __ATOMIC_ACQUIRE))
		sched_yield();
	r = fl_snapshot(busy.fl, NULL, 0, fd, FL_SNAPSHOT_NOSYNC, -1);
	if (r != 0)
		wrong("fl_snapshot: %d", r);
	pthread_join(thread, NULL);
	sys_table[SYSROW_uffd_unregister].fn = busy.unregister;
	if (busy.unregistered != -ENOMEM)
		wrong("fl_unregister, refused by the kernel: %d", busy.unregistered);
	r = fl_snapshot_wait(busy.fl);
	if (r != 0 || image_open(&im, fd, why, sizeof(why)) != 0)
		wrong("fl_snapshot_wait: %d", r);
	for (size_t i = 0; i < 2 * AWAY; i++) {
		enum image_page what;

		if (image_page(&im, (uintptr_t)m.base + i * PG, page, &what) != 0 ||
		    what != IMAGE_PAGE_GOOD || memcmp(page, m.shadow + i * PG, PG) != 0)
			wrong("page %zu is not in the image", i);
	}
	image_close(&im);
	close(fd);
	mem_check_all(&m, "at the end");
	if (fl_close(busy.fl) != 0)
		wrong("fl_close");
}

/* What is given back, and then is not after all, is part of the image: the instant waits. */
static void beside_a_call_of_another_pager(void **state)
{
	struct report *r;

	(void)state;
	if (run_case(play_busy, NULL, &r) != END_WELL)
		fail_msg("%s %s", r->wrong, r->line[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(written_before_the_instant),
		cmocka_unit_test(refused_beside_a_sync),
		cmocka_unit_test(beside_a_call_of_another_pager),
		cmocka_unit_test(image_writes_fail),
		cmocka_unit_test(direct_image_writes_fail),
		cmocka_unit_test(area_reads_fail),
		cmocka_unit_test(calls_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
