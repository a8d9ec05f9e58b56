/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * worker.c - the work that `make bench` times, on memory from mem.h.
 *
 * One run does, in the order of --works and on the same pages, some of
 *
 *	fill		every page is written, in order; always the first
 *	seqread		read in order
 *	stride		every 16th page is read, then the ones behind those
 *	randread:N	read at random by N threads
 *	randwrite:N	the same, written
 *	zipfread:N	some pages much more often than others (zipf.h, 0.99)
 *	zipfwrite:N
 *	reread		read in order what random writes have scattered (--last-part=N:
 *			only one Nth of it, where time is short)
 *
 * An operation touches one page; what is printed is elapsed microseconds for one
 * operation, all threads together.  The same seed does the same operations,
 * whoever pages.  A worker that knows of its faults (mem.h) also prints how many of
 * them an operation waited for I/O.
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

static void fill(void)
{
	for (uint64_t p = 0; p < npages; p++) {
		uint64_t *page = page_at(p);

		page[0] = mix(p, 0);
		if (whole_pages)
			for (unsigned i = 1; i < PAGE_WORDS; i++)
				page[i] = mix(p, ~(uint64_t)i);
		/* two new words, then six that were there before, at one of several distances */
		if (soft_pages)
			for (unsigned i = 1; i < PAGE_WORDS; i++)
				page[i] = i < 8 || i % 8 < 2 ? mix(p, ~(uint64_t)i)
							     : page[i % (8 + i / 8)];
	}
}

static void read_in_order(uint64_t n)
{
	for (uint64_t p = 0; p < n; p++)
		check(p);
}

static void read_strided(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		check(i * STRIDE % npages + i * STRIDE / npages % STRIDE);
}

struct job {
	pthread_t thread;
	unsigned index, threads;
	uint64_t ops, seed;
	int write;
	const struct zipf *zipf; /* NULL: every page is as likely */
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
		if (j->write)
			page_at(p)[1] = mix(p, ++written[p]);
		else
			check(p);
	}
}

static void *job_thread(void *arg)
{
	struct job *j = arg;

	pthread_barrier_wait(&barrier);
	j->start = now_us();
	random_ops(j);
	j->end = now_us();
	return NULL;
}

/* Microseconds from the first thread's start to the last one's end. */
static double run_random(int write, int zipf, unsigned threads, uint64_t ops, uint64_t seed)
{
	static struct job jobs[THREADS_MAX];
	double start = 0, end = 0;
	struct zipf z;
	int err;

	if (zipf)
		zipf_init(&z, npages / threads, ZIPF_S);
	pthread_barrier_init(&barrier, NULL, threads);
	for (unsigned t = 0; t < threads; t++) {
		jobs[t] = (struct job){.index = t,
				       .threads = threads,
				       .ops = ops / threads,
				       .seed = mix(seed, t),
				       .zipf = zipf ? &z : NULL,
				       .write = write};
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

static void row(const char *work, unsigned threads, double us, uint64_t ops)
{
	static uint64_t misses;

	printf("row %s %u %.4f\n", work, threads, us / (double)ops);
	if (mem_takes_options) {
		uint64_t now = mem_misses();

		printf("misses %s %u %.4f\n", work, threads, (double)(now - misses) / (double)ops);
		misses = now;
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

/* One work of the list, "NAME" or "NAME:THREADS". */
static void run_one(char *work, uint64_t ops, uint64_t *seed, uint64_t last_part)
{
	static const char *const random[] = {"randread", "randwrite", "zipfread", "zipfwrite"};
	char *colon = strchr(work, ':');
	uint64_t threads = colon ? number("works", colon + 1) : 1;
	double start = now_us();

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
	if (!strcmp(work, "fill")) {
		fill();
		row(work, 1, now_us() - start, npages);
	} else if (!strcmp(work, "seqread")) {
		read_in_order(npages);
		row(work, 1, now_us() - start, npages);
	} else if (!strcmp(work, "stride")) {
		read_strided(ops < npages ? ops : npages);
		row(work, 1, now_us() - start, ops < npages ? ops : npages);
	} else if (!strcmp(work, "reread")) {
		read_in_order(npages / last_part);
		row(work, 1, now_us() - start, npages / last_part);
	} else {
		die("there is no work '%s'", work);
	}
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
		{"works", required_argument, NULL, 'W'},
		{0},
	};
	struct mem_options mo = {.engine = "auto", .wp = "auto"};
	char all_works[] = WORKS;
	char *works = all_works;
	uint64_t mib = 0, ops = 0, seed = 1, last_part = 1, reserve_gib = 0;
	size_t written_bytes;
	int c, at;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((c = getopt_long(argc, argv, "", options, &at)) != -1) {
		if (strchr("ldewpPni", c) && !mem_takes_options)
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
		pages = mem_map(npages * spread * sizeof(*pages), spread > 1);
		run_all(works, ops, seed, last_part);
		mem_report();
		mem_unmap(pages, npages * spread * sizeof(*pages));
	}
	mem_close();
	return 0;
}
