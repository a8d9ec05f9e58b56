/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault.h - answering page faults (the kernel's handle_mm_fault).
 *
 * fault_handle() looks at the page entry under the mm lock and calls the
 * handler of its state.  Nothing is assumed about the order of messages: a
 * fault may be read after the page came, went or moved.  What cannot be right
 * any more is woken, touches again and is looked at again.
 *
 * No list of waiting threads is kept: a thread whose page is in flight waits
 * in the kernel's userfaultfd queue, and the install wakes all who wait there.
 */
#ifndef FL_FAULT_H
#define FL_FAULT_H

#include "mm.h"

enum fault_result {
	FAULT_DONE,  /* answered, or woken to look again */
	FAULT_WAITS, /* I/O in flight will answer it */
	FAULT_DEFER, /* no frame or no room in the buffer: try again when some come free */
};

/* Dispatch; called on a pager with the mm lock held, as all below. */
enum fault_result fault_handle(struct pager *p, const struct fault *f);

/* Note a fault that cannot be answered now. */
void fault_defer(struct pager *p, const struct fault *f);

/* Try the deferred faults again. */
void fault_retry(struct pager *p);

/*
 * A fault of a thread that answers its own, and cannot this one (in-thread.h).
 * 0, or -EINVAL: not of a region for that.
 */
long fault_handed(struct pager *p, uintptr_t addr, bool write, bool wp);

/* Whether a page will come without another touch: its read is in flight, or its fault deferred. */
bool fault_pending(struct mm *mm, vpn_t vpn);

/* Wake who waits for a page, to touch it again. */
void fault_wake(struct mm *mm, vpn_t vpn);

/* Count an answered fault in the histogram; how long it took, ns. */
uint64_t fault_latency(struct mm *mm, uint64_t t0);

/* fault-anon.c: the entry is none, or FILLED. */
enum fault_result fault_anon(struct pager *p, const struct fault *f, const struct region *r);
enum fault_result fault_filled(struct pager *p, const struct fault *f);

/*
 * What these two do when there are frames, by another userfaultfd and on any thread with
 * the mm lock: for the page of a fault and those behind it that go with it, false when
 * these are more than `most` or another thing is to be looked at, which a pager does;
 * and for a FILLED page, made in `page`.
 */
bool fault_anon_give(struct mm *mm, int fd, const struct fault *f, const struct region *r,
		     uint32_t most);
enum fault_result fault_filled_give(struct mm *mm, int fd, const struct fault *f, void *page);

/*
 * fault-wp.c: a write to a write-protected page that is present; on any thread
 * that has the lock, while there is no snapshot: then on a pager (else p is NULL).
 */
enum fault_result fault_wp(struct mm *mm, struct pager *p, int fd, const struct fault *f,
			   struct region *r);

/* A fault on a page of a region, not a shared one, is looked at. */
void fault_wp_touched(struct region *r, bool write);

/* Whether what is read in for a read fault gets write-protected. */
bool fault_wp_wanted(struct mm *mm, struct region *r);

/* fault-swap.c: the entry is SWAPPED, or STAGED. */
enum fault_result fault_swap(struct pager *p, const struct fault *f, struct region *r);
enum fault_result fault_staged(struct pager *p, const struct fault *f, struct region *r);

/*
 * fault-compressed.c: the entry is COMPRESSED.  fault_compressed_give(): on any thread that
 * has the mm lock, with a frame that may be added, unpacked in `page`; false: a pager sees to it.
 */
enum fault_result fault_compressed(struct pager *p, const struct fault *f, struct region *r);
bool fault_compressed_give(struct mm *mm, int fd, const struct fault *f, struct region *r,
			   void *page);

/* The window of a fault on a page that was evicted, by its stream and the region's advice. */
uint32_t fault_window(struct mm *mm, const struct region *r, vpn_t vpn, struct stream **stream);
/* fault-file.c: a mapping of the page cache, or an entry that is none in a private one. */
enum fault_result fault_file(struct pager *p, const struct fault *f, const struct region *r);

/* unshare.c: a write to a page of REGION_PRIVATE, made writable past us, that is cached. */
enum fault_result fault_unshare(struct pager *p, const struct fault *f, const struct region *r);

/*
 * Start reading what is SWAPPED in [vpn, end).  Returns how many pages were started;
 * stops when the buffer is full.
 */
enum swap_prefetch {
	SWAP_CACHE,   /* to wait in the buffer: MADV_WILLNEED */
	SWAP_INSTALL, /* to be installed as it comes: fl_prefetch() */
	SWAP_NEED     /* so, and lost where it cannot be read: swapoff, close, mlock */
};
uint32_t fault_swap_prefetch(struct pager *p, vpn_t vpn, vpn_t end, enum swap_prefetch how);

/* An unreadable page: who touches it gets SIGBUS. */
void fault_poison(struct mm *mm, vpn_t vpn);

#endif
