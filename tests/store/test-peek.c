/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading a runtime's memory from outside: what is told of each page is what
 * fl_page_state(3) says, and the bytes are those that the page has, in every
 * state, while threads write and pages come and go.
 *
 * The runtime is the test's own: it is read through /proc/self/mem, as that of
 * another process would be.
 */
#include "../live/live.h"

#include "peek.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)
#define AREA_PAGES 16384U

static char dir[256];
static char area[300];
static int area_fd = -1;
static char *bytes; /* of PEEK_PAGES pages */

static int read_slots(void *arg, unsigned index, uint32_t slot, unsigned n, char *buf, bool again)
{
	ssize_t got;

	(void)arg, (void)again;
	assert_int_equal(index, 0);
	got = pread(area_fd, buf, n * PG, (off_t)slot * (off_t)PG);
	return got >= (ssize_t)PG ? (int)((size_t)got / PG) : -EIO;
}

static int begin(void **state)
{
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/faultline-peek.XXXXXX", live_dir());
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(area, sizeof(area), "%s/area", dir);
	fd = open(area, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || posix_fallocate(fd, 0, (off_t)AREA_PAGES * (off_t)PG) != 0)
		return -1;
	close(fd);
	bytes = mmap(NULL, PEEK_PAGES * PG, RW, ANON, -1, 0);
	return bytes == MAP_FAILED ? -1 : 0;
}

static int end(void **state)
{
	(void)state;
	munmap(bytes, PEEK_PAGES * PG);
	close(area_fd);
	unlink(area);
	return rmdir(dir);
}

static struct fl *open_runtime(void)
{
	const struct fl_swap_spec spec = {.path = area, .prio = -1};
	struct fl_options o = live_options(LIMIT);

	o.areas = &spec;
	o.nareas = 1;
	o.log = live_log;
	live_log_clear();
	return live_open(&o);
}

/* The only runtime of this process, found by its magic number. */
static void open_peek(struct peek *p)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uint64_t address[4] = {0};
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	assert_non_null(maps);
	assert_true(mem >= 0 && pagemap >= 0);
	assert_int_equal(peek_find(mem, maps, address, 4), 1);
	fclose(maps);
	assert_int_equal(peek_open(p, mem, pagemap, address[0]), 0);
	if (area_fd < 0)
		area_fd = open(area, O_RDONLY | O_DIRECT | O_CLOEXEC);
	assert_true(area_fd >= 0);
	p->slots = read_slots;
	p->file = NULL;
}

static void close_peek(struct peek *p)
{
	close(p->mem_fd);
	close(p->pagemap_fd);
}

static vpn_t page_number(const void *mem)
{
	return (uintptr_t)mem / PG;
}

/* n pages of mem have these bytes, as seen from outside. */
static void same_bytes(const struct peek *p, const char *want, const char *mem, size_t n)
{
	for (size_t at = 0; at < n;) {
		unsigned run = n - at < PEEK_PAGES ? (unsigned)(n - at) : PEEK_PAGES;
		int got = peek_read(p, page_number(mem) + at, run, bytes);

		assert_int_equal(got, run);
		assert_memory_equal(bytes, want + at * PG, run * PG);
		at += run;
	}
}

/* What is told of n pages is what the runtime says itself: asked again where that moved. */
static void same_states(const struct peek *p, struct fl *fl, char *mem, size_t n, unsigned *seen)
{
	unsigned char before[PEEK_PAGES], after[PEEK_PAGES];
	struct peek_region r;

	for (size_t at = 0; at < n; at += PEEK_PAGES) {
		unsigned run = n - at < PEEK_PAGES ? (unsigned)(n - at) : PEEK_PAGES;
		uint64_t told[PEEK_PAGES];
		char *m = mem + at * PG;

		assert_int_equal(peek_region(p, (uintptr_t)m, &r), 1);
		if (r.start > (uintptr_t)m || (uintptr_t)m + run * PG > r.end)
			fail_msg("%lx-%lx not in %lx-%lx", (uintptr_t)m, (uintptr_t)m + run * PG,
				 r.start, r.end);
		do {
			assert_int_equal(fl_page_state(fl, m, run * PG, before), 0);
			assert_int_equal(peek_tell(p, &r, page_number(m), run, told, NULL), 0);
			assert_int_equal(fl_page_state(fl, m, run * PG, after), 0);
		} while (memcmp(before, after, run) != 0);
		for (unsigned i = 0; i < run; i++) {
			assert_int_equal(told[i] & 0xff, before[i]);
			*seen |= 1U << FL_PAGE_KIND(before[i]);
			if (told[i] & FL_PAGE_HAS_SLOT)
				assert_in_range(PEEK_SLOT(told[i]), 1, AREA_PAGES - 1);
		}
	}
}

