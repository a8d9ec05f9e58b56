/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * within.c - a server in a child of the test; see within.h.
 *
 * What is replaced runs on pagers: atomics and bare system calls, nothing of libc.
 */
#include "within.h"

#include "test.h"

#include "blkio.h"
#include "lock.h"
#include "server.h"
#include "sys.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define PG 4096UL

struct within *within;

static bool serving; /* this is the server */

static uint32_t get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static void count(uint32_t *v)
{
	__atomic_fetch_add(v, 1, __ATOMIC_SEQ_CST);
}

/* --- what goes wrong --- */

/* One less is left of them. */
static bool take_one(uint32_t *of)
{
	uint32_t left = get(of);

	while (left != 0)
		if (__atomic_compare_exchange_n(of, &left, left - 1, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return true;
	return false;
}

static void die(void)
{
	count(&within->killed);
	sys_bare(SYS_kill, sys_bare(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
}

static long at_io(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	int32_t error = __atomic_load_n(&within->write_error, __ATOMIC_SEQ_CST);
	int32_t far = __atomic_load_n(&within->far_error, __ATOMIC_SEQ_CST);
	uint32_t slow = get(&within->slow), word = 0;

	(void)dev;
	if (far != 0 && off >= FAR_PAGE * PG)
		error = far;
	if (op == BLK_SYNC && get(&within->synced) != 0)
		die();
	if (op == BLK_SYNC && take_one(&within->bad_syncs))
		return -EIO;
	if (op == BLK_READ && get(&within->slow_reads) != 0) {
		futex_wait(&word, 0, get(&within->slow_reads) * 1000000ULL);
		count(&within->slow_read);
		return len > PG ? (long)PG : 0;
	}
	if (op != BLK_WRITE)
		return 0;
	if (error != 0)
		return error;
	if (slow == 0)
		return 0;
	futex_wait(&word, 0, slow * 1000000ULL);
	count(&within->slowed);
	return len > PG ? (long)PG : 0;
}

static long row_fcntl(long fd, long cmd, long arg, long d, long e, long f)
{
	const struct flock *l = (const struct flock *)arg;

	/* of a part: a map's of slots */
	if (cmd == F_OFD_SETLK && l->l_type == F_WRLCK && l->l_len == 0) {
		count(&within->locks);
		if (take_one(&within->busy_locks))
			return -EAGAIN;
	}
	return sys_bare(SYS_fcntl, fd, cmd, arg, d, e, f);
}

static bool is_memfd(long fd)
{
	return sys_bare(SYS_fcntl, fd, F_GET_SEALS, 0, 0, 0, 0) >= 0;
}

static long row_ftruncate(long fd, long size, long c, long d, long e, long f)
{
	int32_t error = __atomic_load_n(&within->cut_error, __ATOMIC_SEQ_CST);

	return error != 0 && !is_memfd(fd) ? error : sys_bare(SYS_ftruncate, fd, size, c, d, e, f);
}

/* As the kernel does where it cannot split the frame. */
static long punch(long fd, long mode, long off, long len)
{
	static const char zeros[PG];

	if (get(&within->large) == 0 || len != (long)PG)
		return sys_bare(SYS_fallocate, fd, mode, off, len, 0, 0);
	count(&within->kept);
	return sys_bare(SYS_pwrite64, fd, (long)zeros, len, off, 0, 0) == len ? 0 : -EIO;
}

static long row_fallocate(long fd, long mode, long off, long len, long e, long f)
{
	long last = get(&within->punched) * (long)PG - 1, r;
	bool here = last >= off && last < off + len;

	if ((mode & FALLOC_FL_PUNCH_HOLE) == 0 || !is_memfd(fd))
		return sys_bare(SYS_fallocate, fd, mode, off, len, e, f);
	if (here && get(&within->behind) == 0)
		die();
	r = punch(fd, mode, off, len);
	if (here)
		die();
	return r;
}

ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = __real_recvmsg(fd, m, flags);
	struct ucred who;
	socklen_t len = sizeof(who);

	if (!serving || n <= 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 ||
	    who.pid != __atomic_load_n(&within->refused, __ATOMIC_SEQ_CST))
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		unsigned fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		for (unsigned i = 0; i < fds; i++)
			close(((const int *)(const void *)CMSG_DATA(c))[i]);
	}
	m->msg_controllen = 0;
	count(&within->refusals);
	return 0;
}

int __real_fstatfs(int fd, struct statfs *fs);
int __wrap_fstatfs(int fd, struct statfs *fs);
int __wrap_fstatfs(int fd, struct statfs *fs)
{
	int r = __real_fstatfs(fd, fs);

	if (serving && r == 0 && get(&within->remote) != 0 && fs->f_type != TMPFS_MAGIC &&
	    fs->f_type != PROC_SUPER_MAGIC)
		fs->f_type = NFS_SUPER_MAGIC;
	return r;
}

static void hold(uint32_t where)
{
	if (get(&within->hold) != where)
		return;
	count(&within->held);
	while (get(&within->hold) == where)
		poll(NULL, 0, 1);
}

ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	int32_t error;
	ssize_t r;

	if (!serving)
		return __real_pwrite(fd, buf, len, off);
	error = __atomic_load_n(&within->put_error, __ATOMIC_SEQ_CST);
	if (error != 0 && off == (off_t)(get(&within->put_page) * PG)) {
		errno = -error;
		return -1;
	}
	hold(HOLD_BEFORE);
	r = __real_pwrite(fd, buf, len, off);
	hold(HOLD_BEHIND);
	return r;
}

/* The workers' ring: who hands something over, */
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring)
{
	if (serving)
		hold(HOLD_RING);
	return __real_io_uring_submit(ring);
}

