/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault-file.c - faults in mappings of files (the kernel's filemap_fault and
 * page_mkwrite).
 *
 * A page that is cached is let into a shared mapping by UFFDIO_CONTINUE, with its
 * cached neighbours, and into a private one that may only be read (unshare.c): below, that
 * is a shared one, too; into another private one by UFFDIO_COPY.  What was just read for
 * a shared mapping of ours, and landed elsewhere, is put there by UFFDIO_COPY, and
 * is cached by that; so is what a stream reads ahead, but for the first pages of each
 * window: their touch tells that the stream goes on.  In each way it is write-protected
 * unless a write faulted.  A page that is not cached is read once for any number of threads:
 * the word of each page tells that a read is under way (CACHE_LOCKED) and that somebody
 * waits (CACHE_DEMAND); they wait in the kernel's queue until the end of the read lets
 * the page in, or wakes them to look again.
 *
 * Untouched pages of a private mapping have no page entry (NONE): they are the
 * file's.  One that was copied and not written is PRESENT with PTE_WP and
 * without a slot; it is dropped back to NONE.
 *
 * Beyond the end of the file, and where a page cannot be read twice in a row,
 * the touch raises SIGBUS by UFFDIO_POISON, which is taken back after some
 * milliseconds: who touches the page then asks again, and a file may have grown.
 */
#include "detour.h"
#include "fault.h"
#include "filedata.h"
#include "reclaim.h"
#include "sys.h"
#include "truncate.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define AROUND 16U /* pages let in with one that is cached */
#define BUS_NS 5000000U
#define LET_IN_MAX 1024U  /* and with one that was read ahead */
#define LANDING_LEAST 4U  /* pages: of shorter runs only single pages land (landing.h) */
#define READ_PIECE 128U	  /* pages: what is waited for arrives in such pieces */
#define WINDOWS 4U	  /* of a stream, at a time, but */
#define WINDOW_LEAST 128U /* pages: where they would be smaller there are two */

/* Of what is read ahead the touch of so many pages of each window is heard of, or of any page. */
#define HEARD 8U
#define HEARD_ALL UINT32_MAX

static void read_done(struct file_io *io, int res);

/* ---- SIGBUS ---- */

