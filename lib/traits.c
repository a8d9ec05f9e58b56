/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * traits.c - what a program wants of a range; see traits.h.
 */
#include "traits.h"

#include "fault.h"
#include "mm.h"
#include "reclaim.h"
#include "share.h"
#include "source.h"
#include "sys.h"

#include <errno.h>
#include <string.h>

#define COUNT_EVERY 16U /* pages that come before limits are looked at again */

const struct traits *traits_of(const struct mm *mm, const struct region *r)
{
	uint32_t n = traits_number(r);

	return n != 0 && mm->traits.set != NULL ? &mm->traits.set[n] : NULL;
}

enum fl_priority traits_priority(const struct mm *mm, const struct region *r)
{
	const struct traits *t = traits_of(mm, r);

	return t != NULL ? t->priority : FL_PRIORITY_NORMAL;
}

uint32_t traits_window(const struct mm *mm, const struct region *r, uint32_t most)
{
	const struct traits *t = traits_of(mm, r);

	return t != NULL && t->readahead != 0 && t->readahead < most ? t->readahead : most;
}

enum fl_priority traits_cached(const struct pagecache *pc, uint64_t page, uint64_t *end)
{
	const struct mm *mm = pc->mm;
	enum fl_priority most = FL_PRIORITY_NORMAL;
	bool any = false;

	*end = CACHE_NONE;
	if (mm->traits.hot == 0 && mm->traits.cold == 0)
		return most;
	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		uint64_t first = vpn_of(r->start) + r->delta;
		uint64_t stop = vpn_of(r->end) + r->delta;
		enum fl_priority here;

		if (first > page && first < *end)
			*end = first;
		if (page < first || page >= stop)
			continue;
		here = traits_priority(mm, r);
		if (here == FL_PRIORITY_HOT) {
			*end = stop;
			return here;
		}
		if (stop < *end)
			*end = stop;
		/* normal, if one of several is */
		most = !any || most == here ? here : FL_PRIORITY_NORMAL;
		any = true;
	}
	return most;
}

/* ---- setting ---- */

static void count(struct traits_table *tt, const struct traits *t, uint32_t by)
{
	tt->hot += t->priority == FL_PRIORITY_HOT ? by : 0;
	tt->cold += t->priority == FL_PRIORITY_COLD ? by : 0;
	tt->limited += t->limit != 0 ? by : 0;
}

/* Sets that no region carries are free. */
static void sweep(struct mm *mm)
{
	struct traits_table *tt = &mm->traits;
	bool carried[TRAITS_MAX] = {false};
	const struct region *r;

	for (uintptr_t at = 0; (r = region_next(&mm->regions, at)) != NULL; at = r->end)
		carried[traits_number(r)] = true;
	for (uint32_t i = 1; i < TRAITS_MAX; i++) {
		if (!tt->set[i].used || carried[i])
			continue;
		count(tt, &tt->set[i], (uint32_t)-1);
		tt->set[i].used = false;
	}
}

static bool have_table(struct traits_table *tt)
{
	if (tt->set == NULL)
		tt->set = sys_mem_alloc(TRAITS_MAX * sizeof(*tt->set));
	return tt->set != NULL;
}

static uint32_t take_set(struct mm *mm)
{
	struct traits_table *tt = &mm->traits;

	if (!have_table(tt))
		return 0;
	sweep(mm);
	for (uint32_t i = 1; i < TRAITS_MAX; i++)
		if (!tt->set[i].used)
			return i;
	return 0;
}

/* Windows that make no difference are none: so there are fewer kinds of sets than places for them. */
long traits_share(struct mm *mm, enum fl_priority priority, uint32_t readahead)
{
	struct traits_table *tt = &mm->traits;
	struct traits *t;
	uint32_t i = 1;

	if (readahead >= mm->opt.readahead)
		readahead = 0;
	if (priority == FL_PRIORITY_NORMAL && readahead == 0)
		return 0;
	if (!have_table(tt))
		return -ENOMEM;
	for (; i < TRAITS_MAX && tt->set[i].used; i++) {
		t = &tt->set[i];
		if (t->priority == priority && t->readahead == readahead)
			return (long)i;
	}
	if (i == TRAITS_MAX)
		return -ENOMEM;
	t = &tt->set[i];
	*t = (struct traits){.used = true, .priority = priority, .readahead = readahead};
	count(tt, t, 1);
	return (long)i;
}

