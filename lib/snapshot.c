/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.c - an image of memory as of one instant; see snapshot.h.
 *
 * The instant.  Under the mm lock every present page of the ranges is
 * write-protected, in calls as long as runs of present pages are, and every page
 * that has content gets its bit in `unsaved`.  What is absent costs nothing: only what is
 * present is protected, since the kernel would leave marks in the place of absent
 * pages (WP_UNPOPULATED), which MOVE and ZEROPAGE refuse.  No fault is
 * answered before the last page is protected, so what was protected first has
 * not changed when the last one is: that moment is the instant, for all threads.
 *
 * Invariant.  While a page's bit is set its content is what it was at the instant,
 * wherever it is: present and write-protected, staged, in a slot, in the pool,
 * filled, poisoned.  So eviction and reading in need not know of snapshots.
 * Bits are only ever cleared.
 *
 * Who would break it, and what is done there:
 *	a write fault (fault-wp.c)	saves the page, and neighbours, then lets it be written
 *	installs by copy (fault-swap.c,
 *	fault-compressed.c)		save what is installed, or install it write-protected
 *	installs that cannot protect (fault-anon.c:
 *	fault_filled, staging.c: stage_refault)	save first, or the fault waits
 *	block_return (staging.c)	leaves the page in staging
 *	unshare_frame (staging.c)	a frame that is shared after fork stays where it is
 *	munmap, mremap, brk, MADV_DONTNEED and
 *	its like, a mapping with MAP_FIXED, letting
 *	memory go (hop.c: settle)	wait until the range is saved
 *	fork				the child's frames are the parent's until one is written, and
 *					the parent's stay protected; the caller's own pages near
 *					its thread pointer are saved first (fork.c)
 *	a page that went lazily by a MADV_FREE from
 *	before arming (fault.c)		is zeros
 * mprotect, mlock and advice that drops nothing leave the kernel's protection as
 * it is.  drop_entries() looks after all of them: what is dropped unsaved ends the snapshot
 * with an error, never with a wrong image.
 *
 * Saving.  A page is copied into a cell of a bounded buffer, and from there
 * written to the image; the buffer is of the limit's frames.  Pagers save in the background, by
 * address, a part in each round; a quarter of the cells is for those who wait.  What is in a slot
 * is read into cells directly: the slot is busy meanwhile and cannot be used anew, a fault on
 * the page waits (snapshot_reads()), and the checksum is compared.  Present pages are read through /proc/self/mem, which
 * does not fault.
 *
 * The end: tables, sync, footer, sync; then the waiters are told.  An error lets all
 * pages go, empties the file and is told instead.
 *
 * Mappings of files are not part of an image: their content is the file's.
 *
 * Accepted simplifications.  A device that writes into a pinned frame is not
 * noticed, as by fork(2).  A kernel access that cannot wait for a pager (FUTEX_WAKE_OP, FUTEX_LOCK_PI)
 * fails with EFAULT on a page that is not saved yet, as on one that is away.
 */
#include "snapshot.h"

#include "do.h"
#include "fault.h"
#include "fork.h"
#include "hop.h"
#include "image.h"
#include "log.h"
#include "mm.h"
#include "pager.h"
#include "reclaim.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CELLS_MIN 16U
#define CELLS_MAX 1024U
#define STEP_PAGES 64U	 /* of one step */
#define ROUND_PAGES 128U /* of one round, then faults are looked for */
#define MAPS_LINE 320U
#define READ_TRIES 3U
#define TELL_NS 200000000U
#define ROOM_IDLE 5U
#define PORT_BURST 8U
#define IMAGE_BYTES_MAX ((uint64_t)1 << 62)

enum snap_stage { SNAP_SAVING, SNAP_TABLES, SNAP_SYNC, SNAP_FOOTER, SNAP_SYNC_FOOTER, SNAP_OVER };

struct snap_io {
	struct blk_req req; /* first: the callback gets it */
	struct pager *pager;
	struct snap_io *next; /* free */
	uint64_t index;	      /* reads: of the first page */
	uint32_t cell, n;     /* n 0: of a table */
	swp_t swp;	      /* reads */
	struct iovec iov;
};

/* A part of the image behind the data; padded memory. */
struct snap_part {
	char *mem;
	uint64_t size;	   /* of its content */
	uint64_t reserved; /* bytes that were allocated */
	uint64_t offset;   /* in the file */
};

enum { PART_RANGES, PART_MAPS, PART_SUMS, PARTS };

