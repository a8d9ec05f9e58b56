/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals and seccomp filters of programs under the preload library: what a
 * program sees of them is what it sees natively.
 *
 * The program that the cases run is this one, with the name of a subject as
 * its argument: natively, tracked (a limit that it does not reach) and armed
 * (one that it passes before its signals begin).  A subject checks by itself;
 * what it prints must be the same in all three.  The environment tells it when
 * its limit is a small one.
 */
#include "subjects.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/uio.h>
#include <time.h>

#define LIMIT "4M"
#define BALLAST 2048UL /* pages: twice the small limit */
#define WINDOW 16UL    /* pages */

#define HITS 3000U    /* of a timer */
#define JUMPS 100000U /* out of a handler; TEST_JUMPS=1000000 is a minute a side */
#define CANCELS 200U
#define FAULTS 2000U
#define CROWD 400U
#define CROWD_CYCLES 20U
#define QUEUED 5000U
#define BATCHES 200U
#define NUMBERS 8 /* of real-time signals in a batch, and so many of each number */
#define EACH 3
#define FLOOD 40 /* of one number: more than may wait */

static char stats[64];

/* ---- what subjects share ---- */

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			static const char text_[] = "wrong: " #cond "\n";                          \
			(void)!write(1, text_, sizeof(text_) - 1);                                 \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static uint64_t *ballast;
static uint64_t seed = 1;

static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

/*
 * What a handler of SIGALRM counts, and how long after the program went on from one the next
 * comes at most, in microseconds.  With a period, one that is shorter than a handler takes
 * on a busy machine would leave no time for anything else.
 */
static volatile uint32_t hits;
static uint64_t hit_within; /* 0: none is asked for */

/* The next hit is asked for when the last one has been. */
static void ask_for_hit(void)
{
	struct itimerval soon = {{0, 0}, {0, 0}};
	static uint32_t asked_for; /* hits, one more than there were */

	if (hit_within == 0 || asked_for == hits + 1)
		return;
	asked_for = hits + 1;
	soon.it_value.tv_usec = (suseconds_t)(1 + rnd(hit_within));
	CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

static void *map_at(void *at, size_t pages, int prot)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at != NULL ? MAP_FIXED : 0);
	void *p = mmap(at, pages * PAGE, prot, flags, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

static uint64_t tag(uint64_t page)
{
	return page * 0x9e3779b97f4a7c15U + 1;
}

/* More memory than the small limit, each page unlike all others. */
static void make_ballast(void)
{
	ballast = map_at(NULL, BALLAST, PROT_READ | PROT_WRITE);
	for (uint64_t i = 0; i < BALLAST; i++) {
		ask_for_hit();
		for (uint64_t w = 0; w < WORDS; w += 64)
			ballast[i * WORDS + w] = tag(i) + w;
	}
}

static void check_ballast(uint64_t page)
{
	for (uint64_t w = 0; w < WORDS; w += 64)
		CHECK(ballast[page * WORDS + w] == tag(page) + w);
}

/* Memory calls one after the other; whatever an interrupted round left is mapped over. */
static void cycle(uint64_t *window, uint64_t value)
{
	map_at(window, WINDOW, PROT_READ | PROT_WRITE);
	for (uint64_t i = 0; i < WINDOW; i += 5)
		window[i * WORDS] = value + i;
	CHECK(mprotect(window, 4 * PAGE, PROT_READ) == 0);
	for (uint64_t i = 0; i < WINDOW; i += 5)
		CHECK(window[i * WORDS] == value + i);
	CHECK(madvise(window + 8 * WORDS, 4 * PAGE, MADV_DONTNEED) == 0);
	CHECK(window[10 * WORDS] == 0);
	CHECK(munmap(window + 12 * WORDS, 4 * PAGE) == 0);
}

static void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};

	CHECK(sigaction(sig, &sa, NULL) == 0);
}

/* Another thread that sends SIGUSR1 to the first, when that has asked, after a while. */
static pthread_t first;
static uint32_t asked, taken; /* atomic */
static uint32_t total;

static uint32_t get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_ACQUIRE);
}

static void put(uint32_t *v, uint32_t n)
{
	__atomic_store_n(v, n, __ATOMIC_RELEASE);
}

static void *send_signals(void *arg)
{
	uint64_t r = 88172645463325252U;

	for (uint32_t i = 1; i <= total; i++) {
		while (get(&asked) != i)
			sched_yield();
		r = r * 6364136223846793005U + 1442695040888963407U;
		for (uint64_t spin = r >> 56; spin > 0; spin--)
			__asm__ volatile("pause");
		pthread_sigqueue(first, SIGUSR1, (union sigval){.sival_int = (int)i});
		while (get(&taken) != i)
			sched_yield();
	}
	return arg;
}

static pthread_t start_sender(uint32_t n)
{
	pthread_t sender;

	total = n;
	first = pthread_self();
	CHECK(pthread_create(&sender, NULL, send_signals, NULL) == 0);
	return sender;
}

/* ---- subjects: handlers that allocate, jump, and are where they should be ---- */

static void on_timer(int sig, siginfo_t *info, void *context)
{
	char *small = malloc(1000);
	uint64_t *large = map_at(NULL, WINDOW, PROT_READ | PROT_WRITE);

	(void)info;
	(void)context;
	CHECK(sig == SIGALRM && small != NULL);
	memset(small, 7, 1000);
	for (uint64_t i = 0; i < WINDOW; i += 3) {
		CHECK(large[i * WORDS] == 0);
		large[i * WORDS] = i;
	}
	CHECK(munmap(large, WINDOW * PAGE) == 0);
	CHECK(small[999] == 7);
	free(small);
	hits++;
}

