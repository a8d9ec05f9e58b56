/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-slot.c - the slots of one area: who is free, who has how many users,
 * and what was written there.
 *
 * Words.  A slot's word is its checksum above its reference count; a free
 * slot's word is 0, so the words of a cluster are its free map as well.  A
 * count of COUNT_MORE stands for a count that is kept in the side table.
 *
 * Clusters.  A cluster is the page of words of SLOT_CLUSTER slots, and is in
 * one place:
 *
 *	fresh ──cluster_next()──▶ current ──slot_alloc(), passed──▶ list n, or
 *	                            ▲                               nowhere if full
 *	                            └──cluster_next()── list n ◀─────slot_put()
 *
 * List n holds the clusters with n/8 to (n+1)/8 of their slots free, and list
 * LIST_EMPTY those whose slots are all free.  slot_put() moves a cluster up as
 * its slots are freed.  Slots are handed out in one pass over the current
 * cluster; the next one is an empty one, else a fresh one (with a number not
 * used before) while fewer than one slot in SPARE_PART of those in use lies
 * free in clusters that were used, else the one that has most free slots as
 * the lists tell.  So runs are long, the words' memory stays close to the
 * slots in use, a run costs a look at two pages of words at most, and a
 * cluster that was never used costs no memory.
 *
 * Side table.  Counts from COUNT_MORE on, by slot: open addressing with linear
 * probing, at most three quarters full, no tombstones (what follows a hole is
 * moved back).  It grows and does not shrink.
 *
 * Memory.  Words and cluster descriptors come in chunks of 512 KiB, mapped
 * when a cluster of theirs is first used and then touched page by page; the
 * directory of chunks is for the largest area that there may be.
 *
 * Everything is guarded by the runtime's mm lock.
 */
#include "swap-slot.h"

#include "log.h"
#include "sys.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define PAGE 4096U
#define COUNT_MASK (((uint64_t)1 << SLOT_COUNT_BITS) - 1)
#define COUNT_MORE COUNT_MASK
#define CHUNK_CLUSTERS 128U
#define CHUNKS_MAX 65536U /* for 2^32 slots */
#define LIST_EMPTY 8U
#define LISTS 9U
#define LIST_NONE LISTS
#define NIL UINT32_MAX
#define SIDE_MIN 512U

/* Free slots in used clusters, as a part of the slots in use, above which they are used first. */
#define SPARE_PART 4U

struct cluster {
	uint32_t next, prev;
	uint16_t free; /* slots */
	uint16_t list;
};

struct chunk {
	union {
		struct cluster cluster[CHUNK_CLUSTERS];
		char page[PAGE];
	};
	uint64_t word[CHUNK_CLUSTERS][SLOT_CLUSTER];
};

struct slot_map {
	uint32_t nslots; /* slot 0 included */
	uint32_t used;	 /* without it */
	uint32_t fresh;	 /* clusters from here on were never used */
	uint32_t current;
	uint32_t next; /* where in the current cluster the pass goes on */
	uint32_t nchunks;
	struct {
		uint32_t head, tail;
	} list[LISTS];
	uint64_t *side; /* slot in the high half, count in the low; 0: none */
	uint32_t side_size, side_used;
	struct chunk *chunk[CHUNKS_MAX];
};

static void check(bool ok, const char *what, uint32_t slot)
{
#ifdef FL_DEBUG
	if (!ok)
		log_fatal("slot %u: %s", slot, what);
#else
	(void)ok;
	(void)what;
	(void)slot;
#endif
}

static struct cluster *cluster_of(const struct slot_map *m, uint32_t c)
{
	return &m->chunk[c / CHUNK_CLUSTERS]->cluster[c % CHUNK_CLUSTERS];
}

static uint64_t *words_of(const struct slot_map *m, uint32_t c)
{
	return m->chunk[c / CHUNK_CLUSTERS]->word[c % CHUNK_CLUSTERS];
}