static bool all_managed(const struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;

	for (; start < end; start = r->end) {
		r = region_find(&mm->regions, start);
		if (r == NULL)
			return false;
	}
	return true;
}

/* What would be seen by other programs, where a server pages for all. */
static bool is_ours_alone(const struct fl_region_options *o)
{
	return o != NULL && (o->limit != 0 || o->on_error != NULL);
}

long do_region_set(struct mm *mm, uintptr_t start, uintptr_t end, const struct fl_region_options *o)
{
	struct traits *t;
	uint32_t n = 0;
	long r;

	if (!all_managed(mm, start, end))
		return -ENOMEM;
	if (is_ours_alone(o) && share_has(mm, start, end))
		return -EOPNOTSUPP;
	if (o != NULL) {
		n = take_set(mm);
		if (n == 0)
			return -ENOMEM;
		t = &mm->traits.set[n];
		*t = (struct traits){
			.used = true,
			.priority = o->priority,
			.limit = o->limit >> PAGE_SHIFT,
			.readahead = o->readahead < FL_WINDOW_MAX * PAGE_SIZE
					     ? (uint32_t)(o->readahead >> PAGE_SHIFT)
					     : FL_WINDOW_MAX,
			.on_error = o->on_error,
			.error_arg = o->error_arg,
			.start = vpn_of(start),
			.end = vpn_of(end),
			.hand = vpn_of(start),
		};
		count(&mm->traits, t, 1);
	}
	r = region_change(&mm->regions, start, end, -1, n << REGION_TRAITS_SHIFT, REGION_TRAITS);
	if (mm->traits.set != NULL)
		sweep(mm);
	mm->traits.counted = 0;
	return r != 0 ? r : share_want(mm, start, end);
}

/* ---- limits ---- */

/* Frames of a range, those in staging aside. */
static uint64_t frames_of(struct mm *mm, const struct region *r, vpn_t vpn, vpn_t end)
{
	uint64_t n = 0;

	if (r->flags & REGION_REMOTE)
		return 0;
	if (r->flags & REGION_SHARED) {
		const struct pagecache *pc = cache_of(r);
		uint64_t page = vpn + r->delta, stop = end + r->delta;

		for (; (page = cache_next(pc, page, CACHE_UPTODATE | CACHE_LOCKED)) < stop; page++)
			n++;
		return n;
	}
	while (vpn < end) {
		vpn_t next = (vpn | (PTE_LEAF_PAGES - 1)) + 1;

		if (vpn % PTE_LEAF_PAGES == 0 && next <= end) {
			n += pte_leaf_present(&mm->ptes, vpn);
			vpn = next;
			continue;
		}
		n += pte_state(pte_get(&mm->ptes, vpn)) == PTE_PRESENT;
		vpn++;
	}
	return n;
}

/*
 * The range's clock, in a shared mapping: what was not touched since it was
 * unmapped leaves, what is mapped is unmapped.  How many left.
 */
static uint64_t shrink_cached(struct pager *p, const struct region *r, vpn_t *at, vpn_t end,
			      uint64_t want)
{
	struct pagecache *pc = cache_of(r);
	uint64_t stop = end + r->delta;
	uint64_t page = *at + r->delta;
	uint64_t left = 0;

	for (; left < want && (page = cache_next(pc, page, CACHE_UPTODATE)) < stop; page++) {
		uint32_t w = cache_get(pc, page);

		if ((w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT)) ||
		    cache_is_locked(pc, page))
			continue;
		if (w & CACHE_DIRTY) {
			cache_write(p, pc, page, 64);
			continue;
		}
		if (w & CACHE_YOUNG)
			cache_set(pc, page, w & ~CACHE_YOUNG);
		else if (w & CACHE_IDLE)
			left += cache_settled(pc, page) && cache_drop(pc, page, 1);
		else {
			cache_unmap(pc, page, 1);
			cache_set(pc, page, (w & ~CACHE_PLACED) | CACHE_IDLE);
		}
	}
	*at = page < stop ? page - r->delta : end;
	return left;
}

