/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.h - an image of memory as of one instant, taken while the program goes on.
 *
 * snapshot.c has the way it is done, and the rules for all who install, move or
 * drop pages: whoever is about to let a page be written that is not saved yet
 * (snapshot_unsaved()) has it saved first, or installs it write-protected.
 *
 * One snapshot of a runtime at a time.  Called on a pager with the mm lock held,
 * where nothing else is said.
 */
#ifndef FL_SNAPSHOT_H
#define FL_SNAPSHOT_H

#include "pte.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hop_slot;
struct mm;
struct pager;
struct snapshot;

#define SNAPSHOT_NAME_MAX 32U

/* Where a snapshot is asked for from outside; read from there (publish.h). */
struct snapshot_port {
	uint64_t token[2]; /* who asks shows that he has read this */
	uint32_t len;	   /* of its name, a socket's in the abstract namespace; 0: none */
	char name[SNAPSHOT_NAME_MAX];
};

/* What a runtime has of snapshots. */
struct snapshots {
	struct snapshot *now; /* the one that is being taken */
	uint64_t pages;	      /* its buffer, of the limit's frames */
	uint64_t bytes;	      /* of its tables */
	uint64_t lifted;      /* protected pages that were let be written, so far */
	uint32_t begun;	      /* how many have begun, and */
	uint32_t ended;	      /* futex: ended; a waiter reads result after it */
	int result;	      /* of the last one: 0, or how many pages were lost, or -errno */
	struct snapshot_port port;
	bool closing; /* its instant may be within another call */
	int port_fd;  /* -1: none */
	bool knocked; /* something came in there */
};

/*
 * What is sent to the port, with two descriptors: the image, and one end of a socket
 * pair for answers.
 */
#define SNAPSHOT_ASK 0x31706e73466c6146U

struct snapshot_ask {
	uint64_t what; /* SNAPSHOT_ASK */
	uint64_t token[2];
	uint32_t flags;
	uint32_t reserved;
};

/* An answer; the last one has `ended` set. */
struct snapshot_answer {
	uint64_t pages, saved; /* what there was to save, and how much of it is */
	uint64_t pause_ns;
	uint64_t bytes; /* of the image, at the end */
	int32_t result; /* as above */
	uint32_t ended;
};

void snapshots_init(struct mm *mm);

/*
 * The work of fl_snapshot(): begins.  fd and event_fd (-1: none) are descriptors
 * of the program's.  start and end 0: all that is managed.  -errno, or HOP_LATER: the
 * call is answered when the instant has come.
 */
long do_snapshot(struct pager *p, uintptr_t start, uintptr_t end, int fd, unsigned flags,
		 int event_fd, struct hop_slot *caller);

/* Whether the instant of one is still to come, and pages are being protected for it: who writes may. */
bool snapshot_prepares(const struct mm *mm);

/* Then: this page is not protected until the mm lock is dropped. */
void snapshot_spare(struct mm *mm, vpn_t vpn);

/* Whether a page is to be saved yet; no system call, next to nothing while there is no snapshot. */
bool snapshot_unsaved(struct mm *mm, vpn_t vpn);
bool snapshot_unsaved_any(struct mm *mm, vpn_t vpn, uint32_t n);

/* Whether the slot of a page is just being read for its image: who needs it waits. */
bool snapshot_reads(struct mm *mm, vpn_t vpn);

/*
 * Save pages from vpn on whose content is at hand, n at most, and let those that
 * are present be written: how many of them need no more saving.  Less than n:
 * the buffer is full, or the next one is in a slot.
 */
uint32_t snapshot_save(struct pager *p, vpn_t vpn, uint32_t n);

/* From within a call that drops or moves pages of a range, before it: wait until they are saved. */
void snapshot_settle(struct pager *p, uintptr_t start, uintptr_t end);

/* The same of all mappings of files. */
void snapshot_settle_files(struct pager *p);

/* Pages are dropped, or gone: what of them was to be saved yet ends the snapshot with an error. */
void snapshot_dropped(struct mm *mm, vpn_t vpn, vpn_t end);

/* A page that should be present may have gone by a call from before arming: it is zeros then. */
void snapshot_gone(struct mm *mm, vpn_t vpn);

/* After a round of the pager's loop: go on with it; calls: and hear who asks for one. */
void snapshot_round(struct pager *p, bool calls);

/* Whether there is something to do at once, so that no pager sleeps. */
bool snapshot_ready(const struct mm *mm);

/* From within a call: wait for the end of the one that is being taken. */
void snapshot_finish(struct pager *p);

/* When pagers start, on the first one: the port. */
void snapshot_listen(struct mm *mm);
bool snapshot_heard(struct mm *mm, int fd); /* it was readable, if it is the port's */

/* In a forked child: the snapshot is the parent's alone. */
void snapshots_forked(struct mm *mm);

#endif
