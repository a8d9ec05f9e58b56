/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * prefetch.c - pages are brought before they are touched; see prefetch.h.
 *
 * A job is looked at after each round: begin() starts what room allows, all_came() sees
 * whether that has come.
 *
 * Invariants.
 * - seen <= at <= end: what lies before `seen` is waited for no more, and `at` is begun
 *   next.  When no more is to be begun, `end` is moved back to `at`.
 * - A job on the list owns its eventfd, the pagers' copy; one that do_prefetch() refused
 *   is its caller's, as is that eventfd.
 *
 * Locks.  All runs on a pager with the mm lock held, but for mm_prefetch() and mm_try():
 * these take no lock, and mm_try() keeps the words that it looks at by files.lookers
 * (pairs with cache_free()).
 */
#include "prefetch.h"

#include "do.h"
#include "event.h"
#include "fault.h"
#include "hop.h"
#include "mm.h"
#include "mmap.h"
#include "reclaim.h"
#include "share.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#define PIECE 64U      /* pages that are begun together */
#define AT_ONCE 64U    /* pages that come without I/O in one round */
#define PAUSE 1000000U /* ns: frames or places may come free by no event of ours */
#define MINCORE 256U
/* A store's server that has no room is asked again so often, and for so long. */
#define ASK_NS 10000000U
#define NO_ROOM_NS 200000000U

static const unsigned not_none = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);

static bool is_reading(const struct mm *mm, pte_t pte)
{
	return pte_state(pte) == PTE_STAGED &&
	       mm->staging.page[pte_payload(pte)].state == STAGE_READING;
}

/* Whether something is under way that may let the next page begin. */
static bool may_come(const struct mm *mm)
{
	return mm->staging.buffer_reading != 0 || reclaim_coming(mm) || reclaim_io(mm);
}

/* How many pages from vpn on are in the file only, and not being read, n at most. */
static uint64_t absent_run(struct mm *mm, const struct region *r, vpn_t vpn, uint64_t n)
{
	uint64_t run = 0;

	while (run < n && cache_get(cache_of(r), vpn + run + r->delta) == 0 &&
	       ((r->flags & REGION_SHARED) || pte_state(pte_get(&mm->ptes, vpn + run)) == PTE_NONE))
		run++;
	return run;
}

/* ---- beginning ---- */

/* Pages of a file from f->at on; false: not now. */
static bool begin_cached(struct pager *p, struct prefetch *f, const struct region *r, vpn_t stop)
{
	struct pagecache *pc = cache_of(r);
	uint64_t page = f->at + r->delta;
	uint64_t n = stop - f->at < PIECE ? stop - f->at : PIECE;
	uint64_t got;

	if (page >= cache_pages(pc))
		cache_look_at_size(pc);
	if (page >= cache_pages(pc)) {
		f->at = stop;
		return true;
	}
	n = absent_run(p->mm, r, f->at, n < f->left ? n : f->left);
	if (n == 0) {
		f->at++;
		return true;
	}
	got = file_prefetch(p, pc, page, n);
	f->at += got;
	f->left -= got;
	if (got != 0)
		return true;
	if (may_come(p->mm))
		return false;
	f->left = 0; /* no frame for it, and none comes */
	return true;
}

/* Pages that are in slots. */
static bool begin_swapped(struct pager *p, struct prefetch *f, vpn_t stop)
{
	struct mm *mm = p->mm;
	uint64_t n = 1;
	uint32_t got;

	while (n < PIECE && n < f->left && f->at + n < stop &&
	       pte_state(pte_get(&mm->ptes, f->at + n)) == PTE_SWAPPED)
		n++;
	got = fault_swap_prefetch(p, f->at, f->at + n, SWAP_INSTALL);
	f->left -= got < f->left ? got : f->left;
	if (got != 0) {
		/* as far as they were begun: their order is that of addresses */
		f->at = pte_next(&mm->ptes, f->at, f->at + n, 1U << PTE_SWAPPED);
		return true;
	}
	if (may_come(mm))
		return false;
	f->at++;
	return true;
}

