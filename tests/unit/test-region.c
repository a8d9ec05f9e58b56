/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Regions: random inserts, removes and changes leave the tree that a plain map
 * of pages says, merged, balanced and counted; a change that finds no memory
 * leaves all as it was; region_overlaps() is right while the tree moves.
 */
#include "test.h"

#include "rnd.h"
#include "region.h"
#include "sys.h"

#include <pthread.h>
#include <sys/mman.h>

#define PG ((uintptr_t)4096)
#define PAGES 300U
#define BASE ((uintptr_t)0x7f0000000000)
#define RW (PROT_READ | PROT_WRITE)

/* What each page should be: prot -1 is not managed. */
struct want {
	int prot;
	uint32_t flags;
	struct region_users *file; /* NULL: anonymous memory */
	uint64_t delta;
};

static struct want map[PAGES];
static struct region_users files[2];
static struct region_tree tree;
static uintptr_t at(unsigned page)
{
	return BASE + page * PG;
}

static void start(uint64_t s)
{
	seed = s;
	region_tree_init(&tree);
	files[0] = files[1] = (struct region_users){.first = NULL};
	for (unsigned i = 0; i < PAGES; i++)
		map[i] = (struct want){.prot = -1};
}

/* The height of a subtree that is ordered, balanced and threaded; *last: the node below it. */
static int check_node(const struct region *r, const struct region *parent, uintptr_t low,
		      uintptr_t high, const struct region **last)
{
	int l, h;

	if (r == NULL)
		return 0;
	assert_true(r->start >= low && r->end <= high && r->start < r->end);
	assert_ptr_equal(r->parent, parent);
	l = check_node(r->left, r, low, r->start, last);
	assert_ptr_equal(r->prev, *last);
	if (*last != NULL)
		assert_ptr_equal((*last)->next, r);
	*last = r;
	h = check_node(r->right, r, r->end, high, last);
	assert_in_range(l - h + 1, 0, 2);
	assert_int_equal(r->height, (l > h ? l : h) + 1);
	return r->height;
}

static bool same(const struct want *a, const struct want *b)
{
	return a->prot == b->prot && a->flags == b->flags && a->file == b->file &&
	       a->delta == b->delta;
}

/* The regions of a file are linked, each once. */
static void check_users(const struct region_users *file)
{
	struct region *const *link = &file->first;
	uint64_t n = 0, runs = 0;

	for (const struct region *r = file->first; r != NULL; r = r->user_next, n++) {
		assert_ptr_equal(r->users, file);
		assert_ptr_equal(r->user_link, link);
		assert_ptr_equal(region_find(&tree, r->start), r);
		link = &r->user_next;
	}
	for (unsigned i = 0; i < PAGES; i++)
		runs += map[i].prot != -1 && map[i].file == file &&
			(i == 0 || map[i - 1].prot == -1 || !same(&map[i], &map[i - 1]));
	assert_int_equal(n, runs);
	assert_int_equal(file->count, runs);
}

static void check(void)
{
	const struct region *last = NULL;
	uint64_t pages = 0, open = 0, locked = 0, locked_open = 0, held = 0;
	size_t runs = 0;

	check_node(tree.root, NULL, 0, UINTPTR_MAX, &last);
	assert_ptr_equal(tree.last, last);
	if (last != NULL)
		assert_null(last->next);
	for (unsigned i = 0; i < PAGES; i++) {
		const struct region *r = region_find(&tree, at(i));
		const struct region *n = region_next(&tree, at(i));
		unsigned next = i;

		while (next < PAGES && map[next].prot == -1)
			next++;
		if (next == PAGES)
			assert_null(n);
		else if (next != i)
			assert_int_equal(n->start, at(next));
		if (map[i].prot == -1) {
			assert_null(r);
			continue;
		}
		assert_non_null(r);
		assert_ptr_equal(r, n);
		assert_int_equal(r->prot, map[i].prot);
		assert_int_equal(r->flags, map[i].flags);
		assert_ptr_equal(r->users, map[i].file);
		assert_int_equal(r->delta, map[i].delta);
		pages++;
		open += map[i].prot != PROT_NONE;
		locked += (map[i].flags & REGION_LOCKED) != 0;
		held += (map[i].flags & REGION_HELD) != 0;
		locked_open += map[i].prot != PROT_NONE && (map[i].flags & REGION_LOCKED) != 0;
		/* a region starts where the properties change, and nowhere else */
		if (i == 0 || !same(&map[i], &map[i - 1])) {
			assert_int_equal(r->start, at(i));
			runs++;
		} else {
			assert_true(r->start < at(i));
		}
	}
	check_users(&files[0]);
	check_users(&files[1]);
	assert_int_equal(tree.count, runs);
	assert_int_equal(tree.pool.in_use, runs);
	assert_int_equal(tree.pages, pages);
	assert_int_equal(tree.open_pages, open);
	assert_int_equal(tree.locked_pages, locked);
	assert_int_equal(tree.locked_open_pages, locked_open);
	assert_int_equal(tree.held_pages, held);
	assert_int_equal(tree.seq % 2, 0);
}

