/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * rows.h - the system calls of a workload fail in turn, row by row of the table
 * in sys.h: what the tests of failing calls share.
 *
 * A workload is run once in each way that the rows name, to count the calls of
 * each row, and then again and again with one call of one row failed, or all
 * calls from some point on.
 *
 * FAULT_ROW runs one row only, FAULT_NTH one call of it; FAULT_SOAK repeats the
 * runs without failures that often; FAULT_COUNTS prints how many calls there were.
 */
#ifndef FL_TEST_ROWS_H
#define FL_TEST_ROWS_H

#include "drive.h"

#define ERRS 8

/* What a workload is given, in its child. */
struct load {
	enum fl_engine engine;
	enum fl_wp wp;
	enum fl_compress compress;
	int map_flags;
	struct injection in;
};

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

struct sweep {
	const char *name;
	void (*workload)(void *load);
	/* NULL, or what a run without failures did not do */
	const char *(*lacks)(const struct load *load, const struct report *r);
	const struct row *rows;
	size_t nrows;
	unsigned first;		/* of a row's calls, that many fail in turn, */
	unsigned sample;	/* and of the others so many; */
	unsigned every;		/* the first of them with every error, the others with one each */
	unsigned begins, parts; /* what lasts does so from k/parts of the calls on, k from begins */
};

/* All of it, as a group of cmocka's tests: what main() returns. */
int sweep_run(const struct sweep *s);

#endif
