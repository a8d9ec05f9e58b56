/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mmap.h - the memory calls of a managed process, with the kernel's contract.
 *
 * Each function stands in for the system call of its name: same arguments,
 * same result or -errno.  It may be given any range: what is not managed by
 * mm goes to the kernel as it is.  Callers are application threads, in the API
 * or in a hook; never a pager.
 *
 * No lock is held while the kernel could make the caller wait for a pager:
 * while nothing is armed the calling thread does the work itself under the mm
 * lock; afterwards it hands the call to a pager (hop.h).  Signals are blocked
 * meanwhile; those of a program under the preload library are put off by its
 * hooks, and so they are the hooks' affair.
 */
#ifndef FL_MMAP_H
#define FL_MMAP_H

#include "choose.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mm;
struct pager;

long mm_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags, int fd, long off);
/* From byte `off` on, which becomes m->pgoff.  Of a backing: fd -1 and its page cache. */
struct map_file;
long mm_mmap_file(struct mm *mm, struct map_file *m, long off);
long mm_msync(struct mm *mm, uintptr_t addr, size_t len, int flags);
/* At exit(3), beside other threads: what is stored by now is written to its files; what cannot be is told in the log. */
void mm_write_out(struct mm *mm);
long mm_ftruncate(struct mm *mm, int fd, long len);
/* SYS_truncate or SYS_ftruncate with its arguments, which the caller makes itself. */
long mm_truncate(struct mm *mm, long nr, const long a[2]);
long mm_mincore(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec);
/*
 * Which mappings of files are managed (choose.h), of a MM_PRELOAD mm before the
 * program runs; both texts stay, and either may be NULL.
 */
void mm_choose_files(struct mm *mm, const char *patterns, const char *mount);
uint64_t mm_files_made(const struct mm *mm, enum choice how); /* so many were */
long mm_munmap(struct mm *mm, uintptr_t addr, size_t len);
long mm_mremap(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
	       uintptr_t new_addr);
long mm_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot,
		 int pkey); /* pkey -1: mprotect(2) */
long mm_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice);
long mm_mlock2(struct mm *mm, uintptr_t addr, size_t len, unsigned flags);
long mm_munlock(struct mm *mm, uintptr_t addr, size_t len);
long mm_mlockall(struct mm *mm, int flags);
long mm_munlockall(struct mm *mm);
long mm_brk(struct mm *mm, uintptr_t addr);
long mm_remap_file_pages(struct mm *mm, uintptr_t addr, size_t len, int prot, size_t pgoff,
			 int flags);
long mm_shmat(struct mm *mm, int shmid, uintptr_t addr, int flags);
long mm_shmdt(struct mm *mm, uintptr_t addr);

/* Is a managed mapping of a file there?  From anywhere, a signal's handler among it. */
bool mm_is_file(const struct mm *mm, uintptr_t addr);

/* Is memory being paged? */
bool mm_is_armed(const struct mm *mm);

/* Whether the caller is the only thread of the process that is no pager. */
bool mm_alone(const struct mm *mm);

/*
 * exit(2) of the calling thread: that of the only one, as when a function that
 * clone(3) was given returns, ends the process, and so it must with pagers beside.
 * Signals are put off.
 */
void mm_exit(struct mm *mm, int status);

/* The program has set a seccomp filter: its threads may not make system calls of ours. */
void mm_filtered(struct mm *mm);
bool mm_is_filtered(const struct mm *mm);

/*
 * fn(p, arg), which makes some: where there are pagers on one of them, with the mm lock held,
 * which neither such a filter hinders nor a full descriptor table; arg points to nothing.
 * Under a filter and without a pager the result is 0.  Signals are put off.
 */
long mm_ask(struct mm *mm, long (*fn)(struct pager *p, void *arg), void *arg);

/* Arm when what is mapped could pass the limit: after the limit or the regions changed. */
long mm_arm_if_tight(struct mm *mm);

/* Have pagers run, so that a call can be handed to one; 0 or -errno, with one line said. */
long mm_start(struct mm *mm);

/* When a process gives up system calls: no pager can start then, and what needs one is refused. */
void mm_confine(struct mm *mm);

/*
 * A call in two halves, for who can make it on the caller's stack with nothing of
 * ours beneath (entry.S): mmap(2), munmap(2), mprotect(2) and madvise(2) of memory
 * that is managed or about to be, in a process that is not armed.  Of a
 * MM_PRELOAD mm; signals are put off until the end of the second half.
 *
 * mm_hold(): true: the call is to be made with these very arguments, and
 * mm_follow() is to be told its result, which may become another; the mm lock is
 * held meanwhile.  False: nothing was done, and one of the functions above does it.
 */
bool mm_hold(struct mm *mm, long nr, const long a[6]);
long mm_follow(struct mm *mm, long nr, const long a[6], long r);

struct verify;

/*
 * Hold what the kernel has mapped against what is managed: the number of
 * differences, or -errno; more in v, which is not managed memory.
 */
long mm_verify(struct mm *mm, struct verify *v);

/* The state of each page of a range into vec, which is not managed memory. */
long mm_page_state(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec);

/*
 * The fork that a system call (SYS_fork, SYS_clone or SYS_clone3 without
 * CLONE_VM and without a stack) asks for, with all managed memory: its result,
 * in parent and child.  -ENOMEM, with one line said, when a child could not be
 * given its memory.  The caller has blocked signals.
 */
long mm_fork(struct mm *mm, long nr, const long arg[6]);

#endif
