/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readahead.c - windows for first touches, swap-ins, first writes and pages of files;
 * see readahead.h, which describes streams and trails.
 *
 * Nothing here reads a page or an entry: positions go in, windows come out.
 *
 * Invariants.
 * - A stream is unused, or `next` is where it is expected; its window is at most what
 *   its last caller allowed.
 * - `read` and `hits` of a struct along are of the pages since its last decision.
 * - A trail's `pages` is the sum of its runs.
 *
 * Locks: the caller's mm lock guards every structure that is passed in.
 */
#include "readahead.h"

#include <string.h>

#define NOWHERE UINT64_MAX

/* Faults after which a stream that did not go on may have ended. */
#define STREAM_IDLE 100000U
/* Of streams that go on together each does so after so many faults at the most. */
#define STREAM_PAUSE (4 * STREAMS)

/* A decision about what is read along is taken after so many pages; or faults, while nothing is. */
#define ALONG_SAMPLE 64U
/*
 * With no cluster, one fault in this many reads two pages, to notice a change: not
 * always the same one where faults come by twos or fours.
 */
#define CLUSTER_PROBE 61U
/* Per cent of faults right below another from which on pages below are read: of pairs it is half of them. */
#define BELOW_BEGIN 33U
#define PATIENCE_MAX 16U

void readahead_init(struct readahead *ra)
{
	memset(ra, 0, sizeof(*ra));
	ra->cluster = (struct along){.window = 2, .grow = 50, .keep = 25};
	ra->below = (struct along){.window = 1, .grow = 75, .keep = 50};
}

/*
 * Which one gives its place to a stream that begins.  Faults at random begin one
 * each: half of the places are for streams that went on, unless long ago.
 */
static struct stream *stream_victim(struct stream_set *set)
{
	struct stream *oldest = NULL;
	struct stream *other = NULL; /* the oldest that may be no stream */
	unsigned going = 0;

	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &set->s[i];
		bool goes = s->window > 1 && set->tick - s->used < STREAM_IDLE;

		going += goes;
		if (oldest == NULL || s->used < oldest->used)
			oldest = s;
		if (!goes && (other == NULL || s->used < other->used))
			other = s;
	}
	return going <= STREAMS / 2 ? other : oldest;
}

uint32_t stream_fault(struct stream_set *set, uint64_t vpn, uint32_t max, struct stream **out)
{
	struct stream *s;

	set->tick++;
	for (unsigned i = 0; i < STREAMS; i++) {
		s = &set->s[i];
		if (s->next == vpn && s->next != 0) {
			s->pause = set->tick - s->used;
			s->used = set->tick;
			s->window = s->window < max / 2 ? s->window * 2 : max;
			*out = s;
			return s->window;
		}
	}
	s = stream_victim(set);
	s->used = set->tick;
	s->window = 1;
	s->next = vpn + 1;
	s->stays = 0;
	*out = s;
	return 1;
}

unsigned stream_going(const struct stream_set *set)
{
	unsigned going = 0;

	for (unsigned i = 0; i < STREAMS; i++)
		going += set->s[i].window > 1 && set->s[i].pause <= STREAM_PAUSE &&
			 set->tick - set->s[i].used <= 2 * set->s[i].pause;
	return going;
}

void stream_done(struct stream *s, uint64_t next)
{
	s->next = next;
}

void trail_add(struct trail *t, void *of, uint64_t page, uint64_t n)
{
	struct trail_run *last = &t->run[(t->first + t->count - 1) % TRAIL_RUNS];

	t->pages += n;
	if (t->count != 0 && last->of == of && last->page + last->n == page) {
		last->n += n;
		return;
	}
	if (t->count == TRAIL_RUNS)
		trail_cut(t, t->run[t->first].n);
	t->run[(t->first + t->count++) % TRAIL_RUNS] = (struct trail_run){of, page, n};
}

const struct trail_run *trail_oldest(const struct trail *t)
{
	return t->count != 0 ? &t->run[t->first] : NULL;
}

void trail_cut(struct trail *t, uint64_t n)
{
	struct trail_run *r = &t->run[t->first];

	t->pages -= n;
	r->page += n;
	r->n -= n;
	if (r->n == 0) {
		t->first = (t->first + 1) % TRAIL_RUNS;
		t->count--;
	}
}

