/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pte.c - page entries; see pte.h.
 *
 * An upper node's words: bits 0-31 the child's node number (0: none), bits
 * 32-47 how many of the child's words are not zero, bits 48-63 (only above a
 * leaf) how many of the leaf's entries are PRESENT.
 */
#include "pte.h"

#include "log.h"
#include "sys.h"

#include <errno.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>

#define LINK_NODE 0xffffffffU
#define LINK_USED ((uint64_t)1 << 32)
#define LINK_USED_MASK ((uint64_t)0xffff << 32)
#define LINK_PRESENT ((uint64_t)1 << 48)
#define NO_KEY (~(vpn_t)0)

#ifdef FL_DEBUG
#define BIT(s) (1U << PTE_##s)
/* From (row) to (bits).  Everything may become NONE: unmapped or dropped. */
static const unsigned legal[PTE_STATES] = {
	[PTE_NONE] = BIT(NONE) | BIT(PRESENT) | BIT(STAGED) | BIT(SWAPPED) | BIT(FILLED) |
		     BIT(POISONED) | BIT(COMPRESSED),
	[PTE_PRESENT] = BIT(NONE) | BIT(PRESENT) | BIT(STAGED) | BIT(SWAPPED) | BIT(COMPRESSED),
	[PTE_STAGED] = BIT(NONE) | BIT(PRESENT) | BIT(STAGED) | BIT(SWAPPED) | BIT(FILLED) |
		       BIT(POISONED) | BIT(COMPRESSED),
	[PTE_SWAPPED] = BIT(NONE) | BIT(STAGED),
	[PTE_FILLED] = BIT(NONE) | BIT(PRESENT),
	[PTE_POISONED] = BIT(NONE),
	[PTE_COMPRESSED] =
		BIT(NONE) | BIT(PRESENT) | BIT(COMPRESSED) | BIT(SWAPPED) | BIT(POISONED),
};
#undef BIT
#endif

const char *pte_state_name(enum pte_state s)
{
	static const char *const names[PTE_STATES] = {"none",	"present",  "staged",	 "swapped",
						      "filled", "poisoned", "compressed"};

	return s < PTE_STATES ? names[s] : "?";
}

static uint64_t *node_words(const struct pte_table *t, uint32_t node)
{
	return (uint64_t *)(void *)(t->chunk[node / PTE_CHUNK_NODES] +
				    (node % PTE_CHUNK_NODES) * PAGE_SIZE);
}

static int chunk_add(struct pte_table *t)
{
	size_t off = t->nchunks * PTE_CHUNK_BYTES;
	void *p;
	long r;

	if (t->nchunks == PTE_CHUNKS_MAX)
		return -ENOMEM;
	r = SYS2(ftruncate, t->memfd, off + PTE_CHUNK_BYTES);
	if (sys_err(r))
		return (int)r;
	p = sys_mem_map(PTE_CHUNK_BYTES, MAP_SHARED, t->memfd, off);
	if (p == NULL)
		return -ENOMEM;
	sys_mem_nodump(p, PTE_CHUNK_BYTES);
	t->chunk[t->nchunks++] = p;
	return 0;
}

/* A zeroed node, or 0. */
static uint32_t node_get(struct pte_table *t)
{
	uint32_t n = t->free_node;

	if (n != 0) {
		uint64_t *w = node_words(t, n);

		t->free_node = (uint32_t)w[0];
		w[0] = 0;
	} else {
		if (t->next_node == t->nchunks * PTE_CHUNK_NODES && chunk_add(t) != 0)
			return 0;
		n = t->next_node++;
	}
	t->nodes++;
	return n;
}

/* The node's words are all zero. */
static void node_put(struct pte_table *t, uint32_t n)
{
	node_words(t, n)[0] = t->free_node;
	t->free_node = n;
	t->nodes--;
}

