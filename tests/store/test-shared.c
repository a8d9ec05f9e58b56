/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared.c - processes that map one file of a store: they see one copy, and
 * so does who reads and writes the file through the mount; killed, without their
 * server, at a limit of a part of the file.
 *
 * Each process is a child that opens a runtime of its own and does what it is
 * told, one order at a time; a page's words follow from its number and version.
 *
 * usage: test-shared [TEST]
 */
#include "mounted.h"

#include "api.h"
#include "store-wire.h"
#include "uffd.h"
#include "mmap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define PATIENCE 60 /* seconds */
#define LIMIT (8UL << 20)
#define PAGES 3000UL /* of the usual file: more than the usual cache holds */
#define CACHE "cache=4M"

/* --- content --- */

/* Not inlined: nothing of it is to live across a sigsetjmp(). */
static __attribute__((noinline)) uint64_t word(uint64_t page, uint64_t version, size_t i)
{
	uint64_t x = page << 32 | version;

	return i == 0 ? x : (x * 512 + i) * 0x9e3779b97f4a7c15U;
}

static void fill(uint64_t *p, uint64_t page, uint64_t version)
{
	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(page, version, i);
}

/* The word that is another than it should be; WORDS: none. */
static size_t differs(const uint64_t *p, uint64_t page, uint64_t version)
{
	for (size_t i = 0; i < WORDS; i++)
		if (__atomic_load_n(&p[i], __ATOMIC_RELAXED) != word(page, version, i))
			return i;
	return WORDS;
}

/* --- the processes --- */

enum what {
	MAP,   /* the file, `n` pages from `page` on; `version` 0: for reading */
	UNMAP, /* `n` pages from `page` on */
	STORE, /* version `version` into `n` pages from `page` on, each `step`th */
	CHECK, /* that these have it */
	COUNT, /* add 1 to word 1 of page `page`, `n` times, with one locked instruction each */
	WORD,  /* word `step` of page `page` */
	PUT,   /* `version` into that */
	SYNC,  /* `n` pages from `page` on */
	TOUCH, /* SIGBUS? */
	CUT,   /* fl_ftruncate to `n` bytes */
	MOVE,  /* mremap(2) all of it elsewhere, `n` pages */
	COVER, /* map anonymous memory over `n` pages from `page` on, and use it */
	FORK,  /* what child_of() gets then */
	PSS,   /* KiB of the cache that are mapped, shared ones by their part; `n` 1: all of them */
	CLOSE, /* fl_close */
	RUN,   /* torture(): number `page`, seed `version` */
};

struct order {
	enum what what;
	uint64_t page, n, step, version;
};

struct process {
	pid_t pid;
	int sock;
	int spare; /* its child's, if it gets one */
	int pidfd;
};

static pid_t started[64]; /* that have not ended */

static sigjmp_buf escape;
static struct fl *fl;
static char *map;
static uint64_t mapped_from, mapped_pages;
static int fd = -1;
static int own_sock, spare_sock;

static void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

static int64_t touch(volatile char *p)
{
	volatile int64_t raised = 1;

	if (sigsetjmp(escape, 1) == 0) {
		(void)*p;
		raised = 0;
	}
	return raised;
}

static uint64_t *at(uint64_t page)
{
	return (uint64_t *)(void *)(map + (page - mapped_from) * PG);
}

static int64_t do_map(const struct order *o)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/mnt/files/data", base);
	if (fd < 0)
		fd = open(path, (o->version != 0 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	map = fl_mmap(fl, NULL, o->n * PG, PROT_READ | (o->version != 0 ? PROT_WRITE : 0),
		      MAP_SHARED, fd, (off_t)(o->page * PG));
	mapped_from = o->page;
	mapped_pages = o->n;
	return map == FL_FAILED ? -errno : 0;
}

static int64_t do_cover(const struct order *o)
{
	char *p = fl_mmap(fl, at(o->page), o->n * PG, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p != (char *)at(o->page))
		return -errno;
	for (size_t i = 0; i < o->n * PG; i++)
		if (p[i] != 0)
			return 1;
	memset(p, 0x5a, o->n * PG);
	return 0;
}

/* With all that is mapped: the call as the hooks of 'faultline run' make it. */
static int64_t do_fork(void)
{
	const long none[6] = {0};
	sigset_t all, old;
	long r;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	r = mm_fork(fl->mm, SYS_fork, none);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (r == 0) {
		own_sock = spare_sock;
		return getpid();
	}
	return r;
}

static int64_t do_pss(const char *what)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool ours = false;
	int64_t sum = 0;
	char line[512];

	if (f == NULL)
		return -errno;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (line[0] < 'A' || line[0] > 'Z')
			ours = strstr(line, "memfd:faultline-cache ") != NULL;
		else if (ours && strncmp(line, what, strlen(what)) == 0)
			sum += strtol(line + strlen(what), NULL, 10);
	}
	fclose(f);
	return sum;
}

/* --- at random --- */

#define OWNERS 4U
#define STEADY 1200U /* pages that stay; each has an owner, who alone stores there */
#define TAIL 64U     /* and behind them those that are cut off and come again */

/* What everybody knows of a page: in memory of the kernel's. */
struct shadow {
	uint32_t stop;
	uint32_t quiet; /* the server is about to be killed: what follows fails */
	struct {
		uint32_t begun, done; /* versions */
		uint32_t synced;
	} page[STEADY];
};

static struct shadow *shadow;
static uint64_t rng;
static int host_fd;

