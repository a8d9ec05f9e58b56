/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared.c - processes that map one file of a store: they see one copy, and
 * so does who reads and writes the file through the mount; killed, without their
 * server, at a limit of a part of the file.
 *
 * usage: test-shared [TEST]
 */
#include "shared.h"

#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>

static void two_see_one_copy(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 0, PAGES, 1, 1);
	/* at once, each its own half of the pages, alternating */
	for (unsigned i = 0; i < 2; i++)
		tell(&p[i], (struct order){STORE, i, PAGES - i, 2, 10 + i});
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < 2; k++)
			OK(&p[i], CHECK, k, PAGES - k, 2, 10 + k);
	/* the same words at once: no addition is lost */
	for (unsigned i = 0; i < 2; i++)
		tell(&p[i], (struct order){COUNT, 7, 100000, 0, 0});
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[i]), 0);
	assert_int_equal(DO(&p[0], WORD, 7, 0, 1, 0), (int64_t)(word(7, 11, 1) + 200000));
	OK(&p[1], STORE, 7, 1, 1, 11);
	OK(&p[0], SYNC, 0, PAGES, 0, 0);
	for (unsigned k = 0; k < 2; k++)
		check_file("store/files/data", k, PAGES - k, 2, 10 + k);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

static void a_killed_one_loses_nothing(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], STORE, 0, 500, 1, 7);
	kill_it(&p[0]);
	OK(&p[1], CHECK, 0, 500, 1, 7);
	OK(&p[1], CHECK, 500, PAGES - 500, 1, 1);
	OK(&p[1], STORE, 100, 50, 1, 8);
	kill_it(&p[1]);
	/* nobody maps it any more */
	check_file("mnt/files/data", 0, 100, 1, 7);
	check_file("mnt/files/data", 100, 50, 1, 8);
	check_file("mnt/files/data", 150, 350, 1, 7);
	check_file("mnt/files/data", 500, PAGES - 500, 1, 1);
	assert_int_equal(unmount(), 0);
	check_file("store/files/data", 0, 100, 1, 7);
	check_file("store/files/data", 100, 50, 1, 8);
	check_file("store/files/data", 150, 350, 1, 7);
	serve(CACHE);
}

