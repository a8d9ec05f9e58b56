/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * worker.c - the work that `make bench` times, on memory from mem.h.
 *
 * One run does, in the order of --works and on the same pages, some of
 *
 *	fill:N		every page is written, in order; always the first; later: after the
 *			memory has been mapped anew
 *	seqread:N	read in order by N threads, a part of it each
 *	seqwrite:N	the same, written
 *	stride:N	every 16th page is read, then the ones behind those; a later one goes
 *			on where it ended
 *	stridewrite:N	the same, written
 *	randread:N	read at random
 *	randwrite:N	the same, written
 *	zipfread:N	some pages much more often than others (zipf.h, 0.99)
 *	zipfwrite:N
 *	reread		read in order what random writes have scattered (--last-part=N:
 *			only one Nth of it, where time is short)
 *
 * Without ":N" it is one thread.
 *
 * An operation touches one page; what is printed is elapsed microseconds for one
 * operation, all threads together.  The same seed does the same operations,
 * whoever pages.  A worker that knows of its faults (mem.h) also prints how many of
 * them an operation waited for I/O, and how many pages were read for it.
 *
 * Each page proves its own content: word 0 says which page it is, word 1 which
 * write of that page was the last.  The number of writes of each page is kept
 * apart (4 bytes a page), so a stale page is found as surely as a foreign one.
 * Threads that write own the pages whose number is theirs modulo the number of
 * threads; no word is shared.  With --content=whole the fill writes every
 * word, in pages that do not compress; with --content=soft every word, in pages
 * that lz4 makes less than half as large; otherwise the rest of a page is
 * zeros, which is the best case of whatever compresses.  With --spread=N the
 * pages lie N pages apart, so that N times as much is mapped.
 */
#include "mem.h"

#include "zipf.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define PAGE_WORDS 512U
#define THREADS_MAX 64U
#define STRIDE 16U
#define ZIPF_S 0.99
#define WORKS                                                                                      \
	"fill,seqread,randread:1,randread:2,randread:8,randwrite:1,randwrite:2,randwrite:8,reread"

static uint64_t (*pages)[PAGE_WORDS];
static uint32_t *written; /* writes of each page since the fill */
static uint64_t npages, spread = 1;
static int whole_pages, soft_pages;