static void every_state(void **state)
{
	const size_t n = 6 * LIMIT_PAGES;
	struct fl *fl = open_runtime();
	char *want = malloc(n * PG);
	unsigned seen = 0;
	struct peek p;
	char *mem;

	(void)state;
	assert_non_null(want);
	open_peek(&p);

	/* while nothing is armed */
	mem = live_map(fl, 64);
	live_fill(mem, 0, 32, 1);
	memset(want, 0, 64 * PG);
	live_fill(want, 0, 32, 1);
	same_bytes(&p, want, mem, 64);
	same_states(&p, fl, mem, 64, &seen);
	assert_int_equal(seen, 1U << FL_PAGE_UNTRACKED);
	assert_int_equal(fl_munmap(fl, mem, 64 * PG), 0);

	live_arm(fl);
	mem = live_map(fl, n);
	memset(want, 0, n * PG);
	live_fill(mem, 0, n / 2, 7);
	live_fill(want, 0, n / 2, 7);
	for (size_t i = n / 2; i < n / 2 + 300; i++)
		for (size_t k = 0; k < WORDS; k++)
			live_page(want, i)[k] = live_page(mem, i)[k] = 0x4141414142424242U + i % 3;
	live_out(fl, mem + n / 2 * PG, 300);
	/* pages that came back by a read keep their slots, write-protected; others are on their way */
	live_check(mem, 10, 20, 7);
	for (unsigned round = 0; round < 3; round++) {
		seen = 0;
		same_states(&p, fl, mem, n, &seen);
		same_bytes(&p, want, mem, n);
		live_check(mem, round * 100, 400, 7);
	}
	assert_int_equal(seen & (1U << FL_PAGE_NONE | 1U << FL_PAGE_PRESENT | 1U << FL_PAGE_STAGED |
				 1U << FL_PAGE_SWAPPED | 1U << FL_PAGE_FILLED),
			 1U << FL_PAGE_NONE | 1U << FL_PAGE_PRESENT | 1U << FL_PAGE_STAGED |
				 1U << FL_PAGE_SWAPPED | 1U << FL_PAGE_FILLED);
	assert_int_equal(fl_mlock(fl, mem, 16 * PG), 0);
	same_states(&p, fl, mem, 16, &seen);
	assert_int_equal(live_text_len, 0);
	assert_int_equal(fl_close(fl), 0);
	/* the runtime has gone */
	assert_true(peek_armed(&p) < 0);
	assert_true(peek_read(&p, page_number(mem), 1, bytes) < 0);
	close_peek(&p);
	free(want);
}

/* --- mapped files --- */

static int file_fd = -1;
static unsigned parts[PEEK_SERVED + 1]; /* pages that were read there */

/* The file's size is `size`; page i of it has word live_word(i, k). */
static void make_file(size_t size)
{
	char path[300];
	uint64_t page[WORDS];

	snprintf(path, sizeof(path), "%s/file", dir);
	file_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(file_fd >= 0);
	unlink(path);
	for (size_t at = 0; at < size; at += PG) {
		size_t n = size - at < PG ? size - at : PG;

		for (size_t k = 0; k < WORDS; k++)
			page[k] = live_word(at / PG, k);
		assert_int_equal(pwrite(file_fd, page, n, (off_t)at), n);
	}
}

