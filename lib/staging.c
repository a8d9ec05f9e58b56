/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * staging.c - frames between the application and their slot; see staging.h.
 *
 * A block's life:
 *
 *   FREE --stage_evict--> FILLING --full, or stage_writeout--> QUEUED
 *     ^                                                          |
 *     |                                                    stage_writeout
 *     +---block_finish (all written)--- WRITING <----------------+
 *                                          |
 *             QUEUED <--block_finish (a write failed, or no slot was free)
 */
#include "staging.h"

#include "in-thread.h"
#include "mm.h"
#include "reclaim.h"
#include "snapshot.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* An area that failed this often takes no more pages. */
#define AREA_ERRORS_MAX 16U
#define SPARES_MAX 16U
#define HUGE_PAGES 512U /* a huge page has */
#define BUFFER_BYTES ((STAGE_BUFFER_MAX + HUGE_PAGES) * PAGE_SIZE)
#define SPARES_ONE_BY_ONE 8U /* wanted by who takes single frames */

#define DESC_BYTES                                                                                 \
	(((STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX) * sizeof(struct stage_page) + 4095) &             \
	 ~(size_t)4095)

uint64_t stage_csum_keyed(uint64_t key, const void *page, swp_t swp)
{
	/* objects are moved: their names are no part of it */
	uint64_t name = swp_pooled(swp) ? swp_of_object(0) : swp;
	uint64_t h = XXH3_64bits_withSeed(page, PAGE_SIZE, key ^ name * 0x9e3779b97f4a7c15U);

	h &= ((uint64_t)1 << SLOT_CSUM_BITS) - 1;
	return h != 0 ? h : 1;
}

uint64_t stage_csum(const struct mm *mm, const void *page, swp_t swp)
{
	return stage_csum_keyed(mm->csum_key, page, swp);
}

void *stage_addr(const struct mm *mm, uint32_t index)
{
	if (index < STAGE_BLOCK_PAGES)
		return (char *)mm->staging.base + (size_t)index * PAGE_SIZE;
	return mm->staging.buffer + (size_t)(index - STAGE_BLOCK_PAGES) * PAGE_SIZE;
}

/* The read buffer begins where a huge page may. */
static int buffer_alloc(struct staging *s)
{
	s->buffer_map = sys_mem_alloc(BUFFER_BYTES);
	if (s->buffer_map == NULL)
		return -ENOMEM;
	s->buffer = s->buffer_map + (-(uintptr_t)s->buffer_map & (HUGE_PAGES * PAGE_SIZE - 1));
	SYS3(madvise, s->buffer_map, BUFFER_BYTES, MADV_NOHUGEPAGE);
	SYS3(madvise, s->buffer_map, BUFFER_BYTES, MADV_DONTFORK);
	s->buffer_huge = 0;
	return 0;
}

/*
 * Whole huge pages within the n pages in use may be such: a read then has one
 * segment instead of hundreds.  Where that is refused the frames are small ones.
 */
static void buffer_advise(struct staging *s, uint32_t n)
{
	uint32_t huge = n / HUGE_PAGES * HUGE_PAGES;

	if (huge > s->buffer_huge)
		SYS3(madvise, s->buffer, huge * PAGE_SIZE, MADV_HUGEPAGE);
	else if (huge < s->buffer_huge)
		SYS3(madvise, s->buffer + huge * PAGE_SIZE, (s->buffer_huge - huge) * PAGE_SIZE,
		     MADV_NOHUGEPAGE);
	s->buffer_huge = huge;
}

void staging_unlock(const struct mm *mm)
{
	SYS2(munlock, mm->staging.base, STAGE_BLOCK_PAGES * PAGE_SIZE);
}

/* Blocks are inherited only by a fork that knows of them (fork.c). */
static int register_blocks(struct mm *mm)
{
	staging_unlock(mm);
	SYS3(madvise, mm->staging.base, STAGE_BLOCK_PAGES * PAGE_SIZE, MADV_DONTFORK);
	return uffd_register(mm->uffd, mm->staging.base, STAGE_BLOCK_PAGES * PAGE_SIZE, false);
}

