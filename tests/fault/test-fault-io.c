/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every read and write of the paging path fails in turn, with both engines:
 * an error, a short transfer, none at all, a torn write, a flipped bit.
 *
 * What was not lost is right, word by word; what was lost is poisoned: SIGBUS
 * on that page, one line that names area, slot, address and reason, and the
 * page is usable again once it was emptied or unmapped.  A page that nobody touched is not
 * lost: it is read again when it is.
 */
#include "drive.h"
#include "hop.h"
#include "mm.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGES 720U
#define NTH_MAX 24U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum fault_kind {
	FAIL_ERROR, /* the attempt ends with err */
	FAIL_SHORT, /* 512 bytes of it are moved */
	FAIL_TORN,  /* a write that is said to be whole leaves half a page as it was */
	FAIL_FLIP,  /* one bit of what was read is wrong */
};

struct io_case {
	enum fl_engine engine;
	enum blk_op op;
	enum fault_kind kind;
	long err;
	unsigned long nth;
	bool persist;
	bool second;	 /* another area is there */
	unsigned pagers; /* 0: one */
};

/* ---- injection: on the pager alone ---- */

static const struct io_case *now;

static bool due(enum blk_op op)
{
	unsigned long n = __atomic_add_fetch(&report->attempts[op], 1, __ATOMIC_RELAXED);

	if (now->nth == 0 || op != now->op || (n != now->nth && !(now->persist && n > now->nth)))
		return false;
	report->hits++;
	return true;
}

static long io_inject(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)dev;
	(void)off;
	(void)len;
	if (now->kind == FAIL_TORN || now->kind == FAIL_FLIP || !due(op))
		return 0;
	return now->kind == FAIL_SHORT ? 512 : now->err;
}

static void io_inject_data(const struct blk_req *req)
{
	if (now->kind == FAIL_FLIP && due(BLK_READ))
		((unsigned char *)req->iov[0].iov_base)[1234] ^= 0x10;
}

/* A write to an area is made whole, then half of its first page is spoilt on the device. */
static long torn_write(long fd, long r, const void *first, uint64_t off)
{
	static char spoilt[PG] __attribute__((aligned(4096)));

	if (off < PG || now->kind != FAIL_TORN || !due(BLK_WRITE))
		return r;
	memcpy(spoilt, first, PG);
	memset(spoilt + PG / 2, 0x5a, PG / 2);
	if (sys_bare(sys_table[SYSROW_pwrite].nr, fd, (long)spoilt, PG, (long)off, 0, 0) !=
	    (long)PG)
		wrong("the write could not be torn");
	return r;
}

static long torn_pwrite(long a, long b, long c, long d, long e, long f)
{
	return torn_write(a, sys_bare(sys_table[SYSROW_pwrite].nr, a, b, c, d, e, f),
			  (const void *)b, (uint64_t)d);
}

static long torn_pwritev(long a, long b, long c, long d, long e, long f)
{
	return torn_write(a, sys_bare(sys_table[SYSROW_pwritev].nr, a, b, c, d, e, f),
			  ((const struct iovec *)b)->iov_base, (uint64_t)d);
}

/* ---- the workload ---- */

static struct fl *open_runtime(const struct io_case *c)
{
	const struct fl_swap_spec areas[2] = {
		{.path = case_file(0), .prio = 5},
		{.path = case_file(1), .prio = 1},
	};
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.areas = areas,
		.nareas = c->second ? 2 : 1,
		.engine = c->engine,
		.pagers = c->pagers,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	char why[256];
	struct fl *fl;

	for (unsigned i = 0; i < o.nareas; i++)
		if (swap_format(case_file(i), 8 << 20, why, sizeof(why)) != 0)
			wrong("%s", why);
	now = c;
	if (now->kind == FAIL_TORN) {
		sys_table[SYSROW_pwrite].fn = torn_pwrite;
		sys_table[SYSROW_pwritev].fn = torn_pwritev;
	}
	blkio_inject = io_inject;
	blkio_inject_data = io_inject_data;
	if (fl_open(&fl, &o) != 0)
		wrong("fl_open: %s", report->line[0]);
	return fl;
}

/* The line about a page that was lost. */
static bool line_of(const struct mem *m, size_t page)
{
	char address[64];
	unsigned n = 0;

	snprintf(address, sizeof(address), "address 0x%lx:", (unsigned long)m->base + page * PG);
	for (unsigned i = 0; i < report->nlines && i < LINES_MAX; i++)
		n += strstr(report->line[i], address) != NULL &&
		     strstr(report->line[i], "swap area ") != NULL &&
		     strstr(report->line[i], "slot ") != NULL &&
		     strstr(report->line[i], "SIGBUS") != NULL;
	return n == 1;
}

