/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api.c - the public functions: arguments, errno, and what pagers must not
 * touch (buffers of the application) copied on the way.
 *
 * Every result passes one gate, which lets only documented errors out.
 */
#include "api.h"

#include "do.h"
#include "event.h"
#include "hop.h"
#include "in-thread.h"
#include "log.h"
#include "mm.h"
#include "mmap.h"
#include "open.h"
#include "snapshot.h"
#include "sys.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int gate(long r)
{
	static const short known[] = {
		EPERM,	      ENOENT,  EIO,	   EBADF,    EAGAIN, ENOMEM, EACCES,
		EFAULT,	      EBUSY,   EEXIST,	   ENODEV,   EISDIR, EINVAL, ENFILE,
		EMFILE,	      EFBIG,   ENOSPC,	   EROFS,    ENOSYS, ERANGE, EOVERFLOW,
		ENAMETOOLONG, ETXTBSY, EOPNOTSUPP, ENOTCONN, EDQUOT, E2BIG,
	};

	if (r >= 0)
		return (int)r;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (r == -known[i])
			return (int)r;
	return -EIO;
}

void *address(long r)
{
	if (!sys_err(r))
		return (void *)r;
	errno = -gate(r);
	return FL_FAILED;
}

/* What is added later lies behind, never in what an older header left undefined. */
#define ENDS_WITH(type, last) (sizeof(type) == offsetof(type, last) + sizeof(((type *)0)->last))
_Static_assert(ENDS_WITH(struct fl_options, dirty_background), "padding");
_Static_assert(ENDS_WITH(struct fl_backing_ops, reserved), "padding");
_Static_assert(ENDS_WITH(struct fl_region_options, error_arg), "padding");
_Static_assert(ENDS_WITH(struct fl_swap_spec, flags), "padding");

int take_struct(void *to, size_t size, size_t first, const void *from, size_t given)
{
	const unsigned char *bytes = from;

	if (given < first)
		return -EINVAL;
	for (size_t i = size; i < given; i++)
		if (bytes[i] != 0)
			return -E2BIG;
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return 0;
}

bool bad_range(const void *addr, size_t length)
{
	uintptr_t at = (uintptr_t)addr, end = at + page_up(length);

	return (at & ~PAGE_MASK) || length == 0 || end <= at || vpn_of(end) > VPN_MAX;
}

API int fl_open(struct fl **out, const struct fl_options *options)
{
	struct fl_options own = {.size = sizeof(own)};
	char why[LOG_LINE_MAX];
	struct mm *mm;
	struct fl *fl = sys_mem_alloc(sizeof(*fl));
	int r = options != NULL ? TAKE_STRUCT(&own, options, reserved) : 0;

	*out = NULL;
	if (fl == NULL) {
		r = -ENOMEM;
		log_format(why, sizeof(why), "no memory");
	} else if (r != 0) {
		log_format(why, sizeof(why), "options: size is not sizeof(struct fl_options)%s",
			   r == -E2BIG ? ", and what this library does not know is set" : "");
	} else {
		r = mm_open(&mm, &own, 0, why, sizeof(why));
	}
	if (r == 0) {
		fl->mm = mm;
		lock_init(&fl->lock, RANK_API);
		r = at_exit_add(fl);
		if (r != 0) {
			log_format(why, sizeof(why), "no memory");
			mm_close(mm);
		}
	}
	if (r != 0) {
		struct log_sink sink = {.level = FL_LOG_ERROR, .fn = own.log, .arg = own.log_arg};

		log_line_own(&sink, FL_LOG_ERROR, "%s", why);
		sys_mem_free(fl, sizeof(*fl));
		return gate(r);
	}
	*out = fl;
	return 0;
}

API int fl_close(struct fl *fl)
{
	int r;

	at_exit_closing(fl);
	asker_end(fl);
	backings_end(fl);
	r = mm_close(fl->mm);
	at_exit_closed(fl, r == 0);
	if (r == 0)
		sys_mem_free(fl, sizeof(*fl));
	return gate(r);
}

