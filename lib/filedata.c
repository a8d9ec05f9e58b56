/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filedata.c - a mapped file's bytes for others; see filedata.h.
 */
#include "filedata.h"

#include "do.h"
#include "mm.h"
#include "pager.h"
#include "sys.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>

static struct pagecache *find(const struct mm *mm, const struct filedata *d)
{
	struct pagecache *pc = mm->files.first;

	while (pc != NULL && (pc->source != NULL || pc->dev != d->dev || pc->ino != d->ino))
		pc = pc->next;
	return pc;
}

/* The part of [off, off + size) that lies in a page: its first byte there, and how many. */
static size_t part_of(const struct filedata *d, uint64_t page, size_t *from)
{
	uint64_t start = page << PAGE_SHIFT;
	uint64_t first = d->off > start ? d->off : start;
	uint64_t end = start + PAGE_SIZE;

	if (d->off + d->size < end)
		end = d->off + d->size;
	*from = (size_t)(first - start);
	return (size_t)(end - first);
}

static uint64_t first_page(const struct filedata *d)
{
	return d->off >> PAGE_SHIFT;
}

static uint64_t end_page(const struct filedata *d)
{
	return (d->off + d->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

long filedata_read(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);
	uint64_t page = first_page(d);

	if (pc == NULL)
		return -ENOENT;
	cache_look_at_size(pc);
	if (d->off >= pc->size)
		d->size = 0;
	else if (d->size > pc->size - d->off)
		d->size = pc->size - d->off;
	for (uint64_t i = 0; d->size != 0 && page + i < end_page(d); i++) {
		uint32_t w = cache_get(pc, page + i);
		size_t from;
		size_t n = part_of(d, page + i, &from);

		d->have[i] = (w & CACHE_UPTODATE) && !(w & CACHE_GONE);
		if (d->have[i])
			memcpy(d->buf + (((page + i) << PAGE_SHIFT) + from - d->off),
			       cache_addr(pc, page + i) + from, n);
	}
	return 0;
}

/* Wait for reads (and writes) of a range; the cache may go meanwhile: NULL. */
static struct pagecache *settle(struct pager *p, const struct filedata *d, uint32_t busy)
{
	struct pagecache *pc;

	while ((pc = find(p->mm, d)) != NULL && cache_next(pc, first_page(d), busy) < end_page(d))
		pager_pump(p);
	return pc;
}

/* The last page is cached, and the file grows by a part of it. */
static int grow_tail(struct pagecache *pc, int fd, uint64_t end)
{
	uint64_t last = pc->size >> PAGE_SHIFT;
	long r;

	if (end <= pc->size || pc->size % PAGE_SIZE == 0 || !(cache_get(pc, last) & CACHE_UPTODATE))
		return 0;
	cache_grow(pc, end);
	if (end > (last + 1) << PAGE_SHIFT)
		end = (last + 1) << PAGE_SHIFT;
	r = SYS2(ftruncate, fd, end);
	if (sys_err(r))
		return (int)r;
	pc->size = end;
	return 0;
}

long filedata_write(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc;
	int err = 0;

	for (;;) {
		pc = find(p->mm, d);
		if (pc == NULL)
			return -ENOENT;
		cache_look_at_size(pc);
		if (d->append)
			d->off = pc->size;
		if (cache_next(pc, first_page(d), CACHE_LOCKED) >= end_page(d))
			break;
		pager_pump(p);
	}
	/* one that is mapped for reading only can take nothing that is to be written later */
	if (!pc->writable && cache_open_here(p->mm, d->fd, true, &pc) != 0)
		return 0;
	err = grow_tail(pc, d->fd, d->off + d->size);
	for (uint64_t page = first_page(d); err == 0 && page < end_page(d); page++) {
		uint32_t w = cache_get(pc, page);
		size_t from;
		size_t n = part_of(d, page, &from);

		if (!(w & CACHE_UPTODATE) || (w & CACHE_GONE))
			continue;
		memcpy(cache_addr(pc, page) + from, d->buf + ((page << PAGE_SHIFT) + from - d->off),
		       n);
		cache_dirty(pc, page);
		d->have[page - first_page(d)] = true;
	}
	return err;
}

long filedata_written(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	/* a read that is under way may have begun before the bytes were written */
	struct pagecache *pc = settle(p, d, CACHE_LOCKED);

	if (pc == NULL)
		return -ENOENT;
	cache_look_at_size(pc);
	for (uint64_t page = first_page(d); page < end_page(d); page++) {
		uint32_t w = cache_get(pc, page);
		size_t from;
		size_t n = part_of(d, page, &from);

		if (d->have[page - first_page(d)] || !(w & CACHE_UPTODATE) || (w & CACHE_GONE))
			continue;
		memcpy(cache_addr(pc, page) + from, d->buf + ((page << PAGE_SHIFT) + from - d->off),
		       n);
		/* an older copy may be on its way */
		if (w & (CACHE_DIRTY | CACHE_WRITEBACK))
			cache_dirty(pc, page);
	}
	return 0;
}

long filedata_cut(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	return pc != NULL ? cut_file(p, pc, d->fd, (long)d->size) : -ENOENT;
}

long filedata_allocate(struct pager *p, void *arg)
{
	const int zeroing = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct filedata *d = arg;
	struct pagecache *pc = settle(p, d, CACHE_LOCKED | CACHE_WRITEBACK);
	long r;

	if (pc == NULL)
		return -ENOENT;
	/* what moves bytes would have to move pages */
	if (d->mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		return -EOPNOTSUPP;
	cache_look_at_size(pc);
	if (!(d->mode & FALLOC_FL_KEEP_SIZE))
		cache_grow(pc, d->off + d->size);
	r = SYS4(fallocate, d->fd, d->mode, d->off, d->size);
	if (sys_err(r))
		return r;
	cache_look_at_size(pc);
	for (uint64_t page = first_page(d); (d->mode & zeroing) && page < end_page(d); page++) {
		size_t from, n;

		page = cache_next(pc, page, CACHE_UPTODATE);
		if (page >= end_page(d))
			break;
		n = part_of(d, page, &from);
		if (n == PAGE_SIZE && cache_drop(pc, page, 1))
			continue;
		memset(cache_addr(pc, page) + from, 0, n);
	}
	return 0;
}

long filedata_sync(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);
	struct cache_failure *f;
	int err = 0;

	if (pc != NULL)
		return peers_sync_file(p->mm, pc, d->heard, d->wait);
	f = cache_failed(p->mm, d->dev, d->ino);
	if (f != NULL && d->heard != NULL)
		err = cache_news(f, d->heard);
	return err != 0 ? err : -ENOENT;
}

long filedata_opened(struct pager *p, void *arg)
{
	const struct filedata *d = arg;

	*d->heard = cache_heard(p->mm, find(p->mm, d), d->fd);
	return 0;
}

long filedata_dirty(struct pager *p, void *arg)
{
	const struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	if (pc == NULL)
		return -ENOENT;
	cache_look_at_size(pc);
	return pc->dirty != 0 || cache_next(pc, 0, CACHE_WRITEBACK) != CACHE_NONE;
}

long filedata_stored_to(struct pager *p, void *arg)
{
	const struct pagecache *pc = find(p->mm, arg);

	return pc != NULL ? peers_store_to(pc) : -ENOENT;
}
