/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-direct.c - a device stores into pages of a shared mapping long after
 * the read began: what it stores is neither lost nor left unwritten, whatever
 * became of the page meanwhile.
 *
 * The device is a filesystem whose reads end when they are told to (slow.c).
 *
 * usage: test-shared-direct [TEST]
 */
#include "shared.h"

#include "pagecache.h"

#include <sys/mount.h>
#include <time.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define LONG_KEPT "cache=1G" /* so that a page that was written is kept for as long as it ever is */
#define PAGE 5UL
#define OVER_NS 200000000 /* longer than it is in a small cache */

static int gate_fd = -1, begun_fd = -1;

static int begin_slow(void **state)
{
	const char *build = getenv("FL_BUILD");
	char line[4 * PATH_MAX];

	if (begin(state) != 0 || mkdir(in_base("slow"), 0755) != 0 ||
	    mkfifo(in_base("gate"), 0600) != 0 || mkfifo(in_base("begun"), 0600) != 0)
		return -1;
	gate_fd = open(in_base("gate"), O_RDWR | O_CLOEXEC);
	begun_fd = open(in_base("begun"), O_RDWR | O_CLOEXEC);
	snprintf(line, sizeof(line), "'%s/tests/store/slow' '%s/gate' '%s/begun' '%s/slow'",
		 build != NULL ? build : ".", base, base, base);
	return gate_fd < 0 || begun_fd < 0 || system(line) != 0;
}

static int end_slow(void **state)
{
	/* a read that a failed test left */
	for (unsigned i = 0; i < 4; i++)
		if (write(gate_fd, "g", 1) != 1)
			return -1;
	umount2(in_base("slow"), MNT_DETACH);
	close(gate_fd);
	close(begun_fd);
	return end(state);
}

/* A read into the page begins, and its device has been asked. */
static void bring(const struct process *p)
{
	struct pollfd f = {.fd = begun_fd, .events = POLLIN};
	char c;

	OK(p, BRING, PAGE, 0, 0, 0);
	assert_int_equal(poll(&f, 1, HANG_SECONDS * 1000), 1);
	assert_int_equal(read(begun_fd, &c, 1), 1);
}

static uint64_t version;	 /* that the page has */
static struct timespec begun_at; /* the round of a test: the page is written later */

static void begin_round(const struct process *p)
{
	clock_gettime(CLOCK_MONOTONIC, &begun_at);
	OK(p, STORE, PAGE, 1, 1, ++version);
	bring(p);
}

static int64_t ns_since(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000000000 + now.tv_nsec - since->tv_nsec;
}

/* Of what arrives later after the write nothing is promised: another round is to tell. */
static bool too_late(void)
{
	static unsigned rounds;

	if (ns_since(&begun_at) < RECENT_MAX)
		return false;
	assert_true(++rounds < HANG_SECONDS / 2);
	return true;
}

static void let_end(const struct process *p)
{
	assert_int_equal(write(gate_fd, "g", 1), 1);
	assert_int_equal(DO(p, BROUGHT, 0, 0, 0, 0), 4);
}

static bool has_arrived(const uint64_t *buf)
{
	return memcmp(buf, "slow", 4) == 0;
}

static void assert_is_written(void)
{
	static uint64_t buf[WORDS];

	page_of("store/files/data", PAGE, buf);
	assert_true(has_arrived(buf));
	/* and the rest is what it was */
	buf[0] = word(PAGE, version, 0);
	assert_int_equal(differs(buf, PAGE, version), WORDS);
}

static void assert_arrived(const struct process *p)
{
	uint64_t w = (uint64_t)DO(p, WORD, PAGE, 0, 0, 0);

	assert_true(has_arrived(&w));
}

static void start_some(struct process *p, unsigned n, const char *cache)
{
	begin_mapped(p, n, cache);
	version = 2;
	OK(&p[0], STORE, PAGE, 1, 1, version);
}

