/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots: none is handed out twice, none is lost, runs are adjacent and as long
 * as can be had, counts and checksums keep to their slot, and bookkeeping is
 * for what was used.
 */
#include "test.h"

#include "swap-slot.h"
#include "sys.h"

#include <stdlib.h>

#define CSUM(x) ((x)&0x0fffffffffffffffU)

static uint64_t seed;

static uint64_t rnd64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint32_t rnd(uint32_t below)
{
	return (uint32_t)((rnd64() >> 16) % below);
}

static struct slot_map *map(uint32_t nslots)
{
	struct slot_map *m;

	assert_int_equal(slot_map_open(&m, nslots), 0);
	assert_int_equal(slot_map_total(m), nslots - 1);
	assert_int_equal(slot_map_used(m), 0);
	return m;
}

/* Take everything in runs of `want`; how many runs there were. */
static uint32_t take_all(struct slot_map *m, uint32_t want)
{
	uint32_t runs = 0, first, n;

	while ((n = slot_alloc(m, want, &first)) != 0) {
		assert_true(n <= want);
		assert_true(first != 0);
		assert_true(first + n <= slot_map_total(m) + 1);
		runs++;
	}
	assert_int_equal(slot_map_used(m), slot_map_total(m));
	return runs;
}

static void every_slot_is_handed_out_once(void **state)
{
	static const uint32_t sizes[] = {2, 16, 511, 512, 513, 1024, 70000};

	(void)state;
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct slot_map *m = map(sizes[i]);
		uint32_t first;

		for (unsigned round = 0; round < 3; round++) {
			take_all(m, 1 + round * 100);
			assert_int_equal(slot_alloc(m, 1, &first), 0);
			for (uint32_t s = 1; s < sizes[i]; s++) {
				assert_int_equal(slot_count(m, s), 1);
				assert_int_equal(slot_csum(m, s), 0);
				slot_csum_set(m, s, rnd64());
				assert_true(slot_put(m, s));
				assert_int_equal(slot_count(m, s), 0);
			}
			assert_int_equal(slot_map_used(m), 0);
		}
		slot_map_close(m);
	}
}

static void runs_are_as_long_as_the_cluster(void **state)
{
	struct slot_map *m = map(4 * SLOT_CLUSTER);
	uint32_t first;

	(void)state;
	/* slot 0 is the header's */
	assert_int_equal(slot_alloc(m, 100, &first), 100);
	assert_int_equal(first, 1);
	assert_int_equal(slot_alloc(m, 1000, &first), SLOT_CLUSTER - 101);
	assert_int_equal(first, 101);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(slot_alloc(m, UINT32_MAX, &first), SLOT_CLUSTER);
		assert_int_equal(first, i * SLOT_CLUSTER);
	}
	assert_int_equal(slot_alloc(m, 0, &first), 0);
	assert_int_equal(slot_alloc(m, 1, &first), 0);
	/* holes of 1, 2, 3 ... 9 slots: the longest run is found, wherever it is */
	for (uint32_t n = 1, at = 2 * SLOT_CLUSTER; n < 10; at += n + 1, n++)
		for (uint32_t i = 0; i < n; i++)
			assert_true(slot_put(m, at + i));
	assert_int_equal(slot_alloc(m, 5, &first), 5);
	assert_int_equal(slot_alloc(m, 100, &first), 9);
	slot_map_close(m);
}

static void emptier_clusters_go_first(void **state)
{
	struct slot_map *m = map(8 * SLOT_CLUSTER);
	uint32_t first;

	(void)state;
	take_all(m, SLOT_CLUSTER);
	/* of cluster c every eighth, every seventh ... slot is freed; of cluster 5 all */
	for (uint32_t c = 1; c < 8; c++)
		for (uint32_t i = 0; i < SLOT_CLUSTER; i++)
			if (c == 5 || i % (9 - c) == 0)
				assert_true(slot_put(m, c * SLOT_CLUSTER + i));
	assert_int_equal(slot_alloc(m, SLOT_CLUSTER, &first), SLOT_CLUSTER);
	assert_int_equal(first, 5 * SLOT_CLUSTER);
	assert_int_equal(slot_alloc(m, SLOT_CLUSTER, &first), 1);
	assert_int_equal(first / SLOT_CLUSTER, 7);
	slot_map_close(m);
}

