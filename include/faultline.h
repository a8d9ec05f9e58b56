/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * faultline.h - page memory in user space.
 *
 * A runtime (struct fl) manages regions of the calling process's address
 * space and keeps their resident memory below a limit, moving pages to swap
 * areas and back.  The calls are named for the system calls whose contract
 * they follow; each has a manual page in section 3 that lists every
 * difference.  faultline(7) explains the terms.
 *
 * What follows holds for every function; the comment at each says what is
 * special about it.
 *
 * Return values.  Functions that return int return 0 (or a count) on success
 * and -errno on failure; errno itself is left alone.  fl_mmap(),
 * fl_mmap_backing() and fl_mremap() return an address, or FL_FAILED with errno
 * set, as mmap(2).  An error of the system that this library does not know is
 * returned as EIO.
 *
 * Ranges.  A range begins at a multiple of 4096.  Its length is in bytes, not 0,
 * and rounded up to pages.
 *
 * Ownership.  Strings and structures are copied, and descriptors duplicated,
 * within the call; they stay the caller's.  Pointers that are kept are named.
 *
 * Threads.  Every function may be called from any thread, concurrently, and
 * on the same runtime.  fl_close() must be the last call on a runtime, and
 * fl_backing_close() on a backing, with none in progress.  No function may be
 * called from a signal handler or a log function, and none on the same runtime
 * by the functions of a source or by on_error.  A call that is done by a pager
 * waits for it with all signals blocked, and for other calls that came first; one
 * about mappings that a store's server pages waits for its answer.  What else a
 * call waits for is said there.
 *
 * Starting pagers.  The first call that needs a pager starts them, and may fail
 * for that: -EACCES, -EPERM, -ENOENT or -ENOSYS where userfaultfd(2) cannot be
 * used, -EAGAIN, -EFBIG, -EMFILE, -ENFILE or -ENOMEM for want of resources.  The
 * same goes for the call that arms the runtime, which may have to make a private
 * swap area, and waits until frames are within the limit.  Below this is "as pagers
 * are started"; fl_open(3) has all of it.
 *
 * fork(2) and execve(2).  A child must not use a runtime or a backing that it
 * inherited, not even to close it; it may open a runtime of its own.  Managed
 * memory of an armed runtime (see faultline(7)) is unmapped in the child: a touch
 * raises SIGSEGV, and never reads zeros.  Memory of a runtime that is not armed is
 * copied, as fork(2) does.  The parent's runtime is as before.  An exec ends the
 * runtime as _exit(2) does: what was not yet written to files is lost.  exit(3) writes it.
 */
#ifndef FAULTLINE_H
#define FAULTLINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FL_VERSION_MAJOR 0
#define FL_VERSION_MINOR 1

/** What fl_mmap() and fl_mremap() return on failure; equals MAP_FAILED. */
#define FL_FAILED ((void *)-1)

/** A runtime.  Opaque; made by fl_open(), ended by fl_close(). */
struct fl;

/** How pages that were written since they were read in are distinguished. */
enum fl_wp {
	FL_WP_AUTO = 0, /**< write-protect where it pays, else compare checksums */
	FL_WP_SYNC = 1, /**< a synchronous write-protect fault for each first write */
	FL_WP_OFF = 2,	/**< never write-protect; compare checksums */
};

/** What evicted pages are compressed by, before any goes to an area. */
enum fl_compress {
	FL_COMPRESS_NONE = 0, /**< nothing: they go to areas */
	FL_COMPRESS_LZ4 = 1,  /**< lz4: fast */
	FL_COMPRESS_ZSTD = 2, /**< zstd, level 1: smaller, at three times the time */
};

/** Who does the block I/O. */
enum fl_engine {
	FL_ENGINE_AUTO = 0,  /**< io_uring where the kernel allows it, else sync */
	FL_ENGINE_URING = 1, /**< io_uring(7), or fail */
	FL_ENGINE_SYNC = 2,  /**< pread(2) and pwrite(2) */
};

enum fl_log_level {
	FL_LOG_ERROR = 0,
	FL_LOG_WARN = 1,
	FL_LOG_INFO = 2,
	FL_LOG_DEBUG = 3,
};

