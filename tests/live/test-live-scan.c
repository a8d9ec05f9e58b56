/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-live-scan.c - what is touched again and again stays while a scan of many
 * times the limit goes by: a hot fifth of the limit keeps nine of ten hits,
 * whichever of the two is a file, and one of up to three quarters does as soon as it is
 * known; a scan that comes again finds a part of itself,
 * or all of it where that fits; and reading in patterns is read ahead.
 */
#include "memsource.h"

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)
#define HOT (LIMIT_PAGES / 5)
#define SCAN (10 * LIMIT_PAGES)

static struct fl *runtime(void)
{
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_open(&o);

	live_arm(fl);
	return fl;
}

static uint64_t waited(struct fl *fl)
{
	struct fl_stats s = live_stats(fl);

	return s.file_major + s.faults_swap;
}

struct score {
	size_t touches, misses;
};

/* Touch the hot part once for each page of a scan; each 16th touch is looked at. */
static void touch_hot(struct fl *fl, char *hot, size_t i, struct score *score)
{
	size_t at = i * 7 % HOT;
	uint64_t before = i % 16 == 0 ? waited(fl) : 0;

	assert_int_equal(*live_page(hot, at), live_word(3 * 1000003 + at, 0));
	if (i % 16 != 0)
		return;
	score->misses += waited(fl) != before;
	score->touches++;
}

static void check_score(const char *what, const struct score *s)
{
	print_message("%s: hot touches %zu, misses %zu\n", what, s->touches, s->misses);
	assert_true(s->misses * 10 <= s->touches);
}

