/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fork(2) of an unmodified program whose memory is being paged.
 *
 * Each case runs this program again, under `faultline run` with a small limit
 * and with a subject's name as its argument; a subject checks by itself that
 * parent and children see what fork(2) says, byte for byte.
 */
#include "subject-checks.h"

#include "mm.h"
#include "publish.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- subjects ---- */

static uint64_t *map(size_t pages)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* A page's content is made of its number and a tag; every ninth page is one repeated word. */
static uint64_t word_of(size_t page, uint64_t tag, size_t i)
{
	if (page % 9 == 0)
		return tag * 0x0101010101010101U;
	return (page * 1000003 + tag) * 0x9e3779b97f4a7c15U + i;
}

static void put_page(uint64_t *mem, size_t page, uint64_t tag)
{
	for (size_t i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = word_of(page, tag, i);
}

static void check_page(const uint64_t *mem, size_t page, uint64_t tag)
{
	for (size_t i = 0; i < WORDS; i++)
		if (mem[page * WORDS + i] != word_of(page, tag, i)) {
			dprintf(2, "page %zu, word %zu: %lx instead of %lx\n", page, i,
				mem[page * WORDS + i], word_of(page, tag, i));
			_exit(98);
		}
}

#define N 4096UL /* pages: 16 MiB, at a limit of 4 */

/* Whatever state a page is in at the fork, each side sees its own writes alone. */
static void subject_sides(void)
{
	uint64_t *mem = map(N);

	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned round = 0; round < 4; round++) {
		pid_t pid;

		/* some written since, some read in since, the most part in slots */
		for (size_t p = round; p < N; p += 31)
			put_page(mem, p, 1);
		for (size_t p = N / 2; p < N / 2 + 500; p++)
			check_page(mem, p, 1);
		pid = fork();
		if (pid == 0) {
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, 1);
			for (size_t p = round % 2; p < N; p += 2)
				put_page(mem, p, 2);
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, p % 2 == round % 2 ? 2 : 1);
			_exit(0);
		}
		for (size_t p = 0; p < N; p += 3)
			put_page(mem, p, 3);
		reap(pid);
		for (size_t p = 0; p < N; p++)
			check_page(mem, p, p % 3 == 0 ? 3 : 1);
		for (size_t p = 0; p < N; p += 3)
			put_page(mem, p, 1);
	}
}

/*
 * A child whose frames are all its parent's too, for that does nothing meanwhile: some of them
 * have to leave for the others to come.
 */
static void subject_idle(void)
{
	uint64_t *mem = map(N);

	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned round = 0; round < 4; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, 1);
			for (size_t p = round; p < N; p += 2)
				put_page(mem, p, 2);
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, p >= round && p % 2 == round % 2 ? 2 : 1);
			_exit(0);
		}
		reap(pid);
		for (size_t p = 0; p < N; p++)
			check_page(mem, p, 1);
	}
}

/* The child of the child of the child ... */
static void subject_deep(void)
{
	uint64_t *mem = map(N / 2);
	unsigned depth;

	for (size_t p = 0; p < N / 2; p++)
		put_page(mem, p, 0);
	for (depth = 0; depth < 10; depth++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid != 0) {
			reap(pid);
			/* what the generations below wrote is not here */
			for (size_t p = 0; p < N / 2; p++)
				check_page(mem, p, p % 10 < depth ? p % 10 + 1 : 0);
			if (depth == 0)
				return;
			_exit(0);
		}
		for (size_t p = depth; p < N / 2; p += 10)
			put_page(mem, p, depth + 1);
	}
	for (size_t p = 0; p < N / 2; p++)
		check_page(mem, p, p % 10 + 1);
	_exit(0);
}

static void subject_bomb(void)
{
	const size_t pages = 1024;
	uint64_t *mem = map(pages);

	for (size_t p = 0; p < pages; p++)
		put_page(mem, p, 5);
	for (unsigned i = 0; i < 200; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			for (size_t p = 0; p < pages; p++) {
				check_page(mem, p, 5);
				put_page(mem, p, i);
			}
			for (size_t p = 0; p < pages; p++)
				check_page(mem, p, i);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < 200; i++) {
		int status;

		CHECK(wait(&status) > 0 && status == 0);
	}
	for (size_t p = 0; p < pages; p++)
		check_page(mem, p, 5);
}

static uint64_t *racing;
static volatile bool racing_stop;

