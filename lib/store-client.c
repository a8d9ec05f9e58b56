/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-client.c - attaching to a store, and listening to its server; see store-client.h.
 *
 * The socket is found through the mount once; later it is gone to directly, so
 * that a server that hangs keeps no pager waiting in a lookup.  What the server
 * asks for is done in a full round of a pager, in the order in which it came;
 * its socket is watched for edges, since while a swapoff lets faults be
 * answered (pager_pump) nothing more is read from it.
 *
 * A message that is not understood ends the connection, as a hang-up does.
 */
#include "store-client.h"

#include "do.h"
#include "fork.h"
#include "grant.h"
#include "hop.h"
#include "mm.h"
#include "pager.h"
#include "share.h"
#include "store-wire.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define PATH_ROOM 512U
/*
 * How long a server is waited for at the start: for its areas, if others hold them, and until it is
 * said that it is slow; and, as long as it lives, for its answer.
 */
#define PATIENCE_NS 3000000000U
#define LIVES_NS 60000000000U
#define PAUSE_NS 20000000U
#define TELL_NS 10000000U /* until what its socket had no room for is told again */

struct store {
	int fd; /* -1: not attached */
	bool via_mount;
	bool attached;	     /* the server said so */
	bool said;	     /* that it has gone */
	bool pending;	     /* messages may wait */
	bool refused;	     /* ERROR came; */
	int error;	     /* this */
	uint32_t generation; /* of the connection */
	bool looks;	     /* the server wants to be told of mapped files; */
	bool untold;	     /* there may be one that it was not told of, */
	bool stale;	     /* or one that has gone: it is to forget all */
	uint32_t telling;    /* what they were told with, never 0 */
	uint64_t next;	     /* when to try again */
	char mnt[PATH_ROOM];
	char path[PATH_ROOM]; /* of the socket; empty: not looked up yet */
	char why[WIRE_NAME_MAX];
};

struct store *stored_new(const char *mnt, bool via_mount)
{
	struct store *s = sys_mem_alloc(sizeof(*s));

	if (s == NULL)
		return NULL;
	s->fd = -1;
	s->via_mount = via_mount;
	log_format(s->mnt, sizeof(s->mnt), "%s", mnt);
	return s;
}

void stored_free(struct store *s)
{
	sys_mem_free(s, sizeof(*s));
}

/* ---- the socket ---- */

