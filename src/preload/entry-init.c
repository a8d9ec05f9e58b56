/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry-init.c - what entry.S needs to know about the processor.
 *
 * The vector state is saved in xsave's standard form, which every processor
 * with AVX has; the compacted form is no faster here (138 ns for a save and a
 * restore in both).  Only what compiled code may use is saved: not the x87
 * stack, not the protection keys (a hook may change them for the program), not
 * the matrix tiles.
 *
 * cpuid is a trap into the host on a virtual machine, some ten microseconds:
 * the C library tells what it knows, and the kernel how large a signal's frame
 * is, which has the same state in the same form and is little larger.
 */
#include "entry.h"

#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/platform/x86.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define FXSAVE_SIZE 512U
#define XSTATE_LEAF 0xdU

/* SSE, AVX, AVX-512's mask registers, upper halves and upper sixteen. */
#define XSTATE_WANTED 0xe6U
#define XSTATE_AVX512_LAST 7U

/* A frame that is larger than that has much in it that is not wanted (matrix tiles). */
#define FRAME_MOST 4096U

/* Behind the legacy part and the header comes AVX; where AVX-512 is, the processor tells. */
#define AVX_END (512U + 64U + 256U)

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
	unsigned long frame;
	unsigned size, offset, ecx, edx;
	int err;

	if (!CPU_FEATURE_PRESENT(OSXSAVE))
		return;
	entry_xsave_mask = enabled_states() & XSTATE_WANTED;
	entry_area_size = AVX_END;
	if ((entry_xsave_mask >> XSTATE_AVX512_LAST & 1) == 0)
		return;
	err = errno;
	frame = getauxval(AT_MINSIGSTKSZ); /* sets it where the kernel does not tell */
	errno = err;
	if (frame > AVX_END && frame <= FRAME_MOST) {
		entry_area_size = frame;
		return;
	}
	/* AVX-512's three parts are enabled together, and the last one lies last. */
	__cpuid_count(XSTATE_LEAF, XSTATE_AVX512_LAST, size, offset, ecx, edx);
	entry_area_size = offset + size;
}
