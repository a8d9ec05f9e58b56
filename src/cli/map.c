/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * map.c - 'faultline map': the managed memory of a process, by where its pages are.
 *
 * The process is read through /proc/PID, whether it has a store or not; that
 * takes the permission to trace it, ptrace(2).
 */
#include "cli.h"

#include "peek-text.h"
#include "processes.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void usage(void)
{
	puts("usage: faultline map [OPTION...] PID\n"
	     "\n"
	     "Show the managed memory of a process: a line for each region, with how many of its\n"
	     "pages are where.\n"
	     "\n"
	     "  --pages  a line for each run of pages instead, as in MNT/proc/PID/pages\n"
	     "  --help   show this text\n"
	     "\n"
	     "Exit status: 0 done, 1 not, 2 usage.");
}

static const unsigned columns[] = {FL_PAGE_PRESENT,    FL_PAGE_STAGED,	 FL_PAGE_SWAPPED,
				   FL_PAGE_COMPRESSED, FL_PAGE_FILLED,	 FL_PAGE_NONE,
				   FL_PAGE_FILE,       FL_PAGE_POISONED, FL_PAGE_UNTRACKED};

#define NCOLUMNS (sizeof(columns) / sizeof(columns[0]))

static int width(size_t column)
{
	size_t n = strlen(page_kind_name(columns[column]));

	return n > 9 ? (int)n : 9;
}

struct table {
	const struct peek *peek;
	uint64_t total[PAGE_KINDS];
};

static void put_counts(const char *range, const char *prot, const uint64_t *count)
{
	printf("%-25s %4s", range, prot);
	for (size_t i = 0; i < NCOLUMNS; i++)
		printf(" %*llu", width(i), (unsigned long long)count[columns[i]]);
	putchar('\n');
}

static int put_region(const struct peek_region *r, void *arg)
{
	struct table *t = arg;
	uint64_t count[PAGE_KINDS];
	char range[40];
	char prot[4] = {r->prot & PROT_READ ? 'r' : '-', r->prot & PROT_WRITE ? 'w' : '-',
			r->prot & PROT_EXEC ? 'x' : '-', '\0'};
	int err = count_pages(t->peek, r, count);

	if (err != 0)
		return err;
	snprintf(range, sizeof(range), "%08llx-%08llx", (unsigned long long)r->start,
		 (unsigned long long)r->end);
	put_counts(range, prot, count);
	for (unsigned i = 0; i < PAGE_KINDS; i++)
		t->total[i] += count[i];
	return 0;
}

static int put_table(const struct peek *p)
{
	struct table t = {.peek = p};
	int err;

	printf("%-25s %4s", "region", "");
	for (size_t i = 0; i < NCOLUMNS; i++)
		printf(" %*s", width(i), page_kind_name(columns[i]));
	putchar('\n');
	err = each_region(p, put_region, &t);
	if (err == 0)
		put_counts("total", "", t.total);
	return err;
}

static int put_pages(const struct peek_region *r, void *arg)
{
	return text_pages(arg, r, stdout);
}

int cmd_map(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"pages", no_argument, NULL, 'p'},
		{NULL, 0, NULL, 0},
	};
	struct process *list;
	bool pages = false;
	int opt, err;
	char *end;
	long pid;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (opt == 'p') {
			pages = true;
			continue;
		}
		if (opt != 'h')
			return cli_bad_option("map", argv, opt);
		usage();
		return EXIT_OK;
	}
	if (argc - optind != 1)
		return argc == optind
			       ? cli_usage("map", "map wants a process number")
			       : cli_usage("map", "map takes one process: '%s'", argv[optind + 1]);
	pid = strtol(argv[optind], &end, 10);
	if (*end != '\0' || end == argv[optind] || pid <= 0 || pid > INT32_MAX)
		return cli_usage("map", "'%s' is not a process number", argv[optind]);
	err = process_open((pid_t)pid, &list);
	if (err == -ENODATA) {
		cli_error("process %ld has no memory that faultline manages", pid);
		return EXIT_FAILED;
	}
	for (struct process *p = list; err == 0 && p != NULL; p = p->next) {
		if (p != list)
			putchar('\n');
		err = pages ? each_region(&p->peek, put_pages, &p->peek) : put_table(&p->peek);
	}
	processes_free(list);
	if (err == 0)
		return EXIT_OK;
	if (err == -EPROTO)
		cli_error("process %ld runs with a faultline of another version", pid);
	else if (err == -EACCES || err == -EPERM)
		cli_error(
			"process %ld may not be looked into: that takes the permission to trace it",
			pid);
	else
		cli_error("process %ld: %s", pid, strerror(-err));
	return EXIT_FAILED;
}
