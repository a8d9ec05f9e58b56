/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sys.c - the bare system call and the table around it; see sys.h.
 */
#include "sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/*
 * With inline assembly rather than syscall(3): no errno, and no site that the
 * interception of a program's own calls could catch.
 */
long sys_bare(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
#error "faultline knows the system call instruction of x86-64 and arm64 only"
#endif
}

#define ROW(name, number)                                                                          \
	static long row_##name(long a, long b, long c, long d, long e, long f)                     \
	{                                                                                          \
		return sys_bare(number, a, b, c, d, e, f);                                         \
	}
#define SYS_NR_TABLE(X)                                                                            \
	X(openat, SYS_openat)                                                                      \
	X(close, SYS_close)                                                                        \
	X(read, SYS_read)                                                                          \
	X(write, SYS_write)                                                                        \
	X(pread, SYS_pread64)                                                                      \
	X(pwrite, SYS_pwrite64)                                                                    \
	X(preadv, SYS_preadv)                                                                      \
	X(pwritev, SYS_pwritev)                                                                    \
	X(fstat, SYS_fstat)                                                                        \
	X(fsync, SYS_fsync)                                                                        \
	X(fallocate, SYS_fallocate)                                                                \
	X(ftruncate, SYS_ftruncate)                                                                \
	X(flock, SYS_flock)                                                                        \
	X(unlink, SYS_unlinkat)                                                                    \
	X(ioctl, SYS_ioctl)                                                                        \
	X(mmap, SYS_mmap)                                                                          \
	X(munmap, SYS_munmap)                                                                      \
	X(mremap, SYS_mremap)                                                                      \
	X(mprotect, SYS_mprotect)                                                                  \
	X(madvise, SYS_madvise)                                                                    \
	X(mlock2, SYS_mlock2)                                                                      \
	X(munlock, SYS_munlock)                                                                    \
	X(brk, SYS_brk)                                                                            \
	X(process_madvise, SYS_process_madvise)                                                    \
	X(memfd_create, SYS_memfd_create)                                                          \
	X(poll, SYS_ppoll)                                                                         \
	X(futex, SYS_futex)                                                                        \
	X(close_range, SYS_close_range)                                                            \
	X(kill, SYS_kill)                                                                          \
	X(uffd_open, SYS_ioctl)                                                                    \
	X(uffd_api, SYS_ioctl)                                                                     \
	X(uffd_register, SYS_ioctl)                                                                \
	X(uffd_unregister, SYS_ioctl)                                                              \
	X(uffd_copy, SYS_ioctl)                                                                    \
	X(uffd_continue, SYS_ioctl)                                                                \
	X(uffd_zeropage, SYS_ioctl)                                                                \
	X(uffd_move, SYS_ioctl)                                                                    \
	X(uffd_writeprotect, SYS_ioctl)                                                            \
	X(uffd_poison, SYS_ioctl)                                                                  \
	X(uffd_wake, SYS_ioctl)                                                                    \
	X(uffd_read, SYS_read)                                                                     \
	X(pagemap_scan, SYS_ioctl)                                                                 \
	X(uring_setup, 425)                                                                        \
	X(uring_enter, 426)                                                                        \
	X(getpid, SYS_getpid)                                                                      \
	X(gettid, SYS_gettid)                                                                      \
	X(pidfd_open, SYS_pidfd_open)                                                              \
	X(pidfd_getfd, SYS_pidfd_getfd)                                                            \
	X(sigaction, SYS_rt_sigaction)                                                             \
	X(sigprocmask, SYS_rt_sigprocmask)                                                         \
	X(sigpending, SYS_rt_sigpending)                                                           \
	X(sigtimedwait, SYS_rt_sigtimedwait)                                                       \
	X(tgkill, SYS_tgkill)                                                                      \
	X(exit_group, SYS_exit_group)                                                              \
	X(fcntl, SYS_fcntl)                                                                        \
	X(fstatfs, SYS_fstatfs)                                                                    \
	X(getrandom, SYS_getrandom)                                                                \
	X(socketpair, SYS_socketpair)                                                              \
	X(sendmsg, SYS_sendmsg)                                                                    \
	X(recvmsg, SYS_recvmsg)                                                                    \
	X(epoll_create, SYS_epoll_create1)                                                         \
	X(epoll_ctl, SYS_epoll_ctl)                                                                \
	X(epoll_wait, SYS_epoll_pwait)                                                             \
	X(socket, SYS_socket)                                                                      \
	X(connect, SYS_connect)                                                                    \
	X(readlink, SYS_readlinkat)                                                                \
	X(shmget, SYS_shmget)                                                                      \
	X(shmat, SYS_shmat)                                                                        \
	X(shmdt, SYS_shmdt)                                                                        \
	X(shmctl, SYS_shmctl)                                                                      \
	X(fstatat, SYS_newfstatat)                                                                 \
	X(bind, SYS_bind)                                                                          \
	X(getsockname, SYS_getsockname)                                                            \
	X(sendto, SYS_sendto)                                                                      \
	X(setsockopt, SYS_setsockopt)

