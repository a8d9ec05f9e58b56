/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * drive.c - cases in children, injected failures, memory with a shadow; see
 * drive.h.
 *
 * The wrappers around system calls run on pagers and in the middle of calls of
 * the runtime: they use atomics and bare system calls, nothing of libc.
 */
#include "drive.h"

#include "uffd-abi.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define TOLD_MAX 4096U

#define EXIT_WRONG 90
#define EXIT_REFUSED 91
#define FILES_MAX 8U
#define LANES 4U /* cases mostly wait: for the disk, or for patience to end */

struct report *report;

/* ---- cases ---- */

static pid_t case_pid;

const char *case_file(unsigned number)
{
	static char path[FILES_MAX][256];
	const char *dir = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/var/tmp";

	snprintf(path[number], sizeof(path[number]), "%s/fault-case-%d-%u", dir,
		 (int)(case_pid != 0 ? case_pid : getpid()), number);
	return path[number];
}

/* Wait for the child; false when its time is over, and it is gone then too. */
static bool wait_bounded(pid_t pid, int *status)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	int n;

	assert_true(fd >= 0);
	while ((n = poll(&pfd, 1, HANG_SECONDS * 1000)) < 0 && errno == EINTR)
		;
	close(fd);
	if (n == 0)
		kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, status, 0), pid);
	return n != 0;
}

static enum ending judge(bool in_time, int status)
{
	unsigned lines = 0;

	if (!in_time) {
		snprintf(report->wrong, sizeof(report->wrong), "no end after %d seconds",
			 HANG_SECONDS);
		return END_BAD;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return END_WELL;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED)
		return END_REFUSED;
	for (const char *s = report->stderr_text; (s = strchr(s, '\n')) != NULL; s++)
		lines++;
	/* the end by the runtime: its out-of-memory line, or a last line on standard error */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
	    lines_with(report, "out of memory") == 1 && lines == 0)
		return END_KILLED;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && lines == 1 &&
	    strncmp(report->stderr_text, "faultline: ", 11) == 0)
		return END_KILLED;
	if (report->wrong[0] == '\0')
		snprintf(report->wrong, sizeof(report->wrong), "ended by %s %d",
			 WIFSIGNALED(status) ? "signal" : "exit code",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return END_BAD;
}

enum ending run_case(void (*body)(void *), void *arg, struct report **out)
{
	int err_fd = memfd_create("stderr", MFD_CLOEXEC);
	enum ending end;
	bool in_time;
	int status;
	ssize_t n;

	assert_true(err_fd >= 0);
	if (report == NULL) {
		report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(report, MAP_FAILED);
	}
	memset(report, 0, sizeof(*report));
	case_pid = fork();
	assert_true(case_pid >= 0);
	if (case_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* cmocka catches what ends a program; the child is to end */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		dup2(err_fd, STDERR_FILENO);
		body(arg);
		_exit(0);
	}
	in_time = wait_bounded(case_pid, &status);
	n = pread(err_fd, report->stderr_text, sizeof(report->stderr_text) - 1, 0);
	report->stderr_text[n > 0 ? n : 0] = '\0';
	close(err_fd);
	end = judge(in_time, status);
	for (unsigned i = 0; i < FILES_MAX; i++)
		unlink(case_file(i));
	case_pid = 0;
	*out = report;
	return end;
}

struct tally in_lanes(const void *cases, unsigned n,
		      void (*one)(const void *cases, unsigned i, struct tally *t))
{
	struct tally *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tally seen;
	pid_t lane[LANES];

	assert_ptr_not_equal(t, MAP_FAILED);
	fflush(stdout);
	fflush(stderr);
	for (unsigned l = 0; l < LANES; l++) {
		lane[l] = fork();
		assert_true(lane[l] >= 0);
		if (lane[l] != 0)
			continue;
		report = NULL; /* one of its own */
		for (unsigned i = l; i < n; i += LANES)
			one(cases, i, t);
		fflush(stdout);
		fflush(stderr);
		_exit(0);
	}
	for (unsigned l = 0; l < LANES; l++) {
		int status;

		assert_int_equal(waitpid(lane[l], &status, 0), lane[l]);
		assert_int_equal(status, 0);
	}
	seen = *t;
	munmap(t, sizeof(*t));
	return seen;
}