static uint64_t next(void)
{
	uint64_t x = rng += 0x9e3779b97f4a7c15U;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
	x = (x ^ x >> 27) * 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

static uint32_t get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static void set(uint32_t *v, uint32_t to)
{
	__atomic_store_n(v, to, __ATOMIC_SEQ_CST);
}

static _Noreturn void wrong(const char *what, uint64_t page, uint64_t low, uint64_t high,
			    uint64_t have)
{
	if (shadow->quiet)
		_exit(9);
	fprintf(stderr, "%s: page %lu: version %lu, not %lu to %lu\n", what, (unsigned long)page,
		(unsigned long)have, (unsigned long)low, (unsigned long)high);
	_exit(9);
}

/* Every word is of one version of these. */
static void compare(const char *what, const uint64_t *p, uint64_t page, uint32_t low, uint32_t high)
{
	for (size_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&p[i], __ATOMIC_RELAXED);
		uint32_t v = low;

		while (v <= high && have != word(page, v, i))
			v++;
		if (v > high)
			wrong(what, page, low, high, i == 0 ? have & UINT32_MAX : have);
	}
}

static uint64_t own(uint64_t id)
{
	uint64_t n = STEADY / OWNERS;

	return (next() % 3 == 0 ? next() % n : next() % (n / 6)) * OWNERS + id;
}

/* Who had it before may have been killed in the middle. */
static void settle(uint64_t page)
{
	uint32_t done = get(&shadow->page[page].done), begun = get(&shadow->page[page].begun);

	if (done == begun)
		return;
	compare("of one that was killed", at(page), page, done, begun);
	fill(at(page), page, begun);
	set(&shadow->page[page].done, begun);
}

static void store_own(uint64_t page)
{
	uint32_t v = get(&shadow->page[page].done) + 1;
	static uint64_t buf[WORDS];

	set(&shadow->page[page].begun, v);
	if (next() % 4 != 0) {
		fill(at(page), page, v);
	} else {
		fill(buf, page, v);
		if (pwrite(fd, buf, PG, (off_t)(page * PG)) != (ssize_t)PG)
			wrong("pwrite", page, v, v, (uint64_t)errno);
	}
	set(&shadow->page[page].done, v);
}

static void load_any(void)
{
	uint64_t page = next() % STEADY;
	uint32_t low = get(&shadow->page[page].done), have;
	static uint64_t buf[WORDS];

	if (next() % 3 != 0) {
		have = (uint32_t)__atomic_load_n(at(page), __ATOMIC_SEQ_CST);
	} else {
		if (pread(fd, buf, PG, (off_t)(page * PG)) != (ssize_t)PG)
			wrong("pread", page, low, low, (uint64_t)errno);
		have = (uint32_t)buf[0];
	}
	if (have < low || have > get(&shadow->page[page].begun))
		wrong("another's", page, low, get(&shadow->page[page].begun), have);
}

static void sync_own(uint64_t id)
{
	uint64_t page = own(id), n = 1 + next() % 64;
	uint32_t done[80];
	static uint64_t buf[WORDS];
	unsigned k = 0;
	int r;

	if (n > STEADY - page)
		n = STEADY - page;
	for (uint64_t i = page; i < page + n; i += OWNERS)
		done[k++] = get(&shadow->page[i].done);
	r = fl_msync(fl, at(page), n * PG, MS_SYNC);
	if (r != 0)
		wrong("msync", page, 0, 0, (uint64_t)-r);
	k = 0;
	for (uint64_t i = page; i < page + n; i += OWNERS, k++) {
		/* nobody else stores there: on the disk it is what it was */
		if (pread(host_fd, buf, PG, (off_t)(i * PG)) != (ssize_t)PG)
			wrong("pread of the host's", i, 0, 0, (uint64_t)errno);
		compare("synced", buf, i, done[k], done[k]);
		set(&shadow->page[i].synced, done[k]);
	}
}

/* Each word is what anybody stored there, or 0. */
static void tail(uint64_t id)
{
	uint64_t page = STEADY + next() % TAIL, i = next() % WORDS, want = word(page, 77, i), have;

	if (id == 0 && next() % 4 == 0) {
		off_t size = (off_t)(STEADY * PG + next() % (TAIL * PG));

		if ((next() % 2 != 0 ? fl_ftruncate(fl, fd, size) : ftruncate(fd, size)) != 0)
			wrong("truncate", page, 0, 0, (uint64_t)errno);
		return;
	}
	if (sigsetjmp(escape, 1) != 0)
		return;
	if (next() % 2 != 0) {
		__atomic_store_n(at(page) + i, want, __ATOMIC_RELAXED);
	} else {
		have = __atomic_load_n(at(page) + i, __ATOMIC_RELAXED);
		if (have != 0 && have != want)
			wrong("tail", page, 0, want, have);
	}
}

static void map_anew(void)
{
	uint64_t page = next() % STEADY, n = 1 + next() % 200;
	char *p;

	if (next() % 3 == 0) {
		map = fl_mremap(fl, map, mapped_pages * PG, mapped_pages * PG, MREMAP_MAYMOVE);
	} else {
		if (n > STEADY - page)
			n = STEADY - page;
		if (next() % 2 != 0)
			do_cover(&(struct order){COVER, page, n, 0, 0});
		p = fl_mmap(fl, at(page), n * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			    fd, (off_t)(page * PG));
		if (p != (char *)at(page))
			wrong("mmap", page, 0, 0, (uint64_t)errno);
	}
	if (map == FL_FAILED)
		wrong("mremap", 0, 0, 0, (uint64_t)errno);
}

static void look_around(uint64_t id, unsigned n)
{
	while (n-- != 0) {
		uint64_t page = own(id);
		uint32_t v = get(&shadow->page[page].done);

		compare("own", at(page), page, v, v);
		load_any();
	}
}

