/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-faults.c - what goes wrong while a store's server goes and another one comes,
 * and with connections: no store of a program is lost or undone, and no program is left
 * behind that could have gone on.
 *
 * The server is a child of the test's own (within.h).
 *
 * usage: test-shared-faults [TEST]
 */
#include "shared.h"

#include "mm.h"
#include "pagecache.h"
#include "within.h"

#include <dirent.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <time.h>

#define SMALL (4UL << 20) /* cache: not all of the usual file */
#define LARGE (16UL << 20)
#define SILENT_MS 200
#define FAR (PAGES - 1)

static void writes_fail_with(int error)
{
	__atomic_store_n(&within->write_error, error, __ATOMIC_SEQ_CST);
}

static int64_t errors_of_server(void)
{
	return number_in(in_base("mnt/stats"), "cache_errors: ");
}

static int begin_within(void **state)
{
	within_begin();
	return begin(state);
}

static int end_within(void **state)
{
	int r;

	memset(within, 0, sizeof(*within));
	r = end(state);
	within_wait();
	return r;
}

/* Until it is more than that. */
static void await_more(const uint32_t *v, uint32_t than)
{
	until(get(v) > than);
}

static void clocks_are_ahead(uint64_t seconds)
{
	__atomic_store_n(&within->skew, seconds * 1000000000U, __ATOMIC_SEQ_CST);
}

static void the_server_is_ahead(uint64_t seconds)
{
	__atomic_store_n(&within->late, seconds * 1000000000U, __ATOMIC_SEQ_CST);
}

static uint64_t the_server_is_ahead_by(void)
{
	return __atomic_load_n(&within->late, __ATOMIC_SEQ_CST) / 1000000000U;
}

/* There is a server that pages the mapping. */
static void await(const struct process *p, uint64_t page)
{
	until_within(60, DO(p, TOUCH, page, 0, 0, 0) == 0);
}

/* It has not done what it was told to. */
static void assert_silent(const struct process *p)
{
	struct pollfd f = {.fd = p->sock, .events = POLLIN};

	assert_int_equal(poll(&f, 1, SILENT_MS), 0);
}

static void start_some(struct process *p, unsigned n, uint64_t cache)
{
	within_serve(base, cache);
	make_file(PAGES);
	for (unsigned i = 0; i < n; i++) {
		start_mapped(&p[i], 1, PAGES);
		/* nothing of the mount is in use: it ends at once */
		OK(&p[i], SHUT, 0, 0, 0, 0);
	}
}

static bool is_out(const struct process *p, uint64_t page, uint64_t n)
{
	if (DO(p, CACHED, page, n, 0, 0) == 0)
		return true;
	OK(p, CHECK, 1000, 1900, 1, 1);
	return false;
}

static void push_out(const struct process *p, uint64_t page, uint64_t n)
{
	until(is_out(p, page, n));
}

static void refuse(const struct process *p)
{
	uint32_t before = get(&within->refusals);

	__atomic_store_n(&within->refused, p != NULL ? p->pid : 0, __ATOMIC_SEQ_CST);
	if (p == NULL)
		return;
	assert_true(DO(p, SYNC, 0, PAGES, 0, 0) != 0);
	await_more(&within->refusals, before);
}

/* The words of the one file that is mapped. */
static int words_of_server(void)
{
	char path[PATH_MAX], to[64];
	const struct dirent *d;
	int f = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)number_in(in_base("mnt/stats"), "pid: "));
	dir = opendir(path);
	assert_non_null(dir);
	while (f < 0 && (d = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), d->d_name, to, sizeof(to) - 1);

		to[n > 0 ? n : 0] = '\0';
		if (strncmp(to, "/memfd:faultline-cache-state ", 29) == 0)
			f = openat(dirfd(dir), d->d_name, O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	assert_true(f >= 0);
	return f;
}

/* Of these none is dirty, being written, or so lately that a device may store into it yet. */
static bool is_clean(int words, uint64_t page, uint64_t n)
{
	for (uint64_t i = page; i < page + n; i++) {
		uint32_t word;

		assert_int_equal(pread(words, &word, sizeof(word), (off_t)(i * sizeof(word))),
				 (ssize_t)sizeof(word));
		if (word & (CACHE_DIRTY | CACHE_WRITEBACK | CACHE_RECENT))
			return false;
	}
	return true;
}

static void await_clean(uint64_t page, uint64_t n)
{
	int words = words_of_server();

	until(is_clean(words, page, n));
	close(words);
}

/* It has done so many things that it was told to, or waits in a touch of its memory. */
static bool has_come_to_rest(const struct process *p, unsigned orders)
{
	char path[64], text[16] = "";
	int f, answers;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)p->pid);
	f = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(f >= 0);
	assert_true(read(f, text, sizeof(text) - 1) > 0);
	close(f);
	assert_int_equal(ioctl(p->sock, FIONREAD, &answers), 0);
	return (unsigned)answers == orders * sizeof(int64_t) || strncmp(text, "-1 ", 3) == 0;
}

/* What a program stores when the server does not know it any more, though others do. */
static void stored_without_a_connection(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, SMALL);
	OK(&p[0], STORE, 20, 10, 1, 2);
	refuse(&p[0]);
	OK(&p[1], SYNC, 0, PAGES, 0, 0);
	await_clean(20, 10);
	tell(&p[0], (struct order){STORE, 20, 10, 1, 3});
	until(has_come_to_rest(&p[0], 1));
	push_out(&p[1], 20, 10);
	refuse(NULL);
	assert_int_equal(hear(&p[0]), 0);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 20, 10, 1, 3);
	await(&p[0], FAR);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	check_file("mnt/files/data", 20, 10, 1, 3);
}

/* The same of one that is alone: it comes again though no thread of it waits. */
static void comes_again_by_itself(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	refuse(&p);
	refuse(NULL);
	await_paged(&p, PAGES);
	OK(&p, STORE, 0, 10, 1, 3);
	OK(&p, STORE, 5, 10, 1, 4);
	push_out(&p, 0, 15);
	OK(&p, CHECK, 0, 5, 1, 3);
	OK(&p, CHECK, 5, 10, 1, 4);
	finish(&p);
	check_file("mnt/files/data", 5, 10, 1, 4);
}

/* A server ends in order, and its disk is slow: what is stored meanwhile, and afterwards. */
static void stored_while_a_server_ends(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	set(&within->slow, 2);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, STORE, 100, 250, 1, 2);
	within_stop();
	await_more(&within->slowed, 220);
	/* written, and for long; and some that are being written */
	OK(&p, STORE, 0, 5, 1, 3);
	OK(&p, STORE, 100, 250, 1, 3);
	until(access(in_base("store/socket"), F_OK) != 0);
	tell(&p, (struct order){STORE, 3, 5, 1, 4});
	within_wait();
	set(&within->slow, 0);
	assert_int_equal(hear(&p), 0);
	OK(&p, STORE, 6, 2, 1, 5);
	within_serve(base, SMALL);
	await(&p, FAR);
	push_out(&p, 0, 10);
	OK(&p, CHECK, 0, 3, 1, 3);
	OK(&p, CHECK, 3, 3, 1, 4);
	OK(&p, CHECK, 6, 2, 1, 5);
	OK(&p, CHECK, 8, 2, 1, 2);
	OK(&p, CHECK, 100, 250, 1, 3);
	finish(&p);
	check_file("mnt/files/data", 100, 250, 1, 3);
	check_file("mnt/files/data", 6, 2, 1, 5);
}

/* What a server could not write when it ended is the next one's to write. */
static void not_written_by_the_one_before(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	writes_fail_with(-ENOSPC);
	within_stop();
	within_wait();
	OK(&p, CHECK, 0, 10, 1, 2);
	OK(&p, STORE, 0, 3, 1, 3);
	writes_fail_with(0);
	check_file("store/files/data", 0, 10, 1, 1);
	within_serve(base, SMALL);
	await(&p, FAR);
	OK(&p, CHECK, 0, 3, 1, 3);
	OK(&p, CHECK, 3, 7, 1, 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, 3, 1, 3);
	check_file("store/files/data", 3, 7, 1, 2);
	finish(&p);
}

struct adding {
	uint32_t stop;
	uint32_t added; /* so far */
};

static struct adding *adding;

