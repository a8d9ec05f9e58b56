/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a stream reads ahead is let into its mapping before it is touched, but for the
 * first pages of each window: which pages, what is counted, that they are write-protected
 * as any clean page is; that nothing is let in where it may not be wanted, and nothing
 * wrong where mapping or file change before the read has ended; and that every word is right
 * while threads read in order, one stores, the file's end moves through what is being
 * read ahead, reads fail, and copies fail or do a part.
 */
#include "faultline.h"
#include "mm.h"
#include "sys.h"
#include "../unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define WORDS (PG / 8)
#define MIB (1UL << 20)
#define RW (PROT_READ | PROT_WRITE)
#define READ 10240U /* pages that are read and stored to, */
#define TAIL 2048U  /* and behind these some that are cut off */
#define PAGES (READ + TAIL)
#define READERS 2U
#define ROUNDS 3U
#define CUTS 16U
#define CHANGED 7U /* the word of each page that is stored to */

static uint64_t (*map)[WORDS];
static uint32_t stored[PAGES]; /* the last number in that word; one thread stores */
static uint64_t first_lost;    /* of all words, the first that was cut off */
static unsigned reads, copies, refused, halves;
static long (*copy)(long, long, long, long, long, long); /* as it is */
static uint32_t stop;					 /* atomic */

/*
 * While this is set the clock stands there: a read that the disk takes long for is not left behind
 * (detour.h), which would be seen in what is let in, and counted.
 */
static uint64_t still; /* atomic, ns */

uint64_t __real_sys_now(void);
uint64_t __wrap_sys_now(void);
uint64_t __wrap_sys_now(void)
{
	uint64_t at = __atomic_load_n(&still, __ATOMIC_RELAXED);

	return at != 0 ? at : __real_sys_now();
}

static int stop_clock(void **state)
{
	(void)state;
	__atomic_store_n(&still, __real_sys_now(), __ATOMIC_RELAXED);
	return 0;
}

static int start_clock(void **state)
{
	(void)state;
	__atomic_store_n(&still, 0, __ATOMIC_RELAXED);
	return 0;
}

static uint64_t word(uint64_t page, uint64_t i)
{
	uint64_t z = page * 0x9e3779b97f4a7c15ULL + i * 0xd1b54a32d192ed03ULL;

	return (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9ULL;
}

static void write_words(int fd, uint64_t page, uint64_t end)
{
	static uint64_t buf[64][WORDS];

	assert_int_equal((end - page) % 64, 0);
	for (; page < end; page += 64) {
		for (uint64_t i = 0; i < 64 * WORDS; i++)
			buf[i / WORDS][i % WORDS] = word(page + i / WORDS, i % WORDS);
		assert_int_equal(pwrite(fd, buf, sizeof(buf), (off_t)(page * PG)), sizeof(buf));
	}
}

static int make_file(size_t pages)
{
	char path[] = "/var/tmp/faultline-ahead.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	write_words(fd, 0, pages);
	assert_int_equal(fsync(fd), 0);
	return fd;
}

static void check_word(uint64_t page, uint64_t i, uint64_t have, uint64_t want)
{
	if (have == want)
		return;
	fprintf(stderr, "faultline: page %lu, word %lu: %016lx, not %016lx\n", (unsigned long)page,
		(unsigned long)i, (unsigned long)have, (unsigned long)want);
	abort();
}

static void check_page(uint64_t page)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&map[page][i], __ATOMIC_RELAXED);

		/* the thread that stores may be ahead of what is known of it */
		if (i != CHANGED || have >> 32 != page || (uint32_t)have == 0)
			check_word(page, i, have, word(page, i));
	}
}

/* What was cut off is zeros, and nobody stores there. */
static void check_tail(uint64_t page)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		uint64_t have = __atomic_load_n(&map[page][i], __ATOMIC_RELAXED);

		check_word(page, i, have, page * WORDS + i < first_lost ? word(page, i) : 0);
	}
}

/* ---- which pages, and what is counted ---- */

static struct pagecache *cache(struct fl *fl)
{
	/* struct fl of api.c begins with it */
	return (*(struct mm **)(void *)fl)->files.first;
}

static uint32_t word_of(struct fl *fl, uint64_t page)
{
	return __atomic_load_n(&cache(fl)->chunk[0]->word[page], __ATOMIC_ACQUIRE);
}

static struct fl_stats stats(struct fl *fl)
{
	struct fl_stats s;
	unsigned char v;

	/* a fault is counted after it was answered: a call lets the pager finish its round */
	assert_int_equal(fl_page_state(fl, map, PG, &v), 0);
	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	return s;
}

