/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-confine.c - a confined process may do what the server needs, and is
 * ended by anything else, in whichever of its threads.
 */
#include "test.h"

#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static void confined(void)
{
	struct why why;

	if (confine_limits(geteuid() == 0, &why) != 0 || confine_calls(&why) != 0)
		_exit(99);
}

static void do_exec(void *arg)
{
	char *argv[] = {(char[]){"true"}, NULL};

	(void)arg;
	confined();
	execv("/bin/true", argv);
}

static void do_socket(void *arg)
{
	(void)arg;
	confined();
	socket(AF_UNIX, SOCK_STREAM, 0);
}

static void do_ptrace(void *arg)
{
	(void)arg;
	confined();
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void do_fork(void *arg)
{
	(void)arg;
	confined();
	syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void do_mount(void *arg)
{
	(void)arg;
	confined();
	mount("none", "/", "tmpfs", 0, NULL);
}

static void do_exec_memory(void *arg)
{
	(void)arg;
	confined();
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void do_make_executable(void *arg)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	confined();
	mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static void do_ring(void *arg)
{
	(void)arg;
	confined();
	syscall(SYS_io_uring_setup, 8, NULL);
}

static int started[2];

static void *in_thread(void *arg)
{
	char c;

	/* after the list is in force */
	if (read(started[0], &c, 1) == 1)
		socket(AF_UNIX, SOCK_STREAM, 0);
	return arg;
}

static void do_in_thread(void *arg)
{
	pthread_t t;

	(void)arg;
	if (pipe(started) != 0 || pthread_create(&t, NULL, in_thread, NULL) != 0)
		_exit(98);
	confined();
	if (write(started[1], "x", 1) != 1)
		_exit(97);
	pthread_join(t, NULL);
}

static void test_refused(void **state)
{
	static const struct {
		const char *name;
		void (*fn)(void *arg);
	} calls[] = {
		{"execve", do_exec},
		{"socket", do_socket},
		{"ptrace", do_ptrace},
		{"clone", do_fork},
		{"mount", do_mount},
		{"mmap executable", do_exec_memory},
		{"io_uring_setup", do_ring},
		{"mprotect executable", do_make_executable},
		{"socket in a thread", do_in_thread},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int status = in_child(calls[i].fn, NULL, text, sizeof(text));

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: status %x", calls[i].name, status);
	}
}

/* A file, memory, a lookup: as the server does them. */
static void do_allowed(void *arg)
{
	void *p;
	int fd;

	(void)arg;
	confined();
	fd = openat(AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
	p = malloc(1 << 22);
	memset(p, 1, 1 << 22);
	if (fd < 0 || read(fd, p, 4096) <= 0)
		_exit(1);
	free(p);
	close(fd);
}

static void test_allowed(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(in_child(do_allowed, NULL, text, sizeof(text)), 0);
}

static uint64_t status_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at != NULL ? strtoull(at + strlen(name), NULL, 16) : UINT64_MAX;
}

static void do_status(void *arg)
{
	char text[8192] = "";
	int fd;

	(void)arg;
	confined();
	fd = openat(AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
	if (read(fd, text, sizeof(text) - 1) <= 0)
		_exit(1);
	if (status_field(text, "\nSeccomp:\t") != 2 || status_field(text, "\nNoNewPrivs:\t") != 1)
		_exit(2);
	/* chown, dac_override, fowner, fsetid, setgid, setuid */
	if (status_field(text, "\nCapEff:\t") != (geteuid() == 0 ? 0xdb : 0))
		_exit(3);
	if (status_field(text, "\nCapPrm:\t") != (geteuid() == 0 ? 0xdb : 0))
		_exit(4);
}

static void test_status(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(in_child(do_status, NULL, text, sizeof(text)), 0);
}

/* Nothing outside the directory can be opened, read or made, by whatever path. */
static void do_paths(void *arg)
{
	const char *dir = arg;
	char inside[64], outside[64];
	struct why why;
	int fd, dir_fd;

	snprintf(inside, sizeof(inside), "%s/file", dir);
	snprintf(outside, sizeof(outside), "%s/../faultline-confine.out", dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (confine_limits(geteuid() == 0, &why) != 0 || confine_paths(dir_fd, &why) != 0)
		_exit(2);
	fd = open(inside, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || truncate(inside, 0) != 0 || unlink(inside) != 0)
		_exit(3);
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES)
		_exit(4);
	if (open(outside, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || errno != EACCES)
		_exit(5);
	if (mkdir(outside, 0700) == 0 || rmdir(dir) == 0)
		_exit(6);
	if (open("/proc/self/status", O_RDONLY | O_CLOEXEC) < 0 ||
	    open("/dev/null", O_RDWR | O_CLOEXEC) < 0)
		_exit(7);
}

static void test_paths(void **state)
{
	char dir[] = "/var/tmp/faultline-confine.XXXXXX", text[256];

	(void)state;
	/* the kernel's answer for its version */
	if (syscall(444, NULL, 0, 1) < 1)
		test_skip("this kernel has no Landlock");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(in_child(do_paths, dir, text, sizeof(text)), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
