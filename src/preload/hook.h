/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hook.h - a system call of the program, as its patched site makes it.
 */
#ifndef FL_HOOK_H
#define FL_HOOK_H

#include <stdbool.h>
#include <stdint.h>

struct mm;

/* The registers of the call.  entry.S knows this layout. */
struct hook_call {
	long arg[6];
	long rcx, r11; /* kept, of no meaning; rcx: the stack to go on with */
	long result;   /* rax, to be left alone when the call is made where it stands */
};

/*
 * Called by entry.S: 1 when the call was made and its result is in c->result,
 * 0 when it is to be made where it stands, 2 when it was made and the caller is
 * to go on with c->rcx as its stack pointer.  HOOK_HELD: entry.S is to make it
 * with its own arguments, and hook_made() is told what the kernel answered; that
 * gives back 1.
 */
int hook_call(struct hook_call *c, long nr);
int hook_made(struct hook_call *c, long nr, long result);

/*
 * Choose the calls that reach hook_call(), and the mm that serves them; NULL:
 * every call is made where it stands.  While the process has one thread.
 * verify_every: compare what is mapped with what is managed after so many
 * memory calls; 0: not.
 */
void hook_init(struct mm *mm, uint64_t verify_every);

/* The calls that concern mappings of files are wanted as well; before the program is patched. */
void hook_files(void);

/* A managed mapping of a file is there; from anywhere. */
bool hook_is_file(uintptr_t addr);

/* Forked children are left to the kernel, where that is possible: when they are not paged yet. */
void hook_no_children(void);

#endif
