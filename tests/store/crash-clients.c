/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-clients.c - the processes of a crash course; see crash-clients.h.
 */
#include "crash-clients.h"

#include "test.h"

#include "crash-world.h"
#include "crash.h"

#include "api.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LIMIT (2UL << 20)

struct process process[CLIENTS];

static sigjmp_buf escape;
static struct fl *fl;
static int own_sock;
static struct {
	int fd;
	char *map;
} opened[FILES];

static void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

static int64_t failed(int r)
{
	return r == 0 ? 0 : -errno;
}

static int64_t do_open(const struct order *o)
{
	struct stat st;
	int fd;

	if (opened[o->file].fd >= 0)
		return 0;
	fd = open(on_mount(o->name), O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -errno;
	opened[o->file].fd = fd;
	opened[o->file].map = NULL;
	if (!is_mapped(o->file))
		return (int64_t)st.st_ino;
	opened[o->file].map = fl_mmap(fl, NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (opened[o->file].map == FL_FAILED) {
		opened[o->file].map = NULL;
		return -errno;
	}
	return (int64_t)st.st_ino;
}

static int64_t do_close(const struct order *o)
{
	int64_t r = 0;

	if (opened[o->file].map != NULL)
		r = fl_munmap(fl, opened[o->file].map, ROOM);
	opened[o->file].map = NULL;
	if (opened[o->file].fd >= 0)
		close(opened[o->file].fd);
	opened[o->file].fd = -1;
	return r;
}

static int64_t do_store(const struct order *o)
{
	volatile char *p = opened[o->file].map;

	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t at = o->from; at < o->to; at++)
		p[at] = (char)value(o->seed, at);
	return 0;
}

static uint8_t buffer[ROOM];

static int64_t do_write(const struct order *o)
{
	uint64_t n = o->to - o->from;
	ssize_t r;

	for (uint64_t at = o->from; at < o->to; at++)
		buffer[at - o->from] = value(o->seed, at);
	r = pwrite(opened[o->file].fd, buffer, n, (off_t)o->from);
	if (r < 0)
		return -errno;
	return (uint64_t)r == n ? 0 : -EIO;
}

static int64_t differs(const char *what, uint32_t file, uint64_t at, uint8_t have)
{
	fprintf(stderr, "%s: file %u, byte %lu (page %lu): %02x, not %02x\n", what, file,
		(unsigned long)at, (unsigned long)(at / PG), have, world->file[file].cur[at]);
	return -EBADMSG;
}

/* The file by read(2), and by its mapping. */
static int64_t do_check(const struct order *o)
{
	const struct file *f = &world->file[o->file];
	volatile uint8_t *map = (volatile uint8_t *)opened[o->file].map;
	ssize_t n = pread(opened[o->file].fd, buffer, ROOM, 0);

	if (n < 0)
		return -errno;
	if ((uint64_t)n != f->size) {
		fprintf(stderr, "file %u: %ld bytes, not %lu\n", o->file, (long)n,
			(unsigned long)f->size);
		return -EBADMSG;
	}
	for (uint64_t at = 0; at < (uint64_t)n; at++)
		if (buffer[at] != f->cur[at])
			return differs("read", o->file, at, buffer[at]);
	if (map == NULL)
		return 0;
	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t at = 0; at < f->size; at++)
		if (map[at] != f->cur[at])
			return differs("mapped", o->file, at, map[at]);
	return 0;
}

/* 1: it is not in memory. */
static int64_t look_page(uint32_t file, uint64_t from, uint64_t end)
{
	const struct file *f = &world->file[file];
	const volatile uint8_t *map = (volatile uint8_t *)opened[file].map;

	if (sigsetjmp(escape, 1) != 0)
		return 1;
	for (uint64_t at = from; at < end; at++) {
		uint8_t have = map[at];

		if (have != f->cur[at] && !in_flight(file, at, have))
			return differs("after the server's end", file, at, have);
	}
	return 0;
}

static int64_t do_look(const struct order *o)
{
	const struct file *f = &world->file[o->file];
	uint64_t size = f->size < f->size_then ? f->size : f->size_then;
	int64_t lost = 0, r = 0;

	if (opened[o->file].map == NULL)
		return 0;
	for (uint64_t from = 0; r >= 0 && from < size; from += PG) {
		r = look_page(o->file, from, from + PG < size ? from + PG : size);
		lost += r;
	}
	return r < 0 ? r : lost;
}

/* Memory of the process's own. */
#define OWN_PAGES 1536U
static char *memory;

static int64_t do_fill(const struct order *o)
{
	if (memory == NULL)
		memory = fl_mmap(fl, NULL, OWN_PAGES * PG, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		memory = NULL;
		return -errno;
	}
	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t page = 0; page < OWN_PAGES; page++)
		for (uint64_t at = page * PG; at < page * PG + PG; at += 64)
			memory[at] = (char)value(o->seed, at);
	return 0;
}