static int64_t add(uint64_t page, uint64_t none)
{
	uint32_t n = 0;

	(void)none;
	while (!__atomic_load_n(&adding->stop, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(at(page) + 1, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&adding->added, ++n, __ATOMIC_RELAXED);
	}
	return n;
}

static void await_added(uint32_t more)
{
	await_more(&adding->added, __atomic_load_n(&adding->added, __ATOMIC_RELAXED) + more);
}

/* A page that a server took over is stored to without a pause while that ends, too, and the next one comes. */
static void stored_without_a_pause(void **state)
{
	char listed[PATH_MAX];
	struct process p;
	int64_t n;

	(void)state;
	adding = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(adding, MAP_FAILED);
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	kill_server();
	within_serve(base, SMALL);
	await(&p, FAR);
	tell(&p, (struct order){RUN, 5, 0, 0, 0});
	await_added(1000);
	within_stop();
	within_wait();
	await_added(1000);
	within_serve(base, SMALL);
	/* it has come: then, too */
	snprintf(listed, sizeof(listed), "%s/mnt/proc/%d", base, (int)p.pid);
	until(access(listed, F_OK) == 0);
	await_added(1000000);
	set(&adding->stop, 1);
	n = hear(&p);
	assert_true(n > 0);
	await_paged(&p, PAGES);
	assert_int_equal(DO(&p, WORD, 5, 0, 1, 0), (int64_t)word(5, 2, 1) + n);
	push_out(&p, 0, 10);
	assert_int_equal(DO(&p, WORD, 5, 0, 1, 0), (int64_t)word(5, 2, 1) + n);
	finish(&p);
	munmap(adding, PG);
}

static bool is_locked(int words, short how)
{
	struct flock whole = {.l_type = how, .l_whence = SEEK_SET};

	if (fcntl(words, F_OFD_SETLK, &whole) == 0)
		return true;
	assert_int_equal(errno, EAGAIN);
	return false;
}

/* A program that has let a page in may have the lock for a moment yet: who answers himself, for some µs. */
static void lock(int words, short how)
{
	until(is_locked(words, how));
}

/* A server that is killed takes long to go: its locks stay, for longer than anybody waits for an answer. */
static void one_that_does_not_go(void **state)
{
	struct process p;
	uint32_t asked;
	int words;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, CHECK, 10, 10, 1, 1);
	words = words_of_server();
	kill_server();
	lock(words, F_WRLCK);
	tell(&p, (struct order){STORE, 0, 20, 1, 3});
	assert_silent(&p);
	clocks_are_ahead(40);
	assert_silent(&p);
	lock(words, F_UNLCK);
	assert_int_equal(hear(&p), 0);
	/* and beside the next one */
	lock(words, F_WRLCK);
	asked = get(&within->locks);
	within_serve(base, SMALL);
	tell(&p, (struct order){TOUCH, FAR, 0, 0, 0});
	await_more(&within->locks, asked);
	assert_silent(&p);
	clocks_are_ahead(80);
	assert_silent(&p);
	close(words);
	assert_int_equal(hear(&p), 0);
	OK(&p, CHECK, 0, 20, 1, 3);
	push_out(&p, 0, 20);
	OK(&p, CHECK, 0, 20, 1, 3);
	finish(&p);
	check_file("mnt/files/data", 0, 20, 1, 3);
}

/*
 * The words are locked for a moment, by who answers himself, when the first program maps the file
 * anew: while the server tries for the first time, and while the program asks again.
 */
static void locked_for_a_moment(void **state)
{
	static const uint32_t tries[] = {3, 20};
	struct process p[2];

	(void)state;
	start_some(p, 2, SMALL);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t v = 2 + i;

		OK(&p[0], STORE, 0, 50, 1, v);
		kill_server();
		stop(&p[1]);
		set(&within->busy_locks, tries[i]);
		within_serve(base, SMALL);
		OK(&p[0], OPEN, 0, 0, 0, 0);
		OK(&p[0], MORE, 100, 100, 0, 0);
		OK(&p[0], STORE, 150, 50, 1, v);
		kill(p[1].pid, SIGCONT);
		await(&p[1], FAR - 300 * i);
		OK(&p[1], CHECK, 0, 50, 1, v);
		OK(&p[1], CHECK, 150, 50, 1, v);
		OK(&p[1], STORE, 100, 100, 1, v + 10);
		OK(&p[0], CHECK, 100, 100, 1, v + 10);
		OK(&p[0], CHECK, 0, 50, 1, v);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	check_file("mnt/files/data", 100, 100, 1, 13);
}

/*
 * A child that is forked while a server is about to take its parent's file comes, too, and though it
 * touches nothing for long.
 */
static void forked_while_it_is_taken(void **state)
{
	struct process p, c;
	uint32_t asked;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	kill_server();
	asked = get(&within->locks);
	set(&within->busy_locks, UINT32_MAX);
	within_serve(base, SMALL);
	await_more(&within->locks, asked);
	c = child_of(&p);
	set(&within->busy_locks, 0);
	await_paged(&p, PAGES);
	await_paged(&c, PAGES);
	clocks_are_ahead(20);
	OK(&c, CHECK, 0, 10, 1, 2);
	OK(&c, CHECK, 10, PAGES - 10, 1, 1);
	OK(&c, STORE, 5, 10, 1, 3);
	OK(&p, CHECK, 5, 10, 1, 3);
	finish(&c);
	finish(&p);
	check_file("mnt/files/data", 5, 10, 1, 3);
}

/* What only one who is stopped for long can bring: a touch does not wait for it, and it can be had then. */
static void one_that_brings_it_late(void **state)
{
	struct process w, r;
	uint32_t asked;

	(void)state;
	start_some(&w, 1, SMALL);
	start(&r);
	OK(&r, MAP, 0, PAGES, 0, 0);
	OK(&r, SHUT, 0, 0, 0, 0);
	OK(&w, CHECK, 0, 20, 1, 1);
	OK(&r, CHECK, 0, 20, 1, 1);
	kill_server();
	OK(&w, STORE, 0, 10, 1, 2);
	stop(&w);
	asked = get(&within->locks);
	within_serve(base, SMALL);
	await_more(&within->locks, asked);
	tell(&r, (struct order){TOUCH, FAR, 0, 0, 0});
	assert_silent(&r);
	clocks_are_ahead(20);
	assert_int_equal(hear(&r), 1);
	OK(&r, CHECK, 0, 10, 1, 2);
	kill(w.pid, SIGCONT);
	await(&r, FAR);
	OK(&r, CHECK, 0, 10, 1, 2);
	OK(&r, CHECK, 10, PAGES - 10, 1, 1);
	OK(&w, STORE, 5, 10, 1, 3);
	OK(&r, CHECK, 5, 10, 1, 3);
	finish(&r);
	finish(&w);
	check_file("mnt/files/data", 5, 10, 1, 3);
}

/* The kernel gives a page back as zeros where it is a part of a larger frame. */
static void parts_of_larger_frames(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, LARGE);
	OK(&p, STORE, 0, 10, 1, 2);
	kill_server();
	within_serve(base, LARGE);
	await(&p, FAR);
	set(&within->large, 1);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	await_more(&within->kept, 9);
	OK(&p, CHECK, 0, 10, 1, 2);
	set(&within->large, 0);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, 10, 1, 2);
	finish(&p);
}

/*
 * A program comes to another server while a thread of it writes to the file from the mapping, and
 * holds what closing a descriptor of the file takes where errors are told late.
 */
static void one_that_writes_from_its_mapping(void **state)
{
	struct process p[2];

	(void)state;
	set(&within->remote, 1);
	start_some(p, 2, SMALL);
	OK(&p[0], STORE, 0, 10, 1, 2);
	for (unsigned i = 0; i < 2; i++) {
		struct pollfd f = {.fd = p[1].sock, .events = POLLIN};

		kill_server();
		stop(&p[1]);
		within_serve(base, SMALL);
		await(&p[0], FAR - 300 * i);
		tell(&p[1], (struct order){COPY, 500 + i, 0, 0, 5});
		kill(p[1].pid, SIGCONT);
		if (poll(&f, 1, 60 * 1000) != 1)
			fail_msg("%s", "a write from the mapping does not end");
		assert_int_equal(hear(&p[1]), 0);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(DO(&p[k], WORD, 5, 0, 3, 0), (int64_t)word(500 + i, 1, 3));
		for (unsigned k = 0; k < 2; k++)
			OK(&p[k], CHECK, 0, 5, 1, 2);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* It was not yet: one more page is wanted. */
static bool was_killed(const struct process *reader, uint32_t before, uint64_t page)
{
	if (get(&within->killed) != before)
		return true;
	DO(reader, TOUCH, page, 0, 0, 0);
	return false;
}

/* Have the server killed at the next punch of the page; one reads others until that was so. */
static void kill_at_punch(const struct process *reader, uint32_t page, bool behind)
{
	uint32_t before = get(&within->killed);
	uint64_t i = 0;

	set(&within->behind, behind);
	set(&within->punched, page + 1);
	until(was_killed(reader, before, 1000 + i++ % 1100));
	within_wait();
	set(&within->punched, 0);
}

/* Page 5 was to be punched out, of version `version` - 1; those beside it may have been before. */
static void check_after_punch(const struct process *p, uint64_t version, bool behind)
{
	/* a hole is not there, whatever its word says; before that nothing has happened */
	assert_int_equal(DO(&p[0], STORE, 5, 1, 1, version), behind ? -EFAULT : 0);
	within_serve(base, SMALL);
	for (unsigned i = 0; i < 2; i++)
		await(&p[i], FAR - 150 * version - i);
	OK(&p[0], CHECK, 0, 5, 1, version - 1);
	OK(&p[0], CHECK, 5, 1, 1, behind ? version - 1 : version);
	OK(&p[0], CHECK, 6, 4, 1, version - 1);
	OK(&p[0], STORE, 0, 10, 1, version);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], CHECK, 0, 10, 1, version);
	OK(&p[1], SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, 10, 1, version);
}

