/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tier.c - compressed pages; see tier.h.
 *
 * Invariants: tier.h, and
 * - An object that a page holds is exchanged in object_moved(), for its new place, and in
 *   write_done(), for a slot; elsewhere it is only released.
 * - An object's tag is 0, or that of the write that is under way for it.  write_done()
 *   gives a slot to the owner of an object that still has the tag, and frees it otherwise.
 * - A slot is busy from write_through() until write_done(), and for good if it failed.
 *
 * Locks: the mm lock, which also guards the memory that pages are packed and unpacked in.
 * On pagers, but for tier_keeps() and tier_unpack(), which a thread that answers its own
 * faults calls as well (in-thread.h).
 */
#include "tier.h"

#include "fault.h"
#include "mm.h"
#include "reclaim.h"
#include "staging.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LOOK_MAX 512U  /* objects looked at to find what one write takes */
#define LOOK_EVERY 64U /* rounds between looks while no area takes anything */
#define PROMISED 3U    /* pages that one page of the pool is counted on to hold */
/* Parts of the pool that are free: */
#define KEEP_PART 8U   /* more than that: objects stay beside the frames that they became */
#define TIGHT_PART 12U /* less: the clock takes those away */
#define WRITE_PART 16U /* less: cold objects are written through */

static uint32_t part_of(const struct zpool *z, uint32_t part)
{
	uint32_t spans = z->bound / part;

	return spans > ZPOOL_SPARE ? spans : ZPOOL_SPARE;
}

static uint32_t clamp(uint64_t v, uint32_t lo, uint32_t hi)
{
	return v < lo ? lo : v > hi ? hi : (uint32_t)v;
}

/* ---- owners ---- */

/*
 * Where a page's entry, or its staging page, holds an object; NULL: it holds
 * none.  *state: the entry's.
 */
static swp_t held_object(struct mm *mm, vpn_t vpn, enum pte_state *state)
{
	pte_t pte = pte_get(&mm->ptes, vpn);
	const struct stage_page *sp;
	swp_t swp = SWP_NONE;

	*state = pte_state(pte);
	if (*state == PTE_COMPRESSED || *state == PTE_PRESENT) {
		swp = pte_swp(pte);
	} else if (*state == PTE_STAGED) {
		sp = &mm->staging.page[pte_payload(pte)];
		if (sp->state == STAGE_MOVED || sp->state == STAGE_CLEAN)
			swp = sp->swp;
	}
	return swp_pooled(swp) ? swp : SWP_NONE;
}

/* The page that holds an object holds another, a slot or nothing instead; not for COMPRESSED without. */
static void hold_instead(struct mm *mm, vpn_t vpn, enum pte_state state, swp_t swp)
{
	pte_t pte = pte_get(&mm->ptes, vpn);

	if (state == PTE_PRESENT) {
		/* PTE_WP alone would say that the page equals its file */
		pte_t keep = PTE_CLOCK | (swp != SWP_NONE ? PTE_WP : 0);

		pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, swp, pte & keep));
	} else if (state == PTE_COMPRESSED) {
		pte_set(&mm->ptes, vpn, pte_away(swp));
	} else {
		struct stage_page *sp = &mm->staging.page[pte_payload(pte)];

		sp->swp = swp;
		if (swp == SWP_NONE)
			sp->state = STAGE_MOVED;
	}
}

static void object_moved(void *arg, uint64_t vpn, zobj_t from, zobj_t to)
{
	struct mm *mm = arg;
	enum pte_state state;

	if (held_object(mm, vpn, &state) != swp_of_object(from))
		log_fatal("a compressed page of 0x%lx is nobody's", (unsigned long)addr_of(vpn));
	hold_instead(mm, vpn, state, swp_of_object(to));
}

void tier_rename(struct mm *mm, swp_t swp, vpn_t to)
{
	struct zobj_head *h;

	if (!swp_pooled(swp))
		return;
	h = zpool_head(&mm->tier.pool, swp_object(swp));
	h->vpn = to & (VPN_MAX - 1);
	h->tag = 0;
}

/* ---- making and ending ---- */

