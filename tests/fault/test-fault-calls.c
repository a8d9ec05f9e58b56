/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call of the paging path fails in turn.
 *
 * A small workload that makes every kind of call at a limit below its memory
 * is run once to count the calls of each row of the table in sys.h, and then
 * again and again with one call of one row failed: each of the first, a
 * seeded sample of the others, with each error that the call really returns;
 * and, where an error can last, with all calls from some point on.
 *
 * FAULT_ROW runs one row only, FAULT_NTH one call of it; FAULT_SOAK repeats the
 * run without failures that often.
 */
#include "drive.h"
#include "swap-area.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGES 720U
#define GROWN 784U
#define ROOM 800U
#define FIRST 8U /* of a row's calls, that many fail in turn, */
#define SAMPLE 4U /* and of the others so many */
#define SECONDS 20U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct load {
	enum fl_engine engine;
	enum fl_wp wp;
	enum fl_compress compress;
	int map_flags;
	struct injection in;
};

/* ---- the workload ---- */

static void at(const char *what)
{
	snprintf(report->at, sizeof(report->at), "%s", what);
}

/* What a call answered; true when it was done. */
static bool answered(const char *what, int r)
{
	if (r == 0)
		return true;
	count_refusal(what, r);
	return false;
}

#define did(what, call) (at(what), answered(what, call))

static void fill_all(struct mem *m)
{
	at("fill");
	for (size_t i = 0; i < m->pages; i++)
		mem_fill(m, i, i % 7 == 3);
}

static void at_random(struct mem *m, unsigned n)
{
	at("random");
	for (unsigned i = 0; i < n; i++) {
		size_t page = mem_random(m) % m->pages;

		if (i % 3 == 0)
			mem_change(m, page);
		else
			mem_check(m, page, "random read");
	}
}

static void protect(struct mem *m, size_t page, size_t n, int prot)
{
	if (!did("fl_mprotect", fl_mprotect(m->fl, m->base + page * PG, n * PG, prot)))
		return;
	for (size_t i = page; i < page + n; i++)
		m->readonly[i] = !(prot & PROT_WRITE);
}

static void empty(struct mem *m, size_t page, size_t n, int advice)
{
	if (did("fl_madvise", fl_madvise(m->fl, m->base + page * PG, n * PG, advice)))
		mem_zeroed(m, page, n);
}

static void resize(struct mem *m, size_t pages)
{
	void *p;

	at("fl_mremap");
	p = fl_mremap(m->fl, m->base, m->pages * PG, pages * PG, MREMAP_MAYMOVE);
	if (p == FL_FAILED) {
		count_refusal("fl_mremap", -errno);
		return;
	}
	if (pages > m->pages)
		mem_zeroed(m, m->pages, pages - m->pages);
	m->base = p;
	m->pages = pages;
}

static void off_and_on(struct mem *m)
{
	const struct fl_swap_spec spec = {.path = case_file(1), .prio = 5};

	if (did("fl_swapoff", fl_swapoff(m->fl, spec.path)))
		did("fl_swapon", fl_swapon(m->fl, &spec));
}

/* Memory that comes and goes, and memory that was there before. */
static void others(struct mem *m)
{
	struct mem other;

	at("fl_mmap");
	if (mem_map(&other, m->fl, 64, 64)) {
		fill_all(&other);
		mem_check_all(&other, "another mapping");
		if (!did("fl_munmap", fl_munmap(m->fl, other.base, 64 * PG)))
			mem_check_all(&other, "after munmap failed");
	}
	mem_adopt(&other, m->fl, 64);
	fill_all(&other);
	if (did("fl_register", fl_register(m->fl, other.base, 64 * PG))) {
		did("pageout", fl_madvise(m->fl, other.base, 64 * PG, MADV_PAGEOUT));
		mem_check_all(&other, "registered memory");
		did("fl_unregister", fl_unregister(m->fl, other.base, 64 * PG));
	}
	mem_check_all(&other, "memory that was registered");
}

