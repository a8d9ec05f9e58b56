/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readahead.h - windows: how many pages to handle with the one that faulted.
 *
 * A stream is a run of faults each of which lands where the one before
 * expected it.  A few of them are remembered for each use (first touches,
 * swap-ins, first writes), so that interleaved scans each keep theirs.  The
 * window doubles with each fault that meets its stream.
 *
 * Faults that meet no stream read others along while enough of those that were
 * read get asked for: neighbours in the slot's cluster, and the pages below.  What
 * lies across the border of two pages is mostly touched upwards, which a stream
 * follows; but not where its header is at its end.
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
	uint64_t pause;	 /* ticks between that and the one before */
	uint32_t window; /* pages */
	uint64_t stays;	 /* swap-ins: what it reads below comes to stay */
};

struct stream_set {
	struct stream s[STREAMS];
	uint64_t tick;
};

/*
 * What streams brought, oldest first: pages that nobody may ask for again, so
 * that they leave for what is brought next.  Where there are more runs than
 * places the oldest is forgotten, and its pages are like any other.  All zeros: empty.
 */
#define TRAIL_RUNS 1024U

struct trail_run {
	void *of; /* a file's pages: its cache; NULL: memory */
	uint64_t page;
	uint64_t n;
};

struct trail {
	struct trail_run run[TRAIL_RUNS];
	uint32_t first, count;
	uint64_t pages; /* in all runs */
};

#define ALONG_MAX 8U
#define RECENT 8U

struct along {
	/* pages read for one that meets no stream, itself included: 1 to ALONG_MAX */
	uint32_t window;
	uint32_t grow;	      /* per cent of hits from which on the window doubles, */
	uint32_t keep;	      /* and below which it is halved */
	uint32_t read;	      /* read along since the last decision */
	uint32_t hits;	      /* of those, asked for */
	uint32_t since_probe; /* faults since the window fell to 1 */
	uint32_t patience;    /* decisions that it does not grow after it did so in vain, */
	uint32_t waits;	      /* and how many of them are left */
	bool grew;	      /* at the last decision */
};

struct readahead {
	struct stream_set touch; /* first touches */
	struct stream_set swap;	 /* swap-ins */
	struct stream_set wp;	 /* writes to write-protected pages */
	struct along cluster;	 /* by slot: mostly of the same request */
	struct along below;	 /* by address: mostly a request for each */
	/* while that reads nothing, what it would have met: */
	uint64_t recent[RECENT]; /* where faults were */
	uint32_t faults;	 /* so many of them, from 0 on */
	uint32_t met;		 /* of those since the last decision, right below a recent one */
};

/*
 * Streams of a file, by its pages; positions are absolute.
 *
 *	forward   a fault where the stream goes on reads a window and, behind it,
 *	          one or more ahead; the first touch of each of these reads
 *	          another.  So while one is copied, the device has the next.
 *	          Windows double, from FILE_WINDOW_MIN on.
 *	backward  a window, twice as large, that ends with the page that faulted
 *	strided   the pages at the next few strides, as far as a window has so many
 *
 * A fault that goes on with no stream reads one page.  Pages that were read
 * ahead and left unasked halve the largest window; pages that were asked for
 * let it grow again.
 *
 * A stream is of one mapping.  Where a mapping comes to what is read ahead for
 * another it gets a stream of its own, as far as that one is: so each goes on when
 * they part, and a file that is mapped part by part is one scan.
 */
#define FILE_WINDOW_MIN 32U
#define FILE_STRIDES 16U
#define FILE_STREAMS (2 * STREAMS)

struct file_stream {
	uint64_t used;	 /* tick of its last fault; 0: unused */
	uint64_t whose;	 /* tells mappings of the file apart */
	uint64_t last;	 /* page of that */
	uint64_t next;	 /* where a forward stream goes on: its next window, if it was read ahead */
	uint64_t ahead;	 /* end of what was read ahead for it */
	int64_t step;	 /* between its last two faults */
	uint32_t repeat; /* how often in a row */
	uint32_t window; /* 0: not a run yet */
};

struct file_streams {
	struct file_stream s[FILE_STREAMS];
	uint64_t tick;
	uint32_t shift; /* the largest window is that much smaller */
	uint32_t wasted, asked;
};

/* Whose stream it is, and how far that may be read, pages. */
struct file_reach {
	uint64_t whose;
	uint32_t window; /* the largest; 1: nothing is read ahead */
	uint32_t ahead;	 /* so many of them behind the one that was asked for, 1 or more */
};

struct file_window {
	uint64_t from; /* read with the fault: holds its page */
	uint32_t n;
	uint64_t ahead; /* read ahead, not waited for: `count` pieces of n_ahead pages, */
	uint32_t n_ahead;
	uint32_t count;
	int64_t step;	 /* so far apart */
	uint32_t every;	 /* at multiples of it windows begin, and where it is ahead; 0: none do */
	uint64_t until;	 /* the touch of this page is to be heard of; 0: of none */
	uint64_t passed; /* the stream has passed over what it read from there up to its page */
	uint64_t since;	 /* the stream went on from there without being heard of, up to its page */
};

/* A fault at a page that is not there; `sequential`: as the program advised. */
void file_stream_miss(struct file_streams *set, uint64_t page, const struct file_reach *reach,
		      bool sequential, struct file_window *w);
/* The first touch of a page that was read ahead: only the ahead part of *w, `until`, `passed` and `since` are set. */
void file_stream_hit(struct file_streams *set, uint64_t page, const struct file_reach *reach,
		     struct file_window *w);
/* The mapping faults at n pages that were asked for before: its stream may pass over them. */
void file_stream_pass(struct file_streams *set, uint64_t page, uint64_t n, uint64_t whose);
void file_stream_asked(struct file_streams *set, uint32_t pages);
void file_stream_wasted(struct file_streams *set, uint32_t pages);

void readahead_init(struct readahead *ra);

/*
 * A fault at vpn: the window in pages, 1 for a fault that starts a stream.
 * The caller tells with stream_done() how far it came.
 */
uint32_t stream_fault(struct stream_set *set, uint64_t vpn, uint32_t max, struct stream **out);
/* How many streams go on together: they have what is read ahead in one buffer. */
unsigned stream_going(const struct stream_set *set);

void trail_add(struct trail *t, void *of, uint64_t page, uint64_t n);
/* The oldest run; NULL when there is none. */
const struct trail_run *trail_oldest(const struct trail *t);
/* Its first n pages are in it no longer. */
void trail_cut(struct trail *t, uint64_t n);
/* What it is of has no pages any more. */
void trail_forget(struct trail *t, const void *of);

/* The stream goes on at next. */
void stream_done(struct stream *s, uint64_t next);

/* The pages to read for a fault that met no stream: by slot, and with those below vpn. */
uint32_t cluster_window(struct readahead *ra);
uint32_t below_window(struct readahead *ra, uint64_t vpn);
/* So many were, beside the one that faulted. */
void along_read(struct along *a, uint32_t pages);
void along_hit(struct along *a);

#endif