int staging_open(struct mm *mm)
{
	struct staging *s = &mm->staging;
	int r;

	memset(s, 0, sizeof(*s));
	s->base = (uintptr_t)sys_mem_alloc(STAGE_BLOCK_PAGES * PAGE_SIZE);
	s->page = sys_mem_alloc(DESC_BYTES);
	if (s->base == 0 || s->page == NULL || buffer_alloc(s) != 0)
		return -ENOMEM;
	SYS3(madvise, s->base, STAGE_BLOCK_PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
	r = register_blocks(mm);
	if (r != 0)
		return r;
	s->head = s->tail = s->filling = s->spare_list = s->giving = STAGE_NONE;
	s->free_list = 0;
	for (uint32_t i = 0; i < STAGE_BLOCKS; i++)
		s->block[i].next = i + 1 < STAGE_BLOCKS ? i + 1 : STAGE_NONE;
	staging_resize(mm);
	return 0;
}

void staging_close(struct mm *mm)
{
	struct staging *s = &mm->staging;

	sys_mem_free((void *)s->base, STAGE_BLOCK_PAGES * PAGE_SIZE);
	sys_mem_free(s->buffer_map, BUFFER_BYTES);
	sys_mem_free(s->page, DESC_BYTES);
	memset(s, 0, sizeof(*s));
}

static uint64_t clamp(uint64_t v, uint64_t lo, uint64_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* ---- the queue of blocks ---- */

static void queue_push(struct staging *s, uint32_t b)
{
	s->block[b].state = BLOCK_QUEUED;
	s->block[b].next = STAGE_NONE;
	s->waiting += s->block[b].live;
	if (s->tail == STAGE_NONE)
		s->head = b;
	else
		s->block[s->tail].next = b;
	s->tail = b;
}

static uint32_t queue_pop(struct staging *s)
{
	uint32_t b = s->head;

	if (b == STAGE_NONE)
		return b;
	s->head = s->block[b].next;
	if (s->head == STAGE_NONE)
		s->tail = STAGE_NONE;
	s->waiting -= s->block[b].live;
	return b;
}

/* One frame less in a block. */
static void frame_gone(struct staging *s, struct stage_block *b)
{
	b->live--;
	s->frames--;
	if (b->state == BLOCK_QUEUED)
		s->waiting--;
}

static void page_forked(struct mm *mm, struct stage_page *sp)
{
	bool held =
		sp->state != STAGE_FILLED && sp->swp != SWP_NONE && swap_held(&mm->swap, sp->swp);

	if (sp->state == STAGE_WRITING && (sp->flags & STAGE_DETACHED)) {
		sp->state = STAGE_DEAD;
	} else if (sp->state == STAGE_WRITING || sp->state == STAGE_CLEAN ||
		   sp->state == STAGE_MOVED) {
		if (!held) {
			sp->swp = SWP_NONE;
			sp->state = STAGE_MOVED;
		}
	}
	sp->flags = 0;
}

int staging_forked(struct mm *mm)
{
	struct staging *s = &mm->staging;

	if (buffer_alloc(s) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < STAGE_BUFFER_MAX; i++)
		if (s->page[STAGE_BLOCK_PAGES + i].state != STAGE_FREE)
			s->page[STAGE_BLOCK_PAGES + i] = (struct stage_page){.state = STAGE_FREE};
	s->buffer_used = s->buffer_reading = s->buffer_touched = s->buffer_hand = 0;
	for (uint32_t b = 0; b < STAGE_BLOCKS; b++) {
		if (s->block[b].state == BLOCK_FREE)
			continue;
		s->block[b].pending = 0;
		for (uint32_t i = 0; i < s->block[b].cursor; i++)
			page_forked(mm, &s->page[b * STAGE_BLOCK + i]);
		if (s->block[b].state == BLOCK_WRITING)
			queue_push(s, b);
	}
	return register_blocks(mm);
}

static uint32_t block_to_fill(struct staging *s)
{
	if (s->filling == STAGE_NONE && s->free_list != STAGE_NONE) {
		s->filling = s->free_list;
		s->free_list = s->block[s->filling].next;
		s->block[s->filling] = (struct stage_block){
			.state = BLOCK_FILLING,
			.generation = s->block[s->filling].generation + 1,
		};
	}
	return s->filling;
}

/*
 * Give frames of ours back to the kernel; also when mlockall(2) locked them.
 * What it refuses to take stays behind, and is met when its place is used again.
 */
static void release(struct mm *mm, uint32_t index, uint32_t n)
{
	SYS3(madvise, stage_addr(mm, index), n * PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

/* ---- spare frames ---- */

static void block_free(struct staging *s, uint32_t b)
{
	s->block[b].state = BLOCK_FREE;
	s->block[b].next = s->free_list;
	s->free_list = b;
}

/* Nothing of the block is needed any more; whole: each of its places has a frame. */
static void block_over(struct mm *mm, uint32_t b, bool whole)
{
	struct staging *s = &mm->staging;
	uint64_t kept = stage_spare_pages(mm) + STAGE_BLOCK;

	/* what became of the block may have taken its frames' place in the pool */
	if (!whole || s->spares_wanted == 0 || s->spares == SPARES_MAX || mm->closing ||
	    (mm_tiered(mm) && mm_frames(mm) + kept > mm_budget(mm))) {
		release(mm, b * STAGE_BLOCK, STAGE_BLOCK);
		block_free(s, b);
		return;
	}
	s->spares_wanted--;
	s->spares++;
	s->block[b].state = BLOCK_SPARE;
	s->block[b].next = s->spare_list;
	s->spare_list = b;
}

static uint32_t spare_take(struct staging *s)
{
	uint32_t b = s->spare_list;

	if (b != STAGE_NONE) {
		s->spare_list = s->block[b].next;
		s->spares--;
	}
	return b;
}

uint32_t stage_spare_give(struct mm *mm, vpn_t vpn, uint32_t n)
{
	struct staging *s = &mm->staging;
	uint32_t got = 0;
	bool all = true;

	while (all && n - got >= STAGE_BLOCK) {
		uint32_t b = spare_take(s);
		void *frames;
		size_t done;

		if (b == STAGE_NONE)
			break;
		frames = stage_addr(mm, b * STAGE_BLOCK);
		memset(frames, 0, STAGE_BLOCK * PAGE_SIZE);
		uffd_move(in_thread_uffd_at(mm, addr_of(vpn)), mm->pagemap_fd, addr_of(vpn + got),
			  (uintptr_t)frames, STAGE_BLOCK * PAGE_SIZE, &done);
		all = done == STAGE_BLOCK * PAGE_SIZE;
		if (!all)
			release(mm, b * STAGE_BLOCK, STAGE_BLOCK);
		block_free(s, b);
		got += (uint32_t)(done >> PAGE_SHIFT);
	}
	stat_add(&mm->stats.frames_reused, got);
	if (n >= STAGE_BLOCK)
		s->spares_wanted = n / STAGE_BLOCK * 2;
	return got;
}

uint32_t stage_spare_one(struct mm *mm)
{
	struct staging *s = &mm->staging;

	if (s->giving == STAGE_NONE) {
		s->giving = spare_take(s);
		if (s->giving == STAGE_NONE) {
			if (s->spares_wanted < SPARES_ONE_BY_ONE)
				s->spares_wanted = SPARES_ONE_BY_ONE;
			return STAGE_NONE;
		}
		s->block[s->giving].cursor = STAGE_BLOCK;
	}
	return s->giving * STAGE_BLOCK + s->block[s->giving].cursor - 1;
}

void stage_spare_gone(struct mm *mm)
{
	struct staging *s = &mm->staging;

	stat_add(&mm->stats.frames_reused, 1);
	if (--s->block[s->giving].cursor == 0) {
		block_free(s, s->giving);
		s->giving = STAGE_NONE;
	}
}

uint64_t stage_spare_pages(const struct mm *mm)
{
	const struct staging *s = &mm->staging;

	return (uint64_t)s->spares * STAGE_BLOCK +
	       (s->giving != STAGE_NONE ? s->block[s->giving].cursor : 0);
}

void stage_spare_drop(struct mm *mm, uint64_t n)
{
	struct staging *s = &mm->staging;
	uint64_t got = 0;
	uint32_t b;

	if (n != 0 && s->giving != STAGE_NONE) {
		b = s->giving;
		got = s->block[b].cursor;
		s->giving = STAGE_NONE;
		release(mm, b * STAGE_BLOCK, (uint32_t)got);
		block_free(s, b);
	}
	for (; got < n && (b = spare_take(s)) != STAGE_NONE; got += STAGE_BLOCK) {
		release(mm, b * STAGE_BLOCK, STAGE_BLOCK);
		block_free(s, b);
	}
}

static void close_filling(struct staging *s)
{
	uint32_t b = s->filling;

	s->filling = STAGE_NONE;
	queue_push(s, b);
}

/*
 * The next place of the filling block is taken by a frame that could not be
 * released before: try again, and pass it over.
 */
static void skip_place(struct mm *mm)
{
	struct staging *s = &mm->staging;
	uint32_t b = s->filling;
	uint32_t index = b * STAGE_BLOCK + s->block[b].cursor;

	release(mm, index, 1);
	s->page[index] = (struct stage_page){.state = STAGE_FREE};
	if (++s->block[b].cursor == STAGE_BLOCK)
		close_filling(s);
}

/* Pages from vpn are about to leave for the places from index on; said before they do. */
static void transit_begin(struct staging *s, vpn_t vpn, uint32_t index, uint32_t n)
{
	/* The move or copy that follows is a system call, which orders the stores for who finds
	 * the page gone: peek.c reads them after that. */
	__atomic_store_n(&s->transit.n, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&s->transit.vpn, vpn, __ATOMIC_RELEASE);
	__atomic_store_n(&s->transit.index, index, __ATOMIC_RELEASE);
	__atomic_store_n(&s->transit.n, n, __ATOMIC_RELEASE);
}

/* Those that left have entries that say so. */
static void transit_end(struct staging *s)
{
	__atomic_store_n(&s->transit.n, 0, __ATOMIC_RELEASE);
}

/* Note a frame that came into the filling block. */
static void frame_came(struct mm *mm, uint32_t index, vpn_t vpn, swp_t swp)
{
	struct staging *s = &mm->staging;

	s->page[index] = (struct stage_page){.vpn = vpn, .state = STAGE_MOVED, .swp = swp};
	s->block[s->filling].live++;
	s->frames++;
	pte_set(&mm->ptes, vpn, pte_make(PTE_STAGED, index, 0));
	stat_add(&mm->stats.evicted, 1);
}

/*
 * A frame that refused to move is pinned, or shared with a child of an earlier
 * fork.  A write fault gives us a copy of a shared one (and does nothing to
 * one that is pinned and ours alone).  The page must be present and not
 * write-protected, or the pager would fault into its own userfaultfd.
 */
static bool unshare_frame(struct mm *mm, vpn_t vpn)
{
	struct page_region run;
	enum uffd_result res;
	uintptr_t next;

	/* one that a snapshot has not saved must not be written: it stays until it is */
	if (snapshot_unsaved(mm, vpn))
		return false;
	/* GONE: registered without write-protection (FL_WP_OFF), so it is not protected */
	res = uffd_writeprotect(mm->uffd, addr_of(vpn), PAGE_SIZE, false);
	if ((res != UFFD_OK && res != UFFD_GONE) ||
	    uffd_scan_present(mm->pagemap_fd, addr_of(vpn), addr_of(vpn + 1), &run, 1, &next) !=
		    1 ||
	    !(run.categories & PAGE_IS_PRESENT))
		return false;
	pte_set_bits(&mm->ptes, vpn, 0, PTE_WP | PTE_SYNC);
	return !sys_err(SYS3(madvise, addr_of(vpn), PAGE_SIZE, MADV_POPULATE_WRITE));
}

uint32_t stage_evict(struct mm *mm, vpn_t vpn, uint32_t n)
{
	struct staging *s = &mm->staging;
	uint32_t total = 0;
	bool tried = false; /* the page at `total` was given a frame of its own */

	while (total < n) {
		uint32_t b = block_to_fill(s);
		enum uffd_result res;
		uint32_t index;
		uint32_t run;
		size_t done;

		if (b == STAGE_NONE)
			break;
		run = n - total;
		if (run > STAGE_BLOCK - s->block[b].cursor)
			run = STAGE_BLOCK - s->block[b].cursor;
		index = b * STAGE_BLOCK + s->block[b].cursor;
		transit_begin(s, vpn + total, index, run);
		res = uffd_move(mm->uffd, mm->pagemap_fd, (uintptr_t)stage_addr(mm, index),
				addr_of(vpn + total), run * PAGE_SIZE, &done);
		run = (uint32_t)(done >> PAGE_SHIFT);
		for (uint32_t i = 0; i < run; i++)
			frame_came(mm, index + i, vpn + total + i,
				   pte_swp(pte_get(&mm->ptes, vpn + total + i)));
		transit_end(s);
		s->block[b].cursor = (uint16_t)(s->block[b].cursor + run);
		if (s->block[b].cursor == STAGE_BLOCK)
			close_filling(s);
		total += run;
		if (run != 0)
			tried = false;
		if (res == UFFD_OK)
			continue;
		if (res == UFFD_EXIST) {
			skip_place(mm);
			continue;
		}
		if (res == UFFD_UNFIT && n - total > 1) {
			/* the run may cross into another mapping: up to its border first */
			uint32_t part = (uint32_t)(uffd_vma_part(mm->maps_fd, addr_of(vpn + total),
								 (n - total) * PAGE_SIZE) >>
						   PAGE_SHIFT);

			if (part < n - total) {
				uint32_t more = stage_evict(mm, vpn + total, part);

				total += more;
				if (more == part)
					continue;
				break;
			}
		}
		if (res == UFFD_BUSY && !tried && unshare_frame(mm, vpn + total)) {
			tried = true;
			continue;
		}
		/* Pinned, or (GONE) dropped lazily by an earlier MADV_FREE: leave it for a while. */
		if (res != UFFD_GONE)
			stat_add(&mm->stats.evict_busy, 1);
		pte_set_bits(&mm->ptes, vpn + total, PTE_BUSY, 0);
		break;
	}
	return total;
}

bool stage_evict_readonly(struct mm *mm, vpn_t vpn)
{
	struct staging *s = &mm->staging;
	uint32_t b = block_to_fill(s);
	char copy[PAGE_SIZE] __attribute__((aligned(64)));
	enum uffd_result res = UFFD_UNFIT;
	uint32_t index;
	size_t done;

	if (b == STAGE_NONE)
		return false;
	index = b * STAGE_BLOCK + s->block[b].cursor;
	transit_begin(s, vpn, index, 1);
	/* through /proc/self/mem, which reads whatever the protection */
	if (SYS4(pread, mm->mem_fd, copy, PAGE_SIZE, addr_of(vpn)) == (long)PAGE_SIZE)
		res = uffd_copy(mm->uffd, (uintptr_t)stage_addr(mm, index), copy, PAGE_SIZE, false,
				&done);
	if (res == UFFD_EXIST)
		skip_place(mm);
	if (res != UFFD_OK) {
		pte_set_bits(&mm->ptes, vpn, PTE_BUSY, 0);
		return false;
	}
	if (sys_err(SYS3(madvise, addr_of(vpn), PAGE_SIZE, MADV_DONTNEED))) {
		release(mm, index, 1);
		pte_set_bits(&mm->ptes, vpn, PTE_BUSY, 0);
		return false;
	}
	frame_came(mm, index, vpn, pte_swp(pte_get(&mm->ptes, vpn)));
	transit_end(s);
	if (++s->block[b].cursor == STAGE_BLOCK)
		close_filling(s);
	return true;
}

/* ---- writing out ---- */

/*
 * Every write of the block has ended: its pages go where their content is,
 * the frames to the kernel.  What could not be written waits for another try.
 */
static void block_finish(struct mm *mm, uint32_t b)
{
	struct staging *s = &mm->staging;
	struct stage_block *blk = &s->block[b];
	bool whole = blk->cursor == STAGE_BLOCK;
	uint32_t left = 0;

	for (uint32_t i = 0; i < blk->cursor; i++) {
		uint32_t index = b * STAGE_BLOCK + i;
		struct stage_page *sp = &s->page[index];

		switch (sp->state) {
		case STAGE_CLEAN:
			pte_set(&mm->ptes, sp->vpn, pte_away(sp->swp));
			break;
		case STAGE_FILLED:
			pte_set(&mm->ptes, sp->vpn, pte_make(PTE_FILLED, sp->swp, 0));
			break;
		case STAGE_MOVED:
			left++;
			continue;
		case STAGE_FREE:
			whole = false;
			continue;
		default: /* DEAD */
			break;
		}
		sp->state = STAGE_FREE;
		sp->flags = 0;
		frame_gone(s, blk);
	}
	if (left == 0) {
		block_over(mm, b, whole);
		return;
	}
	for (uint32_t i = 0; i < blk->cursor; i++)
		if (s->page[b * STAGE_BLOCK + i].state == STAGE_FREE)
			release(mm, b * STAGE_BLOCK + i, 1);
	queue_push(s, b);
}

void stage_area_failed(struct mm *mm, swp_t swp, int err)
{
	struct swap_area *a = mm->swap.area[swp_area(swp)];

	stat_add(&mm->stats.io_errors, 1);
	a->io_errors++;
	if (a->io_errors <= 3 || (a->io_errors >= AREA_ERRORS_MAX && a->on))
		mm_log(mm, FL_LOG_ERROR, "cannot write to swap area %s, slot %u: %s", a->path,
		       swp_slot(swp), log_strerror(err));
	/* reads count too, so the number may be passed over */
	if (a->io_errors >= AREA_ERRORS_MAX && a->on) {
		a->on = false;
		mm_log(mm, FL_LOG_ERROR, "swap area %s failed %u times and takes no more pages",
		       a->path, AREA_ERRORS_MAX);
	}
}

static void write_done(struct blk_req *req, int res)
{
	struct swap_io *io = (struct swap_io *)(void *)req;
	struct mm *mm = io->pager->mm;
	struct staging *s = &mm->staging;
	uint32_t b = io->block;

	if (res != 0)
		stage_area_failed(mm, io->swp, res);
	for (uint32_t i = 0; i < io->n; i++) {
		struct stage_page *sp = &s->page[b * STAGE_BLOCK + io->page[i]];
		swp_t swp = io->swp + i;

		if (res == 0) {
			swap_csum_set(&mm->swap, swp, io->csum[i]);
			sp->state = sp->flags & STAGE_DETACHED ? STAGE_DEAD : STAGE_CLEAN;
			if (swap_idle(&mm->swap, swp))
				mm->swap_full = false;
			continue;
		}
		/* It stays busy for ever: a slot that failed is not used again. */
		mm->swap.area[swp_area(swp)]->bad_slots++;
		if (sp->flags & STAGE_DETACHED) {
			sp->state = STAGE_DEAD;
			continue;
		}
		swap_put(&mm->swap, swp);
		sp->swp = SWP_NONE;
		sp->state = STAGE_MOVED;
	}
	pool_put(&mm->io_pool, io);
	if (--s->block[b].pending == 0)
		block_finish(mm, b);
}

/* What has to be written of a block: page numbers into dirty[]; how many. */
static uint32_t block_sort(struct mm *mm, uint32_t b, uint16_t *dirty)
{
	struct staging *s = &mm->staging;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->block[b].cursor; i++) {
		struct stage_page *sp = &s->page[b * STAGE_BLOCK + i];
		const void *page = stage_addr(mm, b * STAGE_BLOCK + i);
		uint64_t word;
		uint32_t fill;

		if (sp->state != STAGE_MOVED)
			continue;
		if (fill_check(page, &word) && (fill = fill_get(&mm->fills, word)) != FILL_NONE) {
			if (sp->swp != SWP_NONE)
				swap_put(&mm->swap, sp->swp);
			sp->swp = fill;
			sp->state = STAGE_FILLED;
			continue;
		}
		if (sp->swp != SWP_NONE) {
			uint64_t csum = swap_csum(&mm->swap, sp->swp);

			if (csum != 0 && csum == stage_csum(mm, page, sp->swp)) {
				sp->state = STAGE_CLEAN;
				stat_add(&mm->stats.dropped_clean, 1);
				continue;
			}
			swap_put(&mm->swap, sp->swp);
			sp->swp = SWP_NONE;
		}
		dirty[n++] = (uint16_t)i;
	}
	return n;
}

/*
 * Compress pages dirty[0..n) of a block, as far as the pool takes them; their
 * frames are released now, since the block may wait long for the writes of the
 * others.  How many are left in dirty[].
 */
static uint32_t block_compress(struct mm *mm, uint32_t b, uint16_t *dirty, uint32_t n)
{
	struct staging *s = &mm->staging;
	uint32_t left = 0;
	uint32_t from = 0; /* of the run that is to be released */
	uint32_t run = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct stage_page *sp = &s->page[b * STAGE_BLOCK + dirty[i]];
		swp_t swp = tier_store(mm, sp->vpn, stage_addr(mm, b * STAGE_BLOCK + dirty[i]));

		if (swp == SWP_NONE) {
			dirty[left++] = dirty[i];
		} else {
			sp->swp = swp;
			sp->state = STAGE_CLEAN;
		}
	}
	/* a block of which nothing is left is over at once, as a whole */
	for (uint32_t i = 0; left != 0 && i <= s->block[b].cursor; i++) {
		uint32_t index = b * STAGE_BLOCK + i;
		struct stage_page *sp = &s->page[index];

		if (i < s->block[b].cursor && sp->state == STAGE_CLEAN) {
			pte_set(&mm->ptes, sp->vpn, pte_away(sp->swp));
			sp->state = STAGE_FREE;
			sp->flags = 0;
			frame_gone(s, &s->block[b]);
			if (run++ == 0)
				from = index;
			continue;
		}
		if (run != 0)
			release(mm, from, run);
		run = 0;
	}
	return left;
}

/* Write pages dirty[0..n) of a block to adjacent slots from swp. */
static bool write_run(struct pager *p, uint32_t b, const uint16_t *dirty, uint32_t n, swp_t swp)
{
	struct mm *mm = p->mm;
	struct staging *s = &mm->staging;
	struct swap_io *io = pool_get(&mm->io_pool);
	uint32_t run;
	uint64_t off;
	uint32_t niov = 0;

	if (io == NULL)
		return false;
	io->pager = p;
	io->swp = swp;
	io->block = b;
	io->n = (uint16_t)n;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = b * STAGE_BLOCK + dirty[i];
		char *page = stage_addr(mm, index);

		io->page[i] = dirty[i];
		io->csum[i] = stage_csum(mm, page, swp + i);
		swap_busy(&mm->swap, swp + i);
		s->page[index].swp = swp + i;
		s->page[index].state = STAGE_WRITING;
		if (niov != 0 &&
		    (char *)io->iov[niov - 1].iov_base + io->iov[niov - 1].iov_len == page)
			io->iov[niov - 1].iov_len += PAGE_SIZE;
		else
			io->iov[niov++] = (struct iovec){page, PAGE_SIZE};
	}
	io->req.dev = swap_extent(&mm->swap, swp, n, &off, &run);
	io->req.op = BLK_WRITE;
	io->req.off = off;
	io->req.iov = io->iov;
	io->req.niov = niov;
	io->req.done = write_done;
	s->block[b].pending++;
	stat_add(&mm->stats.writes, 1);
	stat_add(&mm->stats.write_pages, n);
	blkio_queue(p->io, &io->req);
	return true;
}

/*
 * Give pages dirty[0..n) of a block back to the application, for which neither
 * the pool nor an area has a place: staging is for those that can leave.
 */
static void block_return(struct mm *mm, uint32_t b, const uint16_t *dirty, uint32_t n)
{
	struct staging *s = &mm->staging;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = b * STAGE_BLOCK + dirty[i];
		struct stage_page *sp = &s->page[index];
		size_t done;

		/* back there it could be written */
		if (snapshot_unsaved(mm, sp->vpn))
			continue;
		if (uffd_move(in_thread_uffd_at(mm, addr_of(sp->vpn)), mm->pagemap_fd,
			      addr_of(sp->vpn), (uintptr_t)stage_addr(mm, index), PAGE_SIZE,
			      &done) != UFFD_OK)
			continue;
		pte_set(&mm->ptes, sp->vpn, pte_make(PTE_PRESENT, SWP_NONE, PTE_BUSY));
		sp->state = STAGE_FREE;
		frame_gone(s, &s->block[b]);
	}
}

