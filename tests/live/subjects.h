/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * subjects.h - tests that run themselves again: with a subject's name as its
 * argument the program is what a case looks at, natively or under `faultline run`.
 */
#ifndef FL_SUBJECTS_H
#define FL_SUBJECTS_H

#include "test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))

static char self[4096], tool[4096]; /* this program, and faultline */

struct subject {
	const char *name;
	void (*fn)(void);
};

/* Be the one of that name; 2 when there is none. */
static inline int be_one_of(const struct subject *subjects, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, subjects[i].name) == 0) {
			subjects[i].fn();
			return 0;
		}
	return 2;
}

/* Before anything else in main(). */
static inline bool know_self(void)
{
	return readlink("/proc/self/exe", self, sizeof(self) - 1) >= 0;
}

/* Before the cases: the tree that was built, NULL when nobody says which it is. */
static inline const char *know_build(void)
{
	const char *build = getenv("FL_BUILD");

	if (build == NULL)
		fprintf(stderr, "%s: FL_BUILD is not set\n", self);
	else
		snprintf(tool, sizeof(tool), "%s/src/cli/faultline", build);
	return build;
}

/* Run a program and wait for its end: its wait status. */
static inline int spawn(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#endif
