/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.h - the runtime's own memory: objects of one size on a free list.
 *
 * Memory comes from mmap in chunks and is kept until pool_fini().  Nothing
 * here calls malloc, so objects may be taken on the fault path and in hooks.
 * A pool has no lock: the lock of the structure that it is part of guards it.
 * An object that was given back stays readable (lock-free readers may still
 * look at it): only its first word is overwritten, by the free list.
 */
#ifndef FL_POOL_H
#define FL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool {
	size_t obj_size;
	size_t chunk_size; /* bytes, a multiple of 4096 */
	void *free_list;
	char *fresh; /* of the last chunk, what was never given out */
	size_t fresh_bytes;
	void *chunks;  /* singly linked through their first word */
	size_t bytes;  /* taken from the system */
	size_t in_use; /* objects */
};

void pool_init(struct pool *p, size_t obj_size, size_t chunk_size);

/* Begin with memory of the caller's, zeros, which outlives the pool. */
void pool_give(struct pool *p, void *mem, size_t bytes);
void pool_fini(struct pool *p);
/* Whether the next n, far fewer than a chunk has, will be had. */
bool pool_have(struct pool *p, unsigned n);
void *pool_get(struct pool *p); /* zeroed; NULL when there is no memory */
void pool_put(struct pool *p, void *obj);

#endif
