/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * main.c - faultline(1): picks the subcommand.
 */
#include "cli.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct command {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *what;
} commands[] = {
	{"doctor", cmd_doctor, "tell whether this machine can run faultline"},
	{"help", cmd_help, "show this text, or the help of a command"},
	{"limit", cmd_limit, "change the limit of a program that a store serves"},
	{"map", cmd_map, "show where the pages of a process are"},
	{"mkswap", cmd_mkswap, "make a file or a block device a swap area"},
	{"mount", cmd_mount, "serve a store as a filesystem"},
	{"run", cmd_run, "run a program under a limit of memory"},
	{"snapshot", cmd_snapshot, "write the memory of a running program to a file"},
	{"store", cmd_store, "make, check or look at a store"},
	{"top", cmd_top, "show processes and what their pagers do"},
	{"swapoff", cmd_swapoff, "take an area from a store's programs"},
	{"swapon", cmd_swapon, "give an area to a store's programs"},
	{"umount", cmd_umount, "unmount a store and end its server"},
	{"version", cmd_version, "show the version"},
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

__attribute__((format(printf, 1, 0))) static void message(const char *fmt, va_list ap)
{
	fputs("faultline: ", stderr);
	vfprintf(stderr, fmt, ap);
}

void cli_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	message(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	message(fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see 'faultline %s%s--help')\n", command, *command != '\0' ? " " : "");
	return EXIT_USAGE;
}

int cli_bad_option(const char *command, char **argv, int answer)
{
	const char *arg = argv[optind - 1];

	if (answer == ':')
		return cli_usage(command, "option '%s' wants an argument", arg);
	if (optopt == 0)
		return cli_usage(command, "unknown option '%s'", arg);
	if (strncmp(arg, "--", 2) == 0)
		return cli_usage(command, "this option takes no argument: '%s'", arg);
	return cli_usage(command, "unknown option '-%c'", optopt);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void show_help(FILE *to)
{
	fputs("usage: faultline COMMAND [ARGUMENT...]\n"
	      "\n"
	      "Run programs in less memory than they ask for: pages beyond a limit go to swap\n"
	      "areas and come back when they are touched, all of it in user space.\n"
	      "\n",
	      to);
	for (size_t i = 0; i < NCOMMANDS; i++)
		fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].what);
	fputs("\n'faultline COMMAND --help' tells more about a command.\n", to);
}

static int cmd_help(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2 || strcmp(argv[1], "--help") == 0) {
		show_help(stdout);
		return EXIT_OK;
	}
	c = find_command(argv[1]);
	if (c == NULL)
		return cli_usage("", "there is no command '%s'", argv[1]);
	if (c->fn == cmd_help || c->fn == cmd_version) {
		show_help(stdout);
		return EXIT_OK;
	}
	return c->fn(2, (char *[]){argv[1], (char[]){"--help"}, NULL});
}

static int cmd_version(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--help") != 0)
		return cli_usage("", "version takes no argument: '%s'", argv[1]);
	if (argc > 1)
		puts("usage: faultline version");
	else
		printf("faultline %s\n", PACKAGE_VERSION);
	return EXIT_OK;
}

/* What a command opens must not get the number of a standard descriptor that is closed. */
static bool open_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
			cli_error("/dev/null: %s", strerror(errno));
			return false;
		}
	return true;
}

static int call(const struct command *c, int argc, char **argv)
{
	/* a program gets its descriptors and signals as they are */
	if (c->fn != cmd_run) {
		if (!open_standard())
			return EXIT_FAILED;
		/* who ignores it is not told how a child of his ended */
		signal(SIGCHLD, SIG_DFL);
	}
	return c->fn(argc, argv);
}

int main(int argc, char **argv)
{
	const struct command *c;

	if (argc < 2) {
		show_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0) {
		show_help(stdout);
		return EXIT_OK;
	}
	if (strcmp(argv[1], "--version") == 0)
		return cmd_version(1, argv + 1);
	if (argv[1][0] == '-')
		return cli_usage("", "unknown option '%s'", argv[1]);
	c = find_command(argv[1]);
	/* mount.fuse3(8) knows no commands: faultline DIR MNT -o OPTIONS. */
	if (c == NULL && argc >= 3 && strchr(argv[1], '/') != NULL)
		return call(find_command("mount"), argc, argv);
	if (c == NULL)
		return cli_usage("", "there is no command '%s'", argv[1]);
	return call(c, argc - 1, argv + 1);
}
