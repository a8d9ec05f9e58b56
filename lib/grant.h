/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * grant.h - how a process's limit follows what its group grants it.
 *
 * Without a group (mm->group is NULL) the limit is what was asked for, and
 * nothing here does anything.
 *
 * Unarmed, the limit is the grant, and all that is mapped is charged to it: by
 * atomic operations alone, while the group has pages to give.  Armed, frames
 * are: the limit grows with the grant when room is made for them, and falls,
 * ahead of the grant, when others are short or frames were given up.  Always
 *
 *	what is held <= grant, limit <= grant
 *
 * but for the moment in which a lower limit is evicted down to.
 */
#ifndef FL_GRANT_H
#define FL_GRANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mm;
struct pager;

/* Join the group of that handle (group.h): mm->limit is the group's before, and this process's after. */
int grant_open(struct mm *mm, char *handle, char *why, size_t why_size);

/*
 * While nothing is armed, with the mm lock held: may so many pages be mapped?  What is not
 * mapped any more is given back.  False: not unless they are paged.
 */
bool grant_mapped(struct mm *mm, uint64_t pages);

/* On a pager with the mm lock held: room for so many frames more, if the group has it; nobody waits. */
void grant_more(struct mm *mm, uint64_t pages);

/* After a round of the pager's loop: give back what is not needed, and what others ask for. */
void grant_round(struct pager *p);

/* A lower limit is still being evicted down to, or a fork waits for others. */
bool grant_busy(const struct mm *mm);

/* Nothing can be evicted: a limit that was lowered is not kept.  True when it was. */
bool grant_relax(struct mm *mm);

/* What the limit may become: the budget if the group gave all that is free. */
uint64_t grant_budget_most(const struct mm *mm);
uint64_t grant_limit_most(const struct mm *mm);

/*
 * Another limit for the group, on a pager with the mm lock held: returns when it
 * holds.  -ENOMEM: the members cannot be brought below it, the old one stays.
 */
long grant_set_limit(struct pager *p, uint64_t pages);

/* When pagers start, on the first one: they wake when others ask. */
void grant_listen(struct mm *mm);

/*
 * Before a fork: a grant for the child.  Of an armed process all frames are
 * the child's as well: it evicts until those of both fit.  0 or -errno; -ENOSPC:
 * the group has no room, which was said.
 */
long grant_fork(struct pager *p);	/* on a pager */
long grant_fork_unarmed(struct mm *mm); /* with the mm lock held; -ENOMEM: not unless it arms */

/* After it: in the parent (whether there is a child; its number, or 0), and in the child, 0 or -errno. */
void grant_forked(struct mm *mm, bool done, pid_t pid);
int grant_child(struct mm *mm);

#endif
