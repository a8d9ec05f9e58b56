/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shared.h - mapped files of the store: one page cache for all clients.
 *
 *	clients' faults ──userfaultfd──▶ the pager of a runtime of ours (lib/peer.h)
 *	clients' words ──▶ attach.c ──shared_take()──┐
 *	the kernel's requests ──▶ ops.c, files.c ────┴──hop──▶ the same pager
 *
 * What others read and write through the mount is the same bytes (lib/filedata.h).
 * The kernel's own cached data of a file are dropped when it is first mapped; from
 * then on it asks for the file's attributes before each read, and drops them when
 * the time of change is another: which it is told of while pages are dirty.
 *
 * A file is known as cached from before its first mapping until somebody asks for
 * it and finds that nothing of it is: all others are read and written as ever.
 *
 * Locks: the table's, of files that may be cached, and of changes beside the cache; that of what
 * was given back (shared.c).  No other is taken under them.
 */
#ifndef FL_SHARED_H
#define FL_SHARED_H

#include "server.h"

#include "filedata.h"
#include "store-wire.h"

struct peer;

/* A change of a file of which nothing was cached when it was noted, in the memory of who makes it. */
struct beside {
	struct beside *next, **link; /* link NULL: it is not noted, nobody pages for others */
	uint64_t dev, ino;
	bool seen, told; /* the file was opened meanwhile; the pager has been asked, */
	bool held;	 /* and holds the pages back */
	struct past past;
};

/* Whether a server of ours is allowed what that takes; else *why says what follows. */
bool shared_possible(char *why, size_t size);

/* Before confinement; a server that cannot page for others goes on without. */
void shared_start(void);
/*
 * Write what is dirty while clients are served still: who stores something would wait
 * for the end of the server else.  patient: as long as the disk takes what is written.
 */
void shared_flush(bool patient);
/* When no client is connected any more: write everything. */
void shared_stop(void);

/*
 * Pages: how many may be cached, are, and are dirty; how often one could not be read or written.
 * Faults in mappings of files, without and with a wait for a read; pages read and written.
 */
struct shared_counts {
	uint64_t limit, pages, dirty, errors;
	uint64_t minor, major, read, written;
};
void shared_count(struct shared_counts *c);

/* For attach.c.  A connection's HELLO; uffd is taken over when that is 0.  again: WIRE_AGAIN. */
int shared_hello(struct peer **peer, int uffd, int sock, bool again);
/*
 * Another message of it, whose descriptors, of that user, are taken over; on one thread at a time
 * what names one file, and WIRE_RETURN of any.  1: the answer in *m,
 * with *nout descriptors, which are to be closed; 0: none is due; -errno: it is not
 * served any more.  *child: a connection that was made, and its peer.
 */
int shared_take(struct peer *peer, struct wire_msg *m, const int *fds, unsigned nfds, uid_t from,
		int out[3], unsigned *nout, struct peer **child, int *child_sock);
void shared_end(struct peer *peer);
/* What tells a client's descriptor of one of the mount's files from those of others; 0: it is of none. */
uint64_t shared_number(int fd);

/* For requests.  Whether something of a file may be cached. */
bool shared_maybe(const struct node *n);
/* Each does the request and answers it, or returns false: nothing is cached. */
bool shared_read(fuse_req_t req, const struct node *n, int fd, size_t size, off_t off);
/* sync: and make it durable, as shared_sync() does with `heard`; NULL: not. */
bool shared_write(fuse_req_t req, const struct node *n, int fd, char *buf, size_t size, off_t off,
		  bool append, uint64_t *sync);
/*
 * From before one looks whether something is cached, and does without this then, until the backing
 * is changed.  What was written: to off, `size` bytes of buf, or NULL.
 */
void shared_beside(struct beside *b, const struct node *n);
void shared_beside_end(struct beside *b, char *buf, size_t size, uint64_t off);
bool shared_is_cached(const struct node *n);
/* What was cut while nothing was cached: in case that something is by now. */
void shared_look(const struct node *n);
/* Write what is dirty just now, which need not be durable. */
void shared_clean(const struct node *n);
bool shared_fallocate(fuse_req_t req, const struct node *n, int fd, int mode, off_t off, off_t len);
/* -ENOENT: nothing is cached. */
int shared_truncate(const struct node *n, int fd, off_t size);
/*
 * heard: of how many failed writes an open file has heard, all files' counted, or was too late
 * for; what of this one's failed since is told, once.  NULL: what failed is others' to hear of.
 */
int shared_sync(const struct node *n, uint64_t *heard);
/* That of one that was just opened as fd: of all but what nobody was told of yet. */
uint64_t shared_heard(const struct node *n, int fd);
/* For mapped.c.  The host's file of a descriptor of the mount, for reading; -EXDEV: it is of no file there. */
int shared_host(int fd);
/*
 * The bytes of n pages of a file, zeros behind its end: how many pages, 0 where the first one is
 * beyond it, or -errno.  stored: it is one of ours, so what is cached of it comes first.
 */
int shared_bytes(int fd, bool stored, uint64_t page, unsigned n, char *buf);
/* The same of a file that we page, by its memfd. */
struct stat;
int shared_bytes_of(const struct stat *memfd, uint64_t page, unsigned n, char *buf);
/* Whether a program has it mapped so that it may store to it: it is not executed then (ETXTBSY). */
bool shared_is_stored_to(const struct node *n);
/* Attributes as they are while pages are dirty; how long they may be kept. */
double shared_attr(dev_t dev, ino_t ino, struct stat *st);

#endif
