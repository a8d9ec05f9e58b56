/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image-read.c - looking into a snapshot's image; see image-read.h.
 */
#include "image-read.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define ADDRESS_MAX ((uint64_t)1 << 57)
#define SIZE_MAX_SANE ((uint64_t)1 << 62)

__attribute__((format(printf, 4, 5))) static int refuse(char *why, size_t size, int err,
							const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
	return err;
}

/* 0, -EIO for less than that, or -errno. */
static int read_whole(int fd, void *buf, uint64_t len, uint64_t off)
{
	char *to = buf;

	while (len != 0) {
		ssize_t n = pread(fd, to, len < INT32_MAX ? len : INT32_MAX, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static uint64_t padded(uint64_t n)
{
	return (n + IMAGE_PAGE - 1) & ~(IMAGE_PAGE - 1);
}

/* Do the parts stand where they must? */
static bool parts_fit(const struct image_footer *f, uint64_t size)
{
	/* so that no sum below passes 64 bits */
	if (size > SIZE_MAX_SANE || f->ranges > size / sizeof(struct image_range) ||
	    f->maps_bytes > size || f->pages > size / sizeof(uint64_t) || f->ranges_offset > size ||
	    f->maps_offset > size || f->sums_offset > size)
		return false;
	return f->ranges_offset % IMAGE_PAGE == 0 &&
	       f->maps_offset ==
		       f->ranges_offset + padded(f->ranges * sizeof(struct image_range)) &&
	       f->sums_offset == f->maps_offset + padded(f->maps_bytes) &&
	       size == f->sums_offset + padded(f->pages * sizeof(uint64_t)) + IMAGE_PAGE;
}

static int check_footer(const struct image_footer *f, uint64_t size, char *why, size_t why_size)
{
	if (memcmp(f->magic, IMAGE_MAGIC, sizeof(f->magic)) != 0)
		return refuse(why, why_size, -EINVAL, "not an image, or not a complete one");
	if (f->version != IMAGE_VERSION || f->page_size != IMAGE_PAGE)
		return refuse(why, why_size, -EPROTO, "an image of another version (%u)",
			      f->version);
	if (f->footer_sum != XXH3_64bits(f, offsetof(struct image_footer, footer_sum)))
		return refuse(why, why_size, -EILSEQ,
			      "damaged: the checksum of its footer is wrong");
	if (f->file_size != size || !parts_fit(f, size) || (f->flags & ~(uint64_t)IMAGE_LINEAR))
		return refuse(why, why_size, -EILSEQ, "damaged: its parts do not fit its size");
	if (f->flags & IMAGE_LINEAR &&
	    (f->start >= f->end || (f->start | f->end) % IMAGE_PAGE != 0 || f->end > ADDRESS_MAX ||
	     f->end - f->start > f->ranges_offset))
		return refuse(why, why_size, -EILSEQ, "damaged: its range makes no sense");
	return 0;
}

static bool ranges_fit(const struct image *im)
{
	const struct image_footer *f = &im->footer;
	bool linear = f->flags & IMAGE_LINEAR;
	uint64_t pages = 0;
	uint64_t last = linear ? f->start : 0;

	for (uint64_t i = 0; i < f->ranges; i++) {
		const struct image_range *r = &im->range[i];

		if (r->start < last || r->start >= r->end ||
		    r->end > (linear ? f->end : ADDRESS_MAX) ||
		    (r->start | r->end) % IMAGE_PAGE != 0 || r->first != pages ||
		    (r->flags & ~IMAGE_RANGE_FILE) != 0)
			return false;
		pages += (r->end - r->start) / IMAGE_PAGE;
		if (pages > f->pages ||
		    r->offset != (linear ? r->start - f->start : r->first * IMAGE_PAGE) ||
		    r->offset > f->ranges_offset ||
		    r->end - r->start > f->ranges_offset - r->offset)
			return false;
		last = r->end;
	}
	return pages == f->pages;
}

static uint64_t sum_of(const char *bytes, uint64_t len, uint64_t part)
{
	uint64_t h = 0;

	if (part == UINT64_MAX)
		return XXH3_64bits(bytes, len);
	while (len != 0) {
		uint64_t n = len < part ? len : part;

		h = XXH3_64bits_withSeed(bytes, n, h);
		bytes += n;
		len -= n;
	}
	return h;
}

static int read_part(int fd, void *buf, uint64_t len, uint64_t off, uint64_t sum, uint64_t part,
		     const char *what, char *why, size_t why_size)
{
	int err = read_whole(fd, buf, len, off);

	if (err != 0)
		return refuse(why, why_size, err, "cannot be read: %s", strerror(-err));
	if (sum_of(buf, len, part) != sum)
		return refuse(why, why_size, -EILSEQ, "damaged: the checksum of its %s is wrong",
			      what);
	return 0;
}

/* A line of the text, as the writer makes it: "START-END PERM OFFSET 00:00 0 NAME". */
static const char *line_name(const char *line, uint64_t *from, uint64_t *to, uint64_t *off)
{
	static const char rest[] = " 00:00 0 ";
	char *at;

	*from = strtoull(line, &at, 16);
	if (*at != '-')
		return NULL;
	*to = strtoull(at + 1, &at, 16);
	if (*at != ' ' || strnlen(at, 6) < 6 || at[5] != ' ')
		return NULL;
	*off = strtoull(at + 6, &at, 16);
	return strncmp(at, rest, sizeof(rest) - 1) == 0 ? at + sizeof(rest) - 1 : NULL;
}

/*
 * The mappings of files that the text names.  The writer's lines ascend: one that does not is of
 * no writer of ours, and passed over.
 */
static int find_files(struct image *im)
{
	const char *line, *end;
	size_t lines = 0;
	uint64_t last = 0;

	for (line = im->maps; (end = strchr(line, '\n')) != NULL; line = end + 1)
		lines++;
	im->file = malloc(lines * sizeof(*im->file) + 1);
	if (im->file == NULL)
		return -ENOMEM;
	for (line = im->maps; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		struct image_file f;

		f.name = line_name(line, &f.start, &f.end, &f.offset);
		if (f.name == NULL || f.name >= end || f.start < last || f.start >= f.end)
			continue;
		f.len = (size_t)(end - f.name);
		im->file[im->files++] = f;
		last = f.end;
	}
	return 0;
}

int image_open(struct image *im, int fd, char *why, size_t why_size)
{
	struct image_footer *f = &im->footer;
	struct stat st;
	uint64_t size;
	int err;

	memset(im, 0, sizeof(*im));
	im->fd = fd;
	if (fstat(fd, &st) != 0)
		return refuse(why, why_size, -errno, "cannot be read: %s", strerror(errno));
	size = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode) || size < IMAGE_PAGE || size % IMAGE_PAGE != 0)
		return refuse(why, why_size, -EINVAL, "not an image, or not a complete one");
	err = read_whole(fd, f, sizeof(*f), size - IMAGE_PAGE);
	if (err != 0)
		return refuse(why, why_size, err, "cannot be read: %s", strerror(-err));
	err = check_footer(f, size, why, why_size);
	if (err != 0)
		return err;
	im->range = malloc(f->ranges * sizeof(*im->range) + 1);
	im->maps = malloc(f->maps_bytes + 1);
	im->sum = malloc(f->pages * sizeof(*im->sum) + 1);
	if (im->range == NULL || im->maps == NULL || im->sum == NULL)
		err = refuse(why, why_size, -ENOMEM, "no memory for its tables");
	if (err == 0)
		err = read_part(fd, im->range, f->ranges * sizeof(*im->range), f->ranges_offset,
				f->ranges_sum, UINT64_MAX, "ranges", why, why_size);
	if (err == 0)
		err = read_part(fd, im->maps, f->maps_bytes, f->maps_offset, f->maps_sum,
				UINT64_MAX, "regions", why, why_size);
	if (err == 0)
		err = read_part(fd, im->sum, f->pages * sizeof(*im->sum), f->sums_offset,
				f->sums_sum, IMAGE_SUM_BYTES, "checksums", why, why_size);
	if (err == 0 && !ranges_fit(im))
		err = refuse(why, why_size, -EILSEQ, "damaged: its ranges make no sense");
	if (err != 0) {
		image_close(im);
		return err;
	}
	im->maps[f->maps_bytes] = '\0';
	if (find_files(im) != 0) {
		image_close(im);
		return refuse(why, why_size, -ENOMEM, "no memory for its tables");
	}
	return 0;
}

void image_close(struct image *im)
{
	free(im->range);
	free(im->maps);
	free(im->sum);
	free(im->file);
	memset(im, 0, sizeof(*im));
}

/* A checksum is no word of another meaning. */
static uint64_t raised(uint64_t h)
{
	return h > IMAGE_FILE ? h : h + IMAGE_FILE + 1;
}

static const struct image_range *find(const struct image *im, uint64_t addr)
{
	uint64_t lo = 0, hi = im->footer.ranges;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (im->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < im->footer.ranges && addr >= im->range[lo].start ? &im->range[lo] : NULL;
}

bool image_file(const struct image *im, uint64_t addr, char *name, size_t size, uint64_t *offset)
{
	size_t lo = 0, hi = im->files;
	const struct image_file *f;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (im->file[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == im->files || addr < im->file[lo].start)
		return false;
	f = &im->file[lo];
	snprintf(name, size, "%.*s", (int)f->len, f->name);
	*offset = f->offset + (addr - f->start);
	return true;
}

int image_page(const struct image *im, uint64_t addr, void *page, enum image_page *what)
{
	const struct image_range *r = find(im, addr);
	uint64_t sum, i, off;
	char name[2];
	int err;

	*what = IMAGE_PAGE_GOOD;
	memset(page, 0, IMAGE_PAGE);
	if (r == NULL) {
		if (image_file(im, addr, name, sizeof(name), &off))
			*what = IMAGE_PAGE_FILE;
		return 0;
	}
	i = (addr - r->start) / IMAGE_PAGE;
	sum = im->sum[r->first + i];
	if (sum == IMAGE_LOST) {
		*what = IMAGE_PAGE_LOST;
		return 0;
	}
	if (sum == IMAGE_FILE && (r->flags & IMAGE_RANGE_FILE)) {
		*what = IMAGE_PAGE_FILE;
		return 0;
	}
	err = read_whole(im->fd, page, IMAGE_PAGE, r->offset + i * IMAGE_PAGE);
	if (err != 0)
		return err;
	if (sum == IMAGE_HOLE) {
		const char *bytes = page;

		if (bytes[0] != 0 || memcmp(bytes, bytes + 1, IMAGE_PAGE - 1) != 0)
			*what = IMAGE_PAGE_TORN;
	} else {
		uint64_t h = XXH3_64bits(page, IMAGE_PAGE);

		if (raised(h) != sum)
			*what = IMAGE_PAGE_TORN;
	}
	return 0;
}

uint64_t image_range_data(const struct image *im, const struct image_range *r)
{
	uint64_t n = (r->end - r->start) / IMAGE_PAGE, data = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t sum = im->sum[r->first + i];

		data += sum > IMAGE_LOST && !(sum == IMAGE_FILE && (r->flags & IMAGE_RANGE_FILE));
	}
	return data * IMAGE_PAGE;
}