static void bus_end(struct mm *mm, struct peer *peer, vpn_t vpn)
{
	const struct region *r = peer_region(mm, peer, addr_of(vpn));

	if (r == NULL || r->users == NULL)
		return;
	if (peer != NULL) {
		peer_bus_ended(peer, vpn);
		return;
	}
	if (!(r->flags & REGION_SHARED)) {
		if (pte_state(pte_get(&mm->ptes, vpn)) != PTE_POISONED)
			return;
		pte_set(&mm->ptes, vpn, 0);
	}
	/* of a shared mapping this can at worst take a page that is cached and comes again */
	SYS3(madvise, addr_of(vpn), PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

void file_sigbus_end(struct mm *mm, uint64_t now)
{
	struct files *f = &mm->files;
	unsigned kept = 0;

	for (unsigned i = 0; i < f->nbus; i++) {
		if (now != UINT64_MAX && now - f->bus[i].since < BUS_NS)
			f->bus[kept++] = f->bus[i];
		else
			bus_end(mm, f->bus[i].peer, f->bus[i].vpn);
	}
	f->nbus = kept;
}

void file_sigbus_forget(struct mm *mm, const struct peer *peer, vpn_t vpn, vpn_t end)
{
	struct files *f = &mm->files;
	unsigned kept = 0;

	for (unsigned i = 0; i < f->nbus; i++)
		if (f->bus[i].peer != peer || f->bus[i].vpn < vpn || f->bus[i].vpn >= end)
			f->bus[kept++] = f->bus[i];
	f->nbus = kept;
}

void file_sigbus(struct mm *mm, struct peer *peer, vpn_t vpn)
{
	struct files *f = &mm->files;
	const struct region *r = peer_region(mm, peer, addr_of(vpn));
	int uffd = peer_uffd(mm, peer);

	if (r != NULL && !(r->flags & REGION_SHARED)) {
		if (pte_state(pte_get(&mm->ptes, vpn)) != PTE_NONE ||
		    pte_reserve(&mm->ptes, vpn, 1) != 0) {
			peer_wake(mm, peer, vpn);
			return;
		}
		pte_set(&mm->ptes, vpn, pte_make(PTE_POISONED, 0, 0));
	}
	if (f->nbus == BUS_MAX) {
		bus_end(mm, f->bus[0].peer, f->bus[0].vpn);
		memmove(&f->bus[0], &f->bus[1], (BUS_MAX - 1) * sizeof(f->bus[0]));
		f->nbus--;
	}
	f->bus[f->nbus].peer = peer;
	f->bus[f->nbus].vpn = vpn;
	f->bus[f->nbus++].since = sys_now();
	/* a page that was write-protected and unmapped has left a mark that poison does not replace */
	if (r != NULL && (r->flags & REGION_SHARED))
		uffd_writeprotect(uffd, addr_of(vpn), PAGE_SIZE, false);
	uffd_poison(uffd, addr_of(vpn), PAGE_SIZE);
	peer_wake(mm, peer, vpn);
}

/* ---- letting pages in ---- */

/* Map n cached pages, or none, into a shared mapping; one that is there already is passed over. */
static void let_in(struct mm *mm, struct peer *peer, vpn_t vpn, uint64_t n, bool wp)
{
	int uffd = peer_uffd(mm, peer);
	uint64_t at = 0;

	while (at < n) {
		size_t done;
		enum uffd_result res =
			uffd_continue(uffd, addr_of(vpn + at), (n - at) * PAGE_SIZE, wp, &done);

		at += done >> PAGE_SHIFT;
		if (res == UFFD_OK)
			break;
		if (res == UFFD_GONE && done == 0 && n - at > 1) {
			uint64_t part = peer != NULL ? 1
						     : uffd_vma_part(mm->maps_fd, addr_of(vpn + at),
								     (n - at) * PAGE_SIZE) >>
							       PAGE_SHIFT;

			if (part < n - at) {
				let_in(mm, peer, vpn + at, part, wp);
				at += part;
				continue;
			}
		}
		if (res == UFFD_EXIST) {
			if (!wp)
				uffd_writeprotect(uffd, addr_of(vpn + at), PAGE_SIZE, false);
			peer_wake(mm, peer, vpn + at);
			at++;
			continue;
		}
		/* whoever waits there touches it again, and is looked at again */
		uffd_wake(uffd, addr_of(vpn + at), (n - at) * PAGE_SIZE);
		break;
	}
}

/* A stream brings pages. */
static void brings(struct pagecache *pc, uint64_t page, uint64_t n)
{
	struct mm *mm = pc->mm;

	for (uint64_t i = page; i < page + n; i++)
		workingset_brought(&mm->ws, cache_name(pc, i), mm_budget(mm));
}

/* Whether most of what streams bring left a short time before: then it would fit, and is to stay. */
static bool fits(const struct mm *mm)
{
	return workingset_again(&mm->ws, WS_STREAMS) >= WS_ONE / 2;
}

/* A stream has passed over pages: they leave for what is brought next. */
static void passed(struct pagecache *pc, const struct file_window *w, uint64_t page)
{
	if (w->passed < page && !fits(pc->mm))
		trail_add(&pc->mm->file_trail, pc, w->passed, page - w->passed);
}

void file_asked(struct pagecache *pc, uint64_t page, uint64_t n)
{
	struct mm *mm = pc->mm;
	uint32_t ahead = 0;

	for (uint64_t i = page; i < page + n; i++) {
		uint32_t w = cache_get(pc, i);

		if (w & CACHE_AHEAD) {
			ahead++;
			cache_set(pc, i, (w & ~(CACHE_AHEAD | CACHE_IDLE)) | CACHE_PLACED);
			brings(pc, i, 1);
		} else if (w & CACHE_IDLE) {
			cache_set(pc, i, (w & ~(CACHE_IDLE | CACHE_PLACED)) | CACHE_YOUNG);
			workingset_stays(&mm->ws, WS_FILES, cache_name(pc, i), mm_budget(mm));
		}
	}
	if (ahead != 0) {
		file_stream_asked(&pc->streams, ahead);
		stat_add(&mm->stats.readahead_hits, ahead);
	}
}

/* How many pages from `page` on, n at most, are cached alike: read ahead, and let in, or not. */
static uint64_t cached_run(const struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint32_t ahead = cache_get(pc, page) & CACHE_AHEAD;
	const uint32_t alike = CACHE_AHEAD | (ahead ? CACHE_PLACED : 0);
	const uint32_t first = cache_get(pc, page) & alike;
	uint64_t run = 1;

	if (n > CHUNK_PAGES - page % CHUNK_PAGES)
		n = CHUNK_PAGES - page % CHUNK_PAGES;
	while (run < n) {
		uint32_t w = cache_get(pc, page + run);

		if (!(w & CACHE_UPTODATE) || (w & (CACHE_GONE | CACHE_LEFT)) ||
		    (w & alike) != first || (!ahead && (w & CACHE_IDLE)))
			break;
		run++;
	}
	return run;
}

/*
 * A window begins to be touched: what is cached of the rest of it, [page, end), is asked for, too,
 * and what is being read is when it arrives.  How many were let in.
 */
static uint64_t let_in_ahead(const struct region *r, uint64_t page, uint64_t end)
{
	struct pagecache *pc = cache_of(r);
	uint64_t given = 0;

	/* behind the region something else may be mapped */
	if (end > vpn_of(r->end) + r->delta)
		end = vpn_of(r->end) + r->delta;
	for (uint64_t n; page < end; page += n) {
		uint32_t w = cache_get(pc, page);

		n = 1;
		if ((w & (CACHE_LOCKED | CACHE_AHEAD | CACHE_DEMAND | CACHE_GONE)) ==
		    (CACHE_LOCKED | CACHE_AHEAD))
			cache_set(pc, page, w | CACHE_DEMAND);
		if (!(w & CACHE_UPTODATE) || !(w & CACHE_AHEAD) || (w & (CACHE_GONE | CACHE_LEFT)))
			continue;
		n = cached_run(pc, page, end - page);
		file_asked(pc, page, n);
		if (!(w & CACHE_PLACED)) {
			let_in(pc->mm, r->peer, page - r->delta, n, true);
			given += n;
		}
	}
	return given;
}

/*
 * Copy cached pages into a private mapping, as far as frames allow and entries
 * are none; how many.  The page at vpn is one of them, or none is.
 */
static uint32_t copy_in(struct pager *p, const struct region *r, vpn_t vpn, uint64_t n, bool write)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = cache_of(r);
	uint64_t page = vpn + r->delta;
	enum uffd_result res;
	uint32_t run = 1;
	uint32_t got;
	size_t done;

	/* a page without write-protection counts as changed */
	if (write && (r->flags & REGION_HOLD))
		n = 1;
	if (n > mm_budget(mm) / 16)
		n = mm_budget(mm) / 16;
	while (run < n && pte_state(pte_get(&mm->ptes, vpn + run)) == PTE_NONE)
		run++;
	run = reclaim_some_room(p, run);
	/* making room may have taken the very pages */
	for (got = 0; got < run && (cache_get(pc, page + got) & CACHE_UPTODATE);)
		got++;
	run = got;
	if (run == 0 || pte_reserve(&mm->ptes, vpn, run) != 0)
		return 0;
	res = uffd_copy(mm->uffd, addr_of(vpn), cache_addr(pc, page), run * PAGE_SIZE, !write,
			&done);
	if (res == UFFD_GONE && done == 0 && run > 1) {
		run = (uint32_t)(uffd_vma_part(mm->maps_fd, addr_of(vpn), run * PAGE_SIZE) >>
				 PAGE_SHIFT);
		res = uffd_copy(mm->uffd, addr_of(vpn), cache_addr(pc, page), run * PAGE_SIZE,
				!write, &done);
	}
	got = (uint32_t)(done >> PAGE_SHIFT);
	for (uint32_t i = 0; i < got; i++) {
		pte_set(&mm->ptes, vpn + i,
			pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG | (write ? 0 : PTE_WP)));
		reclaim_came(mm, vpn + i);
	}
	if (res == UFFD_NOMEM && got == 0)
		return 0;
	if (res != UFFD_OK) {
		if (res == UFFD_EXIST)
			pte_set(&mm->ptes, vpn + got, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
		fault_wake(mm, vpn + got);
		got++;
	}
	return got;
}

/* Whether a shared mapping has pages of [page, page + n). */
static bool is_shared(const struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if ((r->flags & REGION_SHARED) && cache_part(r, page, n, &vpn, &part))
			return true;
	return false;
}

/*
 * Copy in what a stream reads.  Copies leave for the next ones, as what is swapped in does; what
 * was copied is there twice, and leaves where frames are short.
 */
static uint32_t copy_stream_in(struct pager *p, const struct region *r, vpn_t vpn, uint64_t n)
{
	struct pagecache *pc = cache_of(r);
	uint64_t page = vpn + r->delta;
	bool stays = fits(p->mm);
	uint32_t got;

	if (!stays)
		reclaim_trail(p, n);
	got = copy_in(p, r, vpn, n, false);
	if (got == 0)
		return 0;
	file_asked(pc, page, got);
	if (stays)
		return got;
	trail_add(&p->mm->trail, NULL, vpn, got);
	if (!is_shared(pc, page, got))
		cache_spare(pc, page, got, pc->users.count == 1 && reclaim_is_short(p->mm, n));
	return got;
}

/* ---- reading ---- */

/*
 * The shared mapping of ours in which threads wait for what is read: of one page that
 * where it was asked for, of more the only one.  NULL: there is none.  Never a peer's,
 * which may have anything else mapped there by now: a copy made no page of the cache then.
 */
static const struct region *where(const struct file_io *io)
{
	const struct pagecache *pc = io->pc;
	const struct region *r = pc->users.first;
	uint64_t part;
	vpn_t vpn;

	if (io->n == 1 && io->t0 != 0 && io->peer == NULL)
		r = region_find(&pc->mm->regions, addr_of(io->vpn));
	else if (pc->users.count != 1)
		return NULL;
	if (r == NULL || r->peer != NULL || !(r->flags & REGION_SHARED) || r->users != &pc->users ||
	    !cache_part(r, io->page, io->n, &vpn, &part) || part != io->n ||
	    (io->t0 != 0 && io->vpn != vpn))
		return NULL;
	return r;
}

/* It is absent, and not while somebody else changes what would be read. */
static bool is_to_be_read(const struct pagecache *pc, uint64_t page)
{
	return cache_get(pc, page) == 0 && (pc->past == NULL || !filedata_is_past(pc, page, false));
}

/*
 * Read the pages of [page, page + n) that are absent, n at most, as far as
 * frames allow; the first must be absent.  How many were started.  The first `heard` of
 * them are not let in before they are touched.
 */
static uint32_t read_run(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n,
			 uint32_t flags, uint32_t heard, const struct fault *f)
{
	struct mm *mm = p->mm;
	/* it must not wait here for who may wait for it */
	bool here = (mm->flags & MM_PRELOAD) && blkio_is_sync(p->io);
	uint64_t end = cache_pages(pc);
	struct file_io *io;
	uint32_t run = 0;

	if (page >= end || cache_reserve(pc, page) != 0)
		return 0;
	if (n > end - page)
		n = end - page;
	if (n > CHUNK_PAGES - page % CHUNK_PAGES)
		n = CHUNK_PAGES - page % CHUNK_PAGES;
	while (run < n && is_to_be_read(pc, page + run))
		run++;
	if (run == 0)
		return 0;
	run = (uint32_t)cache_may_bind(mm, run, false);
	if (run == 0 && (flags & CACHE_DEMAND)) {
		run = 1;
		here |= pc->source == NULL && cache_may_bind(mm, 1, true) == 0;
	}
	run = reclaim_some_room(p, run);
	if (run == 0 || cache_get(pc, page) != 0)
		return 0;
	io = pool_get(&mm->files.io_pool);
	if (io == NULL)
		return 0;
	for (uint32_t i = 0; i < run; i++)
		cache_set(pc, page + i, CACHE_LOCKED | flags);
	if ((flags & CACHE_DEMAND) && run > 1)
		brings(pc, page, run);
	else if (flags & CACHE_DEMAND)
		workingset_came(&mm->ws, WS_FILES, cache_name(pc, page), mm_budget(mm));
	io->pager = p;
	io->pc = pc;
	io->page = page;
	io->n = run;
	if (f != NULL) {
		io->t0 = f->t0;
		io->vpn = vpn_of(f->addr);
		io->peer = f->peer;
		if (f->peer != NULL)
			peer_hold(f->peer);
		io->write = f->write;
	}
	io->bytes = pc->size - (page << PAGE_SHIFT) < run * PAGE_SIZE
			    ? pc->size - (page << PAGE_SHIFT)
			    : run * PAGE_SIZE;
	io->heard = heard;
	io->landing = LANDING_NONE;
	io->iov = (struct iovec){cache_addr(pc, page), run * PAGE_SIZE};
	io->req.dev = &pc->rd;
	io->req.op = BLK_READ;
	io->done = read_done;
	io->direct = pc->source == NULL && pc->rd.fd != pc->fd;
	pc->direct_reads += io->direct;
	stat_add(&mm->stats.file_reads, 1);
	stat_add(&mm->stats.file_read_pages, run);
	if (pc->reading++ == 0)
		pc->read_since = sys_now();
	mm->files.reading++;
	if (here) {
		pc->inflight++;
		read_done(io, detour_read(pc, page, run));
		return run;
	}
	if (pc->source == NULL && run >= LANDING_LEAST)
		io->landing = landing_get(mm, run);
	else if (pc->source == NULL && run == 1 && (io->peer != NULL || where(io) != NULL))
		io->landing = landing_get_one(mm);
	if (io->landing != LANDING_NONE)
		io->iov.iov_base = landing_addr(mm, io->landing);
	cache_start(io);
	return run;
}

/* Whether so many more frames can be had without taking what is in use. */
static bool is_room(const struct mm *mm, uint64_t n)
{
	return mm_frames(mm) + n <= mm_budget(mm) || mm->files.idle >= n || reclaim_spares(mm, n);
}

/* Read what is absent there, in pieces; how many pages were started. */
static uint32_t read_absent(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n,
			    uint32_t heard)
{
	uint32_t total = 0;
	uint64_t end = page + n;

	while (page < end) {
		uint32_t run = 1;

		if (cache_get(pc, page) == 0) {
			run = read_run(p, pc, page,
				       end - page < READ_PIECE ? end - page : READ_PIECE,
				       CACHE_AHEAD, heard, NULL);
			if (run == 0)
				break;
			if (heard != HEARD_ALL)
				heard -= run < heard ? run : heard;
			total += run;
		}
		page += run;
	}
	return total;
}

uint64_t file_prefetch_most(const struct mm *mm)
{
	return mm_budget(mm) / 4;
}

uint32_t file_prefetch(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint64_t most = file_prefetch_most(p->mm);

	cache_look_at_size(pc);
	if (page >= cache_pages(pc))
		return 0;
	if (n > cache_pages(pc) - page)
		n = cache_pages(pc) - page;
	return read_absent(p, pc, page, n < most ? n : most, HEARD_ALL);
}

static void read_ahead(struct pager *p, struct pagecache *pc, const struct file_window *w)
{
	uint64_t at = w->ahead;

	for (uint32_t i = 0; i < w->count; i++, at += (uint64_t)w->step) {
		for (uint32_t k = 0, n; k < w->n_ahead; k += n) {
			uint32_t in = w->every != 0 ? (uint32_t)((at + k) % w->every) : 0;

			n = w->n_ahead - k < READ_PIECE ? w->n_ahead - k : READ_PIECE;
			/* none goes beyond its window */
			if (w->every != 0 && n > w->every - in)
				n = w->every - in;
			if (at + k >= cache_pages(pc) || !is_room(p->mm, n))
				return;
			read_absent(p, pc, at + k, n,
				    w->every == 0	? HEARD_ALL
				    : in == 0 || k == 0 ? HEARD
							: 0);
		}
	}
}

/* Tells mappings of a file apart.  In a process those of one distance from the file could be one. */
static uint64_t whose(const struct region *r)
{
	return r->delta + (uintptr_t)r->peer * 0x9e3779b97f4a7c15U;
}

/*
 * What all streams of a file may have at a time fits half the limit, but for the least windows.  Several small windows serve a stream
 * better than few large ones: what has landed is copied while the CPU's cache has it, and
 * the device is never without the next.  But each is a touch to be heard of.
 */
static struct file_reach reach_of(const struct mm *mm, const struct region *r)
{
	uint64_t room = mm_budget(mm) / 2 / STREAMS;
	struct file_reach reach = {.whose = whose(r),
				   .ahead = room / WINDOWS < WINDOW_LEAST ? 1 : WINDOWS - 1};

	reach.window = (uint32_t)(room / (1 + reach.ahead));
	if (reach.window < FILE_WINDOW_MIN)
		reach.window = FILE_WINDOW_MIN;
	if (reach.window > mm->opt.readahead)
		reach.window = mm->opt.readahead;
	reach.window = traits_window(mm, r, reach.window);
	if (reach.window < WINDOW_LEAST)
		reach.ahead = 1;
	return reach;
}

/*
 * A page that was read ahead is touched: what is to be read now, and how many pages from
 * there on may be let in with it, so that the touch of the one behind them is heard.
 */
static uint64_t followed(struct pager *p, struct pagecache *pc, const struct region *r,
			 uint64_t page, struct file_window *w)
{
	const uint32_t ahead = CACHE_AHEAD | CACHE_PLACED;
	struct file_reach reach;

	*w = (struct file_window){.from = page};
	if (r->flags & REGION_RANDOM)
		return 1;
	reach = reach_of(p->mm, r);
	file_stream_hit(&pc->streams, page, &reach, w);
	passed(pc, w, page);
	/* where what was let in does not begin with a page that is to be heard of */
	for (uint64_t i = w->since; i < page; i++)
		if ((cache_get(pc, i) & ahead) == ahead)
			file_asked(pc, i, 1);
	p->streaming |= w->n_ahead >= FILE_WINDOW_MIN;
	return w->until > page && w->until - page < LET_IN_MAX ? w->until - page : LET_IN_MAX;
}

static enum fault_result fault_read(struct pager *p, const struct fault *f, const struct region *r,
				    uint64_t page)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = cache_of(r);
	struct file_reach reach = reach_of(mm, r);
	struct file_window w = {.from = page, .n = 1};
	uint32_t first;

	/* the file has grown beyond what RLIMIT_FSIZE lets the memfd have */
	if (cache_reserve(pc, page) == -EFBIG) {
		mm_log(mm, FL_LOG_ERROR, "cannot read %s at %lu: %s (SIGBUS)", pc->name,
		       (unsigned long)(page << PAGE_SHIFT), log_strerror(-EFBIG));
		file_sigbus(mm, f->peer, vpn_of(f->addr));
		return FAULT_DONE;
	}
	if (!(r->flags & REGION_RANDOM)) {
		file_stream_miss(&pc->streams, page, &reach, r->flags & REGION_SEQUENTIAL, &w);
		passed(pc, &w, page);
	}
	p->streaming |= w.n >= FILE_WINDOW_MIN;
	/* the page that faulted first: it must not be in want of a frame for its neighbours */
	first = read_run(p, pc, page, w.from + w.n - page, CACHE_DEMAND, HEARD_ALL, f);
	if (first == 0)
		return FAULT_DEFER;
	if (w.from < page)
		read_absent(p, pc, w.from, page - w.from, HEARD_ALL);
	read_ahead(p, pc, &w);
	stat_add(&mm->stats.file_major, 1);
	stat_add(&mm->stats.faults_major, 1);
	return FAULT_WAITS;
}

