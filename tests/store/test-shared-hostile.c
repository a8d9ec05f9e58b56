/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-shared-hostile.c - clients of a store's page cache that do not keep to
 * what is agreed: they lose, and nobody else.
 *
 * usage: test-shared-hostile [TEST]
 */
#include "shared.h"

#include "mm.h"
#include "store-wire.h"
#include "uffd.h"

#include <dirent.h>
#include <linux/userfaultfd.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static int connect_raw(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	size_t n = (size_t)snprintf(to.sun_path, sizeof(to.sun_path), "%s/store/socket", base);

	assert_true(sock >= 0 && n < sizeof(to.sun_path));
	assert_int_equal(connect(sock, (struct sockaddr *)&to, sizeof(to)), 0);
	return sock;
}

static void send_many(int sock, struct wire_msg m, const int *with, size_t n)
{
	struct iovec iov = {&m, sizeof(m)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control = {.head = {CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	m.version = WIRE_VERSION;
	wire_convert(&m);
	if (n != 0) {
		memcpy(CMSG_DATA(&control.head), with, n * sizeof(int));
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &h, MSG_NOSIGNAL), (ssize_t)sizeof(m));
}

static void send_raw(int sock, struct wire_msg m, int with)
{
	send_many(sock, m, &with, with >= 0);
}

/* The next message; type 0: the connection was closed. */
static struct wire_msg hear_raw(int sock, int fds[3])
{
	struct pollfd f = {.fd = sock, .events = POLLIN};
	struct wire_msg m = {.type = 0};
	struct iovec iov = {&m, sizeof(m)};
	char control[CMSG_SPACE(3 * sizeof(int))];
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};

	fds[0] = fds[1] = fds[2] = -1;
	assert_int_equal(poll(&f, 1, HANG_SECONDS * 1000), 1);
	if (recvmsg(sock, &h, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(m))
		m.type = 0;
	else if (h.msg_controllen >= CMSG_LEN(3 * sizeof(int)))
		memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&h)), 3 * sizeof(int));
	wire_convert(&m);
	return m;
}

static const struct wire_msg hello_files = {.type = WIRE_HELLO, .flags = WIRE_FILES};

/* A file that is asked for: how that is answered. */
static int ask_file(int sock, int with, uint32_t flags)
{
	int fds[3];
	struct wire_msg m;

	send_raw(sock, (struct wire_msg){.type = WIRE_FILE, .flags = flags, .request = 9}, with);
	m = hear_raw(sock, fds);
	assert_int_equal(m.type, WIRE_ANSWER);
	assert_int_equal(m.request, 9);
	if (m.error == 0) {
		/* nobody makes what others map smaller */
		assert_int_equal(ftruncate(fds[0], 0), -1);
		assert_int_equal(ftruncate(fds[1], 0), -1);
		/* nor do words become others, nor pages without the right to that */
		assert_int_equal(fcntl(fds[1], F_GETFL) & O_ACCMODE, O_RDONLY);
		for (unsigned i = 0; i < 3; i += 2)
			assert_int_equal(fcntl(fds[i], F_GETFL) & O_ACCMODE,
					 flags & WIRE_WRITE ? O_RDWR : O_RDONLY);
		if (geteuid() == 0) {
			setfsuid(65534);
			for (unsigned i = 0; i < 3; i++) {
				char path[64];

				snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
				assert_int_equal(open(path, O_RDWR | O_CLOEXEC), -1);
			}
			setfsuid(0);
		}
		for (unsigned i = 0; i < 3; i++)
			close(fds[i]);
	}
	return m.error;
}

/* Pages that are said to be newer than the file: how that is answered. */
static int give_back(int sock, uint64_t birth, int file, int memfd, int words, int marks)
{
	const int with[4] = {file, memfd, words, marks};
	struct wire_msg m;
	int fds[3];

	send_many(sock, (struct wire_msg){.type = WIRE_RETURN, .request = 4, .slots = birth}, with,
		  4);
	m = hear_raw(sock, fds);
	assert_int_equal(m.type, WIRE_ANSWER);
	assert_int_equal(m.request, 4);
	return m.error;
}

