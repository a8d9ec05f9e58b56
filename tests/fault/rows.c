/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rows.c - the calls of a workload fail in turn; see rows.h.
 */
#include "rows.h"

#include <stdlib.h>

#define CASES_MAX 256U

static const struct sweep *sweep;

/* ---- without failures ---- */

/* Calls of each row, by engine, dirty tracking, compression, in-thread or not. */
static unsigned long calls[3][3][2][2][SYSROW_COUNT];
static bool counted[3][3][2][2];

static struct load load_of(const struct row *row)
{
	return (struct load){
		.engine = row->engine,
		.wp = row->wp,
		.compress = row->compress,
		.map_flags = row->map_flags,
		.in = {.row = -1},
	};
}

static unsigned long *calls_of(const struct row *row)
{
	return calls[row->engine][row->wp][row->compress][row->map_flags != 0];
}

static void count_calls(const struct row *row)
{
	struct load load = load_of(row);
	struct report *r;
	enum ending end = run_case(sweep->workload, &load, &r);
	const char *lacks;

	if (end != END_WELL || r->refused != 0 || r->lost != 0 || r->nlines != 0)
		fail_msg("without a failure: %s (%u refused: %s, %u lost, %u lines: %s) at %s%s",
			 r->wrong, r->refused, r->last_refusal, r->lost, r->nlines, r->line[0],
			 r->at, r->stderr_text);
	lacks = sweep->lacks(&load, r);
	if (lacks != NULL)
		fail_msg("the workload does not %s", lacks);
	memcpy(calls_of(row), r->calls, sizeof(r->calls));
}

static void workload_alone(void **state)
{
	const char *soak = getenv("FAULT_SOAK");
	unsigned long times = soak != NULL ? strtoul(soak, NULL, 0) + 1 : 1;

	(void)state;
	for (unsigned long n = 0; n < times; n++) {
		memset(counted, 0, sizeof(counted));
		for (size_t i = 0; i < sweep->nrows; i++) {
			const struct row *row = &sweep->rows[i];
			bool *done =
				&counted[row->engine][row->wp][row->compress][row->map_flags != 0];

			if (!*done)
				count_calls(row);
			*done = true;
		}
	}
	if (getenv("FAULT_COUNTS") == NULL)
		return;
	for (size_t i = 0; i < sweep->nrows; i++)
		print_message("# %s: %lu\n", sys_table[sweep->rows[i].row].name,
			      calls_of(&sweep->rows[i])[sweep->rows[i].row]);
}

/* ---- with one ---- */

struct fault_case {
	const struct row *row;
	unsigned long nth;
	long err;
	bool persist;
};

static const char *error_text(long err)
{
	return err == ERR_PARTIAL   ? "a part"
	       : err == ERR_NOTHING ? "nothing"
	       : err == ERR_UNTOLD  ? "EEXIST after it was done"
				    : strerror((int)-err);
}

static void one(const void *cases, unsigned i, struct tally *t)
{
	const struct fault_case *fc = &((const struct fault_case *)cases)[i];
	struct load load = load_of(fc->row);
	struct report *r;
	enum ending end;
	const char *why = NULL;

	load.in = (struct injection){fc->row->row, fc->nth, fc->err, fc->persist};
	end = run_case(sweep->workload, &load, &r);
	if (r->hits != 0)
		__atomic_fetch_add(&t->hit, 1, __ATOMIC_RELAXED);
	if (end == END_BAD)
		why = r->wrong;
	else if (end == END_KILLED && !fc->persist)
		why = "one failure ended the process";
	else if (r->lost != 0 && !fc->row->may_lose)
		why = "a page was lost";
	else if (end == END_REFUSED && r->hits == 0)
		why = "refused without a failure";
	if (why == NULL)
		return;
	__atomic_fetch_add(&t->bad, 1, __ATOMIC_RELAXED);
	print_error("%s call %lu%s fails with %s: %s\n"
		    "    at %s; %u hits, %u refused (%s), %u lost\n    %s\n    %s\n    %s\n",
		    sys_table[fc->row->row].name, fc->nth, fc->persist ? " and all after" : "",
		    error_text(fc->err), why, r->at, r->hits, r->refused, r->last_refusal, r->lost,
		    r->line[0], r->line[1], r->stderr_text);
}

/* The i-th of those that are failed, of c calls: first each, then a sample. */
static unsigned long pick(unsigned i, unsigned long c, uint64_t *rng)
{
	if (i < sweep->first || c <= sweep->first + sweep->sample)
		return i + 1;
	*rng = *rng * 6364136223846793005U + 1442695040888963407U;
	return sweep->first + 1 + (*rng >> 33) % (c - sweep->first);
}

/* The cases of a row that makes c calls; how many. */
static unsigned plan(const struct row *row, unsigned long c, struct fault_case *fc)
{
	unsigned most = sweep->first + sweep->sample;
	unsigned picked = c < most ? (unsigned)c : most;
	uint64_t rng = (uint64_t)row->row + 1;
	unsigned nerr = 0, n = 0;

	while (nerr < ERRS && row->err[nerr] != 0)
		nerr++;
	assert_true((sweep->first + sweep->sample + sweep->parts) * ERRS <= CASES_MAX);
	for (unsigned i = 0; i < picked; i++) {
		unsigned long nth = pick(i, c, &rng);

		for (unsigned e = 0; e < nerr; e++)
			if (i < sweep->every || e == i % nerr)
				fc[n++] = (struct fault_case){row, nth, row->err[e], false};
	}
	for (unsigned e = 0; e < ERRS && row->lasting[e] != 0; e++)
		for (unsigned k = sweep->begins; k < sweep->parts; k++)
			fc[n++] = (struct fault_case){row, 1 + c * k / sweep->parts,
						      row->lasting[e], true};
	return n;
}

static void row_fails(void **state)
{
	const struct row *row = *state;
	const char *text = getenv("FAULT_NTH");
	unsigned long only = text != NULL ? strtoul(text, NULL, 0) : 0;
	unsigned long c = calls_of(row)[row->row];
	struct fault_case fc[CASES_MAX];
	unsigned n, kept = 0;
	struct tally t;

	assert_true(c != 0);
	n = plan(row, c, fc);
	for (unsigned i = 0; i < n; i++)
		if (only == 0 || fc[i].nth == only)
			fc[kept++] = fc[i];
	t = in_lanes(fc, kept, one);
	if (t.bad != 0)
		fail_msg("%u of %u cases", t.bad, kept);
	/* what a run calls depends on timing, but not that much */
	if (only == 0 && t.hit * 2 < kept)
		fail_msg("of %u cases only %u met a failure", kept, t.hit);
}

int sweep_run(const struct sweep *s)
{
	const char *only = getenv("FAULT_ROW");
	struct CMUnitTest *tests = calloc(s->nrows + 1, sizeof(*tests));
	size_t n = 1;
	int failed;

	if (tests == NULL)
		return 1;
	sweep = s;
	tests[0] = (struct CMUnitTest)cmocka_unit_test(workload_alone);
	for (size_t i = 0; i < s->nrows; i++) {
		const char *name = sys_table[s->rows[i].row].name;

		if (only != NULL && strcmp(only, name) != 0)
			continue;
		tests[n++] = (struct CMUnitTest){
			.name = name,
			.test_func = row_fails,
			.initial_state = (void *)(uintptr_t)&s->rows[i],
		};
	}
	failed = _cmocka_run_group_tests(s->name, tests, n, NULL, NULL);
	free(tests);
	return failed;
}