static void counts_go_into_the_hundreds(void **state)
{
	struct slot_map *m = map(3000);
	static const unsigned want[] = {1, 2, 13, 14, 15, 16, 17, 100, 700};
	uint32_t first;

	(void)state;
	take_all(m, 100);
	for (unsigned pass = 0; pass < 3; pass++) {
		for (uint32_t s = 1; s < 3000; s++) {
			unsigned n = want[s % 9];

			slot_csum_set(m, s, s * 0x123456789abcdU);
			for (unsigned i = slot_count(m, s); i < n; i++)
				assert_int_equal(slot_get(m, s), 0);
		}
		for (uint32_t s = 1; s < 3000; s++) {
			assert_int_equal(slot_count(m, s), want[s % 9]);
			assert_int_equal(slot_csum(m, s), CSUM(s * 0x123456789abcdU));
		}
		for (uint32_t s = 1; s < 3000; s++)
			for (unsigned i = want[s % 9]; i > 1; i--) {
				assert_false(slot_put(m, s));
				assert_int_equal(slot_count(m, s), i - 1);
				assert_int_equal(slot_csum(m, s), CSUM(s * 0x123456789abcdU));
			}
	}
	assert_true(slot_put(m, 5));
	assert_int_equal(slot_alloc(m, 1, &first), 1);
	assert_int_equal(first, 5);
	assert_int_equal(slot_csum(m, 5), 0);
	slot_map_close(m);
}

/* Random calls against an array. */

#define MODEL_SLOTS 30000U

static struct {
	unsigned count;
	uint64_t csum;
} model[MODEL_SLOTS];

static void compare(const struct slot_map *m, uint32_t nslots)
{
	uint32_t used = 0;

	for (uint32_t s = 1; s < nslots; s++) {
		assert_int_equal(slot_count(m, s), model[s].count);
		assert_int_equal(slot_csum(m, s), model[s].csum);
		used += model[s].count != 0;
	}
	assert_int_equal(slot_map_used(m), used);
	assert_int_equal(slot_map_total(m), nslots - 1);
}

static uint32_t random_used(uint32_t nslots)
{
	for (unsigned i = 0; i < 50; i++) {
		uint32_t s = rnd(nslots);

		if (model[s].count != 0)
			return s;
	}
	return 0;
}

static void random_calls(void **state)
{
	(void)state;
	for (unsigned run = 0; run < 12; run++) {
		uint32_t nslots = 2 + rnd(3000), used = 0, first, s;
		struct slot_map *m;

		seed = 0x9e3779b97f4a7c15U + run * 7919;
		memset(model, 0, sizeof(model));
		m = map(nslots);
		for (unsigned step = 0; step < 150000; step++) {
			/* phases that fill, drain, and stay nearly full */
			unsigned phase = step / 10000 % 3, n, want;

			switch (rnd(phase == 0 ? 12 : 9)) {
			case 0:
			case 9:
			case 10:
			case 11:
				want = 1 + rnd(rnd(4) ? 8 : 600);
				n = slot_alloc(m, want, &first);
				assert_int_equal(n == 0, used == nslots - 1);
				assert_true(n <= want);
				for (unsigned i = 0; i < n; i++) {
					assert_true(first + i > 0 && first + i < nslots);
					assert_int_equal(model[first + i].count, 0);
					assert_int_equal(slot_csum(m, first + i), 0);
					model[first + i].count = 1;
					model[first + i].csum = 0;
				}
				used += n;
				break;
			case 1:
			case 2:
				s = random_used(nslots);
				if (s == 0)
					break;
				for (n = rnd(8) ? rnd(4) : rnd(400); n > 0; n--) {
					assert_int_equal(slot_get(m, s), 0);
					model[s].count++;
				}
				break;
			case 3:
				s = random_used(nslots);
				if (s == 0)
					break;
				model[s].csum = CSUM(rnd64());
				slot_csum_set(m, s, model[s].csum | (uint64_t)rnd(16) << 60);
				break;
			case 4:
				if (rnd(2000) == 0 && nslots < MODEL_SLOTS - 3000) {
					nslots += rnd(3000);
					assert_int_equal(slot_map_grow(m, nslots), 0);
				}
				break;
			default:
				s = random_used(nslots);
				if (s == 0 || (phase == 2 && used * 50UL < nslots * 49UL))
					break;
				for (n = rnd(3) ? model[s].count : rnd(model[s].count); n > 0;
				     n--) {
					bool last = --model[s].count == 0;

					assert_int_equal(slot_put(m, s), last);
					if (last) {
						model[s].csum = 0;
						used--;
					}
				}
			}
			if (step % 7919 == 0)
				compare(m, nslots);
		}
		compare(m, nslots);
		slot_map_close(m);
	}
}

/* If a slot were searched for all over the area, this would not end in the test's time. */
static void a_nearly_full_area_is_no_slower(void **state)
{
	const uint32_t clusters = 8192;
	struct slot_map *m = map(clusters * SLOT_CLUSTER);
	uint32_t first;

	(void)state;
	take_all(m, SLOT_CLUSTER);
	for (unsigned round = 0; round < 10; round++) {
		for (uint32_t c = 1; c < clusters; c++)
			assert_true(slot_put(m, c * SLOT_CLUSTER + rnd(SLOT_CLUSTER)));
		assert_int_equal(take_all(m, 64), clusters - 1);
		assert_int_equal(slot_alloc(m, 1, &first), 0);
	}
	slot_map_close(m);
}

