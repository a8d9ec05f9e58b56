/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Messages between a store's server and its clients, changed at random: what
 * wire_parse() takes is what the protocol's definition allows, a message that
 * was not changed arrives as it was sent, and nothing beyond the bytes that
 * were received is looked at.
 */
#include "fuzz.h"

#include "store-wire.h"

#include <endian.h>
#include <errno.h>

static bool of_client(uint32_t type)
{
	return (type >= WIRE_HELLO && type <= WIRE_DONE) ||
	       (type >= WIRE_FILE && type <= WIRE_FORK) || type == WIRE_ADVISE ||
	       type == WIRE_RETURN || type == WIRE_TAKE || type == WIRE_GO;
}

static bool is_range(uint64_t addr, uint64_t len)
{
	return addr % 4096 == 0 && len % 4096 == 0 && len > 0 && addr + len > addr &&
	       addr + len <= (uint64_t)1 << 63;
}

/* The definition, from the comment in store-wire.h. */
static bool allowed(const struct wire_msg *m, size_t len, unsigned nfds, bool from_client)
{
	bool client = of_client(m->type);
	bool nothing = (m->flags & (WIRE_PROBE | WIRE_COUNT)) != 0;
	size_t n = 0;

	if (len != sizeof(*m) || m->version != WIRE_VERSION || m->type < WIRE_HELLO ||
	    m->type > WIRE_FAULT || client != from_client)
		return false;
	while (n < sizeof(m->name) && m->name[n] != '\0')
		n++;
	if (n == sizeof(m->name))
		return false;
	for (size_t i = n; i < sizeof(m->name); i++)
		if (m->name[i] != '\0')
			return false;
	if (m->type == WIRE_HELD || m->type == WIRE_AREA || m->type == WIRE_SWAPOFF)
		if (n == 0 || m->name[0] == '.' || memchr(m->name, '/', n) != NULL ||
		    memchr(m->name, '\n', n) != NULL)
			return false;
	if (m->type == WIRE_HELD || m->type == WIRE_AREA)
		if (m->slots < 2 || m->slots > UINT32_MAX || m->prio < -65536 || m->prio > 32767)
			return false;
	switch (m->type) {
	case WIRE_HELLO:
		if (m->flags == WIRE_FILES || m->flags == (WIRE_FILES | WIRE_AGAIN))
			return m->count == 0 && nfds == 1;
		return m->flags < 16 && m->count <= (nothing ? 0 : WIRE_AREAS_MAX) &&
		       nfds == (nothing ? 0U : 3U);
	case WIRE_HELD:
		return nfds == 2;
	case WIRE_DONE:
		return nfds == 0 && m->error <= 0 && m->error >= -4095;
	case WIRE_AREA:
		return nfds == 1 || nfds == 3;
	case WIRE_ATTACHED:
		return nfds <= 1 && m->count <= WIRE_AREAS_MAX;
	case WIRE_ERROR:
		return nfds == 0 && m->error < 0 && m->error >= -4095;
	case WIRE_SWAPOFF:
	case WIRE_CLOSE:
	case WIRE_FORK:
	case WIRE_GO:
		return nfds == 0;
	case WIRE_RETURN:
		return nfds == 4;
	case WIRE_TAKE:
		return (nfds == 1 || nfds == 4) && m->flags <= WIRE_WRITE;
	case WIRE_FAULT:
		return nfds == 0 && m->flags < 8 && is_range(m->mm_addr, m->bytes);
	case WIRE_FILE:
		return nfds <= 1 && m->flags <= (WIRE_WRITE | WIRE_MARKS);
	case WIRE_ANSWER:
		return nfds <= 3 && m->error <= 0 && m->error >= -4095;
	case WIRE_MAP:
		return nfds == 0 && m->flags < 8 && is_range(m->mm_addr, m->bytes);
	case WIRE_ADVISE:
		return nfds == 0 && m->flags >= WIRE_WILLNEED && m->flags <= WIRE_UNLOCK &&
		       is_range(m->mm_addr, m->bytes);
	case WIRE_UNMAP:
	case WIRE_SYNC:
	case WIRE_UNBUS:
		return nfds == 0 && is_range(m->mm_addr, m->bytes);
	default:
		return nfds == 0 && m->bytes >= WIRE_LIMIT_MIN && m->bytes <= UINT64_MAX / 4;
	}
}

/* A message as one side or the other would send it. */
static unsigned make(struct wire_msg *m)
{
	static const unsigned fds[] = {0, 3, 2, 0, 3, 1, 0, 0, 0, 1, 0,
				       0, 0, 0, 0, 2, 0, 0, 4, 4, 0, 0};

	wire_init(m, (enum wire_type)(1 + fuzz_below(WIRE_FAULT)));
	m->count = fuzz_below(3);
	m->slots = 2 + fuzz_below(1000);
	m->bytes = WIRE_LIMIT_MIN + fuzz_below(1U << 30);
	m->prio = (int32_t)fuzz_below(100) - 50;
	m->error = m->type == WIRE_ERROR ? -ENOMEM : 0;
	m->mm_addr = fuzz_random();
	if (m->type == WIRE_ADVISE)
		m->flags = WIRE_WILLNEED + fuzz_below(WIRE_UNLOCK);
	if (m->type >= WIRE_FILE) {
		m->mm_addr = m->mm_addr >> 17 & ~(uint64_t)4095;
		m->bytes &= ~(uint64_t)4095;
	}
	for (unsigned i = 0, n = 1 + fuzz_below(20); i < n; i++)
		m->name[i] = (char)('a' + fuzz_below(26));
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

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		struct wire_msg sent, out;
		unsigned nfds = make(&sent);
		bool client = of_client(sent.type), changed = fuzz_below(4) != 0, want;
		size_t len = sizeof(sent), there;
		static char *edge;
		int r;

		if (edge == NULL)
			edge = fuzz_edge(2 * sizeof(sent));
		if (changed) {
			spoil(&sent, &nfds, &len);
			client = fuzz_below(4) != 0 ? client : !client;
		}
		want = allowed(&sent, len, nfds, client);
		assert_true(changed || want);
		out = sent;
		wire_convert(&out);
		/* the last byte received lies before memory that is not there */
		there = len < sizeof(out) ? len : sizeof(out);
		memset(edge, 0x55, 2 * sizeof(sent));
		memcpy(edge + 2 * sizeof(sent) - len, &out, there);
		r = wire_parse(edge + 2 * sizeof(sent) - len, len, nfds, client, &out);
		if ((r == 0) != want)
			fail_msg("round %lu: %d for a message that is %s", i, r,
				 want ? "allowed" : "not");
		if (r == 0) {
			assert_memory_equal(&out, &sent, sizeof(out));
			taken++;
		} else {
			assert_true(r == -EMSGSIZE || r == -EPROTO || r == -EPROTONOSUPPORT);
			refused++;
		}
	}
	assert_true(taken > rounds / 10 && refused > rounds / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages),
	};

	return cmocka_run_group_tests_name("fuzz-wire", tests, NULL, NULL);
}
