/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * device.c - what the disk under a directory gives: the rows that fio(1) cannot
 * tell, and those that stand for it where it is not installed.
 *
 *	bench-device FILE MIB SECONDS JOB...
 *
 * writes FILE of MIB, unless it is there and as large, then reads it with O_DIRECT
 * through io_uring for SECONDS each: "randread-N", 4 KiB at random places with N in
 * flight; "randread-N-polled", the same by a thread that never sleeps; "seqread",
 * 1 MiB in sequence with 4 in flight, into huge pages where the kernel has them: of
 * scattered pages a disk takes each one as a piece of its own.  Prints "row JOB
 * MICROSECONDS MIB/s" for each.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 32U
#define BIG (1U << 20)
#define BUFFER (4 * (size_t)BIG)
#define HUGE_PAGE ((size_t)2 << 20)

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "faultline: bench-device: %s: %s\n", what, strerror(err));
	exit(1);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int make_file(const char *path, uint64_t bytes, char *buf)
{
	int fd = open(path, O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		die(path, errno);
	if ((uint64_t)st.st_size == bytes)
		return fd;
	if (ftruncate(fd, 0))
		die(path, errno);
	for (uint64_t off = 0; off < bytes; off += BIG) {
		ssize_t r;

		memset(buf, (int)(off / BIG) + 1, BIG);
		r = pwrite(fd, buf, BIG, (off_t)off);
		if (r != (ssize_t)BIG)
			die("write", r < 0 ? errno : EIO);
	}
	if (fdatasync(fd))
		die("fdatasync", errno);
	return fd;
}

static void probe(const char *name, int fd, uint64_t bytes, char *buf, unsigned size,
		  unsigned depth, int random, int polled, double seconds)
{
	uint64_t seed, next = 0, ended = 0;
	struct io_uring ring;
	double start, end;
	int err = io_uring_queue_init(DEPTH_MAX, &ring, 0);
	unsigned inflight = 0;

	if (err)
		die("io_uring", -err);
	start = now_s();
	end = start + seconds;
	/* Other places each time: a host may keep what it has read before. */
	seed = (uint64_t)(start * 1e9) | 1;
	do {
		struct io_uring_cqe *cqe;

		for (; inflight < depth; inflight++) {
			struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
			/* Content is of no interest: buffers may be read into twice. */
			char *to = buf + (uint64_t)(next % depth) * size;
			uint64_t at = next++;

			if (random) {
				seed ^= seed << 13;
				seed ^= seed >> 7;
				seed ^= seed << 17;
				at = seed;
			}
			io_uring_prep_read(sqe, fd, to, size, at % (bytes / size) * size);
		}
		err = io_uring_submit_and_wait(&ring, polled ? 0 : 1);
		if (err < 0)
			die("io_uring_enter", -err);
		while (polled && !io_uring_cq_ready(&ring))
			;
		while (!io_uring_peek_cqe(&ring, &cqe)) {
			if (cqe->res != (int)size)
				die("read", cqe->res < 0 ? -cqe->res : EIO);
			io_uring_cqe_seen(&ring, cqe);
			inflight--;
			ended++;
		}
	} while (now_s() < end);
	end = now_s();
	io_uring_queue_exit(&ring);
	printf("row %s %.1f %.0f\n", name, (end - start) * 1e6 / (double)ended,
	       (double)ended * size / (double)BIG / (end - start));
}

int main(int argc, char **argv)
{
	uint64_t bytes = argc > 4 ? strtoull(argv[2], NULL, 10) << 20 : 0;
	double seconds = argc > 4 ? atof(argv[3]) : 0;
	void *buf;
	int fd;

	if (bytes < BIG || seconds <= 0) {
		fputs("usage: bench-device FILE MIB SECONDS JOB...\n", stderr);
		return 2;
	}
	if (posix_memalign(&buf, HUGE_PAGE, BUFFER))
		die("memory", ENOMEM);
	/* A kernel without huge pages refuses, and reads into small ones. */
	madvise(buf, BUFFER, MADV_HUGEPAGE);
	memset(buf, 0, BUFFER);
	fd = make_file(argv[1], bytes, buf);
	for (int i = 4; i < argc; i++) {
		unsigned depth = 0;
		int end = 0, polled;

		if (!strcmp(argv[i], "seqread")) {
			probe(argv[i], fd, bytes, buf, BIG, 4, 0, 0, seconds);
			continue;
		}
		if (sscanf(argv[i], "randread-%u%n", &depth, &end) != 1 || depth < 1 ||
		    depth > DEPTH_MAX)
			die(argv[i], EINVAL);
		polled = !strcmp(argv[i] + end, "-polled");
		if (!polled && argv[i][end])
			die(argv[i], EINVAL);
		probe(argv[i], fd, bytes, buf, 4096, depth, 1, polled, seconds);
	}
	close(fd);
	free(buf);
	return 0;
}
