/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * near.h - a pager and the thread that pages alone, on one CPU.
 *
 * While one thread takes all faults it and the pager run in turn, never at
 * once.  On two CPUs each hand-over wakes an idle one, and every page that is
 * taken from the application interrupts the other; on one CPU a hand-over is a
 * switch.  But the scheduler puts a thread that is woken on an idle CPU where
 * there is one, so both are bound to one CPU for as long as that goes on.
 *
 * Which one: where the thread is, unless reads are answered a tenth sooner on
 * another of a few that were tried, as on the one that a disk interrupts.
 *
 * What the program sees.  Its hooks call near_leave() before whatever could
 * tell of the binding or hand it on: sched_getaffinity(2), sched_setaffinity(2),
 * clone, fork, exec.  Where nothing is hooked (the API) it is asked for, and
 * each second at least all threads that have the binding lose it.
 *
 * Concurrency.  near.bound is taken (NEAR_HELD) by the thread that changes an affinity:
 * the pager, with the mm lock held, or a thread of the program in near_leave(), of a
 * process that vfork(2) made, too.  If that is killed meanwhile, who waits for it puts
 * back what it took: to give back an affinity twice does no harm.
 * near.calls counts the latter: a pager binds a thread only after FOLLOW_AFTER
 * faults in a row of that thread alone during which the count stood still, and
 * looks at it again when it has taken near.bound; near_leave() counts first and
 * looks at near.bound after (both sequentially consistent: one of the two sees
 * the other).  So between near_leave() and the call that follows it no binding
 * begins: there are not that many pages for the thread to fault on.
 */
#ifndef FL_NEAR_H
#define FL_NEAR_H

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pager;

#define NEAR_CPUS 1024U
#define NEAR_HELD 0x80000000U /* with the number of the thread that holds it */
#define NEAR_LATER 2U

struct cpu_mask {
	uint64_t word[NEAR_CPUS / 64];
};

struct near {
	bool wanted;	/* constant */
	uint32_t off;	/* atomic: 0; 1: it can no more be hidden; NEAR_LATER: it cannot be yet */
	uint32_t calls; /* atomic: near_leave() so far */
	uint32_t bound; /* atomic: the thread's number, 0 or NEAR_HELD and who holds it; guards */
	uint32_t whom;	/* the thread that was bound last */
	struct cpu_mask mine; /* what its affinity was */
	struct cpu_mask one;  /* and is */
};

#define NEAR_TRIED 4U

/* A CPU that was tried, and how long reads took there, in ns from the fault to the answer. */
struct near_cpu {
	uint32_t cpu;
	uint32_t took; /* 0: not known yet */
};

/* A pager's own view of whom it serves. */
struct near_pager {
	struct cpu_mask home; /* where it may run when it is not bound */
	int cpu;	      /* the one that it is bound to; -1: none */
	uint32_t whom;	      /* the thread that it is bound with, or to whose CPU */
	uint32_t tid;	      /* who faulted last */
	uint32_t same;	      /* faults in a row of that thread; without I/O unless near.wanted */
	uint32_t unlike;      /* bound: faults since then that were not, or of another than whom */
	uint32_t calls;	      /* near.calls when the row began */
	bool waits;	      /* the thread that is bound waits for a read */
	bool move;	      /* another CPU is to be tried, or is better */
	struct cpu_mask may;  /* where that thread may be */
	struct near_cpu tried[NEAR_TRIED];
	uint32_t ntried;
	uint32_t reads;	     /* answered on this CPU since it was looked at, and */
	uint64_t took;	     /* how long all of them took, ns */
	uint64_t tried_at;   /* the first of the table, ns */
	int sched_fd[2];     /* how long thread and pager waited for the CPU; -1: not open */
	uint64_t delay[2];   /* as of */
	uint64_t checked;    /* then, ns */
	uint64_t since;	     /* when the binding began, ns */
	uint64_t faulted;    /* when the thread that is bound last did, ns */
	uint64_t not_before; /* ns: others use the CPU */
	uint64_t pause;	     /* ns: for how long, the next time */
};

/* On the thread that is about to make the pager. */
void near_init(struct near_pager *n);

/*
 * A fault of thread tid was taken; waits: for I/O.  On a pager, with the mm
 * lock held.  When nothing is to be bound but the pager, it follows a thread
 * that faults without I/O.  While a snapshot is being taken it binds nobody.
 */
void near_fault(struct pager *p, uint32_t tid, bool waits, uint64_t now);

/* The same of a fault that many pages are read with: both have work for a CPU each. */
void near_stream(struct pager *p);

/* A read answered a fault of the thread that is bound, ns after it was taken. */
void near_answered(struct pager *p, uint64_t ns);

/* Nobody is bound any more: the pager has other work for a CPU of its own, */
void near_apart(struct pager *p);
/* or no fault came for NEAR_IDLE_NS, the longest that a pager sleeps that has bound a thread. */
#define NEAR_IDLE_NS 20000000U
void near_idle(struct pager *p);

/* Whether pager and thread share a CPU, so that the pager may not keep it for nothing. */
bool near_binds(const struct pager *p);

/*
 * On a thread of the program: nobody is bound, and whoever calls the kernel next is not
 * before it did.
 */
void near_leave(struct mm *mm);

/* The same for ever: what would have to be undone could not be. */
void near_end(struct mm *mm);

/*
 * Before any pager: nobody is to be bound before near_begin(), which does nothing
 * after near_end(); and whether it is waited for.
 */
void near_later(struct mm *mm);
void near_begin(struct mm *mm);
bool near_waits(const struct mm *mm);

/* In a forked child, which has the caller of fork(2) alone. */
void near_forked(struct mm *mm);

#endif
