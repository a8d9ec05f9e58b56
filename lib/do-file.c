/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * do-file.c - mapping files, msync, advice, backings; see do.h.
 *
 * A mapping is made without access, registered and opened by mprotect(2) only
 * then: a thread that touches it in between must not meet a memfd whose holes
 * read as zeros.  For the same reason a shared mapping is not moved by
 * mremap(2), which drops the registration: the pages at the new address are
 * mapped anew, and the old ones unmapped.
 *
 * What waits for I/O does so in the application (msync), or lets the pager go on
 * (pager_pump).
 */
#include "do.h"

#include "log.h"
#include "mm.h"
#include "pager.h"
#include "share.h"
#include "source.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define SYNC_PAGES 65536U /* in flight for one call */

/* ---- mapping ---- */

/* Map pages of a backing; rflags are the region's. */
static long map_pages(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags,
		      struct pagecache *pc, uint64_t page, uint32_t rflags)
{
	const int kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_32BIT;
	uint64_t pages = page_up(len) >> PAGE_SHIFT;
	bool shared = rflags & REGION_SHARED;
	uintptr_t start, end;
	long err = 0;
	long r;

	if (page + pages > CACHE_PAGES_MAX)
		return -EOVERFLOW;
	if (!region_can_insert(&mm->regions))
		return -ENOMEM;
	if (shared)
		err = cache_cover(pc, page + pages);
	if (err != 0)
		return err;
	if (flags & MAP_FIXED)
		share_leave(mm, addr, addr + page_up(len));
	if (shared) {
		r = SYS6(mmap, addr, len, PROT_NONE, MAP_SHARED | (flags & kept), pc->memfd,
			 page << PAGE_SHIFT);
	} else {
		r = SYS6(mmap, addr, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | (flags & kept),
			 -1, 0);
	}
	if (sys_err(r)) {
		if (flags & MAP_FIXED)
			share_return(mm, addr, addr + page_up(len));
		return r;
	}
	start = (uintptr_t)r;
	end = start + page_up(len);
	drop_entries(mm, start, end);
	err = region_insert_file(&mm->regions, start, end, prot, rflags, &pc->users,
				 page - vpn_of(start));
	if (err == 0)
		err = pager_register(mm, start, end);
	/* what a read from outside has put there before that: nothing else can have */
	if (err == 0) {
		SYS3(madvise, start, end - start, MADV_DONTNEED_LOCKED);
		drop_entries(mm, start, end);
	}
	if (err == 0 && prot != PROT_NONE)
		err = SYS3(mprotect, start, end - start, prot);
	if (err == 0)
		return r;
	do_forget(mm, start, end);
	SYS2(munmap, start, end - start);
	return err == -EACCES ? err : -ENOMEM;
}

/* Whether the memfd can have the pages, of a mapping that is not of the memfd as far as the file goes. */
static bool has_place(struct pagecache *pc, uint64_t page, uint64_t pages, bool shared)
{
	uint64_t end = page + pages;

	if (!shared && end > cache_pages(pc))
		end = cache_pages(pc);
	return end > CACHE_PAGES_MAX || cache_cover(pc, end) == 0;
}

long do_mmap_file(struct mm *mm, struct map_file *m, struct hop_slot *caller)
{
	bool hold = m->flags & FL_MAP_HOLD;
	bool shared = (m->flags & MAP_TYPE) != MAP_PRIVATE && !hold;
	struct pagecache *pc = m->pc;
	uint32_t rflags = 0;
	long r = 0;

	if (pc == NULL && shared && mm->store != NULL) {
		r = share_map(mm, m, caller);
		if (r != SHARE_NOT)
			return r;
		/* of an unmodified program: the kernel's, then */
		if (m->id.tid != 0)
			return -ERESTART;
		r = 0;
	}
	if (mm->lock_future && m->prot != PROT_NONE &&
	    !lock_fits_new(mm, page_up(m->len) >> PAGE_SHIFT))
		return -EAGAIN;
	/* what will be held needs slots, and nothing is promised while there are none */
	if (hold && mm->swap_full && !(m->flags & MAP_NORESERVE))
		return -ENOMEM;
	if (pc == NULL)
		r = m->id.tid != 0 ? cache_open_chosen(mm, m->fd, &m->id, &pc)
				   : cache_open_file(mm, m->fd, m->write, &pc);
	if (r != 0)
		return m->id.tid != 0 ? -ERESTART : r;
	if (shared)
		rflags |= REGION_SHARED;
	/* unlike code, which a debugger changes past its protection */
	else if (!hold && !(m->prot & (PROT_WRITE | PROT_EXEC)))
		rflags |= REGION_SHARED | REGION_PRIVATE;
	if (hold)
		rflags |= REGION_HOLD;
	if ((shared || hold) && !m->write)
		rflags |= REGION_NOWRITE;
	if (m->noexec)
		rflags |= REGION_NOEXEC;
	if (mm->lock_future)
		rflags |= REGION_LOCKED;
	if (m->flags & MAP_NORESERVE)
		rflags |= REGION_NORESERVE;
	if (!has_place(pc, m->pgoff, page_up(m->len) >> PAGE_SHIFT, rflags & REGION_SHARED))
		return m->id.tid != 0 ? -ERESTART : -ENOMEM;
	return map_pages(mm, m->addr, m->len, m->prot, m->flags, pc, m->pgoff, rflags);
}

