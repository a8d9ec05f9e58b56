/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-clients.c - programs that take their swap from a store: together, killed,
 * without their server, with another one, and told what to do.
 *
 * Each test has a store of its own, with two areas.  FL_STORE_SEED makes the
 * random one another, FL_STORE_ROUNDS and FL_STORE_SECONDS a longer one.
 *
 * usage: test-clients [TEST]
 */
#include "mounted.h"
#include "owner.h"

#include "faultline.h"
#include "store-wire.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CROWD 20
#define CACHE "-o cache=2M" /* less than all files have */

/* --- the store --- */

static void must(const char *args)
{
	if (run_faultline(args) != 0)
		fail_msg("faultline %s", args);
}

static void serve(const char *options)
{
	char line[512];

	snprintf(line, sizeof(line), "mount " MOUNT_OPTIONS " %s \"$BASE/store\" \"$BASE/mnt\"",
		 options);
	must(line);
}

static int begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0 || chmod(base, 0755) != 0)
		return -1;
	umask(022);
	return run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mkswap --size 128M \"$BASE/store/swap/disk0\"") != 0 ||
	       run_faultline("mkswap --size 128M \"$BASE/store/swap/disk1\"") != 0;
}

static int gate = -1; /* of the filesystem at BASE/slow */
static pid_t silent;  /* a server that is stopped, or 0 */

static void open_gate(void)
{
	static const char all[256] = {[0 ... 255] = 'e'};
	char line[PATH_MAX];

	if (gate < 0)
		return;
	assert_int_equal(write(gate, all, sizeof(all)), sizeof(all));
	close(gate);
	gate = -1;
	snprintf(line, sizeof(line), "umount -l '%s'", in_base("slow"));
	assert_int_equal(system(line), 0);
}

static int end(void **state)
{
	open_gate();
	if (silent != 0)
		kill(silent, SIGCONT);
	silent = 0;
	return mounted_end(state);
}

/* What a file of the mount says at one time. */
struct said {
	char text[4096];
};

static struct said said(const char *file)
{
	struct said s = {.text = "\n"};
	int fd = open(in_base(file), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, s.text + 1, sizeof(s.text) - 2) : 0;

	if (fd >= 0)
		close(fd);
	s.text[n > 0 ? n + 1 : 1] = '\0';
	return s;
}

/* A field of that, or -1. */
static long long field_of(const struct said *s, const char *name)
{
	char want[64];
	const char *at;

	snprintf(want, sizeof(want), "\n%s: ", name);
	at = strstr(s->text, want);
	return at != NULL ? strtoll(at + strlen(want), NULL, 10) : -1;
}

static long long field(const char *file, const char *name)
{
	struct said s = said(file);

	return field_of(&s, name);
}

static long long used(void)
{
	long long a = field("mnt/swap/disk0.stat", "used"),
		  b = field("mnt/swap/disk1.stat", "used");

	return (a > 0 ? a : 0) + (b > 0 ? b : 0);
}

static long long processes(const char *area)
{
	char file[64];

	snprintf(file, sizeof(file), "mnt/swap/%s.stat", area);
	return field(file, "processes");
}

/* --- programs --- */

struct program {
	pid_t pid;
	int in, out;
};

static bool grouped;		 /* one limit for all processes of a program */
static unsigned owns = UINT_MAX; /* the number of who stores into a file, too */
static int errors = -1;		 /* where programs write theirs; -1: where we do */

