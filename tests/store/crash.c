/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash.c - points at which a server is killed; see crash.h.
 *
 * What is done at a point runs on pagers and under the server's filter of system
 * calls: atomics and bare system calls, nothing of libc.
 */
#include "crash.h"

#include "test.h"

#include "blkio.h"
#include "server.h"
#include "sys.h"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define SECTOR 512U
#define PG 4096UL

struct crash *crash;

static bool serving;   /* this is the server */
static bool changed;   /* something, since the last answer; atomic */
static dev_t host_dev; /* of the store's files */

/* --- points --- */

static bool here(uint32_t kind, const char *what, const char *when)
{
	if (!(__atomic_load_n(&crash->kinds, __ATOMIC_SEQ_CST) & kind))
		return false;
	if (__atomic_add_fetch(&crash->count, 1, __ATOMIC_SEQ_CST) != crash->at)
		return false;
	crash->where = what;
	crash->when = when;
	return true;
}

static _Noreturn void die(void)
{
	__atomic_store_n(&crash->killed, 1, __ATOMIC_SEQ_CST);
	for (;;)
		sys_bare(SYS_tgkill, sys_bare(SYS_getpid, 0, 0, 0, 0, 0, 0),
			 sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0);
}

static void before(uint32_t kind, const char *what)
{
	if (here(kind, what, "before"))
		die();
}

static void after(uint32_t kind, const char *what)
{
	__atomic_store_n(&changed, true, __ATOMIC_SEQ_CST);
	if (here(kind, what, "after"))
		die();
}

static void answer(const char *what)
{
	if (__atomic_exchange_n(&changed, false, __ATOMIC_SEQ_CST))
		before(CRASH_ANSWER, what);
}

/* --- what was there before --- */

static void keep_old(int fd, uint64_t off, uint64_t len)
{
	uint64_t first = off / PG, n = (off + len + PG - 1) / PG - first;
	uint32_t i;
	struct stat st;
	long got;

	if (!crash->keep_old || sys_bare(SYS_fstat, fd, (long)&st, 0, 0, 0, 0) != 0)
		return;
	i = __atomic_fetch_add(&crash->nold, (uint32_t)n, __ATOMIC_SEQ_CST);
	if (i + n > CRASH_OLD_MAX)
		die(); /* too small for the course: the test sees it */
	for (uint64_t k = 0; k < n; k++)
		crash->old[i + k].ino = 0;
	got = sys_bare(SYS_pread64, fd, (long)crash->bytes[i], (long)(n * PG), (long)(first * PG),
		       0, 0);
	for (uint64_t k = 0; k < n; k++) {
		struct crash_old *o = &crash->old[i + k];
		long left = got - (long)(k * PG);

		o->page = first + k;
		o->bytes = left <= 0 ? 0 : left < (long)PG ? (uint32_t)left : (uint32_t)PG;
		/* Release: whoever sees the number sees the rest. */
		__atomic_store_n(&o->ino, st.st_ino, __ATOMIC_RELEASE);
	}
}

static void note_sync(int fd)
{
	struct stat st;
	uint32_t i;

	if (!crash->keep_old || sys_bare(SYS_fstat, fd, (long)&st, 0, 0, 0, 0) != 0)
		return;
	i = __atomic_fetch_add(&crash->nsyncs, 1, __ATOMIC_SEQ_CST) % CRASH_OLD_MAX;
	crash->sync[i].mark = __atomic_load_n(&crash->nold, __ATOMIC_SEQ_CST);
	crash->sync[i].ino = st.st_ino;
}

/* Bytes of the store are about to be written by a call of ours: maybe half of them are. */
static void writing(const char *what, int fd, const void *buf, size_t len, off_t off)
{
	before(CRASH_WRITE, what);
	keep_old(fd, (uint64_t)off, len);
	__atomic_store_n(&changed, true, __ATOMIC_SEQ_CST);
	if (len < 2 || !here(CRASH_WRITE, what, "in the middle of"))
		return;
	sys_bare(SYS_pwrite64, fd, (long)buf, (long)(len / 2), off, 0, 0);
	die();
}