static uint64_t birth_of(const char *path)
{
	struct statx st;

	assert_int_equal(statx(AT_FDCWD, path, 0, STATX_BTIME, &st), 0);
	return (uint64_t)st.stx_btime.tv_sec * 1000000000U + st.stx_btime.tv_nsec;
}

/* Who brings pages of a file must be allowed to write it, and bring what can be read without waiting. */
static void hostile_returns(void **state)
{
	static const uint32_t stored[2] = {5, 5}; /* up to date and dirty, so it says */
	int pair[2], sock, uffd, memfd, words, f, read_only;
	static uint64_t buf[WORDS];
	uint64_t birth;
	int fds[3];

	(void)state;
	make_file(8);
	birth = birth_of(in_base("store/files/data"));
	serve(CACHE);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	read_only = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pipe(pair), 0);
	memfd = memfd_create("pages", MFD_CLOEXEC);
	words = memfd_create("words", MFD_CLOEXEC);
	fill(buf, 1, 3);
	assert_int_equal(pwrite(memfd, buf, PG, PG), (ssize_t)PG);
	assert_int_equal(ftruncate(memfd, 1L << 50), 0);
	assert_int_equal(pwrite(words, stored, sizeof(stored), 0), (ssize_t)sizeof(stored));
	assert_int_equal(ftruncate(words, 1L << 50), 0);
	uffd = (int)uffd_open(uffd_device());
	sock = connect_raw();
	send_raw(sock, hello_files, uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	assert_true(give_back(sock, birth, read_only, memfd, words, words) < 0);
	assert_true(give_back(sock, birth, f, pair[0], words, words) < 0);
	assert_true(give_back(sock, birth, f, memfd, pair[0], words) < 0);
	assert_true(give_back(sock, birth, f, memfd, words, pair[0]) < 0);
	assert_int_equal(give_back(sock, birth + 1, f, memfd, words, words), -ESTALE);
	assert_int_equal(give_back(sock, 0, f, memfd, words, words), -ESTALE);
	check_file("mnt/files/data", 0, 8, 1, 1);
	/* what it may write by write(2) it may bring so; what is no page of the memfd's is none */
	assert_int_equal(give_back(sock, birth, f, memfd, words, words), 0);
	check_file("mnt/files/data", 0, 1, 1, 1);
	check_file("mnt/files/data", 1, 1, 1, 3);
	check_file("store/files/data", 2, 6, 1, 1);
	/* another memfd for the same file */
	assert_int_equal(give_back(sock, birth, f, words, memfd, words), -EBUSY);
	close(sock);
	close(uffd);
	close(memfd);
	close(words);
	close(f);
	close(read_only);
	close(pair[0]);
	close(pair[1]);
}

