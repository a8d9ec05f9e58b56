/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hold.c - fl_sync(): the changed pages of held mappings go to their file; see
 * hold.h, which also says what is accepted.
 *
 * A call is a job that goes through enum hold_phase, once for each file.  Every step is
 * a hop of SLICE pages or so, so that faults are answered in between; where one has to
 * wait, the application's thread sleeps on files.event.
 *
 * Invariants.
 * - A bit of job->taken is set from gather_run() until run_end(): for so long the page
 *   of job->bytes is in use, and the cache's word of the page is LOCKED and WRITEBACK.
 * - The page cache of job->pc counts the job as a handle from next_part() to settle(),
 *   so it outlives the job's I/O.
 * - A job that ends leaves no PTE_SYNC behind in its range: settle() takes each mark
 *   away, or makes its page clean.
 *
 * Locks.  All but mm_hold_sync() runs on a pager with the mm lock held.  mm->holding is
 * the job whose turn it is.
 */
#include "hold.h"

#include "do.h"
#include "hop.h"
#include "mm.h"
#include "reclaim.h"
#include "sys.h"
#include "truncate.h"
#include "uffd.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define SLICE 65536U		 /* pages that one step looks at */
#define EVENT_PATIENCE 10000000U /* ns: what is waited for may be told by no event */

static const unsigned any_state = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);

static void note_error(struct hold_sync *j, int err, uint64_t page)
{
	if (j->err != 0)
		return;
	j->err = err;
	j->bad = page << PAGE_SHIFT;
}

/* ---- memory of the call's own ---- */

