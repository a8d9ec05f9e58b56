/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * zpool.h - a bounded pool of objects: compressed pages in memory of our own.
 *
 * The pool is a log.  Memory is taken in spans of 64 KiB; an object is written
 * behind the one before it, so objects that came together lie together, and
 * the spans stand in a queue by age: the coldest objects are in the oldest one.
 *
 *	span:  | head, bytes | head, bytes | dead | head, bytes | ... room |
 *
 * An object that is given back leaves a hole.  When holes pass an eighth of the
 * pool, or when no span is free and they would make one, the objects of the
 * emptiest span are moved into a span for survivors, which is as old as what
 * it holds, and the empty span is used again.  So a pool full of holes
 * cannot sit on memory: what it holds is at most 8/7 of its objects and a few
 * spans (ends of spans that were too short for the next object count as holes).
 *
 * An object is named by its place (zobj_t), which changes when it is moved: its
 * owner, whom the object's head names by virtual page number, is told by a
 * callback, from within zpool_store() and zpool_compact().
 *
 * An empty span keeps its memory while few do (ZPOOL_SPARE); beyond them it is
 * given back to the kernel.  zpool_pages() is what the pool may hold at most
 * before it is asked again.
 *
 * Called with the mm lock held.
 */
#ifndef FL_ZPOOL_H
#define FL_ZPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ZPOOL_SPAN ((size_t)64 << 10)
#define ZPOOL_SPAN_PAGES 16U
#define ZPOOL_UNIT 16U /* objects begin and end at multiples of that */
#define ZPOOL_SPARE 4U /* empty spans that keep their memory */
#define ZPOOL_SPANS_MIN 8U
#define ZPOOL_SPANS_MAX (1U << 20) /* 64 GiB: what a zobj_t can name */
#define ZPOOL_OBJ_MAX 4096U
#define ZPOOL_BUCKETS 16U

typedef uint32_t zobj_t; /* place in units of ZPOOL_UNIT */
#define ZOBJ_NONE UINT32_MAX

/* What stands before an object's bytes. */
struct zobj_head {
	uint64_t vpn : 40; /* its owner */
	uint64_t size : 13;
	uint64_t tag : 8; /* the caller's; 0 at first, kept when the object is moved */
	uint64_t live : 1;
	uint64_t csum; /* the caller's */
};

struct zspan {
	uint32_t fill;	       /* bytes from the start that were written */
	uint32_t live;	       /* bytes of live objects, heads included */
	uint32_t older, newer; /* by age; or the next in a free list (older) */
	uint32_t prev, next;   /* in its bucket */
	uint8_t state;
	uint8_t bucket;
};

typedef void (*zpool_moved)(void *arg, uint64_t vpn, zobj_t from, zobj_t to);

struct zpool {
	char *base;
	struct zspan *span;
	uint32_t nspans; /* reserved */
	uint32_t bound;	 /* spans that may be in use */
	uint32_t fresh;	 /* spans from here on were never used */
	uint32_t in_use; /* spans with objects, the open ones included */
	uint32_t nspare;
	uint32_t free, spare;		/* lists of spans without, and with memory */
	uint32_t open, survivors;	/* being filled */
	uint32_t oldest, newest;	/* closed spans by age */
	uint32_t bucket[ZPOOL_BUCKETS]; /* closed spans by live bytes */
	uint64_t live;			/* bytes of live objects, heads included */
	uint64_t objects;
	uint64_t moves; /* objects that were moved since the pool was opened */
	zpool_moved moved;
	void *arg;
};

/* A pool of `bytes` at most, rounded down to whole spans; -EINVAL when that is too few or too many. */
int zpool_open(struct zpool *z, uint64_t bytes, zpool_moved moved, void *arg);
void zpool_close(struct zpool *z);

/* Let `spans` be in use at most; what is in use beyond that stays until its objects go. */
void zpool_set_bound(struct zpool *z, uint32_t spans);

/* Copy an object of 1 to ZPOOL_OBJ_MAX bytes; ZOBJ_NONE: the pool is full. */
zobj_t zpool_store(struct zpool *z, uint64_t vpn, const void *bytes, uint32_t size, uint64_t csum);
void zpool_free(struct zpool *z, zobj_t o);

/* Free memory by moving objects together, if holes are worth it; whether a span came free. */
bool zpool_compact(struct zpool *z);

/* Whether it would take an object, perhaps after moving others together. */
bool zpool_has_room(const struct zpool *z);

/*
 * Walk all objects but those of the span that new ones go to, from the coldest on; ZOBJ_NONE ends.
 * Nothing may be stored or compacted meanwhile; an object may be freed when
 * the next one is known.
 */
zobj_t zpool_coldest(const struct zpool *z);
zobj_t zpool_warmer(const struct zpool *z, zobj_t o);

/* Every object, in no order, under the same rules. */
void zpool_each(struct zpool *z, void (*fn)(void *arg, zobj_t o), void *arg);

static inline struct zobj_head *zpool_head(const struct zpool *z, zobj_t o)
{
	return (struct zobj_head *)(void *)(z->base + (size_t)o * ZPOOL_UNIT);
}

static inline const void *zpool_bytes(const struct zpool *z, zobj_t o)
{
	return zpool_head(z, o) + 1;
}

/* Pages of memory that it holds, or may take without being asked again. */
static inline uint64_t zpool_pages(const struct zpool *z)
{
	uint32_t room = z->bound > z->in_use ? z->bound - z->in_use : 0;
	uint32_t spare = room < ZPOOL_SPARE ? room : ZPOOL_SPARE;

	/* what came free beyond a bound that was lowered */
	if (spare < z->nspare)
		spare = z->nspare;
	return (uint64_t)(z->in_use + spare) * ZPOOL_SPAN_PAGES;
}

/* Pages of memory that it holds just now. */
static inline uint64_t zpool_held(const struct zpool *z)
{
	return (uint64_t)(z->in_use + z->nspare) * ZPOOL_SPAN_PAGES;
}

/* Bytes of its tables. */
uint64_t zpool_table_bytes(const struct zpool *z);

#endif
