/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot.c - 'faultline snapshot': an image of a program's memory, and what is in one.
 *
 * The image is written by the program's own pager: it is found by what the
 * process publishes (publish.h), read through /proc/PID/mem, and is sent the
 * image's descriptor and one end of a socket pair, on which it answers.  When
 * the process ends the other end hangs up.
 */
#include "cli.h"

#include "image-read.h"
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ADDRESS_END ((uint64_t)1 << 57)
#define SHOW_AFTER 1.0 /* seconds without an end after which progress is shown */

static void usage(void)
{
	puts("usage: faultline snapshot [--no-sync] PID FILE\n"
	     "       faultline snapshot --list|--maps|--check IMAGE\n"
	     "       faultline snapshot --extract START-END IMAGE\n"
	     "\n"
	     "Write the memory of a program that faultline pages to a file, as it is at one\n"
	     "instant, while the program goes on; or look into such an image.\n"
	     "\n"
	     "  --no-sync            do not wait until the image is durable\n"
	     "  --list               show an image's ranges\n"
	     "  --maps               show its regions, as in /proc/PID/maps\n"
	     "  --check              compare every page with its checksum\n"
	     "  --extract START-END  write the bytes of a range of addresses to standard output\n"
	     "  --help               show this text\n"
	     "\n"
	     "Exit status: 0 done, 1 not, 2 usage.");
}

/* ---- taking one ---- */

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

union ask_control {
	struct cmsghdr head;
	char room[CMSG_SPACE(2 * sizeof(int))];
};

/* 0 or -errno. */
static int ask(const struct snapshot_port *port, int image, int link, unsigned flags)
{
	struct snapshot_ask what = {.what = SNAPSHOT_ASK, .flags = flags};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct iovec iov = {&what, sizeof(what)};
	union ask_control control;
	struct msghdr m = {
		.msg_name = &addr,
		.msg_namelen = (socklen_t)(sizeof(addr.sun_family) + port->len),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fds[2] = {image, link};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	memcpy(what.token, port->token, sizeof(what.token));
	memcpy(addr.sun_path, port->name, port->len);
	memset(&control, 0, sizeof(control));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(&control.head), fds, sizeof(fds));
	if (sendmsg(fd, &m, 0) < 0)
		err = -errno;
	close(fd);
	return err;
}

static void show(const struct snapshot_answer *a)
{
	fprintf(stderr, "\rsnapshot: %" PRIu64 " of %" PRIu64 " MiB ", a->saved >> 8,
		a->pages >> 8);
}

/* Until the last answer; -EINTR, or -EPIPE when the process has ended. */
static int wait_for_end(int link, struct snapshot_answer *a)
{
	double start = seconds();
	bool shown = false;
	int err = 0;

	do {
		struct pollfd p = {.fd = link, .events = POLLIN};
		ssize_t n;

		if (interrupted || (poll(&p, 1, 1000) < 0 && errno == EINTR)) {
			err = -EINTR;
			break;
		}
		if (!(p.revents & (POLLIN | POLLHUP)))
			continue;
		n = recv(link, a, sizeof(*a), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n != (ssize_t)sizeof(*a)) {
			err = -EPIPE;
			break;
		}
		if (!a->ended && isatty(STDERR_FILENO) && seconds() - start > SHOW_AFTER) {
			show(a);
			shown = true;
		}
	} while (!a->ended);
	if (shown)
		fputc('\n', stderr);
	return err;
}

static int complain(pid_t pid, int err)
{
	switch (err) {
	case -EBUSY:
		cli_error("process %d: another snapshot of it is being taken", (int)pid);
		break;
	case -EPROTO:
		cli_error("process %d runs with a faultline of another version", (int)pid);
		break;
	case -EACCES:
	case -EPERM:
		cli_error(
			"process %d may not be looked into: that takes the permission to trace it",
			(int)pid);
		break;
	case -ENODATA:
		cli_error("process %d has no memory that faultline manages", (int)pid);
		break;
	case -ENOENT:
		cli_error("process %d is not paged, and has no pager to ask: its memory is below "
			  "its limit, and 'faultline run' was not given --snapshots",
			  (int)pid);
		break;
	case -ECONNREFUSED:
		cli_error("process %d cannot be reached: it has ended, or it is in another network "
			  "namespace",
			  (int)pid);
		break;
	case -EPIPE:
		cli_error("process %d ended before the snapshot was complete", (int)pid);
		break;
	case -EINTR:
		cli_error("interrupted: the snapshot of process %d is not complete", (int)pid);
		break;
	default:
		cli_error("process %d: %s", (int)pid, strerror(-err));
	}
	return EXIT_FAILED;
}