static void fork_one(uint64_t id)
{
	int64_t pid = do_fork();
	int status;

	if (pid < 0)
		wrong("fork", 0, 0, 0, (uint64_t)-pid);
	if (own_sock == spare_sock) {
		look_around(id, 20);
		_exit(0);
	}
	if (waitpid((pid_t)pid, &status, 0) != (pid_t)pid || status != 0)
		wrong("a child", 0, 0, 0, (uint64_t)status);
}

static int64_t torture(uint64_t id, uint64_t seed)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};

	rng = seed;
	host_fd = open(in_base("store/files/data"), O_RDONLY | O_CLOEXEC);
	for (uint64_t page = id; page < STEADY; page += OWNERS)
		settle(page);
	while (!get(&shadow->stop)) {
		uint64_t what = next() % 100;

		/* but for the tail nothing may raise it */
		sa.sa_handler = what >= 70 && what < 90 ? on_bus : SIG_DFL;
		sigaction(SIGBUS, &sa, NULL);
		if (what < 40)
			store_own(own(id));
		else if (what < 70)
			look_around(id, 4);
		else if (what < 90)
			tail(id);
		else if (what < 96)
			map_anew();
		else if (what < 98)
			sync_own(id);
		else if (next() % 8 == 0)
			fork_one(id);
	}
	close(host_fd);
	return 0;
}

static int64_t obey(const struct order *o)
{
	uint64_t step = o->step != 0 ? o->step : 1;

	switch (o->what) {
	case MAP:
		return do_map(o);
	case UNMAP:
		return fl_munmap(fl, at(o->page), o->n * PG);
	case STORE:
		if (sigsetjmp(escape, 1) != 0)
			return -EFAULT;
		for (uint64_t page = o->page; page < o->page + o->n; page += step)
			fill(at(page), page, o->version);
		return 0;
	case CHECK:
		for (uint64_t page = o->page; page < o->page + o->n; page += step) {
			size_t i = differs(at(page), page, o->version);

			if (i != WORDS) {
				fprintf(stderr, "page %lu word %zu: %016lx, not %016lx\n",
					(unsigned long)page, i, (unsigned long)at(page)[i],
					(unsigned long)word(page, o->version, i));
				return (int64_t)page + 1;
			}
		}
		return 0;
	case COUNT:
		for (uint64_t i = 0; i < o->n; i++)
			__atomic_fetch_add(at(o->page) + 1, 1, __ATOMIC_RELAXED);
		return 0;
	case WORD:
		return (int64_t)__atomic_load_n(at(o->page) + o->step, __ATOMIC_RELAXED);
	case PUT:
		__atomic_store_n(at(o->page) + o->step, o->version, __ATOMIC_RELAXED);
		return 0;
	case SYNC:
		return fl_msync(fl, at(o->page), o->n * PG, MS_SYNC);
	case TOUCH:
		return touch((char *)at(o->page));
	case CUT:
		return fl_ftruncate(fl, fd, (off_t)o->n);
	case MOVE:
		map = fl_mremap(fl, map, mapped_pages * PG, o->n * PG, MREMAP_MAYMOVE);
		mapped_pages = o->n;
		return map == FL_FAILED ? -errno : 0;
	case COVER:
		return do_cover(o);
	case FORK:
		return do_fork();
	case PSS:
		return do_pss(o->n != 0 ? "Rss:" : "Pss:");
	case CLOSE:
		return fl_close(fl);
	case RUN:
		return torture(o->page, o->version);
	}
	return -EINVAL;
}

/* What is to be said is known. */
static void say_nothing(void *arg, enum fl_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static _Noreturn void live(void)
{
	struct sigaction sa = {.sa_handler = on_bus};
	char mnt[PATH_MAX];
	struct fl_options options = {
		.size = sizeof(options), .limit = LIMIT, .store = mnt, .log = say_nothing};
	struct order o;

	snprintf(mnt, sizeof(mnt), "%s/mnt", base);
	sigaction(SIGBUS, &sa, NULL);
	if (fl_open(&fl, &options) != 0)
		_exit(1);
	while (read(own_sock, &o, sizeof(o)) == (ssize_t)sizeof(o)) {
		int64_t r = obey(&o);

		if (write(own_sock, &r, sizeof(r)) != (ssize_t)sizeof(r) || o.what == CLOSE)
			break;
	}
	_exit(0);
}

static int64_t order(const struct process *p, struct order o);

#define DO(p, ...) order(p, (struct order){__VA_ARGS__})
#define OK(p, ...) assert_int_equal(DO(p, __VA_ARGS__), 0)

static void tell(const struct process *p, struct order o)
{
	assert_int_equal(write(p->sock, &o, sizeof(o)), (ssize_t)sizeof(o));
}

static int64_t hear(const struct process *p)
{
	struct pollfd f = {.fd = p->sock, .events = POLLIN};
	int64_t r;

	if (poll(&f, 1, PATIENCE * 1000) != 1)
		fail_msg("process %d does not answer", (int)p->pid);
	if (read(p->sock, &r, sizeof(r)) != (ssize_t)sizeof(r))
		fail_msg("process %d has ended", (int)p->pid);
	return r;
}

static int64_t order(const struct process *p, struct order o)
{
	tell(p, o);
	return hear(p);
}

static void remember(struct process *p)
{
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	assert_true(p->pidfd >= 0);
	for (unsigned i = 0; i < 64; i++) {
		if (started[i] == 0) {
			started[i] = p->pid;
			break;
		}
	}
}

static void start(struct process *p)
{
	int pair[2], more[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, more), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		close(pair[0]);
		close(more[0]);
		own_sock = pair[1];
		spare_sock = more[1];
		live();
	}
	close(pair[1]);
	close(more[1]);
	p->sock = pair[0];
	p->spare = more[0];
	remember(p);
}

