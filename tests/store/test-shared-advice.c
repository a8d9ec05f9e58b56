/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-advice.c - madvise(2) and mlock(2) of shared mappings that the
 * store's server pages: what is locked stays, whoever else wants memory; advice
 * does what it says, and keeps what was stored.
 *
 * usage: test-shared-advice [TEST]
 */
#include "shared.h"

#include <time.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define LOCK_ALL 0, 0
#define CROWD 1000UL /* pages before those that crowd the cache */

/* All that is behind them comes, and what nobody touches or locks leaves. */
static void crowd(const struct process *p)
{
	for (unsigned i = 0; i < 2; i++)
		OK(p, CHECK, CROWD, PAGES - CROWD, 1, 1);
}

static int64_t cached(const struct process *p, uint64_t page, uint64_t n)
{
	return DO(p, CACHED, page, n, 0, 0);
}

/* Some of these leave; not at once, for scans take what they brought themselves first. */
static void crowd_out(const struct process *p, uint64_t page, uint64_t n)
{
	until((crowd(p), cached(p, page, n)) < (int64_t)n);
}

static void what_is_locked_stays(void **state)
{
	struct process p[2], c;

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], LOCK, 0, 200, LOCK_ALL);
	assert_int_equal(cached(&p[0], 0, 200), 200);
	assert_int_equal(DO(&p[0], LOCKED, 0, 0, 0, 0), 200 * 4);
	OK(&p[0], STORE, 0, 100, 1, 2);
	crowd(&p[1]);
	assert_int_equal(cached(&p[1], 0, 200), 200);
	/* it is locked as long as anybody locks it */
	OK(&p[1], LOCK, 100, 200, LOCK_ALL);
	OK(&p[0], UNLOCK, 0, 200, 0, 0);
	assert_int_equal(DO(&p[0], LOCKED, 0, 0, 0, 0), 0);
	/* what was written a moment ago stays for that moment */
	crowd_out(&p[1], 0, 100);
	assert_int_equal(cached(&p[0], 100, 200), 200);
	/* a child locks nothing, and one that was killed neither */
	c = child_of(&p[1]);
	assert_int_equal(DO(&c, LOCKED, 0, 0, 0, 0), 0);
	crowd(&c);
	assert_int_equal(cached(&c, 100, 200), 200);
	kill_it(&p[1]);
	crowd_out(&c, 100, 200);
	OK(&c, CHECK, 0, 100, 1, 2);
	OK(&p[0], CHECK, 0, 100, 1, 2);
	kill_it(&c);
	finish(&p[0]);
}

static void locks_come_with_mappings(void **state)
{
	struct process p[2], q;

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], MORE, 0, 100, 0, MAP_POPULATE);
	assert_int_equal(cached(&p[0], 0, 100), 100);
	OK(&p[0], MORE, 200, 100, 0, MAP_LOCKED);
	assert_int_equal(cached(&p[0], 200, 100), 100);
	assert_int_equal(DO(&p[0], LOCKED, 0, 0, 0, 0), 100 * 4);
	OK(&p[0], UNLOCK, 250, 50, 0, 0);
	crowd_out(&p[1], 250, 50);
	assert_int_equal(cached(&p[0], 200, 50), 50);
	/* it moves and grows with it */
	start(&q);
	OK(&q, MAP, 300, 50, 0, 1);
	OK(&q, LOCK, 300, 50, LOCK_ALL);
	OK(&q, MOVE, 0, 60, 0, 0);
	assert_int_equal(DO(&q, LOCKED, 0, 0, 0, 0), 60 * 4);
	OK(&q, CHECK, 300, 60, 1, 1);
	crowd(&p[1]);
	assert_int_equal(cached(&q, 300, 60), 60);
	finish(&q);
	/* on fault: nothing comes, but what came stays */
	OK(&p[0], LOCK, 500, 100, 0, MLOCK_ONFAULT);
	assert_true(cached(&p[0], 500, 100) < 100);
	OK(&p[0], CHECK, 500, 100, 1, 1);
	crowd(&p[1]);
	assert_int_equal(cached(&p[0], 500, 100), 100);
	/* what is mapped over is not locked any more */
	OK(&p[0], COVER, 200, 50, 0, 0);
	OK(&p[0], UNMAP, 500, 100, 0, 0);
	crowd_out(&p[1], 200, 50);
	crowd_out(&p[1], 500, 100);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* A part of the cache stays for who locks nothing. */
