/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target-wire.c - a message as it was received, from a store's client or from
 * its server: wire_parse() takes what the protocol's definition allows, and
 * looks at nothing beyond the bytes that were received.
 *
 * Input: a byte with the number of descriptors (low three bits) and whether a
 * client sent it (the highest bit), and the message.
 */
#include "target.h"

#include "faultline.h"
#include "store-wire.h"

#include <errno.h>
#include <string.h>

enum target_outcome target_outcome;

static bool of_client(uint32_t type)
{
	return (type >= WIRE_HELLO && type <= WIRE_DONE) ||
	       (type >= WIRE_FILE && type <= WIRE_FORK) || type == WIRE_ADVISE ||
	       type == WIRE_RETURN || type == WIRE_TAKE || type == WIRE_GO || type == WIRE_STORE ||
	       type == WIRE_BACKING;
}

static bool is_range(uint64_t addr, uint64_t len)
{
	return addr % 4096 == 0 && len % 4096 == 0 && len > 0 && addr + len > addr &&
	       addr + len < (uint64_t)1 << 63;
}

static bool is_wish(const struct wire_msg *m)
{
	return m->prio >= 0 && m->prio <= FL_PRIORITY_HOT && (m->count == 0 || m->count > 31);
}

/* The definition, from the comment in store-wire.h. */
static bool allowed(const struct wire_msg *m, size_t len, unsigned nfds, bool from_client)
{
	bool client = of_client(m->type);
	bool nothing = (m->flags & (WIRE_PROBE | WIRE_COUNT)) != 0;
	size_t n = 0;

	if (len != sizeof(*m) || m->version != WIRE_VERSION || m->type < WIRE_HELLO ||
	    m->type > WIRE_BACKING || client != from_client)
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
	case WIRE_CLEANED:
		return nfds == 0;
	case WIRE_RETURN:
		return nfds == 4;
	case WIRE_TAKE:
		return (nfds == 1 || nfds == 4) && m->flags <= WIRE_WRITE;
	case WIRE_STORE:
		return nfds == 0 &&
		       (m->bytes == 0 || (m->bytes == 4096 && is_range(m->mm_addr, 4096)));
	case WIRE_FAULT:
		return nfds == 0 && m->flags < 8 && is_range(m->mm_addr, m->bytes);
	case WIRE_FILE:
		return nfds <= 1 && m->flags <= WIRE_WRITE;
	case WIRE_BACKING:
		return nfds <= 2 && (m->mm_addr != 0 || nfds == 0);
	case WIRE_ANSWER:
		return nfds <= 3 && m->error <= 0 && m->error >= -4095;
	case WIRE_MAP:
		return nfds == 0 && m->flags < 8 && is_range(m->mm_addr, m->bytes) && is_wish(m);
	case WIRE_ADVISE:
		return nfds == 0 && m->flags >= WIRE_WILLNEED && m->flags <= WIRE_WANT &&
		       is_range(m->mm_addr, m->bytes) && (m->flags != WIRE_WANT || is_wish(m));
	case WIRE_UNMAP:
	case WIRE_SYNC:
	case WIRE_UNBUS:
		return nfds == 0 && is_range(m->mm_addr, m->bytes);
	default:
		return nfds == 0 && m->bytes >= WIRE_LIMIT_MIN && m->bytes <= UINT64_MAX / 4;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *edge;
	struct wire_msg sent, out;
	size_t len = size - 1;
	unsigned nfds;
	bool client;
	int r;

	target_outcome = TARGET_NO_INPUT;
	if (size == 0 || len > 2 * sizeof(sent))
		return 0;
	nfds = data[0] & 7;
	client = (data[0] & 0x80) != 0;
	if (edge == NULL)
		edge = fuzz_edge(2 * sizeof(sent)) + 2 * sizeof(sent);
	memcpy(edge - len, data + 1, len);
	memset(&sent, 0, sizeof(sent));
	memcpy(&sent, data + 1, len < sizeof(sent) ? len : sizeof(sent));
	wire_convert(&sent);
	r = wire_parse(edge - len, len, nfds, client, &out);
	must((r == 0) == allowed(&sent, len, nfds, client));
	must(r == 0 || r == -EMSGSIZE || r == -EPROTO || r == -EPROTONOSUPPORT);
	if (r == 0)
		must(memcmp(&out, &sent, sizeof(out)) == 0);
	target_outcome = r == 0 ? TARGET_TAKEN : TARGET_REFUSED;
	return 0;
}
