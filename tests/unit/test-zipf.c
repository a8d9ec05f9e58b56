/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-zipf.c - the numbers that the benchmark draws are distributed as it says.
 */
#include "test.h"

#include "zipf.h"

#define N 200U
#define DRAWS 2000000U

static uint64_t word(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* Chi-squared over all numbers; for 199 degrees of freedom 280 is passed once in ten thousand runs. */
static double chi_squared(double s, uint64_t seed)
{
	static double seen[N + 1];
	double all = 0, sum = 0;
	struct zipf z;

	zipf_init(&z, N, s);
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t k = zipf_next(&z, word, &seed);

		assert_in_range(k, 1, N);
		seen[k]++;
	}
	for (unsigned k = 1; k <= N; k++)
		all += pow(k, -s);
	for (unsigned k = 1; k <= N; k++) {
		double want = DRAWS * pow(k, -s) / all;

		sum += (seen[k] - want) * (seen[k] - want) / want;
	}
	return sum;
}

static void is_zipf(void **state)
{
	(void)state;
	assert_true(chi_squared(0.99, 88172645463325252ULL) < 280);
	assert_true(chi_squared(0.5, 4711) < 280);
	assert_true(chi_squared(1.5, 42) < 280);
}

static void pages_are_a_permutation(void **state)
{
	static const uint64_t sizes[] = {1, 2, 3, 200, 4096, 65536, 65521};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		static unsigned char seen[65536];
		struct zipf z;

		zipf_init(&z, sizes[i], 0.99);
		memset(seen, 0, sizeof(seen));
		for (uint64_t k = 1; k <= sizes[i]; k++) {
			uint64_t p = zipf_page(&z, k);

			assert_true(p < sizes[i]);
			assert_int_equal(seen[p], 0);
			seen[p] = 1;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_zipf),
		cmocka_unit_test(pages_are_a_permutation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
