/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peek.c - another process's managed memory; see peek.h.
 *
 * How a page is read while it moves about.  The rules that the runtime keeps
 * are in lib/publish.h.  One pass over a range:
 *
 *	1. the entries
 *	2. what is in the application: that is the content, whatever the entry
 *	   says.  From here on a page is known not to have been there after 1.
 *	3. what is not there, by its entry: zeros, the fill table's word, the place
 *	   in staging, the slot
 *	4. the entries again, and the checksums of slots
 *
 * A page whose entry did not change between 1 and 4 was where the entry said
 * all the while: to come back and leave again it would have had to be PRESENT in
 * between.  That it left and came to the same place again in that time is excluded
 * in staging by the block's generation; in a slot by the checksum, which is
 * read last and belongs to what was written there last.  Other pages are tried again
 * in the next pass.
 *
 * A page that left while its entry still says PRESENT is found by struct
 * transit, or, being known to equal its slot (PTE_WP), in the slot.
 *
 * A page of a mapped file has no entry where it is not in the process, or never has one
 * (MAP_SHARED).  Its word in the page cache says whether the cache's memfd has it, and a
 * count tells that pages were taken out of that meanwhile (lib/publish.h).  Of a page that
 * is not cached the file has the bytes: whatever becomes of it from then on, the file
 * never has older ones.  Which file that is the region says, which is looked at again last.
 *
 * Accepted: while a file is cut by the process itself its pages beyond the new end
 * are shown as the file has them until that is cut, too.  The tree of regions is read
 * without its lock: a process that changes it all the time, or was stopped in the
 * middle of a change, may show a region too few.  A page is given up, with EIO, when it
 * was on the move in PASSES passes, which take about a second.
 */
#include "peek.h"

#include "sys.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define TREE_STEPS 128U
#define TREE_TRIES 64U
#define LEAF_TRIES 64U
#define REGION_TRIES 64U
#define PASSES 1100U
#define PASSES_BUSY 100U /* of those, without a pause */
#define PAUSE_NS 1000000L
#define BAD_PASSES                                                                                 \
	8U /* a slot that does not match this often, under one entry, is not the page's */
#define LEAVES_MAX 4096U /* of one search */
#define LINK_NODE 0xffffffffU
#define PAGEMAP_THERE ((uint64_t)3 << 62) /* present, or in the kernel's own swap */
#define FILLS_MAX ((uint64_t)1 << 24)

/* ---- reading ---- */

static int get(const struct peek *p, uint64_t addr, void *buf, size_t len)
{
	ssize_t n;

	if (addr >= PEEK_END || len > PEEK_END - addr)
		return -EIO;
	do
		n = pread(p->mem_fd, buf, len, (off_t)addr);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return 0;
	return n == 0 ? -ESRCH : -EIO;
}

int peek_open(struct peek *p, int mem_fd, int pagemap_fd, uint64_t address)
{
	struct published at;
	int err;

	*p = (struct peek){.mem_fd = mem_fd, .pagemap_fd = pagemap_fd};
	err = get(p, address, &at, sizeof(at));
	if (err != 0)
		return err;
	if (at.magic != PUBLISH_MAGIC || at.self != address)
		return -EIO;
	if (at.layout != publish_layout())
		return -EPROTO;
	p->at = at;
	return 0;
}

unsigned peek_find(int mem_fd, FILE *maps, uint64_t *address, unsigned max)
{
	unsigned found = 0;
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, maps) > 0) {
		unsigned long long start, end;
		struct peek p;
		int err;

		if (sscanf(line, "%llx-%llx rw-p", &start, &end) != 2 || !sys_mem_zone(start))
			continue;
		err = peek_open(&p, mem_fd, -1, start);
		if (err != 0 && err != -EPROTO)
			continue;
		if (found < max)
			address[found] = start;
		found++;
	}
	free(line);
	return found;
}

int peek_armed(const struct peek *p)
{
	uint32_t armed;
	int err = get(p, p->at.armed, &armed, sizeof(armed));

	return err != 0 ? err : armed != 0;
}

/* ---- regions ---- */

/* One walk down the tree: 1, 0 or -errno. */
static int walk_tree(const struct peek *p, uint64_t node, uint64_t addr, struct peek_region *out)
{
	int found = 0;

	for (unsigned steps = 0; node != 0; steps++) {
		struct region r;
		int err = get(p, node, &r, sizeof(r));

		if (err != 0)
			return err;
		if (steps == TREE_STEPS)
			return -EAGAIN;
		if (r.end > addr) {
			*out = (struct peek_region){r.start, r.end,	      r.prot,
						    r.flags, r.users != NULL, (uintptr_t)r.users,
						    r.delta};
			found = 1;
			node = (uintptr_t)r.left;
		} else {
			node = (uintptr_t)r.right;
		}
	}
	if (found && (out->start >= out->end || out->end > PEEK_END || out->end <= addr ||
		      ((out->start | out->end) & (PAGE_SIZE - 1)) != 0))
		return -EAGAIN;
	return found;
}

