/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A bit flips in the pool of compressed pages: the page is lost, with SIGBUS
 * and a line that says so, whether it is touched or is to be written through;
 * all others are right, and the page is usable again once it was emptied.
 */
#include "drive.h"
#include "mm.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGES 640U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

static const enum fl_compress kinds[] = {FL_COMPRESS_LZ4, FL_COMPRESS_ZSTD};

static struct mm *mm_of(struct fl *fl)
{
	return *(struct mm **)(void *)fl; /* struct fl of api.c has no more than that */
}

static struct fl *open_tiered(enum fl_compress kind, struct mem *m)
{
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.swap_dir = getenv("TMPDIR"),
		.log_level = FL_LOG_WARN,
		.log = collect_line,
		.compress = kind,
		.pool = FL_LIMIT_MIN / 4,
	};
	struct fl *fl;

	if (fl_open(&fl, &o) != 0)
		wrong("fl_open: %s", report->line[0]);
	if (!mem_map(m, fl, PAGES, PAGES))
		wrong("fl_mmap");
	m->soft = true;
	return fl;
}

/* Spoil one bit in the middle of a page's object; the pager sleeps meanwhile. */
static void spoil(struct mem *m, size_t page)
{
	struct mm *mm = mm_of(m->fl);
	pte_t pte = pte_get(&mm->ptes, vpn_of((uintptr_t)m->base + page * PG));
	struct zobj_head *h;

	if (pte_state(pte) != PTE_COMPRESSED)
		wrong("page %zu is %s, not compressed", page, pte_state_name(pte_state(pte)));
	h = zpool_head(&mm->tier.pool, swp_object(pte_swp(pte)));
	((unsigned char *)(h + 1))[h->size / 2] ^= 0x40;
	report->hits++;
}

static void out(struct mem *m, size_t n)
{
	if (fl_madvise(m->fl, m->base, n * PG, MADV_PAGEOUT) != 0)
		wrong("MADV_PAGEOUT");
}

static void touched(void *arg)
{
	struct mem m;
	struct fl *fl = open_tiered(*(const enum fl_compress *)arg, &m);

	for (size_t i = 0; i < 64; i++)
		mem_fill(&m, i, false);
	out(&m, 64);
	for (size_t i = 1; i < 64; i += 8)
		spoil(&m, i);
	for (size_t i = 0; i < 64; i++)
		mem_check(&m, i, "beside spoilt ones");
	for (size_t i = 0; i < 64; i++)
		if (m.lost[i] != (i % 8 == 1))
			wrong("page %zu is %s", i, m.lost[i] ? "lost" : "not lost");
	/* emptied, it is a page like any other */
	if (fl_madvise(fl, m.base, 64 * PG, MADV_DONTNEED) != 0)
		wrong("MADV_DONTNEED");
	mem_zeroed(&m, 0, 64);
	for (size_t i = 0; i < 64; i++)
		mem_fill(&m, i, false);
	out(&m, 64);
	for (size_t i = 0; i < 64; i++)
		mem_check(&m, i, "filled again");
	fl_stats(fl, &report->stats, sizeof(report->stats));
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void a_touch_finds_it(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct report *r;
		enum fl_compress kind = kinds[k];

		if (run_case(touched, &kind, &r) != END_WELL)
			fail_msg("%s", r->wrong);
		assert_int_equal(r->lost, 8);
		assert_int_equal(r->stats.csum_errors, 8);
		assert_int_equal(r->nlines, 8);
		assert_int_equal(lines_with(r, "compressed page, address 0x"), 8);
		assert_int_equal(lines_with(r, "the page is lost (SIGBUS)"), 8);
	}
}

static void written(void *arg)
{
	struct mem m;
	struct fl *fl = open_tiered(*(const enum fl_compress *)arg, &m);
	struct fl_stats s;

	for (size_t i = 0; i < 64; i++)
		mem_fill(&m, i, false);
	out(&m, 64);
	for (size_t i = 1; i < 64; i += 8)
		spoil(&m, i);
	/* so much, and so often, that the first of them are written through: when, the pager decides */
	for (unsigned round = 0; round < 50; round++) {
		for (size_t i = 64; i < PAGES; i++) {
			mem_fill(&m, i, false);
			if (i % 64 == 63)
				out(&m, i + 1);
		}
		fl_stats(fl, &s, sizeof(s));
		if (s.csum_errors >= 8)
			break;
	}
	if (s.written_through == 0 || s.csum_errors != 8 || s.poisoned != 8)
		wrong("%lu written through, %lu found spoilt, %lu poisoned",
		      (unsigned long)s.written_through, (unsigned long)s.csum_errors,
		      (unsigned long)s.poisoned);
	mem_check_all(&m, "after writing through");
	for (size_t i = 0; i < PAGES; i++)
		if (m.lost[i] != (i < 64 && i % 8 == 1))
			wrong("page %zu is %s", i, m.lost[i] ? "lost" : "not lost");
	if (fl_close(fl) != 0)
		wrong("fl_close");
}

static void writing_through_finds_it(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct report *r;
		enum fl_compress kind = kinds[k];

		if (run_case(written, &kind, &r) != END_WELL)
			fail_msg("%s", r->wrong);
		assert_int_equal(r->lost, 8);
		assert_int_equal(lines_with(r, "the page is lost (SIGBUS)"), 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_touch_finds_it),
		cmocka_unit_test(writing_through_finds_it),
	};

	return cmocka_run_group_tests_name("tier", tests, NULL, NULL);
}
