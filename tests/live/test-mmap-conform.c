/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-mmap-conform.c - mappings of files as mmap(2)'s pages describe them.
 *
 * Every case runs twice: against the kernel's calls, and against faultline's with
 * a limit far below what is mapped.  The same expectations must hold on both, so
 * what the kernel does is what they say.  Some are not faultline's to keep through the API
 * (fl_mmap(3), DIFFERENCES): those run against the kernel's calls alone, or against faultline's
 * with files of a store, too.
 *
 * Arguments: which cases, and which of these not.  test-run-conform.sh has the kernel's side run
 * under `faultline run`, test-store-conform.sh both with files of a store.
 */
#include "live.h"

#include <errno.h>
#include <linux/mount.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif

#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

#define LIMIT (4 * MIB)

static struct fl *fl; /* NULL: the kernel's calls */

/* ---- the calls: 0 or an address on success, -errno ---- */

static long addr_or_errno(void *p)
{
	return p == MAP_FAILED ? -errno : (long)p;
}

static int zero_or_errno(int r)
{
	return r == -1 ? -errno : r;
}

static long s_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return addr_or_errno(fl != NULL ? fl_mmap(fl, addr, len, prot, flags, fd, off)
					: mmap(addr, len, prot, flags, fd, off));
}

static int s_munmap(void *addr, size_t len)
{
	return fl != NULL ? fl_munmap(fl, addr, len) : zero_or_errno(munmap(addr, len));
}

static long s_mremap(void *addr, size_t old, size_t len, int flags, void *to)
{
	return addr_or_errno(fl != NULL ? fl_mremap(fl, addr, old, len, flags, to)
					: mremap(addr, old, len, flags, to));
}

static int s_remap_file_pages(void *addr, size_t size, int prot, size_t pgoff, int flags)
{
	return fl != NULL ? fl_remap_file_pages(fl, addr, size, prot, pgoff, flags)
			  : zero_or_errno(remap_file_pages(addr, size, prot, pgoff, flags));
}

static int s_mprotect(void *addr, size_t len, int prot)
{
	return fl != NULL ? fl_mprotect(fl, addr, len, prot)
			  : zero_or_errno(mprotect(addr, len, prot));
}

static int s_madvise(void *addr, size_t len, int advice)
{
	return fl != NULL ? fl_madvise(fl, addr, len, advice)
			  : zero_or_errno(madvise(addr, len, advice));
}

static int s_msync(void *addr, size_t len, int flags)
{
	return fl != NULL ? fl_msync(fl, addr, len, flags) : zero_or_errno(msync(addr, len, flags));
}

/* The address sanitizer makes the C library's do nothing. */
static int s_mlock(void *addr, size_t len)
{
	return fl != NULL ? fl_mlock(fl, addr, len)
			  : zero_or_errno((int)syscall(SYS_mlock, addr, len));
}

static int s_munlock(void *addr, size_t len)
{
	return fl != NULL ? fl_munlock(fl, addr, len)
			  : zero_or_errno((int)syscall(SYS_munlock, addr, len));
}

static int s_truncate(int fd, off_t len)
{
	return fl != NULL ? fl_ftruncate(fl, fd, len) : zero_or_errno(ftruncate(fd, len));
}

/* ---- files ---- */

static char path[4096];

/* A file of n pages, each with content of its own, and `tail` bytes more. */
static int make_file(size_t n, size_t tail)
{
	static uint64_t page[WORDS];
	int fd;

	snprintf(path, sizeof(path), "%s/conform-%d", live_dir(), (int)getpid());
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	for (size_t p = 0; p <= n; p++) {
		size_t len = p < n ? PG : tail;

		for (size_t i = 0; i < WORDS; i++)
			page[i] = live_word(1000003 + p, i);
		assert_int_equal(pwrite(fd, page, len, (off_t)(p * PG)), (ssize_t)len);
	}
	return fd;
}

/* Another one, without a name, whose pages' third words are 9000 and so on. */
static int make_other(size_t n)
{
	char name[sizeof(path) + 8];
	int fd;

	snprintf(name, sizeof(name), "%s-other", path);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t w = 9000 + i;

		assert_int_equal(pwrite(fd, &w, sizeof(w), (off_t)(i * PG + 2 * sizeof(w))),
				 sizeof(w));
	}
	assert_int_equal(ftruncate(fd, (off_t)(n * PG)), 0);
	unlink(name);
	return fd;
}

static void end_file(int fd)
{
	close(fd);
	unlink(path);
}

/* The file's own bytes, by read(2): a word of it. */
static uint64_t word_of_file(int fd, size_t page, size_t i)
{
	uint64_t w = 0;

	assert_int_equal(pread(fd, &w, sizeof(w), (off_t)(page * PG + i * sizeof(w))), sizeof(w));
	return w;
}

static uint64_t expected(size_t page, size_t i)
{
	return live_word(1000003 + page, i);
}

static char *map_file(size_t len, int prot, int flags, int fd, off_t off)
{
	long r = s_mmap(NULL, len, prot, flags, fd, off);

	if (r < 0 && r > -4096)
		fail_msg("mmap: %s", strerror((int)-r));
	return (char *)r;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

/* ---- touches that may raise a signal ---- */

static sigjmp_buf escape;
static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
	caught = sig;
	siglongjmp(escape, 1);
}

/* The signal that a touch raises; 0: none. */
static int touch(volatile char *p, bool write)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct sigaction bus, segv;

	sigaction(SIGBUS, &sa, &bus);
	sigaction(SIGSEGV, &sa, &segv);
	caught = 0;
	if (sigsetjmp(escape, 1) == 0) {
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return caught;
}

/* The file is one of the store's that the runtime is attached to. */
static bool is_stored(void)
{
	const char *store = getenv("FL_STORE");

	return store != NULL && strncmp(path, store, strlen(store)) == 0;
}

/*
 * The file is longer, and what raised a signal is there: at once by faultline's call, a moment
 * later at the latest where a store's server has to tell, and by the kernel's call, under
 * `faultline run` (fl_mmap(3), DIFFERENCES; fl_ftruncate(3)).
 */
static void is_there_now(char *p, bool write)
{
	if (fl != NULL && !is_stored())
		assert_int_equal(touch(p, write), 0);
	else
		until(touch(p, write) == 0);
}

/* ---- cases ---- */

static void shared_mapping_is_the_file(void **state)
{
	int fd = make_file(300, 0);
	char *p = map_file(300 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	live_check(p, 0, 300, 1);
	for (size_t i = 0; i < 300; i += 7)
		live_page(p, i)[5] = i;
	assert_int_equal(s_msync(p, 300 * PG, MS_SYNC), 0);
	for (size_t i = 0; i < 300; i++)
		assert_int_equal(word_of_file(fd, i, 5), i % 7 == 0 ? i : expected(i, 5));
	assert_int_equal(s_munmap(p, 300 * PG), 0);
	end_file(fd);
}

static void an_offset_is_where_it_begins(void **state)
{
	int fd = make_file(40, 0);
	char *p = map_file(10 * PG, PROT_READ, MAP_SHARED, fd, 7 * PG);
	char *q = map_file(10 * PG, PROT_READ, MAP_PRIVATE, fd, 12 * PG);

	(void)state;
	for (size_t i = 0; i < 10; i++) {
		assert_int_equal(live_page(p, i)[3], expected(i + 7, 3));
		assert_int_equal(live_page(q, i)[3], expected(i + 12, 3));
	}
	s_munmap(p, 10 * PG);
	s_munmap(q, 10 * PG);
	end_file(fd);
}

static void the_descriptor_may_be_closed(void **state)
{
	int fd = make_file(20, 0);
	int other = open(path, O_RDONLY);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	close(fd);
	unlink(path);
	live_check(p, 0, 20, 1);
	live_page(p, 3)[0] = 42;
	assert_int_equal(s_msync(p, 20 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(other, 3, 0), 42);
	s_munmap(p, 20 * PG);
	close(other);
}

static void mappings_of_one_file_are_one(void **state)
{
	int fd = make_file(20, 0);
	int other = open(path, O_RDWR);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(10 * PG, RW, MAP_SHARED, other, 5 * PG);

	(void)state;
	for (size_t i = 0; i < 10; i++) {
		live_page(p, i + 5)[1] = 100 + i;
		assert_int_equal(live_page(q, i)[1], 100 + i);
		live_page(q, i)[2] = 200 + i;
		assert_int_equal(live_page(p, i + 5)[2], 200 + i);
	}
	close(other);
	s_munmap(p, 20 * PG);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(live_page(q, i)[1], 100 + i);
	assert_int_equal(s_msync(q, 10 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 14, 2), 209);
	s_munmap(q, 10 * PG);
	end_file(fd);
}

static void private_writes_stay_private(void **state)
{
	int fd = make_file(60, 0);
	char *p = map_file(60 * PG, RW, MAP_PRIVATE, fd, 0);
	char *q = map_file(60 * PG, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	for (size_t i = 0; i < 60; i += 2)
		live_page(p, i)[9] = ~i;
	live_check(q, 0, 60, 1);
	assert_int_equal(s_msync(p, 60 * PG, MS_SYNC), 0);
	for (size_t i = 0; i < 60; i++) {
		assert_int_equal(live_page(p, i)[9], i % 2 == 0 ? ~i : expected(i, 9));
		assert_int_equal(word_of_file(fd, i, 9), expected(i, 9));
	}
	/* dropped, it is the file's again */
	assert_int_equal(s_madvise(p, 30 * PG, MADV_DONTNEED), 0);
	for (size_t i = 0; i < 60; i++)
		assert_int_equal(live_page(p, i)[9], i % 2 == 0 && i >= 30 ? ~i : expected(i, 9));
	s_munmap(p, 60 * PG);
	s_munmap(q, 60 * PG);
	end_file(fd);
}

/* More than the limit, so that what was written leaves and comes back. */
static void private_writes_survive_eviction(void **state)
{
	const size_t n = 3 * LIMIT / PG;
	int fd = make_file(n, 0);
	char *p = map_file(n * PG, RW, MAP_PRIVATE, fd, 0);
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; i < n; i += 3)
		live_page(p, i)[9] = ~i;
	for (size_t i = 0; i < n; i++)
		wrong += live_page(p, i)[9] != (i % 3 == 0 ? ~i : expected(i, 9)) ||
			 live_page(p, i)[10] != expected(i, 10);
	assert_int_equal(wrong, 0);
	s_munmap(p, n * PG);
	end_file(fd);
}

static void the_tail_is_zero(void **state)
{
	int fd = make_file(3, 1000);
	char *p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(4 * PG, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	for (size_t i = 1000; i < PG; i++) {
		assert_int_equal(p[3 * PG + i], 0);
		assert_int_equal(q[3 * PG + i], 0);
	}
	/* what is written there is not the file's */
	p[3 * PG + 999] = 'a';
	p[3 * PG + 1000] = 'b';
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC), 0);
	assert_int_equal(size_of(fd), 3 * PG + 1000);
	assert_int_equal(s_truncate(fd, 4 * PG), 0);
	char two[2];
	assert_int_equal(pread(fd, two, 2, 3 * PG + 999), 2);
	assert_int_equal(two[0], 'a');
	assert_int_equal(two[1], 0);
	s_munmap(p, 4 * PG);
	s_munmap(q, 4 * PG);
	end_file(fd);
}

static void beyond_the_end_is_sigbus(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};
	int fd = make_file(3, 10);

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		char *p = map_file(8 * PG, RW, type[t], fd, 0);

		assert_int_equal(touch(p + 3 * PG, false), 0);
		assert_int_equal(touch(p + 4 * PG, false), SIGBUS);
		assert_int_equal(touch(p + 4 * PG, false), SIGBUS);
		assert_int_equal(touch(p + 7 * PG, true), SIGBUS);
		assert_int_equal(s_madvise(p, 8 * PG, MADV_POPULATE_READ), -EFAULT);
		assert_int_equal(s_madvise(p, 8 * PG, MADV_POPULATE_WRITE), -EFAULT);
		assert_int_equal(s_mlock(p, 8 * PG), -ENOMEM);
		s_munmap(p, 8 * PG);
	}
	end_file(fd);
}