/* Every lost page says so everywhere, and is as new once it was emptied. */
static void look_at_lost(struct mem *m)
{
	struct fl_stats st;
	size_t lost = 0, first = 0;

	for (size_t i = 0; i < m->pages; i++) {
		unsigned char state = 0;

		fl_page_state(m->fl, m->base + i * PG, PG, &state);
		if ((FL_PAGE_KIND(state) == FL_PAGE_POISONED) != m->lost[i])
			wrong("page %zu: state 0x%02x, lost %d", i, state, m->lost[i]);
		if (m->lost[i] && report->nlines < LINES_MAX && !line_of(m, i))
			wrong("page %zu was lost without its line: %s", i, report->line[0]);
		first = m->lost[i] && lost == 0 ? i : first;
		lost += m->lost[i];
	}
	fl_stats(m->fl, &st, sizeof(st));
	if (st.poisoned != lost)
		wrong("%lu pages are counted as poisoned, %zu are", (unsigned long)st.poisoned,
		      lost);
	if (lost == 0)
		return;
	/* it raises SIGBUS again, until it is emptied */
	m->lost[first] = false;
	mem_check(m, first, "poisoned");
	if (!m->lost[first])
		wrong("page %zu was poisoned and can be read", first);
	for (size_t i = first; i < m->pages; i++) {
		if (!m->lost[i])
			continue;
		if (i % 2 == 0 && fl_madvise(m->fl, m->base + i * PG, PG, MADV_DONTNEED) != 0)
			wrong("MADV_DONTNEED of a poisoned page");
		if (i % 2 != 0 &&
		    (fl_munmap(m->fl, m->base + i * PG, PG) != 0 ||
		     fl_mmap(m->fl, m->base + i * PG, PG, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == FL_FAILED))
			wrong("munmap of a poisoned page");
		mem_zeroed(m, i, 1);
		mem_check(m, i, "emptied after it was poisoned");
		mem_fill(m, i, false);
	}
	fl_stats(m->fl, &st, sizeof(st));
	if (st.poisoned != 0)
		wrong("%lu pages are still counted as poisoned", (unsigned long)st.poisoned);
}

static void workload(void *arg)
{
	const struct io_case *c = arg;
	struct mem m;

	if (!mem_map(&m, open_runtime(c), PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < m.pages; i++)
		mem_fill(&m, i, i % 9 == 4);
	mem_check_all(&m, "sequential read");
	for (unsigned i = 0; i < 150; i++) {
		size_t page = mem_random(&m) % m.pages;

		if (i % 3 == 0)
			mem_change(&m, page);
		else
			mem_check(&m, page, "random read");
	}
	fl_madvise(m.fl, m.base, 64 * PG, MADV_PAGEOUT);
	mem_check_all(&m, "second read");
	look_at_lost(&m);
	mem_check_all(&m, "last read");
	fl_stats(m.fl, &report->stats, sizeof(report->stats));
	if (fl_close(m.fl) != 0)
		wrong("fl_close");
}

/* ---- the cases ---- */

static const char *const kinds[] = {"an error", "a short transfer", "a torn write",
				    "a flipped bit"};

static void one(const void *cases, unsigned i, struct tally *t)
{
	const struct io_case *c = &((const struct io_case *)cases)[i];
	struct io_case copy = *c;
	struct report *r;
	enum ending end = run_case(workload, &copy, &r);
	const char *why = NULL;

	if (r->hits != 0)
		__atomic_fetch_add(&t->hit, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&t->lost, r->lost, __ATOMIC_RELAXED);
	if (end == END_KILLED && c->persist && c->op == BLK_WRITE && !c->second)
		return; /* nowhere left to write to */
	if (end != END_WELL)
		why = end == END_BAD ? r->wrong : "the process was ended";
	else if (r->lost != 0 &&
		 (c->kind == FAIL_SHORT || (c->op == BLK_WRITE && c->kind != FAIL_TORN)))
		why = "a page was lost";
	else if (!c->persist && r->lost > 2) /* it is touched again to see that it stays poisoned */
		why = "one failure cost several pages";
	if (why == NULL)
		return;
	__atomic_fetch_add(&t->bad, 1, __ATOMIC_RELAXED);
	print_error(
		"%s %lu%s, %s (%s), engine %d: %s\n    %u hits, %u lost\n    %s\n    %s\n    %s\n",
		c->op == BLK_READ ? "read" : "write", c->nth, c->persist ? " and all after" : "",
		kinds[c->kind], strerror((int)-c->err), (int)c->engine, why, r->hits, r->lost,
		r->line[0], r->line[1], r->stderr_text);
}

static void run_all(const struct io_case *c, unsigned n, bool must_lose)
{
	struct tally seen = in_lanes(c, n, one);

	if (seen.bad != 0)
		fail_msg("%u of %u cases", seen.bad, n);
	if (seen.hit * 2 < n)
		fail_msg("of %u cases only %u met a failure", n, seen.hit);
	if (must_lose && seen.lost == 0)
		fail_msg("no case lost a page");
}

static unsigned long attempts[3][2]; /* by engine and operation */

static void workload_alone(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {.engine = (enum fl_engine)e};
		struct report *r;
		enum ending end = run_case(workload, &c, &r);

		if (end != END_WELL || r->lost != 0 || r->nlines != 0)
			fail_msg("without a failure: %s (%u lost) %s %s", r->wrong, r->lost,
				 r->line[0], r->stderr_text);
		assert_true(r->attempts[BLK_READ] > 30 && r->attempts[BLK_WRITE] > 5);
		memcpy(attempts[e], r->attempts, sizeof(r->attempts));
	}
}

/* A spread of calls: the first eight, then ever wider apart. */
static void sweep(enum blk_op op, enum fault_kind kind, const long *err, unsigned nerr,
		  bool sync_only, bool must_lose)
{
	struct io_case c[2 * NTH_MAX];
	unsigned n = 0;

	for (int e = sync_only ? FL_ENGINE_SYNC : FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		unsigned k = 0;

		for (unsigned long nth = 1; nth <= attempts[e][op] && k < NTH_MAX; k++) {
			c[n++] = (struct io_case){
				.engine = (enum fl_engine)e,
				.op = op,
				.kind = kind,
				.err = err != NULL ? err[k % nerr] : 0,
				.nth = nth,
			};
			nth += nth < 8 ? 1 : nth / 2;
		}
	}
	run_all(c, n, must_lose);
}

static void read_errors(void **state)
{
	static const long err[] = {-EIO, -ENODATA, -EREMOTEIO};

	(void)state;
	sweep(BLK_READ, FAIL_ERROR, err, 3, false, true);
}

static void write_errors(void **state)
{
	static const long err[] = {-EIO, -ENOSPC};

	(void)state;
	sweep(BLK_WRITE, FAIL_ERROR, err, 2, false, false);
}

static void short_reads(void **state)
{
	(void)state;
	sweep(BLK_READ, FAIL_SHORT, NULL, 0, false, false);
}

static void short_writes(void **state)
{
	(void)state;
	sweep(BLK_WRITE, FAIL_SHORT, NULL, 0, false, false);
}

static void torn_writes(void **state)
{
	(void)state;
	sweep(BLK_WRITE, FAIL_TORN, NULL, 0, true, true);
}

static void flipped_bits(void **state)
{
	(void)state;
	sweep(BLK_READ, FAIL_FLIP, NULL, 0, false, true);
}

/* From some point on nothing can be read, or everything comes in pieces. */
static void lasting(void **state)
{
	struct io_case c[24];
	unsigned n = 0;

	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++)
		for (unsigned long nth = 1; nth <= 20; nth += 19) {
			struct io_case base = {
				.engine = (enum fl_engine)e, .nth = nth, .persist = true};

			base.op = BLK_READ, base.kind = FAIL_SHORT;
			c[n++] = base;
			base.kind = FAIL_FLIP;
			c[n++] = base;
			base.kind = FAIL_ERROR, base.err = -EIO;
			c[n++] = base;
			base.op = BLK_WRITE, base.kind = FAIL_SHORT;
			c[n++] = base;
		}
	run_all(c, n, true);
}

