/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * torture-files.c - seeded threads change a mapped file, or a source of the
 * program's own, in every way there is, at a limit of a part of it, and compare
 * with an oracle.
 *
 * Each worker owns every n-th page: it alone stores there, through whichever of
 * the shared mappings it happens to choose, and knows each page's version.  What it
 * has synced it reads back from the file itself.  Pages of others must be whole
 * in what never changes of them.  Each has a private mapping with versions of
 * its own, too, and makes some that may only be read and become writable in part.
 * Mappings are unmapped in part, mapped over and moved under a lock that is held for
 * reading around every touch.  At the end the file is compared through the mapping, by
 * read(2) after fl_msync(), and after fl_close().
 *
 * A source fails and is slow at times: its errors must be told by fl_msync(), or
 * be SIGBUS, and no store may be lost for them.
 *
 * usage: torture-files [--seconds N] [--seed N] [--threads N] [--pages N] [--limit BYTES]
 *                      [--engine uring|sync] [--pagers N] [--compress lz4|zstd]
 *                      [--source] [--errors]
 */
#include "faultline.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define SEEN_MAX 60 /* seconds more for what a run is for */
#define MAPS 3U
#define RW (PROT_READ | PROT_WRITE)

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif

struct worker {
	pthread_t thread;
	unsigned id;
	uint64_t rng;
	uint64_t ops, synced, told, raised;
	char *private;
	uint32_t *version, *private_version; /* private: 0: the file's */
	const char *op;
};

static struct fl *fl;
static struct fl_backing *backing;
static unsigned nthreads = 4;
static size_t pages = 3000;
static uint64_t limit = (uint64_t)3 << 20;
static uint64_t seed = 1;
static bool use_source, use_errors;
static bool half_soft; /* every other page compresses */
static int fd = -1;
static char *bytes; /* of the source */
static atomic_bool stop, failing;
static pthread_rwlock_t maps_lock = PTHREAD_RWLOCK_INITIALIZER; /* where mappings are */
static char *map[MAPS];