void die(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	fputs("faultline: bench worker: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The finaliser of splitmix64: a different word for each page and write. */
static uint64_t mix(uint64_t page, uint64_t n)
{
	uint64_t z = page * 0x9e3779b97f4a7c15ULL + n * 0xd1b54a32d192ed03ULL + 1;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint64_t xorshift(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static uint64_t *page_at(uint64_t p)
{
	return pages[p * spread];
}

static void check(uint64_t p)
{
	uint64_t want0 = mix(p, 0);
	uint64_t want1 = written[p]		     ? mix(p, written[p])
			 : whole_pages || soft_pages ? mix(p, ~1ULL)
						     : 0;
	uint64_t got0 = page_at(p)[0], got1 = page_at(p)[1];

	if (got0 != want0 || got1 != want1)
		die("page %llu holds %016llx %016llx, must hold %016llx %016llx",
		    (unsigned long long)p, (unsigned long long)got0, (unsigned long long)got1,
		    (unsigned long long)want0, (unsigned long long)want1);
}

static void fill(uint64_t p)
{
	uint64_t *page = page_at(p);

	page[0] = mix(p, 0);
	if (whole_pages)
		for (unsigned i = 1; i < PAGE_WORDS; i++)
			page[i] = mix(p, ~(uint64_t)i);
	/* two new words, then six that were there before, at one of several distances */
	if (soft_pages)
		for (unsigned i = 1; i < PAGE_WORDS; i++)
			page[i] = i < 8 || i % 8 < 2 ? mix(p, ~(uint64_t)i) : page[i % (8 + i / 8)];
}

static void rewrite(uint64_t p)
{
	page_at(p)[1] = mix(p, ++written[p]);
}

static uint64_t strides; /* of all strided works: each goes on where the one before ended */

/* Every STRIDEth page, then the ones behind those: all pages, for npages numbers on end. */
static uint64_t strided(uint64_t i)
{
	uint64_t n = (strides + i) % npages, rows = npages / STRIDE;

	return n < rows * STRIDE ? n % rows * STRIDE + n / rows : n;
}

struct job {
	pthread_t thread;
	unsigned index, threads;
	uint64_t ops, seed;
	void (*touch)(uint64_t page);
	void (*run)(struct job *j);
	uint64_t (*place)(uint64_t i); /* of run_order() */
	const struct zipf *zipf;       /* NULL: every page is as likely */
	double start, end;
};

static pthread_barrier_t barrier;

static void random_ops(struct job *j)
{
	uint64_t seed = j->seed;

	for (uint64_t i = 0; i < j->ops; i++) {
		uint64_t p = j->zipf ? zipf_page(j->zipf, zipf_next(j->zipf, xorshift, &seed))
				     : xorshift(&seed) % (npages / j->threads);

		p = p * j->threads + j->index;
		j->touch(p);
	}
}

static uint64_t in_order(uint64_t i)
{
	return i;
}

/* A part of all, by the thread's number. */
static void order_ops(struct job *j)
{
	uint64_t end = j->ops * (j->index + 1) / j->threads;

	for (uint64_t i = j->ops * j->index / j->threads; i < end; i++)
		j->touch(j->place(i));
}

static void *job_thread(void *arg)
{
	struct job *j = arg;

	pthread_barrier_wait(&barrier);
	j->start = now_us();
	j->run(j);
	j->end = now_us();
	return NULL;
}

/* Threads that do as `all` says: microseconds from the first one's start to the last one's end. */
static double run_threads(const struct job *all, unsigned threads, uint64_t seed)
{
	static struct job jobs[THREADS_MAX];
	double start = 0, end = 0;
	int err;

	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned t = 0; t < threads; t++) {
		jobs[t] = *all;
		jobs[t].index = t;
		jobs[t].threads = threads;
		jobs[t].seed = mix(seed, t);
		err = pthread_create(&jobs[t].thread, NULL, job_thread, &jobs[t]);
		if (err)
			die("cannot start a thread: %s", strerror(err));
	}
	for (unsigned t = 0; t < threads; t++) {
		pthread_join(jobs[t].thread, NULL);
		if (!t || jobs[t].start < start)
			start = jobs[t].start;
		if (!t || jobs[t].end > end)
			end = jobs[t].end;
	}
	pthread_barrier_destroy(&barrier);
	return end - start;
}

/* One thread: this one. */
static double run_order(struct job *all, unsigned threads)
{
	if (threads > 1)
		return run_threads(all, threads, 0);
	all->threads = 1;
	all->start = now_us();
	order_ops(all);
	return now_us() - all->start;
}

static double run_random(int write, int zipf, unsigned threads, uint64_t ops, uint64_t seed)
{
	struct zipf z;
	struct job j = {.run = random_ops,
			.touch = write ? rewrite : check,
			.ops = ops / threads,
			.zipf = zipf ? &z : NULL};

	if (zipf)
		zipf_init(&z, npages / threads, ZIPF_S);
	return run_threads(&j, threads, seed);
}

static void row(const char *work, unsigned threads, double us, uint64_t ops)
{
	static uint64_t misses, reads;

	printf("row %s %u %.4f\n", work, threads, us / (double)ops);
	if (mem_takes_options) {
		uint64_t missed = mem_misses(), read = mem_reads();

		printf("misses %s %u %.4f\n", work, threads,
		       (double)(missed - misses) / (double)ops);
		printf("reads %s %u %.4f\n", work, threads, (double)(read - reads) / (double)ops);
		misses = missed;
		reads = read;
	}
	fflush(stdout);
}

static uint64_t number(const char *option, const char *text)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-')
		die("--%s: '%s' is not a number", option, text);
	return v;
}

static void map_anew(void)
{
	size_t bytes = npages * spread * sizeof(*pages);

	if (pages)
		mem_unmap(pages, bytes);
	memset(written, 0, npages * sizeof(*written));
	pages = mem_map(bytes, spread > 1);
}

/* One work of the list, "NAME" or "NAME:THREADS". */
static void run_one(char *work, uint64_t ops, uint64_t *seed, uint64_t last_part)
{
	static const char *const random[] = {"randread", "randwrite", "zipfread", "zipfwrite"};
	static const struct {
		const char *name;
		void (*touch)(uint64_t page);
		uint64_t (*place)(uint64_t i);
	} orders[] = {
		{"fill", fill, in_order},	   {"seqread", check, in_order},
		{"seqwrite", rewrite, in_order},   {"stride", check, strided},
		{"stridewrite", rewrite, strided}, {"reread", check, in_order},
	};
	char *colon = strchr(work, ':');
	uint64_t threads = colon ? number("works", colon + 1) : 1;

	if (threads < 1 || threads > THREADS_MAX || npages < threads)
		die("--works: a work is done by 1 to %u threads", THREADS_MAX);
	if (colon)
		*colon = '\0';
	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(work, random[i])) {
			row(work, (unsigned)threads,
			    run_random(i % 2 == 1, i >= 2, (unsigned)threads, ops, (*seed)++), ops);
			return;
		}
	for (unsigned i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
		struct job j = {
			.run = order_ops, .touch = orders[i].touch, .place = orders[i].place};

		if (strcmp(work, orders[i].name) != 0)
			continue;
		j.ops = npages;
		if (j.place == strided && ops < npages)
			j.ops = ops;
		if (!strcmp(work, "reread"))
			j.ops = npages / last_part;
		if (j.touch == fill)
			map_anew();
		row(work, (unsigned)threads, run_order(&j, (unsigned)threads), j.ops);
		if (j.place == strided)
			strides += j.ops;
		return;
	}
	die("there is no work '%s'", work);
}

static void run_all(char *works, uint64_t ops, uint64_t seed, uint64_t last_part)
{
	char *rest;

	if (strncmp(works, "fill", 4) != 0)
		die("--works: the first is 'fill'");
	for (char *w = strtok_r(works, ",", &rest); w; w = strtok_r(NULL, ",", &rest))
		run_one(w, ops, &seed, last_part);
}

/* What a huge region costs that is mapped and never touched. */
static void run_reserve(uint64_t bytes)
{
	double start = now_us();
	void *p = mem_map(bytes, 1);

	row("reserve", 1, now_us() - start, 1);
	mem_report();
	mem_unmap(p, bytes);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"mib", required_argument, NULL, 'm'},
		{"ops", required_argument, NULL, 'o'},
		{"seed", required_argument, NULL, 's'},
		{"content", required_argument, NULL, 'c'},
		{"last-part", required_argument, NULL, 'L'},
		{"spread", required_argument, NULL, 'S'},
		{"reserve-gib", required_argument, NULL, 'r'},
		{"limit-mib", required_argument, NULL, 'l'},
		{"swap-dir", required_argument, NULL, 'd'},
		{"engine", required_argument, NULL, 'e'},
		{"wp", required_argument, NULL, 'w'},
		{"pagers", required_argument, NULL, 'p'},
		{"pool-mib", required_argument, NULL, 'P'},
		{"no-swap", no_argument, NULL, 'n'},
		{"in-thread", no_argument, NULL, 'i'},
		{"near", required_argument, NULL, 'N'},
		{"works", required_argument, NULL, 'W'},
		{0},
	};
	/*
	 * fl_open()'s default of `near` is 0, since a binding shows: in sched_getaffinity(2), and
	 * in the threads and processes that are made meanwhile.  Here nobody looks, and threads
	 * lose it again; `faultline run`, which hides it, has it on.
	 */
	struct mem_options mo = {.engine = "auto", .wp = "auto", .near = 1};
	char all_works[] = WORKS;
	char *works = all_works;
	uint64_t mib = 0, ops = 0, seed = 1, last_part = 1, reserve_gib = 0;
	size_t written_bytes;
	int c, at;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((c = getopt_long(argc, argv, "", options, &at)) != -1) {
		if (strchr("ldewpPniN", c) && !mem_takes_options)
			die("--%s is for the worker that is linked with faultline",
			    options[at].name);
		switch (c) {
		case 'm':
			mib = number("mib", optarg);
			break;
		case 'o':
			ops = number("ops", optarg);
			break;
		case 's':
			seed = number("seed", optarg);
			break;
		case 'c':
			if (strcmp(optarg, "word") && strcmp(optarg, "soft") &&
			    strcmp(optarg, "whole"))
				die("--content is 'word', 'soft' or 'whole', not '%s'", optarg);
			whole_pages = !strcmp(optarg, "whole");
			soft_pages = !strcmp(optarg, "soft");
			break;
		case 'L':
			last_part = number("last-part", optarg);
			break;
		case 'S':
			spread = number("spread", optarg);
			break;
		case 'r':
			reserve_gib = number("reserve-gib", optarg);
			break;
		case 'l':
			mo.limit = number("limit-mib", optarg) << 20;
			break;
		case 'd':
			mo.swap_dir = optarg;
			break;
		case 'e':
			mo.engine = optarg;
			break;
		case 'w':
			mo.wp = optarg;
			break;
		case 'p':
			mo.pagers = (unsigned)number("pagers", optarg);
			break;
		case 'P':
			mo.pool = number("pool-mib", optarg) << 20;
			break;
		case 'n':
			mo.no_swap = 1;
			break;
		case 'i':
			mo.in_thread = 1;
			break;
		case 'N':
			mo.near = (unsigned)number("near", optarg);
			break;
		case 'W':
			works = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind != argc)
		die("what is '%s'?", argv[optind]);
	mem_open(&mo);
	if (reserve_gib)
		run_reserve(reserve_gib << 30);
	if (mib) {
		npages = mib << 8;
		if (ops < THREADS_MAX)
			die("--ops must be at least %u", THREADS_MAX);
		if (last_part < 1 || last_part > npages)
			die("--last-part must be at least 1");
		if (spread < 1 || spread > 1024)
			die("--spread must be from 1 to 1024");
		written_bytes = npages * sizeof(*written);
		written = mmap(NULL, written_bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (written == MAP_FAILED)
			die("cannot map %zu bytes: %s", written_bytes, strerror(errno));
		run_all(works, ops, seed, last_part);
		mem_report();
		mem_unmap(pages, npages * spread * sizeof(*pages));
	}
	mem_close();
	return 0;
}
