/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault-anon.c - first touches (the kernel's do_anonymous_page) and same-filled pages.
 *
 * A read gets the kernel's zero page, a write a private zeroed frame; a write
 * after a read is upgraded by the kernel itself, which is why the zero page is
 * charged as a frame from the start.  Sequential first touches are answered in
 * windows that double (fault-around).
 */
#include "fault.h"
#include "reclaim.h"
#include "snapshot.h"
#include "uffd.h"

#include <errno.h>

/*
 * As many zero bytes as the largest window.  Not const, so that they take no
 * room in the file; only ever read, so one zero page stands behind all.  Not
 * aligned to pages, or all variables of the library would be.
 */
static char zeros[FL_WINDOW_MAX * PAGE_SIZE] __attribute__((aligned(64)));

/* How many pages from vpn are none, up to n and the region's end. */
static uint32_t none_run(struct mm *mm, const struct region *r, vpn_t vpn, uint32_t n)
{
	uint32_t k = 1;

	if (n > vpn_of(r->end) - vpn)
		n = (uint32_t)(vpn_of(r->end) - vpn);
	while (k < n && pte_state(pte_get(&mm->ptes, vpn + k)) == PTE_NONE)
		k++;
	return k;
}

static enum uffd_result give_zeros(int fd, vpn_t vpn, uint32_t n, bool write, size_t *done)
{
	if (write)
		return uffd_copy(fd, addr_of(vpn), zeros, n * PAGE_SIZE, false, done);
	return uffd_zeropage(fd, addr_of(vpn), n * PAGE_SIZE, done);
}

static enum fault_result counted(struct mm *mm, const struct fault *f, struct stream *stream,
				 uint32_t got)
{
	stream_done(stream, vpn_of(f->addr) + got);
	stat_add(&mm->stats.faults_around, got - 1);
	stat_add(f->write ? &mm->stats.faults_anon : &mm->stats.faults_zero, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}

/* The fault's page and those behind it have frames. */
static enum fault_result given(struct mm *mm, const struct fault *f, struct stream *stream,
			       uint32_t got)
{
	for (uint32_t i = 0; i < got; i++)
		pte_set(&mm->ptes, vpn_of(f->addr) + i, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
	return counted(mm, f, stream, got);
}

enum fault_result fault_anon(struct pager *p, const struct fault *f, const struct region *r)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	enum uffd_result res;
	struct stream *stream;
	uint32_t window;
	uint32_t n;
	uint32_t got;
	size_t done;

	window = stream_fault(&mm->ra.touch, vpn, mm->opt.fault_around, &stream);
	if (r->flags & REGION_RANDOM)
		window = 1;
	/* never more than a part of what the limit allows at once */
	if (window > mm_budget(mm) / 16)
		window = (uint32_t)(mm_budget(mm) / 16);
	if (window == 0)
		window = 1;
	n = none_run(mm, r, vpn, window);
	if (n >= STAGE_BLOCK)
		mm->filling = true;
	if (f->write && n >= STAGE_BLOCK && pte_reserve(&mm->ptes, vpn, n) == 0) {
		got = stage_spare_give(mm, vpn, n);
		if (got != 0)
			return given(mm, f, stream, got);
	}
	n = reclaim_some_room(p, n);
	if (n == 0)
		return FAULT_DEFER;
	if (pte_state(pte_get(&mm->ptes, vpn)) != PTE_NONE || pte_reserve(&mm->ptes, vpn, n) != 0)
		return FAULT_DEFER;
	res = give_zeros(mm->uffd, vpn, n, f->write, &done);
	if (res == UFFD_GONE && done == 0 && n > 1) {
		/* the region consists of several mappings: up to the border of this one */
		n = (uint32_t)(uffd_vma_part(mm->maps_fd, addr_of(vpn), n * PAGE_SIZE) >>
			       PAGE_SHIFT);
		res = give_zeros(mm->uffd, vpn, n, f->write, &done);
	}
	got = (uint32_t)(done >> PAGE_SHIFT);
	if (got == 0) {
		if (res == UFFD_NOMEM)
			return FAULT_DEFER;
		fault_wake(mm, vpn);
		/* there already, or in no mapping any more: that is not ours to enter */
		if (res != UFFD_EXIST)
			return counted(mm, f, stream, 1);
		got = 1;
	}
	return given(mm, f, stream, got);
}

bool fault_anon_give(struct mm *mm, int fd, const struct fault *f, const struct region *r,
		     uint32_t most)
{
	vpn_t vpn = vpn_of(f->addr);
	struct stream *stream;
	uint32_t n = stream_fault(&mm->ra.touch, vpn, mm->opt.fault_around, &stream);
	size_t done;

	if (r->flags & REGION_RANDOM)
		n = 1;
	if (n > most)
		return false;
	n = none_run(mm, r, vpn, n);
	if (pte_reserve(&mm->ptes, vpn, n) != 0)
		return false;
	give_zeros(fd, vpn, n, f->write, &done);
	if (done == 0)
		return false;
	given(mm, f, stream, (uint32_t)(done >> PAGE_SHIFT));
	return true;
}

enum fault_result fault_filled(struct pager *p, const struct fault *f)
{
	uint64_t page[PAGE_SIZE / sizeof(uint64_t)] __attribute__((aligned(64)));
	struct mm *mm = p->mm;

	if (!reclaim_make_room(p, 1))
		return FAULT_DEFER;
	if (snapshot_unsaved(mm, vpn_of(f->addr)) && snapshot_save(p, vpn_of(f->addr), 1) == 0)
		return FAULT_DEFER;
	if (pte_state(pte_get(&mm->ptes, vpn_of(f->addr))) != PTE_FILLED)
		return FAULT_DEFER;
	return fault_filled_give(mm, mm->uffd, f, page);
}

enum fault_result fault_filled_give(struct mm *mm, int fd, const struct fault *f, void *page)
{
	vpn_t vpn = vpn_of(f->addr);
	uint32_t index = (uint32_t)pte_payload(pte_get(&mm->ptes, vpn));
	uint64_t word = fill_word(&mm->fills, index);
	uint64_t *words = page;
	enum uffd_result res;
	size_t done;

	if (word == 0 && !f->write) {
		res = uffd_zeropage(fd, addr_of(vpn), PAGE_SIZE, &done);
	} else {
		for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
			words[i] = word;
		res = uffd_copy(fd, addr_of(vpn), page, PAGE_SIZE, false, &done);
	}
	if (res == UFFD_NOMEM || res == UFFD_FATAL)
		return FAULT_DEFER;
	if (res == UFFD_OK || res == UFFD_EXIST) {
		fill_put(&mm->fills, index);
		pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
		reclaim_came(mm, vpn);
	}
	if (res != UFFD_OK)
		uffd_wake(fd, addr_of(vpn), PAGE_SIZE);
	stat_add(&mm->stats.faults_filled, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}
