/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * share.c - shared mappings that the store's server pages; see share.h.
 *
 * What is asked on a connection is answered in order, but for syncs; what comes
 * unasked in between is done at once.
 *
 * Invariants.
 * - Every REGION_REMOTE region is registered with the link's userfaultfd, which is the
 *   same for as long as the process lives, whatever servers come.
 * - The faults have one reader: the server while the link is `up`, else this process.
 *   lose() takes them over, connect_again() hands them back.
 * - A file is `stranded` from the loss of its server until another has taken it.  A page
 *   of a stranded file is let in with its words locked for reading, and a page that may
 *   be stored to is marked before that (lock_words(), mark()).
 * - A file is kept while a region uses it, or while something that was stored in it is
 *   still to be given back (`waits`).
 *
 * Locks: the mm lock, but for share_would(), which takes none.  The file lock of a file's
 * words is tried, never waited for.
 */
#include "share.h"

#include "do.h"
#include "fork.h"
#include "mm.h"
#include "proc.h"
#include "store-client.h"
#include "store-wire.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define WAIT_NS 30000000000ULL
#define HELLO_NS 3000000000U	    /* the same of one that is come to again: we look again */
#define TAKE_NS 10000000000ULL	    /* for a server to take a file that others are to bring, */
#define LOOK_NS 50000000U	    /* which is tried again so often; */
#define CONNECT_NS 1000000000U	    /* whether there is a server, soon not that often, */
#define LATE_NS 2000000000U	    /* and so much less at most if it answers late */
#define HELD_NS 600000000000ULL	    /* for one that ends to do so: that is the kernel's matter */
#define OPEN_NS 5000000000ULL	    /* for a file to be taken, before it is opened anew; */
#define OPEN_HELD_NS 10000000000ULL /* while one that ends has it */
#define SYNCS_MAX 128U
#define WORDS_READ 256U
#define PATH_ROOM 512U
#define HELD_MAX ((unsigned)ROBUST_LIST_LIMIT)
#define PI_BIT ((uintptr_t)1) /* of an entry: its mutex lends priority */

/*
 * A connection, and the userfaultfd that goes with it, for as long as the process has one.  When
 * the server has gone, there may be another connection with the same userfaultfd later.
 */
struct link {
	int sock; /* -1: lost */
	int uffd;
	bool up;	   /* the server reads the faults; else they are ours */
	uint32_t requests; /* asked so far */
	bool pending;	   /* messages may wait */
	bool cleaned;	   /* the server has protected something that we may store to */
	bool faults;	   /* not up: faults may wait */
	struct {
		uint32_t request;
		struct sync_wait *wait; /* NULL: free */
	} sync[SYNCS_MAX];		/* more would not fit the socket, */
	struct sync_wait *waiting;	/* so these wait for others to end */
};

struct share_file {
	struct region_users users; /* first: a region's users is the file */
	struct share_file *next;
	uint32_t number; /* at the server */
	bool write;
	uint64_t dev, ino;
	int memfd, state_fd, marks_fd; /* -1: to be asked for */
	uint64_t memfd_ino;
	uint32_t shown; /* to the store's server: stored_say() */
	uint64_t birth; /* when the file was made, by the server's word; 0: not known */
	/* when the server has gone */
	bool stranded;	      /* no server pages it: its faults are ours to answer */
	uint64_t take_until;  /* what is touched waits so long for it to be taken, ns; 0: not */
	bool refused;	      /* the server that came does not take it: it is not asked again */
	uint64_t asked_since; /* it is asked since then, */
	uint64_t ask_at;      /* and again then, ns */
	bool held;	      /* faults of it wait, and are to be looked at again */
	uint64_t held_since;  /* others have a server that pages it since then, ns; 0: none have */
	bool stored;	      /* something, since then or since it was given back */
	bool returned;	      /* what was stored before that is in the file */
	bool waits;	      /* for a server to give it back to, nobody maps it any more */
	bool told;	      /* that it could not be given back */
	char path[PATH_ROOM]; /* as it was when it was opened; empty: too long */
};

struct share {
	struct link *link; /* NULL: nothing was mapped yet */
	struct share_file *files;
	uint64_t look_at;	  /* when what waits is looked at again, ns; 0: nothing does */
	uint64_t connect_at;	  /* and not before then whether there is a server, ns */
	uint64_t lost_at;	  /* when the last one was lost, ns */
	bool said;		  /* that a touch raised SIGBUS since the server has gone */
	bool refused;		  /* and that a server does not page mapped files */
	struct map_file *waiting; /* calls that map a file which is to be taken first */
};

static struct share_file *file_of(const struct region *r)
{
	return (struct share_file *)(void *)r->users;
}

/* ---- connections ---- */

static void part_ends(struct sync_wait *wait, int err)
{
	if (err != 0)
		wait->err = err;
	/* Release: pairs with the acquire load of who waits. */
	__atomic_fetch_sub(&wait->pending, 1, __ATOMIC_RELEASE);
	futex_wake(&wait->pending, 1);
}

static void sync_ends(struct link *l, unsigned i, int err)
{
	struct sync_wait *wait = l->sync[i].wait;

	l->sync[i].wait = NULL;
	part_ends(wait, err);
}

static void waiting_ends(struct link *l, int err)
{
	struct sync_wait *wait = l->waiting;

	l->waiting = wait->ask.next;
	part_ends(wait, err);
}

/* Who waits for an answer asks again. */
static void wake_file(const struct mm *mm, const struct share_file *f)
{
	for (const struct region *r = f->users.first; r != NULL; r = r->user_next)
		uffd_wake(mm->share->link->uffd, r->start, r->end - r->start);
}

/* The faults are ours to read. */
static void read_faults(struct mm *mm, struct link *l)
{
	l->up = false;
	l->faults = true;
	if (fork_watch(mm, l->uffd, false) != 0)
		log_fatal("no memory to answer for the store's server, which has gone");
}

/* What waits is looked at by then. */
static void look_by(struct share *s, uint64_t at)
{
	if (s->look_at == 0 || s->look_at > at)
		s->look_at = at;
}

static void look_soon(struct share *s)
{
	look_by(s, sys_now() + LOOK_NS);
}

/* Until what is tried since then is tried again. */
static uint64_t pause_since(uint64_t then)
{
	uint64_t gap = (sys_now() - then) / 4;

	return gap < LOOK_NS ? LOOK_NS : gap > CONNECT_NS ? CONNECT_NS : gap;
}

/* From here on faults are ours to answer. */
static void lose(struct mm *mm, struct link *l)
{
	bool mapped = false, waits = false, up = l->up;

	if (l->sock < 0)
		return;
	SYS1(close, l->sock);
	l->sock = -1;
	l->pending = false;
	for (unsigned i = 0; i < SYNCS_MAX; i++)
		if (l->sync[i].wait != NULL)
			sync_ends(l, i, -EIO);
	while (l->waiting != NULL)
		waiting_ends(l, -EIO);
	for (struct share_file *f = mm->share->files; f != NULL; f = f->next) {
		mapped |= f->users.count != 0;
		f->stranded = true;
		f->refused = false;
		f->take_until = 0;
		waits |= f->waits;
		/* but not by one that cannot be come to */
		if (up)
			f->held_since = 0;
	}
	if (mapped && up)
		mm_log(mm, FL_LOG_ERROR,
		       "the store's server has gone: of mapped files what is in memory stays, and "
		       "is not written before there is another one; a touch of the rest raises "
		       "SIGBUS");
	if (up)
		read_faults(mm, l);
	/* what was read and not answered is asked again */
	for (const struct share_file *f = mm->share->files; f != NULL; f = f->next)
		wake_file(mm, f);
	if (up)
		mm->share->lost_at = sys_now();
	if ((mapped || waits) && mm->share->link == l)
		look_soon(mm->share);
}

