/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-live-files.c - mappings of files and of a program's own sources: errors,
 * eviction, read-ahead, write-back, as they are seen from outside.
 * test-mmap-conform.c has what mmap(2) promises.
 */
#include "memsource.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static struct fl *runtime_of(uint64_t limit, enum fl_engine engine, unsigned pagers)
{
	struct fl_options o = live_options(limit);

	o.engine = engine;
	o.pagers = pagers;
	o.log = live_log;
	live_log_clear();
	return live_open(&o);
}

static struct fl *runtime_that_writes(unsigned dirty_expire, unsigned dirty_background)
{
	struct fl_options o = live_options(LIMIT);

	o.dirty_expire = dirty_expire;
	o.dirty_background = dirty_background;
	return live_open(&o);
}

static struct fl *runtime(enum fl_engine engine, unsigned pagers)
{
	return runtime_of(LIMIT, engine, pagers);
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static bool all_written(struct fl *fl)
{
	struct fl_stats s = live_stats(fl);

	return s.cache_dirty == 0 && s.cache_writeback == 0;
}

static char *map_fd(struct fl *fl, int fd, size_t pages, int prot, int type)
{
	char *p = fl_mmap(fl, NULL, pages * PG, prot, type, fd, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/* ---- sources ---- */

static void a_source_is_read_and_written(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(n, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, n, MAP_SHARED);

	(void)state;
	live_check(p, 0, n, 3);
	assert_true(s->most_pages > 16); /* neighbours come together */
	live_fill(p, 0, n, 4);
	live_check(p, 0, n, 4);
	assert_int_equal(fl_msync(fl, p, n * PG, MS_SYNC), 0);
	assert_int_equal(live_wrong(s->bytes, 0, n, 4), 0);
	assert_true(s->syncs > 0);
	assert_int_equal(live_stats(fl).cache_dirty, 0);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(s->most_inside, 1);
	assert_int_equal(fl_backing_close(b), -EBUSY);
	assert_int_equal(fl_munmap(fl, p, n * PG), 0);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void closing_writes_what_is_left(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(300, 3), *t = memsource_new(300, 3);
	struct fl_backing *b = memsource_open(fl, s, 2);
	char *p = memsource_map(fl, b, 300, MAP_SHARED);
	int fd = live_file(300, 3);
	char *q = map_fd(fl, fd, 300, RW, MAP_SHARED);

	(void)state;
	live_fill(p, 0, 300, 5);
	assert_int_equal(fl_munmap(fl, p, 300 * PG), 0);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(live_wrong(s->bytes, 0, 300, 5), 0);
	/* the runtime's end does it for what is open and mapped */
	b = memsource_open(fl, t, 2);
	p = memsource_map(fl, b, 300, MAP_SHARED);
	live_fill(p, 0, 300, 6);
	live_fill(q, 0, 300, 7);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(live_wrong(t->bytes, 0, 300, 6), 0);
	q = mmap(NULL, 300 * PG, PROT_READ, MAP_SHARED, fd, 0);
	assert_int_equal(live_wrong(q, 0, 300, 7), 0);
	munmap(q, 300 * PG);
	live_file_end(fd);
	memsource_end(s);
	memsource_end(t);
}

/* A process that has two runtimes, and a child that may use neither. */
static void store_and_exit(const int fds[2])
{
	pid_t pid;

	test_child();
	for (unsigned i = 0; i < 2; i++) {
		struct fl *fl = runtime_that_writes(3600000, 50);

		live_fill(map_fd(fl, fds[i], 300, RW, MAP_SHARED), 0, 300, 5 + i);
		live_fill(map_fd(fl, fds[i], 300, RW, MAP_PRIVATE), 0, 300, 9);
		assert_int_equal(live_stats(fl).cache_dirty, 300);
	}
	pid = fork();
	if (pid == 0)
		exit(0);
	test_reap(pid);
	exit(0);
}

static void exit_writes_what_is_left(void **state)
{
	const int fds[2] = {live_file(300, 3), live_file(300, 3)};
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		store_and_exit(fds);
	test_reap(pid);
	for (unsigned i = 0; i < 2; i++) {
		char *q = mmap(NULL, 300 * PG, PROT_READ, MAP_SHARED, fds[i], 0);

		assert_int_equal(live_wrong(q, 0, 300, 5 + i), 0);
		munmap(q, 300 * PG);
		live_file_end(fds[i]);
	}
}

/* Ends by exit(3) while there is something to wait for that does not end, or is not to be waited for. */
struct ending {
	struct fl *fl;
	struct fl_backing *b;
	char *p;	 /* pages that are read, or a range that is closed */
	uint64_t rounds; /* atomic */
};

static void *reads_for_ever(void *arg)
{
	struct ending *e = arg;
	volatile char sum = 0;

	for (size_t i = 0;; i = (i * 5 + 1) % (4 * LIMIT_PAGES)) {
		sum += e->p[i * PG];
		__atomic_fetch_add(&e->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void *closes_its_backing(void *arg)
{
	struct ending *e = arg;

	fl_backing_close(e->b);
	return NULL;
}

static void *closes_its_runtime(void *arg)
{
	struct ending *e = arg;

	fl_close(e->fl);
	return NULL;
}

/* What was unmapped is written as what is mapped; the file is sparse. */
static void unmaps_and_exits(int fd, struct fl *fl)
{
	char *q;

	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(ftruncate(fd, 300 * PG), 0);
	q = map_fd(fl, fd, 300, RW, MAP_SHARED);
	live_fill(q, 0, 300, 5);
	assert_int_equal(fl_munmap(fl, q, 300 * PG), 0);
	exit(0);
}

/* Eight threads read a file of four times the limit meanwhile. */
static void exits_beside_readers(int fd, struct fl *fl)
{
	struct ending e = {.fl = fl};
	int big = live_file(4 * LIMIT_PAGES, 4);
	pthread_t t;

	/* its name is this process's, which exits with it open */
	assert_int_equal(unlink(memsource_path), 0);
	e.p = map_fd(fl, big, 4 * LIMIT_PAGES, PROT_READ, MAP_SHARED);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t, NULL, reads_for_ever, &e), 0);
	until(__atomic_load_n(&e.rounds, __ATOMIC_RELAXED) > 2 * LIMIT_PAGES);
	live_fill(map_fd(fl, fd, 300, RW, MAP_SHARED), 0, 300, 5);
	exit(0);
}

/* A source writes, and does not return: its backing is being closed. */
static void exits_beside_a_source(int fd, struct fl *fl)
{
	struct memsource *s = memsource_new(8, 3);
	struct ending e = {.fl = fl, .b = memsource_open(fl, s, 1)};
	pthread_t t;
	char *p = memsource_map(fl, e.b, 8, MAP_SHARED);

	live_fill(map_fd(fl, fd, 300, RW, MAP_SHARED), 0, 300, 5);
	live_fill(p, 0, 8, 4);
	s->held_write = 1;
	assert_int_equal(fl_munmap(fl, p, 8 * PG), 0);
	assert_int_equal(pthread_create(&t, NULL, closes_its_backing, &e), 0);
	until(__atomic_load_n(&s->writes, __ATOMIC_RELAXED) != 0);
	exit(0);
}

/* While another thread is in fl_close(), which writes as much. */
static void exits_beside_a_close(int fd, struct fl *fl)
{
	struct ending e = {.fl = fl, .p = map_fd(fl, fd, 300, RW, MAP_SHARED)};
	pthread_t t;

	live_fill(e.p, 0, 300, 5);
	assert_int_equal(pthread_create(&t, NULL, closes_its_runtime, &e), 0);
	/* unmapped: it has begun */
	until(mincore(e.p, PG, (unsigned char[1]){0}) != 0);
	exit(0);
}

static void exit_waits_for_writes_alone(void **state)
{
	static void (*const ends[])(int fd,
				    struct fl *fl) = {unmaps_and_exits, exits_beside_readers,
						      exits_beside_a_source, exits_beside_a_close};

	(void)state;
	for (unsigned i = 0; i < 20 * sizeof(ends) / sizeof(ends[0]); i++) {
		int fd = live_file(300, 3);
		char *q;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (pid == 0) {
			test_child();
			alarm(HANG_SECONDS);
			ends[i % (sizeof(ends) / sizeof(ends[0]))](
				fd, runtime_that_writes(3600000, 50));
		}
		test_reap(pid);
		q = mmap(NULL, 300 * PG, PROT_READ, MAP_SHARED, fd, 0);
		assert_int_equal(live_wrong(q, 0, 300, 5), 0);
		munmap(q, 300 * PG);
		live_file_end(fd);
	}
}

static int write_exits(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	(void)ctx;
	(void)offset;
	(void)buf;
	(void)length;
	exit(0);
}

/* A function of a source's ends its process while a pager waits for it. */
static void a_source_may_exit(void **state)
{
	int fd = live_file(8, 3);
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct fl *fl;
		struct memsource *s = memsource_new(8, 3);
		struct fl_backing_ops ops = {
			.size = sizeof(ops), .read = memsource_read, .write = write_exits};
		struct fl_backing *b;
		char *p;

		test_child();
		alarm(HANG_SECONDS);
		fl = runtime_that_writes(3600000, 50);
		live_fill(map_fd(fl, fd, 8, RW, MAP_SHARED), 0, 8, 5);
		assert_int_equal(fl_backing_open(fl, &b, &ops, s, 8 * PG), 0);
		p = memsource_map(fl, b, 8, MAP_SHARED);
		live_fill(p, 0, 8, 4);
		assert_int_equal(fl_munmap(fl, p, 8 * PG), 0);
		fl_backing_close(b);
		_exit(1);
	}
	test_reap(pid);
	live_file_end(fd);
}

/* So does closing the backing of a file that nothing maps; and it tells what could not be. */
static void closing_a_files_backing_writes(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(300, 3);
	struct rlimit was, none;
	struct fl_backing *b;
	char *p;

	(void)state;
	for (unsigned failing = 0; failing < 2; failing++) {
		assert_int_equal(fl_backing_file(fl, &b, fd), 0);
		p = memsource_map(fl, b, 300, MAP_SHARED);
		live_check(p, 0, 300, 3 + 2 * failing);
		/* before the first store: writing may begin before the last one */
		assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
		none = (struct rlimit){failing ? 0 : was.rlim_cur, was.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
		live_fill(p, 0, 300, 5 + failing);
		assert_int_equal(fl_munmap(fl, p, 300 * PG), 0);
		assert_int_equal(fl_backing_close(b), failing ? -EFBIG : 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
		if (failing)
			break;
		p = mmap(NULL, 300 * PG, PROT_READ, MAP_SHARED, fd, 0);
		assert_int_equal(live_wrong(p, 0, 300, 5), 0);
		munmap(p, 300 * PG);
	}
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void private_pages_of_a_source_are_swapped(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(n, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, n, MAP_PRIVATE);

	(void)state;
	live_fill(p, n / 3, n / 3, 8);
	live_check(p, 0, n / 3, 3);
	live_check(p, n / 3, n / 3, 8);
	live_check(p, 2 * n / 3, n / 3, 3);
	live_out(fl, p, n);
	assert_int_equal(live_kind(fl, p), FL_PAGE_FILE);
	assert_int_equal(live_kind(fl, p + n / 3 * PG), FL_PAGE_SWAPPED);
	live_check(p, n / 3, n / 3, 8);
	live_check(p, 0, n / 3, 3);
	assert_int_equal(s->writes, 0);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void reads_that_fail_raise_sigbus_once_each(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		char *p = memsource_map(fl, b, 64, type[t]);

		s->fail_read = -EIO;
		s->bad_page = 20;
		s->bad_reads = 0;
		for (size_t i = 0; i < 64; i++)
			assert_int_equal(live_bus(p + i * PG), i == 20);
		assert_true(s->bad_reads >= 2); /* tried once more */
		live_check(p, 0, 20, 3);
		live_check(p, 21, 43, 3);
		/* a later touch tries again */
		s->fail_read = 0;
		until(!live_bus(p + 20 * PG));
		live_check(p, 0, 64, 3);
		/* the cache is the backing's, and outlives the mapping */
		assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
		p = memsource_map(fl, b, 64, MAP_SHARED);
		assert_int_equal(live_kind(fl, p), FL_PAGE_PRESENT);
		assert_int_equal(fl_madvise(fl, p, 64 * PG, MADV_PAGEOUT), 0);
		assert_int_equal(live_count(fl, p, 64, FL_PAGE_FILE), 64);
		assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
	}
	assert_non_null(strstr(live_text, "SIGBUS"));
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void writes_that_fail_are_told_once_and_tried_again(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);

	(void)state;
	live_fill(p, 0, 64, 9);
	s->fail_write = -ENOSPC;
	s->bad_page = 30;
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), -ENOSPC);
	live_check(p, 0, 64, 9);
	assert_true(live_stats(fl).cache_dirty > 0);
	/* page by page now: all but the bad one are written */
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), -ENOSPC);
	assert_int_equal(live_wrong(s->bytes, 0, 30, 9), 0);
	assert_int_equal(live_wrong(s->bytes, 31, 33, 9), 0);
	assert_int_equal(live_stats(fl).cache_dirty, 1);
	s->fail_write = -EDQUOT;
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), -EDQUOT);
	/* what is not dirty has nothing to tell */
	s->fail_write = 0;
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), 0);
	assert_int_equal(live_wrong(s->bytes, 0, 64, 9), 0);
	s->fail_sync = -EIO;
	live_fill(p, 10, 10, 8);
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), -EIO);
	/* what may not be durable is written again, and nothing else */
	memset(s->bytes + 15 * PG, 0, PG);
	memset(s->bytes + 25 * PG, 0, PG);
	s->fail_sync = 0;
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), 0);
	assert_int_equal(live_wrong(s->bytes, 10, 10, 8), 0);
	assert_true(live_wrong(s->bytes, 25, 1, 9) != 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* One call for two sources tells of the first; the next one for the second tells of that. */
static void errors_of_two_sources_are_told_once_each(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC};
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	char *p = live_map(fl, 16);
	struct memsource *s[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char *part = p + i * 8 * PG;

		s[i] = memsource_new(8, 3);
		assert_ptr_equal(fl_mmap_backing(fl, part, 8 * PG, RW, MAP_SHARED | MAP_FIXED,
						 memsource_open(fl, s[i], 1), 0),
				 part);
		live_fill(part, 0, 8, 9);
		s[i]->fail_write = errors[i];
	}
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), errors[0]);
	for (unsigned i = 0; i < 2; i++)
		s[i]->fail_write = 0;
	assert_int_equal(fl_msync(fl, p + 8 * PG, 8 * PG, MS_SYNC), errors[1]);
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(live_wrong(s[i]->bytes, 0, 8, 9), 0);
	assert_int_equal(fl_close(fl), 0);
	for (unsigned i = 0; i < 2; i++)
		memsource_end(s[i]);
}

