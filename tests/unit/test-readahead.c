/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Windows: they double while a stream goes on, interleaved streams each keep
 * theirs, random faults stay at one page; the cluster window follows how many
 * of its pages are asked for, down and up again.
 */
#include "test.h"

#include "readahead.h"

#include <stdlib.h>

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
	assert_int_equal(stream_going(&ra.swap), STREAMS);
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
	assert_int_equal(stream_going(&ra.swap), STREAMS - 2);
	/* one goes on for long: it has all to itself */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(step(&ra.swap, &vpn[0], 256), 256);
	assert_int_equal(stream_going(&ra.swap), 1);
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

static void streams_outlive_faults_at_random(void **state)
{
	struct readahead ra;
	uint64_t vpn = 1000, x = 88172645463325252U;

	(void)state;
	readahead_init(&ra);
	for (unsigned i = 0; i < 10; i++)
		step(&ra.swap, &vpn, 256);
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t other;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		other = 1000000 + x % 1000000000;
		step(&ra.swap, &other, 256);
	}
	assert_int_equal(step(&ra.swap, &vpn, 256), 256);
	/* but those that ended leave room for others at last */
	for (unsigned i = 0; i < STREAMS; i++) {
		uint64_t old = 1 + (uint64_t)(i + 1) * 10000000000U;

		for (unsigned k = 0; k < 4; k++)
			step(&ra.swap, &old, 256);
	}
	vpn = 77;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t other = 1000000 + i * 7777;

		assert_int_equal(step(&ra.swap, &vpn, 256), 1U << i);
		step(&ra.swap, &other, 256);
	}
}

/* `faults` faults of which a share of what is read along is asked for. */
static void cluster_faults(struct readahead *ra, unsigned faults, unsigned percent)
{
	unsigned owed = 0;

	for (unsigned i = 0; i < faults; i++) {
		uint32_t along = cluster_window(ra) - 1;

		if (along != 0)
			along_read(&ra->cluster, along);
		owed += along * percent;
		for (; owed >= 100; owed -= 100)
			along_hit(&ra->cluster);
	}
}

static void the_cluster_window_adapts(void **state)
{
	struct readahead ra;
	unsigned probes = 0;

	(void)state;
	readahead_init(&ra);
	assert_in_range(cluster_window(&ra), 1, ALONG_MAX);
	cluster_faults(&ra, 1000, 90);
	assert_int_equal(cluster_window(&ra), ALONG_MAX);
	cluster_faults(&ra, 2000, 5);
	assert_int_equal(ra.cluster.window, 1);
	/* with none asked for, only a probe now and then */
	for (unsigned i = 0; i < 6400; i++) {
		uint32_t w = cluster_window(&ra);

		assert_in_range(w, 1, 2);
		probes += w == 2;
		if (w == 2)
			along_read(&ra.cluster, 1);
	}
	assert_in_range(probes, 50, 200);
	assert_int_equal(ra.cluster.window, 1);
	/* the probes notice that it pays again */
	cluster_faults(&ra, 64 * 200, 95);
	assert_int_equal(ra.cluster.window, ALONG_MAX);
	/* in between it stays what it is */
	cluster_faults(&ra, 5000, 40);
	assert_int_equal(ra.cluster.window, ALONG_MAX);
}

/*
 * Places at random, of each of which `pages` are touched downwards; what was
 * read along is there.  Pages read along; *faults: how many had to wait.
 */
static unsigned places(struct readahead *ra, unsigned n, unsigned pages, unsigned *faults)
{
	unsigned read = 0;

	*faults = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t vpn = 1000 + (i * 2654435761U) % 1000003 * 1000;
		uint64_t low = vpn + 1; /* what is there, from here on */

		for (unsigned k = 0; k < pages; k++) {
			uint32_t w;

			if (vpn - k >= low) {
				along_hit(&ra->below);
				continue;
			}
			++*faults;
			w = below_window(ra, vpn - k);
			low = vpn - k + 1 - w;
			read += w - 1;
			if (w > 1)
				along_read(&ra->below, w - 1);
		}
	}
	return read;
}

