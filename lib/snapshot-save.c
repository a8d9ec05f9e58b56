/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-save.c - pages of a snapshot on their way to its image; snapshot.c
 * has the whole.
 *
 * A page is saved when its bit is cleared: from then on its bytes are in a cell,
 * or it needs none.  A cell is free again when its write has ended.
 */
#include "snapshot-work.h"

#include "fill.h"
#include "log.h"
#include "pager.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- pages of the ranges ---- */

/* The first range that ends behind an address, or nranges. */
static uint64_t range_behind(const struct snapshot *s, uintptr_t addr)
{
	uint64_t lo = 0, hi = s->nranges;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (s->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct image_range *range_of_page(struct snapshot *s, vpn_t vpn)
{
	uintptr_t addr = addr_of(vpn);
	uint64_t k = s->last;

	if (k >= s->nranges || addr < s->range[k].start || addr >= s->range[k].end)
		k = range_behind(s, addr);
	if (k == s->nranges || addr < s->range[k].start)
		return NULL;
	s->last = k;
	return &s->range[k];
}

static const struct image_range *range_of_index(struct snapshot *s, uint64_t i)
{
	uint64_t lo = 0, hi = s->nranges - 1;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo + 1) / 2;

		if (s->range[mid].first <= i)
			lo = mid;
		else
			hi = mid - 1;
	}
	return &s->range[lo];
}

static uint64_t index_of(const struct image_range *r, vpn_t vpn)
{
	return r->first + (vpn - vpn_of(r->start));
}

static vpn_t page_of(const struct image_range *r, uint64_t i)
{
	return vpn_of(r->start) + (i - r->first);
}

/* The first page from i on that is to be saved and not being read. */
static uint64_t next_todo(const struct snapshot *s, uint64_t i)
{
	for (uint64_t w = i / 64; w * 64 < s->pages; w++) {
		uint64_t v = s->unsaved[w] & ~s->reading[w];

		if (w == i / 64)
			v &= ~(uint64_t)0 << i % 64;
		if (v != 0)
			return w * 64 + (unsigned)__builtin_ctzll(v);
	}
	return s->pages;
}

/* How many pages from i on are to be saved, n at most, within a range. */
static uint32_t todo_run(const struct snapshot *s, const struct image_range *r, uint64_t i,
			 uint32_t n)
{
	uint64_t end = index_of(r, vpn_of(r->end));
	uint32_t run = 0;

	while (run < n && i + run < end && bit(s->unsaved, i + run) && !bit(s->reading, i + run))
		run++;
	return run;
}

static void page_done(struct snapshot *s, uint64_t i)
{
	bit_clear(s->unsaved, i);
	s->left--;
	stat_add(&s->mm->stats.snapshot_saved, 1);
}

bool snapshot_unsaved(struct mm *mm, vpn_t vpn)
{
	struct snapshot *s = mm->snaps.now;
	const struct image_range *r;

	if (s == NULL || s->left == 0)
		return false;
	r = range_of_page(s, vpn);
	return r != NULL && bit(s->unsaved, index_of(r, vpn));
}

bool snapshot_reads(struct mm *mm, vpn_t vpn)
{
	struct snapshot *s = mm->snaps.now;
	const struct image_range *r;

	if (s == NULL || s->inflight == 0)
		return false;
	r = range_of_page(s, vpn);
	return r != NULL && bit(s->reading, index_of(r, vpn));
}

bool snapshot_unsaved_any(struct mm *mm, vpn_t vpn, uint32_t n)
{
	if (mm->snaps.now == NULL || mm->snaps.now->left == 0)
		return false;
	for (uint32_t i = 0; i < n; i++)
		if (snapshot_unsaved(mm, vpn + i))
			return true;
	return false;
}

/* ---- failing ---- */

void snapshot_fail(struct snapshot *s, int err)
{
	if (s->err != 0)
		return;
	s->err = err;
	s->stalled = false;
	mm_log(s->mm, FL_LOG_WARN, "a snapshot has failed: %s", log_strerror(err));
}

