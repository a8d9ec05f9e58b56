/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fill.h - the words of same-filled pages.
 *
 * A page that is one repeated 64-bit word takes no slot: its entry holds the
 * index of the word here.  Each word is kept once, with a count of its pages;
 * index 0 is the word 0 and stays.  Called with the mm lock held.
 */
#ifndef FL_FILL_H
#define FL_FILL_H

#include <stdbool.h>
#include <stdint.h>

#define FILL_NONE UINT32_MAX

struct fill_word {
	uint64_t word;
	uint32_t count; /* pages */
	uint32_t next;	/* in its hash chain, or in the free list */
};

struct fill_table {
	struct fill_word *word;
	uint32_t *bucket;
	uint32_t cap;  /* entries, a power of two */
	uint32_t used; /* entries ever taken */
	uint32_t free_list;
};

void fill_init(struct fill_table *t);
void fill_fini(struct fill_table *t);

/* One page more of this word: its index, or FILL_NONE when there is no memory. */
uint32_t fill_get(struct fill_table *t, uint64_t word);
void fill_put(struct fill_table *t, uint32_t index);
uint64_t fill_word(const struct fill_table *t, uint32_t index);

/* Whether a page is one repeated word. */
bool fill_check(const void *page, uint64_t *word);

#endif
