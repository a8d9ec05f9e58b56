/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hop.c - calls handed to a pager by touching a doorbell; see hop.h.
 *
 * ring() is the calling thread's half, serve_slot() the pager's.  What serve() does
 * not finish (HOP_LATER, and a HOP_FAULT whose page is pending) stays RUNNING until
 * hop_late() or hop_serve_faults() answers it.
 *
 * Invariants: hop.h; h->later counts the HOP_FAULTs that are RUNNING between two rounds.
 *
 * Locks.  The thread's half takes none.  The pager's runs with the mm lock held, but
 * for hop_answer_faults(): a thread that is woken takes that lock at its next fault.
 */
#include "hop.h"

#include "mm.h"
#include "do.h"
#include "fault.h"
#include "fork.h"
#include "grant.h"
#include "hold.h"
#include "in-thread.h"
#include "open.h"
#include "pager.h"
#include "prefetch.h"
#include "share.h"
#include "snapshot.h"
#include "sys.h"
#include "truncate.h"
#include "uffd.h"
#include "verify.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SLOT_BYTES ((HOP_SLOTS * sizeof(struct hop_slot) + 4095) & ~(size_t)4095)
#define KICKS 2U
#define BELL_BYTES ((size_t)(HOP_SLOTS + KICKS) * PAGE_SIZE)
#define ANSWER_TRIES 2000U
#define ANSWER_PAUSE 1000000U /* ns */

int hop_init(struct mm *mm)
{
	struct hop *h = &mm->hop;
	int r;

	h->slot = sys_mem_alloc(SLOT_BYTES);
	h->bell = sys_mem_alloc(BELL_BYTES);
	if (h->slot == NULL || h->bell == NULL)
		return -ENOMEM;
	SYS3(madvise, h->bell, BELL_BYTES, MADV_NOHUGEPAGE);
	SYS3(madvise, h->bell, BELL_BYTES, MADV_DONTFORK);
	r = uffd_register(mm->uffd, (uintptr_t)h->bell, BELL_BYTES, false);
	return r;
}

int hop_forked(struct mm *mm)
{
	sys_mem_free(mm->hop.slot, SLOT_BYTES);
	mm->hop = (struct hop){.slot = NULL};
	return hop_init(mm);
}

void hop_fini(struct mm *mm)
{
	sys_mem_free(mm->hop.bell, BELL_BYTES);
	sys_mem_free(mm->hop.slot, SLOT_BYTES);
	mm->hop.bell = NULL;
	mm->hop.slot = NULL;
}

bool hop_is_bell(const struct mm *mm, uintptr_t addr)
{
	return addr >= (uintptr_t)mm->hop.bell && addr < (uintptr_t)mm->hop.bell + BELL_BYTES;
}

