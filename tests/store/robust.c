/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Robust mutexes in a shared mapping of a file, one in each of its pages.
 *
 *	robust hold FILE [inherit]	make and take all, say "held", and wait for the end of
 *					standard input; inherit: they lend priority
 *	robust leave FILE [inherit]	the same by a thread, which ends when standard input
 *					does; then take all
 *	robust take FILE		take all, of which the owner has to have died
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGES 64
#define PAGE ((size_t)4096)
#define PATIENCE 30 /* s */

static char *map;

static void check(int err, const char *what)
{
	if (err == 0)
		return;
	fprintf(stderr, "robust: %s: %s\n", what, strerror(err));
	exit(1);
}

/* Such that the links of some lie near the end of their page. */
static pthread_mutex_t *mutex(unsigned i)
{
	return (void *)(map + i * PAGE + (i % 2 == 0 ? 64 : PAGE - sizeof(pthread_mutex_t)));
}

static void make(bool inherit)
{
	pthread_mutexattr_t attr;

	check(pthread_mutexattr_init(&attr), "attributes");
	check(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED), "shared");
	check(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), "robust");
	if (inherit)
		check(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT), "inherit");
	for (unsigned i = 0; i < PAGES; i++)
		check(pthread_mutex_init(mutex(i), &attr), "a mutex");
}

static void *hold(void *arg)
{
	char c;

	for (unsigned i = 0; i < PAGES; i++)
		check(pthread_mutex_lock(mutex(i)), "lock");
	puts("held");
	fflush(stdout);
	/* until standard input ends */
	while (read(0, &c, 1) > 0)
		;
	return arg;
}

static void take(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	for (unsigned i = 0; i < PAGES; i++) {
		int err = pthread_mutex_timedlock(mutex(i), &until);

		if (err == EOWNERDEAD)
			continue;
		fprintf(stderr, "robust: mutex %u: %s\n", i, strerror(err));
		exit(1);
	}
	puts("taken");
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int fd;

	if (argc < 3) {
		fprintf(stderr, "usage: robust hold|leave|take FILE [inherit]\n");
		return 2;
	}
	fd = open(argv[2], O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, PAGES * PAGE) != 0)
		check(errno, argv[2]);
	map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		check(errno, "mmap");
	if (strcmp(argv[1], "take") == 0) {
		take();
		return 0;
	}
	make(argc > 3);
	if (strcmp(argv[1], "hold") == 0) {
		hold(NULL);
		return 0;
	}
	check(pthread_create(&thread, NULL, hold, NULL), "a thread");
	check(pthread_join(thread, NULL), "join");
	take();
	return 0;
}
