/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * register.c - page memory that somebody else mapped.
 *
 * An allocator with its own idea of mmap(2) hands out a large block; fl_register()
 * puts it under a limit with what it holds, fl_unregister() gives it back
 * with what it holds then, and the allocator frees it as ever.
 */
#include <faultline.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)32 << 20)
#define LIMIT ((uint64_t)8 << 20)
#define WORDS (SIZE / sizeof(uint64_t))

/* Stands for any library that maps memory by itself. */
static uint64_t *foreign_alloc(void)
{
	void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void foreign_free(uint64_t *p)
{
	munmap(p, SIZE);
}

static int check(const uint64_t *block, uint64_t factor)
{
	for (size_t i = 0; i < WORDS; i++) {
		if (block[i] != i * factor) {
			fprintf(stderr, "register: word %zu is wrong\n", i);
			return -1;
		}
	}
	return 0;
}

int main(void)
{
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT};
	uint64_t *block = foreign_alloc();
	struct fl_stats stats;
	struct fl *fl;
	int err;

	if (block == NULL) {
		perror("register: mmap");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < WORDS; i++)
		block[i] = i * 3;

	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "register: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	err = fl_register(fl, block, SIZE);
	if (err != 0) {
		fprintf(stderr, "register: fl_register: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	if (check(block, 3) != 0)
		return EXIT_FAILURE;
	for (size_t i = 0; i < WORDS; i++)
		block[i] = i * 5;
	fl_stats(fl, &stats, sizeof(stats));
	printf("managed: %" PRIu64 " of %" PRIu64 " KiB in frames, %" PRIu64 " pages evicted\n",
	       stats.resident * 4, stats.mapped * 4, stats.evicted);

	err = fl_unregister(fl, block, SIZE);
	if (err != 0) {
		fprintf(stderr, "register: fl_unregister: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	fl_close(fl);
	if (check(block, 5) != 0)
		return EXIT_FAILURE;
	puts("given back: every word is there");
	foreign_free(block);
	return stats.evicted > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
