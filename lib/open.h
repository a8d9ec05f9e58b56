/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.h - making and ending a runtime's mm, for the API and for the preload.
 */
#ifndef FL_OPEN_H
#define FL_OPEN_H

#include "faultline.h"

struct mm;
struct mm_counters;

/*
 * MM_PRELOAD: the mm of an unmodified program.  No descriptor is opened and no
 * thread started before memory gets tight; without it, given areas are taken at once.
 */
#define MM_PRELOAD 1
#define MM_LEFT 2 /* remember why memory is not managed: mm_verify() will be asked */
/* MM_SERVER: the store's, which pages shared mappings of others (peer.h); its pager has the process's descriptor table. */
#define MM_SERVER 4
#define MM_LOOKED 8 /* MM_PRELOAD: swap_look() has been at its areas */

/*
 * Allocates nothing but mmap'ed memory.  0 or -errno; on failure one line in why.
 */
int mm_open(struct mm **out, const struct fl_options *options, unsigned flags, char *why,
	    size_t why_size);

/* Bring every page back and leave all regions to the kernel. */
int mm_close(struct mm *mm);

/* Copy the counters; may be called from anywhere, also while paging is busy. */
void mm_stats(struct mm *mm, struct fl_stats *out);
/* Of these, what is counted; the rest is 0. */
void mm_stats_counted(const struct mm_counters *c, struct fl_stats *out);

#endif
