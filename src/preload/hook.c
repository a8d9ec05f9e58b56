/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hook.c - from a system call's number to the mm's function; see hook.h.
 *
 * Runs on the program's threads, wherever the program makes the call: between
 * vfork and exec, in signal handlers, inside malloc.  It calls nothing of the
 * C library but memory and string functions.  Of locks it holds patch_lock around a
 * fork, and, while nothing is armed, the mm lock from hook_call() to hook_made().
 *
 * What is left to the kernel: a clone that shares memory (threads, vfork,
 * posix_spawn), exec, affinities, once nothing of ours shows in them, and
 * whatever only watches.
 *
 * Accepted: what the arguments of rt_sigaction(2), clone3(2) and
 * process_madvise(2) point to is read here as the program itself would read it:
 * a bad address raises SIGSEGV, where the kernel's answer is EFAULT.
 */
#include "hook.h"

#include "entry-offsets.h"
#include "entry.h"
#include "filter.h"
#include "mm.h"
#include "mmap.h"
#include "near.h"
#include "patch.h"
#include "report.h"
#include "signals.h"
#include "sys.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

#define CLONE3_SIZE_MAX 256U /* more than any kernel knows of */

/* process_madvise(2)'s own name for the calling process (Linux 6.14). */
#define PIDFD_SELF_PROCESS (-10001)
#define PIDFD_SELF_THREAD (-10000)

/* What hook_call() returns, beside HOOK_HELD. */
#define IN_PLACE 0
#define SERVED 1
#define ON_STACK 2

static struct mm *hook_mm;
static bool no_children;
static bool unseen_said;		    /* atomic */
static uint64_t verify_every, verify_calls; /* calls: atomic */

/* The bytes of a mapping of `len` bytes from `off` that are backed by the file fd. */
static size_t backed(int fd, long off, size_t len)
{
	struct stat st;
	size_t whole;

	if (sys_err(SYS2(fstat, fd, &st)) || st.st_size <= off)
		return 0;
	whole = (size_t)(st.st_size - off);
	return whole < len ? whole : len;
}

/*
 * Code that arrives now (dlopen, dlmopen) brings system-call sites of its own.
 * Under a filter they are left: to patch them takes system calls.
 */
static long do_mmap(const long *a)
{
	size_t len = (size_t)a[1];
	int prot = (int)a[2], flags = (int)a[3], fd = (int)a[4];
	long r = mm_mmap(hook_mm, (uintptr_t)a[0], len, prot, flags, fd, a[5]);

	if (!sys_err(r) && (prot & PROT_EXEC) != 0 && (prot & PROT_READ) != 0 &&
	    (flags & (MAP_ANONYMOUS | MAP_TYPE)) == MAP_PRIVATE && !mm_is_filtered(hook_mm) &&
	    !patch_mapping((unsigned char *)r, backed(fd, a[5], len)) &&
	    !__atomic_exchange_n(&unseen_said, true, __ATOMIC_RELAXED))
		log_line_own(&hook_mm->sink, FL_LOG_WARN,
			     "code that was mapped at 0x%lx cannot be patched: memory calls that "
			     "it makes itself are not seen",
			     r);
	return r;
}