bool stage_writeout(struct pager *p)
{
	struct mm *mm = p->mm;
	struct staging *s = &mm->staging;
	uint16_t dirty[STAGE_BLOCK];
	uint32_t n, to_write;
	uint32_t at = 0;
	uint32_t b;

	if (s->head == STAGE_NONE && s->filling != STAGE_NONE && s->block[s->filling].cursor != 0)
		close_filling(s);
	b = queue_pop(s);
	if (b == STAGE_NONE)
		return false;
	s->block[b].state = BLOCK_WRITING;
	n = to_write = block_sort(mm, b, dirty);
	if (mm_tiered(mm) && n != 0)
		n = block_compress(mm, b, dirty, n);
	swap_roomy(&mm->swap, pte_touched(&mm->ptes));
	s->block[b].pending++; /* ours, so that no callback finishes it meanwhile */
	while (at < n) {
		const struct blk_dev *dev;
		uint32_t got;
		uint32_t run;
		uint64_t off;
		swp_t swp = swap_alloc(&mm->swap, n - at, &got);

		if (swp == SWP_NONE) {
			mm->swap_full = true;
			break;
		}
		dev = swap_extent(&mm->swap, swp, got, &off, &run);
		if (dev == NULL || run < got || !write_run(p, b, dirty + at, got, swp)) {
			for (uint32_t i = 0; i < got; i++)
				swap_put(&mm->swap, swp + i);
			break;
		}
		at += got;
	}
	if (mm_tiered(mm) && mm->swap_full)
		block_return(mm, b, dirty + at, n - at);
	if (--s->block[b].pending == 0)
		block_finish(mm, b);
	return at == n || at != 0 || n != to_write;
}