static void of_memory(bool hot_file, bool scan_file, const char *what)
{
	struct fl *fl = runtime();
	int fd = live_file(hot_file || scan_file ? HOT + SCAN : 1, 3);
	struct score fill = {0, 0}, scan = {0, 0};
	char text[64];
	char *hot, *p;

	if (hot_file) {
		hot = fl_mmap(fl, NULL, HOT * PG, PROT_READ, MAP_SHARED, fd, 0);
		assert_ptr_not_equal(hot, FL_FAILED);
	} else {
		hot = live_map(fl, HOT);
		live_fill(hot, 0, HOT, 3);
	}
	live_check(hot, 0, HOT, 3);
	if (scan_file) {
		p = fl_mmap(fl, NULL, SCAN * PG, PROT_READ, MAP_SHARED, fd, HOT * PG);
		assert_ptr_not_equal(p, FL_FAILED);
	} else {
		p = live_map(fl, SCAN);
		/* first touches are a scan, too */
		for (size_t i = 0; i < SCAN; i++) {
			*live_page(p, i) = live_word(3 * 1000003 + HOT + i, 0);
			touch_hot(fl, hot, i, &fill);
		}
		snprintf(text, sizeof(text), "%s, filling", what);
		check_score(text, &fill);
	}
	for (size_t i = 0; i < SCAN; i++) {
		assert_int_equal(*live_page(p, i), live_word(3 * 1000003 + HOT + i, 0));
		touch_hot(fl, hot, i, &scan);
	}
	check_score(what, &scan);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void hot_memory_and_a_scan_of_memory(void **state)
{
	(void)state;
	of_memory(false, false, "memory, memory");
}

static void hot_memory_and_a_scan_of_a_file(void **state)
{
	(void)state;
	of_memory(false, true, "memory, file");
}

static void a_hot_file_and_a_scan_of_memory(void **state)
{
	(void)state;
	of_memory(true, false, "file, memory");
}

static void a_hot_file_and_a_scan_of_a_file(void **state)
{
	(void)state;
	of_memory(true, true, "file, file");
}

/* ---- much that is hot ---- */

/*
 * Most of the limit is touched at random, four pages for each page of a scan of much more.
 * What is hot is to have come before; when the scan begins, and where the hot part changes,
 * it takes a while until that is known.
 */
enum side { MEMORY, SHARED_FILE, PRIVATE_FILE };

struct part {
	enum side side;
	char *mem;
	size_t n;
	uint64_t tag;
	int fd;
};

#define LONG_SCAN (20 * LIMIT_PAGES)
#define SETTLES (2 * LIMIT_PAGES)
#define TOUCHES 4U

/* The first word tells the page; two of three of the others are small where that is to compress. */
static void fill_soft(char *mem, size_t n, uint64_t tag, bool soft)
{
	for (size_t p = 0; p < n; p++)
		for (size_t i = 0; i < WORDS; i++) {
			uint64_t x = live_word(tag * 1000003 + p, i);

			live_page(mem, p)[i] = soft && i % 3 != 0 ? x & 0x0f : x;
		}
}

static void look(const struct part *part, size_t page)
{
	assert_int_equal(*live_page(part->mem, page), live_word(part->tag * 1000003 + page, 0));
}

static struct part make_part(struct fl *fl, enum side side, size_t n, uint64_t tag, bool soft)
{
	const int type = side == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
	/* a private one that may only be read has no copies */
	const int prot = side == SHARED_FILE ? PROT_READ : RW;
	struct part part = {.side = side, .n = n, .tag = tag, .fd = -1};

	if (side == MEMORY) {
		part.mem = live_map(fl, n);
		fill_soft(part.mem, n, tag, soft);
		return part;
	}
	part.fd = live_file(n, tag);
	part.mem = fl_mmap(fl, NULL, n * PG, prot, type, part.fd, 0);
	assert_ptr_not_equal(part.mem, FL_FAILED);
	return part;
}

static void end_part(struct part *part)
{
	if (part->fd >= 0)
		live_file_end(part->fd);
}

static uint64_t asked_for(struct fl *fl)
{
	struct fl_stats s = live_stats(fl);

	return s.file_major + s.faults_swap + s.faults_compressed;
}

/* Go on with a scan for n pages; how the hot part fared in those after `settles`. */
static struct score beside(struct fl *fl, const struct part *hot, const struct part *scan,
			   size_t *at, size_t n, size_t settles)
{
	struct score score = {0, 0};
	uint64_t x = 0x9e3779b97f4a7c15U + *at;

	for (size_t i = 0; i < n; i++) {
		look(scan, (*at)++ % scan->n);
		for (unsigned k = 0; k < TOUCHES; k++) {
			bool looks = i >= settles && (i * TOUCHES + k) % 16 == 0;
			uint64_t before = looks ? asked_for(fl) : 0;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			look(hot, x % hot->n);
			score.touches += looks;
			score.misses += looks && asked_for(fl) != before;
		}
	}
	return score;
}

static const char *name_of(enum side side)
{
	return side == MEMORY ? "memory" : side == SHARED_FILE ? "shared" : "private";
}

static void keeps(enum side hot_side, size_t n, enum side scan_side, enum fl_compress compress)
{
	struct fl_options o = live_options(LIMIT);
	const bool soft = compress != FL_COMPRESS_NONE;
	struct part scan, hot;
	struct score score;
	uint64_t reads;
	size_t at = 0;
	struct fl *fl;

	o.compress = compress;
	o.pool = soft ? LIMIT / 8 : 0;
	fl = live_open(&o);
	live_arm(fl);
	scan = make_part(fl, scan_side, LONG_SCAN, 5, soft);
	hot = make_part(fl, hot_side, n, 3, soft);
	for (size_t i = 0; i < n; i++)
		look(&hot, i);
	reads = live_stats(fl).file_reads;
	score = beside(fl, &hot, &scan, &at, LONG_SCAN, SETTLES);
	reads = live_stats(fl).file_reads - reads;
	print_message("%4zu of %s, scan of %s%s: hot touches %zu, misses %zu; %lu reads of files\n",
		      n, name_of(hot_side), name_of(scan_side), soft ? ", compressed" : "",
		      score.touches, score.misses, (unsigned long)reads);
	/* what is copied is there twice for a while: beside three quarters there is hardly room for that */
	assert_true(score.misses * (scan_side == PRIVATE_FILE && n > LIMIT_PAGES / 2 ? 10 : 20) <=
		    score.touches);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	end_part(&scan);
	end_part(&hot);
}

static void sizes_keep(enum side hot, enum side scan, enum fl_compress compress)
{
	/* a pool has its part of the limit */
	const bool pool = compress != FL_COMPRESS_NONE || live_compressed();
	const size_t most = pool ? LIMIT_PAGES / 2 : LIMIT_PAGES * 3 / 4;

	keeps(hot, HOT, scan, compress);
	keeps(hot, LIMIT_PAGES * 2 / 5, scan, compress);
	keeps(hot, most, scan, compress);
}

static void much_hot_memory_and_a_scan_of_a_file(void **state)
{
	(void)state;
	sizes_keep(MEMORY, SHARED_FILE, FL_COMPRESS_NONE);
	sizes_keep(MEMORY, PRIVATE_FILE, FL_COMPRESS_NONE);
}

static void much_of_a_hot_file_and_a_scan_of_memory(void **state)
{
	(void)state;
	sizes_keep(SHARED_FILE, MEMORY, FL_COMPRESS_NONE);
}

static void much_of_a_hot_file_and_a_scan_of_another(void **state)
{
	(void)state;
	sizes_keep(SHARED_FILE, SHARED_FILE, FL_COMPRESS_NONE);
	sizes_keep(SHARED_FILE, PRIVATE_FILE, FL_COMPRESS_NONE);
}

static void much_that_is_hot_beside_a_pool(void **state)
{
	(void)state;
	sizes_keep(MEMORY, SHARED_FILE, FL_COMPRESS_LZ4);
	sizes_keep(MEMORY, PRIVATE_FILE, FL_COMPRESS_LZ4);
	sizes_keep(SHARED_FILE, MEMORY, FL_COMPRESS_LZ4);
}

/* Memory is hot, then a file is, then memory again, while a scan goes by. */
static void what_is_hot_changes(void **state)
{
	struct fl *fl = runtime();
	struct part scan = make_part(fl, SHARED_FILE, LONG_SCAN, 5, false);
	struct part file = make_part(fl, SHARED_FILE, LIMIT_PAGES / 2, 3, false);
	struct part mem = make_part(fl, MEMORY, LIMIT_PAGES / 2, 4, false);
	size_t at = 0;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct score s = beside(fl, i % 2 == 0 ? &mem : &file, &scan, &at, LONG_SCAN / 2,
					LONG_SCAN / 4);

		print_message("%s is hot: touches %zu, misses %zu\n",
			      i % 2 == 0 ? "memory" : "a file", s.touches, s.misses);
		assert_true(s.misses * 20 <= s.touches);
	}
	assert_int_equal(fl_close(fl), 0);
	end_part(&scan);
	end_part(&file);
}