/* Until all of [page, end) was read. */
static void await_pages(struct fl *fl, uint64_t page, uint64_t end)
{
	for (; page < end; page++)
		until(__atomic_load_n(&cache(fl)->chunk[0]->word[page], __ATOMIC_ACQUIRE) &
		      CACHE_UPTODATE);
}

/* Until nothing is being read. */
static void await_read(struct fl *fl)
{
	until(__atomic_load_n(&cache(fl)->reading, __ATOMIC_ACQUIRE) == 0);
	stats(fl);
}

/* Whether the kernel has the page in that mapping. */
static bool is_mapped(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, 8, (off_t)((uintptr_t)page / PG * 8)), 8);
	close(fd);
	return entry >> 63;
}

static struct fl *open_and_map(uint64_t limit, enum fl_engine engine, unsigned pagers, int fd,
			       size_t pages, int prot)
{
	struct fl_options o = {
		.size = sizeof(o), .limit = limit, .engine = engine, .pagers = pagers};
	struct fl *fl;

	assert_int_equal(fl_open(&fl, &o), 0);
	map = fl_mmap(fl, NULL, pages * PG, prot, MAP_SHARED, fd, 0);
	assert_true((void *)map != FL_FAILED);
	return fl;
}

/* The first window is 32 pages, and three as large are read ahead of it. */
static void windows_are_let_in_but_for_their_first_pages(void **state)
{
	int fd = make_file(1024);
	struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_AUTO, 1, fd, 1024, RW);
	struct fl_stats before, after;
	uint64_t there;

	(void)state;
	check_page(0);
	await_pages(fl, 0, 128);
	before = stats(fl);
	assert_int_equal(before.file_major, 1);
	assert_int_equal(before.readahead_hits, 0);
	for (uint64_t page = 0; page < 128; page++)
		assert_int_equal(is_mapped(map[page]), page < 32 || page % 32 >= 8);
	assert_false(is_mapped(map[128]));
	/* nobody is told of the touch of these */
	for (uint64_t page = 0; page < 128; page++)
		if (page < 32 || page % 32 >= 8)
			check_page(page);
	after = stats(fl);
	assert_int_equal(after.file_major + after.file_minor, 1);
	assert_int_equal(after.readahead_hits, 0);
	assert_int_equal(after.file_read_pages, 128);
	/* but of the first store, and of what is beside it nothing becomes writable */
	map[50][CHANGED] = (uint64_t)50 << 32 | 1;
	map[51][CHANGED] = (uint64_t)51 << 32 | 1;
	after = stats(fl);
	assert_int_equal(after.faults_wp, 2);
	assert_int_equal(after.readahead_hits, 2);
	assert_int_equal(after.cache_dirty, 2);
	/* the window is asked for by its first page, whole, and the stream goes on */
	check_page(32);
	after = stats(fl);
	assert_int_equal(after.file_minor, before.file_minor + 3);
	assert_int_equal(after.readahead_hits, 32);
	assert_int_equal(after.file_read_pages, 256);
	for (uint64_t page = 0; page < 64; page++)
		check_page(page);
	assert_int_equal(stats(fl).file_minor, after.file_minor);
	/* one of these is enough: who reads each third page is heard, too */
	await_pages(fl, 128, 256);
	check_page(66);
	after = stats(fl);
	assert_int_equal(after.readahead_hits, 32 + 62);
	assert_int_equal(after.file_read_pages, 512);
	await_pages(fl, 256, 512);
	there = after.file_read_pages;
	/* unmapped by advice, it is like any other */
	assert_int_equal(fl_madvise(fl, map[0], 128 * PG, MADV_COLD), 0);
	assert_false(is_mapped(map[100]));
	before = stats(fl);
	for (uint64_t page = 0; page < 128; page++)
		check_page(page);
	after = stats(fl);
	assert_true(after.file_minor > before.file_minor);
	assert_int_equal(after.file_read_pages, there);
	assert_int_equal(fl_msync(fl, map, 1024 * PG, MS_SYNC), 0);
	for (uint64_t page = 48; page < 54; page++) {
		uint64_t have;

		assert_int_equal(pread(fd, &have, 8, (off_t)(page * PG + CHANGED * 8)), 8);
		assert_true(have ==
			    (page == 50 || page == 51 ? page << 32 | 1 : word(page, CHANGED)));
	}
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