/* As the server has it from the process: what a pager's descriptor is of. */
static int memfd_of(const struct pagecache *pc)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%u/fd/%d", pc->mm->pager[0]->tid, pc->memfd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int read_file(void *arg, uint64_t backing, enum peek_part part, uint64_t page, unsigned n,
		     char *buf)
{
	int fd = part == PEEK_CACHED ? memfd_of((const struct pagecache *)(uintptr_t)backing)
				     : file_fd;
	ssize_t got;

	(void)arg;
	assert_int_not_equal(part, PEEK_SERVED);
	memset(buf, 0, n * PG);
	got = pread(fd, buf, n * PG, (off_t)(page * PG));
	assert_true(got >= 0);
	if (part == PEEK_CACHED)
		close(fd);
	parts[part] += (unsigned)got / PG;
	return (int)(((size_t)got + PG - 1) / PG);
}

/* Pages of a mapped file, wherever they are: in the process, in its cache, in the file. */
static void of_a_file(void **state)
{
	static const int kinds[] = {MAP_SHARED, MAP_PRIVATE};
	const size_t n = 64, size = (n - 1) * PG + 100;
	char *want = malloc(n * PG), *got = aligned_alloc(PG, PG);

	(void)state;
	make_file(size);
	for (unsigned kind = 0; kind < 2; kind++) {
		struct fl *fl = open_runtime();
		unsigned there = 0, away = 0;
		uint64_t tell[64 + 2];
		struct peek_region r;
		struct peek p;
		char *mem, *also;

		memset(want, 0, n * PG);
		assert_int_equal(pread(file_fd, want, n * PG, 0), size);
		open_peek(&p);
		mem = fl_mmap(fl, NULL, (n + 2) * PG, PROT_READ | PROT_WRITE, kinds[kind], file_fd,
			      0);
		assert_ptr_not_equal(mem, FL_FAILED);
		also = fl_mmap(fl, NULL, n * PG, RW, MAP_SHARED, file_fd, 0);
		assert_ptr_not_equal(also, FL_FAILED);
		assert_int_equal(fl_madvise(fl, mem, (n + 2) * PG, MADV_RANDOM), 0);
		assert_int_equal(fl_madvise(fl, also, n * PG, MADV_RANDOM), 0);
		for (size_t i = 0; i < n; i += 9)
			assert_int_equal(live_page(mem, i)[3], live_word(i, 3));
		live_page(mem, 9)[3] = live_page(want, 9)[3] = 5;
		live_page(mem, 29)[3] = live_page(want, 29)[3] = 6;
		/* cached and dirty, and not mapped; and cached only */
		assert_int_equal(
			fl_madvise(fl, mem + 29 * PG, PG,
				   kinds[kind] == MAP_SHARED ? MADV_DONTNEED : MADV_PAGEOUT),
			0);
		for (size_t i = 46; i < 54; i++)
			live_page(also, i)[3] = live_page(want, i)[3] = i % 2 ? i : live_word(i, 3);
		assert_int_equal(peek_region(&p, (uintptr_t)mem, &r), 1);
		assert_int_equal(peek_tell(&p, &r, page_number(mem), (unsigned)n + 2, tell, NULL),
				 0);
		/* nobody can say where the files are */
		for (size_t i = 0; i < n; i++) {
			int res = peek_read(&p, page_number(mem) + i, 1, got);

			if (res == 1) {
				assert_memory_equal(got, want + i * PG, PG);
				there++;
			} else {
				assert_int_equal(res, -EIO);
				assert_int_not_equal(i % 9, 0);
				assert_int_equal(PEEK_KIND(tell[i]), FL_PAGE_FILE);
				away++;
			}
		}
		assert_true(there >= (n + 8) / 9 && away > 0);
		p.file = read_file;
		memset(parts, 0, sizeof(parts));
		same_bytes(&p, want, mem, n);
		assert_true(parts[PEEK_CACHED] >= 8 && parts[PEEK_STORED] >= n / 2);
		for (size_t i = 0; i < n; i++)
			same_bytes(&p, want + i * PG, mem + i * PG, 1);
		/* beyond its end, and up to there */
		assert_int_equal(peek_read(&p, page_number(mem) + n, 1, got), -EIO);
		assert_int_equal(peek_read(&p, page_number(mem) + n - 2, 4, bytes), 2);
		assert_memory_equal(bytes, want + (n - 2) * PG, 2 * PG);
		/* none is in the process or in its cache for having been read */
		if (kind == 0) {
			unsigned char now[64];
			uint64_t pages = live_stats(fl).cache_pages;

			same_bytes(&p, want, mem, n);
			assert_int_equal(live_stats(fl).cache_pages, pages);
			assert_int_equal(fl_page_state(fl, mem, n * PG, now), 0);
		}
		/* it grows, by somebody else */
		assert_int_equal(ftruncate(file_fd, (off_t)((n + 1) * PG)), 0);
		assert_int_equal(peek_read(&p, page_number(mem) + n, 2, bytes), 1);
		for (size_t i = 0; i < PG; i++)
			assert_int_equal(bytes[i], 0);
		assert_int_equal(ftruncate(file_fd, (off_t)size), 0);
		live_page(mem, 9)[3] = live_word(9, 3);
		live_page(mem, 29)[3] = live_word(29, 3);
		for (size_t i = 46; i < 54; i++)
			live_page(also, i)[3] = live_word(i, 3);
		assert_int_equal(fl_munmap(fl, also, n * PG), 0);
		assert_int_equal(fl_munmap(fl, mem, (n + 2) * PG), 0);
		assert_int_equal(fl_close(fl), 0);
		close_peek(&p);
	}
	close(file_fd);
	free(want);
	free(got);
}

