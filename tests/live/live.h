/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live.h - what the tests of a running runtime share: opening and arming one,
 * patterns to know pages by, and waiting for a state (with an end to it).
 */
#ifndef FL_LIVE_H
#define FL_LIVE_H

#include "test.h"

#include "faultline.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define PG 4096UL
#define WORDS (PG / sizeof(uint64_t))
#define MIB (1UL << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

/* ---- what a runtime says ---- */

static char live_text[8192]; /* the lines of the last runtime that was opened with live_log() */
static size_t live_text_len;

static inline void live_log(void *arg, enum fl_log_level level, const char *line)
{
	size_t n = strlen(line);

	(void)arg, (void)level;
	if (live_text_len + n + 2 > sizeof(live_text))
		return;
	memcpy(live_text + live_text_len, line, n);
	live_text[live_text_len + n] = '\n';
	live_text[live_text_len + n + 1] = '\0';
	live_text_len += n + 1;
}

static inline void live_log_clear(void)
{
	live_text_len = 0;
	live_text[0] = '\0';
}

/* ---- opening ---- */

static inline const char *live_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir != NULL ? dir : "/var/tmp";
}

static inline struct fl_options live_options(uint64_t limit)
{
	return (struct fl_options){
		.size = sizeof(struct fl_options),
		.limit = limit,
		.swap_dir = live_dir(),
		.log_level = FL_LOG_WARN,
	};
}

/*
 * FL_STORE, "MNT" or "MNT,io=fuse", has runtimes take their area from a store,
 * those that did not say where they want it.
 */
static inline void live_store(struct fl_options *o, char *mnt, size_t size)
{
	const char *store = getenv("FL_STORE");
	char *comma;

	if (store == NULL || o->nareas != 0 || o->no_swap || o->store != NULL)
		return;
	snprintf(mnt, size, "%s", store);
	comma = strchr(mnt, ',');
	if (comma != NULL)
		*comma = '\0';
	o->store = mnt;
	o->store_flags = comma != NULL ? FL_STORE_FUSE : 0;
}

/* Whether those that did not say how they compress have a pool. */
static inline bool live_compressed(void)
{
	static int there = -1;

	if (there < 0)
		there = getenv("FL_COMPRESS") != NULL;
	return there;
}

/* Until another runtime is opened no content compresses: for a case whose matter is I/O. */
static bool live_hard;

static inline void live_to_slots(void)
{
	live_hard = true;
}

/* FL_COMPRESS, "lz4" or "zstd,512K", has pages compressed, where a runtime did not say how. */
static inline void live_compress(struct fl_options *o)
{
	const char *which = getenv("FL_COMPRESS");
	char *end;

	if (which == NULL || o->compress != FL_COMPRESS_NONE)
		return;
	if (strncmp(which, "lz4", 3) == 0)
		o->compress = FL_COMPRESS_LZ4;
	else if (strncmp(which, "zstd", 4) == 0)
		o->compress = FL_COMPRESS_ZSTD;
	end = strchr(which, ',');
	o->pool = end != NULL ? strtoul(end + 1, &end, 10) * 1024 : 0;
	if (o->compress == FL_COMPRESS_NONE || (end != NULL && strcmp(end, "K") != 0))
		fail_msg("FL_COMPRESS: '%s' is none of lz4, zstd, lz4,512K", which);
}

static inline struct fl *live_open(const struct fl_options *options)
{
	struct fl_options o = *options;
	char mnt[512];
	struct fl *fl;

	live_store(&o, mnt, sizeof(mnt));
	live_compress(&o);
	live_hard = false;
	assert_int_equal(fl_open(&fl, &o), 0);
	return fl;
}

/* A fault is counted after it was answered: a call in between lets the pager finish its round. */
static inline struct fl_stats live_stats(struct fl *fl)
{
	struct fl_stats s;
	unsigned char v;

	assert_int_equal(fl_page_state(fl, (void *)PG, PG, &v), 0);
	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	return s;
}

/* Untouched memory beyond the limit, so that the runtime is armed from now on. */
static inline void live_arm(struct fl *fl)
{
	size_t len = (live_stats(fl).limit + 1024) * PG;

	assert_ptr_not_equal(fl_mmap(fl, NULL, len, RW, ANON | MAP_NORESERVE, -1, 0), FL_FAILED);
	assert_int_equal(live_stats(fl).armed, 1);
}