static void a_file_may_grow(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		int fd = make_file(2, 0);
		char *p = map_file(8 * PG, RW, type[t], fd, 0);
		uint64_t w = 77;

		live_check(p, 0, 2, 1);
		/* what was never touched beyond the end is there as soon as the file is */
		assert_int_equal(ftruncate(fd, 4 * PG), 0);
		assert_int_equal(pwrite(fd, &w, sizeof(w), 3 * PG), sizeof(w));
		assert_int_equal(touch(p + 2 * PG, false), 0);
		assert_int_equal(live_page(p, 3)[0], 77);
		/* and what raised a signal, with the call that makes it longer */
		assert_int_equal(touch(p + 5 * PG, false), SIGBUS);
		assert_int_equal(s_truncate(fd, 8 * PG), 0);
		is_there_now(p + 5 * PG, true);
		assert_int_equal(p[5 * PG], 1);
		assert_int_equal(p[5 * PG + 1], 0);
		s_munmap(p, 8 * PG);
		end_file(fd);
	}
}

static void a_handler_can_make_it_longer(void **state)
{
	int fd = make_file(1, 0);
	char *p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	assert_int_equal(touch(p + 2 * PG, true), SIGBUS);
	assert_int_equal(ftruncate(fd, 4 * PG), 0);
	/* by another's call: a moment later at the latest */
	until(touch(p + 2 * PG, true) == 0);
	assert_int_equal(p[2 * PG], 1);
	s_munmap(p, 4 * PG);
	end_file(fd);
}

static void truncation_takes_pages_away(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		int fd = make_file(20, 0);
		char *p = map_file(20 * PG, RW, type[t], fd, 0);

		live_check(p, 0, 20, 1);
		p[4 * PG + 1] = 'x';
		p[15 * PG] = 'y';
		assert_int_equal(s_truncate(fd, 4 * PG + 100), 0);
		assert_int_equal(touch(p + 5 * PG, false), SIGBUS);
		assert_int_equal(touch(p + 15 * PG, false), SIGBUS);
		assert_int_equal(p[4 * PG + 1], 'x');
		if (type[t] == MAP_SHARED)
			assert_int_equal(p[4 * PG + 100], 0);
		assert_int_equal(s_msync(p, 20 * PG, MS_SYNC), 0);
		assert_int_equal(size_of(fd), 4 * PG + 100);
		/* longer again it is zeros */
		assert_int_equal(s_truncate(fd, 20 * PG), 0);
		is_there_now(p + 5 * PG, false);
		is_there_now(p + 15 * PG, false);
		for (size_t i = 5; i < 20; i++)
			assert_int_equal(live_page(p, i)[0], 0);
		s_munmap(p, 20 * PG);
		end_file(fd);
	}
}

/* What is stored there is nobody's, and does not become the file's when that grows. */
static void behind_the_end_are_zeros(void **state)
{
	int fd = make_file(1, 100);
	char *p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	p[PG + 99] = 'x';
	for (size_t i = 100; i < PG; i++)
		p[PG + i] = 'y';
	assert_int_equal(s_truncate(fd, PG + 300), 0);
	for (size_t i = 300; i < PG; i++)
		p[PG + i] = 'z';
	assert_int_equal(s_truncate(fd, 4 * PG), 0);
	assert_int_equal(p[PG + 99], 'x');
	for (size_t i = 100; i < PG; i++)
		assert_int_equal(p[PG + i], 0);
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC), 0);
	for (size_t i = 104 / 8; i < WORDS; i++)
		assert_int_equal(word_of_file(fd, 1, i), 0);
	s_munmap(p, 4 * PG);
	end_file(fd);
}

static void holes_read_as_zeros(void **state)
{
	int fd = make_file(1, 0);
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, 512 * PG), 0);
	p = map_file(512 * PG, RW, MAP_SHARED, fd, 0);
	for (size_t i = 1; i < 512; i++)
		for (size_t k = 0; k < WORDS; k += 37)
			assert_int_equal(live_page(p, i)[k], 0);
	live_page(p, 300)[4] = 4;
	assert_int_equal(s_msync(p, 512 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 300, 4), 4);
	assert_int_equal(word_of_file(fd, 299, 4), 0);
	s_munmap(p, 512 * PG);
	end_file(fd);
}

static void errors_of_mmap(void **state)
{
	int rw = make_file(4, 0);
	int ro = open(path, O_RDONLY);
	int wo = open(path, O_WRONLY);
	int opath = open(path, O_PATH);
	int dir = open(live_dir(), O_RDONLY | O_DIRECTORY);
	int pipes[2];
	char *there = map_file(PG, PROT_READ, MAP_SHARED, rw, 0);

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, -1, 0), -EBADF);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, opath, 0), -EBADF);
	assert_int_equal(s_mmap(NULL, PG, RW, MAP_SHARED, ro, 0), -EACCES);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, wo, 0), -EACCES);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_PRIVATE, wo, 0), -EACCES);
	assert_int_equal(s_mmap(NULL, PG, PROT_WRITE, MAP_SHARED, wo, 0), -EACCES);
	assert_int_equal(s_mmap(NULL, 0, PROT_READ, MAP_SHARED, rw, 0), -EINVAL);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, rw, 100), -EINVAL);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, 0, rw, 0), -EINVAL);
	assert_int_equal(s_mmap((void *)1, PG, PROT_READ, MAP_SHARED | MAP_FIXED, rw, 0), -EINVAL);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, rw, (off_t)0x7ffffffffffff000),
			 -EOVERFLOW);
	assert_int_equal(s_mmap(NULL, (size_t)1 << 60, PROT_READ, MAP_SHARED, rw, 0), -ENOMEM);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, dir, 0), -ENODEV);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, pipes[0], 0), -ENODEV);
	assert_int_equal(s_mmap(there, PG, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, rw, 0),
			 -EEXIST);
	assert_int_equal(s_mmap(NULL, PG, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, rw, 0),
			 -EOPNOTSUPP);
	/* what is allowed */
	assert_true(s_mmap(NULL, PG, RW, MAP_PRIVATE, ro, 0) > 0);
	assert_true(s_mmap(NULL, PG, PROT_READ, MAP_SHARED, ro, 0) > 0);
	assert_true(s_mmap(NULL, PG, PROT_READ, MAP_SHARED_VALIDATE, rw, 0) > 0);
	/* a refused mapping leaves what was there */
	assert_int_equal(s_mmap(there, PG, RW, MAP_SHARED | MAP_FIXED, ro, 0), -EACCES);
	live_check(there, 0, 1, 1);
	s_munmap(there, PG);
	close(ro), close(wo), close(opath), close(dir), close(pipes[0]), close(pipes[1]);
	end_file(rw);
}

/*
 * The file, opened by a copy of its mount that lets nothing be executed: *tree, which is nowhere
 * to be seen and goes when that is closed.  -1: not by this user.
 */
