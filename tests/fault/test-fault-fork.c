/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fork of an armed process while the system calls that it takes fail, one
 * after the other, in the parent's pager, in the caller and in the child.
 *
 * What may come of it: a child whose memory is right; ENOMEM and no child; or
 * a child that is ended before it sees anything, with one line.  The parent's
 * memory is right in any case, and its next fork succeeds.
 */
#include "drive.h"

#include "mm.h"
#include "mmap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PAGES 1500U
#define EACH_MAX 12U /* of a row, so many calls are failed */

struct load {
	int row; /* -1: none */
	unsigned long nth;
	long err;
	enum fl_engine engine;
};

static unsigned long of_fork[SYSROW_COUNT]; /* calls that one fork takes */

static pid_t fork_it(struct fl *fl)
{
	static const long arg[6];

	/* what the API hides: an mm is all that it has */
	return (pid_t)mm_fork(*(struct mm **)(void *)fl, SYS_fork, arg);
}

static void child(struct mem *m)
{
	mem_check_all(m, "in the child");
	for (unsigned i = 0; i < 200; i++)
		mem_change(m, mem_random(m) % m->pages);
	mem_check_all(m, "in the child, changed");
	_exit(0);
}

/* A runtime, and memory with content, most of which is in slots. */
static struct fl *fill_some(const struct fl_options *more, struct mem *m)
{
	const struct injection none = {.row = -1};
	struct fl_options o = *more;
	struct fl *fl;

	o.size = sizeof(o);
	o.limit = FL_LIMIT_MIN;
	o.log_level = FL_LOG_WARN;
	o.log = collect_line;
	inject_calls(&none);
	if (fl_open(&fl, &o) != 0)
		wrong("fl_open: %s", report->line[0]);
	if (!mem_map(m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < PAGES; i++)
		mem_fill(m, i, i % 8 == 0);
	mem_check_all(m, "before");
	return fl;
}

static void body(void *arg)
{
	const struct load *load = arg;
	const struct fl_options o = {.engine = load->engine};
	struct injection in = {.row = -1};
	unsigned long before[SYSROW_COUNT];
	struct mem m;
	struct fl *fl = fill_some(&o, &m);
	int status;
	pid_t pid;

	memcpy(before, report->calls, sizeof(before));
	if (load->row >= 0) {
		in = (struct injection){load->row, before[load->row] + load->nth, load->err, false};
		inject_calls(&in);
	}
	pid = fork_it(fl);
	if (pid == 0)
		child(&m);
	if (pid < 0) {
		if (pid != -ENOMEM || report->hits == 0)
			wrong("fork: %s", strerror(-pid));
		count_refusal("fork", pid);
	} else {
		if (waitpid(pid, &status, 0) != pid)
			wrong("waitpid: %s", strerror(errno));
		if (report->wrong[0] != '\0')
			_exit(1);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && report->hits != 0)
			report->lost++; /* here: a child */
		else if (status != 0)
			wrong("the child ended with wait status %x", (unsigned)status);
	}
	if (load->row < 0)
		for (int i = 0; i < SYSROW_COUNT; i++)
			report->calls[i] -= before[i];
	in.row = -1;
	inject_calls(&in);
	mem_check_all(&m, "in the parent");
	for (unsigned i = 0; i < 200; i++)
		mem_change(&m, mem_random(&m) % m.pages);
	mem_check_all(&m, "in the parent, changed");
	if (load->row >= 0) {
		pid = fork_it(fl);
		if (pid == 0)
			child(&m);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			wrong("the next fork: %d, wait status %x", (int)pid, (unsigned)status);
	}
	if (fl_close(fl) != 0)
		wrong("fl_close");
	m.fl = NULL;
	mem_check_all(&m, "after fl_close");
}

static void without_a_failure(void **state)
{
	struct load load = {.row = -1};
	struct report *r;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		load.engine = i == 0 ? FL_ENGINE_SYNC : FL_ENGINE_URING;
		if (run_case(body, &load, &r) != END_WELL || r->lost != 0 || r->refused != 0)
			fail_msg("%s at %s: %s %s", r->wrong, r->at, r->line[0], r->stderr_text);
		memcpy(of_fork, r->calls, sizeof(of_fork));
	}
}

/* ---- what lasts ---- */

/* As where the process has as many mappings as it may: a range of its own would be one more. */
static long no_more_mappings(long a, long b, long advice, long d, long e, long f)
{
	if (advice == MADV_DOFORK)
		return -EAGAIN;
	return sys_bare(sys_table[SYSROW_madvise].nr, a, b, advice, d, e, f);
}

