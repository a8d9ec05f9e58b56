/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Map an array that is far larger than any disk, of which little is ever
 * written: the program keeps the pages that are, and the rest reads as zeros.
 */
#include <faultline.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define BYTES ((uint64_t)16 << 40) /* 16 TiB */
#define BUCKETS 1024U
#define WRITES 5000U

struct page {
	struct page *next;
	uint64_t number;
	char bytes[PAGE];
};

/* Two threads of the library's call at once: hence the lock. */
struct sparse {
	pthread_mutex_t lock;
	struct page *bucket[BUCKETS];
	size_t pages;
};

static struct page *find(struct sparse *s, uint64_t number)
{
	struct page *p = s->bucket[number * 0x9e3779b97f4a7c15U >> 54];

	while (p != NULL && p->number != number)
		p = p->next;
	return p;
}

static int load(void *ctx, uint64_t offset, void *buf, size_t length)
{
	struct sparse *s = ctx;

	pthread_mutex_lock(&s->lock);
	for (size_t at = 0; at < length; at += PAGE) {
		const struct page *p = find(s, (offset + at) / PAGE);

		if (p != NULL)
			memcpy((char *)buf + at, p->bytes, PAGE);
		else
			memset((char *)buf + at, 0, PAGE);
	}
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int store(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	struct sparse *s = ctx;
	int err = 0;

	pthread_mutex_lock(&s->lock);
	for (size_t at = 0; at < length && err == 0; at += PAGE) {
		uint64_t number = (offset + at) / PAGE;
		struct page *p = find(s, number);

		if (p == NULL) {
			struct page **bucket = &s->bucket[number * 0x9e3779b97f4a7c15U >> 54];

			p = malloc(sizeof(*p));
			if (p == NULL) {
				err = -12; /* ENOMEM: the page stays, and is tried again */
				break;
			}
			p->number = number;
			p->next = *bucket;
			*bucket = p;
			s->pages++;
		}
		memcpy(p->bytes, (const char *)buf + at, PAGE);
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

static uint64_t place(unsigned i)
{
	return i * 0x9e3779b97f4a7c15U % (BYTES / sizeof(uint64_t));
}

int main(void)
{
	const struct fl_backing_ops ops = {
		.size = sizeof(ops),
		.read = load,
		.write = store,
		.threads = 2,
	};
	static struct sparse sparse = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct fl_options options = {.size = sizeof(options), .limit = 4 << 20};
	struct fl_backing *backing;
	unsigned wrong = 0;
	uint64_t *array;
	struct fl *fl;
	int err = fl_open(&fl, &options);

	if (err == 0)
		err = fl_backing_open(fl, &backing, &ops, &sparse, BYTES);
	if (err != 0) {
		fprintf(stderr, "source-sparse: %s\n", strerror(-err));
		return 1;
	}
	array = fl_mmap_backing(fl, NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, backing, 0);
	if (array == FL_FAILED) {
		perror("fl_mmap_backing");
		return 1;
	}
	for (unsigned i = 0; i < WRITES; i++)
		array[place(i)] = i + 1;
	for (unsigned i = 0; i < WRITES; i++)
		wrong += array[place(i)] != i + 1;
	err = fl_msync(fl, array, BYTES, MS_SYNC);
	printf("%u numbers in 16 TiB are %zu pages\n", WRITES, sparse.pages);
	return fl_close(fl) == 0 && err == 0 && wrong == 0 && sparse.pages <= WRITES ? 0 : 1;
}
