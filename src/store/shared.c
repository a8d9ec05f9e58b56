/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shared.c - one page cache for all clients; see shared.h.
 *
 * The server's side of a runtime (lib/) that has one pager and no areas.  Whatever
 * touches its page cache is a function that run() or hop_run() has the pager call;
 * workers and attach.c's threads wait for that, and then do what needs no cache.
 *
 * Invariants.
 * - A file of which anything is cached is in the table, from before its first page until
 *   after its last (note(), forget()).  A file that is not there is the host's alone.
 * - `mm`, `mount_dev` and `started` are constant once shared_start() has returned.
 * - all_returned has each file to which a memfd's stores were given back (RETURN), once:
 *   with that memfd, the only one that is still taken, and the file's time of change.
 *
 * Locks: table_lock guards the table, and the changes beside the cache; it is not held during
 * a hop.  `ncached` is atomic, so that nobody takes the lock while nothing is cached.
 * returned_lock guards the list all_returned; what it has of a file is for whichever thread of
 * attach.c has that file's message, and nreturned and the static buffers are for the one that
 * has a RETURN, of which there is one at a time.
 */
#include "shared.h"

#include "aside.h"
#include "filedata.h"
#include "do.h"
#include "mm.h"
#include "pager.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 1024U
#define PAGES_AT_ONCE 256U /* of shared_bytes() */

/* --- files that may be cached --- */

struct cached {
	struct cached *next;
	uint64_t dev, ino;
	uint64_t mapped;  /* how often it was opened for a mapping */
	unsigned opening; /* of these, not opened yet: it is not forgotten */
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cached *table[BUCKETS];
static unsigned ncached; /* atomic */

static struct mm *mm; /* NULL: clients page by themselves */
static dev_t mount_dev;
static struct timespec started;

static struct cached **slot_of(uint64_t dev, uint64_t ino)
{
	struct cached **at = &table[(ino ^ dev * 31) % BUCKETS];

	while (*at != NULL && ((*at)->ino != ino || (*at)->dev != dev))
		at = &(*at)->next;
	return at;
}

/* It is about to be opened for a mapping, until noted_open(): 0 or -ENOMEM. */
static int note(uint64_t dev, uint64_t ino)
{
	struct cached **at, *c = calloc(1, sizeof(*c));
	int r = 0;

	pthread_mutex_lock(&table_lock);
	at = slot_of(dev, ino);
	if (*at == NULL && c != NULL) {
		c->dev = dev;
		c->ino = ino;
		*at = c;
		c = NULL;
		__atomic_fetch_add(&ncached, 1, __ATOMIC_SEQ_CST);
	}
	if (*at != NULL) {
		(*at)->mapped++;
		(*at)->opening++;
	} else {
		r = -ENOMEM;
	}
	pthread_mutex_unlock(&table_lock);
	free(c);
	return r;
}

static void noted_open(uint64_t dev, uint64_t ino)
{
	pthread_mutex_lock(&table_lock);
	(*slot_of(dev, ino))->opening--;
	pthread_mutex_unlock(&table_lock);
}

/* How often it was opened for mappings; 0: nothing of it is cached. */
static uint64_t noted(uint64_t dev, uint64_t ino)
{
	struct cached *c;
	uint64_t n;

	if (__atomic_load_n(&ncached, __ATOMIC_SEQ_CST) == 0)
		return 0;
	pthread_mutex_lock(&table_lock);
	c = *slot_of(dev, ino);
	n = c != NULL ? c->mapped : 0;
	pthread_mutex_unlock(&table_lock);
	return n;
}

/* Nothing of it was cached, and that it was not opened since. */
static void forget(uint64_t dev, uint64_t ino, uint64_t mapped)
{
	struct cached **at, *c;

	pthread_mutex_lock(&table_lock);
	at = slot_of(dev, ino);
	c = *at;
	if (c != NULL && c->mapped == mapped && c->opening == 0) {
		*at = c->next;
		__atomic_fetch_sub(&ncached, 1, __ATOMIC_SEQ_CST);
	} else {
		c = NULL;
	}
	pthread_mutex_unlock(&table_lock);
	free(c);
}

/* Have it done on the pager, if the file may be cached: -ENOENT when it is not. */
static long run(long (*fn)(struct pager *p, void *arg), struct filedata *d)
{
	uint64_t mapped = noted(d->dev, d->ino);
	long r;

	if (mapped == 0)
		return -ENOENT;
	r = hop_run(mm, fn, d);
	if (r == -ENOENT)
		forget(d->dev, d->ino, mapped);
	return r;
}

bool shared_maybe(const struct node *n)
{
	return noted(n->dev, n->ino) != 0;
}

/* --- changes beside the cache --- */

/*
 * A change of a file goes to the backing, past the pager, if nothing of it was cached when the
 * change was noted here.  Whoever opens the file first for a mapping looks for such changes when
 * it is open, and before anything of it can be touched: the pager is to hold its pages back
 * until they have ended (filedata.h).  So either the one sees that the file is cached, or the
 * other sees the change.
 */
static struct beside *besides;
static pthread_cond_t beside_told = PTHREAD_COND_INITIALIZER; /* with table_lock */

void shared_beside(struct beside *b, const struct node *n)
{
	*b = (struct beside){.dev = n->dev, .ino = n->ino};
	if (mm == NULL)
		return;
	pthread_mutex_lock(&table_lock);
	b->next = besides;
	b->link = &besides;
	if (besides != NULL)
		besides->link = &b->next;
	besides = b;
	pthread_mutex_unlock(&table_lock);
}

void shared_beside_end(struct beside *b, char *buf, size_t size, uint64_t off)
{
	struct filedata d = {.dev = b->dev,
			     .ino = b->ino,
			     .fd = -1,
			     .off = off,
			     .size = size,
			     .buf = buf,
			     .whole = &b->past};

	if (b->link == NULL)
		return;
	pthread_mutex_lock(&table_lock);
	while (b->seen && !b->told)
		pthread_cond_wait(&beside_told, &table_lock);
	*b->link = b->next;
	if (b->next != NULL)
		b->next->link = b->link;
	pthread_mutex_unlock(&table_lock);
	if (b->held)
		hop_run(mm, filedata_let_go, &d);
}

static struct beside *unseen(uint64_t dev, uint64_t ino)
{
	struct beside *b = besides;