static void workload(void *arg)
{
	const struct load *load = arg;
	/* a private one, one with a name, and one that was there before */
	const struct fl_swap_spec areas[3] = {
		{.size = 4 << 20, .prio = 5},
		{.path = case_file(0), .size = 2 << 20, .prio = 5},
		{.path = case_file(1), .prio = 5},
	};
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.areas = areas,
		.nareas = 3,
		.engine = load->engine,
		.wp = load->wp,
		.compress = load->compress,
		.pool = load->compress != FL_COMPRESS_NONE ? FL_LIMIT_MIN / 4 : 0,
		.swap_dir = getenv("TMPDIR"),
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	struct mem m;
	struct fl *fl;
	char why[256];
	int r;

	if (swap_format(case_file(1), 2 << 20, why, sizeof(why)) != 0)
		wrong("%s", why);
	inject_calls(&load->in);
	at("fl_open");
	r = fl_open(&fl, &o);
	if (r != 0) {
		count_refusal("fl_open", r);
		if (report->nlines == 0)
			wrong("fl_open failed with %s and said nothing", strerror(-r));
		refused();
	}
	at("fl_mmap");
	if (!mem_map_flags(&m, fl, PAGES, ROOM, load->map_flags) &&
	    !mem_map_flags(&m, fl, PAGES, ROOM, load->map_flags))
		refused();
	m.soft = load->compress != FL_COMPRESS_NONE;
	fill_all(&m);
	at("sequential read");
	mem_check_all(&m, "sequential read");
	at_random(&m, 120);
	resize(&m, GROWN);
	at_random(&m, 40);
	protect(&m, 100, 80, PROT_READ);
	at_random(&m, 40);
	mem_check_all(&m, "with a part read-only");
	protect(&m, 100, 80, PROT_READ | PROT_WRITE);
	empty(&m, 300, 40, MADV_DONTNEED);
	empty(&m, 500, 30, MADV_FREE);
	at_random(&m, 40);
	did("pageout", fl_madvise(fl, m.base, 64 * PG, MADV_PAGEOUT));
	did("willneed", fl_madvise(fl, m.base, 64 * PG, MADV_WILLNEED));
	if (!m.map_flags && did("fl_mlock", fl_mlock(fl, m.base + 640 * PG, 16 * PG)))
		did("fl_munlock", fl_munlock(fl, m.base + 640 * PG, 16 * PG));
	others(&m);
	off_and_on(&m);
	at_random(&m, 40);
	did("fl_set_limit", fl_set_limit(fl, 2 * FL_LIMIT_MIN));
	at("at a higher limit");
	mem_check_all(&m, "at a higher limit");
	did("fl_set_limit", fl_set_limit(fl, FL_LIMIT_MIN));
	resize(&m, PAGES);
	protect(&m, 100, 80, PROT_READ | PROT_WRITE);
	at_random(&m, 40);
	at("the last look");
	mem_check_all(&m, "at the end");
	fl_stats(fl, &report->stats, sizeof(report->stats));
	if (!did("fl_close", fl_close(fl)) && !did("fl_close", fl_close(fl)))
		return;
	m.fl = NULL;
	mem_check_all(&m, "after fl_close");
}

/* ---- what fails, and how ---- */

#define ERRS 8

struct row {
	int row;
	enum fl_engine engine;
	enum fl_wp wp;
	enum fl_compress compress;
	int map_flags;
	bool may_lose; /* a read that fails costs a page */
	long err[ERRS];
	long lasting[ERRS]; /* errors that may last */
};

#define ROW(name) .row = SYSROW_##name, .engine = FL_ENGINE_URING
#define SYNC_ROW(name) .row = SYSROW_##name, .engine = FL_ENGINE_SYNC

/* The same with compressed pages, for calls that are then made elsewhere, too. */
#define TIER_ROW(name) .row = SYSROW_##name, .engine = FL_ENGINE_URING, .compress = FL_COMPRESS_LZ4
#define TIER_SYNC_ROW(name)                                                                        \
	.row = SYSROW_##name, .engine = FL_ENGINE_SYNC, .compress = FL_COMPRESS_LZ4

