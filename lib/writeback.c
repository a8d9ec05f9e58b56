/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * writeback.c - dirty pages of files go to where they belong; see pagecache.h.
 *
 * A write takes dirty pages that are adjacent, write-protects them wherever they
 * are mapped and then reads their bytes: what a thread stores after is dirty
 * again.  The last page of a file that ends within it is written by itself,
 * buffered and no further than the file's end.
 *
 * In the background: what has been dirty for the option dirty_expire, and everything while
 * more of the limit is dirty than dirty_background says; beside reads, than four times that.
 * A page whose write failed stays dirty, is tried again after RETRY_AGE, alone, and its error
 * is told by the next fl_msync() of its file.  What nobody maps any more is tried for some
 * time, and much longer where there may be room for it yet; then one line says what is lost.
 * The words of a server's memfd go on to say that it is dirty: whoever has it mapped all the
 * same brings it to the next server, or to this one when he comes again.
 *
 * Accepted: a file that others shorten between our look at its size and the
 * write of a page is made longer again by that write.
 */
#include "detour.h"
#include "do.h"
#include "mm.h"
#include "pager.h"
#include "sys.h"
#include "truncate.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define WRITE_PAGES 256U
#define RETRY_AGE 20U	   /* ticks: 5 s */
#define IN_FLIGHT 4096U	   /* pages: no more are written at once in the background, */
#define BESIDE_READS 8U	   /* and about so many while threads wait for reads */
#define LOOK_PAGES 4096U   /* of a file that are looked through before anything else is done */
#define READS_NS 10000000U /* after a read that may not have been the last */
#define ORPHAN_TRIES 8U	   /* RETRY_AGE apart, after which what nobody maps is given up, */
#define FULL_AGE 14400U	   /* where there was no room not before that; ticks: an hour */
#define BUS_NS 5000000U	   /* how long a page raises SIGBUS before it is looked at again */
#define TAKES_MAX 512U	   /* pages that are taken from all mappings in a round */

static bool is_tail(const struct pagecache *pc, uint64_t page)
{
	return pc->size % PAGE_SIZE != 0 && page == pc->size >> PAGE_SHIFT;
}

void files_tell(struct mm *mm)
{
	/* Release: who sees it grown sees what was changed; pairs with mm_msync() and its like. */
	__atomic_store_n(&mm->files.event, mm->files.event + 1, __ATOMIC_RELEASE);
	futex_wake(&mm->files.event, 1 << 20);
}

static uint64_t tick_of(uint64_t now)
{
	return now / FILE_TICK;
}

/* Nobody maps or holds it. */
static bool is_nobodys(const struct pagecache *pc)
{
	return pc->users.count == 0 && pc->handles == 0;
}

/* What fails together is one try. */
static void orphan_failed(struct pagecache *pc)
{
	uint64_t tick = tick_of(sys_now());

	if (pc->orphan_tries == 0)
		pc->orphan_since = tick;
	else if (tick - pc->orphan_tried < RETRY_AGE)
		return;
	pc->orphan_tried = tick;
	pc->orphan_tries++;
}

/* All are to be told. */
static void failed(struct pagecache *pc, int err)
{
	struct mm *mm = pc->mm;

	stat_add(&mm->stats.file_errors, 1);
	pc->failure.number = __atomic_add_fetch(&mm->files.failures, 1, __ATOMIC_RELAXED);
	pc->failure.err = err;
	pc->failure.seen = false;
}

static void write_failed(struct pagecache *pc, int err)
{
	if (pc->error == 0)
		mm_log(pc->mm, FL_LOG_ERROR, "cannot write to %s: %s", pc->name, log_strerror(err));
	pc->error = err;
	failed(pc, err);
	if (is_nobodys(pc))
		orphan_failed(pc);
}

/*
 * Whether all writes of the file that were in flight when pc->turns was `since` have ended,
 * whatever was begun since.  A turn ends when no write of the one before is left; so behind two
 * ends all from before are done.
 */
static bool turned(struct pagecache *pc, uint32_t since)
{
	while (pc->turns - since < 2 && pc->writing[(pc->turns + 1) % 2] == 0)
		pc->turns++;
	return pc->turns - since >= 2;
}

