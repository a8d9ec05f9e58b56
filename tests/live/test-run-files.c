/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mappings of files in an unmodified program, under `faultline run --files`.
 *
 * Each case runs this program again with a subject's name and a directory as its
 * arguments: first natively, then with a limit far below what is mapped.  A
 * subject checks by itself that memory is what mmap(2) and fork(2) say, byte for
 * byte; the same must hold both times.
 */
#include "subject-checks.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RW (PROT_READ | PROT_WRITE)
#define N 4096UL /* pages: 16 MiB, at a limit of 4 */
#define H 1024UL /* where processes are many, at a limit of 2 */

#define READ_TRIES 8U /* until the disk is not so slow that reads are left behind (detour.h) */

static char lib[4096];
static const char *dir;

/* ---- what subjects share ---- */

/* A page's content is made of its number and a tag; tag 0 is the file's. */
static uint64_t word_of(size_t page, uint64_t tag, size_t i)
{
	if (page % 9 == 0 && tag != 0)
		return tag * 0x0101010101010101U;
	return (page * 1000003 + tag + 1) * 0x9e3779b97f4a7c15U + i;
}

static void put_page(uint64_t *mem, size_t page, uint64_t tag)
{
	for (size_t i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = word_of(page, tag, i);
}

/* at: the page of the file that it began as. */
static void check_at(const uint64_t *mem, size_t page, size_t at, uint64_t tag)
{
	for (size_t i = 0; i < WORDS; i++)
		if (mem[page * WORDS + i] != word_of(at, tag, i)) {
			dprintf(2, "page %zu, word %zu: %lx instead of %lx\n", page, i,
				mem[page * WORDS + i], word_of(at, tag, i));
			_exit(98);
		}
}

static void check_page(const uint64_t *mem, size_t page, uint64_t tag)
{
	check_at(mem, page, page, tag);
}

static void write_page(int fd, size_t page, size_t at, uint64_t tag)
{
	uint64_t buf[WORDS];

	for (size_t i = 0; i < WORDS; i++)
		buf[i] = word_of(at, tag, i);
	CHECK(pwrite(fd, buf, PAGE, (off_t)(page * PAGE)) == (ssize_t)PAGE);
}

static char path[4096 + 32];

static int make_named(const char *name, size_t pages)
{
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	for (size_t p = 0; p < pages; p++)
		write_page(fd, p, p, 0);
	return fd;
}

static int make_file(size_t pages)
{
	return make_named("data", pages);
}

static uint64_t *map(int fd, size_t pages, int prot, int flags)
{
	void *p = mmap(NULL, pages * PAGE, prot, flags, fd, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* ---- one process ---- */

/* Without the descriptor and without the name, three times through four times the limit. */
static void subject_private(void)
{
	int fd = make_file(N);
	uint64_t *mem = map(fd, N, RW, MAP_PRIVATE);
	uint64_t *seen = map(fd, N, PROT_READ, MAP_PRIVATE | MAP_NORESERVE);

	CHECK(unlink(path) == 0);
	CHECK(close(fd) == 0);
	for (size_t p = 0; p < N; p++)
		check_page(mem, p, 0);
	for (size_t p = 0; p < N; p += 3)
		put_page(mem, p, 1);
	for (size_t p = N; p-- > 0;) {
		check_page(mem, p, p % 3 == 0 ? 1 : 0);
		check_page(seen, p, 0);
	}
	CHECK(madvise(mem, N / 2 * PAGE, MADV_DONTNEED) == 0);
	for (size_t p = 0; p < N; p++)
		check_page(mem, p, p % 3 == 0 && p >= N / 2 ? 1 : 0);
	CHECK(munmap(seen, N * PAGE) == 0);
	CHECK(munmap(mem, N * PAGE) == 0);
}

static uint64_t *racing;
static volatile bool racing_stop;

/* Adds to pages of its own; what is not added to stays the file's. */
static void *race(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, seed = me;

	while (!racing_stop) {
		size_t page = (size_t)rand_r(&seed) % (H / 8) * 8 + me;
		uint64_t *w = racing + page * WORDS;
		uint64_t v = w[0] - word_of(page, 0, 0);

		CHECK(w[7] - word_of(page, 0, 7) == v || w[7] - word_of(page, 0, 7) == v + 1);
		CHECK(w[9] == word_of(page, 0, 9));
		w[7] = word_of(page, 0, 7) + v + 1;
		w[0] = word_of(page, 0, 0) + v + 1;
		/* and one that is read only */
		page = (size_t)rand_r(&seed) % (H / 2) * 2 + 1;
		CHECK(racing[page * WORDS + 100] == word_of(page, 0, 100));
	}
	return NULL;
}

static void check_racing(uint64_t *sum)
{
	*sum = 0;
	for (size_t p = 0; p < H; p++) {
		const uint64_t *w = racing + p * WORDS;
		uint64_t v = w[0] - word_of(p, 0, 0), u = w[7] - word_of(p, 0, 7);

		CHECK(u == v || u == v + 1);
		CHECK(v == 0 || p % 2 == 0);
		CHECK(w[WORDS - 1] == word_of(p, 0, WORDS - 1));
		*sum += v + u * 3;
	}
}

/* Threads that fault meanwhile: a child has one moment's memory, and it stays as it was. */
static void subject_threads(void)
{
	int fd = make_file(H);
	pthread_t t[4];
	uint64_t sum;

	racing = map(fd, H, RW, MAP_PRIVATE);
	close(fd);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, race, (void *)(i * 2)) == 0);
	for (unsigned round = 0; round < 6; round++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			uint64_t again;

			check_racing(&sum);
			check_racing(&again);
			CHECK(sum == again);
			_exit(0);
		}
		reap(pid);
	}
	racing_stop = true;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	check_racing(&sum);
	CHECK(sum != 0);
}