/* Up to two revolutions of a range's clock. */
static void shrink(struct pager *p, struct traits *t, uint32_t number, uint64_t want)
{
	struct mm *mm = p->mm;
	unsigned revolutions = 0;
	uint64_t left = 0;

	while (left < want && revolutions < 3) {
		const struct region *r = region_next(&mm->regions, addr_of(t->hand));
		vpn_t end;

		if (r == NULL || vpn_of(r->start) >= t->end) {
			t->hand = t->start;
			revolutions++;
			continue;
		}
		if (t->hand < vpn_of(r->start))
			t->hand = vpn_of(r->start);
		end = vpn_of(r->end) < t->end ? vpn_of(r->end) : t->end;
		if (traits_number(r) != number || (r->flags & (REGION_REMOTE | REGION_HELD)))
			t->hand = end;
		else if (r->flags & REGION_SHARED)
			left += shrink_cached(p, r, &t->hand, end, want - left);
		else
			left += reclaim_clock(p, r, &t->hand, end, want - left);
	}
}

static void keep_limit(struct pager *p, struct traits *t, uint32_t number)
{
	struct mm *mm = p->mm;
	const struct region *r;
	uint64_t frames = 0;

	for (vpn_t at = t->start;
	     at < t->end && (r = region_next(&mm->regions, addr_of(at))) != NULL &&
	     vpn_of(r->start) < t->end;
	     at = vpn_of(r->end))
		if (traits_number(r) == number)
			frames += frames_of(
				mm, r, vpn_of(r->start) > t->start ? vpn_of(r->start) : t->start,
				vpn_of(r->end) < t->end ? vpn_of(r->end) : t->end);
	if (frames > t->limit)
		shrink(p, t, number, frames - t->limit + t->limit / 16);
}

void traits_round(struct pager *p)
{
	struct mm *mm = p->mm;
	struct traits_table *tt = &mm->traits;
	const struct mm_counters *c = &mm->stats;
	uint64_t came = c->faults_minor + c->faults_major + c->faults_around + c->file_read_pages +
			c->read_pages;

	/* all that is brought back for the end is to stay */
	if (tt->limited == 0 || came - tt->counted < COUNT_EVERY || mm->closing)
		return;
	tt->counted = came;
	for (uint32_t i = 1; i < TRAITS_MAX; i++)
		if (tt->set[i].used && tt->set[i].limit != 0)
			keep_limit(p, &tt->set[i], i);
}

/* ---- errors ---- */

bool traits_ask(struct file_io *io, int err)
{
	struct pagecache *pc = io->pc;
	struct mm *mm = pc->mm;
	const struct region *r = region_find(&mm->regions, addr_of(io->vpn));
	const struct traits *t;

	if (io->peer != NULL || io->t0 == 0 || r == NULL || r->users == NULL || cache_of(r) != pc ||
	    io->vpn + r->delta != io->page)
		return false;
	t = traits_of(mm, r);
	if (t == NULL || t->on_error == NULL || mm->closing)
		return false;
	io->on_error = t->on_error;
	io->error_arg = t->error_arg;
	io->err = err;
	/* it may have what was read there last */
	if (io->landing != LANDING_NONE)
		memset(io->iov.iov_base, 0, PAGE_SIZE);
	mm->files.jobs++;
	source_post(mm->traits.asked, io);
	return true;
}

long do_error_done(struct pager *p, struct file_io *io, enum fl_error_choice choice)
{
	p->mm->files.jobs--;
	io->pager = p;
	switch (choice) {
	case FL_ERROR_RETRY:
		/* asks again at once if it fails again */
		io->tries = 1;
		cache_io_restart(io);
		break;
	case FL_ERROR_PAGE:
		/* its bytes are where the read would have put them */
		io->req.ended = 0;
		io->done(io, 0);
		break;
	default:
		file_lost(io, io->err);
		break;
	}
	return 0;
}
