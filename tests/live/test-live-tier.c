/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tier of compressed pages: what compresses stays in memory and comes back
 * without I/O, what does not goes to an area; the pool is bounded and counts to
 * the limit, its coldest pages are written through; every call that knows
 * states of pages knows this one.
 */
#include "live.h"

#include <time.h>
#include <unistd.h>

#define LIMIT (8 * MIB)
#define POOL (2 * MIB)

static struct fl_options tiered(enum fl_compress kind, uint64_t pool)
{
	struct fl_options o = live_options(LIMIT);

	o.compress = kind;
	o.pool = pool;
	return o;
}

/* A page of text-like content: about a third of it is random. */
static uint64_t soft_word(uint64_t tag, size_t page, size_t i)
{
	uint64_t w = live_word(tag * 1000003 + page, i);

	return i % 3 == 0 ? w : w & 0x0f;
}

static void soft_fill(char *mem, size_t first, size_t n, uint64_t tag)
{
	for (size_t p = first; p < first + n; p++)
		for (size_t i = 0; i < WORDS; i++)
			live_page(mem, p)[i] = soft_word(tag, p, i);
}

/* `at`: the page number that it was filled with, less that of where it is. */
static size_t soft_wrong_at(char *mem, size_t first, size_t n, uint64_t tag, size_t at)
{
	size_t wrong = 0;

	for (size_t p = first; p < first + n; p++)
		for (size_t i = 0; i < WORDS; i++)
			wrong += live_page(mem, p)[i] != soft_word(tag, p + at, i);
	return wrong;
}

static void soft_check(char *mem, size_t first, size_t n, uint64_t tag)
{
	assert_int_equal(soft_wrong_at(mem, first, n, tag, 0), 0);
}

static void they_stay_in_memory(void **state)
{
	static const enum fl_compress kinds[] = {FL_COMPRESS_LZ4, FL_COMPRESS_ZSTD};
	const size_t n = 512;

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct fl_options o = tiered(kinds[k], POOL);
		struct fl *fl = live_armed(&o);
		char *mem = live_map(fl, n);
		struct fl_stats s;

		soft_fill(mem, 0, n, k);
		live_out(fl, mem, n);
		assert_int_equal(live_count(fl, mem, n, FL_PAGE_COMPRESSED), n);
		s = live_stats(fl);
		assert_int_equal(s.compressed, n);
		assert_true(s.compressed_bytes < n * PG * 3 / 4);
		/* not even the words that are random take less */
		assert_true(s.compressed_bytes > n * PG / 3);
		assert_true(s.pool * PG >= s.compressed_bytes);
		soft_check(mem, 0, n, k);
		s = live_stats(fl);
		assert_int_equal(s.writes + s.reads + s.faults_major + s.faults_swap, 0);
		assert_true(s.faults_compressed > 0);
		assert_int_equal(s.compressed, 0);
		assert_int_equal(live_count(fl, mem, n, FL_PAGE_PRESENT), n);
		assert_int_equal(fl_close(fl), 0);
		soft_check(mem, 0, n, k);
		munmap(mem, n * PG);
	}
}

static void what_does_not_compress_goes_to_an_area(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, 256);
	struct fl_stats s;

	(void)state;
	for (size_t p = 0; p < 256; p += 2) {
		soft_fill(mem, p, 1, 7);
		live_fill(mem, p + 1, 1, 7);
	}
	live_out(fl, mem, 256);
	assert_int_equal(live_count(fl, mem, 256, FL_PAGE_COMPRESSED), 128);
	assert_int_equal(live_count(fl, mem, 256, FL_PAGE_SWAPPED), 128);
	for (size_t p = 0; p < 256; p++)
		assert_int_equal(!!(live_state(fl, mem + p * PG) & FL_PAGE_HAS_SLOT), p % 2);
	s = live_stats(fl);
	assert_int_equal(s.compress_rejects, 128);
	assert_int_equal(s.write_pages, 128);
	for (size_t p = 0; p < 256; p += 2) {
		soft_check(mem, p, 1, 7);
		live_check(mem, p + 1, 1, 7);
	}
	assert_int_equal(live_stats(fl).csum_errors, 0);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, 256 * PG);
}

