/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call that held mappings and fl_sync() make fails in turn.
 *
 * As test-fault-files.c.  What may come of a failure: a call of the application
 * is refused; a fl_sync() fails, and then the file has of each page what was
 * synced before or what is held, and memory has all that was stored; SIGBUS that
 * goes away when the failure does; the end of the process with one line.  What is
 * in the file otherwise is what the last good fl_sync() wrote.
 */
#include "drive.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 700U
#define WORDS (PG / 8)
#define SECONDS 20U
#define FIRST 2U
#define SAMPLE 1U
#define PATIENCE 3.0 /* seconds for a SIGBUS to go away */
#define RW (PROT_READ | PROT_WRITE)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct load {
	enum fl_engine engine;
	struct injection in;
};

struct file {
	struct fl *fl;
	int fd;
	char *map;    /* NULL: not mapped */
	char *shadow; /* what the mapping holds */
	char *synced; /* what the file holds since the last fl_sync() that was good */
	size_t pages;
	bool lost[PAGES]; /* cannot be read for now */
	uint64_t rng;
};

#define LOST_MAX 20U

static bool lasts;    /* the failure: what cannot be read stays so, */
static unsigned lost; /* and so many pages were found so */

static void at(const char *what)
{
	snprintf(report->at, sizeof(report->at), "%s", what);
}

static bool answered(const char *what, int r)
{
	if (r == 0)
		return true;
	count_refusal(what, r);
	return false;
}

#define did(what, call) (at(what), answered(what, call))

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- touches ---- */

static sigjmp_buf escape;
static volatile uintptr_t awaited;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (((uintptr_t)info->si_addr & ~(PG - 1)) != awaited)
		wrong("SIGBUS at %p while %p was touched", info->si_addr, (void *)awaited);
	siglongjmp(escape, 1);
}

/* Bring a page in; false: it cannot be read, and that lasts. */
static bool touch(char *p)
{
	volatile double end = 0;

	awaited = (uintptr_t)p;
	if (sigsetjmp(escape, 1) != 0) {
		if (end == 0) {
			end = now() + (lasts ? 0.01 : PATIENCE);
		} else if (now() > end) {
			if (!lasts)
				wrong("SIGBUS at %p does not go away", (void *)p);
			if (++lost > LOST_MAX)
				refused();
			return false;
		}
		sched_yield();
	}
	(void)*(volatile char *)p;
	awaited = 0;
	return true;
}

static void check_page(struct file *f, size_t page, const char *what)
{
	char *p = f->map + page * PG;

	f->lost[page] = !touch(p);
	if (f->lost[page])
		return;
	/* between this and the touch it may leave, and its next read fail */
	awaited = (uintptr_t)p;
	if (sigsetjmp(escape, 1) != 0)
		f->lost[page] = !touch(p);
	for (size_t i = 0; i < WORDS && !f->lost[page]; i++) {
		uint64_t have = ((volatile uint64_t *)(void *)p)[i];
		uint64_t want = ((uint64_t *)(void *)(f->shadow + page * PG))[i];

		if (have != want)
			wrong("%s: page %zu, word %zu: %016lx, not %016lx", what, page, i,
			      (unsigned long)have, (unsigned long)want);
	}
	awaited = 0;
}

static void change_page(struct file *f, size_t page)
{
	char *p = f->map + page * PG;
	uint64_t x = f->rng = f->rng * 6364136223846793005U + 1442695040888963407U;

	if (!touch(p))
		return;
	awaited = (uintptr_t)p;
	if (sigsetjmp(escape, 1) != 0 && !touch(p))
		return;
	for (size_t i = 0; i < 8; i++) {
		((volatile uint64_t *)(void *)p)[i * 64] = x + i;
		((uint64_t *)(void *)(f->shadow + page * PG))[i * 64] = x + i;
	}
	awaited = 0;
}

static void check_all(struct file *f, const char *what)
{
	at(what);
	for (size_t i = 0; i < f->pages; i++)
		check_page(f, i, what);
}

/* ---- the workload ---- */

/* The file's pages are as they were synced, or (a sync failed) as they are. */
static void check_file(struct file *f, bool failed, const char *what)
{
	static char page[PG];

	at(what);
	for (size_t i = 0; i < f->pages; i++) {
		if (pread(f->fd, page, PG, (off_t)(i * PG)) != (ssize_t)PG)
			wrong("%s: page %zu cannot be read", what, i);
		if (memcmp(page, f->synced + i * PG, PG) != 0 &&
		    !(failed && memcmp(page, f->shadow + i * PG, PG) == 0))
			wrong("%s: page %zu is not what was synced", what, i);
		if (failed)
			memcpy(f->synced + i * PG, page, PG);
	}
}

