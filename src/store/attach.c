/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach.c - the thread that serves clients; see attach.h and store-wire.h.
 *
 * It never waits for a client: sockets do not block, one that does not
 * take what is sent to it is closed, and of a descriptor that a client sent nothing is asked
 * that may be a request to a filesystem of its own; it is closed by others (aside.h).  A client that said something wrong is
 * told, where that is possible, and its socket is closed.  To close a socket
 * takes nothing away: the client goes on with what it holds, and may come
 * again.
 *
 * When a socket hangs up its process has ended, or is about to; the lock that
 * says that it lives may be let go a moment later.  So the maps are swept at
 * once, and then less and less often until what it was busy with is given back,
 * too (swap-slot.h).
 *
 * Nor does it wait for a disk.  To write what a client gives back (WIRE_RETURN) takes as long as
 * that does, and to open a file may take until a read or write of it has ended: the kernel is to
 * drop its pages.  So what names a file is for other threads, that of one file in its order, and one
 * RETURN at a time.  From a connection that waits for that nothing is read, and it is not
 * given up before.
 *
 * Jobs come from MNT/control.  A swapoff is over when every client has given
 * the area's slots back and nobody is a member of its map; who inherited the
 * area by a fork and did not come by yet is waited for, for a time.
 *
 * Locks: the queue's, of jobs that were not looked at yet; that of what the other threads do.
 */
#include "attach.h"

#include "aside.h"
#include "clients.h"
#include "mapped.h"
#include "shared.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define CONNS_MAX 2000U
#define STRANGERS_MAX 64U /* that have not attached yet */
#define OTHERS_MAX 256U	  /* of one user, who is not ours */
#define SENT_FDS_MAX 253U /* the kernel's, of a message */
#define MESSAGES_A_TURN 16U
#define BACKLOG 256
#define MS 1000000U
#define SWEEP_FIRST_NS (2ULL * MS)
#define SWEEP_LAST_NS (500ULL * MS)
#define SWEEP_LONG_NS (15000ULL * MS)
#define STRANGER_NS (10000ULL * MS)
#define UNKNOWN_NS (20000ULL * MS) /* for members of an area that leaves which are no clients */
#define PROC_BLOCK 1024		   /* what /proc has for the size of a block */
#define PATH_ROOM sizeof(((struct sockaddr_un *)0)->sun_path)

struct conn {
	struct conn *next;
	struct client *client; /* also the owner of the socket */
	int fd;
	bool hello, attached, listed, dead;
	bool busy;	/* another thread has a message of it */
	uint32_t flags; /* of HELLO */
	unsigned held;	/* HELD messages that are still to come */
	uint32_t has;	/* areas, by index */
	uint32_t asked; /* of these, those that it was asked to give back */
	uint64_t since;
	struct peer *peer; /* shared.h: a connection for mapped files */
};

static int listen_fd = -1, epoll_fd = -1, wake_fd = -1, device_fd = -1;
static uid_t own_uid;
static pthread_t thread;
static bool running, stopping;

static struct conn *conns;
static unsigned nconns, nstrangers;
static uint64_t sweep_next, sweep_gap, sweep_until;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static struct job *queue; /* under the lock: new ones, the last first */
static bool closed;	  /* under the lock: nobody looks at the queue any more */
static struct job *jobs;  /* under way */
static uint32_t last_number;

/* A message that names a file. */
struct naming {
	struct naming *next;
	struct conn *conn;
	struct wire_msg msg;
	int fds[WIRE_FDS_MAX];
	unsigned nfds;
	uint64_t file;
	bool returns, begun;
	/* what came of it */
	int result, out[3];
	unsigned nout;
};

#define NAMERS 4U

static pthread_t namer[NAMERS];
static unsigned nnamers;
static pthread_mutex_t naming_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t naming_more = PTHREAD_COND_INITIALIZER;
static struct naming *namings; /* under the lock, as what follows; in their order */
static struct naming *named;   /* done, not answered */
static bool naming_ends;

/* --- sockets --- */