static int do_insert(unsigned a, unsigned n, int prot, uint32_t flags)
{
	int r = region_insert(&tree, at(a), at(a + n), prot, flags);

	for (unsigned i = a; r == 0 && i < a + n; i++)
		map[i] = (struct want){.prot = prot, .flags = flags};
	return r;
}

static int do_insert_file(unsigned a, unsigned n, int prot, unsigned file, uint64_t page)
{
	uint64_t delta = page - (at(a) >> 12);
	int r = region_insert_file(&tree, at(a), at(a + n), prot, REGION_SHARED, &files[file],
				   delta);

	for (unsigned i = a; r == 0 && i < a + n; i++)
		map[i] = (struct want){
			.prot = prot, .flags = REGION_SHARED, .file = &files[file], .delta = delta};
	return r;
}

static int do_remove(unsigned a, unsigned n)
{
	int r = region_remove(&tree, at(a), at(a + n));

	for (unsigned i = a; r == 0 && i < a + n; i++)
		map[i] = (struct want){.prot = -1};
	return r;
}

static int do_change(unsigned a, unsigned n, int prot, uint32_t set, uint32_t clear)
{
	int r = region_change(&tree, at(a), at(a + n), prot, set, clear);

	for (unsigned i = a; r == 0 && i < a + n; i++) {
		if (map[i].prot == -1)
			continue;
		if (prot != -1)
			map[i].prot = prot;
		map[i].flags = (map[i].flags & ~clear) | set;
	}
	return r;
}

static int random_step(unsigned longest)
{
	static const int prots[] = {PROT_NONE, PROT_READ, RW};
	static const uint32_t flags[] = {0, 0, REGION_LOCKED, REGION_SEQUENTIAL, REGION_NORESERVE};
	unsigned n = 1 + rnd(longest);
	unsigned a = rnd(PAGES - n + 1);

	switch (rnd(6)) {
	case 0:
		/* page numbers that mostly go on where the neighbours' end */
		return do_insert_file(a, n, prots[rnd(3)], rnd(2), a + 1000 * rnd(2));
	case 1:
	case 5:
		return do_insert(a, n, prots[rnd(3)], flags[rnd(5)]);
	case 2:
		return do_remove(a, n);
	case 3:
		return do_change(a, n, rnd(3) == 0 ? -1 : prots[rnd(3)], flags[rnd(5)],
				 flags[rnd(5)]);
	default:
		return do_change(a, n, -1, flags[rnd(5)], flags[rnd(5)]);
	}
}

static void random_changes_agree_with_a_map(void **state)
{
	static const unsigned longest[] = {1, 3, 20, PAGES};

	(void)state;
	for (uint64_t s = 1; s <= 4; s++) {
		start(s * 7919);
		for (unsigned i = 0; i < 6000; i++) {
			assert_int_equal(random_step(longest[(i / 500) % 4]), 0);
			if (i % 4 == 0)
				if (i % 4 == 0)
					check();
		}
		check();
		assert_int_equal(do_remove(0, PAGES), 0);
		check();
		assert_null(tree.root);
		region_tree_fini(&tree);
	}
}

