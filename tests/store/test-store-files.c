/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-store-files.c - MNT/files behaves as the filesystem below it.
 *
 * A scenario does the same operations in a directory, and writes down what each
 * returned and what there is afterwards.  It is run on MNT/files and on a
 * plain directory of the same filesystem: both accounts must be equal.
 */
#include "mounted.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

#define ACCOUNT_MAX (1 << 20)
#define FSX_FILE_MAX (256 * 1024)
#define FSX_STEPS 3000
#define NAMES 400

struct account {
	char *text;
	size_t len;
	int dir; /* where it is done */
};

__attribute__((format(printf, 2, 3))) static void note(struct account *a, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(a->text + a->len, ACCOUNT_MAX - a->len, fmt, ap);
	va_end(ap);
	a->len += (size_t)n;
	assert_true(a->len + 1 < ACCOUNT_MAX);
}

/* One operation and its outcome. */
#define DO(a, call)                                                                                \
	({                                                                                         \
		errno = 0;                                                                         \
		long r_ = (long)(call);                                                            \
		note(a, "%s = %s%ld %s\n", #call, r_ < 0 ? "-" : "", r_ < 0 ? 1 : r_,              \
		     r_ < 0 ? strerrorname_np(errno) : "");                                        \
		r_;                                                                                \
	})

/* An operation whose good outcome is a descriptor, which is returned. */
#define OPEN(a, call)                                                                              \
	({                                                                                         \
		errno = 0;                                                                         \
		int f_ = (int)(call);                                                              \
		note(a, "%s %s\n", #call, f_ < 0 ? strerrorname_np(errno) : "ok");                 \
		f_;                                                                                \
	})

static void note_stat(struct account *a, const char *name)
{
	struct stat st;

	if (fstatat(a->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		note(a, "%s: %s\n", name, strerrorname_np(errno));
		return;
	}
	note(a, "%s: mode %o links %lu uid %u gid %u size %lld mtime %s\n", name, st.st_mode,
	     (unsigned long)st.st_nlink, st.st_uid, st.st_gid,
	     S_ISDIR(st.st_mode) ? 0LL : (long long)st.st_size,
	     st.st_mtim.tv_sec < 1000000 ? "old" : "new");
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static void note_dir(struct account *a, const char *name)
{
	int fd = openat(a->dir, name, O_RDONLY | O_DIRECTORY);
	char *names[2 * NAMES];
	struct dirent *e;
	size_t n = 0;
	DIR *dp;

	if (fd < 0) {
		note(a, "list %s: %s\n", name, strerrorname_np(errno));
		return;
	}
	dp = fdopendir(fd);
	assert_non_null(dp);
	while ((e = readdir(dp)) != NULL) {
		assert_true(n < 2 * NAMES);
		assert_true(asprintf(&names[n++], "%s %d", e->d_name, e->d_type) > 0);
	}
	closedir(dp);
	qsort(names, n, sizeof(names[0]), by_name);
	for (size_t i = 0; i < n; i++) {
		note(a, "in %s: %s\n", name, names[i]);
		free(names[i]);
	}
}

static void note_data(struct account *a, const char *name)
{
	int fd = openat(a->dir, name, O_RDONLY);
	char buf[4096];
	uint64_t sum = 14695981039346656037U;
	size_t len = 0;
	ssize_t n;

	if (fd < 0) {
		note(a, "read %s: %s\n", name, strerrorname_np(errno));
		return;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			sum = (sum ^ (unsigned char)buf[i]) * 1099511628211U;
		len += (size_t)n;
	}
	note(a, "read %s: %zu bytes, %016llx, %zd\n", name, len, (unsigned long long)sum, n);
	close(fd);
}

/* Run a scenario in a new directory of both, and compare. */
static void compare(const char *name, void (*scenario)(struct account *a))
{
	static const char *const places[] = {"mnt/files", "host"};
	struct account a[2];
	char path[64];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", places[i], name);
		assert_int_equal(mkdir(in_base(path), 0755), 0);
		a[i].text = calloc(1, ACCOUNT_MAX);
		a[i].len = 0;
		a[i].dir = open(in_base(path), O_RDONLY | O_DIRECTORY);
		assert_true(a[i].dir >= 0);
		scenario(&a[i]);
		close(a[i].dir);
	}
	if (strcmp(a[0].text, a[1].text) != 0) {
		size_t at = 0, line = 0;

		while (a[0].text[at] == a[1].text[at]) {
			at++;
			if (a[0].text[at - 1] == '\n')
				line = at;
		}
		print_message("# mounted: %.200s\n# host:    %.200s\n", a[0].text + line,
			      a[1].text + line);
		fail();
	}
	free(a[0].text);
	free(a[1].text);
}

/* --- scenarios --- */

static void names(struct account *a)
{
	char long_name[300];
	int fd;

	memset(long_name, 'n', sizeof(long_name));
	long_name[299] = '\0';
	fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_EXCL | O_RDWR, 0640));
	DO(a, write(fd, "hello", 5));
	close(fd);
	OPEN(a, openat(a->dir, "f", O_CREAT | O_EXCL | O_RDWR, 0640));
	OPEN(a, openat(a->dir, "none", O_RDONLY));
	OPEN(a, openat(a->dir, "f/x", O_RDONLY));
	OPEN(a, openat(a->dir, long_name, O_CREAT | O_RDWR, 0640));
	OPEN(a, openat(a->dir, "f", O_DIRECTORY));
	DO(a, mkdirat(a->dir, "d", 0750));
	DO(a, mkdirat(a->dir, "d", 0750));
	DO(a, mkdirat(a->dir, "f", 0750));
	DO(a, mkdirat(a->dir, "none/d", 0750));
	OPEN(a, openat(a->dir, "d", O_WRONLY));
	DO(a, mkdirat(a->dir, "d/e", 0700));
	DO(a, unlinkat(a->dir, "d", AT_REMOVEDIR));
	DO(a, unlinkat(a->dir, "d", 0));
	DO(a, unlinkat(a->dir, "f", AT_REMOVEDIR));
	DO(a, unlinkat(a->dir, "none", 0));
	note_dir(a, ".");
	note_dir(a, "d");
	note_stat(a, "f");
	note_stat(a, "d");
	DO(a, unlinkat(a->dir, "d/e", AT_REMOVEDIR));
	DO(a, unlinkat(a->dir, "d/.", AT_REMOVEDIR));
	DO(a, unlinkat(a->dir, "d", AT_REMOVEDIR));
	DO(a, unlinkat(a->dir, "f", 0));
	note_dir(a, ".");
}

