/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peer.c - shared mappings of other processes; see peer.h.
 *
 * A peer may have made its descriptor wait, and may read from it itself: we read
 * with RWF_NOWAIT.  It may have asked for events besides faults: what they bring is
 * closed.
 */
#include "peer.h"

#include "do.h"
#include "fault.h"
#include "mm.h"
#include "sys.h"
#include "truncate.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#define ADDRESS_END ((uint64_t)1 << 47)
#define READY_MAX 32
#define LOCKS_COMPARED 256U
/* The most that is done to protect what a peer may store to: a call is as much as so many pages. */
#define PROTECT_MOST ((uint64_t)4 << 20)
#define PROTECT_CALL 1024U
#define PROTECT_GAP 64U	    /* pages between two runs that cost no call of their own */
#define ALIVE_TRIES 256U    /* mappings of which none is there that it takes to be sure */
#define LEFT_MAX 256U	    /* of whom that is asked: each costs a descriptor */
#define ALIVE_NS 100000000U /* so often it is looked whether who has gone lives */
#define DYING_MAX 64U	    /* who may be dying keep their mappings, */
#define DYING_NS 250000000U
#define DYING_LOOK_NS 1000000U /* and looked at so often */
/* A child that it forked when it had no connection has no descriptors of the files, and asks for so long. */
#define HEIR_NS 10000000000ULL
#define ASIDE_BYTES ((size_t)CACHE_BLOCK * PAGE_SIZE)

/* Who waits until some files are written and durable. */
struct sync_call {
	struct peer *peer; /* that is to be told; NULL: it has gone, or: */
	struct sync_wait *wait;
	uint64_t *heard; /* peers_sync_file() */
	uint32_t request;
	uint32_t pending; /* jobs */
	bool written;	  /* is enough: it need not be durable, and errors are others' to hear of */
	int err;
};

/* One range of one file. */
struct sync_job {
	struct sync_job *next;
	struct sync_call *call;
	struct pagecache *pc;
	uint64_t from, stop;
	uint64_t since; /* files.failures when it was asked for */
	struct cache_wait wait;
	bool durable; /* all is written, and fsync(2) under way */
};

/*
 * One that has lost its connection while it lived: what it had mapped is kept for it, until it has
 * ended, and for its children a while longer, or for so long.
 */
struct peer_left {
	struct peer_left *next;
	uint64_t until;
	int uffd;
	uint32_t nfiles;
	struct pagecache *pc[]; /* NULL: that one has gone */
};

/* ---- where ---- */

int peer_uffd(const struct mm *mm, const struct peer *peer)
{
	return peer != NULL ? peer->uffd : mm->uffd;
}

struct region *peer_region(const struct mm *mm, const struct peer *peer, uintptr_t addr)
{
	return region_find(peer != NULL ? &peer->regions : &mm->regions, addr);
}

void peer_wake(const struct mm *mm, const struct peer *peer, uint64_t vpn)
{
	int uffd = peer_uffd(mm, peer);

	if (uffd >= 0)
		uffd_wake(uffd, addr_of(vpn), PAGE_SIZE);
}

bool peer_protected(const struct peer *peer, enum uffd_result res)
{
	if (res == UFFD_OK)
		return true;
	return peer != NULL && (peer->uffd < 0 || res == UFFD_GONE || res == UFFD_UNFIT);
}

void peer_hold(struct peer *peer)
{
	peer->refs++;
}

void peer_let_go(struct peer *peer)
{
	if (--peer->refs != 0)
		return;
	region_tree_fini(&peer->regions);
	sys_mem_free(peer->file, PEER_FILES_MAX * sizeof(*peer->file));
	sys_mem_free(peer, sizeof(*peer));
}

/* ---- telling ---- */

static bool tell(const struct peer *peer, const struct wire_msg *m)
{
	struct wire_msg wire = *m;
	struct iovec iov = {&wire, sizeof(wire)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	wire_convert(&wire);
	/* one that does not take it is found by who reads from it */
	return SYS3(sendmsg, peer->sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL) == (long)sizeof(wire);
}

void peer_bus_ended(const struct peer *peer, uint64_t vpn)
{
	struct wire_msg m;

	wire_init(&m, WIRE_UNBUS);
	m.mm_addr = addr_of(vpn);
	m.bytes = PAGE_SIZE;
	tell(peer, &m);
}

void peer_cleaned(struct peer *peer)
{
	struct wire_msg m;

	/* not again before it has asked: one that is stopped would be told without an end */
	peer->cleaned = true;
	if (!peer->tell_cleaned)
		return;
	peer->tell_cleaned = peer->cleaned = false;
	wire_init(&m, WIRE_CLEANED);
	tell(peer, &m);
}

/* ---- coming and going ---- */

int peers_open(struct mm *mm)
{
	struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = NULL}};
	struct peers *all = &mm->peers;
	long epoll, r;

	mm->files.aside = sys_mem_alloc(ASIDE_BYTES);
	if (mm->files.aside == NULL)
		return -ENOMEM;
	r = epoll = SYS1(epoll_create, EPOLL_CLOEXEC);
	if (!sys_err(r))
		r = SYS4(epoll_ctl, epoll, EPOLL_CTL_ADD, mm->uffd, &e);
	if (!sys_err(r))
		r = sys_bare(SYS_pipe2, (long)mm->files.pipe, O_CLOEXEC, 0, 0, 0, 0);
	if (sys_err(r)) {
		if (!sys_err(epoll))
			SYS1(close, epoll);
		sys_mem_free(mm->files.aside, ASIDE_BYTES);
		mm->files.aside = NULL;
		return (int)r;
	}
	mm->wait_fd = all->epoll = (int)epoll;
	pool_init(&all->call_pool, sizeof(struct sync_call), (size_t)16 << 10);
	pool_init(&all->job_pool, sizeof(struct sync_job), (size_t)16 << 10);
	return 0;
}

