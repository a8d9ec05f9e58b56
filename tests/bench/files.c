/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * files.c - the work that `make bench` times on a mapped file.
 *
 *	bench-files --make FILE MIB
 *	bench-files --by mmap|faultline|direct FILE --ops N --seed N [--zipf-ops N]
 *		[--limit-mib N] [--store MNT] [--near 0|1] [--unadvised]
 *		[--dirty-expire MILLISECONDS]
 *		[--works WORK:THREADS,...]
 *
 * The first writes a file whose pages say which they are.  The second maps it,
 * by mmap(2) (advised MADV_RANDOM for what is random, unless --unadvised) or by
 * fl_mmap(), and does its works:
 *
 *	seqread    reads all in order
 *	randread   reads random pages
 *	procread   the same, by as many processes, each with a mapping of its own
 *	zipfread   reads some pages much more often than others (zipf.h)
 *	randwrite  writes random pages, then msync(2)s all
 *
 * Each begins with nothing cached, and prints "row WORK THREADS MICROSECONDS", of one
 * page; also "stat WORK:THREADS:COUNTER VALUE": how
 * long the msync(2) took, and what faultline counted.  "direct" is what the
 * device gives: O_DIRECT through io_uring, into huge pages, 1 MiB at a time with 4 in
 * flight in order, else 4 KiB with as many in flight as there are threads (32 for writes).
 *
 * With --store the file is one of a store's, whose server pages it.
 *
 * A work touches the same pages on every side, whatever others are in the list.
 *
 * Every page that is read is checked; and after the writes the whole file is, by
 * read(2) with O_DIRECT, which caches nothing that would count as this program's
 * memory: each page that was written holds the last of its words.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "zipf.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faultline.h"

#define PAGE 4096U
#define BIG (1U << 20)
#define HUGE ((size_t)2 << 20)
#define THREADS_MAX 8U
#define WRITE_DEPTH 32U
#define ZIPF_S 0.99

enum by { BY_MMAP, BY_FAULTLINE, BY_DIRECT };

static unsigned by; /* enum by */
static int fd;
static uint64_t npages, limit;
static uint64_t zipf_ops; /* of zipfread */
static uint32_t *written; /* writes of each page */
static const char *store; /* its mount; NULL: none */
static int unadvised;
static struct fl *fl;
/*
 * fl_open()'s default is 0, since a binding shows: in sched_getaffinity(2), and in the threads
 * and processes that are made meanwhile.  Here nobody looks, and threads lose it again.
 */
static unsigned near = 1;
static unsigned dirty_expire; /* of fl_open() */
static uint64_t (*pages)[PAGE / 8];

static _Noreturn __attribute__((format(printf, 1, 2))) void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("faultline: bench-files: ", stderr);
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

static void check(uint64_t p, const uint64_t *page)
{
	if (page[0] != mix(p, 0) || (written[p] && page[1] != mix(p, written[p])))
		die("page %llu of the file is wrong", (unsigned long long)p);
}

static void *buffer(size_t size)
{
	void *p;

	if (posix_memalign(&p, PAGE, size))
		die("out of memory");
	return p;
}

/* In huge pages where there are any: a request of the device's is a few segments then. */
static void *huge_buffer(size_t size)
{
	void *p;

	size = (size + HUGE - 1) / HUGE * HUGE;
	if (posix_memalign(&p, HUGE, size))
		die("out of memory");
	madvise(p, size, MADV_HUGEPAGE);
	memset(p, 0, size);
	return p;
}

static void make(const char *path, uint64_t mib)
{
	char *buf = buffer(BIG);
	int to = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);

	if (to < 0)
		die("%s: %s", path, strerror(errno));
	memset(buf, 0x5a, BIG);
	for (uint64_t m = 0; m < mib; m++) {
		for (uint64_t i = 0; i < BIG / PAGE; i++) {
			uint64_t word = mix(m * (BIG / PAGE) + i, 0);

			memcpy(buf + i * PAGE, &word, sizeof(word));
		}
		if (write(to, buf, BIG) != (ssize_t)BIG)
			die("%s: %s", path, strerror(errno));
	}
	if (fsync(to) || close(to))
		die("%s: %s", path, strerror(errno));
	free(buf);
}