static void renames(struct account *a)
{
	int fd = OPEN(a, openat(a->dir, "one", O_CREAT | O_RDWR, 0644));

	DO(a, write(fd, "1", 1));
	close(fd);
	fd = OPEN(a, openat(a->dir, "two", O_CREAT | O_RDWR, 0600));
	DO(a, write(fd, "22", 2));
	DO(a, mkdirat(a->dir, "d", 0755));
	DO(a, mkdirat(a->dir, "d/sub", 0755));
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "two", RENAME_NOREPLACE));
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "none", RENAME_EXCHANGE));
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "two", RENAME_EXCHANGE));
	note_stat(a, "one");
	note_stat(a, "two");
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "d", RENAME_EXCHANGE));
	note_dir(a, ".");
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "d", RENAME_EXCHANGE));
	DO(a, syscall(SYS_renameat2, a->dir, "one", a->dir, "three", RENAME_NOREPLACE));
	DO(a, renameat(a->dir, "three", a->dir, "two"));
	DO(a, renameat(a->dir, "two", a->dir, "d"));
	DO(a, renameat(a->dir, "d", a->dir, "two"));
	DO(a, renameat(a->dir, "d", a->dir, "d/sub/d"));
	DO(a, renameat(a->dir, "none", a->dir, "x"));
	DO(a, renameat(a->dir, "two", a->dir, "d/sub/two"));
	DO(a, renameat(a->dir, "d/sub", a->dir, "moved"));
	DO(a, renameat(a->dir, ".", a->dir, "x"));
	note_dir(a, ".");
	note_dir(a, "moved");
	note_data(a, "moved/two");
	/* what is open stays open */
	DO(a, write(fd, "more", 4));
	DO(a, unlinkat(a->dir, "moved/two", 0));
	DO(a, pwrite(fd, "unlinked", 8, 100));
	DO(a, ftruncate(fd, 50));
	DO(a, lseek(fd, 0, SEEK_END));
	close(fd);
}

