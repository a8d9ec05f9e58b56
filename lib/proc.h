/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * proc.h - the threads and locks of a process, as /proc tells of them (proc(5)).
 *
 * Nothing is allocated and no lock is taken; paths are below `proc`, a
 * descriptor of /proc, or AT_FDCWD for "/proc" itself.
 */
#ifndef FL_PROC_H
#define FL_PROC_H

#include <stdbool.h>
#include <stdint.h>

/* Fields of /proc/PID/stat by their numbers in proc(5). */
#define PROC_STAT_FLAGS 9U
#define PROC_STAT_CPU 39U

/* One numeric field behind the name; false when the thread is gone. */
bool proc_stat(int proc, uint32_t tid, unsigned field, uint64_t *value);

/* Call fn for each thread until it returns false; false, too, when they cannot be told. */
bool proc_threads(int proc, bool (*fn)(uint32_t tid, void *arg), void *arg);

/* Whose ring a worker of the kernel's (io_uring) works for, in the first pid namespace; 0: not known. */
uint32_t proc_worker_of(int proc, uint32_t tid);

/* A descriptor of the thread's schedstat, or -errno; and the time that it waited for a CPU, ns. */
int proc_schedstat_open(int proc, uint32_t tid);
bool proc_schedstat_delay(int fd, uint64_t *ns);

/* Whether the process has locked a file of that number for itself (flock(2)). */
bool proc_flocked(int proc, uint32_t pid, uint64_t ino);

#endif