/* ---- areas that fail for good ---- */

static void failing_area(void *arg)
{
	const struct io_case *c = arg;
	struct mem m;

	if (!mem_map(&m, open_runtime(c), PAGES, PAGES))
		wrong("fl_mmap");
	for (unsigned round = 0; round < 4; round++) {
		for (size_t i = 0; i < m.pages; i++)
			mem_change(&m, i);
		mem_check_all(&m, "beside a failing area");
	}
}

static long first_fd = -1;

static long first_area_fails(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	(void)off;
	(void)len;
	if (op != BLK_WRITE)
		return 0;
	if (first_fd < 0)
		first_fd = dev->fd;
	return dev->fd == first_fd ? -EIO : 0;
}

/* The first area fails, the second takes its pages: all bytes are right, one line ends it. */
static void failing_first(void *arg)
{
	const struct io_case *c = arg;
	struct mem m;
	struct fl *fl = open_runtime(c);

	/* the queue is open, but nothing was written yet */
	blkio_inject = first_area_fails;
	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (unsigned round = 0; round < 6; round++) {
		for (size_t i = 0; i < m.pages; i++)
			mem_change(&m, i);
		mem_check_all(&m, "beside a failing area");
	}
	fl_stats(m.fl, &report->stats, sizeof(report->stats));
}