static void the_window_below_adapts(void **state)
{
	struct readahead ra;
	unsigned faults, read;

	(void)state;
	readahead_init(&ra);
	/* single pages: nothing is read along */
	assert_int_equal(places(&ra, 10000, 1, &faults), 0);
	assert_int_equal(faults, 10000);
	/* pairs are noticed soon; what is below them is tried now and then */
	places(&ra, 200, 2, &faults);
	read = places(&ra, 10000, 2, &faults);
	assert_in_range(faults, 10000, 10200);
	assert_in_range(read, 9800, 11000);
	/* what goes on downwards gets a window */
	places(&ra, 10000, 64, &faults);
	assert_int_equal(ra.below.window, ALONG_MAX);
	assert_true(faults < 10000 * 64 / 6);
	/* and single pages none */
	read = places(&ra, 10000, 1, &faults);
	assert_int_equal(ra.below.window, 1);
	assert_true(read < 1000);
	/* one in four is no pair */
	for (unsigned i = 0; i < 1000; i++)
		read += places(&ra, 3, 1, &faults) + places(&ra, 1, 2, &faults);
	assert_true(read < 1100);
}

/* ---- files ---- */

static const struct file_reach REACH = {.window = 256, .ahead = 3};

#define MAPPINGS 2U
#define AROUND 16U

/*
 * A fault: it reads what the window says.  What of it was read ahead is noted in *ahead; in[],
 * with several mappings, what was let into each.
 */
struct reader {
	struct file_streams set;
	bool there[1 << 16], ahead[1 << 16], in[MAPPINGS][1 << 16];
	uint64_t heard;	 /* only so many pages of each window are, 0: all */
	uint32_t window; /* not REACH's; 0: that */
	bool mappings;
	unsigned whose; /* the mapping that is touched */
	unsigned faults, pages, touches;
};

static void take(struct reader *r, uint64_t from, uint64_t n, bool ahead)
{
	for (uint64_t i = from; i < from + n && i < 1 << 16; i++) {
		if (r->there[i])
			continue;
		r->there[i] = true;
		r->ahead[i] = ahead;
		r->pages++;
	}
}

static void take_ahead(struct reader *r, const struct file_window *w)
{
	uint64_t at = w->ahead;

	for (uint32_t i = 0; i < w->count; i++, at += (uint64_t)w->step) {
		take(r, at, w->n_ahead, true);
		if (r->heard == 0)
			continue;
		assert_true(w->every >= FILE_WINDOW_MIN);
		for (uint64_t p = at; p < at + w->n_ahead && p < 1 << 16; p++)
			r->ahead[p] &= p - at < r->heard || p % w->every < r->heard;
	}
}

/* What is there is let into the mapping, as far as nobody is to hear of it. */
static uint64_t let_in(struct reader *r, uint64_t page, uint64_t n)
{
	uint64_t i;

	for (i = page; i < page + n && i < 1 << 16 && r->there[i] && !r->ahead[i]; i++)
		r->in[r->whose][i] = true;
	return i - page;
}

static void touch(struct reader *r, uint64_t page)
{
	struct file_reach reach = REACH;
	struct file_window w;

	reach.whose = r->whose;
	if (r->window != 0)
		reach = (struct file_reach){.whose = r->whose, .window = r->window, .ahead = 1};
	if (r->there[page] && !r->ahead[page]) {
		if (r->mappings && !r->in[r->whose][page])
			file_stream_pass(&r->set, page, let_in(r, page, AROUND), r->whose);
		return;
	}
	if (r->there[page]) {
		r->touches++;
		file_stream_hit(&r->set, page, &reach, &w);
		assert_int_equal(w.n, 0);
		/* let in as far as it may be */
		for (uint64_t i = page; i < 1 << 16 && (r->heard != 0 || r->ahead[i]) &&
					(w.until == 0 ? i < page + r->heard : i < w.until);
		     i++)
			r->ahead[i] = false;
	} else {
		file_stream_miss(&r->set, page, &reach, false, &w);
		assert_true(w.from <= page && page < w.from + w.n);
		take(r, w.from, w.n, false);
		r->faults++;
	}
	if (r->mappings)
		let_in(r, page, w.until > page ? w.until - page : w.n);
	take_ahead(r, &w);
}