static void sync_and_look(struct file *f)
{
	check_file(f, false, "before a sync");
	if (did("fl_sync", fl_sync(f->fl, f->map, f->pages * PG))) {
		memcpy(f->synced, f->shadow, f->pages * PG);
		check_file(f, false, "synced");
	} else {
		check_file(f, true, "a sync failed");
	}
	check_all(f, "after a sync");
}

static void change_some(struct file *f, size_t first, size_t step)
{
	at("changes");
	for (size_t i = first; i < f->pages; i += step)
		change_page(f, i);
}

static void drop_some(struct file *f)
{
	if (!did("drop", fl_madvise(f->fl, f->map + 50 * PG, 20 * PG, MADV_DONTNEED)))
		return;
	memcpy(f->shadow + 50 * PG, f->synced + 50 * PG, 20 * PG);
	for (size_t i = 50; i < 70; i++)
		check_page(f, i, "dropped");
}

static void make_file(struct file *f)
{
	f->fd = open(case_file(0), O_RDWR | O_CREAT | O_TRUNC, 0600);
	f->shadow = mmap(NULL, PAGES * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->fd < 0 || f->shadow == MAP_FAILED)
		wrong("no file or no memory");
	for (size_t i = 0; i < PAGES * WORDS; i++)
		((uint64_t *)(void *)f->shadow)[i] = i * 0x9e3779b97f4a7c15U;
	if (write(f->fd, f->shadow, PAGES * PG) != (ssize_t)(PAGES * PG))
		wrong("the file cannot be written");
	f->synced = mmap(NULL, PAGES * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->synced == MAP_FAILED)
		wrong("no memory");
	memcpy(f->synced, f->shadow, PAGES * PG);
	f->pages = PAGES;
	f->rng = 7;
}

static void workload(void *arg)
{
	const struct load *load = arg;
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.engine = load->engine,
		.swap_dir = getenv("TMPDIR"),
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	static struct file f;
	int r;

	make_file(&f);
	sigaction(SIGBUS, &sa, NULL);
	lasts = load->in.persist;
	inject_calls(&load->in);
	at("fl_open");
	r = fl_open(&f.fl, &o);
	if (r != 0) {
		count_refusal("fl_open", r);
		refused();
	}
	for (unsigned tries = 0; f.map == NULL; tries++) {
		void *p;

		at("fl_mmap");
		p = fl_mmap(f.fl, NULL, f.pages * PG, RW, MAP_SHARED | FL_MAP_HOLD, f.fd, 0);
		if (p != FL_FAILED)
			f.map = p;
		else
			count_refusal("fl_mmap", -errno);
		if (tries == 2)
			refused();
	}
	change_some(&f, 0, 1);
	check_all(&f, "after changes");
	sync_and_look(&f);
	change_some(&f, 0, 3);
	did("pageout", fl_madvise(f.fl, f.map, 100 * PG, MADV_PAGEOUT));
	change_some(&f, 1, 7);
	sync_and_look(&f);
	change_some(&f, 40, 1);
	drop_some(&f);
	check_all(&f, "after a drop");
	sync_and_look(&f);
	sync_and_look(&f);
	change_some(&f, 0, 2);
	fl_stats(f.fl, &report->stats, sizeof(report->stats));
	r = fl_sync(f.fl, f.map, f.pages * PG);
	if (r == 0)
		memcpy(f.synced, f.shadow, f.pages * PG);
	if (!did("fl_close", fl_close(f.fl)) && !did("fl_close", fl_close(f.fl)))
		return;
	check_file(&f, r != 0, "after fl_close");
}

/* ---- what fails, and how ---- */

#define ERRS 5

struct row {
	int row;
	enum fl_engine engine;
	long err[ERRS];
	long lasting[ERRS];
};

#define ROW(name) .row = SYSROW_##name, .engine = FL_ENGINE_URING
#define SYNC_ROW(name) .row = SYSROW_##name, .engine = FL_ENGINE_SYNC