	while (b != NULL && (b->seen || b->dev != dev || b->ino != ino))
		b = b->next;
	return b;
}

/* The file is open for a mapping, of which the client has not heard yet. */
static void hold_besides(const struct stat *st)
{
	struct beside *b;

	pthread_mutex_lock(&table_lock);
	while ((b = unseen(st->st_dev, st->st_ino)) != NULL) {
		struct filedata d = {.dev = b->dev, .ino = b->ino, .fd = -1, .whole = &b->past};
		bool held;

		b->seen = true;
		pthread_mutex_unlock(&table_lock);
		held = hop_run(mm, filedata_hold, &d) == 0;
		pthread_mutex_lock(&table_lock);
		b->held = held;
		b->told = true;
		pthread_cond_broadcast(&beside_told);
	}
	pthread_mutex_unlock(&table_lock);
}

/* --- the runtime --- */

/* Called on the pager, which has none of the C library behind it. */
static void say(void *arg, enum fl_log_level level, const char *line)
{
	char text[LOG_LINE_MAX + 16];
	size_t n = log_format(text, sizeof(text), "faultline: %s\n", line);

	(void)arg;
	(void)level;
	sys_bare(SYS_write, STDERR_FILENO, (long)text, (long)n, 0, 0, 0);
}

static bool is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

#define WHOLE_S 2 /* no filesystem has coarser times */

/*
 * From here on nothing changes a file whose time of change would lie before
 * `started`: those times are the clock's of the last tick, or, where the kernel
 * had to tell two changes apart, finer and later than that.  Where files' times are whole
 * seconds, or every other one, as that of the directory that they are in, it is the next one:
 * what the server before us wrote a moment ago is before it.
 */
static void mark_start(void)
{
	const struct timespec tick = {.tv_nsec = 1000000};
	struct timespec now;
	unsigned most = 100;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &started);
	if (fstat(server.store->files_fd, &st) == 0 && st.st_ctim.tv_nsec == 0) {
		started = (struct timespec){(started.tv_sec / WHOLE_S + 1) * WHOLE_S, 0};
		most += WHOLE_S * 1000;
	}
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	/* not for ever: somebody may set the clock back */
	for (unsigned ms = 0; ms < most && is_before(&now, &started); ms++) {
		nanosleep(&tick, NULL);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	}
}

/* A page cache's memfds are as long as what they can tell of, and hold little of that. */
bool shared_possible(char *why, size_t size)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_FSIZE, &lim) != 0 || lim.rlim_max >= CACHE_REACH)
		return true;
	snprintf(
		why, size,
		"programs page mapped files by themselves: files may have %llu MiB (RLIMIT_FSIZE), "
		"and more than %llu GiB are needed",
		(unsigned long long)lim.rlim_max >> 20, (unsigned long long)CACHE_REACH >> 30);
	return false;
}

void shared_start(void)
{
	struct fl_options o = {
		.size = sizeof(o),
		.limit = server.options.cache,
		.dirty_expire = server.options.dirty_expire,
		.dirty_background = server.options.dirty_background,
		.log_level = FL_LOG_WARN,
		.log = say,
	};
	char why[LOG_LINE_MAX], line[LOG_LINE_MAX + 64];
	int err;

	err = mounts_device(server.mnt, &mount_dev);
	if (!shared_possible(line, sizeof(line))) {
		server_say(line);
		return;
	}
	mark_start();
	snprintf(why, sizeof(why), "the mount cannot be looked at: %s", strerror(-err));
	if (err == 0)
		err = mm_open(&mm, &o, MM_SERVER, why, sizeof(why));
	if (err == 0) {
		lock_take(&mm->lock);
		err = pager_start(mm, why, sizeof(why));
		lock_drop(&mm->lock);
	}
	if (err == 0)
		return;
	mm = NULL;
	snprintf(line, sizeof(line), "programs page mapped files by themselves: %s", why);
	server_say(line);
}

#define IMPATIENT_NS 2000000000ULL /* for all that is dirty to be written, */
#define PATIENT_NS 10000000000ULL  /* or for the next write to end, */
#define SLOW_PAGE_NS 250000U	   /* and, besides, so much for each page: 16 MiB a second */

