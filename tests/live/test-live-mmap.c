/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The contract of the memory calls: each is made with the same arguments on
 * memory that faultline manages and on memory that it does not, and both must
 * give the same result or errno, the same mappings, the same bytes and the
 * same amount of locked memory.  Scripts from a table and random ones run in
 * three modes: nothing armed; armed; armed, with all that can leave paged out
 * before each call.
 *
 * Both arenas lie at low addresses where the kernel puts nothing by itself, so
 * that what is free stays free on both sides.
 */
#include "live.h"

#include <linux/capability.h>
#include <sys/syscall.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

#define ARENA 64UL  /* pages that are mapped when a script starts */
#define WATCHED 160 /* pages that are compared */
#define NATIVE_BASE ((char *)0x200000000000)
#define MANAGED_BASE ((char *)0x210000000000)
#define ELSEWHERE (1L << 62)
#define FIX (ANON | MAP_FIXED)
#define NOWHERE (-(long)PG) /* as an offset: a null address */

enum what { END, MAP, MAP_FD, UNMAP, REMAP, PROT, ADVISE, LOCK, LOCK2, UNLOCK, WRITE };

/* Offsets and lengths in bytes from the arena's start; meaning by kind, see run(). */
struct op {
	enum what what;
	long a, b, c, d, e;
};

struct side {
	struct fl *fl; /* NULL: the system calls themselves */
	char *base;
	char *moved; /* where the last call put something, outside of the arena */
	size_t moved_len;
};

static int data_fd = -1;
static int fetch_pipe[2];

static long number(int r)
{
	return r == 0 ? 0 : -errno;
}

static long place(struct side *s, void *p, size_t len)
{
	long off;

	if (p == MAP_FAILED)
		return -errno;
	off = (char *)p - s->base;
	if (off >= 0 && off < (long)(WATCHED * PG))
		return off;
	s->moved = p;
	s->moved_len = (len + PG - 1) & ~(PG - 1);
	return ELSEWHERE;
}

/*
 * The result of a call: 0, an offset, ELSEWHERE or -errno.  Memory is locked by
 * system call: a sanitizer's mlock() does nothing.
 */
static long run(struct side *s, const struct op *o)
{
	char *at = o->a == NOWHERE ? NULL : s->base + o->a;
	size_t len = (size_t)o->b;
	char *to = s->base + o->e;

	switch (o->what) {
	case MAP:
		return place(s,
			     s->fl != NULL ? fl_mmap(s->fl, at, len, (int)o->c, (int)o->d, -1, o->e)
					   : mmap(at, len, (int)o->c, (int)o->d, -1, o->e),
			     len);
	case MAP_FD:
		return place(s,
			     s->fl != NULL
				     ? fl_mmap(s->fl, at, len, (int)o->c, (int)o->d, data_fd, o->e)
				     : mmap(at, len, (int)o->c, (int)o->d, data_fd, o->e),
			     len);
	case UNMAP:
		return s->fl != NULL ? fl_munmap(s->fl, at, len) : number(munmap(at, len));
	case REMAP:
		return place(s,
			     s->fl != NULL ? fl_mremap(s->fl, at, len, (size_t)o->c, (int)o->d, to)
					   : mremap(at, len, (size_t)o->c, (int)o->d, to),
			     (size_t)o->c);
	case PROT:
		return s->fl != NULL ? fl_mprotect(s->fl, at, len, (int)o->c)
				     : number(mprotect(at, len, (int)o->c));
	case ADVISE:
		return s->fl != NULL ? fl_madvise(s->fl, at, len, (int)o->c)
				     : number(madvise(at, len, (int)o->c));
	case LOCK:
		return s->fl != NULL ? fl_mlock(s->fl, at, len)
				     : number((int)syscall(SYS_mlock, at, len));
	case LOCK2:
		return s->fl != NULL ? fl_mlock2(s->fl, at, len, (unsigned)o->c)
				     : number((int)syscall(SYS_mlock2, at, len, o->c));
	case UNLOCK:
		return s->fl != NULL ? fl_munlock(s->fl, at, len)
				     : number((int)syscall(SYS_munlock, at, len));
	case WRITE:
		live_fill(s->base, (size_t)o->a / PG, (size_t)o->b / PG, (uint64_t)o->c);
		return 0;
	default:
		return 0;
	}
}

/* One page's bytes, as the kernel reads them: its errno where it cannot. */
static int fetch(const char *at, char *buf)
{
	if (write(fetch_pipe[1], at, PG) != (ssize_t)PG)
		return errno;
	assert_int_equal(read(fetch_pipe[0], buf, PG), PG);
	return 0;
}

/* The protection of each watched page by /proc/self/maps; '.' is not mapped. */
static void layout(const char *base, char perms[WATCHED][5])
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long a, b;
	char line[512], p[5];

	assert_non_null(f);
	for (size_t i = 0; i < WATCHED; i++)
		strcpy(perms[i], ".");
	while (fgets(line, sizeof(line), f) != NULL) {
		assert_int_equal(sscanf(line, "%lx-%lx %4s", &a, &b, p), 3);
		for (size_t i = 0; i < WATCHED; i++)
			if ((unsigned long)base + i * PG >= a && (unsigned long)base + i * PG < b)
				strcpy(perms[i], p);
	}
	fclose(f);
}

/* A figure of /proc/self/status. */
static long status_kb(const char *name)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kb = -1;

	assert_non_null(f);
	while (kb < 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			kb = atol(strchr(line, ':') + 1);
	fclose(f);
	assert_true(kb >= 0);
	return kb;
}

static long locked_kb(void)
{
	return status_kb("VmLck:");
}

/* What went wrong, and where, for the one who reads it. */
static char where[512];

static void say_op(const char *script, unsigned step, const struct op *o)
{
	static const char *const names[] = {"end",    "mmap",	  "mmap file", "munmap",
					    "mremap", "mprotect", "madvise",   "mlock",
					    "mlock2", "munlock",  "write"};

	snprintf(where, sizeof(where), "%s, step %u: %s(%#lx, %#lx, %#lx, %#lx, %#lx)", script,
		 step, names[o->what], (unsigned long)o->a, (unsigned long)o->b,
		 (unsigned long)o->c, (unsigned long)o->d, (unsigned long)o->e);
}

