/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Swap areas under a running runtime: priorities, turns, on and off while
 * threads work, what is refused, what is left behind, and what a damaged area
 * does to the page that it held and to no other.
 *
 * Areas are looked at through files that the test made: a page with content
 * is a slot that was written.
 */
#include "live.h"

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static char dir[256];

static const char *in_dir(const char *name)
{
	static char path[4][400];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

/* A blank file to be an area. */
static const char *blank(const char *name, size_t pages)
{
	const char *path = in_dir(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(pages * PG)), 0);
	close(fd);
	return path;
}

/* Slots of a file that hold something; the header is none. */
static size_t slots_written(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char page[PG];
	static const char zeros[PG];
	size_t n = 0;

	assert_true(fd >= 0);
	for (off_t off = PG; pread(fd, page, PG, off) == (ssize_t)PG; off += PG)
		n += memcmp(page, zeros, PG) != 0;
	close(fd);
	return n;
}

static struct fl *open_with(const struct fl_swap_spec *areas, unsigned n)
{
	struct fl_options o = live_options(LIMIT);

	o.areas = areas;
	o.nareas = n;
	o.log = live_log;
	live_log_clear();
	return live_armed(&o);
}

static void higher_priorities_go_first(void **state)
{
	struct fl_swap_spec areas[] = {
		{.path = blank("low", 512), .prio = -1},
		{.path = blank("high", 257), .prio = 9},
		{.path = blank("middle", 257), .prio = 3},
	};
	struct fl *fl = open_with(areas, 3);
	char *mem = live_map(fl, 900);

	(void)state;
	assert_int_equal(live_stats(fl).slots_total, 511 + 256 + 256);
	live_to_slots();
	live_fill(mem, 0, 100, 1);
	live_out(fl, mem, 100);
	assert_int_equal(slots_written(areas[1].path), 100);
	assert_int_equal(slots_written(areas[2].path), 0);
	live_fill(mem, 100, 300, 1);
	live_out(fl, mem + 100 * PG, 300);
	assert_int_equal(slots_written(areas[1].path), 256);
	assert_in_range(slots_written(areas[2].path), 1, 256);
	assert_int_equal(slots_written(areas[0].path), 0);
	live_fill(mem, 400, 500, 1);
	live_out(fl, mem, 900);
	assert_int_equal(slots_written(areas[2].path), 256);
	assert_true(slots_written(areas[0].path) >= 300);
	live_check(mem, 0, 900, 1);
	assert_int_equal(fl_close(fl), 0);
	live_check(mem, 0, 900, 1);
	munmap(mem, 900 * PG);
}

