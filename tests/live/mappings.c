/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mappings MIB: every kind of memory that a program may map, beside and on top of
 * MIB of managed memory.  Each result is printed and must be what it is natively;
 * contents are checked here.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "mappings, line %d: %s: %s\n", __LINE__, #cond,            \
				strerror(errno));                                                  \
			exit(99);                                                                  \
		}                                                                                  \
	} while (0)

/* What a call gave: 0 and the like, or the error's name. */
static void show(const char *what, long r)
{
	printf("%s: %s\n", what, r == -1 ? strerrorname_np(errno) : "done");
}

static char *map(size_t len, int prot, int flags)
{
	char *p = mmap(NULL, len, prot, flags, -1, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static void put(char *p, size_t pages, unsigned tag)
{
	for (size_t i = 0; i < pages; i++)
		for (size_t k = 0; k < PAGE; k += 64)
			*(uint32_t *)(void *)(p + i * PAGE + k) =
				(uint32_t)((i + 1) * 2654435761U + k + tag);
}

static bool holds(const char *p, size_t pages, unsigned tag)
{
	for (size_t i = 0; i < pages; i++)
		for (size_t k = 0; k < PAGE; k += 64)
			if (*(const uint32_t *)(const void *)(p + i * PAGE + k) !=
			    (uint32_t)((i + 1) * 2654435761U + k + tag))
				return false;
	return true;
}

static bool zero(const char *p, size_t pages)
{
	for (size_t i = 0; i < pages * PAGE; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static char *memory;
static size_t pages;

static void press(void)
{
	MUST(holds(memory, pages, 1));
}

/* ---- kinds that are left to the kernel ---- */

static __attribute__((noinline)) int deep(int n)
{
	volatile char frame[8192];

	frame[0] = (char)n;
	return n == 0 ? frame[0] : deep(n - 1) + frame[0];
}

static void *on_its_stack(void *arg)
{
	char here[16 * PAGE];

	put(here, 16, 3);
	press();
	MUST(holds(here, 16, 3));
	return arg;
}

static void left_alone(void)
{
	char *p = map(16 * PAGE, RW, ANON | MAP_STACK), *q;
	pthread_attr_t attr;
	pthread_t t;

	put(p, 16, 2);
	press();
	MUST(holds(p, 16, 2));
	show("unmap half of a stack", munmap(p, 8 * PAGE));
	MUST(holds(p + 8 * PAGE, 1, 2 + 8 * 2654435761U));
	show("unmap the rest", munmap(p + 8 * PAGE, 8 * PAGE));

	/* a mapping that grows downward, when it is touched below its start */
	q = map(64 * PAGE, PROT_NONE, ANON);
	MUST(munmap(q, 64 * PAGE) == 0);
	p = mmap(q + 60 * PAGE, 4 * PAGE, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	MUST(p == q + 60 * PAGE);
	put(p, 4, 4);
	press();
	MUST(holds(p, 4, 4));
	show("unmap what grows", munmap(p, 4 * PAGE));

	MUST(deep(100) != 12345);

	/* threads on stacks of the C library's and of their own */
	MUST(pthread_create(&t, NULL, on_its_stack, NULL) == 0 && pthread_join(t, NULL) == 0);
	p = map(64 * PAGE, RW, ANON);
	MUST(pthread_attr_init(&attr) == 0);
	MUST(pthread_attr_setstack(&attr, p, 64 * PAGE) == 0);
	MUST(pthread_create(&t, &attr, on_its_stack, NULL) == 0 && pthread_join(t, NULL) == 0);
	MUST(munmap(p, 64 * PAGE) == 0);

	p = mmap(NULL, 2 << 20, RW, ANON | MAP_HUGETLB, -1, 0);
	show("huge pages", p == MAP_FAILED ? -1 : munmap(p, 2 << 20));
}

static void shared(void)
{
	char *p = map(16 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS), *q, *old;
	int status, id, fd;
	pid_t pid;

	put(p, 16, 5);
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		put(p, 16, 6);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0) == pid && status == 0 && holds(p, 16, 6));
	show("rearrange a shared mapping", remap_file_pages(p, PAGE, 0, 3, 0));
	MUST(memcmp(p, p + 3 * PAGE, PAGE) == 0);
	show("rearrange a private one", remap_file_pages(memory, PAGE, 0, 3, 0));
	MUST(munmap(p, 16 * PAGE) == 0);

	/* System V memory, over managed memory */
	id = shmget(IPC_PRIVATE, 8 * PAGE, 0600);
	MUST(id >= 0);
	old = map(32 * PAGE, RW, ANON);
	put(old, 32, 7);
	show("attach where something is", (long)shmat(id, old + 8 * PAGE, 0));
	MUST(holds(old, 32, 7));
	q = shmat(id, old + 8 * PAGE, SHM_REMAP);
	show("attach over it", (long)q);
	MUST(q == old + 8 * PAGE && zero(q, 8));
	put(q, 8, 8);
	press();
	MUST(holds(q, 8, 8) && holds(old, 8, 7));
	show("detach", shmdt(q));
	show("detach again", shmdt(q));
	show("unmap around it", munmap(old, 32 * PAGE));
	MUST(shmctl(id, IPC_RMID, NULL) == 0);

	fd = memfd_create("m", MFD_CLOEXEC);
	MUST(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
	p = mmap(NULL, 8 * PAGE, RW, MAP_PRIVATE, fd, 0);
	q = mmap(NULL, 8 * PAGE, RW, MAP_SHARED, fd, 0);
	MUST(p != MAP_FAILED && q != MAP_FAILED);
	put(q, 8, 9);
	MUST(holds(p, 8, 9));
	put(p, 4, 10);
	MUST(holds(q, 8, 9) && holds(p, 4, 10));
	MUST(munmap(p, 8 * PAGE) == 0 && munmap(q, 8 * PAGE) == 0);
	close(fd);
}

/* ---- kinds that are managed ---- */

static void replaced(void)
{
	char *p = map(64 * PAGE, RW, ANON), *q;
	int fd = memfd_create("f", MFD_CLOEXEC);

	MUST(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
	put(p, 64, 11);
	press();
	q = mmap(p + 16 * PAGE, 8 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	MUST(q == p + 16 * PAGE && zero(q, 8));
	q = mmap(p + 32 * PAGE, 8 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MUST(q == p + 32 * PAGE && zero(q, 8));
	show("a map that must replace nothing",
	     (long)mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
	show("a file that is not open", (long)mmap(p, PAGE, RW, MAP_PRIVATE | MAP_FIXED, 999, 0));
	MUST(holds(p, 16, 11));
	/* back again: the file's place is memory */
	q = mmap(p + 16 * PAGE, 8 * PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MUST(q == p + 16 * PAGE && zero(q, 8));
	put(q, 8, 12);
	press();
	MUST(holds(q, 8, 12) && holds(p, 16, 11));
	MUST(munmap(p, 64 * PAGE) == 0);
	close(fd);
}

static void reserved(void)
{
	const size_t len = (size_t)1 << 30;
	char *p = map(len, PROT_NONE, ANON | MAP_NORESERVE), *q;

	show("open some", mprotect(p + (64 << 20), 512 * PAGE, RW));
	put(p + (64 << 20), 512, 13);
	press();
	show("close it", mprotect(p + (64 << 20), 256 * PAGE, PROT_NONE));
	press();
	show("open it again", mprotect(p + (64 << 20), 256 * PAGE, RW));
	MUST(holds(p + (64 << 20), 512, 13));
	show("decommit", madvise(p + (64 << 20), 512 * PAGE, MADV_DONTNEED));
	MUST(zero(p + (64 << 20), 512));
	q = mmap(p + (128 << 20), 64 * PAGE, RW, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0);
	MUST(q == p + (128 << 20));
	put(q, 64, 14);
	press();
	MUST(holds(q, 64, 14));
	show("give it up", munmap(p, len));
}

/* Code that is written, run, moved and run again. */
static void executable(void)
{
	static const unsigned char code[] = {0x8d, 0x47, 0x2a, 0xc3}; /* lea 42(%rdi),%eax; ret */
	char *p = map(16 * PAGE, RW | PROT_EXEC, ANON), *q;
	int (*fn)(int);

	for (int i = 0; i < 16; i++)
		memcpy(p + (size_t)i * PAGE, code, sizeof(code));
	press();
	for (int i = 0; i < 16; i++) {
		char *at = p + (size_t)i * PAGE;

		memcpy(&fn, &at, sizeof(fn));
		MUST(fn(i) == i + 42);
	}
	show("not writable any more", mprotect(p, 16 * PAGE, PROT_READ | PROT_EXEC));
	press();
	q = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
	MUST(q != MAP_FAILED);
	press();
	for (int i = 0; i < 16; i++) {
		char *at = q + (size_t)i * PAGE;

		memcpy(&fn, &at, sizeof(fn));
		MUST(fn(i) == i + 42);
	}
	show("no key", pkey_mprotect(q, PAGE, RW, 15));
	show("the default key", pkey_mprotect(q, PAGE, RW, 0));
	MUST(munmap(q, 32 * PAGE) == 0);
}

static void heap(void)
{
	char *start = sbrk(0), *p = sbrk(64 * PAGE + 100);

	MUST(p == start);
	memset(p, 7, 64 * PAGE + 100);
	press();
	for (size_t i = 0; i < 64 * PAGE + 100; i++)
		MUST(p[i] == 7);
	show("shrink", brk(start + 5000));
	show("grow", brk(start + 20 * PAGE));
	MUST(start[4999] == 7 && start[3 * PAGE] == 0);
	show("back", brk(start));
}

static void advised(void)
{
	char *p = map(32 * PAGE, RW, ANON);
	struct iovec parts[3] = {{p, 2 * PAGE}, {p + 8 * PAGE, PAGE}, {p + 16 * PAGE, 4 * PAGE}};
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	long n;

	MUST(fd >= 0);
	put(p, 32, 15);
	n = syscall(SYS_process_madvise, fd, parts, 3, MADV_COLD, 0);
	printf("cold: %ld\n", n);
	n = syscall(SYS_process_madvise, fd, parts, 3, MADV_PAGEOUT, 0);
	printf("out: %ld\n", n);
	MUST(holds(p, 32, 15));
	n = syscall(SYS_process_madvise, fd, parts, 3, 12345, 0);
	printf("nonsense: %ld %s\n", n, strerrorname_np(errno));
	parts[1].iov_len = 1000;
	printf("parts of pages: %ld\n", syscall(SYS_process_madvise, fd, parts, 3, MADV_COLD, 0));
	close(fd);
	printf("posix: %d %d\n", posix_madvise(p, 32 * PAGE, POSIX_MADV_DONTNEED),
	       posix_madvise(p, PAGE, 999));
	MUST(holds(p, 32, 15)); /* posix_madvise(3) never discards */
	show("lock", mlock(p, 4 * PAGE));
	show("lock on fault", mlock2(p + 8 * PAGE, 4 * PAGE, MLOCK_ONFAULT));
	show("nonsense", mlock2(p, PAGE, 1 << 20));
	show("a hole", mlock((void *)(uintptr_t)PAGE, PAGE));
	press();
	MUST(holds(p, 32, 15));
	show("unlock", munlock(p, 32 * PAGE));
	show("unlock all", munlockall());
	show("no such flags", mlockall(1 << 20));
	MUST(munmap(p, 32 * PAGE) == 0);
}

static char *unused; /* memory */

/* MADV_DONTNEED of it, by a pidfd of the process: zeros from then on. */
static void give_up_by(int fd)
{
	struct iovec all = {unused, 32 * PAGE};

	put(unused, 32, 18);
	press();
	/* an older kernel drops no page for that call */
	if (syscall(SYS_process_madvise, fd, &all, 1, MADV_DONTNEED, 0) == (long)all.iov_len)
		MUST(zero(unused, 32));
	else
		MUST(errno == EINVAL && holds(unused, 32, 18));
}

static void given_up(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0), last = fd;
	struct rlimit was, few;

	unused = map(32 * PAGE, RW, ANON);
	MUST(fd >= 0 && getrlimit(RLIMIT_NOFILE, &was) == 0);
	give_up_by(fd);
	/* and where no descriptor is free */
	few = (struct rlimit){64, was.rlim_max};
	MUST(setrlimit(RLIMIT_NOFILE, &few) == 0);
	for (int next; (next = dup(fd)) >= 0;)
		last = next > last ? next : last;
	MUST(errno == EMFILE);
	give_up_by(fd);
	for (; last >= fd; last--)
		close(last);
	MUST(setrlimit(RLIMIT_NOFILE, &was) == 0);
	MUST(munmap(unused, 32 * PAGE) == 0);
}

static void loaded(void)
{
	for (int i = 0; i < 3; i++) {
		void *lib = dlopen("libm.so.6", RTLD_NOW), *other;
		double (*fn)(double);

		MUST(lib != NULL);
		fn = (double (*)(double))dlsym(lib, "cos");
		MUST(fn != NULL && fn(0) == 1);
		other = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW);
		MUST(other != NULL);
		fn = (double (*)(double))dlsym(other, "cos");
		press();
		MUST(fn != NULL && fn(0) == 1);
		MUST(dlclose(other) == 0 && dlclose(lib) == 0);
	}
	printf("loaded\n");
}

int main(int argc, char **argv)
{
	pages = argc == 2 ? (size_t)atoi(argv[1]) << 8 : 0;
	if (pages == 0)
		return 2;
	memory = map(pages * PAGE, RW, ANON);
	put(memory, pages, 1);
	left_alone();
	shared();
	replaced();
	reserved();
	executable();
	heap();
	advised();
	given_up();
	loaded();
	press();
	return 0;
}
