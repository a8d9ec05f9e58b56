/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock.h - ranked locks on bare futexes.
 *
 * A thread takes locks in rising rank only; debug builds (--enable-debug)
 * check it and abort with one line.  A lock works on any thread, pagers
 * included, and makes no call but futex(2), and that only when contended.
 */
#ifndef FL_LOCK_H
#define FL_LOCK_H

#include <stdint.h>

/* Every lock of the project, in the order in which they may be taken. */
enum lock_rank {
	RANK_NONE = 0,
	RANK_OPENED, /* at-exit.c: the runtimes that are open */
	RANK_PATCH,  /* preload: the list of patched system-call sites */
	RANK_FORK,   /* mm.h: one fork of an armed process at a time */
	RANK_MM,     /* mm.h: a runtime's regions, page entries, staging, areas */
	RANK_SOURCE, /* source.h: the I/O that waits for threads of the program's */
	RANK_API,    /* api.h: a program's open backings, and the thread that asks it */
};

struct lock {
	uint32_t word; /* futex: 0 free, 1 held, 2 held with waiters; atomics only */
	uint32_t rank; /* enum lock_rank, set once */
};

#define LOCK_INIT(r)                                                                               \
	{                                                                                          \
		.word = 0, .rank = (r)                                                             \
	}

void lock_init(struct lock *l, enum lock_rank rank);
void lock_take(struct lock *l);
void lock_drop(struct lock *l);

#ifdef FL_DEBUG
void lock_assert_held(const struct lock *l);
#else
static inline void lock_assert_held(const struct lock *l)
{
	(void)l;
}
#endif

/* Sleep while *word == val; may wake early.  timeout_ns 0: no timeout. */
void futex_wait(uint32_t *word, uint32_t val, uint64_t timeout_ns);
void futex_wake(uint32_t *word, int n);

#endif
