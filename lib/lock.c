/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lock.c - ranked locks on bare futexes; see lock.h.
 *
 * The three-state futex mutex: 0 free, 1 held, 2 held and somebody may sleep.
 * The acquire exchange in lock_take() pairs with the release exchange in
 * lock_drop(): what the last holder wrote is seen by the next.
 */
#include "lock.h"

#include "log.h"
#include "sys.h"

#include <linux/futex.h>
#include <time.h>

#ifdef FL_DEBUG
/* The locks that this thread holds.  Initial-exec, so that a pager's zeroed
 * block below its thread pointer serves as well as the C library's. */
#define HELD_MAX 8
static __thread struct {
	const struct lock *lock[HELD_MAX];
	unsigned n;
} held __attribute__((tls_model("initial-exec")));

static void rank_push(const struct lock *l)
{
	if (held.n != 0 && held.lock[held.n - 1]->rank >= l->rank)
		log_fatal("lock rank %u taken while %u is held", l->rank,
			  held.lock[held.n - 1]->rank);
	if (held.n == HELD_MAX)
		log_fatal("too many locks held");
	held.lock[held.n++] = l;
}

static void rank_pop(const struct lock *l)
{
	if (held.n == 0 || held.lock[held.n - 1] != l)
		log_fatal("lock rank %u dropped out of order", l->rank);
	held.n--;
}

void lock_assert_held(const struct lock *l)
{
	for (unsigned i = 0; i < held.n; i++)
		if (held.lock[i] == l)
			return;
	log_fatal("lock rank %u is not held", l->rank);
}
#else
static inline void rank_push(const struct lock *l)
{
	(void)l;
}
static inline void rank_pop(const struct lock *l)
{
	(void)l;
}
#endif

void lock_init(struct lock *l, enum lock_rank rank)
{
	l->word = 0;
	l->rank = rank;
}

void futex_wait(uint32_t *word, uint32_t val, uint64_t timeout_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(timeout_ns / 1000000000U),
		.tv_nsec = (long)(timeout_ns % 1000000000U),
	};

	SYS4(futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, val, timeout_ns != 0 ? &ts : NULL);
}

void futex_wake(uint32_t *word, int n)
{
	SYS3(futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n);
}

void lock_take(struct lock *l)
{
	uint32_t free_word = 0;

	rank_push(l);
	if (__atomic_compare_exchange_n(&l->word, &free_word, 1, 0, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE) != 0)
		futex_wait(&l->word, 2, 0);
}

void lock_drop(struct lock *l)
{
	rank_pop(l);
	if (__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2)
		futex_wake(&l->word, 1);
}
