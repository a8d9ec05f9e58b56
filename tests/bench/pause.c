/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pause - how long a program stands for a snapshot, beside fork(2).
 *
 *	bench-pause MIB
 *
 * The same resident memory, in pages of 4 KiB, in turn: fork(2) of memory that the
 * kernel pages, fl_snapshot() of memory that is paged here, and of memory
 * that is not paged yet.  Meanwhile another thread writes: nothing; a word in each of a
 * few pages, again and again; or in each of all pages.  For each of these: the
 * time of the call, in the calling thread; for how long nothing was answered, as the
 * runtime says; the longest that one write of the other thread took while the call
 * lasted; and how many of its writes met a page that was protected before the instant.
 * All pages are zeros, so that no disk is measured.  Prints "row WHAT-WRITTEN SIDE VALUE",
 * in milliseconds, or a count of writes.
 */
#include "faultline.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define FEW_PAGES 64U
#define PG 4096U

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec * 1e-6;
}

static void must(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "pause: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- the thread that writes ---- */

enum writes { WRITES_NONE, WRITES_FEW, WRITES_ALL, WRITES };

static const char *const writes_name[WRITES] = {"none", "few", "all"};

struct writer {
	pthread_t thread;
	char *mem;
	size_t step, end; /* it writes at 0, step, 2 step, .. below end, in turn */
	int stop;
	int timing;   /* a call lasts */
	double worst; /* ms; of one write since the call began */
	unsigned long writes;
};

static void *write_on(void *arg)
{
	struct writer *w = arg;
	size_t at = 0;

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		double t0 = now_ms(), t;

		*(volatile char *)(w->mem + at) = 0;
		t = now_ms() - t0;
		/* also of one that began in the call and ends after it */
		if (__atomic_load_n(&w->timing, __ATOMIC_ACQUIRE) && t > w->worst)
			w->worst = t;
		at = at + w->step < w->end ? at + w->step : 0;
		__atomic_store_n(&w->writes, w->writes + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void writer_start(struct writer *w, enum writes how, char *mem, size_t len)
{
	*w = (struct writer){
		.mem = mem, .end = len, .step = how == WRITES_ALL ? PG : len / FEW_PAGES};
	if (how == WRITES_NONE)
		return;
	errno = pthread_create(&w->thread, NULL, write_on, w);
	must(errno == 0, "pthread_create");
	while (__atomic_load_n(&w->writes, __ATOMIC_ACQUIRE) < 2UL * FEW_PAGES)
		sched_yield();
}

static double writer_stop(struct writer *w, enum writes how)
{
	if (how == WRITES_NONE)
		return 0;
	__atomic_store_n(&w->stop, 1, __ATOMIC_RELAXED);
	pthread_join(w->thread, NULL);
	return w->worst;
}

static void call_begins(struct writer *w)
{
	__atomic_store_n(&w->timing, 1, __ATOMIC_RELEASE);
}

/* The write that is under way counts. */
static void call_ended(struct writer *w, enum writes how)
{
	unsigned long n = __atomic_load_n(&w->writes, __ATOMIC_ACQUIRE);

	while (how != WRITES_NONE && __atomic_load_n(&w->writes, __ATOMIC_ACQUIRE) == n)
		sched_yield();
	__atomic_store_n(&w->timing, 0, __ATOMIC_RELEASE);
}

/* ---- the three sides ---- */

enum side { SIDE_FORK, SIDE_SNAPSHOT, SIDE_FIRST, SIDES };

static const char *const side_name[SIDES] = {"fork", "snapshot", "first"};

struct times {
	double call, pause, stall, early;
};

static void fork_once(char *mem, size_t len, enum writes how, struct times *t)
{
	struct writer w;
	double t0;
	int status;
	pid_t pid;

	writer_start(&w, how, mem, len);
	call_begins(&w);
	t0 = now_ms();
	pid = fork();
	if (pid == 0)
		_exit(0);
	t->call = t->pause = now_ms() - t0;
	call_ended(&w, how);
	t->stall = writer_stop(&w, how);
	t->early = 0;
	must(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
}

static void snapshot_once(struct fl *fl, char *mem, size_t len, enum writes how, struct times *t)
{
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
	struct fl_stats before, after;
	struct writer w;
	double t0;
	int r;

	must(fd >= 0, "/var/tmp");
	must(fl_stats(fl, &before, sizeof(before)) == 0, "fl_stats");
	writer_start(&w, how, mem, len);
	call_begins(&w);
	t0 = now_ms();
	r = fl_snapshot(fl, mem, len, fd, FL_SNAPSHOT_NOSYNC, -1);
	t->call = now_ms() - t0;
	errno = -r;
	must(r == 0, "fl_snapshot");
	call_ended(&w, how);
	t->stall = writer_stop(&w, how);
	must(fl_stats(fl, &after, sizeof(after)) == 0, "fl_stats");
	t->pause = (double)after.snapshot_pause * 1e-6;
	t->early = (double)(after.snapshot_early - before.snapshot_early);
	r = fl_snapshot_wait(fl);
	errno = -r;
	must(r == 0, "fl_snapshot_wait");
	close(fd);
}

/* Every page has a frame of its own. */
static void touch(char *mem, size_t len)
{
	must(madvise(mem, len, MADV_NOHUGEPAGE) == 0, "madvise");
	for (size_t i = 0; i < len; i += PG)
		((volatile char *)mem)[i] = 0;
}

static struct fl *paged(size_t len, int armed, char **mem)
{
	/* room for all of it: what is measured is resident */
	struct fl_options o = {.size = sizeof(o), .limit = len / 4 * 5};
	struct fl *fl;

	must(fl_open(&fl, &o) == 0, "fl_open");
	*mem = fl_mmap(fl, NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(*mem != FL_FAILED, "fl_mmap");
	if (armed)
		must(fl_mmap(fl, NULL, len, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != FL_FAILED,
		     "fl_mmap");
	touch(*mem, len);
	return fl;
}

static void once(enum side side, size_t len, enum writes how, struct times *t)
{
	struct fl *fl;
	char *mem;

	if (side == SIDE_FORK) {
		mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(mem != MAP_FAILED, "mmap");
		touch(mem, len);
		fork_once(mem, len, how, t);
	} else {
		fl = paged(len, side == SIDE_SNAPSHOT, &mem);
		snapshot_once(fl, mem, len, how, t);
		must(fl_close(fl) == 0, "fl_close");
	}
	munmap(mem, len);
}

static void put(enum side side, enum writes how, const struct times *t)
{
	const char *at = writes_name[how];

	printf("row call-%s %s %.4f\n", at, side_name[side], t->call);
	printf("row pause-%s %s %.4f\n", at, side_name[side], t->pause);
	if (how == WRITES_NONE)
		return;
	printf("row stall-%s %s %.4f\n", at, side_name[side], t->stall);
	if (side != SIDE_FORK)
		printf("row early-%s %s %.0f\n", at, side_name[side], t->early);
}

int main(int argc, char **argv)
{
	size_t len = argc == 2 ? strtoul(argv[1], NULL, 0) * MIB : 0;

	if (len == 0) {
		fputs("usage: bench-pause MIB\n", stderr);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned how = 0; how < WRITES; how++)
		for (unsigned side = 0; side < SIDES; side++) {
			struct times t = {0};

			once(side, len, how, &t);
			put(side, how, &t);
		}
	return 0;
}