static uint64_t bits(uint32_t first, uint32_t n)
{
	return (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << first;
}

/* A free run of up to n pages; how many, 0: none. */
static uint32_t take_bytes(struct hold_sync *j, uint32_t n, uint32_t *first)
{
	for (; n != 0; n = j->taken == ~(uint64_t)0 ? 0 : n / 2)
		for (uint32_t at = 0; at + n <= HOLD_PAGES; at++)
			if ((j->taken & bits(at, n)) == 0) {
				*first = at;
				return n;
			}
	return 0;
}

static uint32_t run_first(const struct hold_run *run)
{
	return (uint32_t)(run - run->job->run);
}

static char *run_bytes(const struct hold_run *run)
{
	return run->job->bytes + run_first(run) * PAGE_SIZE;
}

/* ---- writing ---- */

static void run_end(struct hold_run *run, int err)
{
	struct hold_sync *j = run->job;
	struct pagecache *pc = j->pc;

	if (err != 0)
		note_error(j, err, run->page);
	/* no frame was behind these: the file is read by who asks next */
	for (uint32_t i = 0; i < run->n; i++)
		cache_set(pc, run->page + i, 0);
	cache_wake(pc, run->page, run->n);
	j->taken &= ~bits(run_first(run), run->n);
	j->used -= run->n;
	files_tell(pc->mm);
}

static void run_written(struct file_io *io, int res)
{
	struct hold_run *run = io->waiter;
	struct pagecache *pc = io->pc;

	if (cache_write_refused(io, res))
		return;
	if (res != 0)
		stat_add(&pc->mm->stats.file_errors, 1);
	cache_io_end(io);
	run_end(run, res);
}

/* The bytes are all there. */
static void run_write(struct hold_run *run)
{
	struct pagecache *pc = run->job->pc;
	struct mm *mm = pc->mm;
	uint64_t off = run->page << PAGE_SHIFT;
	struct file_io *io;

	/* truncated meanwhile: as much as there is of the file */
	if (run->err != 0 || off >= pc->size) {
		run_end(run, run->err);
		return;
	}
	io = pool_get(&mm->files.io_pool);
	if (io == NULL) {
		run_end(run, -ENOMEM);
		return;
	}
	io->pager = run->pager;
	io->pc = pc;
	io->page = run->page;
	io->n = run->n;
	io->waiter = run;
	io->bytes = pc->size - off < run->n * PAGE_SIZE ? pc->size - off : run->n * PAGE_SIZE;
	io->iov = (struct iovec){run_bytes(run), io->bytes};
	io->req.dev = io->bytes % PAGE_SIZE != 0 ? &pc->tail : &pc->wr;
	io->req.op = BLK_WRITE;
	io->done = run_written;
	stat_add(&mm->stats.file_writes, 1);
	stat_add(&mm->stats.file_write_pages, run->n);
	cache_start(io);
}

/* ---- the bytes of a page, wherever they are ---- */

static void slots_read(struct blk_req *req, int res)
{
	struct hold_read *rd = (struct hold_read *)(void *)req;
	struct hold_run *run = rd->run;
	struct mm *mm = run->job->pc->mm;

	for (uint32_t i = 0; i < rd->n; i++) {
		const char *page = (const char *)rd->iov.iov_base + i * PAGE_SIZE;
		swp_t swp = rd->swp + i;

		if (res == 0 && stage_csum(mm, page, swp) != swap_csum(&mm->swap, swp)) {
			stat_add(&mm->stats.csum_errors, 1);
			res = -EIO;
		}
		if (swap_idle(&mm->swap, swp))
			mm->swap_full = false;
	}
	if (res != 0) {
		mm_log(mm, FL_LOG_ERROR, "swap area %s, slot %u: cannot be read for fl_sync: %s",
		       mm->swap.area[swp_area(rd->swp)]->path, swp_slot(rd->swp),
		       log_strerror(res));
		run->err = res;
	}
	if (--run->reads == 0)
		run_write(run);
}

/* Start reading adjacent slots of up to n SWAPPED pages; how many. */
static uint32_t take_slots(struct hold_run *run, vpn_t vpn, uint32_t n, uint32_t at)
{
	struct hold_sync *j = run->job;
	struct mm *mm = j->pc->mm;
	swp_t swp = pte_swp(pte_get(&mm->ptes, vpn));
	struct hold_read *rd = &j->read[run_first(run) + at];
	const struct blk_dev *dev;
	uint32_t k = 1;
	uint64_t off;

	while (k < n) {
		pte_t pte = pte_get(&mm->ptes, vpn + k);

		if (pte_state(pte) != PTE_SWAPPED || pte_swp(pte) != swp + k)
			break;
		k++;
	}
	dev = swap_extent(&mm->swap, swp, k, &off, &k);
	for (uint32_t i = 0; i < k; i++)
		swap_busy(&mm->swap, swp + i);
	*rd = (struct hold_read){
		.run = run,
		.swp = swp,
		.n = k,
		.iov = {run_bytes(run) + at * PAGE_SIZE, k * PAGE_SIZE},
	};
	rd->req.dev = dev;
	rd->req.op = BLK_READ;
	rd->req.off = off;
	rd->req.iov = &rd->iov;
	rd->req.niov = 1;
	rd->req.done = slots_read;
	run->reads++;
	stat_add(&mm->stats.reads, 1);
	stat_add(&mm->stats.read_pages, k);
	blkio_queue(run->pager->io, &rd->req);
	return k;
}

/* Copy up to n PRESENT pages, which nobody can write meanwhile; how many, 0: an error. */
static uint32_t take_present(struct mm *mm, vpn_t vpn, uint32_t n, char *to)
{
	uint32_t k = 1;

	while (k < n && pte_state(pte_get(&mm->ptes, vpn + k)) == PTE_PRESENT)
		k++;
	if (uffd_writeprotect(mm->uffd, addr_of(vpn), k * PAGE_SIZE, true) != UFFD_OK)
		return 0;
	/* through /proc/self/mem, which reads whatever the protection, and never waits for a pager */
	if (SYS4(pread, mm->mem_fd, to, k * PAGE_SIZE, addr_of(vpn)) != (long)(k * PAGE_SIZE))
		return 0;
	return k;
}

static void repeat(char *to, uint64_t word)
{
	for (size_t i = 0; i < PAGE_SIZE / sizeof(word); i++)
		memcpy(to + i * sizeof(word), &word, sizeof(word));
}

static void take_staged(struct mm *mm, uint32_t index, char *to)
{
	const struct stage_page *sp = &mm->staging.page[index];

	if (sp->state == STAGE_FILLED)
		repeat(to, fill_word(&mm->fills, (uint32_t)sp->swp));
	else
		memcpy(to, stage_addr(mm, index), PAGE_SIZE);
}

/* Take the bytes of pages from vpn, one at least and n at most, and mark them; 0: an error. */
static uint32_t take(struct hold_run *run, vpn_t vpn, uint32_t n, uint32_t at)
{
	struct mm *mm = run->job->pc->mm;
	char *to = run_bytes(run) + at * PAGE_SIZE;
	pte_t pte = pte_get(&mm->ptes, vpn);
	uint32_t k = 1;

	switch (pte_state(pte)) {
	case PTE_PRESENT:
		k = take_present(mm, vpn, n, to);
		break;
	case PTE_SWAPPED:
		k = take_slots(run, vpn, n, at);
		break;
	case PTE_STAGED:
		take_staged(mm, (uint32_t)pte_payload(pte), to);
		break;
	case PTE_FILLED:
		repeat(to, fill_word(&mm->fills, (uint32_t)pte_payload(pte)));
		break;
	case PTE_COMPRESSED:
		k = tier_load(mm, vpn, pte_swp(pte), to);
		break;
	default:
		return 0;
	}
	for (uint32_t i = 0; i < k; i++)
		pte_set_bits(&mm->ptes, vpn + i, PTE_SYNC, 0);
	return k;
}

/* ---- which pages ---- */

/* Whether a page was changed, and its bytes can be had now; *wait: not yet. */
static bool is_changed(struct mm *mm, vpn_t vpn, bool *wait)
{
	pte_t pte = pte_get(&mm->ptes, vpn);

	switch (pte_state(pte)) {
	case PTE_NONE:
	case PTE_POISONED:
		return false;
	case PTE_PRESENT:
		return !hold_is_clean(pte);
	case PTE_STAGED:
		*wait = mm->staging.page[pte_payload(pte)].state == STAGE_READING;
		return true;
	default:
		return true;
	}
}

/*
 * Whether the page's place in the cache is free to be locked; what is cached of
 * the file, and not to be written itself, goes.  *wait: not yet.
 */
static bool may_lock(struct pager *p, struct hold_sync *j, uint64_t page, bool *wait)
{
	struct pagecache *pc = j->pc;
	uint32_t w;

	if (cache_reserve(pc, page) != 0) {
		note_error(j, -ENOMEM, page);
		return false;
	}
	if (cut_before(pc, page, 1) == 0) {
		*wait = true;
		return false;
	}
	cache_look_again(pc, page, page + 1);
	w = cache_get(pc, page);
	if (w == 0)
		return true;
	*wait = true;
	if (w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT))
		return false;
	if ((w & CACHE_DIRTY) && !(w & CACHE_GONE)) {
		/* stored through another mapping: that first */
		if (w & CACHE_ERROR)
			note_error(j, pc->error != 0 ? pc->error : -EIO, page);
		else
			cache_write(p, pc, page, 1);
		return false;
	}
	*wait = !cache_drop(pc, page, 1);
	return !*wait;
}