static void answer(struct mm *mm, uintptr_t addr, uint32_t what);
static void ask_syncs(struct mm *mm, struct link *l);

/* What comes unasked, and the ends of syncs. */
static void hear(struct mm *mm, struct link *l, const struct wire_msg *m)
{
	const struct region *r;

	if (m->type == WIRE_UNBUS) {
		r = region_find(&mm->regions, m->mm_addr);
		if (r != NULL && (r->flags & REGION_REMOTE) && m->bytes <= r->end - m->mm_addr)
			SYS3(madvise, m->mm_addr, m->bytes, MADV_DONTNEED_LOCKED);
		return;
	}
	if (m->type == WIRE_CLEANED) {
		l->cleaned = true;
		return;
	}
	if (m->type == WIRE_FAULT) {
		if (mm->share->link == l)
			answer(mm, m->mm_addr & PAGE_MASK, m->flags);
		return;
	}
	for (unsigned i = 0; m->type == WIRE_ANSWER && i < SYNCS_MAX; i++)
		if (l->sync[i].wait != NULL && l->sync[i].request == m->request)
			sync_ends(l, i, m->error);
	ask_syncs(mm, l);
}

/*
 * Ask, and wait for the answer, which comes in *m with its descriptors.  Its
 * error, or -ENOTCONN.
 */
static int ask(struct mm *mm, struct link *l, struct wire_msg *m, const int *fds, unsigned nfds,
	       int got[WIRE_FDS_MAX], unsigned *ngot)
{
	bool again = m->type == WIRE_HELLO && (m->flags & WIRE_AGAIN);
	uint64_t deadline = sys_now() + (again ? HELLO_NS : WAIT_NS);
	uint32_t request = ++l->requests;
	struct wire_msg a;
	int r;

	if (l->sock < 0)
		return -ENOTCONN;
	m->request = request;
	r = stored_send(l->sock, m, fds, nfds);
	while (r == 0) {
		r = stored_receive(l->sock, &a, got, ngot);
		if (r == -EAGAIN) {
			r = stored_await(l->sock, deadline);
			continue;
		}
		if (r != 0)
			break;
		if ((a.type == WIRE_ANSWER && a.request == request) ||
		    (m->type == WIRE_HELLO && a.type == WIRE_ATTACHED)) {
			*m = a;
			return a.error;
		}
		for (unsigned i = 0; i < *ngot; i++)
			SYS1(close, got[i]);
		if (a.type == WIRE_ERROR)
			r = a.error;
		else
			hear(mm, l, &a);
	}
	lose(mm, l);
	return -ENOTCONN;
}

/* The same for what is answered without descriptors. */
static int ask_plain(struct mm *mm, struct link *l, struct wire_msg *m)
{
	int got[WIRE_FDS_MAX];
	unsigned n = 0;
	int r = ask(mm, l, m, NULL, 0, got, &n);

	for (unsigned i = 0; r == 0 && i < n; i++)
		SYS1(close, got[i]);
	return r;
}

static int say_hello(struct mm *mm, struct link *l, uint32_t again)
{
	int got[WIRE_FDS_MAX];
	struct wire_msg m;
	unsigned n = 0;
	int r;

	wire_init(&m, WIRE_HELLO);
	m.flags = WIRE_FILES | again;
	r = ask(mm, l, &m, &l->uffd, 1, got, &n);
	for (unsigned i = 0; r == 0 && i < n; i++)
		SYS1(close, got[i]);
	l->cleaned = r == 0; /* it is yet to be asked for that: keep_robust() */
	if (r == 0)
		r = fork_watch(mm, l->sock, true);
	l->pending = r == 0;
	return r;
}

static int connect_first(struct mm *mm)
{
	struct link *l = sys_mem_alloc(sizeof(*l));
	long r;

	if (l == NULL)
		return -ENOMEM;
	l->sock = l->uffd = -1;
	r = uffd_open(mm->device >= 0 ? mm->device : -ENOENT);
	if (!sys_err(r)) {
		l->uffd = (int)r;
		r = stored_connect(mm->store);
	}
	if (!sys_err(r)) {
		l->sock = (int)r;
		r = say_hello(mm, l, 0);
		if (r == 0) {
			l->up = true;
			mm->share->link = l;
			return 0;
		}
		lose(mm, l);
	}
	if (l->uffd >= 0)
		SYS1(close, l->uffd);
	sys_mem_free(l, sizeof(*l));
	return (int)r;
}

static int connect_again(struct mm *mm, struct link *l);

/* The connection, which may be a new one. */
static int link_get(struct mm *mm)
{
	struct link *l = mm->share->link;

	if (l == NULL)
		return connect_first(mm);
	return l->sock >= 0 ? 0 : connect_again(mm, l);
}

/* ---- files ---- */

static void close_fds(struct share_file *f)
{
	if (f->memfd >= 0)
		SYS1(close, f->memfd);
	if (f->state_fd >= 0)
		SYS1(close, f->state_fd);
	if (f->marks_fd >= 0)
		SYS1(close, f->marks_fd);
	f->memfd = f->state_fd = f->marks_fd = -1;
}

static uint64_t ino_of(int fd)
{
	struct stat st;

	return sys_err(SYS2(fstat, fd, &st)) ? 0 : st.st_ino;
}

/* Have the server open a file, or (fd -1) hand out the descriptors of one that we have. */
static int fetch(struct mm *mm, struct share_file *f, int fd)
{
	int got[WIRE_FDS_MAX];
	struct wire_msg m;
	unsigned n = 0;
	int r;

	wire_init(&m, WIRE_FILE);
	m.flags = f->write ? WIRE_WRITE : 0;
	m.member = f->number;
	r = ask(mm, mm->share->link, &m, &fd, fd >= 0, got, &n);
	if (r != 0)
		return r;
	if (n != 3) {
		for (unsigned i = 0; i < n; i++)
			SYS1(close, got[i]);
		return -EPROTO;
	}
	f->number = m.member;
	if (fd >= 0)
		f->birth = m.slots;
	f->memfd = got[0];
	f->state_fd = got[1];
	f->marks_fd = got[2];
	f->memfd_ino = ino_of(f->memfd);
	f->shown = 0;
	stored_tell(mm);
	return 0;
}

bool share_tell(struct mm *mm)
{
	for (struct share_file *f = mm->share != NULL ? mm->share->files : NULL; f != NULL;
	     f = f->next)
		if (f->memfd >= 0 && !stored_say(mm, &f->users, &f->shown, &f->memfd, 1))
			return false;
	return true;
}

/* Whether a file is on the store's mount. */
static bool is_stored(const struct mm *mm, const struct stat *st)
{
	struct stat mnt;

	return !sys_err(SYS4(fstatat, AT_FDCWD, stored_mount(mm->store), &mnt, 0)) &&
	       mnt.st_dev == st->st_dev && S_ISREG(st->st_mode);
}