static void links(struct account *a)
{
	char buf[64] = "", many[300];
	int fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_RDWR, 0644));

	memset(many, 'y', sizeof(many));
	many[299] = '\0';
	DO(a, write(fd, "data", 4));
	DO(a, linkat(a->dir, "f", a->dir, "g", 0));
	DO(a, linkat(a->dir, "f", a->dir, "g", 0));
	DO(a, linkat(a->dir, "none", a->dir, "h", 0));
	DO(a, mkdirat(a->dir, "d", 0755));
	DO(a, linkat(a->dir, "d", a->dir, "h", 0));
	note_stat(a, "f");
	DO(a, pwrite(fd, "DATA", 4, 2));
	note_data(a, "g");
	DO(a, unlinkat(a->dir, "f", 0));
	note_stat(a, "g");
	DO(a, symlinkat("g", a->dir, "s"));
	DO(a, symlinkat("g", a->dir, "s"));
	DO(a, symlinkat("nowhere/else", a->dir, "dangling"));
	DO(a, symlinkat("loop", a->dir, "loop"));
	DO(a, symlinkat(many, a->dir, "long"));
	DO(a, readlinkat(a->dir, "s", buf, sizeof(buf)));
	DO(a, readlinkat(a->dir, "g", buf, sizeof(buf)));
	note(a, "-> %s\n", buf);
	note_stat(a, "s");
	note_stat(a, "long");
	note_data(a, "s");
	note_data(a, "dangling");
	note_data(a, "loop");
	OPEN(a, openat(a->dir, "s", O_RDONLY | O_NOFOLLOW));
	DO(a, linkat(a->dir, "s", a->dir, "s2", 0));
	DO(a, linkat(a->dir, "s", a->dir, "g2", AT_SYMLINK_FOLLOW));
	note_stat(a, "s2");
	note_stat(a, "g2");
	DO(a, mknodat(a->dir, "fifo", S_IFIFO | 0600, 0));
	DO(a, mknodat(a->dir, "socket", S_IFSOCK | 0600, 0));
	note_stat(a, "fifo");
	note_stat(a, "socket");
	DO(a, openat(a->dir, "fifo", O_WRONLY | O_NONBLOCK));
	note_dir(a, ".");
	close(fd);
}

static void attributes(struct account *a)
{
	const struct timespec old[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000}};
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	int fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_RDWR, 0666));
	struct stat st;

	note_stat(a, "f");
	DO(a, fchmodat(a->dir, "f", 0604, 0));
	note_stat(a, "f");
	DO(a, fchmod(fd, 04755));
	note_stat(a, "f");
	DO(a, fchownat(a->dir, "f", 1000, 1001, 0));
	note_stat(a, "f");
	DO(a, fchmod(fd, 06755));
	DO(a, fchown(fd, -1U, 7));
	note_stat(a, "f");
	DO(a, utimensat(a->dir, "f", old, 0));
	note_stat(a, "f");
	DO(a, fstatat(a->dir, "f", &st, 0));
	note(a, "times %ld.%ld %ld\n", st.st_atim.tv_sec, st.st_atim.tv_nsec, st.st_mtim.tv_sec);
	DO(a, futimens(fd, now));
	note_stat(a, "f");
	DO(a, symlinkat("f", a->dir, "s"));
	DO(a, utimensat(a->dir, "s", old, AT_SYMLINK_NOFOLLOW));
	DO(a, fchownat(a->dir, "s", 5, 6, AT_SYMLINK_NOFOLLOW));
	note_stat(a, "s");
	note_stat(a, "f");
	DO(a, mkdirat(a->dir, "sgid", 0755));
	DO(a, fchownat(a->dir, "sgid", 0, 99, 0));
	DO(a, fchmodat(a->dir, "sgid", 02775, 0));
	DO(a, mkdirat(a->dir, "sgid/d", 0755));
	close(OPEN(a, openat(a->dir, "sgid/f", O_CREAT | O_RDWR, 0644)));
	note_stat(a, "sgid/d");
	note_stat(a, "sgid/f");
	close(fd);
}

