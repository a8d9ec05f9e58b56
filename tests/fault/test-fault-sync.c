/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fl_sync() while the length of the file changes: a replaced system call changes it between
 * two steps of the call, or within one.  Direct writes that are refused.  Errors of which
 * fl_msync() tells, and what is waited for at the end of a process.
 */
#include "drive.h"

#include "blkio.h"
#include "do.h"
#include "hop.h"
#include "mm.h"
#include "pager.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	struct fl *fl;
	const char *path;
	int fd; /* the program's */
	char *held;
	sys_fn fn; /* of the row that was replaced */
	unsigned calls;
} now;

static void open_by(enum fl_engine engine, size_t pages, off_t size)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.engine = engine,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};

	now.path = case_file(0);
	now.fd = open(now.path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (now.fd < 0 || ftruncate(now.fd, size) != 0 || fl_open(&now.fl, &o) != 0)
		wrong("fl_open");
	now.held = fl_mmap(now.fl, NULL, pages * PG, PROT_READ | PROT_WRITE,
			   MAP_SHARED | FL_MAP_HOLD, now.fd, 0);
	if (now.held == FL_FAILED)
		wrong("fl_mmap");
}

static void open_held(size_t pages, off_t size)
{
	open_by(FL_ENGINE_AUTO, pages, size);
}

static void close_held(void)
{
	if (report->nlines != 0)
		wrong("a line without a reason: %s", report->line[0]);
	if (fl_close(now.fl) != 0)
		wrong("fl_close");
	close(now.fd);
}

static void run(void (*body)(void *))
{
	struct report *r;

	if (run_case(body, NULL, &r) != END_WELL)
		fail_msg("%s %s %s", r->wrong, r->line[0], r->stderr_text);
}

/* ---- shorter ---- */

/* On the pager: the file is looked at when the call begins, and before a page is written. */
static long fstat_shortens(long fd, long st, long c, long d, long e, long f)
{
	if (++now.calls == 2)
		sys_bare(SYS_truncate, (long)now.path, 0, 0, 0, 0, 0);
	return now.fn(fd, st, c, d, e, f);
}

static void play_shorter(void *arg)
{
	struct stat st;
	char *shared;

	(void)arg;
	open_held(2, 2 * PG);
	shared = fl_mmap(now.fl, NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, now.fd, 0);
	if (shared == FL_FAILED)
		wrong("fl_mmap");
	memset(now.held, 1, 2 * PG);
	shared[PG] = 2;
	now.fn = sys_table[SYSROW_fstat].fn;
	sys_table[SYSROW_fstat].fn = fstat_shortens;
	if (fl_sync(now.fl, now.held, 2 * PG) != 0)
		wrong("fl_sync");
	if (now.calls < 2)
		wrong("the file was not looked at again");
	if (fstat(now.fd, &st) != 0 || st.st_size != 0)
		wrong("fl_sync made the file longer again: %ld", (long)st.st_size);
	close_held();
}

/* What was gathered for a write is gone when it is found that another process has cut it off. */
static void shorter_while_it_is_gathered(void **state)
{
	(void)state;
	run(play_shorter);
}

/* ---- longer ---- */

static bool write_began; /* atomic: of the tail, with the size of then */

static long write_begins(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	if (op == BLK_WRITE && len == 100)
		__atomic_store_n(&write_began, true, __ATOMIC_RELEASE);
	return 0;
}

/* On the thread that calls fl_sync(), between two of its steps. */
static long mask_lengthens(long how, long set, long old, long size, long e, long f)
{
	if (__atomic_load_n(&write_began, __ATOMIC_ACQUIRE) && now.calls++ == 0 &&
	    fl_ftruncate(now.fl, now.fd, PG) != 0)
		wrong("fl_ftruncate");
	return now.fn(how, set, old, size, e, f);
}

