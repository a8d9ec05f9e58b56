/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * grant.c - a process's limit within its group; see grant.h.
 *
 * Nobody waits for another member but who has no other way: a program that
 * starts, or a fork, without the floor that every member has.  All others ask,
 * and evict from what they hold meanwhile.
 *
 * A grant falls in steps: a thread that faults while the limit is lowered
 * waits for one step's eviction at most.
 */
#include "grant.h"

#include "do.h"
#include "fork.h"
#include "group.h"
#include "mm.h"
#include "pager.h"
#include "reclaim.h"
#include "sys.h"
#include "tier.h"

#include <errno.h>
#include <string.h>

#define MAPPED_CHUNK 256U /* pages */
#define PATIENCE_NS 5000000000U
#define ROOM_NS 100000000U /* how long a fork waits while nobody can be asked */
#define PAUSE_NS 2000000U
#define PAUSE_MOST_NS 128000000U
#define STEPS 4U
#define QUIET_TRIES 5U

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* How much a grant grows or falls at a time. */
static uint64_t step(const struct mm *mm)
{
	return larger(64, smaller(1024, group_limit(mm->group) / 64));
}

/* A limit whose budget is so many frames (staging_resize() has the buffer's part). */
static uint64_t limit_for(uint64_t frames)
{
	return frames + smaller(frames / 15 + 34, STAGE_BUFFER_MAX);
}

/* Spare frames are the first to go. */
static void trim_spares(struct mm *mm)
{
	uint64_t held = mm_frames(mm) + stage_spare_pages(mm);

	if (held > mm_budget(mm))
		stage_spare_drop(mm, held - mm_budget(mm));
}

static void set_limit(struct mm *mm, uint64_t pages)
{
	mm->limit = pages;
	staging_resize(mm);
	tier_resize(mm);
	trim_spares(mm);
}

/* What a member cannot do with less than. */
static uint64_t least(const struct mm *mm)
{
	return larger(GROUP_FLOOR, limit_for(mm->regions.locked_open_pages / 3 * 4));
}

/* Look for members that have ended, not all the time: where none had, less and less often. */
static bool sweep(struct mm *mm)
{
	uint64_t now = sys_now();

	if (now < mm->grant_next)
		return false;
	if (group_sweep(mm->group, mm->pagers_up && mm->armed ? mm->proc_fd : -1)) {
		mm->grant_pause = PAUSE_NS;
	} else {
		mm->grant_pause = larger(PAUSE_NS, smaller(2 * mm->grant_pause, PAUSE_MOST_NS));
	}
	mm->grant_next = sys_now() + mm->grant_pause;
	return mm->grant_pause == PAUSE_NS;
}

int grant_open(struct mm *mm, char *handle, char *why, size_t why_size)
{
	uint64_t until = sys_now() + PATIENCE_NS;
	struct group *g;
	int r = group_open(&g, handle, mm->limit, why, why_size);

	if (r != 0)
		return r;
	while (group_take(g, GROUP_FLOOR, GROUP_FLOOR, GROUP_FOR_FLOOR) == 0) {
		if (group_sweep(g, -1))
			continue;
		if (sys_now() > until) {
			log_format(why, why_size,
				   "the group's limit of %llu MiB is taken by %u processes",
				   (unsigned long long)(group_limit(g) >> 8), group_members(g) - 1);
			group_close(g);
			return -ENOMEM;
		}
		group_ask(g, GROUP_FLOOR, GROUP_FOR_FLOOR);
		group_wait(g, PAUSE_NS);
	}
	mm->group = g;
	mm->limit = GROUP_FLOOR;
	mm->grant_child = GROUP_NONE;
	return 0;
}

bool grant_mapped(struct mm *mm, uint64_t pages)
{
	uint64_t need = larger(pages, GROUP_FLOOR);
	struct group *g = mm->group;

	lock_assert_held(&mm->lock);
	/* others are short, and this one holds more than its share: from now on it can evict */
	if (group_asked(g) != 0 && (!mm->confined || mm->pagers_up))
		return false;
	if (need > mm->limit) {
		uint64_t more = need - mm->limit;
		uint64_t got = group_take(g, more, more + MAPPED_CHUNK, GROUP_FOR_MAPPED);

		if (got == 0 && !mm->confined && sweep(mm))
			got = group_take(g, more, more + MAPPED_CHUNK, GROUP_FOR_MAPPED);
		mm->limit += got;
	} else if (mm->limit - need > 3 * MAPPED_CHUNK) {
		uint64_t back = mm->limit - need - MAPPED_CHUNK;

		mm->limit -= back;
		group_give(g, back);
	}
	return pages <= mm->limit;
}

