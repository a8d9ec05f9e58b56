/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * torture-fork.c - an ordinary program to be run under a small limit: seeded
 * threads change their memory in every way there is and fork meanwhile, the
 * children do the same, and every process compares every word with an oracle.
 *
 * Each worker owns an arena and a shadow of it that it changes alike.  The
 * shadow is a private mapping of a file, which the kernel pages and copies at a
 * fork by itself.  A child is a copy of one worker: it checks its arena, goes on
 * changing it, forks in its turn, and ends by exit, exec, or its parent's
 * SIGKILL in the middle of anything.  A timer's signal handler works on an arena
 * of its own and maps and unmaps memory wherever it interrupts.
 *
 * With --file arenas are private mappings of a file without a name, here and there
 * of anonymous memory: pages that are dropped are the file's again.
 *
 * With --refused a fork may fail for want of memory, as it does in a group that
 * has no more for another process.
 *
 * usage: torture-fork [--seconds N] [--seed N] [--threads N] [--pages N] [--depth N] [--refused] [--file]
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define CHILDREN 3U
#define SIGNAL_PAGES 64UL
#define STEPS_BETWEEN 40U /* from one fork of a worker to the next, about */

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum kind { NOBODY, EXITS, EXECS, IS_KILLED };

struct child {
	enum kind kind;
	pid_t pid;
};

struct worker {
	pthread_t thread;
	unsigned id;
	unsigned depth; /* 0: of the first process */
	uint64_t rng;
	char *mem, *shadow;
	uint32_t *from; /* which page of the file each page began as, plus one; 0: none */
	uint64_t ops, forks;
	struct child child[CHILDREN];
};

static atomic_bool stop;
static size_t pages = 1024; /* of each worker */
static unsigned max_depth = 3;
static bool may_refuse;
static int file = -1; /* that arenas map; -1: none */
static char self[4096];

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

__attribute__((format(printf, 2, 3), noreturn)) static void die(const struct worker *w,
								const char *fmt, ...)
{
	char text[300];
	size_t n;
	va_list ap;

	n = (size_t)snprintf(text, sizeof(text),
			     "torture-fork: process %d, depth %u, worker %u, op %lu: ",
			     (int)getpid(), w->depth, w->id, (unsigned long)w->ops);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
	dprintf(2, "%s\n", text);
	abort();
}

static void check(const struct worker *w, size_t first, size_t n, const char *what)
{
	for (size_t p = first; p < first + n; p++) {
		const uint64_t *a = (const uint64_t *)(const void *)(w->mem + p * PG);
		const uint64_t *b = (const uint64_t *)(const void *)(w->shadow + p * PG);

		for (size_t i = 0; i < WORDS; i++)
			if (a[i] != b[i])
				die(w, "%s: page %zu (%p) word %zu: %016lx, should be %016lx", what,
				    p, (const void *)(a + i), i, (unsigned long)a[i],
				    (unsigned long)b[i]);
	}
}

static void must(const struct worker *w, const char *what, int r)
{
	if (r != 0)
		die(w, "%s: %s", what, strerror(errno));
}

static void write_some(struct worker *w, size_t first, size_t n)
{
	for (size_t p = first; p < first + n; p++) {
		uint64_t *a = (uint64_t *)(void *)(w->mem + p * PG);
		uint64_t *b = (uint64_t *)(void *)(w->shadow + p * PG);

		for (unsigned k = 0; k < 4; k++) {
			size_t i = next(&w->rng) % WORDS;

			if (a[i] != b[i])
				die(w,
				    "before a write: page %zu word %zu: %016lx, should be %016lx",
				    p, i, (unsigned long)a[i], (unsigned long)b[i]);
			a[i] = b[i] = next(&w->rng);
		}
	}
}

static void fill_some(struct worker *w, size_t first, size_t n, uint64_t v)
{
	for (size_t i = first * WORDS; i < (first + n) * WORDS; i++)
		((uint64_t *)(void *)w->mem)[i] = ((uint64_t *)(void *)w->shadow)[i] = v;
}

/*
 * Between an munmap and the mmap that fills the hole nobody else may map
 * anything, or it would be overwritten: who opens a hole waits until nobody
 * maps, and who maps waits until there is no hole.
 */
static atomic_uint holes, mappers;

static void hole_open(void)
{
	holes++;
	while (mappers != 0)
		sched_yield();
}

static bool map_try(void)
{
	mappers++;
	if (holes == 0)
		return true;
	mappers--;
	return false;
}