static void equals_take_turns(void **state)
{
	struct fl_swap_spec areas[] = {
		{.path = blank("a", 4097), .prio = 5},
		{.path = blank("b", 4097), .prio = 5},
		{.path = blank("c", 4097), .prio = 5},
	};
	const size_t n = 6 * 1024;
	struct fl *fl = open_with(areas, 3);
	char *mem = live_map(fl, n);

	(void)state;
	live_fill(mem, 0, n, 2);
	live_out(fl, mem, n);
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(slots_written(areas[i].path), n / 3 - 600, n / 3 + 600);
	live_check(mem, 0, n, 2);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

/* live_stats() makes a call first, which brings all counters up to date. */
static uint64_t slots_at_once(struct fl *fl)
{
	struct fl_stats s;

	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	return s.slots_total;
}

static void thirty_two_areas(void **state)
{
	static char paths[FL_SWAP_MAX][400];
	struct fl_swap_spec areas[FL_SWAP_MAX + 1];
	const size_t n = FL_SWAP_MAX * 64;
	struct fl *fl;
	char *mem;

	(void)state;
	for (unsigned i = 0; i < FL_SWAP_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		strcpy(paths[i], blank(name, 129));
		areas[i] = (struct fl_swap_spec){.path = paths[i], .prio = (int)i % 7};
	}
	areas[FL_SWAP_MAX] = (struct fl_swap_spec){.path = blank("more", 129), .prio = 1};
	fl = open_with(areas, FL_SWAP_MAX / 2);
	for (unsigned i = FL_SWAP_MAX / 2; i < FL_SWAP_MAX; i++) {
		assert_int_equal(fl_swapon(fl, &areas[i]), 0);
		assert_int_equal(slots_at_once(fl), (i + 1) * 128);
	}
	assert_int_equal(fl_swapon(fl, &areas[FL_SWAP_MAX]), -EMFILE);
	assert_int_equal(live_stats(fl).slots_total, FL_SWAP_MAX * 128);
	mem = live_map(fl, n);
	live_fill(mem, 0, n, 3);
	live_out(fl, mem, n);
	live_check(mem, 0, n, 3);
	/* one goes, another comes */
	assert_int_equal(fl_swapoff(fl, paths[6]), 0);
	assert_int_equal(fl_swapon(fl, &areas[FL_SWAP_MAX]), 0);
	for (unsigned i = 0; i < FL_SWAP_MAX; i += 3) {
		if (i == 6)
			continue;
		assert_int_equal(fl_swapoff(fl, paths[i]), 0);
		live_check(mem, 0, n, 3);
	}
	assert_int_equal(fl_close(fl), 0);
	live_check(mem, 0, n, 3);
	munmap(mem, n * PG);
}

/* ---- off, while threads work ---- */

struct worker {
	pthread_t thread;
	char *mem;
	size_t n;
	uint64_t *shadow; /* one word a page */
	uint64_t seed, ops;
	bool *stop;
	size_t wrong;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	uint64_t s = w->seed;

	while (!__atomic_load_n(w->stop, __ATOMIC_ACQUIRE)) {
		size_t p;

		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		p = (s >> 20) % w->n;
		/* at both ends of the page, so that halves of pages would be noticed */
		w->wrong += live_page(w->mem, p)[1] != w->shadow[p];
		w->wrong += live_page(w->mem, p)[WORDS - 1] != w->shadow[p];
		if (s & 1)
			live_page(w->mem, p)[1] = live_page(w->mem, p)[WORDS - 1] = w->shadow[p] =
				s;
		__atomic_fetch_add(&w->ops, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void areas_go_and_come_while_threads_work(void **state)
{
	const size_t n = LIMIT_PAGES;
	struct fl_swap_spec areas[] = {
		{.path = blank("x", 8193), .prio = 1},
		{.path = blank("y", 8193), .prio = 1},
	};
	struct worker w[3];
	bool stop = false;
	struct fl *fl = open_with(areas, 2);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		w[i] = (struct worker){
			.mem = live_map(fl, n), .n = n, .seed = i + 77, .stop = &stop};
		w[i].shadow = calloc(n, sizeof(uint64_t));
		assert_non_null(w[i].shadow);
		for (size_t p = 0; p < n; p++) {
			live_page(w[i].mem, p)[0] = p + 1; /* no page is one word */
			live_page(w[i].mem, p)[1] = live_page(w[i].mem, p)[WORDS - 1] =
				w[i].shadow[p] = p * 3 + i;
		}
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned round = 0; round < 10; round++) {
		struct fl_swap_spec *a = &areas[round % 2];
		uint64_t before = __atomic_load_n(&w[0].ops, __ATOMIC_RELAXED);

		assert_int_equal(fl_swapoff(fl, a->path), 0);
		assert_int_equal(live_stats(fl).slots_total, 8192);
		/* nobody waits for the end of it, or for ever */
		until(__atomic_load_n(&w[0].ops, __ATOMIC_RELAXED) > before + 100);
		/* it is not locked any more, and can be used again */
		assert_int_equal(fl_swapon(fl, a), 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(w[i].thread, NULL), 0);
		assert_int_equal(w[i].wrong, 0);
		for (size_t p = 0; p < n; p++) {
			assert_true(live_page(w[i].mem, p)[0] == p + 1);
			assert_true(live_page(w[i].mem, p)[WORDS - 1] == w[i].shadow[p]);
		}
	}
	assert_int_equal(fl_close(fl), 0);
	for (unsigned i = 0; i < 3; i++) {
		munmap(w[i].mem, n * PG);
		free(w[i].shadow);
	}
}

static void off_needs_room(void **state)
{
	struct fl_swap_spec a = {.path = blank("only", 8193), .prio = 1};
	struct fl_swap_spec b = {.path = blank("second", 8193), .prio = 1};
	const size_t n = 3 * LIMIT_PAGES;
	struct fl *fl = open_with(&a, 1);
	char *mem = live_map(fl, n);

	(void)state;
	live_fill(mem, 0, n, 4);
	live_out(fl, mem, n);
	assert_int_equal(fl_swapoff(fl, a.path), -ENOMEM);
	/* it is still on, with all that it holds, and takes more */
	live_check(mem, 0, n, 4);
	live_fill(mem, 0, n / 2, 5);
	live_check(mem, 0, n / 2, 5);
	live_check(mem, n / 2, n - n / 2, 4);
	/* with another one there is room */
	assert_int_equal(fl_swapon(fl, &b), 0);
	assert_int_equal(fl_swapoff(fl, a.path), 0);
	live_check(mem, 0, n / 2, 5);
	live_check(mem, n / 2, n - n / 2, 4);
	/* and with the memory gone, too */
	assert_int_equal(fl_munmap(fl, mem, n * PG), 0);
	/* of what is being written the slots are free when that ends */
	until(live_stats(fl).slots_used == 0);
	assert_int_equal(fl_swapoff(fl, b.path), 0);
	assert_int_equal(live_stats(fl).slots_total, 0);
	assert_int_equal(fl_close(fl), 0);
}

struct taker {
	struct fl *fl;
	const char *path;
	pthread_barrier_t *start;
	pthread_t thread;
	int result;
};

static void *take_off(void *arg)
{
	struct taker *t = arg;

	pthread_barrier_wait(t->start);
	t->result = fl_swapoff(t->fl, t->path);
	return NULL;
}

/* By two pagers at once: the other finds no such area. */
static void one_of_two_takes_an_area_off(void **state)
{
	struct fl_swap_spec areas[] = {
		{.path = blank("first", 8193), .prio = 2},
		{.path = blank("last", 8193), .prio = 1},
	};
	const size_t n = 3 * LIMIT_PAGES;
	struct fl_options o = live_options(LIMIT);
	pthread_barrier_t start;
	struct fl *fl;
	char *mem;

	(void)state;
	o.areas = areas;
	o.nareas = 2;
	o.pagers = 2;
	fl = live_armed(&o);
	live_to_slots();
	mem = live_map(fl, n);
	assert_int_equal(pthread_barrier_init(&start, NULL, 2), 0);
	for (unsigned round = 0; round < 10; round++) {
		struct taker t[2];

		live_fill(mem, 0, n, round);
		live_out(fl, mem, n);
		for (unsigned i = 0; i < 2; i++) {
			t[i] = (struct taker){.fl = fl, .path = areas[0].path, .start = &start};
			assert_int_equal(pthread_create(&t[i].thread, NULL, take_off, &t[i]), 0);
		}
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(pthread_join(t[i].thread, NULL), 0);
		assert_int_equal(t[0].result + t[1].result, -EINVAL);
		assert_int_equal(live_stats(fl).slots_total, 8192);
		live_check(mem, 0, n, round);
		assert_int_equal(fl_swapon(fl, &areas[0]), 0);
	}
	pthread_barrier_destroy(&start);
	assert_int_equal(fl_close(fl), 0);
	live_check(mem, 0, n, 9);
	munmap(mem, n * PG);
}

/* ---- refusals ---- */

static void what_is_refused(void **state)
{
	struct fl_swap_spec a = {.path = blank("good", 64), .prio = 1};
	char long_name[5000];
	struct fl_swap_spec s;
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = open_with(&a, 1);
	struct fl *other;
	int fd;

	(void)state;
	assert_int_equal(fl_swapoff(fl, NULL), -EINVAL);
	assert_int_equal(fl_swapoff(fl, in_dir("nothing")), -EINVAL);
	assert_int_equal(fl_swapoff(fl, "/dev/null"), -EINVAL);
	/* in use, by this runtime and by another */
	live_log_clear();
	assert_int_equal(fl_swapon(fl, &a), -EBUSY);
	assert_non_null(strstr(live_text, a.path));
	o.areas = &a;
	o.nareas = 1;
	o.log = live_log;
	live_log_clear();
	assert_int_equal(fl_open(&other, &o), -EBUSY);
	assert_null(other);
	assert_non_null(strstr(live_text, a.path));
	assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	s = (struct fl_swap_spec){.path = blank("small", 2)};
	assert_int_equal(fl_swapon(fl, &s), -EINVAL);
	s = (struct fl_swap_spec){.path = dir};
	assert_int_equal(fl_swapon(fl, &s), -EISDIR);
	s = (struct fl_swap_spec){.path = in_dir("nothing")};
	assert_int_equal(fl_swapon(fl, &s), -ENOENT);
	s = (struct fl_swap_spec){.path = blank("prio", 64), .prio = 40000};
	assert_int_equal(fl_swapon(fl, &s), -EINVAL);
	s = (struct fl_swap_spec){.path = blank("flags", 64), .flags = 1};
	assert_int_equal(fl_swapon(fl, &s), -EINVAL);
	o.reserved = 1;
	assert_int_equal(fl_open(&other, &o), -EINVAL);
	assert_non_null(strstr(live_text, "reserved is not 0"));
	o.reserved = 0;
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	live_log_clear();
	s = (struct fl_swap_spec){.path = long_name};
	assert_int_equal(fl_swapon(fl, &s), -ENAMETOOLONG);
	assert_non_null(strstr(live_text, "too long"));
	assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	assert_int_equal(fl_swapoff(fl, long_name), -EINVAL);
	/* somebody's data stay what they are */
	s = (struct fl_swap_spec){.path = blank("data", 64)};
	fd = open(s.path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "precious", 8, 3 * (off_t)PG), 8);
	close(fd);
	live_log_clear();
	assert_int_equal(fl_swapon(fl, &s), -EINVAL);
	/* one line for each, that names it */
	assert_non_null(strstr(live_text, s.path));
	assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	/* nor far from where a pager looks itself, by either way in */
	s = (struct fl_swap_spec){.path = blank("inside", 1024)};
	fd = open(s.path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "precious", 8, 512 * (off_t)PG), 8);
	close(fd);
	o.areas = &s;
	live_log_clear();
	assert_int_equal(fl_swapon(fl, &s), -EINVAL);
	assert_non_null(strstr(live_text, s.path));
	assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	live_log_clear();
	assert_int_equal(fl_open(&other, &o), -EINVAL);
	assert_non_null(strstr(live_text, s.path));
	assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
	assert_int_equal(slots_written(s.path), 1);
	assert_int_equal(slots_written(s.path), 1);
	assert_int_equal(live_stats(fl).slots_total, 63);
	assert_int_equal(fl_close(fl), 0);
	/* given back: another one may have it */
	fl = open_with(&a, 1);
	assert_int_equal(fl_close(fl), 0);
}

static void a_file_may_be_removed_while_it_is_on(void **state)
{
	struct fl_swap_spec a = {.path = blank("gone", 1025), .prio = 1};
	struct fl_swap_spec b = {.path = in_dir("made"), .size = 1025 * PG, .prio = 0};
	struct fl *fl = open_with(&a, 1);
	char *mem = live_map(fl, 512);
	struct stat st;

	(void)state;
	live_fill(mem, 0, 512, 6);
	live_out(fl, mem, 512);
	assert_int_equal(unlink(a.path), 0);
	live_check(mem, 0, 512, 6);
	live_out(fl, mem, 512);
	live_check(mem, 0, 512, 6);
	/* a private one never shows */
	assert_int_equal(fl_swapon(fl, &b), 0);
	assert_int_equal(stat(b.path, &st), -1);
	/* both are known by their names */
	live_out(fl, mem, 512);
	assert_int_equal(fl_swapoff(fl, a.path), 0);
	live_check(mem, 0, 512, 6);
	live_out(fl, mem, 512);
	live_check(mem, 0, 512, 6);
	assert_int_equal(fl_munmap(fl, mem, 512 * PG), 0);
	assert_int_equal(fl_swapoff(fl, b.path), 0);
	assert_int_equal(fl_close(fl), 0);
}

/* ---- damage ---- */

static sigjmp_buf back;
static void *volatile bus_addr;
static volatile sig_atomic_t bus_code;

static void on_bus(int sig, siginfo_t *si, void *context)
{
	(void)sig, (void)context;
	bus_addr = si->si_addr;
	bus_code = si->si_code;
	siglongjmp(back, 1);
}

/* Whether a read of the word raises SIGBUS. */
static bool raises(const volatile uint64_t *word)
{
	if (sigsetjmp(back, 1) != 0)
		return true;
	(void)*word;
	return false;
}

/* Flip one bit in the slot that holds a page of the pattern with this first word. */
static void damage(const char *path, uint64_t first_word)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t w;
	off_t off = PG;

	assert_true(fd >= 0);
	for (; pread(fd, &w, sizeof(w), off) == (ssize_t)sizeof(w); off += PG)
		if (w == first_word)
			break;
	assert_true(w == first_word);
	assert_int_equal(pread(fd, &w, sizeof(w), off + 2048), sizeof(w));
	w ^= 1UL << 33;
	assert_int_equal(pwrite(fd, &w, sizeof(w), off + 2048), sizeof(w));
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

static void a_damaged_slot_poisons_its_page(void **state)
{
	static const enum fl_engine engines[] = {FL_ENGINE_URING, FL_ENGINE_SYNC};
	struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};

	(void)state;
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
	for (unsigned e = 0; e < 2; e++) {
		struct fl_swap_spec a = {.path = blank("torn", 1025), .prio = 1};
		struct fl_options o = live_options(LIMIT);
		struct fl *fl;
		char *mem, addr[32];
		int fds[2];

		o.areas = &a;
		o.nareas = 1;
		o.engine = engines[e];
		o.log = live_log;
		fl = live_armed(&o);
		mem = live_map(fl, 256);
		live_to_slots();
		live_fill(mem, 0, 256, 7);
		live_out(fl, mem, 256);
		for (size_t p = 100; p < 104; p++)
			damage(a.path, live_word(7 * 1000003UL + p, 0));
		live_log_clear();
		bus_addr = NULL;
		assert_true(raises(live_page(mem, 100) + 5));
		assert_ptr_equal((void *)((uintptr_t)bus_addr & ~(PG - 1)), mem + 100 * PG);
		assert_int_equal(live_kind(fl, mem + 100 * PG), FL_PAGE_POISONED);
		/* one line that names the area, the slot and the address */
		snprintf(addr, sizeof(addr), "%lx", (unsigned long)mem + 100 * PG);
		assert_non_null(strstr(live_text, a.path));
		assert_non_null(strstr(live_text, "slot"));
		assert_non_null(strstr(live_text, addr));
		assert_ptr_equal(strchr(live_text, '\n') + 1, live_text + live_text_len);
		/* again, and by a system call */
		assert_true(raises(live_page(mem, 100) + 9));
		assert_int_equal(pipe(fds), 0);
		assert_int_equal(write(fds[1], mem + 101 * PG, PG), -1);
		assert_int_equal(errno, EFAULT);
		close(fds[0]);
		close(fds[1]);
		/* all others are what they were */
		live_check(mem, 0, 100, 7);
		live_check(mem, 104, 152, 7);
		assert_true(live_stats(fl).csum_errors >= 2);
		/* a page that is dropped is new; one that is written over, too */
		assert_int_equal(fl_madvise(fl, mem + 100 * PG, PG, MADV_DONTNEED), 0);
		assert_false(raises(live_page(mem, 100)));
		assert_int_equal(live_page(mem, 100)[5], 0);
		assert_ptr_equal(fl_mmap(fl, mem + 101 * PG, PG, RW, ANON | MAP_FIXED, -1, 0),
				 mem + 101 * PG);
		live_fill(mem, 100, 2, 8);
		live_check(mem, 100, 2, 8);
		/* the end brings back what there is, and leaves the rest unreadable */
		assert_true(raises(live_page(mem, 103)));
		assert_int_equal(fl_close(fl), 0);
		live_check(mem, 104, 152, 7);
		live_check(mem, 100, 2, 8);
		assert_true(raises(live_page(mem, 103)));
		munmap(mem, 256 * PG);
		unlink(a.path);
	}
	signal(SIGBUS, SIG_DFL);
}