int tier_open(struct mm *mm)
{
	struct tier *t = &mm->tier;
	int r;

	if (t->codec.kind == FL_COMPRESS_NONE)
		return 0;
	/* for small limits less of the tier's own, as of the read buffer */
	t->in_pages = clamp(mm->limit / 64, 8, TIER_CHUNK);
	t->io_pages = clamp(mm->limit / 32, 16, TIER_IO_PAGES);
	t->ios = clamp(mm->limit / 1024, 1, TIER_IOS);
	t->out = sys_mem_alloc(PAGE_SIZE);
	t->in = sys_mem_alloc(t->in_pages * PAGE_SIZE);
	t->io = sys_mem_alloc(TIER_IOS * sizeof(*t->io));
	t->io_memory = sys_mem_alloc(t->ios * t->io_pages * PAGE_SIZE);
	if (t->out == NULL || t->in == NULL || t->io == NULL || t->io_memory == NULL)
		return -ENOMEM;
	SYS3(madvise, t->in, t->in_pages * PAGE_SIZE, MADV_NOHUGEPAGE);
	SYS3(madvise, t->io_memory, t->ios * t->io_pages * PAGE_SIZE, MADV_NOHUGEPAGE);
	for (uint32_t i = 0; i < t->ios; i++) {
		t->io[i].tag = (uint8_t)(i + 1);
		t->io[i].pages = t->io_memory + i * t->io_pages * PAGE_SIZE;
	}
	r = zpool_open(&t->pool, t->pool_bytes, object_moved, mm);
	if (r != 0)
		return r;
	t->on = true;
	mm->swap.pool = &t->pool;
	tier_resize(mm);
	return 0;
}

void tier_close(struct mm *mm)
{
	struct tier *t = &mm->tier;

	if (t->on)
		zpool_close(&t->pool);
	sys_mem_free(t->out, PAGE_SIZE);
	sys_mem_free(t->in, t->in_pages * PAGE_SIZE);
	sys_mem_free(t->io, TIER_IOS * sizeof(*t->io));
	sys_mem_free(t->io_memory, t->ios * t->io_pages * PAGE_SIZE);
	t->out = t->in = t->io_memory = NULL;
	t->io = NULL;
	t->on = false;
	mm->swap.pool = NULL;
}

/* Where pages are packed and unpacked. */
static uint64_t own_pages(const struct tier *t)
{
	return t->in_pages + (uint64_t)t->ios * t->io_pages + 1;
}

static uint64_t bound_pages(const struct tier *t)
{
	return (uint64_t)t->pool.bound * ZPOOL_SPAN_PAGES;
}

void tier_resize(struct mm *mm)
{
	struct tier *t = &mm->tier;
	uint64_t own = own_pages(t) + mm->staging.buffer_pages;
	uint64_t rest = mm->limit > own ? mm->limit - own : 0;
	uint64_t spans = rest / 4 * 3 / ZPOOL_SPAN_PAGES;
	uint32_t bound = t->pool.bound;

	if (!t->on)
		return;
	zpool_set_bound(&t->pool, spans < UINT32_MAX ? (uint32_t)spans : UINT32_MAX);
	if (t->pool.bound > bound)
		mm->swap_full = false;
}

static void object_forked(void *arg, zobj_t o)
{
	struct mm *mm = arg;
	struct zobj_head *h = zpool_head(&mm->tier.pool, o);
	enum pte_state state;

	h->tag = 0;
	if (held_object(mm, h->vpn, &state) != swp_of_object(o))
		zpool_free(&mm->tier.pool, o);
}

void tier_forked(struct mm *mm)
{
	struct tier *t = &mm->tier;

	if (!t->on)
		return;
	for (uint32_t i = 0; i < t->ios; i++)
		t->io[i].busy = false;
	zpool_each(&t->pool, object_forked, mm);
}

uint64_t tier_pages(const struct mm *mm)
{
	const struct tier *t = &mm->tier;

	return t->on ? zpool_pages(&t->pool) + own_pages(t) : 0;
}

