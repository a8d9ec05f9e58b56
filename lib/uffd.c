/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * uffd.c - userfaultfd's ioctls; see uffd.h.
 */
#include "uffd.h"

#include "pte.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

/* EAGAIN while somebody changes the address space: tried again this often before it counts. */
#define UFFD_RETRIES 100000U

static enum uffd_result classify(long err)
{
	switch (-err) {
	case EEXIST:
		return UFFD_EXIST;
	case ENOENT: /* no such mapping, or (move) no page at the source */
	case ESRCH:  /* the process is going away */
	case EFAULT:
		return UFFD_GONE;
	case EBUSY:
	case EAGAIN:
		return UFFD_BUSY;
	case EINVAL:
		return UFFD_UNFIT;
	case ENOMEM:
		return UFFD_NOMEM;
	default:
		return UFFD_FATAL;
	}
}

long uffd_device(void)
{
	return SYS4(openat, AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
}

static long open_with(long device, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	long fd;
	long r;

	if (!sys_err(device)) {
		fd = SYS3(uffd_open, device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	} else {
		fd = sys_bare(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0, 0);
		if (sys_err(fd))
			fd = device;
	}
	if (sys_err(fd))
		return fd;
	r = SYS3(uffd_api, fd, UFFDIO_API, &api);
	if (sys_err(r)) {
		SYS1(close, fd);
		return r == -EINVAL ? -ENOSYS : r;
	}
	return fd;
}

long uffd_open(long device)
{
	return open_with(device, UFFD_NEEDED);
}

long uffd_open_sigbus(long device)
{
	return open_with(device, UFFD_NEEDED | UFFD_FEATURE_SIGBUS);
}

int uffd_register(int fd, uintptr_t start, size_t len, bool wp)
{
	struct uffdio_register reg = {
		.range = {.start = start, .len = len},
		.mode = UFFDIO_REGISTER_MODE_MISSING | (wp ? UFFDIO_REGISTER_MODE_WP : 0),
	};

	return (int)SYS3(uffd_register, fd, UFFDIO_REGISTER, &reg);
}

int uffd_register_shared(int fd, uintptr_t start, size_t len)
{
	struct uffdio_register reg = {
		.range = {.start = start, .len = len},
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR |
			UFFDIO_REGISTER_MODE_WP,
	};

	return (int)SYS3(uffd_register, fd, UFFDIO_REGISTER, &reg);
}

int uffd_unregister(int fd, uintptr_t start, size_t len)
{
	struct uffdio_range range = {.start = start, .len = len};

	return (int)SYS3(uffd_unregister, fd, UFFDIO_UNREGISTER, &range);
}

/*
 * The progress of one attempt: ioctls report bytes done, or -errno, in a field
 * of their argument, and -EAGAIN as their own result after a part.
 */
static bool go_on(long r, int64_t field, size_t *off, size_t len, unsigned *tries,
		  enum uffd_result *res)
{
	if (field > 0)
		*off += (size_t)field;
	if (!sys_err(r) || *off >= len) {
		*res = UFFD_OK;
		return false;
	}
	if (r == -EAGAIN && (field > 0 || field == 0 || field == -EAGAIN)) {
		if (field > 0)
			*tries = 0;
		if (++*tries < UFFD_RETRIES)
			return true;
	}
	*res = classify(r);
	return false;
}

enum uffd_result uffd_copy(int fd, uintptr_t dst, const void *src, size_t len, bool wp,
			   size_t *done)
{
	enum uffd_result res = UFFD_OK;
	unsigned tries = 0;
	size_t off = 0;
	long r;

	do {
		struct uffdio_copy arg = {
			.dst = dst + off,
			.src = (uintptr_t)src + off,
			.len = len - off,
			.mode = wp ? UFFDIO_COPY_MODE_WP : 0,
		};
		r = SYS3(uffd_copy, fd, UFFDIO_COPY, &arg);
		if (!go_on(r, arg.copy, &off, len, &tries, &res))
			break;
	} while (true);
	*done = off;
	return res;
}

enum uffd_result uffd_continue(int fd, uintptr_t start, size_t len, bool wp, size_t *done)
{
	enum uffd_result res = UFFD_OK;
	unsigned tries = 0;
	size_t off = 0;
	long r;

	do {
		struct uffdio_continue arg = {
			.range = {.start = start + off, .len = len - off},
			.mode = wp ? UFFDIO_CONTINUE_MODE_WP : 0,
		};

		r = SYS3(uffd_continue, fd, UFFDIO_CONTINUE, &arg);
		if (!go_on(r, arg.mapped, &off, len, &tries, &res))
			break;
	} while (true);
	*done = off;
	return res;
}

enum uffd_result uffd_zeropage(int fd, uintptr_t dst, size_t len, size_t *done)
{
	enum uffd_result res = UFFD_OK;
	unsigned tries = 0;
	size_t off = 0;
	long r;

	do {
		struct uffdio_zeropage arg = {.range = {.start = dst + off, .len = len - off}};

		r = SYS3(uffd_zeropage, fd, UFFDIO_ZEROPAGE, &arg);
		if (!go_on(r, arg.zeropage, &off, len, &tries, &res))
			break;
	} while (true);
	*done = off;
	return res;
}

/* Without a page map of its own the caller is a thread of the program's. */
static bool is_there(int pagemap_fd, uintptr_t addr, bool want)
{
	struct page_region run;
	uintptr_t next;
	unsigned char vec = 0;

	if (pagemap_fd < 0)
		return sys_bare(SYS_mincore, (long)addr, PAGE_SIZE, (long)&vec, 0, 0, 0) == 0 &&
		       (vec & 1) == want;
	return uffd_scan_present(pagemap_fd, addr, addr + PAGE_SIZE, &run, 1, &next) ==
	       (want ? 1 : 0);
}

/* A move that failed: how far it went all the same, from off on.  Who waits there is woken. */
static size_t moved_untold(int fd, int pagemap_fd, uintptr_t dst, uintptr_t src, size_t off,
			   size_t len)
{
	size_t from = off;

	while (off < len && is_there(pagemap_fd, src + off, false) &&
	       is_there(pagemap_fd, dst + off, true))
		off += PAGE_SIZE;
	if (off != from)
		uffd_wake(fd, dst + from, off - from);
	return off;
}

enum uffd_result uffd_move(int fd, int pagemap_fd, uintptr_t dst, uintptr_t src, size_t len,
			   size_t *done)
{
	enum uffd_result res = UFFD_OK;
	unsigned tries = 0;
	size_t off = 0;
	long r;

	do {
		struct uffdio_move arg = {.dst = dst + off, .src = src + off, .len = len - off};

		r = SYS3(uffd_move, fd, UFFDIO_MOVE, &arg);
		if (!go_on(r, arg.move, &off, len, &tries, &res)) {
			size_t reached = res == UFFD_OK
						 ? off
						 : moved_untold(fd, pagemap_fd, dst, src, off, len);

			if (reached == len)
				res = UFFD_OK;
			if (reached == off || reached == len) {
				off = reached;
				break;
			}
			off = reached;
		}
	} while (true);
	*done = off;
	return res;
}

static long writeprotect(int fd, uintptr_t start, size_t len, bool on, unsigned most)
{
	struct uffdio_writeprotect arg = {
		.range = {.start = start, .len = len},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	unsigned tries = 0;
	long r;

	do {
		r = SYS3(uffd_writeprotect, fd, UFFDIO_WRITEPROTECT, &arg);
	} while (r == -EAGAIN && ++tries < most);
	return r;
}

enum uffd_result uffd_writeprotect(int fd, uintptr_t start, size_t len, bool on)
{
	long r = writeprotect(fd, start, len, on, UFFD_RETRIES);

	return sys_err(r) ? classify(r) : UFFD_OK;
}

enum uffd_life uffd_life(int fd, uintptr_t addr)
{
	switch (writeprotect(fd, addr, PAGE_SIZE, true, 1)) {
	case 0:
	case -EAGAIN:
		return UFFD_MAPPED;
	case -ESRCH:
		return UFFD_DEAD;
	default:
		return UFFD_ALIVE;
	}
}

enum uffd_result uffd_poison(int fd, uintptr_t start, size_t len)
{
	enum uffd_result res = UFFD_OK;
	unsigned tries = 0;
	size_t off = 0;
	long r;

	do {
		struct uffdio_poison arg = {.range = {.start = start + off, .len = len - off}};

		r = SYS3(uffd_poison, fd, UFFDIO_POISON, &arg);
		if (!go_on(r, arg.updated, &off, len, &tries, &res))
			break;
	} while (true);
	return res;
}

void uffd_wake(int fd, uintptr_t start, size_t len)
{
	struct uffdio_range range = {.start = start, .len = len};

	SYS3(uffd_wake, fd, UFFDIO_WAKE, &range);
}

ssize_t uffd_read(int fd, struct uffd_msg *msgs, unsigned n)
{
	long r;

	do {
		r = SYS3(uffd_read, fd, msgs, n * sizeof(*msgs));
	} while (r == -EINTR);
	if (r == -EAGAIN)
		return 0;
	return sys_err(r) ? r : r / (long)sizeof(*msgs);
}

static long scan(int pagemap_fd, uintptr_t start, uintptr_t end, uint64_t all, uint64_t tell,
		 struct page_region *vec, unsigned n, uintptr_t *next)
{
	struct pm_scan_arg arg;
	long r;

	memset(&arg, 0, sizeof(arg));
	arg.size = sizeof(arg);
	arg.start = start;
	arg.end = end;
	arg.vec = (uintptr_t)vec;
	arg.vec_len = n;
	arg.category_mask = all;
	arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
	arg.return_mask = tell;
	r = SYS3(pagemap_scan, pagemap_fd, PAGEMAP_SCAN, &arg);
	*next = sys_err(r) ? start : arg.walk_end;
	return r;
}

long uffd_scan_present(int pagemap_fd, uintptr_t start, uintptr_t end, struct page_region *vec,
		       unsigned n, uintptr_t *next)
{
	return scan(pagemap_fd, start, end, 0, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, vec, n, next);
}

long uffd_scan_written(int pagemap_fd, uintptr_t start, uintptr_t end, struct page_region *vec,
		       unsigned n, uintptr_t *next)
{
	return scan(pagemap_fd, start, end, PAGE_IS_WRITTEN, PAGE_IS_WRITTEN, vec, n, next);
}

uintptr_t uffd_vma_end(int maps_fd, uintptr_t addr)
{
	struct procmap_query q;

	memset(&q, 0, sizeof(q));
	q.size = sizeof(q);
	q.query_addr = addr;
	return sys_err(SYS3(ioctl, maps_fd, PROCMAP_QUERY, &q)) ? 0 : (uintptr_t)q.vma_end;
}

bool uffd_vma_next(int maps_fd, uintptr_t addr, uintptr_t *start, uintptr_t *end)
{
	struct procmap_query q;

	memset(&q, 0, sizeof(q));
	q.size = sizeof(q);
	q.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA;
	q.query_addr = addr;
	if (sys_err(SYS3(ioctl, maps_fd, PROCMAP_QUERY, &q)))
		return false;
	*start = (uintptr_t)q.vma_start;
	*end = (uintptr_t)q.vma_end;
	return true;
}

size_t uffd_vma_part(int maps_fd, uintptr_t addr, size_t len)
{
	uintptr_t end = uffd_vma_end(maps_fd, addr);

	if (end <= addr)
		return 4096;
	return end - addr < len ? end - addr : len;
}
