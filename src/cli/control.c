/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.c - 'faultline swapon', 'swapoff' and 'limit': tell a served store
 * something, by its control file (faultline-store(7)).
 *
 * The write returns when the thing is done, which may take as long as reading
 * all pages of an area: a process of its own makes it, while this one shows how
 * far it is, on a terminal.
 */
#include "cli.h"

#include "clients.h"
#include "options.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_MS 1000
#define NEXT_MS 200
#define BAR 30U

static void usage_swapon(void)
{
	puts("usage: faultline swapon [--priority N] MNT AREA\n"
	     "\n"
	     "Let programs of the store mounted at MNT swap to AREA, a file in the store's swap/\n"
	     "or a link to a block device there.\n"
	     "\n"
	     "  --priority, -p N  0 to 32767, higher is filled first (below all others)\n"
	     "  --help            show this text\n"
	     "\n"
	     "Exit status: 0 it is on, 1 it is not, 2 usage.");
}

static void usage_swapoff(void)
{
	puts("usage: faultline swapoff MNT AREA\n"
	     "\n"
	     "Have the programs of the store mounted at MNT take their pages out of AREA, and\n"
	     "give it up.  A terminal is shown how far that is.\n"
	     "\n"
	     "  --help  show this text\n"
	     "\n"
	     "Exit status: 0 it is off, 1 it is still on, 2 usage.");
}

static void usage_limit(void)
{
	puts("usage: faultline limit MNT PID SIZE\n"
	     "\n"
	     "Give the process PID, attached to the store mounted at MNT, another limit of "
	     "memory;\n"
	     "of a process in a group, give the group one.  A terminal is shown how far that is.\n"
	     "\n"
	     "  --help  show this text\n"
	     "\n"
	     "Exit status: 0 it is kept, 1 the old one is, 2 usage.");
}

/* The mount's directory, or -1 after a message. */
static int open_mount(const char *mnt)
{
	int fd = open(mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs st;

	if (fd < 0) {
		cli_error("%s: %s", mnt, strerror(errno));
		return -1;
	}
	if (fstatfs(fd, &st) != 0 || st.f_type != FUSE_SUPER_MAGIC ||
	    faccessat(fd, "control", F_OK, 0) != 0) {
		cli_error("%s: no store is mounted there", mnt);
		close(fd);
		return -1;
	}
	return fd;
}

static int write_command(int mnt_fd, const char *command)
{
	int fd = openat(mnt_fd, "control", O_WRONLY | O_CLOEXEC);
	size_t len = strlen(command);
	int err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, command, len) != (ssize_t)len)
		err = errno;
	close(fd);
	return err;
}

#define FIELDS_MAX 4U

/* What tells how far a command is: pages that get fewer. */
struct progress {
	char title[NAME_MAX + 1];
	char file[NAME_MAX + 32]; /* of the mount, */
	/* and in it the beginning of the line that counts alone, where there is one, */
	const char *alone;
	const char *field[FIELDS_MAX]; /* or else of those that count together */
	uint64_t end;		       /* how many it is to come down to */
};

/* A number by the beginning of its line; false when there is no such line. */
static bool find_number(const char *text, const char *field, uint64_t *value)
{
	const char *at = field != NULL ? strstr(text, field) : NULL;

	if (at != NULL)
		*value = strtoull(at + strlen(field), NULL, 10);
	return at != NULL;
}

/* How many pages are left; false when that is not told. */
static bool read_left(int mnt_fd, const struct progress *p, uint64_t *left)
{
	char text[NAME_MAX + 4096];
	uint64_t value = 0, one;
	ssize_t n;
	int fd;

	fd = openat(mnt_fd, p->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	if (!find_number(text, p->alone, &value)) {
		for (unsigned i = 0; i < FIELDS_MAX && p->field[i] != NULL; i++) {
			if (!find_number(text, p->field[i], &one))
				return false;
			value += one;
		}
	}
	*left = value > p->end ? value - p->end : 0;
	return true;
}

static void show_progress(const char *title, uint64_t left, uint64_t of)
{
	unsigned part = of != 0 && left < of ? (unsigned)((of - left) * BAR / of) : 0;
	char bar[BAR + 1];

	memset(bar, '.', BAR);
	memset(bar, '#', part);
	bar[BAR] = '\0';
	fprintf(stderr, "\r%s [%s] %llu MiB left \033[K", title, bar,
		(unsigned long long)(left / 256));
}

/* The result of the write, an errno; shown on a terminal from FIRST_MS on. */
static int write_and_show(int mnt_fd, const char *command, const struct progress *show)
{
	uint64_t begin = 0, left;
	bool shown = false;
	int wait_ms = FIRST_MS, status, fds[2];
	struct pollfd p;
	pid_t pid;

	if (!isatty(STDERR_FILENO) || !read_left(mnt_fd, show, &begin) || begin == 0 ||
	    pipe(fds) != 0)
		return write_command(mnt_fd, command);
	pid = fork();
	if (pid < 0)
		return errno;
	if (pid == 0)
		_exit(write_command(mnt_fd, command));
	close(fds[1]);
	p = (struct pollfd){.fd = fds[0], .events = POLLIN};
	while (poll(&p, 1, wait_ms) == 0) {
		if (read_left(mnt_fd, show, &left)) {
			show_progress(show->title, left, begin);
			shown = true;
		}
		wait_ms = NEXT_MS;
	}
	close(fds[0]);
	if (shown)
		fputs("\r\033[K", stderr);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return EINTR;
	return WEXITSTATUS(status);
}

static bool parse_help(int argc, char **argv, void (*usage)(void), int *status)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int opt = getopt_long(argc, argv, ":", options, NULL);

	if (opt == -1)
		return true;
	if (opt == 'h') {
		usage();
		*status = EXIT_OK;
	} else {
		*status = cli_bad_option(argv[0], argv, opt);
	}
	return false;
}

