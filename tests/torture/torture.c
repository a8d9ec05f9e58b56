/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * torture.c - seeded threads change managed memory in every way there is, at a
 * limit of a few per cent, and compare every word with an oracle.
 *
 * Each worker owns an arena of pages and, in plain memory, a shadow of it that
 * it changes alike; a range is compared with its shadow at each visit and
 * all of it at the end and again after the runtime was closed.  All workers
 * also count in one shared arena, whose sums are checked at the end.  One
 * thread keeps O_DIRECT reads in flight into memory under eviction.  The main
 * thread changes the limit, takes areas off and on and begins snapshots of all memory
 * meanwhile.  At times a worker takes a snapshot of its arena, and when it is
 * complete compares it with what the shadow was.  With FL_STORE,
 * "MNT" or "MNT,io=fuse", one of the areas is a store's.
 *
 * usage: torture [--seconds N] [--seed N] [--threads N] [--pages N] [--wp auto|sync|off]
 *                [--engine uring|sync] [--pagers N] [--compress none|lz4|zstd]
 *                [--in-thread]
 *
 * With --in-thread every second arena, and the shared one, answer faults in the
 * thread that takes them; what such memory cannot do is left out there.
 */
#include "faultline.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define SHARED_PAGES 512UL
#define OPS_LOGGED 16U

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

static struct fl *fl;
static bool in_thread;
static atomic_bool stop;
static size_t pages = 4096; /* of each worker */
static uint64_t *shared;
static atomic_ulong shared_adds;

struct worker {
	pthread_t thread;
	unsigned id;
	uint64_t rng;
	char *mem, *shadow;
	int map_flags; /* FL_MAP_IN_THREAD, or 0 */
	char *was;     /* the shadow as of the snapshot that is being taken */
	int image;     /* its file; -1: none */
	int event;
	uint64_t images; /* compared so far */
	uint64_t ops;
	char log[OPS_LOGGED][96]; /* the last operations, for the report */
};

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void die(struct worker *w, const char *what, size_t page, size_t word, uint64_t got,
		uint64_t want)
{
	unsigned char state = 0;

	if (w != NULL) {
		fl_page_state(fl, w->mem + page * PG, PG, &state);
		fprintf(stderr,
			"torture: worker %u: %s: page %zu (%p) word %zu: %016lx, should be %016lx; "
			"state 0x%02x\n",
			w->id, what, page, (void *)(w->mem + page * PG), word, (unsigned long)got,
			(unsigned long)want, state);
		for (unsigned i = 0; i < OPS_LOGGED; i++)
			fprintf(stderr, "  %s\n", w->log[(w->ops + i) % OPS_LOGGED]);
	} else {
		fprintf(stderr, "torture: %s: %lu, should be %lu\n", what, (unsigned long)got,
			(unsigned long)want);
	}
	abort();
}

#define note(w, ...) snprintf((w)->log[(w)->ops % OPS_LOGGED], sizeof((w)->log[0]), __VA_ARGS__)

static void check(struct worker *w, size_t first, size_t n, const char *what)
{
	for (size_t p = first; p < first + n; p++) {
		const uint64_t *a = (const uint64_t *)(void *)(w->mem + p * PG);
		const uint64_t *b = (const uint64_t *)(void *)(w->shadow + p * PG);

		for (size_t i = 0; i < WORDS; i++)
			if (a[i] != b[i])
				die(w, what, p, i, a[i], b[i]);
	}
}

static void must(struct worker *w, const char *what, long r)
{
	if (r != 0)
		die(w, what, 0, 0, (uint64_t)-r, 0);
}

static void write_some(struct worker *w, size_t first, size_t n)
{
	for (size_t p = first; p < first + n; p++) {
		uint64_t *a = (uint64_t *)(void *)(w->mem + p * PG);
		uint64_t *b = (uint64_t *)(void *)(w->shadow + p * PG);

		for (unsigned k = 0; k < 4; k++) {
			size_t i = next(&w->rng) % WORDS;
			uint64_t v = next(&w->rng);

			/* what is there must be what the shadow says before it is changed */
			if (a[i] != b[i])
				die(w, "before a write", p, i, a[i], b[i]);
			a[i] = b[i] = v;
		}
	}
}

static void fill_some(struct worker *w, size_t first, size_t n, uint64_t v)
{
	for (size_t p = first; p < first + n; p++) {
		uint64_t *a = (uint64_t *)(void *)(w->mem + p * PG);
		uint64_t *b = (uint64_t *)(void *)(w->shadow + p * PG);

		for (size_t i = 0; i < WORDS; i++)
			a[i] = b[i] = v;
	}
}