static void too_much_cannot_be_locked(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	assert_int_equal(DO(&p[0], LOCK, 0, 2000, LOCK_ALL), -ENOMEM);
	assert_int_equal(DO(&p[0], LOCKED, 0, 0, 0, 0), 0);
	assert_int_equal(DO(&p[0], MORE, 0, 2000, 0, MAP_LOCKED), -EAGAIN);
	OK(&p[0], MAP, 0, PAGES, 0, 1);
	/* what several lock is there once; what one of them has is not lost when it wants more */
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], LOCK, 0, 500, LOCK_ALL);
	assert_int_equal(DO(&p[0], LOCK, 200, 1000, LOCK_ALL), -ENOMEM);
	assert_int_equal(DO(&p[0], LOCKED, 0, 0, 0, 0), 500 * 4);
	OK(&p[1], UNLOCK, 0, 500, 0, 0);
	crowd(&p[1]);
	assert_int_equal(cached(&p[0], 0, 500), 500);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

static void advice_is_followed(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, "cache=32M");
	OK(&p[0], ADVISE, 0, 1000, 0, MADV_RANDOM);
	OK(&p[0], CHECK, 500, 1, 1, 1);
	assert_int_equal(cached(&p[0], 400, 200), 1);
	/* of this one's mapping only */
	OK(&p[1], ADVISE, 0, 1000, 0, MADV_SEQUENTIAL);
	OK(&p[1], CHECK, 700, 1, 1, 1);
	until(cached(&p[0], 700, 100) >= 16);
	OK(&p[0], ADVISE, 0, 1000, 0, MADV_NORMAL);
	OK(&p[0], ADVISE, 1000, 100, 0, MADV_WILLNEED);
	until(cached(&p[0], 1000, 100) == 100);
	OK(&p[0], ADVISE, 1200, 100, 0, MADV_POPULATE_READ);
	assert_int_equal(cached(&p[0], 1200, 100), 100);
	OK(&p[0], ADVISE, 1300, 100, 0, MADV_POPULATE_WRITE);
	assert_int_equal(cached(&p[0], 1300, 100), 100);
	OK(&p[1], CHECK, 1000, 500, 1, 1);
	assert_int_equal(DO(&p[0], ADVISE, 0, 100, 0, MADV_FREE), -EINVAL);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

static void advice_loses_nothing(void **state)
{
	static const int all[] = {MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED,
				  MADV_POPULATE_WRITE};
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		OK(&p[0], STORE, 0, 200, 1, 2 + i);
		OK(&p[0], ADVISE, 0, 200, 0, all[i]);
		OK(&p[0], CHECK, 0, 200, 1, 2 + i);
		OK(&p[1], CHECK, 0, 200, 1, 2 + i);
		/* while the other one stores */
		tell(&p[1], (struct order){STORE, 0, 200, 1, 20 + i});
		for (unsigned k = 0; k < 20; k++)
			OK(&p[0], ADVISE, 0, 200, 0, all[i]);
		assert_int_equal(hear(&p[1]), 0);
		OK(&p[0], CHECK, 0, 200, 1, 20 + i);
	}
	/* what another has mapped does not leave because this one says so */
	OK(&p[0], ADVISE, 300, 10, 0, MADV_POPULATE_READ);
	OK(&p[0], ADVISE, 300, 10, 0, MADV_PAGEOUT);
	assert_int_equal(cached(&p[0], 300, 10), 10);
	finish(&p[1]);
	OK(&p[0], ADVISE, 300, 10, 0, MADV_PAGEOUT);
	assert_int_equal(cached(&p[0], 300, 10), 0);
	/* what was stored is written, and then leaves, too */
	OK(&p[0], STORE, 300, 10, 1, 5);
	until(DO(&p[0], ADVISE, 300, 10, 0, MADV_PAGEOUT) == 0 && cached(&p[0], 300, 10) == 0);
	check_file("store/files/data", 300, 10, 1, 5);
	OK(&p[0], CHECK, 300, 10, 1, 5);
	finish(&p[0]);
}