/* The page is written while the read is under way. */
static void what_arrives_after_a_sync_is_written(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, LONG_KEPT);
	do {
		begin_round(&p[0]);
		OK(&p[1], SYNC, 0, 10, 0, 0);
		check_file("store/files/data", PAGE, 1, 1, version);
		let_end(&p[0]);
	} while (too_late());
	for (unsigned i = 0; i < 2; i++)
		assert_arrived(&p[i]);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	assert_is_written();
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* Nobody syncs: it is written when nobody maps it any more. */
static void what_arrives_is_written_in_the_end(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, LONG_KEPT);
	do {
		begin_round(&p);
		OK(&p, SYNC, 0, 10, 0, 0);
		let_end(&p);
	} while (too_late());
	kill_it(&p);
	assert_int_equal(unmount(), 0);
	assert_is_written();
	serve(CACHE);
}

/* The page is to leave, and would if the read were not. */
static void what_is_read_into_does_not_leave(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, LONG_KEPT);
	do {
		begin_round(&p);
		until(DO(&p, ADVISE, 0, 10, 0, MADV_PAGEOUT) == 0 &&
		      is_of("store/files/data", PAGE, version));
		for (unsigned i = 0; i < 3; i++)
			OK(&p, ADVISE, 0, 10, 0, MADV_PAGEOUT);
		let_end(&p);
	} while (too_late());
	assert_arrived(&p);
	OK(&p, SYNC, 0, 10, 0, 0);
	assert_is_written();
	finish(&p);
}

/* What is locked is kept for as long as it takes, however small the cache is. */
static void what_is_locked_may_take_long(void **state)
{
	struct process p[2];
	struct timespec written;

	(void)state;
	start_some(p, 2, CACHE);
	OK(&p[0], LOCK, PAGE, 1, 0, 0);
	bring(&p[0]);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &written);
	do
		OK(&p[1], STORE, 1000, PAGES - 1000, 1, 3);
	while (ns_since(&written) < OVER_NS);
	let_end(&p[0]);
	for (unsigned i = 0; i < 2; i++)
		assert_arrived(&p[i]);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	assert_is_written();
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* The server is killed meanwhile, and another one takes the page over, writes it, and is told again. */
static void what_arrives_for_another_server(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, LONG_KEPT);
	/* it may take longer than a page is kept */
	OK(&p[0], LOCK, PAGE, 1, 0, 0);
	bring(&p[0]);
	kill_server();
	serve(LONG_KEPT);
	for (unsigned i = 0; i < 2; i++)
		until(DO(&p[i], TOUCH, PAGES - 1 - 100 * i, 0, 0, 0) == 0);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	check_file("store/files/data", PAGE, 1, 1, 2);
	OK(&p[1], ADVISE, 0, 10, 0, MADV_PAGEOUT);
	let_end(&p[0]);
	for (unsigned i = 0; i < 2; i++)
		assert_arrived(&p[i]);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	assert_is_written();
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* The same over three servers, that end in order: a frame that is read into is nobody's to exchange. */
static void what_arrives_when_servers_have_ended(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, LONG_KEPT);
	OK(&p[0], LOCK, PAGE, 1, 0, 0);
	bring(&p[0]);
	kill_server();
	for (unsigned round = 0; round < 2; round++) {
		if (round != 0)
			assert_int_equal(unmount(), 0);
		serve(LONG_KEPT);
		for (unsigned i = 0; i < 2; i++)
			until(DO(&p[i], TOUCH, PAGES - 1 - 100 * i - 500 * round, 0, 0, 0) == 0);
	}
	let_end(&p[0]);
	for (unsigned i = 0; i < 2; i++)
		assert_arrived(&p[i]);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	assert_is_written();
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_arrives_after_a_sync_is_written, begin_slow,
						end_slow),
		cmocka_unit_test_setup_teardown(what_arrives_is_written_in_the_end, begin_slow,
						end_slow),
		cmocka_unit_test_setup_teardown(what_is_read_into_does_not_leave, begin_slow,
						end_slow),
		cmocka_unit_test_setup_teardown(what_is_locked_may_take_long, begin_slow, end_slow),
		cmocka_unit_test_setup_teardown(what_arrives_for_another_server, begin_slow,
						end_slow),
		cmocka_unit_test_setup_teardown(what_arrives_when_servers_have_ended, begin_slow,
						end_slow),
	};

	RUN_TESTS(argc, argv, tests);
}
