/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * detour.c - pages of files around the lock of their file; see detour.h.
 *
 * The mapping is read through /proc/self/mem, which tells an error where a touch
 * would raise a signal.  It is made for each read, since it is rarely needed,
 * and a mapping would keep the file's pages in the kernel's cache.
 *
 * Accepted: who is left behind may be a slow disk's.  Then a pager waits for that
 * disk, once, and reads the file by way of the kernel's cache from then on, as
 * it does after a true detour: most filesystems take no lock for that.  Where no
 * thread waited, reads are direct again when all that were left behind have ended.
 */
#include "detour.h"

#include "mm.h"
#include "reclaim.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Bytes of the file from a page on, into memory of ours; what is beyond its end is zero. */
static int read_mapped(const struct pagecache *pc, uint64_t page, void *to, size_t len)
{
	char *map = sys_mem_map(len, MAP_PRIVATE | MAP_NORESERVE, pc->fd, page << PAGE_SHIFT);
	size_t done = 0;
	long r = 0;

	if (map == NULL)
		return -ENOMEM;
	while (done < len) {
		r = SYS4(pread, pc->mm->mem_fd, (char *)to + done, len - done, map + done);
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	SYS2(munmap, map, len);
	/* a file may have become shorter; its last page is whole */
	if (done < len && ((page << PAGE_SHIFT) + done) < pc->size)
		return r < 0 ? (int)r : -EIO;
	memset((char *)to + done, 0, len - done);
	return 0;
}

int detour_read(struct pagecache *pc, uint64_t page, uint32_t n)
{
	return read_mapped(pc, page, cache_addr(pc, page), n * PAGE_SIZE);
}

/* One page for all private mappings that have it as the file's; whether it is for any. */
static bool bring(struct pager *p, struct pagecache *pc, uint64_t page)
{
	struct mm *mm = p->mm;
	char copy[PAGE_SIZE] __attribute__((aligned(64)));
	bool have = false;
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		size_t done;

		if ((r->flags & REGION_SHARED) || !cache_part(r, page, 1, &vpn, &part) ||
		    pte_state(pte_get(&mm->ptes, vpn)) != PTE_NONE)
			continue;
		if (!have && read_mapped(pc, page, copy, PAGE_SIZE) != 0)
			return true;
		have = true;
		if (!reclaim_make_room(p, 1) || pte_reserve(&mm->ptes, vpn, 1) != 0)
			return true;
		if (uffd_copy(mm->uffd, addr_of(vpn), copy, PAGE_SIZE, true, &done) == UFFD_OK)
			pte_set(&mm->ptes, vpn,
				pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG | PTE_WP));
	}
	return have;
}

/* Reads are direct again, if they may be, when none that was left behind is in flight. */
static void be_direct(struct pagecache *pc)
{
	if (pc->direct_reads != 0 || pc->direct_fd < 0)
		return;
	pc->rd.fd = pc->direct_fd;
	pc->direct_fd = -1;
}

void detour_read_ended(struct pagecache *pc)
{
	pc->direct_reads--;
	be_direct(pc);
}

/* Whether one of the pages that threads wait for is in a shared mapping. */
static bool is_awaited(const struct pagecache *pc)
{
	uint64_t part;
	vpn_t vpn;

	for (uint64_t page = 0; (page = cache_next(pc, page, CACHE_DEMAND)) != CACHE_NONE; page++)
		for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
			if ((cache_get(pc, page) & CACHE_LOCKED) && (r->flags & REGION_SHARED) &&
			    cache_part(r, page, 1, &vpn, &part))
				return true;
	return false;
}

/* What is being read of a file is there without the read. */
static void leave_all(struct pagecache *pc)
{
	char copy[PAGE_SIZE] __attribute__((aligned(64)));

	for (uint64_t page = 0; (page = cache_next(pc, page, CACHE_LOCKED)) != CACHE_NONE; page++) {
		if ((cache_get(pc, page) & CACHE_WRITEBACK) || page >= cache_pages(pc) ||
		    read_mapped(pc, page, copy, PAGE_SIZE) != 0)
			continue;
		if (cache_leave(pc, page, copy) == 0)
			cache_wake(pc, page, 1);
	}
}

void detour_round(struct pager *p, uint64_t now)
{
	/* a store's server: who writes through the mount does not hold the lock of the file behind it */
	if (p->mm->flags & MM_SERVER)
		return;
	for (struct pagecache *pc = p->mm->files.first; pc != NULL; pc = pc->next) {
		if (pc->reading == 0 || pc->source != NULL || now - pc->read_since < DETOUR_NS)
			continue;
		pc->read_since = now;
		if (pc->rd.fd != pc->fd) {
			pc->direct_fd = pc->rd.fd;
			pc->rd.fd = pc->fd;
		}
		for (uint64_t page = 0; (page = cache_next(pc, page, CACHE_DEMAND)) != CACHE_NONE;
		     page++)
			if ((cache_get(pc, page) & (CACHE_LOCKED | CACHE_LEFT)) &&
			    page < cache_pages(pc) && bring(p, pc, page))
				pc->direct_fd = -1;
		if (is_awaited(pc)) {
			leave_all(pc);
			pc->direct_fd = -1;
		}
		/* what is slow may be a read by way of the kernel's cache */
		be_direct(pc);
	}
}
