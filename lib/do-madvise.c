/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * do-madvise.c - advice, locking and page states; see do.h.
 *
 * Advice that empties pages is given to the kernel first, for its checks and
 * its answer, and the page entries follow: ENOMEM still means that the mapped
 * parts of the range were done.
 */
#include "do.h"

#include "fault.h"
#include "grant.h"
#include "log.h"
#include "mm.h"
#include "reclaim.h"
#include "share.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static long set_flags(struct mm *mm, uintptr_t addr, size_t len, uint32_t set, uint32_t clear)
{
	return region_change(&mm->regions, addr, addr + page_up(len), -1, set, clear);
}

/* Every managed part of a range; what is in between is the kernel's. */
static void each_managed(struct mm *mm, uintptr_t start, uintptr_t end,
			 void (*fn)(struct pager *, vpn_t, vpn_t), struct pager *p)
{
	const struct region *r;

	while (start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end) {
		uintptr_t s = r->start > start ? r->start : start;
		uintptr_t e = r->end < end ? r->end : end;

		start = e;
		fn(p, vpn_of(s), vpn_of(e));
	}
}

static void will_need(struct pager *p, vpn_t vpn, vpn_t end)
{
	fault_swap_prefetch(p, vpn, end, SWAP_CACHE);
}

/* Old, and next under the hand. */
static void make_cold(struct pager *p, vpn_t vpn, vpn_t end)
{
	struct mm *mm = p->mm;

	mm->hand = vpn;
	for (; (vpn = pte_next(&mm->ptes, vpn, end, 1U << PTE_PRESENT)) < end; vpn++)
		pte_set_bits(&mm->ptes, vpn, 0, PTE_YOUNG);
}

static void page_out(struct pager *p, vpn_t vpn, vpn_t end)
{
	reclaim_range(p, vpn, end);
}

/*
 * The kernel stopped in the middle, at a mapping that is locked: what is
 * before it is empty.
 */
static void emptied_in_part(struct mm *mm, uintptr_t at, uintptr_t end, int advice)
{
	uintptr_t s, e;

	while (at < end && uffd_vma_next(mm->maps_fd, at, &s, &e) && s < end) {
		if (s < at)
			s = at;
		if (e > end)
			e = end;
		if (sys_err(SYS3(madvise, s, e - s, advice)))
			break;
		drop_entries(mm, s, e);
		at = e;
	}
}

/*
 * Advice that the kernel knows for anonymous memory only, or that would change a page cache
 * of ours.  Guards in mappings of files are lost where a page is let in with its neighbours, and the kernel
 * installs them without end where an unmapped page of a memfd has left a mark (Linux 6.18).
 */
static long refused_by_file(const struct mm *mm, uintptr_t start, uintptr_t end, int advice)
{
	const struct region *r;

	if (advice != MADV_FREE && advice != MADV_WIPEONFORK && advice != MADV_COLLAPSE &&
	    advice != MADV_GUARD_INSTALL)
		return 0;
	for (; start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end;
	     start = r->end)
		if (r->users != NULL)
			return -EINVAL;
	return 0;
}

void did_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice)
{
	switch (advice) {
	case MADV_DONTFORK:
		set_flags(mm, addr, len, REGION_DONTFORK, 0);
		break;
	case MADV_DOFORK:
		set_flags(mm, addr, len, 0, REGION_DONTFORK);
		break;
	case MADV_WIPEONFORK:
		set_flags(mm, addr, len, REGION_WIPEONFORK, 0);
		break;
	case MADV_KEEPONFORK:
		set_flags(mm, addr, len, 0, REGION_WIPEONFORK);
		break;
	case MADV_SEQUENTIAL:
		set_flags(mm, addr, len, REGION_SEQUENTIAL, REGION_RANDOM);
		break;
	case MADV_RANDOM:
		set_flags(mm, addr, len, REGION_RANDOM, REGION_SEQUENTIAL);
		break;
	case MADV_NORMAL:
		set_flags(mm, addr, len, 0, REGION_RANDOM | REGION_SEQUENTIAL);
		break;
	default:
		break;
	}
}

