/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Absent memory and the kernel: whatever a system call reads or writes may be
 * in swap when it does.  Buffers, and the structures that tell of them, are
 * evicted before each call, and each call must do what it does with memory that
 * is there; so must another process that looks in from outside.
 *
 * The plain calls are in test-live-faults; here are those that reach memory in
 * ways of their own: they pin it, hand it to another thread, copy it into a new
 * program, or take it for a stack.
 */
#include "live.h"

#include <liburing.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>

#define LIMIT (4 * MIB)
#define TAG 21
#define PAGES 64

/* One armed runtime and PAGES pages for each case. */
struct env {
	struct fl *fl;
	char *mem;
	int fd; /* a file of its own, empty */
};

static int set_up(void **state)
{
	struct fl_options o = live_options(LIMIT);
	static struct env env;
	char path[300];

	env.fl = live_armed(&o);
	env.mem = live_map(env.fl, PAGES);
	live_fill(env.mem, 0, PAGES, TAG);
	snprintf(path, sizeof(path), "%s/absent-XXXXXX", live_dir());
	env.fd = mkostemp(path, O_CLOEXEC);
	assert_true(env.fd >= 0);
	assert_int_equal(unlink(path), 0);
	*state = &env;
	return 0;
}

static int tear_down(void **state)
{
	struct env *e = *state;

	close(e->fd);
	return fl_close(e->fl);
}

/* Everything leaves.  What is compared from now on came back by the call under test. */
static void out(struct env *e)
{
	live_out(e->fl, e->mem, PAGES);
	assert_int_equal(live_count(e->fl, e->mem, PAGES, FL_PAGE_PRESENT), 0);
}

static void *at(struct env *e, size_t page, size_t offset)
{
	return e->mem + page * PG + offset;
}

/* ---- structures ---- */

static void vectors(void **state)
{
	struct env *e = *state;
	struct iovec *iov = at(e, 0, PG - 16); /* across two pages */
	char plain[8 * PG];

	for (size_t i = 0; i < 4; i++)
		iov[i] = (struct iovec){at(e, 10 + 3 * i, 0), 2 * PG};
	out(e);
	assert_int_equal(pwritev(e->fd, iov, 4, 0), 8 * PG);
	assert_int_equal(pread(e->fd, plain, sizeof(plain), 0), 8 * PG);
	for (size_t i = 0; i < 4; i++)
		for (size_t w = 0; w < 2 * WORDS; w++)
			assert_true(live_page(plain, 2 * i)[w] ==
				    live_word(TAG * 1000003UL + 10 + 3 * i + w / WORDS, w % WORDS));
	for (size_t i = 0; i < 4; i++)
		iov[i].iov_base = at(e, 30 + 3 * i, 0);
	out(e);
	assert_int_equal(preadv(e->fd, iov, 4, 0), 8 * PG);
	for (size_t i = 0; i < 4; i++)
		assert_memory_equal(at(e, 30 + 3 * i, 0), plain + 2 * i * PG, 2 * PG);
	live_check(e->mem, 2, 28, TAG);
}

static void messages(void **state)
{
	struct env *e = *state;
	struct msghdr *msg = at(e, 0, 0), *got = at(e, 20, 0);
	struct iovec *iov = at(e, 1, 0), *into = at(e, 21, 0);
	struct cmsghdr *c;
	int pair[2], passed;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memset(msg, 0, sizeof(*msg));
	memset(got, 0, sizeof(*got));
	*iov = (struct iovec){at(e, 4, 0), 3 * PG};
	*into = (struct iovec){at(e, 24, 0), 3 * PG};
	msg->msg_iov = iov;
	got->msg_iov = into;
	msg->msg_iovlen = got->msg_iovlen = 1;
	msg->msg_control = at(e, 2, 0);
	got->msg_control = at(e, 22, 0);
	msg->msg_controllen = got->msg_controllen = CMSG_SPACE(sizeof(int));
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &e->fd, sizeof(int));
	out(e);
	assert_int_equal(sendmsg(pair[0], msg, 0), 3 * PG);
	out(e);
	assert_int_equal(recvmsg(pair[1], got, MSG_WAITALL | MSG_CMSG_CLOEXEC), 3 * PG);
	assert_memory_equal(at(e, 24, 0), at(e, 4, 0), 3 * PG);
	live_check(e->mem, 4, 3, TAG);
	c = CMSG_FIRSTHDR(got);
	assert_non_null(c);
	assert_int_equal(c->cmsg_type, SCM_RIGHTS);
	memcpy(&passed, CMSG_DATA(c), sizeof(passed));
	assert_int_equal(write(passed, "x", 1), 1);
	assert_int_equal(lseek(e->fd, 0, SEEK_END), 1);
	close(passed);
	close(pair[0]);
	close(pair[1]);
}

