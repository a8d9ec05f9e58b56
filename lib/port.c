/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * port.c - sockets that hear only who knows a token; see port.h.
 */
#include "port.h"

#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WORDS_MAX 2U	    /* of a token */
#define KEEP_ALL UINT32_MAX /* bytes of the message */

/* A classic BPF program, whose last two instructions drop and keep. */
static long attach_filter(long fd, const struct port_heard *heard)
{
	struct sock_filter code[2 + 4 * WORDS_MAX + 2];
	uint32_t half[2 * WORDS_MAX];
	unsigned halves = 2 * heard->words;
	unsigned n = 0, drop = 2 + 2 * halves;
	struct sock_fprog program = {.len = (unsigned short)(drop + 2), .filter = code};

	if (heard->words > WORDS_MAX)
		return -EINVAL;
	memcpy(half, heard->token, halves * sizeof(half[0]));
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0);
	code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, heard->bytes, 0,
					       (uint8_t)(drop - n - 1));
	n++;
	for (unsigned i = 0; i < halves; i++) {
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							 heard->at + i * (uint32_t)sizeof(half[0]));
		/* what it loads is taken for big-endian */
		code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(half[i]),
						       i == halves - 1, (uint8_t)(drop - n - 1));
		n++;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	code[n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, KEEP_ALL);
	return SYS5(setsockopt, fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

int port_open(const struct port_heard *heard, char *name, size_t room, uint32_t *len)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(addr);
	long fd = SYS3(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	long r;

	if (sys_err(fd))
		return (int)fd;
	/* before it has a name that somebody can send to */
	r = attach_filter(fd, heard);
	/* the kernel chooses a name when none is given */
	if (r == 0)
		r = SYS3(bind, fd, &addr, sizeof(addr.sun_family));
	if (r == 0)
		r = SYS3(getsockname, fd, &addr, &size);
	size -= (socklen_t)sizeof(addr.sun_family);
	if (r == 0 && size > room)
		r = -EIO;
	if (r != 0) {
		SYS1(close, fd);
		return (int)r;
	}
	memcpy(name, addr.sun_path, size);
	*len = size;
	return (int)fd;
}
