/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Faults on the running kernel: what each kind gives and costs (by counters and
 * page states, not by time), and that a touch of managed memory works wherever
 * an ordinary touch does: in system calls, in signal handlers, under threads.
 */
#include "live.h"

#include "uffd-abi.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static const enum fl_wp wps[] = {FL_WP_AUTO, FL_WP_SYNC, FL_WP_OFF};

static struct fl *open_small(void)
{
	struct fl_options o = live_options(LIMIT);

	return live_armed(&o);
}

static uint64_t seed = 1;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 16) % below;
}

/* Pages of a range that have the given category, by the kernel's page tables. */
static size_t scan(char *mem, size_t n, uint64_t category)
{
	struct page_region runs[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)mem,
		.end = (uintptr_t)mem + n * PG,
		.vec = (uintptr_t)runs,
		.vec_len = 64,
		.category_mask = category,
		.return_mask = category,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t pages = 0;

	assert_true(fd >= 0);
	while (arg.start < arg.end) {
		int r = ioctl(fd, PAGEMAP_SCAN, &arg);

		assert_true(r >= 0);
		for (int i = 0; i < r; i++)
			pages += (runs[i].end - runs[i].start) / PG;
		assert_true(arg.walk_end > arg.start);
		arg.start = arg.walk_end;
	}
	close(fd);
	return pages;
}

/* ---- first touches ---- */

static void a_read_gives_the_zero_page(void **state)
{
	struct fl *fl = open_small();
	char *mem = live_map(fl, 64);
	volatile char sum = 0;

	(void)state;
	for (size_t i = 0; i < 64; i++)
		sum |= mem[i * PG];
	assert_int_equal(sum, 0);
	assert_int_equal(scan(mem, 64, PAGE_IS_PFNZERO), 64);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_PRESENT), 64);
	assert_true(live_stats(fl).faults_zero > 0);
	assert_int_equal(live_stats(fl).faults_anon, 0);
	/* a write then gets a frame of its own, of this page alone */
	mem[5 * PG + 9] = 7;
	assert_int_equal(scan(mem, 64, PAGE_IS_PFNZERO), 63);
	assert_int_equal(mem[5 * PG + 9], 7);
	assert_int_equal(mem[5 * PG + 8], 0);
	/* and dropped, it is zeros again */
	assert_int_equal(fl_madvise(fl, mem, 64 * PG, MADV_DONTNEED), 0);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_NONE), 64);
	assert_int_equal(mem[5 * PG + 9], 0);
	assert_int_equal(fl_close(fl), 0);
}

static void fault_around_grows_with_a_sequence(void **state)
{
	struct fl_options o = live_options(64 * MIB);
	struct fl_stats a, b;
	struct fl *fl;
	char *mem;

	(void)state;
	fl = live_armed(&o);
	/* with a border behind it: what is alike and adjacent is one region */
	mem = live_map(fl, 2049);
	assert_int_equal(fl_mprotect(fl, mem + 2048 * PG, PG, PROT_NONE), 0);
	a = live_stats(fl);
	for (size_t i = 0; i < 2048; i++)
		mem[i * PG] = 1;
	b = live_stats(fl);
	/* 1, 2, 4 ... 512, 512, 512 */
	assert_in_range(b.faults_anon - a.faults_anon, 4, 24);
	assert_int_equal(b.faults_anon - a.faults_anon + b.faults_around - a.faults_around, 2048);
	/* pages in no order come one by one, and so do those of which it is said */
	mem = live_map(fl, 2048);
	a = live_stats(fl);
	for (size_t i = 0; i < 512; i++)
		mem[(i * 997 % 2048) * PG] = 1;
	b = live_stats(fl);
	assert_in_range(b.faults_around - a.faults_around, 0, 16);
	mem = live_map(fl, 256);
	assert_int_equal(fl_madvise(fl, mem, 256 * PG, MADV_RANDOM), 0);
	a = live_stats(fl);
	for (size_t i = 0; i < 256; i++)
		mem[i * PG] = 1;
	b = live_stats(fl);
	assert_int_equal(b.faults_anon - a.faults_anon, 256);
	assert_int_equal(b.faults_around, a.faults_around);
	assert_int_equal(fl_close(fl), 0);
	/* one page is the least that can be asked for */
	o.fault_around = PG;
	fl = live_armed(&o);
	mem = live_map(fl, 256);
	for (size_t i = 0; i < 256; i++)
		mem[i * PG] = 1;
	assert_int_equal(live_stats(fl).faults_anon, 256);
	assert_int_equal(live_stats(fl).faults_around, 0);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- swap-ins ---- */

#define TOUCHERS 64U

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	const volatile uint64_t *word;
	uint64_t got;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	pthread_barrier_wait(t->barrier);
	t->got = *t->word;
	return NULL;
}

static void many_threads_one_read(void **state)
{
	static struct toucher t[TOUCHERS];
	struct fl *fl = open_small();
	char *mem = live_map(fl, 32);
	pthread_barrier_t barrier;

	(void)state;
	assert_int_equal(fl_madvise(fl, mem, 32 * PG, MADV_RANDOM), 0);
	for (unsigned round = 0; round < 8; round++) {
		struct fl_stats a, b;
		size_t page = (round * 7) % 32;

		live_fill(mem, 0, 32, round);
		live_out(fl, mem, 32);
		a = live_stats(fl);
		assert_int_equal(pthread_barrier_init(&barrier, NULL, TOUCHERS), 0);
		for (unsigned i = 0; i < TOUCHERS; i++) {
			t[i] = (struct toucher){.barrier = &barrier,
						.word = live_page(mem, page) + i};
			assert_int_equal(pthread_create(&t[i].thread, NULL, touch, &t[i]), 0);
		}
		for (unsigned i = 0; i < TOUCHERS; i++) {
			assert_int_equal(pthread_join(t[i].thread, NULL), 0);
			assert_true(t[i].got == live_word(round * 1000003UL + page, i));
		}
		pthread_barrier_destroy(&barrier);
		b = live_stats(fl);
		/* one read, or it was unpacked once */
		assert_int_equal(b.reads - a.reads + b.faults_compressed - a.faults_compressed, 1);
		assert_int_equal(b.read_pages - a.read_pages, b.reads - a.reads);
		live_check(mem, 0, 32, round);
	}
	assert_int_equal(fl_close(fl), 0);
}

static void a_scan_is_read_ahead(void **state)
{
	const size_t n = 4 * LIMIT_PAGES;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	struct fl_stats a, b;

	(void)state;
	live_to_slots();
	live_fill(mem, 0, n, 3);
	live_out(fl, mem, n);
	a = live_stats(fl);
	live_check(mem, 0, n, 3);
	b = live_stats(fl);
	/* every page once, in requests of many, and hardly a fault that waits */
	assert_in_range(b.read_pages - a.read_pages, n, n + n / 8);
	assert_true(b.reads - a.reads < n / 8);
	assert_true(b.faults_major - a.faults_major < n / 8);
	assert_true(b.readahead_hits - a.readahead_hits > n / 4);
	assert_true(b.readahead_misses - a.readahead_misses < n / 16);
	/* random order: next to nothing is read that is not asked for */
	live_out(fl, mem, n);
	assert_int_equal(fl_madvise(fl, mem, n * PG, MADV_RANDOM), 0);
	a = live_stats(fl);
	for (size_t i = 0; i < 500; i++) {
		size_t p = i * 1103 % n;

		assert_int_equal(live_wrong(mem, p, 1, 3), 0);
	}
	b = live_stats(fl);
	assert_int_equal(b.read_pages - a.read_pages, 500);
	assert_int_equal(fl_close(fl), 0);
}

