/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image-read.h - looking into a snapshot's image (image.h).
 *
 * An image is a file that anybody may have made: all that it says is checked
 * before it is used.
 */
#ifndef FL_IMAGE_READ_H
#define FL_IMAGE_READ_H

#include "image.h"

#include <stdbool.h>
#include <stddef.h>

/* A mapping of a file, as the text tells. */
struct image_file {
	uint64_t start, end;
	uint64_t offset;  /* of its first byte in the file */
	const char *name; /* in the text */
	size_t len;
};

struct image {
	int fd; /* not its own */
	struct image_footer footer;
	struct image_range *range;
	char *maps; /* terminated */
	uint64_t *sum;
	struct image_file *file; /* ascending and disjoint */
	size_t files;
};

/* 0, or -errno with a line in why: tables and their checksums, not the pages. */
int image_open(struct image *im, int fd, char *why, size_t why_size);
void image_close(struct image *im);

enum image_page {
	IMAGE_PAGE_GOOD,
	IMAGE_PAGE_LOST,
	IMAGE_PAGE_TORN,
	IMAGE_PAGE_FILE /* a file's, which is not in the image: image_file() */
};

/* The page at an address: zeros where it is in no range, and no file's.  0 or -errno. */
int image_page(const struct image *im, uint64_t addr, void *page, enum image_page *what);

/*
 * The file that was mapped at an address, as the image's text tells: its name
 * and the offset of that address in it.  False: none, or the image does not say.
 */
bool image_file(const struct image *im, uint64_t addr, char *name, size_t size, uint64_t *offset);

/* The bytes of a range that were written, as opposed to holes. */
uint64_t image_range_data(const struct image *im, const struct image_range *r);

#endif