static int make(struct mm *mm, int sock, struct peer **out)
{
	struct peer *peer = sys_mem_alloc(sizeof(*peer));

	if (peer == NULL)
		return -ENOMEM;
	peer->file = sys_mem_alloc(PEER_FILES_MAX * sizeof(*peer->file));
	if (peer->file == NULL) {
		sys_mem_free(peer, sizeof(*peer));
		return -ENOMEM;
	}
	region_tree_init(&peer->regions);
	peer->regions.peer = peer;
	peer->mm = mm;
	peer->refs = 1;
	peer->uffd = -1;
	peer->sock = sock;
	peer->next = mm->peers.first;
	mm->peers.first = peer;
	*out = peer;
	return 0;
}

static bool is_userfaultfd(const struct mm *mm, int fd)
{
	static const char want[] = "anon_inode:[userfaultfd]";
	char path[48], name[64];
	long n;

	log_format(path, sizeof(path), "thread-self/fd/%d", fd);
	n = SYS4(readlink, mm->proc_fd, path, name, sizeof(name) - 1);
	if (sys_err(n))
		return false;
	name[n] = '\0';
	return strcmp(name, want) == 0;
}

static int hear_of(struct peer *peer, int uffd)
{
	struct epoll_event e = {.events = EPOLLIN, .data = {.ptr = peer}};

	return (int)SYS4(epoll_ctl, peer->mm->peers.epoll, EPOLL_CTL_ADD, uffd, &e);
}

static int come(struct peer *peer, int uffd, bool heard)
{
	int r = peer->uffd < 0 && is_userfaultfd(peer->mm, uffd) ? 0 : -EPROTO;

	if (r == 0 && heard)
		r = hear_of(peer, uffd);
	if (r == 0)
		peer->uffd = uffd;
	return r;
}

int peer_come(struct peer *peer, int uffd)
{
	return come(peer, uffd, true);
}

int peer_go(struct peer *peer)
{
	return peer->again && peer->uffd >= 0 ? hear_of(peer, peer->uffd) : -EPROTO;
}

int peer_start(struct mm *mm, int uffd, int sock, bool again, struct peer **out)
{
	int r = make(mm, sock, out);

	if (r != 0)
		return r;
	(*out)->again = again;
	r = come(*out, uffd, !again);
	if (r != 0) {
		(*out)->sock = -1;
		peer_end(*out);
	}
	return r;
}

static void loosen(struct pagecache *pc, uint64_t page, uint64_t stop)
{
	for (; (page = cache_next_before(pc, page, stop, CACHE_DIRTY)) < stop; page++)
		cache_set(pc, page, cache_get(pc, page) | CACHE_LOOSE);
}

/* Everything that is dirty of the files that may be stored to in a range. */
static void loosen_all(const struct peer *peer, uintptr_t start, uintptr_t end)
{
	const struct region *r;

	for (struct pagecache *pc = peer->mm->files.first; pc != NULL; pc = pc->next)
		pc->loosened = false;
	for (uintptr_t at = start; at < end; at = r->end) {
		r = region_next(&peer->regions, at);
		if (r == NULL || r->start >= end)
			break;
		if (!(r->prot & PROT_WRITE) || cache_of(r)->loosened)
			continue;
		loosen(cache_of(r), 0, CACHE_NONE);
		cache_of(r)->loosened = true;
	}
}

/* Dirty pages from `page` on: how many, with what lies between, if little: that is protected, or absent. */
static uint64_t dirty_run(const struct pagecache *pc, uint64_t page, uint64_t stop)
{
	uint64_t end = page, far, next = page;

	do {
		end = next + 1;
		far = stop - end < PROTECT_GAP ? stop : end + PROTECT_GAP;
		next = cache_next_before(pc, end, far, CACHE_DIRTY);
	} while (next < far);
	return end - page;
}

/*
 * What may be stored to in a range of a peer is protected for the last time: the process may go on
 * without us, and its stores are faults then, of its own or of another server's.  Else they would
 * meet pages that are thought clean.  What cannot be protected is LOOSE, and so is everything
 * where it would take too long.
 */