/* Pages in the pool, as lz4 and zstd pack them, while they come and go. */
static void packed(void **state)
{
	/* what is part of this build */
	static const enum fl_compress kinds[] = {
#ifdef FL_LZ4
		FL_COMPRESS_LZ4,
#endif
#ifdef FL_ZSTD
		FL_COMPRESS_ZSTD,
#endif
		FL_COMPRESS_NONE};
	const size_t n = 2 * LIMIT_PAGES;
	char *want = malloc(n * PG);

	(void)state;
	if (kinds[0] == FL_COMPRESS_NONE)
		test_skip("this build compresses nothing");
	for (const enum fl_compress *kind = kinds; *kind != FL_COMPRESS_NONE; kind++) {
		const struct fl_swap_spec spec = {.path = area, .prio = -1};
		struct fl_options o = live_options(LIMIT);
		unsigned seen = 0;
		struct peek p;
		struct fl *fl;
		char *mem;

		o.compress = *kind;
		o.areas = &spec;
		o.nareas = 1;
		o.log = live_log;
		assert_int_equal(fl_open(&fl, &o), 0);
		live_arm(fl);
		open_peek(&p);
		mem = live_map(fl, n);
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; k < WORDS; k++)
				live_page(mem, i)[k] = live_page(want, i)[k] =
					k % 4 == 0 ? live_word(i, k) : i;
		assert_int_equal(fl_madvise(fl, mem + (n - 200) * PG, 100 * PG, MADV_PAGEOUT), 0);
		until(live_count(fl, mem, n, FL_PAGE_COMPRESSED) > 50);
		for (unsigned round = 0; round < 3; round++) {
			same_states(&p, fl, mem, n, &seen);
			same_bytes(&p, want, mem, n);
			for (size_t i = round; i < n; i += 7)
				assert_int_equal(live_page(mem, i)[1], i);
		}
		assert_true(seen & 1U << FL_PAGE_COMPRESSED);
		assert_int_equal(fl_close(fl), 0);
		close_peek(&p);
	}
	free(want);
}

static void counters(void **state)
{
	struct fl *fl = open_runtime();
	struct fl_stats own, told, after;
	struct peek_area a;
	struct peek p;
	char *mem;

	(void)state;
	live_arm(fl);
	open_peek(&p);
	mem = live_map(fl, 3 * LIMIT_PAGES);
	live_fill(mem, 0, 3 * LIMIT_PAGES, 3);
	live_check(mem, 0, LIMIT_PAGES, 3);
	/* of a time in which nothing moved */
	do {
		own = live_stats(fl);
		assert_int_equal(peek_stats(&p, &told, NULL), 0);
		after = live_stats(fl);
	} while (memcmp(&own, &after, sizeof(own)) != 0);
	assert_memory_equal(&own, &told, sizeof(own));
	assert_true(told.swapped > LIMIT_PAGES);
	assert_int_equal(peek_area(&p, 0, &a), 0);
	assert_string_equal(a.path, area);
	assert_int_equal(a.slots, AREA_PAGES);
	assert_int_equal(peek_area(&p, 1, &a), -ENOENT);
	assert_true(peek_pager(&p) > 0);
	assert_int_equal(fl_close(fl), 0);
	close_peek(&p);
}