void trail_forget(struct trail *t, const void *of)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct trail_run r = t->run[(t->first + i) % TRAIL_RUNS];

		if (r.of == of)
			t->pages -= r.n;
		else
			t->run[(t->first + kept++) % TRAIL_RUNS] = r;
	}
	t->count = kept;
}

static void along_grow(struct along *a)
{
	if (a->window == ALONG_MAX)
		return;
	if (a->waits != 0) {
		a->waits--;
		return;
	}
	a->window *= 2;
	a->grew = true;
}

static void along_decide(struct along *a)
{
	uint32_t hits = 100 * a->hits;
	bool grew = a->grew;

	a->grew = false;
	if (a->window > 1 && hits < a->read * a->keep) {
		a->window /= 2;
		if (!grew)
			return;
		a->patience = a->patience != 0 ? a->patience * 2 : 1;
		if (a->patience > PATIENCE_MAX)
			a->patience = PATIENCE_MAX;
		a->waits = a->patience;
		return;
	}
	if (grew)
		a->patience = 0;
	if (hits >= a->read * a->grow)
		along_grow(a);
}

void along_read(struct along *a, uint32_t pages)
{
	a->read += pages;
	if (a->read < ALONG_SAMPLE)
		return;
	along_decide(a);
	a->read = 0;
	a->hits = 0;
}

void along_hit(struct along *a)
{
	a->hits++;
}

uint32_t cluster_window(struct readahead *ra)
{
	if (ra->cluster.window > 1)
		return ra->cluster.window;
	if (++ra->cluster.since_probe < CLUSTER_PROBE)
		return 1;
	ra->cluster.since_probe = 0;
	return 2;
}

uint32_t below_window(struct readahead *ra, uint64_t vpn)
{
	bool met = false;

	for (unsigned i = 0; i < RECENT; i++)
		met |= ra->recent[i] == vpn + 1;
	ra->recent[ra->faults++ % RECENT] = vpn;
	if (ra->below.window > 1)
		return ra->below.window;
	ra->met += met;
	if (ra->faults % ALONG_SAMPLE == 0) {
		if (ra->met * 100 >= ALONG_SAMPLE * BELOW_BEGIN)
			along_grow(&ra->below);
		ra->met = 0;
	}
	return ra->below.window;
}

/* ---- files ---- */

#define FILE_GONE_ON 3U /* times in a row: then it is a stream */
#define NEAR 128	/* pages: faults nearer than this may be of one stride */
#define WASTED_SAMPLE 64U
#define ASKED_SAMPLE 1024U
#define SHIFT_MAX 6U

/* The least window, unless the largest that is asked for is smaller. */
static uint32_t least(uint32_t max)
{
	return max < FILE_WINDOW_MIN ? max : FILE_WINDOW_MIN;
}