static void protect_stored(const struct peer *peer, uintptr_t start, uintptr_t end)
{
	uint64_t cost = 0, page, stop, n;
	const struct region *r;

	for (uintptr_t at = start; peer->uffd >= 0 && at < end; at = r->end) {
		struct pagecache *pc;

		r = region_next(&peer->regions, at);
		if (r == NULL || r->start >= end)
			break;
		if (!(r->prot & PROT_WRITE))
			continue;
		pc = cache_of(r);
		page = vpn_of(r->start > at ? r->start : at) + r->delta;
		stop = vpn_of(r->end < end ? r->end : end) + r->delta;
		if (stop > pc->chunks * CHUNK_PAGES)
			stop = pc->chunks * CHUNK_PAGES;
		cost += 1 + (page < stop ? (stop - page) / CACHE_BLOCK : 0);
		for (; (page = cache_next_before(pc, page, stop, CACHE_DIRTY)) < stop; page += n) {
			uintptr_t addr = addr_of(page - r->delta);
			enum uffd_result res;

			n = dirty_run(pc, page, stop);
			cost += PROTECT_CALL + n;
			if (cost > PROTECT_MOST)
				break;
			res = uffd_writeprotect(peer->uffd, addr, n * PAGE_SIZE, true);
			if (res == UFFD_OK)
				continue;
			if (uffd_life(peer->uffd, addr) == UFFD_DEAD)
				return;
			/* the next one would keep us as long */
			if (res == UFFD_BUSY) {
				loosen_all(peer, at, end);
				return;
			}
			/* of several some may be there all the same */
			if (n != 1 || !peer_protected(peer, res))
				loosen(pc, page, page + n);
		}
		if (cost > PROTECT_MOST) {
			loosen_all(peer, at, end);
			return;
		}
	}
}

/* Whether the process has anything mapped still that it told of; one that is ending may have. */
static bool is_alive(const struct peer *peer)
{
	const struct region *r;
	unsigned tries = 0;

	if (peer->uffd < 0)
		return false;
	for (uintptr_t at = 0; (r = region_next(&peer->regions, at)) != NULL; at = r->end) {
		/* a page that is clean is protected as it is */
		enum uffd_life life =
			tries++ == ALIVE_TRIES ? UFFD_MAPPED : uffd_life(peer->uffd, r->start);

		if (life != UFFD_ALIVE)
			return life == UFFD_MAPPED;
	}
	return false;
}

/* ---- who may come again ---- */

static size_t left_size(uint32_t nfiles)
{
	return sizeof(struct peer_left) + nfiles * sizeof(struct pagecache *);
}

/* It comes again, and is to find what it has mapped: others would have another one made. */
static void keep_files(const struct peer *peer)
{
	struct peers *all = &peer->mm->peers;
	struct peer_left *left =
		all->nleft < LEFT_MAX ? sys_mem_alloc(left_size(peer->nfiles)) : NULL;
	long uffd = left != NULL ? SYS3(fcntl, peer->uffd, F_DUPFD_CLOEXEC, 3) : -ENOMEM;

	if (!sys_err(uffd)) {
		left->uffd = (int)uffd;
		left->until = sys_now() + CACHE_KEEP_NS;
		left->nfiles = peer->nfiles;
		left->next = all->left;
		if (all->left == NULL)
			all->look_at = sys_now() + ALIVE_NS;
		all->left = left;
		all->nleft++;
	} else if (left != NULL) {
		sys_mem_free(left, left_size(peer->nfiles));
		left = NULL;
	}
	for (uint32_t i = 0; i < peer->nfiles; i++) {
		struct pagecache *pc = peer->file[i].pc;

		if (pc == NULL)
			continue;
		if (left == NULL) {
			cache_keep(pc, CACHE_KEEP_NS);
			continue;
		}
		left->pc[i] = pc;
		pc->left++;
	}
}

static void left_ends(struct peers *all, struct peer_left *left)
{
	all->nleft--;
	for (uint32_t i = 0; i < left->nfiles; i++)
		if (left->pc[i] != NULL)
			left->pc[i]->left--;
	SYS1(close, left->uffd);
	sys_mem_free(left, left_size(left->nfiles));
}

/* A page that is nobody's is asked about: nothing is done to a process that lives. */
static bool has_ended(int uffd)
{
	return uffd_life(uffd, ADDRESS_END - 2 * PAGE_SIZE) == UFFD_DEAD;
}

static void look_after_left(struct mm *mm)
{
	struct peers *all = &mm->peers;
	uint64_t now = sys_now();

	if (all->left == NULL || now < all->look_at)
		return;
	for (struct peer_left **link = &all->left; *link != NULL;) {
		struct peer_left *left = *link;

		bool ended = has_ended(left->uffd);

		if (now < left->until && !ended) {
			link = &left->next;
			continue;
		}
		for (uint32_t i = 0; i < left->nfiles; i++)
			if (left->pc[i] != NULL)
				cache_keep(left->pc[i], ended ? HEIR_NS : CACHE_NOTE_NS);
		*link = left->next;
		left_ends(all, left);
	}
	all->look_at = sys_now() + ALIVE_NS;
}

uint64_t peers_timeout(const struct mm *mm, uint64_t at)
{
	const struct peers *all = &mm->peers;
	uint64_t now;

	if (all->ndying != 0 && at > DYING_LOOK_NS)
		at = DYING_LOOK_NS;
	if (all->left == NULL)
		return at;
	now = sys_now();
	if (all->look_at <= now)
		return 1;
	return all->look_at - now < at ? all->look_at - now : at;
}

void peers_forget(struct pagecache *pc)
{
	for (struct peer_left *left = pc->mm->peers.left; left != NULL; left = left->next)
		for (uint32_t i = 0; i < left->nfiles; i++)
			if (left->pc[i] == pc)
				left->pc[i] = NULL;
	pc->left = 0;
}