static void subject_timer(void)
{
	uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);

	make_ballast();
	handle(SIGALRM, on_timer, SA_RESTART);
	hit_within = 200;
	while (hits < HITS) {
		ask_for_hit();
		cycle(window, hits);
		check_ballast(rnd(BALLAST));
	}
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

static sigjmp_buf away;

static void on_jump(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	siglongjmp(away, 1);
}

static void subject_jump(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	static uint64_t *window;
	static volatile uint32_t jumps;
	static uint32_t wanted = JUMPS;
	static timer_t timer;
	const char *given = getenv("TEST_JUMPS");

	if (given != NULL)
		wanted = (uint32_t)atol(given);

	window = map_at(NULL, WINDOW, PROT_NONE);
	make_ballast();
	handle(SIGUSR1, on_jump, 0);
	CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
	if (sigsetjmp(away, 1) != 0)
		jumps++;
	if (jumps < wanted) {
		struct itimerspec soon = {.it_value.tv_nsec = 1 + (long)rnd(8000)};

		CHECK(timer_settime(timer, 0, &soon, NULL) == 0);
		for (;;) {
			cycle(window, jumps);
			check_ballast(rnd(BALLAST));
		}
	}
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

/* How a handler is entered: its stack, its mask, its siginfo, the processor's modes. */
static char alternate[64 << 10];
static bool disarmed; /* SS_AUTODISARM */
static uint32_t seen;

static uint32_t get_mxcsr(void)
{
	uint32_t v;

	__asm__ volatile("stmxcsr %0" : "=m"(v));
	return v;
}

static uint16_t get_fcw(void)
{
	uint16_t v;

	__asm__ volatile("fnstcw %0" : "=m"(v));
	return v;
}

static void on_state(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	sigset_t mask;
	stack_t st;
	char here;

	CHECK(get_mxcsr() == 0x1f80 && get_fcw() == 0x37f);
	CHECK(sig == SIGUSR1 && info->si_signo == sig && info->si_code == SI_QUEUE);
	CHECK(info->si_pid == getpid() && info->si_value.sival_int == (int)seen + 1);
	CHECK(&here >= alternate && &here < alternate + sizeof(alternate));
	CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
	for (int s = 1; s < 32; s++)
		CHECK(sigismember(&mask, s) == (s == SIGUSR1 || s == SIGUSR2 || s == SIGHUP));
	for (int s = 1; s < 32; s++)
		CHECK(sigismember(&uc->uc_sigmask, s) == (s == SIGHUP));
	CHECK(uc->uc_stack.ss_sp == alternate && uc->uc_stack.ss_size == sizeof(alternate));
	CHECK(sigaltstack(NULL, &st) == 0);
	CHECK(st.ss_flags == (disarmed ? SS_DISABLE : SS_ONSTACK));
	seen++;
	put(&taken, seen);
}

static void be_interrupted(int stack_flags)
{
	struct sigaction sa = {.sa_sigaction = on_state, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	stack_t st = {.ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = stack_flags};
	uint32_t mxcsr = 0x1f80 | 0x2000; /* round down */
	uint16_t fcw = 0x37f | 0x400;
	uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);
	sigset_t hup, mask;
	pthread_t sender;

	seen = 0;
	put(&taken, 0);
	put(&asked, 0);
	disarmed = stack_flags != 0;
	CHECK(sigaltstack(&st, NULL) == 0);
	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	CHECK(sigprocmask(SIG_SETMASK, &hup, NULL) == 0);
	sigaddset(&sa.sa_mask, SIGUSR2);
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	sender = start_sender(QUEUED);
	__asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(fcw));
	while (get(&taken) < QUEUED) {
		put(&asked, get(&taken) + 1);
		cycle(window, seen);
		check_ballast(rnd(BALLAST));
		CHECK(get_mxcsr() == mxcsr && get_fcw() == fcw);
		CHECK(sigaltstack(NULL, &st) == 0 && st.ss_sp == alternate);
		CHECK(st.ss_flags == stack_flags);
		CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
		for (int s = 1; s < 32; s++)
			CHECK(sigismember(&mask, s) == (s == SIGHUP));
	}
	CHECK(pthread_join(sender, NULL) == 0);
	CHECK(seen == QUEUED);
}

static void subject_state(void)
{
	make_ballast();
	be_interrupted(0);
	be_interrupted((int)(1U << 31)); /* SS_AUTODISARM */
}

/* ---- several signals at once ---- */

/*
 * Another process stops this one, queues a batch, and lets it go on: the kernel
 * stacks the handlers of all numbers, and the highest runs first.
 */
struct batches {
	uint32_t asked, sent; /* atomic */
	int numbers, each;
};

static struct batches *batches;
static bool first_on_alternate;
static pid_t queuer;
static volatile uint32_t arrived; /* handlers that ran */
static uint32_t program_mxcsr = 0x1f80 | 0x2000;
static uint16_t program_fcw = 0x37f | 0x400;

