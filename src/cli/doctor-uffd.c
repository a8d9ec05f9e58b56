/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor-uffd.c - does this kernel's userfaultfd do what faultline needs?
 *
 * Each feature is tried: a thread runs into a fault, the fault is read and
 * answered, and what the thread then saw is compared.  The first check opens
 * the descriptor; the others are untried when it could not.
 *
 * No check can hang: a fault that is not reported within TRY_MS is a feature
 * that is missing, and unregistering the range sets the thread free.
 */
#include "doctor.h"

#include "uffd-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096U
#define TRY_MS 2000
#define DEVICE "/dev/userfaultfd"

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

static int uffd = -1;
static uint64_t features; /* what the kernel says it has */

/* A thread that touches one page: what it is to do, and what came of it. */
struct toucher {
	unsigned char *page;
	enum { TOUCH_READ, TOUCH_WRITE, TOUCH_KERNEL } how;
	pid_t tid;
	unsigned char saw;
	long result;
	int pipe[2];
};

static int new_uffd(uint64_t want, uint64_t *have)
{
	struct uffdio_api api = {.api = UFFD_API, .features = want};
	int dev = open(DEVICE, O_RDWR | O_CLOEXEC), fd, err;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		err = errno;
		close(dev);
	} else {
		err = errno;
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0)
		return -err;
	if (ioctl(fd, UFFDIO_API, &api) != 0) {
		err = errno;
		close(fd);
		return -err;
	}
	*have = api.features;
	return fd;
}

static const char *user_name(void)
{
	const struct passwd *pw = getpwuid(getuid());

	return pw != NULL ? pw->pw_name : "USER";
}

static enum check_state check_device(struct check_result *res)
{
	uint64_t enabled;
	int fd = new_uffd(0, &features);

	if (fd >= 0) {
		close(fd);
		/* the first handshake tells what there is, the second asks for it */
		fd = new_uffd(features & (UFFD_FEATURE_MOVE | UFFD_FEATURE_POISON |
					  UFFD_FEATURE_PAGEFAULT_FLAG_WP |
					  UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_THREAD_ID),
			      &enabled);
	}
	if (fd >= 0) {
		uffd = fd;
		if (access(DEVICE, R_OK | W_OK) == 0)
			check_found(res, "%s can be opened", DEVICE);
		else
			check_found(res, "by the system call (%s: %s)", DEVICE, strerror(errno));
		return CHECK_OK;
	}
	check_found(res, "%s: %s", DEVICE, strerror(-fd));
	if (fd == -EACCES || fd == -EPERM)
		check_mend(res,
			   "sudo sh -c 'groupadd -rf faultline; usermod -aG faultline %s; chgrp "
			   "faultline %s; chmod 660 %s' && newgrp faultline",
			   user_name(), DEVICE, DEVICE);
	else if (fd == -ENOENT || fd == -ENOSYS)
		check_mend(res, "boot a kernel that has CONFIG_USERFAULTFD=y");
	return CHECK_MISSING;
}

static unsigned char *map_pages(unsigned n)
{
	void *p = mmap(NULL, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, (size_t)n * PAGE, MADV_NOHUGEPAGE);
	return p;
}