static void end_now(struct peer *peer)
{
	struct mm *mm = peer->mm;
	const struct region *r;
	unsigned kept = 0;
	bool alive;

	protect_stored(peer, 0, ADDRESS_END);
	alive = is_alive(peer);
	if (peer->dying_until != 0)
		mm->peers.ndying--;
	else if (alive)
		keep_files(peer);
	for (struct peer **link = &mm->peers.first; *link != NULL; link = &(*link)->next) {
		if (*link == peer) {
			*link = peer->next;
			break;
		}
	}
	while ((r = region_next(&peer->regions, 0)) != NULL) {
		/* whom we read, and now do not answer, asks again */
		if (alive)
			uffd_wake(peer->uffd, r->start, r->end - r->start);
		region_remove(&peer->regions, r->start, r->end);
	}
	file_sigbus_forget(mm, peer, 0, VPN_MAX);
	for (unsigned i = 0; i < mm->ndefer; i++)
		if (mm->defer[i].peer != peer)
			mm->defer[kept++] = mm->defer[i];
	mm->ndefer = kept;
	for (const struct sync_job *j = mm->peers.jobs; j != NULL; j = j->next)
		if (j->call->peer == peer)
			j->call->peer = NULL;
	for (uint32_t i = 0; i < peer->nfiles; i++)
		peer_close(peer, i);
	if (peer->uffd >= 0) {
		/* it has copies: closing ours does not end the watch */
		SYS4(epoll_ctl, mm->peers.epoll, EPOLL_CTL_DEL, peer->uffd, 0);
		SYS1(close, peer->uffd);
	}
	if (peer->sock >= 0)
		SYS1(close, peer->sock);
	peer->uffd = peer->sock = -1;
	peer_let_go(peer);
}

/*
 * Of a process that is killed the pager, and with it the connection, may go before the threads
 * that it served.  The kernel marks their robust mutexes as they end, in pages that are there and
 * not protected only: so what it has mapped is left to it until it has ended.
 */
void peer_end(struct peer *peer)
{
	struct peers *all = &peer->mm->peers;

	if (peer->uffd < 0 || peer->regions.count == 0 || peer->mm->files.closing ||
	    all->ndying == DYING_MAX || has_ended(peer->uffd)) {
		end_now(peer);
		return;
	}
	peer->dying_until = sys_now() + DYING_NS;
	all->ndying++;
	keep_files(peer);
	/* if it lives, it is to know, and its faults are its own to answer */
	SYS4(epoll_ctl, all->epoll, EPOLL_CTL_DEL, peer->uffd, 0);
	sys_bare(SYS_shutdown, peer->sock, SHUT_RDWR, 0, 0, 0, 0);
}

/* now NULL: all of them. */
static void end_dying(struct mm *mm, const uint64_t *now)
{
	struct peer *next;

	for (struct peer *peer = mm->peers.ndying != 0 ? mm->peers.first : NULL; peer != NULL;
	     peer = next) {
		next = peer->next;
		if (peer->dying_until != 0 &&
		    (now == NULL || *now >= peer->dying_until || has_ended(peer->uffd)))
			end_now(peer);
	}
}

int peer_fork(const struct peer *parent, int sock, struct peer **out)
{
	struct mm *mm = parent->mm;
	struct peer *child;
	const struct region *r;
	int err = make(mm, sock, &child);

	if (err != 0)
		return err;
	for (uint32_t i = 0; i < parent->nfiles; i++) {
		child->file[i] = parent->file[i];
		if (child->file[i].pc != NULL)
			child->file[i].pc->handles++;
	}
	child->nfiles = parent->nfiles;
	child->again = parent->again;
	for (uintptr_t at = 0; err == 0 && (r = region_next(&parent->regions, at)) != NULL;
	     at = r->end)
		err = region_insert_file(&child->regions, r->start, r->end, r->prot,
					 r->flags & ~REGION_LOCKED, r->users, r->delta);
	if (err != 0) {
		child->sock = -1;
		end_now(child);
		return err;
	}
	*out = child;
	return 0;
}

/* ---- files and mappings ---- */

/* before NULL: there was none. */
static long add_file(struct peer *peer, int fd, bool write, const struct cache_before *before)
{
	struct pagecache *pc;
	uint32_t i = 0;
	int r;

	while (i < peer->nfiles && peer->file[i].pc != NULL)
		i++;
	if (i == PEER_FILES_MAX)
		return -EMFILE;
	r = before == NULL ? cache_open_here(peer->mm, fd, write, &pc)
			   : cache_take(peer->mm, fd, write, before, &pc);
	if (r != 0)
		return r;
	pc->handles++;
	pc->given_up = false;
	pc->orphan_tries = 0;
	peer->file[i] = (struct peer_file){
		.pc = pc, .write = write, .heard = cache_heard(peer->mm, pc, -1)};
	if (i == peer->nfiles)
		peer->nfiles++;
	return (long)i;
}

long peer_open(struct peer *peer, int fd, bool write)
{
	return add_file(peer, fd, write, NULL);
}

long peer_take(struct peer *peer, int fd, bool write, const struct cache_before *before)
{
	return add_file(peer, fd, write, before);
}

static const struct peer_file *file_of(const struct peer *peer, uint32_t file)
{
	return file < peer->nfiles && peer->file[file].pc != NULL ? &peer->file[file] : NULL;
}

static long copy_fd(const struct mm *mm, int fd, bool write)
{
	char path[48];

	if (write)
		return SYS3(fcntl, fd, F_DUPFD_CLOEXEC, 3);
	log_format(path, sizeof(path), "thread-self/fd/%d", fd);
	return SYS4(openat, mm->proc_fd, path, O_RDONLY | O_CLOEXEC, 0);
}

