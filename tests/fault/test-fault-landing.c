/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is read in runs lands in a buffer and is copied into the cache: every word
 * is right while threads read in order and at random, one writes, copies fail
 * or do a part, and the limit, and with it the buffer, gets smaller and larger.
 * Of a huge page nothing is kept where the buffer needs a part of it only.
 */
#include "faultline.h"
#include "mm.h"
#include "sys.h"
#include "../unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <time.h>

#define PG 4096UL
#define PAGES 6144U
#define WORDS (PG / 8)
#define READERS 3U
#define LIMIT ((uint64_t)12 << 20)
#define LANDING_BYTES (4 * PG) /* no other pwrite(2) is as long: write-back goes through the ring */
#define CHANGED 7U	       /* the word of each page that is written */

static uint64_t (*map)[WORDS];
static uint32_t stored[PAGES]; /* the last number in that word; one thread writes it */
static unsigned copies, refused, parts;
static uint32_t stop; /* atomic */

static uint64_t word(uint64_t page, uint64_t i)
{
	uint64_t z = page * 0x9e3779b97f4a7c15ULL + i * 0xd1b54a32d192ed03ULL;

	return (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9ULL;
}

/* Of the copies some fail, and some end in the middle, of a page too. */
static long some_copies_fail(long fd, long buf, long len, long off, long e, long f)
{
	const long nr = sys_table[SYSROW_pwrite].nr;

	if (len >= (long)LANDING_BYTES) {
		switch (__atomic_fetch_add(&copies, 1, __ATOMIC_RELAXED) % 8) {
		case 3:
			__atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
			return -ENOSPC;
		case 6:
			__atomic_fetch_add(&parts, 1, __ATOMIC_RELAXED);
			return sys_bare(nr, fd, buf, len / 2 + 100, off, e, f);
		default:
			break;
		}
	}
	return sys_bare(nr, fd, buf, len, off, e, f);
}

static void check_page(uint64_t page)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&map[page][i], __ATOMIC_RELAXED);

		/* the thread that writes may be ahead of what is known of it */
		if (have == word(page, i) ||
		    (i == CHANGED && have >> 32 == page && (uint32_t)have != 0))
			continue;
		fprintf(stderr, "faultline: page %lu, word %lu: %016lx, not %016lx\n",
			(unsigned long)page, (unsigned long)i, (unsigned long)have,
			(unsigned long)word(page, i));
		abort();
	}
}

static void *read_in_order(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg * (PAGES / READERS);

	for (unsigned rounds = 0; rounds < 3; rounds++)
		for (uint64_t i = 0; i < PAGES; i++)
			check_page((first + i) % PAGES);
	return NULL;
}

static void *touch_at_random(void *arg)
{
	uint64_t x = 88172645463325252U;

	(void)arg;
	for (uint32_t n = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++) {
		uint64_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = x % PAGES;
		if (n % 4 != 0) {
			check_page(page);
			continue;
		}
		/* what only this thread changes is what it left there */
		if (stored[page] != 0 && map[page][CHANGED] != (page << 32 | stored[page]))
			abort();
		stored[page] = n;
		__atomic_store_n(&map[page][CHANGED], page << 32 | n, __ATOMIC_RELAXED);
	}
	return NULL;
}

static int make_file(void)
{
	char path[] = "/var/tmp/faultline-landing.XXXXXX";
	static uint64_t page[WORDS];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	for (uint64_t p = 0; p < PAGES; p++) {
		for (uint64_t i = 0; i < WORDS; i++)
			page[i] = word(p, i);
		assert_int_equal(write(fd, page, PG), PG);
	}
	assert_int_equal(fsync(fd), 0);
	return fd;
}

static void check_file(int fd)
{
	static uint64_t page[WORDS];

	for (uint64_t p = 0; p < PAGES; p++) {
		assert_int_equal(pread(fd, page, PG, (off_t)(p * PG)), PG);
		for (uint64_t i = 0; i < WORDS; i++)
			assert_true(page[i] == (i == CHANGED && stored[p] != 0 ? p << 32 | stored[p]
									       : word(p, i)));
	}
}

