/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filter.c - a program that gives itself a seccomp filter; see filter.h.
 *
 * A thread has the filters of the thread that made it, so a pager that runs
 * before the filter is set is free of it, and one that would have to be made
 * afterwards may not be.  Pagers are therefore started here, at the last
 * moment at which they can be; nothing is armed.
 *
 * SECCOMP_FILTER_FLAG_TSYNC is for all threads, pagers included.  A program
 * that has one thread means itself, and gets the same without the flag.  One
 * that has several gets the kernel's answer for a thread that cannot be
 * synchronised, while there are pagers; before, it is as without us, and no
 * pager can be started any more.
 *
 * Strict mode is for one thread, which maps nothing from then on: it needs no pager
 * that it has not, and may not look for one when it ends.
 */
#include "filter.h"

#include "hook.h"
#include "log.h"
#include "mm.h"
#include "mmap.h"
#include "near.h"
#include "sys.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif

/* Set it, with the flags that are given; pagers: start them before. */
static void set(struct mm *mm, struct hook_call *c, long nr, long flags, bool pagers)
{
	const long *a = c->arg;

	if (pagers)
		mm_start(mm);
	near_end(mm);
	c->result = sys_bare(nr, a[0], nr == SYS_seccomp ? flags : a[1], a[2], a[3], a[4], a[5]);
	if (!sys_err(c->result))
		mm_confine(mm);
}

static void be_strict(struct mm *mm, struct hook_call *c, long nr)
{
	const long *a = c->arg;

	near_end(mm);
	c->result = sys_bare(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (!sys_err(c->result))
		mm_filtered(mm);
}

void filter_seccomp(struct mm *mm, struct hook_call *c)
{
	long flags = c->arg[1];
	bool all = (flags & SECCOMP_FILTER_FLAG_TSYNC) != 0;

	if (c->arg[0] == SECCOMP_SET_MODE_STRICT) {
		be_strict(mm, c, SYS_seccomp);
	} else if (!all || __libc_single_threaded) {
		set(mm, c, SYS_seccomp, flags & ~(long)SECCOMP_FILTER_FLAG_TSYNC, true);
	} else if (!mm->pagers_up) {
		set(mm, c, SYS_seccomp, flags, false);
	} else {
		log_line_confined(
			&mm->sink, FL_LOG_WARN,
			"a seccomp filter for all threads would stop the pagers: it is not set");
		c->result = mm->pager[0]->tid;
		if ((flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) != 0)
			c->result = -ESRCH;
	}
}

void filter_prctl(struct mm *mm, struct hook_call *c)
{
	if (c->arg[1] == SECCOMP_MODE_STRICT)
		be_strict(mm, c, SYS_prctl);
	else
		set(mm, c, SYS_prctl, 0, true);
}
