/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-slot.h - slots: one page's place in an area.
 *
 * A slot is named by a swp_t: area in the high bits, slot number in the low
 * SWP_SLOT_BITS.  Slot 0 of an area is its header and never handed out, so
 * the value 0 (area 0, slot 0) stands for "no slot".
 *
 * One 64-bit word a slot holds its reference count (SLOT_COUNT_BITS, the
 * largest value meaning "continued in a side table") and its page's checksum.
 * Slots are handed out in clusters of SLOT_CLUSTER so that pages that leave
 * together lie together; a run never crosses an extent's end.
 *
 * Every function is called with the runtime's mm lock held.
 */
#ifndef FL_SWAP_SLOT_H
#define FL_SWAP_SLOT_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t swp_t;

#define SWP_NONE ((swp_t)0)
#define SWP_SLOT_BITS 32
#define SWP_BITS (SWP_SLOT_BITS + 5)
#define SLOT_CLUSTER 512U
#define SLOT_COUNT_BITS 4
#define SLOT_CSUM_BITS (64 - SLOT_COUNT_BITS)

static inline unsigned swp_area(swp_t e)
{
	return (unsigned)(e >> SWP_SLOT_BITS);
}

static inline uint32_t swp_slot(swp_t e)
{
	return (uint32_t)e;
}

static inline swp_t swp_make(unsigned area, uint32_t slot)
{
	return ((swp_t)area << SWP_SLOT_BITS) | slot;
}

/*
 * The slots of one area.  Tables grow with the area and are taken lazily:
 * an area of a terabyte whose slots were never used costs next to nothing.
 */
struct slot_map;

int slot_map_open(struct slot_map **out, uint32_t nslots); /* slots 1 to nslots - 1 are free */
void slot_map_close(struct slot_map *m);
int slot_map_grow(struct slot_map *m, uint32_t nslots);

/*
 * Take a run of free, adjacent slots, each with count 1: as near to `want` as
 * the current cluster allows, at least 1.  Returns the length, 0 when the area
 * is full; *first gets the first.
 */
uint32_t slot_alloc(struct slot_map *m, uint32_t want, uint32_t *first);

/* One user more; -ENOMEM when the side table cannot grow. */
int slot_get(struct slot_map *m, uint32_t slot);
bool slot_put(struct slot_map *m, uint32_t slot); /* one user less; true when that was the last */
unsigned slot_count(const struct slot_map *m, uint32_t slot);

void slot_csum_set(struct slot_map *m, uint32_t slot, uint64_t csum);
uint64_t slot_csum(const struct slot_map *m, uint32_t slot); /* SLOT_CSUM_BITS wide */

uint32_t slot_map_total(const struct slot_map *m); /* usable slots */
uint32_t slot_map_used(const struct slot_map *m);
uint64_t slot_map_bytes(const struct slot_map *m); /* bookkeeping */

#endif