/* Have it fork: its child. */
static struct process child_of(struct process *p)
{
	struct process c = {.sock = p->spare, .spare = -1};
	int64_t pid;

	p->spare = -1;
	pid = DO(p, FORK, 0, 0, 0, 0);
	assert_true(pid > 0);
	c.pid = (pid_t)pid;
	assert_int_equal(hear(&c), pid);
	remember(&c);
	return c;
}

/* Wait until it has ended, whoever is its parent; its status, where that is us. */
static int end_of(struct process *p)
{
	struct pollfd f = {.fd = p->pidfd, .events = POLLIN};
	int status = 0;

	assert_int_equal(poll(&f, 1, PATIENCE * 1000), 1);
	if (waitpid(p->pid, &status, WNOHANG) != p->pid)
		status = 0;
	close(p->pidfd);
	close(p->sock);
	if (p->spare >= 0)
		close(p->spare);
	for (unsigned i = 0; i < 64; i++)
		if (started[i] == p->pid)
			started[i] = 0;
	return status;
}

static void finish(struct process *p)
{
	OK(p, CLOSE, 0, 0, 0, 0);
	assert_int_equal(end_of(p), 0);
}

static void kill_it(struct process *p)
{
	kill(p->pid, SIGKILL);
	end_of(p);
}

/* --- the store --- */

static void serve(const char *options)
{
	char line[512];

	snprintf(line, sizeof(line), "mount " MOUNT_OPTIONS " -o %s \"$BASE/store\" \"$BASE/mnt\"",
		 options);
	if (run_faultline(line) != 0)
		fail_msg("faultline %s", line);
}

static int begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0 || chmod(base, 0755) != 0)
		return -1;
	umask(022);
	return run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mkswap --size 16M \"$BASE/store/swap/disk0\"") != 0;
}

static int end(void **state)
{
	/* of a test that failed */
	for (unsigned i = 0; i < 64; i++) {
		if (started[i] != 0) {
			kill(started[i], SIGKILL);
			waitpid(started[i], NULL, 0);
		}
		started[i] = 0;
	}
	return mounted_end(state);
}

/* The file as it lies on the host, version 1 of `pages` pages. */
static void make_file(uint64_t pages)
{
	int f = open(in_base("store/files/data"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	static uint64_t page[WORDS];

	assert_true(f >= 0);
	for (uint64_t i = 0; i < pages; i++) {
		fill(page, i, 1);
		assert_int_equal(write(f, page, PG), (ssize_t)PG);
	}
	close(f);
}

static void page_of(const char *file, uint64_t page, uint64_t *buf)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);

	assert_true(f >= 0);
	assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
	close(f);
}

static void check_file(const char *file, uint64_t from, uint64_t n, uint64_t step, uint64_t version)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);
	static uint64_t buf[WORDS];

	assert_true(f >= 0);
	for (uint64_t page = from; page < from + n; page += step) {
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		if (differs(buf, page, version) != WORDS)
			fail_msg("%s: page %lu is not of version %lu", file, (unsigned long)page,
				 (unsigned long)version);
	}
	close(f);
}

static void kill_server(void)
{
	char text[4096] = "";
	int f = open(in_base("mnt/stats"), O_RDONLY | O_CLOEXEC), pidfd[2];
	pid_t pid[2];
	const char *where;

	assert_true(read(f, text, sizeof(text) - 1) > 0);
	close(f);
	where = strstr(text, "\npid: ");
	assert_non_null(where);
	pid[1] = (pid_t)strtol(where + 6, NULL, 10);
	f = open(in_base("store/lock"), O_RDONLY | O_CLOEXEC);
	assert_true(read(f, text, sizeof(text) - 1) > 0);
	close(f);
	pid[0] = (pid_t)strtol(text, NULL, 10);
	/* first the one that would clean up after the other */
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd p = {.events = POLLIN};

		p.fd = pidfd[i] = (int)syscall(SYS_pidfd_open, pid[i], 0);
		kill(pid[i], SIGKILL);
		assert_int_equal(poll(&p, 1, PATIENCE * 1000), 1);
		close(pidfd[i]);
	}
}

/* --- tests --- */

/* What one stores the other loads, in every page, at a cache of a third of the file. */
static void two_see_one_copy(void **state)
{
	struct process p[2];

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, PAGES, 0, 1);
	}
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 0, PAGES, 1, 1);
	/* at once, each its own half of the pages, alternating */
	for (unsigned i = 0; i < 2; i++)
		tell(&p[i], (struct order){STORE, i, PAGES - i, 2, 10 + i});
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 2; k++)
			OK(&p[i], CHECK, k, PAGES - k, 2, 10 + k);
	/* the same words at once: no addition is lost */
	for (unsigned i = 0; i < 2; i++)
		tell(&p[i], (struct order){COUNT, 7, 100000, 0, 0});
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[i]), 0);
	assert_int_equal(DO(&p[0], WORD, 7, 0, 1, 0), (int64_t)(word(7, 11, 1) + 200000));
	OK(&p[1], STORE, 7, 1, 1, 11);
	OK(&p[0], SYNC, 0, PAGES, 0, 0);
	for (unsigned k = 0; k < 2; k++)
		check_file("store/files/data", k, PAGES - k, 2, 10 + k);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