int file_adopt(struct mm *mm, const struct region *r)
{
	struct pagecache *pc = cache_of(r);
	const uint64_t page = vpn_of(r->start) + r->delta;
	const int flags =
		MAP_SHARED | MAP_FIXED | (r->flags & REGION_NORESERVE ? MAP_NORESERVE : 0);
	size_t len = r->end - r->start;
	long err = cache_cover(pc, page + vpn_of(len));

	if (err == 0)
		err = SYS6(mmap, r->start, len, PROT_NONE, flags, pc->memfd, page << PAGE_SHIFT);
	if (!sys_err(err))
		err = pager_register(mm, r->start, r->end);
	if (err == 0 && r->prot != PROT_NONE)
		err = SYS3(mprotect, r->start, len, r->prot);
	return (int)err;
}

/* The same pages, or those that follow, of what a region maps. */
static long map_again(struct mm *mm, const struct region *r, uintptr_t addr, size_t len, int flags,
		      uint64_t page)
{
	bool locked = r->flags & REGION_LOCKED;
	long at;

	if (r->flags & REGION_REMOTE)
		at = share_map_more(mm, r, addr, len, flags, page);
	else
		at = map_pages(mm, addr, len, r->prot, flags, cache_of(r), page, r->flags);
	/* the kernel may refuse what it counts twice for a moment; the pages stay all the same */
	if (!sys_err(at) && locked)
		SYS3(mlock2, at, len, MLOCK_ONFAULT);
	return at;
}

/*
 * The region with the last page before `end`, from r on, if they are one mapping but for what
 * the program wants of its parts (traits.h); else NULL.
 */
static const struct region *last_part(const struct mm *mm, const struct region *r, uintptr_t end)
{
	while (r->end < end) {
		const struct region *next = region_next(&mm->regions, r->end);

		if (next == NULL || next->start != r->end || next->users != r->users ||
		    next->delta != r->delta || next->prot != r->prot ||
		    ((next->flags ^ r->flags) & ~REGION_TRAITS))
			return NULL;
		r = next;
	}
	return r;
}

/* What is wanted of [old, end) is wanted at `to`. */
static long copy_traits(struct mm *mm, uintptr_t old, uintptr_t end, uintptr_t to)
{
	long err = 0;

	for (uintptr_t at = old, stop; at < end && err == 0; at = stop) {
		const struct region *r = region_find(&mm->regions, at);

		stop = r->end < end ? r->end : end;
		err = region_change(&mm->regions, at - old + to, stop - old + to, -1,
				    r->flags & REGION_TRAITS, REGION_TRAITS);
	}
	return err;
}