static void removed_pages_are_holes(void **state)
{
	static uint64_t buf[WORDS];
	struct process p[3];

	(void)state;
	begin_mapped(p, 2, CACHE);
	start(&p[2]);
	OK(&p[2], MAP, 0, PAGES, 0, 0);
	assert_int_equal(DO(&p[2], ADVISE, 10, 10, 0, MADV_REMOVE), -EACCES);
	OK(&p[0], STORE, 0, 30, 1, 2);
	OK(&p[0], SYNC, 0, 5, 0, 0);
	OK(&p[0], ADVISE, 10, 10, 0, MADV_REMOVE);
	for (unsigned i = 0; i < 3; i++) {
		OK(&p[i], CHECK, 0, 10, 1, 2);
		OK(&p[i], CHECK, 20, 10, 1, 2);
		for (uint64_t page = 10; page < 20; page++)
			assert_int_equal(DO(&p[i], WORD, page, 0, page, 0), 0);
	}
	page_of("store/files/data", 12, buf);
	for (size_t i = 0; i < WORDS; i++)
		assert_true(buf[i] == 0);
	OK(&p[1], STORE, 15, 1, 1, 3);
	OK(&p[0], CHECK, 15, 1, 1, 3);
	OK(&p[0], LOCK, 10, 1, LOCK_ALL);
	assert_int_equal(DO(&p[0], ADVISE, 10, 10, 0, MADV_REMOVE), -EINVAL);
	assert_int_equal(DO(&p[0], ADVISE, 10, 10, 0, MADV_DONTNEED), -EINVAL);
	OK(&p[0], UNLOCK, 10, 1, 0, 0);
	OK(&p[0], CHECK, 15, 1, 1, 3);
	/* without a server nothing is promised but that what is there stays */
	kill_server();
	OK(&p[0], ADVISE, 0, 10, 0, MADV_WILLNEED);
	OK(&p[0], ADVISE, 0, 10, 0, MADV_PAGEOUT);
	OK(&p[0], LOCK, 0, 10, LOCK_ALL);
	assert_int_equal(DO(&p[0], LOCK, PAGES - 10, 10, LOCK_ALL), -ENOMEM);
	assert_int_equal(DO(&p[0], ADVISE, 20, 10, 0, MADV_REMOVE), -EIO);
	OK(&p[0], CHECK, 20, 10, 1, 2);
	serve(CACHE);
	for (unsigned i = 0; i < 3; i++)
		finish(&p[i]);
}

static int64_t counted(const char *name)
{
	return number_in(in_base("mnt/stats"), name);
}

