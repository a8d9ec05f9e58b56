/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-course.h - courses: a sequence of operations that follows from a seed, run again
 * and again while the server is killed at another point of it each time.
 */
#ifndef FL_TEST_CRASH_COURSE_H
#define FL_TEST_CRASH_COURSE_H

#include "crash-clients.h"
#include "crash-world.h"
#include "crash.h"

struct plan {
	const char *name;
	uint32_t kinds;
	struct crash_mount mount;
	unsigned store_flags; /* of runtimes */
	bool opening;	      /* points count while files are opened for the first time */
	bool power;	      /* with the server the host loses what was not made durable */
	uint32_t (*body)(const struct plan *p, uint32_t at, bool *killed);
};

extern bool over;  /* the server was killed, and somebody noticed */
extern bool power; /* what is written is the host's with the next fsync(2) only */

static inline bool is_over(void)
{
	return over || __atomic_load_n(&crash->killed, __ATOMIC_SEQ_CST);
}

/* Each runs one, with the server killed at point `at`; how many points were passed. */
uint32_t files_course(const struct plan *p, uint32_t at, bool *killed);
uint32_t memory_course(const struct plan *p, uint32_t at, bool *killed);

#endif
