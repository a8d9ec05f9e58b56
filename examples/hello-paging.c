/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hello-paging.c - use 64 MiB of memory in 16 MiB of frames.
 *
 * fl_mmap() is mmap(2) for a runtime with a limit: what does not fit goes to
 * a swap area (here a private file, made when it is first needed) and comes
 * back when it is touched.  The program does nothing else than use memory.
 */
#include <faultline.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)64 << 20)
#define LIMIT ((uint64_t)16 << 20)
#define WORDS (SIZE / sizeof(uint64_t))

int main(void)
{
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT};
	struct fl_stats stats;
	struct fl *fl;
	uint64_t *memory;
	int err;

	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "hello-paging: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("hello-paging: fl_mmap");
		return EXIT_FAILURE;
	}

	for (size_t i = 0; i < WORDS; i++)
		memory[i] = i * i;
	for (size_t i = 0; i < WORDS; i++) {
		if (memory[i] != i * i) {
			fprintf(stderr, "hello-paging: word %zu is wrong\n", i);
			return EXIT_FAILURE;
		}
	}

	fl_stats(fl, &stats, sizeof(stats));
	printf("%zu MiB written and read back, with at most %" PRIu64 " KiB of frames\n",
	       SIZE >> 20, stats.resident_max * 4);
	printf("%" PRIu64 " pages were evicted, %" PRIu64 " read from swap\n", stats.evicted,
	       stats.read_pages);

	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	return stats.resident_max <= stats.limit && stats.read_pages > 0 ? EXIT_SUCCESS
									 : EXIT_FAILURE;
}
