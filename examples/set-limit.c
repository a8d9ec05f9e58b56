/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * set-limit.c - give memory back while others need it.
 *
 * A lower limit holds when fl_set_limit() returns.  A higher one costs
 * nothing: pages come back as they are touched.
 */
#include <faultline.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)32 << 20)
#define WORDS (SIZE / sizeof(uint64_t))

int main(void)
{
	static const uint64_t limits[] = {64, 4, 24, 2, 64};
	struct fl_options options = {.size = sizeof(options), .limit = limits[0] << 20};
	struct fl_stats stats;
	struct fl *fl;
	uint64_t *memory;
	int err;

	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "set-limit: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("set-limit: fl_mmap");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = i;

	for (size_t n = 1; n < sizeof(limits) / sizeof(limits[0]); n++) {
		uint64_t sum = 0;

		err = fl_set_limit(fl, limits[n] << 20);
		if (err != 0) {
			fprintf(stderr, "set-limit: %s\n", strerror(-err));
			return EXIT_FAILURE;
		}
		fl_stats(fl, &stats, sizeof(stats));
		if (stats.resident + stats.staged > stats.limit) {
			fputs("set-limit: the limit does not hold\n", stderr);
			return EXIT_FAILURE;
		}
		printf("limit %2" PRIu64 " MiB: %5" PRIu64 " KiB of frames, ", limits[n],
		       (stats.resident + stats.staged) * 4);
		for (size_t i = 0; i < WORDS; i++)
			sum += memory[i];
		if (sum != (uint64_t)WORDS * (WORDS - 1) / 2) {
			fputs("set-limit: the sum is wrong\n", stderr);
			return EXIT_FAILURE;
		}
		fl_stats(fl, &stats, sizeof(stats));
		printf("%5" PRIu64 " KiB after everything was read\n",
		       (stats.resident + stats.staged) * 4);
	}

	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	return EXIT_SUCCESS;
}
