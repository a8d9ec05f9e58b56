/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What left and was touched again: pages that come back before as many others left as
 * there are frames count, however many there are and however often they are looked at;
 * what comes later does not; and what is no longer so is forgotten.
 */
#include "test.h"

#include "workingset.h"

#include <stdlib.h>

static struct workingset *ws;

static int setup(void **state)
{
	(void)state;
	ws = calloc(1, sizeof(*ws));
	return ws == NULL;
}

static int teardown(void **state)
{
	(void)state;
	free(ws);
	return 0;
}

static void leave(enum ws_kind kind, uint64_t from, uint64_t n, uint64_t frames)
{
	for (uint64_t i = from; i < from + n; i++)
		workingset_left(ws, kind, i, frames);
}

static void come(enum ws_kind kind, uint64_t from, uint64_t n, uint64_t frames)
{
	for (uint64_t i = from; i < from + n; i++)
		workingset_came(ws, kind, i, frames);
}

static void nothing_left_yet(void **state)
{
	(void)state;
	come(WS_MEMORY, 0, 1000, 1000);
	assert_int_equal(workingset_again(ws, WS_MEMORY), 0);
	assert_int_equal(workingset_again(ws, WS_FILES), 0);
}

static void a_scan_does_not_come_again(void **state)
{
	(void)state;
	leave(WS_FILES, 0, 10000, 1000);
	assert_int_equal(workingset_again(ws, WS_FILES), 0);
}

static const uint64_t sizes[] = {100, 1000, 100000, 10000000};

/* Of runs of a tenth of the frames the first `part` of ten pages come back. */
static void runs(uint64_t frames, unsigned part, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t at = i * frames;

		leave(WS_MEMORY, at, frames / 10, frames);
		come(WS_MEMORY, at, frames / 100 * part, frames);
	}
}

static void it_is_told_of_any_size(void **state)
{
	(void)state;
	for (unsigned s = 0; s < 4; s++) {
		memset(ws, 0, sizeof(*ws));
		runs(sizes[s], 10, 20);
		assert_true(workingset_again(ws, WS_MEMORY) > WS_ONE * 9 / 10);
		memset(ws, 0, sizeof(*ws));
		runs(sizes[s], 5, 20);
		assert_in_range(workingset_again(ws, WS_MEMORY), WS_ONE * 3 / 10, WS_ONE * 7 / 10);
		assert_int_equal(workingset_again(ws, WS_FILES), 0);
	}
}

/* As many as there are frames may leave before it is too late, and a tenth more may not. */
static void what_comes_late_does_not_count(void **state)
{
	(void)state;
	for (unsigned s = 1; s < 4; s++) {
		const uint64_t n = sizes[s];

		memset(ws, 0, sizeof(*ws));
		for (unsigned i = 0; i < 4; i++) {
			leave(WS_FILES, 0, n / 10, n);
			leave(WS_MEMORY, i * n, n / 10 * 8, n);
			come(WS_FILES, 0, n / 10, n);
		}
		assert_true(workingset_again(ws, WS_FILES) > WS_ONE * 8 / 10);
		memset(ws, 0, sizeof(*ws));
		for (unsigned i = 0; i < 4; i++) {
			leave(WS_FILES, 0, n / 10, n);
			leave(WS_MEMORY, i * n, n / 10 * 11, n);
			come(WS_FILES, 0, n / 10, n);
		}
		assert_int_equal(workingset_again(ws, WS_FILES), 0);
	}
}

static void what_is_touched_while_it_waits_counts(void **state)
{
	(void)state;
	leave(WS_FILES, 0, 100, 1000);
	for (uint64_t i = 1000; i < 1100; i++)
		workingset_stays(ws, WS_FILES, i, 1000);
	assert_in_range(workingset_again(ws, WS_FILES), WS_ONE * 4 / 10, WS_ONE * 6 / 10);
}

/* A page that came back and left again is a page that left. */
static void it_comes_once(void **state)
{
	(void)state;
	leave(WS_MEMORY, 0, 100, 1000);
	for (unsigned i = 0; i < 10; i++)
		come(WS_MEMORY, 0, 50, 1000);
	assert_in_range(workingset_again(ws, WS_MEMORY), WS_ONE * 4 / 10, WS_ONE * 6 / 10);
}

static void bring(uint64_t from, uint64_t n, uint64_t frames)
{
	for (uint64_t i = from; i < from + n; i++)
		workingset_brought(ws, i, frames);
}

/* What a stream brings is either new, or left a short time before; the files' count has that, too. */
static void it_is_told_what_streams_bring(void **state)
{
	(void)state;
	bring(0, 1000, 1000);
	assert_int_equal(workingset_again(ws, WS_STREAMS), 0);
	for (unsigned i = 0; i < 4; i++) {
		leave(WS_FILES, 0, 500, 1000);
		bring(0, 500, 1000);
	}
	assert_true(workingset_again(ws, WS_STREAMS) > WS_ONE * 3 / 4);
	assert_true(workingset_again(ws, WS_FILES) > WS_ONE * 3 / 4);
	bring(5000, 500, 1000);
	assert_true(workingset_again(ws, WS_STREAMS) < WS_ONE / 4);
}

/* What was in use leaves for good: half of what there are frames is enough to tell. */
static void what_is_no_longer_so_is_forgotten(void **state)
{
	(void)state;
	for (unsigned s = 1; s < 4; s++) {
		const uint64_t n = sizes[s];

		memset(ws, 0, sizeof(*ws));
		runs(n, 10, 50);
		leave(WS_MEMORY, 1000 * n, n / 2, n);
		assert_true(workingset_again(ws, WS_MEMORY) < WS_ONE / 4);
		runs(n, 10, 10);
		assert_true(workingset_again(ws, WS_MEMORY) > WS_ONE * 3 / 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_left_yet, setup, teardown),
		cmocka_unit_test_setup_teardown(a_scan_does_not_come_again, setup, teardown),
		cmocka_unit_test_setup_teardown(it_is_told_of_any_size, setup, teardown),
		cmocka_unit_test_setup_teardown(what_comes_late_does_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_touched_while_it_waits_counts, setup,
						teardown),
		cmocka_unit_test_setup_teardown(it_comes_once, setup, teardown),
		cmocka_unit_test_setup_teardown(it_is_told_what_streams_bring, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_no_longer_so_is_forgotten, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