/* What the process would not read, nobody reads: EIO for that page and no other. */
static void damaged(void **state)
{
	struct fl *fl = open_runtime();
	struct peek_region r;
	uint64_t told[8];
	struct peek p;
	char *mem, *want = malloc(8 * PG), spoilt[16] = "spoilt";
	int fd = open(area, O_WRONLY | O_CLOEXEC);

	(void)state;
	live_arm(fl);
	open_peek(&p);
	mem = live_map(fl, 8);
	live_fill(mem, 0, 8, 5);
	live_fill(want, 0, 8, 5);
	live_out(fl, mem, 8);
	assert_int_equal(peek_region(&p, (uintptr_t)mem, &r), 1);
	assert_int_equal(peek_tell(&p, &r, page_number(mem), 8, told, NULL), 0);
	assert_int_equal(FL_PAGE_KIND(told[3]), FL_PAGE_SWAPPED);
	assert_int_equal(pwrite(fd, spoilt, sizeof(spoilt), (off_t)PEEK_SLOT(told[3]) * (off_t)PG),
			 sizeof(spoilt));
	assert_int_equal(fsync(fd), 0);
	close(fd);
	assert_int_equal(peek_read(&p, page_number(mem), 8, bytes), 3);
	assert_memory_equal(bytes, want, 3 * PG);
	assert_int_equal(peek_read(&p, page_number(mem) + 3, 5, bytes), -EIO);
	assert_int_equal(peek_read(&p, page_number(mem) + 4, 4, bytes), 4);
	assert_memory_equal(bytes, want + 4 * PG, 4 * PG);

	/* nor when it was lost to the process */
	until(fl_madvise(fl, mem + 3 * PG, PG, MADV_POPULATE_READ) != 0 ||
	      live_kind(fl, mem + 3 * PG) == FL_PAGE_POISONED);
	until(live_kind(fl, mem + 3 * PG) == FL_PAGE_POISONED);
	assert_int_equal(peek_tell(&p, &r, page_number(mem), 8, told, NULL), 0);
	assert_int_equal(FL_PAGE_KIND(told[3]), FL_PAGE_POISONED);
	assert_int_equal(peek_read(&p, page_number(mem) + 3, 1, bytes), -EIO);
	assert_int_equal(fl_munmap(fl, mem, 8 * PG), 0);
	assert_int_equal(fl_close(fl), 0);
	close_peek(&p);
	free(want);
}

/*
 * Writers stamp pages of theirs, with a number that only grows, in every word.
 * What is read of a page lies between the stamp that was whole before the read
 * and the last one that was begun when it ended.
 */
#define WRITERS 3U
#define STAMPED (4 * LIMIT_PAGES)
#define SECONDS 4.0

/* For so long, and until enough has happened, however busy the machine is. */
static bool goes_on(double until, bool enough)
{
	return test_now() < until || (!enough && test_now() < until + HANG_SECONDS);
}

static uint64_t begun[STAMPED], ended[STAMPED];
static uint32_t over;

struct writer {
	pthread_t thread;
	char *mem;
	unsigned index;
	uint64_t wrong;
};

/* Word i of a page; every eighth page has all words alike. */
static uint64_t stamp(size_t page, uint64_t k, size_t i)
{
	return k != 0 ? ((uint64_t)page << 40 | k) * WORDS + (page % 8 != 0 ? i : 0) : 0;
}

static void *write_stamps(void *arg)
{
	struct writer *w = arg;
	uint64_t x = 88172645463325252U + w->index;
	size_t page = w->index;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t *at = live_page(w->mem, page);
		uint64_t k = begun[page] + 1;

		w->wrong += at[0] != stamp(page, k - 1, 0) ||
			    at[WORDS - 1] != stamp(page, k - 1, WORDS - 1);
		__atomic_store_n(&begun[page], k, __ATOMIC_SEQ_CST);
		for (size_t i = 0; i < WORDS; i++)
			__atomic_store_n(&at[i], stamp(page, k, i), __ATOMIC_RELAXED);
		__atomic_store_n(&ended[page], k, __ATOMIC_SEQ_CST);
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		/* partly in order, partly anywhere */
		page = x % 4 != 0 ? page + WRITERS
				  : x / 4 % (STAMPED / WRITERS) * WRITERS + w->index;
		if (page >= STAMPED)
			page = w->index;
	}
	return NULL;
}

