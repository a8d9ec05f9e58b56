/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * at-exit.c - exit(3) leaves mapped files as the program stored them, as the kernel's
 * mappings do: what waits to be written is written by a destructor of the library.
 * Not what comes from a program's own source, whose functions may no longer be called,
 * nor what FL_MAP_HOLD holds back.
 *
 * Nor does a thread that calls such a function write anything when that calls exit(3):
 * a pager may wait for the function, and the write for the pager.  What another thread waits
 * for in a call of ours, such a function or reads of files, is not waited for; but for an
 * fl_close() that has begun.
 *
 * The runtimes that are open are in a page that fork(2) empties in the child, which is
 * not to use what it inherited.
 */
#include "api.h"
#include "mm.h"
#include "mmap.h"
#include "sys.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct opened {
	struct lock lock; /* RANK_OPENED; guards what follows, and each one's next and closing */
	struct fl *first;
	uint32_t closed; /* ends of fl_close(), a futex; written with the lock held, atomic */
};

static struct opened *opened; /* atomic, written once */
static __thread bool calls_back;

/* NULL: no memory. */
static struct opened *make(void)
{
	struct opened *o = __atomic_load_n(&opened, __ATOMIC_ACQUIRE), *none = NULL;

	if (o != NULL)
		return o;
	o = sys_mem_alloc(PAGE_SIZE);
	if (o == NULL)
		return NULL;
	if (sys_err(SYS3(madvise, o, PAGE_SIZE, MADV_WIPEONFORK))) {
		sys_mem_free(o, PAGE_SIZE);
		return NULL;
	}
	/* what fork(2) leaves of it is a free lock of the lowest rank */
	lock_init(&o->lock, RANK_OPENED);
	/* Release: whoever sees it sees the lock; acquire: of another thread's, too. */
	if (!__atomic_compare_exchange_n(&opened, &none, o, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		sys_mem_free(o, PAGE_SIZE);
		o = none;
	}
	return o;
}

int at_exit_add(struct fl *fl)
{
	struct opened *o = make();

	if (o == NULL)
		return -ENOMEM;
	lock_take(&o->lock);
	fl->next = o->first;
	o->first = fl;
	lock_drop(&o->lock);
	return 0;
}

static uint32_t self(void)
{
	return (uint32_t)sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

void at_exit_closing(struct fl *fl)
{
	struct opened *o = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);

	lock_take(&o->lock);
	fl->closing = self();
	lock_drop(&o->lock);
}

void at_exit_closed(struct fl *fl, bool gone)
{
	struct opened *o = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);

	lock_take(&o->lock);
	fl->closing = 0;
	for (struct fl **at = &o->first; gone && *at != NULL; at = &(*at)->next)
		if (*at == fl) {
			*at = fl->next;
			break;
		}
	__atomic_store_n(&o->closed, o->closed + 1, __ATOMIC_RELAXED);
	lock_drop(&o->lock);
	futex_wake(&o->closed, 1 << 20);
}

void at_exit_not_here(void)
{
	calls_back = true;
}

__attribute__((destructor)) static void at_exit(void)
{
	struct opened *o = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);
	struct fl *fl;

	if (o == NULL || calls_back)
		return;
	lock_take(&o->lock);
	fl = o->first;
	while (fl != NULL) {
		uint32_t closed = o->closed;

		/* our own call, where a signal's handler has come between, ends no more */
		if (fl->closing == 0) {
			mm_write_out(fl->mm);
		} else if (fl->closing != self()) {
			lock_drop(&o->lock);
			futex_wait(&o->closed, closed, 0);
			lock_take(&o->lock);
			fl = o->first;
			continue;
		}
		fl = fl->next;
	}
	lock_drop(&o->lock);
}