static void map_wait(void)
{
	while (!map_try())
		sched_yield();
}

/* What pages are that were never written: zeros, or the file's. */
static void begin(struct worker *w, size_t first, size_t n)
{
	for (size_t p = first; p < first + n; p++)
		if (w->from[p] == 0)
			memset(w->shadow + p * PG, 0, PG);
		else if (pread(file, w->shadow + p * PG, PG, (off_t)((w->from[p] - 1) * PG)) !=
			 (ssize_t)PG)
			die(w, "the file cannot be read: %s", strerror(errno));
}

static void map_fixed(struct worker *w, size_t first, size_t n)
{
	bool of_file = file >= 0 && next(&w->rng) % 4 != 0;
	size_t at = of_file ? next(&w->rng) % (pages - n) : 0;
	int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (of_file ? 0 : MAP_ANONYMOUS);

	if (mmap(w->mem + first * PG, n * PG, PROT_READ | PROT_WRITE, flags, of_file ? file : -1,
		 (off_t)(at * PG)) == MAP_FAILED)
		die(w, "mmap over: %s", strerror(errno));
	for (size_t p = 0; p < n; p++)
		w->from[first + p] = of_file ? (uint32_t)(at + p + 1) : 0;
	begin(w, first, n);
}

static void move(struct worker *w, size_t a, size_t b, size_t n)
{
	hole_open();
	if (mremap(w->mem + a * PG, n * PG, n * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
		   w->mem + b * PG) == MAP_FAILED) {
		if (errno != EFAULT) /* several kernel mappings */
			die(w, "mremap: %s", strerror(errno));
		holes--;
		return;
	}
	memcpy(w->shadow + b * PG, w->shadow + a * PG, n * PG);
	memcpy(w->from + b, w->from + a, n * sizeof(*w->from));
	map_fixed(w, a, n);
	holes--;
}

static void change(struct worker *w)
{
	static const int hints[] = {MADV_WILLNEED, MADV_COLD,	MADV_PAGEOUT,
				    MADV_RANDOM,   MADV_NORMAL, MADV_SEQUENTIAL};
	uint64_t dice = next(&w->rng) % 100;
	size_t n = 1 + next(&w->rng) % 32;
	size_t a = next(&w->rng) % (pages - n);
	size_t b = next(&w->rng) % (pages - n);
	char *at = w->mem + a * PG;

	if (dice < 40) {
		write_some(w, a, n);
	} else if (dice < 55) {
		check(w, a, n, "read");
	} else if (dice < 61) {
		fill_some(w, a, n, next(&w->rng) % 4 == 0 ? 0 : next(&w->rng));
	} else if (dice < 66) {
		if (file >= 0 || next(&w->rng) % 2) {
			must(w, "madvise", madvise(at, n * PG, MADV_DONTNEED));
			begin(w, a, n);
		} else {
			/* what is freed may stay or go: what is written then is there */
			must(w, "madvise", madvise(at, n * PG, MADV_FREE));
			fill_some(w, a, n, next(&w->rng));
		}
	} else if (dice < 71) {
		must(w, "madvise",
		     madvise(at, n * PG,
			     hints[next(&w->rng) % (sizeof(hints) / sizeof(hints[0]))]));
	} else if (dice < 76) {
		if (a + n <= b || b + n <= a)
			move(w, a, b, n);
	} else if (dice < 80) {
		must(w, "mprotect", mprotect(at, n * PG, PROT_READ));
		check(w, a, n, "read-only");
		must(w, "mprotect", mprotect(at, n * PG, PROT_READ | PROT_WRITE));
		write_some(w, a, n);
	} else if (dice < 83) {
		hole_open();
		must(w, "munmap", munmap(at, n * PG));
		map_fixed(w, a, n);
		holes--;
	} else if (dice < 86) {
		map_fixed(w, a, n);
	} else if (dice < 89) {
		int r = mlock(at, (1 + n % 4) * PG);

		if (r != 0 && errno != ENOMEM && errno != EAGAIN)
			must(w, "mlock", r);
		check(w, a, n, "locked");
		must(w, "munlock", munlock(at, (1 + n % 4) * PG));
	} else if (dice < 92) {
		must(w, "populate",
		     madvise(at, n * PG,
			     next(&w->rng) % 2 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ));
		check(w, a, n, "populated");
	} else if (dice < 96) {
		size_t len = 64 + next(&w->rng) % 128;

		if (a + len < pages)
			check(w, a, len, "scan");
	} else {
		/* what malloc(3) does with large blocks, and small ones */
		size_t size = next(&w->rng) % 2 ? 300000 : 3000;
		char *p;

		map_wait();
		p = malloc(size);
		mappers--;
		memset(p, (int)dice, size);
		if (p[size / 2] != (char)dice)
			die(w, "malloc'ed memory changed");
		free(p);
	}
	w->ops++;
}