static int open_noexec(int *tree)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOEXEC};
	int fd;

	*tree = (int)syscall(SYS_open_tree, AT_FDCWD, live_dir(),
			     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (*tree < 0) {
		assert_int_equal(errno, EPERM);
		return -1;
	}
	assert_int_equal(syscall(SYS_mount_setattr, *tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)),
			 0);
	fd = openat(*tree, strrchr(path, '/') + 1, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

static void a_mount_may_allow_no_execution(void **state)
{
	const int exec = PROT_READ | PROT_EXEC;
	const int type[] = {MAP_SHARED, MAP_PRIVATE};
	int fd = make_file(16, 0);
	int tree, noexec = open_noexec(&tree);

	(void)state;
	if (noexec < 0) {
		end_file(fd);
		test_skip("only root may copy a mount");
	}
	for (unsigned t = 0; t < 2; t++) {
		char *p;

		assert_int_equal(s_mmap(NULL, 8 * PG, exec, type[t], noexec, 0), -EPERM);
		p = map_file(8 * PG, RW, type[t], noexec, 0);
		assert_int_equal(s_mprotect(p, 8 * PG, exec), -EACCES);
		assert_int_equal(touch(p + 3 * PG, true), 0);
		/* wherever it is */
		p = (char *)s_mremap(p, 8 * PG, 16 * PG, MREMAP_MAYMOVE, NULL);
		assert_true((long)p > 0);
		assert_int_equal(s_mprotect(p + 12 * PG, 2 * PG, exec), -EACCES);
		/* by the other mount it may be; what comes before the one that may not is changed */
		assert_int_equal(s_mmap(p, 4 * PG, PROT_READ, type[t] | MAP_FIXED, fd, 0), (long)p);
		assert_int_equal(s_mprotect(p, 6 * PG, RW | PROT_EXEC), -EACCES);
		assert_int_equal(touch(p + 3 * PG, true), 0);
		assert_int_equal(s_mprotect(p, 4 * PG, exec), 0);
		assert_int_equal(live_page(p, 1)[1], expected(1, 1));
		s_munmap(p, 16 * PG);
	}
	if (fl != NULL) {
		struct fl_backing *b;
		char *p;

		assert_int_equal(fl_backing_file(fl, &b, noexec), 0);
		p = fl_mmap_backing(fl, NULL, 8 * PG, exec, MAP_SHARED, b, 0);
		assert_true(p == FL_FAILED && errno == EPERM);
		p = fl_mmap_backing(fl, NULL, 8 * PG, RW, MAP_SHARED, b, 0);
		assert_ptr_not_equal(p, FL_FAILED);
		assert_int_equal(s_mprotect(p, 8 * PG, exec), -EACCES);
		assert_int_equal(s_munmap(p, 8 * PG), 0);
		assert_int_equal(fl_backing_close(b), 0);
	}
	close(noexec);
	close(tree);
	end_file(fd);
}

/* What execve(2) says of the file, which is none that it knows. */
static int error_of_exec(void)
{
	char *const argv[] = {path, NULL};
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		execv(path, argv);
		_exit(errno);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void a_file_that_is_mapped_writable_is_busy(void **state)
{
	int fd = make_file(4, 0);
	char *p;

	(void)state;
	assert_int_equal(fchmod(fd, 0700), 0);
	close(fd);
	/* one that may only be read is not */
	fd = open(path, O_RDONLY);
	p = map_file(PG, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	assert_int_equal(live_page(p, 0)[0], expected(0, 0));
	assert_int_equal(error_of_exec(), ENOEXEC);
	s_munmap(p, PG);
	fd = open(path, O_RDWR);
	p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);
	assert_int_equal(error_of_exec(), ETXTBSY);
	close(fd);
	assert_int_equal(error_of_exec(), ETXTBSY);
	/* what it may become counts, and each part of it */
	assert_int_equal(s_mprotect(p, 4 * PG, PROT_READ), 0);
	assert_int_equal(error_of_exec(), ETXTBSY);
	assert_int_equal(s_munmap(p + PG, 3 * PG), 0);
	assert_int_equal(error_of_exec(), ETXTBSY);
	assert_int_equal(s_munmap(p, PG), 0);
	/* the end of what reads it may be the kernel's to come a moment later */
	until(error_of_exec() == ENOEXEC);
	fd = open(path, O_RDWR);
	p = map_file(PG, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	assert_int_equal(error_of_exec(), ETXTBSY);
	s_munmap(p, PG);
	unlink(path);
}

static void copy_to(int fd, const char *from)
{
	char buf[4096];
	int in = open(from, O_RDONLY);
	ssize_t n;

	assert_true(in >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(fd, buf, (size_t)n), n);
	assert_int_equal(n, 0);
	close(in);
}

/* So nobody comes to map it writable. */
static void a_file_that_is_executed_is_busy(void **state)
{
	char *const argv[] = {path, NULL};
	int fd = make_file(0, 0), in[2], out[2], status;
	char c = 'x';
	pid_t child;

	(void)state;
	copy_to(fd, "/bin/cat");
	assert_int_equal(fchmod(fd, 0700), 0);
	close(fd);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execv(path, argv);
		_exit(1);
	}
	assert_int_equal(write(in[1], &c, 1), 1);
	assert_int_equal(read(out[0], &c, 1), 1);
	assert_int_equal(open(path, O_RDWR), -1);
	assert_int_equal(errno, ETXTBSY);
	close(in[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* who reads of it in /proc has a hold on its memory, and that on the file, a moment longer */
	until((fd = open(path, O_RDWR)) >= 0 || errno != ETXTBSY);
	assert_true(fd >= 0);
	close(in[0]), close(out[0]), close(out[1]);
	end_file(fd);
}

/* What the kernel swaps to is nobody's to store to. */
static void a_swap_file_is_busy(void **state)
{
	enum { PAGES = 16 };
	char name[] = "/var/tmp/conform-XXXXXX";
	static uint32_t head[PG / 4], rest[PG / 4];
	int fd = mkstemp(name);
	long shared, private;
	bool swaps;
	int err;

	(void)state;
	assert_true(fd >= 0);
	head[256] = 1; /* version, and last page */
	head[257] = PAGES - 1;
	memcpy((char *)head + PG - 10, "SWAPSPACE2", 10);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(write(fd, i == 0 ? head : rest, PG), PG);
	assert_int_equal(fsync(fd), 0);
	swaps = swapon(name, 0) == 0;
	err = errno;
	/* whatever comes out, it is to be a file like any other again */
	shared = swaps ? s_mmap(NULL, PG, RW, MAP_SHARED, fd, 0) : 0;
	private = swaps ? s_mmap(NULL, PG, RW, MAP_PRIVATE, fd, 0) : 0;
	assert_int_equal(swaps ? swapoff(name) : 0, 0);
	assert_int_equal(unlink(name), 0);
	if (!swaps && err == EPERM)
		test_skip("only root may swap to a file");
	assert_true(swaps);
	assert_int_equal(shared, -ETXTBSY);
	assert_true(private > 0);
	s_munmap((void *)private, PG);
	close(fd);
}

static void protection_is_checked(void **state)
{
	int fd = make_file(8, 0);
	int ro = open(path, O_RDONLY);
	char *p = map_file(8 * PG, PROT_READ, MAP_SHARED, ro, 0);
	char *q = map_file(8 * PG, RW, MAP_SHARED, fd, 0);
	char *v = map_file(8 * PG, PROT_READ, MAP_PRIVATE, ro, 0);

	(void)state;
	assert_int_equal(s_mprotect(p, 8 * PG, RW), -EACCES);
	assert_int_equal(touch(p, true), SIGSEGV);
	assert_int_equal(touch(v, true), SIGSEGV);
	assert_int_equal(s_mprotect(v, 4 * PG, RW), 0);
	assert_int_equal(touch(v, true), 0);
	assert_int_equal(touch(v + 4 * PG, true), SIGSEGV);
	live_page(q, 3)[1] = 1;
	assert_int_equal(s_mprotect(q + 2 * PG, 2 * PG, PROT_NONE), 0);
	assert_int_equal(touch(q + 2 * PG, false), SIGSEGV);
	assert_int_equal(touch(q + 4 * PG, true), 0);
	assert_int_equal(s_mprotect(q, 8 * PG, PROT_READ), 0);
	assert_int_equal(live_page(q, 3)[1], 1);
	assert_int_equal(touch(q + 3 * PG, true), SIGSEGV);
	assert_int_equal(s_mprotect(q, 8 * PG, RW), 0);
	live_page(q, 3)[1] = 2;
	assert_int_equal(live_page(p, 3)[1], 2);
	assert_int_equal(s_msync(q, 8 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 3, 1), 2);
	s_munmap(p, 8 * PG);
	s_munmap(q, 8 * PG);
	s_munmap(v, 8 * PG);
	close(ro);
	end_file(fd);
}

/* What comes before a gap has the new protection. */
static void protection_changes_up_to_a_gap(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};
	const int prot[] = {PROT_NONE, PROT_READ};
	int fd = make_file(16, 0);

	(void)state;
	for (unsigned t = 0; t < 4; t++) {
		char *p = map_file(16 * PG, RW, type[t % 2], fd, 0);

		live_page(p, 3)[0] = 5;
		assert_int_equal(s_mprotect(p, 16 * PG, prot[t / 2]), 0);
		assert_int_equal(s_munmap(p + 8 * PG, PG), 0);
		assert_int_equal(s_mprotect(p, 16 * PG, RW), -ENOMEM);
		for (size_t i = 0; i < 8; i++)
			assert_int_equal(touch(p + i * PG, true), 0);
		assert_int_equal(touch(p + 9 * PG, true), SIGSEGV);
		if (fl != NULL)
			assert_int_equal(fl_verify(fl), 0);
		s_munmap(p, 16 * PG);
	}
	end_file(fd);
}

/* Nor is what comes behind one that must not be written. */
static void protection_changes_up_to_a_refusal(void **state)
{
	int fd = make_file(16, 0);
	int ro = open(path, O_RDONLY);
	char *p = map_file(16 * PG, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	assert_int_equal(s_mmap(p + 8 * PG, 4 * PG, PROT_READ, MAP_SHARED | MAP_FIXED, ro, 8 * PG),
			 (long)p + 8 * (long)PG);
	assert_int_equal(s_mprotect(p + 2 * PG, 12 * PG, RW), -EACCES);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(touch(p + i * PG, true), i >= 2 && i < 8 ? 0 : SIGSEGV);
	/* a gap comes first */
	assert_int_equal(s_munmap(p + 6 * PG, PG), 0);
	assert_int_equal(s_mprotect(p, 12 * PG, RW), -ENOMEM);
	assert_int_equal(touch(p, true), 0);
	assert_int_equal(s_mprotect(p + 8 * PG, 4 * PG, RW), -EACCES);
	s_munmap(p, 16 * PG);
	close(ro);
	end_file(fd);
}

static void moving_keeps_what_was_written(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		int fd = make_file(64, 0);
		char *room = map_file(64 * PG, PROT_NONE, ANON, -1, 0);
		char *p = map_file(32 * PG, RW, type[t], fd, 8 * PG);
		char *q;
		long r;

		live_page(p, 2)[0] = 22;
		/* larger, wherever there is room */
		r = s_mremap(p, 32 * PG, 48 * PG, MREMAP_MAYMOVE, NULL);
		assert_true(r > 0);
		p = (char *)r;
		assert_int_equal(live_page(p, 2)[0], 22);
		for (size_t i = 3; i < 48; i++)
			assert_int_equal(live_page(p, i)[0], expected(i + 8, 0));
		live_page(p, 40)[0] = 40;
		/* to a place */
		r = s_mremap(p, 48 * PG, 48 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, room);
		assert_int_equal(r, (long)room);
		assert_int_equal(touch(p, false), SIGSEGV);
		p = room;
		assert_int_equal(live_page(p, 2)[0], 22);
		assert_int_equal(live_page(p, 40)[0], 40);
		assert_int_equal(live_page(p, 41)[0], expected(49, 0));
		live_page(p, 41)[0] = 41;
		/* smaller */
		assert_int_equal(s_mremap(p, 48 * PG, 42 * PG, 0, NULL), (long)p);
		assert_int_equal(touch(p + 42 * PG, false), SIGSEGV);
		assert_int_equal(live_page(p, 41)[0], 41);
		/* errors */
		assert_int_equal(s_mremap(p, 42 * PG, 0, 0, NULL), -EINVAL);
		assert_int_equal(s_mremap(p, 42 * PG, 43 * PG, MREMAP_FIXED, room), -EINVAL);
		assert_int_equal(
			s_mremap(p, 42 * PG, 42 * PG, MREMAP_FIXED | MREMAP_MAYMOVE, p + 10 * PG),
			-EINVAL);
		if (type[t] == MAP_SHARED) {
			/* a second mapping of the same pages */
			r = s_mremap(p, 0, 42 * PG, MREMAP_MAYMOVE, NULL);
			assert_true(r > 0);
			q = (char *)r;
			live_page(q, 5)[5] = 55;
			assert_int_equal(live_page(p, 5)[5], 55);
			s_munmap(q, 42 * PG);
			assert_int_equal(s_msync(p, 42 * PG, MS_SYNC), 0);
			assert_int_equal(word_of_file(fd, 10, 0), 22);
			assert_int_equal(word_of_file(fd, 49, 0), 41);
			assert_int_equal(word_of_file(fd, 13, 5), 55);
		}
		s_munmap(room, 64 * PG);
		end_file(fd);
	}
}

/* Of the kernel's calls: it moves several mappings at once since Linux 6.17. */
static void need_moves_of_several(void)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	char *p;
	long r;

	if (fl != NULL)
		return;
	p = map_file(4 * PG, RW, ANON, -1, 0);
	assert_int_equal(s_mprotect(p, PG, PROT_READ), 0);
	r = s_mremap(p, 2 * PG, 2 * PG, flags, p + 2 * PG);
	s_munmap(p, 4 * PG);
	if (r == -EFAULT)
		test_skip("this kernel moves one mapping at a time");
	assert_true(r > 0);
}

#define PARTS 6U
#define PART_PAGES 8U
#define PART (PART_PAGES * PG)

/* Memory, the file's pages, a gap, and three times its pages. */
static void map_parts(char *p, int fd, int ro)
{
	const int fixed = MAP_FIXED;

	assert_int_equal(s_mmap(p, PART, RW, ANON | fixed, -1, 0), (long)p);
	p += PART;
	assert_int_equal(s_mmap(p, PART, RW, MAP_SHARED | fixed, fd, 0), (long)p);
	p += PART;
	assert_int_equal(s_munmap(p, PART), 0);
	p += PART;
	assert_int_equal(s_mmap(p, PART, RW, MAP_PRIVATE | fixed, fd, PART), (long)p);
	p += PART;
	assert_int_equal(s_mmap(p, PART, RW, MAP_SHARED | fixed, fd, 2 * PART), (long)p);
	assert_int_equal(s_mprotect(p + PART / 2, PART / 2, PROT_READ), 0);
	p += PART;
	assert_int_equal(s_mmap(p, PART, PROT_READ, MAP_SHARED | fixed, ro, 3 * PART), (long)p);
}

/* In the parts from `first` on, of which the last one and a half may only be read. */
#define WRITABLE (4 * PART_PAGES + PART_PAGES / 2)

static void store_in_parts(char *p, unsigned first)
{
	for (size_t i = first * PART_PAGES; i < WRITABLE; i++)
		if (i / PART_PAGES != 2 && i % 3 == 0)
			live_page(p, i)[5] = 7000 + i;
}

static void check_parts(char *p, unsigned first)
{
	for (size_t i = first * PART_PAGES; i < PARTS * PART_PAGES; i++) {
		size_t page = i - (i < 2 * PART_PAGES ? PART_PAGES : 2 * PART_PAGES);
		bool stored = i % 3 == 0 && i < WRITABLE;
		bool anon = i < PART_PAGES;

		if (i / PART_PAGES == 2) {
			assert_int_equal(touch(p + i * PG, false), SIGSEGV);
			continue;
		}
		if (stored)
			assert_int_equal(live_page(p, i)[5], 7000 + i);
		else
			assert_int_equal(live_page(p, i)[5], anon ? 0 : expected(page, 5));
		assert_int_equal(live_page(p, i)[6], anon ? 0 : expected(page, 6));
	}
	for (size_t i = WRITABLE; i < PARTS * PART_PAGES; i++)
		assert_int_equal(touch(p + i * PG, true), SIGSEGV);
	assert_int_equal(s_mprotect(p + 5 * PART, PG, RW), -EACCES);
}

static void several_mappings_move_at_once(void **state)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	(void)state;
	need_moves_of_several();
	for (unsigned first = 0; first < 2; first++) {
		int fd = make_file(4 * PART_PAGES, 0);
		int ro = open(path, O_RDONLY);
		size_t off = first * PART, len = PARTS * PART - off;
		char *other = map_file(4 * PART, PROT_READ, MAP_SHARED, fd, 0);
		char *from = map_file(PARTS * PART, PROT_NONE, ANON, -1, 0);
		char *to = map_file(PARTS * PART, PROT_NONE, ANON, -1, 0);

		map_parts(from, fd, ro);
		store_in_parts(from, first);
		assert_int_equal(s_mremap(from + off, len, len, flags, to + off),
				 (long)to + (long)off);
		check_parts(to, first);
		for (size_t i = first * PART_PAGES; i < PARTS * PART_PAGES; i++)
			assert_int_equal(touch(from + i * PG, false), SIGSEGV);
		/* what leaves comes back there */
		for (unsigned k = first; k < PARTS; k++)
			assert_int_equal(s_madvise(to + k * PART, PART, MADV_PAGEOUT), 0);
		check_parts(to, first);
		/* what is shared is so still */
		for (size_t i = 0; i < 4; i++) {
			live_page(to + PART, i)[1] = 300 + i;
			live_page(to + 4 * PART, i)[1] = 400 + i;
			assert_int_equal(live_page(other, i)[1], 300 + i);
			assert_int_equal(live_page(other + 2 * PART, i)[1], 400 + i);
		}
		assert_int_equal(s_msync(to + PART, PART, MS_SYNC), 0);
		assert_int_equal(s_msync(to + 4 * PART, 2 * PART, MS_SYNC), 0);
		for (size_t i = 0; i < 4; i++) {
			assert_int_equal(word_of_file(fd, i, 1), 300 + i);
			assert_int_equal(word_of_file(fd, 2 * PART_PAGES + i, 1), 400 + i);
		}
		/* back, and what was there stays mapped */
		assert_int_equal(s_mremap(to + off, len, len, flags | MREMAP_DONTUNMAP, from + off),
				 (long)from + (long)off);
		check_parts(from, first);
		assert_int_equal(live_page(to + PART, 3)[1], 303);
		assert_int_equal(live_page(to + 3 * PART, 0)[5], expected(PART_PAGES, 5));
		live_page(to + 4 * PART, 3)[1] = 500;
		assert_int_equal(live_page(from + 4 * PART, 3)[1], 500);
		/* a gap may be at the end, not at the beginning */
		assert_int_equal(s_munmap(to, PARTS * PART), 0);
		assert_int_equal(s_munmap(from + 2 * PART, PART), 0);
		assert_int_equal(s_mremap(from + PART, 2 * PART, 2 * PART, flags, to), (long)to);
		assert_int_equal(live_page(to, 3)[1], 303);
		assert_int_equal(s_mremap(from + 2 * PART, 2 * PART, 2 * PART, flags, to), -EFAULT);
		assert_int_equal(
			s_mremap(from + 3 * PART, 3 * PART, 3 * PART, flags, from + 5 * PART),
			-EINVAL);
		s_munmap(from, PARTS * PART);
		s_munmap(to, PARTS * PART);
		s_munmap(other, 4 * PART);
		close(ro);
		end_file(fd);
	}
}

/* What is not moved, or cut off, may be of several mappings; all else is of one. */
static void ranges_of_several_mappings(void **state)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	int fd = make_file(32, 0);
	int other = make_other(8);
	char *room = map_file(64 * PG, PROT_NONE, ANON, -1, 0);
	char *p = map_file(24 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	live_page(p, 2)[2] = 22;
	assert_int_equal(s_mprotect(p + 8 * PG, 8 * PG, PROT_READ), 0);
	assert_int_equal(s_mremap(p, 24 * PG, 24 * PG, 0, NULL), (long)p);
	assert_int_equal(s_mremap(p, 24 * PG, 24 * PG, MREMAP_MAYMOVE, NULL), (long)p);
	assert_int_equal(s_mremap(p, 24 * PG, 32 * PG, MREMAP_MAYMOVE, NULL), -EFAULT);
	assert_int_equal(s_mremap(p, 24 * PG, 32 * PG, flags, room), -EFAULT);
	assert_int_equal(s_mremap(p, 24 * PG, 24 * PG, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL),
			 -EFAULT);
	for (size_t i = 0; i < 24; i++)
		assert_int_equal(live_page(p, i)[3], expected(i, 3));
	assert_int_equal(s_mremap(p, 24 * PG, 12 * PG, flags, room), -EFAULT);
	assert_int_equal(s_mremap(p, 24 * PG, 6 * PG, flags, room), (long)room);
	for (size_t i = 0; i < 24; i++)
		assert_int_equal(touch(p + i * PG, false), SIGSEGV);
	assert_int_equal(live_page(room, 2)[2], 22);
	assert_int_equal(touch(room + 5 * PG, true), 0);
	assert_int_equal(touch(room + 6 * PG, false), SIGSEGV);
	/* memory, and behind it the file's pages, with a gap */
	for (unsigned k = 0; k < 2; k++) {
		p = map_file(16 * PG, RW, ANON, -1, 0);
		live_page(p, 1)[2] = 12;
		for (size_t i = 4; i < 16; i += 8)
			assert_int_equal(
				s_mmap(p + i * PG, 4 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0),
				(long)(p + i * PG));
		assert_int_equal(live_page(p, 6)[2], 22);
		assert_int_equal(s_munmap(p + 8 * PG, 4 * PG), 0);
		assert_int_equal(s_mremap(p, 16 * PG, 16 * PG, 0, NULL), (long)p);
		assert_int_equal(s_mremap(p, 16 * PG, 20 * PG, MREMAP_MAYMOVE, NULL), -EFAULT);
		if (k == 0)
			assert_int_equal(s_mremap(p, 16 * PG, 2 * PG, 0, NULL), (long)p);
		else
			assert_int_equal(s_mremap(p, 16 * PG, 2 * PG, flags, room), (long)room);
		assert_int_equal(live_page(k == 0 ? p : room, 1)[2], 12);
		for (size_t i = 2; i < 16; i++)
			assert_int_equal(touch(p + i * PG, false), SIGSEGV);
		/* what is mapped there next is that */
		assert_int_equal(s_mmap(p + 4 * PG, 4 * PG, RW, MAP_SHARED | MAP_FIXED, other, 0),
				 (long)(p + 4 * PG));
		assert_int_equal(live_page(p, 6)[2], 9002);
		s_munmap(p, 16 * PG);
	}
	s_munmap(room, 64 * PG);
	close(other);
	end_file(fd);
}

/* So much address space as there is now, and no more. */
static void allow_no_more(void)
{
	struct rlimit lim;
	char text[64] = "";
	int fd = open("/proc/self/statm", O_RDONLY);

	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_AS, &lim), 0);
	lim.rlim_cur = strtoul(text, NULL, 10) * PG;
	assert_int_equal(setrlimit(RLIMIT_AS, &lim), 0);
}

