/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-live-hold.c - held mappings: what is stored in one reaches its file by
 * fl_sync() alone, whole pages at a time, however tight memory is and whenever
 * the process is killed.
 */
#include "memsource.h"

#include <sys/wait.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)
#define HOLD (MAP_SHARED | FL_MAP_HOLD)

static struct fl *runtime_of(enum fl_engine engine, enum fl_wp wp, unsigned pagers, uint64_t limit)
{
	struct fl_options o = live_options(limit);

	o.engine = engine;
	o.wp = wp;
	o.pagers = pagers;
	o.log = live_log;
	live_log_clear();
	return live_open(&o);
}

static struct fl *runtime(void)
{
	return runtime_of(FL_ENGINE_AUTO, FL_WP_AUTO, 1, LIMIT);
}

static char *hold(struct fl *fl, int fd, size_t pages)
{
	char *p = fl_mmap(fl, NULL, pages * PG, RW, HOLD, fd, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/*
 * But a page that is present and equal to its file, or in the file only.  A compressed
 * page beside its frame is not told: those that are changed go to the pool again.
 */
static size_t changed_pages(struct fl *fl, char *p, size_t n)
{
	unsigned char *vec = malloc(n);
	size_t changed = 0;

	assert_non_null(vec);
	if (live_compressed())
		live_out(fl, p, n);
	assert_int_equal(fl_page_state(fl, p, n * PG, vec), 0);
	for (size_t i = 0; i < n; i++) {
		unsigned kind = FL_PAGE_KIND(vec[i]);

		if (kind != FL_PAGE_FILE && kind != FL_PAGE_CACHED &&
		    !(kind == FL_PAGE_PRESENT && (vec[i] & FL_PAGE_WP) &&
		      !(vec[i] & FL_PAGE_HAS_SLOT)))
			changed++;
	}
	free(vec);
	return changed;
}

static void only_fl_sync_writes(void **state)
{
	static const struct {
		enum fl_engine engine;
		enum fl_wp wp;
		unsigned pagers;
	} how[] = {
		{FL_ENGINE_AUTO, FL_WP_AUTO, 1},
		{FL_ENGINE_AUTO, FL_WP_SYNC, 2},
		{FL_ENGINE_SYNC, FL_WP_OFF, 1},
	};
	const size_t n = 3 * LIMIT_PAGES;

	(void)state;
	for (size_t k = 0; k < sizeof(how) / sizeof(how[0]); k++) {
		struct fl *fl = runtime_of(how[k].engine, how[k].wp, how[k].pagers, LIMIT);
		int fd = live_file(n, 3);
		char *p = hold(fl, fd, n);
		struct fl_stats s;

		live_check(p, 0, n, 3);
		assert_int_equal(changed_pages(fl, p, n), 0);
		live_fill(p, 0, n, 4);
		assert_true(live_count(fl, p, n, FL_PAGE_SWAPPED) > LIMIT_PAGES);
		/* msync has nothing to do with it */
		assert_int_equal(fl_msync(fl, p, n * PG, MS_SYNC), 0);
		assert_int_equal(live_stats(fl).file_writes, 0);
		assert_int_equal(live_file_wrong(fd, 0, n, 3), 0);
		live_check(p, 0, n, 4); /* and read back, some keep their slots */
		assert_int_equal(live_file_wrong(fd, 0, n, 3), 0);
		assert_int_equal(fl_sync(fl, p, n * PG), 0);
		assert_int_equal(live_file_wrong(fd, 0, n, 4), 0);
		s = live_stats(fl);
		assert_int_equal(s.file_write_pages, n);
		assert_true(s.file_writes < n / 4); /* neighbours together */
		live_check(p, 0, n, 4);
		/* nothing more to write, but what moved out of the call's sight */
		assert_int_equal(fl_sync(fl, p, n * PG), 0);
		assert_int_equal(fl_sync(fl, p, n * PG), 0);
		assert_int_equal(changed_pages(fl, p, n), 0);
		until(live_stats(fl).slots_used == 0);
		live_fill(p, 10, 1, 5);
		assert_int_equal(changed_pages(fl, p, n), 1);
		live_fill(p, 11, 1, 5);
		live_fill(p, 900, 1, 5);
		/* of the range only */
		s = live_stats(fl);
		assert_int_equal(fl_sync(fl, p + 10 * PG, PG), 0);
		assert_int_equal(live_stats(fl).file_write_pages - s.file_write_pages, 1);
		assert_int_equal(live_file_wrong(fd, 10, 1, 5), 0);
		assert_int_equal(live_file_wrong(fd, 11, n - 11, 4), 0);
		assert_int_equal(changed_pages(fl, p, n), 2);
		assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
		assert_int_equal(fl_close(fl), 0);
		/* what was not synced is not in the file */
		assert_int_equal(live_file_wrong(fd, 11, n - 11, 4), 0);
		live_file_end(fd);
	}
}

/* Wherever a changed page is, its bytes are found. */
static void pages_in_every_state_are_written(void **state)
{
	const size_t n = 64;
	struct fl *fl = runtime();
	int fd = live_file(n + 1, 3);
	char *p = hold(fl, fd, n);

	(void)state;
	live_fill(p, 0, 30, 4);
	for (size_t i = 30; i < 40; i++)
		memset(p + i * PG, (int)i, PG); /* one word */
	live_out(fl, p, n);
	assert_int_equal(live_away(fl, p, n), 30);
	assert_int_equal(live_count(fl, p, n, FL_PAGE_FILLED), 10);
	live_check(p, 20, 4, 4);			/* present, with their slots */
	live_fill(p, 24, 16, 6);			/* present, without */
	live_fill(p, 45, 3, 6);				/* never away */
	assert_int_equal(live_bus(p + 50 * PG), false); /* not changed */
	/* read ahead */
	assert_int_equal(fl_madvise(fl, p, 4 * PG, MADV_WILLNEED), 0);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_stats(fl).file_write_pages, 43);
	assert_int_equal(live_file_wrong(fd, 0, 24, 4), 0);
	assert_int_equal(live_file_wrong(fd, 24, 16, 6), 0);
	assert_int_equal(live_file_wrong(fd, 40, 5, 3), 0);
	assert_int_equal(live_file_wrong(fd, 45, 3, 6), 0);
	assert_int_equal(live_file_wrong(fd, 48, 17, 3), 0);
	live_check(p, 0, 24, 4);
	live_check(p, 24, 16, 6);
	live_check(p, 48, 16, 3);
	/* staged: on their way out */
	live_fill(p, 0, n, 7);
	assert_int_equal(fl_madvise(fl, p, n * PG, MADV_PAGEOUT), 0);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_file_wrong(fd, 0, n, 7), 0);
	live_check(p, 0, n, 7);
	/* of one word, still away */
	memset(p, 0x77, n * PG);
	live_out(fl, p, n);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(changed_pages(fl, p, n), 0);
	assert_int_equal(live_stats(fl).filled, 0);
	for (size_t i = 0; i < n * PG; i++)
		assert_int_equal(p[i], 0x77);
	/* read-only meanwhile, and moved */
	live_fill(p, 0, n, 8);
	assert_int_equal(fl_mprotect(fl, p, n * PG, PROT_READ), 0);
	live_out(fl, p, n / 2);
	p = fl_mremap(fl, p, n * PG, n * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
		      mmap(NULL, n * PG, PROT_NONE, ANON, -1, 0));
	assert_ptr_not_equal(p, FL_FAILED);
	assert_int_equal(live_file_wrong(fd, 0, 1, 8), WORDS);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_file_wrong(fd, 0, n, 8), 0);
	live_check(p, 0, n, 8);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void changes_can_be_dropped(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime();
	int fd = live_file(n, 3);
	char *p = hold(fl, fd, n);

	(void)state;
	live_fill(p, 0, n, 4);
	assert_int_equal(fl_madvise(fl, p + 100 * PG, (n - 100) * PG, MADV_DONTNEED), 0);
	live_check(p, 0, 100, 4);
	live_check(p, 100, n - 100, 3);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_stats(fl).file_write_pages, 100);
	live_fill(p, 0, n, 5);
	assert_int_equal(fl_munmap(fl, p, n * PG), 0);
	p = hold(fl, fd, n);
	live_check(p, 0, 100, 4);
	live_check(p, 100, n - 100, 3);
	live_fill(p, 0, n, 6);
	assert_int_equal(fl_close(fl), 0);
	assert_int_equal(live_file_wrong(fd, 0, 100, 4), 0);
	assert_int_equal(live_file_wrong(fd, 100, n - 100, 3), 0);
	live_file_end(fd);
}