static void small_structures(void **state)
{
	struct env *e = *state;
	int *n = at(e, 0, 0), *pair = at(e, 1, PG - 4), fds[2];
	struct winsize *size = at(e, 2, 0);
	struct pollfd *pfd = at(e, 3, 0);
	fd_set *set = at(e, 4, 0);
	struct timeval *tv = at(e, 5, 0);
	struct epoll_event *event = at(e, 6, 0), *events = at(e, 7, 0);
	struct timespec *ts = at(e, 8, 0);
	sigset_t *mask = at(e, 9, 0), *old = at(e, 10, 0);
	char *random = at(e, 11, 0);
	int ep, pty;

	out(e);
	assert_int_equal(pipe(pair), 0); /* across two pages */
	memcpy(fds, pair, sizeof(fds));
	assert_int_equal(write(fds[1], "12345", 5), 5);
	out(e);
	assert_int_equal(ioctl(fds[0], FIONREAD, n), 0);
	assert_int_equal(*n, 5);

	pty = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(pty >= 0);
	*size = (struct winsize){.ws_row = 7, .ws_col = 9};
	out(e);
	assert_int_equal(ioctl(pty, TIOCSWINSZ, size), 0);
	memset(size, 0, sizeof(*size));
	out(e);
	assert_int_equal(ioctl(pty, TIOCGWINSZ, size), 0);
	assert_int_equal(size->ws_row * 100 + size->ws_col, 709);
	close(pty);

	*pfd = (struct pollfd){.fd = fds[0], .events = POLLIN};
	out(e);
	assert_int_equal(poll(pfd, 1, -1), 1);
	assert_int_equal(pfd->revents, POLLIN);
	FD_ZERO(set);
	FD_SET(fds[0], set);
	*tv = (struct timeval){.tv_sec = 100};
	out(e);
	assert_int_equal(select(fds[0] + 1, set, NULL, NULL, tv), 1);
	assert_true(FD_ISSET(fds[0], set));

	ep = epoll_create1(EPOLL_CLOEXEC);
	*event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 0x123456789abcdef0};
	out(e);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], event), 0);
	out(e);
	assert_int_equal(epoll_wait(ep, events, 1, -1), 1);
	assert_true(events->data.u64 == 0x123456789abcdef0);
	close(ep);

	*ts = (struct timespec){.tv_nsec = 1};
	sigemptyset(mask);
	sigaddset(mask, SIGUSR2);
	out(e);
	assert_int_equal(nanosleep(ts, ts), 0);
	assert_int_equal(sigprocmask(SIG_BLOCK, mask, old), 0);
	assert_int_equal(raise(SIGUSR2), 0);
	out(e);
	assert_int_equal(sigtimedwait(mask, NULL, ts), SIGUSR2);
	assert_int_equal(sigprocmask(SIG_SETMASK, old, NULL), 0);

	memset(random, 0, 2 * PG);
	out(e);
	assert_int_equal(getrandom(random, 2 * PG, 0), 2 * PG);
	assert_int_not_equal(random[0] | random[1] | random[2] | random[3] | random[4] | random[5],
			     0);
	close(fds[0]);
	close(fds[1]);
	live_check(e->mem, 20, PAGES - 20, TAG);
}

