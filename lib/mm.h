/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mm.h - one runtime's managed address space (the kernel's mm_struct).
 *
 * Locks.  mm->lock guards everything below that does not say otherwise.
 * While nothing is armed application threads take it (no handler may run); once
 * armed only pagers do, on stacks of their own: an application thread that
 * held it could fault on its own stack and wait for a pager that waits for the
 * lock.  A pager never sleeps with it: it is dropped around blkio_wait(), and
 * whatever was learnt before must be looked at again after.
 *
 * Frames.  What the limit bounds is
 *	PRESENT entries + frames in staging blocks + the read buffer
 *	+ the pool of compressed pages + cached pages of files
 *	+ the buffer of a snapshot + where reads of files land (landing.h),
 * checked by reclaim_make_room() before any frame is added.  Spare frames
 * (staging.h) are within it too, and the first to go.
 */
#ifndef FL_MM_H
#define FL_MM_H

#include "blkio.h"
#include "choose.h"
#include "faultline.h"
#include "fill.h"
#include "group.h"
#include "hop.h"
#include "lock.h"
#include "log.h"
#include "near.h"
#include "open.h"
#include "pagecache.h"
#include "peer.h"
#include "pool.h"
#include "pte.h"
#include "publish.h"
#include "readahead.h"
#include "region.h"
#include "snapshot.h"
#include "staging.h"
#include "swap-area.h"
#include "tier.h"
#include "traits.h"
#include "workingset.h"
#include "uffd-abi.h"

#include <stdbool.h>
#include <stdint.h>

#define PAGERS_MAX 16U
#define PAGER_MSGS 64U
#define DEFER_MAX 256U
#define FL_WINDOW_MAX 512U /* pages: the largest fault-around and read-ahead window */

/* The counters of struct fl_stats that are not derived from somewhere else. */
struct mm_counters {
	uint64_t faults_minor, faults_major;
	uint64_t faults_zero, faults_anon, faults_wp, faults_staged, faults_swap, faults_filled;
	uint64_t faults_stale, faults_around;
	uint64_t faults_in_thread;
	uint64_t file_minor, file_major, file_reads, file_read_pages, file_writes, file_write_pages;
	uint64_t file_errors, file_dropped;
	uint64_t reads, read_pages, writes, write_pages, io_errors, csum_errors;
	uint64_t readahead_hits, readahead_misses;
	uint64_t evicted, dropped_clean, evict_busy, frames_reused;
	uint64_t faults_compressed, compress_rejects, written_through;
	uint64_t snapshot_pages, snapshot_saved, snapshot_faults, snapshot_waits, snapshot_pause;
	uint64_t snapshot_early;
	uint64_t resident_max;
	/* as of the last round of a pager */
	uint64_t slots_total, slots_used, bookkeeping, compressed_bytes, pool;
	uint64_t latency_ns; /* sum of what latency counts */
	uint64_t latency[FL_LATENCY_BUCKETS];
};

/* Written under the mm lock, read by anyone: a torn counter is all that must not be seen. */
static inline void stat_add(uint64_t *c, uint64_t d)
{
	__atomic_store_n(c, *c + d, __ATOMIC_RELAXED);
}

struct mm;

/* A fault that was read and could not be answered yet; its thread waits in the kernel. */
struct fault {
	struct peer *peer; /* whose thread; NULL: ours */
	uintptr_t addr;
	bool write; /* a write access */
	bool wp;    /* to a write-protected page that is there */
	bool again; /* no touch, or one that was counted before */
	uint32_t tid;
	uint64_t t0; /* when it was read, ns */
};

