/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * unshare.c - private mappings of files that become writable (the kernel's do_cow_fault,
 * of a range).
 *
 * A private mapping that may only be read maps the page cache (REGION_SHARED with
 * REGION_PRIVATE).  A part of it that becomes writable becomes anonymous memory, which
 * is filled from the cache; it stays that.
 *
 * The kernel registers memory only when it is mapped, and who touched it in between would
 * read zeros, or get SIGSEGV.  So memory with the file's bytes in it comes there by
 * mremap(2), in whose place it is from one moment to the next, a piece at a time: the file
 * is read for that, as far as it is not cached, and the copies are clean.  Where no thread
 * can touch it meanwhile it comes there without a page, and nothing is read; of what is locked
 * all is copied, or (MLOCK_ONFAULT) what is cached, and so may have been touched.
 *
 * Invariants.
 * - What has no copy yet maps the cache: a call that fails has changed no page.
 * - What is put there was never writable, so the kernel has not charged for it, and does so,
 *   or refuses to, when the whole range is made writable.
 * - It is not registered when it is moved: the kernel takes the registration from what it
 *   moves, and from a neighbour that it merges that with.
 *
 * Accepted: a touch of a page that is not to be had, behind the file's end or where it cannot
 * be read, raises SIGSEGV instead of SIGBUS if it comes within those few µs.
 *
 * Locks: the mm lock, which is dropped while pages are read.
 */
#include "do.h"

#include "fault.h"
#include "log.h"
#include "mm.h"
#include "pager.h"
#include "proc.h"
#include "reclaim.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <sys/mman.h>

#define AT_ONCE ((size_t)64 << 20) /* bytes: address space that is needed beside the range */
#define PIECE 64U		   /* pages */
#define READS 16U		   /* of a page, before it counts as not to be had */
#define STALLS 1000U		   /* rounds without a frame, or a read that could begin */
#define OPEN_TRIES 1000U
#define OPEN_PAUSE 1000000U /* ns */

/* The kernel's flags of a task, as proc(5) shows them. */
#define PF_EXITING 0x04UL
#define PF_IO_WORKER 0x10UL /* a ring's worker: the kernel's own */

static bool is_cache(const struct region *r)
{
	return r != NULL && (r->flags & REGION_PRIVATE);
}

/* ---- who may touch it ---- */

struct others {
	const struct mm *mm;
	unsigned n;
};

/* Whether it may touch what the program has mapped: who cannot be looked at may. */
static bool is_other(const struct mm *mm, uint32_t tid)
{
	uint64_t flags;
	uint32_t owner;

	if (pager_is(mm, tid))
		return false;
	if (!proc_stat(mm->proc_fd, tid, PROC_STAT_FLAGS, &flags))
		return true;
	if (!(flags & PF_IO_WORKER))
		return !(flags & PF_EXITING);
	owner = proc_worker_of(mm->proc_fd, tid);
	return owner == 0 || !pager_is(mm, owner);
}

static bool count_other(uint32_t tid, void *arg)
{
	struct others *o = arg;

	o->n += is_other(o->mm, tid);
	return o->n < 2;
}

/* Whether there is no thread but the one that waits for this call. */
static bool is_alone(const struct mm *mm)
{
	struct others o = {.mm = mm};

	return proc_threads(mm->proc_fd, count_other, &o);
}

/* ---- replacing ---- */

/* Give access; there is no way back, so what fails for want of kernel memory is tried again. */
static void open_there(uintptr_t start, size_t len, int prot)
{
	long r = SYS3(mprotect, start, len, prot);

	for (unsigned tries = 0; sys_err(r) && tries < OPEN_TRIES; tries++) {
		uint32_t word = 0;

		futex_wait(&word, 0, OPEN_PAUSE);
		r = SYS3(mprotect, start, len, prot);
	}
	if (sys_err(r))
		log_fatal("memory that becomes writable cannot be opened: %s",
			  log_strerror((int)r));
}

/* Memory at `from`, not registered, takes the place of [start, start + len) of a region. */
static long put_there(struct mm *mm, uintptr_t from, uintptr_t start, size_t len)
{
	const uint32_t was = REGION_SHARED | REGION_PRIVATE;
	const bool locked = region_find(&mm->regions, start)->flags & REGION_LOCKED;
	uintptr_t end = start + len;
	long r = region_change(&mm->regions, start, end, -1, 0, was);

	if (r != 0)
		return r;
	r = SYS5(mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, start);
	if (sys_err(r)) {
		/* the parts are there: that takes no memory */
		if (region_change(&mm->regions, start, end, -1, was, 0) != 0)
			log_fatal("no memory to forget a mapping");
		return -ENOMEM;
	}
	r = register_moved(mm, start, end);
	if (r != 0)
		log_fatal("cannot register memory that becomes writable: %s", log_strerror((int)r));
	/* the kernel may refuse what it counts twice for a moment; the pages stay all the same */
	if (locked)
		SYS3(mlock2, start, len, MLOCK_ONFAULT);
	return 0;
}