/* ---- signals ---- */

static char *signal_mem, *signal_shadow;
static atomic_flag in_handler = ATOMIC_FLAG_INIT;
static uint64_t signal_rng = 1;
static atomic_ulong signals;

static void on_alarm(int sig)
{
	struct worker w = {.id = 99, .mem = signal_mem, .shadow = signal_shadow};
	int err = errno;
	char *p;

	(void)sig;
	if (atomic_flag_test_and_set(&in_handler))
		return;
	if (!map_try()) {
		atomic_flag_clear(&in_handler);
		return;
	}
	w.rng = signal_rng;
	write_some(&w, next(&w.rng) % SIGNAL_PAGES, 1);
	p = mmap(NULL, 3 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || p[PG] != 0)
		die(&w, "memory mapped by a handler");
	p[PG] = 1;
	must(&w, "munmap by a handler", munmap(p, 3 * PG));
	signal_rng = w.rng;
	signals++;
	mappers--;
	atomic_flag_clear(&in_handler);
	errno = err;
}

static void start_timer(bool on)
{
	struct itimerval t = {.it_interval = {.tv_usec = on ? 1500 : 0},
			      .it_value = {.tv_usec = on ? 1500 : 0}};

	setitimer(ITIMER_REAL, &t, NULL);
}

/* ---- children ---- */

