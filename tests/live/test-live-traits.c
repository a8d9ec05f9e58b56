/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-live-traits.c - fl_region_set(): what leaves first, limits and windows of
 * ranges, and pages that cannot be read.
 */
#include "memsource.h"

#include <sys/time.h>

#define LIMIT (8 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static struct fl *runtime(unsigned pagers)
{
	struct fl_options o = live_options(LIMIT);

	o.pagers = pagers;
	o.log = live_log;
	live_log_clear();
	return live_open(&o);
}

static void set(struct fl *fl, void *p, size_t pages, struct fl_region_options o)
{
	o.size = sizeof(o);
	assert_int_equal(fl_region_set(fl, p, pages * PG, &o), 0);
}

/* ---- pages that cannot be read ---- */

struct asked {
	struct fl *fl;
	char *map;
	struct memsource *s;
	unsigned calls, wrong;
	int error;
	enum fl_error_choice choice;
	unsigned retries; /* before the source is mended */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;
};

static enum fl_error_choice ask(void *arg, void *addr, uint64_t offset, int error, void *page)
{
	struct asked *a = arg;
	enum fl_error_choice choice;

	pthread_mutex_lock(&a->lock);
	a->calls++;
	pthread_cond_broadcast(&a->changed);
	while (a->held)
		pthread_cond_wait(&a->changed, &a->lock);
	if ((char *)addr != a->map + offset || error != a->error)
		a->wrong++;
	if (a->choice == FL_ERROR_RETRY && a->calls == a->retries)
		__atomic_store_n(&a->s->fail_read, 0, __ATOMIC_SEQ_CST);
	if (a->choice == FL_ERROR_PAGE)
		memset(page, 0x5a, PG);
	choice = a->choice;
	pthread_mutex_unlock(&a->lock);
	return choice;
}

static struct asked asked_of(struct fl *fl, struct memsource *s, char *map)
{
	return (struct asked){
		.fl = fl,
		.s = s,
		.map = map,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
}

static void the_program_decides_about_errors(void **state)
{
	static const int flags[] = {MAP_SHARED, MAP_PRIVATE, MAP_SHARED | FL_MAP_HOLD};

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		struct fl *fl = runtime(1 + k % 2);
		struct memsource *s = memsource_new(64, 3);
		struct fl_backing *b = memsource_open(fl, s, 2);
		char *p = memsource_map(fl, b, 64, flags[k]);
		struct asked a = asked_of(fl, s, p);

		set(fl, p, 64, (struct fl_region_options){.on_error = ask, .error_arg = &a});
		/* again, until it can be read */
		s->bad_page = 20;
		s->fail_read = a.error = -EBADMSG;
		a.choice = FL_ERROR_RETRY;
		a.retries = 3;
		live_check(p, 20, 1, 3);
		assert_int_equal(a.calls, 3);
		/* something else instead, also for who waits only */
		s->bad_page = 40;
		s->fail_read = a.error = -EIO;
		a.choice = FL_ERROR_PAGE;
		a.calls = 0;
		assert_int_equal(p[40 * PG + 17], 0x5a);
		assert_int_equal(p[41 * PG - 1], 0x5a);
		assert_int_equal(a.calls, 1);
		live_check(p, 39, 1, 3);
		live_check(p, 41, 1, 3);
		/* SIGBUS */
		s->bad_page = 60;
		a.choice = FL_ERROR_SIGBUS;
		a.calls = 0;
		assert_true(live_bus(p + 60 * PG));
		assert_true(a.calls > 0);
		/* and nobody is asked any more */
		assert_int_equal(fl_region_set(fl, p, 64 * PG, NULL), 0);
		a.calls = 0;
		assert_true(live_bus(p + 60 * PG));
		s->fail_read = 0;
		until(!live_bus(p + 60 * PG));
		assert_int_equal(a.calls, 0);
		live_check(p, 0, 40, 3);
		live_check(p, 41, 23, 3);
		assert_int_equal(a.wrong, 0);
		assert_int_equal(fl_close(fl), 0);
		memsource_end(s);
	}
}

static void *touch(void *arg)
{
	return (void *)(uintptr_t) * (volatile unsigned char *)arg;
}

