/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * patch.h - find the system-call sites of the program's libraries and turn
 * them into jumps to the hook.
 */
#ifndef FL_PATCH_H
#define FL_PATCH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Patch the C library and the dynamic loader, but for what is left to
 * patch_affinity(): all sites, or none.  `watch`: the end of the process and the
 * closing of descriptors as well.  0, or -errno with one line in why.
 */
int patch_program(bool watch, char *why, size_t why_size);

/*
 * Whether that found every call by which a thread is made; a C library in which
 * it does not is patched all the same.
 */
bool patch_sees_threads(void);

/*
 * Patch the calls by which an affinity is told or handed on (lib/near.h), which
 * few programs need: some eight pages of the C library less to copy for all
 * others.  Once, in a process of one thread, pagers aside, with signals blocked.
 * False when not all of them were found.
 */
bool patch_affinity(void);

/*
 * Patch the sites in [start, start + len), which was just mapped executable
 * and private from a file and which nobody runs yet.  False when some are left.
 */
bool patch_mapping(unsigned char *start, size_t len);

/*
 * Around a fork, so that a child never inherits the patcher at work.  Signals are
 * blocked.  alone: nobody else is known to be here who could be at it, and the
 * lock is left as it is: a page less to copy for parent and child.
 */
void patch_fork_begin(bool alone);
void patch_fork_end(bool alone, bool child);

#endif