/* ---- back to the application ---- */

/* The frame of a staged page in a block is the application's again. */
static void moved_back(struct mm *mm, vpn_t vpn, uint32_t index, pte_t bits)
{
	struct stage_page *sp = &mm->staging.page[index];
	swp_t swp = sp->swp;

	if (sp->state == STAGE_FILLED) {
		fill_put(&mm->fills, (uint32_t)swp);
		swp = SWP_NONE;
	}
	pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, swp, bits));
	reclaim_came(mm, vpn);
	sp->state = STAGE_FREE;
	frame_gone(&mm->staging, &mm->staging.block[index / STAGE_BLOCK]);
}

static bool can_move_back(const struct stage_page *sp)
{
	return sp->state == STAGE_MOVED || sp->state == STAGE_CLEAN || sp->state == STAGE_FILLED;
}

bool stage_move_back(struct mm *mm, int fd, int pagemap_fd, vpn_t vpn, pte_t pte)
{
	uint32_t index = (uint32_t)pte_payload(pte);
	size_t done;

	if (!can_move_back(&mm->staging.page[index]))
		return false;
	if (uffd_move(fd, pagemap_fd, addr_of(vpn), (uintptr_t)stage_addr(mm, index), PAGE_SIZE,
		      &done) != UFFD_OK)
		return false;
	moved_back(mm, vpn, index, PTE_YOUNG | PTE_WARM);
	return true;
}

