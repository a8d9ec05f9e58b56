/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of a group: never more than the limit is granted, whoever dies
 * where; what members held that ended is found again; processes that look for
 * a group at once find one.
 */
#include "test.h"

#include "group.h"
#include "sys.h"

#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <time.h>

#define LIMIT 16384U /* pages */

static struct group *join(char *handle)
{
	struct group *g;
	char why[256];
	int r = group_open(&g, handle, LIMIT, why, sizeof(why));

	if (r != 0)
		print_message("# %s\n", why);
	assert_int_equal(r, 0);
	return g;
}

/* End with the parent, which may have ended already. */
static void end_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

/* A process that does fn and then waits for its end; `said` counts those that are so far. */
static unsigned *said;

static pid_t process(void (*fn)(char *), char *handle)
{
	unsigned before = __atomic_load_n(said, __ATOMIC_ACQUIRE);
	pid_t parent = getpid();
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		test_child();
		end_with(parent);
		fn(handle);
		__atomic_fetch_add(said, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	until(__atomic_load_n(said, __ATOMIC_ACQUIRE) != before ||
	      waitpid(pid, NULL, WNOHANG) != 0);
	assert_int_not_equal(__atomic_load_n(said, __ATOMIC_ACQUIRE), before);
	return pid;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void nothing_is_granted_twice(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g;

	(void)state;
	group_name(handle);
	g = join(handle);
	assert_int_equal(group_limit(g), LIMIT);
	assert_int_equal(group_free(g), LIMIT);
	assert_int_equal(group_members(g), 1);
	assert_int_equal(group_take(g, 1, 100, GROUP_FOR_FLOOR), 100);
	/* what is mapped leaves half of the limit, frames leave a floor, a floor nothing */
	assert_int_equal(group_take(g, 1, LIMIT, GROUP_FOR_MAPPED), LIMIT / 2 - 100);
	assert_int_equal(group_take(g, 1, 1, GROUP_FOR_MAPPED), 0);
	assert_int_equal(group_take(g, LIMIT, LIMIT, GROUP_FOR_FRAMES), 0);
	assert_int_equal(group_take(g, 1, LIMIT, GROUP_FOR_FRAMES), LIMIT / 2 - GROUP_FLOOR);
	assert_int_equal(group_take(g, 1, 1, GROUP_FOR_FRAMES), 0);
	assert_int_equal(group_take(g, GROUP_FLOOR + 1, GROUP_FLOOR + 1, GROUP_FOR_FLOOR), 0);
	assert_int_equal(group_take(g, 1, LIMIT, GROUP_FOR_FLOOR), GROUP_FLOOR);
	assert_int_equal(group_take(g, 1, 1, GROUP_FOR_FLOOR), 0);
	assert_int_equal(group_free(g), 0);
	assert_int_equal(group_grant(g), LIMIT);
	assert_int_equal(group_most(g), LIMIT);
	assert_false(group_sweep(g, -1));
	group_give(g, 1000);
	assert_int_equal(group_free(g), 1000);
	group_give(g, 2 * LIMIT);
	assert_int_equal(group_free(g), LIMIT);
	assert_int_equal(group_grant(g), 0);
	group_close(g);
}

/* ---- finding ---- */

static void take_a_thousand(char *handle)
{
	assert_int_equal(group_take(join(handle), 1000, 1000, GROUP_FOR_FLOOR), 1000);
}

static void a_handle_finds_its_group_alone(void **state)
{
	char handle[GROUP_HANDLE_MAX], other[GROUP_HANDLE_MAX], kept[GROUP_HANDLE_MAX];
	struct group *g, *h;
	char why[256];
	pid_t pid;

	(void)state;
	group_name(handle);
	group_name(other);
	assert_string_not_equal(handle, other);
	g = join(handle);
	h = join(other);
	pid = process(take_a_thousand, handle);
	assert_int_equal(group_free(g), LIMIT - 1000);
	assert_int_equal(group_members(g), 2);
	assert_int_equal(group_free(h), LIMIT);
	/* a number that is another group's is not believed */
	strcpy(kept, handle);
	memcpy(handle, other, 10);
	end(process(take_a_thousand, handle));
	assert_int_equal(group_free(g), LIMIT - 2000);
	assert_int_equal(group_free(h), LIMIT);
	strcpy(handle, kept);
	end(pid);
	group_close(g);
	/* nobody is left: a group of that name begins anew */
	g = join(handle);
	assert_string_not_equal(handle, kept);
	assert_string_equal(handle + 10, kept + 10);
	assert_int_equal(group_free(g), LIMIT);
	group_close(g);
	group_close(h);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const bad[] = {"", "1", "12:xyz", "0000000001:123"};

		strcpy(handle, bad[i]);
		assert_int_equal(group_open(&g, handle, LIMIT, why, sizeof(why)), -EINVAL);
		assert_null(g);
	}
}

#define MANY 12U

/* All look for a group that is nowhere: they make one. */
static void who_comes_at_once_meets(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 10; round++) {
		char handle[GROUP_HANDLE_MAX];
		uint32_t *counts =
			mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		pid_t pid[MANY];

		group_name(handle);
		for (unsigned i = 0; i < MANY; i++) {
			pid[i] = fork();
			assert_true(pid[i] >= 0);
			if (pid[i] == 0) {
				time_t until = time(NULL) + HANG_SECONDS;
				struct group *g;

				test_child();
				__atomic_fetch_add(&counts[0], 1, __ATOMIC_SEQ_CST);
				while (__atomic_load_n(&counts[0], __ATOMIC_SEQ_CST) < MANY)
					sched_yield();
				g = join(handle);
				__atomic_fetch_add(&counts[1], 1, __ATOMIC_SEQ_CST);
				while (__atomic_load_n(&counts[1], __ATOMIC_SEQ_CST) < MANY &&
				       time(NULL) < until)
					sched_yield();
				_exit(group_members(g) == MANY ? 0 : 1);
			}
		}
		for (unsigned i = 0; i < MANY; i++) {
			test_reap(pid[i]);
		}
		munmap(counts, 4096);
	}
}