uint64_t tier_pages_most(const struct mm *mm)
{
	const struct tier *t = &mm->tier;

	return t->on ? bound_pages(t) + own_pages(t) : 0;
}

uint64_t tier_reserve(const struct mm *mm)
{
	const struct tier *t = &mm->tier;

	return t->on ? zpool_pages(&t->pool) - zpool_held(&t->pool) : 0;
}

uint64_t tier_room(const struct mm *mm)
{
	const struct zpool *z = &mm->tier.pool;
	uint64_t held = z->live / PAGE_SIZE;
	uint64_t bound = mm_tiered(mm) ? bound_pages(&mm->tier) : 0;

	return bound > held ? (bound - held) * (PROMISED - 1) : 0;
}

/* ---- in and out ---- */

swp_t tier_store(struct mm *mm, vpn_t vpn, const void *page)
{
	struct tier *t = &mm->tier;
	uint32_t size;
	zobj_t o;

	if (!zpool_has_room(&t->pool))
		return SWP_NONE;
	size = codec_pack(&t->codec, page, t->out, TIER_OBJ_MAX);
	if (size == 0) {
		stat_add(&mm->stats.compress_rejects, 1);
		return SWP_NONE;
	}
	o = zpool_store(&t->pool, vpn, t->out, size, stage_csum(mm, page, swp_of_object(0)));
	return o != ZOBJ_NONE ? swp_of_object(o) : SWP_NONE;
}

bool tier_unpack(struct mm *mm, vpn_t vpn, swp_t swp, void *page)
{
	struct tier *t = &mm->tier;
	const struct zobj_head *h = zpool_head(&t->pool, swp_object(swp));

	return h->live && h->vpn == vpn && codec_unpack(&t->codec, h + 1, h->size, page) &&
	       stage_csum(mm, page, swp) == h->csum;
}

bool tier_load(struct mm *mm, vpn_t vpn, swp_t swp, void *page)
{
	if (tier_unpack(mm, vpn, swp, page))
		return true;
	stat_add(&mm->stats.csum_errors, 1);
	mm_log(mm, FL_LOG_ERROR,
	       "compressed page, address 0x%lx: checksum does not match: the page is lost (SIGBUS)",
	       (unsigned long)addr_of(vpn));
	return false;
}

bool tier_keeps(const struct mm *mm)
{
	const struct zpool *z = &mm->tier.pool;

	return z->in_use + part_of(z, KEEP_PART) < z->bound;
}

bool tier_tight(const struct mm *mm)
{
	const struct zpool *z = &mm->tier.pool;

	return z->in_use + part_of(z, TIGHT_PART) >= z->bound;
}

/* ---- writing through ---- */

static void write_done(struct blk_req *req, int res)
{
	struct tier_io *io = (struct tier_io *)(void *)req;
	struct mm *mm = io->pager->mm;
	struct zpool *z = &mm->tier.pool;

	if (res != 0)
		stage_area_failed(mm, io->swp, res);
	for (uint32_t i = 0; i < io->n; i++) {
		enum pte_state state;
		swp_t swp = io->swp + i;
		swp_t object = held_object(mm, io->vpn[i], &state);
		bool ours = object != SWP_NONE && zpool_head(z, swp_object(object))->tag == io->tag;

		if (res != 0) {
			/* It stays busy for ever: a slot that failed is not used again. */
			mm->swap.area[swp_area(swp)]->bad_slots++;
			swap_put(&mm->swap, swp);
			if (ours)
				zpool_head(z, swp_object(object))->tag = 0;
			continue;
		}
		swap_csum_set(&mm->swap, swp, io->csum[i]);
		if (ours) {
			/* also of a page that came back meanwhile: its frame equals the slot as it did the object */
			hold_instead(mm, io->vpn[i], state, swp);
			zpool_free(z, swp_object(object));
			stat_add(&mm->stats.written_through, 1);
		} else {
			swap_put(&mm->swap, swp);
		}
		if (swap_idle(&mm->swap, swp))
			mm->swap_full = false;
	}
	io->busy = false;
	zpool_compact(z);
}