static int find_port(pid_t pid, struct snapshot_port *port)
{
	struct process *list;
	int err = process_open(pid, &list);

	if (err != 0)
		return err;
	err = peek_port(&list->peek, port);
	processes_free(list);
	if (err == 0 && port->len == 0)
		err = -ENOENT;
	return err;
}

/* Direct where that can be had: the program may not be allowed to open the file anew. */
static int make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_DIRECT, 0600);

	if (fd < 0 && errno == EINVAL) {
		unlink(path);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	return fd;
}

static int take(pid_t pid, const char *path, unsigned flags)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct snapshot_answer a = {.ended = 0};
	struct snapshot_port port;
	int link[2];
	int err = find_port(pid, &port);
	int fd;

	if (err != 0)
		return complain(pid, err);
	fd = make_file(path);
	if (fd < 0) {
		cli_error("cannot make %s: %s", path, strerror(errno));
		return EXIT_FAILED;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	err = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0 ? -errno : 0;
	if (err == 0) {
		err = ask(&port, fd, link[1], flags);
		close(link[1]);
		if (err == 0)
			err = wait_for_end(link[0], &a);
		close(link[0]);
	}
	close(fd);
	if (err != 0 || a.result < 0) {
		unlink(path);
		if (err == 0 && (a.result == -ENOSPC || a.result == -EIO || a.result == -EFBIG)) {
			cli_error("cannot write %s: %s", path, strerror(-a.result));
			return EXIT_FAILED;
		}
		return complain(pid, err != 0 ? err : a.result);
	}
	if (a.result > 0)
		cli_error("%d pages of process %d are lost, and zeros in the image", a.result,
			  (int)pid);
	printf("%s: %" PRIu64 " MiB of process %d, which stood for %.1f ms\n", path, a.pages >> 8,
	       (int)pid, (double)a.pause_ns * 1e-6);
	return EXIT_OK;
}

/* ---- looking into one ---- */

