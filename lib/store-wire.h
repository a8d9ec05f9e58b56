/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-wire.h - what a store's server and its clients say to each other.
 *
 * Over a SOCK_SEQPACKET socket; each message is one struct wire_msg,
 * little-endian, with descriptors beside it (SCM_RIGHTS):
 *
 *	client                                   server
 *	HELLO  mem, maps, pagemap ────────────▶
 *	HELD   lock, map   for each area that
 *	       it has already ─────────────────▶
 *	                  ◀──────────── AREA      lock, io, map: for each other one
 *	                  ◀──────────── ATTACHED  userfaultfd, where it was asked for
 *	                  ◀──────────── ERROR     instead, and the socket is closed
 *	later:
 *	                  ◀──────────── AREA      there is one more
 *	                  ◀──────────── SWAPOFF   give back all slots of an area
 *	                  ◀──────────── LIMIT     a new limit
 *	DONE   answers these two ─────────────▶
 *	BACKING what is behind mapped files: a
 *	       page cache's memfd, its file, or
 *	       neither: it is forgotten ───────▶
 *
 * A second connection is for shared mappings of files (share.h, peer.h):
 *
 *	HELLO  with WIRE_FILES, the userfaultfd ─▶
 *	                  ◀──────────── ATTACHED, or ERROR
 *	FILE   a descriptor, or the number of a
 *	       file that it has ──────────────▶
 *	                  ◀──────────── ANSWER    its number; memfd, its pages' words, marks
 *	MAP, UNMAP  a range ──────────────────▶
 *	                  ◀──────────── ANSWER
 *	ADVISE a range, and what of it ───────▶
 *	                  ◀──────────── ANSWER    when it is done, or under way
 *	TAKE   a file, and of a server before
 *	       this one memfd, words and marks,
 *	       or the file alone ─────────────▶
 *	                  ◀──────────── ANSWER    its number: that memfd is the file's here, too
 *	GO     what is mapped was told: from
 *	       now on the server answers faults ▶
 *	RETURN a file, and of a server before
 *	       this one memfd and words; what
 *	       was stored without one ────────▶
 *	                  ◀──────────── ANSWER    when it is in the file
 *	CLOSE  a file that it maps no more ───▶
 *	STORE  a page that it may store to is
 *	       let in as if it had; none: it is
 *	       to be told when one is protected ▶
 *	                  ◀──────────── CLEANED   one was; and is told again when it asks
 *	SYNC   a range ───────────────────────▶
 *	                  ◀──────────── ANSWER    when it is on the disk
 *	FORK ─────────────────────────────────▶
 *	                  ◀──────────── ANSWER    a connection for the child, which says
 *						  HELLO there, and has all that this one has
 *	                  ◀──────────── UNBUS     take the mark of a page away
 *	                  ◀──────────── FAULT     one where nothing is mapped that was told
 *
 * What is not used by a message is zero.  Neither side trusts the other: what
 * wire_parse() lets through is of the right size, kind and direction, with a
 * name that is one.
 */
#ifndef FL_STORE_WIRE_H
#define FL_STORE_WIRE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 2U
#define WIRE_NAME_MAX 256U /* terminator included */
#define WIRE_FDS_MAX 4U
#define WIRE_AREAS_MAX 32U
#define WIRE_LIMIT_MIN ((uint64_t)2 << 20)

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_HELD,
	WIRE_DONE,
	WIRE_AREA,
	WIRE_ATTACHED,
	WIRE_ERROR,
	WIRE_SWAPOFF,
	WIRE_LIMIT,
	WIRE_FILE,
	WIRE_MAP,
	WIRE_UNMAP,
	WIRE_CLOSE,
	WIRE_SYNC,
	WIRE_FORK,
	WIRE_ANSWER,
	WIRE_UNBUS,
	WIRE_ADVISE,
	WIRE_RETURN,
	WIRE_TAKE,
	WIRE_GO,
	WIRE_FAULT,
	WIRE_STORE,
	WIRE_CLEANED,
	WIRE_BACKING,
	WIRE_TYPE_END
};