static void the_pool_is_bounded_and_written_through(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	struct fl *fl = live_armed(&o);
	const size_t n = 6 * LIMIT / PG;
	char *mem = live_map(fl, n);
	uint64_t seed = 99;
	struct fl_stats s;

	(void)state;
	soft_fill(mem, 0, n, 1);
	s = live_stats(fl);
	assert_true(s.pool * PG <= POOL);
	assert_true(s.pool * PG > POOL / 2);
	assert_true(s.resident + s.staged + s.pool <= LIMIT / PG);
	assert_true(s.resident_max <= LIMIT / PG);
	assert_true(s.written_through > 0);
	assert_true(s.swapped > 0 && s.compressed > 0);
	/* at random, a third of it written: from all states */
	for (unsigned k = 0; k < 20000; k++) {
		size_t p = (size_t)(seed >> 20) % n;

		seed = seed * 6364136223846793005U + 1442695040888963407U;
		if (k % 3 == 0)
			soft_fill(mem, p, 1, 1);
		else if (live_page(mem, p)[k % WORDS] != soft_word(1, p, k % WORDS))
			fail_msg("page %zu word %zu is wrong", p, k % WORDS);
	}
	s = live_stats(fl);
	assert_true(s.pool * PG <= POOL);
	assert_true(s.resident_max <= LIMIT / PG);
	assert_true(s.faults_compressed > 0 && s.faults_swap > 0);
	soft_check(mem, 0, n, 1);
	assert_int_equal(live_stats(fl).csum_errors + live_stats(fl).io_errors, 0);
	/* nothing is left of what is given back */
	assert_int_equal(fl_munmap(fl, mem, n * PG), 0);
	s = live_stats(fl);
	assert_int_equal(s.compressed + s.compressed_bytes + s.swapped, 0);
	until(live_stats(fl).slots_used == 0);
	assert_true(live_stats(fl).pool <= 6 * 16);
	assert_int_equal(fl_close(fl), 0);
}

static void without_an_area_the_tier_is_alone(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, 4 * MIB);
	const size_t n = LIMIT / PG + 128;
	struct fl *fl;
	char *mem;
	void *p;

	(void)state;
	o.no_swap = 1;
	fl = live_armed(&o);
	mem = live_map(fl, n);
	for (unsigned round = 0; round < 3; round++) {
		soft_fill(mem, 0, n, round);
		soft_check(mem, 0, n, round);
		/* pages that do not compress stay in frames: they must not be in each other's way */
		for (size_t i = 0; i < n; i += 16)
			live_fill(mem, i, 1, round);
		for (size_t i = 0; i < n; i++)
			if (i % 16 == 0)
				live_check(mem, i, 1, round);
			else
				soft_check(mem, i, 1, round);
	}
	assert_int_equal(live_stats(fl).slots_total + live_stats(fl).writes, 0);
	assert_true(live_stats(fl).resident_max <= LIMIT / PG);
	/* what could never be kept is not promised */
	p = fl_mmap(fl, NULL, 64 * LIMIT, RW, ANON, -1, 0);
	assert_ptr_equal(p, FL_FAILED);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

static void a_clean_page_is_not_compressed_again(void **state)
{
	static const enum fl_wp wps[] = {FL_WP_AUTO, FL_WP_SYNC, FL_WP_OFF};

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
		struct fl *fl;
		struct fl_stats before, after;
		char *mem;

		o.wp = wps[k];
		fl = live_armed(&o);
		mem = live_map(fl, 64);
		soft_fill(mem, 0, 64, 3);
		live_out(fl, mem, 64);
		before = live_stats(fl);
		soft_check(mem, 0, 64, 3);
		/* the objects are still there */
		assert_int_equal(live_stats(fl).compressed_bytes, before.compressed_bytes);
		assert_int_equal(live_stats(fl).compressed, 0);
		live_page(mem, 5)[9]++;
		live_out(fl, mem, 64);
		after = live_stats(fl);
		assert_int_equal(after.dropped_clean - before.dropped_clean, 63);
		assert_int_equal(after.compressed, 64);
		live_page(mem, 5)[9]--;
		soft_check(mem, 0, 64, 3);
		assert_int_equal(fl_close(fl), 0);
		munmap(mem, 64 * PG);
	}
}