struct snapshot {
	struct mm *mm;
	enum snap_stage stage;
	int err;			   /* the first one; from then on pages are let go */
	int fd, direct_fd, event_fd, link; /* -1: none */
	unsigned flags;
	struct blk_dev dev;
	struct image_range *range;
	uint64_t nranges, last; /* last: the range that was last found */
	uint64_t pages, left;	/* of the ranges; of these, unsaved */
	uint64_t had;		/* what was unsaved at the instant */
	uint64_t *unsaved, *reading;
	size_t bits_bytes; /* of each */
	uint64_t *sum;
	uint64_t cursor;
	uint32_t allowed; /* cells that may be in use: of ncells, as the limit is now */
	bool stalled;	  /* a pass found nothing that could be done */
	bool single;	  /* a read failed: one page at a time */
	uint64_t lost;
	char *cells;
	uint32_t ncells, cells_free, hand;
	uint8_t used[CELLS_MAX];
	struct snap_io *ios, *io_free;
	uint32_t inflight;
	struct snap_part part[PARTS];
	unsigned part_now; /* TABLES: where it goes on */
	uint64_t part_at;
	uint64_t sums_sum;	     /* as far as it was written */
	struct image_footer *footer; /* a page */
	uint64_t told;		     /* when, ns */
	uint64_t pause;
	uint64_t began;
};

static uint64_t padded(uint64_t n)
{
	return (n + IMAGE_PAGE - 1) & ~(IMAGE_PAGE - 1);
}

/* ---- pages of the ranges ---- */