/* A server is killed while it unmaps pages that are clean, which are stored to then. */
static void killed_while_it_unmaps(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, SMALL);
	for (unsigned behind = 0; behind < 2; behind++) {
		OK(&p[0], STORE, 0, 10, 1, 2 + 2 * behind);
		OK(&p[0], SYNC, 0, PAGES, 0, 0);
		OK(&p[0], CHECK, 0, 10, 1, 2 + 2 * behind);
		kill_at_punch(&p[1], 5, behind != 0);
		check_after_punch(p, 3 + 2 * behind, behind != 0);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

/* The same while it takes a page from one that has not come, and may store to it without a fault. */
static void killed_while_it_takes(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, SMALL);
	for (unsigned behind = 0; behind < 2; behind++) {
		OK(&p[0], STORE, 0, 10, 1, 2 + 2 * behind);
		kill_server();
		stop(&p[0]);
		within_serve(base, SMALL);
		await(&p[1], FAR - 10);
		OK(&p[1], SYNC, 0, PAGES, 0, 0);
		kill_at_punch(&p[1], 5, behind != 0);
		kill(p[0].pid, SIGCONT);
		check_after_punch(p, 3 + 2 * behind, behind != 0);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
}

#define REWRITTEN 400UL
#define UMOUNT_SECONDS 30

/* Version after version into the same pages, until it is enough: the last one. */
static int64_t rewrite(uint64_t first, uint64_t before)
{
	volatile uint64_t from = first, version = before;

	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	while (get(&within->enough) == 0) {
		version = version + 1;
		for (uint64_t page = from; page < from + REWRITTEN; page++)
			fill(at(page), page, version);
	}
	return (int64_t)version;
}

/* A server ends though a program stores faster than the disk writes. */
static void rewritten_while_a_server_ends(void **state)
{
	struct process p;
	int64_t version;

	(void)state;
	shared_run = rewrite;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 100, REWRITTEN, 1, 2);
	set(&within->slow, 2);
	tell(&p, (struct order){RUN, 100, 0, 0, 2});
	await_more(&within->slowed, 100);
	within_stop();
	until_within(UMOUNT_SECONDS, access(in_base("store/socket"), F_OK) != 0);
	set(&within->slow, 0);
	within_wait();
	set(&within->enough, 1);
	version = hear(&p);
	assert_true(version > 2);
	within_serve(base, SMALL);
	await(&p, FAR);
	OK(&p, CHECK, 100, REWRITTEN, 1, (uint64_t)version);
	finish(&p);
	check_file("mnt/files/data", 100, REWRITTEN, 1, (uint64_t)version);
}

enum { BEGIN_TO_MAP, IS_MAPPING, USE_MEMORY, END_MAPPING, USE_MAPPED };

static pthread_t mapper;
static char *mapped_anew;
static bool is_mapped; /* or could not be */

static void *map_anew(void *arg)
{
	mapped_anew = fl_mmap(fl, NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	__atomic_store_n(&is_mapped, true, __ATOMIC_SEQ_CST);
	return arg;
}

/* A pager has the call, and has not answered it. */
static bool is_mapping(void)
{
	for (unsigned i = 0; i < HOP_SLOTS; i++) {
		const struct hop_slot *s = &fl->mm->hop.slot[i];

		if (__atomic_load_n(&s->state, __ATOMIC_SEQ_CST) == HOP_RUNNING &&
		    s->op == HOP_MMAP_FILE)
			return true;
	}
	return false;
}

static int64_t begin_mapping(void)
{
	time_t since = time(NULL);
	int r;

	__atomic_store_n(&is_mapped, false, __ATOMIC_SEQ_CST);
	r = pthread_create(&mapper, NULL, map_anew, NULL);
	while (r == 0 && !is_mapping() && !__atomic_load_n(&is_mapped, __ATOMIC_SEQ_CST)) {
		if (time(NULL) - since > HANG_SECONDS)
			return -ETIMEDOUT;
		poll(NULL, 0, 1);
	}
	return r;
}

static int64_t use_memory(uint64_t pages)
{
	uint64_t *p = fl_mmap(fl, NULL, pages * PG, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == FL_FAILED)
		return -errno;
	for (uint64_t page = 0; page < pages; page++)
		fill(p + page * WORDS, page, 7);
	for (uint64_t page = 0; page < pages; page++)
		if (differs(p + page * WORDS, page, 7) != WORDS)
			return (int64_t)page + 1;
	return fl_munmap(fl, p, pages * PG);
}

/* A thread maps the file, and the other one does something else meanwhile. */
static int64_t map_beside(uint64_t what, uint64_t n)
{
	switch (what) {
	case BEGIN_TO_MAP:
		return begin_mapping();
	case IS_MAPPING:
		return is_mapping();
	case USE_MEMORY:
		return use_memory(n);
	case END_MAPPING:
		pthread_join(mapper, NULL);
		return mapped_anew != FL_FAILED ? 0 : -EFAULT;
	case USE_MAPPED:
		map = mapped_anew;
		return 0;
	default:
		return -EINVAL;
	}
}

/* A server comes, and cannot take what p has mapped, which maps it anew. */
static int begin_to_map(struct process *p)
{
	int words = words_of_server();
	uint32_t asked;

	kill_server();
	lock(words, F_RDLCK);
	asked = get(&within->locks);
	within_serve(base, SMALL);
	await_more(&within->locks, asked);
	OK(p, OPEN, 0, 0, 0, 0);
	OK(p, RUN, BEGIN_TO_MAP, 0, 0, 0);
	return words;
}

/*
 * Who maps a file anew waits until it is taken, or for so long: other threads, and a child, do not
 * wait for that.
 */
static void one_that_maps_it_anew(void **state)
{
	struct process p, c;
	int words;

	(void)state;
	shared_run = map_beside;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	words = begin_to_map(&p);
	OK(&p, RUN, USE_MEMORY, 0, 0, LIMIT / PG + 500);
	OK(&p, CHECK, 0, 10, 1, 2);
	c = child_of(&p);
	OK(&c, RUN, USE_MEMORY, 0, 0, 100);
	assert_int_equal(DO(&p, RUN, IS_MAPPING, 0, 0, 0), 1);
	close(words);
	OK(&p, RUN, END_MAPPING, 0, 0, 0);
	/* all is one page cache */
	await_paged(&c, PAGES);
	await_paged(&p, PAGES);
	OK(&p, STORE, 5, 10, 1, 3);
	OK(&p, RUN, USE_MAPPED, 0, 0, 0);
	OK(&p, CHECK, 0, 5, 1, 2);
	OK(&p, CHECK, 5, 10, 1, 3);
	OK(&p, STORE, 20, 10, 1, 4);
	OK(&p, SHUT, 0, 0, 0, 0);
	OK(&c, CHECK, 5, 10, 1, 3);
	OK(&c, CHECK, 20, 10, 1, 4);
	finish(&c);
	/* the same where it is not taken in time: it is the file as it is, and what was stored comes */
	words = begin_to_map(&p);
	OK(&p, RUN, USE_MEMORY, 0, 0, 100);
	assert_int_equal(DO(&p, RUN, IS_MAPPING, 0, 0, 0), 1);
	clocks_are_ahead(6);
	OK(&p, RUN, END_MAPPING, 0, 0, 0);
	close(words);
	OK(&p, RUN, USE_MAPPED, 0, 0, 0);
	until(DO(&p, WORD, 29, 0, 0, 0) == (int64_t)word(29, 4, 0));
	OK(&p, CHECK, 0, 5, 1, 2);
	OK(&p, CHECK, 5, 10, 1, 3);
	OK(&p, CHECK, 20, 10, 1, 4);
	OK(&p, STORE, 25, 10, 1, 5);
	finish(&p);
	check_file("mnt/files/data", 20, 5, 1, 4);
	check_file("mnt/files/data", 25, 10, 1, 5);
}

/* The server that was to take it goes, or refuses who waits: there is no other copy of the file then. */
static void one_that_maps_it_in_vain(void **state)
{
	struct process p;

	(void)state;
	shared_run = map_beside;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	for (uint64_t killed = 0; killed < 2; killed++) {
		int words = begin_to_map(&p);

		OK(&p, STORE, 0, 5, 1, 3 + killed);
		assert_int_equal(DO(&p, RUN, IS_MAPPING, 0, 0, 0), 1);
		if (killed)
			kill_server();
		else
			refuse(&p);
		assert_int_equal(DO(&p, RUN, END_MAPPING, 0, 0, 0), -EFAULT);
		close(words);
		if (killed)
			within_serve(base, SMALL);
		else
			refuse(NULL);
		await_paged(&p, PAGES);
		OK(&p, OPEN, 0, 0, 0, 0);
		OK(&p, RUN, BEGIN_TO_MAP, 0, 0, 0);
		OK(&p, RUN, END_MAPPING, 0, 0, 0);
		OK(&p, STORE, 5, 1, 1, 3 + killed);
		OK(&p, RUN, USE_MAPPED, 0, 0, 0);
		OK(&p, CHECK, 0, 6, 1, 3 + killed);
		OK(&p, CHECK, 6, 4, 1, 2);
		OK(&p, SHUT, 0, 0, 0, 0);
	}
	finish(&p);
	check_file("mnt/files/data", 0, 6, 1, 4);
}

#define OFTEN 320UL
#define APART 70UL /* pages: each is protected by a call of its own */
#define UP_TO 980UL

/* The file again and again; from here on it is the last of all mappings that is used. */
static int64_t map_often(uint64_t n, uint64_t none)
{
	(void)none;
	for (uint64_t i = 0; i < n; i++) {
		char *p = fl_mmap(fl, NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p == FL_FAILED)
			return -errno;
		if (p > map)
			map = p;
	}
	return 0;
}

/*
 * A program that has a file mapped so often that to protect it all would take too long loses its connection:
 * what it stores then, without a fault, is seen; and what it stores when others think that it
 * is written and clean.
 */
static void stored_where_it_is_not_protected(void **state)
{
	const uint64_t half = UP_TO / 2;
	struct process p[2];

	(void)state;
	shared_run = map_often;
	within_serve(base, SMALL);
	make_file(PAGES);
	for (unsigned i = 0; i < 2; i++) {
		start_mapped(&p[i], 1, PAGES);
		if (i == 0)
			OK(&p[i], RUN, OFTEN, 0, 0, 0);
		OK(&p[i], SHUT, 0, 0, 0, 0);
	}
	OK(&p[0], STORE, 0, UP_TO, APART, 2);
	refuse(&p[0]);
	/* what is asked for next is done behind the end of its connection */
	OK(&p[1], SYNC, FAR, 1, 0, 0);
	OK(&p[0], STORE, 0, UP_TO, APART, 3);
	OK(&p[1], SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, UP_TO, APART, 3);
	tell(&p[0], (struct order){STORE, 0, half, APART, 4});
	until(has_come_to_rest(&p[0], 1));
	await_clean(half, half);
	tell(&p[0], (struct order){STORE, half, half, APART, 5});
	until(has_come_to_rest(&p[0], 2));
	push_out(&p[1], 0, UP_TO);
	refuse(NULL);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(hear(&p[0]), 0);
	for (unsigned i = 0; i < 2; i++) {
		OK(&p[i], CHECK, 0, half, APART, 4);
		OK(&p[i], CHECK, half, half, APART, 5);
	}
	await(&p[0], FAR);
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	check_file("mnt/files/data", 0, half, APART, 4);
	check_file("mnt/files/data", half, half, APART, 5);
}

/* Early in one whose number so many divide. */
static void await_next_second(time_t whole)
{
	struct timespec now;

	for (;;) {
		clock_gettime(CLOCK_REALTIME, &now);
		if (now.tv_sec % whole == 0 && now.tv_nsec <= 200000000)
			return;
		poll(NULL, 0, (int)((1000000000 - now.tv_nsec) / 1000000 + 1));
	}
}

/* The server is killed when it has written what is dirty, and nothing else; another one comes. */
static void kill_when_written(const struct process *p, uint64_t version)
{
	uint32_t before = get(&within->killed);

	OK(p, STORE, 0, 50, 1, version);
	set(&within->synced, 1);
	assert_true(DO(p, SYNC, 0, PAGES, 0, 0) != 0);
	within_wait();
	assert_int_equal(get(&within->killed), before + 1);
	check_file("store/files/data", 0, 50, 1, version);
	set(&within->synced, 0);
	OK(p, STORE, 25, 25, 1, version + 1);
	within_serve(base, SMALL);
	await_paged(p, PAGES);
	OK(p, CHECK, 0, 25, 1, version);
	OK(p, CHECK, 25, 25, 1, version + 1);
	OK(p, CHECK, 50, PAGES - 50, 1, 1);
	check_file("store/files/data", 25, 25, 1, version + 1);
}

/* That the file has changed then is no change by others. */
static void killed_when_it_has_written(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	for (uint64_t i = 0; i < 3; i++)
		kill_when_written(&p, 2 + 2 * i);
	finish(&p);
}

/* The same where the file's times do not tell it from what others change in that second. */
static void killed_within_a_second(void **state)
{
	struct process p;

	(void)state;
	set(&within->whole, 1);
	start_some(&p, 1, SMALL);
	await_next_second(1);
	kill_when_written(&p, 2);
	finish(&p);
}

/* How many files the server has in memory. */
static unsigned caches_of_server(void)
{
	char path[PATH_MAX], to[64];
	const struct dirent *d;
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)number_in(in_base("mnt/stats"), "pid: "));
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), d->d_name, to, sizeof(to) - 1);

		to[len > 0 ? len : 0] = '\0';
		n += strncmp(to, "/memfd:faultline-cache ", 23) == 0;
	}
	closedir(dir);
	return n;
}

