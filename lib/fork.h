/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fork.h - fork(2) of a managed process (the kernel's dup_mmap and copy_page_range).
 *
 * Three take part: the calling thread, a pager of the parent, the child.
 *
 *   caller                       pager of the parent          child
 *   ------                       -------------------          -----
 *   its own stack, a socket pair
 *   HOP_FORK ──────────────────▶ fork_prepare(): copies the page entries,
 *                                shares the slots, sends the descriptors
 *                                into the socket, MADV_DOFORK
 *   clone(2) ◀────────────────── answers, and waits with the mm lock held
 *   ──────────────────────────────────────────────────────▶  starts its pagers: fork_adopt()
 *   tells ─────────────────────▶ fork_finish(): MADV_DONTFORK  receives the descriptors, opens a
 *   returns                      goes on                      userfaultfd, registers everything
 *                                                             returns
 *
 * Between the copy of the entries and the clone nothing changes in the parent:
 * pagers stand still, application threads that fault wait.  The caller and the
 * child run on a stack of ours until the child's memory is registered, since
 * the program's stack may be managed.  No capability is needed.
 */
#ifndef FL_FORK_H
#define FL_FORK_H

#include <stdbool.h>

struct mm;

/* The fork of a mm whose pagers run; see mm_fork() in mmap.h. */
long fork_paged(struct mm *mm, long nr, const long arg[6]);

/*
 * On a pager with the mm lock held; see above.  -ERESTART: what lies around the caller's thread
 * pointer is not in, and is to be touched first; or another thread is just replacing memory
 * (REGION_HELD).
 */
long fork_prepare(struct mm *mm);
void fork_finish(struct mm *mm);

/* On the first pager of the child, instead of opening everything.  0 or -errno. */
bool fork_is_child(const struct mm *mm);
int fork_adopt(struct mm *mm);

/* Has a process that shares our areas ended?  When the wait descriptor is readable without a fault to read. */
void fork_look_after_kin(struct mm *mm);
bool fork_kin_ending(const struct mm *mm); /* one has, and what it held is not free yet */

/* Pagers wake when fd is readable: each time that something came (edge), or for as long as it is. */
int fork_watch(struct mm *mm, int fd, bool edge);
void fork_unwatch(struct mm *mm, int fd);

#endif
