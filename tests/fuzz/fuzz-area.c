/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Areas whose header or length was changed at random: each is taken or
 * refused as the header's definition says, nothing beyond the file is ever
 * handed out, and what is refused is left as it was.
 */
#include "fuzz.h"

#include "log.h"
#include "swap-area.h"

#include <endian.h>
#include <fcntl.h>
#include <sys/stat.h>

#define FILE_SLOTS 64U
#define FILE_BYTES (FILE_SLOTS * 4096U)

static char dir[] = "/var/tmp/faultline-fuzz.XXXXXX";
static char path[64];
static unsigned char *before, *after;

static size_t slurp(unsigned char *buf)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, buf, 2 * FILE_BYTES);

	assert_true(n >= 0);
	close(fd);
	return (size_t)n;
}

/* Change header fields: to what they are not, to extremes, or a bit. */
static void spoil(int fd)
{
	struct area_header h;
	unsigned n = 1 + fuzz_below(3);

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	while (n-- > 0) {
		switch (fuzz_below(7)) {
		case 0:
			((unsigned char *)&h)[fuzz_below(sizeof(h))] ^=
				(unsigned char)(1U << fuzz_below(8));
			break;
		case 1:
			h.slots = htole64(fuzz_below(2 * FILE_SLOTS));
			break;
		case 2:
			h.slots = htole64(fuzz_random() >> fuzz_below(64));
			break;
		case 3:
			h.slots = htole64(((uint64_t)1 << (fuzz_below(2) ? 52 : 32)) + FILE_SLOTS);
			break;
		case 4:
			h.version = htole32(fuzz_below(4));
			break;
		case 5:
			h.page_size = htole32(1U << (8 + fuzz_below(10)));
			break;
		case 6:
			assert_int_equal(ftruncate(fd, fuzz_below(2 * FILE_BYTES)), 0);
			break;
		}
	}
	assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
}

/* The definition: what of the file is the area, in slots; 0: it is none. */
static uint64_t area_slots(const unsigned char *bytes, size_t size)
{
	struct area_header h;
	uint64_t slots;

	if (size < AREA_MIN_SLOTS * 4096)
		return 0;
	memcpy(&h, bytes, sizeof(h));
	if (memcmp(h.magic, AREA_MAGIC, sizeof(h.magic)) != 0 || le32toh(h.version) != 1 ||
	    le32toh(h.page_size) != 4096)
		return 0;
	slots = le64toh(h.slots);
	return slots < AREA_MIN_SLOTS || slots > size / 4096 ? 0 : slots;
}

static void spoilt_headers(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 4000), taken = 0, refused = 0;
	char why[LOG_LINE_MAX];

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		struct fl_swap_spec spec = {.path = path, .prio = -1};
		struct swap swap;
		unsigned index = 0;
		uint64_t slots;
		size_t size;
		int fd, r;

		unlink(path);
		if (swap_format(path, FILE_BYTES, why, sizeof(why)) != 0)
			fail_msg("%s", why);
		fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		spoil(fd);
		close(fd);
		size = slurp(before);
		slots = area_slots(before, size);

		memset(&swap, 0, sizeof(swap));
		why[0] = '\0';
		r = swap_on(&swap, &spec, NULL, &index, why, sizeof(why));
		if (r != 0) {
			refused++;
			if (slots != 0)
				fail_msg("round %lu: refused an area of %llu slots: %s", i,
					 (unsigned long long)slots, why);
			assert_true(strncmp(why, "swap area /", 11) == 0);
			assert_null(strchr(why, '\n'));
			assert_int_equal(slurp(after), size);
			assert_memory_equal(before, after, size);
			continue;
		}
		taken++;
		if (slots == 0)
			fail_msg("round %lu: took what is no area, %zu bytes", i, size);
		assert_int_equal(swap_total(&swap), slots - 1);
		for (uint64_t n = 0; n < slots - 1;) {
			uint32_t got = 0, run = 0;
			uint64_t off = 0;
			swp_t e = swap_alloc(&swap, 1 + fuzz_below(16), &got);

			assert_true(e != SWP_NONE && got >= 1);
			swap_extent(&swap, e, got, &off, &run);
			assert_true(run >= 1 && run <= got);
			assert_true(off >= 4096 && off + (uint64_t)run * 4096 <= slots * 4096);
			n += got;
			assert_true(n <= slots - 1);
		}
		swap_close_all(&swap);
		assert_int_equal(slurp(after), size);
		assert_memory_equal(before, after, size);
	}
	assert_true(taken > rounds / 50);
	assert_true(refused > rounds / 50);
}

static int set_up(void **state)
{
	(void)state;
	before = malloc(2 * FILE_BYTES);
	after = malloc(2 * FILE_BYTES);
	if (before == NULL || after == NULL || mkdtemp(dir) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/area", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	free(before);
	free(after);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spoilt_headers),
	};

	return cmocka_run_group_tests_name("fuzz-area", tests, set_up, tear_down);
}