/* Nor does the second one's sync, which fails after the first one's write, replace that. */
static void a_bad_sync_hides_no_error_of_another(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	char *p = live_map(fl, 16);
	struct memsource *s[2];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char *part = p + i * 8 * PG;

		s[i] = memsource_new(8, 3);
		assert_ptr_equal(fl_mmap_backing(fl, part, 8 * PG, RW, MAP_SHARED | MAP_FIXED,
						 memsource_open(fl, s[i], 1), 0),
				 part);
		live_fill(part, 0, 8, 9);
	}
	s[0]->fail_write = -EDQUOT;
	s[1]->fail_sync = -EIO;
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), -EDQUOT);
	s[0]->fail_write = s[1]->fail_sync = 0;
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), -EIO);
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(live_wrong(s[i]->bytes, 0, 8, 9), 0);
	assert_int_equal(fl_close(fl), 0);
	for (unsigned i = 0; i < 2; i++)
		memsource_end(s[i]);
}

struct syncer {
	pthread_t thread;
	struct fl *fl;
	char *p;
	int result;
};

static void *sync_all(void *arg)
{
	struct syncer *s = arg;

	s->result = fl_msync(s->fl, s->p, 64 * PG, MS_SYNC);
	return NULL;
}

/* The kernel tells one of two who sync at a time. */
static void a_bad_sync_is_told_to_all_who_wait(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 2);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);
	struct syncer t[2];

	(void)state;
	live_fill(p, 0, 64, 9);
	s->held_sync = true;
	for (unsigned i = 0; i < 2; i++) {
		t[i] = (struct syncer){.fl = fl, .p = p, .result = 1};
		assert_int_equal(pthread_create(&t[i].thread, NULL, sync_all, &t[i]), 0);
	}
	memsource_await(s, &s->syncs, 2);
	memsource_end_sync(s, -EIO);
	until(live_stats(fl).file_errors == 1);
	memsource_end_sync(s, 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[i].thread, NULL);
		assert_int_equal(t[i].result, -EIO);
	}
	memset(s->bytes, 0, 64 * PG);
	memsource_set(s, &s->held_sync, false);
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), 0);
	assert_int_equal(live_wrong(s->bytes, 0, 64, 9), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void what_can_never_be_written_is_said(void **state)
{
	/* the second would say that the source is mapped, and is not closed */
	static const int errors[] = {-EIO, -EBUSY};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
		struct memsource *s = memsource_new(8, 3);
		struct fl_backing *b = memsource_open(fl, s, 1);
		char *p = memsource_map(fl, b, 8, MAP_SHARED);

		s->fail_write = errors[i];
		live_fill(p, 0, 8, 9);
		assert_int_equal(fl_munmap(fl, p, 8 * PG), 0);
		assert_int_equal(fl_backing_close(b), -EIO);
		assert_non_null(strstr(live_text, "are lost"));
		assert_int_equal(fl_close(fl), 0);
		memsource_end(s);
	}
}

