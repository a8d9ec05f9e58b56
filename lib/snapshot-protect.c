/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-protect.c - write-protecting the pages of a snapshot, most of them
 * before its instant; snapshot.c has the whole.
 *
 * To protect a page takes the kernel as long as to copy its entry at a fork.  So
 * it is done in passes, the first ones in slices between which faults and calls are
 * served as ever.  Who writes to a page that is protected already has it
 * unprotected at once: nothing is to be saved before the instant.  Pages may also
 * leave, come, move and be unmapped between two slices, and which do is not noted:
 * each pass asks the kernel which pages are present and not protected
 * (PAGEMAP_SCAN), and protects those, and so does the last one, at the
 * instant, with the mm lock held from its first page to its last.  Nobody takes a
 * protection away without that lock, so what it does not find is protected.
 *
 * Whether there is another pass before the last one is decided by two counts: pages
 * that became PRESENT, and pages that were let be written.  A pass during which there
 * were few is the last but one, and so is one during which there were more than half of what
 * there were in the one before it: a program that writes faster than it is protected
 * has it all in the pause, which is then as long as a fork.  Nothing but time depends on them.
 *
 * Only what has a PRESENT entry is protected: a fault on a protected page of another
 * state would find nothing to lift.
 */
#include "snapshot-work.h"

#include "in-thread.h"
#include "log.h"
#include "uffd.h"

#include <errno.h>

#define SLICE 4096U    /* pages, as protecting one takes, between two looks for faults */
#define SLICE_LEAF 32U /* what to ask for a leaf's takes, in such pages */
#define PASSES_MAX 3U  /* before the instant */
#define FEW 4096U      /* pages that may be left for it */
#define GAP_MAX 16U    /* protected pages between two runs that are protected with them */
#define RUNS 64U

/* ---- protecting what is not ---- */

struct protection {
	struct mm *mm;
	vpn_t from, to; /* a run that is still to be protected */
	uint64_t pages; /* of the runs so far */
	bool failed;
};

static void flush(struct protection *w)
{
	if (w->to != w->from && uffd_writeprotect(w->mm->uffd, addr_of(w->from),
						  (w->to - w->from) * PAGE_SIZE, true) != UFFD_OK)
		w->failed = true;
	w->pages += w->to - w->from;
	w->from = w->to;
}

static bool all_present(struct mm *mm, vpn_t vpn, vpn_t end)
{
	for (; vpn < end; vpn++)
		if (pte_state(pte_get(&mm->ptes, vpn)) != PTE_PRESENT)
			return false;
	return true;
}

/* PRESENT pages: in the run, or in the next one. */
static void add_present(struct protection *w, vpn_t vpn, vpn_t end)
{
	if (vpn != w->to &&
	    (w->to == w->from || vpn - w->to > GAP_MAX || !all_present(w->mm, w->to, vpn))) {
		flush(w);
		w->from = vpn;
	}
	w->to = end;
}

/* Pages of a run of what the kernel has there. */
static void add(struct protection *w, vpn_t vpn, vpn_t end)
{
	while (vpn < end) {
		const pte_t *leaf = pte_leaf(&w->mm->ptes, vpn);
		vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;

		if (stop > end)
			stop = end;
		if (leaf == NULL) {
			vpn = stop;
			continue;
		}
		if (pte_leaf_present(&w->mm->ptes, vpn) == PTE_LEAF_PAGES) {
			/* without a look at the entries */
			add_present(w, vpn, stop);
			vpn = stop;
			continue;
		}
		for (; vpn < stop; vpn++)
			if (pte_state(leaf[vpn % PTE_LEAF_PAGES]) == PTE_PRESENT)
				add_present(w, vpn, vpn + 1);
	}
}