static void hostile_clients(void **state)
{
	int sock, uffd, fds[3], f, pair[2];
	struct process p;
	char *own;

	(void)state;
	begin_mapped(&p, 1, CACHE);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	assert_true(f >= 0);
	/* no userfaultfd */
	assert_int_equal(pipe(pair), 0);
	sock = connect_raw();
	send_raw(sock, hello_files, pair[0]);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
	assert_int_equal(hear_raw(sock, fds).type, 0);
	close(sock);
	close(pair[0]);
	close(pair[1]);
	/* one that waits when it is read, and of which nothing was asked */
	uffd = (int)uffd_open(uffd_device());
	assert_true(uffd >= 0);
	assert_int_equal(fcntl(uffd, F_SETFL, 0), 0);
	own = mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(own, MAP_FAILED);
	assert_int_equal(uffd_register(uffd, (uintptr_t)own, 64 * PG, false), 0);
	sock = connect_raw();
	send_raw(sock, hello_files, uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	/* files that are not its to share */
	{
		int passwd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
		int dir = open(in_base("mnt/files"), O_RDONLY | O_CLOEXEC);
		int host = open(in_base("store/files/data"), O_RDWR | O_CLOEXEC);
		int path = open(in_base("mnt/files/data"), O_PATH | O_CLOEXEC);
		int read_only = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);

		assert_true(ask_file(sock, passwd, 0) < 0);
		assert_true(ask_file(sock, dir, 0) < 0);
		assert_true(ask_file(sock, host, WIRE_WRITE) < 0);
		assert_true(ask_file(sock, path, 0) < 0);
		assert_true(ask_file(sock, read_only, WIRE_WRITE) < 0);
		assert_int_equal(ask_file(sock, read_only, 0), 0);
		close(passwd);
		close(dir);
		close(host);
		close(path);
		close(read_only);
	}
	assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
	/* ranges where it has nothing, or something else: file 1 is for writing */
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 1,
				   .member = 1,
				   .mm_addr = 1UL << 40,
				   .bytes = PAGES * PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).error, 0);
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 2,
				   .member = 1,
				   .mm_addr = (uintptr_t)own,
				   .bytes = 64 * PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).error, 0);
	/* what others store is written, and what they load is right */
	OK(&p, STORE, 0, PAGES, 1, 3);
	OK(&p, CHECK, 0, PAGES, 1, 3);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, PAGES, 1, 3);
	/* a file that it does not have ends it */
	send_raw(sock,
		 (struct wire_msg){.type = WIRE_MAP,
				   .request = 3,
				   .member = 77,
				   .mm_addr = 1UL << 41,
				   .bytes = PG},
		 -1);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
	assert_int_equal(hear_raw(sock, fds).type, 0);
	close(sock);
	OK(&p, STORE, 0, PAGES, 1, 4);
	check_file("mnt/files/data", 0, PAGES, 1, 4);
	close(uffd);
	munmap(own, 64 * PG);
	close(f);
	finish(&p);
}

static int take(int sock, uint32_t flags, uint64_t birth, const int *with, size_t n)
{
	struct wire_msg m = {
		.type = WIRE_TAKE, .flags = flags, .request = 5, .slots = birth, .mm_addr = 1};
	int fds[3];

	send_many(sock, m, with, n);
	m = hear_raw(sock, fds);
	assert_int_equal(m.type, WIRE_ANSWER);
	assert_int_equal(m.request, 5);
	return m.error;
}

/* A memfd as a server makes them. */
static int like_a_server(const char *name)
{
	int memfd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0);
	assert_int_equal(fchmod(memfd, 0600), 0);
	return memfd;
}