static void area_goes_off(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {.engine = (enum fl_engine)e, .second = true};
		struct report *r;
		enum ending end = run_case(failing_first, &c, &r);

		if (end != END_WELL || r->lost != 0)
			fail_msg("%s (%u lost) %s %s", r->wrong, r->lost, r->line[0],
				 r->stderr_text);
		assert_int_equal(lines_with(r, "takes no more pages"), 1);
		assert_true(r->stats.io_errors >= 16);
		assert_true(r->stats.faults_swap != 0);
	}
}

/* The only area fails: nothing is dropped; when frames run out the process is ended. */
static void nowhere_to_write(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {
			.engine = (enum fl_engine)e,
			.op = BLK_WRITE,
			.kind = FAIL_ERROR,
			.err = -EIO,
			.nth = 3,
			.persist = true,
		};
		struct report *r;
		enum ending end = run_case(failing_area, &c, &r);

		if (end != END_KILLED)
			fail_msg("ending %d: %s %s %s", (int)end, r->wrong, r->line[0],
				 r->stderr_text);
		assert_int_equal(lines_with(r, "out of memory"), 1);
		assert_int_equal(r->lost, 0);
	}
}

/* ---- an area that fails and is turned off ---- */

#define COPIED 64U

static uint32_t held_up, let_go; /* atomic: a write waits, and may go on */

/* Writes to the first area wait, on their pager, and fail. */
static long first_area_fails_late(enum blk_op op, const struct blk_dev *dev, uint64_t off,
				  uint64_t len)
{
	(void)off;
	(void)len;
	if (op != BLK_WRITE || strcmp(dev->name, case_file(0)) != 0)
		return 0;
	__atomic_store_n(&held_up, 1, __ATOMIC_RELEASE); /* pairs with await_write() */
	while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	return -EIO;
}

static void await_write(void)
{
	for (unsigned i = 0; !__atomic_load_n(&held_up, __ATOMIC_ACQUIRE); i++)
		test_yield(i);
}

/* Until every write has ended, each with an error. */
static void all_fail(struct fl *fl)
{
	struct fl_stats st;
	unsigned i = 0;

	do {
		test_yield(i++);
		fl_stats(fl, &st, sizeof(st));
	} while (st.io_errors < st.writes);
}

/*
 * Pages that are read while they are written are copied back and keep their slots; then the
 * writes fail, and these slots are all that the area holds.
 */
