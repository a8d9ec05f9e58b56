/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * two-runtimes.c - memory of two kinds, each with a limit of its own.
 *
 * A cache that may be slow and an index that must not be: whatever the cache
 * does, it cannot push the index out, because the index has its own runtime.
 */
#include <faultline.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_SIZE ((size_t)64 << 20)
#define CACHE_LIMIT ((uint64_t)8 << 20)
#define INDEX_SIZE ((size_t)8 << 20)
#define INDEX_LIMIT ((uint64_t)16 << 20)
#define WORD sizeof(uint64_t)

static struct fl *runtime(uint64_t limit)
{
	struct fl_options options = {.size = sizeof(options), .limit = limit};
	struct fl *fl;
	int err = fl_open(&fl, &options);

	if (err != 0) {
		fprintf(stderr, "two-runtimes: fl_open: %s\n", strerror(-err));
		exit(EXIT_FAILURE);
	}
	return fl;
}

static uint64_t *map(struct fl *fl, size_t size)
{
	void *p =
		fl_mmap(fl, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == FL_FAILED) {
		perror("two-runtimes: fl_mmap");
		exit(EXIT_FAILURE);
	}
	return p;
}

int main(void)
{
	struct fl *cache_fl = runtime(CACHE_LIMIT);
	struct fl *index_fl = runtime(INDEX_LIMIT);
	uint64_t *cache = map(cache_fl, CACHE_SIZE);
	uint64_t *index = map(index_fl, INDEX_SIZE);
	size_t entries = 20000;
	size_t words = CACHE_SIZE / WORD;
	struct fl_stats c;
	struct fl_stats i;

	/* Each index entry points to a word of the cache, which knows its entry. */
	for (size_t n = 0; n < entries; n++) {
		index[n] = n * 7919 % words; /* far apart: a page each */
		cache[index[n]] = n + 1;
	}
	for (size_t n = 0; n < entries; n += 5) {
		if (cache[index[n]] != n + 1) {
			fprintf(stderr, "two-runtimes: entry %zu is wrong\n", n);
			return EXIT_FAILURE;
		}
	}

	fl_stats(cache_fl, &c, sizeof(c));
	fl_stats(index_fl, &i, sizeof(i));
	printf("cache: %5" PRIu64 " KiB of frames at most, %6" PRIu64 " pages evicted\n",
	       c.resident_max * 4, c.evicted);
	printf("index: never armed: %s, %6" PRIu64 " pages evicted\n", i.armed ? "no" : "yes",
	       i.evicted);

	fl_munmap(cache_fl, cache, CACHE_SIZE);
	fl_munmap(index_fl, index, INDEX_SIZE);
	fl_close(cache_fl);
	fl_close(index_fl);
	return c.evicted > 0 && i.evicted == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