/* What was read is let in wherever somebody may wait for it; !many: only who asked does. */
static void deliver(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n,
		    const struct file_io *io, bool many)
{
	struct mm *mm = p->mm;
	const struct region *r;
	bool found = io->t0 == 0;
	uint64_t part;
	vpn_t vpn;

	for (r = pc->users.first; r != NULL; r = r->user_next) {
		bool here;

		if (!cache_part(r, page, n, &vpn, &part))
			continue;
		here = io->vpn >= vpn && io->vpn < vpn + part && io->t0 != 0 && io->peer == r->peer;
		found |= here;
		if (!here && !many)
			continue;
		if (!(r->flags & REGION_SHARED)) {
			if (here && pte_state(pte_get(&mm->ptes, io->vpn)) == PTE_NONE) {
				uint64_t most = vpn + part - io->vpn;

				if (most > 1 && !io->write)
					copy_stream_in(p, r, io->vpn, most);
				else
					copy_in(p, r, io->vpn, most, io->write);
			}
			uffd_wake(mm->uffd, addr_of(vpn), part * PAGE_SIZE);
			continue;
		}
		if (here && io->write && (r->prot & PROT_WRITE)) {
			cache_dirty(pc, io->vpn + r->delta);
			let_in(mm, r->peer, io->vpn, 1, false);
			let_in(mm, r->peer, vpn, io->vpn - vpn, true);
			let_in(mm, r->peer, io->vpn + 1, vpn + part - io->vpn - 1, true);
			continue;
		}
		let_in(mm, r->peer, vpn, part, true);
	}
	/* unmapped or moved meanwhile: what is there now answers */
	if (!found)
		peer_wake(mm, io->peer, io->vpn);
}

