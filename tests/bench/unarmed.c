/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * unarmed.c - what a memory call costs while nothing is paged.
 *
 * Prints a row a call, nanoseconds each: the best of some batches, since what
 * comes on top of it is the machine's, not the call's.  Some thousand mappings
 * are there, as in a large program.  The last row is 1000 threads created and
 * joined, in microseconds, the median.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096UL
#define MAPPINGS 4000
#define BATCHES 15
#define CALLS 10000
#define THREADS 1000
#define THREAD_BATCHES 5

static char *area;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *map(size_t pages, int prot)
{
	void *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("faultline: bench-unarmed: mmap");
		exit(1);
	}
	return p;
}

static void do_madvise(int i)
{
	(void)i;
	madvise(area, PAGE, MADV_DONTNEED);
}

static void do_mmap(int i)
{
	(void)i;
	munmap(map(16, PROT_READ | PROT_WRITE), 16 * PAGE);
}

static void do_mprotect(int i)
{
	mprotect(area + 16 * PAGE, 16 * PAGE, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
}

static void row(const char *name, void (*fn)(int), int calls_each)
{
	double best = 0;

	for (int b = 0; b < BATCHES; b++) {
		double t = now();

		for (int i = 0; i < CALLS; i++)
			fn(i);
		t = (now() - t) / CALLS / calls_each;
		if (b == 0 || t < best)
			best = t;
	}
	printf("%s %.1f\n", name, best);
}

static void *nothing(void *arg)
{
	return arg;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void threads(void)
{
	static pthread_t t[THREADS];
	double took[THREAD_BATCHES];

	for (int b = 0; b < THREAD_BATCHES; b++) {
		double start = now();

		for (int i = 0; i < THREADS; i++)
			if (pthread_create(&t[i], NULL, nothing, NULL) != 0) {
				fputs("faultline: bench-unarmed: pthread_create\n", stderr);
				exit(1);
			}
		for (int i = 0; i < THREADS; i++)
			pthread_join(t[i], NULL);
		took[b] = (now() - start) / 1e3;
	}
	qsort(took, THREAD_BATCHES, sizeof(took[0]), by_value);
	printf("threads %.1f\n", took[THREAD_BATCHES / 2]);
}

int main(void)
{
	area = map(256, PROT_READ | PROT_WRITE);
	for (int i = 0; i < MAPPINGS; i++)
		map(1 + (size_t)i % 7, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
	row("madvise", do_madvise, 1);
	row("mmap", do_mmap, 2);
	row("mprotect", do_mprotect, 1);
	threads();
	return 0;
}