static void xattrs(struct account *a)
{
	char buf[256], big[70000];
	int fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_RDWR, 0644));
	ssize_t n;

	memset(big, 'b', sizeof(big));
	DO(a, fsetxattr(fd, "user.one", "1", 1, 0));
	DO(a, fsetxattr(fd, "user.one", "11", 2, XATTR_CREATE));
	DO(a, fsetxattr(fd, "user.two", "2", 1, XATTR_REPLACE));
	DO(a, fsetxattr(fd, "user.empty", "", 0, 0));
	DO(a, fsetxattr(fd, "nonsense", "1", 1, 0));
	DO(a, fsetxattr(fd, "user.big", big, 60000, 0) < 0);
	DO(a, fsetxattr(fd, "user.big", big, sizeof(big), 0));
	DO(a, fgetxattr(fd, "user.one", buf, sizeof(buf)));
	DO(a, fgetxattr(fd, "user.one", buf, 0));
	DO(a, fsetxattr(fd, "user.wide", "123456", 6, 0));
	DO(a, fgetxattr(fd, "user.wide", buf, 3));
	DO(a, fgetxattr(fd, "user.none", buf, sizeof(buf)));
	n = DO(a, flistxattr(fd, buf, sizeof(buf)));
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(buf + i) + 1)
		note(a, "has %s\n", buf + i);
	DO(a, flistxattr(fd, buf, 0));
	DO(a, flistxattr(fd, buf, 2));
	DO(a, fremovexattr(fd, "user.one"));
	DO(a, fremovexattr(fd, "user.one"));
	DO(a, flistxattr(fd, buf, sizeof(buf)));
	close(fd);
}

