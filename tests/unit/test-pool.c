/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools: objects are apart, aligned, zeroed, reused, and given back to the
 * system at the end; no memory is an answer and not a crash.
 */
#include "test.h"

#include "pool.h"
#include "sys.h"

#define OBJECTS 5000

static void objects_are_apart(void **state)
{
	static unsigned char *obj[OBJECTS];
	struct pool p;

	(void)state;
	pool_init(&p, 40, 8192);
	for (unsigned i = 0; i < OBJECTS; i++) {
		obj[i] = pool_get(&p);
		assert_non_null(obj[i]);
		assert_int_equal((uintptr_t)obj[i] % 16, 0);
		for (unsigned j = 0; j < 40; j++)
			assert_int_equal(obj[i][j], 0);
		memset(obj[i], (int)(i % 255) + 1, 40);
	}
	assert_int_equal(p.in_use, OBJECTS);
	assert_true(p.bytes >= OBJECTS * 48UL);
	assert_int_equal(p.bytes % 8192, 0);
	for (unsigned i = 0; i < OBJECTS; i++)
		for (unsigned j = 0; j < 40; j++)
			assert_int_equal(obj[i][j], i % 255 + 1);
	pool_fini(&p);
}

static void objects_are_reused(void **state)
{
	struct pool p;
	size_t bytes;
	char *a, *b;

	(void)state;
	pool_init(&p, 64, 4096);
	a = pool_get(&p);
	assert_non_null(a);
	memset(a, 0x5a, 64);
	bytes = p.bytes;
	pool_put(&p, a);
	assert_int_equal(p.in_use, 0);
	/* only the first word is the free list's */
	for (unsigned i = sizeof(void *); i < 64; i++)
		assert_int_equal(a[i], 0x5a);
	for (unsigned i = 0; i < 100000; i++) {
		b = pool_get(&p);
		assert_non_null(b);
		pool_put(&p, b);
	}
	assert_int_equal(p.bytes, bytes);
	b = pool_get(&p);
	assert_ptr_equal(a, b);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(b[i], 0);
	pool_fini(&p);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void no_memory_is_null(void **state)
{
	sys_fn bare = sys_table[SYSROW_mmap].fn;
	struct pool p;
	void *obj;

	(void)state;
	pool_init(&p, 4000, 4096);
	obj = pool_get(&p);
	assert_non_null(obj);
	sys_table[SYSROW_mmap].fn = no_memory;
	assert_null(pool_get(&p));
	assert_int_equal(p.in_use, 1);
	sys_table[SYSROW_mmap].fn = bare;
	assert_non_null(pool_get(&p));
	assert_int_equal(p.in_use, 2);
	pool_fini(&p);
}

/* What there is enough of is had, with no memory either; the rest of a chunk is not lost. */
static void what_is_there_is_had(void **state)
{
	sys_fn bare = sys_table[SYSROW_mmap].fn;
	void *obj[64];
	struct pool p;
	unsigned n = 0;

	(void)state;
	pool_init(&p, 200, 4096);
	assert_true(pool_have(&p, 4));
	sys_table[SYSROW_mmap].fn = no_memory;
	while (pool_have(&p, 4)) {
		assert_true(pool_have(&p, 1));
		obj[n] = pool_get(&p);
		assert_non_null(obj[n++]);
	}
	assert_false(pool_have(&p, 4));
	assert_true(pool_have(&p, 3));
	assert_true(pool_have(&p, 0));
	pool_put(&p, obj[--n]);
	assert_true(pool_have(&p, 4));
	obj[n++] = pool_get(&p);
	sys_table[SYSROW_mmap].fn = bare;
	assert_true(pool_have(&p, 4));
	sys_table[SYSROW_mmap].fn = no_memory;
	/* three of the chunk before, and all of the next one */
	for (unsigned more = 0; more < 3 + (4096 - 16) / 208; more++) {
		obj[n] = pool_get(&p);
		assert_non_null(obj[n]);
		for (unsigned i = 0; i < 200; i++)
			assert_int_equal(((char *)obj[n])[i], 0);
		memset(obj[n++], 0x5a, 200);
	}
	assert_null(pool_get(&p));
	sys_table[SYSROW_mmap].fn = bare;
	pool_fini(&p);
}

static unsigned long unmapped;

static long count_munmap(long a, long b, long c, long d, long e, long f)
{
	unmapped += (unsigned long)b;
	return sys_bare(sys_table[SYSROW_munmap].nr, a, b, c, d, e, f);
}

static void fini_gives_all_back(void **state)
{
	sys_fn bare = sys_table[SYSROW_munmap].fn;
	struct pool p;
	size_t bytes;

	(void)state;
	pool_init(&p, 100, 4096);
	for (unsigned i = 0; i < 1000; i++)
		assert_non_null(pool_get(&p));
	bytes = p.bytes;
	sys_table[SYSROW_munmap].fn = count_munmap;
	pool_fini(&p);
	sys_table[SYSROW_munmap].fn = bare;
	assert_int_equal(unmapped, bytes);
	assert_int_equal(p.bytes, 0);
	assert_null(p.free_list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_apart),   cmocka_unit_test(objects_are_reused),
		cmocka_unit_test(no_memory_is_null),   cmocka_unit_test(what_is_there_is_had),
		cmocka_unit_test(fini_gives_all_back),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