static void start(struct program *p, const char *store, const char *limit, unsigned mib,
		  unsigned seed)
{
	const char *build = getenv("FL_BUILD");
	char faultline[PATH_MAX], pages[PATH_MAX], size[16], number[16], file[16], owner[16];
	const bool maps = owns < OWNER_FILES * OWNERS;
	int in[2], out[2];

	snprintf(faultline, sizeof(faultline), "%s/src/cli/faultline", build != NULL ? build : ".");
	snprintf(pages, sizeof(pages), "%s/tests/store/pages", build != NULL ? build : ".");
	snprintf(size, sizeof(size), "%u", mib);
	snprintf(number, sizeof(number), "%u", seed);
	snprintf(file, sizeof(file), "%u", owns / OWNERS);
	snprintf(owner, sizeof(owner), "%u", owns % OWNERS);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		if (errors >= 0)
			dup2(errors, 2);
		execl(faultline, faultline, "run", "--store", store, "--limit", limit,
		      grouped ? "--limit-group" : "--log=warn", "--", pages, size, number,
		      maps ? base : NULL, file, owner, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	p->in = in[1];
	p->out = out[0];
}

static char heard[128]; /* the last line */

/* The next line it says, within the time. */
static void hear(const struct program *p, const char *want)
{
	struct pollfd fd = {.fd = p->out, .events = POLLIN};
	char *line = heard;
	size_t n = 0;

	while (n + 1 < sizeof(heard)) {
		if (poll(&fd, 1, HANG_SECONDS * 1000) != 1)
			fail_msg("process %d says nothing", (int)p->pid);
		if (read(p->out, line + n, 1) != 1)
			fail_msg("process %d has ended", (int)p->pid);
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = '\0';
	if (strncmp(line, want, strlen(want)) != 0)
		fail_msg("process %d says '%s' instead of '%s'", (int)p->pid, line, want);
}

static void say(const struct program *p, const char *letter)
{
	assert_int_equal(write(p->in, letter, 1), 1);
}

static void told(const struct program *p, const char *letter)
{
	say(p, letter);
	hear(p, letter);
}

/* It forks: the child's number. */
static pid_t child_of(const struct program *p)
{
	say(p, "f");
	hear(p, "f");
	return (pid_t)strtol(heard + 1, NULL, 10);
}

/* What a process holds, in pages; -1: it is not listed. */
static long long holds(pid_t pid)
{
	long long resident, staged;
	struct said s;
	char file[64];

	snprintf(file, sizeof(file), "mnt/proc/%d/status", (int)pid);
	/* of one time: pages that were staged in between would be counted twice */
	s = said(file);
	resident = field_of(&s, "resident");
	staged = field_of(&s, "staged");
	return resident < 0 || staged < 0 ? -1 : resident + staged;
}

static bool thread_stopped(const char *stat)
{
	FILE *f = fopen(stat, "re");
	char state = 0;

	if (f == NULL || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	if (f != NULL)
		fclose(f);
	return state == 'T';
}

/* All of its threads: that of one says nothing of its pager. */
static bool stopped(pid_t pid)
{
	const struct dirent *e;
	char path[64 + NAME_MAX];
	bool all = true;
	DIR *dp;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dp = opendir(path);
	assert_non_null(dp);
	while (all && (e = readdir(dp)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, e->d_name);
		all = thread_stopped(path);
	}
	closedir(dp);
	return all;
}

/* A process that is sent the signal goes on until it has got it. */
static void stop(pid_t pid)
{
	assert_int_equal(kill(pid, SIGSTOP), 0);
	until(stopped(pid));
}

static int finish(struct program *p)
{
	int status;

	close(p->in);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	close(p->out);
	return status;
}

static void clean(void)
{
	until(used() == 0);
	must("store check \"$BASE/store\" >/dev/null");
}

/* --- tests --- */

static void two_on_the_same_areas(void **state)
{
	struct program p[2];

	(void)state;
	serve("");
	for (unsigned i = 0; i < 2; i++)
		start(&p[i], in_base("mnt"), "8M", 60, i);
	for (unsigned i = 0; i < 2; i++)
		hear(&p[i], "ready");
	assert_int_equal(processes("disk0"), 2);
	assert_int_equal(processes("disk1"), 2);
	assert_true(used() > 2 * 40 * 256);
	for (unsigned i = 0; i < 2; i++)
		say(&p[i], "v");
	for (unsigned i = 0; i < 2; i++)
		hear(&p[i], "v");
	/* the first area is filled first, and both did */
	assert_true(field("mnt/swap/disk0.stat", "used") > 20000);
	must("store check \"$BASE/store\" >/dev/null");
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(finish(&p[i]), 0);
	until(processes("disk0") == 0);
	clean();
}

/* A child has references of its own, and is a client of its own. */
static void a_forked_child(void **state)
{
	struct program p;

	(void)state;
	serve("");
	start(&p, in_base("mnt"), "6M", 40, 3);
	hear(&p, "ready");
	say(&p, "f");
	hear(&p, "f");
	until(processes("disk0") == 2);
	told(&p, "c");
	told(&p, "v");
	must("store check \"$BASE/store\" >/dev/null");
	kill(p.pid, SIGKILL);
	assert_int_equal(finish(&p), SIGKILL);
	clean();
	until(processes("disk0") == 0);
}

static void a_crowd_that_is_killed(void **state)
{
	struct program p[CROWD];
	unsigned seed = 12345;

	(void)state;
	serve("");
	for (unsigned i = 0; i < CROWD; i++)
		start(&p[i], in_base("mnt"), "2M", 6, i);
	for (unsigned i = 0; i < CROWD; i++)
		hear(&p[i], "ready");
	assert_int_equal(processes("disk0"), CROWD);
	for (unsigned i = 0; i < CROWD; i++)
		say(&p[i], i % 5 == 0 ? "f" : "v");
	/* in a random order, most of them in the middle of something */
	for (unsigned left = CROWD; left > 0; left--) {
		unsigned k;

		seed = seed * 1103515245U + 12345U;
		k = (seed >> 16) % left;
		kill(p[k].pid, SIGKILL);
		assert_int_equal(finish(&p[k]), SIGKILL);
		p[k] = p[left - 1];
	}
	clean();
	until(processes("disk0") == 0);
	until(processes("disk1") == 0);
}

static void a_server_that_is_killed(void **state)
{
	struct program p[3], fresh;

	(void)state;
	serve("");
	for (unsigned i = 0; i < 2; i++)
		start(&p[i], in_base("mnt"), "6M", 30, i);
	for (unsigned i = 0; i < 2; i++)
		hear(&p[i], "ready");
	say(&p[1], "f");
	hear(&p[1], "f");
	kill_server();
	/* they go on with what they hold */
	for (unsigned i = 0; i < 2; i++)
		told(&p[i], "v");
	serve("");
	/* the new server has their areas only from them, and then hands them out */
	start(&fresh, in_base("mnt"), "6M", 30, 9);
	hear(&fresh, "ready");
	until(processes("disk0") == 4);
	assert_true(used() > 3 * 20 * 256);
	for (unsigned i = 0; i < 2; i++)
		told(&p[i], "v");
	told(&fresh, "v");
	must("store check \"$BASE/store\" >/dev/null");
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(finish(&p[i]), 0);
	assert_int_equal(finish(&fresh), 0);
	until(processes("disk0") == 0);
	clean();
	/* nobody is left who has them: the next server begins anew */
	kill_server();
	serve("");
	start(&fresh, in_base("mnt"), "6M", 30, 9);
	hear(&fresh, "ready");
	told(&fresh, "v");
	/* all clients and the server gone at once */
	kill_server();
	kill(fresh.pid, SIGKILL);
	assert_int_equal(finish(&fresh), SIGKILL);
	serve("");
	until(field("mnt/swap/disk0.stat", "used") == 0);
	clean();
}

static void swapoff_under_load(void **state)
{
	struct program p[3];

	(void)state;
	serve("");
	for (unsigned i = 0; i < 3; i++)
		start(&p[i], in_base("mnt"), "6M", 28, i);
	for (unsigned i = 0; i < 3; i++)
		hear(&p[i], "ready");
	assert_true(field("mnt/swap/disk0.stat", "used") > 0);
	say(&p[1], "f");
	hear(&p[1], "f");
	for (unsigned i = 0; i < 3; i++)
		say(&p[i], "v");
	must("swapoff \"$BASE/mnt\" disk0");
	assert_int_equal(field("mnt/swap/disk0.stat", "used"), -1);
	for (unsigned i = 0; i < 3; i++)
		hear(&p[i], "v");
	assert_true(field("mnt/swap/disk1.stat", "used") > 0);
	/* what they have fits nowhere else */
	assert_int_equal(run_faultline("swapoff \"$BASE/mnt\" disk1 2>\"$BASE/err\""), 1);
	for (unsigned i = 0; i < 3; i++)
		told(&p[i], "v");
	must("swapon --priority 7 \"$BASE/mnt\" disk0");
	assert_int_equal(field("mnt/swap/disk0.stat", "priority"), 7);
	for (unsigned i = 0; i < 3; i++)
		told(&p[i], "c");
	assert_true(field("mnt/swap/disk0.stat", "used") > 0);
	for (unsigned i = 0; i < 3; i++)
		told(&p[i], "v");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(finish(&p[i]), 0);
	clean();
	must("swapoff \"$BASE/mnt\" disk0");
	must("swapoff \"$BASE/mnt\" disk1");
	assert_int_equal(run_faultline("run --store \"$BASE/mnt\" true 2>\"$BASE/err\""), 125);
}

/* --- what takes more than a second is shown on a terminal --- */

struct shown {
	pid_t pid;
	int terminal;
	size_t len;
	char text[8192];
};

/* "faultline COMMAND MNT ARGUMENT..." on a terminal of its own. */
static void show(struct shown *s, const char *command, const char *what, const char *size)
{
	const char *build = getenv("FL_BUILD");
	char faultline[PATH_MAX], mnt[PATH_MAX];

	memset(s, 0, sizeof(*s));
	snprintf(faultline, sizeof(faultline), "%s/src/cli/faultline", build != NULL ? build : ".");
	snprintf(mnt, sizeof(mnt), "%s", in_base("mnt"));
	s->pid = forkpty(&s->terminal, NULL, NULL, NULL);
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		execl(faultline, faultline, command, mnt, what, size, NULL);
		_exit(127);
	}
}

/* Read on; false at the end.  What is long past is forgotten. */
static bool show_more(struct shown *s)
{
	ssize_t n;

	if (s->len > sizeof(s->text) / 2) {
		memmove(s->text, s->text + s->len - 200, 201);
		s->len = 200;
	}
	n = read(s->terminal, s->text + s->len, sizeof(s->text) - 1 - s->len);
	if (n <= 0)
		return false; /* EIO: nobody has the other side any more */
	s->len += (size_t)n;
	s->text[s->len] = '\0';
	return true;
}

/* The MiB that are left, by the last whole line; -1: there is none yet. */
static long shown_left(const struct shown *s)
{
	const char *at = s->text;
	long left = -1;

	while ((at = strstr(at, "] ")) != NULL) {
		char *rest;
		long n = strtol(at += 2, &rest, 10);

		if (rest != at && strncmp(rest, " MiB left", 9) == 0)
			left = n;
	}
	return left;
}

/* To its end, where the line is taken away again: its status. */
static int shown_status(struct shown *s)
{
	int status;

	while (show_more(s))
		continue;
	assert_true(s->len > 4);
	assert_string_equal(s->text + s->len - 4, "\r\033[K");
	close(s->terminal);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	return status;
}

/* One gives back its part, the other does not yet. */
static void swapoff_shows_how_far_it_is(void **state)
{
	struct program p[2];
	const char *bar = NULL;
	struct shown s;
	size_t part = 0;

	(void)state;
	serve("");
	for (unsigned i = 0; i < 2; i++)
		start(&p[i], in_base("mnt"), "6M", 40, i);
	for (unsigned i = 0; i < 2; i++)
		hear(&p[i], "ready");
	stop(p[0].pid);
	show(&s, "swapoff", "disk0", NULL);
	while (bar == NULL || part < 10 || part > 20 || shown_left(&s) < 0) {
		assert_true(show_more(&s));
		bar = strrchr(s.text, '[');
		/* the last escape begins so, too */
		while (bar != NULL && bar > s.text && bar[-1] == '\033')
			for (bar--; bar > s.text && *bar != '[';)
				bar--;
		part = bar != NULL ? strspn(bar + 1, "#") : 0;
	}
	assert_non_null(strstr(s.text, "disk0 ["));
	kill(p[0].pid, SIGCONT);
	assert_int_equal(shown_status(&s), 0);
	for (unsigned i = 0; i < 2; i++) {
		told(&p[i], "v");
		assert_int_equal(finish(&p[i]), 0);
	}
	clean();
}

/* All frames of a process that is stopped, above what it is to have; then those of a group. */
static void limit_shows_how_far_it_is(void **state)
{
	static const char *const frames[] = {"resident", "staged", "pool", "cache_pages"};
	char pid[16], file[64], line[128];
	struct program p;
	struct shown s;
	long long held = 0;
	pid_t child;

	(void)state;
	serve("");
	start(&p, in_base("mnt"), "20M", 40, 1);
	hear(&p, "ready");
	stop(p.pid);
	snprintf(pid, sizeof(pid), "%d", (int)p.pid);
	snprintf(file, sizeof(file), "mnt/proc/%s/status", pid);
	for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
		held += field(file, frames[i]);
	assert_true(held > 16 * 256);
	show(&s, "limit", pid, "4M");
	while (shown_left(&s) < 0)
		assert_true(show_more(&s));
	assert_int_equal(shown_left(&s), (held - 4 * 256) / 256);
	assert_non_null(strstr(s.text, " [.........."));
	kill(p.pid, SIGCONT);
	assert_int_equal(shown_status(&s), 0);
	assert_true(holds(p.pid) <= 4 * 256);
	told(&p, "v");
	assert_int_equal(finish(&p), 0);

	grouped = true;
	start(&p, in_base("mnt"), "40M", 60, 1);
	grouped = false;
	hear(&p, "ready");
	child = child_of(&p);
	until(holds(child) > 16 * 256);
	stop(child);
	held = holds(child);
	snprintf(pid, sizeof(pid), "%d", (int)p.pid);
	snprintf(file, sizeof(file), "mnt/proc/%s/status", pid);
	assert_int_equal(field(file, "group_limit"), 40 * 256);
	assert_in_range(field(file, "group_held"), held, 40 * 256);
	show(&s, "limit", pid, "8M");
	while (shown_left(&s) < 0)
		assert_true(show_more(&s));
	/* what the other one has is no less */
	assert_in_range(shown_left(&s), (held - 8 * 256) / 256, 32);
	kill(child, SIGCONT);
	/* on a machine that is busy it may have been given up */
	shown_status(&s);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %s 8M", pid);
	must(line);
	assert_int_equal(field(file, "group_limit"), 8 * 256);
	assert_true(field(file, "group_held") <= 8 * 256);
	told(&p, "v");
	kill(child, SIGKILL);
	until(holds(child) < 0);
	assert_int_equal(finish(&p), 0);
	clean();
}

/* One that does not answer is waited for, until whoever asked has enough of it. */
static void swapoff_is_given_up(void **state)
{
	const char *build = getenv("FL_BUILD");
	char line[2 * PATH_MAX];
	struct program p;

	(void)state;
	serve("");
	start(&p, in_base("mnt"), "6M", 24, 1);
	hear(&p, "ready");
	stop(p.pid);
	snprintf(line, sizeof(line),
		 "timeout -s INT 1 '%s/src/cli/faultline' swapoff '%s/mnt' disk0",
		 build != NULL ? build : ".", base);
	assert_int_equal(WEXITSTATUS(system(line)), 124);
	assert_true(field("mnt/swap/disk0.stat", "used") > 17 * 256);
	kill(p.pid, SIGCONT);
	told(&p, "v");
	must("swapoff \"$BASE/mnt\" disk0");
	told(&p, "v");
	assert_int_equal(field("mnt/swap/disk0.stat", "used"), -1);
	assert_int_equal(finish(&p), 0);
	clean();
}

static void commands(void **state)
{
	struct program p;
	char line[128];

	(void)state;
	serve("");
	start(&p, in_base("mnt"), "16M", 12, 1);
	hear(&p, "ready");
	/* not armed: it is nobody's client, and has what it wants */
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 4M 2>\"$BASE/err\"", (int)p.pid);
	assert_int_equal(run_faultline(line), 1);
	assert_int_equal(finish(&p), 0);
	start(&p, in_base("mnt"), "16M", 24, 1);
	hear(&p, "ready");
	until(used() > 0);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 4M", (int)p.pid);
	must(line);
	assert_true(used() >= 19 * 256);
	told(&p, "v");
	assert_int_equal(run_faultline("swapon \"$BASE/mnt\" disk0 2>\"$BASE/err\""), 1);
	assert_int_equal(run_faultline("swapon \"$BASE/mnt\" none 2>\"$BASE/err\""), 1);
	assert_int_equal(run_faultline("swapoff \"$BASE/mnt\" none 2>\"$BASE/err\""), 1);
	assert_int_equal(run_faultline("swapoff \"$BASE/store\" disk0 2>\"$BASE/err\""), 1);
	assert_int_equal(finish(&p), 0);
	clean();
}

/* The limit of a group changes while its processes work: what is kept is kept by all of them. */
static void the_limit_of_a_group(void **state)
{
	struct program p;
	char line[128];
	pid_t child;

	(void)state;
	serve("");
	grouped = true;
	start(&p, in_base("mnt"), "40M", 60, 1);
	grouped = false;
	hear(&p, "ready");
	until(holds(p.pid) > 30 * 256);
	child = child_of(&p);
	until(holds(child) > 10 * 256);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 12M", (int)p.pid);
	for (unsigned round = 0; round < 4; round++) {
		must(line);
		/* one after the other was less than that, whatever the other did meanwhile */
		for (unsigned i = 0; i < 50; i++)
			assert_true(holds(p.pid) <= 10 * 256 && holds(child) <= 10 * 256);
		told(&p, "v");
		snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 32M", (int)child);
		must(line);
		told(&p, "v");
		until(holds(p.pid) > 12 * 256 || holds(child) > 12 * 256);
		snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d %uM", (int)child, 12 - round);
	}
	/* one that is stopped gives nothing back, and the old one stays */
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 32M", (int)p.pid);
	must(line);
	until(holds(child) > 16 * 256);
	stop(child);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 16M 2>\"$BASE/err\"", (int)p.pid);
	assert_int_equal(run_faultline(line), 1);
	told(&p, "v");
	until(holds(p.pid) + holds(child) > 20 * 256);
	kill(child, SIGCONT);
	/* two cannot have less than twice the least */
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 3M 2>\"$BASE/err\"", (int)p.pid);
	assert_int_equal(run_faultline(line), 1);
	kill(child, SIGKILL);
	until(holds(child) < 0);
	told(&p, "v");
	until(holds(p.pid) > 20 * 256);
	must("store check \"$BASE/store\" >/dev/null");
	assert_int_equal(finish(&p), 0);
	clean();
}