static void data(struct account *a)
{
	static char buf[300000], back[300000];
	int fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_RDWR, 0644)), g, ro;
	struct stat st;
	char *map;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 31 + i / 256);
	DO(a, write(fd, buf, sizeof(buf)));
	DO(a, pread(fd, back, sizeof(back), 0));
	note(a, "equal %d\n", memcmp(buf, back, sizeof(buf)) == 0);
	DO(a, pread(fd, back, 1000, 299990));
	DO(a, pread(fd, back, 1000, 300000));
	DO(a, pwrite(fd, "end", 3, 1000000));
	note_stat(a, "f");
	note_data(a, "f");
	DO(a, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 40960));
	DO(a, lseek(fd, 0, SEEK_HOLE));
	DO(a, lseek(fd, 4096, SEEK_DATA));
	DO(a, lseek(fd, 2000000, SEEK_DATA));
	note_data(a, "f");
	DO(a, fallocate(fd, 0, 0, 2000000));
	note_stat(a, "f");
	DO(a, fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 5000));
	DO(a, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
	DO(a, fallocate(fd, 0, -1, 4096));
	note_data(a, "f");
	DO(a, ftruncate(fd, 123456));
	DO(a, ftruncate(fd, -1));
	DO(a, fsync(fd));
	DO(a, fdatasync(fd));
	note_data(a, "f");
	g = OPEN(a, openat(a->dir, "g", O_CREAT | O_RDWR, 0644));
	lseek(fd, 0, SEEK_SET);
	DO(a, copy_file_range(fd, NULL, g, NULL, 100000, 0));
	note_data(a, "g");
	close(g);
	g = OPEN(a, openat(a->dir, "g", O_WRONLY | O_TRUNC));
	DO(a, fstat(g, &st));
	note(a, "size %ld\n", (long)st.st_size);
	DO(a, read(g, back, 1));
	close(g);
	/* appending, by two at a time, and not any more */
	g = OPEN(a, openat(a->dir, "g", O_WRONLY | O_APPEND));
	ro = OPEN(a, openat(a->dir, "g", O_WRONLY | O_APPEND));
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(write(g, "left ", 5), 5);
		assert_int_equal(write(ro, "right ", 6), 6);
	}
	DO(a, pwrite(g, "at the end", 10, 0));
	DO(a, fcntl(ro, F_SETFL, 0));
	DO(a, pwrite(ro, "at the start", 12, 0));
	note_data(a, "g");
	close(g);
	close(ro);
	ro = OPEN(a, openat(a->dir, "f", O_RDONLY));
	DO(a, write(ro, "x", 1));
	DO(a, ftruncate(ro, 1));
	close(ro);
	/* not cached */
	g = OPEN(a, openat(a->dir, "direct", O_CREAT | O_RDWR | O_DIRECT, 0644));
	map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map, 'D', 65536);
	DO(a, pwrite(g, map, 65536, 0));
	DO(a, pread(g, map, 65536, 0));
	munmap(map, 65536);
	close(g);
	note_data(a, "direct");
	/* mapped */
	map = mmap(NULL, 123456, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	note(a, "mapped %d\n", map != MAP_FAILED);
	assert_ptr_not_equal(map, MAP_FAILED);
	memset(map + 5000, 'M', 20000);
	DO(a, msync(map, 123456, MS_SYNC));
	DO(a, pwrite(fd, "seen", 4, 50000));
	note(a, "coherent %d\n", memcmp(map + 50000, "seen", 4) == 0);
	munmap(map, 123456);
	note_data(a, "f");
	close(fd);
}

static void locks(struct account *a)
{
	int fd = OPEN(a, openat(a->dir, "f", O_CREAT | O_RDWR, 0644));
	int other = OPEN(a, openat(a->dir, "f", O_RDWR));
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
	struct flock ask = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
	int status;
	pid_t pid;

	DO(a, flock(fd, LOCK_EX));
	DO(a, flock(other, LOCK_SH | LOCK_NB));
	DO(a, flock(fd, LOCK_UN));
	DO(a, flock(other, LOCK_SH | LOCK_NB));
	DO(a, flock(fd, LOCK_SH | LOCK_NB));
	DO(a, fcntl(fd, F_SETLK, &whole));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct flock try = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 19};

		_exit(fcntl(other, F_GETLK, &ask) == 0 && ask.l_type == F_WRLCK &&
		      fcntl(other, F_SETLK, &try) != 0 && errno == EAGAIN);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	note(a, "refused to another process %d\n", WEXITSTATUS(status));
	close(fd);
	close(other);
}

/* A directory that takes several answers, changed while it is read. */
static void listing(struct account *a)
{
	char name[40];
	struct dirent *e;
	unsigned seen = 0;
	DIR *dp;
	long at;

	DO(a, mkdirat(a->dir, "d", 0755));
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "d/a-name-of-some-length-%06u", i);
		close(openat(a->dir, name, O_CREAT | O_RDWR, 0644));
	}
	note_dir(a, "d");
	dp = fdopendir(openat(a->dir, "d", O_RDONLY | O_DIRECTORY));
	assert_non_null(dp);
	for (unsigned i = 0; i < 100; i++)
		assert_non_null(readdir(dp));
	at = telldir(dp);
	while ((e = readdir(dp)) != NULL)
		seen++;
	note(a, "after telldir %u\n", seen);
	seekdir(dp, at);
	for (seen = 0; (e = readdir(dp)) != NULL; seen++)
		unlinkat(dirfd(dp), e->d_name, 0);
	note(a, "again %u\n", seen);
	rewinddir(dp);
	for (seen = 0; (e = readdir(dp)) != NULL; seen++)
		continue;
	note(a, "left %u\n", seen);
	closedir(dp);
}