static void others_go_on_while_the_program_decides(void **state)
{
	struct fl *fl = runtime(1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 2);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);
	struct asked a = asked_of(fl, s, p);
	pthread_t t[3];
	void *got;

	(void)state;
	set(fl, p, 64, (struct fl_region_options){.on_error = ask, .error_arg = &a});
	s->bad_page = 20;
	s->fail_read = a.error = -EIO;
	a.choice = FL_ERROR_PAGE;
	a.held = true;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, touch, p + 20 * PG + i), 0);
	pthread_mutex_lock(&a.lock);
	while (a.calls == 0)
		pthread_cond_wait(&a.changed, &a.lock);
	pthread_mutex_unlock(&a.lock);
	live_check(p, 21, 43, 3);
	live_fill(live_map(fl, 64), 0, 64, 9);
	assert_int_equal(fl_try(fl, p + 20 * PG, PG), -EAGAIN);
	pthread_mutex_lock(&a.lock);
	a.held = false;
	pthread_cond_broadcast(&a.changed);
	pthread_mutex_unlock(&a.lock);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(t[i], &got);
		assert_int_equal((uintptr_t)got, 0x5a);
	}
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.wrong, 0);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* ---- priority ---- */

/* Memory of n pages that was filled, or a file of them. */
static char *memory(struct fl *fl, int fd, size_t at, size_t n, uint64_t tag)
{
	char *p;

	if (fd < 0) {
		p = live_map(fl, n);
		live_fill(p, 0, n, tag);
		return p;
	}
	p = fl_mmap(fl, NULL, n * PG, RW, MAP_SHARED, fd, (off_t)(at * PG));
	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

static uint64_t pages_read(struct fl *fl)
{
	struct fl_stats s = live_stats(fl);

	return s.read_pages + s.file_read_pages;
}

static void read_through(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)*(volatile char *)(p + i * PG);
}

static void hot_pages_stay_though_untouched(void **state)
{
	const size_t n = 4 * LIMIT_PAGES, hot = LIMIT_PAGES / 3;

	(void)state;
	for (unsigned file = 0; file < 2; file++) {
		struct fl *fl = runtime(1);
		int fd = file ? live_file(hot + n, 3) : -1;
		char *h, *p;
		uint64_t before, without;

		live_arm(fl);
		h = memory(fl, fd, 0, hot, 3);
		p = memory(fl, fd, hot, n, 4);
		/* as ever they leave */
		read_through(h, hot);
		read_through(p, n);
		before = pages_read(fl);
		read_through(h, hot);
		without = pages_read(fl) - before;
		set(fl, h, hot, (struct fl_region_options){.priority = FL_PRIORITY_HOT});
		read_through(h, hot);
		read_through(p, n);
		assert_true(live_count(fl, h, hot, FL_PAGE_PRESENT) >= hot - hot / 20);
		before = pages_read(fl);
		live_check(h, 0, hot, 3);
		print_message("%s: %lu pages read without, %lu with\n", file ? "file" : "anonymous",
			      (unsigned long)without, (unsigned long)(pages_read(fl) - before));
		assert_true(without > hot / 2);
		assert_true((pages_read(fl) - before) * 10 <= without);
		/* all of it hot: then it leaves, too */
		set(fl, p, n, (struct fl_region_options){.priority = FL_PRIORITY_HOT});
		read_through(p, n);
		live_check(h, 0, hot, 3);
		assert_true(live_stats(fl).resident_max <= LIMIT_PAGES);
		assert_int_equal(fl_close(fl), 0);
		if (file)
			live_file_end(fd);
	}
}

static void cold_pages_leave_first(void **state)
{
	const size_t part = LIMIT_PAGES / 3;
	struct fl *fl = runtime(1);
	char *cold, *rest, *more;

	(void)state;
	live_arm(fl);
	cold = memory(fl, -1, 0, part, 3);
	rest = memory(fl, -1, 0, part, 4);
	set(fl, cold, part, (struct fl_region_options){.priority = FL_PRIORITY_COLD});
	more = memory(fl, -1, 0, part * 3 / 2, 5);
	assert_true(live_count(fl, rest, part, FL_PAGE_PRESENT) > part * 9 / 10);
	assert_true(live_count(fl, cold, part, FL_PAGE_PRESENT) < part * 7 / 10);
	live_check(cold, 0, part, 3);
	live_check(rest, 0, part, 4);
	live_check(more, 0, part * 3 / 2, 5);
	assert_int_equal(fl_close(fl), 0);
}

