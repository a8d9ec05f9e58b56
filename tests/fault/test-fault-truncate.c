/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Beside a thread that write(2)s to a mapped file from memory that is away, and so holds the
 * file's lock in the kernel while it waits for a pager: what makes the file shorter or longer,
 * or makes holes in it, does not keep the pager from answering that thread, nor do dirty pages that
 * cannot be written meanwhile; and nothing that is stored is lost, or comes back.
 */
#include "../live/memsource.h"

#include "blkio.h"
#include "sys.h"

#include <sys/uio.h>

#define FILE_PAGES 1024U
#define ANON_PAGES 100U
#define WRITTEN 900U /* where the thread writes */

static struct fl *fl;
static int fd;
static char *map, *anon;
static struct memsource *source;
static struct fl_backing *backing;
static char *held;	  /* a page of the source, which does not come before it is let */
static uint32_t punching; /* atomic */

static long note_punch(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev, (void)off, (void)len;
	if (op == BLK_PUNCH)
		__atomic_store_n(&punching, 1, __ATOMIC_RELEASE);
	return 0;
}

/* A file that is mapped, filled as by live_fill() with tag 1, and memory that is away, with tag 2. */
static void begin(uint64_t limit)
{
	struct fl_options o = live_options(limit);

	o.engine = FL_ENGINE_URING;
	blkio_inject = note_punch;
	__atomic_store_n(&punching, 0, __ATOMIC_RELAXED);
	fd = live_file(FILE_PAGES, 1);
	assert_int_equal(fsync(fd), 0);
	fl = live_open(&o);
	map = fl_mmap(fl, NULL, FILE_PAGES * PG, RW, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, FL_FAILED);
	anon = live_map(fl, ANON_PAGES);
	live_fill(anon, 0, ANON_PAGES, 2);
	live_out(fl, anon, ANON_PAGES);
	source = memsource_new(1, 3);
	source->held = true;
	backing = memsource_open(fl, source, 1);
	held = memsource_map(fl, backing, 1, MAP_SHARED);
}

static void end(void)
{
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
	live_file_end(fd);
	memsource_end(source);
	blkio_inject = NULL;
}

/* The page of the source first: while it does not come the lock is held. */
static void *write_to(void *arg)
{
	const int to = *(const int *)arg;
	const struct iovec iov[] = {{held, PG}, {anon, ANON_PAGES * PG}};

	assert_int_equal(pwritev(to, iov, 2, (off_t)(WRITTEN * PG)), (ANON_PAGES + 1) * PG);
	return NULL;
}

static pthread_t writer;

static void take_lock(const int *of)
{
	assert_int_equal(pthread_create(&writer, NULL, write_to, (void *)(uintptr_t)of), 0);
	memsource_await(source, &source->reads, 1);
}

static void let_go(const int *of)
{
	static char page[PG] __attribute__((aligned(8)));

	memsource_set(source, &source->held, false);
	pthread_join(writer, NULL);
	for (size_t i = 0; i <= ANON_PAGES; i++) {
		assert_int_equal(pread(*of, page, PG, (off_t)((WRITTEN + i) * PG)), PG);
		assert_memory_equal(page, i == 0 ? held : anon + (i - 1) * PG, PG);
	}
}

/* The pager answers; half of it is the writer's. */
static void touch_what_is_away(void)
{
	live_check(anon, ANON_PAGES / 2, ANON_PAGES / 2, 2);
}

static bool is_zero(const char *page)
{
	static const char zeros[PG];

	return memcmp(page, zeros, PG) == 0;
}

static void *sync_all(void *arg)
{
	(void)arg;
	assert_int_equal(fl_msync(fl, map, FILE_PAGES * PG, MS_SYNC), 0);
	return NULL;
}

/* ---- a hole ---- */

#define HOLE 100U
#define HOLE_PAGES 64U
#define DIRTY (HOLE + 3)
#define STORED (HOLE + 9)
#define AWAY (HOLE + 40)

static void *remove_hole(void *arg)
{
	(void)arg;
	assert_int_equal(fl_madvise(fl, map + HOLE * PG, HOLE_PAGES * PG, MADV_REMOVE), 0);
	return NULL;
}

/* What it saw before tells whether the hole was there; what it stores comes after it either way. */
static void *store_in_hole(void *arg)
{
	(void)arg;
	live_page(map, STORED)[5] = 17;
	live_page(map, AWAY)[6] = 18;
	return NULL;
}

