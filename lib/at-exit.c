/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * at-exit.c - exit(3) leaves mapped files as the program stored them, as the kernel's
 * mappings do: what waits to be written is written by a destructor of the library.
 * Not what comes from a program's own source, whose functions may no longer be called,
 * nor what FL_MAP_HOLD holds back.
 *
 * Nor does a thread that calls such a function write anything when that calls exit(3):
 * a pager may wait for the function, and the write for the pager.
 *
 * The runtimes that are open are in a page that fork(2) empties in the child, which is
 * not to use what it inherited.
 */
#include "api.h"
#include "do.h"
#include "hop.h"
#include "mm.h"
#include "pagecache.h"
#include "sys.h"

#include <errno.h>
#include <sys/mman.h>

struct opened {
	struct lock lock; /* RANK_OPENED; guards what follows, and each one's next */
	struct fl *first;
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

void at_exit_remove(struct fl *fl)
{
	struct opened *o = make();

	if (o == NULL)
		return;
	lock_take(&o->lock);
	for (struct fl **at = &o->first; *at != NULL; at = &(*at)->next)
		if (*at == fl) {
			*at = fl->next;
			break;
		}
	lock_drop(&o->lock);
}

void at_exit_not_here(void)
{
	calls_back = true;
}

static bool is_due(const struct pagecache *pc)
{
	return pc->source == NULL && pc->dirty != 0;
}

/* On a pager. */
static long write_files(struct pager *p, void *arg)
{
	struct files *f = &p->mm->files;

	(void)arg;
	/* others come and go meanwhile, but not the one that is being written */
	for (struct pagecache *pc = f->first; pc != NULL; pc = pc->next)
		if (is_due(pc))
			cache_write_all(p, pc);
	return 0;
}

__attribute__((destructor)) static void at_exit(void)
{
	struct opened *o = __atomic_load_n(&opened, __ATOMIC_ACQUIRE);

	if (o == NULL || calls_back)
		return;
	lock_take(&o->lock);
	for (const struct fl *fl = o->first; fl != NULL; fl = fl->next)
		if (mm_armed(fl->mm) &&
		    __atomic_load_n(&fl->mm->files.first, __ATOMIC_RELAXED) != NULL)
			hop_run(fl->mm, write_files, NULL);
	lock_drop(&o->lock);
}