int peer_descriptors(const struct peer *peer, uint32_t file, int fds[3])
{
	const struct peer_file *f = file_of(peer, file);

	if (f == NULL)
		return -EPROTO;
	for (unsigned i = 0; i < 3; i++) {
		int fd = i == 0 ? f->pc->memfd : i == 1 ? f->pc->state_fd : f->pc->marks_fd;
		long copy = copy_fd(peer->mm, fd, f->write && i != 1);

		if (sys_err(copy)) {
			while (i != 0)
				SYS1(close, fds[--i]);
			return (int)copy;
		}
		fds[i] = (int)copy;
	}
	return 0;
}

void peer_close(struct peer *peer, uint32_t file)
{
	if (file_of(peer, file) == NULL)
		return;
	peer->file[file].pc->handles--;
	peer->file[file].pc = NULL;
}

static bool is_range(uint64_t addr, uint64_t len)
{
	return addr % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && len != 0 && addr < ADDRESS_END &&
	       len <= ADDRESS_END - addr;
}

/* The next run of locked pages of a file from *page on, which becomes its first; 0: none. */
static uint64_t locked_run(const struct pagecache *pc, uint64_t *page)
{
	uint64_t next = CACHE_NONE;
	uint64_t end = *page;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		uint64_t first = vpn_of(r->start) + r->delta;
		uint64_t stop = vpn_of(r->end) + r->delta;

		if (!(r->flags & REGION_LOCKED) || stop <= *page)
			continue;
		if (first <= *page)
			end = stop > end ? stop : end;
		else if (first < next)
			next = first;
	}
	if (end > *page)
		return end - *page;
	if (next == CACHE_NONE)
		return 0;
	*page = next;
	return locked_run(pc, page);
}

static uint64_t locked_pages(const struct pagecache *pc)
{
	unsigned maps = 0;
	uint64_t sum = 0;
	uint64_t n;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		if (!(r->flags & REGION_LOCKED))
			continue;
		sum += vpn_of(r->end - r->start);
		maps++;
	}
	if (maps > 1 && maps <= LOCKS_COMPARED) {
		sum = 0;
		for (uint64_t page = 0; (n = locked_run(pc, &page)) != 0; page += n)
			sum += n;
	}
	return sum;
}

static bool too_many_locked(const struct mm *mm)
{
	uint64_t sum = 0;

	for (const struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		sum += locked_pages(pc);
	return sum > mm_lockable(mm, mm_budget(mm));
}

/* What fl_region_set() said of a range, in flags of a region; -ENOMEM. */
static long wish(const struct peer *peer, const struct wire_msg *m)
{
	long n = traits_share(peer->mm, (enum fl_priority)m->prio, m->count);

	return n < 0 ? n : n << REGION_TRAITS_SHIFT;
}

int peer_map(struct peer *peer, const struct wire_msg *m)
{
	uint32_t rflags = REGION_SHARED | (m->flags & WIRE_LOCKED ? REGION_LOCKED : 0) |
			  (m->flags & WIRE_IN_ORDER ? REGION_SEQUENTIAL : 0) |
			  (m->flags & WIRE_NO_ORDER ? REGION_RANDOM : 0);
	const struct peer_file *f = file_of(peer, m->member);
	uint64_t addr = m->mm_addr, len = m->bytes, page = m->slots;
	uint64_t pages = len >> PAGE_SHIFT;
	long traits;
	int r;

	if (f == NULL || !is_range(addr, len) || page > CACHE_PAGES_MAX ||
	    pages > CACHE_PAGES_MAX - page)
		return -EPROTO;
	traits = wish(peer, m);
	if (traits < 0 || peer->regions.count >= PEER_REGIONS_MAX)
		return -ENOMEM;
	rflags |= (uint32_t)traits;
	r = cache_cover(f->pc, page + pages);
	if (r == 0)
		r = region_insert_file(&peer->regions, addr, addr + len,
				       PROT_READ | (f->write ? PROT_WRITE : 0), rflags,
				       &f->pc->users, page - vpn_of(addr));
	if (r == 0 && (m->flags & WIRE_LOCKED) && too_many_locked(peer->mm)) {
		region_remove(&peer->regions, addr, addr + len);
		r = -ENOMEM;
	}
	return r;
}

/* Whether one of its regions becomes two, of which there are too many. */
static bool splits_too_many(const struct peer *peer, uint64_t addr, uint64_t len)
{
	const struct region *r = region_find(&peer->regions, addr);

	return peer->regions.count >= PEER_REGIONS_MAX && r != NULL && r->start < addr &&
	       r->end > addr + len;
}

int peer_unmap(struct peer *peer, uint64_t addr, uint64_t len)
{
	struct mm *mm = peer->mm;
	unsigned kept = 0;
	int r;

	if (!is_range(addr, len))
		return -EPROTO;
	if (splits_too_many(peer, addr, len))
		return -ENOMEM;
	/* it may stay mapped after all (share_return()) */
	protect_stored(peer, addr, addr + len);
	r = region_remove(&peer->regions, addr, addr + len);
	if (r != 0)
		return r;
	file_sigbus_forget(mm, peer, vpn_of(addr), vpn_of(addr + len));
	for (unsigned i = 0; i < mm->ndefer; i++)
		if (mm->defer[i].peer != peer || mm->defer[i].addr < addr ||
		    mm->defer[i].addr >= addr + len)
			mm->defer[kept++] = mm->defer[i];
	mm->ndefer = kept;
	/* who waits there meets what comes next */
	if (peer->uffd >= 0)
		uffd_wake(peer->uffd, addr, len);
	return 0;
}

/*
 * What it holds must be there for the kernel to mark it, should it be killed (share.c).  A page
 * that is not cached was not stored to for long: it is read as by any fault.
 */
int peer_store(struct pager *p, struct peer *peer, uint64_t addr, uint64_t len)
{
	struct fault f = {.peer = peer, .addr = addr, .write = true};
	const struct region *r;

	if (len == 0) {
		peer->tell_cleaned = true;
		if (peer->cleaned)
			peer_cleaned(peer);
		return 0;
	}
	r = region_find(&peer->regions, addr);
	if (r == NULL || !(r->prot & PROT_WRITE))
		return 0;
	f.t0 = sys_now();
	if (fault_handle(p, &f) == FAULT_DEFER)
		fault_defer(p, &f);
	return 0;
}

bool peers_store_to(const struct pagecache *pc)
{
	const struct peer *ended = NULL;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		const struct peer *peer = r->peer;

		if (!(r->prot & PROT_WRITE) || peer == ended)
			continue;
		/* the end of its connection may not have been noticed yet */
		if (peer->uffd < 0 || !has_ended(peer->uffd))
			return true;
		ended = peer;
	}
	return false;
}

