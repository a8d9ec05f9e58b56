/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.c - an image of memory as of one instant; see snapshot.h.
 *
 * Before the instant most of the present pages of the ranges are write-protected, in
 * slices between which all is served as ever (snapshot-protect.c).  Nothing is
 * saved yet.
 *
 * The instant.  Under the mm lock every present page of the ranges that is not
 * write-protected is, in calls as long as runs of them are, and every page
 * that has content gets its bit in `unsaved`.  What is absent costs nothing: only what
 * is present is protected, since the kernel would leave marks in the place of absent
 * pages (WP_UNPOPULATED), which MOVE and ZEROPAGE refuse.  No fault is
 * answered before the last page is protected, so what was protected first has
 * not changed when the last one is: that moment is the instant, for all threads.
 * It lies between calls, those of all pagers: within one that lets other work go on
 * (pager_pump), pages could be about to go of which it has seen to it that they are saved.
 * Who asked for the snapshot is answered then.
 *
 * Invariant.  While a page's bit is set its content is what it was at the instant,
 * wherever it is: present and write-protected, staged, in a slot, in the pool,
 * filled, poisoned.  So eviction and reading in need not know of snapshots.
 * Bits are only ever cleared.
 *
 * Who would break it, and what is done there:
 *	a write fault (fault-wp.c)
 *		saves the page, and neighbours, then lets it be written
 *	installs by copy (fault-swap.c, fault-compressed.c)
 *		save what is installed, or install it write-protected
 *	installs that cannot protect (fault-anon.c: fault_filled; staging.c: stage_refault)
 *		save first, or the fault waits
 *	block_return (staging.c)
 *		leaves the page in staging
 *	unshare_frame (staging.c)
 *		a frame that is shared after fork stays where it is
 *	munmap, mremap, brk, MADV_DONTNEED and its like, a mapping with MAP_FIXED, memory
 *	that is given back (hop.c: settle)
 *		wait until the range is saved
 *	fork (fork.c)
 *		the child's frames are the parent's until one is written, and the parent's
 *		stay protected; the caller's pages near its thread pointer are saved first
 *	a page that went lazily by a MADV_FREE from before arming (fault.c)
 *		is zeros
 * mprotect, mlock and advice that drops nothing leave the kernel's protection as
 * it is.  drop_entries() looks after all of them: what is dropped unsaved ends the
 * snapshot with an error, never with a wrong image.
 *
 * Saving (snapshot-save.c).  A page is copied into a cell of a bounded buffer, and
 * from there written to the image; the buffer is of the limit's frames.  Pagers save
 * in the background, by address, a part in each round; a quarter of the cells is for
 * those who wait.  What is in a slot is read into cells directly: the slot is busy
 * meanwhile and cannot be used anew, a fault on the page waits (snapshot_reads()), and
 * the checksum is compared.  Present pages are read through /proc/self/mem, which does
 * not fault.
 *
 * The end: tables, sync, footer, sync; then the waiters are told.  An error lets all
 * pages go, empties the file and is told instead.
 *
 * Of a mapping of a file only what was written to private pages is part of an image of all
 * memory: of the other pages it says that they are the file's, and which file that is.
 * So these have no bit, and may be dropped and brought in again.
 *
 * Accepted: a device that writes into a pinned frame is not noticed.
 * A kernel access that cannot wait for a pager (FUTEX_WAKE_OP, FUTEX_LOCK_PI) fails with
 * EFAULT on a page that is not saved yet, as on one that is away.
 */
#include "snapshot-work.h"

#include "do.h"
#include "event.h"
#include "log.h"
#include "pager.h"
#include "reclaim.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- the tables, the end ---- */

/* Queue what is left of the tables; true when all of it is. */
static bool write_tables(struct pager *p, struct snapshot *s)
{
	while (s->part_now < PARTS) {
		const struct snap_part *t = &s->part[s->part_now];
		uint64_t size = snapshot_padded(t->size);
		uint64_t n =
			size - s->part_at < IMAGE_SUM_BYTES ? size - s->part_at : IMAGE_SUM_BYTES;
		struct snap_io *io;

		if (n == 0) {
			s->part_now++;
			s->part_at = 0;
			continue;
		}
		io = snapshot_io_get(p, s);
		if (io == NULL)
			return false;
		if (s->part_now == PART_SUMS)
			s->sums_sum = XXH3_64bits_withSeed(
				t->mem + s->part_at,
				t->size - s->part_at < n ? t->size - s->part_at : n, s->sums_sum);
		snapshot_write(p, s, io, t->mem + s->part_at, n, t->offset + s->part_at);
		s->part_at += n;
	}
	return true;
}