/* ---- bookkeeping ---- */

static void areas_are_counted_from_the_start(void **state)
{
	struct fl_swap_spec a = {.path = blank("start", 257), .prio = 1};
	struct fl_options o = live_options(LIMIT);

	(void)state;
	o.areas = &a;
	o.nareas = 1;
	for (unsigned i = 0; i < 20; i++) {
		struct fl_stats s;
		struct fl *fl;

		assert_int_equal(fl_open(&fl, &o), 0);
		assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
		assert_int_equal(s.slots_total, 256);
		assert_true(s.bookkeeping >= PG);
		assert_int_equal(fl_close(fl), 0);
	}
	unlink(a.path);
}

static bool all_away(struct fl *fl, size_t n)
{
	struct fl_stats s = live_stats(fl);

	return s.swapped + s.staged + s.compressed >= n;
}

static void sixteen_bytes_a_touched_page(void **state)
{
	const size_t n = 32768;
	struct fl_swap_spec a = {.prio = 1, .size = 2 * n * PG};
	struct fl *fl = open_with(&a, 1);
	uint64_t before = live_stats(fl).bookkeeping;
	char *mem = live_map(fl, n);

	(void)state;
	for (size_t p = 0; p < n; p++) {
		live_page(mem, p)[0] = p + 1;
		live_page(mem, p)[7] = ~p;
	}
	live_out(fl, mem, n);
	/* what is written through is on its way for a moment */
	if (live_compressed())
		until(all_away(fl, n));
	assert_true(all_away(fl, n));
	assert_true(live_stats(fl).bookkeeping - before >= 8 * n);
	assert_true(live_stats(fl).bookkeeping - before <= 16 * n + 65536);
	for (size_t p = 0; p < n; p++)
		assert_true(live_page(mem, p)[0] == p + 1 && live_page(mem, p)[7] == ~p);
	assert_int_equal(fl_munmap(fl, mem, n * PG), 0);
	until(live_stats(fl).slots_used == 0);
	/* page entries are given back with their pages */
	assert_true(live_stats(fl).bookkeeping <= before + 8 * n + 65536);
	assert_int_equal(fl_close(fl), 0);
}

