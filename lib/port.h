/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * port.h - datagram sockets in the abstract namespace, which anybody can send to.
 *
 * What is queued may hold descriptors, and the one who takes it out of the queue, or drops it,
 * may wait for them to be closed: for a socket that lingers, or a filesystem that never answers.
 * A pager must not.  So the kernel queues only what has a token, and drops all else where it is
 * sent.  Who knows the token, the same user or root, can keep a pager waiting all the same.
 */
#ifndef FL_PORT_H
#define FL_PORT_H

#include <stddef.h>
#include <stdint.h>

/* The messages that a port hears: so long, with these words so far from their beginning. */
struct port_heard {
	uint32_t bytes;
	uint32_t at;
	const uint64_t *token;
	uint32_t words;
};

/* The descriptor, or -errno.  The kernel chooses the name, of *len bytes, `room` at most. */
int port_open(const struct port_heard *heard, char *name, size_t room, uint32_t *len);

#endif
