/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * truncate.c - mapped files that become shorter, longer, or get a hole; see
 * truncate.h.
 *
 * Invariants.  While a page is in a cut no write of it begins, and none that began
 * before is under way when cut_begin() has returned.  What is cached beyond a new end, or in
 * a hole, goes when the kernel has cut the file: until then it is the only copy of what was stored.
 * Truncations of a file by the program come one after the other: a second one could
 * make it longer before the first has let go of what was there.
 *
 * All under the mm lock, which is dropped where a pager lets others go on (pager_pump).
 */
#include "truncate.h"

#include "mm.h"
#include "pager.h"
#include "share.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* ---- what is cut off ---- */

void cut_begin(struct pager *p, struct pagecache *pc, struct cache_cut *cut)
{
	cut->awaited = false;
	cut->next = pc->cuts;
	pc->cuts = cut;
	pc->handles++;
	pc->mm->files.cuts++;
	while (cache_next(pc, cut->page, CACHE_WRITEBACK) < cut->end)
		pager_pump(p);
}

void cut_end(struct pagecache *pc, struct cache_cut *cut)
{
	struct cache_cut **link = &pc->cuts;

	/* others may have come meanwhile */
	while (*link != cut)
		link = &(*link)->next;
	*link = cut->next;
	pc->handles--;
	pc->mm->files.cuts--;
	if (cut->awaited)
		cache_wake(pc, cut->page, cut->end - cut->page);
	files_tell(pc->mm);
}

uint64_t cut_before(const struct pagecache *pc, uint64_t page, uint64_t n)
{
	for (const struct cache_cut *c = pc->cuts; c != NULL; c = c->next)
		if (c->page < page + n && page < c->end)
			n = c->page > page ? c->page - page : 0;
	return n;
}

bool cut_holds(const struct pagecache *pc, uint64_t page)
{
	bool holds = false;

	for (struct cache_cut *c = pc->cuts; c != NULL; c = c->next) {
		if (!c->hole || page < c->page || page >= c->end)
			continue;
		c->awaited = true;
		holds = true;
	}
	return holds;
}

/* ---- another end ---- */

/* What is done before the file gets another end, 0 or -errno, and when it may have got it. */
static int before(struct pager *p, struct pagecache *pc, struct cache_cut *cut, uint64_t size)
{
	int err;

	*cut = (struct cache_cut){.page = size >> PAGE_SHIFT, .end = CACHE_NONE};
	cut_begin(p, pc, cut);
	err = cache_look_at_size(pc);
	if (err == 0)
		cache_grow(pc, size);
	else
		cut_end(pc, cut);
	return err;
}

static void after(struct pagecache *pc, struct cache_cut *cut, uint64_t size, long result)
{
	/* by now it may have grown again, with nothing of what was cached there */
	if (!sys_err(result) && size < pc->size)
		cache_resize(pc, size);
	if (cache_look_at_size(pc) != 0 && !sys_err(result) && size > pc->size)
		cache_resize(pc, size);
	cut_end(pc, cut);
}

long do_truncate(struct pager *p, struct truncation *t)
{
	struct pagecache *pc = cache_find(p->mm, t->dev, t->ino);
	int err;

	if (pc == NULL)
		return 0;
	if (!t->called) {
		if (pc->truncating)
			return 1;
		pc->truncating = true;
		err = before(p, pc, &t->cut, t->size);
		t->begun = pc->truncating = err == 0;
		return err;
	} else if (t->begun) {
		after(pc, &t->cut, t->size, t->result);
		pc->truncating = false;
	} else {
		cache_look_at_size(pc);
	}
	return 0;
}

long cut_file(struct pager *p, struct pagecache *pc, int fd, long size)
{
	struct cache_cut cut;
	long r = before(p, pc, &cut, (uint64_t)size);

	if (sys_err(r))
		return r;
	r = SYS2(ftruncate, fd, size);
	after(pc, &cut, (uint64_t)size, r);
	return r;
}

