/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * api-files.c - the public functions for programs that keep their data in
 * mappings: held changes, pages that are asked for ahead, what a range is to be.
 */
#include "api.h"
#include "do.h"
#include "hold.h"
#include "mm.h"
#include "mmap.h"
#include "prefetch.h"

#include <errno.h>

static bool bad_range(const void *addr, size_t length)
{
	uintptr_t at = (uintptr_t)addr;

	return (at & ~PAGE_MASK) || length == 0 || at + page_up(length) <= at;
}

API int fl_sync(struct fl *fl, void *addr, size_t length)
{
	if (bad_range(addr, length) || !mm_is_armed(fl->mm))
		return -EINVAL;
	return gate(mm_hold_sync(fl->mm, (uintptr_t)addr, length));
}

API int fl_prefetch(struct fl *fl, const void *addr, size_t length, int eventfd)
{
	if (bad_range(addr, length))
		return -EINVAL;
	return gate(mm_prefetch(fl->mm, (uintptr_t)addr, length, eventfd));
}

API int fl_try(struct fl *fl, const void *addr, size_t length)
{
	if (bad_range(addr, length))
		return -EINVAL;
	return gate(mm_try(fl->mm, (uintptr_t)addr, length));
}
