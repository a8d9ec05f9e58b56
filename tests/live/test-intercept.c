/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does the preload library see every memory call of an unmodified program?
 *
 * The program runs under ptrace.  Once the library has patched its sites, each
 * system call of the memory family must be made by an instruction inside the
 * library: one made anywhere else escaped.  The program that the cases run is
 * this one, with the name of a subject as its argument; a subject checks by
 * itself that its calls did what they should.
 *
 *	test-intercept run PROGRAM ARGUMENT...
 *
 * runs any program so, and prints what escapes.
 */
#include "subject-checks.h"

#include <dirent.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

/* ---- the tracer ---- */

#define PROCS_MAX 4096
#define THREADS_MAX 65536

struct proc {
	uintptr_t lo, hi; /* the library's text, 0 until it was seen at work */
	enum { BEFORE, PATCHING, READY } state;
};

struct traced {
	pid_t tid;
	unsigned proc; /* index */
};

static struct {
	struct proc proc[PROCS_MAX];
	unsigned nproc;
	struct traced thread[THREADS_MAX];
	unsigned nthread, alive;
	unsigned ready;	  /* processes that were patched */
	unsigned hooked;  /* calls by the library */
	unsigned escaped; /* calls by anyone else */
	char first[256];  /* the first of these */
	bool tell;	  /* print each */
	int status;	  /* wait status of the program */
} trace;

/* The calls that must be seen, clone(2) and clone3(2) only as forks. */
static bool is_memory_call(pid_t tid, const struct ptrace_syscall_info *info)
{
	uint64_t nr = info->entry.nr;

	switch (nr) {
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mremap:
	case SYS_mprotect:
	case SYS_pkey_mprotect:
	case SYS_madvise:
	case SYS_brk:
	case SYS_remap_file_pages:
	case SYS_shmat:
	case SYS_shmdt:
	case SYS_mlock:
	case SYS_mlock2:
	case SYS_munlock:
	case SYS_mlockall:
	case SYS_munlockall:
	case SYS_process_madvise:
	case SYS_fork:
		return true;
	case SYS_clone:
		return (info->entry.args[0] & CLONE_VM) == 0;
	case SYS_clone3: {
		long flags = ptrace(PTRACE_PEEKDATA, tid, (void *)info->entry.args[0], NULL);

		return (flags & CLONE_VM) == 0;
	}
	default:
		return false;
	}
}

/* The mapping of a process that holds an address: its bounds and its name. */
static void find_mapping(pid_t pid, uintptr_t at, uintptr_t *lo, uintptr_t *hi, char name[192])
{
	char path[64], line[512];
	FILE *f;

	*lo = *hi = 0;
	strcpy(name, "?");
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %191[^\n]", lo, hi, name) >= 2 &&
		    at >= *lo && at < *hi)
			break;
		*lo = *hi = 0;
		strcpy(name, "?");
	}
	if (f != NULL)
		fclose(f);
}

static struct traced *traced(pid_t tid)
{
	for (unsigned i = trace.nthread; i-- > 0;)
		if (trace.thread[i].tid == tid)
			return &trace.thread[i];
	return NULL;
}

static struct traced *add_thread(pid_t tid, unsigned proc)
{
	assert_true(trace.nthread < THREADS_MAX);
	trace.thread[trace.nthread] = (struct traced){.tid = tid, .proc = proc};
	trace.alive++;
	return &trace.thread[trace.nthread++];
}

static unsigned add_proc(const struct proc *from)
{
	assert_true(trace.nproc < PROCS_MAX);
	trace.proc[trace.nproc] = *from;
	return trace.nproc++;
}

static void drop_thread(pid_t tid)
{
	struct traced *t = traced(tid);

	if (t == NULL)
		return;
	*t = trace.thread[--trace.nthread];
	trace.alive--;
}

