/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * subject-checks.h - how subjects (subjects.h) say what is wrong.
 */
#ifndef FL_SUBJECT_CHECKS_H
#define FL_SUBJECT_CHECKS_H

#include "subjects.h"

#include <errno.h>

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(2, "line %d: %s (errno %d)\n", __LINE__, #cond, errno);            \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* Wait for a child of a subject, whose end must be a good one. */
static inline void reap(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (status != 0)
		dprintf(2, "child %d: wait status %x\n", pid, status);
	CHECK(status == 0);
}

#endif
