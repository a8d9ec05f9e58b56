/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pages.c - a program with memory, for tests of stores: it does what it is
 * told on standard input, one letter a time, and answers each with a line.
 *
 *	v	verify every page, and change every third
 *	c	change every page
 *	f	fork: the child goes on by itself, changing and verifying, until
 *		it is killed; the answer has its number
 *	e	end what a thread does beside all that with a file of a store
 *		(owner.h), as one of its owners
 *
 * usage: pages MEBIBYTES SEED [BASE FILE OWNER]
 */
#include "owner.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define WORDS (4096 / sizeof(uint64_t))

static uint64_t *memory;
static uint32_t *version;
static size_t pages;
static uint64_t seed;

static uint64_t word(size_t page, size_t i)
{
	uint64_t v = (seed << 40) ^ ((uint64_t)page << 20) ^ ((uint64_t)version[page] << 10) ^ i;

	v ^= v >> 31;
	v *= 0x9e3779b97f4a7c15U;
	v ^= v >> 29;
	return v;
}

static void change(size_t page)
{
	version[page]++;
	for (size_t i = 0; i < WORDS; i++)
		memory[page * WORDS + i] = word(page, i);
}

static void verify(void)
{
	for (size_t p = 0; p < pages; p++) {
		for (size_t i = 0; i < WORDS; i++)
			if (memory[p * WORDS + i] != word(p, i)) {
				printf("wrong page %zu word %zu\n", p, i);
				fflush(stdout);
				_exit(1);
			}
		if (p % 3 == 0)
			change(p);
	}
}

static void change_all(void)
{
	for (size_t p = 0; p < pages; p++)
		change(p);
}

int main(int argc, char **argv)
{
	int c;

	if (argc != 3 && argc != 6)
		return 2;
	pages = strtoul(argv[1], NULL, 10) * 256;
	seed = strtoul(argv[2], NULL, 10);
	memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	version = calloc(pages, sizeof(*version));
	if (memory == MAP_FAILED || version == NULL)
		return 3;
	change_all();
	if (argc == 6 && !owner_begin(argv[3], (unsigned)strtoul(argv[4], NULL, 10),
				      (unsigned)strtoul(argv[5], NULL, 10)))
		return 4;
	puts("ready");
	fflush(stdout);
	while ((c = getchar()) != EOF) {
		pid_t pid = 0, self;

		switch (c) {
		case 'v':
			verify();
			break;
		case 'c':
			change_all();
			break;
		case 'f':
			self = getpid();
			pid = fork();
			if (pid == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				/* it may have ended before */
				if (getppid() != self)
					_exit(1);
				for (;;) {
					verify();
					owner_look(20);
				}
			}
			break;
		case 'e':
			owner_end();
			break;
		default:
			continue;
		}
		printf("%c %ld\n", c, (long)pid);
		fflush(stdout);
	}
	return 0;
}
