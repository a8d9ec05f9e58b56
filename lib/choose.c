/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * choose.c - which mappings of files are managed; see choose.h.
 *
 * MAP_PRIVATE promises nothing about changes that are made to the file while it is
 * mapped, so a process can have a page cache of its own for that.  MAP_SHARED
 * promises that everybody sees them, even where a mapping may only be read:
 * that takes a page cache that all processes share, and without one it is the
 * kernel's.
 *
 * Code is the kernel's too, unless a pattern is its very name: the dynamic
 * linker maps libraries piece by piece over each other, and debuggers and
 * profilers look for a file's name there.  It is known by PROT_EXEC and by
 * MAP_DENYWRITE, which the kernel ignores and nobody but the linker sets.
 *
 * Called on the program's threads, in hooks, without a lock.  A program that has
 * set a seccomp filter may not be allowed the system calls that a choice takes.
 *
 * Accepted: a file is chosen by the name that it has, of perhaps several, at its
 * descriptor.
 */
#include "choose.h"

#include "log.h"
#include "mm.h"
#include "sys.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* ---- patterns ---- */

/*
 * Whether c is in the set that begins behind the '[' at p; *end: behind its ']',
 * or NULL where it has none, and the '[' is one by itself.
 */
static bool in_set(const char *p, const char *stop, char c, const char **end)
{
	bool negated = p < stop && (*p == '!' || *p == '^');
	const char *first;
	bool in = false;

	if (negated)
		p++;
	*end = NULL;
	for (first = p; p < stop && (*p != ']' || p == first); p++) {
		unsigned char low, high;

		if (*p == '\\' && p + 1 < stop)
			p++;
		low = high = (unsigned char)*p;
		if (stop - p > 2 && p[1] == '-' && p[2] != ']') {
			p += p[2] == '\\' && stop - p > 3 ? 3 : 2;
			high = (unsigned char)*p;
		}
		in |= low <= (unsigned char)c && (unsigned char)c <= high;
	}
	if (p >= stop)
		return false;
	*end = p + 1;
	return in != negated;
}

/* Whether the one thing that p begins with stands for c; *next: what comes behind it. */
static bool one(const char *p, const char *stop, char c, const char **next)
{
	const char *end;
	bool in;

	*next = p + 1;
	switch (*p) {
	case '?':
		return true;
	case '[':
		in = in_set(p + 1, stop, c, &end);
		if (end == NULL)
			return c == '[';
		*next = end;
		return in;
	case '\\':
		if (p + 1 < stop) {
			*next = p + 2;
			return c == p[1];
		}
		return c == '\\';
	default:
		return c == *p;
	}
}

/* One pattern, [p, stop). */
static bool match(const char *p, const char *stop, const char *path)
{
	const char *star = NULL; /* behind the last '*', */
	const char *from = NULL; /* and the part of the path that it does not stand for yet */

	for (;;) {
		const char *next;

		if (p < stop && *p == '*') {
			star = ++p;
			from = path;
		} else if (*path == '\0') {
			return p == stop;
		} else if (p < stop && one(p, stop, *path, &next)) {
			p = next;
			path++;
		} else if (star != NULL) {
			p = star;
			path = ++from;
		} else {
			return false;
		}
	}
}

static bool is_name(const char *p, const char *stop)
{
	for (; p < stop; p++) {
		if (*p == '*' || *p == '?' || *p == '[')
			return false;
		if (*p == '\\')
			p++;
	}
	return true;
}

const char *choose_end(const char *patterns)
{
	for (; *patterns != '\0' && *patterns != ':'; patterns++)
		if (*patterns == '\\' && patterns[1] != '\0')
			patterns++;
	return patterns;
}

bool choose_match(const char *patterns, const char *path, bool *by_name)
{
	bool any = false;

	*by_name = false;
	for (;;) {
		const char *end = choose_end(patterns);

		if (match(patterns, end, path)) {
			any = true;
			*by_name |= is_name(patterns, end);
		}
		if (*end == '\0')
			return any;
		patterns = end + 1;
	}
}

/* ---- files ---- */

int choose_on_storage(int fd, bool *noexec)
{
	struct statfs fs;
	struct stat st;
	long r = SYS2(fstat, fd, &st);

	if (r == 0 && S_ISREG(st.st_mode))
		r = SYS2(fstatfs, fd, &fs);
	if (sys_err(r))
		return (int)r;
	if (!S_ISREG(st.st_mode))
		return 0;
	*noexec = fs.f_flags & ST_NOEXEC;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
		return 0;
	default:
		return 1;
	}
}

/* Does the file lie on the store's mount, which may have been mounted anew? */
static bool is_stored(struct file_choice *c, int fd, const struct stat *st)
{
	struct statfs fs;
	struct stat root;

	if (c->mount == NULL)
		return false;
	if (__atomic_load_n(&c->dev, __ATOMIC_RELAXED) == st->st_dev)
		return true;
	if (sys_err(SYS2(fstatfs, fd, &fs)) || (unsigned long)fs.f_type != FUSE_SUPER_MAGIC ||
	    sys_err(SYS4(fstatat, AT_FDCWD, c->mount, &root, 0)))
		return false;
	__atomic_store_n(&c->dev, root.st_dev, __ATOMIC_RELAXED);
	return root.st_dev == st->st_dev;
}

/* What it is called, or was before it lost that name. */
static bool is_named(const struct file_choice *c, int fd, const struct stat *st, bool *by_name)
{
	static const char deleted[] = " (deleted)";
	const size_t suffix = sizeof(deleted) - 1;
	char link[48], path[PATH_MAX];
	long n;

	if (c->patterns == NULL)
		return false;
	log_format(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
	n = SYS4(readlink, AT_FDCWD, link, path, sizeof(path) - 1);
	if (n <= 0 || path[0] != '/')
		return false;
	path[n] = '\0';
	if (st->st_nlink == 0 && (size_t)n > suffix && strcmp(path + n - suffix, deleted) == 0)
		path[(size_t)n - suffix] = '\0';
	return choose_match(c->patterns, path, by_name);
}

enum choice choose_mapping(struct mm *mm, int prot, int flags, int fd, struct file_id *id,
			   bool *noexec)
{
	const int special = MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK;
	struct file_choice *c = &mm->choice;
	bool by_name = false, stored;
	struct stat st;

	if ((c->patterns == NULL && c->mount == NULL) || (flags & special) || fd < 0 ||
	    mm->confined || __atomic_load_n(&c->filtered, __ATOMIC_RELAXED))
		return CHOICE_NONE;
	if (sys_err(SYS2(fstat, fd, &st)) || !S_ISREG(st.st_mode))
		return CHOICE_NONE;
	stored = is_stored(c, fd, &st);
	if (!is_named(c, fd, &st, &by_name) && !stored)
		return CHOICE_NONE;
	if (((prot & PROT_EXEC) || (flags & MAP_DENYWRITE)) && !by_name)
		return CHOICE_CODE;
	/* of the store's files its server has one page cache for all (share.h) */
	if ((flags & MAP_TYPE) != MAP_PRIVATE && (!stored || mm->store == NULL))
		return CHOICE_SHARED;
	if (!choose_on_storage(fd, noexec))
		return CHOICE_KIND;
	*id = (struct file_id){st.st_dev, st.st_ino, (uint32_t)SYS0(gettid)};
	return CHOICE_TAKE;
}
