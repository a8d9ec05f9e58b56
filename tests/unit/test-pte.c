/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Page entries: random legal transitions at sparse addresses agree with a
 * plain array, in entries, counts and what pte_next() finds; leaves that are
 * empty are given back and used again; what must not happen ends the process.
 */
#include "test.h"

#include "rnd.h"
#include "pte.h"
#include "sys.h"

#include <stdlib.h>

#define LEAVES 40U
#define ALL_STATES ((1U << PTE_STATES) - 1)
#define NOT_NONE (ALL_STATES & ~(1U << PTE_NONE))

static struct pte_table table;
static pte_t want[LEAVES][PTE_LEAF_PAGES];
static vpn_t base[LEAVES]; /* ascending */
static uint64_t came;	   /* entries that became PRESENT */

static int by_value(const void *a, const void *b)
{
	vpn_t x = *(const vpn_t *)a, y = *(const vpn_t *)b;

	return x < y ? -1 : x > y;
}

/* Leaves next to each other, in one upper node, and far apart, with both ends of the space. */
static void setup(uint64_t s)
{
	seed = s;
	assert_int_equal(pte_table_open(&table), 0);
	memset(want, 0, sizeof(want));
	came = 0;
	for (unsigned i = 0; i < LEAVES; i++) {
		bool taken;

		do {
			unsigned how = rnd(3);

			taken = false;
			if (i < 2)
				base[i] = i == 0 ? 0 : VPN_MAX - PTE_LEAF_PAGES;
			else if (how == 0)
				base[i] = (base[i - 1] + PTE_LEAF_PAGES) % VPN_MAX;
			else if (how == 1)
				base[i] = (base[i - 1] & ~(((vpn_t)1 << 18) - 1)) +
					  (vpn_t)rnd(512) * PTE_LEAF_PAGES;
			else
				base[i] = rnd64() % VPN_MAX & ~(vpn_t)(PTE_LEAF_PAGES - 1);
			for (unsigned k = 0; k < i; k++)
				taken = taken || base[k] == base[i];
		} while (taken);
	}
	qsort(base, LEAVES, sizeof(base[0]), by_value);
	for (unsigned i = 1; i < LEAVES; i++)
		assert_true(base[i] > base[i - 1]);
}

/* The states that may follow each, by docs/design.md. */
static enum pte_state next_state(enum pte_state from)
{
	static const unsigned legal[PTE_STATES] = {
		[PTE_NONE] = ALL_STATES,
		[PTE_PRESENT] = 1U << PTE_NONE | 1U << PTE_PRESENT | 1U << PTE_STAGED |
				1U << PTE_SWAPPED | 1U << PTE_COMPRESSED,
		[PTE_STAGED] = ALL_STATES,
		[PTE_SWAPPED] = 1U << PTE_NONE | 1U << PTE_STAGED,
		[PTE_FILLED] = 1U << PTE_NONE | 1U << PTE_PRESENT,
		[PTE_POISONED] = 1U << PTE_NONE,
		[PTE_COMPRESSED] = ALL_STATES & ~(1U << PTE_STAGED | 1U << PTE_FILLED),
	};
	enum pte_state to;

	do {
		to = (enum pte_state)rnd(PTE_STATES);
	} while (!(legal[from] & 1U << to));
	return to;
}

static void check_counts(void)
{
	uint64_t count[PTE_STATES] = {0};

	for (unsigned l = 0; l < LEAVES; l++) {
		unsigned present = 0;

		for (unsigned i = 0; i < PTE_LEAF_PAGES; i++) {
			pte_prefetch(&table, base[l] + i);
			assert_int_equal(pte_get(&table, base[l] + i), want[l][i]);
			if (want[l][i] != 0)
				count[pte_state(want[l][i])]++;
			present += pte_state(want[l][i]) == PTE_PRESENT;
		}
		assert_int_equal(pte_leaf_present(&table, base[l]), present);
	}
	for (unsigned s = PTE_NONE + 1; s < PTE_STATES; s++)
		assert_int_equal(table.count[s], count[s]);
}