static void through_the_mount(void **state)
{
	struct program p[2];
	char mnt[PATH_MAX];

	(void)state;
	snprintf(mnt, sizeof(mnt), "%s,io=fuse", in_base("mnt"));
	serve("");
	/* only where the mount allows it */
	start(&p[0], mnt, "6M", 30, 1);
	assert_int_equal(finish(&p[0]), 125 << 8);
	assert_int_equal(unmount(), 0);
	serve("-o io=fuse");
	for (unsigned i = 0; i < 2; i++)
		start(&p[i], mnt, "6M", 30, i);
	for (unsigned i = 0; i < 2; i++)
		hear(&p[i], "ready");
	for (unsigned i = 0; i < 2; i++)
		told(&p[i], "v");
	assert_true(field("mnt/stats", "written_bytes") > 40 << 20);
	say(&p[0], "f");
	hear(&p[0], "f");
	for (unsigned i = 0; i < 2; i++)
		told(&p[i], "v");
	must("swapoff \"$BASE/mnt\" disk0");
	for (unsigned i = 0; i < 2; i++)
		told(&p[i], "v");
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(finish(&p[i]), 0);
	clean();
}

static void no_store(void **state)
{
	char line[128];

	(void)state;
	assert_int_equal(run_faultline("run --store \"$BASE/mnt\" true 2>\"$BASE/err\""), 125);
	assert_int_equal(run_faultline("run --store \"$BASE/none\" true 2>\"$BASE/err\""), 125);
	snprintf(line, sizeof(line), "[ $(wc -l <'%s') -eq 1 ]", in_base("err"));
	assert_int_equal(system(line), 0);
	serve("");
	must("run --store \"$BASE/mnt\" true");
}