/* ---- scans of memory that come again ---- */

static uint64_t pages_read(struct fl *fl, char *mem, size_t n)
{
	uint64_t before = live_stats(fl).read_pages;

	live_check(mem, 0, n, 3);
	return live_stats(fl).read_pages - before;
}

/* Of a scan of four times the limit a part stays, for when it comes again. */
static void a_scan_finds_a_part_of_itself(void **state)
{
	struct fl *fl = runtime();
	const size_t n = 4 * LIMIT_PAGES;
	char *p = live_map(fl, n);
	uint64_t read = 0;

	(void)state;
	live_to_slots();
	live_fill(p, 0, n, 3);
	live_check(p, 0, n, 3);
	for (unsigned round = 0; round < 3; round++)
		read += pages_read(fl, p, n);
	print_message("%zu pages three times: %lu were read\n", n, (unsigned long)read);
	assert_true(read <= 3 * n - 3 * n / 8);
	assert_int_equal(fl_close(fl), 0);
}

/* A scan of half of the limit, beside memory that nobody touches, comes to stay. */
static void a_scan_that_fits_comes_to_stay(void **state)
{
	struct fl *fl = runtime();
	const size_t n = LIMIT_PAGES / 2;
	char *p = live_map(fl, n);
	char *cold = live_map(fl, 2 * LIMIT_PAGES);
	uint64_t read = 0;

	(void)state;
	live_fill(p, 0, n, 3);
	live_fill(cold, 0, 2 * LIMIT_PAGES, 3);
	for (unsigned round = 0; round < 8; round++)
		read = pages_read(fl, p, n);
	print_message("%zu pages for the eighth time: %lu were read\n", n, (unsigned long)read);
	assert_true(read <= n / 8);
	live_check(cold, 0, 2 * LIMIT_PAGES, 3);
	assert_int_equal(fl_close(fl), 0);
}