/**
 * Receives one log line, without a newline.  Called on the thread that logs,
 * often a pager's: it must not use descriptors, locks, thread-local variables or
 * standard I/O, must not touch managed memory and must not call faultline;
 * fl_open(3) says what it may.
 */
typedef void (*fl_log_fn)(void *arg, enum fl_log_level level, const char *line);

/** One swap area; see fl_swapon(). */
struct fl_swap_spec {
	const char *path; /**< file or block device; NULL: a private, growing file in swap_dir */
	uint64_t size;	  /**< bytes; 0: all that the file has, or (private) half of what is free */
	int prio;	  /**< 0 to 32767, higher is filled first; -1: below all others, in order */
	unsigned flags;	  /**< 0 */
};

/**
 * Options of fl_open().  Zero-initialise, set .size = sizeof(struct
 * fl_options), then what you need: every zero means its default.
 */
struct fl_options {
	size_t size;	/**< sizeof(struct fl_options): which fields the header has */
	uint64_t limit; /**< bytes of frames, FL_LIMIT_MIN or more; 0: 3/4 of RAM */
	const struct fl_swap_spec *areas; /**< swap areas to start with */
	unsigned nareas;       /**< how many; 0: one private area, made when first needed */
	enum fl_engine engine; /**< block I/O */
	enum fl_wp wp;	       /**< dirty tracking */
	unsigned pagers;       /**< pager threads, 1 to 16; 0: 1 */
	size_t fault_around;   /**< largest fault-around in bytes, 4096 to 2 MiB; 0: 2 MiB */
	size_t readahead;      /**< largest read-ahead window in bytes, 4096 to 2 MiB; 0: 1 MiB */
	const char *swap_dir;  /**< where private areas live; NULL: /var/tmp */
	enum fl_log_level log_level; /**< lines above this level are dropped */
	fl_log_fn log;		     /**< NULL: standard error */
	void *log_arg;		     /**< first argument of log */
	unsigned near;		     /**< 1: pager and a thread that pages alone on one CPU */
	const char *store;	     /**< absolute path of a store's mount; NULL: none */
	unsigned store_flags;	     /**< FL_STORE_FUSE, or 0 */
	enum fl_compress compress;   /**< compressed pages between memory and areas */
	uint64_t pool;	   /**< most bytes of compressed pages, of the limit's; 0: 1/4 of it */
	int no_swap;	   /**< not 0, with compress and without areas: no area is made */
	unsigned reserved; /**< 0 */
	/** Milliseconds after which dirty pages of files are written, 250 to 3600000; 0: 5000. */
	unsigned dirty_expire;
	/** Per cent of the limit that may be dirty before all are, 1 to 50; 0: 12. */
	unsigned dirty_background;
};

/** Page through the store's mount, not to its areas directly. */
#define FL_STORE_FUSE 1

/** The smallest limit: below it a single instruction may not make progress. */
#define FL_LIMIT_MIN ((uint64_t)2 << 20)

/**
 * A program's own source of pages, for fl_backing_open().  The functions are
 * called on threads of the runtime's own, with all signals blocked, several at once
 * if `threads` says so; they may block and use the C library.  They must touch no
 * mapping of the same source, and call nothing on its runtime.  Each returns 0 or -errno.
 */
struct fl_backing_ops {
	size_t size; /**< sizeof(struct fl_backing_ops), as in struct fl_options */
	/** Fill buf with the bytes from offset on: whole pages, or up to the source's end. */
	int (*read)(void *ctx, uint64_t offset, void *buf, size_t length);
	/** Take changed bytes.  NULL: the source is for reading only. */
	int (*write)(void *ctx, uint64_t offset, const void *buf, size_t length);
	/** Make durable what was written.  NULL: it is when write returns. */
	int (*sync)(void *ctx);
	unsigned threads;  /**< how many calls at once, 1 to 16; 0: 1 */
	unsigned reserved; /**< 0 */
};

/** Where pages come from: a file, or a program's own source.  Opaque. */
struct fl_backing;

/** Most swap areas of one runtime. */
#define FL_SWAP_MAX 32

/**
 * A flag of fl_mmap() and fl_mmap_backing(), beside MAP_SHARED: what is stored
 * in the mapping reaches the file by fl_sync() alone.
 */
#define FL_MAP_HOLD 0x20000000

