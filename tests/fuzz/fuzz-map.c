/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps of slots that were changed at random, for target-map.c.
 */
#include "corpus.h"
#include "fuzz.h"

static void spoilt_maps(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 4000), taken = 0, refused = 0;
	uint8_t input[512];

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		size_t n = 0;

		for (unsigned k = fuzz_below(8); k > 0; k--) {
			unsigned len = fuzz_below(32);

			/* most at the beginning of a page, where there is something */
			input[n++] = (uint8_t)fuzz_below(fuzz_below(2) ? 2 : 32);
			input[n++] = 0;
			input[n++] = (uint8_t)fuzz_below(fuzz_below(2) ? 64 : 256);
			input[n++] = (uint8_t)(fuzz_below(4) ? 0 : fuzz_below(16));
			input[n++] = (uint8_t)len;
			while (len-- > 0)
				input[n++] = (uint8_t)(fuzz_below(4) ? fuzz_random() : 0);
		}
		LLVMFuzzerTestOneInput(input, n);
		taken += target_outcome == TARGET_TAKEN;
		refused += target_outcome == TARGET_REFUSED;
	}
	assert_int_equal(taken + refused, rounds);
	assert_true(taken > rounds / 50);
	assert_true(refused > rounds / 50);
}

static void corpus(void **state)
{
	(void)state;
	fuzz_corpus("map");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spoilt_maps),
		cmocka_unit_test(corpus),
	};

	return cmocka_run_group_tests_name("fuzz-map", tests, NULL, NULL);
}
