/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * traits.h - what a program wants of a range (fl_region_set()): priority, a limit
 * and a read-ahead window of its own, and to be asked about pages that cannot be
 * read.
 *
 * Each call makes one set of traits; the regions of its range carry its number
 * in their flags, so that splitting, merging and moving need to know nothing of
 * it.  A set that no region carries any more is given to the next call.
 *
 * Priority decides what the clocks take.  Cold pages are looked at first.  Hot
 * ones are passed over until two revolutions found nothing else.
 *
 * A limit is kept from outside: after a round of the pager's loop in which pages
 * came, the frames of the range are counted and what is too much leaves, by a
 * clock of the range.  Accepted: for a round there may be more.
 *
 * Who wants to be asked is called on a thread of the C library's, which
 * fl_region_set() makes when it is first needed; the read stays in flight
 * meanwhile, and the answer is a hop, served also within other calls.
 *
 * What a store's server pages for this process (share.h) has priority and window there:
 * it is told these, and its regions of other processes carry numbers of its own table.
 * Ranges that want the same share a set of that, so nobody's calls exhaust it.
 *
 * Called with the mm lock held.
 */
#ifndef FL_TRAITS_H
#define FL_TRAITS_H

#include "faultline.h"
#include "pte.h"
#include "region.h"

#include <stdbool.h>
#include <stdint.h>

struct file_io;
struct mm;
struct pagecache;
struct pager;
struct source;

#define TRAITS_MAX 1024U /* sets; 0 is none */

struct traits {
	bool used;
	enum fl_priority priority;
	uint64_t limit;	    /* pages; 0: none */
	uint32_t readahead; /* pages; 0: as the runtime's */
	fl_error_fn on_error;
	void *error_arg;
	vpn_t start, end; /* where it was set; it may have moved since */
	vpn_t hand;
};

/* What a runtime has of them. */
struct traits_table {
	struct traits *set;	     /* TRAITS_MAX; NULL: none were ever set */
	uint32_t hot, cold, limited; /* how many sets in use are so */
	uint64_t counted;	     /* pages that had come when limits were last looked at */
	struct source *asked;	     /* the queue of reads that failed, to the thread that asks */
};

/* On a pager.  options NULL: none. */
long do_region_set(struct mm *mm, uintptr_t start, uintptr_t end,
		   const struct fl_region_options *options);

static inline uint32_t traits_number(const struct region *r)
{
	return (r->flags & REGION_TRAITS) >> REGION_TRAITS_SHIFT;
}

/* Of a region; NULL: none. */
const struct traits *traits_of(const struct mm *mm, const struct region *r);

enum fl_priority traits_priority(const struct mm *mm, const struct region *r);

/* The largest read-ahead window of a region, where `most` is the runtime's. */
uint32_t traits_window(const struct mm *mm, const struct region *r, uint32_t most);

/* Of a cached page: that of its mapping that matters most; *end: up to there it is the same. */
enum fl_priority traits_cached(const struct pagecache *pc, uint64_t page, uint64_t *end);

/* For regions of others: the number of a set with these two, 0: of none, or -ENOMEM. */
long traits_share(struct mm *mm, enum fl_priority priority, uint32_t readahead);

/* Limits of ranges; after a round of the pager's loop. */
void traits_round(struct pager *p);

/* A page could not be read: true when the program is asked, and do_error_done() will follow. */
bool traits_ask(struct file_io *io, int err);
long do_error_done(struct pager *p, struct file_io *io, enum fl_error_choice choice);

#endif
