/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-memory.c - courses of memory that is swapped to the store's area.
 */
#include "crash-course.h"

#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

static struct {
	uint32_t now, then; /* versions that it may have */
} version[CLIENTS];

/* What is in memory or swapped is right; through the mount it may be lost with the server. */
static void memory_is_right(const struct plan *p)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		int64_t r;

		if (process[i].pid == 0 || version[i].then == 0)
			continue;
		r = order(&process[i], &(struct order){.what = VERIFY,
						       .seed = version[i].now,
						       .file = version[i].then,
						       .from = p->store_flags != 0});
		/* a runtime that cannot go on ends its process */
		if (r == -EOWNERDEAD && p->store_flags != 0 && is_over())
			end_it(&process[i]);
		else if (r < 0 || (r != 0 && !is_over()))
			fail_msg("%s: memory of process %u: %s", course, i, strerror((int)-r));
	}
}

static void fill(const struct plan *p, unsigned who, uint32_t seed)
{
	int64_t r;

	/* one that did not come to its end leaves two versions: that is enough */
	if (process[who].pid == 0 || version[who].now != version[who].then)
		return;
	version[who].then = seed;
	r = order(&process[who], &(struct order){.what = FILL, .seed = seed});
	if (r == 0)
		version[who].now = seed;
	else if (!is_over() || (p->store_flags == 0 && version[who].now != 0))
		fail_msg("%s: memory of process %u: %s", course, who, strerror((int)-r));
	else if (r == -EOWNERDEAD || version[who].now == 0)
		end_it(&process[who]); /* it could not attach, or go on */
}

static uint64_t slots_used(void)
{
	char text[4096];
	int fd = open(crash_in_base("mnt/swap/disk0.stat"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	const char *at;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "used: ");
	return at != NULL ? strtoull(at + 6, NULL, 10) : UINT64_MAX;
}

/* Every slot is given back, if after a while: what ended is found by and by. */
static void slots_come_free(void)
{
	time_t until = time(NULL) + HANG_SECONDS;

	while (slots_used() != 0) {
		if (time(NULL) > until)
			fail_msg("%s: %lu slots are left in use", course,
				 (unsigned long)slots_used());
		poll(NULL, 0, 2);
	}
}

uint32_t memory_course(const struct plan *p, uint32_t at, bool *killed)
{
	uint32_t count;

	memset(version, 0, sizeof(version));
	crash_arm(p->kinds, at, p->power);
	for (uint32_t i = 0; i < 6 && !is_over(); i++) {
		unsigned who = i % CLIENTS;

		if (i >= CLIENTS && next() % 3 == 0) {
			end_it(&process[who]);
			start(&process[who], p->store_flags);
			version[who].now = version[who].then = 0;
		}
		fill(p, who, i + 1);
		if (i % 2 != 0)
			memory_is_right(p);
	}
	*killed = crash_disarm();
	count = crash->count;
	if (*killed) {
		over = true;
		crash_wait();
		/* without a server they go on with what they hold */
		memory_is_right(p);
		for (unsigned i = 0; i < CLIENTS; i++)
			fill(p, i, 100 + i);
		memory_is_right(p);
		crash_serve(&p->mount);
	}
	memory_is_right(p);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (i == 0 && process[i].pid != 0)
			order(&process[i], &(struct order){.what = END});
		end_it(&process[i]);
	}
	slots_come_free();
	store_is_right();
	crash_end();
	return count;
}
