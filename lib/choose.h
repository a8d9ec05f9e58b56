/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * choose.h - which mappings of files are managed in a program that was not
 * written for faultline (MM_PRELOAD).
 *
 * A person chooses files by pattern; the files of the store are chosen by
 * lying on its mount.  All others are the kernel's, and nobody looks at them:
 * without a choice to make no system call is made, with one a mapping of a file
 * costs an fstat(2) and, where there are patterns, a readlink(2).
 *
 * A pattern is compared with the whole absolute path, byte by byte: * stands for
 * any bytes, '/' among them, ? for one, [...] for one of a set, and a backslash
 * takes the meaning from what follows.  Several are separated by ':'.
 */
#ifndef FL_CHOOSE_H
#define FL_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>

struct mm;

enum choice {
	CHOICE_NONE, /* the kernel's: nobody asked for it */
	CHOICE_TAKE, /* managed */
	CHOICE_SHARED, /* chosen, and left to the kernel: others may write to it, or see what is written */
	CHOICE_CODE, /* the same: a program's or a library's */
	CHOICE_KIND, /* the same: files of memory and of the kernel's own, or there was no way */
	CHOICES,
};

/* Constant once the program runs, but for what is atomic. */
struct file_choice {
	const char *patterns;	/* NULL: none */
	const char *mount;	/* of the store; NULL: there is none */
	uint64_t dev;		/* its device, as last seen; 0: not seen yet; atomic */
	bool filtered;		/* the program has set a seccomp filter; atomic */
	uint64_t made[CHOICES]; /* mappings, by what became of them; atomic */
};

/* Which file, and in whose descriptor table it was found. */
struct file_id {
	uint64_t dev, ino;
	uint32_t tid;
};

/* What is to become of a mapping; for CHOICE_TAKE *id and *noexec are set. */
enum choice choose_mapping(struct mm *mm, int prot, int flags, int fd, struct file_id *id,
			   bool *noexec);

/* Is one of the patterns for that path?  *by_name: one that is nothing but the path. */
bool choose_match(const char *patterns, const char *path, bool *by_name);

/* Where the first of several patterns ends: at a ':' or at the end of all. */
const char *choose_end(const char *patterns);

/*
 * An ordinary file on storage: the files of memory and of the kernel's own are the kernel's to map.
 * *noexec: it is mounted so that files are not executed.  1: it is, 0: it is not, or -errno: it
 * cannot be told.
 */
int choose_on_storage(int fd, bool *noexec);

#endif