void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(report->wrong, sizeof(report->wrong), fmt, ap);
	va_end(ap);
	_exit(EXIT_WRONG);
}

void refused(void)
{
	_exit(EXIT_REFUSED);
}

void at(const char *what)
{
	snprintf(report->at, sizeof(report->at), "%s", what);
}

bool answered(const char *what, int r)
{
	if (r == 0)
		return true;
	count_refusal(what, r);
	return false;
}

/* What the manual pages of the calls name. */
void count_refusal(const char *what, long err)
{
	static const int documented[] = {ENOMEM, EAGAIN, EPERM,	 EACCES, EFAULT,
					 EIO,	 ENOSPC, ENFILE, EMFILE, EINVAL,
					 ENOSYS, EBUSY,	 ENODEV, ENOENT, EOPNOTSUPP};

	report->refused++;
	snprintf(report->last_refusal, sizeof(report->last_refusal), "%s: %s", what,
		 strerror((int)-err));
	for (size_t i = 0; i < sizeof(documented) / sizeof(documented[0]); i++)
		if (err == -documented[i])
			return;
	wrong("%s failed with %s, which no manual page names", what, strerror((int)-err));
}

/* The addresses of pages whose loss was told, in this process; atomic. */
static uintptr_t told_at[TOLD_MAX];
static unsigned told;

static void note_told(const char *line)
{
	const char *at = strstr(line, "address 0x");
	uintptr_t addr = 0;
	unsigned i;

	if (at == NULL || strstr(line, "the page is lost") == NULL)
		return;
	for (at += sizeof("address 0x") - 1; *at != ':' && *at != '\0'; at++)
		addr = addr << 4 | (uintptr_t)(*at <= '9' ? *at - '0' : *at - 'a' + 10);
	i = __atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
	if (i < TOLD_MAX)
		__atomic_store_n(&told_at[i], addr, __ATOMIC_RELEASE); /* pairs with was_told() */
}

static bool was_told(uintptr_t addr)
{
	for (unsigned i = 0; i < TOLD_MAX; i++)
		if (__atomic_load_n(&told_at[i], __ATOMIC_ACQUIRE) ==
		    addr) /* pairs with note_told() */
			return true;
	return false;
}

void collect_line(void *arg, enum fl_log_level level, const char *line)
{
	unsigned i = __atomic_fetch_add(&report->nlines, 1, __ATOMIC_RELAXED);
	size_t n = strlen(line);

	(void)arg;
	(void)level;
	note_told(line);
	if (i >= LINES_MAX)
		return;
	if (n >= sizeof(report->line[i]))
		n = sizeof(report->line[i]) - 1;
	memcpy(report->line[i], line, n);
	report->line[i][n] = '\0';
}

unsigned lines_with(const struct report *r, const char *text)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->nlines && i < LINES_MAX; i++)
		n += strstr(r->line[i], text) != NULL;
	return n;
}

/* ---- system calls ---- */

static struct injection inj = {.row = -1};

/* Do one page of an ioctl for several, as the kernel does that was interrupted. */
static long ioctl_partly(int row, long fd, long cmd, void *arg)
{
	long nr = sys_table[row].nr;
	__u64 *len = NULL;
	__s64 *done = NULL;
	uint64_t whole;
	long r;

	if (row == SYSROW_uffd_copy) {
		struct uffdio_copy *c = arg;

		len = &c->len, done = (__s64 *)&c->copy;
	} else if (row == SYSROW_uffd_zeropage) {
		struct uffdio_zeropage *z = arg;

		len = &z->range.len, done = (__s64 *)&z->zeropage;
	} else {
		struct uffdio_move *m = arg;

		len = &m->len, done = (__s64 *)&m->move;
	}
	whole = *len;
	if (whole > PG)
		*len = PG;
	r = sys_bare(nr, fd, cmd, (long)arg, 0, 0, 0);
	if (whole > PG && r == 0) {
		*len = whole;
		*done = (__s64)PG;
		return -EAGAIN;
	}
	return r;
}