static void put_list(const struct image *im)
{
	const struct image_footer *f = &im->footer;
	time_t when = (time_t)(f->time / 1000000000U);
	uint64_t data = 0;
	char text[64];
	struct tm tm;

	if (localtime_r(&when, &tm) == NULL ||
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(text, sizeof(text), "?");
	printf("process %" PRIu64 ", %s\n", f->pid, text);
	printf("%-33s %4s %16s %10s %10s\n", "range", "", "offset", "KiB", "not zero");
	for (uint64_t i = 0; i < f->ranges; i++) {
		const struct image_range *r = &im->range[i];
		uint64_t d = image_range_data(im, r);

		printf("%016" PRIx64 "-%016" PRIx64 " %c%c%cp %16" PRIu64 " %10" PRIu64
		       " %10" PRIu64 "\n",
		       r->start, r->end, r->prot & PROT_READ ? 'r' : '-',
		       r->prot & PROT_WRITE ? 'w' : '-', r->prot & PROT_EXEC ? 'x' : '-', r->offset,
		       (r->end - r->start) >> 10, d >> 10);
		data += d;
	}
	printf("%-55s %10" PRIu64 " %10" PRIu64 "\n", "total", f->pages << 2, data >> 10);
	if (f->lost != 0)
		printf("lost: %" PRIu64 " pages\n", f->lost);
}

static int check(const struct image *im, const char *path)
{
	char page[IMAGE_PAGE];
	uint64_t lost = 0, torn = 0, files = 0;

	for (uint64_t i = 0; i < im->footer.ranges; i++) {
		const struct image_range *r = &im->range[i];

		for (uint64_t a = r->start; a < r->end; a += IMAGE_PAGE) {
			enum image_page what;
			int err = image_page(im, a, page, &what);

			if (err != 0) {
				cli_error("%s: address %" PRIx64 ": %s", path, a, strerror(-err));
				return EXIT_FAILED;
			}
			if (what == IMAGE_PAGE_TORN && torn++ < 10)
				cli_error("%s: address %" PRIx64 ": the checksum is wrong", path,
					  a);
			lost += what == IMAGE_PAGE_LOST;
			files += what == IMAGE_PAGE_FILE;
		}
	}
	if (torn != 0) {
		cli_error("%s: damaged: %" PRIu64 " of %" PRIu64 " pages", path, torn,
			  im->footer.pages);
		return EXIT_FAILED;
	}
	printf("%s: whole: %" PRIu64 " pages, %" PRIu64 " of them lost when it was taken", path,
	       im->footer.pages, lost);
	if (files != 0)
		printf(", %" PRIu64 " unwritten ones of mapped files", files);
	putchar('\n');
	return EXIT_OK;
}

static int extract(const struct image *im, const char *path, uint64_t start, uint64_t end)
{
	char page[IMAGE_PAGE];

	while (start < end) {
		uint64_t at = start & ~(IMAGE_PAGE - 1);
		uint64_t stop = at + IMAGE_PAGE < end ? at + IMAGE_PAGE : end;
		enum image_page what;
		int err = image_page(im, at, page, &what);

		if (err == 0 && what == IMAGE_PAGE_FILE) {
			char name[256] = "?";
			uint64_t off = 0;

			image_file(im, at, name, sizeof(name), &off);
			cli_error("%s: address %" PRIx64 ": not in the image: it is that of %s at "
				  "%" PRIu64,
				  path, at, name, off);
			return EXIT_FAILED;
		}
		if (err != 0 || what != IMAGE_PAGE_GOOD) {
			cli_error("%s: address %" PRIx64 ": %s", path, at,
				  err != 0		    ? strerror(-err)
				  : what == IMAGE_PAGE_LOST ? "the page was lost when it was taken"
							    : "the checksum is wrong");
			return EXIT_FAILED;
		}
		if (fwrite(page + (start - at), 1, stop - start, stdout) != stop - start)
			break;
		start = stop;
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		cli_error("cannot write: %s", strerror(errno));
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

static bool parse_range(const char *text, uint64_t *start, uint64_t *end)
{
	char *at;

	errno = 0;
	*start = strtoull(text, &at, 16);
	if (at == text || *at != '-' || *text == '-')
		return false;
	text = at + 1;
	*end = strtoull(text, &at, 16);
	return at != text && *at == '\0' && *text != '-' && errno == 0 && *start < *end &&
	       *end < ADDRESS_END;
}

static int look(int mode, const char *path, uint64_t start, uint64_t end)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct image im;
	char why[128];
	int status = EXIT_OK;

	if (fd < 0) {
		cli_error("cannot open %s: %s", path, strerror(errno));
		return EXIT_FAILED;
	}
	if (image_open(&im, fd, why, sizeof(why)) != 0) {
		cli_error("%s: %s", path, why);
		close(fd);
		return EXIT_FAILED;
	}
	if (mode == 'l')
		put_list(&im);
	else if (mode == 'm')
		fputs(im.maps, stdout);
	else if (mode == 'c')
		status = check(&im, path);
	else
		status = extract(&im, path, start, end);
	image_close(&im);
	close(fd);
	return status;
}

int cmd_snapshot(int argc, char **argv)
{
	static const struct option options[] = {
		{"check", no_argument, NULL, 'c'},
		{"extract", required_argument, NULL, 'e'},
		{"help", no_argument, NULL, 'h'},
		{"list", no_argument, NULL, 'l'},
		{"maps", no_argument, NULL, 'm'},
		{"no-sync", no_argument, NULL, 'n'},
		{NULL, 0, NULL, 0},
	};
	uint64_t start = 0, end = 0;
	unsigned flags = 0;
	int mode = 0;
	char *rest;
	long pid;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (opt) {
		case 'h':
			usage();
			return EXIT_OK;
		case 'n':
			flags |= FL_SNAPSHOT_NOSYNC;
			break;
		case 'e':
			if (!parse_range(optarg, &start, &end))
				return cli_usage("snapshot", "'%s' is not a range of addresses",
						 optarg);
			/* fall through */
		case 'c':
		case 'l':
		case 'm':
			if (mode != 0 && mode != opt)
				return cli_usage("snapshot",
						 "one of --list, --maps, --check and --extract");
			mode = opt;
			break;
		default:
			return cli_bad_option("snapshot", argv, opt);
		}
	}
	if (mode != 0) {
		if (flags != 0)
			return cli_usage("snapshot", "--no-sync is for taking a snapshot");
		if (argc - optind != 1)
			return cli_usage("snapshot", argc == optind ? "an image is wanted"
								    : "one image at a time");
		return look(mode, argv[optind], start, end);
	}
	if (argc - optind != 2)
		return cli_usage("snapshot", "snapshot wants a process number and a file");
	pid = strtol(argv[optind], &rest, 10);
	if (*rest != '\0' || rest == argv[optind] || pid <= 0 || pid > INT32_MAX)
		return cli_usage("snapshot", "'%s' is not a process number", argv[optind]);
	return take((pid_t)pid, argv[optind + 1], flags);
}