/* --- hostile ones --- */

static int dial(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%.64s/mnt/socket", base);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static void post(int fd, const void *buf, size_t len, const int *fds, unsigned n)
{
	char room[CMSG_SPACE(64 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr head = {.cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS,
			       .cmsg_len = CMSG_LEN(n * sizeof(int))};

	if (n != 0) {
		memcpy(room, &head, sizeof(head));
		memcpy(room + CMSG_LEN(0), fds, n * sizeof(int));
		h.msg_control = room;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	if (sendmsg(fd, &h, MSG_NOSIGNAL) < 0)
		assert_true(errno == EPIPE || errno == ECONNRESET);
}

/* It is told what is wrong, and nobody listens any more. */
static void refused(int fd, int error)
{
	struct wire_msg m;

	assert_int_equal(recv(fd, &m, sizeof(m), 0), sizeof(m));
	wire_convert(&m);
	assert_int_equal(m.type, WIRE_ERROR);
	assert_int_equal(m.error, error);
	assert_true(strlen(m.name) > 10 && strlen(m.name) < sizeof(m.name));
	assert_int_equal(recv(fd, &m, sizeof(m), 0), 0);
	close(fd);
}

static void hello(struct wire_msg *m)
{
	wire_init(m, WIRE_HELLO);
	strcpy(m->name, "hostile");
	wire_convert(m);
}

static void hostile_clients(void **state)
{
	struct program p;
	struct wire_msg m;
	int own[40], fd, mem;
	uint64_t rest = 88172645463325252U;

	(void)state;
	serve("");
	start(&p, in_base("mnt"), "6M", 24, 5);
	hear(&p, "ready");
	mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	own[0] = mem;
	own[1] = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	own[2] = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 3; i < 40; i++)
		own[i] = mem;

	/* of another length */
	hello(&m);
	fd = dial();
	post(fd, &m, sizeof(m) - 1, own, 3);
	refused(fd, -EMSGSIZE);
	fd = dial();
	post(fd, "x", 1, NULL, 0);
	refused(fd, -EMSGSIZE);
	/* of another version */
	m.version = 9;
	fd = dial();
	post(fd, &m, sizeof(m), own, 3);
	refused(fd, -EPROTONOSUPPORT);
	/* no descriptors, too many, and of the wrong kind */
	hello(&m);
	fd = dial();
	post(fd, &m, sizeof(m), NULL, 0);
	refused(fd, -EPROTO);
	fd = dial();
	post(fd, &m, sizeof(m), own, 40);
	refused(fd, -EMSGSIZE);
	fd = dial();
	post(fd, &m, sizeof(m), (int[]){fd, fd, fd}, 3);
	refused(fd, -EPROTO);
	{
		int rw = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

		fd = dial();
		post(fd, &m, sizeof(m), (int[]){rw, own[1], own[2]}, 3);
		refused(fd, -EPROTO);
		close(rw);
	}
	/* absurd counts */
	m.count = UINT32_MAX;
	fd = dial();
	post(fd, &m, sizeof(m), own, 3);
	refused(fd, -EPROTO);
	/* what only a server says, and what was not asked for */
	wire_init(&m, WIRE_ATTACHED);
	fd = dial();
	post(fd, &m, sizeof(m), NULL, 0);
	refused(fd, -EPROTO);
	wire_init(&m, WIRE_DONE);
	fd = dial();
	post(fd, &m, sizeof(m), NULL, 0);
	refused(fd, -EPROTO);
	/* an area that it does not have: garbage instead of a map, and it is not taken for one */
	{
		int file = open(in_base("store/swap/disk0"), O_RDWR | O_CLOEXEC);
		char reply[sizeof(m)];

		hello(&m);
		m.count = 1;
		fd = dial();
		post(fd, &m, sizeof(m), own, 3);
		wire_init(&m, WIRE_HELD);
		strcpy(m.name, "disk9");
		m.slots = UINT32_MAX;
		wire_convert(&m);
		post(fd, &m, sizeof(m), (int[]){file, mem}, 2);
		/* attached like anybody else: AREA, AREA, ATTACHED */
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(recv(fd, reply, sizeof(reply), 0), sizeof(reply));
		/* and it does not listen: more than its socket holds is not waited for */
		close(file);
		close(fd);
	}
	/* noise */
	for (unsigned i = 0; i < 300; i++) {
		unsigned char *bytes = (unsigned char *)&m;

		hello(&m);
		for (unsigned k = 0; k < 1 + i % 8; k++) {
			rest ^= rest << 13;
			rest ^= rest >> 7;
			rest ^= rest << 17;
			bytes[rest % (k % 2 != 0 ? 64 : sizeof(m))] = (unsigned char)(rest >> 32);
		}
		fd = dial();
		post(fd, &m, rest % 3 != 0 ? sizeof(m) : rest % (2 * sizeof(m)) % sizeof(m), own,
		     (unsigned)(rest >> 8) % 4);
		close(fd);
	}
	/* garbage in the memory that is shared */
	until(processes("disk0") == 1);
	told(&p, "v");
	assert_int_equal(finish(&p), 0);
	close(own[0]);
	close(own[1]);
	close(own[2]);
	clean();
	assert_true(field("mnt/stats", "pid") > 1);
}

/* Who has its map can spoil it; the server must not fall over that. */
static void garbage_in_the_map(void **state)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct wire_msg m;
	struct iovec iov = {&m, sizeof(m)};
	uint64_t rest = 1181783497276652981U;
	struct program p;

	(void)state;
	serve("");
	for (unsigned round = 0; round < 3; round++) {
		struct msghdr h = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = &control,
				   .msg_controllen = sizeof(control)};
		int own[3] = {open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
			      open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
			      open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
		int fd = dial(), fds[3];
		uint64_t junk[512];

		hello(&m);
		post(fd, &m, sizeof(m), own, 3);
		assert_int_equal(recvmsg(fd, &h, MSG_CMSG_CLOEXEC), sizeof(m));
		wire_convert(&m);
		assert_int_equal(m.type, WIRE_AREA);
		memcpy(fds, CMSG_DATA(&control.head), sizeof(fds));
		/* it cannot be made shorter, which would be the end of who reads it */
		assert_true(ftruncate(fds[2], 4096) != 0);
		for (unsigned page = 0; page < 64; page++) {
			for (unsigned i = 0; i < 512; i++) {
				rest ^= rest << 13;
				rest ^= rest >> 7;
				rest ^= rest << 17;
				junk[i] = rest;
			}
			assert_int_equal(pwrite(fds[2], junk, sizeof(junk), page * 4096L),
					 sizeof(junk));
		}
		for (unsigned i = 0; i < 3; i++) {
			close(fds[i]);
			close(own[i]);
		}
		close(fd);
		until(field("mnt/swap/disk0.stat", "slots") > 0);
		run_faultline("store check \"$BASE/store\" >\"$BASE/err\" 2>&1");
	}
	/* when nobody has it any more it is an empty one; the other was never anything else */
	until(field("mnt/swap/disk0.stat", "used") == 0);
	until(processes("disk0") == 0);
	assert_true(field("mnt/swap/disk1.stat", "used") == 0);
	start(&p, in_base("mnt"), "6M", 24, 5);
	hear(&p, "ready");
	told(&p, "v");
	assert_true(field("mnt/swap/disk0.stat", "used") > 17 * 256);
	assert_int_equal(finish(&p), 0);
	clean();
	assert_true(field("mnt/stats", "pid") > 1);
}

/* Say hello, as the first on a connection. */
static void greet(int fd)
{
	int own[3] = {open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
		      open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
		      open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
	struct wire_msg m;

	hello(&m);
	post(fd, &m, sizeof(m), own, 3);
	for (unsigned i = 0; i < 3; i++)
		close(own[i]);
}

/* The descriptors of the first area, as who attaches gets them. */
static void hear_area(int fd, int fds[3])
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct wire_msg m;
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};

	assert_int_equal(recvmsg(fd, &h, MSG_CMSG_CLOEXEC), sizeof(m));
	wire_convert(&m);
	assert_int_equal(m.type, WIRE_AREA);
	memcpy(fds, CMSG_DATA(&control.head), 3 * sizeof(int));
}

/* Both; the connection. */
static int attach_raw(int fds[3])
{
	int fd = dial();

	greet(fd);
	hear_area(fd, fds);
	return fd;
}

static uint64_t random_from(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

#define SPOILT_PAGES 90U /* the map's common part, and the bits of its first members */

/* Until it is killed, as fast as it can: most where the counts are. */
static _Noreturn void spoil(int map_fd, uint64_t x)
{
	uint64_t *map =
		mmap(NULL, SPOILT_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);

	if (map == MAP_FAILED)
		_exit(1);
	for (;;) {
		uint64_t v = random_from(&x);
		size_t at = v % 4 == 0 ? 1 + v / 4 % 64 : 1 + v / 4 % (SPOILT_PAGES * 512 - 1);

		map[at] = v % 5 == 0 ? 0 : v % 7 == 0 ? UINT64_MAX : random_from(&x);
	}
}

#define VICTIM_PAGES 2048U

static sigjmp_buf lost_page;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(lost_page, 1);
}

/* Pages whose slots another process spoils: what is lost raises SIGBUS, and goes on as a new one. */
static void victim(void *arg)
{
	const int *told = arg;
	struct fl_options o = {.size = sizeof(o),
			       .limit = FL_LIMIT_MIN,
			       .store = in_base("mnt"),
			       .log_level = FL_LOG_ERROR};
	struct sigaction act = {.sa_handler = on_bus, .sa_flags = SA_NODEFER};
	uint64_t x = 1181783497276652981U;
	volatile unsigned long sum = 0;
	struct fl *fl;
	char *mem;

	sigaction(SIGBUS, &act, NULL);
	if (fl_open(&fl, &o) != 0)
		_exit(10);
	mem = fl_mmap(fl, NULL, VICTIM_PAGES * 4096UL, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == FL_FAILED)
		_exit(11);
	for (size_t i = 0; i < VICTIM_PAGES * 512UL; i++)
		((uint64_t *)(void *)mem)[i] = random_from(&x);
	if (write(told[1], "x", 1) != 1)
		_exit(12);
	for (volatile unsigned i = 0; i < 6000; i++) {
		volatile size_t page = random_from(&x) % VICTIM_PAGES;
		uint64_t *at = (uint64_t *)(void *)(mem + page * 4096);

		if (sigsetjmp(lost_page, 1) != 0) {
			fl_madvise(fl, mem + page * 4096, 4096, MADV_DONTNEED);
			continue;
		}
		if (x & 0x100)
			at[x >> 20 & 511] = x;
		else
			sum += at[x >> 20 & 511];
		if (x >> 32 & 63)
			continue;
		if (x & 0x200)
			fl_madvise(fl, mem + page / 64 * 64 * 4096, 64 * 4096UL, MADV_DONTNEED);
		else
			fl_madvise(fl, mem + page / 64 * 64 * 4096, 64 * 4096UL, 21 /* PAGEOUT */);
	}
	/* what it cannot have back stays where it is */
	fl_close(fl);
}

/* A member that writes anything into the map, all the time: others lose what they have there, and no more. */
static void a_member_that_spoils_the_map(void **state)
{
	unsigned well = 0;

	(void)state;
	serve("");
	for (unsigned round = 0; round < 4; round++) {
		int fds[3], told[2], status, fd = attach_raw(fds);
		char text[4096], c;
		pid_t spoiler, parent = getpid();

		assert_int_equal(pipe2(told, O_CLOEXEC), 0);
		spoiler = fork();
		assert_true(spoiler >= 0);
		if (spoiler == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent || read(told[0], &c, 1) != 1)
				_exit(1);
			spoil(fds[2], round * 2 + 88172645463325253U);
		}
		status = in_child(victim, told, text, sizeof(text));
		/* where no slot seems to be left it may be ended, which it says in one line */
		if (status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
				     strstr(text, "out of memory") != NULL))
			fail_msg("round %u: status %x: %s", round, (unsigned)status, text);
		well += status == 0;
		kill(spoiler, SIGKILL);
		assert_int_equal(waitpid(spoiler, NULL, 0), spoiler);
		for (unsigned i = 0; i < 3; i++)
			close(fds[i]);
		close(told[0]);
		close(told[1]);
		close(fd);
		assert_true(field("mnt/swap/disk0.stat", "slots") > 0);
	}
	print_message("# %u of 4 came to their end\n", well);
	clean();
	until(processes("disk0") == 0);
}

