/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Map memory that another process has, over a socket: the pages come when they
 * are touched, each with a checksum that is verified before anybody sees it, and
 * go back when they were changed.
 */
#include <errno.h>
#include <faultline.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (16UL << 20)
#define WORDS (BYTES / sizeof(uint64_t))

enum op { OP_READ, OP_WRITE };

/* What the client sends; of a write the bytes follow. */
struct request {
	uint64_t op, offset, length, sum;
};

/* What the server sends; of a read the bytes follow. */
struct answer {
	int64_t error;
	uint64_t sum;
};

static uint64_t sum_of(const void *bytes, size_t length)
{
	uint64_t sum = 0xcbf29ce484222325U;
	uint64_t word;

	for (size_t at = 0; at < length; at += sizeof(word)) {
		memcpy(&word, (const char *)bytes + at, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3U;
		sum ^= sum >> 29;
	}
	return sum;
}

static int get(int fd, void *to, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = read(fd, (char *)to + at, length - at);

		if (n <= 0)
			return n == 0 ? -EIO : -errno;
		at += (size_t)n;
	}
	return 0;
}

static int put(int fd, const void *from, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = write(fd, (const char *)from + at, length - at);

		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	return 0;
}

/* ---- the server ---- */

static uint64_t word_of(size_t i)
{
	return i * 0x9e3779b97f4a7c15U + 1;
}

static void serve(int fd)
{
	char *memory = malloc(BYTES);
	struct request r;
	uint64_t *word = (uint64_t *)(void *)memory;

	if (memory == NULL)
		_exit(1);
	for (size_t i = 0; i < WORDS; i++)
		word[i] = word_of(i);
	while (get(fd, &r, sizeof(r)) == 0 && r.offset <= BYTES && r.length <= BYTES - r.offset) {
		struct answer a = {0, 0};

		if (r.op == OP_WRITE) {
			if (get(fd, memory + r.offset, r.length) != 0)
				break;
			if (sum_of(memory + r.offset, r.length) != r.sum)
				a.error = -EIO;
		} else {
			a.sum = sum_of(memory + r.offset, r.length);
		}
		if (put(fd, &a, sizeof(a)) != 0 ||
		    (r.op == OP_READ && put(fd, memory + r.offset, r.length) != 0))
			break;
	}
	/* the client is gone: the words are to be as it left them */
	for (size_t i = 0; i < WORDS; i++)
		if (word[i] != (i % 1024 == 0 ? ~word_of(i) : word_of(i)))
			_exit(2);
	_exit(0);
}

/* ---- the client: a source with one thread, so one request at a time ---- */

static int fetch(void *ctx, uint64_t offset, void *buf, size_t length)
{
	int fd = *(int *)ctx;
	struct request r = {OP_READ, offset, length, 0};
	struct answer a;
	int err = put(fd, &r, sizeof(r));

	if (err == 0)
		err = get(fd, &a, sizeof(a));
	if (err == 0)
		err = get(fd, buf, length);
	if (err == 0 && sum_of(buf, length) != a.sum)
		err = -EBADMSG; /* nobody sees these bytes: who touched the page gets SIGBUS */
	return err;
}

static int give(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	int fd = *(int *)ctx;
	struct request r = {OP_WRITE, offset, length, sum_of(buf, length)};
	struct answer a;
	int err = put(fd, &r, sizeof(r));

	if (err == 0)
		err = put(fd, buf, length);
	if (err == 0)
		err = get(fd, &a, sizeof(a));
	return err != 0 ? err : (int)a.error;
}

int main(void)
{
	const struct fl_backing_ops ops = {.size = sizeof(ops), .read = fetch, .write = give};
	struct fl_options options = {.size = sizeof(options), .limit = 4 << 20};
	struct fl_backing *backing;
	int fds[2], status, err;
	unsigned wrong = 0;
	uint64_t *word;
	struct fl *fl;
	pid_t server;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 || (server = fork()) < 0) {
		perror("source-remote");
		return 1;
	}
	if (server == 0) {
		close(fds[0]);
		serve(fds[1]);
	}
	close(fds[1]);
	signal(SIGPIPE, SIG_IGN);
	err = fl_open(&fl, &options);
	if (err == 0)
		err = fl_backing_open(fl, &backing, &ops, &fds[0], BYTES);
	if (err != 0) {
		fprintf(stderr, "source-remote: %s\n", strerror(-err));
		return 1;
	}
	word = fl_mmap_backing(fl, NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, backing, 0);
	if (word == FL_FAILED) {
		perror("fl_mmap_backing");
		return 1;
	}
	for (size_t i = 0; i < WORDS; i++)
		wrong += word[i] != word_of(i);
	for (size_t i = 0; i < WORDS; i += 1024)
		word[i] = ~word_of(i);
	err = fl_close(fl); /* gives back what was changed */
	close(fds[0]);
	waitpid(server, &status, 0);
	printf("%lu MiB of another process, %u words wrong; it ended with %d\n", BYTES >> 20, wrong,
	       WEXITSTATUS(status));
	return err == 0 && wrong == 0 && status == 0 ? 0 : 1;
}
