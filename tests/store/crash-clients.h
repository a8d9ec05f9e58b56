/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-clients.h - the processes of a crash course: each is a child that opens a runtime
 * of its own and does what it is told, one order at a time.
 */
#ifndef FL_TEST_CRASH_CLIENTS_H
#define FL_TEST_CRASH_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CLIENTS 2U

enum what {
	OPEN,	/* `file` by `name` unless it is open, mapped if it is to be */
	CLOSE,	/* `file`, if it is open */
	STORE,	/* `seed` into [from, to) of its mapping */
	WRITE,	/* by write(2) */
	MSYNC,	/* pages [from, to), with the flags `seed` */
	FSYNC,	/* `seed`: of the data alone */
	CUT,	/* to `to` bytes; `seed`: by ftruncate(2), not fl_ftruncate() */
	HOLE,	/* [from, to) */
	RENAME, /* `name` to `file` */
	REMOVE, /* `name` */
	CREATE, /* `name` */
	CHECK,	/* that the file is what it should be, mapped and read */
	LOOK,	/* the same of what is in memory, after the server's end */
	/* of memory */
	FILL,	/* all of it with version `seed` */
	VERIFY, /* that it has that, or `file`; `from`: pages may be lost; how many are */
	/* of both */
	END,
};

struct order {
	enum what what;
	uint32_t name, file, seed;
	uint64_t from, to;
};

struct process {
	pid_t pid;
	int sock;
};

extern struct process process[CLIENTS];

void start(struct process *p, unsigned store_flags);
/* Kill it, if it lives. */
void end_it(struct process *p);
void tell(const struct process *p, const struct order *o);
/* How it was done, or -errno: -EBADMSG, something is not what it should be; -EOWNERDEAD, it has ended. */
int64_t hear(const struct process *p);
int64_t order(const struct process *p, const struct order *o);

#endif