static void read_and_write(enum fl_engine engine, unsigned pagers)
{
	struct fl_options o = {
		.size = sizeof(o), .limit = LIMIT, .engine = engine, .pagers = pagers};
	pthread_t reader[READERS], random;
	struct fl_stats s;
	struct fl *fl;
	int fd = make_file();

	memset(stored, 0, sizeof(stored));
	copies = refused = parts = 0;
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	sys_table[SYSROW_pwrite].fn = some_copies_fail;
	assert_int_equal(fl_open(&fl, &o), 0);
	map = fl_mmap(fl, NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true((void *)map != FL_FAILED);
	assert_int_equal(pthread_create(&random, NULL, touch_at_random, NULL), 0);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(
			pthread_create(&reader[i], NULL, read_in_order, (void *)(uintptr_t)i), 0);
	/* as large as before, smaller, none at all */
	for (unsigned i = 0; i < 24; i++) {
		int r = fl_set_limit(fl, i % 3 == 0   ? LIMIT
					 : i % 3 == 1 ? LIMIT * 3 / 4
						      : LIMIT / 3);

		assert_true(r == 0 || r == -ENOMEM);
	}
	assert_int_equal(fl_set_limit(fl, LIMIT), 0);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(random, NULL);
	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	assert_true(s.file_dropped > PAGES);
	assert_int_equal(fl_msync(fl, map, PAGES * PG, MS_SYNC), 0);
	check_file(fd);
	assert_int_equal(fl_close(fl), 0);
	assert_true(copies > 8 && refused != 0 && parts != 0);
	close(fd);
}

static void by_uring(void **state)
{
	(void)state;
	read_and_write(FL_ENGINE_URING, 1);
}

static void by_two_pagers(void **state)
{
	(void)state;
	read_and_write(FL_ENGINE_URING, 2);
}

#define HUGE ((size_t)512)

static size_t landing_frames(const struct landing *l)
{
	unsigned char there[HUGE];
	size_t n = 0;

	assert_int_equal(mincore(l->base, HUGE * PG, there), 0);
	for (size_t i = 0; i < HUGE; i++)
		n += there[i] & 1;
	return n;
}

/* The limit is lowered when half of the file was read, or before any of it. */
static void huge_page_goes(bool read)
{
	struct fl_options o = {.size = sizeof(o), .limit = HUGE * 64 * PG};
	const struct landing *l;
	struct fl *fl;
	int fd = make_file();

	assert_int_equal(fl_open(&fl, &o), 0);
	map = fl_mmap(fl, NULL, PAGES * PG, PROT_READ, MAP_SHARED, fd, 0);
	assert_true((void *)map != FL_FAILED);
	/* struct fl of api.c begins with it */
	l = &(*(struct mm **)(void *)fl)->files.landing;
	assert_int_equal(l->pages, HUGE);
	for (uint64_t i = 0; read && i < PAGES / 2; i++)
		check_page(i);
	assert_true(!read || landing_frames(l) != 0);
	/* it ends in the middle of the huge page, whose frames all go, when no read is in flight to it */
	assert_int_equal(fl_set_limit(fl, LIMIT), 0);
	assert_true(l->pages != 0 && l->pages < HUGE);
	until(landing_frames(l) == 0);
	for (uint64_t i = 0; i < PAGES; i++)
		check_page(i);
	assert_in_range(landing_frames(l), 1, l->pages);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

static void a_huge_page_goes_as_a_whole(void **state)
{
	(void)state;
	huge_page_goes(true);
	huge_page_goes(false);
}

/* ---- a descriptor that cannot be opened again ---- */

static long no_reopening(long dir, long path, long flags, long mode, long e, long f)
{
	if (strstr((const char *)path, "/fd/") != NULL)
		return -EACCES;
	return sys_bare(SYS_openat, dir, path, flags, mode, e, f);
}

/* What was opened for appending would be written to the file's end: it is for reading only. */
static void nothing_is_appended(void **state)
{
	const struct fl_options o = {.size = sizeof(o), .limit = LIMIT};
	int fd = make_file(), flags = fcntl(fd, F_GETFL);
	struct fl *fl;
	sys_fn bare;
	char *p;

	(void)state;
	assert_int_equal(fl_open(&fl, &o), 0);
	bare = sys_table[SYSROW_openat].fn;
	sys_table[SYSROW_openat].fn = no_reopening;
	assert_int_equal(fcntl(fd, F_SETFL, flags | O_APPEND), 0);
	errno = 0;
	assert_ptr_equal(fl_mmap(fl, NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0),
			 FL_FAILED);
	assert_int_equal(errno, EACCES);
	p = fl_mmap(fl, NULL, PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	p[0] = 1;
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
	p = fl_mmap(fl, NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	p[0] = 1;
	assert_int_equal(fl_msync(fl, p, PG, MS_SYNC), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), (off_t)(PAGES * PG));
	assert_int_equal(fl_close(fl), 0);
	sys_table[SYSROW_openat].fn = bare;
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_uring),
		cmocka_unit_test(by_two_pagers),
		cmocka_unit_test(a_huge_page_goes_as_a_whole),
		cmocka_unit_test(nothing_is_appended),
	};

	return cmocka_run_group_tests_name("landing", tests, NULL, NULL);
}
