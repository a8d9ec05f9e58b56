/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread that pages alone and its pager share a CPU (lib/near.h), also where
 * no hook tells that the one before it has ended.  And pagers run soon after they are
 * woken: their slices are short, and those of the program's threads as they were.
 */
#include "live.h"

#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>

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

/* struct sched_attr as the kernel first had it */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

#define SLICE 100000U /* ns: a pager's */

static struct attr attr_of(pid_t tid)
{
	struct attr a = {.size = 0};

	assert_int_equal(syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0), 0);
	return a;
}

static bool takes_slice(void)
{
	struct attr a = attr_of(0);

	a.size = sizeof(a);
	a.runtime = SLICE;
	return syscall(SYS_sched_setattr, 0, &a, 0) == 0 && attr_of(0).runtime == SLICE;
}

/* Whether a thread may choose its slice at all (Linux 6.12). */
static bool has_slices(void)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(takes_slice() ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status == 0;
}

/* The threads but this one are pagers; how many. */
static unsigned pagers(void (*check)(struct attr a))
{
	DIR *d = opendir("/proc/self/task");
	const struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		pid_t tid = atoi(e->d_name);

		if (tid == 0 || tid == gettid())
			continue;
		check(attr_of(tid));
		n++;
	}
	closedir(d);
	return n;
}

static void is_short(struct attr a)
{
	assert_int_equal(a.policy, SCHED_OTHER);
	assert_int_equal(a.runtime, SLICE);
}

static void is_batch(struct attr a)
{
	assert_int_equal(a.policy, SCHED_BATCH);
}

static unsigned with_pagers(void (*check)(struct attr a))
{
	struct fl_options o = live_options(LIMIT);
	struct fl *fl;
	unsigned n;

	o.pagers = 3;
	fl = live_armed(&o);
	n = pagers(check);
	assert_int_equal(fl_close(fl), 0);
	return n;
}

static void pagers_slices_are_short(void **state)
{
	const struct sched_param none = {0};
	struct attr before = attr_of(0), after;

	(void)state;
	if (has_slices())
		assert_int_equal(with_pagers(is_short), 3);
	after = attr_of(0);
	assert_int_equal(after.runtime, before.runtime);
	assert_int_equal(after.nice, before.nice);
	/* who chose another policy has it for pagers, too */
	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	assert_int_equal(with_pagers(is_batch), 3);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &none), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_thread_is_bound_soon),
		cmocka_unit_test(pagers_slices_are_short),
	};

	return cmocka_run_group_tests_name("near-api", tests, NULL, NULL);
}