static void compare(struct side *n, struct side *m)
{
	static char np[WATCHED][5], mp[WATCHED][5];
	char a[PG], b[PG];

	layout(n->base, np);
	layout(m->base, mp);
	for (size_t i = 0; i < WATCHED; i++) {
		int ne, me;

		if (strcmp(np[i], mp[i]) != 0)
			fail_msg("%s: page %zu is mapped %s, should be %s", where, i, mp[i], np[i]);
		if (np[i][0] == '.')
			continue;
		ne = fetch(n->base + i * PG, a);
		me = fetch(m->base + i * PG, b);
		if (ne != me)
			fail_msg("%s: reading page %zu gives errno %d, should be %d", where, i, me,
				 ne);
		if (ne == 0 && memcmp(a, b, PG) != 0)
			fail_msg("%s: page %zu differs", where, i);
	}
	if (n->moved != NULL) {
		assert_non_null(m->moved);
		for (size_t i = 0; i * PG < n->moved_len; i++) {
			int ne = fetch(n->moved + i * PG, a);
			int me = fetch(m->moved + i * PG, b);

			if (ne != me || (ne == 0 && memcmp(a, b, PG) != 0))
				fail_msg("%s: page %zu of what moved differs", where, i);
		}
	}
}

static void release_moved(struct side *s)
{
	if (s->moved == NULL)
		return;
	if (s->fl != NULL)
		assert_int_equal(fl_munmap(s->fl, s->moved, s->moved_len), 0);
	else
		assert_int_equal(munmap(s->moved, s->moved_len), 0);
	s->moved = NULL;
}

static void start_side(struct side *s)
{
	const int flags = ANON | MAP_FIXED_NOREPLACE;
	void *p = s->fl != NULL ? fl_mmap(s->fl, s->base, ARENA * PG, RW, flags, -1, 0)
				: mmap(s->base, ARENA * PG, RW, flags, -1, 0);

	assert_ptr_equal(p, s->base);
	live_fill(s->base, 0, ARENA, 1);
}

static void end_side(struct side *s)
{
	if (s->fl != NULL)
		assert_int_equal(fl_munmap(s->fl, s->base, WATCHED * PG), 0);
	else
		assert_int_equal(munmap(s->base, WATCHED * PG), 0);
}

/* All that is managed leaves; what is not is not concerned. */
static void page_out(struct side *m)
{
	unsigned char vec[WATCHED];

	assert_int_equal(fl_page_state(m->fl, m->base, WATCHED * PG, vec), 0);
	for (size_t i = 0; i < WATCHED; i++)
		if (FL_PAGE_KIND(vec[i]) == FL_PAGE_PRESENT)
			fl_madvise(m->fl, m->base + i * PG, PG, MADV_PAGEOUT);
}

/* A step on both sides; false when the script cannot go on (see below). */
static bool step(struct side *n, struct side *m, const struct op *o, bool out)
{
	long l0, l1, l2, want, got;

	if (out)
		page_out(m);
	l0 = locked_kb();
	want = run(n, o);
	l1 = locked_kb();
	got = run(m, o);
	l2 = locked_kb();
	/*
	 * A range may be one mapping on one side and two on the other: the kernel
	 * merges by more than what it shows.  Some calls take one mapping only.
	 */
	if (o->what == REMAP && want != got && (want == -EFAULT || got == -EFAULT)) {
		release_moved(n);
		release_moved(m);
		return false;
	}
	if (want != got)
		fail_msg("%s: result %ld, should be %ld", where, got, want);
	/* what MREMAP_DONTUNMAP leaves is not locked, and the kernel counts that by its mappings */
	if (!(o->what == REMAP && (o->d & MREMAP_DONTUNMAP)) && l2 - l1 != l1 - l0)
		fail_msg("%s: %ld KiB are locked, should be %ld", where, l2 - l1, l1 - l0);
	/* pages freed lazily may still be what they were, or zeros */
	if (!(o->what == ADVISE && o->c == MADV_FREE))
		compare(n, m);
	release_moved(n);
	release_moved(m);
	return true;
}

/* ---- the table ---- */

#define P(n) ((long)(n) * (long)PG)

