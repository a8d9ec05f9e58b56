/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * arming THREADS MIB: threads that map, fill, protect, empty and unmap memory all
 * the time, together up to MIB.  Under a limit below that the process is armed in
 * the midst of their calls.  Every word is checked: what was written, or zeros
 * where memory was given back.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define PIECES 64U
#define PAGES_MAX 64U
#define RW (PROT_READ | PROT_WRITE)

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "arming, line %d: %s: %s\n", __LINE__, #cond,              \
				strerror(errno));                                                  \
			exit(99);                                                                  \
		}                                                                                  \
	} while (0)

struct piece {
	uint64_t *at; /* NULL: not mapped */
	size_t pages;
	uint64_t tag[PAGES_MAX]; /* 0: the page was given back */
};

struct worker {
	pthread_t thread;
	uint64_t seed;
	size_t most, held; /* pages */
	struct piece piece[PIECES];
};

static uint64_t next(struct worker *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static void fill(struct worker *w, struct piece *p, size_t page)
{
	p->tag[page] = next(w) | 1;
	for (size_t i = 0; i < PAGE / 8; i++)
		p->at[page * PAGE / 8 + i] = p->tag[page] + i;
}

static void check(const struct piece *p)
{
	for (size_t page = 0; page < p->pages; page++)
		for (size_t i = 0; i < PAGE / 8; i += 3)
			MUST(p->at[page * PAGE / 8 + i] ==
			     (p->tag[page] != 0 ? p->tag[page] + i : 0));
}

static void map(struct worker *w, struct piece *p)
{
	p->pages = 1 + next(w) % PAGES_MAX;
	p->at = mmap(NULL, p->pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MUST(p->at != MAP_FAILED);
	memset(p->tag, 0, sizeof(p->tag));
	w->held += p->pages;
	for (size_t page = 0; page < p->pages; page++)
		if (next(w) % 4 != 0)
			fill(w, p, page);
}

static void unmap(struct worker *w, struct piece *p)
{
	check(p);
	MUST(munmap(p->at, p->pages * PAGE) == 0);
	w->held -= p->pages;
	p->at = NULL;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned round = 0; round < 1500; round++) {
		struct piece *p = &w->piece[next(w) % PIECES];
		size_t first, n;

		if (p->at == NULL) {
			if (w->held + PAGES_MAX <= w->most * (round + 300) / 1800)
				map(w, p);
			continue;
		}
		first = next(w) % p->pages;
		n = 1 + next(w) % (p->pages - first);
		switch (next(w) % 8) {
		case 0:
			unmap(w, p);
			break;
		case 1:
		case 2:
			MUST(madvise(p->at + first * PAGE / 8, n * PAGE, MADV_DONTNEED) == 0);
			memset(p->tag + first, 0, n * sizeof(p->tag[0]));
			break;
		case 3:
		case 4:
			MUST(mprotect(p->at + first * PAGE / 8, n * PAGE, PROT_READ) == 0);
			check(p);
			MUST(mprotect(p->at + first * PAGE / 8, n * PAGE, RW) == 0);
			break;
		default:
			fill(w, p, first);
			break;
		}
		if (round % 8 == 0 && p->at != NULL)
			check(p);
	}
	for (unsigned i = 0; i < PIECES; i++)
		if (w->piece[i].at != NULL)
			unmap(w, &w->piece[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	size_t pages = argc > 2 ? (size_t)atoi(argv[2]) * 256 : 0;
	struct worker *w = n != 0 ? calloc(n, sizeof(*w)) : NULL;

	MUST(w != NULL && pages != 0);
	for (unsigned i = 0; i < n; i++) {
		w[i].seed = 88172645463325252U + i * 1000003U;
		w[i].most = pages / n;
		MUST(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
	}
	for (unsigned i = 0; i < n; i++)
		MUST(pthread_join(w[i].thread, NULL) == 0);
	puts("all there");
	return 0;
}
