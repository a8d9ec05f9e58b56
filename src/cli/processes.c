/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * processes.c - the processes that have a runtime; see processes.h.
 */
#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNTIMES_MAX 16U

static int open_of(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

static void read_name(pid_t pid, char *name, size_t size)
{
	int fd = open_of(pid, "comm");
	ssize_t n = fd >= 0 ? read(fd, name, size - 1) : 0;

	if (fd >= 0)
		close(fd);
	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	for (char *c = name; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
}

/* A runtime with descriptors of its own. */
static int add(pid_t pid, uint64_t address, struct process **list)
{
	struct process *p = calloc(1, sizeof(*p));
	int mem, err;

	if (p == NULL)
		return -ENOMEM;
	p->pid = pid;
	read_name(pid, p->name, sizeof(p->name));
	mem = open_of(pid, "mem");
	err = mem < 0 ? mem : peek_open(&p->peek, mem, -1, address);
	if (err != 0) {
		if (mem >= 0)
			close(mem);
		free(p);
		return err;
	}
	p->next = *list;
	*list = p;
	return 0;
}

int process_open(pid_t pid, struct process **out)
{
	uint64_t address[RUNTIMES_MAX];
	int mem = open_of(pid, "mem");
	int maps = mem < 0 ? mem : open_of(pid, "maps");
	FILE *f = maps >= 0 ? fdopen(maps, "r") : NULL;
	unsigned n = 0;
	int err = 0;

	*out = NULL;
	if (f == NULL)
		err = mem < 0 ? mem : maps < 0 ? maps : -ENOMEM;
	else
		n = peek_find(mem, f, address, RUNTIMES_MAX);
	if (f != NULL)
		fclose(f);
	if (mem >= 0)
		close(mem);
	if (err == -ENOENT)
		err = -ESRCH;
	if (err == 0 && n == 0)
		err = -ENODATA;
	if (n > RUNTIMES_MAX)
		n = RUNTIMES_MAX;
	while (err == 0 && n-- > 0)
		err = add(pid, address[n], out);
	if (err != 0) {
		processes_free(*out);
		*out = NULL;
	}
	return err;
}

struct process *processes_open(void)
{
	struct process *list = NULL;
	DIR *dp = opendir("/proc");
	const struct dirent *e;

	while (dp != NULL && (e = readdir(dp)) != NULL) {
		struct process *more, **tail;
		char *end;
		long pid = strtol(e->d_name, &end, 10);

		if (*end != '\0' || pid <= 0 || process_open((pid_t)pid, &more) != 0)
			continue;
		for (tail = &more; *tail != NULL; tail = &(*tail)->next)
			continue;
		*tail = list;
		list = more;
	}
	if (dp != NULL)
		closedir(dp);
	return list;
}

void processes_free(struct process *list)
{
	while (list != NULL) {
		struct process *next = list->next;

		close(list->peek.mem_fd);
		free(list);
		list = next;
	}
}
