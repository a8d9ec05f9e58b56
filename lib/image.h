/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image.h - the format of a snapshot's image (fl_snapshot(3)).
 *
 *	data	the pages of the ranges, each range at its offset.  A hole is zeros.
 *	table	struct image_range, `ranges` of them, ascending and disjoint
 *	maps	text: the regions, as in /proc/PID/maps
 *	sums	a 64-bit word for each page of each range, in order
 *	footer	struct image_footer, in the last page of the file
 *
 * Each part begins at a multiple of the page size, in that order; numbers are
 * little-endian.  What is in no range was never touched: zeros, or, where the
 * text names a file, that file's bytes from the offset on that stands there (of a held
 * mapping: what fl_sync() made of them).  In the image of
 * one range of memory the byte at an address is at offset address - start, so
 * that the file maps back; otherwise the ranges stand one behind the other.
 *
 * The footer is written last, when all else is durable: a file that ends in no
 * valid footer is no image, and one that was torn is found by its checksums.
 * All of them are XXH3, 64 bits, without a seed; that of the sums is made in parts of
 * IMAGE_SUM_BYTES, each but the first with that of the part before as its seed.
 *
 * A change after which a reader would take wrong bytes for good ones, or call them
 * damaged, is another version; a reader knows its own only.
 */
#ifndef FL_IMAGE_H
#define FL_IMAGE_H

#include <stdint.h>

#define IMAGE_MAGIC "FAULTLINE-SNAP-1" /* 16 bytes, no terminator */
#define IMAGE_VERSION 2U
#define IMAGE_PAGE ((uint64_t)4096)
#define IMAGE_SUM_BYTES ((uint64_t)1 << 20)

#define IMAGE_LINEAR 1U /* flag of a footer: the image of one range of memory */

/* A word of the sums. */
#define IMAGE_HOLE 0U /* the page is zeros; nothing was written */
#define IMAGE_LOST 1U /* its content could not be had; a hole */
#define IMAGE_FILE 2U /* it is the file's, not written since it was mapped; a hole */
/* anything else: the page's checksum, plus 3 where that is below 3 */

#define IMAGE_RANGE_FILE 1U /* of a private mapping of a file, which the text names */

struct image_range {
	uint64_t start, end; /* addresses */
	uint64_t offset;     /* of its first byte in the file */
	uint64_t first;	     /* its first page's place in the sums */
	uint32_t prot;	     /* PROT_... of mmap(2) */
	uint32_t flags;	     /* IMAGE_RANGE_FILE */
};

struct image_footer {
	char magic[16];
	uint32_t version;
	uint32_t page_size;
	uint64_t file_size; /* footer included */
	uint64_t flags;
	uint64_t start, end; /* linear: the range that was asked for */
	uint64_t time;	     /* CLOCK_REALTIME of the instant, ns */
	uint64_t pid;
	uint64_t ranges, ranges_offset;
	uint64_t maps_bytes, maps_offset;
	uint64_t pages, sums_offset;		 /* of all ranges */
	uint64_t lost;				 /* pages that are IMAGE_LOST */
	uint64_t ranges_sum, maps_sum, sums_sum; /* checksums of the three parts, without padding */
	uint64_t footer_sum;			 /* of all before it */
};

#endif
