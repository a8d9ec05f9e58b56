/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Areas whose header or length was changed at random, for target-area.c.
 */
#include "corpus.h"

#include "swap-area.h"

#include <assert.h>
#include <endian.h>

#define FILE_SLOTS 64U
#define FILE_BYTES (FILE_SLOTS * 4096U)

/* Change header fields: to what they are not, to extremes, or a bit. */
static void spoil(struct area_header *h, uint32_t *bytes)
{
	unsigned n = 1 + fuzz_below(3);

	while (n-- > 0) {
		switch (fuzz_below(7)) {
		case 0:
			((unsigned char *)h)[fuzz_below(sizeof(*h))] ^=
				(unsigned char)(1U << fuzz_below(8));
			break;
		case 1:
			h->slots = htole64(fuzz_below(2 * FILE_SLOTS));
			break;
		case 2:
			h->slots = htole64(fuzz_random() >> fuzz_below(64));
			break;
		case 3:
			h->slots = htole64(((uint64_t)1 << (fuzz_below(2) ? 52 : 32)) + FILE_SLOTS);
			break;
		case 4:
			h->version = htole32(fuzz_below(4));
			break;
		case 5:
			h->page_size = htole32(1U << (8 + fuzz_below(10)));
			break;
		case 6:
			*bytes = fuzz_below(2 * FILE_BYTES);
			break;
		}
	}
}

static size_t spoilt_header(uint8_t input[FUZZ_INPUT_ROOM])
{
	struct area_header h = {.magic = AREA_MAGIC,
				.version = htole32(1),
				.page_size = htole32(4096),
				.slots = htole64(FILE_SLOTS)};
	uint32_t bytes = FILE_BYTES;

	static_assert(sizeof(bytes) + sizeof(h) <= FUZZ_INPUT_ROOM, "an input has room");
	for (unsigned k = 0; k < sizeof(h.uuid); k++)
		h.uuid[k] = (uint8_t)fuzz_random();
	spoil(&h, &bytes);
	bytes = htole32(bytes);
	memcpy(input, &bytes, sizeof(bytes));
	memcpy(input + sizeof(bytes), &h, sizeof(h));
	return sizeof(bytes) + sizeof(h);
}

static void spoilt_headers(void **state)
{
	(void)state;
	fuzz_spoilt(spoilt_header, 4000);
}

FUZZ_TESTS("area", spoilt_headers)
