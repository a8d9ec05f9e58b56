/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swapon.c - areas come and go while the program runs.
 *
 * Two areas are added, a fast one that is filled first and a slow one behind
 * it; then the fast one is taken away.  What it held goes on living in frames
 * and in the other area, and the program sees nothing of it.
 *
 * usage: swapon [DIRECTORY]
 */
#include <faultline.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE ((size_t)32 << 20)
#define LIMIT ((uint64_t)8 << 20)
#define AREA ((uint64_t)64 << 20)
#define WORDS (SIZE / sizeof(uint64_t))

static struct fl *fl;

static void die(const char *what, int err)
{
	fprintf(stderr, "swapon: %s: %s\n", what, strerror(-err));
	exit(EXIT_FAILURE);
}

static void show(const char *when)
{
	struct fl_stats s;

	fl_stats(fl, &s, sizeof(s));
	printf("%-22s %6" PRIu64 " of %6" PRIu64 " slots in use\n", when, s.slots_used,
	       s.slots_total);
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "/var/tmp";
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT, .swap_dir = dir};
	struct fl_swap_spec fast = {.size = AREA, .prio = 10};
	struct fl_swap_spec slow = {.size = AREA, .prio = 1};
	char fast_path[4096];
	char slow_path[4096];
	uint64_t *memory;
	int err;

	/* Neither file exists: with a size, each is made, and gone when we are. */
	snprintf(fast_path, sizeof(fast_path), "%s/swapon-fast.%ld", dir, (long)getpid());
	snprintf(slow_path, sizeof(slow_path), "%s/swapon-slow.%ld", dir, (long)getpid());
	fast.path = fast_path;
	slow.path = slow_path;

	err = fl_open(&fl, &options);
	if (err != 0)
		die("fl_open", err);
	err = fl_swapon(fl, &fast);
	if (err != 0)
		die(fast_path, err);
	err = fl_swapon(fl, &slow);
	if (err != 0)
		die(slow_path, err);
	show("two areas");

	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("swapon: fl_mmap");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = ~i;
	show("memory filled");

	err = fl_swapoff(fl, fast_path);
	if (err != 0)
		die("fl_swapoff", err);
	show("the fast one is off");

	for (size_t i = 0; i < WORDS; i++) {
		if (memory[i] != ~i) {
			fprintf(stderr, "swapon: word %zu is wrong\n", i);
			return EXIT_FAILURE;
		}
	}
	puts("every word is as it was");

	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	return EXIT_SUCCESS;
}