/* Write changed pages from vpn on, so many at most; how many were dealt with, 0: that must wait. */
static uint64_t gather_run(struct pager *p, struct hold_sync *j, const struct region *r, vpn_t vpn,
			   vpn_t stop, uint32_t most, uint32_t *took)
{
	struct mm *mm = p->mm;
	struct pagecache *pc = j->pc;
	uint64_t page = vpn + r->delta;
	uint64_t end = cache_pages(pc);
	struct hold_run *run;
	bool wait = false;
	uint32_t n = 0;
	uint32_t first;
	uint32_t at;

	*took = 0;
	if (page >= end)
		return stop - vpn;
	if (!is_changed(mm, vpn, &wait))
		return 1;
	if (most > HOLD_RUN)
		most = HOLD_RUN;
	while (!wait && n < most && vpn + n < stop && page + n < end &&
	       is_changed(mm, vpn + n, &wait) && !wait && may_lock(p, j, page + n, &wait))
		n++;
	/* may_lock() looks at the size: what is cut off has no entry any more */
	end = cache_pages(pc);
	if (page >= end)
		return stop - vpn;
	if (n > end - page)
		n = (uint32_t)(end - page);
	n = take_bytes(j, n, &first);
	if (n == 0)
		return 0;
	run = &j->run[first];
	*run = (struct hold_run){.job = j, .pager = p, .page = page, .reads = 1};
	for (at = 0; at < n;) {
		uint32_t k = take(run, vpn + at, n - at, at);

		if (k == 0) {
			note_error(j, -EIO, page + at);
			break;
		}
		at += k;
	}
	run->n = at;
	if (at == 0)
		return 0;
	*took = at;
	j->taken |= bits(first, at);
	j->used += at;
	j->wrote = true;
	for (uint32_t i = 0; i < at; i++)
		cache_set(pc, page + i, CACHE_LOCKED | CACHE_WRITEBACK);
	if (--run->reads == 0)
		run_write(run);
	return at;
}

