/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tally.c - what the server counts, as text: MNT/stats for people,
 * MNT/metrics in Prometheus' exposition format.
 */
#include "attach.h"
#include "clients.h"
#include "shared.h"
#include "view-proc.h"

#include "config.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct tally tally;

static const char *const names[TALLY_COUNT] = {
#define X(name) #name,
	TALLY_OPS(X)
#undef X
};

static unsigned long long get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static unsigned long long uptime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec - tally.started;
}

char *tally_stats(const struct store *s, size_t *len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	unsigned long long calls = 0, errors = 0;
	struct shared_counts c;

	if (f == NULL)
		return NULL;
	shared_count(&c);
	for (unsigned i = 0; i < TALLY_COUNT; i++) {
		calls += get(&tally.calls[i]);
		errors += get(&tally.errors[i]);
	}
	fprintf(f, "store: %s\nversion: %s\npid: %ld\nuptime: %llu\n", s->dir, PACKAGE_VERSION,
		(long)getpid(), uptime());
	fprintf(f, "requests: %llu\nerrors: %llu\n", calls, errors);
	fprintf(f, "read_bytes: %llu\nwritten_bytes: %llu\n", get(&tally.read_bytes),
		get(&tally.written_bytes));
	fprintf(f, "clients: %u\n", clients_count());
	fprintf(f, "inflight: %llu\nnodes: %llu\nhandles: %llu\n", get(&tally.inflight),
		get(&tally.nodes), get(&tally.handles));
	fprintf(f, "cache_limit: %llu\ncache_pages: %llu\ncache_dirty: %llu\ncache_errors: %llu\n",
		(unsigned long long)c.limit, (unsigned long long)c.pages,
		(unsigned long long)c.dirty, (unsigned long long)c.errors);
	fprintf(f, "cache_minor: %llu\ncache_major: %llu\ncache_read: %llu\ncache_written: %llu\n",
		(unsigned long long)c.minor, (unsigned long long)c.major,
		(unsigned long long)c.read, (unsigned long long)c.written);
	proc_stats(f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static void header(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP faultline_store_%s %s\n# TYPE faultline_store_%s %s\n", name, help, name,
		type);
}

static void single(FILE *f, const char *name, const char *type, const char *help,
		   unsigned long long value)
{
	header(f, name, type, help);
	fprintf(f, "faultline_store_%s %llu\n", name, value);
}

/* Backslash, quote and newline are escaped. */
void tally_label(FILE *f, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', f);
		if (*text == '\n')
			fputs("\\n", f);
		else
			fputc(*text, f);
	}
}

struct area_lines {
	FILE *f;
	const struct store *s;
	bool on, used; /* which of the metrics; none: its slots */
};

static int area_line(const char *name, void *arg)
{
	struct area_lines *l = arg;
	struct area_use use;
	struct area_info a;

	if (l->used && areas_look(name, &use)) {
		fprintf(l->f, "faultline_store_area_used{area=\"");
		tally_label(l->f, name);
		fprintf(l->f, "\"} %llu\n", (unsigned long long)use.used);
	}
	if (l->used || area_open(l->s->swap_fd, name, &a) != 0)
		return 0;
	if (a.valid) {
		fprintf(l->f, "faultline_store_area_%s{area=\"", l->on ? "on" : "slots");
		tally_label(l->f, name);
		fprintf(l->f, "\"} %llu\n", l->on ? a.on : (unsigned long long)a.slots);
	}
	area_close(&a);
	return 0;
}

char *tally_metrics(const struct store *s, size_t *len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	struct area_lines l = {.f = f, .s = s};
	struct shared_counts c;

	if (f == NULL)
		return NULL;
	shared_count(&c);
	header(f, "requests_total", "counter", "Requests of the kernel, by kind.");
	for (unsigned i = 0; i < TALLY_COUNT; i++)
		fprintf(f, "faultline_store_requests_total{op=\"%s\"} %llu\n", names[i],
			get(&tally.calls[i]));
	header(f, "errors_total", "counter", "Requests that were answered with an error, by kind.");
	for (unsigned i = 0; i < TALLY_COUNT; i++)
		fprintf(f, "faultline_store_errors_total{op=\"%s\"} %llu\n", names[i],
			get(&tally.errors[i]));
	single(f, "read_bytes_total", "counter", "Bytes read from files and areas.",
	       get(&tally.read_bytes));
	single(f, "written_bytes_total", "counter", "Bytes written to files.",
	       get(&tally.written_bytes));
	single(f, "inflight", "gauge", "Reads, writes and syncs under way.", get(&tally.inflight));
	single(f, "nodes", "gauge", "Inodes that the kernel knows.", get(&tally.nodes));
	single(f, "handles", "gauge", "Open files and directories.", get(&tally.handles));
	single(f, "cache_limit", "gauge", "Pages of mapped files that may be cached.", c.limit);
	single(f, "cache_pages", "gauge", "Pages of mapped files that are.", c.pages);
	single(f, "cache_dirty", "gauge", "Of these, pages that are to be written.", c.dirty);
	single(f, "cache_errors_total", "counter", "Reads and writes of mapped files that failed.",
	       c.errors);
	header(f, "cache_faults_total", "counter",
	       "Faults in mapped files: major ones waited for a read.");
	fprintf(f,
		"faultline_store_cache_faults_total{kind=\"minor\"} %llu\n"
		"faultline_store_cache_faults_total{kind=\"major\"} %llu\n",
		(unsigned long long)c.minor, (unsigned long long)c.major);
	single(f, "cache_read_pages_total", "counter", "Pages of mapped files read.", c.read);
	single(f, "cache_written_pages_total", "counter", "Pages of mapped files written.",
	       c.written);
	single(f, "uptime_seconds", "gauge", "Seconds since the server began.", uptime());
	header(f, "area_slots", "gauge", "Slots of an area.");
	area_each(s->swap_fd, area_line, &l);
	single(f, "clients", "gauge", "Programs that are attached.", clients_count());
	header(f, "area_used", "gauge", "Slots in use of an area that is on.");
	l.used = true;
	area_each(s->swap_fd, area_line, &l);
	l.used = false;
	header(f, "area_on", "gauge", "1 while a process has the area on.");
	l.on = true;
	area_each(s->swap_fd, area_line, &l);
	proc_metrics(f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
