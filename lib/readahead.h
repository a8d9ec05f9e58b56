/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readahead.h - windows: how many pages to handle with the one that faulted.
 *
 * A stream is a run of faults each of which lands where the one before
 * expected it.  A few of them are remembered for each use (first touches,
 * swap-ins, first writes), so that interleaved scans each keep theirs.  The
 * window doubles with each fault that meets its stream.
 *
 * Faults that meet no stream read by slot: neighbours in the slot's cluster
 * are read along while enough of those that were read get asked for.
 *
 * Called with the mm lock held.
 */
#ifndef FL_READAHEAD_H
#define FL_READAHEAD_H

#include "swap-slot.h"

#include <stdbool.h>
#include <stdint.h>

#define STREAMS 8U

struct stream {
	uint64_t next;	 /* vpn that goes on with it; 0: unused */
	uint64_t used;	 /* tick of its last fault */
	uint32_t window; /* pages */
};

struct stream_set {
	struct stream s[STREAMS];
	uint64_t tick;
};

struct readahead {
	struct stream_set touch; /* first touches */
	struct stream_set swap;	 /* swap-ins */
	struct stream_set wp;	 /* writes to write-protected pages */
	/* by slot: */
	uint32_t cluster;	  /* pages read for one that meets no stream, 1 to CLUSTER_MAX */
	uint32_t cluster_read;	  /* read along since the last decision */
	uint32_t cluster_hits;	  /* of those, asked for */
	uint32_t since_probe;	  /* faults since cluster fell to 1 */
};

#define CLUSTER_MAX 8U

void readahead_init(struct readahead *ra);

/*
 * A fault at vpn: the window in pages, 1 for a fault that starts a stream.
 * The caller tells with stream_done() how far it came.
 */
uint32_t stream_fault(struct stream_set *set, uint64_t vpn, uint32_t max, struct stream **out);

/* The stream goes on at next. */
void stream_done(struct stream *s, uint64_t next);

/* The pages to read by slot for a fault that met no stream. */
uint32_t cluster_window(struct readahead *ra);
void cluster_read(struct readahead *ra, uint32_t pages);
void cluster_hit(struct readahead *ra);

#endif