/* The next part of [at, end) that is in a held mapping of the file; NULL: none. */
static const struct region *held_part(const struct mm *mm, const struct pagecache *pc,
				      uintptr_t *at, uintptr_t end, uintptr_t *stop)
{
	const struct region *r;

	while (*at < end && (r = region_next(&mm->regions, *at)) != NULL && r->start < end) {
		if (*at < r->start)
			*at = r->start;
		*stop = r->end < end ? r->end : end;
		if ((r->flags & REGION_HOLD) && (pc == NULL || cache_of(r) == pc))
			return r;
		*at = *stop;
	}
	*at = end;
	return NULL;
}

static long gather(struct pager *p, struct hold_sync *j)
{
	struct mm *mm = p->mm;
	const struct region *r;
	uint64_t seen = 0;
	uint32_t room = 0;
	uint32_t took;
	uintptr_t stop;

	cache_look_at_size(j->pc);
	while (j->err == 0 && (r = held_part(mm, j->pc, &j->at, j->to, &stop)) != NULL) {
		vpn_t vpn = pte_next(&mm->ptes, vpn_of(j->at), vpn_of(stop), any_state);
		uint64_t n;

		j->at = addr_of(vpn);
		if (vpn >= vpn_of(stop))
			continue;
		if (seen >= SLICE)
			return HOLD_GOES_ON;
		/* pages that are locked count as frames; with no room for any, one goes beyond it */
		if (room == 0)
			room = reclaim_some_room(p, HOLD_PAGES - j->used);
		if (room == 0 && j->used != 0)
			return HOLD_WAITS;
		n = gather_run(p, j, r, vpn, vpn_of(stop), room != 0 ? room : 1, &took);
		if (n == 0 && j->err == 0)
			return HOLD_WAITS;
		room -= took < room ? took : room;
		seen += n;
		j->at = addr_of(vpn + n);
	}
	j->phase = HOLD_DRAIN;
	return HOLD_GOES_ON;
}

/* ---- the end ---- */

static void synced(struct file_io *io, int res)
{
	struct hold_sync *j = io->waiter;
	struct mm *mm = io->pc->mm;

	res = cache_sync_ended(io, res, j->since);
	if (res != 0)
		note_error(j, res, 0);
	j->syncing = 0;
	cache_io_end(io);
	files_tell(mm);
}

static long drain(struct pager *p, struct hold_sync *j)
{
	struct file_io *io;

	if (j->taken != 0)
		return HOLD_WAITS;
	j->at = j->from;
	j->phase = HOLD_SETTLE;
	if (j->err != 0 || !j->wrote)
		return HOLD_GOES_ON;
	io = pool_get(&p->mm->files.io_pool);
	if (io == NULL) {
		note_error(j, -ENOMEM, 0);
		return HOLD_GOES_ON;
	}
	io->pager = p;
	io->pc = j->pc;
	io->waiter = j;
	io->req.dev = &j->pc->tail;
	io->req.op = BLK_SYNC;
	io->done = synced;
	j->syncing = 1;
	j->phase = HOLD_FSYNC;
	cache_start(io);
	return HOLD_GOES_ON;
}

/* A page that has its mark equals the file, and the file is durable. */
static void settle_page(struct mm *mm, vpn_t vpn, pte_t pte)
{
	if (pte_state(pte) != PTE_PRESENT) {
		drop_entries(mm, addr_of(vpn), addr_of(vpn + 1));
		return;
	}
	if (pte_swp(pte) != SWP_NONE && swap_put(&mm->swap, pte_swp(pte)))
		mm->swap_full = false;
	pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, SWP_NONE, (pte & PTE_CLOCK) | PTE_WP));
}