void grant_more(struct mm *mm, uint64_t pages)
{
	struct group *g = mm->group;
	uint64_t got;

	if (g == NULL || !mm->armed || mm->grant_held || mm->limit < group_grant(g))
		return;
	group_needs(g);
	/* a limit has to grow by more than its budget */
	pages = larger(limit_for(mm_frames(mm) + pages), mm->limit) - mm->limit + step(mm);
	got = group_take(g, 1, pages, GROUP_FOR_FRAMES);
	if (got == 0 && sweep(mm))
		got = group_take(g, 1, pages, GROUP_FOR_FRAMES);
	if (got != 0)
		set_limit(mm, mm->limit + got);
	else if (sys_now() >= mm->grant_ask) {
		mm->grant_ask = sys_now() + PAUSE_NS;
		group_ask(g, 4 * step(mm), GROUP_FOR_FRAMES);
	}
}

bool grant_relax(struct mm *mm)
{
	if (mm->group == NULL || mm->grant_held || mm->limit >= group_grant(mm->group))
		return false;
	set_limit(mm, group_grant(mm->group));
	group_answered(mm->group, UINT64_MAX);
	return true;
}

/* The grant follows a limit that was lowered, as far as frames have left. */
static void give_back(struct mm *mm)
{
	uint64_t grant = group_grant(mm->group);
	uint64_t keep = mm->limit;

	trim_spares(mm);
	if (mm_frames(mm) > mm_budget(mm))
		keep = larger(keep, mm_frames(mm) + mm->limit + mm->lent - mm_budget(mm));
	if (keep < grant)
		group_give(mm->group, grant - keep);
}

/* More frames are free than are soon needed. */
static void shrink(struct mm *mm)
{
	uint64_t budget = mm_budget(mm), frames = mm_frames(mm);
	uint64_t slack = 4 * step(mm) + budget / 16;
	uint64_t to;

	if (frames + slack >= budget)
		return;
	to = larger(limit_for(frames + slack / 2), least(mm));
	if (to < mm->limit)
		set_limit(mm, to);
}

void grant_round(struct pager *p)
{
	struct mm *mm = p->mm;
	struct group *g = mm->group;

	if (g == NULL || !mm->armed || mm->grant_held || mm->closing)
		return;
	shrink(mm);
	for (unsigned n = 0; n < STEPS; n++) {
		uint64_t asked, before;

		give_back(mm);
		asked = group_asked(g);
		if (asked == 0 && mm->limit == group_grant(g))
			break;
		if (mm->swap_full || (asked != 0 && mm->limit <= least(mm))) {
			group_answered(g, UINT64_MAX);
			grant_relax(mm);
			break;
		}
		if (asked != 0 && mm->limit == group_grant(g)) {
			uint64_t less = smaller(smaller(asked, step(mm)), mm->limit - least(mm));

			set_limit(mm, mm->limit - less);
			group_answered(g, less);
		}
		before = mm_frames(mm);
		reclaim_balance(p);
		if (mm_frames(mm) == before && mm_frames(mm) > mm_budget(mm)) {
			/* writes in flight bring it on, or nothing does */
			if (!reclaim_coming(mm))
				grant_relax(mm);
			break;
		}
	}
}

bool grant_busy(const struct mm *mm)
{
	return mm->group != NULL && mm->armed &&
	       (mm->grant_held || mm->limit < group_grant(mm->group));
}

uint64_t grant_limit_most(const struct mm *mm)
{
	return mm->group != NULL ? group_limit(mm->group) : mm->limit;
}

uint64_t grant_budget_most(const struct mm *mm)
{
	return mm_budget(mm) + (mm->group != NULL ? group_free(mm->group) : 0);
}

long grant_set_limit(struct pager *p, uint64_t pages)
{
	struct mm *mm = p->mm;
	struct group *g = mm->group;
	uint64_t was = group_limit(g), until = 0, next = 0;
	uint64_t left, least_left = UINT64_MAX;
	long r = group_aim(g, pages);

	if (r != 0)
		return r;
	while ((left = group_follow(g)) != 0) {
		uint64_t now = sys_now();

		if (left < least_left) {
			least_left = left;
			until = now + PATIENCE_NS;
		}
		if (now > until) {
			/* as far as it came down it goes up again, unless another aims at something else */
			group_aim(g, was);
			for (unsigned i = 0; i < QUIET_TRIES && group_follow(g) != 0; i++)
				continue;
			return -ENOMEM;
		}
		sweep(mm);
		if (now >= next) {
			group_ask(g, left, GROUP_FOR_FLOOR);
			group_ask_self(g);
			next = now + PAUSE_NS;
		}
		/* its own part; the others' comes meanwhile */
		pager_pump(p);
	}
	return 0;
}

void grant_listen(struct mm *mm)
{
	int fd = mm->group != NULL ? group_listen(mm->group) : -1;

	/* where that fails others are heard when there is something else to do */
	if (fd >= 0)
		fork_watch(mm, fd, false);
}

/* ---- fork ---- */

