/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-port.c - snapshots that are asked for from outside.
 *
 * A runtime in a program that was not written for it has a socket in the
 * abstract namespace.  Who may trace the process reads its name and a token from the memory
 * (publish.h), and sends what struct snapshot_ask says, with the descriptors of the image and of a
 * socket on which the answers go.  When that one is closed, the snapshot is given up.
 */
#include "snapshot-work.h"

#include "fork.h"
#include "hop.h"
#include "open.h"
#include "port.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#define PORT_BURST 8U

union ask_control {
	struct cmsghdr head;
	char room[CMSG_SPACE(2 * sizeof(int))];
};

struct asked {
	struct snapshot_ask ask;
	int fd[2]; /* the image, the link; -1: none */
};

/* The descriptors that a message brought are to be closed by the caller; there is room for two. */
static void take_control(struct msghdr *m, struct asked *a)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	size_t n;

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(a->fd, CMSG_DATA(c), (n < 2 ? n : 2) * sizeof(int));
}

static bool receive(const struct mm *mm, struct asked *a)
{
	struct iovec iov = {&a->ask, sizeof(a->ask)};
	union ask_control control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	long r;

	memset(a, 0, sizeof(*a));
	memset(&control, 0, sizeof(control));
	a->fd[0] = a->fd[1] = -1;
	r = SYS3(recvmsg, mm->snaps.port_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (sys_err(r))
		return false;
	take_control(&m, a);
	if (r != (long)sizeof(a->ask))
		a->ask.what = 0;
	return true;
}

/* Only who can read the memory knows the token. */
static long answer(struct pager *p, const struct asked *a)
{
	const struct snapshot_port *port = &p->mm->snaps.port;

	if (a->ask.token[0] != port->token[0] || a->ask.token[1] != port->token[1])
		return -EPERM;
	if (a->ask.flags & ~FL_SNAPSHOT_NOSYNC)
		return -EPROTO;
	return snapshot_begin(p, 0, 0, a->fd[0], a->ask.flags, -1, a->fd[1], NULL);
}

void snapshot_serve_port(struct pager *p)
{
	struct mm *mm = p->mm;
	struct asked a;

	mm->snaps.knocked = false;
	for (unsigned n = 0; receive(mm, &a); n++) {
		struct snapshot_answer no = {.ended = 1};
		struct iovec iov = {&no, sizeof(no)};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
		long r = -EINVAL;

		if (a.ask.what == SNAPSHOT_ASK && a.fd[0] >= 0 && a.fd[1] >= 0)
			r = answer(p, &a);
		if (r == 0)
			continue;
		no.result = (int32_t)r;
		if (a.fd[1] >= 0)
			SYS3(sendmsg, a.fd[1], &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		close_fd(a.fd[0]);
		close_fd(a.fd[1]);
		if (n == PORT_BURST) {
			mm->snaps.knocked = true;
			break;
		}
	}
	hop_passed_over(p);
}

void snapshot_listen(struct mm *mm)
{
	struct snapshot_port *port = &mm->snaps.port;
	const struct port_heard heard = {
		.bytes = sizeof(struct snapshot_ask),
		.at = offsetof(struct snapshot_ask, token),
		.token = port->token,
		.words = 2,
	};
	uint32_t len;
	int fd;

	if (!(mm->flags & MM_PRELOAD) || SYS3(getrandom, port->token, sizeof(port->token),
					      GRND_NONBLOCK) != (long)sizeof(port->token))
		return;
	fd = port_open(&heard, port->name, sizeof(port->name), &len);
	if (fd < 0)
		return;
	if (fork_watch(mm, fd, true) != 0) {
		SYS1(close, fd);
		return;
	}
	mm->snaps.port_fd = fd;
	/* Release: who reads the length reads the name. */
	__atomic_store_n(&port->len, len, __ATOMIC_RELEASE);
}

bool snapshot_heard(struct mm *mm, int fd)
{
	if (mm->snaps.port_fd < 0 || fd != mm->snaps.port_fd)
		return false;
	mm->snaps.knocked = true;
	return true;
}