static void a_killed_one_loses_nothing(void **state)
{
	struct process p[2];

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, PAGES, 0, 1);
	}
	OK(&p[0], STORE, 0, 500, 1, 7);
	kill_it(&p[0]);
	OK(&p[1], CHECK, 0, 500, 1, 7);
	OK(&p[1], CHECK, 500, PAGES - 500, 1, 1);
	OK(&p[1], STORE, 100, 50, 1, 8);
	kill_it(&p[1]);
	/* nobody maps it any more */
	check_file("mnt/files/data", 0, 100, 1, 7);
	check_file("mnt/files/data", 100, 50, 1, 8);
	check_file("mnt/files/data", 150, 350, 1, 7);
	check_file("mnt/files/data", 500, PAGES - 500, 1, 1);
	assert_int_equal(run_faultline("umount \"$BASE/mnt\""), 0);
	check_file("store/files/data", 0, 100, 1, 7);
	check_file("store/files/data", 100, 50, 1, 8);
	check_file("store/files/data", 150, 350, 1, 7);
	serve(CACHE);
}

/* One page's word through the mount: what was stored is read, what was written is loaded. */
static void both_ways(void **state)
{
	static uint64_t buf[WORDS];
	struct process p;
	int f;

	(void)state;
	serve(CACHE);
	make_file(300);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	assert_true(f >= 0);
	/* the kernel has it cached from before */
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(pread(f, buf, PG, (off_t)(i * PG)), (ssize_t)PG);
	start(&p);
	OK(&p, MAP, 0, 300, 0, 1);
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t page = i * 7 % 300, v = 1000 + i;

		OK(&p, PUT, page, 0, 5, v);
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		assert_true(buf[5] == v);
		/* again, to a page that is dirty */
		OK(&p, PUT, page, 0, 6, v);
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		assert_true(buf[6] == v && buf[5] == v);
		v += 5000;
		assert_int_equal(pwrite(f, &v, 8, (off_t)(page * PG + 9 * 8)), 8);
		assert_true((uint64_t)DO(&p, WORD, page, 0, 9, 0) == v);
		assert_true((uint64_t)DO(&p, WORD, page, 0, 6, 0) == 1000 + i);
		if (i % 50 == 0)
			OK(&p, SYNC, 0, 300, 0, 0);
		if (i % 50 == 25)
			assert_int_equal(fsync(f), 0);
	}
	/* what lies in a hole of the host's is found */
	assert_int_equal(ftruncate(f, 600 * PG), 0);
	finish(&p);
	start(&p);
	OK(&p, MAP, 0, 600, 0, 1);
	OK(&p, PUT, 500, 0, 0, 77);
	assert_int_equal(lseek(f, 400 * PG, SEEK_DATA), 500 * PG);
	/* another one opens it now */
	page_of("mnt/files/data", 7, buf);
	assert_true((uint64_t)DO(&p, WORD, 7, 0, 5, 0) == buf[5]);
	close(f);
	finish(&p);
}

/* The end of the file moves, by others and by itself. */
static void cut_and_grown(void **state)
{
	static uint64_t buf[WORDS];
	struct process p[2];
	struct stat st;

	(void)state;
	serve(CACHE);
	make_file(400);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, 800, 0, 1);
	}
	OK(&p[0], TOUCH, 399, 0, 0, 0);
	assert_int_equal(DO(&p[0], TOUCH, 400, 0, 0, 0), 1);
	OK(&p[0], STORE, 0, 400, 1, 5);
	assert_int_equal(truncate(in_base("mnt/files/data"), 200 * PG + 100), 0);
	for (unsigned i = 0; i < 2; i++) {
		OK(&p[i], CHECK, 0, 200, 1, 5);
		OK(&p[i], TOUCH, 200, 0, 0, 0);
		assert_int_equal(DO(&p[i], TOUCH, 201, 0, 0, 0), 1);
		assert_int_equal(DO(&p[i], TOUCH, 399, 0, 0, 0), 1);
	}
	/* behind the end there are zeros when it grows again */
	OK(&p[1], CUT, 0, 300 * PG, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(DO(&p[i], WORD, 200, 0, 20, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 250, 0, 0, 0), 0);
	}
	OK(&p[0], STORE, 250, 10, 1, 6);
	OK(&p[1], CHECK, 250, 10, 1, 6);
	assert_int_equal(stat(in_base("mnt/files/data"), &st), 0);
	assert_int_equal(st.st_size, 300 * PG);
	/* a hole */
	{
		int f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);

		assert_int_equal(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   252 * PG + 8, 2 * PG),
				 0);
		close(f);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_true((uint64_t)DO(&p[i], WORD, 252, 0, 0, 0) == word(252, 6, 0));
		assert_int_equal(DO(&p[i], WORD, 252, 0, 1, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 253, 0, 3, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 254, 0, 0, 0), 0);
		assert_true((uint64_t)DO(&p[i], WORD, 254, 0, 1, 0) == word(254, 6, 1));
	}
	/* appended to, and renamed, and gone */
	{
		int f = open(in_base("mnt/files/data"), O_WRONLY | O_APPEND | O_CLOEXEC);

		fill(buf, 300, 9);
		assert_int_equal(write(f, buf, PG), (ssize_t)PG);
		close(f);
	}
	OK(&p[1], CHECK, 300, 1, 1, 9);
	assert_int_equal(rename(in_base("mnt/files/data"), in_base("mnt/files/other")), 0);
	OK(&p[0], STORE, 300, 1, 1, 10);
	page_of("mnt/files/other", 300, buf);
	assert_int_equal(differs(buf, 300, 10), WORDS);
	assert_int_equal(unlink(in_base("mnt/files/other")), 0);
	OK(&p[1], CHECK, 300, 1, 1, 10);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* Without its server: what is in memory can be used, the rest is SIGBUS; then with another server. */