/* The hand comes by them just after they were taken for being cold. */
static void cold_pages_leave_once(void **state)
{
	const size_t n = 3 * LIMIT_PAGES, few = 8;
	uint64_t s = 88172645463325252U;
	struct fl *fl = runtime(1);
	char *cold, *p;

	(void)state;
	live_arm(fl);
	live_to_slots();
	cold = memory(fl, -1, 0, few, 3);
	p = memory(fl, -1, 0, n, 4);
	set(fl, cold, few, (struct fl_region_options){.priority = FL_PRIORITY_COLD});
	live_out(fl, cold, few);
	live_out(fl, p, n);
	for (size_t i = 0; i < 32 * LIMIT_PAGES; i++) {
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		if (i % 64 == 0)
			read_through(cold, few);
		read_through(p + (s >> 20) % n * PG, 1);
	}
	live_check(cold, 0, few, 3);
	live_check(p, 0, n, 4);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- limits of ranges ---- */

static void a_range_keeps_its_limit(void **state)
{
	const size_t n = 2 * LIMIT_PAGES, most = LIMIT_PAGES / 8, other = LIMIT_PAGES / 2;

	(void)state;
	for (unsigned file = 0; file < 2; file++) {
		struct fl *fl = runtime(1);
		int fd = file ? live_file(n, 4) : -1;
		char *p, *o;
		uint64_t before;

		live_arm(fl);
		o = memory(fl, -1, 0, other, 3);
		p = memory(fl, file ? fd : -1, 0, n, 4);
		live_check(o, 0, other, 3);
		set(fl, p, n, (struct fl_region_options){.limit = most * PG});
		for (unsigned round = 0; round < 2; round++)
			for (size_t i = 0; i < n; i += 16) {
				live_check(p, i, 16, 4);
				if (round != 0 && i % 512 == 0)
					assert_true(live_count(fl, p, n, FL_PAGE_PRESENT) <=
						    most + most / 2);
			}
		/* what else there is was not disturbed */
		read_through(o, other);
		before = pages_read(fl);
		for (unsigned round = 0; round < 3; round++) {
			live_check(p, 0, n, 4);
			read_through(o, 1);
		}
		before = live_count(fl, o, other, FL_PAGE_PRESENT);
		assert_true(before > other * 9 / 10);
		live_check(o, 0, other, 3);
		/* none any more */
		assert_int_equal(fl_region_set(fl, p, n * PG, NULL), 0);
		live_check(p, 0, n, 4);
		assert_true(live_count(fl, p, n, FL_PAGE_PRESENT) > 2 * most);
		assert_int_equal(fl_close(fl), 0);
		if (file)
			live_file_end(fd);
	}
}

/* What is given back to the kernel is there as a whole, whatever limit it had. */
static void a_limit_ends_with_the_runtime(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime(1);
	char *p = live_map(fl, n);

	(void)state;
	set(fl, p, n, (struct fl_region_options){.limit = 256 << 10});
	live_fill(p, 0, n, 4);
	assert_int_equal(fl_unregister(fl, p, n / 4 * PG), 0);
	live_check(p, 0, n / 4, 4);
	assert_int_equal(fl_close(fl), 0);
	live_check(p, 0, n, 4);
	munmap(p, n * PG);
}

/* ---- windows, and the rest ---- */

static void a_range_has_its_own_window(void **state)
{
	const size_t n = 2 * LIMIT_PAGES;
	struct fl *fl = runtime(1);
	int fd = live_file(n, 3);
	char *p = fl_mmap(fl, NULL, n * PG, PROT_READ, MAP_SHARED, fd, 0);
	/* the last: of more pages than 32 bits tell, whose low bits are those of a small one */
	const size_t window[] = {0, 128 << 10, ((size_t)PG << 32) + (128 << 10)};
	uint64_t reads[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_not_equal(p, FL_FAILED);
		set(fl, p, n, (struct fl_region_options){.readahead = window[i]});
		reads[i] = live_stats(fl).file_reads;
		live_check(p, 0, n, 3);
		reads[i] = live_stats(fl).file_reads - reads[i];
		assert_int_equal(fl_munmap(fl, p, n * PG), 0);
		p = fl_mmap(fl, NULL, n * PG, PROT_READ, MAP_SHARED, fd, 0);
	}
	print_message("%lu reads, with small windows %lu, with large ones %lu\n",
		      (unsigned long)reads[0], (unsigned long)reads[1], (unsigned long)reads[2]);
	assert_true(reads[1] >= n / 32 && reads[1] > reads[0]);
	assert_true(reads[2] < n / 32);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
}

/* A mapping of which a part is set is one mapping still, and what was set goes along. */
static void moves_with_its_parts(void **state)
{
	const int type[] = {MAP_SHARED, MAP_PRIVATE, MAP_SHARED | FL_MAP_HOLD};

	(void)state;
	for (unsigned t = 0; t < 3; t++) {
		struct fl *fl = runtime(1);
		struct memsource *s = memsource_new(64, 3);
		struct fl_backing *b = memsource_open(fl, s, 1);
		char *p = memsource_map(fl, b, 32, type[t]), *q;
		struct asked a = asked_of(fl, s, p);

		a.choice = FL_ERROR_PAGE;
		s->bad_page = 22;
		s->fail_read = a.error = -EBADMSG;
		live_check(p, 0, 16, 3);
		set(fl, p + 4 * PG, 20, (struct fl_region_options){.priority = FL_PRIORITY_HOT});
		set(fl, p + 20 * PG, 4,
		    (struct fl_region_options){.on_error = ask, .error_arg = &a});
		q = fl_mremap(fl, p, 32 * PG, 64 * PG, MREMAP_MAYMOVE);
		assert_ptr_not_equal(q, FL_FAILED);
		a.map = q;
		live_check(q, 0, 22, 3);
		live_check(q, 23, 41, 3);
		assert_int_equal(q[22 * PG + 17], 0x5a);
		assert_int_equal(a.calls, 1);
		assert_int_equal(a.wrong, 0);
		assert_ptr_equal(fl_mremap(fl, q, 64 * PG, 2 * PG, 0), q);
		live_check(q, 0, 2, 3);
		assert_int_equal(fl_close(fl), 0);
		memsource_end(s);
	}
}

static void arguments_are_checked(void **state)
{
	struct fl *fl = runtime(1);
	struct fl_region_options o = {.size = sizeof(o)};
	char *p = live_map(fl, 64);
	char *bare = mmap(NULL, 4 * PG, RW, ANON, -1, 0);

	(void)state;
	/* before it is armed, too */
	set(fl, p, 64, (struct fl_region_options){.priority = FL_PRIORITY_HOT});
	live_arm(fl);
	assert_int_equal(fl_region_set(fl, p + 1, PG, &o), -EINVAL);
	assert_int_equal(fl_region_set(fl, p, 0, &o), -EINVAL);
	assert_int_equal(fl_region_set(fl, bare, PG, &o), -ENOMEM);
	o.size--;
	assert_int_equal(fl_region_set(fl, p, PG, &o), -EINVAL);
	o = (struct fl_region_options){.size = sizeof(o), .priority = (enum fl_priority)3};
	assert_int_equal(fl_region_set(fl, p, PG, &o), -EINVAL);
	o = (struct fl_region_options){.size = sizeof(o), .limit = PG};
	assert_int_equal(fl_region_set(fl, p, PG, &o), -EINVAL);
	o = (struct fl_region_options){.size = sizeof(o), .readahead = PG};
	assert_int_equal(fl_region_set(fl, p, PG, &o), -EINVAL);
	/* sets are used again */
	o = (struct fl_region_options){.size = sizeof(o)};
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(fl_region_set(fl, p + i % 60 * PG, PG, &o), 0);
	assert_int_equal(fl_region_set(fl, p, 64 * PG, NULL), 0);
	live_fill(p, 0, 64, 3);
	live_check(p, 0, 64, 3);
	assert_int_equal(fl_verify(fl), 0);
	munmap(bare, 4 * PG);
	assert_int_equal(fl_close(fl), 0);
}

static void unmapping_does_not_wait_for_an_answer(void **state)
{
	struct fl *fl = runtime(1);
	struct memsource *s = memsource_new(64, 3);
	struct fl_backing *b = memsource_open(fl, s, 1);
	char *p = memsource_map(fl, b, 64, MAP_SHARED);
	struct asked a = asked_of(fl, s, p);
	pthread_t t;
	void *got;

	(void)state;
	set(fl, p, 64, (struct fl_region_options){.on_error = ask, .error_arg = &a});
	s->bad_page = 0;
	s->fail_read = a.error = -EIO;
	a.choice = FL_ERROR_RETRY;
	a.retries = 1000;
	a.held = true;
	assert_int_equal(pthread_create(&t, NULL, touch, p), 0);
	pthread_mutex_lock(&a.lock);
	while (a.calls == 0)
		pthread_cond_wait(&a.changed, &a.lock);
	pthread_mutex_unlock(&a.lock);
	/* its page is replaced; the read goes on, fails, and there is nobody to ask any more */
	assert_ptr_equal(fl_mmap(fl, p, 64 * PG, RW, ANON | MAP_FIXED, -1, 0), p);
	live_fill(p, 1, 63, 7);
	pthread_mutex_lock(&a.lock);
	a.held = false;
	pthread_cond_broadcast(&a.changed);
	pthread_mutex_unlock(&a.lock);
	pthread_join(t, &got);
	assert_int_equal((uintptr_t)got, 0);
	assert_int_equal(a.calls, 1);
	live_check(p, 1, 63, 7);
	assert_int_equal(fl_close(fl), 0);
	memsource_end(s);
}

/* ---- signals ---- */

#define HANDLED 4096UL /* pages */

static char *handled;
static volatile unsigned long handled_times;

static void touch_any(int sig)
{
	static uint64_t rng = 1;

	(void)sig;
	rng = rng * 6364136223846793005U + 1442695040888963407U;
	__atomic_fetch_add(live_page(handled, (rng >> 33) % HANDLED), 1, __ATOMIC_RELAXED);
	handled_times++;
}

/* What a call holds while a handler runs on its thread, that one's faults do not need. */
static void handlers_fault_within_calls(void **state)
{
	struct fl_options o = live_options(2 * MIB);
	struct sigaction sa = {.sa_handler = touch_any, .sa_flags = SA_RESTART};
	struct itimerval every = {{0, 100}, {0, 100}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	struct fl_region_options r = {.size = sizeof(r), .priority = FL_PRIORITY_HOT};
	struct fl *fl = live_armed(&o);
	char name[1024];
	uint64_t sum = 0;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	handled = live_map(fl, HANDLED);
	assert_int_equal(sigaction(SIGALRM, &sa, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
	while (handled_times < 20000) {
		/* refused before anything is done */
		for (unsigned i = 0; i < 1000; i++)
			assert_int_equal(fl_swapoff(fl, name), -EINVAL);
		assert_int_equal(fl_region_set(fl, handled, PG, &r), 0);
	}
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	signal(SIGALRM, SIG_IGN);
	for (size_t i = 0; i < HANDLED; i++)
		sum += *live_page(handled, i);
	assert_int_equal(sum, handled_times);
	assert_int_equal(fl_close(fl), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_program_decides_about_errors),
		cmocka_unit_test(others_go_on_while_the_program_decides),
		cmocka_unit_test(unmapping_does_not_wait_for_an_answer),
		cmocka_unit_test(hot_pages_stay_though_untouched),
		cmocka_unit_test(cold_pages_leave_first),
		cmocka_unit_test(cold_pages_leave_once),
		cmocka_unit_test(a_range_keeps_its_limit),
		cmocka_unit_test(a_limit_ends_with_the_runtime),
		cmocka_unit_test(a_range_has_its_own_window),
		cmocka_unit_test(moves_with_its_parts),
		cmocka_unit_test(arguments_are_checked),
		cmocka_unit_test(handlers_fault_within_calls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
