/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * workingset.c - which kind of frames is in use; see workingset.h.
 *
 * A page that leaves counts as gone at once, and no longer when it comes back: so a
 * count need not wait for as many to leave as there are frames.
 */
#include "workingset.h"

#include <stdbool.h>
#include <stddef.h>

#define WINDOW_PART 4U /* counts are halved after that part of the frames */
#define WINDOW_LEAST 32U

static uint64_t hash(enum ws_kind kind, uint64_t name)
{
	uint64_t x = name * WS_STREAMS + kind;

	x = (x ^ x >> 31) * 0x9e3779b97f4a7c15U;
	x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9U;
	return x ^ x >> 32;
}

/* One page of 1 << shift is looked at. */
static unsigned shift_of(uint64_t frames)
{
	unsigned shift = 0;

	while (frames >> shift > WS_SAMPLE)
		shift++;
	return shift;
}

static bool is_sampled(uint64_t h, uint64_t frames)
{
	return (h & (((uint64_t)1 << shift_of(frames)) - 1)) == 0;
}

static uint32_t key_of(uint64_t h)
{
	return (uint32_t)(h >> 21) | 1;
}

static uint64_t set_of(uint64_t h)
{
	return (h >> 53) % WS_SETS;
}

static void count(struct workingset *ws, enum ws_kind kind, uint32_t *one, uint64_t frames)
{
	uint64_t window = (frames >> shift_of(frames)) / WINDOW_PART;

	if (window < WINDOW_LEAST)
		window = WINDOW_LEAST;
	*one += 1;
	if (ws->kind[kind].gone + ws->kind[kind].again <= window)
		return;
	ws->kind[kind].gone /= 2;
	ws->kind[kind].again /= 2;
}

void workingset_left(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames)
{
	uint64_t h = hash(kind, name);
	unsigned oldest = 0;
	uint32_t age = 0;

	ws->left++;
	if (!is_sampled(h, frames))
		return;
	for (unsigned i = 0; i < WS_PLACES; i++) {
		uint32_t key = ws->shadow[set_of(h)][i].key;
		uint32_t since = (uint32_t)ws->left - ws->shadow[set_of(h)][i].when;

		if (key == key_of(h) || key == 0) {
			oldest = i;
			break;
		}
		if (since >= age) {
			age = since;
			oldest = i;
		}
	}
	ws->shadow[set_of(h)][oldest].key = key_of(h);
	ws->shadow[set_of(h)][oldest].when = (uint32_t)ws->left;
	count(ws, kind, &ws->kind[kind].gone, frames);
}

void workingset_stays(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames)
{
	if (is_sampled(hash(kind, name), frames))
		count(ws, kind, &ws->kind[kind].again, frames);
}

/* Whether a page of the sample that comes back left so late that it counts as again. */
static bool was_late(struct workingset *ws, uint64_t h, uint64_t frames)
{
	for (unsigned i = 0; i < WS_PLACES; i++) {
		uint32_t since = (uint32_t)ws->left - ws->shadow[set_of(h)][i].when;

		if (ws->shadow[set_of(h)][i].key != key_of(h))
			continue;
		ws->shadow[set_of(h)][i].key = 0;
		return since <= frames;
	}
	return false;
}

static bool came(struct workingset *ws, enum ws_kind kind, uint64_t h, uint64_t frames)
{
	if (!was_late(ws, h, frames))
		return false;
	if (ws->kind[kind].gone != 0)
		ws->kind[kind].gone--;
	count(ws, kind, &ws->kind[kind].again, frames);
	return true;
}

void workingset_came(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames)
{
	uint64_t h = hash(kind, name);

	if (is_sampled(h, frames))
		came(ws, kind, h, frames);
}

void workingset_brought(struct workingset *ws, uint64_t name, uint64_t frames)
{
	uint64_t h = hash(WS_FILES, name);

	if (!is_sampled(h, frames))
		return;
	count(ws, WS_STREAMS,
	      came(ws, WS_FILES, h, frames) ? &ws->kind[WS_STREAMS].again
					    : &ws->kind[WS_STREAMS].gone,
	      frames);
}

uint32_t workingset_again(const struct workingset *ws, enum ws_kind kind)
{
	uint64_t again = ws->kind[kind].again;

	return (uint32_t)(WS_ONE * again / (again + ws->kind[kind].gone + 1));
}