static void a_server_that_is_killed(void **state)
{
	struct process p[2];

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, PAGES, 0, 1);
	}
	OK(&p[0], STORE, 0, 100, 1, 3);
	OK(&p[0], SYNC, 0, 100, 0, 0);
	OK(&p[0], STORE, 50, 10, 1, 4);
	OK(&p[1], CHECK, 40, 10, 1, 3);
	kill_server();
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 50, 10, 1, 4);
	OK(&p[1], STORE, 40, 10, 1, 5);
	OK(&p[0], CHECK, 40, 10, 1, 5);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(DO(&p[i], TOUCH, PAGES - 1 - i, 0, 0, 0), 1);
	assert_true(DO(&p[0], SYNC, 0, 10, 0, 0) != 0);
	check_file("store/files/data", 0, 40, 1, 3);
	OK(&p[0], UNMAP, 0, PAGES, 0, 0);
	serve(CACHE);
	finish(&p[1]);
	finish(&p[0]);
	start(&p[0]);
	OK(&p[0], MAP, 0, PAGES, 0, 1);
	OK(&p[0], CHECK, 0, 40, 1, 3);
	OK(&p[0], CHECK, 100, PAGES - 100, 1, 1);
	finish(&p[0]);
}

/* A child has the mappings of its parent, and the pages that are not there. */
static void forked(void **state)
{
	struct process p, c, q;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	start(&q);
	OK(&q, MAP, 0, PAGES, 0, 1);
	start(&p);
	OK(&p, MAP, 0, PAGES, 0, 1);
	OK(&p, STORE, 100, 200, 1, 2);
	c = child_of(&p);
	OK(&c, CHECK, 100, 200, 1, 2);
	OK(&c, CHECK, 300, PAGES - 300, 1, 1);
	tell(&p, (struct order){STORE, 0, PAGES, 2, 3});
	tell(&c, (struct order){STORE, 1, PAGES - 1, 2, 4});
	assert_int_equal(hear(&p), 0);
	assert_int_equal(hear(&c), 0);
	OK(&c, CHECK, 0, PAGES, 2, 3);
	OK(&p, CHECK, 1, PAGES - 1, 2, 4);
	kill_it(&p);
	OK(&q, CHECK, 0, PAGES, 2, 3);
	OK(&c, STORE, 0, PAGES, 1, 5);
	OK(&q, CHECK, 0, PAGES, 1, 5);
	OK(&c, MOVE, 0, PAGES - 100, 0, 0);
	OK(&c, COVER, 500, 100, 0, 0);
	OK(&c, STORE, 600, 100, 1, 6);
	OK(&q, CHECK, 500, 100, 1, 5);
	OK(&q, CHECK, 600, 100, 1, 6);
	OK(&c, SYNC, 600, 100, 0, 0);
	check_file("store/files/data", 600, 100, 1, 6);
	kill_it(&c);
	finish(&q);
}

/* Frames are there once, whoever maps them. */
static void one_copy_in_memory(void **state)
{
	struct process p[4];
	int64_t pss = 0;

	(void)state;
	serve("cache=32M");
	make_file(2000);
	for (unsigned i = 0; i < 4; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, 2000, 0, 1);
	}
	for (unsigned i = 0; i < 4; i++)
		OK(&p[i], CHECK, 0, 2000, 1, 1);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(DO(&p[i], PSS, 0, 1, 0, 0), 2000 * 4);
		pss += DO(&p[i], PSS, 0, 0, 0, 0);
	}
	/* the server has the same frames mapped, for its own part of them */
	assert_true(pss <= 2000 * 4);
	for (unsigned i = 0; i < 4; i++)
		finish(&p[i]);
}

/* Parts are unmapped, mapped over and moved while another process goes on. */
static void moved_about(void **state)
{
	struct process p[2];

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++)
		start(&p[i]);
	OK(&p[0], MAP, 0, PAGES, 0, 1);
	OK(&p[1], MAP, 1000, 500, 0, 0);
	OK(&p[0], STORE, 900, 700, 1, 2);
	OK(&p[1], CHECK, 1000, 500, 1, 2);
	OK(&p[0], MOVE, 0, PAGES, 0, 0);
	OK(&p[0], CHECK, 0, 900, 1, 1);
	OK(&p[0], COVER, 1100, 100, 0, 0);
	OK(&p[0], UNMAP, 1300, 100, 0, 0);
	OK(&p[0], STORE, 1000, 100, 1, 3);
	OK(&p[0], STORE, 1200, 100, 1, 3);
	OK(&p[0], STORE, 1400, 100, 1, 3);
	OK(&p[1], CHECK, 1000, 100, 1, 3);
	OK(&p[1], CHECK, 1100, 100, 1, 2);
	OK(&p[1], CHECK, 1200, 100, 1, 3);
	OK(&p[1], CHECK, 1300, 100, 1, 2);
	OK(&p[1], CHECK, 1400, 100, 1, 3);
	OK(&p[0], COVER, 1150, 100, 0, 0);
	OK(&p[1], CHECK, 1200, 100, 1, 3);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	check_file("store/files/data", 900, 100, 1, 2);
	check_file("store/files/data", 1100, 100, 1, 2);
	check_file("store/files/data", 1200, 100, 1, 3);
}

