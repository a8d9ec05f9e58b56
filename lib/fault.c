/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault.c - dispatch and deferral of faults; see fault.h.
 *
 * A fault that needs a frame when none is free is kept in mm->defer and tried
 * again after each round of the pager's loop.  The list is bounded: what does
 * not fit is woken, and its thread faults again.
 */
#include "fault.h"

#include "grant.h"
#include "in-thread.h"
#include "reclaim.h"
#include "snapshot.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <signal.h>

/*
 * How long nothing at all can leave before that is taken for the end, ns; and how often that is
 * looked at: while the machine stands still nothing is.
 */
#define STUCK_FULL 100000000U
#define STUCK_PINNED 3000000000U
#define STUCK_LOOKS 16U
#define STARVED 3000000000U

void fault_wake(struct mm *mm, vpn_t vpn)
{
	uffd_wake(mm->uffd, addr_of(vpn), PAGE_SIZE);
}

uint64_t fault_latency(struct mm *mm, uint64_t t0)
{
	uint64_t ns = sys_now() - t0;
	unsigned b = ns != 0 ? 63U - (unsigned)__builtin_clzll(ns) : 0;

	stat_add(&mm->stats.latency_ns, ns);
	stat_add(&mm->stats.latency[b < FL_LATENCY_BUCKETS ? b : FL_LATENCY_BUCKETS - 1], 1);
	return ns;
}

void fault_poison(struct mm *mm, vpn_t vpn)
{
	pte_set(&mm->ptes, vpn, pte_make(PTE_POISONED, 0, 0));
	uffd_poison(mm->uffd, addr_of(vpn), PAGE_SIZE);
	fault_wake(mm, vpn);
}

/*
 * A missing fault on a page that should be present: either it came meanwhile
 * (then waking is all), or it went behind our back, by a lazy MADV_FREE from
 * before arming or by a system call that was not ours.  Both mean zeros.
 */
static enum fault_result fault_present(struct pager *p, const struct fault *f,
				       const struct region *r)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	struct page_region run;
	uintptr_t next;
	swp_t swp;

	snapshot_gone(mm, vpn);
	if (uffd_scan_present(mm->pagemap_fd, addr_of(vpn), addr_of(vpn + 1), &run, 1, &next) !=
	    0) {
		stat_add(&mm->stats.faults_stale, 1);
		fault_wake(mm, vpn);
		return FAULT_DONE;
	}
	swp = pte_swp(pte_get(&mm->ptes, vpn));
	if (swp != SWP_NONE)
		swap_put(&mm->swap, swp);
	pte_set(&mm->ptes, vpn, 0);
	return r->users != NULL ? fault_file(p, f, r) : fault_anon(p, f, r);
}

enum fault_result fault_handle(struct pager *p, const struct fault *f)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	struct region *r = peer_region(mm, f->peer, f->addr);
	pte_t pte;

	lock_assert_held(&mm->lock);
	if (r == NULL) {
		/* Being unmapped or replaced: who touches it again meets the kernel's answer. */
		peer_wake(mm, f->peer, vpn);
		return FAULT_DONE;
	}
	if (r->flags & REGION_SHARED)
		return fault_file(p, f, r);
	if (!f->again)
		fault_wp_touched(r, f->write || f->wp);
	pte = pte_get(&mm->ptes, vpn);
	if (f->wp && pte_state(pte) != PTE_PRESENT) {
		fault_wake(mm, vpn);
		return FAULT_DONE;
	}
	switch (pte_state(pte)) {
	case PTE_NONE:
		return r->users != NULL ? fault_file(p, f, r) : fault_anon(p, f, r);
	case PTE_PRESENT:
		return f->wp ? fault_wp(mm, p, mm->uffd, f, r) : fault_present(p, f, r);
	case PTE_STAGED:
		return fault_staged(p, f, r);
	case PTE_SWAPPED:
		return fault_swap(p, f, r);
	case PTE_FILLED:
		return fault_filled(p, f);
	case PTE_COMPRESSED:
		return fault_compressed(p, f, r);
	default:
		uffd_poison(mm->uffd, addr_of(vpn), PAGE_SIZE);
		fault_wake(mm, vpn);
		return FAULT_DONE;
	}
}

