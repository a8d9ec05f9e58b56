/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Map data that are compressed: a page is unpacked when it is first touched,
 * and dropped, not swapped, when its frame is needed.
 *
 * The data are a hundred million numbers in runs of equal ones.  Packed they are
 * the runs alone; mapped they are an array.
 */
#include <faultline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NUMBERS 100000000UL
#define BYTES (NUMBERS * sizeof(uint32_t))

struct run {
	uint64_t end; /* the number after its last */
	uint32_t value;
};

struct packed {
	struct run *run;
	size_t n;
};

/* Unpack what the page needs; called on a thread of the library's. */
static int unpack(void *ctx, uint64_t offset, void *buf, size_t length)
{
	const struct packed *p = ctx;
	uint64_t at = offset / sizeof(uint32_t), end = at + length / sizeof(uint32_t);
	uint32_t *out = buf;
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p->run[mid].end <= at)
			low = mid + 1;
		else
			high = mid;
	}
	for (; at < end; low++)
		for (; at < end && at < p->run[low].end; at++)
			*out++ = p->run[low].value;
	return 0;
}

static void pack(struct packed *p)
{
	uint64_t at = 0;

	p->run = malloc(sizeof(*p->run) * (NUMBERS / 500 + 1));
	if (p->run == NULL)
		exit(1);
	for (p->n = 0; at < NUMBERS; p->n++) {
		at += 500 + p->n * 7919 % 1000;
		p->run[p->n] = (struct run){at < NUMBERS ? at : NUMBERS, (uint32_t)p->n};
	}
}

int main(void)
{
	const struct fl_backing_ops ops = {.size = sizeof(ops), .read = unpack};
	struct fl_options options = {.size = sizeof(options), .limit = 16 << 20};
	struct packed packed;
	struct fl_backing *backing;
	struct fl_stats stats;
	const uint32_t *number;
	uint64_t sum = 0, want = 0;
	struct fl *fl;
	int err;

	pack(&packed);
	err = fl_open(&fl, &options);
	if (err == 0)
		err = fl_backing_open(fl, &backing, &ops, &packed, BYTES);
	if (err != 0) {
		fprintf(stderr, "source-packed: %s\n", strerror(-err));
		return 1;
	}
	number = fl_mmap_backing(fl, NULL, BYTES, PROT_READ, MAP_SHARED, backing, 0);
	if (number == FL_FAILED) {
		perror("fl_mmap_backing");
		return 1;
	}
	for (uint64_t i = 0; i < NUMBERS; i += 100)
		sum += number[i];
	for (uint64_t i = 0, r = 0; i < NUMBERS; i += 100) {
		while (packed.run[r].end <= i)
			r++;
		want += packed.run[r].value;
	}
	fl_stats(fl, &stats, sizeof(stats));
	printf("%lu MiB of numbers from %lu KiB of runs, in %lu MiB of frames\n", BYTES >> 20,
	       (unsigned long)(packed.n * sizeof(struct run) >> 10),
	       (unsigned long)(stats.resident_max >> 8));
	err = fl_close(fl);
	free(packed.run);
	return err == 0 && sum == want && stats.resident_max <= stats.limit ? 0 : 1;
}
