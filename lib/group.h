/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * group.h - one limit for several processes: the table that they share.
 *
 * A group's limit is a number of pages.  Each page of it is granted to a
 * member, or free.  A member is a process's address space: what it holds is
 * never more than its grant, and so all of them never hold more than the limit.
 * This room knows pages and members, not frames: how a process's limit follows
 * its grant is grant.c's affair.
 *
 * Finding a group.  Forked children inherit the table's mapping.  An executed
 * program finds it by its handle, "ID:NAME" in the environment: a System V
 * segment, removed as soon as it is made, so that the kernel frees it with its
 * last process.  When the last one is gone in the moment of an exec the next
 * one makes another table with the group's name, and only one does.
 *
 * Within a member every function is called with its mm lock held, or before
 * there is a second thread, and none on another's behalf.  Between members
 * there is no lock: see group.c.
 */
#ifndef FL_GROUP_H
#define FL_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GROUP_MEMBERS_MAX 4000U
#define GROUP_HANDLE_MAX 32U
#define GROUP_FLOOR 512U /* pages: FL_LIMIT_MIN, which a member always has */
#define GROUP_NONE UINT32_MAX
#define GROUP_VARIABLE "FAULTLINE_GROUP" /* of the environment: holds the handle */

struct group; /* one member's view */

/* What pages are taken for, from the most urgent on. */
enum group_claim {
	GROUP_FOR_FLOOR,  /* what a member must have: whatever is free */
	GROUP_FOR_FRAMES, /* an armed member's: not above its share while one below it is short */
	GROUP_FOR_MAPPED, /* an unarmed member's, which cannot be asked to evict: half the limit stays */
};

/* Can there be groups here?  0 or -errno. */
int group_check(void);

/* A handle that names a new group. */
void group_name(char handle[GROUP_HANDLE_MAX]);

/*
 * Become a member of the group of that handle, with no pages yet.  The first one
 * sets the limit (pages).  A handle that is out of date is brought up to date,
 * in place.  0 or -errno; on failure one line in why.
 */
int group_open(struct group **out, char *handle, uint64_t limit, char *why, size_t why_size);

/* Not a member any more: its pages are free. */
void group_close(struct group *g);

/* Take `least` to `most` pages: how many; 0 when there are fewer than `least`. */
uint64_t group_take(struct group *g, uint64_t least, uint64_t most, enum group_claim claim);
void group_give(struct group *g, uint64_t pages);

uint64_t group_limit(const struct group *g);

/*
 * For who reads the memory of a member from outside: its struct group begins with the address
 * of the table, and that with GROUP_HEAD bytes that tell the limit, and what of it is
 * granted.  False: they are no table's.
 */
#define GROUP_HEAD 64U
bool group_told(const char head[GROUP_HEAD], uint64_t *limit, uint64_t *held);

/*
 * Another limit, to be: 0, -EINVAL, or -ENOMEM when it is a lower one, and less than all
 * must have.  Then follow it until 0 is returned, from then on nobody holds more; else how many
 * pages are to be given back yet, by whom is asked.  Who gives it up aims at what it was.
 */
int group_aim(struct group *g, uint64_t pages);
uint64_t group_follow(struct group *g);

uint64_t group_grant(const struct group *g); /* this member's */
uint64_t group_free(const struct group *g);
uint64_t group_most(const struct group *g); /* the most that was ever granted at once */
unsigned group_members(const struct group *g);

/*
 * Give back what members held that have ended, and pages that were lost with
 * them: true when any became free.  proc_fd: a descriptor of /proc, or -1.
 */
bool group_sweep(struct group *g, int proc_fd);

/* ---- what members ask of each other ---- */

/* An armed member can evict, and is asked to.  It may be woken, by a socket of this thread's table. */
void group_armed(struct group *g);
int group_listen(struct group *g);	 /* the descriptor, or -errno */
int group_socket(const struct group *g); /* -1: none */
void group_heard(struct group *g);	 /* it was readable */

/* This member needs pages: it is not idle. */
void group_needs(struct group *g);

/* Pages of each armed member if all needed the same. */
uint64_t group_share(const struct group *g);

/*
 * Ask the member that has most to spare (it is idle, or above its share, and this
 * one below or without its floor) for so many pages: false when there is none.
 */
bool group_ask(struct group *g, uint64_t pages, enum group_claim claim);

/* Have this member asked for what it has to spare. */
void group_ask_self(struct group *g);

/* What others ask of this member, as far as it is to spare; and that it was given, or cannot be. */
uint64_t group_asked(struct group *g);
void group_answered(struct group *g, uint64_t pages);

/* Sleep until pages were given back, or so long. */
void group_wait(struct group *g, uint64_t ns);

/* ---- fork ---- */

/*
 * A member for a child that is to be forked: its number, or GROUP_NONE when the table is full.
 * The child has pages of its own before there is a child.
 */
uint32_t group_conceive(struct group *g);
uint64_t group_take_for(struct group *g, uint32_t child, uint64_t least, uint64_t most,
			enum group_claim claim);
void group_hand(struct group *g, uint32_t child, uint64_t pages); /* of this member's own */
uint64_t group_grant_of(const struct group *g, uint32_t child);

/* In the parent: the child's process number, 0 when it is not known; or there is none. */
void group_born(struct group *g, uint32_t child, pid_t pid);
void group_stillborn(struct group *g, uint32_t child);

/*
 * In the child.  quiet: no system call may be made.  When its parent ended before
 * it came it may have lost its pages; false: and its place.
 */
bool group_enter(struct group *g, uint32_t child, bool quiet);

#endif
