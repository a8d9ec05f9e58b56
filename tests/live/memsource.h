/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memsource.h - a source of pages in memory, for tests: it counts, waits and
 * fails as it is told; and a file of known content.
 */
#ifndef FL_MEMSOURCE_H
#define FL_MEMSOURCE_H

#include "live.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

struct memsource {
	char *bytes;
	size_t pages;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned reads, writes, syncs, most_pages;
	unsigned inside, most_inside;	      /* calls under way */
	size_t written;			      /* pages */
	int fail_read, fail_write, fail_sync; /* -errno */
	size_t bad_page;		      /* that alone; SIZE_MAX: all */
	unsigned bad_reads;		      /* of it */
	bool held;			      /* reads wait */
	bool held_write;		      /* writes wait */
	bool held_sync;			      /* syncs wait, but for so many: */
	unsigned let;
	void (*look)(const void *page, size_t number); /* at each page that is written */
};

static inline bool memsource_is_bad(const struct memsource *s, uint64_t offset, size_t length)
{
	return s->bad_page == SIZE_MAX ||
	       (s->bad_page >= offset / PG && s->bad_page * PG < offset + length);
}

static inline void memsource_enter(struct memsource *s, unsigned *calls, size_t length)
{
	pthread_mutex_lock(&s->lock);
	(*calls)++;
	if (length / PG > s->most_pages)
		s->most_pages = (unsigned)(length / PG);
	if (++s->inside > s->most_inside)
		s->most_inside = s->inside;
	pthread_cond_broadcast(&s->changed);
}

static inline int memsource_leave(struct memsource *s, int r)
{
	s->inside--;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static inline int memsource_read(void *ctx, uint64_t offset, void *buf, size_t length)
{
	struct memsource *s = ctx;

	memsource_enter(s, &s->reads, length);
	while (s->held)
		pthread_cond_wait(&s->changed, &s->lock);
	if (s->fail_read != 0 && memsource_is_bad(s, offset, length)) {
		s->bad_reads++;
		return memsource_leave(s, s->fail_read);
	}
	memcpy(buf, s->bytes + offset, length);
	return memsource_leave(s, 0);
}

static inline int memsource_write(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	struct memsource *s = ctx;

	memsource_enter(s, &s->writes, length);
	while (s->held_write)
		pthread_cond_wait(&s->changed, &s->lock);
	for (size_t i = 0; s->look != NULL && i < length / PG; i++)
		s->look((const char *)buf + i * PG, offset / PG + i);
	if (s->fail_write != 0 && memsource_is_bad(s, offset, length))
		return memsource_leave(s, s->fail_write);
	memcpy(s->bytes + offset, buf, length);
	s->written += (length + PG - 1) / PG;
	return memsource_leave(s, 0);
}

static inline int memsource_sync(void *ctx)
{
	struct memsource *s = ctx;

	memsource_enter(s, &s->syncs, 0);
	while (s->held_sync && s->let == 0)
		pthread_cond_wait(&s->changed, &s->lock);
	s->let -= s->held_sync;
	return memsource_leave(s, s->fail_sync);
}

/* Filled as by live_fill() with that tag. */
static inline struct memsource *memsource_new(size_t pages, uint64_t tag)
{
	struct memsource *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->bytes = malloc(pages * PG);
	assert_non_null(s->bytes);
	s->pages = pages;
	s->bad_page = SIZE_MAX;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	live_fill(s->bytes, 0, pages, tag);
	return s;
}

static inline void memsource_set(struct memsource *s, bool *what, bool to)
{
	pthread_mutex_lock(&s->lock);
	*what = to;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* One of the syncs that wait ends so. */
static inline void memsource_end_sync(struct memsource *s, int as)
{
	pthread_mutex_lock(&s->lock);
	s->fail_sync = as;
	s->let++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static inline void memsource_await(struct memsource *s, const unsigned *calls, unsigned n)
{
	pthread_mutex_lock(&s->lock);
	while (*calls < n)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static inline void memsource_end(struct memsource *s)
{
	free(s->bytes);
	free(s);
}

static inline struct fl_backing *memsource_open(struct fl *fl, struct memsource *s,
						unsigned threads)
{
	const struct fl_backing_ops ops = {
		.size = sizeof(ops),
		.read = memsource_read,
		.write = memsource_write,
		.sync = memsource_sync,
		.threads = threads,
	};
	struct fl_backing *b;

	assert_int_equal(fl_backing_open(fl, &b, &ops, s, s->pages * PG), 0);
	return b;
}

static inline char *memsource_map(struct fl *fl, struct fl_backing *b, size_t pages, int flags)
{
	char *p = fl_mmap_backing(fl, NULL, pages * PG, RW, flags, b, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/* ---- a file ---- */

static char memsource_path[4096];

/* n pages, filled as by live_fill() with that tag. */
static inline int live_file(size_t pages, uint64_t tag)
{
	static char buf[256 * PG] __attribute__((aligned(8)));
	int fd;

	snprintf(memsource_path, sizeof(memsource_path), "%s/live-file-%d", live_dir(),
		 (int)getpid());
	unlink(memsource_path);
	fd = open(memsource_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	for (size_t at = 0; at < pages; at += 256) {
		size_t n = pages - at < 256 ? pages - at : 256;

		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; k < WORDS; k++)
				live_page(buf, i)[k] = live_word(tag * 1000003 + at + i, k);
		assert_int_equal(write(fd, buf, n * PG), (ssize_t)(n * PG));
	}
	return fd;
}

static inline void live_file_end(int fd)
{
	close(fd);
	unlink(memsource_path);
}

/* Words of the file's pages, as it is read past us, that are not live_fill()'s of that tag. */
static inline size_t live_file_wrong(int fd, size_t first, size_t n, uint64_t tag)
{
	static char page[PG] __attribute__((aligned(8)));
	size_t wrong = 0;

	for (size_t p = first; p < first + n; p++) {
		assert_int_equal(pread(fd, page, PG, (off_t)(p * PG)), PG);
		for (size_t i = 0; i < WORDS; i++)
			wrong += live_page(page, 0)[i] != live_word(tag * 1000003 + p, i);
	}
	return wrong;
}

/* ---- touches that may raise SIGBUS ---- */

static sigjmp_buf live_escape;

static inline void live_on_bus(int sig)
{
	siglongjmp(live_escape, sig);
}

static inline bool live_bus(volatile char *p)
{
	struct sigaction sa = {.sa_handler = live_on_bus};
	struct sigaction old;
	volatile bool raised = true;

	sigaction(SIGBUS, &sa, &old);
	if (sigsetjmp(live_escape, 1) == 0) {
		(void)*p;
		raised = false;
	}
	sigaction(SIGBUS, &old, NULL);
	return raised;
}

#endif
