/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shared.h - processes that map one file of a store, for tests: each is a child
 * that opens a runtime of its own and does what it is told, one order at a
 * time; a page's words follow from its number and version.
 */
#ifndef FL_SHARED_TEST_H
#define FL_SHARED_TEST_H

#include "mounted.h"

#include "api.h"
#include "random.h"
#include "mmap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define LIMIT (8UL << 20)
#define PAGES 3000UL /* of the usual file: more than the usual cache holds */
#define CACHE "cache=4M"

/* --- what several processes see --- */

static inline uint32_t get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void set(uint32_t *v, uint32_t to)
{
	__atomic_store_n(v, to, __ATOMIC_SEQ_CST);
}

/* --- a random course --- */

static uint64_t rng;

static inline uint64_t next(void)
{
	return splitmix(&rng);
}

/* What the environment says, if anything. */
static inline void number_of(const char *name, uint64_t *v)
{
	const char *text = getenv(name);

	if (text != NULL && text[0] != '\0')
		*v = strtoull(text, NULL, 10);
}

/* --- content --- */

/* Not inlined: nothing of it is to live across a sigsetjmp(). */
static __attribute__((noinline, unused)) uint64_t word(uint64_t page, uint64_t version, size_t i)
{
	uint64_t x = page << 32 | version;

	return i == 0 ? x : (x * 512 + i) * 0x9e3779b97f4a7c15U;
}

static inline void fill(uint64_t *p, uint64_t page, uint64_t version)
{
	for (size_t i = 0; i < WORDS; i++)
		p[i] = word(page, version, i);
}

/* The word that is another than it should be; WORDS: none. */
static inline size_t differs(const uint64_t *p, uint64_t page, uint64_t version)
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
	RUN,   /* shared_run(): number `page`, seed `version` */
	ADVISE,	  /* advice `version` about `n` pages from `page` on */
	LOCK,	  /* mlock2(2) with flags `version` of these */
	UNLOCK,	  /* munlock(2) of these */
	MORE,	  /* map them with MAP_FIXED and flags `version` besides */
	CACHED,	  /* how many of them are in memory (`version` 1: or are read), whoever maps them */
	LOCKED,	  /* KiB that the kernel has locked */
	BRING,	  /* a thread begins to read BASE/slow/file, which is slow, into page `page` */
	BROUGHT,  /* its end: how many bytes it read */
	WHERE,	  /* page `page`'s address */
	OPEN,	  /* the file again: of another server's mount */
	SHUT,	  /* close(2) its descriptor: it stays mapped */
	BRING_IN, /* fl_prefetch() these, */
	CAME,	  /* and its end: -ETIME: it does not come */
	TRY,	  /* fl_try() these */
	FSYNC,	  /* fsync(2) the descriptor */
	SET,	  /* fl_region_set() these: option `version`, SET_... */
	COPY, /* write(2) page `page` of the mapping to page `version` of the file, opened anew */
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

#define STARTED_MAX 64U

static pid_t started[STARTED_MAX]; /* that have not ended */

static sigjmp_buf escape;
static struct fl *fl;
static char *map;
static uint64_t mapped_from, mapped_pages;
static int fd = -1;
static int own_sock, spare_sock;
static int64_t (*shared_run)(uint64_t id, uint64_t seed);

static inline void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

static inline int64_t touch(volatile char *p)
{
	volatile int64_t raised = 1;

	if (sigsetjmp(escape, 1) == 0) {
		(void)*p;
		raised = 0;
	}
	return raised;
}

static inline uint64_t *at(uint64_t page)
{
	return (uint64_t *)(void *)(map + (page - mapped_from) * PG);
}

static inline int64_t do_open(int mode)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/mnt/files/data", base);
	if (fd >= 0)
		close(fd);
	fd = open(path, mode | O_CLOEXEC);
	return fd < 0 ? -errno : 0;
}