/* ---- fork ---- */

static uint64_t *reading;

static void *read_on(void *arg)
{
	size_t p = (size_t)(uintptr_t)arg * 100;

	while (!racing_stop) {
		check_page(reading, p, 0);
		p = (p + 1) % H;
	}
	return NULL;
}

/* Children are forked while threads read what may only be read; each makes parts of it its own. */
static void subject_reading(void)
{
	int fd = make_file(H);
	pthread_t t[4];

	reading = map(fd, H, PROT_READ, MAP_PRIVATE);
	CHECK(mprotect(reading + H / 2 * WORDS, 20 * PAGE, RW) == 0);
	put_page(reading, H / 2 + 5, 0);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, read_on, (void *)i) == 0);
	for (unsigned round = 0; round < 8; round++) {
		uint64_t *other = map(fd, H, PROT_NONE, MAP_PRIVATE);
		pid_t pid = round % 4 == 3 ? vfork() : fork();

		CHECK(pid >= 0);
		if (pid == 0 && round % 4 == 3)
			_exit(reading[100 * WORDS + 1] != word_of(100, 0, 1));
		if (pid == 0) {
			size_t at = round * 30;

			CHECK(mprotect(other, H * PAGE, PROT_READ) == 0);
			CHECK(mprotect(reading + at * WORDS, 50 * PAGE, RW) == 0);
			for (size_t p = at; p < at + 50; p += 2)
				put_page(reading, p, 1 + round);
			for (size_t p = 0; p < H; p++) {
				bool put = p >= at && p < at + 50 && (p - at) % 2 == 0;

				check_page(reading, p, put ? 1 + round : 0);
				check_page(other, p, 0);
			}
			/* one that has none of it is not in the way */
			CHECK(munmap(reading + 300 * WORDS, 50 * PAGE) == 0);
			check_page(reading, 299, 0);
			check_page(reading, 350, 0);
			_exit(0);
		}
		reap(pid);
		CHECK(mprotect(reading + (300 + round * 10) * WORDS, 10 * PAGE, RW) == 0);
		CHECK(munmap(other, H * PAGE) == 0);
	}
	racing_stop = true;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (size_t p = 0; p < H; p++)
		check_page(reading, p, 0);
}

/* What the parent has in a page when it forks for the nth time. */
static uint64_t tag_at(size_t page, unsigned round)
{
	if (page % 6 == 0)
		return 1;
	return page % 6 == 2 && round > 0 ? 9 + round : 0;
}

/* Whatever state a page is in at the fork, each side sees its own writes, and else the file. */
static void subject_fork(void)
{
	int fd = make_file(H);
	uint64_t *mem = map(fd, H, RW, MAP_PRIVATE);
	uint64_t *seen = map(fd, H, PROT_READ, MAP_PRIVATE);

	close(fd);
	/* a sixth was written, and most of that swapped; of the rest some is there, some never was */
	for (size_t p = 0; p < H; p += 6)
		put_page(mem, p, 1);
	for (unsigned round = 0; round < 2; round++) {
		pid_t pid;

		for (size_t p = H / 2; p < H / 2 + 200; p++) {
			check_page(mem, p, tag_at(p, round));
			check_page(seen, p, 0);
		}
		pid = fork();
		if (pid == 0) {
			for (size_t p = round; p < H; p += 4)
				put_page(mem, p, 2);
			for (size_t p = 0; p < H; p++)
				check_page(mem, p, p % 4 == round ? 2 : tag_at(p, round));
			for (size_t p = H; p-- > 0;)
				check_page(seen, p, 0);
			pid = fork();
			if (pid == 0) {
				CHECK(mprotect(seen, H * PAGE, RW) == 0);
				for (size_t p = 1; p < H; p += 3) {
					put_page(mem, p, 4);
					put_page(seen, p, 5);
				}
				for (size_t p = 0; p < H; p++) {
					check_page(mem, p,
						   p % 3 == 1	    ? 4
						   : p % 4 == round ? 2
								    : tag_at(p, round));
					check_page(seen, p, p % 3 == 1 ? 5 : 0);
				}
				_exit(0);
			}
			reap(pid);
			for (size_t p = 0; p < H; p++)
				check_page(mem, p, p % 4 == round ? 2 : tag_at(p, round));
			/* and it can forget, though the file has no descriptor here */
			CHECK(madvise(mem, H * PAGE, MADV_DONTNEED) == 0);
			for (size_t p = 0; p < H; p += 5) {
				check_page(mem, p, 0);
				check_page(seen, p, 0);
			}
			_exit(0);
		}
		for (size_t p = 2; p < H; p += 6)
			put_page(mem, p, 10 + round);
		reap(pid);
		for (size_t p = 0; p < H; p++)
			check_page(mem, p, tag_at(p, round + 1));
		CHECK(madvise(mem + H / 2 * WORDS, 100 * PAGE, MADV_DONTNEED) == 0);
		for (size_t p = H / 2; p < H / 2 + 100; p++) {
			check_page(mem, p, 0);
			if (tag_at(p, round + 1) != 0)
				put_page(mem, p, tag_at(p, round + 1));
		}
	}
}

