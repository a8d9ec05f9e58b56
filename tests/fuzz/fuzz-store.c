/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores whose version and lock were changed at random, for target-store.c.
 */
#include "corpus.h"
#include "fuzz.h"

#define ROOM 255U

/* A text that was right once. */
static size_t spoilt(uint8_t *to, const char *text)
{
	size_t len = strlen(text);

	memcpy(to, text, len);
	for (unsigned n = fuzz_below(4); n > 0; n--)
		switch (fuzz_below(4)) {
		case 0:
			to[fuzz_below(ROOM)] = (uint8_t)fuzz_random();
			break;
		case 1:
			to[fuzz_below((unsigned)len + 1)] = "0129 /\n\0-"[fuzz_below(9)];
			break;
		case 2:
			len = fuzz_below(ROOM);
			break;
		case 3:
			memmove(to + 3, to, ROOM - 3);
			break;
		}
	return len;
}

static void spoilt_texts(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 10000), taken = 0, refused = 0;
	uint8_t input[1 + 2 * ROOM];

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		size_t n, more;

		memset(input, 0, sizeof(input));
		n = spoilt(input + 1, "faultline store 1\n");
		input[0] = (uint8_t)n;
		more = spoilt(input + 1 + n, "4711 /mnt/store\n");
		LLVMFuzzerTestOneInput(input, 1 + n + more);
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
	fuzz_corpus("store");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spoilt_texts),
		cmocka_unit_test(corpus),
	};

	return cmocka_run_group_tests_name("fuzz-store", tests, NULL, NULL);
}
