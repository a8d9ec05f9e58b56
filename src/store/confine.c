/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * confine.c - what the server may do, once it serves.
 *
 * The list has what libfuse, the C library's allocator, and our own file
 * operations call; memory is never executable.  Threads are made before, the
 * ring is set up before and restricted by itself (io.c), since what a ring does
 * passes no filter.  Where the kernel has Landlock no path leads out of the
 * store but to /proc, for reading, and to devices.
 */
#include "server.h"

#include "config.h"
#include "uffd-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#define OOM_SCORE "-500"

/* What root keeps: to make files as others, and to do for them what they may. */
#define CAPS_KEPT                                                                                  \
	(1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_FOWNER | 1U << CAP_FSETID |          \
	 1U << CAP_SETGID | 1U << CAP_SETUID)

/* As far as we may by ourselves. */
static void raise_limit(int what)
{
	struct rlimit lim;

	if (getrlimit(what, &lim) != 0)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(what, &lim);
}

/* Others' pages depend on us: the last to be killed for memory, where we may say so. */
static void spare_us(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, OOM_SCORE, strlen(OOM_SCORE)) < 0)
		errno = 0; /* the usual score, then */
	close(fd);
}

int confine_limits(bool root, struct why *why)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];

	/* an inode that the kernel knows costs a descriptor */
	raise_limit(RLIMIT_NOFILE);
	/* who writes through the mount has a limit of his own; memfds are long, too (shared.c) */
	raise_limit(RLIMIT_FSIZE);
	spare_us();
	memset(caps, 0, sizeof(caps));
	if (root) {
		/* setfsuid(2) is to leave the capabilities as they are. */
		if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) != 0)
			return why_set(why, -errno, "capabilities cannot be kept: %s",
				       strerror(errno));
		caps[0].effective = caps[0].permitted = CAPS_KEPT;
	}
	if (syscall(SYS_capset, &head, caps) != 0)
		return why_set(why, -errno, "capabilities cannot be dropped: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return why_set(why, -errno, "no-new-privileges: %s", strerror(errno));
	return 0;
}

/*
 * Landlock, by its system calls: the headers of our distribution know but its
 * first versions.  Each version adds rights that can be taken away.
 */
#define LANDLOCK_CREATE 444
#define LANDLOCK_ADD 445
#define LANDLOCK_RESTRICT 446
#define LANDLOCK_VERSION 1U
#define LANDLOCK_BENEATH 1

#define RIGHT_WRITE_FILE (1ULL << 1)
#define RIGHT_READ_FILE (1ULL << 2)
#define RIGHT_READ_DIR (1ULL << 3)
#define RIGHTS_FIRST ((1ULL << 13) - 1)
#define RIGHT_REFER (1ULL << 13)     /* since version 2 */
#define RIGHT_TRUNCATE (1ULL << 14)  /* 3 */
#define RIGHT_IOCTL_DEV (1ULL << 15) /* 5 */

static int allow_beneath(int ruleset, int dir_fd, uint64_t rights)
{
	const struct {
		uint64_t rights;
		int32_t fd;
	} __attribute__((packed)) rule = {rights, dir_fd};

	return syscall(LANDLOCK_ADD, ruleset, LANDLOCK_BENEATH, &rule, 0) == 0 ? 0 : -errno;
}

static int allow_path(int ruleset, const char *path, uint64_t rights)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int err = fd >= 0 ? allow_beneath(ruleset, fd, rights) : -errno;

	if (fd >= 0)
		close(fd);
	return err;
}

int confine_paths(int dir_fd, struct why *why)
{
	long version = syscall(LANDLOCK_CREATE, NULL, 0, LANDLOCK_VERSION);
	uint64_t rights = RIGHTS_FIRST | (version >= 2 ? RIGHT_REFER : 0) |
			  (version >= 3 ? RIGHT_TRUNCATE : 0) |
			  (version >= 5 ? RIGHT_IOCTL_DEV : 0);
	int ruleset, err;

	if (version < 1)
		return 0; /* not in this kernel: paths are kept within DIR all the same (files.c) */
	ruleset = (int)syscall(LANDLOCK_CREATE, &rights, sizeof(rights), 0);
	err = ruleset >= 0 ? 0 : -errno;
	if (err == 0)
		err = allow_beneath(ruleset, dir_fd, rights);
	if (err == 0)
		err = allow_path(ruleset, "/proc", RIGHT_READ_FILE | RIGHT_READ_DIR);
	/* block devices that are areas */
	if (err == 0)
		err = allow_path(ruleset, "/dev",
				 RIGHT_READ_FILE | RIGHT_WRITE_FILE | (rights & RIGHT_IOCTL_DEV));
	if (err == 0 && syscall(LANDLOCK_RESTRICT, ruleset, 0) != 0)
		err = -errno;
	if (ruleset >= 0)
		close(ruleset);
	return err == 0 ? 0 : why_set(why, err, "paths cannot be confined: %s", strerror(-err));
}

#ifdef HAVE_SECCOMP
static const int allowed[] = {
	/* requests and their answers, data */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv2),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(splice),
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(truncate),
	SCMP_SYS(lseek),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	/* names and attributes */
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fcntl),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),
	SCMP_SYS(getdents64),
	SCMP_SYS(readlinkat),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(mkdirat),
	SCMP_SYS(mknodat),
	SCMP_SYS(symlinkat),
	SCMP_SYS(linkat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat2),
	SCMP_SYS(chmod),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(fchownat),
	SCMP_SYS(utimensat),
	SCMP_SYS(setxattr),
	SCMP_SYS(getxattr),
	SCMP_SYS(listxattr),
	SCMP_SYS(removexattr),
	SCMP_SYS(setfsuid),
	SCMP_SYS(setfsgid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getegid),
	/* clients and their areas */
	SCMP_SYS(accept4),
	SCMP_SYS(getsockopt),
	SCMP_SYS(sendmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(socketpair),
	SCMP_SYS(recvmsg),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(memfd_create),
	SCMP_SYS(flock),
	SCMP_SYS(pwrite64),
	/* the C library's own: the first two by a thread that is just starting */
	SCMP_SYS(rseq),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(futex),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(tgkill),
	SCMP_SYS(getrandom),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

static const uint32_t ioctls[] = {
	BLKGETSIZE64, /* an area's size */
	TCGETS,	      /* what stdio asks of a terminal */
	FIGETBSZ,     /* of what filesystem a client's descriptor may be (attach.c) */
	/* faults in mapped files, and what workers ask of the pager */
	(uint32_t)UFFDIO_CONTINUE,
	(uint32_t)UFFDIO_WRITEPROTECT,
	(uint32_t)UFFDIO_POISON,
	(uint32_t)UFFDIO_ZEROPAGE,
	(uint32_t)UFFDIO_WAKE,
};

static int add_rules(scmp_filter_ctx filter)
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	if (err == 0)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (err == 0)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	for (size_t i = 0; err == 0 && i < sizeof(ioctls) / sizeof(ioctls[0]); i++)
		err = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, ioctls[i]));
	return err;
}

int confine_calls(struct why *why)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err = filter != NULL ? 0 : -ENOMEM;

	if (err == 0)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (err == 0)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	if (err == 0)
		err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (err == 0)
		err = add_rules(filter);
	if (err == 0)
		err = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	if (err != 0)
		return why_set(why, err, "the list of system calls cannot be put in force: %s",
			       strerror(-err));
	return 0;
}
#else
int confine_calls(struct why *why)
{
	return why_set(why, -ENOSYS,
		       "this faultline was built without libseccomp, which confines the server: "
		       "give --no-sandbox to do without");
}
#endif