API void *fl_mmap(struct fl *fl, void *addr, size_t length, int prot, int flags, int fd,
		  off_t offset)
{
	if ((flags & (FL_MAP_IN_THREAD | MAP_HUGETLB)) == FL_MAP_IN_THREAD) {
		/* what populates is a system call; the rest is not paged, or not so */
		const int never = MAP_LOCKED | MAP_POPULATE | MAP_STACK | MAP_GROWSDOWN;
		long r;

		if ((flags & never) || !(flags & MAP_ANONYMOUS) ||
		    (flags & MAP_TYPE) != MAP_PRIVATE)
			return address(-EINVAL);
		r = mm_start(fl->mm);
		if (r == 0)
			r = in_thread_begin(fl->mm);
		if (r != 0)
			return address(r);
	}
	return address(mm_mmap(fl->mm, (uintptr_t)addr, length, prot, flags, fd, offset));
}

API int fl_munmap(struct fl *fl, void *addr, size_t length)
{
	return gate(mm_munmap(fl->mm, (uintptr_t)addr, length));
}

API void *fl_mremap(struct fl *fl, void *old_addr, size_t old_size, size_t new_size, int flags, ...)
{
	uintptr_t new_addr = 0;
	va_list ap;

	va_start(ap, flags);
	/* as mremap(2): the fifth argument is there with MREMAP_FIXED */
	if (flags & MREMAP_FIXED)
		new_addr = (uintptr_t)va_arg(ap, void *);
	va_end(ap);
	return address(mm_mremap(fl->mm, (uintptr_t)old_addr, old_size, new_size, flags, new_addr));
}

API int fl_remap_file_pages(struct fl *fl, void *addr, size_t size, int prot, size_t pgoff,
			    int flags)
{
	return gate(mm_remap_file_pages(fl->mm, (uintptr_t)addr, size, prot, pgoff, flags));
}

API int fl_mprotect(struct fl *fl, void *addr, size_t length, int prot)
{
	return gate(mm_mprotect(fl->mm, (uintptr_t)addr, length, prot, -1));
}

API int fl_madvise(struct fl *fl, void *addr, size_t length, int advice)
{
	return gate(mm_madvise(fl->mm, (uintptr_t)addr, length, advice));
}

API int fl_mlock(struct fl *fl, const void *addr, size_t length)
{
	return gate(mm_mlock2(fl->mm, (uintptr_t)addr, length, 0));
}

API int fl_mlock2(struct fl *fl, const void *addr, size_t length, unsigned flags)
{
	return gate(mm_mlock2(fl->mm, (uintptr_t)addr, length, flags));
}

API int fl_munlock(struct fl *fl, const void *addr, size_t length)
{
	return gate(mm_munlock(fl->mm, (uintptr_t)addr, length));
}

/*
 * One line of /proc/self/maps: *start moves to the end of its mapping if that
 * holds it, and *prot is the mapping's, or -EINVAL where it is no private
 * anonymous memory, or of another protection than those before.
 */
static void take_mapping(const char *line, uintptr_t *start, int *prot)
{
	char *at;
	uintptr_t a = strtoul(line, &at, 16);
	uintptr_t b = strtoul(at + 1, &at, 16);
	const char *perm = at + 1;
	int p = (perm[0] == 'r' ? PROT_READ : 0) | (perm[1] == 'w' ? PROT_WRITE : 0) |
		(perm[2] == 'x' ? PROT_EXEC : 0);

	if (*start < a || *start >= b)
		return;
	strtoul(perm + 5, &at, 16); /* offset */
	at = strchr(at + 1, ' ');   /* device */
	if (perm[3] != 'p' || strtoul(at, NULL, 10) != 0 || (*prot != -1 && p != *prot))
		*prot = -EINVAL;
	else
		*prot = p;
	*start = b;
}

