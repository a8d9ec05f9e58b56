/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The log: its formatter beside snprintf(3), its levels and sinks, and that a
 * line from a thread with a descriptor table of its own reaches the program's
 * present standard error.
 */
#include "test.h"

#include "log.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* The same call to both formatters. */
#define SAME(...)                                                                                  \
	do {                                                                                       \
		char ours[128], theirs[128];                                                       \
		size_t n = log_format(ours, sizeof(ours), __VA_ARGS__);                            \
                                                                                                   \
		snprintf(theirs, sizeof(theirs), __VA_ARGS__);                                     \
		assert_string_equal(ours, theirs);                                                 \
		assert_int_equal(n, strlen(ours));                                                 \
	} while (0)

static void formats_as_printf(void **state)
{
	(void)state;
	SAME("plain");
	SAME("%s|%5s|%c|%%", "text", "ab", 'x');
	SAME("%10s|%3s", "", "longer");
	SAME("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
	SAME("%ld %lld %zd", LONG_MIN, LLONG_MIN, (ssize_t)-5);
	SAME("%u %lu %llu %zu", UINT_MAX, ULONG_MAX, ULLONG_MAX, SIZE_MAX);
	SAME("%x %lx %llx %zx", 0xdeadbeefU, ULONG_MAX, 0x123456789abcdefULL, (size_t)0xab);
	SAME("%5d|%1d|%05d|%05d", 42, 7, 42, -42);
	SAME("%016lx|%2x|%12lu", 0xabcUL, 0xfffU, 77UL);
	SAME("%p", (void *)0x7f0012345678);
}

static void result_is_cut_and_terminated(void **state)
{
	char buf[8];

	(void)state;
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(log_format(buf, 6, "%s", "abcdefgh"), 5);
	assert_string_equal(buf, "abcde");
	assert_int_equal(buf[6], 'x');
	assert_int_equal(log_format(buf, 1, "%d", 12), 0);
	assert_string_equal(buf, "");
	assert_int_equal(log_format(buf, 0, "%d", 12), 0);
}

static void null_text_is_shown(void **state)
{
	const char *volatile none = NULL;
	char buf[16];

	(void)state;
	log_format(buf, sizeof(buf), "<%s>", none);
	assert_string_equal(buf, "<(null)>");
}

struct caught {
	unsigned n;
	enum fl_log_level level;
	char line[LOG_LINE_MAX];
};

static void catch_line(void *arg, enum fl_log_level level, const char *line)
{
	struct caught *c = arg;

	c->n++;
	c->level = level;
	snprintf(c->line, sizeof(c->line), "%s", line);
}

static void levels_and_sinks(void **state)
{
	struct caught c = {.n = 0};
	struct log_sink sink = {FL_LOG_WARN, catch_line, &c};
	char text[2 * LOG_LINE_MAX];

	(void)state;
	log_line(&sink, FL_LOG_INFO, "unheard");
	assert_int_equal(c.n, 0);
	log_line(&sink, FL_LOG_WARN, "area %s: %d", "x", 3);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.level, FL_LOG_WARN);
	assert_string_equal(c.line, "area x: 3");
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_line(&sink, FL_LOG_ERROR, "%s", text);
	assert_int_equal(strlen(c.line), LOG_LINE_MAX - 1);
}

static void say(void *arg)
{
	struct log_sink sink = {FL_LOG_INFO, NULL, NULL};

	(void)arg;
	log_line(&sink, FL_LOG_INFO, "limit %u", 5U);
}

static void goes_to_stderr(void **state)
{
	char text[256];
	int status = in_child(say, NULL, text, sizeof(text));

	(void)state;
	assert_int_equal(status, 0);
	assert_string_equal(text, "faultline: limit 5\n");
}

static int decoy = -1;

/* A pager's situation: an own table, whose descriptor 2 is something else. */
static void *say_apart(void *arg)
{
	if (unshare(CLONE_FILES) != 0 || dup2(decoy, STDERR_FILENO) < 0)
		_exit(3);
	say(arg);
	return NULL;
}

