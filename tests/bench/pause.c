/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pause - how long a program stands for a snapshot, beside fork(2).
 *
 *	pause [MIB [ROUNDS]]
 *
 * The same resident memory, in pages of 4 KiB, in turn: fork(2) of memory that the
 * kernel pages, fl_snapshot() of memory that is paged here, and of memory
 * that is not paged yet.  Times are those of the call, in the calling
 * thread.  All pages are zeros, so that no disk is measured.
 */
#include "faultline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define ROUNDS_MAX 99

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

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void put(const char *what, double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), by_size);
	printf("%-34s %8.2f %8.2f\n", what, v[n / 2], v[0]);
}

static double fork_once(void)
{
	double t0 = now_ms(), t1;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	t1 = now_ms();
	must(pid > 0 && waitpid(pid, &status, 0) == pid, "fork");
	return t1 - t0;
}

static double snapshot_once(struct fl *fl, char *mem, size_t len)
{
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
	double t0, t1;
	int r;

	must(fd >= 0, "/var/tmp");
	t0 = now_ms();
	r = fl_snapshot(fl, mem, len, fd, FL_SNAPSHOT_NOSYNC, -1);
	t1 = now_ms();
	errno = -r;
	must(r == 0, "fl_snapshot");
	r = fl_snapshot_wait(fl);
	errno = -r;
	must(r == 0, "fl_snapshot_wait");
	close(fd);
	return t1 - t0;
}

/* Every page has a frame of its own. */
static void touch(char *mem, size_t len)
{
	must(madvise(mem, len, MADV_NOHUGEPAGE) == 0, "madvise");
	for (size_t i = 0; i < len; i += 4096)
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

int main(int argc, char **argv)
{
	size_t len = (argc > 1 ? strtoul(argv[1], NULL, 0) : 1024) * MIB;
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 7;
	double forks[ROUNDS_MAX], snapshots[ROUNDS_MAX], firsts[ROUNDS_MAX];

	if (len == 0 || rounds == 0 || rounds > ROUNDS_MAX) {
		fputs("usage: pause [MIB [ROUNDS]]\n", stderr);
		return 2;
	}
	for (unsigned i = 0; i < rounds; i++) {
		struct fl *fl;
		char *mem;

		mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(mem != MAP_FAILED, "mmap");
		touch(mem, len);
		forks[i] = fork_once();
		munmap(mem, len);
		fl = paged(len, 1, &mem);
		snapshots[i] = snapshot_once(fl, mem, len);
		must(fl_close(fl) == 0, "fl_close");
		munmap(mem, len);
		fl = paged(len, 0, &mem);
		firsts[i] = snapshot_once(fl, mem, len);
		must(fl_close(fl) == 0, "fl_close");
		munmap(mem, len);
	}
	printf("%-34s %8s %8s  (ms, %zu MiB resident, %u rounds)\n", "", "median", "least",
	       len / MIB, rounds);
	put("fork", forks, rounds);
	put("snapshot", snapshots, rounds);
	put("first snapshot of unpaged memory", firsts, rounds);
	return 0;
}