/* Not through one mapping of two, nor at random, where nothing is read ahead, nor by advice that asks for no more than reading. */
static void nothing_is_let_in_where_it_may_not_be_wanted(void **state)
{
	enum { TWO, RANDOM, PREFETCH, WAYS };

	(void)state;
	for (unsigned way = 0; way < WAYS; way++) {
		int fd = make_file(1024);
		struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_AUTO, 1, fd, 1024, RW);
		uint64_t(*other)[WORDS] = NULL;

		if (way == TWO) {
			other = fl_mmap(fl, NULL, 1024 * PG, PROT_READ, MAP_SHARED, fd, 0);
			assert_true((void *)other != FL_FAILED);
		}
		if (way == RANDOM)
			assert_int_equal(fl_madvise(fl, map[0], 1024 * PG, MADV_RANDOM), 0);
		if (way == PREFETCH)
			assert_int_equal(fl_madvise(fl, map[1], 127 * PG, MADV_WILLNEED), 0);
		else
			check_page(0);
		if (way == RANDOM)
			assert_int_equal(stats(fl).file_read_pages, 1);
		else
			await_pages(fl, way == PREFETCH ? 1 : 0, 128);
		for (uint64_t page = 0; page < 128; page++) {
			assert_int_equal(is_mapped(map[page]),
					 way == TWO ? page < 32 : way == RANDOM && page == 0);
			if (other != NULL)
				assert_int_equal(is_mapped(other[page]), page < 32);
		}
		for (uint64_t page = 0; page < 1024; page++)
			check_page(page);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
	}
}

/* ---- what changes while it is read ---- */

static uint32_t slow; /* atomic: behind 32 pages from that one on reads take long */

static long reads_are_slow(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	uint32_t from = __atomic_load_n(&slow, __ATOMIC_RELAXED);

	(void)dev;
	if (op != BLK_READ || from == 0 || off + len <= from * PG)
		return 0;
	return off == from * PG ? 32 * PG : 512;
}

/* Wherever a stream begins: its windows grow, and begin where no touch is heard of. */
static void what_is_read_in_order_is_asked_for(void **state)
{
	static const uint64_t first[] = {0, 53, 119};

	(void)state;
	for (unsigned i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
		int fd = make_file(2048);
		struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_AUTO, 1, fd, 2048, RW);
		struct fl_stats s;

		for (uint64_t page = first[i]; page < 2048; page++) {
			/* all that is read ahead is there, and let in, before it is touched */
			if (page % 8 == 0)
				await_read(fl);
			check_page(page);
		}
		s = stats(fl);
		assert_true(s.file_major + s.file_minor < 1024);
		assert_int_equal(fl_ftruncate(fl, fd, 0), 0);
		s = stats(fl);
		assert_int_equal(s.readahead_misses, 0);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
	}
}

/* Each piece is read by itself, and one of 128 pages takes long. */
static long one_piece_is_slow(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	uint32_t from = __atomic_load_n(&slow, __ATOMIC_RELAXED);

	(void)dev;
	if (op != BLK_READ)
		return 0;
	/* requests that are tried together are tried alone after that */
	if (len > (off == 0 ? 256 : 128) * PG)
		return -EIO;
	return from != 0 && off >= from * PG && off < (from + 128) * PG ? 512 : 0;
}

/*
 * A window of 256 pages is read in two pieces, the second of which no touch is heard of.
 * False: that was read before the first was touched, or it took so long that it was left
 * behind: then its pages are read again, and not by those who were to ask for them.
 */
static bool arrives_late(void)
{
	int fd = make_file(1024);
	struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_URING, 1, fd, 1024, RW);
	bool between;

	__atomic_store_n(&slow, 384, __ATOMIC_RELAXED);
	assert_int_equal(fl_madvise(fl, map, 1024 * PG, MADV_SEQUENTIAL), 0);
	check_page(0);
	await_pages(fl, 0, 384);
	check_page(256);
	stats(fl);
	between = word_of(fl, 500) & CACHE_LOCKED;
	__atomic_store_n(&slow, 0, __ATOMIC_RELAXED);
	await_read(fl);
	for (uint64_t page = 384; page < 1024; page++)
		until((word_of(fl, page) & CACHE_UPTODATE) || stats(fl).file_dropped != 0);
	for (uint64_t page = 0; page < 1024; page++)
		check_page(page);
	await_read(fl);
	if (stats(fl).file_dropped != 0)
		between = false;
	assert_int_equal(fl_ftruncate(fl, fd, 0), 0);
	if (between)
		assert_int_equal(stats(fl).readahead_misses, 0);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	return between;
}

static void what_arrives_late_of_a_window_is_asked_for_with_it(void **state)
{
	unsigned tries = 0;

	(void)state;
	blkio_inject = one_piece_is_slow;
	while (!arrives_late())
		assert_true(++tries < 100);
	blkio_inject = NULL;
}