/* Who says that a server before left something brings what one made of that file, and comes once. */
static void hostile_takes(void **state)
{
	int sock, uffd, f, other, read_only, fds[3], pair[2], memfd[3], like[3];
	static const uint32_t stored[2] = {5, 5};
	uint64_t birth;

	(void)state;
	make_file(8);
	birth = birth_of(in_base("store/files/data"));
	serve(CACHE);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	read_only = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);
	other = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pipe(pair), 0);
	for (unsigned i = 0; i < 3; i++) {
		memfd[i] = memfd_create("any", MFD_CLOEXEC);
		like[i] = like_a_server("faultline-cache");
		assert_int_equal(pwrite(like[i], stored, sizeof(stored), 0),
				 (ssize_t)sizeof(stored));
	}
	uffd = (int)uffd_open(uffd_device());
	sock = connect_raw();
	send_raw(sock, (struct wire_msg){.type = WIRE_HELLO, .flags = WIRE_FILES | WIRE_AGAIN},
		 uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	assert_true(take(sock, WIRE_WRITE, birth, &read_only, 1) < 0);
	assert_true(take(sock, 0, birth, &other, 1) < 0);
	assert_int_equal(take(sock, 0, birth, &f, 1), -EAGAIN);
	assert_int_equal(take(sock, 0, birth + 1, &f, 1), -ESTALE);
	assert_int_equal(take(sock, 0, 0, &f, 1), -ESTALE);
	for (unsigned i = 0; i < 3; i++) {
		int with[4] = {f, like[0], like[1], like[2]};

		with[1 + i] = pair[0];
		assert_int_equal(take(sock, WIRE_WRITE, birth, with, 4), -EBADF);
		with[1 + i] = memfd[i];
		assert_int_equal(take(sock, WIRE_WRITE, birth, with, 4), -EPERM);
		/* of no file, or of another one */
		with[1 + i] = like[i];
		assert_int_equal(take(sock, WIRE_WRITE, birth, with, 4), -EPERM);
	}
	check_file("mnt/files/data", 0, 8, 1, 1);
	send_raw(sock, (struct wire_msg){.type = WIRE_GO, .request = 6}, -1);
	assert_int_equal(hear_raw(sock, fds).error, 0);
	/* of who did not come so there is nothing to wait for */
	close(sock);
	close(uffd);
	uffd = (int)uffd_open(uffd_device());
	sock = connect_raw();
	send_raw(sock, hello_files, uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	send_raw(sock, (struct wire_msg){.type = WIRE_GO, .request = 6}, -1);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
	assert_int_equal(hear_raw(sock, fds).type, 0);
	close(sock);
	close(uffd);
	for (unsigned i = 0; i < 3; i++) {
		close(memfd[i]);
		close(like[i]);
	}
	close(f);
	close(other);
	close(read_only);
	close(pair[0]);
	close(pair[1]);
}

/* A server that speaks before it is asked: the program goes on. */
static void hostile_server(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const struct wire_msg first = {
		.type = WIRE_FAULT, .mm_addr = PG, .bytes = PG, .flags = WIRE_STORES};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char real[PATH_MAX];
	struct process p;
	pid_t pid;
	size_t n;

	(void)state;
	snprintf(real, sizeof(real), "%s", in_base("real"));
	serve(CACHE);
	make_file(PAGES);
	start(&p);
	OK(&p, OPEN, 0, 0, 0, 0);
	assert_int_equal(rename(in_base("store/socket"), real), 0);
	n = (size_t)snprintf(at.sun_path, sizeof(at.sun_path), "%s/store/socket", base);
	assert_true(n < sizeof(at.sun_path));
	assert_int_equal(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(sock, 8), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int c, fds[3];

		test_child();
		alarm(HANG_SECONDS / 5);
		c = accept4(sock, NULL, NULL, SOCK_CLOEXEC);
		assert_int_equal(hear_raw(c, fds).type, WIRE_HELLO);
		send_raw(c, first, -1);
		_exit(0);
	}
	close(sock);
	/* what it maps it pages by itself */
	OK(&p, MAP, 0, PAGES, 0, 1);
	OK(&p, CHECK, 0, 10, 1, 1);
	test_reap(pid);
	finish(&p);
	assert_int_equal(rename(real, in_base("store/socket")), 0);
}

static unsigned descriptors_of_server(void)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)number_in(in_base("mnt/stats"), "pid: "));
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

enum nonsense {
	A_FIFO,
	A_PIPE_FOR_A_MEMFD,
	A_DIRECTORY,
	A_PATH,
	FOR_WRITING,
	A_DEVICE,
	NOTHING,
	ALL_OF_THESE, /* of many files that it has not */
	ANOTHERS,     /* that the server paged it, with a memfd of its own */
	NONSENSE_END
};

static int nonsense(enum nonsense what)
{
	int pair[2];

	switch (what) {
	case A_FIFO:
		mkfifo(in_base("fifo"), 0600);
		return open(in_base("fifo"), O_RDWR | O_CLOEXEC);
	case A_PIPE_FOR_A_MEMFD:
		if (pipe(pair) != 0)
			return -1;
		close(pair[1]);
		return pair[0];
	case A_DIRECTORY:
		return open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case A_PATH:
		return open("/etc/passwd", O_PATH | O_CLOEXEC);
	case FOR_WRITING:
		return open(in_base("mnt/files/data"), O_WRONLY | O_CLOEXEC);
	default:
		return open("/dev/zero", O_RDONLY | O_CLOEXEC);
	}
}

/*
 * A second client for the runtime of this process, which maps the file by itself and does not say
 * what is behind that, but something else: where that is mapped.
 */