/* Pages that are there already do not end a stream. */
static void a_scan_passes_over_what_is_there(void **state)
{
	struct fl *fl = runtime();
	const size_t n = LIMIT_PAGES / 2;
	char *p = live_map(fl, 4 * LIMIT_PAGES);
	uint64_t faults, began;

	(void)state;
	live_fill(p, 0, 4 * LIMIT_PAGES, 3);
	for (size_t i = 0; i < n; i += 3)
		assert_int_equal(live_wrong(p, (i * 5 + 1) % n, 1, 3), 0);
	began = live_stats(fl).faults_swap;
	live_check(p, 0, n, 3);
	faults = live_stats(fl).faults_swap - began;
	print_message("%zu pages, each third there: %lu windows\n", n, (unsigned long)faults);
	assert_true(faults <= n / 8);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- scans among writers ---- */

#define SHARED_PAGES (4 * LIMIT_PAGES)
#define SCANS 4U

/*
 * Each word of a page is a key of its own plus the number of the write, which a
 * writer tells before it begins and after it ended.
 */
struct shared {
	uint64_t (*page)[WORDS];
	uint32_t began[SHARED_PAGES], ended[SHARED_PAGES];
	uint32_t stop;
};

static uint64_t word_key(size_t page, size_t word)
{
	return live_word(page, 7) ^ (word * 0x9e3779b97f4a7c15U);
}

static void write_page(struct shared *s, size_t page)
{
	uint32_t version = s->began[page] + 1;

	__atomic_store_n(&s->began[page], version, __ATOMIC_SEQ_CST);
	for (size_t w = 0; w < WORDS; w++)
		__atomic_store_n(&s->page[page][w], word_key(page, w) + version, __ATOMIC_RELAXED);
	__atomic_store_n(&s->ended[page], version, __ATOMIC_SEQ_CST);
}

static uint64_t draw(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

struct worker {
	struct shared *s;
	size_t index;
	size_t wrong;
};

static void *write_at_random(void *arg)
{
	struct worker *w = arg;
	uint64_t x = 88172645463325252U + w->index;

	while (!__atomic_load_n(&w->s->stop, __ATOMIC_RELAXED))
		write_page(w->s, draw(&x) % (SHARED_PAGES / 2) * 2 + w->index);
	return NULL;
}

static void *scan_again(void *arg)
{
	struct worker *w = arg;
	struct shared *s = w->s;
	uint64_t x = 362436069 + w->index;

	for (size_t i = 0; i < SCANS * SHARED_PAGES; i++) {
		size_t page = (i + w->index * SHARED_PAGES / 2) % SHARED_PAGES;
		size_t word = draw(&x) % WORDS;
		uint32_t least = __atomic_load_n(&s->ended[page], __ATOMIC_SEQ_CST);
		uint64_t got = __atomic_load_n(&s->page[page][word], __ATOMIC_SEQ_CST);
		uint32_t most = __atomic_load_n(&s->began[page], __ATOMIC_SEQ_CST);
		uint64_t version = got - word_key(page, word);

		w->wrong += version < least || version > most;
	}
	return NULL;
}

static void scans_among_writers_see_what_was_written(enum fl_wp wp, bool in_thread)
{
	struct fl_options o = live_options(LIMIT);
	struct shared *s = calloc(1, sizeof(*s));
	struct worker writer[2], reader[2];
	pthread_t t[4];
	size_t wrong = 0;
	struct fl *fl;

	o.wp = wp;
	fl = live_open(&o);
	live_arm(fl);
	assert_non_null(s);
	s->page = fl_mmap(fl, NULL, SHARED_PAGES * PG, RW,
			  ANON | (in_thread ? FL_MAP_IN_THREAD : 0), -1, 0);
	assert_ptr_not_equal(s->page, FL_FAILED);
	for (size_t i = 0; i < SHARED_PAGES; i++)
		write_page(s, i);
	for (unsigned i = 0; i < 2; i++) {
		writer[i] = reader[i] = (struct worker){.s = s, .index = i};
		assert_int_equal(pthread_create(&t[i], NULL, scan_again, &reader[i]), 0);
		assert_int_equal(pthread_create(&t[2 + i], NULL, write_at_random, &writer[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[2 + i], NULL);
		assert_int_equal(reader[i].wrong, 0);
	}
	for (size_t i = 0; i < SHARED_PAGES; i++)
		for (size_t w = 0; w < WORDS; w++)
			wrong += s->page[i][w] != word_key(i, w) + s->ended[i];
	assert_int_equal(wrong, 0);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	free(s);
}

static void scans_among_writers(void **state)
{
	(void)state;
	scans_among_writers_see_what_was_written(FL_WP_AUTO, false);
}

static void scans_among_writers_exact(void **state)
{
	(void)state;
	scans_among_writers_see_what_was_written(FL_WP_SYNC, false);
}

static void scans_among_writers_in_thread(void **state)
{
	(void)state;
	scans_among_writers_see_what_was_written(FL_WP_AUTO, true);
}

/* ---- reading in patterns ---- */

#define PART 2048U

/* Three ways through three parts of a file, a page of each in turn. */
static void patterns_side_by_side_are_read_ahead(void **state)
{
	struct fl *fl = runtime();
	int fd = live_file(4 * PART, 3);
	char *p = fl_mmap(fl, NULL, 4 * PART * PG, PROT_READ, MAP_SHARED, fd, 0);
	struct fl_stats s;

	(void)state;
	assert_ptr_not_equal(p, FL_FAILED);
	for (size_t i = 0; i < PART; i++) {
		const size_t at[3] = {i, 2 * PART - 1 - i, 3 * PART + i / 5 * 5};

		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(*live_page(p, at[k]), live_word(3 * 1000003 + at[k], 0));
	}
	s = live_stats(fl);
	print_message("%lu touches, %lu faults with a read, %lu pages read\n",
		      3 * (unsigned long)PART, (unsigned long)s.file_major,
		      (unsigned long)s.file_read_pages);
	assert_true(s.file_major < PART / 8);
	assert_true(s.file_read_pages < 2 * PART + PART / 5 + PART / 2);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

struct reader {
	char *mem;
	size_t first, n;
	bool backward;
	size_t wrong;
};

static void *read_part(void *arg)
{
	struct reader *r = arg;

	for (size_t i = 0; i < r->n; i++) {
		size_t at = r->first + (r->backward ? r->n - 1 - i : i);

		r->wrong += live_wrong(r->mem, at, 1, 3);
	}
	return NULL;
}

static void each_thread_keeps_its_stream(void **state)
{
	struct fl *fl = runtime();
	int fd = live_file(4 * PART, 3);
	char *p = fl_mmap(fl, NULL, 4 * PART * PG, PROT_READ, MAP_SHARED, fd, 0);
	struct reader r[4];
	pthread_t t[4];
	struct fl_stats s;

	(void)state;
	assert_ptr_not_equal(p, FL_FAILED);
	for (unsigned i = 0; i < 4; i++) {
		r[i] = (struct reader){p, i * PART, PART, i % 2 != 0, 0};
		assert_int_equal(pthread_create(&t[i], NULL, read_part, &r[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].wrong, 0);
	}
	s = live_stats(fl);
	print_message("%lu reads of %lu pages\n", (unsigned long)s.file_reads,
		      (unsigned long)s.file_read_pages);
	assert_true(s.file_reads < 4 * PART / 8);
	assert_true(s.file_read_pages < 4 * PART + PART);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hot_memory_and_a_scan_of_memory),
		cmocka_unit_test(hot_memory_and_a_scan_of_a_file),
		cmocka_unit_test(a_hot_file_and_a_scan_of_memory),
		cmocka_unit_test(a_hot_file_and_a_scan_of_a_file),
		cmocka_unit_test(much_hot_memory_and_a_scan_of_a_file),
		cmocka_unit_test(much_of_a_hot_file_and_a_scan_of_memory),
		cmocka_unit_test(much_of_a_hot_file_and_a_scan_of_another),
		cmocka_unit_test(much_that_is_hot_beside_a_pool),
		cmocka_unit_test(what_is_hot_changes),
		cmocka_unit_test(a_scan_finds_a_part_of_itself),
		cmocka_unit_test(a_scan_that_fits_comes_to_stay),
		cmocka_unit_test(a_scan_passes_over_what_is_there),
		cmocka_unit_test(scans_among_writers),
		cmocka_unit_test(scans_among_writers_exact),
		cmocka_unit_test(scans_among_writers_in_thread),
		cmocka_unit_test(patterns_side_by_side_are_read_ahead),
		cmocka_unit_test(each_thread_keeps_its_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