/* Whole pages of words that do not compress. */
static void scramble_some(struct worker *w, size_t first, size_t n)
{
	for (size_t p = first; p < first + n; p++) {
		uint64_t *a = (uint64_t *)(void *)(w->mem + p * PG);
		uint64_t *b = (uint64_t *)(void *)(w->shadow + p * PG);

		for (size_t i = 0; i < WORDS; i++)
			a[i] = b[i] = next(&w->rng);
	}
}

static void zero_shadow(struct worker *w, size_t first, size_t n)
{
	memset(w->shadow + first * PG, 0, n * PG);
}

static void map_fixed(struct worker *w, size_t first, size_t n)
{
	void *p = fl_mmap(fl, w->mem + first * PG, n * PG, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | w->map_flags,
			  -1, 0);

	if (p == FL_FAILED)
		die(w, "mmap over", first, 0, (uint64_t)errno, 0);
	zero_shadow(w, first, n);
}

/* Move n pages from a to b (apart); a is mapped anew. */
static void move(struct worker *w, size_t a, size_t b, size_t n)
{
	void *p = fl_mremap(fl, w->mem + a * PG, n * PG, n * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
			    w->mem + b * PG);

	/* a range of several kernel mappings cannot be moved: the same answer as mremap(2) */
	if (p == FL_FAILED) {
		if (errno != EFAULT)
			die(w, "mremap", a, 0, (uint64_t)errno, 0);
		return;
	}
	memcpy(w->shadow + b * PG, w->shadow + a * PG, n * PG);
	map_fixed(w, a, n);
}

static void count_shared(struct worker *w)
{
	for (unsigned k = 0; k < 32; k++) {
		size_t i = next(&w->rng) % (SHARED_PAGES * WORDS);

		__atomic_fetch_add(&shared[i], 1, __ATOMIC_RELAXED);
	}
	atomic_fetch_add(&shared_adds, 32);
}

static void advise(struct worker *w, size_t first, size_t n, int advice)
{
	must(w, "madvise", fl_madvise(fl, w->mem + first * PG, n * PG, advice));
}

#define SNAPSHOT_EVERY 128U /* operations */

static int image_file(void)
{
	const char *dir = getenv("TMPDIR");
	int fd = open(dir != NULL ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0) {
		perror("torture: a file for an image");
		abort();
	}
	return fd;
}

/* Nobody else changes the arena, so it is what the shadow is when the call begins. */
static void snapshot_begin(struct worker *w)
{
	int r;

	memcpy(w->was, w->shadow, pages * PG);
	w->image = image_file();
	r = fl_snapshot(fl, w->mem, pages * PG, w->image, FL_SNAPSHOT_NOSYNC, w->event);
	if (r == 0)
		return;
	close(w->image);
	w->image = -1;
	/* somebody else's is being taken, or too much is locked for its buffer */
	if (r != -EBUSY && r != -ENOMEM)
		must(w, "fl_snapshot", r);
}

/* wait: for its end; otherwise only if it has ended. */
static void snapshot_end(struct worker *w, bool wait)
{
	uint64_t page[WORDS];
	uint64_t value;

	if (w->image < 0)
		return;
	if (wait)
		fl_snapshot_wait(fl);
	if (read(w->event, &value, sizeof(value)) != (ssize_t)sizeof(value)) {
		if (wait)
			die(w, "no event of a snapshot", 0, 0, 0, 1);
		return;
	}
	/* one that failed left nothing */
	for (size_t p = 0; p < pages; p++) {
		const uint64_t *was = (const uint64_t *)(void *)(w->was + p * PG);

		if (pread(w->image, page, PG, (off_t)(p * PG)) != (ssize_t)PG)
			die(w, "an image ends", p, 0, 0, 1);
		for (size_t i = 0; i < WORDS; i++)
			if (page[i] != was[i])
				die(w, "in an image", p, i, page[i], was[i]);
	}
	close(w->image);
	w->image = -1;
	w->images++;
}