static void say_on_own_table(void *arg)
{
	pthread_t t;
	char byte;

	decoy = memfd_create("decoy", MFD_CLOEXEC);
	if (decoy < 0 || pthread_create(&t, NULL, say_apart, arg) != 0)
		_exit(4);
	pthread_join(t, NULL);
	if (pread(decoy, &byte, 1, 0) != 0)
		_exit(5);
}

static void own_table_is_seen_through(void **state)
{
	char text[256];
	int status = in_child(say_on_own_table, NULL, text, sizeof(text));

	(void)state;
	assert_int_equal(status, 0);
	assert_string_equal(text, "faultline: limit 5\n");
}

static void *say_with_stderr_closed(void *arg)
{
	if (unshare(CLONE_FILES) != 0 || dup2(decoy, STDERR_FILENO) < 0)
		_exit(3);
	say(arg);
	return NULL;
}

static void close_then_say(void *arg)
{
	pthread_t t;
	char byte;

	decoy = memfd_create("decoy", MFD_CLOEXEC);
	close(STDERR_FILENO);
	if (decoy < 0 || pthread_create(&t, NULL, say_with_stderr_closed, arg) != 0)
		_exit(4);
	pthread_join(t, NULL);
	if (pread(decoy, &byte, 1, 0) != 0)
		_exit(5);
}

static void closed_stderr_drops_the_line(void **state)
{
	char text[256];
	int status = in_child(close_then_say, NULL, text, sizeof(text));

	(void)state;
	assert_int_equal(status, 0);
	assert_string_equal(text, "");
}

static void say_to_broken_pipe(void *arg)
{
	sigset_t pending;
	int fds[2];

	if (pipe(fds) != 0 || dup2(fds[1], STDERR_FILENO) < 0)
		_exit(3);
	close(fds[0]);
	close(fds[1]);
	say(arg);
	sigpending(&pending);
	if (sigismember(&pending, SIGPIPE))
		_exit(4);
}

static void broken_pipe_raises_nothing(void **state)
{
	char text[256];
	int status = in_child(say_to_broken_pipe, NULL, text, sizeof(text));

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void say_to_full_file(void *arg)
{
	const struct rlimit none = {0, 0};
	sigset_t pending;
	int fd = memfd_create("full", MFD_CLOEXEC);

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || setrlimit(RLIMIT_FSIZE, &none) != 0)
		_exit(3);
	say(arg);
	sigpending(&pending);
	if (sigismember(&pending, SIGXFSZ))
		_exit(4);
}

static void full_file_raises_nothing(void **state)
{
	char text[256];
	int status = in_child(say_to_full_file, NULL, text, sizeof(text));

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void on_abort(int sig)
{
	(void)sig;
	_exit(9);
}

static void *die(void *arg)
{
	sigset_t all;

	(void)arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	log_fatal("slot %lu is gone", 77UL);
}

static void die_on_a_thread(void *arg)
{
	pthread_t t;

	signal(SIGABRT, on_abort);
	pthread_create(&t, NULL, die, arg);
	pthread_join(t, NULL);
}

static void fatal_ends_the_process(void **state)
{
	char text[256];
	int status = in_child(die_on_a_thread, NULL, text, sizeof(text));

	(void)state;
	assert_string_equal(text, "faultline: slot 77 is gone\n");
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void errors_have_names(void **state)
{
	(void)state;
	assert_string_equal(log_strerror(-ENOENT), "No such file or directory");
	assert_string_equal(log_strerror(-ENOSPC), "No space left on device");
	assert_string_equal(log_strerror(-99999), "Unknown error");
	assert_string_equal(log_strerror(3333), "Unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_as_printf),
		cmocka_unit_test(result_is_cut_and_terminated),
		cmocka_unit_test(null_text_is_shown),
		cmocka_unit_test(levels_and_sinks),
		cmocka_unit_test(goes_to_stderr),
		cmocka_unit_test(own_table_is_seen_through),
		cmocka_unit_test(closed_stderr_drops_the_line),
		cmocka_unit_test(broken_pipe_raises_nothing),
		cmocka_unit_test(full_file_raises_nothing),
		cmocka_unit_test(fatal_ends_the_process),
		cmocka_unit_test(errors_have_names),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