uint32_t stage_refault_run(struct mm *mm, vpn_t vpn, uint32_t n)
{
	const struct region *r = region_find(&mm->regions, addr_of(vpn));
	uint32_t total = 0;

	if (r == NULL)
		return 0;
	if (n > vpn_of(r->end) - vpn)
		n = (uint32_t)(vpn_of(r->end) - vpn);
	while (total < n) {
		pte_t pte = pte_get(&mm->ptes, vpn + total);
		uint32_t index = (uint32_t)pte_payload(pte);
		uint32_t run = 0;
		uint32_t most;
		size_t done;

		if (pte_state(pte) != PTE_STAGED || index >= STAGE_BLOCK_PAGES)
			break;
		most = STAGE_BLOCK - index % STAGE_BLOCK;
		if (most > n - total)
			most = n - total;
		while (run < most && can_move_back(&mm->staging.page[index + run]) &&
		       mm->staging.page[index + run].vpn == vpn + total + run &&
		       !snapshot_unsaved(mm, vpn + total + run))
			run++;
		if (run == 0)
			break;
		uffd_move(in_thread_uffd_at(mm, addr_of(vpn)), mm->pagemap_fd, addr_of(vpn + total),
			  (uintptr_t)stage_addr(mm, index), run * PAGE_SIZE, &done);
		for (uint32_t i = 0; i < done >> PAGE_SHIFT; i++)
			moved_back(mm, vpn + total + i, index + i, PTE_YOUNG);
		total += (uint32_t)(done >> PAGE_SHIFT);
		if (done != run * PAGE_SIZE)
			break;
	}
	return total;
}