static int64_t tell_nonsense(uint64_t what, uint64_t seed)
{
	const int own[3] = {open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
			    open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
			    open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
	int sock = connect_raw(), memfd = memfd_create("mine", MFD_CLOEXEC), none[3];
	int file = open(in_base("mnt/files/data"), O_RDONLY | O_CLOEXEC);
	char *at = fl_mmap(fl, NULL, PAGES * PG, PROT_READ, MAP_PRIVATE, file, 0);
	struct region *r = region_find(&fl->mm->regions, (uintptr_t)at);
	struct wire_msg m = {.type = WIRE_BACKING, .mm_addr = (uintptr_t)r->users};

	if (at == FL_FAILED || ftruncate(memfd, PAGES * PG) != 0)
		return -1;
	send_many(sock, (struct wire_msg){.type = WIRE_HELLO, .mm_addr = (uintptr_t)fl->mm}, own,
		  3);
	while (hear_raw(sock, none).type != WIRE_ATTACHED)
		continue;
	switch ((enum nonsense)what) {
	case NOTHING:
		break;
	case ALL_OF_THESE:
		for (unsigned i = 0; i < 3000; i++) {
			m.mm_addr = seed + i;
			none[0] = nonsense(i % NOTHING);
			send_many(sock, m, (int[]){memfd, none[0]}, 2);
			close(none[0]);
		}
		break;
	case ANOTHERS:
		send_raw(sock, m, memfd);
		r->flags |= REGION_SHARED | REGION_REMOTE;
		break;
	case A_PIPE_FOR_A_MEMFD:
		send_many(sock, m, (int[]){nonsense(A_PIPE_FOR_A_MEMFD), file}, 2);
		break;
	default:
		send_many(sock, m, (int[]){memfd, nonsense((enum nonsense)what)}, 2);
	}
	return (int64_t)(uintptr_t)at;
}

/* What a process says is behind its mappings is read if it is a file, and nothing else is. */
static void hostile_backings(void **state)
{
	static uint64_t buf[WORDS];
	unsigned had = 0;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	shared_run = tell_nonsense;
	for (uint64_t what = 0; what < NONSENSE_END; what++) {
		struct process p;
		char path[64];
		int64_t at;
		int f;

		start(&p);
		at = DO(&p, RUN, what, 0, 0, 1UL << 40);
		assert_true(at > 0);
		snprintf(path, sizeof(path), "mnt/proc/%d.2/mem", (int)p.pid);
		f = open(in_base(path), O_RDONLY | O_CLOEXEC);
		assert_true(f >= 0);
		/* before and after it was heard */
		for (unsigned i = 0; i < 30; i++) {
			assert_int_equal(pread(f, buf, PG, (off_t)at), -1);
			assert_int_equal(errno, EIO);
		}
		close(f);
		if (what != ANOTHERS) {
			ssize_t got;

			/* what the runtime said itself is shown, when that was heard */
			snprintf(path, sizeof(path), "mnt/proc/%d/mem", (int)p.pid);
			f = open(in_base(path), O_RDONLY | O_CLOEXEC);
			assert_true(f >= 0);
			until((got = pread(f, buf, PG, (off_t)at + 7 * (off_t)PG)) >= 0 ||
			      errno != EIO);
			assert_int_equal(got, PG);
			assert_int_equal(differs(buf, 7, 1), WORDS);
			close(f);
		}
		kill_it(&p);
		/* nothing is kept of one that has ended, but of the file, which is known since the first */
		until(had == 0 || descriptors_of_server() <= had);
		until(access(in_base(path), F_OK) != 0);
		had = descriptors_of_server();
	}
	unlink(in_base("fifo"));
}

/* One that tells of what is dropped, and waits until that is read. */
static int open_telling(void)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_NEEDED | UFFD_FEATURE_EVENT_REMOVE};
	int device = (int)uffd_device();
	int uffd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	assert_true(uffd >= 0);
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	close(device);
	return uffd;
}