/* Where the mount says that the server listens. */
static int find_socket(const char *mnt, char path[PATH_ROOM])
{
	long dir = SYS4(openat, AT_FDCWD, mnt, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	long n;

	if (sys_err(dir))
		return (int)dir;
	n = SYS4(readlink, dir, "socket", path, PATH_ROOM - 1);
	SYS1(close, dir);
	/* a directory without one is no store's mount */
	if (sys_err(n))
		return n == -EINVAL ? -ENOENT : (int)n;
	path[n] = '\0';
	return n == PATH_ROOM - 1 ? -ENAMETOOLONG : 0;
}

/* A descriptor, or -errno; a path that is too long for an address is shortened by /proc. */
static int connect_to(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const char *slash = strrchr(path, '/');
	char dir[PATH_ROOM];
	long fd, dir_fd = -1, r;

	if (strlen(path) < sizeof(at.sun_path)) {
		log_format(at.sun_path, sizeof(at.sun_path), "%s", path);
	} else {
		if (slash == NULL || (size_t)(slash - path) >= sizeof(dir))
			return -ENAMETOOLONG;
		memcpy(dir, path, (size_t)(slash - path));
		dir[slash - path] = '\0';
		dir_fd = SYS4(openat, AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
		if (sys_err(dir_fd))
			return (int)dir_fd;
		log_format(at.sun_path, sizeof(at.sun_path), "/proc/thread-self/fd/%d%s",
			   (int)dir_fd, slash);
	}
	fd = SYS3(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = sys_err(fd) ? fd : SYS3(connect, fd, &at, sizeof(at));
	if (dir_fd >= 0)
		SYS1(close, dir_fd);
	if (sys_err(r)) {
		if (!sys_err(fd))
			SYS1(close, fd);
		return (int)r;
	}
	return (int)fd;
}

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
};

int stored_send(int fd, const struct wire_msg *m, const int *fds, unsigned nfds)
{
	struct wire_msg wire = *m;
	struct iovec iov = {&wire, sizeof(wire)};
	union control control;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	long r;

	wire_convert(&wire);
	if (nfds != 0) {
		memset(&control, 0, sizeof(control));
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(&control.head), fds, nfds * sizeof(int));
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
	}
	r = SYS3(sendmsg, fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	return r == (long)sizeof(wire) ? 0 : sys_err(r) ? (int)r : -EIO;
}

static void close_fds(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		SYS1(close, fds[i]);
}

/* 0 and a message; -EAGAIN: none waits; else the connection is of no use any more. */
int stored_receive(int fd, struct wire_msg *m, int *fds, unsigned *nfds)
{
	char buf[sizeof(*m) + 1];
	struct iovec iov = {buf, sizeof(buf)};
	union control control;
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = CMSG_LEN(WIRE_FDS_MAX * sizeof(int))};
	long n = SYS3(recvmsg, fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int r;

	*nfds = 0;
	if (sys_err(n))
		return n == -EINTR ? -EAGAIN : (int)n;
	if (n == 0)
		return -ECONNRESET;
	if (h.msg_controllen >= CMSG_LEN(sizeof(int)) && control.head.cmsg_level == SOL_SOCKET &&
	    control.head.cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(&control.head), *nfds * sizeof(int));
	}
	/* no room in the descriptor table: what came of them is lost */
	r = (h.msg_flags & MSG_CTRUNC) ? -EMFILE : wire_parse(buf, (size_t)n, *nfds, false, m);
	if (r != 0) {
		close_fds(fds, *nfds);
		*nfds = 0;
	}
	return r;
}

int stored_await(int fd, uint64_t deadline)
{
	for (;;) {
		uint64_t now = sys_now();
		struct timespec left = {.tv_sec = 0};
		struct pollfd p = {.fd = fd, .events = POLLIN};
		long r;

		if (now >= deadline)
			return -ETIMEDOUT;
		left.tv_sec = (time_t)((deadline - now) / 1000000000U);
		left.tv_nsec = (long)((deadline - now) % 1000000000U);
		r = SYS5(poll, &p, 1, &left, 0, 8);
		if (r > 0)
			return 0;
		if (sys_err(r) && r != -EINTR)
			return (int)r;
	}
}

const char *stored_mount(const struct store *s)
{
	return s->mnt;
}

int stored_connect(struct store *s)
{
	int r = s->path[0] == '\0' ? find_socket(s->mnt, s->path) : 0;

	return r != 0 ? r : connect_to(s->path);
}

/* From now on; mm NULL: nobody is to be told. */
struct patience {
	struct mm *mm;
	uint64_t soon, late;
	bool said;
};

static struct patience patience_of(struct mm *mm)
{
	uint64_t now = sys_now();

	return (struct patience){.mm = mm, .soon = now + PATIENCE_NS, .late = now + LIVES_NS};
}

/* A server that lives has not answered by now. */
static void is_slow(struct patience *t)
{
	if (!t->said && t->mm != NULL)
		mm_log(t->mm, FL_LOG_WARN, "store %s: its server is slow to answer: waiting for it",
		       t->mm->store->mnt);
	t->said = true;
}

/* The end of a server ends its connections: one that is silent lives. */
static int await_living(int fd, struct patience *t)
{
	int r = t->said ? -ETIMEDOUT : stored_await(fd, t->soon);

	if (r != -ETIMEDOUT)
		return r;
	is_slow(t);
	return stored_await(fd, t->late);
}

/*
 * Whether to try again where that is so.  refused: by its word, since others have its areas;
 * else so many wait for it that there is no room for one more.
 */
static bool try_again(int err, bool refused, struct patience *t)
{
	uint64_t now = sys_now();
	uint32_t word = 0;

	if ((err != -EAGAIN && err != -EBUSY) || now >= (refused ? t->soon : t->late))
		return false;
	if (now >= t->soon)
		is_slow(t);
	futex_wait(&word, 0, PAUSE_NS);
	return true;
}

static const char *unreachable(int err)
{
	switch (err) {
	case -ENOENT:
		return "no store is mounted there";
	case -ECONNREFUSED:
	case -ENOTCONN:
	case -ECONNRESET:
		return "its server does not answer";
	case -ETIMEDOUT:
		return "its server does not answer in time";
	case -EACCES:
		return "permission denied: its directory and socket are not open to this user";
	case -EPROTONOSUPPORT:
		return "its server is of another version of faultline";
	default:
		return log_strerror(err);
	}
}

/* As functions of the library return it. */
static int known_error(int err)
{
	return err == -ECONNREFUSED || err == -ECONNRESET || err == -ETIMEDOUT || err == -EPIPE ||
			       err == -EPROTONOSUPPORT
		       ? -ENOTCONN
		       : err;
}

/* ---- areas ---- */

/* An area that we have from the store under that name; -1: none. */
static int find_stored(const struct mm *mm, const char *name)
{
	for (unsigned i = 0; i < mm->swap.narea; i++)
		if (mm->swap.area[i] != NULL && mm->swap.area[i]->stored &&
		    strcmp(mm->swap.area[i]->path, name) == 0)
			return (int)i;
	return -1;
}

static int open_through_mount(const struct store *s, const char *name)
{
	char path[PATH_ROOM + WIRE_NAME_MAX];

	log_format(path, sizeof(path), "%s/swap/%s", s->mnt, name);
	return (int)SYS4(openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_DIRECT, 0);
}

static void take_area(struct mm *mm, const struct wire_msg *m, int *fds, unsigned nfds)
{
	struct store *s = mm->store;
	struct swap_given g = {.name = m->name, .prio = m->prio, .slots = m->slots, .io_fd = -1};
	unsigned index;
	int map_fd = fds[nfds - 1];
	int r = 0;

	/* one that we have: as we were when it was handed out, or another of that name */
	if (find_stored(mm, m->name) >= 0 || s->via_mount != (nfds == 1)) {
		close_fds(fds, nfds);
		return;
	}
	g.via_mount = s->via_mount;
	g.shared_fd = s->via_mount ? open_through_mount(s, m->name) : fds[0];
	if (nfds == 3)
		g.io_fd = fds[1];
	if (g.shared_fd < 0)
		r = g.shared_fd;
	if (r == 0)
		r = slot_map_accept(&g.map, map_fd, m->member, (uint32_t)m->slots);
	if (r == 0) {
		r = swap_take(&mm->swap, &g, &index);
		if (r == 0) {
			mm->swap_full = false;
			mm_log(mm, FL_LOG_INFO, "store %s: area %s, %llu slots", s->mnt, m->name,
			       (unsigned long long)m->slots - 1);
			return;
		}
		slot_map_close(g.map);
		map_fd = -1;
	}
	mm_log(mm, FL_LOG_WARN, "store %s: area %s cannot be used: %s", s->mnt, m->name,
	       log_strerror(r));
	if (map_fd >= 0)
		SYS1(close, map_fd);
	if (g.io_fd >= 0)
		SYS1(close, g.io_fd);
	if (g.shared_fd >= 0)
		SYS1(close, g.shared_fd);
}

/* ---- attaching ---- */

static void own_name(const struct mm *mm, char *name, size_t size)
{
	long fd = SYS4(openat, mm->proc_fd, "self/comm", O_RDONLY | O_CLOEXEC, 0);
	long n = sys_err(fd) ? 0 : SYS3(read, fd, name, size - 1);

	if (!sys_err(fd))
		SYS1(close, fd);
	name[n > 0 ? n : 0] = '\0';
	if (n > 0 && name[n - 1] == '\n')
		name[n - 1] = '\0';
}

/* Connect and say what we are and have; the answer comes as messages. */
static int begin(struct mm *mm)
{
	struct store *s = mm->store;
	const int own[3] = {mm->mem_fd, mm->maps_fd, mm->pagemap_fd};
	struct wire_msg m;
	int r;

	if (s->path[0] == '\0') {
		r = find_socket(s->mnt, s->path);
		if (r != 0)
			return r;
	}
	r = connect_to(s->path);
	if (r < 0)
		return r;
	s->fd = r;
	s->generation++;
	s->telling++;
	s->attached = s->refused = s->looks = s->stale = false;
	s->pending = true;
	wire_init(&m, WIRE_HELLO);
	own_name(mm, m.name, 16);
	m.mm_addr = (uintptr_t)mm;
	m.flags = (mm->device < 0 ? WIRE_DEVICE : 0) | (s->via_mount ? WIRE_MOUNT : 0);
	for (unsigned i = 0; i < mm->swap.narea; i++)
		m.count += mm->swap.area[i] != NULL && mm->swap.area[i]->stored;
	r = stored_send(s->fd, &m, own, 3);
	for (unsigned i = 0; r == 0 && i < mm->swap.narea; i++) {
		const struct swap_area *a = mm->swap.area[i];

		if (a == NULL || !a->stored)
			continue;
		wire_init(&m, WIRE_HELD);
		log_format(m.name, sizeof(m.name), "%s", a->path);
		m.prio = a->prio;
		m.slots = a->max_slots;
		r = stored_send(s->fd, &m, (int[]){a->shared_fd, slot_map_fd(a->map)}, 2);
	}
	if (r != 0) {
		SYS1(close, s->fd);
		s->fd = -1;
	}
	return r;
}

/* The connection is over. */
static void lose(struct mm *mm, const char *why)
{
	struct store *s = mm->store;

	SYS1(close, s->fd);
	s->fd = -1;
	s->pending = false;
	s->next = sys_now() + STORE_RETRY_NS;
	if (!s->said)
		mm_log(mm, FL_LOG_WARN, "store %s: %s; process %d goes on with what it has", s->mnt,
		       why, (int)SYS0(getpid));
	s->said = true;
}

static void done(struct mm *mm, uint32_t generation, uint32_t request, long result)
{
	struct store *s = mm->store;
	struct wire_msg m;

	if (s->fd < 0 || s->generation != generation)
		return;
	wire_init(&m, WIRE_DONE);
	m.request = request;
	m.error = (int32_t)result;
	if (stored_send(s->fd, &m, NULL, 0) != 0)
		lose(mm, "its server does not listen");
}

/* As fl_set_limit(), which may be what arms; of a member of a group, the group's. */
static long set_limit(struct pager *p, uint64_t pages)
{
	struct mm *mm = p->mm;
	long r = mm->group != NULL ? grant_set_limit(p, pages) : do_set_limit(p, pages);

	if (mm->group != NULL)
		return r;
	if (r == 0 && !mm->armed && mm->regions.open_pages > mm->limit) {
		r = pager_arm(mm);
		if (r == 0)
			r = do_set_limit(p, pages);
	}
	return r;
}

/*
 * Where what it holds cannot fit elsewhere, nothing is begun: faults that find
 * no slot meanwhile would end the process.  A page that is present beside its slot
 * needs no room.
 */
static long swap_off(struct pager *p, const char *name)
{
	struct mm *mm = p->mm;
	int index = find_stored(mm, name);
	uint64_t frames = mm_frames(mm), budget = mm_budget(mm);
	uint64_t room = budget > frames ? budget - frames : 0;
	uint64_t away = mm->ptes.count[PTE_SWAPPED] + mm->staging.buffer_used, held;

	if (index < 0)
		return 0; /* it was ours once */
	held = swap_area_mine(mm->swap.area[index]);
	for (unsigned i = 0; i < mm->swap.narea; i++) {
		const struct swap_area *a = mm->swap.area[i];

		if (a != NULL && a->on && i != (unsigned)index)
			room += a->max_slots - 1 - swap_area_used(a);
	}
	return (held < away ? held : away) > room ? -ENOMEM : do_swapoff(p, name);
}

/* ---- mapped files ---- */

static bool is_told_of(const struct store *s)
{
	return s != NULL && s->fd >= 0 && s->attached && s->looks;
}

bool stored_say(struct mm *mm, const struct region_users *users, uint32_t *told, const int *fds,
		unsigned nfds)
{
	struct store *s = mm->store;
	struct wire_msg m;

	if (*told == s->telling)
		return true;
	wire_init(&m, WIRE_BACKING);
	m.mm_addr = (uintptr_t)users;
	if (stored_send(s->fd, &m, fds, nfds) != 0)
		return false;
	*told = s->telling;
	return true;
}

static bool tell_all(struct mm *mm)
{
	struct store *s = mm->store;
	uint32_t told = 0;

	if (s->stale && !stored_say(mm, NULL, &told, NULL, 0))
		return false;
	s->telling += s->stale;
	s->stale = false;
	for (struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		if (!stored_say(mm, &pc->users, &pc->shown, (int[]){pc->memfd, pc->fd},
				pc->source != NULL ? 1 : 2))
			return false;
	return share_tell(mm);
}

void stored_tell(struct mm *mm)
{
	if (!is_told_of(mm->store))
		return;
	/* a connection that has ended is found out when it is read */
	mm->store->untold = !tell_all(mm);
}

void stored_forget(struct mm *mm, const struct region_users *users)
{
	struct store *s = mm->store;
	uint32_t told = 0;

	if (is_told_of(s) && !stored_say(mm, users, &told, NULL, 0))
		s->stale = s->untold = true;
}

/* p NULL: at the start, when nothing can be asked of us yet. */
static void handle(struct mm *mm, struct pager *p, const struct wire_msg *m, int *fds,
		   unsigned nfds)
{
	struct store *s = mm->store;
	uint32_t generation = s->generation;

	switch ((enum wire_type)m->type) {
	case WIRE_AREA:
		take_area(mm, m, fds, nfds);
		return;
	case WIRE_ATTACHED:
		if (nfds == 1 && mm->device < 0)
			mm->device = fds[0];
		else
			close_fds(fds, nfds);
		s->attached = true;
		s->looks = (m->flags & WIRE_LOOKS) != 0;
		stored_tell(mm);
		if (s->said)
			mm_log(mm, FL_LOG_INFO, "store %s: attached again", s->mnt);
		s->said = false;
		share_come_back(mm);
		return;
	case WIRE_ERROR:
		s->refused = true;
		s->error = m->error;
		log_format(s->why, sizeof(s->why), "%s", m->name);
		return;
	case WIRE_SWAPOFF:
		if (p != NULL)
			done(mm, generation, m->request, swap_off(p, m->name));
		return;
	case WIRE_LIMIT:
		if (p != NULL)
			done(mm, generation, m->request, set_limit(p, m->bytes >> PAGE_SHIFT));
		return;
	default:
		return;
	}
}

/* Try once, and wait for the answer. */
static int attach_once(struct mm *mm, struct patience *t)
{
	struct store *s = mm->store;
	int r = begin(mm);

	while (r == 0 && !s->attached && !s->refused) {
		int fds[WIRE_FDS_MAX];
		struct wire_msg m;
		unsigned nfds;

		r = stored_receive(s->fd, &m, fds, &nfds);
		if (r == -EAGAIN)
			r = await_living(s->fd, t);
		else if (r == 0)
			handle(mm, NULL, &m, fds, nfds);
	}
	if (r == 0 && s->refused)
		r = s->error;
	if (r != 0 && s->fd >= 0) {
		SYS1(close, s->fd);
		s->fd = -1;
	}
	return r;
}

int stored_attach(struct mm *mm)
{
	struct store *s = mm->store;
	struct patience t = patience_of(mm);
	int r;

	do {
		s->refused = false;
		r = attach_once(mm, &t);
	} while (try_again(r, s->refused, &t));
	if (r == 0 && mm->swap.narea == 0) {
		r = -ENODEV;
		s->refused = true;
		log_format(s->why, sizeof(s->why), "none of its areas could be had");
	}
	if (r != 0)
		pager_failing(mm, "store %s: %s", s->mnt, s->refused ? s->why : unreachable(r));
	return known_error(r);
}

void stored_listen(struct mm *mm)
{
	struct store *s = mm->store;

	if (s->fd >= 0 && fork_watch(mm, s->fd, true) != 0)
		lose(mm, "it cannot be listened to");
}

/* Attach again, without waiting for it. */
static void attach_again(struct mm *mm)
{
	struct store *s = mm->store;

	s->next = sys_now() + STORE_RETRY_NS;
	if (begin(mm) == 0)
		stored_listen(mm);
}

void stored_forked(struct mm *mm)
{
	struct store *s = mm->store;

	s->fd = -1; /* that number was one of the parent's */
	s->said = false;
	attach_again(mm);
}

void stored_hurry(struct mm *mm)
{
	if (mm->store->fd < 0)
		mm->store->next = 0;
}

bool stored_ready(struct mm *mm, int fd)
{
	if (share_ready(mm, fd))
		return true;
	if (mm->store == NULL || fd != mm->store->fd)
		return false;
	mm->store->pending = true;
	return true;
}

void stored_round(struct pager *p)
{
	struct mm *mm = p->mm;
	struct store *s = mm->store;

	if (s->fd < 0 && sys_now() >= s->next)
		attach_again(mm);
	while (s->fd >= 0 && s->pending) {
		int fds[WIRE_FDS_MAX];
		struct wire_msg m;
		unsigned nfds;
		int r = stored_receive(s->fd, &m, fds, &nfds);

		if (r == -EAGAIN) {
			s->pending = false;
		} else if (r != 0) {
			lose(mm, "its server has gone");
		} else {
			handle(mm, p, &m, fds, nfds);
			if (s->refused && s->fd >= 0) {
				s->refused = false;
				lose(mm, s->why);
			}
		}
	}
	if (s->untold)
		stored_tell(mm);
	share_calls(p);
	hop_passed_over(p);
}

uint64_t stored_patience(const struct mm *mm)
{
	uint64_t share = share_patience(mm);
	uint64_t now, next;

	if (mm->store == NULL)
		return share;
	if (mm->store->fd >= 0)
		return mm->store->untold && share > TELL_NS ? TELL_NS : share;
	now = sys_now();
	next = mm->store->next > now ? mm->store->next - now : 1;
	return next < share ? next : share;
}

void stored_close(struct mm *mm)
{
	if (mm->store != NULL && mm->store->fd >= 0) {
		SYS1(close, mm->store->fd);
		mm->store->fd = -1;
	}
}

/* ---- for others than pagers ---- */

static int probe_say(int err, const char *mnt, const char *text, char *why, size_t why_size)
{
	log_format(why, why_size, "store %s: %s", mnt, text);
	return err;
}

/* Ask, and wait for the next message. */
static int ask(int fd, struct wire_msg *m, int fds[WIRE_FDS_MAX], unsigned *nfds,
	       struct patience *t)
{
	int r;

	while ((r = stored_receive(fd, m, fds, nfds)) == -EAGAIN) {
		r = await_living(fd, t);
		if (r != 0)
			return r;
	}
	return r;
}

int stored_probe(const char *mnt, bool via_mount, int *device, char *why, size_t why_size)
{
	struct patience t = patience_of(NULL);
	char path[PATH_ROOM];
	int fds[WIRE_FDS_MAX];
	struct wire_msg m;
	unsigned nfds = 0;
	int fd, r;

	*device = -1;
	r = find_socket(mnt, path);
	if (r != 0)
		return probe_say(r, mnt, unreachable(r), why, why_size);
	do {
		m.type = 0;
		fd = r = connect_to(path);
		if (r >= 0) {
			wire_init(&m, WIRE_HELLO);
			m.flags = WIRE_PROBE | WIRE_DEVICE | (via_mount ? WIRE_MOUNT : 0);
			r = stored_send(fd, &m, NULL, 0);
			if (r == 0)
				r = ask(fd, &m, fds, &nfds, &t);
			SYS1(close, fd);
			if (r == 0 && m.type == WIRE_ERROR)
				r = m.error;
			else if (r != 0)
				m.type = 0;
		}
	} while (try_again(r, m.type == WIRE_ERROR, &t));
	if (r != 0)
		return probe_say(r, mnt, m.type == WIRE_ERROR ? m.name : unreachable(r), why,
				 why_size);
	if (m.type == WIRE_ATTACHED && nfds == 1)
		*device = fds[0];
	else
		close_fds(fds, nfds);
	return 0;
}

int stored_maps(const char *socket, int (*fn)(const char *name, int fd, uint64_t slots, void *arg),
		void *arg)
{
	struct patience t = patience_of(NULL);
	struct wire_msg m;
	int fd = connect_to(socket), r;

	if (fd < 0)
		return fd;
	wire_init(&m, WIRE_HELLO);
	m.flags = WIRE_COUNT;
	r = stored_send(fd, &m, NULL, 0);
	while (r == 0) {
		int fds[WIRE_FDS_MAX];
		unsigned nfds = 0;

		r = ask(fd, &m, fds, &nfds, &t);
		if (r != 0 || m.type == WIRE_ATTACHED)
			break;
		if (m.type == WIRE_ERROR)
			r = m.error;
		else if (m.type == WIRE_AREA && nfds == 1)
			r = fn(m.name, fds[0], m.slots, arg);
		close_fds(fds, nfds);
	}
	SYS1(close, fd);
	return r;
}