static bool slot_move(struct hop_slot *s, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&s->state, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

static char *kick_page(const struct hop *h, uint32_t kick)
{
	return h->bell + (size_t)(HOP_SLOTS + kick) * PAGE_SIZE;
}

/* Empty every doorbell that was rung and read, many with one call. */
static void empty_bells(struct hop *h)
{
	for (uint32_t i = 0; i < HOP_SLOTS;) {
		uint32_t n = 0;

		while (i + n < HOP_SLOTS && slot_move(&h->slot[i + n], HOP_RUNG, HOP_EMPTYING))
			n++;
		if (n == 0) {
			i++;
			continue;
		}
		long r = SYS3(madvise, h->bell + (size_t)i * PAGE_SIZE, n * PAGE_SIZE,
			      MADV_DONTNEED_LOCKED);

		/* a bell that is not empty would not ring: its slot stays out of use */
		for (uint32_t k = 0; k < n; k++)
			slot_move(&h->slot[i + k], HOP_EMPTYING, sys_err(r) ? HOP_RUNG : HOP_FREE);
		if (!sys_err(r))
			__atomic_fetch_sub(&h->rung, n, __ATOMIC_RELAXED);
		i += n;
	}
}

static struct hop_slot *slot_take(struct hop *h)
{
	for (;;) {
		for (uint32_t i = 0; i < HOP_SLOTS; i++)
			if (__atomic_load_n(&h->slot[i].state, __ATOMIC_RELAXED) == HOP_FREE &&
			    slot_move(&h->slot[i], HOP_FREE, HOP_OWNED))
				return &h->slot[i];
		/* more callers than doorbells: have them emptied, which also lets others finish */
		(void)*(volatile const char *)kick_page(
			h, __atomic_load_n(&h->kick, __ATOMIC_ACQUIRE));
	}
}

/* No signal handler may run meanwhile. */
static long ring(struct mm *mm, enum hop_op op, const long *arg)
{
	struct hop *h = &mm->hop;
	struct hop_slot *s = slot_take(h);
	volatile const char *bell = h->bell + (size_t)(s - h->slot) * PAGE_SIZE;
	long result;

	s->op = op;
	memcpy(s->arg, arg, sizeof(s->arg));
	__atomic_store_n(&s->state, HOP_POSTED, __ATOMIC_RELEASE);
	/* Waits here, in the page fault, until a pager has done the call. */
	(void)*bell;
	while (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != HOP_DONE)
		(void)*bell;
	result = s->result;
	__atomic_fetch_add(&h->rung, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&s->state, HOP_RUNG, __ATOMIC_RELEASE);
	return result;
}

long hop_call(struct mm *mm, enum hop_op op, long a, long b, long c, long d, long e, long f, long g)
{
	const long arg[7] = {a, b, c, d, e, f, g};
	uint64_t all = ~(uint64_t)0;
	uint64_t mask = 0;
	long result;

	/* A handler that left by siglongjmp(3), or a cancellation, would keep the slot for ever. */
	if (!(mm->flags & MM_PRELOAD))
		SYS4(sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
	result = ring(mm, op, arg);
	if (!(mm->flags & MM_PRELOAD))
		SYS4(sigprocmask, SIG_SETMASK, &mask, 0, sizeof(mask));
	return result;
}

long hop_fault(struct mm *mm, uintptr_t addr, bool write, bool wp)
{
	const long arg[7] = {(long)addr, write, wp};

	return ring(mm, HOP_FAULT, arg);
}

long hop_run(struct mm *mm, long (*fn)(struct pager *p, void *arg), void *arg)
{
	return hop_call(mm, HOP_RUN, (long)fn, (long)arg, 0, 0, 0, 0, 0);
}

/* Advice that leaves every page's content as it is. */
static bool keeps_content(int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_REMOVE:
	case MADV_DONTNEED_LOCKED:
	case MADV_GUARD_INSTALL:
		return false;
	default:
		return true;
	}
}

/* Before a call that drops or moves pages: those of a snapshot are saved. */
static void settle(struct pager *p, const struct hop_slot *s)
{
	const long *a = s->arg;
	const struct map_file *m;
	uintptr_t start = (uintptr_t)a[0];
	uintptr_t end = start + page_up((size_t)a[1]);

	switch ((enum hop_op)s->op) {
	case HOP_MUNMAP:
	case HOP_REMAP_PAGES:
	case HOP_REMOVE:
		break;
	case HOP_UNREGISTER:
		end = (uintptr_t)a[1];
		break;
	case HOP_MMAP:
		if (!(a[3] & MAP_FIXED))
			return;
		break;
	case HOP_MMAP_FILE:
		m = (const struct map_file *)a[0];
		start = m->addr;
		end = start + page_up(m->len);
		if (!(m->flags & MAP_FIXED))
			return;
		break;
	case HOP_MADVISE:
		if (keeps_content((int)a[2]))
			return;
		break;
	case HOP_MREMAP:
		if (a[3] & MREMAP_FIXED)
			snapshot_settle(p, (uintptr_t)a[4],
					(uintptr_t)a[4] + page_up((size_t)a[2]));
		break;
	case HOP_BRK:
		end = page_up(p->mm->brk);
		start = page_up(start);
		break;
	case HOP_FLAGS: /* about to be replaced past us */
		if (!(a[2] & REGION_HELD))
			return;
		end = (uintptr_t)a[1];
		break;
	case HOP_CLOSE:
		snapshot_finish(p);
		return;
	case HOP_TRUNCATE: /* may cut off what was written to private pages */
	case HOP_RESIZED:
	case HOP_BACKING_CLOSE:
	case HOP_FILES_CLOSE:
		snapshot_settle_files(p);
		return;
	default:
		return;
	}
	if (start < end)
		snapshot_settle(p, start, end);
}

static long serve(struct pager *p, struct hop_slot *s)
{
	struct mm *mm = p->mm;
	const long *a = s->arg;
	long r;

	if (mm->snaps.now != NULL)
		settle(p, s);
	switch ((enum hop_op)s->op) {
	case HOP_MMAP:
		return do_mmap(mm, (uintptr_t)a[0], (size_t)a[1], (int)a[2], (int)a[3]);
	case HOP_MUNMAP:
		return do_munmap(mm, (uintptr_t)a[0], (size_t)a[1]);
	case HOP_MREMAP:
		return do_mremap(mm, (uintptr_t)a[0], (size_t)a[1], (size_t)a[2], (int)a[3],
				 (uintptr_t)a[4]);
	case HOP_MPROTECT:
		return do_mprotect(p, mm, (uintptr_t)a[0], (size_t)a[1], (int)a[2], (int)a[3]);
	case HOP_MADVISE:
		return do_madvise(p, mm, (uintptr_t)a[0], (size_t)a[1], (int)a[2]);
	case HOP_MLOCK:
		return do_mlock(mm, (uintptr_t)a[0], (size_t)a[1], (unsigned)a[2]);
	case HOP_MUNLOCK:
		return do_munlock(mm, (uintptr_t)a[0], (size_t)a[1]);
	case HOP_BRK:
		return do_brk(mm, (uintptr_t)a[0]);
	case HOP_FLAGS:
		/* held is what another mapping is about to replace, or did not replace after all */
		if (a[3] & REGION_HELD)
			share_return(mm, (uintptr_t)a[0], (uintptr_t)a[1]);
		r = a[2] & REGION_LOCKED
			    ? share_advise(mm, (uintptr_t)a[0], (uintptr_t)a[1], WIRE_LOCK)
			    : 0;
		if (r == 0)
			r = region_change(&mm->regions, (uintptr_t)a[0], (uintptr_t)a[1], -1,
					  (uint32_t)a[2], (uint32_t)a[3]);
		if (r == 0 && (a[2] & REGION_HELD))
			share_leave(mm, (uintptr_t)a[0], (uintptr_t)a[1]);
		if ((a[2] & REGION_LOCKED) ? r != 0 : (a[3] & REGION_LOCKED) != 0)
			share_relock(mm, (uintptr_t)a[0], (uintptr_t)a[1]);
		return r;
	case HOP_FORGET:
		return do_forget(mm, (uintptr_t)a[0], (uintptr_t)a[1]);
	case HOP_REGISTER:
		r = do_register(mm, (uintptr_t)a[0], (uintptr_t)a[1], (int)a[2]);
		if (r != 0)
			return r;
		r = do_set_limit(p, mm->limit);
		if (r == 0)
			return 0;
		/* one may have begun meanwhile */
		snapshot_settle(p, (uintptr_t)a[0], (uintptr_t)a[1]);
		do_unregister(p, (uintptr_t)a[0], (uintptr_t)a[1]);
		return r;
	case HOP_UNREGISTER:
		return do_unregister(p, (uintptr_t)a[0], (uintptr_t)a[1]);
	case HOP_SWAPON:
		return do_swapon(mm, (const struct fl_swap_spec *)a[0], (char *)a[1], (size_t)a[2]);
	case HOP_SWAPOFF:
		return do_swapoff(p, (const char *)a[0]);
	case HOP_SET_LIMIT:
		return do_set_limit(p, (uint64_t)a[0]);
	case HOP_PAGE_STATE:
		return do_page_state(mm, (uintptr_t)a[0], (size_t)a[1], (unsigned char *)a[2]);
	case HOP_LEFT:
		return do_left(mm, (uintptr_t)a[0], (uintptr_t)a[1], (enum verify_kind)a[2]);
	case HOP_VERIFY:
		return do_verify(mm, (struct verify *)a[0]);
	case HOP_ARM:
		r = pager_arm(mm);
		/* what was there already may be above the limit */
		return r != 0 ? r : do_set_limit(p, mm->limit);
	case HOP_CLOSE:
		return do_close(p);
	case HOP_FORK:
		r = grant_fork(p);
		if (r == 0)
			r = fork_prepare(mm);
		if (r != 0)
			grant_forked(mm, false, 0);
		return r;
	case HOP_MMAP_FILE:
		return do_mmap_file(mm, (struct map_file *)a[0], s);
	case HOP_REMAP_PAGES:
		return do_remap_file_pages(mm, (uintptr_t)a[0], (size_t)a[1], (uint64_t)a[2]);
	case HOP_MSYNC:
		return do_msync(p, (uintptr_t)a[0], (size_t)a[1], (int)a[2], (unsigned)a[3]);
	case HOP_SYNC_RANGE:
		return do_sync_range(p, (uintptr_t)a[0], (size_t)a[1], (struct sync_wait *)a[2]);
	case HOP_TRUNCATE:
		return do_truncate(p, (struct truncation *)a[0]);
	case HOP_REMOVE:
		return do_remove(p, (uintptr_t)a[0], (uintptr_t)a[0] + page_up((size_t)a[1]),
				 a[2] != 0);
	case HOP_BACKING_OPEN:
		return do_backing_open(mm, (struct map_file *)a[0]);
	case HOP_BACKING_CLOSE:
		return do_backing_close(p, (struct pagecache *)a[0]);
	case HOP_FILES_CLOSE:
		files_close(p);
		return 0;
	case HOP_RUN:
		return ((long (*)(struct pager *, void *))a[0])(p, (void *)a[1]);
	case HOP_SOURCE_DONE:
		return do_source_done(p, (struct file_io *)a[0], (int)a[1]);
	case HOP_WRITE_OUT:
		return do_write_out(p, (unsigned)a[0], a[1] != 0);
	case HOP_HOLD_SYNC:
		return do_hold_sync(p, (struct hold_sync *)a[0]);
	case HOP_PREFETCH:
		return do_prefetch(p, (struct prefetch *)a[0]);
	case HOP_TRY:
		return do_try(mm, (uintptr_t)a[0], (uintptr_t)a[1]);
	case HOP_REGION_SET:
		return do_region_set(mm, (uintptr_t)a[0], (uintptr_t)a[1],
				     (const struct fl_region_options *)a[2]);
	case HOP_ERROR_DONE:
		return do_error_done(p, (struct file_io *)a[0], (enum fl_error_choice)a[1]);
	case HOP_IN_THREAD:
		return do_in_thread(mm);
	case HOP_FAULT:
		return fault_handed(p, (uintptr_t)a[0], a[1] != 0, a[2] != 0);
	case HOP_SNAPSHOT:
		return do_snapshot(p, (uintptr_t)a[0], (uintptr_t)a[1], (int)a[2], (unsigned)a[3],
				   (int)a[4], s);
	case HOP_RESIZED:
		do_resized(mm);
		return 0;
	case HOP_RESIDENT:
		return do_resident(mm, (uintptr_t)a[0], (unsigned)a[1]);
	}
	return -ENOSYS;
}

/*
 * Fill a doorbell, which lets its thread go on.  Only who did the call may: a
 * second fill could come after the bell was emptied for its next use.  So it
 * must not fail for want of memory that comes back.
 */
static void answer(struct mm *mm, uintptr_t bell)
{
	enum uffd_result res = UFFD_OK;
	size_t done;

	for (unsigned tries = 0; tries < ANSWER_TRIES; tries++) {
		uint32_t word = 0;

		res = uffd_zeropage(mm->uffd, bell, PAGE_SIZE, &done);
		if (res == UFFD_OK)
			return;
		if (res == UFFD_EXIST) {
			uffd_wake(mm->uffd, bell, PAGE_SIZE);
			return;
		}
		futex_wait(&word, 0, ANSWER_PAUSE);
	}
	log_fatal("a call cannot be answered: %s",
		  res == UFFD_NOMEM ? "out of memory" : "its doorbell refuses");
}

static uintptr_t bell_of(const struct hop *h, const struct hop_slot *s)
{
	return (uintptr_t)h->bell + (size_t)(s - h->slot) * PAGE_SIZE;
}

/*
 * A call of HOP_FAULT is done.  Its doorbell is filled when the mm lock is free:
 * the thread, which may run at once, takes that lock at its next fault.
 */
static void answer_later(struct pager *p, struct hop_slot *s)
{
	/* Release: pairs with ring(). */
	__atomic_store_n(&s->state, HOP_DONE, __ATOMIC_RELEASE);
	p->bell[p->nbells++] = (uint8_t)(s - p->mm->hop.slot);
}

void hop_answer_faults(struct pager *p)
{
	const struct hop *h = &p->mm->hop;

	while (p->nbells != 0)
		answer(p->mm, bell_of(h, &h->slot[p->bell[--p->nbells]]));
}

static enum hop_served serve_slot(struct pager *p, struct hop_slot *s)
{
	struct mm *mm = p->mm;
	struct hop *h = &mm->hop;
	uintptr_t bell = bell_of(h, s);
	bool fault, forking;

	if (!slot_move(s, HOP_POSTED, HOP_RUNNING)) {
		/* a second message for the same touch: done already, or being done */
		if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != HOP_RUNNING)
			uffd_wake(mm->uffd, bell, PAGE_SIZE);
		return HOP_A_CALL;
	}
	fault = s->op == HOP_FAULT;
	s->result = serve(p, s);
	if (s->result == HOP_LATER)
		return HOP_A_CALL;
	if (fault && fault_pending(mm, vpn_of((uintptr_t)s->arg[0]))) {
		h->later++; /* hop_serve_faults() */
		return HOP_A_FAULT_THAT_WAITS;
	}
	if (fault) {
		answer_later(p, s);
		return HOP_A_FAULT;
	}
	forking = s->op == HOP_FORK && s->result == 0;
	__atomic_store_n(&s->state, HOP_DONE, __ATOMIC_RELEASE);
	answer(mm, bell);
	if (forking)
		fork_finish(mm); /* nothing else is done before the caller has forked */
	return HOP_A_CALL;
}