static void step(struct worker *w)
{
	static const int hints[] = {MADV_WILLNEED, MADV_COLD,	MADV_PAGEOUT,
				    MADV_RANDOM,   MADV_NORMAL, MADV_SEQUENTIAL};
	uint64_t dice = next(&w->rng) % 100;
	size_t n = 1 + next(&w->rng) % 64;
	size_t a = next(&w->rng) % (pages - n);
	size_t b = next(&w->rng) % (pages - n);
	char *at = w->mem + a * PG;

	snapshot_end(w, false);
	if (w->image < 0 && w->ops % SNAPSHOT_EVERY == SNAPSHOT_EVERY / 2)
		snapshot_begin(w);
	note(w, "op %lu: dice %lu pages %zu+%zu, %zu", (unsigned long)w->ops, (unsigned long)dice,
	     a, n, b);
	if (dice < 30) {
		write_some(w, a, n);
	} else if (dice < 33) {
		scramble_some(w, a, n);
	} else if (dice < 50) {
		check(w, a, n, "read");
	} else if (dice < 55) {
		fill_some(w, a, n, next(&w->rng) % 4 == 0 ? 0 : next(&w->rng));
	} else if (dice < 60) {
		count_shared(w);
	} else if (dice < 64) {
		advise(w, a, n, next(&w->rng) % 2 ? MADV_DONTNEED : MADV_FREE);
		zero_shadow(w, a, n);
	} else if (dice < 70) {
		advise(w, a, n, hints[next(&w->rng) % (sizeof(hints) / sizeof(hints[0]))]);
	} else if (dice < 74) {
		if (a + n <= b || b + n <= a)
			move(w, a, b, n);
	} else if (dice < 78) {
		must(w, "mprotect", fl_mprotect(fl, at, n * PG, PROT_READ));
		check(w, a, n, "read-only");
		must(w, "mprotect", fl_mprotect(fl, at, n * PG, PROT_READ | PROT_WRITE));
		write_some(w, a, n);
	} else if (dice < 80) {
		must(w, "mprotect", fl_mprotect(fl, at, n * PG, PROT_NONE));
		must(w, "mprotect", fl_mprotect(fl, at, n * PG, PROT_READ | PROT_WRITE));
		check(w, a, n, "after PROT_NONE");
	} else if (dice < 83) {
		must(w, "munmap", fl_munmap(fl, at, n * PG));
		map_fixed(w, a, n);
	} else if (dice < 86) {
		map_fixed(w, a, n);
	} else if (dice < 89 && !w->map_flags) {
		int r = fl_mlock(fl, at, (1 + n % 8) * PG);

		/* the limit may be too low for what all workers lock together */
		if (r != 0 && r != -ENOMEM)
			must(w, "mlock", r);
		check(w, a, n, "locked");
		must(w, "munlock", fl_munlock(fl, at, (1 + n % 8) * PG));
	} else if (dice < 92 && !w->map_flags) {
		int r = fl_madvise(fl, at, n * PG,
				   next(&w->rng) % 2 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);

		must(w, "populate", r);
		check(w, a, n, "populated");
	} else if (dice < 96) {
		/* a scan, so that windows grow */
		size_t len = 64 + next(&w->rng) % 256;

		if (a + len < pages)
			check(w, a, len, "scan");
	} else {
		/* the other way round */
		for (size_t i = n; i-- > 0;)
			check(w, a + i, 1, "backwards");
	}
	w->ops++;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop))
		step(w);
	snapshot_end(w, true);
	return NULL;
}

/* ---- O_DIRECT reads into memory that is being evicted ---- */

#define DMA_PAGES 64UL

