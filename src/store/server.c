/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * server.c - the server's processes and threads.
 *
 *	faultline mount ── checks, locks, mounts, goes to the background
 *	  └ keeper ──────── waits for signals; unmounts, which needs privilege
 *	      └ server ──── confined; workers read /dev/fuse, one thread answers data
 *
 * The keeper is the process that others see: SIGTERM, SIGINT and SIGHUP make
 * it unmount.  That lets the kernel write back what is dirty, and ends the
 * server, as /dev/fuse then says ENODEV.  A mount in use is detached, and the
 * server serves what is still open for DRAIN_SECONDS; then, or at a second
 * signal, the keeper closes the pipe that the server listens to, which drains:
 * no more requests are taken, those that were taken are answered.  A server that does
 * not get that far in KILL_SECONDS is killed; one that says that it writes what is
 * stored in mapped files has the time that the disk takes.
 *
 * Where another mount namespace has a copy of the mount (unshare(1) takes copies of
 * all), the kernel keeps the filesystem as long as that is there, whoever unmounts
 * here.  So the keeper watches its own table of mounts: when the mount has left that and
 * the server goes on, it tells the server, which drains as soon as nothing is open, and
 * has no deadline until a signal sets one.
 * Nothing is lost then: what was written came with the write(2), and the kernel writes
 * what was stored into a mapping before the mapping goes, and with it the open file.
 *
 * When the server is killed the keeper unmounts.  When the keeper is killed the
 * pipe is closed: the server drains and ends, and a dead mount is left for the
 * next start to detach (mounts.c).
 *
 * Locks: none of its own.
 */
#include "attach.h"
#include "shared.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 8U
#define DRAIN_SECONDS 10
#define KILL_SECONDS 5
#define STUCK_MS 1000
#define GONE_MS 1000
#define NUDGE_NS (10 * 1000 * 1000L)
#define WAKE_SIGNAL SIGUSR1

struct server server = {.ready_fd = -1};

/* What the server tells its keeper when it serves; when it writes all, a byte more. */
#define WATCHED 2U
struct ready_text {
	char one;		/* 1; what cannot serve tells why instead */
	pid_t watched[WATCHED]; /* threads that end with the server alone */
};

static struct fuse_session *session;
static char fuse_said[512]; /* libfuse's last line */