/* What pte_next() should say, by looking at every entry that may be one. */
static vpn_t slow_next(vpn_t vpn, vpn_t end, unsigned mask)
{
	for (unsigned l = 0; l < LEAVES; l++)
		for (unsigned i = 0; i < PTE_LEAF_PAGES; i++)
			if (base[l] + i >= vpn && base[l] + i < end && want[l][i] != 0 &&
			    (mask & 1U << pte_state(want[l][i])))
				return base[l] + i;
	return end;
}

static void random_transitions_agree_with_an_array(void **state)
{
	(void)state;
	setup(4711);
	for (unsigned round = 0; round < 60; round++) {
		/* towards full, towards empty */
		unsigned wipe = round % 3 == 2 ? 80 : 5;

		for (unsigned k = 0; k < 5000; k++) {
			unsigned l = rnd(LEAVES), i = rnd(PTE_LEAF_PAGES);
			enum pte_state to =
				rnd(100) < wipe ? PTE_NONE : next_state(pte_state(want[l][i]));
			pte_t v = pte_make(to, rnd64() & (((uint64_t)1 << 48) - 1),
					   rnd64() & (PTE_YOUNG | PTE_WP | PTE_BUSY));

			if (to == PTE_NONE)
				v = 0;
			assert_int_equal(pte_reserve(&table, base[l] + i, 1), 0);
			pte_set(&table, base[l] + i, v);
			came += pte_state(want[l][i]) != PTE_PRESENT && to == PTE_PRESENT;
			want[l][i] = v;
		}
		for (unsigned k = 0; k < 20; k++) {
			unsigned l = rnd(LEAVES), i = rnd(PTE_LEAF_PAGES);
			unsigned end = i + rnd(PTE_LEAF_PAGES - i + 1);

			assert_int_equal(pte_reserve(&table, base[l], PTE_LEAF_PAGES), 0);
			for (vpn_t at = base[l] + i; i < end && want[l][i] == 0; i++) {
				want[l][i] = pte_make(PTE_PRESENT, SWP_NONE, 0);
				came++;
				if (i + 1 == end || want[l][i + 1] != 0)
					assert_int_equal(
						pte_fill_present(&table, at, base[l] + end),
						base[l] + i + 1);
			}
		}
		for (unsigned k = 0; k < 200; k++) {
			unsigned l = rnd(LEAVES), i = rnd(PTE_LEAF_PAGES);
			pte_t set = rnd64() & (PTE_YOUNG | PTE_WP), clear = rnd64() & PTE_BUSY;

			pte_set_bits(&table, base[l] + i, set, clear);
			if (want[l][i] != 0)
				want[l][i] = (want[l][i] & ~clear) | set;
		}
		check_counts();
		assert_int_equal(table.came, came);
		for (unsigned k = 0; k < 60; k++) {
			vpn_t a = base[rnd(LEAVES)] + rnd(2000), b = base[rnd(LEAVES)] + rnd(2000);
			unsigned mask = 1U << (1 + rnd(PTE_STATES - 1));

			if (k % 4 == 0)
				mask = 1U << PTE_PRESENT;
			if (k % 4 == 1)
				mask = NOT_NONE;
			if (b > VPN_MAX)
				b = VPN_MAX;
			if (a > b)
				a = k % 8 == 0 ? 0 : b / 2;
			assert_int_equal(pte_next(&table, a, b, mask), slow_next(a, b, mask));
		}
		if (round % 4 == 3) {
			vpn_t a = base[rnd(LEAVES)], b = base[rnd(LEAVES)] + rnd(600);

			pte_trim(&table, a < b ? a : b, a < b ? b : a);
			check_counts();
		}
	}
	pte_table_close(&table);
}