/* One pager thread.  Its own, but for state and tid. */
struct pager {
	struct mm *mm;
	struct blkio *io; /* used by this thread alone; opened and closed on it */
	unsigned index;
	uint32_t tid;	  /* futex: the kernel clears it when the thread is gone */
	uint32_t state;	  /* futex: enum pager_state, release/acquire */
	int err;	  /* why it did not start; set before state */
	uint32_t started; /* it reached its loop; release/acquire */
	bool stop;	  /* HOP_CLOSE: leave the loop */
	bool readable;	  /* messages may wait: what the last sleep ended with */
	bool kin;	  /* kin_fd was readable then */
	bool unwatched;	  /* neither was looked at then */
	bool answered;	  /* a read answered a fault since the last sleep */
	uint32_t placed;  /* pages that ended reads were put in place since messages were read */
	bool streaming;	  /* the fault that is being answered is of a stream that is read ahead */
	bool pumped;	  /* doorbells may have been passed over (pager_pump) */
	void *stack;
	size_t stack_size;
	size_t tls_size; /* at the stack's bottom: the thread block */
	struct near_pager near;
	uint8_t bell[HOP_SLOTS]; /* of faults that are done and not answered yet (hop.c) */
	uint32_t nbells;
};

enum pager_state { PAGER_STARTING, PAGER_RUNNING, PAGER_FAILED };

struct mm_options {
	enum fl_engine engine;
	enum fl_wp wp;
	unsigned pagers;
	uint32_t fault_around;	   /* pages */
	uint32_t readahead;	   /* pages */
	uint32_t dirty_expire;	   /* ticks of FILE_TICK */
	uint32_t dirty_background; /* per cent of the limit */
	char swap_dir[200];
};

struct mm {
	struct published published; /* first: found at the beginning of the mapping; constant */
	struct lock lock;
	uint32_t armed;	    /* written under the lock with release; acquire loads elsewhere: 1 once
			     * pagers run and every region is registered */
	uint32_t pagers_up; /* pagers that run; the descriptors below are theirs */
	unsigned flags;	    /* MM_PRELOAD, MM_LEFT, MM_SERVER, MM_LOOKED; constant */
	bool confined;	    /* no pager can be started any more */
	bool confined_said;
	bool failed_said; /* pagers could not be started or armed, and it was said why */
	char *start_why;  /* while pagers start: where the reason goes if they do not, or NULL */
	size_t start_why_size;
	struct mm_options opt; /* constant */
	struct log_sink sink;  /* constant */

	struct region_tree regions; /* readable without the lock by region_overlaps() */
	/* MM_LEFT: private anonymous memory that is not managed; verify.h */
	struct region_tree left;
	uint32_t left_changing;	  /* atomic: mappings that are there and not in it for a moment */
	uintptr_t brk_start, brk; /* the managed part of the heap; 0: not known yet */
	bool lock_future;	  /* mlockall(MCL_FUTURE) */

	uint64_t limit;	      /* pages */
	uint64_t lent;	      /* pages on top, while memory that is let go is brought back */
	struct group *group;  /* NULL: the limit is nobody else's (grant.h) */
	uint32_t grant_child; /* member of the child that is being forked */
	bool grant_held;      /* the limit stays what it is: a fork makes room */
	bool grant_said;      /* that a fork was refused */
	uint64_t grant_next;  /* when members that ended are looked for again, ns, */
	uint64_t grant_pause; /* and how long until then */
	uint64_t grant_ask;   /* when others are asked again */
	struct pte_table ptes;
	struct fill_table fills;
	struct swap swap;
	struct tier tier;
	unsigned nspec;
	bool private_area; /* open one when there is none */
	bool swap_full;	   /* an allocation failed since a slot was last freed */
	bool oom_said;
	uint64_t stuck_since; /* fault.c: when a fault last found no frame to take; 0: none */
	uint32_t stuck_looks; /* and how often since then */

	vpn_t hand;	/* reclaim.c: where the clock goes on */
	bool balancing; /* reclaim.c: frames are being freed ahead of the faults */
	bool filling;	/* new memory is touched in order, and nothing read back since */
	struct readahead ra;
	struct files files;
	struct peers peers;  /* MM_SERVER */
	struct share *share; /* share.h: mappings that the store's server pages; NULL: none yet */
	struct traits_table traits;
	struct hold_sync *holding; /* hold.h: the fl_sync() whose turn it is */
	struct prefetch *prefetch; /* prefetch.h: what was asked for and is not all there yet */
	struct snapshots snaps;
	struct file_choice choice; /* MM_PRELOAD */
	unsigned ndefer;
	unsigned pumping; /* calls that let other work go on (pager_pump) */

