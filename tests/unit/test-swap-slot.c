/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots: none is handed out twice, none is lost, runs are adjacent and as long
 * as can be had, users and checksums keep to their slot, bookkeeping is for
 * what was used, and of what several members use nothing is freed before the
 * last one gave it back or died.
 */
#include "test.h"

#include "rnd.h"
#include "swap-slot.h"
#include "sys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CSUM(x) ((x) & (((uint64_t)1 << SLOT_CSUM_BITS) - 1))

static struct slot_map *map_growing(uint32_t nslots, uint32_t max_slots)
{
	struct slot_map *m;

	assert_int_equal(slot_map_open(&m, nslots, max_slots), 0);
	assert_int_equal(slot_map_total(m), nslots - 1);
	assert_int_equal(slot_map_used(m), 0);
	return m;
}

static struct slot_map *map(uint32_t nslots)
{
	return map_growing(nslots, nslots);
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
				assert_int_equal(slot_users(m, s), 1);
				assert_int_equal(slot_csum(m, s), 0);
				slot_csum_set(m, s, rnd64());
				assert_true(slot_put(m, s));
				assert_int_equal(slot_users(m, s), 0);
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

/* ---- members ---- */

static int proc_fd(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* A child process that is a member and runs fn; as a pager's table would be, it is without the parent's descriptor. */
static pid_t member_run(struct slot_map *m, struct slot_map *child, void (*fn)(struct slot_map *),
			int *ready)
{
	int pipe_fd[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(pipe_fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int parent_fd = slot_map_fd(m);

		test_child();
		slot_map_enter(child, m, slot_map_fd(child));
		close(parent_fd);
		fn(child);
		if (write(pipe_fd[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	slot_map_part(m, child, false);
	close(pipe_fd[1]);
	assert_int_equal(read(pipe_fd[0], &c, 1), 1);
	*ready = pipe_fd[0];
	return pid;
}

static void member_kill(pid_t pid, int ready)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(ready);
}

#define SHARED 3000U

static void child_uses(struct slot_map *c)
{
	uint32_t first;

	/* a third given back, some of its own taken, one in I/O */
	for (uint32_t s = 1; s <= SHARED; s += 3)
		if (slot_put(c, s))
			_exit(1);
	for (unsigned i = 0; i < 10; i++)
		slot_alloc(c, 50, &first);
}

static void what_a_dead_member_held_is_free(void **state)
{
	struct slot_map *m = map(100000), *child;
	pid_t pid[8];
	int ready[8];
	uint32_t first, got = 0;

	(void)state;
	while (got < SHARED)
		got += slot_alloc(m, SHARED - got, &first);
	for (unsigned k = 0; k < 8; k++) {
		assert_int_equal(slot_map_join(m, proc_fd(), &child), 0);
		for (uint32_t s = 1; s <= SHARED; s++)
			assert_int_equal(slot_share(m, child, s), 0);
		pid[k] = member_run(m, child, child_uses, &ready[k]);
	}
	assert_int_equal(slot_map_members(m), 9);
	assert_int_equal(slot_users(m, 1), 1);
	assert_int_equal(slot_users(m, 2), 9);
	assert_int_equal(slot_map_used(m), SHARED + 8 * 500);
	assert_int_equal(slot_map_sweep(m), 0);
	/* the parent gives back half of what it held; the children still hold some of that */
	for (uint32_t s = 1; s <= SHARED; s += 2)
		assert_int_equal(slot_put(m, s), s % 3 == 1);
	for (unsigned k = 0; k < 7; k++) {
		member_kill(pid[k], ready[k]);
		assert_int_equal(slot_map_sweep(m), 500);
		assert_int_equal(slot_map_members(m), 8 - k);
	}
	member_kill(pid[7], ready[7]);
	assert_true(slot_map_sweep(m) > 500);
	assert_int_equal(slot_map_members(m), 1);
	assert_int_equal(slot_map_used(m), SHARED / 2);
	assert_int_equal(slot_map_mine(m), SHARED / 2);
	for (uint32_t s = 2; s <= SHARED; s += 2) {
		assert_int_equal(slot_users(m, s), 1);
		assert_true(slot_put(m, s));
	}
	assert_int_equal(slot_map_used(m), 0);
	slot_map_close(m);
}

static void child_is_busy(struct slot_map *c)
{
	slot_busy(c, 1);
	slot_busy(c, 2);
	slot_put(c, 2);
}

static void what_a_dead_member_was_busy_with_is_kept(void **state)
{
	struct slot_map *m = map(1000), *child;
	uint32_t first;
	int ready;
	pid_t pid;

	(void)state;
	assert_int_equal(slot_alloc(m, 3, &first), 3);
	assert_int_equal(slot_map_join(m, proc_fd(), &child), 0);
	for (uint32_t s = 1; s <= 3; s++) {
		assert_int_equal(slot_share(m, child, s), 0);
		assert_false(slot_put(m, s));
	}
	pid = member_run(m, child, child_is_busy, &ready);
	member_kill(pid, ready);
	assert_int_equal(slot_map_sweep(m), 1);
	assert_int_equal(slot_users(m, 1), 1);
	assert_int_equal(slot_users(m, 2), 1);
	assert_int_equal(slot_users(m, 3), 0);
	assert_int_equal(slot_map_used(m), 2);
	slot_map_close(m);
}

static void a_fork_that_failed_leaves_nothing(void **state)
{
	struct slot_map *m = map(1000), *child;
	uint32_t first;

	(void)state;
	assert_int_equal(slot_alloc(m, 300, &first), 300);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(slot_map_join(m, proc_fd(), &child), 0);
		for (uint32_t s = 1; s <= 300; s++)
			assert_int_equal(slot_share(m, child, s), 0);
		assert_int_equal(slot_users(m, 7), 2);
		slot_map_part(m, child, true);
		assert_int_equal(slot_users(m, 7), 1);
		assert_int_equal(slot_map_members(m), 1);
	}
	assert_int_equal(slot_map_used(m), 300);
	slot_map_close(m);
}

/* Allocate, check that what it got is its own, give it back. */
static void churn(struct slot_map *m, uint64_t tag)
{
	uint32_t mine[4096], n = 0;

	seed = tag * 7919;
	for (unsigned step = 0; step < 200000; step++) {
		uint32_t first, got;

		if (n < 4000 && rnd(2)) {
			got = slot_alloc(m, 1 + rnd(64), &first);
			for (uint32_t i = 0; i < got; i++) {
				if (slot_csum(m, first + i) != 0 || slot_users(m, first + i) != 1)
					_exit(1);
				slot_csum_set(m, first + i, tag);
				mine[n++] = first + i;
			}
		} else if (n != 0) {
			uint32_t k = rnd(n);

			if (slot_csum(m, mine[k]) != tag || !slot_put(m, mine[k]))
				_exit(2);
			mine[k] = mine[--n];
		}
	}
}

static void child_churns(struct slot_map *c)
{
	churn(c, (uint64_t)getpid());
}

static void members_never_get_the_same_slot(void **state)
{
	struct slot_map *m = map(14000), *child;
	pid_t pid[3];
	int ready[3];

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		int fds[2];

		assert_int_equal(slot_map_join(m, proc_fd(), &child), 0);
		assert_int_equal(pipe(fds), 0);
		pid[k] = fork();
		assert_true(pid[k] >= 0);
		if (pid[k] == 0) {
			int parent_fd = slot_map_fd(m);

			test_child();
			slot_map_enter(child, m, slot_map_fd(child));
			close(parent_fd);
			child_churns(child);
			_exit(0);
		}
		slot_map_part(m, child, false);
		close(fds[1]);
		ready[k] = fds[0];
	}
	churn(m, 1);
	for (unsigned k = 0; k < 3; k++) {
		test_reap(pid[k]);
		close(ready[k]);
	}
	slot_map_sweep(m);
	assert_int_equal(slot_map_members(m), 1);
	assert_int_equal(slot_map_used(m), slot_map_mine(m));
	slot_map_close(m);
}

/* Random calls against an array. */

#define MODEL_SLOTS 30000U

static struct {
	bool held, busy;
	uint64_t csum;
} model[MODEL_SLOTS];

static bool model_used(uint32_t s)
{
	return model[s].held || model[s].busy;
}

static void compare(const struct slot_map *m, uint32_t nslots)
{
	uint32_t used = 0;

	for (uint32_t s = 1; s < nslots; s++) {
		assert_int_equal(slot_users(m, s), model_used(s));
		if (model_used(s))
			assert_int_equal(slot_csum(m, s), model[s].csum);
		used += model_used(s);
	}
	assert_int_equal(slot_map_used(m), used);
	assert_int_equal(slot_map_mine(m), used);
	assert_int_equal(slot_map_total(m), nslots - 1);
}

static uint32_t random_used(uint32_t nslots)
{
	for (unsigned i = 0; i < 50; i++) {
		uint32_t s = rnd(nslots);

		if (model_used(s))
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
		m = map_growing(nslots, MODEL_SLOTS);
		for (unsigned step = 0; step < 150000; step++) {
			/* phases that fill, drain, and stay nearly full */
			unsigned phase = step / 10000 % 3, n, want;
			bool last;

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
					assert_false(model_used(first + i));
					assert_int_equal(slot_csum(m, first + i), 0);
					model[first + i].held = true;
					model[first + i].csum = 0;
				}
				used += n;
				break;
			case 1:
			case 2:
				s = random_used(nslots);
				if (s == 0 || !model[s].held || model[s].busy)
					break;
				slot_busy(m, s);
				model[s].busy = true;
				break;
			case 3:
				s = random_used(nslots);
				if (s == 0)
					break;
				model[s].csum = CSUM(rnd64());
				slot_csum_set(m, s, model[s].csum);
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
				if (model[s].busy && (!model[s].held || rnd(2))) {
					last = !model[s].held;
					model[s].busy = false;
					assert_int_equal(slot_idle(m, s), last);
				} else {
					last = !model[s].busy;
					model[s].held = false;
					assert_int_equal(slot_put(m, s), last);
				}
				used -= last;
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
	assert_true(bytes <= 65536);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(slot_alloc(m, SLOT_CLUSTER, &first) >= SLOT_CLUSTER - 1);
	bytes = slot_map_bytes(m);
	/* six bytes and three bits a slot, and a hundredth more */
	assert_true(bytes >= 1000 * SLOT_CLUSTER * 51 / 8);
	assert_true(bytes < 1000 * SLOT_CLUSTER * 51 / 8 * 101 / 100 + 65536);
	/* freed slots are used again before fresh ones */
	for (uint32_t s = 1; s < 1000 * SLOT_CLUSTER; s++)
		assert_true(slot_put(m, s));
	for (unsigned i = 0; i < 1000; i++)
		assert_true(slot_alloc(m, SLOT_CLUSTER, &first) >= SLOT_CLUSTER - 1);
	assert_int_equal(slot_map_bytes(m), bytes);
	slot_map_close(m);
}

static void bookkeeping_has_one_members_bits(void **state)
{
	struct slot_map *m = map(100000), *child[2];
	uint64_t bytes;
	uint32_t first;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_true(slot_alloc(m, SLOT_CLUSTER, &first) >= SLOT_CLUSTER - 1);
	assert_int_equal(slot_map_join(m, proc_fd(), &child[0]), 0);
	bytes = slot_map_bytes(m);
	assert_int_equal(slot_map_join(m, proc_fd(), &child[1]), 0);
	assert_int_equal(slot_map_bytes(m), bytes);
	assert_int_equal(slot_map_bytes(child[1]), bytes);
	slot_map_part(m, child[0], true);
	slot_map_part(m, child[1], true);
	assert_int_equal(slot_map_bytes(m), bytes);
	slot_map_close(m);
}

/* With slots overwritten at random, what lies free and how long runs are goes by the room. */
static void more_room_makes_longer_runs(void **state)
{
	const uint32_t pages = 100000;
	uint32_t *of = calloc(pages, sizeof(*of));
	uint32_t runs[2] = {0, 0};

	(void)state;
	assert_non_null(of);
	for (unsigned roomy = 0; roomy < 2; roomy++) {
		struct slot_map *m = map(1U << 20);
		uint64_t most =
			roomy ? pages * 3 / 2 + 2 * SLOT_CLUSTER : pages * 5 / 4 + 2 * SLOT_CLUSTER;

		seed = 5;
		memset(of, 0, pages * sizeof(*of));
		if (roomy)
			slot_map_roomy(m, pages * 3 / 2);
		for (unsigned step = 0; step < 20000; step++) {
			uint32_t which[64];
			uint32_t got = 0;

			/* a block of pages leaves: the slots that they had are free, others are taken */
			for (unsigned i = 0; i < 64; i++) {
				which[i] = rnd(pages);
				if (of[which[i]] != 0)
					assert_true(slot_put(m, of[which[i]]));
				of[which[i]] = 0;
			}
			while (got < 64) {
				uint32_t first;
				uint32_t n = slot_alloc(m, 64 - got, &first);

				assert_true(n != 0);
				runs[roomy] += step >= 15000;
				for (uint32_t i = 0; i < n; i++, got++) {
					if (of[which[got]] != 0) /* twice in one block */
						assert_true(slot_put(m, of[which[got]]));
					of[which[got]] = first + i;
				}
			}
		}
		assert_true(slot_map_room(m) <= most);
		slot_map_close(m);
	}
	assert_in_range(runs[1], 1, runs[0] * 3 / 4);
	free(of);
}

/* ---- a member that writes anything ---- */

#define SPOILT 3000U
#define CLUSTERS_AT 36864	 /* where the counts of free slots are: behind the header's pages */
#define GUARD ((size_t)17 << 30) /* what any number of 32 bits can lead to */

#define ALONE_MAX 64U
static long alone[ALONE_MAX];

/* What is shared has nothing around it, so that no access beside it goes unnoticed. */
static long alone_mmap(long addr, long len, long prot, long flags, long fd, long off)
{
	const long nr = sys_table[SYSROW_mmap].nr;
	long room;

	if (!(flags & MAP_SHARED) || fd < 0)
		return sys_bare(nr, addr, len, prot, flags, fd, off);
	room = sys_bare(nr, 0, len + 2 * (long)GUARD, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sys_err(room))
		return room;
	for (unsigned i = 0; i < ALONE_MAX; i++)
		if (alone[i] == 0) {
			alone[i] = room + (long)GUARD;
			return sys_bare(nr, alone[i], len, prot,
					(flags & ~MAP_FIXED_NOREPLACE) | MAP_FIXED, fd, off);
		}
	return -ENOMEM;
}

static long alone_munmap(long addr, long len, long c, long d, long e, long f)
{
	(void)c, (void)d, (void)e, (void)f;
	for (unsigned i = 0; i < ALONE_MAX; i++)
		if (alone[i] == addr) {
			alone[i] = 0;
			addr -= (long)GUARD;
			len += 2 * (long)GUARD;
			break;
		}
	return sys_bare(sys_table[SYSROW_munmap].nr, addr, len, 0, 0, 0, 0);
}

/* Until it is killed: most is written where the counts are, some to every bit of three members. */
static _Noreturn void spoil(int fd, uint64_t from)
{
	const uint64_t slots = (SPOILT + SLOT_CLUSTER - 1) / SLOT_CLUSTER * SLOT_CLUSTER;
	const size_t pages = 50; /* the common part, and so many members' bits */
	uint64_t *map = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	uint32_t *half = (uint32_t *)map;

	if (map == MAP_FAILED || slots > pages * 4096)
		_exit(1);
	seed = from;
	for (;;) {
		uint64_t v = rnd(3) == 0 ? rnd64() : rnd(2) == 0 ? UINT64_MAX : rnd(4);

		switch (rnd(8)) {
		case 0: /* what is first in the header, but for its magic number */
			half[2 + rnd(8)] = (uint32_t)v;
			break;
		case 1:
			half[rnd(32768 / 4 + 1024)] = (uint32_t)v;
			break;
		default:
			map[1 + rnd((uint32_t)(pages * 512 - 1))] = v;
			break;
		}
	}
}

/* What a member does whose map another spoils meanwhile: any answer will do that is in range. */
static void suffer(struct slot_map *m, struct slot_map *server, unsigned steps)
{
	static uint32_t held[4 * SPOILT];
	uint32_t n = 0, first, member;
	struct slot_count count;
	int fd;

	for (unsigned step = 0; step < steps; step++) {
		if (n < 2 * SPOILT && rnd(2)) {
			uint32_t want = 1 + rnd(600), got = slot_alloc(m, want, &first);

			assert_true(got <= want && got <= SLOT_CLUSTER);
			assert_true(got == 0 || (first != 0 && first + got <= SPOILT));
			for (uint32_t i = 0; i < got; i++) {
				bool twice = false;

				for (uint32_t k = 0; k < n && !twice; k++)
					twice = held[k] == first + i;
#ifdef FL_DEBUG
				assert_false(twice);
#endif
				if (!twice)
					held[n++] = first + i;
			}
		} else if (n != 0) {
			uint32_t k = rnd(n), slot = held[k];

			held[k] = held[--n];
			if (rnd(3) == 0) {
				slot_busy(m, slot);
				slot_csum_set(m, slot, rnd64());
				slot_put(m, slot);
				slot_idle(m, slot);
			} else {
				slot_csum(m, slot);
				slot_users(m, slot);
				slot_held(m, slot);
				slot_put(m, slot);
			}
		}
		assert_true(slot_map_total(m) < SPOILT && slot_map_used(m) < SPOILT);
		assert_true(slot_map_room(m) < SPOILT + SLOT_CLUSTER);
		assert_true(slot_map_bytes(m) < (1 << 20));
		slot_map_grow(m, 1 + rnd(SPOILT));
		slot_map_members(m);
		slot_map_roomy(m, rnd(2) * SPOILT);
		if (step % 64 == 0) {
			slot_map_sweep(m);
			slot_map_sweep(server);
			slot_map_count(slot_map_fd(m), SPOILT, &count);
		}
		if (step % 1024 == 0 && slot_map_invite(server, proc_fd(), &fd, &member) == 0) {
			struct slot_map *other;

			assert_true(member < SLOT_MEMBERS_MAX);
			if (slot_map_accept(&other, fd, member, SPOILT) == 0)
				slot_map_close(other);
			else
				close(fd);
		}
	}
}

static void who_spoils_the_map_spoils_no_more(void **state)
{
	struct slot_map *server, *m;
	sys_fn mmap_is = sys_table[SYSROW_mmap].fn, munmap_is = sys_table[SYSROW_munmap].fn;
	uint32_t member;
	int fd;

	(void)state;
	for (uint64_t from = 1; from <= 4; from++) {
		pid_t pid, parent = getpid();

		sys_table[SYSROW_mmap].fn = alone_mmap;
		sys_table[SYSROW_munmap].fn = alone_munmap;
		server = map(SPOILT);
		assert_int_equal(slot_map_serve(server), 0);
		assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
		assert_int_equal(slot_map_accept(&m, fd, member, SPOILT), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			spoil(slot_map_fd(m), from * 0x9e3779b97f4a7c15U);
		}
		seed = from;
		suffer(m, server, 20000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		slot_map_close(m);
		/* what it left is nothing once nobody has it any more, and it can be busy with nothing */
		slot_map_sweep(server);
		slot_map_close(server);
		sys_table[SYSROW_mmap].fn = mmap_is;
		sys_table[SYSROW_munmap].fn = munmap_is;
	}
}

/* What was left in a map is nothing once nobody has it any more. */
static void is_new_after_a_sweep(struct slot_map *server, uint32_t slots)
{
	struct slot_count n;

	slot_map_sweep(server);
	assert_int_equal(slot_map_total(server), slots - 1);
	assert_int_equal(slot_map_used(server), 0);
	assert_int_equal(slot_map_members(server), 1);
	assert_int_equal(slot_map_count(slot_map_fd(server), slots, &n), 0);
	assert_int_equal(n.used, 0);
	assert_int_equal(n.lost, 0);
	assert_int_equal(n.free, 0);
	assert_int_equal(n.dead, 0);
}

/* Each word of the header by itself, and what is behind it, as the last that a member did. */
static void no_word_that_is_spoilt_stays(void **state)
{
	static const uint32_t values[] = {0, 1, 77, UINT32_MAX};
	struct slot_map *server = map(2000), *m;
	uint32_t first, member;
	int fd;

	(void)state;
	assert_int_equal(slot_map_serve(server), 0);
	for (unsigned at = 0; at < 40; at++)
		for (unsigned k = 0; k < 4; k++) {
			uint32_t *map;

			assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
			assert_int_equal(slot_map_accept(&m, fd, member, 2000), 0);
			assert_int_equal(slot_alloc(m, 300, &first), 300);
			map = mmap(NULL, CLUSTERS_AT + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
				   0);
			assert_ptr_not_equal(map, MAP_FAILED);
			map[at < 36 ? at : CLUSTERS_AT / 4 + at - 36] = values[k];
			munmap(map, CLUSTERS_AT + 4096);
			slot_map_close(m);
			is_new_after_a_sweep(server, 2000);
		}
	slot_map_close(server);
}

/* One that was killed while it took slots left a count too high: others come to what is free all the same. */
static void a_count_that_is_too_high_ends_nothing(void **state)
{
	struct slot_map *m = map(4 * SLOT_CLUSTER);
	uint32_t first, n = 0, got;
	uint32_t high = SLOT_CLUSTER - 1;

	(void)state;
	while ((got = slot_alloc(m, 64, &first)) != 0)
		n += got;
	assert_int_equal(n, 4 * SLOT_CLUSTER - 1);
	/* behind the header: the second cluster says that it is nearly empty */
	assert_int_equal(pwrite(slot_map_fd(m), &high, sizeof(high), CLUSTERS_AT + sizeof(high)),
			 sizeof(high));
	assert_int_equal(slot_alloc(m, 64, &first), 0);
	for (uint32_t s = 3 * SLOT_CLUSTER; s < 3 * SLOT_CLUSTER + 9; s++)
		assert_true(slot_put(m, s));
	assert_int_equal(slot_alloc(m, 64, &first), 9);
	assert_int_equal(first, 3 * SLOT_CLUSTER);
	assert_int_equal(slot_alloc(m, 64, &first), 0);
	slot_map_close(m);
}

static void the_largest_area(void **state)
{
	struct slot_map *m = map(UINT32_MAX);
	uint32_t first;

	(void)state;
	assert_int_equal(slot_alloc(m, 10, &first), 10);
	assert_int_equal(slot_users(m, UINT32_MAX - 1), 0);
	assert_int_equal(slot_users(m, UINT32_MAX), 0);
	slot_map_close(m);
}

static void growth_completes_the_last_cluster(void **state)
{
	struct slot_map *m = map_growing(16, 5000);
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
	assert_int_equal(slot_alloc(m, 1, &first), 1);
	mmap_was = sys_table[SYSROW_mmap].fn;
	sys_table[SYSROW_mmap].fn = no_mmap;
	assert_int_equal(slot_map_open(&none, 100, 100), -ENOMEM);
	assert_int_equal(slot_map_join(m, proc_fd(), &none), -ENOMEM);
	sys_table[SYSROW_mmap].fn = mmap_was;
	assert_int_equal(slot_users(m, first), 1);
	assert_int_equal(slot_map_members(m), 1);
	assert_int_equal(slot_map_open(&none, 0, 10), -EINVAL);
	assert_int_equal(slot_map_open(&none, 10, 9), -EINVAL);
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

static void busy_when_free(void *arg)
{
	(void)arg;
	slot_busy(map(100), 7);
}

static void misuse_is_caught(void **state)
{
	char text[256];

	(void)state;
	assert_true(WIFSIGNALED(in_child(put_twice, NULL, text, sizeof(text))));
	assert_non_null(strstr(text, "faultline: "));
	assert_non_null(strstr(text, "slot 1"));
	assert_true(WIFSIGNALED(in_child(busy_when_free, NULL, text, sizeof(text))));
	assert_non_null(strstr(text, "slot 7"));
}
#endif

/* The server of a map, and who is invited: a member lives as long as its descriptor. */
static void members_that_are_invited(void **state)
{
	struct slot_map *server = map(2000), *a, *b, *none;
	uint32_t first, member;
	struct slot_count n;
	int fd, copy;

	(void)state;
	assert_int_equal(slot_map_serve(server), 0);
	assert_true(ftruncate(slot_map_fd(server), 4096) != 0);
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_accept(&none, fd, member, 1999), -EINVAL);
	assert_int_equal(slot_map_accept(&none, fd, member + 1, 2000), -EINVAL);
	assert_int_equal(slot_map_accept(&a, fd, member, 2000), 0);
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_accept(&b, fd, member, 2000), 0);
	assert_int_equal(slot_map_members(server), 3);
	assert_int_equal(slot_alloc(a, 300, &first), 300);
	assert_int_equal(slot_alloc(b, 200, &first), 200);
	assert_int_equal(slot_map_sweep(server), 0);
	assert_int_equal(slot_map_used(server), 500);
	assert_int_equal(slot_map_count(slot_map_fd(server), 2000, &n), 0);
	assert_int_equal(n.used, 500);
	assert_int_equal(n.lost, 0);
	assert_int_equal(n.free, 0);
	slot_map_close(a);
	assert_int_equal(slot_map_sweep(server), 300);
	assert_int_equal(slot_map_members(server), 2);
	/* one that was invited and never came */
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_members(server), 3);
	close(fd);
	assert_int_equal(slot_map_sweep(server), 0);
	assert_int_equal(slot_map_members(server), 2);
	/* the server ends; another takes over what is left, and only a map that was served */
	copy = dup(slot_map_fd(b));
	slot_map_close(server);
	assert_int_equal(slot_map_adopt(&none, proc_fd(), copy, 1000), -EINVAL);
	assert_int_equal(slot_map_adopt(&server, proc_fd(), copy, 2000), 0);
	close(copy);
	assert_int_equal(slot_map_used(server), 200);
	assert_int_equal(slot_map_sweep(server), 0);
	assert_int_equal(slot_map_members(server), 2);
	slot_map_close(b);
	assert_int_equal(slot_map_sweep(server), 200);
	assert_int_equal(slot_map_used(server), 0);
	slot_map_close(server);
	server = map(2000);
	assert_int_equal(slot_map_adopt(&none, proc_fd(), slot_map_fd(server), 2000), -EINVAL);
	slot_map_close(server);
}

/* A server that cannot see what a dead member was busy with, for want of memory, keeps it all. */
static void what_cannot_be_looked_at_is_kept(void **state)
{
	struct slot_map *server = map(1000), *m;
	uint32_t first, member;
	int fd;

	(void)state;
	assert_int_equal(slot_map_serve(server), 0);
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_accept(&m, fd, member, 1000), 0);
	assert_int_equal(slot_alloc(m, 3, &first), 3);
	slot_busy(m, first);
	slot_map_close(m);
	mmap_was = sys_table[SYSROW_mmap].fn;
	sys_table[SYSROW_mmap].fn = no_mmap;
	assert_int_equal(slot_map_sweep(server), 0);
	sys_table[SYSROW_mmap].fn = mmap_was;
	assert_int_equal(slot_map_used(server), 3);
	/* later what it held is free, and that slot is when its I/O must be over */
	assert_int_equal(slot_map_sweep(server), 2);
	assert_int_equal(slot_users(server, first), 1);
	slot_map_close(server);
}

/* What a member took and did not note before it was killed; nobody but the server recounts. */
static void what_nobody_holds_is_found_by_the_server(void **state)
{
	struct slot_map *server = map(1000), *a, *b;
	char nothing[4096] = {0};
	uint32_t first, member;
	struct slot_count n;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(slot_map_serve(server), 0);
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_accept(&b, fd, member, 1000), 0);
	assert_int_equal(slot_map_invite(server, proc_fd(), &fd, &member), 0);
	assert_int_equal(slot_map_accept(&a, fd, member, 1000), 0);
	assert_int_equal(slot_alloc(a, 5, &first), 5);
	assert_int_equal(slot_alloc(b, 7, &first), 7);
	/* the members' bits are last: of each a page of those held, and a page of those busy */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pwrite(fd, nothing, sizeof(nothing),
				st.st_size - (off_t)(SLOT_MEMBERS_MAX - member) * 8192),
			 sizeof(nothing));
	slot_map_close(a);
	assert_int_equal(slot_map_sweep(b), 0);
	assert_int_equal(slot_map_count(slot_map_fd(server), 1000, &n), 0);
	assert_int_equal(n.used, 12);
	assert_int_equal(n.lost, 5);
	slot_map_close(server);
	/* the last member, but the map is not its to count */
	assert_int_equal(slot_map_sweep(b), 0);
	assert_int_equal(slot_map_used(b), 12);
	assert_int_equal(slot_map_adopt(&server, proc_fd(), slot_map_fd(b), 1000), 0);
	assert_int_equal(slot_map_sweep(server), 0);
	slot_map_close(b);
	assert_int_equal(slot_map_sweep(server), 12);
	assert_int_equal(slot_map_used(server), 0);
	slot_map_close(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_slot_is_handed_out_once),
		cmocka_unit_test(runs_are_as_long_as_the_cluster),
		cmocka_unit_test(emptier_clusters_go_first),
		cmocka_unit_test(what_a_dead_member_held_is_free),
		cmocka_unit_test(what_a_dead_member_was_busy_with_is_kept),
		cmocka_unit_test(a_fork_that_failed_leaves_nothing),
		cmocka_unit_test(members_never_get_the_same_slot),
		cmocka_unit_test(random_calls),
		cmocka_unit_test(a_nearly_full_area_is_no_slower),
		cmocka_unit_test(bookkeeping_is_for_what_was_used),
		cmocka_unit_test(bookkeeping_has_one_members_bits),
		cmocka_unit_test(more_room_makes_longer_runs),
		cmocka_unit_test(members_that_are_invited),
		cmocka_unit_test(what_cannot_be_looked_at_is_kept),
		cmocka_unit_test(what_nobody_holds_is_found_by_the_server),
		cmocka_unit_test(who_spoils_the_map_spoils_no_more),
		cmocka_unit_test(no_word_that_is_spoilt_stays),
		cmocka_unit_test(a_count_that_is_too_high_ends_nothing),
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