static void remember_line(enum fuse_log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void remember_line(enum fuse_log_level level, const char *fmt, va_list ap)
{
	if (level > FUSE_LOG_WARNING)
		return;
	vsnprintf(fuse_said, sizeof(fuse_said), fmt, ap);
	fuse_said[strcspn(fuse_said, "\n")] = '\0';
}

/* In the background nothing of who started us is held open. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* --- the server process --- */

static __thread struct fuse_buf *request; /* what this worker is at */
static pthread_t workers[WORKERS];
static pthread_barrier_t confined;
static pid_t worker_tids[WORKERS];
static unsigned working; /* workers that have not ended; atomic */
static bool unmounted;	 /* the keeper says so; atomic */
static int ended_fd; /* told when the last one has, or when it is unmounted and nothing is open */

void *ops_steal_buffer(void)
{
	void *mem = request->mem;

	request->mem = NULL;
	return mem;
}

static void tell_end(void)
{
	const uint64_t one = 1;

	if (write(ended_fd, &one, sizeof(one)) < 0)
		abort();
}

void server_none_open(void)
{
	/* in one order with the store and the look at what is open in heard_end() */
	if (__atomic_load_n(&unmounted, __ATOMIC_SEQ_CST))
		tell_end();
}

static void *work(void *arg)
{
	struct fuse_buf buf = {.mem = NULL};

	*(pid_t *)arg = gettid();
	request = &buf;
	pthread_barrier_wait(&confined);
	while (!fuse_session_exited(session)) {
		int r = fuse_session_receive_buf(session, &buf);

		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		fuse_session_process_buf(session, &buf);
	}
	free(buf.mem);
	if (__atomic_sub_fetch(&working, 1, __ATOMIC_ACQ_REL) == 0)
		tell_end();
	return NULL;
}

static void woken(int sig)
{
	(void)sig;
}

static int start_threads(struct why *why)
{
	struct sigaction act = {.sa_handler = woken}; /* no SA_RESTART: it is to interrupt */
	int err;

	sigaction(WAKE_SIGNAL, &act, NULL);
	ended_fd = eventfd(0, EFD_CLOEXEC);
	if (ended_fd < 0)
		return why_set(why, -errno, "eventfd: %s", strerror(errno));
	pthread_barrier_init(&confined, NULL, WORKERS + 2);
	working = WORKERS;
	for (unsigned i = 0; i < WORKERS; i++) {
		err = pthread_create(&workers[i], NULL, work, &worker_tids[i]);
		if (err != 0)
			return why_set(why, -err, "a thread cannot be made: %s", strerror(err));
	}
	err = attach_thread(why);
	return err != 0 ? err : io_thread(why);
}

void server_forget_data(fuse_ino_t ino)
{
	/* one that it does not know any more has none */
	if (fuse_lowlevel_notify_inval_inode(session, ino, 0, 0) != 0)
		errno = 0;
}

void server_ready(void)
{
	struct ready_text t = {.one = 1};

	if (server.ready_fd < 0)
		return;
	memcpy(t.watched, worker_tids, sizeof(t.watched));
	if (write(server.ready_fd, &t, sizeof(t)) < 0)
		errno = 0; /* the keeper has gone */
}

static void tell_writing(void)
{
	if (server.ready_fd >= 0 && write(server.ready_fd, "", 1) < 0)
		errno = 0; /* as above */
}

void server_await_confinement(void)
{
	pthread_barrier_wait(&confined);
}

/* Whether writes that failed may be told of when a file is closed. */
static bool has_late_errors(int fd)
{
	static const uint32_t remote[] = {NFS_SUPER_MAGIC,  CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC,
					  CEPH_SUPER_MAGIC, V9FS_MAGIC,	      FUSE_SUPER_MAGIC,
					  CODA_SUPER_MAGIC, AFS_SUPER_MAGIC,  AFS_FS_MAGIC};
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return true;
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++)
		if ((uint32_t)fs.f_type == remote[i])
			return true;
	return false;
}

static int own_files(struct why *why)
{
	int fd = openat(server.store->dir_fd, "files", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return why_set(why, -errno, "%s/files: %s", server.store->dir, strerror(errno));
	server.late_errors = has_late_errors(fd);
	server.files = node_get(fd, &st);
	return server.files != NULL ? 0 : why_set(why, -ENOMEM, "%s", strerror(ENOMEM));
}

/* Wait for the workers, waking those that read until they see that it is over. */
static void join_workers(void)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		for (;;) {
			struct timespec until;

			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += NUDGE_NS;
			if (until.tv_nsec >= 1000000000L) {
				until.tv_nsec -= 1000000000L;
				until.tv_sec++;
			}
			if (pthread_timedjoin_np(workers[i], NULL, &until) == 0)
				break;
			if (fuse_session_exited(session))
				pthread_kill(workers[i], WAKE_SIGNAL);
		}
	}
}

/* What the keeper says: a byte when it is unmounted, nothing more when it is to end. */
static bool heard_end(int keeper_fd)
{
	char byte;
	ssize_t n = read(keeper_fd, &byte, 1);

	if (n < 0 && errno == EINTR)
		return false;
	if (n <= 0)
		return true;
	__atomic_store_n(&unmounted, true, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&tally.handles, __ATOMIC_SEQ_CST) == 0;
}

/* Until there is nobody to serve any more. */
static void await_end(int keeper_fd)
{
	struct pollfd fds[2] = {
		{.fd = ended_fd, .events = POLLIN},
		{.fd = keeper_fd, .events = POLLIN},
	};

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents != 0 || heard_end(keeper_fd))
			return;
	}
}

