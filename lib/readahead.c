/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readahead.c - windows for first touches, swap-ins and first writes; see
 * readahead.h.
 */
#include "readahead.h"

#include <string.h>

/* A decision about the cluster window is taken after this many pages were read along. */
#define CLUSTER_SAMPLE 64U
/* With the window at 1, one fault in this many reads two pages, to notice a change. */
#define CLUSTER_PROBE 64U

void readahead_init(struct readahead *ra)
{
	memset(ra, 0, sizeof(*ra));
	ra->cluster = 2;
}

uint32_t stream_fault(struct stream_set *set, uint64_t vpn, uint32_t max, struct stream **out)
{
	struct stream *oldest = &set->s[0];

	set->tick++;
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &set->s[i];

		if (s->next == vpn && s->next != 0) {
			s->used = set->tick;
			s->window = s->window < max / 2 ? s->window * 2 : max;
			*out = s;
			return s->window;
		}
		if (s->used < oldest->used)
			oldest = s;
	}
	oldest->used = set->tick;
	oldest->window = 1;
	oldest->next = vpn + 1;
	*out = oldest;
	return 1;
}

void stream_done(struct stream *s, uint64_t next)
{
	s->next = next;
}

uint32_t cluster_window(struct readahead *ra)
{
	if (ra->cluster > 1)
		return ra->cluster;
	if (++ra->since_probe < CLUSTER_PROBE)
		return 1;
	ra->since_probe = 0;
	return 2;
}

void cluster_read(struct readahead *ra, uint32_t pages)
{
	ra->cluster_read += pages;
	if (ra->cluster_read < CLUSTER_SAMPLE)
		return;
	if (ra->cluster_hits * 2 >= ra->cluster_read)
		ra->cluster = ra->cluster * 2 < CLUSTER_MAX ? ra->cluster * 2 : CLUSTER_MAX;
	else if (ra->cluster_hits * 4 < ra->cluster_read)
		ra->cluster = ra->cluster > 1 ? ra->cluster / 2 : 1;
	ra->cluster_read = 0;
	ra->cluster_hits = 0;
}

void cluster_hit(struct readahead *ra)
{
	ra->cluster_hits++;
}
