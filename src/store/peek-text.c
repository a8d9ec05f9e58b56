/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peek-text.c - a process's memory as text; see peek-text.h.
 */
#include "peek-text.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define REGIONS_MAX 1000000U
#define SECONDS_MAX 30 /* of one text */

typedef unsigned long long ull;

const char *page_kind_name(unsigned kind)
{
	static const char *const names[PAGE_KINDS] = {
		[FL_PAGE_UNMANAGED] = "unmanaged",   [FL_PAGE_NONE] = "none",
		[FL_PAGE_PRESENT] = "present",	     [FL_PAGE_STAGED] = "staged",
		[FL_PAGE_SWAPPED] = "swapped",	     [FL_PAGE_FILLED] = "filled",
		[FL_PAGE_POISONED] = "poisoned",     [FL_PAGE_UNTRACKED] = "untracked",
		[FL_PAGE_COMPRESSED] = "compressed", [FL_PAGE_FILE] = "file",
	};

	return kind < PAGE_KINDS ? names[kind] : "?";
}

/* Is it later than SECONDS_MAX after *since?  Who shows no end of pages is left. */
static bool late(time_t *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (*since == 0)
		*since = now.tv_sec;
	return now.tv_sec - *since > SECONDS_MAX;
}

int each_region(const struct peek *p, int (*fn)(const struct peek_region *r, void *arg), void *arg)
{
	uint64_t at = 0;
	time_t since = 0;

	for (unsigned n = 0; n < REGIONS_MAX && !late(&since); n++) {
		struct peek_region r;
		int err = peek_region(p, at, &r);

		if (err <= 0)
			return err;
		err = fn(&r, arg);
		if (err != 0)
			return err;
		at = r.end;
	}
	return -EIO;
}

int text_status(const struct peek *p, FILE *f)
{
	struct fl_stats s;
	int err = peek_stats(p, &s, NULL);

	if (err != 0)
		return err;
#define X(name) fprintf(f, #name ": %llu\n", (ull)s.name);
	STATS_FIELDS(X)
#undef X
	if (s.group_limit != 0)
		fprintf(f, "group_limit: %llu\ngroup_held: %llu\n", (ull)s.group_limit,
			(ull)s.group_held);
	for (unsigned i = 0; i < FL_LATENCY_BUCKETS; i++)
		if (s.latency[i] != 0)
			fprintf(f, "latency_%llu: %llu\n", 1ULL << i, (ull)s.latency[i]);
	for (unsigned i = 0; i < FL_SWAP_MAX; i++) {
		struct peek_area a;

		err = peek_area(p, i, &a);
		if (err == 0)
			fprintf(f, "area%u: %s\n", i, a.path);
		else if (err != -ENOENT)
			return err;
	}
	return 0;
}

static int maps_line(const struct peek_region *r, void *arg)
{
	fprintf(arg, "%08llx-%08llx %c%c%cp 00000000 00:00 0 \n", (ull)r->start, (ull)r->end,
		r->prot & PROT_READ ? 'r' : '-', r->prot & PROT_WRITE ? 'w' : '-',
		r->prot & PROT_EXEC ? 'x' : '-');
	return 0;
}

int text_maps(const struct peek *p, FILE *f)
{
	return each_region(p, maps_line, f);
}

/* A run of pages that are told in one line. */
struct run {
	vpn_t vpn;
	uint64_t n;
	uint64_t page; /* the first one's, without PEEK_YOUNG */
	uint64_t word;
};

static void put_run(FILE *f, const struct run *r)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} flags[] = {{FL_PAGE_LOCKED, "locked"}, {FL_PAGE_WP, "wp"}, {FL_PAGE_BUSY, "busy"}};
	char sep = ' ';

	fprintf(f, "%08llx %llu %s ", (ull)r->vpn << PAGE_SHIFT, (ull)r->n,
		page_kind_name(PEEK_KIND(r->page)));
	if (r->page & FL_PAGE_HAS_SLOT)
		fprintf(f, "%u:%u", PEEK_AREA(r->page), PEEK_SLOT(r->page));
	else if (PEEK_KIND(r->page) == FL_PAGE_FILLED)
		fprintf(f, "%016llx", (ull)r->word);
	else
		fputc('-', f);
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (r->page & flags[i].bit) {
			fprintf(f, "%c%s", sep, flags[i].name);
			sep = ',';
		}
	fputs(sep == ' ' ? " -\n" : "\n", f);
}