/* Gather cold objects, unpacked, `max` at most; what has a frame loses its object.  How many. */
static uint32_t gather(struct mm *mm, struct tier_io *io, uint32_t max, bool *freed)
{
	struct zpool *z = &mm->tier.pool;
	zobj_t o, next;
	uint32_t n = 0;
	unsigned looked = 0;

	for (o = zpool_coldest(z); o != ZOBJ_NONE && (n < max || max == 0) && looked < LOOK_MAX;
	     o = next, looked++) {
		const struct zobj_head *h = zpool_head(z, o);
		vpn_t vpn = h->vpn;
		enum pte_state state;

		next = zpool_warmer(z, o);
		if (h->tag != 0)
			continue;
		held_object(mm, vpn, &state);
		if (state != PTE_COMPRESSED) {
			hold_instead(mm, vpn, state, SWP_NONE);
			zpool_free(z, o);
			mm->swap_full = false;
			*freed = true;
		} else if (max == 0) {
			continue;
		} else if (!tier_load(mm, vpn, swp_of_object(o), io->pages + n * PAGE_SIZE)) {
			zpool_free(z, o);
			fault_poison(mm, vpn);
		} else {
			io->vpn[n++] = vpn;
		}
	}
	return n;
}

/* Start one write of cold objects.  True when memory came free at once, or will. */
static bool write_through(struct pager *p)
{
	struct mm *mm = p->mm;
	struct tier *t = &mm->tier;
	struct tier_io *io = NULL;
	const struct blk_dev *dev = NULL;
	bool full = mm->swap_full || mm->swap.narea == 0;
	bool freed = false;
	uint32_t n, got, run;
	uint64_t off;
	swp_t swp;

	for (uint32_t i = 0; i < t->ios && io == NULL; i++)
		if (!t->io[i].busy)
			io = &t->io[i];
	if (io == NULL)
		return false;
	n = gather(mm, io, full ? 0 : t->io_pages, &freed);
	if (n == 0)
		return freed;
	swp = swap_alloc(&mm->swap, n, &got);
	if (swp == SWP_NONE) {
		mm->swap_full = true;
		return freed;
	}
	dev = swap_extent(&mm->swap, swp, got, &off, &run);
	if (dev == NULL || run < got) {
		for (uint32_t i = 0; i < got; i++)
			swap_put(&mm->swap, swp + i);
		return freed;
	}
	for (uint32_t i = 0; i < got; i++) {
		zobj_t o = swp_object(pte_swp(pte_get(&mm->ptes, io->vpn[i])));

		zpool_head(&t->pool, o)->tag = io->tag;
		io->csum[i] = stage_csum(mm, io->pages + i * PAGE_SIZE, swp + i);
		swap_busy(&mm->swap, swp + i);
	}
	io->pager = p;
	io->busy = true;
	io->n = (uint16_t)got;
	io->swp = swp;
	io->iov = (struct iovec){io->pages, got * PAGE_SIZE};
	io->req = (struct blk_req){.dev = dev,
				   .op = BLK_WRITE,
				   .off = off,
				   .iov = &io->iov,
				   .niov = 1,
				   .done = write_done};
	stat_add(&mm->stats.writes, 1);
	stat_add(&mm->stats.write_pages, got);
	blkio_queue(p->io, &io->req);
	return true;
}

void tier_balance(struct pager *p)
{
	struct mm *mm = p->mm;
	struct tier *t = &mm->tier;

	if (!t->on || mm->closing || t->pool.in_use + part_of(&t->pool, WRITE_PART) < t->pool.bound)
		return;
	/* areas that are full take nothing; what is beside a frame can go all the same */
	if ((!mm->swap_full && mm->swap.narea != 0) || t->rounds++ % LOOK_EVERY == 0)
		write_through(p);
}

bool tier_shrink(struct pager *p)
{
	struct mm *mm = p->mm;
	struct tier *t = &mm->tier;
	uint64_t before;

	if (!t->on || mm->closing)
		return false;
	before = zpool_pages(&t->pool);
	write_through(p);
	zpool_compact(&t->pool);
	return zpool_pages(&t->pool) < before;
}