static int serve(int keeper_fd, struct why *why)
{
	struct timespec now;
	bool idle;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &now);
	tally.started = (uint64_t)now.tv_sec;
	umask(0);
	server.act_as_caller = geteuid() == 0 && server.options.allow_other;
	err = confine_limits(geteuid() == 0, why);
	if (err == 0 && server.options.sandbox)
		err = confine_paths(server.store->dir_fd, why);
	if (err == 0)
		err = own_files(why);
	if (err == 0)
		err = io_start(why);
	if (err == 0)
		shared_start();
	if (err == 0)
		err = attach_start(why);
	if (err == 0)
		err = start_threads(why);
	if (err == 0 && server.options.sandbox)
		err = confine_calls(why);
	if (err != 0)
		return err;
	pthread_barrier_wait(&confined);
	await_end(keeper_fd);
	/* Then nothing is waited for but the disk. */
	idle = __atomic_load_n(&working, __ATOMIC_ACQUIRE) == 0;
	if (idle)
		tell_writing();
	shared_flush(idle);
	/* Its thread may wait for an answer of ours to the kernel: workers go on meanwhile. */
	attach_stop();
	fuse_session_exit(session);
	join_workers();
	if (!idle)
		tell_writing();
	shared_stop();
	io_stop();
	node_forget_all();
	fuse_session_destroy(session);
	return 0;
}

/* --- mounting --- */

/* Run fuse_session_mount() with standard error caught: fusermount3 writes there. */
static int mount_quietly(void)
{
	int fd = memfd_create("faultline-said", MFD_CLOEXEC);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	char text[sizeof(fuse_said)], *line;
	ssize_t n;
	int r;

	if (fd >= 0)
		dup2(fd, STDERR_FILENO);
	r = fuse_session_mount(session, server.mnt);
	if (saved >= 0) {
		dup2(saved, STDERR_FILENO);
		close(saved);
	}
	if (fd < 0)
		return r;
	n = pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (r != 0 && n > 0) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		line = strncmp(text, "fusermount3: ", 13) == 0 ? text + 13 : text;
		memcpy(fuse_said, line, strlen(line) + 1);
	}
	return r;
}

static int do_mount(struct why *why)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char source[PATH_MAX + 16], *list = NULL;
	int err = 0;

	snprintf(source, sizeof(source), "fsname=%s", server.store->dir);
	if (fuse_opt_add_opt_escaped(&list, source) != 0 ||
	    fuse_opt_add_opt(&list, "subtype=faultline,default_permissions") != 0 ||
	    (server.options.allow_other && fuse_opt_add_opt(&list, "allow_other") != 0) ||
	    (server.options.kernel[0] != '\0' &&
	     fuse_opt_add_opt(&list, server.options.kernel) != 0) ||
	    fuse_opt_add_arg(&args, "faultline") != 0 || fuse_opt_add_arg(&args, "-o") != 0 ||
	    fuse_opt_add_arg(&args, list) != 0)
		err = why_set(why, -ENOMEM, "%s", strerror(ENOMEM));
	fuse_set_log_func(remember_line);
	if (err == 0) {
		session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
		if (session == NULL)
			err = why_set(why, -EINVAL, "%s: %s", server.mnt, fuse_said);
	}
	if (err == 0 && mount_quietly() != 0)
		err = why_set(why, -EIO, "%s: cannot be mounted: %s", server.mnt,
			      fuse_said[0] != '\0' ? fuse_said : "libfuse does not say why");
	fuse_set_log_func(NULL);
	fuse_opt_free_args(&args);
	free(list);
	return err;
}

/* --- the keeper --- */

struct keeper {
	pid_t pid; /* the server's */
	pid_t unmounter;
	int status;	/* the server's, when pid is 0 */
	int pipe_fd;	/* closed, the server drains */
	int ready_fd;	/* the server tells, or -1 */
	int starter_fd; /* who waits for the start, or -1 */
	int signal_fd;
	bool ready;
	bool writing; /* all that is stored: it takes as long as it takes */
	bool stopping;
	bool killed;
	int64_t deadline;	/* of stopping, CLOCK_MONOTONIC in ms; 0: none */
	int thread_fd[WATCHED]; /* threads of the server's, or -1 */
	int64_t stuck_at; /* one of them has ended, and the server has not until then; 0: none has */
	int mounts_fd;	  /* tells when the table of mounts has changed; -1: not watched */
	dev_t dev;	  /* of the mount */
	int64_t gone_at;  /* the mount has gone, and the server goes on until then; 0: neither */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Tell systemd, where that is who started us. */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = path != NULL ? strlen(path) : 0;
	int fd;

