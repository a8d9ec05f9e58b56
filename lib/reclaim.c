/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * reclaim.c - the limit; see reclaim.h.
 *
 * A young page stays when the hand comes by, and one that was asked for again (it
 * came back from staging, or alone) for some visits more: a scan, whose pages
 * come in windows, leaves before what is touched again and again.  From the second
 * full revolution on that does not count.  So a few revolutions see every page
 * without its marks, and one more that finds nothing proves that nothing can
 * leave.
 *
 * Before the hand goes, what streams brought leaves for what they bring next
 * (reclaim_trail()).  The runs of the trail may overlap, and name pages that left or
 * were unmapped since: it only says where to look.
 */
#include "reclaim.h"

#include "grant.h"
#include "mm.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define DROP_RUNS 256U
#define SCAN_BATCH 256U
#define REVOLUTIONS 7U
#define HOT_REVOLUTIONS 2U   /* for which hot regions are passed over */
#define AHEAD_MAX 1024U	     /* frames that are kept free ahead of the faults, */
#define AHEAD_FILL_MAX 4096U /* and of first touches in order, each of which takes hundreds */
#define STEP 512U	     /* pages that leave before the pager looks for faults again */
#define LEFT_TIMES 63U	     /* that an entry can tell of a page that left */
#define TRAIL_PART 16U	     /* what streams brought last is this part of the frames, and stays; */
#define TRAIL_LEAST 64U	     /* while frames are short this part alone */
#define STREAM_PART 8U	     /* cached pages are not taken below this part of the frames, */
#define LEAST_PART 16U	     /* and each kind gives that part of what it would if both were alike */
#define SLICE 32U	     /* pages that leave while the one thread waits for a read */
#define MOVES 8U /* runs that are moved before the pager looks for faults and ended reads */

/* Pages that leave without I/O, gathered for one call. */
struct drop_list {
	struct iovec run[DROP_RUNS];
	uint32_t n;
	uint32_t moves; /* runs of others that may be moved yet */
	bool tells;	/* what leaves is what memory gives: of what is in use it tells */
	uint64_t pages;
};

/* Whether a page that was to be dropped is gone; a call that failed may have done a part. */
static bool is_absent(struct mm *mm, vpn_t vpn)
{
	struct page_region run;
	uintptr_t next;

	return uffd_scan_present(mm->pagemap_fd, addr_of(vpn), addr_of(vpn + 1), &run, 1, &next) ==
	       0;
}

/* A number that goes up with each quarter of the frames that leaves. */
static uint64_t leaving_time(const struct mm *mm)
{
	return mm->stats.evicted / (mm_budget(mm) / 4 + 1) % LEFT_TIMES;
}

bool reclaim_was_late(const struct mm *mm, pte_t pte)
{
	uint64_t then = (pte & PTE_LEFT) >> PTE_LEFT_SHIFT;

	/* 0: not known */
	return then != 0 && (leaving_time(mm) + LEFT_TIMES - (then - 1)) % LEFT_TIMES < 4;
}

static pte_t left_now(const struct mm *mm, swp_t swp)
{
	pte_t pte = pte_away(swp);

	return pte_state(pte) == PTE_SWAPPED ? pte | (leaving_time(mm) + 1) << PTE_LEFT_SHIFT : pte;
}

static void drop_one_run(struct mm *mm, uintptr_t start, size_t len, bool dropped)
{
	bool failed = !dropped && sys_err(SYS3(madvise, start, len, MADV_DONTNEED));

	for (vpn_t v = vpn_of(start); v < vpn_of(start + len); v++) {
		if (failed && !is_absent(mm, v)) {
			pte_set_bits(&mm->ptes, v, PTE_BUSY, 0);
			continue;
		}
		swp_t swp = pte_swp(pte_get(&mm->ptes, v));

		/* without a slot it equals its file */
		pte_set(&mm->ptes, v, swp != SWP_NONE ? left_now(mm, swp) : 0);
		stat_add(&mm->stats.evicted, 1);
		stat_add(&mm->stats.dropped_clean, 1);
	}
}

/*
 * The pages are write-protected, so none can be written between now and the
 * kernel's taking them; their entries change after, under the same lock.
 */
