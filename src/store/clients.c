/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clients.c - the list of attached processes; see clients.h.
 *
 * A program that opens several runtimes attaches each.  A number that has become
 * free is given to the next.
 */
#include "clients.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
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
	unsigned taken = 0;
	int err = 0;

	pthread_mutex_lock(&lock);
	for (const struct client *o = list; o != NULL; o = o->next)
		if (o->pid == c->pid)
			taken |= 1U << (o->nr - 1);
	c->nr = 1;
	while (taken >> (c->nr - 1) & 1)
		c->nr++;
	if (c->nr > CLIENT_RUNTIMES)
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

struct client *client_get(pid_t pid, unsigned nr)
{
	struct client *c;

	pthread_mutex_lock(&lock);
	for (c = list; c != NULL && (c->pid != pid || c->nr != nr); c = c->next)
		continue;
	if (c != NULL)
		c->refs++;
	pthread_mutex_unlock(&lock);
	return c;
}

void client_name(pid_t pid, unsigned nr, char name[CLIENT_NAME_MAX])
{
	if (nr == 1)
		snprintf(name, CLIENT_NAME_MAX, "%d", (int)pid);
	else
		snprintf(name, CLIENT_NAME_MAX, "%d.%u", (int)pid, nr % 10);
}

int client_parse(const char *name, pid_t *pid, unsigned *nr)
{
	char *end;
	unsigned long n;

	/* no blanks, signs, zeros in front */
	if (name[0] < '1' || name[0] > '9')
		return -EINVAL;
	n = strtoul(name, &end, 10);
	*nr = 1;
	if (end[0] == '.' && end[1] >= '2' && end[1] < '1' + (int)CLIENT_RUNTIMES) {
		*nr = (unsigned)(end[1] - '0');
		end += 2;
	}
	if (*end != '\0' || n > INT_MAX)
		return -EINVAL;
	*pid = (pid_t)n;
	return 0;
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
