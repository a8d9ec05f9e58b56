/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach.c - how long a runtime takes to open on a store, and many that hold on to one.
 *
 *	bench-attach time MNT COUNT	open and close one, in turn with one that has a private
 *					area and is armed as well; a line "STORE PRIVATE" of
 *					microseconds for each turn
 *	bench-attach hold MNT COUNT	so many processes, each with pages in the store; says
 *					"ready" and waits for the end of standard input
 */
#include "faultline.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LIMIT ((size_t)2 << 20)
#define MEMORY ((size_t)4 << 20)

static void die(const char *what, int err)
{
	fprintf(stderr, "faultline: bench attach: %s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct fl *open_one(const char *mnt)
{
	struct fl_options o = {.size = sizeof(o), .limit = LIMIT, .store = mnt};
	const struct fl_swap_spec area = {.path = NULL, .size = MEMORY, .prio = -1};
	struct fl *fl;
	int err;

	/* its pagers start at once, too */
	if (mnt == NULL) {
		o.areas = &area;
		o.nareas = 1;
		o.swap_dir = "/var/tmp";
	}
	err = fl_open(&fl, &o);
	if (err != 0)
		die("fl_open", err);
	return fl;
}

static double time_one(const char *mnt)
{
	double start = now_us(), end;
	struct fl *fl = open_one(mnt);
	int err;

	end = now_us();
	err = fl_close(fl);
	if (err != 0)
		die("fl_close", err);
	return end - start;
}

static void hold(const char *mnt, int ready)
{
	struct fl *fl = open_one(mnt);
	char *p = fl_mmap(fl, NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);

	if (p == FL_FAILED)
		die("fl_mmap", ENOMEM);
	for (size_t i = 0; i < MEMORY; i += 8)
		*(uint64_t *)(void *)(p + i) = i * 0x9e3779b97f4a7c15U;
	if (write(ready, "x", 1) != 1)
		exit(1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	long count = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	int ready[2];
	char c;

	if (count <= 0 || (strcmp(argv[1], "time") != 0 && strcmp(argv[1], "hold") != 0)) {
		fputs("usage: bench-attach time|hold MNT COUNT\n", stderr);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (strcmp(argv[1], "time") == 0) {
		for (long i = 0; i < count; i++)
			printf("%.1f %.1f\n", time_one(argv[2]), time_one(NULL));
		return 0;
	}
	if (pipe(ready) != 0)
		die("pipe", errno);
	for (long i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", errno);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			hold(argv[2], ready[1]);
		}
		/* one after the other: a server serves so many strangers at a time */
		if (read(ready[0], &c, 1) != 1)
			die("a process", ECHILD);
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		continue;
	return 0;
}