static void other_mappings_see_what_was_synced(void **state)
{
	const size_t n = 200;
	struct fl *fl = runtime();
	int fd = live_file(n, 3);
	char *p = hold(fl, fd, n);
	char *shared = fl_mmap(fl, NULL, n * PG, RW, MAP_SHARED, fd, 0);
	char *private = fl_mmap(fl, NULL, n * PG, RW, MAP_PRIVATE, fd, 0);

	(void)state;
	assert_ptr_not_equal(shared, FL_FAILED);
	assert_ptr_not_equal(private, FL_FAILED);
	live_check(shared, 0, n, 3);
	live_fill(p, 0, n, 4);
	live_check(shared, 0, n, 3);
	live_fill(shared, 50, 10, 5); /* dirty there, too: what is synced comes later */
	live_fill(private, 60, 10, 6);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	live_check(shared, 0, n, 4);
	live_check(private, 0, 60, 4);
	live_check(private, 60, 10, 6);
	live_check(private, 70, n - 70, 4);
	assert_int_equal(fl_msync(fl, shared, n * PG, MS_SYNC), 0);
	assert_int_equal(live_file_wrong(fd, 0, n, 4), 0);
	/* and the held one sees theirs where it has no change of its own, once its page left */
	live_fill(shared, 20, 10, 7);
	assert_int_equal(fl_madvise(fl, p, n * PG, MADV_DONTNEED), 0);
	live_check(p, 20, 10, 7);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void the_end_of_a_file(void **state)
{
	struct fl *fl = runtime();
	int fd = live_file(20, 3);
	char tail[PG];
	struct stat st;
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, 10 * PG + 100), 0);
	p = hold(fl, fd, 20);
	live_fill(p, 0, 11, 4);
	assert_int_equal(fl_sync(fl, p, 20 * PG), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 10 * PG + 100);
	assert_int_equal(live_file_wrong(fd, 0, 10, 4), 0);
	assert_int_equal(pread(fd, tail, PG, 10 * PG), 100);
	assert_memory_equal(tail, p + 10 * PG, 100);
	assert_true(live_bus(p + 11 * PG));
	/* what is cut off is gone, held or not */
	live_fill(p, 0, 11, 5);
	assert_int_equal(fl_ftruncate(fl, fd, 4 * PG), 0);
	assert_int_equal(fl_sync(fl, p, 20 * PG), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4 * PG);
	assert_int_equal(live_file_wrong(fd, 0, 4, 5), 0);
	assert_true(live_bus(p + 4 * PG));
	/* and it may grow */
	assert_int_equal(fl_ftruncate(fl, fd, 20 * PG), 0);
	live_fill(p, 4, 16, 6);
	assert_int_equal(fl_sync(fl, p, 20 * PG), 0);
	assert_int_equal(live_file_wrong(fd, 4, 16, 6), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void errors_leave_the_changes_held(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime();
	struct memsource *s = memsource_new(n, 3);
	struct fl_backing *b = memsource_open(fl, s, 2);
	char *p = memsource_map(fl, b, n, HOLD);

	(void)state;
	live_fill(p, 0, n, 4);
	s->fail_write = -ENOSPC;
	s->bad_page = 700;
	assert_int_equal(fl_sync(fl, p, n * PG), -ENOSPC);
	assert_non_null(strstr(live_text, "its changes stay held"));
	assert_int_equal(s->syncs, 0);
	assert_int_equal(changed_pages(fl, p, n), n);
	assert_int_equal(live_wrong(s->bytes, 700, 1, 3), 0);
	live_check(p, 0, n, 4);
	/* no attempt is made behind the program's back */
	assert_int_equal(live_stats(fl).cache_dirty, 0);
	s->fail_write = 0;
	s->fail_sync = -EIO;
	assert_int_equal(fl_sync(fl, p, n * PG), -EIO);
	assert_int_equal(changed_pages(fl, p, n), n);
	s->fail_sync = 0;
	live_fill(p, 5, 1, 5);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_wrong(s->bytes, 0, 5, 4), 0);
	assert_int_equal(live_wrong(s->bytes, 5, 1, 5), 0);
	assert_int_equal(live_wrong(s->bytes, 6, n - 6, 4), 0);
	live_check(p, 6, n - 6, 4);
	assert_int_equal(fl_backing_close(b), -EBUSY);
	assert_int_equal(fl_munmap(fl, p, n * PG), 0);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

static void arguments_are_checked(void **state)
{
	struct fl *fl = runtime();
	int fd = live_file(16, 3);
	int ro = open(memsource_path, O_RDONLY);
	int mem = memfd_create("hold", 0);
	int fd2;
	char *p, *q;

	(void)state;
	assert_int_equal(fl_sync(fl, (void *)PG, PG), -EINVAL);
	assert_ptr_equal(fl_mmap(fl, NULL, PG, RW, MAP_PRIVATE | FL_MAP_HOLD, fd, 0), FL_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_ptr_equal(fl_mmap(fl, NULL, PG, RW, ANON | FL_MAP_HOLD, -1, 0), FL_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ftruncate(mem, PG), 0);
	assert_ptr_equal(fl_mmap(fl, NULL, PG, RW, HOLD, mem, 0), FL_FAILED);
	assert_int_equal(errno, EOPNOTSUPP);
	assert_ptr_equal(fl_mmap(fl, NULL, PG, RW, HOLD, 9999, 0), FL_FAILED);
	assert_int_equal(errno, EBADF);
	assert_ptr_equal(fl_mmap(fl, NULL, PG, RW, HOLD, ro, 0), FL_FAILED);
	assert_int_equal(errno, EACCES);
	p = fl_mmap(fl, NULL, 16 * PG, PROT_READ, HOLD, ro, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	live_check(p, 0, 16, 3);
	assert_int_equal(fl_mprotect(fl, p, PG, RW), -EACCES);
	assert_int_equal(fl_sync(fl, p, 16 * PG), 0);
	p = hold(fl, fd, 16);
	q = fl_mmap(fl, NULL, 16 * PG, RW, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(q, FL_FAILED);
	assert_int_equal(fl_sync(fl, q, 16 * PG), -EINVAL);
	assert_int_equal(fl_sync(fl, p + 1, PG), -EINVAL);
	assert_int_equal(fl_sync(fl, p, 0), -EINVAL);
	/* a range of several mappings, of several files */
	fd2 = open(memsource_path, O_RDONLY);
	close(fd2);
	unlink(memsource_path);
	fd2 = live_file(8, 7);
	assert_ptr_equal(fl_mmap(fl, p + 4 * PG, 4 * PG, RW, HOLD | MAP_FIXED, fd2, 0), p + 4 * PG);
	live_fill(p, 0, 16, 9);
	assert_int_equal(fl_sync(fl, p, 16 * PG), 0);
	assert_int_equal(live_file_wrong(fd, 0, 4, 9), 0);
	assert_int_equal(live_file_wrong(fd, 4, 4, 3), 0);
	assert_int_equal(live_file_wrong(fd, 8, 8, 9), 0);
	assert_int_equal(live_file_wrong(fd2, 4, 4, 7), 0);
	live_check(p, 0, 16, 9);
	assert_int_equal(fl_close(fl), 0);
	close(mem);
	close(ro);
	close(fd);
	live_file_end(fd2);
}

/* ---- while others write ---- */

#define WRITERS 3U
#define PART 500U /* pages each: together more than the limit */

struct writer {
	struct fl *fl;
	char *mem;
	unsigned number;
	uint64_t version[PART];
	size_t wrong;
	bool stop;
};

/*
 * A writer stores a page's next version word by word, in order.  At any moment
 * the page is so many words of one version and the rest of the one before.
 */
static size_t torn;
static uint64_t *newest; /* by page: the last version that was written to the source */

static void look_at_page(const void *page, size_t number)
{
	uint64_t first, last;

	memcpy(&first, page, sizeof(first));
	last = first;
	for (size_t i = 1; i < WORDS; i++) {
		uint64_t v;

		memcpy(&v, (const char *)page + i * sizeof(v), sizeof(v));
		if (v != last && v != first - 1)
			torn++;
		last = v;
	}
	if (first < newest[number])
		torn++;
	newest[number] = first;
}

static void *write_pages(void *arg)
{
	struct writer *w = arg;
	char *mine = w->mem + (size_t)w->number * PART * PG;
	uint64_t x = w->number + 1;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		volatile uint64_t *word;
		size_t page;

		x = x * 6364136223846793005U + 1442695040888963407U;
		page = (x >> 33) % PART;
		word = live_page(mine, page);
		for (size_t i = 0; i < WORDS; i++)
			w->wrong += word[i] != w->version[page];
		w->version[page]++;
		for (size_t i = 0; i < WORDS; i++)
			word[i] = w->version[page];
	}
	return NULL;
}

static void *sync_on_and_on(void *arg)
{
	struct writer *w = arg;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE))
		w->wrong += fl_sync(w->fl, w->mem, WRITERS * PART * PG) != 0;
	return NULL;
}

static void pages_are_synced_whole(void **state)
{
	const size_t n = WRITERS * PART;

	(void)state;
	for (unsigned pagers = 1; pagers <= 2; pagers++) {
		struct fl *fl = runtime_of(FL_ENGINE_AUTO, pagers == 1 ? FL_WP_AUTO : FL_WP_OFF,
					   pagers, LIMIT);
		struct memsource *s = memsource_new(n, 0);
		struct fl_backing *b = memsource_open(fl, s, 2);
		static struct writer w[WRITERS + 1];
		pthread_t t[WRITERS + 1];
		double end = test_now() + 2;
		unsigned syncs = 0;
		char *p;

		torn = 0;
		newest = calloc(n, sizeof(*newest));
		memset(s->bytes, 0, n * PG);
		s->look = look_at_page;
		p = memsource_map(fl, b, n, HOLD);
		memset(w, 0, sizeof(w));
		for (unsigned i = 0; i <= WRITERS; i++) {
			w[i].fl = fl;
			w[i].mem = p;
			w[i].number = i;
			assert_int_equal(pthread_create(&t[i], NULL,
							i < WRITERS ? write_pages : sync_on_and_on,
							&w[i]),
					 0);
		}
		for (; test_now() < end || syncs <= 4; syncs++) {
			size_t at = syncs % 4 * (n / 4);

			assert_int_equal(fl_sync(fl, p + at * PG, n / 4 * PG), 0);
		}
		for (unsigned i = 0; i <= WRITERS; i++) {
			__atomic_store_n(&w[i].stop, true, __ATOMIC_RELEASE);
			pthread_join(t[i], NULL);
			assert_int_equal(w[i].wrong, 0);
		}
		assert_int_equal(torn, 0);
		assert_int_equal(fl_sync(fl, p, n * PG), 0);
		assert_int_equal(torn, 0);
		for (size_t i = 0; i < n; i++)
			for (size_t k = 0; k < WORDS; k++) {
				assert_int_equal(live_page(s->bytes, i)[k],
						 w[i / PART].version[i % PART]);
				assert_int_equal(live_page(p, i)[k], w[i / PART].version[i % PART]);
			}
		print_message("%u syncs beside the others, %zu pages written\n", syncs, s->written);
		assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
		assert_int_equal(fl_close(fl), 0);
		free(newest);
		memsource_end(s);
	}
}

static void *sync_once(void *arg)
{
	struct writer *w = arg;

	w->wrong += fl_sync(w->fl, w->mem, 64 * PG) != 0;
	return NULL;
}

/* What is stored while the file is being written is held, not lost and not synced. */
struct toucher {
	char *mem;
	size_t pages, first, step;
	bool stop; /* atomic */
};

/* One of several threads: its pages of all, in no order. */
static void *touch_on(void *arg)
{
	struct toucher *t = arg;
	uint64_t n = t->first + 1;

	while (!__atomic_load_n(&t->stop, __ATOMIC_RELAXED)) {
		size_t page;

		n = n * 6364136223846793005U + 1442695040888963407U;
		page = (n >> 33) % (t->pages / t->step) * t->step + t->first;
		live_page(t->mem, page)[0] = n;
		live_page(t->mem, page)[WORDS - 1] = n;
	}
	return NULL;
}

/* What is read from its slot to be written is asked for by threads at the same time. */
static void pages_that_are_synced_are_touched(void **state)
{
	enum { N = 800, THREADS = 4, CALLS = 150 };
	struct fl *fl = runtime_of(FL_ENGINE_AUTO, FL_WP_AUTO, 1, FL_LIMIT_MIN);
	int fd = live_file(N, 3);
	char *p = hold(fl, fd, N), *q;
	struct toucher t[THREADS];
	pthread_t thread[THREADS];

	(void)state;
	for (size_t i = 0; i < THREADS; i++) {
		t[i] = (struct toucher){.mem = p, .pages = N, .first = i, .step = THREADS};
		assert_int_equal(pthread_create(&thread[i], NULL, touch_on, &t[i]), 0);
	}
	for (unsigned i = 0; i < CALLS; i++)
		assert_int_equal(fl_sync(fl, p, N * PG), 0);
	for (size_t i = 0; i < THREADS; i++)
		__atomic_store_n(&t[i].stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(fl_sync(fl, p, N * PG), 0);
	q = mmap(NULL, N * PG, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(q, MAP_FAILED);
	for (size_t i = 0; i < N; i++)
		assert_memory_equal(live_page(p, i), live_page(q, i), PG);
	munmap(q, N * PG);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

static void writes_after_the_copy_stay_held(void **state)
{
	struct fl *fl = runtime();
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, HOLD);
	struct writer w = {.fl = fl, .mem = p};
	pthread_t t;

	(void)state;
	live_fill(p, 0, 64, 4);
	s->held_write = true;
	assert_int_equal(pthread_create(&t, NULL, sync_once, &w), 0);
	memsource_await(s, &s->writes, 1);
	/* every page was copied before the first write could end: these come after */
	live_fill(p, 0, 32, 5);
	memsource_set(s, &s->held_write, false);
	pthread_join(t, NULL);
	assert_int_equal(w.wrong, 0);
	assert_int_equal(live_wrong(s->bytes, 0, 64, 4), 0);
	live_check(p, 0, 32, 5);
	live_check(p, 32, 32, 4);
	assert_int_equal(changed_pages(fl, p, 64), 32);
	assert_int_equal(fl_sync(fl, p, 64 * PG), 0);
	assert_int_equal(live_wrong(s->bytes, 0, 32, 5), 0);
	assert_int_equal(live_wrong(s->bytes, 32, 32, 4), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

struct closer {
	struct fl_backing *b;
	int result;
	bool done; /* atomic */
};

static void *close_backing(void *arg)
{
	struct closer *c = arg;

	c->result = fl_backing_close(c->b);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void a_source_stays_while_it_is_synced(void **state)
{
	struct fl *fl = runtime();
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, HOLD);
	struct writer w = {.fl = fl, .mem = p};
	struct closer c = {.b = b};
	pthread_t sync, close;

	(void)state;
	live_fill(p, 0, 64, 4);
	s->held_write = true;
	assert_int_equal(pthread_create(&sync, NULL, sync_once, &w), 0);
	memsource_await(s, &s->writes, 1);
	assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
	assert_int_equal(pthread_create(&close, NULL, close_backing, &c), 0);
	until(__atomic_load_n(&c.done, __ATOMIC_ACQUIRE));
	pthread_join(close, NULL);
	assert_int_equal(c.result, -EBUSY);
	memsource_set(s, &s->held_write, false);
	pthread_join(sync, NULL);
	assert_int_equal(w.wrong, 0);
	assert_int_equal(live_wrong(s->bytes, 0, 64, 4), 0);
	assert_int_equal(fl_backing_close(b), 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* ---- when nothing can leave ---- */

static void syncing_needs_no_frame_and_no_slot(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl_swap_spec area = {.size = 2 * MIB, .prio = -1};
	struct fl_options o = live_options(LIMIT);
	int fd = live_file(n, 3);
	struct fl *fl;
	char *p, *q;
	size_t at;

	(void)state;
	o.areas = &area;
	o.nareas = 1;
	fl = live_open(&o);
	p = hold(fl, fd, n);
	/*
	 * Until the area is full: a mapping is refused then, and no more is stored.  The
	 * smallest pool holds hardly more pages than the frames that it and its buffers take.
	 */
	for (at = 0; at < LIMIT_PAGES + (live_compressed() ? 300 : 400); at++)
		live_fill(p, at, 1, 4);
	assert_true(live_stats(fl).slots_used > 300);
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_file_wrong(fd, 0, at, 4), 0);
	assert_int_equal(live_file_wrong(fd, at, n - at, 3), 0);
	/* there is room again */
	q = fl_mmap(fl, NULL, n * PG, RW, HOLD, fd, 0);
	assert_ptr_not_equal(q, FL_FAILED);
	for (unsigned round = 5; round < 9; round++) {
		for (size_t i = 0; i < n; i += 256) {
			live_fill(p, i, 256, round);
			assert_int_equal(fl_sync(fl, p + i * PG, 256 * PG), 0);
		}
		assert_int_equal(live_file_wrong(fd, 0, n, round), 0);
	}
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* ---- kill ---- */

#define KILL_PAGES (LIMIT_PAGES + 400)
#define KILLS 14U
#define KILLS_MAX 200U /* a busy machine may kill too late */

/* Fill every page with a generation and sync it, on and on; says before and after each sync. */
static void generations(int fd, int out, unsigned first)
{
	struct fl *fl;
	char *p;

	test_child();
	fl = runtime();
	p = hold(fl, fd, KILL_PAGES);
	for (int g = (int)first;; g++) {
		int begin = -g;

		live_fill(p, 0, KILL_PAGES, (unsigned)g);
		if (write(out, &begin, sizeof(begin)) != sizeof(begin) ||
		    fl_sync(fl, p, KILL_PAGES * PG) != 0 || write(out, &g, sizeof(g)) != sizeof(g))
			_exit(1);
	}
}

/* Pages of the file that are neither wholly of one generation nor of the other. */
static size_t foreign_pages(int fd, unsigned a, unsigned b)
{
	size_t foreign = 0;

	for (size_t i = 0; i < KILL_PAGES; i++)
		foreign += live_file_wrong(fd, i, 1, a) != 0 && live_file_wrong(fd, i, 1, b) != 0;
	return foreign;
}

static void a_killed_process_leaves_what_was_synced(void **state)
{
	int fd = live_file(KILL_PAGES, 1);
	unsigned done = 1;
	unsigned before = 0, within = 0;

	(void)state;
	for (unsigned k = 0; k < KILLS || (within == 0 && k < KILLS_MAX); k++) {
		struct timespec ts = {.tv_nsec = (long)(k * 7919 % 37) * 1000000};
		int pipes[2], word, last = (int)done;
		pid_t pid;

		assert_int_equal(pipe(pipes), 0);
		pid = fork();
		if (pid == 0)
			generations(fd, pipes[1], done + 1);
		close(pipes[1]);
		/* it gets into its stride, and then any moment is as good as another */
		do
			assert_int_equal(read(pipes[0], &last, sizeof(last)), sizeof(last));
		while (last < 0);
		/* every other time at the moment when it begins a sync, or soon after */
		while (k % 2 != 0 && last > 0)
			assert_int_equal(read(pipes[0], &last, sizeof(last)), sizeof(last));
		ts.tv_nsec /= k % 2 != 0 ? 8 : 1;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &word, 0), pid);
		assert_true(WIFSIGNALED(word) && WTERMSIG(word) == SIGKILL);
		while (read(pipes[0], &word, sizeof(word)) == sizeof(word))
			last = word;
		close(pipes[0]);
		if (last < 0) {
			/* within fl_sync(): each page is old or new */
			assert_int_equal(foreign_pages(fd, (unsigned)-last - 1, (unsigned)-last),
					 0);
			done = (unsigned)-last;
			within++;
		} else {
			/* memory was full of the next generation, of which nothing is here */
			done = (unsigned)last;
			assert_int_equal(live_file_wrong(fd, 0, KILL_PAGES, done), 0);
			before++;
		}
	}
	print_message("killed %u times while it stored, %u times within fl_sync()\n", before,
		      within);
	assert_true(within > 0);
	live_file_end(fd);
}

/* What is held of other pages stays held, what was there is dropped, and what is stored then is of the new ones. */
static void parts_can_be_rearranged(void **state)
{
	const size_t n = 2 * LIMIT_PAGES, part = LIMIT_PAGES / 2;
	struct fl *fl = runtime();
	int fd = live_file(n, 3);
	char *p = hold(fl, fd, n);
	uint64_t word;

	(void)state;
	live_fill(p, 0, 2 * part, 4);
	assert_int_equal(fl_remap_file_pages(fl, p, part * PG, 0, n - part, 0), 0);
	assert_int_equal(changed_pages(fl, p, n), part);
	for (size_t i = 0; i < part; i++)
		assert_int_equal(live_page(p, i)[5], live_page(p, n - part + i)[5]);
	live_check(p, part, part, 4);
	live_check(p, 2 * part, n - 2 * part, 3);
	assert_int_equal(live_file_wrong(fd, 0, n, 3), 0);
	/* stored to through the part, a page of the end is written there */
	live_page(p, 7)[5] = 12345;
	assert_int_equal(fl_sync(fl, p, n * PG), 0);
	assert_int_equal(live_file_wrong(fd, 0, part, 3), 0);
	assert_int_equal(live_file_wrong(fd, part, part, 4), 0);
	assert_int_equal(pread(fd, &word, sizeof(word), (off_t)((n - part + 7) * PG + 40)), 8);
	assert_int_equal(word, 12345);
	assert_int_equal(live_file_wrong(fd, n - part, 7, 3), 0);
	assert_int_equal(live_file_wrong(fd, n - part + 8, part - 8, 3), 0);
	assert_int_equal(changed_pages(fl, p, n), 0);
	until(live_stats(fl).slots_used == 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
	assert_string_equal(live_text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_fl_sync_writes),
		cmocka_unit_test(pages_in_every_state_are_written),
		cmocka_unit_test(changes_can_be_dropped),
		cmocka_unit_test(other_mappings_see_what_was_synced),
		cmocka_unit_test(parts_can_be_rearranged),
		cmocka_unit_test(the_end_of_a_file),
		cmocka_unit_test(errors_leave_the_changes_held),
		cmocka_unit_test(arguments_are_checked),
		cmocka_unit_test(pages_are_synced_whole),
		cmocka_unit_test(pages_that_are_synced_are_touched),
		cmocka_unit_test(writes_after_the_copy_stay_held),
		cmocka_unit_test(a_source_stays_while_it_is_synced),
		cmocka_unit_test(syncing_needs_no_frame_and_no_slot),
		cmocka_unit_test(a_killed_process_leaves_what_was_synced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