/* A descriptor of each file goes to the child: more than fit into one message. */
static void subject_many(void)
{
	enum { FILES = 300 };
	static uint64_t *mem[FILES];
	pid_t pid;

	for (size_t i = 0; i < FILES; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "many-%zu", i);
		fd = make_named(name, 0);
		for (size_t p = 0; p < 8; p++)
			write_page(fd, p, i * 8 + p, 0);
		mem[i] = map(fd, 8, RW, MAP_PRIVATE);
		CHECK(close(fd) == 0 && unlink(path) == 0);
	}
	for (size_t i = 0; i < FILES; i++)
		mem[i][3 * WORDS] = i;
	pid = fork();
	if (pid == 0) {
		for (size_t i = FILES; i-- > 0;) {
			CHECK(mem[i][3 * WORDS] == i);
			for (size_t p = 0; p < 8; p++)
				if (p != 3)
					check_at(mem[i], p, i * 8 + p, 0);
		}
		_exit(0);
	}
	for (size_t i = 0; i < FILES; i += 2)
		CHECK(munmap(mem[i], 8 * PAGE) == 0);
	reap(pid);
	pid = fork();
	if (pid == 0) {
		for (size_t i = 1; i < FILES; i += 2)
			check_at(mem[i], 5, i * 8 + 5, 0);
		_exit(0);
	}
	reap(pid);
}

static int again_elsewhere(void *arg)
{
	uint64_t **mem = arg;
	int fd = make_named("other", 16);

	/* of a descriptor table of its own, in which the number is another file's */
	CHECK(dup2(fd, 77) == 77);
	*mem = map(77, 16, RW, MAP_PRIVATE);
	put_page(*mem, 1, 5);
	_exit(0);
}

/* A child that shares memory, and not descriptors; exec. */
static void subject_exec(void)
{
	static char stack[256 << 10] __attribute__((aligned(64)));
	char *argv[] = {self, (char[]){"private"}, NULL, NULL};
	int fd = make_file(64);
	uint64_t *mem = map(fd, 64, RW, MAP_PRIVATE), *theirs = NULL;
	pid_t pid;
	int zero;

	CHECK(dup2(fd, 77) == 77);
	pid = clone(again_elsewhere, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD,
		    &theirs);
	reap(pid);
	for (size_t p = 0; p < 16; p++)
		check_page(theirs, p, p == 1 ? 5 : 0);
	CHECK(munmap(theirs, 16 * PAGE) == 0);
	put_page(mem, 5, 1);
	/* the page that is handed to the kernel is not there yet */
	zero = open("/dev/null", O_WRONLY);
	CHECK(write(zero, mem + 9 * WORDS, PAGE) == (ssize_t)PAGE);
	pid = vfork();
	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	reap(pid);
	check_page(mem, 5, 1);
	check_page(mem, 6, 0);
	argv[2] = (char *)(uintptr_t)dir;
	execv(self, argv);
	CHECK(false);
}

/* ---- what the program sees ---- */

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void subject_descriptors(void)
{
	int fd = make_file(N);
	unsigned n = open_descriptors();
	uint64_t *mem = map(fd, N, RW, MAP_PRIVATE);

	for (size_t p = 0; p < N; p += 2)
		put_page(mem, p, 1);
	CHECK(open_descriptors() == n);
	CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0);
	for (size_t p = 0; p < N; p++)
		check_page(mem, p, p % 2 == 0 ? 1 : 0);
}

static sigjmp_buf escape;
static siginfo_t bus;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	bus = *info;
	siglongjmp(escape, 1);
}

/* Whether a touch raises the SIGBUS that the kernel raises beyond the end of a file. */
static bool is_beyond(const uint64_t *at)
{
	memset(&bus, 0, sizeof(bus));
	if (sigsetjmp(escape, 1) == 0) {
		(void)*(const volatile uint64_t *)at;
		return false;
	}
	CHECK(bus.si_signo == SIGBUS && bus.si_code == BUS_ADRERR && bus.si_addr == at);
	return true;
}

