/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped.c - a mapping of a file with a shadow; see mapped.h.
 */
#include "mapped.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define LOST_MAX 20U

static bool lasts;    /* the failure: what cannot be read stays so, */
static unsigned lost; /* and so many pages were found so */

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
			end = now() + (lasts ? 0.01 : HANG_SECONDS / 5);
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

void check_page(struct file *f, size_t page, const char *what)
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

void change_page(struct file *f, size_t page)
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

void check_all(struct file *f, const char *what)
{
	at(what);
	for (size_t i = 0; i < f->pages; i++)
		check_page(f, i, what);
}

const void *page_in_file(const struct file *f, size_t page, const char *what)
{
	static char bytes[PG];

	if (pread(f->fd, bytes, PG, (off_t)(page * PG)) != (ssize_t)PG)
		wrong("%s: page %zu cannot be read", what, page);
	return bytes;
}

/* ---- begin and end ---- */

static void make_file(struct file *f, size_t pages)
{
	f->fd = open(case_file(0), O_RDWR | O_CREAT | O_TRUNC, 0600);
	f->shadow = mmap(NULL, pages * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->fd < 0 || f->shadow == MAP_FAILED || pages > FILE_PAGES_MAX)
		wrong("no file or no memory");
	for (size_t i = 0; i < pages * WORDS; i++)
		((uint64_t *)(void *)f->shadow)[i] = i * 0x9e3779b97f4a7c15U;
	if (write(f->fd, f->shadow, pages * PG) != (ssize_t)(pages * PG))
		wrong("the file cannot be written");
	f->pages = pages;
	f->rng = 7;
}

void file_begin(struct file *f, const struct load *load, size_t pages, int flags)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.engine = load->engine,
		.swap_dir = getenv("TMPDIR"),
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	int r;

	make_file(f, pages);
	sigaction(SIGBUS, &sa, NULL);
	lasts = load->in.persist;
	inject_calls(&load->in);
	at("fl_open");
	r = fl_open(&f->fl, &o);
	if (r != 0) {
		count_refusal("fl_open", r);
		refused();
	}
	f->map = NULL;
	for (unsigned tries = 0; f->map == NULL; tries++) {
		void *p;

		at("fl_mmap");
		p = fl_mmap(f->fl, NULL, f->pages * PG, RW, flags, f->fd, 0);
		if (p != FL_FAILED)
			f->map = p;
		else
			count_refusal("fl_mmap", -errno);
		if (f->map == NULL && tries == 2)
			refused();
	}
}

bool file_close(struct file *f)
{
	return did("fl_close", fl_close(f->fl)) || did("fl_close", fl_close(f->fl));
}
