/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-area.h - swap areas: files and block devices that hold slots.
 *
 * An area is a file or a block device whose first page is a header
 * (struct area_header, below) and whose page n is slot n.  It is locked with
 * flock(2) for as long as it is on.  Its extents say where runs of slots lie
 * on the backing file, so that I/O goes there directly.  What is neither blank
 * nor an area is refused, so that nobody's data are overwritten.
 *
 * A private area is an unlinked file: without a path (O_TMPFILE where the
 * filesystem knows it) it grows in steps up to its bound; with the path of a
 * file that does not exist and a size it is made there, whole, and unlinked at
 * once.  Nothing is left of it when the process ends, whatever way it ends.
 * It has no header: nobody can open it again.
 *
 * All bytes of an area are allocated on the filesystem before slots are handed
 * out there, so that a full disk is met here and not by a page's write.
 *
 * Areas are filled by priority, highest first, in turn among equals, a
 * cluster at a time.  Areas given without a priority come last, each below
 * the one before.
 *
 * Opening and closing happens on a pager, in its descriptor table.  Every
 * function is called with the runtime's mm lock held.
 */
#ifndef FL_SWAP_AREA_H
#define FL_SWAP_AREA_H

#include "blkio.h"
#include "faultline.h"
#include "swap-slot.h"

#define AREA_MAGIC "FAULTLINE-SWAP-1" /* 16 bytes, no terminator */
#define AREA_MIN_SLOTS 16U	      /* header included: 64 KiB */

/* Page 0 of an area, little-endian. */
struct area_header {
	char magic[16];
	uint32_t version;   /* 1 */
	uint32_t page_size; /* 4096 */
	uint64_t slots;	    /* header's page included */
	uint8_t uuid[16];
};

struct swap_area {
	struct blk_dev dev; /* its descriptor is this process's own, where that can be had */
	int shared_fd;	    /* the one that holds the lock on the area; handed on by a fork */
	struct slot_map *map;
	/* of map; read from outside, as are path and what follows (publish.h) */
	struct slot_csums csums;
	uint64_t device_number, inode; /* of the file; of a device, its own number and 0 */
	char path[256];
	int prio;
	unsigned index;
	bool on;	    /* slots may be handed out */
	bool leaving;	    /* it is being turned off: no page keeps its slot beside its frame */
	bool private_file;  /* unlinked; may grow */
	bool stored;	    /* a store's; path is its name there */
	bool via_mount;	    /* its descriptor is of the store's mount, one for all I/O */
	uint64_t max_slots; /* a private area's bound, header's page included */
	uint64_t step;	    /* bytes by which it grows next */
	uint64_t io_errors;
	uint64_t bad_slots; /* slots that could not be written and stay in use for ever */
};

/* The areas of one runtime. */
struct swap {
	struct swap_area *area[FL_SWAP_MAX];
	unsigned narea;	    /* indexes in use are below it */
	unsigned current;   /* where allocation goes on, for */
	uint32_t turn;	    /* this many slots before it is the next one's turn */
	int next_prio;	    /* for areas without one */
	struct zpool *pool; /* of compressed pages; NULL: there is none */
};

/*
 * Check a spec without keeping anything: 0, or -errno with one line in why
 * ("swap area /x: too small: 4096 bytes, at least 65536 are needed").  The
 * command line uses it before a program starts; swap_on() makes the same checks.
 * swap_dir NULL: /var/tmp.
 */
int swap_check(const struct fl_swap_spec *spec, const char *swap_dir, char *why, size_t why_size);

/*
 * Write a header: makes a blank file or device an area, or an area a new one.
 * Size 0: as large as it is.  With a size a file that does not exist is made,
 * and a smaller one made larger.
 */
int swap_format(const char *path, uint64_t size, char *why, size_t why_size);

/* Both: the look of swap_look(), which can take long, and then what does not. */
int swap_on(struct swap *s, const struct fl_swap_spec *spec, const char *swap_dir, unsigned *index,
	    char *why, size_t why_size);

/*
 * Whether all of a file without a header is blank, read through and not locked:
 * 0, also where there is nothing to read, or -errno with one line in why.
 */
int swap_look(const struct fl_swap_spec *spec, char *why, size_t why_size);
int swap_on_looked(struct swap *s, const struct fl_swap_spec *spec, const char *swap_dir,
		   unsigned *index, char *why, size_t why_size);

/* An area that another process opened, as a store hands it out. */
struct swap_given {
	const char *name;
	int prio;
	int shared_fd;	      /* holds the lock on the area, if any; */
	int io_fd;	      /* a description of this process's own; -1: there is none */
	struct slot_map *map; /* this process's view */
	uint64_t slots;	      /* header's page included */
	bool via_mount;
};

/* On success the descriptors and the map belong to the area.  -EMFILE: too many are on. */
int swap_take(struct swap *s, const struct swap_given *g, unsigned *index);
/* -EBUSY unless the area is empty, bad slots aside. */
int swap_close_area(struct swap *s, unsigned index);
void swap_close_all(struct swap *s);
/*
 * In a forked child: the area by the descriptor and the view of its map that
 * were handed on.
 */
void swap_area_adopt(struct swap_area *a, int proc_fd, int shared_fd, struct slot_map *map,
		     int map_fd);
int swap_find(const struct swap *s, const char *path); /* index or -ENOENT */

/*
 * So many pages were touched: areas may have a cluster more for longer runs while page
 * entries and slots together take less than 16 bytes for each.
 */
void swap_roomy(struct swap *s, uint64_t pages);

/*
 * Take up to `want` adjacent slots from the best area, growing a private one
 * where needed.  The first, and the run's length in *got; SWP_NONE: all full.
 */
swp_t swap_alloc(struct swap *s, uint32_t want, uint32_t *got);
/* An entry may name an object of the pool in swap_put(), swap_held() and swap_csum(). */
bool swap_put(struct swap *s, swp_t e);	 /* not held any more; true when the slot is free now */
void swap_busy(struct swap *s, swp_t e); /* I/O begins, */
bool swap_idle(struct swap *s, swp_t e); /* and ends; true when the slot is free now */
bool swap_is_busy(const struct swap *s, swp_t e);
bool swap_held(const struct swap *s, swp_t e); /* by this process */
unsigned swap_users(const struct swap *s, swp_t e);
void swap_csum_set(struct swap *s, swp_t e, uint64_t csum);
uint64_t swap_csum(const struct swap *s, swp_t e);

/*
 * Where a run of slots lies: the device, the byte offset, and in *run how many
 * of the n slots from e are contiguous there.
 */
const struct blk_dev *swap_extent(const struct swap *s, swp_t e, uint32_t n, uint64_t *off,
				  uint32_t *run);

/* Give back what processes held that shared these areas and have ended; true when slots came free. */
bool swap_sweep(struct swap *s);

uint64_t swap_area_used(const struct swap_area *a); /* slots, by all processes */
uint64_t swap_area_mine(const struct swap_area *a); /* by this one */
uint64_t swap_total(const struct swap *s); /* usable slots of areas that are on, growth included */
uint64_t swap_used(const struct swap *s);
bool swap_half_full(const struct swap *s, swp_t e); /* the entry's area is more than half full */
uint64_t swap_bytes(const struct swap *s);	    /* bookkeeping */

#endif