static void subject_truncate(void)
{
	struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	int fd = make_file(64), pipes[2];
	uint64_t *mem = map(fd, 80, RW, MAP_PRIVATE);
	pid_t pid;

	CHECK(sigaction(SIGBUS, &sa, NULL) == 0 && pipe(pipes) == 0);
	for (size_t p = 0; p < 64; p++)
		check_page(mem, p, 0);
	put_page(mem, 50, 1);
	put_page(mem, 10, 1);
	CHECK(is_beyond(mem + 70 * WORDS + 3));
	CHECK(is_beyond(mem + 70 * WORDS + 5));
	CHECK(write(pipes[1], mem + 71 * WORDS, PAGE) == -1 && errno == EFAULT);
	/* shorter: written pages go, too; the end of the last page is zeros */
	CHECK(ftruncate(fd, 20 * PAGE + 256) == 0);
	CHECK(is_beyond(mem + 50 * WORDS + 7) && is_beyond(mem + 21 * WORDS));
	check_page(mem, 10, 1);
	check_page(mem, 19, 0);
	for (size_t i = 0; i < WORDS; i++)
		CHECK(mem[20 * WORDS + i] == (i < 32 ? word_of(20, 0, i) : 0));
	pid = fork();
	if (pid == 0) {
		CHECK(is_beyond(mem + 50 * WORDS + 7) && is_beyond(mem + 40 * WORDS + 1));
		check_page(mem, 10, 1);
		check_page(mem, 18, 0);
		CHECK(truncate(path, 60 * PAGE) == 0);
		for (size_t i = 0; i < WORDS; i++)
			CHECK(mem[50 * WORDS + i] == 0);
		_exit(0);
	}
	reap(pid);
	/* longer again: another process did that */
	CHECK(ftruncate(fd, 64 * PAGE) == 0);
	for (size_t p = 21; p < 64; p++)
		for (size_t i = 0; i < WORDS; i++)
			CHECK(mem[p * WORDS + i] == 0);
	CHECK(is_beyond(mem + 64 * WORDS));
	check_page(mem, 10, 1);
	CHECK(truncate(path, 5 * PAGE) == 0);
	CHECK(is_beyond(mem + 10 * WORDS));
	check_page(mem, 4, 0);
}

/* As the kernel raises it for a poisoned page, where it was built to know of failing memory. */
static int code_seen(const void *at)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGBUS;
	info.si_code = BUS_MCEERR_AR;
	info.si_addr = (void *)(uintptr_t)at;
	info.si_addr_lsb = 12;
	memset(&bus, 0, sizeof(bus));
	if (sigsetjmp(escape, 1) == 0) {
		CHECK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGBUS, &info) == 0);
		CHECK(false);
	}
	CHECK(bus.si_signo == SIGBUS && bus.si_addr == at);
	return bus.si_code;
}

static void subject_poison(void)
{
	struct sigaction sa = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
	int fd = make_file(8);
	uint64_t *mem = map(fd, 16, RW, MAP_PRIVATE);
	uint64_t *anon = map(-1, 8, RW, MAP_PRIVATE | MAP_ANONYMOUS);

	CHECK(sigaction(SIGBUS, &sa, NULL) == 0);
	CHECK(is_beyond(mem + 12 * WORDS + 3));
	CHECK(code_seen(mem + 12 * WORDS + 5) == BUS_ADRERR);
	CHECK(code_seen(anon + 5) == BUS_MCEERR_AR);
	CHECK(code_seen(&fd) == BUS_MCEERR_AR);
	check_page(mem, 7, 0);
}

/* What was written to the file before it was mapped is seen, whatever is cached of it. */
static void subject_renewed(void)
{
	int fd = make_file(256);
	uint64_t *first = map(fd, 256, PROT_READ, MAP_PRIVATE), *shared;

	for (size_t p = 0; p < 256; p += 16)
		check_page(first, p, 0);
	for (unsigned round = 1; round < 30; round++) {
		uint64_t *mem;

		for (size_t p = round % 7; p < 256; p += 7)
			write_page(fd, p, p, round);
		mem = map(fd, 256, RW, MAP_PRIVATE);
		for (size_t p = round % 7; p < 256; p += 7)
			check_page(mem, p, round);
		CHECK(munmap(mem, 256 * PAGE) == 0);
		CHECK(madvise(first, 256 * PAGE, MADV_DONTNEED) == 0);
		for (size_t p = round % 7; p < 256; p += 7)
			check_page(first, p, round);
	}
	/* and what is stored into a mapping that is shared */
	shared = map(fd, 256, RW, MAP_SHARED);
	for (unsigned round = 40; round < 60; round++) {
		uint64_t *mem;

		for (size_t p = round % 5; p < 256; p += 5)
			put_page(shared, p, round);
		mem = map(fd, 256, RW, MAP_PRIVATE);
		for (size_t p = round % 5; p < 256; p += 5)
			check_page(mem, p, round);
		CHECK(munmap(mem, 256 * PAGE) == 0);
	}
}

/*
 * The same of a file that was last changed long before: what is cached of it is
 * used again, until it changes.
 */
static void subject_old(void)
{
	uint64_t *mem, *shared;
	int fd;

	snprintf(path, sizeof(path), "%s/old", dir);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	for (unsigned i = 0; i < 3; i++) {
		mem = map(fd, 64, PROT_READ, MAP_PRIVATE);
		for (size_t p = 0; p < 64; p++)
			check_page(mem, p, 0);
	}
	write_page(fd, 5, 5, 1);
	mem = map(fd, 64, PROT_READ, MAP_PRIVATE);
	for (size_t p = 0; p < 64; p++)
		check_page(mem, p, p == 5 ? 1 : 0);
	shared = map(fd, 64, RW, MAP_SHARED);
	put_page(shared, 6, 2);
	mem = map(fd, 64, PROT_READ, MAP_PRIVATE);
	for (size_t p = 0; p < 64; p++)
		check_page(mem, p, p == 5 ? 1 : p == 6 ? 2 : 0);
	/* as it was, for who comes next */
	write_page(fd, 5, 5, 0);
	write_page(fd, 6, 6, 0);
}