static void send_batches(pid_t to)
{
	for (uint32_t b = 0; b < BATCHES; b++) {
		while (get(&batches->asked) <= b)
			sched_yield();
		for (uint64_t spin = rnd(2000); spin > 0; spin--)
			__asm__ volatile("pause");
		CHECK(kill(to, SIGSTOP) == 0);
		for (int e = 0; e < batches->each; e++) {
			int value = (int)b * batches->each + e;

			for (int n = 0; n < batches->numbers; n++)
				CHECK(sigqueue(to, SIGRTMIN + n,
					       (union sigval){.sival_int = value}) == 0);
		}
		CHECK(kill(to, SIGCONT) == 0);
		put(&batches->sent, b + 1);
	}
}

/* Memory calls until all of them came, in a program that has modes of its own. */
static void take_batches(int numbers, int each)
{
	const uint32_t size = (uint32_t)(numbers * each);
	uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);
	pid_t receiver = getpid();
	sigset_t mask;
	int status;

	batches = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(batches != MAP_FAILED);
	*batches = (struct batches){.numbers = numbers, .each = each};
	arrived = 0;
	queuer = fork();
	CHECK(queuer >= 0);
	if (queuer == 0) {
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
		send_batches(receiver);
		_exit(0);
	}
	__asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(program_mxcsr), "m"(program_fcw));
	while (arrived < BATCHES * size) {
		if (arrived % size == 0)
			put(&batches->asked, arrived / size + 1);
		cycle(window, arrived);
		check_ballast(rnd(BALLAST));
		CHECK(get_mxcsr() == program_mxcsr && get_fcw() == program_fcw);
		CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
		for (int s = 1; s < SIGRTMAX; s++)
			CHECK(sigismember(&mask, s) != 1);
	}
	CHECK(waitpid(queuer, &status, 0) == queuer && status == 0);
	CHECK(arrived == BATCHES * size);
	CHECK(munmap(batches, PAGE) == 0 && munmap(window, WINDOW * PAGE) == 0);
}

static void on_batch(int sig, siginfo_t *info, void *context)
{
	const uint32_t each = (uint32_t)batches->each, size = (uint32_t)batches->numbers * each;
	const ucontext_t *uc = context;
	const int n = sig - SIGRTMIN;
	const bool above = n > 0; /* the handler of another number, which has not run yet */
	sigset_t mask;
	char here;

	CHECK(n == batches->numbers - 1 - (int)(arrived % size / each));
	CHECK(info->si_signo == sig && info->si_code == SI_QUEUE && info->si_pid == queuer);
	CHECK(info->si_value.sival_int == (int)(arrived / size * each + arrived % each));
	CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
	for (int i = 0; i < NUMBERS; i++) {
		CHECK(sigismember(&mask, SIGRTMIN + i) == (i <= n));
		CHECK(sigismember(&uc->uc_sigmask, SIGRTMIN + i) == (i < n));
	}
	CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&uc->uc_sigmask, SIGUSR1));
	CHECK(!above || uc->uc_mcontext.gregs[REG_RDI] == sig - 1);
	CHECK(get_mxcsr() == 0x1f80 && get_fcw() == 0x37f);
	CHECK(uc->uc_mcontext.fpregs->mxcsr == (above ? 0x1f80 : program_mxcsr));
	CHECK(uc->uc_mcontext.fpregs->cwd == (above ? 0x37f : program_fcw));
	/* those above one that has gone to the alternate stack stay there; the first one disarms it */
	CHECK((&here >= alternate && &here < alternate + sizeof(alternate)) ==
	      (first_on_alternate || (above && !disarmed)));
	if (disarmed && above)
		CHECK(uc->uc_stack.ss_flags == SS_DISABLE);
	else
		CHECK(uc->uc_stack.ss_sp == alternate);
	arrived++;
}

/* Every other number asks for the alternate stack. */
static void stack_batches(int numbers, int stack_flags, bool first_asks)
{
	stack_t st = {.ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = stack_flags};

	disarmed = stack_flags != 0;
	first_on_alternate = first_asks;
	CHECK(sigaltstack(&st, NULL) == 0);
	for (int n = 0; n < numbers; n++)
		handle(SIGRTMIN + n, on_batch, (n % 2 == 0) == first_asks ? SA_ONSTACK : 0);
	take_batches(numbers, EACH);
}

static void subject_stacked(void)
{
	make_ballast();
	stack_batches(2, 0, true);
	stack_batches(NUMBERS, 0, false);
	stack_batches(NUMBERS, (int)(1U << 31), true); /* SS_AUTODISARM */
	stack_batches(NUMBERS, (int)(1U << 31), false);
}

static unsigned char flooded[BATCHES * FLOOD];

static void on_flood(int sig, siginfo_t *info, void *context)
{
	int value = info->si_value.sival_int;

	(void)sig;
	(void)context;
	CHECK(value >= 0 && value < (int)sizeof(flooded) && !flooded[value]);
	flooded[value] = 1;
	arrived++;
}

/* A handler may be interrupted by its own signal: all that are queued are stacked. */
static void subject_flood(void)
{
	make_ballast();
	handle(SIGRTMIN, on_flood, SA_NODEFER);
	take_batches(1, FLOOD);
}

/* ---- cancellation ---- */

static uint32_t rounds; /* atomic */

static void *be_cancelled(void *arg)
{
	static uint64_t *window;
	int old;

	if (window == NULL)
		window = map_at(NULL, WINDOW, PROT_NONE);
	CHECK(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old) == 0);
	for (uint32_t i = 0;; i++) {
		if (arg == NULL)
			cycle(window, i);
		else
			check_ballast(i * 97 % BALLAST);
		put(&rounds, i);
	}
	return arg;
}