	if (n == 0 || n >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Nobody listening is nobody to tell. */
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		errno = 0;
	close(fd);
}

/* Whoever waits for the start is told: an empty line is success. */
static void tell_starter(struct keeper *k, const char *line)
{
	if (k->starter_fd < 0)
		return;
	if (dprintf(k->starter_fd, "%s\n", line) < 0)
		syslog(LOG_WARNING, "%s", "the command that started the server has gone");
	close(k->starter_fd);
	k->starter_fd = -1;
	leave_terminal();
}

static void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (server.options.foreground) {
		fputs("faultline: ", stderr);
		vfprintf(stderr, fmt, ap);
		fputc('\n', stderr);
	} else {
		vsyslog(LOG_ERR, fmt, ap);
	}
	va_end(ap);
}

void server_say(const char *line)
{
	complain("%s", line);
}

/* In a process of its own, as it may wait for the server. */
static _Noreturn void unmount_and_exit(void)
{
	struct why why;
	int err = mounts_unmount(server.mnt, false, &why);

	if (err == -EBUSY) {
		int fd = open(server.mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0) {
			syncfs(fd);
			close(fd);
		}
		err = mounts_unmount(server.mnt, true, &why);
	}
	if (err != 0)
		complain("%s", why.text);
	_exit(err != 0);
}

static void stop(struct keeper *k)
{
	if (k->stopping) {
		/* asked for twice: what is open is not waited for */
		k->deadline = now_ms();
		return;
	}
	k->stopping = true;
	k->deadline = now_ms() + DRAIN_SECONDS * 1000;
	notify("STOPPING=1");
	k->unmounter = fork();
	if (k->unmounter == 0) {
		/* Not to keep what the server listens to. */
		close(k->pipe_fd);
		unmount_and_exit();
	}
}

static void late(struct keeper *k)
{
	if (k->pipe_fd >= 0) {
		close(k->pipe_fd);
		k->pipe_fd = -1;
		k->deadline = k->writing ? 0 : now_ms() + KILL_SECONDS * 1000;
	} else if (k->writing) {
		k->deadline = 0; /* whoever sends a signal */
	} else {
		kill(k->pid, SIGKILL);
		k->killed = true;
		k->deadline = 0;
	}
}

/*
 * A thread of a server that was killed may be waiting in the kernel for an answer that
 * the server does not give any more: closing a file of the mount, or having data of
 * the mount forgotten while they are read.  The kernel ends the connection when the last
 * thread has ended, so we end it.  An ordinary user cannot.
 */
static void unstick(struct keeper *k)
{
	char type[64], source[PATH_MAX];

	k->stuck_at = 0;
	if (mounts_type(server.mnt, type, sizeof(type), source, sizeof(source)) == 0 &&
	    strcmp(type, STORE_FSTYPE) == 0 && strcmp(source, server.store->dir) == 0 &&
	    umount2(server.mnt, MNT_FORCE | MNT_DETACH) != 0)
		complain("%s: the server does not end: %s", server.store->dir, strerror(errno));
}

static void thread_ended(struct keeper *k, unsigned i)
{
	close(k->thread_fd[i]);
	k->thread_fd[i] = -1;
	/* both end when it drains, too: a signal gives that a deadline of its own */
	if (k->stuck_at == 0 && !k->stopping)
		k->stuck_at = now_ms() + STUCK_MS;
}

static void watch_mounts(struct keeper *k)
{
	k->mounts_fd = mounts_device(server.mnt, &k->dev) == 0 ? mounts_watch() : -1;
}

static void mounts_changed(struct keeper *k)
{
	if (!mounts_gone(k->dev))
		return;
	close(k->mounts_fd);
	k->mounts_fd = -1;
	/* nearly always it ends by itself: no other namespace has it, and nothing is open */
	k->gone_at = now_ms() + GONE_MS;
}

