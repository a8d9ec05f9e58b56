/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.c - save memory as of one instant, and go on changing it.
 *
 * An account book is written by a thread that moves money all the time: at any
 * instant at which it is looked at, at most one unit is on its way.  Images of the book are
 * taken meanwhile, mapped, and added up.
 */
#include <faultline.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define ACCOUNTS ((size_t)4096) /* a page each */
#define LIMIT ((uint64_t)8 << 20)
#define EACH 1000
#define IMAGES 3

static char *book;
static int stop;

static volatile long *account(char *of, size_t i)
{
	return (volatile long *)(void *)(of + i * PAGE);
}

static void *clerk(void *arg)
{
	unsigned seed = 1;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t from = (size_t)rand_r(&seed) % ACCOUNTS;
		size_t to = (size_t)rand_r(&seed) % ACCOUNTS;

		--*account(book, from);
		++*account(book, to);
	}
	return NULL;
}

static void fail(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-err));
	exit(1);
}

int main(void)
{
	struct fl_options options = {.size = sizeof(options), .limit = LIMIT};
	pthread_t thread;
	struct fl *fl;
	int r = fl_open(&fl, &options);

	if (r != 0)
		fail("fl_open", r);
	book = fl_mmap(fl, NULL, ACCOUNTS * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (book == FL_FAILED)
		return 1;
	for (size_t i = 0; i < ACCOUNTS; i++)
		*account(book, i) = EACH;
	pthread_create(&thread, NULL, clerk, NULL);

	for (int i = 0; i < IMAGES; i++) {
		int fd = open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
		long sum = 0;
		char *image;

		r = fl_snapshot(fl, book, ACCOUNTS * PAGE, fd, 0, -1);
		if (r != 0)
			fail("fl_snapshot", r);
		r = fl_snapshot_wait(fl);
		if (r != 0)
			fail("fl_snapshot_wait", r);
		image = fl_mmap(fl, NULL, ACCOUNTS * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
		close(fd);
		if (image == FL_FAILED)
			return 1;
		for (size_t k = 0; k < ACCOUNTS; k++)
			sum += *account(image, k);
		printf("image %d: %ld of %ld\n", i, sum, (long)ACCOUNTS * EACH);
		fl_munmap(fl, image, ACCOUNTS * PAGE);
		if (sum != (long)ACCOUNTS * EACH && sum != (long)ACCOUNTS * EACH - 1)
			return 1;
	}

	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	return fl_close(fl) != 0;
}
