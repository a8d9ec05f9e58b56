/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-in-thread.c - memory whose faults are answered by the thread that takes
 * them (FL_MAP_IN_THREAD), and what it shares a process with.
 *
 * cmocka sets SIGBUS anew for each test, and a handler that is set later takes
 * faultline's place: each test is a process of its own.
 */
#include "live.h"

#include <sys/uio.h>
#include <ucontext.h>

#define LIMIT (4 * MIB)
#define ARENA 2048UL /* pages: twice the limit */

static struct fl *fl;

static char *map_in_thread(size_t pages)
{
	char *p = fl_mmap(fl, NULL, pages * PG, RW, ANON | MAP_NORESERVE | FL_MAP_IN_THREAD, -1, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/* Run a test in a child; whatever fails there is told here. */
static void child(void (*fn)(void *))
{
	char text[4096];
	int status = in_child(fn, NULL, text, sizeof(text));

	if (status != 0)
		fail_msg("%s %d: %s", WIFSIGNALED(status) ? "signal" : "exit",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
}

#define IN_CHILD(name)                                                                             \
	static void name(void **state)                                                             \
	{                                                                                          \
		(void)state;                                                                       \
		child(name##_child);                                                               \
	}

static void begin(uint64_t limit)
{
	struct fl_options o = live_options(limit);

	test_child();
	signal(SIGBUS, SIG_DFL); /* cmocka's was inherited */
	fl = live_armed(&o);
}

/* ---- bytes ---- */

static void kinds_child(void *arg)
{
	struct fl_stats a, b;
	uint64_t word = 0x5151515151515151U;
	char *p;
	size_t sum = 0;

	(void)arg;
	begin(16 * MIB);
	p = map_in_thread(1024);
	assert_int_equal(fl_madvise(fl, p, 1024 * PG, MADV_RANDOM), 0);
	a = live_stats(fl);
	for (size_t i = 0; i < 64; i++)
		sum += (size_t)p[i * PG];
	assert_int_equal(sum, 0);
	b = live_stats(fl);
	assert_int_equal(b.faults_zero - a.faults_zero, 64);
	assert_int_equal(b.faults_in_thread - a.faults_in_thread, 64);
	for (size_t i = 64; i < 128; i++)
		p[i * PG + 5] = 1;
	a = live_stats(fl);
	assert_int_equal(a.faults_anon - b.faults_anon, 64);
	assert_int_equal(a.faults_in_thread - b.faults_in_thread, 64);
	/* same-filled ones */
	for (size_t i = 128; i < 192; i++)
		for (size_t k = 0; k < WORDS; k++)
			live_page(p, i)[k] = word;
	live_out(fl, p + 128 * PG, 64);
	assert_int_equal(live_count(fl, p + 128 * PG, 64, FL_PAGE_FILLED), 64);
	a = live_stats(fl);
	for (size_t i = 128; i < 192; i++)
		for (size_t k = 0; k < WORDS; k++)
			assert_int_equal(live_page(p, i)[k], word);
	b = live_stats(fl);
	assert_int_equal(b.faults_in_thread - a.faults_in_thread, 64);
	/* from a slot: by a pager, and written then */
	live_fill(p, 256, 64, 1);
	live_out(fl, p + 256 * PG, 64);
	live_check(p, 256, 64, 1);
	a = live_stats(fl);
	assert_true(a.faults_swap > b.faults_swap);
	for (size_t i = 256; i < 320; i++)
		live_page(p, i)[0]++;
	b = live_stats(fl);
	assert_true(b.faults_wp > a.faults_wp);
	assert_true(b.faults_in_thread - a.faults_in_thread >= b.faults_wp - a.faults_wp);
	for (size_t i = 256; i < 320; i++)
		live_page(p, i)[0]--;
	live_check(p, 256, 64, 1);
	assert_int_equal(fl_close(fl), 0);
	live_check(p, 256, 64, 1);
}
IN_CHILD(kinds)

/* Each thread has pages of its own and counts in shared ones; all is paged at half its size. */
#define THREADS 6U
#define STEPS 6000U
#define SHARED 64UL

static char *arena[2]; /* ordinary, in-thread */
static uint64_t *common[2];

static void *work(void *arg)
{
	size_t id = (size_t)arg;
	uint64_t rng = id * 0x9e3779b97f4a7c15U + 1;
	size_t mine = ARENA / THREADS;
	uint32_t *seen[2];
	size_t wrong = 0;

	for (unsigned k = 0; k < 2; k++)
		seen[k] = calloc(mine, sizeof(**seen));
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned k = (rng >> 40) % 2;
		size_t page = (rng >> 20) % mine;
		uint64_t *w = live_page(arena[k], id * mine + page);

		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		for (size_t at = 0; at < WORDS; at += 73)
			wrong += w[at] != (seen[k][page]
						   ? live_word(id * mine + page + seen[k][page], at)
						   : 0);
		if (i % 2) {
			seen[k][page]++;
			for (size_t at = 0; at < WORDS; at += 73)
				w[at] = live_word(id * mine + page + seen[k][page], at);
		}
		__atomic_fetch_add(&common[k][rng % (SHARED * WORDS)], 1, __ATOMIC_RELAXED);
	}
	for (unsigned k = 0; k < 2; k++)
		for (size_t page = 0; page < mine; page++) {
			uint64_t *w = live_page(arena[k], id * mine + page);

			for (size_t at = 0; at < WORDS; at += 73)
				wrong += w[at] !=
					 (seen[k][page]
						  ? live_word(id * mine + page + seen[k][page], at)
						  : 0);
		}
	return (void *)wrong;
}

static void run_threads(enum fl_wp wp, unsigned pagers, enum fl_engine engine, enum fl_compress c)
{
	struct fl_options o = live_options(LIMIT);
	pthread_t thread[THREADS];
	struct fl_stats s;
	uint64_t sum = 0;

	o.wp = wp;
	o.pagers = pagers;
	o.engine = engine;
	o.compress = c;
	o.near = 1;
	test_child();
	signal(SIGBUS, SIG_DFL);
	fl = live_armed(&o);
	arena[0] = live_map(fl, ARENA);
	arena[1] = map_in_thread(ARENA);
	common[0] = live_page(live_map(fl, SHARED), 0);
	common[1] = live_page(map_in_thread(SHARED), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, work, (void *)i), 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *wrong;

		assert_int_equal(pthread_join(thread[i], &wrong), 0);
		assert_ptr_equal(wrong, NULL);
	}
	for (unsigned k = 0; k < 2; k++)
		for (size_t i = 0; i < SHARED * WORDS; i++)
			sum += common[k][i];
	assert_int_equal(sum, (uint64_t)THREADS * STEPS);
	s = live_stats(fl);
	assert_true(s.faults_in_thread > 0);
	assert_true((c != FL_COMPRESS_NONE ? s.faults_compressed : s.faults_swap) > 0);
	assert_true(s.evicted > 0);
	assert_true(s.resident_max <= s.limit);
	assert_int_equal(s.poisoned, 0);
	assert_int_equal(fl_close(fl), 0);
}

static void threads_child(void *arg)
{
	(void)arg;
	run_threads(FL_WP_AUTO, 1, FL_ENGINE_AUTO, FL_COMPRESS_NONE);
}
IN_CHILD(threads)

static void threads_several_pagers_child(void *arg)
{
	(void)arg;
	run_threads(FL_WP_SYNC, 3, FL_ENGINE_SYNC, FL_COMPRESS_NONE);
}
IN_CHILD(threads_several_pagers)

static void threads_compressed_child(void *arg)
{
	(void)arg;
	run_threads(FL_WP_AUTO, 1, FL_ENGINE_AUTO, FL_COMPRESS_LZ4);
}
IN_CHILD(threads_compressed)

/* Compressed pages are unpacked by the thread that touches them, those of zstd by a pager. */
static void compressed_child(void *arg)
{
	static const enum fl_compress kind[] = {FL_COMPRESS_LZ4, FL_COMPRESS_ZSTD};

	(void)arg;
	test_child();
	signal(SIGBUS, SIG_DFL);
	for (unsigned k = 0; k < 2; k++) {
		struct fl_options o = live_options(16 * MIB);
		struct fl_stats a, b;
		char *p;

		o.compress = kind[k];
		fl = live_armed(&o);
		p = map_in_thread(256);
		assert_int_equal(fl_madvise(fl, p, 256 * PG, MADV_RANDOM), 0);
		for (size_t i = 0; i < 256 * WORDS; i++)
			live_page(p, 0)[i] = i % 8 == 0 ? i : 7;
		live_out(fl, p, 256);
		assert_int_equal(live_count(fl, p, 256, FL_PAGE_COMPRESSED), 256);
		a = live_stats(fl);
		for (size_t i = 0; i < 128; i++)
			live_page(p, i)[8] = ~live_page(p, i)[8];
		for (size_t i = 0; i < 256 * WORDS; i++) {
			uint64_t word = i % 8 == 0 ? i : 7;

			assert_int_equal(live_page(p, 0)[i],
					 i % WORDS == 8 && i < 128 * WORDS ? ~word : word);
		}
		b = live_stats(fl);
		assert_int_equal(b.faults_compressed - a.faults_compressed, 256);
		/* beside first writes to what was read, 128 at most */
		if (k == 0)
			assert_true(b.faults_in_thread - a.faults_in_thread >= 256);
		else
			assert_true(b.faults_in_thread - a.faults_in_thread <= 128);
		assert_int_equal(fl_close(fl), 0);
		assert_int_equal(live_page(p, 200)[16], 200 * WORDS + 16);
		munmap(p, 256 * PG);
	}
}
IN_CHILD(compressed)

/* Calls on such memory do what they do on any. */
static void calls_child(void *arg)
{
	char *p, *q;

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(ARENA);
	live_fill(p, 0, ARENA, 3);
	live_check(p, 0, ARENA, 3);
	assert_int_equal(fl_madvise(fl, p + 100 * PG, 50 * PG, MADV_DONTNEED), 0);
	for (size_t i = 0; i < 50 * WORDS; i++)
		assert_int_equal(live_page(p, 100)[i], 0);
	assert_int_equal(fl_mprotect(fl, p, 10 * PG, PROT_READ), 0);
	live_check(p, 0, 10, 3);
	assert_int_equal(fl_mprotect(fl, p, 10 * PG, RW), 0);
	q = fl_mremap(fl, p, ARENA * PG, 2 * ARENA * PG, MREMAP_MAYMOVE);
	assert_ptr_not_equal(q, FL_FAILED);
	live_check(q, 150, ARENA - 150, 3);
	for (size_t i = ARENA; i < 2 * ARENA; i += 7)
		assert_int_equal(live_page(q, i)[9], 0);
	live_fill(q, ARENA, 64, 4);
	live_out(fl, q + ARENA * PG, 64);
	live_check(q, ARENA, 64, 4);
	assert_int_equal(fl_munmap(fl, q + PG, PG), 0);
	assert_int_equal(fl_verify(fl), 0);
	live_check(q, 150, ARENA - 150, 3);
	assert_int_equal(fl_mlock(fl, q + 8 * PG, PG), -EINVAL);
	assert_int_equal(fl_unregister(fl, q + 8 * PG, PG), -EINVAL);
	live_check(q, 150, ARENA - 150, 3);
	assert_int_equal(fl_close(fl), 0);
	live_check(q, 150, ARENA - 150, 3);
}
IN_CHILD(calls)

static void refused_child(void *arg)
{
	static const int flags[] = {MAP_LOCKED, MAP_POPULATE, MAP_STACK};
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)arg;
	begin(LIMIT);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(
			fl_mmap(fl, NULL, PG, RW, ANON | FL_MAP_IN_THREAD | flags[i], -1, 0),
			FL_FAILED);
		assert_int_equal(errno, EINVAL);
	}
	assert_ptr_equal(fl_mmap(fl, NULL, PG, PROT_READ, MAP_PRIVATE | FL_MAP_IN_THREAD, fd, 0),
			 FL_FAILED);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(refused)

/* ---- system calls ---- */

static void system_calls_child(void *arg)
{
	int fd[2];
	char *p, *q;
	char back[8] = {0};

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(16);
	q = live_map(fl, 16);
	assert_int_equal(pipe(fd), 0);
	/* absent: the kernel finds nothing there, and says so; of other memory it waits */
	assert_int_equal(write(fd[1], p, 8), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(write(fd[1], q, 8), 8);
	assert_int_equal(read(fd[0], p + PG, 8), -1);
	assert_int_equal(errno, EFAULT);
	/* present: as any memory */
	strcpy(p, "present");
	assert_int_equal(write(fd[1], p, 8), 8);
	assert_int_equal(read(fd[0], back, 8), 8);
	assert_int_equal(read(fd[0], back, 8), 8);
	assert_string_equal(back, "present");
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(system_calls)

/* ---- signals ---- */

static volatile sig_atomic_t called;
static volatile uintptr_t called_at;
static sigjmp_buf back;

static void program_handler(int sig, siginfo_t *info, void *context)
{
	sigset_t now;

	(void)context;
	called = sig;
	called_at = (uintptr_t)info->si_addr;
	/* the mask that it asked for */
	sigprocmask(SIG_SETMASK, NULL, &now);
	if (!sigismember(&now, SIGBUS) || !sigismember(&now, SIGUSR2) || sigismember(&now, SIGUSR1))
		called = -1;
	siglongjmp(back, 1);
}

/* What is not ours is the program's: a file's end, a signal that was sent. */
static void program_child(void *arg)
{
	struct sigaction sa = {.sa_sigaction = program_handler, .sa_flags = SA_SIGINFO};
	int fd = memfd_create("short", MFD_CLOEXEC);
	sigset_t none, now;
	volatile char *file;
	char *p;

	(void)arg;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	test_child();
	assert_int_equal(sigaction(SIGBUS, &sa, NULL), 0);
	fl = live_armed(&(struct fl_options){
		.size = sizeof(struct fl_options), .limit = LIMIT, .swap_dir = live_dir()});
	p = map_in_thread(ARENA);
	live_fill(p, 0, ARENA, 1);
	file = mmap(NULL, 2 * PG, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(file, MAP_FAILED);
	assert_int_equal(ftruncate(fd, (off_t)PG), 0);
	if (sigsetjmp(back, 1) == 0)
		(void)file[PG + 3];
	assert_int_equal(called, SIGBUS);
	assert_int_equal(called_at, (uintptr_t)&file[PG + 3]);
	called = 0;
	if (sigsetjmp(back, 1) == 0)
		raise(SIGBUS);
	assert_int_equal(called, SIGBUS);
	called = 0;
	live_check(p, 0, ARENA, 1);
	assert_int_equal(called, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, NULL, &now);
	assert_false(sigismember(&now, SIGBUS));
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(program)

/* Without a handler a SIGBUS that is not ours ends the process, as it would. */
static void ends_child(void *arg)
{
	(void)arg;
	begin(LIMIT);
	live_fill(map_in_thread(16), 0, 16, 1);
	if (arg != NULL)
		raise(SIGBUS);
	else
		(void)*(volatile char *)mmap(NULL, PG, PROT_READ, MAP_SHARED,
					     memfd_create("empty", 0), 0);
}

static void ends(void **state)
{
	char text[1024];

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		int status = in_child(ends_child, i ? text : NULL, text, sizeof(text));

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGBUS);
	}
}

#define CLOSED 4096UL

static char *closed_mem;
static int closed_begun; /* atomic: by the thread, 2: by who closes, too */

static void *touch_closed(void *arg)
{
	for (unsigned long i = 0; i < CLOSED; i++) {
		closed_mem[i * PG + i] = 1;
		if (i == 100)
			__atomic_store_n(&closed_begun, 1, __ATOMIC_RELEASE);
		while (i == 100 && __atomic_load_n(&closed_begun, __ATOMIC_ACQUIRE) != 2)
			sched_yield();
	}
	return arg;
}

/* A thread that goes on touching such memory meets the runtime's end in the midst of it. */
static void closed_child(void *arg)
{
	struct fl_options o = live_options(64 * MIB);

	(void)arg;
	begin(LIMIT);
	assert_int_equal(fl_close(fl), 0);
	for (unsigned round = 0; round < 10; round++) {
		pthread_t t;

		fl = live_armed(&o);
		closed_mem = map_in_thread(CLOSED);
		assert_int_equal(fl_madvise(fl, closed_mem, CLOSED * PG, MADV_RANDOM), 0);
		closed_begun = 0;
		assert_int_equal(pthread_create(&t, NULL, touch_closed, NULL), 0);
		while (__atomic_load_n(&closed_begun, __ATOMIC_ACQUIRE) != 1)
			sched_yield();
		__atomic_store_n(&closed_begun, 2, __ATOMIC_RELEASE);
		assert_int_equal(fl_close(fl), 0);
		assert_int_equal(pthread_join(t, NULL), 0);
		for (unsigned long i = 0; i < CLOSED; i++)
			assert_int_equal(closed_mem[i * PG + i], 1);
		assert_int_equal(munmap(closed_mem, CLOSED * PG), 0);
	}
}
IN_CHILD(closed)

/* A handler of the program's that touches such memory, while what it interrupts does. */
static char *handled;
static volatile unsigned long handled_times;

static void touch_some(int sig)
{
	unsigned long n = handled_times++;

	(void)sig;
	__atomic_fetch_add(&live_page(handled, n % 512)[n % WORDS], 1, __ATOMIC_RELAXED);
}

static void handlers_child(void *arg)
{
	struct sigaction sa = {.sa_handler = touch_some};
	struct itimerspec every = {{0, 200000}, {0, 200000}};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	uint64_t sum = 0;
	double end;
	timer_t timer;
	char *p;

	(void)arg;
	begin(LIMIT);
	handled = map_in_thread(512);
	p = map_in_thread(ARENA);
	assert_int_equal(sigaction(SIGUSR1, &sa, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
	for (uint64_t round = 0; round < 3; round++) {
		live_fill(p, 0, ARENA, round);
		live_check(p, 0, ARENA, round);
	}
	end = test_now() + HANG_SECONDS;
	while (handled_times < 600 && test_now() < end)
		live_check(p, 0, ARENA, 2);
	timer_delete(timer);
	signal(SIGUSR1, SIG_IGN);
	assert_true(handled_times >= 600);
	for (size_t i = 0; i < 512 * WORDS; i++)
		sum += live_page(handled, 0)[i];
	assert_int_equal(sum, handled_times);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(handlers)

/* ---- stacks and descriptors ---- */

static void *on_stack(void *arg)
{
	char *p = arg;
	char room[8 * PG];

	/* pages of the stack come and go, too */
	for (size_t i = 0; i < ARENA; i += 3) {
		memset(room, (int)i, sizeof(room));
		live_fill(p, i, 1, 8);
		if (room[i % sizeof(room)] != (char)i)
			return (void *)1;
	}
	for (size_t i = 0; i < ARENA; i += 3)
		if (live_wrong(p, i, 1, 8) != 0)
			return (void *)2;
	return NULL;
}

/* The thread's stack is managed, so it may be away when the handler needs it. */
static void stacks_child(void *arg)
{
	const size_t size = 64 * PG;
	pthread_attr_t attr;
	pthread_t thread;
	struct fl_stats s;
	void *result;
	char *p;

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(ARENA);
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, live_map(fl, 64), size), 0);
	assert_int_equal(pthread_create(&thread, &attr, on_stack, p), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, NULL);
	/* all were handed over */
	s = live_stats(fl);
	assert_int_equal(s.faults_in_thread, 0);
	/* on an alternate stack of this thread's all is as ever */
	assert_int_equal(sigaltstack(&(stack_t){.ss_sp = malloc(65536), .ss_size = 65536}, NULL),
			 0);
	assert_ptr_equal(on_stack(map_in_thread(ARENA)), NULL);
	s = live_stats(fl);
	assert_true(s.faults_in_thread > 0);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(stacks)

/* A program that closes what it did not open: slower, and right. */
static void descriptors_child(void *arg)
{
	struct fl_stats a, b;
	char *p;

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(ARENA);
	live_fill(p, 0, 128, 1);
	a = live_stats(fl);
	assert_true(a.faults_in_thread > 0);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	/* another file behind the number */
	for (int i = 0; i < 61; i++)
		assert_true(open("/dev/null", O_RDWR) >= 0);
	live_fill(p, 128, ARENA - 128, 1);
	live_check(p, 0, ARENA, 1);
	b = live_stats(fl);
	assert_int_equal(b.faults_in_thread, a.faults_in_thread);
	assert_int_equal(fl_close(fl), 0);
	for (int fd = 3; fd < 64; fd++)
		assert_int_equal(fcntl(fd, F_GETFD), 0);
	live_check(p, 0, ARENA, 1);
}
IN_CHILD(descriptors)

/* Two runtimes, one after the other and at once. */
static void runtimes_child(void *arg)
{
	struct fl_options o = live_options(LIMIT);
	struct fl *first;
	char *p, *q;

	(void)arg;
	begin(LIMIT);
	first = fl;
	p = map_in_thread(ARENA);
	fl = live_armed(&o);
	q = map_in_thread(ARENA);
	for (size_t i = 0; i < ARENA; i += 64) {
		live_fill(p, i, 64, 1);
		live_fill(q, i, 64, 2);
	}
	live_check(p, 0, ARENA, 1);
	live_check(q, 0, ARENA, 2);
	assert_int_equal(fl_close(first), 0);
	live_check(q, 0, ARENA, 2);
	live_check(p, 0, ARENA, 1);
	for (unsigned i = 0; i < 40; i++) {
		struct fl *more = live_armed(&o);
		char *r = fl_mmap(more, NULL, 16 * PG, RW, ANON | FL_MAP_IN_THREAD, -1, 0);

		assert_ptr_not_equal(r, FL_FAILED);
		live_fill(r, 0, 16, i);
		assert_int_equal(fl_close(more), 0);
		munmap(r, 16 * PG);
	}
	live_check(q, 0, ARENA, 2);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(runtimes)

/* ---- memory that is replaced ---- */

#define REPLACED 16UL /* pages */
#define REPLACED_TIMES 4000U

static uint32_t replaced;

static void *touch_replaced(void *arg)
{
	for (size_t i = 0; !__atomic_load_n(&replaced, __ATOMIC_RELAXED); i++)
		__atomic_fetch_add(live_page(arg, i % REPLACED), 1, __ATOMIC_RELAXED);
	return NULL;
}

/* A touch of such memory that ordinary memory has replaced before it is answered is a touch of that. */
static void replaced_by_others_child(void *arg)
{
	struct sigaction now;
	pthread_t thread;
	char *p;

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(REPLACED);
	assert_int_equal(pthread_create(&thread, NULL, touch_replaced, p), 0);
	/* it has begun before the first is replaced */
	until(live_stats(fl).faults_in_thread > 0);
	for (unsigned i = 0; i < REPLACED_TIMES; i++)
		assert_ptr_equal(fl_mmap(fl, p, REPLACED * PG, RW,
					 ANON | MAP_FIXED | (i % 2 ? FL_MAP_IN_THREAD : 0), -1, 0),
				 p);
	__atomic_store_n(&replaced, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
	assert_ptr_not_equal(now.sa_handler, SIG_DFL);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(replaced_by_others)

/* ---- fork ---- */

/* In a child: the parent's pages are none of its own, which lie at the same addresses. */
static void same_addresses(char *p, size_t pages)
{
	struct fl_options o = live_options(LIMIT);
	struct fl *own = live_armed(&o);
	char *q = fl_mmap(own, p, pages * PG, RW, ANON | MAP_FIXED | FL_MAP_IN_THREAD, -1, 0);

	assert_ptr_equal(q, p);
	for (size_t i = 0; i < pages * WORDS; i++)
		assert_int_equal(live_page(q, 0)[i], 0);
	live_fill(q, 0, pages, 2);
	live_check(q, 0, pages, 2);
	assert_true(live_stats(own).faults_in_thread > 0);
	assert_int_equal(fl_close(own), 0);
}

static void forked_child(void *arg)
{
	unsigned char was[96], is[96];
	char *p;
	pid_t pid;

	(void)arg;
	begin(LIMIT);
	p = map_in_thread(96);
	assert_int_equal(fl_madvise(fl, p, 96 * PG, MADV_RANDOM), 0);
	/* present, in a slot, and not touched yet */
	live_fill(p, 0, 64, 1);
	live_out(fl, p + 32 * PG, 32);
	assert_int_equal(fl_page_state(fl, p, 96 * PG, was), 0);
	pid = fork();
	if (pid == 0) {
		same_addresses(p, 96);
		_exit(0);
	}
	test_reap(pid);
	assert_int_equal(fl_page_state(fl, p, 96 * PG, is), 0);
	assert_memory_equal(was, is, sizeof(was));
	live_check(p, 0, 64, 1);
	for (size_t i = 64 * WORDS; i < 96 * WORDS; i++)
		assert_int_equal(live_page(p, 0)[i], 0);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(forked)

/* A SIGBUS in a child without a runtime is the program's, as in its parent. */
static void forked_ends_child(void *arg)
{
	volatile char *none = mmap(NULL, PG, PROT_READ, MAP_SHARED, memfd_create("none", 0), 0);
	int status;
	pid_t pid;

	(void)arg;
	begin(LIMIT);
	live_fill(map_in_thread(16), 0, 16, 1);
	pid = fork();
	if (pid == 0) {
		(void)*none;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGBUS);
	assert_int_equal(fl_close(fl), 0);
}
IN_CHILD(forked_ends)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(threads),
		cmocka_unit_test(threads_several_pagers),
		cmocka_unit_test(threads_compressed),
		cmocka_unit_test(compressed),
		cmocka_unit_test(calls),
		cmocka_unit_test(refused),
		cmocka_unit_test(system_calls),
		cmocka_unit_test(program),
		cmocka_unit_test(ends),
		cmocka_unit_test(closed),
		cmocka_unit_test(handlers),
		cmocka_unit_test(stacks),
		cmocka_unit_test(descriptors),
		cmocka_unit_test(runtimes),
		cmocka_unit_test(replaced_by_others),
		cmocka_unit_test(forked),
		cmocka_unit_test(forked_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
