/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aside.h - descriptors that others gave us are closed by threads of their own.
 *
 * close(2) asks the file's filesystem, which may be one that a client runs itself and that
 * never answers.  So what a client sent is not closed where others are waited for, unless it
 * is known for something that cannot keep us: memory, a file of /proc.
 *
 * Locks: the queue's; none is taken with it.
 */
#ifndef FL_ASIDE_H
#define FL_ASIDE_H

#include <stdbool.h>
#include <sys/types.h>

/* Make the threads; before confinement.  0 or -errno. */
int aside_start(void);

/* Have a descriptor closed that came from that user; one below 0 is none. */
void aside_close(int fd, uid_t from);

/* Whether so many of that user wait, and none comes back, that nothing more is to be taken from him. */
bool aside_full(uid_t from);

#endif