/* NULL for a slot that was never used. */
static uint64_t *word_of(const struct slot_map *m, uint32_t slot)
{
	uint32_t c = slot / SLOT_CLUSTER;

	if (slot == 0 || slot >= m->nslots || c >= m->fresh)
		return NULL;
	return &words_of(m, c)[slot % SLOT_CLUSTER];
}

/* Words of cluster c that are slots. */
static uint32_t cluster_slots(const struct slot_map *m, uint32_t c)
{
	uint32_t left = m->nslots - c * SLOT_CLUSTER;

	return left < SLOT_CLUSTER ? left : SLOT_CLUSTER;
}

/* Of them, those that can be free: all but slot 0. */
static uint32_t cluster_usable(const struct slot_map *m, uint32_t c)
{
	return cluster_slots(m, c) - (c == 0);
}

/* Lists. */

static void unlist(struct slot_map *m, uint32_t c)
{
	struct cluster *k = cluster_of(m, c);

	if (k->list == LIST_NONE)
		return;
	if (k->prev == NIL)
		m->list[k->list].head = k->next;
	else
		cluster_of(m, k->prev)->next = k->next;
	if (k->next == NIL)
		m->list[k->list].tail = k->prev;
	else
		cluster_of(m, k->next)->prev = k->prev;
	k->list = LIST_NONE;
}

/* Put a cluster, not the current one, on the list that its free slots ask for. */
static void relist(struct slot_map *m, uint32_t c)
{
	struct cluster *k = cluster_of(m, c);
	uint32_t list = k->free * LIST_EMPTY / SLOT_CLUSTER;

	if (k->free == cluster_usable(m, c))
		list = LIST_EMPTY;
	else if (list == LIST_EMPTY)
		list--; /* cluster 0 lacks a slot */
	if (k->free == 0)
		list = LIST_NONE;
	if (k->list == list)
		return;
	unlist(m, c);
	if (list == LIST_NONE)
		return;
	k->list = (uint16_t)list;
	k->next = NIL;
	k->prev = m->list[list].tail;
	if (k->prev == NIL)
		m->list[list].head = c;
	else
		cluster_of(m, k->prev)->next = c;
	m->list[list].tail = c;
}

/* A cluster that was never used; NIL when there is none, or no memory for it. */
static uint32_t cluster_fresh(struct slot_map *m)
{
	uint32_t c = m->fresh, chunk = c / CHUNK_CLUSTERS;
	struct cluster *k;

	if (c >= ((uint64_t)m->nslots + SLOT_CLUSTER - 1) / SLOT_CLUSTER)
		return NIL;
	if (m->chunk[chunk] == NULL) {
		m->chunk[chunk] = sys_mem_alloc(sizeof(struct chunk));
		if (m->chunk[chunk] == NULL)
			return NIL;
		m->nchunks++;
	}
	m->fresh++;
	k = cluster_of(m, c);
	k->list = LIST_NONE;
	k->free = (uint16_t)cluster_usable(m, c);
	if (c == 0)
		words_of(m, 0)[0] = 1; /* the header has its one user for ever */
	return c;
}

/* Make another cluster the current one; false when every slot is taken. */
static bool cluster_next(struct slot_map *m)
{
	uint32_t c = m->list[LIST_EMPTY].head;
	uint64_t spare = (uint64_t)m->fresh * SLOT_CLUSTER - m->used;

	if (c == NIL && spare * SPARE_PART < m->used)
		c = cluster_fresh(m);
	for (unsigned i = LIST_EMPTY; c == NIL && i-- != 0;)
		c = m->list[i].head;
	if (c == NIL)
		c = cluster_fresh(m);
	m->current = c;
	m->next = 0;
	if (c != NIL)
		unlist(m, c);
	return c != NIL;
}

/*
 * A run of free slots among words [from, n) that has `want`, or else the
 * longest: its length, and in *first where it begins.
 */