long do_madvise(struct pager *p, struct mm *mm, uintptr_t addr, size_t len, int advice)
{
	uintptr_t end = addr + page_up(len);
	int given = advice;
	long r;

	r = refused_by_file(mm, addr, end, advice);
	if (r != 0)
		return r;
	/* Freed lazily, a page could vanish at any time; at once is as good by the contract. */
	if (advice == MADV_FREE && mm->armed)
		given = MADV_DONTNEED;
	/* Armed memory is never inherited: only our own record changes. */
	if (advice == MADV_DOFORK && mm->armed)
		given = MADV_DONTFORK;
	/* Nothing of ours is in the kernel's swap, but its checks and its answer hold. */
	if (advice == MADV_PAGEOUT && mm->armed)
		given = MADV_COLD;
	r = SYS3(madvise, addr, len, given);
	if (r == -EINVAL && given == MADV_DONTNEED && mm->armed)
		emptied_in_part(mm, addr, end, given);
	if (sys_err(r) && r != -ENOMEM)
		return r;
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
		if (mm->armed)
			drop_entries(mm, addr, end);
		break;
	case MADV_WILLNEED:
		if (p != NULL)
			each_managed(mm, addr, end, will_need, p);
		break;
	case MADV_COLD:
		if (p != NULL)
			each_managed(mm, addr, end, make_cold, p);
		break;
	case MADV_PAGEOUT:
		if (p != NULL)
			each_managed(mm, addr, end, page_out, p);
		break;
	default:
		did_madvise(mm, addr, len, advice);
		break;
	}
	if (p != NULL) {
		file_advice(p, addr, end, advice);
		share_madvise(mm, addr, end, advice);
	}
	return r;
}

static bool has_shared(const struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;

	for (; start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end;
	     start = r->end)
		if (region_is_shared(r))
			return true;
	return false;
}

/*
 * The kernel has refused to lock or unlock a range, and done so with what comes before a gap
 * in it: what it has locked, of which it takes no such advice, cannot be evicted.
 */
static void locked_in_part(struct mm *mm, uintptr_t start, uintptr_t end, unsigned flags)
{
	const struct region *r;

	while (start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end) {
		uintptr_t s = r->start > start ? r->start : start;
		uintptr_t e = r->end < end ? r->end : end;
		bool was = r->flags & REGION_LOCKED;
		bool is = SYS3(madvise, s, PAGE_SIZE, MADV_COLD) == -EINVAL;

		start = e;
		if (is && !was)
			set_flags(mm, s, e - s,
				  REGION_LOCKED | (flags & MLOCK_ONFAULT ? REGION_LOCKONFAULT : 0),
				  0);
		else if (was && !is)
			set_flags(mm, s, e - s, 0, REGION_LOCKED | REGION_LOCKONFAULT);
	}
}

long kernel_mlock(uintptr_t addr, size_t len, unsigned flags)
{
	return flags == 0 ? sys_bare(SYS_mlock, (long)addr, (long)len, 0, 0, 0, 0)
			  : SYS3(mlock2, addr, len, flags);
}

/* Accessible pages of a range, of those that this process pages, that are not locked yet. */
static uint64_t unlocked_pages(const struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;
	uint64_t pages = 0;

	for (; start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end;
	     start = r->end)
		if (r->prot != PROT_NONE && !(r->flags & (REGION_LOCKED | REGION_REMOTE)))
			pages += ((r->end < end ? r->end : end) -
				  (r->start > start ? r->start : start)) >>
				 PAGE_SHIFT;
	return pages;
}

bool lock_fits(struct mm *mm, uint64_t pages)
{
	uint64_t all = mm->regions.locked_open_pages + pages;

	if (!mm->armed || pages == 0)
		return true;
	if (all > mm_lockable(mm, mm_budget(mm)))
		grant_more(mm, pages / 3 * 4 + 64);
	return all <= mm_lockable(mm, mm_budget(mm));
}

bool lock_fits_new(struct mm *mm, uint64_t pages)
{
	if (mm->armed || pages == 0)
		return lock_fits(mm, pages);
	return mm->regions.open_pages + pages <= grant_limit_most(mm) ||
	       mm->regions.locked_open_pages + pages <= mm_lockable(mm, grant_budget_most(mm));
}

/*
 * The kernel is asked to lock on fault, for its limits and its answer; the
 * caller brings the pages in afterwards.  What the store's server pages counts to the
 * server's limit.
 */
long do_mlock(struct mm *mm, uintptr_t addr, size_t len, unsigned flags)
{
	uintptr_t start = addr & PAGE_MASK;
	size_t span = page_up(addr + len) - start;
	uint64_t pages = unlocked_pages(mm, start, start + span);
	long r;

	/* pages are brought in by a system call, which such memory must not go to */
	for (const struct region *q = region_next(&mm->regions, start);
	     q != NULL && q->start < start + span; q = region_next(&mm->regions, q->end))
		if (q->flags & REGION_IN_THREAD)
			return -EINVAL;
	if (!lock_fits(mm, pages))
		return -ENOMEM;
	r = share_advise(mm, start, start + span, WIRE_LOCK);
	if (r == 0)
		r = kernel_mlock(addr, len, mm->armed ? flags | MLOCK_ONFAULT : flags);
	if (sys_err(r)) {
		if (r == -ENOMEM)
			locked_in_part(mm, start, start + span, flags);
		share_relock(mm, start, start + span);
		return r;
	}
	r = set_flags(mm, start, span,
		      REGION_LOCKED | (flags & MLOCK_ONFAULT ? REGION_LOCKONFAULT : 0),
		      flags & MLOCK_ONFAULT ? 0 : REGION_LOCKONFAULT);
	return r == 0 && has_shared(mm, start, start + span) ? 1 : r;
}