static inline int64_t do_map(const struct order *o)
{
	if (fd < 0)
		do_open(o->version != 0 ? O_RDWR : O_RDONLY);
	map = fl_mmap(fl, NULL, o->n * PG, PROT_READ | (o->version != 0 ? PROT_WRITE : 0),
		      MAP_SHARED, fd, (off_t)(o->page * PG));
	mapped_from = o->page;
	mapped_pages = o->n;
	return map == FL_FAILED ? -errno : 0;
}

static inline int64_t do_cover(const struct order *o)
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
static inline int64_t do_fork(void)
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

static inline int64_t do_pss(const char *what)
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

static inline int64_t do_more(const struct order *o)
{
	void *p = fl_mmap(fl, at(o->page), o->n * PG, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED | (int)o->version, fd, (off_t)(o->page * PG));

	return p == FL_FAILED ? -errno : 0;
}

static inline int64_t do_cached(const struct order *o)
{
	unsigned char state[PAGES];
	int64_t n = fl_page_state(fl, at(o->page), o->n * PG, state);

	for (uint64_t i = 0; n >= 0 && i < o->n; i++)
		n += FL_PAGE_KIND(state[i]) == FL_PAGE_PRESENT ||
		     (o->version != 0 && (state[i] & FL_PAGE_BUSY));
	return n;
}

static pthread_t bringer;
static uint64_t *bring_to;
static int64_t brought;

static inline void *bring_in(void *arg)
{
	char path[PATH_MAX];
	int f;

	snprintf(path, sizeof(path), "%s/slow/file", base);
	f = open(path, O_RDONLY | O_CLOEXEC);
	brought = f < 0 ? -1 : pread(f, bring_to, PG, 0);
	if (brought < 0)
		brought = -errno;
	if (f >= 0)
		close(f);
	return arg;
}

static inline int64_t do_bring(const struct order *o)
{
	bring_to = at(o->page);
	return pthread_create(&bringer, NULL, bring_in, NULL);
}

static inline int64_t do_brought(void)
{
	pthread_join(bringer, NULL);
	return brought;
}

static int coming = -1;

static inline int64_t do_bring_in(const struct order *o)
{
	if (coming < 0)
		coming = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fl_prefetch(fl, at(o->page), o->n * PG, coming);
}

enum { SET_NULL, SET_DEFAULTS, SET_HOT, SET_COLD, SET_READAHEAD, SET_LIMIT, SET_ERROR };

#define SET_WINDOW 32UL /* pages */

static inline enum fl_error_choice raise_bus(void *arg, void *addr, uint64_t offset, int error,
					     void *page)
{
	(void)arg;
	(void)addr;
	(void)offset;
	(void)error;
	(void)page;
	return FL_ERROR_SIGBUS;
}

static inline int64_t do_set(const struct order *o)
{
	const struct fl_region_options what = {
		.size = sizeof(what),
		.priority = o->version == SET_HOT    ? FL_PRIORITY_HOT
			    : o->version == SET_COLD ? FL_PRIORITY_COLD
						     : FL_PRIORITY_NORMAL,
		.limit = o->version == SET_LIMIT ? 1UL << 20 : 0,
		.readahead = o->version == SET_READAHEAD ? SET_WINDOW * PG : 0,
		.on_error = o->version == SET_ERROR ? raise_bus : NULL,
	};

	return fl_region_set(fl, at(o->page), o->n * PG, o->version == SET_NULL ? NULL : &what);
}

static inline int64_t do_came(void)
{
	struct pollfd f = {.fd = coming, .events = POLLIN};
	uint64_t n;

	if (poll(&f, 1, HANG_SECONDS * 500) != 1 || read(coming, &n, sizeof(n)) != sizeof(n))
		return -ETIME;
	return (int64_t)n - 1;
}

static inline int64_t do_copy(const struct order *o)
{
	int64_t r = do_open(O_RDWR);

	if (r == 0)
		r = pwrite(fd, at(o->page), PG, (off_t)(o->version * PG));
	return r < 0 ? -errno : r - (int64_t)PG;
}