static bool has_paged(const struct fl_stats *s, bool file)
{
	return file ? s->file_dropped > STAMPED / 2 && s->file_read_pages > STAMPED / 2
		    : s->evicted > STAMPED / 2 && s->read_pages > 100;
}

/* Memory of zeros that pages, or a mapping of a file of zeros. */
static void stamps_in(struct fl *fl, struct peek *p, char *mem, bool file)
{
	struct writer w[WRITERS];
	uint64_t reads = 0, low[PEEK_PAGES];
	struct fl_stats s;
	size_t page = 0;
	double until;

	over = 0;
	memset(begun, 0, sizeof(begun));
	memset(ended, 0, sizeof(ended));
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.mem = mem, .index = i};
		assert_int_equal(pthread_create(&w[i].thread, NULL, write_stamps, &w[i]), 0);
	}
	until = test_now() + SECONDS;
	for (; s = live_stats(fl), goes_on(until, has_paged(&s, file) && reads > 100); reads++) {
		unsigned n = 1U << reads % 9;
		int got;

		if (page + n > STAMPED)
			page = 0;
		for (unsigned i = 0; i < n; i++)
			low[i] = __atomic_load_n(&ended[page + i], __ATOMIC_SEQ_CST);
		got = peek_read(p, page_number(mem) + page, n, bytes);
		if (got != (int)n)
			fail_msg("page %zu, %u pages: %d", page, n, got);
		for (unsigned i = 0; i < n; i++) {
			uint64_t high = __atomic_load_n(&begun[page + i], __ATOMIC_SEQ_CST);

			for (size_t k = 0; k < WORDS; k++) {
				uint64_t v = live_page(bytes, i)[k];

				if (v < stamp(page + i, low[i], k) || v > stamp(page + i, high, k))
					fail_msg("page %zu word %zu: %lx, between %lx and %lx",
						 page + i, k, v, stamp(page + i, low[i], k),
						 stamp(page + i, high, k));
			}
		}
		page += n;
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].wrong, 0);
	}
	print_message("# %lu reads while %lu pages left and %lu were read back\n", reads,
		      file ? s.file_dropped : s.evicted, file ? s.file_read_pages : s.read_pages);
	assert_true(has_paged(&s, file) && reads > 100);
	assert_int_equal(live_text_len, 0);
	assert_int_equal(fl_close(fl), 0);
	close_peek(p);
}

static void stamps(void **state)
{
	struct fl *fl = open_runtime();
	struct peek p;

	(void)state;
	live_arm(fl);
	open_peek(&p);
	stamps_in(fl, &p, live_map(fl, STAMPED), false);
}

/* The same of a shared mapping: pages are in its cache, dirty or not, and in the file. */
static void stamps_in_a_file(void **state)
{
	struct fl *fl = open_runtime();
	struct peek p;
	char *mem;

	(void)state;
	make_file(0);
	assert_int_equal(ftruncate(file_fd, STAMPED * PG), 0);
	mem = fl_mmap(fl, NULL, STAMPED * PG, RW, MAP_SHARED, file_fd, 0);
	assert_ptr_not_equal(mem, FL_FAILED);
	open_peek(&p);
	p.file = read_file;
	memset(parts, 0, sizeof(parts));
	stamps_in(fl, &p, mem, true);
	assert_true(parts[PEEK_CACHED] > 0 && parts[PEEK_STORED] > 0);
	close(file_fd);
}