/* Whether a thread that looks for a slot now finds one, or will as soon as another thread runs. */
static bool slot_comes(const struct hop *h)
{
	for (uint32_t i = 0; i < HOP_SLOTS; i++) {
		uint32_t state = __atomic_load_n(&h->slot[i].state, __ATOMIC_RELAXED);

		if (state == HOP_FREE || state == HOP_DONE || state == HOP_RUNG)
			return true;
	}
	return false;
}

/*
 * Empty the doorbells for who found none free; hop.h says how kicks take
 * turns.  While every slot has a call that is still to be done, the kick waits
 * for the next one to be.
 */
static void serve_kick(struct mm *mm, uint32_t kick)
{
	struct hop *h = &mm->hop;
	uintptr_t page = (uintptr_t)kick_page(h, kick);

	if (kick != h->kick) { /* answered already, for another thread */
		uffd_wake(mm->uffd, page, PAGE_SIZE);
		return;
	}
	empty_bells(h);
	h->kicked = !slot_comes(h);
	if (h->kicked)
		return;
	/* If the other one stays filled, nobody waits at it: all look for a slot in a loop. */
	SYS3(madvise, kick_page(h, kick ^ 1), PAGE_SIZE, MADV_DONTNEED_LOCKED);
	__atomic_store_n(&h->kick, kick ^ 1, __ATOMIC_RELEASE);
	answer(mm, page);
}

