/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * landing.h - where reads of files land.
 *
 * A page of a memfd that is written whole by a call is neither zeroed before nor
 * mapped for it.  One that a device writes to is both, by a fault of the kernel's own,
 * and has to be unmapped again when it leaves.  So what is read lands here, in huge pages
 * where they can be had, and is copied: straight to where threads wait for it, or will, which makes
 * it a page of the memfd, too, or into that.  A read begins sooner then, for no page is
 * made before it; single pages land in the same few places again and again, so that what
 * is copied was in the CPU's cache not long ago.
 *
 * Frames.  The budget (mm.h) is smaller by all that the limit allows here, from the
 * first file on.  Where there is no room, the limit is small, or a group's, reads go
 * to the cache's own pages (cache_addr()).
 *
 * Called with the mm lock held.
 */
#ifndef FL_LANDING_H
#define FL_LANDING_H

#include <stdbool.h>
#include <stdint.h>

struct mm;

#define LANDING_MAX 2048U /* pages */
#define LANDING_NONE UINT32_MAX

struct landing {
	char *map, *base; /* the whole, and what of it is aligned */
	uint32_t pages;	  /* 0: there is none; reads in flight beyond it go on */
	uint32_t touched; /* pages that ever held anything: the rest has no frames */
	uint32_t hand;	  /* where the search for room goes on */
	bool cut;	  /* ends within a huge page, of which the kernel may keep all */
	uint8_t busy[LANDING_MAX];
};

/* A file is opened, or the limit is another. */
void landing_fit(struct mm *mm);
void landing_close(struct mm *mm);
/* In a forked child, which has nothing of it. */
void landing_forked(struct mm *mm);

/* Room for n pages in a row: the first, or LANDING_NONE. */
uint32_t landing_get(struct mm *mm, uint32_t n);
/* The same for a single one: among the few that were used last. */
uint32_t landing_get_one(struct mm *mm);
void landing_put(struct mm *mm, uint32_t first, uint32_t n);
void *landing_addr(const struct mm *mm, uint32_t first);

#endif
