/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-takeover.c - a store's server is killed, or ends, and is started again under
 * processes that have a file of it mapped: their mappings go on.  What they hold, what
 * the new server reads, what others map and what the mount shows is one copy, and no
 * store is lost: of threads that store throughout, of forked children, of a process
 * that is stopped meanwhile.
 *
 * FL_STORE_SEED takes another course of things, FL_STORE_ROUNDS more of them.
 *
 * usage: test-shared-takeover [TEST]
 */
#include "shared.h"

#include <sys/uio.h>
#include <time.h>

#define ROOM "cache=16M" /* for all of the usual file */

/* Pages for await(), beyond what is read ahead of those that a test is about. */
#define SPARE 64UL
#define SPARES (PAGES + 512UL)

static uint64_t spared;

static void make_files(void)
{
	make_file(SPARES + SPARE);
	spared = 0;
}

static void map_all(struct process *p, bool write)
{
	start(p);
	OK(p, MAP, 0, SPARES + SPARE, 0, write);
	/* each is brought in by itself */
	OK(p, ADVISE, SPARES, SPARE, 0, MADV_RANDOM);
}

static void await_page(const struct process *p, uint64_t page)
{
	until(DO(p, TOUCH, page, 0, 0, 0) == 0);
}

/* A page that nobody has brought in yet can be had: there is a server, and it pages the mapping. */
static void await(const struct process *p)
{
	assert_true(spared < SPARE);
	await_page(p, SPARES + spared++);
}

static void again(const char *options)
{
	kill_server();
	serve(options);
}

/* One that ends in order, while programs have files mapped. */
static void again_in_order(const char *options)
{
	/* who comes has the file open for a moment */
	until(unmount() == 0);
	serve(options);
}

