/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * micro.c - what one fault of each kind, one ioctl, one fork costs.
 *
 *	bench-micro faults same|other|in-thread|kernel DIR	areas and a file lie in DIR
 *	bench-micro ioctls one|two
 *	bench-micro open DIR
 *	bench-micro fork MIB
 *	bench-micro hooks MIB	memory calls after MIB have been touched
 *
 * Prints "row NAME NANOSECONDS".  Faults are touches of single pages, without
 * windows around them; each is timed, and the median told.  "same": the pager
 * is on the CPU of the thread that faults; "other": on another one; then a
 * second thread faults now and then, or the pager would follow the first.  A row
 * whose pager was found elsewhere is not told: "astray NAME" is instead.
 * "in-thread": of memory that is served by the thread itself; "kernel": of
 * memory that nobody pages.  Kinds of faults are told apart by what the runtime
 * says of the pages before they are touched, and counted by what it says after.
 *
 * ioctls: nanoseconds a page, by how many pages one call takes; "two": while
 * another CPU runs a thread of the process, too, so that what changes a mapping
 * has to interrupt it.  The row of a call is its name and that number.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uffd-abi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faultline.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define TOUCHES 2048U
#define LIMIT (64 * MIB)
#define OTHERS_EVERY 8U /* a pager follows who faults 16 times in a row */
#define PAGERS_MAX 16U

static _Noreturn __attribute__((format(printf, 1, 2))) void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("faultline: bench-micro: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_value);
	return v[n / 2];
}

static void row(const char *name, uint64_t ns)
{
	printf("row %s %llu\n", name, (unsigned long long)ns);
}

static void bind_thread(pid_t tid, int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(tid, sizeof(one), &one))
		die("cannot bind a thread to CPU %d: %s", cpu, strerror(errno));
}

/* The two CPUs to use, of those that we may: the same one twice where there is no other. */
static void choose_cpus(int cpu[2])
{
	cpu_set_t may;
	int n = 0;

	sched_getaffinity(0, sizeof(may), &may);
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &may))
			cpu[n++] = i;
	if (n == 1)
		die("there is one CPU only");
}

/* ---- faults ---- */

static struct fl *fl;
static int map_flags;

/* A second thread that touches a page of its own now and then, on our CPU. */
static struct {
	pthread_t thread;
	pthread_barrier_t turn;
	char *at;   /* NULL: the end */
	char *ours; /* the same for us */
} other;

static void *other_main(void *arg)
{
	bind_thread(0, *(int *)arg);
	for (;;) {
		pthread_barrier_wait(&other.turn);
		if (!other.at)
			return NULL;
		*other.at = 1;
		other.at += PAGE;
		pthread_barrier_wait(&other.turn);
	}
}

static int with_other;

/*
 * Before page i is touched: nobody faults often enough in a row for a pager to follow.  We
 * fault, too, for what is touched in between may be there, and the other would be alone.
 */
static void other_in_turn(size_t i)
{
	if (!with_other || i % OTHERS_EVERY != 0)
		return;
	pthread_barrier_wait(&other.turn);
	pthread_barrier_wait(&other.turn);
	*other.ours = 1;
	other.ours += PAGE;
}

/* The pagers, and the one CPU that each has to be bound to. */
static struct {
	pid_t tid[PAGERS_MAX];
	unsigned n;
	int cpu;
} pagers;

static int pagers_in_place(void)
{
	for (unsigned i = 0; i < pagers.n; i++) {
		cpu_set_t may;

		if (sched_getaffinity(pagers.tid[i], sizeof(may), &may)) {
			/* one of the runtime before, which was ending */
			if (errno == ESRCH)
				continue;
			die("a pager cannot be looked at: %s", strerror(errno));
		}
		if (CPU_COUNT(&may) != 1 || !CPU_ISSET(pagers.cpu, &may))
			return 0;
	}
	return 1;
}

static int astray; /* a pager was, while touch() went on */

