/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * habits HABIT MIB: programs with habits that a pager inside them could break.
 * Each uses MIB of memory, which is more than it may hold when it is paged,
 * does as it is used to, and sees that all memory is what it was.  What it
 * prints must be what it prints natively.
 *
 * This file is for system calls past the C library, too: PAST_NR loads the
 * number not right before the instruction, so that nobody finds the site.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB (1UL << 20)

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(report_fd, "habits, line %d: %s: %s\n", __LINE__, #cond,           \
				strerror(errno));                                                  \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

static int report_fd = STDERR_FILENO;
static uint64_t *memory;
static size_t words;

static uint64_t expected(size_t i)
{
	return i * 0x9e3779b97f4a7c15U + 1;
}

static void fill(size_t mib)
{
	words = (mib << 20) / sizeof(uint64_t);
	memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(memory != MAP_FAILED);
	for (size_t i = 0; i < words; i++)
		memory[i] = expected(i);
}

static void check(void)
{
	for (size_t i = 0; i < words; i++)
		MUST(memory[i] == expected(i));
}

/* ---- locks ---- */

static size_t resident(void *at, size_t pages)
{
	unsigned char in[1024];
	size_t n = 0;

	MUST(pages <= sizeof(in) && mincore(at, pages * PAGE, in) == 0);
	for (size_t i = 0; i < pages; i++)
		n += in[i] & 1;
	return n;
}

/* Locks all memory that it maps from some time on, and later all that it has: to 9 MiB, of which 4 stay. */
static void locks_all(void)
{
	const size_t mib = words * sizeof(uint64_t) >> 20, pages = 1024;
	char *locked;

	fill(5);
	MUST(mlockall(MCL_FUTURE) == 0);
	locked = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	MUST(locked != MAP_FAILED);
	for (size_t i = 0; i < pages; i++)
		locked[i * PAGE] = (char)i;
	check();
	MUST(munlockall() == 0);
	MUST(munmap(memory, 5 << 20) == 0);
	fill(mib);
	check();
	MUST(munmap(memory, mib << 20) == 0);
	MUST(mlockall(MCL_CURRENT) == 0);
	printf("%zu of %zu pages\n", resident(locked, pages), pages);
	for (size_t i = 0; i < pages; i++)
		MUST(locked[i * PAGE] == (char)i);
	fill(mib);
	check();
	printf("%zu of %zu pages\n", resident(locked, pages), pages);
}

/*
 * Locks what it maps from some time on, and maps until that is refused: for want of memory that may
 * be locked, as by RLIMIT_MEMLOCK.  What is reserved does not count before it is opened.
 */