/* Protect what is present of [vpn, end) and is not protected. */
static void protect_rest(struct protection *w, vpn_t vpn, vpn_t end)
{
	uintptr_t at = addr_of(vpn);

	while (at < addr_of(end)) {
		struct page_region runs[RUNS];
		uintptr_t next;
		long n = uffd_scan_written(w->mm->pagemap_fd, at, addr_of(end), runs, RUNS, &next);

		if (n < 0 || next <= at) {
			/* the kernel does not say: all that is present */
			add(w, vpn_of(at), end);
			break;
		}
		for (long i = 0; i < n; i++)
			add(w, vpn_of(runs[i].start), vpn_of(runs[i].end));
		at = next;
	}
	flush(w);
}

/* The same, of leaves that have present pages: for the others the kernel is not asked. */
static void protect_leaves(struct protection *w, vpn_t vpn, vpn_t end)
{
	struct pte_table *t = &w->mm->ptes;

	while ((vpn = pte_next(t, vpn, end, 1U << PTE_PRESENT)) < end) {
		vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;

		while (stop < end && pte_leaf_present(t, stop) != 0)
			stop += PTE_LEAF_PAGES;
		if (stop > end)
			stop = end;
		protect_rest(w, vpn, stop);
		vpn = stop;
	}
}

/* Without dirty tracking nothing was registered for write-protection yet. */
static int register_protection(struct snapshot *s)
{
	struct mm *mm = s->mm;
	const struct region *r;
	uintptr_t at = s->start;

	if (mm->opt.wp != FL_WP_OFF)
		return 0;
	while ((r = region_next(&mm->regions, at)) != NULL && r->start < s->end) {
		int err = snapshot_has_part(r) ? uffd_register(in_thread_uffd_at(mm, r->start),
							       r->start, r->end - r->start, true)
					       : 0;

		if (err != 0)
			return err;
		at = r->end;
	}
	return 0;
}

/* ---- before the instant ---- */

bool snapshot_prepares(const struct mm *mm)
{
	return mm->snaps.now != NULL && mm->snaps.now->stage == SNAP_PREPARING;
}

void snapshot_spare(struct mm *mm, vpn_t vpn)
{
	if (snapshot_prepares(mm))
		snapshot_lift(mm, vpn, 1);
}

int snapshot_prepare(struct snapshot *s)
{
	s->next = vpn_of(s->start);
	s->changes = s->mm->ptes.came + s->mm->snaps.lifted;
	return register_protection(s);
}

bool snapshot_pass(struct snapshot *s)
{
	struct mm *mm = s->mm;
	vpn_t end = vpn_of(s->end);
	uint64_t cost = 0;
	uint64_t now, changed;
	bool again;

	while (cost < SLICE) {
		struct protection w = {.mm = mm};
		vpn_t vpn = pte_next(&mm->ptes, s->next, end, 1U << PTE_PRESENT);
		const struct region *r;
		vpn_t stop;

		if (vpn >= end)
			break;
		r = region_find(&mm->regions, addr_of(vpn));
		if (r == NULL || !snapshot_has_part(r)) {
			s->next = r != NULL ? vpn_of(r->end) : vpn + 1;
			continue;
		}
		/* whole leaves: a huge page is protected as a whole, and stays one */
		stop = (vpn | (SLICE - 1)) + 1;
		if (stop > vpn_of(r->end))
			stop = vpn_of(r->end);
		if (stop > end)
			stop = end;
		/* what fails now is found again at the instant */
		protect_rest(&w, vpn, stop);
		cost += (stop - vpn) / PTE_LEAF_PAGES * SLICE_LEAF + SLICE_LEAF + w.pages;
		s->next = stop;
	}
	if (cost >= SLICE)
		return false;
	s->passes++;
	now = mm->ptes.came + mm->snaps.lifted;
	changed = now - s->changes;
	again = s->passes < PASSES_MAX && changed > FEW &&
		(s->passes == 1 || changed < s->before / 2);
	s->before = changed;
	s->changes = now;
	s->next = vpn_of(s->start);
	return !again;
}

/* ---- at the instant ---- */