/* The page at f->at has an entry. */
static bool begin_entry(struct pager *p, struct prefetch *f, vpn_t stop, unsigned *at_once)
{
	struct mm *mm = p->mm;
	pte_t pte = pte_get(&mm->ptes, f->at);
	const struct fault touch = {.addr = addr_of(f->at), .again = true, .t0 = sys_now()};

	switch (pte_state(pte)) {
	case PTE_SWAPPED:
		return begin_swapped(p, f, stop);
	case PTE_STAGED:
		if (is_reading(mm, pte) || mm->staging.page[pte_payload(pte)].state == STAGE_CACHED)
			break;
		/* fall through */
	case PTE_COMPRESSED:
	case PTE_FILLED:
		if (*at_once == 0)
			return false;
		--*at_once;
		f->left--;
		/* what finds no frame is as near as it can be */
		fault_handle(p, &touch);
		break;
	default:
		break;
	}
	f->at++;
	return true;
}

/* Pages that the store's server is to read; false: not now. */
static bool begin_remote(struct pager *p, struct prefetch *f, const struct region *r, vpn_t stop)
{
	vpn_t next = share_next_absent(r, f->at, stop);
	uint64_t now = sys_now();
	uint64_t most, n;

	f->at = next;
	if (next == stop)
		return true;
	if (now < f->ask_at)
		return false;
	n = stop - next < f->there ? stop - next : f->there;
	most = n != 0 ? share_bring(p->mm, r, next, next + n) : 0;
	if (most < f->there)
		f->there = most;
	next = share_next_absent(r, f->at, stop);
	n = next - f->at;
	f->there -= n < f->there ? n : f->there;
	if (n == 0 && most != 0) {
		if (f->full_since == 0)
			f->full_since = now;
		f->ask_at = now + ASK_NS;
		if (now - f->full_since < NO_ROOM_NS)
			return false;
	}
	f->full_since = f->ask_at = 0;
	/* it reads no more of that, though it may have begun some farther on */
	f->at = n != 0 && f->there != 0 ? next : stop;
	return true;
}

/* Begin what can be; f->wait says when to look again. */
static void begin(struct pager *p, struct prefetch *f)
{
	struct mm *mm = p->mm;
	unsigned at_once = AT_ONCE;

	f->wait = UINT64_MAX;
	while (f->at < f->end && f->left != 0) {
		const struct region *r = region_next(&mm->regions, addr_of(f->at));
		vpn_t stop;
		bool on;

		if (r == NULL || vpn_of(r->start) >= f->end)
			break;
		if (f->at < vpn_of(r->start))
			f->at = vpn_of(r->start);
		stop = vpn_of(r->end) < f->end ? vpn_of(r->end) : f->end;
		if (r->users == NULL)
			f->at = pte_next(&mm->ptes, f->at, stop, not_none);
		if (f->at >= stop)
			continue;
		if (r->flags & REGION_REMOTE)
			on = begin_remote(p, f, r, stop);
		else if ((r->flags & REGION_SHARED) ||
			 pte_state(pte_get(&mm->ptes, f->at)) == PTE_NONE)
			on = begin_cached(p, f, r, stop);
		else
			on = begin_entry(p, f, stop, &at_once);
		if (!on) {
			f->wait = at_once == 0 ? 1 : PAUSE;
			return;
		}
	}
	f->end = f->at < f->end ? f->at : f->end;
}

/* ---- the end ---- */

/* The first page in [vpn, stop) of a region that is still being read. */
static vpn_t next_reading(struct mm *mm, const struct region *r, vpn_t vpn, vpn_t stop)
{
	vpn_t at = vpn;

	if (r->flags & REGION_REMOTE)
		return share_next_reading(r, vpn, stop);
	if (r->users != NULL) {
		uint64_t page = cache_next(cache_of(r), vpn + r->delta, CACHE_LOCKED);

		if (page != CACHE_NONE && page - r->delta < stop)
			stop = page - r->delta;
	}
	if (r->flags & REGION_SHARED)
		return stop;
	while ((at = pte_next(&mm->ptes, at, stop, 1U << PTE_STAGED)) < stop) {
		if (is_reading(mm, pte_get(&mm->ptes, at)))
			break;
		at++;
	}
	return at;
}

