/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped.c - what is behind clients' mapped files; see mapped.h.
 *
 * A client may have more mapped than we keep descriptors for: what is beyond that cannot be
 * read where it is in its file only.
 */
#include "mapped.h"

#include "aside.h"
#include "clients.h"
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAPPED_MAX 1024U     /* of a client */
#define MAPPED_ALL_MAX 8192U /* of all */

struct mapped {
	struct mapped *next; /* under the lock, as refs and client->mapped */
	uint64_t backing;
	uint32_t refs;
	uid_t from;
	struct stat is; /* the memfd's */
	int memfd;	/* -1: of a server, which is to be free to let go of its memory */
	int fd;		/* the file's; -1: none is known */
	bool stored;	/* it is a file of ours */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned count; /* under the lock */

static void let_go(struct mapped *m)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --m->refs == 0;
	count -= last;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	aside_close(m->memfd, m->from);
	aside_close(m->fd, m->from);
	free(m);
}

/* Take one, or (backing 0) any, off the list; NULL: it has none. */
static struct mapped *take(struct client *c, uint64_t backing)
{
	struct mapped *m = NULL;

	pthread_mutex_lock(&lock);
	for (struct mapped **at = &c->mapped; *at != NULL; at = &(*at)->next)
		if (backing == 0 || (*at)->backing == backing) {
			m = *at;
			*at = m->next;
			c->nmapped--;
			break;
		}
	pthread_mutex_unlock(&lock);
	return m;
}

/* The list gets it, if there is room. */
static bool put(struct client *c, struct mapped *m)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = c->nmapped < MAPPED_MAX && count < MAPPED_ALL_MAX;
	if (room) {
		m->next = c->mapped;
		c->mapped = m;
		c->nmapped++;
		count++;
	}
	pthread_mutex_unlock(&lock);
	return room;
}

static bool is_readable(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_PATH) == 0 && (flags & O_ACCMODE) != O_WRONLY;
}

/* Memory of the kernel's: what is read there cannot keep us. */
static bool is_memfd(int fd)
{
	struct statfs fs;

	return is_readable(fd) && fcntl(fd, F_GET_SEALS) >= 0 && fstatfs(fd, &fs) == 0 &&
	       fs.f_type == TMPFS_MAGIC;
}

/* The file of a descriptor, without a request to a server of its own, which may be us; -1: none. */
static int file_of(int fd, bool *stored)
{
	struct statx st;
	int host;

	if (!is_readable(fd) ||
	    statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) != 0 ||
	    !S_ISREG(st.stx_mode))
		return -1;
	host = shared_host(fd);
	*stored = host != -EXDEV;
	return host == -EXDEV ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : host;
}

void mapped_told(struct client *c, uint64_t backing, const int *fds, unsigned nfds)
{
	struct mapped *m;

	while ((m = take(c, backing)) != NULL)
		let_go(m);
	m = nfds != 0 && is_memfd(fds[0]) ? calloc(1, sizeof(*m)) : NULL;
	if (m != NULL) {
		*m = (struct mapped){.backing = backing, .refs = 1, .from = c->uid, .fd = -1};
		m->memfd = fcntl(fds[0], F_GET_SEALS) & F_SEAL_SHRINK
				   ? -1
				   : fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
		if (nfds > 1)
			m->fd = file_of(fds[1], &m->stored);
		if (fstat(fds[0], &m->is) != 0 || !put(c, m)) {
			aside_close(m->memfd, m->from);
			aside_close(m->fd, m->from);
			free(m);
		}
	}
	for (unsigned i = 0; i < nfds; i++)
		aside_close(fds[i], c->uid);
}

static int read_cached(int memfd, uint64_t page, unsigned n, char *buf)
{
	ssize_t got = pread(memfd, buf, n * PAGE_SIZE, (off_t)(page << PAGE_SHIFT));

	return got >= (ssize_t)PAGE_SIZE ? (int)((size_t)got / PAGE_SIZE) : -EIO;
}

int mapped_read(const struct client *c, uint64_t backing, enum peek_part part, uint64_t page,
		unsigned n, char *buf)
{
	struct mapped *m;
	int got = -EIO;

	pthread_mutex_lock(&lock);
	for (m = c->mapped; m != NULL && m->backing != backing; m = m->next)
		continue;
	if (m != NULL)
		m->refs++;
	pthread_mutex_unlock(&lock);
	if (m == NULL)
		return -EIO;
	if (part == PEEK_SERVED)
		got = shared_bytes_of(&m->is, page, n, buf);
	else if (part == PEEK_CACHED && m->memfd >= 0)
		got = read_cached(m->memfd, page, n, buf);
	else if (part == PEEK_STORED && m->fd >= 0)
		got = shared_bytes(m->fd, m->stored, page, n, buf);
	let_go(m);
	return got;
}
