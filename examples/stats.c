/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stats.c - watch a runtime's counters from another thread.
 *
 * fl_stats() stops nothing, so it may be called while the program works.
 * Counters only grow, so that the difference of two readings tells what
 * happened between them; sizes come and go.  The latency histogram gives
 * percentiles: bucket i has the faults of 2^i to 2^(i+1) nanoseconds.
 */
#include <faultline.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)48 << 20)
#define LIMIT ((uint64_t)12 << 20)
#define PAGE 4096
#define ROUNDS 3

static struct fl *fl;
static char *memory;
static pthread_barrier_t barrier; /* one crossing before each round, one after */

/* Touches every page once a round. */
static void *worker(void *arg)
{
	(void)arg;
	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&barrier);
		for (size_t i = 0; i < SIZE; i += PAGE)
			memory[i]++;
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* The time that a share of the faults did not exceed, in microseconds. */
static double percentile(const struct fl_stats *s, double share)
{
	uint64_t all = 0;
	uint64_t seen = 0;

	for (int i = 0; i < FL_LATENCY_BUCKETS; i++)
		all += s->latency[i];
	for (int i = 0; i < FL_LATENCY_BUCKETS; i++) {
		seen += s->latency[i];
		if ((double)seen >= share * (double)all)
			return (double)((uint64_t)2 << i) / 1000;
	}
	return 0;
}

int main(void)
{
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT};
	struct fl_stats before;
	struct fl_stats now;
	pthread_t thread;
	int err;

	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "stats: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("stats: fl_mmap");
		return EXIT_FAILURE;
	}
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, worker, NULL);

	puts("round   minor   major  written    read  resident  swapped");
	for (int round = 0; round < ROUNDS; round++) {
		fl_stats(fl, &before, sizeof(before));
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		fl_stats(fl, &now, sizeof(now));
		printf("%5d %7" PRIu64 " %7" PRIu64 " %8" PRIu64 " %7" PRIu64 " %9" PRIu64
		       " %8" PRIu64 "\n",
		       round + 1, now.faults_minor - before.faults_minor,
		       now.faults_major - before.faults_major, now.write_pages - before.write_pages,
		       now.read_pages - before.read_pages, now.resident, now.swapped);
	}
	pthread_join(thread, NULL);
	printf("faults took up to %.0f us (half of them), %.0f us (99 of 100)\n",
	       percentile(&now, 0.5), percentile(&now, 0.99));
	printf("bookkeeping: %" PRIu64 " KiB\n", now.bookkeeping >> 10);

	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	/* from the second round on, what a round touches has to be read */
	return now.faults_major > before.faults_major && now.resident <= now.limit ? EXIT_SUCCESS
										   : EXIT_FAILURE;
}
