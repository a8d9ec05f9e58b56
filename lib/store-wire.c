/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-wire.c - messages between a store's server and its clients; see store-wire.h.
 */
#include "store-wire.h"

#include "faultline.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* clang-format off */
static const struct rule {
	bool client; /* who sends it */
	bool area;   /* name is an area's */
	unsigned fds_min, fds_max;
} rules[WIRE_TYPE_END] = {
	[WIRE_HELLO]	= {true,  false, 0, 3},
	[WIRE_HELD]	= {true,  true,  2, 2},
	[WIRE_DONE]	= {true,  false, 0, 0},
	[WIRE_AREA]	= {false, true,  1, 3},
	[WIRE_ATTACHED]	= {false, false, 0, 1},
	[WIRE_ERROR]	= {false, false, 0, 0},
	[WIRE_SWAPOFF]	= {false, true,  0, 0},
	[WIRE_LIMIT]	= {false, false, 0, 0},
	[WIRE_FILE]	= {true,  false, 0, 1},
	[WIRE_MAP]	= {true,  false, 0, 0},
	[WIRE_UNMAP]	= {true,  false, 0, 0},
	[WIRE_CLOSE]	= {true,  false, 0, 0},
	[WIRE_SYNC]	= {true,  false, 0, 0},
	[WIRE_FORK]	= {true,  false, 0, 0},
	[WIRE_ANSWER]	= {false, false, 0, 3},
	[WIRE_UNBUS]	= {false, false, 0, 0},
	[WIRE_ADVISE]	= {true,  false, 0, 0},
	[WIRE_RETURN]	= {true,  false, 4, 4},
	[WIRE_TAKE]	= {true,  false, 1, 4},
	[WIRE_GO]	= {true,  false, 0, 0},
	[WIRE_FAULT]	= {false, false, 0, 0},
	[WIRE_STORE]	= {true,  false, 0, 0},
	[WIRE_CLEANED]	= {false, false, 0, 0},
	[WIRE_BACKING]	= {true,  false, 0, 2},
};
/* clang-format on */

void wire_init(struct wire_msg *m, enum wire_type type)
{
	memset(m, 0, sizeof(*m));
	m->version = WIRE_VERSION;
	m->type = type;
}

void wire_convert(struct wire_msg *m)
{
	uint32_t *const w32[] = {&m->version,
				 &m->type,
				 &m->flags,
				 &m->count,
				 &m->member,
				 (uint32_t *)&m->prio,
				 (uint32_t *)&m->error,
				 &m->request};
	uint64_t *const w64[] = {&m->slots, &m->bytes, &m->mm_addr};

	for (unsigned i = 0; i < sizeof(w32) / sizeof(w32[0]); i++)
		*w32[i] = htole32(*w32[i]);
	for (unsigned i = 0; i < sizeof(w64) / sizeof(w64[0]); i++)
		*w64[i] = htole64(*w64[i]);
}

bool wire_area_name(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
	       strchr(name, '\n') == NULL;
}

static bool zeros(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* Whole pages of an address space. */
static bool is_range(uint64_t addr, uint64_t len)
{
	return addr % 4096 == 0 && len % 4096 == 0 && len != 0 && addr <= INT64_MAX &&
	       len <= INT64_MAX - addr;
}

/* What a program may want of a range, as fl_region_set() takes it. */
static bool is_wish(const struct wire_msg *m)
{
	return m->prio >= FL_PRIORITY_NORMAL && m->prio <= FL_PRIORITY_HOT &&
	       (m->count == 0 || m->count >= WIRE_WINDOW_MIN);
}

/* Each kind's own rules. */
static bool sound(const struct wire_msg *m, unsigned nfds)
{
	bool nothing = (m->flags & (WIRE_PROBE | WIRE_COUNT)) != 0;

	switch ((enum wire_type)m->type) {
	case WIRE_HELLO:
		if ((m->flags & ~WIRE_AGAIN) == WIRE_FILES)
			return m->count == 0 && nfds == 1;
		return (m->flags & ~(WIRE_DEVICE | WIRE_PROBE | WIRE_COUNT | WIRE_MOUNT)) == 0 &&
		       m->count <= (nothing ? 0 : WIRE_AREAS_MAX) && nfds == (nothing ? 0U : 3U);
	case WIRE_HELD:
		return m->slots > 1 && m->slots <= UINT32_MAX && m->prio >= -65536 &&
		       m->prio <= 32767;
	case WIRE_AREA:
		return m->slots > 1 && m->slots <= UINT32_MAX && nfds != 2 && m->prio >= -65536 &&
		       m->prio <= 32767;
	case WIRE_ATTACHED:
		return m->count <= WIRE_AREAS_MAX;
	case WIRE_DONE:
		return m->error <= 0 && m->error >= -4095;
	case WIRE_ERROR:
		return m->error < 0 && m->error >= -4095;
	case WIRE_LIMIT:
		return m->bytes >= WIRE_LIMIT_MIN && m->bytes <= UINT64_MAX / 4;
	case WIRE_FILE:
		return (m->flags & ~WIRE_WRITE) == 0;
	case WIRE_TAKE:
		return (m->flags & ~WIRE_WRITE) == 0 && (nfds == 1 || nfds == 4);
	case WIRE_MAP:
		return (m->flags & ~(WIRE_LOCKED | WIRE_IN_ORDER | WIRE_NO_ORDER)) == 0 &&
		       is_range(m->mm_addr, m->bytes) && is_wish(m);
	case WIRE_ADVISE:
		return m->flags != 0 && m->flags < WIRE_ADVICE_END &&
		       is_range(m->mm_addr, m->bytes) && (m->flags != WIRE_WANT || is_wish(m));
	case WIRE_FAULT:
		return (m->flags & ~(WIRE_STORES | WIRE_PROTECTED | WIRE_MINOR)) == 0 &&
		       is_range(m->mm_addr, m->bytes);
	case WIRE_STORE:
		return m->bytes == 0 || (is_range(m->mm_addr, m->bytes) && m->bytes == 4096);
	case WIRE_BACKING:
		return m->mm_addr != 0 || nfds == 0;
	case WIRE_UNMAP:
	case WIRE_SYNC:
	case WIRE_UNBUS:
		return is_range(m->mm_addr, m->bytes);
	case WIRE_ANSWER:
		return m->error <= 0 && m->error >= -4095;
	case WIRE_SWAPOFF:
	case WIRE_CLOSE:
	case WIRE_FORK:
	case WIRE_GO:
	case WIRE_RETURN:
	case WIRE_CLEANED:
		return true;
	case WIRE_TYPE_END:
		break;
	}
	return false;
}

int wire_parse(const void *buf, size_t len, unsigned nfds, bool from_client, struct wire_msg *out)
{
	const struct rule *r;
	size_t n;

	if (len < sizeof(out->version))
		return -EMSGSIZE;
	memset(out, 0, sizeof(*out));
	memcpy(out, buf, len < sizeof(*out) ? len : sizeof(*out));
	wire_convert(out);
	if (out->version != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	if (len != sizeof(*out))
		return -EMSGSIZE;
	if (out->type == 0 || out->type >= WIRE_TYPE_END)
		return -EPROTO;
	r = &rules[out->type];
	for (n = 0; n < sizeof(out->name) && out->name[n] != '\0';)
		n++;
	if (r->client != from_client || nfds < r->fds_min || nfds > r->fds_max ||
	    n == sizeof(out->name) || !zeros(out->name + n, sizeof(out->name) - n) ||
	    (r->area && !wire_area_name(out->name)) || !sound(out, nfds))
		return -EPROTO;
	return 0;
}