/* --- slow ones --- */

/*
 * What a client sends may be of a filesystem that does not answer, and to close it waits for
 * that: it is not attended to, and others are.
 */
static void descriptors_that_cannot_be_closed(void **state)
{
	const char *build = getenv("FL_BUILD");
	char line[4 * PATH_MAX];
	int file, fd, other, fds[6];
	struct program p;
	struct wire_msg m;

	(void)state;
	serve("");
	assert_int_equal(mkdir(in_base("slow"), 0755), 0);
	assert_int_equal(mkfifo(in_base("gate"), 0600), 0);
	assert_int_equal(mkfifo(in_base("begun"), 0600), 0);
	snprintf(line, sizeof(line), "'%s/tests/store/slow' '%s/gate' '%s/begun' '%s/slow'",
		 build != NULL ? build : ".", base, base, base);
	assert_int_equal(system(line), 0);
	gate = open(in_base("gate"), O_RDWR | O_CLOEXEC);
	file = open(in_base("slow/file"), O_RDONLY | O_APPEND | O_CLOEXEC);
	assert_true(gate >= 0 && file >= 0);
	hello(&m);
	for (unsigned i = 0; i < 4; i++) {
		fd = dial();
		post(fd, &m, sizeof(m), (int[]){file, file, file}, 3);
		refused(fd, -EPROTO);
	}
	/* nor what comes with a message of another length, or is never read */
	fd = dial();
	post(fd, &m, sizeof(m) - 1, (int[]){file, file, file}, 3);
	refused(fd, -EMSGSIZE);
	fd = dial();
	post(fd, "x", 1, NULL, 0);
	post(fd, &m, sizeof(m), (int[]){file, file, file}, 3);
	close(fd);
	/* nor what is said to be behind a mapping; and others come (a program would close the file as it begins) */
	fd = attach_raw(fds);
	wire_init(&m, WIRE_BACKING);
	m.mm_addr = 4096;
	wire_convert(&m);
	post(fd, &m, sizeof(m), (int[]){file, file}, 2);
	other = attach_raw(fds + 3);
	until(processes("disk0") == 2);
	close(fd);
	close(other);
	for (unsigned i = 0; i < 6; i++)
		close(fds[i]);
	until(processes("disk0") == 0);
	/* nothing more is taken of a user of whom too many wait, */
	hello(&m);
	for (time_t until = time(NULL) + HANG_SECONDS;;) {
		struct wire_msg said;

		fd = dial();
		post(fd, &m, sizeof(m), (int[]){file, file, file}, 3);
		assert_int_equal(recv(fd, &said, sizeof(said), 0), sizeof(said));
		wire_convert(&said);
		assert_int_equal(said.type, WIRE_ERROR);
		close(fd);
		if (said.error == -EAGAIN)
			break;
		assert_true(time(NULL) < until);
		poll(NULL, 0, 20);
	}
	/* before these are closed */
	open_gate();
	close(file);
	start(&p, in_base("mnt"), "6M", 24, 5);
	hear(&p, "ready");
	assert_int_equal(finish(&p), 0);
	clean();
}

