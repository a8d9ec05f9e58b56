/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * proc.c - the threads and locks of a process, as /proc tells of them; see proc.h.
 */
#include "proc.h"

#include "log.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

/* What getdents64(2) writes. */
struct entry {
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

static long open_below(int proc, const char *path, int flags)
{
	char whole[64];

	if (proc != AT_FDCWD)
		return SYS4(openat, proc, path, flags | O_CLOEXEC, 0);
	log_format(whole, sizeof(whole), "/proc/%s", path);
	return SYS4(openat, AT_FDCWD, whole, flags | O_CLOEXEC, 0);
}

static const char *number(const char *c, uint64_t *v)
{
	for (*v = 0; *c >= '0' && *c <= '9'; c++)
		*v = *v * 10 + (uint64_t)(*c - '0');
	return c;
}

bool proc_stat(int proc, uint32_t tid, unsigned field, uint64_t *value)
{
	char path[48], text[1024];
	const char *c;
	long fd, n;

	log_format(path, sizeof(path), "self/task/%u/stat", tid);
	fd = open_below(proc, path, O_RDONLY);
	if (sys_err(fd))
		return false;
	n = SYS3(read, fd, text, sizeof(text) - 1);
	SYS1(close, fd);
	text[n > 0 ? n : 0] = '\0';
	/* the name may hold anything: what follows it is behind the last parenthesis, from field 3 on */
	c = strrchr(text, ')');
	for (unsigned i = 2; c != NULL && i < field; i++)
		c = strchr(c + 1, ' ');
	if (c == NULL)
		return false;
	number(c + 1, value);
	return true;
}

bool proc_threads(int proc, bool (*fn)(uint32_t tid, void *arg), void *arg)
{
	char text[1024] __attribute__((aligned(8)));
	bool more = true;
	long fd = open_below(proc, "self/task", O_RDONLY | O_DIRECTORY);
	long n = 0;

	if (sys_err(fd))
		return false;
	while (more && (n = sys_bare(SYS_getdents64, fd, (long)text, sizeof(text), 0, 0, 0)) > 0)
		for (long at = 0; at < n && more;) {
			const struct entry *e = (const void *)(text + at);
			uint64_t tid;

			number(e->name, &tid);
			more = tid == 0 || fn((uint32_t)tid, arg); /* "." and ".." */
			at += e->len;
		}
	SYS1(close, fd);
	return more && n == 0;
}

uint32_t proc_worker_of(int proc, uint32_t tid)
{
	static const char worker[] = "iou-wrk-";
	char path[48], text[32];
	uint64_t owner = 0;
	long fd, n;

	log_format(path, sizeof(path), "self/task/%u/comm", tid);
	fd = open_below(proc, path, O_RDONLY);
	if (sys_err(fd))
		return 0;
	n = SYS3(read, fd, text, sizeof(text) - 1);
	SYS1(close, fd);
	text[n > 0 ? n : 0] = '\0';
	if (strncmp(text, worker, sizeof(worker) - 1) == 0)
		number(text + sizeof(worker) - 1, &owner);
	return (uint32_t)owner;
}

int proc_schedstat_open(int proc, uint32_t tid)
{
	char path[48];

	log_format(path, sizeof(path), "self/task/%u/schedstat", tid);
	return (int)open_below(proc, path, O_RDONLY);
}

bool proc_schedstat_delay(int fd, uint64_t *ns)
{
	char text[96];
	uint64_t ran;
	long n = SYS4(pread, fd, text, sizeof(text) - 1, 0);
	const char *c;

	if (n <= 0)
		return false;
	text[n] = '\0';
	c = number(text, &ran);
	if (*c != ' ')
		return false;
	number(c + 1, ns);
	return true;
}

/* A line of /proc/locks: "1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF". */
static bool is_flock(const char *line, uint32_t pid, uint64_t ino)
{
	static const char write[] = " WRITE ";
	const char *c = strstr(line, ": FLOCK ");
	uint64_t v;

	c = c != NULL ? strstr(c, write) : NULL;
	if (c == NULL)
		return false;
	c = number(c + sizeof(write) - 1, &v);
	if (v != pid || (c = strrchr(c, ':')) == NULL)
		return false;
	number(c + 1, &v);
	return v == ino;
}

bool proc_flocked(int proc, uint32_t pid, uint64_t ino)
{
	char text[512], line[128];
	bool found = false;
	size_t len = 0;
	long fd = open_below(proc, "locks", O_RDONLY);
	long n;

	if (sys_err(fd))
		return false;
	while (!found && (n = SYS3(read, fd, text, sizeof(text))) > 0)
		for (long i = 0; i < n && !found; i++) {
			if (text[i] != '\n') {
				if (len + 1 < sizeof(line))
					line[len++] = text[i];
				continue;
			}
			line[len] = '\0';
			len = 0;
			found = is_flock(line, pid, ino);
		}
	SYS1(close, fd);
	return found;
}