static uint32_t window_of(const struct file_streams *set, uint32_t window, uint32_t max)
{
	uint32_t most = max >> set->shift;

	if (most < least(max))
		most = least(max);
	return window < most ? window : most;
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

/* What is let in for the touch of `page` ends at `until`, where the stream is to be heard of again. */
static void go_ahead(struct file_stream *s, uint64_t page, uint64_t until, uint32_t windows,
		     struct file_window *w)
{
	uint64_t end = until + (uint64_t)windows * s->window;

	s->last = page;
	s->repeat++;
	s->next = w->until = until;
	w->ahead = s->ahead;
	w->count = end > s->ahead;
	if (w->count == 0)
		return;
	w->n_ahead = (uint32_t)(end - s->ahead);
	w->every = s->window;
	s->ahead = end;
}

/* The stream goes forward from page: a window for the fault, others ahead. */
static void go_forward(struct file_streams *set, struct file_stream *s, uint64_t page,
		       const struct file_reach *reach, struct file_window *w)
{
	s->window = window_of(set, s->window != 0 ? s->window * 2 : least(reach->window),
			      reach->window);
	w->from = page;
	w->n = s->window;
	s->ahead = page + w->n;
	if (s->step != 1)
		s->repeat = 0;
	s->step = 1;
	go_ahead(s, page, s->ahead, reach->ahead, w);
}

static void go_backward(struct file_streams *set, struct file_stream *s, uint64_t page,
			uint32_t max, struct file_window *w)
{
	s->window = window_of(set, s->window != 0 ? s->window * 2 : least(max), max);
	w->n = page + 1 < s->window ? (uint32_t)(page + 1) : s->window;
	w->from = page + 1 - w->n;
	s->last = w->from;
	s->next = s->ahead = NOWHERE;
}

/* The next strides behind what was read ahead already: with the page no more than a window has. */
static void go_striding(struct file_stream *s, uint64_t page, uint32_t max, struct file_window *w)
{
	int64_t reach = (int64_t)(s->ahead - page) / s->step; /* strides that are read already */
	int64_t strides = max - 1 < FILE_STRIDES ? max - 1 : FILE_STRIDES;
	uint64_t room;

	if (s->ahead == NOWHERE || reach < 0 || reach > FILE_STRIDES)
		reach = 0;
	w->ahead = page + (uint64_t)((reach + 1) * s->step);
	w->n_ahead = 1;
	w->count = reach < strides ? (uint32_t)(strides - reach) : 0;
	w->step = s->step;
	if (s->step < 0) {
		room = page / (uint64_t)-s->step;
		w->count = room <= (uint64_t)reach	       ? 0
			   : room - (uint64_t)reach < w->count ? (uint32_t)(room - (uint64_t)reach)
							       : w->count;
	}
	s->last = page;
	s->ahead = page + (uint64_t)(((int64_t)w->count + reach) * s->step);
}

static bool is_forward(const struct file_stream *s)
{
	return s->used != 0 && s->window != 0 && s->ahead != NOWHERE;
}

/* Whether it is a stream, and not what faults at random look like now and then. */
static bool has_gone_on(const struct file_streams *set, const struct file_stream *s)
{
	return s->repeat >= FILE_GONE_ON && set->tick - s->used < STREAM_IDLE;
}

/*
 * Whether a page that is not there is where the stream is.  Some of what it read may have found
 * no frame, or be dropped again; an old stream is not taken for one that goes on there.
 */
static bool goes_on(const struct file_streams *set, const struct file_stream *s, uint64_t page)
{
	if (!is_forward(s))
		return s->used != 0 && page == s->next;
	if (page == s->next || page == s->next + 1 || page == s->ahead || page == s->ahead + 1)
		return true;
	return page >= s->last && page < s->ahead &&
	       (has_gone_on(set, s) || set->tick - s->used < 4 * STREAMS);
}

/*
 * Which one gives its place to another, as stream_victim() chooses it: half of the
 * places are not for faults at random.
 */
static struct file_stream *file_victim(struct file_streams *set)
{
	struct file_stream *oldest = NULL;
	struct file_stream *other = NULL; /* the oldest that may be no stream */
	unsigned going = 0;

	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];
		bool goes = has_gone_on(set, s);

		going += goes;
		if (oldest == NULL || s->used < oldest->used)
			oldest = s;
		if (!goes && (other == NULL || s->used < other->used))
			other = s;
	}
	return going <= FILE_STREAMS / 2 ? other : oldest;
}

/* What another mapping's stream reads is asked for: one like that begins here. */
static struct file_stream *like(struct file_streams *set, const struct file_stream *other,
				uint64_t whose)
{
	const struct file_stream copy = *other;
	struct file_stream *s = file_victim(set);

	*s = copy;
	s->whose = whose;
	s->repeat = 0;
	return s;
}

/* The stream that goes on with a page that is not there; NULL: none does. */
static struct file_stream *stream_missed(struct file_streams *set, uint64_t page, uint64_t whose)
{
	const struct file_stream *other = NULL;

	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (!goes_on(set, s, page))
			continue;
		if (s->whose == whose)
			return s;
		if (is_forward(s) && (other == NULL || s->used > other->used))
			other = s;
	}
	return other != NULL ? like(set, other, whose) : NULL;
}