static void empty_leaves_are_given_back_and_used_again(void **state)
{
	uint64_t full = 0;
	uint32_t highest = 0;

	(void)state;
	setup(17);
	assert_int_equal(pte_bytes(&table), PAGE_SIZE);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned l = 0; l < LEAVES; l++) {
			assert_int_equal(pte_reserve(&table, base[l] + 3, 300), 0);
			for (unsigned i = 3; i < 303; i++)
				pte_set(&table, base[l] + i, pte_make(PTE_PRESENT, i, 0));
		}
		if (round == 0) {
			full = pte_bytes(&table);
			highest = table.next_node;
			assert_true(full >= (LEAVES + 1) * PAGE_SIZE);
		}
		/* the same again takes no node that was not there before */
		assert_int_equal(pte_bytes(&table), full);
		assert_int_equal(table.next_node, highest);
		/* a leaf that still holds something stays */
		for (unsigned i = 3; i < 302; i++)
			pte_set(&table, base[5] + i, 0);
		pte_trim(&table, base[5], base[5] + PTE_LEAF_PAGES);
		assert_int_equal(pte_bytes(&table), full);
		assert_int_equal(pte_get(&table, base[5] + 302), pte_make(PTE_PRESENT, 302, 0));
		for (unsigned l = 0; l < LEAVES; l++)
			for (unsigned i = 3; i < 303; i++)
				pte_set(&table, base[l] + i, 0);
		if (round % 2 == 0)
			pte_trim(&table, 0, VPN_MAX);
		else
			for (unsigned l = 0; l < LEAVES; l++)
				pte_trim(&table, base[l] + 100, base[l] + 101);
		assert_int_equal(pte_bytes(&table), PAGE_SIZE);
		assert_int_equal(pte_next(&table, 0, VPN_MAX, NOT_NONE), VPN_MAX);
		assert_null(pte_leaf(&table, base[7]));
	}
	for (unsigned s = 1; s < PTE_STATES; s++)
		assert_int_equal(table.count[s], 0);
	pte_table_close(&table);
}

static void untouched_memory_costs_nothing(void **state)
{
	(void)state;
	assert_int_equal(pte_table_open(&table), 0);
	/* reading, scanning, trimming and clearing what is not there makes nothing */
	for (vpn_t v = 0; v < VPN_MAX; v += VPN_MAX / 1000) {
		assert_int_equal(pte_get(&table, v), 0);
		pte_set(&table, v, 0);
		pte_set_bits(&table, v, PTE_YOUNG, 0);
		assert_int_equal(pte_leaf_present(&table, v), 0);
	}
	assert_int_equal(pte_next(&table, 0, VPN_MAX, NOT_NONE), VPN_MAX);
	pte_trim(&table, 0, VPN_MAX);
	assert_int_equal(pte_bytes(&table), PAGE_SIZE);
	/* 2^18 pages that are full cost 8 bytes each and the upper nodes */
	assert_int_equal(pte_reserve(&table, 1 << 20, 1 << 18), 0);
	assert_int_equal(pte_bytes(&table), ((1 << 18) / 512 + 1 + 1 + 1) * PAGE_SIZE);
	pte_table_close(&table);
}

static long no_memory(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -ENOMEM;
}

