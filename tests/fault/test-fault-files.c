/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call that mappings of files make fails in turn.
 *
 * As test-fault-calls.c: a small workload, at a limit below its file, is run once
 * to count the calls of each row, and then with one call failed, or all from
 * some point on.  What may come of it: a call of the application is refused and
 * changes nothing; SIGBUS that goes away when the failure does; an error of
 * fl_msync(), after which nothing is lost that could be written; the end of the
 * process with one line, where a failure lasts.  What a good fl_msync() wrote is
 * in the file.
 */
#include "mapped.h"

#include <sys/mman.h>

#define PAGES 600U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* The file itself is as the shadow. */
static void check_file(struct file *f, const char *what)
{
	at(what);
	for (size_t i = 0; i < f->pages; i++)
		if (memcmp(page_in_file(f, i, what), f->shadow + i * PG, PG) != 0)
			wrong("%s: page %zu is not what was stored", what, i);
}

static void random_changes(struct file *f, unsigned n)
{
	at("random");
	for (unsigned i = 0; i < n; i++) {
		size_t page = (f->rng >> 33) % f->pages;

		change_page(f, page);
		check_page(f, (page * 7 + i) % f->pages, "random");
	}
}

/* ---- the workload ---- */

static void sync_and_look(struct file *f)
{
	if (did("fl_msync", fl_msync(f->fl, f->map, f->pages * PG, MS_SYNC)))
		check_file(f, "synced");
}

static void private_mapping(struct file *f)
{
	char *p, *shared = f->map;
	size_t n = f->pages / 2;

	at("private fl_mmap");
	p = fl_mmap(f->fl, NULL, n * PG, RW, MAP_PRIVATE, f->fd, 0);
	if (p == FL_FAILED) {
		count_refusal("private fl_mmap", -errno);
		return;
	}
	at("private");
	f->map = p;
	for (size_t i = 0; i < n; i++)
		if (i % 3 != 0)
			check_page(f, i, "private");
	f->map = shared;
	did("private fl_munmap", fl_munmap(f->fl, p, n * PG));
}

/* One that may only be read, parts of which become writable: what is locked is read for that. */
static void private_reading(struct file *f)
{
	char *p, *shared = f->map;
	size_t n = f->pages / 3;

	at("fl_mmap to read");
	p = fl_mmap(f->fl, NULL, n * PG, PROT_READ, MAP_PRIVATE, f->fd, 0);
	if (p == FL_FAILED) {
		count_refusal("fl_mmap to read", -errno);
		return;
	}
	at("reading");
	f->map = p;
	for (size_t i = 0; i < n; i += 2)
		check_page(f, i, "read");
	did("fl_mprotect", fl_mprotect(f->fl, p + 50 * PG, 30 * PG, RW));
	at("reading what became writable");
	for (size_t i = 40; i < 90; i++)
		check_page(f, i, "became writable");
	if (did("fl_mlock", fl_mlock(f->fl, p + 100 * PG, 20 * PG)))
		did("fl_mprotect of what is locked", fl_mprotect(f->fl, p + 90 * PG, 40 * PG, RW));
	at("reading what is locked");
	for (size_t i = 80; i < n; i++)
		check_page(f, i, "became writable, locked");
	f->map = shared;
	did("private fl_munmap", fl_munmap(f->fl, p, n * PG));
}

static void move(struct file *f)
{
	void *p;

	at("fl_mremap");
	p = fl_mremap(f->fl, f->map, f->pages * PG, f->pages * PG, MREMAP_MAYMOVE);
	if (p == FL_FAILED)
		count_refusal("fl_mremap", -errno);
	else
		f->map = p;
}

static void map_again(struct file *f)
{
	void *p;

	at("fl_mmap over a part");
	p = fl_mmap(f->fl, f->map + 100 * PG, 50 * PG, RW, MAP_SHARED | MAP_FIXED, f->fd, 100 * PG);
	if (p == FL_FAILED) {
		count_refusal("fl_mmap over a part", -errno);
		/* what was there may be gone: as mmap(2) after it has unmapped */
		at("fl_mmap of all");
		fl_munmap(f->fl, f->map, f->pages * PG);
		p = fl_mmap(f->fl, NULL, f->pages * PG, RW, MAP_SHARED, f->fd, 0);
		if (p == FL_FAILED)
			refused();
		f->map = p;
	}
}