static struct reader *reader(void)
{
	struct reader *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	return r;
}

static void a_file_read_forward_faults_twice(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t page = 100; page < 60000; page++) {
		touch(r, page);
		/* whichever page is touched, more than a window behind it is under way */
		if (page >= 5000 && page < 59000)
			assert_true(r->there[page + REACH.window * REACH.ahead]);
	}
	/* one page, then a window; from there on it is read before it is asked for */
	assert_int_equal(r->faults, 2);
	assert_true(r->pages <= 60000 - 100 + REACH.window * (1 + REACH.ahead));
	free(r);
}

/* The touch of the first pages of each window is enough, wherever the stream began, in short strides, too. */
static void the_first_pages_of_windows_are_enough(void **state)
{
	(void)state;
	for (uint64_t first = 0; first < 700; first += 53)
		for (uint64_t step = 1; step < 6; step++) {
			struct reader *r = reader();
			unsigned touches = 0;

			r->heard = 8;
			for (uint64_t page = first; page < first + 40; page++)
				touch(r, page);
			for (uint64_t page = first + 40; page < 60000; page += step) {
				touch(r, page);
				if (page < 5000)
					touches = r->touches;
				else if (page < 59000)
					assert_true(r->there[page + 2 * REACH.window]);
			}
			assert_true(r->faults <= 2);
			assert_true(r->touches - touches <= 55000 / REACH.window + 2);
			free(r);
		}
}

/* Where there was no frame for a fault it is taken again, and what was to be read for it is not there. */
static void a_fault_that_is_taken_again_goes_on(void **state)
{
	struct reader *r = reader();
	struct file_window w;

	(void)state;
	for (uint64_t page = 100; page < 20000; page++) {
		if (page == 5000) {
			for (uint64_t i = page; i < 1 << 16; i++)
				r->there[i] = r->ahead[i] = false;
			r->faults = 0;
			for (unsigned i = 0; i < 3; i++) {
				file_stream_miss(&r->set, page, &REACH, false, &w);
				assert_int_equal(w.n, REACH.window);
			}
		}
		touch(r, page);
	}
	assert_int_equal(r->faults, 1);
	free(r);
}

/* Another thread may be ahead of the first one; neither passes over the page that is to be heard of. */
static void windows_are_asked_for_in_any_order(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t page = 0; page < 4000; page++)
		touch(r, page);
	r->faults = 0;
	for (uint64_t page = 4096; page < 60000; page += 128) {
		for (uint64_t i = 0; i < 64; i++)
			touch(r, page + 64 + i);
		for (uint64_t i = 0; i < 64; i++)
			touch(r, page + i);
	}
	assert_true(r->faults <= 2);
	free(r);
}

static void a_file_read_from_its_start_faults_once(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t page = 0; page < 1000; page++)
		touch(r, page);
	assert_int_equal(r->faults, 1);
	free(r);
}

static void streams_of_one_file_do_not_mix(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t i = 0; i < 4000; i++)
		for (uint64_t k = 0; k < STREAMS; k++)
			touch(r, k * 8000 + 7 + i);
	assert_true(r->faults <= 2 * STREAMS);
	free(r);
}