/* Whether all that was begun has come. */
static bool all_came(struct mm *mm, struct prefetch *f)
{
	while (f->seen < f->at) {
		const struct region *r = region_next(&mm->regions, addr_of(f->seen));
		vpn_t stop;

		if (r == NULL || vpn_of(r->start) >= f->at) {
			f->seen = f->at;
			break;
		}
		if (f->seen < vpn_of(r->start))
			f->seen = vpn_of(r->start);
		stop = vpn_of(r->end) < f->at ? vpn_of(r->end) : f->at;
		f->seen = next_reading(mm, r, f->seen, stop);
		if (f->seen >= stop)
			continue;
		/* nobody tells when a server's read ends */
		if ((r->flags & REGION_REMOTE) && f->wait > PAUSE)
			f->wait = PAUSE;
		return false;
	}
	return f->at >= f->end;
}

static void finish(struct prefetch *f)
{
	if (f->event_fd >= 0) {
		event_tell(f->event_fd);
		SYS1(close, f->event_fd);
	}
	sys_mem_free(f, sizeof(*f));
}

void prefetch_round(struct pager *p)
{
	struct prefetch **link = &p->mm->prefetch;
	struct prefetch *f;

	while ((f = *link) != NULL) {
		begin(p, f);
		if (all_came(p->mm, f)) {
			*link = f->next;
			finish(f);
		} else {
			link = &f->next;
		}
	}
}

uint64_t prefetch_timeout(const struct mm *mm)
{
	uint64_t least = UINT64_MAX;

	for (const struct prefetch *f = mm->prefetch; f != NULL; f = f->next)
		if (f->wait < least)
			least = f->wait;
	return least;
}

void prefetch_close(struct mm *mm)
{
	struct prefetch *f;

	while ((f = mm->prefetch) != NULL) {
		mm->prefetch = f->next;
		finish(f);
	}
}

long do_prefetch(struct pager *p, struct prefetch *f)
{
	struct mm *mm = p->mm;
	struct prefetch **link = &mm->prefetch;
	long fd = f->event_fd;

	if (fd >= 0) {
		fd = mm->pidfd < 0 ? -ENOSYS : SYS3(pidfd_getfd, mm->pidfd, fd, 0);
		if (sys_err(fd))
			return fd;
	}
	f->event_fd = (int)fd;
	f->left = file_prefetch_most(mm);
	f->there = UINT64_MAX;
	/* the round that this call is served in begins it */
	while (*link != NULL)
		link = &(*link)->next;
	*link = f;
	return 0;
}

/* ---- would a touch wait? ---- */

static bool waits(struct mm *mm, const struct region *r, vpn_t vpn)
{
	pte_t pte = r->flags & REGION_SHARED ? 0 : pte_get(&mm->ptes, vpn);
	uint32_t w;

	if (r->flags & REGION_REMOTE) {
		w = share_word(r, vpn + r->delta);
		return !(w & CACHE_UPTODATE) || (w & (CACHE_LOCKED | CACHE_GONE));
	}
	switch (pte_state(pte)) {
	case PTE_NONE:
		return r->users != NULL &&
		       !(cache_get(cache_of(r), vpn + r->delta) & CACHE_UPTODATE);
	case PTE_SWAPPED:
		return true;
	default:
		return is_reading(mm, pte);
	}
}