static const struct script {
	const char *name;
	struct op op[8];
} scripts[] = {
	{"munmap: alignment and length",
	 {{UNMAP, 5, P(1), 0, 0, 0},
	  {UNMAP, P(4), 0, 0, 0, 0},
	  {UNMAP, P(4), 1, 0, 0, 0},
	  {UNMAP, P(6), P(1) + 1, 0, 0, 0},
	  {UNMAP, P(9), -1, 0, 0, 0}}},
	{"munmap: of nothing, of a part, across the end",
	 {{UNMAP, P(80), P(10), 0, 0, 0},
	  {UNMAP, P(20), P(10), 0, 0, 0},
	  {UNMAP, P(15), P(20), 0, 0, 0},
	  {UNMAP, P(60), P(30), 0, 0, 0},
	  {UNMAP, 0, P(ARENA), 0, 0, 0}}},
	{"mmap: arguments",
	 {{MAP, P(4), 0, RW, FIX, 0},
	  {MAP, 7, P(1), RW, FIX, 0},
	  {MAP, P(4), P(1), RW, MAP_ANONYMOUS | MAP_FIXED, 0},
	  {MAP, NOWHERE, -P(1), RW, ANON, 0},
	  {MAP, NOWHERE, P(1), RW, ANON, 5},
	  {MAP, NOWHERE, P(1), RW, MAP_PRIVATE, 0},
	  {MAP, P(4), P(3), RW, MAP_PRIVATE | MAP_FIXED, 0}}},
	{"mmap: fixed over what is there",
	 {{MAP, P(10), P(5), RW, FIX, 0},
	  {MAP, P(20), P(5), PROT_READ, FIX, 0},
	  {MAP, P(30), P(5), PROT_NONE, FIX, 0},
	  {MAP, P(60), P(10), RW, FIX, 0},
	  {WRITE, P(60), P(10), 3, 0, 0},
	  {MAP, P(12), 1, RW, FIX | MAP_NORESERVE, 0}}},
	{"mmap: fixed, but not over what is there",
	 {{MAP, P(10), P(5), RW, ANON | MAP_FIXED_NOREPLACE, 0},
	  {MAP, P(63), P(2), RW, ANON | MAP_FIXED_NOREPLACE, 0},
	  {MAP, P(64), P(2), RW, ANON | MAP_FIXED_NOREPLACE, 0},
	  {WRITE, P(64), P(2), 9, 0, 0},
	  {UNMAP, P(30), P(2), 0, 0, 0},
	  {MAP, P(30), P(2), RW, ANON | MAP_FIXED_NOREPLACE, 0}}},
	{"mmap: hints",
	 {{MAP, P(70), P(3), RW, ANON, 0},
	  {MAP, P(80) + 77, P(3), RW, ANON, 0},
	  {MAP, P(10), P(3), RW, ANON, 0},
	  {MAP, NOWHERE, P(3), RW, ANON, 0},
	  {MAP, NOWHERE, 100, PROT_READ, ANON, 0}}},
	{"mmap: what is not managed, over what is",
	 {{MAP, P(5), P(4), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, 0},
	  {WRITE, P(5), P(4), 7, 0, 0},
	  {MAP_FD, P(20), P(8), RW, MAP_PRIVATE | MAP_FIXED, 0},
	  {MAP_FD, P(40), P(8), PROT_READ, MAP_SHARED | MAP_FIXED, 0},
	  {MAP, P(50), P(3), RW, FIX | MAP_STACK, 0},
	  {MAP, P(21), P(2), RW, FIX, 0},
	  {UNMAP, P(2), P(40), 0, 0, 0}}},
	{"mmap: a file that cannot be mapped leaves what is there",
	 {{MAP_FD, P(20), P(8), RW, MAP_PRIVATE | MAP_FIXED, 17},
	  {MAP_FD, P(20), P(8), RW, MAP_FIXED, 0},
	  {MAP, P(20), P(8), RW, MAP_SHARED | MAP_FIXED, 0},
	  {WRITE, P(20), P(8), 5, 0, 0}}},
	{"mmap: populated and locked",
	 {{MAP, P(64), P(4), RW, FIX | MAP_POPULATE, 0},
	  {MAP, P(70), P(4), PROT_READ, FIX | MAP_POPULATE, 0},
	  {MAP, P(10), P(4), RW, FIX | MAP_LOCKED, 0},
	  {UNLOCK, P(10), P(4), 0, 0, 0},
	  {MAP, P(20), P(4), PROT_NONE, FIX | MAP_LOCKED, 0},
	  {MAP, P(30), P(2), RW, FIX | MAP_POPULATE | MAP_NONBLOCK, 0}}},
	{"mprotect: arguments",
	 {{PROT, 5, P(1), PROT_READ, 0, 0},
	  {PROT, P(3), 0, PROT_READ, 0, 0},
	  {PROT, P(3), 1, PROT_NONE, 0, 0},
	  {PROT, P(4), P(2), 0x4000, 0, 0},
	  {PROT, P(4), P(2), PROT_READ | PROT_GROWSDOWN, 0, 0},
	  {PROT, P(90), P(2), PROT_READ, 0, 0},
	  {PROT, P(4), -1, PROT_READ, 0, 0}}},
	{"mprotect: parts and holes",
	 {{PROT, P(10), P(20), PROT_READ, 0, 0},
	  {PROT, P(15), P(3), RW, 0, 0},
	  {PROT, P(14), P(10), PROT_NONE, 0, 0},
	  {UNMAP, P(17), P(2), 0, 0, 0},
	  {PROT, P(12), P(20), RW, 0, 0},
	  {PROT, 0, P(ARENA), PROT_READ, 0, 0},
	  {PROT, P(19), P(20), RW, 0, 0},
	  {WRITE, P(20), P(10), 5, 0, 0}}},
	{"mremap: shrink, and grow in place",
	 {{REMAP, 0, P(64), P(50), 0, 0},
	  {REMAP, P(10), P(40), P(60), 0, 0},
	  {WRITE, P(50), P(10), 8, 0, 0},
	  {REMAP, P(10), P(60), P(60), 0, 0},
	  {REMAP, P(10), P(60), P(61) + 3, 0, 0},
	  {REMAP, P(20), P(4), P(3), 0, 0}}},
	{"mremap: arguments",
	 {{REMAP, 9, P(4), P(8), 0, 0},
	  {REMAP, P(4), 0, P(8), 0, 0},
	  {REMAP, P(4), P(4), 0, 0, 0},
	  {REMAP, P(4), P(4), P(8), 0x100, 0},
	  {REMAP, P(4), P(4), P(4), MREMAP_FIXED, P(100)},
	  {REMAP, P(4), P(4), P(4), MREMAP_FIXED | MREMAP_MAYMOVE, P(100) + 8},
	  {REMAP, P(4), P(4), -P(1), MREMAP_MAYMOVE, 0}}},
	{"mremap: no room",
	 {{REMAP, P(10), P(4), P(8), 0, 0},
	  {REMAP, P(10), P(4), P(8), MREMAP_MAYMOVE, 0},
	  {REMAP, P(20), P(3), P(3), MREMAP_MAYMOVE, 0},
	  {REMAP, P(62), P(2), P(20), MREMAP_MAYMOVE, 0}}},
	{"mremap: of what is not there",
	 {{REMAP, P(100), P(4), P(8), MREMAP_MAYMOVE, 0},
	  {REMAP, P(62), P(4), P(8), MREMAP_MAYMOVE, 0},
	  {UNMAP, P(10), P(2), 0, 0, 0},
	  {REMAP, P(8), P(6), P(10), MREMAP_MAYMOVE, 0},
	  {REMAP, P(10), P(1), P(1), 0, 0}}},
	{"mremap: to a place",
	 {{REMAP, P(10), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(100)},
	  {REMAP, P(20), P(4), P(8), MREMAP_MAYMOVE | MREMAP_FIXED, P(110)},
	  {REMAP, P(30), P(8), P(2), MREMAP_MAYMOVE | MREMAP_FIXED, P(120)},
	  {REMAP, P(100), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(40)},
	  {REMAP, P(50), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(52)},
	  {REMAP, P(52), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(50)},
	  {REMAP, P(111), P(3), P(3), MREMAP_MAYMOVE | MREMAP_FIXED, P(10)}}},
	{"mremap: and leave the old mapping",
	 {{REMAP, P(10), P(4), P(4), MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, P(100)},
	  {WRITE, P(10), P(4), 6, 0, 0},
	  {REMAP, P(10), P(4), P(8), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0},
	  {REMAP, P(10), P(4), P(4), MREMAP_DONTUNMAP, 0},
	  {REMAP, P(20), P(4), P(4), MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED, P(30)},
	  {WRITE, P(20), P(20), 11, 0, 0}}},
	{"mremap: protections travel",
	 {{PROT, P(12), P(4), PROT_READ, 0, 0},
	  {REMAP, P(12), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(100)},
	  {PROT, P(30), P(4), PROT_NONE, 0, 0},
	  {REMAP, P(30), P(4), P(6), MREMAP_MAYMOVE | MREMAP_FIXED, P(110)},
	  {PROT, P(110), P(6), RW, 0, 0},
	  {PROT, P(100), P(4), RW, 0, 0},
	  {WRITE, P(100), P(4), 6, 0, 0}}},
	{"mremap: from and to what is not managed",
	 {{MAP, P(80), P(4), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, 0},
	  {WRITE, P(80), P(4), 7, 0, 0},
	  {REMAP, P(80), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(20)},
	  {WRITE, P(18), P(8), 9, 0, 0},
	  {REMAP, P(40), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(21)},
	  {WRITE, P(18), P(8), 10, 0, 0}}},
	{"madvise: arguments",
	 {{ADVISE, 8, P(1), MADV_DONTNEED, 0, 0},
	  {ADVISE, P(3), 0, MADV_DONTNEED, 0, 0},
	  {ADVISE, P(3), P(1), 5, 0, 0},
	  {ADVISE, P(3), P(1), 77, 0, 0},
	  {ADVISE, P(3), P(1), -1, 0, 0},
	  {ADVISE, P(3), -1, MADV_DONTNEED, 0, 0},
	  {ADVISE, P(3), 0, 77, 0, 0}}},
	{"madvise: emptying",
	 {{ADVISE, P(3), P(5), MADV_DONTNEED, 0, 0},
	  {ADVISE, P(20), 1, MADV_DONTNEED, 0, 0},
	  {WRITE, P(4), P(2), 4, 0, 0},
	  {ADVISE, P(30), P(10), MADV_FREE, 0, 0},
	  {WRITE, P(30), P(10), 4, 0, 0},
	  {ADVISE, P(60), P(10), MADV_DONTNEED, 0, 0}}},
	{"madvise: holes",
	 {{UNMAP, P(10), P(2), 0, 0, 0},
	  {ADVISE, P(8), P(6), MADV_DONTNEED, 0, 0},
	  {ADVISE, P(20), P(50), MADV_WILLNEED, 0, 0},
	  {ADVISE, P(8), P(6), MADV_RANDOM, 0, 0},
	  {ADVISE, P(8), P(6), MADV_FREE, 0, 0},
	  {WRITE, P(12), P(2), 3, 0, 0},
	  {ADVISE, P(100), P(2), MADV_DONTNEED, 0, 0}}},
	{"madvise: hints",
	 {{ADVISE, P(3), P(5), MADV_WILLNEED, 0, 0},
	  {ADVISE, P(3), P(5), MADV_SEQUENTIAL, 0, 0},
	  {ADVISE, P(3), P(5), MADV_COLD, 0, 0},
	  {ADVISE, P(3), P(50), MADV_PAGEOUT, 0, 0},
	  {ADVISE, P(3), P(5), MADV_NORMAL, 0, 0},
	  {ADVISE, P(3), P(5), MADV_NOHUGEPAGE, 0, 0},
	  {ADVISE, P(3), P(5), MADV_DONTDUMP, 0, 0},
	  {ADVISE, P(3), P(5), MADV_DODUMP, 0, 0}}},
	{"madvise: about fork",
	 {{ADVISE, P(3), P(5), MADV_DONTFORK, 0, 0},
	  {ADVISE, P(3), P(5), MADV_DOFORK, 0, 0},
	  {ADVISE, P(3), P(5), MADV_WIPEONFORK, 0, 0},
	  {ADVISE, P(3), P(5), MADV_KEEPONFORK, 0, 0},
	  {ADVISE, P(62), P(5), MADV_DONTFORK, 0, 0},
	  {ADVISE, P(3), P(5), MADV_REMOVE, 0, 0},
	  {WRITE, 0, P(20), 4, 0, 0}}},
	{"madvise: populate",
	 {{MAP, P(64), P(8), RW, FIX, 0},
	  {ADVISE, P(64), P(8), MADV_POPULATE_READ, 0, 0},
	  {ADVISE, P(60), P(8), MADV_POPULATE_WRITE, 0, 0},
	  {PROT, P(20), P(4), PROT_READ, 0, 0},
	  {ADVISE, P(18), P(8), MADV_POPULATE_WRITE, 0, 0},
	  {PROT, P(20), P(4), PROT_NONE, 0, 0},
	  {ADVISE, P(18), P(8), MADV_POPULATE_READ, 0, 0},
	  {ADVISE, P(70), P(8), MADV_POPULATE_READ, 0, 0}}},
	{"madvise: guards",
	 {{ADVISE, P(10), P(3), MADV_GUARD_INSTALL, 0, 0},
	  {PROT, P(9), P(3), PROT_READ, 0, 0},
	  {PROT, P(9), P(3), RW, 0, 0},
	  {ADVISE, P(8), P(4), MADV_DONTNEED, 0, 0},
	  {ADVISE, P(10), P(3), MADV_GUARD_REMOVE, 0, 0},
	  {WRITE, P(8), P(6), 5, 0, 0}}},
	{"mlock",
	 {{LOCK, P(80), P(2), 0, 0, 0},
	  {LOCK, P(3), 0, 0, 0, 0},
	  {LOCK, P(3) + 9, P(2), 0, 0, 0},
	  {LOCK2, P(10), P(4), 2, 0, 0},
	  {LOCK2, P(10), P(4), MLOCK_ONFAULT, 0, 0},
	  {UNLOCK, P(3) + 1, 1, 0, 0, 0},
	  {UNLOCK, P(60), P(10), 0, 0, 0},
	  {UNLOCK, 0, P(ARENA), 0, 0, 0}}},
	{"mlock: holes and locked memory",
	 {{UNMAP, P(20), P(2), 0, 0, 0},
	  {LOCK, P(18), P(8), 0, 0, 0},
	  {LOCK, P(30), P(4), 0, 0, 0},
	  {ADVISE, P(30), P(2), MADV_DONTNEED, 0, 0},
	  {ADVISE, P(30), P(2), MADV_DONTNEED_LOCKED, 0, 0},
	  {ADVISE, P(32), P(2), MADV_PAGEOUT, 0, 0},
	  {UNMAP, P(31), P(1), 0, 0, 0},
	  {UNLOCK, P(28), P(10), 0, 0, 0}}},
	{"mlock: moves and grows with its memory",
	 {{LOCK, P(10), P(4), 0, 0, 0},
	  {REMAP, P(10), P(4), P(4), MREMAP_MAYMOVE | MREMAP_FIXED, P(100)},
	  {REMAP, P(100), P(4), P(6), 0, 0},
	  {PROT, P(101), P(2), PROT_READ, 0, 0},
	  {UNMAP, P(102), P(1), 0, 0, 0},
	  {UNLOCK, P(100), P(2), 0, 0, 0}}},
};