void snapshot_lift(struct mm *mm, vpn_t vpn, uint32_t n)
{
	for (uint32_t i = 0; i < n;) {
		uint32_t run = 0;

		while (i + run < n) {
			pte_t pte = pte_get(&mm->ptes, vpn + i + run);

			if (pte_state(pte) != PTE_PRESENT || (pte & (PTE_WP | PTE_SYNC)))
				break;
			run++;
		}
		/* where it fails, the fault of who writes finds nothing to save and lifts it */
		if (run != 0)
			uffd_writeprotect(mm->uffd, addr_of(vpn + i), run * PAGE_SIZE, false);
		i += run != 0 ? run : 1;
	}
}

/* After an error. */
static uint32_t let_go(struct snapshot *s, uint64_t i, vpn_t vpn, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++) {
		bit_clear(s->unsaved, i + k);
		s->left--;
	}
	snapshot_lift(s->mm, vpn, n);
	return n;
}

/* ---- cells and requests ---- */

static char *cell_addr(const struct snapshot *s, uint32_t cell)
{
	return s->cells + (size_t)cell * PAGE_SIZE;
}

static void cells_put(struct snapshot *s, uint32_t cell, uint32_t n)
{
	memset(s->used + cell, 0, n);
	s->cells_free += n;
	if (s->allowed < s->ncells)
		SYS3(madvise, cell_addr(s, cell), n * PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

/* How many cells may yet be taken. */
static uint32_t cells_room(const struct snapshot *s)
{
	uint32_t in_use = s->ncells - s->cells_free;

	return in_use < s->allowed ? s->allowed - in_use : 0;
}

/* Nothing stays in what is free. */
void snapshot_fit(struct snapshot *s)
{
	uint32_t allowed = (uint32_t)mm_snapshot_pages(s->mm);

	if (allowed < s->allowed)
		for (uint32_t i = 0; i < s->ncells; i++)
			if (!s->used[i])
				SYS3(madvise, cell_addr(s, i), PAGE_SIZE, MADV_DONTNEED_LOCKED);
	s->allowed = allowed;
}

/* A run of free cells, `want` at most: the first that is long enough, else the longest. */
static uint32_t cells_get(struct snapshot *s, uint32_t want, uint32_t *first)
{
	uint32_t at = s->hand < s->ncells ? s->hand : 0;
	uint32_t best = 0, best_at = 0, run = 0;

	if (want > cells_room(s))
		want = cells_room(s);
	if (want == 0)
		return 0;
	for (uint32_t seen = 0; seen < s->ncells + want && best < want; seen++) {
		if (at == s->ncells) {
			at = 0;
			run = 0;
		}
		if (s->used[at]) {
			run = 0;
		} else if (++run > best) {
			best = run;
			best_at = at + 1 - run;
		}
		at++;
	}
	memset(s->used + best_at, 1, best);
	s->cells_free -= best;
	s->hand = best_at + best;
	*first = best_at;
	return best;
}

/* There are as many as cells, and each that is in use for pages has one cell at least. */
struct snap_io *snapshot_io_get(struct pager *p, struct snapshot *s)
{
	struct snap_io *io = s->io_free;

	if (io == NULL)
		return NULL;
	s->io_free = io->next;
	memset(io, 0, sizeof(*io));
	io->pager = p;
	s->inflight++;
	return io;
}

static void io_put(struct snapshot *s, struct snap_io *io)
{
	io->next = s->io_free;
	s->io_free = io;
	s->inflight--;
}

void snapshot_write_done(struct blk_req *req, int res)
{
	struct snap_io *io = (struct snap_io *)(void *)req;
	struct snapshot *s = io->pager->mm->snaps.now;

	if (res == -EINVAL && io->direct) {
		/* what cannot be written directly after all is written buffered from now on */
		s->dev.fd = s->fd;
		io->direct = false;
		blkio_queue(io->pager->io, req);
		return;
	}
	if (res != 0)
		snapshot_fail(s, res);
	if (io->n != 0)
		cells_put(s, io->cell, io->n);
	io_put(s, io);
}

void snapshot_write(struct pager *p, struct snapshot *s, struct snap_io *io, void *mem,
		    uint64_t len, uint64_t off)
{
	io->iov = (struct iovec){mem, len};
	io->direct = s->dev.fd != s->fd;
	io->req.dev = &s->dev;
	io->req.op = BLK_WRITE;
	io->req.off = off;
	io->req.iov = &io->iov;
	io->req.niov = 1;
	io->req.done = snapshot_write_done;
	blkio_queue(p->io, &io->req);
}

static uint64_t page_sum(const void *page)
{
	uint64_t word;
	uint64_t h;

	if (fill_check(page, &word) && word == 0)
		return IMAGE_HOLE;
	h = XXH3_64bits(page, PAGE_SIZE);
	return h > IMAGE_FILE ? h : h + IMAGE_FILE + 1;
}

/* Pages from index i on are in cells: they are saved, and what is not zeros is written. */
static void store(struct pager *p, struct snapshot *s, const struct image_range *r, uint64_t i,
		  uint32_t cell, uint32_t n)
{
	uint32_t run = 0;

	for (uint32_t k = 0; k <= n; k++) {
		if (k < n) {
			s->sum[i + k] = page_sum(cell_addr(s, cell + k));
			page_done(s, i + k);
			if (s->sum[i + k] != IMAGE_HOLE) {
				run++;
				continue;
			}
			cells_put(s, cell + k, 1);
		}
		if (run != 0) {
			struct snap_io *io = snapshot_io_get(p, s);
			uint32_t from = k - run;

			if (io == NULL) { /* cannot be: see snapshot_io_get() */
				cells_put(s, cell + from, run);
				snapshot_fail(s, -ENOMEM);
			} else {
				io->cell = cell + from;
				io->n = run;
				snapshot_write(p, s, io, cell_addr(s, io->cell), run * PAGE_SIZE,
					       r->offset + (i + from - r->first) * PAGE_SIZE);
			}
		}
		run = 0;
	}
}

/* The page's content cannot be had. */
static void lose(struct snapshot *s, uint64_t i)
{
	s->sum[i] = IMAGE_LOST;
	s->lost++;
	page_done(s, i);
}

/* ---- saving ---- */

/*
 * A page that should be present cannot be read.  Protecting one that had gone left a
 * mark, which is told as swapped: without it, what is still there is lost.
 */
static void unreadable(struct snapshot *s, uint64_t i, vpn_t vpn)
{
	struct mm *mm = s->mm;
	struct page_region run;
	uintptr_t next;

	uffd_writeprotect(mm->uffd, addr_of(vpn), PAGE_SIZE, false);
	if (uffd_scan_present(mm->pagemap_fd, addr_of(vpn), addr_of(vpn + 1), &run, 1, &next) !=
	    0) {
		lose(s, i);
		return;
	}
	s->sum[i] = IMAGE_HOLE;
	page_done(s, i);
}

static uint32_t save_present(struct pager *p, struct snapshot *s, const struct image_range *r,
			     uint64_t i, uint32_t n)
{
	struct mm *mm = s->mm;
	vpn_t vpn = page_of(r, i);
	uint32_t cell, got = 0;

	n = cells_get(s, n, &cell);
	if (n == 0)
		return 0;
	for (unsigned tries = 0; got == 0 && tries < READ_TRIES; tries++) {
		long done =
			SYS4(pread, mm->mem_fd, cell_addr(s, cell), n * PAGE_SIZE, addr_of(vpn));

		got = sys_err(done) ? 0 : (uint32_t)((unsigned long)done / PAGE_SIZE);
	}
	if (got < n)
		cells_put(s, cell + got, n - got);
	if (got == 0) {
		unreadable(s, i, vpn);
		return 1;
	}
	store(p, s, r, i, cell, got);
	snapshot_lift(mm, vpn, got);
	return got;
}

enum copied { COPIED, COPY_LOST, COPY_NOT };

/* The content of a page that is not present, if it is at hand. */
static enum copied copy_page(struct mm *mm, vpn_t vpn, void *to)
{
	pte_t pte = pte_get(&mm->ptes, vpn);
	uint64_t *words = to;
	uint64_t word;

	switch (pte_state(pte)) {
	case PTE_STAGED:
		if (mm->staging.page[pte_payload(pte)].state == STAGE_READING)
			return COPY_NOT;
		memcpy(to, stage_addr(mm, (uint32_t)pte_payload(pte)), PAGE_SIZE);
		return COPIED;
	case PTE_FILLED:
		word = fill_word(&mm->fills, (uint32_t)pte_payload(pte));
		for (unsigned k = 0; k < PAGE_SIZE / sizeof(word); k++)
			words[k] = word;
		return COPIED;
	case PTE_COMPRESSED:
		return tier_load(mm, vpn, pte_swp(pte), to) ? COPIED : COPY_LOST;
	case PTE_POISONED:
		return COPY_LOST;
	default:
		return COPY_NOT;
	}
}

static uint32_t save_copies(struct pager *p, struct snapshot *s, const struct image_range *r,
			    uint64_t i, uint32_t n)
{
	enum copied how = COPIED;
	uint32_t cell, done = 0;

	n = cells_get(s, n, &cell);
	while (done < n) {
		how = copy_page(s->mm, page_of(r, i + done), cell_addr(s, cell + done));
		if (how != COPIED)
			break;
		done++;
	}
	if (done < n)
		cells_put(s, cell + done, n - done);
	if (done != 0)
		store(p, s, r, i, cell, done);
	else if (n != 0 && how == COPY_LOST) {
		lose(s, i);
		done = 1;
	}
	return done;
}

/* One page of a read that ended: does its cell hold what the page was at the instant? */
static bool arrived(struct snapshot *s, const struct snap_io *io, uint32_t k, int res)
{
	struct mm *mm = s->mm;
	uint64_t i = io->index + k;
	swp_t swp = io->swp + k;
	pte_t pte;

	bit_clear(s->reading, i);
	if (!bit(s->unsaved, i))
		return false;
	if (res == 0 &&
	    stage_csum(mm, cell_addr(s, io->cell + k), swp) == swap_csum(&mm->swap, swp))
		return true;
	pte = pte_get(&mm->ptes, page_of(range_of_index(s, i), i));
	if (res != 0 && io->n > 1) {
		s->single = true;
	} else if (pte_state(pte) == PTE_SWAPPED && pte_swp(pte) == swp) {
		mm_log(mm, FL_LOG_ERROR,
		       "swap area %s, slot %u: %s: the page is lost in a snapshot",
		       mm->swap.area[swp_area(swp)]->path, swp_slot(swp),
		       res != 0 ? log_strerror(res) : "checksum does not match");
		lose(s, i);
	}
	return false;
}

static void read_done(struct blk_req *req, int res)
{
	struct snap_io *done = (struct snap_io *)(void *)req;
	const struct snap_io io = *done;
	struct pager *p = io.pager;
	struct mm *mm = p->mm;
	struct snapshot *s = mm->snaps.now;
	uint32_t run = 0;

	for (uint32_t k = 0; k < io.n; k++)
		if (swap_idle(&mm->swap, io.swp + k))
			mm->swap_full = false;
	io_put(s, done);
	if (res != 0) {
		stat_add(&mm->stats.io_errors, 1);
		mm->swap.area[swp_area(io.swp)]->io_errors++;
	}
	for (uint32_t k = 0; k <= io.n; k++) {
		bool good = k < io.n && arrived(s, &io, k, res);

		if (good) {
			run++;
			continue;
		}
		if (run != 0)
			store(p, s, range_of_index(s, io.index), io.index + k - run,
			      io.cell + k - run, run);
		if (k < io.n)
			cells_put(s, io.cell + k, 1);
		run = 0;
	}
}

static uint32_t read_slots(struct pager *p, struct snapshot *s, const struct image_range *r,
			   uint64_t i, uint32_t n)
{
	struct mm *mm = s->mm;
	vpn_t vpn = page_of(r, i);
	swp_t swp = pte_swp(pte_get(&mm->ptes, vpn));
	const struct blk_dev *dev;
	struct snap_io *io;
	uint32_t run = 1;
	uint32_t cell;
	uint64_t off;

	while (run < n && !s->single) {
		pte_t q = pte_get(&mm->ptes, vpn + run);

		if (pte_state(q) != PTE_SWAPPED || pte_swp(q) != swp + run)
			break;
		run++;
	}
	dev = swap_extent(&mm->swap, swp, run, &off, &run);
	run = cells_get(s, run, &cell);
	if (run == 0)
		return 0;
	io = snapshot_io_get(p, s);
	if (io == NULL) {
		cells_put(s, cell, run);
		return 0;
	}
	for (uint32_t k = 0; k < run; k++) {
		swap_busy(&mm->swap, swp + k);
		bit_set(s->reading, i + k);
	}
	io->index = i;
	io->cell = cell;
	io->n = run;
	io->swp = swp;
	io->iov = (struct iovec){cell_addr(s, cell), run * PAGE_SIZE};
	io->req.dev = dev;
	io->req.op = BLK_READ;
	io->req.off = off;
	io->req.iov = &io->iov;
	io->req.niov = 1;
	io->req.done = read_done;
	stat_add(&mm->stats.reads, 1);
	stat_add(&mm->stats.read_pages, run);
	blkio_queue(p->io, &io->req);
	return run;
}

/*
 * The next step for n pages from index i on, which are to be saved: how many it was
 * for; 0: it cannot be done now.  read: what is in slots is read.
 */
static uint32_t step(struct pager *p, struct snapshot *s, const struct image_range *r, uint64_t i,
		     uint32_t n, bool read)
{
	struct mm *mm = s->mm;
	vpn_t vpn = page_of(r, i);
	uint32_t run = 1;

	if (s->err != 0)
		return let_go(s, i, vpn, n);
	switch (pte_state(pte_get(&mm->ptes, vpn))) {
	case PTE_NONE:
		snapshot_fail(s, -EIO); /* dropped past us */
		return let_go(s, i, vpn, n);
	case PTE_PRESENT:
		while (run < n && pte_state(pte_get(&mm->ptes, vpn + run)) == PTE_PRESENT)
			run++;
		return save_present(p, s, r, i, run);
	case PTE_SWAPPED:
		return read ? read_slots(p, s, r, i, n) : 0;
	default:
		return save_copies(p, s, r, i, n);
	}
}

uint32_t snapshot_save(struct pager *p, vpn_t vpn, uint32_t n)
{
	struct snapshot *s = p->mm->snaps.now;
	uint32_t done = 0;

	while (done < n && s != NULL && s->left != 0) {
		const struct image_range *r = range_of_page(s, vpn + done);
		uint64_t i = r != NULL ? index_of(r, vpn + done) : 0;
		uint32_t run = r != NULL ? todo_run(s, r, i, n - done) : 0;

		if (r == NULL || !bit(s->unsaved, i)) {
			done++;
			continue;
		}
		/* what is being read may have come into memory meanwhile */
		run = step(p, s, r, i, run != 0 ? run : 1, false);
		if (run == 0)
			return done;
		done += run;
	}
	return n;
}

void snapshot_settle(struct pager *p, uintptr_t start, uintptr_t end)
{
	struct mm *mm = p->mm;

	while (mm->snaps.now != NULL && mm->snaps.now->left != 0) {
		struct snapshot *s = mm->snaps.now;
		bool any = false, did = false;

		for (uint64_t k = range_behind(s, start); k < s->nranges && s->range[k].start < end;
		     k++) {
			const struct image_range *r = &s->range[k];
			uint64_t i = index_of(r, vpn_of(r->start > start ? r->start : start));
			uint64_t stop = index_of(r, vpn_of(r->end < end ? r->end : end));

			for (; i < stop; i++) {
				uint32_t n;

				if (i % 64 == 0 && i + 64 <= stop && s->unsaved[i / 64] == 0) {
					i += 63;
					continue;
				}
				if (!bit(s->unsaved, i))
					continue;
				any = true;
				n = todo_run(s, r, i,
					     stop - i < STEP_PAGES ? (uint32_t)(stop - i)
								   : STEP_PAGES);
				if (n == 0)
					continue;
				n = step(p, s, r, i, n, true);
				if (n == 0)
					continue;
				did = true;
				i += n - 1;
			}
		}
		if (!any)
			return;
		if (!did)
			pager_pump(p);
	}
}

void snapshot_settle_files(struct pager *p)
{
	const struct snapshot *s = p->mm->snaps.now;

	/* waiting, another one may begin */
	for (uint64_t k = 0; s != NULL && s == p->mm->snaps.now && k < s->nranges; k++)
		if (s->range[k].flags & IMAGE_RANGE_FILE)
			snapshot_settle(p, s->range[k].start, s->range[k].end);
}

void snapshot_dropped(struct mm *mm, vpn_t vpn, vpn_t end)
{
	struct snapshot *s = mm->snaps.now;

	if (s == NULL || s->left == 0 || s->err != 0)
		return;
	for (uint64_t k = range_behind(s, addr_of(vpn));
	     k < s->nranges && vpn_of(s->range[k].start) < end; k++) {
		const struct image_range *r = &s->range[k];

		for (uint64_t i = index_of(r, vpn_of(r->start) > vpn ? vpn_of(r->start) : vpn),
			      stop = index_of(r, vpn_of(r->end) < end ? vpn_of(r->end) : end);
		     i < stop; i++) {
			if (bit(s->unsaved, i)) {
				snapshot_fail(s, -EIO);
				return;
			}
		}
	}
}

void snapshot_gone(struct mm *mm, vpn_t vpn)
{
	struct snapshot *s = mm->snaps.now;
	char byte;

	if (snapshot_unsaved(mm, vpn) && SYS4(pread, mm->mem_fd, &byte, 1, addr_of(vpn)) != 1)
		unreadable(s, index_of(range_of_page(s, vpn), vpn), vpn);
}

/* ---- the background ---- */

void snapshot_work(struct pager *p, struct snapshot *s)
{
	uint32_t budget = ROUND_PAGES;
	bool wrapped = false;

	while (budget != 0 && s->left != 0) {
		const struct image_range *r;
		uint64_t i;
		uint32_t n;

		/* the rest is for those who wait */
		if (s->err == 0 && cells_room(s) <= s->allowed / 4)
			return;
		i = next_todo(s, s->cursor);
		if (i == s->pages) {
			s->stalled = wrapped;
			if (wrapped)
				return;
			wrapped = true;
			s->cursor = 0;
			continue;
		}
		r = range_of_index(s, i);
		n = todo_run(s, r, i, STEP_PAGES);
		if (s->err == 0 && n > cells_room(s) - s->allowed / 4)
			n = cells_room(s) - s->allowed / 4;
		n = step(p, s, r, i, n, true);
		s->cursor = i + (n != 0 ? n : 1);
		if (n != 0)
			wrapped = false;
		budget -= n == 0 ? 1 : n < budget ? n : budget;
	}
}

bool snapshot_ready(const struct mm *mm)
{
	const struct snapshot *s = mm->snaps.now;

	if (s != NULL && s->stage == SNAP_PREPARING)
		return !s->prepared;
	return s != NULL && s->left != 0 && !s->stalled &&
	       (s->err != 0 || cells_room(s) > s->allowed / 4);
}