static void sweep_soon(void)
{
	uint64_t now = sys_now();

	sweep_gap = SWEEP_FIRST_NS;
	if (now >= sweep_until || sweep_next > now + sweep_gap)
		sweep_next = now;
	sweep_until = now + SWEEP_LONG_NS;
}

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(8 * sizeof(int))];
};

static void send_msg(struct conn *c, const struct wire_msg *m, const int *fds, unsigned nfds)
{
	struct wire_msg wire = *m;
	struct iovec iov = {&wire, sizeof(wire)};
	union control control;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

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
	if (!c->dead && sendmsg(c->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof(wire))
		c->dead = true;
}

/* Say why, and close the socket. */
static void refuse(struct conn *c, int err, const char *text)
{
	struct wire_msg m;

	wire_init(&m, WIRE_ERROR);
	m.error = err;
	snprintf(m.name, sizeof(m.name), "%s", text);
	send_msg(c, &m, NULL, 0);
	c->dead = true;
}

/* Of ours. */
static void close_fds(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* Of the client's. */
static void give_up_fds(const struct conn *c, const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		aside_close(fds[i], c->client->uid);
}

/* All that a message can have: what there is no room for the kernel closes, on this thread. */
union received {
	struct cmsghdr head;
	char room[CMSG_SPACE(SENT_FDS_MAX * sizeof(int))];
};

/* A message's length, 0 at the end, -EAGAIN; descriptors beyond WIRE_FDS_MAX count and are closed. */
static ssize_t receive(struct conn *c, void *buf, size_t size, int fds[WIRE_FDS_MAX],
		       unsigned *nfds)
{
	struct iovec iov = {buf, size};
	union received control;
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(c->fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*nfds = 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : 0;
	for (struct cmsghdr *m = CMSG_FIRSTHDR(&h); m != NULL; m = CMSG_NXTHDR(&h, m)) {
		unsigned k;

		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		k = (unsigned)((m->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(m) + i * sizeof(int), sizeof(fd));
			if (*nfds < WIRE_FDS_MAX)
				fds[*nfds] = fd;
			else
				give_up_fds(c, &fd, 1);
			++*nfds;
		}
	}
	if ((h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || *nfds > WIRE_FDS_MAX) {
		give_up_fds(c, fds, *nfds < WIRE_FDS_MAX ? *nfds : WIRE_FDS_MAX);
		*nfds = 0;
		return 1; /* of no message's length */
	}
	return n;
}

/* --- attaching --- */

/* Give the client an area that it does not have. */
static void hand(struct conn *c, int index)
{
	bool count = (c->flags & WIRE_COUNT) != 0;
	int fds[WIRE_FDS_MAX];
	struct wire_msg m;
	unsigned nfds = 0;

	if (areas_hand(index, count, (c->flags & WIRE_MOUNT) != 0, &m, fds, &nfds) != 0)
		return; /* no descriptor or no number is free: it does without */
	send_msg(c, &m, fds, nfds);
	close_fds(fds, nfds);
	if (c->dead)
		sweep_soon(); /* the member that nobody became */
	else if (!count)
		c->has |= 1U << index;
}

static void hand_to_all(uint32_t set)
{
	for (struct conn *c = conns; c != NULL; c = c->next)
		for (int i = 0; c->attached &&
				(c->flags & (WIRE_PROBE | WIRE_COUNT | WIRE_FILES)) == 0 && i < 32;
		     i++)
			if ((set & ~c->has) >> i & 1)
				hand(c, i);
}

static void ask_off(struct conn *c, int index, uint32_t number)
{
	struct wire_msg m;

	wire_init(&m, WIRE_SWAPOFF);
	m.request = number;
	snprintf(m.name, sizeof(m.name), "%s", areas_name(index));
	send_msg(c, &m, NULL, 0);
	c->asked |= 1U << index;
}

static void finish(struct conn *c)
{
	uint32_t set = areas_set();
	bool wants = (c->flags & WIRE_DEVICE) != 0 && device_fd >= 0;
	struct wire_msg m;

	if (set == 0 && c->has == 0 && (c->flags & WIRE_COUNT) == 0) {
		refuse(c, areas_waiting() != 0 ? -EBUSY : -ENODEV,
		       areas_waiting() != 0
			       ? "its areas are held by programs of a server before this one"
			       : "it has no swap area ('faultline mkswap' makes one in its swap/)");
		return;
	}
	for (int i = 0; (c->flags & WIRE_PROBE) == 0 && i < 32; i++)
		if ((set & ~c->has) >> i & 1)
			hand(c, i);
	/* before it hears that it is attached: then it is to be seen */
	if ((c->flags & (WIRE_PROBE | WIRE_COUNT)) == 0)
		c->listed = client_list(c->client) == 0;
	wire_init(&m, WIRE_ATTACHED);
	m.count = (uint32_t)__builtin_popcount(set);
	m.flags = c->listed ? WIRE_LOOKS : 0;
	send_msg(c, &m, &device_fd, wants);
	if (c->dead)
		return;
	c->attached = true;
	nstrangers--;
	for (struct job *j = jobs; j != NULL; j = j->next)
		if (j->begun && j->kind == JOB_SWAPOFF && c->has >> j->index & 1)
			ask_off(c, j->index, j->number);
}

/*
 * Of /proc, and for reading: what is read there cannot keep us.  To ask for a filesystem's type is
 * a request to it; but for the size of its blocks it is not, which one of a client's own
 * (FUSE) has no choice of.
 */
static bool proc_file(int fd)
{
	struct statfs fs;
	struct stat st;
	int flags = fcntl(fd, F_GETFL), block = 0;

	return flags >= 0 && (flags & (O_ACCMODE | O_PATH)) == O_RDONLY &&
	       ioctl(fd, FIGETBSZ, &block) == 0 && block == PROC_BLOCK && fstat(fd, &st) == 0 &&
	       S_ISREG(st.st_mode) && fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* A connection for mapped files: from here on it has a peer. */
static void greet_files(struct conn *c, const int *fds, bool again)
{
	struct wire_msg m;
	int err = shared_hello(&c->peer, fds[0], c->fd, again);

	if (err != 0) {
		give_up_fds(c, fds, 1);
		refuse(c, err, "it pages no mapped files for others");
		return;
	}
	c->hello = c->attached = true;
	c->flags = WIRE_FILES;
	nstrangers--;
	wire_init(&m, WIRE_ATTACHED);
	send_msg(c, &m, NULL, 0);
}

static struct conn *add_conn(int fd, const struct ucred *peer);

static int watch_as(int op, int fd, uint32_t events, void *tag);

static void wake(void)
{
	const uint64_t one = 1;

	if (write(wake_fd, &one, sizeof(one)) < 0)
		abort();
}

/* Whether one that came before is of the same file, or something is given back by it as well. */
static bool is_behind(const struct naming *n)
{
	for (const struct naming *k = namings; k != n; k = k->next)
		if (k->file == n->file || (k->returns && n->returns))
			return true;
	return false;
}

static struct naming *next_naming(void)
{
	struct naming *n = namings;

	while (n != NULL && (n->begun || is_behind(n)))
		n = n->next;
	return n;
}

static void naming_done(struct naming *n)
{
	struct naming **at = &namings;

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	n->next = named;
	named = n;
	/* who was behind it */
	pthread_cond_broadcast(&naming_more);
}

static void *serve_namings(void *arg)
{
	pthread_mutex_lock(&naming_lock);
	while (!naming_ends) {
		struct naming *n = next_naming();
		struct peer *child;
		int sock;

		if (n == NULL) {
			pthread_cond_wait(&naming_more, &naming_lock);
			continue;
		}
		n->begun = true;
		pthread_mutex_unlock(&naming_lock);
		n->result = shared_take(n->conn->peer, &n->msg, n->fds, n->nfds,
					n->conn->client->uid, n->out, &n->nout, &child, &sock);
		pthread_mutex_lock(&naming_lock);
		naming_done(n);
		wake();
	}
	pthread_mutex_unlock(&naming_lock);
	return arg;
}

/* False: it names no file of ours, and is done at once. */
static bool is_naming(struct conn *c, const struct wire_msg *m, const int *fds, unsigned nfds)
{
	bool names = m->type == WIRE_RETURN || m->type == WIRE_TAKE || m->type == WIRE_FILE;
	uint64_t file = names && nfds != 0 ? shared_number(fds[0]) : 0;
	struct naming *n, **last = &namings;

	if (file == 0)
		return false;
	n = calloc(1, sizeof(*n));
	if (n == NULL) {
		give_up_fds(c, fds, nfds);
		refuse(c, -ENOMEM, "it is short of memory");
		return true;
	}
	n->conn = c;
	n->msg = *m;
	memcpy(n->fds, fds, nfds * sizeof(fds[0]));
	n->nfds = nfds;
	n->file = file;
	n->returns = m->type == WIRE_RETURN;
	c->busy = true;
	watch_as(EPOLL_CTL_DEL, c->fd, 0, c);
	pthread_mutex_lock(&naming_lock);
	while (*last != NULL)
		last = &(*last)->next;
	*last = n;
	pthread_cond_signal(&naming_more);
	pthread_mutex_unlock(&naming_lock);
	return true;
}

static void answer_files(struct conn *c, int r, const struct wire_msg *m, const int *out,
			 unsigned n)
{
	if (r > 0)
		send_msg(c, m, out, n);
	close_fds(out, n);
	if (r < 0)
		refuse(c, r, "a message that is not understood");
}

static void answer_namings(void)
{
	struct naming *n, *next;

	pthread_mutex_lock(&naming_lock);
	n = named;
	named = NULL;
	pthread_mutex_unlock(&naming_lock);
	for (; n != NULL; n = next) {
		struct conn *c = n->conn;

		next = n->next;
		c->busy = false;
		if (watch_as(EPOLL_CTL_ADD, c->fd, EPOLLIN, c) != 0)
			c->dead = true;
		answer_files(c, n->result, &n->msg, n->out, n->nout);
		free(n);
	}
}

/* What is begun ends, the rest is dropped. */
static void stop_namings(void)
{
	struct naming *n;

	pthread_mutex_lock(&naming_lock);
	naming_ends = true;
	pthread_cond_broadcast(&naming_more);
	pthread_mutex_unlock(&naming_lock);
	for (unsigned i = 0; i < nnamers; i++)
		pthread_join(namer[i], NULL);
	answer_namings();
	while ((n = namings) != NULL) {
		namings = n->next;
		n->conn->busy = false;
		give_up_fds(n->conn, n->fds, n->nfds);
		free(n);
	}
}

static void take_files(struct conn *c, struct wire_msg *m, const int *fds, unsigned nfds)
{
	int out[3], child_sock, r;
	struct peer *child;
	unsigned n;

	if (is_naming(c, m, fds, nfds))
		return;
	r = shared_take(c->peer, m, fds, nfds, c->client->uid, out, &n, &child, &child_sock);
	if (child != NULL) {
		const struct ucred peer = {c->client->pid, c->client->uid, c->client->gid};
		struct conn *k = add_conn(child_sock, &peer);

		if (k != NULL) {
			k->peer = child;
		} else {
			shared_end(child);
			close(child_sock);
			r = -ENOMEM;
		}
	}
	answer_files(c, r, m, out, n);
}

static void greet(struct conn *c, const struct wire_msg *m, const int *fds, unsigned nfds)
{
	struct client *cl = c->client;

	if (m->flags & WIRE_FILES) {
		greet_files(c, fds, (m->flags & WIRE_AGAIN) != 0);
		return;
	}
	if (c->peer != NULL) {
		give_up_fds(c, fds, nfds);
		refuse(c, -EPROTO, "a message that is not understood");
		return;
	}

	for (unsigned i = 0; i < nfds; i++)
		if (!proc_file(fds[i])) {
			give_up_fds(c, fds, nfds);
			refuse(c, -EPROTO, "a descriptor is not of the kind that belongs there");
			return;
		}
	if (nfds == 3) {
		cl->mem_fd = fds[0];
		cl->maps_fd = fds[1];
		cl->pagemap_fd = fds[2];
	}
	cl->mm_addr = m->mm_addr;
	cl->attached_at = (uint64_t)time(NULL);
	for (size_t i = 0; i < sizeof(cl->name) - 1 && m->name[i] != '\0'; i++)
		cl->name[i] = (char)(m->name[i] >= ' ' && m->name[i] <= '~' ? m->name[i] : '?');
	if ((m->flags & WIRE_MOUNT) != 0 && !server.options.page_io) {
		refuse(c, -EACCES, "it is mounted without -o io=fuse");
		return;
	}
	c->hello = true;
	c->flags = m->flags;
	c->held = m->count;
	if (c->held == 0)
		finish(c);
}

static void take_held(struct conn *c, const struct wire_msg *m, const int fds[2])
{
	int index = areas_find(m->name);

	if (index >= 0) {
		/* another map of that name: it goes on with it by itself */
		if (areas_same(index, fds[1]))
			c->has |= 1U << index;
	} else {
		index = areas_adopt(m, fds[0], fds[1]);
		if (index >= 0) {
			c->has |= 1U << index;
			sweep_soon();
			hand_to_all(1U << index);
		}
	}
	give_up_fds(c, fds, 2);
	if (--c->held == 0)
		finish(c);
}

/* Whom a limit is for. */
static bool is_for(const struct job *j, const struct conn *c)
{
	return c->listed && c->client->pid == j->pid && c->client->nr == j->nr;
}

/* A client answers a job. */
static void take_done(struct conn *c, const struct wire_msg *m)
{
	struct job *j = jobs;

	while (j != NULL && j->number != m->request)
		j = j->next;
	for (int i = 0; i < 32; i++) {
		/* the job may be over: asked it was all the same */
		if (!(c->asked >> i & 1) ||
		    (j != NULL && (j->kind != JOB_SWAPOFF || j->index != i)))
			continue;
		if (j == NULL && !(areas_set() >> i & 1))
			continue;
		c->asked &= ~(1U << i);
		if (m->error == 0)
			c->has &= ~(1U << i);
		else if (j != NULL)
			j->error = m->error;
		sweep_soon();
		if (areas_set() >> i & 1 && !(c->has >> i & 1))
			hand(c, i);
	}
	if (j != NULL && j->kind == JOB_LIMIT && is_for(j, c)) {
		j->error = m->error;
		j->answered = true;
	}
}

static void take(struct conn *c, const void *buf, size_t len, const int *fds, unsigned nfds)
{
	struct wire_msg m;
	int err = wire_parse(buf, len, nfds, true, &m);

	if (err == 0 && nfds != 0 && aside_full(c->client->uid)) {
		give_up_fds(c, fds, nfds);
		refuse(c, -EAGAIN, "descriptors of this user's cannot be closed");
		return;
	}
	if (err == 0) {
		if (m.type == WIRE_HELLO && !c->hello) {
			greet(c, &m, fds, nfds);
			return;
		}
		if (m.type >= WIRE_FILE && m.type != WIRE_BACKING && c->hello && c->peer != NULL) {
			take_files(c, &m, fds, nfds);
			return;
		}
		if (m.type == WIRE_HELD && c->hello && c->held != 0) {
			take_held(c, &m, fds);
			return;
		}
		if (m.type == WIRE_BACKING && c->listed) {
			mapped_told(c->client, m.mm_addr, fds, nfds);
			return;
		}
		if (m.type == WIRE_DONE && c->attached) {
			take_done(c, &m);
			return;
		}
		err = -EPROTO;
	}
	give_up_fds(c, fds, nfds);
	refuse(c, err,
	       err == -EPROTONOSUPPORT ? "this server is of another version of faultline"
	       : err == -EMSGSIZE      ? "a message of another length"
				       : "a message that is not understood");
}

static void serve_conn(struct conn *c)
{
	for (unsigned i = 0; i < MESSAGES_A_TURN && !c->dead && !c->busy; i++) {
		char buf[sizeof(struct wire_msg) + 1];
		int fds[WIRE_FDS_MAX];
		unsigned nfds;
		ssize_t n = receive(c, buf, sizeof(buf), fds, &nfds);

		if (n == -EAGAIN)
			return;
		if (n == 0)
			c->dead = true;
		else
			take(c, buf, (size_t)n, fds, nfds);
	}
}

static int watch_as(int op, int fd, uint32_t events, void *tag)
{
	struct epoll_event e = {.events = events, .data = {.ptr = tag}};

	return epoll_ctl(epoll_fd, op, fd, &e);
}

/* Who comes while there is no place for a stranger waits until there is. */
static void listen_if_room(void)
{
	static bool deaf;
	bool full = nstrangers >= STRANGERS_MAX;

	if (full != deaf && watch_as(EPOLL_CTL_MOD, listen_fd, full ? 0 : EPOLLIN, &listen_fd) == 0)
		deaf = full;
}

static bool too_many_of(uid_t uid)
{
	unsigned n = 0;

	for (const struct conn *c = conns; uid != own_uid && c != NULL; c = c->next)
		n += c->client->uid == uid;
	return n >= OTHERS_MAX;
}

/* A connection with that peer, or NULL: the descriptor stays the caller's. */
static struct conn *add_conn(int fd, const struct ucred *peer)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->client = client_new();
	if (c == NULL || c->client == NULL || nconns >= CONNS_MAX || nstrangers >= STRANGERS_MAX ||
	    too_many_of(peer->uid)) {
		if (c != NULL && c->client != NULL)
			client_put(c->client);
		free(c);
		return NULL;
	}
	c->fd = c->client->sock = fd;
	c->client->pid = peer->pid;
	c->client->uid = peer->uid;
	c->client->gid = peer->gid;
	c->since = sys_now();
	c->next = conns;
	conns = c;
	nconns++;
	nstrangers++;
	if (watch_as(EPOLL_CTL_ADD, fd, EPOLLIN, c) != 0)
		c->dead = true;
	return c;
}

static void accept_one(void)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	socklen_t len = sizeof(struct ucred);
	struct ucred peer;
	struct conn *c = NULL;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0)
		c = add_conn(fd, &peer);
	if (c == NULL)
		close(fd);
	else if (!c->dead && peer.uid != own_uid && peer.uid != 0 && !server.options.allow_other)
		refuse(c, -EACCES, "it is another user's (see allow_other in faultline-mount(1))");
}

static void reap_conns(void)
{
	for (struct conn **at = &conns; *at != NULL;) {
		struct conn *c = *at;

		if (!c->attached && sys_now() - c->since > STRANGER_NS)
			c->dead = true;
		if (!c->dead || c->busy) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		nconns--;
		if (!c->attached)
			nstrangers--;
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
		if (c->peer != NULL)
			shared_end(c->peer);
		/* somebody may still look at the client, but nobody is at its socket */
		c->client->sock = -1;
		/* messages that were not read may have descriptors, too */
		shutdown(c->fd, SHUT_RDWR);
		aside_close(c->fd, c->client->uid);
		mapped_told(c->client, 0, NULL, 0);
		if (c->listed)
			client_unlist(c->client);
		client_put(c->client);
		if (c->has != 0)
			sweep_soon();
		free(c);
	}
}

/* --- jobs --- */

static void cancel(fuse_req_t req, void *data)
{
	struct job *j = data;
	const uint64_t one = 1;

	(void)req;
	__atomic_store_n(&j->cancelled, true, __ATOMIC_RELEASE);
	if (write(wake_fd, &one, sizeof(one)) < 0)
		return; /* it is looked at before long */
}

void attach_job(struct job *j)
{
	bool late;

	/* the thread answers, and frees it, not before this lets go of it */
	pthread_mutex_lock(&queue_lock);
	late = closed;
	if (!late) {
		fuse_req_interrupt_func(j->req, cancel, j);
		j->next = queue;
		queue = j;
	}
	pthread_mutex_unlock(&queue_lock);
	if (late) {
		ops_error(j->req, TALLY_write, EINTR);
		free(j);
	} else {
		wake();
	}
}

static void job_end(struct job *j, int err)
{
	fuse_req_interrupt_func(j->req, NULL, NULL);
	if (err != 0)
		ops_error(j->req, TALLY_write, -err);
	else
		fuse_reply_write(j->req, j->size);
}

static int begin_swapoff(struct job *j)
{
	j->index = areas_find(j->name);
	if (j->index < 0)
		return -EINVAL;
	if (!(areas_set() >> j->index & 1))
		return -EBUSY; /* another one is at it */
	areas_leave(j->index, true);
	for (struct conn *c = conns; c != NULL; c = c->next)
		if (c->attached && c->has >> j->index & 1)
			ask_off(c, j->index, j->number);
	return 0;
}

static int begin_limit(struct job *j)
{
	struct conn *c = conns;
	struct wire_msg m;

	while (c != NULL && !is_for(j, c))
		c = c->next;
	if (c == NULL)
		return -ESRCH;
	wire_init(&m, WIRE_LIMIT);
	m.request = j->number;
	m.bytes = j->bytes;
	send_msg(c, &m, NULL, 0);
	return 0;
}

/* 1: over, with what *err says. */
static int begin_job(struct job *j, int *err)
{
	struct why why;
	int r;

	j->begun = true;
	j->number = ++last_number;
	switch (j->kind) {
	case JOB_SWAPON:
		r = areas_on(j->name, j->prio, &why);
		if (r >= 0)
			hand_to_all(1U << r);
		*err = r < 0 ? r : 0;
		return 1;
	case JOB_SWAPOFF:
		*err = begin_swapoff(j);
		return *err != 0;
	case JOB_LIMIT:
		*err = begin_limit(j);
		return *err != 0;
	}
	*err = -EINVAL;
	return 1;
}

static bool anybody_has(int index)
{
	for (const struct conn *c = conns; c != NULL; c = c->next)
		if (c->attached && c->has >> index & 1)
			return true;
	return false;
}

/* The area stays: whoever gave it back has it again. */
static void stay(struct job *j)
{
	areas_leave(j->index, false);
	hand_to_all(1U << j->index);
}

static int look_at_swapoff(struct job *j, int *err)
{
	uint64_t now = sys_now();

	if (j->error != 0) {
		*err = j->error;
		stay(j);
		return 1;
	}
	if (anybody_has(j->index))
		return 0;
	areas_sweep();
	if (areas_unused(j->index)) {
		areas_off(j->index);
		*err = 0;
		return 1;
	}
	if (j->deadline == 0)
		j->deadline = now + UNKNOWN_NS;
	if (now < j->deadline)
		return 0;
	*err = -EBUSY;
	stay(j);
	return 1;
}

static int look_at_limit(struct job *j, int *err)
{
	*err = j->error;
	if (j->answered)
		return 1;
	*err = -ESRCH;
	for (const struct conn *c = conns; c != NULL; c = c->next)
		if (is_for(j, c))
			return 0;
	return 1;
}

static void serve_jobs(void)
{
	struct job *fresh;

	pthread_mutex_lock(&queue_lock);
	fresh = queue;
	queue = NULL;
	pthread_mutex_unlock(&queue_lock);
	while (fresh != NULL) {
		struct job *j = fresh;

		fresh = j->next;
		j->next = jobs;
		jobs = j;
	}
	for (struct job **at = &jobs; *at != NULL;) {
		struct job *j = *at;
		int err = 0, over = 0;

		if (!j->begun)
			over = begin_job(j, &err);
		if (!over && j->kind == JOB_SWAPOFF)
			over = look_at_swapoff(j, &err);
		else if (!over && j->kind == JOB_LIMIT)
			over = look_at_limit(j, &err);
		if (!over && (__atomic_load_n(&j->cancelled, __ATOMIC_ACQUIRE) || stopping)) {
			if (j->kind == JOB_SWAPOFF)
				stay(j);
			err = -EINTR;
			over = 1;
		}
		if (!over) {
			at = &j->next;
			continue;
		}
		*at = j->next;
		job_end(j, err);
		free(j);
	}
}

/* --- the thread --- */

static int next_wait(void)
{
	uint64_t now = sys_now();

	if (now < sweep_until) {
		uint64_t ms = sweep_next > now ? (sweep_next - now) / MS + 1 : 0;

		return jobs != NULL && ms > 20 ? 20 : (int)ms;
	}
	if (jobs != NULL)
		return 20;
	return areas_waiting() != 0 || nstrangers != 0 ? 1000 : -1;
}

static void *serve(void *arg)
{
	uint64_t retried = 0;

	server_await_confinement();
	while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
		struct epoll_event e[32];
		int n = epoll_wait(epoll_fd, e, 32, next_wait());
		uint64_t now = sys_now();
		bool woken = false;

		for (int i = 0; i < n; i++) {
			if (e[i].data.ptr == &listen_fd)
				accept_one();
			else if (e[i].data.ptr == &wake_fd) {
				uint64_t count;

				if (read(wake_fd, &count, sizeof(count)) < 0)
					continue; /* another look does no harm */
				woken = true;
			} else {
				serve_conn(e[i].data.ptr);
			}
		}
		if (woken)
			answer_namings();
		reap_conns();
		if (now < sweep_until && now >= sweep_next) {
			areas_sweep();
			sweep_next = now + sweep_gap;
			if (sweep_gap < SWEEP_LAST_NS)
				sweep_gap *= 2;
		}
		if (areas_waiting() != 0 && now - retried > 1000ULL * MS) {
			hand_to_all(areas_retry());
			retried = now;
		}
		serve_jobs();
		reap_conns(); /* who did not take what a job sent */
		listen_if_room();
	}
	pthread_mutex_lock(&queue_lock);
	closed = true;
	pthread_mutex_unlock(&queue_lock);
	serve_jobs();
	return arg;
}

/* A socket in DIR; its path may be longer than a socket's address. */
static int make_socket(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int err = 0;

	listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listen_fd < 0)
		return -errno;
	snprintf(at.sun_path, PATH_ROOM, "/proc/self/fd/%d/" STORE_SOCKET, server.store->dir_fd);
	/* a server that was killed left one: the lock is ours, so nobody listens there */
	unlinkat(server.store->dir_fd, STORE_SOCKET, 0);
	umask(server.options.allow_other ? 0111 : 0177);
	if (bind(listen_fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    listen(listen_fd, BACKLOG) != 0)
		err = -errno;
	umask(0);
	return err;
}

int attach_start(struct why *why)
{
	long device;
	int err;

	own_uid = geteuid();
	err = areas_start(server.store, server_say);
	if (err != 0)
		return why_set(why, err, "%s/swap: %s", server.store->dir, strerror(-err));
	err = make_socket();
	if (err != 0)
		return why_set(why, err, "%s/" STORE_SOCKET ": %s", server.store->dir,
			       strerror(-err));
	device = uffd_device();
	device_fd = device >= 0 ? (int)device : -1;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_fd < 0 || wake_fd < 0 ||
	    watch_as(EPOLL_CTL_ADD, listen_fd, EPOLLIN, &listen_fd) != 0 ||
	    watch_as(EPOLL_CTL_ADD, wake_fd, EPOLLIN, &wake_fd) != 0)
		return why_set(why, -errno, "clients cannot be served: %s", strerror(errno));
	return 0;
}

int attach_thread(struct why *why)
{
	int err = -aside_start();

	for (; err == 0 && nnamers < NAMERS; nnamers += err == 0)
		err = pthread_create(&namer[nnamers], NULL, serve_namings, NULL);
	if (err == 0)
		err = pthread_create(&thread, NULL, serve, NULL);
	running = err == 0;
	return err == 0 ? 0 : why_set(why, -err, "a thread cannot be made: %s", strerror(err));
}

void attach_stop(void)
{
	if (!running)
		return;
	__atomic_store_n(&stopping, true, __ATOMIC_RELEASE);
	wake();
	pthread_join(thread, NULL);
	unlinkat(server.store->dir_fd, STORE_SOCKET, 0);
	close(listen_fd);
	stop_namings();
	for (struct conn *c = conns; c != NULL; c = c->next)
		c->dead = true;
	reap_conns();
	areas_stop();
}
