/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mount.c - 'faultline mount' and 'faultline umount': serve a store, and end that.
 *
 * mount also takes the arguments that mount.fuse3(8) gives to the program of a
 * filesystem of type fuse.faultline: DIR MNT -o OPTIONS (main.c).
 */
#include "cli.h"

#include "options.h"
#include "server.h"
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define END_SECONDS 30
#define BUSY_TRIES 50U
#define BUSY_MS 20

static void usage_mount(void)
{
	puts("usage: faultline mount [OPTION...] DIR MNT\n"
	     "\n"
	     "Serve the store DIR at MNT, an empty directory: DIR's files below MNT/files, its "
	     "swap\n"
	     "areas below MNT/swap, the server's state in MNT/stats and MNT/metrics.\n"
	     "\n"
	     "  --foreground, -f        stay in the foreground until it ends\n"
	     "  --options, -o LIST      mount options, separated by commas:\n"
	     "                            allow_other  for all users, not only this one\n"
	     "                            areas=A:B    turn on these swap areas only, in that "
	     "order\n"
	     "                            direct       the mount has no page cache of its own\n"
	     "                            cached       it has (the default)\n"
	     "                            io=fuse      programs may page through the mount\n"
	     "                            cache=SIZE   of mapped files, at most (a quarter of "
	     "RAM)\n"
	     "                            dirty_expire=SECONDS\n"
	     "                                         after which what is stored there is "
	     "written (5)\n"
	     "                            dirty_background=PERCENT\n"
	     "                                         of the cache that may wait for that "
	     "(12)\n"
	     "                            ro, noexec, noatime, sync, ... as in mount(8)\n"
	     "  --no-sandbox            do not limit the server's system calls\n"
	     "  --help                  show this text\n"
	     "\n"
	     "SIGTERM unmounts, and ends the server when nothing is open any more, or after 10\n"
	     "seconds.  Exit status: 0 it is served (with -f: was served), 1 it is not, 2 usage.");
}

/* What mount(8) and fstab have besides: taken, and of no consequence here. */
static bool no_consequence(const char *option)
{
	static const char *const names[] = {"defaults",
					    "auto",
					    "noauto",
					    "user",
					    "nouser",
					    "users",
					    "owner",
					    "nofail",
					    "group",
					    "_netdev",
					    "default_permissions"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(option, names[i]) == 0)
			return true;
	return strncmp(option, "x-", 2) == 0 || strncmp(option, "comment=", 8) == 0;
}

static bool kernel_option(const char *option)
{
	static const char *const names[] = {"ro",    "rw",	"suid",	  "nosuid", "dev",
					    "nodev", "exec",	"noexec", "sync",   "async",
					    "atime", "noatime", "dirsync"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(option, names[i]) == 0)
			return true;
	return false;
}

/* 0, or the exit status after a message. */
static int take_options(char *list, struct server_options *o)
{
	char *save = NULL;

	for (char *opt = strtok_r(list, ",", &save); opt != NULL;
	     opt = strtok_r(NULL, ",", &save)) {
		size_t n = strlen(o->kernel);

		if (strcmp(opt, "allow_other") == 0)
			o->allow_other = true;
		else if (strcmp(opt, "direct") == 0)
			o->direct = true;
		else if (strcmp(opt, "cached") == 0)
			o->direct = false;
		else if (strcmp(opt, "io=fuse") == 0)
			o->page_io = true;
		else if (strncmp(opt, "areas=", 6) == 0)
			o->areas = opt + 6;
		else if (strncmp(opt, "cache=", 6) == 0) {
			if (options_size(opt + 6, options_ram(), &o->cache) != 0 ||
			    o->cache < FL_LIMIT_MIN)
				return cli_usage("mount",
						 "cache=%s: a size of 2M or more is wanted",
						 opt + 6);
		} else if (strncmp(opt, "dirty_expire=", 13) == 0) {
			if (options_dirty_expire(opt + 13, &o->dirty_expire) != 0)
				return cli_usage("mount", "%s: 0.25 to 3600 seconds are wanted",
						 opt);
		} else if (strncmp(opt, "dirty_background=", 17) == 0) {
			if (options_dirty_background(opt + 17, &o->dirty_background) != 0)
				return cli_usage("mount", "%s: 1 to 50 per cent are wanted", opt);
		} else if (kernel_option(opt) && n + strlen(opt) + 2 < sizeof(o->kernel))
			sprintf(o->kernel + n, "%s%s", n != 0 ? "," : "", opt);
		else if (!no_consequence(opt))
			return cli_usage("mount", "there is no mount option '%s'", opt);
	}
	return 0;
}

