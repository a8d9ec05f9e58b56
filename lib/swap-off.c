/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-off.c - calls that bring pages back: swapoff(2), a lower limit, the end
 * of a runtime (the kernel's try_to_unuse).
 *
 * They run on a pager and let it go on with faults and I/O while they wait
 * (pager_pump); the mm lock is dropped then, so every step looks at the page
 * entries anew.
 */
#include "do.h"

#include "fault.h"
#include "in-thread.h"
#include "log.h"
#include "mm.h"
#include "pager.h"
#include "prefetch.h"
#include "reclaim.h"
#include "share.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* How long and how often a call tries without progress before it gives up. */
#define PATIENCE_NS 3000000000U
#define PATIENCE_ROUNDS 64U
/* The same while there are frames now and then, and when there is no I/O to wait for. */
#define PATIENCE_COMING_NS 30000000000U
#define PATIENCE_QUIET 5U

/*
 * A measure that falls as a call makes progress: page numbers left, slots or frames in use.
 * While it does not, rounds count of which something could have come: not those that waited for a
 * device, however long; and apart from others those that ended while frames were on their way.
 */
struct progress {
	uint64_t least;
	uint64_t ended;	    /* requests, when it was looked at last, */
	uint64_t at;	    /* which was then */
	uint64_t coming_ns; /* that rounds took with frames on their way, since the measure fell, */
	uint64_t ns;	    /* and without, */
	unsigned rounds;    /* of which there were so many */
};

static unsigned inflight(const struct mm *mm)
{
	unsigned n = mm->files.jobs;

	for (unsigned i = 0; i < PAGERS_MAX; i++)
		if (mm->pager[i] != NULL && mm->pager[i]->io != NULL)
			n += blkio_inflight(mm->pager[i]->io);
	return n;
}

/* Requests that have ended so far. */
static uint64_t io_ended(const struct mm *mm)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < PAGERS_MAX; i++)
		if (mm->pager[i] != NULL && mm->pager[i]->io != NULL)
			n += blkio_ended(mm->pager[i]->io);
	return n;
}

/* Frames are on their way: from writes, or from what was written and settles. */
static bool frames_coming(const struct mm *mm)
{
	return reclaim_coming(mm) || files_settling(mm);
}

/* False: nothing has come of it for long; reading the same pages again and again is no progress. */
static bool progress_goes_on(const struct mm *mm, struct progress *g, uint64_t measure)
{
	uint64_t now = sys_now(), ended = io_ended(mm);

	if (g->at == 0 || measure < g->least) {
		*g = (struct progress){.least = measure};
	} else if (ended != g->ended || inflight(mm) == 0) {
		bool coming = frames_coming(mm);

		*(coming ? &g->coming_ns : &g->ns) += now - g->at;
		g->rounds += !coming;
	}
	g->ended = ended;
	g->at = now;
	return g->coming_ns < PATIENCE_COMING_NS &&
	       (g->rounds < PATIENCE_ROUNDS || g->ns < PATIENCE_NS);
}

/* One step for one page that is not PRESENT; false when it must wait. */
static bool page_back(struct pager *p, vpn_t vpn)
{
	struct mm *mm = p->mm;
	pte_t pte = pte_get(&mm->ptes, vpn);
	struct fault f = {.addr = addr_of(vpn), .again = true, .t0 = sys_now()};

	switch (pte_state(pte)) {
	case PTE_SWAPPED:
		return fault_swap_prefetch(p, vpn, vpn + 1, SWAP_NEED) != 0;
	case PTE_STAGED:
	case PTE_FILLED:
	case PTE_COMPRESSED:
		return fault_handle(p, &f) == FAULT_DONE;
	default:
		return true;
	}
}

long bring_back(struct pager *p, uintptr_t start, uintptr_t end)
{
	const unsigned away =
		1U << PTE_STAGED | 1U << PTE_SWAPPED | 1U << PTE_FILLED | 1U << PTE_COMPRESSED;
	struct mm *mm = p->mm;
	struct progress progress = {.at = 0};
	vpn_t first = VPN_MAX;
	unsigned quiet = 0;

	for (;;) {
		vpn_t stop = vpn_of(end);
		vpn_t vpn = pte_next(&mm->ptes, vpn_of(start), stop, away);

		if (vpn >= stop)
			return 0;
		/* nothing of the range is evicted meanwhile, so the first page that is away tells */
		if (inflight(mm) != 0 || vpn != first)
			quiet = 0;
		first = vpn;
		if (!progress_goes_on(mm, &progress, stop - vpn) || ++quiet > PATIENCE_QUIET)
			return -ENOMEM;
		fault_swap_prefetch(p, vpn, stop, SWAP_NEED);
		for (unsigned n = 0; vpn < stop && n < 1024; n++) {
			page_back(p, vpn);
			vpn = pte_next(&mm->ptes, vpn + 1, stop, away);
		}
		if (pte_next(&mm->ptes, vpn_of(start), stop, away) < stop && inflight(mm) != 0)
			pager_pump(p);
	}
}

long do_swapon(struct mm *mm, const struct fl_swap_spec *spec, char *why, size_t why_size)
{
	unsigned index;
	int r = swap_on_looked(&mm->swap, spec, mm->opt.swap_dir, &index, why, why_size);

	if (r == 0) {
		mm->swap_full = false;
		pager_count(mm);
	}
	return r;
}

/*
 * Whether more may come without our doing: from a device, from other members of the group, or when
 * a thread says that it has replaced memory.
 */
static bool may_come(const struct mm *mm)
{
	return inflight(mm) != 0 || frames_coming(mm) || mm->group != NULL ||
	       mm->regions.held_pages != 0;
}

