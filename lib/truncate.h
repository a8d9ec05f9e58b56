/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * truncate.h - files that become shorter, longer, or get a hole, while they
 * are mapped (the kernel's mm/truncate.c).
 *
 * The kernel's lock of a file may be held by a thread that write(2)s to it from memory that
 * is away, and so waits for a pager.  So no pager waits for that lock: the program's own
 * descriptor is truncated by the thread that asks, between two hops, and a hole is made by the
 * pager's queue while the pager goes on.  Meanwhile the pages that are to go are cut off:
 *	dirty		they are not written: a write that came later would make the file longer
 *			again, or fill the hole
 *	absent		they may be read: who holds the file's lock may wait for one
 *	of a hole	no store makes one dirty, or goes to one that is: where zeros were seen,
 *			what is stored then must not go with what was there before.  A touch for
 *			that waits
 * They are what they were if the call fails.
 *
 * Accepted.  A read(2) of a file past the kernel's cache (on XFS: any) into pages of its own
 * mapping that are just being made a hole: the thread holds the lock, and has to wait for the hole.
 * A file that becomes longer again between the kernel's truncation and the second hop, and is
 * stored to there by a third thread: what it stored goes with the rest.
 *
 * Called with the mm lock held, on a pager.
 */
#ifndef FL_TRUNCATE_H
#define FL_TRUNCATE_H

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pagecache;
struct pager;

/* Pages [page, end) of a file that are about to go; in memory of who makes them go. */
struct cache_cut {
	struct cache_cut *next;
	uint64_t page, end;
	bool hole;    /* they are not stored to meanwhile, */
	bool awaited; /* and a touch waits for that */
};

/* The file is not freed from here on; returns when none of the pages is being written. */
void cut_begin(struct pager *p, struct pagecache *pc, struct cache_cut *cut);
void cut_end(struct pagecache *pc, struct cache_cut *cut);

/* How many of n pages may be written. */
uint64_t cut_before(const struct pagecache *pc, uint64_t page, uint64_t n);
/* Whether a store to a page has to wait, which is noted. */
bool cut_holds(const struct pagecache *pc, uint64_t page);

/* An ftruncate(2) of the program's; in memory that is not managed. */
struct truncation {
	struct cache_cut cut;
	uint64_t dev, ino, size;
	bool begun;  /* the cut is noted */
	bool called; /* ftruncate(2) was, */
	long result; /* with this result */
};

/*
 * Its first half: 0; 1: another one of the file is under way, call again when files.event has
 * grown; or -errno.  After a 0, and ftruncate(2), its second half: 0.
 */
long do_truncate(struct pager *p, struct truncation *t);
/* All of it, for a descriptor of the pagers' whose file nobody but the runtime writes to. */
long cut_file(struct pager *p, struct pagecache *pc, int fd, long size);
/* Files were made shorter or longer by the program: what is mapped of them follows. */
void do_resized(struct mm *mm);

/*
 * MADV_REMOVE: zeros in the files of what is mapped from `start` on.  Returns `end`, or where
 * memory begins before that which is not ours; skip: that is at `start`, and nothing is done but to
 * find where it ends.  Or -errno.
 */
long do_remove(struct pager *p, uintptr_t start, uintptr_t end, bool skip);
/* Zeros in pages [page, stop) of a file that is open for writing: 0 or -errno. */
long cut_hole(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop);

#endif
