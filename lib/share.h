/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * share.h - shared mappings of a store's files, which the store's server pages: a
 * client's half (peer.h is the server's).
 *
 * All processes that map a file of the store map the one memfd that the server
 * keeps its cached pages in.  A client registers those mappings with a userfaultfd
 * of their own, gives the server a copy of it, and says what is mapped where; the
 * server reads and answers the faults.  So the client's own pagers know of these
 * regions (REGION_REMOTE) and not of their pages.
 *
 * A file that may only be read is mapped privately, from a descriptor that is for
 * reading: registering a shared mapping would take the right to write to the
 * memfd.  Never being writable, it shows the cached pages all the same.
 *
 * When the server has gone the mappings are stranded, and the client answers: what is cached
 * stays, and can be written, and what is not raises SIGBUS; never zeros, never a wait for
 * ever.  The server that comes next is given the userfaultfd and the memfds, and goes on
 * with them.  Until it has them nobody but who holds the lock of the words lets a page in
 * (pagecache.h); what is stored meanwhile is marked, a byte for each page, in a memfd that
 * belongs to the file's.
 *
 * What it does not take stays so: it tells us these faults, as it reads them all.  It is
 * given what was stored there and is not in the file: when it comes, and again when the
 * mappings end.
 *
 * What madvise(2) says of such a mapping is told to the server, and so is what is
 * locked: there, for what a process may lock is for its kernel to say first.  So are priority and
 * window of fl_region_set(), and all of it again with each mapping: to the server that comes
 * next, too.
 *
 * The server's answer is waited for when a mapping comes or goes, and when the
 * process forks, for WAIT_NS at most: then the server counts as gone.  A call that maps a
 * file which is to be taken first waits for that alone, and is made again (share_calls()).
 *
 * Called on a pager with the mm lock held.
 */
#ifndef FL_SHARE_H
#define FL_SHARE_H

#include "pte.h"
#include "region.h"
#include "store-wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hop_slot;
struct map_file;
struct mm;
struct pager;
struct sync_wait;

#define SHARE_NOT 1L /* no address: the file is not the store's */

/*
 * Map what is asked for, if it is a file of the store: its address, -errno or SHARE_NOT;
 * HOP_LATER: it waits, and is asked for again in a round.
 */
long share_map(struct mm *mm, struct map_file *m, struct hop_slot *caller);
/* More pages of what a region maps, or the same again. */
long share_map_more(struct mm *mm, const struct region *r, uintptr_t addr, size_t len, int flags,
		    uint64_t page);

/* Before anything of [start, end) is unmapped or mapped over; and when it was not after all. */
void share_leave(struct mm *mm, uintptr_t start, uintptr_t end);
void share_return(struct mm *mm, uintptr_t start, uintptr_t end);

/* Whether any of [start, end) is paged by the server. */
bool share_has(struct mm *mm, uintptr_t start, uintptr_t end);
/* Whether a shared mapping of the file would be; on an application thread. */
bool share_would(const struct mm *mm, int fd);

/* Tell what fl_region_set() has said of a range, as its regions have it: 0 or the first -errno. */
long share_want(struct mm *mm, uintptr_t start, uintptr_t end);

/* Have advice followed there: 0 or the first -errno.  Of REMOVE [start, end) is one region's. */
long share_advise(struct mm *mm, uintptr_t start, uintptr_t end, enum wire_advice what);
/* The same for what madvise(2) was told; what says nothing to the server is passed over. */
void share_madvise(struct mm *mm, uintptr_t start, uintptr_t end, int advice);
/* Tell which parts are locked, as their regions say: 0 or the first -errno. */
long share_relock(struct mm *mm, uintptr_t start, uintptr_t end);

/* Write and make durable what is dirty of [start, end); counts in wait. */
void share_sync(struct mm *mm, uintptr_t start, uintptr_t end, struct sync_wait *wait);

/* The word of a cached page (pagecache.h). */
uint32_t share_word(const struct region *r, uint64_t page);

/* Have the server read pages of a region: how many it reads for one who asks, at most; 0: none. */
uint64_t share_bring(struct mm *mm, const struct region *r, vpn_t vpn, vpn_t stop);
/* The first page of these that it neither has nor reads, or that it reads; none, or no server: stop. */
vpn_t share_next_absent(const struct region *r, vpn_t vpn, vpn_t stop);
vpn_t share_next_reading(const struct region *r, vpn_t vpn, vpn_t stop);

/* Tell the server which memfd is whose (stored_say()); false: not all. */
bool share_tell(struct mm *mm);

/* There is a server again, which may be another one. */
void share_come_back(struct mm *mm);

/* fd is one of ours, and has something to say. */
bool share_ready(struct mm *mm, int fd);
/* In a round of the pager; and in one in which calls are done: those that waited. */
void share_round(struct pager *p);
void share_calls(struct pager *p);
/* When that wants to be called at the latest, in ns from now; UINT64_MAX: when something happens. */
uint64_t share_patience(const struct mm *mm);

/* Unmap all, and end. */
void share_close(struct mm *mm);

/* In a process that forks: a connection for the child, or -1 where there is nothing to hand on. */
int share_fork(struct mm *mm);
/* In the child: with that one; then for each region, and when all is registered. */
int share_forked(struct mm *mm, int sock);
int share_adopt(struct mm *mm, const struct region *r);
void share_adopted(struct mm *mm);

#endif
