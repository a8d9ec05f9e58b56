/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor.h - what one check of 'faultline doctor' tells.
 */
#ifndef FL_DOCTOR_H
#define FL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

enum check_state {
	CHECK_OK,
	CHECK_MISSING,	/* faultline cannot run without it */
	CHECK_OPTIONAL, /* missing, and faultline runs without it */
	CHECK_UNTRIED,	/* could not be looked at because of another that is missing */
};

struct check_result {
	char found[160]; /* what is there, or what is lost without it */
	char mend[256];	 /* the command that helps; empty: none is known */
};

struct check {
	const char *name;
	enum check_state (*fn)(struct check_result *res);
};

/* printf(3) into a field of a result; what is too long is cut. */
void check_found(struct check_result *res, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void check_mend(struct check_result *res, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The checks of userfaultfd and of what goes with it, in the order in which they must run. */
extern const struct check uffd_checks[];
extern const size_t uffd_nchecks;

#endif
