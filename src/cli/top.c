/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * top.c - 'faultline top': the processes of a store, or all that have a
 * runtime, and what their pagers do.
 *
 * A store's processes are read from MNT/proc/PID/status, others from their
 * memory (processes.h).  What is counted is shown as what was added a second
 * since the last look, and by --once as the total.
 */
#include "cli.h"

#include "peek-text.h"
#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <ncurses.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DELAY_DEFAULT 2.0
#define DELAY_MIN 0.1
#define DELAY_MAX 3600.0
#define STATUS_MAX 16384

enum key { KEY_PID, KEY_SIZE, KEY_SWAPPED, KEY_FAULTS, KEY_IO, KEYS };

static const struct {
	const char *name;
	int letter;
} keys[KEYS] = {
	[KEY_PID] = {"pid", 'p'},	  [KEY_SIZE] = {"resident", 'r'},
	[KEY_SWAPPED] = {"swapped", 's'}, [KEY_FAULTS] = {"faults", 'f'},
	[KEY_IO] = {"io", 'i'},
};

static void usage(void)
{
	puts("usage: faultline top [OPTION...] [MNT]\n"
	     "\n"
	     "Show the processes of the store at MNT, or all that have managed memory, and what\n"
	     "their pagers do.  q ends it; p, r, s, f and i choose what is sorted by.\n"
	     "\n"
	     "  --delay SECONDS  how often to look (2)\n"
	     "  --once           print a table with totals and end, as where there is no terminal\n"
	     "  --sort KEY       pid, resident, swapped, faults or io (resident)\n"
	     "  --help           show this text\n"
	     "\n"
	     "Exit status: 0 done, 1 not, 2 usage.");
}

/* One process, as of one look. */
struct row {
	pid_t pid;
	unsigned nth; /* of its runtimes */
	char name[16];
	struct fl_stats now;
	/* since the look before, a second; or in all */
	double fresh, wp, staged, swapped, filled, read, written;
};

