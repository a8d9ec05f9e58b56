/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report.h - the summary at the end of a process.
 */
#ifndef FL_REPORT_H
#define FL_REPORT_H

#include <sys/types.h>

struct mm;

/*
 * Write the summary of mm to `where` ("-": standard error) when this process
 * ends.  main_pid: the only process to report that did not page; 0: all do.
 */
void report_init(struct mm *mm, const char *where, const char *command, pid_t main_pid);

/* The process ends now. */
void report_exit(void);

/* The program is about to close fd. */
void report_closing(int fd);

/* This is a forked child. */
void report_forked(void);

#endif