/* Counts up in pages of its own, one word a page; a count never goes back. */
static void *race(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, seed = me;

	while (!racing_stop) {
		size_t page = (size_t)rand_r(&seed) % (N / 4) * 4 + me;
		uint64_t v = racing[page * WORDS];

		CHECK(racing[page * WORDS + 7] == v || racing[page * WORDS + 7] == v + 1);
		racing[page * WORDS + 7] = v + 1;
		racing[page * WORDS] = v + 1;
	}
	return NULL;
}

/* Threads that fault meanwhile: the child has one moment's memory, and it stays as it was. */
static void subject_threads(void)
{
	pthread_t t[4];

	racing = map(N);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, race, (void *)i) == 0);
	for (unsigned round = 0; round < 30; round++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			uint64_t sum = 0, again = 0;

			for (size_t p = 0; p < N; p++) {
				uint64_t v = racing[p * WORDS], w = racing[p * WORDS + 7];

				CHECK(w == v || w == v + 1);
				sum += v + w * 3;
			}
			for (size_t p = 0; p < N; p++)
				again += racing[p * WORDS] + racing[p * WORDS + 7] * 3;
			CHECK(sum == again);
			_exit(0);
		}
		reap(pid);
	}
	racing_stop = true;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

/*
 * A child of a process that is not paged yet is paged by itself: its parent's locks are not its
 * own, nor is memory that the parent keeps from it.
 */
static void subject_unarmed(void)
{
	uint64_t *kept = map(64), *mem = map(800);
	pid_t pid;

	CHECK(madvise(kept, 64 * PAGE, MADV_DONTFORK) == 0);
	for (size_t p = 0; p < 800; p++)
		put_page(mem, p, 1);
	CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		uint64_t *more = map(N);

		for (size_t p = 0; p < N; p++)
			put_page(more, p, 2);
		for (size_t p = 0; p < 800; p++)
			check_page(mem, p, 1);
		for (size_t p = 0; p < N; p++)
			check_page(more, p, 2);
		exit(0);
	}
	reap(pid);
}

#define REPLACED 16UL /* pages */

static uint64_t *replaced;

/* Memory of its own and this program's file, one in the place of the other. */
static void *replace(void *arg)
{
	int fd = *(int *)arg;

	while (!racing_stop) {
		CHECK(mmap(replaced, REPLACED * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == replaced);
		for (size_t p = 0; p < REPLACED; p++)
			put_page(replaced, p, 3);
		CHECK(mmap(replaced, REPLACED * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
		      replaced);
	}
	return NULL;
}

/* Another thread replaces memory meanwhile: a child has what was there, or what is. */
static void subject_replaced(void)
{
	static uint64_t file[REPLACED * WORDS];
	uint64_t *mem = map(N);
	pthread_t t;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pread(fd, file, sizeof(file), 0) == (ssize_t)sizeof(file));
	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	replaced = map(REPLACED);
	CHECK(pthread_create(&t, NULL, replace, &fd) == 0);
	for (unsigned round = 0; round < 100; round++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			for (size_t p = 0; p < REPLACED; p++) {
				const uint64_t *page = replaced + p * WORDS;

				if (memcmp(page, file + p * WORDS, PAGE) == 0)
					continue;
				for (size_t i = 0; i < WORDS; i++)
					CHECK(page[i] == 0 || page[i] == word_of(p, 3, i));
			}
			_exit(0);
		}
		reap(pid);
	}
	racing_stop = true;
	pthread_join(t, NULL);
}

static long status_kib(const char *field)
{
	char line[256];
	long v = -1;
	FILE *f = fopen("/proc/self/status", "r");

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, field, strlen(field)) == 0)
			v = atol(line + strlen(field) + 1);
	fclose(f);
	return v;
}