/* By what name it can be opened again. */
static void note_path(const struct mm *mm, struct share_file *f, int fd)
{
	char link[48];
	long n;

	log_format(link, sizeof(link), "thread-self/fd/%d", fd);
	n = SYS4(readlink, mm->proc_fd, link, f->path, sizeof(f->path));
	f->path[!sys_err(n) && n < (long)sizeof(f->path) ? n : 0] = '\0';
}

static bool is_held(const struct share_file *f);

/* Until when a file is to be taken that we have mapped, and open anew; 0: it is not. */
static uint64_t is_coming(const struct share *s, uint64_t ino, uint64_t since)
{
	for (const struct share_file *f = s->files; f != NULL; f = f->next)
		if (f->stranded && f->take_until != 0 && f->users.count != 0 && f->ino == ino)
			return since + (is_held(f) ? OPEN_HELD_NS : OPEN_NS);
	return 0;
}

/* Else, to open a file anew would make another page cache of it beside the one that is left. */
static bool is_to_be_taken(const struct mm *mm, const struct map_file *m)
{
	return mm->share->link->sock >= 0 &&
	       is_coming(mm->share, m->wait.ino, m->wait.since) > sys_now();
}

static long open_file(struct mm *mm, int fd, struct map_file *m, struct share_file **out)
{
	bool write = m->write;
	struct share *s = mm->share;
	struct share_file *f;
	struct stat st;
	long r = SYS2(fstat, fd, &st);

	if (sys_err(r))
		return r;
	/* another thread may have put another file there */
	if (!is_stored(mm, &st) ||
	    (m->id.tid != 0 && (m->id.dev != st.st_dev || m->id.ino != st.st_ino)))
		return SHARE_NOT;
	r = link_get(mm);
	if (r != 0) {
		if (s->refused || m->wait.caller != NULL)
			return SHARE_NOT;
		s->refused = true;
		mm_log(mm, FL_LOG_WARN,
		       "the store's server does not page mapped files (%s): this process pages by "
		       "itself what it maps",
		       log_strerror((int)r));
		return SHARE_NOT;
	}
	m->wait.ino = st.st_ino;
	if (is_to_be_taken(mm, m))
		return HOP_LATER;
	for (f = s->files; f != NULL; f = f->next)
		if (!f->stranded && f->dev == st.st_dev && f->ino == st.st_ino && f->write == write)
			break;
	if (f == NULL) {
		f = sys_mem_alloc(sizeof(*f));
		if (f == NULL)
			return -ENOMEM;
		f->write = write;
		f->dev = st.st_dev;
		f->ino = st.st_ino;
		f->memfd = f->state_fd = f->marks_fd = -1;
		note_path(mm, f, fd);
		r = fetch(mm, f, fd);
		if (r != 0) {
			sys_mem_free(f, sizeof(*f));
			return r;
		}
		f->next = s->files;
		s->files = f;
		stored_tell(mm);
	}
	*out = f;
	return 0;
}

uint32_t share_word(const struct region *r, uint64_t page)
{
	uint32_t word = 0;

	/* beyond the end of the words nothing was ever cached */
	if (SYS4(pread, file_of(r)->state_fd, &word, sizeof(word), page * sizeof(word)) !=
	    (long)sizeof(word))
		return 0;
	return word;
}

/* The first page of these of whose word `mask` is `want`. */
static vpn_t next_word(const struct region *r, vpn_t vpn, vpn_t stop, uint32_t mask, uint32_t want)
{
	const struct share_file *f = file_of(r);
	uint32_t word[WORDS_READ];

	for (uint64_t n; !f->stranded && vpn < stop; vpn += n) {
		n = stop - vpn < WORDS_READ ? stop - vpn : WORDS_READ;
		memset(word, 0, sizeof(word));
		SYS4(pread, f->state_fd, word, n * sizeof(word[0]),
		     (vpn + r->delta) * sizeof(word[0]));
		for (uint64_t i = 0; i < n; i++)
			if ((word[i] & mask) == want)
				return vpn + i;
	}
	return stop;
}

vpn_t share_next_absent(const struct region *r, vpn_t vpn, vpn_t stop)
{
	return next_word(r, vpn, stop, CACHE_UPTODATE | CACHE_LOCKED, 0);
}

vpn_t share_next_reading(const struct region *r, vpn_t vpn, vpn_t stop)
{
	return next_word(r, vpn, stop, CACHE_UPTODATE | CACHE_LOCKED, CACHE_LOCKED);
}

/* ---- mapping ---- */

static int say_range(struct mm *mm, const struct share_file *f, enum wire_type type,
		     uintptr_t start, uintptr_t end, uint32_t flags)
{
	struct wire_msg m;

	wire_init(&m, type);
	m.flags = flags;
	m.member = f->number;
	m.mm_addr = start;
	m.bytes = end - start;
	return ask_plain(mm, mm->share->link, &m);
}

static int tell_range(struct mm *mm, const struct share_file *f, enum wire_type type,
		      uintptr_t start, uintptr_t end, uint32_t flags)
{
	return f->stranded ? -ENOTCONN : say_range(mm, f, type, start, end, flags);
}

/* What the server is to know of a region beside where it is. */
static uint32_t map_flags(uint32_t rflags)
{
	return (rflags & REGION_LOCKED ? WIRE_LOCKED : 0) |
	       (rflags & REGION_SEQUENTIAL ? WIRE_IN_ORDER : 0) |
	       (rflags & REGION_RANDOM ? WIRE_NO_ORDER : 0);
}

/* What fl_region_set() said of it. */
static void add_wish(const struct mm *mm, const struct region *r, struct wire_msg *m)
{
	const struct traits *t = traits_of(mm, r);

	if (t == NULL)
		return;
	m->prio = (int32_t)t->priority;
	m->count = t->readahead;
}

/* That a part of a region is mapped; flags: map_flags(), or fewer. */
static int say_map(struct mm *mm, const struct region *r, uintptr_t start, uintptr_t end,
		   uint32_t flags)
{
	struct wire_msg m;

	wire_init(&m, WIRE_MAP);
	m.flags = flags;
	m.member = file_of(r)->number;
	m.mm_addr = start;
	m.bytes = end - start;
	m.slots = vpn_of(start) + r->delta;
	add_wish(mm, r, &m);
	return ask_plain(mm, mm->share->link, &m);
}

static long map_pages(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags,
		      struct share_file *f, uint64_t page, uint32_t rflags)
{
	const int kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_32BIT;
	uint64_t pages = page_up(len) >> PAGE_SHIFT;
	uintptr_t start, end;
	long err = 0;
	long r;

