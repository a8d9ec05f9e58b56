/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fl_sync() while the length of the file changes: a replaced system call changes it between
 * two steps of the call, or within one.
 */
#include "drive.h"

#include "blkio.h"

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

static void open_held(size_t pages, off_t size)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(direct_writes_that_are_refused),
		cmocka_unit_test(longer_while_its_tail_is_written),
		cmocka_unit_test(shorter_while_it_is_gathered),
	};

	return cmocka_run_group_tests_name("sync", tests, NULL, NULL);
}
