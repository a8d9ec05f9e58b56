/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dir.c - a store's directory: making, opening, locking and checking it.
 *
 * The lock is a flock(2) on one open file description, which the server's
 * processes inherit: it ends with the last of them, however that ends, so a
 * lock that one holds alone always means a server that lives.
 */
#include "store.h"

#include "store-client.h"
#include "swap-slot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define VERSION_TEXT "faultline store 1\n"
#define VERSION_PREFIX "faultline store "
#define LOOK_TRIES 1000U
#define LOOK_MS 10

int why_set(struct why *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return err;
}

static int why_errno(struct why *why, const char *what)
{
	int err = errno;

	return why_set(why, -err, "%s: %s", what, strerror(err));
}

/* 1: nothing in it, 0: something, or -errno. */
static int is_empty(const char *path)
{
	DIR *dp = opendir(path);
	struct dirent *e;
	int empty = 1;

	if (dp == NULL)
		return -errno;
	errno = 0;
	while ((e = readdir(dp)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    strcmp(e->d_name, "lost+found") != 0)
			empty = 0;
	if (errno != 0)
		empty = -errno;
	closedir(dp);
	return empty;
}

static int write_version(int dir_fd)
{
	int fd = openat(dir_fd, "version", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	const size_t len = sizeof(VERSION_TEXT) - 1;
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return -errno;
	n = write(fd, VERSION_TEXT, len);
	if (n != (ssize_t)len)
		err = n < 0 ? -errno : -ENOSPC;
	else if (fsync(fd) != 0 || fsync(dir_fd) != 0)
		err = -errno;
	close(fd);
	return err;
}

static int fill_dir(int dir_fd)
{
	int fd;

	if (mkdirat(dir_fd, "swap", 0700) != 0 || mkdirat(dir_fd, "files", 0755) != 0)
		return -errno;
	fd = openat(dir_fd, "lock", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return write_version(dir_fd);
}

int store_init(const char *path, struct why *why)
{
	bool made = false;
	struct stat st;
	int dir_fd, err;

	if (mkdir(path, 0700) == 0)
		made = true;
	else if (errno != EEXIST)
		return why_errno(why, path);
	err = is_empty(path);
	if (err < 0)
		return why_set(why, err, "%s: %s", path, strerror(-err));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return why_errno(why, path);
	if (err == 0) {
		err = fstatat(dir_fd, "version", &st, AT_SYMLINK_NOFOLLOW) == 0
			      ? why_set(why, -EEXIST, "%s: is a store already", path)
			      : why_set(why, -ENOTEMPTY, "%s: not empty, and not a store", path);
		close(dir_fd);
		return err;
	}
	err = fill_dir(dir_fd);
	if (err != 0) {
		/* It was empty: what is there is ours. */
		unlinkat(dir_fd, "version", 0);
		unlinkat(dir_fd, "lock", 0);
		unlinkat(dir_fd, "files", AT_REMOVEDIR);
		unlinkat(dir_fd, "swap", AT_REMOVEDIR);
		if (made)
			rmdir(path);
		why_set(why, err, "%s: cannot be made a store: %s", path, strerror(-err));
	}
	close(dir_fd);
	return err;
}

static int read_version(struct store *s, const char *path, struct why *why)
{
	int fd = openat(s->dir_fd, "version", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[64];
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return why_set(why, -EINVAL,
			       "%s: is not a store; make one with 'faultline store init DIR'",
			       path);
	if (fd < 0)
		return why_set(why, -errno, "%s/version: %s", path, strerror(errno));
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return why_set(why, -errno, "%s/version: %s", path, strerror(errno));
	text[n] = '\0';
	if (strcmp(text, VERSION_TEXT) == 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	for (char *c = text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (strncmp(text, VERSION_PREFIX, strlen(VERSION_PREFIX)) != 0)
		return why_set(why, -EINVAL, "%s: is not a store: its version file says '%s'", path,
			       text);
	return why_set(why, -EINVAL, "%s: a store of another version (%s); this is version 1", path,
		       text + strlen(VERSION_PREFIX));
}

static int open_sub(struct store *s, const char *path, const char *name, int *fd, struct why *why)
{
	*fd = openat(s->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return why_set(why, -errno, "%s/%s: %s", path, name, strerror(errno));
	return 0;
}

int store_open(struct store *s, const char *path, struct why *why)
{
	int err;

	memset(s, 0, sizeof(*s));
	s->swap_fd = s->files_fd = s->lock_fd = -1;
	s->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return why_errno(why, path);
	if (realpath(path, s->dir) == NULL)
		err = why_errno(why, path);
	else
		err = read_version(s, path, why);
	if (err == 0)
		err = open_sub(s, path, "swap", &s->swap_fd, why);
	if (err == 0)
		err = open_sub(s, path, "files", &s->files_fd, why);
	if (err != 0)
		store_close(s);
	return err;
}

void store_close(struct store *s)
{
	int *fds[] = {&s->dir_fd, &s->swap_fd, &s->files_fd, &s->lock_fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

/* The note is "PID MNT\n". */
static bool read_note(int fd, pid_t *pid, char *mnt)
{
	char text[PATH_MAX + 32], *rest;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long number;

	*pid = 0;
	mnt[0] = '\0';
	if (n <= 0)
		return false;
	text[n] = '\0';
	number = strtol(text, &rest, 10);
	if (rest == text || *rest != ' ' || number <= 0 || number > INT_MAX)
		return false;
	if (text[n - 1] == '\n')
		text[n - 1] = '\0';
	rest++;
	if (strlen(rest) >= PATH_MAX || strchr(rest, '\n') != NULL)
		return false;
	*pid = (pid_t)number;
	strcpy(mnt, rest);
	return true;
}

/*
 * -EBUSY while there is a server.  Who only looks for one has the lock shared, and for a moment
 * (store_served()): that is waited for.
 */
static int lock_alone(int fd)
{
	for (unsigned tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (flock(fd, LOCK_SH | LOCK_NB) != 0)
			return errno == EWOULDBLOCK ? -EBUSY : -errno;
		flock(fd, LOCK_UN);
		if (tries == LOOK_TRIES)
			return -ETIMEDOUT;
		poll(NULL, 0, LOOK_MS);
	}
	return 0;
}

int store_lock(struct store *s, struct why *why)
{
	int fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	char mnt[PATH_MAX];
	pid_t pid;
	int err;

	if (fd < 0)
		return why_set(why, -errno, "%s/lock: %s", s->dir, strerror(errno));
	err = lock_alone(fd);
	if (err == 0) {
		s->lock_fd = fd;
		return 0;
	}
	if (err != -EBUSY)
		why_set(why, err, "%s/lock: %s", s->dir,
			err == -ETIMEDOUT ? "locked by a process that is no server"
					  : strerror(-err));
	else if (read_note(fd, &pid, mnt))
		why_set(why, err, "%s: already served by process %ld at %s", s->dir, (long)pid,
			mnt);
	else
		why_set(why, err, "%s: already served", s->dir);
	close(fd);
	return err;
}

int store_lock_note(struct store *s, pid_t pid, const char *mnt, struct why *why)
{
	char text[PATH_MAX + 32];
	int n = snprintf(text, sizeof(text), "%ld %s\n", (long)pid, mnt);

	if (pwrite(s->lock_fd, text, (size_t)n, 0) != n || ftruncate(s->lock_fd, n) != 0)
		return why_set(why, -errno, "%s/lock: %s", s->dir, strerror(errno));
	return 0;
}

bool store_served(const struct store *s, pid_t *pid, char *mnt)
{
	int fd = openat(s->dir_fd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool served;

	if (fd < 0)
		return false;
	served = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
	if (served)
		read_note(fd, pid, mnt);
	close(fd);
	return served;
}

/* Checking. */

struct check {
	FILE *out;
	const struct store *s;
	unsigned problems;
	struct seen {
		uint8_t uuid[16];
		char name[NAME_MAX + 1];
	} * seen;
	unsigned nseen;
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *c, const char *fmt, ...)
{
	va_list ap;

	c->problems++;
	fprintf(c->out, "%s", c->s->dir);
	va_start(ap, fmt);
	vfprintf(c->out, fmt, ap);
	va_end(ap);
	fputc('\n', c->out);
}

static int check_uuid(struct check *c, const char *name, const struct area_info *a)
{
	struct seen *more;

	for (unsigned i = 0; i < c->nseen; i++)
		if (memcmp(c->seen[i].uuid, a->uuid, sizeof(a->uuid)) == 0)
			problem(c,
				"/swap/%s: the same uuid as %s: a copy, or the same device twice",
				name, c->seen[i].name);
	more = reallocarray(c->seen, c->nseen + 1, sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	c->seen = more;
	memcpy(more[c->nseen].uuid, a->uuid, sizeof(a->uuid));
	snprintf(more[c->nseen].name, sizeof(more->name), "%s", name);
	c->nseen++;
	return 0;
}

static int check_area(const char *name, void *arg)
{
	struct check *c = arg;
	struct area_info a;
	struct stat st;
	int err = area_open(c->s->swap_fd, name, &a);

	if (err != 0) {
		problem(c, "/swap/%s: %s", name,
			err == -EINVAL ? "neither a file nor a link to a block device"
				       : strerror(-err));
		return 0;
	}
	if (!a.valid)
		problem(c, "/swap/%s: %s", name, a.damage);
	else
		err = check_uuid(c, name, &a);
	if (a.valid && !a.device && a.allocated < a.slots * STORE_PAGE)
		problem(c, "/swap/%s: only %llu of its %llu bytes are allocated", name,
			(unsigned long long)a.allocated,
			(unsigned long long)(a.slots * STORE_PAGE));
	if (!a.device && fstat(a.fd, &st) == 0 && (st.st_mode & 077) != 0)
		problem(c, "/swap/%s: others than its owner may open it (mode %04o)", name,
			st.st_mode & 07777U);
	area_close(&a);
	return err;
}

static void check_entry(struct check *c, const char *name, mode_t type)
{
	struct stat st;

	if (fstatat(c->s->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		problem(c, "/%s: %s", name, strerror(errno));
	else if ((st.st_mode & S_IFMT) != type)
		problem(c, "/%s: is not a %s", name, type == S_IFDIR ? "directory" : "file");
	else if (strcmp(name, "swap") == 0 && (st.st_mode & 077) != 0)
		problem(c, "/%s: others than its owner may look into it (mode %04o)", name,
			st.st_mode & 07777U);
}

static bool belongs(const char *name)
{
	static const char *const known[] = {".",    "..",    "version",	   "lock",
					    "swap", "files", "lost+found", STORE_SOCKET};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return false;
}

/* Entries of a directory of the store that have no business there. */
static int check_names(struct check *c, int dir_fd, const char *sub)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dp = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (dp == NULL)
		return -errno;
	while ((e = readdir(dp)) != NULL) {
		const char *name = e->d_name;

		if (*sub == '\0' && !belongs(name))
			problem(c, "/%s: does not belong here", name);
		else if (*sub != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
			 !area_name(name))
			problem(c, "%s/%s: not a name for an area", sub, name);
	}
	closedir(dp);
	return 0;
}

/*
 * The bits of a served area's map: what is used against what members say that they
 * hold or are busy with, whatever their page entries say.  What changes in between
 * looks wrong once, not COUNT_TIMES.
 */
#define COUNT_TIMES 5U
#define COUNT_PAUSE_NS 100000000L

static int count_area(const char *name, int fd, uint64_t slots, void *arg)
{
	struct check *c = arg;
	struct slot_count least = {.lost = UINT64_MAX, .free = UINT64_MAX, .dead = UINT_MAX};

	for (unsigned i = 0; i < COUNT_TIMES; i++) {
		const struct timespec pause = {.tv_nsec = COUNT_PAUSE_NS};
		struct slot_count n;
		int err = slot_map_count(fd, (uint32_t)slots, &n);

		if (err != 0) {
			problem(c, "/swap/%s: the map of its slots is no map", name);
			return 0;
		}
		least.lost = n.lost < least.lost ? n.lost : least.lost;
		least.free = n.free < least.free ? n.free : least.free;
		least.dead = n.dead < least.dead ? n.dead : least.dead;
		least.members = n.members;
		if (least.lost == 0 && least.free == 0 && least.dead == 0)
			return 0;
		nanosleep(&pause, NULL);
	}
	if (least.free != 0)
		problem(c, "/swap/%s: %llu slots are held, and free for others", name,
			(unsigned long long)least.free);
	if (least.dead != 0)
		problem(c, "/swap/%s: %u processes that have ended hold slots", name, least.dead);
	/* one that was killed in the middle of a change; found when the last one ends */
	if (least.lost != 0 && least.members <= 1)
		problem(c, "/swap/%s: %llu slots are in use, and nobody's", name,
			(unsigned long long)least.lost);
	else if (least.lost != 0)
		fprintf(c->out, "%s/swap/%s: %llu slots are nobody's until the last process ends\n",
			c->s->dir, name, (unsigned long long)least.lost);
	return 0;
}

static int check_slots(struct check *c, struct why *why)
{
	char path[PATH_MAX + sizeof(STORE_SOCKET)], mnt[PATH_MAX];
	pid_t pid;
	int err;

	if (!store_served(c->s, &pid, mnt))
		return 0;
	snprintf(path, sizeof(path), "%s/" STORE_SOCKET, c->s->dir);
	err = stored_maps(path, count_area, c);
	return err == 0 ? 0
			: why_set(why, err, "%s: its server does not answer: %s", c->s->dir,
				  strerror(-err));
}

int store_check(const char *path, FILE *out, struct why *why)
{
	struct check c = {.out = out};
	struct store s;
	int err = store_open(&s, path, why);

	if (err != 0)
		return err;
	c.s = &s;
	check_entry(&c, "version", S_IFREG);
	check_entry(&c, "lock", S_IFREG);
	check_entry(&c, "swap", S_IFDIR);
	check_entry(&c, "files", S_IFDIR);
	err = check_names(&c, s.dir_fd, "");
	if (err == 0)
		err = check_names(&c, s.swap_fd, "/swap");
	if (err == 0)
		err = area_each(s.swap_fd, check_area, &c);
	if (err != 0)
		why_set(why, err, "%s: %s", path, strerror(-err));
	else
		err = check_slots(&c, why);
	free(c.seen);
	store_close(&s);
	if (err != 0)
		return err;
	return (int)c.problems;
}