enum change { CUT, BE_RANDOM, BE_CLOSED, MOVE, MAP_OVER, MAP_TWICE, CHANGES };

/* Of what is read ahead, 128 pages from 128 on.  False: a cut came too late for page 130. */
static bool change(struct fl *fl, int fd, enum change what)
{
	void *p = map;
	bool between;

	switch (what) {
	case CUT:
		between = word_of(fl, 130) & CACHE_LOCKED;
		assert_int_equal(fl_ftruncate(fl, fd, (off_t)(130 * PG + 320)), 0);
		between = between && (word_of(fl, 130) & CACHE_GONE);
		assert_int_equal(fl_ftruncate(fl, fd, (off_t)(1024 * PG)), 0);
		return between;
	case BE_RANDOM:
		assert_int_equal(fl_madvise(fl, map, 1024 * PG, MADV_RANDOM), 0);
		return true;
	case BE_CLOSED:
		assert_int_equal(fl_mprotect(fl, map, 1024 * PG, PROT_NONE), 0);
		return true;
	case MOVE:
		p = fl_mmap(fl, NULL, 1024 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(p != FL_FAILED);
		p = fl_mremap(fl, map, 1024 * PG, 1024 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, p);
		break;
	case MAP_OVER: /* so that what is read is now 16 pages farther on */
		p = fl_mmap(fl, map[16], 1008 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0);
		break;
	default:
		p = fl_mmap(fl, NULL, 1024 * PG, PROT_READ, MAP_SHARED, fd, 0);
		break;
	}
	assert_true(p != FL_FAILED);
	if (what == MOVE)
		map = p;
	return true;
}

/* False: it was read before that. */
static bool changes_in_between(enum change what)
{
	int fd = make_file(1024);
	struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_URING, 1, fd, 1024, RW);
	bool between;

	__atomic_store_n(&slow, 0, __ATOMIC_RELAXED);
	check_page(0);
	await_pages(fl, 0, 128);
	__atomic_store_n(&slow, 128, __ATOMIC_RELAXED);
	check_page(32);
	stats(fl);
	between = change(fl, fd, what);
	if (what != CUT)
		between = word_of(fl, 200) & CACHE_LOCKED;
	__atomic_store_n(&slow, 0, __ATOMIC_RELAXED);
	first_lost = what == CUT ? 130 * WORDS + 40 : UINT64_MAX;
	if (what != CUT)
		await_pages(fl, 128, 256);
	if (between && what != CUT && what != MAP_OVER)
		assert_int_equal(is_mapped(map[200]), what == MOVE);
	if (what == BE_CLOSED)
		assert_int_equal(fl_mprotect(fl, map, 1024 * PG, RW), 0);
	if (what == MAP_OVER)
		map += 16;
	for (uint64_t page = 0; page < 1008; page++)
		check_tail(page);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	return between;
}

static void what_is_read_may_change_meanwhile(void **state)
{
	(void)state;
	blkio_inject = reads_are_slow;
	for (enum change what = 0; what < CHANGES; what++) {
		unsigned tries = 0;

		while (!changes_in_between(what))
			assert_true(++tries < 100);
	}
	blkio_inject = NULL;
}

