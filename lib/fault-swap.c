/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault-swap.c - swap-in (the kernel's do_swap_page).
 *
 * A SWAPPED page becomes STAGED on a buffer page in state READING, and the read
 * is queued.  When it ends every page is checked against the checksum of its
 * slot; those that are asked for are installed by one UFFDIO_COPY a run, those
 * that were read ahead wait as CACHED.
 *
 * Two stages: a fault that meets its stream reads a window and installs all of
 * it; behind the window others are read ahead without being installed, and the
 * first touch of one installs it whole and starts one more.  The reader thus
 * faults once a window and finds it read, and the device has some requests at
 * once.  A window is a range of addresses: pages of it that are present are
 * passed over, so that a stream goes on where others were at random.
 *
 * A read that fails, or a page that does not match: the page that a thread
 * waits for is poisoned; one that was read with it or ahead of it, whether to be
 * installed or not, goes back to SWAPPED, so that the touch decides.
 */
#include "fault.h"
#include "reclaim.h"
#include "snapshot.h"
#include "uffd.h"

#include <errno.h>

#define AHEAD_MIN 8U	   /* windows from this size on are read ahead of */
#define AHEAD_WINDOWS 3U   /* so many, */
#define AHEAD_REQUESTS 32U /* while fewer requests than this are in flight */

static void read_done(struct blk_req *req, int res);

/*
 * Install n buffer pages from `first`, adjacent in address too, as far as
 * frames allow; how many were.  Pages that stay keep their state.  alone: one
 * page, which the fault was for.
 */
static uint32_t install(struct pager *p, uint32_t first, uint32_t n, bool write, bool alone)
{
	struct mm *mm = p->mm;
	struct stage_page *sp = &mm->staging.page[first];
	vpn_t vpn = sp->vpn;
	struct region *r = region_find(&mm->regions, addr_of(vpn));
	enum uffd_result res;
	uint32_t got;
	size_t done;
	bool keep; /* the slot, beside the frame */
	bool wp;
	bool unsaved;
	bool warm;

	if (r == NULL)
		return 0;
	if (n > vpn_of(r->end) - vpn)
		n = (uint32_t)(vpn_of(r->end) - vpn);
	n = reclaim_some_room(p, n);
	if (n == 0)
		return 0;
	p->near.waits = false;
	/* what is at hand is saved now; where the buffer is full, a write waits for it */
	unsaved = snapshot_unsaved_any(mm, vpn, n) && snapshot_save(p, vpn, n) < n;
	keep = !mm->swap.area[swp_area(sp->swp)]->leaving && !swap_half_full(&mm->swap, sp->swp);
	wp = mm->opt.wp == FL_WP_SYNC ? !write || !alone : !write && keep && fault_wp_wanted(mm, r);
	wp = wp || unsaved;
	res = uffd_copy(mm->uffd, addr_of(vpn), stage_addr(mm, first), n * PAGE_SIZE, wp, &done);
	if (res == UFFD_GONE && done == 0 && n > 1) {
		n = (uint32_t)(uffd_vma_part(mm->maps_fd, addr_of(vpn), n * PAGE_SIZE) >>
			       PAGE_SHIFT);
		res = uffd_copy(mm->uffd, addr_of(vpn), stage_addr(mm, first), n * PAGE_SIZE, wp,
				&done);
	}
	got = (uint32_t)(done >> PAGE_SHIFT);
	for (uint32_t i = 0; i < got; i++) {
		swp_t swp = sp[i].swp;

		/* A page that is about to be written has no use for its slot; nor has an area that fills up, or leaves. */
		if ((write && alone) || !keep) {
			if (swap_put(&mm->swap, swp))
				mm->swap_full = false;
			swp = SWP_NONE;
		}
		if (sp[i].flags & STAGE_AHEAD)
			stat_add(&mm->stats.readahead_hits, 1);
		/* asked for by itself, it is of no scan */
		warm = alone && !(sp[i].flags & (STAGE_AHEAD | STAGE_WINDOW));
		pte_set(&mm->ptes, vpn + i,
			pte_make(PTE_PRESENT, swp,
				 PTE_YOUNG | (warm ? PTE_WARM : 0) |
					 (wp && swp != SWP_NONE ? PTE_WP : 0)));
		reclaim_came(mm, vpn + i);
		stage_buffer_put(mm, first + i);
	}
	if (got == n || res == UFFD_NOMEM)
		return got;
	if (res == UFFD_EXIST) {
		/* there already, from behind our back: that frame counts, ours goes */
		swap_put(&mm->swap, sp[got].swp);
		pte_set(&mm->ptes, vpn + got, pte_make(PTE_PRESENT, SWP_NONE, PTE_YOUNG));
		stage_buffer_put(mm, first + got);
		fault_wake(mm, vpn + got);
		return got + 1;
	}
	/* No mapping takes it just now: it stays cached, and who waits, if any, touches it again. */
	sp[got].flags &= (uint16_t)~STAGE_DEMAND;
	fault_wake(mm, vpn + got);
	return got != 0 ? got : 1;
}

/* Whether the slot of a SWAPPED page is being read: into a snapshot, or by fl_sync(). */
static bool is_read(struct mm *mm, vpn_t vpn)
{
	return snapshot_reads(mm, vpn) ||
	       (mm->holding != NULL && swap_is_busy(&mm->swap, pte_swp(pte_get(&mm->ptes, vpn))));
}

/*
 * Read SWAPPED pages from vpn whose slots are adjacent, n at most; how many were started.
 * Of a window the first page alone is needed.
 */
static uint32_t read_start(struct pager *p, vpn_t vpn, uint32_t n, unsigned flags, uint64_t t0)
{
	struct mm *mm = p->mm;
	swp_t swp = pte_swp(pte_get(&mm->ptes, vpn));
	unsigned rest = flags & ~(STAGE_WRITE | (flags & STAGE_WINDOW ? STAGE_NEEDED : 0U));
	struct swap_io *io;
	const struct blk_dev *dev;
	uint32_t run = 1;
	uint32_t first;
	uint64_t off;

	/* a slot is read once at a time */
	if (is_read(mm, vpn))
		return 0;
	while (run < n) {
		pte_t q = pte_get(&mm->ptes, vpn + run);

		if (pte_state(q) != PTE_SWAPPED || pte_swp(q) != swp + run ||
		    is_read(mm, vpn + run))
			break;
		run++;
	}
	dev = swap_extent(&mm->swap, swp, run, &off, &run);
	io = pool_get(&mm->io_pool);
	if (io == NULL)
		return 0;
	run = stage_buffer_get(mm, run, &first);
	if (run == 0) {
		pool_put(&mm->io_pool, io);
		return 0;
	}
	for (uint32_t i = 0; i < run; i++) {
		swap_busy(&mm->swap, swp + i);
		mm->staging.page[first + i] = (struct stage_page){
			.vpn = vpn + i,
			.state = STAGE_READING,
			.flags = i == 0 ? flags : rest,
			.swp = swp + i,
		};
		pte_set(&mm->ptes, vpn + i, pte_make(PTE_STAGED, first + i, 0));
	}
	mm->staging.buffer_reading += run;
	io->pager = p;
	io->swp = swp;
	io->t0 = t0;
	io->first = first;
	io->n = (uint16_t)run;
	io->iov[0] = (struct iovec){stage_addr(mm, first), run * PAGE_SIZE};
	io->req.dev = dev;
	io->req.op = BLK_READ;
	io->req.off = off;
	io->req.iov = io->iov;
	io->req.niov = 1;
	io->req.done = read_done;
	stat_add(&mm->stats.reads, 1);
	stat_add(&mm->stats.read_pages, run);
	blkio_queue(p->io, &io->req);
	return run;
}

/*
 * Read what is SWAPPED in the n pages from vpn, in as many runs as their slots
 * make, and pass over what is present or staged; how far that went.
 */
static uint32_t read_window(struct pager *p, vpn_t vpn, uint32_t n, unsigned flags, uint64_t t0)
{
	struct mm *mm = p->mm;
	uint32_t at = 0;

	if (n > 1)
		flags |= STAGE_WINDOW;
	while (at < n) {
		enum pte_state state = pte_state(pte_get(&mm->ptes, vpn + at));
		uint32_t run = 1;

		if (state == PTE_SWAPPED)
			run = read_start(p, vpn + at, n - at, flags, at == 0 ? t0 : 0);
		else if (state != PTE_PRESENT && state != PTE_STAGED)
			break;
		if (run == 0)
			break;
		at += run;
		flags &= ~(STAGE_WRITE | STAGE_NEEDED);
	}
	return at;
}

uint32_t fault_swap_prefetch(struct pager *p, vpn_t vpn, vpn_t end, enum swap_prefetch how)
{
	const unsigned flags = how == SWAP_CACHE     ? STAGE_AHEAD
			       : how == SWAP_INSTALL ? STAGE_DEMAND
						     : STAGE_DEMAND | STAGE_NEEDED;
	struct mm *mm = p->mm;
	uint32_t total = 0;

	while ((vpn = pte_next(&mm->ptes, vpn, end, 1U << PTE_SWAPPED)) < end) {
		uint32_t n = end - vpn < FL_WINDOW_MAX ? (uint32_t)(end - vpn) : FL_WINDOW_MAX;
		uint32_t used;
		uint32_t run;

		/*
		 * Half of the buffer stays for faults.  What must come back may take the
		 * place of what was read ahead; what is only advised may not.
		 */
		used = how != SWAP_CACHE ? mm->staging.buffer_reading : mm->staging.buffer_used;
		if (used >= mm->staging.buffer_pages / 2)
			break;
		if (n > mm->staging.buffer_pages / 4)
			n = mm->staging.buffer_pages / 4;
		run = read_start(p, vpn, n, flags, 0);
		if (run == 0)
			break;
		total += run;
		vpn += run;
	}
	return total;
}

#define STAGE_ALONG (STAGE_CLUSTER | STAGE_BELOW)

/*
 * A fault that met no stream reads neighbours by slot: those pages of its leaf
 * whose slots lie in the same small cluster come with the same request, or
 * with one that is merged with it.
 */
static void read_cluster(struct pager *p, vpn_t vpn, swp_t swp)
{
	struct mm *mm = p->mm;
	uint32_t k = cluster_window(&mm->ra);
	swp_t low = swp - swp % k;
	vpn_t leaf = vpn & ~(vpn_t)(PTE_LEAF_PAGES - 1);
	const pte_t *e = pte_leaf(&mm->ptes, vpn);
	uint32_t along = 0;

	if (k == 1 || mm->staging.buffer_used + k >= mm->staging.buffer_pages / 2)
		return;
	/* pages that left together lie near each other: look outwards from the one that faulted */
	for (uint32_t d = 1; d < 2 * k; d++) {
		vpn_t near[2] = {vpn + d, vpn - d};

		for (unsigned s = 0; s < 2; s++) {
			pte_t q;

			if (near[s] < leaf || near[s] >= leaf + PTE_LEAF_PAGES)
				continue;
			q = e[near[s] % PTE_LEAF_PAGES];
			if (pte_state(q) == PTE_SWAPPED && pte_swp(q) >= low &&
			    pte_swp(q) < low + k)
				along += read_start(p, near[s], 1, STAGE_AHEAD | STAGE_CLUSTER, 0);
		}
	}
	along_read(&mm->ra.cluster, along);
}

/* And the pages below it, wherever their slots are. */
static void read_below(struct pager *p, vpn_t vpn, const struct region *r)
{
	struct mm *mm = p->mm;
	uint32_t k = below_window(&mm->ra, vpn);
	vpn_t start = vpn_of(r->start);
	vpn_t at = vpn - start < k ? start : vpn - k + 1;
	uint32_t along = 0;

	if (k == 1 || mm->staging.buffer_used + k >= mm->staging.buffer_pages / 2)
		return;
	while ((at = pte_next(&mm->ptes, at, vpn, 1U << PTE_SWAPPED)) < vpn) {
		uint32_t run =
			read_start(p, at, (uint32_t)(vpn - at), STAGE_AHEAD | STAGE_BELOW, 0);

		if (run == 0)
			break;
		along += run;
		at += run;
	}
	along_read(&mm->ra.below, along);
}

/* The largest window that the buffer can serve twice over, for each of several streams. */
static uint32_t window_of(const struct mm *mm, const struct region *r)
{
	unsigned streams = stream_going(&mm->ra.swap);
	uint32_t part = mm->staging.buffer_pages / (streams > 2 ? 2 * streams : 4);

	return traits_window(mm, r, mm->opt.readahead < part ? mm->opt.readahead : part);
}

uint32_t fault_window(struct mm *mm, const struct region *r, vpn_t vpn, struct stream **stream)
{
	uint32_t window = stream_fault(&mm->ra.swap, vpn, window_of(mm, r), stream);

	if (r->flags & REGION_SEQUENTIAL)
		window = (*stream)->window = window_of(mm, r);
	if (r->flags & REGION_RANDOM)
		window = 1;
	if (window > vpn_of(r->end) - vpn)
		window = (uint32_t)(vpn_of(r->end) - vpn);
	return window;
}

/*
 * The n pages from vpn are about to come by a stream.  What streams brought before
 * leaves for them: else a scan of more than there are frames would push out all
 * others, and find nothing of itself when it comes again.
 */
static void bring(struct pager *p, const struct stream *s, vpn_t vpn, vpn_t n)
{
	if (n == 1)
		return;
	reclaim_trail(p, n);
	if (vpn >= s->stays)
		trail_add(&p->mm->trail, NULL, vpn, n);
}

/*
 * Pages [vpn, vpn + n) of a stream are read again.  Where they left so late that the
 * frames would have held them they come to stay, for it may come once more.
 */
static void look_back(struct mm *mm, struct stream *s, vpn_t vpn, uint32_t n)
{
	if (reclaim_was_late(mm, pte_get(&mm->ptes, vpn)))
		s->stays = vpn + n;
}

enum fault_result fault_swap(struct pager *p, const struct fault *f, struct region *r)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	vpn_t end = vpn_of(r->end);
	swp_t swp = pte_swp(pte_get(&mm->ptes, vpn));
	unsigned flags = STAGE_DEMAND | STAGE_NEEDED | (f->write ? STAGE_WRITE : 0);
	struct stream *stream;
	uint32_t window;
	uint32_t n;

	window = fault_window(mm, r, vpn, &stream);
	look_back(mm, stream, vpn, window);
	n = read_window(p, vpn, window, flags, f->t0);
	if (n == 0)
		return FAULT_DEFER;
	stream_done(stream, vpn + n);
	bring(p, stream, vpn, n);
	if (window == 1 && window_of(mm, r) > 1 && !(r->flags & REGION_RANDOM)) {
		read_below(p, vpn, r);
		read_cluster(p, vpn, swp);
	} else if (n >= AHEAD_MIN) {
		read_window(p, vpn + n, end - vpn - n < n ? (uint32_t)(end - vpn) - n : n,
			    STAGE_AHEAD, 0);
	}
	mm->filling = false;
	stat_add(&mm->stats.faults_swap, 1);
	stat_add(&mm->stats.faults_major, 1);
	return FAULT_WAITS;
}