static void calls_know_compressed_pages(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, 512);
	char *to = live_map(fl, 512);
	struct fl_stats s;

	(void)state;
	soft_fill(mem, 0, 512, 4);
	live_out(fl, mem, 512);
	/* emptied: zeros, and its objects are gone */
	assert_int_equal(fl_madvise(fl, mem, 64 * PG, MADV_DONTNEED), 0);
	assert_int_equal(live_stats(fl).compressed, 448);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_NONE), 64);
	for (size_t p = 0; p < 64; p++)
		assert_int_equal(live_page(mem, p)[p], 0);
	/* advice that they will be needed needs no I/O, and brings nothing */
	s = live_stats(fl);
	assert_int_equal(fl_madvise(fl, mem, 512 * PG, MADV_WILLNEED), 0);
	assert_int_equal(live_stats(fl).compressed, 448);
	assert_int_equal(live_stats(fl).reads, s.reads);
	/* moved while compressed, and with an object beside the frame */
	soft_check(mem, 100, 20, 4);
	assert_ptr_equal(fl_mremap(fl, mem + 64 * PG, 128 * PG, 128 * PG,
				   MREMAP_MAYMOVE | MREMAP_FIXED, to + 32 * PG),
			 to + 32 * PG);
	assert_int_equal(live_count(fl, to + 32 * PG, 128, FL_PAGE_COMPRESSED) +
				 live_count(fl, to + 32 * PG, 128, FL_PAGE_PRESENT),
			 128);
	assert_int_equal(soft_wrong_at(to, 32, 128, 4, 32), 0);
	live_out(fl, to + 32 * PG, 128);
	assert_int_equal(soft_wrong_at(to, 32, 128, 4, 32), 0);
	/* brought back by their advice, and by being locked */
	assert_int_equal(fl_madvise(fl, mem + 192 * PG, 64 * PG, MADV_POPULATE_READ), 0);
	assert_int_equal(live_count(fl, mem + 192 * PG, 64, FL_PAGE_PRESENT), 64);
	assert_int_equal(fl_mlock(fl, mem + 256 * PG, 64 * PG), 0);
	assert_int_equal(live_count(fl, mem + 256 * PG, 64, FL_PAGE_PRESENT), 64);
	assert_int_equal(fl_munlock(fl, mem + 256 * PG, 64 * PG), 0);
	/* read-only, they come and go all the same */
	assert_int_equal(fl_mprotect(fl, mem + 320 * PG, 64 * PG, PROT_READ), 0);
	soft_check(mem, 320, 64, 4);
	live_out(fl, mem + 320 * PG, 64);
	soft_check(mem, 320, 64, 4);
	/* a lower limit leaves less for the pool, and a higher one as much as before */
	live_out(fl, mem + 192 * PG, 320);
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
	s = live_stats(fl);
	assert_true(s.resident + s.staged + s.pool <= FL_LIMIT_MIN / PG);
	soft_check(mem, 192, 320, 4);
	assert_int_equal(fl_set_limit(fl, 2 * LIMIT), 0);
	soft_check(mem, 192, 320, 4);
	assert_int_equal(live_stats(fl).csum_errors, 0);
	assert_int_equal(fl_close(fl), 0);
	soft_check(mem, 192, 320, 4);
	munmap(mem, 512 * PG);
	munmap(to, 512 * PG);
}

