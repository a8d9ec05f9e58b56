/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rnd.h - the random course of a unit test: each case sets its seed.
 */
#ifndef FL_TEST_RND_H
#define FL_TEST_RND_H

#include "random.h"

static uint64_t seed;

static inline uint64_t rnd64(void)
{
	return xorshift(&seed);
}

static inline uint32_t rnd(uint32_t below)
{
	return (uint32_t)((rnd64() >> 16) % below);
}

#endif
