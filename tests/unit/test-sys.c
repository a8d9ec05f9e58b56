/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The system-call table: every row is filled, passes six arguments and
 * returns -errno without touching errno; a replaced row is what is called.
 */
#include "test.h"

#include "sys.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static void rows_are_filled(void **state)
{
	(void)state;
	for (int i = 0; i < SYSROW_COUNT; i++) {
		assert_non_null(sys_table[i].name);
		assert_non_null(sys_table[i].fn);
		assert_true(sys_table[i].nr >= 0);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(sys_table[i].name, sys_table[j].name);
	}
	assert_string_equal(sys_table[SYSROW_openat].name, "openat");
	assert_int_equal(sys_table[SYSROW_pidfd_getfd].nr, SYS_pidfd_getfd);
	assert_string_equal(sys_table[SYSROW_exit_group].name, "exit_group");
}

static void errors_leave_errno_alone(void **state)
{
	long r;

	(void)state;
	errno = 4711;
	r = SYS1(close, -1);
	assert_int_equal(r, -EBADF);
	assert_true(sys_err(r));
	assert_int_equal(errno, 4711);
	assert_false(sys_err(0));
	assert_false(sys_err(-4096));
	assert_true(sys_err(-4095));
	assert_true(sys_err(-1));
}

static void six_arguments_arrive(void **state)
{
	int fd = memfd_create("six", MFD_CLOEXEC);
	char *p;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(pwrite(fd, "sixth", 5, 4096), 5);
	p = (char *)SYS6(mmap, 0, 4096, PROT_READ, MAP_SHARED, fd, 4096);
	assert_false(sys_err((long)p));
	assert_memory_equal(p, "sixth", 5);
	assert_int_equal(SYS2(munmap, p, 4096), 0);
	close(fd);
}

static long seen[6];

static long fake_fallocate(long a, long b, long c, long d, long e, long f)
{
	seen[0] = a, seen[1] = b, seen[2] = c, seen[3] = d, seen[4] = e, seen[5] = f;
	return -ENOSPC;
}

static void replaced_row_is_called(void **state)
{
	sys_fn bare = sys_table[SYSROW_fallocate].fn;

	(void)state;
	sys_table[SYSROW_fallocate].fn = fake_fallocate;
	assert_int_equal(SYS4(fallocate, 3, 1, 4096, 8192), -ENOSPC);
	sys_table[SYSROW_fallocate].fn = bare;
	assert_int_equal(seen[0], 3);
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 4096);
	assert_int_equal(seen[3], 8192);
	assert_int_equal(seen[4], 0);
	assert_int_equal(seen[5], 0);
	assert_int_equal(SYS4(fallocate, -1, 0, 0, 4096), -EBADF);
}

static void memory_is_zeroed(void **state)
{
	char *p = sys_mem_alloc(3 * 4096);

	(void)state;
	assert_non_null(p);
	for (int i = 0; i < 3 * 4096; i++)
		assert_int_equal(p[i], 0);
	memset(p, 1, 3 * 4096);
	sys_mem_free(p, 3 * 4096);
	sys_mem_free(NULL, 4096);
}

static void clock_goes_forward(void **state)
{
	uint64_t before = sys_now(), now;

	(void)state;
	do {
		now = sys_now();
		assert_true(now >= before);
	} while (now == before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_filled),	cmocka_unit_test(errors_leave_errno_alone),
		cmocka_unit_test(six_arguments_arrive), cmocka_unit_test(replaced_row_is_called),
		cmocka_unit_test(memory_is_zeroed),	cmocka_unit_test(clock_goes_forward),
	};

	return cmocka_run_group_tests_name("sys", tests, NULL, NULL);
}