#define GONE_SECONDS 30 /* less than anything is kept for */

static void await_no_cache(void)
{
	until_within(GONE_SECONDS, caches_of_server() == 0);
}

/* No file any more, once the server has looked at its clock. */
static bool has_no_cache_at(uint64_t ahead)
{
	static uint64_t buf[WORDS];

	the_server_is_ahead(ahead);
	page_of("mnt/files/data", 2, buf);
	return caches_of_server() == 0;
}

/* The same where the server's clock goes on: it is that much ahead at first, and then more each second. */
static void await_no_cache_from(uint64_t ahead, uint64_t a_second)
{
	double begun = test_now();

	until_within(GONE_SECONDS,
		     has_no_cache_at(ahead + (uint64_t)((test_now() - begun) * (double)a_second)));
}

static int idle(void *arg)
{
	while (arg == NULL)
		syscall(SYS_pause);
	return 0;
}

/* A process that has our memory, and is no thread of ours. */
static int64_t leave_memory(uint64_t none, uint64_t nothing)
{
	static char stack[64 << 10] __attribute__((aligned(16)));
	int pid = clone(idle, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);

	(void)none;
	(void)nothing;
	return pid < 0 ? -errno : pid;
}

/* What nobody will come for again is not kept: of one that ends in order, of one that does not, of one whose memory stays for a while. */
static void what_is_left_by_one_that_ends(void **state)
{
	struct process p, m = {.sock = -1, .spare = -1};
	char listed[PATH_MAX];

	(void)state;
	shared_run = leave_memory;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	assert_int_equal(caches_of_server(), 1);
	finish(&p);
	await_no_cache();
	for (unsigned i = 0; i < 5; i++) {
		start_mapped(&p, 1, PAGES);
		OK(&p, STORE, 10 * i, 10, 1, 3);
		kill_it(&p);
		await_no_cache();
	}
	start_mapped(&p, 1, PAGES);
	OK(&p, SHUT, 0, 0, 0, 0);
	OK(&p, STORE, 50, 10, 1, 3);
	m.pid = (pid_t)DO(&p, RUN, 0, 0, 0, 0);
	assert_true(m.pid > 0);
	remember(&m);
	snprintf(listed, sizeof(listed), "%s/mnt/proc/%d", base, (int)p.pid);
	kill_it(&p);
	until(access(listed, F_OK) != 0);
	/* it might come again, as far as it is known */
	poll(NULL, 0, 3 * SILENT_MS);
	assert_int_equal(caches_of_server(), 1);
	kill_it(&m);
	/* a child of its might come, for less time than itself */
	poll(NULL, 0, 3 * SILENT_MS);
	assert_int_equal(caches_of_server(), 1);
	await_no_cache_from(11, 0);
	/* what was taken is not kept for longer than the others have had time to come */
	start_mapped(&p, 1, PAGES);
	OK(&p, SHUT, 0, 0, 0, 0);
	kill_server();
	within_serve(base, SMALL);
	await_paged(&p, PAGES);
	OK(&p, CHECK, 0, 60, 1, 3);
	the_server_is_ahead(90);
	finish(&p);
	await_no_cache();
	check_file("store/files/data", 0, 60, 1, 3);
	check_file("store/files/data", 60, 40, 1, 1);
}

/* One that is away for longer than what it has mapped is kept: what it stores then is not lost. */
static void one_that_is_away_for_long(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	refuse(&p);
	the_server_is_ahead(70);
	await_no_cache();
	OK(&p, STORE, 0, 5, 1, 3);
	refuse(NULL);
	await_paged(&p, PAGES);
	OK(&p, CHECK, 0, 5, 1, 3);
	OK(&p, CHECK, 5, 5, 1, 2);
	OK(&p, CHECK, 10, PAGES - 10, 1, 1);
	finish(&p);
	check_file("mnt/files/data", 0, 5, 1, 3);
}

/* A child of one that had no connection, and has ended, finds what it has mapped. */
static void child_of_one_that_is_away(void **state)
{
	struct process p, c;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	refuse(&p);
	c = child_of(&p);
	kill(c.pid, SIGSTOP);
	/* then it is ours to wait for */
	kill_it(&p);
	stop(&c);
	refuse(NULL);
	poll(NULL, 0, 3 * SILENT_MS);
	kill(c.pid, SIGCONT);
	await_paged(&c, PAGES);
	OK(&c, CHECK, 0, 10, 1, 2);
	OK(&c, CHECK, 10, PAGES - 10, 1, 1);
	OK(&c, STORE, 5, 10, 1, 3);
	finish(&c);
	check_file("mnt/files/data", 0, 5, 1, 2);
	check_file("mnt/files/data", 5, 10, 1, 3);
}

/* As others do who need no server. */
static void change_on_host(uint64_t page, uint64_t version)
{
	int f = open(in_base("store/files/data"), O_WRONLY | O_CLOEXEC);
	static uint64_t buf[WORDS];

	assert_true(f >= 0);
	fill(buf, page, version);
	assert_int_equal(pwrite(f, buf, PG, (off_t)(page * PG)), (ssize_t)PG);
	close(f);
}

/* What it stored to the first five pages is not taken, and what others changed stays. */
static void comes_too_late(struct process *p, uint64_t before, uint64_t changed)
{
	uint32_t asked = get(&within->locks);

	refuse(NULL);
	kill(p->pid, SIGCONT);
	await_more(&within->locks, asked);
	assert_int_equal(DO(p, TOUCH, FAR, 0, 0, 0), 1);
	OK(p, CHECK, 0, 5, 1, 3);
	finish(p);
	for (uint64_t page = 0; page < 10; page++)
		check_file("store/files/data", page, 1, 1, page == 2 ? changed : before);
	check_file("mnt/files/data", 2, 1, 1, changed);
	check_file("mnt/files/data", 10, PAGES - 10, 1, 1);
}

