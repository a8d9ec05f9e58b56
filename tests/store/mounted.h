/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mounted.h - a store of the test's own, mounted.
 *
 *	BASE/store   the store, BASE/mnt its mount, BASE/host a plain directory
 *		     of the same filesystem, to compare with
 */
#ifndef FL_MOUNTED_H
#define FL_MOUNTED_H

#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* A sanitizer's own system calls are not on the server's list. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOUNT_OPTIONS "--no-sandbox"
#else
#define MOUNT_OPTIONS ""
#endif

static char base[PATH_MAX / 4];

/* Run "faultline ARGS" in a shell that knows $BASE; its exit status. */
static inline int run_faultline(const char *args)
{
	const char *build = getenv("FL_BUILD");
	char line[2 * PATH_MAX];
	int status;

	snprintf(line, sizeof(line), "BASE='%s'; '%s/src/cli/faultline' %s", base,
		 build != NULL ? build : ".", args);
	status = system(line);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* BASE/name, good for the next seven calls. */
static inline const char *in_base(const char *name)
{
	static char path[8][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 8];

	snprintf(p, PATH_MAX, "%s/%s", base, name);
	return p;
}

/* What a line of a file says, that begins so. */
static inline int64_t number_in(const char *path, const char *what)
{
	FILE *f = fopen(path, "re");
	int64_t n = -ENOENT;
	char line[PATH_MAX + 32];

	if (f == NULL)
		return -errno;
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, what, strlen(what)) == 0)
			n = strtol(line + strlen(what), NULL, 10);
	fclose(f);
	return n;
}

/*
 * Kill the server of BASE/store, and its keeper.  That is stopped meanwhile: it would clean
 * up after the server, and if it ended first the server would not be killed, but drain.
 */
static inline void kill_server(void)
{
	pid_t keeper = (pid_t)number_in(in_base("store/lock"), "");
	pid_t server = (pid_t)number_in(in_base("mnt/stats"), "pid: ");
	struct pollfd ends[2];

	assert_true(keeper > 1 && server > 1);
	ends[0].fd = (int)syscall(SYS_pidfd_open, server, 0);
	ends[1].fd = (int)syscall(SYS_pidfd_open, keeper, 0);
	assert_true(ends[0].fd >= 0 && ends[1].fd >= 0);
	kill(keeper, SIGSTOP);
	kill(server, SIGKILL);
	for (unsigned i = 0; i < 2; i++) {
		ends[i].events = POLLIN;
		assert_int_equal(poll(&ends[i], 1, HANG_SECONDS * 1000), 1);
		close(ends[i].fd);
		if (i == 0)
			kill(keeper, SIGKILL);
	}
}

/* Whether something is mounted there; dead mounts are, too. */
static inline bool is_mounted(void)
{
	struct stat mnt, dir;

	return stat(in_base("mnt"), &mnt) != 0 || stat(base, &dir) != 0 || mnt.st_dev != dir.st_dev;
}

/*
 * Unmount the store: umount's exit status.  It waits for the server's end for some time only; where
 * programs store without a pause, or the disk is busy, that takes longer, and is waited for here.
 */
static inline int unmount(void)
{
	int lock = open(in_base("store/lock"), O_RDONLY | O_CLOEXEC);
	bool was_mounted = is_mounted();
	int status = run_faultline("umount \"$BASE/mnt\"");

	if (status != 0 && was_mounted && !is_mounted()) {
		until(flock(lock, LOCK_SH | LOCK_NB) == 0);
		status = 0;
	}
	close(lock);
	return status;
}

static inline int mounted_begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0 ||
	    mkdir(in_base("host"), 0755) != 0)
		return -1;
	umask(022);
	return run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mount " MOUNT_OPTIONS " \"$BASE/store\" \"$BASE/mnt\"") != 0;
}

static inline int mounted_end(void **state)
{
	int status = unmount();
	char line[PATH_MAX];

	(void)state;
	if (status != 0)
		run_faultline("umount --lazy \"$BASE/mnt\"");
	snprintf(line, sizeof(line), "rm -rf '%s'", base);
	return system(line) != 0 || status != 0;
}

#endif