/* Each is there, and none is named twice. */
static int check_areas(const struct store *s, const char *areas, struct why *why)
{
	for (const char *at = areas; at != NULL && *at != '\0';) {
		size_t n = strcspn(at, ":");
		char name[NAME_MAX + 1];

		snprintf(name, sizeof(name), "%.*s", (int)n, at);
		if (n > NAME_MAX || !area_name(name) ||
		    faccessat(s->swap_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			return why_set(why, -ENOENT, "%s/swap/%.*s: there is no such area", s->dir,
				       (int)n, at);
		for (const char *o = areas; o < at; o += strcspn(o, ":") + 1)
			if (strcspn(o, ":") == n && memcmp(o, at, n) == 0)
				return why_set(why, -EINVAL, "%s/swap/%s: named twice", s->dir,
					       name);
		at += n + (at[n] != '\0');
	}
	return 0;
}

/* Of a server in the background nobody reads what it says. */
static void tell_limits(void)
{
	char line[256];

	if (!server.options.foreground && !shared_possible(line, sizeof(line)))
		cli_error("%s", line);
}

int cmd_mount(int argc, char **argv)
{
	static const struct option options[] = {
		{"foreground", no_argument, NULL, 'f'},
		{"options", required_argument, NULL, 'o'},
		{"no-sandbox", no_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	static struct store store;
	struct why why;
	int opt, err;

	server.options.sandbox = true;
	server.options.cache = options_ram() / 4;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":fo:", options, NULL)) != -1) {
		switch (opt) {
		case 'f':
			server.options.foreground = true;
			break;
		case 'o':
			err = take_options(optarg, &server.options);
			if (err != 0)
				return err;
			break;
		case 'S':
			server.options.sandbox = false;
			break;
		case 'h':
			usage_mount();
			return EXIT_OK;
		default:
			return cli_bad_option("mount", argv, opt);
		}
	}
	if (argc - optind < 2)
		return cli_usage("mount", "mount wants the store's directory and a mount point");
	if (argc - optind > 2)
		return cli_usage("mount", "mount takes two directories: '%s'", argv[optind + 2]);
	/* it would be paged by itself, and wait for itself */
	if (getenv("LD_PRELOAD") != NULL &&
	    strstr(getenv("LD_PRELOAD"), "libfaultline-preload") != NULL) {
		cli_error("a store cannot be served under 'faultline run'");
		return EXIT_FAILED;
	}
	/* what whoever started us had open is not to stay so */
	close_range(3, ~0U, 0);
	err = store_open(&store, argv[optind], &why);
	if (err == 0)
		err = check_areas(&store, server.options.areas, &why);
	if (err == 0)
		err = mounts_resolve(argv[optind + 1], server.mnt, &why);
	if (err == 0)
		err = store_lock(&store, &why);
	server.store = &store;
	if (err == 0)
		tell_limits();
	if (err == 0)
		err = server_run(&why);
	if (err != 0 && why.text[0] != '\0')
		cli_error("%s", why.text);
	return err == 0 ? EXIT_OK : EXIT_FAILED;
}

static void usage_umount(void)
{
	puts("usage: faultline umount [--lazy] MNT\n"
	     "\n"
	     "Unmount the store at MNT, and wait until its server has ended.\n"
	     "\n"
	     "  --lazy, -l  also when files are open there: they stay so, nobody opens others\n"
	     "  --help      show this text\n"
	     "\n"
	     "Exit status: 0 it is unmounted, 1 it is not, 2 usage.");
}

static void alarmed(int sig)
{
	(void)sig;
}

/* The lock is free when the server has ended. */
static int await_end(const char *dir, struct why *why)
{
	struct sigaction act = {.sa_handler = alarmed}; /* no SA_RESTART */
	char path[PATH_MAX + 8];
	int fd, err = 0;

	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return 0; /* not ours to look at: unmounted it is */
	sigaction(SIGALRM, &act, NULL);
	alarm(END_SECONDS);
	if (flock(fd, LOCK_SH) != 0)
		err = why_set(why, -ETIMEDOUT,
			      "%s: unmounted, but its server goes on after %d seconds", dir,
			      END_SECONDS);
	alarm(0);
	close(fd);
	return err;
}

/*
 * What a program that has just ended had open is closed in a moment, by the kernel where its ring
 * had it, and by the server where it was sent that (aside.h): nobody is to try again for that.
 */
static int unmount(const char *mnt, bool lazy, struct why *why)
{
	int err = mounts_unmount(mnt, lazy, why);

	for (unsigned tries = 0; err == -EBUSY && tries < BUSY_TRIES; tries++) {
		poll(NULL, 0, BUSY_MS);
		err = mounts_unmount(mnt, lazy, why);
	}
	return err;
}

int cmd_umount(int argc, char **argv)
{
	static const struct option options[] = {
		{"lazy", no_argument, NULL, 'l'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char mnt[PATH_MAX], type[64], dir[PATH_MAX];
	bool lazy = false;
	struct why why;
	int opt, err;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":l", options, NULL)) != -1) {
		switch (opt) {
		case 'l':
			lazy = true;
			break;
		case 'h':
			usage_umount();
			return EXIT_OK;
		default:
			return cli_bad_option("umount", argv, opt);
		}
	}
	if (optind == argc)
		return cli_usage("umount", "umount wants a mount point");
	if (optind + 1 < argc)
		return cli_usage("umount", "umount takes one mount point: '%s'", argv[optind + 1]);
	err = mounts_resolve(argv[optind], mnt, &why);
	if (err == 0) {
		err = mounts_type(mnt, type, sizeof(type), dir, sizeof(dir));
		if (err != 0)
			why_set(&why, err, "/proc/self/mounts: %s", strerror(-err));
		else if (strcmp(type, STORE_FSTYPE) != 0)
			err = why_set(&why, -EINVAL, "%s: no store is mounted there", mnt);
	}
	if (err == 0)
		err = unmount(mnt, lazy, &why);
	if (err == 0 && !lazy)
		err = await_end(dir, &why);
	if (err != 0)
		cli_error("%s", why.text);
	return err == 0 ? EXIT_OK : EXIT_FAILED;
}