/* The same where others have changed the file since: what they wrote is not undone. */
static void one_that_is_away_while_others_write(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	refuse(&p);
	the_server_is_ahead(70);
	await_no_cache();
	OK(&p, STORE, 0, 5, 1, 3);
	change_on_host(2, 7);
	comes_too_late(&p, 2, 7);
}

/* Or within the second in which the server wrote it, where the file's times do not tell one from the other. */
static void one_that_is_away_within_a_second(void **state)
{
	struct process p;

	(void)state;
	set(&within->whole, 1);
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	await_next_second(1);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	refuse(&p);
	await_no_cache_from(70, 1000);
	change_on_host(2, 7);
	OK(&p, STORE, 0, 5, 1, 3);
	comes_too_late(&p, 2, 7);
}

/* A server begins in that second: what others write from then on is not undone. */
static void changed_within_seconds(uint32_t whole)
{
	struct process p;

	set(&within->whole, whole);
	start_some(&p, 1, SMALL);
	OK(&p, STORE, 0, 10, 1, 2);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	kill_server();
	OK(&p, STORE, 0, 5, 1, 3);
	stop(&p);
	await_next_second(whole);
	change_on_host(1, 2);
	within_serve(base, SMALL);
	change_on_host(2, 7);
	comes_too_late(&p, 2, 7);
}

static void changed_within_a_second(void **state)
{
	(void)state;
	changed_within_seconds(1);
}

static void changed_within_two_seconds(void **state)
{
	(void)state;
	changed_within_seconds(2);
}

/* Another one has the file meanwhile, stores to it, and goes: so it is the server that changed it last. */
static void one_that_is_away_while_others_store(void **state)
{
	struct process p[2];

	(void)state;
	start_some(p, 2, SMALL);
	OK(&p[0], STORE, 0, 10, 1, 2);
	kill_server();
	OK(&p[0], STORE, 0, 5, 1, 3);
	stop(&p[0]);
	within_serve(base, SMALL);
	await_paged(&p[1], PAGES);
	/* what is left is kept no longer */
	the_server_is_ahead(70);
	OK(&p[1], CHECK, 0, 5, 1, 3);
	OK(&p[1], STORE, 20, 10, 1, 2);
	finish(&p[1]);
	await_no_cache();
	check_file("store/files/data", 20, 10, 1, 2);
	kill(p[0].pid, SIGCONT);
	await_paged(&p[0], PAGES);
	OK(&p[0], CHECK, 0, 5, 1, 3);
	OK(&p[0], CHECK, 5, 5, 1, 2);
	OK(&p[0], CHECK, 20, 10, 1, 2);
	OK(&p[0], STORE, 25, 10, 1, 4);
	OK(&p[0], CHECK, 40, PAGES - 40, 1, 1);
	finish(&p[0]);
	check_file("mnt/files/data", 0, 5, 1, 3);
	check_file("mnt/files/data", 20, 5, 1, 2);
	check_file("mnt/files/data", 25, 10, 1, 4);
}

/*
 * A write that failed is told to each descriptor that was open then, and to each program by
 * fl_msync(), once; the pages stay, and are written when they can be.
 */
static void told_once_to_each(void **state)
{
	int64_t errors, told;
	struct process p[3];

	(void)state;
	start_some(p, 3, SMALL);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], OPEN, 0, 0, 0, 0);
	OK(&p[0], STORE, 0, 10, 1, 2);
	/* again, if one was tried in the background meanwhile */
	do {
		errors = errors_of_server();
		writes_fail_with(-EIO);
		OK(&p[2], PUT, 20, 0, 3, 7);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(DO(&p[0], FSYNC, 0, 0, 0, 0), -EIO);
		assert_true(errors_of_server() > errors);
		assert_true(number_in(in_base("mnt/stats"), "cache_dirty: ") >= 11);
		check_file("store/files/data", 0, 10, 1, 1);
		OK(&p[1], CHECK, 0, 10, 1, 2);
		errors = errors_of_server();
		writes_fail_with(0);
		told = DO(&p[0], FSYNC, 0, 0, 0, 0);
	} while (errors_of_server() != errors);
	assert_int_equal(told, 0);
	check_file("store/files/data", 0, 10, 1, 2);
	/* one that is opened now has nothing to be told */
	OK(&p[2], OPEN, 0, 0, 0, 0);
	OK(&p[2], FSYNC, 0, 0, 0, 0);
	assert_int_equal(DO(&p[1], FSYNC, 0, 0, 0, 0), -EIO);
	OK(&p[1], FSYNC, 0, 0, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(DO(&p[i], SYNC, 0, 100, 0, 0), -EIO);
		OK(&p[i], SYNC, 0, 100, 0, 0);
		OK(&p[i], OPEN, 0, 0, 0, 0);
		OK(&p[i], FSYNC, 0, 0, 0, 0);
		OK(&p[i], SHUT, 0, 0, 0, 0);
		finish(&p[i]);
	}
}

/* The same when nobody maps the file any more, and what could not be written is given up. */
static void told_though_given_up(void **state)
{
	struct process p[3];

	(void)state;
	start_some(p, 1, SMALL);
	for (unsigned i = 1; i < 3; i++) {
		start(&p[i]);
		OK(&p[i], OPEN, 0, 0, 0, 0);
	}
	OK(&p[0], STORE, 0, PAGES, 100, 2);
	writes_fail_with(-ENOSPC);
	finish(&p[0]);
	await_no_cache_from(10, 1000);
	assert_true(the_server_is_ahead_by() > 3500);
	writes_fail_with(0);
	assert_int_equal(DO(&p[1], FSYNC, 0, 0, 0, 0), -ENOSPC);
	OK(&p[1], FSYNC, 0, 0, 0, 0);
	/* whether it is mapped again or not */
	OK(&p[1], MAP, 0, PAGES, 0, 1);
	OK(&p[1], CHECK, 1, 99, 1, 1);
	assert_int_equal(DO(&p[2], FSYNC, 0, 0, 0, 0), -ENOSPC);
	OK(&p[2], FSYNC, 0, 0, 0, 0);
	OK(&p[2], OPEN, 0, 0, 0, 0);
	OK(&p[2], FSYNC, 0, 0, 0, 0);
	OK(&p[1], SYNC, 0, PAGES, 0, 0);
	for (unsigned i = 1; i < 3; i++)
		finish(&p[i]);
}

/* On a full disk, too, where there would be little of the cache left for others. */
static void given_up_for_others(void **state)
{
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	writes_fail_with(-ENOSPC);
	OK(&p, STORE, 0, PAGES, 4, 2);
	finish(&p);
	await_no_cache_from(10, 50);
	assert_true(the_server_is_ahead_by() < 3600);
}

static bool have_failed_at(uint64_t ahead, int64_t errors)
{
	the_server_is_ahead(ahead);
	return errors_of_server() >= errors;
}

#define STUCK 30 /* pages */

/*
 * What nobody maps any more, and cannot be written just now, is tried again, however many writes
 * fail at once; and for long where the disk is full.
 */
static void written_though_nobody_maps_it(void **state)
{
	static const int error[] = {-EIO, -ENOSPC, -EDQUOT};
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	for (unsigned i = 0; i < 3; i++) {
		const uint64_t begun = i * 10000;
		const int64_t tries = error[i] == -EIO ? 1 : 12;
		int64_t errors = errors_of_server();
		double since;

		the_server_is_ahead(begun);
		if (i != 0)
			start_mapped(&p, 1, PAGES);
		OK(&p, STORE, 0, STUCK * 100, 100, 2 + i);
		writes_fail_with(error[i]);
		finish(&p);
		since = test_now();
		until(have_failed_at(begun + (uint64_t)((test_now() - since) * 25),
				     errors + tries * STUCK));
		writes_fail_with(0);
		await_no_cache_from(the_server_is_ahead_by() + 10, 25);
		assert_true(the_server_is_ahead_by() < begun + 3600);
		check_file("store/files/data", 0, STUCK * 100, 100, 2 + i);
	}
}

#define NEAR_PAGES 460UL /* of 1024 that may be cached; */
#define FAR_PAGES 102UL	 /* with these it is more than half of them */

