/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * within.h - a store's server in a child of the test, for what goes wrong with it.
 *
 * The test is linked with the server.  In the server's process rows of lib/sys.h and
 * the I/O of lib/blkio.h are replaced; what they do then is said in memory that
 * the test shares.  The clients' clock can be put forward, and so can the server's.
 */
#ifndef FL_TEST_WITHIN_H
#define FL_TEST_WITHIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	HOLD_BEFORE = 1, /* a write past the cache, before it is made */
	HOLD_BEHIND,	 /* and when it is done, */
	HOLD_RING,	 /* one that the ring is to do, before that, */
	HOLD_ANSWER,	 /* and the answer of one that it has done */
};

#define FAR_PAGE 2000UL

/* Each is read and written with atomics. */
struct within {
	int32_t write_error; /* what a write to a file ends with; 0: as it does */
	int32_t far_error;   /* the same from page FAR_PAGE on; 0: as before that */
	int32_t cut_error;   /* the same of ftruncate(2) of a file */
	uint32_t bad_syncs;  /* so many syncs fail with EIO */
	uint32_t slow;	     /* each page that is written takes so many ms */
	uint32_t slowed;     /* how many did */
	uint32_t slow_reads; /* the same of each page that is read; */
	uint32_t slow_read;  /* how many were */
	pid_t refused;	     /* whose connections end when they say something */
	uint32_t refusals;   /* how many did */
	uint32_t locks;	     /* how often the lock of a file's words was asked for; */
	uint32_t busy_locks; /* so many of them are somebody's else */
	uint32_t large;	     /* a page that is punched out of a memfd is part of a larger frame */
	uint32_t kept;	     /* which therefore stayed, with zeros there, so often */
	uint32_t punched;    /* a page, + 1, at whose punch out of a memfd the server is killed: */
	uint32_t behind;     /* when it is done, not before it */
	uint32_t killed;     /* that it was */
	uint32_t synced; /* the server is killed when a file is written and about to be durable */
	int32_t put_error; /* what pwrite(2) of the server's own ends with at page put_page; 0: as it does */
	uint32_t put_page;
	uint32_t hold;	    /* HOLD_...: that waits as long as it is set; */
	uint32_t held;	    /* so often it did */
	uint32_t enough;    /* a client is to end what it does */
	uint32_t hold_cuts; /* truncate(2), or open(2) with O_TRUNC, waits as long as that is so; */
	uint32_t held_cuts; /* how many did */
	uint32_t whole;	    /* the store is on a filesystem with times of so many whole seconds */
	uint32_t remote;    /* the store is on a filesystem that may tell of errors late */
	uint64_t skew;	    /* the clients' clock is that much ahead, ns, */
	uint64_t late;	    /* and the server's that much */
};

/* Shared with the server and the clients: before these are started. */
extern struct within *within;
void within_begin(void);

/* Serve BASE/store at BASE/mnt with so much cache; returns when that is so. */
void within_serve(const char *base, uint64_t cache);
/* Have it end as SIGTERM does; and wait for its end, however it is brought about. */
void within_stop(void);
void within_wait(void);

#endif