static void interleaved_scans_keep_their_windows(void **state)
{
	const size_t n = 3 * LIMIT_PAGES, streams = 4;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	struct fl_stats a, b;

	(void)state;
	live_to_slots();
	live_fill(mem, 0, n, 4);
	live_out(fl, mem, n);
	a = live_stats(fl);
	for (size_t i = 0; i < n / streams; i++)
		for (size_t s = 0; s < streams; s++)
			assert_int_equal(live_wrong(mem, s * (n / streams) + i, 1, 4), 0);
	b = live_stats(fl);
	assert_true(b.faults_major - a.faults_major < n / 4);
	assert_true(b.reads - a.reads < n / 4);
	/* the buffer is small for so many windows: some are read twice */
	assert_in_range(b.read_pages - a.read_pages, n, n * 5 / 3);
	assert_int_equal(fl_close(fl), 0);
}

static void shuffle(size_t *of, size_t n)
{
	for (size_t i = 0; i < n; i++)
		of[i] = i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t k = rnd(i + 1), x = of[i];

		of[i] = of[k];
		of[k] = x;
	}
}

/* Two pages each, the upper one first, in slots far apart: half of the touches wait for the device. */
static void what_is_below_is_read_along(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	size_t *of = calloc(n, sizeof(*of));
	struct fl_stats a, b;

	(void)state;
	assert_non_null(of);
	live_to_slots();
	live_fill(mem, 0, n, 5);
	live_out(fl, mem, n);
	for (unsigned pass = 0; pass < 2; pass++) {
		shuffle(of, n);
		for (size_t i = 0; i < n; i++) {
			live_page(mem, of[i])[1] = live_word(6 + pass, of[i]);
			assert_int_equal(fl_madvise(fl, mem + of[i] * PG, PG, MADV_PAGEOUT), 0);
		}
		live_out(fl, mem, n);
		a = live_stats(fl);
		shuffle(of, n / 2);
		for (size_t i = 0; i < n / 2; i++) {
			for (size_t k = 2; k-- > 0;) {
				const uint64_t *page = live_page(mem, 2 * of[i] + k);

				/* or the touch may wait for what is read along */
				until(!(live_state(fl, page) & FL_PAGE_BUSY));
				assert_true(page[1] == live_word(6 + pass, 2 * of[i] + k));
				assert_true(page[2] == live_word(5 * 1000003 + 2 * of[i] + k, 2));
			}
		}
		b = live_stats(fl);
	}
	assert_true(b.faults_major - a.faults_major < n * 4 / 5);
	assert_true(b.read_pages - a.read_pages < n * 5 / 4);
	free(of);
	assert_int_equal(fl_close(fl), 0);
}

static void without_readahead_a_page_is_read_alone(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl_options o = live_options(LIMIT_PAGES * PG);
	struct fl_stats a, b;
	struct fl *fl;
	char *mem;

	(void)state;
	o.readahead = PG;
	fl = live_armed(&o);
	mem = live_map(fl, n);
	live_fill(mem, 0, n, 7);
	live_out(fl, mem, n);
	a = live_stats(fl);
	live_check(mem, 0, n / 2, 7);
	for (size_t i = 0; i < n / 4; i++)
		live_check(mem, n - 1 - i, 1, 7);
	b = live_stats(fl);
	assert_int_equal(b.read_pages - a.read_pages + b.faults_compressed - a.faults_compressed,
			 n / 2 + n / 4);
	assert_int_equal(b.faults_major - a.faults_major + b.faults_compressed -
				 a.faults_compressed,
			 n / 2 + n / 4);
	assert_int_equal(fl_close(fl), 0);
}

static bool none_busy(struct fl *fl, char *mem, size_t n)
{
	unsigned char vec[256];

	assert_true(n <= sizeof(vec));
	assert_int_equal(fl_page_state(fl, mem, n * PG, vec), 0);
	for (size_t i = 0; i < n; i++)
		if (vec[i] & FL_PAGE_BUSY)
			return false;
	return true;
}

static void advice_shows_in_the_page_states(void **state)
{
	struct fl_options o = live_options(16 * MIB);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, 64);
	char *a, *b, *c;
	struct fl_stats before;
	size_t out_a = 0, out_b = 0;

	(void)state;
	/* PAGEOUT: into slots */
	live_to_slots();
	live_fill(mem, 0, 64, 5);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_PRESENT), 64);
	live_out(fl, mem, 64);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_SWAPPED), 64);
	assert_true(live_state(fl, mem) & FL_PAGE_HAS_SLOT);
	assert_int_equal(scan(mem, 64, PAGE_IS_PRESENT), 0);
	/* WILLNEED: read, and nothing waits when it is touched */
	assert_int_equal(fl_madvise(fl, mem, 32 * PG, MADV_WILLNEED), 0);
	until(none_busy(fl, mem, 64));
	assert_int_equal(live_count(fl, mem, 32, FL_PAGE_STAGED), 32);
	assert_int_equal(live_count(fl, mem + 32 * PG, 32, FL_PAGE_SWAPPED), 32);
	before = live_stats(fl);
	assert_int_equal(live_wrong(mem, 0, 16, 5), 0);
	assert_int_equal(live_stats(fl).faults_major, before.faults_major);
	live_check(mem, 0, 64, 5);
	/* COLD: the next to leave */
	a = live_map(fl, 256);
	b = live_map(fl, 1024);
	live_fill(a, 0, 256, 6);
	live_fill(b, 0, 1024, 7);
	assert_int_equal(fl_madvise(fl, b, 1024 * PG, MADV_COLD), 0);
	assert_int_equal(live_count(fl, b, 1024, FL_PAGE_PRESENT), 1024);
	c = live_map(fl, 8192);
	assert_int_equal(fl_madvise(fl, c, 8192 * PG, MADV_RANDOM), 0);
	for (size_t i = 0; i < 8192 && out_b < 200; i++) {
		c[i * PG] = 1;
		if (i % 16 == 0)
			out_b = 1024 - live_count(fl, b, 1024, FL_PAGE_PRESENT);
	}
	out_a = 256 - live_count(fl, a, 256, FL_PAGE_PRESENT);
	assert_true(out_b >= 200);
	assert_true(out_a < 20);
	live_check(a, 0, 256, 6);
	live_check(b, 0, 1024, 7);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- what leaves, and what is written ---- */