static void drop_flush(struct mm *mm, struct drop_list *d)
{
	uint64_t done = 0;

	if (d->n > 1 && mm->batch_drop) {
		long r = SYS5(process_madvise, mm->pidfd, d->run, d->n, MADV_DONTNEED, 0);

		if (r > 0)
			done = (uint64_t)r;
		else if (r == -EINVAL || r == -EPERM || r == -ENOSYS)
			mm->batch_drop = false;
	}
	for (uint32_t i = 0; i < d->n; i++) {
		uintptr_t start = (uintptr_t)d->run[i].iov_base;
		size_t len = d->run[i].iov_len;

		if (done >= len) {
			drop_one_run(mm, start, len, true);
			done -= len;
		} else {
			/* a part that was advised already is advised again: it is absent, nothing happens */
			drop_one_run(mm, start, len, false);
			done = 0;
		}
	}
	d->n = 0;
	d->pages = 0;
}

static void drop_add(struct mm *mm, struct drop_list *d, vpn_t vpn)
{
	struct iovec *last = d->n != 0 ? &d->run[d->n - 1] : NULL;

	if (last != NULL && (uintptr_t)last->iov_base + last->iov_len == addr_of(vpn)) {
		last->iov_len += PAGE_SIZE;
	} else {
		if (d->n == DROP_RUNS)
			drop_flush(mm, d);
		d->run[d->n++] = (struct iovec){(void *)addr_of(vpn), PAGE_SIZE};
	}
	d->pages++;
}

