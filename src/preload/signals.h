/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signals.h - a signal that arrives while a hook works waits until it is done.
 *
 * A hook takes the mm lock, or a doorbell.  A handler that never came back to
 * it (siglongjmp(3), a cancellation) would keep them for ever, and one that
 * itself maps memory would wait for its own thread.  Blocking signals costs two
 * system calls for each of the program's, and a strict seccomp filter of
 * the program's own would kill it for them.  So they are put off instead:
 *
 * What the kernel knows as a signal's handler is a thunk of ours, and behind it
 * a record of what the program asked for.  The kernel stays the only place
 * that knows which action a signal has: a record never changes, so nothing of
 * it is wrong in a vfork child or after SA_RESETHAND, fork or a race of threads.
 * Outside hooks the thunk jumps to the program's handler.
 * Inside one, the signal is copied, the frame's mask is made to block all
 * signals, and the hook goes on.  Where the hook returns to the program
 * (entry.S), a frame like the kernel's is built: registers, vectors, mask and
 * alternate stack are those of the program right behind its system call, and
 * the one system call that enters the handler is the rt_sigreturn(2) that the
 * program makes anyway for each signal.
 *
 * The kernel stacks the frames of all signals that are pending, and one more
 * may come before a thunk's frame is gone back to: several signals wait then,
 * and as many frames are built, each on the entry of the handler below it.
 *
 * What the processor raises for an instruction (SIGSEGV and its like) is never
 * put off.
 *
 * Accepted: a program with more different actions than there are records has
 * its signals blocked around each hook from then on, as has one that uses a
 * shadow stack, which no made-up frame can satisfy.  A handler that was set
 * past our hooks (a system call in inline assembly) is not put off.  What comes
 * at once beyond SIGNALS_WAITING is queued again, with system calls: its handler
 * runs before those of the others, unless they block it.  Under a seccomp filter
 * that refuses these calls it is lost, and one line says so.
 */
#ifndef FL_SIGNALS_H
#define FL_SIGNALS_H

#include "entry-offsets.h"

#include <stdbool.h>
#include <stdint.h>

#define SIGNAL_RECORDS SIGNAL_THUNKS
#define SIGNALS_WAITING 16U /* of one thread.  Many would be a burden to each thread's stack */

/* What the program gave to rt_sigaction(2).  Written once; then `handler`, with release. */
struct signal_record {
	uintptr_t handler; /* 0: not set yet.  signals-entry.S knows that it is first */
	uint64_t flags;
	uint64_t mask;
	uint64_t restorer;
}; /* the size is a power of two: signals-entry.S */

/* As the kernel lays them out. */
struct signal_stack {
	uint64_t sp;
	uint32_t flags;
	uint32_t pad;
	uint64_t size;
};

struct signal_context {
	uint64_t flags;
	uint64_t link;
	struct signal_stack stack;
	uint64_t reg[23]; /* by the names of <sys/ucontext.h> */
	uint64_t fp;
	uint64_t reserved[8];
	uint64_t mask;
};

struct signal_frame {
	uint64_t restorer;
	struct signal_context context;
	uint64_t info[16];
};

#define SIGNAL_INFO_WORDS 6 /* of info: what the kernel ever sets; the rest is zero */

struct signal_waiting {
	uint32_t number;
	uint32_t record;
	uintptr_t frame; /* where the kernel had put it */
	uintptr_t sp;	 /* the stack of what it interrupted; 0: not all of this is set yet */
	uint64_t mask;	 /* and its mask, and alternate stack */
	struct signal_stack stack;
	uint64_t info[SIGNAL_INFO_WORDS];
};

/*
 * A thread's.  Written by the thread and by the handlers that interrupt it.
 * entry.S and signals-entry.S know the first four by their offsets.
 */
struct signal_state {
	uint32_t held;	      /* in a hook: signals wait */
	uint32_t waits;	      /* so many do; then all are blocked */
	uint64_t xfeatures;   /* of the kernel's frames: what xsave takes; 0: fxsave */
	uint64_t fp_size;     /* of their floating-point part */
	uint64_t fp_words[6]; /* the kernel's own in that part */
	/* of one of the frames: what is alike in all of them counts */
	struct signal_context context;
	struct signal_waiting waiting[SIGNALS_WAITING];
};

extern __thread struct signal_state signal_state
	__attribute__((tls_model("initial-exec"), visibility("hidden")));
extern struct signal_record signal_records[SIGNAL_RECORDS];

/* Signals are put off; false: they have to be blocked around a hook.  Atomic; once false, always. */
extern bool signal_waiting;

/* Around what a handler must not interrupt, in a hook that entry.S called. */
static inline void signal_hold(void)
{
	signal_state.held = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void signal_release(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	signal_state.held = 0;
}

void signal_init(void);

/* rt_sigaction(2), with its arguments and its result. */
long signal_action(const long *arg);

#endif