static void on_call(struct traced *t, const struct ptrace_syscall_info *info)
{
	struct proc *p = &trace.proc[t->proc];
	uint64_t nr = info->entry.nr;
	uintptr_t ip = info->instruction_pointer, lo, hi;
	bool inside = ip >= p->lo && ip < p->hi;
	char name[192];

	if (p->state == BEFORE && nr == SYS_pwrite64) {
		find_mapping(t->tid, ip, &lo, &hi, name);
		if (strstr(name, "libfaultline-preload") != NULL) {
			p->lo = lo;
			p->hi = hi;
			p->state = PATCHING;
		}
	} else if (p->state == PATCHING && nr == SYS_close && inside) {
		p->state = READY;
		trace.ready++;
	} else if (p->state == READY && is_memory_call(t->tid, info)) {
		if (inside) {
			trace.hooked++;
			return;
		}
		if (trace.escaped++ == 0) {
			find_mapping(t->tid, ip, &lo, &hi, name);
			snprintf(trace.first, sizeof(trace.first), "call %d at %lx in %s", (int)nr,
				 ip - lo, name);
		}
		if (trace.tell) {
			find_mapping(t->tid, ip, &lo, &hi, name);
			fprintf(stderr, "call %d at %lx in %s\n", (int)nr, ip - lo, name);
		}
	}
}

#define STAY_STOPPED -1

/*
 * A stop: what signal is to be passed on, or STAY_STOPPED.  A new thread may
 * stop before its maker tells of it: until then nobody knows what it shares,
 * and it must not get as far as an exec.
 */
static int on_stop(pid_t tid, int status)
{
	struct ptrace_syscall_info info;
	struct traced *t = traced(tid);
	int sig = WSTOPSIG(status), event = status >> 16;
	unsigned long message = 0;

	if (t == NULL) {
		add_thread(tid, 0);
		return STAY_STOPPED;
	}
	if (sig == (SIGTRAP | 0x80)) {
		memset(&info, 0, sizeof(info));
		ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info);
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
			on_call(t, &info);
		return 0;
	}
	if (event == 0)
		return sig == SIGSTOP && t->tid != 0 ? 0 : sig;
	ptrace(PTRACE_GETEVENTMSG, tid, NULL, &message);
	if (event == PTRACE_EVENT_EXEC) {
		static const struct proc none;

		t->proc = add_proc(&none);
	} else if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK ||
		   event == PTRACE_EVENT_VFORK) {
		struct traced *child = traced((pid_t)message);
		unsigned proc =
			event == PTRACE_EVENT_CLONE ? t->proc : add_proc(&trace.proc[t->proc]);

		if (child == NULL) {
			add_thread((pid_t)message, proc);
		} else {
			child->proc = proc;
			ptrace(PTRACE_SYSCALL, child->tid, NULL, NULL);
		}
	}
	return 0;
}

/* Run a program with the library preloaded and every call looked at. */
static void run_traced(char *const argv[], char *const envp[])
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
			     PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
	static const struct proc none;
	pid_t pid = fork();
	bool tell;
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		close_range(3, ~0U, 0);
		execvpe(argv[0], argv, envp);
		_exit(127);
	}
	tell = trace.tell;
	memset(&trace, 0, sizeof(trace));
	trace.tell = tell;
	assert_int_equal(waitpid(pid, &status, __WALL), pid);
	add_thread(pid, add_proc(&none));
	assert_int_equal(ptrace(PTRACE_SETOPTIONS, pid, NULL, options), 0);
	ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
	while (trace.alive > 0) {
		pid_t tid = waitpid(-1, &status, __WALL);
		int sig;

		if (tid < 0)
			break;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (tid == pid)
				trace.status = status;
			drop_thread(tid);
			continue;
		}
		sig = on_stop(tid, status);
		if (sig != STAY_STOPPED)
			ptrace(PTRACE_SYSCALL, tid, NULL, (long)sig);
	}
}

static char preload[4200];

static void traced_program(char *const argv[])
{
	char *env[256];
	unsigned n = 0;

	for (char **e = environ; *e != NULL && n < 250; e++)
		if (strncmp(*e, "LD_PRELOAD=", 11) != 0 && strncmp(*e, "FAULTLINE_", 10) != 0)
			env[n++] = *e;
	env[n++] = preload;
	env[n] = NULL;
	run_traced(argv, env);
}

static void traced_subject(const char *subject)
{
	traced_program((char *[]){self, (char *)(uintptr_t)subject, NULL});
	if (!WIFEXITED(trace.status) || WEXITSTATUS(trace.status) != 0)
		fail_msg("%s: wait status %x", subject, trace.status);
	if (trace.ready == 0)
		fail_msg("%s: no process was patched", subject);
}

static void expect_none(const char *what, unsigned least)
{
	if (trace.escaped != 0)
		fail_msg("%s: %u calls escaped, first: %s", what, trace.escaped, trace.first);
	if (trace.hooked < least)
		fail_msg("%s: only %u calls were seen", what, trace.hooked);
}

