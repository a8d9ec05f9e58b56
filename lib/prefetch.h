/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefetch.h - fl_prefetch(): pages are brought before they are touched; and
 * fl_try(): would a touch wait?
 *
 * What was asked for is a list, looked at after each round of a pager's loop.
 * Pages that are away begin to come, as far as buffer and frames allow: those of
 * files into the page cache, swapped ones through the read buffer into the
 * application, compressed and staged ones there at once.  When everything that
 * was begun has arrived, or failed, 1 is added to the eventfd, of which the
 * pagers have a copy.
 *
 * Pages of shared mappings that the store's server pages (share.h) it is asked to read; what
 * has come, the words of its cache tell, which are looked at meanwhile.
 *
 * One call begins no more pages than a quarter of the limit, since what comes
 * later would push out what came first; of a server's, a quarter of its cache.
 *
 * fl_try() asks without a lock and without a pager where that can be known: of a
 * shared mapping the words of the cache tell, of other memory the kernel, when
 * all of it is there.  What such a reader looks at is not unmapped meanwhile:
 * cache_free() waits for it (files.lookers).
 */
#ifndef FL_PREFETCH_H
#define FL_PREFETCH_H

#include "pte.h"

#include <stddef.h>
#include <stdint.h>

struct mm;
struct pager;

/* One call, in memory of our own, which the pager gives back. */
struct prefetch {
	struct prefetch *next;
	vpn_t at, end;	/* pages that were not looked at yet */
	vpn_t seen;	/* those before are there, or failed */
	uint64_t left;	/* how many more may be begun, */
	uint64_t there; /* and how many by the store's server, */
	uint64_t full_since,
		ask_at; /* which has had no room since, and is asked again, ns; 0: has */
	int event_fd;	/* the program's; then the pagers'; -1: nobody waits */
	uint64_t wait;	/* ns until it is looked at again, if nothing happens */
};

/* On a pager with the mm lock held: 0, and the job is the pagers'; -errno. */
long do_prefetch(struct pager *p, struct prefetch *job);

/* After a round of the pager's loop. */
void prefetch_round(struct pager *p);

/* How long a pager may sleep, ns. */
uint64_t prefetch_timeout(const struct mm *mm);

/* The runtime ends: who waits is told. */
void prefetch_close(struct mm *mm);

/* Would a touch of a page in [start, end) wait for a read?  -EAGAIN: yes. */
long do_try(struct mm *mm, uintptr_t start, uintptr_t end);

/* On an application thread. */
long mm_prefetch(struct mm *mm, uintptr_t addr, size_t len, int event_fd);
long mm_try(struct mm *mm, uintptr_t addr, size_t len);

#endif
