/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * spoil.h - a page that is lost: its slot in BASE/store/swap/disk0 is written over, and the page
 * is touched, by the process whose it is.
 */
#ifndef FL_SPOIL_H
#define FL_SPOIL_H

#include "../live/live.h"
#include "mounted.h"

#include "peek.h"

#define SPOIL_RUNTIMES 16U /* that the process has at most */

/* What a page is, as it is seen from outside. */
static inline uint64_t spoil_entry(const char *page)
{
	uint64_t entry = 0, address[SPOIL_RUNTIMES];
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned n = peek_find(mem, maps, address, SPOIL_RUNTIMES);

	for (unsigned i = 0; i < n; i++) {
		struct peek_region r;
		struct peek p;

		assert_int_equal(peek_open(&p, mem, -1, address[i]), 0);
		if (peek_region(&p, (uintptr_t)page, &r) != 1 || r.start > (uintptr_t)page)
			continue;
		assert_int_equal(peek_tell(&p, &r, (uintptr_t)page / PG, 1, &entry, NULL), 0);
	}
	close(mem);
	fclose(maps);
	return entry;
}

static inline void spoil(struct fl *fl, char *page)
{
	int area = open(in_base("store/swap/disk0"), O_WRONLY | O_CLOEXEC);
	uint64_t entry;

	until(live_kind(fl, page) == FL_PAGE_SWAPPED);
	entry = spoil_entry(page);
	assert_int_equal(FL_PAGE_KIND(entry), FL_PAGE_SWAPPED);
	assert_int_equal(pwrite(area, "spoilt", 6, (off_t)PEEK_SLOT(entry) * (off_t)PG), 6);
	assert_int_equal(fsync(area), 0);
	close(area);
	fl_madvise(fl, page, PG, MADV_POPULATE_READ);
	until(live_kind(fl, page) == FL_PAGE_POISONED);
}

#endif