/* ---- subjects ---- */

static char *map(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Every call, each with a good and a bad argument, by name and by number. */
static void subject_calls(void)
{
	char *p = map(16 * PAGE), *q;
	int shm;

	p[5 * PAGE] = 'x';
	CHECK(mprotect(p, PAGE, PROT_READ) == 0);
	CHECK(mprotect(p + 1, PAGE, PROT_READ) == -1 && errno == EINVAL);
	CHECK(pkey_mprotect(p, PAGE, PROT_READ | PROT_WRITE, -1) == 0);
	CHECK(madvise(p + PAGE, PAGE, MADV_DONTNEED) == 0 && p[PAGE] == 0);
	CHECK(madvise(p, PAGE, 12345) == -1 && errno == EINVAL);
	CHECK(posix_madvise(p, PAGE, POSIX_MADV_WILLNEED) == 0);
	CHECK(mlock(p, PAGE) == 0 && munlock(p, PAGE) == 0);
	CHECK(mlock2(p, PAGE, MLOCK_ONFAULT) == 0 && mlock2(p, PAGE, 77) == -1 && errno == EINVAL);
	CHECK(mlockall(1 << 20) == -1 && errno == EINVAL && munlockall() == 0);
	q = mremap(p, 16 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	CHECK(q != MAP_FAILED && q[5 * PAGE] == 'x');
	CHECK(munmap(q, 64 * PAGE) == 0);
	CHECK(munmap(q + 1, PAGE) == -1 && errno == EINVAL);
	CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED && errno == EBADF);

	q = sbrk(0);
	CHECK(sbrk(3 * PAGE) == q && sbrk(0) == q + 3 * PAGE);
	q[2 * PAGE] = 'y';
	CHECK(brk(q) == 0 && sbrk(0) == q);

	shm = shmget(IPC_PRIVATE, PAGE, 0600);
	CHECK(shm >= 0);
	p = shmat(shm, NULL, 0);
	CHECK(shmctl(shm, IPC_RMID, NULL) == 0 && p != (void *)-1);
	p[0] = 'z';
	CHECK(shmdt(p) == 0 && shmdt(p) == -1 && errno == EINVAL);

	p = (char *)syscall(SYS_mmap, NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	CHECK(p != MAP_FAILED);
	p[0] = 'a';
	CHECK(syscall(SYS_madvise, p, PAGE, MADV_DONTNEED) == 0 && p[0] == 0);
	CHECK(syscall(SYS_munmap, p, 4 * PAGE) == 0);
	CHECK(syscall(SYS_munmap, 1, PAGE) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_getpid) == getpid());
	for (size_t n = 1; n < (64 << 20); n *= 2) {
		char *m = malloc(n);

		CHECK(m != NULL);
		memset(m, 1, n);
		free(m);
	}
}

static void *one_thread(void *arg)
{
	char *m = malloc(200000), *p = map(1 << 20);

	CHECK(m != NULL);
	memset(m, 1, 200000);
	p[12345] = 1;
	CHECK(munmap(p, 1 << 20) == 0);
	free(m);
	return arg;
}

static void subject_threads(void)
{
	pthread_t t[50];
	void *r;

	for (int batch = 0; batch < 20; batch++) {
		for (uintptr_t i = 0; i < 50; i++)
			CHECK(pthread_create(&t[i], NULL, one_thread, (void *)i) == 0);
		for (uintptr_t i = 0; i < 50; i++)
			CHECK(pthread_join(t[i], &r) == 0 && r == (void *)i);
	}
}

static void use_library(void *lib)
{
	void *(*in_mmap)(size_t) = (void *(*)(size_t))dlsym(lib, "inline_mmap");
	int (*in_munmap)(void *, size_t) = (int (*)(void *, size_t))dlsym(lib, "inline_munmap");
	char *p;

	CHECK(in_mmap != NULL && in_munmap != NULL);
	p = in_mmap(3 * PAGE);
	CHECK((long)p > 0);
	p[2 * PAGE] = 1;
	CHECK(in_munmap(p, 3 * PAGE) == 0);
	CHECK(in_munmap(p + 1, PAGE) == -EINVAL);
}

/* A library that was there at the start. */
static void subject_linked(void)
{
	use_library(RTLD_DEFAULT);
}

/* Code that arrives late: a library with sites of its own, and a second C library. */
static void subject_dlopen(void)
{
	void *lib = dlopen(getenv("INLINE_SITES"), RTLD_NOW), *libc;
	void *(*other_malloc)(size_t);
	char *p;

	CHECK(lib != NULL);
	use_library(lib);
	CHECK(dlclose(lib) == 0);
	lib = dlopen(getenv("INLINE_SITES"), RTLD_NOW);
	CHECK(lib != NULL);
	use_library(lib);
	lib = dlmopen(LM_ID_NEWLM, getenv("INLINE_SITES"), RTLD_NOW);
	CHECK(lib != NULL);
	use_library(lib);
	libc = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW);
	CHECK(libc != NULL);
	other_malloc = (void *(*)(size_t))dlsym(libc, "malloc");
	for (int i = 0; i < 20; i++) {
		p = other_malloc(10000000);
		CHECK(p != NULL);
		p[5] = 1;
	}
}

