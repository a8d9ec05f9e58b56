/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * region.h - the managed address space: a tree of ranges with one set of
 * properties each (the kernel's VMAs).
 *
 * Regions never overlap; neighbours with equal properties are merged.  The
 * tree is changed with the mm lock held, between region_write_begin() and
 * region_write_end(), so that region_overlaps() can be asked without any lock
 * (an application thread that held one while its own stack faults would wait
 * for ever): it reads the sequence number, walks, and walks again when the
 * number moved.  Nodes are never unmapped while the tree lives, so a walk over
 * a tree in motion reads stale nodes, never foreign memory.
 */
#ifndef FL_REGION_H
#define FL_REGION_H

#include "pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_LOCKED 0x01     /* mlock(2): pages stay once they are in */
#define REGION_DONTFORK 0x02   /* madvise(2) */
#define REGION_WIPEONFORK 0x04 /* madvise(2) */
#define REGION_SEQUENTIAL 0x08 /* madvise(2) */
#define REGION_RANDOM 0x10     /* madvise(2) */
#define REGION_NORESERVE 0x20  /* mmap(2) */
#define REGION_FOREIGN 0x40    /* mapped by the application, given to us by fl_register() */
#define REGION_HELD 0x100 /* being replaced by a mapping that is not managed: not to be evicted */
#define REGION_LOCKONFAULT 0x80 /* mlock2(2) with MLOCK_ONFAULT */
#define REGION_SHARED 0x200	/* a mapping of a file, its pages are the page cache's */
#define REGION_NOWRITE 0x400	/* may not become writable: its file was not opened for writing */
#define REGION_REMOTE 0x800	/* with REGION_SHARED: the store's server pages it (share.h) */
#define REGION_PRIVATE 0x8000	/* with REGION_SHARED: MAP_PRIVATE, but never writable so far */
#define REGION_NOEXEC 0x4000	/* may not become executable: its file's filesystem is mounted so */
#define REGION_HOLD 0x1000	/* a private mapping of a file whose changes fl_sync() writes */
#define REGION_IN_THREAD                                                                           \
	0x2000 /* faults are answered by the thread that takes them (in-thread.h) */
#define REGION_TRAITS_SHIFT 16
#define REGION_TRAITS 0x03ff0000U /* the number of its traits (traits.h) */

struct region;
struct peer;

/* The regions of one file; a file's own structure begins with it. */
struct region_users {
	struct region *first;
	uint64_t count;
};

struct region {
	struct region *left, *right; /* first: the pool's free list overwrites left */
	struct region *parent;
	struct region *prev, *next; /* by address */
	uintptr_t start, end;	    /* bytes, page-aligned, end exclusive */
	int32_t height;
	int32_t prot;
	uint32_t flags;
	/*
	 * What it maps: NULL for anonymous memory.  Page n of the address space is
	 * page n + delta of the file, so that splitting and merging change nothing.
	 */
	struct region_users *users;
	uint64_t delta;
	struct region *user_next, **user_link; /* in users */
	struct peer *peer;		       /* whose: its tree's */
	/*
	 * How often write-protecting what was read in paid (fault-wp.c); not compared when merging.
	 * Installs that were protected, faults that lifted that, and installs that were not.
	 */
	uint32_t wp_installs, wp_faults, wp_passed;
	uint32_t writes; /* faults of late that were writes */
};

struct region_tree {
	struct region *root, *last;
	/* where the last change was, or is about to be: the next is often near */
	struct region *hint;
	struct peer *peer; /* another process's mappings, as its pager knows them; NULL: ours */
	struct pool pool;
	uint32_t seq; /* odd while the tree changes; see above */
	size_t count;
	uint64_t pages;	     /* of all regions; those that follow are not of REGION_REMOTE */
	uint64_t open_pages; /* of those that are accessible: what may become frames */
	uint64_t locked_pages;
	uint64_t held_pages;	    /* of REGION_HELD, of whatever else */
	uint64_t locked_open_pages; /* accessible, too: what may become frames for good */
};

void region_tree_init(struct region_tree *t);
void region_tree_fini(struct region_tree *t);

/* Bytes for as many regions as a kernel allows mappings by default, for who cannot map more later. */
#define REGION_RESERVE ((size_t)65536 * sizeof(struct region))

/* `mem` is zeros, aligned as a region, and outlives the tree; before the first region. */
void region_tree_reserve(struct region_tree *t, void *mem, size_t bytes);

struct region *region_find(const struct region_tree *t,
			   uintptr_t addr); /* that holds addr, or NULL */
struct region *region_next(const struct region_tree *t,
			   uintptr_t addr); /* first that ends above addr */

/* The region that holds addr, into *out, its links aside; needs no lock. */
bool region_peek(const struct region_tree *t, uintptr_t addr, struct region *out);

/* Whether any region meets [start, end), a range that is about to be changed. */
static inline bool region_aim(struct region_tree *t, uintptr_t start, uintptr_t end)
{
	struct region *r = region_next(t, start);

	if (r == NULL || r->start >= end)
		return false;
	t->hint = r;
	return true;
}

/* Whether it is MAP_SHARED. */
static inline bool region_is_shared(const struct region *r)
{
	return (r->flags & (REGION_SHARED | REGION_PRIVATE)) == REGION_SHARED;
}

/* Whether any region meets [start, end); needs no lock. */
bool region_overlaps(const struct region_tree *t, uintptr_t start, uintptr_t end);

/* Whether a region of a file holds addr; needs no lock. */
bool region_is_file(const struct region_tree *t, uintptr_t addr);

/* Whether one range can be inserted wherever it is, and then be removed again: there is memory for that. */
bool region_can_insert(struct region_tree *t);
/* Whether that range can be removed. */
bool region_can_remove(struct region_tree *t, uintptr_t start, uintptr_t end);

/* Replace whatever is in [start, end) by one region.  0 or -ENOMEM (nothing changed). */
int region_insert(struct region_tree *t, uintptr_t start, uintptr_t end, int prot, uint32_t flags);

/* The same for a mapping of a file; users NULL: anonymous memory. */
int region_insert_file(struct region_tree *t, uintptr_t start, uintptr_t end, int prot,
		       uint32_t flags, struct region_users *users, uint64_t delta);

/* Forget [start, end), splitting what crosses its ends.  0 or -ENOMEM (nothing changed). */
int region_remove(struct region_tree *t, uintptr_t start, uintptr_t end);

/*
 * Change properties of what is managed in [start, end): prot (-1: as it is),
 * flags to set and to clear.  0 or -ENOMEM (nothing changed).
 */
int region_change(struct region_tree *t, uintptr_t start, uintptr_t end, int prot, uint32_t set,
		  uint32_t clear);

#endif