/* And of a private one: what was written is in the area, what was not in the file. */
static void stamps_over_a_file(void **state)
{
	struct fl *fl = open_runtime();
	struct peek p;
	char *mem;

	(void)state;
	make_file(0);
	assert_int_equal(ftruncate(file_fd, STAMPED * PG), 0);
	mem = fl_mmap(fl, NULL, STAMPED * PG, RW, MAP_PRIVATE, file_fd, 0);
	assert_ptr_not_equal(mem, FL_FAILED);
	open_peek(&p);
	p.file = read_file;
	stamps_in(fl, &p, mem, false);
	close(file_fd);
}

/*
 * Memory that moves from place to place, and pages of which are dropped, while
 * both places are read: what is read is the page's content or zeros, and the
 * process loses nothing by it.
 */
#define MOVED_PAGES 600U

struct mover {
	pthread_t thread;
	struct fl *fl;
	char *place[2];
	uint64_t moves, wrong;
};

static void *move_about(void *arg)
{
	struct mover *m = arg;
	unsigned at = 0;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		size_t page = m->moves * 7 % MOVED_PAGES;
		void *to = fl_mremap(m->fl, m->place[at], MOVED_PAGES * PG, MOVED_PAGES * PG,
				     MREMAP_MAYMOVE | MREMAP_FIXED, m->place[!at]);

		m->wrong += to != m->place[!at];
		at = !at;
		m->wrong += live_wrong(m->place[at], page, 1, 11);
		m->wrong += fl_madvise(m->fl, m->place[at] + page * PG, PG, MADV_DONTNEED) != 0;
		live_fill(m->place[at], page, 1, 11);
		m->wrong += fl_madvise(m->fl, m->place[at], 64 * PG, MADV_PAGEOUT) != 0;
		__atomic_store_n(&m->moves, m->moves + 1, __ATOMIC_RELAXED);
	}
	m->wrong += live_wrong(m->place[at], 0, MOVED_PAGES, 11);
	return NULL;
}