static volatile sig_atomic_t handled, jump_out;
static sigjmp_buf jump;

static void handler(int sig)
{
	char *p = map(2 * PAGE);

	(void)sig;
	p[PAGE] = 1;
	CHECK(munmap(p, 2 * PAGE) == 0);
	handled++;
	if (jump_out)
		siglongjmp(jump, 1);
}

/* A handler that maps while the program maps, and one that never returns. */
static void subject_signals(void)
{
	struct itimerval off = {{0, 0}, {0, 0}};
	volatile int rounds, asked, asked_in;

	CHECK(signal(SIGALRM, handler) != SIG_ERR);
	for (int jumps = 0; jumps < 2; jumps++) {
		handled = 0;
		asked = asked_in = -1;
		rounds = 0;
		sigsetjmp(jump, 1);
		jump_out = jumps;
		while (rounds < 2000 || handled < 20) {
			char *p;

			/* one in a round, which there is time for, however long a traced call takes */
			if (asked != handled && asked_in != rounds) {
				struct itimerval soon = {{0, 0}, {0, 1 + rounds * 97 % 500}};

				asked = handled;
				asked_in = rounds;
				CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
			}
			p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			rounds++;
			CHECK(p != MAP_FAILED && munmap(p, 16 * PAGE) == 0);
		}
		jump_out = 0;
	}
	setitimer(ITIMER_REAL, &off, NULL);
}

static void subject_true(void)
{
}

static __attribute__((noinline)) void subject_vfork(char **argv)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execv(self, argv);
		_exit(9);
	}
	reap(pid);
}

struct child {
	uintptr_t stack;
	int tid;
	char *page;
	char *ready; /* shared */
};

/* On a stack of its own, with its parent's memory before it. */
static int child_main(void *arg)
{
	struct child *c = arg;
	uintptr_t here = (uintptr_t)&c;

	CHECK(here >= c->stack && here < c->stack + 65536);
	CHECK(strcmp(c->page, "parent") == 0);
	strcpy(c->page, "child");
	free(malloc(300000));
	*c->ready = 'r';
	return 7 + *map(PAGE);
}

static void reap_7(pid_t pid, const struct child *c, const char *page)
{
	int status;

	CHECK(pid > 0 && waitpid(pid, &status, __WALL) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7 && *c->ready == 'r');
	CHECK(strcmp(c->page, page) == 0);
}

static struct child new_child(void)
{
	struct child c = {.stack = (uintptr_t)map(65536), .page = map(PAGE)};

	strcpy(c.page, "parent");
	c.ready = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(c.ready != MAP_FAILED);
	return c;
}

static void by_clone(int flags)
{
	struct child c = new_child();
	pid_t pid = clone(child_main, (char *)c.stack + 65536,
			  flags | SIGCHLD | CLONE_PARENT_SETTID, &c, &c.tid);

	reap_7(pid, &c, flags & CLONE_VM ? "child" : "parent");
	CHECK(c.tid == pid);
	CHECK(clone(child_main, (char *)c.stack + 65536, CLONE_SIGHAND, &c) == -1 &&
	      errno == EINVAL);
}

/* clone3(2) has no function in the C library: its child goes on in fn(arg). */
static long clone3_into(struct clone_args *args, int (*fn)(void *), void *arg)
{
	register int (*fn_reg)(void *) __asm__("r12") = fn;
	register void *arg_reg __asm__("r13") = arg;
	long r;

	__asm__ volatile("mov %[clone3], %%eax\n\t"
			 "syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %[arg], %%rdi\n\t"
			 "call *%[fn]\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov %[exit], %%eax\n\t"
			 "syscall\n"
			 "1:"
			 : "=&a"(r)
			 : [clone3] "i"(SYS_clone3), [exit] "i"(SYS_exit_group), "D"(args),
			   "S"(sizeof(*args)), [fn] "r"(fn_reg), [arg] "r"(arg_reg)
			 : "rcx", "r11", "memory");
	return r;
}