/* ---- advice ---- */

static int change(struct peer *peer, uint64_t addr, uint64_t len, uint32_t set, uint32_t clear)
{
	if (peer->regions.count + 2 > PEER_REGIONS_MAX)
		return -ENOMEM;
	return region_change(&peer->regions, addr, addr + len, -1, set, clear);
}

static int lock_range(struct peer *peer, uint64_t addr, uint64_t len)
{
	int r = change(peer, addr, len, REGION_LOCKED, 0);

	/* what of it was locked before is for the peer to say again */
	if (r == 0 && too_many_locked(peer->mm)) {
		region_change(&peer->regions, addr, addr + len, -1, 0, REGION_LOCKED);
		r = -ENOMEM;
	}
	return r;
}

/* What is done to the pages of a range, mapping by mapping; as peer_advise() returns. */
static long each_part(struct pager *p, struct peer *peer, uint64_t addr, uint64_t len,
		      enum wire_advice what)
{
	const struct region *r;
	long most = 0;

	for (uintptr_t at = addr, end; at < addr + len; at = end) {
		uint64_t page, stop;
		long err = 0;

		r = region_next(&peer->regions, at);
		if (r == NULL || r->start >= addr + len)
			break;
		page = vpn_of(r->start > at ? r->start : at) + r->delta;
		end = r->end < addr + len ? r->end : addr + len;
		stop = vpn_of(end) + r->delta;
		if (what == WIRE_WILLNEED) {
			cache_advise(p, cache_of(r), page, stop, MADV_WILLNEED);
			if (page < cache_pages(cache_of(r)))
				most = (long)file_prefetch_most(p->mm);
		} else if (what != WIRE_REMOVE) {
			cache_advise(p, cache_of(r), page, stop,
				     what == WIRE_COLD ? MADV_COLD : MADV_PAGEOUT);
		} else {
			err = r->prot & PROT_WRITE ? cut_hole(p, cache_of(r), page, stop) : -EACCES;
		}
		if (err != 0)
			return err;
	}
	return most;
}

static int set_wish(struct peer *peer, const struct wire_msg *m)
{
	long traits = wish(peer, m);

	return traits < 0 ? (int)traits
			  : change(peer, m->mm_addr, m->bytes, (uint32_t)traits, REGION_TRAITS);
}

long peer_advise(struct pager *p, struct peer *peer, const struct wire_msg *m)
{
	enum wire_advice what = (enum wire_advice)m->flags;
	uint64_t addr = m->mm_addr, len = m->bytes;

	if (!is_range(addr, len))
		return -EPROTO;
	switch (what) {
	case WIRE_WANT:
		return set_wish(peer, m);
	case WIRE_LOCK:
		return lock_range(peer, addr, len);
	case WIRE_UNLOCK:
		return change(peer, addr, len, 0, REGION_LOCKED);
	case WIRE_NORMAL:
		return change(peer, addr, len, 0, REGION_SEQUENTIAL | REGION_RANDOM);
	case WIRE_SEQUENTIAL:
		return change(peer, addr, len, REGION_SEQUENTIAL, REGION_RANDOM);
	case WIRE_RANDOM:
		return change(peer, addr, len, REGION_RANDOM, REGION_SEQUENTIAL);
	case WIRE_WILLNEED:
	case WIRE_COLD:
	case WIRE_PAGEOUT:
	case WIRE_REMOVE:
		return each_part(p, peer, addr, len, what);
	case WIRE_ADVICE_END:
		break;
	}
	return -EPROTO;
}

/* ---- faults ---- */

static long read_now(int fd, struct uffd_msg *msgs, unsigned n)
{
	struct iovec iov = {msgs, n * sizeof(*msgs)};
	long r = sys_bare(SYS_preadv2, fd, (long)&iov, 1, -1, -1, RWF_NOWAIT);

	if (r != -EOPNOTSUPP)
		return r;
	/* a kernel before 6.10: its own word that it does not wait is taken */
	r = SYS3(fcntl, fd, F_GETFL, 0);
	if (sys_err(r) || !(r & O_NONBLOCK))
		return -EPROTO;
	return SYS3(uffd_read, fd, msgs, n * sizeof(*msgs));
}