void file_stream_miss(struct file_streams *set, uint64_t page, const struct file_reach *reach,
		      bool sequential, struct file_window *w)
{
	struct file_stream *near = NULL;
	struct file_stream *on;

	*w = (struct file_window){.from = page, .n = 1, .passed = page};
	if (reach->window == 1)
		return;
	set->tick++;
	on = stream_missed(set, page, reach->whose);
	if (on != NULL) {
		if (is_forward(on) && has_gone_on(set, on) && on->last < page)
			w->passed = on->last;
		/* asked for again, since there was no room: no longer than before */
		if (page == on->last)
			on->window /= 2;
		on->used = set->tick;
		go_forward(set, on, page, reach, w);
		return;
	}
	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (s->used == 0 || s->whose != reach->whose || (s->window != 0 && s->step == 1))
			continue;
		if (s->step != 0 && page - s->last == (uint64_t)s->step) {
			s->used = set->tick;
			s->repeat++;
			if (s->step == -1)
				go_backward(set, s, page, 2 * reach->window, w);
			else if (s->repeat > 1)
				go_striding(s, page, reach->window, w);
			s->last = s->step == -1 ? w->from : page;
			return;
		}
		if (s->window == 0 && distance(page, s->last) < NEAR &&
		    (near == NULL || s->used > near->used))
			near = s;
	}
	if (near == NULL) {
		near = file_victim(set);
		*near = (struct file_stream){.last = page, .whose = reach->whose};
	}
	near->window = 0;
	near->used = set->tick;
	near->step = (int64_t)(page - near->last);
	near->repeat = near->step != 0;
	near->last = page;
	near->next = page + 1;
	near->ahead = NOWHERE;
	/* who begins at the beginning mostly goes on */
	if (sequential)
		near->window = reach->window / 2;
	if (sequential || page == 0)
		go_forward(set, near, page, reach, w);
}

/* The stream whose page that is, which was read ahead; NULL: none's. */
static struct file_stream *stream_met(struct file_streams *set, uint64_t page, uint64_t whose)
{
	const struct file_stream *other = NULL;

	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (!is_forward(s) || page < s->next)
			continue;
		/* behind its end another has read */
		if (s->whose == whose && page <= s->ahead + 1)
			return s;
		if (page < s->ahead && (other == NULL || s->used > other->used))
			other = s;
	}
	return other != NULL ? like(set, other, whose) : NULL;
}

void file_stream_hit(struct file_streams *set, uint64_t page, const struct file_reach *reach,
		     struct file_window *w)
{
	struct file_stream *met;

	*w = (struct file_window){.from = page, .passed = page, .since = page};
	met = stream_met(set, page, reach->whose);
	if (met != NULL) {
		uint64_t left = met->ahead > page ? (met->ahead - page) / reach->ahead : 0;
		uint64_t until = page + (left != 0 ? left : 1);

		met->used = ++set->tick;
		w->since = met->next;
		if (has_gone_on(set, met) && met->last < page)
			w->passed = met->last;
		met->window = window_of(set, met->window * 2, reach->window);
		if (met->ahead < until)
			met->ahead = until;
		/* where a window begins, of those that follow */
		if (until - until % met->window > page)
			until -= until % met->window;
		go_ahead(met, page, until, reach->ahead, w);
		return;
	}
	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (s->used == 0 || s->whose != reach->whose || s->ahead == NOWHERE)
			continue;
		if (s->window == 0 && s->repeat > 1 && page - s->last == (uint64_t)s->step) {
			s->used = ++set->tick;
			go_striding(s, page, reach->window, w);
			return;
		}
	}
	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (!is_forward(s) || page >= s->next)
			continue;
		if (page >= s->last && s->whose == reach->whose)
			s->used = ++set->tick;
		if (w->until == 0 || s->next < w->until)
			w->until = s->next;
	}
}

void file_stream_pass(struct file_streams *set, uint64_t page, uint64_t n, uint64_t whose)
{
	for (unsigned i = 0; i < FILE_STREAMS; i++) {
		struct file_stream *s = &set->s[i];

		if (!is_forward(s) || s->whose != whose || page < s->last || page > s->ahead + 1 ||
		    page + n <= s->ahead)
			continue;
		s->used = set->tick;
		s->last = page;
		s->next = s->ahead = page + n;
	}
}

void file_stream_asked(struct file_streams *set, uint32_t pages)
{
	set->asked += pages;
	if (set->asked < ASKED_SAMPLE)
		return;
	set->asked = 0;
	set->wasted = 0;
	if (set->shift > 0)
		set->shift--;
}

void file_stream_wasted(struct file_streams *set, uint32_t pages)
{
	set->wasted += pages;
	if (set->wasted < WASTED_SAMPLE)
		return;
	set->wasted = 0;
	set->asked = 0;
	if (set->shift < SHIFT_MAX)
		set->shift++;
}