#define MANY 12U /* descriptors: more than any message has */

/* A connection that keeps who closes it last waiting: for a peer that does not read. */
static int lingering(const struct sockaddr_in *peer)
{
	static const char junk[65536];
	const struct linger l = {.l_onoff = 1, .l_linger = 10 * HANG_SECONDS};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)peer, sizeof(*peer)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	while (send(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
		continue;
	assert_int_equal(errno, EAGAIN);
	return fd;
}

/* Nobody else has them when they are received: to end does not wait for them. */
static _Noreturn void sends_too_many(int fd, const struct sockaddr_in *peer)
{
	struct wire_msg m;
	int fds[MANY];

	test_child();
	for (unsigned i = 0; i < MANY; i++)
		fds[i] = lingering(peer);
	hello(&m);
	post(fd, &m, sizeof(m), fds, MANY);
	_exit(0);
}

/* Descriptors that are too many for a message are closed where nobody waits for it, too. */
static void too_many_descriptors(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);
	int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd, fds[3];
	pid_t pid;

	(void)state;
	assert_int_equal(bind(peer, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(peer, MANY), 0);
	assert_int_equal(getsockname(peer, (struct sockaddr *)&at, &len), 0);
	serve("");
	fd = dial();
	silent = (pid_t)field("mnt/stats", "pid");
	assert_true(silent > 1);
	stop(silent);
	pid = fork();
	if (pid == 0)
		sends_too_many(fd, &at);
	test_reap(pid);
	close(fd);
	assert_int_equal(kill(silent, SIGCONT), 0);
	silent = 0;
	fd = attach_raw(fds);
	close(fd);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	/* they end with their peers */
	for (unsigned i = 0; i < MANY; i++)
		close(accept(peer, NULL, NULL));
	close(peer);
	clean();
}

/* Who comes while too many have not said what they want is not turned away. */
static void strangers_keep_nobody_out(void **state)
{
	int fd[70], fds[3];

	(void)state;
	serve("");
	for (unsigned i = 0; i < 70; i++)
		fd[i] = dial();
	greet(fd[69]);
	for (unsigned i = 0; i < 69; i++)
		close(fd[i]);
	hear_area(fd[69], fds);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	close(fd[69]);
	clean();
}

/* It has more than its limit in both areas, and turns one of them off when it is told to. */
static void turns_off(void *arg)
{
	const int *told = arg;
	struct fl_options o = {.size = sizeof(o),
			       .limit = FL_LIMIT_MIN,
			       .store = in_base("mnt"),
			       .store_flags = FL_STORE_FUSE,
			       .pagers = 2,
			       .log_level = FL_LOG_ERROR};
	uint64_t x = 88172645463325252U;
	uint64_t *mem;
	struct fl *fl;
	char c;

	if (fl_open(&fl, &o) != 0)
		_exit(10);
	mem = fl_mmap(fl, NULL, VICTIM_PAGES * 4096UL, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == FL_FAILED)
		_exit(11);
	for (size_t i = 0; i < VICTIM_PAGES * 512UL; i++)
		mem[i] = random_from(&x);
	if (write(told[1], "x", 1) != 1 || read(told[2], &c, 1) != 1)
		_exit(12);
	if (fl_swapoff(fl, "disk0") != 0)
		_exit(13);
	x = 88172645463325252U;
	for (size_t i = 0; i < VICTIM_PAGES * 512UL; i++)
		if (mem[i] != random_from(&x))
			_exit(14);
	fl_close(fl);
	_exit(0);
}

/* A device that does not answer for longer than anything is tried is no want of room. */
static void swapoff_waits_for_a_slow_device(void **state)
{
	int told[2], go[2], status;
	pid_t pid;
	char c;

	(void)state;
	serve("-o io=fuse");
	silent = (pid_t)field("mnt/stats", "pid");
	assert_true(silent > 1);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	assert_int_equal(pipe2(go, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		turns_off((int[3]){told[0], told[1], go[0]});
	assert_int_equal(read(told[0], &c, 1), 1);
	stop(silent);
	assert_int_equal(write(go[1], "g", 1), 1);
	/* what is measured, not a synchronisation */
	poll(NULL, 0, 5000);
	assert_int_equal(kill(silent, SIGCONT), 0);
	silent = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	for (unsigned i = 0; i < 2; i++) {
		close(told[i]);
		close(go[i]);
	}
	clean();
}

static void go_on(int from, int to)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	char buf[sizeof(struct wire_msg) + 1];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(from, &h, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		_exit(0);
	iov.iov_len = (size_t)n;
	if (h.msg_controllen == 0)
		h.msg_control = NULL;
	if (sendmsg(to, &h, MSG_NOSIGNAL) != n)
		_exit(0);
	for (unsigned i = 0; i < 4 && h.msg_controllen >= CMSG_LEN((i + 1) * sizeof(int)); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(&control.head) + i * sizeof(int), sizeof(fd));
		if (CMSG_LEN((i + 1) * sizeof(int)) <= control.head.cmsg_len)
			close(fd);
	}
}

/*
 * Stands between clients and the server: what is more than a question is passed on once a
 * byte has come that gives leave, 'g', or the connection is closed, 'q'.
 */
static _Noreturn void stand_between(int listener, int leave)
{
	for (;;) {
		int fds[2] = {accept4(listener, NULL, NULL, SOCK_CLOEXEC), -1};
		struct wire_msg m;
		char c = 'g';

		if (fds[0] < 0 || fork() != 0) {
			close(fds[0]);
			continue;
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (recv(fds[0], &m, sizeof(m), MSG_PEEK) != (ssize_t)sizeof(m))
			_exit(0);
		wire_convert(&m);
		if (!(m.flags & WIRE_PROBE) && (read(leave, &c, 1) != 1 || c == 'q'))
			_exit(0);
		fds[1] = dial();
		for (;;) {
			struct pollfd p[2] = {{.fd = fds[0], .events = POLLIN},
					      {.fd = fds[1], .events = POLLIN}};

			if (poll(p, 2, -1) < 0)
				_exit(0);
			for (unsigned i = 0; i < 2; i++)
				if (p[i].revents != 0)
					go_on(fds[i], fds[!i]);
		}
	}
}

/* Until the programs have said that in their errors. */
static void await_text(int from, const char *text)
{
	char all[4096];
	size_t n = 0;

	do {
		struct pollfd p = {.fd = from, .events = POLLIN};
		ssize_t r;

		assert_int_equal(poll(&p, 1, HANG_SECONDS * 1000), 1);
		r = read(from, all + n, sizeof(all) - 1 - n);
		assert_true(r > 0);
		n += (size_t)r;
		all[n] = '\0';
	} while (strstr(all, text) == NULL);
}

/* One that lives and does not answer is waited for, which is said; its end is noticed at once. */
static void a_server_that_is_slow(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int leave[2], text[2], status;
	pid_t between, parent = getpid();
	struct program p;

	(void)state;
	serve("");
	assert_int_equal(mkdir(in_base("between"), 0755), 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%.64s/between/listener", base);
	assert_int_equal(symlink(at.sun_path, in_base("between/socket")), 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(pipe2(leave, O_CLOEXEC), 0);
	assert_int_equal(pipe2(text, O_CLOEXEC), 0);
	between = fork();
	assert_true(between >= 0);
	if (between == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		signal(SIGCHLD, SIG_IGN);
		stand_between(listener, leave[0]);
	}
	errors = text[1];
	start(&p, in_base("between"), "6M", 24, 5);
	await_text(text[0], "its server is slow to answer: waiting for it");
	assert_int_equal(write(leave[1], "g", 1), 1);
	hear(&p, "ready");
	told(&p, "v");
	assert_int_equal(finish(&p), 0);
	start(&p, in_base("between"), "6M", 24, 5);
	await_text(text[0], "its server is slow to answer: waiting for it");
	assert_int_equal(write(leave[1], "q", 1), 1);
	await_text(text[0], "its server does not answer");
	errors = -1;
	status = finish(&p);
	assert_true(status != 0);
	kill(between, SIGKILL);
	assert_int_equal(waitpid(between, NULL, 0), between);
	close(listener);
	for (unsigned i = 0; i < 2; i++) {
		close(leave[i]);
		close(text[i]);
	}
	clean();
}

/* Nobody goes on with one whose messages mean something else, and one line says why. */
static void a_server_of_another_version(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pid_t other, parent = getpid();
	struct program p;
	int text[2];

	(void)state;
	serve("");
	assert_int_equal(mkdir(in_base("other"), 0755), 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%.64s/other/listener", base);
	assert_int_equal(symlink(at.sun_path, in_base("other/socket")), 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(pipe2(text, O_CLOEXEC), 0);
	other = fork();
	assert_true(other >= 0);
	if (other == 0) {
		struct wire_msg m;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		wire_init(&m, WIRE_ERROR);
		m.version = WIRE_VERSION + 1;
		m.error = -EPROTONOSUPPORT;
		wire_convert(&m);
		for (;;)
			post(accept4(listener, NULL, NULL, SOCK_CLOEXEC), &m, sizeof(m), NULL, 0);
	}
	errors = text[1];
	start(&p, in_base("other"), "6M", 24, 5);
	await_text(text[0], "its server is of another version of faultline");
	errors = -1;
	assert_true(finish(&p) != 0);
	kill(other, SIGKILL);
	assert_int_equal(waitpid(other, NULL, 0), other);
	close(listener);
	close(text[0]);
	close(text[1]);
	clean();
}

/* --- all at once --- */

static struct shadow *shadow;

static void make_files(void)
{
	int f = open(in_base("shadow"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(f >= 0);
	assert_int_equal(ftruncate(f, sizeof(*shadow)), 0);
	shadow = mmap(NULL, sizeof(*shadow), PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	assert_ptr_not_equal(shadow, MAP_FAILED);
	close(f);
	for (unsigned i = 0; i < OWNER_FILES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "mnt/files/f%u", i);
		f = open(in_base(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		assert_true(f >= 0);
		assert_int_equal(ftruncate(f, OWNER_STEADY * OWNER_PAGE), 0);
		close(f);
	}
}

/* Every word is that of the last version; nobody stores any more. */
static void check_files(const char *dir)
{
	static uint64_t buf[OWNER_WORDS];

	for (unsigned i = 0; i < OWNER_FILES; i++) {
		char name[64];
		int f;

		snprintf(name, sizeof(name), "%s/f%u", dir, i);
		f = open(in_base(name), O_RDONLY | O_CLOEXEC);
		assert_true(f >= 0);
		for (unsigned owner = 0; owner < OWNERS; owner++) {
			for (unsigned k = 0; k < OWNER_PAGES; k++) {
				uint32_t v = owner_get(&shadow->owner[i][owner].page[k].done);
				off_t from = (off_t)(owner_place(owner, k) * OWNER_PAGE);
				size_t word;

				assert_int_equal(pread(f, buf, sizeof(buf), from), sizeof(buf));
				word = owner_differs(buf, i, owner, k, v, v);
				if (word != OWNER_WORDS)
					fail_msg("%s: page %u of owner %u: word %zu is %lx, not of "
						 "version %u",
						 name, k, owner, word, (unsigned long)buf[word], v);
			}
		}
		close(f);
	}
}

static void next_turn(unsigned turn)
{
	owner_set(&shadow->turn, owner_get(&shadow->turn) + 1);
	assert_int_equal(owner_get(&shadow->turn) % TURNS, turn);
}

/* Until a new server pages all that is mapped. */
static void await_taken(const struct program p[CROWD])
{
	uint32_t turn = owner_get(&shadow->turn);
	time_t until = time(NULL) + HANG_SECONDS;

	for (unsigned i = 0; i < OWNER_FILES * OWNERS; i++) {
		while (owner_get(&shadow->owner[i / OWNERS][i % OWNERS].taken) != turn) {
			struct pollfd said_so = {.fd = p[i].out, .events = POLLIN};

			if (poll(&said_so, 1, 2) != 0)
				hear(&p[i], "nothing");
			if (time(NULL) > until)
				fail_msg("the mapping of program %u is not taken", i);
		}
	}
}

/* Each has a number of its own; those with a low one map a file, too. */
static void start_number(struct program *p, unsigned k, unsigned seed)
{
	owns = k;
	start(p, in_base("mnt"), "2M", 4, seed);
	owns = UINT_MAX;
}

/*
 * Programs that verify, fork and are killed, a server that is killed, an area
 * that comes and goes, in random order, while some of them store into files that they have
 * mapped; at the end nothing is left, and of what was stored nothing is lost.
 */
static void all_at_once(void **state)
{
	const char *text = getenv("FL_STORE_SEED"), *often = getenv("FL_STORE_ROUNDS");
	const char *lasts = getenv("FL_STORE_SECONDS");
	unsigned seed = text != NULL && *text != '\0' ? (unsigned)strtoul(text, NULL, 0) : 7;
	unsigned rounds = often != NULL ? (unsigned)strtoul(often, NULL, 0) : 25;
	const unsigned first = seed;
	time_t ends = time(NULL) + (lasts != NULL ? strtol(lasts, NULL, 0) : 0);
	struct program p[CROWD];
	bool forked[CROWD] = {false};
	unsigned next = 0, off = 0, killed = 0, servers = 0;

	(void)state;
	serve(CACHE);
	make_files();
	for (unsigned i = 0; i < CROWD; i++)
		start_number(&p[i], i, next++);
	for (unsigned i = 0; i < CROWD; i++)
		hear(&p[i], "ready");
	for (unsigned n = 0; n < rounds || time(NULL) < ends; n++) {
		unsigned k, what;

		seed = seed * 1103515245U + 12345U;
		k = (seed >> 16) % CROWD;
		what = (seed >> 8) % 16;
		if (what < 6) {
			told(&p[k], "v");
		} else if (what < 8 && !forked[k]) {
			forked[k] = true;
			say(&p[k], "f");
			hear(&p[k], "f");
		} else if (what < 12) {
			say(&p[k], "v");
			kill(p[k].pid, SIGKILL);
			assert_int_equal(finish(&p[k]), SIGKILL);
			forked[k] = false;
			killed++;
			start_number(&p[k], k, next++);
			hear(&p[k], "ready");
		} else if (what < 14) {
			next_turn(TURN_KILLED);
			kill_server();
			servers++;
			told(&p[k], "v");
			serve(CACHE);
			if (what == 13) { /* while it takes what is mapped */
				kill_server();
				servers++;
				serve(CACHE);
			}
			off = 0; /* a new server has all on */
			next_turn(TURN_TAKE);
			await_taken(p);
			next_turn(TURN_OPEN);
		} else {
			/* it may well be refused: its clients are not all back yet, or it is too full */
			if (off == 0)
				off = run_faultline(
					      "swapoff \"$BASE/mnt\" disk1 2>\"$BASE/err\"") == 0;
			else
				off = run_faultline("swapon \"$BASE/mnt\" disk1 2>\"$BASE/err\"") !=
				      0;
		}
	}
	for (unsigned i = 0; i < CROWD; i++)
		told(&p[i], "v");
	print_message("# seed %u: %u programs and %u servers were killed\n", first, killed,
		      servers);
	for (unsigned i = 0; i < OWNER_FILES * OWNERS; i++)
		told(&p[i], "e");
	check_files("mnt/files");
	for (unsigned i = 0; i < CROWD; i++) {
		kill(p[i].pid, SIGKILL);
		assert_int_equal(finish(&p[i]), SIGKILL);
	}
	check_files("mnt/files");
	until(field("mnt/swap/disk0.stat", "used") == 0);
	until(processes("disk0") == 0);
	clean();
	assert_int_equal(unmount(), 0);
	check_files("store/files");
	munmap(shadow, sizeof(*shadow));
	serve("");
}

/* Somebody else, who may open neither the areas nor the device. */
static void another_user(void **state)
{
	char line[2 * PATH_MAX];
	const char *build = getenv("FL_BUILD");

	(void)state;
	if (geteuid() != 0) {
		serve(""); /* for end() */
		test_skip("it takes root to be somebody else");
	}
	serve("-o allow_other");
	snprintf(line, sizeof(line),
		 "cd '%s' && cp '%s/src/cli/.libs/faultline' faultline 2>/dev/null ||"
		 " cp '%s/src/cli/faultline' faultline;"
		 " cp '%s/src/preload/.libs/libfaultline-preload.so' '%s/tests/store/pages' . &&"
		 " chmod 755 faultline pages libfaultline-preload.so",
		 base, build, build, build, build);
	assert_int_equal(system(line), 0);
	/* the device is this one's alone, and nobody else finds it changed */
	snprintf(line, sizeof(line),
		 "cd '%s' && unshare -m sh -euc '"
		 " [ -e device ] || mknod -m 600 device c 0x$(stat -c %%t /dev/userfaultfd)"
		 " 0x$(stat -c %%T /dev/userfaultfd);"
		 " mount --bind device /dev/userfaultfd;"
		 " export FAULTLINE_PRELOAD=$PWD/libfaultline-preload.so;"
		 " echo vv | setpriv --reuid=65534 --regid=65534 --clear-groups"
		 " ./faultline run --store %s/mnt --limit 6M ./pages 24 5' >out 2>err; status=$?;"
		 " cat err; exit $status",
		 base, base);
	/* its directory has to let others through */
	assert_true(system(line) != 0);
	assert_int_equal(chmod(in_base("store"), 0711), 0);
	assert_int_equal(system(line), 0);
	clean();
	assert_int_equal(unmount(), 0);
	serve("");
	/* not even through a directory that they may pass */
	assert_true(system(line) != 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_store, begin, end),
		cmocka_unit_test_setup_teardown(two_on_the_same_areas, begin, end),
		cmocka_unit_test_setup_teardown(a_forked_child, begin, end),
		cmocka_unit_test_setup_teardown(a_crowd_that_is_killed, begin, end),
		cmocka_unit_test_setup_teardown(a_server_that_is_killed, begin, end),
		cmocka_unit_test_setup_teardown(swapoff_under_load, begin, end),
		cmocka_unit_test_setup_teardown(swapoff_is_given_up, begin, end),
		cmocka_unit_test_setup_teardown(swapoff_shows_how_far_it_is, begin, end),
		cmocka_unit_test_setup_teardown(limit_shows_how_far_it_is, begin, end),
		cmocka_unit_test_setup_teardown(commands, begin, end),
		cmocka_unit_test_setup_teardown(the_limit_of_a_group, begin, end),
		cmocka_unit_test_setup_teardown(through_the_mount, begin, end),
		cmocka_unit_test_setup_teardown(all_at_once, begin, end),
		cmocka_unit_test_setup_teardown(hostile_clients, begin, end),
		cmocka_unit_test_setup_teardown(garbage_in_the_map, begin, end),
		cmocka_unit_test_setup_teardown(a_member_that_spoils_the_map, begin, end),
		cmocka_unit_test_setup_teardown(descriptors_that_cannot_be_closed, begin, end),
		cmocka_unit_test_setup_teardown(too_many_descriptors, begin, end),
		cmocka_unit_test_setup_teardown(a_server_that_is_slow, begin, end),
		cmocka_unit_test_setup_teardown(a_server_of_another_version, begin, end),
		cmocka_unit_test_setup_teardown(strangers_keep_nobody_out, begin, end),
		cmocka_unit_test_setup_teardown(swapoff_waits_for_a_slow_device, begin, end),
		cmocka_unit_test_setup_teardown(another_user, begin, end),
	};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("clients", tests, NULL, NULL);
}
