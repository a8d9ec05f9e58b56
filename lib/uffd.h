/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * uffd.h - userfaultfd's ioctls, with one classification of their errors.
 *
 * Each function goes on after a partial result or EAGAIN until the whole range
 * is done or an error stands; *done (where there is one) gets the bytes that
 * succeeded.  Nothing here locks: the caller holds the mm lock where the page
 * entries must agree with what is done.
 */
#ifndef FL_UFFD_H
#define FL_UFFD_H

#include "uffd-abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum uffd_result {
	UFFD_OK,
	UFFD_EXIST, /* something is mapped there already; who waits is not woken */
	UFFD_GONE,  /* the range is not mapped, not registered or absent any more: look again */
	UFFD_BUSY,  /* the frame is shared or pinned: try another time */
	UFFD_UNFIT, /* this kind of mapping cannot take the operation */
	UFFD_NOMEM,
	UFFD_FATAL, /* the descriptor or the arguments are wrong: a defect */
};

/* Features that faultline cannot do without. */
#define UFFD_NEEDED                                                                                \
	((uint64_t)UFFD_FEATURE_MOVE | UFFD_FEATURE_POISON | UFFD_FEATURE_PAGEFAULT_FLAG_WP |      \
	 UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MISSING_SHMEM |       \
	 UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

/* /dev/userfaultfd, or -errno. */
long uffd_device(void);

/* A non-blocking descriptor from that device, or from the system call where that is an error. */
long uffd_open(long device);

/* The same, of which each fault is a SIGBUS to the thread that takes it. */
long uffd_open_sigbus(long device);

int uffd_register(int fd, uintptr_t start, size_t len, bool wp);
/* A shared mapping of a memfd, with what is missing, cached and not mapped, or write-protected. */
int uffd_register_shared(int fd, uintptr_t start, size_t len);
int uffd_unregister(int fd, uintptr_t start, size_t len);
enum uffd_result uffd_copy(int fd, uintptr_t dst, const void *src, size_t len, bool wp,
			   size_t *done);
/* Map pages that the memfd behind the mapping holds. */
enum uffd_result uffd_continue(int fd, uintptr_t start, size_t len, bool wp, size_t *done);
enum uffd_result uffd_zeropage(int fd, uintptr_t dst, size_t len, size_t *done);
/*
 * pagemap_fd: of /proc/self/pagemap, or -1: then mincore(2) is asked.  The kernel may move pages and
 * answer that it did not (Linux 6.18: EEXIST and a count of 0, while forked
 * processes share frames and end): what a failed call left is looked at.
 */
enum uffd_result uffd_move(int fd, int pagemap_fd, uintptr_t dst, uintptr_t src, size_t len,
			   size_t *done);
enum uffd_result uffd_writeprotect(int fd, uintptr_t start, size_t len, bool on);
/*
 * How that page's address space is, which is asked once: who it belongs to could have the answer put
 * off for as long as he likes (an event that nobody reads), and has it mapped then as
 * far as that is known.  What is there is write-protected.
 */
enum uffd_life {
	UFFD_DEAD,
	UFFD_ALIVE,  /* nothing is registered there */
	UFFD_MAPPED, /* or may be */
};
enum uffd_life uffd_life(int fd, uintptr_t addr);
enum uffd_result uffd_poison(int fd, uintptr_t start, size_t len);
void uffd_wake(int fd, uintptr_t start, size_t len);

/* Read up to n messages: how many, 0 when none waits, or -errno. */
ssize_t uffd_read(int fd, struct uffd_msg *msgs, unsigned n);

/*
 * Where the kernel's mapping that holds addr ends; 0 when there is none, or
 * the kernel does not say (before 6.11).  The ioctls above that install or
 * move pages take a range within one mapping only, and a region may consist
 * of several.
 */
uintptr_t uffd_vma_end(int maps_fd, uintptr_t addr);

/* The first mapping that ends above addr: where it starts and ends.  False: none. */
bool uffd_vma_next(int maps_fd, uintptr_t addr, uintptr_t *start, uintptr_t *end);

/* How many of len bytes from addr lie in one mapping: at least a page. */
size_t uffd_vma_part(int maps_fd, uintptr_t addr, size_t len);

/*
 * Runs of pages of [start, end) that have a frame or a kernel swap entry.
 * Fills vec, sets *next to where the walk stopped.  A count or -errno.
 */
long uffd_scan_present(int pagemap_fd, uintptr_t start, uintptr_t end, struct page_region *vec,
		       unsigned n, uintptr_t *next);

/* The same of those that are not write-protected by a userfaultfd. */
long uffd_scan_written(int pagemap_fd, uintptr_t start, uintptr_t end, struct page_region *vec,
		       unsigned n, uintptr_t *next);

#endif