/* madvise(2)'s and mlock(2)'s word about children. */
static void subject_advice(void)
{
	uint64_t *mem = map(N), *gone = map(256), *wiped = map(256), *locked = map(64);
	unsigned char vec[256];
	pid_t pid;

	for (size_t p = 0; p < 256; p++) {
		put_page(gone, p, 1);
		put_page(wiped, p, 2);
	}
	CHECK(madvise(gone, 256 * PAGE, MADV_DONTFORK) == 0);
	CHECK(madvise(wiped, 256 * PAGE, MADV_WIPEONFORK) == 0);
	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 4);
	CHECK(mlock(locked, 64 * PAGE) == 0);
	put_page(locked, 3, 3);
	for (unsigned round = 0; round < 3; round++) {
		pid = fork();
		if (pid == 0) {
			CHECK(mincore(gone, PAGE, vec) == -1 && errno == ENOMEM);
			for (size_t i = 0; i < 256 * WORDS; i++)
				CHECK(wiped[i] == 0);
			for (size_t p = 0; p < 256; p++)
				put_page(wiped, p, 7);
			CHECK(status_kib("VmLck:") == 0);
			check_page(locked, 3, 3);
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, 4);
			for (size_t p = 0; p < 256; p++)
				check_page(wiped, p, 7);
			/* and it is inherited advice */
			pid = fork();
			if (pid == 0) {
				for (size_t i = 0; i < 256 * WORDS; i++)
					CHECK(wiped[i] == 0);
				_exit(0);
			}
			reap(pid);
			_exit(0);
		}
		reap(pid);
	}
	CHECK(status_kib("VmLck:") == 64 * 4);
	for (size_t p = 0; p < 256; p++) {
		check_page(gone, p, 1);
		check_page(wiped, p, 2);
	}
}

/* How many slots are in use, as this process's runtime says to who looks from outside. */
static uint64_t slots_in_use(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	bool found = false;
	uint64_t used = 0;
	char line[512];

	CHECK(maps != NULL && mem >= 0);
	while (!found && fgets(line, sizeof(line), maps) != NULL) {
		off_t start = (off_t)strtoul(line, NULL, 16);
		struct published at;

		if (pread(mem, &at, sizeof(at), start) != (ssize_t)sizeof(at) ||
		    at.magic != PUBLISH_MAGIC || at.self != (uint64_t)start)
			continue;
		start = (off_t)(at.counters + offsetof(struct mm_counters, slots_used));
		found = pread(mem, &used, sizeof(used), start) == (ssize_t)sizeof(used);
	}
	CHECK(found);
	fclose(maps);
	close(mem);
	return used;
}

/* Children that end in every way; in the end nothing is mapped, and no slot may be in use. */
static void subject_ends(void)
{
	enum { EXIT, EXEC, KILL, ORPHAN, ENDS };
	char *argv[] = {self, (char[]){"true"}, NULL};
	uint64_t *mem = map(N);

	/* orphans come to us */
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned i = 0; i < 3 * ENDS; i++) {
		pid_t pid, orphan = 0;
		int pipe_fd[2], status;

		CHECK(pipe(pipe_fd) == 0);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			for (size_t p = i; p < N; p += 7)
				put_page(mem, p, 2);
			if (i % ENDS == ORPHAN)
				orphan = fork();
			if (i % ENDS != ORPHAN || orphan != 0)
				CHECK(write(pipe_fd[1], &orphan, sizeof(orphan)) == sizeof(orphan));
			if (i % ENDS == EXIT)
				_exit(0);
			if (i % ENDS == EXEC)
				execv(self, argv);
			for (;;)
				put_page(mem, (size_t)rand() % N, 3);
		}
		CHECK(read(pipe_fd[0], &orphan, sizeof(orphan)) == sizeof(orphan));
		for (size_t p = 0; p < N; p += 3)
			check_page(mem, p, 1);
		if (i % ENDS == EXIT || i % ENDS == EXEC) {
			reap(pid);
		} else {
			CHECK(kill(pid, SIGKILL) == 0);
			CHECK(waitpid(pid, &status, 0) == pid);
		}
		if (orphan != 0) {
			for (size_t p = 0; p < N; p += 3)
				check_page(mem, p, 1);
			CHECK(kill(orphan, SIGKILL) == 0);
			CHECK(waitpid(orphan, &status, 0) == orphan);
		}
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}
	CHECK(munmap(mem, N * PAGE) == 0);
	/* what the last child had in a store comes back a moment later, by its server */
	if (getenv("FAULTLINE_STORE") != NULL)
		return;
	/*
	 * A fork looks for what ended without a relative that was told; the disk may
	 * still be at what was killed.  The alarm ends what never comes.
	 */
	while (slots_in_use() != 0) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		reap(pid);
	}
}

static void *fork_here(void *arg)
{
	const uint64_t *mem = arg;
	pid_t pid = fork();

	if (pid == 0) {
		for (size_t p = 0; p < N; p++)
			check_page(mem, p, 1);
		_exit(0);
	}
	reap(pid);
	return NULL;
}

static ucontext_t main_context, other_context;
static uint64_t *context_mem;

static void other(void)
{
	fork_here(context_mem);
}