static void by_clone3(uint64_t flags)
{
	struct child c = new_child();
	struct clone_args args = {
		.flags = flags | CLONE_PARENT_SETTID,
		.parent_tid = (uintptr_t)&c.tid,
		.exit_signal = SIGCHLD,
		.stack = c.stack,
		.stack_size = 65536,
	};
	long pid = clone3_into(&args, child_main, &c);

	reap_7((pid_t)pid, &c, flags & CLONE_VM ? "child" : "parent");
	CHECK(c.tid == pid);
}

/* Children by every way there is. */
static void subject_children(void)
{
	char *argv[] = {self, (char[]){"true"}, NULL};
	char text[8];
	FILE *f;
	pid_t pid;

	for (int i = 0; i < 5; i++) {
		CHECK(posix_spawn(&pid, self, NULL, NULL, argv, environ) == 0);
		reap(pid);
		subject_vfork(argv);
		pid = fork();
		if (pid == 0) {
			free(malloc(300000));
			_exit(*map(PAGE));
		}
		reap(pid);
		pid = (pid_t)syscall(SYS_fork);
		if (pid == 0)
			_exit(*map(PAGE));
		reap(pid);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			_exit(*map(PAGE));
		reap(pid);
		by_clone(0);
		by_clone(CLONE_VM);
		by_clone3(0);
		by_clone3(CLONE_VM);
	}
	CHECK(system("exit 3") >> 8 == 3);
	f = popen("echo words", "r");
	CHECK(f != NULL && fgets(text, sizeof(text), f) != NULL && pclose(f) == 0);
	CHECK(strcmp(text, "words\n") == 0);
}

static void *map_for_ever(void *arg)
{
	(void)arg;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (;;)
		munmap(map(PAGE), PAGE);
	return NULL;
}

static void *read_for_ever(void *arg)
{
	char c;

	for (;;) {
		munmap(map(PAGE), PAGE);
		if (read(*(int *)arg, &c, 1) != 0)
			CHECK(false);
	}
	return NULL;
}

static void subject_cancel(void)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	for (int i = 0; i < 60; i++) {
		pthread_t t;
		void *r;

		CHECK(pthread_create(&t, NULL, i % 2 != 0 ? map_for_ever : read_for_ever, fds) ==
		      0);
		sched_yield();
		CHECK(pthread_cancel(t) == 0 && pthread_join(t, &r) == 0 && r == PTHREAD_CANCELED);
	}
}

/* A system call that nobody patches: the tracer must see it escape. */
static void subject_escape(void)
{
	long r;

	__asm__ volatile("mov %1, %%eax\n\t"
			 "nop\n\t" /* or it would be a site */
			 "syscall"
			 : "=&a"(r)
			 : "i"(SYS_munmap), "D"(1L), "S"(PAGE)
			 : "rcx", "r11", "memory");
	CHECK(r == -EINVAL);
}

/* One that is a site, in a program that is small enough to be searched. */
static void subject_own(void)
{
	long r;

	__asm__ volatile("mov %1, %%eax\n\t"
			 "syscall"
			 : "=&a"(r)
			 : "i"(SYS_munmap), "D"(1L), "S"(PAGE)
			 : "rcx", "r11", "memory");
	CHECK(r == -EINVAL);
}

static unsigned entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	CHECK(d != NULL);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* What a program can find out about itself. */
static void subject_quiet(void)
{
	sigset_t set;
	struct rlimit lim;

	CHECK(errno == 0);
	free(malloc(1 << 20));
	CHECK(entries("/proc/self/fd") == 2 + 3 + 1); /* . and .., 0 to 2, and the directory */
	CHECK(entries("/proc/self/task") == 2 + 1);
	CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction sa;

		CHECK(sigismember(&set, sig) <= 0);
		if (sigaction(sig, NULL, &sa) == 0)
			CHECK(sa.sa_handler == SIG_DFL || sa.sa_handler == SIG_IGN);
	}
	CHECK(getrlimit(RLIMIT_NOFILE, &lim) == 0);
	CHECK(getenv("FAULTLINE_MAIN") == NULL);
}