static int register_pages(unsigned char *p, unsigned n, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = {.start = (uintptr_t)p, .len = (uint64_t)n * PAGE},
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

/* Unregistering wakes whoever still waits. */
static void drop_pages(unsigned char *p, unsigned n)
{
	struct uffdio_range range = {.start = (uintptr_t)p, .len = (uint64_t)n * PAGE};

	ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

static int copy_page(unsigned char *dst, const unsigned char *src, uint64_t mode)
{
	struct uffdio_copy arg = {
		.dst = (uintptr_t)dst, .src = (uintptr_t)src, .len = PAGE, .mode = mode};

	return ioctl(uffd, UFFDIO_COPY, &arg);
}

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->tid = (pid_t)syscall(SYS_gettid);
	switch (t->how) {
	case TOUCH_READ:
		t->saw = *(volatile unsigned char *)t->page;
		break;
	case TOUCH_WRITE:
		*(volatile unsigned char *)t->page = 0x77;
		t->saw = t->page[1];
		break;
	case TOUCH_KERNEL:
		t->result = read(t->pipe[0], t->page, 1);
		t->saw = t->page[1];
		break;
	}
	return NULL;
}

/* Wait for the one fault that a toucher takes; 0, or -1 when none was told. */
static int next_fault(struct uffd_msg *msg)
{
	struct pollfd p = {.fd = uffd, .events = POLLIN};

	if (poll(&p, 1, TRY_MS) != 1)
		return -1;
	return read(uffd, msg, sizeof(*msg)) == sizeof(*msg) && msg->event == UFFD_EVENT_PAGEFAULT
		       ? 0
		       : -1;
}

/*
 * Let a thread touch an absent page, answer with a page full of `fill`, and
 * see it arrive.
 */
static bool fault_is_answered(int how, unsigned char fill, bool *right_thread)
{
	struct toucher t = {.how = how, .pipe = {-1, -1}};
	unsigned char *page = map_pages(2), *src = page + PAGE;
	struct uffd_msg msg;
	bool told = false;
	pthread_t thread;

	if (page == NULL || register_pages(page, 1, UFFDIO_REGISTER_MODE_MISSING) != 0)
		return false;
	memset(src, fill, PAGE);
	t.page = page;
	if (how == TOUCH_KERNEL && (pipe(t.pipe) != 0 || write(t.pipe[1], "k", 1) != 1))
		return false;
	if (pthread_create(&thread, NULL, touch, &t) != 0)
		return false;
	told = next_fault(&msg) == 0 && copy_page(page, src, 0) == 0;
	if (!told)
		drop_pages(page, 1);
	pthread_join(thread, NULL);
	if (right_thread != NULL)
		*right_thread = told && msg.arg.pagefault.feat.ptid == (uint32_t)t.tid;
	told = told && t.saw == fill && (how != TOUCH_KERNEL || (t.result == 1 && page[0] == 'k'));
	if (how == TOUCH_KERNEL) {
		close(t.pipe[0]);
		close(t.pipe[1]);
	}
	munmap(page, 2 * PAGE);
	return told;
}

static enum check_state by_feature(struct check_result *res, bool works, uint64_t bit,
				   const char *since)
{
	if (works) {
		check_found(res, "works");
		return CHECK_OK;
	}
	if (bit != 0 && (features & bit) == 0)
		check_found(res, "the kernel lacks it; it came with Linux %s", since);
	else
		check_found(res, "was tried and does not work");
	check_mend(res, "boot Linux %s or later", since);
	return CHECK_MISSING;
}

static enum check_state untried(struct check_result *res)
{
	check_found(res, "not tried without userfaultfd");
	return CHECK_UNTRIED;
}

static enum check_state check_missing(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, fault_is_answered(TOUCH_READ, 0x5a, NULL), 0, "6.8");
}

static enum check_state check_kernel_mode(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, fault_is_answered(TOUCH_KERNEL, 0x33, NULL), 0, "6.8");
}

static enum check_state check_thread_id(struct check_result *res)
{
	bool right = false;

	if (uffd < 0)
		return untried(res);
	return by_feature(res, fault_is_answered(TOUCH_WRITE, 0x21, &right) && right,
			  UFFD_FEATURE_THREAD_ID, "4.14");
}

/* A page that is copied in write-protected tells of the first write and keeps its bytes. */
static bool write_protect_works(void)
{
	struct toucher t = {.how = TOUCH_WRITE};
	unsigned char *page = map_pages(2), *src = page + PAGE;
	struct uffdio_writeprotect wp = {.range = {.start = (uintptr_t)page, .len = PAGE}};
	struct uffd_msg msg;
	pthread_t thread;
	bool told;

	if (page == NULL ||
	    register_pages(page, 1, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP) != 0)
		return false;
	memset(src, 0x42, PAGE);
	if (copy_page(page, src, UFFDIO_COPY_MODE_WP) != 0)
		return false;
	t.page = page;
	if (pthread_create(&thread, NULL, touch, &t) != 0)
		return false;
	told = next_fault(&msg) == 0 && (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0 &&
	       ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) == 0;
	if (!told)
		drop_pages(page, 1);
	pthread_join(thread, NULL);
	told = told && page[0] == 0x77 && t.saw == 0x42;
	munmap(page, 2 * PAGE);
	return told;
}

static enum check_state check_wp(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, write_protect_works(), UFFD_FEATURE_PAGEFAULT_FLAG_WP, "5.7");
}

/* Write-protecting an absent page makes its first touch a write-protect fault, too. */
static bool wp_unpopulated_works(void)
{
	unsigned char *page = map_pages(1);
	struct uffdio_writeprotect wp = {.range = {.start = (uintptr_t)page, .len = PAGE},
					 .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	struct toucher t = {.how = TOUCH_WRITE};
	struct uffd_msg msg;
	pthread_t thread;
	bool told;

	if (page == NULL || (features & UFFD_FEATURE_WP_UNPOPULATED) == 0 ||
	    register_pages(page, 1, UFFDIO_REGISTER_MODE_WP) != 0 ||
	    ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) != 0)
		return false;
	t.page = page;
	if (pthread_create(&thread, NULL, touch, &t) != 0)
		return false;
	wp.mode = 0;
	told = next_fault(&msg) == 0 && (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0 &&
	       ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) == 0;
	if (!told)
		drop_pages(page, 1);
	pthread_join(thread, NULL);
	told = told && page[0] == 0x77;
	munmap(page, PAGE);
	return told;
}

static enum check_state check_wp_unpopulated(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, wp_unpopulated_works(), UFFD_FEATURE_WP_UNPOPULATED, "6.4");
}

