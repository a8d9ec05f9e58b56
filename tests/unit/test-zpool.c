/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pool of compressed pages: every object keeps its bytes, its owner and its
 * checksum wherever it is moved to; the bound holds; holes are bounded, and
 * memory of what was given back goes back to the kernel.
 */
#include "test.h"

#include "rnd.h"
#include "sys.h"
#include "zpool.h"

#include <sys/mman.h>

#define OBJECTS 6000U
#define POOL ((uint64_t)8 << 20)

/* The oracle: what each owner's object should be; word 0 stands for all bytes. */
static struct {
	zobj_t at; /* ZOBJ_NONE: none */
	uint32_t size;
	uint64_t word;
} want[OBJECTS];
static struct zpool pool;
static uint64_t moves;

static void moved(void *arg, uint64_t vpn, zobj_t from, zobj_t to)
{
	assert_ptr_equal(arg, &pool);
	assert_true(vpn < OBJECTS);
	assert_int_equal(want[vpn].at, from);
	want[vpn].at = to;
	moves++;
}

static void make(uint64_t word, uint32_t size, unsigned char *bytes)
{
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(word >> i % 57 & 0xff) ^ (unsigned char)i;
}

static void check_object(uint32_t v)
{
	unsigned char bytes[ZPOOL_OBJ_MAX];
	const struct zobj_head *h = zpool_head(&pool, want[v].at);

	make(want[v].word, want[v].size, bytes);
	assert_int_equal(h->live, 1);
	assert_int_equal(h->vpn, v);
	assert_int_equal(h->size, want[v].size);
	assert_int_equal(h->csum, want[v].word);
	assert_int_equal(h->tag, v % 200);
	assert_memory_equal(zpool_bytes(&pool, want[v].at), bytes, want[v].size);
}

static uint64_t live_bytes(void)
{
	uint64_t live = 0;

	for (uint32_t v = 0; v < OBJECTS; v++)
		if (want[v].at != ZOBJ_NONE)
			live += sizeof(struct zobj_head) + ((want[v].size + 15) & ~15U);
	return live;
}

static bool store(uint32_t v, uint32_t size)
{
	unsigned char bytes[ZPOOL_OBJ_MAX];
	uint64_t word = rnd64();
	zobj_t o;

	make(word, size, bytes);
	o = zpool_store(&pool, v, bytes, size, word);
	if (o == ZOBJ_NONE)
		return false;
	want[v].at = o;
	want[v].size = size;
	want[v].word = word;
	zpool_head(&pool, o)->tag = v % 200;
	return true;
}

static void drop(uint32_t v)
{
	zpool_free(&pool, want[v].at);
	want[v].at = ZOBJ_NONE;
}

static void begin(uint64_t bytes)
{
	assert_int_equal(zpool_open(&pool, bytes, moved, &pool), 0);
	for (uint32_t v = 0; v < OBJECTS; v++)
		want[v].at = ZOBJ_NONE;
	moves = 0;
}

static void check_all(void)
{
	uint64_t n = 0;

	for (uint32_t v = 0; v < OBJECTS; v++)
		if (want[v].at != ZOBJ_NONE) {
			check_object(v);
			n++;
		}
	assert_int_equal(pool.objects, n);
	assert_int_equal(pool.live, live_bytes());
}

static unsigned seen[OBJECTS];

static void see(void *arg, zobj_t o)
{
	(void)arg;
	assert_int_equal(want[zpool_head(&pool, o)->vpn].at, o);
	seen[zpool_head(&pool, o)->vpn]++;
}

