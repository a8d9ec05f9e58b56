/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-live-prefetch.c - fl_prefetch() and fl_try(): pages come before they are
 * touched, who waits is told, and whether a touch would wait is known.
 */
#include "memsource.h"

#include <poll.h>
#include <sys/eventfd.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static struct fl *runtime(unsigned pagers)
{
	struct fl_options o = live_options(LIMIT);

	o.pagers = pagers;
	o.log = live_log;
	live_log_clear();
	return live_open(&o);
}

static int event(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool is_told(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static uint64_t wait_told(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n = 0;

	assert_int_equal(poll(&p, 1, HANG_SECONDS * 1000), 1);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	return n;
}

static void prefetch(struct fl *fl, const void *p, size_t pages)
{
	int fd = event();

	assert_int_equal(fl_prefetch(fl, p, pages * PG, fd), 0);
	assert_int_equal(wait_told(fd), 1);
	close(fd);
}

/* Touches of what was asked for wait for nothing. */
static void pages_of_files_come(void **state)
{
	const size_t n = LIMIT_PAGES / 8;
	struct fl *fl = runtime(1);
	int fd = live_file(4 * LIMIT_PAGES, 3);
	char *p = fl_mmap(fl, NULL, 4 * LIMIT, RW, MAP_SHARED, fd, 0);
	char *q = fl_mmap(fl, NULL, 4 * LIMIT, RW, MAP_PRIVATE, fd, 0);
	uint64_t major;

	(void)state;
	assert_ptr_not_equal(p, FL_FAILED);
	assert_ptr_not_equal(q, FL_FAILED);
	assert_int_equal(fl_try(fl, p + 100 * PG, PG), -EAGAIN);
	assert_int_equal(live_kind(fl, p + 100 * PG), FL_PAGE_FILE);
	prefetch(fl, p + 100 * PG, n);
	assert_int_equal(fl_try(fl, p + 100 * PG, n * PG), 0);
	assert_int_equal(fl_try(fl, p + 99 * PG, PG), -EAGAIN);
	major = live_stats(fl).file_major;
	live_check(p, 100, n, 3);
	/* the private one finds them cached */
	assert_int_equal(live_kind(fl, q + 110 * PG), FL_PAGE_CACHED);
	assert_int_equal(fl_try(fl, q + 100 * PG, n * PG), 0);
	live_check(q, 100, n, 3);
	assert_int_equal(live_stats(fl).file_major, major);
	/* and asks for its own */
	assert_int_equal(fl_try(fl, q + 2000 * PG, PG), -EAGAIN);
	prefetch(fl, q + 2000 * PG, n);
	assert_int_equal(fl_try(fl, q + 2000 * PG, n * PG), 0);
	major = live_stats(fl).file_major;
	live_check(q, 2000, n, 3);
	assert_int_equal(live_stats(fl).file_major, major);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void the_call_returns_before_the_pages_come(void **state)
{
	struct fl *fl = runtime(1);
	struct memsource *s = memsource_new(256, 3);
	struct fl_backing *b = memsource_open(fl, s, 2);
	char *p = memsource_map(fl, b, 256, MAP_SHARED);
	int fd = event();

	(void)state;
	s->held = true;
	assert_int_equal(fl_prefetch(fl, p, 32 * PG, fd), 0);
	memsource_await(s, &s->reads, 1);
	assert_int_equal(fl_try(fl, p + 3 * PG, PG), -EAGAIN);
	assert_true(live_state(fl, p + 3 * PG) & FL_PAGE_BUSY);
	assert_false(is_told(fd));
	/* another one, of nothing that is away, overtakes it */
	assert_int_equal(fl_prefetch(fl, p, 32 * PG, -1), 0);
	memsource_set(s, &s->held, false);
	assert_int_equal(wait_told(fd), 1);
	assert_int_equal(fl_try(fl, p, 32 * PG), 0);
	live_check(p, 0, 32, 3);
	close(fd);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void swapped_pages_come(void **state)
{
	const size_t n = LIMIT_PAGES / 8;

	(void)state;
	for (unsigned pagers = 1; pagers <= 2; pagers++) {
		struct fl *fl = runtime(pagers);
		char *p;
		uint64_t major;

		live_arm(fl);
		p = live_map(fl, n + 1024);
		live_fill(p, 0, n, 5);
		for (size_t i = 0; i < n; i += 3)
			memset(p + i * PG, 0x55, PG); /* one word */
		live_out(fl, p, n);
		assert_true(live_away(fl, p, n) > n / 2);
		assert_true(live_count(fl, p, n, FL_PAGE_FILLED) >= n / 3);
		assert_int_equal(fl_try(fl, p, n * PG), -EAGAIN);
		prefetch(fl, p, n + 1024);
		assert_int_equal(live_count(fl, p, n, FL_PAGE_PRESENT), n);
		/* what was never touched, or given along, has nothing to come */
		assert_int_equal(live_count(fl, p + (n + 600) * PG, 424, FL_PAGE_NONE), 424);
		assert_int_equal(fl_try(fl, p, (n + 1024) * PG), 0);
		major = live_stats(fl).faults_major;
		for (size_t i = 0; i < n; i++) {
			if (i % 3 != 0)
				live_check(p, i, 1, 5);
			else
				assert_int_equal(p[i * PG + 77], 0x55);
		}
		assert_int_equal(live_stats(fl).faults_major, major);
		assert_int_equal(fl_close(fl), 0);
	}
}

static void the_limit_bounds_what_comes(void **state)
{
	struct fl *fl = runtime(1);
	int fd = live_file(8 * LIMIT_PAGES, 3);
	char *p = fl_mmap(fl, NULL, 8 * LIMIT, RW, MAP_SHARED, fd, 0);
	char *a;
	size_t there;

	(void)state;
	assert_ptr_not_equal(p, FL_FAILED);
	prefetch(fl, p, 8 * LIMIT_PAGES);
	there = live_count(fl, p, 8 * LIMIT_PAGES, FL_PAGE_PRESENT);
	assert_in_range(there, LIMIT_PAGES / 8, LIMIT_PAGES / 4);
	a = live_map(fl, 4 * LIMIT_PAGES);
	live_fill(a, 0, 4 * LIMIT_PAGES, 6);
	prefetch(fl, a, 4 * LIMIT_PAGES);
	live_check(a, 0, 4 * LIMIT_PAGES, 6);
	live_check(p, 0, 8 * LIMIT_PAGES, 3);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void reads_that_fail_are_an_end_too(void **state)
{
	struct fl *fl = runtime(1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);

	(void)state;
	s->fail_read = -EIO;
	s->bad_page = 7;
	prefetch(fl, p, 32);
	assert_int_equal(fl_try(fl, p + 7 * PG, PG), -EAGAIN);
	assert_true(live_bus(p + 7 * PG));
	s->fail_read = 0;
	until(!live_bus(p + 7 * PG));
	live_check(p, 0, 64, 3);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void arguments_are_checked(void **state)
{
	struct fl *fl = runtime(1);
	int fd = live_file(16, 3);
	char *p, *bare = mmap(NULL, 4 * PG, RW, ANON, -1, 0);
	int efd = event();
	struct stat st;

	(void)state;
	/* what is not armed is all there */
	p = live_map(fl, 4);
	assert_int_equal(fl_prefetch(fl, p, 4 * PG, efd), 0);
	assert_int_equal(wait_told(efd), 1);
	assert_int_equal(fl_try(fl, p, 4 * PG), 0);
	assert_int_equal(fl_prefetch(fl, p, PG, fd), -EINVAL);
	p = fl_mmap(fl, NULL, 16 * PG, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	assert_int_equal(fl_prefetch(fl, p, PG, fd), -EINVAL);
	assert_int_equal(fl_prefetch(fl, p, PG, 9999), -EBADF);
	assert_int_equal(fl_prefetch(fl, p, PG, -2), -EBADF);
	assert_int_equal(fl_prefetch(fl, p + 1, PG, -1), -EINVAL);
	assert_int_equal(fl_prefetch(fl, p, 0, -1), -EINVAL);
	assert_int_equal(fl_prefetch(fl, bare, PG, -1), -ENOMEM);
	assert_int_equal(fl_try(fl, p + 1, PG), -EINVAL);
	assert_int_equal(fl_try(fl, p, 0), -EINVAL);
	assert_int_equal(fl_try(fl, bare, PG), -ENOMEM);
	assert_int_equal(fl_prefetch(fl, p, 16 * PG, -1), 0);
	until(fl_try(fl, p, 16 * PG) == 0);
	/* beyond the end there is nothing to come */
	assert_int_equal(ftruncate(fd, 4 * PG), 0);
	p = fl_mmap(fl, NULL, 64 * PG, PROT_READ, MAP_SHARED, fd, 0);
	prefetch(fl, p, 64);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4 * PG);
	munmap(bare, 4 * PG);
	close(efd);
	live_file_end(fd);
}

/* An eventfd that has no room: who reads it is told, and nobody waits for that. */
static void a_full_eventfd_holds_up_nobody(void **state)
{
	uint64_t full = UINT64_MAX - 1;
	struct fl *fl = runtime(1);
	int fd = live_file(64, 3);
	char *p = fl_mmap(fl, NULL, 64 * PG, PROT_READ, MAP_SHARED, fd, 0);
	int image = open(live_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int efd = event();
	char *mem;

	(void)state;
	assert_ptr_not_equal(p, FL_FAILED);
	assert_int_equal(write(efd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fl_prefetch(fl, p, 32 * PG, efd), 0);
	until(fl_try(fl, p, 32 * PG) == 0);
	live_check(p, 0, 64, 3);
	mem = live_map(fl, 16);
	live_fill(mem, 0, 16, 4);
	assert_int_equal(fl_snapshot(fl, mem, 16 * PG, image, 0, efd), 0);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	live_check(mem, 0, 16, 4);
	assert_int_equal(wait_told(efd), full);
	assert_int_equal(fl_close(fl), 0);
	close(image);
	close(efd);
	live_file_end(fd);
}

static void closing_tells_who_waits(void **state)
{
	struct fl *fl = runtime(1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);
	int gone = event(), fd = event();

	(void)state;
	/* what is unmapped is waited for no more */
	s->held = true;
	assert_int_equal(fl_prefetch(fl, p, 32 * PG, gone), 0);
	memsource_await(s, &s->reads, 1);
	assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
	assert_int_equal(wait_told(gone), 1);
	memsource_set(s, &s->held, false);
	p = memsource_map(fl, b, 64, MAP_SHARED);
	assert_int_equal(fl_prefetch(fl, p, 64 * PG, fd), 0);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(wait_told(fd), 1);
	close(fd);
	close(gone);
	memsource_end(s);
}

/* ---- all at once ---- */

#define WORKERS 4U
#define PART 600U /* pages each: together more than the limit */
#define ROUNDS 400U

struct worker {
	struct fl *fl;
	char *mem;
	unsigned number;
	size_t wrong;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	char *mine = w->mem + (size_t)w->number * PART * PG;
	uint64_t x = w->number + 1;
	int fd = eventfd(0, EFD_CLOEXEC);
	uint32_t version[PART] = {0};

	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t page, n;

		x = x * 6364136223846793005U + 1442695040888963407U;
		page = (x >> 33) % PART;
		n = 1 + (x >> 20) % 32;
		if (n > PART - page)
			n = PART - page;
		if (fl_prefetch(w->fl, mine + page * PG, n * PG, round % 4 ? -1 : fd) != 0)
			w->wrong++;
		if (round % 4 == 0)
			wait_told(fd);
		for (size_t i = page; i < page + n; i++) {
			uint64_t *word = live_page(mine, i);

			fl_try(w->fl, word, PG);
			for (size_t k = 0; k < WORDS; k++)
				w->wrong += word[k] !=
					    (version[i] == 0 ? 0 : live_word(i, k) + version[i]);
			if (round % 3 != 0)
				continue;
			version[i]++;
			for (size_t k = 0; k < WORDS; k++)
				word[k] = live_word(i, k) + version[i];
		}
	}
	close(fd);
	return NULL;
}

static void run_workers(struct fl *fl, char *mem)
{
	struct worker w[WORKERS];
	pthread_t t[WORKERS];

	for (unsigned i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){.fl = fl, .mem = mem, .number = i};
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(w[i].wrong, 0);
	}
}

static void threads_prefetch_what_others_push_out(void **state)
{
	struct fl *fl = runtime(2);
	int fd = live_file(1, 0);
	char *mem;

	(void)state;
	live_arm(fl);
	run_workers(fl, live_map(fl, WORKERS * PART));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(ftruncate(fd, WORKERS * PART * PG), 0);
	mem = fl_mmap(fl, NULL, WORKERS * PART * PG, RW, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, FL_FAILED);
	run_workers(fl, mem);
	assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

struct looker {
	struct fl *fl;
	char *at;
	bool stop;
	unsigned long answers;
	unsigned long odd;
};

static void *look(void *arg)
{
	struct looker *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		int r = fl_try(l->fl, l->at, 16 * PG);

		l->odd += r != 0 && r != -EAGAIN && r != -ENOMEM;
		__atomic_fetch_add(&l->answers, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* fl_try() reads what pagers free, while they free it. */
static void trying_meets_mappings_that_go(void **state)
{
	struct fl *fl = runtime(1);
	char *at = mmap(NULL, 64 * PG, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	struct looker l = {.fl = fl, .at = at};
	unsigned long before;
	pthread_t t;

	(void)state;
	live_arm(fl);
	assert_int_equal(pthread_create(&t, NULL, look, &l), 0);
	for (unsigned i = 0; i < 200; i++) {
		int fd = live_file(64, i);
		char *p = fl_mmap(fl, at, 64 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0);

		assert_ptr_equal(p, at);
		live_check(p, 0, 16, i);
		before = __atomic_load_n(&l.answers, __ATOMIC_RELAXED);
		until(__atomic_load_n(&l.answers, __ATOMIC_RELAXED) != before);
		assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
		assert_ptr_equal(mmap(at, 64 * PG, PROT_NONE, ANON | MAP_FIXED, -1, 0), at);
		live_file_end(fd);
	}
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	assert_int_equal(l.odd, 0);
	assert_int_equal(fl_close(fl), 0);
}

/*
 * Memory that was never touched is not looked at page by page, while faults wait: that would
 * take more than a minute.
 */
static void untouched_memory_is_tried_at_once(void **state)
{
	const size_t n = ((size_t)32 << 40) / PG;
	struct fl *fl = runtime(1);
	char *p = live_map(fl, n);
	double start;

	(void)state;
	live_to_slots();
	live_fill(p, n / 2, 2, 3);
	start = test_now();
	assert_int_equal(fl_try(fl, p, n * PG), 0);
	assert_true(test_now() - start < 10);
	live_out(fl, p + n / 2 * PG, 1);
	assert_int_equal(fl_try(fl, p, n * PG), -EAGAIN);
	assert_int_equal(fl_try(fl, p, n / 2 * PG), 0);
	assert_int_equal(fl_close(fl), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_of_files_come),
		cmocka_unit_test(the_call_returns_before_the_pages_come),
		cmocka_unit_test(swapped_pages_come),
		cmocka_unit_test(untouched_memory_is_tried_at_once),
		cmocka_unit_test(the_limit_bounds_what_comes),
		cmocka_unit_test(reads_that_fail_are_an_end_too),
		cmocka_unit_test(arguments_are_checked),
		cmocka_unit_test(a_full_eventfd_holds_up_nobody),
		cmocka_unit_test(closing_tells_who_waits),
		cmocka_unit_test(threads_prefetch_what_others_push_out),
		cmocka_unit_test(trying_meets_mappings_that_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
