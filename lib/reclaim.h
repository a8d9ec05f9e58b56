/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * reclaim.h - the limit: which frames leave, and when.
 *
 * A clock hand goes around the page entries in address order.  A young page
 * loses its mark and stays; the others leave: pages known to equal their slot
 * (write-protected since they were read in) are dropped, hundreds in one
 * process_madvise(2); the rest are moved into staging, runs at a time.
 *
 * Called on a pager with the mm lock held.
 */
#ifndef FL_RECLAIM_H
#define FL_RECLAIM_H

#include "pte.h"

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pager;
struct region;

/*
 * Make sure that n frames may be added.  False: not now; either writes are in
 * flight (try again when one ends) or nothing can leave (reclaim_stuck()).
 */
bool reclaim_make_room(struct pager *p, uint64_t n);

/* The same for up to n frames: how many may be added now. */
uint32_t reclaim_some_room(struct pager *p, uint32_t n);

/*
 * Up to n frames that may be added without anything leaving, for who is no pager; 0 when free
 * frames are so few that a pager is to see to it.
 */
uint32_t reclaim_free_room(struct mm *mm, uint32_t n);

/* Keep some frames free ahead of the faults; after a round of the pager's loop. */
void reclaim_balance(struct pager *p);

/* Whether writes in flight will free frames. */
bool reclaim_coming(const struct mm *mm);

/* Whether a pager has I/O in flight. */
bool reclaim_io(const struct mm *mm);

/* Whether waiting cannot help: nothing is in flight and nothing can leave. */
bool reclaim_stuck(struct pager *p);

/*
 * Some pages of one region in [*at, end) leave as under the hand, young ones later; *at: where
 * it stopped.  How many left.
 */
uint64_t reclaim_clock(struct pager *p, const struct region *r, vpn_t *at, vpn_t end,
		       uint64_t want);

/*
 * n pages are about to come by a stream: where frames are short as many leave that
 * streams brought before, young or not.
 */
void reclaim_trail(struct pager *p, uint64_t n);

/*
 * Whether a page that is SWAPPED left so late that it would have been found, had others
 * left in its place.
 */
bool reclaim_was_late(const struct mm *mm, pte_t pte);

/* A page that is not there, or in staging, was touched, and has a frame again. */
void reclaim_came(struct mm *mm, vpn_t vpn);

/* Whether frames are so few that what streams brought leaves for n that they bring next. */
bool reclaim_is_short(const struct mm *mm, uint64_t n);

/* Whether n more cached pages would take the place of what is not in use. */
bool reclaim_spares(const struct mm *mm, uint64_t n);

/* madvise(MADV_PAGEOUT): evict what can leave of [vpn, end), young or not. */
void reclaim_range(struct pager *p, vpn_t vpn, vpn_t end);

#endif
