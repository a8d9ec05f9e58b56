/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault-wp.c - writes to write-protected pages (the first half of do_wp_page).
 *
 * A page that was read in for a read is write-protected: as long as it is, it
 * equals its slot.  The first write lifts the protection and gives the slot
 * back; whether the frame is then reused or copied (shared after fork) is the
 * kernel's do_wp_page, when the thread writes again.
 *
 * A page that a snapshot has not saved yet is saved first, and those behind it
 * that a stream of writes will come to.  Before the snapshot's instant they are only
 * let be written.
 *
 * Lifting costs a fault, so FL_WP_AUTO write-protects in a region only while
 * fewer than a third of the pages so protected get written; a sample goes on, so
 * that the decision can change.  And while all of a region's faults are writes a
 * touch is a write: so the first one to a protected page lifts the protection of
 * all pages of its leaf.  They keep their slots, and those that stay as they are
 * leave without a write all the same: their checksums tell.
 */
#include "fault.h"
#include "snapshot.h"
#include "uffd.h"

#define WP_SAMPLE 64U	/* protected installs before a region's figures count */
#define WP_DECAY 1024U	/* protected installs after which they are halved */
#define SAVE_AROUND 64U /* pages that are saved for one write */
#define WRITES_MAX 64U	/* faults after which a region is being written */
#define WP_PROBE 16U	/* of a region that lost it, one install in this many is protected */

bool fault_wp_wanted(struct mm *mm, struct region *r)
{
	if (mm->opt.wp != FL_WP_AUTO)
		return mm->opt.wp == FL_WP_SYNC;
	if (r->wp_installs >= WP_SAMPLE && r->wp_faults * 3 >= r->wp_installs &&
	    ++r->wp_passed % WP_PROBE != 0)
		return false;
	if (++r->wp_installs >= WP_DECAY) {
		r->wp_installs /= 2;
		r->wp_faults /= 2;
	}
	return true;
}

void fault_wp_touched(struct region *r, bool write)
{
	if (!write)
		r->writes /= 2;
	else if (r->writes < WRITES_MAX)
		r->writes++;
}

/*
 * The protected pages in the leaf of vpn, where whoever touches one is about to write:
 * none of them is known to be clean any more.  Where they begin, how many pages they span
 * in *n; vpn and 1 where that is to be for this page alone.
 */
static vpn_t spread(struct mm *mm, const struct region *r, vpn_t vpn, uint32_t *n)
{
	vpn_t leaf = vpn & ~(vpn_t)(PTE_LEAF_PAGES - 1);
	vpn_t first = leaf > vpn_of(r->start) ? leaf : vpn_of(r->start);
	vpn_t end = leaf + PTE_LEAF_PAGES < vpn_of(r->end) ? leaf + PTE_LEAF_PAGES : vpn_of(r->end);
	const pte_t *e = pte_leaf(&mm->ptes, vpn);

	*n = 1;
	if (mm->opt.wp != FL_WP_AUTO || r->writes < WRITES_MAX / 2 || r->users != NULL ||
	    mm->snaps.now != NULL)
		return vpn;
	while (first < vpn && !(e[first % PTE_LEAF_PAGES] & PTE_WP))
		first++;
	while (end - 1 > vpn && !(e[(end - 1) % PTE_LEAF_PAGES] & PTE_WP))
		end--;
	*n = (uint32_t)(end - first);
	for (vpn = first; vpn < end; vpn++)
		if (e[vpn % PTE_LEAF_PAGES] & PTE_WP)
			pte_set_bits(&mm->ptes, vpn, 0, PTE_WP);
	return first;
}

/*
 * In a held mapping what is not write-protected counts as changed, and goes to
 * the file: so one page at a time.
 */