static void objects_agree_with_an_array(void **state)
{
	(void)state;
	seed = 77;
	begin(POOL);
	for (unsigned k = 0; k < 300000; k++) {
		uint32_t v = rnd(OBJECTS);
		/* the distribution of sizes changes as it goes */
		uint32_t size = 1 + rnd(k % 100000 < 50000 ? 3072 : 300);

		if (want[v].at != ZOBJ_NONE) {
			check_object(v);
			drop(v);
		}
		if (rnd(10) != 0)
			store(v, size);
		assert_true(pool.in_use <= pool.bound);
		if (k % 20000 == 0)
			check_all();
	}
	check_all();
	assert_true(moves != 0);
	assert_int_equal(pool.moves, moves);
	memset(seen, 0, sizeof(seen));
	zpool_each(&pool, see, NULL);
	for (uint32_t v = 0; v < OBJECTS; v++)
		assert_int_equal(seen[v], want[v].at != ZOBJ_NONE);
	for (uint32_t v = 0; v < OBJECTS; v++)
		if (want[v].at != ZOBJ_NONE)
			drop(v);
	assert_int_equal(pool.live, 0);
	/* the open ones remain */
	assert_true(pool.in_use <= 2);
	zpool_close(&pool);
}

/* Pages of the pool's memory that the kernel has. */
static uint64_t resident(void)
{
	static unsigned char vec[POOL / 4096];
	uint64_t n = 0;

	assert_int_equal(mincore(pool.base, POOL, vec), 0);
	for (size_t i = 0; i < sizeof(vec); i++)
		n += vec[i] & 1;
	return n;
}

static void memory_goes_back(void **state)
{
	uint32_t v;

	(void)state;
	seed = 3;
	begin(POOL);
	for (v = 0; v < OBJECTS && store(v, 2000); v++)
		;
	/* one for survivors is kept; what an object did not fit into is lost at each span's end */
	assert_true(v > (POOL / ZPOOL_SPAN - 2) * (ZPOOL_SPAN / 2016 - 1));
	assert_true(v < OBJECTS);
	assert_false(zpool_has_room(&pool));
	assert_true(resident() * 4096 <= POOL);
	assert_true(resident() <= zpool_pages(&pool));
	/* of each span some objects stay: only by moving them does memory come free */
	for (uint32_t i = 0; i < v; i++)
		if (i % 8 != 0)
			drop(i);
	while (zpool_compact(&pool))
		;
	check_all();
	assert_true(resident() <= zpool_pages(&pool));
	assert_true(zpool_pages(&pool) * 4096 <=
		    live_bytes() + live_bytes() / 7 + (ZPOOL_SPARE + 4) * ZPOOL_SPAN);
	/* and there is room again without asking for it */
	assert_true(zpool_has_room(&pool));
	for (uint32_t i = 0; i < v / 2; i++)
		if (want[i].at == ZOBJ_NONE)
			assert_true(store(i, 2000));
	check_all();
	zpool_close(&pool);
}

static void a_full_pool_of_holes_takes_more(void **state)
{
	uint32_t n = 0, v;

	(void)state;
	seed = 5;
	begin(ZPOOL_SPANS_MIN * ZPOOL_SPAN);
	for (v = 0; v < OBJECTS && store(v, 1000); v++)
		;
	assert_true(v < OBJECTS);
	/* as many as came free by their bytes can be stored, but for the ends of spans */
	for (uint32_t i = 0; i < v; i += 2)
		drop(i);
	for (uint32_t i = 0; i < v; i += 2)
		n += store(i, 1000);
	check_all();
	assert_true(n >= v / 2 - 3 * ZPOOL_SPAN / 1024);
	assert_true(pool.in_use <= ZPOOL_SPANS_MIN);
	zpool_close(&pool);
}

static void the_coldest_come_first(void **state)
{
	zobj_t o, next;
	uint32_t n = 0;

	(void)state;
	seed = 11;
	begin(POOL);
	for (uint32_t v = 0; v < 2000; v++)
		assert_true(store(v, 1500));
	/* freed from the cold end as they come, span after span */
	for (o = zpool_coldest(&pool); o != ZOBJ_NONE; o = next) {
		next = zpool_warmer(&pool, o);
		assert_int_equal(zpool_head(&pool, o)->vpn, n);
		drop(n++);
	}
	assert_int_equal(zpool_coldest(&pool), ZOBJ_NONE);
	/* what is left is in the open span */
	assert_true(n >= 2000 - ZPOOL_SPAN / 1500 && n < 2000);
	for (uint32_t v = n; v < 2000; v++)
		check_object(v);
	zpool_close(&pool);
}