#define SLOW 16
static const char *in_base_slow;

static void test_names(void **state)
{
	(void)state;
	compare("names", names);
}

static void test_renames(void **state)
{
	(void)state;
	compare("renames", renames);
}

static void test_links(void **state)
{
	(void)state;
	compare("links", links);
}

static void test_attributes(void **state)
{
	(void)state;
	compare("attributes", attributes);
}

static void test_xattrs(void **state)
{
	(void)state;
	compare("xattrs", xattrs);
}

static void test_data(void **state)
{
	(void)state;
	compare("data", data);
}

static void test_locks(void **state)
{
	(void)state;
	compare("locks", locks);
}

static void test_listing(void **state)
{
	(void)state;
	compare("listing", listing);
}

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 11) % below);
}

/* Random names: what is made must be there, below DIR/files, and nowhere else. */
static void fuzz_names(struct account *a)
{
	static const char parts[][8] = {"..",	".", "/",  "//", "a", "b",  "\xff\xfe",
					"\xc3", " ", "\n", "\\", "*", "%s", "..."};
	char name[400];

	rng = 88172645463325252U;
	for (unsigned i = 0; i < NAMES; i++) {
		size_t n = 0;
		unsigned what = rnd(6), count = 1 + rnd(8);

		name[0] = '\0';
		while (count-- != 0) {
			const char *part = parts[rnd(sizeof(parts) / sizeof(parts[0]))];

			n += (size_t)sprintf(name + n, "%s", part);
		}
		if (rnd(20) == 0) {
			memset(name, 'l', 240 + i % 30);
			name[240 + i % 30] = '\0';
		}
		/* Below the scenario's own directory: not up and out of it. */
		if (name[0] == '/')
			name[0] = '.';
		for (char *p = name; *p != '\0'; p += strcspn(p, "/"), p += *p == '/')
			if (strcspn(p, "/") == 2 && p[0] == '.' && p[1] == '.')
				p[1] = 'x';
		note(a, "%u %s\n", what, name);
		switch (what) {
		case 0:
			DO(a, mkdirat(a->dir, name, 0755));
			break;
		case 1:
			close(OPEN(a, openat(a->dir, name, O_CREAT | O_RDWR, 0644)));
			break;
		case 2:
			DO(a, symlinkat("a/../b", a->dir, name));
			break;
		case 3:
			DO(a, unlinkat(a->dir, name, 0));
			break;
		case 4:
			DO(a, renameat(a->dir, name, a->dir, "b"));
			break;
		default:
			note_stat(a, name);
		}
	}
	note_dir(a, ".");
}

static void test_fuzz_names(void **state)
{
	(void)state;
	compare("fuzz", fuzz_names);
}