/**
 * Another flag of fl_mmap(): faults of these pages are answered by the thread that takes
 * them, in a handler of SIGBUS.  Its pages must not go to system calls; fl_mmap(3).
 */
#define FL_MAP_IN_THREAD 0x40000000

/**
 * Make a runtime, and *out, which is the caller's until fl_close().  options NULL: all defaults.
 * Of what they point to only log and log_arg are kept, until fl_close().  Waits for I/O, and for a
 * store's server, if areas or a store are given; pagers are started then.  0, -E2BIG, -EINVAL,
 * -ENAMETOOLONG or -ENOMEM; with areas those of fl_swapon(), with a store -EACCES, -EBUSY,
 * -ENODEV, -ENOENT or -ENOTCONN; as pagers are started.  On failure *out is NULL, and one line
 * was logged.  A child after fork may call it.
 */
int fl_open(struct fl **out, const struct fl_options *options);
/**
 * End a runtime and its backings: write and unmap mappings of files and sources, drop what is held,
 * bring back anonymous memory, which stays mapped and is the kernel's.  Waits for all that.  0;
 * or -ENOMEM: anonymous memory does not fit, and the runtime goes on without its mappings of
 * files, and without its backings.  What could not be written is only logged.  exit(3) waits for
 * a call that another thread has begun, and writes the files of runtimes that are open.
 */
int fl_close(struct fl *fl);

/**
 * Map memory, as mmap(2), and manage it if it is private and anonymous, or an ordinary file on
 * storage; all else the kernel maps.  offset: bytes, a multiple of 4096.  A mapping of a file arms
 * the runtime.  The address, or FL_FAILED and errno: those of mmap(2), EAGAIN, EINVAL, ENOMEM,
 * ENOTCONN, EOPNOTSUPP and EOVERFLOW among them; as pagers are started, but ENOMEM for anonymous
 * memory.  Waits for reads with MAP_POPULATE and MAP_LOCKED only.
 */
void *fl_mmap(struct fl *fl, void *addr, size_t length, int prot, int flags, int fd, off_t offset);
/**
 * Unmap all of [addr, addr + length), managed or not, as munmap(2), and give its frames and slots
 * back.  What a last mapping of a file has still to write is written in the background.  0,
 * -EINVAL or -ENOMEM.  Waits only for a snapshot of the range.  munmap(2) itself must not be used
 * on managed memory.
 */
int fl_munmap(struct fl *fl, void *addr, size_t length);
/**
 * Grow, shrink or move a mapping, as mremap(2), with its content and states; sizes in bytes.
 * new_addr is there with MREMAP_FIXED only.  The address, or FL_FAILED and errno: those of
 * mremap(2), EFAULT, EINVAL and ENOMEM among them.  Waits only for a snapshot of the range.
 */
void *fl_mremap(struct fl *fl, void *old_addr, size_t old_size, size_t new_size, int flags,
		... /* void *new_addr */);
/**
 * Have `size` bytes at addr, both rounded down to pages, map their file's pages from pgoff (in
 * pages) on, as remap_file_pages(2): of a shared or held mapping, prot 0, flags 0 or MAP_NONBLOCK.
 * 0, -EINVAL, -ENOMEM or -EOVERFLOW.  Without MAP_NONBLOCK it waits for reads.  No other thread
 * may touch the range meanwhile.  What was held there is dropped.
 */
int fl_remap_file_pages(struct fl *fl, void *addr, size_t size, int prot, size_t pgoff, int flags);
/**
 * Change the protection of [addr, addr + length), managed or not, as mprotect(2); a length of 0
 * changes nothing.  0, -EACCES, -EINVAL or -ENOMEM; on failure what comes before the page that it
 * failed for may have been changed.  Waits for no I/O.
 */
int fl_mprotect(struct fl *fl, void *addr, size_t length, int prot);
/**
 * Give advice, as madvise(2); a length of 0 does nothing.  MADV_PAGEOUT evicts now.  0, -EACCES,
 * -EFAULT, -EINVAL, -EIO, -ENOMEM, -EOPNOTSUPP and others of madvise(2); with -ENOMEM what is
 * mapped of the range was treated.  Waits for reads with MADV_POPULATE_*, for I/O in the range
 * with MADV_REMOVE, and, where it drops pages, for a snapshot of the range.
 */
