/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * random.h - numbers that follow from a seed, for tests.
 */
#ifndef FL_TEST_RANDOM_H
#define FL_TEST_RANDOM_H

#include <stdint.h>

/* The state is never 0. */
static inline uint64_t xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Of any state: seeds that are next to each other have nothing in common. */
static inline uint64_t splitmix(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15U;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
	x = (x ^ x >> 27) * 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

#endif