static char *map(size_t bytes, int flags)
{
	char *p =
		fl ? fl_mmap(fl, NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0)
		   : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err;

	if (p == MAP_FAILED)
		die("cannot map memory: %s", strerror(errno));
	err = fl ? fl_madvise(fl, p, bytes, MADV_RANDOM) : 0;
	madvise(p, fl ? 0 : bytes, MADV_NOHUGEPAGE);
	if (err)
		die("fl_madvise: %s", strerror(-err));
	return p;
}

/* Touch the pages of p of a kind (-1: all), at most TOUCHES; the median, or 0 when there were few. */
static uint64_t touch(volatile char *p, size_t n, int kind, int write)
{
	static uint64_t took[TOUCHES];
	unsigned char *state = malloc(n);
	size_t done = 0;
	char sum = 0;

	if (!state)
		die("out of memory");
	astray = 0;
	memset(state, 0, n);
	if (kind >= 0 && fl_page_state(fl, (void *)(uintptr_t)p, n * PAGE, state))
		die("fl_page_state failed");
	for (size_t i = 0; i < n && done < TOUCHES; i++) {
		uint64_t start;

		if (kind >= 0 && FL_PAGE_KIND(state[i]) != (enum fl_page_kind)kind)
			continue;
		/* the last of a row of touches is when a pager would have followed */
		if (done % OTHERS_EVERY == 0)
			astray |= !pagers_in_place();
		other_in_turn(done);
		start = now_ns();
		if (write)
			p[i * PAGE] = (char)i;
		else
			sum = (char)(sum + p[i * PAGE]);
		took[done++] = now_ns() - start;
	}
	astray |= !pagers_in_place();
	free(state);
	return done >= TOUCHES / 16 ? median(took, done) : 0;
}

/* What touch() gave. */
static void tell(const char *name, uint64_t ns)
{
	if (astray)
		printf("astray %s\n", name);
	else if (ns)
		row(name, ns);
}

/* Bytes of which no page is like another, nor of one word. */
static void distinct(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		other_in_turn(i);
		for (size_t k = 0; k < 8; k++)
			memcpy(p + i * PAGE + k * 64,
			       &(uint64_t){(i << 8 | k) * 0x9e3779b97f4a7c15U}, 8);
	}
}

static size_t count_kind(const char *p, size_t n, enum fl_page_kind kind)
{
	unsigned char *state = malloc(n);
	size_t k = 0;

	if (!state || fl_page_state(fl, p, n * PAGE, state))
		die("fl_page_state failed");
	for (size_t i = 0; i < n; i++)
		k += FL_PAGE_KIND(state[i]) == kind;
	free(state);
	return k;
}

/* Have all pages leave, to where they are of a kind. */
static void page_out(char *p, size_t n, enum fl_page_kind kind)
{
	uint64_t until = now_ns() + 5000000000U;

	do {
		if (fl_madvise(fl, p, n * PAGE, MADV_PAGEOUT))
			die("MADV_PAGEOUT failed");
	} while (count_kind(p, n, kind) < n && now_ns() < until);
}

static void open_runtime(const char *dir, enum fl_compress compress)
{
	struct fl_options o = {
		.size = sizeof(o),
		.limit = LIMIT,
		.swap_dir = dir,
		.fault_around = PAGE,
		.readahead = PAGE,
		.wp = FL_WP_SYNC,
		.compress = compress,
		.log_level = FL_LOG_WARN,
	};
	int err = fl_open(&fl, &o);

	if (err)
		die("fl_open: %s", strerror(-err));
}

/* All threads but this one are pagers. */
static void find_pagers(int cpu)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;

	if (!d)
		die("/proc/self/task: %s", strerror(errno));
	pagers.n = 0;
	pagers.cpu = cpu;
	while ((e = readdir(d)) != NULL) {
		pid_t tid = (pid_t)atoi(e->d_name);

		if (tid <= 0 || tid == gettid())
			continue;
		if (pagers.n == PAGERS_MAX)
			die("there are more than %u pagers", PAGERS_MAX);
		pagers.tid[pagers.n++] = tid;
	}
	closedir(d);
	if (pagers.n == 0)
		die("there is no pager");
}

