/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * measure FILE COMMAND [ARGUMENT...]: run a command, write to FILE one line,
 * "SECONDS PEAK": wall time, and the most memory that was ever resident, in
 * KiB, as the kernel counted it.  The exit status is the command's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec from, to;
	struct rusage usage;
	int status;
	pid_t pid;
	FILE *f;

	if (argc < 3) {
		fputs("usage: measure FILE COMMAND [ARGUMENT...]\n", stderr);
		return 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	pid = vfork();
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid) {
		fprintf(stderr, "measure: %s: %s\n", argv[2], strerror(errno));
		return 126;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	f = fopen(argv[1], "w");
	if (f == NULL ||
	    fprintf(f, "%.2f %ld\n",
		    (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
		    usage.ru_maxrss) < 0 ||
	    fclose(f) != 0) {
		fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
		return 126;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