/* A read of several pages failed: what is waited for is read page by page, the rest not at all. */
static void read_singly(struct file_io *io)
{
	struct pagecache *pc = io->pc;
	struct pager *p = io->pager;

	for (uint64_t page = io->page; page < io->page + io->n; page++) {
		uint32_t w = cache_get(pc, page);
		struct fault f = {.peer = io->peer,
				  .addr = addr_of(io->vpn),
				  .write = io->write,
				  .t0 = io->t0};
		const struct region *r = peer_region(p->mm, io->peer, f.addr);

		if (cache_left(pc, page))
			continue;
		cache_drop(pc, page, 1);
		if (!(w & CACHE_DEMAND))
			continue;
		if (io->t0 == 0 || r == NULL || cache_of(r) != pc || io->vpn + r->delta != page ||
		    read_run(p, pc, page, 1, CACHE_DEMAND | CACHE_MANY, HEARD_ALL, &f) == 0)
			cache_wake(pc, page, 1);
	}
	/* where it was unmapped or moved meanwhile, what is there now answers */
	if (io->t0 != 0)
		peer_wake(p->mm, io->peer, io->vpn);
}

/* A page could not be read, twice: who asked for it gets SIGBUS, others ask for themselves. */
static void page_lost(struct file_io *io, int err)
{
	struct pagecache *pc = io->pc;
	struct mm *mm = pc->mm;
	const struct region *r = peer_region(mm, io->peer, addr_of(io->vpn));
	bool wanted = cache_get(pc, io->page) & CACHE_DEMAND;

	cache_drop(pc, io->page, 1);
	if (wanted) {
		mm_log(mm, FL_LOG_ERROR, "cannot read %s at %lu: %s (SIGBUS)", pc->name,
		       (unsigned long)(io->page << PAGE_SHIFT), log_strerror(err));
		if (io->t0 != 0 && r != NULL && cache_of(r) == pc && io->vpn + r->delta == io->page)
			file_sigbus(mm, io->peer, io->vpn);
	}
	/* where it was unmapped or moved meanwhile, what is there now answers */
	if (io->t0 != 0)
		peer_wake(mm, io->peer, io->vpn);
	cache_wake(pc, io->page, 1);
}