static const struct row rows[] = {
	{ROW(uffd_writeprotect), .err = {-EAGAIN, -ENOENT, -ENOMEM}},
	{ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, ERR_PARTIAL}, .lasting = {ERR_PARTIAL}},
	{ROW(uffd_move), .err = {-EAGAIN, -EBUSY, ERR_PARTIAL}},
	{ROW(pread), .err = {-EIO, -EINTR, ERR_PARTIAL}, .lasting = {-EIO}},
	{ROW(mmap), .err = {-ENOMEM, -EAGAIN}, .lasting = {-ENOMEM}},
	{ROW(fstat), .err = {-EIO, -ENOMEM}},
	{ROW(uring_enter), .err = {-EAGAIN, -EINTR, -ENOMEM}, .lasting = {-EAGAIN}},
	{SYNC_ROW(pread), .err = {-EIO, -EINVAL, ERR_PARTIAL}},
	{SYNC_ROW(pwrite), .err = {-EIO, -EINVAL, -ENOSPC, ERR_PARTIAL}, .lasting = {-ENOSPC}},
	{SYNC_ROW(fsync), .err = {-EIO, -ENOSPC}, .lasting = {-EIO}},
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))

static unsigned long calls[3][SYSROW_COUNT];

static void workload_alone(void **state)
{
	(void)state;
	for (enum fl_engine e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct load load = {.engine = e, .in = {.row = -1}};
		struct report *r;

		if (run_case(workload, &load, SECONDS, &r) != END_WELL || r->refused != 0 ||
		    r->nlines != 0)
			fail_msg("without a failure: %s (%u refused: %s, %u lines: %s) at %s%s",
				 r->wrong, r->refused, r->last_refusal, r->nlines, r->line[0],
				 r->at, r->stderr_text);
		if (r->stats.evicted == 0 || r->stats.file_writes == 0)
			fail_msg("the workload does not page");
		memcpy(calls[e], r->calls, sizeof(r->calls));
	}
}

static const char *error_text(long err)
{
	return err == ERR_PARTIAL ? "a part" : strerror((int)-err);
}

/* One case; its number of hits. */
static unsigned one(const struct row *row, unsigned long nth, long err, bool persist, unsigned *bad)
{
	struct load load = {
		.engine = row->engine,
		.in = {.row = row->row, .nth = nth, .err = err, .persist = persist},
	};
	struct report *r;
	enum ending end = run_case(workload, &load, SECONDS, &r);
	const char *why = NULL;

	if (end == END_BAD)
		why = r->wrong;
	else if (end == END_KILLED && !persist)
		why = "one failure ended the process";
	else if (end == END_REFUSED && r->hits == 0)
		why = "refused without a failure";
	if (why != NULL) {
		(*bad)++;
		print_error("%s call %lu%s fails with %s: %s\n"
			    "    at %s; %u hits, %u refused (%s)\n    %s\n    %s\n    %s\n",
			    sys_table[row->row].name, nth, persist ? " and all after" : "",
			    error_text(err), why, r->at, r->hits, r->refused, r->last_refusal,
			    r->line[0], r->line[1], r->stderr_text);
	}
	return r->hits != 0;
}

static void row_fails(void **state)
{
	const struct row *row = *state;
	unsigned long c = calls[row->engine][row->row];
	uint64_t rng = (uint64_t)row->row + 1;
	unsigned cases = 0, hit = 0, bad = 0;

	assert_true(c != 0);
	for (unsigned i = 0; i < FIRST + SAMPLE && i < c; i++) {
		unsigned long nth = i + 1;
		unsigned n = 0;

		if (i >= FIRST && c > FIRST + SAMPLE) {
			rng = rng * 6364136223846793005U + 1442695040888963407U;
			nth = FIRST + 1 + (rng >> 33) % (c - FIRST);
		}
		while (n < ERRS && row->err[n] != 0)
			n++;
		hit += one(row, nth, row->err[i % n], false, &bad);
		cases++;
	}
	for (unsigned e = 0; e < ERRS && row->lasting[e] != 0; e++) {
		hit += one(row, 1 + c / 2, row->lasting[e], true, &bad);
		cases++;
	}
	if (bad != 0)
		fail_msg("%u of %u cases", bad, cases);
	if (hit * 2 < cases)
		fail_msg("of %u cases only %u met a failure", cases, hit);
}

int main(void)
{
	const char *only = getenv("FAULT_ROW");
	struct CMUnitTest tests[NROWS + 1] = {cmocka_unit_test(workload_alone)};
	size_t n = 1;

	for (size_t i = 0; i < NROWS; i++) {
		if (only != NULL && strcmp(only, sys_table[rows[i].row].name) != 0)
			continue;
		tests[n++] = (struct CMUnitTest){
			.name = sys_table[rows[i].row].name,
			.test_func = row_fails,
			.initial_state = (void *)(uintptr_t)&rows[i],
		};
	}
	return _cmocka_run_group_tests("held", tests, n, NULL, NULL);
}