enum mode { UNARMED, ARMED, PAGED_OUT, MODES };

static const char *const mode_names[MODES] = {"unarmed", "armed", "paged out"};

static struct fl *open_mode(enum mode mode)
{
	/* nothing is left of a script that failed */
	munmap(NATIVE_BASE, WATCHED * PG);
	munmap(MANAGED_BASE, WATCHED * PG);
	struct fl_options o = live_options(mode == UNARMED ? 1UL << 40 : 4 * MIB);
	struct fl *fl = live_open(&o);

	if (mode != UNARMED)
		live_arm(fl);
	return fl;
}

static void each_script(enum mode mode)
{
	struct side n = {.base = NATIVE_BASE};
	struct side m = {.fl = open_mode(mode), .base = MANAGED_BASE};

	for (unsigned i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		char name[128];

		snprintf(name, sizeof(name), "%s: %s", mode_names[mode], scripts[i].name);
		start_side(&n);
		start_side(&m);
		for (unsigned k = 0; k < 8 && scripts[i].op[k].what != END; k++) {
			say_op(name, k + 1, &scripts[i].op[k]);
			assert_true(step(&n, &m, &scripts[i].op[k], mode == PAGED_OUT));
		}
		end_side(&n);
		end_side(&m);
	}
	assert_int_equal(live_stats(m.fl).armed, mode != UNARMED);
	assert_int_equal(fl_close(m.fl), 0);
}

