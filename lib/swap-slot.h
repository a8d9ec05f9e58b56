/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-slot.h - slots: one page's place in an area.
 *
 * A slot is named by a swp_t: area in the high bits, slot number in the low
 * SWP_SLOT_BITS.  Slot 0 of an area is its header and never handed out, so
 * the value 0 (area 0, slot 0) stands for "no slot".
 *
 * The map of an area's slots is shared memory.  The processes that use it (a
 * process that armed, and those forked from it) are its members.  A member
 * holds a slot for a page entry of its own, at most once, and may be busy with
 * it (I/O in flight) whether it still holds it or not; the slot is free when
 * no member holds it or is busy with it.  A member that ended, whatever way,
 * is found by slot_map_sweep(), which gives back what it held.
 *
 * Slots are handed out in clusters of SLOT_CLUSTER so that pages that leave
 * together lie together; a run never crosses an extent's end.
 *
 * Within a member every function is called with its mm lock held.  Between
 * members there is no lock: see swap-slot.c.
 */
#ifndef FL_SWAP_SLOT_H
#define FL_SWAP_SLOT_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t swp_t;

#define SWP_NONE ((swp_t)0)
#define SWP_SLOT_BITS 32
#define SWP_POOL 32U /* behind the last area: the pool, whose objects are named like slots */
#define SLOT_CLUSTER 512U
#define SLOT_CSUM_BITS 48
#define SLOT_MEMBERS_MAX 2048U

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

/* An object of the pool of compressed pages (tier.h) can be held as a slot can. */
static inline bool swp_pooled(swp_t e)
{
	return swp_area(e) == SWP_POOL;
}

static inline swp_t swp_of_object(uint32_t object)
{
	return swp_make(SWP_POOL, object);
}

static inline uint32_t swp_object(swp_t e)
{
	return swp_slot(e);
}

struct slot_map; /* one member's view of an area's slots */

/*
 * A map of its own for an area of nslots slots (1 to nslots - 1 are free) that
 * may grow to max_slots.  What was never used costs no memory.
 */
int slot_map_open(struct slot_map **out, uint32_t nslots, uint32_t max_slots);
void slot_map_close(struct slot_map *m);
int slot_map_grow(struct slot_map *m, uint32_t nslots);

/*
 * Take a run of free, adjacent slots, each held by this member: as near to
 * `want` as the current cluster allows, at least 1.  Returns the length, 0
 * when the area is full; *first gets the first.
 */
uint32_t slot_alloc(struct slot_map *m, uint32_t want, uint32_t *first);

/* Slots of clusters that were ever used; and up to how many may be where that makes runs longer. */
uint64_t slot_map_room(const struct slot_map *m);
void slot_map_roomy(struct slot_map *m, uint64_t slots);

/* This member does not hold the slot any more; true when it is free now. */
bool slot_put(struct slot_map *m, uint32_t slot);

/* I/O begins, and ends; true when the slot is free now. */
void slot_busy(struct slot_map *m, uint32_t slot);
bool slot_idle(struct slot_map *m, uint32_t slot);
bool slot_is_busy(const struct slot_map *m, uint32_t slot);

bool slot_held(const struct slot_map *m, uint32_t slot);      /* by this member */
unsigned slot_users(const struct slot_map *m, uint32_t slot); /* members that hold it or are busy */

void slot_csum_set(struct slot_map *m, uint32_t slot, uint64_t csum);
uint64_t slot_csum(const struct slot_map *m, uint32_t slot); /* SLOT_CSUM_BITS wide; 0: none */

/* Where the checksums are: two arrays by slot, their low 32 bits and their high 16. */
struct slot_csums {
	const uint32_t *low;
	const uint16_t *high;
	uint64_t slots;
};
struct slot_csums slot_csums(const struct slot_map *m);

uint32_t slot_map_total(const struct slot_map *m); /* usable slots */
uint32_t slot_map_used(const struct slot_map *m);  /* by all members */
uint32_t slot_map_mine(const struct slot_map *m);  /* by this one */
uint64_t slot_map_bytes(
	const struct slot_map *m); /* bookkeeping: what is shared, and its own bits */
unsigned slot_map_members(const struct slot_map *m);

/*
 * A member more, for a child that is to be forked.  The child's view is made
 * here and inherited by the fork; its descriptor is to be sent to the child.
 * proc_fd: a descriptor of /proc.
 */
int slot_map_join(struct slot_map *m, int proc_fd, struct slot_map **child);
int slot_map_fd(const struct slot_map *m);
/* The child holds, too, a slot that this member holds.  -ENOMEM: it has too many users. */
int slot_share(struct slot_map *m, struct slot_map *child, uint32_t slot);
/* After the fork, in the parent.  failed: there is no child, give back what it holds. */
void slot_map_part(struct slot_map *m, struct slot_map *child, bool failed);
/* After the fork, in the child: fd is the one that was sent; the parent's view goes. */
void slot_map_enter(struct slot_map *child, struct slot_map *parent, int fd);

/*
 * Members that are not forked.  One member of a map, the server, makes all of
 * them, holds no slots, and is the only one that recounts: a map that nobody else
 * is a member of is empty.  It calls slot_map_serve() first: the memory cannot be
 * made smaller then.
 *
 * slot_map_invite() makes a member of whoever gets the descriptor *fd: it
 * lives for as long as that is open, and is *member to slot_map_accept(),
 * which takes the descriptor over when it succeeds.  slot_map_adopt() makes a
 * server again of a process that is given any descriptor of a map that was
 * served before (it stays the caller's): -EINVAL when it is no such map.
 */
int slot_map_serve(struct slot_map *m);
int slot_map_invite(struct slot_map *m, int proc_fd, int *fd, uint32_t *member);
int slot_map_accept(struct slot_map **out, int fd, uint32_t member, uint32_t max_slots);
int slot_map_adopt(struct slot_map **out, int proc_fd, int fd, uint32_t max_slots);

/*
 * The bits of a map counted: slots in use, against those that members have set for what they
 * hold or are busy with.
 */
struct slot_count {
	uint64_t used;
	uint64_t lost;	  /* in use, and nobody's */
	uint64_t free;	  /* somebody's, and not in use */
	unsigned members; /* that live */
	unsigned dead;	  /* that ended, and hold something */
};

/* Read-only; what changes meanwhile may be counted as lost or free.  fd: of a map. */
int slot_map_count(int fd, uint32_t max_slots, struct slot_count *out);

/*
 * This member's I/O goes through fd, an open file description of the area that
 * is its own: 0, or -errno when that file cannot be locked.
 */
int slot_map_io(struct slot_map *m, int fd);

/*
 * Give back what members held that have ended; how many slots became free.
 * What such a member was busy with is kept until its I/O is over (the kernel
 * carries on what a process leaves behind, and a write must not meet a new
 * page), or, when it had no description of its own, SLOT_QUARANTINE_NS long.
 */
#define SLOT_QUARANTINE_NS 10000000000U
uint32_t slot_map_sweep(struct slot_map *m);

#endif