static void locks_too_much(void)
{
	const size_t mib = words * sizeof(uint64_t) >> 20, reserved = 64UL << 20;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *closed = mmap(NULL, reserved, PROT_NONE, flags | MAP_NORESERVE, -1, 0);
	char *at, *last = MAP_FAILED;
	unsigned mapped = 0;

	MUST(closed != MAP_FAILED);
	MUST(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
	MUST(mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED);
	MUST(errno == EAGAIN);
	MUST(munlockall() == 0);
	fill(mib);
	MUST(mlockall(MCL_FUTURE) == 0);
	for (; (at = mmap(NULL, MIB, PROT_READ | PROT_WRITE, flags, -1, 0)) != MAP_FAILED;
	     mapped++) {
		memset(at, 1, MIB);
		last = at;
	}
	MUST(errno == EAGAIN && mapped > 1 && mapped < mib);
	MUST(mremap(last, MIB, 2 * MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EAGAIN);
	MUST(sbrk(4 * MIB) == (void *)-1 && errno == ENOMEM);
	closed = mmap(NULL, reserved, PROT_NONE, flags | MAP_NORESERVE, -1, 0);
	MUST(closed != MAP_FAILED);
	MUST(mprotect(closed, 4 * MIB, PROT_READ | PROT_WRITE) != 0 && errno == ENOMEM);
	check();
	MUST(munmap(last, MIB) == 0);
	MUST(mprotect(closed, MIB, PROT_READ | PROT_WRITE) == 0);
	memset(closed, 1, MIB);
	MUST(munlockall() == 0);
	fill(mib);
	check();
}

/* ---- code ---- */

static int open_libc(struct dl_phdr_info *info, size_t size, void *arg)
{
	int *fd = arg;

	(void)size;
	if (strstr(info->dlpi_name, "/libc.so") == NULL)
		return 0;
	*fd = open(info->dlpi_name, O_RDONLY | O_CLOEXEC);
	return 1;
}

/* Maps code twice, with system calls in it, that has no other memory in reach of a jump. */
static void maps_code_far_away(void)
{
	const size_t around = 3UL << 30;
	int fd = -1;
	char *room = mmap(NULL, 2 * around, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	struct stat st;

	MUST(room != MAP_FAILED);
	dl_iterate_phdr(open_libc, &fd);
	MUST(fd >= 0 && fstat(fd, &st) == 0);
	for (unsigned i = 0; i < 2; i++)
		MUST(mmap(room + around, (size_t)st.st_size, PROT_READ | PROT_EXEC,
			  MAP_PRIVATE | MAP_FIXED, fd, 0) == room + around);
	check();
}

/* ---- descriptors ---- */

/* Keeps only what it reports to, at the lowest number. */
static void lowest_is_3(void)
{
	int fd = open("/dev/null", O_RDONLY);

	MUST(fd == 3);
	MUST(close(fd) == 0);
}

static void closes_from(void)
{
	closefrom(3);
	check();
	lowest_is_3();
}

static void closes_range(void)
{
	MUST(close_range(3, ~0U, 0) == 0);
	check();
	lowest_is_3();
}

static void closes_each(void)
{
	struct rlimit l;

	MUST(getrlimit(RLIMIT_NOFILE, &l) == 0);
	for (int fd = 3; fd < (int)l.rlim_cur && fd < 70000; fd++)
		MUST(close(fd) == 0 || errno == EBADF);
	check();
	lowest_is_3();
}

/* As daemons of the old school: what /proc says is open. */
static void closes_listed(void)
{
	int list[1024], n = 0;
	DIR *d = opendir("/proc/self/fd");

	MUST(d != NULL);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d) && n < 1024)
			list[n++] = atoi(e->d_name);
	closedir(d);
	for (int i = 0; i < n; i++) {
		printf("open: %d\n", list[i]);
		if (list[i] > 2)
			MUST(close(list[i]) == 0);
	}
	check();
	lowest_is_3();
}

/* All numbers that it may have, taken and given back while it faults. */
static void takes_all(void)
{
	struct rlimit l = {200, 200};
	int n = 0;

	MUST(setrlimit(RLIMIT_NOFILE, &l) == 0);
	while (dup(1) >= 0)
		n++;
	MUST(errno == EMFILE);
	check();
	MUST(close_range(3, ~0U, 0) == 0);
	printf("%d were free\n", n);
	lowest_is_3();
}

/* The reader sees the end of a pipe when the last writer has closed it. */
static void ends_a_pipe(void)
{
	int fds[2];
	char c;

	MUST(pipe(fds) == 0);
	check();
	MUST(write(fds[1], "x", 1) == 1 && close(fds[1]) == 0);
	MUST(read(fds[0], &c, 1) == 1 && read(fds[0], &c, 1) == 0);
	check();
	printf("the end\n");
}

/* ---- processes ---- */

/* The daemon works in the background and leaves what it found to its starter. */
static void daemonise(bool first)
{
	int fds[2];
	char text[64];
	ssize_t n;

	MUST(pipe(fds) == 0);
	if (!first)
		check();
	fflush(stdout);
	MUST(fcntl(fds[1], F_SETFD, 0) == 0);
	if (fork() != 0) { /* so that there is somebody to wait */
		close(fds[1]);
		n = read(fds[0], text, sizeof(text));
		MUST(n > 0 && read(fds[0], text + n, 1) == 0);
		printf("%.*s\n", (int)n, text);
		return;
	}
	report_fd = fds[1];
	MUST(daemon(0, 0) == 0);
	if (first)
		fill(words * sizeof(uint64_t) >> 20);
	check();
	MUST(getsid(0) == getpgrp() && getppid() != 0);
	MUST(write(fds[1], "a daemon", 8) == 8);
	_exit(0);
}

static void becomes_a_daemon(void)
{
	daemonise(false);
}

static void starts_as_a_daemon(void)
{
	daemonise(true);
}

/* ---- past the C library ---- */

#define PAST(result, nr, ...)                                                                      \
	__asm__ volatile("mov %[number], %%eax\n\t"                                                \
			 "nop\n\t"                                                                 \
			 "syscall"                                                                 \
			 : "=&a"(result)                                                           \
			 : [number] "i"(nr), __VA_ARGS__                                           \
			 : "rcx", "r11", "memory")

static void *past_mmap(void *at, size_t len, int prot, int map_flags)
{
	register long flags __asm__("r10") = map_flags;
	register long fd __asm__("r8") = -1;
	register long off __asm__("r9") = 0;
	void *p;

	PAST(p, SYS_mmap, "D"(at), "S"(len), "d"((long)prot), "r"(flags), "r"(fd), "r"(off));
	return p;
}

static long past_munmap(void *p, size_t len)
{
	long r;

	PAST(r, SYS_munmap, "D"(p), "S"(len));
	return r;
}

static void *past_mremap(void *p, size_t len, size_t new_len)
{
	register long flags __asm__("r10") = MREMAP_MAYMOVE;
	void *r;

	PAST(r, SYS_mremap, "D"(p), "S"(len), "d"(new_len), "r"(flags));
	return r;
}

/* Memory of its own, which nobody else knows of, beside what is managed. */
static void maps_past(void)
{
	const size_t len = 64 * PAGE;
	char *p = past_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	MUST((long)p > 0);
	for (size_t i = 0; i < len; i++)
		MUST(p[i] == 0);
	memset(p, 5, len);
	check();
	p = past_mremap(p, len, 1000 * PAGE);
	MUST((long)p > 0 && p[0] == 5 && p[len - 1] == 5 && p[len] == 0);
	MUST(past_munmap(p, 1000 * PAGE) == 0);
	check();
	printf("mapped and unmapped\n");
}

/* Memory that the pager does not know of is there at the end, and some that it knows of is not. */
static void leaves_past(void)
{
	char *p = past_mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);

	MUST((long)p > 0);
	check();
	MUST(past_munmap(memory, PAGE) == 0);
	printf("%lx %lx\n", (unsigned long)p, (unsigned long)memory);
}