static void scripts_unarmed(void **state)
{
	(void)state;
	each_script(UNARMED);
}

static void scripts_armed(void **state)
{
	(void)state;
	each_script(ARMED);
}

static void scripts_paged_out(void **state)
{
	(void)state;
	each_script(PAGED_OUT);
}

/* ---- random scripts ---- */

static uint64_t seed;

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 16) % below);
}

static struct op random_op(void)
{
	static const int prots[] = {RW, RW, RW, PROT_READ, PROT_NONE};
	static const int advices[] = {MADV_DONTNEED, MADV_DONTNEED,  MADV_WILLNEED, MADV_COLD,
				      MADV_PAGEOUT,  MADV_RANDOM,    MADV_NORMAL,   MADV_SEQUENTIAL,
				      MADV_DONTFORK, MADV_WIPEONFORK};
	static const int moves[] = {0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED,
				    MREMAP_MAYMOVE | MREMAP_FIXED,
				    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP};
	long n = 1 + rnd(12);
	long a = rnd(120);
	long k = rnd(4) == 0 ? n + rnd(8) : n;

	switch (rnd(10)) {
	case 0:
		return (struct op){
			MAP, P(a), P(n), prots[rnd(5)], rnd(8) == 0 ? FIX | MAP_LOCKED : FIX, 0};
	case 1:
		return (struct op){MAP, P(a), P(n), prots[rnd(5)], ANON | MAP_FIXED_NOREPLACE, 0};
	case 2:
		return (struct op){UNMAP, P(a), P(n), 0, 0, 0};
	case 3:
	case 4:
		return (struct op){REMAP, P(a), P(n), P(k), moves[rnd(5)], P(rnd(120))};
	case 5:
		return (struct op){PROT, P(a), P(n), prots[rnd(5)], 0, 0};
	case 6:
	case 7:
		return (struct op){ADVISE, P(a), P(n), advices[rnd(10)], 0, 0};
	case 8:
		return (struct op){rnd(2) ? LOCK : UNLOCK, P(a), P(n), 0, 0, 0};
	default:
		return (struct op){WRITE, P(a), P(n), (long)rnd(1000), 0, 0};
	}
}

/* Whether both sides may be written in a range. */
static bool writable(const struct op *o)
{
	static char perms[WATCHED][5];

	layout(NATIVE_BASE, perms);
	for (long p = o->a / P(1); p < (o->a + o->b) / P(1); p++)
		if (perms[p][1] != 'w')
			return false;
	return true;
}

static void random_scripts(void **state)
{
	unsigned given_up = 0, steps = 0;

	(void)state;
	for (enum mode mode = UNARMED; mode < MODES; mode++) {
		struct side n = {.base = NATIVE_BASE};
		struct side m = {.fl = open_mode(mode), .base = MANAGED_BASE};

		for (unsigned s = 1; s <= 25; s++) {
			char name[64];

			seed = s * 0x9e3779b97f4a7c15U;
			snprintf(name, sizeof(name), "%s: random %u", mode_names[mode], s);
			start_side(&n);
			start_side(&m);
			for (unsigned k = 0; k < 40; k++) {
				struct op o = random_op();

				if (o.what == WRITE && !writable(&o))
					continue;
				say_op(name, k + 1, &o);
				steps++;
				if (!step(&n, &m, &o, mode == PAGED_OUT)) {
					given_up++;
					break;
				}
			}
			end_side(&n);
			end_side(&m);
		}
		assert_int_equal(fl_close(m.fl), 0);
	}
	/* most go to their end */
	assert_true(given_up < 30);
	assert_true(steps > 1500);
}

/* ---- limits of the process ---- */

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &head, data), 0);
	data[CAP_IPC_LOCK / 32].effective &= ~(1U << CAP_IPC_LOCK % 32);
	assert_int_equal(syscall(SYS_capset, &head, data), 0);
}

static void set_limit_of(int which, rlim_t value)
{
	struct rlimit r;

	assert_int_equal(getrlimit(which, &r), 0);
	r.rlim_cur = value;
	assert_int_equal(setrlimit(which, &r), 0);
}

static void run_both(struct side *n, struct side *m, const char *name, const struct op *ops,
		     unsigned nops)
{
	start_side(n);
	start_side(m);
	for (unsigned k = 0; k < nops; k++) {
		say_op(name, k + 1, &ops[k]);
		assert_true(step(n, m, &ops[k], false));
		/* the limit is for both together: each starts from nothing */
		run(n, &(struct op){UNLOCK, 0, P(ARENA), 0, 0, 0});
		run(m, &(struct op){UNLOCK, 0, P(ARENA), 0, 0, 0});
	}
	end_side(n);
	end_side(m);
}