/* One that was killed while it made a table left its segment, with the key. */
static void what_a_dead_maker_left_is_removed(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct shmid_ds ds;
	struct group *g;
	uint64_t name;
	size_t bytes = 0;
	int id;

	(void)state;
	group_name(handle);
	g = join(handle);
	assert_int_equal(shmctl(atoi(handle), IPC_STAT, &ds), 0);
	bytes = ds.shm_segsz;
	group_close(g);
	assert_int_equal(shmctl(atoi(handle), IPC_STAT, &ds), -1); /* nothing stays */
	name = strtoull(handle + 11, NULL, 16);
	id = shmget((key_t)((name ^ name >> 32) | 1), bytes, IPC_CREAT | IPC_EXCL | 0600);
	assert_true(id >= 0);
	g = join(handle);
	assert_int_equal(group_free(g), LIMIT);
	assert_int_equal(shmctl(id, IPC_STAT, &ds), -1);
	group_close(g);
}

/* ---- life and death ---- */

static void become_another(char *handle)
{
	pid_t parent = getpid();

	take_a_thousand(handle);
	if (fork() == 0) {
		end_with(parent);
		pause(); /* inherits the table, not the membership */
	}
	__atomic_fetch_add(said, 1, __ATOMIC_RELEASE);
	execlp("sleep", "sleep", "1000", NULL);
	_exit(1);
}

