/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store.c - swap areas from a store.
 *
 * The store is mounted already (faultline-mount(1)) and has an area.  The
 * runtime attaches to it and pages to that area, which others may use at the
 * same time; what the store shows of the area while it does is printed.
 *
 * usage: store MOUNT-POINT AREA
 */
#include <faultline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SIZE ((size_t)32 << 20)
#define LIMIT ((uint64_t)8 << 20)
#define WORDS (SIZE / sizeof(uint64_t))

static void show(const char *mnt, const char *area)
{
	char path[4096], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/swap/%s.stat", mnt, area);
	f = fopen(path, "r");
	if (f == NULL) {
		perror(path);
		exit(EXIT_FAILURE);
	}
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "used: ", 6) == 0 || strncmp(line, "processes: ", 11) == 0)
			fputs(line, stdout);
	fclose(f);
}

int main(int argc, char **argv)
{
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT};
	struct fl *fl;
	uint64_t *memory;
	int err;

	if (argc != 3) {
		fputs("usage: store MOUNT-POINT AREA\n", stderr);
		return EXIT_FAILURE;
	}
	options.store = argv[1];
	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "store: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("store: fl_mmap");
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < WORDS; i++)
		memory[i] = ~i;
	show(argv[1], argv[2]);
	for (size_t i = 0; i < WORDS; i++)
		if (memory[i] != ~i) {
			fprintf(stderr, "store: word %zu is wrong\n", i);
			return EXIT_FAILURE;
		}
	puts("every word is as it was");
	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	return EXIT_SUCCESS;
}