bool cache_written(struct pagecache *pc, uint64_t page, uint64_t stop, struct cache_wait *wait)
{
	if (cache_next(pc, page, CACHE_SYNC | CACHE_WRITEBACK) >= stop)
		return true;
	/* writes that begin later need not end: there may be some at any time */
	if (!wait->begun) {
		wait->begun = cache_next(pc, page, CACHE_SYNC) >= stop;
		wait->turns = pc->turns;
	}
	return wait->begun && turned(pc, wait->turns);
}

static void write_done(struct file_io *io, int res)
{
	struct pagecache *pc = io->pc;
	struct mm *mm = pc->mm;

	if (cache_write_refused(io, res))
		return;
	pc->writing[io->turn % 2]--;
	/* who is away for longer yet finds in the words that it was we who changed the file */
	if (pc->keep_until != 0)
		cache_keep(pc, CACHE_NOTE_NS);
	if (res != 0) {
		write_failed(pc, res);
	} else {
		pc->orphan_tries = 0;
		cache_wrote(pc, io->page, io->n);
	}
	for (uint64_t page = io->page; page < io->page + io->n; page++) {
		uint32_t w = cache_get(pc, page) & ~CACHE_WRITEBACK;

		if (res != 0 && !(w & CACHE_GONE))
			w |= CACHE_ERROR;
		else
			w = (w & ~CACHE_ERROR) | CACHE_UNSYNCED;
		cache_set(pc, page, w);
		if (w & CACHE_GONE) {
			cache_drop(pc, page, 1);
			cache_wake(pc, page, 1);
		} else if (res != 0) {
			cache_dirty(pc, page);
		}
	}
	cache_io_end(io);
	files_tell(mm);
}

int cache_sync_ended(const struct file_io *io, int res, uint64_t since)
{
	struct pagecache *pc = io->pc;

	pc->syncing--;
	if (res != 0) {
		failed(pc, res);
		pc->bad_sync = pc->failure.number;
		cache_synced(pc, false);
		return res;
	}
	/* what was written meanwhile may not be durable, nor what another sync may be about to fail for */
	if (pc->syncing == 0 && pc->wrote == io->wrote)
		cache_synced(pc, true);
	return pc->bad_sync > since ? pc->failure.err : 0;
}

uint32_t cache_write(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n)
{
	struct mm *mm = p->mm;
	struct file_io *io;
	uint64_t run = 0;
	bool tail;

	if (!pc->writable)
		return 0;
	/* what others have cut off is not to come back */
	cache_look_at_size(pc);
	if (n > WRITE_PAGES)
		n = WRITE_PAGES;
	if (n > CHUNK_PAGES - page % CHUNK_PAGES)
		n = CHUNK_PAGES - page % CHUNK_PAGES;
	n = cut_before(pc, page, n);
	tail = is_tail(pc, page);
	while (run < n) {
		uint32_t w = cache_get(pc, page + run);

		if (!(w & CACHE_DIRTY) || (w & (CACHE_WRITEBACK | CACHE_LOCKED | CACHE_LEFT)))
			break;
		/* alone: what may fail again, and the tail */
		if (run != 0 && ((w & CACHE_ERROR) || is_tail(pc, page + run)))
			break;
		run++;
		if ((w & CACHE_ERROR) || tail)
			break;
	}
	if (run == 0)
		return 0;
	io = pool_get(&mm->files.io_pool);
	if (io == NULL)
		return 0;
	if (!cache_protect(pc, page, run)) {
		pool_put(&mm->files.io_pool, io);
		return 0;
	}
	if (cache_note(pc, page, run) != 0) {
		/* dirty as they are, and protected: a store is a fault as good as any */
		pool_put(&mm->files.io_pool, io);
		return 0;
	}
	for (uint64_t i = 0; i < run; i++)
		cache_set(pc, page + i,
			  (cache_get(pc, page + i) & ~(CACHE_DIRTY | CACHE_SYNC)) |
				  CACHE_WRITEBACK);
	io->pager = p;
	io->pc = pc;
	io->page = page;
	io->n = (uint32_t)run;
	io->bytes = tail ? pc->size % PAGE_SIZE : run * PAGE_SIZE;
	io->iov = (struct iovec){cache_addr(pc, page), io->bytes};
	io->req.dev = tail ? &pc->tail : &pc->wr;
	io->req.op = BLK_WRITE;
	io->done = write_done;
	io->turn = pc->turns;
	pc->writing[io->turn % 2]++;
	stat_add(&mm->stats.file_writes, 1);
	stat_add(&mm->stats.file_write_pages, run);
	cache_start(io);
	return (uint32_t)run;
}

