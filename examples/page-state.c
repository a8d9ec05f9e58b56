/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * page-state.c - where is each page of a range?
 *
 * fl_page_state() answers without touching a page, as mincore(2) does, but
 * tells more: never touched, in a frame, staged, in a slot, one repeated word.
 * The map that is printed has one letter for 16 pages.
 */
#include <faultline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define PAGES 4096 /* 16 MiB */
#define LIMIT ((uint64_t)8 << 20)
#define SHOWN 16

static const char letters[] = {
	[FL_PAGE_UNMANAGED] = '?', [FL_PAGE_NONE] = '.',      [FL_PAGE_PRESENT] = 'P',
	[FL_PAGE_STAGED] = 's',	   [FL_PAGE_SWAPPED] = 'S',   [FL_PAGE_FILLED] = '=',
	[FL_PAGE_POISONED] = '!',  [FL_PAGE_UNTRACKED] = '-', [FL_PAGE_COMPRESSED] = 'c',
};

static size_t count[sizeof(letters)];

static int show(struct fl *fl, const char *memory, const char *when)
{
	static unsigned char vec[PAGES];
	int err = fl_page_state(fl, memory, (size_t)PAGES * PAGE, vec);

	if (err != 0) {
		fprintf(stderr, "page-state: fl_page_state: %s\n", strerror(-err));
		return err;
	}
	memset(count, 0, sizeof(count));
	printf("%s:\n", when);
	for (size_t i = 0; i < PAGES; i++) {
		count[FL_PAGE_KIND(vec[i])]++;
		if (i % SHOWN == 0)
			putchar(letters[FL_PAGE_KIND(vec[i])]);
		if (i % (SHOWN * 64) == SHOWN * 63)
			putchar('\n');
	}
	return 0;
}

int main(void)
{
	/* no page but those that are touched, so that the picture is plain */
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT, .fault_around = PAGE};
	size_t half = (size_t)PAGES / 2 * PAGE;
	struct fl *fl;
	char *memory;
	int err;

	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "page-state: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory = fl_mmap(fl, NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("page-state: fl_mmap");
		return EXIT_FAILURE;
	}
	puts(". never touched   P in a frame   s staged   S in a slot   = one repeated word\n");
	if (show(fl, memory, "as mapped") != 0)
		return EXIT_FAILURE;

	/* The first quarter differs from page to page, the second is one byte repeated. */
	for (size_t i = 0; i < half / 2; i += sizeof(size_t))
		memcpy(memory + i, &i, sizeof(i));
	memset(memory + half / 2, 'x', half / 2);
	if (show(fl, memory, "half of it touched") != 0)
		return EXIT_FAILURE;

	/* Advice that a program can give when it knows better than the runtime. */
	err = fl_madvise(fl, memory, half, MADV_PAGEOUT);
	if (err != 0) {
		fprintf(stderr, "page-state: fl_madvise: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	if (show(fl, memory, "that half paged out") != 0)
		return EXIT_FAILURE;
	if (count[FL_PAGE_NONE] != PAGES / 2 || count[FL_PAGE_PRESENT] >= PAGES / 2) {
		fputs("page-state: that is not what was to be seen\n", stderr);
		return EXIT_FAILURE;
	}

	fl_munmap(fl, memory, (size_t)PAGES * PAGE);
	fl_close(fl);
	return EXIT_SUCCESS;
}
