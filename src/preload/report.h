/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report.h - the summary at the end of a process, and what --verify finds.
 */
#ifndef FL_REPORT_H
#define FL_REPORT_H

#include <sys/types.h>

struct mm;
struct options;

/*
 * Do what o asks for (stats, verify) when this process ends.  main_pid: the
 * only process to write a summary that did not page; 0: all do.
 */
void report_init(struct mm *mm, const struct options *o, const char *command, pid_t main_pid);

/* Compare what is mapped with what is managed, now. */
void report_verify(void);

/* The process ends now. */
void report_exit(void);

/* The program is about to close the descriptors first to last. */
void report_closing(unsigned first, unsigned last);

/* This is a forked child. */
void report_forked(void);

#endif