static uint32_t find_run(const uint64_t *w, uint32_t from, uint32_t n, uint32_t want,
			 uint32_t *first)
{
	uint32_t best = 0;

	for (uint32_t i = from; i < n; i++) {
		uint32_t start = i;

		while (i < n && i - start < want && w[i] == 0)
			i++;
		if (i - start > best) {
			best = i - start;
			*first = start;
			if (best == want)
				break;
		}
	}
	return best;
}

uint32_t slot_alloc(struct slot_map *m, uint32_t want, uint32_t *first)
{
	uint32_t n, at = 0;
	struct cluster *k;
	uint64_t *w;

	if (want == 0)
		return 0;
	for (;;) {
		uint32_t c;

		if (m->current == NIL && !cluster_next(m))
			return 0;
		c = m->current;
		k = cluster_of(m, c);
		w = words_of(m, c);
		n = find_run(w, m->next, cluster_slots(m, c), want < k->free ? want : k->free, &at);
		if (n != 0)
			break;
		/* Passed; what was freed behind the pass is for the next one. */
		m->current = NIL;
		relist(m, c);
	}
	for (uint32_t i = 0; i < n; i++)
		w[at + i] = 1;
	k->free = (uint16_t)(k->free - n);
	m->used += n;
	m->next = at + n;
	*first = m->current * SLOT_CLUSTER + at;
	return n;
}

/* The side table. */

static uint32_t side_home(const struct slot_map *m, uint32_t slot)
{
	return (uint32_t)(slot * (uint64_t)0x9e3779b97f4a7c15U >> 32) & (m->side_size - 1);
}

/* Where the slot is, or where it would go; the table is never full. */
static uint64_t *side_find(const struct slot_map *m, uint32_t slot)
{
	uint32_t i = side_home(m, slot);

	while (m->side[i] != 0 && m->side[i] >> 32 != slot)
		i = (i + 1) & (m->side_size - 1);
	return &m->side[i];
}

static int side_grow(struct slot_map *m)
{
	uint32_t old_size = m->side_size;
	uint32_t size = old_size != 0 ? old_size * 2 : SIDE_MIN;
	uint64_t *old = m->side, *side;

	side = size != 0 ? sys_mem_alloc((size_t)size * sizeof(*side)) : NULL;
	if (side == NULL)
		return -ENOMEM;
	m->side = side;
	m->side_size = size;
	for (uint32_t i = 0; i < old_size; i++)
		if (old[i] != 0)
			*side_find(m, (uint32_t)(old[i] >> 32)) = old[i];
	sys_mem_free(old, (size_t)old_size * sizeof(*old));
	return 0;
}

static void side_remove(struct slot_map *m, uint64_t *e)
{
	uint32_t mask = m->side_size - 1;
	uint32_t hole = (uint32_t)(e - m->side), i = hole;

	m->side_used--;
	for (;;) {
		uint32_t home;

		m->side[hole] = 0;
		/* the next entry that a search from its home would now miss */
		do {
			i = (i + 1) & mask;
			if (m->side[i] == 0)
				return;
			home = side_home(m, (uint32_t)(m->side[i] >> 32));
		} while (((i - home) & mask) < ((i - hole) & mask));
		m->side[hole] = m->side[i];
		hole = i;
	}
}

/* Users. */

int slot_get(struct slot_map *m, uint32_t slot)
{
	uint64_t *w = word_of(m, slot);
	uint64_t *e;

	if (w == NULL || (*w & COUNT_MASK) == 0) {
		check(false, "a user more, but it is free", slot);
		return -EINVAL;
	}
	if ((*w & COUNT_MASK) + 1 < COUNT_MORE) {
		++*w;
		return 0;
	}
	if ((*w & COUNT_MASK) != COUNT_MORE) {
		if ((uint64_t)m->side_used * 4 >= (uint64_t)m->side_size * 3 && side_grow(m) != 0)
			return -ENOMEM;
		*side_find(m, slot) = (uint64_t)slot << 32 | COUNT_MORE;
		m->side_used++;
		++*w;
		return 0;
	}
	e = side_find(m, slot);
	if ((uint32_t)*e == UINT32_MAX)
		return -ENOMEM;
	++*e;
	return 0;
}