/* What nobody maps any more is tried again, however many of its writes have failed at once. */
static void what_nobody_maps_is_tried_again(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(300, 3);
	char *p = map_fd(fl, fd, 300, RW, MAP_SHARED);
	struct rlimit was, none;

	(void)state;
	for (size_t i = 0; i < 300; i += 10)
		live_fill(p, i, 1, 9);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	none = (struct rlimit){0, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(fl_munmap(fl, p, 300 * PG), 0);
	until(live_stats(fl).file_errors >= 8);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	until(all_written(fl));
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(live_file_wrong(fd, i, 1, i % 10 == 0 ? 9 : 3), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void bound_files(rlim_t most)
{
	struct rlimit lim;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &lim), 0);
	lim.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
}

/* RLIMIT_FSIZE bounds the memory that a file's pages are in, too: what fits is mapped as any. */
static void files_that_the_process_may_not_make(void **state)
{
	const size_t n = 300, most = 16 * MIB / PG;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	struct rlimit was;
	char *p[3];

	(void)state;
	live_arm(fl);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	bound_files(most * PG);
	p[0] = map_fd(fl, fd, n, RW, MAP_SHARED);
	p[1] = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);
	p[2] = map_fd(fl, fd, 2 * most, RW, MAP_PRIVATE);
	for (unsigned i = 0; i < 3; i++)
		live_check(p[i], 0, n, 3);
	live_fill(p[0], 0, n, 4);
	live_fill(p[2], 0, n, 5);
	assert_int_equal(fl_msync(fl, p[0], n * PG, MS_SYNC), 0);
	live_check(p[1], 0, n, 4);
	live_check(p[2], 0, n, 5);
	assert_ptr_equal(fl_mmap(fl, NULL, 2 * most * PG, PROT_READ, MAP_PRIVATE, fd, 0),
			 FL_FAILED);
	assert_int_equal(errno, ENOMEM);
	/* what others make of it later raises SIGBUS as long as it does not fit */
	bound_files(was.rlim_cur);
	assert_int_equal(ftruncate(fd, (off_t)(2 * most * PG)), 0);
	bound_files(most * PG);
	assert_true(live_bus(p[2] + (most + 1) * PG));
	assert_non_null(strstr(live_text, "cannot read"));
	assert_ptr_equal(fl_mmap(fl, NULL, 2 * most * PG, RW, MAP_PRIVATE, fd, 0), FL_FAILED);
	assert_int_equal(errno, ENOMEM);
	bound_files(was.rlim_cur);
	until(!live_bus(p[2] + (most + 1) * PG));
	live_check(p[2], 0, n, 5);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void *touch_page(void *arg)
{
	return (void *)(uintptr_t)*live_page(arg, 0);
}

/* One read serves all who wait, in whatever mapping; nobody else waits for it. */
static void one_read_serves_all(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p[3] = {memsource_map(fl, b, 64, MAP_SHARED), memsource_map(fl, b, 64, MAP_SHARED),
		      memsource_map(fl, b, 64, MAP_PRIVATE)};
	char *other = live_map(fl, 4);
	pthread_t t[4];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(fl_madvise(fl, p[i], 64 * PG, MADV_RANDOM), 0);
	s->held = true;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, touch_page, p[i % 3] + 40 * PG), 0);
	memsource_await(s, &s->reads, 1);
	until(live_stats(fl).file_major >= 4);
	live_fill(other, 0, 4, 1);
	live_check(other, 0, 4, 1);
	memsource_set(s, &s->held, false);
	for (unsigned i = 0; i < 4; i++) {
		void *word;

		pthread_join(t[i], &word);
		assert_int_equal((uintptr_t)word, live_word(3 * 1000003 + 40, 0));
	}
	assert_int_equal(s->reads, 1);
	/* nobody waited but one: the others find it when they come */
	live_check(p[1], 41, 1, 3);
	live_check(p[0], 41, 1, 3);
	live_check(p[2], 41, 1, 3);
	assert_int_equal(s->reads, 2);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* Unmapped and closed while its read is under way. */