static int64_t verify_page(const struct order *o, uint64_t page)
{
	const volatile uint8_t *p = (volatile uint8_t *)memory;

	if (sigsetjmp(escape, 1) != 0)
		return 1;
	for (uint64_t at = page * PG; at < page * PG + PG; at += 64) {
		uint8_t have = p[at];

		if (have == value(o->seed, at) || have == value(o->file, at))
			continue;
		fprintf(stderr, "memory, byte %lu of page %lu: %02x, not %02x\n",
			(unsigned long)(at % PG), (unsigned long)page, have, value(o->seed, at));
		return -EBADMSG;
	}
	return 0;
}

static int64_t do_verify(const struct order *o)
{
	int64_t lost = 0, r = 0;

	for (uint64_t page = 0; memory != NULL && r >= 0 && page < OWN_PAGES; page++) {
		r = verify_page(o, page);
		lost += r;
	}
	if (r < 0)
		return r;
	return lost != 0 && !o->from ? -EFAULT : lost;
}

static int64_t obey(const struct order *o)
{
	int fd;

	switch (o->what) {
	case OPEN:
		return do_open(o);
	case CLOSE:
		return do_close(o);
	case STORE:
		return do_store(o);
	case WRITE:
		return do_write(o);
	case MSYNC:
		return fl_msync(fl, opened[o->file].map + o->from, o->to - o->from, (int)o->seed);
	case FSYNC:
		fd = opened[o->file].fd;
		return failed(o->seed ? fdatasync(fd) : fsync(fd));
	case CUT:
		fd = opened[o->file].fd;
		return o->seed ? failed(ftruncate(fd, (off_t)o->to))
			       : fl_ftruncate(fl, fd, (off_t)o->to);
	case HOLE:
		return failed(fallocate(opened[o->file].fd,
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)o->from,
					(off_t)(o->to - o->from)));
	case RENAME:
		return failed(rename(on_mount(o->name), on_mount(o->file)));
	case REMOVE:
		return failed(unlink(on_mount(o->name)));
	case CREATE:
		fd = open(on_mount(o->name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
		return 0;
	case CHECK:
		return do_check(o);
	case LOOK:
		return do_look(o);
	case FILL:
		return do_fill(o);
	case VERIFY:
		return do_verify(o);
	case END:
		return fl_close(fl);
	}
	return -EINVAL;
}

static void say_nothing(void *arg, enum fl_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static _Noreturn void live(unsigned store_flags)
{
	static const int signals[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL};
	struct sigaction sa = {.sa_handler = on_bus};
	char mnt[PATH_MAX];
	struct fl_options options = {
		.size = sizeof(options),
		.limit = LIMIT,
		.store = mnt,
		.store_flags = store_flags,
		.log = say_nothing,
	};
	struct order o;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	sigaction(SIGBUS, &sa, NULL);
	snprintf(mnt, sizeof(mnt), "%s", crash_in_base("mnt"));
	for (unsigned i = 0; i < FILES; i++)
		opened[i].fd = -1;
	/* one that came when there was no server has nothing, and says so */
	err = fl_open(&fl, &options);
	while (read(own_sock, &o, sizeof(o)) == (ssize_t)sizeof(o)) {
		int64_t r = err == 0 ? obey(&o) : o.what == LOOK ? 0 : err;

		if (write(own_sock, &r, sizeof(r)) != (ssize_t)sizeof(r) || o.what == END)
			break;
	}
	_exit(0);
}

void start(struct process *p, unsigned store_flags)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		close(pair[0]);
		own_sock = pair[1];
		live(store_flags);
	}
	close(pair[1]);
	p->sock = pair[0];
}

void end_it(struct process *p)
{
	if (p->pid == 0)
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	close(p->sock);
	p->pid = 0;
}

void tell(const struct process *p, const struct order *o)
{
	/* one that has ended is found by who listens to it */
	if (write(p->sock, o, sizeof(*o)) < 0)
		assert_int_equal(errno, EPIPE);
}

int64_t hear(const struct process *p)
{
	struct pollfd f = {.fd = p->sock, .events = POLLIN};
	int64_t r;

	if (poll(&f, 1, HANG_SECONDS * 1000) != 1)
		fail_msg("%s: process %d does not answer", course, (int)p->pid);
	if (read(p->sock, &r, sizeof(r)) != (ssize_t)sizeof(r))
		return -EOWNERDEAD;
	return r;
}

int64_t order(const struct process *p, const struct order *o)
{
	tell(p, o);
	return hear(p);
}
