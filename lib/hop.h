/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hop.h - how an application thread hands a call to a pager.
 *
 * The thread writes the call into a slot of our own memory and touches the
 * slot's doorbell: a page that is registered with the userfaultfd and absent.
 * The fault wakes a pager, which does the call, stores the result and fills
 * the doorbell's page; the touch ends and the thread reads the result.
 *
 * So one wait serves faults and calls, and the thread holds no lock.  Signals
 * are blocked meanwhile, or put off by the preload library (MM_PRELOAD): a
 * handler that never came back would keep the slot.  A filled doorbell is
 * emptied again before its slot's next use, many at a time, by a pager: when
 * half of them are filled, or when a thread that finds none touches a kick.
 *
 * There are two kicks, pages like doorbells, of which h->kick names the one
 * that is absent.  The pager that reads its fault empties the doorbells and
 * the other kick, names that one, and fills this one: who read the old name
 * does not wait, and looks for a slot again.  Kicks change under the mm lock,
 * so that an absent kick whose fault is being answered is the named one.
 * Threads thus make no system call for want of a doorbell: a strict seccomp
 * filter might not let them.
 *
 * A slot's state is its lock; "exchange" is a compare and exchange, acquire and
 * release:
 *
 *   FREE ──▶ OWNED       the thread that takes it, by exchange
 *   OWNED ──▶ POSTED     that thread (release; pairs with the next)
 *   POSTED ──▶ RUNNING   a pager, by exchange: several messages for a touch make one call
 *   RUNNING ──▶ DONE     a pager, at once or, of HOP_LATER and HOP_FAULT, in a later round
 *                        (release; pairs with the thread's acquire)
 *   DONE ──▶ RUNG        the thread, which has the result (release; pairs with the next)
 *   RUNG ──▶ EMPTYING    a pager, by exchange, before it empties the doorbell
 *   EMPTYING ──▶ FREE    that pager; to RUNG again where madvise(2) refused
 */
#ifndef FL_HOP_H
#define FL_HOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mm;
struct pager;

#define HOP_SLOTS 128U

enum hop_op {
	HOP_MMAP,
	HOP_MUNMAP,
	HOP_MREMAP,
	HOP_MPROTECT,
	HOP_MADVISE,
	HOP_MLOCK,
	HOP_MUNLOCK,
	HOP_BRK,
	HOP_FLAGS,
	HOP_FORGET,
	HOP_REGISTER,
	HOP_UNREGISTER,
	HOP_SWAPON,
	HOP_SWAPOFF,
	HOP_SET_LIMIT,
	HOP_PAGE_STATE,
	HOP_LEFT,
	HOP_VERIFY,
	HOP_ARM,
	HOP_CLOSE,
	HOP_FORK,
	HOP_MMAP_FILE,
	HOP_MSYNC,
	HOP_SYNC_RANGE,
	HOP_TRUNCATE,
	HOP_REMOVE,
	HOP_BACKING_OPEN,
	HOP_BACKING_CLOSE,
	HOP_FILES_CLOSE,
	HOP_SOURCE_DONE,
	HOP_RUN, /* a function of the caller's: hop_run() */
	HOP_HOLD_SYNC,
	HOP_PREFETCH,
	HOP_TRY,
	HOP_REGION_SET,
	HOP_ERROR_DONE,
	HOP_IN_THREAD,
	HOP_FAULT,
	HOP_SNAPSHOT,
	HOP_RESIZED,
	HOP_RESIDENT,
	HOP_REMAP_PAGES,
	HOP_WRITE_OUT,
};

/* The result of a call that is answered by hop_late(). */
#define HOP_LATER INT64_MIN

enum hop_state { HOP_FREE, HOP_OWNED, HOP_POSTED, HOP_RUNNING, HOP_DONE, HOP_RUNG, HOP_EMPTYING };

struct hop_slot {
	uint32_t state; /* enum hop_state */
	uint32_t op;
	long arg[7];
	long result;
} __attribute__((aligned(128)));

struct hop {
	struct hop_slot *slot; /* HOP_SLOTS */
	char *bell;	       /* HOP_SLOTS pages, and the kicks behind them */
	uint32_t rung;	       /* slots in state RUNG, about; atomic */
	uint32_t kick;	       /* the absent kick, 0 or 1; written under the mm lock, atomic */
	bool kicked;	       /* and its fault was read, and waits; under the mm lock */
	uint32_t later; /* calls of HOP_FAULT that I/O or a frame will answer; under the mm lock */
};

int hop_init(struct mm *mm); /* on a pager, before anything is armed */

/* In a forked child: doorbells of its own; those of the parent were not inherited. */
int hop_forked(struct mm *mm);

/*
 * When no pager and no caller is left: a caller that was answered still has
 * the touch of its doorbell to finish, after the pager that answered has gone.
 */
void hop_fini(struct mm *mm);

/* On an application thread of a mm whose pagers run.  The call's result or -errno. */
long hop_call(struct mm *mm, enum hop_op op, long a, long b, long c, long d, long e, long f,
	      long g);

/* Hand over a fault of the calling thread, whose signals are blocked: HOP_FAULT. */
long hop_fault(struct mm *mm, uintptr_t addr, bool write, bool wp);

/* Have fn(p, arg) called on a pager, with the mm lock held; neither is managed memory. */
long hop_run(struct mm *mm, long (*fn)(struct pager *p, void *arg), void *arg);

/* Whether a fault address is a doorbell's or a kick's. */
bool hop_is_bell(const struct mm *mm, uintptr_t addr);

/*
 * On a pager, with the mm lock held, for a fault that hop_is_bell(): answer it
 * if it is a kick's, false if it is a doorbell's.
 */
bool hop_kicked(struct mm *mm, uintptr_t addr);

/*
 * From within a call: hear of the end of I/O that is told by calls of its own
 * (HOP_SOURCE_DONE), which the other one may wait for, of memory that was replaced (REGION_HELD),
 * and of the end of a truncation, before which no frame comes of what it cuts off; and see to
 * HOP_WRITE_OUT, whose caller that I/O may wait for.  True: of some.
 */
bool hop_serve_ends(struct pager *p);

enum hop_served { HOP_A_CALL, HOP_A_FAULT, HOP_A_FAULT_THAT_WAITS };

/* On a pager, with the mm lock held: do the call behind a doorbell; what it was. */
enum hop_served hop_serve(struct pager *p, uintptr_t addr);

/* Faults that were handed to a pager and wait for nothing any more are done; after each round. */
void hop_serve_faults(struct pager *p);

/* Let the threads go on whose faults are done; without the mm lock. */
void hop_answer_faults(struct pager *p);

/* Answer a call whose result was HOP_LATER. */
void hop_late(struct mm *mm, struct hop_slot *s, long result);

/* Do it once more, and answer it unless its result is that again; hop_passed_over() is to follow. */
void hop_again(struct pager *p, struct hop_slot *s);

/* The same as hop_serve(), after work that let others go on (pager_pump): calls whose doorbells were passed over. */
void hop_passed_over(struct pager *p);

#endif
