/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clients.h - the processes that are attached to the store.
 *
 * A client is listed from its attach message to the hang-up of its socket.
 * Whoever looks at one holds a reference; its descriptors are closed with the
 * last.  All fields but refs and gone are written before it is listed and then
 * stay, those of mapped.c aside; the thread that serves clients (attach.c) alone uses sock.
 *
 * Locks: the list's; nothing is called with it held that takes another.
 */
#ifndef FL_CLIENTS_H
#define FL_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CLIENT_RUNTIMES 8U  /* of a process that are listed */
#define CLIENT_NAME_MAX 16U /* "PID.NR" */

struct client {
	struct client *next; /* under the list's lock */
	uint64_t id;	     /* never given to another */
	pid_t pid;	     /* its socket's credentials, as all three */
	unsigned nr;	     /* 1 up to CLIENT_RUNTIMES: which runtime of that process */
	uid_t uid;
	gid_t gid;
	uint32_t refs; /* under the list's lock; the list's own is one of them */
	bool gone;     /* not listed any more; atomic */
	int sock;
	int mem_fd, maps_fd, pagemap_fd; /* of /proc/PID, opened by itself for reading */
	uint64_t mm_addr;      /* in its memory, where it publishes itself; 0: it does not */
	char name[16];	       /* printable, as /proc/PID/comm */
	uint64_t attached_at;  /* CLOCK_REALTIME, seconds */
	struct mapped *mapped; /* mapped.c's, under its lock */
	unsigned nmapped;
};

/* A client with one reference, not listed; NULL without memory. */
struct client *client_new(void);
/* List it, by a reference more, under a number of its own; -EEXIST when its process has too many. */
int client_list(struct client *c);
/* Take it from the list. */
void client_unlist(struct client *c);

/* A reference to that runtime of that process, or NULL. */
struct client *client_get(pid_t pid, unsigned nr);
/* What it is called: "PID", of the first one, or "PID.NR". */
void client_name(pid_t pid, unsigned nr, char name[CLIENT_NAME_MAX]);
/* 0, or -EINVAL: there is one spelling for each. */
int client_parse(const char *name, pid_t *pid, unsigned *nr);
/* Let a reference go: descriptors are closed with the last. */
void client_put(struct client *c);
/* Call fn for each, under the list's lock (fn only copies), until it is not 0: what it returned. */
int clients_each(int (*fn)(struct client *c, void *arg), void *arg);
unsigned clients_count(void);

#endif