int peek_region(const struct peek *p, uint64_t addr, struct peek_region *out)
{
	int r = -EIO;

	for (unsigned tries = 0; tries < TREE_TRIES; tries++) {
		struct region_tree before, after;
		int err = get(p, p->at.regions, &before, sizeof(before));

		if (err != 0)
			return err;
		r = walk_tree(p, (uintptr_t)before.root, addr, out);
		err = get(p, p->at.regions, &after, sizeof(after));
		if (err != 0)
			return err;
		if (before.seq == after.seq && (before.seq & 1) == 0)
			break;
	}
	return r == -EAGAIN ? -EIO : r;
}

/* ---- page entries ---- */

static int node_address(const struct peek *p, const struct pte_table *t, uint32_t node,
			uint64_t *at)
{
	uint64_t chunk = 0;
	int err;

	*at = 0;
	if (node == 0 || node / PTE_CHUNK_NODES >= t->nchunks || t->nchunks > PTE_CHUNKS_MAX)
		return -EIO;
	err = get(p, (uintptr_t)t->chunk + node / PTE_CHUNK_NODES * sizeof(chunk), &chunk,
		  sizeof(chunk));
	*at = chunk + node % PTE_CHUNK_NODES * PAGE_SIZE;
	return err;
}

/*
 * The leaf of vpn: its address, 0 when there is none.  *next is the first page
 * beyond it, or beyond the largest piece around vpn that has none.
 */
static int find_leaf(const struct peek *p, vpn_t vpn, uint64_t *leaf, vpn_t *next)
{
	struct pte_table t;
	uint64_t at = 0;
	int err = get(p, p->at.ptes, &t, sizeof(t));

	if (err == 0 && t.root == 0) {
		*leaf = 0;
		*next = VPN_MAX;
		return 0;
	}
	if (err == 0)
		err = node_address(p, &t, t.root, &at);
	for (int level = 0; err == 0 && level < PTE_LEVELS - 1; level++) {
		unsigned shift = 9 * (unsigned)(PTE_LEVELS - 1 - level);
		uint64_t link;

		err = get(p, at + (vpn >> shift & 511) * sizeof(link), &link, sizeof(link));
		if (err != 0)
			break;
		*next = ((vpn >> shift) + 1) << shift;
		if ((link & LINK_NODE) == 0) {
			*leaf = 0;
			return 0;
		}
		err = node_address(p, &t, (uint32_t)(link & LINK_NODE), &at);
	}
	*leaf = at;
	return err;
}

/* Entries of one leaf.  A leaf that was given up meanwhile may be another's: look again where it is. */
static int leaf_entries(const struct peek *p, vpn_t vpn, unsigned n, pte_t *out)
{
	uint64_t leaf, again;
	vpn_t next;
	int err = find_leaf(p, vpn, &leaf, &next);

	for (unsigned tries = 0; err == 0 && tries < LEAF_TRIES; tries++) {
		if (leaf == 0) {
			memset(out, 0, n * sizeof(*out));
			return 0;
		}
		err = get(p, leaf + vpn % PTE_LEAF_PAGES * sizeof(*out), out, n * sizeof(*out));
		if (err == 0)
			err = find_leaf(p, vpn, &again, &next);
		if (err != 0 || again == leaf)
			return err;
		leaf = again;
	}
	return err != 0 ? err : -EIO;
}

int peek_entries(const struct peek *p, vpn_t vpn, unsigned n, pte_t *out)
{
	if (vpn >= VPN_MAX || n > VPN_MAX - vpn)
		return -EIO;
	while (n != 0) {
		unsigned run = PTE_LEAF_PAGES - (unsigned)(vpn % PTE_LEAF_PAGES);
		int err;

		if (run > n)
			run = n;
		err = leaf_entries(p, vpn, run, out);
		if (err != 0)
			return err;
		vpn += run;
		out += run;
		n -= run;
	}
	return 0;
}

int peek_touched(const struct peek *p, vpn_t *vpn, vpn_t end)
{
	if (end > VPN_MAX)
		end = VPN_MAX;
	for (unsigned leaves = 0; *vpn < end && leaves < LEAVES_MAX; leaves++) {
		pte_t e[PTE_LEAF_PAGES];
		uint64_t leaf;
		vpn_t next;
		unsigned n;
		int err = find_leaf(p, *vpn, &leaf, &next);

		if (err == 0 && leaf != 0) {
			n = (unsigned)((next < end ? next : end) - *vpn);
			err = leaf_entries(p, *vpn, n, e);
			for (unsigned i = 0; err == 0 && i < n; i++)
				if (e[i] != 0) {
					*vpn += i;
					return 0;
				}
		}
		if (err != 0)
			return err;
		*vpn = next < end ? next : end;
	}
	return 0;
}

/* ---- staging ---- */