/* A shared mapping shows what is written, whoever writes; so it is not ours. */
static void subject_shared(void)
{
	int fd = make_file(64), ro = open(path, O_RDONLY);
	uint64_t *seen = map(ro, 64, PROT_READ, MAP_SHARED), *mem = map(fd, 64, RW, MAP_SHARED);
	pid_t pid;

	for (size_t p = 0; p < 64; p++)
		check_page(seen, p, 0);
	write_page(fd, 7, 7, 1);
	check_page(seen, 7, 1);
	check_page(mem, 7, 1);
	pid = fork();
	if (pid == 0) {
		put_page(mem, 8, 2);
		write_page(fd, 9, 9, 3);
		_exit(0);
	}
	reap(pid);
	check_page(seen, 8, 2);
	check_page(seen, 9, 3);
	CHECK(msync(mem, 64 * PAGE, MS_SYNC) == 0);
	/* what was chosen and is managed, beside it */
	check_page(map(fd, 64, PROT_READ, MAP_PRIVATE), 9, 3);
}

static void subject_calls(void)
{
	int fd = make_file(N), null = open("/dev/null", O_RDWR), direct;
	uint64_t *mem = map(fd, 64, RW, MAP_PRIVATE), *to;
	unsigned char vec[64];
	void *r;

	/* residence */
	CHECK(madvise(mem, 64 * PAGE, MADV_RANDOM) == 0);
	put_page(mem, 40, 1);
	CHECK(mincore(mem, 64 * PAGE, vec) == 0 && (vec[40] & 1) == 1);
	CHECK(mincore(mem, 64 * PAGE, NULL) == -1 && errno == EFAULT);
	CHECK(mincore((char *)mem + 1, PAGE, vec) == -1 && errno == EINVAL);
	CHECK(madvise(mem, 64 * PAGE, MADV_WILLNEED) == 0);
	for (time_t end = time(NULL) + HANG_SECONDS; (vec[50] & 1) == 0 && time(NULL) < end;) {
		CHECK(mincore(mem, 64 * PAGE, vec) == 0);
		sched_yield();
	}
	CHECK((vec[50] & 1) == 1);
	CHECK(madvise(mem, 64 * PAGE, MADV_NORMAL) == 0);
	check_page(mem, 40, 1);
	/* locks and syncs */
	CHECK(mlock(mem + 16 * WORDS, 8 * PAGE) == 0);
	CHECK(mincore(mem + 16 * WORDS, 8 * PAGE, vec) == 0);
	for (unsigned i = 0; i < 8; i++)
		CHECK((vec[i] & 1) == 1);
	CHECK(msync(mem, 64 * PAGE, MS_SYNC) == 0);
	CHECK(msync(mem, 64 * PAGE, MS_INVALIDATE) == -1 && errno == EBUSY);
	CHECK(msync(mem, 64 * PAGE, MS_SYNC | MS_ASYNC) == -1 && errno == EINVAL);
	CHECK(munlock(mem, 64 * PAGE) == 0);
	CHECK(msync(mem, 64 * PAGE, MS_INVALIDATE) == 0);
	CHECK(syscall(SYS_remap_file_pages, mem, 8 * PAGE, 0, 3, 0) == -1 && errno == EINVAL);
	CHECK(madvise(mem, PAGE, MADV_FREE) == -1 && errno == EINVAL);
	CHECK(madvise(mem, PAGE, MADV_REMOVE) == -1 && errno == EACCES);
	/* protections */
	CHECK(mprotect(mem, 8 * PAGE, PROT_READ) == 0);
	CHECK(read(open("/dev/zero", O_RDONLY), mem, PAGE) == -1 && errno == EFAULT);
	CHECK(mprotect(mem, 8 * PAGE, RW) == 0);
	put_page(mem, 1, 1);
	/* moves, and what is put in the middle */
	r = mremap(mem, 64 * PAGE, 200 * PAGE, MREMAP_MAYMOVE);
	CHECK(r != MAP_FAILED);
	mem = r;
	for (size_t p = 0; p < 200; p++)
		check_page(mem, p, p == 40 || p == 1 ? 1 : 0);
	CHECK(munmap(mem + 10 * WORDS, 10 * PAGE) == 0);
	CHECK(msync(mem, 200 * PAGE, MS_SYNC) == -1 && errno == ENOMEM);
	CHECK(mincore(mem, 200 * PAGE, (unsigned char[200]){0}) == -1 && errno == ENOMEM);
	to = mmap(mem + 10 * WORDS, 5 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK(to == mem + 10 * WORDS && to[0] == 0);
	to = mmap(mem + 15 * WORDS, 5 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 1000 * PAGE);
	CHECK(to == mem + 15 * WORDS);
	for (size_t p = 0; p < 5; p++)
		check_at(to, p, 1000 + p, 0);
	to = mmap(mem + 30 * WORDS, 5 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2000 * PAGE);
	CHECK(to == mem + 30 * WORDS);
	check_at(to, 2, 2002, 0);
	write_page(fd, 2002, 2002, 6);
	check_at(to, 2, 2002, 6);
	check_page(mem, 40, 1);
	check_page(mem, 29, 0);
	to = mmap(mem + 30 * WORDS, 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
	CHECK(to == MAP_FAILED && errno == EEXIST);
	check_at(mem, 32, 2002, 6);
	CHECK(munmap(mem, 200 * PAGE) == 0);
	/* brought in at once; what was left behind by then (detour.h) has gone, and is brought in anew */
	for (unsigned tries = 0, there = 0; there < 64; tries++) {
		CHECK(tries < READ_TRIES);
		mem = map(fd, 100, PROT_READ, MAP_PRIVATE | MAP_POPULATE);
		CHECK(mincore(mem, 64 * PAGE, vec) == 0);
		for (there = 0; there < 64 && (vec[there] & 1) == 1; there++)
			;
	}
	check_page(mem, 99, 0);
	/* errors are the kernel's */
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, null, 0) == MAP_FAILED && errno == ENODEV);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EINVAL);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 900, 0) == MAP_FAILED && errno == EBADF);
	/* direct I/O into what is not there yet */
	to = map(fd, N, RW, MAP_PRIVATE);
	direct = open(path, O_RDONLY | O_DIRECT);
	CHECK(direct >= 0);
	for (size_t p = 0; p < N; p += 50)
		CHECK(pread(direct, to + p * WORDS, PAGE, (off_t)((N - 1 - p) * PAGE)) ==
		      (ssize_t)PAGE);
	for (size_t p = 0; p < N; p++)
		check_at(to, p, p % 50 == 0 ? N - 1 - p : p,
			 p % 50 == 0 ? (N - 1 - p == 2002 ? 6 : 0) : (p == 2002 ? 6 : 0));
}