/* Faults are the server's to count, of all programs. */
static void faults_are_counted(void **state)
{
	int64_t minor, major, came, written;
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], ADVISE, 0, PAGES, 0, MADV_RANDOM);
	minor = counted("cache_minor: ");
	major = counted("cache_major: ");
	came = counted("cache_read: ");
	written = counted("cache_written: ");
	OK(&p[0], CHECK, 0, 100, 1, 1);
	assert_int_equal(counted("cache_major: "), major + 100);
	assert_int_equal(counted("cache_read: "), came + 100);
	assert_int_equal(counted("cache_minor: "), minor);
	/* those that are cached come with their neighbours */
	OK(&p[1], CHECK, 0, 100, 1, 1);
	assert_int_equal(counted("cache_major: "), major + 100);
	assert_in_range(counted("cache_minor: "), minor + 1, minor + 100);
	OK(&p[1], STORE, 0, 10, 1, 2);
	OK(&p[1], SYNC, 0, 10, 0, 0);
	assert_int_equal(counted("cache_written: "), written + 10);
	assert_int_equal(counted("cache_read: "), came + 100);
	assert_int_equal(number_in(in_base("mnt/metrics"),
				   "faultline_store_cache_faults_total{kind=\"major\"} "),
			 major + 100);
	assert_int_equal(number_in(in_base("mnt/metrics"),
				   "faultline_store_cache_faults_total{kind=\"minor\"} "),
			 counted("cache_minor: "));
	assert_int_equal(
		number_in(in_base("mnt/metrics"), "faultline_store_cache_read_pages_total "),
		came + 100);
	assert_int_equal(
		number_in(in_base("mnt/metrics"), "faultline_store_cache_written_pages_total "),
		written + 10);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* fl_prefetch(): what it brings is there when it says so, and it says so whatever comes. */
static void brought_before_it_is_touched(void **state)
{
	struct process p[2];
	int64_t came;

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], ADVISE, 0, PAGES, 0, MADV_RANDOM);
	assert_int_equal(DO(&p[0], TRY, 500, 200, 0, 0), -EAGAIN);
	OK(&p[0], BRING_IN, 500, 200, 0, 0);
	OK(&p[0], CAME, 0, 0, 0, 0);
	assert_int_equal(cached(&p[0], 500, 200), 200);
	assert_int_equal(cached(&p[0], 0, PAGES), 200);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], TRY, 500, 200, 0, 0);
	came = counted("cache_read: ");
	OK(&p[0], CHECK, 500, 200, 1, 1);
	assert_int_equal(counted("cache_read: "), came);
	assert_int_equal(counted("cache_major: "), 0);
	/* what is there already; and behind the file's end */
	OK(&p[0], BRING_IN, 500, 200, 0, 0);
	OK(&p[0], CAME, 0, 0, 0, 0);
	assert_int_equal(truncate(in_base("mnt/files/data"), 2000 * PG), 0);
	OK(&p[0], BRING_IN, 1990, 500, 0, 0);
	OK(&p[0], CAME, 0, 0, 0, 0);
	assert_int_equal(cached(&p[0], 1990, 500), 10);
	OK(&p[0], BRING_IN, 2200, 100, 0, 0);
	OK(&p[0], CAME, 0, 0, 0, 0);
	/* of more than the cache holds a quarter of that comes */
	OK(&p[1], BRING_IN, 0, PAGES, 0, 0);
	OK(&p[1], CAME, 0, 0, 0, 0);
	assert_int_equal(cached(&p[1], 0, 250), 250);
	assert_true(cached(&p[1], 0, PAGES) <= 200 + 10 + 256);
	/* where all that the cache may hold is stored to without a pause, too */
	tell(&p[1], (struct order){STORE, 0, 1900, 1, 2});
	for (unsigned i = 0; i < 10; i++) {
		OK(&p[0], BRING_IN, i * 150, 500, 0, 0);
		OK(&p[0], CAME, 0, 0, 0, 0);
	}
	assert_int_equal(hear(&p[1]), 0);
	/* without a server nothing comes */
	kill_server();
	OK(&p[0], BRING_IN, 0, 2000, 0, 0);
	OK(&p[0], CAME, 0, 0, 0, 0);
	serve(CACHE);
	await_paged(&p[0], 1);
	OK(&p[0], CHECK, 0, 1900, 1, 2);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* fl_region_set() says what it cannot do, and changes nothing then. */