static void moves(void **state)
{
	struct mover m = {.fl = open_runtime()};
	char *want = malloc(MOVED_PAGES * PG);
	uint64_t reads = 0, full = 0;
	struct peek p;
	double until;

	(void)state;
	live_arm(m.fl);
	open_peek(&p);
	m.place[0] = live_map(m.fl, MOVED_PAGES);
	m.place[1] = live_map(m.fl, MOVED_PAGES);
	live_fill(m.place[0], 0, MOVED_PAGES, 11);
	live_fill(want, 0, MOVED_PAGES, 11);
	live_out(m.fl, m.place[0], MOVED_PAGES);
	over = 0;
	assert_int_equal(pthread_create(&m.thread, NULL, move_about, &m), 0);
	until = test_now() + SECONDS / 2;
	for (; goes_on(until, full > WORDS && __atomic_load_n(&m.moves, __ATOMIC_RELAXED) > 10);
	     reads++) {
		unsigned page = (unsigned)(reads / 2 * 13 % (MOVED_PAGES - 16));
		int got = peek_read(&p, page_number(m.place[reads % 2]) + page, 16, bytes);

		assert_true(got > 0 || got == -EIO); /* on the move for as long as was looked */
		for (int i = 0; i < got; i++)
			for (size_t k = 0; k < WORDS; k++) {
				uint64_t v = live_page(bytes, (size_t)i)[k];

				if (v != 0 && v != live_page(want, page + (unsigned)i)[k])
					fail_msg("page %u: %lx", page + (unsigned)i, v);
				full += v != 0;
			}
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	print_message("# %lu reads in %lu moves\n", reads, m.moves);
	assert_int_equal(m.wrong, 0);
	assert_true(full > WORDS && m.moves > 10);
	assert_int_equal(live_text_len, 0);
	assert_int_equal(fl_close(m.fl), 0);
	close_peek(&p);
	free(want);
}

/* What is mapped at one place is now this part of a file, now that: what is read is of either. */
#define PARTS_PAGES 300U

static void *map_parts(void *arg)
{
	struct mover *m = arg;

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		unsigned part = m->moves % 2;
		size_t page = m->moves * 7 % PARTS_PAGES;
		void *at = fl_mmap(m->fl, m->place[0], PARTS_PAGES * PG, RW,
				   MAP_FIXED | (m->moves / 2 % 2 ? MAP_SHARED : MAP_PRIVATE),
				   file_fd, part * PARTS_PAGES * (off_t)PG);

		m->wrong += at != m->place[0];
		for (size_t i = page % 3; i < PARTS_PAGES; i += 3)
			m->wrong += live_page(m->place[0], i)[5] !=
				    live_word(part * PARTS_PAGES + i, 5);
		__atomic_store_n(&m->moves, m->moves + 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void parts_of_a_file(void **state)
{
	struct mover m = {.fl = open_runtime()};
	uint64_t reads = 0, of[2] = {0};
	struct peek p;
	double until;

	(void)state;
	make_file(2 * PARTS_PAGES * PG);
	m.place[0] = fl_mmap(m.fl, NULL, PARTS_PAGES * PG, RW, MAP_SHARED, file_fd, 0);
	assert_ptr_not_equal(m.place[0], FL_FAILED);
	open_peek(&p);
	p.file = read_file;
	over = 0;
	assert_int_equal(pthread_create(&m.thread, NULL, map_parts, &m), 0);
	until = test_now() + SECONDS / 2;
	for (; goes_on(until, of[0] > 100 && of[1] > 100); reads++) {
		unsigned page = (unsigned)(reads * 13 % (PARTS_PAGES - 16));
		int got = peek_read(&p, page_number(m.place[0]) + page, 16, bytes);

		assert_true(got > 0 || got == -EIO); /* another mapping each time that was looked */
		for (unsigned i = 0; got > 0 && i < (unsigned)got; i++) {
			const uint64_t *at = live_page(bytes, i);
			unsigned part = at[0] != live_word(page + i, 0);

			/* between two mappings there may be none */
			if (at[0] == 0 && memcmp(at, at + 1, PG - 8) == 0)
				continue;
			for (size_t k = 0; k < WORDS; k++)
				if (at[k] != live_word(part * PARTS_PAGES + page + i, k))
					fail_msg("page %u word %zu: %lx", page + i, k, at[k]);
			of[part]++;
		}
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	print_message("# %lu reads in %lu mappings\n", reads, m.moves);
	assert_int_equal(m.wrong, 0);
	assert_true(of[0] > 100 && of[1] > 100);
	assert_int_equal(live_text_len, 0);
	assert_int_equal(fl_close(m.fl), 0);
	close_peek(&p);
	close(file_fd);
}

/* A process that ends while it is read, and one that never was. */
static void gone(void **state)
{
	int ready[2], hold[2];
	uint64_t address[2];
	struct peek p;
	char path[64], c;
	FILE *maps;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(hold), 0);
	pid = fork();
	if (pid == 0) {
		struct fl *fl;

		test_child();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fl = live_armed(&(struct fl_options){
			.size = sizeof(struct fl_options), .limit = LIMIT, .swap_dir = dir});
		live_fill(live_map(fl, LIMIT_PAGES), 0, LIMIT_PAGES, 1);
		if (write(ready[1], "x", 1) != 1 || read(hold[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	p.mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	assert_true(p.mem_fd >= 0 && maps != NULL);
	assert_int_equal(peek_find(p.mem_fd, maps, address, 2), 1);
	fclose(maps);
	assert_int_equal(peek_open(&p, p.mem_fd, -1, address[0]), 0);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	{
		struct peek_region r;
		uint64_t told[16];

		assert_int_equal(peek_region(&p, 0, &r), 1);
		assert_int_equal(peek_tell(&p, &r, r.start / PG, 16, told, NULL), 0);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(peek_armed(&p), -ESRCH);
	assert_int_equal(peek_read(&p, 1, 1, bytes), -ESRCH);
	assert_int_equal(peek_open(&p, p.mem_fd, -1, address[0]), -ESRCH);
	close(p.mem_fd);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(hold[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state),
		cmocka_unit_test(packed),
		cmocka_unit_test(of_a_file),
		cmocka_unit_test(counters),
		cmocka_unit_test(damaged),
		cmocka_unit_test(stamps),
		cmocka_unit_test(stamps_in_a_file),
		cmocka_unit_test(stamps_over_a_file),
		cmocka_unit_test(moves),
		cmocka_unit_test(parts_of_a_file),
		cmocka_unit_test(gone),
	};

	return cmocka_run_group_tests_name("peek", tests, begin, end);
}