static void off_with_bad_slots(void *arg)
{
	struct fl *fl = open_runtime(arg);
	struct mem m;

	/* the queues are open, but nothing was written yet */
	blkio_inject = first_area_fails_late;
	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < COPIED; i++)
		mem_fill(&m, i, false);
	if (fl_madvise(fl, m.base, COPIED * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT");
	await_write();
	for (size_t i = 0; i < COPIED; i++)
		mem_check(&m, i, "while it is written");
	for (size_t i = 0; i < COPIED; i++) {
		unsigned char state;

		if (fl_page_state(fl, m.base + i * PG, PG, &state) != 0 ||
		    FL_PAGE_KIND(state) != FL_PAGE_PRESENT || !(state & FL_PAGE_HAS_SLOT))
			wrong("page %zu has no frame beside its slot: 0x%02x", i, state);
	}
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	all_fail(fl);
	if (fl_swapoff(fl, case_file(0)) != 0)
		wrong("fl_swapoff");
	if (fl_madvise(fl, m.base, COPIED * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT to the other area");
	mem_check_all(&m, "after the area was turned off");
	if (fl_close(fl) != 0)
		wrong("fl_close");
	m.fl = NULL;
	mem_check_all(&m, "after fl_close");
}

/* What the first pager's stack took is not to be had by the first pager. */
static uint64_t last_mapped;

static long mmap_no_stack(long a, long b, long c, long d, long e, long f)
{
	const bool pager = sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0) != getpid();

	if (pager && (uint64_t)b == last_mapped)
		return -ENOMEM;
	if (!pager)
		last_mapped = (uint64_t)b;
	return sys_bare(sys_table[SYSROW_mmap].nr, a, b, c, d, e, f);
}

static void one_pager_of_two(void *arg)
{
	struct mem m;
	struct fl *fl;

	sys_table[SYSROW_mmap].fn = mmap_no_stack;
	fl = open_runtime(arg);
	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < PAGES; i++)
		mem_fill(&m, i, false);
	mem_check_all(&m, "by the pager that started");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void a_pager_that_cannot_start_says_why(void **state)
{
	struct io_case c = {.engine = FL_ENGINE_SYNC, .pagers = 2};
	struct report *r;

	(void)state;
	if (run_case(one_pager_of_two, &c, &r) != END_WELL)
		fail_msg("%s %s %s", r->wrong, r->line[0], r->stderr_text);
	assert_int_equal(r->nlines, 1);
	assert_non_null(strstr(r->line[0], "pager 1 did not start: Cannot allocate memory"));
}

static void an_area_of_bad_slots_can_be_turned_off(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {.engine = (enum fl_engine)e, .second = true, .pagers = 2};
		struct report *r;

		if (run_case(off_with_bad_slots, &c, &r) != END_WELL)
			fail_msg("engine %d: %s %s %s", e, r->wrong, r->line[0], r->stderr_text);
		assert_int_equal(r->lost, 0);
	}
}

/* ---- what is read beside the page that is touched ---- */

#define BESIDE 64U

static uint64_t unreadable[BESIDE]; /* offsets of slots, */
static unsigned nunreadable;	    /* and how many there are just now; atomic */

static long some_slots_fail(enum blk_op op, const struct blk_dev *dev, uint64_t off, uint64_t len)
{
	/* pairs with cannot_be_read() */
	unsigned n = op == BLK_READ ? __atomic_load_n(&nunreadable, __ATOMIC_ACQUIRE) : 0;

	(void)dev;
	for (unsigned i = 0; i < n; i++)
		if (unreadable[i] >= off && unreadable[i] < off + len) {
			report->hits++;
			return -EIO;
		}
	return 0;
}

/* The slots of the pages from `from` on, which are all swapped out, cannot be read any more. */
static void cannot_be_read(struct mem *m, size_t from)
{
	struct mm *mm = *(struct mm **)(void *)m->fl; /* struct fl of api.c has no more than that */
	unsigned n = 0;

	for (size_t i = from; i < BESIDE; i++) {
		pte_t pte = pte_get(&mm->ptes, vpn_of((uintptr_t)m->base + i * PG));
		uint32_t run;

		if (pte_state(pte) != PTE_SWAPPED)
			wrong("page %zu is %s", i, pte_state_name(pte_state(pte)));
		swap_extent(&mm->swap, pte_swp(pte), 1, &unreadable[n++], &run);
	}
	report->hits = 0;
	/* pairs with some_slots_fail() */
	__atomic_store_n(&nunreadable, n, __ATOMIC_RELEASE);
}

/* Until every page is in its slot only. */
static void all_out(struct mem *m)
{
	unsigned char state[BESIDE];
	size_t out;

	do {
		if (fl_madvise(m->fl, m->base, BESIDE * PG, MADV_PAGEOUT) != 0 ||
		    fl_page_state(m->fl, m->base, BESIDE * PG, state) != 0)
			wrong("MADV_PAGEOUT");
		for (out = 0; out < BESIDE && FL_PAGE_KIND(state[out]) == FL_PAGE_SWAPPED; out++)
			;
	} while (out < BESIDE);
}

/* No read goes on any more, and no page is lost. */
static void none_lost(struct mem *m, const char *what)
{
	unsigned char state[BESIDE];
	bool busy = true;

	while (busy) {
		busy = false;
		if (fl_page_state(m->fl, m->base, BESIDE * PG, state) != 0)
			wrong("fl_page_state");
		for (size_t i = 0; i < BESIDE; i++) {
			if (FL_PAGE_KIND(state[i]) == FL_PAGE_POISONED)
				wrong("%s: page %zu is lost, which nobody touched", what, i);
			busy |= (state[i] & FL_PAGE_BUSY) != 0;
		}
	}
	__atomic_store_n(&nunreadable, 0, __ATOMIC_RELEASE);
	for (size_t i = 0; i < BESIDE; i++)
		mem_check(m, i, what);
}

static void beside(void *arg)
{
	struct mem m;

	struct fl *fl = open_runtime(arg);
	unsigned hits = 0;

	/* the queue is open, but nothing was read yet */
	blkio_inject = some_slots_fail;
	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < m.pages; i++)
		mem_fill(&m, i, false);
	for (unsigned round = 0; round < 20; round++) {
		/* in one window with the page that is touched, and in others ahead of it */
		fl_madvise(m.fl, m.base, BESIDE * PG, MADV_SEQUENTIAL);
		all_out(&m);
		cannot_be_read(&m, 17);
		mem_check(&m, 16, "the first page of a window");
		none_lost(&m, "a window");
		hits += report->hits != 0;
		/* in one that is being read when its first page is touched */
		all_out(&m);
		cannot_be_read(&m, 25);
		if (fl_madvise(m.fl, m.base + 24 * PG, 16 * PG, MADV_WILLNEED) != 0)
			wrong("MADV_WILLNEED");
		mem_check(&m, 24, "the first page of what is read ahead");
		none_lost(&m, "read ahead");
		hits += report->hits != 0;
		/* asked for by nobody's touch, with neighbours that come by their slots */
		fl_madvise(m.fl, m.base, BESIDE * PG, MADV_NORMAL);
		all_out(&m);
		cannot_be_read(&m, 0);
		if (fl_prefetch(m.fl, m.base, BESIDE * PG, -1) != 0)
			wrong("fl_prefetch");
		none_lost(&m, "prefetched");
		hits += report->hits != 0;
		all_out(&m);
		cannot_be_read(&m, 41);
		mem_check(&m, 40, "a single page");
		none_lost(&m, "read along");
	}
	if (report->lost != 0 || hits != 60)
		wrong("%u pages were lost, of 60 steps %u met an error", report->lost, hits);
	/* one that is touched is */
	all_out(&m);
	cannot_be_read(&m, 33);
	mem_check(&m, 33, "touched");
	if (report->lost != 1 || !m.lost[33])
		wrong("the page that was touched is not lost");
	__atomic_store_n(&nunreadable, 0, __ATOMIC_RELEASE);
	if (fl_close(m.fl) != 0)
		wrong("fl_close");
}