void do_resized(struct mm *mm)
{
	for (struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		cache_look_at_size(pc);
}

/* ---- holes ---- */

struct punch {
	bool ended;
	int res;
};

static void punched(struct file_io *io, int res)
{
	struct punch *punch = io->waiter;

	punch->res = res;
	punch->ended = true;
	cache_io_end(io);
}

static int punch(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop)
{
	struct file_io *io = pool_get(&p->mm->files.io_pool);
	struct punch wait = {.ended = false};

	if (io == NULL)
		return -ENOMEM;
	io->pager = p;
	io->pc = pc;
	io->page = page;
	io->waiter = &wait;
	io->req.dev = &pc->tail;
	io->req.op = BLK_PUNCH;
	io->req.hole = (stop - page) << PAGE_SHIFT;
	io->done = punched;
	cache_start(io);
	while (!wait.ended)
		pager_pump(p);
	return wait.res;
}

/* What is being read may be of before, or of after. */
static void read_again(struct pagecache *pc, uint64_t page, uint64_t stop)
{
	for (; (page = cache_next(pc, page, CACHE_LOCKED)) < stop; page++)
		cache_set(pc, page, cache_get(pc, page) | CACHE_GONE);
}

/*
 * What is dirty can be stored to without a fault: who has seen the hole elsewhere must not do so
 * before it is dropped here.
 */
static void protect_dirty(struct pagecache *pc, uint64_t page, uint64_t stop)
{
	for (uint64_t n; (page = cache_next_before(pc, page, stop, CACHE_DIRTY)) < stop;
	     page += n) {
		for (n = 1; page + n < stop && (cache_get(pc, page + n) & CACHE_DIRTY);)
			n++;
		cache_protect(pc, page, n);
	}
}

/* A page of what is a hole in the file. */
static void forget(struct pagecache *pc, uint64_t page)
{
	uint32_t w = cache_get(pc, page);

	if (w & (CACHE_LOCKED | CACHE_LEFT)) {
		cache_unmap(pc, page, 1);
		cache_set(pc, page, (w & ~(CACHE_DIRTY | CACHE_SYNC)) | CACHE_GONE);
	} else if (!cache_drop(pc, page, 1)) {
		memset(cache_addr(pc, page), 0, PAGE_SIZE); /* as the file's are */
	}
}

long cut_hole(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop)
{
	struct cache_cut cut = {.page = page, .end = stop, .hole = true};
	int err;

	cache_look_at_size(pc);
	read_again(pc, page, stop);
	cut_begin(p, pc, &cut);
	protect_dirty(pc, page, stop);
	err = punch(p, pc, page, stop);
	if (err == 0)
		for (; (page = cache_next(pc, page, CACHE_UPTODATE | CACHE_LOCKED)) < stop; page++)
			forget(pc, page);
	cut_end(pc, &cut);
	return err;
}

long do_remove(struct pager *p, uintptr_t start, uintptr_t end, bool skip)
{
	struct mm *mm = p->mm;
	const struct region *r = region_next(&mm->regions, start);

	if (skip && r != NULL && r->start < end)
		return (long)(r->start > start ? r->start : start);
	if (skip)
		return (long)end;
	for (uintptr_t stop; start < end; start = stop) {
		uint64_t page;
		long err;

		r = region_next(&mm->regions, start);
		if (r == NULL || r->start > start)
			break;
		if (r->flags & REGION_LOCKED)
			return -EINVAL;
		if (!(r->flags & REGION_SHARED) || !(r->prot & PROT_WRITE))
			return r->users != NULL ? -EACCES : -EINVAL;
		stop = r->end < end ? r->end : end;
		page = vpn_of(start) + r->delta;
		if (r->flags & REGION_REMOTE)
			err = share_advise(mm, start, stop, WIRE_REMOVE);
		else if (cache_of(r)->source != NULL)
			err = -EOPNOTSUPP;
		else
			err = cut_hole(p, cache_of(r), page, page + vpn_of(stop - start));
		if (err != 0)
			return err;
	}
	return (long)start;
}
