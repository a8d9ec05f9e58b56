/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exec-become WAY MIB PROGRAM ARGUMENT...: a program with a past (memory, locks,
 * blocked and ignored signals, timers, descriptors, threads) that becomes
 * PROGRAM, or starts it and ends with its status.
 *
 * MIB: how much memory it uses first.  EXEC_PAGED in the environment says
 * "yes" or "no": whether there must be a pager by then.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char **program;
static char *memory;
static size_t memory_len;

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "exec-become, line %d: %s: %s\n", __LINE__, #cond,         \
				strerror(errno));                                                  \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

static void handler(int sig)
{
	(void)sig;
}

static unsigned tasks(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	MUST(d != NULL);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void use_memory(size_t mib)
{
	size_t len = mib << 20;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *paged = getenv("EXEC_PAGED");

	MUST(p != MAP_FAILED);
	/* written and read in order, by one thread, until a pager would follow it to its CPU */
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < len; i += 4096) {
			MUST(round == 0 || p[i] == (char)(i >> 12));
			p[i] = (char)(i >> 12);
		}
	MUST(mlock(p, 16384) == 0);
	memory = p;
	memory_len = len;
	if (paged != NULL && strcmp(paged, "yes") == 0)
		MUST(tasks() > 1);
	else
		MUST(tasks() == 1);
	unsetenv("EXEC_PAGED");
}

static void have_a_past(void)
{
	struct itimerval hour = {{0, 0}, {3600, 0}}, far = {{7200, 0}, {7200, 0}};
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGRTMIN + 3);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	MUST(signal(SIGUSR1, SIG_IGN) != SIG_ERR && signal(SIGTERM, handler) != SIG_ERR);
	MUST(raise(SIGUSR2) == 0); /* stays pending */
	MUST(setitimer(ITIMER_REAL, &hour, NULL) == 0);
	MUST(setitimer(ITIMER_PROF, &far, NULL) == 0);
	MUST(open("/dev/null", O_RDONLY) >= 0);
	MUST(open("/dev/zero", O_RDWR | O_CLOEXEC) >= 0);
	fd = open("/dev/null", O_WRONLY | O_APPEND);
	MUST(fd >= 0 && dup2(fd, 77) == 77);
	umask(026);
	MUST(prctl(PR_SET_TIMERSLACK, 70000) == 0);
	MUST(setpriority(PRIO_PROCESS, 0, 3) == 0);
}

static int reap(pid_t pid)
{
	int status;

	MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static void *exec_in_thread(void *arg)
{
	(void)arg;
	execv(program[0], program);
	MUST(!"executed");
	return NULL;
}

static void *wait_for_ever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void by_exec(void)
{
	execv(program[0], program);
}

/* The exec that fails leaves everything as it was. */
static void by_second_exec(void)
{
	MUST(execv("/nonexistent/program", program) == -1 && errno == ENOENT);
	MUST(execv("/", program) == -1 && errno == EACCES);
	execv(program[0], program);
}

static void by_thread(void)
{
	pthread_t t, others[3];

	for (int i = 0; i < 3; i++)
		MUST(pthread_create(&others[i], NULL, wait_for_ever, NULL) == 0);
	MUST(pthread_create(&t, NULL, exec_in_thread, NULL) == 0);
	wait_for_ever(NULL);
}

static void by_fexecve(void)
{
	int fd = open(program[0], O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	fexecve(fd, program, environ);
}

static void by_vfork(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execv(program[0], program);
		_exit(97);
	}
	_exit(reap(pid));
}

static void by_spawn(void)
{
	pid_t pid;

	MUST(posix_spawn(&pid, program[0], NULL, NULL, program, environ) == 0);
	_exit(reap(pid));
}

static void by_fork(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execv(program[0], program);
		_exit(97);
	}
	_exit(reap(pid));
}

/* A child has part in what the process had, and for a while longer than that. */
static void by_exec_beside_an_heir(void)
{
	int fds[2];
	char c;

	MUST(pipe2(fds, O_CLOEXEC) == 0);
	if (fork() == 0) {
		close(fds[1]);
		/* the exec closes the other end */
		MUST(read(fds[0], &c, 1) == 0);
		/* a part: the new image waits no more than some seconds */
		for (size_t i = 0; i < memory_len / 4; i += 4096)
			MUST(memory[i] == (char)(i >> 12));
		_exit(0);
	}
	execv(program[0], program);
}

static const struct {
	const char *name;
	void (*fn)(void);
} ways[] = {
	{"exec", by_exec},     {"second", by_second_exec},
	{"thread", by_thread}, {"fexecve", by_fexecve},
	{"vfork", by_vfork},   {"spawn", by_spawn},
	{"fork", by_fork},     {"heir", by_exec_beside_an_heir},
};

int main(int argc, char **argv)
{
	if (argc < 4)
		return 96;
	program = argv + 3;
	use_memory((size_t)atoi(argv[2]));
	have_a_past();
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (strcmp(ways[i].name, argv[1]) == 0)
			ways[i].fn();
	return 95;
}