/*
 * Read ahead of a reader that comes to `next`: a window, and more of them where
 * that takes nobody's place in the buffer and the device has not enough to do.
 */
static void read_ahead(struct pager *p, struct stream *s, vpn_t next, vpn_t end)
{
	struct mm *mm = p->mm;
	uint32_t window = s->window;
	vpn_t one = next + window;
	vpn_t last = next + AHEAD_WINDOWS * window;

	while (next < end && next < last) {
		uint32_t n = end - next < window ? (uint32_t)(end - next) : window;
		enum pte_state state = pte_state(pte_get(&mm->ptes, next));

		if (state == PTE_STAGED || state == PTE_PRESENT) {
			next++;
			continue;
		}
		if (next >= one && (blkio_inflight(p->io) >= AHEAD_REQUESTS ||
				    mm->staging.buffer_used + n > mm->staging.buffer_pages / 4 * 3))
			break;
		look_back(mm, s, next, n);
		n = read_window(p, next, n, STAGE_AHEAD, 0);
		if (n == 0)
			break;
		next += n;
	}
}

/*
 * A page that was read along or ahead was asked for at vpn; the pages up to
 * `next` are served.  Where that goes on with a stream, read ahead of it.
 */
static struct stream *follow_stream(struct pager *p, vpn_t vpn, vpn_t next, const struct region *r)
{
	struct mm *mm = p->mm;
	struct stream *stream;
	uint32_t window = stream_fault(&mm->ra.swap, vpn, window_of(mm, r), &stream);

