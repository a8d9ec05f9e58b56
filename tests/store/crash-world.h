/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-world.h - what the files of a crash course must be: as the operations that were
 * answered left them, and as the one that was not may have.
 */
#ifndef FL_TEST_CRASH_WORLD_H
#define FL_TEST_CRASH_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PG 4096UL
#define NAMES 4U
#define PAGES 220U
#define ROOM (PAGES * PG)
#define FILES 8U    /* that a course makes */
#define UNMAPPED 2U /* this one is never mapped */
#define CHANGES 256U
#define NOBODY UINT32_MAX

/* Bytes [from, to) of a file became others. */
struct change {
	uint32_t file;
	uint64_t from, to;
	uint32_t seed;
	bool zero; /* a hole, or cut off */
	bool done; /* and its operation was answered */
	bool cut;
};

struct file {
	ino_t ino;
	uint64_t size;
	uint64_t size_then;	/* of an operation that was not answered; else the same */
	bool grows;		/* and sizes in between are right, too */
	uint32_t durable;	/* that many of the host's writes are (crash.h) */
	uint32_t synced[PAGES]; /* changes before that are in base */
	uint8_t cur[ROOM];	/* as the last operations left it; zeros behind the end */
	uint8_t base[ROOM];	/* as of the last sync */
};

/* In memory that the processes share; written by the test alone. */
struct world {
	struct file file[FILES];
	uint32_t nfiles;
	uint32_t name[NAMES];	   /* the file of each, or NOBODY */
	uint32_t name_then[NAMES]; /* after an operation that was not answered */
	struct change change[CHANGES];
	uint32_t nchanges;
};

extern struct world *world;
extern bool direct;	 /* the mount is: nothing can be mapped */
extern unsigned run;	 /* each has a directory of its own: names of the one before may be known */
extern char course[128]; /* for messages: what is run */

/* The byte that is stored at `at`: never zero, so that zeros are never what somebody stored. */
uint8_t value(uint32_t seed, uint64_t at);
/* A course follows from its seed. */
void begin_course(uint64_t seed);
uint64_t next(void);

/* What is written to a file that is not is the host's at once. */
bool is_mapped(uint32_t file);
const char *on_mount(uint32_t name);
const char *on_host(uint32_t name);
ino_t ino_of(uint32_t name);
/* What a byte is in memory while an operation was not answered. */
bool in_flight(uint32_t file, uint64_t at, uint8_t have);

void make_files(void);
void remove_files(void);

/* Each fails the test where something else is found.  killed: the server was. */
void host_is_right(bool killed);
void store_is_right(void);
/* The next server shows what is on the host. */
void next_shows_the_same(void);
/*
 * Of each page some of the last writes that are not durable are undone, as a disk may
 * have done them in any order.
 */
void lose_power(void);

#endif