static void read_ended(struct file_io *io)
{
	io->pc->reading--;
	io->pc->read_since = io->pc->mm->files.read_ended = sys_now();
	io->pc->mm->files.reading--;
	if (io->direct)
		detour_read_ended(io->pc);
	if (io->landing != LANDING_NONE)
		landing_put(io->pc->mm, io->landing, io->n);
	cache_io_end(io);
}

/* Whether pages of it were left, so that it must not begin again. */
static bool was_left(const struct file_io *io)
{
	return cache_next(io->pc, io->page, CACHE_LEFT) < io->page + io->n;
}

void file_lost(struct file_io *io, int err)
{
	/* left while the program was asked, it may have been stored to */
	if (was_left(io))
		read_singly(io);
	else
		page_lost(io, err);
	read_ended(io);
}

static bool failed(struct file_io *io, int res)
{
	struct pagecache *pc = io->pc;

	if (was_left(io)) {
		read_singly(io);
		return false;
	}
	if (res == -EINVAL && pc->source == NULL && pc->rd.fd != pc->fd) {
		/* what cannot be read directly after all is read buffered from now on */
		pc->rd.fd = pc->fd;
		pc->direct_fd = -1;
		cache_io_restart(io);
		return true;
	}
	stat_add(&pc->mm->stats.file_errors, 1);
	if (io->n == 1 && io->tries++ == 0) {
		cache_io_restart(io);
		return true;
	}
	if (io->n == 1 && traits_ask(io, res))
		return true;
	if (io->n == 1)
		page_lost(io, res);
	else
		read_singly(io);
	return false;
}

