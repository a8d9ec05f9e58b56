/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filedata.c - a mapped file's bytes for others; see filedata.h.
 */
#include "filedata.h"

#include "do.h"
#include "mm.h"
#include "pager.h"
#include "sys.h"
#include "truncate.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

static struct pagecache *find(const struct mm *mm, const struct filedata *d)
{
	return cache_find(mm, d->dev, d->ino);
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

/*
 * Bytes into a page that is mapped (from NULL: zeros), each stored once: memcpy(3) may store some
 * twice, and would undo what a program that has seen them stored in between.
 */
static void put_bytes(char *to, const char *from, size_t n)
{
	static const char zeros[PAGE_SIZE];
	const char *end = to + n;

	if (from == NULL)
		from = zeros;
	while (to != end && (uintptr_t)to % sizeof(uint64_t) != 0)
		__atomic_store_n(to++, *from++, __ATOMIC_RELAXED);
	for (; (size_t)(end - to) >= sizeof(uint64_t); to += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, from, sizeof(word));
		__atomic_store_n((uint64_t *)(void *)to, word, __ATOMIC_RELAXED);
		from += sizeof(word);
	}
	while (to != end)
		__atomic_store_n(to++, *from++, __ATOMIC_RELAXED);
}

/* ---- reading ---- */

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

/* ---- writing ---- */

static bool is_cached(uint32_t w)
{
	return (w & CACHE_UPTODATE) && !(w & CACHE_GONE);
}

/* I/O is in flight there that has to end first. */
static bool is_in_the_way(uint32_t w)
{
	return (w & CACHE_LOCKED) || ((w & CACHE_GONE) && (w & (CACHE_WRITEBACK | CACHE_LEFT)));
}

bool filedata_is_past(const struct pagecache *pc, uint64_t page, bool waits)
{
	bool is = false;

	for (struct past *past = pc->past; past != NULL; past = past->next) {
		if (page < past->page || page >= past->end)
			continue;
		past->awaited |= waits;
		is = true;
	}
	return is;
}

static void past_begins(struct pagecache *pc, struct past *past)
{
	past->awaited = false;
	past->next = pc->past;
	pc->past = past;
	pc->handles++;
}

static void past_ends(struct pagecache *pc, struct past *past)
{
	uint64_t n = past->end - past->page, part;
	struct past **link = &pc->past;
	vpn_t vpn;

	while (*link != past)
		link = &(*link)->next;
	*link = past->next;
	pc->handles--;
	if (!past->awaited)
		return;
	cache_wake(pc, past->page, n);
	/* who asked for a page that no thread of his touches asks again: peer_store() */
	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if (r->peer != NULL && (r->prot & PROT_WRITE) &&
		    cache_part(r, past->page, n, &vpn, &part))
			peer_cleaned(r->peer);
}

static uint64_t next_byte(const struct filedata *d)
{
	return d->off + d->done;
}

/* Absent pages from the next byte on, up to one that is cached or being read, are the caller's. */
static void leave_to_caller(struct pagecache *pc, struct filedata *d)
{
	uint64_t page = next_byte(d) >> PAGE_SHIFT, end = end_page(d);
	uint64_t stop = cache_next_before(pc, page + 1, end, CACHE_UPTODATE | CACHE_LOCKED);

	d->past.page = page;
	d->past.end = stop < end ? stop : end;
	d->stop = stop < end ? (stop << PAGE_SHIFT) - d->off : d->size;
	cache_grow(pc, d->off + d->stop);
	past_begins(pc, &d->past);
	d->is_past = true;
}

/* The next bytes lie in a cached page. */
static int write_page(struct pagecache *pc, struct filedata *d)
{
	uint64_t page = next_byte(d) >> PAGE_SHIFT;
	size_t from;
	size_t n = part_of(d, page, &from);
	uint64_t end = next_byte(d) + n;
	long r;

	if (end > pc->size) {
		cache_grow(pc, end);
		r = SYS2(ftruncate, d->fd, end);
		if (sys_err(r))
			return (int)r;
		pc->size = end;
	}
	put_bytes(cache_addr(pc, page) + from, d->buf + d->done, n);
	cache_dirty(pc, page);
	d->done = d->stop = d->done + n;
	return 0;
}

static void look_at_end(struct pagecache *pc, struct filedata *d)
{
	cache_look_at_size(pc);
	if (d->append && d->done == 0)
		d->off = pc->size;
}

