/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages between a store's server and its clients, changed at random, for
 * target-wire.c; one that was not changed is taken.
 */
#include "corpus.h"

#include "faultline.h"
#include "store-wire.h"

#include <errno.h>

/* A message as one side or the other would send it: how many descriptors go with it, and who. */
static unsigned make(struct wire_msg *m, bool *client)
{
	static const unsigned fds[] = {0, 3, 2, 0, 3, 1, 0, 0, 0, 1, 0, 0, 0,
				       0, 0, 2, 0, 0, 4, 4, 0, 0, 0, 0, 2};

	wire_init(m, (enum wire_type)(1 + fuzz_below(WIRE_BACKING)));
	m->count = fuzz_below(3);
	m->slots = 2 + fuzz_below(1000);
	m->bytes = WIRE_LIMIT_MIN + fuzz_below(1U << 30);
	m->prio = (int32_t)fuzz_below(100) - 50;
	m->error = m->type == WIRE_ERROR ? -ENOMEM : 0;
	m->mm_addr = fuzz_random();
	if (m->type == WIRE_ADVISE)
		m->flags = WIRE_WILLNEED + fuzz_below(WIRE_WANT);
	if (m->type == WIRE_MAP || (m->type == WIRE_ADVISE && m->flags == WIRE_WANT)) {
		m->prio = (int32_t)fuzz_below(FL_PRIORITY_HOT + 1);
		m->count = fuzz_below(2) * (WIRE_WINDOW_MIN + fuzz_below(1000));
	}
	if (m->type >= WIRE_FILE) {
		m->mm_addr = m->mm_addr >> 17 & ~(uint64_t)4095;
		m->bytes &= ~(uint64_t)4095;
	}
	if (m->type == WIRE_STORE)
		m->bytes = 4096 * fuzz_below(2);
	for (unsigned i = 0, n = 1 + fuzz_below(20); i < n; i++)
		m->name[i] = (char)('a' + fuzz_below(26));
	*client = m->type != WIRE_AREA && m->type != WIRE_ATTACHED && m->type != WIRE_ERROR &&
		  m->type != WIRE_SWAPOFF && m->type != WIRE_LIMIT && m->type != WIRE_ANSWER &&
		  m->type != WIRE_UNBUS && m->type != WIRE_FAULT && m->type != WIRE_CLEANED;
	return fds[m->type];
}

static void spoil(struct wire_msg *m, unsigned *nfds, size_t *len)
{
	unsigned char *bytes = (unsigned char *)m;

	for (unsigned n = 1 + fuzz_below(3); n > 0; n--)
		switch (fuzz_below(9)) {
		case 0:
			bytes[fuzz_below(sizeof(*m))] ^= (unsigned char)(1U << fuzz_below(8));
			break;
		case 1:
			bytes[fuzz_below(64)] = (unsigned char)fuzz_random();
			break;
		case 2:
			m->type = fuzz_below(WIRE_TYPE_END + 2);
			break;
		case 3:
			m->flags = fuzz_below(64);
			break;
		case 4:
			m->slots = fuzz_random() >> fuzz_below(64);
			break;
		case 5:
			m->name[fuzz_below(sizeof(m->name))] = "/\n.\0x"[fuzz_below(5)];
			break;
		case 6:
			*nfds = fuzz_below(6);
			break;
		case 7:
			*len = fuzz_below(2 * sizeof(*m));
			break;
		case 8:
			memset(m->name, 'n', sizeof(m->name));
			break;
		}
}

static void messages(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 300000), taken = 0, refused = 0;
	uint8_t input[1 + 2 * sizeof(struct wire_msg)];

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		struct wire_msg m;
		bool client, changed = fuzz_below(4) != 0;
		unsigned nfds = make(&m, &client);
		size_t len = sizeof(m);

		if (changed) {
			spoil(&m, &nfds, &len);
			client = fuzz_below(4) != 0 ? client : !client;
		}
		wire_convert(&m);
		input[0] = (uint8_t)(nfds | (client ? 0x80 : 0));
		memset(input + 1, 0x55, sizeof(input) - 1);
		memcpy(input + 1, &m, sizeof(m));
		LLVMFuzzerTestOneInput(input, 1 + len);
		if (!changed && target_outcome != TARGET_TAKEN)
			fail_msg("round %lu: a good message is refused", i);
		taken += target_outcome == TARGET_TAKEN;
		refused += target_outcome == TARGET_REFUSED;
	}
	assert_int_equal(taken + refused, rounds);
	assert_true(taken > rounds / 10 && refused > rounds / 10);
}

FUZZ_TESTS("wire", messages)