static void cannot_be_inherited(void *arg)
{
	const struct fl_options o = {.engine = *(const enum fl_engine *)arg};
	struct mem m;
	struct fl *fl = fill_some(&o, &m);
	sys_fn was = sys_table[SYSROW_madvise].fn;
	int status;
	pid_t pid;

	sys_table[SYSROW_madvise].fn = no_more_mappings;
	pid = fork_it(fl);
	if (pid != -ENOMEM)
		wrong("fork: %d", (int)pid);
	if (report->nlines != 1)
		wrong("%u lines: %s", report->nlines, report->line[0]);
	mem_check_all(&m, "in the parent");
	sys_table[SYSROW_madvise].fn = was;
	pid = fork_it(fl);
	if (pid == 0)
		child(&m);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		wrong("the next fork: %d, wait status %x", (int)pid, (unsigned)status);
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void a_refusal_that_lasts_is_one(void **state)
{
	enum fl_engine engine = FL_ENGINE_URING;
	struct report *r;

	(void)state;
	if (run_case(cannot_be_inherited, &engine, &r) != END_WELL)
		fail_msg("%s: %s %s", r->wrong, r->line[0], r->stderr_text);
}

/* ---- while an area is turned off ---- */

static uint32_t held_up, let_go; /* atomic: a read waits, and may go on */

static long reads_wait(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	(void)len;
	if (op != BLK_READ || __atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		return 0;
	__atomic_store_n(&held_up, 1, __ATOMIC_RELEASE); /* pairs with forked_meanwhile() */
	while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	return 0;
}

static char first[256]; /* area; a child's case_file() is another */

static void *turn_off(void *fl)
{
	return (void *)(intptr_t)fl_swapoff(fl, first);
}

static void forked_meanwhile(void *arg)
{
	const struct fl_swap_spec areas[2] = {
		{.path = first, .size = 8 << 20, .prio = 2},
		{.path = case_file(1), .size = 8 << 20, .prio = 1},
	};
	const struct fl_options o = {
		.engine = *(const enum fl_engine *)arg,
		.areas = areas,
		.nareas = 2,
		.pagers = 2,
	};
	pthread_t thread;
	struct mem m;
	struct fl *fl;
	void *result;
	int status;
	pid_t pid;

	snprintf(first, sizeof(first), "%s", case_file(0));
	let_go = 1;
	blkio_inject = reads_wait;
	fl = fill_some(&o, &m);
	__atomic_store_n(&let_go, 0, __ATOMIC_RELEASE);
	if (pthread_create(&thread, NULL, turn_off, fl) != 0)
		wrong("pthread_create");
	for (unsigned i = 0; !__atomic_load_n(&held_up, __ATOMIC_ACQUIRE); i++)
		test_yield(i);
	pid = fork_it(fl);
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	if (pid == 0) {
		mem_check_all(&m, "in the child");
		if (fl_swapoff(fl, first) != 0)
			wrong("fl_swapoff in the child");
		child(&m);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		wrong("fork: %d", (int)pid);
	if (report->wrong[0] != '\0')
		_exit(1);
	if (status != 0)
		wrong("the child ended with wait status %x", (unsigned)status);
	if (pthread_join(thread, &result) != 0 || result != NULL)
		wrong("fl_swapoff: %d", (int)(intptr_t)result);
	mem_check_all(&m, "in the parent");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void a_child_has_the_area_that_is_turned_off(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		enum fl_engine engine = (enum fl_engine)e;
		struct report *r;

		if (run_case(forked_meanwhile, &engine, &r) != END_WELL)
			fail_msg("engine %d: %s: %s %s", e, r->wrong, r->line[0], r->stderr_text);
	}
}

/* ---- one call ---- */

struct row {
	int row;
	long err[2];
};

static void row_fails(void **state)
{
	const struct row *row = *state;
	unsigned hits = 0, children = 0, bad = 0;

	for (unsigned long n = 1; n <= of_fork[row->row] && n <= EACH_MAX; n++) {
		struct load load = {row->row, n, row->err[n % 2 ? 0 : 1], FL_ENGINE_URING};
		struct report *r;
		enum ending end;

		if (load.err == 0)
			load.err = row->err[0];
		end = run_case(body, &load, &r);
		hits += r->hits != 0;
		children += r->lost;
		if (end == END_WELL && (r->lost == 0 || r->nlines != 0))
			continue;
		bad++;
		print_error("%s call %lu: %s at %s; %u hits, %u children ended\n    %s\n    %s\n   "
			    " %s\n",
			    sys_table[row->row].name, n, r->wrong, r->at, r->hits, r->lost,
			    r->line[0], r->line[1], r->stderr_text);
	}
	if (hits == 0)
		fail_msg("%s: a fork makes %lu calls, none was failed", sys_table[row->row].name,
			 of_fork[row->row]);
	assert_int_equal(bad, 0);
}

#define ROW(name, ...)                                                                             \
	{                                                                                          \
		"fork_" #name, row_fails, NULL, NULL,                                              \
			(&(struct row){SYSROW_##name, {__VA_ARGS__}})                              \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_failure),
		cmocka_unit_test(a_refusal_that_lasts_is_one),
		cmocka_unit_test(a_child_has_the_area_that_is_turned_off),
		ROW(socketpair, -EMFILE, -ENFILE),
		ROW(pidfd_open, -EINVAL, -EMFILE),
		ROW(pidfd_getfd, -EPERM, -EMFILE),
		ROW(fstat, -ENOMEM),
		ROW(openat, -EMFILE, -ENOENT),
		ROW(fcntl, -ENOLCK, -EINVAL),
		ROW(mmap, -ENOMEM),
		ROW(madvise, -ENOMEM, -EAGAIN),
		ROW(memfd_create, -EMFILE, -ENOMEM),
		ROW(ftruncate, -ENOMEM, -EINTR),
		ROW(pwrite, -ENOMEM, -EINTR),
		ROW(sendmsg, -ETOOMANYREFS, -EAGAIN),
		ROW(recvmsg, -EMFILE, -EAGAIN),
		ROW(close_range, -EMFILE),
		ROW(uffd_open, -EMFILE, -EPERM),
		ROW(uffd_api, -EINVAL),
		ROW(uffd_register, -ENOMEM),
		ROW(uring_setup, -ENOMEM, -EPERM),
		ROW(epoll_create, -EMFILE),
		ROW(epoll_ctl, -ENOMEM),
		ROW(epoll_wait, -EINTR),
	};

	return cmocka_run_group_tests_name("fault-fork", tests, NULL, NULL);
}