static void a_hole_beside_a_writer(void **state)
{
	pthread_t remover, storer, syncer;

	(void)state;
	begin(8 * MIB);
	/* some is cached, clean and dirty, and some is not */
	live_check(map, HOLE, 20, 1);
	live_page(map, DIRTY)[7] = 16;
	take_lock(&fd);
	assert_int_equal(pthread_create(&remover, NULL, remove_hole, NULL), 0);
	until(__atomic_load_n(&punching, __ATOMIC_ACQUIRE) != 0);
	assert_int_equal(pthread_create(&storer, NULL, store_in_hole, NULL), 0);
	assert_int_equal(pthread_create(&syncer, NULL, sync_all, NULL), 0);
	touch_what_is_away();
	/* it is not a hole before the lock is let go */
	live_check(map, HOLE + 10, 4, 1);
	assert_int_equal(live_page(map, DIRTY)[7], 16);
	let_go(&fd);
	pthread_join(remover, NULL);
	pthread_join(storer, NULL);
	pthread_join(syncer, NULL);
	assert_int_equal(live_page(map, STORED)[5], 17);
	assert_int_equal(live_page(map, AWAY)[6], 18);
	live_page(map, STORED)[5] = live_page(map, AWAY)[6] = 0;
	for (size_t i = 0; i < HOLE_PAGES; i++)
		assert_true(is_zero(map + (HOLE + i) * PG));
	assert_int_equal(fl_msync(fl, map, FILE_PAGES * PG, MS_SYNC), 0);
	assert_int_equal(live_file_wrong(fd, 0, HOLE, 1), 0);
	assert_int_equal(live_file_wrong(fd, HOLE + HOLE_PAGES, 100, 1), 0);
	for (size_t i = 0; i < HOLE_PAGES; i++) {
		char page[PG];

		assert_int_equal(pread(fd, page, PG, (off_t)((HOLE + i) * PG)), PG);
		assert_true(is_zero(page));
	}
	end();
}

static uint32_t holding, storing, has_stored; /* atomic; storing: the thread that does */
static sys_fn enter_fn;

/* A pager that has begun to make the hole does not hear that it was made. */
static long enter_and_hold(long a, long b, long c, long d, long e, long f)
{
	long r = enter_fn(a, b, c, d, e, f);

	while (__atomic_load_n(&punching, __ATOMIC_ACQUIRE) &&
	       __atomic_load_n(&holding, __ATOMIC_ACQUIRE))
		sched_yield();
	return r;
}

static void *store_behind_hole(void *arg)
{
	(void)arg;
	__atomic_store_n(&storing, (uint32_t)gettid(), __ATOMIC_RELEASE);
	live_page(map, DIRTY)[5] = 17;
	__atomic_store_n(&has_stored, 1, __ATOMIC_RELEASE);
	return NULL;
}

static bool is_asleep(uint32_t tid)
{
	char path[64], state = 'R';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/self/task/%u/stat", tid);
	stat = fopen(path, "re");
	if (stat == NULL)
		return false;
	if (fscanf(stat, "%*d %*s %c", &state) != 1)
		state = 'R';
	fclose(stat);
	return state != 'R';
}

static bool is_hole(void)
{
	static char page[PG] __attribute__((aligned(8)));

	assert_int_equal(pread(fd, page, PG, (off_t)(AWAY * PG)), PG);
	return is_zero(page);
}

/* Who has seen the hole stores to a page of it that was dirty: that is not before the hole. */
static void a_store_behind_a_hole(void **state)
{
	pthread_t remover, storer;

	(void)state;
	begin(8 * MIB);
	memsource_set(source, &source->held, false);
	live_page(map, DIRTY)[7] = 16;
	__atomic_store_n(&holding, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&storing, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&has_stored, 0, __ATOMIC_RELAXED);
	enter_fn = sys_table[SYSROW_uring_enter].fn;
	sys_table[SYSROW_uring_enter].fn = enter_and_hold;
	assert_int_equal(pthread_create(&remover, NULL, remove_hole, NULL), 0);
	until(is_hole());
	assert_int_equal(pthread_create(&storer, NULL, store_behind_hole, NULL), 0);
	until(__atomic_load_n(&has_stored, __ATOMIC_ACQUIRE) ||
	      (__atomic_load_n(&storing, __ATOMIC_ACQUIRE) != 0 &&
	       is_asleep(__atomic_load_n(&storing, __ATOMIC_ACQUIRE))));
	__atomic_store_n(&holding, 0, __ATOMIC_RELEASE);
	pthread_join(remover, NULL);
	pthread_join(storer, NULL);
	sys_table[SYSROW_uring_enter].fn = enter_fn;
	assert_int_equal(live_page(map, DIRTY)[5], 17);
	assert_int_equal(live_page(map, DIRTY)[7], 0);
	end();
}