long grant_fork_unarmed(struct mm *mm)
{
	uint64_t need = larger(mm->regions.open_pages, GROUP_FLOOR);
	struct group *g = mm->group;

	mm->grant_child = group_conceive(g);
	if (mm->grant_child == GROUP_NONE)
		return -ENOSPC;
	if (need > GROUP_FLOOR)
		group_take_for(g, mm->grant_child, need, need, GROUP_FOR_MAPPED);
	else
		group_take_for(g, mm->grant_child, need, need, GROUP_FOR_FLOOR);
	if (group_grant_of(g, mm->grant_child) != 0)
		return 0;
	group_stillborn(g, mm->grant_child);
	mm->grant_child = GROUP_NONE;
	return -ENOMEM;
}

/* One pass of making room for parent and child: 0 done, -EAGAIN again, -ENOMEM. */
static long make_room_for_two(struct pager *p, unsigned *quiet, uint64_t *asked)
{
	struct mm *mm = p->mm;
	struct group *g = mm->group;
	uint32_t child = mm->grant_child;
	uint64_t want = larger(limit_for(mm_frames(mm)), GROUP_FLOOR);
	uint64_t have = group_grant_of(g, child);
	uint64_t half, before;

	/* what is spare is not handed on */
	stage_spare_drop(mm, UINT64_MAX);
	if (have < want)
		have += group_take_for(g, child, 1, want - have, GROUP_FOR_FLOOR);
	if (have >= GROUP_FLOOR && have - staging_buffer(have) >= mm_frames(mm))
		return 0;
	if (sweep(mm))
		return -EAGAIN;
	half = (have + group_grant(g)) / 2;
	if (half < GROUP_FLOOR) {
		if (group_ask(g, 2 * GROUP_FLOOR - (have + group_grant(g)), GROUP_FOR_FLOOR))
			*asked = sys_now();
		else if (sys_now() - *asked > ROOM_NS)
			return -ENOMEM;
		pager_pump(p);
		return -EAGAIN;
	}
	half = larger(half, least(mm));
	if (mm->limit > half)
		set_limit(mm, half);
	if (mm_frames(mm) <= mm_budget(mm)) {
		uint64_t grant = group_grant(g);

		if (grant <= mm->limit)
			return -ENOMEM; /* locked */
		group_hand(g, child, grant - mm->limit);
		return -EAGAIN;
	}
	before = mm_frames(mm);
	reclaim_make_room(p, 0);
	if (mm_frames(mm) < before)
		*quiet = 0;
	if (mm_frames(mm) <= mm_budget(mm))
		return -EAGAIN;
	if (reclaim_coming(mm))
		pager_pump(p);
	else if (++*quiet > QUIET_TRIES)
		return -ENOMEM;
	return -EAGAIN;
}

static long no_room(struct mm *mm)
{
	if (!mm->grant_said)
		mm_log(mm, FL_LOG_ERROR,
		       "fork: the group's limit of %lu MiB, of %u processes, leaves no room for a "
		       "child",
		       (unsigned long)(group_limit(mm->group) >> 8), group_members(mm->group));
	mm->grant_said = true;
	return -ENOSPC;
}

long grant_fork(struct pager *p)
{
	struct mm *mm = p->mm;
	struct group *g = mm->group;
	uint64_t until, asked;
	unsigned quiet = 0;
	long r;

	if (g == NULL)
		return 0;
	if (!mm->armed) {
		r = grant_fork_unarmed(mm);
		if (r != -ENOMEM)
			return r == 0 ? 0 : no_room(mm);
		r = pager_arm(mm);
		if (r != 0)
			return r;
	}
	mm->grant_child = group_conceive(g);
	if (mm->grant_child == GROUP_NONE)
		return no_room(mm);
	mm->grant_held = true;
	asked = sys_now();
	until = asked + PATIENCE_NS;
	do {
		r = make_room_for_two(p, &quiet, &asked);
		if (r == -EAGAIN && sys_now() > until)
			r = -ENOMEM;
	} while (r == -EAGAIN);
	mm->grant_held = false;
	if (r != 0) {
		grant_forked(mm, false, 0);
		grant_relax(mm);
	}
	return r == -ENOMEM ? no_room(mm) : r;
}

void grant_forked(struct mm *mm, bool done, pid_t pid)
{
	if (mm->group == NULL || mm->grant_child == GROUP_NONE)
		return;
	if (done)
		group_born(mm->group, mm->grant_child, pid);
	else
		group_stillborn(mm->group, mm->grant_child);
	mm->grant_child = GROUP_NONE;
}

int grant_child(struct mm *mm)
{
	uint64_t had;

	if (mm->group == NULL)
		return 0;
	had = group_grant_of(mm->group, mm->grant_child);
	if (!group_enter(mm->group, mm->grant_child, mm->confined) ||
	    (group_grant(mm->group) < had && group_take(mm->group, had, had, GROUP_FOR_FLOOR) == 0))
		return -ENOMEM;
	/* it has that, unless another member spoilt the table */
	mm->limit = larger(group_grant(mm->group), GROUP_FLOOR);
	mm->grant_child = GROUP_NONE;
	mm->grant_held = false;
	mm->grant_next = mm->grant_ask = 0;
	if (mm->armed)
		group_armed(mm->group);
	return 0;
}
