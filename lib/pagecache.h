/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pagecache.h - the cached pages of one backing (the kernel's address_space).
 *
 * A backing is where the pages of a file mapping come from: an ordinary file,
 * or a program's own source (struct fl_backing).  Its cached pages are pages of
 * one memfd.  We fill and read them through an alias mapping that is not
 * registered; shared mappings of the application are mappings of the same
 * memfd, registered, into which a page is let by UFFDIO_CONTINUE.  So are private ones
 * that were neither writable nor executable so far (REGION_PRIVATE); others are anonymous
 * memory: untouched pages are copied from the cache.
 *
 * One 32-bit word a page tells its state.  Words, and the alias, come in
 * chunks of 1 GiB of the backing, made when first needed; a word holds no
 * pointer, so that words can lie in memory that processes share.
 *
 * Invariants.
 * 1. A page without CACHE_DIRTY is write-protected wherever it is mapped: it
 *    cannot be written without a fault, and faults are answered under the mm
 *    lock.  So under that lock a clean page may be dropped.
 * 2. A write of a page begins with write-protecting it everywhere, before its
 *    bytes are read; what is written after is dirty again.
 * 3. A page that is read or written (LOCKED, WRITEBACK) is not dropped; who
 *    truncates marks it CACHE_GONE, and the end of the I/O drops it.  So it does with a
 *    page that is read while the file's end moves within it: it is read again.
 *
 * Frames.  Every page that is UPTODATE or LOCKED is a frame of the runtime.
 *
 * Devices.  A read with O_DIRECT into a shared mapping has pages that were writable
 * when it began, and stores into them when it ends; in between they may have been
 * written, protected and thought clean.  The kernel tells nobody which pages
 * are in use so.  What it stores would be lost with the page, or not be
 * written: so for a time after its write a page is RECENT: it is not dropped,
 * nor put aside, and when that time is over, and before each sync, its bytes
 * are compared by checksum with those that were written.  Where they differ it is
 * dirty.  A page that is locked stays RECENT until it is not.
 *
 * Accepted: what lasts longer than RECENT_MAX (less, in a small cache:
 * recent_ns()), and ends in a page that is not locked, is not noticed.
 * Who waits for the last page while others append to the file waits for one more read
 * each time that its end is seen to have moved meanwhile.
 * What others write to the file is seen when a page is read the next time.
 *
 * A page that was read by itself, for a fault, is let in where its first toucher waits, and
 * into other mappings only if somebody else waited meanwhile (CACHE_MANY): who comes later faults by himself.
 *
 * What a stream read ahead may be let into its mapping before anybody touches it (PLACED).  No
 * fault tells then that it is touched: it counts as asked for when the window that it is of
 * begins to be, whose first pages are not let in.  It is a hint: a PLACED page that was unmapped
 * behind the cache's back faults like any that is cached.
 *
 * Of what was asked for the same bit says that it came by a stream, and was not unmapped since.
 * It is among the first to leave when the stream has passed over it (mm.h).
 *
 * A sync that fails says that some of what was written may not be durable; the kernel says so once,
 * to one who asks, and forgets which pages.  So all are told who would be told of a write that
 * failed, and what was written since the last good sync, UNSYNCED, is dirty again, as far as it is
 * cached.  Of two syncs at one time, of which one fails, the other's end may be heard of first:
 * who asked for that one is told the next time.
 *
 * A read that was left behind (detour.h) stores into the pages' place in the alias,
 * or into the frames that it had there, when it ends; nobody is to see that.
 * So the pages get other frames, and that place other memory until then.  A LEFT
 * page is neither written nor dropped, and not looked at through the alias.
 *
 * Mappings of other processes (peer.h) are mappings of the same memfd: their regions
 * are in the same list, with the userfaultfd that they are registered with.  Their
 * pages cannot be unmapped from here; a clean one leaves every mapping when it is taken
 * out of the memfd, and is put back.
 *
 * A server's memfd outlives it, and another server takes it over (cache_take()), with what
 * is dirty and its words, so that whoever has it mapped goes on with the memory that he has.
 * Who pages a memfd holds a write lock on its words; nobody lets a page of it in without
 * that, or, where no server has it, without a read lock (share.c).  Of the processes that
 * have it mapped some may not have come yet, or never come: what is not known to be
 * write-protected there is LOOSE: nothing that invariant 1 says is true of it.  It is dirty,
 * or RECENT, until its bytes were taken from every mapping at once and are as they were
 * written.
 *
 * Not all frames become bound to files: direct I/O of a file waits for a thread that holds the
 * file's lock in write(2), and that one may wait for a frame.  So a part is left to what
 * can leave without, memory and clean pages: stores wait (fault_file()), nothing is read ahead,
 * and in the end what is asked for is read where no lock is needed (detour_read()).  What could
 * not be written is not counted: it waits for nobody before the next try, and stores do not wait
 * for a time when it can be.
 *
 * Called with the mm lock held.
 */
#ifndef FL_PAGECACHE_H
#define FL_PAGECACHE_H

#include "blkio.h"
#include "faultline.h"
#include "landing.h"
#include "pool.h"
#include "pte.h"
#include "readahead.h"
#include "region.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct cache_cut;
struct file_id;
struct mm;
struct pager;
struct past;
struct source;

#define CACHE_UPTODATE 0x001U  /* holds the backing's bytes, or what was written over them */
#define CACHE_LOCKED 0x002U    /* being read */
#define CACHE_DIRTY 0x004U     /* to be written */
#define CACHE_WRITEBACK 0x008U /* being written */
#define CACHE_ERROR 0x010U     /* its last write failed */
#define CACHE_YOUNG 0x020U     /* touched again after the clock had unmapped it */
#define CACHE_IDLE 0x040U      /* unmapped by the clock, or never mapped: the next to be dropped */
#define CACHE_AHEAD 0x080U     /* read ahead, not asked for */
#define CACHE_DEMAND 0x100U    /* a thread waits for it */
#define CACHE_SYNC 0x200U      /* fl_msync() waits for its write */
#define CACHE_GONE 0x400U      /* truncated while it was read or written: 3 */
#define CACHE_RECENT 0x800U    /* clean, but a device may still store into it; below */
#define CACHE_LEFT 0x1000U     /* there, but its read was left behind and has not ended: below */
#define CACHE_MANY 0x2000U     /* with DEMAND: others than who asked first wait, too, wherever */
#define CACHE_UNSYNCED 0x2000U /* not being read: was written since the last good sync; below */
#define CACHE_LOOSE 0x4000U    /* may be stored to where it was never told: above */
#define CACHE_PLACED 0x8000U   /* AHEAD: in its mapping already; else: a stream brought it; below */
#define CACHE_TICK_SHIFT 16    /* when it became dirty; RECENT: when it was write-protected */

#define CHUNK_PAGES ((uint64_t)1 << 18)
#define CHUNK_BYTES ((size_t)CHUNK_PAGES * PAGE_SIZE)
#define CACHE_CHUNKS ((uint64_t)1 << 17)
#define CACHE_PAGES_MAX (CHUNK_PAGES * CACHE_CHUNKS) /* 128 TiB */
#define CACHE_NONE UINT64_MAX
/* No frame can be had of these before I/O of their file has ended. */
#define CACHE_BOUND (CACHE_LOCKED | CACHE_DIRTY | CACHE_WRITEBACK | CACHE_LEFT)
/* How long a server's memfd of words is, with what is behind them: RLIMIT_FSIZE is to allow that. */
#define CACHE_REACH (CACHE_PAGES_MAX * sizeof(uint32_t) + PAGE_SIZE)
#define CACHE_BLOCK 512U /* pages: what counts are kept for */

/* The last write of a file that failed; who has heard of smaller numbers only is told, once. */
struct cache_failure {
	uint64_t number; /* files.failures as of it; 0: none did */
	int err;
	bool seen; /* somebody was told: who comes from then on has nothing to hear of */
};

struct cache_chunk {
	char *alias;
	uint32_t *word; /* CHUNK_PAGES */
	uint64_t *sum;	/* CHUNK_PAGES, of what was written of RECENT ones; NULL: of none yet */
	struct {
		uint16_t frames, dirty;
		uint32_t drops; /* odd while pages of it are taken out of the memfd: publish.h */
		bool unsynced;	/* some may be */
	} block[CHUNK_PAGES / CACHE_BLOCK];
};

/* What is known of writes that are waited for: cache_written(). */
struct cache_wait {
	bool begun; /* all of them, when pc->turns was: */
	uint32_t turns;
};

struct pagecache {
	struct region_users users; /* first: a region's users is the pagecache */
	struct mm *mm;
	struct pagecache *next;
	uint64_t dev, ino; /* of an ordinary file */
	uint64_t size;	   /* bytes, as last seen */
	struct timespec changed,
		looked; /* its st_ctim, and when that was looked at: cache_renew() */
	/* its size was last asked for when so many requests of that queue had ended */
	const struct blkio *seen_by;
	uint64_t seen;
	struct source *source; /* NULL: an ordinary file */
	int memfd, state_fd;
	uint64_t memfd_ino; /* MM_SERVER */
	uint32_t shown;	    /* to a store's server: stored_say() */
	int marks_fd; /* MM_SERVER: what is stored when we have gone, a byte a page (share.c) */
	uint64_t memfd_pages, chunks;
	int fd;	       /* buffered; in the pagers' descriptor table */
	bool writable; /* and it is open for writing */
	int fds[6];    /* every descriptor that was opened for it */
	unsigned nfds;
	uint32_t handles;	     /* of the program's, and of calls that wait */
	struct past *past;	     /* pages that are to stay absent (filedata.h) */
	struct blk_dev rd, wr, tail; /* direct where the file can be; tail: buffered */
	uint32_t inflight;
	uint32_t writing[2], turns; /* writes in flight, by the turn that they began in */
	struct cache_wait out;	    /* of do_write_out() */
	struct cache_cut *cuts;	    /* pages that are about to go (truncate.h) */
	bool truncating;	    /* by the program: between the halves of do_truncate() */
	uint32_t wrote;		    /* writes that were good, so far */
	uint32_t unsynced;	    /* blocks */
	uint32_t syncing;	    /* syncs in flight; */
	uint64_t bad_sync;	    /* files.failures as of the last one that failed */
	uint32_t reading;	    /* reads in flight, */
	uint64_t read_since;	    /* and when one last began alone, or ended, ns (detour.h) */
	uint32_t direct_reads;	    /* of these: not by way of the kernel's cache */
	int direct_fd;		    /* is to be rd.fd again when those have ended; -1: nothing is */
	uint64_t write_next;	    /* where write-back in the background goes on */
	/* tries to write it that failed since nobody has mapped it, and none did not; ticks */
	uint32_t orphan_tries;
	uint64_t orphan_since, orphan_tried; /* the first one's, the last one's */
	uint64_t frames, dirty, recent, loose;
	uint64_t keep_until; /* processes that are not known may have the memfd, ns; 0: none */
	uint32_t left;	     /* by peers that may come again (peer.c) */
	bool loosened;	     /* within one call of peer.c's: all that is dirty is LOOSE */
	bool given_up;	     /* MM_SERVER: with what is dirty, which the words go on to say */
	int error;	     /* of a write, not told yet */
	struct cache_failure failure;
	struct file_streams streams;
	struct cache_chunk **chunk;
	char name[160];
};

/* The part of a read or write that one call does. */
struct file_io {
	struct blk_req req;  /* first: the callback gets it */
	struct pager *pager; /* that queued it; of a source: that heard of its end */
	struct pagecache *pc;
	void (*done)(struct file_io *io, int res);
	struct file_io *next; /* in a source's queue */
	uint64_t page;
	uint32_t n;
	uint32_t tries;
	uint64_t t0;	   /* of the fault that asked; 0: none did */
	vpn_t vpn;	   /* and where */
	struct peer *peer; /* in whose memory; NULL: ours */
	bool write;	   /* it wants to write */
	bool direct;	   /* a read or write of pages that began so */
	uint32_t turn;	   /* writes: pc->turns when it began */
	uint32_t landing;  /* reads: where in landing.h, or LANDING_NONE: in the cache */
	uint32_t heard;	   /* reads: the touch of the first so many pages is to be heard of */
	uint32_t wrote;	   /* syncs: pc->wrote when it began, */
	void *waiter;	   /* and who waits */
	size_t bytes;	   /* of a source: the last page may be a part */
	struct iovec iov;
	/* a page that could not be read: who is asked, and about what (traits.h) */
	fl_error_fn on_error;
	void *error_arg;
	int err;
};

#define BUS_MAX 64U
#define ENDED_MAX 64U
#define FILE_TICK 250000000U /* ns: how finely the age of dirty pages is told */
#define RECENT_MAX 2000000000U
#define RECENT_MIN 40000000U

/* What a runtime has of files. */
struct files {
	struct pagecache *first;
	struct pool io_pool;
	uint64_t frames, dirty, writeback, bound, idle, recent;
	uint64_t cuts;	       /* of all */
	uint64_t recent_until; /* by then what is RECENT will not be, but for what is locked, ns */
	uint32_t jobs;	       /* of sources, in flight */
	uint32_t exiting;      /* the program has called exit(3); atomic, set once */
	uint32_t reading;      /* reads of files and sources, in flight */
	uint64_t read_ended;   /* when the last one did, ns */
	uint32_t event;	       /* futex: grows when a write or a sync ended */
	uint64_t failures;     /* of writes, so far; atomic for who reads it without the lock */
	/* MM_SERVER: of files whose caches have ended; the oldest goes first */
	struct ended_cache {
		uint64_t dev, ino;
		uint64_t birth; /* ns; 0: not known */
		struct cache_failure failure;
	} ended[ENDED_MAX];
	unsigned next_ended;
	uint32_t lookers;	/* threads that read words without the lock; atomic */
	struct pagecache *dead; /* freed when there is none */
	/* the clock: pages are unmapped at `lead` and dropped at `tail`, which follows it */
	struct pagecache *lead, *tail;
	uint64_t lead_page, tail_page;
	uint64_t passed;    /* hot pages since `lead` was at the beginning, of the server's */
	uint64_t looks;	    /* pages that left since the clock last gave one beside the trail */
	uint32_t owed;	    /* reclaim.c: parts of a page that are theirs to give */
	uint64_t next_tick; /* when dirty pages are looked at, ns; 0: not */
	uint64_t drained;   /* written in the background until so few are dirty */
	bool behind;	    /* some files were not looked through to their end */
	bool unsettled;	    /* what was written is looked at in the next round, too */
	bool closing;	    /* MM_SERVER, at its end: what was written stays RECENT */
	/* pages that raise SIGBUS just now, and since when */
	struct {
		struct peer *peer;
		vpn_t vpn;
		uint64_t since;
	} bus[BUS_MAX];
	unsigned nbus;
	struct landing landing;
	char *aside; /* MM_SERVER: where pages are kept while they are unmapped */
	int pipe[2]; /* MM_SERVER: where a frame is while it is of no mapping and of no memfd */
};

static inline struct pagecache *cache_of(const struct region *r)
{
	return (struct pagecache *)(void *)r->users;
}

/* What names a page among all of its kind (workingset.h). */
static inline uint64_t cache_name(const struct pagecache *pc, uint64_t page)
{
	return (uint64_t)(uintptr_t)pc << 12 ^ page;
}

static inline uint64_t cache_pages(const struct pagecache *pc)
{
	return (pc->size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/* That of an ordinary file; NULL: there is none. */
struct pagecache *cache_find(const struct mm *mm, uint64_t dev, uint64_t ino);
/*
 * The cache of the file behind descriptor fd of the program, on a pager:
 * found or made.  `write`: a mapping will be shared and writable.  0 or -errno.
 */
int cache_open_file(struct mm *mm, int fd, bool write, struct pagecache **out);
/* The same of a descriptor in the pagers' table. */
int cache_open_here(struct mm *mm, int fd, bool write, struct pagecache **out);

/* What a server before this one left of a file: descriptors of its memfds, which stay the caller's. */
struct cache_before {
	uint64_t memfd_ino;
	int memfd, state_fd, marks_fd; /* -1: only who has them brings them */
	bool unchanged; /* what is not in the file yet may be written to it: nobody else has changed it */
};

/*
 * The cache of a file from what was left of it, or the one that was made from that.
 *	-EAGAIN	it is not there yet, or others use it just now; or what is not in the
 *		file yet was brought by who may only read it
 *	-EBUSY	there is another one, or the file was changed and not all is in the file
 *	-EPERM	it is not a server's
 */
int cache_take(struct mm *mm, int fd, bool write, const struct cache_before *before,
	       struct pagecache **out);
/* Whether that one is the file's: so nothing is to be given back. */
bool cache_has(const struct mm *mm, uint64_t dev, uint64_t ino, uint64_t memfd_ino);
/* For so long, though nobody maps it: who has the memfd may come. */
void cache_keep(struct pagecache *pc, uint64_t ns);
/* Whether it is for that that it is kept just now. */
bool cache_is_kept(const struct pagecache *pc);
#define CACHE_KEEP_NS                                                                              \
	60000000000ULL /* what a server before us left, or who has lost his connection has */
#define CACHE_NOTE_NS 4000000000ULL /* after a write: then a change by others would show (TICK_S) */

/* The same for a private mapping, by a thread whose descriptor table may not be the process's; *id must be it. */
int cache_open_chosen(struct mm *mm, int fd, const struct file_id *id, struct pagecache **out);
/*
 * What is cached of a file that is mapped privately alone leaves, if the file may
 * have been changed since: a new mapping sees the file as it is.
 */
void cache_renew(struct pagecache *pc);
/* In a forked child, for each file: nothing is cached; fd is the parent's, and taken. */
int cache_forked(struct pagecache *pc, int fd);
void files_forked(struct mm *mm); /* before that */
/* Of a program's own source. */
int cache_open_source(struct mm *mm, struct source *source, uint64_t size, bool write,
		      struct pagecache **out);
/* Give back what nobody maps or holds and has nothing more to write; after a round of the pager's loop. */
void cache_sweep(struct pager *p);
void cache_free(struct pagecache *pc);
/* How a write of a file last failed whose cache has ended; NULL: none did. */
struct cache_failure *cache_failed(struct mm *mm, uint64_t dev, uint64_t ino);
/* What one has heard of who opens the file behind fd; pc NULL: nothing of it is cached. */
uint64_t cache_heard(struct mm *mm, const struct pagecache *pc, int fd);
/* The error of a failure that has not been heard of there: that it was; 0: none. */
int cache_news(struct cache_failure *f, uint64_t *heard);
/* The memory of those that are freed, unless somebody looks at words just now. */
void cache_bury(struct mm *mm);

/* The memfd reaches that far, so that a mapping can. */
int cache_cover(struct pagecache *pc, uint64_t pages);

/* Words.  cache_reserve(): cache_set() of [page, page + n) cannot fail; it ends within a chunk. */
uint32_t cache_get(const struct pagecache *pc, uint64_t page);
int cache_reserve(struct pagecache *pc, uint64_t page);
void cache_set(struct pagecache *pc, uint64_t page, uint32_t word);
/* The first page from `page` on with a bit of the mask, CACHE_DIRTY alone or any; CACHE_NONE. */
uint64_t cache_next(const struct pagecache *pc, uint64_t page, uint32_t mask);
/* The same, that looks no further than `stop`: what it finds from there on means none. */
uint64_t cache_next_before(const struct pagecache *pc, uint64_t page, uint64_t stop, uint32_t mask);
char *cache_addr(const struct pagecache *pc, uint64_t page);

/* Where pages [page, page + n) lie in a region: the first, and how many; false: none. */
bool cache_part(const struct region *r, uint64_t page, uint64_t n, vpn_t *vpn, uint64_t *part);
bool cache_is_locked(const struct pagecache *pc, uint64_t page); /* mlock(2) */

void cache_unmap(struct pagecache *pc, uint64_t page, uint64_t n);
bool cache_protect(struct pagecache *pc, uint64_t page, uint64_t n);
void cache_wake(struct pagecache *pc, uint64_t page, uint64_t n);
/* A page whose read goes on gets its bytes all the same, and is LEFT: 0 or -errno. */
int cache_leave(struct pagecache *pc, uint64_t page, const void *bytes);
/* The read of the page has ended: false if it was not left. */
bool cache_left(struct pagecache *pc, uint64_t page);
/* Drop pages that nothing is in flight for; false: the kernel refused. */
bool cache_drop(struct pagecache *pc, uint64_t page, uint64_t n);
/* The same for clean ones that may be in use: as far as they are free to go. */
void cache_forget(struct pagecache *pc, uint64_t page, uint64_t end);

/* About to be written, and write-protected: they are RECENT.  0 or -ENOMEM. */
int cache_note(struct pagecache *pc, uint64_t page, uint64_t n);
/* Whether nothing will store into a clean page any more without being noticed; it may be dirty then. */
bool cache_settled(struct pagecache *pc, uint64_t page);
/* Find what devices stored into clean pages of [page, stop): they are dirty. */
void cache_look_again(struct pagecache *pc, uint64_t page, uint64_t stop);

/* Pages were written that are in a chunk: they are UNSYNCED by now. */
void cache_wrote(struct pagecache *pc, uint64_t page, uint64_t n);
/* No page is UNSYNCED any more, for they are durable, or dirty again. */
void cache_synced(struct pagecache *pc, bool durable);

/* How many more pages may become bound, n at most; asked: by who waits for one. */
uint64_t cache_may_bind(const struct mm *mm, uint64_t n, bool asked);

/* A write fault was answered. */
void cache_dirty(struct pagecache *pc, uint64_t page);

/* The backing is that long now: what is beyond leaves, dirty or not. */
void cache_resize(struct pagecache *pc, uint64_t size);
/*
 * The file is about to end at `size`: where that is farther than it ends now, what was
 * stored behind its end was nobody's, and becomes zeros.
 */
void cache_grow(struct pagecache *pc, uint64_t size);
/* Ask the file for its size: 0, or -errno and it is as it was last seen. */
int cache_look_at_size(struct pagecache *pc);

/* Pages of which there are private copies are the next to be dropped; now: at once. */
void cache_spare(struct pagecache *pc, uint64_t page, uint64_t n, bool now);

/* Up to `want` frames leave; starts writes for what is dirty.  How many left. */
uint64_t cache_shrink(struct pager *p, uint64_t want);

/* Start an I/O whose pager, pc, op, page, n, memory and done are set. */
void cache_start(struct file_io *io);
void cache_io_restart(struct file_io *io);
/* A write has ended so: true, it was refused as a direct one, and begins again, buffered as all from then on. */
bool cache_write_refused(struct file_io *io, int res);
void cache_io_end(struct file_io *io);

/* writeback.c */

/* Start writing dirty pages from `page` on, up to n of them that are adjacent; how many. */
uint32_t cache_write(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n);
/*
 * A sync has ended.  What it came to for who has had pages written since there were so many
 * failures: one that failed meanwhile may have been told what concerns these.
 */
int cache_sync_ended(const struct file_io *io, int res, uint64_t since);
/*
 * Whether what was marked (CACHE_SYNC) of [page, stop) when `wait` was zeros, and asked for since
 * by cache_write(), is written, whatever else is being written of the file by now.
 */
bool cache_written(struct pagecache *pc, uint64_t page, uint64_t stop, struct cache_wait *wait);
/* Background write-back, errors of pages, SIGBUS that ends; after a round of the pager's loop. */
void files_round(struct pager *p);
/* Whether pages that were written, or are about to be cut off, will be free to go before long. */
bool files_settling(const struct mm *mm);
/* How long a pager may sleep, ns. */
uint64_t files_timeout(const struct mm *mm);
/* Who waits for files.event looks again. */
void files_tell(struct mm *mm);
/* What could not be written is told in the log, and clean. */
void cache_give_up(struct pagecache *pc);
#define CLOSE_TRIES 4U /* to write, at the end */
/* Write all of one and wait; 0 or the first error, told by that.  What cannot be written stays. */
int cache_write_all(struct pager *p, struct pagecache *pc);
/* The same, but that is given up, and told in the log. */
int cache_flush(struct pager *p, struct pagecache *pc);
/* Unmap every file, write everything and let go; what cannot be written is told in the log. */
void files_close(struct pager *p);

/* fault-file.c: reading. */
/* Start reading what is absent of [page, page + n), in the background; how many pages were started. */
uint32_t file_prefetch(struct pager *p, struct pagecache *pc, uint64_t page, uint64_t n);
/* More than that are not begun by one call: what comes later would push out what came first. */
uint64_t file_prefetch_most(const struct mm *mm);
/* Pages were asked for: they are no longer what was only read ahead. */
void file_asked(struct pagecache *pc, uint64_t page, uint64_t n);
/* A read of one page has failed for good: who asked for it gets SIGBUS. */
void file_lost(struct file_io *io, int err);
/* A touch of the page raises SIGBUS, for a moment. */
void file_sigbus(struct mm *mm, struct peer *peer, vpn_t vpn);
/* Nothing of the range raises it any more: the peer unmaps it. */
void file_sigbus_forget(struct mm *mm, const struct peer *peer, vpn_t vpn, vpn_t end);
/* Those that raised it for longer than that ask again. */
void file_sigbus_end(struct mm *mm, uint64_t now);

#endif