bool stage_refault(struct pager *p, vpn_t vpn, pte_t pte, bool write)
{
	struct mm *mm = p->mm;
	uint32_t index = (uint32_t)pte_payload(pte);
	struct stage_page *sp = &mm->staging.page[index];
	swp_t swp;
	enum uffd_result res;
	size_t done;

	/* a move does not write-protect */
	if (snapshot_unsaved(mm, vpn) && snapshot_save(p, vpn, 1) == 0)
		return false;
	if (stage_move_back(mm, in_thread_uffd_at(mm, addr_of(vpn)), mm->pagemap_fd, vpn, pte))
		return true;
	/* The mapping does not take a move, or the write still needs the frame: a copy. */
	if (!reclaim_make_room(p, 1))
		return false;
	pte = pte_get(&mm->ptes, vpn);
	if (pte_state(pte) != PTE_STAGED || pte_payload(pte) != index)
		return false; /* making room wrote it out: look again */
	swp = sp->swp;
	res = uffd_copy(mm->uffd, addr_of(vpn), stage_addr(mm, index), PAGE_SIZE, false, &done);
	if (res != UFFD_OK && res != UFFD_EXIST)
		return false;
	if (sp->state == STAGE_FILLED) {
		fill_put(&mm->fills, (uint32_t)swp);
		swp = SWP_NONE;
	}
	if (write && swp != SWP_NONE) {
		swap_put(&mm->swap, swp);
		swp = SWP_NONE;
	}
	if (sp->state == STAGE_WRITING)
		sp->flags |= STAGE_DETACHED;
	else
		sp->state = STAGE_DEAD;
	pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, swp, PTE_YOUNG | PTE_WARM));
	reclaim_came(mm, vpn);
	if (res == UFFD_EXIST)
		uffd_wake(mm->uffd, addr_of(vpn), PAGE_SIZE);
	return true;
}

