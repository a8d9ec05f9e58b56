/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call of the paging path fails in turn.
 *
 * A small workload that makes every kind of call at a limit below its memory
 * is run once to count the calls of each row of the table in sys.h, and then
 * again and again with one call of one row failed: each of the first, a
 * seeded sample of the others, with each error that the call really returns;
 * and, where an error can last, with all calls from some point on.
 */
#include "rows.h"
#include "swap-area.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGES 720U
#define GROWN 784U
#define ROOM 800U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* ---- the workload ---- */

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
	/* what is between is not there when it is registered, nor when that failed */
	for (size_t i = 0; i < other.pages; i += 2)
		mem_fill(&other, i, i % 7 == 3);
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
	{ROW(uffd_move),
	 .err = {-EBUSY, -EAGAIN, -EINVAL, -ENOENT, -ENOMEM, ERR_PARTIAL, ERR_UNTOLD},
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

static const char *lacks(const struct load *load, const struct report *r)
{
	if (r->stats.evicted == 0 || r->stats.faults_swap == 0 || r->stats.write_pages == 0)
		return "page";
	if (load->compress != FL_COMPRESS_NONE &&
	    (r->stats.faults_compressed == 0 || r->stats.written_through == 0))
		return "compress";
	if ((r->stats.faults_in_thread != 0) != (load->map_flags != 0))
		return "answer its faults where it should";
	return NULL;
}

int main(void)
{
	static const struct sweep s = {
		.name = "calls",
		.workload = workload,
		.lacks = lacks,
		.rows = rows,
		.nrows = sizeof(rows) / sizeof(rows[0]),
		.first = 8,
		.sample = 4,
		.every = 2,
		.begins = 0,
		.parts = 3,
	};

	return sweep_run(&s);
}