static void options_are_refused(void **state)
{
	struct process p;

	(void)state;
	begin_mapped(&p, 1, CACHE);
	for (int option = SET_NULL; option <= SET_ERROR; option++)
		assert_int_equal(DO(&p, SET, 100, 100, 0, (uint64_t)option),
				 option < SET_LIMIT ? 0 : -EOPNOTSUPP);
	/* of a part of a range, too; anonymous memory has them */
	OK(&p, COVER, 100, 50, 0, 0);
	for (int option = SET_LIMIT; option <= SET_ERROR; option++) {
		OK(&p, SET, 100, 50, 0, (uint64_t)option);
		assert_int_equal(DO(&p, SET, 100, 51, 0, (uint64_t)option), -EOPNOTSUPP);
		assert_int_equal(DO(&p, SET, 99, 51, 0, (uint64_t)option), -EOPNOTSUPP);
	}
	OK(&p, SET, 0, PAGES, 0, SET_NULL);
	finish(&p);
}

/* How many pages are there or read when a page was touched, of it and those behind it. */
static int64_t brought_by(const struct process *p, uint64_t page)
{
	OK(p, CHECK, page, 1, 1, 1);
	return DO(p, CACHED, page, 300, 0, 1);
}

/* A window and one ahead; the usual one is larger, and so are those ahead. */
#define BROUGHT_BY_LITTLE (2 * (int64_t)SET_WINDOW)
#define BROUGHT_USUALLY 200

/* Of this one's mapping only, wherever it is by then, of its child's, and for the next server. */
static void windows_of_mappings(void **state)
{
	static const char room[] = "cache=32M";
	struct process p[2], c;

	(void)state;
	begin_mapped(p, 2, room);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], ADVISE, 0, PAGES, 0, MADV_SEQUENTIAL);
	OK(&p[0], SET, 0, 2400, 0, SET_READAHEAD);
	assert_int_equal(brought_by(&p[0], 10), BROUGHT_BY_LITTLE);
	assert_true(brought_by(&p[0], 2400) > BROUGHT_USUALLY);
	c = child_of(&p[0]);
	assert_int_equal(brought_by(&c, 110), BROUGHT_BY_LITTLE);
	/* what was cut out, and mapped again, is as any; the rest goes along */
	OK(&p[0], MORE, 600, 600, 0, 0);
	OK(&p[0], ADVISE, 600, 600, 0, MADV_SEQUENTIAL);
	OK(&p[0], UNMAP, 590, 10, 0, 0);
	OK(&p[0], UNMAP, 1200, 10, 0, 0);
	assert_true(brought_by(&p[0], 600) > BROUGHT_USUALLY);
	assert_int_equal(brought_by(&p[0], 210), BROUGHT_BY_LITTLE);
	/* another server */
	kill_server();
	OK(&p[0], SET, 500, 50, 0, SET_NULL);
	serve(room);
	await_paged(&p[0], 10);
	await_paged(&c, 10);
	OK(&c, CHECK, 0, 1, 1, 1);
	assert_int_equal(brought_by(&p[0], 1310), BROUGHT_BY_LITTLE);
	assert_int_equal(brought_by(&c, 1410), BROUGHT_BY_LITTLE);
	assert_true(brought_by(&p[0], 500) > BROUGHT_USUALLY);
	OK(&c, SET, 0, 2400, 0, SET_DEFAULTS);
	assert_true(brought_by(&c, 1510) > BROUGHT_USUALLY);
	assert_int_equal(brought_by(&p[0], 2110), BROUGHT_BY_LITTLE);
	finish(&c);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

static void windows_move_along(void **state)
{
	struct process p;

	(void)state;
	serve("cache=32M");
	make_file(PAGES);
	start(&p);
	OK(&p, MAP, 0, 1000, 0, 1);
	OK(&p, ADVISE, 0, 1000, 0, MADV_SEQUENTIAL);
	OK(&p, SET, 0, 1000, 0, SET_READAHEAD);
	OK(&p, MOVE, 0, 2900, 0, 0);
	assert_int_equal(brought_by(&p, 10), BROUGHT_BY_LITTLE);
	assert_int_equal(brought_by(&p, 2000), BROUGHT_BY_LITTLE);
	finish(&p);
}

