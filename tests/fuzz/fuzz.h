/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz.h - random input for what reads untrusted bytes.
 *
 * Everything follows from one seed, so a failure is repeated with FUZZ_SEED;
 * FUZZ_ROUNDS makes a run longer.
 */
#ifndef FL_FUZZ_H
#define FL_FUZZ_H

#include "../unit/random.h"
#include "../unit/test.h"
#include "target.h"

static uint64_t fuzz_state;

static inline uint64_t fuzz_random(void)
{
	return xorshift(&fuzz_state);
}

static inline unsigned fuzz_below(unsigned n)
{
	return (unsigned)(fuzz_random() % n);
}

static inline unsigned long fuzz_number(const char *variable, unsigned long otherwise)
{
	const char *text = getenv(variable);

	return text != NULL ? strtoul(text, NULL, 0) : otherwise;
}

/* Called first by every case: the same input whatever ran before. */
static inline void fuzz_begin(void)
{
	unsigned long seed = fuzz_number("FUZZ_SEED", 1);

	fuzz_state = seed * 0x9e3779b97f4a7c15U + 1;
	for (int i = 0; i < 8; i++)
		fuzz_random();
}

#endif