/* Version 2 into the usual file, and into the far end of another one. */
static int64_t store_to_two(uint64_t none, uint64_t nothing)
{
	int f = open(in_base("mnt/files/other"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	uint64_t *other;

	(void)none;
	(void)nothing;
	if (f < 0 || ftruncate(f, PAGES * PG) != 0)
		return -errno;
	other = fl_mmap(fl, NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (other == FL_FAILED)
		return -errno;
	for (uint64_t page = 0; page < NEAR_PAGES; page++)
		fill(at(page), page, 2);
	for (uint64_t page = FAR_PAGE; page < FAR_PAGE + FAR_PAGES; page++)
		fill(other + page * WORDS, page, 2);
	return 0;
}

/* Of files that could be written yet no more are given up than leave half of the cache to others. */
static void no_more_than_has_to_be(void **state)
{
	static const int near_error[] = {-ENOSPC, -EIO};
	const int64_t pages = NEAR_PAGES + FAR_PAGES;
	struct process p;

	(void)state;
	shared_run = store_to_two;
	start_some(&p, 1, SMALL);
	for (uint64_t i = 0; i < 2; i++) {
		int64_t errors = errors_of_server();
		bool has_near, has_far;

		if (i != 0) {
			make_file(PAGES);
			assert_int_equal(truncate(in_base("store/files/other"), 0), 0);
			start_mapped(&p, 1, PAGES);
		}
		writes_fail_with(near_error[i]);
		__atomic_store_n(&within->far_error, -ENOSPC, __ATOMIC_SEQ_CST);
		OK(&p, RUN, 0, 0, 0, 0);
		finish(&p);
		/* each try of all pages at one time */
		for (uint64_t tries = 1; caches_of_server() == 2; tries++) {
			until(errors_of_server() >= errors + pages || caches_of_server() < 2);
			errors += pages;
			the_server_is_ahead(1000 * i + 10 * tries);
		}
		__atomic_store_n(&within->far_error, 0, __ATOMIC_SEQ_CST);
		writes_fail_with(0);
		await_no_cache_from(1000 * i + 200, 25);
		has_near = is_in_file("store/files/data", 0, NEAR_PAGES, 2);
		has_far = is_in_file("store/files/other", FAR_PAGE, FAR_PAGES, 2);
		assert_int_equal(has_near + has_far, 1);
		assert_true(has_far || near_error[i] == -ENOSPC);
	}
}

/* An error that nobody has heard of is told to all who open the file until somebody has, once each. */
static void told_to_the_next(void **state)
{
	struct process p[3];

	(void)state;
	start_some(p, 1, SMALL);
	for (unsigned i = 1; i < 3; i++)
		start(&p[i]);
	/* it is mapped still, or nothing of it is cached any more */
	for (unsigned ended = 0; ended < 2; ended++) {
		int64_t errors = errors_of_server();

		OK(&p[0], STORE, 0, 10, 1, 2 + ended);
		writes_fail_with(-EIO);
		if (ended)
			finish(&p[0]);
		else
			the_server_is_ahead(10);
		until(errors_of_server() > errors);
		writes_fail_with(0);
		if (ended) {
			the_server_is_ahead(20);
			await_no_cache();
		}
		for (unsigned i = 1; i < 3; i++)
			OK(&p[i], OPEN, 0, 0, 0, 0);
		for (unsigned i = 1; i < 3; i++) {
			assert_int_equal(DO(&p[i], FSYNC, 0, 0, 0, 0), -EIO);
			OK(&p[i], FSYNC, 0, 0, 0, 0);
		}
		check_file("store/files/data", 0, 10, 1, 2 + ended);
		OK(&p[1], OPEN, 0, 0, 0, 0);
		OK(&p[1], FSYNC, 0, 0, 0, 0);
		if (ended)
			break;
		assert_int_equal(DO(&p[0], SYNC, 0, PAGES, 0, 0), -EIO);
		OK(&p[0], SYNC, 0, PAGES, 0, 0);
		for (unsigned i = 1; i < 3; i++)
			OK(&p[i], SHUT, 0, 0, 0, 0);
	}
	OK(&p[2], MAP, 0, PAGES, 0, 1);
	OK(&p[2], SYNC, 0, PAGES, 0, 0);
	for (unsigned i = 1; i < 3; i++)
		finish(&p[i]);
}

/*
 * What was written and may not be durable is told to all that have the file, once each, whoever has asked;
 * and it is written again, as nothing else is.
 */
static void told_that_it_is_not_durable(void **state)
{
	struct process p[3];

	(void)state;
	start_some(p, 2, SMALL);
	start(&p[2]);
	OK(&p[2], OPEN, 0, 0, 0, 0);
	OK(&p[0], CHECK, 0, 20, 1, 1);
	OK(&p[0], STORE, 0, 15, 1, 2);
	OK(&p[0], SYNC, 0, PAGES, 0, 0);
	OK(&p[0], STORE, 2, 5, 1, 3);
	OK(&p[1], STORE, 12, 1, 1, 3);
	set(&within->bad_syncs, 1);
	assert_int_equal(DO(&p[0], SYNC, 0, PAGES, 0, 0), -EIO);
	assert_int_equal(get(&within->bad_syncs), 0);
	/* what the host lost, and what others wrote to pages that were durable, or only read */
	change_on_host(3, 1);
	change_on_host(12, 1);
	change_on_host(10, 7);
	change_on_host(18, 7);
	assert_int_equal(DO(&p[1], SYNC, 0, PAGES, 0, 0), -EIO);
	assert_int_equal(DO(&p[2], FSYNC, 0, 0, 0, 0), -EIO);
	for (unsigned i = 0; i < 2; i++)
		OK(&p[i], SYNC, 0, PAGES, 0, 0);
	OK(&p[2], FSYNC, 0, 0, 0, 0);
	check_file("store/files/data", 2, 5, 1, 3);
	check_file("store/files/data", 12, 1, 1, 3);
	check_file("store/files/data", 10, 1, 1, 7);
	check_file("store/files/data", 18, 1, 1, 7);
	OK(&p[2], OPEN, 0, 0, 0, 0);
	OK(&p[2], FSYNC, 0, 0, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		finish(&p[i]);
}

static pthread_t syncer;

static void *sync_rest(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)fl_msync(fl, at(100), 400 * PG, MS_SYNC);
}

/* A thread syncs the rest; its end: what that came to. */
static int64_t sync_beside(uint64_t ends, uint64_t none)
{
	void *r;

	(void)none;
	if (!ends)
		return pthread_create(&syncer, NULL, sync_rest, NULL);
	pthread_join(syncer, &r);
	return (intptr_t)r;
}

/* Of two syncs of one program at one time one fails: what the other one wrote may not be durable either. */
static void told_of_two_syncs(void **state)
{
	struct process p;

	(void)state;
	shared_run = sync_beside;
	/* nothing is written in the background */
	start_some(&p, 1, LARGE);
	OK(&p, STORE, 0, 1, 1, 2);
	OK(&p, STORE, 100, 1, 1, 2);
	OK(&p, STORE, 200, 250, 1, 2);
	set(&within->slow, 20);
	OK(&p, RUN, 0, 0, 0, 0);
	await_more(&within->slowed, 4);
	set(&within->bad_syncs, 1);
	assert_int_equal(DO(&p, SYNC, 0, 1, 0, 0), -EIO);
	set(&within->slow, 0);
	assert_int_equal(DO(&p, RUN, 1, 0, 0, 0), -EIO);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 200, 250, 1, 2);
	finish(&p);
}

static off_t size_of(const char *file)
{
	struct stat st;

	assert_int_equal(stat(in_base(file), &st), 0);
	return st.st_size;
}

static void *open_and_cut(void *path)
{
	int f = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	return f >= 0 && close(f) == 0 ? path : NULL;
}

static void *cut_to_ten(void *path)
{
	return truncate(path, 10 * PG) == 0 ? path : NULL;
}

/* A file is cut when nobody maps it, and is mapped just before that: what is touched waits for it. */
static void mapped_while_it_is_cut(void **state)
{
	static void *(*const cut[])(void *) = {open_and_cut, cut_to_ten};
	char path[PATH_MAX];
	struct process p[2];
	pthread_t cutter;
	void *was_cut;

	(void)state;
	within_serve(base, SMALL);
	snprintf(path, sizeof(path), "%s", in_base("mnt/files/data"));
	for (uint64_t i = 0; i < 2; i++) {
		const uint64_t left = i * 10;

		make_file(PAGES);
		for (unsigned k = 0; k < 2; k++) {
			start(&p[k]);
			OK(&p[k], OPEN, 0, 0, 0, 0);
		}
		set(&within->hold_cuts, 1);
		assert_int_equal(pthread_create(&cutter, NULL, cut[i], path), 0);
		await_more(&within->held_cuts, (uint32_t)i);
		for (unsigned k = 0; k < 2; k++)
			OK(&p[k], MAP, 0, PAGES, 0, 1);
		tell(&p[0], (struct order){CHECK, 0, 50, 1, 1});
		tell(&p[1], (struct order){STORE, 50, 50, 1, 2});
		for (unsigned k = 0; k < 2; k++)
			assert_silent(&p[k]);
		set(&within->hold_cuts, 0);
		pthread_join(cutter, &was_cut);
		assert_non_null(was_cut);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(hear(&p[k]), -EFAULT);
		OK(&p[1], CHECK, 0, left, 1, 1);
		for (uint64_t page = left; page < 100; page++)
			assert_int_equal(DO(&p[0], TOUCH, page, 0, 0, 0), 1);
		OK(&p[1], SYNC, 0, PAGES, 0, 0);
		for (unsigned k = 0; k < 2; k++)
			finish(&p[k]);
		await_no_cache();
		assert_int_equal(size_of("store/files/data"), left * PG);
	}
}

/* A file that cannot be cut has what was stored behind where it was to end. */
static void one_that_cannot_be_cut(void **state)
{
	const off_t end = 10 * PG + 100;
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, OPEN, 0, 0, 0, 0);
	OK(&p, CHECK, 0, 500, 1, 1);
	OK(&p, STORE, 0, 500, 5, 2);
	__atomic_store_n(&within->cut_error, -EPERM, __ATOMIC_SEQ_CST);
	assert_int_equal(DO(&p, CUT, 0, (uint64_t)end, 0, 0), -EPERM);
	__atomic_store_n(&within->cut_error, 0, __ATOMIC_SEQ_CST);
	OK(&p, CHECK, 0, 500, 5, 2);
	OK(&p, CHECK, 11, 489, 5, 1);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, 500, 5, 2);
	OK(&p, CUT, 0, (uint64_t)end, 0, 0);
	OK(&p, CHECK, 0, 10, 5, 2);
	for (uint64_t page = 11; page < 500; page++)
		assert_int_equal(DO(&p, TOUCH, page, 0, 0, 0), 1);
	finish(&p);
	assert_int_equal(size_of("store/files/data"), end);
}

