/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * server.h - the store's server: the process behind a mount, and its parts.
 *
 *	kernel ──/dev/fuse──▶ workers (server.c) ──▶ ops.c ──▶ files.c: below MNT/files
 *	                                                └────▶ view.c: everything else
 *	data of files and areas: io.c, by io_uring; answered from the completion
 *
 * A worker takes one request after another.  What only looks up or changes
 * names and attributes is done in place; reads, writes and syncs of data are
 * handed to the ring, so that a slow one holds up nobody.
 *
 * Locks: a directory's position (files.c) and a watch (view-proc.c) come before
 * all others: the table of nodes (node.c), the ring's submission side (io.c), names
 * of areas (view.c), areas (areas.c), jobs and messages that name files (attach.c), clients
 * (clients.c), what is behind their mapped files (mapped.c), descriptors to be closed (aside.c),
 * files that may be cached or are changed, and what was given back (shared.c).
 * None of those is held while another is taken.
 */
#ifndef FL_SERVER_H
#define FL_SERVER_H

#include "store.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

/* --- counters (tally.c) --- */

/* clang-format off */
#define TALLY_OPS(X) \
	X(lookup) X(forget) X(getattr) X(setattr) X(readlink) X(mknod) X(mkdir) \
	X(unlink) X(rmdir) X(symlink) X(rename) X(link) X(open) X(read) X(write) \
	X(flush) X(release) X(fsync) X(opendir) X(readdir) X(releasedir) \
	X(fsyncdir) X(statfs) X(setxattr) X(getxattr) X(listxattr) X(removexattr) \
	X(create) X(fallocate) X(copy_file_range) X(lseek)
/* clang-format on */

enum tally_op {
#define X(name) TALLY_##name,
	TALLY_OPS(X)
#undef X
		TALLY_COUNT
};

struct tally {
	uint64_t calls[TALLY_COUNT];
	uint64_t errors[TALLY_COUNT];
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t nodes;	   /* inodes that the kernel knows */
	uint64_t handles;  /* open files and directories */
	uint64_t inflight; /* requests in the ring */
	uint64_t started;  /* CLOCK_MONOTONIC, seconds */
};

/* All fields are changed by relaxed atomics: each is right, no two are of one moment. */
extern struct tally tally;

static inline void tally_add(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static inline void tally_sub(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_sub(counter, n, __ATOMIC_RELAXED);
}

/* The texts of MNT/stats and MNT/metrics, to be freed; NULL without memory. */
char *tally_stats(const struct store *s, size_t *len);
char *tally_metrics(const struct store *s, size_t *len);
/* The value of a label, with what is to be escaped. */
void tally_label(FILE *f, const char *text);

/* --- inodes below MNT/files (node.c) --- */

/*
 * One inode of the host that the kernel knows by the node's address.  It is
 * found by (dev, ino), which cannot be reused while fd is open.
 */
struct node {
	int fd; /* O_PATH */
	mode_t type;
	dev_t dev;
	ino_t ino;
	uint64_t placed;   /* where direct writes that append were to end (ops.c); atomic */
	uint64_t nlookup;  /* under the table's lock */
	struct node *next; /* of its bucket, under the table's lock */
};

/* The node of an O_PATH descriptor, which is taken over: one lookup more, or NULL (ENOMEM). */
struct node *node_get(int fd, const struct stat *st);
/* A copy of the descriptor of one that the kernel knows, or -errno; *n is to be named to the kernel, not used. */
int node_open_path(dev_t dev, ino_t ino, struct node **n);
void node_forget(struct node *n, uint64_t nlookup);
void node_forget_all(void);

/* --- open files (files.c, view.c) --- */

struct handle {
	enum {
		HANDLE_FILE,
		HANDLE_DIR,
		HANDLE_TEXT,
		HANDLE_AREA,
		HANDLE_LIST,
		HANDLE_MEM,
		HANDLE_PAGEMAP
	} kind;
	int fd;		      /* FILE, AREA */
	uint64_t heard;	      /* FILE: of failed writes (shared_sync()); the pager's lock */
	uint64_t size;	      /* AREA: bytes that may be read; TEXT: as counted by view-proc.c */
	DIR *dp;	      /* DIR */
	pthread_mutex_t lock; /* DIR: of dp, pos and entry */
	off_t pos;	      /* DIR: what dp stands at */
	struct dirent *entry; /* DIR: read, and not yet told */
	char *text;	      /* TEXT; LIST: names, each with its terminator */
	size_t len;	      /* TEXT, LIST */
	struct watch *watch;  /* MEM, PAGEMAP: the process (view-proc.c) */
};

struct handle *handle_new(int kind, int fd);
void handle_free(struct handle *h);

static inline struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* --- data (io.c) --- */

int io_start(struct why *why);	/* make the ring */
int io_thread(struct why *why); /* and who answers its completions */
/* Wait until nothing is in flight, and end the thread. */
void io_stop(void);
void io_read(fuse_req_t req, int fd, size_t size, off_t off);
/*
 * In ops.write, whose buffer is taken over; the data lie at buf.  n: of MNT/files, or NULL.
 * False: something of that is cached by now, and nothing was done.
 */
bool io_write(fuse_req_t req, const struct node *n, int fd, const char *buf, size_t size, off_t off,
	      bool append);
/* A read for nobody but the caller: done() is called by the thread that answers, with bytes or -errno. */
int io_ahead(int fd, char *buf, size_t size, off_t off, void (*done)(void *arg, int res),
	     void *arg);
/* err: what is answered whatever comes of it; 0: that is. */
void io_fsync(fuse_req_t req, int fd, bool datasync, enum tally_op op, int err);

/* --- requests --- */

struct server_options {
	bool foreground;
	bool sandbox;
	bool direct;  /* the kernel caches no data of files */
	bool page_io; /* clients may page through the mount */
	bool allow_other;
	uint64_t cache;				 /* bytes of mapped files that are cached at most */
	unsigned dirty_expire, dirty_background; /* of these, as in struct fl_options */
	/* those that are turned on, with ':' between them, in that order; NULL: all */
	const char *areas;
	char kernel[512]; /* options for the kernel and libfuse, comma-separated, may be empty */
};

struct server {
	struct store *store;
	struct server_options options;
	char mnt[PATH_MAX]; /* absolute */
	struct node *files; /* the root of MNT/files; one lookup is ours */
	int ready_fd;	    /* told when the kernel has greeted us, and when all is written */
	bool act_as_caller; /* root serves others: what is made belongs to them */
	bool late_errors;   /* close(2) of a file of the host may tell of one */
};

extern struct server server;

extern const struct fuse_lowlevel_ops ops;

/* Error answers are counted. */
void ops_error(fuse_req_t req, enum tally_op op, int err);
/* In ops.write: the buffer that holds the data, now the caller's to free. */
void *ops_steal_buffer(void);

#define ATTR_SECONDS 1.0

/* files.c: each answers the request. */
void files_lookup(fuse_req_t req, struct node *parent, const char *name);
void files_getattr(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void files_setattr(fuse_req_t req, struct node *n, struct stat *attr, int set,
		   struct fuse_file_info *fi);
void files_readlink(fuse_req_t req, struct node *n);
void files_mknod(fuse_req_t req, struct node *parent, const char *name, mode_t mode, dev_t rdev);
void files_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode);
void files_symlink(fuse_req_t req, const char *target, struct node *parent, const char *name);
void files_unlink(fuse_req_t req, struct node *parent, const char *name, int flags);
void files_rename(fuse_req_t req, struct node *from, const char *name, struct node *to,
		  const char *newname, unsigned flags);
void files_link(fuse_req_t req, struct node *n, struct node *parent, const char *name);
void files_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void files_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void files_opendir(fuse_req_t req, struct node *n, struct fuse_file_info *fi);
void files_readdir(fuse_req_t req, struct node *n, size_t size, off_t off, struct handle *h,
		   bool plus);
void files_statfs(fuse_req_t req, struct node *n);
void files_setxattr(fuse_req_t req, struct node *n, const char *name, const char *value,
		    size_t size, int flags);
void files_getxattr(fuse_req_t req, struct node *n, const char *name, size_t size);
void files_listxattr(fuse_req_t req, struct node *n, size_t size);
void files_removexattr(fuse_req_t req, struct node *n, const char *name);

/* view.c: inode numbers below VIEW_MAX are its own, as are those of MNT/proc (view-proc.h). */
#define VIEW_MAX 0x10000U
void view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void view_getattr(fuse_req_t req, fuse_ino_t ino);
void view_readlink(fuse_req_t req, fuse_ino_t ino);
void view_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void view_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
bool view_truncates(fuse_ino_t ino); /* and that changes nothing */
bool view_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		const struct handle *h);
void view_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void view_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void view_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct handle *h,
		  bool plus);