/* Pages leave, or are about to. */
static void leaves(struct mm *mm, const struct drop_list *d, vpn_t vpn, uint32_t n)
{
	if (!d->tells || mm->files.frames == 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		workingset_left(&mm->ws, WS_MEMORY, vpn + i, mm_budget(mm));
}

void reclaim_came(struct mm *mm, vpn_t vpn)
{
	if (mm->files.frames != 0)
		workingset_came(&mm->ws, WS_MEMORY, vpn, mm_budget(mm));
}

static bool known_clean(struct mm *mm, const struct region *r, pte_t pte)
{
	if (!(pte & PTE_WP))
		return false;
	if (pte_swp(pte) == SWP_NONE)
		return r->users != NULL;
	return swap_csum(&mm->swap, pte_swp(pte)) != 0;
}

/*
 * Visit the PRESENT pages of [vpn, stop) within one region and one leaf, until
 * `want` have left, or d->moves is used up.  force: young ones, too; hurry: warm
 * ones are no more than young.  Where the visit ended; *left gets how many pages left.
 */
static vpn_t visit(struct mm *mm, struct drop_list *d, const struct region *r, vpn_t vpn,
		   vpn_t stop, uint64_t want, bool force, bool hurry, uint64_t *left)
{
	bool tight = mm_tiered(mm) && tier_tight(mm);

	while (vpn < stop && *left < want && d->moves != 0) {
		pte_t pte = pte_get(&mm->ptes, vpn);
		uint32_t run;

		if (pte_state(pte) != PTE_PRESENT) {
			vpn++;
			continue;
		}
		if (!force && (pte & PTE_YOUNG)) {
			/* it stays: the pool has no room for what it holds beside its frame */
			if (tight && swp_pooled(pte_swp(pte))) {
				swap_put(&mm->swap, pte_swp(pte));
				mm->swap_full = false;
				/* PTE_WP alone would say that the page equals its file */
				pte_set(&mm->ptes, vpn,
					pte_make(PTE_PRESENT, SWP_NONE, pte & PTE_CLOCK));
			}
			/* the field counts down by one */
			if ((pte & PTE_WARM) && !hurry)
				pte_set_bits(&mm->ptes, vpn++,
					     (pte & PTE_WARM) - ((pte_t)1 << PTE_WARM_SHIFT),
					     PTE_WARM);
			else
				pte_set_bits(&mm->ptes, vpn++, 0, PTE_YOUNG);
			continue;
		}
		if (!force && (pte & PTE_BUSY)) {
			/* one visit less to wait: the field counts down by one */
			pte_set_bits(&mm->ptes, vpn++,
				     (pte & PTE_BUSY) - ((pte_t)1 << PTE_BUSY_SHIFT), PTE_BUSY);
			continue;
		}
		if (known_clean(mm, r, pte)) {
			leaves(mm, d, vpn, 1);
			drop_add(mm, d, vpn++);
			*left += 1;
			continue;
		}
		d->moves--;
		if (!(r->prot & PROT_WRITE)) {
			uint32_t moved = stage_evict_readonly(mm, vpn);

			leaves(mm, d, vpn++, moved);
			*left += moved;
			continue;
		}
		for (run = 1; vpn + run < stop && run < want - *left; run++) {
			pte_t q = pte_get(&mm->ptes, vpn + run);

			if (pte_state(q) != PTE_PRESENT || known_clean(mm, r, q) ||
			    (!force && (q & (PTE_YOUNG | PTE_BUSY))))
				break;
		}
		uint32_t moved = stage_evict(mm, vpn, run);

		leaves(mm, d, vpn, moved);
		*left += moved;
		vpn += moved;
		if (moved < run)
			vpn++; /* that one refused, or the blocks are all taken */
	}
	return vpn;
}

/* The pages of one region in [*at, end) that leave by a clock, up to `want`; where it stopped. */
static uint64_t pass(struct mm *mm, struct drop_list *d, const struct region *r, vpn_t *at,
		     vpn_t end, uint64_t want)
{
	uint64_t left = 0;

	if (r->flags & (REGION_LOCKED | REGION_HELD)) {
		*at = end;
		return 0;
	}
	while (left < want && d->moves != 0 &&
	       (*at = pte_next(&mm->ptes, *at, end, 1U << PTE_PRESENT)) < end) {
		vpn_t stop = (*at | (PTE_LEAF_PAGES - 1)) + 1;

		*at = visit(mm, d, r, *at, stop < end ? stop : end, want, false, false, &left);
		if (mm->staging.free_list == STAGE_NONE && mm->staging.filling == STAGE_NONE)
			break;
	}
	return left;
}

uint64_t reclaim_clock(struct pager *p, const struct region *r, vpn_t *at, vpn_t end, uint64_t want)
{
	struct mm *mm = p->mm;
	struct drop_list d = {.moves = UINT32_MAX};
	uint64_t left = pass(mm, &d, r, at, end, want);

	drop_flush(mm, &d);
	while (mm->staging.waiting > mm->staging.keep && stage_writeout(p))
		;
	return left;
}

/* Cold ranges, each once from its own hand on. */
static uint64_t scan_cold(struct mm *mm, struct drop_list *d, uint64_t want)
{
	uint64_t left = 0;

	for (uint32_t i = 1; i < TRAITS_MAX && left < want && d->moves != 0; i++) {
		struct traits *t = &mm->traits.set[i];
		const struct region *r;

		if (!t->used || t->priority != FL_PRIORITY_COLD)
			continue;
		if (t->hand >= t->end)
			t->hand = t->start;
		while (left < want && d->moves != 0 && t->hand < t->end &&
		       (r = region_next(&mm->regions, addr_of(t->hand))) != NULL &&
		       vpn_of(r->start) < t->end) {
			vpn_t end = vpn_of(r->end) < t->end ? vpn_of(r->end) : t->end;

			if (t->hand < vpn_of(r->start))
				t->hand = vpn_of(r->start);
			if (traits_number(r) != i || (r->flags & REGION_SHARED)) {
				t->hand = end;
				continue;
			}
			left += pass(mm, d, r, &t->hand, end, want - left);
			if (mm->staging.free_list == STAGE_NONE &&
			    mm->staging.filling == STAGE_NONE)
				return left;
		}
		if (left < want && d->moves != 0)
			t->hand = t->start;
	}
	return left;
}

/* Let the hand go until `want` pages or `moves` runs left, or it has been everywhere often enough. */
static uint64_t scan(struct mm *mm, uint64_t want, uint32_t moves)
{
	struct drop_list d = {.moves = moves};
	uint64_t left = 0;
	unsigned revolutions = 0;

	if (mm->traits.cold != 0) {
		left = scan_cold(mm, &d, want);
		/* the hand comes by these pages, too: what was gathered is PRESENT until this */
		drop_flush(mm, &d);
	}
	d.tells = true;
	while (left < want && d.moves != 0 && revolutions < REVOLUTIONS &&
	       mm->ptes.count[PTE_PRESENT] != 0) {
		vpn_t vpn = pte_next(&mm->ptes, mm->hand, VPN_MAX, 1U << PTE_PRESENT);
		const struct region *r;
		vpn_t stop;

		if (vpn >= VPN_MAX) {
			/* what was gathered is still PRESENT until it is flushed */
			drop_flush(mm, &d);
			mm->hand = 0;
			revolutions++;
			continue;
		}
		r = region_find(&mm->regions, addr_of(vpn));
		stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;
		if (r == NULL) {
			mm->hand = vpn + 1;
			continue;
		}
		if (stop > vpn_of(r->end))
			stop = vpn_of(r->end);
		if ((r->flags & (REGION_LOCKED | REGION_HELD)) ||
		    (revolutions < HOT_REVOLUTIONS && traits_priority(mm, r) == FL_PRIORITY_HOT))
			mm->hand = vpn_of(r->end);
		else
			mm->hand = visit(mm, &d, r, vpn, stop, want, false, revolutions > 1, &left);
		if (mm->staging.free_list == STAGE_NONE && mm->staging.filling == STAGE_NONE)
			break;
	}
	drop_flush(mm, &d);
	return left;
}

void reclaim_range(struct pager *p, vpn_t vpn, vpn_t end)
{
	struct mm *mm = p->mm;
	struct drop_list d = {.moves = UINT32_MAX};
	uint64_t left = 0;

	while ((vpn = pte_next(&mm->ptes, vpn, end, 1U << PTE_PRESENT)) < end) {
		const struct region *r = region_find(&mm->regions, addr_of(vpn));
		vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;

		if (stop > end)
			stop = end;
		if (r == NULL || (r->flags & (REGION_LOCKED | REGION_HELD))) {
			vpn = r != NULL ? vpn_of(r->end) : vpn + 1;
			continue;
		}
		if (stop > vpn_of(r->end))
			stop = vpn_of(r->end);
		vpn = visit(mm, &d, r, vpn, stop, UINT64_MAX, true, true, &left);
		/* leave room for the hand: write as it fills */
		while (mm->staging.waiting > mm->staging.keep && stage_writeout(p))
			;
		if (mm->staging.free_list == STAGE_NONE && mm->staging.filling == STAGE_NONE)
			break;
	}
	drop_flush(mm, &d);
	while (stage_writeout(p))
		;
}

static uint64_t free_frames(const struct mm *mm)
{
	uint64_t used = mm_frames(mm);
	uint64_t budget = mm_budget(mm);

	return used < budget ? budget - used : 0;
}

/* Frames that writes in flight will release. */
static uint64_t frames_coming(const struct mm *mm)
{
	const struct staging *s = &mm->staging;
	uint64_t filling = s->filling != STAGE_NONE ? s->block[s->filling].live : 0;

	return s->frames - s->waiting - filling;
}

/* Cached pages that streams are to have at least. */
static uint64_t stream_part(const struct mm *mm)
{
	return mm_budget(mm) / STREAM_PART;
}

/*
 * How many of n frames cached pages give; what is left memory gives.  Each kind gives by what
 * it has that is not touched again, times what the other has that is: what is in use stays
 * where the other is not, and where both are alike each gives its part.  While neither is in
 * use cached pages give most, for that takes no write.  Each gives a little at least, to be
 * told whether it still is as it was.
 */
static uint64_t cached_part(struct mm *mm, uint64_t n)
{
	const uint64_t files = mm->files.frames, memory = mm->ptes.count[PTE_PRESENT];
	const uint64_t files_again = workingset_again(&mm->ws, WS_FILES);
	const uint64_t memory_again = workingset_again(&mm->ws, WS_MEMORY);
	uint64_t least, by_files, by_memory, part, owed;

	if (files == 0 || memory == 0)
		return files != 0 ? n : 0;
	if (files <= stream_part(mm))
		return 0;
	by_files = files * (WS_ONE - files_again) * (memory_again + WS_ONE / 8);
	by_memory = memory * (WS_ONE - memory_again) * (files_again + WS_ONE / 64);
	part = by_files / ((by_files + by_memory) / WS_ONE + 1);
	least = WS_ONE / LEAST_PART * files / (files + memory);
	if (part < least)
		part = least;
	least = WS_ONE / LEAST_PART * memory / (files + memory);
	if (part > WS_ONE - least)
		part = WS_ONE - least;
	owed = mm->files.owed + n * part;
	mm->files.owed = (uint32_t)(owed % WS_ONE);
	return owed / WS_ONE;
}

bool reclaim_spares(const struct mm *mm, uint64_t n)
{
	return mm->files.frames + n <= stream_part(mm) ||
	       (mm->ptes.count[PTE_PRESENT] > mm_budget(mm) / 2 &&
		workingset_again(&mm->ws, WS_MEMORY) < WS_ONE / 2);
}

/*
 * Work towards `target` free frames, counting those that are coming; aside: no
 * longer than no I/O has ended and no fault waits to be read.  False when nothing could be done.
 */
static bool work_towards(struct pager *p, uint64_t target, bool aside)
{
	struct mm *mm = p->mm;
	struct staging *s = &mm->staging;
	bool worked = false;

	for (unsigned round = 0; round < 64; round++) {
		uint64_t have = free_frames(mm) + frames_coming(mm);
		uint64_t over = mm_frames(mm) > mm_budget(mm) ? mm_frames(mm) - mm_budget(mm) : 0;
		uint64_t left = 0;
		uint64_t need, n, part;
		bool did = false;

		if (over == 0 && have >= target)
			break;
		if (aside && blkio_ready(p->io))
			break;
		if (over != 0 && frames_coming(mm) >= over + target)
			break;
		need = target + over - (over != 0 ? frames_coming(mm) : have);
		n = aside ? STAGE_BLOCK : SCAN_BATCH;
		n = need < n ? need : n;
		if (s->waiting > s->keep || (mm->swap_full && s->waiting != 0)) {
			did = stage_writeout(p);
		}
		part = cached_part(mm, n);
		if (!did && part != 0)
			left = cache_shrink(p, part);
		if (!did && (left == 0 || part < n) && left < n &&
		    !(mm->swap_full && s->frames >= s->keep + STAGE_BLOCK))
			left += scan(mm, n - left, aside ? MOVES : UINT32_MAX);
		did |= left != 0;
		if (!did)
			did = cache_shrink(p, n) != 0;
		if (!did)
			did = stage_writeout(p);
		if (!did)
			did = tier_shrink(p);
		if (!did)
			break;
		worked = true;
	}
	return worked;
}

/* Spare frames give way to n that are about to be added. */
static void drop_spares(struct mm *mm, uint64_t n)
{
	uint64_t held = mm_frames(mm) + stage_spare_pages(mm) + n;

	if (held > mm_budget(mm))
		stage_spare_drop(mm, held - mm_budget(mm));
}

static bool make_room(struct pager *p, uint64_t n)
{
	struct mm *mm = p->mm;

	for (unsigned tries = 0; mm_frames(mm) + n > mm_budget(mm); tries++) {
		uint64_t before = mm_frames(mm);

		if (tries > 64)
			return false;
		grant_more(mm, n);
		if (mm_frames(mm) + n <= mm_budget(mm))
			return true;
		work_towards(p, n, false);
		if (mm_frames(mm) + n <= mm_budget(mm))
			return true;
		/* Nothing came free at once: write out what waits for a second chance. */
		if (mm_frames(mm) >= before && (frames_coming(mm) != 0 || !stage_writeout(p)))
			return false;
	}
	return true;
}

bool reclaim_make_room(struct pager *p, uint64_t n)
{
	bool made = make_room(p, n);

	/* after it, for making room may leave spares */
	drop_spares(p->mm, made ? n : 0);
	return made;
}

uint32_t reclaim_some_room(struct pager *p, uint32_t n)
{
	uint64_t have;

	if (reclaim_make_room(p, n))
		return n;
	have = free_frames(p->mm);
	n = have < n ? (uint32_t)have : n;
	drop_spares(p->mm, n);
	return n;
}

/* How many frames are to be free. */
static uint64_t frames_ahead(const struct mm *mm)
{
	uint64_t high = mm_budget(mm) / 32;
	uint64_t most = mm->filling ? AHEAD_FILL_MAX : AHEAD_MAX;

	if (high < 16)
		high = 16;
	return high < most ? high : most;
}

uint32_t reclaim_free_room(struct mm *mm, uint32_t n)
{
	uint64_t have = free_frames(mm);
	uint64_t held;

	if (have < frames_ahead(mm) / 2 || mm->closing)
		return 0;
	if (have < n)
		n = (uint32_t)have;
	drop_spares(mm, n);
	held = mm_frames(mm) - tier_reserve(mm) + stage_spare_pages(mm) +
	       mm->staging.buffer_touched + mm->files.landing.touched + n;
	if (held > mm->stats.resident_max)
		__atomic_store_n(&mm->stats.resident_max, held, __ATOMIC_RELAXED);
	return n;
}

void reclaim_balance(struct pager *p)
{
	struct mm *mm = p->mm;
	uint64_t high = frames_ahead(mm);
	/* what is held; of what is counted the pool may have some in reserve */
	uint64_t used = mm_frames(mm) - tier_reserve(mm) + stage_spare_pages(mm) +
			mm->staging.buffer_touched + mm->files.landing.touched +
			mm_snapshot_pages(mm);
	uint64_t step = STEP;
	bool aside;
	uint64_t have;

	if (used > mm->stats.resident_max)
		__atomic_store_n(&mm->stats.resident_max, used, __ATOMIC_RELAXED);
	tier_balance(p);
	if (free_frames(mm) + frames_coming(mm) < high / 2)
		grant_more(mm, high);
	have = free_frames(mm) + frames_coming(mm);
	if (have < high / 2)
		mm->balancing = true;
	if (!mm->balancing)
		return;
	/*
	 * Who waits for a page is served first, unless frames are so few that it would wait for
	 * one. Windows take hundreds of frames at once, and leave in long runs.
	 */
	aside = mm->staging.buffer_reading != 0 && mm->staging.buffer_reading < SLICE &&
		have >= high / 4;
	/* what was asked for is read meanwhile, and who asks for more is noticed */
	if (aside && !near_binds(p))
		blkio_watch(p->io, mm->wait_fd);
	blkio_flush(p->io);
	if (near_binds(p) && have >= high / 4) {
		/* the thread's time, too: a part each time it waits */
		if (!p->near.waits)
			return;
		step = SLICE;
	}
	work_towards(p, have + step < high ? have + step : high, aside);
	mm->balancing = free_frames(mm) + frames_coming(mm) < high - high / 8;
}

/* The clean pages of [vpn, stop), n at most, that nothing keeps; where that ended. */
static vpn_t drop_behind(struct mm *mm, struct drop_list *d, vpn_t vpn, vpn_t stop, uint64_t n,
			 uint64_t *left)
{
	const struct region *r = region_find(&mm->regions, addr_of(vpn));

	if (r == NULL)
		return vpn + 1;
	if (stop > vpn_of(r->end))
		stop = vpn_of(r->end);
	if ((r->flags & (REGION_LOCKED | REGION_HELD | REGION_SHARED)) ||
	    traits_priority(mm, r) == FL_PRIORITY_HOT)
		return stop;
	for (; vpn < stop && *left < n; vpn++) {
		pte_t pte = pte_get(&mm->ptes, vpn);

		if (pte_state(pte) == PTE_PRESENT && !(pte & PTE_WARM) && known_clean(mm, r, pte)) {
			drop_add(mm, d, vpn);
			*left += 1;
		}
	}
	return vpn;
}

bool reclaim_is_short(const struct mm *mm, uint64_t n)
{
	uint64_t have = free_frames(mm);

	return have + frames_coming(mm) < frames_ahead(mm) + n || have < n;
}

void reclaim_trail(struct pager *p, uint64_t n)
{
	struct mm *mm = p->mm;
	struct trail *t = &mm->trail;
	struct drop_list d = {.moves = UINT32_MAX};
	const struct trail_run *run;
	uint64_t have = free_frames(mm);
	/* rather less than to wait for frames that are being written */
	uint64_t keep = mm_budget(mm) / (have < n ? TRAIL_LEAST : TRAIL_PART);
	uint64_t left = 0;

	if (!reclaim_is_short(mm, n))
		return;
	while (left < n && t->pages > keep && (run = trail_oldest(t)) != NULL) {
		uint64_t most = t->pages - keep < run->n ? t->pages - keep : run->n;
		vpn_t end = run->page + most;
		vpn_t vpn = pte_next(&mm->ptes, run->page, end, 1U << PTE_PRESENT);

		if (vpn < end)
			vpn = drop_behind(mm, &d, vpn, end, n, &left);
		trail_cut(t, vpn - run->page);
		/* a page may be in several runs: what was gathered is PRESENT until this */
		drop_flush(mm, &d);
	}
}

bool reclaim_coming(const struct mm *mm)
{
	return frames_coming(mm) != 0;
}

bool reclaim_io(const struct mm *mm)
{
	if (mm->files.jobs != 0)
		return true;
	for (unsigned i = 0; i < PAGERS_MAX; i++)
		if (mm->pager[i] != NULL && mm->pager[i]->io != NULL &&
		    blkio_inflight(mm->pager[i]->io) != 0)
			return true;
	return false;
}

bool reclaim_stuck(struct pager *p)
{
	struct mm *mm = p->mm;

	if (reclaim_io(mm) || files_settling(mm))
		return false;
	return frames_coming(mm) == 0 && !reclaim_make_room(p, 1) && frames_coming(mm) == 0;
}