static uint64_t next(uint64_t *rng)
{
	uint64_t x = *rng += 0x9e3779b97f4a7c15U;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
	x = (x ^ x >> 27) * 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

static void die(const struct worker *w, const char *what, size_t page, uint64_t want, uint64_t have)
{
	fprintf(stderr,
		"torture-files: seed %lu: thread %u, %s: %s: page %zu: %016lx, not %016lx\n",
		(unsigned long)seed, w != NULL ? w->id : 99, w != NULL ? w->op : "main", what, page,
		(unsigned long)have, (unsigned long)want);
	_exit(1);
}

static void check(const struct worker *w, const char *what, int r)
{
	if (r != 0)
		die(w, what, 0, 0, (uint64_t)-r);
}

/* ---- content: word 0 tells page and version, the others follow from them ---- */

static uint64_t word(size_t page, uint32_t version, size_t i)
{
	uint64_t x = (uint64_t)page << 32 | version;
	uint64_t w = i == 0 ? x : (x * 512 + i) * 0x9e3779b97f4a7c15U;

	return half_soft && page % 2 != 0 && i % 3 != 0 ? w & 0x0f : w;
}

static void fill(uint64_t *p, size_t page, uint32_t version)
{
	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(page, version, i);
}

static void compare(const struct worker *w, const char *what, const uint64_t *p, size_t page,
		    uint32_t version)
{
	for (size_t i = 0; i < WORDS; i++)
		if (p[i] != word(page, version, i))
			die(w, what, page, word(page, version, i), p[i]);
}

/* ---- a source ---- */

static void mood(uint64_t offset)
{
	static atomic_ulong calls;
	uint64_t rng = seed + offset + atomic_fetch_add(&calls, 1);
	struct timespec pause = {.tv_nsec = (long)(next(&rng) % 200000)};

	if (next(&rng) % 8 == 0)
		nanosleep(&pause, NULL); /* what is slow; nothing waits for it by time */
}

static bool fails(uint64_t offset)
{
	uint64_t rng = seed ^ offset;

	return atomic_load(&failing) && next(&rng) % 4 == 0;
}

static int source_read(void *ctx, uint64_t offset, void *buf, size_t length)
{
	(void)ctx;
	mood(offset);
	if (fails(offset))
		return -EIO;
	memcpy(buf, bytes + offset, length);
	return 0;
}

static int source_write(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	(void)ctx;
	mood(offset);
	if (fails(offset))
		return -EIO;
	memcpy(bytes + offset, buf, length);
	return 0;
}

static void read_back(const struct worker *w, uint64_t *p, size_t page)
{
	if (use_source)
		memcpy(p, bytes + page * PG, PG);
	else if (pread(fd, p, PG, (off_t)(page * PG)) != (ssize_t)PG)
		die(w, "pread", page, PG, (uint64_t)errno);
}

/* ---- touches that may raise SIGBUS while reads fail ---- */

static _Thread_local sigjmp_buf escape;
static _Thread_local volatile sig_atomic_t armed;

static void on_bus(int sig)
{
	if (!armed) {
		static const char text[] = "torture-files: SIGBUS where nothing failed\n";

		(void)!write(2, text, sizeof(text) - 1);
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(escape, sig);
}

/* Bring the page in, by a read; again and again while that fails. */
static void bring_in(struct worker *w, const char *p)
{
	volatile unsigned tries = 0;

	if (!use_errors)
		return;
	if (sigsetjmp(escape, 1) != 0) {
		struct timespec pause = {.tv_nsec = 1000000};

		w->raised++;
		armed = 0;
		/* only a pause between tries: it is right without */
		nanosleep(&pause, NULL);
		if (++tries == 1000)
			atomic_store(&failing, false);
	}
	armed = 1;
	(void)*(volatile const char *)p;
	armed = 0;
}

/*
 * A page may leave between bring_in() and the touch, and its next read fail: so
 * touches are done under the same guard, and done again.
 */
#define GUARDED(w, p, statement)                                                                   \
	do {                                                                                       \
		if (use_errors && sigsetjmp(escape, 1) != 0) {                                     \
			armed = 0;                                                                 \
			bring_in(w, p);                                                            \
		}                                                                                  \
		armed = use_errors;                                                                \
		statement;                                                                         \
		armed = 0;                                                                         \
	} while (0)

static void *map_part(void *addr, size_t at, size_t n, int prot, int flags)
{
	return use_source
		       ? fl_mmap_backing(fl, addr, n * PG, prot, flags, backing, (off_t)(at * PG))
		       : fl_mmap(fl, addr, n * PG, prot, flags, fd, (off_t)(at * PG));
}

/* ---- operations; the lock is held for reading ---- */

static size_t own_page(struct worker *w)
{
	size_t n = pages / nthreads;
	size_t i = next(&w->rng) % 4 == 0 ? next(&w->rng) % n : next(&w->rng) % (n / 8 + 1);

	return i * nthreads + w->id;
}

static char *any_map(struct worker *w)
{
	return map[next(&w->rng) % MAPS];
}

static void op_store(struct worker *w)
{
	size_t page = own_page(w);
	uint64_t *p = (void *)(any_map(w) + page * PG);

	GUARDED(w, (char *)p, fill(p, page, w->version[page] + 1));
	w->version[page]++;
}

static void op_load(struct worker *w)
{
	size_t page = own_page(w);
	uint64_t *p = (void *)(any_map(w) + page * PG);

	GUARDED(w, (char *)p, compare(w, "shared", p, page, w->version[page]));
}

/* Not inlined: what its caller counts with must outlive a jump. */
static __attribute__((noinline)) uint64_t first_word(struct worker *w, const uint64_t *p)
{
	volatile uint64_t have = 0;

	GUARDED(w, (const char *)p, have = *(const volatile uint64_t *)p);
	return have;
}

static void op_run(struct worker *w)
{
	size_t at = next(&w->rng) % pages, n = next(&w->rng) % 300;
	const char *base = any_map(w);

	for (size_t page = at; page < at + n && page < pages; page++) {
		uint64_t have = first_word(w, (const void *)(base + page * PG));

		if (have >> 32 != page)
			die(w, "another's page", page, (uint64_t)page << 32, have);
	}
}

static void op_sync(struct worker *w)
{
	uint64_t copy[WORDS];
	size_t page = own_page(w), n = 1 + next(&w->rng) % 64;
	int r;

	if (n > pages - page)
		n = pages - page;
	r = fl_msync(fl, any_map(w) + page * PG, n * PG, MS_SYNC);
	if (use_errors && r == -EIO) {
		w->told++;
		return;
	}
	check(w, "fl_msync", r);
	/* an error may have been told to another's call */
	if (use_errors)
		return;
	read_back(w, copy, page);
	compare(w, "synced", copy, page, w->version[page]);
	w->synced++;
}

static void op_advice(struct worker *w)
{
	static const int advice[] = {MADV_NORMAL,   MADV_SEQUENTIAL, MADV_RANDOM, MADV_WILLNEED,
				     MADV_DONTNEED, MADV_COLD,	     MADV_PAGEOUT};
	size_t at = next(&w->rng) % pages, n = 1 + next(&w->rng) % 200;
	int r;

	if (n > pages - at)
		n = pages - at;
	r = fl_madvise(fl, any_map(w) + at * PG, n * PG,
		       advice[next(&w->rng) % (sizeof(advice) / sizeof(advice[0]))]);
	/* as the kernel, where another thread has locked pages just now */
	if (r != -EINVAL)
		check(w, "fl_madvise", r);
}

static void op_forget(struct worker *w)
{
	size_t at = next(&w->rng) % pages, n = 1 + next(&w->rng) % 200;
	int r;

	if (n > pages - at)
		n = pages - at;
	r = fl_msync(fl, any_map(w) + at * PG, n * PG, MS_INVALIDATE);
	if (r != 0 && r != -EBUSY)
		check(w, "MS_INVALIDATE", r);
}

static void op_lock(struct worker *w)
{
	size_t at = next(&w->rng) % pages, n = 1 + next(&w->rng) % 8;
	char *p = any_map(w) + at * PG;
	int r;

	if (use_errors)
		return;
	if (n > pages - at)
		n = pages - at;
	r = fl_mlock(fl, p, n * PG);
	if (r != 0 && r != -ENOMEM && r != -EAGAIN && r != -EPERM)
		check(w, "fl_mlock", r);
	check(w, "fl_munlock", fl_munlock(fl, p, n * PG));
}

static void op_private(struct worker *w)
{
	size_t page = next(&w->rng) % pages;
	uint64_t *p = (void *)(w->private + page * PG);

	if (next(&w->rng) % 2 == 0) {
		GUARDED(w, (char *)p, fill(p, page, w->private_version[page] + 1));
		w->private_version[page]++;
	} else if (w->private_version[page] != 0) {
		compare(w, "private", p, page, w->private_version[page]);
	} else {
		uint64_t have = 0;

		GUARDED(w, (char *)p, have = *(volatile uint64_t *)p);
		if (have >> 32 != page)
			die(w, "private, the file's", page, (uint64_t)page << 32, have);
	}
	if (next(&w->rng) % 64 == 0) {
		size_t n = 1 + next(&w->rng) % 64;

		if (n > pages - page)
			n = pages - page;
		check(w, "MADV_DONTNEED",
		      fl_madvise(fl, w->private + page * PG, n * PG, MADV_DONTNEED));
		memset(&w->private_version[page], 0, n * sizeof(*w->private_version));
	}
}

/* Not inlined, as first_word(). */
static __attribute__((noinline)) void store_first(struct worker *w, uint64_t *p, size_t page)
{
	GUARDED(w, (char *)p, fill(p, page, UINT32_MAX));
}

/* A private mapping that may only be read, of which a part becomes writable. */
static void op_unshare(struct worker *w)
{
	size_t at = next(&w->rng) % pages, n = 1 + next(&w->rng) % 200, from, to;
	char *base;

	if (n > pages - at)
		n = pages - at;
	from = next(&w->rng) % n;
	to = from + 1 + next(&w->rng) % (n - from);
	base = map_part(NULL, at, n, PROT_READ, MAP_PRIVATE);
	if (base == FL_FAILED)
		check(w, "fl_mmap to read", -errno);
	for (size_t i = next(&w->rng) % 8; i < n; i += 5)
		if (first_word(w, (const void *)(base + i * PG)) >> 32 != at + i)
			die(w, "only read", at + i, (uint64_t)(at + i) << 32, 0);
	check(w, "fl_mprotect", fl_mprotect(fl, base + from * PG, (to - from) * PG, RW));
	for (size_t i = from; i < to; i += 2)
		store_first(w, (void *)(base + i * PG), at + i);
	for (size_t i = 0; i < n; i++) {
		uint64_t *p = (void *)(base + i * PG);

		if (i >= from && i < to && (i - from) % 2 == 0)
			compare(w, "became writable", p, at + i, UINT32_MAX);
		else if (first_word(w, p) >> 32 != at + i)
			die(w, "beside what became writable", at + i, (uint64_t)(at + i) << 32, 0);
	}
	check(w, "fl_munmap", fl_munmap(fl, base, n * PG));
}

/* ---- operations on the mappings; the lock is held for writing ---- */

static void change_mapping(struct worker *w)
{
	unsigned m = (unsigned)(next(&w->rng) % MAPS);
	size_t at = next(&w->rng) % pages, n = 1 + next(&w->rng) % 300;
	void *p;

	if (n > pages - at)
		n = pages - at;
	switch (next(&w->rng) % 3) {
	case 0: /* a hole, filled again */
		check(w, "fl_munmap", fl_munmap(fl, map[m] + at * PG, n * PG));
		p = map_part(map[m] + at * PG, at, n, RW, MAP_SHARED | MAP_FIXED);
		break;
	case 1: /* mapped over */
		p = map_part(map[m] + at * PG, at, n, RW, MAP_SHARED | MAP_FIXED);
		break;
	default: /* all of it anew, elsewhere */
		check(w, "fl_munmap", fl_munmap(fl, map[m], pages * PG));
		p = map_part(NULL, 0, pages, RW, MAP_SHARED);
		if (p != FL_FAILED)
			map[m] = p;
		at = 0;
		break;
	}
	if (p == FL_FAILED)
		check(w, "fl_mmap", -errno);
	if (next(&w->rng) % 4 == 0 && at == 0) {
		/* the private mapping moves */
		p = fl_mremap(fl, w->private, pages * PG, pages * PG, MREMAP_MAYMOVE);
		if (p == FL_FAILED)
			check(w, "fl_mremap", -errno);
		w->private = p;
	}
}

static const struct {
	const char *name;
	void (*fn)(struct worker *w);
	unsigned weight;
} ops[] = {
	{"store", op_store, 40}, {"load", op_load, 30},	      {"run", op_run, 1},
	{"sync", op_sync, 2},	 {"advice", op_advice, 2},    {"forget", op_forget, 1},
	{"lock", op_lock, 1},	 {"private", op_private, 20}, {"unshare", op_unshare, 1},
};

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned total = 0;

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	while (!atomic_load(&stop)) {
		unsigned dice = (unsigned)(next(&w->rng) % total);
		size_t i = 0;

		if (next(&w->rng) % 2000 == 0) {
			w->op = "mappings";
			pthread_rwlock_wrlock(&maps_lock);
			change_mapping(w);
			pthread_rwlock_unlock(&maps_lock);
		}
		while (dice >= ops[i].weight)
			dice -= ops[i++].weight;
		w->op = ops[i].name;
		pthread_rwlock_rdlock(&maps_lock);
		ops[i].fn(w);
		pthread_rwlock_unlock(&maps_lock);
		w->ops++;
	}
	return NULL;
}

/* ---- the frame ---- */

static void make_backing(const char *dir)
{
	const struct fl_backing_ops source = {
		.size = sizeof(source),
		.read = source_read,
		.write = source_write,
		.threads = 3,
	};
	uint64_t page[WORDS];

	if (use_source) {
		bytes = malloc(pages * PG);
		if (bytes == NULL)
			check(NULL, "malloc", -ENOMEM);
		for (size_t i = 0; i < pages; i++)
			fill((void *)(bytes + i * PG), i, 0);
		check(NULL, "fl_backing_open",
		      fl_backing_open(fl, &backing, &source, NULL, pages * PG));
		return;
	}
	fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd < 0)
		check(NULL, "open", -errno);
	for (size_t i = 0; i < pages; i++) {
		fill(page, i, 0);
		if (pwrite(fd, page, PG, (off_t)(i * PG)) != (ssize_t)PG)
			check(NULL, "pwrite", -errno);
	}
}

