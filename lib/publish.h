/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * publish.h - what a runtime tells who reads its memory from outside.
 *
 * A struct published stands at the beginning of every struct mm and says where
 * the runtime keeps what a reader needs: regions, page entries, staging,
 * checksums, counters.  All of it is ordinary memory of the process, so it is
 * read through /proc/PID/mem, at no cost to the process.  The addresses are
 * those of fields of the struct mm, which do not move: nothing here is kept up to
 * date but the fields themselves.
 *
 * Reader and runtime may be of different builds: publish_layout() says how
 * everything that a reader looks at is laid out, and who finds another value
 * stays away.
 *
 * A runtime's struct mm has a mapping of its own in the zone of our own memory
 * (sys.c), so a reader without help finds the struct by its magic number at the
 * beginning of a mapping there.  A forked child has it at the same address.
 *
 * What a reader relies on, beside the structures' own rules:
 *	an entry changes after its page came or left, so who finds a page there
 *	has its bytes, whatever the entry says;
 *	a page that is there is evicted only after its entry said PRESENT;
 *	struct transit tells where pages are between leaving and their entries' change;
 *	within one generation (struct stage_block) a place in staging has one frame;
 *	while a block's `drops` (struct cache_chunk) stays the same, and even, a page that its
 *	word says is cached is in the memfd; of one that is not the file has the bytes.
 */
#ifndef FL_PUBLISH_H
#define FL_PUBLISH_H

#include <stdint.h>

struct mm;

#define PUBLISH_MAGIC 0x314d4d5046464cf1U
#define PUBLISH_VERSION 3U

struct published {
	uint64_t magic; /* 0 once the runtime ends */
	uint64_t layout;
	uint64_t self;	   /* the address of this struct */
	uint64_t armed;	   /* addresses, from here on: uint32_t */
	uint64_t limit;	   /* uint64_t, pages */
	uint64_t regions;  /* struct region_tree */
	uint64_t ptes;	   /* struct pte_table */
	uint64_t fills;	   /* struct fill_table */
	uint64_t staging;  /* struct staging */
	uint64_t areas;	   /* struct swap_area *[FL_SWAP_MAX] */
	uint64_t counters; /* struct mm_counters */
	uint64_t csum_key; /* uint64_t */
	uint64_t pagers;   /* struct pager *[PAGERS_MAX] */
	uint64_t tier;	   /* struct tier */
	uint64_t port;	   /* struct snapshot_port */
	uint64_t cached;   /* uint64_t, frames that hold pages of files */
	uint64_t group;	   /* struct group *, see group_told() */
};

/* Fill it in, or take it back. */
void publish_begin(struct mm *mm);
void publish_end(struct mm *mm);

/* Where it is: what a reader is told. */
uintptr_t publish_address(const struct mm *mm);

/* How this build lays out what a reader looks at. */
uint64_t publish_layout(void);

#endif