static void *dma(void *arg)
{
	const char *dir = arg;
	char path[256];
	char *mem = fl_mmap(fl, NULL, DMA_PAGES * PG, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *src = aligned_alloc(PG, DMA_PAGES * PG);
	uint64_t round = 1;
	int fd;

	snprintf(path, sizeof(path), "%s/torture-dma-XXXXXX", dir);
	fd = mkostemp(path, O_DIRECT);
	if (fd < 0 || mem == FL_FAILED || src == NULL) {
		perror("torture: O_DIRECT file");
		abort();
	}
	unlink(path);
	for (; !atomic_load(&stop); round++) {
		for (size_t i = 0; i < DMA_PAGES * WORDS; i++)
			src[i] = round * 0x9e3779b97f4a7c15UL + i;
		if (pwrite(fd, src, DMA_PAGES * PG, 0) != (ssize_t)(DMA_PAGES * PG))
			abort();
		/* the frames are pinned while the device writes to them */
		if (pread(fd, mem, DMA_PAGES * PG, 0) != (ssize_t)(DMA_PAGES * PG)) {
			perror("torture: O_DIRECT read into managed memory");
			abort();
		}
		for (size_t i = 0; i < DMA_PAGES * WORDS; i++)
			if (((uint64_t *)(void *)mem)[i] != src[i])
				die(NULL, "O_DIRECT read", 0, 0, ((uint64_t *)(void *)mem)[i],
				    src[i]);
		/* and the other way: pages that are in slots are written from */
		fl_madvise(fl, mem, DMA_PAGES * PG, MADV_PAGEOUT);
		if (pwrite(fd, mem, DMA_PAGES * PG, 0) != (ssize_t)(DMA_PAGES * PG) ||
		    pread(fd, src, DMA_PAGES * PG, 0) != (ssize_t)(DMA_PAGES * PG))
			abort();
		for (size_t i = 0; i < DMA_PAGES * WORDS; i++)
			if (src[i] != round * 0x9e3779b97f4a7c15UL + i)
				die(NULL, "O_DIRECT write", 0, 0, src[i],
				    round * 0x9e3779b97f4a7c15UL + i);
	}
	close(fd);
	free(src);
	return (void *)(uintptr_t)round;
}

/* ---- the rest ---- */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void *reserve(size_t bytes, int flags)
{
	void *p = fl_mmap(fl, NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

	if (p == FL_FAILED) {
		perror("torture: fl_mmap");
		exit(1);
	}
	return p;
}

static void check_all(struct worker *w, unsigned n, const char *what)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		check(&w[i], 0, pages, what);
	for (size_t i = 0; i < SHARED_PAGES * WORDS; i++)
		sum += shared[i];
	if (sum != atomic_load(&shared_adds))
		die(NULL, "sum of the shared counters", 0, 0, sum, atomic_load(&shared_adds));
}

static unsigned name_of(const char *text, const char *const *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	fprintf(stderr, "torture: what is %s?\n", text);
	exit(2);
}

/* Of what a run with a pool is for; a busy machine takes longer to come to it. */
static bool seen_all(const struct fl_options *o)
{
	struct fl_stats st;

	if (o->compress == FL_COMPRESS_NONE)
		return true;
	fl_stats(fl, &st, sizeof(st));
	return st.faults_compressed != 0 && st.written_through != 0 && st.compress_rejects != 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"seconds", 1, NULL, 's'}, {"seed", 1, NULL, 'r'},     {"threads", 1, NULL, 't'},
		{"pages", 1, NULL, 'p'},   {"wp", 1, NULL, 'w'},       {"engine", 1, NULL, 'e'},
		{"pagers", 1, NULL, 'g'},  {"compress", 1, NULL, 'c'}, {"in-thread", 0, NULL, 'i'},
		{NULL, 0, NULL, 0},
	};
	static const char *const wps[] = {"auto", "sync", "off"};
	static const char *const engines[] = {"auto", "uring", "sync"};
	static const char *const compressions[] = {"none", "lz4", "zstd"};
	const char *dir = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/var/tmp";
	struct fl_options o = {.size = sizeof(o), .log_level = FL_LOG_WARN, .swap_dir = dir};
	char second[256], mnt[512];
	struct fl_swap_spec areas[2] = {{.prio = 5}, {.path = second, .prio = 5}};
	unsigned nthreads = 4;
	double seconds = 20;
	uint64_t seed = 1;
	uint64_t control;
	struct worker *w;
	struct fl_stats st;
	pthread_t dma_thread;
	void *rounds;
	unsigned limits = 0;
	unsigned offs = 0;
	double end;
	int c;

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
		case 'i':
			in_thread = true;
			break;
		case 'p':
			pages = strtoul(optarg, NULL, 10);
			break;
		case 'w':
			o.wp = (enum fl_wp)name_of(optarg, wps, 3);
			break;
		case 'e':
			o.engine = (enum fl_engine)name_of(optarg, engines, 3);
			break;
		case 'g':
			o.pagers = (unsigned)atoi(optarg);
			break;
		case 'c':
			o.compress = (enum fl_compress)name_of(optarg, compressions, 3);
			/* small, so that pages are written through, too */
			o.pool = 1UL << 20;
			break;
		default:
			return 2;
		}
	}
	snprintf(second, sizeof(second), "%s/torture-area-%d", dir, (int)getpid());
	areas[1].size = (uint64_t)2 * nthreads * pages * PG + (64UL << 20);
	areas[0].size = areas[1].size;
	o.areas = areas;
	o.nareas = 2;
	if (getenv("FL_STORE") != NULL) {
		snprintf(mnt, sizeof(mnt), "%s", getenv("FL_STORE"));
		o.store_flags = strchr(mnt, ',') != NULL ? FL_STORE_FUSE : 0;
		mnt[strcspn(mnt, ",")] = '\0';
		o.store = mnt;
		o.areas = &areas[1];
		o.nareas = 1;
	}
	o.near = seed % 2;
	o.limit = (nthreads * pages + SHARED_PAGES) * PG / 20;
	if (o.limit < FL_LIMIT_MIN)
		o.limit = FL_LIMIT_MIN;
	c = fl_open(&fl, &o);
	if (c != 0) {
		fprintf(stderr, "torture: fl_open: %s\n", strerror(-c));
		return 1;
	}
	shared = reserve(SHARED_PAGES * PG, in_thread ? FL_MAP_IN_THREAD : 0);
	w = calloc(nthreads, sizeof(*w));
	for (unsigned i = 0; i < nthreads; i++) {
		w[i].id = i;
		w[i].rng = seed * 0x9e3779b97f4a7c15UL + i + 1;
		w[i].map_flags = in_thread && i % 2 == 0 ? FL_MAP_IN_THREAD : 0;
		w[i].mem = reserve(pages * PG, w[i].map_flags);
		w[i].shadow = mmap(NULL, pages * PG, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		w[i].was = malloc(pages * PG);
		w[i].image = -1;
		w[i].event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (w[i].shadow == MAP_FAILED || w[i].was == NULL || w[i].event < 0)
			return 1;
	}
	end = now() + seconds;
	pthread_create(&dma_thread, NULL, dma, (void *)(uintptr_t)dir);
	for (unsigned i = 0; i < nthreads; i++)
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	control = seed + 99;
	while (now() < end || !seen_all(&o)) {
		struct timespec tick = {.tv_nsec = 20000000};
		uint64_t dice = next(&control) % 20;

		/* the pace of the changes, not a synchronisation */
		nanosleep(&tick, NULL);
		if (dice < 6) {
			/* 5 % to 20 %; a lower one may find too much locked just now */
			uint64_t limit = o.limit + next(&control) % (3 * o.limit);
			int r = fl_set_limit(fl, limit);

			if (r != 0 && r != -ENOMEM)
				die(NULL, "fl_set_limit", 0, 0, (uint64_t)-r, 0);
			limits++;
		} else if (dice == 7) {
			int r = fl_swapoff(fl, second);

			if (r == 0)
				r = fl_swapon(fl, &areas[1]);
			else if (r == -ENOMEM)
				r = 0;
			if (r != 0)
				die(NULL, "swapoff or swapon", 0, 0, (uint64_t)-r, 0);
			offs++;
		} else if (dice == 8) {
			int fd = image_file();
			int r = fl_snapshot(fl, NULL, 0, fd, FL_SNAPSHOT_NOSYNC, -1);

			if (r != 0 && r != -EBUSY && r != -ENOMEM)
				die(NULL, "fl_snapshot of all", 0, 0, (uint64_t)-r, 0);
			close(fd);
		}
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(w[i].thread, NULL);
	pthread_join(dma_thread, &rounds);
	check_all(w, nthreads, "at the end");
	fl_stats(fl, &st, sizeof(st));
	if (st.evicted == 0 || st.faults_swap == 0 || st.poisoned != 0 || st.csum_errors != 0)
		die(NULL, "nothing was paged, or pages were lost", 0, 0, st.poisoned, 0);
	if (o.compress != FL_COMPRESS_NONE &&
	    (st.faults_compressed == 0 || st.written_through == 0 || st.compress_rejects == 0))
		die(NULL, "nothing was compressed, written through or rejected", 0, 0,
		    st.faults_compressed, 1);
	if (in_thread && st.faults_in_thread == 0)
		die(NULL, "no fault was answered in its thread", 0, 0, 0, 1);
	c = fl_close(fl);
	if (c != 0)
		die(NULL, "fl_close", 0, 0, (uint64_t)-c, 0);
	check_all(w, nthreads, "after fl_close");
	uint64_t ops = 0, images = 0;
	for (unsigned i = 0; i < nthreads; i++) {
		ops += w[i].ops;
		images += w[i].images;
	}
	if (images == 0 && seconds >= 10)
		die(NULL, "images that were compared", 0, 0, 0, 1);
	printf("torture: seed %lu: %lu operations, %lu O_DIRECT rounds, %u limits, %u swapoffs, "
	       "%lu images; "
	       "evicted %lu, read %lu, written %lu, dropped clean %lu, refused %lu, wp faults "
	       "%lu, compressed %lu, written through %lu, in their threads %lu\n",
	       (unsigned long)seed, (unsigned long)ops, (unsigned long)(uintptr_t)rounds, limits,
	       offs, (unsigned long)images, (unsigned long)st.evicted, (unsigned long)st.read_pages,
	       (unsigned long)st.write_pages, (unsigned long)st.dropped_clean,
	       (unsigned long)st.evict_busy, (unsigned long)st.faults_wp,
	       (unsigned long)st.faults_compressed, (unsigned long)st.written_through,
	       (unsigned long)st.faults_in_thread);
	free(w);
	return 0;
}