	stream_done(stream, next);
	if (window != 1 && !(r->flags & REGION_RANDOM))
		read_ahead(p, stream, next, vpn_of(r->end));
	return stream;
}

/* The staging page of a page that was read in a window, or is being read. */
static struct stage_page *of_window(struct mm *mm, pte_t pte)
{
	struct stage_page *sp;

	if (pte_state(pte) != PTE_STAGED || pte_payload(pte) < STAGE_BLOCK_PAGES)
		return NULL;
	sp = &mm->staging.page[pte_payload(pte)];
	return sp->flags & STAGE_ALONG ? NULL : sp;
}

/* Who touched vpn will come to what follows, up to end: it is asked for, too.  How far that goes. */
static vpn_t ask_for(struct mm *mm, vpn_t vpn, vpn_t end)
{
	for (; vpn < end; vpn++) {
		pte_t pte = pte_get(&mm->ptes, vpn);
		struct stage_page *sp;

		if (pte_state(pte) == PTE_PRESENT)
			continue;
		sp = of_window(mm, pte);
		if (sp == NULL)
			break;
		sp->flags |= STAGE_DEMAND;
	}
	return vpn;
}

/* The index of the buffer page that holds a page; 0: none does. */
static uint32_t cached_at(struct mm *mm, vpn_t vpn)
{
	pte_t pte = pte_get(&mm->ptes, vpn);

	if (pte_state(pte) != PTE_STAGED ||
	    mm->staging.page[pte_payload(pte)].state != STAGE_CACHED)
		return 0;
	return (uint32_t)pte_payload(pte);
}