/* A field of struct staging, which is too large to be read whole. */
#define STAGING_FIELD(p, field, to)                                                                \
	get(p, (p)->at.staging + offsetof(struct staging, field), to, sizeof(*(to)))

static int read_places(const struct peek *p, uint32_t first, uint32_t n, struct stage_page *out)
{
	uint64_t pages;
	int err = STAGING_FIELD(p, page, &pages);

	if (err != 0)
		return err;
	if (first >= STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX ||
	    n > STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX - first)
		return -EIO;
	return get(p, pages + first * sizeof(*out), out, n * sizeof(*out));
}

static int read_generation(const struct peek *p, uint32_t place, uint32_t *out)
{
	return get(p,
		   p->at.staging + offsetof(struct staging, block) +
			   place / STAGE_BLOCK * sizeof(struct stage_block) +
			   offsetof(struct stage_block, generation),
		   out, sizeof(*out));
}

static int read_frame(const struct peek *p, uint32_t place, char *buf)
{
	uint64_t base;
	int err;

	if (place < STAGE_BLOCK_PAGES) {
		err = STAGING_FIELD(p, base, &base);
	} else {
		err = STAGING_FIELD(p, buffer, &base);
		place -= STAGE_BLOCK_PAGES;
	}
	if (err != 0)
		return err;
	return place < STAGE_BLOCK_PAGES ? get(p, base + place * PAGE_SIZE, buf, PAGE_SIZE) : -EIO;
}

/* ---- areas and fills ---- */

static int read_area(const struct peek *p, unsigned index, struct swap_area *out)
{
	uint64_t at;
	int err;

	if (index >= FL_SWAP_MAX)
		return -EIO;
	err = get(p, p->at.areas + index * sizeof(at), &at, sizeof(at));
	if (err == 0 && at == 0)
		return -ENOENT;
	return err != 0 ? err : get(p, at, out, sizeof(*out));
}