static void *turn_over(void *arg)
{
	for (unsigned i = 0; i < 1000; i++) {
		void *p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

		MUST(p != MAP_FAILED && munmap(p, 64 * PAGE) == 0);
	}
	return arg;
}

/* Stacks, which are not managed, come and go at all times. */
static void turns_stacks_over(void)
{
	pthread_t threads[8];

	for (unsigned i = 0; i < 8; i++)
		MUST(pthread_create(&threads[i], NULL, turn_over, NULL) == 0);
	for (unsigned i = 0; i < 8; i++)
		MUST(pthread_join(threads[i], NULL) == 0);
	check();
}

/*
 * A child that no hook saw.  It has its parent's stack and data; managed memory
 * it must find whole, or end by SIGSEGV when it touches it, and never see zeros.
 */
static void forks_past(void)
{
	volatile int on_the_stack = 12345;
	static volatile int in_data = 54321;
	int status;
	long pid;

	PAST(pid, SYS_fork, "D"(0L));
	if (pid == 0)
		_exit(on_the_stack == 12345 && in_data == 54321 ? 21 : 22);
	MUST(pid > 0 && waitpid((pid_t)pid, &status, 0) == pid);
	MUST(WIFEXITED(status) && WEXITSTATUS(status) == 21);
	PAST(pid, SYS_fork, "D"(0L));
	if (pid == 0) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		for (size_t i = 0; i < words; i += PAGE / sizeof(uint64_t))
			if (memory[i] != expected(i))
				_exit(98);
		_exit(23);
	}
	MUST(pid > 0 && waitpid((pid_t)pid, &status, 0) == pid);
	MUST((WIFEXITED(status) && WEXITSTATUS(status) == 23) ||
	     (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
	check();
	printf("a child\n");
}

static void nothing(void)
{
	check();
}

static const struct {
	const char *name;
	void (*fn)(void);
} habits[] = {
	{"closefrom", closes_from},
	{"close_range", closes_range},
	{"close", closes_each},
	{"listed", closes_listed},
	{"all", takes_all},
	{"pipe", ends_a_pipe},
	{"daemon", becomes_a_daemon},
	{"starts", starts_as_a_daemon},
	{"maps", maps_past},
	{"leaves", leaves_past},
	{"forks", forks_past},
	{"stacks", turns_stacks_over},
	{"nothing", nothing},
	{"locks", locks_all},
	{"locks-more", locks_too_much},
	{"code", maps_code_far_away},
};

int main(int argc, char **argv)
{
	size_t mib = argc == 3 ? (size_t)atoi(argv[2]) : 0;

	for (size_t i = 0; mib != 0 && i < sizeof(habits) / sizeof(habits[0]); i++) {
		if (strcmp(habits[i].name, argv[1]) != 0)
			continue;
		if (habits[i].fn == starts_as_a_daemon || habits[i].fn == locks_all ||
		    habits[i].fn == locks_too_much)
			words = (mib << 20) / sizeof(uint64_t);
		else
			fill(mib);
		habits[i].fn();
		return 0;
	}
	return 2;
}
