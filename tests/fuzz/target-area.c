/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target-area.c - a file that may be a swap area, with any header and of any
 * length: a runtime that is to use it and a store that looks at it take or
 * refuse it as the header's definition says, nothing beyond the file is ever
 * handed out, and what is refused is left as it was.
 *
 * Input: the length of the file, modulo 512 KiB and 1, in four bytes, little-endian; and how it
 * begins.  Zeros follow.
 */
#include "target.h"

#include "log.h"
#include "store.h"
#include "swap-area.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (128U * 4096U)

enum target_outcome target_outcome;

static char dir[] = "/dev/shm/faultline-fuzz.XXXXXX";
static char path[64];
static int dir_fd, fd;
static unsigned char before[FILE_MAX], after[FILE_MAX];

static void clear_up(void)
{
	unlink(path);
	rmdir(dir);
}

static void set_up(void)
{
	must(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/area", dir);
	atexit(clear_up);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(dir_fd >= 0 && fd >= 0);
}

/* The definition: what of the file is an area, in slots; 0: it is none. */
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

/* All of it is handed out, once, and lies in the file. */
static void hand_out(struct swap *swap, uint64_t slots)
{
	static bool seen[FILE_MAX / 4096];

	memset(seen, 0, sizeof(seen));
	must(swap_total(swap) == slots - 1);
	for (uint64_t n = 0; n < slots - 1;) {
		uint32_t got = 0, run = 0;
		uint64_t off = 0;
		swp_t e = swap_alloc(swap, 16, &got);

		must(e != SWP_NONE && got >= 1 && got <= 16);
		must(swp_slot(e) >= 1 && swp_slot(e) + (uint64_t)got <= slots);
		for (uint32_t i = 0; i < got; i++) {
			must(!seen[swp_slot(e) + i]);
			seen[swp_slot(e) + i] = true;
		}
		swap_extent(swap, e, got, &off, &run);
		must(run >= 1 && run <= got);
		must(off >= 4096 && off + (uint64_t)run * 4096 <= slots * 4096);
		n += got;
		must(n <= slots - 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fl_swap_spec spec = {.path = path, .prio = -1};
	char why[LOG_LINE_MAX] = "", text[1024];
	struct area_info info;
	struct swap swap;
	unsigned index = 0;
	bool blank = true;
	uint64_t slots;
	uint32_t bytes;
	size_t head;
	int r;

	target_outcome = TARGET_NO_INPUT;
	if (size < sizeof(bytes))
		return 0;
	if (fd == 0)
		set_up();
	memcpy(&bytes, data, sizeof(bytes));
	bytes = le32toh(bytes) % (FILE_MAX + 1);
	head = size - sizeof(bytes) < bytes ? size - sizeof(bytes) : bytes;
	must(ftruncate(fd, 0) == 0 && ftruncate(fd, bytes) == 0);
	must(pwrite(fd, data + sizeof(bytes), head, 0) == (ssize_t)head);
	for (size_t i = 0; i < head; i++)
		blank = blank && data[sizeof(bytes) + i] == 0;
	memset(before, 0, bytes);
	memcpy(before, data + sizeof(bytes), head);
	slots = area_slots(before, bytes);

	must(area_open(dir_fd, "area", &info) == 0);
	must(info.valid == (slots != 0) && (!info.valid || info.slots == slots));
	must(info.valid == (info.damage[0] == '\0') && strchr(info.damage, '\n') == NULL);
	must(area_text(&info, "area", text, sizeof(text)) < (int)sizeof(text));
	area_close(&info);

	/* a blank file becomes an area */
	if (blank && bytes >= AREA_MIN_SLOTS * 4096)
		slots = bytes / 4096;
	memset(&swap, 0, sizeof(swap));
	r = swap_on(&swap, &spec, NULL, &index, why, sizeof(why));
	must((r == 0) == (slots != 0));
	if (r == 0) {
		hand_out(&swap, slots);
		swap_close_all(&swap);
	} else {
		must(strncmp(why, "swap area /", 11) == 0 && strchr(why, '\n') == NULL);
	}
	if (r != 0 || !blank) {
		must(pread(fd, after, sizeof(after), 0) == (ssize_t)bytes);
		must(memcmp(before, after, bytes) == 0);
	}
	target_outcome = r == 0 ? TARGET_TAKEN : TARGET_REFUSED;
	return 0;
}
