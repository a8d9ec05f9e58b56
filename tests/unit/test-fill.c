/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Same-filled pages: a word is kept once and counted, its index holds as long
 * as it has pages and is used again after; one wrong bit makes a page another.
 */
#include "test.h"

#include "rnd.h"
#include "fill.h"
#include "sys.h"

#define WORDS 3000U

static void words_are_kept_once_and_counted(void **state)
{
	static uint64_t word[WORDS];
	static uint32_t index[WORDS], count[WORDS];
	struct fill_table t;
	uint32_t highest;

	(void)state;
	seed = 12345;
	fill_init(&t);
	for (unsigned i = 0; i < WORDS; i++)
		word[i] = i % 2 ? rnd64() : (uint64_t)i + 1;
	for (unsigned k = 0; k < 200000; k++) {
		unsigned i = rnd(WORDS);

		if (count[i] != 0 && rnd(2)) {
			fill_put(&t, index[i]);
			count[i]--;
		} else {
			uint32_t at = fill_get(&t, word[i]);

			assert_true(at != FILL_NONE && at != 0);
			if (count[i] != 0)
				assert_int_equal(at, index[i]);
			index[i] = at;
			count[i]++;
		}
		i = rnd(WORDS);
		if (count[i] != 0) {
			assert_true(fill_word(&t, index[i]) == word[i]);
			assert_int_equal(t.word[index[i]].count, count[i]);
		}
	}
	/* no more places than words, so each was kept once and freed places were used again */
	highest = t.used;
	assert_true(highest <= WORDS + 1);
	for (unsigned i = 0; i < WORDS; i++)
		while (count[i] != 0) {
			fill_put(&t, index[i]);
			count[i]--;
		}
	for (unsigned i = 0; i + 1 < highest; i++)
		assert_true(fill_get(&t, rnd64() | 1) < highest);
	assert_int_equal(t.used, highest);
	fill_fini(&t);
}

static void the_zero_word_takes_no_memory(void **state)
{
	struct fill_table t;

	(void)state;
	fill_init(&t);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(fill_get(&t, 0), 0);
	assert_null(t.word);
	assert_true(fill_word(&t, 0) == 0);
	for (unsigned i = 0; i < 2000; i++)
		fill_put(&t, 0);
	assert_int_equal(fill_get(&t, 7), 1);
	fill_put(&t, 0);
	assert_int_equal(fill_get(&t, 0), 0);
	assert_true(fill_word(&t, 1) == 7);
	fill_fini(&t);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void without_memory_the_table_stays(void **state)
{
	sys_fn bare = sys_table[SYSROW_mmap].fn;
	struct fill_table t;
	uint32_t at, n = 0;

	(void)state;
	fill_init(&t);
	sys_table[SYSROW_mmap].fn = no_memory;
	assert_int_equal(fill_get(&t, 1), FILL_NONE);
	sys_table[SYSROW_mmap].fn = bare;
	assert_int_equal(fill_get(&t, 1), 1);
	sys_table[SYSROW_mmap].fn = no_memory;
	for (uint64_t w = 2; (at = fill_get(&t, w)) != FILL_NONE; w++)
		n = at;
	assert_int_equal(n, t.cap - 1);
	for (uint32_t i = 1; i <= n; i++)
		assert_true(fill_word(&t, i) == i);
	/* what is known, and freed places, are still to be had */
	assert_int_equal(fill_get(&t, 5), 5);
	fill_put(&t, 9);
	assert_int_equal(fill_get(&t, 12345), 9);
	assert_int_equal(fill_get(&t, 12346), FILL_NONE);
	sys_table[SYSROW_mmap].fn = bare;
	assert_int_equal(fill_get(&t, 12346), n + 1);
	for (uint32_t i = 1; i <= n; i++)
		assert_true(fill_word(&t, i) == (i == 9 ? 12345 : i));
	fill_fini(&t);
}

static void one_bit_makes_a_difference(void **state)
{
	static uint64_t page[512] __attribute__((aligned(4096)));
	static const uint64_t words[] = {0, UINT64_MAX, 0x0123456789abcdef, 1};
	uint64_t got;

	(void)state;
	for (unsigned w = 0; w < 4; w++) {
		for (unsigned i = 0; i < 512; i++)
			page[i] = words[w];
		got = 99;
		assert_true(fill_check(page, &got));
		assert_true(got == words[w]);
		for (unsigned i = 0; i < 512; i++) {
			for (unsigned bit = 0; bit < 64; bit += 9) {
				page[i] ^= (uint64_t)1 << bit;
				assert_false(fill_check(page, &got));
				page[i] ^= (uint64_t)1 << bit;
			}
		}
		assert_true(fill_check(page, &got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_kept_once_and_counted),
		cmocka_unit_test(the_zero_word_takes_no_memory),
		cmocka_unit_test(without_memory_the_table_stays),
		cmocka_unit_test(one_bit_makes_a_difference),
	};

	return cmocka_run_group_tests_name("fill", tests, NULL, NULL);
}
