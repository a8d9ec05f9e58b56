/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clients.c - the list of attached processes; see clients.h.
 *
 * A program that opens several runtimes attaches each; the first is the one
 * that is listed, as a process has one entry in MNT/proc.
 */
#include "clients.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct client *list;
static unsigned count;
static uint64_t last_id;

struct client *client_new(void)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->refs = 1;
	c->sock = c->mem_fd = c->maps_fd = c->pagemap_fd = -1;
	return c;
}

int client_list(struct client *c)
{
	int err = 0;

	pthread_mutex_lock(&lock);
	for (const struct client *o = list; o != NULL; o = o->next)
		if (o->pid == c->pid)
			err = -EEXIST;
	if (err == 0) {
		c->id = ++last_id;
		c->refs++;
		c->next = list;
		list = c;
		count++;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

void client_unlist(struct client *c)
{
	bool listed = false;

	pthread_mutex_lock(&lock);
	for (struct client **at = &list; *at != NULL; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			count--;
			listed = true;
			break;
		}
	pthread_mutex_unlock(&lock);
	__atomic_store_n(&c->gone, true, __ATOMIC_RELEASE);
	if (listed)
		client_put(c);
}

struct client *client_get(pid_t pid)
{
	struct client *c;

	pthread_mutex_lock(&lock);
	for (c = list; c != NULL && c->pid != pid; c = c->next)
		continue;
	if (c != NULL)
		c->refs++;
	pthread_mutex_unlock(&lock);
	return c;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void client_put(struct client *c)
{
	bool last;

	pthread_mutex_lock(&lock);
	last = --c->refs == 0;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	close_fd(c->sock);
	close_fd(c->mem_fd);
	close_fd(c->maps_fd);
	close_fd(c->pagemap_fd);
	free(c);
}

int clients_each(int (*fn)(struct client *c, void *arg), void *arg)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	for (struct client *c = list; r == 0 && c != NULL; c = c->next)
		r = fn(c, arg);
	pthread_mutex_unlock(&lock);
	return r;
}

unsigned clients_count(void)
{
	unsigned n;

	pthread_mutex_lock(&lock);
	n = count;
	pthread_mutex_unlock(&lock);
	return n;
}
