/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * publish.c - what a runtime tells who reads its memory; see publish.h.
 */
#include "publish.h"

#include "mm.h"

#include <stddef.h>

uint64_t publish_layout(void)
{
	/* clang-format off */
	static const uint64_t what[] = {
		PUBLISH_VERSION, sizeof(struct published), PTE_STATES, PTE_PAYLOAD_SHIFT,
		sizeof(struct region), offsetof(struct region, start), offsetof(struct region, flags),
		offsetof(struct region_tree, seq), offsetof(struct region_tree, pages),
		offsetof(struct region_tree, locked_pages),
		PTE_LEVELS, PTE_CHUNK_NODES, PTE_CHUNKS_MAX, sizeof(struct pte_table),
		offsetof(struct pte_table, chunk), offsetof(struct pte_table, root),
		offsetof(struct pte_table, count),
		sizeof(struct fill_table), offsetof(struct fill_table, word),
		offsetof(struct fill_table, used), sizeof(struct fill_word),
		STAGE_BLOCK, STAGE_BLOCKS, STAGE_BUFFER_MAX, sizeof(struct staging),
		sizeof(struct stage_page), sizeof(struct stage_block),
		offsetof(struct stage_block, generation), offsetof(struct staging, buffer),
		offsetof(struct staging, page), offsetof(struct staging, block),
		offsetof(struct staging, transit), offsetof(struct staging, frames), STAGE_FREE,
		STAGE_READING, STAGE_CACHED, STAGE_WRITING, STAGE_DEAD,
		FL_SWAP_MAX, SWP_SLOT_BITS, SLOT_CSUM_BITS, sizeof(struct swap_area),
		offsetof(struct swap_area, csums), offsetof(struct swap_area, path),
		offsetof(struct swap_area, device_number), offsetof(struct swap_area, shared_fd),
		sizeof(struct mm_counters), offsetof(struct mm_counters, latency),
		offsetof(struct mm_counters, slots_total),
		sizeof(struct pager), offsetof(struct pager, tid), sizeof(struct tier),
		offsetof(struct tier, codec), offsetof(struct tier, pool), sizeof(struct zobj_head),
		SWP_POOL, ZPOOL_UNIT,
		offsetof(struct region, users), offsetof(struct region, delta), REGION_REMOTE,
		offsetof(struct pagecache, users), offsetof(struct pagecache, chunk),
		sizeof(struct cache_chunk), offsetof(struct cache_chunk, word),
		offsetof(struct cache_chunk, block[0].drops), CHUNK_PAGES, CACHE_BLOCK, CACHE_CHUNKS,
		CACHE_UPTODATE, CACHE_GONE,
	};
	/* clang-format on */
	uint64_t h = PUBLISH_MAGIC;

	for (unsigned i = 0; i < sizeof(what) / sizeof(what[0]); i++)
		h = (h ^ what[i]) * 0x9e3779b97f4a7c15U;
	return h;
}

void publish_begin(struct mm *mm)
{
	struct published *p = &mm->published;

	p->layout = publish_layout();
	p->self = (uintptr_t)p;
	p->armed = (uintptr_t)&mm->armed;
	p->limit = (uintptr_t)&mm->limit;
	p->regions = (uintptr_t)&mm->regions;
	p->ptes = (uintptr_t)&mm->ptes;
	p->fills = (uintptr_t)&mm->fills;
	p->staging = (uintptr_t)&mm->staging;
	p->areas = (uintptr_t)mm->swap.area;
	p->counters = (uintptr_t)&mm->stats;
	p->csum_key = (uintptr_t)&mm->csum_key;
	p->pagers = (uintptr_t)mm->pager;
	p->tier = (uintptr_t)&mm->tier;
	p->port = (uintptr_t)&mm->snaps.port;
	p->cached = (uintptr_t)&mm->files.frames;
	p->group = (uintptr_t)&mm->group;
	/* Release: who reads the magic number reads the rest. */
	__atomic_store_n(&p->magic, PUBLISH_MAGIC, __ATOMIC_RELEASE);
}

void publish_end(struct mm *mm)
{
	__atomic_store_n(&mm->published.magic, 0, __ATOMIC_RELAXED);
}

uintptr_t publish_address(const struct mm *mm)
{
	return (uintptr_t)&mm->published;
}
