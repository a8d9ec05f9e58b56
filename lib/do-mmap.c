/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * do-mmap.c - mapping, unmapping, moving and protecting managed memory; see do.h.
 *
 * Invariants, when a call returns:
 * - While the mm is armed every region is registered and MADV_DONTFORK.
 * - A page outside of every region has no entry, so it holds no slot, word or object.
 * - What is new and cannot be registered or noted, for want of memory, is unmapped again
 *   (-ENOMEM).  What was moved cannot be moved back: registering it is tried again for a
 *   while, then the process ends with one line.
 * - What is unmapped or mapped over is no region any more: there is memory to forget it before
 *   the kernel is asked.
 *
 * Locks: the mm lock, held by the caller.
 */
#include "do.h"

#include "grant.h"
#include "log.h"
#include "mm.h"
#include "pager.h"
#include "share.h"
#include "snapshot.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/*
 * Whether that much more may not become memory since it could pass the limit
 * and nothing would page it.
 */
static bool refused(struct mm *mm, uint64_t pages)
{
	if (!mm->confined || mm->pagers_up || pages == 0 ||
	    mm->regions.open_pages + pages <= mm->limit ||
	    (mm->group != NULL && grant_mapped(mm, mm->regions.open_pages + pages)))
		return false;
	if (!mm->confined_said)
		log_line_confined(&mm->sink, FL_LOG_ERROR,
				  "the program set a seccomp filter before a pager was started: "
				  "memory above the limit is refused");
	mm->confined_said = true;
	return true;
}

/* Pages of reservations in a range, with one of these flags: what mprotect(2) would make memory. */
static uint64_t closed_pages(const struct mm *mm, uintptr_t start, uintptr_t end, uint32_t flags)
{
	const struct region *r;
	uint64_t pages = 0;

	for (; start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end;
	     start = r->end)
		if (r->prot == PROT_NONE && !(r->flags & REGION_REMOTE) &&
		    (flags == 0 || (r->flags & flags)))
			pages += ((r->end < end ? r->end : end) -
				  (r->start > start ? r->start : start)) >>
				 PAGE_SHIFT;
	return pages;
}

/*
 * The kernel's heuristic overcommit: one request beyond all there is fails;
 * and when the areas are full nothing new is promised.
 */
static bool overcommitted(const struct mm *mm, uint64_t pages, int flags)
{
	uint64_t total, used, slots;

	/* what no address space holds is the kernel's to refuse */
	if (!mm->armed || pages >= VPN_MAX)
		return false;
	/* an area that is being taken off still holds slots, and offers none */
	total = swap_total(&mm->swap);
	used = swap_used(&mm->swap);
	slots = (total > used ? total - used : 0) + (mm_tiered(mm) ? tier_room(mm) : 0);
	if (mm->swap_full && slots < pages && mm_frames(mm) + pages > grant_budget_most(mm))
		return true;
	return !(flags & MAP_NORESERVE) && pages > grant_limit_most(mm) + slots;
}

void drop_entries(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const unsigned any = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);
	vpn_t vpn = vpn_of(start);

	if (mm->ptes.chunk == NULL)
		return;
	snapshot_dropped(mm, vpn, vpn_of(end));
	while ((vpn = pte_next(&mm->ptes, vpn, vpn_of(end), any)) < vpn_of(end)) {
		pte_t pte = pte_get(&mm->ptes, vpn);

		switch (pte_state(pte)) {
		case PTE_STAGED:
			stage_detach(mm, vpn);
			break;
		case PTE_PRESENT:
		case PTE_SWAPPED:
		case PTE_COMPRESSED:
			if (pte_swp(pte) != SWP_NONE && swap_put(&mm->swap, pte_swp(pte)))
				mm->swap_full = false;
			pte_set(&mm->ptes, vpn, 0);
			break;
		case PTE_FILLED:
			fill_put(&mm->fills, (uint32_t)pte_payload(pte));
			pte_set(&mm->ptes, vpn, 0);
			break;
		default:
			pte_set(&mm->ptes, vpn, 0);
			break;
		}
		vpn++;
	}
	pte_trim(&mm->ptes, vpn_of(start), vpn_of(end));
}