/* The same with memory whose faults are answered by the thread that takes them. */
#define IN_THREAD_ROW(name) ROW(name), .map_flags = FL_MAP_IN_THREAD

static const struct row rows[] = {
	{ROW(openat), .err = {-ENOMEM, -EMFILE}, .lasting = {-ENFILE}},
	{ROW(close_range), .err = {-ENOMEM}},
	{ROW(read), .err = {-EIO, -EINTR, -ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(fstat), .err = {-EIO, -ENOMEM}},
	{ROW(fstatfs), .err = {-EIO, -ENOSYS}},
	{ROW(fcntl), .err = {-EINVAL, -ENOMEM}, .lasting = {-EINVAL}},
	{ROW(fallocate), .err = {-ENOSPC, -EINTR, -EIO, -EOPNOTSUPP},
	 .lasting = {-ENOSPC, -EOPNOTSUPP}},
	{ROW(flock), .err = {-ENOLCK, -EWOULDBLOCK}},
	{ROW(ftruncate), .err = {-EINTR, -ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(memfd_create), .err = {-ENOMEM, -EMFILE}},
	{ROW(ioctl), .err = {-ENOTTY, -ENOENT, -ENOMEM}, .lasting = {-ENOTTY}},
	{ROW(mmap), .err = {-ENOMEM, -EAGAIN}, .lasting = {-ENOMEM}},
	{ROW(munmap), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(mremap), .err = {-ENOMEM, -EFAULT}, .lasting = {-ENOMEM}},
	{ROW(mprotect), .err = {-ENOMEM, -EACCES}, .lasting = {-ENOMEM}},
	{ROW(madvise), .err = {-ENOMEM, -EAGAIN}},
	{ROW(mlock2), .err = {-ENOMEM, -EAGAIN, -EPERM}},
	{ROW(munlock), .err = {-ENOMEM}},
	{ROW(process_madvise), .err = {-EINVAL, -EPERM, -ENOSYS, -EINTR, -ENOMEM, ERR_PARTIAL},
	 .lasting = {-ENOSYS, ERR_PARTIAL}},
	{ROW(uffd_open), .err = {-EPERM, -ENOMEM, -EMFILE}},
	{ROW(uffd_api), .err = {-EINVAL, -EPERM}},
	{ROW(uffd_register), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(uffd_unregister), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, -ENOENT, ERR_PARTIAL},
	 .lasting = {-ENOMEM, ERR_PARTIAL}},
	{ROW(uffd_zeropage), .err = {-EAGAIN, -ENOMEM, ERR_PARTIAL},
	 .lasting = {-ENOMEM, ERR_PARTIAL}},
	{ROW(uffd_move), .err = {-EBUSY, -EAGAIN, -EINVAL, -ENOENT, -ENOMEM, ERR_PARTIAL, ERR_UNTOLD},
	 .lasting = {-EBUSY, -EINVAL, ERR_PARTIAL, ERR_UNTOLD}},
	{ROW(uffd_writeprotect), .err = {-EAGAIN, -ENOENT, -ENOMEM}},
	{ROW(uffd_writeprotect), .wp = FL_WP_SYNC, .err = {-EAGAIN, -ENOENT, -ENOMEM}},
	{ROW(uffd_read), .err = {-EAGAIN, -EINTR}},
	{ROW(pagemap_scan), .err = {-ENOMEM, -EFAULT}, .lasting = {-ENOMEM}},
	{ROW(uring_setup), .err = {-ENOSYS, -EPERM, -ENOMEM}},
	{ROW(uring_enter), .err = {-EAGAIN, -EBUSY, -EINTR, -ENOMEM}, .lasting = {-EAGAIN, -EBUSY}},
	{SYNC_ROW(poll), .err = {-EINTR}},
	{SYNC_ROW(pread), .may_lose = true, .err = {-EIO, -EINTR, ERR_PARTIAL, ERR_NOTHING},
	 .lasting = {-EIO, ERR_PARTIAL, ERR_NOTHING}},
	{SYNC_ROW(preadv), .may_lose = true,
	 .err = {-EIO, -EINTR, -EAGAIN, ERR_PARTIAL, ERR_NOTHING}, .lasting = {-EIO, ERR_PARTIAL}},
	{SYNC_ROW(pwrite), .err = {-EIO, -EINTR, -ENOSPC, ERR_PARTIAL, ERR_NOTHING},
	 .lasting = {-ENOSPC, ERR_PARTIAL}},
	{SYNC_ROW(pwritev), .err = {-EIO, -EINTR, -ENOSPC, ERR_PARTIAL, ERR_NOTHING},
	 .lasting = {-ENOSPC, ERR_PARTIAL, ERR_NOTHING}},
	{TIER_ROW(mmap), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{TIER_ROW(madvise), .err = {-ENOMEM, -EAGAIN}},
	{TIER_ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, -ENOENT, ERR_PARTIAL},
	 .lasting = {-ENOMEM, ERR_PARTIAL}},
	{TIER_ROW(uffd_move), .err = {-EBUSY, -ENOMEM, ERR_PARTIAL},
	 .lasting = {-EBUSY, ERR_PARTIAL}},
	{TIER_SYNC_ROW(pwrite), .err = {-EIO, ERR_NOTHING}, .lasting = {-ENOSPC, ERR_PARTIAL}},
	{TIER_SYNC_ROW(pwritev), .err = {-EIO, ERR_PARTIAL}, .lasting = {-ENOSPC}},
	{IN_THREAD_ROW(pidfd_open), .err = {-EINVAL, -EMFILE, -ENODEV}},
	{IN_THREAD_ROW(pidfd_getfd), .err = {-EMFILE, -EPERM}},
	{IN_THREAD_ROW(sigaction), .err = {-EINVAL, -EFAULT}},
	{IN_THREAD_ROW(uffd_open), .err = {-EPERM, -ENOMEM}},
	{IN_THREAD_ROW(uffd_register), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{IN_THREAD_ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, -ENOENT, -EBADF, ERR_PARTIAL},
	 .lasting = {-ENOMEM, ERR_PARTIAL}},
	{IN_THREAD_ROW(uffd_zeropage), .err = {-EAGAIN, -ENOMEM, -EBADF, ERR_PARTIAL},
	 .lasting = {ERR_PARTIAL}},
	{IN_THREAD_ROW(uffd_move), .err = {-EBUSY, -EAGAIN, -EINVAL, -EBADF, ERR_UNTOLD},
	 .lasting = {-EBUSY, ERR_PARTIAL, ERR_UNTOLD}},
	{SYNC_ROW(preadv), .map_flags = FL_MAP_IN_THREAD, .may_lose = true, .err = {-EIO},
	 .lasting = {-EIO}},
	{IN_THREAD_ROW(uffd_writeprotect), .wp = FL_WP_SYNC, .err = {-EAGAIN, -ENOENT, -EBADF}},
};

#define NROWS (sizeof(rows) / sizeof(rows[0]))

/* Calls of each row in a run without failures, by engine, dirty tracking, compression, in-thread or not. */
static unsigned long calls[3][3][2][2][SYSROW_COUNT];

static void count_one(enum fl_engine engine, enum fl_wp wp, enum fl_compress compress, int map_flags)
{
	struct load load = {.engine = engine,
			    .wp = wp,
			    .compress = compress,
			    .map_flags = map_flags,
			    .in = {.row = -1}};
	struct report *r;
	enum ending end = run_case(workload, &load, SECONDS, &r);

	if (end != END_WELL || r->refused != 0 || r->lost != 0 || r->nlines != 0)
		fail_msg("without a failure: %s (%u refused: %s, %u lost, %u lines: %s) at %s%s",
			 r->wrong, r->refused, r->last_refusal, r->lost, r->nlines, r->line[0],
			 r->at, r->stderr_text);
	if (r->stats.evicted == 0 || r->stats.faults_swap == 0 || r->stats.write_pages == 0)
		fail_msg("the workload does not page");
	if (compress != FL_COMPRESS_NONE &&
	    (r->stats.faults_compressed == 0 || r->stats.written_through == 0))
		fail_msg("the workload does not compress");
	if ((r->stats.faults_in_thread != 0) != (map_flags != 0))
		fail_msg("%lu faults were answered in their threads",
			 (unsigned long)r->stats.faults_in_thread);
	memcpy(calls[engine][wp][compress][map_flags != 0], r->calls, sizeof(r->calls));
}

static void workload_alone(void **state)
{
	const char *soak = getenv("FAULT_SOAK");

	(void)state;
	for (unsigned long n = soak != NULL ? strtoul(soak, NULL, 0) : 0; n != 0; n--)
		count_one(n % 2 ? FL_ENGINE_SYNC : FL_ENGINE_URING, n % 3 ? FL_WP_AUTO : FL_WP_SYNC,
			  n % 4 < 2 ? FL_COMPRESS_NONE : FL_COMPRESS_LZ4,
			  n % 5 == 0 ? FL_MAP_IN_THREAD : 0);
	count_one(FL_ENGINE_URING, FL_WP_AUTO, FL_COMPRESS_NONE, 0);
	count_one(FL_ENGINE_URING, FL_WP_SYNC, FL_COMPRESS_NONE, 0);
	count_one(FL_ENGINE_SYNC, FL_WP_AUTO, FL_COMPRESS_NONE, 0);
	count_one(FL_ENGINE_URING, FL_WP_AUTO, FL_COMPRESS_LZ4, 0);
	count_one(FL_ENGINE_SYNC, FL_WP_AUTO, FL_COMPRESS_LZ4, 0);
	count_one(FL_ENGINE_URING, FL_WP_AUTO, FL_COMPRESS_NONE, FL_MAP_IN_THREAD);
	count_one(FL_ENGINE_URING, FL_WP_SYNC, FL_COMPRESS_NONE, FL_MAP_IN_THREAD);
	count_one(FL_ENGINE_SYNC, FL_WP_AUTO, FL_COMPRESS_NONE, FL_MAP_IN_THREAD);
	if (getenv("FAULT_COUNTS") != NULL)
		for (int i = 0; i < SYSROW_COUNT; i++)
			print_message("# %s: %lu, sync %lu\n", sys_table[i].name,
				      calls[FL_ENGINE_URING][FL_WP_AUTO][FL_COMPRESS_NONE][0][i],
				      calls[FL_ENGINE_SYNC][FL_WP_AUTO][FL_COMPRESS_NONE][0][i]);
}

struct fault_case {
	unsigned long nth;
	long err;
	bool persist;
};

#define CASES_MAX 256U
#define LANES 4U /* cases mostly wait: for the disk, or for patience to end */

/* What all lanes of a row have seen; shared. */
struct tally {
	unsigned hit, bad;
};

static void one(const struct row *row, const struct fault_case *fc, struct tally *t)
{
	struct load load = {
		.engine = row->engine,
		.wp = row->wp,
		.compress = row->compress,
		.map_flags = row->map_flags,
		.in = {.row = row->row, .nth = fc->nth, .err = fc->err, .persist = fc->persist},
	};
	struct report *r;
	enum ending end = run_case(workload, &load, SECONDS, &r);
	const char *why = NULL;

	if (r->hits != 0)
		__atomic_fetch_add(&t->hit, 1, __ATOMIC_RELAXED);
	if (end == END_BAD)
		why = r->wrong;
	else if (end == END_KILLED && !fc->persist)
		why = "one failure ended the process";
	else if (r->lost != 0 && !row->may_lose)
		why = "a page was lost";
	else if (end == END_REFUSED && r->hits == 0)
		why = "refused without a failure";
	if (why == NULL)
		return;
	__atomic_fetch_add(&t->bad, 1, __ATOMIC_RELAXED);
	print_error("%s call %lu%s fails with %s: %s\n"
		    "    at %s; %u hits, %u refused (%s), %u lost\n    %s\n    %s\n    %s\n",
		    sys_table[row->row].name, fc->nth, fc->persist ? " and all after" : "",
		    fc->err == ERR_PARTIAL   ? "a part"
		    : fc->err == ERR_NOTHING ? "nothing"
					     : strerror((int)-fc->err),
		    why, r->at, r->hits, r->refused, r->last_refusal, r->lost, r->line[0],
		    r->line[1], r->stderr_text);
}

/* Every LANES-th case, from `lane` on, in a process of its own. */
static pid_t start_lane(const struct row *row, const struct fault_case *fc, unsigned n,
			unsigned lane, struct tally *t)
{
	pid_t pid;

	fflush(stdout);
	fflush(stderr);
	pid = fork();
	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	report = NULL; /* one of its own */
	for (unsigned i = lane; i < n; i += LANES)
		one(row, &fc[i], t);
	fflush(stdout);
	fflush(stderr);
	_exit(0);
}

/* The n-th of those that are failed, of c calls: first each, then a sample. */
static unsigned long pick(unsigned i, unsigned long c, uint64_t *rng)
{
	if (i < FIRST || c <= FIRST + SAMPLE)
		return i + 1;
	*rng = *rng * 6364136223846793005U + 1442695040888963407U;
	return FIRST + 1 + (*rng >> 33) % (c - FIRST);
}

/* The cases of a row that makes c calls; how many. */
static unsigned plan(const struct row *row, unsigned long c, struct fault_case *fc)
{
	uint64_t rng = (uint64_t)row->row + 1;
	unsigned nth = c <= FIRST + SAMPLE ? (unsigned)c : FIRST + SAMPLE;
	unsigned nerr = 0, n = 0;

	while (nerr < ERRS && row->err[nerr] != 0)
		nerr++;
	for (unsigned i = 0; i < nth; i++) {
		unsigned long call = pick(i, c, &rng);

		/* every error for the first calls, in turn for the others */
		for (unsigned e = 0; e < nerr; e++)
			if (i < 2 || e == i % nerr)
				fc[n++] = (struct fault_case){call, row->err[e], false};
	}
	for (unsigned e = 0; e < ERRS && row->lasting[e] != 0; e++)
		for (unsigned k = 0; k < 3; k++)
			fc[n++] = (struct fault_case){1 + c * k / 3, row->lasting[e], true};
	return n;
}

static void row_fails(void **state)
{
	const struct row *row = *state;
	unsigned long c = calls[row->engine][row->wp][row->compress][row->map_flags != 0][row->row];
	unsigned long only =
		getenv("FAULT_NTH") != NULL ? strtoul(getenv("FAULT_NTH"), NULL, 0) : 0;
	struct tally *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct fault_case fc[CASES_MAX];
	unsigned n = plan(row, c, fc), kept = 0, hit, bad;
	pid_t lane[LANES];

	assert_true(c != 0);
	assert_ptr_not_equal(t, MAP_FAILED);
	for (unsigned i = 0; i < n; i++)
		if (only == 0 || fc[i].nth == only)
			fc[kept++] = fc[i];
	for (unsigned i = 0; i < LANES; i++)
		lane[i] = start_lane(row, fc, kept, i, t);
	for (unsigned i = 0; i < LANES; i++) {
		int status;

		assert_int_equal(waitpid(lane[i], &status, 0), lane[i]);
		assert_int_equal(status, 0);
	}
	hit = t->hit;
	bad = t->bad;
	munmap(t, sizeof(*t));
	if (bad != 0)
		fail_msg("%u of %u cases", bad, kept);
	/* what a run calls depends on timing, but not that much */
	if (only == 0 && hit * 2 < kept)
		fail_msg("of %u cases only %u met a failure", kept, hit);
}

int main(void)
{
	const char *only = getenv("FAULT_ROW");
	struct CMUnitTest tests[NROWS + 1] = {cmocka_unit_test(workload_alone)};
	size_t n = 1;

	for (size_t i = 0; i < NROWS; i++) {
		if (only != NULL && strcmp(only, sys_table[rows[i].row].name) != 0)
			continue;
		tests[n++] = (struct CMUnitTest){
			.name = sys_table[rows[i].row].name,
			.test_func = row_fails,
			.initial_state = (void *)(uintptr_t)&rows[i],
		};
	}
	return _cmocka_run_group_tests("calls", tests, n, NULL, NULL);
}