/* Install what is there of [vpn, end) and asked for; up to where nothing is left to be installed. */
static vpn_t install_asked(struct pager *p, vpn_t vpn, vpn_t end, bool write)
{
	struct mm *mm = p->mm;
	bool alone = end - vpn == 1;

	while (vpn < end) {
		uint32_t index = cached_at(mm, vpn);
		struct stage_page *sp = &mm->staging.page[index];
		uint32_t n = 1;
		uint32_t got;

		if (index == 0) {
			vpn++;
			continue;
		}
		while (n < end - vpn && index + n < STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX &&
		       sp[n].state == STAGE_CACHED && sp[n].vpn == vpn + n)
			n++;
		got = install(p, index, n, write, alone);
		if (got < n || sp[n - 1].state != STAGE_FREE) {
			vpn += got;
			break;
		}
		vpn += n;
	}
	/* no frame for the rest: it stays cached */
	for (vpn_t v = vpn; v < end; v++) {
		uint32_t index = cached_at(mm, v);

		if (index != 0)
			mm->staging.page[index].flags &= (uint16_t)~STAGE_DEMAND;
	}
	return vpn;
}

/*
 * A touch of a page in the buffer.  Where that is the first one of a window all
 * of it is installed, now or when it arrives; but first the device is given more
 * to do.
 */
