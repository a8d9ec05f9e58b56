/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * do.h - the work of the memory calls, with the mm lock held (the kernel's
 * do_mmap, do_munmap, ...).
 *
 * Called by mmap.c on the application's thread while nothing is armed, and by
 * hop.c on a pager afterwards.  Each makes the system call first and follows
 * with regions and page entries, so that the kernel's answer is the answer.
 */
#ifndef FL_DO_H
#define FL_DO_H

#include "choose.h"
#include "faultline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mm;
struct pager;
struct region;

/* do-mmap.c.  flags without MAP_POPULATE and MAP_LOCKED: the caller sees to those. */
long do_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags);
long do_munmap(struct mm *mm, uintptr_t addr, size_t len);
long do_mremap(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
	       uintptr_t new_addr);
/* p is NULL while nothing is armed. */
long do_mprotect(struct pager *p, struct mm *mm, uintptr_t addr, size_t len, int prot, int pkey);
long do_brk(struct mm *mm, uintptr_t addr);

/*
 * What follows when the kernel has made such a call: of the mapping at `addr`,
 * as do_mmap(); its address, or -ENOMEM and it is gone.
 */
long did_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags);
long did_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot);
/* It has refused to, and may have changed what comes before that for which it did. */
void protected_in_part(struct mm *mm, uintptr_t addr, size_t len, int prot, int pkey);

/* Regions and entries of [start, end) are no longer ours; the mapping is not touched. */
long do_forget(struct mm *mm, uintptr_t start, uintptr_t end);

/* Take over what the application mapped; let it go again, with every page back. */
long do_register(struct mm *mm, uintptr_t start, uintptr_t end, int prot);
long do_unregister(struct pager *p, uintptr_t start, uintptr_t end);

/* Entries of [start, end) become none and what they held is given back. */
void drop_entries(struct mm *mm, uintptr_t start, uintptr_t end);

/*
 * Register memory that the kernel has moved already: there is no way back, so
 * what fails for want of kernel memory is tried again for a while.
 */
long register_moved(struct mm *mm, uintptr_t start, uintptr_t end);

/* do-file.c: on a pager, of an armed mm. */
struct file_io;
struct pagecache;
struct source;

/* What is to be mapped, in memory of our own. */
struct map_file {
	uintptr_t addr;
	size_t len;
	int prot, flags;
	int fd;		      /* of the program; -1: */
	struct file_id id;    /* tid not 0: the file that the caller found behind fd */
	bool noexec;	      /* its filesystem is mounted so */
	struct pagecache *pc; /* this backing */
	uint64_t pgoff;	      /* pages */
	/* of do_backing_open() */
	struct source *source; /* NULL: fd */
	uint64_t size;
	bool write;
	/* of share_map(), while it waits for a server to take the file: */
	struct {
		struct map_file *next;
		struct hop_slot *caller; /* who is answered then; NULL: it did not wait yet */
		int fd;			 /* of the pagers' */
		uint64_t ino;
		uint64_t since; /* ns */
	} wait;
};

/* Who waits for fsync(2) of files. */
struct sync_wait {
	uint32_t pending; /* futex: files, ranges that a server was asked for, and `ask` */
	int err;
	const struct pagecache *told; /* do_sync_range(): whose error that is; NULL: of none */
	uint64_t since; /* do_sync_range(): files.failures before anything was written */
	/* of share_sync(): what the server is still to be asked for; the mm lock */
	struct {
		struct sync_wait *next;
		uintptr_t at, end;
	} ask;
};

/*
 * -ERESTART: the file that was chosen cannot be had here, and is the kernel's to map.
 * HOP_LATER: the same call is to be made again (hop_again()).
 */
long do_mmap_file(struct mm *mm, struct map_file *m, struct hop_slot *caller);
/* addr and len are of whole pages, which will be those of its file from `page` on. */
long do_remap_file_pages(struct mm *mm, uintptr_t addr, size_t len, uint64_t page);
long do_mremap_shared(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
		      uintptr_t new_addr);
/*
 * One step of msync(2), of what is ours.  Round 0 checks and starts.  An address: what is to be
 * written of the range from there on is not yet, call again for that when
 * files.event has grown; 0: done; 1: done, and there was no shared mapping.
 */
long do_msync(struct pager *p, uintptr_t addr, size_t len, int flags, unsigned round);
/*
 * One step of writing all files, but for those of sources.  1: not done, call again when files.event
 * has grown; 0: done; -EIO: done, and some pages could not be written, which are given up if
 * it is the last try.  It lets nobody else go on, so that it can be called while others wait.
 */
long do_write_out(struct pager *p, unsigned round, bool last);
/* Make the files of a range durable, and tell of write errors since this was last asked. */
long do_sync_range(struct pager *p, uintptr_t addr, size_t len, struct sync_wait *wait);
/* MADV_WILLNEED, MADV_COLD or MADV_PAGEOUT for these. */
void cache_advise(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t stop, int advice);
/* Advice for the file regions of a range. */
void file_advice(struct pager *p, uintptr_t start, uintptr_t end, int advice);
long do_backing_open(struct mm *mm, struct map_file *m);
long do_backing_close(struct pager *p, struct pagecache *pc);
long do_source_done(struct pager *p, struct file_io *io, int res);

/* In a forked child, before it runs: a region maps the cache of its own. */
int file_adopt(struct mm *mm, const struct region *r);

/*
 * unshare.c: private mappings in [start, end) that may only be read are to be written to, or
 * executed.  0 or -ENOMEM: nothing that the program sees has changed.
 */
long file_unshare(struct pager *p, uintptr_t start, uintptr_t end);

/* do-madvise.c.  p is NULL while nothing is armed. */
long do_madvise(struct pager *p, struct mm *mm, uintptr_t addr, size_t len, int advice);
/* What follows of it while nothing is armed. */
void did_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice);
/*
 * Whether so many accessible pages more may be locked: while the mm is armed a part of the limit
 * stays free of locked pages, or nothing else could make progress.  May get more from the group.
 */
bool lock_fits(struct mm *mm, uint64_t pages);
/* The same of pages that come to be with that, and may have to be paged then. */
bool lock_fits_new(struct mm *mm, uint64_t pages);
/* mlock2(2) itself: without flags as mlock(2), which a program's filter may allow alone. */
long kernel_mlock(uintptr_t addr, size_t len, unsigned flags);
/* 1: done, and there are shared mappings of files in the range. */
long do_mlock(struct mm *mm, uintptr_t addr, size_t len, unsigned flags);
long do_munlock(struct mm *mm, uintptr_t addr, size_t len);
/* A bit for each of n pages, that can be touched without I/O as far as mincore(2) would not know. */
long do_resident(struct mm *mm, uintptr_t addr, unsigned n);
long do_page_state(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec);

/* swap-off.c: calls that bring pages back, and so wait for I/O. */
/* swap_look() came before, on another thread. */
long do_swapon(struct mm *mm, const struct fl_swap_spec *spec, char *why, size_t why_size);
long do_swapoff(struct pager *p, const char *path);
long do_set_limit(struct pager *p, uint64_t pages);
long do_close(struct pager *p);

/* Bring every page of [start, end) back into frames.  0 or -ENOMEM. */
long bring_back(struct pager *p, uintptr_t start, uintptr_t end);

static inline uintptr_t page_up(uintptr_t v)
{
	return (v + 4095) & ~(uintptr_t)4095;
}

#endif