/* What is to be moved stays; what was where it is to be moved to may be gone. */
static void a_move_that_fails_may_unmap(void **state)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char *p = map_file(16 * PG, RW, ANON, -1, 0);
	char *to = map_file(16 * PG, RW, ANON, -1, 0);
	struct rlimit was;
	long r;

	(void)state;
	live_page(p, 3)[2] = 32;
	live_page(to, 0)[2] = 2;
	assert_int_equal(s_munmap(to + PG, 15 * PG), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
	allow_no_more();
	r = s_mremap(p, 16 * PG, 16 * PG, flags, to);
	assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(touch(to, false), SIGSEGV);
	if (fl != NULL)
		assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(live_page(p, 3)[2], 32);
	assert_int_equal(s_mmap(to, PG, RW, ANON | MAP_FIXED, -1, 0), (long)to);
	assert_int_equal(live_page(to, 0)[2], 0);
	s_munmap(to, PG);
	s_munmap(p, 16 * PG);
}

static bool child_has(char *p)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(touch(p, false) != 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 0;
}

/* Of memory that is not managed, over what is. */
static void moving_keeps_what_a_child_has(void **state)
{
	const int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	int fd = make_file(8, 0);
	char *p = map_file(8 * PG, RW, MAP_PRIVATE, fd, 0);
	char *q = map_file(4 * PG, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)state;
	q[0] = 'q';
	assert_true(child_has(q));
	assert_int_equal(s_mremap(q, 4 * PG, 4 * PG, flags | MREMAP_DONTUNMAP, p), (long)p);
	assert_int_equal(p[0], 'q');
	assert_true(child_has(q));
	assert_true(child_has(p));
	assert_int_equal(s_madvise(q, 4 * PG, MADV_DONTFORK), 0);
	assert_int_equal(s_mremap(q, 4 * PG, 4 * PG, flags, p + 2 * PG), (long)(p + 2 * PG));
	assert_int_equal(p[2 * PG], 'q');
	assert_false(child_has(p + 2 * PG));
	s_munmap(p, 8 * PG);
	end_file(fd);
}