void fault_defer(struct pager *p, const struct fault *f)
{
	struct mm *mm = p->mm;

	/* what others waited for is over: they were answered, or their process has gone */
	if (mm->ndefer == 0)
		mm->stuck_since = 0;
	if (mm->ndefer == DEFER_MAX) {
		peer_wake(mm, f->peer, vpn_of(f->addr));
	} else {
		mm->defer[mm->ndefer] = *f;
		mm->defer[mm->ndefer++].again = true;
	}
}

static bool is_deferred(const struct mm *mm, vpn_t vpn)
{
	for (unsigned i = 0; i < mm->ndefer; i++)
		if (vpn_of(mm->defer[i].addr) == vpn)
			return true;
	return false;
}

long fault_handed(struct pager *p, uintptr_t addr, bool write, bool wp)
{
	struct mm *mm = p->mm;
	const struct region *r = region_find(&mm->regions, addr);
	struct fault f = {.addr = addr, .write = write, .wp = wp, .again = true, .t0 = sys_now()};

	if (in_thread_gone(r))
		return 0;
	if (!(r->flags & REGION_IN_THREAD))
		return -EINVAL;
	if (!is_deferred(mm, vpn_of(addr)) && fault_handle(p, &f) == FAULT_DEFER)
		fault_defer(p, &f);
	return 0;
}

bool fault_pending(struct mm *mm, vpn_t vpn)
{
	pte_t pte = pte_get(&mm->ptes, vpn);

	if (pte_state(pte) == PTE_STAGED &&
	    mm->staging.page[pte_payload(pte)].state == STAGE_READING &&
	    (mm->staging.page[pte_payload(pte)].flags & STAGE_DEMAND))
		return true;
	return is_deferred(mm, vpn);
}

/*
 * Every area is full, every frame holds something that is nowhere else, and a
 * thread needs one more: as the kernel's out-of-memory killer, and never with
 * wrong data.
 */
static void out_of_memory(struct mm *mm)
{
	if (mm->flags & MM_SERVER) {
		/* not one's own pages, and not for one's own threads: who asks gets SIGBUS */
		for (unsigned i = 0; i < mm->ndefer; i++)
			file_sigbus(mm, mm->defer[i].peer, vpn_of(mm->defer[i].addr));
		mm->ndefer = 0;
		mm->stuck_since = 0;
		return;
	}
	if (!mm->oom_said) {
		mm->oom_said = true;
		mm_log(mm, FL_LOG_ERROR,
		       "out of memory: %lu MiB of frames and %lu MiB of swap are in use; ending "
		       "the process",
		       (unsigned long)(mm->limit >> 8), (unsigned long)(swap_used(&mm->swap) >> 8));
	}
	SYS2(kill, SYS0(getpid), SIGKILL);
}

void fault_retry(struct pager *p)
{
	struct mm *mm = p->mm;
	unsigned n = mm->ndefer;
	unsigned kept = 0;

	if (n == 0)
		return;
	for (unsigned i = 0; i < n; i++) {
		struct fault f = mm->defer[i];

		if (fault_handle(p, &f) == FAULT_DEFER)
			mm->defer[kept++] = f;
	}
	mm->ndefer = kept;
	/* There are frames, but no memory for a page table or a request, and that lasts. */
	if (kept == n && !mm->closing && sys_now() - mm->defer[0].t0 > STARVED && !reclaim_io(mm) &&
	    !files_settling(mm))
		out_of_memory(mm);
	if (kept < n || mm->closing || mm_frames(mm) < mm_budget(mm) || !reclaim_stuck(p) ||
	    grant_relax(mm)) {
		mm->stuck_since = 0;
		return;
	}
	/* A pinned frame is let go when its I/O ends: only what lasts counts. */
	if (mm->stuck_since == 0) {
		mm->stuck_since = sys_now();
		mm->stuck_looks = 0;
	} else if (++mm->stuck_looks >= STUCK_LOOKS &&
		   sys_now() - mm->stuck_since > (mm->swap_full ? STUCK_FULL : STUCK_PINNED)) {
		out_of_memory(mm);
	}
}
