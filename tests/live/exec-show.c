/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exec-show [MIB]: print all that a program finds when it is started and that
 * the one before it could have left, for test-exec to compare.  MIB: touch so
 * much memory as well, and see that it is kept.
 *
 * What differs from run to run by nature is left out: process numbers,
 * addresses, times, and the variables that make a program be paged.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static void show_file(const char *path, const char *const *rows)
{
	char line[4096];
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		for (const char *const *r = rows; *r != NULL; r++)
			if (**r == '*' || strncmp(line, *r, strlen(*r)) == 0)
				printf("%s %s", path, line);
	if (f != NULL)
		fclose(f);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void show_descriptors(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		char path[64];
		struct stat st;
		int flags = fcntl(fd, F_GETFD), status = fcntl(fd, F_GETFL);

		if (flags < 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fstat(fd, &st) != 0)
			st.st_mode = 0;
		printf("fd %d: flags %d status %o kind %o\n", fd, flags, status,
		       st.st_mode & S_IFMT);
	}
}

static void show_environment(void)
{
	char *copy[1024];
	size_t n = 0;

	for (char **e = environ; *e != NULL && n < 1024; e++)
		if (strncmp(*e, "LD_PRELOAD=", 11) != 0 && strncmp(*e, "FAULTLINE_", 10) != 0 &&
		    strncmp(*e, "_=", 2) != 0)
			copy[n++] = *e;
	qsort(copy, n, sizeof(copy[0]), by_name);
	for (size_t i = 0; i < n; i++)
		printf("env %s\n", copy[i]);
}

static void show_timers(void)
{
	static const int which[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};

	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		struct itimerval v;

		if (getitimer(which[i], &v) == 0)
			printf("timer %zu: %s, again after %ld\n", i,
			       v.it_value.tv_sec != 0 || v.it_value.tv_usec != 0 ? "on" : "off",
			       (long)v.it_interval.tv_sec);
	}
}

static void show_signals(void)
{
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction sa;

		if (sigaction(sig, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			printf("signal %d: %s\n", sig,
			       sa.sa_handler == SIG_IGN ? "ignored" : "a handler");
	}
}

static void show_limits(void)
{
	for (int i = 0; i < RLIMIT_NLIMITS; i++) {
		struct rlimit l;

		if (getrlimit((__rlimit_resource_t)i, &l) == 0)
			printf("limit %d: %llx %llx\n", i, (unsigned long long)l.rlim_cur,
			       (unsigned long long)l.rlim_max);
	}
}

static int touch(size_t mib)
{
	size_t n = (mib << 20) / 8;
	uint64_t *p =
		mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("exec-show: mmap");
		return 1;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = i * 0x9e3779b97f4a7c15U;
	for (size_t i = 0; i < n; i++)
		if (p[i] != i * 0x9e3779b97f4a7c15U) {
			printf("word %zu is wrong\n", i);
			return 1;
		}
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const status[] = {
		"Umask:",  "Uid:",    "Gid:",	 "Groups:", "VmLck:",	    "VmPin:",
		"Threads", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:",	    "SigCgt:",
		"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",	    "NoNewPrivs:",
		"Seccomp", "Cpus",    "Mems",	 "THP_",    "CoreDumping:", NULL};
	static const char *const all[] = {"*", NULL};
	char name[16];
	sigset_t set;
	int timerslack = prctl(PR_GET_TIMERSLACK), pdeath = -1;

	show_descriptors();
	show_environment();
	show_timers();
	show_signals();
	sigprocmask(SIG_BLOCK, NULL, &set);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&set, sig) == 1)
			printf("blocked %d\n", sig);
	show_limits();
	show_file("/proc/self/status", status);
	show_file("/proc/self/timers", all);
	show_file("/proc/self/oom_score_adj", all);
	prctl(PR_GET_PDEATHSIG, &pdeath);
	prctl(PR_GET_NAME, name);
	printf("name %s, timer slack %d, death signal %d, dumpable %d, subreaper, personality %x\n",
	       name, timerslack, pdeath, prctl(PR_GET_DUMPABLE), (unsigned)personality(0xffffffff));
	printf("scheduler %d, nice %d\n", sched_getscheduler(0), getpriority(PRIO_PROCESS, 0));
	printf("arguments:");
	for (int i = 0; i < argc; i++)
		printf(" %s", argv[i]);
	printf("\n");
	if (argc > 1 && atoi(argv[1]) > 0 && touch((size_t)atoi(argv[1])) != 0)
		return 1;
	return 0;
}