static struct sync_wait write_wait; /* the pager may get to it late */

static long write_all(struct pager *p, void *arg)
{
	return peers_write_all(p->mm, arg);
}

/* Before the first client goes: what it has locked is known until then. */
static long begin_end(struct pager *p, void *arg)
{
	(void)arg;
	p->mm->files.closing = true;
	return 0;
}

void shared_flush(bool patient)
{
	const uint64_t most = patient ? PATIENT_NS : IMPATIENT_NS;
	uint64_t since = sys_now(), until;
	uint32_t pending, ended = 0;
	struct shared_counts c;

	if (mm == NULL)
		return;
	/* who stores and syncs without a pause does not keep us: what is left is for the end */
	shared_count(&c);
	until = since + PATIENT_NS + c.dirty * SLOW_PAGE_NS;
	if (hop_run(mm, write_all, &write_wait) != 0)
		write_wait.pending = 0;
	/* Acquire: pairs with the release of who ends it. */
	while ((pending = __atomic_load_n(&write_wait.pending, __ATOMIC_ACQUIRE)) != 0 &&
	       sys_now() - since < most && sys_now() < until) {
		uint32_t event = __atomic_load_n(&mm->files.event, __ATOMIC_ACQUIRE);

		if (patient && event != ended)
			since = sys_now();
		ended = event;
		futex_wait(&write_wait.pending, pending, IMPATIENT_NS / 10);
	}
	hop_run(mm, begin_end, NULL);
}

static long close_all(struct pager *p, void *arg)
{
	(void)arg;
	files_close(p);
	return 0;
}

void shared_stop(void)
{
	if (mm != NULL)
		hop_run(mm, close_all, NULL);
}

void shared_count(struct shared_counts *c)
{
	struct fl_stats s;

	memset(c, 0, sizeof(*c));
	if (mm == NULL)
		return;
	mm_stats(mm, &s);
	*c = (struct shared_counts){
		.limit = s.limit,
		.pages = s.cache_pages,
		.dirty = s.cache_dirty,
		.errors = s.file_errors,
		.minor = s.file_minor,
		.major = s.file_major,
		.read = s.file_read_pages,
		.written = s.file_write_pages,
	};
}

/* --- clients --- */

/* What attach.c's threads hand to the pager. */
struct order {
	struct peer *peer, *child;
	const struct wire_msg *m;
	uid_t from; /* whose descriptors are beside it */
	int fd, sock;
	bool write, again;
	int out[3];
	/* TAKE */
	const struct returned *returned;
	struct stat memfd;
	struct cache_before before;
};

static long do_hello(struct pager *p, void *arg)
{
	struct order *o = arg;

	return peer_start(p->mm, o->fd, o->sock, o->again, &o->peer);
}

static long do_come(struct pager *p, void *arg)
{
	struct order *o = arg;

	(void)p;
	return peer_come(o->peer, o->fd);
}

static long do_end(struct pager *p, void *arg)
{
	struct order *o = arg;

	(void)p;
	peer_end(o->peer);
	return 0;
}

/* The file's number; its descriptors in out. */
static long do_open(struct pager *p, void *arg)
{
	struct order *o = arg;
	long file = o->fd >= 0 ? peer_open(o->peer, o->fd, o->write) : (long)o->m->member;
	int err;

	(void)p;
	if (sys_err(file))
		return file;
	err = peer_descriptors(o->peer, (uint32_t)file, o->out);
	if (err != 0 && o->fd >= 0)
		peer_close(o->peer, (uint32_t)file);
	return err != 0 ? err : file;
}

static long do_rest(struct pager *p, void *arg)
{
	struct order *o = arg;
	const struct wire_msg *m = o->m;

	switch ((enum wire_type)m->type) {
	case WIRE_MAP:
		return peer_map(o->peer, m);
	case WIRE_ADVISE:
		return peer_advise(p, o->peer, m);
	case WIRE_UNMAP:
		return peer_unmap(o->peer, m->mm_addr, m->bytes);
	case WIRE_SYNC:
		return peer_sync(o->peer, m->mm_addr, m->bytes, m->request);
	case WIRE_FORK:
		return peer_fork(o->peer, o->sock, &o->child);
	case WIRE_GO:
		return peer_go(o->peer);
	case WIRE_STORE:
		return peer_store(p, o->peer, m->mm_addr, m->bytes);
	case WIRE_CLOSE:
		peer_close(o->peer, m->member);
		return 0;
	default:
		return -EPROTO;
	}
}

int shared_hello(struct peer **peer, int uffd, int sock, bool again)
{
	struct order o = {.peer = *peer, .fd = uffd, .again = again};
	int err;

	if (mm == NULL)
		return -ENOSYS;
	if (*peer != NULL)
		return (int)hop_run(mm, do_come, &o);
	o.sock = fcntl(sock, F_DUPFD_CLOEXEC, 3);
	if (o.sock < 0)
		return -errno;
	err = (int)hop_run(mm, do_hello, &o);
	if (err != 0)
		close(o.sock);
	else
		*peer = o.peer;
	return err;
}

void shared_end(struct peer *peer)
{
	struct order o = {.peer = peer};

	hop_run(mm, do_end, &o);
}