int pte_table_open(struct pte_table *t)
{
	long fd = SYS2(memfd_create, "faultline-pte", MFD_CLOEXEC);
	int r;

	memset(t, 0, sizeof(*t));
	t->cache_key = NO_KEY;
	if (sys_err(fd))
		return (int)fd;
	t->memfd = (int)fd;
	t->chunk = sys_mem_alloc(PTE_CHUNKS_MAX * sizeof(*t->chunk));
	t->next_node = 1; /* number 0 stands for none */
	r = t->chunk == NULL ? -ENOMEM : chunk_add(t);
	if (r != 0) {
		pte_table_close(t);
		return r;
	}
	t->root = node_get(t);
	return 0;
}

void pte_table_close(struct pte_table *t)
{
	if (t->chunk != NULL) {
		for (uint32_t i = 0; i < t->nchunks; i++)
			SYS2(munmap, t->chunk[i], PTE_CHUNK_BYTES);
		sys_mem_free(t->chunk, PTE_CHUNKS_MAX * sizeof(*t->chunk));
	}
	SYS1(close, t->memfd);
	memset(t, 0, sizeof(*t));
}

static unsigned slot_of(vpn_t vpn, int level)
{
	return (unsigned)(vpn >> (9 * (PTE_LEVELS - 1 - level))) & 511U;
}

/* The leaf of vpn, made where it is missing and wanted; NULL: none, or no memory. */
static pte_t *walk(struct pte_table *t, vpn_t vpn, bool make, uint64_t **link_out)
{
	uint64_t *w = node_words(t, t->root);
	uint64_t *link = NULL;
	uint64_t *up = NULL;

	if (vpn / PTE_LEAF_PAGES == t->cache_key) {
		*link_out = t->cache_link;
		return t->cache_leaf;
	}
	for (int level = 0; level < PTE_LEVELS - 1; level++) {
		up = link;
		link = &w[slot_of(vpn, level)];
		if ((*link & LINK_NODE) == 0) {
			uint32_t n = make ? node_get(t) : 0;

			if (n == 0)
				return NULL;
			*link = n;
			if (up != NULL)
				*up += LINK_USED;
		}
		w = node_words(t, (uint32_t)(*link & LINK_NODE));
	}
	t->cache_key = vpn / PTE_LEAF_PAGES;
	t->cache_leaf = w;
	t->cache_link = link;
	*link_out = link;
	return w;
}

pte_t pte_get(struct pte_table *t, vpn_t vpn)
{
	uint64_t *link;
	const pte_t *leaf = walk(t, vpn, false, &link);

	return leaf != NULL ? leaf[vpn % PTE_LEAF_PAGES] : 0;
}

void pte_prefetch(const struct pte_table *t, vpn_t vpn)
{
	const uint64_t *w = node_words(t, t->root);

	for (int level = 0; level < PTE_LEVELS - 1; level++) {
		uint32_t n = (uint32_t)(w[slot_of(vpn, level)] & LINK_NODE);

		if (n == 0)
			return;
		w = node_words(t, n);
	}
	__builtin_prefetch(&w[vpn % PTE_LEAF_PAGES], 1);
}

const pte_t *pte_leaf(struct pte_table *t, vpn_t vpn)
{
	uint64_t *link;

	return walk(t, vpn, false, &link);
}

unsigned pte_leaf_present(struct pte_table *t, vpn_t vpn)
{
	uint64_t *link;

	return walk(t, vpn, false, &link) != NULL ? (unsigned)(*link >> 48) : 0;
}

unsigned pte_leaf_used(struct pte_table *t, vpn_t vpn)
{
	uint64_t *link;

	return walk(t, vpn, false, &link) != NULL ? (unsigned)((*link & LINK_USED_MASK) / LINK_USED)
						  : 0;
}

int pte_reserve(struct pte_table *t, vpn_t vpn, size_t n)
{
	vpn_t last = vpn + n - 1;
	uint64_t *link;

	for (vpn_t v = vpn; v / PTE_LEAF_PAGES <= last / PTE_LEAF_PAGES; v += PTE_LEAF_PAGES)
		if (walk(t, v, true, &link) == NULL)
			return -ENOMEM;
	return 0;
}

static void count_add(struct pte_table *t, enum pte_state s, uint64_t d)
{
	__atomic_store_n(&t->count[s], t->count[s] + d, __ATOMIC_RELAXED);
}