/* What is being written when a file is cut, or about to be, does not make it longer again. */
static void cut_while_it_is_written(void **state)
{
	struct process p[2];

	(void)state;
	/* nothing is written before it is slow */
	start_some(p, 2, LARGE);
	OK(&p[0], OPEN, 0, 0, 0, 0);
	for (uint64_t i = 0; i < 2; i++) {
		const off_t end = (off_t)((300 - 100 * i) * PG + 100);
		uint32_t slowed = get(&within->slowed);

		OK(&p[1], STORE, 0, 400 - 100 * i, 3, 2 + i);
		set(&within->slow, 5);
		tell(&p[1], (struct order){SYNC, 0, PAGES, 0, 0});
		await_more(&within->slowed, slowed);
		OK(&p[0], CUT, 0, (uint64_t)end, 0, 0);
		set(&within->slow, 0);
		assert_int_equal(hear(&p[1]), 0);
		assert_int_equal(size_of("store/files/data"), end);
		check_file("store/files/data", 0, 300 - 100 * i, 3, 2 + i);
		assert_int_equal(DO(&p[1], TOUCH, 301 - 100 * i, 0, 0, 0), 1);
	}
	for (unsigned i = 0; i < 2; i++)
		finish(&p[i]);
	assert_int_equal(size_of("store/files/data"), 200 * PG + 100);
}

/* fl_prefetch() of pages whose reads are under way when the server is killed, or about to be. */
static void killed_while_it_brings(void **state)
{
	static const uint32_t before[] = {3, 0};
	struct process p;

	(void)state;
	start_some(&p, 1, SMALL);
	OK(&p, ADVISE, 0, PAGES, 0, MADV_RANDOM);
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t page = i * 500;

		set(&within->slow_read, 0);
		set(&within->slow_reads, 20);
		if (before[i] != 0) {
			OK(&p, BRING_IN, page, 200, 0, 0);
			await_more(&within->slow_read, before[i]);
			assert_int_equal(DO(&p, TRY, page, 200, 0, 0), -EAGAIN);
		} else {
			tell(&p, (struct order){BRING_IN, page, 200, 0, 0});
			await_more(&within->slow_read, 0);
		}
		kill_server();
		set(&within->slow_reads, 0);
		if (before[i] == 0)
			assert_int_equal(hear(&p), 0);
		OK(&p, CAME, 0, 0, 0, 0);
		within_serve(base, SMALL);
		await_paged(&p, PAGES);
		OK(&p, BRING_IN, page, 200, 0, 0);
		OK(&p, CAME, 0, 0, 0, 0);
		OK(&p, TRY, page, 200, 0, 0);
		OK(&p, CHECK, page, 200, 1, 1);
	}
	finish(&p);
}

#define PARTS 400UL /* pages; every other one may only be read, so each is a part of its own */

static int64_t sync_parts(uint64_t version, uint64_t none)
{
	int f = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);

	(void)none;
	for (uint64_t i = 1; i < PARTS; i += 2)
		if (fl_mmap(fl, at(i), PG, PROT_READ, MAP_SHARED | MAP_FIXED, f, (off_t)(i * PG)) ==
		    FL_FAILED)
			return -errno;
	close(f);
	for (uint64_t i = 0; i < PARTS; i += 2)
		fill(at(i), i, version);
	return fl_msync(fl, at(0), PARTS * PG, MS_SYNC);
}

/* Some parts of a range are being synced when the server is killed, and some wait for that. */
static void killed_while_it_syncs(void **state)
{
	struct process p;

	(void)state;
	shared_run = sync_parts;
	start_some(&p, 1, LARGE);
	for (uint64_t version = 2; version < 4; version++) {
		set(&within->slow, 20);
		set(&within->slowed, 0);
		tell(&p, (struct order){RUN, version, 0, 0, 0});
		await_more(&within->slowed, 3);
		kill_server();
		set(&within->slow, 0);
		assert_int_equal(hear(&p), -EIO);
		within_serve(base, LARGE);
		await_paged(&p, PAGES);
		check_file("store/files/data", 0, PARTS, 2, version);
		check_file("store/files/data", 1, PARTS - 1, 2, 1);
	}
	finish(&p);
	shared_run = add;
}

/* Pages of that version by write(2), one call: how many bytes were written, or -errno. */
static int64_t put(uint64_t page, unsigned n, uint64_t version)
{
	static uint64_t buf[3 * WORDS];
	ssize_t r;
	int f;

	for (unsigned i = 0; i < n; i++)
		fill(buf + i * WORDS, page + i, version);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	if (f < 0)
		return -errno;
	r = pwrite(f, buf, n * PG, (off_t)(page * PG));
	if (r < 0)
		r = -errno;
	close(f);
	return r;
}

/* Who has the file mapped stores a word of his own, and tells whether he saw that version before. */
static int64_t follow(uint64_t page, uint64_t version)
{
	bool saw = __atomic_load_n(at(page), __ATOMIC_SEQ_CST) == word(page, version, 0);

	__atomic_store_n(at(page) + 1, page, __ATOMIC_SEQ_CST);
	return saw;
}

static int64_t put_or_follow(uint64_t page, uint64_t version)
{
	return map == NULL ? put(page, 1, version) : follow(page, version);
}

static int64_t put_three(uint64_t page, uint64_t version)
{
	return put(page, 3, version);
}

static void begin_put(const struct process *writer, uint32_t where, uint64_t page)
{
	uint32_t before = get(&within->held);

	set(&within->hold, where);
	tell(writer, (struct order){RUN, page, 0, 0, 2});
	await_more(&within->held, before);
}

/* What is stored to a page meanwhile by who has seen what was written is not undone; nor is that. */
static void follow_put(const struct process *writer, const struct process *p, uint64_t page)
{
	int64_t saw;

	tell(p, (struct order){RUN, page, 0, 0, 2});
	until(has_come_to_rest(p, 1));
	set(&within->hold, 0);
	saw = hear(p);
	assert_true(saw >= 0);
	assert_int_equal(hear(writer), PG);
	assert_int_equal(DO(p, WORD, page, 0, 1, 0), saw ? page : word(page, 2, 1));
	assert_int_equal(DO(p, WORD, page, 0, 0, 0), word(page, 2, 0));
	OK(p, SYNC, page, 1, 0, 0);
}

/* A page comes, and is stored to, while a write past the cache has not been heard of. */
static void stored_beside_a_write(void **state)
{
	struct process p, writer;

	(void)state;
	shared_run = put_or_follow;
	within_serve(base, SMALL);
	make_file(PAGES);
	start(&writer);
	start_mapped(&p, 1, PAGES);
	OK(&p, ADVISE, 0, PAGES, 0, MADV_RANDOM);
	for (uint64_t page = 10; page < 1000; page += 250) {
		begin_put(&writer, HOLD_BEHIND, page);
		check_file("store/files/data", page, 1, 1, 2);
		follow_put(&writer, &p, page);
		begin_put(&writer, HOLD_BEFORE, page + 100);
		check_file("store/files/data", page + 100, 1, 1, 1);
		/* other pages come meanwhile */
		OK(&p, CHECK, page + 50, 10, 1, 1);
		follow_put(&writer, &p, page + 100);
	}
	finish(&writer);
	finish(&p);
}

/* The same of a write that began before the file was mapped. */
static void mapped_beside_a_write(void **state)
{
	struct process p, writer;

	(void)state;
	shared_run = put_or_follow;
	within_serve(base, SMALL);
	make_file(PAGES);
	start(&writer);
	for (uint64_t page = 10; page < 1000; page += 250) {
		start(&p);
		begin_put(&writer, HOLD_ANSWER, page);
		check_file("store/files/data", page, 1, 1, 2);
		OK(&p, MAP, 0, PAGES, 0, 1);
		follow_put(&writer, &p, page);
		finish(&p);
		await_no_cache();
	}
	finish(&writer);
}

/* What is touched meanwhile waits for what is written. */
static void await_put(const struct process *writer, const struct process *p, uint64_t page)
{
	tell(p, (struct order){RUN, page, 0, 0, 2});
	assert_silent(p);
	set(&within->hold, 0);
	assert_int_equal(hear(p), 1);
	assert_int_equal(hear(writer), PG);
	OK(p, SYNC, page, 1, 0, 0);
	assert_int_equal(DO(p, WORD, page, 0, 0, 0), word(page, 2, 0));
	assert_int_equal(DO(p, WORD, page, 0, 1, 0), page);
}

/* It is mapped at last: opened for that, or taken, when this has failed. */
static void mapped_at_last_beside_a_write(void **state)
{
	struct process p, writer;
	uint32_t asked;

	(void)state;
	shared_run = put_or_follow;
	within_serve(base, SMALL);
	make_file(PAGES);
	start(&writer);
	start(&p);
	begin_put(&writer, HOLD_RING, 10);
	check_file("store/files/data", 10, 1, 1, 1);
	set(&within->busy_locks, 1);
	assert_int_equal(DO(&p, MAP, 0, PAGES, 0, 1), -EAGAIN);
	OK(&p, MAP, 0, PAGES, 0, 1);
	await_put(&writer, &p, 10);
	OK(&p, SHUT, 0, 0, 0, 0);
	await_clean(0, PAGES);
	kill_server();
	stop(&p);
	within_serve(base, SMALL);
	begin_put(&writer, HOLD_RING, 20);
	check_file("store/files/data", 20, 1, 1, 1);
	asked = get(&within->locks);
	set(&within->busy_locks, 10);
	kill(p.pid, SIGCONT);
	await_paged(&p, PAGES);
	assert_true(get(&within->locks) > asked + 10);
	await_put(&writer, &p, 20);
	finish(&writer);
	finish(&p);
}