static void what_is_not_touched_is_not_lost(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {.engine = (enum fl_engine)e};
		struct report *r;

		if (run_case(beside, &c, &r) != END_WELL)
			fail_msg("engine %d: %s %s", e, r->wrong, r->line[0]);
		assert_int_equal(lines_with(r, "the page is lost (SIGBUS)"), 1);
	}
}

/* ---- a source that pagers have no memory to write to ---- */

static int read_zeros(void *ctx, uint64_t offset, void *buf, size_t length)
{
	(void)ctx;
	(void)offset;
	memset(buf, 0, length);
	return 0;
}

static int write_nothing(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	(void)ctx;
	(void)offset;
	(void)buf;
	(void)length;
	wrong("there was memory to write");
}

static long mmap_on_no_pager(long a, long b, long c, long d, long e, long f)
{
	if (sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0) != getpid())
		return -ENOMEM;
	return sys_bare(sys_table[SYSROW_mmap].nr, a, b, c, d, e, f);
}

static void close_without_memory(void *arg)
{
	static const struct fl_backing_ops ops = {
		.size = sizeof(ops), .read = read_zeros, .write = write_nothing};
	struct fl *fl = open_runtime(arg);
	struct fl_backing *backing;
	char *p = MAP_FAILED;

	if (fl_backing_open(fl, &backing, &ops, NULL, 8 * PG) == 0)
		p = fl_mmap_backing(fl, NULL, 8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, backing,
				    0);
	if (p == MAP_FAILED)
		wrong("fl_mmap_backing");
	memset(p, 1, 8 * PG);
	if (fl_munmap(fl, p, 8 * PG) != 0)
		wrong("fl_munmap");
	sys_table[SYSROW_mmap].fn = mmap_on_no_pager;
	if (fl_backing_close(backing) != -ENOMEM)
		wrong("fl_backing_close has not said that it lost pages");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void what_is_not_written_for_want_of_memory_is_said_to_be_lost(void **state)
{
	struct io_case c = {.engine = FL_ENGINE_SYNC};
	struct report *r;

	(void)state;
	if (run_case(close_without_memory, &c, &r) != END_WELL)
		fail_msg("%s %s %s", r->wrong, r->line[0], r->stderr_text);
	assert_int_equal(r->nlines, 1);
	assert_non_null(strstr(r->line[0], "8 pages that could not be written are lost: Cannot "
					   "allocate memory"));
}

/* ---- calls beside a thread that replaces memory ---- */

struct beside {
	struct fl *fl;
	int (*call)(struct fl *fl);
	int result;
	uint32_t done; /* atomic */
};

static int take_first_off(struct fl *fl)
{
	return fl_swapoff(fl, case_file(0));
}

static int lower_limit(struct fl *fl)
{
	return fl_set_limit(fl, FL_LIMIT_MIN);
}

static void *call_beside(void *arg)
{
	struct beside *b = arg;

	b->result = b->call(b->fl);
	__atomic_store_n(&b->done, 1, __ATOMIC_RELEASE); /* pairs with while_replaced() */
	return NULL;
}

/* Until the memory was replaced neither call ends. */
static bool has_begun(const struct mm *mm, uint64_t limit)
{
	const struct swap_area *a = mm->swap.area[0];

	return (a != NULL && __atomic_load_n(&a->leaving, __ATOMIC_RELAXED)) ||
	       __atomic_load_n(&mm->limit, __ATOMIC_RELAXED) != limit;
}

/* The call begins when the memory was replaced, and no pager knows of that yet. */
static void while_replaced(struct mem *m, size_t pages, int (*call)(struct fl *fl))
{
	struct mm *mm = *(struct mm **)(void *)m->fl; /* struct fl of api.c has no more than that */
	const long start = (long)m->base, end = start + (long)(pages * PG);
	const uint64_t limit = mm->limit;
	struct beside b = {.fl = m->fl, .call = call};
	pthread_t thread;

	if (hop_call(mm, HOP_FLAGS, start, end, REGION_HELD, 0, 0, 0, 0) != 0 ||
	    sys_bare(SYS_mmap, start, end - start, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != start)
		wrong("the memory cannot be replaced");
	if (pthread_create(&thread, NULL, call_beside, &b) != 0)
		wrong("pthread_create");
	for (unsigned i = 0; !__atomic_load_n(&b.done, __ATOMIC_ACQUIRE) && !has_begun(mm, limit);
	     i++)
		test_yield(i);
	if (hop_call(mm, HOP_FORGET, start, end, 0, 0, 0, 0, 0) != 0)
		wrong("HOP_FORGET");
	pthread_join(thread, NULL);
	if (b.result != 0)
		wrong("beside who replaces memory: %s", strerror(-b.result));
	for (size_t i = pages; i < m->pages; i++)
		mem_check(m, i, "beside what was replaced");
}

static void calls_beside_who_replaces(void *arg)
{
	struct fl *fl = open_runtime(arg);
	struct mem m;

	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < PAGES; i++)
		mem_fill(&m, i, false);
	all_out(&m);
	while_replaced(&m, BESIDE, take_first_off);
	if (fl_set_limit(fl, 2 * FL_LIMIT_MIN) != 0)
		wrong("fl_set_limit");
	for (size_t i = BESIDE; i < PAGES; i++)
		mem_check(&m, i, "before they are replaced");
	m.base += BESIDE * PG;
	m.shadow += BESIDE * PG;
	m.pages -= BESIDE;
	while_replaced(&m, PAGES - 2 * BESIDE, lower_limit);
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

/* Who replaces it does not come to an end. */
static void limit_beside_who_hangs(void *arg)
{
	struct fl *fl = open_runtime(arg);
	struct fl_stats st;
	struct mem m;
	struct mm *mm;
	long start;

	if (fl_set_limit(fl, 2 * FL_LIMIT_MIN) != 0 || !mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < PAGES; i++)
		mem_fill(&m, i, false);
	mm = *(struct mm **)(void *)fl; /* struct fl of api.c has no more than that */
	start = (long)m.base;
	if (hop_call(mm, HOP_FLAGS, start, start + (long)(PAGES * PG), REGION_HELD, 0, 0, 0, 0) !=
	    0)
		wrong("the memory cannot be held");
	if (fl_set_limit(fl, FL_LIMIT_MIN) != -ENOMEM)
		wrong("fl_set_limit has found room");
	fl_stats(fl, &st, sizeof(st));
	if (st.limit != 2 * FL_LIMIT_MIN / PG)
		wrong("the limit is not as before");
	if (hop_call(mm, HOP_FLAGS, start, start + (long)(PAGES * PG), 0, REGION_HELD, 0, 0, 0) !=
		    0 ||
	    fl_set_limit(fl, FL_LIMIT_MIN) != 0)
		wrong("fl_set_limit");
	mem_check_all(&m, "with a lower limit");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void a_lower_limit_waits_for_nobody_for_ever(void **state)
{
	struct io_case c = {.engine = FL_ENGINE_URING};
	struct report *r;

	(void)state;
	if (run_case(limit_beside_who_hangs, &c, &r) != END_WELL)
		fail_msg("%s %s", r->wrong, r->line[0]);
}

static void calls_wait_for_who_replaces_memory(void **state)
{
	(void)state;
	for (unsigned pagers = 1; pagers <= 2; pagers++) {
		struct io_case c = {.engine = FL_ENGINE_URING, .second = true, .pagers = pagers};
		struct report *r;

		if (run_case(calls_beside_who_replaces, &c, &r) != END_WELL)
			fail_msg("%u pagers: %s %s", pagers, r->wrong, r->line[0]);
	}
}

/* ---- an area that is turned off while another is read ---- */

static uint32_t reads_held; /* atomic: of the first area, on their pager */

static long first_area_is_slow(enum blk_op op, const struct blk_dev *dev, uint64_t off,
			       uint64_t len)
{
	(void)off;
	(void)len;
	if (op != BLK_READ || strcmp(dev->name, case_file(0)) != 0)
		return 0;
	__atomic_fetch_add(&reads_held, 1, __ATOMIC_RELEASE); /* pairs with off_beside() */
	while (!__atomic_load_n(&let_go, __ATOMIC_ACQUIRE))
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	return 0;
}

static void *read_first_page(void *mem)
{
	mem_check(mem, 0, "while another area is turned off");
	return NULL;
}

static void off_beside(void *arg)
{
	struct fl *fl = open_runtime(arg);
	pthread_t thread;
	struct mem m;

	/* the queues are open, but nothing was read yet */
	blkio_inject = first_area_is_slow;
	if (!mem_map(&m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	for (size_t i = 0; i < m.pages; i++)
		mem_fill(&m, i, false);
	/* frames are free, so that nothing else is to be done */
	if (fl_madvise(fl, m.base, PAGES * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT");
	all_out(&m);
	if (pthread_create(&thread, NULL, read_first_page, &m) != 0)
		wrong("pthread_create");
	for (unsigned i = 0; __atomic_load_n(&reads_held, __ATOMIC_ACQUIRE) == 0; i++)
		test_yield(i);
	if (fl_swapoff(fl, case_file(1)) != 0)
		wrong("fl_swapoff");
	__atomic_store_n(&let_go, 1, __ATOMIC_RELEASE);
	if (pthread_join(thread, NULL) != 0)
		wrong("pthread_join");
	mem_check_all(&m, "after the other area was turned off");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void an_area_is_turned_off_whatever_else_is_read(void **state)
{
	(void)state;
	for (int e = FL_ENGINE_URING; e <= FL_ENGINE_SYNC; e++) {
		struct io_case c = {.engine = (enum fl_engine)e, .second = true, .pagers = 2};
		struct report *r;

		if (run_case(off_beside, &c, &r) != END_WELL)
			fail_msg("engine %d: %s %s %s", e, r->wrong, r->line[0], r->stderr_text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(workload_alone),
		cmocka_unit_test(read_errors),
		cmocka_unit_test(write_errors),
		cmocka_unit_test(short_reads),
		cmocka_unit_test(short_writes),
		cmocka_unit_test(torn_writes),
		cmocka_unit_test(flipped_bits),
		cmocka_unit_test(lasting),
		cmocka_unit_test(area_goes_off),
		cmocka_unit_test(nowhere_to_write),
		cmocka_unit_test(an_area_of_bad_slots_can_be_turned_off),
		cmocka_unit_test(a_pager_that_cannot_start_says_why),
		cmocka_unit_test(what_is_not_touched_is_not_lost),
		cmocka_unit_test(an_area_is_turned_off_whatever_else_is_read),
		cmocka_unit_test(what_is_not_written_for_want_of_memory_is_said_to_be_lost),
		cmocka_unit_test(calls_wait_for_who_replaces_memory),
		cmocka_unit_test(a_lower_limit_waits_for_nobody_for_ever),
	};

	return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