static enum fault_result fault_buffered(struct pager *p, const struct fault *f,
					const struct region *r, struct stage_page *sp)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	vpn_t most = vpn + window_of(mm, r);
	vpn_t end = vpn + 1;
	bool there = sp->state == STAGE_CACHED;
	struct stream *stream;
	vpn_t done;

	/* a fault that is deferred is no step of a stream */
	if (there && mm_frames(mm) >= mm_budget(mm) && !(sp->flags & STAGE_ALONG))
		reclaim_trail(p, 1);
	if (there && reclaim_some_room(p, 1) == 0)
		return FAULT_DEFER;
	if (!there)
		sp->flags |= STAGE_NEEDED | (f->write ? STAGE_WRITE : 0);
	/* one read serves all who wait */
	if (there || !(sp->flags & STAGE_DEMAND)) {
		/* asked for, it is not dropped for what is read now */
		sp->flags |= STAGE_DEMAND;
		if (sp->flags & STAGE_ALONG)
			along_hit(sp->flags & STAGE_BELOW ? &mm->ra.below : &mm->ra.cluster);
		else
			end = ask_for(mm, vpn, most < vpn_of(r->end) ? most : vpn_of(r->end));
		stream = follow_stream(p, vpn, end, r);
		if (!blkio_is_sync(p->io))
			blkio_flush(p->io);
		bring(p, stream, vpn, end - vpn);
		done = install_asked(p, vpn, end, f->write);
		if (done < end)
			stream_done(stream, done);
		if (there && done == vpn)
			return FAULT_DEFER;
	}
	if (!there) {
		stat_add(&mm->stats.faults_major, 1);
		return FAULT_WAITS;
	}
	stat_add(&mm->stats.faults_staged, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}

enum fault_result fault_staged(struct pager *p, const struct fault *f, struct region *r)
{
	struct mm *mm = p->mm;
	vpn_t vpn = vpn_of(f->addr);
	pte_t pte = pte_get(&mm->ptes, vpn);
	struct stage_page *sp = &mm->staging.page[pte_payload(pte)];
	struct stream *stream;
	uint32_t window;