/*
 * The file may have become shorter while it was read.  Of reads that ended one after the
 * other the first to be heard of asks: that is as good for those that had ended by then.
 */
static void look_at_size(const struct file_io *io)
{
	const struct blkio *q = io->pager->io;
	struct pagecache *pc = io->pc;

	if (io->req.ended != 0 && pc->seen_by == q && io->req.ended <= pc->seen)
		return;
	pc->seen_by = q;
	pc->seen = blkio_ended(q);
	cache_look_at_size(pc);
}

/* Copy a run of what has landed, the pages between `from` and `to` of it. */
static bool copied(const struct file_io *io, uint32_t from, uint32_t to)
{
	size_t len = (to - from) * PAGE_SIZE;

	return from == to ||
	       SYS4(pwrite, io->pc->memfd, (char *)io->iov.iov_base + from * PAGE_SIZE, len,
		    (io->page + from) << PAGE_SHIFT) == (long)len;
}

static bool is_awaited(const struct file_io *io, uint32_t i)
{
	return cache_get(io->pc, io->page + i) & CACHE_DEMAND;
}

/*
 * The first page of what has landed that may be let into r now, io->n if that is none: what is
 * waited for and, read ahead of a stream that goes through r, what is not to be heard of.
 */
static uint32_t lets_in_from(const struct file_io *io, const struct region *r)
{
	bool unasked = (r->prot & PROT_READ) && !(r->flags & REGION_RANDOM);
	uint32_t from = 0;

	while (from < io->n && !is_awaited(io, from) && (from < io->heard || !unasked))
		from++;
	for (uint32_t i = 0; i < io->n; i++) {
		uint32_t w = cache_get(io->pc, io->page + i) & ~CACHE_DEMAND;

		/* neither what others wait for, nor what was left or truncated */
		if ((w & ~CACHE_AHEAD) != CACHE_LOCKED)
			return io->n;
		/* a hole takes the long way */
		if (i > from && !is_awaited(io, i) && (!unasked || io->heard == HEARD_ALL))
			return io->n;
	}
	return from;
}

/* What the word of a page says that was waited for: with others, it was a stream's window. */
static uint32_t by_stream(const struct file_io *io)
{
	return io->t0 != 0 && io->n > 1 ? CACHE_PLACED : 0;
}

/* Pages that landed are cached; those from `from` on are let in, too, asked for or not. */
static void placed_from(struct file_io *io, uint32_t from)
{
	struct pagecache *pc = io->pc;
	uint32_t run = 0;

	for (uint32_t i = 0; i <= io->n; i++) {
		uint64_t page = io->page + i;
		bool awaited = i < io->n && is_awaited(io, i);

		if (i < io->n)
			cache_set(pc, page,
				  CACHE_UPTODATE | (cache_get(pc, page) & CACHE_AHEAD) |
					  (awaited    ? by_stream(io)
					   : i < from ? 0
						      : CACHE_PLACED));
		if (awaited) {
			run++;
			continue;
		}
		file_asked(pc, page - run, run);
		run = 0;
	}
}

/*
 * What has landed, and is waited for in one mapping of ours or will be, is put there, which
 * makes it the cache's, too; false: it takes the long way.
 */