static void tell_unmounted(struct keeper *k)
{
	k->gone_at = 0;
	if (k->pipe_fd >= 0 && write(k->pipe_fd, "", 1) < 0)
		errno = 0; /* it has ended just now */
}

static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->pid) {
			k->status = status;
			k->pid = 0;
		} else if (pid == k->unmounter) {
			k->unmounter = 0;
		}
	}
}

static void take_signal(struct keeper *k)
{
	struct signalfd_siginfo si;

	if (read(k->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	if (si.ssi_signo == SIGCHLD)
		reap(k);
	else
		stop(k);
}

static void take_writing(struct keeper *k)
{
	k->writing = true;
	k->deadline = 0;
}

static void take_ready(struct keeper *k, const char *text, ssize_t n)
{
	struct ready_text t;

	memcpy(&t, text, sizeof(t));
	/* a kernel before 6.9 tells of whole processes only */
	for (unsigned i = 0; i < WATCHED; i++)
		k->thread_fd[i] = (int)syscall(SYS_pidfd_open, t.watched[i], PIDFD_THREAD);
	notify("READY=1");
	tell_starter(k, "");
	if (n > (ssize_t)sizeof(t))
		take_writing(k);
}

/* What the server told: that it serves, or why it cannot; that it writes; nothing more at its end. */
static void take_told(struct keeper *k)
{
	char text[1024];
	ssize_t n = read(k->ready_fd, text, sizeof(text) - 1);

	if (n <= 0) {
		close(k->ready_fd);
		k->ready_fd = -1;
		return;
	}
	text[n] = '\0';
	if (k->ready)
		take_writing(k);
	else if (text[0] == 1 && n >= (ssize_t)sizeof(struct ready_text))
		take_ready(k, text, n);
	else if (k->starter_fd >= 0)
		tell_starter(k, text);
	else
		complain("%s", text);
	k->ready = true; /* or told why not */
}

/* After the server's end: no mount is left, and how it ended is told. */
static int keep_end(struct keeper *k)
{
	char type[64], source[PATH_MAX];
	struct why why;

	while (k->unmounter > 0 && waitpid(k->unmounter, NULL, 0) < 0 && errno == EINTR)
		continue;
	if (mounts_type(server.mnt, type, sizeof(type), source, sizeof(source)) == 0 &&
	    strcmp(type, STORE_FSTYPE) == 0 && strcmp(source, server.store->dir) == 0 &&
	    mounts_unmount(server.mnt, true, &why) != 0)
		complain("%s", why.text);
	/* the server's own, which it removes unless it was killed */
	unlinkat(server.store->dir_fd, STORE_SOCKET, 0);
	if (WIFEXITED(k->status) && WEXITSTATUS(k->status) == 0)
		return 0;
	if (!k->ready && k->starter_fd >= 0)
		tell_starter(k, "the server ended before it could serve");
	if (WIFSIGNALED(k->status) && WTERMSIG(k->status) == SIGSYS)
		complain("%s: the server made a system call that it may not make, and was ended",
			 server.store->dir);
	else if (k->killed)
		complain("%s: the server did not end in time and was killed", server.store->dir);
	else if (WIFSIGNALED(k->status))
		complain("%s: the server was ended by signal %d", server.store->dir,
			 WTERMSIG(k->status));
	return -EIO;
}

/* How long until the first of these times, in ms; -1: there is none. */
static int time_left(const struct keeper *k)
{
	const int64_t times[] = {k->deadline, k->stuck_at, k->gone_at};
	int64_t first = 0, now = now_ms();

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (times[i] != 0 && (first == 0 || times[i] < first))
			first = times[i];
	return first == 0 ? -1 : first > now ? (int)(first - now) : 0;
}

static bool is_time(int64_t at)
{
	return at != 0 && now_ms() >= at;
}

static int keep(struct keeper *k)
{
	while (k->pid != 0) {
		struct pollfd fds[3 + WATCHED] = {
			{.fd = k->signal_fd, .events = POLLIN},
			{.fd = k->ready_fd, .events = POLLIN},
			{.fd = k->mounts_fd, .events = POLLPRI},
		};

		for (unsigned i = 0; i < WATCHED; i++)
			fds[3 + i] = (struct pollfd){.fd = k->thread_fd[i], .events = POLLIN};
		if (poll(fds, 3 + WATCHED, time_left(k)) < 0)
			continue;
		if ((fds[0].revents & POLLIN) != 0)
			take_signal(k);
		if (k->ready_fd >= 0 && fds[1].revents != 0)
			take_told(k);
		if (fds[2].revents != 0)
			mounts_changed(k);
		for (unsigned i = 0; i < WATCHED; i++)
			if (k->thread_fd[i] >= 0 && fds[3 + i].revents != 0)
				thread_ended(k, i);
		if (k->pid != 0 && is_time(k->stuck_at))
			unstick(k);
		if (k->pid != 0 && is_time(k->gone_at))
			tell_unmounted(k);
		if (k->pid != 0 && is_time(k->deadline))
			late(k);
	}
	return keep_end(k);
}

/* Start the server and keep it; the end of the keeper's process, or -errno. */
static int keeper_run(int starter_fd, struct why *why)
{
	struct keeper k = {.starter_fd = starter_fd, .thread_fd = {-1, -1}, .mounts_fd = -1};
	int down[2], up[2], err = 0;
	sigset_t set;
	struct why ignored;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* what is too large for a limit of ours is refused: whoever asked for it is to hear that */
	signal(SIGXFSZ, SIG_IGN);
	k.signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (k.signal_fd < 0 || pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0)
		err = why_set(why, -errno, "%s", strerror(errno));
	if (err == 0)
		err = store_lock_note(server.store, getpid(), server.mnt, why);
	if (err == 0) {
		watch_mounts(&k);
		k.pid = fork();
		if (k.pid < 0)
			err = why_set(why, -errno, "a process cannot be made: %s", strerror(errno));
	}
	if (err != 0) {
		mounts_unmount(server.mnt, true, &ignored);
		return err;
	}
	if (k.pid == 0) {
		close(k.signal_fd);
		close(down[1]);
		close(up[0]);
		if (k.mounts_fd >= 0)
			close(k.mounts_fd);
		if (starter_fd >= 0)
			close(starter_fd);
		server.ready_fd = up[1];
		if (!server.options.foreground)
			leave_terminal();
		err = serve(down[0], why);
		if (err != 0)
			dprintf(up[1], "%s", why->text);
		exit(err != 0);
	}
	close(down[0]);
	close(up[1]);
	/* The mount lives as long as the server's own descriptor. */
	close(fuse_session_fd(session));
	k.pipe_fd = down[1];
	k.ready_fd = up[0];
	return keep(&k);
}

/* In the background: this process waits until the server serves. */
static int run_behind(struct why *why)
{
	char text[1024];
	int fds[2], err;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return why_set(why, -errno, "%s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return why_set(why, -errno, "a process cannot be made: %s", strerror(errno));
	if (pid == 0) {
		close(fds[0]);
		setsid();
		if (chdir("/") != 0)
			_exit(1);
		openlog("faultline", LOG_PID, LOG_DAEMON);
		err = keeper_run(fds[1], why);
		if (err != 0)
			dprintf(fds[1], "%s\n", why->text);
		exit(err != 0);
	}
	close(fds[1]);
	/* The server's own descriptor is the keeper's and the server's. */
	close(fuse_session_fd(session));
	while (len + 1 < sizeof(text) &&
	       ((n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0 ||
		(n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	close(fds[0]);
	text[len] = '\0';
	if (len != 0 && text[0] == '\n')
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return why_set(why, -EIO, "%s", len != 0 ? text : "the server ended at once");
}

int server_run(struct why *why)
{
	int err = mounts_clean(server.store, server.mnt, why);

	if (err == 0)
		err = mounts_check(server.store, server.mnt, why);
	if (err == 0)
		err = do_mount(why);
	if (err != 0)
		return err;
	if (!server.options.foreground)
		return run_behind(why);
	why->text[0] = '\0';
	return keeper_run(-1, why);
}
