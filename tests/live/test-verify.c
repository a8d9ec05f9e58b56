/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fl_verify(): no difference whatever is done through the library, and each
 * that is made behind its back is told, armed or not.
 */
#include "live.h"

static struct fl *fl;

static void open_with(uint64_t limit)
{
	struct fl_options o = {
		.size = sizeof(o), .limit = limit, .log = live_log, .log_level = FL_LOG_WARN};

	live_log_clear();
	live_text[0] = '\0';
	assert_int_equal(fl_open(&fl, &o), 0);
}

static char *map(size_t len, int prot)
{
	char *p = fl_mmap(fl, NULL, len, prot, ANON, -1, 0);

	assert_ptr_not_equal(p, FL_FAILED);
	return p;
}

/* Everything through the library; whether it was armed by then. */
static bool work(void)
{
	struct fl_stats s;
	char *p = map(8 * MIB, RW), *q = map(4 * MIB, PROT_NONE), *r;

	memset(p, 1, 8 * MIB);
	assert_int_equal(fl_verify(fl), 0);
	assert_int_equal(fl_mprotect(fl, q + MIB, MIB, PROT_READ), 0);
	assert_int_equal(fl_mprotect(fl, p + 3 * PG, 5 * PG, PROT_READ), 0);
	assert_int_equal(fl_munmap(fl, p + 100 * PG, 7 * PG), 0);
	assert_int_equal(fl_verify(fl), 0);
	r = fl_mremap(fl, p + MIB, 2 * MIB, 6 * MIB, MREMAP_MAYMOVE);
	assert_ptr_not_equal(r, FL_FAILED);
	memset(r, 2, 6 * MIB);
	assert_int_equal(fl_madvise(fl, r, MIB, MADV_DONTNEED), 0);
	assert_int_equal(fl_verify(fl), 0);
	assert_string_equal(live_text, "");
	assert_int_equal(fl_stats(fl, &s, sizeof(s)), 0);
	return s.armed != 0;
}

static void clean_when_tracked(void **state)
{
	(void)state;
	open_with(256 * MIB);
	assert_false(work());
	assert_int_equal(fl_close(fl), 0);
}

static void clean_when_armed(void **state)
{
	(void)state;
	open_with(4 * MIB);
	assert_true(work());
	assert_int_equal(fl_close(fl), 0);
}

static void expect(int differences, const char *text)
{
	live_log_clear();
	live_text[0] = '\0';
	assert_int_equal(fl_verify(fl), differences);
	if (strstr(live_text, text) == NULL)
		fail_msg("not told: '%s', but: %s", text, live_text);
}

/* The limit is the argument. */
static void behind_its_back(void **state)
{
	char *p, text[128];

	open_with(*(const uint64_t *)*state);
	memset(map(8 * MIB, RW), 1, 8 * MIB);
	p = map(64 * PG, RW);
	memset(p, 1, 64 * PG);
	assert_int_equal(fl_verify(fl), 0);

	assert_int_equal(mprotect(p, PG, PROT_READ), 0);
	snprintf(text, sizeof(text), "verify: 0x%lx-0x%lx is managed as rw-, but mapped as r--",
		 (unsigned long)p, (unsigned long)p + PG);
	expect(1, text);

	assert_int_equal(munmap(p + 10 * PG, 2 * PG), 0);
	snprintf(text, sizeof(text), "verify: 0x%lx-0x%lx is managed, but nothing is mapped there",
		 (unsigned long)p + 10 * PG, (unsigned long)p + 12 * PG);
	expect(2, text);

	assert_ptr_equal(mmap(p + 20 * PG, PG, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p + 20 * PG);
	snprintf(text, sizeof(text),
		 "verify: 0x%lx-0x%lx is managed, but mapped there is /dev/zero",
		 (unsigned long)p + 20 * PG, (unsigned long)p + 21 * PG);
	expect(3, text);

	/* what the library is told of is no difference any more */
	assert_int_equal(fl_munmap(fl, p, 64 * PG), 0);
	expect(0, "");
	assert_int_equal(fl_close(fl), 0);
}

static void not_registered(void **state)
{
	char *p, text[128];

	(void)state;
	open_with(2 * MIB);
	p = map(4 * MIB, RW);
	memset(p, 1, 4 * MIB);
	assert_ptr_equal(mmap(p + PG, PG, RW, ANON | MAP_FIXED, -1, 0), p + PG);
	snprintf(text, sizeof(text), "verify: 0x%lx-0x%lx is managed, but not registered",
		 (unsigned long)p + PG, (unsigned long)p + 2 * PG);
	expect(1, text);
	assert_int_equal(fl_munmap(fl, p, 4 * MIB), 0);
	expect(0, "");
	assert_int_equal(fl_close(fl), 0);
}

static void *churn(void *arg)
{
	const uint32_t *stop = arg;

	while (__atomic_load_n(stop, __ATOMIC_RELAXED) == 0) {
		char *p = map(16 * PG, RW), *q;

		memset(p, 1, 16 * PG);
		q = mmap(NULL, 16 * PG, RW, ANON, -1, 0);
		assert_ptr_not_equal(q, MAP_FAILED);
		assert_int_equal(fl_munmap(fl, p, 16 * PG), 0);
		assert_int_equal(munmap(q, 16 * PG), 0);
	}
	return NULL;
}

/* What other threads do meanwhile is no difference. */
static void while_others_work(void **state)
{
	uint32_t stop = 0;
	pthread_t t[4];

	open_with(*(const uint64_t *)*state);
	memset(map(6 * MIB, RW), 1, 6 * MIB);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, &stop), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(fl_verify(fl), 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(fl_close(fl), 0);
}

int main(void)
{
	static uint64_t wide = 256 * MIB, tight = 4 * MIB;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clean_when_tracked),
		cmocka_unit_test(clean_when_armed),
		cmocka_unit_test_prestate(behind_its_back, &wide),
		{"behind_its_back_after_arming", behind_its_back, NULL, NULL, &tight},
		cmocka_unit_test(not_registered),
		cmocka_unit_test_prestate(while_others_work, &wide),
		{"while_others_work_armed", while_others_work, NULL, NULL, &tight},
	};

	return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
