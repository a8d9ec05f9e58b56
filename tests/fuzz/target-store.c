/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target-store.c - a directory that may be a store, with any version and any
 * note in its lock: it is opened or refused as its version says, in one
 * printable line, and what is read of the note is a process and a path.
 *
 * Input: the length of the version, one byte; the version; the note.
 */
#include "target.h"

#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum target_outcome target_outcome;

static char dir[] = "/dev/shm/faultline-fuzz.XXXXXX";
static int version_fd = -1, lock_fd;

static void clear_up(void)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	unlinkat(fd, "version", 0);
	unlinkat(fd, "lock", 0);
	unlinkat(fd, "swap", AT_REMOVEDIR);
	unlinkat(fd, "files", AT_REMOVEDIR);
	close(fd);
	rmdir(dir);
}

static void set_up(void)
{
	struct why why;
	int fd;

	must(mkdtemp(dir) != NULL);
	atexit(clear_up);
	must(store_init(dir, &why) == 0);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	version_fd = openat(fd, "version", O_RDWR | O_CLOEXEC);
	lock_fd = openat(fd, "lock", O_RDWR | O_CLOEXEC);
	close(fd);
	must(version_fd >= 0 && lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB) == 0);
}

static void write_whole(int fd, const void *bytes, size_t n)
{
	must(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
}

static bool one_line(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			return false;
	return text[0] != '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char good[] = "faultline store 1\n";
	char mnt[PATH_MAX];
	pid_t pid = -1;
	struct store s;
	struct why why = {.text = ""};
	size_t n;
	int r;

	target_outcome = TARGET_NO_INPUT;
	if (size == 0 || (n = data[0]) > size - 1)
		return 0;
	if (version_fd < 0)
		set_up();
	write_whole(version_fd, data + 1, n);
	write_whole(lock_fd, data + 1 + n, size - 1 - n);

	r = store_open(&s, dir, &why);
	/* of the file as a string */
	must((r == 0) == (n >= sizeof(good) - 1 && memcmp(data + 1, good, sizeof(good) - 1) == 0 &&
			  (n == sizeof(good) - 1 || data[sizeof(good)] == '\0')));
	target_outcome = r == 0 ? TARGET_TAKEN : TARGET_REFUSED;
	if (r != 0) {
		must(r == -EINVAL && one_line(why.text));
		return 0;
	}
	memset(mnt, 'x', sizeof(mnt));
	must(store_served(&s, &pid, mnt));
	must(pid >= 0 && memchr(mnt, '\0', sizeof(mnt)) != NULL);
	must(pid == 0 ? mnt[0] == '\0' : strchr(mnt, '\n') == NULL);
	must(store_lock(&s, &why) == -EBUSY && strchr(why.text, '\n') == NULL);
	must(strstr(why.text, ": already served") != NULL);
	store_close(&s);
	return 0;
}
