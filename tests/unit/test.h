/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test.h - cmocka with the headers that it wants before it, and what all tests share.
 */
#ifndef FL_TEST_H
#define FL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * How long a test waits for what is there in a moment, however busy the machine
 * is: a guard against hangs, and below TEST_TIMEOUT.
 */
#define HANG_SECONDS 300

/* Seconds, of a clock that only goes forward. */
static inline double test_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Others have their turn: what comes at once is seen at once, what takes longer is looked at each ms. */
static inline void test_yield(unsigned times)
{
	if (times < 1000)
		sched_yield();
	else
		poll(NULL, 0, 1);
}

/* Until the condition holds; the test fails when it does not come in so many seconds. */
#define until_within(seconds, cond)                                                                \
	do {                                                                                       \
		double end_ = test_now() + (seconds);                                              \
                                                                                                   \
		for (unsigned times_ = 0; !(cond); times_++) {                                     \
			if (test_now() > end_)                                                     \
				fail_msg("waited %d s for: %s", (int)(seconds), #cond);            \
			test_yield(times_);                                                        \
		}                                                                                  \
	} while (0)

#define until(cond) until_within(HANG_SECONDS, cond)

/* Nothing of this case can be tried here: it says why, and has not passed. */
static inline void test_skip(const char *why)
{
	print_message("# skipped: %s\n", why);
	skip();
}

/* In a child a failed assertion must end the child: call this first there. */
static inline void test_child(void)
{
	setenv("CMOCKA_TEST_ABORT", "1", 1);
}

/* Wait for a child, whose end must be a good one. */
static inline void test_reap(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("a child's wait status is %x", (unsigned)status);
}

/*
 * Run fn(arg) in a child; its wait status, and what it wrote to standard error
 * in text (terminated, cut at size).
 */
static inline int in_child(void (*fn)(void *), void *arg, char *text, size_t size)
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* cmocka catches what ends a program; the child is to end */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		fn(arg);
		_exit(0);
	}
	close(fds[1]);
	while (len + 1 < size && (n = read(fds[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#endif