/* --- what the pager does --- */

static bool of_host(int fd)
{
	struct stat st;

	return sys_bare(SYS_fstat, fd, (long)&st, 0, 0, 0, 0) == 0 && S_ISREG(st.st_mode) &&
	       st.st_dev == host_dev;
}

/* Its own memfds are pages. */
static uint32_t kind_of(int fd)
{
	return of_host(fd) ? CRASH_NAME : CRASH_PAGE;
}

#define BETWEEN(name, kind)                                                                        \
	static long row_##name(long a, long b, long c, long d, long e, long f)                     \
	{                                                                                          \
		uint32_t k = (kind);                                                               \
		long r;                                                                            \
                                                                                                   \
		before(k, #name);                                                                  \
		r = sys_bare(sys_table[SYSROW_##name].nr, a, b, c, d, e, f);                       \
		if (k == CRASH_NAME)                                                               \
			after(k, #name);                                                           \
		return r;                                                                          \
	}

/* clang-format off */
#define ROWS(X) \
	X(ftruncate, kind_of((int)a)) X(fallocate, kind_of((int)a)) \
	X(uffd_continue, CRASH_PAGE) X(uffd_writeprotect, CRASH_PAGE) X(uffd_poison, CRASH_PAGE) \
	X(uffd_wake, CRASH_PAGE) X(memfd_create, CRASH_PAGE | CRASH_FILE) X(flock, CRASH_CLIENT) \
	X(fcntl, CRASH_CLIENT)
/* clang-format on */

ROWS(BETWEEN)

static long row_sendmsg(long a, long b, long c, long d, long e, long f)
{
	answer("sendmsg");
	return sys_bare(sys_table[SYSROW_sendmsg].nr, a, b, c, d, e, f);
}

static struct {
	const struct blk_dev *dev;
	uint64_t off;
} half; /* what is left of the write in whose middle the server is to be killed */

static long at_io(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	uint64_t part = (len / 2 + SECTOR - 1) / SECTOR * SECTOR;

	if (op == BLK_READ)
		return 0;
	if (op == BLK_SYNC) {
		before(CRASH_SYNC, "the pager's sync");
		note_sync(dev->fd);
		__atomic_store_n(&changed, true, __ATOMIC_SEQ_CST);
		return 0;
	}
	if (half.dev == dev && half.off == off)
		die();
	before(CRASH_WRITE, "the pager's write");
	keep_old(dev->fd, off, len);
	__atomic_store_n(&changed, true, __ATOMIC_SEQ_CST);
	if (part >= len || !here(CRASH_WRITE, "the pager's write", "in the middle of"))
		return 0;
	half.dev = dev;
	half.off = off + part;
	return (long)part;
}

/* --- what src/store calls --- */

/* clang-format off */
#define CALLS(X) \
	X(int, ftruncate, (int fd, off_t n), (fd, n), CRASH_NAME) \
	X(int, truncate, (const char *p, off_t n), (p, n), CRASH_NAME) \
	X(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), CRASH_NAME) \
	X(int, unlinkat, (int fd, const char *p, int f), (fd, p, f), CRASH_NAME) \
	X(int, mkdirat, (int fd, const char *p, mode_t m), (fd, p, m), CRASH_NAME) \
	X(int, linkat, (int a, const char *p, int b, const char *q, int f), (a, p, b, q, f), \
	  CRASH_NAME) \
	X(int, symlinkat, (const char *t, int fd, const char *p), (t, fd, p), CRASH_NAME) \
	X(int, chmod, (const char *p, mode_t m), (p, m), CRASH_NAME) \
	X(int, utimensat, (int fd, const char *p, const struct timespec *t, int f), \
	  (fd, p, t, f), CRASH_NAME) \
	X(int, setxattr, (const char *p, const char *n, const void *v, size_t s, int f), \
	  (p, n, v, s, f), CRASH_NAME) \
	X(ssize_t, copy_file_range, (int a, off_t *o, int b, off_t *q, size_t n, unsigned f), \
	  (a, o, b, q, n, f), CRASH_WRITE)
/* clang-format on */

#define DECLARE(type, name, params, args, kind)                                                    \
	type __real_##name params;                                                                 \
	type __wrap_##name params;
#define WRAP(type, name, params, args, kind)                                                       \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		type r;                                                                            \
                                                                                                   \
		if (!serving)                                                                      \
			return __real_##name args;                                                 \
		before(kind, #name);                                                               \
		r = __real_##name args;                                                            \
		after(kind, #name);                                                                \
		return r;                                                                          \
	}

CALLS(DECLARE)
CALLS(WRAP)

ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	if (serving)
		writing("pwrite", fd, buf, len, off);
	return __real_pwrite(fd, buf, len, off);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list ap;
	int mode, fd;

	va_start(ap, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(ap, int) : 0;
	va_end(ap);
	if (!serving || (flags & O_TRUNC) == 0)
		return __real_open(path, flags, mode);
	before(CRASH_NAME, "open");
	fd = __real_open(path, flags, mode);
	after(CRASH_NAME, "open");
	return fd;
}

/* Those that have no function in the C library, or are called without. */
long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);
long __wrap_syscall(long nr, ...)
{
	const char *what = NULL;
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (unsigned i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_renameat2)
		what = "renameat2";
	/* struct open_how begins with the flags */
	if (nr == SYS_openat2 && (*(const uint64_t *)a[2] & (O_CREAT | O_TRUNC)) != 0)
		what = "openat2";
	if (serving && what != NULL)
		before(CRASH_NAME, what);
	r = __real_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (serving && what != NULL)
		after(CRASH_NAME, what);
	return r;
}

/* The workers' ring: what is handed over is its last entry. */
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	const struct io_uring_sqe *e = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & ring->sq.ring_mask];

	if (serving && e->opcode == IORING_OP_WRITE) {
		writing("a worker's write", e->fd, (const void *)(uintptr_t)e->addr, e->len,
			(off_t)e->off);
	} else if (serving && e->opcode == IORING_OP_FSYNC) {
		before(CRASH_SYNC, "a worker's sync");
		note_sync(e->fd);
		__atomic_store_n(&changed, true, __ATOMIC_SEQ_CST);
	}
	return __real_io_uring_submit(ring);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (serving) {
		answer("sendmsg");
		before(CRASH_CLIENT, "sendmsg");
	}
	return __real_sendmsg(fd, m, flags);
}

ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = __real_recvmsg(fd, m, flags);

	if (serving && n >= 0 && here(CRASH_CLIENT, "recvmsg", "after"))
		die();
	return n;
}