static enum fault_result first_change(struct mm *mm, const struct fault *f, vpn_t vpn, pte_t pte)
{
	if (uffd_writeprotect(mm->uffd, addr_of(vpn), PAGE_SIZE, false) != UFFD_OK) {
		fault_wake(mm, vpn);
		return FAULT_DONE;
	}
	if (pte_swp(pte) != SWP_NONE && swap_put(&mm->swap, pte_swp(pte)))
		mm->swap_full = false;
	pte_set(&mm->ptes, vpn, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
	stat_add(&mm->stats.faults_wp, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}

/* How many pages a snapshot whose instant is still to come lets be written with that at vpn. */
static uint32_t early_run(struct mm *mm, const struct region *r, vpn_t vpn)
{
	struct stream *stream;
	uint32_t window = stream_fault(&mm->ra.wp, vpn, mm->opt.fault_around, &stream);
	uint32_t n = 1;

	if (window > SAVE_AROUND)
		window = SAVE_AROUND;
	if (window > vpn_of(r->end) - vpn)
		window = (uint32_t)(vpn_of(r->end) - vpn);
	while (n < window) {
		pte_t pte = pte_get(&mm->ptes, vpn + n);

		if (pte_state(pte) != PTE_PRESENT || (pte & PTE_WP))
			break;
		n++;
	}
	stream_done(stream, vpn + n);
	stat_add(&mm->stats.snapshot_early, 1);
	return n;
}

enum fault_result fault_wp(struct mm *mm, struct pager *p, int fd, const struct fault *f,
			   struct region *r)
{
	vpn_t vpn = vpn_of(f->addr);
	bool unsaved = snapshot_unsaved(mm, vpn);
	struct stream *stream;
	uint32_t window;
	uint32_t n = 0;

	if (r->flags & REGION_HOLD)
		return first_change(mm, f, vpn, pte_get(&mm->ptes, vpn));
	if (!unsaved && !(pte_get(&mm->ptes, vpn) & PTE_WP)) {
		/* lifted already, or protected by nobody we know: lift it, who waits goes on */
		n = snapshot_prepares(mm) ? early_run(mm, r, vpn) : 1;
		if (uffd_writeprotect(fd, addr_of(vpn), n * PAGE_SIZE, false) != UFFD_OK)
			uffd_wake(fd, addr_of(vpn), PAGE_SIZE);
		mm->snaps.lifted += n;
		stat_add(&mm->stats.faults_stale, 1);
		return FAULT_DONE;
	}
	window = stream_fault(&mm->ra.wp, vpn, mm->opt.fault_around, &stream);
	if (window > vpn_of(r->end) - vpn)
		window = (uint32_t)(vpn_of(r->end) - vpn);
	if (unsaved) {
		uint32_t saved = snapshot_save(p, vpn, window < SAVE_AROUND ? window : SAVE_AROUND);

		if (saved == 0) {
			stat_add(&mm->stats.snapshot_waits, 1);
			return FAULT_DEFER;
		}
		stat_add(&mm->stats.snapshot_faults, 1);
		window = saved < window ? saved : window;
	}
	while (n < window) {
		pte_t pte = pte_get(&mm->ptes, vpn + n);

		if (pte_state(pte) != PTE_PRESENT || !(pte & PTE_WP) ||
		    snapshot_unsaved(mm, vpn + n))
			break;
		n++;
	}
	if (n == 0) {
		/* it was protected for the snapshot alone, and is not any more */
		stream_done(stream, vpn + window);
		uffd_wake(fd, addr_of(vpn), PAGE_SIZE);
		stat_add(&mm->stats.faults_wp, 1);
		stat_add(&mm->stats.faults_minor, 1);
		fault_latency(mm, f->t0);
		return FAULT_DONE;
	}
	/* before the kernel lifts any: what it refuses stays protected, and is lifted when it is touched */
	for (uint32_t i = 0; i < n; i++) {
		pte_t pte = pte_get(&mm->ptes, vpn + i);
		swp_t swp = pte_swp(pte);
		bool exact = i == 0 || mm->opt.wp == FL_WP_SYNC;

		/* A page beside the one that faulted may stay unwritten: its checksum will tell. */
		if (exact && swp != SWP_NONE) {
			if (swap_put(&mm->swap, swp))
				mm->swap_full = false;
			swp = SWP_NONE;
		}
		pte_set(&mm->ptes, vpn + i,
			pte_make(PTE_PRESENT, swp, PTE_YOUNG | (pte & PTE_WARM)));
	}
	stream_done(stream, vpn + n);
	r->wp_faults += n;
	if (n == 1)
		vpn = spread(mm, r, vpn, &n);
	mm->snaps.lifted += n;
	if (uffd_writeprotect(fd, addr_of(vpn), n * PAGE_SIZE, false) != UFFD_OK) {
		uffd_wake(fd, f->addr, PAGE_SIZE);
		return FAULT_DONE;
	}
	stat_add(&mm->stats.faults_wp, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}