static void check_all(struct worker *w, const char *what, bool mapped)
{
	uint64_t copy[WORDS];

	for (size_t page = 0; page < pages / nthreads * nthreads; page++) {
		struct worker *owner = &w[page % nthreads];

		owner->op = what;
		if (mapped)
			compare(owner, what, (void *)(map[0] + page * PG), page,
				owner->version[page]);
		else
			read_back(owner, copy, page);
		if (!mapped)
			compare(owner, what, copy, page, owner->version[page]);
	}
}

/* Of what a run with a pool is for; a busy machine takes longer to come to it. */
static bool seen_all(void)
{
	struct fl_stats st;

	if (!half_soft)
		return true;
	fl_stats(fl, &st, sizeof(st));
	return st.faults_compressed != 0;
}

static void run(unsigned seconds, struct worker *w)
{
	uint64_t control = seed * 31 + 5;
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		struct timespec tick = {.tv_nsec = 20000000};
		uint64_t dice = next(&control) % 8;

		/* the pace of the changes, not a synchronisation */
		nanosleep(&tick, NULL);
		if (dice == 0) {
			int r = fl_set_limit(fl, limit + next(&control) % limit);

			if (r != -ENOMEM)
				check(NULL, "fl_set_limit", r);
		} else if (dice == 1 && use_errors) {
			atomic_store(&failing, !atomic_load(&failing));
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < (time_t)seconds ||
		 (!seen_all() && now.tv_sec - start.tv_sec < (time_t)seconds + SEEN_MAX));
	atomic_store(&failing, false);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(w[i].thread, NULL);
}