/*
 * The file is written from its own mapping: whoever writes holds the lock of the
 * file that a direct read of it would wait for.
 */
static void subject_own(void)
{
	int fd = make_file(512);
	uint64_t *mem = map(fd, 512, PROT_READ, MAP_PRIVATE);

	for (size_t p = 0; p < 8; p++)
		CHECK(pwrite(fd, mem + (p * 61 + 3) * WORDS, 2 * PAGE,
			     (off_t)((512 + 2 * p) * PAGE)) == (ssize_t)(2 * PAGE));
	CHECK(munmap(mem, 512 * PAGE) == 0);
	mem = map(fd, 528, PROT_READ, MAP_PRIVATE);
	for (size_t p = 0; p < 512; p++)
		check_page(mem, p, 0);
	for (size_t p = 0; p < 16; p++)
		check_at(mem, 512 + p, p / 2 * 61 + 3 + p % 2, 0);
}

static volatile unsigned long alarms;
static uint64_t *alarm_mem;

static void on_alarm(int sig)
{
	size_t p = (++alarms * 37) % 1000;

	(void)sig;
	CHECK(alarm_mem[p * WORDS + 5] == word_of(p, 0, 5));
}

/* The next alarm is asked for when the last one has been: the program goes on in between. */
static void ask_for_alarm(unsigned long n)
{
	struct itimerval soon = {.it_value = {.tv_usec = (suseconds_t)(1 + n * 61 % 300)}};
	static unsigned long asked_for; /* alarms, one more than there were */

	if (asked_for == alarms + 1)
		return;
	asked_for = alarms + 1;
	CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

/* Handlers that touch a mapping while others come and go. */
static void subject_signals(void)
{
	int fd = make_file(N);
	uint64_t *mem = map(fd, N, RW, MAP_PRIVATE);

	alarm_mem = map(fd, 1000, PROT_READ, MAP_PRIVATE);
	signal(SIGALRM, on_alarm);
	for (unsigned round = 0; round < 60 || alarms < 50; round++) {
		uint64_t *part = map(fd, 200, RW, MAP_PRIVATE);

		for (size_t p = 0; p < 200; p += 9) {
			ask_for_alarm(round + p);
			put_page(part, p, round + 1);
			check_page(part, p + 1, 0);
		}
		for (size_t p = round * 61 % N; p < N; p += 97) {
			ask_for_alarm(round + p);
			put_page(mem, p, 1);
		}
		for (size_t p = 0; p < 200; p++)
			check_page(part, p, p % 9 == 0 ? round + 1 : 0);
		CHECK(munmap(part, 200 * PAGE) == 0);
	}
	for (size_t p = 0; p < N; p++)
		CHECK(mem[p * WORDS] == word_of(p, 0, 0) || mem[p * WORDS] == word_of(p, 1, 0));
}

/* No call but these from here on, and exit. */
static void subject_filter(void)
{
	static const int allowed[] = {SYS_mmap, SYS_munmap, SYS_futex, SYS_exit_group, SYS_write};
	struct sock_filter code[2 + 2 * sizeof(allowed) / sizeof(allowed[0])];
	struct sock_fprog program = {.filter = code};
	int fd = make_file(N);
	uint64_t *mem = map(fd, N, RW, MAP_PRIVATE), *late;
	unsigned n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (unsigned)allowed[i], 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	program.len = (unsigned short)n;
	check_page(mem, 1, 0);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	for (size_t p = 0; p < N; p += 2)
		put_page(mem, p, 1);
	late = map(fd, 64, RW, MAP_PRIVATE);
	put_page(late, 3, 1);
	for (size_t p = 0; p < 64; p++)
		check_page(late, p, p == 3 ? 1 : 0);
	for (size_t p = 0; p < N; p++)
		check_page(mem, p, p % 2 == 0 ? 1 : 0);
	CHECK(munmap(late, 64 * PAGE) == 0);
	CHECK(munmap(mem, N * PAGE) == 0);
}

static void subject_library(void)
{
	char copy[4096 + 32];
	void *(*get)(size_t len);
	int (*put)(void *p, size_t len);
	void *handle;
	int fd = make_file(64);
	uint64_t *mem = map(fd, 64, RW, MAP_PRIVATE);

	snprintf(copy, sizeof(copy), "%s/inline-sites.so", dir);
	handle = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
	if (handle == NULL)
		dprintf(2, "%s\n", dlerror());
	CHECK(handle != NULL);
	*(void **)&get = dlsym(handle, "inline_mmap");
	*(void **)&put = dlsym(handle, "inline_munmap");
	CHECK(get != NULL && put != NULL);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t *anon = get(N * PAGE);

		for (size_t p = 0; p < N; p++)
			put_page(anon, p, 1);
		for (size_t p = 0; p < N; p++)
			check_page(anon, p, 1);
		CHECK(put(anon, N * PAGE) == 0);
	}
	check_page(mem, 33, 0);
	CHECK(dlclose(handle) == 0);
}