static void without_memory_is_an_error(void **state)
{
	static const enum sys_row rows[] = {SYSROW_ftruncate, SYSROW_mmap};

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		sys_fn bare = sys_table[rows[k]].fn;
		vpn_t failed = 0;

		assert_int_equal(pte_table_open(&table), 0);
		sys_table[rows[k]].fn = no_memory;
		for (vpn_t i = 0; i < 4096 && failed == 0; i++) {
			vpn_t v = i << 18;
			int r = pte_reserve(&table, v, 1);

			if (r == 0) {
				pte_set(&table, v, pte_make(PTE_SWAPPED, i, 0));
				continue;
			}
			assert_int_equal(r, -ENOMEM);
			failed = i;
		}
		assert_true(failed > 100);
		assert_int_equal(pte_reserve(&table, failed << 18, 1), -ENOMEM);
		assert_int_equal(table.count[PTE_SWAPPED], failed);
		sys_table[rows[k]].fn = bare;
		for (vpn_t i = 0; i < failed; i++)
			assert_int_equal(pte_get(&table, i << 18), pte_make(PTE_SWAPPED, i, 0));
		assert_int_equal(pte_get(&table, failed << 18), 0);
		assert_int_equal(pte_reserve(&table, failed << 18, 1), 0);
		pte_set(&table, failed << 18, pte_make(PTE_SWAPPED, 1, 0));
		/* and nodes that the refused try took are not lost */
		for (vpn_t i = 0; i <= failed; i++)
			pte_set(&table, i << 18, 0);
		pte_trim(&table, 0, VPN_MAX);
		assert_int_equal(pte_bytes(&table), PAGE_SIZE);
		pte_table_close(&table);
	}
	for (unsigned k = 0; k < 2; k++) {
		sys_fn bare = sys_table[rows[k]].fn;

		sys_table[rows[k]].fn = no_memory;
		assert_int_equal(pte_table_open(&table), -ENOMEM);
		sys_table[rows[k]].fn = bare;
	}
}

static void set_without_leaf(void *arg)
{
	(void)arg;
	pte_set(&table, 5, pte_make(PTE_PRESENT, 0, 0));
}

static void an_entry_without_a_leaf_ends_the_process(void **state)
{
	char text[200];
	int status;

	(void)state;
	assert_int_equal(pte_table_open(&table), 0);
	status = in_child(set_without_leaf, NULL, text, sizeof(text));
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_string_equal(text, "faultline: page entry without a leaf\n");
	pte_table_close(&table);
}

#ifdef FL_DEBUG
static void transition(void *arg)
{
	const enum pte_state *s = arg;

	/* the table is shared with the child: each tries an entry that is none */
	pte_set(&table, 9, 0);
	pte_set(&table, 9, pte_make(s[0], 1, 0));
	pte_set(&table, 9, pte_make(s[1], 1, 0));
}

static void an_illegal_transition_ends_the_process(void **state)
{
	static const enum pte_state bad[][2] = {
		{PTE_SWAPPED, PTE_PRESENT},    {PTE_SWAPPED, PTE_FILLED},
		{PTE_FILLED, PTE_SWAPPED},     {PTE_FILLED, PTE_STAGED},
		{PTE_POISONED, PTE_PRESENT},   {PTE_POISONED, PTE_SWAPPED},
		{PTE_PRESENT, PTE_FILLED},     {PTE_PRESENT, PTE_POISONED},
		{PTE_COMPRESSED, PTE_STAGED},  {PTE_COMPRESSED, PTE_FILLED},
		{PTE_SWAPPED, PTE_COMPRESSED}, {PTE_FILLED, PTE_COMPRESSED},
		{PTE_SWAPPED, PTE_POISONED},
	};

	(void)state;
	assert_int_equal(pte_table_open(&table), 0);
	assert_int_equal(pte_reserve(&table, 0, 512), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum pte_state s[2] = {bad[i][0], bad[i][1]};
		char text[200], line[200];
		int status = in_child(transition, s, text, sizeof(text));

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
		strcpy(line, "faultline: page entry of 0x9000: ");
		strcat(line, pte_state_name(s[0]));
		strcat(line, " to ");
		strcat(line, pte_state_name(s[1]));
		strcat(line, "\n");
		assert_string_equal(text, line);
	}
	pte_table_close(&table);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_transitions_agree_with_an_array),
		cmocka_unit_test(empty_leaves_are_given_back_and_used_again),
		cmocka_unit_test(untouched_memory_costs_nothing),
		cmocka_unit_test(without_memory_is_an_error),
		cmocka_unit_test(an_entry_without_a_leaf_ends_the_process),
#ifdef FL_DEBUG
		cmocka_unit_test(an_illegal_transition_ends_the_process),
#endif
	};

	return cmocka_run_group_tests_name("pte", tests, NULL, NULL);
}