long do_mremap_shared(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
		      uintptr_t new_addr)
{
	const struct region *found = region_find(&mm->regions, old);
	uint64_t page = vpn_of(old) + found->delta;
	size_t from = page_up(old_len);
	size_t to = page_up(new_len);
	size_t kept = from < to ? from : to;
	bool move = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
	struct region r;
	long at = 0;

	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) || to == 0 ||
	    ((move || from == 0) && !(flags & MREMAP_MAYMOVE)) ||
	    (from == 0 && !region_is_shared(found)) || ((flags & MREMAP_DONTUNMAP) && from != to))
		return -EINVAL;
	if ((flags & MREMAP_FIXED) &&
	    ((new_addr & ~PAGE_MASK) || (old < new_addr + to && new_addr < old + from)))
		return -EINVAL;
	/* what stays where it is, and what is cut off, may be of several mappings */
	if (!move && from != 0 && to <= from) {
		if (to < from)
			at = do_munmap(mm, old + to, from - to);
		return sys_err(at) ? at : (long)old;
	}
	found = old + kept >= old ? last_part(mm, found, old + kept) : NULL;
	if (found == NULL)
		return -EFAULT;
	r = *found;
	/* the whole, too, where it comes a second time */
	if (to > from && (r.flags & REGION_LOCKED) && !(r.flags & REGION_REMOTE) &&
	    r.prot != PROT_NONE && !lock_fits_new(mm, (to - from) >> PAGE_SHIFT))
		return -EAGAIN;
	if (!move && from != 0) {
		at = -ENOMEM;
		if (old + from == r.end)
			at = map_again(mm, &r, old + from, to - from, MAP_FIXED_NOREPLACE,
				       page + (from >> PAGE_SHIFT));
		if (!sys_err(at))
			return (long)old;
		if (!(flags & MREMAP_MAYMOVE))
			return -ENOMEM;
	}
	at = map_again(mm, &r, flags & MREMAP_FIXED ? new_addr : 0, to,
		       flags & MREMAP_FIXED ? MAP_FIXED : 0, page);
	if (sys_err(at))
		return at;
	if (copy_traits(mm, old, old + kept, (uintptr_t)at) != 0 ||
	    (from != 0 && !(flags & MREMAP_DONTUNMAP) && sys_err(do_munmap(mm, old, from)))) {
		do_munmap(mm, (uintptr_t)at, to);
		return -ENOMEM;
	}
	return at;
}

/* Whether [start, end) is of one file, mapped in one way without a gap. */
static bool is_uniform(const struct mm *mm, const struct region *r, uintptr_t end)
{
	while (r->end < end) {
		const struct region *next = region_next(&mm->regions, r->end);

		if (next == NULL || next->start != r->end || next->users != r->users ||
		    next->prot != r->prot || ((next->flags ^ r->flags) & ~REGION_TRAITS))
			return false;
		r = next;
	}
	return true;
}

long do_remap_file_pages(struct mm *mm, uintptr_t addr, size_t len, uint64_t page)
{
	const struct region *found = region_find(&mm->regions, addr);
	struct region r;
	long at;

	if (found == NULL || !(region_is_shared(found) || (found->flags & REGION_HOLD)) ||
	    !is_uniform(mm, found, addr + len))
		return -EINVAL;
	r = *found; /* it goes */
	at = map_again(mm, &r, addr, len, MAP_FIXED, page);
	return sys_err(at) ? at : 0;
}

/* ---- msync ---- */

