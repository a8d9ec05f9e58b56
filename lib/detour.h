/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * detour.h - pages of files around the lock of their file.
 *
 * A thread that writes to a file, from a page of a mapping that is not there,
 * holds the file's lock in the kernel while it waits for the page.  If the
 * page is of that file, or of one whose writer waits for a page of the
 * first, a read of it waits for that lock: for ever.  The kernel's own faults do
 * not take it.  So a read that does not end for DETOUR_NS is left behind: the
 * pages that threads wait for are taken from a mapping of the file that the
 * kernel serves, and copied to where they are missing.  Pages of private mappings
 * need not come from the page cache for that; those of shared ones get other frames
 * there (cache_leave()), all that are being read of the file, since it is not known
 * when the read will end.
 *
 * Called with the mm lock held.
 */
#ifndef FL_DETOUR_H
#define FL_DETOUR_H

#include <stdbool.h>
#include <stdint.h>

struct mm;
struct pagecache;
struct pager;

#define DETOUR_NS 200000000U

/* After a round of the pager's loop. */
void detour_round(struct pager *p, uint64_t now);
/* A read that began as a direct one has ended, failed ones too. */
void detour_read_ended(struct pagecache *pc);

/*
 * Read pages into the page cache by the same way at once, for who cannot leave
 * a read behind: 0 or -errno.
 */
int detour_read(struct pagecache *pc, uint64_t page, uint32_t n);

#endif
