/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * zpool.c - a bounded pool of objects; see zpool.h.
 *
 * A span's life:
 *
 *	FREE --take--> OPEN --the next object does not fit--> CLOSED
 *	  ^              |                                       |
 *	  +--------------+------- no live object is left <-------+
 *
 * A free span is in one of two lists: those that keep their memory (SPARE) and
 * those that do not.  One span stays out of reach of new objects, so that
 * there is always one for survivors.
 */
#include "zpool.h"

#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define NIL UINT32_MAX
#define HEAD ((uint32_t)sizeof(struct zobj_head))
#define PAGE 4096U
#define COMPACT_TRIES 4U  /* spans emptied while there is no need, */
#define SQUEEZE_TRIES 16U /* and while there is */

enum span_state { SPAN_FREE, SPAN_SPARE, SPAN_OPEN, SPAN_CLOSED };

static size_t table_bytes(uint32_t nspans)
{
	return (nspans * sizeof(struct zspan) + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static uint32_t whole(uint32_t size)
{
	return HEAD + ((size + ZPOOL_UNIT - 1) & ~(ZPOOL_UNIT - 1));
}

static uint32_t span_of(zobj_t o)
{
	return (uint32_t)(o / (ZPOOL_SPAN / ZPOOL_UNIT));
}

static zobj_t place(uint32_t span, uint32_t off)
{
	return (zobj_t)(span * (ZPOOL_SPAN / ZPOOL_UNIT) + off / ZPOOL_UNIT);
}

int zpool_open(struct zpool *z, uint64_t bytes, zpool_moved moved, void *arg)
{
	uint64_t n = bytes / ZPOOL_SPAN;

	memset(z, 0, sizeof(*z));
	if (n < ZPOOL_SPANS_MIN || n > ZPOOL_SPANS_MAX)
		return -EINVAL;
	z->nspans = z->bound = (uint32_t)n;
	z->base = sys_mem_alloc(n * ZPOOL_SPAN);
	z->span = sys_mem_alloc(table_bytes(z->nspans));
	if (z->base == NULL || z->span == NULL) {
		zpool_close(z);
		return -ENOMEM;
	}
	/* what is held is counted in pages, and means nothing in a core */
	SYS3(madvise, z->base, n * ZPOOL_SPAN, MADV_NOHUGEPAGE);
	sys_mem_nodump(z->base, n * ZPOOL_SPAN);
	z->free = z->spare = z->open = z->survivors = z->oldest = z->newest = NIL;
	for (unsigned i = 0; i < ZPOOL_BUCKETS; i++)
		z->bucket[i] = NIL;
	z->moved = moved;
	z->arg = arg;
	return 0;
}

void zpool_close(struct zpool *z)
{
	sys_mem_free(z->base, z->nspans * ZPOOL_SPAN);
	sys_mem_free(z->span, table_bytes(z->nspans));
	memset(z, 0, sizeof(*z));
}

uint64_t zpool_table_bytes(const struct zpool *z)
{
	return table_bytes(z->fresh);
}

/* ---- closed spans: by age, and by what lives in them ---- */

static void bucket_remove(struct zpool *z, uint32_t i)
{
	struct zspan *s = &z->span[i];

	if (s->prev != NIL)
		z->span[s->prev].next = s->next;
	else
		z->bucket[s->bucket] = s->next;
	if (s->next != NIL)
		z->span[s->next].prev = s->prev;
}

static void bucket_add(struct zpool *z, uint32_t i)
{
	struct zspan *s = &z->span[i];
	uint32_t b = (uint32_t)(s->live / (ZPOOL_SPAN / ZPOOL_BUCKETS));

	s->bucket = (uint8_t)(b < ZPOOL_BUCKETS ? b : ZPOOL_BUCKETS - 1);
	s->prev = NIL;
	s->next = z->bucket[s->bucket];
	if (s->next != NIL)
		z->span[s->next].prev = i;
	z->bucket[s->bucket] = i;
}

static void age_remove(struct zpool *z, uint32_t i)
{
	struct zspan *s = &z->span[i];

	if (s->older != NIL)
		z->span[s->older].newer = s->newer;
	else
		z->oldest = s->newer;
	if (s->newer != NIL)
		z->span[s->newer].older = s->older;
	else
		z->newest = s->older;
}

static void age_add(struct zpool *z, uint32_t i, bool as_oldest)
{
	struct zspan *s = &z->span[i];

	s->older = as_oldest ? NIL : z->newest;
	s->newer = as_oldest ? z->oldest : NIL;
	if (s->older != NIL)
		z->span[s->older].newer = i;
	else
		z->oldest = i;
	if (s->newer != NIL)
		z->span[s->newer].older = i;
	else
		z->newest = i;
}

/* ---- free spans ---- */

static void span_free(struct zpool *z, uint32_t i)
{
	struct zspan *s = &z->span[i];
	uint32_t *list = &z->spare;

	s->fill = s->live = 0;
	s->state = SPAN_SPARE;
	z->in_use--;
	/* also when mlockall(2) locked it; what the kernel refuses to take is kept */
	if (z->nspare >= ZPOOL_SPARE &&
	    !sys_err(SYS3(madvise, z->base + i * ZPOOL_SPAN, ZPOOL_SPAN, MADV_DONTNEED_LOCKED))) {
		s->state = SPAN_FREE;
		list = &z->free;
	} else {
		z->nspare++;
	}
	s->older = *list;
	*list = i;
}

/*
 * A span to fill.  One for survivors may pass the bound: what moves there makes
 * others empty.
 */
static uint32_t span_take(struct zpool *z, bool survivors)
{
	uint32_t i = NIL;

	if (!survivors && z->in_use + 1 >= z->bound)
		return NIL;
	if (z->spare != NIL) {
		i = z->spare;
		z->spare = z->span[i].older;
		z->nspare--;
	} else if (z->free != NIL) {
		i = z->free;
		z->free = z->span[i].older;
	} else if (z->fresh < z->nspans) {
		i = z->fresh++;
	} else {
		return NIL;
	}
	z->in_use++;
	z->span[i] = (struct zspan){.state = SPAN_OPEN};
	return i;
}

static void span_close(struct zpool *z, uint32_t i, bool as_oldest)
{
	if (z->span[i].live == 0) {
		span_free(z, i);
		return;
	}
	z->span[i].state = SPAN_CLOSED;
	age_add(z, i, as_oldest);
	bucket_add(z, i);
}

void zpool_set_bound(struct zpool *z, uint32_t spans)
{
	z->bound = spans < z->nspans ? spans : z->nspans;
	if (z->bound < ZPOOL_SPANS_MIN)
		z->bound = ZPOOL_SPANS_MIN;
	while (z->nspare != 0 && z->in_use + z->nspare > z->bound) {
		uint32_t i = z->spare;

		if (sys_err(SYS3(madvise, z->base + i * ZPOOL_SPAN, ZPOOL_SPAN,
				 MADV_DONTNEED_LOCKED)))
			break;
		z->spare = z->span[i].older;
		z->nspare--;
		z->span[i].state = SPAN_FREE;
		z->span[i].older = z->free;
		z->free = i;
	}
}

/* ---- objects ---- */

/* Write an object to the end of an open span that has room for it. */
static zobj_t append(struct zpool *z, uint32_t i, const struct zobj_head *head, const void *bytes)
{
	struct zspan *s = &z->span[i];
	zobj_t o = place(i, s->fill);
	struct zobj_head *h = zpool_head(z, o);
	uint32_t len = whole(head->size);

	*h = *head;
	memcpy(h + 1, bytes, head->size);
	s->fill += len;
	s->live += len;
	z->live += len;
	z->objects++;
	return o;
}

static bool fits(const struct zpool *z, uint32_t i, uint32_t size)
{
	return i != NIL && z->span[i].fill + whole(size) <= ZPOOL_SPAN;
}

/* Bytes that no object uses, and none will before its span is empty. */
static uint64_t holes(const struct zpool *z)
{
	uint64_t room = 0;

	if (z->open != NIL)
		room += ZPOOL_SPAN - z->span[z->open].fill;
	if (z->survivors != NIL)
		room += ZPOOL_SPAN - z->span[z->survivors].fill;
	return z->in_use * ZPOOL_SPAN - z->live - room;
}

/* The next live object of a span from byte `off` on. */
static zobj_t live_from(const struct zpool *z, uint32_t i, uint32_t off)
{
	while (off < z->span[i].fill) {
		const struct zobj_head *h = zpool_head(z, place(i, off));

		if (h->live)
			return place(i, off);
		off += whole(h->size);
	}
	return ZOBJ_NONE;
}

static uint32_t end_of(const struct zpool *z, zobj_t o)
{
	return (uint32_t)(o % (ZPOOL_SPAN / ZPOOL_UNIT)) * ZPOOL_UNIT +
	       whole(zpool_head(z, o)->size);
}

/* Move the objects of the emptiest span; false when that is not worth it or there is no place. */
static bool compact_one(struct zpool *z)
{
	uint32_t victim = NIL;
	uint32_t off = 0;
	zobj_t o;

	for (unsigned b = 0; b < ZPOOL_BUCKETS - 1 && victim == NIL; b++)
		victim = z->bucket[b];
	if (victim == NIL)
		return false;
	while ((o = live_from(z, victim, off)) != ZOBJ_NONE) {
		struct zobj_head *h = zpool_head(z, o);
		zobj_t to;

		off = end_of(z, o);

		if (!fits(z, z->survivors, h->size)) {
			if (z->survivors != NIL)
				span_close(z, z->survivors, true);
			z->survivors = span_take(z, true);
			if (z->survivors == NIL)
				return false;
		}
		to = append(z, z->survivors, h, h + 1);
		z->moves++;
		z->moved(z->arg, h->vpn, o, to);
		zpool_free(z, o);
	}
	return true;
}

bool zpool_compact(struct zpool *z)
{
	uint32_t before = z->in_use;

	for (unsigned i = 0;
	     i < COMPACT_TRIES && holes(z) > z->in_use * (ZPOOL_SPAN / 8) + ZPOOL_SPAN; i++)
		if (!compact_one(z))
			break;
	return z->in_use < before;
}

/* No span is free for new objects: make one of holes, if there are that many. */
static bool squeeze(struct zpool *z)
{
	for (unsigned i = 0; i < SQUEEZE_TRIES && z->in_use + 1 >= z->bound; i++)
		if (holes(z) < 2 * ZPOOL_SPAN || !compact_one(z))
			return false;
	return z->in_use + 1 < z->bound;
}

bool zpool_has_room(const struct zpool *z)
{
	return z->in_use + 1 < z->bound || fits(z, z->open, ZPOOL_OBJ_MAX) ||
	       holes(z) >= 3 * ZPOOL_SPAN;
}

zobj_t zpool_store(struct zpool *z, uint64_t vpn, const void *bytes, uint32_t size, uint64_t csum)
{
	const struct zobj_head head = {
		.vpn = vpn & (((uint64_t)1 << 40) - 1), .size = size, .live = 1, .csum = csum};

	if (!fits(z, z->open, size)) {
		uint32_t next;

		zpool_compact(z);
		if (z->in_use + 1 >= z->bound && !squeeze(z))
			return ZOBJ_NONE;
		next = span_take(z, false);
		if (next == NIL)
			return ZOBJ_NONE;
		if (z->open != NIL)
			span_close(z, z->open, false);
		z->open = next;
	}
	return append(z, z->open, &head, bytes);
}

void zpool_free(struct zpool *z, zobj_t o)
{
	struct zobj_head *h = zpool_head(z, o);
	uint32_t i = span_of(o);
	struct zspan *s = &z->span[i];
	uint32_t len = whole(h->size);

	h->live = 0;
	s->live -= len;
	z->live -= len;
	z->objects--;
	if (s->state == SPAN_OPEN) {
		if (s->live == 0)
			s->fill = 0;
		return;
	}
	bucket_remove(z, i);
	if (s->live != 0) {
		bucket_add(z, i);
	} else {
		age_remove(z, i);
		span_free(z, i);
	}
}

/* ---- walks ---- */

/* A closed span has a live object: it would be free otherwise. */
static zobj_t coldest_closed(const struct zpool *z)
{
	return z->oldest != NIL ? live_from(z, z->oldest, 0) : ZOBJ_NONE;
}

/* The survivors' span may stay open for ever, and is the oldest when it is closed. */
zobj_t zpool_coldest(const struct zpool *z)
{
	zobj_t o = z->survivors != NIL ? live_from(z, z->survivors, 0) : ZOBJ_NONE;

	return o != ZOBJ_NONE ? o : coldest_closed(z);
}

zobj_t zpool_warmer(const struct zpool *z, zobj_t o)
{
	uint32_t i = span_of(o);
	zobj_t next = live_from(z, i, end_of(z, o));

	if (next != ZOBJ_NONE)
		return next;
	if (i == z->survivors)
		return coldest_closed(z);
	return z->span[i].newer != NIL ? live_from(z, z->span[i].newer, 0) : ZOBJ_NONE;
}

void zpool_each(struct zpool *z, void (*fn)(void *arg, zobj_t o), void *arg)
{
	for (uint32_t i = 0; i < z->fresh; i++) {
		zobj_t o;
		zobj_t next;

		if (z->span[i].state != SPAN_OPEN && z->span[i].state != SPAN_CLOSED)
			continue;
		for (o = live_from(z, i, 0); o != ZOBJ_NONE; o = next) {
			next = live_from(z, i, end_of(z, o));
			fn(arg, o);
		}
	}
}