/* ---- running them ---- */

static int be_subject(const char *name)
{
	static const struct subject subjects[] = {
		{"private", subject_private},	{"threads", subject_threads},
		{"fork", subject_fork},		{"many", subject_many},
		{"exec", subject_exec},		{"descriptors", subject_descriptors},
		{"truncate", subject_truncate}, {"renewed", subject_renewed},
		{"shared", subject_shared},	{"calls", subject_calls},
		{"own", subject_own},		{"signals", subject_signals},
		{"filter", subject_filter},	{"library", subject_library},
		{"poison", subject_poison},	{"old", subject_old},
		{"reading", subject_reading},
	};

	_exit(be_one_of(subjects, sizeof(subjects) / sizeof(subjects[0]), name));
}

static char work[64], stats[96], pattern[96];

/* A figure of the last summary, sizes in KiB; of several processes of the first that has it. */
static double summary(const char *label)
{
	char line[256];
	double v = -1;
	FILE *f = fopen(stats, "r");

	assert_non_null(f);
	while (v < 0 && fgets(line, sizeof(line), f) != NULL) {
		const char *at = strstr(line, label);

		if (at != NULL) {
			char *unit;

			v = strtod(at + strlen(label), &unit);
			if (strncmp(unit, " MiB", 4) == 0)
				v *= 1024;
		}
	}
	fclose(f);
	return v;
}

static void managed(const char *subject, const char *limit, const char *const *more)
{
	const char *argv[40] = {tool,	 "run",	  "--limit", limit,	"--files",
				pattern, "--log", "warn",    "--verify"};
	char where[128];
	unsigned n = 9;
	int status;

	snprintf(where, sizeof(where), "--stats=%s", stats);
	argv[n++] = where;
	for (; more != NULL && *more != NULL; more++)
		argv[n++] = *more;
	argv[n++] = "--";
	argv[n++] = self;
	argv[n++] = subject;
	argv[n++] = work;
	unlink(stats);
	status = spawn(argv);
	if (status != 0)
		fail_msg("%s: wait status %x", subject, (unsigned)status);
	assert_true(summary("differences found") == 0);
}

static void run(const char *subject, const char *limit, const char *const *more)
{
	const char *argv[] = {self, subject, work, NULL};
	int status = spawn(argv);

	if (status != 0)
		fail_msg("%s, natively: wait status %x", subject, (unsigned)status);
	managed(subject, limit, more);
}

#define ENGINES 4

static const char *const engines[ENGINES][7] = {
	{"--engine", "uring", "--wp", "auto", NULL},
	{"--engine", "sync", "--wp", "sync", NULL},
	{"--engine", "uring", "--wp", "off", "--pagers", "3", NULL},
	{"--compress", NULL},
};

static void four_times_the_limit(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENGINES; i++) {
		run("private", "4M", engines[i]);
		assert_true(summary("pages evicted") > 100);
		assert_true(summary("read from files") > 0);
	}
}

static void threads_and_forks(void **state)
{
	(void)state;
	run("threads", "2M", engines[0]);
	run("threads", "2M", engines[2]);
	for (unsigned i = 0; i < ENGINES; i++)
		run("reading", "2M", engines[i]);
}

static void each_side_sees_its_own_writes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ENGINES; i++)
		run("fork", "2M", engines[i]);
}

static void many_files_are_inherited(void **state)
{
	(void)state;
	run("many", "16M", NULL);
}

