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
 * Patch the C library and the dynamic loader: all sites, or none.  `watch`: the
 * end of the process and the closing of descriptors as well.  0, or -errno with
 * one line in why.
 */
int patch_program(bool watch, char *why, size_t why_size);

/*
 * Whether that found every call by which an affinity is told or handed on
 * (lib/near.h); a C library in which it does not is patched all the same.
 */
bool patch_sees_affinity(void);

/*
 * Patch the sites in [start, start + len), which was just mapped executable
 * and private from a file and which nobody runs yet.
 */
void patch_mapping(unsigned char *start, size_t len);

/* Around a fork, so that a child never inherits the patcher at work.  Signals are blocked. */
void patch_fork_begin(void);
void patch_fork_end(void);

#endif