/* The truncation of a file whose page is being written past the cache, and another write of it. */
static void cut_beside_a_write(void **state)
{
	struct process p, writer;
	static uint64_t zeros[WORDS], buf[WORDS];

	(void)state;
	shared_run = put_or_follow;
	within_serve(base, SMALL);
	make_file(PAGES);
	start(&writer);
	start_mapped(&p, 1, PAGES);
	OK(&p, ADVISE, 0, PAGES, 0, MADV_RANDOM);
	begin_put(&writer, HOLD_BEHIND, 100);
	/* the kernel has only one change a file through a mount at a time */
	assert_int_equal(truncate(in_base("store/files/data"), 100 * PG), 0);
	assert_int_equal(truncate(in_base("store/files/data"), PAGES * PG), 0);
	tell(&p, (struct order){RUN, 100, 0, 0, 2});
	until(has_come_to_rest(&p, 1));
	set(&within->hold, 0);
	assert_int_equal(hear(&p), 0);
	assert_int_equal(hear(&writer), PG);
	OK(&p, SYNC, 100, 1, 0, 0);
	page_of("store/files/data", 100, buf);
	zeros[1] = 100;
	assert_memory_equal(buf, zeros, PG);
	finish(&writer);
	finish(&p);
}

#define SOON_SECONDS 20 /* a client gives up a server that is silent for 30 */

/* What one gives back takes as long as the disk does: others are served meanwhile, but for that file. */
static void given_back_to_a_slow_disk(void **state)
{
	struct process p, q, other;
	uint32_t before;
	double begun;

	(void)state;
	start_some(&p, 1, SMALL);
	start(&q);
	start(&other);
	/* both have come */
	OK(&q, LOCKED, 0, 0, 0, 0);
	OK(&other, LOCKED, 0, 0, 0, 0);
	OK(&p, STORE, 0, 10, 1, 2);
	kill_server();
	stop(&p);
	within_serve(base, SMALL);
	/* another page cache of the file */
	OK(&q, MAP, 0, PAGES, 0, 1);
	OK(&q, CHECK, 100, 10, 1, 1);
	before = get(&within->held);
	set(&within->hold, HOLD_BEFORE);
	kill(p.pid, SIGCONT);
	await_more(&within->held, before);
	begun = test_now();
	OK(&q, ADVISE, 200, 100, 0, MADV_RANDOM);
	OK(&q, UNMAP, 500, 100, 0, 0);
	OK(&q, SYNC, 100, 10, 0, 0);
	assert_true(test_now() - begun < SOON_SECONDS);
	tell(&other, (struct order){MAP, 0, PAGES, 0, 1});
	assert_silent(&other);
	set(&within->hold, 0);
	assert_int_equal(hear(&other), 0);
	OK(&other, CHECK, 0, 10, 1, 2);
	OK(&q, CHECK, 0, 10, 1, 2);
	finish(&other);
	finish(&q);
	finish(&p);
	check_file("mnt/files/data", 0, 10, 1, 2);
}

/* A write that fails in the middle tells how much was written, and nothing behind that has changed. */
static void a_write_that_fails_in_the_middle(void **state)
{
	const off_t end = 299 * PG + 100;
	struct process p, writer;
	struct stat st;

	(void)state;
	shared_run = put_three;
	within_serve(base, SMALL);
	make_file(PAGES);
	assert_int_equal(truncate(in_base("store/files/data"), end), 0);
	start(&writer);
	start_mapped(&p, 1, PAGES);
	OK(&p, ADVISE, 0, PAGES, 0, MADV_RANDOM);
	OK(&p, CHECK, 10, 3, 2, 1);
	OK(&p, CHECK, 21, 1, 1, 1);
	OK(&p, TOUCH, 299, 0, 0, 0);
	__atomic_store_n(&within->put_error, -ENOSPC, __ATOMIC_SEQ_CST);
	set(&within->put_page, 11);
	assert_int_equal(DO(&writer, RUN, 10, 0, 0, 2), PG);
	OK(&p, CHECK, 10, 1, 1, 2);
	OK(&p, CHECK, 11, 2, 1, 1);
	/* at once */
	set(&within->put_page, 20);
	assert_int_equal(DO(&writer, RUN, 20, 0, 0, 2), -ENOSPC);
	OK(&p, CHECK, 20, 3, 1, 1);
	/* behind the file's end */
	set(&within->put_page, 301);
	assert_int_equal(DO(&writer, RUN, 301, 0, 0, 2), -ENOSPC);
	assert_int_equal(stat(in_base("store/files/data"), &st), 0);
	assert_int_equal(st.st_size, end);
	__atomic_store_n(&within->put_error, 0, __ATOMIC_SEQ_CST);
	/* what is cached and what is not, by one */
	assert_int_equal(DO(&writer, RUN, 20, 0, 0, 3), 3 * PG);
	assert_int_equal(DO(&writer, RUN, 298, 0, 0, 3), 3 * PG);
	OK(&p, CHECK, 20, 3, 1, 3);
	OK(&p, CHECK, 298, 3, 1, 3);
	check_file("mnt/files/data", 10, 1, 1, 2);
	check_file("mnt/files/data", 11, 9, 1, 1);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 20, 3, 1, 3);
	check_file("store/files/data", 298, 3, 1, 3);
	assert_int_equal(stat(in_base("store/files/data"), &st), 0);
	assert_int_equal(st.st_size, 301 * PG);
	finish(&writer);
	finish(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(stored_without_a_connection, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(comes_again_by_itself, begin_within, end_within),
		cmocka_unit_test_setup_teardown(stored_while_a_server_ends, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(not_written_by_the_one_before, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(stored_without_a_pause, begin_within, end_within),
		cmocka_unit_test_setup_teardown(one_that_does_not_go, begin_within, end_within),
		cmocka_unit_test_setup_teardown(locked_for_a_moment, begin_within, end_within),
		cmocka_unit_test_setup_teardown(forked_while_it_is_taken, begin_within, end_within),
		cmocka_unit_test_setup_teardown(one_that_brings_it_late, begin_within, end_within),
		cmocka_unit_test_setup_teardown(parts_of_larger_frames, begin_within, end_within),
		cmocka_unit_test_setup_teardown(one_that_writes_from_its_mapping, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(killed_while_it_unmaps, begin_within, end_within),
		cmocka_unit_test_setup_teardown(killed_while_it_takes, begin_within, end_within),
		cmocka_unit_test_setup_teardown(rewritten_while_a_server_ends, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(one_that_maps_it_anew, begin_within, end_within),
		cmocka_unit_test_setup_teardown(one_that_maps_it_in_vain, begin_within, end_within),
		cmocka_unit_test_setup_teardown(stored_where_it_is_not_protected, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(killed_when_it_has_written, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(killed_within_a_second, begin_within, end_within),
		cmocka_unit_test_setup_teardown(what_is_left_by_one_that_ends, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(one_that_is_away_for_long, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(child_of_one_that_is_away, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(one_that_is_away_while_others_write, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(one_that_is_away_within_a_second, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(changed_within_a_second, begin_within, end_within),
		cmocka_unit_test_setup_teardown(changed_within_two_seconds, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(one_that_is_away_while_others_store, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(told_once_to_each, begin_within, end_within),
		cmocka_unit_test_setup_teardown(told_though_given_up, begin_within, end_within),
		cmocka_unit_test_setup_teardown(given_up_for_others, begin_within, end_within),
		cmocka_unit_test_setup_teardown(no_more_than_has_to_be, begin_within, end_within),
		cmocka_unit_test_setup_teardown(written_though_nobody_maps_it, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(told_to_the_next, begin_within, end_within),
		cmocka_unit_test_setup_teardown(told_that_it_is_not_durable, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(told_of_two_syncs, begin_within, end_within),
		cmocka_unit_test_setup_teardown(mapped_while_it_is_cut, begin_within, end_within),
		cmocka_unit_test_setup_teardown(one_that_cannot_be_cut, begin_within, end_within),
		cmocka_unit_test_setup_teardown(cut_while_it_is_written, begin_within, end_within),
		cmocka_unit_test_setup_teardown(killed_while_it_brings, begin_within, end_within),
		cmocka_unit_test_setup_teardown(killed_while_it_syncs, begin_within, end_within),
		cmocka_unit_test_setup_teardown(stored_beside_a_write, begin_within, end_within),
		cmocka_unit_test_setup_teardown(mapped_beside_a_write, begin_within, end_within),
		cmocka_unit_test_setup_teardown(mapped_at_last_beside_a_write, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(cut_beside_a_write, begin_within, end_within),
		cmocka_unit_test_setup_teardown(a_write_that_fails_in_the_middle, begin_within,
						end_within),
		cmocka_unit_test_setup_teardown(given_back_to_a_slow_disk, begin_within,
						end_within),
	};

	shared_run = add;
	RUN_TESTS(argc, argv, tests);
}