/* What compacting moved together is walked, too, however long its span stays open. */
static void survivors_are_walked(void **state)
{
	uint32_t place, survivors = 0, walked = 0, v;
	zobj_t o, next;

	(void)state;
	seed = 17;
	begin(POOL);
	for (v = 0; v < 3000; v++)
		assert_true(store(v, 1500));
	for (v = 0; v < 2000; v++)
		if (v % 10 != 0)
			drop(v);
	while (moves == 0 || pool.survivors == UINT32_MAX)
		assert_true(zpool_compact(&pool));
	place = pool.survivors;
	memset(seen, 0, sizeof(seen));
	for (o = zpool_coldest(&pool); o != ZOBJ_NONE; o = next) {
		bool is_survivor = o / (ZPOOL_SPAN / ZPOOL_UNIT) == place;

		next = zpool_warmer(&pool, o);
		/* before all others */
		assert_true(!is_survivor || survivors == walked);
		survivors += is_survivor;
		walked++;
		see(NULL, o);
		/* every other one of them goes as it is met */
		if (walked % 2 == 0)
			drop((uint32_t)zpool_head(&pool, o)->vpn);
	}
	assert_true(survivors != 0);
	for (v = 0; v < OBJECTS; v++) {
		bool newest = want[v].at != ZOBJ_NONE &&
			      want[v].at / (ZPOOL_SPAN / ZPOOL_UNIT) == pool.open;

		if (want[v].at != ZOBJ_NONE)
			assert_int_equal(seen[v], !newest);
		else
			assert_true(seen[v] <= 1);
	}
	check_all();
	zpool_close(&pool);
}

static void a_lower_bound_is_kept(void **state)
{
	uint32_t v;

	(void)state;
	seed = 13;
	begin(POOL);
	for (v = 0; v < 3000; v++)
		assert_true(store(v, 2000));
	zpool_set_bound(&pool, 40);
	/* no more than goes into the span that is open already */
	for (v = 3000; store(v, 2000); v++)
		assert_true(v < 3000 + ZPOOL_SPAN / 2000);
	check_all();
	for (uint32_t i = 0; i < v; i++)
		if (i % 4 != 0)
			drop(i);
	for (unsigned i = 0; i < 100; i++)
		zpool_compact(&pool);
	check_all();
	assert_true(pool.in_use <= 40);
	assert_true(resident() <= 40UL * ZPOOL_SPAN_PAGES);
	zpool_set_bound(&pool, UINT32_MAX);
	assert_int_equal(pool.bound, POOL / ZPOOL_SPAN);
	zpool_close(&pool);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void what_cannot_be_is_an_error(void **state)
{
	sys_fn bare = sys_table[SYSROW_mmap].fn;

	(void)state;
	assert_int_equal(zpool_open(&pool, ZPOOL_SPANS_MIN * ZPOOL_SPAN - 1, moved, &pool),
			 -EINVAL);
	assert_int_equal(zpool_open(&pool, (ZPOOL_SPANS_MAX + 1) * ZPOOL_SPAN, moved, &pool),
			 -EINVAL);
	sys_table[SYSROW_mmap].fn = no_memory;
	assert_int_equal(zpool_open(&pool, POOL, moved, &pool), -ENOMEM);
	sys_table[SYSROW_mmap].fn = bare;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_agree_with_an_array),
		cmocka_unit_test(memory_goes_back),
		cmocka_unit_test(a_full_pool_of_holes_takes_more),
		cmocka_unit_test(the_coldest_come_first),
		cmocka_unit_test(survivors_are_walked),
		cmocka_unit_test(a_lower_bound_is_kept),
		cmocka_unit_test(what_cannot_be_is_an_error),
	};

	return cmocka_run_group_tests_name("zpool", tests, NULL, NULL);
}