static void queue_sync(struct pager *p, struct snapshot *s)
{
	struct snap_io *io;

	if (s->flags & FL_SNAPSHOT_NOSYNC)
		return;
	io = snapshot_io_get(p, s);
	if (io == NULL) {
		snapshot_fail(s, -ENOMEM);
		return;
	}
	io->req.dev = &s->dev;
	io->req.op = BLK_SYNC;
	io->req.done = snapshot_write_done;
	blkio_queue(p->io, &io->req);
}

static void write_footer(struct pager *p, struct snapshot *s)
{
	struct image_footer *f = s->footer;
	struct snap_io *io = snapshot_io_get(p, s);

	if (io == NULL) {
		snapshot_fail(s, -ENOMEM);
		return;
	}
	f->lost = s->lost;
	f->ranges_sum = XXH3_64bits(s->part[PART_RANGES].mem, s->part[PART_RANGES].size);
	f->maps_sum = XXH3_64bits(s->part[PART_MAPS].mem, s->part[PART_MAPS].size);
	f->sums_sum = s->sums_sum;
	f->footer_sum = XXH3_64bits(f, offsetof(struct image_footer, footer_sum));
	snapshot_write(p, s, io, f, IMAGE_PAGE, f->file_size - IMAGE_PAGE);
}

static int result_of(const struct snapshot *s)
{
	return s->err != 0 ? s->err : s->lost < INT32_MAX ? (int)s->lost : INT32_MAX;
}