static void pages_of_the_dead_come_back(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g;
	pid_t pid;

	(void)state;
	group_name(handle);
	g = join(handle);
	pid = process(take_a_thousand, handle);
	assert_false(group_sweep(g, -1));
	assert_int_equal(group_free(g), LIMIT - 1000);
	/* a zombie has no memory */
	kill(pid, SIGKILL);
	until((group_sweep(g, -1), group_free(g) == LIMIT));
	assert_int_equal(group_members(g), 1);
	end(pid);
	/* nor has who became another program, under the same number */
	pid = process(become_another, handle);
	until((group_sweep(g, -1), group_free(g) == LIMIT));
	assert_int_equal(kill(pid, 0), 0);
	end(pid);
	group_close(g);
}

/* A program that this one becomes by exec takes the place of its former image. */
static void a_number_has_one_member(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g, *again;

	(void)state;
	group_name(handle);
	g = join(handle);
	assert_int_equal(group_take(g, 700, 700, GROUP_FOR_FLOOR), 700);
	again = join(handle);
	assert_int_equal(group_members(again), 1);
	group_sweep(again, -1);
	assert_int_equal(group_free(again), LIMIT);
	group_close(again);
}

/* Another limit, for which there is room. */
static void set_limit(struct group *g, uint64_t pages)
{
	assert_int_equal(group_aim(g, pages), 0);
	until(group_follow(g) == 0);
	group_sweep(g, -1);
	assert_int_equal(group_limit(g), pages);
}

enum act { NOTHING, TAKE, GIVE, LOWER, FORK, STILLBORN, ACTS };

static void act(struct group *g, enum act what)
{
	uint32_t child;

	switch (what) {
	case NOTHING:
		break;
	case TAKE:
		group_take(g, 1, 300, GROUP_FOR_FLOOR);
		break;
	case GIVE:
		group_give(g, 300);
		break;
	case LOWER:
		group_aim(g, LIMIT - 500);
		group_follow(g);
		break;
	default:
		child = group_conceive(g);
		group_take_for(g, child, 1, 100, GROUP_FOR_FLOOR);
		group_hand(g, child, 100);
		if (what == STILLBORN)
			group_stillborn(g, child);
	}
}

/*
 * Killed after each instruction of what it does: the limit is never passed, and all
 * pages are found.  False when it came to its end before.
 */
static bool dies_after(struct group *g, char *handle, enum act what, unsigned steps)
{
	pid_t pid = fork();
	bool finished = false;
	int status;

	if (pid == 0) {
		struct group *mine;

		test_child();
		mine = join(handle);
		assert_int_equal(group_take(mine, 1000, 1000, GROUP_FOR_FLOOR), 1000);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		act(mine, what);
		raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	for (unsigned i = 0; i < steps && !finished; i++) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		finished = WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
	}
	/* while it stands there it is in nobody's way */
	assert_true(group_free(g) <= LIMIT - 700);
	assert_int_equal(group_take(g, 50, 50, GROUP_FOR_FLOOR), 50);
	group_sweep(g, -1);
	assert_true(group_free(g) <= LIMIT - 50 - 700);
	group_give(g, 50);
	end(pid);
	group_sweep(g, -1);
	assert_int_equal(group_free(g), group_limit(g));
	assert_int_equal(group_members(g), 1);
	assert_true(what == LOWER ? group_limit(g) == LIMIT || group_limit(g) == LIMIT - 500
				  : group_limit(g) == LIMIT);
	set_limit(g, LIMIT);
	return !finished;
}

static void a_death_between_two_steps_loses_nothing(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	unsigned idle = 0;
	struct group *g;

	(void)state;
	group_name(handle);
	g = join(handle);
	for (enum act what = NOTHING; what < ACTS; what++) {
		unsigned steps = 1;

		while (dies_after(g, handle, what, steps))
			steps += 3;
		/* raise(3) has instructions of its own, on both sides */
		if (what == NOTHING)
			idle = steps;
		else
			assert_true(steps > idle + 10);
	}
	group_close(g);
}