/* Where the kernel's own mapping of a file is in the range. */
static void a_hole_that_is_not_ours(void **state)
{
	int other = memfd_create("other", MFD_CLOEXEC);
	pthread_t remover;
	char *theirs;

	(void)state;
	begin(8 * MIB);
	assert_int_equal(ftruncate(other, (off_t)(FILE_PAGES * PG)), 0);
	theirs = fl_mmap(fl, map + (HOLE + 8) * PG, 8 * PG, RW, MAP_SHARED | MAP_FIXED, other, 0);
	assert_ptr_equal(theirs, map + (HOLE + 8) * PG);
	live_fill(theirs, 0, 8, 4);
	take_lock(&other);
	assert_int_equal(pthread_create(&remover, NULL, remove_hole, NULL), 0);
	until(is_zero(map + HOLE * PG));
	touch_what_is_away();
	live_check(theirs, 0, 8, 4);
	let_go(&other);
	pthread_join(remover, NULL);
	for (size_t i = 0; i < HOLE_PAGES; i++)
		assert_true(is_zero(map + (HOLE + i) * PG));
	assert_int_equal(fl_madvise(fl, map, HOLE * PG, MADV_PAGEOUT), 0);
	live_check(map, 0, HOLE, 1);
	end();
	close(other);
}

/* ---- another end ---- */

#define SHORTER 200U
#define LONGER 700U

static uint32_t truncating; /* atomic: calls of the kernel's that began */
static sys_fn truncate_fn;

static long note_truncate(long to, long len, long c, long d, long e, long f)
{
	if (to == fd)
		__atomic_fetch_add(&truncating, 1, __ATOMIC_RELEASE);
	return truncate_fn(to, len, c, d, e, f);
}

static void *truncate_to(void *arg)
{
	assert_int_equal(fl_ftruncate(fl, fd, (off_t)((uintptr_t)arg * PG)), 0);
	return NULL;
}

static void another_end_beside_a_writer(void **state)
{
	pthread_t shorter, longer, syncer;
	struct stat st;

	(void)state;
	begin(8 * MIB);
	live_check(map, SHORTER - 20, 40, 1);
	live_page(map, SHORTER - 1)[7] = 16;
	live_page(map, SHORTER + 1)[7] = 16;
	truncate_fn = sys_table[SYSROW_ftruncate].fn;
	sys_table[SYSROW_ftruncate].fn = note_truncate;
	__atomic_store_n(&truncating, 0, __ATOMIC_RELAXED);
	take_lock(&fd);
	assert_int_equal(pthread_create(&shorter, NULL, truncate_to, (void *)SHORTER), 0);
	until(__atomic_load_n(&truncating, __ATOMIC_ACQUIRE) == 1);
	assert_int_equal(pthread_create(&longer, NULL, truncate_to, (void *)LONGER), 0);
	assert_int_equal(pthread_create(&syncer, NULL, sync_all, NULL), 0);
	touch_what_is_away();
	live_check(map, SHORTER + 2, 4, 1);
	/* one after the other */
	assert_int_equal(__atomic_load_n(&truncating, __ATOMIC_ACQUIRE), 1);
	memsource_set(source, &source->held, false);
	pthread_join(writer, NULL);
	pthread_join(shorter, NULL);
	pthread_join(longer, NULL);
	pthread_join(syncer, NULL);
	sys_table[SYSROW_ftruncate].fn = truncate_fn;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, LONGER * PG);
	for (size_t i = SHORTER; i < LONGER; i++)
		assert_true(is_zero(map + i * PG));
	assert_true(live_bus(map + LONGER * PG));
	assert_int_equal(live_page(map, SHORTER - 1)[7], 16);
	live_page(map, SHORTER - 1)[7] = live_word(1000003 + SHORTER - 1, 7);
	live_check(map, 0, SHORTER, 1);
	assert_int_equal(fl_msync(fl, map, LONGER * PG, MS_SYNC), 0);
	assert_int_equal(live_file_wrong(fd, 0, SHORTER, 1), 0);
	end();
}

#define LEFT 900U /* pages that are stored to between the halves of the call */

static void *shrink(void *arg)
{
	(void)arg;
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
	return NULL;
}

static pthread_t shrinker;

/* No call, which would not be served now. */
static bool limit_is_set(void)
{
	struct fl_stats st;

	assert_int_equal(fl_stats(fl, &st, sizeof(st)), 0);
	return st.limit == FL_LIMIT_MIN / PG;
}

