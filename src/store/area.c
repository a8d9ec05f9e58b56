/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * area.c - the areas in a store's swap/, as one looks at them from outside.
 *
 * Nothing is locked here: an area that a process has on may be looked at, and
 * looking must not make a process's attempt to put it on fail.  So who has it
 * locked is read from /proc/locks.
 *
 * A link is followed to a block device only: everything else stays beneath
 * swap/.  The kind is learnt from an O_PATH descriptor before the thing is
 * opened, which could have effects.
 */
#include "store.h"

#include "swap-area.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define STAT_SUFFIX ".stat"

bool area_name(const char *name)
{
	size_t n = strlen(name), s = strlen(STAT_SUFFIX);

	if (name[0] == '\0' || name[0] == '.' || strpbrk(name, "/\n") != NULL)
		return false;
	/* AREA.stat must be a name, too. */
	return n + s <= NAME_MAX && (n < s || strcmp(name + n - s, STAT_SUFFIX) != 0);
}

static bool locked(dev_t dev, ino_t ino)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	bool found = false;

	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), f) != NULL) {
		unsigned major_nr, minor_nr;
		unsigned long long inode;

		found = sscanf(line, "%*u: FLOCK %*s %*s %*s %x:%x:%llu", &major_nr, &minor_nr,
			       &inode) == 3 &&
			makedev(major_nr, minor_nr) == dev && inode == ino;
	}
	fclose(f);
	return found;
}

static void read_header(struct area_info *a)
{
	struct area_header h;
	ssize_t n = pread(a->fd, &h, sizeof(h), 0);

	if (n < 0) {
		snprintf(a->damage, sizeof(a->damage), "cannot be read: %s", strerror(errno));
		return;
	}
	if (n != (ssize_t)sizeof(h) || memcmp(h.magic, AREA_MAGIC, sizeof(h.magic)) != 0) {
		snprintf(a->damage, sizeof(a->damage), "has no header of 'faultline mkswap'");
		return;
	}
	a->version = le32toh(h.version);
	a->page_size = le32toh(h.page_size);
	a->slots = le64toh(h.slots);
	memcpy(a->uuid, h.uuid, sizeof(a->uuid));
	if (a->version != 1 || a->page_size != STORE_PAGE)
		snprintf(a->damage, sizeof(a->damage), "of another version (%u, pages of %u bytes)",
			 a->version, a->page_size);
	else if (a->slots < AREA_MIN_SLOTS || a->slots > UINT32_MAX)
		snprintf(a->damage, sizeof(a->damage), "its header says %llu slots",
			 (unsigned long long)a->slots);
	else if (a->slots * STORE_PAGE > a->bytes)
		snprintf(a->damage, sizeof(a->damage), "its header says %llu bytes, it has %llu",
			 (unsigned long long)(a->slots * STORE_PAGE), (unsigned long long)a->bytes);
	else
		a->valid = true;
}

/* An O_PATH descriptor of what may be an area, or -errno. */
static int open_node(int swap_fd, const char *name, struct stat *st)
{
	int fd = openat(swap_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	err = -EINVAL;
	if (S_ISLNK(st->st_mode)) {
		close(fd);
		fd = openat(swap_fd, name, O_PATH | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (fstat(fd, st) == 0 && S_ISBLK(st->st_mode))
			return fd;
	}
	close(fd);
	return err;
}

int area_open(int swap_fd, const char *name, struct area_info *a)
{
	char path[64];
	struct stat st;
	int fd, err = 0;

	memset(a, 0, sizeof(*a));
	a->fd = -1;
	if (!area_name(name))
		return -ENOENT;
	fd = open_node(swap_fd, name, &st);
	if (fd < 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	a->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (a->fd < 0)
		err = -errno;
	close(fd);
	if (err != 0)
		return err;
	a->device = S_ISBLK(st.st_mode);
	a->dev = st.st_dev;
	a->ino = st.st_ino;
	a->mtime = st.st_mtime;
	a->bytes = (uint64_t)st.st_size;
	a->allocated = (uint64_t)st.st_blocks * 512;
	if (a->device && ioctl(a->fd, BLKGETSIZE64, &a->bytes) != 0)
		a->bytes = 0;
	a->on = locked(a->dev, a->ino);
	read_header(a);
	return 0;
}

void area_close(struct area_info *a)
{
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

int area_text(const struct area_info *a, const char *name, char *text, size_t size)
{
	char uuid[37] = "-";
	const uint8_t *u = a->uuid;

	if (a->valid)
		snprintf(uuid, sizeof(uuid),
			 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
			 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11],
			 u[12], u[13], u[14], u[15]);
	return snprintf(text, size,
			"area: %s\nbacking: %s\nsize: %llu\nslots: %llu\nuuid: %s\nstate: %s%s\n",
			name, a->device ? "device" : "file", (unsigned long long)a->bytes,
			a->valid ? (unsigned long long)a->slots : 0, uuid,
			!a->valid ? "damaged: "
			: a->on	  ? "on"
				  : "off",
			a->valid ? "" : a->damage);
}

int area_each(int swap_fd, int (*fn)(const char *name, void *arg), void *arg)
{
	int fd = openat(swap_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dp = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (dp == NULL) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (e = readdir(dp)) != NULL)
		if (area_name(e->d_name))
			r = fn(e->d_name, arg);
	closedir(dp);
	return r;
}