static void full_areas_refuse_new_memory(void **state)
{
	struct fl_swap_spec a = {.path = blank("full", 513), .prio = 1};
	struct fl *fl = open_with(&a, 1);
	const size_t n = LIMIT_PAGES;
	char *mem = fl_mmap(fl, NULL, n * PG, RW, ANON, -1, 0);
	char *p;

	(void)state;
	assert_ptr_not_equal(mem, FL_FAILED);
	/* frames and slots together hold it */
	live_fill(mem, 0, n, 9);
	live_out(fl, mem, 400);
	live_check(mem, 0, n, 9);
	/* what can never be held is refused when it is mapped */
	p = fl_mmap(fl, NULL, 64 * MIB, RW, ANON, -1, 0);
	assert_ptr_equal(p, FL_FAILED);
	assert_int_equal(errno, ENOMEM);
	p = fl_mremap(fl, mem, n * PG, 64 * MIB, MREMAP_MAYMOVE);
	assert_ptr_equal(p, FL_FAILED);
	assert_int_equal(errno, ENOMEM);
	live_check(mem, 0, n, 9);
	assert_int_equal(fl_close(fl), 0);
	munmap(mem, n * PG);
}

static void too_much_child(void *arg)
{
	struct fl_swap_spec a = {.path = arg, .prio = 1};
	struct fl_options o = live_options(LIMIT);
	struct fl *fl;
	char *mem;

	test_child();
	o.areas = &a;
	o.nareas = 1;
	fl = live_armed(&o);
	mem = live_map(fl, 4 * LIMIT_PAGES);
	live_fill(mem, 0, 4 * LIMIT_PAGES, 10);
}

static void beyond_all_there_is_the_process_ends(void **state)
{
	char path[400], text[1000];
	int status;

	(void)state;
	strcpy(path, blank("end", 513));
	status = in_child(too_much_child, path, text, sizeof(text));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_non_null(strstr(text, "faultline: out of memory"));
	assert_ptr_equal(strchr(text, '\n') + 1, text + strlen(text));
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s/live-swap-XXXXXX", live_dir());
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	char command[400];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(higher_priorities_go_first),
		cmocka_unit_test(equals_take_turns),
		cmocka_unit_test(thirty_two_areas),
		cmocka_unit_test(areas_go_and_come_while_threads_work),
		cmocka_unit_test(off_needs_room),
		cmocka_unit_test(one_of_two_takes_an_area_off),
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(a_file_may_be_removed_while_it_is_on),
		cmocka_unit_test(a_damaged_slot_poisons_its_page),
		cmocka_unit_test(areas_are_counted_from_the_start),
		cmocka_unit_test(sixteen_bytes_a_touched_page),
		cmocka_unit_test(full_areas_refuse_new_memory),
		cmocka_unit_test(beyond_all_there_is_the_process_ends),
	};

	return cmocka_run_group_tests_name("live-swap", tests, setup, teardown);
}