/* One page's word through the mount: what was stored is read, what was written is loaded. */
static void both_ways(void **state)
{
	static uint64_t buf[WORDS];
	struct process p;
	int f;

	(void)state;
	serve(CACHE);
	make_file(300);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	assert_true(f >= 0);
	/* the kernel has it cached from before */
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(pread(f, buf, PG, (off_t)(i * PG)), (ssize_t)PG);
	start_mapped(&p, 1, 300);
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t page = i * 7 % 300, v = 1000 + i;

		OK(&p, PUT, page, 0, 5, v);
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		assert_true(buf[5] == v);
		/* again, to a page that is dirty */
		OK(&p, PUT, page, 0, 6, v);
		assert_int_equal(pread(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
		assert_true(buf[6] == v && buf[5] == v);
		v += 5000;
		assert_int_equal(pwrite(f, &v, 8, (off_t)(page * PG + 9 * 8)), 8);
		assert_true((uint64_t)DO(&p, WORD, page, 0, 9, 0) == v);
		assert_true((uint64_t)DO(&p, WORD, page, 0, 6, 0) == 1000 + i);
		if (i % 50 == 0)
			OK(&p, SYNC, 0, 300, 0, 0);
		if (i % 50 == 25)
			assert_int_equal(fsync(f), 0);
	}
	/* what lies in a hole of the host's is found */
	assert_int_equal(ftruncate(f, 600 * PG), 0);
	finish(&p);
	start_mapped(&p, 1, 600);
	OK(&p, PUT, 500, 0, 0, 77);
	assert_int_equal(lseek(f, 400 * PG, SEEK_DATA), 500 * PG);
	/* another one opens it now */
	page_of("mnt/files/data", 7, buf);
	assert_true((uint64_t)DO(&p, WORD, 7, 0, 5, 0) == buf[5]);
	close(f);
	finish(&p);
}

/*
 * Who stores and who writes the same pages at one time.  Word 1 of a page is the one's to count in,
 * word 2 the other's; in word 3 they take turns, an even count is the writer's.  Each knows what
 * he has left in a page: nothing else may be there but the other's next turn.
 */
#define TURNS 1000U
#define AT_A_PAGE 16U

struct turns {
	uint64_t page; /* where the writer is */
	uint32_t stop;
	uint32_t seen; /* of the writer's turns, by who stores */
};

static struct turns *turns;

static uint64_t count_of(uint64_t value, uint64_t page, unsigned i)
{
	return value - word(page, 1, i);
}

static int64_t store_in_turns(void)
{
	uint64_t *left = calloc(PAGES, sizeof(*left)), *own = calloc(PAGES, sizeof(*own));
	int64_t r = left == NULL || own == NULL ? -ENOMEM : 0;

	while (r == 0 && get(&turns->stop) == 0) {
		uint64_t page = __atomic_load_n(&turns->page, __ATOMIC_RELAXED);
		uint64_t *w = at(page);
		uint64_t turn = count_of(__atomic_load_n(w + 3, __ATOMIC_RELAXED), page, 3);
		uint64_t count;

		if (turn != left[page] && turn != left[page] + 1) {
			fprintf(stderr, "page %lu: turn %ld, not %lu\n", (unsigned long)page,
				(long)turn, (unsigned long)left[page]);
			r = (int64_t)page + 1;
		}
		if (turn % 2 == 1) {
			left[page] = turn + 1;
			__atomic_store_n(w + 3, word(page, 1, 3) + turn + 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&turns->seen, 1, __ATOMIC_RELAXED);
		}
		count = count_of(__atomic_load_n(w + 1, __ATOMIC_RELAXED), page, 1);
		if (count != own[page]) {
			fprintf(stderr, "page %lu: count %ld, not %lu\n", (unsigned long)page,
				(long)count, (unsigned long)own[page]);
			r = (int64_t)page + 1;
		}
		__atomic_store_n(w + 1, word(page, 1, 1) + ++own[page], __ATOMIC_RELAXED);
	}
	free(left);
	free(own);
	return r;
}

/* One turn of the writer's; 0, or what is wrong. */
static int64_t write_turn(int f, uint64_t page, uint64_t *left, uint64_t *own)
{
	off_t off = (off_t)(page * PG);
	uint64_t w[2], turn;

	if (pread(f, w, sizeof(w), off + 16) != (ssize_t)sizeof(w))
		return -EIO;
	turn = count_of(w[1], page, 3);
	if (count_of(w[0], page, 2) != *own || (turn != *left && turn != *left + 1)) {
		fprintf(stderr, "page %lu: count %ld, not %lu; turn %ld, not %lu\n",
			(unsigned long)page, (long)count_of(w[0], page, 2), (unsigned long)*own,
			(long)turn, (unsigned long)*left);
		return (int64_t)page + 1;
	}
	w[0]++;
	w[1] += turn % 2 == 0;
	++*own;
	*left = turn % 2 == 0 ? turn + 1 : turn;
	/* what it is not his turn for stays out of the write */
	if (turn % 2 == 0)
		return pwrite(f, w, sizeof(w), off + 16) == (ssize_t)sizeof(w) ? 0 : -EIO;
	return pwrite(f, w, sizeof(w[0]), off + 16) == (ssize_t)sizeof(w[0]) ? 0 : -EIO;
}

static int64_t write_in_turns(uint64_t seed)
{
	uint64_t *left = calloc(PAGES, sizeof(*left)), *own = calloc(PAGES, sizeof(*own));
	int64_t r = left == NULL || own == NULL ? -ENOMEM : 0;
	int f = open(in_base("mnt/files/data"), O_RDWR | O_DIRECT | O_CLOEXEC);

	rng = seed;
	for (unsigned i = 0; r == 0 && i < TURNS; i++) {
		uint64_t page = next() % PAGES;

		__atomic_store_n(&turns->page, page, __ATOMIC_RELAXED);
		for (unsigned k = 0; r == 0 && k < AT_A_PAGE; k++)
			r = write_turn(f, page, &left[page], &own[page]);
	}
	set(&turns->stop, 1);
	close(f);
	free(left);
	free(own);
	return r;
}

static int64_t take_turns(uint64_t writes, uint64_t seed)
{
	return writes ? write_in_turns(seed) : store_in_turns();
}

static void both_ways_at_once(void **state)
{
	uint64_t seed = (uint64_t)time(NULL);
	struct process p[2];

	(void)state;
	number_of("FL_STORE_SEED", &seed);
	print_message("# FL_STORE_SEED=%lu\n", (unsigned long)seed);
	turns = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(turns, MAP_FAILED);
	shared_run = take_turns;
	begin_mapped(p, 2, CACHE);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], ADVISE, 0, PAGES, 0, MADV_RANDOM);
	for (unsigned i = 0; i < 2; i++)
		tell(&p[i], (struct order){RUN, i, 0, 0, seed});
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[1 - i]), 0);
	assert_true(get(&turns->seen) != 0);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	munmap(turns, PG);
}

static int64_t waiting(void)
{
	return number_in(in_base("mnt/stats"), "cache_dirty: ");
}

/* By write(2), one page at a time: how many bytes. */
static uint64_t put_pages(int f, uint64_t page, uint64_t n, uint64_t version)
{
	static uint64_t buf[WORDS];
	uint64_t done = 0;

	for (uint64_t i = page; i < page + n; i++) {
		fill(buf, i, version);
		assert_int_equal(pwrite(f, buf, PG, (off_t)(i * PG)), (ssize_t)PG);
		done += PG;
	}
	return done;
}

static void set_2000(int f)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 946684800}};

	assert_int_equal(futimens(f, times), 0);
}

static bool is_2000(int f)
{
	struct stat st;

	assert_int_equal(fstat(f, &st), 0);
	return st.st_mtim.tv_sec == 946684800 && st.st_mtim.tv_nsec == 0;
}