static void subject_cancel(void)
{
	make_ballast();
	for (unsigned i = 0; i < CANCELS; i++) {
		uint32_t until = 1 + (uint32_t)rnd(5);
		pthread_t t;
		void *result;

		put(&rounds, 0);
		CHECK(pthread_create(&t, NULL, be_cancelled, i % 2 != 0 ? &rounds : NULL) == 0);
		while (get(&rounds) < until)
			sched_yield();
		CHECK(pthread_cancel(t) == 0);
		CHECK(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
	}
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

static void ignore(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
}

/* Signals of the C library's own, which it waits for, together with one of the program's. */
static void subject_not_alone(void)
{
	pthread_t t;
	void *result;

	make_ballast();
	handle(SIGUSR1, ignore, SA_RESTART);
	for (unsigned i = 0; i < CANCELS; i++) {
		put(&rounds, 0);
		CHECK(pthread_create(&t, NULL, be_cancelled, NULL) == 0);
		while (get(&rounds) < 2)
			sched_yield();
		for (unsigned s = 0; s < 20; s++) {
			CHECK(pthread_kill(t, SIGUSR1) == 0);
			CHECK(setuid(getuid()) == 0);
		}
		CHECK(pthread_kill(t, SIGUSR1) == 0);
		CHECK(pthread_cancel(t) == 0);
		CHECK(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
	}
}

/* ---- more threads than there are doorbells ---- */

static void *crowd_in(void *arg)
{
	uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);

	for (uint64_t i = 0; i < CROWD_CYCLES; i++)
		cycle(window, i);
	CHECK(munmap(window, WINDOW * PAGE) == 0);
	return arg;
}

static void subject_crowd(void)
{
	static pthread_t t[CROWD];

	make_ballast();
	for (unsigned i = 0; i < CROWD; i++)
		CHECK(pthread_create(&t[i], NULL, crowd_in, NULL) == 0);
	for (unsigned i = 0; i < CROWD; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

/* ---- programs with SIGSEGV and SIGBUS of their own ---- */

static uint64_t *heap;
static volatile unsigned barriers;

static void on_barrier(int sig, siginfo_t *info, void *context)
{
	uintptr_t page = (uintptr_t)info->si_addr & ~(PAGE - 1);

	(void)context;
	CHECK(sig == SIGSEGV && info->si_code == SEGV_ACCERR);
	CHECK(page - (uintptr_t)heap < 64 * PAGE);
	CHECK(mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE) == 0);
	barriers++;
}

static void on_null(int sig, siginfo_t *info, void *context)
{
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;

	CHECK(sig == SIGSEGV && (uintptr_t)info->si_addr == 8);
	reg[REG_RIP] += 3; /* the instruction in null_check() */
	reg[REG_RAX] = 77;
}

static long null_check(const void *object)
{
	register long rax __asm__("rax") = (long)object;

	/* mov 8(%rax),%eax */
	__asm__ volatile(".byte 0x8b, 0x40, 0x08" : "+r"(rax) : : "memory");
	return rax;
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	CHECK(sig == SIGBUS && info->si_code == BUS_ADRERR);
	siglongjmp(away, 1);
}

static void on_kill(int sig, siginfo_t *info, void *context)
{
	(void)context;
	CHECK(sig == SIGSEGV && info->si_code == SI_USER);
	hits++;
}

static void subject_faults(void)
{
	char name[] = "/var/tmp/test-signals-XXXXXX";
	int fd = mkstemp(name);
	volatile char *file;
	sigset_t all, old;

	make_ballast();
	heap = map_at(NULL, 64, PROT_READ | PROT_WRITE);
	for (uint64_t i = 0; i < 64; i++)
		heap[i * WORDS] = i;
	handle(SIGSEGV, on_barrier, 0);
	for (unsigned i = 0; i < FAULTS; i++) {
		uint64_t p = rnd(64);

		CHECK(mprotect(heap + p * WORDS, PAGE, PROT_NONE) == 0);
		CHECK(heap[p * WORDS] == p && barriers == i + 1);
		check_ballast(rnd(BALLAST));
	}
	handle(SIGSEGV, on_null, SA_NODEFER);
	for (unsigned i = 0; i < FAULTS; i++)
		CHECK(null_check(NULL) == 77);
	handle(SIGSEGV, on_kill, 0);
	for (unsigned i = 0; i < 100; i++)
		CHECK(kill(getpid(), SIGSEGV) == 0);
	CHECK(hits == 100);

	CHECK(fd >= 0 && unlink(name) == 0);
	file = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(file != MAP_FAILED);
	handle(SIGBUS, on_bus, 0);
	for (volatile unsigned i = 0; i < 100; i++)
		if (sigsetjmp(away, 1) == 0) {
			(void)*file;
			CHECK(!"a page behind the end of its file");
		}

	/* blocked, ignored: paging goes on */
	sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, &old) == 0);
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
	cycle(heap, 1);
	CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
	for (int s = 1; s < 32; s++)
		if (s != SIGKILL && s != SIGSTOP)
			CHECK(signal(s, SIG_IGN) != SIG_ERR);
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
	cycle(heap, 2);
}

/* ---- actions ---- */

static void note(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	printf("%d ", sig);
}

static void note_plain(int sig)
{
	printf("plain %d ", sig);
}

static unsigned depth, raised;

static void nest(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	depth++;
	if (++raised % 3 != 0)
		CHECK(raise(sig) == 0);
	printf("depth %u ", depth);
	depth--;
}

static void show(const char *what, int sig)
{
	struct sigaction sa;
	const char *name;

	CHECK(sigaction(sig, NULL, &sa) == 0);
	name = sa.sa_handler == SIG_DFL	     ? "default"
	       : sa.sa_handler == SIG_IGN    ? "ignore"
	       : sa.sa_sigaction == note     ? "note"
	       : sa.sa_sigaction == nest     ? "nest"
	       : sa.sa_handler == note_plain ? "plain"
					     : "?";
	printf("\n%s: %s flags %x mask %d%d%d: ", what, name, (unsigned)sa.sa_flags,
	       sigismember(&sa.sa_mask, SIGUSR1), sigismember(&sa.sa_mask, SIGUSR2),
	       sigismember(&sa.sa_mask, SIGTERM));
	fflush(stdout);
}

static void set(int sig, void (*fn)(int, siginfo_t *, void *), int flags, int masked)
{
	struct sigaction sa = {.sa_sigaction = fn, .sa_flags = flags}, old;

	if (masked != 0)
		sigaddset(&sa.sa_mask, masked);
	CHECK(sigaction(sig, &sa, &old) == 0);
}

#define RESTORER 0x04000000 /* the C library's own flag */

static void subject_actions(void)
{
	struct sigaction sa, old;
	sigset_t rt;
	int status;
	pid_t pid;

	setvbuf(stdout, NULL, _IONBF, 0);
	make_ballast();
	show("at first", SIGUSR1);
	set(SIGUSR1, note, SA_SIGINFO | SA_RESTART, SIGUSR2);
	show("set", SIGUSR1);
	raise(SIGUSR1);
	set(SIGUSR1, note, SA_SIGINFO | SA_RESETHAND, SIGTERM);
	show("once", SIGUSR1);
	raise(SIGUSR1);
	show("after that", SIGUSR1);
	CHECK(signal(SIGUSR1, note_plain) == SIG_DFL);
	show("signal", SIGUSR1);
	raise(SIGUSR1);
	CHECK(signal(SIGUSR1, SIG_IGN) == note_plain);
	show("ignored", SIGUSR1);
	raise(SIGUSR1);
	set(SIGUSR1, nest, SA_SIGINFO | SA_NODEFER, 0);
	show("nested", SIGUSR1);
	raise(SIGUSR1);
	set(SIGUSR1, nest, SA_SIGINFO, 0);
	show("not nested", SIGUSR1);
	raise(SIGUSR1);

	/* what was reported can be set again */
	CHECK(sigaction(SIGUSR1, NULL, &old) == 0);
	set(SIGUSR1, note, SA_SIGINFO | SA_ONSTACK, SIGUSR1);
	CHECK(sigaction(SIGUSR1, &old, &sa) == 0);
	CHECK(sa.sa_sigaction == note);
	CHECK((sa.sa_flags & ~RESTORER) == (SA_SIGINFO | SA_ONSTACK));
	show("again", SIGUSR1);
	CHECK(sigaction(SIGKILL, &old, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(SIGKILL, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
	CHECK(sigaction(99, NULL, &sa) == -1 && errno == EINVAL);

	/* real-time signals come in order, lowest first */
	for (int s = SIGRTMIN; s < SIGRTMIN + 4; s++)
		set(s, note, SA_SIGINFO, 0);
	sigemptyset(&rt);
	for (int s = SIGRTMIN; s < SIGRTMIN + 4; s++)
		sigaddset(&rt, s);
	CHECK(sigprocmask(SIG_BLOCK, &rt, NULL) == 0);
	for (int s = SIGRTMIN + 3; s >= SIGRTMIN; s--) {
		raise(s);
		raise(s);
	}
	printf("\nin order: ");
	CHECK(sigprocmask(SIG_UNBLOCK, &rt, NULL) == 0);

	/* more actions than there are records: from then on signals are blocked instead */
	for (int i = 0; i < 300; i++) {
		sigset_t mask;

		sigemptyset(&mask);
		for (int b = 0; b < 9; b++)
			if (i >> b & 1)
				sigaddset(&mask, SIGRTMIN + 8 + b);
		sa = (struct sigaction){.sa_sigaction = note, .sa_flags = SA_SIGINFO};
		sa.sa_mask = mask;
		CHECK(sigaction(SIGUSR2, &sa, NULL) == 0);
		CHECK(sigaction(SIGUSR2, NULL, &old) == 0 && old.sa_sigaction == note);
		CHECK(memcmp(&old.sa_mask, &mask, 8) == 0);
	}
	show("many", SIGUSR2);
	raise(SIGUSR2);
	cycle(map_at(NULL, WINDOW, PROT_NONE), 5);

	set(SIGUSR1, note, SA_SIGINFO, 0);
	CHECK(signal(SIGTERM, SIG_IGN) != SIG_ERR);
	pid = fork();
	if (pid == 0) {
		show("child", SIGUSR1);
		raise(SIGUSR1);
		execl(self, self, "actions-after-exec", (char *)NULL);
		_exit(9);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	/* a vfork child changes its own actions, in its parent's memory */
	pid = vfork();
	if (pid == 0) {
		signal(SIGUSR1, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		execl(self, self, "actions-after-exec", (char *)NULL);
		_exit(9);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	show("parent", SIGUSR1);
	raise(SIGUSR1);
	printf("\n");
}

static void subject_actions_after_exec(void)
{
	show("exec", SIGUSR1);
	show("exec", SIGTERM);
	printf("\n");
}

/* ---- a strict seccomp filter ---- */

#define ALLOW(nr)                                                                                  \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1),                                           \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Nothing but what the subjects below call themselves; all else ends the process. */
static struct sock_filter strict[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_mmap),
	ALLOW(SYS_munmap),
	ALLOW(SYS_mprotect),
	ALLOW(SYS_madvise),
	ALLOW(SYS_brk),
	ALLOW(SYS_read),
	ALLOW(SYS_write),
	ALLOW(SYS_futex),
	ALLOW(SYS_setitimer),
	ALLOW(SYS_rt_sigreturn),
	ALLOW(SYS_exit),
	ALLOW(SYS_exit_group),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

/* The same, and a child: fork(2) with what the C library and the hooks do around it. */
static struct sock_filter with_fork[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_mmap),
	ALLOW(SYS_munmap),
	ALLOW(SYS_write),
	ALLOW(SYS_futex),
	ALLOW(SYS_exit_group),
	ALLOW(SYS_clone),
	ALLOW(SYS_wait4),
	ALLOW(SYS_getpid),
	ALLOW(SYS_set_robust_list),
	ALLOW(SYS_rt_sigprocmask),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

enum how { BY_PRCTL, BY_SECCOMP, FOR_ALL_THREADS };

static int confine(struct sock_filter *filter, size_t size, enum how how)
{
	struct sock_fprog prog = {(unsigned short)(size / sizeof(*filter)), filter};

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	if (how == BY_PRCTL)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    how == FOR_ALL_THREADS ? SECCOMP_FILTER_FLAG_TSYNC : 0, &prog);
}

static bool limited(void)
{
	return getenv("TEST_LIMITED") != NULL;
}

static unsigned long resident(pid_t pid)
{
	char path[64];
	unsigned long size, pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	f = fopen(path, "r");
	CHECK(f != NULL && fscanf(f, "%lu %lu", &size, &pages) == 2);
	fclose(f);
	return pages;
}

/* A confined child works with more memory than its limit; its parent looks how much it holds. */
static void confined_child(enum how how, bool armed_before)
{
	int up[2], down[2], status;
	pid_t pid;
	char c = 0;

	CHECK(pipe(up) == 0 && pipe(down) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);
		void *(*volatile allocate)(size_t) = malloc;

		if (armed_before)
			make_ballast();
		free(allocate(1)); /* asks for random numbers once */
		handle(SIGALRM, on_timer, 0);
		hit_within = 500;
		ask_for_hit();
		CHECK(confine(strict, sizeof(strict), how) == 0);
		if (!armed_before)
			make_ballast();
		while (hits < 200) {
			ask_for_hit();
			cycle(window, hits);
			check_ballast(rnd(BALLAST));
		}
		for (uint64_t i = 0; i < BALLAST; i++)
			check_ballast(i);
		CHECK(write(up[1], &c, 1) == 1);
		while (read(down[0], &c, 1) != 1)
			;
		_exit(5);
	}
	close(up[1]);
	CHECK(read(up[0], &c, 1) == 1);
	CHECK(!limited() == (resident(pid) > BALLAST));
	CHECK(write(down[1], &c, 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void subject_filter(void)
{
	confined_child(BY_PRCTL, false);
	confined_child(BY_SECCOMP, false);
	confined_child(FOR_ALL_THREADS, false);
	confined_child(BY_PRCTL, true);
	confined_child(FOR_ALL_THREADS, true);
}

/* What the hooks have to look up is no business of the program's filter. */
static struct sock_filter with_threads[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	ALLOW(SYS_mmap),
	ALLOW(SYS_munmap),
	ALLOW(SYS_write),
	ALLOW(SYS_futex),
	ALLOW(SYS_clone),
	ALLOW(SYS_process_madvise),
	ALLOW(SYS_madvise), /* is made in its place */
	ALLOW(SYS_mlock),
	ALLOW(SYS_exit),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
};

static int return_at_once(void *arg)
{
	put(arg, 1);
	return 0;
}

/* A thread of clone(3)'s, on managed memory, whose end is its return. */
static void make_bare_thread(void)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
	char *stack = map_at(NULL, WINDOW, PROT_READ | PROT_WRITE);
	static uint32_t ran, running;

	put(&ran, 0);
	put(&running, 1);
	CHECK(clone(return_at_once, stack + WINDOW * PAGE, flags, &ran, NULL, NULL, &running) > 0);
	while (get(&running) != 0)
		syscall(SYS_futex, &running, FUTEX_WAIT, 1, NULL, NULL, 0);
	CHECK(get(&ran) == 1);
	CHECK(munmap(stack, WINDOW * PAGE) == 0);
}

static void subject_filter_and_threads(void)
{
	int status, fd, pidfd;
	struct iovec all;
	void *code;
	pid_t pid = fork();
	long r;

	CHECK(pid >= 0);
	if (pid == 0) {
		fd = open(self, O_RDONLY);
		pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
		CHECK(fd >= 0 && pidfd >= 0);
		make_ballast();
		all = (struct iovec){ballast, BALLAST * PAGE};
		CHECK(confine(with_threads, sizeof(with_threads), BY_PRCTL) == 0);
		/* of what is not managed */
		CHECK(mlock(&status, sizeof(status)) == 0);
		for (unsigned i = 0; i < 20; i++)
			make_bare_thread();
		/* as dlopen(3) does */
		code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		CHECK(code != MAP_FAILED && munmap(code, PAGE) == 0);
		r = syscall(SYS_process_madvise, pidfd, &all, 1UL, MADV_COLD, 0);
		CHECK(r == (long)all.iov_len || errno == EPERM);
		/* and of what is */
		CHECK(mlock(ballast, PAGE) == 0);
		for (uint64_t i = 0; i < BALLAST; i++)
			check_ballast(i);
		for (;;)
			syscall(SYS_exit, 7);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* Nothing but read(2), write(2), exit(2) and rt_sigreturn(2). */
static void subject_strict(void)
{
	static const bool by_seccomp[] = {false, true};
	int status;
	pid_t pid;

	for (unsigned i = 0; i < 2; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			make_ballast();
			CHECK((by_seccomp[i]
				       ? syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL)
				       : prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) == 0);
			for (uint64_t p = 0; p < BALLAST; p++)
				check_ballast(p);
			for (;;)
				syscall(SYS_exit, 8);
		}
		CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		      WEXITSTATUS(status) == 8);
	}
}

/* Growth beyond the limit where no pager can be: ENOMEM, and the rest goes on. */
static void grow_to_the_end(void)
{
	unsigned long got = 0;
	void *p = NULL;

	for (; got < BALLAST; got += 64) {
		p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
		if (p == MAP_FAILED)
			break;
		*(volatile char *)p = 1;
	}
	CHECK((p == MAP_FAILED) == limited());
	CHECK(!limited() || (errno == ENOMEM && got > BALLAST / 4));
}

static void subject_filter_and_fork(void)
{
	int status;
	pid_t pid;

	CHECK(confine(with_fork, sizeof(with_fork), BY_PRCTL) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		grow_to_the_end();
		_exit(6);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 6);
	/* the parent's pager was there before */
	make_ballast();
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

static void *wait_for_ever(void *arg)
{
	char c;

	put(&rounds, 1);
	(void)!read(*(int *)arg, &c, 1);
	return NULL;
}

/* A second thread, past what the C library does at its start. */
static void add_thread(void)
{
	static int fds[2];
	pthread_t t;

	CHECK(pipe(fds) == 0 && pthread_create(&t, NULL, wait_for_ever, &fds[0]) == 0);
	while (get(&rounds) == 0)
		sched_yield();
}

static void subject_filter_all_threads(void)
{
	add_thread();
	CHECK(confine(strict, sizeof(strict), FOR_ALL_THREADS) == 0);
	grow_to_the_end();
}

static void subject_filter_all_threads_armed(void)
{
	add_thread();
	make_ballast();
	/* the kernel's answer for a thread that cannot be synchronised is its number */
	CHECK((confine(strict, sizeof(strict), FOR_ALL_THREADS) > 0) == limited());
	for (uint64_t i = 0; i < BALLAST; i++)
		check_ballast(i);
}

/* ---- more signals than may wait, where they cannot be queued again ---- */

static struct sock_filter without_queue[] = {
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_tgsigqueueinfo, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void on_any(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	arrived++;
}

static void subject_lost(void)
{
	uint64_t *window = map_at(NULL, WINDOW, PROT_NONE);
	pid_t receiver = getpid();
	int status;

	make_ballast();
	handle(SIGRTMIN, on_any, SA_NODEFER);
	batches = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(batches != MAP_FAILED);
	*batches = (struct batches){.numbers = 1, .each = FLOOD};
	queuer = fork();
	CHECK(queuer >= 0);
	if (queuer == 0) {
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
		send_batches(receiver);
		_exit(0);
	}
	CHECK(confine(without_queue, sizeof(without_queue), BY_PRCTL) == 0);
	for (uint32_t b = 0; b < BATCHES; b++) {
		put(&batches->asked, b + 1);
		for (uint64_t i = 0; get(&batches->sent) <= b; i++)
			cycle(window, i);
	}
	CHECK(waitpid(queuer, &status, 0) == queuer && status == 0);
	CHECK(arrived > 0 && arrived <= BATCHES * FLOOD);
}

static int be_subject(const char *name)
{
	static const struct subject subjects[] = {
		{"timer", subject_timer},
		{"jump", subject_jump},
		{"state", subject_state},
		{"stacked", subject_stacked},
		{"flood", subject_flood},
		{"cancel", subject_cancel},
		{"not-alone", subject_not_alone},
		{"crowd", subject_crowd},
		{"faults", subject_faults},
		{"actions", subject_actions},
		{"actions-after-exec", subject_actions_after_exec},
		{"filter", subject_filter},
		{"filter-and-threads", subject_filter_and_threads},
		{"strict", subject_strict},
		{"lost", subject_lost},
		{"filter-and-fork", subject_filter_and_fork},
		{"filter-all-threads", subject_filter_all_threads},
		{"filter-all-threads-armed", subject_filter_all_threads_armed},
	};

	return be_one_of(subjects, sizeof(subjects) / sizeof(subjects[0]), name);
}

/* ---- the cases ---- */

struct outcome {
	int status;
	char out[8192]; /* standard output and error */
};

enum side { NATIVE, TRACKED, ARMED };

static void run(const char *subject, enum side side, bool with_stats, struct outcome *o)
{
	char with[80];
	const char *argv[] = {tool, "run",   "--limit", side == ARMED ? LIMIT : "1G", with, "--",
			      self, subject, NULL};
	const char *native[] = {self, subject, NULL};
	const char *const *args = side == NATIVE ? native : argv;
	size_t len = 0;
	int fds[2];
	ssize_t n;
	pid_t pid;

	snprintf(with, sizeof(with), with_stats ? "--stats=%s" : "--log=warn", stats);
	unlink(stats);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		if (side == ARMED)
			setenv("TEST_LIMITED", "1", 1);
		execv(args[0], (char *const *)(uintptr_t)args);
		_exit(127);
	}
	close(fds[1]);
	while ((n = read(fds[0], o->out + len, sizeof(o->out) - 1 - len)) > 0)
		len += (size_t)n;
	o->out[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &o->status, 0), pid);
	if (o->status != 0)
		print_error("%s, side %d: wait status %d: %s\n", subject, (int)side, o->status,
			    o->out);
	assert_int_equal(o->status, 0);
}

/* Was the last program's memory paged?  Its summary says when it was not. */
static bool was_paged(void)
{
	static char text[8192];
	FILE *f = fopen(stats, "r");
	size_t n = 0;

	if (f != NULL) {
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	assert_true(n > 0);
	return strstr(text, "never got tight") == NULL;
}

/* As natively on both sides, with the same words. */
static void alike(const char *subject)
{
	static struct outcome native, o;

	run(subject, NATIVE, false, &native);
	for (enum side side = TRACKED; side <= ARMED; side++) {
		run(subject, side, true, &o);
		assert_string_equal(o.out, native.out);
		assert_int_equal(was_paged(), side == ARMED);
	}
}

static void a_handler_that_allocates(void **state)
{
	(void)state;
	alike("timer");
}

static void a_handler_that_jumps_away(void **state)
{
	(void)state;
	alike("jump");
}

static void how_a_handler_is_entered(void **state)
{
	(void)state;
	alike("state");
}

static void several_at_once(void **state)
{
	(void)state;
	alike("stacked");
}

static void more_at_once_than_may_wait(void **state)
{
	(void)state;
	alike("flood");
}

static void signals_of_the_c_library_s_own(void **state)
{
	(void)state;
	alike("not-alone");
}

static void asynchronous_cancellation(void **state)
{
	(void)state;
	alike("cancel");
}

static void more_threads_than_doorbells(void **state)
{
	(void)state;
	alike("crowd");
}

static void faults_of_the_program_s_own(void **state)
{
	(void)state;
	alike("faults");
}

static void actions_are_as_they_were_set(void **state)
{
	(void)state;
	alike("actions");
}

/* The summary needs system calls that these filters forbid: they look by themselves. */
static void under_a_filter(const char *subject)
{
	static struct outcome o;

	for (enum side side = NATIVE; side <= ARMED; side++) {
		run(subject, side, false, &o);
		assert_string_equal(o.out, "");
	}
}

static void strict_filters(void **state)
{
	(void)state;
	under_a_filter("filter");
}

static void filters_of_what_hooks_look_up(void **state)
{
	(void)state;
	under_a_filter("filter-and-threads");
}

static void strict_mode(void **state)
{
	(void)state;
	under_a_filter("strict");
}

static void signals_that_cannot_be_queued_again(void **state)
{
	static const char line[] = "faultline: more signals came at once than can wait, and they "
				   "cannot be queued again: some are lost\n";
	static struct outcome o;

	(void)state;
	for (enum side side = NATIVE; side <= ARMED; side++) {
		run("lost", side, false, &o);
		assert_string_equal(o.out, side == NATIVE ? "" : line);
	}
}

static void one_line(const char *subject, const char *text)
{
	static struct outcome o;

	for (enum side side = NATIVE; side <= TRACKED; side++) {
		run(subject, side, false, &o);
		assert_string_equal(o.out, "");
	}
	run(subject, ARMED, false, &o);
	if (strncmp(o.out, "faultline: ", 11) != 0 || strstr(o.out, text) == NULL ||
	    strchr(o.out, '\n') != o.out + strlen(o.out) - 1)
		fail_msg("%s: '%s'", subject, o.out);
}

static void a_filter_that_comes_first(void **state)
{
	(void)state;
	one_line("filter-and-fork", "before a pager was started");
	one_line("filter-all-threads", "before a pager was started");
	one_line("filter-all-threads-armed", "would stop the pagers");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_handler_that_allocates),
		cmocka_unit_test(a_handler_that_jumps_away),
		cmocka_unit_test(how_a_handler_is_entered),
		cmocka_unit_test(several_at_once),
		cmocka_unit_test(more_at_once_than_may_wait),
		cmocka_unit_test(asynchronous_cancellation),
		cmocka_unit_test(signals_of_the_c_library_s_own),
		cmocka_unit_test(more_threads_than_doorbells),
		cmocka_unit_test(faults_of_the_program_s_own),
		cmocka_unit_test(actions_are_as_they_were_set),
		cmocka_unit_test(strict_filters),
		cmocka_unit_test(filters_of_what_hooks_look_up),
		cmocka_unit_test(strict_mode),
		cmocka_unit_test(signals_that_cannot_be_queued_again),
		cmocka_unit_test(a_filter_that_comes_first),
	};
	int failed;

	if (!know_self())
		return 2;
	if (argc == 2)
		return be_subject(argv[1]);
	if (know_build() == NULL)
		return 2;
	snprintf(stats, sizeof(stats), "/tmp/test-signals-%d", (int)getpid());
	failed = cmocka_run_group_tests_name("signals", tests, NULL, NULL);
	unlink(stats);
	return failed;
}