static long fail_call(int row, long a, long b, long c, long d, long e, long f)
{
	long nr = sys_table[row].nr;

	__atomic_fetch_add(&report->hits, 1, __ATOMIC_RELAXED);
	if (inj.err == ERR_NOTHING)
		return 0;
	if (inj.err == ERR_UNTOLD) {
		long r = sys_bare(nr, a, b, c, d, e, f);

		if (r != 0)
			return r;
		((struct uffdio_move *)c)->move = -EEXIST;
		return -EEXIST;
	}
	if (inj.err != ERR_PARTIAL)
		return inj.err;
	switch (row) {
	case SYSROW_uffd_copy:
	case SYSROW_uffd_zeropage:
	case SYSROW_uffd_move:
		return ioctl_partly(row, a, b, (void *)c);
	case SYSROW_process_madvise: /* fewer runs */
		return sys_bare(nr, a, b, (c + 1) / 2, d, e, f);
	case SYSROW_pread: /* fewer bytes */
	case SYSROW_pwrite:
		return sys_bare(nr, a, b, c > 512 ? 512 : c, d, e, f);
	case SYSROW_preadv:
	case SYSROW_pwritev:
		return sys_bare(nr, a, b, 1, d, e, f);
	default:
		return sys_bare(nr, a, b, c, d, e, f);
	}
}

static long counted_call(int row, long a, long b, long c, long d, long e, long f)
{
	unsigned long n = __atomic_add_fetch(&report->calls[row], 1, __ATOMIC_RELAXED);

	if (row == inj.row && (n == inj.nth || (inj.persist && n > inj.nth)))
		return fail_call(row, a, b, c, d, e, f);
	return sys_bare(sys_table[row].nr, a, b, c, d, e, f);
}