static void fault_kinds(void)
{
	const size_t n = TOUCHES;
	char *p = map(n * PAGE, map_flags);
	char *q = map(n * PAGE, map_flags);
	char *more;

	tell("zero", touch(p, n, -1, 0));
	tell("anon", touch(q, n, -1, 1));
	if (!fl)
		return;
	distinct(p, n);
	page_out(p, n, FL_PAGE_SWAPPED);
	tell("swap", touch(p, n, FL_PAGE_SWAPPED, 0));
	tell("wp", touch(p, n, FL_PAGE_PRESENT, 1));
	page_out(p, n, FL_PAGE_SWAPPED);
	tell("swap-write", touch(p, n, FL_PAGE_SWAPPED, 1));
	for (size_t i = 0; i < n; i++) {
		other_in_turn(i);
		memset(q + i * PAGE, 0x42, PAGE);
	}
	page_out(q, n, FL_PAGE_FILLED);
	tell("filled", touch(q, n, FL_PAGE_FILLED, 1));
	/* more than there are frames: some wait in staging when the last has been touched */
	more = map(2 * LIMIT, map_flags);
	distinct(more, 2 * LIMIT / PAGE);
	tell("staged", touch(more, 2 * LIMIT / PAGE, FL_PAGE_STAGED, 1));
}

static char *map_file(int fd, size_t bytes, int flags)
{
	char *p = fl_mmap(fl, NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == FL_FAILED)
		die("cannot map the file: %s", strerror(errno));
	if (fl_madvise(fl, p, bytes, MADV_RANDOM))
		die("fl_madvise failed");
	return p;
}

static void file_kinds(const char *dir)
{
	const size_t n = TOUCHES;
	char *buf = malloc(n * PAGE);
	char *p;
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	if (!buf || fd < 0)
		die("%s: %s", dir, strerror(errno));
	distinct(buf, n);
	if (write(fd, buf, n * PAGE) != (ssize_t)(n * PAGE))
		die("%s: %s", dir, strerror(errno));
	free(buf);
	p = map_file(fd, n * PAGE, MAP_SHARED);
	tell("file-read", touch(p, n, -1, 0));
	tell("file-cached", touch(map_file(fd, n * PAGE, MAP_SHARED), n, -1, 0));
	tell("file-dirty", touch(p, n, -1, 1));
	tell("file-copy", touch(map_file(fd, n * PAGE, MAP_PRIVATE), n, -1, 1));
	close(fd);
}

static void begin_other(int cpu)
{
	static int where;

	where = cpu;
	other.at = map(LIMIT, 0);
	other.ours = map(LIMIT, 0);
	pthread_barrier_init(&other.turn, NULL, 2);
	if (pthread_create(&other.thread, NULL, other_main, &where))
		die("cannot start a thread");
	with_other = 1;
}

static void end_other(void)
{
	if (!with_other)
		return;
	other.at = NULL;
	pthread_barrier_wait(&other.turn);
	pthread_join(other.thread, NULL);
	with_other = 0;
}

/*
 * A runtime that pages, with its pagers where they are wanted.  They are made on the
 * CPU that is to be theirs: that is where one returns to that followed somebody.
 */
static void begin(const char *dir, enum fl_compress compress, const char *place, const int cpu[2])
{
	int theirs = cpu[!strcmp(place, "other")];

	bind_thread(0, theirs);
	open_runtime(dir, compress);
	/* more than the limit: armed */
	*map(2 * LIMIT, MAP_NORESERVE) = 1;
	find_pagers(theirs);
	bind_thread(0, cpu[0]);
	if (theirs != cpu[0])
		begin_other(cpu[0]);
}

static void end(void)
{
	int err;

	end_other();
	pagers.n = 0;
	err = fl_close(fl);
	if (err)
		die("fl_close: %s", strerror(-err));
	fl = NULL;
}