/* The first shared region in [at, end) that is ours: its part of the range, by pages of its file. */
static const struct region *next_shared(struct mm *mm, uintptr_t at, uintptr_t end, uint64_t *page,
					uint64_t *stop)
{
	const struct region *r;

	while (at < end && (r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		uintptr_t s = r->start > at ? r->start : at;
		uintptr_t e = r->end < end ? r->end : end;

		if (region_is_shared(r) && !(r->flags & REGION_REMOTE)) {
			*page = vpn_of(s) + r->delta;
			*stop = vpn_of(e) + r->delta;
			return r;
		}
		at = r->end;
	}
	return NULL;
}

/* What is dirty of [page, stop) is to be written by the call that is being served. */
static void mark_dirty(struct pagecache *pc, uint64_t page, uint64_t stop)
{
	for (; (page = cache_next(pc, page, CACHE_DIRTY)) < stop; page++)
		cache_set(pc, page, cache_get(pc, page) | CACHE_SYNC);
}

/* Begin to write what is dirty of [page, stop), or only what was marked of it. */
static void write_some(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop,
		       bool marked)
{
	while (p->mm->files.writeback < SYNC_PAGES &&
	       (page = cache_next(pc, page, CACHE_DIRTY)) < stop) {
		uint32_t n = 0;

		if (!marked || (cache_get(pc, page) & CACHE_SYNC))
			n = cache_write(p, pc, page, stop - page);
		page += n != 0 ? n : 1;
	}
}

/* The first page of [page, stop) that was marked and is not written yet, or that is being written. */
static uint64_t first_pending(const struct pagecache *pc, uint64_t page, uint64_t stop)
{
	page = cache_next(pc, page, CACHE_SYNC | CACHE_WRITEBACK);
	return page < stop ? page : CACHE_NONE;
}

static long check_msync(struct mm *mm, uintptr_t addr, uintptr_t end, int flags)
{
	const struct region *r;
	uint64_t page, stop;

	for (uintptr_t at = addr; (flags & MS_INVALIDATE) && at < end; at = r->end) {
		r = region_next(&mm->regions, at);
		if (r == NULL || r->start >= end)
			break;
		if (r->flags & REGION_LOCKED)
			return -EBUSY;
	}
	for (uintptr_t at = addr; (r = next_shared(mm, at, end, &page, &stop)) != NULL;
	     at = r->end) {
		struct pagecache *pc = cache_of(r);

		cache_look_at_size(pc);
		cache_look_again(pc, page, stop);
		if (flags & MS_SYNC)
			mark_dirty(pc, page, stop);
	}
	return 0;
}

long do_msync(struct pager *p, uintptr_t addr, size_t len, int flags, unsigned round)
{
	struct mm *mm = p->mm;
	uintptr_t end = addr + page_up(len);
	const struct region *r;
	uint64_t page, stop;
	uintptr_t first = 0;
	bool any = share_has(mm, addr, end);
	long err;

	if (round == 0) {
		err = check_msync(mm, addr, end, flags);
		if (err != 0)
			return err;
	}
	for (uintptr_t at = addr; (r = next_shared(mm, at, end, &page, &stop)) != NULL;
	     at = r->end) {
		struct pagecache *pc = cache_of(r);
		uint64_t left = CACHE_NONE;

		any = true;
		if (flags & (MS_SYNC | MS_ASYNC))
			write_some(p, pc, page, stop, flags & MS_SYNC);
		if ((flags & MS_SYNC) && first == 0)
			left = first_pending(pc, page, stop);
		if (left != CACHE_NONE)
			first = addr_of(left - r->delta);
		if (first == 0 && (flags & MS_INVALIDATE))
			cache_forget(pc, page, stop);
	}
	if (first != 0)
		return (long)first;
	return round == 0 && !any;
}

long do_write_out(struct pager *p, unsigned round, bool last)
{
	bool waits = false, failed = false;

	for (struct pagecache *pc = p->mm->files.first; pc != NULL; pc = pc->next) {
		if (pc->source != NULL)
			continue;
		if (round == 0) {
			cache_look_at_size(pc);
			cache_look_again(pc, 0, CACHE_NONE);
			mark_dirty(pc, 0, CACHE_NONE);
			pc->out = (struct cache_wait){0};
		}
		write_some(p, pc, 0, CACHE_NONE, true);
		if (!cache_written(pc, 0, CACHE_NONE, &pc->out)) {
			waits = true;
		} else if (cache_next(pc, 0, CACHE_ERROR) != CACHE_NONE) {
			failed = true;
			if (last)
				cache_give_up(pc);
		}
	}
	return waits ? 1 : failed ? -EIO : 0;
}

/* Told once; behind that of another file, by the next call. */
static void tell(struct sync_wait *wait, struct pagecache *pc, int err)
{
	if (wait->err == 0) {
		wait->err = err;
		wait->told = pc;
	} else if (wait->told != pc && pc->error == 0) {
		pc->error = err;
	}
}

static void sync_done(struct file_io *io, int res)
{
	struct sync_wait *wait = io->waiter;

	res = cache_sync_ended(io, res, wait->since);
	if (res != 0)
		tell(wait, io->pc, res);
	cache_io_end(io);
	/* Release: pairs with the acquire load of who waits. */
	__atomic_fetch_sub(&wait->pending, 1, __ATOMIC_RELEASE);
	futex_wake(&wait->pending, 1);
}

static void sync_start(struct pager *p, struct pagecache *pc, struct sync_wait *wait)
{
	const int err = pc->error;
	struct file_io *io;

	pc->error = 0;
	if (err != 0)
		tell(wait, pc, err);
	if (!pc->writable)
		return;
	io = pool_get(&p->mm->files.io_pool);
	if (io == NULL) {
		/* it is not the file's */
		if (wait->err == 0)
			wait->err = -ENOMEM;
		return;
	}
	io->pager = p;
	io->pc = pc;
	io->waiter = wait;
	io->req.dev = &pc->tail;
	io->req.op = BLK_SYNC;
	io->done = sync_done;
	__atomic_fetch_add(&wait->pending, 1, __ATOMIC_RELAXED);
	cache_start(io);
}

long do_sync_range(struct pager *p, uintptr_t addr, size_t len, struct sync_wait *wait)
{
	uintptr_t end = addr + page_up(len);
	struct pagecache *last = NULL;
	const struct region *r;
	uint64_t page, stop;

	for (uintptr_t at = addr; (r = next_shared(p->mm, at, end, &page, &stop)) != NULL;
	     at = r->end) {
		if (cache_of(r) != last)
			sync_start(p, cache_of(r), wait);
		last = cache_of(r);
	}
	share_sync(p->mm, addr, end, wait);
	return 0;
}

/* ---- advice ---- */

/* Of pages that several processes have, one does not say that they are cold. */
static bool is_others(const struct pagecache *pc, uint64_t page)
{
	unsigned maps = 0;
	uint64_t n;
	vpn_t vpn;

	if (!(pc->mm->flags & MM_SERVER))
		return false;
	for (const struct region *r = pc->users.first; r != NULL && maps < 2; r = r->user_next)
		maps += cache_part(r, page, 1, &vpn, &n);
	return maps > 1;
}

static bool takes_advice(const struct pagecache *pc, uint64_t page)
{
	uint32_t w = cache_get(pc, page);

	return (w & CACHE_UPTODATE) && !(w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT)) &&
	       !cache_is_locked(pc, page) && !is_others(pc, page);
}