static void *drop(void *own)
{
	return madvise(own, PG, MADV_DONTNEED) == 0 ? NULL : own;
}

/* What it has run, ms. */
static uint64_t time_of_server(void)
{
	unsigned long user, system;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat",
		 (int)number_in(in_base("mnt/stats"), "pid: "));
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				&user, &system),
			 2);
	fclose(f);
	return (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

#define LOOK_MS 1500

/* Nobody reads that: whether it lives is looked at all the same, and in no time. */
static void leave_unread(int uffd, char *own)
{
	struct pollfd f = {.fd = uffd, .events = POLLIN};
	struct uffd_msg msg;
	uint64_t before;
	pthread_t thread;
	void *failed;

	assert_int_equal(pthread_create(&thread, NULL, drop, own), 0);
	assert_int_equal(poll(&f, 1, HANG_SECONDS * 1000), 1);
	before = time_of_server();
	poll(NULL, 0, LOOK_MS);
	assert_true(time_of_server() - before < LOOK_MS / 5);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), (ssize_t)sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_REMOVE);
	pthread_join(thread, &failed);
	assert_null(failed);
}

/* One that comes and goes all the time, each time with something mapped, which it might come for again. */
static void comes_and_goes(void **state)
{
	const unsigned often = 500;
	int sock, uffd, fds[3], f;
	struct process p;
	char *own;

	(void)state;
	begin_mapped(&p, 1, CACHE);
	OK(&p, STORE, 0, 10, 1, 2);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	uffd = open_telling();
	assert_true(f >= 0);
	own = mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(own, MAP_FAILED);
	/* it is there: no fault of ours */
	memset(own, 1, PG);
	assert_int_equal(uffd_register(uffd, (uintptr_t)own, 64 * PG, true), 0);
	for (unsigned i = 0; i < often; i++) {
		sock = connect_raw();
		send_raw(sock, hello_files, uffd);
		assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
		assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
		send_raw(sock,
			 (struct wire_msg){.type = WIRE_MAP,
					   .request = 1,
					   .mm_addr = (uintptr_t)own,
					   .bytes = 64 * PG},
			 -1);
		assert_int_equal(hear_raw(sock, fds).error, 0);
		close(sock);
	}
	/* what it is asked for after an end is done behind that */
	OK(&p, SYNC, 0, 10, 0, 0);
	assert_true(descriptors_of_server() < often);
	leave_unread(uffd, own);
	OK(&p, CHECK, 0, 10, 1, 2);
	OK(&p, CHECK, 10, PAGES - 10, 1, 1);
	close(f);
	close(uffd);
	munmap(own, 64 * PG);
	finish(&p);
}

static int greeted(int uffd)
{
	int sock = connect_raw(), fds[3];

	send_raw(sock, hello_files, uffd);
	assert_int_equal(hear_raw(sock, fds).type, WIRE_ATTACHED);
	return sock;
}

/* What is asked of a range: how that is answered. */
static int ask_range(int sock, struct wire_msg m)
{
	int fds[3];

	m.request = 7;
	send_raw(sock, m, -1);
	m = hear_raw(sock, fds);
	assert_int_equal(m.type, WIRE_ANSWER);
	assert_int_equal(m.request, 7);
	return m.error;
}

#define FAR (1UL << 40)
#define MANY 200000UL