/* Of so few descriptors for the pagers that most of the files are the kernel's; forks go on. */
static void few_descriptors_are_enough(void **state)
{
	struct rlimit was, few;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = (struct rlimit){.rlim_cur = 200, .rlim_max = was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	run("many", "8M", NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_true(summary("not managed: other") > 200);
	assert_true(summary("mappings of files, managed") > 10);
}

static void other_tables_and_exec(void **state)
{
	(void)state;
	run("exec", "4M", NULL);
}

static void descriptors_are_the_programs(void **state)
{
	(void)state;
	run("descriptors", "4M", NULL);
}

static void beyond_the_end_is_the_kernels_signal(void **state)
{
	(void)state;
	run("truncate", "4M", NULL);
	run("truncate", "4M", engines[1]);
	managed("poison", "4M", NULL);
}

static void a_new_mapping_sees_the_file_as_it_is(void **state)
{
	(void)state;
	run("renewed", "4M", NULL);
}

/* So long that a change would show in the file's time. */
static void await_old(void)
{
	struct timespec t;
	struct stat st;

	snprintf(path, sizeof(path), "%s/old", work);
	assert_int_equal(stat(path, &st), 0);
	do {
		sched_yield();
		clock_gettime(CLOCK_REALTIME, &t);
	} while (t.tv_sec < st.st_ctim.tv_sec + 4);
}

/* 64 pages are read for the first three mappings, and for each that follows a change. */
static void what_is_cached_is_used_until_it_changes(void **state)
{
	unsigned tries = 0;

	(void)state;
	do {
		/* of a slow disk some are left behind, and read again */
		assert_true(tries++ < READ_TRIES);
		await_old();
		managed("old", "4M", NULL);
		assert_true(summary("read from files") > 0);
	} while (summary("read from files") > 3 * 64 * 4);
}

static void shared_mappings_are_the_kernels(void **state)
{
	(void)state;
	run("shared", "4M", NULL);
	assert_true(summary("chosen files, shared") >= 0);
	assert_true(summary("managed, of files") >= 0);
	assert_true(summary("not managed: shared") == 2);
	assert_true(summary("mappings of files, managed") == 1);
}

static void calls_are_as_ever(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		run("calls", "8M", engines[i]);
}

static void a_file_is_written_from_its_own_mapping(void **state)
{
	(void)state;
	run("own", "4M", engines[0]);
	run("own", "4M", engines[1]);
}

static void handlers_touch_what_is_mapped(void **state)
{
	(void)state;
	run("signals", "4M", NULL);
}

static void a_filter_leaves_what_is_new_to_the_kernel(void **state)
{
	(void)state;
	/* a summary takes calls that this filter does not allow */
	const char *plain[] = {self, "filter", work, NULL};
	const char *paged[] = {tool, "run", "--limit", "4M", "--files", pattern,
			       "--", self,  "filter",  work, NULL};

	assert_int_equal(spawn(plain), 0);
	assert_int_equal(spawn(paged), 0);
}

static void libraries_are_managed_by_name_only(void **state)
{
	const char *by_name[] = {"--files", NULL, NULL};
	char copy[128], command[4096 + 256];

	(void)state;
	snprintf(copy, sizeof(copy), "%s/inline-sites.so", work);
	snprintf(command, sizeof(command), "cp '%s' '%s'", lib, copy);
	assert_int_equal(system(command), 0);
	run("library", "4M", NULL);
	by_name[1] = copy;
	assert_true(summary("not managed: code") > 1);
	managed("library", "4M", by_name);
	assert_true(summary("mappings of files, managed") > 2);
	assert_true(summary("not managed: code") == -1);
}

/* Nothing is looked at, and nothing managed, that was not asked for. */
static void others_are_the_kernels(void **state)
{
	const char *argv[] = {tool, "run", "--limit", "4M",	 "--files", "/nowhere/*",
			      NULL, "--",  self,      "private", work,	    NULL};
	char where[128];

	(void)state;
	snprintf(where, sizeof(where), "--stats=%s", stats);
	argv[6] = where;
	unlink(stats);
	assert_int_equal(spawn(argv), 0);
	assert_true(summary("managed, of files") == -1);
	assert_true(summary("read from files") == -1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four_times_the_limit),
		cmocka_unit_test(threads_and_forks),
		cmocka_unit_test(each_side_sees_its_own_writes),
		cmocka_unit_test(many_files_are_inherited),
		cmocka_unit_test(few_descriptors_are_enough),
		cmocka_unit_test(other_tables_and_exec),
		cmocka_unit_test(descriptors_are_the_programs),
		cmocka_unit_test(beyond_the_end_is_the_kernels_signal),
		cmocka_unit_test(a_new_mapping_sees_the_file_as_it_is),
		cmocka_unit_test(shared_mappings_are_the_kernels),
		cmocka_unit_test(calls_are_as_ever),
		cmocka_unit_test(a_file_is_written_from_its_own_mapping),
		cmocka_unit_test(handlers_touch_what_is_mapped),
		cmocka_unit_test(a_filter_leaves_what_is_new_to_the_kernel),
		cmocka_unit_test(libraries_are_managed_by_name_only),
		cmocka_unit_test(others_are_the_kernels),
		cmocka_unit_test(what_is_cached_is_used_until_it_changes),
	};
	const char *build;
	const char *tmp = getenv("TMPDIR");
	char command[128];
	int failed;

	if (!know_self())
		return 2;
	if (argc == 3) {
		dir = argv[2];
		return be_subject(argv[1]);
	}
	build = know_build();
	if (build == NULL)
		return 2;
	snprintf(lib, sizeof(lib), "%s/tests/live/.libs/inline-sites.so", build);
	snprintf(work, sizeof(work), "%.40s/run-files-XXXXXX", tmp != NULL ? tmp : "/var/tmp");
	if (mkdtemp(work) == NULL)
		return 2;
	snprintf(stats, sizeof(stats), "%s.stats", work);
	snprintf(pattern, sizeof(pattern), "%s/*", work);
	dir = work;
	close(make_named("old", 64));
	failed = cmocka_run_group_tests_name("run-files", tests, NULL, NULL);
	unlink(stats);
	snprintf(command, sizeof(command), "rm -rf '%s'", work);
	return system(command) == 0 ? failed : 2;
}