static void parts_can_be_unmapped(void **state)
{
	int fd = make_file(30, 0);
	char *p = map_file(30 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	for (size_t i = 0; i < 30; i++)
		live_page(p, i)[6] = i;
	assert_int_equal(s_munmap(p + 10 * PG, 10 * PG), 0);
	assert_int_equal(touch(p + 10 * PG, false), SIGSEGV);
	assert_int_equal(touch(p + 19 * PG, true), SIGSEGV);
	assert_int_equal(live_page(p, 9)[6], 9);
	assert_int_equal(live_page(p, 20)[6], 20);
	assert_int_equal(s_msync(p, 30 * PG, MS_SYNC), -ENOMEM);
	assert_int_equal(s_msync(p, 10 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 9, 6), 9);
	/* something else in between */
	assert_int_equal(s_mmap(p + 12 * PG, 4 * PG, RW, ANON | MAP_FIXED, -1, 0),
			 (long)p + 12 * (long)PG);
	assert_int_equal(live_page(p, 12)[6], 0);
	live_page(p, 13)[6] = 13;
	assert_int_equal(s_mmap(p + 12 * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 20 * PG),
			 (long)p + 12 * (long)PG);
	assert_int_equal(live_page(p, 12)[6], 20);
	assert_int_equal(live_page(p, 13)[6], 21);
	s_munmap(p, 30 * PG);
	end_file(fd);
}

static void errors_of_msync(void **state)
{
	int fd = make_file(4, 0);
	char *p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC | MS_ASYNC), -EINVAL);
	assert_int_equal(s_msync(p + 1, PG, MS_SYNC), -EINVAL);
	assert_int_equal(s_msync(p, 4 * PG, 64), -EINVAL);
	assert_int_equal(s_msync(p, 0, MS_SYNC), 0);
	assert_int_equal(s_msync(p, 4 * PG, MS_ASYNC), 0);
	assert_int_equal(s_msync(p, 4 * PG, MS_INVALIDATE), 0);
	assert_int_equal(s_mlock(p, PG), 0);
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC | MS_INVALIDATE), -EBUSY);
	assert_int_equal(s_munlock(p, PG), 0);
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC | MS_INVALIDATE), 0);
	live_check(p, 0, 4, 1);
	s_munmap(p, 4 * PG);
	end_file(fd);
}

/* Of the mapping that begins there what is not written, by /proc/self/smaps. */
static size_t dirty_kb(const char *at)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kb;
	bool there = false;
	size_t dirty = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			there = start == (unsigned long)at;
		else if (there && (sscanf(line, "Shared_Dirty: %lu", &kb) == 1 ||
				   sscanf(line, "Private_Dirty: %lu", &kb) == 1))
			dirty += kb;
	}
	fclose(f);
	return dirty;
}

/* Stores to its page i; whether that is not written yet, which the kernel may do at any time. */
static bool is_dirtied(char *at, size_t i, uint64_t value)
{
	live_page(at, i)[3] = value;
	return dirty_kb(at) != 0;
}