/* What was let in ahead, and not touched, is taken away, stored to elsewhere, or cut off. */
static void what_was_let_in_may_change(void **state)
{
	enum { DONTNEED, TWICE, PUNCH, CUT_OFF, WAYS };

	(void)state;
	for (unsigned way = 0; way < WAYS; way++) {
		int fd = make_file(1024);
		struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_AUTO, 1, fd, 1024, RW);
		uint64_t(*other)[WORDS] = map;
		struct fl_stats s;

		first_lost = UINT64_MAX;
		check_page(0);
		await_pages(fl, 0, 128);
		stats(fl);
		assert_true((word_of(fl, 110) & CACHE_PLACED) && is_mapped(map[110]));
		switch (way) {
		case DONTNEED:
			assert_int_equal(fl_madvise(fl, map[96], 32 * PG, MADV_DONTNEED), 0);
			assert_false(is_mapped(map[114]));
			check_page(114);
			break;
		case TWICE:
			other = fl_mmap(fl, NULL, 1024 * PG, RW, MAP_SHARED, fd, 0);
			assert_true((void *)other != FL_FAILED);
			for (uint64_t i = 0; i < WORDS; i++)
				check_word(110, i, other[110][i], word(110, i));
			other[111][CHANGED] = (uint64_t)111 << 32 | 1;
			map[112][CHANGED] = (uint64_t)112 << 32 | 1;
			check_word(111, CHANGED, map[111][CHANGED], (uint64_t)111 << 32 | 1);
			check_word(112, CHANGED, other[112][CHANGED], (uint64_t)112 << 32 | 1);
			break;
		case PUNCH:
			assert_int_equal(fl_madvise(fl, map[110], 4 * PG, MADV_REMOVE), 0);
			break;
		default:
			first_lost = 110 * WORDS + 40;
			assert_int_equal(fl_ftruncate(fl, fd, (off_t)(first_lost * 8)), 0);
			assert_int_equal(fl_ftruncate(fl, fd, (off_t)(1024 * PG)), 0);
			break;
		}
		for (uint64_t page = 0; page < 1024; page++) {
			if (way == CUT_OFF)
				check_tail(page);
			else if (way != PUNCH || page < 110 || page >= 114)
				check_page(page);
			else
				for (uint64_t i = 0; i < WORDS; i++)
					check_word(page, i, map[page][i], 0);
		}
		assert_int_equal(fl_msync(fl, map, 1024 * PG, MS_SYNC), 0);
		for (uint64_t page = 106; page < 118; page++) {
			uint64_t want = word(page, CHANGED), have;

			if (way == TWICE && (page == 111 || page == 112))
				want = page << 32 | 1;
			if ((way == PUNCH && page >= 110 && page < 114) ||
			    (way == CUT_OFF && page > 110))
				want = 0;
			assert_int_equal(pread(fd, &have, 8, (off_t)(page * PG + CHANGED * 8)), 8);
			check_word(page, CHANGED, have, want);
		}
		s = stats(fl);
		/* what left unasked, of what was read ahead, and no more */
		if (way == DONTNEED || way == TWICE)
			assert_int_equal(s.readahead_misses, 0);
		else
			assert_true(s.readahead_misses != 0);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
	}
}

static uint64_t old_end; /* the last page of a file that grows */
static unsigned grown;

/* What was read is here, and its end not heard of: the file gets longer. */
static void it_grows(const struct blk_req *req)
{
	/* of pagers, which have descriptors of their own */
	const struct file_io *io = (const struct file_io *)(const void *)req;
	static uint64_t page[WORDS];

	if (req->off > old_end * PG || req->off + req->len <= old_end * PG || grown++ != 0)
		return;
	for (uint64_t p = old_end; p < old_end + 64; p++) {
		for (uint64_t i = 0; i < WORDS; i++)
			page[i] = word(p, i);
		if (sys_bare(SYS_pwrite64, io->pc->fd, (long)page, PG, (long)(p * PG), 0, 0) != PG)
			abort();
	}
}

/* Its last page is read alone, with others, and ahead. */
static void a_file_may_grow_meanwhile(void **state)
{
	static const uint64_t end[] = {0, 20, 100};

	(void)state;
	blkio_inject_data = it_grows;
	first_lost = UINT64_MAX;
	for (unsigned i = 0; i < sizeof(end) / sizeof(end[0]); i++) {
		int fd = make_file(192);
		struct fl *fl;

		assert_int_equal(ftruncate(fd, (off_t)(end[i] * PG + 320)), 0);
		old_end = end[i];
		grown = 0;
		fl = open_and_map(256 * MIB, FL_ENGINE_AUTO, 1, fd, 192, RW);
		for (uint64_t page = 0; page < end[i] + 64; page++)
			check_tail(page);
		assert_true(grown != 0);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
	}
	blkio_inject_data = NULL;
}

static uint64_t new_end; /* the bytes of a file that gets shorter */
static unsigned cuts;

/* What was read is here, and who waits for it has not been answered: the file gets shorter. */
static void it_is_cut(const struct blk_req *req)
{
	const struct file_io *io = (const struct file_io *)(const void *)req;

	if (req->off > 20 * PG || req->off + req->len <= 20 * PG || cuts++ != 0)
		return;
	if (sys_bare(SYS_ftruncate, io->pc->fd, (long)new_end, 0, 0, 0, 0) != 0)
		abort();
}

/* Whether it can be touched: where that raises SIGBUS, the kernel's touch is an error. */
static bool is_there(const void *page)
{
	int fds[2];
	long r;

	assert_int_equal(pipe(fds), 0);
	r = write(fds[1], page, 1);
	assert_true(r == 1 || errno == EFAULT);
	close(fds[0]);
	close(fds[1]);
	return r == 1;
}