/* Each of two programs goes on with what it had, and both with a third that maps it now. */
static void mappings_go_on(void **state)
{
	static uint64_t buf[WORDS];
	struct process p[2], q;
	uint64_t v = 10;

	(void)state;
	serve(CACHE);
	make_files();
	for (unsigned i = 0; i < 2; i++) {
		map_all(&p[i], true);
	}
	OK(&p[0], STORE, 0, 100, 1, v);
	OK(&p[1], STORE, 100, 100, 1, v);
	for (unsigned round = 0; round < 2; round++) {
		uint64_t far = 2000 + 300 * round;
		int f;

		kill_server();
		/* what was stored before, by the other one too, and without a server */
		OK(&p[round % 2], CHECK, 0, 200, 1, v);
		OK(&p[0], STORE, 50, 100, 1, v + 1);
		OK(&p[1], CHECK, 50, 100, 1, v + 1);
		assert_int_equal(DO(&p[1], TOUCH, far + 200, 0, 0, 0), 1);
		serve(CACHE);
		for (unsigned i = 0; i < 2; i++)
			await(&p[i]);
		/* one that raised it, too */
		for (unsigned i = 0; i < 2; i++)
			OK(&p[i], CHECK, far, 300, 1, 1);
		map_all(&q, true);
		OK(&q, CHECK, 0, 50, 1, v);
		OK(&q, CHECK, 50, 100, 1, v + 1);
		OK(&q, CHECK, 150, 50, 1, v);
		OK(&p[0], STORE, far - 1900, 50, 1, v + 2);
		OK(&q, CHECK, far - 1900, 50, 1, v + 2);
		OK(&q, STORE, 20, 160, 1, v + 3);
		for (unsigned i = 0; i < 2; i++)
			OK(&p[i], CHECK, 20, 160, 1, v + 3);
		/* the same words at once: no addition is lost */
		for (unsigned i = 0; i < 2; i++)
			tell(&p[i], (struct order){COUNT, 30, 20000, 0, 0});
		OK(&q, COUNT, 30, 20000, 0, 0);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(hear(&p[i]), 0);
		assert_int_equal(DO(&q, WORD, 30, 0, 1, 0), (int64_t)(word(30, v + 3, 1) + 60000));
		/* through the mount, both ways */
		page_of("mnt/files/data", 25, buf);
		assert_int_equal(differs(buf, 25, v + 3), WORDS);
		f = open(in_base("mnt/files/data"), O_WRONLY | O_CLOEXEC);
		fill(buf, 26, v + 4);
		assert_int_equal(pwrite(f, buf, PG, 26 * PG), (ssize_t)PG);
		close(f);
		for (unsigned i = 0; i < 2; i++)
			OK(&p[i], CHECK, 26, 1, 1, v + 4);
		OK(&p[round % 2], SYNC, 0, PAGES, 0, 0);
		check_file("store/files/data", 100, 80, 1, v + 3);
		/* pushed out, and brought in again */
		OK(&p[0], CHECK, 1000, 900, 1, 1);
		v += 10;
		for (unsigned i = 0; i < 2; i++)
			OK(&p[i], STORE, i * 100, 100, 1, v);
		finish(&q);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	assert_int_equal(unmount(), 0);
	check_file("store/files/data", 0, 200, 1, v);
	check_file("store/files/data", 2000, PAGES - 2000, 1, 1);
	serve(CACHE);
}

/* Parts are moved, covered and locked before; the next server's cache is smaller than what is dirty. */
static void as_it_was_mapped(void **state)
{
	struct process p, q;

	(void)state;
	serve(ROOM);
	make_files();
	map_all(&p, true);
	OK(&p, STORE, 0, 2000, 1, 2);
	OK(&p, COVER, 300, 100, 0, 0);
	OK(&p, UNMAP, 500, 100, 0, 0);
	OK(&p, LOCK, 700, 20, 0, 0);
	OK(&p, ADVISE, 800, 100, 0, MADV_RANDOM);
	kill_server();
	OK(&p, UNMAP, 1000, 100, 0, 0);
	serve(CACHE);
	await(&p);
	OK(&p, OPEN, 0, 0, 0, 0);
	OK(&p, MORE, 500, 100, 0, 0);
	map_all(&q, true);
	OK(&q, CHECK, 0, 2000, 1, 2);
	OK(&q, CHECK, 2000, PAGES - 2000, 1, 1);
	OK(&q, STORE, 0, PAGES, 1, 3);
	OK(&p, CHECK, 0, 300, 1, 3);
	OK(&p, CHECK, 400, 600, 1, 3);
	OK(&p, CHECK, 1100, PAGES - 1100, 1, 3);
	assert_int_equal(DO(&p, LOCKED, 0, 0, 0, 0), 80);
	again(CACHE);
	finish(&q);
	await(&p);
	OK(&p, CHECK, 1100, PAGES - 1100, 1, 3);
	finish(&p);
	check_file("mnt/files/data", 0, PAGES, 1, 3);
}

/* Children: of before, of while there was no server, and of afterwards. */
static void children(void **state)
{
	struct process p[3], c[3];

	(void)state;
	serve(CACHE);
	make_files();
	for (unsigned i = 0; i < 3; i++) {
		map_all(&p[i], true);
	}
	OK(&p[0], STORE, 0, 100, 1, 2);
	OK(&p[0], CHECK, 100, 200, 1, 1);
	c[0] = child_of(&p[0]);
	OK(&c[0], STORE, 100, 100, 1, 2);
	kill_server();
	OK(&c[0], STORE, 150, 100, 1, 3);
	OK(&p[0], STORE, 0, 50, 1, 3);
	c[1] = child_of(&p[1]);
	kill_it(&p[0]);
	serve(CACHE);
	for (unsigned i = 0; i < 2; i++)
		await(&c[i]);
	for (unsigned i = 1; i < 3; i++)
		await(&p[i]);
	c[2] = child_of(&p[2]);
	for (unsigned i = 0; i < 3; i++) {
		OK(&c[i], CHECK, 0, 50, 1, 3);
		OK(&c[i], CHECK, 50, 50, 1, 2);
		OK(&c[i], CHECK, 100, 50, 1, 2);
		OK(&c[i], CHECK, 150, 100, 1, 3);
		OK(&c[i], CHECK, 250, PAGES - 250, 1, 1);
	}
	for (unsigned i = 0; i < 3; i++)
		OK(&c[i], STORE, 500 + 100 * i, 100, 1, 4 + i);
	for (unsigned i = 0; i < 3; i++)
		OK(&p[1], CHECK, 500 + 100 * i, 100, 1, 4 + i);
	again(CACHE);
	for (unsigned i = 0; i < 3; i++)
		await(&c[i]);
	OK(&c[2], CHECK, 150, 100, 1, 3);
	OK(&c[1], CHECK, 700, 100, 1, 6);
	for (unsigned i = 0; i < 3; i++)
		kill_it(&c[i]);
	OK(&p[1], CHECK, 700, 100, 1, 6);
	await(&p[2]);
	for (unsigned i = 1; i < 3; i++)
		finish(&p[i]);
	check_file("mnt/files/data", 150, 100, 1, 3);
	check_file("mnt/files/data", 500, 100, 1, 4);
}

/*
 * Bytes into another process's memory, as a debugger would, though it is stopped.  Where
 * the page is not there that waits for the process.
 */
static bool put_into(const struct process *p, uint64_t addr, uint64_t value)
{
	struct iovec own = {&value, sizeof(value)}, theirs = {(void *)addr, sizeof(value)};

	return process_vm_writev(p->pid, &own, 1, &theirs, 1, 0) == (ssize_t)sizeof(value);
}

/* By a process of its own, which ends. */
static bool put_alone(const struct process *p, uint64_t addr, uint64_t value)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(HANG_SECONDS / 5);
		_exit(!put_into(p, addr, value));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

static uint64_t addr_in(const struct process *p, uint64_t page, size_t i)
{
	return (uint64_t)DO(p, WHERE, page, 0, 0, 0) + i * 8;
}

#define SETTLED_MS                                                                                 \
	400 /* a page that was written is clean by then, if the machine is not very busy */

/* Until it is that much, or so long: what it is then. */
static uint32_t await_value(const uint32_t *v, uint32_t want, int ms)
{
	uint32_t have;

	while ((have = __atomic_load_n(v, __ATOMIC_SEQ_CST)) < want && ms > 0) {
		poll(NULL, 0, 10);
		ms -= 10;
	}
	return have;
}

/*
 * One that is stopped holds up nobody; what is stored in its memory meanwhile is seen, written,
 * and not lost when the page has left memory since.
 */
static void one_that_is_stopped(void **state)
{
	uint32_t *done = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t addr[2], late;
	struct process p, q;
	pid_t helper;
	int64_t low;

	(void)state;
	serve(CACHE);
	make_files();
	map_all(&p, true);
	map_all(&q, true);
	OK(&q, STORE, 0, 100, 1, 2);
	OK(&q, CHECK, 100, 100, 1, 1);
	/* these stay, and are not known to be clean for as long */
	OK(&p, LOCK, 10, 2, 0, 0);
	for (unsigned i = 0; i < 2; i++)
		addr[i] = addr_in(&q, 10 + i, 7);
	late = addr_in(&q, 50, 7);
	kill_server();
	/* fewer than are written at once */
	OK(&q, STORE, 0, 120, 1, 2);
	/* its pager has done with the last of these: who is stopped with the lock holds up all (share.c) */
	OK(&q, ADVISE, 0, 1, 0, MADV_NORMAL);
	stop(&q);
	serve(CACHE);
	await(&p);
	/* one that is killed before all have come */
	again(CACHE);
	await(&p);
	OK(&p, CHECK, 0, 120, 1, 2);
	OK(&p, CHECK, 120, 880, 1, 1);
	/* before it is written, and when it was: it may be stored to there, and nobody was told */
	assert_true(put_alone(&q, addr[0], 1));
	assert_int_equal(DO(&p, WORD, 10, 0, 7, 0), 1);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	assert_true(put_alone(&q, addr[0], 2));
	assert_true(put_alone(&q, addr[1], 3));
	assert_int_equal(DO(&p, WORD, 10, 0, 7, 0), 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	{
		static uint64_t buf[WORDS];

		page_of("store/files/data", 10, buf);
		assert_true(buf[7] == 2);
		page_of("store/files/data", 11, buf);
		assert_true(buf[7] == 3);
	}
	/* and when it has been written for long: that store is seen, or it waits for the process */
	helper = fork();
	assert_true(helper >= 0);
	if (helper == 0) {
		for (uint32_t v = 1; v <= 2; v++) {
			poll(NULL, 0, v == 1 ? 0 : SETTLED_MS);
			if (!put_into(&q, late, v))
				_exit(1);
			__atomic_store_n(done, v, __ATOMIC_SEQ_CST);
		}
		_exit(0);
	}
	await_value(done, 1, 3 * SETTLED_MS);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	low = await_value(done, 2, 3 * SETTLED_MS);
	/* everything leaves memory for this, and comes again */
	OK(&p, UNLOCK, 10, 2, 0, 0);
	OK(&p, CHECK, 500, PAGES - 500, 1, 1);
	OK(&p, CHECK, 500, PAGES - 500, 1, 1);
	assert_int_equal(DO(&p, WORD, 10, 0, 7, 0), 2);
	assert_true(DO(&p, WORD, 50, 0, 7, 0) >= low);
	OK(&p, STORE, 300, 100, 1, 5);
	kill(q.pid, SIGCONT);
	test_reap(helper);
	assert_int_equal(DO(&p, WORD, 50, 0, 7, 0), 2);
	assert_int_equal(DO(&q, WORD, 50, 0, 7, 0), 2);
	OK(&q, CHECK, 300, 100, 1, 5);
	assert_int_equal(DO(&q, WORD, 11, 0, 7, 0), 3);
	OK(&q, STORE, 0, 400, 1, 6);
	OK(&p, CHECK, 0, 400, 1, 6);
	munmap(done, PG);
	finish(&p);
	finish(&q);
	check_file("mnt/files/data", 0, 400, 1, 6);
}

/* One that may only read, alone: what others have changed since shows, as it does in any mapping. */
static void one_that_reads(void **state)
{
	static uint64_t buf[WORDS];
	struct process p, q;
	int f;

	(void)state;
	serve(CACHE);
	make_files();
	map_all(&p, false);
	OK(&p, CHECK, 0, 200, 1, 1);
	again(CACHE);
	await(&p);
	OK(&p, CHECK, 0, PAGES, 1, 1);
	kill_server();
	stop(&p);
	serve(CACHE);
	f = open(in_base("mnt/files/data"), O_WRONLY | O_CLOEXEC);
	for (uint64_t page = 100; page < 110; page++) {
		fill(buf, page, 3);
		assert_int_equal(pwrite(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
	}
	close(f);
	kill(p.pid, SIGCONT);
	/* until it has noticed, what it holds is what it was */
	await(&p);
	OK(&p, CHECK, 0, 100, 1, 1);
	OK(&p, CHECK, 100, 10, 1, 3);
	map_all(&q, true);
	OK(&q, STORE, 50, 10, 1, 2);
	OK(&p, CHECK, 50, 10, 1, 2);
	OK(&p, CHECK, 110, PAGES - 110, 1, 1);
	finish(&p);
	finish(&q);
}

/* What others have changed first is theirs: the mapping stays as it is, and raises SIGBUS for the rest. */
static void what_others_changed(void **state)
{
	static uint64_t buf[WORDS];
	struct process p[2], q;
	int f;

	(void)state;
	serve(CACHE);
	make_files();
	for (unsigned i = 0; i < 2; i++) {
		map_all(&p[i], true);
	}
	OK(&p[0], STORE, 0, 100, 1, 2);
	kill_server();
	for (unsigned i = 0; i < 2; i++)
		stop(&p[i]);
	/* an area that they do not hold, for one that comes */
	assert_int_equal(run_faultline("mkswap --size 16M \"$BASE/store/swap/disk1\""), 0);
	serve(CACHE);
	f = open(in_base("mnt/files/data"), O_WRONLY | O_CLOEXEC);
	fill(buf, 200, 3);
	assert_int_equal(pwrite(f, buf, PG, 200 * PG), (ssize_t)PG);
	close(f);
	map_all(&q, true);
	for (unsigned i = 0; i < 2; i++)
		kill(p[i].pid, SIGCONT);
	for (unsigned i = 0; i < 2; i++) {
		OK(&p[i], CHECK, 0, 100, 1, 2);
		assert_int_equal(DO(&p[i], TOUCH, PAGES - 1, 0, 0, 0), 1);
		assert_int_equal(DO(&p[i], TOUCH, PAGES - 100, 0, 0, 0), 1);
	}
	OK(&p[0], STORE, 0, 50, 1, 4);
	OK(&p[1], CHECK, 0, 50, 1, 4);
	OK(&q, CHECK, 200, 1, 1, 3);
	OK(&q, CHECK, 201, PAGES - 201, 1, 1);
	OK(&q, STORE, 0, 10, 1, 5);
	/* mapped anew it is the file as it is */
	OK(&p[1], OPEN, 0, 0, 0, 0);
	OK(&p[1], MORE, 0, PAGES, 0, 0);
	OK(&p[1], CHECK, 0, 10, 1, 5);
	OK(&p[1], CHECK, 200, 1, 1, 3);
	OK(&p[1], STORE, 10, 10, 1, 6);
	OK(&q, CHECK, 10, 10, 1, 6);
	finish(&p[0]);
	finish(&p[1]);
	finish(&q);
	check_file("mnt/files/data", 10, 10, 1, 6);
	check_file("mnt/files/data", 200, 1, 1, 3);
}

/* --- throughout --- */

#define OWNERS 3U
#define STEADY 900U	/* pages; each has an owner, who alone stores there */
#define MORE_PAGES 100U /* that nobody needs before the end */

/* What everybody knows of a page: in memory of the kernel's. */
struct shadow {
	uint32_t stop;
	struct {
		uint32_t begun, done; /* versions */
	} page[STEADY];
};

static struct shadow *shadow;

/* Every word is of one version of these. */
static void compare(const char *what, const uint64_t *p, uint64_t page, uint32_t low, uint32_t high)
{
	for (size_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&p[i], __ATOMIC_RELAXED);
		uint32_t v = low;

		while (v <= high && have != word(page, v, i))
			v++;
		if (v > high) {
			fprintf(stderr, "%s: page %lu word %zu: %016lx, not of version %u to %u\n",
				what, (unsigned long)page, i, (unsigned long)have, low, high);
			_exit(9);
		}
	}
}

/* Between two servers a page that is not there raises SIGBUS: it is stored to, or looked at, again. */
static void store_own(uint64_t page)
{
	uint32_t v = get(&shadow->page[page].done) + 1;

	set(&shadow->page[page].begun, v);
	while (sigsetjmp(escape, 1) != 0)
		poll(NULL, 0, 1); /* it is raised again and again: let others run */
	fill(at(page), page, get(&shadow->page[page].begun));
	set(&shadow->page[page].done, get(&shadow->page[page].begun));
}

static void look_at(const char *what, uint64_t page, bool own)
{
	uint32_t low;

	while (sigsetjmp(escape, 1) != 0)
		poll(NULL, 0, 1);
	low = get(&shadow->page[page].done);
	if (own) {
		compare(what, at(page), page, low, low);
	} else {
		uint64_t have = __atomic_load_n(at(page), __ATOMIC_SEQ_CST);

		if (have < word(page, low, 0) ||
		    have > word(page, get(&shadow->page[page].begun), 0)) {
			fprintf(stderr, "%s: page %lu: version %lu, not %u to %u\n", what,
				(unsigned long)page, (unsigned long)(have & UINT32_MAX), low,
				get(&shadow->page[page].begun));
			_exit(9);
		}
	}
}

static int64_t throughout(uint64_t id, uint64_t seed)
{
	rng = seed;
	while (!get(&shadow->stop)) {
		uint64_t page = next() % (STEADY / OWNERS) * OWNERS + id;

		if (next() % 3 != 0)
			store_own(page);
		else if (next() % 2 != 0)
			look_at("own", page, true);
		else
			look_at("another's", next() % STEADY, false);
		/* when there is no server it fails */
		if (next() % 500 == 0)
			fl_msync(fl, at(page), PG, MS_SYNC);
	}
	return 0;
}

static void check_shadow(const char *file)
{
	int f = open(in_base(file), O_RDONLY | O_CLOEXEC);
	static uint64_t buf[WORDS];

	assert_true(f >= 0);
	for (uint64_t page = 0; page < STEADY; page++) {
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		compare(file, buf, page, shadow->page[page].done, shadow->page[page].done);
	}
	close(f);
}

/*
 * Servers are killed, or end, and come at any time, some while they take over, and others whose cache
 * holds a part of the pages only.
 */
static void stored_throughout(void **state)
{
	uint64_t seed = 1, rounds = 4;
	struct process p[OWNERS];

	(void)state;
	number_of("FL_STORE_SEED", &seed);
	number_of("FL_STORE_ROUNDS", &rounds);
	rng = seed;
	shadow = mmap(NULL, sizeof(*shadow), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(shadow, MAP_FAILED);
	for (unsigned i = 0; i < STEADY; i++)
		shadow->page[i].begun = shadow->page[i].done = 1;
	serve(CACHE);
	make_file(STEADY + MORE_PAGES);
	for (unsigned i = 0; i < OWNERS; i++) {
		start_mapped(&p[i], 1, STEADY + MORE_PAGES);
		OK(&p[i], SHUT, 0, 0, 0, 0);
		tell(&p[i], (struct order){RUN, i, 0, 0, next()});
	}
	for (uint64_t i = 0; i < rounds; i++) {
		struct pollfd f = {.fd = p[i % OWNERS].sock, .events = POLLIN};

		/* so long it lives, unless one finds something wrong; programs come before long */
		if (poll(&f, 1, (int)(next() % 500)) != 0)
			fail_msg("seed %lu: process %u has ended", (unsigned long)seed,
				 (unsigned)(i % OWNERS));
		if (i % 2 == 0)
			again(i % 3 == 1 ? "cache=2M" : CACHE);
		else
			again_in_order(i % 3 == 1 ? "cache=2M" : CACHE);
	}
	/* everybody stores something more with the last one */
	for (unsigned i = 0; i < OWNERS; i++) {
		uint32_t v = get(&shadow->page[i].done);

		until(get(&shadow->page[i].done) != v);
	}
	set(&shadow->stop, 1);
	for (unsigned i = 0; i < OWNERS; i++)
		assert_int_equal(hear(&p[i]), 0);
	for (unsigned i = 0; i < OWNERS; i++)
		await_paged(&p[i], STEADY + MORE_PAGES);
	check_shadow("mnt/files/data");
	/* nothing is given back: it is all the server's */
	for (unsigned i = 0; i < OWNERS; i++)
		kill_it(&p[i]);
	check_shadow("mnt/files/data");
	assert_int_equal(unmount(), 0);
	check_shadow("store/files/data");
	munmap(shadow, sizeof(*shadow));
	serve(CACHE);
}

/* A copy of cat(1) with room behind it: how many pages. */
static uint64_t make_executable(uint64_t room)
{
	int in = open("/bin/cat", O_RDONLY | O_CLOEXEC);
	int out = open(in_base("store/files/data"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	static char buf[PG];
	uint64_t pages = room;
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	for (; (n = read(in, buf, PG)) > 0; pages++)
		assert_int_equal(write(out, buf, (size_t)n), n);
	assert_int_equal(ftruncate(out, (off_t)(pages * PG)), 0);
	close(in);
	close(out);
	return pages;
}

/* Run it until its input, *to, is closed. */
static pid_t execute(int *to)
{
	int in[2], out[2];
	pid_t pid;
	char c = 'x';

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(in_base("mnt/files/data"), "cat", NULL);
		_exit(1);
	}
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], &c, 1), 1);
	assert_int_equal(read(out[0], &c, 1), 1);
	close(out[0]);
	*to = in[1];
	return pid;
}

#define ROOM_BEHIND 1500UL
/* A touch that is not answered by then waits: longer than any answer takes, less than TAKE_NS. */
#define WAITS_MS 3000

/* A file that is executed before its client comes to the next server is taken when that is over. */
static void one_that_is_executed(void **state)
{
	uint64_t pages, away, buf[WORDS];
	struct process p;
	int to, status;
	pid_t pid;

	(void)state;
	serve(CACHE);
	pages = make_executable(ROOM_BEHIND);
	start(&p);
	OK(&p, MAP, 0, pages, 0, 1);
	OK(&p, SHUT, 0, 0, 0, 0);
	OK(&p, ADVISE, 0, pages, 0, MADV_RANDOM);
	OK(&p, PUT, pages - 1, 0, 7, 1234);
	OK(&p, WORD, pages - 2, 0, 7, 0);
	kill_server();
	OK(&p, PUT, pages - 2, 0, 7, 2345);
	/* its pager has let go of the words */
	OK(&p, ADVISE, 0, 1, 0, MADV_NORMAL);
	stop(&p);
	serve(CACHE);
	pid = execute(&to);
	kill(p.pid, SIGCONT);
	OK(&p, PUT, pages - 2, 0, 8, 3456);
	/* until it has come to the server, and asks for the file, what is not there raises SIGBUS */
	for (away = pages - 10;; away--) {
		struct pollfd f = {.fd = p.sock, .events = POLLIN};

		assert_true(away > pages - ROOM_BEHIND + 10);
		tell(&p, (struct order){WORD, away, 0, 7, 0});
		if (poll(&f, 1, WAITS_MS) == 0)
			break;
		assert_int_equal(hear(&p), -EFAULT);
		poll(NULL, 0, 10);
	}
	close(to);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(hear(&p), 0);
	await_paged(&p, pages);
	page_of("store/files/data", pages - 1, buf);
	assert_int_equal(buf[7], 1234);
	page_of("store/files/data", pages - 2, buf);
	assert_int_equal(buf[7], 2345);
	assert_int_equal(buf[8], 3456);
	finish(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(mappings_go_on, begin, end),
		cmocka_unit_test_setup_teardown(as_it_was_mapped, begin, end),
		cmocka_unit_test_setup_teardown(children, begin, end),
		cmocka_unit_test_setup_teardown(one_that_is_stopped, begin, end),
		cmocka_unit_test_setup_teardown(one_that_is_executed, begin, end),
		cmocka_unit_test_setup_teardown(one_that_reads, begin, end),
		cmocka_unit_test_setup_teardown(what_others_changed, begin, end),
		cmocka_unit_test_setup_teardown(stored_throughout, begin, end),
	};

	shared_run = throughout;
	RUN_TESTS(argc, argv, tests);
}