static bool move_works(void)
{
	unsigned char *pages = map_pages(2);
	struct uffdio_move mv = {
		.dst = (uintptr_t)pages + PAGE, .src = (uintptr_t)pages, .len = PAGE};
	bool works;

	if (pages == NULL)
		return false;
	memset(pages, 0x6d, PAGE);
	works = register_pages(pages, 2, UFFDIO_REGISTER_MODE_MISSING) == 0 &&
		ioctl(uffd, UFFDIO_MOVE, &mv) == 0 && mv.move == PAGE && pages[PAGE] == 0x6d &&
		pages[2 * PAGE - 1] == 0x6d;
	munmap(pages, 2 * PAGE);
	return works;
}

static enum check_state check_move(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, move_works(), UFFD_FEATURE_MOVE, "6.8");
}

/* A system call that reads a poisoned page fails where a load would raise SIGBUS. */
static bool poison_works(void)
{
	unsigned char *page = map_pages(1);
	struct uffdio_poison arg = {.range = {.start = (uintptr_t)page, .len = PAGE}};
	bool works;
	int fds[2];

	if (page == NULL || pipe(fds) != 0)
		return false;
	works = register_pages(page, 1, UFFDIO_REGISTER_MODE_MISSING) == 0 &&
		ioctl(uffd, UFFDIO_POISON, &arg) == 0 && write(fds[1], page, 1) == -1;
	close(fds[0]);
	close(fds[1]);
	munmap(page, PAGE);
	return works;
}

static enum check_state check_poison(struct check_result *res)
{
	if (uffd < 0)
		return untried(res);
	return by_feature(res, poison_works(), UFFD_FEATURE_POISON, "6.6");
}

/* Of four pages one was touched: the scan has to find that one. */
static enum check_state check_pagemap(struct check_result *res)
{
	unsigned char *pages = map_pages(4);
	struct page_region run[4];
	struct pm_scan_arg arg;
	int fd, n = -1;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		check_found(res, "/proc/self/pagemap: %s", strerror(errno));
		check_mend(res, "sudo mount -t proc proc /proc");
		return CHECK_MISSING;
	}
	if (pages != NULL) {
		pages[2 * PAGE] = 1;
		memset(&arg, 0, sizeof(arg));
		arg.size = sizeof(arg);
		arg.start = (uintptr_t)pages;
		arg.end = arg.start + 4 * (uint64_t)PAGE;
		arg.vec = (uintptr_t)run;
		arg.vec_len = 4;
		arg.category_mask = PAGE_IS_PRESENT;
		arg.return_mask = PAGE_IS_PRESENT;
		n = ioctl(fd, PAGEMAP_SCAN, &arg);
	}
	close(fd);
	if (n == 1 && run[0].start == (uintptr_t)pages + 2 * (uint64_t)PAGE &&
	    run[0].end == run[0].start + PAGE) {
		check_found(res, "works");
		munmap(pages, 4 * PAGE);
		return CHECK_OK;
	}
	check_found(res, "the kernel lacks it; it came with Linux 6.7");
	check_mend(res, "boot Linux 6.8 or later");
	return CHECK_MISSING;
}

static enum check_state check_process_madvise(struct check_result *res)
{
	unsigned char *pages = map_pages(3);
	struct iovec iov[2];
	long n = -1;
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (pages != NULL && pidfd >= 0) {
		memset(pages, 0x55, 3 * (size_t)PAGE);
		iov[0] = (struct iovec){pages, PAGE};
		iov[1] = (struct iovec){pages + 2 * PAGE, PAGE};
		n = syscall(SYS_process_madvise, pidfd, iov, 2, MADV_DONTNEED, 0);
	}
	if (pidfd >= 0)
		close(pidfd);
	if (n == 2 * (long)PAGE && pages[0] == 0 && pages[PAGE] == 0x55 && pages[2 * PAGE] == 0) {
		check_found(res, "MADV_DONTNEED of many ranges in one call works");
		munmap(pages, 3 * (size_t)PAGE);
		return CHECK_OK;
	}
	check_found(res, "MADV_DONTNEED: one call for each range; clean pages leave more slowly");
	check_mend(res, "boot Linux 6.14 or later");
	return CHECK_OPTIONAL;
}

const struct check uffd_checks[] = {
	{"userfaultfd", check_device},
	{"absent-page faults", check_missing},
	{"kernel-mode faults", check_kernel_mode},
	{"faulting thread's id", check_thread_id},
	{"write-protect faults", check_wp},
	{"early write-protect", check_wp_unpopulated},
	{"move pages", check_move},
	{"poison pages", check_poison},
	{"PAGEMAP_SCAN", check_pagemap},
	{"process_madvise", check_process_madvise},
};
const size_t uffd_nchecks = sizeof(uffd_checks) / sizeof(uffd_checks[0]);