/* One file, three ways to it, against a copy in memory. */
static void test_fsx(void **state)
{
	static char good[FSX_FILE_MAX], buf[FSX_FILE_MAX];
	const char *seed = getenv("SEED");
	uint32_t size = 0;
	int fd, direct;

	(void)state;
	rng = seed != NULL ? strtoull(seed, NULL, 0) : 20261121;
	print_message("# SEED=%llu\n", (unsigned long long)rng);
	fd = open(in_base("mnt/files/fsx"), O_CREAT | O_RDWR, 0600);
	direct = open(in_base("mnt/files/fsx"), O_RDWR | O_DIRECT);
	assert_true(fd >= 0 && direct >= 0);
	for (unsigned step = 0; step < FSX_STEPS; step++) {
		uint32_t op = rnd(7), off = rnd(FSX_FILE_MAX - 1);
		uint32_t len = 1 + rnd(rnd(2) != 0 ? 4096 : FSX_FILE_MAX - off);
		int via = rnd(2) != 0 ? fd : direct;
		char *map;

		if (len > FSX_FILE_MAX - off)
			len = FSX_FILE_MAX - off;
		switch (op) {
		case 0: /* write */
			for (uint32_t i = 0; i < len; i++)
				good[off + i] = (char)rnd(256);
			if (off > size)
				memset(good + size, 0, off - size);
			assert_int_equal(pwrite(via, good + off, len, off), len);
			if (off + len > size)
				size = off + len;
			break;
		case 1: /* truncate */
			if (off > size)
				memset(good + size, 0, off - size);
			size = off;
			assert_int_equal(ftruncate(fd, size), 0);
			break;
		case 2: /* punch */
			if (off >= size)
				break;
			if (len > size - off)
				len = size - off;
			assert_int_equal(
				fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len),
				0);
			memset(good + off, 0, len);
			break;
		case 3: /* mapped write */
			if (size == 0)
				break;
			off %= size;
			if (len > size - off)
				len = size - off;
			map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			assert_ptr_not_equal(map, MAP_FAILED);
			for (uint32_t i = 0; i < len; i++)
				map[off + i] = good[off + i] = (char)rnd(256);
			assert_int_equal(msync(map, size, MS_SYNC), 0);
			munmap(map, size);
			break;
		case 4: /* mapped read */
			if (size == 0)
				break;
			map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
			assert_ptr_not_equal(map, MAP_FAILED);
			if (memcmp(map, good, size) != 0)
				fail_msg("step %u: mapped bytes differ", step);
			munmap(map, size);
			break;
		default: { /* read */
			ssize_t n = pread(via, buf, len, off);

			assert_int_equal(n, off >= size ? 0 : len < size - off ? len : size - off);
			if (memcmp(buf, good + off, (size_t)n) != 0)
				fail_msg("step %u: bytes differ in %u+%u of %u", step, off, len,
					 size);
		}
		}
	}
	close(fd);
	close(direct);
	/* what the host has is the same */
	fd = open(in_base("store/files/fsx"), O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), size);
	assert_memory_equal(buf, good, size);
	close(fd);
}

static void *read_slowly(void *arg)
{
	char buf[16];
	int fd = open(in_base_slow, O_RDONLY | O_DIRECT);

	*(ssize_t *)arg = fd < 0 ? -errno : pread(fd, buf, sizeof(buf), 0);
	close(fd);
	return NULL;
}

/*
 * More slow reads than the server has workers: the file below MNT/files is of
 * a filesystem whose reads end when somebody writes to a FIFO.
 */
static void test_slow_backing(void **state)
{
	char line[2 * PATH_MAX], buf[64], path[PATH_MAX];
	const char *build = getenv("FL_BUILD");
	pthread_t threads[SLOW];
	ssize_t got[SLOW];
	int fd, gate;

	(void)state;
	assert_int_equal(mkdir(in_base("store/files/slow"), 0755), 0);
	assert_int_equal(mkfifo(in_base("gate"), 0600), 0);
	assert_int_equal(mkfifo(in_base("begun"), 0600), 0);
	snprintf(line, sizeof(line),
		 "'%s/tests/store/slow' '%s/gate' '%s/begun' '%s/store/files/slow'",
		 build != NULL ? build : ".", base, base, base);
	assert_int_equal(system(line), 0);
	snprintf(path, sizeof(path), "%s/mnt/files/slow/file", base);
	in_base_slow = path;
	for (unsigned i = 0; i < SLOW; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_slowly, &got[i]), 0);
	/* each of them has got to the slow filesystem */
	fd = open(in_base("begun"), O_RDONLY);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < SLOW; i++)
		assert_int_equal(read(fd, buf, 1), 1);
	close(fd);

	/* and everything else goes on: this ends, though the gate is shut */
	fd = open(in_base("mnt/files/quick"), O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(pwrite(fd, "quick", 5, i * 5), 5);
		assert_int_equal(fsync(fd), 0);
		assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
		assert_int_equal(pread(fd, buf, 5, i * 5), 5);
		assert_memory_equal(buf, "quick", 5);
	}
	close(fd);

	gate = open(in_base("gate"), O_WRONLY);
	assert_true(gate >= 0);
	for (unsigned i = 0; i < SLOW; i++)
		assert_int_equal(write(gate, "g", 1), 1);
	for (unsigned i = 0; i < SLOW; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_int_equal(got[i], 4);
	}
	close(gate);
	/* the server knows its inodes, so it is busy */
	assert_int_equal(umount2(in_base("store/files/slow"), MNT_DETACH), 0);
}