#define X(name)                                                                                    \
	static long counted_##name(long a, long b, long c, long d, long e, long f)                 \
	{                                                                                          \
		return counted_call(SYSROW_##name, a, b, c, d, e, f);                              \
	}
SYS_TABLE(X)
#undef X

void inject_calls(const struct injection *in)
{
	static const sys_fn counted[SYSROW_COUNT] = {
#define X(name) [SYSROW_##name] = counted_##name,
		SYS_TABLE(X)
#undef X
	};

	inj = *in;
	for (int i = 0; i < SYSROW_COUNT; i++)
		sys_table[i].fn = counted[i];
}

/* ---- memory with a shadow ---- */

static sigjmp_buf on_bus;
static volatile uintptr_t bus_low, bus_high; /* where a SIGBUS is awaited */
static volatile uintptr_t bus_addr;

static void bus_handler(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	bus_addr = (uintptr_t)info->si_addr;
	if (bus_addr < bus_low || bus_addr >= bus_high)
		wrong("SIGBUS at %p while %p to %p was touched", info->si_addr, (void *)bus_low,
		      (void *)bus_high);
	siglongjmp(on_bus, 1);
}

uint64_t mem_random(struct mem *m)
{
	m->rng ^= m->rng << 13;
	m->rng ^= m->rng >> 7;
	m->rng ^= m->rng << 17;
	return m->rng;
}

static void *plain(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		wrong("no memory for the shadow");
	return p;
}

/* Once, and before memory is mapped that wants a handler of its own before ours. */
static void watch_bus(void)
{
	static bool watched;
	struct sigaction sa = {.sa_sigaction = bus_handler, .sa_flags = SA_SIGINFO | SA_NODEFER};

	if (!watched)
		sigaction(SIGBUS, &sa, NULL);
	watched = true;
}

static void mem_init(struct mem *m, struct fl *fl, char *base, size_t pages, size_t room)
{
	*m = (struct mem){
		.fl = fl,
		.base = base,
		.shadow = plain(room * PG),
		.pages = pages,
		.room = room,
		.lost = plain(room),
		.readonly = plain(room),
		.rng = 0x9e3779b97f4a7c15U,
	};
	watch_bus();
}

void mem_adopt(struct mem *m, struct fl *fl, size_t pages)
{
	mem_init(m, fl, plain(pages * PG), pages, pages);
}

bool mem_map(struct mem *m, struct fl *fl, size_t pages, size_t room)
{
	return mem_map_flags(m, fl, pages, room, 0);
}

bool mem_map_flags(struct mem *m, struct fl *fl, size_t pages, size_t room, int flags)
{
	char *base = mmap(NULL, room * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			  -1, 0);
	void *p;

	if (base == MAP_FAILED)
		wrong("no room");
	watch_bus();
	p = fl_mmap(fl, base, pages * PG, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, -1, 0);
	if (p == FL_FAILED) {
		count_refusal("fl_mmap", -errno);
		return false;
	}
	mem_init(m, fl, base, pages, room);
	m->map_flags = flags;
	return true;
}

static uint64_t *words(char *base, size_t page)
{
	return (uint64_t *)(void *)(base + page * PG);
}

/* The page raised SIGBUS: that is right for a poisoned one only. */
static void note_lost(struct mem *m, size_t page, const char *what)
{
	unsigned char state = 0;

	/* one that could not be brought back at the end was told by its address */
	if (m->fl == NULL && !was_told((uintptr_t)m->base + page * PG))
		wrong("%s: SIGBUS on page %zu, which was not lost before", what, page);
	if (m->fl != NULL && (fl_page_state(m->fl, m->base + page * PG, PG, &state) != 0 ||
			      FL_PAGE_KIND(state) != FL_PAGE_POISONED))
		wrong("%s: SIGBUS on page %zu, whose state is 0x%02x", what, page, state);
	m->lost[page] = true;
	report->lost++;
}

static bool touch_begin(struct mem *m, size_t page)
{
	if (m->lost[page])
		return false;
	bus_low = (uintptr_t)m->base + page * PG;
	bus_high = bus_low + PG;
	return true;
}

void mem_check(struct mem *m, size_t page, const char *what)
{
	if (!touch_begin(m, page))
		return;
	if (sigsetjmp(on_bus, 0) != 0) {
		note_lost(m, page, what);
		return;
	}
	for (size_t i = 0; i < PG / 8; i++) {
		uint64_t got = words(m->base, page)[i];
		uint64_t want = words(m->shadow, page)[i];

		if (got != want)
			wrong("%s: page %zu of %zu, word %zu: %016lx, should be %016lx", what, page,
			      m->pages, i, (unsigned long)got, (unsigned long)want);
	}
}

void mem_check_all(struct mem *m, const char *what)
{
	for (size_t i = 0; i < m->pages; i++)
		mem_check(m, i, what);
}

void mem_fill(struct mem *m, size_t page, bool same)
{
	const uint64_t v = mem_random(m);
	uint64_t step;

	if (m->readonly[page] || !touch_begin(m, page))
		return;
	if (sigsetjmp(on_bus, 0) != 0) {
		note_lost(m, page, "filling");
		return;
	}
	step = same ? 0 : m->soft && page % 4 != 0 ? 1 : 0x9e3779b97f4a7c15U;
	for (size_t i = 0; i < PG / 8; i++) {
		words(m->base, page)[i] = v + i * step;
		words(m->shadow, page)[i] = v + i * step;
	}
}

void mem_change(struct mem *m, size_t page)
{
	uint64_t v = mem_random(m);

	mem_check(m, page, "before a change");
	if (m->readonly[page] || !touch_begin(m, page))
		return;
	if (sigsetjmp(on_bus, 0) != 0) {
		note_lost(m, page, "changing");
		return;
	}
	for (unsigned k = 0; k < 4; k++) {
		size_t i = (v >> (k * 9)) % (PG / 8);

		words(m->base, page)[i] = v + k;
		words(m->shadow, page)[i] = v + k;
	}
}

void mem_zeroed(struct mem *m, size_t page, size_t n)
{
	memset(m->shadow + page * PG, 0, n * PG);
	memset(m->lost + page, 0, n);
}