/* ---- in the background ---- */

static bool is_due(const struct mm *mm, uint32_t w, uint32_t tick, bool young)
{
	uint16_t age = (uint16_t)(tick - (w >> CACHE_TICK_SHIFT));

	if (w & CACHE_WRITEBACK)
		return false;
	if (w & CACHE_ERROR)
		return age >= RETRY_AGE;
	return young || age >= mm->opt.dirty_expire;
}

/* So much may be dirty before all of it is written, */
static uint64_t share(const struct mm *mm)
{
	return mm->limit * mm->opt.dirty_background / 100;
}

/* and so much while threads wait for reads. */
static uint64_t share_beside_reads(const struct mm *mm)
{
	uint64_t most = mm->limit / 2;

	return 4 * share(mm) < most ? 4 * share(mm) : most;
}

/* Threads wait for reads, or did a moment ago. */
static bool reads_wait(const struct files *f, uint64_t now)
{
	return f->reading != 0 || now - f->read_ended < READS_NS;
}

/*
 * How much may be on its way in the background.  A device that has many writes to do
 * lets reads wait: beside them it is little, and the more the further the dirty pages are
 * above what may be dirty then, so that they do not fill the cache.
 */
static uint64_t most_in_flight(const struct mm *mm, uint64_t now)
{
	const struct files *f = &mm->files;
	uint64_t enough = share_beside_reads(mm);
	uint64_t over = f->dirty > enough ? f->dirty - enough : 0;
	uint64_t most = BESIDE_READS + over * IN_FLIGHT / (enough / 4 + 1);

	return reads_wait(f, now) && most < IN_FLIGHT ? most : IN_FLIGHT;
}

/* Pages are written that are not old yet. */
static bool draining(const struct mm *mm, uint64_t now)
{
	const struct files *f = &mm->files;

	return f->drained != 0 && (f->dirty > share_beside_reads(mm) || !reads_wait(f, now));
}

/* There is more to look at, and room in flight for what may be found. */
static bool goes_on(const struct mm *mm, uint64_t now)
{
	return mm->files.behind && mm->files.writeback < most_in_flight(mm, now) / 2;
}

/*
 * It goes on where it stopped, around the file, so that pages that are written to again and
 * again are written no more often than others, and a fault never waits for all to be looked at.
 */
static void write_due(struct pager *p, struct pagecache *pc, uint64_t now)
{
	const uint32_t tick = (uint32_t)tick_of(now) & 0xffff;
	const uint64_t most = most_in_flight(p->mm, now);
	struct files *f = &p->mm->files;
	uint64_t page = pc->write_next, stop = page + LOOK_PAGES;
	bool young = draining(p->mm, now);

	while ((page = cache_next_before(pc, page, stop, CACHE_DIRTY)) != CACHE_NONE) {
		uint32_t n = 0;

		if (f->writeback >= most) {
			stop = page;
			break;
		}
		if (is_due(p->mm, cache_get(pc, page), tick, young) ||
		    (is_nobodys(pc) && !(cache_get(pc, page) & CACHE_ERROR)))
			n = cache_write(p, pc, page, WRITE_PAGES);
		page += n != 0 ? n : 1;
	}
	page = cache_next(pc, stop, CACHE_DIRTY);
	pc->write_next = page != CACHE_NONE ? page : 0;
	f->behind |= page != CACHE_NONE;
}

/*
 * Whether nobody maps it, as far as we know, and its writes fail for good; stuck: so many pages are
 * dirty of such.  What may get room yet is not to take more than half of the cache from others.
 */