long do_forget(struct mm *mm, uintptr_t start, uintptr_t end)
{
	drop_entries(mm, start, end);
	return region_remove(&mm->regions, start, end);
}

/* A new range is ours from now on.  On failure it is unmapped again. */
static long take_over(struct mm *mm, uintptr_t start, uintptr_t end, int prot, uint32_t flags)
{
	long r;

	drop_entries(mm, start, end);
	if (mm->lock_future)
		flags |= REGION_LOCKED;
	r = region_insert(&mm->regions, start, end, prot, flags);
	if (r == 0 && mm->armed) {
		r = pager_register(mm, start, end);
		if (r != 0)
			do_forget(mm, start, end);
	}
	if (r == 0)
		return 0;
	SYS2(munmap, start, end - start);
	return -ENOMEM;
}

long did_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags)
{
	uint32_t rflags = flags & MAP_NORESERVE ? REGION_NORESERVE : 0;
	long err;

	if ((flags & FL_MAP_IN_THREAD) && mm->in_thread_uffd >= 0)
		rflags |= REGION_IN_THREAD;
	err = take_over(mm, addr, addr + page_up(len), prot, rflags);
	return err != 0 ? err : (long)addr;
}

long do_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags)
{
	uint64_t pages = page_up(len) >> PAGE_SHIFT;
	long r;

	if (mm->lock_future && prot != PROT_NONE && !lock_fits_new(mm, pages))
		return -EAGAIN;
	if (overcommitted(mm, pages, flags) || (prot != PROT_NONE && refused(mm, pages)) ||
	    !region_can_insert(&mm->regions))
		return -ENOMEM;
	if (flags & MAP_FIXED)
		share_leave(mm, addr, addr + page_up(len));
	r = SYS6(mmap, addr, len, prot, flags & ~FL_MAP_IN_THREAD, -1, 0);
	if (sys_err(r)) {
		if (flags & MAP_FIXED)
			share_return(mm, addr, addr + page_up(len));
		return r;
	}
	return did_mmap(mm, (uintptr_t)r, len, prot, flags);
}

long do_munmap(struct mm *mm, uintptr_t addr, size_t len)
{
	long r;

	if (!region_can_remove(&mm->regions, addr, addr + page_up(len)))
		return -ENOMEM;
	share_leave(mm, addr, addr + page_up(len));
	r = SYS2(munmap, addr, len);
	if (!sys_err(r))
		do_forget(mm, addr, addr + page_up(len));
	else
		share_return(mm, addr, addr + page_up(len));
	return r;
}

long did_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot)
{
	/* PROT_GROWSDOWN and the like are not protections of a region */
	return region_change(&mm->regions, addr, addr + page_up(len),
			     prot & (PROT_READ | PROT_WRITE | PROT_EXEC), 0, 0);
}

static long protect(uintptr_t addr, size_t len, int prot, int pkey)
{
	return pkey == -1 ? SYS3(mprotect, addr, len, prot)
			  : sys_bare(SYS_pkey_mprotect, (long)addr, (long)len, prot, pkey, 0, 0);
}

void protected_in_part(struct mm *mm, uintptr_t addr, size_t len, int prot, int pkey)
{
	uintptr_t end = addr + page_up(len);

	for (uintptr_t at = addr, stop; at < end; at = stop) {
		const struct region *r = region_next(&mm->regions, at);

		stop = r == NULL ? end : r->start > at ? r->start : r->end;
		if (stop > end)
			stop = end;
		if (sys_err(protect(at, stop - at, prot, pkey)))
			break;
		did_mprotect(mm, at, stop - at, prot);
	}
}

