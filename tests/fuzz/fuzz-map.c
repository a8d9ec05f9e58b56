/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps of slots that were changed at random, for target-map.c.
 */
#include "corpus.h"

static size_t spoilt_map(uint8_t input[FUZZ_INPUT_ROOM])
{
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
	return n;
}

static void spoilt_maps(void **state)
{
	(void)state;
	fuzz_spoilt(spoilt_map, 4000);
}

FUZZ_TESTS("map", spoilt_maps)