static bool good_name(const char *area)
{
	if (area_name(area))
		return true;
	cli_error("'%s' is no area's name", area);
	return false;
}

static int finish(const char *mnt, const char *what, int err, const char *text)
{
	if (err == 0)
		return EXIT_OK;
	cli_error("%s: %s: %s", mnt, what, text != NULL ? text : strerror(err));
	return EXIT_FAILED;
}

int cmd_swapon(int argc, char **argv)
{
	static const struct option options[] = {
		{"priority", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char command[NAME_MAX + 64], *end;
	long prio = -1;
	int opt, fd, err;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":p:", options, NULL)) != -1) {
		switch (opt) {
		case 'p':
			prio = strtol(optarg, &end, 10);
			if (*end != '\0' || end == optarg || prio < 0 || prio > 32767)
				return cli_usage("swapon", "'%s' is not a priority (0 to 32767)",
						 optarg);
			break;
		case 'h':
			usage_swapon();
			return EXIT_OK;
		default:
			return cli_bad_option("swapon", argv, opt);
		}
	}
	if (argc - optind != 2)
		return cli_usage("swapon", "swapon wants a mount point and an area");
	if (!good_name(argv[optind + 1]))
		return EXIT_FAILED;
	fd = open_mount(argv[optind]);
	if (fd < 0)
		return EXIT_FAILED;
	if (prio >= 0)
		snprintf(command, sizeof(command), "swapon %s %ld\n", argv[optind + 1], prio);
	else
		snprintf(command, sizeof(command), "swapon %s\n", argv[optind + 1]);
	err = write_command(fd, command);
	close(fd);
	return finish(argv[optind], argv[optind + 1], err,
		      err == ENOENT   ? "the store has no such area"
		      : err == EBUSY  ? "is on already, or somebody else has it locked"
		      : err == EINVAL ? "is no whole swap area ('faultline mkswap' makes one)"
				      : NULL);
}

int cmd_swapoff(int argc, char **argv)
{
	struct progress show = {.field = {"\nused: "}};
	char command[NAME_MAX + 64];
	int status, fd, err;

	opterr = 0;
	if (!parse_help(argc, argv, usage_swapoff, &status))
		return status;
	if (argc - optind != 2)
		return cli_usage("swapoff", "swapoff wants a mount point and an area");
	if (!good_name(argv[optind + 1]))
		return EXIT_FAILED;
	fd = open_mount(argv[optind]);
	if (fd < 0)
		return EXIT_FAILED;
	snprintf(command, sizeof(command), "swapoff %s\n", argv[optind + 1]);
	snprintf(show.title, sizeof(show.title), "%s", argv[optind + 1]);
	snprintf(show.file, sizeof(show.file), "swap/%s.stat", argv[optind + 1]);
	err = write_and_show(fd, command, &show);
	close(fd);
	return finish(argv[optind], argv[optind + 1], err,
		      err == EINVAL   ? "is not on"
		      : err == ENOMEM ? "its pages fit neither in memory nor in other areas"
		      : err == EBUSY  ? "programs that do not answer have it"
				      : NULL);
}

int cmd_limit(int argc, char **argv)
{
	char command[128];
	/* a group's limit follows what its processes give back; a process's frames are all of these */
	struct progress show = {
		.alone = "\ngroup_limit: ",
		.field = {"\nresident: ", "\nstaged: ", "\npool: ", "\ncache_pages: "},
	};
	uint64_t bytes;
	int status, fd, err;
	unsigned nr;
	pid_t pid;

	opterr = 0;
	if (!parse_help(argc, argv, usage_limit, &status))
		return status;
	if (argc - optind != 3)
		return cli_usage("limit", "limit wants a mount point, a process and a size");
	if (client_parse(argv[optind + 1], &pid, &nr) != 0)
		return cli_usage("limit", "'%s' is not a process number", argv[optind + 1]);
	if (options_size(argv[optind + 2], options_ram(), &bytes) != 0)
		return cli_usage("limit", "'%s' is not a size (give it as 512M, 1.5G or 25%%)",
				 argv[optind + 2]);
	if (bytes < FL_LIMIT_MIN)
		return cli_usage("limit", "'%s' is too small: at least 2048 KiB are needed",
				 argv[optind + 2]);
	fd = open_mount(argv[optind]);
	if (fd < 0)
		return EXIT_FAILED;
	snprintf(command, sizeof(command), "limit %s %llu\n", argv[optind + 1],
		 (unsigned long long)bytes);
	snprintf(show.file, sizeof(show.file), "proc/%s/status", argv[optind + 1]);
	snprintf(show.title, sizeof(show.title), "%s", argv[optind + 1]);
	show.end = bytes / 4096;
	err = write_and_show(fd, command, &show);
	close(fd);
	return finish(argv[optind], argv[optind + 1], err,
		      err == ESRCH    ? "no such process is attached"
		      : err == ENOMEM ? "what it holds cannot be brought below that"
				      : NULL);
}
