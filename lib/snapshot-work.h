/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-work.h - a snapshot that is being taken, for the files that take it.
 *
 *	snapshot.c	the instant, the tables, the end
 *	snapshot-protect.c	which pages are protected when
 *	snapshot-save.c	pages on their way to the image, and who waits for that
 *	snapshot-port.c	who asks from outside
 *
 * Called on a pager with the mm lock held, which guards all of it.
 */
#ifndef FL_SNAPSHOT_WORK_H
#define FL_SNAPSHOT_WORK_H

#include "blkio.h"
#include "image.h"
#include "mm.h"
#include "snapshot.h"
#include "sys.h"

#define CELLS_MIN 16U
#define CELLS_MAX 1024U
#define STEP_PAGES 64U	 /* of one step */
#define ROUND_PAGES 128U /* of one round, then faults are looked for */
#define MAPS_LINE 320U
#define READ_TRIES 3U
#define TELL_NS 200000000U
#define ROOM_IDLE 5U
#define IMAGE_BYTES_MAX ((uint64_t)1 << 62)

enum snap_stage {
	SNAP_PREPARING, /* before the instant: there are no tables yet */
	SNAP_SAVING,
	SNAP_TABLES,
	SNAP_SYNC,
	SNAP_FOOTER,
	SNAP_SYNC_FOOTER,
	SNAP_OVER
};

struct snap_io {
	struct blk_req req; /* first: the callback gets it */
	struct pager *pager;
	struct snap_io *next; /* free */
	uint64_t index;	      /* reads: of the first page */
	uint32_t cell, n;     /* n 0: of a table */
	swp_t swp;	      /* reads */
	bool direct;	      /* writes: begun past the kernel's cache */
	struct iovec iov;
};

/* A part of the image behind the data; padded memory. */
struct snap_part {
	char *mem;
	uint64_t size;	   /* of its content */
	uint64_t reserved; /* bytes that were allocated */
	uint64_t offset;   /* in the file */
};

enum { PART_RANGES, PART_MAPS, PART_SUMS, PARTS };

struct snapshot {
	struct mm *mm;
	enum snap_stage stage;
	int err;			   /* the first one; from then on pages are let go */
	int fd, direct_fd, event_fd, link; /* -1: none */
	unsigned flags;
	uintptr_t start, end;	 /* what was asked for */
	bool linear;		 /* a range of memory, not all there is */
	struct hop_slot *caller; /* who waits for the instant; NULL: asked from outside */
	vpn_t next;		 /* PREPARING: where the pass goes on */
	unsigned passes;	 /* that have ended */
	uint64_t changes;	 /* pages that had come or been lifted when this one began, */
	uint64_t before;	 /* and how many did during the one before it */
	bool prepared;
	struct blk_dev dev;
	struct image_range *range;
	uint64_t nranges, last; /* last: the range that was last found */
	uint64_t pages, left;	/* of the ranges; of these, unsaved */
	uint64_t had;		/* what was unsaved at the instant */
	uint64_t *unsaved, *reading;
	size_t bits_bytes; /* of each */
	uint64_t *sum;
	uint64_t cursor;
	uint32_t allowed; /* cells that may be in use: of ncells, as the limit is now */
	bool stalled;	  /* a pass found nothing that could be done */
	bool single;	  /* a read failed: one page at a time */
	uint64_t lost;
	char *cells;
	uint32_t ncells, cells_free, hand;
	uint8_t used[CELLS_MAX];
	struct snap_io *ios, *io_free;
	uint32_t inflight;
	struct snap_part part[PARTS];
	unsigned part_now; /* TABLES: where it goes on */
	uint64_t part_at;
	uint64_t sums_sum;	     /* as far as it was written */
	struct image_footer *footer; /* a page */
	uint64_t told;		     /* when, ns */
	uint64_t pause;
	uint64_t began;
};

static inline uint64_t snapshot_padded(uint64_t n)
{
	return (n + IMAGE_PAGE - 1) & ~(IMAGE_PAGE - 1);
}

static inline bool bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static inline void bit_clear(uint64_t *bits, uint64_t i)
{
	bits[i / 64] &= ~((uint64_t)1 << i % 64);
}

static inline void bit_set(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= (uint64_t)1 << i % 64;
}

static inline void bits_set(uint64_t *bits, uint64_t i, uint64_t n)
{
	for (; n != 0 && i % 64 != 0; n--)
		bit_set(bits, i++);
	for (; n >= 64; n -= 64, i += 64)
		bits[i / 64] = ~(uint64_t)0;
	for (; n != 0; n--)
		bit_set(bits, i++);
}

/*
 * Whether a region's pages are part of a snapshot of all memory.  What is shared is the
 * file's, and so is, when fl_sync() is called, what is stored in a held mapping.
 */
static inline bool snapshot_has_part(const struct region *r)
{
	return !(r->flags & (REGION_SHARED | REGION_REMOTE | REGION_HOLD | REGION_HELD));
}

static inline void close_fd(int fd)
{
	if (fd >= 0)
		SYS1(close, fd);
}

/*
 * The descriptors, of this table, are the snapshot's from here on, unless it fails; link: who is
 * told, -1: nobody; caller: the call that is answered at the instant, or NULL.
 */
long snapshot_begin(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		    int event_fd, int link, struct hop_slot *caller);

/* Before the instant.  0 or -errno; then a slice at a time: true when the instant may come. */
int snapshot_prepare(struct snapshot *s);
bool snapshot_pass(struct snapshot *s);

/* At the instant, when there are tables: from then on nothing is written that is unsaved.  0 or -errno. */
long snapshot_protect(struct snapshot *s);

/* Or there is none: pages are as they were. */
void snapshot_unprotect(struct snapshot *s);

/* Hear who asks. */
void snapshot_serve_port(struct pager *p);

/* The first error: from then on pages are let go. */
void snapshot_fail(struct snapshot *s, int err);

/* Present pages that need not be protected for us any more: PTE_WP and PTE_SYNC ones stay so. */
void snapshot_lift(struct mm *mm, vpn_t vpn, uint32_t n);

/* Save a part, in the background. */
void snapshot_work(struct pager *p, struct snapshot *s);

/* The limit may have become so low that the buffer must be smaller. */
void snapshot_fit(struct snapshot *s);

/* A request that is not for pages; NULL: none is free. */
struct snap_io *snapshot_io_get(struct pager *p, struct snapshot *s);
void snapshot_write(struct pager *p, struct snapshot *s, struct snap_io *io, void *mem,
		    uint64_t len, uint64_t off);
void snapshot_write_done(struct blk_req *req, int res);

#endif
