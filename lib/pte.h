/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pte.h - page entries: one 64-bit word for each page of an armed mm.
 *
 * The words live in a four-level table of 4 KiB nodes, 9 bits of the virtual
 * page number (vpn) a level, as the hardware's do; a leaf describes 2 MiB.
 * Nodes are pages of one memfd, so that another process can be shown them.
 * What was never touched has no leaf: a terabyte that is only mapped costs
 * nothing here.
 *
 *   bits  0-2   enum pte_state
 *   bit   3     PTE_YOUNG   not to be evicted on the hand's next visit
 *   bit   4     PTE_WP      write-protected since its content was that of its slot
 *   bits  5-6   PTE_BUSY    visits left before a frame that refused is tried again
 *   bit   7     PTE_SYNC    fl_sync() has taken these very bytes (hold.h)
 *   bits  8-9   PTE_WARM    visits more that a young page stays: it was asked for again
 *   bits 10-15  PTE_LEFT    SWAPPED: when it left, as reclaim.c counts; 0: not known
 *   bits 16-63  payload     PRESENT, SWAPPED, COMPRESSED: swp_t (PRESENT: SWP_NONE without a
 *                           slot or an object; COMPRESSED: an object)
 *                           STAGED: index of its staging page (which knows the slot)
 *                           FILLED: index in the fill table
 *
 * Which transitions are legal is a table in pte.c, checked in debug builds;
 * docs/design.md draws it.  All functions are called with the mm lock held;
 * the counters may be read at any time.
 */
#ifndef FL_PTE_H
#define FL_PTE_H

#include "swap-slot.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t pte_t;
typedef uint64_t vpn_t;

#define PAGE_SHIFT 12
#define PAGE_SIZE ((size_t)1 << PAGE_SHIFT)
#define PAGE_MASK (~(uintptr_t)(PAGE_SIZE - 1))
#define PTE_LEAF_PAGES 512U
#define VPN_MAX ((vpn_t)1 << 36)

enum pte_state {
	PTE_NONE,	/* never touched, or dropped */
	PTE_PRESENT,	/* a frame is mapped (or the kernel's zero page, which is charged as one) */
	PTE_STAGED,	/* a staging page holds it, or will when its read ends */
	PTE_SWAPPED,	/* in its slot only */
	PTE_FILLED,	/* one repeated word */
	PTE_POISONED,	/* unreadable */
	PTE_COMPRESSED, /* in the pool only */
	PTE_STATES
};

#define PTE_STATE_MASK 0x7U
#define PTE_YOUNG ((pte_t)1 << 3)
#define PTE_WP ((pte_t)1 << 4)
#define PTE_BUSY_SHIFT 5
#define PTE_BUSY ((pte_t)3 << PTE_BUSY_SHIFT)
#define PTE_SYNC ((pte_t)1 << 7)
#define PTE_WARM_SHIFT 8
#define PTE_WARM ((pte_t)3 << PTE_WARM_SHIFT)
#define PTE_LEFT_SHIFT 10
#define PTE_LEFT ((pte_t)63 << PTE_LEFT_SHIFT)
/* what only the clock looks at */
#define PTE_CLOCK (PTE_YOUNG | PTE_WARM | PTE_BUSY)
#define PTE_PAYLOAD_SHIFT 16

static inline enum pte_state pte_state(pte_t v)
{
	return (enum pte_state)(v & PTE_STATE_MASK);
}

static inline uint64_t pte_payload(pte_t v)
{
	return v >> PTE_PAYLOAD_SHIFT;
}

static inline pte_t pte_make(enum pte_state s, uint64_t payload, pte_t bits)
{
	return (pte_t)s | bits | payload << PTE_PAYLOAD_SHIFT;
}

/* Payload of PRESENT, SWAPPED and COMPRESSED. */
static inline swp_t pte_swp(pte_t v)
{
	return pte_payload(v);
}

/* The entry of a page that is in its slot only, or its object. */
static inline pte_t pte_away(swp_t swp)
{
	return pte_make(swp_pooled(swp) ? PTE_COMPRESSED : PTE_SWAPPED, swp, 0);
}

#define PTE_LEVELS 4
#define PTE_CHUNK_NODES 512U
#define PTE_CHUNK_BYTES ((size_t)PTE_CHUNK_NODES * 4096U) /* by so much the tables grow */
#define PTE_CHUNKS_MAX 65536U

struct pte_table {
	int memfd;
	uint32_t nchunks;
	char **chunk;	    /* PTE_CHUNKS_MAX pointers, touched as needed */
	uint32_t next_node; /* never used from here on */
	uint32_t free_node; /* list through the first word of free nodes; 0 ends it */
	uint32_t nodes;	    /* in use */
	uint32_t root;
	uint64_t count[PTE_STATES]; /* pages by state; written under the mm lock, read by anyone */
	uint64_t came;		    /* entries that became PRESENT, so far */
	/* the leaf that was last used; leaf 0 is never cached */
	vpn_t cache_key;
	pte_t *cache_leaf;
	uint64_t *cache_link;
};

int pte_table_open(struct pte_table *t);
void pte_table_close(struct pte_table *t);

/*
 * A copy of a table, in a memfd of its own.  change() is called for each entry
 * but those of pages that are none, or present without more to say of them
 * than PTE_YOUNG, and returns what the copy gets.  0 or -ENOMEM.
 */
typedef pte_t (*pte_change)(void *arg, vpn_t vpn, pte_t pte);
int pte_table_copy(struct pte_table *dst, struct pte_table *src, pte_change change, void *arg);

pte_t pte_get(struct pte_table *t, vpn_t vpn);
/* It is about to be changed: it is on its way into the CPU's cache.  Changes nothing. */
void pte_prefetch(const struct pte_table *t, vpn_t vpn);

/*
 * Make sure that the leaves of [vpn, vpn + n) exist, so that pte_set() there
 * cannot fail.  0 or -ENOMEM.
 */
int pte_reserve(struct pte_table *t, vpn_t vpn, size_t n);

/* Write an entry; its leaf must exist unless v is none. */
void pte_set(struct pte_table *t, vpn_t vpn, pte_t v);

/* Entries of [vpn, end) become PRESENT up to the first that is not none, or end: which one. */
vpn_t pte_fill_present(struct pte_table *t, vpn_t vpn, vpn_t end);

/* Change the bits of an entry, not its state or payload. */
void pte_set_bits(struct pte_table *t, vpn_t vpn, pte_t set, pte_t clear);

/* The leaf that holds vpn, or NULL; entries may be read through it. */
const pte_t *pte_leaf(struct pte_table *t, vpn_t vpn);

/*
 * The first vpn in [vpn, end) whose entry is in a state of the mask
 * (1 << state), skipping what has no leaf; end when there is none.
 */
vpn_t pte_next(struct pte_table *t, vpn_t vpn, vpn_t end, unsigned mask);

/* How many entries of vpn's leaf are PRESENT. */
unsigned pte_leaf_present(struct pte_table *t, vpn_t vpn);

/* How many are not none. */
unsigned pte_leaf_used(struct pte_table *t, vpn_t vpn);

/* Give back leaves in [vpn, end) whose entries are all none. */
void pte_trim(struct pte_table *t, vpn_t vpn, vpn_t end);

uint64_t pte_touched(const struct pte_table *t); /* entries that are not none */
uint64_t pte_bytes(const struct pte_table *t);

const char *pte_state_name(enum pte_state s);

#endif