static void a_mapping_may_go_while_it_is_read(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);

	(void)state;
	s->held = true;
	assert_int_equal(fl_madvise(fl, p, 64 * PG, MADV_WILLNEED), 0);
	memsource_await(s, &s->reads, 1);
	assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
	memsource_set(s, &s->held, false);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void arguments_of_sources_are_checked(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct fl_backing_ops ops = {.size = sizeof(ops), .read = memsource_read};
	struct memsource *s = memsource_new(8, 3);
	struct fl_backing *b;
	int fds[2];

	(void)state;
	assert_int_equal(fl_backing_open(fl, &b, &ops, s, 8 * PG), 0);
	assert_ptr_equal(fl_mmap_backing(fl, NULL, PG, RW, MAP_SHARED, b, 0), FL_FAILED);
	assert_int_equal(errno, EACCES);
	assert_ptr_equal(fl_mmap_backing(fl, NULL, PG, RW, ANON, b, 0), FL_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_ptr_equal(fl_mmap_backing(fl, NULL, PG, RW, MAP_PRIVATE, b, 7), FL_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_ptr_equal(
		fl_mmap_backing(fl, NULL, PG, PROT_READ, MAP_SHARED | FL_MAP_IN_THREAD, b, 0),
		FL_FAILED);
	assert_int_equal(errno, EINVAL);
	live_check(memsource_map(fl, b, 8, MAP_PRIVATE), 0, 8, 3);
	ops.threads = 17;
	assert_int_equal(fl_backing_open(fl, &b, &ops, s, 8 * PG), -EINVAL);
	ops = (struct fl_backing_ops){.size = sizeof(ops)};
	assert_int_equal(fl_backing_open(fl, &b, &ops, s, 8 * PG), -EINVAL);
	ops = (struct fl_backing_ops){.size = 3, .read = memsource_read};
	assert_int_equal(fl_backing_open(fl, &b, &ops, s, 8 * PG), -EINVAL);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fl_backing_file(fl, &b, fds[0]), -ENODEV);
	assert_int_equal(fl_backing_file(fl, &b, fds[1]), -EACCES);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(fl_backing_file(fl, &b, fds[0]), -EBADF);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* ---- files ---- */

static void engines_and_pagers_do_the_same(void **state)
{
	const enum fl_engine engine[] = {FL_ENGINE_URING, FL_ENGINE_SYNC};
	const size_t n = 2 * LIMIT_PAGES;

	(void)state;
	for (unsigned e = 0; e < 2; e++) {
		for (unsigned pagers = 1; pagers <= 4; pagers += 3) {
			struct fl *fl = runtime(engine[e], pagers);
			int fd = live_file(n, 3);
			char *p = map_fd(fl, fd, n, RW, MAP_SHARED);

			live_check(p, 0, n, 3);
			live_fill(p, 0, n, 4);
			live_check(p, 0, n, 4);
			assert_int_equal(fl_msync(fl, p, n * PG, MS_SYNC), 0);
			assert_int_equal(fl_munmap(fl, p, n * PG), 0);
			p = mmap(NULL, n * PG, PROT_READ, MAP_SHARED, fd, 0);
			assert_int_equal(live_wrong(p, 0, n, 4), 0);
			munmap(p, n * PG);
			assert_int_equal(fl_close(fl), 0);
			live_file_end(fd);
		}
	}
}

static void a_file_for_reading_becomes_one_for_writing(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(64, 3);
	int ro = open(memsource_path, O_RDONLY);
	char *p = map_fd(fl, ro, 64, PROT_READ, MAP_SHARED);
	char *q;

	(void)state;
	live_check(p, 0, 32, 3);
	q = map_fd(fl, fd, 64, RW, MAP_SHARED);
	live_fill(q, 10, 30, 4);
	live_check(p, 10, 30, 4);
	assert_int_equal(fl_msync(fl, q, 64 * PG, MS_SYNC), 0);
	live_check(p, 40, 24, 3);
	assert_int_equal(fl_close(fl), 0);
	close(ro);
	live_file_end(fd);
}

/* A descriptor that may not be opened again: what it was opened for still holds. */
static void a_file_that_is_no_longer_allowed(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(64, 3);
	char *p;

	(void)state;
	if (geteuid() == 0) {
		assert_int_equal(chown(memsource_path, 65534, 65534), 0);
		assert_int_equal(fchmod(fd, 0), 0);
	} else {
		assert_int_equal(fchmod(fd, 0), 0);
	}
	p = map_fd(fl, fd, 64, RW, MAP_SHARED);
	live_check(p, 0, 64, 3);
	live_fill(p, 0, 64, 4);
	assert_int_equal(fl_msync(fl, p, 64 * PG, MS_SYNC), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* What others cut off does not come back when it leaves: the file stays as long as it is. */
static void what_others_cut_off_is_not_written(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(16, 3);
	char *p = map_fd(fl, fd, 16, RW, MAP_SHARED);

	(void)state;
	live_fill(p, 0, 16, 4);
	assert_int_equal(ftruncate(fd, 4 * PG), 0);
	assert_int_equal(fl_madvise(fl, p, 16 * PG, MADV_PAGEOUT), 0);
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 4 * PG);
	live_check(p, 0, 4, 4);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 4 * PG);
	live_file_end(fd);
}

/* Guards would be lost there: they are refused, also where a page that was protected has left. */
static void guards_are_refused(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE, MAP_SHARED | FL_MAP_HOLD};
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(16, 3);

	(void)state;
	for (unsigned t = 0; t < 3; t++) {
		char *p = map_fd(fl, fd, 16, RW, type[t]);

		live_check(p, 0, 16, 3);
		assert_int_equal(fl_madvise(fl, p, 8 * PG, MADV_DONTNEED), 0);
		assert_int_equal(fl_madvise(fl, p, 16 * PG, MADV_GUARD_INSTALL), -EINVAL);
		live_check(p, 0, 16, 3);
	}
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* Descriptors may run out: that is what is told, and not that memory has. */
static void no_more_descriptors(void **state)
{
	const struct fl_backing_ops ops = {.size = sizeof(ops), .read = memsource_read};
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(4, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	struct rlimit was, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = (struct rlimit){3, was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(fl_backing_open(fl, &b, &ops, s, 4 * PG), -EMFILE);
	assert_null(b);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void others_writes_are_seen_after_invalidation(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(16, 3);
	char *p = map_fd(fl, fd, 16, RW, MAP_SHARED);
	uint64_t word = 12345;

	(void)state;
	live_check(p, 0, 16, 3);
	live_page(p, 2)[1] = 1;
	assert_int_equal(pwrite(fd, &word, sizeof(word), 7 * PG), sizeof(word));
	assert_int_equal(fl_msync(fl, p, 16 * PG, MS_SYNC | MS_INVALIDATE), 0);
	assert_int_equal(live_page(p, 7)[0], word);
	assert_int_equal(live_page(p, 2)[1], 1);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

struct adder {
	uint64_t *word;
	bool stop; /* atomic */
	uint64_t added;
};

static void *add(void *arg)
{
	struct adder *a = arg;

	while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(a->word, 1, __ATOMIC_RELAXED);
		a->added++;
	}
	return NULL;
}

/*
 * Whoever writes holds the lock of the file that a direct read of it would wait for.
 * What is stored meanwhile, and as soon as the page is there, is kept.
 */
static void a_file_is_written_from_its_own_mapping(void **state)
{
	static uint64_t page[WORDS];

	(void)state;
	for (unsigned both = 0; both < 2; both++) {
		struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
		int fd = live_file(512, 3);
		char *p = map_fd(fl, fd, 512, RW, MAP_SHARED);
		char *q = map_fd(fl, fd, 512, RW, MAP_PRIVATE);
		struct adder a = {.word = &live_page(p, 500)[7]};
		uint64_t was = *a.word;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, add, &a), 0);
		for (size_t i = 0; i < 3; i++) {
			size_t from = i * 150 + 3;

			/* from both at once, of which one page is in the way of the other */
			if (both)
				assert_int_equal(
					pwritev(fd,
						(struct iovec[]){{q + from * PG, PG},
								 {p + (from + 1) * PG, PG}},
						2, (off_t)((512 + 2 * i) * PG)),
					2 * PG);
			else
				assert_int_equal(pwrite(fd, p + from * PG, 2 * PG,
							(off_t)((512 + 2 * i) * PG)),
						 2 * PG);
			live_fill(p, from, 2, 4);
		}
		__atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
		pthread_join(t, NULL);
		assert_int_equal(fl_msync(fl, p, 512 * PG, MS_SYNC), 0);
		assert_int_equal(*a.word, was + a.added);
		for (size_t i = 0; i < 3; i++) {
			size_t from = i * 150 + 3;

			live_check(p, from, 2, 4);
			live_check(p, from + 2, 60, 3);
			for (size_t k = 0; k < 2; k++) {
				off_t at = (off_t)((512 + 2 * i + k) * PG);

				assert_int_equal(pread(fd, page, PG, at), PG);
				assert_int_equal(page[9], live_word(3 * 1000003 + from + k, 9));
				at = (off_t)((from + k) * PG);
				assert_int_equal(pread(fd, page, PG, at), PG);
				assert_memory_equal(page, live_page(p, from + k), PG);
			}
		}
		assert_int_equal(fl_close(fl), 0);
		live_file_end(fd);
	}
}

/*
 * Where pages that are waited for have been in flight for so many seconds, they are there by
 * another way, and are read again: what is counted then is no matter of these cases.
 */
#define AWHILE 0.2
#define AWHILE_TRIES 20U

static bool took_a_while(double since)
{
	return test_now() - since >= AWHILE;
}

static void forward_reading_is_read_ahead(void **state)
{
	const size_t n = 4 * LIMIT_PAGES;
	struct fl_stats before, after;
	unsigned tries = 0;
	struct fl *fl;
	char *p;
	int fd;

	(void)state;
	for (;;) {
		double since;

		fl = runtime(FL_ENGINE_AUTO, 1);
		fd = live_file(n, 3);
		assert_int_equal(fsync(fd), 0);
		p = map_fd(fl, fd, n, PROT_READ, MAP_SHARED);
		since = test_now();
		live_check(p, 0, n, 3);
		after = live_stats(fl);
		if (after.file_read_pages == n)
			break; /* nothing twice, nothing in vain */
		assert_true(took_a_while(since) && ++tries < AWHILE_TRIES);
		assert_int_equal(fl_close(fl), 0);
		live_file_end(fd);
	}
	assert_true(after.file_reads < n / 16);
	assert_true(after.file_major + after.file_minor < n / 16);
	/* backwards */
	before = after;
	for (size_t i = n; i-- > 0;)
		assert_int_equal(live_wrong(p, i, 1, 3), 0);
	after = live_stats(fl);
	assert_true(after.file_reads - before.file_reads < n / 8);
	assert_true(after.file_read_pages - before.file_read_pages <= n + n / 8);
	/* in strides */
	before = after;
	for (size_t i = 0; i < n; i += 11)
		assert_int_equal(live_wrong(p, i, 1, 3), 0);
	after = live_stats(fl);
	assert_true(after.readahead_hits - before.readahead_hits > n / 11 / 2);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* With a window of one page asked for nothing is read that nobody touches. */
static void without_a_window_pages_are_read_alone(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE, MAP_PRIVATE};
	const int prot[] = {PROT_READ, PROT_READ, RW};
	const size_t n = 2 * LIMIT_PAGES;
	struct fl_options o = live_options(LIMIT);
	unsigned tries = 0;

	(void)state;
	o.readahead = PG;
	for (unsigned t = 0; t < 3;) {
		struct fl *fl = live_open(&o);
		int fd = live_file(n, 3);
		struct fl_stats s;
		double since;
		char *p;

		assert_int_equal(fsync(fd), 0);
		p = map_fd(fl, fd, n, prot[t], type[t]);
		since = test_now();
		live_check(p, 0, n / 2, 3);
		for (size_t i = n; i-- > 3 * n / 4;)
			assert_int_equal(live_wrong(p, i, 1, 3), 0);
		s = live_stats(fl);
		if (s.file_reads == 3 * n / 4 && s.file_read_pages == 3 * n / 4)
			t++;
		else
			assert_true(took_a_while(since) && ++tries < AWHILE_TRIES);
		assert_int_equal(fl_close(fl), 0);
		live_file_end(fd);
	}
}

static void interleaved_streams_keep_theirs(void **state)
{
	const size_t n = 4 * LIMIT_PAGES, part = n / 4;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_SHARED);
	struct fl_stats s;

	(void)state;
	for (size_t i = 0; i < part; i++)
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(live_wrong(p, k * part + i, 1, 3), 0);
	s = live_stats(fl);
	assert_true(s.file_reads < n / 8);
	assert_true(s.file_read_pages <= n + n / 8);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* A scan goes on with its window though pages at random are read for each page of it. */
static void a_stream_outlives_reading_at_random(void **state)
{
	const size_t limit = 8 * LIMIT_PAGES, scan = limit, rest = 2 * limit;
	struct fl *fl = runtime_of(limit * PG, FL_ENGINE_AUTO, 1);
	int fd = live_file(scan + rest, 3);
	char *p = map_fd(fl, fd, scan + rest, PROT_READ, MAP_SHARED);
	uint64_t x = 1, random = 0, reads;

	(void)state;
	for (size_t i = 0; i < scan; i++) {
		assert_int_equal(live_wrong(p, i, 1, 3), 0);
		if (i < scan / 8)
			continue;
		reads = live_stats(fl).file_reads;
		for (unsigned k = 0; k < 3; k++) {
			x = x * 6364136223846793005U + 1442695040888963407U;
			assert_int_equal(live_wrong(p, scan + (x >> 33) % rest, 1, 3), 0);
		}
		random += live_stats(fl).file_reads - reads;
	}
	reads = live_stats(fl).file_reads - random;
	print_message("%zu pages in order: %lu reads; %lu at random\n", scan, (unsigned long)reads,
		      (unsigned long)random);
	assert_true(random > scan);
	assert_true(reads <= scan / 64);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* Two mappings of a file, one behind the other: where they part, each goes on. */
static void mappings_of_a_file_keep_their_streams(void **state)
{
	const size_t n = 4 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p[2];
	struct fl_stats before, s;

	(void)state;
	for (unsigned k = 0; k < 2; k++)
		p[k] = k == 0 ? map_fd(fl, fd, n, PROT_READ, MAP_SHARED)
			      : map_fd(fl, fd, n, RW, MAP_PRIVATE);
	/* in turn at the same place, now this one first, now the other */
	for (size_t i = 0; i < n / 4; i++)
		for (size_t k = 0; k < 2; k++)
			assert_int_equal(live_wrong(p[(i / 100 + k) % 2], i, 1, 3), 0);
	s = live_stats(fl);
	assert_true(s.file_reads <= n / 4 / 16);
	assert_true(s.file_read_pages <= n / 4 + LIMIT_PAGES / 2);
	/* one goes ahead by far, so that nothing of it is left for the other */
	live_check(p[0], n / 4, 3 * n / 4, 3);
	before = live_stats(fl);
	live_check(p[1], n / 4, n / 4, 3);
	s = live_stats(fl);
	print_message("%zu pages again: %lu reads of %lu pages\n", n / 4,
		      (unsigned long)(s.file_reads - before.file_reads),
		      (unsigned long)(s.file_read_pages - before.file_read_pages));
	assert_true(s.file_reads - before.file_reads <= n / 4 / 16);
	assert_true(s.file_read_pages - before.file_read_pages <= n / 4 + LIMIT_PAGES / 4);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static uint64_t frames(struct fl *fl)
{
	struct fl_stats s = live_stats(fl);

	return s.cache_pages + s.resident + s.staged;
}

/* However many mappings that are only read there are, shared or private: a page has one frame. */
static void what_is_only_read_has_one_frame(void **state)
{
	const size_t n = LIMIT_PAGES / 2;
	struct fl *fl = runtime_of(4 * LIMIT, FL_ENGINE_AUTO, 1);
	struct memsource *s = memsource_new(n, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	int fd = live_file(n, 3);
	char *p[6];

	(void)state;
	assert_int_equal(fsync(fd), 0); /* so that reading it is no waiting for what is written */
	p[0] = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);
	p[1] = map_fd(fl, fd, n, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	p[2] = map_fd(fl, fd, n, PROT_READ, MAP_SHARED);
	for (unsigned i = 3; i < 6; i++) {
		p[i] = fl_mmap_backing(fl, NULL, n * PG, PROT_READ,
				       i == 3 ? MAP_SHARED : MAP_PRIVATE, b, 0);
		assert_ptr_not_equal(p[i], FL_FAILED);
	}
	assert_int_equal(fl_mprotect(fl, p[1], n * PG, PROT_READ), 0);
	for (unsigned i = 0; i < 6; i++)
		live_check(p[i], 0, n, 3);
	assert_int_equal(frames(fl), 2 * n);
	/* nor has one that was moved, or advised, more */
	p[0] = fl_mremap(fl, p[0], n * PG, n * PG, MREMAP_MAYMOVE | MREMAP_FIXED, p[4]);
	assert_ptr_not_equal(p[0], FL_FAILED);
	assert_int_equal(fl_madvise(fl, p[1], n * PG, MADV_DONTNEED), 0);
	live_check(p[0], 0, n, 3);
	live_check(p[1], 0, n, 3);
	assert_int_equal(frames(fl), 2 * n);
	assert_int_equal(live_stats(fl).resident, 0);
	/* what becomes writable, or code, has its own when it is touched */
	assert_int_equal(fl_mprotect(fl, p[1], n / 2 * PG, RW), 0);
	assert_int_equal(fl_mprotect(fl, p[1] + n / 2 * PG, n / 2 * PG, PROT_READ | PROT_EXEC), 0);
	live_check(p[1], 0, n, 3);
	assert_int_equal(live_stats(fl).resident, n);
	live_check(p[2], 0, n, 3);
	assert_int_equal(frames(fl), 3 * n);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
	live_file_end(fd);
}

/* Nothing is read of what becomes writable where nobody could touch it meanwhile. */
static void becoming_writable_reads_nothing_alone(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);

	(void)state;
	assert_int_equal(fl_mprotect(fl, p, n * PG, RW), 0);
	assert_int_equal(live_stats(fl).file_read_pages, 0);
	live_check(p, 0, n, 3);
	live_fill(p, 0, n, 4);
	live_check(p, 0, n, 4);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* What is locked stays in memory when it becomes writable. */
static void what_is_locked_stays_when_it_becomes_writable(void **state)
{
	const size_t n = 200;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);
	uint64_t faults;

	(void)state;
	assert_int_equal(fl_mlock(fl, p, n * PG), 0);
	assert_int_equal(fl_mprotect(fl, p + 50 * PG, 100 * PG, RW), 0);
	faults = live_stats(fl).file_minor + live_stats(fl).file_major;
	live_check(p, 0, n, 3);
	assert_int_equal(live_stats(fl).file_minor + live_stats(fl).file_major, faults);
	live_fill(p, 50, 100, 4);
	live_check(p, 50, 100, 4);
	/* whether or not it had access before */
	assert_int_equal(fl_mprotect(fl, p + 160 * PG, 20 * PG, PROT_NONE), 0);
	assert_int_equal(fl_mprotect(fl, p + 160 * PG, 20 * PG, RW), 0);
	assert_int_equal(live_count(fl, p + 160 * PG, 20, FL_PAGE_PRESENT), 20);
	live_check(p, 160, 20, 3);
	assert_int_equal(live_stats(fl).file_minor + live_stats(fl).file_major, faults);
	assert_int_equal(fl_munlock(fl, p, n * PG), 0);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* Of what is locked on fault the pages that were touched stay, and no other one comes. */
static void what_is_locked_on_fault_comes_when_it_is_touched(void **state)
{
	static const size_t touched[] = {3, 7, 60, 61, 199};
	const size_t n = 200, m = sizeof(touched) / sizeof(touched[0]);
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);
	uint64_t faults;

	(void)state;
	assert_int_equal(fl_madvise(fl, p, n * PG, MADV_RANDOM), 0);
	assert_int_equal(fl_mlock2(fl, p, n * PG, MLOCK_ONFAULT), 0);
	for (size_t i = 0; i < m; i++)
		live_check(p, touched[i], 1, 3);
	assert_int_equal(fl_mprotect(fl, p, n * PG, RW), 0);
	assert_int_equal(live_stats(fl).file_read_pages, m);
	assert_int_equal(live_count(fl, p, n, FL_PAGE_PRESENT), m);
	faults = live_stats(fl).file_minor + live_stats(fl).file_major;
	for (size_t i = 0; i < m; i++)
		live_check(p, touched[i], 1, 3);
	assert_int_equal(live_stats(fl).file_minor + live_stats(fl).file_major, faults);
	live_fill(p, 50, 100, 4);
	live_check(p, 0, 50, 3);
	live_check(p, 50, 100, 4);
	live_check(p, 150, 50, 3);
	assert_int_equal(live_count(fl, p, n, FL_PAGE_PRESENT), n);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* By a call that is not ours the program may make it writable: the file is not for it to change. */
static void what_is_made_writable_past_us_stays_private(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *shared = map_fd(fl, fd, n, RW, MAP_SHARED);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);

	(void)state;
	live_check(p, 0, 64, 3);
	assert_int_equal(syscall(SYS_mprotect, p, n * PG, RW), 0);
	for (size_t i = 0; i < n; i += 5)
		live_fill(p, i, 1, 4);
	for (size_t i = 0; i < n; i++)
		live_check(p, i, 1, i % 5 == 0 ? 4 : 3);
	assert_int_equal(fl_msync(fl, shared, n * PG, MS_SYNC), 0);
	live_check(shared, 0, n, 3);
	assert_int_equal(live_stats(fl).file_writes, 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

#define READERS 4U
#define UNSHARE_PAGES (3 * LIMIT_PAGES)

struct reader {
	pthread_t thread;
	unsigned id;
	char *map;
	bool *stop;
	size_t *page; /* read_one() */
	size_t wrong, passes;
};

/* Of a page that may be written to just now: the rest is the file's. */
static size_t read_wrong(struct reader *r, size_t page)
{
	const uint64_t *at = live_page(r->map, page);
	size_t wrong = 0;

	for (size_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&at[i], __ATOMIC_RELAXED);

		wrong += have != live_word(3 * 1000003 + page, i) && (i != 2 || have != ~page);
	}
	return wrong;
}

static void *read_all(void *arg)
{
	struct reader *r = arg;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		for (size_t i = 0; i < UNSHARE_PAGES; i++) {
			/* two forward, from different places, one backward, one in strides */
			size_t page = r->id == 2   ? UNSHARE_PAGES - 1 - i
				      : r->id == 3 ? i * 7 % UNSHARE_PAGES
						   : (i + r->id * 1000) % UNSHARE_PAGES;

			r->wrong += read_wrong(r, page);
		}
		__atomic_fetch_add(&r->passes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/*
 * Threads read all of a private mapping while parts of it are made writable and are written: they
 * see the file's bytes, or what was stored, and the file and other mappings of it do not change.
 */
static void parts_become_writable_under_readers(void **state)
{
	const enum fl_engine engine[] = {FL_ENGINE_AUTO, FL_ENGINE_SYNC};

	(void)state;
	for (unsigned e = 0; e < 2; e++) {
		struct fl *fl = runtime(engine[e], 1 + e);
		int fd = live_file(UNSHARE_PAGES, 3);
		char *p = map_fd(fl, fd, UNSHARE_PAGES, PROT_READ, MAP_PRIVATE);
		char *q = map_fd(fl, fd, UNSHARE_PAGES, PROT_READ, MAP_PRIVATE);
		char *shared = map_fd(fl, fd, UNSHARE_PAGES, RW, MAP_SHARED);
		bool *written = calloc(UNSHARE_PAGES, sizeof(*written));
		struct reader r[READERS];
		uint64_t x = 7;
		bool stop = false;

		assert_non_null(written);
		for (unsigned i = 0; i < READERS; i++) {
			r[i] = (struct reader){.id = i, .map = p, .stop = &stop};
			assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
		}
		for (unsigned i = 0; i < 60; i++) {
			size_t n, at;

			x = x * 6364136223846793005U + 1442695040888963407U;
			n = i % 3 == 0 ? 1 : 1 + (x >> 40) % 150;
			at = (x >> 20) % (UNSHARE_PAGES - n);
			assert_int_equal(fl_mprotect(fl, p + at * PG, n * PG, RW), 0);
			for (size_t k = at; k < at + n; k += 1 + i % 4) {
				written[k] = true;
				__atomic_store_n(live_page(p, k) + 2, ~k, __ATOMIC_RELAXED);
			}
			if (i % 2 == 0)
				assert_int_equal(fl_mprotect(fl, p + at * PG, n * PG, PROT_READ),
						 0);
		}
		for (unsigned i = 0; i < READERS; i++)
			until(__atomic_load_n(&r[i].passes, __ATOMIC_RELAXED) != 0);
		__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
		for (unsigned i = 0; i < READERS; i++) {
			pthread_join(r[i].thread, NULL);
			assert_int_equal(r[i].wrong, 0);
		}
		for (size_t i = 0; i < UNSHARE_PAGES; i++)
			assert_int_equal(live_page(p, i)[2],
					 written[i] ? ~i : live_word(3 * 1000003 + i, 2));
		live_check(q, 0, UNSHARE_PAGES, 3);
		live_check(shared, 0, UNSHARE_PAGES, 3);
		assert_int_equal(live_stats(fl).file_writes, 0);
		assert_true(live_stats(fl).file_dropped > UNSHARE_PAGES);
		assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
		assert_string_equal(live_text, "");
		assert_int_equal(fl_verify(fl), 0);
		assert_int_equal(fl_close(fl), 0);
		live_file_end(fd);
		free(written);
	}
}

/* The page whose turn it is, again and again. */
static void *read_one(void *arg)
{
	struct reader *r = arg;

	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		size_t page = __atomic_load_n(r->page, __ATOMIC_RELAXED);

		for (size_t i = 3; i < WORDS; i += 100)
			r->wrong +=
				__atomic_load_n(live_page(r->map, page) + i, __ATOMIC_RELAXED) !=
				live_word(3 * 1000003 + page, i);
		__atomic_fetch_add(&r->passes, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Threads read nothing but what just becomes writable: it is never away, nor other bytes. */
static void a_page_becomes_writable_under_its_readers(void **state)
{
	const size_t n = LIMIT_PAGES;
	struct fl *fl = runtime_of(8 * LIMIT, FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	struct reader r[READERS];

	(void)state;
	for (unsigned round = 0; round < 4; round++) {
		char *p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE);
		bool stop = false;
		size_t page = 0;

		live_check(p, 0, n, 3);
		for (unsigned i = 0; i < READERS; i++) {
			r[i] = (struct reader){.map = p, .stop = &stop, .page = &page};
			assert_int_equal(pthread_create(&r[i].thread, NULL, read_one, &r[i]), 0);
		}
		for (size_t i = 0; i < n; i += 4) {
			uint64_t passes = __atomic_load_n(&r[i % READERS].passes, __ATOMIC_RELAXED);

			__atomic_store_n(&page, i + round, __ATOMIC_RELAXED);
			until(__atomic_load_n(&r[i % READERS].passes, __ATOMIC_RELAXED) > passes);
			assert_int_equal(fl_mprotect(fl, p + i * PG, (1 + round) * PG, RW), 0);
		}
		__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
		for (unsigned i = 0; i < READERS; i++) {
			pthread_join(r[i].thread, NULL);
			assert_int_equal(r[i].wrong, 0);
		}
		assert_int_equal(fl_verify(fl), 0);
		assert_int_equal(fl_munmap(fl, p, n * PG), 0);
	}
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* What is behind the end of the file becomes writable, too, and is there when the file has grown. */
static void what_is_behind_the_end_becomes_writable(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(20, 3);
	char *p = map_fd(fl, fd, 40, PROT_READ, MAP_PRIVATE);
	size_t page = 3;
	bool stop = false;
	struct reader r = {.map = p, .stop = &stop, .page = &page};

	(void)state;
	assert_int_equal(pthread_create(&r.thread, NULL, read_one, &r), 0);
	assert_int_equal(fl_mprotect(fl, p, 40 * PG, RW), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(r.thread, NULL);
	assert_int_equal(r.wrong, 0);
	assert_int_equal(fl_ftruncate(fl, fd, 40 * PG), 0);
	live_check(p, 0, 20, 3);
	assert_int_equal(live_page(p, 30)[0], 0);
	live_fill(p, 0, 40, 4);
	live_check(p, 0, 40, 4);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* However much that is: nothing is to be read there. */
static void a_long_mapping_of_a_short_file_becomes_writable(void **state)
{
	const size_t n = (256UL << 30) / PG;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct fl *fl;
		int fd = live_file(20, 3);
		size_t page = 3;
		bool stop = false;
		struct reader r;
		char *p;

		test_child();
		alarm(HANG_SECONDS);
		fl = runtime(FL_ENGINE_AUTO, 1);
		p = map_fd(fl, fd, n, PROT_READ, MAP_PRIVATE | MAP_NORESERVE);
		r = (struct reader){.map = p, .stop = &stop, .page = &page};
		assert_int_equal(pthread_create(&r.thread, NULL, read_one, &r), 0);
		assert_int_equal(fl_mprotect(fl, p, n * PG, RW), 0);
		__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
		pthread_join(r.thread, NULL);
		assert_int_equal(r.wrong, 0);
		live_check(p, 0, 20, 3);
		live_fill(p, 0, 20, 4);
		live_check(p, 0, 20, 4);
		assert_true(live_bus(p + (n - 1) * PG));
		assert_int_equal(fl_verify(fl), 0);
		assert_int_equal(fl_close(fl), 0);
		live_file_end(fd);
		_exit(0);
	}
	test_reap(pid);
}

/* A place that the program has just left, and may map anything at. */
struct place {
	struct memsource *s;
	char *at; /* NULL: it is not looked at */
	bool taken, seen;
};

static int read_and_look(void *ctx, uint64_t offset, void *buf, size_t length)
{
	struct place *place = ctx;
	unsigned char v;

	if (place->at != NULL) {
		place->seen = true;
		place->taken |= mincore(place->at, PG, &v) == 0;
	}
	return memsource_read(place->s, offset, buf, length);
}

/* While it is read what becomes writable takes no address that the kernel would give the program. */
static void becoming_writable_takes_no_place_of_the_programs(void **state)
{
	const size_t n = 64;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	struct place place = {.s = memsource_new(n, 3)};
	const struct fl_backing_ops ops = {.size = sizeof(ops), .read = read_and_look};
	struct fl_backing *b;
	char *p;

	(void)state;
	assert_int_equal(fl_backing_open(fl, &b, &ops, &place, n * PG), 0);
	p = fl_mmap_backing(fl, NULL, n * PG, PROT_READ, MAP_PRIVATE, b, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	place.at = mmap(NULL, n * PG, PROT_NONE, ANON, -1, 0);
	assert_ptr_not_equal(place.at, MAP_FAILED);
	assert_int_equal(munmap(place.at, n * PG), 0);
	assert_int_equal(fl_mprotect(fl, p, n * PG, RW), 0);
	assert_true(place.seen);
	assert_false(place.taken);
	live_check(p, 0, n, 3);
	assert_int_equal(fl_munmap(fl, p, n * PG), 0);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(place.s);
}

static void random_reading_reads_single_pages(void **state)
{
	const size_t n = 4 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, PROT_READ, MAP_SHARED);
	uint64_t x = 1;
	struct fl_stats s;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		x = x * 6364136223846793005U + 1442695040888963407U;
		assert_int_equal(live_wrong(p, (x >> 33) % n, 1, 3), 0);
	}
	s = live_stats(fl);
	assert_true(s.file_read_pages < s.file_reads * 3 / 2);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

#define WALKERS 4U
#define WALK_LIMIT (16 * MIB) /* with room for what is read to land */
#define WALK_PAGES (3 * WALK_LIMIT / PG)
#define TAIL_WORDS 125U /* that the file has not of its last page */

struct walker {
	pthread_t thread;
	unsigned id;
	char *map[2];
	uint32_t *version; /* of each page; a walker changes its own ones */
	size_t wrong;
};

/* The words of a page that are not as they must be: the second one is its owner's. */
static size_t walk_wrong(const uint64_t *word, size_t page, uint32_t version, bool own)
{
	size_t wrong = 0;

	for (size_t i = 0; i < WORDS; i++) {
		uint64_t want = live_word(3 * 1000003 + page, i);

		if (page == WALK_PAGES - 1 && i >= WORDS - TAIL_WORDS)
			want = 0;
		if (i == 1 && version != 0)
			want = live_word(page, version);
		wrong += (i != 1 || own) && word[i] != want;
	}
	return wrong;
}

static void *walk(void *arg)
{
	struct walker *w = arg;
	uint64_t x = w->id + 1;

	for (unsigned i = 0; i < 3000; i++) {
		size_t page;
		uint64_t *at;
		bool own;

		x = x * 6364136223846793005U + 1442695040888963407U;
		/* the last one now and then; some near each other, for several to wait for one */
		page = i % 64 == 0 ? WALK_PAGES - 1 : (x >> 33) % (i % 4 == 0 ? 64 : WALK_PAGES);
		own = page % WALKERS == w->id;
		at = live_page(w->map[x >> 20 & 1], page);
		if (own && (x >> 21 & 1))
			at[1] = live_word(page, ++w->version[page]);
		w->wrong += walk_wrong(at, page, own ? w->version[page] : 0, own);
	}
	return NULL;
}

/* Threads read and write single pages, through two mappings; what they stored is in the file. */
static void single_pages_come_and_go_whole(void **state)
{
	struct fl *fl = runtime_of(WALK_LIMIT, FL_ENGINE_AUTO, 1);
	int fd = live_file(WALK_PAGES, 3);
	uint32_t *version = calloc(WALK_PAGES, sizeof(*version));
	struct walker w[WALKERS];
	uint64_t buf[WORDS];
	char *map[2];

	(void)state;
	assert_non_null(version);
	assert_int_equal(ftruncate(fd, (off_t)(WALK_PAGES * PG - TAIL_WORDS * 8)), 0);
	for (unsigned i = 0; i < 2; i++)
		map[i] = map_fd(fl, fd, WALK_PAGES, RW, MAP_SHARED);
	for (unsigned i = 0; i < WALKERS; i++) {
		w[i] = (struct walker){.id = i, .map = {map[0], map[1]}, .version = version};
		assert_int_equal(pthread_create(&w[i].thread, NULL, walk, &w[i]), 0);
	}
	for (unsigned i = 0; i < WALKERS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].wrong, 0);
	}
	assert_true(live_stats(fl).file_dropped != 0);
	assert_int_equal(fl_msync(fl, map[0], WALK_PAGES * PG, MS_SYNC), 0);
	for (size_t p = 0; p < WALK_PAGES; p++) {
		memset(buf, 0, sizeof(buf));
		assert_true(pread(fd, buf, PG, (off_t)(p * PG)) > 0);
		assert_int_equal(walk_wrong(buf, p, version[p], true), 0);
	}
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
	free(version);
}

/* What is touched again and again stays while a scan of many times the limit goes by. */
static void a_scan_does_not_push_out_what_is_hot(void **state)
{
	const size_t hot = LIMIT_PAGES / 5, n = 10 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(n + hot, 3);
	char *p = map_fd(fl, fd, n + hot, PROT_READ, MAP_SHARED);
	size_t touches = 0, misses = 0;

	(void)state;
	live_check(p, n, hot, 3);
	for (size_t i = 0; i < n; i++) {
		size_t at = n + i * 7 % hot;
		uint64_t before;

		assert_int_equal(*live_page(p, i), live_word(3 * 1000003 + i, 0));
		/* one touch of the hot part for each page of the scan; each 16th is looked at */
		if (i % 16 == 0) {
			before = live_stats(fl).file_major;
			assert_int_equal(*live_page(p, at), live_word(3 * 1000003 + at, 0));
			misses += live_stats(fl).file_major != before;
			touches++;
		} else {
			assert_int_equal(*live_page(p, at), live_word(3 * 1000003 + at, 0));
		}
	}
	print_message("hot touches %zu, misses %zu\n", touches, misses);
	assert_true(misses * 10 <= touches);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void old_dirty_pages_are_written_unasked(void **state)
{
	struct fl *fl = runtime(FL_ENGINE_AUTO, 1);
	int fd = live_file(64, 3);
	char *p = map_fd(fl, fd, 64, RW, MAP_SHARED);

	(void)state;
	live_fill(p, 0, 64, 4);
	assert_true(live_stats(fl).cache_dirty > 0);
	until(all_written(fl));
	assert_true(live_stats(fl).file_writes < 8); /* neighbours together */
	assert_true(live_state(fl, p) & FL_PAGE_WP);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* Twice, one after the other, while another runtime's wait for the usual five seconds once. */
static void a_short_age_is_waited_for(void **state)
{
	double end = test_now() + HANG_SECONDS;
	struct fl *usual = runtime(FL_ENGINE_AUTO, 1);
	struct fl *fl = runtime_that_writes(250, 0);
	int fds[2] = {live_file(8, 3), live_file(8, 3)};
	char *q = map_fd(usual, fds[0], 8, RW, MAP_SHARED);
	char *p = map_fd(fl, fds[1], 8, RW, MAP_SHARED);
	unsigned times = 0;

	(void)state;
	/* again where the machine let its pager not run meanwhile */
	for (unsigned round = 0; times < 2; round++) {
		assert_true(test_now() < end);
		until(all_written(usual) && all_written(fl));
		live_fill(q, 0, 8, round);
		for (times = 0; times < 2; times++) {
			live_fill(p, 0, 8, 2 * round + times);
			until(all_written(fl) || all_written(usual));
			if (all_written(usual))
				break;
		}
	}
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(fl_close(usual), 0);
	live_file_end(fds[0]);
	live_file_end(fds[1]);
}

/* What failed is tried again after five seconds: what was stored before that waits on. */
static void a_long_age_is_waited_for(void **state)
{
	struct fl *fl = runtime_that_writes(3600000, 0);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);

	(void)state;
	live_fill(p, 10, 20, 9);
	live_fill(p, 40, 1, 9);
	s->fail_write = -ENOSPC;
	assert_int_equal(fl_msync(fl, p + 40 * PG, PG, MS_SYNC), -ENOSPC);
	assert_int_equal(live_stats(fl).cache_dirty, 21);
	s->fail_write = 0;
	until(live_stats(fl).cache_dirty < 21 && live_stats(fl).cache_writeback == 0);
	assert_int_equal(live_stats(fl).cache_dirty, 20);
	assert_int_equal(live_wrong(s->bytes, 40, 1, 9), 0);
	assert_int_equal(live_wrong(s->bytes, 10, 20, 3), 0);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(live_wrong(s->bytes, 10, 20, 9), 0);
	memsource_end(s);
}

/*
 * Nothing is old enough: what is written is so for being many.  The last runtime writes first, which
 * it does when its reads were a moment ago; so were those of the others then, which have as many as they may.
 */
static void more_than_a_share_is_written(void **state)
{
	static const struct {
		unsigned option;
		size_t most;
	} share[] = {
		{50, LIMIT_PAGES / 2}, {0, LIMIT_PAGES * 12 / 100}, {2, LIMIT_PAGES * 2 / 100}};
	struct memsource *s[3];
	struct fl *fl[3];
	char *p[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		fl[i] = runtime_that_writes(3600000, share[i].option);
		s[i] = memsource_new(share[i].most + 1, 3);
		p[i] = memsource_map(fl[i], memsource_open(fl[i], s[i], 1), share[i].most + 1,
				     MAP_SHARED);
		live_fill(p[i], 0, share[i].most, 9);
	}
	for (unsigned i = 3; i-- > 0;) {
		const size_t n = share[i].most;
		struct fl_stats now = live_stats(fl[i]);

		assert_int_equal(now.cache_dirty, n);
		assert_int_equal(now.file_writes, 0);
		live_fill(p[i], n, 1, 9);
		until(live_stats(fl[i]).cache_dirty <= n / 2 &&
		      live_stats(fl[i]).cache_writeback == 0);
		assert_int_equal(fl_close(fl[i]), 0);
		assert_int_equal(live_wrong(s[i]->bytes, 0, n + 1, 9), 0);
		memsource_end(s[i]);
	}
}

static void options_of_write_back_are_checked(void **state)
{
	static const struct {
		unsigned expire, background;
		const char *why;
	} bad[] = {
		{249, 0, "dirty_expire takes 250 to 3600000 milliseconds"},
		{3600001, 0, "dirty_expire takes 250 to 3600000 milliseconds"},
		{UINT32_MAX, 12, "dirty_expire takes 250 to 3600000 milliseconds"},
		{250, 51, "dirty_background takes 1 to 50 per cent"},
		{0, UINT32_MAX, "dirty_background takes 1 to 50 per cent"},
	};
	struct fl_options o = live_options(LIMIT);
	struct fl *fl;

	(void)state;
	o.log = live_log;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		o.dirty_expire = bad[i].expire;
		o.dirty_background = bad[i].background;
		live_log_clear();
		assert_int_equal(fl_open(&fl, &o), -EINVAL);
		assert_null(fl);
		assert_non_null(strstr(live_text, bad[i].why));
		assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	}
	/* of a program that was built before there were such options */
	o.size = offsetof(struct fl_options, dirty_expire);
	assert_int_equal(fl_open(&fl, &o), 0);
	assert_int_equal(fl_close(fl), 0);
}

static void files_and_anonymous_memory_share_the_limit(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime(FL_ENGINE_AUTO, 2);
	int fd = live_file(n, 3);
	char *p = map_fd(fl, fd, n, RW, MAP_SHARED);
	char *a = live_map(fl, n);
	struct fl_stats s;

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < n; i += 64) {
			live_fill(a, i, 64, 10 + round);
			live_fill(p, i, 64, 20 + round);
		}
		live_check(a, 0, n, 10 + round);
		live_check(p, 0, n, 20 + round);
	}
	assert_int_equal(fl_set_limit(fl, LIMIT / 2), 0);
	live_check(a, 0, n, 11);
	live_check(p, 0, n, 21);
	/* of one moment: from one to the next, pages go from one to another */
	s = live_stats(fl);
	assert_true(s.cache_pages + s.resident + s.staged <= LIMIT_PAGES / 2);
	assert_true(s.resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_source_is_read_and_written),
		cmocka_unit_test(closing_writes_what_is_left),
		cmocka_unit_test(exit_writes_what_is_left),
		cmocka_unit_test(exit_waits_for_writes_alone),
		cmocka_unit_test(a_source_may_exit),
		cmocka_unit_test(closing_a_files_backing_writes),
		cmocka_unit_test(private_pages_of_a_source_are_swapped),
		cmocka_unit_test(reads_that_fail_raise_sigbus_once_each),
		cmocka_unit_test(writes_that_fail_are_told_once_and_tried_again),
		cmocka_unit_test(errors_of_two_sources_are_told_once_each),
		cmocka_unit_test(a_bad_sync_hides_no_error_of_another),
		cmocka_unit_test(a_bad_sync_is_told_to_all_who_wait),
		cmocka_unit_test(what_can_never_be_written_is_said),
		cmocka_unit_test(what_nobody_maps_is_tried_again),
		cmocka_unit_test(files_that_the_process_may_not_make),
		cmocka_unit_test(one_read_serves_all),
		cmocka_unit_test(a_mapping_may_go_while_it_is_read),
		cmocka_unit_test(arguments_of_sources_are_checked),
		cmocka_unit_test(engines_and_pagers_do_the_same),
		cmocka_unit_test(a_file_for_reading_becomes_one_for_writing),
		cmocka_unit_test(a_file_that_is_no_longer_allowed),
		cmocka_unit_test(what_others_cut_off_is_not_written),
		cmocka_unit_test(guards_are_refused),
		cmocka_unit_test(no_more_descriptors),
		cmocka_unit_test(others_writes_are_seen_after_invalidation),
		cmocka_unit_test(a_file_is_written_from_its_own_mapping),
		cmocka_unit_test(forward_reading_is_read_ahead),
		cmocka_unit_test(without_a_window_pages_are_read_alone),
		cmocka_unit_test(interleaved_streams_keep_theirs),
		cmocka_unit_test(a_stream_outlives_reading_at_random),
		cmocka_unit_test(mappings_of_a_file_keep_their_streams),
		cmocka_unit_test(what_is_only_read_has_one_frame),
		cmocka_unit_test(becoming_writable_reads_nothing_alone),
		cmocka_unit_test(what_is_locked_stays_when_it_becomes_writable),
		cmocka_unit_test(what_is_locked_on_fault_comes_when_it_is_touched),
		cmocka_unit_test(what_is_made_writable_past_us_stays_private),
		cmocka_unit_test(parts_become_writable_under_readers),
		cmocka_unit_test(a_page_becomes_writable_under_its_readers),
		cmocka_unit_test(what_is_behind_the_end_becomes_writable),
		cmocka_unit_test(a_long_mapping_of_a_short_file_becomes_writable),
		cmocka_unit_test(becoming_writable_takes_no_place_of_the_programs),
		cmocka_unit_test(random_reading_reads_single_pages),
		cmocka_unit_test(single_pages_come_and_go_whole),
		cmocka_unit_test(a_scan_does_not_push_out_what_is_hot),
		cmocka_unit_test(old_dirty_pages_are_written_unasked),
		cmocka_unit_test(a_short_age_is_waited_for),
		cmocka_unit_test(a_long_age_is_waited_for),
		cmocka_unit_test(more_than_a_share_is_written),
		cmocka_unit_test(options_of_write_back_are_checked),
		cmocka_unit_test(files_and_anonymous_memory_share_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
