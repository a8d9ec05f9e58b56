/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash.h - a store's server, in a child of the test, that is killed where the
 * test wants it.
 *
 * The test is linked with the server.  In the server's process whatever changes
 * the store, answers somebody, or changes memory that clients share, passes a
 * point: the functions that src/store calls are wrapped by the linker, the rows
 * of lib/sys.h and the I/O of lib/blkio.h are replaced.  Points are counted in
 * memory that the test shares, and at one of them the process ends by SIGKILL:
 * before a step, in the middle of the bytes that it was to write, or after it.
 */
#ifndef FL_TEST_CRASH_H
#define FL_TEST_CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CRASH_WRITE 0x01U  /* bytes of a file or an area: before, and half of them written */
#define CRASH_SYNC 0x02U   /* fsync(2) */
#define CRASH_NAME 0x04U   /* sizes, holes, names: before and after */
#define CRASH_ANSWER 0x08U /* the first answer to anybody after one of those */
#define CRASH_PAGE 0x10U   /* memory of mapped files: memfds, userfaultfds */
#define CRASH_FILE 0x40U   /* of these, what is made when a file is first mapped */
#define CRASH_CLIENT 0x20U /* messages from and to clients, locks of areas and members */

#define CRASH_OLD_MAX 8192U /* pages that are written in a course */

/* A page of a file before it was written. */
struct crash_old {
	ino_t ino;
	uint64_t page;
	uint32_t bytes;
};

struct crash {
	uint32_t kinds; /* the points that count; 0: none */
	uint32_t at;	/* the one at which the server is killed; 0: none */
	uint32_t count; /* those that were passed */
	uint32_t killed;
	const char *where; /* what the server was about to do, or did */
	const char *when;
	/*
	 * For a loss of power, which takes what no fsync(2) followed: what was there before
	 * each write of a page, in order; and how many writes there were when the last
	 * fsync(2) of a file began.
	 */
	bool keep_old;
	uint32_t nold;
	struct crash_old old[CRASH_OLD_MAX];
	uint32_t nsyncs;
	struct {
		ino_t ino;
		uint32_t mark;
	} sync[CRASH_OLD_MAX];
	uint8_t bytes[CRASH_OLD_MAX][4096] __attribute__((aligned(4096)));
};

/* Shared with the server. */
extern struct crash *crash;

struct crash_mount {
	const char *base;
	uint64_t cache;
	bool direct, page_io, sandbox;
};

/* BASE/name of the store that was served last, good for the next three calls. */
const char *crash_in_base(const char *name);
/* Serve BASE/store at BASE/mnt; returns when that is so, with points that do not count. */
void crash_serve(const struct crash_mount *mount);
/* From here on points count; `keep_old`: and what is overwritten is kept. */
void crash_arm(uint32_t kinds, uint32_t at, bool keep_old);
/* How many writes there were when the last fsync(2) of that file began. */
uint32_t crash_synced(ino_t ino);
/* They do not any more; whether the server was killed. */
bool crash_disarm(void);
/* Wait for the end of a server that was killed, and of its mount. */
void crash_wait(void);
/* End the server that serves, as SIGTERM does. */
void crash_end(void);
/* After a test that failed. */
void crash_clean(void);

#endif