static const struct image_range *range_of_page(struct snapshot *s, vpn_t vpn)
{
	uintptr_t addr = addr_of(vpn);
	uint64_t lo = 0, hi = s->nranges;

	if (s->last < hi && addr >= s->range[s->last].start && addr < s->range[s->last].end)
		return &s->range[s->last];
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (s->range[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == s->nranges || addr < s->range[lo].start)
		return NULL;
	s->last = lo;
	return &s->range[lo];
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

static bool bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static void bit_clear(uint64_t *bits, uint64_t i)
{
	bits[i / 64] &= ~((uint64_t)1 << i % 64);
}

static void bit_set(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= (uint64_t)1 << i % 64;
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

static void fail(struct snapshot *s, int err)
{
	if (s->err != 0)
		return;
	s->err = err;
	s->stalled = false;
	mm_log(s->mm, FL_LOG_WARN, "a snapshot has failed: %s", log_strerror(err));
}

/* A present page that need not be protected for us any more: PTE_WP ones stay so. */
static void lift(struct mm *mm, vpn_t vpn, uint32_t n)
{
	for (uint32_t i = 0; i < n;) {
		uint32_t run = 0;

		while (i + run < n) {
			pte_t pte = pte_get(&mm->ptes, vpn + i + run);

			if (pte_state(pte) != PTE_PRESENT || (pte & PTE_WP))
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
	lift(s->mm, vpn, n);
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

/* The limit may have become so low that the buffer must be smaller: nothing stays in what is free. */
static void cells_fit(struct snapshot *s)
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
static struct snap_io *io_get(struct pager *p, struct snapshot *s)
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

static void write_done(struct blk_req *req, int res)
{
	struct snap_io *io = (struct snap_io *)(void *)req;
	struct snapshot *s = io->pager->mm->snaps.now;

	if (res != 0)
		fail(s, res);
	if (io->n != 0)
		cells_put(s, io->cell, io->n);
	io_put(s, io);
}

static void queue_write(struct pager *p, struct snapshot *s, struct snap_io *io, void *mem,
			uint64_t len, uint64_t off)
{
	io->iov = (struct iovec){mem, len};
	io->req.dev = &s->dev;
	io->req.op = BLK_WRITE;
	io->req.off = off;
	io->req.iov = &io->iov;
	io->req.niov = 1;
	io->req.done = write_done;
	blkio_queue(p->io, &io->req);
}

static uint64_t page_sum(const void *page)
{
	uint64_t word;
	uint64_t h;

	if (fill_check(page, &word) && word == 0)
		return IMAGE_HOLE;
	h = XXH3_64bits(page, PAGE_SIZE);
	return h > IMAGE_LOST ? h : h + 2;
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
			struct snap_io *io = io_get(p, s);
			uint32_t from = k - run;

			if (io == NULL) { /* cannot be: see io_get() */
				cells_put(s, cell + from, run);
				fail(s, -ENOMEM);
			} else {
				io->cell = cell + from;
				io->n = run;
				queue_write(p, s, io, cell_addr(s, io->cell), run * PAGE_SIZE,
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
	lift(mm, vpn, got);
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
	io = io_get(p, s);
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
		fail(s, -EIO); /* dropped past us */
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
		uint64_t k = 0;
		bool any = false, did = false;

		while (k < s->nranges && s->range[k].end <= start)
			k++;
		for (; k < s->nranges && s->range[k].start < end; k++) {
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

void snapshot_dropped(struct mm *mm, vpn_t vpn, vpn_t end)
{
	struct snapshot *s = mm->snaps.now;

	if (s == NULL || s->left == 0 || s->err != 0)
		return;
	for (uint64_t k = 0; k < s->nranges && vpn_of(s->range[k].start) < end; k++) {
		const struct image_range *r = &s->range[k];

		if (vpn_of(r->end) <= vpn)
			continue;
		for (uint64_t i = index_of(r, vpn_of(r->start) > vpn ? vpn_of(r->start) : vpn),
			      stop = index_of(r, vpn_of(r->end) < end ? vpn_of(r->end) : end);
		     i < stop; i++) {
			if (bit(s->unsaved, i)) {
				fail(s, -EIO);
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

static void work(struct pager *p, struct snapshot *s)
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

/* Queue what is left of the tables; true when all of it is. */
static bool write_tables(struct pager *p, struct snapshot *s)
{
	while (s->part_now < PARTS) {
		const struct snap_part *t = &s->part[s->part_now];
		uint64_t size = padded(t->size);
		uint64_t n =
			size - s->part_at < IMAGE_SUM_BYTES ? size - s->part_at : IMAGE_SUM_BYTES;
		struct snap_io *io;

		if (n == 0) {
			s->part_now++;
			s->part_at = 0;
			continue;
		}
		io = io_get(p, s);
		if (io == NULL)
			return false;
		if (s->part_now == PART_SUMS)
			s->sums_sum = XXH3_64bits_withSeed(
				t->mem + s->part_at,
				t->size - s->part_at < n ? t->size - s->part_at : n, s->sums_sum);
		queue_write(p, s, io, t->mem + s->part_at, n, t->offset + s->part_at);
		s->part_at += n;
	}
	return true;
}

static void queue_sync(struct pager *p, struct snapshot *s)
{
	struct snap_io *io;

	if (s->flags & FL_SNAPSHOT_NOSYNC)
		return;
	io = io_get(p, s);
	if (io == NULL) {
		fail(s, -ENOMEM);
		return;
	}
	io->req.dev = &s->dev;
	io->req.op = BLK_SYNC;
	io->req.done = write_done;
	blkio_queue(p->io, &io->req);
}

static void write_footer(struct pager *p, struct snapshot *s)
{
	struct image_footer *f = s->footer;
	struct snap_io *io = io_get(p, s);

	if (io == NULL) {
		fail(s, -ENOMEM);
		return;
	}
	f->lost = s->lost;
	f->ranges_sum = XXH3_64bits(s->part[PART_RANGES].mem, s->part[PART_RANGES].size);
	f->maps_sum = XXH3_64bits(s->part[PART_MAPS].mem, s->part[PART_MAPS].size);
	f->sums_sum = s->sums_sum;
	f->footer_sum = XXH3_64bits(f, offsetof(struct image_footer, footer_sum));
	queue_write(p, s, io, f, IMAGE_PAGE, f->file_size - IMAGE_PAGE);
}

static int result_of(const struct snapshot *s)
{
	return s->err != 0 ? s->err : s->lost < INT32_MAX ? (int)s->lost : INT32_MAX;
}

/* False: nobody listens any more. */
static bool tell(struct snapshot *s, bool ended)
{
	struct snapshot_answer a = {
		.pages = s->had,
		.saved = s->had - s->left,
		.pause_ns = s->pause,
		.bytes = s->footer->file_size,
		.result = ended ? result_of(s) : 0,
		.ended = ended,
	};
	struct iovec iov = {&a, sizeof(a)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	long r = SYS3(sendmsg, s->link, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	s->told = sys_now();
	return !sys_err(r) || r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM || r == -EINTR;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		SYS1(close, fd);
}

static void free_memory(struct snapshot *s)
{
	for (unsigned i = 0; i < PARTS; i++)
		sys_mem_free(s->part[i].mem, s->part[i].reserved);
	sys_mem_free(s->unsaved, s->bits_bytes);
	sys_mem_free(s->reading, s->bits_bytes);
	sys_mem_free(s->cells, s->ncells * PAGE_SIZE);
	sys_mem_free(s->ios, s->ncells * sizeof(*s->ios));
	sys_mem_free(s->footer, IMAGE_PAGE);
	sys_mem_free(s, sizeof(*s));
}

static void end(struct snapshot *s)
{
	struct mm *mm = s->mm;
	uint64_t one = 1;

	if (s->err != 0)
		SYS2(ftruncate, s->fd, 0);
	else
		mm_log(mm, FL_LOG_INFO,
		       "snapshot: %lu MiB in %lu ms, of which the program stood %lu us",
		       (unsigned long)(s->had >> 8),
		       (unsigned long)((sys_now() - s->began) / 1000000),
		       (unsigned long)(s->pause / 1000));
	if (s->link >= 0)
		tell(s, true);
	close_fd(s->direct_fd);
	close_fd(s->fd);
	close_fd(s->link);
	mm->snaps.now = NULL;
	mm->snaps.pages = 0;
	mm->snaps.bytes = 0;
	__atomic_store_n(&mm->snaps.result, result_of(s), __ATOMIC_RELAXED);
	/* Release: who sees it counted sees its result; pairs with fl_snapshot_wait(). */
	__atomic_fetch_add(&mm->snaps.ended, 1, __ATOMIC_RELEASE);
	futex_wake(&mm->snaps.ended, INT32_MAX);
	if (s->event_fd >= 0)
		SYS3(write, s->event_fd, &one, sizeof(one));
	close_fd(s->event_fd);
	free_memory(s);
}

static void go_on(struct pager *p, struct snapshot *s)
{
	for (;;) {
		if (s->left != 0 || (s->inflight != 0 && s->stage != SNAP_TABLES))
			return;
		if (s->err != 0)
			s->stage = SNAP_OVER;
		switch (s->stage) {
		case SNAP_SAVING:
			s->stage = SNAP_TABLES;
			break;
		case SNAP_TABLES:
			if (!write_tables(p, s) || s->inflight != 0)
				return;
			s->stage = SNAP_SYNC;
			queue_sync(p, s);
			break;
		case SNAP_SYNC:
			s->stage = SNAP_FOOTER;
			write_footer(p, s);
			break;
		case SNAP_FOOTER:
			s->stage = SNAP_SYNC_FOOTER;
			queue_sync(p, s);
			break;
		case SNAP_SYNC_FOOTER:
			s->stage = SNAP_OVER;
			break;
		case SNAP_OVER:
			if (s->inflight == 0)
				end(s);
			return;
		}
	}
}

/* ---- the instant ---- */

static bool is_part(const struct region *r)
{
	return r->users == NULL && !(r->flags & REGION_HELD);
}

/* Pages of [*vpn, end) that may have content: from the first leaf on, to the end of those that follow it. */
static bool next_leaves(struct mm *mm, vpn_t *vpn, vpn_t end, vpn_t *stop)
{
	const unsigned any = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);
	vpn_t found = pte_next(&mm->ptes, *vpn, end, any);
	vpn_t leaf = found & ~(vpn_t)(PTE_LEAF_PAGES - 1);

	if (found >= end)
		return false;
	if (leaf > *vpn)
		*vpn = leaf;
	leaf += PTE_LEAF_PAGES;
	while (leaf < end && pte_leaf(&mm->ptes, leaf) != NULL)
		leaf += PTE_LEAF_PAGES;
	*stop = leaf < end ? leaf : end;
	return true;
}

/* The ranges of an image, into out unless NULL: how many; *pages of all of them. */
static uint64_t list_ranges(struct mm *mm, uintptr_t start, uintptr_t end, bool linear,
			    struct image_range *out, uint64_t *pages)
{
	const struct region *r;
	uintptr_t at = start;
	uint64_t n = 0;

	*pages = 0;
	while ((r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		vpn_t vpn = vpn_of(r->start > start ? r->start : start);
		vpn_t last = vpn_of(r->end < end ? r->end : end);
		vpn_t stop;

		at = r->end;
		while (is_part(r) && vpn < last && next_leaves(mm, &vpn, last, &stop)) {
			if (out != NULL)
				out[n] = (struct image_range){
					.start = addr_of(vpn),
					.end = addr_of(stop),
					.offset =
						linear ? addr_of(vpn) - start : *pages * PAGE_SIZE,
					.first = *pages,
					.prot = (uint32_t)r->prot,
				};
			n++;
			*pages += stop - vpn;
			vpn = stop;
		}
	}
	return n;
}

/* A line for each region, as in /proc/PID/maps; how many bytes. */
static uint64_t list_regions(const struct mm *mm, uintptr_t start, uintptr_t end, char *out,
			     uint64_t *regions)
{
	const struct region *r;
	uintptr_t at = start;
	uint64_t len = 0;

	*regions = 0;
	while ((r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		at = r->end;
		++*regions;
		if (out == NULL)
			continue;
		len += log_format(
			out + len, MAPS_LINE, "%08lx-%08lx %c%c%c%c 00000000 00:00 0%s%s\n",
			(unsigned long)r->start, (unsigned long)r->end,
			r->prot & PROT_READ ? 'r' : '-', r->prot & PROT_WRITE ? 'w' : '-',
			r->prot & PROT_EXEC ? 'x' : '-', r->flags & REGION_SHARED ? 's' : 'p',
			r->users != NULL ? " " : "", r->users != NULL ? cache_of(r)->name : "");
	}
	return len;
}

static int check_range(const struct mm *mm, uintptr_t start, uintptr_t end)
{
	while (start < end) {
		const struct region *r = region_find(&mm->regions, start);

		if (r == NULL)
			return -ENOMEM;
		if (r->users != NULL)
			return -EINVAL;
		if (r->flags & REGION_HELD)
			return -EBUSY;
		start = r->end;
	}
	return 0;
}

static void *part_alloc(struct snapshot *s, unsigned part, uint64_t bytes)
{
	struct snap_part *t = &s->part[part];

	t->reserved = padded(bytes != 0 ? bytes : 1);
	t->mem = sys_mem_alloc(t->reserved);
	return t->mem;
}

static int make_tables(struct snapshot *s, uintptr_t start, uintptr_t end, bool linear)
{
	struct mm *mm = s->mm;
	struct image_footer *f = s->footer;
	uint64_t regions, offset, pages;
	struct timespec now;

	s->nranges = list_ranges(mm, start, end, linear, NULL, &s->pages);
	list_regions(mm, start, end, NULL, &regions);
	offset = linear ? end - start : s->pages * PAGE_SIZE;
	if (offset > IMAGE_BYTES_MAX || s->pages > IMAGE_BYTES_MAX / PAGE_SIZE)
		return -EFBIG;
	s->bits_bytes = padded((s->pages / 64 + 1) * sizeof(uint64_t));
	s->unsaved = sys_mem_alloc(s->bits_bytes);
	s->reading = sys_mem_alloc(s->bits_bytes);
	s->range = part_alloc(s, PART_RANGES, s->nranges * sizeof(*s->range));
	s->sum = part_alloc(s, PART_SUMS, s->pages * sizeof(*s->sum));
	if (s->unsaved == NULL || s->reading == NULL || s->range == NULL || s->sum == NULL ||
	    part_alloc(s, PART_MAPS, regions * MAPS_LINE) == NULL)
		return -ENOMEM;
	list_ranges(mm, start, end, linear, s->range, &pages);
	s->part[PART_RANGES].size = s->nranges * sizeof(*s->range);
	s->part[PART_MAPS].size = list_regions(mm, start, end, s->part[PART_MAPS].mem, &regions);
	s->part[PART_SUMS].size = s->pages * sizeof(*s->sum);
	for (unsigned i = 0; i < PARTS; i++) {
		s->part[i].offset = offset;
		offset += padded(s->part[i].size);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	memcpy(f->magic, IMAGE_MAGIC, sizeof(f->magic));
	f->version = IMAGE_VERSION;
	f->page_size = IMAGE_PAGE;
	f->file_size = offset + IMAGE_PAGE;
	f->flags = linear ? IMAGE_LINEAR : 0;
	f->start = linear ? start : 0;
	f->end = linear ? end : 0;
	f->time = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	f->pid = (uint64_t)SYS0(getpid);
	f->ranges = s->nranges;
	f->ranges_offset = s->part[PART_RANGES].offset;
	f->maps_bytes = s->part[PART_MAPS].size;
	f->maps_offset = s->part[PART_MAPS].offset;
	f->pages = s->pages;
	f->sums_offset = s->part[PART_SUMS].offset;
	s->dev.size = f->file_size;
	mm->snaps.bytes = 2 * s->bits_bytes + padded(s->part[PART_RANGES].size) +
			  padded(s->part[PART_MAPS].size) + padded(s->part[PART_SUMS].size);
	return 0;
}

/* Without dirty tracking nothing was registered for write-protection yet. */
static int register_protection(struct snapshot *s)
{
	struct mm *mm = s->mm;

	if (mm->opt.wp != FL_WP_OFF)
		return 0;
	for (uint64_t k = 0; k < s->nranges; k++) {
		const struct region *r = region_find(&mm->regions, s->range[k].start);
		int err;

		if (k != 0 && r->start <= s->range[k - 1].start)
			continue;
		err = uffd_register(mm->uffd, r->start, r->end - r->start, true);
		if (err != 0)
			return err;
	}
	return 0;
}

static bool protect_run(struct mm *mm, vpn_t vpn, uint64_t n)
{
	return n == 0 || uffd_writeprotect(mm->uffd, addr_of(vpn), n * PAGE_SIZE, true) == UFFD_OK;
}

/* The instant itself; false: the kernel refused. */
static bool protect(struct snapshot *s)
{
	struct mm *mm = s->mm;

	for (uint64_t k = 0; k < s->nranges; k++) {
		const struct image_range *r = &s->range[k];
		vpn_t vpn = vpn_of(r->start), end = vpn_of(r->end);
		uint64_t i = r->first;
		uint64_t run = 0;

		while (vpn < end) {
			const pte_t *leaf = pte_leaf(&mm->ptes, vpn);
			vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;

			if (stop > end)
				stop = end;
			for (; vpn < stop; vpn++, i++) {
				pte_t pte = leaf[vpn % PTE_LEAF_PAGES];
				enum pte_state state = pte_state(pte);

				if (state != PTE_NONE) {
					bit_set(s->unsaved, i);
					s->left++;
				}
				if (state == PTE_PRESENT) {
					/* what is protected already is passed over, unless a call passes it */
					run += run != 0 || !(pte & PTE_WP);
					continue;
				}
				if (!protect_run(mm, vpn - run, run))
					return false;
				run = 0;
			}
		}
		if (!protect_run(mm, vpn - run, run))
			return false;
	}
	return true;
}

/* Frames for the buffer, before the instant. */
static int make_room(struct pager *p, const struct snapshot *s)
{
	struct mm *mm = p->mm;
	unsigned idle = 0;

	mm->snaps.pages = s->ncells;
	while (mm_frames(mm) > mm_budget(mm)) {
		uint64_t before = mm_frames(mm);

		reclaim_make_room(p, 0);
		if (mm_frames(mm) < before)
			idle = 0;
		if (mm_frames(mm) <= mm_budget(mm))
			break;
		if (reclaim_io(mm))
			pager_pump(p);
		else if (++idle > ROOM_IDLE)
			return -ENOMEM;
	}
	return 0;
}

static int check_file(int fd)
{
	long mode = SYS3(fcntl, fd, F_GETFL, 0);
	struct stat st;
	long r;

	if (sys_err(mode))
		return (int)mode;
	if ((mode & O_PATH) || (mode & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	r = SYS2(fstat, fd, &st);
	if (sys_err(r))
		return (int)r;
	if (!S_ISREG(st.st_mode) || (mode & O_APPEND))
		return -EINVAL;
	return st.st_size != 0 ? -EEXIST : 0;
}

static struct snapshot *allocate(struct mm *mm)
{
	struct snapshot *s = sys_mem_alloc(sizeof(*s));
	uint64_t cells = mm->limit / 64;

	if (s == NULL)
		return NULL;
	s->mm = mm;
	s->fd = s->direct_fd = s->event_fd = s->link = -1;
	s->ncells = cells < CELLS_MIN ? CELLS_MIN : cells > CELLS_MAX ? CELLS_MAX : (uint32_t)cells;
	s->cells_free = s->allowed = s->ncells;
	s->cells = sys_mem_alloc(s->ncells * PAGE_SIZE);
	s->ios = sys_mem_alloc(s->ncells * sizeof(*s->ios));
	s->footer = sys_mem_alloc(IMAGE_PAGE);
	if (s->cells == NULL || s->ios == NULL || s->footer == NULL) {
		free_memory(s);
		return NULL;
	}
	SYS3(madvise, s->cells, s->ncells * PAGE_SIZE, MADV_NOHUGEPAGE);
	SYS3(madvise, s->cells, s->ncells * PAGE_SIZE, MADV_DONTFORK);
	for (uint32_t i = 0; i < s->ncells; i++) {
		s->ios[i].next = s->io_free;
		s->io_free = &s->ios[i];
	}
	return s;
}

/* The descriptor that is written through: direct where the file can be opened so. */
static void open_direct(struct snapshot *s)
{
	char path[48];
	long fd;

	log_format(path, sizeof(path), "thread-self/fd/%d", s->fd);
	fd = SYS4(openat, s->mm->proc_fd, path, O_WRONLY | O_DIRECT | O_CLOEXEC, 0);
	s->direct_fd = sys_err(fd) ? -1 : (int)fd;
	s->dev = (struct blk_dev){
		.fd = sys_err(fd) ? s->fd : (int)fd,
		.name = "image",
		.file = true,
	};
}

static long arm(struct pager *p)
{
	long r = p->mm->armed ? 0 : pager_arm(p->mm);

	/* what was there already may be above the limit */
	return r != 0 || p->mm->armed == 0 ? r : do_set_limit(p, p->mm->limit);
}

static long at_instant(struct snapshot *s, uintptr_t start, uintptr_t end, bool linear)
{
	uint64_t t0 = sys_now();
	long r = linear ? check_range(s->mm, start, end) : 0;

	if (r == 0)
		r = make_tables(s, start, end, linear);
	if (r == 0)
		r = register_protection(s);
	if (r == 0 && !protect(s)) {
		for (uint64_t k = 0; k < s->nranges; k++)
			lift(s->mm, vpn_of(s->range[k].start),
			     (uint32_t)vpn_of(s->range[k].end - s->range[k].start));
		r = -ENOMEM;
	}
	s->pause = sys_now() - t0;
	return r;
}

/* The descriptors, of this table, are the snapshot's from here on; link: who is told, -1: nobody. */
static long begin(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		  int event_fd, int link)
{
	struct mm *mm = p->mm;
	bool linear = end != 0;
	struct snapshot *s;
	long r;

	if (mm->snaps.pages != 0 || mm->closing)
		return -EBUSY;
	r = check_file(fd);
	if (r == 0 && !mm->armed)
		r = arm(p);
	/* that may have let others begin one */
	if (r != 0 || mm->snaps.pages != 0)
		return r != 0 ? r : -EBUSY;
	s = allocate(mm);
	if (s == NULL)
		return -ENOMEM;
	r = make_room(p, s);
	s->began = sys_now();
	if (r == 0)
		r = at_instant(s, start, linear ? end : addr_of(VPN_MAX), linear);
	if (r != 0) {
		mm->snaps.pages = 0;
		mm->snaps.bytes = 0;
		free_memory(s);
		return r;
	}
	s->fd = fd;
	s->flags = flags;
	s->event_fd = event_fd;
	s->link = link;
	open_direct(s);
	s->dev.size = s->footer->file_size;
	s->had = s->left;
	mm->snaps.now = s;
	__atomic_store_n(&mm->stats.snapshot_pages, s->had, __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.snapshot_saved, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.snapshot_pause, s->pause, __ATOMIC_RELAXED);
	/* Release: who waits for its end sees that it has begun; pairs with fl_snapshot_wait(). */
	__atomic_fetch_add(&mm->snaps.begun, 1, __ATOMIC_RELEASE);
	return 0;
}

long do_snapshot(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		 int event_fd)
{
	struct mm *mm = p->mm;
	long image = mm->pidfd < 0 ? -ENOSYS : SYS3(pidfd_getfd, mm->pidfd, fd, 0);
	long event = -1;
	long r = sys_err(image) ? image : 0;

	if (r == 0 && event_fd >= 0) {
		event = SYS3(pidfd_getfd, mm->pidfd, event_fd, 0);
		r = sys_err(event) ? event : 0;
	}
	if (r == 0)
		r = begin(p, start, end, (int)image, flags, (int)event, -1);
	if (r != 0) {
		if (!sys_err(image))
			SYS1(close, image);
		if (event != -1 && !sys_err(event))
			SYS1(close, event);
	}
	return r;
}

/* ---- asked for from outside ---- */

union ask_control {
	struct cmsghdr head;
	char room[CMSG_SPACE(2 * sizeof(int))];
};

struct asked {
	struct snapshot_ask ask;
	int fd[2]; /* the image, the link; -1: none */
};

/* The descriptors that a message brought are to be closed by the caller; there is room for two. */
static void take_control(struct msghdr *m, struct asked *a)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	size_t n;

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(a->fd, CMSG_DATA(c), (n < 2 ? n : 2) * sizeof(int));
}

static bool receive(const struct mm *mm, struct asked *a)
{
	struct iovec iov = {&a->ask, sizeof(a->ask)};
	union ask_control control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	long r;

	memset(a, 0, sizeof(*a));
	memset(&control, 0, sizeof(control));
	a->fd[0] = a->fd[1] = -1;
	r = SYS3(recvmsg, mm->snaps.port_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (sys_err(r))
		return false;
	take_control(&m, a);
	if (r != (long)sizeof(a->ask))
		a->ask.what = 0;
	return true;
}

/* Only who can read the memory knows the token. */
static long answer(struct pager *p, const struct asked *a)
{
	const struct snapshot_port *port = &p->mm->snaps.port;

	if (a->ask.token[0] != port->token[0] || a->ask.token[1] != port->token[1])
		return -EPERM;
	if (a->ask.flags & ~FL_SNAPSHOT_NOSYNC)
		return -EPROTO;
	return begin(p, 0, 0, a->fd[0], a->ask.flags, -1, a->fd[1]);
}

static void serve_port(struct pager *p)
{
	struct mm *mm = p->mm;
	struct asked a;

	mm->snaps.knocked = false;
	for (unsigned n = 0; receive(mm, &a); n++) {
		struct snapshot_answer no = {.ended = 1};
		struct iovec iov = {&no, sizeof(no)};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
		long r = -EINVAL;

		if (a.ask.what == SNAPSHOT_ASK && a.fd[0] >= 0 && a.fd[1] >= 0)
			r = answer(p, &a);
		if (r == 0)
			continue;
		no.result = (int32_t)r;
		if (a.fd[1] >= 0)
			SYS3(sendmsg, a.fd[1], &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		close_fd(a.fd[0]);
		close_fd(a.fd[1]);
		if (n == PORT_BURST) {
			mm->snaps.knocked = true;
			break;
		}
	}
	hop_passed_over(p);
}

void snapshot_listen(struct mm *mm)
{
	struct snapshot_port *port = &mm->snaps.port;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);
	long fd;
	long r;

	if (!(mm->flags & MM_PRELOAD) || SYS3(getrandom, port->token, sizeof(port->token),
					      GRND_NONBLOCK) != (long)sizeof(port->token))
		return;
	fd = SYS3(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sys_err(fd))
		return;
	/* the kernel chooses a name when none is given */
	r = SYS3(bind, fd, &addr, sizeof(addr.sun_family));
	if (r == 0)
		r = SYS3(getsockname, fd, &addr, &len);
	len -= (socklen_t)sizeof(addr.sun_family);
	if (r != 0 || len > sizeof(port->name) || fork_watch(mm, (int)fd, true) != 0) {
		SYS1(close, fd);
		return;
	}
	mm->snaps.port_fd = (int)fd;
	memcpy(port->name, addr.sun_path, len);
	/* Release: who reads the length reads the name. */
	__atomic_store_n(&port->len, len, __ATOMIC_RELEASE);
}

bool snapshot_heard(struct mm *mm, int fd)
{
	if (mm->snaps.port_fd < 0 || fd != mm->snaps.port_fd)
		return false;
	mm->snaps.knocked = true;
	return true;
}

/* ---- */

void snapshots_init(struct mm *mm)
{
	mm->snaps.port_fd = -1;
}

void snapshots_forked(struct mm *mm)
{
	if (mm->snaps.now != NULL)
		free_memory(mm->snaps.now);
	mm->snaps = (struct snapshots){.port_fd = -1};
}

void snapshot_round(struct pager *p, bool calls)
{
	struct snapshots *all = &p->mm->snaps;

	if (all->now != NULL) {
		struct snapshot *s = all->now;

		s->stalled = false;
		cells_fit(s);
		work(p, s);
		if (s->link >= 0 && sys_now() - s->told > TELL_NS && !tell(s, false))
			fail(s, -EPIPE);
		go_on(p, s);
	}
	if (all->knocked && calls && !p->stop)
		serve_port(p);
}

bool snapshot_ready(const struct mm *mm)
{
	const struct snapshot *s = mm->snaps.now;

	return s != NULL && s->left != 0 && !s->stalled &&
	       (s->err != 0 || cells_room(s) > s->allowed / 4);
}

void snapshot_finish(struct pager *p)
{
	while (p->mm->snaps.now != NULL)
		pager_pump(p);
}
