/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tier.h - compressed pages, between staging and the areas (the kernel's zswap).
 *
 * A block of staging that is to be written is compressed first: what becomes
 * small enough goes into a pool (zpool.h) and its frame is released at once;
 * the rest is written to slots.  An object is named as a slot is, by a swp_t
 * (swp_pooled()), and can be held as one: beside a frame that equals it, so
 * that the page leaves again without being compressed again.
 *
 * Every object has one owner, the page that its head names: the owner's entry
 * is COMPRESSED, PRESENT or STAGED and holds it, at any moment at which the mm
 * lock is free.
 *
 * The pool counts to the limit.  When it is nearly full its coldest objects are
 * written through: objects beside a frame are forgotten; the others are
 * unpacked into memory of the tier's own, as many as make a large request, and
 * written to adjacent slots.  Until the write has ended they stay what
 * they are, so no fault waits for it.  What a write was begun for is known by the
 * tag in the object's head: it is not set on an object that came, or was
 * renamed, since.
 *
 * Called on a pager with the mm lock held.
 */
#ifndef FL_TIER_H
#define FL_TIER_H

#include "blkio.h"
#include "codec.h"
#include "pte.h"
#include "swap-slot.h"
#include "zpool.h"

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pager;

#define TIER_CHUNK 32U /* pages that are unpacked for one installation */
#define TIER_IO_PAGES 64U
#define TIER_IOS 4U
#define TIER_OBJ_MAX 3072U /* what does not become as small goes on to an area */
#define TIER_POOL_MIN ((uint64_t)ZPOOL_SPANS_MIN * ZPOOL_SPAN)

/* A write of unpacked objects to adjacent slots. */
struct tier_io {
	struct blk_req req; /* first: the callback gets it */
	struct pager *pager;
	bool busy;
	uint8_t tag;
	uint16_t n;
	swp_t swp;
	uint64_t vpn[TIER_IO_PAGES];
	uint64_t csum[TIER_IO_PAGES];
	struct iovec iov;
	char *pages;
};

struct tier {
	struct codec codec;  /* constant while the mm is; FL_COMPRESS_NONE: there is no tier */
	uint64_t pool_bytes; /* asked for; constant */
	bool on;	     /* the pool is there */
	struct zpool pool;
	char *out; /* a page, for what is being compressed */
	char *in;  /* TIER_CHUNK pages, for what was unpacked */
	uint32_t in_pages;
	uint32_t io_pages; /* of each write, at most */
	uint32_t ios;
	uint32_t rounds; /* of tier_balance() while no area took anything */
	struct tier_io *io;
	char *io_memory;
};

int tier_open(struct mm *mm);
void tier_close(struct mm *mm);

/* Fit the pool's bound to the limit. */
void tier_resize(struct mm *mm);

/*
 * In a forked child, which has a copy of the pool: nothing is being written,
 * and what the child's entries do not hold is forgotten.
 */
void tier_forked(struct mm *mm);

/* Put a page into the pool; SWP_NONE: it does not become small, or the pool is full. */
swp_t tier_store(struct mm *mm, vpn_t vpn, const void *page);

/* Unpack a page; false: it is not what was put there, and the error was counted and told. */
bool tier_load(struct mm *mm, vpn_t vpn, swp_t swp, void *page);
/* The same for who leaves an error to another. */
bool tier_unpack(struct mm *mm, vpn_t vpn, swp_t swp, void *page);

/* Whether objects are to be kept beside the frames that they became. */
bool tier_keeps(const struct mm *mm);

/* Whether those that are kept are to go. */
bool tier_tight(const struct mm *mm);

/* The owner of an object moved. */
void tier_rename(struct mm *mm, swp_t swp, vpn_t to);

/* Write through, as long as the pool is nearly full; after a round of the pager's loop. */
void tier_balance(struct pager *p);

/* No frame can be found: the pool is to become smaller.  True when it did at once. */
bool tier_shrink(struct pager *p);

/* Pages of the pool's memory, and those of the tier's own that are always there. */
uint64_t tier_pages(const struct mm *mm);
/* The same when the pool is as large as it may become. */
uint64_t tier_pages_most(const struct mm *mm);
/* Of tier_pages(), what the pool may take at once and has not taken. */
uint64_t tier_reserve(const struct mm *mm);
/* Pages that the pool may yet take, if they compress well: for what can be promised. */
uint64_t tier_room(const struct mm *mm);

#endif