static bool is_hopeless(const struct pagecache *pc, uint64_t stuck, uint64_t now)
{
	bool full = pc->failure.err == -ENOSPC || pc->failure.err == -EDQUOT;

	/* the next try may be under way */
	if (!is_nobodys(pc) || pc->given_up || pc->dirty == 0 || pc->inflight != 0 ||
	    pc->orphan_tries < ORPHAN_TRIES)
		return false;
	return !full || stuck > pc->mm->limit / 2 || tick_of(now) - pc->orphan_since >= FULL_AGE;
}

void cache_give_up(struct pagecache *pc)
{
	/* 0: none was begun, which only memory is wanting for */
	const int err = pc->failure.err != 0 ? pc->failure.err : -ENOMEM;

	if (pc->mm->flags & MM_SERVER) {
		mm_log(pc->mm, FL_LOG_ERROR,
		       "%s: %lu pages could not be written, and are lost unless a program has them "
		       "mapped: %s",
		       pc->name, (unsigned long)pc->dirty, log_strerror(err));
		pc->given_up = true;
		return;
	}
	mm_log(pc->mm, FL_LOG_ERROR, "%s: %lu pages that could not be written are lost: %s",
	       pc->name, (unsigned long)pc->dirty, log_strerror(err));
	for (uint64_t page = 0; (page = cache_next(pc, page, CACHE_DIRTY)) != CACHE_NONE; page++)
		cache_set(pc, page, cache_get(pc, page) & ~CACHE_DIRTY);
}

/* What is hopeless anyway goes first: that may leave enough for what may get room yet. */
static void give_up_hopeless(struct mm *mm, uint64_t now)
{
	struct files *f = &mm->files;
	uint64_t stuck = 0;

	for (const struct pagecache *pc = f->first; pc != NULL; pc = pc->next)
		if (is_nobodys(pc) && pc->orphan_tries != 0)
			stuck += pc->dirty;
	for (unsigned second = 0; second < 2; second++)
		for (struct pagecache *pc = f->first; pc != NULL; pc = pc->next) {
			uint64_t n = pc->dirty;

			if (!is_hopeless(pc, second ? stuck : 0, now))
				continue;
			cache_give_up(pc);
			stuck -= n;
		}
}

/* What was written long enough ago is clean, or dirty after all. */
static void settle(struct mm *mm)
{
	struct files *f = &mm->files;
	unsigned takes = 0;

	f->unsettled = false;
	for (struct pagecache *pc = f->first; pc != NULL; pc = pc->next) {
		uint64_t page = 0;

		for (; pc->recent != 0 && (page = cache_next(pc, page, CACHE_RECENT)) != CACHE_NONE;
		     page++) {
			uint64_t loose = pc->loose;

			if (takes == TAKES_MAX) {
				f->unsettled = true;
				return;
			}
			cache_settled(pc, page);
			takes += pc->loose != loose;
		}
	}
}

/* Nobody maps or holds it, nor is it kept for who may come. */
static bool is_orphan(const struct pagecache *pc)
{
	return is_nobodys(pc) && (pc->dirty != 0 || !cache_is_kept(pc));
}

static bool over_share(const struct mm *mm)
{
	return mm->files.dirty > share(mm);
}

void files_round(struct pager *p)
{
	struct mm *mm = p->mm;
	struct files *f = &mm->files;
	bool orphans = false;
	uint64_t now;

	if (f->dead != NULL)
		cache_bury(mm);
	if (f->first == NULL)
		return;
	if (f->reading != 0)
		detour_round(p, sys_now());
	if (f->drained == 0 && over_share(mm))
		f->drained = share(mm) / 2;
	if (f->drained != 0 && f->dirty <= f->drained)
		f->drained = 0;
	for (const struct pagecache *pc = f->first; pc != NULL; pc = pc->next)
		orphans |= is_orphan(pc);
	if (f->nbus == 0 && !orphans && f->drained == 0 && f->dirty == 0 && f->recent == 0)
		return;
	now = sys_now();
	if (f->nbus != 0)
		file_sigbus_end(mm, now);
	if (f->recent != 0 && (now >= f->next_tick || f->unsettled)) {
		settle(mm);
		/* what is dirty after all is so since then: no page's age is below 0 */
		now = sys_now();
		if (f->dirty == 0)
			f->next_tick = now + FILE_TICK;
	}
	if (f->dirty != 0 &&
	    (now >= f->next_tick || orphans ||
	     ((draining(mm, now) || f->behind) && f->writeback < most_in_flight(mm, now) / 2))) {
		f->behind = false;
		for (struct pagecache *pc = f->first; pc != NULL; pc = pc->next)
			if (pc->dirty != 0)
				write_due(p, pc, now);
		f->next_tick = now + FILE_TICK;
	}
	if (!orphans)
		return;
	give_up_hopeless(mm, now);
	cache_sweep(p);
}