/* Pages from one that takes it on, n at most, that are clean or dirty as it is: how many were seen to. */
static uint64_t make_cold(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n,
			  bool out)
{
	bool dirty = cache_get(pc, page) & CACHE_DIRTY;
	uint64_t run = 1;

	while (run < n && run < CACHE_BLOCK && takes_advice(pc, page + run) &&
	       !(cache_get(pc, page + run) & CACHE_DIRTY) == !dirty)
		run++;
	if (dirty && out)
		run = cache_write(p, pc, page, run);
	if (run == 0)
		run = 1;
	if (!dirty && out)
		cache_forget(pc, page, page + run);
	cache_unmap(pc, page, run);
	for (uint64_t i = page; i < page + run; i++)
		if (cache_get(pc, i) & CACHE_UPTODATE)
			cache_set(pc, i,
				  (cache_get(pc, i) & ~(CACHE_YOUNG | CACHE_PLACED)) | CACHE_IDLE);
	return run;
}

void cache_advise(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop, int advice)
{
	if (advice == MADV_WILLNEED) {
		file_prefetch(p, pc, page, stop - page);
		return;
	}
	while ((page = cache_next(pc, page, CACHE_UPTODATE)) < stop)
		page += takes_advice(pc, page)
				? make_cold(p, pc, page, stop - page, advice == MADV_PAGEOUT)
				: 1;
}

void file_advice(struct pager *p, uintptr_t start, uintptr_t end, int advice)
{
	const struct region *r;

	if (advice != MADV_WILLNEED && advice != MADV_COLD && advice != MADV_PAGEOUT &&
	    advice != MADV_DONTNEED)
		return;
	for (; start < end && (r = region_next(&p->mm->regions, start)) != NULL && r->start < end;
	     start = r->end) {
		uintptr_t s = r->start > start ? r->start : start;
		uintptr_t e = r->end < end ? r->end : end;

		if (r->users == NULL || (r->flags & REGION_REMOTE))
			continue;
		if (advice == MADV_DONTNEED)
			cache_renew(cache_of(r));
		else if ((r->flags & REGION_SHARED) || advice == MADV_WILLNEED)
			cache_advise(p, cache_of(r), vpn_of(s) + r->delta, vpn_of(e) + r->delta,
				     advice);
	}
}

/* ---- backings ---- */

long do_backing_open(struct mm *mm, struct map_file *m)
{
	long r;

	if (m->source != NULL)
		r = cache_open_source(mm, m->source, m->size, m->write, &m->pc);
	else
		r = cache_open_file(mm, m->fd, m->write, &m->pc);
	if (r == 0)
		m->pc->handles++;
	return r;
}

long do_backing_close(struct pager *p, struct pagecache *pc)
{
	int err = 0;

	if (pc->source == NULL) {
		if (pc->users.count == 0)
			err = cache_write_all(p, pc);
		pc->handles--;
	} else {
		/* more than the backing's own: a fl_sync() of what was mapped has not ended */
		if (pc->users.count != 0 || pc->handles > 1)
			return -EBUSY;
		err = cache_flush(p, pc);
		cache_free(pc);
	}
	/* that says that it is mapped, and stays open */
	return err == -EBUSY ? -EIO : err;
}

long do_source_done(struct pager *p, struct file_io *io, int res)
{
	io->pager = p;
	io->done(io, res);
	return 0;
}