/* The first region of a range that may not have such a protection; NULL: all may. */
static const struct region *first_to_refuse(const struct mm *mm, uintptr_t start, uintptr_t end,
					    int prot)
{
	const uint32_t refuse =
		(prot & PROT_WRITE ? REGION_NOWRITE : 0) | (prot & PROT_EXEC ? REGION_NOEXEC : 0);
	const struct region *r = NULL;

	/* where nothing is armed nothing is a file's */
	if (mm->armed && refuse != 0)
		r = region_next(&mm->regions, start);
	while (r != NULL && r->start < end && !(r->flags & refuse))
		r = r->next;
	return r != NULL && r->start < end ? r : NULL;
}

long do_mprotect(struct pager *p, struct mm *mm, uintptr_t addr, size_t len, int prot, int pkey)
{
	const struct region *first = first_to_refuse(mm, addr, addr + page_up(len), prot);
	long r = 0;

	/* as the kernel, which changes what comes before it */
	if (first != NULL) {
		if (first->start > addr)
			r = do_mprotect(p, mm, addr, first->start - addr, prot, pkey);
		return r != 0 ? r : -EACCES;
	}
	if (prot != PROT_NONE && mm->confined &&
	    refused(mm, closed_pages(mm, addr, addr + page_up(len), 0)))
		return -ENOMEM;
	if (prot != PROT_NONE && mm->regions.locked_pages != 0 &&
	    !lock_fits_new(mm, closed_pages(mm, addr, addr + page_up(len), REGION_LOCKED)))
		return -ENOMEM;
	if (p != NULL && (prot & (PROT_WRITE | PROT_EXEC)))
		r = file_unshare(p, addr, addr + page_up(len));
	if (r != 0)
		return r;
	r = protect(addr, len, prot, pkey);
	/* what only failed for the moment is not to be done while it is said to have failed */
	if (r == -ENOMEM || r == -EACCES)
		r = protect(addr, len, prot, pkey);
	if (!sys_err(r) && len != 0)
		return did_mprotect(mm, addr, len, prot);
	if (r == -ENOMEM || r == -EACCES)
		protected_in_part(mm, addr, len, prot, pkey);
	return r;
}

/*
 * Entries follow their pages.  The kernel forgets write-protection when it
 * moves a page, so nothing that moved is known to be clean: its checksum
 * tells, or (exact tracking) its slot is given back.
 */
static void move_entries(struct mm *mm, uintptr_t from, uintptr_t to, size_t len)
{
	const unsigned any = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);
	vpn_t end = vpn_of(from + len);
	vpn_t delta = vpn_of(to) - vpn_of(from);

	for (vpn_t v = vpn_of(from); (v = pte_next(&mm->ptes, v, end, any)) < end; v++) {
		pte_t pte = pte_get(&mm->ptes, v);

		if (pte_reserve(&mm->ptes, v + delta, 1) != 0)
			log_fatal("no memory for page entries while memory was moved");
		if (pte_state(pte) == PTE_STAGED)
			stage_rename(mm, (uint32_t)pte_payload(pte), v + delta);
		if (pte_state(pte) == PTE_PRESENT || pte_state(pte) == PTE_COMPRESSED)
			tier_rename(mm, pte_swp(pte), v + delta);
		if (pte_state(pte) == PTE_PRESENT) {
			swp_t swp = pte_swp(pte);

			if ((pte & PTE_WP) && mm->opt.wp == FL_WP_SYNC && swp != SWP_NONE) {
				swap_put(&mm->swap, swp);
				swp = SWP_NONE;
			}
			pte = pte_make(PTE_PRESENT, swp, pte & PTE_YOUNG);
		}
		pte_set(&mm->ptes, v, 0);
		pte_set(&mm->ptes, v + delta, pte & ~PTE_SYNC);
	}
	pte_trim(&mm->ptes, vpn_of(from), end);
}

#define MOVED_TRIES 1000U
#define MOVED_PAUSE 1000000U /* ns */