long do_try(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const unsigned away = 1U << PTE_SWAPPED | 1U << PTE_STAGED;
	vpn_t vpn = vpn_of(start);

	while (vpn < vpn_of(end)) {
		const struct region *r = region_find(&mm->regions, addr_of(vpn));
		vpn_t stop;

		if (r == NULL)
			return -ENOMEM;
		stop = r->end < end ? vpn_of(r->end) : vpn_of(end);
		for (;; vpn++) {
			/* of anonymous memory no other page waits, and most of it may be untouched */
			if (r->users == NULL)
				vpn = pte_next(&mm->ptes, vpn, stop, away);
			if (vpn >= stop)
				break;
			if (waits(mm, r, vpn))
				return -EAGAIN;
		}
	}
	return 0;
}

/* By the words of the cache, of a shared mapping. */
static long try_cached(const struct region *r, uintptr_t start, uintptr_t end)
{
	const struct pagecache *pc = cache_of(r);

	for (vpn_t vpn = vpn_of(start); vpn < vpn_of(end); vpn++) {
		uint32_t w = cache_get(pc, vpn + r->delta);

		if (!(w & CACHE_UPTODATE) || (w & (CACHE_LOCKED | CACHE_GONE)))
			return -EAGAIN;
	}
	return 0;
}

/* By the kernel's page tables: 1 if all pages are mapped, 0 if not. */
static long try_mapped(uintptr_t start, uintptr_t end)
{
	unsigned char vec[MINCORE];

	while (start < end) {
		size_t len = end - start < MINCORE * PAGE_SIZE ? end - start : MINCORE * PAGE_SIZE;
		long r = sys_bare(SYS_mincore, (long)start, (long)len, (long)vec, 0, 0, 0);

		if (sys_err(r))
			return r;
		if (memchr(vec, 0, len >> PAGE_SHIFT) != NULL)
			return 0;
		start += len;
	}
	return 1;
}

long mm_try(struct mm *mm, uintptr_t addr, size_t len)
{
	uintptr_t end = addr + page_up(len);
	long result = 0;

	while (addr < end && result == 0) {
		struct region r;
		uintptr_t stop;
		long known;

		/* Pairs with cache_free(): either it sees us, or we see that the region is gone. */
		__atomic_fetch_add(&mm->files.lookers, 1, __ATOMIC_SEQ_CST);
		if (!region_peek(&mm->regions, addr, &r)) {
			known = -ENOMEM;
			stop = end;
		} else {
			stop = r.end < end ? r.end : end;
			known = 1;
			if (r.flags & REGION_REMOTE)
				known = 0;
			else if (r.flags & REGION_SHARED)
				known = try_cached(&r, addr, stop) == 0 ? 1 : -EAGAIN;
		}
		__atomic_fetch_sub(&mm->files.lookers, 1, __ATOMIC_RELEASE);
		if (known == 1 && !(r.flags & REGION_SHARED) && mm_armed(mm))
			known = try_mapped(addr, stop);
		if (known == 0)
			known = hop_call(mm, HOP_TRY, (long)addr, (long)stop, 0, 0, 0, 0, 0);
		result = known < 0 ? known : 0;
		addr = stop;
	}
	return result;
}

/* ---- on an application thread ---- */

long mm_prefetch(struct mm *mm, uintptr_t addr, size_t len, int event_fd)
{
	struct prefetch *f;
	long r;

	r = event_check(event_fd);
	if (r != 0)
		return r;
	if (!region_overlaps(&mm->regions, addr, addr + page_up(len)))
		return -ENOMEM;
	if (!mm_armed(mm)) {
		/* nothing is away */
		if (event_fd >= 0)
			event_tell(event_fd);
		return 0;
	}
	f = sys_mem_alloc(sizeof(*f));
	if (f == NULL)
		return -ENOMEM;
	*f = (struct prefetch){
		.at = vpn_of(addr),
		.seen = vpn_of(addr),
		.end = vpn_of(addr + page_up(len)),
		.event_fd = event_fd,
	};
	r = hop_call(mm, HOP_PREFETCH, (long)f, 0, 0, 0, 0, 0, 0);
	if (r != 0)
		sys_mem_free(f, sizeof(*f));
	return r;
}
