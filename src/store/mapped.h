/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped.h - what is behind the mapped files of a client, which gives us descriptors
 * of it (BACKING in store-wire.h): so nothing is read here that the client could not
 * read itself, and nothing is opened.
 *
 * A client that pages a file itself gives its page cache's memfd and the file.  Of a
 * file of ours that it has through the mount we keep the host's: one of the mount
 * would be read by a request to ourselves.  Where we page the file the memfd is one
 * of ours, and stands for the file, as who has it has opened that.
 *
 * Locks: the list's, of all clients; none is taken with it.
 */
#ifndef FL_MAPPED_H
#define FL_MAPPED_H

#include "peek.h"

struct client;

/*
 * A message, whose descriptors are taken over.  `backing` is what the client's regions
 * have for it; 0: it forgets all; without descriptors it forgets that one.
 */
void mapped_told(struct client *c, uint64_t backing, const int *fds, unsigned nfds);

/* For peek_read(): as the callback there. */
int mapped_read(const struct client *c, uint64_t backing, enum peek_part part, uint64_t page,
		unsigned n, char *buf);

#endif
