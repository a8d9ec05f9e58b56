/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault-compressed.c - touches of pages that are in the pool of compressed ones.
 *
 * A page is unpacked into memory of the tier's own and installed by a copy.
 * Where the fault goes on with a stream, the pages behind it that are
 * compressed, too, are installed with it, chunk by chunk from the far end, so
 * that the thread that waits is woken when all of them are there.
 *
 * A read keeps the object beside the frame while the pool has room: then the
 * page leaves again without being compressed again.
 */
#include "fault.h"
#include "in-thread.h"
#include "reclaim.h"
#include "snapshot.h"
#include "uffd.h"

#include <sys/mman.h>

/* How many pages from vpn are compressed, up to n. */
static uint32_t compressed_run(struct mm *mm, vpn_t vpn, uint32_t n)
{
	uint32_t k = 0;

	while (k < n && pte_state(pte_get(&mm->ptes, vpn + k)) == PTE_COMPRESSED)
		k++;
	return k;
}

/* A frame is there, which may hold the object beside it. */
static void came(struct mm *mm, vpn_t vpn, bool keep, bool wp, bool alone)
{
	swp_t swp = pte_swp(pte_get(&mm->ptes, vpn));

	if (!keep) {
		swap_put(&mm->swap, swp);
		mm->swap_full = false;
		swp = SWP_NONE;
	}
	pte_set(&mm->ptes, vpn,
		pte_make(PTE_PRESENT, swp,
			 PTE_YOUNG | (alone ? PTE_WARM : 0) | (keep && wp ? PTE_WP : 0)));
	reclaim_came(mm, vpn);
}

/*
 * Where a single page is to be unpacked: into a frame that is moved then, instead
 * of copied.  That costs half as much, but interrupts another CPU on which the
 * program runs; so it is done where pager and thread share one.
 */
static char *place_for(struct pager *p, const struct region *r, uint32_t n, bool wp)
{
	struct mm *mm = p->mm;
	uint32_t index = STAGE_NONE;

	/* staging is neither locked nor executable, and a move takes frames to what is alike */
	if (n == 1 && !wp && near_binds(p) && !(r->flags & REGION_LOCKED) &&
	    (r->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) == (PROT_READ | PROT_WRITE))
		index = stage_spare_one(mm);
	return index != STAGE_NONE ? stage_addr(mm, index) : mm->tier.in;
}

/* Install up to n pages, for which there are frames; the result is that of the page at vpn. */
static enum fault_result install(struct pager *p, const struct region *r, vpn_t vpn, uint32_t n,
				 bool keep, bool wp)
{
	struct mm *mm = p->mm;
	char *pages = place_for(p, r, n, wp);
	enum uffd_result res = UFFD_UNFIT;
	uint32_t got;
	uint32_t k;
	size_t done;

	for (k = 0; k < n; k++)
		if (!tier_load(mm, vpn + k, pte_swp(pte_get(&mm->ptes, vpn + k)),
			       pages + k * PAGE_SIZE))
			break;
	if (k == 0) {
		swap_put(&mm->swap, pte_swp(pte_get(&mm->ptes, vpn)));
		fault_poison(mm, vpn);
		return FAULT_DONE;
	}
	if (pages != mm->tier.in) {
		res = uffd_move(in_thread_uffd_at(mm, addr_of(vpn)), mm->pagemap_fd, addr_of(vpn),
				(uintptr_t)pages, PAGE_SIZE, &done);
		if (res == UFFD_OK)
			stage_spare_gone(mm);
	}
	if (res != UFFD_OK)
		res = uffd_copy(mm->uffd, addr_of(vpn), pages, k * PAGE_SIZE, wp, &done);
	if (res == UFFD_GONE && done == 0 && k > 1) {
		/* the region consists of several mappings: up to the border of this one */
		k = (uint32_t)(uffd_vma_part(mm->maps_fd, addr_of(vpn), k * PAGE_SIZE) >>
			       PAGE_SHIFT);
		res = uffd_copy(mm->uffd, addr_of(vpn), mm->tier.in, k * PAGE_SIZE, wp, &done);
	}
	got = (uint32_t)(done >> PAGE_SHIFT);
	for (uint32_t i = 0; i < got; i++)
		came(mm, vpn + i, keep, wp, n == 1);
	if (got != 0)
		return FAULT_DONE;
	if (res == UFFD_NOMEM)
		return FAULT_DEFER;
	/* there already, from behind our back: that frame counts */
	if (res == UFFD_EXIST)
		came(mm, vpn, false, false, n == 1);
	fault_wake(mm, vpn);
	return FAULT_DONE;
}

bool fault_compressed_give(struct mm *mm, int fd, const struct fault *f, struct region *r,
			   void *page)
{
	vpn_t vpn = vpn_of(f->addr);
	struct stream *stream;
	bool keep, wp;
	size_t done;

	/* a signal's stack may be small, and a window is a pager's work */
	if (mm->tier.codec.kind != FL_COMPRESS_LZ4 || fault_window(mm, r, vpn, &stream) != 1)
		return false;
	keep = tier_keeps(mm) && !f->write;
	wp = keep && fault_wp_wanted(mm, r);
	keep = keep && (wp || mm->opt.wp == FL_WP_OFF);
	if (!tier_unpack(mm, vpn, pte_swp(pte_get(&mm->ptes, vpn)), page) ||
	    uffd_copy(fd, addr_of(vpn), page, PAGE_SIZE, wp, &done) != UFFD_OK)
		return false;
	came(mm, vpn, keep, wp, true);
	stream_done(stream, vpn + 1);
	stat_add(&mm->stats.faults_compressed, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return true;
}

enum fault_result fault_compressed(struct pager *p, const struct fault *f, struct region *r)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	enum fault_result result = FAULT_DEFER;
	struct stream *stream;
	uint32_t window = fault_window(mm, r, vpn, &stream);
	uint32_t n, left;
	bool keep;
	bool wp;

	/* never more than a part of what the limit allows at once */
	if (window > mm_budget(mm) / 16)
		window = (uint32_t)(mm_budget(mm) / 16);
	n = reclaim_some_room(p, compressed_run(mm, vpn, window > 1 ? window : 1));
	/* that may have written pages through */
	n = compressed_run(mm, vpn, n);
	if (n == 0)
		return FAULT_DEFER;
	keep = tier_keeps(mm) && !(f->write && n == 1);
	if (mm->opt.wp == FL_WP_SYNC)
		wp = keep;
	else
		wp = keep && !f->write && fault_wp_wanted(mm, r);
	/* what is at hand is saved now; where the snapshot's buffer is full, a write waits for it */
	wp = wp || (snapshot_unsaved_any(mm, vpn, n) && snapshot_save(p, vpn, n) < n);
	keep = keep && (wp || mm->opt.wp == FL_WP_OFF);
	for (left = n; left != 0;) {
		uint32_t at = (left - 1) / mm->tier.in_pages * mm->tier.in_pages;

		result = install(p, r, vpn + at, left - at, keep, wp);
		left = at;
	}
	if (result != FAULT_DONE)
		return result;
	stream_done(stream, vpn + n);
	stat_add(&mm->stats.faults_compressed, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}
