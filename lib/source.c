/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * source.c - the queue of a program's own source; see source.h.
 */
#include "source.h"

#include "pagecache.h"

void source_post(struct source *s, struct file_io *io)
{
	io->next = NULL;
	lock_take(&s->lock);
	if (s->head == NULL)
		s->head = io;
	else
		s->last->next = io;
	s->last = io;
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
	lock_drop(&s->lock);
	futex_wake(&s->seq, 1);
}

struct file_io *source_take(struct source *s)
{
	for (;;) {
		struct file_io *io;
		uint32_t seq;
		bool stop;

		lock_take(&s->lock);
		io = s->head;
		if (io != NULL)
			s->head = io->next;
		stop = s->stop;
		seq = s->seq;
		lock_drop(&s->lock);
		if (io != NULL || stop)
			return io;
		futex_wait(&s->seq, seq, 0);
	}
}

void source_stop(struct source *s)
{
	lock_take(&s->lock);
	s->stop = true;
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
	lock_drop(&s->lock);
	futex_wake(&s->seq, (int)SOURCE_THREADS);
}