/* and its thread, before it looks at what has ended. */
int __real___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask);
int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask);
int __wrap___io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned submit,
			      unsigned wait, sigset_t *mask)
{
	int r = __real___io_uring_get_cqe(ring, cqe, submit, wait, mask);

	if (serving)
		hold(HOLD_ANSWER);
	return r;
}

static void make_whole(struct stat *st)
{
	uint32_t whole = get(&within->whole);

	if (!serving || whole == 0)
		return;
	st->st_atim.tv_nsec = st->st_mtim.tv_nsec = st->st_ctim.tv_nsec = 0;
	st->st_atim.tv_sec -= st->st_atim.tv_sec % whole;
	st->st_mtim.tv_sec -= st->st_mtim.tv_sec % whole;
	st->st_ctim.tv_sec -= st->st_ctim.tv_sec % whole;
}

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
	int r = __real_fstat(fd, st);

	if (r == 0)
		make_whole(st);
	return r;
}

static long row_fstat(long fd, long st, long c, long d, long e, long f)
{
	long r = sys_bare(SYS_fstat, fd, st, c, d, e, f);

	if (r == 0)
		make_whole((struct stat *)st);
	return r;
}

static void hold_cut(void)
{
	if (!serving || get(&within->hold_cuts) == 0)
		return;
	count(&within->held_cuts);
	while (get(&within->hold_cuts) != 0)
		futex_wait(&within->hold_cuts, 1, 1000000);
}

int __real_truncate(const char *path, off_t size);
int __wrap_truncate(const char *path, off_t size);
int __wrap_truncate(const char *path, off_t size)
{
	hold_cut();
	return __real_truncate(path, size);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	va_list ap;
	int mode;

	va_start(ap, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(ap, int) : 0;
	va_end(ap);
	if ((flags & O_TRUNC) != 0)
		hold_cut();
	return __real_open(path, flags, mode);
}

uint64_t __real_sys_now(void);
uint64_t __wrap_sys_now(void);
uint64_t __wrap_sys_now(void)
{
	uint64_t ahead = 0;

	if (within != NULL)
		ahead = __atomic_load_n(serving ? &within->late : &within->skew, __ATOMIC_SEQ_CST);
	return __real_sys_now() + ahead;
}

/* The first thing that the server's process does. */
int __real_confine_limits(bool root, struct why *why);
int __wrap_confine_limits(bool root, struct why *why);
int __wrap_confine_limits(bool root, struct why *why)
{
	serving = true;
	blkio_inject = at_io;
	sys_table[SYSROW_fcntl].fn = row_fcntl;
	sys_table[SYSROW_fallocate].fn = row_fallocate;
	sys_table[SYSROW_fstat].fn = row_fstat;
	sys_table[SYSROW_ftruncate].fn = row_ftruncate;
	return __real_confine_limits(root, why);
}

/* --- the server --- */

static pid_t keeper;

static _Noreturn void keep(const char *base, uint64_t cache)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
	static struct store store;
	struct why why = {.text = ""};
	char path[PATH_MAX];
	int err;

	/* the test's own handlers */
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	close_range(3, ~0U, 0);
	server.store = &store;
	server.options =
		(struct server_options){.foreground = true, .sandbox = false, .cache = cache};
	snprintf(path, sizeof(path), "%s/store", base);
	err = store_open(&store, path, &why);
	snprintf(path, sizeof(path), "%s/mnt", base);
	if (err == 0)
		err = mounts_resolve(path, server.mnt, &why);
	if (err == 0)
		err = store_lock(&store, &why);
	if (err == 0)
		err = server_run(&why);
	if (err != 0 && why.text[0] != '\0')
		dprintf(STDERR_FILENO, "faultline: %s\n", why.text);
	_exit(err != 0);
}

void within_begin(void)
{
	if (within == NULL)
		within = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(within, MAP_FAILED);
	memset(within, 0, sizeof(*within));
}

void within_serve(const char *base, uint64_t cache)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ended;
	struct pollfd fds[2];

	within_wait();
	snprintf(at.sun_path, sizeof(at.sun_path), "%.90s/notify", base);
	unlink(at.sun_path);
	assert_int_equal(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	keeper = fork();
	assert_true(keeper >= 0);
	if (keeper == 0)
		keep(base, cache);
	unsetenv("NOTIFY_SOCKET");
	ended = (int)syscall(SYS_pidfd_open, keeper, 0);
	fds[0] = (struct pollfd){.fd = sock, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = ended, .events = POLLIN};
	if (poll(fds, 2, HANG_SECONDS * 1000) < 1 || fds[0].revents == 0)
		fail_msg("%s", "the store is not served");
	close(sock);
	close(ended);
}

void within_stop(void)
{
	kill(keeper, SIGTERM);
}

void within_wait(void)
{
	struct pollfd f = {.events = POLLIN};

	if (keeper == 0)
		return;
	f.fd = (int)syscall(SYS_pidfd_open, keeper, 0);
	if (poll(&f, 1, HANG_SECONDS * 1000) != 1)
		fail_msg("the server's keeper (%d) does not end", (int)keeper);
	close(f.fd);
	waitpid(keeper, NULL, 0);
	keeper = 0;
}