/* A mapping that is the kernel's, since its file is not chosen and it is made by the kernel's call. */
static void msync_writes_what_is_beside(void **state)
{
	char name[] = "/var/tmp/conform-XXXXXX";
	int fd = make_file(12, 0);
	char *p = map_file(12 * PG, RW, MAP_SHARED, fd, 0), *q = p + 4 * PG;
	int other = mkstemp(name);

	(void)state;
	assert_true(other >= 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(ftruncate(other, 4 * PG), 0);
	assert_int_equal(s_munmap(q, 4 * PG), 0);
	assert_ptr_equal(mmap(q, 4 * PG, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, other, 0), q);
	for (size_t i = 0; i < 12; i++)
		live_page(p, i)[3] = 600 + i;
	until(is_dirtied(q, 0, 604));
	assert_int_equal(s_msync(p, 12 * PG, MS_SYNC), 0);
	assert_int_equal(dirty_kb(q), 0);
	for (size_t i = 0; i < 12; i++)
		if (i < 4 || i >= 8)
			assert_int_equal(word_of_file(fd, i, 3), 600 + i);
	/* what the kernel has to say of it is the answer */
	assert_int_equal(s_mlock(q, PG), 0);
	assert_int_equal(s_msync(p, 12 * PG, MS_INVALIDATE), -EBUSY);
	assert_int_equal(s_munlock(q, PG), 0);
	assert_int_equal(s_msync(p, 12 * PG, MS_INVALIDATE), 0);
	/* with a gap all that is mapped is written */
	live_page(p, 1)[3] = live_page(p, 9)[3] = 700;
	assert_int_equal(s_munmap(q, PG), 0);
	q += PG;
	until(is_dirtied(q, 2, 700));
	assert_int_equal(s_msync(p, 12 * PG, MS_SYNC), -ENOMEM);
	assert_int_equal(dirty_kb(q), 0);
	assert_int_equal(word_of_file(fd, 1, 3), 700);
	assert_int_equal(word_of_file(fd, 9, 3), 700);
	s_munmap(p, 12 * PG);
	close(other);
	end_file(fd);
}

/* Parts that may be written lie between others that may not, more than are synced at one time. */
static void many_parts_are_synced(void **state)
{
	const size_t n = 400;
	int fd = make_file(n, 0);
	int ro = open(path, O_RDONLY);
	char *p = map_file(n * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	for (unsigned round = 1; round <= 2; round++) {
		for (size_t i = 0; i < n; i += 2)
			live_page(p, i)[3] = round * 1000 + i;
		/* one mapping for each page; then every other one may only be read */
		for (size_t i = 1; i < n; i += 2) {
			char *at = p + i * PG;

			if (round == 1)
				assert_int_equal(s_mprotect(at, PG, PROT_READ), 0);
			else
				assert_int_equal(s_mmap(at, PG, PROT_READ, MAP_SHARED | MAP_FIXED,
							ro, (off_t)(i * PG)),
						 (long)at);
		}
		assert_int_equal(s_msync(p, n * PG, MS_SYNC), 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(word_of_file(fd, i, 3),
					 i % 2 == 0 ? round * 1000 + i : expected(i, 3));
	}
	s_munmap(p, n * PG);
	close(ro);
	end_file(fd);
}

#define SYNCERS 200U
#define SYNC_ROUNDS 3U
static pthread_barrier_t sync_start;
static char *sync_base;

static void *sync_page(void *arg)
{
	size_t i = (size_t)arg;

	pthread_barrier_wait(&sync_start);
	for (unsigned round = 1; round <= SYNC_ROUNDS; round++) {
		int r;

		live_page(sync_base, i)[3] = round * 1000 + i;
		r = s_msync(sync_base + i * PG, PG, MS_SYNC);
		if (r != 0)
			return (void *)(long)r;
	}
	return NULL;
}

static void many_threads_sync(void **state)
{
	int fd = make_file(SYNCERS, 0);
	pthread_t t[SYNCERS];
	void *r;

	(void)state;
	sync_base = map_file(SYNCERS * PG, RW, MAP_SHARED, fd, 0);
	assert_int_equal(pthread_barrier_init(&sync_start, NULL, SYNCERS), 0);
	for (size_t i = 0; i < SYNCERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, sync_page, (void *)i), 0);
	for (size_t i = 0; i < SYNCERS; i++) {
		assert_int_equal(pthread_join(t[i], &r), 0);
		assert_int_equal((long)r, 0);
		assert_int_equal(word_of_file(fd, i, 3), SYNC_ROUNDS * 1000 + i);
	}
	pthread_barrier_destroy(&sync_start);
	s_munmap(sync_base, SYNCERS * PG);
	end_file(fd);
}

static void advice_keeps_the_content(void **state)
{
	const int advice[] = {MADV_NORMAL, MADV_SEQUENTIAL, MADV_RANDOM,  MADV_WILLNEED,
			      MADV_COLD,   MADV_PAGEOUT,    MADV_DONTNEED};
	int fd = make_file(64, 0);
	char *p = map_file(64 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	for (unsigned a = 0; a < sizeof(advice) / sizeof(advice[0]); a++) {
		for (size_t i = a; i < 64; i += 5)
			live_page(p, i)[a] = ~expected(i, a);
		assert_int_equal(s_madvise(p, 64 * PG, advice[a]), 0);
		for (size_t i = 0; i < 64; i++)
			for (unsigned k = 0; k < a; k++)
				assert_int_equal(live_page(p, i)[k], i >= k && i % 5 == k % 5
									     ? ~expected(i, k)
									     : expected(i, k));
	}
	assert_int_equal(s_madvise(p, 64 * PG, MADV_FREE), -EINVAL);
	assert_int_equal(s_madvise(p, 64 * PG, MADV_WIPEONFORK), -EINVAL);
	assert_int_equal(s_madvise(p + 1, PG, MADV_WILLNEED), -EINVAL);
	s_munmap(p, 64 * PG);
	end_file(fd);
}

static void removed_pages_are_zeros(void **state)
{
	int fd = make_file(20, 0);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(20 * PG, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	live_check(p, 0, 20, 1);
	live_page(p, 6)[0] = 6;
	assert_int_equal(s_madvise(p + 5 * PG, 5 * PG, MADV_REMOVE), 0);
	for (size_t i = 0; i < 20; i++) {
		uint64_t want = i >= 5 && i < 10 ? 0 : expected(i, 1);

		assert_int_equal(live_page(p, i)[1], want);
		assert_int_equal(word_of_file(fd, i, 1), want);
	}
	assert_int_equal(size_of(fd), 20 * PG);
	assert_int_equal(s_madvise(q, PG, MADV_REMOVE), -EACCES);
	s_munmap(p, 20 * PG);
	s_munmap(q, 20 * PG);
	end_file(fd);
}

/* Of a range with a gap in it what is mapped is removed. */
static void removing_passes_by_a_gap(void **state)
{
	int fd = make_file(8, 0);
	char *p = map_file(8 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	assert_int_equal(live_page(p, 5)[1], expected(5, 1));
	assert_int_equal(s_munmap(p + 2 * PG, PG), 0);
	assert_int_equal(s_madvise(p + PG, 5 * PG, MADV_REMOVE), -ENOMEM);
	assert_int_equal(live_page(p, 1)[1], 0);
	assert_int_equal(live_page(p, 5)[1], 0);
	assert_int_equal(live_page(p, 6)[1], expected(6, 1));
	assert_int_equal(word_of_file(fd, 5, 1), 0);
	s_munmap(p, 8 * PG);
	end_file(fd);
}

static void locked_pages_stay(void **state)
{
	int fd = make_file(32, 0);
	char *p = map_file(32 * PG, RW, MAP_SHARED | MAP_POPULATE, fd, 0);
	char *q = map_file(32 * PG, PROT_READ, MAP_PRIVATE | MAP_LOCKED, fd, 0);

	(void)state;
	live_check(p, 0, 32, 1);
	live_check(q, 0, 32, 1);
	assert_int_equal(s_mlock(p, 16 * PG), 0);
	live_page(p, 3)[2] = 3;
	assert_int_equal(s_msync(p, 32 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 3, 2), 3);
	assert_int_equal(s_munlock(p, 32 * PG), 0);
	assert_int_equal(s_munlock(q, 32 * PG), 0);
	s_munmap(p, 32 * PG);
	s_munmap(q, 32 * PG);
	end_file(fd);
}

static void times_move_with_writes(void **state)
{
	const struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	int fd = make_file(4, 0);
	char *p = map_file(4 * PG, RW, MAP_SHARED, fd, 0);
	struct stat st;

	(void)state;
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(futimens(fd, past), 0);
	live_check(p, 0, 4, 1);
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mtime, 1000);
	live_page(p, 2)[0] = 2;
	assert_int_equal(s_msync(p, 4 * PG, MS_SYNC), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_not_equal(st.st_mtime, 1000);
	s_munmap(p, 4 * PG);
	end_file(fd);
}

/* The kernel touches the mapping on behalf of a system call. */
static void system_calls_take_it_as_memory(void **state)
{
	int fd = make_file(32, 0);
	int pipes[2];
	char *p = map_file(40 * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(40 * PG, RW, MAP_PRIVATE, fd, 0);
	static char plain[PG];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], p + 3 * PG, PG), PG);
	assert_int_equal(read(pipes[0], q + 9 * PG, PG), PG);
	assert_memory_equal(q + 9 * PG, p + 3 * PG, PG);
	assert_int_equal(write(pipes[1], q + 4 * PG, PG), PG);
	assert_int_equal(read(pipes[0], p + 10 * PG, PG), PG);
	assert_int_equal(s_msync(p, 32 * PG, MS_SYNC), 0);
	assert_int_equal(pread(fd, plain, PG, 10 * PG), PG);
	assert_memory_equal(plain, q + 4 * PG, PG);
	/* beyond the end */
	errno = 0;
	assert_int_equal(write(pipes[1], p + 35 * PG, PG), -1);
	assert_int_equal(errno, EFAULT);
	close(pipes[0]);
	close(pipes[1]);
	s_munmap(p, 40 * PG);
	s_munmap(q, 40 * PG);
	end_file(fd);
}

static void unmapping_writes(void **state)
{
	int fd = make_file(100, 500);
	char *p = map_file(101 * PG, RW, MAP_SHARED, fd, 0);
	char *q;

	(void)state;
	for (size_t i = 0; i < 101; i++)
		live_page(p, i)[8] = i;
	assert_int_equal(s_munmap(p, 101 * PG), 0);
	/* mapped again it is there at once; in the file after a while */
	q = map_file(101 * PG, PROT_READ, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < 101; i++)
		assert_int_equal(live_page(q, i)[8], i);
	s_munmap(q, 101 * PG);
	until(word_of_file(fd, 100, 8) == 100 && word_of_file(fd, 0, 8) == 0 &&
	      word_of_file(fd, 50, 8) == 50);
	assert_int_equal(size_of(fd), 100 * PG + 500);
	end_file(fd);
}

static void pages_can_be_rearranged(void **state)
{
	const size_t n = 300;
	int fd = make_file(n, 0);
	char *p = map_file(n * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(n * PG, PROT_READ, MAP_SHARED, fd, 0);

	(void)state;
	/* some are dirty where they were */
	for (size_t i = 0; i < n; i += 5)
		live_page(p, i)[8] = i;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
			s_remap_file_pages(p + i * PG, PG, 0, n - 1 - i, i % 2 ? MAP_NONBLOCK : 0),
			0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(live_page(p, i)[3], expected(n - 1 - i, 3));
		*(volatile uint64_t *)&live_page(p, i)[7] = 1000 + i;
		assert_int_equal(*(volatile uint64_t *)&live_page(q, n - 1 - i)[7], 1000 + i);
	}
	s_madvise(p, n * PG, MADV_PAGEOUT);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(live_page(p, i)[7], 1000 + i);
	assert_int_equal(s_msync(p, n * PG, MS_SYNC), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(word_of_file(fd, i, 7), 1000 + n - 1 - i);
		assert_int_equal(word_of_file(fd, i, 8), i % 5 == 0 ? i : expected(i, 8));
	}
	/* a page may be there more than once, and what is protected stays so */
	assert_int_equal(s_remap_file_pages(p, 4 * PG, 0, 30, 0), 0);
	assert_int_equal(s_remap_file_pages(p + 4 * PG, 4 * PG, 0, 32, 0), 0);
	*(volatile uint64_t *)&live_page(p, 2)[9] = 77;
	assert_int_equal(*(volatile uint64_t *)&live_page(p, 4)[9], 77);
	assert_int_equal(s_mprotect(p + 8 * PG, 2 * PG, PROT_READ), 0);
	assert_int_equal(s_remap_file_pages(p + 8 * PG, 2 * PG, 0, 40, 0), 0);
	assert_int_equal(live_page(p, 8)[3], expected(40, 3));
	assert_int_equal(touch(p + 8 * PG, true), SIGSEGV);
	assert_int_equal(s_mprotect(p + 8 * PG, 2 * PG, RW), 0);
	/* all of it at once, in order again; an address is rounded down, and a length */
	assert_int_equal(s_remap_file_pages(p + 100, n * PG + 200, 0, 0, 0), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(live_page(p, i)[7], 1000 + n - 1 - i);
	/* what is beyond the end is there to be mapped, and not to be touched */
	assert_int_equal(s_remap_file_pages(p, 2 * PG, 0, n - 1, 0), 0);
	assert_int_equal(live_page(p, 0)[3], expected(n - 1, 3));
	assert_int_equal(touch(p + PG, false), SIGBUS);
	s_munmap(p, n * PG);
	s_munmap(q, n * PG);
	end_file(fd);
}

static void errors_of_remap_file_pages(void **state)
{
	int fd = make_file(20, 0), other = open(path, O_RDWR);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);
	char *private = map_file(20 * PG, RW, MAP_PRIVATE, fd, 0);
	char *q;

	(void)state;
	assert_int_equal(s_remap_file_pages(p, 4 * PG, PROT_READ, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p, 0, 0, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p, PG - 1, 0, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p, SIZE_MAX - PG, 0, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p, 4 * PG, 0, SIZE_MAX, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(private, 4 * PG, 0, 3, 0), -EINVAL);
	/* one way, one file, no gap */
	assert_int_equal(s_mprotect(p + 2 * PG, PG, PROT_READ), 0);
	assert_int_equal(s_remap_file_pages(p, 4 * PG, 0, 3, 0), -EINVAL);
	assert_int_equal(s_mprotect(p + 2 * PG, PG, RW), 0);
	assert_int_equal(s_munmap(p + 10 * PG, PG), 0);
	assert_int_equal(s_remap_file_pages(p + 8 * PG, 4 * PG, 0, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p + 10 * PG, PG, 0, 3, 0), -EINVAL);
	assert_int_equal(s_remap_file_pages(p + 18 * PG, 3 * PG, 0, 3, 0), -EINVAL);
	q = (char *)s_mmap(p + 10 * PG, PG, RW, MAP_PRIVATE | MAP_FIXED, other, 0);
	assert_ptr_equal(q, p + 10 * PG);
	assert_int_equal(s_remap_file_pages(p + 8 * PG, 4 * PG, 0, 3, 0), -EINVAL);
	/* nothing was changed by that */
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(live_page(p, i)[3], expected(i == 10 ? 0 : i, 3));
	s_munmap(p, 20 * PG);
	s_munmap(private, 20 * PG);
	close(other);
	end_file(fd);
}

/* Threads that count in words of their own, far more pages than the limit allows. */
#define COUNT_PAGES (2 * LIMIT / PG)
static char *count_base;

static void *count(void *arg)
{
	size_t id = (size_t)arg;

	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < COUNT_PAGES; i++)
			live_page(count_base, (i * 7 + id * 511) % COUNT_PAGES)[id]++;
	return NULL;
}

static void threads_lose_no_store(void **state)
{
	int fd = make_file(0, 0);
	pthread_t t[4];

	(void)state;
	assert_int_equal(ftruncate(fd, COUNT_PAGES * PG), 0);
	count_base = map_file(COUNT_PAGES * PG, RW, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count, (void *)i), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (size_t i = 0; i < COUNT_PAGES; i++)
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(live_page(count_base, i)[k], 3);
	assert_int_equal(s_msync(count_base, COUNT_PAGES * PG, MS_SYNC), 0);
	for (size_t i = 0; i < COUNT_PAGES; i++)
		assert_int_equal(word_of_file(fd, i, 2), 3);
	s_munmap(count_base, COUNT_PAGES * PG);
	end_file(fd);
}

/* A window that moves over a file whose pages leave and come, and are stored to meanwhile. */
static void a_window_moves_over_a_file(void **state)
{
	const size_t n = COUNT_PAGES, width = 16;
	uint64_t *shadow = calloc(n, sizeof(*shadow));
	int fd = make_file(n, 0);
	unsigned seed = 1;
	char *window = map_file(width * PG, RW, MAP_SHARED, fd, 0);
	pthread_t t[2];

	(void)state;
	assert_non_null(shadow);
	count_base = map_file(n * PG, RW, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < n; i++)
		live_page(count_base, i)[0] = live_page(count_base, i)[1] = 0;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, count, (void *)i), 0);
	for (unsigned round = 0; round < 1500; round++) {
		size_t at = (size_t)rand_r(&seed) % (n - width + 1);

		assert_int_equal(
			s_remap_file_pages(window, width * PG, 0, at, round % 2 ? MAP_NONBLOCK : 0),
			0);
		for (size_t k = 0; k < width; k++) {
			uint64_t *page = live_page(window, k);

			assert_int_equal(page[3], expected(at + k, 3));
			if (shadow[at + k] != 0)
				assert_int_equal(page[4], shadow[at + k]);
			page[4] = shadow[at + k] = round + 1;
		}
	}
	for (size_t i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(s_msync(count_base, n * PG, MS_SYNC), 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(word_of_file(fd, i, 0), 3);
		assert_int_equal(word_of_file(fd, i, 1), 3);
		assert_int_equal(word_of_file(fd, i, 4), shadow[i] ? shadow[i] : expected(i, 4));
	}
	s_munmap(window, width * PG);
	s_munmap(count_base, n * PG);
	end_file(fd);
	free(shadow);
}

/* ---- what other processes do ---- */

static void say(int pipe_end)
{
	assert_int_equal(write(pipe_end, "x", 1), 1);
}

static bool hear(int pipe_end)
{
	char c;

	return read(pipe_end, &c, 1) == 1;
}

static bool is_as_before_fork(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (live_page(p, i)[9] != (i % 2 == 0 ? ~i : expected(i, 9)) ||
		    live_page(p, i)[10] != expected(i, 10))
			return false;
	return true;
}

static void a_child_has_a_copy_of_what_is_private(void **state)
{
	const size_t n = 3 * LIMIT / PG / 2;
	int fd = make_file(n, 0);
	char *p = map_file(n * PG, RW, MAP_PRIVATE, fd, 0);
	int to[2], from[2];
	pid_t child;

	(void)state;
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	for (size_t i = 0; i < n; i += 2)
		live_page(p, i)[9] = ~i;
	child = fork();
	if (child == 0) {
		for (size_t i = 0; i < n; i += 3)
			live_page(p, i)[11] = 11;
		say(from[1]);
		/* the parent has written now, and none of it is here */
		if (!hear(to[0]) || !is_as_before_fork(p, n))
			_exit(1);
		for (size_t i = 0; i < n; i++)
			if (live_page(p, i)[11] != (i % 3 == 0 ? 11 : expected(i, 11)))
				_exit(2);
		_exit(0);
	}
	assert_true(hear(from[0]));
	assert_true(is_as_before_fork(p, n));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(live_page(p, i)[11], expected(i, 11));
	for (size_t i = 0; i < n; i++)
		live_page(p, i)[9] = live_page(p, i)[10] = 5;
	say(to[1]);
	test_reap(child);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(word_of_file(fd, i, 9), expected(i, 9));
	for (unsigned k = 0; k < 2; k++) {
		close(to[k]);
		close(from[k]);
	}
	s_munmap(p, n * PG);
	end_file(fd);
}

static void a_child_shares_what_is_shared(void **state)
{
	const size_t n = 3 * LIMIT / PG / 2;
	int fd = make_file(n, 0);
	char *p = map_file(n * PG, RW, MAP_SHARED, fd, 0);
	int to[2], from[2];
	pid_t child;

	(void)state;
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	for (size_t i = 0; i < n; i += 2)
		live_page(p, i)[9] = ~i;
	child = fork();
	if (child == 0) {
		if (!is_as_before_fork(p, n))
			_exit(1);
		for (size_t i = 0; i < n; i += 3)
			live_page(p, i)[11] = 11;
		say(from[1]);
		if (!hear(to[0]))
			_exit(2);
		for (size_t i = 0; i < n; i++)
			if (live_page(p, i)[9] != 5)
				_exit(3);
		_exit(0);
	}
	assert_true(hear(from[0]));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(live_page(p, i)[11], i % 3 == 0 ? 11 : expected(i, 11));
	for (size_t i = 0; i < n; i++)
		live_page(p, i)[9] = 5;
	say(to[1]);
	test_reap(child);
	assert_int_equal(s_msync(p, n * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 0, 11), 11);
	assert_int_equal(word_of_file(fd, n - 1, 9), 5);
	for (unsigned k = 0; k < 2; k++) {
		close(to[k]);
		close(from[k]);
	}
	s_munmap(p, n * PG);
	end_file(fd);
}

static void another_process_makes_a_hole(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		int fd = make_file(20, 0);
		char *p = map_file(20 * PG, RW, type[t], fd, 0);
		pid_t child;

		live_check(p, 0, 20, 1);
		live_page(p, 6)[0] = 6;
		child = fork();
		if (child == 0)
			_exit(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * PG,
					5 * PG) != 0);
		test_reap(child);
		/* what was written privately is no part of the file */
		assert_int_equal(live_page(p, 6)[0], type[t] == MAP_PRIVATE ? 6 : 0);
		for (size_t i = 0; i < 20; i++) {
			uint64_t want = i >= 5 && i < 10 ? 0 : expected(i, 1);

			if (type[t] == MAP_SHARED)
				assert_int_equal(live_page(p, i)[1], want);
			assert_int_equal(word_of_file(fd, i, 1), want);
		}
		s_munmap(p, 20 * PG);
		end_file(fd);
	}
}