SYS_NR_TABLE(ROW)

struct sys_entry sys_table[SYSROW_COUNT] = {
#define X(name, number) [SYSROW_##name] = {#name, number, row_##name},
	SYS_NR_TABLE(X)
#undef X
};

/*
 * What memory is ours, for verify.c: a place is taken by the exchange of its
 * start, and its end is set after; a place without an end is not read yet.
 * What finds no place is not known as ours.
 */
#define OWN_MAX 1024U

static struct {
	uintptr_t start, end;
} own[OWN_MAX];

static uint32_t own_pending; /* allocations between mmap(2) and a place */

static void own_add(uintptr_t start, size_t bytes)
{
	for (unsigned i = 0; i < OWN_MAX; i++) {
		uintptr_t none = 0;

		if (__atomic_load_n(&own[i].start, __ATOMIC_RELAXED) != 0 ||
		    !__atomic_compare_exchange_n(&own[i].start, &none, start, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		/* Release: pairs with sys_mem_own(), which reads the end first. */
		__atomic_store_n(&own[i].end, start + ((bytes + 4095) & ~(size_t)4095),
				 __ATOMIC_RELEASE);
		return;
	}
}

static void own_remove(uintptr_t start, size_t bytes)
{
	uintptr_t end = start + ((bytes + 4095) & ~(size_t)4095);

	for (unsigned i = 0; i < OWN_MAX; i++)
		if (__atomic_load_n(&own[i].start, __ATOMIC_RELAXED) == start &&
		    __atomic_load_n(&own[i].end, __ATOMIC_RELAXED) == end) {
			__atomic_store_n(&own[i].end, 0, __ATOMIC_RELAXED);
			__atomic_store_n(&own[i].start, 0, __ATOMIC_RELEASE);
			return;
		}
}

bool sys_mem_own(uintptr_t at, uintptr_t *end)
{
	*end = UINTPTR_MAX;
	for (unsigned i = 0; i < OWN_MAX; i++) {
		uintptr_t e = __atomic_load_n(&own[i].end, __ATOMIC_ACQUIRE);
		uintptr_t s = __atomic_load_n(&own[i].start, __ATOMIC_RELAXED);

		if (s == 0 || e <= at)
			continue;
		if (s <= at) {
			*end = e;
			return true;
		}
		if (s < *end)
			*end = s;
	}
	return false;
}

void sys_mem_nodump(void *p, size_t bytes)
{
	sys_bare(SYS_madvise, (long)p, (long)bytes, MADV_DONTDUMP, 0, 0, 0);
}

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) /* which has mapped the zone for itself */
/*
 * Where our own memory is.  A program may unmap memory and map something else
 * there with MAP_FIXED, relying on nobody else to map anything meanwhile: a
 * pager that did, where the kernel likes, could find itself overwritten.  So it
 * maps in a zone that the kernel does not choose, whatever the layout, and that
 * the other sanitizers' shadows and the common runtimes leave alone; addresses are
 * not used twice in a long time.
 */
#define ZONE_START ((uintptr_t)0x200000000000)
#define ZONE_END ((uintptr_t)0x2a0000000000)
#define ZONE_SKIP ((uintptr_t)1 << 30)
#define ZONE_TRIES 64U

static uintptr_t zone_next; /* atomic; 0: not chosen yet */

static uintptr_t zone_take(size_t span)
{
	uintptr_t at = __atomic_load_n(&zone_next, __ATOMIC_RELAXED);
	uintptr_t from;

	do {
		from = at;
		/* somewhere in it, as the stack is somewhere */
		if (from < ZONE_START || from + span > ZONE_END)
			from = ZONE_START + (((uintptr_t)&at >> 12 & 0xfffff) << 21);
	} while (!__atomic_compare_exchange_n(&zone_next, &at, from + span, 0, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return from;
}

static long map_at(size_t bytes, int prot, int flags, int fd, uint64_t off)
{
	size_t span = ((bytes + 4095) & ~(size_t)4095) + 4096; /* and a page that is not there */
	long r = -EEXIST;

	for (unsigned tries = 0; r == -EEXIST && tries < ZONE_TRIES; tries++) {
		if (tries != 0)
			zone_take(ZONE_SKIP);
		r = SYS6(mmap, zone_take(span), bytes, prot, flags | MAP_FIXED_NOREPLACE, fd, off);
	}
	return r;
}

bool sys_mem_zone(uintptr_t start)
{
	return start >= ZONE_START && start < ZONE_END;
}

/* As shmat(2) does not replace what is mapped already, it needs no flag for that. */
static long attach_at(int id, size_t bytes)
{
	long r = -EINVAL;

	for (unsigned tries = 0; r == -EINVAL && tries < ZONE_TRIES; tries++) {
		if (tries != 0)
			zone_take(ZONE_SKIP);
		r = SYS3(shmat, id, zone_take(bytes + 4096), 0);
	}
	return r;
}
#else
bool sys_mem_zone(uintptr_t start)
{
	return start != 0;
}

static long attach_at(int id, size_t bytes)
{
	(void)bytes;
	return SYS3(shmat, id, NULL, 0);
}

static long map_at(size_t bytes, int prot, int flags, int fd, uint64_t off)
{
	return SYS6(mmap, 0, bytes, prot, flags, fd, off);
}
#endif

void *sys_mem_map(size_t bytes, int flags, int fd, uint64_t off)
{
	long r = map_at(bytes, PROT_READ | PROT_WRITE, flags, fd, off);

	return sys_err(r) ? NULL : (void *)r;
}

long sys_mem_reserve(size_t bytes, int prot, int flags)
{
	return map_at(bytes, prot, flags | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *sys_mem_alloc(size_t bytes)
{
	void *p;

	__atomic_fetch_add(&own_pending, 1, __ATOMIC_ACQ_REL);
	p = sys_mem_map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p != NULL)
		own_add((uintptr_t)p, bytes);
	/* Release: who sees it gone sees the place; pairs with sys_mem_pending(). */
	__atomic_fetch_sub(&own_pending, 1, __ATOMIC_RELEASE);
	return p;
}

void *sys_mem_shared(size_t bytes)
{
	return sys_mem_map(bytes, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void *sys_mem_attach(int id, size_t bytes)
{
	long r;

	__atomic_fetch_add(&own_pending, 1, __ATOMIC_ACQ_REL);
	r = attach_at(id, bytes);
	if (!sys_err(r)) {
		sys_mem_nodump((void *)r, bytes);
		own_add((uintptr_t)r, bytes);
	}
	__atomic_fetch_sub(&own_pending, 1, __ATOMIC_RELEASE);
	return sys_err(r) ? NULL : (void *)r;
}

void sys_mem_detach(void *p)
{
	uintptr_t end;

	if (p == NULL)
		return;
	if (!sys_mem_own((uintptr_t)p, &end))
		end = (uintptr_t)p;
	SYS1(shmdt, p);
	own_remove((uintptr_t)p, end - (uintptr_t)p);
}

bool sys_mem_pending(void)
{
	return __atomic_load_n(&own_pending, __ATOMIC_ACQUIRE) != 0;
}

void sys_mem_free(void *p, size_t bytes)
{
	if (p == NULL)
		return;
	SYS2(munmap, p, bytes);
	own_remove((uintptr_t)p, bytes); /* last: until it is unmapped it is ours */
}

uint64_t sys_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}