static bool placed(struct file_io *io)
{
	struct pagecache *pc = io->pc;
	struct mm *mm = pc->mm;
	const struct region *r;
	uint32_t from;
	size_t done;
	bool write;

	if (io->landing == LANDING_NONE)
		return false;
	look_at_size(io);
	r = where(io);
	/* the last page may end before it does */
	if (r == NULL || (io->page + io->n) << PAGE_SHIFT > pc->size || (io->write && io->n != 1))
		return false;
	from = lets_in_from(io, r);
	if (from == io->n || !copied(io, 0, from))
		return false;
	write = io->write && (r->prot & PROT_WRITE);
	if (uffd_copy(mm->uffd, addr_of(io->page + from - r->delta),
		      (char *)io->iov.iov_base + from * PAGE_SIZE, (io->n - from) * PAGE_SIZE,
		      !write, &done) != UFFD_OK)
		return false;
	placed_from(io, from);
	if (write)
		cache_dirty(pc, io->page);
	return true;
}

/*
 * What was read goes where it belongs, but for pages that were left, which others
 * may have stored to; false: the read has ended, or begins again without landing.
 */
static bool landed(struct file_io *io)
{
	struct pagecache *pc = io->pc;
	uint32_t from = 0;
	bool all = true;

	if (io->landing == LANDING_NONE)
		return true;
	for (uint32_t i = 0; i < io->n; i++) {
		if (!(cache_get(pc, io->page + i) & CACHE_LEFT))
			continue;
		all = all && copied(io, from, i);
		from = i + 1;
	}
	if (all && copied(io, from, io->n))
		return true;
	if (was_left(io)) {
		read_singly(io);
		read_ended(io);
		return false;
	}
	landing_put(pc->mm, io->landing, io->n);
	io->landing = LANDING_NONE;
	io->iov.iov_base = cache_addr(pc, io->page);
	cache_io_restart(io);
	return false;
}

/* The fault that asked, if one did; !all: it is taken again. */
static void answered(const struct file_io *io, bool all)
{
	struct pager *p = io->pager;
	uint64_t ns;

	if (io->t0 == 0)
		return;
	ns = fault_latency(p->mm, io->t0);
	if (io->peer == NULL)
		near_answered(p, ns);
	p->near.waits = false;
	p->answered |= all;
}

/*
 * Where private mappings have the frames of the cache, what was read by way of the alias leaves
 * that: mapped twice, a page counts twice in what the kernel says to be resident.
 */
static void leave_alias(const struct file_io *io)
{
	const struct region *r = io->pc->users.first;

	while (r != NULL && !(r->flags & REGION_PRIVATE))
		r = r->user_next;
	if (r != NULL && io->landing == LANDING_NONE)
		SYS3(madvise, cache_addr(io->pc, io->page), io->n * PAGE_SIZE, MADV_DONTNEED);
}

static void read_done(struct file_io *io, int res)
{
	struct pagecache *pc = io->pc;
	struct pager *p = io->pager;
	/* of a longer run some may wait for other pages than the first */
	bool many = io->n != 1 || io->t0 == 0 || (cache_get(pc, io->page) & CACHE_MANY);
	uint64_t end;
	uint64_t run = 0;
	bool all = true;

	if (res != 0) {
		if (!failed(io, res))
			read_ended(io);
		return;
	}
	p->placed += io->n;
	if (placed(io)) {
		answered(io, true);
		read_ended(io);
		return;
	}
	if (!landed(io))
		return;
	look_at_size(io);
	end = cache_pages(pc);
	for (uint64_t page = io->page; page < io->page + io->n; page++) {
		uint32_t w = cache_get(pc, page);

		if (cache_left(pc, page))
			continue;
		if ((w & CACHE_GONE) || page >= end) {
			cache_drop(pc, page, 1);
			cache_wake(pc, page, 1);
			all = false;
			continue;
		}
		cache_set(pc, page, (w & ~CACHE_LOCKED) | CACHE_UPTODATE);
	}
	if (pc->size % PAGE_SIZE != 0 && end - 1 >= io->page && end - 1 < io->page + io->n &&
	    (cache_get(pc, end - 1) & CACHE_UPTODATE))
		memset(cache_addr(pc, end - 1) + pc->size % PAGE_SIZE, 0,
		       PAGE_SIZE - pc->size % PAGE_SIZE);
	for (uint64_t page = io->page; page <= io->page + io->n; page++) {
		uint32_t w = page < io->page + io->n ? cache_get(pc, page) : 0;

		if ((w & CACHE_UPTODATE) && (w & CACHE_DEMAND)) {
			cache_set(pc, page, (w & ~(CACHE_DEMAND | CACHE_MANY)) | by_stream(io));
			run++;
			continue;
		}
		if (run != 0) {
			file_asked(pc, page - run, run);
			deliver(p, pc, page - run, run, io, many);
		}
		run = 0;
	}
	/* where it was unmapped or moved meanwhile, what is there now answers */
	if (!all && io->t0 != 0)
		peer_wake(p->mm, io->peer, io->vpn);
	leave_alias(io);
	answered(io, all);
	read_ended(io);
}

/* ---- faults ---- */