/* A time that is set stays until the next store, whenever what was stored before is written. */
static void times_that_are_set(void **state)
{
	struct stat touched, st;
	struct process p;
	int f, host;

	(void)state;
	begin_mapped(&p, 1, CACHE);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	host = open(in_base("store/files/data"), O_RDONLY | O_CLOEXEC);
	assert_true(f >= 0 && host >= 0);
	/* stored to what is mapped, and written to what is cached */
	for (uint64_t v = 2; v < 4; v++) {
		OK(&p, CHECK, 0, 100, 1, v - 1);
		if (v == 2)
			OK(&p, STORE, 0, 100, 1, v);
		else
			assert_int_equal(put_pages(f, 0, 100, v), 100 * PG);
		assert_false(is_2000(f));
		set_2000(f);
		assert_true(is_2000(f));
		OK(&p, SYNC, 0, PAGES, 0, 0);
		assert_int_equal(fsync(f), 0);
		assert_true(is_2000(f) && is_2000(host));
		check_file("store/files/data", 0, 100, 1, v);
		/* the next store moves it */
		OK(&p, PUT, 50, 0, 1, word(50, v, 1));
		assert_false(is_2000(f));
		OK(&p, SYNC, 0, PAGES, 0, 0);
		assert_false(is_2000(f) || is_2000(host));
	}
	/* the present, too */
	OK(&p, STORE, 0, 100, 1, 4);
	assert_int_equal(futimens(f, NULL), 0);
	assert_int_equal(fstat(f, &touched), 0);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	assert_int_equal(fstat(f, &st), 0);
	assert_memory_equal(&st.st_mtim, &touched.st_mtim, sizeof(st.st_mtim));
	/* when nobody maps it any more */
	OK(&p, STORE, 0, 100, 1, 5);
	OK(&p, UNMAP, 0, PAGES, 0, 0);
	set_2000(f);
	assert_true(is_2000(f));
	until(waiting() == 0);
	assert_int_equal(fsync(f), 0);
	assert_true(is_2000(f) && is_2000(host));
	check_file("store/files/data", 0, 100, 1, 5);
	close(host);
	close(f);
	finish(&p);
}