void stage_detach(struct mm *mm, vpn_t vpn)
{
	uint32_t index = (uint32_t)pte_payload(pte_get(&mm->ptes, vpn));
	struct stage_page *sp = &mm->staging.page[index];

	pte_set(&mm->ptes, vpn, 0);
	if (sp->state == STAGE_FILLED) {
		fill_put(&mm->fills, (uint32_t)sp->swp);
	} else if (sp->swp != SWP_NONE && swap_put(&mm->swap, sp->swp)) {
		mm->swap_full = false;
	}
	if (sp->state == STAGE_READING || sp->state == STAGE_WRITING)
		sp->flags |= STAGE_DETACHED;
	else if (sp->state == STAGE_CACHED)
		stage_buffer_put(mm, index);
	else
		sp->state = STAGE_DEAD;
}

void stage_rename(struct mm *mm, uint32_t index, vpn_t to)
{
	struct stage_page *sp = &mm->staging.page[index];

	sp->vpn = to & (VPN_MAX - 1);
	if (sp->state == STAGE_MOVED || sp->state == STAGE_CLEAN)
		tier_rename(mm, sp->swp, to);
}

bool stage_drop_slot(struct mm *mm, uint32_t index)
{
	struct stage_page *sp = &mm->staging.page[index];

	if (sp->state == STAGE_READING || sp->state == STAGE_WRITING)
		return false;
	if (sp->state == STAGE_CACHED || sp->state == STAGE_CLEAN || sp->state == STAGE_MOVED) {
		if (sp->state == STAGE_CACHED)
			return false; /* its content must become a frame first */
		swap_put(&mm->swap, sp->swp);
		sp->swp = SWP_NONE;
		sp->state = STAGE_MOVED;
	}
	return true;
}