	if (page + pages > CACHE_PAGES_MAX)
		return -EOVERFLOW;
	if (!region_can_insert(&mm->regions))
		return -ENOMEM;
	if (f->memfd < 0)
		err = f->stranded ? -ENOTCONN : fetch(mm, f, -1);
	if (err != 0)
		return -ENOMEM;
	if (flags & MAP_FIXED)
		share_leave(mm, addr, addr + page_up(len));
	r = SYS6(mmap, addr, len, PROT_NONE, (f->write ? MAP_SHARED : MAP_PRIVATE) | (flags & kept),
		 f->memfd, page << PAGE_SHIFT);
	if (sys_err(r)) {
		if (flags & MAP_FIXED)
			share_return(mm, addr, addr + page_up(len));
		return r;
	}
	start = (uintptr_t)r;
	end = start + page_up(len);
	drop_entries(mm, start, end);
	err = region_insert_file(&mm->regions, start, end, prot, rflags, &f->users,
				 page - vpn_of(start));
	if (err == 0)
		err = uffd_register_shared(mm->share->link->uffd, start, end - start);
	if (err == 0) {
		SYS3(madvise, start, end - start, MADV_DONTFORK);
		SYS3(madvise, start, end - start, MADV_DONTDUMP);
		/* what a read from outside has put there before it was registered */
		SYS3(madvise, start, end - start, MADV_DONTNEED_LOCKED);
		/* from here on the server knows; only then can it be touched */
		err = f->stranded ? -ENOTCONN
				  : say_map(mm, region_find(&mm->regions, start), start, end,
					    map_flags(rflags));
	}
	if (err == 0 && prot != PROT_NONE)
		err = SYS3(mprotect, start, end - start, prot);
	if (err == 0)
		return r;
	share_leave(mm, start, end);
	do_forget(mm, start, end);
	SYS2(munmap, start, end - start);
	return err == -EACCES ? err : -ENOMEM;
}

/* The caller's descriptor; its table may not be the process's. */
static long fetch_fd(const struct mm *mm, const struct map_file *m)
{
	long pidfd = m->id.tid != 0 ? SYS2(pidfd_open, m->id.tid, PIDFD_THREAD) : -ENOSYS;
	long fd = sys_err(pidfd) && mm->pidfd < 0
			  ? -ENOSYS
			  : SYS3(pidfd_getfd, sys_err(pidfd) ? mm->pidfd : pidfd, m->fd, 0);

	if (!sys_err(pidfd))
		SYS1(close, pidfd);
	return fd;
}

/* The call is made again when there is something new; nothing but it waits. */
static void put_off(struct mm *mm, struct map_file *m, int fd, struct hop_slot *caller)
{
	m->wait.fd = fd;
	m->wait.caller = caller;
	m->wait.next = mm->share->waiting;
	mm->share->waiting = m;
	look_soon(mm->share);
}

long share_map(struct mm *mm, struct map_file *m, struct hop_slot *caller)
{
	uint32_t rflags = REGION_SHARED | REGION_REMOTE | (m->write ? 0 : REGION_NOWRITE);
	struct share_file *f = NULL;
	long fd, r;

	if (mm->share == NULL)
		mm->share = sys_mem_alloc(sizeof(*mm->share));
	if (mm->share == NULL)
		return -ENOMEM;
	/* once: its number may be another file's by now */
	fd = m->wait.caller != NULL ? m->wait.fd : fetch_fd(mm, m);
	if (sys_err(fd))
		return fd;
	if (m->wait.caller == NULL)
		m->wait.since = sys_now();
	r = open_file(mm, (int)fd, m, &f);
	if (r == HOP_LATER) {
		put_off(mm, m, (int)fd, caller);
		return r;
	}
	SYS1(close, fd);
	/* what it waited for is mapped: a page cache of our own would be another copy of that */
	if (r == SHARE_NOT && m->wait.caller != NULL)
		return -ENOTCONN;
	if (r != 0)
		return r;
	if (mm->lock_future)
		rflags |= REGION_LOCKED;
	if (m->noexec)
		rflags |= REGION_NOEXEC;
	if (m->flags & MAP_NORESERVE)
		rflags |= REGION_NORESERVE;
	return map_pages(mm, m->addr, m->len, m->prot, m->flags, f, m->pgoff, rflags);
}

long share_map_more(struct mm *mm, const struct region *r, uintptr_t addr, size_t len, int flags,
		    uint64_t page)
{
	return map_pages(mm, addr, len, r->prot, flags, file_of(r), page, r->flags);
}

/* The next remote region from `at` on that meets [at, end): its part of it. */
static const struct region *next_remote(struct mm *mm, uintptr_t at, uintptr_t end, uintptr_t *s,
					uintptr_t *e)
{
	const struct region *r;

	for (; at < end && (r = region_next(&mm->regions, at)) != NULL && r->start < end;
	     at = r->end) {
		if (!(r->flags & REGION_REMOTE))
			continue;
		*s = r->start > at ? r->start : at;
		*e = r->end < end ? r->end : end;
		return r;
	}
	return NULL;
}

bool share_has(struct mm *mm, uintptr_t start, uintptr_t end)
{
	uintptr_t s, e;

	return mm->share != NULL && next_remote(mm, start, end, &s, &e) != NULL;
}

void share_leave(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;
	uintptr_t s, e;

	if (mm->share == NULL)
		return;
	for (uintptr_t at = start; (r = next_remote(mm, at, end, &s, &e)) != NULL; at = e)
		if (!file_of(r)->stranded && tell_range(mm, file_of(r), WIRE_UNMAP, s, e, 0) != 0)
			lose(mm, mm->share->link);
}

void share_return(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;
	uintptr_t s, e;

	if (mm->share == NULL)
		return;
	for (uintptr_t at = start; (r = next_remote(mm, at, end, &s, &e)) != NULL; at = e) {
		if (file_of(r)->stranded)
			continue;
		if (say_map(mm, r, s, e, map_flags(r->flags)) != 0)
			lose(mm, mm->share->link);
		else
			/* it may have raised SIGBUS before a server took the file (tell_mappings()) */
			SYS3(madvise, s, e - s, MADV_DONTNEED_LOCKED);
	}
}

bool share_would(const struct mm *mm, int fd)
{
	struct stat st;

	return mm->store != NULL && !sys_err(SYS2(fstat, fd, &st)) && is_stored(mm, &st);
}

long share_advise(struct mm *mm, uintptr_t start, uintptr_t end, enum wire_advice what)
{
	const struct region *r;
	uintptr_t s, e;
	long err = 0;

	if (mm->share == NULL)
		return 0;
	for (uintptr_t at = start; (r = next_remote(mm, at, end, &s, &e)) != NULL; at = e) {
		int told = tell_range(mm, file_of(r), WIRE_ADVISE, s, e, what);

		/* without a server nothing leaves memory, and nothing comes */
		if (told == -ENOTCONN)
			told = what == WIRE_REMOVE ? -EIO : 0;
		if (err == 0)
			err = told;
	}
	return err;
}

long share_want(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;
	uintptr_t s, e;
	long err = 0;

	if (mm->share == NULL || mm->share->link == NULL)
		return 0;
	for (uintptr_t at = start; (r = next_remote(mm, at, end, &s, &e)) != NULL; at = e) {
		struct wire_msg m;
		int told;

		if (file_of(r)->stranded)
			continue;
		wire_init(&m, WIRE_ADVISE);
		m.flags = WIRE_WANT;
		m.mm_addr = s;
		m.bytes = e - s;
		add_wish(mm, r, &m);
		told = ask_plain(mm, mm->share->link, &m);
		/* the next server hears of it when it is told of the mapping */
		if (err == 0 && told != -ENOTCONN)
			err = told;
	}
	return err;
}

uint64_t share_bring(struct mm *mm, const struct region *r, vpn_t vpn, vpn_t stop)
{
	struct wire_msg m;

	if (file_of(r)->stranded)
		return 0;
	wire_init(&m, WIRE_ADVISE);
	m.flags = WIRE_WILLNEED;
	m.mm_addr = addr_of(vpn);
	m.bytes = addr_of(stop - vpn);
	return ask_plain(mm, mm->share->link, &m) == 0 ? m.slots : 0;
}