/* The pager waits for frames that cannot leave before the caller of this is back. */
static long truncate_among_waits(long to, long len, long c, long d, long e, long f)
{
	if (to == fd) {
		for (size_t i = 0; i < LEFT; i++)
			live_page(map, i)[5] = 22;
		assert_int_equal(pthread_create(&shrinker, NULL, shrink, NULL), 0);
		until(limit_is_set());
		return -EIO;
	}
	return truncate_fn(to, len, c, d, e, f);
}

static void another_end_beside_another_limit(void **state)
{
	(void)state;
	begin(8 * MIB);
	truncate_fn = sys_table[SYSROW_ftruncate].fn;
	sys_table[SYSROW_ftruncate].fn = truncate_among_waits;
	assert_int_equal(fl_ftruncate(fl, fd, 0), -EIO);
	pthread_join(shrinker, NULL);
	sys_table[SYSROW_ftruncate].fn = truncate_fn;
	for (size_t i = 0; i < LEFT; i++)
		assert_int_equal(live_page(map, i)[5], 22);
	memsource_set(source, &source->held, false);
	end();
}

static volatile sig_atomic_t told;

static void note_signal(int sig)
{
	told = sig;
}

/* As ftruncate(2): by errno and by signal. */
static void beyond_what_may_be(void **state)
{
	const struct sigaction sa = {.sa_handler = note_signal};
	struct sigaction old;
	struct rlimit was, lim;

	(void)state;
	begin(8 * MIB);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	lim = was;
	lim.rlim_cur = 1 << 30;
	assert_int_equal(sigaction(SIGXFSZ, &sa, &old), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	told = 0;
	assert_int_equal(fl_ftruncate(fl, fd, 2L << 30), -EFBIG);
	assert_int_equal(told, SIGXFSZ);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	sigaction(SIGXFSZ, &old, NULL);
	assert_int_equal(fl_ftruncate(fl, -1, 0), -EBADF);
	assert_int_equal(fl_ftruncate(fl, fd, -1), -EINVAL);
	live_check(map, 0, FILE_PAGES, 1);
	memsource_set(source, &source->held, false);
	end();
}

static sys_fn fstat_fn;
static uint32_t fstat_left; /* atomic: calls that are still good */

static long fstat_fails(long of, long st, long c, long d, long e, long f)
{
	if (__atomic_fetch_sub(&fstat_left, 1, __ATOMIC_RELAXED) == 0)
		return -EIO;
	return fstat_fn(of, st, c, d, e, f);
}

/* Where nobody says what the file is, and how long, a call fails and nothing is lost. */
static void nothing_is_guessed(void **state)
{
	struct stat st;
	unsigned failed = 0;

	(void)state;
	begin(8 * MIB);
	fstat_fn = sys_table[SYSROW_fstat].fn;
	for (unsigned i = 0; i < 12; i++) {
		const size_t len = SHORTER + i % 2 * 100;
		void *over;
		int r;

		for (size_t page = SHORTER - 8; page < SHORTER; page++)
			live_page(map, page)[8] = i + 1;
		__atomic_store_n(&fstat_left, i / 2, __ATOMIC_RELAXED);
		sys_table[SYSROW_fstat].fn = fstat_fails;
		over = fl_mmap(fl, map + (SHORTER - 4) * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd,
			       (SHORTER - 4) * PG);
		assert_true(over != FL_FAILED || errno == EIO);
		failed += over == FL_FAILED;
		__atomic_store_n(&fstat_left, i / 2, __ATOMIC_RELAXED);
		r = fl_ftruncate(fl, fd, (off_t)(len * PG));
		sys_table[SYSROW_fstat].fn = fstat_fn;
		assert_true(r == 0 || r == -EIO);
		failed += r != 0;
		assert_int_equal(fstat(fd, &st), 0);
		if (r == 0)
			assert_int_equal(st.st_size, len * PG);
		assert_int_equal(fl_msync(fl, map, SHORTER * PG, MS_SYNC), 0);
		for (size_t page = SHORTER - 8; page < SHORTER; page++) {
			uint64_t word;

			assert_int_equal(live_page(map, page)[8], i + 1);
			assert_int_equal(pread(fd, &word, 8, (off_t)(page * PG + 64)), 8);
			assert_int_equal(word, i + 1);
		}
	}
	assert_true(failed >= 4);
	memsource_set(source, &source->held, false);
	end();
}

/* ---- dirty pages ---- */

#define READERS 100U

static uint32_t cached[FILE_PAGES], ncached; /* pages that can be stored to without I/O */
static uint32_t stored;			     /* atomic: the first so many were */

static void *store_all(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < ncached; i++) {
		live_page(map, cached[i])[5] = 21;
		__atomic_store_n(&stored, i + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static uint32_t absent[FILE_PAGES], nabsent;

static void *read_one(void *arg)
{
	live_check(map, *(const uint32_t *)arg, 1, 1);
	return NULL;
}

static void *store_one(void *arg)
{
	live_page(map, *(const uint32_t *)arg)[5] = 21;
	return NULL;
}

/* Of what lies before that which is written to: what is cached, all of it clean, and what is not. */
static void look_at_cache(void)
{
	ncached = nabsent = 0;
	for (uint32_t i = 0; i < WRITTEN; i++) {
		if (fl_try(fl, map + i * PG, PG) == 0)
			cached[ncached++] = i;
		else
			absent[nabsent++] = i;
	}
	assert_true(ncached > 200 && nabsent >= 2 * READERS);
}

/* All that is cached could be dirty, and what is free be waited for, while nothing can be read or written. */
static void dirty_pages_beside_a_writer(void **state)
{
	pthread_t storer, thread[2 * READERS];
	uint64_t reads;

	(void)state;
	begin(FL_LIMIT_MIN);
	live_check(map, 0, WRITTEN, 1);
	look_at_cache();
	__atomic_store_n(&stored, 0, __ATOMIC_RELAXED);
	take_lock(&fd);
	reads = live_stats(fl).file_reads;
	assert_int_equal(pthread_create(&storer, NULL, store_all, NULL), 0);
	until(__atomic_load_n(&stored, __ATOMIC_ACQUIRE) >= ncached - ncached / 8 - 8);
	for (uint32_t i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_one, &absent[i]), 0);
	until(live_stats(fl).file_reads >= reads + READERS / 4);
	for (uint32_t i = READERS; i < 2 * READERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, store_one, &absent[i]), 0);
	let_go(&fd);
	pthread_join(storer, NULL);
	for (uint32_t i = 0; i < 2 * READERS; i++)
		pthread_join(thread[i], NULL);
	for (uint32_t i = READERS; i < 2 * READERS; i++)
		cached[ncached++] = absent[i];
	assert_int_equal(fl_msync(fl, map, FILE_PAGES * PG, MS_SYNC), 0);
	for (uint32_t i = 0; i < ncached; i++) {
		static char page[PG] __attribute__((aligned(8)));

		assert_int_equal(pread(fd, page, PG, (off_t)(cached[i] * PG)), PG);
		assert_int_equal(live_page(page, 0)[5], 21);
		assert_memory_equal(page, map + cached[i] * PG, PG);
	}
	live_check(anon, 0, ANON_PAGES, 2);
	end();
}

/* Many requests that wait for the lock of one file leave room for those of another. */
static void a_hole_beside_many_readers(void **state)
{
	pthread_t reader[READERS];
	uint64_t reads;
	char *mine;
	int other;

	(void)state;
	other = live_file(HOLE_PAGES, 5);
	unlink(memsource_path); /* which is another file's from here on */
	begin(64 * MIB);
	mine = fl_mmap(fl, NULL, HOLE_PAGES * PG, RW, MAP_SHARED, other, 0);
	assert_ptr_not_equal(mine, FL_FAILED);
	live_check(mine, 0, HOLE_PAGES, 5);
	assert_int_equal(fl_madvise(fl, map, FILE_PAGES * PG, MADV_RANDOM), 0);
	take_lock(&fd);
	reads = live_stats(fl).file_reads;
	for (uint32_t i = 0; i < READERS; i++) {
		absent[i] = i * 8;
		assert_int_equal(pthread_create(&reader[i], NULL, read_one, &absent[i]), 0);
	}
	until(live_stats(fl).file_reads >= reads + READERS / 4);
	assert_int_equal(fl_madvise(fl, mine, HOLE_PAGES * PG / 2, MADV_REMOVE), 0);
	assert_true(is_zero(mine));
	live_check(mine, HOLE_PAGES / 2, HOLE_PAGES / 2, 5);
	let_go(&fd);
	for (uint32_t i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	end();
	close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hole_beside_a_writer),
		cmocka_unit_test(a_store_behind_a_hole),
		cmocka_unit_test(a_hole_that_is_not_ours),
		cmocka_unit_test(another_end_beside_a_writer),
		cmocka_unit_test(another_end_beside_another_limit),
		cmocka_unit_test(beyond_what_may_be),
		cmocka_unit_test(nothing_is_guessed),
		cmocka_unit_test(dirty_pages_beside_a_writer),
		cmocka_unit_test(a_hole_beside_many_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