/* The same with memory that is empty and without access, until it is registered. */
static long put_empty(struct mm *mm, uintptr_t from, uintptr_t start, size_t len)
{
	int prot = region_find(&mm->regions, start)->prot;
	long r = put_there(mm, from, start, len);

	if (r == 0 && prot != PROT_NONE)
		open_there(start, len, prot);
	return r;
}

/* A part of what is reserved for copies becomes such memory. */
static long be_empty(struct mm *mm, uintptr_t from, size_t len)
{
	long r = uffd_unregister(mm->uffd, from, len);

	return r != 0 ? r : SYS3(mprotect, from, len, PROT_NONE);
}

/* The same with the bytes of n pages from vpn on, which are cached, and have frames to go to. */
static long put_copies(struct mm *mm, uintptr_t from, const struct region *r, vpn_t vpn, uint32_t n)
{
	size_t len = n * PAGE_SIZE;
	long err = pte_reserve(&mm->ptes, vpn, n);
	size_t done;

	if (err == 0 && uffd_copy(mm->uffd, from, cache_addr(cache_of(r), vpn + r->delta), len,
				  false, &done) != UFFD_OK)
		err = -ENOMEM;
	if (err == 0)
		err = uffd_unregister(mm->uffd, from, len);
	if (err == 0)
		err = put_there(mm, from, addr_of(vpn), len);
	if (err != 0)
		return -ENOMEM;
	/* else they are not known to equal the file's */
	if (uffd_writeprotect(mm->uffd, addr_of(vpn), len, true) == UFFD_OK)
		for (vpn_t v = vpn; v < vpn + n; v++)
			if (pte_state(pte_get(&mm->ptes, v)) == PTE_PRESENT)
				pte_set_bits(&mm->ptes, v, PTE_WP, 0);
	return 0;
}

/* Memory, of which no page is there yet, to take the place of a part of a region; -errno. */
static long reserve(const struct region *r, size_t len, int prot)
{
	/* where the kernel chose the program could map something else meanwhile (sys.c) */
	long at = sys_mem_reserve(len, prot, r->flags & REGION_NORESERVE ? MAP_NORESERVE : 0);

	if (!sys_err(at))
		SYS3(madvise, at, len, MADV_DONTFORK);
	return at;
}

/*
 * The same for copies, as it is to be protected.  They are put into it as long as it is whole:
 * so the kernel makes one mapping again of the parts that follow each other.
 */
static long reserve_copies(const struct mm *mm, const struct region *r, size_t len)
{
	long at = reserve(r, len, r->prot);
	int err;

	if (sys_err(at))
		return at;
	err = uffd_register(mm->uffd, at, len, false);
	if (err == 0)
		return at;
	SYS2(munmap, at, len);
	return err;
}

/* ---- pieces ---- */

static bool is_there(const struct pagecache *pc, uint64_t page)
{
	return (cache_get(pc, page) & (CACHE_UPTODATE | CACHE_GONE | CACHE_LEFT)) == CACHE_UPTODATE;
}

/* How many pages from there on, n at most, are cached and can have copies now. */
static uint32_t copyable(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint64_t most = mm_budget(p->mm) / 16;
	uint32_t run = 0;

	if (n > PIECE)
		n = PIECE;
	if (n > most)
		n = most != 0 ? most : 1;
	while (run < n && is_there(pc, page + run))
		run++;
	if (run == 0)
		return 0;
	file_asked(pc, page, run);
	n = reclaim_some_room(p, run);
	/* making room may have taken the very pages */
	for (run = 0; run < n && is_there(pc, page + run);)
		run++;
	return run;
}

/* What was tried in vain for one page. */
struct patience {
	unsigned reads, stalls;
};

/*
 * One step towards memory of its own for the page at `at`, which `from` is for: how many pages
 * from there on are done with, or -ENOMEM.  all: those that are not cached, too, are to come in.
 */
static long step(struct pager *p, uintptr_t from, uintptr_t at, uintptr_t end, bool all,
		 struct patience *tried)
{
	struct mm *mm = p->mm;
	const struct region *r = region_find(&mm->regions, at);
	struct pagecache *pc;
	uint64_t page, n, next;
	uint32_t run, w;
	long err;