/* A call of HOP_FAULT is RUNNING from one round to the next only while its page is pending. */
void hop_serve_faults(struct pager *p)
{
	struct mm *mm = p->mm;
	struct hop *h = &mm->hop;
	bool any = false;

	for (uint32_t i = 0; i < HOP_SLOTS && h->later != 0; i++) {
		struct hop_slot *s = &h->slot[i];

		if (__atomic_load_n(&s->state, __ATOMIC_RELAXED) != HOP_RUNNING ||
		    s->op != HOP_FAULT || fault_pending(mm, vpn_of((uintptr_t)s->arg[0])))
			continue;
		h->later--;
		answer_later(p, s);
		any = true;
	}
	if (any && h->kicked)
		serve_kick(mm, h->kick);
}

void hop_late(struct mm *mm, struct hop_slot *s, long result)
{
	s->result = result;
	/* Release: pairs with ring(). */
	__atomic_store_n(&s->state, HOP_DONE, __ATOMIC_RELEASE);
	answer(mm, bell_of(&mm->hop, s));
	if (mm->hop.kicked)
		serve_kick(mm, mm->hop.kick);
}

void hop_again(struct pager *p, struct hop_slot *s)
{
	long r = serve(p, s);

	if (r != HOP_LATER)
		hop_late(p->mm, s, r);
}

