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
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * How long a test waits for what is there in a moment, however busy the machine
 * is: a guard against hangs, and below TEST_TIMEOUT.
 */
#define HANG_SECONDS 300

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