int fl_madvise(struct fl *fl, void *addr, size_t length, int advice);
/**
 * Bring pages into frames, which count against the limit, and keep them there, as mlock(2); the
 * range is rounded out to pages.  Locks do not nest.  0, -EAGAIN, -EINVAL, -ENOMEM or -EPERM.
 * Waits for reads.
 */
int fl_mlock(struct fl *fl, const void *addr, size_t length);
/** The same, as mlock2(2): flags 0, or MLOCK_ONFAULT, which brings nothing and does not wait. */
int fl_mlock2(struct fl *fl, const void *addr, size_t length, unsigned flags);
/**
 * Let the pages of a range, rounded out to pages, be evicted again, as munlock(2).  0, -EINVAL or
 * -ENOMEM; with -ENOMEM a part may have been unlocked.  Waits for no I/O.
 */
int fl_munlock(struct fl *fl, const void *addr, size_t length);

/**
 * Make a backing of `length` bytes, up to 128 TiB, from a program's functions, and *out, which is
 * the caller's until fl_backing_close() or fl_close().  *ops is copied; ctx goes to its functions,
 * and must live as long as the backing.  Starts ops->threads threads.  0, -E2BIG, -EAGAIN,
 * -EINVAL or -ENOMEM; as pagers are started.  On failure *out is NULL.
 */
int fl_backing_open(struct fl *fl, struct fl_backing **out, const struct fl_backing_ops *ops,
		    void *ctx, uint64_t length);
/**
 * Make a backing of the ordinary file behind fd, open for reading, which keeps its pages cached
 * while nothing maps them; ownership as fl_backing_open().  0, -EACCES, -EBADF, -ENODEV or
 * -ENOMEM; as pagers are started.  On failure *out is NULL.
 */
int fl_backing_file(struct fl *fl, struct fl_backing **out, int fd);
/**
 * Write what is to be written, wait for it, and end a backing and its threads; the last call on it.
 * 0; -EBUSY: a source that is mapped, or that fl_sync() is writing to, which stays open; or an
 * error of writing, after which it is closed all the same.  A mapped file is not written by this.
 */
int fl_backing_close(struct fl_backing *backing);
/**
 * Map `length` bytes of a backing of this runtime from offset (bytes, a multiple of 4096) on, with
 * MAP_SHARED or MAP_PRIVATE among flags, and those of fl_mmap() but for MAP_ANONYMOUS and
 * FL_MAP_IN_THREAD.  The address, or FL_FAILED and errno: EACCES, EAGAIN, EEXIST, EINVAL, ENOMEM,
 * EOVERFLOW or EPERM.  Waits as fl_mmap() does.
 */
void *fl_mmap_backing(struct fl *fl, void *addr, size_t length, int prot, int flags,
		      struct fl_backing *backing, off_t offset);
/**
 * Write shared mappings to their files, or read them anew, as msync(2): MS_SYNC waits for the
 * writes and makes them durable; a length of 0 does nothing.  An error of writing is reported
 * once.  0, -EBUSY, -EINVAL, -EIO, -ENOMEM, or another error of writing.
 */
int fl_msync(struct fl *fl, void *addr, size_t length, int flags);
/**
 * Set the length of the file behind fd to `length` bytes, as ftruncate(2), and let mappings of the
 * runtime follow.  0, -EBADF, -EFBIG, -EINVAL, -ENOMEM and others of ftruncate(2).  Waits for
 * writes beyond a new end, and for other calls that set the length of the same file.
 */
int fl_ftruncate(struct fl *fl, int fd, off_t length);

/**
 * Write the changed pages of held mappings (FL_MAP_HOLD) of a range to their file, make them
 * durable and hold them no longer.  0, -EINVAL, -EIO, -ENOMEM, or another error of writing; after
 * an error all stay held.  Waits for that I/O, with all signals blocked, and for other calls of
 * its kind: one works at a time in a runtime.
 */
int fl_sync(struct fl *fl, void *addr, size_t length);

/**
 * Start reading the pages of a range that are away, and return; when all have come, or could not
 * be read, 1 is added to the eventfd event_fd (-1: none), which may be closed before.  One call
 * brings a quarter of the limit at most.  0, -EBADF, -EINVAL, -EMFILE, -ENFILE, or -ENOMEM:
 * nothing of the range is managed.  Waits for no I/O.
 */