/* As the kernel has it, of a file that it pages. */
static void times_that_are_set_natively(void **state)
{
	uint64_t *m;
	int f;

	(void)state;
	serve(CACHE);
	f = open(in_base("native"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(f, 10 * PG), 0);
	for (uint64_t v = 2; v < 4; v++) {
		m = mmap(NULL, 10 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
		assert_ptr_not_equal(m, MAP_FAILED);
		fill(m, 0, v);
		munmap(m, 10 * PG);
		set_2000(f);
		assert_true(is_2000(f));
		assert_int_equal(fsync(f), 0);
		assert_true(is_2000(f));
	}
	close(f);
}

/* n bytes of a process's memory as MNT/proc shows it: how many, or -errno. */
static ssize_t shown(pid_t pid, int64_t addr, void *buf, size_t n)
{
	char path[64];
	ssize_t got;
	int f;

	snprintf(path, sizeof(path), "mnt/proc/%d/mem", (int)pid);
	f = open(in_base(path), O_RDONLY | O_CLOEXEC);
	if (f < 0)
		return -errno;
	got = pread(f, buf, n, (off_t)addr);
	if (got < 0)
		got = -errno;
	close(f);
	return got;
}

/* Pages as MNT/proc shows them have that version; what the server hears a moment later is waited for. */
static void shows(const struct process *p, int64_t addr, uint64_t from, uint64_t n, uint64_t step,
		  uint64_t version)
{
	static uint64_t buf[WORDS];

	for (uint64_t page = from; page < from + n; page += step) {
		ssize_t got;

		until((got = shown(p->pid, addr + (int64_t)(page * PG), buf, PG)) != -EIO &&
		      got != -ENOENT);
		assert_int_equal(got, PG);
		if (differs(buf, page, version) != WORDS)
			fail_msg("page %lu is not of version %lu", (unsigned long)page,
				 (unsigned long)version);
	}
}

#define CACHED_PAGES number_in(in_base("mnt/stats"), "cache_pages: ")

/* What is mapped is shown in MNT/proc wherever it is: mapped, cached, dirty, in the file. */
static void shown_in_proc(void **state)
{
	struct process p[2], child;
	static uint64_t buf[2 * WORDS];
	char line[2 * PATH_MAX];
	int64_t at[2], cached;
	int f;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	f = open(in_base("store/files/data"), O_RDWR | O_CLOEXEC);
	assert_true(f >= 0);
	/* its end is within a page */
	assert_int_equal(ftruncate(f, (PAGES - 1) * PG + 100), 0);
	for (unsigned i = 0; i < 2; i++) {
		start(&p[i]);
		OK(&p[i], MAP, 0, PAGES + 2, 0, 1 - i);
		OK(&p[i], ADVISE, 0, PAGES, 0, MADV_RANDOM);
		at[i] = DO(&p[i], WHERE, 0, 0, 0, 0);
	}
	/* none of it was touched */
	for (unsigned i = 0; i < 2; i++)
		shows(&p[i], at[i], 0, PAGES - 1, 1, 1);
	assert_int_equal(CACHED_PAGES, 0);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(shown(p[1].pid, at[1] + (PAGES - 1) * PG, buf, 2 * PG), PG);
	assert_memory_equal((char *)buf + 100, (char *)buf + 101, PG - 101);
	assert_int_equal(((char *)buf)[100], 0);
	assert_int_equal(shown(p[1].pid, at[1] + PAGES * PG, buf, PG), -EIO);
	/* what one has cached, and stored, the other has not mapped */
	OK(&p[0], CHECK, 0, 900, 9, 1);
	OK(&p[0], STORE, 0, 900, 27, 2);
	cached = CACHED_PAGES;
	assert_true(cached >= 100);
	for (unsigned i = 0; i < 2; i++) {
		shows(&p[i], at[i], 0, 900, 27, 2);
		shows(&p[i], at[i], 9, 891, 27, 1);
		shows(&p[i], at[i], 1, 899, 9, 1);
	}
	assert_int_equal(CACHED_PAGES, cached);
	/* by the tools that people have */
	snprintf(
		line, sizeof(line),
		"dd if='%s/mnt/proc/%d/mem' iflag=skip_bytes,count_bytes skip=%lld count=%lu bs=1M "
		"status=none | head -c %lu | cmp - '%s'",
		base, (int)p[1].pid, (long long)at[1], PAGES * PG, (PAGES - 1) * PG + 100,
		in_base("mnt/files/data"));
	if (system(line) != 0)
		fail_msg("%s", line);
	/* more than the cache holds, of which some is written and leaves */
	OK(&p[0], STORE, 0, PAGES - 1, 2, 3);
	for (unsigned i = 0; i < 2; i++)
		shows(&p[i], at[i], 0, PAGES - 1, 2, 3);
	/* a child, which has it all, and goes on alone */
	child = child_of(&p[0]);
	shows(&child, at[0], 0, PAGES - 1, 2, 3);
	finish(&p[0]);
	OK(&child, STORE, 0, 100, 2, 4);
	shows(&child, at[0], 0, 100, 2, 4);
	shows(&p[1], at[1], 0, 100, 2, 4);
	/* another server */
	OK(&child, SHUT, 0, 0, 0, 0);
	OK(&p[1], SHUT, 0, 0, 0, 0);
	assert_int_equal(unmount(), 0);
	serve(CACHE);
	await_paged(&child, 100);
	shows(&child, at[0], 0, 100, 2, 4);
	shows(&child, at[0], 100, PAGES - 101, 2, 3);
	close(f);
	finish(&child);
	finish(&p[1]);
}

/* What a process maps and pages itself: a file of the store, and one that is none; number `id`. */
static int64_t map_own(uint64_t id, uint64_t seed)
{
	char path[PATH_MAX];
	char *own;
	int f;

	snprintf(path, sizeof(path), "%s/%s", base, id == 0 ? "mnt/files/data" : "host");
	f = open(path, O_RDWR | O_CLOEXEC);
	own = fl_mmap(fl, NULL, PAGES * PG, PROT_READ | PROT_WRITE,
		      id == 2 ? MAP_SHARED : MAP_PRIVATE, f, 0);
	close(f);
	if (own == FL_FAILED)
		return -errno;
	/* a few pages are changed */
	for (uint64_t page = seed % 13; page < PAGES; page += 13)
		fill((uint64_t *)(void *)(own + page * PG), page, 2);
	return (int64_t)(uintptr_t)own;
}

static void own_files_shown_in_proc(void **state)
{
	static uint64_t page[WORDS];
	struct process p, other;
	int64_t at, map_at;
	int f;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	f = open(in_base("host"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(f >= 0);
	for (uint64_t i = 0; i < PAGES; i++) {
		fill(page, i, 1);
		assert_int_equal(write(f, page, PG), (ssize_t)PG);
	}
	shared_run = map_own;
	for (uint64_t id = 0; id < 3; id++) {
		start(&p);
		at = DO(&p, RUN, id, 0, 0, 5);
		assert_true(at > 0);
		shows(&p, at, 5, PAGES - 5, 13, 2);
		for (uint64_t i = 0; i < 13; i++)
			if (i != 5)
				shows(&p, at, i, PAGES - i, 13, 1);
		kill_it(&p);
	}
	/* stored by another, in the server's cache, and read by way of the mount */
	start(&p);
	at = DO(&p, RUN, 0, 0, 0, 5);
	assert_true(at > 0);
	shows(&p, at, 6, 1, 1, 1);
	start_mapped(&other, 1, PAGES);
	map_at = DO(&other, WHERE, 0, 0, 0, 0);
	OK(&other, STORE, 2000, 1, 1, 7);
	shows(&other, map_at, 2000, 1, 1, 7);
	finish(&other);
	finish(&p);
	close(f);
	unlink(in_base("host"));
}

/* The end of the file moves, by others and by itself. */
static void cut_and_grown(void **state)
{
	static uint64_t buf[WORDS];
	struct process p[2];
	struct stat st;

	(void)state;
	serve(CACHE);
	make_file(400);
	start_mapped(p, 2, 800);
	OK(&p[0], TOUCH, 399, 0, 0, 0);
	assert_int_equal(DO(&p[0], TOUCH, 400, 0, 0, 0), 1);
	OK(&p[0], STORE, 0, 400, 1, 5);
	assert_int_equal(truncate(in_base("mnt/files/data"), 200 * PG + 100), 0);
	for (unsigned i = 0; i < 2; i++) {
		OK(&p[i], CHECK, 0, 200, 1, 5);
		OK(&p[i], TOUCH, 200, 0, 0, 0);
		assert_int_equal(DO(&p[i], TOUCH, 201, 0, 0, 0), 1);
		assert_int_equal(DO(&p[i], TOUCH, 399, 0, 0, 0), 1);
	}
	/* behind the end there are zeros when it grows again, whatever somebody stored there */
	for (unsigned i = 20; i < 60; i++)
		OK(&p[i % 2], PUT, 200, 0, i, 77);
	{
		int f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);

		assert_int_equal(fallocate(f, 0, 0, 200 * PG + 200), 0);
		assert_int_equal(DO(&p[0], WORD, 200, 0, 21, 0), 0);
		assert_int_equal(ftruncate(f, 200 * PG + 300), 0);
		close(f);
	}
	for (unsigned i = 20; i < 37; i++)
		assert_int_equal(DO(&p[i % 2], WORD, 200, 0, i, 0), 0);
	OK(&p[0], PUT, 200, 0, 50, 77);
	OK(&p[1], CUT, 0, 300 * PG, 0, 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(DO(&p[i], WORD, 200, 0, 50, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 250, 0, 0, 0), 0);
	}
	OK(&p[0], STORE, 250, 10, 1, 6);
	OK(&p[1], CHECK, 250, 10, 1, 6);
	assert_int_equal(stat(in_base("mnt/files/data"), &st), 0);
	assert_int_equal(st.st_size, 300 * PG);
	/* a hole */
	{
		int f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);

		assert_int_equal(fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   252 * PG + 8, 2 * PG),
				 0);
		close(f);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_true((uint64_t)DO(&p[i], WORD, 252, 0, 0, 0) == word(252, 6, 0));
		assert_int_equal(DO(&p[i], WORD, 252, 0, 1, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 253, 0, 3, 0), 0);
		assert_int_equal(DO(&p[i], WORD, 254, 0, 0, 0), 0);
		assert_true((uint64_t)DO(&p[i], WORD, 254, 0, 1, 0) == word(254, 6, 1));
	}
	/* appended to, and renamed, and gone */
	{
		int f = open(in_base("mnt/files/data"), O_WRONLY | O_APPEND | O_CLOEXEC);

		fill(buf, 300, 9);
		assert_int_equal(write(f, buf, PG), (ssize_t)PG);
		close(f);
	}
	OK(&p[1], CHECK, 300, 1, 1, 9);
	assert_int_equal(rename(in_base("mnt/files/data"), in_base("mnt/files/other")), 0);
	OK(&p[0], STORE, 300, 1, 1, 10);
	page_of("mnt/files/other", 300, buf);
	assert_int_equal(differs(buf, 300, 10), WORDS);
	assert_int_equal(unlink(in_base("mnt/files/other")), 0);
	OK(&p[1], CHECK, 300, 1, 1, 10);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* Without its server: what is in memory can be used, the rest is SIGBUS; then with another server. */
static void a_server_that_is_killed(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[0], STORE, 0, 100, 1, 3);
	OK(&p[0], SYNC, 0, 100, 0, 0);
	OK(&p[0], STORE, 50, 10, 1, 4);
	OK(&p[1], CHECK, 40, 10, 1, 3);
	kill_server();
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 50, 10, 1, 4);
	OK(&p[1], STORE, 40, 10, 1, 5);
	OK(&p[0], CHECK, 40, 10, 1, 5);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(DO(&p[i], TOUCH, PAGES - 1 - i, 0, 0, 0), 1);
	assert_true(DO(&p[0], SYNC, 0, 10, 0, 0) != 0);
	check_file("store/files/data", 0, 40, 1, 3);
	OK(&p[0], UNMAP, 0, PAGES, 0, 0);
	serve(CACHE);
	finish(&p[1]);
	finish(&p[0]);
	start_mapped(&p[0], 1, PAGES);
	OK(&p[0], CHECK, 0, 40, 1, 3);
	OK(&p[0], CHECK, 60, 40, 1, 3);
	OK(&p[0], CHECK, 100, PAGES - 100, 1, 1);
	/* what was not written, and what was stored without a server */
	OK(&p[0], CHECK, 40, 10, 1, 5);
	OK(&p[0], CHECK, 50, 10, 1, 4);
	finish(&p[0]);
}