static const struct option long_options[] = {
	{"seconds", required_argument, NULL, 's'},
	{"seed", required_argument, NULL, 'e'},
	{"threads", required_argument, NULL, 't'},
	{"pages", required_argument, NULL, 'p'},
	{"limit", required_argument, NULL, 'l'},
	{"engine", required_argument, NULL, 'n'},
	{"pagers", required_argument, NULL, 'g'},
	{"source", no_argument, NULL, 'S'},
	{"errors", no_argument, NULL, 'E'},
	{"compress", required_argument, NULL, 'c'},
	{NULL, 0, NULL, 0},
};

static void quiet(void *arg, enum fl_log_level level, const char *line)
{
	(void)arg, (void)level, (void)line;
}

int main(int argc, char **argv)
{
	const char *dir = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/var/tmp";
	struct fl_options options = {.size = sizeof(options), .swap_dir = dir};
	struct sigaction sa = {.sa_handler = on_bus};
	unsigned seconds = 5;
	uint64_t done = 0, synced = 0, told = 0, raised = 0;
	char mnt[512];
	struct fl_stats st;
	struct worker *w;
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 's':
			seconds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'e':
			seed = strtoul(optarg, NULL, 10);
			break;
		case 't':
			nthreads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			pages = strtoul(optarg, NULL, 10);
			break;
		case 'l':
			limit = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.engine =
				strcmp(optarg, "sync") == 0 ? FL_ENGINE_SYNC : FL_ENGINE_URING;
			break;
		case 'g':
			options.pagers = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'c':
			options.compress =
				strcmp(optarg, "zstd") == 0 ? FL_COMPRESS_ZSTD : FL_COMPRESS_LZ4;
			options.pool = 1UL << 19;
			half_soft = true;
			break;
		case 'S':
			use_source = true;
			break;
		case 'E':
			use_source = use_errors = true;
			options.log = quiet;
			break;
		default:
			return 2;
		}
	}
	if (nthreads == 0 || pages < 16 * (size_t)nthreads || limit < FL_LIMIT_MIN) {
		fprintf(stderr, "torture-files: too few threads or pages, or too low a limit\n");
		return 2;
	}
	options.limit = limit;
	if (getenv("FL_STORE") != NULL) {
		snprintf(mnt, sizeof(mnt), "%s", getenv("FL_STORE"));
		options.store_flags = strchr(mnt, ',') != NULL ? FL_STORE_FUSE : 0;
		mnt[strcspn(mnt, ",")] = '\0';
		options.store = mnt;
	}
	sigaction(SIGBUS, &sa, NULL);
	check(NULL, "fl_open", fl_open(&fl, &options));
	make_backing(dir);
	w = calloc(nthreads, sizeof(*w));
	if (w == NULL)
		check(NULL, "calloc", -ENOMEM);
	for (unsigned m = 0; m < MAPS; m++) {
		map[m] = map_part(NULL, 0, pages, RW, MAP_SHARED);
		if (map[m] == FL_FAILED)
			check(NULL, "fl_mmap", -errno);
	}
	for (unsigned i = 0; i < nthreads; i++) {
		w[i].id = i;
		w[i].rng = seed * 1000 + i;
		w[i].op = "start";
		w[i].version = calloc(pages, sizeof(*w[i].version));
		w[i].private_version = calloc(pages, sizeof(*w[i].private_version));
		w[i].private = map_part(NULL, 0, pages, RW, MAP_PRIVATE);
		if (w[i].version == NULL || w[i].private_version == NULL ||
		    w[i].private == FL_FAILED)
			check(NULL, "memory", -ENOMEM);
		if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
			check(NULL, "pthread_create", -EAGAIN);
	}
	run(seconds, w);
	/* what failed meanwhile was told, or is told now; nothing fails any more */
	c = fl_msync(fl, map[0], pages * PG, MS_SYNC);
	if (c != -EIO || !use_errors)
		check(NULL, "the last fl_msync", c);
	check(NULL, "the very last fl_msync", fl_msync(fl, map[0], pages * PG, MS_SYNC));
	check_all(w, "synced at the end", false);
	check_all(w, "mapped at the end", true);
	check(NULL, "fl_verify", fl_verify(fl));
	fl_stats(fl, &st, sizeof(st));
	if (st.file_dropped == 0 || st.file_writes == 0 || st.resident_max > 2 * limit / PG)
		die(NULL, "nothing was paged, or too much was held", 0, limit / PG,
		    st.resident_max);
	if (options.compress != FL_COMPRESS_NONE && st.faults_compressed == 0)
		die(NULL, "nothing came back compressed", 0, 1, 0);
	for (size_t page = 0; page < pages / nthreads * nthreads; page += 7) {
		unsigned owner = (unsigned)(page % nthreads);

		fill((void *)(map[1] + page * PG), page, ++w[owner].version[page]);
	}
	check(NULL, "fl_close", fl_close(fl));
	check_all(w, "after fl_close", false);
	for (unsigned i = 0; i < nthreads; i++) {
		done += w[i].ops;
		synced += w[i].synced;
		told += w[i].told;
		raised += w[i].raised;
		free(w[i].version);
		free(w[i].private_version);
	}
	free(w);
	free(bytes);
	printf("torture-files: seed %lu: %lu operations, %lu synced, %lu errors told, %lu SIGBUS; "
	       "read %lu, written %lu, dropped %lu, minor %lu, major %lu, swapped in %lu, "
	       "compressed %lu\n",
	       (unsigned long)seed, (unsigned long)done, (unsigned long)synced, (unsigned long)told,
	       (unsigned long)raised, (unsigned long)st.file_read_pages,
	       (unsigned long)st.file_write_pages, (unsigned long)st.file_dropped,
	       (unsigned long)st.file_minor, (unsigned long)st.file_major,
	       (unsigned long)st.faults_swap, (unsigned long)st.faults_compressed);
	return 0;
}