static void swing(char *handle)
{
	struct group *g = join(handle);

	__atomic_fetch_add(said, 1, __ATOMIC_RELEASE);
	for (uint32_t x = (uint32_t)getpid();;) {
		x = x * 69069 + 12345;
		if (x >> 31)
			group_take(g, 1, x >> 20 & 2047, GROUP_FOR_FLOOR);
		else
			group_give(g, x >> 20 & 2047);
	}
}

/* Members that take, give and are killed at random, while one that stays counts again and again. */
static void the_limit_holds_in_a_crowd(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g;
	pid_t pid[4] = {0};
	uint32_t x = 1;

	(void)state;
	group_name(handle);
	g = join(handle);
	for (unsigned round = 0; round < 40; round++) {
		x = x * 69069 + 12345;
		for (unsigned i = 0; i < 4; i++)
			if (pid[i] == 0)
				pid[i] = process(swing, handle);
		for (unsigned i = 0; i < 200; i++) {
			uint64_t free = group_free(g);

			assert_true(free <= LIMIT);
			group_sweep(g, -1);
		}
		end(pid[x >> 30]);
		pid[x >> 30] = 0;
	}
	for (unsigned i = 0; i < 4; i++)
		if (pid[i] != 0)
			end(pid[i]);
	group_sweep(g, -1);
	assert_int_equal(group_free(g), LIMIT);
	assert_int_equal(group_members(g), 1);
	group_close(g);
}

/* The same while the limit changes: it is never passed, and no page comes or goes with it. */
static void the_limit_changes_in_a_crowd(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g;
	pid_t pid[4] = {0};
	uint32_t x = 7;

	(void)state;
	group_name(handle);
	g = join(handle);
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < 4; i++)
			if (pid[i] == 0)
				pid[i] = process(swing, handle);
		for (unsigned i = 0; i < 100; i++) {
			uint64_t free;

			x = x * 69069 + 12345;
			assert_int_equal(group_aim(g, LIMIT / 2 + (x >> 17)), 0);
			group_follow(g);
			free = group_free(g);
			/* it may be lowered by nobody else, and grants are not negative */
			assert_true(free <= group_limit(g));
			group_sweep(g, -1);
			assert_true(group_limit(g) >= LIMIT / 2);
		}
		end(pid[x >> 30]);
		pid[x >> 30] = 0;
	}
	for (unsigned i = 0; i < 4; i++)
		if (pid[i] != 0)
			end(pid[i]);
	group_sweep(g, -1);
	assert_int_equal(group_members(g), 1);
	assert_int_equal(group_free(g), group_limit(g));
	set_limit(g, LIMIT / 2);
	assert_int_equal(group_free(g), LIMIT / 2);
	assert_int_equal(group_take(g, LIMIT / 2, LIMIT / 2, GROUP_FOR_FLOOR), LIMIT / 2);
	/* nothing is free, so nothing can be given up; meanwhile nobody gets what is given back */
	assert_int_equal(group_aim(g, LIMIT / 4), 0);
	assert_int_equal(group_follow(g), LIMIT / 4);
	group_give(g, 100);
	assert_int_equal(group_take(g, 1, 100, GROUP_FOR_FRAMES), 0);
	assert_int_equal(group_take(g, 1, 100, GROUP_FOR_MAPPED), 0);
	assert_int_equal(group_follow(g), LIMIT / 4 - 100);
	assert_int_equal(group_limit(g), LIMIT / 2 - 100);
	assert_int_equal(group_free(g), 0);
	/* less than everybody must have, and more than can be counted */
	assert_int_equal(group_aim(g, GROUP_FLOOR - 1), -ENOMEM);
	assert_int_equal(group_aim(g, (uint64_t)UINT32_MAX + 1), -EINVAL);
	set_limit(g, LIMIT);
	assert_int_equal(group_free(g), LIMIT / 2 + 100);
	group_close(g);
}

/* ---- fork ---- */