static void another_process_truncates(void **state)
{
	int fd = make_file(20, 0);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);
	pid_t child;

	(void)state;
	live_check(p, 0, 20, 1);
	p[15 * PG] = 'y';
	child = fork();
	if (child == 0)
		_exit(ftruncate(fd, 4 * PG) != 0);
	test_reap(child);
	assert_int_equal(touch(p + 5 * PG, false), SIGBUS);
	assert_int_equal(touch(p + 15 * PG, true), SIGBUS);
	live_check(p, 0, 4, 1);
	child = fork();
	if (child == 0)
		_exit(ftruncate(fd, 20 * PG) != 0);
	test_reap(child);
	until(touch(p + 5 * PG, false) == 0 && touch(p + 15 * PG, false) == 0);
	for (size_t i = 5; i < 20; i++)
		assert_int_equal(live_page(p, i)[0], 0);
	assert_int_equal(s_msync(p, 20 * PG, MS_SYNC), 0);
	assert_int_equal(size_of(fd), 20 * PG);
	s_munmap(p, 20 * PG);
	end_file(fd);
}

/* ---- the file by other ways ---- */

static void read_and_write_see_it_at_once(void **state)
{
	int fd = make_file(40, 0);
	char *p = map_file(40 * PG, RW, MAP_SHARED, fd, 0);
	uint64_t w;

	(void)state;
	for (size_t i = 0; i < 40; i++) {
		live_page(p, i)[3] = 1000 + i;
		assert_int_equal(word_of_file(fd, i, 3), 1000 + i);
		w = 2000 + i;
		assert_int_equal(pwrite(fd, &w, sizeof(w), (off_t)(i * PG + 4 * sizeof(w))),
				 sizeof(w));
		assert_int_equal(*(volatile uint64_t *)&live_page(p, i)[4], w);
		assert_int_equal(live_page(p, i)[3], 1000 + i);
	}
	s_munmap(p, 40 * PG);
	end_file(fd);
}

static void invalidation_shows_what_was_written(void **state)
{
	int fd = make_file(40, 0);
	char *p = map_file(40 * PG, RW, MAP_SHARED, fd, 0);
	uint64_t w = 77;

	(void)state;
	live_check(p, 0, 40, 1);
	live_page(p, 9)[2] = 9;
	assert_int_equal(s_msync(p, 40 * PG, MS_SYNC), 0);
	for (size_t i = 0; i < 40; i += 4)
		assert_int_equal(pwrite(fd, &w, sizeof(w), (off_t)(i * PG)), sizeof(w));
	assert_int_equal(s_msync(p, 40 * PG, MS_SYNC | MS_INVALIDATE), 0);
	for (size_t i = 0; i < 40; i++)
		assert_int_equal(live_page(p, i)[0], i % 4 == 0 ? w : expected(i, 0));
	assert_int_equal(live_page(p, 9)[2], 9);
	/* what was stored is not lost by it */
	live_page(p, 10)[2] = 10;
	assert_int_equal(s_msync(p, 40 * PG, MS_ASYNC | MS_INVALIDATE), 0);
	assert_int_equal(live_page(p, 10)[2], 10);
	s_munmap(p, 40 * PG);
	end_file(fd);
}