void share_madvise(struct mm *mm, uintptr_t start, uintptr_t end, int advice)
{
	static const struct {
		int advice;
		unsigned wire;
	} told[] = {
		{MADV_NORMAL, WIRE_NORMAL}, {MADV_SEQUENTIAL, WIRE_SEQUENTIAL},
		{MADV_RANDOM, WIRE_RANDOM}, {MADV_WILLNEED, WIRE_WILLNEED},
		{MADV_COLD, WIRE_COLD},	    {MADV_PAGEOUT, WIRE_PAGEOUT},
	};

	for (unsigned i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (told[i].advice == advice)
			share_advise(mm, start, end, told[i].wire);
}

long share_relock(struct mm *mm, uintptr_t start, uintptr_t end)
{
	const struct region *r;
	uintptr_t s, e;
	long err = 0;

	if (mm->share == NULL)
		return 0;
	for (uintptr_t at = start; (r = next_remote(mm, at, end, &s, &e)) != NULL; at = e) {
		long told =
			share_advise(mm, s, e, r->flags & REGION_LOCKED ? WIRE_LOCK : WIRE_UNLOCK);

		if (err == 0)
			err = told;
	}
	return err;
}

/*
 * The next range from `at` on in which all that the server pages may be stored to here: it goes
 * over what else is there.  What may only be read is for others to write.
 */
static bool next_span(struct mm *mm, struct sync_wait *wait, uintptr_t *start, uintptr_t *end)
{
	const struct region *r;
	uintptr_t s, e;

	*start = *end = 0;
	for (uintptr_t at = wait->ask.at; (r = next_remote(mm, at, wait->ask.end, &s, &e)) != NULL;
	     at = e) {
		if (!file_of(r)->write) {
			if (*end != 0)
				break;
			continue;
		}
		if (file_of(r)->stranded) {
			wait->err = -EIO;
			continue;
		}
		if (*end == 0)
			*start = s;
		*end = e;
	}
	wait->ask.at = *end;
	return *end != 0;
}

/* As many of those that wait as there is room for. */
static void ask_syncs(struct mm *mm, struct link *l)
{
	unsigned i = 0;

	while (l->waiting != NULL) {
		struct wire_msg m;
		uintptr_t start, end;

		while (i < SYNCS_MAX && l->sync[i].wait != NULL)
			i++;
		if (i == SYNCS_MAX)
			return;
		if (!next_span(mm, l->waiting, &start, &end)) {
			waiting_ends(l, 0);
			continue;
		}
		wire_init(&m, WIRE_SYNC);
		m.request = ++l->requests;
		m.mm_addr = start;
		m.bytes = end - start;
		l->sync[i].request = m.request;
		l->sync[i].wait = l->waiting;
		__atomic_fetch_add(&l->waiting->pending, 1, __ATOMIC_RELAXED);
		if (stored_send(l->sock, &m, NULL, 0) != 0)
			lose(mm, l);
	}
}

void share_sync(struct mm *mm, uintptr_t start, uintptr_t end, struct sync_wait *wait)
{
	struct sync_wait **last;
	struct link *l;

	if (!share_has(mm, start, end))
		return;
	l = mm->share->link;
	for (last = &l->waiting; *last != NULL; last = &(*last)->ask.next)
		;
	*last = wait;
	wait->ask.next = NULL;
	wait->ask.at = start;
	wait->ask.end = end;
	__atomic_fetch_add(&wait->pending, 1, __ATOMIC_RELAXED);
	ask_syncs(mm, l);
}

/* ---- in rounds ---- */

bool share_ready(struct mm *mm, int fd)
{
	struct link *l = mm->share != NULL ? mm->share->link : NULL;

	if (l == NULL || (fd != l->sock && fd != l->uffd))
		return false;
	if (fd == l->sock)
		l->pending = true;
	else
		l->faults = true;
	return true;
}

/*
 * No server pages the file meanwhile: it would hold the lock for writing (pagecache.h), which
 * goes with it.  So what the words say is so while a page is let in, and what is marked before
 * it is stored to is seen by a server that takes the file.  Who is stopped just here, or does so
 * on purpose, lets no server take it: the others' stay stranded.
 */
static bool lock_words(const struct share_file *f, short how)
{
	struct flock whole = {.l_type = how, .l_whence = SEEK_SET};

	return !sys_err(SYS3(fcntl, f->state_fd, F_OFD_SETLK, &whole));
}

/* A server has its words: ours, for others, or one before it that has not ended yet. */
static bool is_held(const struct share_file *f)
{
	struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return f->state_fd >= 0 && !sys_err(SYS3(fcntl, f->state_fd, F_OFD_GETLK, &whole)) &&
	       whole.l_type == F_WRLCK;
}

/* A page is about to be stored to without a server: false: that cannot be noted. */
static bool mark(struct share_file *f, uint64_t page)
{
	f->stored = true;
	return SYS4(pwrite, f->marks_fd, "\1", 1, page) == 1;
}

/* Let a page in that is there, with the lock; false: it is not, or cannot be. */
static bool let_in(const struct mm *mm, const struct region *r, uintptr_t addr, uint32_t what)
{
	struct share_file *f = file_of(r);
	uint64_t page = vpn_of(addr) + r->delta;
	bool write = what & (WIRE_STORES | WIRE_PROTECTED);
	int uffd = mm->share->link->uffd;
	enum uffd_result res;
	size_t done;
	uint32_t w;

	if (write && !mark(f, page))
		return false;
	if (what & WIRE_PROTECTED) {
		if (uffd_writeprotect(uffd, addr, PAGE_SIZE, false) != UFFD_OK)
			uffd_wake(uffd, addr, PAGE_SIZE);
		return true;
	}
	w = what & WIRE_MINOR ? share_word(r, page) : 0;
	if (!(w & CACHE_UPTODATE) || (w & (CACHE_LOCKED | CACHE_GONE)))
		return false;
	res = uffd_continue(uffd, addr, PAGE_SIZE, !write, &done);
	if (res == UFFD_EXIST && write)
		uffd_writeprotect(uffd, addr, PAGE_SIZE, false);
	if (res != UFFD_OK)
		uffd_wake(uffd, addr, PAGE_SIZE);
	return true;
}

/*
 * Whether others have its words by now.  When they let go of them after long, a server can have
 * it from then on only: for so long it waits.
 */
static void note_held(struct share_file *f, bool held, uint64_t now)
{
	if (held && f->held_since == 0)
		f->held_since = now;
	if (held)
		return;
	if (f->held_since != 0 && now - f->held_since >= CONNECT_NS && f->take_until != 0) {
		f->asked_since = now;
		f->take_until = now + TAKE_NS;
		f->ask_at = 0;
	}
	f->held_since = 0;
}

/* Whether a server pages the file, or may do so before long: then the fault waits. */
static bool is_to_wait(struct share *s, struct share_file *f, bool locked)
{
	/* one that has come and does not page it for us is waited for less long than one that ends */
	uint64_t most = s->link->up && f->take_until == 0 ? WAIT_NS : HELD_NS;
	uint64_t now = sys_now();

	note_held(f, !locked, now);
	if (locked ? now >= f->take_until : now - f->held_since > most)
		return false;
	f->held = true;
	look_soon(s);
	return true;
}

/* A fault that no server will answer. */
static void answer(struct mm *mm, uintptr_t addr, uint32_t what)
{
	const struct region *r = region_find(&mm->regions, addr);
	int uffd = mm->share->link->uffd;
	struct share_file *f;
	bool locked, done;

	if (r == NULL || !(r->flags & REGION_REMOTE) || !file_of(r)->stranded) {
		uffd_wake(uffd, addr, PAGE_SIZE);
		return;
	}
	f = file_of(r);
	/* a child that was forked while there was no server has nothing */
	locked = f->state_fd < 0 || lock_words(f, F_RDLCK);
	done = locked && f->state_fd >= 0 && let_in(mm, r, addr, what);
	if (locked && f->state_fd >= 0)
		lock_words(f, F_UNLCK);
	if (done || is_to_wait(mm->share, f, locked))
		return;
	if (!mm->share->said)
		mm_log(mm, FL_LOG_ERROR,
		       "a page of a mapped file is not in memory, and the store's server has gone "
		       "(SIGBUS)");
	mm->share->said = true;
	/* one that is there and may not be stored to: what is mapped is not poisoned */
	SYS3(madvise, addr, PAGE_SIZE, MADV_DONTNEED_LOCKED);
	uffd_writeprotect(uffd, addr, PAGE_SIZE, false);
	uffd_poison(uffd, addr, PAGE_SIZE);
	uffd_wake(uffd, addr, PAGE_SIZE);
}

static void serve_stranded(struct mm *mm, struct link *l)
{
	struct uffd_msg msgs[PAGER_MSGS];
	ssize_t n;

	while ((n = uffd_read(l->uffd, msgs, PAGER_MSGS)) > 0)
		for (ssize_t i = 0; i < n; i++) {
			uint64_t what = msgs[i].arg.pagefault.flags;

			if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
				continue;
			answer(mm, msgs[i].arg.pagefault.address & PAGE_MASK,
			       (what & UFFD_PAGEFAULT_FLAG_WRITE ? WIRE_STORES : 0) |
				       (what & UFFD_PAGEFAULT_FLAG_WP ? WIRE_PROTECTED : 0) |
				       (what & UFFD_PAGEFAULT_FLAG_MINOR ? WIRE_MINOR : 0));
		}
	l->faults = false;
}

static void receive_all(struct mm *mm, struct link *l)
{
	while (l->sock >= 0 && l->pending) {
		int fds[WIRE_FDS_MAX];
		struct wire_msg m;
		unsigned n;
		int r = stored_receive(l->sock, &m, fds, &n);

		if (r == -EAGAIN) {
			l->pending = false;
		} else if (r != 0) {
			lose(mm, l);
		} else {
			for (unsigned i = 0; i < n; i++)
				SYS1(close, fds[i]);
			if (m.type == WIRE_ERROR)
				lose(mm, l);
			else
				hear(mm, l, &m);
		}
	}
}

/* ---- robust mutexes ---- */

/*
 * Of a thread that ends the kernel marks the robust mutexes that it holds, and wakes who waits for
 * them; but in pages only that are there and may be stored to, for its faults are told nobody then.
 * So when the server has protected something we look at what our threads hold, and have these
 * pages let in again.  Who is killed before that, some 0.1 ms, leaves a mutex that nobody gets.
 */
struct holder {
	struct mm *mm;
	uintptr_t last; /* page */
};

static void keep_page(struct holder *h, uintptr_t addr)
{
	const struct region *r = region_find(&h->mm->regions, addr & PAGE_MASK);
	struct link *l = h->mm->share->link;
	struct wire_msg m;

	if (h->last == (addr & PAGE_MASK) || r == NULL || !(r->flags & REGION_REMOTE) ||
	    !file_of(r)->write || file_of(r)->stranded)
		return;
	h->last = addr & PAGE_MASK;
	wire_init(&m, WIRE_STORE);
	m.mm_addr = h->last;
	m.bytes = PAGE_SIZE;
	/* where that fails the end of the connection will be noticed */
	stored_send(l->sock, &m, NULL, 0);
}

static bool read_own(const struct mm *mm, uintptr_t addr, void *to, size_t n)
{
	return SYS4(pread, mm->mem_fd, to, n, addr) == (long)n;
}

static bool keep_held(uint32_t tid, void *arg)
{
	struct holder *h = arg;
	struct robust_list_head head;
	uintptr_t at = 0, entry, next;
	size_t len;

	if (sys_bare(SYS_get_robust_list, tid, (long)&at, (long)&len, 0, 0, 0) != 0 || at == 0 ||
	    !read_own(h->mm, at, &head, sizeof(head)))
		return true;
	entry = (uintptr_t)head.list.next;
	for (unsigned i = 0; i < HELD_MAX && (entry & ~PI_BIT) != at; i++) {
		entry &= ~PI_BIT;
		keep_page(h, entry + (uintptr_t)head.futex_offset);
		keep_page(h, entry);
		if (!read_own(h->mm, entry, &next, sizeof(next)))
			break;
		entry = next;
	}
	entry = (uintptr_t)head.list_op_pending & ~PI_BIT;
	if (entry != 0)
		keep_page(h, entry + (uintptr_t)head.futex_offset);
	return true;
}

static void keep_robust(struct mm *mm, struct link *l)
{
	struct holder h = {.mm = mm};
	struct wire_msg m;

	l->cleaned = false;
	/* first: what is protected while we look is told again */
	wire_init(&m, WIRE_STORE);
	if (stored_send(l->sock, &m, NULL, 0) == 0)
		proc_threads(mm->proc_fd, keep_held, &h);
}

/* ---- another server ---- */

/* The file, if that is what has the name by now; *dev: as who opens it will find it. */
static long open_again(const struct mm *mm, const struct share_file *f, uint64_t *dev)
{
	struct stat st;
	long fd, r;

	if (f->path[0] == '\0')
		return -ENAMETOOLONG;
	fd = SYS4(openat, AT_FDCWD, f->path,
		  (f->write ? O_RDWR : O_RDONLY) | O_CLOEXEC | WIRE_OPENS_AGAIN, 0);
	if (sys_err(fd))
		return fd;
	r = SYS2(fstat, fd, &st);
	if (!sys_err(r) && is_stored(mm, &st) && st.st_ino == f->ino) {
		*dev = st.st_dev;
		return fd;
	}
	SYS1(close, fd);
	return sys_err(r) ? r : -ESTALE;
}

static void close_there(const struct mm *mm, const struct share_file *f)
{
	struct wire_msg m;

	wire_init(&m, WIRE_CLOSE);
	m.member = f->number;
	/* where that fails the end of the connection will be noticed */
	stored_send(mm->share->link->sock, &m, NULL, 0);
}

/* Have the server page the memfd that we have mapped: 0 or -errno. */
static long take(struct mm *mm, struct share_file *f)
{
	int got[WIRE_FDS_MAX];
	int fds[4] = {-1, f->memfd, f->state_fd, f->marks_fd};
	struct wire_msg m;
	unsigned n = 0;
	uint64_t dev;
	long r = open_again(mm, f, &dev);

	if (sys_err(r))
		return r == -ETXTBSY ? -EAGAIN : r;
	fds[0] = (int)r;
	wire_init(&m, WIRE_TAKE);
	m.flags = f->write ? WIRE_WRITE : 0;
	m.slots = f->birth;
	m.mm_addr = f->memfd_ino;
	r = ask(mm, mm->share->link, &m, fds, f->memfd >= 0 ? 4 : 1, got, &n);
	for (unsigned i = 0; i < n; i++)
		SYS1(close, got[i]);
	SYS1(close, fds[0]);
	if (r != 0)
		return r;
	f->number = m.member;
	f->dev = dev;
	if (f->memfd < 0)
		r = fetch(mm, f, -1);
	if (r != 0 && mm->share->link->sock >= 0)
		close_there(mm, f);
	return r;
}

/*
 * Tell what is mapped of a file that was taken.  What raised SIGBUS does not any more; a part
 * that is about to be something else is told if it stays (share_return()).
 */
static int tell_mappings(struct mm *mm, const struct share_file *f)
{
	int err = 0;

	for (const struct region *r = f->users.first; err == 0 && r != NULL; r = r->user_next) {
		uint32_t flags = map_flags(r->flags);

		if (r->flags & REGION_HELD)
			continue;
		err = say_map(mm, r, r->start, r->end, flags);
		/* more is locked than fits its cache: the kernel's lock stays */
		if (err == -ENOMEM && (flags & WIRE_LOCKED))
			err = say_map(mm, r, r->start, r->end, flags & ~WIRE_LOCKED);
		SYS3(madvise, r->start, r->end - r->start, MADV_DONTNEED_LOCKED);
	}
	return err;
}

static bool return_file(struct mm *mm, struct share_file *f, bool last);

/*
 * For files that the server may take; on a connection that is up, or about to be.  One that
 * others are to bring is asked for as long as it is mapped, though what is touched waits for
 * TAKE_NS only: who brings it may be stopped meanwhile.  So is one that somebody executes, who
 * came before us.
 */
static void take_files(struct mm *mm)
{
	struct link *l = mm->share->link;

	for (struct share_file *f = mm->share->files; f != NULL && l->sock >= 0; f = f->next) {
		bool waited = f->take_until != 0;
		long r;

		if (!f->stranded || f->refused || f->users.count == 0)
			continue;
		if (sys_now() < f->ask_at) {
			look_by(mm->share, f->ask_at);
			continue;
		}
		r = take(mm, f);
		if (r == 0) {
			r = tell_mappings(mm, f);
			if (r != 0 && l->sock >= 0) {
				for (const struct region *q = f->users.first; q != NULL;
				     q = q->user_next)
					say_range(mm, f, WIRE_UNMAP, q->start, q->end, 0);
				if (l->sock >= 0)
					close_there(mm, f);
			}
		}
		if (l->sock < 0)
			return;
		if (r == 0) {
			f->stranded = f->stored = f->returned = f->told = false;
			mm->share->said = false;
			mm_log(mm, FL_LOG_INFO, "%s is paged by the store's server again", f->path);
		} else if (r == -EAGAIN) {
			bool held = is_held(f), waits;

			note_held(f, held, sys_now());
			waits = waited && (sys_now() < f->take_until || held);
			/* of who may only read, it goes over all words to say so */
			f->ask_at = sys_now() +
				    (waits && f->write ? pause_since(f->asked_since) : CONNECT_NS);
			look_by(mm->share, f->ask_at);
			if (waits || !waited)
				continue;
		} else {
			f->refused = true;
		}
		f->take_until = f->held_since = 0;
		f->held = false;
		if (l->up)
			wake_file(mm, f);
		if (f->stranded && l->up)
			f->waits = !return_file(mm, f, false);
	}
}

/* With the userfaultfd that everything is registered with. */
static int connect_again(struct mm *mm, struct link *l)
{
	struct wire_msg m;
	long r = stored_connect(mm->store);

	if (sys_err(r))
		return (int)r;
	l->sock = (int)r;
	r = say_hello(mm, l, WIRE_AGAIN);
	if (r != 0) {
		lose(mm, l);
		return (int)r;
	}
	for (struct share_file *f = mm->share->files; f != NULL; f = f->next) {
		f->asked_since = sys_now();
		f->take_until = f->asked_since + TAKE_NS;
		f->ask_at = 0;
	}
	take_files(mm);
	if (l->sock < 0)
		return -ENOTCONN;
	/* nobody reads faults until it does */
	fork_unwatch(mm, l->uffd);
	l->up = true;
	wire_init(&m, WIRE_GO);
	r = ask_plain(mm, l, &m);
	if (r != 0) {
		lose(mm, l);
		return (int)r;
	}
	for (const struct share_file *f = mm->share->files; f != NULL; f = f->next)
		wake_file(mm, f);
	stored_hurry(mm);
	return 0;
}

/* 0; 1: it is taken, or may be; -ENOTCONN: there is no server; else why it cannot be. */
static long give_back(struct mm *mm, const struct share_file *f)
{
	int got[WIRE_FDS_MAX];
	int fds[4] = {-1, f->memfd, f->state_fd, f->marks_fd};
	struct wire_msg m;
	uint64_t dev;
	unsigned n = 0;
	long r;

	if (link_get(mm) != 0)
		return -ENOTCONN;
	if (!f->stranded || (f->users.count != 0 && f->take_until != 0))
		return 1;
	r = open_again(mm, f, &dev);
	if (sys_err(r))
		return r;
	fds[0] = (int)r;
	wire_init(&m, WIRE_RETURN);
	m.slots = f->birth;
	r = ask(mm, mm->share->link, &m, fds, 4, got, &n);
	for (unsigned i = 0; i < n; i++)
		SYS1(close, got[i]);
	SYS1(close, fds[0]);
	return r;
}

/* What is stored from here on is a fault again. */
static bool protect(const struct mm *mm, const struct share_file *f)
{
	for (const struct region *r = f->users.first; r != NULL; r = r->user_next)
		if (uffd_writeprotect(mm->share->link->uffd, r->start, r->end - r->start, true) !=
		    UFFD_OK)
			return false;
	return true;
}

/* last: the process is about to have no such mappings any more.  False: it is to be tried again. */
static bool return_file(struct mm *mm, struct share_file *f, bool last)
{
	long r;

	/* what is to be taken is not returned */
	if (f->users.count != 0 && f->take_until != 0)
		return true;
	if (!f->stranded || !f->write || f->memfd < 0 || f->told || (f->returned && !f->stored))
		return true;
	r = protect(mm, f) ? give_back(mm, f) : -ENOMEM;
	if (r == 1 || (r == -ETXTBSY && f->users.count != 0))
		return true;
	if (r == 0) {
		f->returned = true;
		f->stored = false;
		mm_log(mm, FL_LOG_INFO,
		       "what was stored in %s without the store's server is in the file", f->path);
		return true;
	}
	if (r == -ENOTCONN && !last)
		return false;
	f->told = true;
	mm_log(mm, FL_LOG_ERROR,
	       "what was stored in %s without the store's server is not in the file: %s", f->path,
	       r == -EBUSY ? "it was changed since, by others" : log_strerror((int)r));
	return true;
}

static void return_files(struct mm *mm)
{
	for (struct share_file *f = mm->share->files; f != NULL; f = f->next)
		f->waits = !return_file(mm, f, false);
}

void share_come_back(struct mm *mm)
{
	struct link *l = mm->share != NULL ? mm->share->link : NULL;
	bool wanted = false;

	if (l == NULL)
		return;
	mm->share->connect_at = 0;
	/* what it had may be the one before this */
	l->pending |= l->sock >= 0;
	receive_all(mm, l);
	for (const struct share_file *f = mm->share->files; f != NULL; f = f->next)
		wanted |= f->stranded && (f->users.count != 0 || f->waits);
	if (wanted && link_get(mm) != 0)
		return;
	return_files(mm);
}

/* What waits for a server to take it, or for who has one. */
static void look(struct mm *mm)
{
	struct share *s = mm->share;
	uint64_t now = sys_now();

	s->look_at = 0;
	if (s->link->up) {
		take_files(mm);
	} else if (now >= s->connect_at) {
		uint64_t gap = pause_since(s->lost_at), late;
		bool up = link_get(mm) == 0;

		/*
		 * One that answers late is not to stop us again and again; and it is found before
		 * it has let go of what we have mapped (peer.c).
		 */
		late = 10 * (sys_now() - now);
		s->connect_at = sys_now() + gap + (late < LATE_NS ? late : LATE_NS);
		if (up)
			return_files(mm);
	}
	for (struct share_file *f = s->files; f != NULL; f = f->next) {
		/* whether or not somebody waits: what it is comes from the next server */
		if (!s->link->up && f->stranded && (f->users.count != 0 || f->waits) &&
		    s->look_at == 0)
			s->look_at = s->connect_at;
		/* what a server that lost us read before it noticed is nobody's */
		if (!f->held && (s->link->up || !f->stranded))
			continue;
		f->held = false;
		wake_file(mm, f);
	}
}

/* Files that nothing maps any more. */
static void sweep(struct mm *mm, bool last)
{
	struct share *s = mm->share;

	for (struct share_file **link = &s->files; *link != NULL;) {
		struct share_file *f = *link;

		if (f->users.count == 0 && (last || !f->waits)) {
			f->waits = !return_file(mm, f, last);
			if (f->waits)
				look_soon(s);
		}
		if (f->users.count != 0 || f->waits) {
			link = &f->next;
			continue;
		}
		if (!f->stranded && s->link->sock >= 0)
			close_there(mm, f);
		close_fds(f);
		*link = f->next;
		stored_forget(mm, &f->users);
		sys_mem_free(f, sizeof(*f));
	}
}

uint64_t share_patience(const struct mm *mm)
{
	uint64_t now;

	if (mm->share == NULL || mm->share->look_at == 0)
		return UINT64_MAX;
	now = sys_now();
	return mm->share->look_at > now ? mm->share->look_at - now : 1;
}

void share_round(struct pager *p)
{
	struct mm *mm = p->mm;
	struct share *s = mm->share;
	struct link *l = s->link;

	if (l == NULL)
		return;
	if (l->pending)
		receive_all(mm, l);
	if (l->cleaned && l->up)
		keep_robust(mm, l);
	if (l->faults && !l->up)
		serve_stranded(mm, l);
	if (s->look_at != 0 && sys_now() >= s->look_at)
		look(mm);
	sweep(mm, false);
}

/* A call that waits no more (all: or that does), which is taken off the list; NULL: there is none. */
static struct map_file *next_ready(struct mm *mm, bool all)
{
	for (struct map_file **link = &mm->share->waiting; *link != NULL;
	     link = &(*link)->wait.next) {
		struct map_file *m = *link;

		if (all || !is_to_be_taken(mm, m)) {
			*link = m->wait.next;
			return m;
		}
	}
	return NULL;
}

void share_calls(struct pager *p)
{
	struct mm *mm = p->mm;
	struct map_file *m;

	if (mm->share == NULL)
		return;
	/* each may let others go on, and they may do some */
	while ((m = next_ready(mm, false)) != NULL)
		hop_again(p, m->wait.caller);
	if (mm->share->waiting != NULL)
		look_soon(mm->share);
}

void share_close(struct mm *mm)
{
	struct share *s = mm->share;
	const struct region *r;
	uintptr_t start, end;
	struct map_file *m;

	if (s == NULL)
		return;
	while ((m = next_ready(mm, true)) != NULL) {
		SYS1(close, m->wait.fd);
		hop_late(mm, m->wait.caller, -ENOMEM);
	}
	while ((r = next_remote(mm, 0, addr_of(VPN_MAX), &start, &end)) != NULL)
		if (sys_err(do_munmap(mm, start, end - start)))
			log_fatal("no memory to forget a mapping");
	sweep(mm, true);
	if (s->link != NULL) {
		if (s->link->sock >= 0)
			SYS1(close, s->link->sock);
		SYS1(close, s->link->uffd);
		sys_mem_free(s->link, sizeof(*s->link));
	}
	sys_mem_free(s, sizeof(*s));
	mm->share = NULL;
}

/* ---- fork ---- */

int share_fork(struct mm *mm)
{
	int got[WIRE_FDS_MAX];
	struct wire_msg m;
	struct link *l;
	unsigned n = 0;

	if (mm->share == NULL || mm->share->files == NULL)
		return -1;
	l = mm->share->link;
	wire_init(&m, WIRE_FORK);
	if (!l->up || ask(mm, l, &m, NULL, 0, got, &n) != 0)
		return -1;
	for (unsigned i = 1; i < n; i++)
		SYS1(close, got[i]);
	return n != 0 ? got[0] : -1;
}

int share_forked(struct mm *mm, int sock)
{
	struct share *s = mm->share;
	struct link *l = s != NULL ? s->link : NULL;
	long r;

	/* their threads are the parent's */
	if (s != NULL)
		s->waiting = NULL;
	if (l == NULL) {
		if (sock >= 0)
			SYS1(close, sock);
		return 0;
	}
	/* descriptors are the parent's numbers */
	for (struct share_file *f = s->files; f != NULL; f = f->next) {
		f->memfd = f->state_fd = f->marks_fd = -1;
		/* what the parent was about to have taken is for us to ask for, too */
		f->refused &= sock >= 0;
		f->asked_since = sys_now();
		f->take_until =
			f->stranded && !f->refused && sock >= 0 ? f->asked_since + TAKE_NS : 0;
		f->ask_at = 0;
		f->held_since = 0;
		f->held = f->waits = false;
	}
	s->look_at = s->connect_at = 0;
	/* whether or not it is touched before long */
	for (const struct share_file *f = s->files; f != NULL; f = f->next)
		if ((f->stranded || sock < 0) && f->users.count != 0)
			look_soon(s);
	r = uffd_open(mm->device >= 0 ? mm->device : -ENOENT);
	if (sys_err(r))
		return (int)r;
	for (unsigned i = 0; i < SYNCS_MAX; i++)
		l->sync[i].wait = NULL;
	l->waiting = NULL;
	l->uffd = (int)r;
	l->sock = sock;
	l->faults = true;
	l->up = l->pending = false;
	if (sock >= 0 && say_hello(mm, l, 0) == 0) {
		l->up = true;
		return 0;
	}
	lose(mm, l);
	for (struct share_file *f = s->files; f != NULL; f = f->next)
		f->stranded = true;
	return fork_watch(mm, l->uffd, false);
}

int share_adopt(struct mm *mm, const struct region *r)
{
	int err = uffd_register_shared(mm->share->link->uffd, r->start, r->end - r->start);

	return err != 0 ? err : (int)SYS3(madvise, r->start, r->end - r->start, MADV_DONTFORK);
}

void share_adopted(struct mm *mm)
{
	for (struct share_file *f = mm->share != NULL ? mm->share->files : NULL; f != NULL;
	     f = f->next)
		if (!f->stranded && fetch(mm, f, -1) != 0)
			lose(mm, mm->share->link);
}