static void bookkeeping_is_for_what_was_used(void **state)
{
	struct slot_map *m = map(1U << 28); /* a terabyte */
	uint64_t bytes = slot_map_bytes(m);
	uint32_t first;

	(void)state;
	assert_true(bytes <= 4096);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(slot_alloc(m, SLOT_CLUSTER, &first) >= SLOT_CLUSTER - 1);
	bytes = slot_map_bytes(m);
	/* a word a slot, and a hundredth more */
	assert_true(bytes >= 1000 * SLOT_CLUSTER * 8);
	assert_true(bytes < 1000 * SLOT_CLUSTER * 8 * 101 / 100 + 8192);
	/* freed slots are used again before fresh ones */
	for (uint32_t s = 1; s < 1000 * SLOT_CLUSTER; s++)
		assert_true(slot_put(m, s));
	for (unsigned i = 0; i < 1000; i++)
		assert_true(slot_alloc(m, SLOT_CLUSTER, &first) >= SLOT_CLUSTER - 1);
	assert_int_equal(slot_map_bytes(m), bytes);
	slot_map_close(m);
}

static void the_largest_area(void **state)
{
	struct slot_map *m = map(UINT32_MAX);
	uint32_t first;

	(void)state;
	assert_int_equal(slot_alloc(m, 10, &first), 10);
	assert_int_equal(slot_count(m, UINT32_MAX - 1), 0);
	assert_int_equal(slot_count(m, UINT32_MAX), 0);
	slot_map_close(m);
}

static void growth_completes_the_last_cluster(void **state)
{
	struct slot_map *m = map(16);
	uint32_t first;

	(void)state;
	assert_int_equal(slot_map_grow(m, 15), -EINVAL);
	assert_int_equal(slot_alloc(m, 100, &first), 15);
	assert_int_equal(slot_map_grow(m, 16), 0);
	assert_int_equal(slot_alloc(m, 100, &first), 0);
	for (uint32_t n = 17; n < 5000; n += 37) {
		uint32_t got = 0, k;

		assert_int_equal(slot_map_grow(m, n), 0);
		while ((k = slot_alloc(m, 100, &first)) != 0)
			got += k;
		assert_int_equal(got, n == 17 ? 1 : 37);
		assert_int_equal(slot_map_used(m), n - 1);
	}
	slot_map_close(m);
}

static sys_fn mmap_was;

static long no_mmap(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void no_memory_is_an_answer(void **state)
{
	struct slot_map *m, *none;
	uint32_t first;

	(void)state;
	m = map(100);
	mmap_was = sys_table[SYSROW_mmap].fn;
	sys_table[SYSROW_mmap].fn = no_mmap;
	assert_int_equal(slot_map_open(&none, 100), -ENOMEM);
	assert_int_equal(slot_alloc(m, 1, &first), 0);
	sys_table[SYSROW_mmap].fn = mmap_was;
	assert_int_equal(slot_alloc(m, 1, &first), 1);
	slot_csum_set(m, first, 77);
	for (unsigned i = 1; i < 14; i++)
		assert_int_equal(slot_get(m, first), 0);
	sys_table[SYSROW_mmap].fn = no_mmap;
	assert_int_equal(slot_get(m, first), -ENOMEM);
	assert_int_equal(slot_count(m, first), 14);
	assert_int_equal(slot_csum(m, first), 77);
	sys_table[SYSROW_mmap].fn = mmap_was;
	assert_int_equal(slot_get(m, first), 0);
	assert_int_equal(slot_count(m, first), 15);
	assert_int_equal(slot_map_open(&none, 0), -EINVAL);
	slot_map_close(m);
}

#ifdef FL_DEBUG
static void put_twice(void *arg)
{
	struct slot_map *m = map(100);
	uint32_t first;

	(void)arg;
	slot_alloc(m, 1, &first);
	slot_put(m, first);
	slot_put(m, first);
}

static void get_free(void *arg)
{
	(void)arg;
	slot_get(map(100), 7);
}

static void misuse_is_caught(void **state)
{
	char text[256];

	(void)state;
	assert_true(WIFSIGNALED(in_child(put_twice, NULL, text, sizeof(text))));
	assert_non_null(strstr(text, "faultline: "));
	assert_non_null(strstr(text, "slot 1"));
	assert_true(WIFSIGNALED(in_child(get_free, NULL, text, sizeof(text))));
	assert_non_null(strstr(text, "slot 7"));
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_slot_is_handed_out_once),
		cmocka_unit_test(runs_are_as_long_as_the_cluster),
		cmocka_unit_test(emptier_clusters_go_first),
		cmocka_unit_test(counts_go_into_the_hundreds),
		cmocka_unit_test(random_calls),
		cmocka_unit_test(a_nearly_full_area_is_no_slower),
		cmocka_unit_test(bookkeeping_is_for_what_was_used),
		cmocka_unit_test(the_largest_area),
		cmocka_unit_test(growth_completes_the_last_cluster),
		cmocka_unit_test(no_memory_is_an_answer),
#ifdef FL_DEBUG
		cmocka_unit_test(misuse_is_caught),
#endif
	};

	seed = 88172645463325252U;
	return cmocka_run_group_tests_name("swap-slot", tests, NULL, NULL);
}
