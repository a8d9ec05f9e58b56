/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every system call that held mappings and fl_sync() make fails in turn.
 *
 * As test-fault-files.c.  What may come of a failure: a call of the application
 * is refused; a fl_sync() fails, and then the file has of each page what was
 * synced before or what is held, and memory has all that was stored; SIGBUS that
 * goes away when the failure does; the end of the process with one line.  What is
 * in the file otherwise is what the last good fl_sync() wrote.
 */
#include "mapped.h"

#include <sys/mman.h>

#define PAGES 700U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* What the file holds since the last fl_sync() that was good. */
static char synced[PAGES * PG];

/* ---- the workload ---- */

/* The file's pages are as they were synced, or (a sync failed) as they are. */
static void check_file(struct file *f, bool failed, const char *what)
{
	at(what);
	for (size_t i = 0; i < f->pages; i++) {
		const void *page = page_in_file(f, i, what);

		if (memcmp(page, synced + i * PG, PG) != 0 &&
		    !(failed && memcmp(page, f->shadow + i * PG, PG) == 0))
			wrong("%s: page %zu is not what was synced", what, i);
		if (failed)
			memcpy(synced + i * PG, page, PG);
	}
}

static void sync_and_look(struct file *f)
{
	check_file(f, false, "before a sync");
	if (did("fl_sync", fl_sync(f->fl, f->map, f->pages * PG))) {
		memcpy(synced, f->shadow, f->pages * PG);
		check_file(f, false, "synced");
	} else {
		check_file(f, true, "a sync failed");
	}
	check_all(f, "after a sync");
}

static void change_some(struct file *f, size_t first, size_t step)
{
	at("changes");
	for (size_t i = first; i < f->pages; i += step)
		change_page(f, i);
}

static void drop_some(struct file *f)
{
	if (!did("drop", fl_madvise(f->fl, f->map + 50 * PG, 20 * PG, MADV_DONTNEED)))
		return;
	memcpy(f->shadow + 50 * PG, synced + 50 * PG, 20 * PG);
	for (size_t i = 50; i < 70; i++)
		check_page(f, i, "dropped");
}

static void workload(void *load)
{
	static struct file f;
	int r;

	file_begin(&f, load, PAGES, MAP_SHARED | FL_MAP_HOLD);
	memcpy(synced, f.shadow, PAGES * PG);
	change_some(&f, 0, 1);
	check_all(&f, "after changes");
	sync_and_look(&f);
	change_some(&f, 0, 3);
	did("pageout", fl_madvise(f.fl, f.map, 100 * PG, MADV_PAGEOUT));
	change_some(&f, 1, 7);
	sync_and_look(&f);
	change_some(&f, 40, 1);
	drop_some(&f);
	check_all(&f, "after a drop");
	sync_and_look(&f);
	sync_and_look(&f);
	change_some(&f, 0, 2);
	fl_stats(f.fl, &report->stats, sizeof(report->stats));
	r = fl_sync(f.fl, f.map, f.pages * PG);
	if (r == 0)
		memcpy(synced, f.shadow, f.pages * PG);
	if (file_close(&f))
		check_file(&f, r != 0, "after fl_close");
}

/* ---- what fails, and how ---- */

static const struct row rows[] = {
	{ROW(uffd_writeprotect), .err = {-EAGAIN, -ENOENT, -ENOMEM}},
	{ROW(uffd_copy), .err = {-EAGAIN, -ENOMEM, ERR_PARTIAL}, .lasting = {ERR_PARTIAL}},
	{ROW(uffd_move), .err = {-EAGAIN, -EBUSY, ERR_PARTIAL}},
	{ROW(pread), .err = {-EIO, -EINTR, ERR_PARTIAL}, .lasting = {-EIO}},
	{ROW(mmap), .err = {-ENOMEM, -EAGAIN}, .lasting = {-ENOMEM}},
	{ROW(fstat), .err = {-EIO, -ENOMEM}},
	{ROW(uring_enter), .err = {-EAGAIN, -EINTR, -ENOMEM}, .lasting = {-EAGAIN}},
	{SYNC_ROW(pread), .err = {-EIO, -EINVAL, ERR_PARTIAL}},
	{SYNC_ROW(pwrite), .err = {-EIO, -EINVAL, -ENOSPC, ERR_PARTIAL}, .lasting = {-ENOSPC}},
	{SYNC_ROW(fsync), .err = {-EIO, -ENOSPC}, .lasting = {-EIO}},
};

static const char *lacks(const struct load *load, const struct report *r)
{
	(void)load;
	return r->stats.evicted == 0 || r->stats.file_writes == 0 ? "page" : NULL;
}

int main(void)
{
	static const struct sweep s = {
		.name = "held",
		.workload = workload,
		.lacks = lacks,
		.rows = rows,
		.nrows = sizeof(rows) / sizeof(rows[0]),
		.first = 2,
		.sample = 1,
		.begins = 1,
		.parts = 2,
	};

	return sweep_run(&s);
}