/* The stack that the fork is made on is itself managed memory, and mostly in slots. */
static void subject_stacks(void)
{
	uint64_t *mem = map(N), *stack = map(256);
	pthread_attr_t attr;
	pthread_t t;

	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned i = 0; i < 5; i++) {
		CHECK(pthread_attr_init(&attr) == 0);
		CHECK(pthread_attr_setstack(&attr, stack, 256 * PAGE) == 0);
		CHECK(pthread_create(&t, &attr, fork_here, mem) == 0);
		CHECK(pthread_join(t, NULL) == 0);
		pthread_attr_destroy(&attr);
	}
	context_mem = mem;
	for (unsigned i = 0; i < 5; i++) {
		CHECK(getcontext(&other_context) == 0);
		other_context.uc_stack.ss_sp = stack;
		other_context.uc_stack.ss_size = 256 * PAGE;
		other_context.uc_link = &main_context;
		makecontext(&other_context, other, 0);
		CHECK(swapcontext(&main_context, &other_context) == 0);
	}
}

/* What clone(2) writes goes into managed memory that is in slots, or read-only for now. */
static void subject_clone(void)
{
	uint64_t *mem = map(N), *box = map(4);
	pid_t *ptid = (pid_t *)box, *ctid = (pid_t *)(box + WORDS), pid;
	int *pidfd = (int *)(box + 2 * WORDS);
	struct clone_args *args = (struct clone_args *)(box + 3 * WORDS);
	bool open_before[100];

	for (int fd = 0; fd < 100; fd++)
		open_before[fd] = fcntl(fd, F_GETFD) >= 0;

	for (unsigned i = 0; i < 4; i++) {
		for (size_t p = 0; p < N; p++)
			put_page(mem, p, i);
		pid = (pid_t)syscall(SYS_clone,
				     CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
					     CLONE_CHILD_CLEARTID | (i == 3 ? CLONE_VFORK : 0) |
					     SIGCHLD,
				     NULL, ptid, ctid, 0);
		if (pid == 0) {
			CHECK(*ctid == getpid());
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, i);
			_exit(0);
		}
		CHECK(*ptid == pid);
		reap(pid);
		for (size_t p = 0; p < N; p++)
			check_page(mem, p, i);
		*args = (struct clone_args){
			.flags = CLONE_PIDFD | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID,
			.pidfd = (uintptr_t)pidfd,
			.parent_tid = (uintptr_t)ptid,
			.child_tid = (uintptr_t)ctid,
			.exit_signal = SIGCHLD,
		};
		for (size_t p = 0; p < N; p++)
			check_page(mem, p, i);
		pid = (pid_t)syscall(SYS_clone3, args, sizeof(*args));
		if (pid == 0) {
			CHECK(*ctid == getpid());
			_exit(0);
		}
		CHECK(*ptid == pid && *pidfd > 2 && fcntl(*pidfd, F_GETFD) == FD_CLOEXEC);
		close(*pidfd);
		reap(pid);
	}
	/* one table of descriptors for both */
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0);
	if (pid == 0)
		_exit(dup2(0, 77) == 77 ? 0 : 1);
	reap(pid);
	CHECK(fcntl(77, F_GETFD) >= 0);
	close(77);
	for (int fd = 3; fd < 100; fd++)
		CHECK((fcntl(fd, F_GETFD) >= 0) == open_before[fd]);
	CHECK(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, NULL, NULL, NULL, 0) == -1 &&
	      errno == EINVAL);
}

static int on_its_own_stack(void *arg)
{
	uint64_t *mem = arg;

	for (size_t p = 0; p < N; p++)
		check_page(mem, p, 1);
	put_page(mem, 0, 2);
	return 41; /* which the C library makes an exit of this thread alone */
}

/* A child on a stack of its own ends when its function returns, pagers or not. */
static void subject_own_stack(void)
{
	uint64_t *mem = map(N), *stack = map(64);

	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned i = 0; i < 5; i++) {
		int status;
		pid_t pid = clone(on_its_own_stack, stack + 64 * WORDS, SIGCHLD, mem);

		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 41);
		check_page(mem, 0, 1);
		/* and so does one that makes the bare call */
		pid = fork();
		if (pid == 0)
			syscall(SYS_exit, 42);
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	}
}

