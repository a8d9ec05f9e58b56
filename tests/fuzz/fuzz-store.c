/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores whose version and lock were changed at random, for target-store.c.
 */
#include "corpus.h"

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

static size_t spoilt_text(uint8_t input[FUZZ_INPUT_ROOM])
{
	size_t n, more;

	memset(input, 0, FUZZ_INPUT_ROOM);
	n = spoilt(input + 1, "faultline store 1\n");
	input[0] = (uint8_t)n;
	more = spoilt(input + 1 + n, "4711 /mnt/store\n");
	return 1 + n + more;
}

static void spoilt_texts(void **state)
{
	(void)state;
	fuzz_spoilt(spoilt_text, 10000);
}

FUZZ_TESTS("store", spoilt_texts)