	int uffd;    /* in the pagers' descriptor table, as all below */
	int device;  /* /dev/userfaultfd; -1: the system call served */
	int proc_fd; /* /proc */
	int wait_fd; /* what pagers sleep on: uffd, or (MM_SERVER) an epoll of it and of all peers */
	int kin_fd;  /* and an epoll of all else that they hear of, which is seldom; -1: none */
	int pagemap_fd;
	int pidfd;
	int mem_fd;	    /* /proc/self/mem */
	int maps_fd;	    /* /proc/self/maps */
	int in_thread_uffd; /* in-thread.h; -1: none */
	int in_thread_own;  /* the same in the program's table; constant once that is made */
	/* atomic: enum in_thread_state; threads in the handler; of these, those that ask a pager */
	uint32_t in_thread_state, in_thread_inside, in_thread_asking;
	char *in_thread_page; /* of the handler: a page to make */
	uint64_t csum_key;
	bool batch_drop; /* process_madvise() takes MADV_DONTNEED for ourselves */
	bool closing;	 /* pages come back, nothing is evicted any more */

	struct lock fork_lock; /* RANK_FORK: one fork at a time; guards */
	struct fork_job *fork; /* what caller, pager and child share of it (fork.c) */
	struct store *store; /* store-client.c: where the areas come from; NULL: not from a store */
	struct kin *kin;     /* fork.c: parent and children, to be told of their end; the mm lock */
	struct near near;
	struct hop hop;
	struct pool io_pool; /* struct swap_io */
	struct mm_counters stats;
	struct pager *pager[PAGERS_MAX];

	/* large, and not touched before pagers start: the rest is two pages */
	struct staging staging;
	struct trail trail;		       /* in memory, */
	struct trail file_trail, file_waiting; /* in files: mapped, and not so any more */
	struct workingset ws;
	struct fl_swap_spec spec[FL_SWAP_MAX]; /* areas to open then */
	char spec_path[FL_SWAP_MAX][256];
	struct fault defer[DEFER_MAX];
};

static inline bool mm_tiered(const struct mm *mm)
{
	return mm->tier.on;
}

static inline bool mm_armed(const struct mm *mm)
{
	/* Pairs with the release store at the end of pager_arm(): who sees 1 sees the hop's memory. */
	return __atomic_load_n(&mm->armed, __ATOMIC_ACQUIRE) != 0;
}

static inline vpn_t vpn_of(uintptr_t addr)
{
	return addr >> PAGE_SHIFT;
}

static inline uintptr_t addr_of(vpn_t vpn)
{
	return (uintptr_t)vpn << PAGE_SHIFT;
}

/* Frames that count against the limit, the read buffer aside. */
static inline uint64_t mm_frames(const struct mm *mm)
{
	return mm->ptes.count[PTE_PRESENT] + mm->staging.frames + tier_pages(mm) + mm->files.frames;
}

/* Of these, the buffer of a snapshot may have so many: it was made for another limit. */
static inline uint64_t mm_snapshot_pages(const struct mm *mm)
{
	uint64_t part = (mm->limit + mm->lent - mm->staging.buffer_pages) / 4;

	return mm->snaps.pages < part ? mm->snaps.pages : part;
}

/* Frames that may be held beside the read buffer, where files land, and the buffer of a snapshot. */
static inline uint64_t mm_budget(const struct mm *mm)
{
	return mm->limit + mm->lent - mm->staging.buffer_pages - mm->files.landing.pages -
	       mm_snapshot_pages(mm);
}

/* Pages of a budget that may be locked: a part of the frames stays free of them, and so does the tier. */
static inline uint64_t mm_lockable(const struct mm *mm, uint64_t budget)
{
	uint64_t most = budget - budget / 4;
	uint64_t tier = tier_pages_most(mm);

	return most > tier ? most - tier : 0;
}

#define mm_log(mm, level, ...) log_line(&(mm)->sink, level, __VA_ARGS__)

#endif
