/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * landing.c - where reads of files land; see landing.h.
 */
#include "landing.h"

#include "mm.h"
#include "sys.h"

#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGES 512U /* a huge page has */
#define MAP_BYTES ((LANDING_MAX + HUGE_PAGES) * PAGE_SIZE)
#define LEAST 32U /* fewer are not worth their frames */
#define PART 64U  /* of the limit */

void *landing_addr(const struct mm *mm, uint32_t first)
{
	return mm->files.landing.base + first * PAGE_SIZE;
}

static bool make(struct landing *l)
{
	if (l->map != NULL)
		return true;
	l->map = sys_mem_alloc(MAP_BYTES);
	if (l->map == NULL)
		return false;
	l->base = l->map + (-(uintptr_t)l->map & (HUGE_PAGES * PAGE_SIZE - 1));
	SYS3(madvise, l->map, MAP_BYTES, MADV_NOHUGEPAGE);
	SYS3(madvise, l->map, MAP_BYTES, MADV_DONTFORK);
	sys_mem_nodump(l->map, MAP_BYTES);
	return true;
}

/* The frames of pages that are no longer of it, but for those in flight: landing_put() has them. */
static void release(struct landing *l, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++)
		if (!l->busy[i])
			SYS3(madvise, l->base + i * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

/*
 * The huge page in whose middle it ends now is given up as a whole: the kernel keeps
 * all of one while it holds any part.  Not while a read is in flight to it: the end of that does.
 */
static void give_up_cut(struct landing *l)
{
	if (!l->cut || memchr(l->busy, 1, HUGE_PAGES) != NULL)
		return;
	SYS3(madvise, l->base, HUGE_PAGES * PAGE_SIZE, MADV_DONTNEED_LOCKED);
	l->touched = 0;
	l->cut = false;
}

void landing_fit(struct mm *mm)
{
	struct landing *l = &mm->files.landing;
	uint64_t pages = mm->limit / PART;

	if (mm->files.first == NULL && l->map == NULL)
		return;
	if (pages > LANDING_MAX)
		pages = LANDING_MAX;
	if (pages >= HUGE_PAGES)
		pages &= ~(uint64_t)(HUGE_PAGES - 1);
	/* a group's grants are dealt out for the rest of the budget alone */
	if (pages < LEAST || mm->group != NULL || !make(l))
		pages = 0;
	if (pages == l->pages)
		return;
	if (pages > l->pages && pages >= HUGE_PAGES)
		SYS3(madvise, l->base, pages * PAGE_SIZE, MADV_HUGEPAGE);
	/* also where nothing landed yet: the first page would bring all of a huge one */
	if (l->pages > pages)
		SYS3(madvise, l->base + pages * PAGE_SIZE, (LANDING_MAX - pages) * PAGE_SIZE,
		     MADV_NOHUGEPAGE);
	if (l->touched > pages) {
		release(l, (uint32_t)pages, l->touched);
		l->touched = (uint32_t)pages;
	}
	l->cut = pages < HUGE_PAGES && (l->cut || l->pages >= HUGE_PAGES);
	l->pages = (uint32_t)pages;
	l->hand = 0;
	give_up_cut(l);
}

void landing_close(struct mm *mm)
{
	struct landing *l = &mm->files.landing;

	if (l->map != NULL)
		sys_mem_free(l->map, MAP_BYTES);
	memset(l, 0, sizeof(*l));
}

void landing_forked(struct mm *mm)
{
	/* it was not inherited, and nothing is mapped in its place */
	memset(&mm->files.landing, 0, sizeof(mm->files.landing));
}

/* It may hold something from now on. */
static void touch(struct landing *l, uint32_t end)
{
	if (end <= l->touched)
		return;
	l->touched = end;
	/* a huge page comes as a whole */
	if (l->pages >= HUGE_PAGES)
		l->touched = (end + HUGE_PAGES - 1) & ~(HUGE_PAGES - 1);
}

uint32_t landing_get_one(struct mm *mm)
{
	struct landing *l = &mm->files.landing;

	for (uint32_t at = 0; at < l->pages; at++) {
		if (l->busy[at])
			continue;
		l->busy[at] = 1;
		touch(l, at + 1);
		return at;
	}
	return LANDING_NONE;
}

uint32_t landing_get(struct mm *mm, uint32_t n)
{
	struct landing *l = &mm->files.landing;
	uint32_t at = l->hand;
	uint32_t run = 0;

	if (n > l->pages)
		return LANDING_NONE;
	for (uint32_t seen = 0; seen < l->pages + n && run < n; seen++) {
		if (at == l->pages) {
			at = 0;
			run = 0;
		}
		run = l->busy[at] ? 0 : run + 1;
		at++;
	}
	if (run < n)
		return LANDING_NONE;
	memset(&l->busy[at - n], 1, n);
	l->hand = at;
	touch(l, at);
	return at - n;
}

void landing_put(struct mm *mm, uint32_t first, uint32_t n)
{
	struct landing *l = &mm->files.landing;

	memset(&l->busy[first], 0, n);
	if (first + n > l->pages)
		release(l, first > l->pages ? first : l->pages, first + n);
	give_up_cut(l);
}