/* Whether a page of a private mapping of a file is the file's. */
static bool is_files(const struct mm *mm, vpn_t vpn, pte_t pte)
{
	switch (pte_state(pte)) {
	case PTE_NONE:
		return true;
	case PTE_PRESENT:
		return (pte & PTE_WP) && pte_swp(pte) == SWP_NONE;
	case PTE_POISONED:
		/* for a moment, since the file has no such page */
		for (unsigned i = 0; i < mm->files.nbus; i++)
			if (mm->files.bus[i].peer == NULL && mm->files.bus[i].vpn == vpn)
				return true;
		return false;
	default:
		return false;
	}
}

/* Every page of a range that has content is unsaved. */
static void note_content(struct snapshot *s, const struct image_range *r)
{
	struct mm *mm = s->mm;
	vpn_t vpn = vpn_of(r->start), end = vpn_of(r->end);
	uint64_t i = r->first;

	while (vpn < end) {
		const pte_t *leaf = pte_leaf(&mm->ptes, vpn);
		vpn_t stop = (vpn | (PTE_LEAF_PAGES - 1)) + 1;
		unsigned used = pte_leaf_used(&mm->ptes, vpn);

		if (stop > end)
			stop = end;
		if (r->flags & IMAGE_RANGE_FILE) {
			for (; vpn < stop; vpn++, i++) {
				if (is_files(mm, vpn, leaf[vpn % PTE_LEAF_PAGES])) {
					s->sum[i] = IMAGE_FILE;
					continue;
				}
				bit_set(s->unsaved, i);
				s->left++;
			}
			continue;
		}
		if (used == PTE_LEAF_PAGES) {
			/* without a look at the entries */
			bits_set(s->unsaved, i, stop - vpn);
			s->left += stop - vpn;
			i += stop - vpn;
			vpn = stop;
			continue;
		}
		for (; vpn < stop; vpn++, i++)
			if (used != 0 && pte_state(leaf[vpn % PTE_LEAF_PAGES]) != PTE_NONE) {
				bit_set(s->unsaved, i);
				s->left++;
			}
	}
}

#ifdef FL_DEBUG
static void check_protected(struct snapshot *s)
{
	struct mm *mm = s->mm;

	for (uint64_t k = 0; k < s->nranges; k++)
		for (uintptr_t at = s->range[k].start, next; at < s->range[k].end; at = next) {
			struct page_region runs[RUNS];
			long n = uffd_scan_written(mm->pagemap_fd, at, s->range[k].end, runs, RUNS,
						   &next);

			if (n < 0 || next <= at)
				return;
			for (long i = 0; i < n; i++)
				for (vpn_t v = vpn_of(runs[i].start); v < vpn_of(runs[i].end); v++)
					if (pte_state(pte_get(&mm->ptes, v)) == PTE_PRESENT)
						log_fatal("0x%lx can be written, and is not saved",
							  (unsigned long)addr_of(v));
		}
}
#endif

long snapshot_protect(struct snapshot *s)
{
	struct protection w = {.mm = s->mm};
	int err = register_protection(s);

	if (err != 0)
		return err;
	for (uint64_t k = 0; k < s->nranges; k++) {
		protect_leaves(&w, vpn_of(s->range[k].start), vpn_of(s->range[k].end));
		if (w.failed)
			return -ENOMEM;
		note_content(s, &s->range[k]);
	}
#ifdef FL_DEBUG
	check_protected(s);
#endif
	return 0;
}

void snapshot_unprotect(struct snapshot *s)
{
	struct mm *mm = s->mm;
	vpn_t end = vpn_of(s->end);

	for (vpn_t v = vpn_of(s->start);
	     (v = pte_next(&mm->ptes, v, end, 1U << PTE_PRESENT)) < end;) {
		const struct region *r = region_find(&mm->regions, addr_of(v));
		vpn_t stop = (v | (PTE_LEAF_PAGES - 1)) + 1;

		if (stop > end)
			stop = end;
		if (r != NULL && stop > vpn_of(r->end))
			stop = vpn_of(r->end);
		if (r != NULL && snapshot_has_part(r))
			snapshot_lift(mm, v, (uint32_t)(stop - v));
		v = stop;
	}
}