static void a_repeated_word_takes_no_slot(void **state)
{
	struct fl *fl = open_small();
	char *mem = live_map(fl, 256);
	uint64_t *w;
	uint64_t used;

	(void)state;
	live_fill(mem, 0, 1, 1);
	live_out(fl, mem, 1);
	used = live_stats(fl).slots_used;
	for (size_t p = 0; p < 256; p++)
		for (size_t i = 0; i < WORDS; i++)
			live_page(mem, p)[i] =
				p % 4 == 0 ? 0 : 0x0101010101010101 * (p % 4 == 1 ? 90 : p);
	live_out(fl, mem, 256);
	assert_int_equal(live_count(fl, mem, 256, FL_PAGE_FILLED), 256);
	assert_int_equal(live_stats(fl).filled, 256);
	assert_true(live_stats(fl).slots_used <= used);
	for (size_t p = 0; p < 256; p++) {
		w = live_page(mem, p);
		/* half are read first, half are written first */
		if (p % 8 < 4)
			w[9] = 4711;
		for (size_t i = 0; i < WORDS; i++)
			assert_true(w[i] == (p % 8 < 4 && i == 9 ? 4711
					     : p % 4 == 0
						     ? 0
						     : 0x0101010101010101 * (p % 4 == 1 ? 90 : p)));
	}
	assert_int_equal(live_stats(fl).faults_filled, 256);
	assert_int_equal(live_stats(fl).filled, 0);
	/* one word that differs makes it a page like others */
	for (size_t i = 0; i < WORDS; i++)
		live_page(mem, 0)[i] = 5;
	live_page(mem, 0)[300] = 6;
	live_out(fl, mem, 1);
	assert_int_equal(live_kind(fl, mem),
			 live_compressed() ? FL_PAGE_COMPRESSED : FL_PAGE_SWAPPED);
	assert_int_equal(live_page(mem, 0)[300], 6);
	assert_int_equal(fl_close(fl), 0);
}

static void clean_pages_are_not_written_twice(void **state)
{
	const size_t n = 256;

	(void)state;
	for (unsigned w = 0; w < 3; w++) {
		struct fl_options o = live_options(LIMIT);
		struct fl_stats a, b;
		struct fl *fl;
		char *mem;

		o.wp = wps[w];
		fl = live_armed(&o);
		mem = live_map(fl, n);
		live_to_slots();
		live_fill(mem, 0, n, 8);
		live_out(fl, mem, n);
		a = live_stats(fl);
		assert_int_equal(a.write_pages, n);
		for (unsigned round = 0; round < 3; round++) {
			live_check(mem, 0, n, 8);
			live_out(fl, mem, n);
		}
		b = live_stats(fl);
		assert_int_equal(b.write_pages, a.write_pages);
		assert_int_equal(b.dropped_clean - a.dropped_clean, 3 * n);
		/* of those that are changed, each is written once more, and no other */
		live_check(mem, 0, n, 8);
		for (size_t p = 0; p < n; p += 5)
			live_page(mem, p)[p] ^= 1;
		live_out(fl, mem, n);
		assert_int_equal(live_stats(fl).write_pages - b.write_pages, (n + 4) / 5);
		for (size_t p = 0; p < n; p += 5)
			live_page(mem, p)[p] ^= 1;
		live_check(mem, 0, n, 8);
		assert_int_equal(live_stats(fl).csum_errors, 0);
		assert_int_equal(fl_close(fl), 0);
	}
}

static void writes_are_told_in_each_mode(void **state)
{
	const size_t n = 512;

	(void)state;
	for (unsigned w = 0; w < 3; w++) {
		struct fl_options o = live_options(LIMIT);
		struct fl *fl;
		char *mem;
		uint64_t *shadow = calloc(n * WORDS, sizeof(*shadow));

		assert_non_null(shadow);
		o.wp = wps[w];
		fl = live_armed(&o);
		mem = live_map(fl, n);
		live_fill(mem, 0, n, 9);
		memcpy(shadow, mem, n * PG);
		for (unsigned round = 0; round < 12; round++) {
			live_out(fl, mem, n);
			for (unsigned k = 0; k < 300; k++) {
				size_t i = rnd(n * WORDS);

				/* read, then write; only read; only write */
				if (k % 3 != 2)
					assert_true(((uint64_t *)(void *)mem)[i] == shadow[i]);
				if (k % 3 != 1)
					((uint64_t *)(void *)mem)[i] = shadow[i] = rnd(UINT64_MAX);
			}
			/* dropped and moved pages are not taken for clean either */
			if (round % 4 == 1) {
				assert_int_equal(
					fl_madvise(fl, mem + 8 * PG, 8 * PG, MADV_DONTNEED), 0);
				memset(shadow + 8 * WORDS, 0, 8 * PG);
			}
		}
		assert_memory_equal(mem, shadow, n * PG);
		if (wps[w] == FL_WP_SYNC)
			assert_true(live_stats(fl).faults_wp > 0);
		if (wps[w] == FL_WP_OFF)
			assert_int_equal(live_stats(fl).faults_wp, 0);
		assert_int_equal(fl_close(fl), 0);
		assert_memory_equal(mem, shadow, n * PG);
		munmap(mem, n * PG);
		free(shadow);
	}
}

/* Pages are read in for a read, and written: hardly any is protected in between. */
static void what_is_read_and_written_is_not_protected(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	uint64_t *shadow = calloc(n, sizeof(*shadow));
	struct fl_stats a = {0}, b;
	uint64_t came;

	(void)state;
	assert_non_null(shadow);
	for (size_t i = 0; i < n; i++)
		live_page(mem, i)[3] = shadow[i] = i + 1;
	for (size_t i = 0; i < 4 * n; i++) {
		size_t p = rnd(n);
		volatile uint64_t *word = &live_page(mem, p)[3];

		if (i == 2 * n)
			a = live_stats(fl);
		assert_true(*word == shadow[p]);
		*word = ++shadow[p];
	}
	b = live_stats(fl);
	came = b.faults_swap - a.faults_swap + b.faults_compressed - a.faults_compressed;
	assert_true(came > n / 2);
	assert_true(b.faults_wp - a.faults_wp < came / 5);
	for (size_t i = 0; i < n; i++)
		assert_true(live_page(mem, i)[3] == shadow[i]);
	free(shadow);
	assert_int_equal(fl_close(fl), 0);
}

