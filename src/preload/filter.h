/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * filter.h - a program that gives itself a seccomp filter, or strict mode.
 */
#ifndef FL_FILTER_H
#define FL_FILTER_H

struct hook_call;
struct mm;

/*
 * seccomp(SECCOMP_SET_MODE_FILTER, ...) and prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ...), made;
 * or those of SECCOMP_SET_MODE_STRICT and SECCOMP_MODE_STRICT.
 */
void filter_seccomp(struct mm *mm, struct hook_call *c);
void filter_prctl(struct mm *mm, struct hook_call *c);

#endif