/*
 * An absent page stays absent from leave_to_caller() to past_ends().  What could bring it, or
 * bytes of another time, meanwhile:
 *	a read in flight	its page was LOCKED, which is waited for before it is looked at
 *	a touch, read-ahead	no read begins (read_run()), the touch waits
 *	another writer		notes the page as well: it is absent until both have ended
 *	truncation, a hole	change the backing, in the kernel's order with the write; nothing
 *				is cached that could come back
 *	the end of the cache	is not while it has handles
 * So what is read and stored to afterwards is newer than the write, all of it.  In a cached page
 * the bytes take their place among the stores here, under the mm lock; it is dirty, so a
 * write-back in flight is followed by another.  The file grows by such a page as by any write
 * that ends there; what was stored behind its end before is zeros by then.
 */
long filedata_write(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);
	int err = 0;

	if (pc == NULL)
		return -ENOENT;
	if (d->is_past)
		past_ends(pc, &d->past);
	d->is_past = false;
	look_at_end(pc, d);
	while (err == 0 && d->done < d->size) {
		uint64_t page = next_byte(d) >> PAGE_SHIFT;
		uint32_t w = cache_get(pc, page);

		if (is_in_the_way(w)) {
			pc->handles++;
			pager_pump(p);
			pc->handles--;
			look_at_end(pc, d);
		} else if (!is_cached(w)) {
			/* one that was truncated, and could not be dropped then */
			if (w != 0)
				cache_drop(pc, page, 1);
			leave_to_caller(pc, d);
			break;
		} else if (pc->writable) {
			err = write_page(pc, d);
		} else if (cache_open_here(p->mm, d->fd, true, &pc) != 0) {
			/* mapped for reading only: it can take nothing that is to be written later */
			err = -EIO;
		}
	}
	return err;
}

long filedata_give_up(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	if (pc == NULL)
		return -ENOENT;
	if (d->is_past)
		past_ends(pc, &d->past);
	d->is_past = false;
	cache_look_at_size(pc);
	return 0;
}

long filedata_hold(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	if (pc == NULL)
		return -ENOENT;
	d->whole->page = 0;
	d->whole->end = CACHE_NONE;
	past_begins(pc, d->whole);
	return 0;
}

long filedata_let_go(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	if (pc == NULL)
		return -ENOENT;
	cache_look_at_size(pc);
	for (uint64_t page = first_page(d); d->buf != NULL && page < end_page(d); page++) {
		size_t from;
		size_t n = part_of(d, page, &from);

		if (!is_cached(cache_get(pc, page)))
			continue;
		put_bytes(cache_addr(pc, page) + from,
			  d->buf + ((page << PAGE_SHIFT) + from - d->off), n);
		/* an older copy may be on its way, or there */
		if (pc->writable)
			cache_dirty(pc, page);
	}
	past_ends(pc, d->whole);
	return 0;
}

/* ---- the rest ---- */

long filedata_cut(struct pager *p, void *arg)
{
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	return pc != NULL ? cut_file(p, pc, d->fd, (long)d->size) : -ENOENT;
}

/* [from, from + n) of a page is zeros in the file. */
static void zero_part(struct pagecache *pc, uint64_t page, size_t from, size_t n)
{
	uint32_t w = cache_get(pc, page);

	/* who knows what its read found there */
	if (w & CACHE_LOCKED)
		cache_set(pc, page, w | CACHE_GONE);
	else if (n != PAGE_SIZE || !cache_drop(pc, page, 1))
		put_bytes(cache_addr(pc, page) + from, NULL, n);
}

long filedata_allocate(struct pager *p, void *arg)
{
	const int zeroing = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);
	struct cache_cut cut = {.page = first_page(d), .end = end_page(d)};
	long r;

	if (pc == NULL)
		return -ENOENT;
	/* what moves bytes would have to move pages */
	if (d->mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		return -EOPNOTSUPP;
	cut_begin(p, pc, &cut);
	while (cache_next(pc, cut.page, CACHE_LEFT) < cut.end)
		pager_pump(p);
	cache_look_at_size(pc);
	if (!(d->mode & FALLOC_FL_KEEP_SIZE))
		cache_grow(pc, d->off + d->size);
	r = SYS4(fallocate, d->fd, d->mode, d->off, d->size);
	if (!sys_err(r))
		cache_look_at_size(pc);
	if (sys_err(r) || !(d->mode & zeroing))
		cut.end = cut.page;
	for (uint64_t page = cut.page;
	     (page = cache_next(pc, page, CACHE_UPTODATE | CACHE_LOCKED)) < cut.end; page++) {
		size_t from;
		size_t n = part_of(d, page, &from);

		zero_part(pc, page, from, n);
	}
	cut_end(pc, &cut);
	return r;
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

long filedata_clean(struct pager *p, void *arg)
{
	const struct filedata *d = arg;
	struct pagecache *pc = find(p->mm, d);

	return pc != NULL ? peers_write_file(p->mm, pc, d->wait) : -ENOENT;
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