/* Pages are of the version that is stored, when the client has noticed that there is a server. */
static void await_file(uint64_t from, uint64_t n, uint64_t version)
{
	for (uint64_t page = from; page < from + n; page++)
		until(is_of("mnt/files/data", page, version));
}

/*
 * Servers come and go while processes keep their mappings: what is stored
 * before, between and after is in the file when there is a server.
 */
static void servers_come_and_go(void **state)
{
	struct process p[2];

	(void)state;
	begin_mapped(p, 2, CACHE);
	OK(&p[1], CHECK, 0, 400, 1, 1);
	OK(&p[0], STORE, 0, 100, 1, 3);
	kill_server();
	OK(&p[1], STORE, 200, 50, 1, 4);
	OK(&p[0], STORE, 300, 50, 1, 4);
	serve(CACHE);
	await_file(0, 100, 3);
	await_file(200, 50, 4);
	await_file(300, 50, 4);
	/* the mappings are still those of before: what is stored there is given back in the end */
	OK(&p[0], STORE, 50, 10, 1, 5);
	OK(&p[1], CHECK, 50, 10, 1, 5);
	OK(&p[1], STORE, 60, 10, 1, 6);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	check_file("mnt/files/data", 0, 50, 1, 3);
	check_file("mnt/files/data", 50, 10, 1, 5);
	check_file("mnt/files/data", 60, 10, 1, 6);
	check_file("mnt/files/data", 70, 30, 1, 3);
	check_file("mnt/files/data", 100, 100, 1, 1);
	/* what nobody maps any more is on its way */
	until(is_in_file("store/files/data", 200, 50, 4));
	check_file("store/files/data", 350, PAGES - 350, 1, 1);
}