/* While everything is written the first write to a page that a read brought is not a fault for each. */
static void writers_lift_the_protection_of_neighbours(void **state)
{
	const size_t n = 700;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	size_t written = 0;
	struct fl_stats a, b;

	(void)state;
	live_to_slots();
	live_fill(mem, 0, n, 31);
	live_out(fl, mem, n);
	live_check(mem, 0, n, 31);
	a = live_stats(fl);
	for (size_t i = 0; i < n; i++) {
		size_t p = i * 37 % n;

		if (p % 2 != 0)
			continue;
		live_page(mem, p)[p % WORDS] ^= 1;
		written++;
	}
	b = live_stats(fl);
	assert_int_equal(b.faults_major, a.faults_major);
	assert_in_range(b.faults_wp - a.faults_wp, 1, written / 4);
	/* what was not written is not written out, and what was is */
	live_out(fl, mem, n);
	assert_int_equal(live_stats(fl).write_pages - b.write_pages, written);
	for (size_t p = 0; p < n; p += 2)
		live_page(mem, p)[p % WORDS] ^= 1;
	live_check(mem, 0, n, 31);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

#define WRITERS 4U
#define WRITER_PAGES (LIMIT_PAGES / 2) /* each: twice the limit in all */

struct writer {
	pthread_t thread;
	pthread_barrier_t *barrier;
	char *mem;
	unsigned index;
	size_t wrong;
};

/* The writer's page i is one among those of the others; how often it was written is its own to know. */
static uint64_t *page_of(const struct writer *w, size_t i)
{
	return live_page(w->mem, i * WRITERS + w->index);
}

static void *read_then_write(void *arg)
{
	struct writer *w = arg;
	uint64_t s = 77 + w->index;
	uint64_t times[WRITER_PAGES] = {0};

	for (unsigned round = 0; round < 6; round++) {
		pthread_barrier_wait(w->barrier);
		for (unsigned k = 0; k < WRITER_PAGES; k++) {
			size_t i = (s = s * 6364136223846793005U + 1) >> 33;

			i %= WRITER_PAGES;
			w->wrong += page_of(w, i)[0] != live_word(i, w->index) ||
				    page_of(w, i)[i % 511 + 1] != times[i];
		}
		pthread_barrier_wait(w->barrier);
		for (unsigned k = 0; k < 2 * WRITER_PAGES; k++) {
			size_t i = (s = s * 6364136223846793005U + 1) >> 33;

			i %= WRITER_PAGES;
			page_of(w, i)[i % 511 + 1] = ++times[i];
		}
	}
	for (size_t i = 0; i < WRITER_PAGES; i++)
		w->wrong += page_of(w, i)[i % 511 + 1] != times[i];
	return NULL;
}

static void writers_and_evictions_lose_nothing(void **state)
{
	struct fl *fl = open_small();
	char *mem = live_map(fl, WRITERS * WRITER_PAGES);
	struct writer w[WRITERS];
	pthread_barrier_t barrier;

	(void)state;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, WRITERS), 0);
	for (unsigned t = 0; t < WRITERS; t++) {
		w[t] = (struct writer){.barrier = &barrier, .mem = mem, .index = t};
		for (size_t i = 0; i < WRITER_PAGES; i++)
			page_of(&w[t], i)[0] = live_word(i, t);
	}
	for (unsigned t = 0; t < WRITERS; t++)
		assert_int_equal(pthread_create(&w[t].thread, NULL, read_then_write, &w[t]), 0);
	for (unsigned t = 0; t < WRITERS; t++) {
		pthread_join(w[t].thread, NULL);
		assert_int_equal(w[t].wrong, 0);
	}
	pthread_barrier_destroy(&barrier);
	assert_true(live_stats(fl).faults_wp > 0);
	assert_int_equal(live_stats(fl).csum_errors, 0);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, WRITERS * WRITER_PAGES * PG);
}

/* Whether no page is being read or written: the end of one write is where others begin. */
static bool is_at_rest(struct fl *fl, const char *mem, size_t n)
{
	unsigned char *vec = malloc(n);
	bool rest = true;

	assert_non_null(vec);
	assert_int_equal(fl_page_state(fl, mem, n * PG, vec), 0);
	for (size_t p = 0; p < n; p++)
		rest = rest && !(vec[p] & FL_PAGE_BUSY);
	free(vec);
	return rest;
}

static void a_staged_page_comes_back_without_io(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = open_small();
	char *mem = live_map(fl, n);
	unsigned found = 0;

	(void)state;
	assert_int_equal(fl_madvise(fl, mem, n * PG, MADV_RANDOM), 0);
	live_fill(mem, 0, n, 10);
	for (size_t p = n; p-- > 0 && found < 20;) {
		struct fl_stats a, b;
		unsigned char v;

		if (live_kind(fl, mem + p * PG) != FL_PAGE_STAGED)
			continue;
		until(is_at_rest(fl, mem, n));
		v = live_state(fl, mem + p * PG);
		if (FL_PAGE_KIND(v) != FL_PAGE_STAGED || (v & FL_PAGE_HAS_SLOT))
			continue;
		found++;
		a = live_stats(fl);
		assert_int_equal(live_wrong(mem, p, 1, 10), 0);
		b = live_stats(fl);
		assert_int_equal(b.faults_staged - a.faults_staged, 1);
		assert_int_equal(b.read_pages, a.read_pages);
		assert_int_equal(live_kind(fl, mem + p * PG), FL_PAGE_PRESENT);
	}
	assert_int_equal(found, 20);
	live_check(mem, 0, n, 10);
	assert_int_equal(fl_close(fl), 0);
}

static void locked_pages_stay(void **state)
{
	struct fl *fl = open_small();
	char *mem = live_map(fl, 128), *rest = live_map(fl, 4096), *moved;
	struct fl_stats a;

	(void)state;
	live_fill(mem, 0, 128, 11);
	live_out(fl, mem, 64);
	/* what is out comes in */
	assert_int_equal(fl_mlock(fl, mem, 128 * PG), 0);
	assert_int_equal(live_count(fl, mem, 128, FL_PAGE_PRESENT), 128);
	assert_true(live_state(fl, mem) & FL_PAGE_LOCKED);
	assert_int_equal(live_stats(fl).locked, 128);
	for (unsigned round = 0; round < 2; round++) {
		live_fill(rest, 0, 4096, round);
		assert_int_equal(live_count(fl, mem, 128, FL_PAGE_PRESENT), 128);
	}
	a = live_stats(fl);
	live_check(mem, 0, 128, 11);
	assert_int_equal(live_stats(fl).faults_minor, a.faults_minor);
	assert_int_equal(live_stats(fl).faults_major, a.faults_major);
	/* more than the limit bears is refused, and nothing is locked by that */
	assert_int_equal(fl_mlock(fl, rest, 4096 * PG), -ENOMEM);
	assert_int_equal(live_stats(fl).locked, 128);
	assert_int_equal(fl_munlock(fl, mem, 128 * PG), 0);
	/* what is locked already is no more than that */
	for (unsigned round = 0; round < 3; round++)
		assert_int_equal(fl_mlock(fl, rest, 384 * PG), 0);
	assert_int_equal(live_stats(fl).locked, 384);
	/* and what moves leaves nothing locked behind */
	moved = fl_mremap(fl, rest, 384 * PG, 384 * PG, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	assert_ptr_not_equal(moved, FL_FAILED);
	assert_int_equal(live_stats(fl).locked, 384);
	assert_int_equal(live_state(fl, rest) & FL_PAGE_LOCKED, 0);
	assert_int_equal(live_state(fl, moved) & FL_PAGE_LOCKED, FL_PAGE_LOCKED);
	assert_int_equal(fl_munmap(fl, moved, 384 * PG), 0);
	assert_int_equal(live_stats(fl).locked, 0);
	/* on fault: only what is touched */
	live_out(fl, mem, 128);
	assert_int_equal(fl_mlock2(fl, mem, 128 * PG, 1), 0);
	assert_int_equal(live_count(fl, mem, 128, FL_PAGE_PRESENT), 0);
	live_check(mem, 0, 1, 11);
	live_fill(rest, 0, 4096, 3);
	assert_int_equal(live_kind(fl, mem), FL_PAGE_PRESENT);
	assert_int_equal(fl_munlock(fl, mem, 128 * PG), 0);
	live_fill(rest, 0, 4096, 4);
	live_fill(rest, 0, 4096, 5);
	assert_int_not_equal(live_kind(fl, mem), FL_PAGE_PRESENT);
	live_check(mem, 0, 128, 11);
	assert_int_equal(fl_close(fl), 0);
}

/* What was locked before there were pagers grows by pages that come when they are touched. */
static void what_is_locked_grows(void **state)
{
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_open(&o);
	char *mem = live_map(fl, 64);

	(void)state;
	live_fill(mem, 0, 32, 1);
	assert_int_equal(fl_mlock(fl, mem, 32 * PG), 0);
	live_arm(fl);
	assert_int_equal(fl_munmap(fl, mem + 32 * PG, 32 * PG), 0);
	assert_ptr_equal(fl_mremap(fl, mem, 32 * PG, 64 * PG, 0), mem);
	assert_int_equal(live_stats(fl).locked, 64);
	assert_int_equal(live_count(fl, mem, 64, FL_PAGE_PRESENT), 32);
	live_fill(mem, 32, 32, 1);
	live_check(mem, 0, 64, 1);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- the limit ---- */

/* Rss of the mappings of a range, in pages. */
static size_t rss(const char *mem, size_t n)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long a, b, kb;
	char line[512];
	bool in = false;
	size_t pages = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = a < (unsigned long)mem + n * PG && b > (unsigned long)mem;
		else if (in && sscanf(line, "Rss: %lu", &kb) == 1)
			pages += kb / 4;
	}
	fclose(f);
	return pages;
}