/* Nothing of the view can be changed, and nothing leads out of it. */
static void test_view_is_fixed(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(open(in_base("mnt/new"), O_CREAT | O_RDWR, 0600), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(mkdir(in_base("mnt/swap/new"), 0700), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(unlink(in_base("mnt/stats")), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(rename(in_base("mnt/stats"), in_base("mnt/files/stats")), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(rename(in_base("mnt/files"), in_base("mnt/x")), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(open(in_base("mnt/stats"), O_WRONLY), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(chmod(in_base("mnt/metrics"), 0666), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(open(in_base("mnt/none"), O_RDONLY), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(stat(in_base("mnt/files/../files/.."), &st), 0);
	assert_int_equal(st.st_ino, 1);
	/* A link that leads out is the caller's to follow, not the server's. */
	assert_int_equal(symlink("/etc", in_base("store/files/out")), 0);
	assert_int_equal(lstat(in_base("mnt/files/out"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
}

#define LONG_WRITE ((size_t)8 << 20) /* the kernel makes several of it */

/* A direct write that appends lies in one piece, in its order, behind what the host has. */
static void test_direct_appends(void **state)
{
	uint64_t *page =
		mmap(NULL, LONG_WRITE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const size_t words = LONG_WRITE / sizeof(*page);
	int fd = open(in_base("mnt/files/appended"),
		      O_CREAT | O_EXCL | O_RDWR | O_APPEND | O_DIRECT, 0600);
	int host = open(in_base("store/files/appended"), O_RDWR | O_APPEND);
	struct statx stx;
	off_t end = 0;
	uint64_t have;

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_true(fd >= 0 && host >= 0);
	for (unsigned round = 0; round < 24; round++) {
		if (round == 16) {
			assert_int_equal(ftruncate(fd, 0), 0);
			end = 0;
		}
		/* the kernel does not hear of that until it asks */
		if (round % 8 >= 6) {
			assert_int_equal(write(host, "of the host", 11), 11);
			assert_int_equal(ftruncate(host, end + 4096), 0);
			end += 4096;
			assert_int_equal(write(fd, page, 4096), 4096);
			assert_int_equal(pread(host, &have, sizeof(have), end), sizeof(have));
			assert_true(have == page[0]);
			end += 4096;
			assert_int_equal(statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
					       STATX_SIZE, &stx),
					 0);
		}
		for (size_t i = 0; i < words; i++)
			page[i] = round * words + i;
		assert_int_equal(write(fd, page, LONG_WRITE), LONG_WRITE);
		memset(page, 0, LONG_WRITE);
		assert_int_equal(pread(host, page, LONG_WRITE, end), LONG_WRITE);
		for (size_t i = 0; i < words; i++)
			if (page[i] != round * words + i)
				fail_msg("write %u, at byte %zu", round, i * sizeof(*page));
		end += (off_t)LONG_WRITE;
	}
	close(fd);
	close(host);
	munmap(page, LONG_WRITE);
	assert_int_equal(unlink(in_base("mnt/files/appended")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),	       cmocka_unit_test(test_renames),
		cmocka_unit_test(test_links),	       cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_xattrs),	       cmocka_unit_test(test_data),
		cmocka_unit_test(test_locks),	       cmocka_unit_test(test_listing),
		cmocka_unit_test(test_fuzz_names),     cmocka_unit_test(test_fsx),
		cmocka_unit_test(test_view_is_fixed),  cmocka_unit_test(test_slow_backing),
		cmocka_unit_test(test_direct_appends),
	};

	return cmocka_run_group_tests(tests, mounted_begin, mounted_end);
}