void pte_set(struct pte_table *t, vpn_t vpn, pte_t v)
{
	uint64_t *link;
	pte_t *leaf = walk(t, vpn, false, &link);
	enum pte_state from;
	enum pte_state to = pte_state(v);
	pte_t *p;

	if (leaf == NULL) {
		if (to != PTE_NONE)
			log_fatal("page entry without a leaf");
		return;
	}
	p = &leaf[vpn % PTE_LEAF_PAGES];
	from = pte_state(*p);
#ifdef FL_DEBUG
	if (!(legal[from] & 1U << to))
		log_fatal("page entry of 0x%lx: %s to %s", (unsigned long)(vpn << PAGE_SHIFT),
			  pte_state_name(from), pte_state_name(to));
#endif
	if (to == PTE_NONE)
		v = 0;
	if (*p == 0 && v != 0)
		*link += LINK_USED;
	if (*p != 0 && v == 0)
		*link -= LINK_USED;
	if (from != PTE_PRESENT && to == PTE_PRESENT) {
		*link += LINK_PRESENT;
		t->came++;
	}
	if (from == PTE_PRESENT && to != PTE_PRESENT)
		*link -= LINK_PRESENT;
	if (from != to) {
		count_add(t, from, (uint64_t)-1);
		count_add(t, to, 1);
	}
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

vpn_t pte_fill_present(struct pte_table *t, vpn_t vpn, vpn_t end)
{
	while (vpn < end) {
		vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;
		vpn_t first = vpn;
		uint64_t *link;
		pte_t *leaf = walk(t, vpn, false, &link);

		if (leaf == NULL)
			log_fatal("page entry without a leaf");
		if (stop > end)
			stop = end;
		for (; vpn < stop && leaf[vpn % PTE_LEAF_PAGES] == 0; vpn++)
			__atomic_store_n(&leaf[vpn % PTE_LEAF_PAGES],
					 pte_make(PTE_PRESENT, SWP_NONE, 0), __ATOMIC_RELAXED);
		*link += (vpn - first) * (LINK_USED + LINK_PRESENT);
		count_add(t, PTE_NONE, first - vpn);
		count_add(t, PTE_PRESENT, vpn - first);
		t->came += vpn - first;
		if (vpn < stop)
			break;
	}
	return vpn;
}

void pte_set_bits(struct pte_table *t, vpn_t vpn, pte_t set, pte_t clear)
{
	uint64_t *link;
	pte_t *leaf = walk(t, vpn, false, &link);

	if (leaf != NULL && leaf[vpn % PTE_LEAF_PAGES] != 0)
		leaf[vpn % PTE_LEAF_PAGES] = (leaf[vpn % PTE_LEAF_PAGES] & ~clear) | set;
}

/* The next leaf at or above vpn: its first vpn (not below vpn's leaf), or VPN_MAX. */
static vpn_t next_leaf(struct pte_table *t, vpn_t vpn, bool present_only)
{
	vpn &= ~(vpn_t)(PTE_LEAF_PAGES - 1);
	while (vpn < VPN_MAX) {
		uint64_t *w = node_words(t, t->root);
		uint64_t link = 0;
		int level;

		for (level = 0; level < PTE_LEVELS - 1; level++) {
			link = w[slot_of(vpn, level)];
			if ((link & LINK_NODE) == 0)
				break;
			w = node_words(t, (uint32_t)(link & LINK_NODE));
		}
		if (level == PTE_LEVELS - 1) {
			if (present_only ? link >> 48 != 0 : (link & LINK_USED_MASK) != 0)
				return vpn;
			level--;
		}
		/* skip the whole subtree that is missing */
		vpn_t span = (vpn_t)1 << (9 * (PTE_LEVELS - 1 - level));
		vpn = (vpn & ~(span - 1)) + span;
	}
	return VPN_MAX;
}

vpn_t pte_next(struct pte_table *t, vpn_t vpn, vpn_t end, unsigned mask)
{
	while (vpn < end) {
		vpn_t first = next_leaf(t, vpn, mask == 1U << PTE_PRESENT);
		const pte_t *leaf;
		vpn_t stop;

		if (first > vpn)
			vpn = first;
		if (vpn >= end)
			break;
		leaf = pte_leaf(t, vpn);
		stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;
		for (; vpn < stop && vpn < end; vpn++)
			if (mask & 1U << pte_state(leaf[vpn % PTE_LEAF_PAGES]))
				return vpn;
	}
	return end;
}

void pte_trim(struct pte_table *t, vpn_t vpn, vpn_t end)
{
	for (vpn &= ~(vpn_t)(PTE_LEAF_PAGES - 1); vpn < end;) {
		uint64_t *w = node_words(t, t->root);
		uint64_t *link[PTE_LEVELS - 1] = {NULL};
		int level;

		for (level = 0; level < PTE_LEVELS - 1; level++) {
			link[level] = &w[slot_of(vpn, level)];
			if ((*link[level] & LINK_NODE) == 0)
				break;
			w = node_words(t, (uint32_t)(*link[level] & LINK_NODE));
		}
		vpn_t span = (vpn_t)1 << (9 * (PTE_LEVELS - 1 - level));
		if (level == PTE_LEVELS - 1)
			span = PTE_LEAF_PAGES;
		/* from the bottom up, as long as nothing is left in the node */
		while (level-- > 0 && (*link[level] & LINK_USED_MASK) == 0) {
			node_put(t, (uint32_t)(*link[level] & LINK_NODE));
			*link[level] = 0;
			if (level > 0)
				*link[level - 1] -= LINK_USED;
			t->cache_key = NO_KEY;
		}
		vpn = (vpn & ~(span - 1)) + span;
	}
}

/* The used nodes of chunk i, written where the copy will map them: cheaper than to fault each in. */
static int chunk_copy(struct pte_table *dst, const struct pte_table *src, uint32_t i)
{
	uint32_t first = i * PTE_CHUNK_NODES;
	uint32_t n =
		src->next_node - first < PTE_CHUNK_NODES ? src->next_node - first : PTE_CHUNK_NODES;
	size_t len = n * PAGE_SIZE;
	size_t done = 0;

	if (i >= dst->nchunks && chunk_add(dst) != 0)
		return -ENOMEM;
	while (done < len) {
		long r = SYS4(pwrite, dst->memfd, src->chunk[i] + done, len - done,
			      i * PTE_CHUNK_BYTES + done);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			return -ENOMEM;
		done += (size_t)r;
	}
	return 0;
}

int pte_table_copy(struct pte_table *dst, struct pte_table *src, pte_change change, void *arg)
{
	int r = pte_table_open(dst);

	for (uint32_t i = 0; r == 0 && i * PTE_CHUNK_NODES < src->next_node; i++)
		r = chunk_copy(dst, src, i);
	if (r != 0) {
		if (dst->chunk != NULL)
			pte_table_close(dst);
		return r;
	}
	dst->next_node = src->next_node;
	dst->free_node = src->free_node;
	dst->nodes = src->nodes;
	dst->root = src->root;
	memcpy(dst->count, src->count, sizeof(dst->count));
	for (vpn_t vpn = 0; (vpn = next_leaf(src, vpn, false)) < VPN_MAX; vpn += PTE_LEAF_PAGES) {
		const pte_t *leaf = pte_leaf(src, vpn);

		for (unsigned i = 0; i < PTE_LEAF_PAGES; i++) {
			pte_t pte = leaf[i];
			pte_t to;

			if (pte == 0 || (pte & ~PTE_YOUNG) == PTE_PRESENT)
				continue;
			to = change(arg, vpn + i, pte);
			if (to != pte)
				pte_set(dst, vpn + i, to);
		}
	}
	return 0;
}

uint64_t pte_touched(const struct pte_table *t)
{
	uint64_t n = 0;

	for (unsigned s = PTE_NONE + 1; s < PTE_STATES; s++)
		n += t->count[s];
	return n;
}

uint64_t pte_bytes(const struct pte_table *t)
{
	return (uint64_t)t->nodes * PAGE_SIZE;
}