static long settle(struct mm *mm, struct hold_sync *j)
{
	uint64_t seen = 0;
	uintptr_t stop;

	while (j->wrote && held_part(mm, j->pc, &j->at, j->to, &stop) != NULL) {
		vpn_t vpn = vpn_of(j->at);

		for (; (vpn = pte_next(&mm->ptes, vpn, vpn_of(stop), any_state)) < vpn_of(stop);
		     vpn++) {
			pte_t pte = pte_get(&mm->ptes, vpn);

			if (++seen > SLICE) {
				j->at = addr_of(vpn);
				return HOLD_GOES_ON;
			}
			if (!(pte & PTE_SYNC))
				continue;
			if (j->err == 0)
				settle_page(mm, vpn, pte);
			else
				pte_set_bits(&mm->ptes, vpn, 0, PTE_SYNC);
		}
		j->at = stop;
	}
	if (j->err != 0)
		mm_log(mm, FL_LOG_ERROR, "cannot sync %s at %lu: %s; its changes stay held",
		       j->pc->name, (unsigned long)j->bad, log_strerror(j->err));
	j->pc->handles--;
	j->pc = NULL;
	j->at = j->to;
	j->phase = HOLD_NEXT;
	return HOLD_GOES_ON;
}

/* The next part that is held, as far as it is of one file. */
static long next_part(struct mm *mm, struct hold_sync *j)
{
	const struct region *r = NULL;
	uintptr_t stop;

	if (j->err == 0)
		r = held_part(mm, NULL, &j->at, j->end, &stop);
	if (r == NULL) {
		mm->holding = NULL;
		files_tell(mm);
		return j->err != 0 || j->any ? j->err : -EINVAL;
	}
	j->any = true;
	j->wrote = false;
	j->since = mm->files.failures;
	j->pc = cache_of(r);
	j->pc->handles++;
	j->from = j->to = j->at;
	while (r != NULL && cache_of(r) == j->pc) {
		j->to = stop;
		r = held_part(mm, NULL, &j->to, j->end, &stop);
	}
	j->phase = HOLD_GATHER;
	return HOLD_GOES_ON;
}

long do_hold_sync(struct pager *p, struct hold_sync *j)
{
	struct mm *mm = p->mm;

	if (mm->holding == NULL)
		mm->holding = j;
	if (mm->holding != j)
		return HOLD_WAITS;
	switch (j->phase) {
	case HOLD_NEXT:
		return next_part(mm, j);
	case HOLD_GATHER:
		return gather(p, j);
	case HOLD_DRAIN:
		return drain(p, j);
	case HOLD_FSYNC:
		if (j->syncing != 0)
			return HOLD_WAITS;
		j->phase = HOLD_SETTLE;
		return HOLD_GOES_ON;
	case HOLD_SETTLE:
		break;
	}
	return settle(mm, j);
}

/* ---- on an application thread ---- */

long mm_hold_sync(struct mm *mm, uintptr_t addr, size_t len)
{
	struct hold_sync *j = sys_mem_alloc(sizeof(*j));
	uint64_t all = ~(uint64_t)0;
	uint64_t mask = 0;
	long r;

	if (j == NULL)
		return -ENOMEM;
	j->bytes = sys_mem_alloc(HOLD_PAGES * PAGE_SIZE);
	if (j->bytes == NULL) {
		sys_mem_free(j, sizeof(*j));
		return -ENOMEM;
	}
	j->at = addr;
	j->end = addr + page_up(len);
	/* a handler that never came back would leave the call's turn taken */
	SYS4(sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
	do {
		/* Acquire: pairs with the release in files_tell(); an end that comes later is seen by the wait. */
		uint32_t event = __atomic_load_n(&mm->files.event, __ATOMIC_ACQUIRE);

		r = hop_call(mm, HOP_HOLD_SYNC, (long)j, 0, 0, 0, 0, 0, 0);
		if (r == HOLD_WAITS)
			futex_wait(&mm->files.event, event, EVENT_PATIENCE);
	} while (r > 0);
	SYS4(sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
	sys_mem_free(j->bytes, HOLD_PAGES * PAGE_SIZE);
	sys_mem_free(j, sizeof(*j));
	return r;
}
