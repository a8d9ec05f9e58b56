/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images of which a part was changed at random, with checksums that fit or do not: each
 * is refused with one line or read, nothing beyond it is touched, and a page
 * of which a byte is wrong is never taken for a good one.
 */
#include "fuzz.h"

#include "image-read.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RANGES 3U
#define PAGES 12U
#define MAPS                                                                                       \
	"00001000-00004000 rw-p 00000000 00:00 0\n"                                                \
	"00005000-00007000 r--p 00002000 00:00 0 /before\n"                                        \
	"00013000-00017000 rw-p 00007000 00:00 0 /a file\n"                                        \
	"00017000-00018000 rw-p 00000000 00:00 0 /behind\n"                                        \
	"00018000-00019000 rw-p 00000000 00:00 0\n"
#define FILE_RANGE 1U

/* data, ranges, maps, sums, footer: a page each but the first */
struct file {
	char data[PAGES][IMAGE_PAGE];
	char ranges[IMAGE_PAGE], maps[IMAGE_PAGE], sums[IMAGE_PAGE], footer[IMAGE_PAGE];
};

static struct file good, bad;

static uint64_t sum(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

/* Checksums as what they are of is now, as far as that can be told. */
static void seal(struct file *f)
{
	struct image_footer *foot = (struct image_footer *)(void *)f->footer;

	if (foot->ranges <= IMAGE_PAGE / sizeof(struct image_range))
		foot->ranges_sum = sum(f->ranges, foot->ranges * sizeof(struct image_range));
	if (foot->maps_bytes <= IMAGE_PAGE)
		foot->maps_sum = sum(f->maps, foot->maps_bytes);
	if (foot->pages != 0 && foot->pages <= IMAGE_PAGE / sizeof(uint64_t))
		foot->sums_sum = sum(f->sums, foot->pages * sizeof(uint64_t));
	foot->footer_sum = sum(foot, offsetof(struct image_footer, footer_sum));
}

/* Not linear: one range is of a file. */
static void make(bool linear)
{
	struct image_footer *foot = (struct image_footer *)(void *)good.footer;
	struct image_range *r = (struct image_range *)(void *)good.ranges;
	uint64_t *sums = (uint64_t *)(void *)good.sums;
	uint64_t start = 0x10000, page = 0;

	memset(&good, 0, sizeof(good));
	for (unsigned i = 0; i < RANGES; i++) {
		unsigned n = 2 + i; /* 2, 3 and 4 pages, with a page between them */

		r[i] = (struct image_range){
			.start = start,
			.end = start + n * IMAGE_PAGE,
			.offset = linear ? start - 0x10000 : page * IMAGE_PAGE,
			.first = page,
			.prot = 3,
			.flags = i == FILE_RANGE && !linear ? IMAGE_RANGE_FILE : 0,
		};
		for (unsigned k = 0; k < n; k++) {
			char *data = good.data[r[i].offset / IMAGE_PAGE + k];

			for (unsigned b = 0; k != 1 && b < IMAGE_PAGE; b++)
				data[b] = (char)fuzz_random();
			sums[page + k] = k != 1	      ? sum(data, IMAGE_PAGE)
					 : r[i].flags ? IMAGE_FILE
						      : IMAGE_HOLE;
		}
		page += n;
		start += (n + 1) * IMAGE_PAGE;
	}
	memcpy(good.maps, MAPS, sizeof(MAPS) - 1);
	*foot = (struct image_footer){
		.version = IMAGE_VERSION,
		.page_size = IMAGE_PAGE,
		.file_size = sizeof(good),
		.flags = linear ? IMAGE_LINEAR : 0,
		.start = linear ? 0x10000 : 0,
		.end = linear ? 0x10000 + PAGES * IMAGE_PAGE : 0,
		.pid = 1,
		.ranges = RANGES,
		.ranges_offset = offsetof(struct file, ranges),
		.maps_bytes = sizeof(MAPS) - 1,
		.maps_offset = offsetof(struct file, maps),
		.pages = page,
		.sums_offset = offsetof(struct file, sums),
	};
	memcpy(foot->magic, IMAGE_MAGIC, sizeof(foot->magic));
	seal(&good);
}

static void spoil(void)
{
	unsigned char *bytes = (unsigned char *)&bad;
	unsigned n = 1 + fuzz_below(3);

	while (n-- > 0) {
		size_t word = fuzz_below(sizeof(struct image_footer) / 8) * 8;
		size_t from = offsetof(struct file, footer) + word;
		uint64_t v = fuzz_random() >> fuzz_below(64);

		switch (fuzz_below(5)) {
		case 0: /* a bit, anywhere */
			bytes[fuzz_below(sizeof(bad))] ^= (unsigned char)(1U << fuzz_below(8));
			break;
		case 1: /* a field of the footer */
			if (word < 16)
				break;
			if (fuzz_below(2))
				v = (v & 0xf) * IMAGE_PAGE;
			memcpy(bytes + from, &v, sizeof(v));
			break;
		case 2: /* of a range */
			from = offsetof(struct file, ranges) +
			       fuzz_below(RANGES * sizeof(struct image_range) / 8) * 8;
			if (fuzz_below(2))
				v = (0x10 + (v & 0x1f)) * IMAGE_PAGE;
			memcpy(bytes + from, &v, sizeof(v));
			break;
		case 3: /* a checksum of a page */
			from = offsetof(struct file, sums) + fuzz_below(PAGES) * 8;
			v = fuzz_below(3);
			memcpy(bytes + from, &v, sizeof(v));
			break;
		default: /* near another value */
			memcpy(&v, bytes + from, sizeof(v));
			v += fuzz_below(3) - 1U;
			if (word >= 16)
				memcpy(bytes + from, &v, sizeof(v));
			break;
		}
	}
}

static void walk(const struct image *im)
{
	const char *file = (const char *)&bad;
	char page[IMAGE_PAGE] __attribute__((aligned(64)));

	for (uint64_t i = 0; i < im->footer.ranges; i++) {
		const struct image_range *r = &im->range[i];

		assert_true(r->offset + (r->end - r->start) <= sizeof(bad));
		for (uint64_t a = r->start; a < r->end; a += IMAGE_PAGE) {
			const char *at = file + r->offset + (a - r->start);
			enum image_page what;
			uint64_t s = im->sum[r->first + (a - r->start) / IMAGE_PAGE];

			assert_int_equal(image_page(im, a, page, &what), 0);
			if (what == IMAGE_PAGE_FILE)
				assert_true(s == IMAGE_FILE && (r->flags & IMAGE_RANGE_FILE));
			if (what != IMAGE_PAGE_GOOD)
				continue;
			assert_memory_equal(page, at, IMAGE_PAGE);
			if (s == IMAGE_HOLE)
				assert_true(at[0] == 0 && memcmp(at, at + 1, IMAGE_PAGE - 1) == 0);
			else
				assert_true(sum(at, IMAGE_PAGE) == s);
		}
		assert_true(image_range_data(im, r) <= r->end - r->start);
	}
	assert_int_equal(strlen(im->maps) <= im->footer.maps_bytes, 1);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t addr = fuzz_below(0x20) * IMAGE_PAGE, offset;
		char name[8] = "";

		if (image_file(im, addr, name, sizeof(name), &offset))
			assert_true(strnlen(name, sizeof(name)) < sizeof(name) &&
				    strchr(name, '\n') == NULL);
	}
}

