/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * workingset.h - which kind of frames is in use: what left and was touched again
 * (the kernel's workingset.c).
 *
 * Frames are memory (page entries) or cached pages of files, and each kind has a
 * clock of its own.  How much each is to give is told by what became of the pages
 * that it gave before.  A page that is touched again before as many others left as
 * there are frames would have been found, had others left in its place: it counts as
 * again.  So does one that is touched while its clock waits to see whether it is.
 * All others are gone.
 *
 * Of what streams bring of files, too, it is told how much had left so shortly before.
 *
 * What is counted are pages: how long a page was away, how often anybody looked and
 * what a page takes to come back do not matter.  Of large memory it is a sample, which
 * is told by a hash of a page's name: who leaves and who comes back are counted alike.
 * Counts are halved after as many pages of their kind as are a quarter of the frames, so
 * what is no longer in use is found out by those that it gives.
 *
 * Accepted: where more pages of one set left than it has places the oldest is
 * forgotten, and a page that is moved in memory has another name.
 *
 * Called with the mm lock held.
 */
#ifndef FL_WORKINGSET_H
#define FL_WORKINGSET_H

#include <stdint.h>

enum ws_kind { WS_MEMORY, WS_FILES, WS_STREAMS, WS_KINDS };

#define WS_ONE 1024U /* all of a kind */
#define WS_SETS 2048U
#define WS_PLACES 4U /* of a set */
#define WS_SAMPLE (WS_SETS * WS_PLACES / 4)

/* All zeros: nothing left yet. */
struct workingset {
	uint64_t left; /* pages, of all kinds */
	struct {
		uint32_t gone, again;
	} kind[WS_KINDS];
	/* of a page that left: its name, 0 for none, and `left` then */
	struct {
		uint32_t key, when;
	} shadow[WS_SETS][WS_PLACES];
};

/* A page leaves; `name` tells it from others of its kind. */
void workingset_left(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames);
/* A page that was to leave is touched. */
void workingset_stays(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames);
/* A page that is not there is touched, which may have left. */
void workingset_came(struct workingset *ws, enum ws_kind kind, uint64_t name, uint64_t frames);
/* The same of a page of a file that a stream brings. */
void workingset_brought(struct workingset *ws, uint64_t name, uint64_t frames);
/* How many of WS_ONE pages of a kind that leave are touched again. */
uint32_t workingset_again(const struct workingset *ws, enum ws_kind kind);

#endif