int peek_area(const struct peek *p, unsigned index, struct peek_area *out)
{
	struct swap_area a;
	int err = read_area(p, index, &a);

	if (err != 0)
		return err;
	memcpy(out->path, a.path, sizeof(out->path));
	out->path[sizeof(out->path) - 1] = '\0';
	for (char *c = out->path; *c != '\0'; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	out->device = a.device_number;
	out->inode = a.inode;
	out->fd = a.shared_fd;
	out->io_errors = a.io_errors;
	out->bad_slots = a.bad_slots;
	out->slots = a.max_slots;
	return 0;
}

int peek_pager(const struct peek *p)
{
	uint64_t at;
	uint32_t tid;
	int err = get(p, p->at.pagers, &at, sizeof(at));

	if (err != 0 || at == 0)
		return err;
	err = get(p, at + offsetof(struct pager, tid), &tid, sizeof(tid));
	return err != 0 ? err : (int)(tid & INT32_MAX);
}

int peek_port(const struct peek *p, struct snapshot_port *out)
{
	int err = get(p, p->at.port, out, sizeof(*out));

	if (err == 0 && out->len > sizeof(out->name))
		err = -EIO;
	return err;
}

static int read_fill(const struct peek *p, uint64_t index, uint64_t *word)
{
	struct fill_table t;
	int err;

	*word = 0;
	if (index == 0)
		return 0;
	err = get(p, p->at.fills, &t, sizeof(t));
	if (err == 0 && (index >= t.used || index >= FILLS_MAX))
		err = -EIO;
	if (err == 0)
		err = get(p, (uintptr_t)t.word + index * sizeof(struct fill_word), word,
			  sizeof(*word));
	return err;
}

/* ---- the pages of a region ---- */

/* Where a page is, if in a slot. */
static uint64_t tell_slot(swp_t swp)
{
	return swp != SWP_NONE && !swp_pooled(swp) ? FL_PAGE_HAS_SLOT | swp << PEEK_WHERE_SHIFT : 0;
}

static uint64_t tell_staged(const struct stage_page *sp)
{
	uint64_t e = FL_PAGE_STAGED;

	if (sp->state == STAGE_READING || sp->state == STAGE_WRITING)
		e |= FL_PAGE_BUSY;
	if (sp->state != STAGE_FILLED)
		e |= tell_slot(sp->swp);
	return e;
}

/* STAGED pages at adjacent places, n at most. */
static unsigned tell_places(const struct peek *p, const pte_t *e, unsigned n, uint64_t *out,
			    int *err)
{
	struct stage_page sp[PEEK_PAGES];
	uint64_t first = pte_payload(e[0]);
	unsigned run = 1;

	while (run < n && pte_state(e[run]) == PTE_STAGED && pte_payload(e[run]) == first + run)
		run++;
	if (first > UINT32_MAX)
		*err = -EIO;
	else
		*err = read_places(p, (uint32_t)first, run, sp);
	for (unsigned i = 0; *err == 0 && i < run; i++)
		out[i] = tell_staged(&sp[i]);
	return run;
}

int peek_tell(const struct peek *p, const struct peek_region *r, vpn_t vpn, unsigned n,
	      uint64_t *out, uint64_t *word)
{
	uint64_t all = r->flags & REGION_LOCKED ? FL_PAGE_LOCKED : 0;
	pte_t e[PEEK_PAGES];
	int err = peek_armed(p);
	int armed = err;

	if (n > PEEK_PAGES)
		return -EINVAL;
	if (err >= 0)
		err = peek_entries(p, vpn, n, e);
	for (unsigned i = 0; err == 0 && i < n; i++) {
		enum pte_state s = pte_state(e[i]);
		uint64_t swp = pte_swp(e[i]);

		if (word != NULL)
			word[i] = 0;
		if (!armed) {
			out[i] = all | FL_PAGE_UNTRACKED;
			continue;
		}
		switch (s) {
		case PTE_NONE:
			out[i] = r->file ? FL_PAGE_FILE : FL_PAGE_NONE;
			break;
		case PTE_PRESENT:
			out[i] = FL_PAGE_PRESENT | (e[i] & PTE_WP ? FL_PAGE_WP : 0) |
				 (e[i] & PTE_YOUNG ? PEEK_YOUNG : 0);
			out[i] |= tell_slot(swp);
			break;
		case PTE_STAGED: {
			unsigned run = tell_places(p, &e[i], n - i, &out[i], &err);

			for (unsigned k = 0; k < run; k++) {
				out[i + k] |= all;
				if (word != NULL)
					word[i + k] = 0;
			}
			i += run - 1;
			continue;
		}
		case PTE_SWAPPED:
			out[i] = FL_PAGE_SWAPPED | FL_PAGE_HAS_SLOT | swp << PEEK_WHERE_SHIFT;
			break;
		case PTE_FILLED:
			out[i] = FL_PAGE_FILLED;
			/* a table that grows just now is somewhere else the next time */
			if (word != NULL && read_fill(p, pte_payload(e[i]), &word[i]) != 0)
				err = read_fill(p, pte_payload(e[i]), &word[i]);
			break;
		case PTE_POISONED:
			out[i] = FL_PAGE_POISONED;
			break;
		case PTE_COMPRESSED:
			out[i] = FL_PAGE_COMPRESSED;
			break;
		default:
			return -EIO;
		}
		out[i] |= all;
	}
	return err;
}

/* ---- the bytes of pages ---- */

/* What is known of each page of a range. */
struct look {
	const struct peek *p;
	vpn_t vpn;
	unsigned n;
	char *buf;
	uint64_t key;
	struct peek_region r; /* that they are in */
	bool done[PEEK_PAGES];
	bool lost[PEEK_PAGES];	 /* done, with -EIO */
	uint8_t bad[PEEK_PAGES]; /* passes in which the slot did not match */
	/* one pass */
	bool again;	    /* not the first one */
	struct codec codec; /* open once something was unpacked */
	pte_t before[PEEK_PAGES], after[PEEK_PAGES];
	bool have[PEEK_PAGES];	 /* buf has bytes, to be confirmed */
	bool unread[PEEK_PAGES]; /* the slot cannot be read, or the file */
	swp_t slot[PEEK_PAGES];	 /* by this slot's checksum; SWP_NONE: otherwise */
	uint64_t hash[PEEK_PAGES];
};

static char *page_of(const struct look *l, unsigned i)
{
	return l->buf + i * PAGE_SIZE;
}

/* Step 2: pages of the application itself. */
static int look_there(struct look *l, const bool *there)
{
	unsigned i = 0;

	while (i < l->n) {
		unsigned run = 0;
		ssize_t n;

		while (i + run < l->n && !l->done[i + run] && there[i + run])
			run++;
		if (run == 0) {
			i++;
			continue;
		}
		n = pread(l->p->mem_fd, page_of(l, i), run * PAGE_SIZE,
			  (off_t)((l->vpn + i) << PAGE_SHIFT));
		if (n == 0)
			return -ESRCH;
		if (n < 0 && errno == EINTR)
			continue;
		for (; n >= (ssize_t)PAGE_SIZE; n -= (ssize_t)PAGE_SIZE)
			l->done[i++] = true;
		if (i < l->n && !l->done[i])
			i++; /* not there after all */
	}
	return 0;
}

static int look_pagemap(const struct look *l, bool *there)
{
	uint64_t map[PEEK_PAGES];
	ssize_t n = -1;

	if (l->p->pagemap_fd >= 0)
		n = pread(l->p->pagemap_fd, map, l->n * sizeof(*map),
			  (off_t)(l->vpn * sizeof(*map)));
	if (n == 0)
		return -ESRCH;
	for (unsigned i = 0; i < l->n; i++)
		there[i] = (size_t)(n < 0 ? 0 : n) < (i + 1) * sizeof(*map) ||
			   (map[i] & PAGEMAP_THERE) != 0;
	return 0;
}

/* A frame in a block, where its generation stays the same meanwhile. */
static bool look_block(const struct look *l, unsigned i, uint32_t place)
{
	uint32_t before, after;
	pte_t again;

	return read_generation(l->p, place, &before) == 0 &&
	       read_frame(l->p, place, page_of(l, i)) == 0 &&
	       peek_entries(l->p, l->vpn + i, 1, &again) == 0 &&
	       ((again ^ l->before[i]) & ~PTE_CLOCK) == 0 &&
	       read_generation(l->p, place, &after) == 0 && before == after;
}

static bool look_transit(const struct look *l, unsigned i)
{
	struct transit t;
	uint64_t vpn = l->vpn + i;

	if (STAGING_FIELD(l->p, transit, &t) != 0 || t.n > STAGE_BLOCK ||
	    t.index >= STAGE_BLOCK_PAGES || vpn < t.vpn || vpn - t.vpn >= t.n ||
	    t.index + (vpn - t.vpn) >= STAGE_BLOCK_PAGES)
		return false;
	return look_block(l, i, t.index + (uint32_t)(vpn - t.vpn));
}

static bool look_staged(struct look *l, unsigned i)
{
	uint64_t place = pte_payload(l->before[i]);
	struct stage_page sp;

	if (place < STAGE_BLOCK_PAGES)
		return look_block(l, i, (uint32_t)place);
	if (place >= STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX ||
	    read_places(l->p, (uint32_t)place, 1, &sp) != 0 || sp.vpn != l->vpn + i)
		return false;
	if (sp.state != STAGE_READING && sp.state != STAGE_CACHED)
		return false;
	l->slot[i] = sp.swp;
	/* what is on its way is in its slot */
	return sp.state == STAGE_CACHED && read_frame(l->p, (uint32_t)place, page_of(l, i)) == 0;
}

/*
 * An object of the pool: bytes, which do for themselves what a slot's checksum
 * does for it.
 */
static bool look_object(struct look *l, unsigned i, swp_t swp)
{
	const uint64_t off = (uint64_t)swp_object(swp) * ZPOOL_UNIT;
	char packed[ZPOOL_OBJ_MAX];
	struct zobj_head h;
	struct tier t;

	if (get(l->p, l->p->at.tier, &t, sizeof(t)) != 0 || t.pool.nspans > ZPOOL_SPANS_MAX ||
	    off + sizeof(h) + sizeof(packed) > t.pool.nspans * ZPOOL_SPAN + sizeof(packed) ||
	    get(l->p, (uintptr_t)t.pool.base + off, &h, sizeof(h)) != 0)
		return false;
	if (!h.live || h.vpn != l->vpn + i || h.size == 0 || h.size > sizeof(packed) ||
	    get(l->p, (uintptr_t)t.pool.base + off + sizeof(h), packed, h.size) != 0)
		return false;
	if (l->codec.kind != FL_COMPRESS_NONE && l->codec.kind != t.codec.kind)
		codec_close(&l->codec);
	if (l->codec.kind == FL_COMPRESS_NONE &&
	    (t.codec.kind == FL_COMPRESS_NONE || (unsigned)t.codec.kind > FL_COMPRESS_ZSTD ||
	     codec_open(&l->codec, t.codec.kind) != 0))
		return false;
	return codec_unpack(&l->codec, packed, h.size, page_of(l, i)) &&
	       stage_csum_keyed(l->key, page_of(l, i), swp) == h.csum;
}

static bool look_filled(const struct look *l, unsigned i)
{
	uint64_t *w = (uint64_t *)(void *)page_of(l, i);
	uint64_t word, again;

	if (read_fill(l->p, pte_payload(l->before[i]), &word) != 0 ||
	    read_fill(l->p, pte_payload(l->before[i]), &again) != 0 || word != again)
		return false;
	for (unsigned k = 0; k < PAGE_SIZE / sizeof(*w); k++)
		w[k] = word;
	return true;
}

/* Step 3 for one page: its bytes, or the slot that has them. */
static void look_away(struct look *l, unsigned i)
{
	pte_t e = l->before[i];

	switch (pte_state(e)) {
	case PTE_NONE:
		if (l->r.file)
			break;
		memset(page_of(l, i), 0, PAGE_SIZE);
		l->have[i] = true;
		break;
	case PTE_PRESENT:
		if ((e & PTE_WP) && swp_pooled(pte_swp(e)))
			l->have[i] = look_object(l, i, pte_swp(e)) || look_transit(l, i);
		else if ((e & PTE_WP) && pte_swp(e) != SWP_NONE)
			l->slot[i] = pte_swp(e);
		else
			l->have[i] = look_transit(l, i);
		break;
	case PTE_STAGED:
		l->have[i] = look_staged(l, i);
		break;
	case PTE_SWAPPED:
		l->slot[i] = pte_swp(e);
		break;
	case PTE_FILLED:
		l->have[i] = look_filled(l, i);
		break;
	case PTE_COMPRESSED:
		l->have[i] = look_object(l, i, pte_swp(e));
		break;
	default:
		l->have[i] = true; /* that it is lost */
	}
}

/* Pages from i on that are in adjacent slots and not read yet. */
static unsigned slot_run(const struct look *l, unsigned i)
{
	unsigned run = 0;

	while (i + run < l->n && !l->done[i + run] && l->slot[i + run] != SWP_NONE &&
	       !l->have[i + run] && l->slot[i + run] == l->slot[i] + run &&
	       swp_area(l->slot[i + run]) == swp_area(l->slot[i]))
		run++;
	return run;
}

/* Step 3: what is in slots. */
static void look_slots(struct look *l)
{
	const struct peek *p = l->p;
	unsigned i = 0;

	while (i < l->n) {
		unsigned run = slot_run(l, i);
		swp_t swp = l->slot[i];
		int n = -EIO;

		if (run == 0) {
			i++;
			continue;
		}
		if (p->slots != NULL && swp_area(swp) < FL_SWAP_MAX)
			n = p->slots(p->arg, swp_area(swp), swp_slot(swp), run, page_of(l, i),
				     l->again);
		/* no checksum is 0: what cannot be read will not match */
		if (n <= 0)
			l->unread[i] = true;
		for (int k = 0; k < n || k == 0; k++)
			l->have[i++] = true;
	}
}

/* Step 3: what is in files. */
static bool is_of_file(const struct look *l, unsigned i)
{
	return l->r.file && !l->done[i] && pte_state(l->before[i]) == PTE_NONE;
}

static uint64_t file_page(const struct look *l, unsigned i)
{
	return l->vpn + i + l->r.delta;
}

/* n pages from i on, all of which are in that part; those that are not there are `unread`. */
static void look_part(struct look *l, enum peek_part part, unsigned i, unsigned n)
{
	const struct peek *p = l->p;

	while (n != 0) {
		int got = p->file == NULL ? -EIO
					  : p->file(p->arg, l->r.backing, part, file_page(l, i), n,
						    page_of(l, i));

		if (got > 0 && (unsigned)got > n)
			got = (int)n;
		l->unread[i] = got <= 0;
		for (int k = 0; k < got || k == 0; k++, n--)
			l->have[i++] = true;
	}
}

/* Where words are of pages of a block of the process's own cache, and its count; 0: nothing is cached. */
static int find_words(const struct look *l, uint64_t page, uint64_t *word, uint64_t *drops)
{
	uint64_t chunks, chunk = 0;
	int err;

	*word = *drops = 0;
	if (page / CHUNK_PAGES >= CACHE_CHUNKS)
		return -EIO;
	err = get(l->p, l->r.backing + offsetof(struct pagecache, chunk), &chunks, sizeof(chunks));
	if (err == 0)
		err = get(l->p, chunks + page / CHUNK_PAGES * sizeof(chunk), &chunk, sizeof(chunk));
	if (err != 0 || chunk == 0)
		return err;
	err = get(l->p, chunk + offsetof(struct cache_chunk, word), &chunks, sizeof(chunks));
	*word = chunks + page % CHUNK_PAGES * sizeof(uint32_t);
	*drops = chunk + offsetof(struct cache_chunk, block[0].drops) +
		 page % CHUNK_PAGES / CACHE_BLOCK * sizeof(((struct cache_chunk *)NULL)->block[0]);
	return err;
}

static bool is_cached(uint32_t word)
{
	return (word & (CACHE_UPTODATE | CACHE_GONE)) == CACHE_UPTODATE;
}

/* n pages from i on, of one block of the process's own cache. */
static int look_own_file(struct look *l, unsigned i, unsigned n)
{
	uint32_t word[PEEK_PAGES] = {0}, again[PEEK_PAGES] = {0}, drops = 0, dropped = 0;
	uint64_t word_at, drops_at;
	int err = find_words(l, file_page(l, i), &word_at, &drops_at);

	if (err == 0 && word_at != 0)
		err = get(l->p, drops_at, &drops, sizeof(drops));
	if (err == 0 && word_at != 0)
		err = get(l->p, word_at, word, n * sizeof(word[0]));
	for (unsigned k = 0, run; err == 0 && k < n; k += run) {
		bool cached = is_cached(word[k]);

		for (run = 1; k + run < n && is_cached(word[k + run]) == cached;)
			run++;
		look_part(l, cached ? PEEK_CACHED : PEEK_STORED, i + k, run);
	}
	if (err == 0 && word_at != 0)
		err = get(l->p, word_at, again, n * sizeof(again[0]));
	if (err == 0 && word_at != 0)
		err = get(l->p, drops_at, &dropped, sizeof(dropped));
	for (unsigned k = 0; err == 0 && k < n; k++)
		if (is_cached(word[k]) &&
		    (!is_cached(again[k]) || drops != dropped || drops % 2 != 0))
			l->have[i + k] = false;
	return err;
}

static int look_files(struct look *l)
{
	int err = 0;

	for (unsigned i = 0, run; err == 0 && i < l->n; i += run) {
		uint64_t most = CACHE_BLOCK - file_page(l, i) % CACHE_BLOCK;

		for (run = 0; run < most && i + run < l->n && is_of_file(l, i + run);)
			run++;
		if (run == 0)
			run = 1;
		else if (l->r.flags & REGION_REMOTE)
			look_part(l, PEEK_SERVED, i, run);
		else
			err = look_own_file(l, i, run);
	}
	return err == -ESRCH ? err : 0;
}

/* Step 4: whether the pages are of the same file still. */
static bool is_same_file(const struct look *l)
{
	struct peek_region r;

	return peek_region(l->p, l->vpn << PAGE_SHIFT, &r) == 1 &&
	       r.start <= l->vpn << PAGE_SHIFT && r.end >= (l->vpn + l->n) << PAGE_SHIFT &&
	       r.backing == l->r.backing && r.delta == l->r.delta &&
	       ((r.flags ^ l->r.flags) & (REGION_SHARED | REGION_REMOTE)) == 0;
}

/* Step 4: the checksums of n adjacent slots. */
static int read_csums(const struct peek *p, swp_t swp, unsigned n, uint64_t *out)
{
	struct swap_area a;
	uint32_t low[PEEK_PAGES];
	uint16_t high[PEEK_PAGES];
	uint32_t slot = swp_slot(swp);
	int err = read_area(p, swp_area(swp), &a);

	if (err == 0 &&
	    (a.csums.slots > UINT32_MAX || slot >= a.csums.slots || n > a.csums.slots - slot))
		err = -EIO;
	if (err == 0)
		err = get(p, (uintptr_t)a.csums.low + slot * sizeof(*low), low, n * sizeof(*low));
	if (err == 0)
		err = get(p, (uintptr_t)a.csums.high + slot * sizeof(*high), high,
			  n * sizeof(*high));
	for (unsigned i = 0; err == 0 && i < n; i++)
		out[i] = low[i] | (uint64_t)high[i] << 32;
	return err;
}

/* Does the page still have the entry that it had? */
static bool unchanged(const struct look *l, unsigned i)
{
	return ((l->before[i] ^ l->after[i]) & ~PTE_CLOCK) == 0;
}

static void confirm_slots(struct look *l)
{
	unsigned i = 0;

	while (i < l->n) {
		uint64_t csum[PEEK_PAGES];
		unsigned run = 0;

		while (i + run < l->n && !l->done[i + run] && l->have[i + run] &&
		       l->slot[i + run] != SWP_NONE && l->slot[i + run] == l->slot[i] + run &&
		       swp_area(l->slot[i + run]) == swp_area(l->slot[i]))
			run++;
		if (run == 0) {
			i++;
			continue;
		}
		if (read_csums(l->p, l->slot[i], run, csum) != 0)
			memset(csum, 0, sizeof(csum));
		for (unsigned k = 0; k < run; k++, i++)
			if (unchanged(l, i)) {
				l->done[i] = csum[k] != 0 && csum[k] == l->hash[i];
				l->lost[i] = !l->done[i] && ++l->bad[i] == BAD_PASSES;
				l->done[i] = l->done[i] || l->lost[i];
			}
	}
}

/* One pass: 0 or -errno of the whole. */
static int look_once(struct look *l)
{
	bool there[PEEK_PAGES];
	int armed = peek_armed(l->p);
	int err = armed < 0 ? armed : 0;

	memset(l->have, 0, sizeof(l->have));
	memset(l->unread, 0, sizeof(l->unread));
	memset(l->slot, 0, sizeof(l->slot));
	if (err == 0 && armed)
		err = peek_entries(l->p, l->vpn, l->n, l->before);
	if (err == 0)
		err = look_pagemap(l, there);
	if (err == 0)
		err = look_there(l, there);
	if (err != 0)
		return err;
	for (unsigned i = 0; i < l->n; i++) {
		if (l->done[i])
			continue;
		if (armed) {
			look_away(l, i);
		} else {
			memset(page_of(l, i), 0, PAGE_SIZE);
			l->have[i] = !there[i];
		}
	}
	if (!armed) {
		armed = peek_armed(l->p);
		for (unsigned i = 0; armed == 0 && i < l->n; i++)
			l->done[i] = l->done[i] || l->have[i];
		return armed < 0 ? armed : 0;
	}
	look_slots(l);
	err = l->r.file ? look_files(l) : 0;
	if (err != 0)
		return err;
	for (unsigned i = 0; i < l->n; i++)
		l->hash[i] = !l->done[i] && l->have[i] && !l->unread[i] && l->slot[i] != SWP_NONE
				     ? stage_csum_keyed(l->key, page_of(l, i), l->slot[i])
				     : 0;
	err = peek_entries(l->p, l->vpn, l->n, l->after);
	if (err != 0)
		return err;
	if (l->r.file && !is_same_file(l))
		return -EAGAIN;
	confirm_slots(l);
	for (unsigned i = 0; i < l->n; i++) {
		if (l->done[i] || !l->have[i] || l->slot[i] != SWP_NONE || !unchanged(l, i))
			continue;
		l->lost[i] = pte_state(l->before[i]) == PTE_POISONED || l->unread[i];
		l->done[i] = true;
	}
	return 0;
}

static bool all_done(const struct look *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (!l->done[i])
			return false;
	return true;
}

/* Pages within one region; -EAGAIN: that is another one by now. */
static int read_managed(const struct peek *p, const struct peek_region *r, vpn_t vpn, unsigned n,
			char *buf)
{
	struct look l = {.p = p, .r = *r, .vpn = vpn, .n = n, .buf = buf};
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	const unsigned passes = p->passes != 0 ? p->passes : PASSES;
	int err = get(p, p->at.csum_key, &l.key, sizeof(l.key));
	unsigned count = 0;

	for (unsigned pass = 0; err == 0 && pass < passes; pass++) {
		l.again = pass != 0;
		err = look_once(&l);
		if (err == 0 && all_done(&l))
			break;
		if (pass < PASSES_BUSY)
			sched_yield();
		else
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	codec_close(&l.codec);
	if (err != 0)
		return err;
	while (count < n && l.done[count] && !l.lost[count])
		count++;
	return count != 0 ? (int)count : -EIO;
}

int peek_read(const struct peek *p, vpn_t vpn, unsigned n, char *buf)
{
	unsigned done = 0, tries = 0;

	if (n == 0 || n > PEEK_PAGES || vpn >= PEEK_END / PAGE_SIZE ||
	    n > PEEK_END / PAGE_SIZE - vpn)
		return -EINVAL;
	while (done < n) {
		uint64_t at = (vpn + done) << PAGE_SHIFT;
		struct peek_region r = {.start = PEEK_END, .end = PEEK_END};
		unsigned run = n - done;
		int got = peek_region(p, at, &r);

		if (got < 0)
			return done != 0 ? (int)done : got;
		if (r.start > at) {
			if ((r.start - at) >> PAGE_SHIFT < run)
				run = (unsigned)((r.start - at) >> PAGE_SHIFT);
			memset(buf + done * PAGE_SIZE, 0, run * PAGE_SIZE);
			done += run;
			continue;
		}
		if ((r.end - at) >> PAGE_SHIFT < run)
			run = (unsigned)((r.end - at) >> PAGE_SHIFT);
		got = read_managed(p, &r, vpn + done, run, buf + done * PAGE_SIZE);
		if (got == -EAGAIN && ++tries < REGION_TRIES)
			continue;
		if (got < 0)
			return done != 0 ? (int)done : got == -EAGAIN ? -EIO : got;
		done += (unsigned)got;
		if ((unsigned)got < run)
			break;
	}
	return (int)done;
}

/* ---- counters ---- */

/* Of a process in a group; one may be leaving it. */
static void group_stats(const struct peek *p, struct fl_stats *out)
{
	char head[GROUP_HEAD];
	uint64_t group, table;

	if (get(p, p->at.group, &group, sizeof(group)) != 0 || group == 0 ||
	    get(p, group, &table, sizeof(table)) != 0 || get(p, table, head, sizeof(head)) != 0 ||
	    !group_told(head, &out->group_limit, &out->group_held))
		out->group_limit = out->group_held = 0;
}

int peek_stats(const struct peek *p, struct fl_stats *out, uint64_t *latency_ns)
{
	struct mm_counters c;
	struct pte_table ptes;
	struct region_tree regions;
	uint64_t frames, limit, cached;
	int armed = peek_armed(p);
	int err = armed < 0 ? armed : 0;

	if (err == 0)
		err = get(p, p->at.counters, &c, sizeof(c));
	if (err == 0)
		err = get(p, p->at.ptes, &ptes, sizeof(ptes));
	if (err == 0)
		err = get(p, p->at.regions, &regions, sizeof(regions));
	if (err == 0)
		err = get(p, p->at.limit, &limit, sizeof(limit));
	if (err == 0)
		err = STAGING_FIELD(p, frames, &frames);
	if (err == 0)
		err = get(p, p->at.cached, &cached, sizeof(cached));
	if (err != 0)
		return err;
	mm_stats_counted(&c, out);
	group_stats(p, out);
	if (latency_ns != NULL)
		*latency_ns = c.latency_ns;
	out->limit = limit;
	out->mapped = regions.pages;
	out->locked = regions.locked_pages;
	out->armed = (uint64_t)armed;
	out->resident = ptes.count[PTE_PRESENT];
	out->staged = frames;
	out->swapped = ptes.count[PTE_SWAPPED];
	out->filled = ptes.count[PTE_FILLED];
	out->poisoned = ptes.count[PTE_POISONED];
	out->compressed = ptes.count[PTE_COMPRESSED];
	out->cache_pages = cached;
	return 0;
}