/* A fault that is not ours to answer: false if it cannot be told. */
static bool hand_back(const struct peer *peer, const struct uffd_msg *msg)
{
	uint64_t what = msg->arg.pagefault.flags;
	struct wire_msg m;

	wire_init(&m, WIRE_FAULT);
	m.mm_addr = msg->arg.pagefault.address & PAGE_MASK;
	m.bytes = PAGE_SIZE;
	m.flags = (what & UFFD_PAGEFAULT_FLAG_WRITE ? WIRE_STORES : 0) |
		  (what & UFFD_PAGEFAULT_FLAG_WP ? WIRE_PROTECTED : 0) |
		  (what & UFFD_PAGEFAULT_FLAG_MINOR ? WIRE_MINOR : 0);
	return tell(peer, &m);
}

static void read_peer(struct pager *p, struct peer *peer)
{
	struct mm *mm = p->mm;
	struct uffd_msg msgs[PAGER_MSGS];
	long n = read_now(peer->uffd, msgs, PAGER_MSGS);
	uint64_t now;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (sys_err(n) || n == 0) {
		/* it is of no use, and would be told again and again */
		SYS4(epoll_ctl, mm->peers.epoll, EPOLL_CTL_DEL, peer->uffd, 0);
		return;
	}
	now = sys_now();
	for (long i = 0; i < n / (long)sizeof(*msgs); i++) {
		const struct uffd_msg *m = &msgs[i];
		struct fault f;

		if (m->event == UFFD_EVENT_FORK)
			SYS1(close, m->arg.fork.ufd);
		if (m->event != UFFD_EVENT_PAGEFAULT)
			continue;
		if (peer->again &&
		    region_find(&peer->regions, m->arg.pagefault.address & PAGE_MASK) == NULL &&
		    hand_back(peer, m))
			continue;
		f = (struct fault){
			.peer = peer,
			.addr = m->arg.pagefault.address & PAGE_MASK,
			.write = m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
			.wp = m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP,
			.tid = m->arg.pagefault.feat.ptid,
			.t0 = now,
		};
		if (fault_handle(p, &f) == FAULT_DEFER)
			fault_defer(p, &f);
	}
}

bool peers_read(struct pager *p)
{
	struct peers *all = &p->mm->peers;
	struct epoll_event e[READY_MAX];
	long n = SYS6(epoll_wait, all->epoll, e, READY_MAX, 0, 0, 8);
	bool own = false;

	for (long i = 0; i < n; i++) {
		if (e[i].data.ptr != NULL)
			read_peer(p, e[i].data.ptr);
		else
			own = true;
	}
	return own;
}

/* ---- syncs ---- */

/* A failure of a file that the peer has not heard of: that it was; 0: none. */
static int failure(struct peer *peer, struct pagecache *pc)
{
	int err = 0;

	for (uint32_t i = 0; i < peer->nfiles; i++) {
		struct peer_file *f = &peer->file[i];
		int news = f->pc == pc ? cache_news(&pc->failure, &f->heard) : 0;

		if (news != 0)
			err = news;
	}
	return err;
}

static void call_ends(struct mm *mm, struct sync_call *call)
{
	if (--call->pending != 0)
		return;
	if (call->peer != NULL) {
		struct wire_msg m;

		wire_init(&m, WIRE_ANSWER);
		m.request = call->request;
		m.error = call->err;
		/* a thread of it waits for that, without an end */
		if (!tell(call->peer, &m))
			sys_bare(SYS_shutdown, call->peer->sock, SHUT_RDWR, 0, 0, 0, 0);
	} else if (call->wait != NULL) {
		struct sync_wait *wait = call->wait;

		wait->err = call->err;
		/* Release: pairs with the acquire load of who waits. */
		__atomic_store_n(&wait->pending, 0, __ATOMIC_RELEASE);
		futex_wake(&wait->pending, 1);
	}
	pool_put(&mm->peers.call_pool, call);
}

static void job_ends(struct mm *mm, struct sync_job *job, int err)
{
	struct sync_call *call = job->call;
	struct pagecache *pc = job->pc;
	int news = 0;

	for (struct sync_job **link = &mm->peers.jobs; *link != NULL; link = &(*link)->next) {
		if (*link == job) {
			*link = job->next;
			break;
		}
	}
	/* its own sync's, too, is heard of once */
	if (call->peer != NULL) {
		news = failure(call->peer, pc);
	} else if (call->heard != NULL) {
		news = cache_news(&pc->failure, call->heard);
		pc->error = 0;
	}
	if (err == 0)
		err = news;
	if (call->err == 0)
		call->err = err;
	pc->handles--;
	pool_put(&mm->peers.job_pool, job);
	call_ends(mm, call);
}

static void sync_done(struct file_io *io, int res)
{
	struct sync_job *job = io->waiter;
	struct pagecache *pc = io->pc;
	struct mm *mm = pc->mm;

	if (res != 0) {
		if (pc->error == 0)
			mm_log(mm, FL_LOG_ERROR, "cannot sync %s: %s", pc->name, log_strerror(res));
		pc->error = res;
	}
	/* of another one that failed meanwhile the peer may have heard already */
	res = cache_sync_ended(io, res, job->since);
	cache_io_end(io);
	job_ends(mm, job, res);
}

/* Whether another range of the file is still to be written for the same call. */
static bool is_followed(const struct mm *mm, const struct sync_job *job)
{
	for (const struct sync_job *j = mm->peers.jobs; j != NULL; j = j->next)
		if (j != job && j->call == job->call && j->pc == job->pc && !j->durable)
			return true;
	return false;
}