/* Options of ranges that are none, that are many, and that want everything. */
static void hostile_wishes(void **state)
{
	static const struct wire_msg bad[] = {
		{.prio = -1}, {.prio = FL_PRIORITY_HOT + 1},  {.prio = INT32_MIN},
		{.count = 1}, {.count = WIRE_WINDOW_MIN - 1},
	};
	const struct wire_msg want = {.type = WIRE_ADVISE, .flags = WIRE_WANT, .bytes = PG};
	struct wire_msg range = {.type = WIRE_MAP, .mm_addr = FAR, .bytes = MANY * PG}, m;
	int f, uffd = (int)uffd_open(uffd_device()), sock, fds[3], err = 0;
	unsigned long many = 0;
	struct process p;

	(void)state;
	serve(CACHE);
	make_file(PAGES);
	start(&p);
	OK(&p, MAP, 0, PAGES, 0, 1);
	f = open(in_base("mnt/files/data"), O_RDWR | O_CLOEXEC);
	for (unsigned i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
		m = bad[i / 2];
		m.type = i % 2 ? WIRE_MAP : WIRE_ADVISE;
		m.flags = i % 2 ? 0 : WIRE_WANT;
		m.mm_addr = FAR;
		m.bytes = PG;
		sock = greeted(uffd);
		assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
		send_raw(sock, m, -1);
		assert_int_equal(hear_raw(sock, fds).type, WIRE_ERROR);
		assert_int_equal(hear_raw(sock, fds).type, 0);
		close(sock);
	}
	/* as many kinds as it can think of, on what it has mapped and what not */
	sock = greeted(uffd);
	assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
	range.prio = FL_PRIORITY_COLD;
	range.count = UINT32_MAX;
	assert_int_equal(ask_range(sock, range), 0);
	for (unsigned i = 0; i < 3000; i++) {
		m = want;
		m.mm_addr = FAR + (MANY - 1000 + i) * PG;
		m.prio = (int32_t)(i % 3);
		m.count = WIRE_WINDOW_MIN + i;
		assert_int_equal(ask_range(sock, m), 0);
	}
	/* advice that makes parts of one mapping, and takes away what it was: not without an end */
	range.mm_addr = 2 * FAR;
	range.flags = WIRE_IN_ORDER;
	assert_int_equal(ask_range(sock, range), 0);
	for (; err == 0 && many < MANY / 2; many++) {
		m = want;
		m.flags = many % 2 != 0 ? WIRE_NORMAL : WIRE_WANT;
		m.mm_addr = 2 * FAR + 2 * many * PG;
		err = ask_range(sock, m);
	}
	assert_int_equal(err, -ENOMEM);
	assert_true(many > 1000);
	m = (struct wire_msg){.type = WIRE_UNMAP, .mm_addr = FAR + PG, .bytes = PG};
	for (err = 0, many = 0; err == 0 && many < 4; many++, m.mm_addr += 2 * PG)
		err = ask_range(sock, m);
	assert_int_equal(err, -ENOMEM);
	OK(&p, STORE, 0, PAGES, 1, 2);
	close(sock);
	/* everything in small pieces, and hot */
	sock = greeted(uffd);
	assert_int_equal(ask_file(sock, f, WIRE_WRITE), 0);
	range = (struct wire_msg){.type = WIRE_MAP, .bytes = PAGES * PG};
	for (unsigned i = 0; i < 4; i++) {
		range.mm_addr = FAR + i * 2 * PAGES * PG;
		assert_int_equal(ask_range(sock, range), 0);
		for (unsigned k = i % 2; k < PAGES; k += 2) {
			m = want;
			m.prio = FL_PRIORITY_HOT;
			m.mm_addr = range.mm_addr + k * PG;
			assert_int_equal(ask_range(sock, m), 0);
		}
	}
	OK(&p, CHECK, 0, PAGES, 1, 2);
	OK(&p, STORE, 0, PAGES, 1, 3);
	OK(&p, CHECK, 0, PAGES, 1, 3);
	OK(&p, SYNC, 0, PAGES, 0, 0);
	check_file("store/files/data", 0, PAGES, 1, 3);
	close(sock);
	close(uffd);
	close(f);
	finish(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hostile_clients, begin, end),
		cmocka_unit_test_setup_teardown(hostile_returns, begin, end),
		cmocka_unit_test_setup_teardown(hostile_takes, begin, end),
		cmocka_unit_test_setup_teardown(hostile_wishes, begin, end),
		cmocka_unit_test_setup_teardown(hostile_server, begin, end),
		cmocka_unit_test_setup_teardown(hostile_backings, begin, end),
		cmocka_unit_test_setup_teardown(comes_and_goes, begin, end),
	};

	RUN_TESTS(argc, argv, tests);
}