/* Of HELLO. */
#define WIRE_DEVICE 1U /* /dev/userfaultfd is wanted */
#define WIRE_PROBE 2U  /* tell whether this would work: no areas, nothing is listed */
#define WIRE_COUNT 4U  /* the maps, to be counted: AREAs have one descriptor, and no member */
#define WIRE_MOUNT 8U  /* I/O will go through the mount: AREAs have the map alone */
#define WIRE_FILES 16U /* but for the next alone: a connection for shared mappings of files */
#define WIRE_AGAIN 32U /* of a process that has such mappings: faults are not read before GO */

/* Of ATTACHED, but for a connection for shared mappings. */
#define WIRE_LOOKS 1U /* it wants BACKING, to read what the process has mapped */

/*
 * With what a file is opened to be named in TAKE or RETURN; nobody else has use for all of
 * these at once.  The server has such a descriptor closed without a word to it: a pager
 * closes it, and must not wait for who holds the file and waits for the pager.
 */
#define WIRE_OPENS_AGAIN (O_NOFOLLOW | O_NONBLOCK | O_ASYNC)

/* Of FILE and TAKE. */
#define WIRE_WRITE 1U /* it is to be written, too */

/* Of FAULT: what it was. */
#define WIRE_STORES 1U
#define WIRE_PROTECTED 2U
#define WIRE_MINOR 4U

/* Of MAP: what madvise(2) and mlock(2) said of it before. */
#define WIRE_LOCKED 1U
#define WIRE_IN_ORDER 2U
#define WIRE_NO_ORDER 4U

/* Of ADVISE, what madvise(2) and mlock(2) call so. */
enum wire_advice {
	WIRE_WILLNEED = 1,
	WIRE_COLD,
	WIRE_PAGEOUT,
	WIRE_REMOVE,
	WIRE_NORMAL,
	WIRE_SEQUENTIAL,
	WIRE_RANDOM,
	WIRE_LOCK,
	WIRE_UNLOCK,
	WIRE_WANT, /* what fl_region_set() says, as MAP does */
	WIRE_ADVICE_END
};

#define WIRE_WINDOW_MIN 32U /* pages */

struct wire_msg {
	uint32_t version;
	uint32_t type;
	uint32_t flags;	  /* HELLO, ATTACHED, FILE, TAKE, MAP, FAULT; ADVISE: enum wire_advice */
	uint32_t count;	  /* HELLO: HELD messages that follow; ATTACHED: areas that the store has;
			   * MAP, WANT: the largest read-ahead window, pages; 0: the server's */
	uint32_t member;  /* AREA; FILE, MAP, CLOSE, ANSWER: a file's number */
	int32_t prio;	  /* AREA, HELD; MAP, WANT: enum fl_priority */
	int32_t error;	  /* DONE, ERROR, ANSWER: a negative errno, but for ERROR also 0 */
	uint32_t request; /* SWAPOFF, LIMIT, what ANSWER answers; DONE, ANSWER: which it answers */
	uint64_t slots;	  /* AREA, HELD: header's page included; MAP: the file's first page;
			   * ANSWER to FILE, RETURN, TAKE: when the file was made, ns;
			   * ANSWER to ADVISE, WILLNEED: how many pages one such begins at most;
			   * 0: none, they are beyond the file's end */
	uint64_t bytes;	  /* LIMIT; MAP, UNMAP, SYNC, UNBUS, ADVISE, FAULT, STORE: how many */
	uint64_t mm_addr; /* HELLO; MAP, UNMAP, SYNC, UNBUS, ADVISE, FAULT, STORE: from where;
			   * TAKE: the memfd's inode number;
			   * BACKING: what regions have it for, 0: all are forgotten */
	char name
		[WIRE_NAME_MAX]; /* HELLO: the process's; AREA, HELD, SWAPOFF: an area's; ERROR: why */
};

/* A message that says nothing yet. */
void wire_init(struct wire_msg *m, enum wire_type type);
/* Into, and out of, the order in which it travels. */
void wire_convert(struct wire_msg *m);

/*
 * Take what was received, of len bytes and nfds descriptors, from a client or
 * from the server: 0 and the message in *out, or
 *	-EMSGSIZE	it is not of a message's length
 *	-EPROTONOSUPPORT of another version
 *	-EPROTO		anything else is wrong with it
 */
int wire_parse(const void *buf, size_t len, unsigned nfds, bool from_client, struct wire_msg *out);

/* Printable, and short enough for a message: an area's name without '/', not hidden. */
bool wire_area_name(const char *name);

#endif