/*
 * The host's file of a descriptor of the mount, O_PATH: without a request to
 * ourselves, which would wait for a worker that may wait for the pager.
 */
static int host_file(int fd, bool write, struct node **n)
{
	struct statx st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_PATH) != 0)
		return -EBADF;
	if ((flags & O_ACCMODE) != O_RDWR && (write || (flags & O_ACCMODE) != O_RDONLY))
		return -EACCES;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO | STATX_TYPE, &st) != 0)
		return -errno;
	if ((dev_t)makedev(st.stx_dev_major, st.stx_dev_minor) != mount_dev ||
	    !S_ISREG(st.stx_mode))
		return -EXDEV;
	return node_open_path(server.files->dev, st.stx_ino, n);
}

uint64_t shared_number(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) != 0 ||
	    (dev_t)makedev(st.stx_dev_major, st.stx_dev_minor) != mount_dev)
		return 0;
	return st.stx_ino;
}

/* When it was made: another file may get its number. */
static uint64_t birth_of(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BTIME, &st) != 0 ||
	    (st.stx_mask & STATX_BTIME) == 0)
		return 0;
	return (uint64_t)st.stx_btime.tv_sec * 1000000000U + st.stx_btime.tv_nsec;
}

static int take_file(struct order *o, struct wire_msg *m, const int *fds, unsigned nfds,
		     unsigned *nout)
{
	struct node *n = NULL;
	struct stat st;
	bool marked = false;
	long r = 0;

	o->write = (m->flags & WIRE_WRITE) != 0;
	if (nfds == 1)
		r = o->fd = host_file(fds[0], o->write, &n);
	if (r >= 0 && nfds == 1) {
		/* known before anything is cached */
		r = fstat(o->fd, &st) == 0 ? note(st.st_dev, st.st_ino) : -errno;
		marked = r == 0;
	}
	if (r >= 0)
		r = hop_run(mm, do_open, o);
	if (marked) {
		if (r >= 0)
			hold_besides(&st);
		noted_open(st.st_dev, st.st_ino);
	}
	/* what the kernel has cached from before; from now on it asks */
	if (r >= 0 && n != NULL)
		server_forget_data((fuse_ino_t)(uintptr_t)n);
	m->slots = o->fd >= 0 ? birth_of(o->fd) : 0;
	if (o->fd >= 0)
		close(o->fd);
	m->member = r >= 0 ? (uint32_t)r : 0;
	*nout = r < 0 ? 0 : 3;
	return r < 0 ? (int)r : 0;
}

/* A connection for a child that is about to be forked: its end is given to the parent. */
static int take_fork(struct order *o, unsigned *nout, int *child_sock)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -errno;
	o->sock = fcntl(pair[0], F_DUPFD_CLOEXEC, 3);
	err = o->sock >= 0 ? (int)hop_run(mm, do_rest, o) : -errno;
	if (err != 0) {
		if (o->sock >= 0)
			close(o->sock);
		close(pair[0]);
		close(pair[1]);
		return err;
	}
	*child_sock = pair[0];
	o->out[0] = pair[1];
	*nout = 1;
	return 0;
}

/* --- requests --- */

static struct filedata data_of(const struct node *n)
{
	return (struct filedata){.dev = n->dev, .ino = n->ino, .fd = -1};
}

/* The next part of the range from `at` on that was not cached: its length; 0: none. */
static size_t next_part(const struct filedata *d, uint64_t *at)
{
	uint64_t end = d->off + d->size, stop;

	while (*at < end && d->have[*at / 4096 - d->off / 4096])
		*at = (*at / 4096 + 1) * 4096;
	for (stop = *at; stop < end && !d->have[stop / 4096 - d->off / 4096];)
		stop = (stop / 4096 + 1) * 4096;
	if (stop > end)
		stop = end;
	return *at < stop ? stop - *at : 0;
}