/* Not inlined, as word(). */
static __attribute__((noinline)) int64_t carry_out(const struct order *o)
{
	uint64_t step = o->step != 0 ? o->step : 1;

	switch (o->what) {
	case MAP:
		return do_map(o);
	case UNMAP:
		return fl_munmap(fl, at(o->page), o->n * PG);
	case STORE:
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
		return shared_run(o->page, o->version);
	case ADVISE:
		return fl_madvise(fl, at(o->page), o->n * PG, (int)o->version);
	case LOCK:
		return fl_mlock2(fl, at(o->page), o->n * PG, (unsigned)o->version);
	case UNLOCK:
		return fl_munlock(fl, at(o->page), o->n * PG);
	case MORE:
		return do_more(o);
	case CACHED:
		return do_cached(o);
	case LOCKED:
		return number_in("/proc/self/status", "VmLck:");
	case BRING:
		return do_bring(o);
	case BROUGHT:
		return do_brought();
	case OPEN:
		return do_open(O_RDWR);
	case SHUT:
		close(fd);
		fd = -1;
		return 0;
	case BRING_IN:
		return do_bring_in(o);
	case CAME:
		return do_came();
	case TRY:
		return fl_try(fl, at(o->page), o->n * PG);
	case FSYNC:
		return fsync(fd) == 0 ? 0 : -errno;
	case SET:
		return do_set(o);
	case COPY:
		return do_copy(o);
	case WHERE:
		return (int64_t)(uintptr_t)at(o->page);
	}
	return -EINVAL;
}

/* -EFAULT: it raised SIGBUS where nothing is said of that. */
static inline int64_t obey(const struct order *o)
{
	return sigsetjmp(escape, 1) != 0 ? -EFAULT : carry_out(o);
}

/* What is to be said is known. */
static inline void say_nothing(void *arg, enum fl_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static inline _Noreturn void live(void)
{
	struct sigaction sa = {.sa_handler = on_bus};
	char mnt[PATH_MAX];
	struct fl_options options = {
		.size = sizeof(options), .limit = LIMIT, .store = mnt, .log = say_nothing};
	struct order o;

	test_child();
	snprintf(mnt, sizeof(mnt), "%s/mnt", base);
	signal(SIGSEGV, SIG_DFL); /* the test's is to end the test */
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

static inline void tell(const struct process *p, struct order o)
{
	assert_int_equal(write(p->sock, &o, sizeof(o)), (ssize_t)sizeof(o));
}

static inline int64_t hear(const struct process *p)
{
	struct pollfd f = {.fd = p->sock, .events = POLLIN};
	int64_t r;

	if (poll(&f, 1, HANG_SECONDS * 1000) != 1)
		fail_msg("process %d does not answer", (int)p->pid);
	if (read(p->sock, &r, sizeof(r)) != (ssize_t)sizeof(r))
		fail_msg("process %d has ended", (int)p->pid);
	return r;
}

static inline int64_t order(const struct process *p, struct order o)
{
	tell(p, o);
	return hear(p);
}

#define DO(p, ...) order(p, (struct order){__VA_ARGS__})
#define OK(p, ...) assert_int_equal(DO(p, __VA_ARGS__), 0)

/* A server pages what it has mapped, for writing, of the first `n` pages: no page is touched. */
static inline void await_paged(const struct process *p, uint64_t n)
{
	until_within(60, DO(p, SYNC, 0, n, 0, 0) == 0);
}

static inline void remember(struct process *p)
{
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	assert_true(p->pidfd >= 0);
	for (unsigned i = 0; i < STARTED_MAX; i++) {
		if (started[i] == 0) {
			started[i] = p->pid;
			break;
		}
	}
}

static inline void start(struct process *p)
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

/* Processes that have the first pages of the file mapped, for writing, too. */
static inline void start_mapped(struct process *p, unsigned n, uint64_t pages)
{
	for (unsigned i = 0; i < n; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, pages, 0, 1);
	}
}

/* Have it fork: its child. */
static inline struct process child_of(struct process *p)
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
static inline int end_of(struct process *p)
{
	struct pollfd f = {.fd = p->pidfd, .events = POLLIN};
	int status = 0;

	assert_int_equal(poll(&f, 1, HANG_SECONDS * 1000), 1);
	if (waitpid(p->pid, &status, WNOHANG) != p->pid)
		status = 0;
	close(p->pidfd);
	close(p->sock);
	if (p->spare >= 0)
		close(p->spare);
	for (unsigned i = 0; i < STARTED_MAX; i++)
		if (started[i] == p->pid)
			started[i] = 0;
	return status;
}

static inline void finish(struct process *p)
{
	OK(p, CLOSE, 0, 0, 0, 0);
	assert_int_equal(end_of(p), 0);
}

static inline void stop(const struct process *p)
{
	siginfo_t stopped;

	kill(p->pid, SIGSTOP);
	assert_int_equal(waitid(P_PID, (id_t)p->pid, &stopped, WSTOPPED | WNOWAIT), 0);
	assert_int_equal(stopped.si_code, CLD_STOPPED);
}

static inline void kill_it(struct process *p)
{
	kill(p->pid, SIGKILL);
	end_of(p);
}

/* --- the store --- */

static inline void serve(const char *options)
{
	char line[512];

	snprintf(line, sizeof(line), "mount " MOUNT_OPTIONS " -o %s \"$BASE/store\" \"$BASE/mnt\"",
		 options);
	if (run_faultline(line) != 0)
		fail_msg("faultline %s", line);
}

static inline int begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0 || chmod(base, 0755) != 0)
		return -1;
	umask(022);
	return run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mkswap --size 16M \"$BASE/store/swap/disk0\"") != 0;
}

