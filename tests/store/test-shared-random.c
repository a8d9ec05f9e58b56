/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-random.c - processes that share a file of a store do everything
 * with it at random, and are killed, or their server is; what they find is
 * compared with a shadow.
 *
 * FL_STORE_SEED takes another course of things, FL_STORE_ROUNDS more of them.
 *
 * usage: test-shared-random [TEST]
 */
#include "shared.h"

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
static int host_fd;

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
		start_mapped(&p[i], 1, STEADY + TAIL);
		tell(&p[i], (struct order){RUN, i, 0, 0, next()});
	}
}

/* Until a process that is killed has ended, and so has the child that it left, if it left one. */
static void await_family(int sock)
{
	struct pollfd f = {.fd = sock, .events = POLLIN};
	int64_t r;

	/* the socket ends with the last who has it */
	do
		assert_int_equal(poll(&f, 1, HANG_SECONDS * 1000), 1);
	while (read(sock, &r, sizeof(r)) > 0);
}

/*
 * With the server they all end, their children, too: these would bring what they have mapped to
 * the next server, where the file is another one.
 */
static void end_all(struct process p[OWNERS])
{
	set(&shadow->quiet, 1);
	kill_server();
	for (unsigned k = 0; k < OWNERS; k++) {
		kill(p[k].pid, SIGKILL);
		await_family(p[k].sock);
		kill_it(&p[k]);
	}
	/* what is not right from here on is said */
	set(&shadow->quiet, 0);
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
	int *killed;

	(void)state;
	number_of("FL_STORE_ROUNDS", &rounds);
	killed = calloc(rounds, sizeof(*killed));
	assert_non_null(killed);
	serve("cache=3M");
	begin_torture(p, &seed);
	for (uint64_t i = 0; i < rounds; i++) {
		unsigned k = (unsigned)(next() % OWNERS);
		struct pollfd f = {.fd = p[k].sock, .events = POLLIN};

		/* so long it lives, unless it finds something wrong */
		if (poll(&f, 1, (int)(next() % 300)) != 0)
			fail_msg("seed %lu: process %u has ended", (unsigned long)seed, k);
		killed[i] = fcntl(p[k].sock, F_DUPFD_CLOEXEC, 3);
		assert_true(killed[i] >= 0);
		kill_it(&p[k]);
		start_mapped(&p[k], 1, STEADY + TAIL);
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
	/* children that were left have the file open */
	for (uint64_t i = 0; i < rounds; i++) {
		await_family(killed[i]);
		close(killed[i]);
	}
	free(killed);
	assert_int_equal(unmount(), 0);
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
		end_all(p);
		check_shadow("store/files/data", false);
		munmap(shadow, sizeof(*shadow));
		seed += 100;
	}
	serve(CACHE);
}

/* The same, but that one process is left, which had it all mapped: nothing that was stored is lost. */
static void stored_is_kept(void **state)
{
	uint64_t seed = 7, rounds = 3;

	(void)state;
	number_of("FL_STORE_ROUNDS", &rounds);
	for (uint64_t i = 0; i < rounds; i++) {
		struct process p[OWNERS], holder;

		serve("cache=3M");
		begin_torture(p, &seed);
		start_mapped(&holder, 1, STEADY + TAIL);
		poll(NULL, 0, (int)(next() % 500));
		for (unsigned k = 0; k < OWNERS; k++)
			stop(&p[k]);
		/* children of theirs may be reading */
		end_all(p);
		serve("cache=3M");
		finish(&holder);
		check_shadow("mnt/files/data", true);
		assert_int_equal(unmount(), 0);
		check_shadow("store/files/data", true);
		munmap(shadow, sizeof(*shadow));
		seed += 100;
	}
	serve(CACHE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_at_once, begin, end),
		cmocka_unit_test_setup_teardown(synced_is_kept, begin, end),
		cmocka_unit_test_setup_teardown(stored_is_kept, begin, end),
	};

	shared_run = torture;
	RUN_TESTS(argc, argv, tests);
}
