/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * backing.c - where pages of mappings come from, as the program makes it:
 * files, and sources of its own with their threads.
 *
 * A source's threads are the C library's, with every signal blocked, made by
 * fl_backing_open() and joined by fl_backing_close() or fl_close().  They take
 * I/O from the queue in source.h and tell its end by a hop.
 */
#include "api.h"
#include "do.h"
#include "hop.h"
#include "mm.h"
#include "mmap.h"
#include "source.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

struct fl_backing {
	struct fl *fl;
	struct fl_backing *next;
	struct pagecache *pc;
	struct source *source; /* NULL: a file */
	bool writable;
	bool noexec; /* its mount lets nothing be executed */
};

static int do_io(const struct source *s, const struct file_io *io)
{
	uint64_t offset = io->page << PAGE_SHIFT;

	switch (io->req.op) {
	case BLK_READ:
		return s->ops.read(s->ctx, offset, io->iov.iov_base, io->bytes);
	case BLK_WRITE:
		return s->ops.write(s->ctx, offset, io->iov.iov_base, io->bytes);
	default:
		return s->ops.sync != NULL ? s->ops.sync(s->ctx) : 0;
	}
}

static void *thread_main(void *arg)
{
	struct source *s = arg;
	struct file_io *io;

	at_exit_not_here();
	while ((io = source_take(s)) != NULL) {
		int r = do_io(s, io);

		/* errors are negative; whatever else a function returns is one, too */
		hop_call(s->mm, HOP_SOURCE_DONE, (long)io, r > 0 ? -EIO : r, 0, 0, 0, 0, 0);
	}
	return NULL;
}

static void threads_end(struct source *s)
{
	source_stop(s);
	for (unsigned i = 0; i < s->nthreads; i++)
		pthread_join(s->thread[i], NULL);
}

static int threads_start(struct source *s)
{
	unsigned want = s->ops.threads != 0 ? s->ops.threads : 1;
	sigset_t all, old;
	int err = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (s->nthreads < want && err == 0) {
		err = pthread_create(&s->thread[s->nthreads], NULL, thread_main, s);
		if (err == 0)
			s->nthreads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (s->nthreads != 0)
		return 0;
	return -err;
}

static void backing_free(struct fl_backing *b)
{
	struct fl *fl = b->fl;

	lock_take(&fl->lock);
	for (struct fl_backing **link = &fl->backings; *link != NULL; link = &(*link)->next) {
		if (*link == b) {
			*link = b->next;
			break;
		}
	}
	lock_drop(&fl->lock);
	if (b->source != NULL) {
		threads_end(b->source);
		sys_mem_free(b->source, sizeof(*b->source));
	}
	sys_mem_free(b, sizeof(*b));
}

/* Make the page cache of a backing. */
static long open_cache(struct fl_backing *b, int fd, uint64_t length)
{
	struct map_file *m = sys_mem_alloc(sizeof(*m));
	struct mm *mm = b->fl->mm;
	long r = m != NULL ? mm_start(mm) : -ENOMEM;

	if (r == 0) {
		*m = (struct map_file){
			.fd = fd,
			.source = b->source,
			.size = length,
			.write = b->writable,
		};
		r = hop_call(mm, HOP_BACKING_OPEN, (long)m, 0, 0, 0, 0, 0, 0);
		b->pc = m->pc;
	}
	if (m != NULL)
		sys_mem_free(m, sizeof(*m));
	return r;
}

static struct fl_backing *backing_new(struct fl *fl)
{
	struct fl_backing *b = sys_mem_alloc(sizeof(*b));

	if (b == NULL)
		return NULL;
	b->fl = fl;
	lock_take(&fl->lock);
	b->next = fl->backings;
	fl->backings = b;
	lock_drop(&fl->lock);
	return b;
}

API int fl_backing_open(struct fl *fl, struct fl_backing **out, const struct fl_backing_ops *ops,
			void *ctx, uint64_t length)
{
	struct fl_backing_ops own;
	struct fl_backing *b;
	struct source *s;
	long r = TAKE_STRUCT(&own, ops, reserved);

	*out = NULL;
	if (r != 0)
		return (int)r;
	if (own.reserved != 0 || own.read == NULL || own.threads > SOURCE_THREADS ||
	    length > CACHE_PAGES_MAX << PAGE_SHIFT)
		return -EINVAL;
	b = backing_new(fl);
	s = sys_mem_alloc(sizeof(*s));
	if (b == NULL || s == NULL) {
		if (b != NULL)
			backing_free(b);
		sys_mem_free(s, sizeof(*s));
		return -ENOMEM;
	}
	s->mm = fl->mm;
	s->ops = own;
	s->ctx = ctx;
	lock_init(&s->lock, RANK_SOURCE);
	b->source = s;
	b->writable = own.write != NULL;
	r = threads_start(s);
	if (r == 0)
		r = open_cache(b, -1, length);
	if (r != 0) {
		backing_free(b);
		return gate(r);
	}
	*out = b;
	return 0;
}

API int fl_backing_file(struct fl *fl, struct fl_backing **out, int fd)
{
	struct fl_backing *b;
	long mode = SYS3(fcntl, fd, F_GETFL, 0);
	long r;

	*out = NULL;
	if (sys_err(mode))
		return gate(mode);
	if ((mode & O_PATH) || (mode & O_ACCMODE) == O_WRONLY)
		return mode & O_PATH ? -EBADF : -EACCES;
	b = backing_new(fl);
	if (b == NULL)
		return -ENOMEM;
	b->writable = (mode & O_ACCMODE) == O_RDWR;
	r = choose_on_storage(fd, &b->noexec);
	if (r >= 0)
		r = open_cache(b, fd, 0);
	if (r != 0) {
		backing_free(b);
		return gate(r);
	}
	*out = b;
	return 0;
}

API int fl_backing_close(struct fl_backing *backing)
{
	long r = hop_call(backing->fl->mm, HOP_BACKING_CLOSE, (long)backing->pc, 0, 0, 0, 0, 0, 0);

	if (r == -EBUSY)
		return -EBUSY;
	backing_free(backing);
	return gate(r);
}

void backings_end(struct fl *fl)
{
	if (fl->backings == NULL)
		return;
	hop_call(fl->mm, HOP_FILES_CLOSE, 0, 0, 0, 0, 0, 0, 0);
	while (fl->backings != NULL)
		backing_free(fl->backings);
}

API void *fl_mmap_backing(struct fl *fl, void *addr, size_t length, int prot, int flags,
			  struct fl_backing *backing, off_t offset)
{
	const int type = flags & MAP_TYPE;
	struct map_file m = {
		.addr = (uintptr_t)addr,
		.len = length,
		.prot = prot,
		.flags = flags,
		.fd = -1,
		.pc = backing->pc,
		.write = backing->writable,
		.noexec = backing->noexec,
	};

	if (backing->fl != fl || (type != MAP_SHARED && type != MAP_PRIVATE) ||
	    (flags & (MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK | FL_MAP_IN_THREAD)))
		return address(-EINVAL);
	if (type == MAP_SHARED && (prot & PROT_WRITE) && !backing->writable)
		return address(-EACCES);
	if ((prot & PROT_EXEC) && backing->noexec)
		return address(-EPERM);
	return address(mm_mmap_file(fl->mm, &m, offset));
}

API int fl_msync(struct fl *fl, void *addr, size_t length, int flags)
{
	return gate(mm_msync(fl->mm, (uintptr_t)addr, length, flags));
}

API int fl_ftruncate(struct fl *fl, int fd, off_t length)
{
	return gate(mm_ftruncate(fl->mm, fd, length));
}