/* A file that others changed first stays as it is; so does one that is not the same any more. */
static void what_others_changed_is_kept(void **state)
{
	static uint64_t buf[WORDS], was[100][WORDS];
	struct process p, q;
	int f;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		begin_mapped(&p, 1, CACHE);
		OK(&p, STORE, 0, 100, 1, 3);
		kill_server();
		OK(&p, STORE, 50, 10, 1, 4);
		/* it is not the first that the server hears of */
		stop(&p);
		/* an area that it does not hold */
		if (round == 1)
			assert_int_equal(
				run_faultline("mkswap --size 16M \"$BASE/store/swap/disk1\""), 0);
		serve(CACHE);
		if (round == 0) {
			f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
			fill(buf, 5, 9);
			assert_int_equal(pwrite(f, buf, PG, 5 * PG), (ssize_t)PG);
			close(f);
		} else if (round == 1) {
			start_mapped(&q, 1, PAGES);
			OK(&q, STORE, 5, 1, 1, 9);
			OK(&q, SYNC, 5, 1, 0, 0);
			finish(&q);
		} else {
			assert_int_equal(unlink(in_base("mnt/files/data")), 0);
			make_file(PAGES);
			f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
			fill(buf, 5, 9);
			assert_int_equal(pwrite(f, buf, PG, 5 * PG), (ssize_t)PG);
			close(f);
		}
		/* the server that was killed may have written some of it */
		for (uint64_t page = 0; page < 100; page++)
			page_of("store/files/data", page, was[page]);
		assert_int_equal(differs(was[5], 5, 9), WORDS);
		kill(p.pid, SIGCONT);
		finish(&p);
		for (uint64_t page = 0; page < 100; page++) {
			page_of("store/files/data", page, buf);
			assert_memory_equal(buf, was[page], PG);
		}
		check_file("mnt/files/data", 5, 1, 1, 9);
		assert_int_equal(unmount(), 0);
	}
	serve(CACHE);
}

/* A child has the mappings of its parent, and the pages that are not there. */
static void forked(void **state)
{
	struct process p, c, q;

	(void)state;
	begin_mapped(&q, 1, CACHE);
	start_mapped(&p, 1, PAGES);
	OK(&p, STORE, 100, 200, 1, 2);
	c = child_of(&p);
	OK(&c, CHECK, 100, 200, 1, 2);
	OK(&c, CHECK, 300, PAGES - 300, 1, 1);
	tell(&p, (struct order){STORE, 0, PAGES, 2, 3});
	tell(&c, (struct order){STORE, 1, PAGES - 1, 2, 4});
	assert_int_equal(hear(&p), 0);
	assert_int_equal(hear(&c), 0);
	OK(&c, CHECK, 0, PAGES, 2, 3);
	OK(&p, CHECK, 1, PAGES - 1, 2, 4);
	kill_it(&p);
	OK(&q, CHECK, 0, PAGES, 2, 3);
	OK(&c, STORE, 0, PAGES, 1, 5);
	OK(&q, CHECK, 0, PAGES, 1, 5);
	OK(&c, MOVE, 0, PAGES - 100, 0, 0);
	OK(&c, COVER, 500, 100, 0, 0);
	OK(&c, STORE, 600, 100, 1, 6);
	OK(&q, CHECK, 500, 100, 1, 5);
	OK(&q, CHECK, 600, 100, 1, 6);
	OK(&c, SYNC, 600, 100, 0, 0);
	check_file("store/files/data", 600, 100, 1, 6);
	kill_it(&c);
	finish(&q);
}

/* The mount's options of write-back. */
static void when_pages_are_written(void **state)
{
	struct process p;
	struct timespec begun, ended;

	(void)state;
	/* ten times, which would take ten times five seconds */
	serve("cache=32M,dirty_expire=0.25");
	make_file(400);
	start_mapped(&p, 1, 400);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	for (unsigned i = 0; i < 10; i++) {
		OK(&p, STORE, 0, 10, 1, 2 + i);
		until(waiting() == 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	assert_true(ended.tv_sec - begun.tv_sec < 45);
	/* the last of it may be on its way */
	until(is_in_file("store/files/data", 0, 10, 11));
	finish(&p);
	assert_int_equal(unmount(), 0);
	/* 81 pages of 8192 may wait for an hour, and 82 become 40 or less */
	serve("cache=32M,dirty_expire=3600,dirty_background=1");
	start_mapped(&p, 1, 400);
	OK(&p, STORE, 100, 81, 1, 3);
	assert_int_equal(waiting(), 81);
	OK(&p, STORE, 300, 1, 1, 3);
	until(waiting() <= 40);
	finish(&p);
}

/* Frames are there once, whoever maps them. */
static void one_copy_in_memory(void **state)
{
	struct process p[4];
	int64_t pss = 0;

	(void)state;
	serve("cache=32M");
	make_file(2000);
	start_mapped(p, 4, 2000);
	for (unsigned i = 0; i < 4; i++)
		OK(&p[i], CHECK, 0, 2000, 1, 1);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(DO(&p[i], PSS, 0, 1, 0, 0), 2000 * 4);
		pss += DO(&p[i], PSS, 0, 0, 0, 0);
	}
	/* the server has the same frames mapped, for its own part of them */
	assert_true(pss <= 2000 * 4);
	for (unsigned i = 0; i < 4; i++)
		finish(&p[i]);
}

/* Parts are unmapped, mapped over and moved while another process goes on. */
static void moved_about(void **state)
{
	struct process p[2];

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++)
		start(&p[i]);
	OK(&p[0], MAP, 0, PAGES, 0, 1);
	OK(&p[1], MAP, 1000, 500, 0, 0);
	OK(&p[0], STORE, 900, 700, 1, 2);
	OK(&p[1], CHECK, 1000, 500, 1, 2);
	OK(&p[0], MOVE, 0, PAGES, 0, 0);
	OK(&p[0], CHECK, 0, 900, 1, 1);
	OK(&p[0], COVER, 1100, 100, 0, 0);
	OK(&p[0], UNMAP, 1300, 100, 0, 0);
	OK(&p[0], STORE, 1000, 100, 1, 3);
	OK(&p[0], STORE, 1200, 100, 1, 3);
	OK(&p[0], STORE, 1400, 100, 1, 3);
	OK(&p[1], CHECK, 1000, 100, 1, 3);
	OK(&p[1], CHECK, 1100, 100, 1, 2);
	OK(&p[1], CHECK, 1200, 100, 1, 3);
	OK(&p[1], CHECK, 1300, 100, 1, 2);
	OK(&p[1], CHECK, 1400, 100, 1, 3);
	OK(&p[0], COVER, 1150, 100, 0, 0);
	OK(&p[1], CHECK, 1200, 100, 1, 3);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	/* what is no longer mapped is written soon, and before the server ends */
	assert_int_equal(unmount(), 0);
	check_file("store/files/data", 900, 100, 1, 2);
	check_file("store/files/data", 1100, 100, 1, 2);
	check_file("store/files/data", 1200, 100, 1, 3);
	serve(CACHE);
}

