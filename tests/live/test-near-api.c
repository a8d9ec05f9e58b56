/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread that pages alone and its pager share a CPU (lib/near.h), also where
 * no hook tells that the one before it has ended.
 */
#include "live.h"

#include <sched.h>

#define LIMIT (4 * MIB)
#define PAGES (8 * LIMIT / PG)
#define LONG 3000U /* touches of the one that is bound first: which CPU is better is known then */
#define SOON 60U   /* of the next one; fewer than after which that is looked at again */

struct toucher {
	char *mem;
	unsigned most;
	bool bound;
	size_t wrong;
};

static bool has_one_cpu(void)
{
	cpu_set_t now;

	CPU_ZERO(&now);
	return sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_COUNT(&now) == 1;
}

static void *touch(void *arg)
{
	struct toucher *t = arg;
	uint64_t s = t->most;

	for (unsigned i = 0; i < t->most; i++) {
		size_t p = (s = s * 6364136223846793005U + 1) >> 33;

		p %= PAGES;
		t->wrong += live_page(t->mem, p)[1] != live_word(1000003 + p, 1);
	}
	t->bound = has_one_cpu();
	return NULL;
}

static void *fill(void *arg)
{
	live_fill(arg, 0, PAGES, 1);
	return NULL;
}

static void run(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
	pthread_join(thread, NULL);
}

/* On a busy machine a binding is given up, so one of some tries is enough. */
static bool both_are_bound(void)
{
	struct fl_options o = live_options(LIMIT);
	struct toucher t[2] = {{.most = LONG}, {.most = SOON}};
	struct fl *fl;

	o.near = 1;
	fl = live_armed(&o);
	t[0].mem = t[1].mem = live_map(fl, PAGES);
	/* this thread touches nothing: else it were bound, and what it starts */
	run(fill, t[0].mem);
	run(touch, &t[0]);
	if (t[0].bound)
		run(touch, &t[1]);
	assert_int_equal(t[0].wrong + t[1].wrong, 0);
	assert_int_equal(fl_close(fl), 0);
	munmap(t[0].mem, PAGES * PG);
	return t[1].bound;
}

static void the_next_thread_is_bound_soon(void **state)
{
	(void)state;
	until(both_are_bound());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_thread_is_bound_soon),
	};

	return cmocka_run_group_tests_name("near-api", tests, NULL, NULL);
}