#define HOT_PAGES 200

/* While anybody wants it who has it mapped: whoever else crowds the cache. */
static void what_is_hot_stays(void **state)
{
	struct process p[2], c;

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], SET, 0, HOT_PAGES, 0, SET_HOT);
	OK(&p[1], SET, 0, HOT_PAGES, 0, SET_COLD);
	OK(&p[0], CHECK, 0, HOT_PAGES, 1, 1);
	crowd(&p[1]);
	assert_int_equal(cached(&p[0], 0, HOT_PAGES), HOT_PAGES);
	c = child_of(&p[0]);
	OK(&p[0], UNMAP, 0, HOT_PAGES, 0, 0);
	crowd(&p[1]);
	assert_int_equal(cached(&c, 0, HOT_PAGES), HOT_PAGES);
	/* the next server hears of it */
	kill_server();
	serve(CACHE);
	await_paged(&c, 10);
	await_paged(&p[1], 10);
	OK(&c, CHECK, 0, HOT_PAGES, 1, 1);
	crowd(&p[1]);
	assert_int_equal(cached(&c, 0, HOT_PAGES), HOT_PAGES);
	kill_it(&c);
	crowd_out(&p[1], 0, HOT_PAGES);
	OK(&p[1], SET, 0, HOT_PAGES, 0, SET_HOT);
	OK(&p[1], CHECK, 0, HOT_PAGES, 1, 1);
	crowd(&p[1]);
	assert_int_equal(cached(&p[1], 0, HOT_PAGES), HOT_PAGES);
	OK(&p[1], SET, 0, HOT_PAGES, 0, SET_NULL);
	crowd_out(&p[1], 0, HOT_PAGES);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* What one says does not take more than half of the cache from the others. */
static void not_all_can_be_hot(void **state)
{
	struct process p[2];
	int64_t came;

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], SET, 0, 2000, 0, SET_HOT);
	OK(&p[0], CHECK, 0, 2000, 1, 1);
	OK(&p[1], ADVISE, 0, PAGES, 0, MADV_RANDOM);
	for (unsigned i = 0; i < 50 && cached(&p[1], 2000, 300) < 300; i++)
		OK(&p[1], CHECK, 2000, 300, 1, 1);
	assert_int_equal(cached(&p[1], 2000, 300), 300);
	came = counted("cache_read: ");
	OK(&p[1], CHECK, 2000, 300, 1, 1);
	assert_int_equal(counted("cache_read: "), came);
	assert_true(cached(&p[1], 0, 2000) > 400);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_locked_stays, begin, end),
		cmocka_unit_test_setup_teardown(locks_come_with_mappings, begin, end),
		cmocka_unit_test_setup_teardown(too_much_cannot_be_locked, begin, end),
		cmocka_unit_test_setup_teardown(advice_is_followed, begin, end),
		cmocka_unit_test_setup_teardown(advice_loses_nothing, begin, end),
		cmocka_unit_test_setup_teardown(removed_pages_are_holes, begin, end),
		cmocka_unit_test_setup_teardown(faults_are_counted, begin, end),
		cmocka_unit_test_setup_teardown(brought_before_it_is_touched, begin, end),
		cmocka_unit_test_setup_teardown(options_are_refused, begin, end),
		cmocka_unit_test_setup_teardown(windows_of_mappings, begin, end),
		cmocka_unit_test_setup_teardown(windows_move_along, begin, end),
		cmocka_unit_test_setup_teardown(what_is_hot_stays, begin, end),
		cmocka_unit_test_setup_teardown(not_all_can_be_hot, begin, end),
	};

	RUN_TESTS(argc, argv, tests);
}