/* Nothing of ours among the descriptors of either, and a pipe has its end when the program closes it. */
static void subject_descriptors(void)
{
	uint64_t *mem = map(N);

	CHECK(close_range(3, ~0U, 0) == 0);
	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	for (unsigned i = 0; i < 20; i++) {
		int fds[2];
		char c;
		pid_t pid;

		CHECK(pipe(fds) == 0 && fds[0] == 3 && fds[1] == 4);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			CHECK(open("/dev/null", O_RDONLY) == 5 && open("/dev/null", O_RDONLY) == 6);
			close(fds[0]);
			close(fds[1]);
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, 1);
			_exit(0);
		}
		CHECK(open("/dev/null", O_RDONLY) == 5);
		close(5);
		close(fds[1]);
		CHECK(read(fds[0], &c, 1) == 0);
		close(fds[0]);
		reap(pid);
	}
}

/* A fork needs no descriptor, not even when the program has used up all that it may have. */
static void subject_full(void)
{
	uint64_t *mem = map(N);
	struct rlimit lim = {.rlim_cur = 64, .rlim_max = 4096}, now;

	CHECK(close_range(3, ~0U, 0) == 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	while (dup(0) >= 0)
		;
	CHECK(errno == EMFILE);
	for (unsigned i = 0; i < 5; i++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		CHECK(dup(0) == -1 && errno == EMFILE);
		CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 64);
		if (pid == 0) {
			for (size_t p = 0; p < N; p++)
				check_page(mem, p, 1);
			_exit(0);
		}
		reap(pid);
	}
	CHECK(close_range(3, ~0U, 0) == 0); /* the summary needs one */
}

static sigjmp_buf lost;

static void on_bus(int sig)
{
	(void)sig;
	siglongjmp(lost, 1);
}

static bool is_lost(const uint64_t *at)
{
	if (sigsetjmp(lost, 1) != 0)
		return true;
	(void)*(volatile const uint64_t *)at;
	return false;
}

/* A page that was lost before the fork is lost to both, one that is lost after it, to who reads it. */
static void subject_poison(void)
{
	const char *area = getenv("TEST_AREA");
	uint64_t *mem = map(N);
	char junk[PAGE];
	int fd;
	pid_t pid;
	size_t first = 0, n = 0;

	for (size_t p = 0; p < N; p++)
		put_page(mem, p, 1);
	CHECK(area != NULL && (fd = open(area, O_WRONLY)) >= 0);
	memset(junk, 0xa5, sizeof(junk));
	for (off_t off = PAGE; off < (off_t)(64UL << 20); off += 40 * (off_t)PAGE)
		CHECK(pwrite(fd, junk, PAGE, off) == (ssize_t)PAGE);
	/* direct and buffered writes collide on purpose: EIO says so */
	CHECK(fsync(fd) == 0 || errno == EIO);
	close(fd);
	signal(SIGBUS, on_bus);
	while (!is_lost(mem + first * WORDS))
		CHECK(++first < N);
	pid = fork();
	CHECK(pid >= 0);
	CHECK(is_lost(mem + first * WORDS));
	for (size_t p = 0; p < N; p++) {
		if (is_lost(mem + p * WORDS))
			n++;
		else
			check_page(mem, p, 1);
	}
	CHECK(n > N / 100);
	if (pid == 0)
		_exit(0);
	reap(pid);
}

static int be_subject(const char *name)
{
	static const struct subject subjects[] = {
		{"full", subject_full},
		{"own-stack", subject_own_stack},
		{"sides", subject_sides},
		{"deep", subject_deep},
		{"bomb", subject_bomb},
		{"threads", subject_threads},
		{"replaced", subject_replaced},
		{"unarmed", subject_unarmed},
		{"advice", subject_advice},
		{"ends", subject_ends},
		{"idle", subject_idle},
		{"stacks", subject_stacks},
		{"clone", subject_clone},
		{"poison", subject_poison},
		{"descriptors", subject_descriptors},
	};

	alarm(HANG_SECONDS); /* a guard against hangs */
	if (strcmp(name, "true") == 0)
		return 0;
	return be_one_of(subjects, sizeof(subjects) / sizeof(subjects[0]), name);
}

/* ---- cases ---- */

static char stats[64];

/* What the summary of the first process says: a number behind a label. */
static double summary(const char *label)
{
	char line[256];
	double v = -1;
	bool ours = false;
	FILE *f = fopen(stats, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		/* children report before their parent: the last one counts */
		if (strncmp(line, "faultline:", 10) == 0)
			ours = true;
		if (ours && strncmp(line + 2, label, strlen(label)) == 0)
			v = atof(line + 2 + strlen(label));
	}
	fclose(f);
	return v;
}