int fl_prefetch(struct fl *fl, const void *addr, size_t length, int event_fd);
/**
 * Ask whether a touch of some page of a range would wait for a read.  0: none would; -EAGAIN: one
 * would; -EINVAL; or -ENOMEM: not all of it is managed.  The answer is of a moment that may have
 * passed.  Takes no lock; asks a pager only about memory that is not there, and about what a
 * store's server pages.
 */
int fl_try(struct fl *fl, const void *addr, size_t length);

/** The fate of a page that cannot be read. */
enum fl_error_choice {
	FL_ERROR_SIGBUS = 0, /**< a touch raises SIGBUS */
	FL_ERROR_RETRY = 1,  /**< it is read once more */
	FL_ERROR_PAGE = 2,   /**< the 4096 bytes that the function put into *page are the page's */
};

/**
 * Asked about a page at addr, `offset` bytes into its file or source, that could not be
 * read: `error` is -errno, and `page` has room for 4096 bytes.  Called on a thread of the
 * runtime's own, with all signals blocked, one call at a time; it may block and use the C
 * library, but must touch no mapping of that file, and call nothing on this runtime.
 */
typedef enum fl_error_choice (*fl_error_fn)(void *arg, void *addr, uint64_t offset, int error,
					    void *page);

/** What leaves first when frames are needed. */
enum fl_priority {
	FL_PRIORITY_NORMAL = 0,
	FL_PRIORITY_COLD = 1, /**< before others */
	FL_PRIORITY_HOT = 2,  /**< when there is nothing else */
};

/** What a range is to be, for fl_region_set().  Zero-initialise; every zero means its default. */
struct fl_region_options {
	size_t size;		   /**< sizeof(struct fl_region_options), as in struct fl_options */
	enum fl_priority priority; /**< what leaves first */
	uint64_t limit;		   /**< bytes of frames that it has, about; 0: what it gets */
	size_t readahead;     /**< largest window in bytes, 128 KiB or more; 0: the runtime's */
	fl_error_fn on_error; /**< asked about pages that cannot be read; NULL: SIGBUS */
	void *error_arg;      /**< first argument of on_error */
};

/**
 * Say what a managed range is to be, in place of what earlier calls said; options NULL: the
 * defaults.  *options is copied; error_arg is kept as long as the range has it.  0, -E2BIG,
 * -EAGAIN, -EINVAL, -EOPNOTSUPP, or -ENOMEM: not all of it is managed, no memory, or too many
 * different sets; as pagers are started.  Waits for no I/O.
 */
int fl_region_set(struct fl *fl, void *addr, size_t length,
		  const struct fl_region_options *options);

/**
 * Manage private anonymous memory of one protection that the caller mapped, with what it holds;
 * it stays mapped by the caller.  0, -EBUSY, -EEXIST, -EINVAL or -ENOMEM; as pagers are started.
 * On failure nothing of it is managed.  Waits for evictions where the limit asks for them.
 */
int fl_register(struct fl *fl, void *addr, size_t length);
/**
 * Give managed memory back to the kernel, all its pages in frames; no mappings of files.  0,
 * -EINVAL, or -ENOMEM: not all of it is managed, or it does not fit; as pagers are started.  On
 * failure all of it stays managed.  Waits for reads.
 */
int fl_unregister(struct fl *fl, void *addr, size_t length);

/**
 * Add a swap area, as swapon(2); *spec is copied.  The file is open until fl_swapoff() or
 * fl_close().  0, -EACCES, -EBUSY, -EINVAL, -EIO, -EISDIR, -EMFILE, -ENAMETOOLONG, -ENFILE,
 * -ENOENT, -ENOMEM, -ENOSPC, -EPERM or -EROFS, and one line was logged; as pagers are started.
 * Waits for reads of a file that has no header.
 */
int fl_swapon(struct fl *fl, const struct fl_swap_spec *spec);
/**
 * Remove a swap area, by the path that was given, as swapoff(2): its pages come back or go to
 * other areas first, which is waited for.  0, -EINVAL: there is none, or it is being removed
 * already, -EIO or -ENOMEM, after which it stays on; as pagers are started.
 */
