/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-files.c - the public functions for programs that keep their data in
 * mappings: held changes, pages that are asked for ahead, what a range is to be.
 */
#include "api.h"
#include "do.h"
#include "hold.h"
#include "hop.h"
#include "mm.h"
#include "mmap.h"
#include "prefetch.h"
#include "source.h"
#include "sys.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define READAHEAD_MIN ((size_t)128 << 10)
#define REGION_LIMIT_MIN ((uint64_t)256 << 10)

/* ---- who is asked about pages that cannot be read ---- */

static void *ask_main(void *arg)
{
	struct source *q = arg;
	struct file_io *io;

	at_exit_not_here();
	while ((io = source_take(q)) != NULL) {
		enum fl_error_choice choice =
			io->on_error(io->error_arg, (void *)addr_of(io->vpn),
				     io->page << PAGE_SHIFT, io->err, io->iov.iov_base);

		hop_call(q->mm, HOP_ERROR_DONE, (long)io, choice, 0, 0, 0, 0, 0);
	}
	return NULL;
}

/* The thread that asks, made when it is first needed. */
static int need_asker(struct fl *fl)
{
	struct source *q;
	sigset_t all, old;
	int err = 0;

	lock_take(&fl->lock);
	if (fl->asker == NULL) {
		q = sys_mem_alloc(sizeof(*q));
		err = q == NULL ? ENOMEM : 0;
		if (err == 0) {
			q->mm = fl->mm;
			lock_init(&q->lock, RANK_SOURCE);
			sigfillset(&all);
			pthread_sigmask(SIG_SETMASK, &all, &old);
			err = pthread_create(&q->thread[0], NULL, ask_main, q);
			pthread_sigmask(SIG_SETMASK, &old, NULL);
		}
		if (err == 0)
			fl->asker = fl->mm->traits.asked = q;
		else
			sys_mem_free(q, sizeof(*q));
	}
	lock_drop(&fl->lock);
	return -err;
}

void asker_end(struct fl *fl)
{
	struct source *q = fl->asker;

	if (q == NULL)
		return;
	/* reads that failed wait for it: none is left when every file is unmapped */
	hop_call(fl->mm, HOP_FILES_CLOSE, 0, 0, 0, 0, 0, 0, 0);
	source_stop(q);
	pthread_join(q->thread[0], NULL);
	fl->asker = fl->mm->traits.asked = NULL;
	sys_mem_free(q, sizeof(*q));
}

API int fl_region_set(struct fl *fl, void *addr, size_t length,
		      const struct fl_region_options *options)
{
	struct fl_region_options *own = NULL;
	struct fl_region_options o;
	long r;

	if (bad_range(addr, length))
		return -EINVAL;
	if (options != NULL) {
		r = TAKE_STRUCT(&o, options, error_arg);
		if (r != 0)
			return (int)r;
		if (o.priority < FL_PRIORITY_NORMAL || o.priority > FL_PRIORITY_HOT ||
		    (o.limit != 0 && o.limit < REGION_LIMIT_MIN) ||
		    (o.readahead != 0 && o.readahead < READAHEAD_MIN))
			return -EINVAL;
	}
	r = mm_start(fl->mm);
	if (r == 0 && options != NULL && o.on_error != NULL)
		r = need_asker(fl);
	if (r == 0 && options != NULL) {
		own = sys_mem_alloc(sizeof(*own));
		if (own == NULL)
			return -ENOMEM;
		*own = o;
	}
	if (r == 0)
		r = hop_call(fl->mm, HOP_REGION_SET, (long)addr,
			     (long)((uintptr_t)addr + page_up(length)), (long)own, 0, 0, 0, 0);
	sys_mem_free(own, sizeof(*own));
	return gate(r);
}

/* ---- the rest ---- */

API int fl_sync(struct fl *fl, void *addr, size_t length)
{
	if (bad_range(addr, length) || !mm_is_armed(fl->mm))
		return -EINVAL;
	return gate(mm_hold_sync(fl->mm, (uintptr_t)addr, length));
}

API int fl_prefetch(struct fl *fl, const void *addr, size_t length, int event_fd)
{
	if (bad_range(addr, length))
		return -EINVAL;
	return gate(mm_prefetch(fl->mm, (uintptr_t)addr, length, event_fd));
}

API int fl_try(struct fl *fl, const void *addr, size_t length)
{
	if (bad_range(addr, length))
		return -EINVAL;
	return gate(mm_try(fl->mm, (uintptr_t)addr, length));
}
