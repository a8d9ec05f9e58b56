/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cli.h - what the subcommands of faultline(1) share.
 *
 * A subcommand gets its own arguments, its name first, and returns the exit
 * status.  Messages for people go to standard error, one line, by cli_error().
 */
#ifndef FL_CLI_H
#define FL_CLI_H

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* it was tried and did not work */
	EXIT_USAGE = 2,	 /* it was not understood */
};

int cmd_doctor(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_mkswap(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_limit(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_store(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_swapoff(int argc, char **argv);
int cmd_swapon(int argc, char **argv);
int cmd_umount(int argc, char **argv);

/* "faultline: MESSAGE" on standard error. */
void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A usage error of a subcommand: the message, where help is, and EXIT_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for what getopt_long(3) answered ('?' or ':') with opterr 0 and a leading ':'. */
int cli_bad_option(const char *command, char **argv, int answer);

#endif
