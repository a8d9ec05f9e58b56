/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * processes.h - the processes that have a runtime, found by /proc.
 */
#ifndef FL_PROCESSES_H
#define FL_PROCESSES_H

#include "peek.h"

#include <sys/types.h>

/* One runtime; a process may have several. */
struct process {
	struct process *next;
	pid_t pid;
	char name[16];
	struct peek peek;
};

/* The runtimes of one process: 0 and a list, -ENODATA when it has none, or -errno. */
int process_open(pid_t pid, struct process **out);

/* Of all processes that may be looked into. */
struct process *processes_open(void);
void processes_free(struct process *list);

#endif