/* The disk is full for a while: everybody is told, once, and nothing is lost. */
static void a_full_disk(void **state)
{
	struct process p[2];
	char line[PATH_MAX];
	int f;

	(void)state;
	snprintf(line, sizeof(line), "mount -t tmpfs -o size=12M none '%s'",
		 in_base("store/files"));
	assert_int_equal(system(line), 0);
	serve("cache=4M");
	make_file(0);
	assert_int_equal(truncate(in_base("store/files/data"), 2000 * PG), 0);
	f = open(in_base("store/files/filler"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(fallocate(f, 0, 0, 11L << 20), 0);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, 2000, 0, 1);
	}
	OK(&p[0], STORE, 0, 700, 1, 2);
	assert_int_equal(DO(&p[0], SYNC, 0, 1000, 0, 0), -ENOSPC);
	OK(&p[1], CHECK, 0, 700, 1, 2);
	/* and when nothing can leave memory at all, who wants more gets SIGBUS */
	assert_int_equal(DO(&p[1], STORE, 700, 1200, 1, 2), -EFAULT);
	assert_int_equal(ftruncate(f, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		/* of what failed since it was told the last time */
		assert_int_equal(DO(&p[i], SYNC, 0, 2000, 0, 0), -ENOSPC);
		OK(&p[i], SYNC, 0, 2000, 0, 0);
	}
	check_file("store/files/data", 0, 700, 1, 2);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 0, 700, 1, 2);
	OK(&p[0], STORE, 0, 2000, 1, 3);
	OK(&p[1], CHECK, 0, 2000, 1, 3);
	close(f);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	assert_int_equal(run_faultline("umount \"$BASE/mnt\""), 0);
	assert_int_equal(umount2(in_base("store/files"), MNT_DETACH), 0);
	serve(CACHE);
}

static int end_full(void **state)
{
	umount2(in_base("store/files"), MNT_DETACH);
	return end(state);
}

/* --- clients that do not keep to what is agreed --- */

static int connect_raw(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	size_t n = (size_t)snprintf(to.sun_path, sizeof(to.sun_path), "%s/store/socket", base);

	assert_true(sock >= 0 && n < sizeof(to.sun_path));
	assert_int_equal(connect(sock, (struct sockaddr *)&to, sizeof(to)), 0);
	return sock;
}

static void send_raw(int sock, struct wire_msg m, int with)
{
	struct iovec iov = {&m, sizeof(m)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	m.version = WIRE_VERSION;
	wire_convert(&m);
	if (with >= 0) {
		memcpy(CMSG_DATA(&control.head), &with, sizeof(int));
		h.msg_control = &control;
		h.msg_controllen = sizeof(control);
	}
	assert_int_equal(sendmsg(sock, &h, MSG_NOSIGNAL), (ssize_t)sizeof(m));
}

/* The next message; type 0: the connection was closed. */
static struct wire_msg hear_raw(int sock, int fds[2])
{
	struct pollfd f = {.fd = sock, .events = POLLIN};
	struct wire_msg m = {.type = 0};
	struct iovec iov = {&m, sizeof(m)};
	char control[CMSG_SPACE(2 * sizeof(int))];
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};

	fds[0] = fds[1] = -1;
	assert_int_equal(poll(&f, 1, PATIENCE * 1000), 1);
	if (recvmsg(sock, &h, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(m))
		m.type = 0;
	else if (h.msg_controllen == CMSG_LEN(2 * sizeof(int)))
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), 2 * sizeof(int));
	wire_convert(&m);
	return m;
}

static const struct wire_msg hello_files = {.type = WIRE_HELLO, .flags = WIRE_FILES};

/* A file that is asked for: how that is answered. */
static int ask_file(int sock, int with, uint32_t flags)
{
	int fds[2];
	struct wire_msg m;

	send_raw(sock, (struct wire_msg){.type = WIRE_FILE, .flags = flags, .request = 9}, with);
	m = hear_raw(sock, fds);
	assert_int_equal(m.type, WIRE_ANSWER);
	assert_int_equal(m.request, 9);
	if (m.error == 0) {
		/* nobody makes what others map smaller */
		assert_int_equal(ftruncate(fds[0], 0), -1);
		assert_int_equal(ftruncate(fds[1], 0), -1);
		/* nor do words become others, nor pages without the right to that */
		assert_int_equal(fcntl(fds[1], F_GETFL) & O_ACCMODE, O_RDONLY);
		assert_int_equal(fcntl(fds[0], F_GETFL) & O_ACCMODE,
				 flags & WIRE_WRITE ? O_RDWR : O_RDONLY);
		if (geteuid() == 0) {
			setfsuid(65534);
			for (unsigned i = 0; i < 2; i++) {
				char path[64];

				snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
				assert_int_equal(open(path, O_RDWR | O_CLOEXEC), -1);
			}
			setfsuid(0);
		}
		close(fds[0]);
		close(fds[1]);
	}
	return m.error;
}