static void play_longer(void *arg)
{
	static char bytes[PG];

	(void)arg;
	blkio_inject = write_begins;
	open_held(1, 100);
	memset(now.held, 1, 200);
	now.fn = sys_table[SYSROW_sigprocmask].fn;
	sys_table[SYSROW_sigprocmask].fn = mask_lengthens;
	if (fl_sync(now.fl, now.held, PG) != 0)
		wrong("fl_sync");
	sys_table[SYSROW_sigprocmask].fn = now.fn;
	if (now.calls == 0)
		wrong("the file did not become longer");
	if (now.held[199] != 1)
		wrong("what was stored behind the end is lost");
	if (fl_sync(now.fl, now.held, PG) != 0)
		wrong("fl_sync");
	if (pread(now.fd, bytes, PG, 0) != (ssize_t)PG || memcmp(bytes, now.held, PG) != 0)
		wrong("what was stored behind the end did not reach the file");
	close_held();
}

/* What is held behind the end is the file's when it grows, though the tail was just written. */
static void longer_while_its_tail_is_written(void **state)
{
	(void)state;
	run(play_longer);
}

/* ---- direct writes ---- */

static long direct_is_refused(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	int flags = (int)sys_bare(SYS_fcntl, dev->fd, F_GETFL, 0, 0, 0, 0);

	(void)off;
	(void)len;
	if (op != BLK_WRITE || !(flags & O_DIRECT))
		return 0;
	now.calls++;
	return -EINVAL;
}

/* Single pages: a write each, all of which are under way when the first is refused. */
static void play_refused(void *arg)
{
	static char bytes[PG];
	char *shared, *p;

	(void)arg;
	blkio_inject = direct_is_refused;
	for (unsigned held = 0; held < 2; held++) {
		open_held(64, 64 * PG);
		shared = fl_mmap(now.fl, NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, now.fd,
				 0);
		p = held ? now.held : shared;
		now.calls = 0;
		for (unsigned i = 0; i < 64; i += 8)
			memset(p + i * PG, (int)(i + held + 1), PG);
		if ((held ? fl_sync(now.fl, p, 64 * PG) : fl_msync(now.fl, p, 64 * PG, MS_SYNC)) !=
		    0)
			wrong("a file that refuses direct writes was not written, held: %u", held);
		if (now.calls < 2)
			wrong("%u direct writes, held: %u", now.calls, held);
		for (unsigned i = 0; i < 64; i += 8)
			if (pread(now.fd, bytes, PG, (off_t)(i * PG)) != (ssize_t)PG ||
			    memcmp(bytes, p + i * PG, PG) != 0)
				wrong("page %u did not reach the file, held: %u", i, held);
		close_held();
	}
}

/* Where direct writes are refused they are made again, through the kernel's cache. */
static void direct_writes_that_are_refused(void **state)
{
	(void)state;
	run(play_refused);
}

/* ---- what is told ---- */

static bool writes_fail; /* atomic */

static long writes_may_fail(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	(void)len;
	return op == BLK_WRITE && __atomic_load_n(&writes_fail, __ATOMIC_RELAXED) ? -EIO : 0;
}

/* On the test's own thread there is memory: it is the pagers' that runs out. */
static long mmap_of_pagers_fails(long a, long b, long c, long d, long e, long f)
{
	if (sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0) != sys_bare(SYS_getpid, 0, 0, 0, 0, 0, 0))
		return -ENOMEM;
	return now.fn(a, b, c, d, e, f);
}

/* Give out all that a pool has, or take it back. */
static long drain(struct pager *p, void *arg)
{
	static void *got[4096];
	static size_t n;
	struct pool *pool = &p->mm->files.io_pool;

	(void)arg;
	if (n == 0) {
		while (n < sizeof(got) / sizeof(got[0]) &&
		       (pool->free_list != NULL || pool->fresh_bytes >= pool->obj_size))
			got[n++] = pool_get(pool);
	} else {
		while (n != 0)
			pool_put(pool, got[--n]);
	}
	return pool->free_list == NULL && pool->fresh_bytes < pool->obj_size;
}