bool hop_kicked(struct mm *mm, uintptr_t addr)
{
	const struct hop *h = &mm->hop;

	if (addr < (uintptr_t)kick_page(h, 0))
		return false;
	serve_kick(mm, addr >= (uintptr_t)kick_page(h, 1));
	return true;
}

void hop_passed_over(struct pager *p)
{
	struct hop *h = &p->mm->hop;

	/* Whoever rang while that call let other work go on had no answer: look at all. */
	while (p->pumped && !p->stop) {
		p->pumped = false;
		for (uint32_t i = 0; i < HOP_SLOTS && !p->stop; i++)
			if (__atomic_load_n(&h->slot[i].state, __ATOMIC_ACQUIRE) == HOP_POSTED)
				serve_slot(p, &h->slot[i]);
	}
}

/* What a call that lets others go on may wait for. */
static bool is_an_end(const struct hop_slot *s)
{
	switch ((enum hop_op)s->op) {
	case HOP_SOURCE_DONE:
	case HOP_ERROR_DONE:
	case HOP_WRITE_OUT:
	case HOP_FORGET:
		return true;
	case HOP_FLAGS:
		return s->arg[3] & REGION_HELD;
	case HOP_TRUNCATE:
		return ((const struct truncation *)s->arg[0])->called;
	default:
		return false;
	}
}