static void an_area_is_taken_off_under_it(void **state)
{
	char path[256];
	const struct fl_swap_spec areas[2] = {
		{.path = path, .size = 64 * MIB, .prio = 9},
		{.size = 64 * MIB, .prio = 1},
	};
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	const size_t n = 4 * LIMIT / PG;
	struct fl *fl;
	char *mem;

	(void)state;
	snprintf(path, sizeof(path), "%s/test-tier-%d", live_dir(), (int)getpid());
	o.areas = areas;
	o.nareas = 2;
	fl = live_armed(&o);
	mem = live_map(fl, n);
	soft_fill(mem, 0, n, 6);
	assert_true(live_stats(fl).written_through > 0);
	assert_int_equal(fl_swapoff(fl, path), 0);
	soft_check(mem, 0, n, 6);
	assert_true(live_stats(fl).resident_max <= LIMIT / PG);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

struct hammer {
	pthread_t thread;
	char *mem;
	size_t first;
	uint64_t seed;
	uint64_t version[512]; /* of each page; 0: never written */
	size_t wrong;
};

static void *hammer_pages(void *arg)
{
	struct hammer *h = arg;

	for (unsigned k = 0; k < 10000; k++) {
		size_t p = (size_t)(h->seed >> 33) % 512;

		h->seed = h->seed * 6364136223846793005U + 1442695040888963407U;
		if (h->version[p] != 0)
			h->wrong += soft_wrong_at(h->mem, h->first + p, 1, h->version[p], 0);
		if (k % 2 != 0)
			soft_fill(h->mem, h->first + p, 1, ++h->version[p]);
	}
	return NULL;
}

static void threads_share_a_pool(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, MIB);
	static struct hammer h[4];
	struct fl *fl;
	char *mem;

	(void)state;
	o.limit = 3 * MIB;
	o.pagers = 2;
	fl = live_armed(&o);
	mem = live_map(fl, 4 * 512);
	for (unsigned i = 0; i < 4; i++) {
		h[i] = (struct hammer){.mem = mem, .first = i * 512, .seed = i + 1};
		assert_int_equal(pthread_create(&h[i].thread, NULL, hammer_pages, &h[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(h[i].thread, NULL), 0);
		assert_int_equal(h[i].wrong, 0);
	}
	assert_true(live_stats(fl).faults_compressed > 0);
	assert_int_equal(live_stats(fl).csum_errors, 0);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, 4 * 512 * PG);
}

/*
 * While one thread pages alone its compressed pages are unpacked into frames of pages
 * that left, and moved.  Each page has the bytes of its last write, also when a second
 * thread ends that, and where a mapping takes no move.
 */
#define MOVED_PAGES 2600UL

struct mover {
	pthread_t thread;
	char *mem;
	uint32_t *tag; /* of each page */
	size_t first, n;
	uint64_t seed;
	size_t wrong;
};

static void *move_about(void *arg)
{
	struct mover *m = arg;

	for (unsigned i = 0; i < 1500; i++) {
		size_t p;

		m->seed ^= m->seed << 13;
		m->seed ^= m->seed >> 7;
		m->seed ^= m->seed << 17;
		p = m->first + m->seed % m->n;
		/* a write first: what is read alone is protected, and copied */
		live_page(m->mem, p)[0] ^= 1;
		live_page(m->mem, p)[0] ^= 1;
		m->wrong += soft_wrong_at(m->mem, p, 1, m->tag[p], 0);
		soft_fill(m->mem, p, 1, ++m->tag[p]);
	}
	return NULL;
}

static void frames_move_to_compressed_pages(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, 6 * MIB);
	uint32_t *tag = calloc(MOVED_PAGES, sizeof(*tag));
	struct mover two[2];
	struct fl_stats s;
	struct fl *fl;
	char *mem;
	time_t end = time(NULL) + HANG_SECONDS;

	(void)state;
	o.near = 1;
	fl = live_armed(&o);
	mem = live_map(fl, MOVED_PAGES);
	assert_int_equal(fl_madvise(fl, mem, MOVED_PAGES * PG, MADV_RANDOM), 0);
	soft_fill(mem, 0, MOVED_PAGES, 0);
	for (unsigned k = 0; k < 2; k++)
		two[k] = (struct mover){.mem = mem,
					.tag = tag,
					.first = k * MOVED_PAGES / 2,
					.n = MOVED_PAGES / 2,
					.seed = k + 1};
	s = live_stats(fl);
	/* where others want the CPU thread and pager are not bound to one for long */
	for (uint64_t before = s.frames_reused; s.frames_reused < before + 100;) {
		assert_true(time(NULL) < end);
		move_about(&two[0]);
		move_about(&two[1]);
		s = live_stats(fl);
		assert_in_range(s.resident_max, 1, s.limit);
	}
	/* half of it takes no move for a while; what is written meanwhile is the other half */
	assert_int_equal(fl_mprotect(fl, mem, MOVED_PAGES / 2 * PG, PROT_READ), 0);
	move_about(&two[1]);
	for (size_t p = 0; p < MOVED_PAGES / 2; p++)
		assert_int_equal(soft_wrong_at(mem, p, 1, tag[p], 0), 0);
	assert_int_equal(fl_mprotect(fl, mem, MOVED_PAGES / 2 * PG, PROT_READ | PROT_WRITE), 0);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(pthread_create(&two[k].thread, NULL, move_about, &two[k]), 0);
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(pthread_join(two[k].thread, NULL), 0);
		assert_int_equal(two[k].wrong, 0);
	}
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
	for (size_t p = 0; p < MOVED_PAGES; p++)
		assert_int_equal(soft_wrong_at(mem, p, 1, tag[p], 0), 0);
	s = live_stats(fl);
	assert_int_equal(s.csum_errors, 0);
	assert_int_equal(fl_close(fl), 0);
	for (size_t p = 0; p < MOVED_PAGES; p++)
		assert_int_equal(soft_wrong_at(mem, p, 1, tag[p], 0), 0);
	munmap(mem, MOVED_PAGES * PG);
	free(tag);
}

