/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * staging.h - frames between the application and their slot (the swap cache).
 *
 * Two kinds of staging page, one index space:
 *
 *   blocks   Evicted frames.  UFFDIO_MOVE takes them out of the application
 *            into blocks of STAGE_BLOCK pages, which fill in eviction order and
 *            stand in a queue.  A page that faults while it waits is moved
 *            back (its second chance).  At the head of the queue a block is
 *            written out: same-filled pages and pages that still equal their
 *            slot need no I/O; what becomes small goes into the pool of compressed
 *            pages, where there is one (tier.h); the others get slots, together,
 *            and are written in slot order.  When the last write ended the
 *            block's frames are released by one madvise(2), or kept as spares while
 *            new memory is touched in order: zeroed and moved they cost a fraction
 *            of new ones.
 *   buffer   Where reads land.  Pages that were read ahead wait there until
 *            they are asked for, or their place is needed.
 *
 * A STAGED page entry holds the index of its staging page, and the staging
 * page knows its vpn: the reverse map.  Whoever unmaps a staged page detaches
 * it and goes on; nobody waits for I/O.  I/O in flight holds its own reference
 * to each slot, so that a slot is not used anew under it.
 *
 * A slot's checksum is set when its write has ended, never before: a page
 * whose slot has none is not clean, whatever its entry says.
 *
 * Called with the mm lock held.
 */
#ifndef FL_STAGING_H
#define FL_STAGING_H

#include "blkio.h"
#include "pte.h"
#include "swap-slot.h"

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pager;

#define STAGE_BLOCK 64U
#define STAGE_BLOCKS 512U
#define STAGE_BLOCK_PAGES (STAGE_BLOCK * STAGE_BLOCKS)
#define STAGE_BUFFER_MAX 4096U
#define STAGE_NONE UINT32_MAX

enum stage_state {
	STAGE_FREE,
	STAGE_READING, /* buffer: I/O in flight */
	STAGE_CACHED,  /* buffer: equals its slot, nobody has asked yet */
	STAGE_MOVED,   /* block: a frame from the application, not looked at yet */
	STAGE_CLEAN,   /* block: equals its slot */
	STAGE_FILLED,  /* block: one repeated word; swp is its index in the fill table */
	STAGE_WRITING, /* block: I/O in flight */
	STAGE_DEAD,    /* block: nobody's; the frame is released with its block */
};

#define STAGE_DETACHED 0x1U /* I/O in flight for a page that is nobody's any more */
#define STAGE_DEMAND 0x2U   /* install when the read ends */
#define STAGE_AHEAD 0x4U    /* read beside what was asked for */
#define STAGE_WRITE 0x8U    /* the thread that waits wants to write */
#define STAGE_CLUSTER 0x10U /* read along by slot */
#define STAGE_WINDOW 0x20U  /* read with others of a range */
#define STAGE_BELOW 0x80U   /* read along by address, below */
#define STAGE_NEEDED 0x40U  /* somebody waits for this very page: a read that fails loses it */

struct stage_page {
	uint64_t vpn : 40;
	uint64_t state : 8;
	uint64_t flags : 16;
	uint64_t swp; /* STAGE_FILLED: index in the fill table */
};

enum block_state { BLOCK_FREE, BLOCK_FILLING, BLOCK_QUEUED, BLOCK_WRITING, BLOCK_SPARE };

struct stage_block {
	enum block_state state;
	uint16_t cursor;  /* pages handed out */
	uint16_t live;	  /* frames in it */
	uint16_t pending; /* writes in flight */
	uint32_t next;	  /* in the queue, or in one of the lists */
	/* one more whenever it begins to fill: until then a place has one frame */
	uint32_t generation;
};

/*
 * Pages that are being moved or copied into staging: for a moment they are not
 * in the application any more while their entries still say PRESENT.  Read from
 * outside (publish.h).
 */
struct transit {
	uint64_t vpn;
	uint32_t index; /* of the first one's place */
	uint32_t n;
};

struct staging {
	uintptr_t base; /* STAGE_BLOCK_PAGES pages, registered */
	char *buffer;	/* STAGE_BUFFER_MAX pages, within */
	char *buffer_map;
	struct stage_page *page;
	struct stage_block block[STAGE_BLOCKS];
	struct transit transit;
	uint32_t free_list, head, tail; /* blocks; STAGE_NONE ends */
	uint32_t filling;
	uint32_t spare_list; /* blocks whose frames are nobody's, and all there */
	uint32_t spares;     /* how many */
	uint32_t giving; /* one whose frames are taken one by one; cursor: those that are left */
	uint32_t spares_wanted; /* blocks that first touches or single pages could have used */
	uint32_t buffer_pages;	/* of the buffer, as the limit allows */
	uint32_t buffer_huge;	/* of these, the first that may be huge pages */
	uint32_t buffer_used;
	uint32_t buffer_reading; /* of those, with I/O in flight */
	uint32_t buffer_touched; /* pages of it that ever held anything: the rest has no frames */
	uint32_t buffer_hand;	 /* where the search for room goes on */
	uint64_t frames;	 /* in blocks */
	uint64_t waiting;	 /* of those, in blocks that are not being written */
	uint64_t keep;		 /* how many wait for a second chance */
};

