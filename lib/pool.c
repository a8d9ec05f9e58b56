/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.c - objects of one size on a free list; see pool.h.
 */
#include "pool.h"

#include "sys.h"

#include <string.h>

#define POOL_ALIGN 16U

void pool_init(struct pool *p, size_t obj_size, size_t chunk_size)
{
	memset(p, 0, sizeof(*p));
	p->obj_size = (obj_size + POOL_ALIGN - 1) & ~(size_t)(POOL_ALIGN - 1);
	p->chunk_size = (chunk_size + 4095) & ~(size_t)4095;
}

void pool_fini(struct pool *p)
{
	void *chunk = p->chunks;

	while (chunk != NULL) {
		void *next = *(void **)chunk;

		sys_mem_free(chunk, p->chunk_size);
		chunk = next;
	}
	memset(p, 0, sizeof(*p));
}

static int pool_grow(struct pool *p)
{
	char *chunk = sys_mem_alloc(p->chunk_size);

	if (chunk == NULL)
		return -1;
	*(void **)chunk = p->chunks;
	p->chunks = chunk;
	p->bytes += p->chunk_size;
	for (size_t off = POOL_ALIGN; off + p->obj_size <= p->chunk_size; off += p->obj_size) {
		*(void **)(chunk + off) = p->free_list;
		p->free_list = chunk + off;
	}
	return 0;
}

void *pool_get(struct pool *p)
{
	void *obj;

	if (p->free_list == NULL && pool_grow(p) != 0)
		return NULL;
	obj = p->free_list;
	p->free_list = *(void **)obj;
	memset(obj, 0, p->obj_size);
	p->in_use++;
	return obj;
}

void pool_put(struct pool *p, void *obj)
{
	*(void **)obj = p->free_list;
	p->free_list = obj;
	p->in_use--;
}