/* libfuse's answers. */
__attribute__((visibility("default"))) ssize_t writev(int fd, const struct iovec *v, int n)
{
	long r;

	if (serving)
		answer("an answer to the kernel");
	r = sys_bare(SYS_writev, fd, (long)v, n, 0, 0, 0);
	if (!sys_err(r))
		return r;
	errno = (int)-r;
	return -1;
}

/* --- the server --- */

/* The first thing that the server's process does. */
int __real_confine_limits(bool root, struct why *why);
int __wrap_confine_limits(bool root, struct why *why);
int __wrap_confine_limits(bool root, struct why *why)
{
	serving = true;
	blkio_inject = at_io;
#define REPLACE(name, kind) sys_table[SYSROW_##name].fn = row_##name;
	ROWS(REPLACE)
	sys_table[SYSROW_sendmsg].fn = row_sendmsg;
	return __real_confine_limits(root, why);
}

static pid_t keeper;
static int keeper_fd = -1;
static char base[PATH_MAX / 4];

const char *crash_in_base(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", base, name);
	return p;
}

static _Noreturn void keep(const struct crash_mount *mount)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
	int said = open(crash_in_base("said"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	static struct store store;
	struct why why = {.text = ""};
	struct stat st;
	int err;

	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(said, STDERR_FILENO);
	close_range(3, ~0U, 0);
	server.store = &store;
	server.options = (struct server_options){.foreground = true,
						 .sandbox = mount->sandbox,
						 .direct = mount->direct,
						 .page_io = mount->page_io,
						 .cache = mount->cache};
	err = store_open(&store, crash_in_base("store"), &why);
	if (err == 0 && fstat(store.files_fd, &st) == 0)
		host_dev = st.st_dev;
	if (err == 0)
		err = mounts_resolve(crash_in_base("mnt"), server.mnt, &why);
	if (err == 0)
		err = store_lock(&store, &why);
	if (err == 0)
		err = server_run(&why);
	if (err != 0 && why.text[0] != '\0')
		dprintf(STDERR_FILENO, "faultline: %s\n", why.text);
	_exit(err != 0);
}

/* What the server and its keeper said. */
static void show_said(void)
{
	char text[4096];
	int fd = open(crash_in_base("said"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	print_message("%s", text);
}

void crash_serve(const struct crash_mount *mount)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd fds[2];

	snprintf(base, sizeof(base), "%s", mount->base);
	if (crash == NULL)
		crash = mmap(NULL, sizeof(*crash), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(crash, MAP_FAILED);
	crash->kinds = crash->killed = 0;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", crash_in_base("notify"));
	unlink(at.sun_path);
	assert_int_equal(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	keeper = fork();
	assert_true(keeper >= 0);
	if (keeper == 0)
		keep(mount);
	unsetenv("NOTIFY_SOCKET");
	keeper_fd = (int)syscall(SYS_pidfd_open, keeper, 0);
	assert_true(keeper_fd >= 0);
	fds[0] = (struct pollfd){.fd = sock, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = keeper_fd, .events = POLLIN};
	if (poll(fds, 2, HANG_SECONDS * 1000) < 1 || fds[0].revents == 0) {
		show_said();
		fail_msg("%s", "the store is not served");
	}
	close(sock);
}

void crash_arm(uint32_t kinds, uint32_t at, bool keep)
{
	crash->at = at;
	crash->count = crash->nold = crash->nsyncs = 0;
	crash->keep_old = keep;
	__atomic_store_n(&crash->kinds, kinds, __ATOMIC_SEQ_CST);
}

uint32_t crash_synced(ino_t ino)
{
	uint32_t n = __atomic_load_n(&crash->nsyncs, __ATOMIC_SEQ_CST);

	for (uint32_t i = n < CRASH_OLD_MAX ? n : CRASH_OLD_MAX; i-- > 0;)
		if (crash->sync[i].ino == ino)
			return crash->sync[i].mark;
	return 0;
}

bool crash_disarm(void)
{
	__atomic_store_n(&crash->kinds, 0, __ATOMIC_SEQ_CST);
	/* who has come to the point writes half of something first */
	if (crash->at != 0 && __atomic_load_n(&crash->count, __ATOMIC_SEQ_CST) >= crash->at)
		until(__atomic_load_n(&crash->killed, __ATOMIC_SEQ_CST) != 0);
	return __atomic_load_n(&crash->killed, __ATOMIC_SEQ_CST);
}

static int end_of_keeper(void)
{
	struct pollfd p = {.fd = keeper_fd, .events = POLLIN};
	int status = -1;

	if (poll(&p, 1, HANG_SECONDS * 1000) != 1)
		fail_msg("the server's keeper (%d) does not end", (int)keeper);
	assert_int_equal(waitpid(keeper, &status, 0), keeper);
	close(keeper_fd);
	keeper = 0;
	return status;
}

void crash_wait(void)
{
	char type[64], source[PATH_MAX];

	/* its server failed, and it says so */
	assert_int_equal(end_of_keeper(), 1 << 8);
	assert_int_equal(
		mounts_type(crash_in_base("mnt"), type, sizeof(type), source, sizeof(source)), 0);
	assert_string_equal(type, "");
}

void crash_end(void)
{
	int status;

	kill(keeper, SIGTERM);
	status = end_of_keeper();
	if (status != 0)
		show_said();
	assert_int_equal(status, 0);
}

void crash_clean(void)
{
	if (keeper == 0)
		return;
	kill(keeper, SIGTERM);
	kill(keeper, SIGTERM);
	waitpid(keeper, NULL, 0);
	close(keeper_fd);
	keeper = 0;
}
