/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api.h - what the files of the public functions share.
 */
#ifndef FL_API_H
#define FL_API_H

#include "faultline.h"
#include "lock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

struct mm;
struct source;

struct fl {
	struct mm *mm;
	struct lock lock; /* RANK_API; guards */
	struct fl_backing *backings;
	struct source *asker; /* api-files.c: who asks about pages that cannot be read */
	struct fl *next;      /* at-exit.c; so is: */
	uint32_t closing;     /* the thread that is in fl_close(), or 0 */
};

/* at-exit.c: what waits to be written to its files is, at exit(3).  0 or -ENOMEM. */
int at_exit_add(struct fl *fl);
/* Before and behind fl_close(), which exit(3) waits for; gone: it is not open any more. */
void at_exit_closing(struct fl *fl);
void at_exit_closed(struct fl *fl, bool gone);
/* But not where this thread calls it: it is to call functions of the program's. */
void at_exit_not_here(void);

/* The errors that the manual names; anything else is a defect of ours, told as EIO. */
int gate(long r);

/* No range: not from a page's beginning on, empty, or not in an address space. */
bool bad_range(const void *addr, size_t length);

/* FL_FAILED and errno for an error. */
void *address(long r);

/*
 * Take a structure of a program's, of `given` bytes as it tells, whose first version ended with
 * the field `last`: as the kernel's copy_struct_from_user().  What an older header does not
 * have is 0; what a newer one has must be, else -E2BIG.
 */
#define TAKE_STRUCT(to, from, last)                                                                \
	take_struct((to), sizeof(*(to)), offsetof(__typeof__(*(to)), last) + sizeof((to)->last),   \
		    (from), (from)->size)
int take_struct(void *to, size_t size, size_t first, const void *from, size_t given);

/* Before the runtime ends: unmap files, end that thread. */
void asker_end(struct fl *fl);
/* The same: unmap and write what is the backings', end their threads. */
void backings_end(struct fl *fl);

#endif