bool files_settling(const struct mm *mm)
{
	if (mm->files.cuts != 0)
		return true;
	return mm->files.recent != 0 && sys_now() < mm->files.recent_until;
}

/* When the first of those that are kept for who may come goes, in ns from now, or `at`. */
static uint64_t kept_until(const struct files *f, uint64_t at)
{
	for (const struct pagecache *pc = f->first; pc != NULL; pc = pc->next) {
		uint64_t now;

		if (pc->keep_until == 0 || !is_nobodys(pc))
			continue;
		now = sys_now();
		if (pc->keep_until > now && pc->keep_until - now < at)
			at = pc->keep_until - now;
	}
	return at;
}

uint64_t files_timeout(const struct mm *mm)
{
	const struct files *f = &mm->files;
	uint64_t at = UINT64_MAX;
	uint64_t now;

	if (f->reading != 0)
		at = DETOUR_NS;
	if (mm->flags & MM_SERVER)
		at = peers_timeout(mm, kept_until(f, at));
	if (f->dirty == 0 && f->nbus == 0 && f->recent == 0)
		return at;
	now = sys_now();
	if ((f->unsettled && f->recent != 0) || (f->dirty != 0 && goes_on(mm, now)))
		return 1;
	/* of what is locked there is nothing to wait for */
	if ((f->dirty != 0 || (f->recent != 0 && now < f->recent_until + FILE_TICK)) &&
	    (f->next_tick <= now || f->next_tick - now < at))
		at = f->next_tick > now ? f->next_tick - now : 1;
	if (f->nbus != 0 && at > BUS_NS)
		at = BUS_NS;
	return at;
}

/* ---- the end ---- */

int cache_write_all(struct pager *p, struct pagecache *pc)
{
	int err;

	pc->handles++;
	cache_look_again(pc, 0, CACHE_NONE);
	for (unsigned tries = 0; tries < CLOSE_TRIES && pc->dirty != 0; tries++) {
		for (uint64_t page = 0; (page = cache_next(pc, page, CACHE_DIRTY)) != CACHE_NONE;) {
			uint32_t n = cache_write(p, pc, page, WRITE_PAGES);

			page += n != 0 ? n : 1;
		}
		while (pc->inflight != 0)
			pager_pump(p);
	}
	while (pc->inflight != 0)
		pager_pump(p);
	pc->handles--;
	err = pc->error;
	pc->error = 0;
	return err;
}

int cache_flush(struct pager *p, struct pagecache *pc)
{
	int err = cache_write_all(p, pc);

	if (pc->dirty != 0) {
		err = err != 0 ? err : -ENOMEM;
		cache_give_up(pc);
	}
	return err;
}

static void unmap_files(struct mm *mm)
{
	const struct region *r;

	for (const struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		while ((r = pc->users.first) != NULL) {
			uintptr_t start = r->start, end = r->end;

			SYS2(munmap, start, end - start);
			if (do_forget(mm, start, end) != 0)
				log_fatal("no memory to forget a mapping");
		}
}

void files_close(struct pager *p)
{
	struct mm *mm = p->mm;
	struct pagecache *pc;

	if (mm->flags & MM_SERVER)
		peers_stop(mm);
	unmap_files(mm);
	while ((pc = mm->files.first) != NULL) {
		cache_flush(p, pc);
		cache_free(pc);
	}
}