/* More than the limit in one call: pages of a buffer leave while it is being filled. */
static void a_buffer_larger_than_the_limit(void **state)
{
	struct env *e = *state;
	const size_t n = 3 * LIMIT / PG;
	char *big = live_map(e->fl, n), *again = live_map(e->fl, n);

	live_fill(big, 0, n, 5);
	live_out(e->fl, big, n);
	assert_int_equal(write(e->fd, big, n * PG), (ssize_t)(n * PG));
	live_fill(again, 0, n, 6);
	assert_int_equal(pread(e->fd, again, n * PG, 0), (ssize_t)(n * PG));
	live_check(again, 0, n, 5);
	live_check(big, 0, n, 5);
}

/* ---- futexes ---- */

struct waiter {
	uint32_t *word;
	uint32_t woken; /* atomic */
};

static void *wait_on(void *arg)
{
	struct waiter *w = arg;

	while (__atomic_load_n(w->word, __ATOMIC_ACQUIRE) == 0)
		syscall(SYS_futex, w->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	__atomic_store_n(&w->woken, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Sleeping in a call, says the kernel. */
static bool sleeps(pid_t tid)
{
	char path[64], text[128] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && strtol(text, NULL, 10) == SYS_futex;
}

static void *wait_and_tell(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->woken, (uint32_t)gettid(), __ATOMIC_RELEASE);
	return wait_on(arg);
}

/* The word leaves while somebody sleeps on it. */
static void a_word_that_leaves_under_its_waiter(void **state)
{
	struct env *e = *state;
	struct waiter w = {.word = at(e, 5, 64)};
	uint32_t *other = at(e, 6, 0);
	pthread_t thread;
	pid_t tid;

	*w.word = 0;
	assert_int_equal(pthread_create(&thread, NULL, wait_and_tell, &w), 0);
	until((tid = (pid_t)__atomic_load_n(&w.woken, __ATOMIC_ACQUIRE)) != 0);
	until(sleeps(tid));
	out(e);
	/* moved to another word, which is out as well; then woken there */
	assert_int_equal(syscall(SYS_futex, w.word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 1L, other, 0), 1);
	out(e);
	__atomic_store_n(w.word, 1, __ATOMIC_RELEASE);
	out(e);
	assert_int_equal(syscall(SYS_futex, other, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.woken, 1);
}

/*
 * What the kernel changes in place without being able to wait (this, and
 * futexes with priority inheritance) is done or refused, never done to a page
 * of zeros.
 */
static void a_word_changed_by_the_kernel(void **state)
{
	struct env *e = *state;
	uint32_t *word = at(e, 5, 64), *other = at(e, 6, 0);
	const int op = FUTEX_OP(FUTEX_OP_ADD, 2, FUTEX_OP_CMP_EQ, 40);
	long r;

	*other = 40;
	out(e);
	r = syscall(SYS_futex, word, FUTEX_WAKE_OP_PRIVATE, 1, 1L, other, op);
	assert_true(r == 0 || errno == EFAULT);
	assert_int_equal(*other, r == 0 ? 42 : 40);
	*other = 40;
	assert_int_equal(syscall(SYS_futex, word, FUTEX_WAKE_OP_PRIVATE, 1, 1L, other, op), 0);
	assert_int_equal(*other, 42);
}

/* Mutexes and condition variables that lie in memory that comes and goes. */
struct turns {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	unsigned turn;
};

static void *take_turns(void *arg)
{
	struct turns *t = arg;

	for (unsigned i = 0; i < 200; i++) {
		pthread_mutex_lock(&t->mutex);
		while (t->turn % 2 == 0)
			pthread_cond_wait(&t->cond, &t->mutex);
		t->turn++;
		pthread_cond_broadcast(&t->cond);
		pthread_mutex_unlock(&t->mutex);
	}
	return NULL;
}

static void locks_in_memory_that_leaves(void **state)
{
	struct env *e = *state;
	struct turns *t = at(e, 3, PG - 24); /* across two pages */
	pthread_t thread;

	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->cond, NULL);
	t->turn = 0;
	assert_int_equal(pthread_create(&thread, NULL, take_turns, t), 0);
	for (unsigned i = 0; i < 200; i++) {
		pthread_mutex_lock(&t->mutex);
		while (t->turn % 2 == 1)
			pthread_cond_wait(&t->cond, &t->mutex);
		t->turn++;
		assert_int_equal(fl_madvise(e->fl, e->mem, PAGES * PG, MADV_PAGEOUT), 0);
		pthread_cond_broadcast(&t->cond);
		pthread_mutex_unlock(&t->mutex);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(t->turn, 400);
}

/* ---- pinned ---- */

static void direct_io(void **state)
{
	struct env *e = *state;

	assert_int_equal(fcntl(e->fd, F_SETFL, O_DIRECT), 0);
	for (size_t n = 1; n <= 16; n *= 2) {
		out(e);
		assert_int_equal(pwrite(e->fd, at(e, n, 0), n * PG, 0), (ssize_t)(n * PG));
		out(e);
		assert_int_equal(pread(e->fd, at(e, 40, 0), n * PG, 0), (ssize_t)(n * PG));
		assert_memory_equal(at(e, 40, 0), at(e, n, 0), n * PG);
		live_check(e->mem, n, n, TAG);
	}
}

static void ring_do(struct io_uring *ring, uint64_t id, int res)
{
	struct io_uring_cqe *cqe;

	assert_int_equal(io_uring_submit_and_wait(ring, 1), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	assert_int_equal(cqe->user_data, id);
	assert_int_equal(cqe->res, res);
	io_uring_cqe_seen(ring, cqe);
}

/* A ring of the program's own: its requests are done here, or on a worker of the kernel's. */
static void a_ring_of_its_own(void **state)
{
	struct env *e = *state;
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct iovec *iov = at(e, 50, 0);
	uint64_t id = 0;
	char plain[4 * PG];

	assert_int_equal(io_uring_queue_init(8, &ring, 0), 0);
	for (unsigned flags = 0; flags <= IOSQE_ASYNC; flags += IOSQE_ASYNC) {
		out(e);
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_write(sqe, e->fd, at(e, 4, 0), 4 * PG, 0);
		sqe->flags = (uint8_t)flags;
		sqe->user_data = ++id;
		ring_do(&ring, id, 4 * PG);
		assert_int_equal(pread(e->fd, plain, sizeof(plain), 0), 4 * PG);
		assert_memory_equal(plain, at(e, 4, 0), 4 * PG);

		iov[0] = (struct iovec){at(e, 20, 0), PG};
		iov[1] = (struct iovec){at(e, 30, 0), 3 * PG};
		out(e);
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_readv(sqe, e->fd, iov, 2, 0);
		sqe->flags = (uint8_t)flags;
		sqe->user_data = ++id;
		ring_do(&ring, id, 4 * PG);
		assert_memory_equal(at(e, 20, 0), plain, PG);
		assert_memory_equal(at(e, 30, 0), plain + PG, 3 * PG);
		live_fill(e->mem, 0, PAGES, TAG + 1 + flags);
	}
	io_uring_queue_exit(&ring);
}

/* Registered buffers are pinned for good: they stay, and the device's data arrives in them. */
static void registered_buffers(void **state)
{
	struct env *e = *state;
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	struct iovec iov = {at(e, 8, 0), 8 * PG};
	char plain[8 * PG];

	live_fill(plain, 0, 8, 77);
	assert_int_equal(pwrite(e->fd, plain, sizeof(plain), 0), 8 * PG);
	assert_int_equal(io_uring_queue_init(8, &ring, 0), 0);
	out(e);
	assert_int_equal(io_uring_register_buffers(&ring, &iov, 1), 0);
	/* what is pinned must not move away from under the ring */
	until((fl_madvise(e->fl, e->mem, PAGES * PG, MADV_PAGEOUT) == 0 &&
	       live_is_out(e->fl, e->mem, 8)));
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read_fixed(sqe, e->fd, at(e, 8, 0), 8 * PG, 0, 0);
	sqe->user_data = 1;
	ring_do(&ring, 1, 8 * PG);
	assert_memory_equal(at(e, 8, 0), plain, 8 * PG);
	/* what the program writes is what the ring sends */
	live_fill(e->mem, 8, 8, 78);
	assert_int_equal(fl_madvise(e->fl, e->mem, PAGES * PG, MADV_PAGEOUT), 0);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write_fixed(sqe, e->fd, at(e, 8, 0), 8 * PG, 0, 0);
	sqe->user_data = 2;
	ring_do(&ring, 2, 8 * PG);
	assert_int_equal(pread(e->fd, plain, sizeof(plain), 0), 8 * PG);
	assert_memory_equal(at(e, 8, 0), plain, 8 * PG);
	live_check(e->mem, 8, 8, 78);
	io_uring_queue_exit(&ring);
	/* given free, they leave like any other */
	until((fl_madvise(e->fl, e->mem, PAGES * PG, MADV_PAGEOUT) == 0 &&
	       live_is_out(e->fl, e->mem, PAGES)));
	live_check(e->mem, 8, 8, 78);
}

static void pages_lent_to_a_pipe(void **state)
{
	struct env *e = *state;
	struct iovec *iov = at(e, 0, 0);
	char plain[4 * PG];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	*iov = (struct iovec){at(e, 16, 0), 4 * PG};
	out(e);
	assert_int_equal(vmsplice(fds[1], iov, 1, 0), 4 * PG);
	/* they leave while the pipe has them */
	assert_int_equal(fl_madvise(e->fl, e->mem, PAGES * PG, MADV_PAGEOUT), 0);
	assert_int_equal(read(fds[0], plain, 2 * PG), 2 * PG);
	assert_int_equal(fl_madvise(e->fl, e->mem, PAGES * PG, MADV_DONTNEED), 0);
	assert_int_equal(read(fds[0], plain + 2 * PG, 2 * PG), 2 * PG);
	for (size_t w = 0; w < 4 * WORDS; w++)
		assert_true(live_page(plain, 0)[w] ==
			    live_word(TAG * 1000003UL + 16 + w / WORDS, w % WORDS));
	assert_int_equal(live_count(e->fl, e->mem, PAGES, FL_PAGE_NONE), PAGES);
	/* and from a pipe into memory that is out */
	live_fill(e->mem, 0, PAGES, TAG);
	assert_int_equal(write(fds[1], plain, sizeof(plain)), 4 * PG);
	*iov = (struct iovec){at(e, 30, 0), 4 * PG};
	out(e);
	assert_int_equal(vmsplice(fds[0], iov, 1, 0), 4 * PG);
	assert_memory_equal(at(e, 30, 0), plain, 4 * PG);
	close(fds[0]);
	close(fds[1]);
}

/* ---- from outside ---- */

/* In a child: what of the parent's pages it reads, and that it can write one. */
static int look_in(pid_t parent, char *mem)
{
	static char plain[4 * PG];
	struct iovec here = {plain, sizeof(plain)}, there = {mem + 8 * PG, sizeof(plain)};

	if (process_vm_readv(parent, &here, 1, &there, 1, 0) != (ssize_t)sizeof(plain))
		return 1;
	for (size_t w = 0; w < 4 * WORDS; w++)
		if (live_page(plain, 0)[w] != live_word(TAG * 1000003UL + 8 + w / WORDS, w % WORDS))
			return 2;
	live_fill(plain, 0, 4, 88);
	there.iov_base = mem + 20 * PG;
	if (process_vm_writev(parent, &here, 1, &there, 1, 0) != (ssize_t)sizeof(plain))
		return 3;
	return 0;
}

static void another_process_reads_and_writes(void **state)
{
	struct env *e = *state;
	pid_t parent = getpid(), child;

	out(e);
	child = fork();
	if (child == 0)
		_exit(look_in(parent, e->mem));
	test_reap(child);
	for (size_t w = 0; w < 4 * WORDS; w++)
		assert_true(live_page(e->mem, 20)[w] ==
			    live_word(88 * 1000003UL + w / WORDS, w % WORDS));
	live_check(e->mem, 0, 20, TAG);
	live_check(e->mem, 24, PAGES - 24, TAG);
}

/*
 * A debugger's ways, which cannot wait either: right or refused.  After a
 * process_vm_readv(2) of the page they work.
 */
static int debug(pid_t parent, char *mem)
{
	uint64_t *there = live_page(mem, 8), word, want = live_word(TAG * 1000003UL + 8, 3);
	uint64_t *changed = live_page(mem, 12);
	struct iovec here = {&word, sizeof(word)}, at_there = {there, sizeof(word)};
	char path[64];
	int fd, status;

	snprintf(path, sizeof(path), "/proc/%d/mem", parent);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ptrace(PTRACE_SEIZE, parent, NULL, NULL) != 0 ||
	    ptrace(PTRACE_INTERRUPT, parent, NULL, NULL) != 0 ||
	    waitpid(parent, &status, __WALL) != parent)
		return 1;
	if (pread(fd, &word, sizeof(word), (off_t)(uintptr_t)(there + 3)) == sizeof(word)
		    ? word != want
		    : errno != EIO)
		return 2;
	errno = 0;
	word = (uint64_t)ptrace(PTRACE_PEEKDATA, parent, there + 3, NULL);
	if (errno == 0 ? word != want : errno != EIO)
		return 3;
	if (ptrace(PTRACE_POKEDATA, parent, changed, 5L) == 0
		    ? ptrace(PTRACE_POKEDATA, parent, changed,
			     live_word(TAG * 1000003UL + 12, 0)) != 0
		    : errno != EIO)
		return 4;
	if (process_vm_readv(parent, &here, 1, &at_there, 1, 0) != sizeof(word))
		return 5;
	errno = 0;
	if ((uint64_t)ptrace(PTRACE_PEEKDATA, parent, there + 3, NULL) != want || errno != 0)
		return 6;
	if (pread(fd, &word, sizeof(word), (off_t)(uintptr_t)(there + 3)) != sizeof(word) ||
	    word != want)
		return 7;
	return ptrace(PTRACE_DETACH, parent, NULL, NULL) == 0 ? 0 : 8;
}

static void a_debugger_looks_in(void **state)
{
	struct env *e = *state;
	pid_t parent = getpid(), child;

	out(e);
	child = fork();
	if (child == 0)
		_exit(debug(parent, e->mem));
	test_reap(child);
	live_check(e->mem, 0, PAGES, TAG);
}

/* ---- a new program ---- */

/*
 * Between vfork and exec the child runs in the memory of its parent, whose
 * pager answers it, and the kernel copies from there what the new program gets.
 */
static void arguments_of_a_new_program(void **state)
{
	struct env *e = *state;
	const char script[] = "test \"$#\" -eq 3 && test \"${#1}\" -eq 9000 && "
			      "test \"${#NAME}\" -eq 5000 && test \"$2$3\" = shortlast";
	char **argv = at(e, 0, PG - 16), **envp = at(e, 2, 0);
	char *shell = at(e, 3, 0), *text = at(e, 4, 0), *name = at(e, 10, 0);
	char *code = at(e, 14, PG - 20), *last = at(e, 20, 0);
	pid_t pid;

	strcpy(shell, "/bin/sh");
	memset(text, 'a', 9000);
	text[9000] = '\0';
	strcpy(name, "NAME=");
	memset(name + 5, 'b', 5000);
	name[5005] = '\0';
	strcpy(code, script);
	strcpy(last, "last");
	argv[0] = shell;
	argv[1] = strcpy(at(e, 21, 0), "-c");
	argv[2] = code;
	argv[3] = strcpy(at(e, 22, 0), "sh");
	argv[4] = text;
	argv[5] = strcpy(at(e, 23, 0), "short");
	argv[6] = last;
	argv[7] = NULL;
	envp[0] = name;
	envp[1] = NULL;
	out(e);
	pid = vfork();
	if (pid == 0) {
		execve(shell, argv, envp);
		_exit(99);
	}
	test_reap(pid);
}

/* ---- stacks ---- */

#define STACK_PAGES 256

static unsigned deep(unsigned n)
{
	volatile char frame[2000];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (char)n;
	if (n != 0 && deep(n - 1) != n - 1)
		return 0;
	for (size_t i = 0; i < sizeof(frame); i++)
		if (frame[i] != (char)n)
			return 0;
	return n;
}

struct stack_user {
	pid_t tid;
	uint32_t go, done; /* atomic, futex */
	bool ok;
};

static void *use_stack(void *arg)
{
	struct stack_user *u = arg;
	volatile char frame[3 * PG];
	bool ok;

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = 0x5a;
	ok = deep(300) == 300;
	__atomic_store_n(&u->tid, gettid(), __ATOMIC_RELEASE);
	while (__atomic_load_n(&u->go, __ATOMIC_ACQUIRE) == 0)
		syscall(SYS_futex, &u->go, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	for (size_t i = 0; i < sizeof(frame); i++)
		ok = ok && frame[i] == 0x5a;
	u->ok = ok && deep(300) == 300;
	__atomic_store_n(&u->done, 1, __ATOMIC_RELEASE);
	return arg;
}

/* A thread whose stack leaves while it sleeps. */
static void a_stack_that_leaves_under_its_thread(void **state)
{
	struct env *e = *state;
	char *stack = live_map(e->fl, STACK_PAGES);
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, stack, STACK_PAGES * PG), 0);
	for (unsigned round = 0; round < 3; round++) {
		struct stack_user u = {0};
		void *result;
		pid_t tid;

		live_out(e->fl, stack, STACK_PAGES);
		assert_int_equal(pthread_create(&thread, &attr, use_stack, &u), 0);
		until((tid = __atomic_load_n(&u.tid, __ATOMIC_ACQUIRE)) != 0);
		until(sleeps(tid));
		live_out(e->fl, stack, STACK_PAGES);
		__atomic_store_n(&u.go, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &u.go, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		assert_int_equal(pthread_join(thread, &result), 0);
		assert_ptr_equal(result, &u);
		assert_int_equal(u.done, 1);
		assert_true(u.ok);
	}
	pthread_attr_destroy(&attr);
}

static volatile sig_atomic_t handled;
static char *handler_from, *handler_to;

static void handle(int sig)
{
	char here;

	(void)sig;
	handled = &here >= handler_from && &here < handler_to && deep(20) == 20 ? 1 : 2;
}

/* The kernel writes the frame of a signal into a stack that is out, and reads it back. */
static void a_signal_on_a_stack_that_is_out(void **state)
{
	struct env *e = *state;
	stack_t ss = {.ss_sp = at(e, 0, 0), .ss_size = 32 * PG}, old;
	struct sigaction sa = {.sa_handler = handle, .sa_flags = SA_ONSTACK}, was;

	handler_from = at(e, 0, 0);
	handler_to = at(e, 32, 0);
	assert_int_equal(sigaltstack(&ss, &old), 0);
	assert_int_equal(sigaction(SIGUSR1, &sa, &was), 0);
	for (unsigned round = 0; round < 3; round++) {
		handled = 0;
		out(e);
		assert_int_equal(raise(SIGUSR1), 0);
		assert_int_equal(handled, 1);
	}
	assert_int_equal(sigaction(SIGUSR1, &was, NULL), 0);
	assert_int_equal(sigaltstack(&old, NULL), 0);
	live_check(e->mem, 32, PAGES - 32, TAG);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(vectors),
		CASE(messages),
		CASE(small_structures),
		CASE(a_buffer_larger_than_the_limit),
		CASE(a_word_that_leaves_under_its_waiter),
		CASE(a_word_changed_by_the_kernel),
		CASE(locks_in_memory_that_leaves),
		CASE(direct_io),
		CASE(a_ring_of_its_own),
		CASE(registered_buffers),
		CASE(pages_lent_to_a_pipe),
		CASE(another_process_reads_and_writes),
		CASE(a_debugger_looks_in),
		CASE(arguments_of_a_new_program),
		CASE(a_stack_that_leaves_under_its_thread),
		CASE(a_signal_on_a_stack_that_is_out),
	};

	return cmocka_run_group_tests_name("absent", tests, NULL, NULL);
}