static void a_child_is_born_with_pages(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	struct group *g;
	uint32_t child;
	int status;
	pid_t pid;

	(void)state;
	group_name(handle);
	g = join(handle);
	assert_int_equal(group_take(g, 2000, 2000, GROUP_FOR_FLOOR), 2000);
	child = group_conceive(g);
	assert_int_not_equal(child, GROUP_NONE);
	assert_int_equal(group_take_for(g, child, 500, 500, GROUP_FOR_FLOOR), 500);
	group_hand(g, child, 300);
	assert_int_equal(group_grant_of(g, child), 800);
	assert_int_equal(group_grant(g), 1700);
	assert_int_equal(group_free(g), LIMIT - 2500);
	group_stillborn(g, child);
	assert_int_equal(group_free(g), LIMIT - 1700);
	assert_int_equal(group_members(g), 1);

	child = group_conceive(g);
	group_hand(g, child, 600);
	pid = fork();
	if (pid == 0) {
		bool ok = group_enter(g, child, false) && group_grant(g) == 600;

		group_give(g, 100);
		_exit(ok && group_grant(g) == 500 && group_members(g) == 2 ? 0 : 1);
	}
	group_born(g, child, pid);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(group_free(g), LIMIT - 1600);
	assert_true(group_sweep(g, -1));
	assert_int_equal(group_free(g), LIMIT - 1100);
	group_close(g);
}

/* ---- asking ---- */

static void hold_most(char *handle)
{
	struct group *g = join(handle);
	struct pollfd fd;
	uint64_t n;

	assert_int_equal(group_take(g, 12000, 12000, GROUP_FOR_FLOOR), 12000);
	group_armed(g);
	group_needs(g);
	fd = (struct pollfd){.fd = group_listen(g), .events = POLLIN};
	assert_true(fd.fd >= 0);
	__atomic_fetch_add(said, 1, __ATOMIC_RELEASE);
	while (poll(&fd, 1, HANG_SECONDS * 1000) == 1) {
		group_heard(g);
		n = group_asked(g);
		group_give(g, n);
		group_answered(g, n);
	}
}

static void who_has_more_than_its_share_is_asked(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	time_t until = time(NULL) + HANG_SECONDS;
	uint64_t share;
	struct group *g;
	pid_t pid;

	(void)state;
	group_name(handle);
	g = join(handle);
	assert_int_equal(group_take(g, 1000, 1000, GROUP_FOR_FLOOR), 1000);
	group_armed(g);
	assert_false(group_ask(g, 100, GROUP_FOR_FRAMES));
	pid = process(hold_most, handle);
	share = group_share(g);
	assert_int_equal(share, (LIMIT - GROUP_FLOOR) / 2);
	group_needs(g);
	assert_true(group_ask(g, 1000, GROUP_FOR_FRAMES));
	while (group_grant(g) < share) {
		assert_true(time(NULL) < until);
		if (group_take(g, 1, share - group_grant(g), GROUP_FOR_FRAMES) != 0)
			continue;
		/* an asking that crosses an answer is lost: who still needs asks again */
		group_ask(g, 1000, GROUP_FOR_FRAMES);
		group_wait(g, 1000000);
	}
	/* neither has more than its share now */
	assert_int_equal(group_grant(g), share);
	assert_int_equal(group_asked(g), 0);
	end(pid);
	group_sweep(g, -1);
	assert_int_equal(group_free(g), LIMIT - share);
	group_close(g);
}

/* ---- a member that writes anything ---- */

static uint64_t rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Until it is killed: most is written to the first words and members. */
static void spoils(char *handle)
{
	struct shmid_ds ds;
	uint64_t *table;
	size_t words;
	int id = atoi(handle);

	assert_int_equal(shmctl(id, IPC_STAT, &ds), 0);
	table = shmat(id, NULL, 0);
	assert_ptr_not_equal(table, (void *)-1);
	words = ds.shm_segsz / sizeof(*table);
	__atomic_fetch_add(said, 1, __ATOMIC_RELEASE);
	rng = 88172645463325252U;
	for (;;) {
		uint64_t v = rnd() % 3 == 0   ? rnd()
			     : rnd() % 2 == 0 ? UINT64_MAX
					      : rnd() % (2 * LIMIT);
		size_t at = rnd() % 4 == 0 ? rnd() % words : rnd() % 64;

		/* it is a table, and has that name */
		if (at >= 2)
			table[at] = v;
	}
}

