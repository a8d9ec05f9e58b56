/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * poison-handler.c - survive a page that cannot be read back.
 *
 * When a slot is unreadable, or holds something else than what was written,
 * its page is poisoned: a touch raises SIGBUS with the address in si_addr.
 * A program that can make the page's content anew, a cache for one, catches that,
 * drops the page (it reads as zeros then) and goes on.
 *
 * Here the damage is done by ourselves, to an area made by 'faultline mkswap'.
 *
 * usage: poison-handler AREA
 */
#include <faultline.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define SIZE ((size_t)16 << 20)
#define LIMIT ((uint64_t)4 << 20)
#define PAGE_WORDS (PAGE / sizeof(uint64_t))

static sigjmp_buf rescue;
static void *volatile poisoned;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	poisoned = info->si_addr;
	siglongjmp(rescue, 1);
}

/* What a page's words are: a cache would compute or fetch it. */
static void make(uint64_t *page, size_t number)
{
	for (size_t i = 0; i < PAGE_WORDS; i++)
		page[i] = number * PAGE_WORDS + i;
}

/* Whether the page is right; -1 when it is lost. */
static int check(const uint64_t *page, size_t number)
{
	if (sigsetjmp(rescue, 1) != 0)
		return -1;
	for (size_t i = 0; i < PAGE_WORDS; i++)
		if (((const volatile uint64_t *)page)[i] != number * PAGE_WORDS + i)
			return 0;
	return 1;
}

/* Overwrite everything but the header, as a failing device might. */
static void damage(const char *area)
{
	static char noise[PAGE];
	struct stat st;
	int fd = open(area, O_WRONLY);

	memset(noise, 0xa5, sizeof(noise));
	if (fd < 0 || fstat(fd, &st) != 0) {
		perror(area);
		exit(EXIT_FAILURE);
	}
	for (off_t at = (off_t)PAGE; at < st.st_size; at += (off_t)PAGE) {
		if (pwrite(fd, noise, PAGE, at) != (ssize_t)PAGE) {
			perror(area);
			exit(EXIT_FAILURE);
		}
	}
	fsync(fd);
	close(fd);
}

/*
 * The runtime's own line about each page.  It is called on a pager, which has
 * no descriptor of the program's and no C library behind it: keep the first
 * few, and show them later.
 */
static struct log {
	char line[3][256];
	unsigned count; /* of all lines */
} log_kept;

static void on_log(void *arg, enum fl_log_level level, const char *line)
{
	struct log *log = arg;
	unsigned n = __atomic_fetch_add(&log->count, 1, __ATOMIC_RELAXED);

	(void)level;
	for (size_t i = 0; n < 3 && i + 1 < sizeof(log->line[n]) && line[i] != '\0'; i++)
		log->line[n][i] = line[i];
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
	struct fl_swap_spec area = {.prio = -1};
	struct fl_options options = {.size = sizeof(options),
				     .limit = LIMIT,
				     .areas = &area,
				     .nareas = 1,
				     .log = on_log,
				     .log_arg = &log_kept};
	size_t lost = 0;
	struct fl *fl;
	char *memory;
	int err;

	if (argc != 2) {
		fputs("usage: poison-handler AREA\n", stderr);
		return EXIT_FAILURE;
	}
	area.path = argv[1];
	err = fl_open(&fl, &options);
	if (err != 0) {
		fprintf(stderr, "poison-handler: fl_open: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}
	memory =
		fl_mmap(fl, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		perror("poison-handler: fl_mmap");
		return EXIT_FAILURE;
	}
	sigaction(SIGBUS, &action, NULL);

	for (size_t i = 0; i < SIZE / PAGE; i++)
		make((uint64_t *)(void *)(memory + i * PAGE), i);
	damage(argv[1]);

	for (size_t i = 0; i < SIZE / PAGE; i++) {
		uint64_t *page = (uint64_t *)(void *)(memory + i * PAGE);
		int state = check(page, i);

		if (state > 0)
			continue;
		if (state == 0) { /* never: wrong bytes are not handed out */
			fprintf(stderr, "poison-handler: page %zu is wrong\n", i);
			return EXIT_FAILURE;
		}
		if ((char *)poisoned < memory + i * PAGE ||
		    (char *)poisoned >= memory + (i + 1) * PAGE) {
			fprintf(stderr, "poison-handler: SIGBUS for %p\n", poisoned);
			return EXIT_FAILURE;
		}
		lost++;
		fl_madvise(fl, page, PAGE, MADV_DONTNEED);
		make(page, i);
	}
	printf("%zu of %zu pages were lost, and made anew; the first of %u lines:\n", lost,
	       SIZE / PAGE, log_kept.count);
	for (size_t i = 0; i < 3; i++)
		printf("  %s\n", log_kept.line[i]);

	fl_munmap(fl, memory, SIZE);
	fl_close(fl);
	return lost > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
