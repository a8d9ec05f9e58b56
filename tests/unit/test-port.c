/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-port.c - a port hears a message with its token, and nothing else is in its queue.
 */
#include "test.h"

#include "port.h"
#include "sys.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#define TOKEN_AT 8U

struct message {
	uint64_t what, token[2], rest;
};

static const uint64_t token[2] = {0x0123456789abcdefU, 0xfedcba9876543210U};
static const struct message right = {1, {0x0123456789abcdefU, 0xfedcba9876543210U}, 2};

static struct sockaddr_un addr = {.sun_family = AF_UNIX};
static uint32_t len;

static int open_port(uint32_t words)
{
	const struct port_heard heard = {sizeof(struct message), TOKEN_AT, token, words};
	int fd = port_open(&heard, addr.sun_path, sizeof(addr.sun_path), &len);

	assert_true(fd >= 0);
	assert_true(len > 1);
	return fd;
}

/* Whether it is in the queue, and is what was sent. */
static bool heard(int port, const void *message, size_t size)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char got[sizeof(struct message) + 16];
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, message, size, 0, (struct sockaddr *)&addr,
				(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
			 size);
	n = recv(port, got, sizeof(got), MSG_DONTWAIT);
	close(fd);
	if (n < 0) {
		assert_int_equal(errno, EAGAIN);
		return false;
	}
	assert_int_equal(n, size);
	assert_memory_equal(got, message, size);
	return true;
}

static void a_token_is_heard(void **state)
{
	struct message other = right;
	int port = open_port(2);

	(void)state;
	assert_true(heard(port, &right, sizeof(right)));
	other.what = ~other.what;
	other.rest = ~other.rest;
	assert_true(heard(port, &other, sizeof(other)));
	close(port);
	port = open_port(1);
	assert_true(heard(port, &right, sizeof(right)));
	other.token[1] = 0;
	assert_true(heard(port, &other, sizeof(other)));
	other.token[0] = 0;
	assert_false(heard(port, &other, sizeof(other)));
	close(port);
}

static void no_other_is(void **state)
{
	int port = open_port(2);

	(void)state;
	for (unsigned bit = 0; bit < 8 * sizeof(token); bit++) {
		struct message wrong = right;

		wrong.token[bit / 64] ^= (uint64_t)1 << bit % 64;
		assert_false(heard(port, &wrong, sizeof(wrong)));
	}
	close(port);
}

static void nor_another_length(void **state)
{
	struct {
		struct message m;
		char more[8];
	} longer = {right, {0}};
	int port = open_port(2);

	(void)state;
	for (size_t size = 0; size <= sizeof(longer); size++)
		assert_int_equal(heard(port, &longer, size), size == sizeof(right));
	close(port);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

/* One that would hear others, or has a name that there is no room for, is none. */
static void no_port(void **state)
{
	const struct port_heard heard = {sizeof(struct message), TOKEN_AT, token, 2};
	sys_fn was = sys_table[SYSROW_setsockopt].fn;
	int next = dup(STDIN_FILENO), fd;

	(void)state;
	close(next);
	assert_int_equal(port_open(&heard, addr.sun_path, 1, &len), -EIO);
	sys_table[SYSROW_setsockopt].fn = no_memory;
	assert_int_equal(port_open(&heard, addr.sun_path, sizeof(addr.sun_path), &len), -ENOMEM);
	sys_table[SYSROW_setsockopt].fn = was;
	fd = dup(STDIN_FILENO);
	assert_int_equal(fd, next);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_heard),
		cmocka_unit_test(no_other_is),
		cmocka_unit_test(nor_another_length),
		cmocka_unit_test(no_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