/* The two sides count together, so each alone is below the limit, or each is above. */
static void memlock_child(void *arg)
{
	static const struct op ops[] = {
		{LOCK, 0, P(4), 0, 0, 0},
		{LOCK, 0, P(30), 0, 0, 0},
		{LOCK2, 0, P(30), MLOCK_ONFAULT, 0, 0},
		{LOCK, P(40), P(30), 0, 0, 0},
		{MAP, P(64), P(4), RW, FIX | MAP_LOCKED, 0},
		{MAP, P(80), P(30), RW, FIX | MAP_LOCKED, 0},
		{MAP, P(10), P(30), RW, FIX | MAP_LOCKED, 0},
	};
	enum mode mode = *(const enum mode *)arg;
	struct side n = {.base = NATIVE_BASE};
	struct side m = {.base = MANAGED_BASE};

	test_child();
	/* before the pager starts, which has the capabilities of its maker */
	drop_ipc_lock();
	m.fl = open_mode(mode);
	set_limit_of(RLIMIT_MEMLOCK, P(16));
	run_both(&n, &m, mode_names[mode], ops, sizeof(ops) / sizeof(ops[0]));
	set_limit_of(RLIMIT_MEMLOCK, 0);
	run_both(&n, &m, "no locking at all", ops, sizeof(ops) / sizeof(ops[0]));
	assert_int_equal(fl_close(m.fl), 0);
}

static void space_child(void *arg)
{
	static const struct op ops[] = {
		{MAP, P(64), P(20), RW, FIX, 0},
		{MAP, NOWHERE, 1L << 32, RW, ANON | MAP_NORESERVE, 0},
		{MAP, NOWHERE, 1L << 32, PROT_NONE, ANON | MAP_NORESERVE, 0},
		{REMAP, 0, P(64), 1L << 32, MREMAP_MAYMOVE, 0},
		{REMAP, P(60), P(24), P(40), 0, 0},
		{MAP, P(10), P(20), RW, FIX, 0},
	};
	enum mode mode = *(const enum mode *)arg;
	struct side n = {.base = NATIVE_BASE};
	struct side m = {.base = MANAGED_BASE};
	unsigned long vm;
	FILE *f;

	test_child();
	m.fl = open_mode(mode);
	f = fopen("/proc/self/statm", "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &vm), 1);
	fclose(f);
	set_limit_of(RLIMIT_AS, (vm + 4096) * PG);
	run_both(&n, &m, "RLIMIT_AS", ops, sizeof(ops) / sizeof(ops[0]));
	set_limit_of(RLIMIT_AS, RLIM_INFINITY);
	assert_int_equal(fl_close(m.fl), 0);
}

static void data_child(void *arg)
{
	static const struct op ops[] = {
		{MAP, P(64), P(20), RW, FIX, 0},
		{MAP, NOWHERE, 1L << 34, RW, ANON | MAP_NORESERVE, 0},
		{MAP, NOWHERE, 1L << 20, PROT_READ, ANON | MAP_NORESERVE, 0},
	};
	enum mode mode = *(const enum mode *)arg;
	struct side n = {.base = NATIVE_BASE};
	struct side m = {.base = MANAGED_BASE};

	test_child();
	m.fl = open_mode(mode);
	set_limit_of(RLIMIT_DATA, (rlim_t)status_kb("VmData:") * 1024 + (1L << 33));
	run_both(&n, &m, "RLIMIT_DATA", ops, sizeof(ops) / sizeof(ops[0]));
	assert_int_equal(fl_close(m.fl), 0);
}

static void in_each_mode(void (*fn)(void *))
{
	for (enum mode mode = UNARMED; mode <= ARMED; mode++) {
		char text[2000];
		int status = in_child(fn, &mode, text, sizeof(text));

		if (status != 0)
			fail_msg("%s: status %#x: %s", mode_names[mode], (unsigned)status, text);
	}
}

static void memory_lock_limit(void **state)
{
	(void)state;
	in_each_mode(memlock_child);
}

static void address_space_limit(void **state)
{
	(void)state;
	in_each_mode(space_child);
}

static void data_limit(void **state)
{
	(void)state;
	in_each_mode(data_child);
}

/* What the kernel locked before it met a gap is known to be locked, and what it unlocked is not. */
static void locks_up_to_a_gap(void **state)
{
	struct fl_options o = live_options(4 * MIB);

	(void)state;
	for (unsigned armed = 0; armed < 2; armed++) {
		struct fl *fl = armed ? live_armed(&o) : live_open(&o);
		char *mem = live_map(fl, 128);

		live_fill(mem, 0, 128, 1);
		assert_int_equal(fl_munmap(fl, mem + 64 * PG, PG), 0);
		assert_int_equal(fl_mlock(fl, mem, 128 * PG), -ENOMEM);
		assert_int_equal(live_state(fl, mem) & FL_PAGE_LOCKED, FL_PAGE_LOCKED);
		assert_int_equal(live_state(fl, mem + 63 * PG) & FL_PAGE_LOCKED, FL_PAGE_LOCKED);
		assert_int_equal(live_state(fl, mem + 65 * PG) & FL_PAGE_LOCKED, 0);
		assert_int_equal(live_stats(fl).locked, 64);
		assert_int_equal(fl_munlock(fl, mem, 128 * PG), -ENOMEM);
		assert_int_equal(live_stats(fl).locked, 0);
		if (armed) {
			live_out(fl, mem, 64);
			live_check(mem, 0, 64, 1);
		}
		assert_int_equal(fl_close(fl), 0);
	}
}

/* What is locked grows within the limit, whatever it is of. */
static void locks_of_what_grows(void **state)
{
	struct fl_options o = live_options(4 * MIB);
	struct fl *fl = live_armed(&o);
	FILE *f = tmpfile();
	char *mem = live_map(fl, 64);
	char *file;

	(void)state;
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), 4 * MIB), 0);
	file = fl_mmap(fl, NULL, 64 * PG, RW, MAP_SHARED, fileno(f), 0);
	assert_true(file != MAP_FAILED);
	assert_int_equal(fl_mlock(fl, mem, 64 * PG), 0);
	assert_int_equal(fl_mlock(fl, file, 64 * PG), 0);
	assert_true(fl_mremap(fl, mem, 64 * PG, 4 * MIB, MREMAP_MAYMOVE) == MAP_FAILED);
	assert_int_equal(errno, EAGAIN);
	assert_true(fl_mremap(fl, file, 64 * PG, 4 * MIB, MREMAP_MAYMOVE) == MAP_FAILED);
	assert_int_equal(errno, EAGAIN);
	mem = fl_mremap(fl, mem, 64 * PG, 128 * PG, MREMAP_MAYMOVE);
	assert_true(mem != MAP_FAILED);
	file = fl_mremap(fl, file, 64 * PG, 128 * PG, MREMAP_MAYMOVE);
	assert_true(file != MAP_FAILED);
	assert_int_equal(live_stats(fl).locked, 256);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(fclose(f), 0);
}