/* A file of its own with MAP_FIXED, for which it may have no memory: what that comes to. */
static int64_t cover_in_vain(uint64_t page, uint64_t none)
{
	int f = open(in_base("own"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct rlimit was, little;
	int64_t err = 0;

	(void)none;
	if (f < 0 || ftruncate(f, 10 * PG) != 0 || getrlimit(RLIMIT_FSIZE, &was) != 0)
		return -errno;
	little = (struct rlimit){PG, was.rlim_max};
	setrlimit(RLIMIT_FSIZE, &little);
	if (fl_mmap(fl, at(page), 10 * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, f, 0) ==
	    FL_FAILED)
		err = -errno;
	setrlimit(RLIMIT_FSIZE, &was);
	close(f);
	return err;
}

/* What was to be mapped over stays as it is. */
static void mapped_over_in_vain(void **state)
{
	struct process p;

	(void)state;
	shared_run = cover_in_vain;
	begin_mapped(&p, 1, CACHE);
	OK(&p, STORE, 100, 5, 1, 2);
	assert_int_equal(DO(&p, RUN, 100, 0, 0, 0), -ENOMEM);
	OK(&p, CHECK, 100, 5, 1, 2);
	OK(&p, CHECK, 105, 10, 1, 1);
	OK(&p, STORE, 100, 15, 1, 3);
	finish(&p);
	check_file("mnt/files/data", 100, 15, 1, 3);
}

/* A mapping that is not managed, with MAP_FIXED, when no more regions can be noted. */
static int64_t cover_without_regions(uint64_t page, uint64_t none)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	const size_t many = 4096;
	char *p = fl_mmap(fl, NULL, many * PG, PROT_NONE, flags, -1, 0);
	int f = memfd_create("own", MFD_CLOEXEC);
	struct rlimit was, little;
	int64_t err = 0;
	size_t i = 0;

	(void)none;
	if (p == FL_FAILED || f < 0 || ftruncate(f, PG) != 0 || getrlimit(RLIMIT_AS, &was) != 0)
		return -EIO;
	little = (struct rlimit){0, was.rlim_max};
	setrlimit(RLIMIT_AS, &little);
	while (i < many && fl_mprotect(fl, p + i * PG, PG, PROT_READ) == 0)
		i += 2;
	if (i == many)
		err = -EIO;
	else if (fl_mmap(fl, at(page), PG, PROT_READ, MAP_PRIVATE | MAP_FIXED, f, 0) == FL_FAILED)
		err = -errno;
	setrlimit(RLIMIT_AS, &was);
	fl_munmap(fl, p, many * PG);
	close(f);
	return err;
}

static void mapped_over_without_regions(void **state)
{
	struct process p;

	(void)state;
	shared_run = cover_without_regions;
	begin_mapped(&p, 1, CACHE);
	assert_int_equal(DO(&p, RUN, 100, 0, 0, 0), -ENOMEM);
	OK(&p, CHECK, 100, 1, 1, 1);
	OK(&p, STORE, 100, 1, 1, 2);
	finish(&p);
	check_file("mnt/files/data", 100, 1, 1, 2);
}

/* The disk is full for a while: everybody is told, once, and nothing is lost. */
static void a_full_disk(void **state)
{
	struct process p[2];
	char line[PATH_MAX];
	int f;

	(void)state;
	snprintf(line, sizeof(line), "mount -t tmpfs -o size=12M none '%s'",
		 in_base("store/files"));
	assert_int_equal(system(line), 0);
	serve("cache=4M");
	make_file(0);
	assert_int_equal(truncate(in_base("store/files/data"), 2000 * PG), 0);
	f = open(in_base("store/files/filler"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(fallocate(f, 0, 0, 11L << 20), 0);
	start_mapped(p, 2, 2000);
	OK(&p[0], STORE, 0, 700, 1, 2);
	assert_int_equal(DO(&p[0], SYNC, 0, 1000, 0, 0), -ENOSPC);
	OK(&p[1], CHECK, 0, 700, 1, 2);
	/* and when nothing can leave memory at all, who wants more gets SIGBUS */
	assert_int_equal(DO(&p[1], STORE, 700, 1200, 1, 2), -EFAULT);
	assert_int_equal(ftruncate(f, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		/* of what failed since it was told the last time */
		assert_int_equal(DO(&p[i], SYNC, 0, 2000, 0, 0), -ENOSPC);
		OK(&p[i], SYNC, 0, 2000, 0, 0);
	}
	check_file("store/files/data", 0, 700, 1, 2);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 0, 700, 1, 2);
	OK(&p[0], STORE, 0, 2000, 1, 3);
	OK(&p[1], CHECK, 0, 2000, 1, 3);
	close(f);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	assert_int_equal(unmount(), 0);
	assert_int_equal(umount2(in_base("store/files"), MNT_DETACH), 0);
	serve(CACHE);
}

static int end_full(void **state)
{
	umount2(in_base("store/files"), MNT_DETACH);
	return end(state);
}

/* What execve(2) says of the file, which is none that it knows. */
static int error_of_exec(void)
{
	char path[PATH_MAX];
	char *const argv[] = {path, NULL};
	pid_t pid;
	int status;

	snprintf(path, sizeof(path), "%s", in_base("mnt/files/data"));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		execv(path, argv);
		_exit(errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* As long as a process lives that may store to it, and not a moment longer. */
static void what_is_stored_to_is_not_executed(void **state)
{
	struct process p[3], c;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	assert_int_equal(chmod(in_base("mnt/files/data"), 0755), 0);
	for (unsigned i = 0; i < 3; i++)
		start(&p[i]);
	/* one that may only be read says nothing */
	OK(&p[0], MAP, 0, PAGES, 0, 0);
	OK(&p[0], CHECK, 0, 10, 1, 1);
	assert_int_equal(error_of_exec(), ENOEXEC);
	for (unsigned i = 1; i < 3; i++) {
		OK(&p[i], MAP, 0, PAGES, 0, 1);
		assert_int_equal(error_of_exec(), ETXTBSY);
		OK(&p[i], SHUT, 0, 0, 0, 0);
		assert_int_equal(error_of_exec(), ETXTBSY);
	}
	OK(&p[1], MOVE, 0, 2000, 0, 0);
	OK(&p[1], UNMAP, 0, 1999, 0, 0);
	kill_it(&p[2]);
	assert_int_equal(error_of_exec(), ETXTBSY);
	c = child_of(&p[1]);
	OK(&p[1], UNMAP, 1999, 1, 0, 0);
	assert_int_equal(error_of_exec(), ETXTBSY);
	kill_it(&c);
	assert_int_equal(error_of_exec(), ENOEXEC);
	/* the next server */
	OK(&p[1], MAP, 0, PAGES, 0, 1);
	OK(&p[1], SHUT, 0, 0, 0, 0);
	kill_server();
	serve(CACHE);
	await_paged(&p[1], 10);
	assert_int_equal(error_of_exec(), ETXTBSY);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	assert_int_equal(error_of_exec(), ENOEXEC);
	/* one that is stopped, and killed then */
	start(&p[1]);
	OK(&p[1], MAP, 0, PAGES, 0, 1);
	OK(&p[1], SHUT, 0, 0, 0, 0);
	stop(&p[1]);
	assert_int_equal(error_of_exec(), ETXTBSY);
	kill_it(&p[1]);
	assert_int_equal(error_of_exec(), ENOEXEC);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(two_see_one_copy, begin, end),
		cmocka_unit_test_setup_teardown(a_killed_one_loses_nothing, begin, end),
		cmocka_unit_test_setup_teardown(both_ways, begin, end),
		cmocka_unit_test_setup_teardown(both_ways_at_once, begin, end),
		cmocka_unit_test_setup_teardown(times_that_are_set, begin, end),
		cmocka_unit_test_setup_teardown(times_that_are_set_natively, begin, end),
		cmocka_unit_test_setup_teardown(shown_in_proc, begin, end),
		cmocka_unit_test_setup_teardown(own_files_shown_in_proc, begin, end),
		cmocka_unit_test_setup_teardown(cut_and_grown, begin, end),
		cmocka_unit_test_setup_teardown(a_server_that_is_killed, begin, end),
		cmocka_unit_test_setup_teardown(servers_come_and_go, begin, end),
		cmocka_unit_test_setup_teardown(what_others_changed_is_kept, begin, end),
		cmocka_unit_test_setup_teardown(moved_about, begin, end),
		cmocka_unit_test_setup_teardown(mapped_over_in_vain, begin, end),
		cmocka_unit_test_setup_teardown(mapped_over_without_regions, begin, end),
		cmocka_unit_test_setup_teardown(when_pages_are_written, begin, end),
		cmocka_unit_test_setup_teardown(forked, begin, end),
		cmocka_unit_test_setup_teardown(what_is_stored_to_is_not_executed, begin, end),
		cmocka_unit_test_setup_teardown(one_copy_in_memory, begin, end),
		cmocka_unit_test_setup_teardown(a_full_disk, begin, end_full),
	};

	RUN_TESTS(argc, argv, tests);
}