/* Each page has the file that the text says. */
static void files_of_good(const struct image *im)
{
	static const struct {
		uint64_t start, end, offset;
		const char *name;
	} files[] = {
		{0x5000, 0x7000, 0x2000, "/before"},
		{0x13000, 0x17000, 0x7000, "/a file"},
		{0x17000, 0x18000, 0, "/behind"},
	};

	for (uint64_t a = 0; a < 0x20000; a += IMAGE_PAGE) {
		char file[16];
		uint64_t offset;
		unsigned k = 0;

		while (k < 3 && (a < files[k].start || a >= files[k].end))
			k++;
		assert_int_equal(image_file(im, a, file, sizeof(file), &offset), k < 3);
		if (k == 3)
			continue;
		assert_string_equal(file, files[k].name);
		assert_int_equal(offset, files[k].offset + a - files[k].start);
	}
}

static int nameless_file(void)
{
	char name[] = "/var/tmp/faultline-fuzz.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	return fd;
}

static void images_of_other_versions(void **state)
{
	static const uint32_t versions[] = {0, IMAGE_VERSION - 1, IMAGE_VERSION + 1};
	struct image_footer *foot = (struct image_footer *)(void *)bad.footer;
	int fd = nameless_file();

	(void)state;
	fuzz_begin();
	make(false);
	for (unsigned i = 0; i < 3; i++) {
		char why[128] = "";
		struct image im;

		bad = good;
		foot->version = versions[i];
		seal(&bad);
		assert_int_equal(pwrite(fd, &bad, sizeof(bad), 0), sizeof(bad));
		assert_int_equal(image_open(&im, fd, why, sizeof(why)), -EPROTO);
		assert_non_null(strstr(why, "another version"));
	}
	close(fd);
}

static void spoilt_images(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 20000), taken = 0, refused = 0;
	int fd = nameless_file();

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		char why[128] = "";
		struct image im;
		off_t size = sizeof(bad);
		int r;

		if (i % 500 == 0)
			make(i % 1000 == 0);
		bad = good;
		if (i % 500 != 0)
			spoil();
		if (fuzz_below(8) != 0)
			seal(&bad);
		assert_int_equal(pwrite(fd, &bad, sizeof(bad), 0), sizeof(bad));
		if (fuzz_below(50) == 0)
			size = fuzz_below(2) ? fuzz_below(sizeof(bad)) : fuzz_below(17) * 4096;
		if (i % 500 == 0)
			size = sizeof(bad);
		assert_int_equal(ftruncate(fd, size), 0);
		r = image_open(&im, fd, why, sizeof(why));
		if (r != 0) {
			refused++;
			assert_true(r < 0 && why[0] != '\0' && strchr(why, '\n') == NULL);
			if (i % 500 == 0)
				fail_msg("round %lu: a good image is refused: %s", i, why);
			continue;
		}
		taken++;
		if (i % 500 == 0) {
			char page[IMAGE_PAGE];
			enum image_page what;

			/* a page of the file's, in a range and in none */
			files_of_good(&im);
			assert_int_equal(image_page(&im, 0x14000, page, &what), 0);
			assert_int_equal(what, i % 1000 == 0 ? IMAGE_PAGE_GOOD : IMAGE_PAGE_FILE);
			assert_int_equal(image_page(&im, 0x16000, page, &what), 0);
			assert_int_equal(what, IMAGE_PAGE_FILE);
		}
		/* what was cut off is found by its size alone */
		assert_int_equal(size, sizeof(bad));
		walk(&im);
		image_close(&im);
	}
	assert_true(taken > rounds / 50);
	assert_true(refused > rounds / 50);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_of_other_versions),
		cmocka_unit_test(spoilt_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