static void faults(const char *place, const char *dir)
{
	int cpu[2];
	char *p;

	choose_cpus(cpu);
	bind_thread(0, cpu[0]); /* and with us all that we make */
	if (!strcmp(place, "kernel")) {
		fault_kinds();
		return;
	}
	if (!strcmp(place, "in-thread"))
		map_flags = FL_MAP_IN_THREAD;
	else if (strcmp(place, "same") != 0 && strcmp(place, "other") != 0)
		die("'%s' is none of same, other, in-thread, kernel", place);
	begin(dir, FL_COMPRESS_NONE, place, cpu);
	fault_kinds();
	if (!map_flags)
		file_kinds(dir);
	end();
	begin(dir, FL_COMPRESS_LZ4, place, cpu);
	p = map(TOUCHES * PAGE, map_flags);
	distinct(p, TOUCHES);
	page_out(p, TOUCHES, FL_PAGE_COMPRESSED);
	tell("compressed", touch(p, TOUCHES, FL_PAGE_COMPRESSED, 1));
	end();
}

/* ---- ioctls ---- */

static int uffd, pagemap;

static char *registered(size_t bytes)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING |
					      UFFDIO_REGISTER_MODE_WP};
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("cannot map memory: %s", strerror(errno));
	madvise(p, bytes, MADV_NOHUGEPAGE);
	reg.range.start = (uintptr_t)p;
	reg.range.len = bytes;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER: %s", strerror(errno));
	return p;
}

/* The pages of a memory file: in its cache, and not mapped. */
static char *registered_file(size_t bytes)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MINOR};
	char *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		die("memory file: %s", strerror(errno));
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("cannot map memory: %s", strerror(errno));
	close(fd);
	memset(p, 1, bytes);
	madvise(p, bytes, MADV_DONTNEED);
	reg.range.start = (uintptr_t)p;
	reg.range.len = bytes;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER: %s", strerror(errno));
	return p;
}

static void must(const char *what, long r)
{
	if (r < 0)
		die("%s: %s", what, strerror(errno));
}

/* One call on n pages. */
static void call(const char *name, char *to, char *from, size_t n)
{
	if (!strcmp(name, "copy")) {
		struct uffdio_copy a = {
			.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = n * PAGE};
		must(name, ioctl(uffd, UFFDIO_COPY, &a));
	} else if (!strcmp(name, "zeropage")) {
		struct uffdio_zeropage a = {.range = {(uintptr_t)to, n * PAGE}};
		must(name, ioctl(uffd, UFFDIO_ZEROPAGE, &a));
	} else if (!strcmp(name, "move")) {
		struct uffdio_move a = {
			.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = n * PAGE};
		must(name, ioctl(uffd, UFFDIO_MOVE, &a));
	} else if (!strcmp(name, "wp") || !strcmp(name, "unwp")) {
		struct uffdio_writeprotect a = {.range = {(uintptr_t)from, n * PAGE},
						.mode = name[0] == 'w' ? UFFDIO_WRITEPROTECT_MODE_WP
								       : 0};
		must(name, ioctl(uffd, UFFDIO_WRITEPROTECT, &a));
	} else if (!strcmp(name, "continue")) {
		struct uffdio_continue a = {.range = {(uintptr_t)to, n * PAGE}};
		must(name, ioctl(uffd, UFFDIO_CONTINUE, &a));
	} else if (!strcmp(name, "wake")) {
		struct uffdio_range a = {(uintptr_t)to, n * PAGE};
		must(name, ioctl(uffd, UFFDIO_WAKE, &a));
	} else if (!strcmp(name, "poison")) {
		struct uffdio_poison a = {.range = {(uintptr_t)to, n * PAGE}};
		must(name, ioctl(uffd, UFFDIO_POISON, &a));
	} else if (!strcmp(name, "register")) {
		struct uffdio_register a = {.range = {(uintptr_t)to, n * PAGE},
					    .mode = UFFDIO_REGISTER_MODE_MISSING |
						    UFFDIO_REGISTER_MODE_WP};
		must(name, ioctl(uffd, UFFDIO_REGISTER, &a));
	} else if (!strcmp(name, "unregister")) {
		struct uffdio_range a = {(uintptr_t)to, n * PAGE};
		must(name, ioctl(uffd, UFFDIO_UNREGISTER, &a));
	} else if (!strcmp(name, "scan")) {
		struct page_region found;
		struct pm_scan_arg a = {.size = sizeof(a),
					.start = (uintptr_t)from,
					.end = (uintptr_t)from + n * PAGE,
					.vec = (uintptr_t)&found,
					.vec_len = 1,
					.category_mask = PAGE_IS_PRESENT,
					.return_mask = PAGE_IS_PRESENT};
		if (ioctl(pagemap, PAGEMAP_SCAN, &a) != 1 || found.end != a.end)
			die("PAGEMAP_SCAN does not find %zu pages", n);
	} else {
		must(name, madvise(from, n * PAGE, MADV_DONTNEED));
	}
}