static inline int end(void **state)
{
	/* of a test that failed */
	for (unsigned i = 0; i < STARTED_MAX; i++) {
		if (started[i] != 0) {
			kill(started[i], SIGKILL);
			waitpid(started[i], NULL, 0);
		}
		started[i] = 0;
	}
	return mounted_end(state);
}

/* The file as it lies on the host, version 1 of `pages` pages. */
static inline void make_file(uint64_t pages)
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

/* The usual file, of a server with such a cache, and processes that have it mapped. */
static inline void begin_mapped(struct process *p, unsigned n, const char *cache)
{
	serve(cache);
	make_file(PAGES);
	start_mapped(p, n, PAGES);
}

static inline void page_of(const char *file, uint64_t page, uint64_t *buf)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);

	assert_true(f >= 0);
	assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
	close(f);
}

static inline bool is_of(const char *file, uint64_t page, uint64_t version)
{
	static uint64_t buf[WORDS];

	page_of(file, page, buf);
	return differs(buf, page, version) == WORDS;
}

/* Whether those pages are of that version. */
static inline bool is_in_file(const char *file, uint64_t from, uint64_t n, uint64_t version)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);
	static uint64_t buf[WORDS];
	bool all = true;

	assert_true(f >= 0);
	for (uint64_t page = from; page < from + n && all; page++) {
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		all = differs(buf, page, version) == WORDS;
	}
	close(f);
	return all;
}

static inline void check_file(const char *file, uint64_t from, uint64_t n, uint64_t step,
			      uint64_t version)
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

/* The tests, or the one that is named. */
#define RUN_TESTS(argc, argv, tests)                                                               \
	do {                                                                                       \
		/* children of those that are killed */                                            \
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);                                         \
		if ((argc) > 1)                                                                    \
			cmocka_set_test_filter((argv)[1]);                                         \
		return cmocka_run_group_tests(tests, NULL, NULL);                                  \
	} while (0)

#endif
