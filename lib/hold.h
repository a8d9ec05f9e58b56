/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hold.h - held mappings (FL_MAP_HOLD): what is stored in one reaches its file
 * by fl_sync() alone.
 *
 * A held mapping is a private one: untouched pages are copied from the page
 * cache, written ones are anonymous memory, which goes to swap when frames are
 * needed.  fl_sync() writes the pages of its range that were changed.
 *
 * 1. It looks for changed pages in order of address.  One that is present is
 *    write-protected, then copied; of one that is away the bytes are taken from
 *    where it is.  So what the file gets of a page is the page as it was at one
 *    moment of the call, and who writes it waits no longer than the copy takes.
 *    Its entry gets PTE_SYNC, which says: these bytes are on their way.
 *    Whatever changes the page, or moves it, takes the mark away.
 * 2. Pages are written from memory of the call's own, HOLD_PAGES at a time, so
 *    that it needs no frame: it works when memory and swap are full.  While one
 *    is written its page of the cache is LOCKED and WRITEBACK: nobody reads an
 *    old page from the file into the cache, or shortens the file.
 * 3. When all are written the file is made durable.
 * 4. Only then the pages that still have the mark become clean: those that are
 *    present are write-protected and equal to the file, those that are away are
 *    the file's again.
 *
 * An error ends it before that step, and every page of the range stays changed.
 * One call at a time works in a runtime; others wait for their turn.
 *
 * Accepted: a device that writes into a page (direct I/O of the application) is
 * not noticed, as in shared mappings of files.
 */
#ifndef FL_HOLD_H
#define FL_HOLD_H

#include "blkio.h"
#include "pte.h"

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pagecache;
struct pager;
struct region;

#define HOLD_PAGES 64U /* on their way at once */
#define HOLD_RUN 32U   /* in one write */

/* Pages that are written together. */
struct hold_run {
	struct hold_sync *job;
	struct pager *pager;
	uint64_t page;
	uint32_t n;
	uint32_t reads; /* of slots, in flight */
	int err;
};

/* Adjacent slots that are read for one. */
struct hold_read {
	struct blk_req req; /* first: the callback gets it */
	struct hold_run *run;
	swp_t swp;
	uint32_t n;
	struct iovec iov;
};

enum hold_phase {
	HOLD_NEXT,   /* look for a held mapping */
	HOLD_GATHER, /* write what was changed */
	HOLD_DRAIN,  /* the writes end */
	HOLD_FSYNC,
	HOLD_SETTLE, /* pages become clean, or (an error) lose their marks */
};

/* One call of fl_sync(), in memory of our own; the mm lock guards it. */
struct hold_sync {
	enum hold_phase phase;
	uintptr_t at, end;		 /* what is left of the range */
	uintptr_t from, to;		 /* the part that is of one file, */
	struct pagecache *pc;		 /* this */
	bool any;			 /* something of the range is held */
	bool wrote;			 /* of this file */
	uint32_t syncing;		 /* fsync under way */
	uint64_t since;			 /* files.failures before the first write */
	int err;			 /* the first, and */
	uint64_t bad;			 /* where in the file */
	uint64_t taken;			 /* bits of pages in use, */
	uint32_t used;			 /* and how many */
	struct hold_run run[HOLD_PAGES]; /* by the first page */
	struct hold_read read[HOLD_PAGES];
	char *bytes; /* HOLD_PAGES pages */
};

/*
 * One step, on a pager with the mm lock held.  0: done; -errno: failed;
 * HOLD_WAITS: call again when files.event has grown; HOLD_GOES_ON: at once.
 */
#define HOLD_WAITS 1
#define HOLD_GOES_ON 2
long do_hold_sync(struct pager *p, struct hold_sync *job);

/* Whether the page of a held mapping is as its file. */
static inline bool hold_is_clean(pte_t pte)
{
	return (pte & PTE_WP) && pte_swp(pte) == SWP_NONE;
}

/* All of fl_sync(), on an application thread of an armed mm. */
long mm_hold_sync(struct mm *mm, uintptr_t addr, size_t len);

#endif