/* The write of page 0 has failed, and nobody was told, when page 1 is synced. */
static void play_out_of_memory(void *arg)
{
	struct fl_stats s;
	struct mm *mm;
	char *shared;
	int r;

	(void)arg;
	blkio_inject = writes_may_fail;
	open_held(2, 2 * PG);
	/* struct fl of api.c begins with it */
	mm = *(struct mm **)(void *)now.fl;
	shared = fl_mmap(now.fl, NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, now.fd, 0);
	if (shared == FL_FAILED)
		wrong("fl_mmap");
	__atomic_store_n(&writes_fail, true, __ATOMIC_RELAXED);
	shared[0] = 1;
	if (fl_msync(now.fl, shared, PG, MS_ASYNC) != 0)
		wrong("fl_msync, MS_ASYNC");
	do {
		if (fl_stats(now.fl, &s, sizeof(s)) != 0)
			wrong("fl_stats");
	} while (s.file_errors == 0);
	now.fn = sys_table[SYSROW_mmap].fn;
	sys_table[SYSROW_mmap].fn = mmap_of_pagers_fails;
	if (hop_run(mm, drain, NULL) != 1)
		wrong("the pool is not empty");
	r = fl_msync(now.fl, shared + PG, PG, MS_SYNC);
	if (r != -EIO)
		wrong("%d was told where a write had failed, and there was no memory", r);
	r = fl_msync(now.fl, shared + PG, PG, MS_SYNC);
	if (r != -ENOMEM)
		wrong("%d was told where there was no memory", r);
	hop_run(mm, drain, NULL);
	sys_table[SYSROW_mmap].fn = now.fn;
	__atomic_store_n(&writes_fail, false, __ATOMIC_RELAXED);
	if (fl_msync(now.fl, shared, 2 * PG, MS_SYNC) != 0)
		wrong("fl_msync");
	if (lines_with(report, "cannot write to") != 1)
		wrong("the failed write was not logged");
	report->nlines = 0;
	close_held();
}

/* That there is no memory for a sync does not take the place of a failed write's error. */
static void an_error_is_told_though_there_is_no_memory(void **state)
{
	(void)state;
	run(play_out_of_memory);
}

/* ---- at the end ---- */

/*
 * Steps of what exit(3) waits for, while a thread stores and write-back goes on: before a write
 * ends the next one begins.
 */
static long write_out(struct pager *p, void *arg)
{
	struct pagecache *pc = p->mm->files.first;
	long r = do_write_out(p, 0, false);

	(void)arg;
	for (unsigned i = 1; i < 100 && r == 1; i++) {
		blkio_flush(p->io);
		cache_dirty(pc, 1 + i % 2);
		if (cache_write(p, pc, 1 + i % 2, 1) != 1 || blkio_reap_some(p->io, 1) != 1 ||
		    p->mm->files.writeback != 1)
			return -EINVAL;
		r = do_write_out(p, i, false);
	}
	return r;
}

static void play_out(void *arg)
{
	struct mm *mm;
	char *shared;
	long r;

	(void)arg;
	/* the engine whose writes end in their order */
	open_by(FL_ENGINE_SYNC, 3, 3 * PG);
	mm = *(struct mm **)(void *)now.fl;
	shared = fl_mmap(now.fl, NULL, 3 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, now.fd, 0);
	if (shared == FL_FAILED)
		wrong("fl_mmap");
	memset(shared + PG, 1, 2 * PG);
	if (fl_msync(now.fl, shared, 3 * PG, MS_SYNC) != 0)
		wrong("fl_msync");
	shared[0] = 1;
	r = hop_run(mm, write_out, NULL);
	if (r != 0)
		wrong("what was stored before is not known to be written: %ld", r);
	close_held();
}

/* Nobody's stores keep a process from ending. */
static void the_end_waits_for_no_later_write(void **state)
{
	(void)state;
	run(play_out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_is_told_though_there_is_no_memory),
		cmocka_unit_test(direct_writes_that_are_refused),
		cmocka_unit_test(longer_while_its_tail_is_written),
		cmocka_unit_test(shorter_while_it_is_gathered),
		cmocka_unit_test(the_end_waits_for_no_later_write),
	};

	return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