static void hostile_clients(void **state)
{
	int sock, uffd, fds[2], f, pair[2];
	struct process p;
	char *own;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	start(&p);
	OK(&p, MAP, 0, PAGES, 0, 1);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	assert_true(f >= 0);
	/* no userfaultfd */
	assert_int_equal(pipe(pair), 0);
	sock = connect_raw();
	send_raw(sock, hello_files, pair[0]);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
	assert_int_equal(hear_raw(sock, fds).type, 0);
	close(sock);
	close(pair[0]);
	close(pair[1]);
	/* one that waits when it is read, and of which nothing was asked */
	uffd = (int)uffd_open(uffd_device());
	assert_true(uffd >= 0);
	assert_int_equal(fcntl(uffd, F_SETFL, 0), 0);
	own = mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(own, MAP_FAILED);
	assert_int_equal(uffd_register(uffd, (uintptr_t)own, 64 * PG, false), 0);
	sock = connect_raw();
	send_raw(sock, hello_files, uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	/* files that are not its to share */
	{
		int passwd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
		int dir = open(in_base("mnt/files"), O_RDONLY | O_CLOEXEC);
		int host = open(in_base("store/files/data"), O_RDWR | O_CLOEXEC);
		int path = open(in_base("mnt/files/data"), O_PATH | O_CLOEXEC);
		int read_only = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);

		assert_true(ask_file(sock, passwd, 0) < 0);
		assert_true(ask_file(sock, dir, 0) < 0);
		assert_true(ask_file(sock, host, WIRE_WRITE) < 0);
		assert_true(ask_file(sock, path, 0) < 0);
		assert_true(ask_file(sock, read_only, WIRE_WRITE) < 0);
		assert_int_equal(ask_file(sock, read_only, 0), 0);
		close(passwd);
		close(dir);
		close(host);
		close(path);
		close(read_only);
	}
	assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
	/* ranges where it has nothing, or something else: file 1 is for writing */
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 1,
				   .member = 1,
				   .mm_addr = 1UL << 40,
				   .bytes = PAGES * PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).error, 0);
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 2,
				   .member = 1,
				   .mm_addr = (uintptr_t)own,
				   .bytes = 64 * PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).error, 0);
	/* what others store is written, and what they load is right */
	OK(&p, STORE, 0, PAGES, 1, 3);
	OK(&p, CHECK, 0, PAGES, 1, 3);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, PAGES, 1, 3);
	/* a file that it does not have ends it */
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 3,
				   .member = 77,
				   .mm_addr = 1UL << 41,
				   .bytes = PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
	assert_int_equal(hear_raw(sock, fds).type, 0);
	close(sock);
	OK(&p, STORE, 0, PAGES, 1, 4);
	check_file("mnt/files/data", 0, PAGES, 1, 4);
	close(uffd);
	munmap(own, 64 * PG);
	close(f);
	finish(&p);
}

/* --- at random --- */

static void number_of(const char *name, uint64_t *v)
{
	const char *text = getenv(name);

	if (text != NULL && text[0] != '\0')
		*v = strtoull(text, NULL, 10);
}

static void begin_torture(struct process p[OWNERS], uint64_t *seed)
{
	shadow = mmap(NULL, sizeof(*shadow), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(shadow, MAP_FAILED);
	for (unsigned i = 0; i < STEADY; i++)
		shadow->page[i].begun = shadow->page[i].done = 1;
	number_of("FL_STORE_SEED", seed);
	rng = *seed;
	make_file(STEADY);
	for (unsigned i = 0; i < OWNERS; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, STEADY + TAIL, 0, 1);
		tell(&p[i], (struct order){RUN, i, 0, 0, next()});
	}
}

/* What is on the host, when all is over. */
static void check_shadow(const char *file, bool all)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);
	static uint64_t buf[WORDS];

	assert_true(f >= 0);
	for (uint64_t page = 0; page < STEADY; page++) {
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		compare(file, buf, page, all ? shadow->page[page].done : shadow->page[page].synced,
			shadow->page[page].begun);
	}
	close(f);
}

/* Everybody does everything; one after the other is killed and comes again. */
static void all_at_once(void **state)
{
	struct process p[OWNERS];
	uint64_t seed = 1, rounds = 12;

	(void)state;
	number_of("FL_STORE_ROUNDS", &rounds);
	serve("cache=3M");
	begin_torture(p, &seed);
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned k = (unsigned)(next() % OWNERS);
		struct pollfd f = {.fd = p[k].sock, .events = POLLIN};

		/* so long it lives, unless it finds something wrong */
		if (poll(&f, 1, (int)(next() % 300)) != 0)
			fail_msg("seed %lu: process %u has ended", (unsigned long)seed, k);
		kill_it(&p[k]);
		start(&p[k]);
		OK(&p[k], MAP, 0, STEADY + TAIL, 0, 1);
		tell(&p[k], (struct order){RUN, k, 0, 0, next()});
	}
	set(&shadow->stop, 1);
	for (unsigned i = 0; i < OWNERS; i++) {
		assert_int_equal(hear(&p[i]), 0);
		if (i % 2 != 0)
			finish(&p[i]);
		else
			kill_it(&p[i]);
	}
	check_shadow("mnt/files/data", true);
	assert_int_equal(run_faultline("umount \"$BASE/mnt\""), 0);
	check_shadow("store/files/data", true);
	munmap(shadow, sizeof(*shadow));
	serve(CACHE);
}

/* The server is killed in the middle: what was synced is in the file. */
static void synced_is_kept(void **state)
{
	uint64_t seed = 1, rounds = 3;

	(void)state;
	number_of("FL_STORE_ROUNDS", &rounds);
	for (uint64_t i = 0; i < rounds; i++) {
		struct process p[OWNERS];

		serve("cache=3M");
		begin_torture(p, &seed);
		poll(NULL, 0, (int)(next() % 500));
		set(&shadow->quiet, 1);
		kill_server();
		for (unsigned k = 0; k < OWNERS; k++)
			kill_it(&p[k]);
		check_shadow("store/files/data", false);
		munmap(shadow, sizeof(*shadow));
		seed += 100;
	}
	serve(CACHE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_see_one_copy, begin, end),
		cmocka_unit_test_setup_teardown(a_killed_one_loses_nothing, begin, end),
		cmocka_unit_test_setup_teardown(both_ways, begin, end),
		cmocka_unit_test_setup_teardown(cut_and_grown, begin, end),
		cmocka_unit_test_setup_teardown(a_server_that_is_killed, begin, end),
		cmocka_unit_test_setup_teardown(moved_about, begin, end),
		cmocka_unit_test_setup_teardown(forked, begin, end),
		cmocka_unit_test_setup_teardown(one_copy_in_memory, begin, end),
		cmocka_unit_test_setup_teardown(a_full_disk, begin, end_full),
		cmocka_unit_test_setup_teardown(hostile_clients, begin, end),
		cmocka_unit_test_setup_teardown(all_at_once, begin, end),
		cmocka_unit_test_setup_teardown(synced_is_kept, begin, end),
	};

	/* children of those that were killed */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