static void a_file_may_be_renamed(void **state)
{
	int fd = make_file(20, 0);
	char *p = map_file(20 * PG, RW, MAP_SHARED, fd, 0);
	char *q = map_file(20 * PG, RW, MAP_PRIVATE, fd, 0);
	char other[sizeof(path) + 8];
	int again;

	(void)state;
	live_page(p, 3)[0] = 42;
	snprintf(other, sizeof(other), "%s-other", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(live_page(p, 3)[0], 42);
	live_page(p, 4)[0] = 43;
	live_check(q, 5, 15, 1);
	assert_int_equal(s_msync(p, 20 * PG, MS_SYNC), 0);
	again = open(other, O_RDWR);
	assert_true(again >= 0);
	assert_int_equal(word_of_file(again, 3, 0), 42);
	assert_int_equal(word_of_file(again, 4, 0), 43);
	/* by its new name it is the same file */
	s_munmap(q, 20 * PG);
	q = map_file(20 * PG, RW, MAP_SHARED, again, 0);
	live_page(p, 5)[0] = 44;
	assert_int_equal(live_page(q, 5)[0], 44);
	close(again);
	s_munmap(p, 20 * PG);
	s_munmap(q, 20 * PG);
	unlink(other);
	end_file(fd);
}

static void advice_keeps_what_is_private(void **state)
{
	const int advice[] = {MADV_NORMAL,   MADV_SEQUENTIAL, MADV_RANDOM,
			      MADV_WILLNEED, MADV_COLD,	      MADV_PAGEOUT};
	int fd = make_file(64, 0);
	char *p = map_file(64 * PG, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	for (unsigned a = 0; a < sizeof(advice) / sizeof(advice[0]); a++) {
		for (size_t i = a; i < 64; i += 5)
			live_page(p, i)[a] = ~expected(i, a);
		assert_int_equal(s_madvise(p, 64 * PG, advice[a]), 0);
		for (size_t i = 0; i < 64; i++)
			for (unsigned k = 0; k <= a; k++)
				assert_int_equal(live_page(p, i)[k], i >= k && i % 5 == k % 5
									     ? ~expected(i, k)
									     : expected(i, k));
	}
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(word_of_file(fd, i, i % 5), expected(i, i % 5));
	s_munmap(p, 64 * PG);
	end_file(fd);
}

static void moving_may_leave_the_old_place_mapped(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE};

	(void)state;
	for (unsigned t = 0; t < 2; t++) {
		int fd = make_file(40, 0);
		char *p = map_file(40 * PG, RW, type[t], fd, 0);
		char *q;

		for (size_t i = 0; i < 40; i += 3)
			live_page(p, i)[2] = 500 + i;
		q = (char *)s_mremap(p + 10 * PG, 20 * PG, 20 * PG,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		assert_true((long)q > 0);
		for (size_t i = 0; i < 20; i++)
			assert_int_equal(live_page(q, i)[2],
					 (i + 10) % 3 == 0 ? 510 + i : expected(i + 10, 2));
		/* what was there is elsewhere; the file is here again */
		for (size_t i = 0; i < 40; i++) {
			bool moved = type[t] == MAP_PRIVATE && i >= 10 && i < 30;

			assert_int_equal(live_page(p, i)[2],
					 i % 3 == 0 && !moved ? 500 + i : expected(i, 2));
		}
		live_page(p, 12)[4] = 12;
		assert_int_equal(live_page(q, 2)[4], type[t] == MAP_SHARED ? 12 : expected(12, 4));
		assert_int_equal(
			s_mremap(p, 10 * PG, 12 * PG, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL),
			-EINVAL);
		s_munmap(p, 40 * PG);
		s_munmap(q, 20 * PG);
		end_file(fd);
	}
}

/* A private mapping is one, also while it may only be read. */
static void what_may_only_be_read_is_private(void **state)
{
	int fd = make_file(40, 0);
	int ro = open(path, O_RDONLY);
	char *p = map_file(40 * PG, PROT_READ, MAP_PRIVATE, ro, 0);
	char *rw = map_file(40 * PG, RW, MAP_SHARED, fd, 0);

	(void)state;
	live_check(p, 0, 40, 1);
	assert_int_equal(s_mremap(p, 0, 4 * PG, MREMAP_MAYMOVE, NULL), -EINVAL);
	assert_int_equal(s_remap_file_pages(p, 4 * PG, 0, 8, 0), -EINVAL);
	assert_int_equal(s_madvise(p, PG, MADV_REMOVE), -EACCES);
	assert_int_equal(s_madvise(p, PG, MADV_FREE), -EINVAL);
	assert_int_equal(s_madvise(p, PG, MADV_WIPEONFORK), -EINVAL);
	assert_int_equal(s_madvise(p, PG, MADV_POPULATE_WRITE), -EINVAL);
	assert_int_equal(s_madvise(p, 40 * PG, MADV_POPULATE_READ), 0);
	assert_int_equal(s_mlock(p, 8 * PG), 0);
	assert_int_equal(s_msync(p, PG, MS_INVALIDATE), -EBUSY);
	assert_int_equal(s_munlock(p, 8 * PG), 0);
	assert_int_equal(s_msync(p, 40 * PG, MS_SYNC | MS_INVALIDATE), 0);
	live_page(rw, 30)[4] = 30;
	assert_int_equal(s_msync(p, 40 * PG, MS_SYNC), 0);
	assert_int_equal(s_msync(rw, 40 * PG, MS_SYNC), 0);
	assert_int_equal(word_of_file(fd, 30, 4), 30);
	assert_int_equal(touch(p + 3 * PG, true), SIGSEGV);
	assert_int_equal(live_page(p, 3)[0], expected(3, 0));
	s_munmap(p, 40 * PG);
	s_munmap(rw, 40 * PG);
	close(ro);
	end_file(fd);
}

/* What of it becomes writable has the file's bytes until it is written, and others never see that. */
static void what_may_only_be_read_becomes_writable(void **state)
{
	const size_t n = 3 * LIMIT / PG;
	int fd = make_file(n, 0);
	int ro = open(path, O_RDONLY);
	char *p = map_file(n * PG, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, ro, 0);
	char *q = map_file(n * PG, PROT_READ, MAP_PRIVATE, ro, 0);
	char *shared = map_file(n * PG, PROT_READ, MAP_SHARED, ro, 0);

	(void)state;
	assert_int_equal(touch(p, false), SIGSEGV);
	assert_int_equal(s_mprotect(p, n * PG, PROT_READ), 0);
	for (size_t i = 0; i < n; i += 3)
		assert_int_equal(live_page(p, i)[7], expected(i, 7));
	/* a part in the middle, a part of that again, and one that overlaps */
	assert_int_equal(s_mprotect(p + 100 * PG, 200 * PG, RW), 0);
	assert_int_equal(touch(p + 99 * PG, true), SIGSEGV);
	assert_int_equal(touch(p + 300 * PG, true), SIGSEGV);
	for (size_t i = 100; i < 300; i += 2)
		live_page(p, i)[7] = i;
	assert_int_equal(s_mprotect(p + 150 * PG, 50 * PG, PROT_READ), 0);
	assert_int_equal(touch(p + 150 * PG, true), SIGSEGV);
	assert_int_equal(s_mprotect(p + 250 * PG, 100 * PG, RW), 0);
	for (size_t i = 300; i < 350; i += 2)
		live_page(p, i)[7] = i;
	assert_int_equal(s_mprotect(p, n * PG, PROT_READ), 0);
	assert_int_equal(s_msync(p, n * PG, MS_SYNC), 0);
	for (size_t i = 0; i < n; i++) {
		bool written = i >= 100 && i < 350 && i % 2 == 0;

		assert_int_equal(live_page(p, i)[7], written ? i : expected(i, 7));
		assert_int_equal(live_page(p, i)[8], expected(i, 8));
		assert_int_equal(live_page(q, i)[7], expected(i, 7));
		assert_int_equal(live_page(shared, i)[7], expected(i, 7));
		assert_int_equal(word_of_file(fd, i, 7), expected(i, 7));
	}
	/* without what was written it is the file again */
	assert_int_equal(s_madvise(p, n * PG, MADV_DONTNEED), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(live_page(p, i)[7], expected(i, 7));
	/* the kernel brings it in for a system call */
	assert_int_equal(s_mprotect(p + 400 * PG, 8 * PG, RW), 0);
	assert_int_equal(pread(fd, p + 400 * PG, 4 * PG, 0), 4 * PG);
	assert_int_equal(live_page(p, 401)[1], expected(1, 1));
	assert_int_equal(live_page(p, 404)[1], expected(404, 1));
	assert_int_equal(live_page(q, 401)[1], expected(401, 1));
	s_munmap(p, n * PG);
	s_munmap(q, n * PG);
	s_munmap(shared, n * PG);
	close(ro);
	end_file(fd);
}

/* It moves, grows and is cut as any other, and is what it was. */
static void what_may_only_be_read_moves(void **state)
{
	int fd = make_file(60, 0);
	char *p = map_file(30 * PG, PROT_READ, MAP_PRIVATE, fd, 0);
	long r;

	(void)state;
	assert_int_equal(live_page(p, 2)[2], expected(2, 2));
	r = s_mremap(p, 30 * PG, 60 * PG, MREMAP_MAYMOVE, NULL);
	assert_true(r > 0);
	p = (char *)r;
	live_check(p, 0, 60, 1);
	assert_int_equal(s_mprotect(p + 20 * PG, 10 * PG, RW), 0);
	live_page(p, 25)[0] = 25;
	/* the part that was written is a mapping of its own by now */
	assert_int_equal(s_mremap(p, 60 * PG, 61 * PG, MREMAP_MAYMOVE, NULL), -EFAULT);
	r = s_mremap(p + 20 * PG, 10 * PG, 10 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, p + 45 * PG);
	assert_int_equal(r, (long)(p + 45 * PG));
	assert_int_equal(touch(p + 20 * PG, false), SIGSEGV);
	assert_int_equal(live_page(p, 50)[0], 25);
	assert_int_equal(live_page(p, 49)[0], expected(24, 0));
	assert_int_equal(live_page(p, 44)[0], expected(44, 0));
	assert_int_equal(live_page(p, 55)[0], expected(55, 0));
	assert_int_equal(touch(p + 45 * PG, true), 0);
	assert_int_equal(touch(p + 44 * PG, true), SIGSEGV);
	assert_int_equal(s_mprotect(p, 10 * PG, RW), 0);
	live_page(p, 5)[0] = 5;
	assert_int_equal(
		s_mmap(p + 4 * PG, 4 * PG, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 30 * PG),
		(long)(p + 4 * PG));
	assert_int_equal(live_page(p, 5)[0], expected(31, 0));
	assert_int_equal(word_of_file(fd, 5, 0), expected(5, 0));
	assert_int_equal(word_of_file(fd, 25, 0), expected(25, 0));
	s_munmap(p, 60 * PG);
	end_file(fd);
}

/* A file that is cut short takes its pages from it, and brings them when it grows. */
static void what_may_only_be_read_ends_with_the_file(void **state)
{
	int fd = make_file(20, 0);
	char *p = map_file(20 * PG, PROT_READ, MAP_PRIVATE, fd, 0);

	(void)state;
	live_check(p, 0, 20, 1);
	assert_int_equal(s_truncate(fd, 10 * PG + 100), 0);
	assert_int_equal(touch(p + 12 * PG, false), SIGBUS);
	assert_int_equal(live_page(p, 10)[0], expected(10, 0));
	assert_int_equal(live_page(p, 10)[300], 0);
	assert_int_equal(s_mprotect(p, 20 * PG, RW), 0);
	assert_int_equal(touch(p + 15 * PG, true), SIGBUS);
	live_page(p, 9)[0] = 9;
	assert_int_equal(s_truncate(fd, 20 * PG), 0);
	is_there_now(p + 15 * PG, true);
	assert_int_equal(live_page(p, 16)[0], 0);
	assert_int_equal(live_page(p, 9)[0], 9);
	assert_int_equal(word_of_file(fd, 9, 0), expected(9, 0));
	s_munmap(p, 20 * PG);
	end_file(fd);
}

static void what_is_sealed_cannot_be_written(void **state)
{
	const int seal[] = {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};

	(void)state;
	for (unsigned s = 0; s < 2; s++) {
		int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
		char *p;

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 4 * PG), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seal[s]), 0);
		assert_int_equal(s_mmap(NULL, 4 * PG, RW, MAP_SHARED, fd, 0), -EPERM);
		p = map_file(4 * PG, RW, MAP_PRIVATE, fd, 0);
		p[PG] = 'x';
		assert_int_equal(p[PG + 1], 0);
		s_munmap(p, 4 * PG);
		p = map_file(4 * PG, PROT_READ, MAP_SHARED, fd, 0);
		assert_int_equal(p[0], 0);
		assert_int_equal(s_mprotect(p, 4 * PG, RW), -EACCES);
		s_munmap(p, 4 * PG);
		close(fd);
	}
}

/* ---- both sides ---- */

static int native(void **state)
{
	(void)state;
	fl = NULL;
	return 0;
}

static int paged(void **state)
{
	struct fl_options o = live_options(LIMIT);

	(void)state;
	o.log = live_log;
	live_log_clear();
	fl = live_open(&o);
	return 0;
}

static int paged_end(void **state)
{
	struct fl_stats s;

	(void)state;
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	assert_true(s.resident_max <= LIMIT / PG);
	assert_string_equal(live_text, "");
	assert_int_equal(fl_close(fl), 0);
	return 0;
}

#define NATIVE(name)                                                                               \
	{                                                                                          \
		"native: " #name, name, native, NULL, NULL                                         \
	}
#define BOTH(name)                                                                                 \
	NATIVE(name),                                                                              \
	{                                                                                          \
		"paged: " #name, name, paged, paged_end, NULL                                      \
	}
/* Of faultline's calls with files of a store only. */
#define STORED(name)                                                                               \
	NATIVE(name),                                                                              \
	{                                                                                          \
		"stored: " #name, name, paged, paged_end, NULL                                     \
	}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[] = {
		BOTH(shared_mapping_is_the_file),
		BOTH(an_offset_is_where_it_begins),
		BOTH(the_descriptor_may_be_closed),
		BOTH(mappings_of_one_file_are_one),
		BOTH(private_writes_stay_private),
		BOTH(private_writes_survive_eviction),
		BOTH(the_tail_is_zero),
		BOTH(beyond_the_end_is_sigbus),
		BOTH(a_file_may_grow),
		BOTH(a_handler_can_make_it_longer),
		BOTH(truncation_takes_pages_away),
		BOTH(behind_the_end_are_zeros),
		BOTH(holes_read_as_zeros),
		BOTH(errors_of_mmap),
		BOTH(a_mount_may_allow_no_execution),
		BOTH(a_file_that_is_mapped_writable_is_busy),
		BOTH(a_file_that_is_executed_is_busy),
		BOTH(a_swap_file_is_busy),
		BOTH(protection_is_checked),
		BOTH(protection_changes_up_to_a_gap),
		BOTH(protection_changes_up_to_a_refusal),
		BOTH(moving_keeps_what_was_written),
		BOTH(several_mappings_move_at_once),
		BOTH(ranges_of_several_mappings),
		BOTH(a_move_that_fails_may_unmap),
		BOTH(moving_keeps_what_a_child_has),
		BOTH(parts_can_be_unmapped),
		BOTH(errors_of_msync),
		BOTH(msync_writes_what_is_beside),
		BOTH(many_parts_are_synced),
		BOTH(many_threads_sync),
		BOTH(advice_keeps_the_content),
		BOTH(removed_pages_are_zeros),
		BOTH(removing_passes_by_a_gap),
		BOTH(locked_pages_stay),
		BOTH(times_move_with_writes),
		BOTH(system_calls_take_it_as_memory),
		BOTH(unmapping_writes),
		BOTH(threads_lose_no_store),
		BOTH(pages_can_be_rearranged),
		BOTH(errors_of_remap_file_pages),
		BOTH(a_window_moves_over_a_file),
		BOTH(invalidation_shows_what_was_written),
		BOTH(a_file_may_be_renamed),
		BOTH(advice_keeps_what_is_private),
		BOTH(moving_may_leave_the_old_place_mapped),
		BOTH(what_may_only_be_read_is_private),
		BOTH(what_may_only_be_read_becomes_writable),
		BOTH(what_may_only_be_read_moves),
		BOTH(what_may_only_be_read_ends_with_the_file),
		BOTH(what_is_sealed_cannot_be_written),
		STORED(read_and_write_see_it_at_once),
		STORED(another_process_makes_a_hole),
		STORED(another_process_truncates),
		NATIVE(a_child_has_a_copy_of_what_is_private),
		NATIVE(a_child_shares_what_is_shared),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	cmocka_set_skip_filter(argc > 2 ? argv[2] : argc > 1 ? NULL : "stored: *");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
