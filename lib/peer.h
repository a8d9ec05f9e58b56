/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peer.h - other processes whose shared mappings of files this runtime pages: the
 * half of the store's server (share.h is a client's).
 *
 * A peer is a client as the server's pager knows it: the userfaultfd that it
 * registered its shared mappings with, and a tree of regions that says what is
 * mapped where in its address space.  userfaultfd's calls act on the address space
 * of the process that made the descriptor, whoever makes them; so a fault of a peer
 * is answered as one of our own is, with its descriptor (peer_uffd()) and its regions
 * (peer_region()).  The cached pages, their words and their clock are ours alone.
 *
 * Invariants.
 * 1. A peer's regions say what it had mapped when it last told.  It tells of a new
 *    mapping before anything can touch it, and waits for our answer before it takes
 *    one away: so no page is put where another file's mapping is by then.
 * 2. A peer outlives its connection for as long as an I/O that it waited for is in
 *    flight; it has no regions and no descriptor then.
 * 3. What it may store to is write-protected before a mapping is forgotten, for the process
 *    may go on: so what pagecache.h says of clean pages is true of it, too.
 *
 * What peers lock is a part of the cache only (mm_lockable()), or nothing else
 * could be read.  Pages that several lock count once, but where that takes too long
 * to tell.
 *
 * One that comes again, from a server before us, brings what that left (cache_take()), and
 * the userfaultfd that its mappings are registered with.  What of them we do not take is its
 * own to answer: faults elsewhere than in what it told are told to it.
 *
 * Nothing that a peer says is believed: ranges are checked, a descriptor is read
 * without waiting, and what fails on it is that peer's loss.
 *
 * Called on a pager with the mm lock held.
 */
#ifndef FL_PEER_H
#define FL_PEER_H

#include "pool.h"
#include "region.h"
#include "store-wire.h"
#include "uffd.h"

#include <stdbool.h>
#include <stdint.h>

struct cache_before;
struct fault;
struct mm;
struct pagecache;
struct pager;
struct sync_call;
struct sync_job;
struct sync_wait;

#define PEER_FILES_MAX 4096U
#define PEER_REGIONS_MAX 65536U

/* A file that a peer has mapped, or is about to. */
struct peer_file {
	struct pagecache *pc; /* NULL: closed */
	bool write;
	uint64_t heard; /* of pc->failure */
};

struct peer {
	struct peer *next;
	struct mm *mm;
	uint32_t refs; /* the connection's, and one for each I/O that a fault of it waits for */
	int uffd;      /* -1: forked, and not come yet; or ended */
	int sock;      /* a copy of the connection's */
	bool again;    /* it came from a server before us: what we do not know of is its own */
	struct region_tree regions;
	struct peer_file *file; /* PEER_FILES_MAX */
	uint32_t nfiles;
	bool tell_cleaned;    /* when what it may store to is protected; it has asked, */
	bool cleaned;	      /* or has been told, and something was since */
	uint64_t dying_until; /* its connection has ended, its mappings stay so long, ns; 0: no */
};

struct peer_left;

struct peers {
	struct peer *first;
	struct peer_left *left; /* who has lost his connection, and what he has */
	uint32_t nleft;
	uint32_t ndying;  /* of first: whose connection has ended */
	uint64_t look_at; /* whether they live, ns */
	struct sync_job *jobs;
	int epoll; /* our userfaultfd, and those of all peers */
	struct pool call_pool, job_pool;
};

/* Start and end of a runtime that has peers. */
int peers_open(struct mm *mm);

/* One that came: both descriptors are taken over.  -errno: they are not. */
int peer_start(struct mm *mm, int uffd, int sock, bool again, struct peer **out);
/* One that came again has told what it has mapped: its faults are read from now on. */
int peer_go(struct peer *peer);
/* A child of it, with the same files and mappings; uffd is -1 until it comes. */
int peer_fork(const struct peer *parent, int sock, struct peer **out);
int peer_come(struct peer *peer, int uffd);
/* Its connection has ended: it is let go of now, or when its process has ended. */
void peer_end(struct peer *peer);

/* The file of a descriptor of ours: its number for the peer, or -errno. */
long peer_open(struct peer *peer, int fd, bool write);
/* The same of one of which a server before us has left memfds (pagecache.h). */
long peer_take(struct peer *peer, int fd, bool write, const struct cache_before *before);
/* Copies of its memfds for the peer: what it may not write it gets for reading. */
int peer_descriptors(const struct peer *peer, uint32_t file, int fds[3]);
void peer_close(struct peer *peer, uint32_t file);
/* WIRE_MAP. */
int peer_map(struct peer *peer, const struct wire_msg *m);
int peer_unmap(struct peer *peer, uint64_t addr, uint64_t len);
/*
 * WIRE_ADVISE: what reads or writes is under way then, a hole is made.  0, or -errno, or of
 * WILLNEED what the answer has to say (store-wire.h).
 */
long peer_advise(struct pager *p, struct peer *peer, const struct wire_msg *m);
/* A page is let in as if the peer had stored to it; none: it is to be told of peer_cleaned(). */
int peer_store(struct pager *p, struct peer *peer, uint64_t addr, uint64_t len);
/* What it may store to was write-protected. */
void peer_cleaned(struct peer *peer);
/* Write what is dirty of a range, make it durable, and tell the peer. */
int peer_sync(struct peer *peer, uint64_t addr, uint64_t len, uint32_t request);

/*
 * The same for pages of one file and a thread that waits.  heard: as cache_heard(); he is told of
 * a failed write since then, once.  NULL: of none.
 */
int peers_sync_file(struct mm *mm, struct pagecache *pc, uint64_t *heard, struct sync_wait *wait);
/* Write what is dirty just now of one file, which need not be durable; and of all. */
int peers_write_file(struct mm *mm, struct pagecache *pc, struct sync_wait *wait);
int peers_write_all(struct mm *mm, struct sync_wait *wait);
/* No peer is left, and nobody waits for a sync: what did not get far ends. */
void peers_stop(struct mm *mm);

/*
 * In a round of the pager: read what peers' threads wait for, and tell whether our own
 * userfaultfd can be read, too; go on with syncs.
 */
bool peers_read(struct pager *p);
void peers_round(struct pager *p);
/* When that wants to be called at the latest, ns from now, or `at`. */
uint64_t peers_timeout(const struct mm *mm, uint64_t at);

/* A page cache is about to be freed that is kept for peers that have gone. */
void peers_forget(struct pagecache *pc);

/* Whether a process that has not ended may store to the file by what it has mapped. */
bool peers_store_to(const struct pagecache *pc);

void peer_hold(struct peer *peer);
void peer_let_go(struct peer *peer);

/* A touch does not raise SIGBUS any more: the peer is to take the mark away. */
void peer_bus_ended(const struct peer *peer, uint64_t vpn);

/* Whether a range is write-protected as far as it is the peer's (NULL: ours) to be: what is gone writes nothing. */
bool peer_protected(const struct peer *peer, enum uffd_result res);

/* The userfaultfd and the region of a fault; peer NULL: ours. */
int peer_uffd(const struct mm *mm, const struct peer *peer);
struct region *peer_region(const struct mm *mm, const struct peer *peer, uintptr_t addr);
void peer_wake(const struct mm *mm, const struct peer *peer, uint64_t vpn);

#endif
