/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * node.c - the table of inodes below MNT/files that the kernel knows.
 *
 * The kernel counts its lookups of an inode and gives them back with forget;
 * at zero the node goes.  A node is looked for and counted up under the lock,
 * counted down and removed under the same: so nobody gets one that is about to
 * go.  Opening and closing descriptors is done outside it.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BUCKETS_FIRST 1024U

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node **buckets;
static size_t nbuckets; /* a power of two */
static size_t nnodes;

static struct node **bucket(dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 32)) * 0x9e3779b97f4a7c15U;

	return &buckets[(h >> 32) & (nbuckets - 1)];
}

/* Double the table; where that fails it stays as it is, and chains get longer. */
static void grow(void)
{
	size_t old = nbuckets, n = old == 0 ? BUCKETS_FIRST : old * 2;
	struct node **from = buckets, **to = calloc(n, sizeof(struct node *));

	if (to == NULL)
		return;
	buckets = to;
	nbuckets = n;
	for (size_t i = 0; i < old; i++) {
		for (struct node *x = from[i], *next; x != NULL; x = next) {
			struct node **b = bucket(x->dev, x->ino);

			next = x->next;
			x->next = *b;
			*b = x;
		}
	}
	free(from);
}

static struct node *find(dev_t dev, ino_t ino)
{
	struct node *n = *bucket(dev, ino);

	while (n != NULL && (n->ino != ino || n->dev != dev))
		n = n->next;
	return n;
}

struct node *node_get(int fd, const struct stat *st)
{
	struct node *n, *fresh = calloc(1, sizeof(*fresh));

	pthread_mutex_lock(&lock);
	if (nnodes >= nbuckets)
		grow();
	n = nbuckets != 0 ? find(st->st_dev, st->st_ino) : NULL;
	if (n == NULL && fresh != NULL && nbuckets != 0) {
		struct node **b = bucket(st->st_dev, st->st_ino);

		n = fresh;
		n->fd = fd;
		n->type = st->st_mode & S_IFMT;
		n->dev = st->st_dev;
		n->ino = st->st_ino;
		n->next = *b;
		*b = n;
		nnodes++;
		tally_add(&tally.nodes, 1);
		fresh = NULL;
		fd = -1;
	}
	if (n != NULL)
		n->nlookup++;
	pthread_mutex_unlock(&lock);
	free(fresh);
	if (fd >= 0)
		close(fd);
	return n;
}

int node_open_path(dev_t dev, ino_t ino, struct node **out)
{
	struct node *n;
	int fd = -ESTALE;

	pthread_mutex_lock(&lock);
	n = nbuckets != 0 ? find(dev, ino) : NULL;
	if (n != NULL)
		fd = fcntl(n->fd, F_DUPFD_CLOEXEC, 3);
	if (n != NULL && fd < 0)
		fd = -errno;
	pthread_mutex_unlock(&lock);
	*out = n;
	return fd;
}

void node_forget(struct node *n, uint64_t nlookup)
{
	struct node **link;

	pthread_mutex_lock(&lock);
	n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
	if (n->nlookup != 0) {
		pthread_mutex_unlock(&lock);
		return;
	}
	for (link = bucket(n->dev, n->ino); *link != n; link = &(*link)->next)
		continue;
	*link = n->next;
	nnodes--;
	tally_sub(&tally.nodes, 1);
	pthread_mutex_unlock(&lock);
	close(n->fd);
	free(n);
}

void node_forget_all(void)
{
	for (size_t i = 0; i < nbuckets; i++) {
		while (buckets[i] != NULL) {
			struct node *n = buckets[i];

			buckets[i] = n->next;
			close(n->fd);
			free(n);
		}
	}
	free(buckets);
	buckets = NULL;
	nbuckets = nnodes = 0;
}