/* False: nobody listens any more. */
static bool tell(struct snapshot *s, bool ended)
{
	struct snapshot_answer a = {
		.pages = s->had,
		.saved = s->had - s->left,
		.pause_ns = s->pause,
		.bytes = s->footer->file_size,
		.result = ended ? result_of(s) : 0,
		.ended = ended,
	};
	struct iovec iov = {&a, sizeof(a)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	long r = SYS3(sendmsg, s->link, &m, MSG_DONTWAIT | MSG_NOSIGNAL);

	s->told = sys_now();
	return !sys_err(r) || r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM || r == -EINTR;
}

static void free_memory(struct snapshot *s)
{
	for (unsigned i = 0; i < PARTS; i++)
		sys_mem_free(s->part[i].mem, s->part[i].reserved);
	sys_mem_free(s->unsaved, s->bits_bytes);
	sys_mem_free(s->reading, s->bits_bytes);
	sys_mem_free(s->cells, s->ncells * PAGE_SIZE);
	sys_mem_free(s->ios, s->ncells * sizeof(*s->ios));
	sys_mem_free(s->footer, IMAGE_PAGE);
	sys_mem_free(s, sizeof(*s));
}

static void end(struct snapshot *s)
{
	struct mm *mm = s->mm;

	if (s->err != 0)
		SYS2(ftruncate, s->fd, 0);
	else
		mm_log(mm, FL_LOG_INFO,
		       "snapshot: %lu MiB in %lu ms, of which the program stood %lu us",
		       (unsigned long)(s->had >> 8),
		       (unsigned long)((sys_now() - s->began) / 1000000),
		       (unsigned long)(s->pause / 1000));
	if (s->link >= 0)
		tell(s, true);
	close_fd(s->direct_fd);
	close_fd(s->fd);
	close_fd(s->link);
	mm->snaps.now = NULL;
	mm->snaps.pages = 0;
	mm->snaps.bytes = 0;
	__atomic_store_n(&mm->snaps.result, result_of(s), __ATOMIC_RELAXED);
	/* before the count: who waited finds the event */
	if (s->event_fd >= 0)
		event_tell(s->event_fd);
	close_fd(s->event_fd);
	/* Release: who sees it counted sees its result; pairs with fl_snapshot_wait(). */
	__atomic_fetch_add(&mm->snaps.ended, 1, __ATOMIC_RELEASE);
	futex_wake(&mm->snaps.ended, INT32_MAX);
	free_memory(s);
}

static void go_on(struct pager *p, struct snapshot *s)
{
	for (;;) {
		if (s->left != 0 || (s->inflight != 0 && s->stage != SNAP_TABLES))
			return;
		if (s->err != 0)
			s->stage = SNAP_OVER;
		switch (s->stage) {
		case SNAP_PREPARING:
			return;
		case SNAP_SAVING:
			s->stage = SNAP_TABLES;
			break;
		case SNAP_TABLES:
			if (!write_tables(p, s) || s->inflight != 0)
				return;
			s->stage = SNAP_SYNC;
			queue_sync(p, s);
			break;
		case SNAP_SYNC:
			s->stage = SNAP_FOOTER;
			write_footer(p, s);
			break;
		case SNAP_FOOTER:
			s->stage = SNAP_SYNC_FOOTER;
			queue_sync(p, s);
			break;
		case SNAP_SYNC_FOOTER:
			s->stage = SNAP_OVER;
			break;
		case SNAP_OVER:
			if (s->inflight == 0)
				end(s);
			return;
		}
	}
}

/* ---- the instant ---- */

/*
 * Pages of [*vpn, end) that may have content: from the first leaf on, to the end of
 * those that follow it.
 */
static bool next_leaves(struct mm *mm, vpn_t *vpn, vpn_t end, vpn_t *stop)
{
	const unsigned any = ((1U << PTE_STATES) - 1) & ~(1U << PTE_NONE);
	vpn_t found = pte_next(&mm->ptes, *vpn, end, any);
	vpn_t leaf = found & ~(vpn_t)(PTE_LEAF_PAGES - 1);

	if (found >= end)
		return false;
	if (leaf > *vpn)
		*vpn = leaf;
	leaf += PTE_LEAF_PAGES;
	while (leaf < end && pte_leaf(&mm->ptes, leaf) != NULL)
		leaf += PTE_LEAF_PAGES;
	*stop = leaf < end ? leaf : end;
	return true;
}

/* The ranges of an image, into out unless NULL: how many; *pages of all of them. */
static uint64_t list_ranges(struct mm *mm, uintptr_t start, uintptr_t end, bool linear,
			    struct image_range *out, uint64_t *pages)
{
	const struct region *r;
	uintptr_t at = start;
	uint64_t n = 0;

	*pages = 0;
	while ((r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		vpn_t vpn = vpn_of(r->start > start ? r->start : start);
		vpn_t last = vpn_of(r->end < end ? r->end : end);
		vpn_t stop;

		at = r->end;
		while (snapshot_has_part(r) && vpn < last && next_leaves(mm, &vpn, last, &stop)) {
			if (out != NULL)
				out[n] = (struct image_range){
					.start = addr_of(vpn),
					.end = addr_of(stop),
					.offset =
						linear ? addr_of(vpn) - start : *pages * PAGE_SIZE,
					.first = *pages,
					.prot = (uint32_t)r->prot,
					.flags = r->users != NULL ? IMAGE_RANGE_FILE : 0,
				};
			n++;
			*pages += stop - vpn;
			vpn = stop;
		}
	}
	return n;
}

/* A line for each region, as in /proc/PID/maps; how many bytes. */
static uint64_t list_regions(const struct mm *mm, uintptr_t start, uintptr_t end, char *out,
			     uint64_t *regions)
{
	const struct region *r;
	uintptr_t at = start;
	uint64_t len = 0;

	*regions = 0;
	while ((r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		/* what the store's server pages is named there */
		bool file = r->users != NULL && !(r->flags & REGION_REMOTE);

		at = r->end;
		++*regions;
		if (out == NULL)
			continue;
		len += log_format(out + len, MAPS_LINE, "%08lx-%08lx %c%c%c%c %08lx 00:00 0%s%s\n",
				  (unsigned long)r->start, (unsigned long)r->end,
				  r->prot & PROT_READ ? 'r' : '-', r->prot & PROT_WRITE ? 'w' : '-',
				  r->prot & PROT_EXEC ? 'x' : '-', region_is_shared(r) ? 's' : 'p',
				  file ? (unsigned long)addr_of(vpn_of(r->start) + r->delta) : 0UL,
				  file ? " " : "", file ? cache_of(r)->name : "");
	}
	return len;
}

static int check_range(const struct mm *mm, uintptr_t start, uintptr_t end)
{
	while (start < end) {
		const struct region *r = region_find(&mm->regions, start);

		if (r == NULL)
			return -ENOMEM;
		if (r->users != NULL)
			return -EINVAL;
		if (r->flags & REGION_HELD)
			return -EBUSY;
		start = r->end;
	}
	return 0;
}

static void *part_alloc(struct snapshot *s, unsigned part, uint64_t bytes)
{
	struct snap_part *t = &s->part[part];

	t->reserved = snapshot_padded(bytes != 0 ? bytes : 1);
	t->mem = sys_mem_alloc(t->reserved);
	return t->mem;
}

static int make_tables(struct snapshot *s)
{
	struct mm *mm = s->mm;
	uintptr_t start = s->start, end = s->end;
	bool linear = s->linear;
	struct image_footer *f = s->footer;
	uint64_t regions, offset, pages;
	struct timespec now;

	s->nranges = list_ranges(mm, start, end, linear, NULL, &s->pages);
	list_regions(mm, start, end, NULL, &regions);
	offset = linear ? end - start : s->pages * PAGE_SIZE;
	if (offset > IMAGE_BYTES_MAX || s->pages > IMAGE_BYTES_MAX / PAGE_SIZE)
		return -EFBIG;
	s->bits_bytes = snapshot_padded((s->pages / 64 + 1) * sizeof(uint64_t));
	s->unsaved = sys_mem_alloc(s->bits_bytes);
	s->reading = sys_mem_alloc(s->bits_bytes);
	s->range = part_alloc(s, PART_RANGES, s->nranges * sizeof(*s->range));
	s->sum = part_alloc(s, PART_SUMS, s->pages * sizeof(*s->sum));
	if (s->unsaved == NULL || s->reading == NULL || s->range == NULL || s->sum == NULL ||
	    part_alloc(s, PART_MAPS, regions * MAPS_LINE) == NULL)
		return -ENOMEM;
	list_ranges(mm, start, end, linear, s->range, &pages);
	s->part[PART_RANGES].size = s->nranges * sizeof(*s->range);
	s->part[PART_MAPS].size = list_regions(mm, start, end, s->part[PART_MAPS].mem, &regions);
	s->part[PART_SUMS].size = s->pages * sizeof(*s->sum);
	for (unsigned i = 0; i < PARTS; i++) {
		s->part[i].offset = offset;
		offset += snapshot_padded(s->part[i].size);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	memcpy(f->magic, IMAGE_MAGIC, sizeof(f->magic));
	f->version = IMAGE_VERSION;
	f->page_size = IMAGE_PAGE;
	f->file_size = offset + IMAGE_PAGE;
	f->flags = linear ? IMAGE_LINEAR : 0;
	f->start = linear ? start : 0;
	f->end = linear ? end : 0;
	f->time = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
	f->pid = (uint64_t)SYS0(getpid);
	f->ranges = s->nranges;
	f->ranges_offset = s->part[PART_RANGES].offset;
	f->maps_bytes = s->part[PART_MAPS].size;
	f->maps_offset = s->part[PART_MAPS].offset;
	f->pages = s->pages;
	f->sums_offset = s->part[PART_SUMS].offset;
	s->dev.size = f->file_size;
	mm->snaps.bytes = 2 * s->bits_bytes + snapshot_padded(s->part[PART_RANGES].size) +
			  snapshot_padded(s->part[PART_MAPS].size) +
			  snapshot_padded(s->part[PART_SUMS].size);
	return 0;
}

/* Frames for the buffer, before the instant. */
static int make_room(struct pager *p, const struct snapshot *s)
{
	struct mm *mm = p->mm;
	unsigned idle = 0;

	mm->snaps.pages = s->ncells;
	while (mm_frames(mm) > mm_budget(mm)) {
		uint64_t before = mm_frames(mm);

		reclaim_make_room(p, 0);
		if (mm_frames(mm) < before)
			idle = 0;
		if (mm_frames(mm) <= mm_budget(mm))
			break;
		if (reclaim_io(mm) || files_settling(mm))
			pager_pump(p);
		else if (++idle > ROOM_IDLE)
			return -ENOMEM;
	}
	return 0;
}

static int check_file(int fd)
{
	long mode = SYS3(fcntl, fd, F_GETFL, 0);
	struct stat st;
	long r;

	if (sys_err(mode))
		return (int)mode;
	if ((mode & O_PATH) || (mode & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	r = SYS2(fstat, fd, &st);
	if (sys_err(r))
		return (int)r;
	if (!S_ISREG(st.st_mode) || (mode & O_APPEND))
		return -EINVAL;
	return st.st_size != 0 ? -EEXIST : 0;
}

static struct snapshot *allocate(struct mm *mm)
{
	struct snapshot *s = sys_mem_alloc(sizeof(*s));
	uint64_t cells = mm->limit / 64;

	if (s == NULL)
		return NULL;
	s->mm = mm;
	s->fd = s->direct_fd = s->event_fd = s->link = -1;
	s->ncells = cells < CELLS_MIN ? CELLS_MIN : cells > CELLS_MAX ? CELLS_MAX : (uint32_t)cells;
	s->cells_free = s->allowed = s->ncells;
	s->cells = sys_mem_alloc(s->ncells * PAGE_SIZE);
	s->ios = sys_mem_alloc(s->ncells * sizeof(*s->ios));
	s->footer = sys_mem_alloc(IMAGE_PAGE);
	if (s->cells == NULL || s->ios == NULL || s->footer == NULL) {
		free_memory(s);
		return NULL;
	}
	SYS3(madvise, s->cells, s->ncells * PAGE_SIZE, MADV_NOHUGEPAGE);
	SYS3(madvise, s->cells, s->ncells * PAGE_SIZE, MADV_DONTFORK);
	for (uint32_t i = 0; i < s->ncells; i++) {
		s->ios[i].next = s->io_free;
		s->io_free = &s->ios[i];
	}
	return s;
}

/* The descriptor that is written through: direct where the file can be opened so. */
static void open_direct(struct snapshot *s)
{
	char path[48];
	long fd;

	log_format(path, sizeof(path), "thread-self/fd/%d", s->fd);
	fd = SYS4(openat, s->mm->proc_fd, path, O_WRONLY | O_DIRECT | O_CLOEXEC, 0);
	s->direct_fd = sys_err(fd) ? -1 : (int)fd;
	s->dev = (struct blk_dev){
		.fd = sys_err(fd) ? s->fd : (int)fd,
		.name = "image",
		.file = true,
	};
}

static long arm(struct pager *p)
{
	long r = p->mm->armed ? 0 : pager_arm(p->mm);

	/* what was there already may be above the limit */
	return r != 0 || p->mm->armed == 0 ? r : do_set_limit(p, p->mm->limit);
}

static void give_up_memory(struct snapshot *s)
{
	struct mm *mm = s->mm;

	mm->snaps.now = NULL;
	mm->snaps.pages = 0;
	mm->snaps.bytes = 0;
	free_memory(s);
}

/* There is no instant: nothing was written, and nobody waits for an end. */
static void refuse(struct snapshot *s, long err)
{
	struct mm *mm = s->mm;
	struct hop_slot *caller = s->caller;

	snapshot_unprotect(s);
	s->err = (int)err;
	if (s->link >= 0)
		tell(s, true);
	close_fd(s->direct_fd);
	close_fd(s->fd);
	close_fd(s->link);
	close_fd(s->event_fd);
	give_up_memory(s);
	if (caller != NULL)
		hop_late(mm, caller, err);
}

static void at_instant(struct snapshot *s)
{
	struct mm *mm = s->mm;
	uint64_t t0 = sys_now();
	long r = s->linear ? check_range(mm, s->start, s->end) : 0;

	if (r == 0)
		r = make_tables(s);
	if (r == 0)
		r = snapshot_protect(s);
	if (r != 0) {
		refuse(s, r);
		return;
	}
	s->began = sys_now();
	s->pause = s->began - t0;
	s->had = s->left;
	/* the limit may be another by now, and nothing is in a cell yet */
	s->allowed = (uint32_t)mm_snapshot_pages(mm);
	s->stage = SNAP_SAVING;
	__atomic_store_n(&mm->stats.snapshot_pages, s->had, __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.snapshot_saved, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.snapshot_pause, s->pause, __ATOMIC_RELAXED);
	/* Release: who waits for its end sees that it has begun; pairs with fl_snapshot_wait(). */
	__atomic_fetch_add(&mm->snaps.begun, 1, __ATOMIC_RELEASE);
	if (s->caller != NULL)
		hop_late(mm, s->caller, 0);
	s->caller = NULL;
}

long snapshot_begin(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		    int event_fd, int link, struct hop_slot *caller)
{
	struct mm *mm = p->mm;
	struct snapshot *s;
	long r;

	if (mm->snaps.pages != 0 || mm->closing)
		return -EBUSY;
	r = check_file(fd);
	if (r == 0 && !mm->armed)
		r = arm(p);
	/* that may have let others begin one */
	if (r != 0 || mm->snaps.pages != 0)
		return r != 0 ? r : -EBUSY;
	s = allocate(mm);
	if (s == NULL)
		return -ENOMEM;
	s->start = start;
	s->end = end != 0 ? end : addr_of(VPN_MAX);
	s->linear = end != 0;
	r = make_room(p, s);
	if (r == 0 && s->linear)
		r = check_range(mm, start, end);
	if (r == 0)
		r = snapshot_prepare(s);
	if (r != 0) {
		give_up_memory(s);
		return r;
	}
	s->fd = fd;
	s->flags = flags;
	s->event_fd = event_fd;
	s->link = link;
	s->caller = caller;
	open_direct(s);
	mm->snaps.now = s;
	return 0;
}

long do_snapshot(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		 int event_fd, struct hop_slot *caller)
{
	struct mm *mm = p->mm;
	long image = mm->pidfd < 0 ? -ENOSYS : SYS3(pidfd_getfd, mm->pidfd, fd, 0);
	long event = -1;
	long r = sys_err(image) ? image : 0;

	if (r == 0 && event_fd >= 0) {
		event = SYS3(pidfd_getfd, mm->pidfd, event_fd, 0);
		r = sys_err(event) ? event : 0;
	}
	if (r == 0)
		r = snapshot_begin(p, start, end, (int)image, flags, (int)event, -1, caller);
	if (r != 0) {
		if (!sys_err(image))
			SYS1(close, image);
		if (event != -1 && !sys_err(event))
			SYS1(close, event);
	}
	return r != 0 ? r : HOP_LATER;
}

/* ---- */

void snapshots_init(struct mm *mm)
{
	mm->snaps.port_fd = -1;
}

void snapshots_forked(struct mm *mm)
{
	if (mm->snaps.now != NULL)
		free_memory(mm->snaps.now);
	mm->snaps = (struct snapshots){.port_fd = -1};
}

void snapshot_round(struct pager *p, bool calls)
{
	struct snapshots *all = &p->mm->snaps;

	/* there is work for a CPU, and who writes meanwhile wants another */
	if (all->now != NULL)
		near_apart(p);
	if (all->now != NULL && all->now->stage == SNAP_PREPARING) {
		struct snapshot *s = all->now;

		if (!s->prepared)
			s->prepared = snapshot_pass(s);
		if (s->prepared && ((calls && p->mm->pumping == 0) || all->closing) && !p->stop) {
			at_instant(s);
			/* saving takes a CPU all the time: who asked goes on first */
			lock_drop(&p->mm->lock);
			sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
			lock_take(&p->mm->lock);
		}
	} else if (all->now != NULL) {
		struct snapshot *s = all->now;

		s->stalled = false;
		snapshot_fit(s);
		snapshot_work(p, s);
		if (s->link >= 0 && sys_now() - s->told > TELL_NS && !tell(s, false))
			snapshot_fail(s, -EPIPE);
		go_on(p, s);
	}
	if (all->knocked && calls && !p->stop)
		snapshot_serve_port(p);
}

void snapshot_finish(struct pager *p)
{
	struct snapshots *all = &p->mm->snaps;

	all->closing = true;
	while (all->now != NULL)
		pager_pump(p);
	all->closing = false;
}