/* All is written: to the disk with it, of several ranges of a file with the last. */
static void make_durable(struct pager *p, struct sync_job *job)
{
	struct file_io *io;

	if (!job->pc->writable || job->call->written || is_followed(p->mm, job)) {
		job_ends(p->mm, job, 0);
		return;
	}
	io = pool_get(&p->mm->files.io_pool);
	if (io == NULL)
		return; /* the next round tries again */
	job->durable = true;
	io->pager = p;
	io->pc = job->pc;
	io->waiter = job;
	io->req.dev = &job->pc->tail;
	io->req.op = BLK_SYNC;
	io->done = sync_done;
	cache_start(io);
}

static void step(struct pager *p, struct sync_job *job)
{
	struct pagecache *pc = job->pc;

	for (uint64_t page = job->from; (page = cache_next(pc, page, CACHE_DIRTY)) < job->stop;) {
		uint32_t n = 0;

		if (cache_get(pc, page) & CACHE_SYNC)
			n = cache_write(p, pc, page, job->stop - page);
		page += n != 0 ? n : 1;
	}
	if (cache_written(pc, job->from, job->stop, &job->wait))
		make_durable(p, job);
}

void peers_round(struct pager *p)
{
	struct sync_job *next;
	uint64_t now;

	if (p->mm->peers.ndying != 0) {
		now = sys_now();
		end_dying(p->mm, &now);
	}
	look_after_left(p->mm);
	for (struct sync_job *j = p->mm->peers.jobs; j != NULL; j = next) {
		next = j->next;
		if (!j->durable)
			step(p, j);
	}
}

static int add_job(struct mm *mm, struct sync_call *call, struct pagecache *pc, uint64_t from,
		   uint64_t stop)
{
	struct sync_job *job = pool_get(&mm->peers.job_pool);

	if (job == NULL)
		return -ENOMEM;
	cache_look_at_size(pc);
	cache_look_again(pc, from, stop);
	for (uint64_t i = from; (i = cache_next(pc, i, CACHE_DIRTY)) < stop; i++)
		cache_set(pc, i, cache_get(pc, i) | CACHE_SYNC);
	job->call = call;
	job->pc = pc;
	job->from = from;
	job->stop = stop;
	job->since = mm->files.failures;
	pc->handles++;
	call->pending++;
	job->next = mm->peers.jobs;
	mm->peers.jobs = job;
	return 0;
}

int peer_sync(struct peer *peer, uint64_t addr, uint64_t len, uint32_t request)
{
	struct mm *mm = peer->mm;
	struct sync_call *call;
	const struct region *r;

	if (!is_range(addr, len))
		return -EPROTO;
	call = pool_get(&mm->peers.call_pool);
	if (call == NULL)
		return -ENOMEM;
	call->peer = peer;
	call->request = request;
	call->pending = 1;
	for (uintptr_t at = addr;
	     (r = region_next(&peer->regions, at)) != NULL && r->start < addr + len; at = r->end) {
		uintptr_t s = r->start > addr ? r->start : addr;
		uintptr_t e = r->end < addr + len ? r->end : addr + len;
		int err =
			add_job(mm, call, cache_of(r), vpn_of(s) + r->delta, vpn_of(e) + r->delta);

		if (err != 0 && call->err == 0)
			call->err = err;
	}
	call_ends(mm, call);
	return 0;
}

/* Of a thread that waits; NULL: no memory. */
static struct sync_call *call_of(struct mm *mm, struct sync_wait *wait, bool written)
{
	struct sync_call *call = pool_get(&mm->peers.call_pool);

	if (call == NULL)
		return NULL;
	wait->pending = 1;
	call->wait = wait;
	call->written = written;
	call->pending = 1;
	return call;
}

static int sync_one(struct mm *mm, struct sync_call *call, struct pagecache *pc)
{
	if (call == NULL)
		return -ENOMEM;
	call->err = add_job(mm, call, pc, 0, CACHE_NONE);
	call_ends(mm, call);
	return 0;
}

int peers_sync_file(struct mm *mm, struct pagecache *pc, uint64_t *heard, struct sync_wait *wait)
{
	struct sync_call *call = call_of(mm, wait, false);

	if (call != NULL)
		call->heard = heard;
	return sync_one(mm, call, pc);
}

int peers_write_file(struct mm *mm, struct pagecache *pc, struct sync_wait *wait)
{
	return sync_one(mm, call_of(mm, wait, true), pc);
}

int peers_write_all(struct mm *mm, struct sync_wait *wait)
{
	struct sync_call *call = call_of(mm, wait, true);

	if (call == NULL)
		return -ENOMEM;
	for (struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		if ((pc->dirty != 0 || pc->recent != 0) &&
		    add_job(mm, call, pc, 0, CACHE_NONE) != 0)
			break;
	call_ends(mm, call);
	return 0;
}

void peers_stop(struct mm *mm)
{
	struct peer_left *left;
	struct sync_job *next;

	end_dying(mm, NULL);
	while ((left = mm->peers.left) != NULL) {
		mm->peers.left = left->next;
		left_ends(&mm->peers, left);
	}
	/* the others' I/O is under way: they end with it */
	for (struct sync_job *j = mm->peers.jobs; j != NULL; j = next) {
		next = j->next;
		if (!j->durable)
			job_ends(mm, j, -EIO);
	}
}