/* ---- by mapping ---- */

static void map_begin(int in_order)
{
	struct fl_options o = {.size = sizeof(o),
			       .limit = limit,
			       .near = near,
			       .store = store,
			       .dirty_expire = dirty_expire};
	int err;

	if (by == BY_MMAP) {
		pages = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		/* or each page comes with as much around it as the disk's read_ahead_kb says */
		if ((void *)pages != MAP_FAILED && !in_order && !unadvised)
			madvise(pages, npages * PAGE, MADV_RANDOM);
	} else {
		err = fl_open(&fl, &o);
		if (err)
			die("fl_open: %s", strerror(-err));
		pages = fl_mmap(fl, NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if ((void *)pages == MAP_FAILED)
		die("cannot map the file: %s", strerror(errno));
}

/* What the runtime counted since it was opened: it did this work alone. */
static void map_report(const char *name, unsigned threads)
{
	struct fl_stats s;
	int err;

	if (by != BY_FAULTLINE)
		return;
	err = fl_stats(fl, &s, sizeof(s));
	if (err)
		die("fl_stats: %s", strerror(-err));
#define REPORT(counter)                                                                            \
	printf("stat %s:%u:" #counter " %llu\n", name, threads, (unsigned long long)s.counter)
	REPORT(faults_minor);
	REPORT(faults_major);
	REPORT(faults_wp);
	REPORT(faults_around);
	REPORT(file_reads);
	REPORT(file_read_pages);
	REPORT(file_writes);
	REPORT(file_write_pages);
	REPORT(file_dropped);
	REPORT(readahead_hits);
	REPORT(readahead_misses);
	REPORT(resident_max);
#undef REPORT
}

static void map_end(void)
{
	int err;

	if (by == BY_MMAP) {
		munmap(pages, npages * PAGE);
		return;
	}
	err = fl_munmap(fl, pages, npages * PAGE);
	if (err == 0)
		err = fl_close(fl);
	if (err)
		die("fl_close: %s", strerror(-err));
}

static void map_sync(void)
{
	int err = by == BY_MMAP ? (msync(pages, npages * PAGE, MS_SYNC) ? errno : 0)
				: -fl_msync(fl, pages, npages * PAGE, MS_SYNC);

	if (err)
		die("msync: %s", strerror(err));
}

struct job {
	pthread_t thread;
	unsigned index, threads;
	uint64_t ops, seed;
	const struct zipf *zipf;
	int write;
};

static void *job_thread(void *arg)
{
	struct job *j = arg;
	uint64_t seed = j->seed;

	for (uint64_t i = 0; i < j->ops; i++) {
		uint64_t p = j->zipf ? zipf_page(j->zipf, zipf_next(j->zipf, xorshift, &seed))
				     : xorshift(&seed) % (npages / j->threads);

		p = p * j->threads + j->index;
		if (j->write)
			pages[p][1] = mix(p, ++written[p]);
		else
			check(p, pages[p]);
	}
	return NULL;
}

static void run_jobs(int write, const struct zipf *zipf, unsigned threads, uint64_t ops,
		     uint64_t seed)
{
	static struct job jobs[THREADS_MAX];

	for (unsigned t = 0; t < threads; t++) {
		jobs[t] = (struct job){.index = t,
				       .threads = threads,
				       .ops = ops / threads,
				       .seed = mix(seed, t),
				       .zipf = zipf,
				       .write = write};
		if (pthread_create(&jobs[t].thread, NULL, job_thread, &jobs[t]))
			die("cannot start a thread");
	}
	for (unsigned t = 0; t < threads; t++)
		pthread_join(jobs[t].thread, NULL);
}

/* ---- by processes ---- */

static void tell_one(int to)
{
	if (write(to, "", 1) != 1)
		die("cannot tell a process: %s", strerror(errno));
}

static void hear_from(int from, const char *who)
{
	char c;

	if (read(from, &c, 1) != 1)
		die("%s has ended", who);
}

static _Noreturn void process(struct job *j, unsigned n, uint64_t seed, int tell, int hear)
{
	uint64_t most = limit / PAGE / n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_begin(0);
	tell_one(tell);
	hear_from(hear, "the first process");
	job_thread(j);
	tell_one(tell);
	/*
	 * What the others have read, too, as much as the limit holds: each has all of it, and
	 * there is one copy, or are n.
	 */
	hear_from(hear, "the first process");
	if (most != 0 && j->ops > most)
		j->ops = most;
	for (unsigned i = 0; i < n; i++) {
		j->seed = mix(seed, i);
		job_thread(j);
	}
	tell_one(tell);
	/* what is mapped stays so until all are ready */
	hear_from(hear, "the first process");
	map_end();
	exit(0);
}

/* A process and two pipes, one for each way. */
struct other {
	pid_t pid;
	int tell, hear;
};

static void start(struct other *o, unsigned n, unsigned i, uint64_t ops, uint64_t seed)
{
	struct job job = {.threads = 1, .ops = ops / n, .seed = mix(seed, i)};
	int to[2], from[2];

	if (pipe(to) || pipe(from))
		die("no pipe: %s", strerror(errno));
	o->pid = fork();
	if (o->pid < 0)
		die("no process: %s", strerror(errno));
	if (o->pid == 0) {
		close(to[1]);
		close(from[0]);
		process(&job, n, seed, from[1], to[0]);
	}
	close(to[0]);
	close(from[1]);
	o->tell = to[1];
	o->hear = from[0];
}

static void tell_all(const struct other *o, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		tell_one(o[i].tell);
}

static void hear_all(const struct other *o, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		hear_from(o[i].hear, "a process");
}

/* Random reads by processes, each with a mapping of its own, of the same pages; how long they took. */
static double run_processes(unsigned n, uint64_t ops, uint64_t seed)
{
	struct other o[THREADS_MAX];
	double took;

	for (unsigned i = 0; i < n; i++)
		start(&o[i], n, i, ops, seed);
	hear_all(o, n);
	took = -now_us();
	tell_all(o, n);
	hear_all(o, n);
	took += now_us();
	tell_all(o, n);
	hear_all(o, n);
	tell_all(o, n);
	for (unsigned i = 0; i < n; i++) {
		int status;

		if (waitpid(o[i].pid, &status, 0) != o[i].pid || status != 0)
			die("a process failed");
		close(o[i].tell);
		close(o[i].hear);
	}
	return took;
}

/* ---- by the device ---- */

/* How long it took from the first request to the end of the last. */
static double run_direct(const char *path, int write, int random, unsigned size, unsigned depth,
			 uint64_t ops, uint64_t seed)
{
	int direct = open(path, O_RDWR | O_DIRECT);
	char *buf = huge_buffer((size_t)size * depth);
	uint64_t at[WRITE_DEPTH];
	unsigned idle[WRITE_DEPTH];
	unsigned nidle = depth;
	uint64_t begun = 0, ended = 0;
	struct io_uring ring;
	double took;

	if (direct < 0)
		die("%s: %s", path, strerror(errno));
	if (io_uring_queue_init(WRITE_DEPTH, &ring, 0))
		die("io_uring cannot be had");
	for (unsigned i = 0; i < depth; i++)
		idle[i] = i;
	seed = mix(seed, 0);
	took = -now_us();
	while (ended < ops) {
		struct io_uring_cqe *cqe;
		int err;

		while (nidle != 0 && begun < ops) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
			unsigned i = idle[--nidle];
			uint64_t *to = (uint64_t *)(void *)(buf + (size_t)i * size);

			at[i] = random ? xorshift(&seed) % npages : begun * (size / PAGE);
			begun++;
			if (write) {
				memset(to, 0x5a, size);
				to[0] = mix(at[i], 0);
				io_uring_prep_write(sqe, direct, to, size, at[i] * PAGE);
			} else {
				io_uring_prep_read(sqe, direct, to, size, at[i] * PAGE);
			}
			io_uring_sqe_set_data(sqe, (void *)(uintptr_t)i);
		}
		err = io_uring_submit_and_wait(&ring, 1);
		if (err < 0)
			die("io_uring: %s", strerror(-err));
		while (!io_uring_peek_cqe(&ring, &cqe)) {
			unsigned i = (unsigned)(uintptr_t)io_uring_cqe_get_data(cqe);

			if (cqe->res != (int)size)
				die("%s: %s", path, strerror(cqe->res < 0 ? -cqe->res : EIO));
			for (unsigned k = 0; k < size / PAGE && !write; k++)
				check(at[i] + k, (uint64_t *)(void *)(buf + (size_t)i * size +
								      (size_t)k * PAGE));
			io_uring_cqe_seen(&ring, cqe);
			idle[nidle++] = i;
			ended++;
		}
	}
	if (write && fdatasync(direct))
		die("%s: %s", path, strerror(errno));
	took += now_us();
	io_uring_queue_exit(&ring);
	free(buf);
	close(direct);
	return took;
}

/* ---- the works ---- */

static void uncache(void)
{
	if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		die("cannot drop what is cached: %s", strerror(errno));
}

/* A work's own in each round: none takes the same pages in the same order as another. */
static uint64_t seed_of(uint64_t seed, const char *name, unsigned threads)
{
	seed = mix(seed, threads);
	for (; *name; name++)
		seed = mix(seed, (unsigned char)*name);
	return seed;
}

static void work(const char *path, const char *name, unsigned threads, uint64_t ops, uint64_t seed)
{
	int write = !strcmp(name, "randwrite");
	int zipf = !strcmp(name, "zipfread");
	int in_order = !strcmp(name, "seqread");
	struct zipf z;
	double start, end;

	if (!write && !zipf && !in_order && strcmp(name, "randread") && strcmp(name, "procread"))
		die("--works: no work is named '%s'", name);
	if (zipf && by == BY_DIRECT)
		die("the device has no '%s'", name);
	seed = seed_of(seed, name, threads);
	uncache();
	if (zipf)
		ops = zipf_ops;
	zipf_init(&z, npages / threads, ZIPF_S);
	if (!strcmp(name, "procread") && by != BY_DIRECT) {
		start = 0;
		end = run_processes(threads, ops, seed);
	} else if (by == BY_DIRECT) {
		start = 0;
		if (in_order)
			end = run_direct(path, 0, 0, BIG, 4, npages / (BIG / PAGE), seed);
		else
			end = run_direct(path, write, 1, PAGE, write ? WRITE_DEPTH : threads, ops,
					 seed);
	} else {
		map_begin(in_order);
		start = now_us();
		if (in_order)
			for (uint64_t p = 0; p < npages; p++)
				check(p, pages[p]);
		else
			run_jobs(write, zipf ? &z : NULL, threads, ops, seed);
		if (write) {
			end = now_us();
			map_sync();
			printf("stat %s:%u:sync_us %.0f\n", name, threads, now_us() - end);
		}
		end = now_us();
		map_report(name, threads);
		map_end();
	}
	printf("row %s %u %.4f\n", name, threads,
	       (end - start) / (double)(in_order ? npages : ops));
	fflush(stdout);
}

/* What read(2) finds, so that nothing that a mapping shows counts. */
static void check_file(const char *path)
{
	int direct = open(path, O_RDONLY | O_DIRECT);
	char *buf = buffer(BIG);

	if (direct < 0)
		die("%s: %s", path, strerror(errno));
	uncache();
	for (uint64_t m = 0; m < npages / (BIG / PAGE); m++) {
		if (pread(direct, buf, BIG, (off_t)(m * BIG)) != (ssize_t)BIG)
			die("cannot read the file again: %s", strerror(errno));
		for (uint64_t i = 0; i < BIG / PAGE; i++)
			check(m * (BIG / PAGE) + i, (uint64_t *)(void *)(buf + i * PAGE));
	}
	close(direct);
	free(buf);
}

/* The works of a list, in its order; whether any writes. */
static int run_works(const char *path, char *works, uint64_t ops, uint64_t seed)
{
	char *rest = NULL;
	int writes = 0;

	for (char *w = strtok_r(works, ",", &rest); w; w = strtok_r(NULL, ",", &rest)) {
		char *colon = strchr(w, ':');
		unsigned long threads = colon ? strtoul(colon + 1, NULL, 10) : 1;

		if (colon)
			*colon = '\0';
		if (threads < 1 || threads > THREADS_MAX)
			die("--works: a work is done by 1 to %u threads", THREADS_MAX);
		work(path, w, (unsigned)threads, ops, seed);
		writes |= !strcmp(w, "randwrite");
	}
	return writes;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"make", required_argument, NULL, 'm'},
		{"by", required_argument, NULL, 'b'},
		{"ops", required_argument, NULL, 'o'},
		{"zipf-ops", required_argument, NULL, 'z'},
		{"seed", required_argument, NULL, 's'},
		{"limit-mib", required_argument, NULL, 'l'},
		{"near", required_argument, NULL, 'n'},
		{"store", required_argument, NULL, 'S'},
		{"unadvised", no_argument, NULL, 'u'},
		{"dirty-expire", required_argument, NULL, 'd'},
		{"works", required_argument, NULL, 'W'},
		{0},
	};
	static const char *const ways[] = {"mmap", "faultline", "direct"}; /* enum by */
	char all_works[] = "seqread,randread,randread:8,randwrite";
	char *works = all_works;
	uint64_t ops = 0, seed = 1;
	struct stat st;
	int c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			if (optind >= argc)
				die("--make FILE MIB");
			make(optarg, strtoull(argv[optind], NULL, 10));
			return 0;
		case 'b':
			while (by < 3 && strcmp(optarg, ways[by]) != 0)
				by++;
			if (by == 3)
				die("--by: '%s' is none of mmap, faultline, direct", optarg);
			break;
		case 'o':
			ops = strtoull(optarg, NULL, 10);
			break;
		case 'z':
			zipf_ops = strtoull(optarg, NULL, 10);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			limit = strtoull(optarg, NULL, 10) << 20;
			break;
		case 'n':
			if (strcmp(optarg, "0") && strcmp(optarg, "1"))
				die("--near is 0 or 1, not '%s'", optarg);
			near = *optarg == '1';
			break;
		case 'S':
			store = optarg;
			break;
		case 'u':
			unadvised = 1;
			break;
		case 'd':
			dirty_expire = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'W':
			works = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind + 1 != argc)
		die("which file?");
	fd = open(argv[optind], O_RDWR);
	if (fd < 0 || fstat(fd, &st))
		die("%s: %s", argv[optind], strerror(errno));
	npages = (uint64_t)st.st_size / BIG * (BIG / PAGE);
	if (zipf_ops == 0)
		zipf_ops = ops;
	if (npages == 0 || ops < THREADS_MAX || zipf_ops < THREADS_MAX)
		die("the file has a MiB at least, --ops is at least %u", THREADS_MAX);
	written = calloc(npages, sizeof(*written));
	if (!written)
		die("out of memory");
	if (run_works(argv[optind], works, ops, seed))
		check_file(argv[optind]);
	free(written);
	close(fd);
	return 0;
}