/* --- confinement (confine.c) --- */

/* Before threads start: descriptors, oom_score_adj, capabilities. */
int confine_limits(bool root, struct why *why);
/* This thread and those that it makes open nothing outside the store but /proc and devices. */
int confine_paths(int dir_fd, struct why *why);
/*
 * From here on, for all threads: no privilege is gained, and a system call
 * that is not on the list ends the process and is logged.  No thread can be
 * made.
 */
int confine_calls(struct why *why);

/* --- the whole (server.c) --- */

/*
 * Serve the store at server.mnt; returns when that has ended, or in the
 * caller of a background server when it serves.  0 or -errno.
 */
int server_run(struct why *why);
/* A line to whoever started us, or the log; not once confined. */
void server_say(const char *line);
/* The last open file or directory was closed. */
void server_none_open(void);
/* Have the kernel drop what it has cached of an inode's data and attributes. */
void server_forget_data(fuse_ino_t ino);
/* The kernel has greeted us: whoever waits for that is told. */
void server_ready(void);
/* A thread's first call: returns when the server is confined. */
void server_await_confinement(void);

/* --- mounts (mounts.c) --- */

/* Is `path`, absolute, a mount, and of what type?  "" for type when not. */
int mounts_type(const char *path, char *type, size_t size, char *source, size_t source_size);
/* The device of what is mounted at `mnt`, without a request to its server; 0 or -errno. */
int mounts_device(const char *mnt, dev_t *dev);
/* A descriptor for poll(2): POLLPRI when this namespace's table of mounts has changed; or -errno. */
int mounts_watch(void);
/* Whether nothing of that device is mounted in this namespace. */
bool mounts_gone(dev_t dev);
/* Unmount by umount2(2), or by fusermount3 for an ordinary user. */
int mounts_unmount(const char *mnt, bool lazy, struct why *why);
/* 0 where the store may be mounted: an empty directory, no store's mount, not within the store. */
int mounts_check(const struct store *s, const char *mnt, struct why *why);
/* Detach the dead mounts of this store, and a dead one of any store at mnt. */
int mounts_clean(const struct store *s, const char *mnt, struct why *why);
/* `path` without links, also where a dead mount is at its end. */
int mounts_resolve(const char *path, char *out, struct why *why);

#endif