/* Does a page go on with a run? */
static bool continues(const struct run *r, uint64_t page, uint64_t word)
{
	uint64_t next = r->page;

	if (page & FL_PAGE_HAS_SLOT)
		next += r->n << PEEK_WHERE_SHIFT;
	return page == next && (PEEK_KIND(page) != FL_PAGE_FILLED || word == r->word);
}

static int add_run(FILE *f, struct run *r, vpn_t vpn, uint64_t n, uint64_t page, uint64_t word)
{
	if (r->n != 0 && continues(r, page, word)) {
		r->n += n;
		return 0;
	}
	if (r->n != 0)
		put_run(f, r);
	*r = (struct run){.vpn = vpn, .n = n, .page = page, .word = word};
	return ftell(f) > TEXT_MAX ? -EFBIG : 0;
}

int text_pages(const struct peek *p, const struct peek_region *r, FILE *f)
{
	const uint64_t locked = r->flags & REGION_LOCKED ? FL_PAGE_LOCKED : 0;
	const vpn_t end = r->end >> PAGE_SHIFT;
	struct run run = {0};
	time_t since = 0;
	int armed = peek_armed(p);
	int err = armed < 0 ? armed : 0;

	for (vpn_t vpn = r->start >> PAGE_SHIFT; err == 0 && vpn < end;) {
		uint64_t page[PEEK_PAGES], word[PEEK_PAGES];
		vpn_t next = vpn;
		unsigned n;

		if (late(&since))
			return -EFBIG;
		if (!armed)
			next = end;
		else
			err = peek_touched(p, &next, end);
		if (err == 0 && next != vpn)
			err = add_run(f, &run, vpn, next - vpn,
				      locked | (!armed	  ? FL_PAGE_UNTRACKED
						: r->file ? FL_PAGE_FILE
							  : FL_PAGE_NONE),
				      0);
		vpn = next;
		if (err != 0 || vpn == end)
			break;
		n = end - vpn < PEEK_PAGES ? (unsigned)(end - vpn) : PEEK_PAGES;
		err = peek_tell(p, r, vpn, n, page, word);
		for (unsigned i = 0; err == 0 && i < n; i++, vpn++)
			err = add_run(f, &run, vpn, 1, page[i] & ~PEEK_YOUNG, word[i]);
	}
	if (err == 0 && run.n != 0)
		put_run(f, &run);
	return err;
}

int count_pages(const struct peek *p, const struct peek_region *r, uint64_t count[PAGE_KINDS])
{
	const vpn_t end = r->end >> PAGE_SHIFT;
	time_t since = 0;
	int armed = peek_armed(p);
	int err = armed < 0 ? armed : 0;

	memset(count, 0, PAGE_KINDS * sizeof(*count));
	for (vpn_t vpn = r->start >> PAGE_SHIFT; err == 0 && vpn < end;) {
		uint64_t page[PEEK_PAGES];
		vpn_t next = vpn;
		unsigned n;

		if (late(&since))
			return -EFBIG;
		if (!armed) {
			count[FL_PAGE_UNTRACKED] = end - vpn;
			break;
		}
		err = peek_touched(p, &next, end);
		count[r->file ? FL_PAGE_FILE : FL_PAGE_NONE] += next - vpn;
		vpn = next;
		n = end - vpn < PEEK_PAGES ? (unsigned)(end - vpn) : PEEK_PAGES;
		if (err == 0 && n != 0)
			err = peek_tell(p, r, vpn, n, page, NULL);
		for (unsigned i = 0; err == 0 && i < n; i++, vpn++)
			count[PEEK_KIND(page[i])]++;
	}
	return err;
}
