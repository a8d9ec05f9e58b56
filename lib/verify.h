/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify.h - what the kernel has mapped, held against what we know of it.
 *
 * Two questions about the address space are answered by one walk over
 * /proc/self/smaps: does every region lie in private anonymous mappings (a shared
 * mapping of a file: in mappings of its page cache's memfd) of its own protection,
 * registered when armed; and what is all the memory that is not managed?  Regions
 * that are just being replaced (REGION_HELD) are passed over.  In a program that was
 * not written for faultline (MM_PRELOAD) private writable anonymous memory must be
 * managed, or not be for a reason.
 *
 * Reasons that the kernel does not tell are kept while the program runs, when
 * somebody will ask (MM_LEFT): mm->left holds what was there before us, what
 * was mapped as a stack, and mappings of files that were chosen and are the
 * kernel's all the same.
 */
#ifndef FL_VERIFY_H
#define FL_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mm;

enum verify_kind {
	VERIFY_MANAGED,
	VERIFY_MANAGED_FILE, /* mappings of files */
	VERIFY_BEFORE,	     /* private anonymous, from before us; flags of a region of mm->left */
	VERIFY_STACK,	     /* [stack], MAP_STACK, MAP_GROWSDOWN; the same */
	VERIFY_HUGE,	     /* huge pages that the program asked for */
	VERIFY_SHARED, /* shared memory without a file of the program's: anonymous, System V, memfd */
	VERIFY_FILE_SHARED,
	VERIFY_FILE_PRIVATE,
	VERIFY_CHOSEN_SHARED, /* of files that were chosen (choose.h), and left to the kernel: shared; */
	VERIFY_CHOSEN_CODE, /* code; */
	VERIFY_CHOSEN_LEFT, /* of a kind that cannot be managed.  Flags of a region of mm->left */
	VERIFY_CLOSED,	    /* private anonymous, not writable */
	VERIFY_OWN,	    /* ours */
	VERIFY_UNKNOWN,	    /* private anonymous, writable, not managed for no known reason */
	VERIFY_KINDS,
};

#define VERIFY_TEXT 16384U

struct verify {
	uint64_t mapped[VERIFY_KINDS];	 /* pages */
	uint64_t resident[VERIFY_KINDS]; /* pages */
	unsigned differences;
	size_t len;
	char text[VERIFY_TEXT]; /* a line for each difference, as far as there is room */
};

/* Remember what is there before us. */
int verify_start(struct mm *mm);

/* Remember why [start, end) is not managed, or (VERIFY_MANAGED) forget. */
long do_left(struct mm *mm, uintptr_t start, uintptr_t end, enum verify_kind kind);

/* With the mm lock held.  0, or -errno when /proc cannot be read. */
long do_verify(struct mm *mm, struct verify *v);

#endif
