/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pool.c - objects of one size on a free list; see pool.h.
 *
 * A chunk begins with the next one's address and its own size.
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

		sys_mem_free(chunk, ((size_t *)chunk)[1]);
		chunk = next;
	}
	memset(p, 0, sizeof(*p));
}

static int pool_grow(struct pool *p, size_t bytes)
{
	char *chunk = sys_mem_alloc(bytes);

	if (chunk == NULL)
		return -1;
	*(void **)(void *)chunk = p->chunks;
	*(size_t *)(void *)(chunk + sizeof(void *)) = bytes;
	p->chunks = chunk;
	p->bytes += bytes;
	p->fresh = chunk + POOL_ALIGN;
	p->fresh_bytes = bytes - POOL_ALIGN;
	return 0;
}

void pool_give(struct pool *p, void *mem, size_t bytes)
{
	p->fresh = mem;
	p->fresh_bytes = bytes;
	p->bytes += bytes;
}

bool pool_have(struct pool *p, unsigned n)
{
	const size_t fresh = p->fresh_bytes / p->obj_size;
	unsigned have = fresh < n ? (unsigned)fresh : n;

	for (void *obj = p->free_list; obj != NULL && have < n; obj = *(void **)obj)
		have++;
	if (have == n)
		return true;
	/* a new chunk is to have room for all: what is left of the last one is not lost */
	for (; p->fresh_bytes >= p->obj_size; p->fresh_bytes -= p->obj_size) {
		*(void **)(void *)p->fresh = p->free_list;
		p->free_list = p->fresh;
		p->fresh += p->obj_size;
	}
	return pool_grow(p, p->chunk_size) == 0;
}

void *pool_get(struct pool *p)
{
	void *obj = p->free_list;

	if (obj != NULL) {
		p->free_list = *(void **)obj;
		memset(obj, 0, p->obj_size);
	} else {
		if (p->fresh_bytes < p->obj_size && pool_grow(p, p->chunk_size) != 0)
			return NULL;
		obj = p->fresh; /* zeros as they were mapped */
		p->fresh += p->obj_size;
		p->fresh_bytes -= p->obj_size;
	}
	p->in_use++;
	return obj;
}

void pool_put(struct pool *p, void *obj)
{
	*(void **)obj = p->free_list;
	p->free_list = obj;
	p->in_use--;
}