struct look {
	struct row *row;
	size_t n;
	double at; /* CLOCK_MONOTONIC, seconds */
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static struct row *add_row(struct look *l, pid_t pid, const char *name)
{
	struct row *more = reallocarray(l->row, l->n + 1, sizeof(*more));
	struct row *r;

	if (more == NULL)
		return NULL;
	l->row = more;
	r = &more[l->n++];
	*r = (struct row){.pid = pid};
	snprintf(r->name, sizeof(r->name), "%s", name);
	for (size_t i = 0; i + 1 < l->n; i++)
		r->nth += more[i].pid == pid;
	return r;
}

/* ---- of a store ---- */

/* "name: value" */
static void parse_line(struct row *r, const char *line)
{
	const char *value = strstr(line, ": ");
	size_t n = value != NULL ? (size_t)(value - line) : 0;

	if (n == 0)
		return;
	value += 2;
	if (n == 4 && strncmp(line, "name", n) == 0)
		snprintf(r->name, sizeof(r->name), "%s", value);
#define X(field)                                                                                   \
	if (n == strlen(#field) && strncmp(line, #field, n) == 0)                                  \
		r->now.field = strtoull(value, NULL, 10);
	STATS_FIELDS(X)
#undef X
}

static int read_status(int proc_fd, const char *pid, struct look *l)
{
	char path[300], text[STATUS_MAX];
	struct row *r;
	size_t len = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/status", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* it has gone */
	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	if (n < 0)
		return 0;
	text[len] = '\0';
	r = add_row(l, atoi(pid), "");
	if (r == NULL)
		return -ENOMEM;
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
		parse_line(r, line);
	return 0;
}

static int look_at_store(const char *mnt, struct look *l)
{
	int fd = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int proc_fd = fd >= 0 ? openat(fd, "proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	DIR *dp = proc_fd >= 0 ? fdopendir(proc_fd) : NULL;
	int err = dp == NULL ? -errno : faccessat(fd, "metrics", F_OK, 0) != 0 ? -errno : 0;
	const struct dirent *e;

	while (err == 0 && (e = readdir(dp)) != NULL)
		if (e->d_name[0] != '.')
			err = read_status(dirfd(dp), e->d_name, l);
	if (dp != NULL)
		closedir(dp);
	if (fd >= 0)
		close(fd);
	return err;
}

/* ---- without one ---- */

static int look_around(struct look *l)
{
	struct process *list = processes_open();
	int err = 0;

	for (const struct process *p = list; err == 0 && p != NULL; p = p->next) {
		struct fl_stats s;
		struct row *r;

		if (peek_stats(&p->peek, &s, NULL) != 0)
			continue;
		r = add_row(l, p->pid, p->name);
		if (r == NULL)
			err = -ENOMEM;
		else
			r->now = s;
	}
	processes_free(list);
	return err;
}

/* ---- what is shown ---- */

static double since(uint64_t after, uint64_t before, double seconds)
{
	return after > before ? (double)(after - before) / seconds : 0;
}

/* What is counted, since `old` (NULL: in all), a second. */
static void rates(struct row *r, const struct fl_stats *old, double seconds)
{
	static const struct fl_stats none;
	const struct fl_stats *o = old != NULL ? old : &none;
	const struct fl_stats *s = &r->now;

	r->fresh = since(s->faults_zero + s->faults_anon, o->faults_zero + o->faults_anon, seconds);
	r->wp = since(s->faults_wp, o->faults_wp, seconds);
	r->staged = since(s->faults_staged, o->faults_staged, seconds);
	r->swapped = since(s->faults_swap, o->faults_swap, seconds);
	r->filled = since(s->faults_filled, o->faults_filled, seconds);
	r->read = since(s->read_pages, o->read_pages, seconds) * PAGE_SIZE;
	r->written = since(s->write_pages, o->write_pages, seconds) * PAGE_SIZE;
}

static double sort_value(const struct row *r, enum key key)
{
	switch (key) {
	case KEY_SIZE:
		return (double)(r->now.resident + r->now.staged);
	case KEY_SWAPPED:
		return (double)r->now.swapped;
	case KEY_FAULTS:
		return r->fresh + r->wp + r->staged + r->swapped + r->filled;
	case KEY_IO:
		return r->read + r->written;
	default:
		return -(double)r->pid;
	}
}

static int compare(const void *a, const void *b, void *arg)
{
	const enum key key = *(const enum key *)arg;
	double d = sort_value(b, key) - sort_value(a, key);

	if (d == 0)
		d = sort_value(b, KEY_PID) - sort_value(a, KEY_PID);
	return d > 0 ? 1 : d < 0 ? -1 : 0;
}

/* One look at everything; what was added since the last one, unless that has no row. */
static int look(const char *mnt, const struct look *last, enum key key, struct look *l)
{
	int err;

	*l = (struct look){.at = now()};
	err = mnt != NULL ? look_at_store(mnt, l) : look_around(l);
	for (size_t i = 0; err == 0 && i < l->n; i++) {
		struct row *r = &l->row[i];
		const struct fl_stats *old = NULL;

		for (size_t k = 0; last != NULL && k < last->n; k++)
			if (last->row[k].pid == r->pid && last->row[k].nth == r->nth)
				old = &last->row[k].now;
		if (old != NULL)
			rates(r, old, l->at - last->at);
		else if (last == NULL)
			rates(r, NULL, 1);
	}
	if (err == 0 && l->n != 0)
		qsort_r(l->row, l->n, sizeof(*l->row), compare, &key);
	return err;
}

/* A number in five places: 12345, 12.3K, 123M. */
static const char *five(double v, double unit)
{
	static char text[16][16];
	static unsigned turn;
	char *t = text[turn++ % 16];
	const char *suffix = "KMGTPE";
	char c = '\0';

	while (v >= (c == '\0' && unit == 1000 ? 99999.5 : 999.5) && *suffix != '\0') {
		v /= unit;
		c = *suffix++;
	}
	if (c == '\0')
		snprintf(t, sizeof(text[0]), "%.0f", v);
	else
		snprintf(t, sizeof(text[0]), v < 9.95 ? "%.1f%c" : "%.0f%c", v, c);
	return t;
}

static const char *bytes(uint64_t pages)
{
	return five((double)pages * PAGE_SIZE, 1024);
}

#define LINE_MAX_LEN 128

static void header_line(char *line, bool rate)
{
	const char *s = rate ? "/s" : "";
	char title[7][8];
	const char *names[7] = {"NEW", "WP", "STG", "SWP", "FIL", "RD", "WR"};

	for (unsigned i = 0; i < 7; i++)
		snprintf(title[i], sizeof(title[i]), "%s%s", names[i], s);
	snprintf(line, LINE_MAX_LEN, "%7s %-8s %5s %4s %5s %4s %5s %5s %5s %5s %5s %4s %4s", "PID",
		 "COMMAND", "LIMIT", "RES", "STAGE", "SWAP", title[0], title[1], title[2], title[3],
		 title[4], title[5], title[6]);
}

static void row_line(char *line, const struct row *r)
{
	snprintf(line, LINE_MAX_LEN, "%7d %-8.8s %5s %4s %5s %4s %5s %5s %5s %5s %5s %4s %4s",
		 (int)r->pid, r->name, bytes(r->now.limit), bytes(r->now.resident),
		 bytes(r->now.staged), bytes(r->now.swapped), five(r->fresh, 1000),
		 five(r->wp, 1000), five(r->staged, 1000), five(r->swapped, 1000),
		 five(r->filled, 1000), five(r->read, 1024), five(r->written, 1024));
}

static int fail(const char *mnt, int err)
{
	if (mnt != NULL && err == -ENOENT)
		cli_error("%s: no store is mounted there", mnt);
	else
		cli_error("%s: %s", mnt != NULL ? mnt : "processes", strerror(-err));
	return EXIT_FAILED;
}

static int print_once(const char *mnt, enum key key)
{
	char line[LINE_MAX_LEN];
	struct look l;
	int err = look(mnt, NULL, key, &l);

	if (err == 0) {
		header_line(line, false);
		puts(line);
		for (size_t i = 0; i < l.n; i++) {
			row_line(line, &l.row[i]);
			puts(line);
		}
	}
	free(l.row);
	return err == 0 ? EXIT_OK : fail(mnt, err);
}

static void paint(const struct look *l, enum key key)
{
	char line[LINE_MAX_LEN];
	int y = 0;

	erase();
	mvprintw(y++, 0, "faultline top: %zu process%s, by %s", l->n, l->n == 1 ? "" : "es",
		 keys[key].name);
	header_line(line, true);
	attron(A_REVERSE);
	mvprintw(y++, 0, "%-*.*s", COLS, COLS, line);
	attroff(A_REVERSE);
	for (size_t i = 0; i < l->n && y < LINES; i++) {
		row_line(line, &l->row[i]);
		mvaddnstr(y++, 0, line, COLS);
	}
	refresh();
}

/* A terminal that is gone does not let anybody wait for a key. */
static bool hung_up(void)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

static int run_screen(const char *mnt, enum key key, double delay)
{
	struct look old, l;
	int err = look(mnt, NULL, key, &old);
	bool gone = false;
	SCREEN *screen;
	int c = 0;

	if (err != 0)
		return fail(mnt, err);
	screen = newterm(NULL, stdout, stdin);
	if (screen == NULL) {
		const char *term = getenv("TERM");

		cli_error("the terminal '%s' is not known; --once prints a table",
			  term != NULL ? term : "");
		free(old.row);
		return EXIT_FAILED;
	}
	cbreak();
	noecho();
	curs_set(0);
	/* nothing was added yet */
	for (size_t i = 0; i < old.n; i++)
		rates(&old.row[i], &old.row[i].now, 1);
	paint(&old, key);
	while (c != 'q') {
		double left = old.at + delay - now();

		timeout(left > 0 ? (int)(left * 1000) + 1 : 0);
		c = getch();
		for (unsigned k = 0; k < KEYS; k++)
			if (c == keys[k].letter)
				key = (enum key)k;
		if (c == ERR) {
			gone = hung_up();
			if (gone)
				break;
			err = look(mnt, &old, key, &l);
			if (err != 0)
				break;
			free(old.row);
			old = l;
		} else if (old.n != 0) {
			qsort_r(old.row, old.n, sizeof(*old.row), compare, &key);
		}
		paint(&old, key);
	}
	endwin();
	delscreen(screen);
	free(old.row);
	if (gone) {
		cli_error("the terminal is gone");
		return EXIT_FAILED;
	}
	return err == 0 ? EXIT_OK : fail(mnt, err);
}

int cmd_top(int argc, char **argv)
{
	static const struct option options[] = {
		{"delay", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"once", no_argument, NULL, 'o'},
		{"sort", required_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	bool once = !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO);
	double delay = DELAY_DEFAULT;
	unsigned key = KEY_SIZE;
	const char *mnt;
	char *end;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			delay = strtod(optarg, &end);
			if (*end != '\0' || end == optarg || !(delay >= DELAY_MIN) ||
			    delay > DELAY_MAX)
				return cli_usage("top", "'%s' is not a delay of %g to %g seconds",
						 optarg, DELAY_MIN, DELAY_MAX);
			break;
		case 'o':
			once = true;
			break;
		case 's':
			for (key = 0; key < KEYS && strcmp(optarg, keys[key].name) != 0; key++)
				continue;
			if (key == KEYS)
				return cli_usage("top", "'%s' is nothing to sort by", optarg);
			break;
		case 'h':
			usage();
			return EXIT_OK;
		default:
			return cli_bad_option("top", argv, opt);
		}
	}
	if (argc - optind > 1)
		return cli_usage("top", "top takes one mount: '%s'", argv[optind + 1]);
	mnt = argv[optind];
	return once ? print_once(mnt, (enum key)key) : run_screen(mnt, (enum key)key, delay);
}
