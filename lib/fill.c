/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fill.c - the words of same-filled pages; see fill.h.
 *
 * An open table of chained entries that doubles when it is full; entry 0 is
 * the zero word and is never counted, so zero pages cost no memory at all.
 */
#include "fill.h"

#include "sys.h"

#include <stddef.h>
#include <string.h>

#define FILL_CAP_MIN 256U
#define FILL_CAP_MAX (1U << 24)

static size_t word_bytes(uint32_t cap)
{
	return (cap * sizeof(struct fill_word) + 4095) & ~(size_t)4095;
}

static size_t bucket_bytes(uint32_t cap)
{
	return (cap * sizeof(uint32_t) + 4095) & ~(size_t)4095;
}

static uint32_t hash(uint64_t w, uint32_t cap)
{
	w ^= w >> 31;
	w *= 0x9e3779b97f4a7c15U;
	return (uint32_t)(w >> 32) & (cap - 1);
}

void fill_init(struct fill_table *t)
{
	memset(t, 0, sizeof(*t));
}

void fill_fini(struct fill_table *t)
{
	sys_mem_free(t->word, word_bytes(t->cap));
	sys_mem_free(t->bucket, bucket_bytes(t->cap));
	memset(t, 0, sizeof(*t));
}

static int grow(struct fill_table *t)
{
	uint32_t cap = t->cap != 0 ? t->cap * 2 : FILL_CAP_MIN;
	struct fill_word *word;
	uint32_t *bucket;

	if (cap > FILL_CAP_MAX)
		return -1;
	word = sys_mem_alloc(word_bytes(cap));
	bucket = sys_mem_alloc(bucket_bytes(cap));
	if (word == NULL || bucket == NULL) {
		sys_mem_free(word, word_bytes(cap));
		sys_mem_free(bucket, bucket_bytes(cap));
		return -1;
	}
	if (t->cap != 0)
		memcpy(word, t->word, t->cap * sizeof(*word));
	for (uint32_t i = 1; i < t->used; i++) {
		uint32_t h = hash(word[i].word, cap);

		word[i].next = bucket[h];
		bucket[h] = i;
	}
	sys_mem_free(t->word, word_bytes(t->cap));
	sys_mem_free(t->bucket, bucket_bytes(t->cap));
	t->word = word;
	t->bucket = bucket;
	t->cap = cap;
	if (t->used == 0)
		t->used = 1;
	return 0;
}

uint32_t fill_get(struct fill_table *t, uint64_t word)
{
	uint32_t h;
	uint32_t i;

	if (word == 0)
		return 0;
	if (t->cap != 0) {
		for (i = t->bucket[hash(word, t->cap)]; i != 0; i = t->word[i].next) {
			if (t->word[i].word == word) {
				t->word[i].count++;
				return i;
			}
		}
	}
	if (t->free_list != 0) {
		i = t->free_list;
		t->free_list = t->word[i].next;
	} else {
		if (t->used == t->cap && grow(t) != 0)
			return FILL_NONE;
		i = t->used++;
	}
	h = hash(word, t->cap);
	t->word[i] = (struct fill_word){.word = word, .count = 1, .next = t->bucket[h]};
	t->bucket[h] = i;
	return i;
}

void fill_put(struct fill_table *t, uint32_t index)
{
	uint32_t *link;

	if (index == 0 || --t->word[index].count != 0)
		return;
	link = &t->bucket[hash(t->word[index].word, t->cap)];
	while (*link != index)
		link = &t->word[*link].next;
	*link = t->word[index].next;
	t->word[index].next = t->free_list;
	t->free_list = index;
}

uint64_t fill_word(const struct fill_table *t, uint32_t index)
{
	return index == 0 ? 0 : t->word[index].word;
}

bool fill_check(const void *page, uint64_t *word)
{
	const uint64_t *w = page;
	uint64_t first = w[0];

	/* most pages that differ at all differ here */
	if (w[511] != first || w[1] != first || w[256] != first)
		return false;
	for (unsigned i = 0; i < 512; i += 8) {
		uint64_t d = 0;

		for (unsigned k = 0; k < 8; k++)
			d |= w[i + k] ^ first;
		if (d != 0)
			return false;
	}
	*word = first;
	return true;
}