/* What was not cached is the backing's. */
static int fill_in(const struct filedata *d, int fd)
{
	uint64_t at = d->off;
	size_t n;

	while ((n = next_part(d, &at)) != 0) {
		ssize_t done = pread(fd, d->buf + (at - d->off), n, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		/* cut meanwhile */
		if (done == 0)
			memset(d->buf + (at - d->off), 0, n);
		at += done == 0 ? n : (size_t)done;
	}
	return 0;
}

/* A part of n bytes at most of what is to be written to the backing: 0 or -errno. */
static long write_part(struct filedata *d, size_t n)
{
	ssize_t done;

	do
		done = pwrite(d->fd, d->buf + d->done, n, (off_t)(d->off + d->done));
	while (done < 0 && errno == EINTR);
	if (done <= 0)
		return done < 0 ? -errno : -EIO;
	d->done += (uint64_t)done;
	return 0;
}

/*
 * As write(2) does: from the first byte to the last, d->done says how far.  0, or -errno of the
 * first byte; -ENOENT: nothing is cached.
 */
static long write_through(struct filedata *d)
{
	long r = run(filedata_write, d);

	while (r == 0 && d->done < d->stop) {
		r = write_part(d, d->stop - d->done);
		if (r != 0)
			hop_run(mm, filedata_give_up, d);
		else if (d->done == d->stop)
			r = hop_run(mm, filedata_write, d);
	}
	return d->done != 0 ? 0 : r;
}

static uint64_t failures(void)
{
	return mm != NULL ? __atomic_load_n(&mm->files.failures, __ATOMIC_RELAXED) : 0;
}

/* Until it is written, and durable where that was asked for. */
static void await_sync(struct sync_wait *wait)
{
	uint32_t pending;

	/* Acquire: what was written; pairs with the release of who ends it. */
	while ((pending = __atomic_load_n(&wait->pending, __ATOMIC_ACQUIRE)) != 0)
		futex_wait(&wait->pending, pending, 0);
}

/* Write what is cached of a file, and wait for it; -ENOENT: nothing is. */
static int sync_cached(struct filedata *d)
{
	struct sync_wait wait = {.err = 0};
	long r;

	d->wait = &wait;
	r = run(filedata_sync, d);
	/* nothing is cached any more: what could not be written is to be told still */
	if (r == -ENOENT && failures() != 0)
		r = hop_run(mm, filedata_sync, d);
	if (r != 0)
		return (int)r;
	await_sync(&wait);
	/* its wake follows its store, and `wait` is ours: the pager is done when it does this */
	d->wait = NULL;
	run(filedata_dirty, d);
	return wait.err;
}

/* --- what was stored while there was no server --- */

/*
 * A server that was killed leaves pages that were not written yet in memfds of
 * which its clients have copies, with their words; the client that comes first brings
 * these.  We go on with that memfd (TAKE, pagecache.h), or else what was stored there is
 * written to the file (RETURN).  Only one memfd of a file is taken, as often as it is brought,
 * and only while nobody else changed the file.
 */
struct returned {
	struct returned *next;
	uint64_t dev, ino;
	struct stat memfd;
	struct timespec changed; /* st_ctim afterwards */
};

static pthread_mutex_t returned_lock = PTHREAD_MUTEX_INITIALIZER;
static struct returned *all_returned; /* under the lock; each is of who serves that file's client */
static unsigned nreturned;

#define RETURN_PAGES 64U
#define RETURNED_MAX 65536U
#define RETURN_DIRTY (CACHE_DIRTY | CACHE_WRITEBACK | CACHE_RECENT)

/* Some filesystems have times of whole seconds. */
static bool was_before(const struct timespec *changed)
{
	return changed->tv_nsec != 0 ? is_before(changed, &started)
				     : changed->tv_sec < started.tv_sec;
}

/* Memory of the kernel's: what is read there cannot keep us. */
static bool is_memfd(int fd)
{
	struct statfs fs;

	return fcntl(fd, F_GET_SEALS) >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* What is noted of a file that something was returned of; NULL: nothing was. */
static struct returned *find_returned(const struct stat *st)
{
	struct returned *r;

	pthread_mutex_lock(&returned_lock);
	r = all_returned;
	while (r != NULL && (r->dev != st->st_dev || r->ino != st->st_ino))
		r = r->next;
	pthread_mutex_unlock(&returned_lock);
	return r;
}

/* Whether nobody but who has that memfd changed the file since we began. */
static bool is_unchanged(const struct returned *r, const struct stat *st, const struct stat *memfd)
{
	if (r == NULL)
		return was_before(&st->st_ctim);
	return r->memfd.st_dev == memfd->st_dev && r->memfd.st_ino == memfd->st_ino &&
	       memcmp(&r->changed, &st->st_ctim, sizeof(r->changed)) == 0;
}

/* Whether what that memfd has is newer than the file; then *out is where that is noted. */
static int may_return(const struct stat *st, const struct stat *memfd, struct returned **out)
{
	struct returned *r = find_returned(st);

	if (!is_unchanged(r, st, memfd))
		return -EBUSY;
	if (r == NULL) {
		r = nreturned < RETURNED_MAX ? calloc(1, sizeof(*r)) : NULL;
		if (r == NULL)
			return -ENOMEM;
		nreturned++;
		r->dev = st->st_dev;
		r->ino = st->st_ino;
		r->memfd = *memfd;
		r->changed = st->st_ctim;
		pthread_mutex_lock(&returned_lock);
		r->next = all_returned;
		all_returned = r;
		pthread_mutex_unlock(&returned_lock);
	}
	*out = r;
	return 0;
}

/* Through the page cache, if somebody has it mapped by now. */
static int put_back(const struct stat *st, int fd, char *buf, size_t size, uint64_t off)
{
	struct filedata d = {.dev = st->st_dev,
			     .ino = st->st_ino,
			     .fd = fd,
			     .off = off,
			     .size = size,
			     .buf = buf};
	long r = write_through(&d);

	if (r == -ENOENT)
		r = 0;
	else if (r == 0 && d.done != size)
		r = -EIO;
	while (r == 0 && d.done < size)
		r = write_part(&d, size - d.done);
	return (int)r;
}

/* Pages [page, page + n) of the memfd, as far as the file goes and has other bytes. */
static int return_run(const struct stat *st, int fd, int memfd, uint64_t page, unsigned n)
{
	static char stored[RETURN_PAGES * 4096], was[RETURN_PAGES * 4096];
	uint64_t off = page * 4096;
	size_t size = n * 4096UL;
	ssize_t have;

	if (off >= (uint64_t)st->st_size)
		return 0;
	if (size > (uint64_t)st->st_size - off)
		size = (uint64_t)st->st_size - off;
	if (pread(memfd, stored, size, (off_t)off) != (ssize_t)size)
		return -EIO;
	have = pread(fd, was, size, (off_t)off);
	if (have == (ssize_t)size && memcmp(stored, was, size) == 0)
		return 0;
	return put_back(st, fd, stored, size, off);
}

/* Whether a page was stored to and is there: a hole would read as zeros. */
static bool is_stored_to(int memfd, uint64_t page, uint32_t word, char marked)
{
	if (!(word & CACHE_UPTODATE) || (word & (CACHE_LOCKED | CACHE_GONE)) ||
	    ((word & RETURN_DIRTY) == 0 && marked == 0))
		return false;
	return lseek(memfd, (off_t)(page * 4096), SEEK_DATA) == (off_t)(page * 4096);
}

static int return_all(const struct stat *st, int fd, int memfd, int state_fd, int marks_fd)
{
	enum { STEP = 4096 };
	static uint32_t word[STEP];
	static char mark[STEP];
	uint64_t pages = ((uint64_t)st->st_size + 4095) / 4096;
	int err = 0;

	for (uint64_t page = 0; err == 0 && page < pages; page += STEP) {
		/* what is not there costs nothing, whatever length it is said to have */
		off_t data = lseek(memfd, (off_t)(page * 4096), SEEK_DATA);
		unsigned run_of = 0;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		page = (uint64_t)data / 4096 / STEP * STEP;
		/* what is not there was never cached, or not stored to */
		memset(word, 0, sizeof(word));
		memset(mark, 0, sizeof(mark));
		if (pread(state_fd, word, sizeof(word), (off_t)(page * sizeof(word[0]))) < 0 ||
		    pread(marks_fd, mark, sizeof(mark), (off_t)page) < 0)
			return -EIO;
		for (unsigned i = 0; err == 0 && i <= STEP; i++) {
			bool is = i < STEP && is_stored_to(memfd, page + i, word[i], mark[i]);

			if (run_of != 0 && (!is || run_of == RETURN_PAGES)) {
				err = return_run(st, fd, memfd, page + i - run_of, run_of);
				run_of = 0;
			}
			run_of += is;
		}
	}
	return err;
}

/* The file as all have it: what is stored in a mapping shows in its times when it is written. */
static int look_at(int fd, struct stat *st)
{
	uint64_t heard = failures();
	struct filedata d = {.dev = st->st_dev, .ino = st->st_ino, .fd = -1, .heard = &heard};
	int err = sync_cached(&d);

	if (err != 0 && err != -ENOENT)
		return err;
	return fstat(fd, st) == 0 ? 0 : -errno;
}

static long do_has(struct pager *p, void *arg)
{
	const struct order *o = arg;
	struct stat st;

	return fstat(o->fd, &st) == 0 &&
	       cache_has(p->mm, st.st_dev, st.st_ino, o->before.memfd_ino);
}

static int take_return(struct order *o, const struct wire_msg *m, const int *fds)
{
	char path[32], line[WIRE_NAME_MAX];
	struct returned *noted = NULL;
	struct stat st, memfd = {.st_ino = 0};
	struct node *n = NULL;
	int fd = host_file(fds[0], true, &n), rw, err;

	/* a server that is killed with a file of its own mount waits for itself */
	aside_close(fds[0], o->from);
	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rw = open(path, O_RDWR | O_CLOEXEC);
	err = rw < 0 || fstat(rw, &st) != 0 ? -errno : 0;
	if (err == 0 && (!is_memfd(fds[1]) || !is_memfd(fds[2]) || !is_memfd(fds[3])))
		err = -EBADF;
	if (err == 0 && fstat(fds[1], &memfd) != 0)
		err = -errno;
	if (err == 0 && (m->slots == 0 || birth_of(rw) != m->slots))
		err = -ESTALE;
	/* what others have given us to page is newer than what is read of it here */
	o->fd = rw;
	o->before.memfd_ino = memfd.st_ino;
	if (err == 0 && hop_run(mm, do_has, o) != 0) {
		close(rw);
		close(fd);
		return 0;
	}
	if (err == 0)
		err = look_at(rw, &st);
	if (err == 0)
		err = may_return(&st, &memfd, &noted);
	if (err == -EBUSY) {
		snprintf(line, sizeof(line),
			 "a file (inode %lu) was changed, or given back by another program, since "
			 "this server began: what a program had stored there before is not taken",
			 (unsigned long)st.st_ino);
		say(NULL, FL_LOG_WARN, line);
	}
	if (err == 0) {
		err = return_all(&st, rw, fds[1], fds[2], fds[3]);
		if (err == 0)
			err = look_at(rw, &st);
		if (err == 0 && fsync(rw) != 0)
			err = -errno;
		if (fstat(rw, &st) == 0)
			noted->changed = st.st_ctim;
		/* the kernel may have cached what it was */
		server_forget_data((fuse_ino_t)(uintptr_t)n);
	}
	if (rw >= 0)
		close(rw);
	close(fd);
	return err;
}

/* On the pager: a change by others from here on is one of a file that is cached. */
static long do_take(struct pager *p, void *arg)
{
	struct order *o = arg;
	struct stat st;

	(void)p;
	if (fstat(o->fd, &st) != 0)
		return -errno;
	o->before.unchanged = is_unchanged(o->returned, &st, &o->memfd);
	return peer_take(o->peer, o->fd, o->write, &o->before);
}

/* A file whose memfds a server before us has left: they are ours, and the file's number is told. */
static int take_over(struct order *o, struct wire_msg *m, const int *fds, unsigned nfds)
{
	struct node *n = NULL;
	struct stat st;
	long r;

	o->write = (m->flags & WIRE_WRITE) != 0;
	r = o->fd = host_file(fds[0], o->write, &n);
	/* a server that is killed with a file of its own mount waits for itself */
	aside_close(fds[0], o->from);
	if (r < 0)
		return (int)r;
	o->memfd.st_ino = m->mm_addr;
	r = fstat(o->fd, &st) == 0 ? 0 : -errno;
	for (unsigned i = 1; r == 0 && i < nfds; i++)
		r = is_memfd(fds[i]) ? 0 : -EBADF;
	if (r == 0 && nfds > 1 && fstat(fds[1], &o->memfd) != 0)
		r = -errno;
	if (r == 0 && (m->slots == 0 || birth_of(o->fd) != m->slots))
		r = -ESTALE;
	if (r == 0)
		r = note(st.st_dev, st.st_ino);
	if (r == 0) {
		o->returned = find_returned(&st);
		o->before.memfd_ino = o->memfd.st_ino;
		o->before.memfd = nfds == 1 ? -1 : fds[1];
		o->before.state_fd = nfds == 1 ? -1 : fds[2];
		o->before.marks_fd = nfds == 1 ? -1 : fds[3];
		r = hop_run(mm, do_take, o);
		if (r >= 0)
			hold_besides(&st);
		noted_open(st.st_dev, st.st_ino);
		server_forget_data((fuse_ino_t)(uintptr_t)n);
	}
	close(o->fd);
	m->member = r >= 0 ? (uint32_t)r : 0;
	return r < 0 ? (int)r : 0;
}

int shared_take(struct peer *peer, struct wire_msg *m, const int *fds, unsigned nfds, uid_t from,
		int out[3], unsigned *nout, struct peer **child, int *child_sock)
{
	struct order o = {.peer = peer, .m = m, .from = from, .fd = -1, .sock = -1};
	uint32_t request = m->request, type = m->type;
	uint64_t slots = 0;
	long done;
	int err;

	*nout = 0;
	*child = NULL;
	if (type == WIRE_RETURN) {
		err = take_return(&o, m, fds);
	} else if (type == WIRE_TAKE) {
		err = take_over(&o, m, fds, nfds);
	} else if (type == WIRE_FILE) {
		err = take_file(&o, m, fds, nfds, nout);
		slots = err == 0 ? m->slots : 0;
	} else if (type == WIRE_FORK) {
		err = take_fork(&o, nout, child_sock);
	} else {
		done = hop_run(mm, do_rest, &o);
		err = done < 0 ? (int)done : 0;
		slots = done > 0 ? (uint64_t)done : 0;
	}
	*child = o.child;
	for (unsigned i = type == WIRE_RETURN || type == WIRE_TAKE; i < nfds; i++)
		aside_close(fds[i], from);
	for (unsigned i = 0; i < *nout; i++)
		out[i] = o.out[i];
	/* a range that is none: what it says cannot be relied on */
	if (err == -EPROTO)
		return err;
	if (type == WIRE_CLOSE || type == WIRE_STORE || (type == WIRE_SYNC && err == 0))
		return 0;
	nfds = m->member;
	wire_init(m, WIRE_ANSWER);
	m->request = request;
	m->error = err;
	m->member = type == WIRE_FILE || type == WIRE_TAKE ? nfds : 0;
	m->slots = slots;
	return 1;
}

/* --- clients' memory, shown --- */

int shared_host(int fd)
{
	char path[32];
	struct node *n = NULL;
	int err, host = mount_dev != 0 ? host_file(fd, false, &n) : -ENODEV;

	if (host < 0)
		return host;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", host);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	err = -errno;
	close(host);
	return fd >= 0 ? fd : err;
}

int shared_bytes(int fd, bool stored, uint64_t page, unsigned n, char *buf)
{
	bool have[PAGES_AT_ONCE] = {false};
	struct filedata d = {
		.fd = -1, .off = page * 4096, .size = n * 4096UL, .buf = buf, .have = have};
	struct stat st;
	size_t whole;
	int r = n <= PAGES_AT_ONCE ? 0 : -EINVAL;

	if (r == 0)
		r = fstat(fd, &st) == 0 ? 0 : -errno;
	if (r != 0)
		return r;
	d.dev = st.st_dev;
	d.ino = st.st_ino;
	r = stored ? (int)run(filedata_read, &d) : -ENOENT;
	if (r == -ENOENT) {
		/* what may be later than the look at what is cached */
		r = fstat(fd, &st) == 0 ? 0 : -errno;
		if (r == 0 && d.off >= (uint64_t)st.st_size)
			d.size = 0;
		else if (r == 0 && d.size > (uint64_t)st.st_size - d.off)
			d.size = (uint64_t)st.st_size - d.off;
	}
	if (r == 0)
		r = fill_in(&d, fd);
	if (r != 0)
		return r;
	whole = (d.size + 4095) / 4096 * 4096;
	memset(buf + d.size, 0, whole - d.size);
	return (int)(whole / 4096);
}

/* A file by its memfd: a descriptor of ours. */
static long do_find(struct pager *p, void *arg)
{
	const struct stat *memfd = arg;
	const struct pagecache *pc = p->mm->files.first;
	struct stat st;

	while (pc != NULL && pc->memfd_ino != memfd->st_ino)
		pc = pc->next;
	/* another filesystem may have a file of that number */
	if (pc == NULL || sys_err(SYS2(fstat, pc->memfd, &st)) || st.st_dev != memfd->st_dev)
		return -EIO;
	return SYS3(fcntl, pc->fd, F_DUPFD_CLOEXEC, 3);
}

int shared_bytes_of(const struct stat *memfd, uint64_t page, unsigned n, char *buf)
{
	struct stat st = *memfd;
	int fd, r;

	if (mm == NULL)
		return -EIO;
	fd = (int)hop_run(mm, do_find, &st);
	if (fd < 0)
		return fd;
	r = shared_bytes(fd, true, page, n, buf);
	close(fd);
	return r;
}

/* --- requests, answered --- */

bool shared_read(fuse_req_t req, const struct node *n, int fd, size_t size, off_t off)
{
	struct filedata d = data_of(n);
	long r;

	if (!shared_maybe(n))
		return false;
	d.off = (uint64_t)off;
	d.size = size;
	d.buf = malloc(size + 1);
	d.have = calloc(size / 4096 + 2, sizeof(bool));
	r = d.buf != NULL && d.have != NULL ? run(filedata_read, &d) : -ENOMEM;
	if (r == 0)
		r = fill_in(&d, fd);
	if (r == 0) {
		tally_add(&tally.read_bytes, d.size);
		fuse_reply_buf(req, d.buf, d.size);
	} else if (r != -ENOENT) {
		ops_error(req, TALLY_read, (int)-r);
	}
	free(d.buf);
	free(d.have);
	return r != -ENOENT;
}

bool shared_write(fuse_req_t req, const struct node *n, int fd, char *buf, size_t size, off_t off,
		  bool append, uint64_t *sync)
{
	struct filedata d = data_of(n);
	long r;

	if (!shared_maybe(n))
		return false;
	d.off = (uint64_t)off;
	d.size = size;
	d.buf = buf;
	d.fd = fd;
	d.append = append;
	r = write_through(&d);
	if (r == -ENOENT)
		return false;
	if (r == 0 && sync != NULL)
		r = shared_sync(n, sync);
	if (r == -ENOENT) /* it is the backing's, whose descriptor sees to that */
		r = 0;
	if (r != 0) {
		ops_error(req, TALLY_write, (int)-r);
		return true;
	}
	tally_add(&tally.written_bytes, d.done);
	fuse_reply_write(req, d.done);
	return true;
}

void shared_look(const struct node *n)
{
	struct filedata d = data_of(n);

	run(filedata_dirty, &d);
}

bool shared_is_cached(const struct node *n)
{
	struct filedata d = data_of(n);

	return run(filedata_dirty, &d) != -ENOENT;
}

void shared_clean(const struct node *n)
{
	struct sync_wait wait = {.err = 0};
	struct filedata d = data_of(n);

	d.wait = &wait;
	if (run(filedata_clean, &d) == 0)
		await_sync(&wait);
}

bool shared_fallocate(fuse_req_t req, const struct node *n, int fd, int mode, off_t off, off_t len)
{
	struct filedata d = data_of(n);
	long r;

	d.fd = fd;
	d.mode = mode;
	d.off = (uint64_t)off;
	d.size = (uint64_t)len;
	r = run(filedata_allocate, &d);
	if (r == -ENOENT)
		return false;
	if (r != 0)
		ops_error(req, TALLY_fallocate, (int)-r);
	else
		fuse_reply_err(req, 0);
	return true;
}

int shared_truncate(const struct node *n, int fd, off_t size)
{
	struct filedata d = data_of(n);

	d.fd = fd;
	d.size = (uint64_t)size;
	return (int)run(filedata_cut, &d);
}

bool shared_is_stored_to(const struct node *n)
{
	struct filedata d = data_of(n);

	return run(filedata_stored_to, &d) == 1;
}

int shared_sync(const struct node *n, uint64_t *heard)
{
	struct filedata d = data_of(n);

	d.heard = heard;
	return sync_cached(&d);
}

uint64_t shared_heard(const struct node *n, int fd)
{
	struct filedata d = data_of(n);
	uint64_t heard = failures();

	if (heard == 0)
		return 0;
	d.fd = fd;
	d.heard = &heard;
	hop_run(mm, filedata_opened, &d);
	return heard;
}

double shared_attr(dev_t dev, ino_t ino, struct stat *st)
{
	struct filedata d = {.dev = dev, .ino = ino};
	long r = noted(dev, ino) != 0 ? run(filedata_dirty, &d) : -ENOENT;

	/* one that is about to be mapped is asked for again */
	if (r == -ENOENT)
		return noted(dev, ino) != 0 ? 0 : ATTR_SECONDS;
	if (r == 1)
		clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	return 0;
}
