/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peek-text.h - a process's regions, pages and counters as text, as
 * faultline-store(7) describes it.
 */
#ifndef FL_PEEK_TEXT_H
#define FL_PEEK_TEXT_H

#include "peek.h"

/* clang-format off */
/* The numbers of struct fl_stats, in its order. */
#define STATS_FIELDS(X) \
	X(limit) X(mapped) X(armed) X(resident) X(resident_max) X(staged) X(swapped) X(filled) \
	X(poisoned) X(locked) X(slots_total) X(slots_used) X(faults_minor) X(faults_major) \
	X(faults_zero) X(faults_anon) X(faults_wp) X(faults_staged) X(faults_swap) \
	X(faults_filled) X(faults_stale) X(faults_around) X(reads) X(read_pages) X(writes) \
	X(write_pages) X(io_errors) X(csum_errors) X(readahead_hits) X(readahead_misses) \
	X(evicted) X(dropped_clean) X(evict_busy) X(bookkeeping) X(frames_reused) X(compressed) \
	X(compressed_bytes) X(pool) X(faults_compressed) X(compress_rejects) X(written_through) \
	X(cache_pages)
/* clang-format on */

#define PAGE_KINDS 10U /* enum fl_page_kind */

/* What FL_PAGE_... is called. */
const char *page_kind_name(unsigned kind);

/* Each writes to f: 0 or -errno. */
int text_status(const struct peek *p, FILE *f);
int text_maps(const struct peek *p, FILE *f);
/* -EFBIG when there would be more than TEXT_MAX bytes, or it takes too long. */
#define TEXT_MAX ((long)256 << 20)
int text_pages(const struct peek *p, const struct peek_region *r, FILE *f);

/* The pages of a region, by kind. */
int count_pages(const struct peek *p, const struct peek_region *r, uint64_t count[PAGE_KINDS]);

/* Call fn for each region, until it is not 0: what it returned, or -errno. */
int each_region(const struct peek *p, int (*fn)(const struct peek_region *r, void *arg), void *arg);

#endif