/* Private anonymous memory of one protection, by /proc/self/maps: that, or -errno. */
static int check_mapping(uintptr_t start, uintptr_t end)
{
	const size_t size = (size_t)64 << 10; /* more than a line */
	char *text = sys_mem_alloc(size);
	size_t len = 0;
	int prot = -1;
	long fd, n;

	if (text == NULL)
		return -ENOMEM;
	fd = SYS4(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	n = fd;
	while (!sys_err(n) && start < end && prot != -EINVAL &&
	       (n = SYS3(read, fd, text + len, size - 1 - len)) > 0) {
		char *line = text, *eol;

		text[len + (size_t)n] = '\0';
		while ((eol = strchr(line, '\n')) != NULL) {
			if (start < end && prot != -EINVAL)
				take_mapping(line, &start, &prot);
			line = eol + 1;
		}
		len = strlen(line);
		memmove(text, line, len);
	}
	if (!sys_err(fd))
		SYS1(close, fd);
	sys_mem_free(text, size);
	if (sys_err(n))
		return (int)n;
	return start < end && prot != -EINVAL ? -ENOMEM : prot;
}

API int fl_register(struct fl *fl, void *addr, size_t length)
{
	uintptr_t start = (uintptr_t)addr;
	uintptr_t end = start + page_up(length);
	int prot;
	long r;

	if (bad_range(addr, length))
		return -EINVAL;
	prot = check_mapping(start, end);
	if (prot < 0)
		return gate(prot);
	r = mm_start(fl->mm);
	if (r == 0)
		r = hop_call(fl->mm, HOP_REGISTER, (long)start, (long)end, prot, 0, 0, 0, 0);
	if (r == 0) {
		r = mm_arm_if_tight(fl->mm);
		if (r != 0)
			hop_call(fl->mm, HOP_UNREGISTER, (long)start, (long)end, 0, 0, 0, 0, 0);
	}
	return gate(r);
}

API int fl_unregister(struct fl *fl, void *addr, size_t length)
{
	uintptr_t start = (uintptr_t)addr;
	long r;

	if (bad_range(addr, length))
		return -EINVAL;
	r = mm_start(fl->mm);
	if (r == 0)
		r = hop_call(fl->mm, HOP_UNREGISTER, (long)start, (long)(start + page_up(length)),
			     0, 0, 0, 0, 0);
	return gate(r);
}

/* Memory of our own for what a pager reads and writes for a call. */
struct bounce {
	struct fl_swap_spec spec;
	char path[512];
	char why[LOG_LINE_MAX];
};

static int swap_call(struct fl *fl, enum hop_op op, const struct fl_swap_spec *spec)
{
	struct bounce *b;
	long r = mm_start(fl->mm);

	if (r != 0)
		return gate(r);
	if (spec->path != NULL && strlen(spec->path) >= sizeof(b->path)) {
		if (op == HOP_SWAPOFF)
			return -EINVAL;
		log_line_own(&fl->mm->sink, FL_LOG_ERROR, "swap area: its name is too long");
		return -ENAMETOOLONG;
	}
	b = sys_mem_alloc(sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->spec = *spec;
	if (spec->path != NULL) {
		strcpy(b->path, spec->path);
		b->spec.path = b->path;
	}
	/* a pager could bring no page while it reads a file through */
	if (op == HOP_SWAPON)
		r = swap_look(&b->spec, b->why, sizeof(b->why));
	if (r == 0 && op == HOP_SWAPON)
		r = hop_call(fl->mm, op, (long)&b->spec, (long)b->why, sizeof(b->why), 0, 0, 0, 0);
	else if (r == 0)
		r = hop_call(fl->mm, op, (long)b->path, 0, 0, 0, 0, 0, 0);
	if (r != 0 && b->why[0] != '\0')
		log_line_own(&fl->mm->sink, FL_LOG_ERROR, "%s", b->why);
	sys_mem_free(b, sizeof(*b));
	return gate(r);
}

API int fl_swapon(struct fl *fl, const struct fl_swap_spec *spec)
{
	return swap_call(fl, HOP_SWAPON, spec);
}

API int fl_swapoff(struct fl *fl, const char *path)
{
	const struct fl_swap_spec spec = {.path = path};

	return path != NULL ? swap_call(fl, HOP_SWAPOFF, &spec) : -EINVAL;
}

static long set_limit(struct mm *mm, uint64_t pages)
{
	return hop_call(mm, HOP_SET_LIMIT, (long)pages, 0, 0, 0, 0, 0, 0);
}

API int fl_set_limit(struct fl *fl, uint64_t limit)
{
	struct mm *mm = fl->mm;
	uint64_t was;
	long r;

	if (limit < FL_LIMIT_MIN)
		return -EINVAL;
	r = mm_start(mm);
	if (r != 0)
		return gate(r);
	was = __atomic_load_n(&mm->limit, __ATOMIC_RELAXED);
	r = set_limit(mm, limit >> PAGE_SHIFT);
	if (r == 0) {
		r = mm_arm_if_tight(mm);
		if (r != 0)
			set_limit(mm, was);
	}
	return gate(r);
}

API int fl_page_state(struct fl *fl, const void *addr, size_t length, unsigned char *vec)
{
	const size_t chunk = 65536;
	uintptr_t at = (uintptr_t)addr;
	uintptr_t end = at + page_up(length);
	struct mm *mm = fl->mm;
	unsigned char *own;
	long r = 0;

	if (bad_range(addr, length))
		return -EINVAL;
	own = sys_mem_alloc(chunk);
	if (own == NULL)
		return -ENOMEM;
	while (at < end && r == 0) {
		size_t n = end - at < chunk * PAGE_SIZE ? end - at : chunk * PAGE_SIZE;

		r = mm_page_state(mm, at, n, own);
		memcpy(vec, own, n >> PAGE_SHIFT);
		vec += n >> PAGE_SHIFT;
		at += n;
	}
	sys_mem_free(own, chunk);
	return gate(r);
}

API int fl_snapshot(struct fl *fl, const void *addr, size_t length, int fd, int flags, int event_fd)
{
	uintptr_t start = (uintptr_t)addr;
	bool all = addr == NULL && length == 0;
	long r;

	if ((!all && bad_range(addr, length)) || (flags & ~FL_SNAPSHOT_NOSYNC))
		return -EINVAL;
	if (fd < 0)
		return -EBADF;
	r = event_check(event_fd);
	if (r == 0)
		r = mm_start(fl->mm);
	if (r == 0)
		r = hop_call(fl->mm, HOP_SNAPSHOT, (long)start,
			     all ? 0 : (long)(start + page_up(length)), fd, flags, event_fd, 0, 0);
	return gate(r);
}

API int fl_snapshot_wait(struct fl *fl)
{
	struct snapshots *s = &fl->mm->snaps;
	/* Acquire: pairs with the release at a snapshot's beginning. */
	uint32_t begun = __atomic_load_n(&s->begun, __ATOMIC_ACQUIRE);
	uint32_t ended;

	if (begun == 0)
		return -ENOENT;
	/* Acquire: pairs with the release at its end. */
	while ((int32_t)((ended = __atomic_load_n(&s->ended, __ATOMIC_ACQUIRE)) - begun) < 0)
		futex_wait(&s->ended, ended, 0);
	return gate(__atomic_load_n(&s->result, __ATOMIC_RELAXED));
}

API int fl_stats(struct fl *fl, struct fl_stats *out, size_t size)
{
	struct fl_stats s;

	if (size == 0)
		return -EINVAL;
	mm_stats(fl->mm, &s);
	/* counters of a newer header than this library's */
	if (size > sizeof(s))
		memset((char *)out + sizeof(s), 0, size - sizeof(s));
	memcpy(out, &s, size < sizeof(s) ? size : sizeof(s));
	return 0;
}

API int fl_verify(struct fl *fl)
{
	struct verify *v = sys_mem_alloc(sizeof(*v));
	long r;

	if (v == NULL)
		return -ENOMEM;
	r = mm_verify(fl->mm, v);
	for (char *line = v->text, *end; r > 0 && (end = strchr(line, '\n')) != NULL;
	     line = end + 1) {
		*end = '\0';
		mm_log(fl->mm, FL_LOG_WARN, "verify: %s", line);
	}
	sys_mem_free(v, sizeof(*v));
	return gate(r);
}