/* A read or a write of adjacent slots. */
struct swap_io {
	struct blk_req req; /* first: the callback gets it */
	struct pager *pager;
	swp_t swp;
	uint64_t t0;	/* of the fault that asked; 0: none did */
	uint32_t first; /* reads: staging index of the first page, the rest follow */
	uint32_t block; /* writes */
	uint16_t n;
	bool major;		       /* a thread waits for it */
	uint16_t page[STAGE_BLOCK];    /* writes: page numbers in the block */
	uint64_t csum[STAGE_BLOCK];    /* writes */
	struct iovec iov[STAGE_BLOCK]; /* reads use the first */
};

int staging_open(struct mm *mm);
void staging_close(struct mm *mm);

/*
 * In a forked child, which has copies of the frames in blocks and nothing of
 * the buffer: what was being written counts as not written, and slots that the
 * child does not hold are forgotten.
 */
int staging_forked(struct mm *mm);

/*
 * mlockall(2) has locked all: frames move between memory that is alike in that, too, and those
 * of locked memory do not.
 */
void staging_unlock(const struct mm *mm);

/* Pages of the read buffer at a limit. */
uint32_t staging_buffer(uint64_t limit);

/* Fit the read buffer and the queue to the limit. */
void staging_resize(struct mm *mm);

void *stage_addr(const struct mm *mm, uint32_t index);

/* The keyed checksum of a page in a slot; never 0. */
uint64_t stage_csum(const struct mm *mm, const void *page, swp_t swp);
/* The same for who reads from outside. */
uint64_t stage_csum_keyed(uint64_t key, const void *page, swp_t swp);

/*
 * Move a run of PRESENT pages out of the application, as many as the filling
 * block takes.  Returns how many left; fewer than asked (and not for want of
 * room) means that the next one refused and was marked.
 */
uint32_t stage_evict(struct mm *mm, vpn_t vpn, uint32_t n);

/*
 * The same for one page of a mapping that is not writable, by copy: the kernel
 * moves frames of writable mappings only.
 *
 * Accepted: a device that still writes into the frame, by I/O from before the
 * mapping was made read-only, is not noticed; and mappings that are writable
 * and executable at once (their protection differs from staging's) are not
 * evicted at all.
 */
bool stage_evict_readonly(struct mm *mm, vpn_t vpn);

/* A write to a slot failed: counted and told; an area that fails often takes no more. */
void stage_area_failed(struct mm *mm, swp_t swp, int err);

/* Compress or start writing the oldest block; false when none is queued or filling. */
bool stage_writeout(struct pager *p);

/*
 * Zero frames of blocks that were written and give them to the pages from vpn,
 * which are none, in one mapping, and were touched: whole blocks, n pages at
 * most.  How many pages got one.
 */
uint32_t stage_spare_give(struct mm *mm, vpn_t vpn, uint32_t n);

/*
 * The place of one such frame, to be written and moved away, which is told by
 * stage_spare_gone() before another is asked for; STAGE_NONE: there is none.
 */
uint32_t stage_spare_one(struct mm *mm);
void stage_spare_gone(struct mm *mm);

/* Such frames, in pages. */
uint64_t stage_spare_pages(const struct mm *mm);

/* Give frames of such blocks to the kernel, at least n pages if there are as many. */
void stage_spare_drop(struct mm *mm, uint64_t n);

/*
 * Move the frame of a staged page in a block back, by a userfaultfd that the page is
 * registered with; on any thread that has the mm lock.  False: I/O is in the way, or
 * it could not be moved.
 */
bool stage_move_back(struct mm *mm, int fd, int pagemap_fd, vpn_t vpn, pte_t pte);

/*
 * Give a staged page that holds its bytes back to the application.  False: no
 * frame was free, or I/O is in the way.
 */
bool stage_refault(struct pager *p, vpn_t vpn, pte_t pte, bool write);

/*
 * The page at vpn was given back so, and its stream goes on: those behind it that
 * stand in blocks as it did come back, too, n at most; how many.
 */
uint32_t stage_refault_run(struct mm *mm, vpn_t vpn, uint32_t n);

/* A staged page is unmapped or dropped: its entry becomes none. */
void stage_detach(struct mm *mm, vpn_t vpn);

/* A staged page moves to another address. */
void stage_rename(struct mm *mm, uint32_t index, vpn_t to);

/* Forget the slot of a staged page (swapoff); false while I/O uses it. */
bool stage_drop_slot(struct mm *mm, uint32_t index);

/* Room for a run of up to `want` pages in the buffer: its length; *first. */
uint32_t stage_buffer_get(struct mm *mm, uint32_t want, uint32_t *first);
void stage_buffer_put(struct mm *mm, uint32_t index);

#endif
