/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry.h - from a patched system-call site into C and back; see entry.S.
 */
#ifndef FL_ENTRY_H
#define FL_ENTRY_H

#include <stdint.h>

/* Numbers above it are never looked at. */
#define ENTRY_NR_MAX 511

/* The calls that entry_any lets through to the hook: one bit a number. */
extern uint64_t entry_wanted[(ENTRY_NR_MAX + 1) / 64];

/* Which vector state entry_saving keeps, and the bytes for it: set by entry_init(). */
extern uint64_t entry_xsave_mask; /* 0: fxsave */
extern uint64_t entry_area_size;

/*
 * Where trampolines call.  None of them is a C function.
 * entry_plain: general registers are kept; vector registers are not.
 * entry_saving: every register is kept.
 * entry_any: as entry_saving, for a site whose number is known only at run time.
 */
void entry_plain(void);
void entry_saving(void);
void entry_any(void);

/* Learn the processor's vector state. */
void entry_init(void);

static inline void entry_want(unsigned nr)
{
	entry_wanted[nr / 64] |= (uint64_t)1 << (nr % 64);
}

static inline int entry_wants(unsigned nr)
{
	return nr <= ENTRY_NR_MAX && (entry_wanted[nr / 64] >> (nr % 64) & 1) != 0;
}

#endif
