/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Windows: they double while a stream goes on, interleaved streams each keep
 * theirs, random faults stay at one page; the cluster window follows how many
 * of its pages are asked for, down and up again.
 */
#include "test.h"

#include "readahead.h"

/* One fault that goes as far as its window; the window. */
static uint32_t step(struct stream_set *set, uint64_t *vpn, uint32_t max)
{
	struct stream *s;
	uint32_t w = stream_fault(set, *vpn, max, &s);

	*vpn += w;
	stream_done(s, *vpn);
	return w;
}

static void windows_double(void **state)
{
	static const uint32_t max[] = {1, 2, 100, 256, 512};

	(void)state;
	for (unsigned m = 0; m < 5; m++) {
		struct readahead ra;
		uint64_t vpn = 1000;
		uint32_t want = 1;

		readahead_init(&ra);
		for (unsigned i = 0; i < 20; i++) {
			assert_int_equal(step(&ra.touch, &vpn, max[m]), want);
			want = want * 2 < max[m] ? want * 2 : max[m];
		}
		/* elsewhere it begins anew */
		vpn += 5;
		assert_int_equal(step(&ra.touch, &vpn, max[m]), 1);
	}
}

static void interleaved_streams_keep_their_windows(void **state)
{
	struct readahead ra;
	uint64_t vpn[STREAMS];
	uint32_t want = 1;

	(void)state;
	readahead_init(&ra);
	for (unsigned i = 0; i < STREAMS; i++)
		vpn[i] = 1 + (uint64_t)i * 1000000;
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < STREAMS; i++)
			assert_int_equal(step(&ra.swap, &vpn[(i * 3 + round) % STREAMS], 256),
					 want);
		want = want * 2 < 256 ? want * 2 : 256;
	}
	/* a few strangers push out the streams that are oldest, no more */
	for (unsigned i = 0; i < 2; i++) {
		uint64_t other = 500000000 + i * 777;

		assert_int_equal(step(&ra.swap, &other, 256), 1);
	}
	unsigned kept = 0;
	for (unsigned i = 0; i < STREAMS; i++) {
		uint64_t v = vpn[i];

		for (unsigned k = 0; k < STREAMS; k++)
			if (ra.swap.s[k].next == v)
				kept++;
	}
	assert_int_equal(kept, STREAMS - 2);
}

static void one_page_at_a_time_is_a_stream_too(void **state)
{
	struct readahead ra;
	struct stream *s;

	(void)state;
	readahead_init(&ra);
	/* a fault that gets less than its window goes on where it stopped */
	assert_int_equal(stream_fault(&ra.wp, 50, 64, &s), 1);
	for (uint64_t v = 51; v < 60; v++) {
		assert_true(stream_fault(&ra.wp, v, 64, &s) > 1);
		stream_done(s, v + 1);
	}
	/* backwards it is none */
	for (uint64_t v = 1000; v > 900; v--)
		assert_int_equal(stream_fault(&ra.wp, v, 64, &s), 1);
}

static void random_faults_stay_at_one_page(void **state)
{
	struct readahead ra;
	uint64_t x = 88172645463325252U;
	unsigned longer = 0;

	(void)state;
	readahead_init(&ra);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t vpn;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		vpn = 1 + x % 1000000;
		longer += step(&ra.swap, &vpn, 256) != 1;
	}
	/* by chance one lands where another stopped: 8 places in a million */
	assert_in_range(longer, 0, 20);
}

/* `faults` faults of which a share of what is read along is asked for. */
static void cluster_faults(struct readahead *ra, unsigned faults, unsigned percent)
{
	unsigned owed = 0;

	for (unsigned i = 0; i < faults; i++) {
		uint32_t along = cluster_window(ra) - 1;

		if (along != 0)
			cluster_read(ra, along);
		owed += along * percent;
		for (; owed >= 100; owed -= 100)
			cluster_hit(ra);
	}
}

static void the_cluster_window_adapts(void **state)
{
	struct readahead ra;
	unsigned probes = 0;

	(void)state;
	readahead_init(&ra);
	assert_in_range(cluster_window(&ra), 1, CLUSTER_MAX);
	cluster_faults(&ra, 1000, 90);
	assert_int_equal(cluster_window(&ra), CLUSTER_MAX);
	cluster_faults(&ra, 2000, 5);
	assert_int_equal(ra.cluster, 1);
	/* with none asked for, only a probe now and then */
	for (unsigned i = 0; i < 6400; i++) {
		uint32_t w = cluster_window(&ra);

		assert_in_range(w, 1, 2);
		probes += w == 2;
		if (w == 2)
			cluster_read(&ra, 1);
	}
	assert_in_range(probes, 50, 200);
	assert_int_equal(ra.cluster, 1);
	/* the probes notice that it pays again */
	cluster_faults(&ra, 64 * 200, 95);
	assert_int_equal(ra.cluster, CLUSTER_MAX);
	/* in between it stays what it is */
	cluster_faults(&ra, 5000, 40);
	assert_int_equal(ra.cluster, CLUSTER_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_double),
		cmocka_unit_test(interleaved_streams_keep_their_windows),
		cmocka_unit_test(one_page_at_a_time_is_a_stream_too),
		cmocka_unit_test(random_faults_stay_at_one_page),
		cmocka_unit_test(the_cluster_window_adapts),
	};

	return cmocka_run_group_tests_name("readahead", tests, NULL, NULL);
}