/* What is reserved and locked takes no frames; what is opened of it must be able to stay. */
static void locks_of_what_is_reserved(void **state)
{
	const size_t pages = 4 * MIB / PG;
	struct fl_options o = live_options(4 * MIB);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, 2 * pages);

	(void)state;
	assert_int_equal(fl_mprotect(fl, mem, 2 * pages * PG, PROT_NONE), 0);
	assert_int_equal(fl_mlock2(fl, mem, 2 * pages * PG, MLOCK_ONFAULT), 0);
	assert_int_equal(live_stats(fl).locked, 2 * pages);
	assert_int_equal(fl_mprotect(fl, mem, pages * PG, RW), -ENOMEM);
	assert_int_equal(fl_mprotect(fl, mem, pages / 2 * PG, RW), 0);
	assert_int_equal(fl_mprotect(fl, mem + pages * PG, pages / 2 * PG, RW), -ENOMEM);
	live_fill(mem, 0, pages / 2, 1);
	assert_int_equal(fl_munlock(fl, mem, 2 * pages * PG), 0);
	assert_int_equal(fl_mprotect(fl, mem, 2 * pages * PG, RW), 0);
	live_fill(mem, pages / 2, 2 * pages, 1);
	live_check(mem, 0, 2 * pages, 1);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- what only a pager's user asks ---- */

static void a_terabyte_costs_nothing(void **state)
{
	struct fl_options o = live_options(4 * MIB);

	(void)state;
	for (unsigned armed = 0; armed < 2; armed++) {
		struct fl *fl = armed ? live_armed(&o) : live_open(&o);
		uint64_t before = live_stats(fl).bookkeeping;
		double best = 1;

		/* a millisecond is what is asked; a busy machine gets ten, and many tries */
		for (unsigned i = 0; i < 5 || (best >= 0.01 && i < 100); i++) {
			double t = test_now();
			/* a reservation does not arm: it is no memory yet */
			char *p = fl_mmap(fl, NULL, 1UL << 40, armed ? RW : PROT_NONE,
					  ANON | MAP_NORESERVE, -1, 0);

			t = test_now() - t;
			assert_ptr_not_equal(p, FL_FAILED);
			best = t < best ? t : best;
			assert_int_equal(live_stats(fl).armed, armed);
			if (armed)
				for (unsigned k = 0; k < 16; k++)
					p[((1UL << 40) / 16) * k] = 1;
			assert_int_equal(fl_munmap(fl, p, 1UL << 40), 0);
		}
		assert_true(best < 0.01);
		assert_true(live_stats(fl).bookkeeping <= before + 16 * 3 * PG);
		assert_int_equal(fl_close(fl), 0);
	}
}

static void open_refuses_what_cannot_be(void **state)
{
	struct fl_options good = live_options(4 * MIB);
	struct fl_options o;
	struct fl *fl = (struct fl *)1;

	(void)state;
	good.log = live_log;
	live_log_clear();
#define REFUSED(field, value, err)                                                                 \
	do {                                                                                       \
		o = good;                                                                          \
		o.field = (value);                                                                 \
		assert_int_equal(fl_open(&fl, &o), (err));                                         \
		assert_null(fl);                                                                   \
	} while (0)
	REFUSED(limit, FL_LIMIT_MIN - 1, -EINVAL);
	REFUSED(pagers, 17, -EINVAL);
	REFUSED(nareas, FL_SWAP_MAX + 1, -EINVAL);
	REFUSED(engine, (enum fl_engine)3, -EINVAL);
	REFUSED(wp, (enum fl_wp)3, -EINVAL);
	REFUSED(log_level, (enum fl_log_level)4, -EINVAL);
	REFUSED(fault_around, 4095, -EINVAL);
	REFUSED(fault_around, (2UL << 20) + 1, -EINVAL);
	REFUSED(readahead, 1, -EINVAL);
#undef REFUSED
	/* a size that is not known cannot be read further */
	good.size = 8;
	assert_int_equal(fl_open(&fl, &good), -EINVAL);
	assert_int_equal(fl_open(&fl, NULL), 0);
	assert_int_equal(live_stats(fl).armed, 0);
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN - 1), -EINVAL);
	assert_int_equal(fl_stats(fl, NULL, 0), -EINVAL);
	assert_int_equal(fl_close(fl), 0);
}

static int no_bytes(void *ctx, uint64_t offset, void *buf, size_t length)
{
	(void)ctx, (void)offset;
	memset(buf, 0, length);
	return 0;
}

struct newer_options {
	struct fl_options o;
	uint64_t more[2];
};

static void options_of_other_headers(void **state)
{
	struct newer_options o = {.o = live_options(16 * MIB)};
	struct {
		struct fl_region_options o;
		uint64_t more;
	} region = {.o = {.priority = FL_PRIORITY_HOT}};
	struct {
		struct fl_backing_ops o;
		void *more;
	} ops = {.o = {.threads = 1}};
	struct fl_backing *backing;
	struct fl *fl;
	char *mem;

	(void)state;
	o.o.log = live_log;
	o.o.size = sizeof(o);
	assert_int_equal(fl_open(&fl, &o.o), 0);
	assert_int_equal(live_stats(fl).limit, 16 * MIB / PG);
	mem = live_map(fl, 4);
	region.o.size = sizeof(region);
	assert_int_equal(fl_region_set(fl, mem, 4 * PG, &region.o), 0);
	region.more = 1;
	assert_int_equal(fl_region_set(fl, mem, 4 * PG, &region.o), -E2BIG);
	region.o.size = sizeof(region.o) - 1;
	assert_int_equal(fl_region_set(fl, mem, 4 * PG, &region.o), -EINVAL);
	ops.o.size = sizeof(ops);
	assert_int_equal(fl_backing_open(fl, &backing, &ops.o, NULL, PG), -EINVAL); /* no read */
	ops.o.read = no_bytes;
	ops.o.reserved = 1;
	assert_int_equal(fl_backing_open(fl, &backing, &ops.o, NULL, PG), -EINVAL);
	ops.o.reserved = 0;
	assert_int_equal(fl_backing_open(fl, &backing, &ops.o, NULL, PG), 0);
	assert_int_equal(fl_backing_close(backing), 0);
	ops.more = &ops;
	assert_int_equal(fl_backing_open(fl, &backing, &ops.o, NULL, PG), -E2BIG);
	assert_int_equal(fl_close(fl), 0);
	o.more[1] = 1;
	assert_int_equal(fl_open(&fl, &o.o), -E2BIG);
	assert_null(fl);
	o.o.size = sizeof(o.o);
	assert_int_equal(fl_open(&fl, &o.o), 0);
	assert_int_equal(fl_close(fl), 0);
}