static void neighbours_merge_and_split(void **state)
{
	(void)state;
	start(1);
	do_insert(10, 10, RW, 0);
	do_insert(30, 10, RW, 0);
	assert_int_equal(tree.count, 2);
	do_insert(20, 10, RW, 0);
	assert_int_equal(tree.count, 1);
	check();
	do_change(15, 10, PROT_NONE, 0, 0);
	assert_int_equal(tree.count, 3);
	assert_int_equal(tree.open_pages, 20);
	check();
	do_change(0, PAGES, RW, 0, 0);
	assert_int_equal(tree.count, 1);
	do_change(12, 2, -1, REGION_LOCKED, 0);
	assert_int_equal(tree.locked_pages, 2);
	do_remove(13, 1);
	assert_int_equal(tree.locked_pages, 1);
	assert_int_equal(tree.count, 3);
	check();
	/* what was split off at the end of a change joins again, over a neighbour */
	do_remove(0, PAGES);
	do_insert(0, 10, RW, 0);
	do_insert(10, 10, RW, REGION_RANDOM);
	do_change(0, 15, -1, REGION_RANDOM, 0);
	assert_int_equal(tree.count, 1);
	check();
	do_remove(13, 1);
	/* the figures about write-protection do not keep neighbours apart */
	do_insert(13, 1, RW, 0);
	region_find(&tree, at(13))->wp_installs = 77;
	assert_int_equal(tree.count, 3);
	do_change(0, PAGES, -1, REGION_LOCKED, REGION_RANDOM);
	assert_int_equal(tree.count, 1);
	check();
	region_tree_fini(&tree);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void without_memory_nothing_changes(void **state)
{
	sys_fn bare = sys_table[SYSROW_mmap].fn;
	unsigned refused = 0;

	(void)state;
	start(42);
	/* as many regions as there can be, until the chunk that is there is used up */
	do_insert(0, 1, RW, 0);
	sys_table[SYSROW_mmap].fn = no_memory;
	for (unsigned i = 2; i < PAGES && refused == 0; i += 2) {
		int r = do_insert(i, 1, RW, 0);

		assert_true(r == 0 || r == -ENOMEM);
		refused += r == -ENOMEM;
	}
	if (refused == 0)
		for (unsigned i = 1; i < PAGES && refused == 0; i += 2)
			refused += do_insert(i, 1, PROT_READ, 0) == -ENOMEM;
	assert_int_equal(refused, 1);
	check();
	/* with all nodes in use a change is refused, and none does half of it */
	refused = 0;
	for (unsigned i = 0; i < 1000; i++) {
		int r;

		for (unsigned k = 0; k < 2000; k++)
			if (do_insert(rnd(PAGES), 1, rnd(2) ? RW : PROT_READ,
				      rnd(2) ? REGION_LOCKED : 0) != 0)
				break;
		check();
		r = random_step(12);
		assert_true(r == 0 || r == -ENOMEM);
		refused += r != 0;
		check();
	}
	sys_table[SYSROW_mmap].fn = bare;
	assert_true(refused > 100);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(random_step(5), 0);
	check();
	region_tree_fini(&tree);
}

/* ---- asked without a lock ---- */

/* Pages 0-9 and 290-299 are always managed, 100-101 and 200 never are. */
static bool writer_done;

struct asker {
	pthread_t thread;
	uint64_t seed, asked;
	unsigned wrong;
};

static void *ask(void *arg)
{
	struct asker *k = arg;
	uint64_t s = k->seed;

	while (!__atomic_load_n(&writer_done, __ATOMIC_ACQUIRE)) {
		unsigned n;

		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		n = 1 + (unsigned)((s >> 20) % 80);
		switch ((s >> 40) % 5) {
		case 0:
			k->wrong += !region_overlaps(&tree, at(9), at(9 + n));
			break;
		case 1:
			k->wrong += !region_overlaps(&tree, at(291 - n), at(291));
			break;
		case 2:
			k->wrong += region_overlaps(&tree, at(100), at(102));
			break;
		case 3:
			k->wrong += region_overlaps(&tree, at(200), at(201));
			break;
		default:
			k->wrong += !region_overlaps(&tree, BASE - PG, at(PAGES));
			k->wrong += region_overlaps(&tree, at(PAGES), at(PAGES + n));
			break;
		}
		__atomic_fetch_add(&k->asked, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void overlaps_is_right_while_the_tree_moves(void **state)
{
	struct asker k[2] = {{.seed = 3}, {.seed = 5}};

	(void)state;
	start(99);
	do_insert(0, 10, RW, 0);
	do_insert(290, 10, RW, 0);
	writer_done = false;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&k[i].thread, NULL, ask, &k[i]), 0);
	for (unsigned i = 0; i < 60000; i++) {
		static const unsigned low[] = {10, 102, 201}, len[] = {90, 98, 89};
		unsigned part = rnd(3);
		unsigned n = 1 + rnd(i % 1000 < 500 ? 2 : 40);
		unsigned a = low[part] + rnd(len[part] - n + 1);

		if (rnd(5) < 3)
			do_insert(a, n, rnd(2) ? RW : PROT_READ, 0);
		else
			do_remove(a, n);
		/* and the properties of what stays */
		if (i % 7 == 0)
			do_change(rnd(10), 1, rnd(2) ? RW : PROT_READ, 0, 0);
	}
	/* on a busy machine the askers may not have run yet */
	while (__atomic_load_n(&k[0].asked, __ATOMIC_RELAXED) == 0 ||
	       __atomic_load_n(&k[1].asked, __ATOMIC_RELAXED) == 0)
		do_change(rnd(10), 1, rnd(2) ? RW : PROT_READ, 0, 0);
	__atomic_store_n(&writer_done, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(k[i].thread, NULL), 0);
		assert_int_equal(k[i].wrong, 0);
	}
	check();
	region_tree_fini(&tree);
}

static void files_are_told_apart(void **state)
{
	struct region_users users = {0};
	struct region_tree t;

	(void)state;
	region_tree_init(&t);
	assert_false(region_is_file(&t, BASE));
	assert_int_equal(region_insert_file(&t, BASE, BASE + 4 * PG, 3, 0, &users, 0), 0);
	assert_int_equal(region_insert(&t, BASE + 4 * PG, BASE + 6 * PG, 3, 0), 0);
	assert_false(region_is_file(&t, BASE - 1));
	assert_true(region_is_file(&t, BASE));
	assert_true(region_is_file(&t, BASE + 4 * PG - 1));
	assert_false(region_is_file(&t, BASE + 4 * PG));
	assert_int_equal(region_remove(&t, BASE, BASE + PG), 0);
	assert_false(region_is_file(&t, BASE));
	assert_true(region_is_file(&t, BASE + PG));
	region_tree_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_agree_with_a_map),
		cmocka_unit_test(neighbours_merge_and_split),
		cmocka_unit_test(files_are_told_apart),
		cmocka_unit_test(without_memory_nothing_changes),
		cmocka_unit_test(overlaps_is_right_while_the_tree_moves),
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