/* Their messages may have been read already, by the round that the call is served in. */
bool hop_serve_ends(struct pager *p)
{
	const struct files *f = &p->mm->files;
	struct hop *h = &p->mm->hop;
	bool any = false;

	for (uint32_t i = 0;
	     i < HOP_SLOTS && (f->jobs != 0 || f->cuts != 0 || p->mm->regions.held_pages != 0 ||
			       __atomic_load_n(&f->exiting, __ATOMIC_RELAXED));
	     i++)
		if (__atomic_load_n(&h->slot[i].state, __ATOMIC_ACQUIRE) == HOP_POSTED &&
		    is_an_end(&h->slot[i])) {
			serve_slot(p, &h->slot[i]);
			any = true;
		}
	return any;
}

enum hop_served hop_serve(struct pager *p, uintptr_t addr)
{
	struct hop *h = &p->mm->hop;
	enum hop_served what;

	what = serve_slot(p, &h->slot[(addr - (uintptr_t)h->bell) / PAGE_SIZE]);
	if (p->stop)
		return what;
	hop_passed_over(p);
	if (p->stop)
		return what;
	if (__atomic_load_n(&h->rung, __ATOMIC_RELAXED) >= HOP_SLOTS / 2)
		empty_bells(h);
	if (h->kicked)
		serve_kick(p->mm, h->kick);
	return what;
}