/* Programs that were built with an older header, and with a newer one. */
static void counters_of_other_headers(void **state)
{
	struct fl_options o = live_options(16 * MIB);
	struct fl *fl = live_open(&o);
	struct fl_stats buf[2];
	const unsigned char *bytes = (const unsigned char *)buf;

	(void)state;
	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(fl_stats(fl, buf, sizeof(buf[0].limit)), 0);
	assert_int_equal(buf[0].limit, 16 * MIB / PG);
	for (size_t i = sizeof(buf[0].limit); i < sizeof(buf); i++)
		assert_int_equal(bytes[i], 0x5a);
	assert_int_equal(fl_stats(fl, buf, sizeof(buf[0]) + 40), 0);
	assert_int_equal(buf[0].limit, 16 * MIB / PG);
	for (size_t i = 0; i < sizeof(buf[1]); i++)
		assert_int_equal(((const unsigned char *)&buf[1])[i], i < 40 ? 0 : 0x5a);
	assert_int_equal(fl_close(fl), 0);
}

static void a_limit_above_what_is_mapped_arms_nothing(void **state)
{
	struct fl_options o = live_options(16 * MIB);
	struct fl *fl = live_open(&o);
	char *a, *b;

	(void)state;
	a = live_map(fl, 2048);
	live_fill(a, 0, 2048, 5);
	assert_int_equal(live_stats(fl).armed, 0);
	assert_int_equal(live_kind(fl, a), FL_PAGE_UNTRACKED);
	b = fl_mmap(fl, NULL, 64 * MIB, PROT_NONE, ANON, -1, 0);
	assert_ptr_not_equal(b, FL_FAILED);
	assert_int_equal(live_stats(fl).armed, 0);
	/* opened, a reservation counts */
	assert_int_equal(fl_mprotect(fl, b, 64 * MIB, RW), 0);
	assert_int_equal(live_stats(fl).armed, 1);
	/* what was there before is known now */
	assert_int_equal(live_count(fl, a, 2048, FL_PAGE_PRESENT), 2048);
	assert_int_equal(live_count(fl, b, 2048, FL_PAGE_NONE), 2048);
	live_check(a, 0, 2048, 5);
	for (size_t i = 0; i < 64 * MIB; i += PG)
		b[i] = 1;
	live_check(a, 0, 2048, 5);
	assert_int_equal(fl_close(fl), 0);
	live_check(a, 0, 2048, 5);
	munmap(a, 2048 * PG);
	munmap(b, 64 * MIB);
}

/* What the kernel takes away or replaces is no region any more, also where there is no memory to note that. */
static void without_memory_nothing_is_unmapped_in_part(void **state)
{
	enum { n = 4000 };
	struct fl_options o = live_options(64 * MIB);
	static int result[n];

	(void)state;
	for (unsigned armed = 0; armed < 2; armed++) {
		struct fl *fl = armed ? live_armed(&o) : live_open(&o);
		char *p = live_map(fl, n);
		unsigned refused = 0;
		unsigned long vm;
		FILE *f;

		live_fill(p, 0, n, 3);
		f = fopen("/proc/self/statm", "re");
		assert_non_null(f);
		assert_int_equal(fscanf(f, "%lu", &vm), 1);
		fclose(f);
		set_limit_of(RLIMIT_AS, PG);
		for (size_t i = 1; i < n / 2; i += 2) {
			result[i] = fl_munmap(fl, p + i * PG, PG);
			vm -= result[i] == 0;
		}
		/* what takes no more than was there is the kernel's to map, and nothing else */
		set_limit_of(RLIMIT_AS, vm * PG);
		for (size_t i = n / 2 + 1; i < n; i += 2)
			result[i] = fl_mmap(fl, p + i * PG, PG, PROT_READ, FIX, -1, 0) == FL_FAILED
					    ? -errno
					    : 0;
		set_limit_of(RLIMIT_AS, RLIM_INFINITY);
		for (size_t i = 1; i < n; i += 2) {
			bool gone = i < n / 2 && result[i] == 0;

			assert_true(result[i] == 0 || result[i] == -ENOMEM);
			assert_int_equal(live_kind(fl, p + i * PG) == FL_PAGE_UNMANAGED, gone);
			if (result[i] != 0)
				live_check(p, i, 1, 3);
			refused += result[i] != 0;
		}
		assert_true(refused > 100);
		assert_int_equal(fl_verify(fl), 0);
		assert_int_equal(fl_munmap(fl, p, n * PG), 0);
		assert_int_equal(fl_close(fl), 0);
	}
}

static int setup(void **state)
{
	char page[PG];

	(void)state;
	memset(page, 0x33, sizeof(page));
	data_fd = memfd_create("data", MFD_CLOEXEC);
	if (data_fd < 0 || pipe(fetch_pipe) != 0)
		return -1;
	for (unsigned i = 0; i < 16; i++)
		if (pwrite(data_fd, page, sizeof(page), i * (off_t)PG) != (ssize_t)PG)
			return -1;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scripts_unarmed),
		cmocka_unit_test(scripts_armed),
		cmocka_unit_test(scripts_paged_out),
		cmocka_unit_test(random_scripts),
		cmocka_unit_test(memory_lock_limit),
		cmocka_unit_test(address_space_limit),
		cmocka_unit_test(data_limit),
		cmocka_unit_test(locks_up_to_a_gap),
		cmocka_unit_test(locks_of_what_grows),
		cmocka_unit_test(locks_of_what_is_reserved),
		cmocka_unit_test(without_memory_nothing_is_unmapped_in_part),
		cmocka_unit_test(a_terabyte_costs_nothing),
		cmocka_unit_test(open_refuses_what_cannot_be),
		cmocka_unit_test(options_of_other_headers),
		cmocka_unit_test(counters_of_other_headers),
		cmocka_unit_test(a_limit_above_what_is_mapped_arms_nothing),
	};

	return cmocka_run_group_tests_name("live-mmap", tests, setup, NULL);
}