long register_moved(struct mm *mm, uintptr_t start, uintptr_t end)
{
	long r = pager_register(mm, start, end);

	for (unsigned tries = 0; r != 0 && tries < MOVED_TRIES; tries++) {
		uint32_t word = 0;

		futex_wait(&word, 0, MOVED_PAUSE);
		r = pager_register(mm, start, end);
	}
	return r;
}

/* Regions follow their memory: a copy of those in [from, from + len) at `to`. */
static long copy_regions(struct mm *mm, uintptr_t from, uintptr_t to, size_t len)
{
	uintptr_t at = from;
	const struct region *r;

	while ((r = region_next(&mm->regions, at)) != NULL && r->start < from + len) {
		uintptr_t s = r->start > from ? r->start : from;
		uintptr_t e = r->end < from + len ? r->end : from + len;
		int prot = r->prot;
		uint32_t flags = r->flags;
		long err;

		at = r->end;
		err = region_insert_file(&mm->regions, s - from + to, e - from + to, prot, flags,
					 r->users, r->delta + vpn_of(from) - vpn_of(to));
		if (err == 0 && mm->armed)
			err = register_moved(mm, s - from + to, e - from + to);
		if (err != 0)
			return err;
	}
	return 0;
}

/* Of a range what is managed: of the rest a child has what the program wants it to have. */
static void advise_managed(const struct mm *mm, uintptr_t start, uintptr_t end, int advice)
{
	const struct region *r;

	while (start < end && (r = region_next(&mm->regions, start)) != NULL && r->start < end) {
		uintptr_t s = r->start > start ? r->start : start;

		/* at once: several regions may be one mapping of the kernel's */
		do {
			start = r->end;
		} while ((r = region_find(&mm->regions, start)) != NULL && start < end);
		SYS3(madvise, s, (start < end ? start : end) - s, advice);
	}
}

/* Asked by a call that a filter of the program's allows, for it is the one that is being made. */
static bool is_unmapped(uintptr_t page)
{
	return SYS5(mremap, page, PAGE_SIZE, PAGE_SIZE, 0, 0) == -EFAULT;
}

/*
 * The kernel unmaps what it is to move a mapping over, and what is to be cut off, as a whole and
 * before it knows that the rest can be done.
 */
static void mremap_failed(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r = region_next(&mm->regions, start);

	if (r == NULL || r->start >= end)
		return;
	if (is_unmapped(r->start > start ? r->start : start))
		do_forget(mm, start, end);
	else
		share_return(mm, start, end);
}