/* A child with memory of its own, on the caller's stack. */
static int do_fork(struct hook_call *c, long nr)
{
	uint64_t all = ~(uint64_t)0, old;
	bool alone = near_waits(hook_mm);
	long r;

	SYS4(sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
	near_leave(hook_mm);
	patch_fork_begin(alone);
	r = mm_fork(hook_mm, nr, c->arg);
	if (r == 0) {
		if (no_children && !mm_is_armed(hook_mm))
			hook_mm = NULL;
		else
			report_forked();
	}
	patch_fork_end(alone, r == 0);
	SYS4(sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	c->result = r;
	return SERVED;
}

/*
 * A child that is to start on a stack of its own comes up on a copy of the
 * caller's first, where what a fork needs is done, and goes over to it last.
 * The call itself names no stack.
 */
static int go_on_stack(struct hook_call *c, int served, uintptr_t stack)
{
	if (stack == 0 || c->result != 0)
		return served;
	c->rcx = (long)stack;
	return ON_STACK;
}

/*
 * The calls that concern affinities are patched when they come to matter: when
 * paging has begun, and before the process has a second thread, for text is not
 * written under others.  Where it has one already, which no hook saw, nobody is
 * ever bound.
 */
static __attribute__((noinline)) void see_affinity(void)
{
	uint64_t all = ~(uint64_t)0, old;

	SYS4(sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
	if (mm_alone(hook_mm) && patch_affinity())
		near_begin(hook_mm);
	else
		near_end(hook_mm);
	SYS4(sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

static inline void after_memory_call(void)
{
	if (hook_mm != NULL && mm_is_armed(hook_mm) && near_waits(hook_mm))
		see_affinity();
}

/* A thread, or a child that shares memory; of the latter's kind one that its parent waits for is none. */
static int share_memory(uint64_t flags)
{
	if ((flags & CLONE_VM) && !(flags & CLONE_VFORK) && near_waits(hook_mm))
		see_affinity();
	near_leave(hook_mm);
	return IN_PLACE;
}

static int do_clone(struct hook_call *c)
{
	long stack = c->arg[1];
	int r;

	if (c->arg[0] & CLONE_VM)
		return share_memory((uint64_t)c->arg[0]);
	c->arg[1] = 0;
	r = do_fork(c, SYS_clone);
	c->arg[1] = stack;
	return go_on_stack(c, r, (uintptr_t)stack);
}

static int do_clone3(struct hook_call *c)
{
	const struct clone_args *args = (const struct clone_args *)c->arg[0];
	size_t size = (size_t)c->arg[1];
	union {
		struct clone_args args;
		char bytes[CLONE3_SIZE_MAX];
	} copy;
	int r;

	/* what the kernel refuses, it refuses by itself */
	if (args == NULL || size < CLONE_ARGS_SIZE_VER0)
		return share_memory(0);
	if (size > sizeof(copy) || (args->flags & CLONE_VM) ||
	    (args->stack == 0) != (args->stack_size == 0))
		return share_memory(args->flags);
	memcpy(&copy, args, size);
	copy.args.stack = copy.args.stack_size = 0;
	c->arg[0] = (long)&copy;
	r = do_fork(c, SYS_clone3);
	c->arg[0] = (long)args;
	return go_on_stack(c, r, args->stack + args->stack_size);
}

/* Does this pidfd stand for the calling process: 1, 0 or -errno.  Its fdinfo tells. */
static long look_up_self(struct pager *p, void *pidfd)
{
	char path[64], text[1024];
	const char *line;
	long fd, n, pid = 0;

	(void)p;
	log_format(path, sizeof(path), "/proc/self/fdinfo/%d", (int)(intptr_t)pidfd);
	fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (sys_err(fd))
		return fd == -ENOENT ? 0 : fd;
	n = SYS3(read, fd, text, sizeof(text) - 1);
	SYS1(close, fd);
	if (n <= 0)
		return n;
	text[n] = '\0';
	line = strstr(text, "\nPid:\t");
	if (line == NULL)
		return 0;
	for (line += 6; *line >= '0' && *line <= '9'; line++)
		pid = pid * 10 + (*line - '0');
	return pid == SYS0(getpid);
}

/* The same.  Where nobody can look it up, nothing is paged, and the kernel may be left to it. */
static long is_self(int pidfd)
{
	if (pidfd == PIDFD_SELF_PROCESS || pidfd == PIDFD_SELF_THREAD)
		return 1;
	return mm_ask(hook_mm, look_up_self, (void *)(intptr_t)pidfd);
}

/* As the kernel does it: range by range, the bytes advised so far, else the first error. */
static int do_process_madvise(struct hook_call *c)
{
	const struct iovec *iov = (const struct iovec *)c->arg[1];
	unsigned long n = (unsigned long)c->arg[2];
	long done = 0, r, self;

	if (n == 0 || n > IOV_MAX || c->arg[4] != 0)
		return IN_PLACE;
	self = is_self((int)c->arg[0]);
	if (self == 0 || (self < 0 && !mm_is_armed(hook_mm)))
		return IN_PLACE;
	/* behind our back the kernel would advise what is present alone */
	r = self < 0 ? -ENOMEM : 0;
	for (unsigned long i = 0; i < n && r == 0; i++) {
		uintptr_t start = (uintptr_t)iov[i].iov_base;

		r = mm_madvise(hook_mm, start, iov[i].iov_len, (int)c->arg[3]);
		if (r == 0)
			done += (long)iov[i].iov_len;
	}
	c->result = done != 0 ? done : r;
	return SERVED;
}

#define STACK_NEED 2048

/*
 * A stack that overflows does it here, where nothing is held and the program's
 * handler may jump away, rather than in the middle of the work.
 */
static inline void reach_stack(void)
{
	const char *frame = __builtin_frame_address(0);

	(void)*(const volatile char *)(frame - STACK_NEED);
}

/* Every call but those that may fork; signals wait. */
static int serve(struct hook_call *c, long nr)
{
	struct mm *mm = hook_mm;
	const long *a = c->arg;
	uintptr_t addr = (uintptr_t)a[0];
	size_t len = (size_t)a[1];

	if (nr == SYS_rt_sigaction) {
		/* shells' children make many, and would have to map the table of the cases first */
		c->result = signal_action(a);
		return SERVED;
	}
	switch (nr) {
	case SYS_mmap:
		c->result = do_mmap(a);
		return SERVED;
	case SYS_munmap:
		c->result = mm_munmap(mm, addr, len);
		return SERVED;
	case SYS_mremap:
		c->result = mm_mremap(mm, addr, len, (size_t)a[2], (int)a[3], (uintptr_t)a[4]);
		return SERVED;
	case SYS_mprotect:
		c->result = mm_mprotect(mm, addr, len, (int)a[2], -1);
		return SERVED;
	case SYS_pkey_mprotect:
		c->result = mm_mprotect(mm, addr, len, (int)a[2], (int)a[3]);
		return SERVED;
	case SYS_madvise:
		c->result = mm_madvise(mm, addr, len, (int)a[2]);
		return SERVED;
	case SYS_process_madvise:
		return do_process_madvise(c);
	case SYS_brk:
		c->result = mm_brk(mm, addr);
		return SERVED;
	case SYS_remap_file_pages:
		c->result = mm_remap_file_pages(mm, addr, len, (int)a[2], (size_t)a[3], (int)a[4]);
		return SERVED;
	case SYS_shmat:
		c->result = mm_shmat(mm, (int)a[0], (uintptr_t)a[1], (int)a[2]);
		return SERVED;
	case SYS_shmdt:
		c->result = mm_shmdt(mm, addr);
		return SERVED;
	case SYS_mlock:
		c->result = mm_mlock2(mm, addr, len, 0);
		return SERVED;
	case SYS_mlock2:
		c->result = mm_mlock2(mm, addr, len, (unsigned)a[2]);
		return SERVED;
	case SYS_munlock:
		c->result = mm_munlock(mm, addr, len);
		return SERVED;
	case SYS_mlockall:
		c->result = mm_mlockall(mm, (int)a[0]);
		return SERVED;
	case SYS_munlockall:
		c->result = mm_munlockall(mm);
		return SERVED;
	case SYS_msync:
		c->result = mm_msync(mm, addr, len, (int)a[2]);
		return SERVED;
	case SYS_mincore:
		c->result = mm_mincore(mm, addr, len, (unsigned char *)a[2]);
		return SERVED;
	case SYS_truncate:
	case SYS_ftruncate:
		c->result = mm_truncate(mm, nr, a);
		return SERVED;
	case SYS_seccomp:
		if (a[0] != SECCOMP_SET_MODE_FILTER && a[0] != SECCOMP_SET_MODE_STRICT)
			return IN_PLACE;
		filter_seccomp(mm, c);
		return SERVED;
	case SYS_prctl:
		if (a[0] != PR_SET_SECCOMP ||
		    (a[1] != SECCOMP_MODE_FILTER && a[1] != SECCOMP_MODE_STRICT))
			return IN_PLACE;
		filter_prctl(mm, c);
		return SERVED;
	case SYS_sched_getaffinity:
	case SYS_sched_setaffinity:
	case SYS_vfork:
	case SYS_execve:
	case SYS_execveat:
		near_leave(mm);
		return IN_PLACE;
	case SYS_exit:
		mm_exit(mm, (int)a[0]);
		return IN_PLACE;
	case SYS_exit_group:
		report_exit();
		return IN_PLACE;
	case SYS_close:
		report_closing((unsigned)a[0], (unsigned)a[0]);
		return IN_PLACE;
	case SYS_close_range:
		if (((unsigned)a[2] & CLOSE_RANGE_CLOEXEC) == 0)
			report_closing((unsigned)a[0], (unsigned)a[1]);
		return IN_PLACE;
	default:
		return IN_PLACE;
	}
}

void hook_files(void)
{
	static const short calls[] = {SYS_msync, SYS_mincore, SYS_truncate, SYS_ftruncate};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		entry_want((unsigned)calls[i]);
}

bool hook_is_file(uintptr_t addr)
{
	return hook_mm != NULL && mm_is_file(hook_mm, addr);
}

void hook_no_children(void)
{
	no_children = true;
}

/* With signals put off, or blocked where that cannot be done. */
static int serve_held(struct hook_call *c, long nr)
{
	uint64_t all = ~(uint64_t)0, old;
	int r;

	reach_stack();
	if (!__atomic_load_n(&signal_waiting, __ATOMIC_ACQUIRE)) {
		SYS4(sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
		r = serve(c, nr);
		SYS4(sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
		return r;
	}
	signal_hold();
	r = serve(c, nr);
	signal_release();
	return r;
}

/* With signals put off, a call that entry.S is to make; false: it is another's to serve. */
static inline bool hold(const struct hook_call *c, long nr)
{
	if (!__atomic_load_n(&signal_waiting, __ATOMIC_ACQUIRE))
		return false;
	reach_stack();
	signal_hold();
	if (mm_hold(hook_mm, nr, c->arg))
		return true;
	signal_release();
	return false;
}

static void verify_due(void)
{
	if (verify_every != 0 &&
	    __atomic_add_fetch(&verify_calls, 1, __ATOMIC_RELAXED) % verify_every == 0)
		report_verify();
}

static __attribute__((noinline)) int call_other(struct hook_call *c, long nr)
{
	int r;

	/* handlers stay in our table whatever becomes of the rest */
	if (hook_mm == NULL && nr != SYS_rt_sigaction)
		return IN_PLACE;
	switch (nr) {
	case SYS_fork:
		return do_fork(c, nr);
	case SYS_clone:
		return do_clone(c);
	case SYS_clone3:
		return do_clone3(c);
	default:
		break;
	}
	r = serve_held(c, nr);
	after_memory_call();
	if (r == SERVED)
		verify_due();
	return r;
}

int hook_call(struct hook_call *c, long nr)
{
	switch (nr) {
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mprotect:
	case SYS_madvise:
		if (hook_mm != NULL && hold(c, nr))
			return HOOK_HELD;
		break;
	default:
		break;
	}
	return call_other(c, nr);
}

int hook_made(struct hook_call *c, long nr, long result)
{
	c->result = mm_follow(hook_mm, nr, c->arg, result);
	signal_release();
	after_memory_call();
	verify_due();
	return SERVED;
}

void hook_init(struct mm *mm, uint64_t every)
{
	static const short calls[] = {
		SYS_mmap,	   SYS_munmap,
		SYS_mremap,	   SYS_mprotect,
		SYS_pkey_mprotect, SYS_madvise,
		SYS_brk,	   SYS_process_madvise,
		SYS_shmat,	   SYS_remap_file_pages,
		SYS_shmdt,	   SYS_mlock,
		SYS_mlock2,	   SYS_munlock,
		SYS_mlockall,	   SYS_munlockall,
		SYS_fork,	   SYS_clone,
		SYS_clone3,	   SYS_rt_sigaction,
		SYS_prctl,	   SYS_seccomp,
		SYS_exit,	   SYS_sched_getaffinity,
		SYS_vfork,	   SYS_sched_setaffinity,
		SYS_execve,	   SYS_execveat,
	};

	hook_mm = mm;
	verify_every = every;
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		entry_want((unsigned)calls[i]);
}
