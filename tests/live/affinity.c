/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * affinity.c - a program that pages with one thread, and looks all the time at
 * what it and what it starts may run on: `affinity MIB`.
 *
 * Prints only what does not depend on how it is paged, so that its output can
 * be compared with a native run; with a second argument it also tells, on that
 * file, how often another thread saw the paging one bound to a single CPU.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096U
#define ROUNDS 120U
#define TOUCHES 48U

static cpu_set_t whole;
static atomic_bool looking, done;
static long bound;

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

static int mine_differs(const cpu_set_t *want)
{
	cpu_set_t now;

	CPU_ZERO(&now);
	if (sched_getaffinity(0, sizeof(now), &now) != 0)
		return 2;
	return !CPU_EQUAL(&now, want);
}

static void *in_thread(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)mine_differs(&whole);
}

/* Looks from outside, through /proc, at the paging thread; its memory is no managed memory. */
static void *watcher(void *arg)
{
	char path[64], text[4096];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", *(const pid_t *)arg);
	while (!atomic_load(&done)) {
		FILE *f = atomic_load(&looking) ? fopen(path, "r") : NULL;

		while (f != NULL && fgets(text, sizeof(text), f) != NULL)
			if (strncmp(text, "Cpus_allowed_list:", 18) == 0)
				bound += strpbrk(text, ",-") == NULL;
		if (f != NULL)
			fclose(f);
		else
			sched_yield();
	}
	return NULL;
}

static int status_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int in_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0)
		_exit(mine_differs(&whole));
	return status_of(pid);
}

/* The same program, to look at what it was started with. */
static int in_program(char *self, bool by_vfork)
{
	char *argv[] = {self, NULL};
	pid_t pid;

	if (by_vfork) {
		pid = vfork();
		if (pid < 0)
			die("vfork");
		if (pid == 0) {
			execve(self, argv, environ);
			_exit(99);
		}
	} else if (posix_spawn(&pid, self, NULL, NULL, argv, environ) != 0) {
		die("posix_spawn");
	}
	return status_of(pid);
}

/* One CPU by the program's own wish stays one, and more stay more. */
static int by_choice(uint32_t *memory, size_t pages, unsigned *seed)
{
	cpu_set_t one;
	int cpu = 0;

	while (!CPU_ISSET(cpu, &whole))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) != 0)
		return 3;
	for (unsigned i = 0; i < TOUCHES * 4; i++)
		memory[(size_t)rand_r(seed) % pages * (PAGE / 4)]++;
	if (mine_differs(&one))
		return 4;
	if (pthread_setaffinity_np(pthread_self(), sizeof(whole), &whole) != 0)
		return 5;
	return mine_differs(&whole);
}

int main(int argc, char **argv)
{
	pid_t self = (pid_t)syscall(SYS_gettid);
	pthread_t thread, watch;
	unsigned seed = 1, bad = 0;
	uint32_t *memory;
	uint64_t sum = 0;
	size_t pages;

	if (argc == 1) {
		const char *want = getenv("AFFINITY_CPUS");

		CPU_ZERO(&whole);
		sched_getaffinity(0, sizeof(whole), &whole);
		return want == NULL || CPU_COUNT(&whole) != atoi(want);
	}
	pages = strtoul(argv[1], NULL, 10) << 8;
	if (sched_getaffinity(0, sizeof(whole), &whole) != 0)
		die("sched_getaffinity");
	{
		char text[16];

		snprintf(text, sizeof(text), "%d", CPU_COUNT(&whole));
		setenv("AFFINITY_CPUS", text, 1);
	}
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		die("mmap");
	if (pthread_create(&watch, NULL, watcher, &self) != 0)
		die("pthread_create");
	for (size_t i = 0; i < pages; i++)
		memory[i * (PAGE / 4)] = (uint32_t)i;
	for (unsigned round = 0; round < ROUNDS; round++) {
		void *r;
		int differs = 0;

		for (unsigned i = 0; i < TOUCHES; i++)
			memory[(size_t)rand_r(&seed) % pages * (PAGE / 4)]++;
		switch (round % 6) {
		case 0:
			differs = mine_differs(&whole);
			break;
		case 1:
			if (pthread_create(&thread, NULL, in_thread, NULL) != 0 ||
			    pthread_join(thread, &r) != 0)
				die("pthread_create");
			differs = (int)(intptr_t)r;
			break;
		case 2:
			differs = in_fork();
			break;
		case 3:
			differs = in_program(argv[0], false);
			break;
		case 4:
			differs = in_program(argv[0], true);
			break;
		case 5:
			differs = by_choice(memory, pages, &seed);
			break;
		}
		if (differs) {
			printf("round %u: way %u: %d\n", round, round % 6, differs);
			bad++;
		}
	}
	/* long enough to be seen from outside */
	atomic_store(&looking, true);
	for (unsigned i = 0; i < 20000; i++)
		memory[(size_t)rand_r(&seed) % pages * (PAGE / 4)]++;
	atomic_store(&done, true);
	pthread_join(watch, NULL);
	for (size_t i = 0; i < pages; i++)
		sum += memory[i * (PAGE / 4)];
	printf("%u cases differ, sum %llu\n", bad, (unsigned long long)sum);
	if (argc > 2) {
		FILE *f = fopen(argv[2], "w");

		if (f == NULL || fprintf(f, "bound %ld\n", bound) < 0 || fclose(f) != 0)
			die(argv[2]);
	}
	return bad != 0;
}