static long move_mapping(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
			 uintptr_t new_addr)
{
	uintptr_t from_len = page_up(old_len);
	uintptr_t to_len = page_up(new_len);
	uintptr_t both = from_len < to_len ? from_len : to_len;
	const struct region *last = NULL;
	struct region_users *users = NULL;
	uint64_t delta = 0;
	int prot = PROT_NONE;
	uint32_t rflags = 0;
	uintptr_t to;
	long r;

	if (from_len != 0)
		last = region_find(&mm->regions, old + from_len - 1);
	if (last != NULL) {
		uint64_t more = to_len > from_len ? (to_len - from_len) >> PAGE_SHIFT : 0;

		prot = last->prot;
		rflags = last->flags;
		users = last->users;
		delta = last->delta;
		if ((rflags & REGION_LOCKED) && prot != PROT_NONE && !lock_fits_new(mm, more))
			return -EAGAIN;
		if (more != 0 &&
		    (overcommitted(mm, more, rflags & REGION_NORESERVE ? MAP_NORESERVE : 0) ||
		     (prot != PROT_NONE && refused(mm, more))))
			return -ENOMEM;
	}
	/*
	 * The kernel takes the registration from what it moved, and what it moved
	 * may have been merged with a neighbour that is alike: that one would lose
	 * its registration too, and read zeros.  Every registered mapping is
	 * MADV_DONTFORK, so one that is not is like no neighbour.
	 */
	if (mm->armed && (flags & MREMAP_MAYMOVE) && from_len != 0)
		advise_managed(mm, old, old + from_len, MADV_DOFORK);
	if (flags & MREMAP_FIXED)
		share_leave(mm, new_addr, new_addr + to_len);
	/* what is cut off may be of any mappings */
	if (to_len < from_len)
		share_leave(mm, old + to_len, old + from_len);
	r = SYS5(mremap, old, old_len, new_len, flags, new_addr);
	if ((flags & MREMAP_FIXED) && sys_err(r))
		mremap_failed(mm, new_addr, new_addr + to_len);
	if (to_len < from_len && sys_err(r))
		mremap_failed(mm, old + to_len, old + from_len);
	if (mm->armed && (flags & MREMAP_MAYMOVE) && from_len != 0 &&
	    (sys_err(r) || r == (long)old || (flags & MREMAP_DONTUNMAP)))
		advise_managed(mm, old, old + from_len, MADV_DONTFORK);
	if (sys_err(r))
		return r;
	to = (uintptr_t)r;
	if (to != old) {
		long err = 0;

		do_forget(mm, to, to + to_len);
		if (mm->armed)
			move_entries(mm, old, to, both);
		err = copy_regions(mm, old, to, both);
		if (err != 0)
			log_fatal("cannot register memory that was moved: %s",
				  log_strerror((int)err));
		if (flags & MREMAP_DONTUNMAP) {
			if (mm->armed)
				drop_entries(mm, old, old + from_len);
			/* as the kernel: what is locked has moved */
			region_change(&mm->regions, old, old + from_len, -1, 0,
				      REGION_LOCKED | REGION_LOCKONFAULT);
		} else {
			do_forget(mm, old, old + from_len);
		}
	} else if (to_len < from_len) {
		do_forget(mm, old + to_len, old + from_len);
	}
	if (to_len > from_len && last != NULL) {
		long err = region_insert_file(&mm->regions, to + from_len, to + to_len, prot,
					      rflags, users, delta + vpn_of(old) - vpn_of(to));

		if (err == 0 && mm->armed)
			err = register_moved(mm, to + from_len, to + to_len);
		if (err != 0)
			log_fatal("cannot register memory that grew: %s", log_strerror((int)err));
	}
	return r;
}

long do_brk(struct mm *mm, uintptr_t addr)
{
	uintptr_t cur = mm->brk != 0 ? mm->brk : (uintptr_t)SYS1(brk, 0);
	uintptr_t now;

	if (mm->brk == 0)
		mm->brk_start = page_up(cur);
	mm->brk = cur;
	if (addr > cur) {
		uint64_t more = (page_up(addr) - page_up(cur)) >> PAGE_SHIFT;

		if (overcommitted(mm, more, 0) || refused(mm, more) ||
		    (mm->lock_future && !lock_fits_new(mm, more)))
			return (long)cur;
	}
	now = (uintptr_t)SYS1(brk, addr);
	if (page_up(now) > page_up(cur)) {
		if (take_over(mm, page_up(cur), page_up(now), PROT_READ | PROT_WRITE, 0) != 0) {
			SYS1(brk, cur);
			return (long)cur;
		}
	} else if (page_up(now) < page_up(cur)) {
		/* what was there before us is not managed, and forgetting it does nothing */
		do_forget(mm, page_up(now), page_up(cur));
	}
	mm->brk = now;
	return (long)now;
}

/*
 * A range of several mappings, of the kernel's or of ours.  A kernel that moves such a range does
 * so one by one, keeps the gaps between them, and refuses those that are registered with a
 * userfaultfd; and shared ones of ours are mapped anew.  So they are moved one by one here, up to
 * the first that cannot be.
 */