int fl_swapoff(struct fl *fl, const char *path);
/**
 * Set another limit, in bytes of frames, rounded down to pages, at least FL_LIMIT_MIN.  A lower one
 * holds on return: evictions are waited for.  0, -EINVAL or -ENOMEM; as pagers are started.  On
 * failure the limit is as before.
 */
int fl_set_limit(struct fl *fl, uint64_t limit);

/** State of one page, as fl_page_state() reports it. */
enum fl_page_kind {
	FL_PAGE_UNMANAGED = 0,	/**< no region of this runtime */
	FL_PAGE_NONE = 1,	/**< never touched, or dropped: reads as zeros */
	FL_PAGE_PRESENT = 2,	/**< a frame is mapped */
	FL_PAGE_STAGED = 3,	/**< a frame waits between application and slot */
	FL_PAGE_SWAPPED = 4,	/**< in a slot */
	FL_PAGE_FILLED = 5,	/**< one repeated word, no frame and no slot */
	FL_PAGE_POISONED = 6,	/**< unreadable: a touch raises SIGBUS */
	FL_PAGE_UNTRACKED = 7,	/**< managed, not armed: the kernel's alone */
	FL_PAGE_COMPRESSED = 8, /**< compressed, in the pool */
	FL_PAGE_FILE = 9,	/**< in its file or source only */
	FL_PAGE_CACHED = 10,	/**< of a private mapping: not there, but in the page cache */
};

/** The kind, of a byte of fl_page_state(). */
#define FL_PAGE_KIND(v) ((enum fl_page_kind)((v)&0x0f))
#define FL_PAGE_HAS_SLOT 0x10 /**< a slot holds a copy of the page */
#define FL_PAGE_LOCKED 0x20   /**< fl_mlock() */
#define FL_PAGE_WP 0x40	  /**< write-protected: not written since it came in or was written out */
#define FL_PAGE_BUSY 0x80 /**< I/O in flight */

/**
 * Store the state of each page of a range in vec, a byte each, as mincore(2); none is touched, and
 * memory that is not managed or not mapped has a state, too.  0, -EINVAL or -ENOMEM.  The answer
 * is of a moment that may have passed.  Waits for no I/O.
 */
int fl_page_state(struct fl *fl, const void *addr, size_t length, unsigned char *vec);

/** Do not make the image durable before reporting that it is done. */
#define FL_SNAPSHOT_NOSYNC 1

/**
 * Begin an image of a managed range (NULL and 0: of all memory), as of one instant in the call, in
 * the empty ordinary file fd; both descriptors may be closed then.  flags: 0 or
 * FL_SNAPSHOT_NOSYNC.  At its end 1 is added to the eventfd event_fd (-1: none).  One at a time.
 * 0, -EBADF, -EBUSY, -EEXIST, -EFBIG, -EINVAL, -EMFILE, -ENFILE or -ENOMEM; as pagers are started.
 * Arms the runtime.  Waits for the instant, and for evictions that make room for its buffer.
 */
int fl_snapshot(struct fl *fl, const void *addr, size_t length, int fd, int flags, int event_fd);
/**
 * Wait for the end of the snapshot that was begun last: how many of its pages were lost before, or
 * -errno of writing it; -ENOENT: none was begun.  Several threads may wait, and wait again.
 */
int fl_snapshot_wait(struct fl *fl);

/** Buckets of the fault-latency histogram: bucket i counts faults of [2^i, 2^(i+1)) nanoseconds. */
#define FL_LATENCY_BUCKETS 32