/*
 * As many of them at least were there at once: the kernel looks at one page after the other, and
 * some may have left, for others, when it came to those.
 */
static size_t rss_at_once(struct fl *fl, const char *mem, size_t n)
{
	uint64_t evicted = live_stats(fl).evicted;
	size_t pages = rss(mem, n);

	evicted = live_stats(fl).evicted - evicted;
	return pages > evicted ? pages - evicted : 0;
}

struct thrasher {
	pthread_t thread;
	char *mem;
	size_t first, n;
	uint64_t seed;
	unsigned rounds;
	size_t wrong;
};

/* Random pages of its own part: checked and changed. */
static void *thrash(void *arg)
{
	struct thrasher *t = arg;
	uint64_t s = t->seed;

	for (size_t p = t->first; p < t->first + t->n; p++)
		live_page(t->mem, p)[p % WORDS] = p + 1;
	for (unsigned k = 0; k < t->rounds; k++) {
		size_t p;

		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		p = t->first + (s >> 20) % t->n;
		t->wrong += live_page(t->mem, p)[p % WORDS] != p + 1;
		live_page(t->mem, p)[(p + 1) % WORDS] = s;
	}
	return NULL;
}

static void the_limit_is_hard(void **state)
{
	const size_t n = 8 * LIMIT_PAGES, threads = 4;

	(void)state;
	for (unsigned pagers = 1; pagers <= 3; pagers += 2) {
		struct fl_options o = live_options(LIMIT);
		struct thrasher t[4];
		struct fl_stats s;
		struct fl *fl;
		size_t most = 0;
		char *mem;

		o.pagers = pagers;
		fl = live_armed(&o);
		mem = live_map(fl, n);
		for (size_t i = 0; i < threads; i++) {
			t[i] = (struct thrasher){.mem = mem,
						 .first = i * (n / threads),
						 .n = n / threads,
						 .seed = i + 1,
						 .rounds = 4000};
			assert_int_equal(pthread_create(&t[i].thread, NULL, thrash, &t[i]), 0);
		}
		for (unsigned k = 0; k < 100; k++) {
			size_t now = rss_at_once(fl, mem, n);

			most = now > most ? now : most;
		}
		for (size_t i = 0; i < threads; i++) {
			size_t now;

			assert_int_equal(pthread_join(t[i].thread, NULL), 0);
			assert_int_equal(t[i].wrong, 0);
			/* one look at least is after all had their turn, on any machine */
			now = rss_at_once(fl, mem, n);
			most = now > most ? now : most;
		}
		s = live_stats(fl);
		assert_int_equal(s.limit, LIMIT_PAGES);
		assert_in_range(s.resident_max, 1, LIMIT_PAGES);
		assert_in_range(s.resident + s.staged, 1, LIMIT_PAGES);
		assert_in_range(most, LIMIT_PAGES / 4, LIMIT_PAGES);
		assert_true(s.evicted > n);
		assert_int_equal(fl_close(fl), 0);
		munmap(mem, n * PG);
	}
}

/* The frames of pages that were written go to new pages, and nothing of the old ones with them. */
static void frames_used_again_are_zero(void **state)
{
	/* large enough for windows of whole blocks of staging */
	const size_t limit = 4 * LIMIT_PAGES, n = 4 * limit, words = PG / sizeof(uint64_t);

	(void)state;
	for (unsigned near = 0; near <= 1; near++) {
		struct fl_options o = live_options(limit * PG);
		struct fl_stats s;
		uint64_t *mem;
		struct fl *fl;
		size_t wrong = 0;

		o.near = near;
		fl = live_armed(&o);
		mem = (uint64_t *)(void *)live_map(fl, n);
		for (size_t i = 0; i < n; i++) {
			uint64_t *page = mem + i * words;
			uint64_t any = 0;

			page[words - 1] = 1; /* a write first: a read would give the zero page */
			for (size_t k = 0; k + 1 < words; k++)
				any |= page[k];
			wrong += any != 0;
			for (size_t k = 0; k < words; k++)
				page[k] = ~(i * words + k);
		}
		assert_int_equal(wrong, 0);
		for (size_t i = 0; i < n * words; i++)
			wrong += mem[i] != ~i;
		assert_int_equal(wrong, 0);
		s = live_stats(fl);
		assert_true(s.frames_reused >= n / 8);
		assert_in_range(s.resident_max, 1, limit);
		assert_int_equal(fl_close(fl), 0);
		munmap(mem, n * PG);
	}
}