static void *spin(void *stop)
{
	while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

/* Pages leave and come at every second page: a call cannot take two. */
static void time_calls(const char *name, size_t batch, char *to, char *from, size_t total)
{
	size_t step = batch == 1 ? 2 : batch;
	uint64_t start, took;

	madvise(to, total * PAGE, MADV_DONTNEED);
	if (strcmp(name, "unwp") != 0)
		memset(from, 1, total * PAGE);
	start = now_ns();
	for (size_t i = 0; i + batch <= total; i += step)
		call(name, to + i * PAGE, from + i * PAGE, batch);
	took = now_ns() - start;
	printf("row %s-%zu %.1f\n", name, batch,
	       (double)took / ((double)total / (double)step) / (double)batch);
}

/* One call for batch pages of which no two are neighbours. */
static void time_drop_vector(char *from, size_t total, size_t batch)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	static struct iovec v[512];
	uint64_t took = 0;
	size_t done = 0;

	memset(from, 1, total * PAGE);
	if (pidfd < 0)
		die("pidfd_open: %s", strerror(errno));
	for (size_t at = 0; at + 2 * batch <= total; at += 2 * batch) {
		uint64_t start;

		for (size_t i = 0; i < batch; i++)
			v[i] = (struct iovec){from + (at + 2 * i) * PAGE, PAGE};
		start = now_ns();
		must("process_madvise",
		     syscall(SYS_process_madvise, pidfd, v, batch, MADV_DONTNEED, 0));
		took += now_ns() - start;
		done += batch;
	}
	printf("row drop-scattered-%zu %.1f\n", batch, (double)took / (double)done);
	close(pidfd);
}