/*
 * Give back the slots of an area: pages that are in slots only are read in
 * (and evicted again, to other areas, as frames are needed), pages that still
 * have a slot beside their frame lose it.
 */
long do_swapoff(struct pager *p, const char *path)
{
	struct mm *mm = p->mm;
	int found = swap_find(&mm->swap, path);
	struct swap_area *a;
	struct progress progress = {.at = 0};
	unsigned quiet = 0;
	bool was_on;
	int r;

	/* as swapoff(2) for what is not a swap area, or is being taken off by another call */
	if (found < 0 || mm->swap.area[found]->leaving)
		return -EINVAL;
	a = mm->swap.area[found];
	was_on = a->on; /* too many errors may have ended that */
	a->on = false;
	a->leaving = true;
	while (swap_area_mine(a) != 0) {
		const unsigned with_slot = 1U << PTE_PRESENT | 1U << PTE_STAGED | 1U << PTE_SWAPPED;
		uint64_t used = swap_area_mine(a);
		bool began = false, seen = false;
		vpn_t vpn = 0;

		while ((vpn = pte_next(&mm->ptes, vpn, VPN_MAX, with_slot)) < VPN_MAX) {
			pte_t pte = pte_get(&mm->ptes, vpn);
			swp_t swp = pte_swp(pte);

			if (pte_state(pte) == PTE_STAGED)
				swp = mm->staging.page[pte_payload(pte)].state == STAGE_FILLED
					      ? SWP_NONE
					      : mm->staging.page[pte_payload(pte)].swp;
			if (swp == SWP_NONE || swp_area(swp) != (unsigned)found) {
				vpn++;
				continue;
			}
			seen = true;
			if (pte_state(pte) == PTE_PRESENT) {
				swap_put(&mm->swap, swp);
				pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
			} else if (pte_state(pte) == PTE_SWAPPED) {
				if (fault_swap_prefetch(p, vpn, vpn + 64, SWAP_NEED) == 0)
					break;
				began = true;
			} else if (!stage_drop_slot(mm, (uint32_t)pte_payload(pte))) {
				page_back(p, vpn);
			}
			vpn++;
		}
		/* bad slots stay in use; pages that were copied back while they were written name them */
		if (!seen && swap_area_mine(a) <= a->bad_slots)
			break;
		if (began || swap_area_mine(a) < used || may_come(mm))
			quiet = 0;
		else
			quiet++;
		if (!progress_goes_on(mm, &progress, swap_area_mine(a)) ||
		    quiet >= PATIENCE_QUIET) {
			/* no frame and no other slot for what it holds: it stays on */
			a->on = was_on;
			a->leaving = false;
			mm->swap_full = false;
			if (seen)
				return -ENOMEM;
			mm_log(mm, FL_LOG_ERROR,
			       "swap area %s cannot be turned off: another process has damaged the "
			       "map of its slots",
			       a->path);
			return -EIO;
		}
		if (may_come(mm))
			pager_pump(p);
		else
			reclaim_make_room(p, 1);
	}
	/* no request is on its way to it: a slot is busy until its last one has ended */
	r = swap_close_area(&mm->swap, (unsigned)found);
	if (r != 0)
		a->leaving = false;
	pager_count(mm);
	return r;
}

long do_set_limit(struct pager *p, uint64_t pages)
{
	struct mm *mm = p->mm;
	uint64_t old = mm->limit;
	struct progress progress = {.at = 0};
	unsigned idle = 0;

	if ((mm->armed || mm->regions.open_pages > pages) &&
	    mm->regions.locked_open_pages > pages - pages / 4)
		return -ENOMEM;
	mm->limit = pages;
	staging_resize(mm);
	landing_fit(mm);
	tier_resize(mm);
	while (mm->armed && mm_frames(mm) > mm_budget(mm)) {
		uint64_t before = mm_frames(mm);
		bool waits;

		reclaim_make_room(p, 0);
		if (mm_frames(mm) < before)
			idle = 0;
		if (mm_frames(mm) <= mm_budget(mm))
			break;
		waits = inflight(mm) != 0 || files_settling(mm) || mm->regions.held_pages != 0;
		if (!progress_goes_on(mm, &progress, mm_frames(mm)) || (!waits && ++idle > 4)) {
			mm->limit = old;
			staging_resize(mm);
			landing_fit(mm);
			tier_resize(mm);
			return -ENOMEM;
		}
		if (waits)
			pager_pump(p);
	}
	return 0;
}

long do_close(struct pager *p)
{
	struct mm *mm = p->mm;

	p->stop = true;
	if (mm->closing)
		return 0;
	mm->closing = true;
	share_close(mm);
	prefetch_close(mm);
	files_close(p);
	if (mm->armed) {
		const struct region *r;
		uintptr_t at = 0;
		uint64_t limit = mm->limit;

		/* every page needs a frame now */
		mm->limit = UINT64_MAX / 2;
		if (bring_back(p, 0, addr_of(VPN_MAX)) != 0) {
			mm->limit = limit;
			mm->closing = false;
			p->stop = false;
			return -ENOMEM;
		}
		while (inflight(mm) != 0)
			pager_pump(p);
		while ((r = region_next(&mm->regions, at)) != NULL) {
			uffd_unregister(in_thread_uffd_at(mm, r->start), r->start,
					r->end - r->start);
			SYS3(madvise, r->start, r->end - r->start,
			     r->flags & REGION_DONTFORK ? MADV_DONTFORK : MADV_DOFORK);
			at = r->end;
		}
		__atomic_store_n(&mm->armed, 0, __ATOMIC_RELEASE);
	}
	return 0;
}