static void reap(struct worker *w, struct child *c)
{
	int status = 0;
	pid_t r;

	if (c->kind == NOBODY)
		return;
	if (c->kind == IS_KILLED)
		kill(c->pid, SIGKILL);
	while ((r = waitpid(c->pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (r != c->pid)
		die(w, "waitpid: %s", strerror(errno));
	if (c->kind == IS_KILLED ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL
				 : status != 0)
		die(w, "a child ended with wait status %x", (unsigned)status);
	c->kind = NOBODY;
}

static void step(struct worker *w);

__attribute__((noreturn)) static void be_child(struct worker *w, enum kind kind)
{
	char *argv[] = {self, NULL};
	unsigned steps = 20 + (unsigned)(next(&w->rng) % 150);

	w->depth++;
	holes = mappers = 0; /* those that others were at */
	w->rng ^= (uint64_t)getpid() * 0x9e3779b97f4a7c15U;
	memset(w->child, 0, sizeof(w->child));
	check(w, 0, pages, "after a fork");
	if (next(&w->rng) % 4 == 0) {
		/* what was interrupted in the parent goes on only there */
		atomic_flag_test_and_set(&in_handler);
		memcpy(signal_shadow, signal_mem, SIGNAL_PAGES * PG);
		atomic_flag_clear(&in_handler);
		start_timer(true);
	}
	for (unsigned i = 0; i < steps || kind == IS_KILLED; i++)
		step(w);
	start_timer(false);
	for (unsigned i = 0; i < CHILDREN; i++)
		reap(w, &w->child[i]);
	check(w, 0, pages, "at a child's end");
	if (kind == EXECS) {
		execve(self, argv, (char *[]){(char[]){"TORTURE_TRUE=1"}, NULL});
		_exit(9);
	}
	_exit(0);
}

static void make_child(struct worker *w)
{
	struct child *c = &w->child[next(&w->rng) % CHILDREN];
	enum kind kind = (enum kind)(EXITS + next(&w->rng) % 3);

	reap(w, c);
	w->forks++;
	if (next(&w->rng) % 8 == 0) {
		/* vfork, inside */
		char *argv[] = {self, NULL};
		char *envp[] = {(char[]){"TORTURE_TRUE=1"}, NULL};
		int r;

		map_wait();
		r = posix_spawn(&c->pid, self, NULL, NULL, argv, envp);

		mappers--;
		if (r != 0)
			die(w, "posix_spawn: %s", strerror(r));
		c->kind = EXITS;
		return;
	}
	/* a child that is killed leaves its own children behind: not those of others */
	if (w->depth >= max_depth)
		return;
	if (kind == IS_KILLED && w->depth + 1 < max_depth)
		kind = EXITS;
	c->pid = fork();
	if (c->pid < 0 && may_refuse && errno == ENOMEM)
		return;
	if (c->pid < 0)
		die(w, "fork: %s", strerror(errno));
	if (c->pid == 0)
		be_child(w, kind);
	c->kind = kind;
}

static void step(struct worker *w)
{
	change(w);
	if (next(&w->rng) % (STEPS_BETWEEN << (2 * w->depth)) == 0)
		make_child(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop))
		step(w);
	for (unsigned i = 0; i < CHILDREN; i++)
		reap(w, &w->child[i]);
	check(w, 0, pages, "at the end");
	return NULL;
}

/* ---- the first process ---- */

static char *arena(size_t n)
{
	char *p = mmap(NULL, n * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

/* A file that has lost its name, of as many pages as an arena, each with content of its own. */
static void make_file(uint64_t seed)
{
	const char *dir = getenv("TMPDIR");
	uint64_t page[WORDS];
	char path[4096];

	snprintf(path, sizeof(path), "%s/torture-fork-XXXXXX", dir != NULL ? dir : "/var/tmp");
	file = mkostemp(path, O_CLOEXEC);
	if (file < 0 || unlink(path) != 0)
		exit(1);
	for (size_t p = 0; p < pages; p++) {
		uint64_t rng = seed + p + 1;

		for (size_t i = 0; i < WORDS; i++)
			page[i] = p % 7 == 0 ? rng : next(&rng);
		if (write(file, page, PG) != (ssize_t)PG)
			exit(1);
	}
}

/* A private mapping of a file, of zeros. */
static char *oracle(size_t n)
{
	int fd = memfd_create("oracle", MFD_CLOEXEC);
	char *p;

	if (fd < 0 || ftruncate(fd, (off_t)(n * PG)) != 0)
		exit(1);
	p = mmap(NULL, n * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		exit(1);
	return p;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seconds", 1, NULL, 's'}, {"seed", 1, NULL, 'r'},  {"threads", 1, NULL, 't'},
		{"pages", 1, NULL, 'p'},   {"depth", 1, NULL, 'd'}, {"refused", 0, NULL, 'R'},
		{"file", 0, NULL, 'f'},	   {NULL, 0, NULL, 0},
	};
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	unsigned nthreads = 3;
	bool of_file = false;
	double seconds = 20, end;
	uint64_t seed = 1, ops = 0, forks = 0;
	struct worker *w;
	ssize_t n;
	int c;

	if (getenv("TORTURE_TRUE") != NULL)
		return 0;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return 1;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			seconds = atof(optarg);
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 't':
			nthreads = (unsigned)atoi(optarg);
			break;
		case 'p':
			pages = strtoul(optarg, NULL, 10);
			break;
		case 'd':
			max_depth = (unsigned)atoi(optarg);
			break;
		case 'R':
			may_refuse = true;
			break;
		case 'f':
			of_file = true;
			break;
		default:
			return 2;
		}
	}
	if (of_file)
		make_file(seed);
	signal_mem = arena(SIGNAL_PAGES);
	signal_shadow = oracle(SIGNAL_PAGES);
	w = calloc(nthreads, sizeof(*w));
	for (unsigned i = 0; i < nthreads; i++) {
		w[i].id = i;
		w[i].rng = seed * 0x9e3779b97f4a7c15UL + i + 1;
		w[i].mem = arena(pages);
		w[i].shadow = oracle(pages);
		w[i].from = calloc(pages, sizeof(*w[i].from));
		if (w[i].from == NULL)
			return 1;
		if (of_file)
			map_fixed(&w[i], 0, pages / 2);
	}
	sigaction(SIGALRM, &sa, NULL);
	start_timer(true);
	end = now() + seconds;
	for (unsigned i = 0; i < nthreads; i++)
		if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
			return 1;
	while (now() < end) {
		struct timespec tick = {.tv_nsec = 100000000};

		nanosleep(&tick, NULL); /* how long it lasts, not a synchronisation */
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(w[i].thread, NULL);
	start_timer(false);
	for (unsigned i = 0; i < nthreads; i++) {
		ops += w[i].ops;
		forks += w[i].forks;
	}
	printf("torture-fork: seed %lu: %lu operations and %lu forks by the first process, %lu "
	       "signals\n",
	       (unsigned long)seed, (unsigned long)ops, (unsigned long)forks,
	       (unsigned long)atomic_load(&signals));
	for (unsigned i = 0; i < nthreads; i++)
		free(w[i].from);
	free(w);
	return 0;
}