bool slot_put(struct slot_map *m, uint32_t slot)
{
	uint64_t *w = word_of(m, slot);
	uint32_t c = slot / SLOT_CLUSTER;

	if (w == NULL || (*w & COUNT_MASK) == 0) {
		check(false, "a user less, but it is free", slot);
		return false;
	}
	if ((*w & COUNT_MASK) == COUNT_MORE) {
		uint64_t *e = side_find(m, slot);

		if ((uint32_t)*e != COUNT_MORE) {
			--*e;
			return false;
		}
		side_remove(m, e);
	}
	--*w;
	if ((*w & COUNT_MASK) != 0)
		return false;
	*w = 0;
	m->used--;
	cluster_of(m, c)->free++;
	if (c != m->current)
		relist(m, c);
	return true;
}

unsigned slot_count(const struct slot_map *m, uint32_t slot)
{
	const uint64_t *w = word_of(m, slot);

	if (w == NULL)
		return 0;
	if ((*w & COUNT_MASK) == COUNT_MORE)
		return (uint32_t)*side_find(m, slot);
	return (unsigned)(*w & COUNT_MASK);
}

/* Checksums. */

void slot_csum_set(struct slot_map *m, uint32_t slot, uint64_t csum)
{
	uint64_t *w = word_of(m, slot);

	if (w == NULL || (*w & COUNT_MASK) == 0) {
		check(false, "a checksum for it, but it is free", slot);
		return;
	}
	*w = csum << SLOT_COUNT_BITS | (*w & COUNT_MASK);
}

uint64_t slot_csum(const struct slot_map *m, uint32_t slot)
{
	const uint64_t *w = word_of(m, slot);

	return w != NULL ? *w >> SLOT_COUNT_BITS : 0;
}

/* The map. */

int slot_map_open(struct slot_map **out, uint32_t nslots)
{
	struct slot_map *m;

	if (nslots == 0)
		return -EINVAL;
	m = sys_mem_alloc(sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	m->nslots = nslots;
	m->current = NIL;
	for (unsigned i = 0; i < LISTS; i++)
		m->list[i].head = m->list[i].tail = NIL;
	*out = m;
	return 0;
}

void slot_map_close(struct slot_map *m)
{
	for (uint32_t i = 0; i < m->nchunks; i++)
		sys_mem_free(m->chunk[i], sizeof(struct chunk));
	sys_mem_free(m->side, (size_t)m->side_size * sizeof(*m->side));
	sys_mem_free(m, sizeof(*m));
}

int slot_map_grow(struct slot_map *m, uint32_t nslots)
{
	uint32_t last = (m->nslots - 1) / SLOT_CLUSTER, had;

	if (nslots < m->nslots)
		return -EINVAL;
	had = cluster_slots(m, last);
	m->nslots = nslots;
	/* The last cluster may have been cut short; the others are fresh. */
	if (last < m->fresh) {
		struct cluster *k = cluster_of(m, last);

		k->free = (uint16_t)(k->free + cluster_slots(m, last) - had);
		if (last != m->current)
			relist(m, last);
	}
	return 0;
}

uint32_t slot_map_total(const struct slot_map *m)
{
	return m->nslots - 1;
}

uint32_t slot_map_used(const struct slot_map *m)
{
	return m->used;
}

uint64_t slot_map_bytes(const struct slot_map *m)
{
	uint64_t directory = offsetof(struct slot_map, chunk) + m->nchunks * sizeof(m->chunk[0]);

	return ((directory + PAGE - 1) & ~(uint64_t)(PAGE - 1)) + (uint64_t)m->nchunks * PAGE +
	       (uint64_t)m->fresh * PAGE + m->side_size * sizeof(*m->side);
}