/* Of what is read, alone or with others, only what the file still has is let in. */
static void a_file_may_be_cut_meanwhile(void **state)
{
	static const uint64_t end[] = {0, 20 * PG, 20 * PG + 320};
	static const enum fl_engine engine[] = {FL_ENGINE_URING, FL_ENGINE_SYNC};

	(void)state;
	blkio_inject_data = it_is_cut;
	for (unsigned i = 0; i < 12; i++) {
		const uint64_t first = i % 2 == 0 ? 20 : 0;
		int fd = make_file(64);
		struct fl *fl;

		new_end = end[i / 2 % 3];
		first_lost = new_end / 8;
		cuts = 0;
		fl = open_and_map(256 * MIB, engine[i / 6], 1, fd, 64, RW);
		assert_int_equal(is_there(map[first]), first * PG < new_end);
		assert_true(cuts != 0);
		for (uint64_t page = 0; page < 64; page++) {
			assert_int_equal(is_there(map[page]), page * PG < new_end);
			if (page * PG < new_end)
				check_tail(page);
		}
		assert_int_equal(fl_close(fl), 0);
		close(fd);
	}
	blkio_inject_data = NULL;
}

static uint32_t appended; /* atomic */

/* What fills the last page, and then what that page begins with. */
static void *append(void *arg)
{
	static uint64_t rest[WORDS - 40];
	struct iovec iov[2] = {{rest, sizeof(rest)}, {map[20], 320}};
	int fd = *(int *)arg;

	for (uint64_t i = 40; i < WORDS; i++)
		rest[i - 40] = word(20, i);
	if (pwritev(fd, iov, 2, (off_t)(20 * PG + 320)) != PG)
		abort();
	__atomic_store_n(&appended, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* The words are there from the first read on, which is not to be left behind. */
static struct fl *open_and_read(int fd)
{
	struct fl *fl = open_and_map(256 * MIB, FL_ENGINE_URING, 1, fd, 64, RW);

	stop_clock(NULL);
	check_page(10);
	await_read(fl);
	start_clock(NULL);
	return fl;
}

/*
 * Who appends to a file holds its lock while he waits for its old last page, and the read of
 * that waits for him.  False: the read was left behind before the new end was heard of.
 */
static bool appends_from_its_last_page(void)
{
	int fd = make_file(64);
	struct fl *fl;
	pthread_t writer;
	bool between;

	assert_int_equal(ftruncate(fd, (off_t)(20 * PG + 320)), 0);
	assert_int_equal(fsync(fd), 0);
	fl = open_and_read(fd);
	/* what reads directly takes the lock */
	assert_true(cache(fl)->rd.fd != cache(fl)->fd);
	__atomic_store_n(&appended, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&writer, NULL, append, &fd), 0);
	until_within(30, (word_of(fl, 20) & (CACHE_LOCKED | CACHE_UPTODATE)) ||
				 __atomic_load_n(&appended, __ATOMIC_ACQUIRE));
	/* asks for the size */
	assert_int_equal(fl_madvise(fl, map[40], PG, MADV_WILLNEED), 0);
	between = (word_of(fl, 20) & (CACHE_LOCKED | CACHE_GONE)) == (CACHE_LOCKED | CACHE_GONE);
	until_within(30, __atomic_load_n(&appended, __ATOMIC_ACQUIRE));
	pthread_join(writer, NULL);
	for (uint64_t page = 0; page <= 20; page++)
		check_page(page);
	for (uint64_t i = 0; i < WORDS; i++)
		check_word(21, i, map[21][i], i < 40 ? word(20, i) : 0);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	return between;
}

static void await_true(const uint32_t *what)
{
	until_within(30, __atomic_load_n(what, __ATOMIC_ACQUIRE));
}

static char *held; /* a page whose touch waits for the test */

static void *append_held(void *arg)
{
	static uint64_t rest[WORDS - 40];
	struct iovec iov[2] = {{rest, sizeof(rest)}, {held, 320}};

	if (pwritev(*(int *)arg, iov, 2, (off_t)(20 * PG + 320)) != PG)
		abort();
	return NULL;
}

static uint32_t touched; /* atomic */

static void *touch(void *arg)
{
	uint64_t *found = arg;

	*found = __atomic_load_n(&map[20][0], __ATOMIC_RELAXED);
	__atomic_store_n(&touched, 1, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Who waits for a page in which the file's end moves finds what has taken the mapping's place
 * meanwhile.  Its read waits for the file's lock, which who appends holds.  False: it was
 * left before.
 */
static bool is_replaced_while_its_end_moves(void)
{
	int fd = make_file(64), other = make_file(64);
	struct fl *fl;
	const uint32_t *w;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_zeropage zero = {0};
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	pthread_t writer, toucher;
	uint64_t found = 0;
	struct stat st;
	bool between;

	assert_int_equal(ftruncate(fd, (off_t)(20 * PG + 320)), 0);
	assert_int_equal(fsync(fd), 0);
	held = mmap(NULL, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(held != MAP_FAILED && uffd >= 0);
	reg.range.start = zero.range.start = (uintptr_t)held;
	reg.range.len = zero.range.len = PG;
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	fl = open_and_read(fd);
	w = &cache(fl)->chunk[0]->word[20];
	assert_int_equal(pthread_create(&writer, NULL, append_held, &fd), 0);
	until_within(30, fstat(fd, &st) != 0 || st.st_size != (off_t)(20 * PG + 320));
	__atomic_store_n(&touched, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&toucher, NULL, touch, &found), 0);
	until_within(30, __atomic_load_n(w, __ATOMIC_ACQUIRE) & (CACHE_LOCKED | CACHE_UPTODATE));
	/* asks for the size */
	assert_int_equal(fl_madvise(fl, map[40], PG, MADV_WILLNEED), 0);
	assert_true(fl_mmap(fl, map[20], PG, RW, MAP_SHARED | MAP_FIXED, other, 0) == map[20]);
	between = (__atomic_load_n(w, __ATOMIC_ACQUIRE) & (CACHE_LOCKED | CACHE_GONE)) ==
		  (CACHE_LOCKED | CACHE_GONE);
	assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
	pthread_join(writer, NULL);
	await_true(&touched);
	pthread_join(toucher, NULL);
	check_word(20, 0, found, between ? word(0, 0) : found);
	for (uint64_t i = 0; i < WORDS; i++)
		check_word(0, i, map[20][i], word(0, i));
	assert_int_equal(fl_close(fl), 0);
	close(uffd);
	munmap(held, PG);
	close(fd);
	close(other);
	return between;
}

static void who_waits_finds_what_took_the_place(void **state)
{
	unsigned tries = 0;

	(void)state;
	while (!is_replaced_while_its_end_moves())
		assert_true(++tries < 20);
}

static void a_file_may_be_appended_to_from_its_last_page(void **state)
{
	unsigned tries = 0;

	(void)state;
	while (!appends_from_its_last_page())
		assert_true(++tries < 20);
}

/* ---- all at once ---- */

/* Of reads of several pages some fail. */
static long some_reads_fail(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	if (op != BLK_READ || len <= PG)
		return 0;
	return __atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED) % 31 == 7 ? -EIO : 0;
}

/* Of copies of several pages one ends after the half of them, and the rest fails; one fails as a whole. */
static long some_copies_fail(long fd, long cmd, long arg, long d, long e, long f)
{
	struct uffdio_copy *c = (struct uffdio_copy *)arg;
	unsigned n;
	long r;

	if (c->len < 4 * PG)
		return copy(fd, cmd, arg, d, e, f);
	n = __atomic_add_fetch(&copies, 1, __ATOMIC_RELAXED) % 16;
	if (n == 6 || n == 11) {
		__atomic_add_fetch(&refused, 1, __ATOMIC_RELAXED);
		c->copy = -ENOMEM;
		return -ENOMEM;
	}
	if (n == 5) {
		uint64_t whole = c->len;

		__atomic_add_fetch(&halves, 1, __ATOMIC_RELAXED);
		c->len = whole / 2 / PG * PG;
		r = copy(fd, cmd, arg, d, e, f);
		c->len = whole;
		return r == 0 ? -EAGAIN : r;
	}
	return copy(fd, cmd, arg, d, e, f);
}

static void *read_in_order(void *arg)
{
	uint64_t first = (uint64_t)(uintptr_t)arg * (READ / READERS);

	for (unsigned rounds = 0; rounds < ROUNDS; rounds++)
		for (uint64_t i = 0; i < READ; i++)
			check_page((first + i) % READ);
	return NULL;
}

/* Some stores are where the readers are about to be, the others anywhere. */
static void *store(void *arg)
{
	uint64_t x = 88172645463325252U;

	(void)arg;
	for (uint32_t n = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++) {
		uint64_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = n % 4 != 0 ? (uint64_t)n * 5 % READ : x % READ;
		/* what only this thread changes is what it left there */
		if (stored[page] != 0 && map[page][CHANGED] != (page << 32 | stored[page]))
			abort();
		stored[page] = n;
		__atomic_store_n(&map[page][CHANGED], page << 32 | n, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* The file gets shorter and longer again, and is read in order in between: what was cut off is zeros. */
static void cut(struct fl *fl, int fd)
{
	for (unsigned n = 0; n < CUTS; n++) {
		uint64_t page = PAGES - (n + 1) * (TAIL / CUTS);

		for (uint64_t i = READ; i < page; i++)
			check_tail(i);
		/* what is behind it is being read ahead by now */
		first_lost = page * WORDS + 40;
		assert_int_equal(fl_ftruncate(fl, fd, (off_t)(first_lost * 8)), 0);
		check_tail(page);
		assert_int_equal(fl_ftruncate(fl, fd, (off_t)(PAGES * PG)), 0);
		for (uint64_t i = page > READ + 64 ? page - 64 : READ; i < PAGES; i++)
			check_tail(i);
	}
}

static void check_file(int fd)
{
	static uint64_t page[WORDS];

	for (uint64_t p = 0; p < PAGES; p++) {
		assert_int_equal(pread(fd, page, PG, (off_t)(p * PG)), PG);
		for (uint64_t i = 0; i < WORDS; i++) {
			uint64_t want = word(p, i);

			if (i == CHANGED && stored[p] != 0)
				want = p << 32 | stored[p];
			if (p * WORDS + i >= first_lost)
				want = 0;
			check_word(p, i, page[i], want);
		}
	}
}

static void all_at_once(enum fl_engine engine, unsigned pagers)
{
	int fd = make_file(PAGES);
	struct fl *fl;
	pthread_t reader[READERS], storer;
	struct fl_stats s;

	memset(stored, 0, sizeof(stored));
	first_lost = UINT64_MAX;
	reads = copies = refused = halves = 0;
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	blkio_inject = some_reads_fail;
	copy = sys_table[SYSROW_uffd_copy].fn;
	sys_table[SYSROW_uffd_copy].fn = some_copies_fail;
	/* as many pages as land at a time are two pieces of a window */
	fl = open_and_map(32 * MIB, engine, pagers, fd, PAGES, RW);
	assert_int_equal(pthread_create(&storer, NULL, store, NULL), 0);
	for (unsigned i = 0; i < READERS; i++)
		assert_int_equal(
			pthread_create(&reader[i], NULL, read_in_order, (void *)(uintptr_t)i), 0);
	cut(fl, fd);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(storer, NULL);
	s = stats(fl);
	assert_true(s.file_dropped > PAGES && s.readahead_hits > READ / 2);
	assert_true(s.file_errors != 0 && refused != 0 && halves != 0);
	assert_int_equal(fl_msync(fl, map, PAGES * PG, MS_SYNC), 0);
	check_file(fd);
	for (uint64_t page = 0; page < READ; page++)
		check_page(page);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	blkio_inject = NULL;
	sys_table[SYSROW_uffd_copy].fn = copy;
	close(fd);
}

static void every_word_is_right(void **state)
{
	(void)state;
	all_at_once(FL_ENGINE_URING, 1);
}

static void every_word_is_right_with_two_pagers(void **state)
{
	(void)state;
	all_at_once(FL_ENGINE_URING, 2);
}

static void every_word_is_right_with_the_other_engine(void **state)
{
	(void)state;
	all_at_once(FL_ENGINE_SYNC, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(windows_are_let_in_but_for_their_first_pages,
						stop_clock, start_clock),
		cmocka_unit_test_setup_teardown(nothing_is_let_in_where_it_may_not_be_wanted,
						stop_clock, start_clock),
		cmocka_unit_test_setup_teardown(what_is_read_in_order_is_asked_for, stop_clock,
						start_clock),
		cmocka_unit_test_setup_teardown(what_arrives_late_of_a_window_is_asked_for_with_it,
						stop_clock, start_clock),
		cmocka_unit_test_setup_teardown(what_is_read_may_change_meanwhile, stop_clock,
						start_clock),
		cmocka_unit_test_setup_teardown(what_was_let_in_may_change, stop_clock,
						start_clock),
		cmocka_unit_test_setup_teardown(a_file_may_grow_meanwhile, stop_clock, start_clock),
		cmocka_unit_test(a_file_may_be_cut_meanwhile),
		cmocka_unit_test(a_file_may_be_appended_to_from_its_last_page),
		cmocka_unit_test(who_waits_finds_what_took_the_place),
		cmocka_unit_test(every_word_is_right),
		cmocka_unit_test(every_word_is_right_with_two_pagers),
		cmocka_unit_test(every_word_is_right_with_the_other_engine),
	};

	return cmocka_run_group_tests_name("ahead", tests, NULL, NULL);
}