static void shorten(struct file *f)
{
	size_t n = f->pages - 20;

	at("changes to what is cut off");
	for (size_t i = n; i < f->pages; i += 3)
		change_page(f, i);
	if (!did("fl_ftruncate", fl_ftruncate(f->fl, f->fd, (off_t)(n * PG + 100))))
		return;
	memset(f->shadow + n * PG + 100, 0, 20 * PG - 100);
	for (unsigned tries = 0;
	     !did("fl_ftruncate", fl_ftruncate(f->fl, f->fd, (off_t)(f->pages * PG))); tries++)
		if (tries == 3)
			refused();
}

static void remove_part(struct file *f)
{
	if (did("MADV_REMOVE", fl_madvise(f->fl, f->map + 200 * PG, 20 * PG, MADV_REMOVE)))
		memset(f->shadow + 200 * PG, 0, 20 * PG);
}

static void workload(void *load)
{
	static struct file f;
	int r;

	file_begin(&f, load, PAGES, MAP_SHARED);
	check_all(&f, "first look");
	random_changes(&f, 60);
	sync_and_look(&f);
	for (size_t i = 0; i < f.pages; i += 2)
		change_page(&f, i);
	check_all(&f, "after changes");
	private_mapping(&f);
	private_reading(&f);
	move(&f);
	random_changes(&f, 30);
	did("pageout", fl_madvise(f.fl, f.map, 64 * PG, MADV_PAGEOUT));
	did("willneed", fl_madvise(f.fl, f.map, 64 * PG, MADV_WILLNEED));
	map_again(&f);
	remove_part(&f);
	shorten(&f);
	sync_and_look(&f);
	random_changes(&f, 30);
	sync_and_look(&f);
	check_all(&f, "the last look");
	fl_stats(f.fl, &report->stats, sizeof(report->stats));
	r = fl_msync(f.fl, f.map, f.pages * PG, MS_SYNC);
	if (file_close(&f) && r == 0)
		check_file(&f, "after fl_close");
}

/* ---- what fails, and how ---- */

static const struct row rows[] = {
	{ROW(uffd_continue), .err = {-EAGAIN, -ENOMEM, -ENOENT, ERR_PARTIAL},
	 .lasting = {ERR_PARTIAL}},
	{ROW(uffd_writeprotect), .err = {-EAGAIN, -ENOENT, -ENOMEM}},
	{ROW(uffd_register), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, ERR_PARTIAL}, .lasting = {ERR_PARTIAL}},
	{ROW(fallocate), .err = {-EINTR, -ENOMEM}},
	{ROW(ftruncate), .err = {-EINTR, -ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(memfd_create), .err = {-ENOMEM, -EMFILE}, .lasting = {-EMFILE}},
	{ROW(pidfd_getfd), .err = {-EMFILE, -EPERM}, .lasting = {-EPERM}},
	{ROW(openat), .err = {-EACCES, -EMFILE}},
	{ROW(fstat), .err = {-EIO, -ENOMEM}},
	{ROW(fcntl), .err = {-EINVAL}},
	{ROW(mmap), .err = {-ENOMEM, -EAGAIN}, .lasting = {-ENOMEM}},
	{ROW(mprotect), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(mremap), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(uffd_unregister), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(munmap), .err = {-ENOMEM}, .lasting = {-ENOMEM}},
	{ROW(madvise), .err = {-ENOMEM, -EAGAIN}},
	{ROW(uring_enter), .err = {-EAGAIN, -EINTR, -ENOMEM}, .lasting = {-EAGAIN}},
	{SYNC_ROW(pread), .err = {-EIO, -EINVAL, ERR_PARTIAL}, .lasting = {-EIO, ERR_PARTIAL}},
	{SYNC_ROW(pwrite), .err = {-EIO, -EINVAL, -ENOSPC, ERR_PARTIAL}, .lasting = {-ENOSPC}},
	{SYNC_ROW(fsync), .err = {-EIO, -ENOSPC}, .lasting = {-EIO}},
};

static const char *lacks(const struct load *load, const struct report *r)
{
	(void)load;
	return r->stats.file_dropped == 0 || r->stats.file_writes == 0 ? "page" : NULL;
}

int main(void)
{
	static const struct sweep s = {
		.name = "files",
		.workload = workload,
		.lacks = lacks,
		.rows = rows,
		.nrows = sizeof(rows) / sizeof(rows[0]),
		.first = 3,
		.sample = 2,
		.begins = 1,
		.parts = 2,
	};

	return sweep_run(&s);
}
