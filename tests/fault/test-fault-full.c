/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A full swap: eviction stops and no page is dropped; what cannot be promised
 * is refused with ENOMEM; and the process that needs one frame more than there
 * are is ended with one clear line, never given wrong bytes.
 */
#include "drive.h"
#include "swap-area.h"

#include <sys/mman.h>

#define SLOTS 64U
#define LIMIT (FL_LIMIT_MIN / PG)

static struct fl *open_tiny(void)
{
	const struct fl_swap_spec area = {.path = case_file(0), .prio = 5};
	const struct fl_options o = {
		.size = sizeof(o),
		.limit = FL_LIMIT_MIN,
		.areas = &area,
		.nareas = 1,
		.log_level = FL_LOG_WARN,
		.log = collect_line,
	};
	char why[256];
	struct fl *fl;

	if (swap_format(case_file(0), SLOTS * PG, why, sizeof(why)) != 0)
		wrong("%s", why);
	if (fl_open(&fl, &o) != 0)
		wrong("fl_open: %s", report->line[0]);
	return fl;
}

/* As many pages as the limit less the read buffer, and the area, hold together. */
static void up_to_the_brim(void *arg)
{
	const size_t pages = LIMIT - LIMIT / 16 + SLOTS / 2;
	struct fl *fl = open_tiny();
	struct mem m;

	(void)arg;
	if (!mem_map(&m, fl, LIMIT + SLOTS, LIMIT + SLOTS))
		wrong("fl_mmap");
	m.pages = pages;
	for (size_t i = 0; i < pages; i++)
		mem_fill(&m, i, false);
	for (unsigned round = 0; round < 3; round++) {
		mem_check_all(&m, "at the brim");
		for (unsigned i = 0; i < 200; i++)
			mem_change(&m, mem_random(&m) % pages);
	}
	mem_check_all(&m, "at the brim, changed");
	fl_stats(fl, &report->stats, sizeof(report->stats));
	if (report->nlines != 0)
		wrong("a line without a reason: %s", report->line[0]);
	/* what is given back can be used again */
	if (fl_madvise(fl, m.base, 100 * PG, MADV_DONTNEED) != 0)
		wrong("MADV_DONTNEED");
	mem_zeroed(&m, 0, 100);
	for (size_t i = 0; i < 100; i++)
		mem_fill(&m, i, false);
	mem_check_all(&m, "filled again");
	if (fl_close(fl) != 0)
		wrong("fl_close");
	m.fl = NULL;
	mem_check_all(&m, "after fl_close");
}

/* One request beyond all there is fails as heuristic overcommit does. */
static void too_much(void *arg)
{
	struct fl *fl = open_tiny();
	struct mem m;
	void *p;

	(void)arg;
	if (!mem_map(&m, fl, LIMIT + SLOTS / 2, LIMIT + SLOTS / 2))
		wrong("fl_mmap");
	p = fl_mmap(fl, NULL, 4 * LIMIT * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (p != FL_FAILED || errno != ENOMEM)
		wrong("a mapping of four times the limit: %p, %s", p, strerror(errno));
	for (size_t i = 0; i < 100; i++)
		mem_fill(&m, i, false);
	mem_check_all(&m, "after a refusal");
}

/* Touch on until the end, which must come; every page is checked before that. */
static void over_the_brim(void *arg)
{
	struct fl *fl = open_tiny();
	struct mem m;
	void *p;

	(void)arg;
	if (!mem_map(&m, fl, LIMIT + SLOTS, LIMIT + SLOTS))
		wrong("fl_mmap");
	m.pages = 0;
	for (size_t i = 0; i < LIMIT + SLOTS; i++) {
		mem_fill(&m, i, false);
		m.pages = i + 1;
		report->lost = (unsigned)m.pages; /* for the parent: how far it came */
		if (i % 64 == 63)
			mem_check_all(&m, "before the end");
		/* when the area is full nothing new is promised */
		p = fl_mmap(fl, NULL, 256 * PG, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == FL_FAILED)
			count_refusal("fl_mmap", -errno);
		else if (fl_munmap(fl, p, 256 * PG) != 0)
			wrong("fl_munmap");
	}
	wrong("%zu pages were filled where there is room for fewer", m.pages);
}

static void brim(void **state)
{
	struct report *r;
	enum ending end = run_case(up_to_the_brim, NULL, &r);

	(void)state;
	if (end != END_WELL)
		fail_msg("%s %s %s", r->wrong, r->line[0], r->stderr_text);
	assert_true(r->stats.evicted != 0);
	assert_true(r->stats.slots_used <= r->stats.slots_total);
	assert_true(r->stats.resident_max <= LIMIT);
}

static void refusal(void **state)
{
	struct report *r;
	enum ending end = run_case(too_much, NULL, &r);

	(void)state;
	if (end != END_WELL)
		fail_msg("%s %s %s", r->wrong, r->line[0], r->stderr_text);
}

static void over(void **state)
{
	struct report *r;
	enum ending end = run_case(over_the_brim, NULL, &r);

	(void)state;
	if (end != END_KILLED)
		fail_msg("ending %d after %u pages: %s %s %s", (int)end, r->lost, r->wrong,
			 r->line[0], r->stderr_text);
	assert_int_equal(lines_with(r, "out of memory"), 1);
	assert_true(r->refused != 0);
	/* not before frames and slots are used up */
	assert_true(r->lost >= LIMIT - LIMIT / 16 + SLOTS / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(brim),
		cmocka_unit_test(refusal),
		cmocka_unit_test(over),
	};

	return cmocka_run_group_tests_name("full", tests, NULL, NULL);
}