static void run(const char *subject, const char *limit, const char *const *more)
{
	const char *argv[32] = {tool, "run", "--limit", limit};
	char stats_option[80];
	unsigned n = 4;
	int status;

	snprintf(stats_option, sizeof(stats_option), "--stats=%s", stats);
	unlink(stats);
	argv[n++] = stats_option;
	while (more != NULL && *more != NULL)
		argv[n++] = *more++;
	argv[n++] = "--";
	argv[n++] = self;
	argv[n++] = subject;
	argv[n] = NULL;
	status = spawn(argv);
	if (status != 0)
		fail_msg("%s: wait status %x", subject, (unsigned)status);
	assert_true(summary("pages evicted") > 100);
}

static const char *const engines[][5] = {
	{"--engine", "uring", "--wp", "auto", NULL},
	{"--engine", "sync", "--wp", "sync", NULL},
	{"--engine", "uring", "--wp", "off", NULL},
};

static void each_side_sees_its_own_writes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		run("sides", "4M", engines[i]);
}

static void the_parent_does_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		run("idle", "2M", engines[i]);
}

static void ten_generations(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++)
		run("deep", "3M", engines[i]);
}

static void two_hundred_children(void **state)
{
	(void)state;
	run("bomb", "2M", NULL);
}

static void other_threads_fault_meanwhile(void **state)
{
	static const char *const pagers[] = {"--pagers", "3", NULL};

	(void)state;
	run("threads", "4M", NULL);
	run("threads", "4M", pagers);
}

static void a_child_is_paged_alone(void **state)
{
	(void)state;
	run("unarmed", "4M", NULL);
}

static void another_thread_replaces_memory(void **state)
{
	(void)state;
	run("replaced", "4M", NULL);
}

static void advice_is_followed(void **state)
{
	(void)state;
	run("advice", "4M", NULL);
}

static void slots_come_back(void **state)
{
	(void)state;
	run("ends", "4M", NULL);
	if (getenv("FAULTLINE_STORE") == NULL)
		assert_true(summary("swap slots in use") == 0);
}

static void on_stacks_that_are_paged(void **state)
{
	(void)state;
	run("stacks", "3M", NULL);
}

static void by_clone(void **state)
{
	(void)state;
	run("clone", "3M", NULL);
}

static void a_function_that_returns_ends_the_child(void **state)
{
	static const char *const pagers[] = {"--pagers", "2", NULL};

	(void)state;
	run("own-stack", "4M", NULL);
	run("own-stack", "4M", pagers);
}

static void descriptors_are_the_programs(void **state)
{
	(void)state;
	run("descriptors", "4M", NULL);
}

static void a_full_table_is_no_obstacle(void **state)
{
	(void)state;
	run("full", "4M", NULL);
}

static void a_lost_page_is_lost_to_both(void **state)
{
	static char area[] = "/var/tmp/test-fork-area-XXXXXX";
	const char *more[] = {"--swap", area, "--log", "error", NULL};
	int fd = mkstemp(area);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 64 << 20), 0);
	close(fd);
	setenv("TEST_AREA", area, 1);
	/* no other area has any of its pages */
	unsetenv("FAULTLINE_STORE");
	run("poison", "4M", more);
	unlink(area);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_side_sees_its_own_writes),
		cmocka_unit_test(the_parent_does_nothing),
		cmocka_unit_test(ten_generations),
		cmocka_unit_test(two_hundred_children),
		cmocka_unit_test(other_threads_fault_meanwhile),
		cmocka_unit_test(another_thread_replaces_memory),
		cmocka_unit_test(a_child_is_paged_alone),
		cmocka_unit_test(advice_is_followed),
		cmocka_unit_test(slots_come_back),
		cmocka_unit_test(on_stacks_that_are_paged),
		cmocka_unit_test(by_clone),
		cmocka_unit_test(a_function_that_returns_ends_the_child),
		cmocka_unit_test(descriptors_are_the_programs),
		cmocka_unit_test(a_full_table_is_no_obstacle),
		cmocka_unit_test(a_lost_page_is_lost_to_both),
	};
	int failed;

	if (!know_self())
		return 2;
	if (argc == 2)
		return be_subject(argv[1]);
	if (know_build() == NULL)
		return 2;
	snprintf(stats, sizeof(stats), "/tmp/test-fork-%d", (int)getpid());
	failed = cmocka_run_group_tests_name("fork", tests, NULL, NULL);
	unlink(stats);
	return failed;
}