/* Eight scans go on though many faults at random come between two touches that are heard of. */
static void streams_of_a_file_outlive_faults_at_random(void **state)
{
	struct reader *r = reader();
	struct file_window w;
	uint64_t x = 88172645463325252U;

	(void)state;
	for (uint64_t i = 0; i < 4000; i++)
		for (uint64_t k = 0; k < STREAMS; k++) {
			touch(r, k * 8000 + 7 + i);
			if (i < 64)
				continue;
			for (unsigned n = 0; n < 4; n++) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				/* of another mapping or the same one */
				file_stream_miss(&r->set, (1 << 20) + x % (1U << 30),
						 &(struct file_reach){n % 2, 256, 3}, false, &w);
			}
		}
	assert_true(r->faults <= 2 * STREAMS);
	/* those that ended make room for others at last */
	r->faults = 0;
	for (uint64_t i = 0; i < 3000; i++)
		for (uint64_t k = 0; k < STREAMS; k++)
			touch(r, k * 8000 + 4900 + i);
	assert_true(r->faults <= 2 * STREAMS);
	free(r);
}

/* What is read for one mapping is asked for by the other one: neither stream ends by that. */
static void mappings_of_a_file_each_keep_theirs(void **state)
{
	const struct {
		uint64_t first[2]; /* where each begins, */
		uint64_t step[2];  /* and how many pages each goes in its turn */
	} scans[] = {
		{{0, 0}, {1, 1}},	{{100, 100}, {64, 64}},	   {{100, 1100}, {1, 1}},
		{{100, 5000}, {3, 1}},	{{0, 300}, {700, 700}},	   {{300, 0}, {1000, 3000}},
		{{0, 20000}, {100, 1}}, {{30000, 100}, {100, 20}},
	};

	(void)state;
	for (unsigned s = 0; s < sizeof(scans) / sizeof(scans[0]); s++) {
		struct reader *r = reader();
		uint64_t at[2] = {scans[s].first[0], scans[s].first[1]};

		r->mappings = true;
		r->heard = 8;
		while (at[0] < 50000 && at[1] < 50000)
			for (r->whose = 0; r->whose < MAPPINGS; r->whose++)
				for (uint64_t n = 0; n < scans[s].step[r->whose]; n++)
					touch(r, at[r->whose]++);
		assert_true(r->faults <= 4);
		/* what they went over is gone: each goes on with its window */
		memset(r->there, 0, sizeof(r->there));
		memset(r->ahead, 0, sizeof(r->ahead));
		memset(r->in, 0, sizeof(r->in));
		for (r->whose = 0; r->whose < MAPPINGS; r->whose++) {
			struct file_reach reach = REACH;
			struct file_window w;

			reach.whose = r->whose;
			file_stream_miss(&r->set, at[r->whose], &reach, false, &w);
			assert_int_equal(w.n, REACH.window);
		}
		free(r);
	}
}

/* A file that is mapped part by part is one scan. */
static void a_scan_goes_on_in_another_mapping(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t page = 100; page < 60000; page++) {
		r->whose = (unsigned)(page / 256);
		touch(r, page);
	}
	assert_true(r->faults <= 2);
	free(r);
}

static void a_file_read_backward_is_read_in_windows(void **state)
{
	struct reader *r = reader();

	(void)state;
	for (uint64_t page = 60000; page-- > 0;)
		touch(r, page);
	assert_true(r->faults < 60000 / 128);
	assert_int_equal(r->pages, 60000);
	free(r);
}

/* Each page of a stride is a request of its own: no touch makes more of them than its window has pages. */
static void strides_keep_to_the_window(void **state)
{
	static const int64_t steps[] = {2, 5, 40, -3, -40};

	(void)state;
	for (uint32_t window = 2; window <= 32; window *= 2)
		for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
			struct reader *r = reader();
			uint64_t page = 30000;
			unsigned n = 500, before;

			r->window = window;
			for (unsigned k = 0; k < n; k++, page += (uint64_t)steps[i]) {
				before = r->pages;
				touch(r, page);
				assert_true(r->pages - before <= window);
			}
			/* it is followed all the same, and nothing is read that nobody comes to */
			assert_true(r->faults <= 4);
			assert_true(r->pages <= n + window);
			free(r);
		}
}

static void strides_are_followed(void **state)
{
	const int64_t steps[] = {3, 17, 100, -3, -50};

	(void)state;
	for (unsigned s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		struct reader *r = reader();
		uint64_t page = steps[s] > 0 ? 40 : 60000;

		for (unsigned i = 0; i < 500; i++, page += (uint64_t)steps[s])
			touch(r, page);
		assert_true(r->faults <= 8);
		assert_true(r->pages <= 500 + 2 * FILE_STRIDES);
		free(r);
	}
}

