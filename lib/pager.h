/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pager.h - the threads that read the userfaultfd and answer; arming.
 *
 * A pager is a thread that the C library does not know: made by clone(2) with
 * the process's memory and signal handlers but a descriptor table of its own,
 * every signal blocked, a zeroed thread block behind its thread pointer.  It
 * calls no function that allocates, locks or looks at the locale, and never
 * touches managed memory.
 *
 * Starting pagers opens the userfaultfd, the areas and the rings, on the first
 * pager, in its table; the others are its children and share that.  Arming
 * then registers every region, first, and learns with PAGEMAP_SCAN what is
 * present, after: what is touched in between is a fault that waits its turn.
 */
#ifndef FL_PAGER_H
#define FL_PAGER_H

#include "mm.h"

/*
 * Start the pagers of a mm that has none.  On an application thread with the
 * mm lock held and signals blocked.  0, or -errno with one line in why, which is
 * the caller's to say: it has the program's descriptor table, a pager has not.
 */
int pager_start(struct mm *mm, char *why, size_t why_size);
/* Say it, on that thread, where nothing follows from it that is to be said besides. */
void pager_not_started(struct mm *mm, const char *why);

/* On a pager that starts or arms, with the mm lock held by it or for it: why that fails. */
void pager_failing(struct mm *mm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Note what mm_stats() shows of structures that it may not walk; on a pager. */
void pager_count(struct mm *mm);

/* Open what of /proc pagers use, through mm->proc_fd; on a pager. */
int pager_open_proc(struct mm *mm);

/* In a forked child: give back the memory of a pager of the parent's. */
void pager_forget(struct pager *p);

/* Register all regions and let the limit count; on a pager with the mm lock held. 0 or -errno, with one line said. */
int pager_arm(struct mm *mm);

/*
 * Register one region's range and note what is present there.  On a pager, or
 * before anything is armed; the mm lock held.
 */
int pager_register(struct mm *mm, uintptr_t start, uintptr_t end);

/*
 * From within a call that a pager is doing: serve I/O and faults, not calls,
 * until something happened; the mm lock is dropped meanwhile.
 */
void pager_pump(struct pager *p);

/* Whether thread tid is one of mm's pagers; no lock is needed. */
bool pager_is(const struct mm *mm, uint32_t tid);

/* Let the pagers end and wait until they are gone; on an application thread, no lock held. */
void pager_join(struct mm *mm);

#endif
