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
 * Return values.  Functions that return int or ssize_t return 0 (or a count)
 * on success and -errno on failure; errno itself is left alone.  fl_mmap()
 * and fl_mremap() return an address, or FL_FAILED with errno set, as mmap(2).
 *
 * Threads.  Every function may be called from any thread, concurrently, and
 * on the same runtime, except fl_close(), which must be the last call on it.
 * None may be called from a signal handler.
 *
 * fork(2).  A child does not inherit managed memory that is armed (see
 * faultline(7)): it is unmapped there, and a touch raises SIGSEGV, never
 * reads zeros.  A child must not use a runtime that it inherited.
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

/** How pages that were written since they were read in are told apart. */
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
 * Receives one log line, without a newline.  Called on the thread that has
 * something to say, often a pager: it must not use descriptors, locks,
 * thread-local variables or standard I/O, must not touch managed memory and
 * must not call faultline; fl_open(3) says what it may.
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
	size_t size;	/**< sizeof(struct fl_options): tells what the header knows */
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
 * called on threads of the runtime's own, several at once if `threads` says so;
 * they may block and use the C library.  They must not touch mappings of the
 * same source.  Each returns 0 or -errno.
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

/*
 * Ranges begin at a multiple of 4096; lengths are bytes, and rounded up to pages.
 * Descriptors stay the caller's, and may be closed as soon as the call has returned.
 */

/** Make a runtime; options NULL: all defaults.  *out is the caller's, for fl_close(). */
int fl_open(struct fl **out, const struct fl_options *options);
/** End it; anonymous memory stays, with its content.  -ENOMEM: that does not fit; it goes on. */
int fl_close(struct fl *fl);

/** mmap(2); what the runtime does not manage the kernel maps.  offset: bytes, whole pages. */
void *fl_mmap(struct fl *fl, void *addr, size_t length, int prot, int flags, int fd, off_t offset);
/** munmap(2); use this one for managed memory. */
int fl_munmap(struct fl *fl, void *addr, size_t length);
/** mremap(2); new_addr with MREMAP_FIXED only. */
void *fl_mremap(struct fl *fl, void *old_addr, size_t old_size, size_t new_size, int flags,
		... /* void *new_addr */);
/**
 * remap_file_pages(2), of a shared or held mapping: it goes on with its file's pages from `pgoff`,
 * in pages, on.  prot: 0.  No other thread may touch the range meanwhile.
 */
int fl_remap_file_pages(struct fl *fl, void *addr, size_t size, int prot, size_t pgoff, int flags);
/** mprotect(2). */
int fl_mprotect(struct fl *fl, void *addr, size_t length, int prot);
/** madvise(2); MADV_PAGEOUT evicts now. */
int fl_madvise(struct fl *fl, void *addr, size_t length, int advice);
/** mlock(2): bring the pages in and keep them, of the limit's frames.  Any addr. */
int fl_mlock(struct fl *fl, const void *addr, size_t length);
/** mlock2(2): flags 0 or MLOCK_ONFAULT. */
int fl_mlock2(struct fl *fl, const void *addr, size_t length, unsigned flags);
/** munlock(2). */
int fl_munlock(struct fl *fl, const void *addr, size_t length);

/**
 * A source of `length` bytes.  *ops is copied; ctx goes to its functions and must outlive
 * the backing, which is the caller's until fl_backing_close() or fl_close().
 */
int fl_backing_open(struct fl *fl, struct fl_backing **out, const struct fl_backing_ops *ops,
		    void *ctx, uint64_t length);
/** The file behind fd, its pages cached while nothing maps them. */
int fl_backing_file(struct fl *fl, struct fl_backing **out, int fd);
/** Write what is to be written, and end it.  -EBUSY: a source that is mapped, which stays open. */
int fl_backing_close(struct fl_backing *backing);
/** Map a backing: MAP_SHARED or MAP_PRIVATE, and flags of fl_mmap(). */
void *fl_mmap_backing(struct fl *fl, void *addr, size_t length, int prot, int flags,
		      struct fl_backing *backing, off_t offset);
/** msync(2). */
int fl_msync(struct fl *fl, void *addr, size_t length, int flags);
/** ftruncate(2), of a file that may be mapped here. */
int fl_ftruncate(struct fl *fl, int fd, off_t length);

/** Write what held mappings of the range hold, make it durable, hold it no longer. */
int fl_sync(struct fl *fl, void *addr, size_t length);

/** Start reading a range; adds 1 to the eventfd (-1: none) when all of it came, or failed. */
int fl_prefetch(struct fl *fl, const void *addr, size_t length, int event_fd);
/** 0: no touch of the range would wait for a read; -EAGAIN: one would. */
int fl_try(struct fl *fl, const void *addr, size_t length);

/** What becomes of a page that cannot be read. */
enum fl_error_choice {
	FL_ERROR_SIGBUS = 0, /**< who touches it gets SIGBUS */
	FL_ERROR_RETRY = 1,  /**< it is read once more */
	FL_ERROR_PAGE = 2,   /**< the 4096 bytes that the function put into *page are the page's */
};

/**
 * Asked about a page at addr, `offset` in its file or source, that could not be
 * read: `error` is negative.  Called on a thread of the runtime's own, one call at
 * a time; it may block and use the C library, but touch no mapping of that file.
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

/** Set these for a range; NULL: the defaults. */
int fl_region_set(struct fl *fl, void *addr, size_t length,
		  const struct fl_region_options *options);

/** Manage private anonymous memory that the caller mapped, with what it holds. */
int fl_register(struct fl *fl, void *addr, size_t length);
/** Give it back to the kernel, all pages in frames. */
int fl_unregister(struct fl *fl, void *addr, size_t length);

/** Add an area; *spec is copied. */
int fl_swapon(struct fl *fl, const struct fl_swap_spec *spec);
/** Remove it, by the path that was given; its pages come back or go to other areas first. */
int fl_swapoff(struct fl *fl, const char *path);
/** Another limit, in bytes of frames, at least FL_LIMIT_MIN; a lower one holds on return. */
int fl_set_limit(struct fl *fl, uint64_t limit);

/** State of one page, as fl_page_state() tells it. */
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

/** The state of each page of a range, a byte each, into vec; none is touched. */
int fl_page_state(struct fl *fl, const void *addr, size_t length, unsigned char *vec);

/** Do not make the image durable before telling that it is done. */
#define FL_SNAPSHOT_NOSYNC 1

/**
 * Begin an image of a range (NULL and 0: of all), as of one instant in the call, in the empty
 * file fd.  One at a time; adds 1 to the eventfd event_fd (-1: none) at its end.
 */
int fl_snapshot(struct fl *fl, const void *addr, size_t length, int fd, int flags, int event_fd);
/** Wait for the end of the last one: how many of its pages were lost before, or -errno. */
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

/** Copy the counters; size is sizeof(struct fl_stats).  Stops nothing, waits for nobody. */
int fl_stats(struct fl *fl, struct fl_stats *out, size_t size);

/** Compare the regions with what the kernel has mapped: the number of differences. */
int fl_verify(struct fl *fl);

#ifdef __cplusplus
}
#endif
#endif
