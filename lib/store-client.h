/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store-client.h - a runtime as client of a store (store-wire.h).
 *
 * The store hands out its areas when pagers start; from then on the runtime
 * pages to them by itself, and listens.  A pager does all of this, in its
 * descriptor table, with the mm lock held, and waits for the server at the
 * start only.  When the server ends, the runtime goes on with what it holds,
 * and tries to attach again STORE_RETRY_NS after the last time, or when the server
 * has its mapped files again (share.h); so does a child that was forked, at once.
 */
#ifndef FL_STORE_CLIENT_H
#define FL_STORE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mm;
struct pager;
struct store;

#define STORE_RETRY_NS 1000000000U

/* For the store mounted at mnt; NULL without memory. */
struct store *stored_new(const char *mnt, bool via_mount);
void stored_free(struct store *s);

/*
 * On the first pager, before the userfaultfd is opened: attach, which fills
 * the areas, and mm->device where we may not open it.  0 or -errno, with one
 * line said.
 */
int stored_attach(struct mm *mm);
/* After the userfaultfd was opened: be woken by the server. */
void stored_listen(struct mm *mm);
/* On a forked child's first pager: attach by itself, without waiting. */
void stored_forked(struct mm *mm);

/* fd is the store's, and has something to say. */
bool stored_ready(struct mm *mm, int fd);
/* There is a server: attach again in the next round. */
void stored_hurry(struct mm *mm);
/* In a round: do what the server asks for; attach again. */
void stored_round(struct pager *p);
/* When stored_round() wants to be called at the latest, in ns from now; UINT64_MAX: when woken. */
uint64_t stored_patience(const struct mm *mm);
/* Where it is mounted; another connection to its server: a descriptor or -errno. */
const char *stored_mount(const struct store *s);
int stored_connect(struct store *s);

/* Messages on a connection: 0, or -errno; receive: -EAGAIN when none waits. */
struct wire_msg;
int stored_send(int fd, const struct wire_msg *m, const int *fds, unsigned nfds);
int stored_receive(int fd, struct wire_msg *m, int *fds, unsigned *nfds);
int stored_await(int fd, uint64_t deadline);

/*
 * The server shows the process's memory to who may read it, and is given descriptors of what is
 * behind mapped files for that (BACKING).  Called when there is one more, and one less, which a
 * region's users is, or was; what cannot be sent at once is in a round.
 */
struct region_users;
void stored_tell(struct mm *mm);
void stored_forget(struct mm *mm, const struct region_users *users);
/* One that *told, 0 at first, says was not told of yet: whether it is now. */
bool stored_say(struct mm *mm, const struct region_users *users, uint32_t *told, const int *fds,
		unsigned nfds);

/* A pager ends: let the server know. */
void stored_close(struct mm *mm);

/*
 * Whether one could attach, from any process: 0 or -errno, with one line in
 * why.  *device: /dev/userfaultfd, to be closed, or -1.
 */
int stored_probe(const char *mnt, bool via_mount, int *device, char *why, size_t why_size);

/*
 * Descriptors of the maps of a served store's areas, for who looks at them:
 * fn is called for each (and fd closed after), until it is not 0.  socket:
 * the path of its socket.
 */
int stored_maps(const char *socket, int (*fn)(const char *name, int fd, uint64_t slots, void *arg),
		void *arg);

#endif
