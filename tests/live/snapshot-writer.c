/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program whose memory test-snapshot-command.sh takes images of.
 *
 *	snapshot-writer PAGES
 *
 * Threads write to parts of PAGES pages each, from the first page of a part to its last: the
 * first thread counts, each other one copies what the one before it wrote last.
 * So at any instant no page holds more than the page before it.  Meanwhile
 * children are forked that look whether what they have is such a state, and
 * write over it.  Its first line is the address of the first page; it goes on until its
 * standard input ends, and fails when a child did.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3U
#define PG 4096U

static char *mem;
static size_t pages;
static uint32_t stop;

static volatile uint64_t *word_of(size_t page)
{
	return (volatile uint64_t *)(void *)(mem + page * PG);
}

static void *write_on(void *arg)
{
	size_t first = (size_t)(uintptr_t)arg * pages;
	uint64_t value = 0;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		value = first != 0 ? *word_of(first - 1) : value + 1;
		for (size_t p = first; p < first + pages; p++)
			*word_of(p) = value;
	}
	return NULL;
}

static int look(void)
{
	uint64_t last = UINT64_MAX;

	for (size_t p = 0; p < THREADS * pages; p++) {
		uint64_t v = *word_of(p);

		if (v > last)
			return 1;
		last = v;
		*word_of(p) = ~(uint64_t)p;
	}
	return 0;
}

static void *until_end(void *arg)
{
	while (getchar() != EOF)
		continue;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS + 1];
	int failed = 0;

	pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
	if (pages == 0)
		return 2;
	mem = mmap(NULL, THREADS * pages * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	if (mem == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < THREADS; i++)
		pthread_create(&thread[i], NULL, write_on, (void *)(uintptr_t)i);
	while (*word_of(THREADS * pages - 1) == 0)
		sched_yield();
	printf("%lx\n", (unsigned long)(uintptr_t)mem);
	fflush(stdout);
	pthread_create(&thread[THREADS], NULL, until_end, NULL);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		int status = 0;
		pid_t pid = fork();

		if (pid == 0)
			_exit(look());
		if (pid > 0)
			waitpid(pid, &status, 0);
		failed += pid < 0 || status != 0;
	}
	for (size_t i = 0; i <= THREADS; i++)
		pthread_join(thread[i], NULL);
	printf("%d failed\n", failed);
	return failed != 0;
}