static const struct subject subjects[] = {
	{"calls", subject_calls},	{"threads", subject_threads}, {"dlopen", subject_dlopen},
	{"signals", subject_signals},	{"true", subject_true},	      {"cancel", subject_cancel},
	{"children", subject_children}, {"escape", subject_escape},   {"quiet", subject_quiet},
	{"own", subject_own},		{"linked", subject_linked},
};

static int be_subject(const char *name)
{
	return be_one_of(subjects, sizeof(subjects) / sizeof(subjects[0]), name);
}

/* ---- cases ---- */

static void escapes_are_seen(void **state)
{
	(void)state;
	traced_subject("escape");
	assert_int_equal(trace.escaped, 1);
	assert_non_null(strstr(trace.first, "test-intercept"));
}

static void calls(void **state)
{
	(void)state;
	traced_subject("calls");
	expect_none("calls", 40);
}

static void threads(void **state)
{
	(void)state;
	traced_subject("threads");
	expect_none("threads", 4000);
}

static void late_code(void **state)
{
	(void)state;
	traced_subject("dlopen");
	expect_none("dlopen", 40);
}

static void code_of_the_program(void **state)
{
	(void)state;
	traced_subject("own");
	expect_none("own", 1);
}

static void code_of_a_library(void **state)
{
	size_t len = strlen(preload);

	(void)state;
	snprintf(preload + len, sizeof(preload) - len, ":%s", getenv("INLINE_SITES"));
	traced_subject("linked");
	preload[len] = '\0';
	expect_none("linked", 3);
}

static void signals(void **state)
{
	(void)state;
	traced_subject("signals");
	expect_none("signals", 8000);
}

static void children(void **state)
{
	(void)state;
	traced_subject("children");
	expect_none("children", 20);
	assert_true(trace.ready >= 10); /* those that were started with exec as well */
}

static void cancelled_threads(void **state)
{
	(void)state;
	traced_subject("cancel");
	expect_none("cancel", 60);
}

static void quiet(void **state)
{
	(void)state;
	traced_subject("quiet");
	expect_none("quiet", 1);
}

/* Programs that nobody wrote for this test: the compiler, with all that it starts, and a sort. */
static void real_programs(void **state)
{
	char *cc[] = {(char[]){"/bin/sh"}, (char[]){"-c"},
		      (char[]){"echo 'int main(void) { return 0; }' | "
			       "${FL_CC:-cc} -O2 -x c -o /dev/null -"},
		      NULL};
	char *sort[] = {(char[]){"/bin/sh"}, (char[]){"-c"},
			(char[]){"for round in 1 2 3; do seq 200000 | sort -R --parallel=4 | "
				 "sort -n | tail -n 1 | grep -qx 200000 || exit 1; done"},
			NULL};

	(void)state;
	traced_program(cc);
	assert_int_equal(trace.status, 0);
	expect_none("the compiler", 50);
	traced_program(sort);
	assert_int_equal(trace.status, 0);
	expect_none("sort", 50);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(escapes_are_seen),  cmocka_unit_test(calls),
		cmocka_unit_test(threads),	     cmocka_unit_test(late_code),
		cmocka_unit_test(signals),	     cmocka_unit_test(children),
		cmocka_unit_test(cancelled_threads), cmocka_unit_test(quiet),
		cmocka_unit_test(real_programs),     cmocka_unit_test(code_of_the_program),
		cmocka_unit_test(code_of_a_library),
	};
	const char *build;
	char path[4096];

	if (!know_self())
		return 2;
	if (argc == 2)
		return be_subject(argv[1]);
	build = know_build();
	if (build == NULL)
		return 2;
	snprintf(preload, sizeof(preload),
		 "LD_PRELOAD=%s/src/preload/.libs/libfaultline-preload.so", build);
	snprintf(path, sizeof(path), "%s/tests/live/.libs/inline-sites.so", build);
	setenv("INLINE_SITES", path, 1);
	if (argc > 2 && strcmp(argv[1], "run") == 0) {
		trace.tell = true;
		traced_program(argv + 2);
		fprintf(stderr, "%u processes, %u calls seen, %u escaped; wait status %x\n",
			trace.ready, trace.hooked, trace.escaped, (unsigned)trace.status);
		return trace.escaped != 0;
	}
	return cmocka_run_group_tests_name("intercept", tests, NULL, NULL);
}
