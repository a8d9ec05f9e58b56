/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * near.bound is held by a process that vfork(2) made when that is killed: whoever waits for
 * it goes on, and the thread that was bound has its affinity again.
 */
#include "test.h"

#include "mm.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD 60 /* seconds */

static struct mm *mm;

static int setup(void **state)
{
	(void)state;
	mm = calloc(1, sizeof(*mm));
	if (mm == NULL)
		return 1;
	mm->near.wanted = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(mm);
	return 0;
}

/* A process that was killed, and not waited for. */
static pid_t killed(void)
{
	pid_t pid = fork();
	siginfo_t info;

	if (pid == 0)
		for (;;)
			pause();
	assert_true(pid > 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return pid;
}

static void leave(pid_t holder, uint32_t whom)
{
	mm->near.whom = whom;
	mm->near.bound = NEAR_HELD | (uint32_t)holder;
	alarm(GUARD);
	near_leave(mm);
	alarm(0);
	assert_int_equal(mm->near.bound, 0);
}

static void what_a_killed_process_held_is_free(void **state)
{
	pid_t pid = killed();

	(void)state;
	leave(pid, 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	leave(pid, 0);
}

static void the_thread_that_was_bound_is_as_it_was(void **state)
{
	struct near *near = &mm->near;
	struct cpu_mask now;
	unsigned cpu = 0;
	pid_t pid = killed();

	(void)state;
	memset(&near->mine, 0, sizeof(near->mine));
	memset(&near->one, 0, sizeof(near->one));
	assert_int_equal(sched_getaffinity(0, sizeof(near->mine), (cpu_set_t *)&near->mine), 0);
	while (!(near->mine.word[cpu / 64] >> cpu % 64 & 1))
		cpu++;
	near->one.word[cpu / 64] = (uint64_t)1 << cpu % 64;
	assert_int_equal(sched_setaffinity(0, sizeof(near->one), (cpu_set_t *)&near->one), 0);
	leave(pid, (uint32_t)getpid());
	memset(&now, 0, sizeof(now));
	assert_int_equal(sched_getaffinity(0, sizeof(now), (cpu_set_t *)&now), 0);
	assert_memory_equal(&now, &near->mine, sizeof(now));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_killed_process_held_is_free),
		cmocka_unit_test(the_thread_that_was_bound_is_as_it_was),
	};

	return cmocka_run_group_tests_name("near", tests, setup, teardown);
}