static void random_touches_of_a_file_read_single_pages(void **state)
{
	struct reader *r = reader();
	uint64_t x = 88172645463325252U;

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		touch(r, 1 + x % ((1 << 16) - 1));
	}
	assert_true(r->pages < r->faults + r->faults / 4);
	free(r);
}

static void no_window_is_larger_than_asked_for(void **state)
{
	(void)state;
	for (uint32_t max = 1; max < FILE_WINDOW_MIN; max++) {
		const struct file_reach reach = {.window = max, .ahead = 1};
		struct file_streams set = {.tick = 0};
		struct file_window w;

		for (uint64_t page = 0; page < 2000; page += max) {
			file_stream_miss(&set, page, &reach, page % 7 == 0, &w);
			assert_int_equal(w.from, page);
			assert_in_range(w.n, 1, max);
			assert_true(w.count == 0 || (max > 1 && w.count * w.n_ahead <= max));
		}
		assert_int_equal(w.n, max);
		/* downwards it is twice as much, but for a page alone */
		for (uint64_t page = 9000; page > 8000; page = w.from - 1) {
			file_stream_miss(&set, page, &reach, false, &w);
			assert_in_range(w.n, 1, max == 1 ? 1 : 2 * max);
			assert_true(max > 1 || w.count == 0);
		}
		/* in strides, too */
		for (uint64_t page = 20000; page < 22000 && max == 1; page += 3) {
			file_stream_miss(&set, page, &reach, false, &w);
			assert_true(w.n == 1 && w.count == 0);
		}
	}
}

static void what_is_wasted_makes_windows_smaller(void **state)
{
	struct file_streams set = {.tick = 0};
	struct file_window w;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		file_stream_wasted(&set, 64);
	for (uint64_t page = 5; page < 5000; page = w.from + w.n)
		file_stream_miss(&set, page, &REACH, false, &w);
	assert_int_equal(w.n, FILE_WINDOW_MIN);
	for (unsigned i = 0; i < 100; i++)
		file_stream_asked(&set, 1024);
	for (uint64_t page = 5000; page < 50000; page = w.from + w.n)
		file_stream_miss(&set, page, &REACH, false, &w);
	assert_int_equal(w.n, 256);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_double),
		cmocka_unit_test(interleaved_streams_keep_their_windows),
		cmocka_unit_test(one_page_at_a_time_is_a_stream_too),
		cmocka_unit_test(random_faults_stay_at_one_page),
		cmocka_unit_test(streams_outlive_faults_at_random),
		cmocka_unit_test(the_cluster_window_adapts),
		cmocka_unit_test(the_window_below_adapts),
		cmocka_unit_test(the_first_pages_of_windows_are_enough),
		cmocka_unit_test(a_file_read_forward_faults_twice),
		cmocka_unit_test(a_fault_that_is_taken_again_goes_on),
		cmocka_unit_test(windows_are_asked_for_in_any_order),
		cmocka_unit_test(a_file_read_from_its_start_faults_once),
		cmocka_unit_test(streams_of_one_file_do_not_mix),
		cmocka_unit_test(streams_of_a_file_outlive_faults_at_random),
		cmocka_unit_test(mappings_of_a_file_each_keep_theirs),
		cmocka_unit_test(a_scan_goes_on_in_another_mapping),
		cmocka_unit_test(a_file_read_backward_is_read_in_windows),
		cmocka_unit_test(strides_are_followed),
		cmocka_unit_test(strides_keep_to_the_window),
		cmocka_unit_test(random_touches_of_a_file_read_single_pages),
		cmocka_unit_test(no_window_is_larger_than_asked_for),
		cmocka_unit_test(what_is_wasted_makes_windows_smaller),
	};

	return cmocka_run_group_tests_name("readahead", tests, NULL, NULL);
}