/* The memory that pages are packed in was made for a higher limit, and is none to be locked in. */
static void locking_leaves_room_for_the_tier(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, 0);
	const size_t n = 2048;
	struct fl *fl;
	char *mem;

	(void)state;
	o.limit = 16 * MIB;
	fl = live_armed(&o);
	mem = live_map(fl, n);
	soft_fill(mem, 0, n, 1);
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
	assert_int_equal(fl_mlock(fl, mem, 200 * PG), -ENOMEM);
	assert_int_equal(live_stats(fl).locked, 0);
	soft_check(mem, 0, n, 1);
	assert_int_equal(fl_set_limit(fl, 16 * MIB), 0);
	assert_int_equal(fl_mlock(fl, mem, 200 * PG), 0);
	soft_check(mem, 0, n, 1);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

static void what_cannot_be_is_refused(void **state)
{
	struct fl_options o = tiered(FL_COMPRESS_LZ4, MIB / 4);
	const struct fl_swap_spec area = {.size = 64 * MIB, .prio = 1};
	struct fl *fl;

	(void)state;
	o.log = live_log;
	live_log_clear();
	assert_int_equal(fl_open(&fl, &o), -EINVAL);
	assert_string_equal(live_text, "the pool of compressed pages takes 512 KiB to 64 GiB\n");
	o.pool = ((uint64_t)64 << 30) + 1;
	assert_int_equal(fl_open(&fl, &o), -EINVAL);
	/* a quarter of a limit that was not asked for is not refused */
	o.pool = 0;
	o.limit = (uint64_t)1 << 40;
	assert_int_equal(fl_open(&fl, &o), 0);
	assert_int_equal(fl_close(fl), 0);
	o.limit = LIMIT;
	o.compress = (enum fl_compress)3;
	assert_int_equal(fl_open(&fl, &o), -EINVAL);
	o.compress = FL_COMPRESS_NONE;
	o.no_swap = 1;
	assert_int_equal(fl_open(&fl, &o), -EINVAL);
	o.compress = FL_COMPRESS_LZ4;
	o.areas = &area;
	o.nareas = 1;
	assert_int_equal(fl_open(&fl, &o), -EINVAL);
}

