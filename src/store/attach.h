/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach.h - clients: the areas that they share, their socket, and what
 * people tell them through MNT/control.
 *
 *	client ──DIR/socket──▶ one thread (attach.c) ──▶ areas.c: maps, descriptors
 *	MNT/control ──▶ control.c ──jobs──┘
 *
 * Paging goes past all of it: a client has the areas' descriptors and the
 * memory of their maps.  The server is a member of each map (swap-slot.h), the
 * one that makes the others and gives back what they held when they end.
 *
 * Locks: the areas' (areas.c), for who only looks; the thread alone changes
 * them.  The queue's of jobs (attach.c).
 */
#ifndef FL_ATTACH_H
#define FL_ATTACH_H

#include "server.h"

#include "store-wire.h"

/* --- areas (areas.c); the thread's alone but for areas_look() --- */

/* What AREA.stat tells of an area that the server has. */
struct area_use {
	bool leaving; /* a swapoff is under way */
	int prio;
	uint64_t slots, used; /* without the header's page */
	unsigned members;     /* processes that have it, the server not among them */
};

/*
 * Open those of DIR/swap that may be used, in the order of their names, or those of
 * the options; what cannot be is said to `say`.  Before confinement, as attach_start().
 */
int areas_start(const struct store *s, void (*say)(const char *line));
void areas_stop(void);
/* Turn an area on: its index, or -errno with one line in why. */
int areas_on(const char *name, int prio, struct why *why);
/* Try again those that were in use at the start; a set of the indexes that are on now. */
uint32_t areas_retry(void);
unsigned areas_waiting(void);
/* One that a client has from a server before: its index, or -errno.  The descriptors stay the caller's. */
int areas_adopt(const struct wire_msg *held, int shared_fd, int map_fd);
int areas_find(const char *name); /* index, or -ENOENT */
uint32_t areas_set(void);	  /* indexes of all that are on and not leaving */
bool areas_same(int index, int map_fd);
/*
 * What a client gets: the message and descriptors that are to be closed again.
 * count: the map alone, for nobody's.  via_mount: the map alone, as a member.
 */
int areas_hand(int index, bool count, bool via_mount, struct wire_msg *m, int fds[WIRE_FDS_MAX],
	       unsigned *nfds);
const char *areas_name(int index);
void areas_leave(int index, bool leaving);
/* Nothing of it is used, by nobody. */
bool areas_unused(int index);
void areas_off(int index);
/* Give back what clients held that have ended. */
void areas_sweep(void);
/* From any thread. */
bool areas_look(const char *name, struct area_use *use);

/* --- clients (attach.c) --- */

/* The socket, the areas, the device; before confinement. */
int attach_start(struct why *why);
int attach_thread(struct why *why);
void attach_stop(void);

enum job_kind { JOB_SWAPON, JOB_SWAPOFF, JOB_LIMIT };

/* What somebody wrote to MNT/control, until that write is answered. */
struct job {
	struct job *next;
	fuse_req_t req;
	size_t size; /* of the write */
	enum job_kind kind;
	uint32_t number;
	char name[WIRE_NAME_MAX];
	int prio;
	pid_t pid;   /* LIMIT: of a process, */
	unsigned nr; /* its runtime */
	uint64_t bytes;
	int index; /* SWAPOFF: of the area */
	int error; /* a client's answer */
	uint64_t
		deadline; /* SWAPOFF: when what nobody answers for is not waited for any more; 0: not yet */
	bool begun;
	bool answered;	/* LIMIT */
	bool cancelled; /* atomic */
};

/* Hand it to the thread, which answers and frees it. */
void attach_job(struct job *j);

/* control.c: a write to MNT/control; answers the request, now or later. */
void control_write(fuse_req_t req, const char *text, size_t size);

#endif
