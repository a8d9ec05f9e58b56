/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * startup.c - how long a command takes from posix_spawn(3) to its end.
 *
 *	bench-startup [-p LIBRARY] TIMES COMMAND [ARG ...]
 *
 * prints the median of TIMES runs in microseconds, of the command with LIBRARY
 * preloaded and this program without.  It is a small C program so
 * that the cost of starting a process is not that of copying a big parent.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	double *us;
	int n;

	if (argc > 3 && strcmp(argv[1], "-p") == 0) {
		setenv("LD_PRELOAD", argv[2], 1);
		argc -= 2;
		argv += 2;
	}
	n = argc > 2 ? atoi(argv[1]) : 0;
	if (n < 1) {
		fputs("usage: bench-startup [-p LIBRARY] TIMES COMMAND [ARG ...]\n", stderr);
		return 2;
	}
	us = calloc((size_t)n, sizeof(*us));
	if (!us) {
		perror("faultline: bench-startup");
		return 1;
	}
	for (int i = -1; i < n; i++) {
		double start = now_us();
		int status, err;
		pid_t pid;

		err = posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ);
		if (err) {
			fprintf(stderr, "faultline: bench-startup: %s: %s\n", argv[2],
				strerror(err));
			return 1;
		}
		if (waitpid(pid, &status, 0) != pid || status) {
			fprintf(stderr, "faultline: bench-startup: %s did not end well\n", argv[2]);
			return 1;
		}
		if (i >= 0) /* the first warms up */
			us[i] = now_us() - start;
	}
	qsort(us, (size_t)n, sizeof(*us), by_value);
	printf("%.1f\n", us[n / 2]);
	free(us);
	return 0;
}
