/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped.h - a mapping of a file with a shadow: what the tests of failing calls
 * of mapped files share.
 *
 * A read that fails raises SIGBUS, which goes away when the failure does: a
 * touch tries again, for long if the failure is one that passes, hardly if it
 * lasts; then the page counts as lost until it is looked at again.
 */
#ifndef FL_TEST_MAPPED_H
#define FL_TEST_MAPPED_H

#include "rows.h"

#define WORDS (PG / 8)
#define RW (PROT_READ | PROT_WRITE)
#define FILE_PAGES_MAX 1024U

struct file {
	struct fl *fl;
	int fd;
	char *map;
	char *shadow; /* what the mapping holds */
	size_t pages;
	bool lost[FILE_PAGES_MAX]; /* cannot be read for now */
	uint64_t rng;
};

/*
 * In the child: make a file of so many pages, open a runtime at the least limit
 * with the failures of the load, and map the file with the flags.
 */
void file_begin(struct file *f, const struct load *load, size_t pages, int flags);
/* fl_close(), twice if it must be; false when it was refused both times. */
bool file_close(struct file *f);

/* Compare a page with its shadow, every word. */
void check_page(struct file *f, size_t page, const char *what);
void check_all(struct file *f, const char *what);
/* Change some words of a page. */
void change_page(struct file *f, size_t page);
/* A page of the file itself, good until the next call. */
const void *page_in_file(const struct file *f, size_t page, const char *what);

#endif
