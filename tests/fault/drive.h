/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * drive.h - what the fault tests share: cases in children, system calls that
 * fail on purpose, memory with a shadow.
 *
 * A case runs in a child process, which may be ended by a signal, by the
 * runtime or by its time bound; what it has to tell is in a report that parent
 * and child share.  The memory of a case (struct mem) has a shadow of plain
 * memory that is changed alike, and every page is compared word by word.
 *
 * What may come of a fault: a call of the application fails and changes
 * nothing; the bytes are right; SIGBUS on a page that is poisoned; the process
 * is ended with one clear line.  Wrong bytes, a hang and any other signal fail
 * the test.
 */
#ifndef FL_TEST_DRIVE_H
#define FL_TEST_DRIVE_H

#include "../unit/test.h"

#include "faultline.h"
#include "sys.h"

#include <stdbool.h>
#include <stdint.h>

#define PG 4096UL
#define LINES_MAX 64U

struct report {
	char wrong[512];  /* what the child found wrong; empty: nothing */
	char at[128];	  /* what it did last */
	unsigned refused; /* calls that failed */
	char last_refusal[128];
	unsigned lost;	 /* pages that raised SIGBUS, each poisoned */
	unsigned hits;	 /* injected failures */
	unsigned nlines; /* lines of the log */
	char line[LINES_MAX][256];
	char stderr_text[1024]; /* what was written to standard error */
	unsigned long calls[SYSROW_COUNT];
	unsigned long attempts[2]; /* reads, writes */
	struct fl_stats stats;	   /* at the end */
};

/* How a case ended. */
enum ending {
	END_WELL,    /* it came to its end and found nothing wrong */
	END_REFUSED, /* the runtime could not be opened or would not map, and said why */
	END_KILLED,  /* by the runtime, with one line */
	END_BAD,     /* anything else; report->wrong says what */
};

/* Run body(arg) in a child, for HANG_SECONDS at most; the report is good until the next call. */
enum ending run_case(void (*body)(void *), void *arg, struct report **report);

/* What the cases of a test came to, whichever process ran them. */
struct tally {
	unsigned hit, bad, lost;
};

/* one(cases, i, t) for each i below n, in several processes at a time. */
struct tally in_lanes(const void *cases, unsigned n,
		      void (*one)(const void *cases, unsigned i, struct tally *t));

/* In the child. */
extern struct report *report;
__attribute__((format(printf, 1, 2))) _Noreturn void wrong(const char *fmt, ...);
_Noreturn void refused(void); /* ends the child as END_REFUSED */
void at(const char *what);    /* what it does now */
void count_refusal(const char *what, long err);
/* What a call answered; true when it was done. */
bool answered(const char *what, int r);
#define did(what, call) (at(what), answered(what, call))
void collect_line(void *arg, enum fl_log_level level, const char *line);
unsigned lines_with(const struct report *r, const char *text);

/* ---- system calls ---- */

#define ERR_PARTIAL 1L /* not an error: do a part of what is asked, */
#define ERR_NOTHING 2L /* or nothing, and say so, */
#define ERR_UNTOLD 3L  /* or all, and say EEXIST */

struct injection {
	int row; /* enum sys_row; -1: none */
	unsigned long nth;
	long err;     /* -errno or ERR_PARTIAL */
	bool persist; /* from the nth on */
};

/* In the child, before the runtime is opened: count all calls, fail those of the injection. */
void inject_calls(const struct injection *in);

/* ---- memory with a shadow ---- */

struct mem {
	struct fl *fl;
	char *base, *shadow;
	size_t pages; /* mapped of the room at base */
	size_t room;
	bool *lost; /* poisoned: its bytes are nobody's */
	bool *readonly;
	int map_flags; /* FL_MAP_IN_THREAD, or 0 */
	bool soft;     /* of four pages that are filled, three compress */
	uint64_t rng;
};

uint64_t mem_random(struct mem *m);
/* Map `pages` of a room of `room` pages; false when that was refused. */
bool mem_map(struct mem *m, struct fl *fl, size_t pages, size_t room);
/* The same with more flags of fl_mmap(). */
bool mem_map_flags(struct mem *m, struct fl *fl, size_t pages, size_t room, int flags);
/* Memory that the application mapped itself. */
void mem_adopt(struct mem *m, struct fl *fl, size_t pages);
/* Compare a page with its shadow, every word; a page that raises SIGBUS is noted as lost. */
void mem_check(struct mem *m, size_t page, const char *what);
void mem_check_all(struct mem *m, const char *what);
/* Write the whole page; `same`: one repeated word. */
void mem_fill(struct mem *m, size_t page, bool same);
/* Change some words of a page, after a comparison of what is there. */
void mem_change(struct mem *m, size_t page);
/* The range reads as zeros from now on, poisoned or not. */
void mem_zeroed(struct mem *m, size_t page, size_t n);

/* A file name of this process below TMPDIR or /var/tmp; the parent removes what is left of it. */
const char *case_file(unsigned number);

#endif