/* The page is cached. */
static enum fault_result fault_cached(struct pager *p, const struct fault *f,
				      const struct region *r, uint64_t page)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = cache_of(r);
	struct file_window w;
	vpn_t vpn = vpn_of(f->addr);
	uint32_t was = cache_get(pc, page);
	bool ahead = was & CACHE_AHEAD;
	struct file_streams before;
	uint64_t most = r->flags & REGION_RANDOM ? 1 : AROUND;
	uint64_t n, first = 0, more = 0;

	if (ahead && !(r->flags & REGION_SHARED))
		before = pc->streams;
	if (ahead)
		most = followed(p, pc, r, page, &w);
	if (most > vpn_of(r->end) - vpn)
		most = vpn_of(r->end) - vpn;
	/* unmapped behind the cache's back, or a fault that was answered already: then so are others */
	n = cached_run(pc, page, ahead && (was & CACHE_PLACED) && most > AROUND ? AROUND : most);
	if (!(r->flags & REGION_SHARED)) {
		if (ahead && !f->write)
			n = copy_stream_in(p, r, vpn, n);
		else
			n = copy_in(p, r, vpn, f->write ? 1 : n, f->write);
		if (n == 0) {
			/* what was to be read is found again */
			if (ahead)
				pc->streams = before;
			return FAULT_DEFER;
		}
		if (!ahead || f->write)
			file_asked(pc, page, n);
	} else {
		file_asked(pc, page, n);
		if (f->write) {
			cache_dirty(pc, page);
			let_in(mm, r->peer, vpn, 1, false);
			first = 1;
		}
		let_in(mm, r->peer, vpn + first, n - first, true);
		if (ahead)
			more = let_in_ahead(r, page + n, page + most);
	}
	if (!ahead)
		file_stream_pass(&pc->streams, page, n, whose(r));
	stat_add(&mm->stats.file_minor, 1);
	stat_add(&mm->stats.faults_minor, 1);
	stat_add(&mm->stats.faults_around, n - 1 + more);
	fault_latency(mm, f->t0);
	if (ahead)
		read_ahead(p, pc, &w);
	return FAULT_DONE;
}

/* The page is being read, or truncated while I/O is in flight. */
static enum fault_result fault_waits(struct pager *p, const struct region *r, uint64_t page)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = cache_of(r);
	uint32_t w = cache_get(pc, page);

	if (!(w & CACHE_DEMAND)) {
		struct file_window ahead;
		uint64_t most = w & CACHE_AHEAD ? followed(p, pc, r, page, &ahead) : 1;

		cache_set(pc, page, w | CACHE_DEMAND);
		/* what was read ahead with it is let in whole when it arrives */
		for (uint64_t i = page + 1; i < page + most; i++) {
			uint32_t q = cache_get(pc, i);

			if ((q & (CACHE_LOCKED | CACHE_AHEAD | CACHE_DEMAND)) !=
			    (CACHE_LOCKED | CACHE_AHEAD))
				break;
			cache_set(pc, i, q | CACHE_DEMAND);
		}
		if (w & CACHE_AHEAD) {
			if (r->flags & REGION_SHARED)
				stat_add(&mm->stats.faults_around,
					 let_in_ahead(r, page + 1, page + most));
			read_ahead(p, pc, &ahead);
		}
	} else if (!(w & CACHE_MANY)) {
		cache_set(pc, page, w | CACHE_MANY);
	}
	stat_add(&mm->stats.file_major, 1);
	stat_add(&mm->stats.faults_major, 1);
	return FAULT_WAITS;
}

/* The first write to a page of a shared mapping since it was clean. */
static enum fault_result fault_mkwrite(struct pager *p, const struct fault *f,
				       const struct region *r, uint64_t page)
{
	struct mm *mm = p->mm;

	file_asked(cache_of(r), page, 1);
	cache_dirty(cache_of(r), page);
	if (uffd_writeprotect(peer_uffd(mm, f->peer), f->addr, PAGE_SIZE, false) != UFFD_OK)
		peer_wake(mm, f->peer, vpn_of(f->addr));
	stat_add(&mm->stats.file_minor, 1);
	stat_add(&mm->stats.faults_wp, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}

enum fault_result fault_file(struct pager *p, const struct fault *f, const struct region *r)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = cache_of(r);
	vpn_t vpn = vpn_of(f->addr);
	uint64_t page = vpn + r->delta;
	uint32_t w;

	/* a file that became shorter is noticed when the read has ended */
	if (page >= cache_pages(pc))
		cache_look_at_size(pc);
	w = cache_get(pc, page);
	if (w & (CACHE_LOCKED | CACHE_GONE)) {
		if ((w & CACHE_GONE) && !(w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT))) {
			cache_drop(pc, page, 1);
			peer_wake(mm, f->peer, vpn);
			return FAULT_DONE;
		}
		return fault_waits(p, r, page);
	}
	/* for a private mapping it would be copied from where it is not */
	if ((w & CACHE_LEFT) && !(r->flags & REGION_SHARED))
		return fault_waits(p, r, page);
	if (page >= cache_pages(pc)) {
		file_sigbus(mm, f->peer, vpn);
		return FAULT_DONE;
	}
	if ((r->flags & REGION_PRIVATE) && (f->write || f->wp)) {
		struct fault read = *f;

		if (w & CACHE_UPTODATE)
			return fault_unshare(p, f, r);
		read.write = read.wp = false;
		return fault_file(p, &read, r);
	}
	if ((f->write || f->wp) && (r->flags & REGION_SHARED)) {
		if (pc->cuts != NULL && cut_holds(pc, page))
			return FAULT_WAITS;
		if (!(w & CACHE_BOUND) && cache_may_bind(mm, 1, false) == 0)
			return FAULT_DEFER;
	}
	if (f->wp) {
		if ((w & CACHE_UPTODATE) && (r->flags & REGION_SHARED))
			return fault_mkwrite(p, f, r, page);
		peer_wake(mm, f->peer, vpn);
		return FAULT_DONE;
	}
	if (w & CACHE_UPTODATE)
		return fault_cached(p, f, r, page);
	if (pc->past != NULL && filedata_is_past(pc, page, true))
		return FAULT_WAITS;
	return fault_read(p, f, r, page);
}