static void the_limit_changes(void **state)
{
	struct fl_options o = live_options(16 * MIB);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, 8192);
	struct fl_stats s;

	(void)state;
	live_fill(mem, 0, 8192, 12);
	assert_true(live_stats(fl).resident > 2048);
	for (unsigned round = 0; round < 4; round++) {
		assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
		s = live_stats(fl);
		assert_int_equal(s.limit, FL_LIMIT_MIN / PG);
		assert_true(s.resident + s.staged <= FL_LIMIT_MIN / PG);
		assert_true(rss(mem, 8192) <= FL_LIMIT_MIN / PG);
		assert_int_equal(live_wrong(mem, 0, 1024, 12), 0);
		assert_true(rss(mem, 8192) <= FL_LIMIT_MIN / PG);
		assert_int_equal(fl_set_limit(fl, 48 * MIB), 0);
		live_check(mem, 0, 8192, 12);
		assert_true(live_stats(fl).resident > 7000);
	}
	/* what is locked must fit; else the old limit stands */
	assert_int_equal(fl_mlock(fl, mem, 1024 * PG), 0);
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), -ENOMEM);
	assert_int_equal(live_stats(fl).limit, 48 * MIB / PG);
	assert_int_equal(fl_set_limit(fl, 8 * MIB), 0);
	assert_int_equal(live_count(fl, mem, 1024, FL_PAGE_PRESENT), 1024);
	assert_int_equal(fl_munlock(fl, mem, 1024 * PG), 0);
	live_check(mem, 0, 8192, 12);
	assert_int_equal(fl_close(fl), 0);
	live_check(mem, 0, 8192, 12);
	munmap(mem, 8192 * PG);
}

/* Of a runtime that such a limit has to arm. */
static void a_limit_that_cannot_be_kept_is_not_set(void **state)
{
	const size_t n = 2048;

	(void)state;
	for (unsigned locked = 0; locked < 2; locked++) {
		struct fl_options o = live_options(16 * MIB);
		struct fl *fl;
		char *mem;

		/* nothing that is random can leave */
		o.compress = FL_COMPRESS_LZ4;
		o.no_swap = 1;
		fl = live_open(&o);
		live_to_slots();
		mem = live_map(fl, n);
		live_fill(mem, 0, n, 12);
		if (locked)
			assert_int_equal(fl_mlock(fl, mem, n / 2 * PG), 0);
		assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), -ENOMEM);
		assert_int_equal(live_stats(fl).limit, 16 * MIB / PG);
		assert_int_equal(live_stats(fl).armed, !locked);
		live_check(mem, 0, n, 12);
		assert_int_equal(fl_set_limit(fl, 12 * MIB), 0);
		live_check(mem, 0, n, 12);
		assert_int_equal(fl_close(fl), 0);
		munmap(mem, n * PG);
	}
}