/* ---- the read buffer ---- */

void stage_buffer_put(struct mm *mm, uint32_t index)
{
	struct staging *s = &mm->staging;

	s->page[index].state = STAGE_FREE;
	s->page[index].flags = 0;
	s->buffer_used--;
	if (index - STAGE_BLOCK_PAGES >= s->buffer_pages)
		release(mm, index, 1);
}

/* A page that was read ahead and not asked for gives its place away. */
static void buffer_drop(struct mm *mm, uint32_t index)
{
	struct stage_page *sp = &mm->staging.page[index];

	pte_set(&mm->ptes, sp->vpn, pte_make(PTE_SWAPPED, sp->swp, 0));
	stat_add(&mm->stats.readahead_misses, 1);
	stage_buffer_put(mm, index);
}

uint32_t stage_buffer_get(struct mm *mm, uint32_t want, uint32_t *first)
{
	struct staging *s = &mm->staging;
	struct stage_page *buf = &s->page[STAGE_BLOCK_PAGES];
	uint32_t best = 0;
	uint32_t best_at = 0;
	uint32_t at = s->buffer_hand < s->buffer_pages ? s->buffer_hand : 0;
	uint32_t run = 0;

	/*
	 * In turn around the buffer, so that what was read longest ago is dropped first;
	 * the first run that is long enough, else the longest of one round.
	 */
	for (uint32_t seen = 0; seen < s->buffer_pages + want && best < want; seen++) {
		if (at == s->buffer_pages) {
			at = 0;
			run = 0;
		}
		if (buf[at].state == STAGE_FREE ||
		    (buf[at].state == STAGE_CACHED && !(buf[at].flags & STAGE_DEMAND))) {
			if (++run > best) {
				best = run;
				best_at = at + 1 - run;
			}
		} else {
			run = 0;
		}
		at++;
	}
	if (best == 0)
		return 0;
	if (best > want)
		best = want;
	for (uint32_t i = 0; i < best; i++) {
		if (buf[best_at + i].state == STAGE_CACHED)
			buffer_drop(mm, STAGE_BLOCK_PAGES + best_at + i);
		buf[best_at + i].flags = 0;
	}
	s->buffer_used += best;
	s->buffer_hand = best_at + best;
	if (s->buffer_hand > s->buffer_touched) {
		s->buffer_touched = s->buffer_hand;
		/* a huge page comes as a whole */
		if (s->buffer_touched < s->buffer_huge)
			s->buffer_touched =
				(s->buffer_touched + HUGE_PAGES - 1) & ~(HUGE_PAGES - 1);
	}
	*first = STAGE_BLOCK_PAGES + best_at;
	return best;
}

/* ---- the limit ---- */

uint32_t staging_buffer(uint64_t limit)
{
	return (uint32_t)clamp(limit / 16, 32, STAGE_BUFFER_MAX);
}

/*
 * The huge page in whose middle the buffer ends now: the kernel keeps all of it while
 * it holds any part, so it is given up as a whole, unless reads are in flight to it.
 */
static void buffer_cut(struct mm *mm, uint32_t pages)
{
	struct staging *s = &mm->staging;
	uint32_t first = pages / HUGE_PAGES * HUGE_PAGES;

	for (uint32_t i = first; i < first + HUGE_PAGES; i++) {
		uint32_t index = STAGE_BLOCK_PAGES + i;

		if (s->page[index].state == STAGE_READING)
			return;
		if (s->page[index].state == STAGE_CACHED)
			buffer_drop(mm, index);
	}
	release(mm, STAGE_BLOCK_PAGES + first, HUGE_PAGES);
}

void staging_resize(struct mm *mm)
{
	struct staging *s = &mm->staging;
	uint32_t pages = mm->flags & MM_SERVER ? 0 : staging_buffer(mm->limit);
	uint32_t was = s->buffer_pages;
	uint32_t huge = s->buffer_huge;

	s->buffer_pages = pages;
	buffer_advise(s, pages);
	if (pages < huge && pages % HUGE_PAGES != 0)
		buffer_cut(mm, pages);
	/* what is in flight beyond the new end stays until it is done */
	for (uint32_t i = pages; i < was; i++) {
		uint32_t index = STAGE_BLOCK_PAGES + i;

		if (s->page[index].state == STAGE_CACHED)
			buffer_drop(mm, index);
		else if (s->page[index].state == STAGE_FREE && i < s->buffer_touched)
			release(mm, index, 1);
	}
	if (s->buffer_touched > pages)
		s->buffer_touched = pages;
	s->keep = clamp(mm->limit / 16, STAGE_BLOCK, STAGE_BLOCK_PAGES / 4);
}
