/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry-offsets.h - what assembly has to know of C's structures; signals.c
 * checks each of them at compile time.
 */
#ifndef FL_ENTRY_OFFSETS_H
#define FL_ENTRY_OFFSETS_H

/* struct signal_state */
#define STATE_HELD 0
#define STATE_WAITS 4
#define STATE_XFEATURES 8
#define STATE_FP_SIZE 16

/* Thunks and records of signals. */
#define SIGNAL_THUNKS 256
#define SIGNAL_THUNK_SIZE 16
#define SIGNAL_RECORD_SHIFT 5

/* SIGBUS, BUS_MCEERR_AR, and where a siginfo_t has its code. */
#define SIGNAL_BUS 7
#define SIGNAL_BUS_POISON 4
#define SIGINFO_CODE 8

/* What hook_call() returns for a call that entry.S is to make. */
#define HOOK_HELD 3

/* The stack where a hook returns; entry.S draws it. */
#define TRAMPOLINE 152 /* from the trampoline's return to the site's stack */

/* Frames that are being made: below the vectors, and what one on top takes beside its vectors. */
#define FRAME_BELOW 456
#define FURTHER_FRAME 656
#define CONTEXT_SIZE 304 /* what enters the topmost handler */

/* A trampoline, from where its call returns; patch.c draws it. */
#define RETURN_TO_SERVED 21    /* the address behind the site's system call */
#define RETURN_TO_DISPLACED 16 /* the displacement of the jump to the system call */
#define RETURN_TO_LEFT 20      /* from where that is counted */

#endif