static void two_runtimes_side_by_side(void **state)
{
	const size_t n = 3 * LIMIT_PAGES;
	struct fl_options o = live_options(LIMIT);
	struct fl *fl[2];
	struct thrasher t[2];
	char *mem[2];

	(void)state;
	o.engine = FL_ENGINE_SYNC;
	fl[0] = live_armed(&o);
	o.engine = FL_ENGINE_AUTO;
	o.wp = FL_WP_SYNC;
	fl[1] = live_armed(&o);
	for (unsigned i = 0; i < 2; i++) {
		mem[i] = live_map(fl[i], n);
		t[i] = (struct thrasher){.mem = mem[i], .n = n, .seed = i + 5, .rounds = 8000};
		assert_int_equal(pthread_create(&t[i].thread, NULL, thrash, &t[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(t[i].thread, NULL), 0);
		assert_int_equal(t[i].wrong, 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(live_count(fl[i], mem[1 - i], n, FL_PAGE_UNMANAGED), n);
		assert_true(live_stats(fl[i]).evicted > n / 2);
		assert_true(live_stats(fl[i]).resident_max <= LIMIT_PAGES);
	}
	/* one ends, the other goes on; what it managed is ordinary memory */
	assert_int_equal(fl_close(fl[0]), 0);
	for (unsigned i = 0; i < 2; i++)
		for (size_t p = 0; p < n; p++)
			assert_int_equal(live_page(mem[i], p)[p % WORDS], p + 1);
	assert_int_equal(fl_close(fl[1]), 0);
	for (size_t p = 0; p < n; p++)
		assert_int_equal(live_page(mem[1], p)[p % WORDS], p + 1);
	munmap(mem[0], n * PG);
	munmap(mem[1], n * PG);
}

static void registered_memory(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_open(&o);
	char *mem = mmap(NULL, (n + 1) * PG, RW, ANON, -1, 0);
	char *shared = mmap(NULL, 4 * PG, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *hole = mmap(NULL, 8 * PG, RW, ANON, -1, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	live_fill(mem, 0, n, 13);
	assert_int_equal(munmap(hole + 3 * PG, PG), 0);
	assert_int_equal(fl_register(fl, mem + 1, PG), -EINVAL);
	assert_int_equal(fl_register(fl, mem, 0), -EINVAL);
	assert_int_equal(fl_register(fl, mem, SIZE_MAX), -EINVAL);
	assert_int_equal(fl_register(fl, mem, SIZE_MAX - PG), -EINVAL);
	assert_int_equal(fl_register(fl, shared, 4 * PG), -EINVAL);
	assert_int_equal(fl_register(fl, hole, 8 * PG), -ENOMEM);
	assert_int_equal(live_count(fl, mem, n, FL_PAGE_UNMANAGED), n);
	assert_int_equal(fl_register(fl, mem, n * PG), 0);
	assert_int_equal(fl_register(fl, mem + PG, PG), -EEXIST);
	assert_int_equal(live_stats(fl).mapped, n);
	assert_int_equal(live_stats(fl).armed, 1);
	/* it was more than the limit when it came */
	until(rss(mem, n) <= LIMIT_PAGES);
	live_check(mem, 0, n, 13);
	live_out(fl, mem, n);
	assert_int_equal(rss(mem, n), 0);
	/* what is not managed, or not all of it */
	assert_int_equal(fl_unregister(fl, shared, PG), -ENOMEM);
	assert_int_equal(munmap(mem + n * PG, PG), 0);
	assert_int_equal(fl_unregister(fl, mem, (n + 1) * PG), -ENOMEM);
	assert_int_equal(live_count(fl, mem, n, FL_PAGE_UNMANAGED), 0);
	/* a part goes back to its owner, whole */
	assert_int_equal(fl_unregister(fl, mem, SIZE_MAX), -EINVAL);
	assert_int_equal(fl_page_state(fl, mem, SIZE_MAX, NULL), -EINVAL);
	assert_int_equal(fl_page_state(fl, mem, (size_t)1 << 48, NULL), -EINVAL);
	assert_int_equal(fl_unregister(fl, mem + 16 * PG, 16 * PG), 0);
	assert_int_equal(live_count(fl, mem + 16 * PG, 16, FL_PAGE_UNMANAGED), 16);
	assert_int_equal(rss(mem + 16 * PG, 16), 16);
	live_check(mem, 16, 16, 13);
	live_check(mem, 0, n, 13);
	live_out(fl, mem, 16);
	assert_int_equal(fl_munmap(fl, mem, 32 * PG), 0);
	assert_int_equal(fl_close(fl), 0);
	live_check(mem, 32, n - 32, 13);
	munmap(mem, n * PG);
	munmap(shared, 4 * PG);
	munmap(hole, 8 * PG);
}

/* It finds no place beside the limit: it is the program's as before. */
static void memory_that_does_not_fit_is_not_registered(void **state)
{
	const size_t n = 4 * LIMIT_PAGES;

	(void)state;
	for (unsigned armed = 0; armed < 2; armed++) {
		struct fl_options o = live_options(LIMIT);
		char *mem = mmap(NULL, n * PG, RW, ANON, -1, 0);
		struct fl *fl;
		size_t mapped;

		assert_ptr_not_equal(mem, MAP_FAILED);
		/* nothing that is random can leave */
		o.compress = FL_COMPRESS_LZ4;
		o.no_swap = 1;
		fl = live_open(&o);
		live_to_slots();
		if (armed)
			live_arm(fl);
		mapped = live_stats(fl).mapped;
		live_fill(mem, 0, n, 13);
		assert_int_equal(fl_register(fl, mem, n * PG), -ENOMEM);
		assert_int_equal(live_count(fl, mem, n, FL_PAGE_UNMANAGED), n);
		assert_int_equal(live_stats(fl).mapped, mapped);
		assert_int_equal(rss(mem, n), n);
		live_check(mem, 0, n, 13);
		/* a part that fits does not suffer from that */
		assert_int_equal(fl_register(fl, mem, 16 * PG), 0);
		live_check(mem, 0, n, 13);
		assert_int_equal(fl_close(fl), 0);
		live_check(mem, 0, n, 13);
		munmap(mem, n * PG);
	}
}

/* /proc/self/maps has a megabyte of lines before that of the memory. */
static void registered_behind_many_mappings(void **state)
{
	const size_t n = 64, crowd = 24000;
	struct fl *fl = open_small();
	char *mem = mmap(NULL, n * PG, RW, ANON, -1, 0);
	/* there is no gap above `mem` that it fits into */
	char *many = mmap(NULL, crowd * PG, PROT_NONE, ANON, -1, 0);

	(void)state;
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_ptr_not_equal(many, MAP_FAILED);
	assert_true(many < mem);
	for (size_t i = 0; i < crowd; i += 2)
		assert_int_equal(mprotect(many + i * PG, PG, PROT_READ), 0);
	live_fill(mem, 0, n, 19);
	assert_int_equal(fl_register(fl, mem, n * PG), 0);
	assert_int_equal(live_count(fl, mem, n, FL_PAGE_UNMANAGED), 0);
	live_out(fl, mem, n);
	live_check(mem, 0, n, 19);
	/* neither one that cannot be managed is overlooked, nor a gap */
	assert_int_equal(fl_register(fl, many, 2 * PG), -EINVAL);
	assert_int_equal(fl_unregister(fl, mem, n * PG), 0);
	assert_int_equal(munmap(mem + PG, PG), 0);
	assert_int_equal(fl_register(fl, mem, n * PG), -ENOMEM);
	munmap(mem, n * PG);
	munmap(many, crowd * PG);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- touched by the kernel ---- */

static long futex(uint32_t *word, int op, uint32_t val)
{
	return syscall(SYS_futex, word, op, val, NULL, NULL, 0);
}

static void *wake_up(void *arg)
{
	uint32_t *word = arg;

	/* until the other one sleeps: it finds its word as it was, and sleeps again */
	while (futex(word, FUTEX_WAKE_PRIVATE, 1) == 0)
		sched_yield();
	__atomic_store_n(word, 2, __ATOMIC_RELEASE);
	futex(word, FUTEX_WAKE_PRIVATE, 1);
	return NULL;
}

static void system_calls_touch_it(void **state)
{
	struct fl *fl = open_small();
	char *mem = live_map(fl, 64);
	char path[300], plain[8 * PG];
	struct iovec iov[4];
	struct stat *st = (struct stat *)(void *)(mem + 40 * PG);
	uint32_t *word = (uint32_t *)(void *)(mem + 50 * PG);
	pthread_t thread;
	int fds[2], fd;

	(void)state;
	snprintf(path, sizeof(path), "%s/live-XXXXXX", live_dir());
	fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pipe(fds), 0);
	live_fill(mem, 0, 64, 14);
	/* from pages that are out */
	live_out(fl, mem, 64);
	assert_int_equal(pwrite(fd, mem, 8 * PG, 0), 8 * PG);
	assert_int_equal(pread(fd, plain, 8 * PG, 0), 8 * PG);
	assert_int_equal(live_wrong(plain, 0, 8, 14), 0);
	assert_int_equal(write(fds[1], mem + 9 * PG, 3 * PG), 3 * PG);
	/* into pages that are out, in pieces */
	live_out(fl, mem, 64);
	for (unsigned i = 0; i < 4; i++)
		iov[i] = (struct iovec){mem + (20 + 5 * i) * PG + 100, 2000};
	assert_int_equal(preadv(fd, iov, 4, 100), 8000);
	for (unsigned i = 0; i < 4; i++)
		assert_memory_equal(mem + (20 + 5 * i) * PG + 100, plain + 100 + 2000 * i, 2000);
	assert_int_equal(live_page(mem, 20)[0], live_word(14 * 1000003UL + 20, 0));
	assert_int_equal(read(fds[0], mem, 3 * PG), 3 * PG);
	live_fill(plain, 0, 1, 0);
	for (size_t p = 0; p < 3; p++)
		for (size_t i = 0; i < WORDS; i++)
			assert_true(live_page(mem, p)[i] == live_word(14 * 1000003UL + 9 + p, i));
	/* into pages that never were */
	assert_int_equal(fl_madvise(fl, mem, 16 * PG, MADV_DONTNEED), 0);
	assert_int_equal(pread(fd, mem, 8 * PG, 0), 8 * PG);
	live_check(mem, 0, 8, 14);
	assert_int_equal(mem[8 * PG], 0);
	/* by direct I/O, which pins */
	assert_int_equal(fcntl(fd, F_SETFL, O_DIRECT), 0);
	live_fill(mem, 0, 64, 15);
	live_out(fl, mem, 64);
	assert_int_equal(pwrite(fd, mem, 32 * PG, 0), 32 * PG);
	live_out(fl, mem, 64);
	assert_int_equal(pread(fd, mem + 32 * PG, 32 * PG, 0), 32 * PG);
	for (size_t p = 0; p < 32; p++)
		assert_memory_equal(mem + (32 + p) * PG, mem + p * PG, PG);
	/* structures */
	live_out(fl, mem, 64);
	assert_int_equal(fstat(fd, st), 0);
	assert_int_equal(st->st_size, 32 * PG);
	live_out(fl, mem, 64);
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, (struct timespec *)(void *)(mem + 44 * PG)),
			 0);
	/* a path, in a page that is out */
	strcpy(mem + 45 * PG, path);
	live_out(fl, mem, 64);
	assert_int_equal(access(mem + 45 * PG, R_OK), 0);
	/* a futex: its value, and a wait on it that ends */
	*word = 1;
	live_out(fl, mem, 64);
	assert_int_equal(futex(word, FUTEX_WAIT_PRIVATE, 3), -1);
	assert_int_equal(errno, EAGAIN);
	live_out(fl, mem, 64);
	assert_int_equal(pthread_create(&thread, NULL, wake_up, word), 0);
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 1)
		futex(word, FUTEX_WAIT_PRIVATE, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* what may not be written is EFAULT, present or not */
	live_out(fl, mem, 64);
	assert_int_equal(fl_mprotect(fl, mem, PG, PROT_READ), 0);
	assert_int_equal(read(fd, mem, PG), -1);
	assert_int_equal(errno, EFAULT);
	assert_true(live_stats(fl).faults_swap > 0);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	close(fds[0]);
	close(fds[1]);
	unlink(path);
	munmap(mem, 64 * PG);
}

/* ---- signals ---- */

static char *sig_mem;
static size_t sig_pages;
static volatile sig_atomic_t sig_count, sig_wrong;
static volatile sig_atomic_t may_jump;
static sigjmp_buf out_of_it;
static unsigned long jumps;

/* Touches managed memory: counts in one page, checks one that nobody writes. */
static void on_alarm(int sig)
{
	uint64_t s = (uint64_t)sig_count * 0x9e3779b97f4a7c15U;
	size_t p = 1 + (s >> 20) % (sig_pages - 1);

	(void)sig;
	if (live_page(sig_mem, p)[5] != live_word(21 * 1000003UL + p, 5))
		sig_wrong++;
	live_page(sig_mem, 0)[0]++;
	sig_count++;
	if (may_jump) {
		may_jump = 0;
		siglongjmp(out_of_it, 1);
	}
}

static void every(long microseconds)
{
	struct itimerval it = {
		.it_interval = {.tv_usec = microseconds},
		.it_value = {.tv_usec = microseconds},
	};

	assert_int_equal(setitimer(ITIMER_REAL, &it, NULL), 0);
}

static void signals_come_in_the_middle(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = open_small();
	struct sigaction sa = {.sa_handler = on_alarm};
	char *mem = live_map(fl, n);
	double end;
	size_t p = 0;

	(void)state;
	sig_pages = LIMIT_PAGES;
	sig_mem = live_map(fl, sig_pages);
	live_fill(sig_mem, 1, sig_pages - 1, 21);
	live_fill(mem, 0, n, 22);
	sig_count = sig_wrong = 0;
	assert_int_equal(sigaction(SIGALRM, &sa, NULL), 0);
	every(500);
	end = test_now() + HANG_SECONDS;
	/* plain touches, and calls that wait for a pager, until enough came */
	while (sig_count < 1000 && test_now() < end) {
		char *m;

		for (size_t i = 0; i < 64; i++, p = (p + 977) % n)
			assert_int_equal(live_page(mem, p)[p % WORDS],
					 live_word(22 * 1000003UL + p, p % WORDS));
		m = fl_mmap(fl, NULL, 16 * PG, RW, ANON, -1, 0);
		assert_ptr_not_equal(m, FL_FAILED);
		m[5 * PG] = 1;
		assert_int_equal(fl_mprotect(fl, m, 8 * PG, PROT_READ), 0);
		assert_int_equal(fl_madvise(fl, m, 8 * PG, MADV_DONTNEED), 0);
		assert_int_equal(m[5 * PG], 0);
		assert_int_equal(fl_munmap(fl, m, 16 * PG), 0);
	}
	/* and out of a touch that waits: it is forgotten, the next one is right */
	jumps = 0;
	while (jumps < 300 && test_now() < end) {
		if (sigsetjmp(out_of_it, 1) != 0) {
			jumps++;
			continue;
		}
		may_jump = 1;
		for (;;) {
			p = (p + 977) % n;
			if (live_page(mem, p)[p % WORDS] !=
			    live_word(22 * 1000003UL + p, p % WORDS))
				sig_wrong++;
		}
	}
	every(0);
	assert_true(sig_count >= 1000 && jumps >= 300);
	assert_int_equal(sig_wrong, 0);
	assert_int_equal(live_page(sig_mem, 0)[0], sig_count);
	live_check(sig_mem, 1, sig_pages - 1, 21);
	live_check(mem, 0, n, 22);
	signal(SIGALRM, SIG_DFL);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
	munmap(sig_mem, sig_pages * PG);
}

/* ---- fork ---- */

static void touch_all(void *arg)
{
	volatile char *const *at = arg;

	(void)**at;
}

static void a_child_of_an_armed_process_has_no_managed_memory(void **state)
{
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_open(&o);
	char *mem = live_map(fl, 64);
	char text[200];

	(void)state;
	/* not armed: an ordinary fork */
	live_fill(mem, 0, 64, 23);
	for (size_t p = 0; p < 64; p += 9) {
		char *at = mem + p * PG;

		assert_int_equal(in_child(touch_all, &at, text, sizeof(text)), 0);
	}
	live_arm(fl);
	live_out(fl, mem, 16);
	mem[20 * PG] = 1;
	/* present, in a slot, never touched, registered later */
	for (size_t p = 0; p < 64; p += 9) {
		char *at = mem + p * PG;
		int status = in_child(touch_all, &at, text, sizeof(text));

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSEGV);
	}
	char *later = live_map(fl, 1);
	int status = in_child(touch_all, &later, text, sizeof(text));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
	/* asked to be inherited, it still is not */
	assert_int_equal(fl_madvise(fl, mem, 64 * PG, MADV_DOFORK), 0);
	status = in_child(touch_all, &mem, text, sizeof(text));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
	live_check(mem, 0, 16, 23);
	/* after the end it is memory as any other */
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(in_child(touch_all, &mem, text, sizeof(text)), 0);
	munmap(mem, 64 * PG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_gives_the_zero_page),
		cmocka_unit_test(fault_around_grows_with_a_sequence),
		cmocka_unit_test(many_threads_one_read),
		cmocka_unit_test(a_scan_is_read_ahead),
		cmocka_unit_test(interleaved_scans_keep_their_windows),
		cmocka_unit_test(what_is_below_is_read_along),
		cmocka_unit_test(without_readahead_a_page_is_read_alone),
		cmocka_unit_test(advice_shows_in_the_page_states),
		cmocka_unit_test(a_repeated_word_takes_no_slot),
		cmocka_unit_test(clean_pages_are_not_written_twice),
		cmocka_unit_test(writes_are_told_in_each_mode),
		cmocka_unit_test(what_is_read_and_written_is_not_protected),
		cmocka_unit_test(writers_lift_the_protection_of_neighbours),
		cmocka_unit_test(writers_and_evictions_lose_nothing),
		cmocka_unit_test(a_staged_page_comes_back_without_io),
		cmocka_unit_test(locked_pages_stay),
		cmocka_unit_test(what_is_locked_grows),
		cmocka_unit_test(the_limit_is_hard),
		cmocka_unit_test(frames_used_again_are_zero),
		cmocka_unit_test(the_limit_changes),
		cmocka_unit_test(a_limit_that_cannot_be_kept_is_not_set),
		cmocka_unit_test(two_runtimes_side_by_side),
		cmocka_unit_test(registered_memory),
		cmocka_unit_test(memory_that_does_not_fit_is_not_registered),
		cmocka_unit_test(registered_behind_many_mappings),
		cmocka_unit_test(system_calls_touch_it),
		cmocka_unit_test(signals_come_in_the_middle),
		cmocka_unit_test(a_child_of_an_armed_process_has_no_managed_memory),
	};

	return cmocka_run_group_tests_name("live-faults", tests, NULL, NULL);
}
