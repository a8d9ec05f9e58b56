/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * in-thread.h - faults that are answered by the thread that takes them.
 *
 * A region that asks for it is registered with a second userfaultfd, one that
 * has UFFD_FEATURE_SIGBUS: a touch that needs us raises SIGBUS in the thread
 * itself, whose handler, ours, does what a pager would and returns: no other
 * thread is woken.  What a system call finds absent there is EFAULT to it.
 *
 * The handler answers what needs neither I/O nor a frame that is not free: first
 * touches, writes to write-protected pages, pages in staging, pages of one word,
 * and what lz4 compressed (zstd wants more of a stack than a signal may have).
 * All else, and each fault while free frames are few, it hands to a pager
 * (HOP_FAULT), which answers the call when the page is there or is to be touched
 * again, and the mm lock is free: a thread that shares the pager's CPU runs at once,
 * and may want the lock at its next fault.  So there is one way of reading, of
 * evicting and of failing.
 *
 * Descriptors.  The second userfaultfd is in the pagers' table
 * (mm->in_thread_uffd) and in the program's (mm->in_thread_own).  The handler
 * uses the latter and none of the pagers' numbers, which mean something else
 * here.  If the program has closed it the calls fail and all is handed over.
 *
 * fork(2).  A child inherits the handler, the descriptor, and memory in which its parent's runtime
 * works on: none of it is used there.  It serves what the child opens itself.
 *
 * Locks.  The handler takes the mm lock.  No thread holds that while it touches
 * managed memory, so it cannot wait for itself; all signals are blocked in it,
 * so that no other handler can.  It must not fault on its own stack while it holds the
 * lock: on a stack that is managed it hands over without taking it.
 *
 * The action that SIGBUS had before is called for whatever is not ours.  It is
 * remembered once; who sets another one later has to call ours in turn.
 */
#ifndef FL_IN_THREAD_H
#define FL_IN_THREAD_H

#include "fault.h"
#include "region.h"

#include <stddef.h>
#include <stdint.h>

enum in_thread_state { IN_THREAD_NONE, IN_THREAD_MAKING, IN_THREAD_MADE, IN_THREAD_ENDING };

/*
 * On an application thread of a mm whose pagers run, before a region is mapped that asks for it.
 * 0 or -errno: -EOPNOTSUPP where a kernel or a processor is not known well enough.
 */
long in_thread_begin(struct mm *mm);

/*
 * The end of a runtime, on the thread that calls for it.  Before pagers are asked to end: from
 * then on nothing is handed over to them, what is touched is touched again until the last page
 * has come; if they go on after all; and when they have ended.
 */
void in_thread_ending(struct mm *mm);
void in_thread_stays(struct mm *mm);
void in_thread_end(struct mm *mm);

/* On a pager, with the mm lock held: make the descriptor; its number there, or -errno. */
long do_in_thread(struct mm *mm);

/*
 * Whether the memory whose touch raised SIGBUS is not there any more: unmapped, or replaced by
 * what raises none of its own, as a file's mapping may.  It is touched again.
 */
static inline bool in_thread_gone(const struct region *r)
{
	return r == NULL || (r->users == NULL && !(r->flags & REGION_IN_THREAD));
}

/*
 * The userfaultfd, in the pagers' table, that memory at addr is registered with: for
 * what wants just that one (registering, moving into).  With the mm lock held.
 */
int in_thread_uffd_at(const struct mm *mm, uintptr_t addr);

#endif