static void ioctls(const char *cpus)
{
	static const char *const names[] = {"copy",   "zeropage", "move",	"wp",
					    "unwp",   "drop",	  "continue",	"wake",
					    "poison", "register", "unregister", "scan"};
	static const size_t batches[] = {1, 16, 64, 512};
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_MOVE | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
					     UFFD_FEATURE_POISON | UFFD_FEATURE_MINOR_SHMEM};
	const size_t total = 8192;
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	pthread_t thread;
	int stop = 0;
	char *to, *from, *file, *bare;
	int cpu[2];

	uffd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC)
			   : (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd: %s", strerror(errno));
	choose_cpus(cpu);
	bind_thread(0, cpu[1]);
	if (!strcmp(cpus, "two") && pthread_create(&thread, NULL, spin, &stop))
		die("cannot start a thread");
	bind_thread(0, cpu[0]);
	to = registered(total * PAGE);
	from = registered(total * PAGE);
	file = registered_file(total * PAGE);
	bare = mmap(NULL, total * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (bare == MAP_FAILED || pagemap < 0)
		die("%s", strerror(errno));
	/* nobody answers here: what is touched is brought in first */
	for (unsigned b = 0; b < 4; b++)
		for (unsigned k = 0; k < sizeof(names) / sizeof(*names); k++) {
			char *at = !strcmp(names[k], "continue")  ? file
				   : strstr(names[k], "register") ? bare
								  : to;
			struct uffdio_zeropage a = {.range = {(uintptr_t)from, total * PAGE}};

			madvise(from, total * PAGE, MADV_DONTNEED);
			must("zeropage", ioctl(uffd, UFFDIO_ZEROPAGE, &a));
			if (!strcmp(names[k], "unwp")) {
				memset(from, 1, total * PAGE);
				call("wp", to, from, total);
			}
			time_calls(names[k], batches[b], at, from, total);
		}
	for (unsigned b = 0; b < 4; b++) {
		struct uffdio_zeropage a = {.range = {(uintptr_t)from, total * PAGE}};

		madvise(from, total * PAGE, MADV_DONTNEED);
		must("zeropage", ioctl(uffd, UFFDIO_ZEROPAGE, &a));
		time_drop_vector(from, total, batches[b]);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	if (!strcmp(cpus, "two"))
		pthread_join(thread, NULL);
}

/* ---- runtimes and processes ---- */

static void open_close(const char *dir)
{
	uint64_t start = now_ns();
	char *p;

	open_runtime(dir, FL_COMPRESS_NONE);
	p = map(2 * LIMIT, MAP_NORESERVE);
	*p = 1;
	row("open", now_ns() - start);
	start = now_ns();
	if (fl_close(fl))
		die("fl_close failed");
	row("close", now_ns() - start);
}

static void forks(size_t mib)
{
	enum { TIMES = 30 };
	uint64_t took[TIMES];
	char *p = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("cannot map memory: %s", strerror(errno));
	distinct(p, mib * MIB / PAGE);
	for (int i = 0; i < TIMES; i++) {
		uint64_t start = now_ns();
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(p[(size_t)i * PAGE + 4000] != 0);
		took[i] = now_ns() - start;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			die("a child did not find what its parent had");
	}
	row("fork", median(took, TIMES));
}

/* What memory calls cost that change nothing, or a page: under `faultline run` they are hooked. */
static void hooks(size_t mib)
{
	enum { TIMES = 4096 };
	char *p = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start;

	if (p == MAP_FAILED || q == MAP_FAILED)
		die("cannot map memory: %s", strerror(errno));
	distinct(p, mib * MIB / PAGE);
	start = now_ns();
	for (unsigned i = 0; i < TIMES; i++)
		must("madvise", madvise(q, 0, MADV_NORMAL));
	row("hook-none", (now_ns() - start) / TIMES);
	start = now_ns();
	for (unsigned i = 0; i < TIMES; i++)
		must("madvise", madvise(q, PAGE, MADV_NORMAL));
	row("hook-other", (now_ns() - start) / TIMES);
	start = now_ns();
	for (unsigned i = 0; i < TIMES; i++)
		must("mprotect", mprotect(p, PAGE, PROT_READ | PROT_WRITE));
	row("hook-mprotect", (now_ns() - start) / TIMES);
	start = now_ns();
	for (unsigned i = 0; i < TIMES; i++) {
		void *r = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must("munmap", r == MAP_FAILED ? -1 : munmap(r, PAGE));
	}
	row("hook-mmap", (now_ns() - start) / (2UL * TIMES));
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!strcmp(what, "faults") && argc == 4)
		faults(argv[2], argv[3]);
	else if (!strcmp(what, "ioctls"))
		ioctls(argv[2]);
	else if (!strcmp(what, "open"))
		open_close(argv[2]);
	else if (!strcmp(what, "fork"))
		forks(strtoull(argv[2], NULL, 10));
	else if (!strcmp(what, "hooks"))
		hooks(strtoull(argv[2], NULL, 10));
	else {
		fputs("usage: bench-micro faults PLACE DIR | ioctls one|two | open DIR | fork "
		      "MIB | hooks MIB\n",
		      stderr);
		return 2;
	}
	return 0;
}