long do_munlock(struct mm *mm, uintptr_t addr, size_t len)
{
	uintptr_t start = addr & PAGE_MASK;
	long r = SYS2(munlock, addr, len);

	if (r == -ENOMEM)
		locked_in_part(mm, start, page_up(addr + len), 0);
	if (sys_err(r))
		return r;
	r = set_flags(mm, start, page_up(addr + len) - start, 0,
		      REGION_LOCKED | REGION_LOCKONFAULT);
	if (r == 0)
		share_relock(mm, start, page_up(addr + len));
	return r;
}

static bool has_slot(swp_t swp)
{
	return swp != SWP_NONE && !swp_pooled(swp);
}

static unsigned char state_of_cached(uint32_t w)
{
	unsigned char v = w & (CACHE_LOCKED | CACHE_WRITEBACK) ? FL_PAGE_BUSY : 0;

	if (!(w & CACHE_UPTODATE))
		return v | FL_PAGE_FILE;
	return v | FL_PAGE_PRESENT | (w & CACHE_DIRTY ? 0 : FL_PAGE_WP);
}

/* Of a private mapping: it may be cached, but is not mapped. */
static unsigned char state_of_uncopied(uint32_t w)
{
	if (w & CACHE_UPTODATE)
		return FL_PAGE_CACHED;
	return FL_PAGE_FILE | (w & CACHE_LOCKED ? FL_PAGE_BUSY : 0);
}

static unsigned char state_of(struct mm *mm, const struct region *r, vpn_t vpn)
{
	unsigned char v = r->flags & REGION_LOCKED ? FL_PAGE_LOCKED : 0;
	const struct stage_page *sp;
	pte_t pte;

	if (!mm->armed)
		return v | FL_PAGE_UNTRACKED;
	if (r->flags & REGION_REMOTE)
		return v | state_of_cached(share_word(r, vpn + r->delta));
	if (r->flags & REGION_SHARED)
		return v | state_of_cached(cache_get(cache_of(r), vpn + r->delta));
	pte = pte_get(&mm->ptes, vpn);
	switch (pte_state(pte)) {
	case PTE_NONE:
		if (r->users == NULL)
			return v | FL_PAGE_NONE;
		return v | state_of_uncopied(cache_get(cache_of(r), vpn + r->delta));
	case PTE_PRESENT:
		return (unsigned char)(v | FL_PAGE_PRESENT |
				       (has_slot(pte_swp(pte)) ? FL_PAGE_HAS_SLOT : 0) |
				       (pte & PTE_WP ? FL_PAGE_WP : 0));
	case PTE_STAGED:
		sp = &mm->staging.page[pte_payload(pte)];
		if (sp->state == STAGE_READING || sp->state == STAGE_WRITING)
			v |= FL_PAGE_BUSY;
		if (sp->state != STAGE_FILLED && has_slot(sp->swp))
			v |= FL_PAGE_HAS_SLOT;
		return v | FL_PAGE_STAGED;
	case PTE_SWAPPED:
		return v | FL_PAGE_SWAPPED | FL_PAGE_HAS_SLOT;
	case PTE_FILLED:
		return v | FL_PAGE_FILLED;
	case PTE_COMPRESSED:
		return v | FL_PAGE_COMPRESSED;
	default:
		return v | FL_PAGE_POISONED;
	}
}

static bool is_resident(struct mm *mm, const struct region *r, vpn_t vpn)
{
	const struct stage_page *sp;
	pte_t pte = pte_get(&mm->ptes, vpn);

	if (r->flags & REGION_REMOTE)
		return share_word(r, vpn + r->delta) & CACHE_UPTODATE;
	switch (pte_state(pte)) {
	case PTE_NONE:
		return cache_get(cache_of(r), vpn + r->delta) & CACHE_UPTODATE;
	case PTE_STAGED:
		sp = &mm->staging.page[pte_payload(pte)];
		return sp->state != STAGE_READING;
	default:
		return false;
	}
}

long do_resident(struct mm *mm, uintptr_t addr, unsigned n)
{
	long there = 0;

	for (unsigned i = 0; i < n; i++) {
		uintptr_t a = addr + i * PAGE_SIZE;
		const struct region *r = region_find(&mm->regions, a);

		if (r != NULL && r->users != NULL && !(r->flags & REGION_SHARED) &&
		    is_resident(mm, r, vpn_of(a)))
			there |= (long)1 << i;
	}
	return there;
}

long do_page_state(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec)
{
	for (uintptr_t a = addr; a < addr + len; a += PAGE_SIZE) {
		const struct region *r = region_find(&mm->regions, a);

		*vec++ = r != NULL ? state_of(mm, r, vpn_of(a)) : FL_PAGE_UNMANAGED;
	}
	return 0;
}