	if (!is_cache(r)) {
		/* others were here meanwhile */
		SYS2(munmap, from, PAGE_SIZE);
		return 1;
	}
	pc = cache_of(r);
	page = vpn_of(at) + r->delta;
	n = vpn_of((r->end < end ? r->end : end) - at);
	if (page >= cache_pages(pc))
		cache_look_at_size(pc);
	next = all ? page : cache_next(pc, page, CACHE_UPTODATE | CACHE_LOCKED);
	/* nothing is to be read behind the end, nor where it may stay away: all of that at once */
	if (page >= cache_pages(pc) || tried->reads == READS || next != page) {
		if (page < cache_pages(pc) && next == page)
			n = 1;
		else if (page < cache_pages(pc) && n > next - page)
			n = next - page;
		err = be_empty(mm, from, n * PAGE_SIZE);
		if (!sys_err(err))
			err = put_empty(mm, from, at, n * PAGE_SIZE);
		return err != 0 ? -ENOMEM : (long)n;
	}
	run = copyable(p, pc, page, n);
	if (run != 0) {
		err = put_copies(mm, from, r, vpn_of(at), run);
		return err != 0 ? err : (long)run;
	}
	w = cache_get(pc, page);
	if ((w & CACHE_GONE) && !(w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT)) &&
	    cache_drop(pc, page, 1))
		return 0;
	if (w == 0 && file_prefetch(p, pc, page, n < PIECE ? n : PIECE) != 0) {
		tried->reads++;
		return 0;
	}
	if (!(w & CACHE_LOCKED) && tried->stalls++ == STALLS)
		return -ENOMEM;
	if ((w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT)) || reclaim_io(mm) ||
	    reclaim_coming(mm))
		pager_pump(p);
	return 0;
}

/* Replace [start, end) by memory that is reserved at `from`, with the file's bytes; all: as step(). */
static long put_pieces(struct pager *p, uintptr_t from, uintptr_t start, uintptr_t end, bool all)
{
	struct patience tried = {0, 0};
	uintptr_t at = start;
	long n = 0;

	while (at < end && n >= 0) {
		n = step(p, from + (at - start), at, end, all, &tried);
		if (n > 0) {
			tried = (struct patience){0, 0};
			at += (uintptr_t)n * PAGE_SIZE;
		}
	}
	/* what found its place is not there any more, and may be anybody's */
	if (at < end)
		SYS2(munmap, from + (at - start), end - at);
	return n < 0 ? n : 0;
}

/* ---- what is asked for ---- */

long file_unshare(struct pager *p, uintptr_t start, uintptr_t end)
{
	struct mm *mm = p->mm;
	const struct region *r;
	long err = 0;

	for (uintptr_t at = start, stop; err == 0 && at < end; at = stop) {
		bool copies, all;
		size_t len;
		long from;

		r = region_next(&mm->regions, at);
		if (r == NULL || r->start >= end)
			break;
		if (r->start > at)
			at = r->start;
		stop = r->end < end ? r->end : end;
		if (!is_cache(r))
			continue;
		if (stop - at > AT_ONCE)
			stop = at + AT_ONCE;
		len = stop - at;
		all = (r->flags & (REGION_LOCKED | REGION_LOCKONFAULT)) == REGION_LOCKED ||
		      (r->prot != PROT_NONE && !is_alone(mm));
		copies = all || (r->flags & REGION_LOCKED);
		from = copies ? reserve_copies(mm, r, len) : reserve(r, len, PROT_NONE);
		if (sys_err(from))
			return -ENOMEM;
		if (copies) {
			err = put_pieces(p, (uintptr_t)from, at, stop, all);
			continue;
		}
		err = put_empty(mm, (uintptr_t)from, at, len);
		if (err != 0)
			SYS2(munmap, from, len);
	}
	return err;
}

enum fault_result fault_unshare(struct pager *p, const struct fault *f, const struct region *r)
{
	struct mm *mm = p->mm;
	const uintptr_t addr = f->addr & PAGE_MASK;
	const int prot = r->prot | PROT_WRITE;
	long from;

	if (copyable(p, cache_of(r), vpn_of(addr) + r->delta, 1) == 0)
		return FAULT_DEFER;
	from = reserve_copies(mm, r, PAGE_SIZE);
	if (sys_err(from))
		return FAULT_DEFER;
	if (put_copies(mm, (uintptr_t)from, r, vpn_of(addr), 1) != 0) {
		SYS2(munmap, from, PAGE_SIZE);
		return FAULT_DEFER;
	}
	/* what fails here is the program's to hear of: it did not ask us */
	if (region_change(&mm->regions, addr, addr + PAGE_SIZE, prot, 0, 0) == 0)
		SYS3(mprotect, addr, PAGE_SIZE, prot);
	fault_wake(mm, vpn_of(addr));
	return FAULT_DONE;
}
