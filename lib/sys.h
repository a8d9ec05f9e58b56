/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sys.h - the one table of system calls that the paging path makes.
 *
 * Every call returns its result or -errno and touches neither errno nor any
 * other thread-local variable, so it may be made on a pager (a thread without
 * a C library behind it), in a hook of the application, and after fork.
 *
 * Tests replace an entry's function to fail, count or delay a call
 * (tests/fault).  The table is written only before threads start.
 */
#ifndef FL_SYS_H
#define FL_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* One row a call; userfaultfd's ioctls have rows of their own. */
#define SYS_TABLE(X)                                                                               \
	X(openat)                                                                                  \
	X(close)                                                                                   \
	X(read)                                                                                    \
	X(write)                                                                                   \
	X(pread)                                                                                   \
	X(pwrite)                                                                                  \
	X(preadv)                                                                                  \
	X(pwritev)                                                                                 \
	X(fstat)                                                                                   \
	X(fsync)                                                                                   \
	X(fallocate)                                                                               \
	X(ftruncate)                                                                               \
	X(flock)                                                                                   \
	X(unlink)                                                                                  \
	X(ioctl)                                                                                   \
	X(mmap)                                                                                    \
	X(munmap)                                                                                  \
	X(mremap)                                                                                  \
	X(mprotect)                                                                                \
	X(madvise)                                                                                 \
	X(mlock2)                                                                                  \
	X(munlock)                                                                                 \
	X(brk)                                                                                     \
	X(process_madvise)                                                                         \
	X(memfd_create)                                                                            \
	X(poll)                                                                                    \
	X(futex)                                                                                   \
	X(close_range)                                                                             \
	X(kill)                                                                                    \
	X(uffd_open)                                                                               \
	X(uffd_api)                                                                                \
	X(uffd_register)                                                                           \
	X(uffd_unregister)                                                                         \
	X(uffd_copy)                                                                               \
	X(uffd_continue)                                                                           \
	X(uffd_zeropage)                                                                           \
	X(uffd_move)                                                                               \
	X(uffd_writeprotect)                                                                       \
	X(uffd_poison)                                                                             \
	X(uffd_wake)                                                                               \
	X(uffd_read)                                                                               \
	X(pagemap_scan)                                                                            \
	X(uring_setup)                                                                             \
	X(uring_enter)                                                                             \
	X(getpid)                                                                                  \
	X(gettid)                                                                                  \
	X(pidfd_open)                                                                              \
	X(pidfd_getfd)                                                                             \
	X(sigaction)                                                                               \
	X(sigprocmask)                                                                             \
	X(sigpending)                                                                              \
	X(sigtimedwait)                                                                            \
	X(tgkill)                                                                                  \
	X(exit_group)                                                                              \
	X(fcntl)                                                                                   \
	X(fstatfs)                                                                                 \
	X(getrandom)                                                                               \
	X(socketpair)                                                                              \
	X(sendmsg)                                                                                 \
	X(recvmsg)                                                                                 \
	X(epoll_create)                                                                            \
	X(epoll_ctl)                                                                               \
	X(epoll_wait)                                                                              \
	X(socket)                                                                                  \
	X(connect)                                                                                 \
	X(readlink)                                                                                \
	X(shmget)                                                                                  \
	X(shmat)                                                                                   \
	X(shmdt)                                                                                   \
	X(shmctl)                                                                                  \
	X(fstatat)                                                                                 \
	X(bind)                                                                                    \
	X(getsockname)                                                                             \
	X(sendto)                                                                                  \
	X(setsockopt)

enum sys_row {
#define X(name) SYSROW_##name,
	SYS_TABLE(X)
#undef X
		SYSROW_COUNT
};

typedef long (*sys_fn)(long, long, long, long, long, long);

struct sys_entry {
	const char *name;
	long nr;   /* the system call's number */
	sys_fn fn; /* what is called; starts as the bare system call */
};

/* pidfd_open(2): of a thread, whose descriptor table may be its own (Linux 6.9). */
#define PIDFD_THREAD O_EXCL

extern struct sys_entry sys_table[SYSROW_COUNT];

long sys_bare(long nr, long a, long b, long c, long d, long e, long f);

/* True for a result that stands for an error. */
static inline int sys_err(long r)
{
	return (unsigned long)r >= (unsigned long)-4095L;
}

#define SYS6(name, a, b, c, d, e, f)                                                               \
	sys_table[SYSROW_##name].fn((long)(a), (long)(b), (long)(c), (long)(d), (long)(e),         \
				    (long)(f))
#define SYS5(name, a, b, c, d, e) SYS6(name, a, b, c, d, e, 0)
#define SYS4(name, a, b, c, d) SYS6(name, a, b, c, d, 0, 0)
#define SYS3(name, a, b, c) SYS6(name, a, b, c, 0, 0, 0)
#define SYS2(name, a, b) SYS6(name, a, b, 0, 0, 0, 0)
#define SYS1(name, a) SYS6(name, a, 0, 0, 0, 0, 0)
#define SYS0(name) SYS6(name, 0, 0, 0, 0, 0, 0)

/* Anonymous private memory of our own, never managed; NULL when there is none. */
void *sys_mem_alloc(size_t bytes);
void sys_mem_free(void *p, size_t bytes);
/* The same, shared with children that are forked. */
void *sys_mem_shared(size_t bytes);
/* Memory of our own with the flags of mmap(2), readable and writable. */
void *sys_mem_map(size_t bytes, int flags, int fd, uint64_t off);
/* Anonymous private memory among that, which is to become the program's: its address, or -errno. */
long sys_mem_reserve(size_t bytes, int prot, int flags);

/* A System V segment, among our own memory; NULL when it cannot be had. */
void *sys_mem_attach(int id, size_t bytes);
void sys_mem_detach(void *p);

/* Keep large memory of our own out of core dumps: they would be filled with its holes. */
void sys_mem_nodump(void *p, size_t bytes);

/*
 * Is `at` in memory of our own?  *end: the end of that memory, or where the
 * next one above begins.
 */
bool sys_mem_own(uintptr_t at, uintptr_t *end);

/* May the mapping that begins there be one of those? */
bool sys_mem_zone(uintptr_t start);

/* Is some being allocated, so that it may be mapped and not be known as ours yet? */
bool sys_mem_pending(void);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t sys_now(void);

#endif
