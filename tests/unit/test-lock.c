/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ranked locks: exclusion and wake-up between threads, and that debug builds
 * end a program that breaks the order.
 */
#include "test.h"

#include "lock.h"

#include <pthread.h>

#define THREADS 8
#define ROUNDS 20000

static struct lock counter_lock = LOCK_INIT(RANK_MM);
static unsigned long counter;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		lock_take(&counter_lock);
		/* a volatile load and store, so that two threads inside lose a count */
		*(volatile unsigned long *)&counter = *(volatile unsigned long *)&counter + 1;
		lock_drop(&counter_lock);
	}
	return NULL;
}

static void excludes(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(counter, (unsigned long)THREADS * ROUNDS);
	assert_int_equal(counter_lock.word, 0);
}

static void init_frees(void **state)
{
	struct lock l;

	(void)state;
	memset(&l, 0xff, sizeof(l));
	lock_init(&l, RANK_PATCH);
	assert_int_equal(l.word, 0);
	assert_int_equal(l.rank, RANK_PATCH);
	lock_take(&l);
	assert_int_equal(l.word, 1);
	lock_assert_held(&l);
	lock_drop(&l);
	assert_int_equal(l.word, 0);
}

static void futex_times_out(void **state)
{
	uint32_t word = 7;

	(void)state;
	futex_wait(&word, 7, 1000000);
	futex_wait(&word, 8, 0); /* differs: returns at once */
	futex_wake(&word, 1);
	assert_int_equal(word, 7);
}

static struct lock low = LOCK_INIT(RANK_PATCH), high = LOCK_INIT(RANK_MM);

static void take_rising(void *arg)
{
	(void)arg;
	lock_take(&low);
	lock_take(&high);
	lock_assert_held(&low);
	lock_drop(&high);
	lock_drop(&low);
}

static void rising_is_allowed(void **state)
{
	char text[256];
	int status = in_child(take_rising, NULL, text, sizeof(text));

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_string_equal(text, "");
}

#ifdef FL_DEBUG
static void take_falling(void *arg)
{
	(void)arg;
	lock_take(&high);
	lock_take(&low);
}

static void take_twice(void *arg)
{
	(void)arg;
	lock_take(&low);
	lock_take(&low);
}

static void drop_crossed(void *arg)
{
	(void)arg;
	lock_take(&low);
	lock_take(&high);
	lock_drop(&low);
}

static void drop_free(void *arg)
{
	(void)arg;
	lock_drop(&low);
}

static void assert_free(void *arg)
{
	(void)arg;
	lock_assert_held(&low);
}

static void violations_abort(void **state)
{
	static const struct {
		void (*fn)(void *);
		const char *says;
	} cases[] = {
		{take_falling, "faultline: lock rank 2 taken while 4 is held\n"},
		{take_twice, "faultline: lock rank 2 taken while 2 is held\n"},
		{drop_crossed, "faultline: lock rank 2 dropped out of order\n"},
		{drop_free, "faultline: lock rank 2 dropped out of order\n"},
		{assert_free, "faultline: lock rank 2 is not held\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];
		int status = in_child(cases[i].fn, NULL, text, sizeof(text));

		assert_string_equal(text, cases[i].says);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_frees),	    cmocka_unit_test(excludes),
		cmocka_unit_test(futex_times_out),  cmocka_unit_test(rising_is_allowed),
#ifdef FL_DEBUG
		cmocka_unit_test(violations_abort),
#endif
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