/*
 * A page of a private mapping of a file that lost its object to a full pool
 * does not equal the file for that: it was changed.
 */
static void private_pages_of_files_outlive_their_objects(void **state)
{
	const size_t n = 4 * LIMIT / PG;
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	char path[4096];
	struct fl *fl;
	char *p, *a;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/live-tier-%d", live_dir(), (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, 64 * PG), 0);
	fl = live_open(&o);
	p = fl_mmap(fl, NULL, 64 * PG, RW, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	a = live_map(fl, n);
	soft_fill(p, 0, 64, 1);
	/* read back, with objects beside the frames, at every level of the pool */
	for (size_t i = 0; i < n; i += 16) {
		assert_int_equal(fl_madvise(fl, p, 64 * PG, MADV_PAGEOUT), 0);
		soft_check(p, 0, 64, 1);
		soft_fill(a, i, 16, 2);
	}
	soft_check(p, 0, 64, 1);
	soft_check(a, 0, n, 2);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

/* Held changes that are compressed reach their file as any others. */
static void held_pages_are_synced_from_the_pool(void **state)
{
	const size_t n = LIMIT / PG;
	struct fl_options o = tiered(FL_COMPRESS_LZ4, POOL);
	char path[4096], page[PG] __attribute__((aligned(8)));
	struct fl *fl;
	char *p;
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/live-tier-%d", live_dir(), (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(fd, (off_t)(n * PG)), 0);
	fl = live_open(&o);
	p = fl_mmap(fl, NULL, n * PG, RW, MAP_SHARED | FL_MAP_HOLD, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	for (unsigned round = 1; round < 4; round++) {
		soft_fill(p, 0, n, round);
		assert_int_equal(fl_madvise(fl, p, n / 2 * PG, MADV_PAGEOUT), 0);
		assert_true(live_count(fl, p, n, FL_PAGE_COMPRESSED) > 100);
		soft_check(p, n / 8, n / 8, round); /* some come back beside their objects */
		assert_int_equal(pread(fd, page, PG, 0), PG);
		assert_int_equal(soft_wrong_at(page, 0, 1, round, 0) == 0, false);
		assert_int_equal(fl_sync(fl, p, n * PG), 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(pread(fd, page, PG, (off_t)(i * PG)), PG);
			assert_int_equal(soft_wrong_at(page, 0, 1, round, i), 0);
		}
		soft_check(p, 0, n, round);
	}
	/* bringing ahead unpacks, too */
	soft_fill(p, 0, 64, 9);
	assert_int_equal(fl_madvise(fl, p, 64 * PG, MADV_PAGEOUT), 0);
	until(live_count(fl, p, 64, FL_PAGE_COMPRESSED) > 30);
	assert_int_equal(fl_prefetch(fl, p, 64 * PG, -1), 0);
	until(live_count(fl, p, 64, FL_PAGE_PRESENT) == 64);
	soft_check(p, 0, 64, 9);
	soft_check(p, 64, n - 64, 3);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_stay_in_memory),
		cmocka_unit_test(what_does_not_compress_goes_to_an_area),
		cmocka_unit_test(the_pool_is_bounded_and_written_through),
		cmocka_unit_test(without_an_area_the_tier_is_alone),
		cmocka_unit_test(a_clean_page_is_not_compressed_again),
		cmocka_unit_test(calls_know_compressed_pages),
		cmocka_unit_test(an_area_is_taken_off_under_it),
		cmocka_unit_test(threads_share_a_pool),
		cmocka_unit_test(frames_move_to_compressed_pages),
		cmocka_unit_test(locking_leaves_room_for_the_tier),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(private_pages_of_files_outlive_their_objects),
		cmocka_unit_test(held_pages_are_synced_from_the_pool),
	};

	return cmocka_run_group_tests_name("tier", tests, NULL, NULL);
}