	if (sp->state == STAGE_READING || sp->state == STAGE_CACHED)
		return fault_buffered(p, f, r, sp);
	if (!stage_refault(p, vpn, pte, f->write))
		return FAULT_DEFER;
	window = fault_window(mm, r, vpn, &stream);
	stream_done(stream, vpn + 1 + stage_refault_run(mm, vpn + 1, window - 1));
	stat_add(&mm->stats.faults_staged, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return FAULT_DONE;
}

/* One page of a read that ended; true when it holds its bytes and is somebody's. */
static bool page_arrived(struct mm *mm, uint32_t index, int res)
{
	struct stage_page *sp = &mm->staging.page[index];
	swp_t swp = sp->swp;
	vpn_t vpn = sp->vpn;
	bool bad = false;

	mm->staging.buffer_reading--;
	if (sp->flags & STAGE_DETACHED) {
		stage_buffer_put(mm, index);
		return false;
	}
	if (res == 0 && stage_csum(mm, stage_addr(mm, index), swp) != swap_csum(&mm->swap, swp)) {
		stat_add(&mm->stats.csum_errors, 1);
		res = -EILSEQ;
		bad = true;
	}
	if (res == 0) {
		sp->state = STAGE_CACHED;
		return true;
	}
	if (!(sp->flags & STAGE_NEEDED)) {
		/* nobody touched it: the touch will read it again, and decide */
		pte_set(&mm->ptes, vpn, pte_make(PTE_SWAPPED, swp, 0));
		stage_buffer_put(mm, index);
		return false;
	}
	mm_log(mm, FL_LOG_ERROR,
	       "swap area %s, slot %u, address 0x%lx: %s: the page is lost (SIGBUS)",
	       mm->swap.area[swp_area(swp)]->path, swp_slot(swp), (unsigned long)addr_of(vpn),
	       bad ? "checksum does not match" : log_strerror(res));
	swap_put(&mm->swap, swp);
	stage_buffer_put(mm, index);
	fault_poison(mm, vpn);
	return false;
}

/*
 * A read of several pages failed: one by one, so that only what cannot be read
 * is lost.  Pages for which there is no request stay with the error.
 */
static uint32_t read_singly(struct swap_io *io)
{
	struct pager *p = io->pager;
	struct mm *mm = p->mm;
	uint32_t i;

	for (i = 0; i < io->n; i++) {
		struct swap_io *one = pool_get(&mm->io_pool);

		if (one == NULL)
			break;
		one->pager = p;
		one->swp = io->swp + i;
		one->t0 = i == 0 ? io->t0 : 0;
		one->first = io->first + i;
		one->n = 1;
		one->iov[0] = (struct iovec){stage_addr(mm, one->first), PAGE_SIZE};
		one->req.dev = io->req.dev;
		one->req.op = BLK_READ;
		one->req.off = io->req.off + i * PAGE_SIZE;
		one->req.iov = one->iov;
		one->req.niov = 1;
		one->req.done = read_done;
		stat_add(&mm->stats.reads, 1);
		blkio_queue(p->io, &one->req);
	}
	return i;
}

static void read_done(struct blk_req *req, int res)
{
	struct swap_io *io = (struct swap_io *)(void *)req;
	struct pager *p = io->pager;
	struct mm *mm = p->mm;
	struct stage_page *sp = &mm->staging.page[io->first];
	uint32_t n = io->n;
	uint32_t first = io->first;
	uint64_t t0 = io->t0;
	uint32_t begin = 0;

	if (res != 0) {
		stat_add(&mm->stats.io_errors, 1);
		mm->swap.area[swp_area(io->swp)]->io_errors++;
		if (n > 1)
			begin = read_singly(io);
		if (begin != 0)
			t0 = 0;
	}
	for (uint32_t i = begin; i < n; i++) {
		swp_t swp = io->swp + i;

		page_arrived(mm, first + i, res);
		if (swap_idle(&mm->swap, swp))
			mm->swap_full = false;
	}
	pool_put(&mm->io_pool, io);
	for (uint32_t i = 0; i < n;) {
		uint32_t run = 1;
		uint32_t got;

		if (sp[i].state != STAGE_CACHED || !(sp[i].flags & STAGE_DEMAND)) {
			i++;
			continue;
		}
		while (i + run < n && sp[i + run].state == STAGE_CACHED &&
		       (sp[i + run].flags & STAGE_DEMAND) && sp[i + run].vpn == sp[i].vpn + run)
			run++;
		got = install(p, first + i, run, sp[i].flags & STAGE_WRITE, run == 1);
		for (uint32_t k = got; k < run; k++) {
			/* no frame for it: it stays cached, who waits faults again and is deferred */
			sp[i + k].flags &= (uint16_t)~STAGE_DEMAND;
			fault_wake(mm, sp[i + k].vpn);
		}
		i += run;
	}
	if (t0 != 0) {
		near_answered(p, fault_latency(mm, t0));
		p->answered = true;
	}
}
