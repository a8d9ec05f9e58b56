/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A tree of processes for test-group.sh.
 *
 *	group-tree MIB FORKS EXECS [SECONDS [HELD]]
 *
 * fills so much memory, forks so many children that change every word of it,
 * starts so many programs like itself, does the same meanwhile (for so long, or
 * twice, and until HELD MiB of it are in memory at once), and looks at every
 * word.  How often a fork was refused is its last line.
 *
 *	group-tree hold MIB [FORKS]
 *
 * fills so much, forks so many children that wait, says how many of them were
 * refused, and waits for the end of its standard input.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 300 /* as of tests/unit/test.h */

static uint64_t *mem;
static size_t words;

static uint64_t word(size_t i, uint64_t round)
{
	return i * 0x9e3779b97f4a7c15U + round;
}

static void fill(size_t mib)
{
	size_t len = mib << 20;

	mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
	words = len / sizeof(*mem);
	for (size_t i = 0; i < words; i++)
		mem[i] = word(i, 0);
}

static void change(uint64_t round)
{
	for (size_t i = 0; i < words; i++) {
		if (mem[i] != word(i, round)) {
			fprintf(stderr, "word %zu is wrong in round %lu\n", i,
				(unsigned long)round);
			_exit(9);
		}
		mem[i] = word(i, round + 1);
	}
}

/* MiB of it that are in memory. */
static size_t held(void)
{
	unsigned char there[256];
	size_t pages = words * sizeof(*mem) / 4096, n = 0;

	for (size_t at = 0; at < pages; at += sizeof(there)) {
		if (mincore((char *)mem + at * 4096, sizeof(there) * 4096, there) != 0)
			_exit(8);
		for (size_t i = 0; i < sizeof(there); i++)
			n += there[i] & 1;
	}
	return n >> 8;
}

static int hold(size_t mib, int forks)
{
	pid_t parent = getpid();
	int refused = 0;
	char byte;

	fill(mib);
	for (int i = 0; i < forks; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while (getppid() == parent)
				pause();
			_exit(0);
		}
		if (pid < 0 && errno != ENOMEM)
			return 4;
		refused += pid < 0;
	}
	printf("%d refused\n", refused);
	fflush(stdout);
	return read(0, &byte, 1) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	unsigned refused = 0, bad = 0;
	uint64_t round = 0;
	time_t until, hang = time(NULL) + HANG_SECONDS;
	size_t least;
	int status;

	if (argc >= 3 && strcmp(argv[1], "hold") == 0)
		return hold(strtoul(argv[2], NULL, 10), argc > 3 ? atoi(argv[3]) : 0);
	if (argc < 4)
		return 2;
	fill(strtoul(argv[1], NULL, 10));
	for (int i = 0; i < atoi(argv[2]); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			change(0);
			change(1);
			_exit(0);
		}
		if (pid < 0) {
			if (errno != ENOMEM)
				return 4;
			refused++;
		}
	}
	for (int i = 0; i < atoi(argv[3]); i++) {
		char zero[] = "0";
		char *args[] = {argv[0], argv[1], zero, zero, NULL};
		pid_t pid;

		if (posix_spawn(&pid, argv[0], NULL, NULL, args, environ) != 0)
			return 5;
	}
	until = time(NULL) + (argc > 4 ? atoi(argv[4]) : 0);
	least = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
	do {
		change(round++);
	} while (time(NULL) < until || round < 2 || (held() < least && time(NULL) < hang));
	while (wait(&status) > 0)
		bad += status != 0;
	printf("%u refused, %u ended badly\n", refused, bad);
	return bad != 0;
}
