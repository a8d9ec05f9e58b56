/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * aside.c - closing what others gave us; see aside.h.
 *
 * Accepted: as many descriptors that are never closed as there are threads keep all others
 * waiting, which stay open.  A user can bring that about with his own files, and is found
 * by their number, as are others whose wait then; the process's end waits for them in the kernel.
 */
#include "aside.h"

#include "sys.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 8U
#define STACK_BYTES ((size_t)64 << 10)
#define USERS 64U /* whose numbers are kept; of others they are one */
/* What may wait of one user: while nothing has been closed for so long, and ever. */
#define STUCK_MAX 64U
#define STUCK_NS 5000000000U
#define WAITING_MAX 8192U

struct closing {
	struct closing *next;
	int fd;
	unsigned place; /* where it is counted */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct closing *first, **last = &first; /* under the lock, as all that follows */
static bool running;
static unsigned total;
static uint64_t moved; /* when one was closed last, or there was none to close, ns */
static struct {
	uid_t uid;
	unsigned n;
} waiting[USERS];

/* Where a user is counted: the last place is for those who find no other. */
static unsigned place_of(uid_t uid)
{
	unsigned free = USERS - 1;

	for (unsigned i = 0; i < USERS - 1; i++) {
		if (waiting[i].n != 0 && waiting[i].uid == uid)
			return i;
		if (waiting[i].n == 0 && free == USERS - 1)
			free = i;
	}
	return free;
}

static void *close_all(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;;) {
		struct closing *c = first;

		if (c == NULL) {
			pthread_cond_wait(&more, &lock);
			continue;
		}
		first = c->next;
		if (first == NULL)
			last = &first;
		pthread_mutex_unlock(&lock);
		close(c->fd);
		pthread_mutex_lock(&lock);
		waiting[c->place].n--;
		total--;
		moved = sys_now();
		free(c);
	}
	return arg;
}

int aside_start(void)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);

	if (err == 0)
		err = pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (err == 0)
		err = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (unsigned i = 0; err == 0 && i < THREADS; i++) {
		pthread_t thread;

		err = pthread_create(&thread, &attr, close_all, NULL);
	}
	running = err == 0;
	return -err;
}

void aside_close(int fd, uid_t from)
{
	struct closing *c = fd >= 0 && running ? malloc(sizeof(*c)) : NULL;

	if (fd < 0)
		return;
	if (c == NULL) {
		close(fd);
		return;
	}
	pthread_mutex_lock(&lock);
	if (total++ == 0)
		moved = sys_now();
	*c = (struct closing){.fd = fd, .place = place_of(from)};
	if (waiting[c->place].n++ == 0)
		waiting[c->place].uid = from;
	*last = c;
	last = &c->next;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
}

bool aside_full(uid_t from)
{
	bool full = false;

	pthread_mutex_lock(&lock);
	if (total >= STUCK_MAX) {
		unsigned n = waiting[place_of(from)].n;

		full = n >= WAITING_MAX || (n >= STUCK_MAX && sys_now() - moved >= STUCK_NS);
	}
	pthread_mutex_unlock(&lock);
	return full;
}