static inline struct fl *live_armed(const struct fl_options *o)
{
	struct fl *fl = live_open(o);

	live_arm(fl);
	return fl;
}

static inline char *live_map(struct fl *fl, size_t pages)
{
	char *p = fl_mmap(fl, NULL, pages * PG, RW, ANON | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/* ---- content ---- */

/* Random: it does not compress.  With FL_COMPRESS three of four pages do, to two thirds. */
static inline uint64_t live_word(uint64_t tag, size_t i)
{
	uint64_t x = (tag * 512 + i + 1) * 0x9e3779b97f4a7c15U;

	x ^= x >> 29;
	return live_compressed() && !live_hard && tag % 4 != 0 && i % 3 != 0 ? x & 0x0f : x;
}

/* What was stored before is there for whom a touch of the page asks, a source or a handler. */
static inline uint64_t *live_page(char *mem, size_t page)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return (uint64_t *)(void *)(mem + page * PG);
}

/* Pages [first, first + n) get content of their own, by tag and number. */
static inline void live_fill(char *mem, size_t first, size_t n, uint64_t tag)
{
	for (size_t p = first; p < first + n; p++)
		for (size_t i = 0; i < WORDS; i++)
			live_page(mem, p)[i] = live_word(tag * 1000003 + p, i);
}

/* How many words of the pages are not what live_fill() wrote. */
static inline size_t live_wrong(char *mem, size_t first, size_t n, uint64_t tag)
{
	size_t wrong = 0;

	for (size_t p = first; p < first + n; p++)
		for (size_t i = 0; i < WORDS; i++)
			wrong += live_page(mem, p)[i] != live_word(tag * 1000003 + p, i);
	return wrong;
}

static inline void live_check(char *mem, size_t first, size_t n, uint64_t tag)
{
	assert_int_equal(live_wrong(mem, first, n, tag), 0);
}

/* ---- states ---- */

static inline unsigned char live_state(struct fl *fl, const void *addr)
{
	unsigned char v;

	assert_int_equal(fl_page_state(fl, addr, PG, &v), 0);
	return v;
}

static inline enum fl_page_kind live_kind(struct fl *fl, const void *addr)
{
	return FL_PAGE_KIND(live_state(fl, addr));
}

/* How many of n pages are of a kind. */
static inline size_t live_count(struct fl *fl, const void *addr, size_t n, enum fl_page_kind kind)
{
	unsigned char *vec = malloc(n);
	size_t count = 0;

	assert_non_null(vec);
	assert_int_equal(fl_page_state(fl, addr, n * PG, vec), 0);
	for (size_t i = 0; i < n; i++)
		count += FL_PAGE_KIND(vec[i]) == kind;
	free(vec);
	return count;
}

/* How many are in slots, or where there is a pool, compressed. */
static inline size_t live_away(struct fl *fl, const void *addr, size_t n)
{
	return live_count(fl, addr, n, FL_PAGE_SWAPPED) +
	       live_count(fl, addr, n, FL_PAGE_COMPRESSED);
}

static inline bool live_is_out(struct fl *fl, char *mem, size_t n)
{
	unsigned char *vec = malloc(n);
	bool out = true;

	assert_non_null(vec);
	assert_int_equal(fl_page_state(fl, mem, n * PG, vec), 0);
	for (size_t i = 0; i < n; i++) {
		if (FL_PAGE_KIND(vec[i]) == FL_PAGE_PRESENT)
			out = false;
		/* read ahead and not asked for, it equals its slot */
		if (FL_PAGE_KIND(vec[i]) == FL_PAGE_STAGED &&
		    (!(vec[i] & FL_PAGE_HAS_SLOT) || (vec[i] & FL_PAGE_BUSY)))
			out = false;
	}
	free(vec);
	return out;
}

/* Advises so; whether all n pages are out. */
static inline bool live_goes_out(struct fl *fl, char *mem, size_t n)
{
	assert_int_equal(fl_madvise(fl, mem, n * PG, MADV_PAGEOUT), 0);
	return live_is_out(fl, mem, n);
}

/*
 * All n pages leave, into slots, compressed or as words; every write has ended.  A page that
 * the kernel holds for a moment stays where it is: it is advised again.
 */
static inline void live_out(struct fl *fl, char *mem, size_t n)
{
	until(live_goes_out(fl, mem, n));
}

#endif