static long move_parts(struct mm *mm, uintptr_t old, size_t len, int flags, uintptr_t new_addr)
{
	uintptr_t at = old, start, end, to;

	if (old < new_addr + len && new_addr < old + len)
		return -EINVAL;
	while (at < old + len && uffd_vma_next(mm->maps_fd, at, &start, &end) &&
	       start < old + len) {
		const struct region *r;
		bool shared;
		long err;

		/* what was moved may have been merged with what comes next */
		if (start < at)
			start = at;
		r = region_find(&mm->regions, start);
		shared = r != NULL && (r->flags & REGION_SHARED);
		if (shared)
			end = r->end;
		if (end > old + len)
			end = old + len;
		to = new_addr + (start - old);
		err = shared ? do_mremap_shared(mm, start, end - start, end - start, flags, to)
			     : move_mapping(mm, start, end - start, end - start, flags, to);
		if (sys_err(err))
			return err;
		at = end;
	}
	/* the kernel did not say what comes next */
	if (at < old + len && region_overlaps(&mm->regions, at, old + len))
		return -ENOMEM;
	return (long)new_addr;
}

/*
 * Only a move to a given place, without a change of size, takes several mappings at all; the answer
 * to all else is the kernel's.
 */
long do_mremap(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
	       uintptr_t new_addr)
{
	const int move = MREMAP_MAYMOVE | MREMAP_FIXED;
	const struct region *r = region_find(&mm->regions, old);
	bool shared = r != NULL && (r->flags & REGION_SHARED);
	uintptr_t len = page_up(old_len);
	uintptr_t end = 0; /* of the first one; 0: there is none */

	if (shared)
		end = r->end;
	else if (mm->armed && len != 0)
		end = uffd_vma_end(mm->maps_fd, old);
	if (end != 0 && end < old + len && (flags & ~MREMAP_DONTUNMAP) == move &&
	    page_up(new_len) == len && !(new_addr & ~PAGE_MASK))
		return move_parts(mm, old, len, flags, new_addr);
	return shared ? do_mremap_shared(mm, old, old_len, new_len, flags, new_addr)
		      : move_mapping(mm, old, old_len, new_len, flags, new_addr);
}

long do_register(struct mm *mm, uintptr_t start, uintptr_t end, int prot)
{
	long r;

	if (region_overlaps(&mm->regions, start, end))
		return -EEXIST;
	r = region_insert(&mm->regions, start, end, prot, REGION_FOREIGN);
	if (r == 0 && mm->armed) {
		r = pager_register(mm, start, end);
		/* it was there before: nobody would answer its faults; -EBUSY: another userfaultfd does */
		if (r != 0 && r != -EBUSY && uffd_unregister(mm->uffd, start, end - start) == 0)
			SYS3(madvise, start, end - start, MADV_DOFORK);
		if (r != 0)
			do_forget(mm, start, end);
	}
	return r;
}

long do_unregister(struct pager *p, uintptr_t start, uintptr_t end)
{
	struct mm *mm = p->mm;
	uintptr_t at = start;
	long r;

	for (const struct region *q = region_next(&mm->regions, start); q != NULL && q->start < end;
	     q = region_next(&mm->regions, q->end)) {
		if (q->users != NULL || (q->flags & REGION_IN_THREAD))
			return -EINVAL;
		if (q->start > at)
			return -ENOMEM;
		at = q->end;
	}
	if (at < end)
		return -ENOMEM;
	if (mm->armed) {
		uint64_t pages = (end - start) >> PAGE_SHIFT;

		r = region_change(&mm->regions, start, end, -1, REGION_HELD, 0);
		if (r == 0) {
			/* these frames are about to be the kernel's: for so long they come on top */
			mm->lent += pages;
			r = bring_back(p, start, end);
			mm->lent -= pages;
		}
		if (r == 0)
			r = uffd_unregister(mm->uffd, start, end - start);
		if (r != 0) {
			region_change(&mm->regions, start, end, -1, 0, REGION_HELD);
			return r;
		}
		SYS3(madvise, start, end - start, MADV_DOFORK);
	}
	return do_forget(mm, start, end);
}