/* The limit comes down between a look at what is free and what is said of the most. */
static void the_most_is_what_was_granted(void **state)
{
	char handle[GROUP_HANDLE_MAX];
	uint64_t *table;
	struct group *g;

	(void)state;
	group_name(handle);
	g = join(handle);
	table = shmat(atoi(handle), NULL, 0);
	assert_ptr_not_equal(table, (void *)-1);
	assert_int_equal(table[2], LIMIT);
	assert_int_equal(group_take(g, 1, 1000, GROUP_FOR_FLOOR), 1000);
	assert_int_equal(group_most(g), 1000);
	table[2] = LIMIT - 2000;
	assert_int_equal(group_take(g, 1, 100, GROUP_FOR_FLOOR), 100);
	assert_int_equal(group_most(g), 1000);
	table[2] = LIMIT;
	assert_int_equal(group_take(g, 1, 100, GROUP_FOR_FLOOR), 100);
	assert_int_equal(group_most(g), 1200);
	assert_int_equal(shmdt(table), 0);
	group_close(g);
}

/* Any answer will do that is in range; none is waited for without an end. */
static void who_spoils_the_table_spoils_no_more(void **state)
{
	const uint64_t most = UINT32_MAX;
	char handle[GROUP_HANDLE_MAX];
	struct group *g;
	pid_t pid;

	(void)state;
	group_name(handle);
	g = join(handle);
	pid = process(spoils, handle);
	for (unsigned step = 0; step < 20000; step++) {
		uint64_t want = 1 + step % 3000;
		uint32_t child;

		assert_true(group_take(g, 1, want, (enum group_claim)(step % 3)) <= want);
		group_give(g, step % 2 == 0 ? want : UINT64_MAX);
		assert_true(group_grant(g) <= most && group_limit(g) <= most);
		assert_true(group_free(g) <= most && group_members(g) <= GROUP_MEMBERS_MAX);
		assert_true(group_share(g) <= most);
		group_most(g);
		group_needs(g);
		if (step % 16 == 0) {
			group_ask(g, want, GROUP_FOR_FRAMES);
			group_ask_self(g);
			group_answered(g, group_asked(g));
			group_aim(g, want * 8);
			group_follow(g);
		}
		if (step % 512 != 0)
			continue;
		group_sweep(g, -1);
		group_wait(g, 1000);
		child = group_conceive(g);
		if (child == GROUP_NONE)
			continue;
		assert_true(child < GROUP_MEMBERS_MAX);
		group_take_for(g, child, 1, want, GROUP_FOR_FLOOR);
		group_hand(g, child, 1);
		assert_true(group_grant_of(g, child) <= most);
		group_stillborn(g, child);
	}
	end(pid);
	group_close(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_granted_twice),
		cmocka_unit_test(a_handle_finds_its_group_alone),
		cmocka_unit_test(who_comes_at_once_meets),
		cmocka_unit_test(what_a_dead_maker_left_is_removed),
		cmocka_unit_test(pages_of_the_dead_come_back),
		cmocka_unit_test(a_number_has_one_member),
		cmocka_unit_test(a_death_between_two_steps_loses_nothing),
		cmocka_unit_test(the_limit_holds_in_a_crowd),
		cmocka_unit_test(the_limit_changes_in_a_crowd),
		cmocka_unit_test(a_child_is_born_with_pages),
		cmocka_unit_test(who_has_more_than_its_share_is_asked),
		cmocka_unit_test(the_most_is_what_was_granted),
		cmocka_unit_test(who_spoils_the_table_spoils_no_more),
	};

	said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
