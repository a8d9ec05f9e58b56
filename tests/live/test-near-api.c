/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread that pages alone and its pager share a CPU (lib/near.h), also where
 * no hook tells that the one before it has ended.  Where that was not asked for the pager
 * goes to the CPU of a thread whose faults need no I/O.  With nothing to do it takes no CPU.
 */
#include "live.h"

#include <dirent.h>
#include <sched.h>

#define LIMIT (4 * MIB)
#define PAGES (8 * LIMIT / PG)
#define LONG 3000U   /* touches of the one that is bound first: which CPU is better is known then */
#define SOON 60U     /* of the next one; fewer than after which that is looked at again */
#define FIRST 1100UL /* first touches; after fewer a pager follows, and looks where the thread is */
#define THREADS 16U
#define QUIET 0.05 /* seconds of work of our own, in which a pager has none */

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

/* The threads of this process; how many. */
static unsigned threads(pid_t *tid, unsigned most)
{
	DIR *d = opendir("/proc/self/task");
	const struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		assert_true(n < most);
		tid[n++] = (pid_t)strtol(e->d_name, NULL, 10);
	}
	closedir(d);
	return n;
}

/* An armed runtime, and the one thread that came with it. */
static struct fl *with_pager(const struct fl_options *o, pid_t *pager)
{
	pid_t before[THREADS], after[THREADS];
	unsigned nbefore = threads(before, THREADS), found = 0;
	struct fl *fl = live_armed(o);
	unsigned nafter = threads(after, THREADS);

	for (unsigned i = 0; i < nafter; i++) {
		bool was = false;

		for (unsigned k = 0; k < nbefore; k++)
			was |= before[k] == after[i];
		if (was)
			continue;
		*pager = after[i];
		found++;
	}
	assert_int_equal(found, 1);
	return fl;
}

/* Nobody but the pager is bound: to the CPU that the thread is kept on, also when that changes. */
static void a_pager_follows_first_touches(void **state)
{
	struct fl_options o = live_options(4 * LIMIT);
	cpu_set_t may, one, its;
	size_t done = 0;
	int cpu = 0;
	struct fl *fl;
	pid_t pager;
	char *mem;

	(void)state;
	o.fault_around = PG;
	assert_int_equal(sched_getaffinity(0, sizeof(may), &may), 0);
	assert_true(CPU_COUNT(&may) >= 2);
	fl = with_pager(&o, &pager);
	mem = live_map(fl, 2 * FIRST);
	for (unsigned n = 0; n < 2; n++) {
		while (!CPU_ISSET(cpu, &may))
			cpu++;
		CPU_ZERO(&one);
		CPU_SET(cpu++, &one);
		assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
		while (done < (n + 1) * FIRST)
			mem[PG * done++] = 1;
		live_stats(fl);
		assert_int_equal(sched_getaffinity(pager, sizeof(its), &its), 0);
		assert_true(CPU_EQUAL(&its, &one));
	}
	assert_int_equal(sched_setaffinity(0, sizeof(may), &may), 0);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, 2 * FIRST * PG);
}

/* Nanoseconds of a CPU that a thread has had. */
static uint64_t had(pid_t tid)
{
	unsigned long long ns;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &ns), 1);
	fclose(f);
	return ns;
}

/* It looks out for an end of its I/O, and for the next fault, for a moment only. */
static void a_pager_with_nothing_to_do_sleeps(void **state)
{
	struct fl_options o = live_options(LIMIT);
	struct toucher t = {.most = SOON};

	(void)state;
	for (o.near = 0; o.near <= 1; o.near++) {
		pid_t pager;
		struct fl *fl = with_pager(&o, &pager);
		uint64_t before;
		double begun;

		t.mem = live_map(fl, PAGES);
		fill(t.mem);
		live_out(fl, t.mem, PAGES);
		/* the last that the pager does is to answer a fault by a read */
		touch(&t);
		assert_int_equal(t.wrong, 0);
		before = had(pager);
		begun = test_now();
		while (test_now() < begun + QUIET)
			;
		assert_true((double)(had(pager) - before) * 1e-9 < QUIET / 5);
		assert_int_equal(fl_close(fl), 0);
		munmap(t.mem, PAGES * PG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_thread_is_bound_soon),
		cmocka_unit_test(a_pager_follows_first_touches),
		cmocka_unit_test(a_pager_with_nothing_to_do_sleeps),
	};

	return cmocka_run_group_tests_name("near-api", tests, NULL, NULL);
}