/** Counters of a runtime; sizes in pages of 4096 bytes unless said otherwise. */
struct fl_stats {
	uint64_t limit;			      /**< frames allowed */
	uint64_t mapped;		      /**< pages of all managed regions */
	uint64_t armed;			      /**< 1 once the runtime pages, else 0 */
	uint64_t resident;		      /**< frames mapped into the application */
	uint64_t resident_max;		      /**< the most frames ever held, staging included */
	uint64_t staged;		      /**< frames in staging */
	uint64_t swapped;		      /**< pages in slots only */
	uint64_t filled;		      /**< same-filled pages */
	uint64_t poisoned;		      /**< unreadable pages */
	uint64_t locked;		      /**< pages of locked regions */
	uint64_t slots_total;		      /**< slots of all areas */
	uint64_t slots_used;		      /**< slots in use */
	uint64_t faults_minor;		      /**< faults answered without I/O */
	uint64_t faults_major;		      /**< faults that waited for I/O */
	uint64_t faults_zero;		      /**< of these: read of a new page */
	uint64_t faults_anon;		      /**< write to a new page */
	uint64_t faults_wp;		      /**< write to a write-protected page */
	uint64_t faults_staged;		      /**< refault of a staged page */
	uint64_t faults_swap;		      /**< page was in a slot */
	uint64_t faults_filled;		      /**< page was same-filled */
	uint64_t faults_stale;		      /**< page was there already */
	uint64_t faults_around;		      /**< pages given beside the faulting one */
	uint64_t reads;			      /**< read requests */
	uint64_t read_pages;		      /**< pages read */
	uint64_t writes;		      /**< write requests */
	uint64_t write_pages;		      /**< pages written */
	uint64_t io_errors;		      /**< requests that failed */
	uint64_t csum_errors;		      /**< pages whose checksum did not match */
	uint64_t readahead_hits;	      /**< pages read ahead and then asked for */
	uint64_t readahead_misses;	      /**< pages read ahead and dropped unasked */
	uint64_t evicted;		      /**< pages taken from the application */
	uint64_t dropped_clean;		      /**< of these: dropped without I/O */
	uint64_t evict_busy;		      /**< frames that refused (pinned, shared) */
	uint64_t bookkeeping;		      /**< bytes of page tables and slot tables */
	uint64_t latency[FL_LATENCY_BUCKETS]; /**< faults by time from read to answer */
	uint64_t frames_reused;	    /**< of pages that left, given to new or compressed ones */
	uint64_t compressed;	    /**< pages that are compressed only */
	uint64_t compressed_bytes;  /**< bytes (not pages) of the pool's objects */
	uint64_t pool;		    /**< frames of the pool; of the limit's */
	uint64_t faults_compressed; /**< page was compressed */
	uint64_t compress_rejects;  /**< pages that did not become small enough */
	uint64_t written_through;   /**< compressed pages that were written to slots */
	uint64_t group_limit;	    /**< frames allowed to all processes together; 0: no group */
	uint64_t group_held;	    /**< of these, granted to processes */
	uint64_t group_most;	    /**< the most that was ever granted */
	uint64_t group_members;	    /**< processes */
	uint64_t cache_pages;	    /**< frames that hold pages of files and sources */
	uint64_t cache_dirty;	    /**< of these: to be written */
	uint64_t cache_writeback;   /**< being written */
	uint64_t file_minor;	    /**< faults in file mappings answered without I/O */
	uint64_t file_major;	    /**< and those that waited for a read */
	uint64_t file_reads;	    /**< read requests to files and sources */
	uint64_t file_read_pages;   /**< pages read from them */
	uint64_t file_writes;	    /**< write requests */
	uint64_t file_write_pages;  /**< pages written */
	uint64_t file_errors;	    /**< requests that failed */
	uint64_t file_dropped;	    /**< cached pages dropped */
	uint64_t faults_in_thread;  /**< of all faults: answered by the thread that took them */
	uint64_t snapshot_pages;    /**< pages that the last snapshot had to save */
	uint64_t snapshot_saved;    /**< of these: saved */
	uint64_t snapshot_faults;   /**< writes for which a page was saved first */
	uint64_t snapshot_waits;    /**< times that such a write found the buffer full */
	uint64_t snapshot_pause;    /**< ns for which all stood at the last snapshot's instant */
	uint64_t snapshot_early;    /**< writes to pages that were protected before the instant */
};

/**
 * Copy the counters to *out; size is sizeof(struct fl_stats), and what this library does not know
 * of it is 0.  0, or -EINVAL: size is 0.  Takes no lock and waits for nothing; each counter is
 * right by itself, at a time of its own.
 */
int fl_stats(struct fl *fl, struct fl_stats *out, size_t size);

/**
 * Compare the regions with what /proc/self/smaps has, for tests: the number of differences, which
 * are logged at level FL_LOG_WARN; or -EACCES, -EIO, -EMFILE, -ENFILE, -ENOENT or -ENOMEM.
 * Other calls wait meanwhile, for milliseconds.
 */
int fl_verify(struct fl *fl);

#ifdef __cplusplus
}
#endif
#endif
