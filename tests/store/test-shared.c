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

#include "faultline.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

static uint64_t word(uint64_t page, uint64_t version, size_t i)
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
	CLOSE, /* fl_close */
};

struct order {
	enum what what;
	uint64_t page, n, step, version;
};

struct process {
	pid_t pid;
	int sock;
};

static pid_t started[64]; /* that have not ended */

static sigjmp_buf escape;
static struct fl *fl;
static char *map;
static uint64_t mapped_from, mapped_pages;
static int fd = -1;

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

static int64_t obey(const struct order *o)
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
	case CLOSE:
		return fl_close(fl);
	}
	return -EINVAL;
}

static _Noreturn void live(int sock)
{
	struct sigaction sa = {.sa_handler = on_bus};
	char mnt[PATH_MAX];
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT, .store = mnt};
	struct order o;

	snprintf(mnt, sizeof(mnt), "%s/mnt", base);
	sigaction(SIGBUS, &sa, NULL);
	if (fl_open(&fl, &options) != 0)
		_exit(1);
	while (read(sock, &o, sizeof(o)) == (ssize_t)sizeof(o)) {
		int64_t r = obey(&o);

		if (write(sock, &r, sizeof(r)) != (ssize_t)sizeof(r) || o.what == CLOSE)
			break;
	}
	_exit(0);
}

static void start(struct process *p)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		close(pair[0]);
		live(pair[1]);
	}
	close(pair[1]);
	p->sock = pair[0];
	for (unsigned i = 0; i < 64; i++) {
		if (started[i] == 0) {
			started[i] = p->pid;
			break;
		}
	}
}

static void ended(const struct process *p)
{
	close(p->sock);
	for (unsigned i = 0; i < 64; i++)
		if (started[i] == p->pid)
			started[i] = 0;
}

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

#define DO(p, ...) order(p, (struct order){__VA_ARGS__})
#define OK(p, ...) assert_int_equal(DO(p, __VA_ARGS__), 0)

static void finish(struct process *p)
{
	int status;

	OK(p, CLOSE, 0, 0, 0, 0);
	ended(p);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_int_equal(status, 0);
}

static void kill_it(struct process *p)
{
	int status;

	kill(p->pid, SIGKILL);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_true(WIFSIGNALED(status));
	ended(p);
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_see_one_copy, begin, end),
		cmocka_unit_test_setup_teardown(a_killed_one_loses_nothing, begin, end),
		cmocka_unit_test_setup_teardown(both_ways, begin, end),
		cmocka_unit_test_setup_teardown(cut_and_grown, begin, end),
		cmocka_unit_test_setup_teardown(a_server_that_is_killed, begin, end),
		cmocka_unit_test_setup_teardown(moved_about, begin, end),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
