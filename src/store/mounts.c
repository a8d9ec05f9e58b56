/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mounts.c - the mount table: what is mounted where, whether it still is, unmounting,
 * and the dead mounts that a killed server leaves ("transport endpoint is not connected").
 *
 * A store's mounts name its directory as their source.  Who holds the store's
 * lock may take any of them for dead.
 */
#include "server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUSERMOUNT "fusermount3"
#define MOUNTINFO "/proc/self/mountinfo"
#define DEAD_MAX 16

int mounts_type(const char *path, char *type, size_t size, char *source, size_t source_size)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;

	type[0] = '\0';
	source[0] = '\0';
	if (f == NULL)
		return -errno;
	/* The last one is on top. */
	while ((m = getmntent(f)) != NULL) {
		if (strcmp(m->mnt_dir, path) != 0)
			continue;
		snprintf(type, size, "%s", m->mnt_type);
		snprintf(source, source_size, "%s", m->mnt_fsname);
	}
	endmntent(f);
	return 0;
}

int mounts_device(const char *mnt, dev_t *dev)
{
	struct statx st;

	if (statx(AT_FDCWD, mnt, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &st) != 0)
		return -errno;
	*dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}

int mounts_watch(void)
{
	int fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);

	return fd >= 0 ? fd : -errno;
}

bool mounts_gone(dev_t dev)
{
	FILE *f = fopen(MOUNTINFO, "re");
	char *line = NULL;
	size_t size = 0;
	bool gone;

	if (f == NULL)
		return false;
	while (getline(&line, &size, f) > 0) {
		unsigned major, minor;

		/* ID, parent's ID, device */
		if (sscanf(line, "%*u %*u %u:%u", &major, &minor) == 2 &&
		    makedev(major, minor) == dev)
			break;
	}
	gone = feof(f) && !ferror(f);
	free(line);
	fclose(f);
	return gone;
}

/* fusermount3's own line, without its name. */
static void said(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);
	char *line;

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	line = strstr(text, FUSERMOUNT ": ");
	if (line == text)
		memmove(text, line + strlen(FUSERMOUNT ": "),
			strlen(line + strlen(FUSERMOUNT ": ")) + 1);
}

static int by_fusermount(const char *mnt, bool lazy, struct why *why)
{
	char path[PATH_MAX], text[512] = "";
	char program[] = FUSERMOUNT, u[] = "-u", z[] = "-z", end[] = "--";
	char *argv[6] = {program, u};
	posix_spawn_file_actions_t files;
	int fd = memfd_create("faultline-said", MFD_CLOEXEC);
	unsigned n = 2;
	int err, status = 0;
	pid_t pid;

	if (fd < 0)
		return why_set(why, -errno, "%s: %s", mnt, strerror(errno));
	snprintf(path, sizeof(path), "%s", mnt);
	if (lazy)
		argv[n++] = z;
	argv[n++] = end;
	argv[n] = path;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, fd, STDERR_FILENO);
	err = posix_spawnp(&pid, FUSERMOUNT, &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	if (err == 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
	said(fd, text, sizeof(text));
	close(fd);
	if (err == ENOENT)
		return why_set(why, -err,
			       "%s: an ordinary user needs " FUSERMOUNT
			       " to unmount; on Debian: apt-get install fuse3",
			       mnt);
	if (err != 0)
		return why_set(why, -err, FUSERMOUNT ": %s", strerror(err));
	if (status == 0)
		return 0;
	err = strstr(text, "busy") != NULL ? -EBUSY : -EPERM;
	return why_set(why, err, "%s: cannot be unmounted: %s", mnt,
		       text[0] != '\0' ? text : FUSERMOUNT " failed");
}

int mounts_unmount(const char *mnt, bool lazy, struct why *why)
{
	if (umount2(mnt, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno == EPERM)
		return by_fusermount(mnt, lazy, why);
	return why_set(why, -errno, "%s: cannot be unmounted: %s", mnt, strerror(errno));
}

int mounts_clean(const struct store *s, const char *mnt, struct why *why)
{
	char dead[DEAD_MAX][PATH_MAX], type[64], source[PATH_MAX];
	FILE *f = setmntent("/proc/self/mounts", "re");
	unsigned n = 0;
	struct mntent *m;
	struct stat st;

	if (f == NULL)
		return why_set(why, -errno, "/proc/self/mounts: %s", strerror(errno));
	while (n < DEAD_MAX && (m = getmntent(f)) != NULL)
		if (strcmp(m->mnt_type, STORE_FSTYPE) == 0 && strcmp(m->mnt_fsname, s->dir) == 0)
			snprintf(dead[n++], PATH_MAX, "%s", m->mnt_dir);
	endmntent(f);
	/* One that cannot be detached harms only if it is where we want to be. */
	while (n != 0)
		mounts_unmount(dead[--n], true, why);
	while (stat(mnt, &st) != 0 && errno == ENOTCONN) {
		int err = mounts_type(mnt, type, sizeof(type), source, sizeof(source));

		if (err == 0 && strcmp(type, STORE_FSTYPE) != 0)
			err = why_set(why, -EBUSY, "%s: a dead mount of type %s; unmount it first",
				      mnt, type[0] != '\0' ? type : "unknown");
		else if (err == 0)
			err = mounts_unmount(mnt, true, why);
		if (err != 0)
			return err;
	}
	return 0;
}

static bool within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strcmp(dir, "/") == 0 ||
	       (strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

int mounts_check(const struct store *s, const char *mnt, struct why *why)
{
	char type[64], source[PATH_MAX];
	struct dirent *e;
	bool empty = true;
	DIR *dp;

	if (within(mnt, s->dir) || within(s->dir, mnt))
		return why_set(why, -EINVAL,
			       "%s: one of the store and its mount point lies in the other", mnt);
	if (mounts_type(mnt, type, sizeof(type), source, sizeof(source)) == 0 &&
	    strcmp(type, STORE_FSTYPE) == 0)
		return why_set(why, -EBUSY, "%s: in use: the store %s is mounted there", mnt,
			       source);
	dp = opendir(mnt);
	if (dp == NULL)
		return why_set(why, -errno, "%s: %s", mnt, strerror(errno));
	while ((e = readdir(dp)) != NULL)
		empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(dp);
	if (!empty)
		return why_set(why, -ENOTEMPTY, "%s: not empty", mnt);
	return 0;
}

int mounts_resolve(const char *path, char *out, struct why *why)
{
	char copy[PATH_MAX], *slash;
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(copy))
		return why_set(why, -ENAMETOOLONG, "%s: %s", path,
			       strerror(n == 0 ? ENOENT : ENAMETOOLONG));
	if (realpath(path, out) != NULL)
		return 0;
	if (errno != ENOTCONN && errno != ECONNABORTED && errno != EIO && errno != EACCES)
		return why_set(why, -errno, "%s: %s", path, strerror(errno));
	strcpy(copy, path);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	if (slash != NULL)
		*slash = '\0';
	if (realpath(slash == NULL ? "." : slash == copy ? "/" : copy, out) == NULL)
		return why_set(why, -errno, "%s: %s", path, strerror(errno));
	n = strlen(out);
	snprintf(out + n, PATH_MAX - n, "%s%s", out[n - 1] == '/' ? "" : "/",
		 slash != NULL ? slash + 1 : copy);
	return 0;
}
