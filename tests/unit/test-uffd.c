/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * userfaultfd's ioctls against a kernel that answers as told: what was done in
 * part is gone on with, EAGAIN is tried again, and every error has its class.
 */
#include "test.h"

#include "sys.h"
#include "uffd.h"

#define PG ((size_t)4096)

/* The answers of the kernel, one a call: pages done (or -errno) in the field, and the result. */
struct answer {
	int64_t pages; /* into the field: bytes when positive, as it is when not */
	long result;
};

static struct answer script[8];
static unsigned answers, asked;
static uint64_t expect_dst, expect_src, expect_len; /* of the next call */
static unsigned wrong;

static const struct answer *answer(uint64_t dst, uint64_t src, uint64_t len)
{
	const struct answer *a = &script[asked < answers ? asked : answers - 1];

	asked++;
	wrong += dst != expect_dst || src != expect_src || len != expect_len;
	if (a->pages > 0) {
		expect_dst += (uint64_t)a->pages * PG;
		if (expect_src != 0)
			expect_src += (uint64_t)a->pages * PG;
		expect_len -= (uint64_t)a->pages * PG;
	}
	return a;
}

static int64_t field(const struct answer *a)
{
	return a->pages > 0 ? a->pages * (int64_t)PG : a->pages;
}

static long fake_copy(long fd, long cmd, long argp, long d, long e, long f)
{
	struct uffdio_copy *arg = (struct uffdio_copy *)argp;
	const struct answer *a = answer(arg->dst, arg->src, arg->len);

	(void)fd, (void)cmd, (void)d, (void)e, (void)f;
	arg->copy = field(a);
	return a->result;
}

static long fake_zeropage(long fd, long cmd, long argp, long d, long e, long f)
{
	struct uffdio_zeropage *arg = (struct uffdio_zeropage *)argp;
	const struct answer *a = answer(arg->range.start, 0, arg->range.len);

	(void)fd, (void)cmd, (void)d, (void)e, (void)f;
	arg->zeropage = field(a);
	return a->result;
}

static long fake_move(long fd, long cmd, long argp, long d, long e, long f)
{
	struct uffdio_move *arg = (struct uffdio_move *)argp;
	const struct answer *a = answer(arg->dst, arg->src, arg->len);

	(void)fd, (void)cmd, (void)d, (void)e, (void)f;
	arg->move = field(a);
	return a->result;
}

static long fake_poison(long fd, long cmd, long argp, long d, long e, long f)
{
	struct uffdio_poison *arg = (struct uffdio_poison *)argp;
	const struct answer *a = answer(arg->range.start, 0, arg->range.len);

	(void)fd, (void)cmd, (void)d, (void)e, (void)f;
	arg->updated = field(a);
	return a->result;
}

static long fake_writeprotect(long fd, long cmd, long argp, long d, long e, long f)
{
	struct uffdio_writeprotect *arg = (struct uffdio_writeprotect *)argp;
	const struct answer *a = answer(arg->range.start, 0, arg->range.len);

	(void)fd, (void)cmd, (void)d, (void)e, (void)f;
	return a->result;
}

/* The functions of one shape, and the row that each calls. */
static enum uffd_result call_copy(uintptr_t dst, uintptr_t src, size_t len, size_t *done)
{
	return uffd_copy(9, dst, (const void *)src, len, false, done);
}

static enum uffd_result call_zeropage(uintptr_t dst, uintptr_t src, size_t len, size_t *done)
{
	(void)src;
	return uffd_zeropage(9, dst, len, done);
}

static enum uffd_result call_move(uintptr_t dst, uintptr_t src, size_t len, size_t *done)
{
	return uffd_move(9, -1, dst, src, len, done);
}

static const struct kind {
	enum sys_row row;
	sys_fn fake;
	enum uffd_result (*call)(uintptr_t, uintptr_t, size_t, size_t *);
	bool has_src;
} kinds[] = {
	{SYSROW_uffd_copy, fake_copy, call_copy, true},
	{SYSROW_uffd_zeropage, fake_zeropage, call_zeropage, false},
	{SYSROW_uffd_move, fake_move, call_move, true},
};

static const struct part {
	const char *what;
	struct answer script[4];
	unsigned answers;
	enum uffd_result res;
	unsigned done; /* pages of 10 */
	unsigned calls;
} parts[] = {
	{"all at once", {{10, 0}}, 1, UFFD_OK, 10, 1},
	{"a part, then the rest", {{3, -EAGAIN}, {7, 0}}, 2, UFFD_OK, 10, 2},
	{"page by page", {{1, -EAGAIN}, {1, -EAGAIN}, {7, -EAGAIN}, {1, 0}}, 4, UFFD_OK, 10, 4},
	{"the address space changes",
	 {{-EAGAIN, -EAGAIN}, {0, -EAGAIN}, {10, 0}},
	 3,
	 UFFD_OK,
	 10,
	 3},
	{"present at once", {{-EEXIST, -EEXIST}}, 1, UFFD_EXIST, 0, 1},
	{"present after a part", {{4, -EAGAIN}, {-EEXIST, -EEXIST}}, 2, UFFD_EXIST, 4, 2},
	{"unmapped after a part", {{9, -EAGAIN}, {-ENOENT, -ENOENT}}, 2, UFFD_GONE, 9, 2},
	{"pinned after a part", {{2, -EAGAIN}, {-EBUSY, -EBUSY}}, 2, UFFD_BUSY, 2, 2},
	{"no memory", {{-ENOMEM, -ENOMEM}}, 1, UFFD_NOMEM, 0, 1},
	{"the process ends", {{-ESRCH, -ESRCH}}, 1, UFFD_GONE, 0, 1},
	{"not a fitting mapping", {{-EINVAL, -EINVAL}}, 1, UFFD_UNFIT, 0, 1},
	{"a closed descriptor", {{0, -EBADF}}, 1, UFFD_FATAL, 0, 1},
	{"all done, and told as a part", {{10, -EAGAIN}}, 1, UFFD_OK, 10, 1},
};

static void set_script(const struct answer *s, unsigned n, bool has_src, size_t pages)
{
	for (unsigned i = 0; i < n; i++)
		script[i] = s[i];
	answers = n;
	asked = wrong = 0;
	expect_dst = 0x10000;
	expect_src = has_src ? 0x900000 : 0;
	expect_len = pages * PG;
}

static void parts_are_gone_on_with(void **state)
{
	(void)state;
	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		sys_fn bare = sys_table[kinds[k].row].fn;

		sys_table[kinds[k].row].fn = kinds[k].fake;
		for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
			enum uffd_result res;
			size_t done = 12345;

			set_script(parts[i].script, parts[i].answers, kinds[k].has_src, 10);
			res = kinds[k].call(0x10000, 0x900000, 10 * PG, &done);
			if (res != parts[i].res || done != parts[i].done * PG ||
			    asked != parts[i].calls)
				print_message("%s: result %d, %zu bytes, %u calls\n", parts[i].what,
					      (int)res, done, asked);
			assert_int_equal(res, parts[i].res);
			assert_int_equal(done, parts[i].done * PG);
			assert_int_equal(asked, parts[i].calls);
			assert_int_equal(wrong, 0);
		}
		sys_table[kinds[k].row].fn = bare;
	}
}

static void eagain_without_end_is_given_up(void **state)
{
	static const struct answer never = {-EAGAIN, -EAGAIN};

	(void)state;
	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		sys_fn bare = sys_table[kinds[k].row].fn;
		size_t done;

		sys_table[kinds[k].row].fn = kinds[k].fake;
		set_script(&never, 1, kinds[k].has_src, 2);
		assert_int_equal(kinds[k].call(0x10000, 0x900000, 2 * PG, &done), UFFD_BUSY);
		assert_int_equal(done, 0);
		assert_true(asked > 1000);
		sys_table[kinds[k].row].fn = bare;
	}
}

static void protection_and_poison(void **state)
{
	static const struct answer wp[] = {{0, -EAGAIN}, {0, -EAGAIN}, {0, 0}};
	static const struct answer poison[] = {{2, -EAGAIN}, {-EEXIST, -EEXIST}};
	sys_fn bare_wp = sys_table[SYSROW_uffd_writeprotect].fn;
	sys_fn bare_poison = sys_table[SYSROW_uffd_poison].fn;

	(void)state;
	sys_table[SYSROW_uffd_writeprotect].fn = fake_writeprotect;
	set_script(wp, 3, false, 4);
	assert_int_equal(uffd_writeprotect(9, 0x10000, 4 * PG, true), UFFD_OK);
	assert_int_equal(asked, 3);
	assert_int_equal(wrong, 0);
	script[0] = (struct answer){0, -ENOENT};
	asked = 0;
	assert_int_equal(uffd_writeprotect(9, 0x10000, 4 * PG, false), UFFD_GONE);
	sys_table[SYSROW_uffd_writeprotect].fn = bare_wp;

	sys_table[SYSROW_uffd_poison].fn = fake_poison;
	set_script(poison, 2, false, 4);
	assert_int_equal(uffd_poison(9, 0x10000, 4 * PG), UFFD_EXIST);
	assert_int_equal(asked, 2);
	assert_int_equal(wrong, 0);
	sys_table[SYSROW_uffd_poison].fn = bare_poison;
}

static long reads[4];

static long fake_read(long fd, long buf, long len, long d, long e, long f)
{
	(void)fd, (void)d, (void)e, (void)f;
	memset((void *)buf, 0, (size_t)len);
	return reads[asked++];
}

static void reading_messages(void **state)
{
	sys_fn bare = sys_table[SYSROW_uffd_read].fn;
	struct uffd_msg msgs[4];

	(void)state;
	sys_table[SYSROW_uffd_read].fn = fake_read;
	asked = 0;
	reads[0] = -EINTR;
	reads[1] = -EINTR;
	reads[2] = 3 * (long)sizeof(struct uffd_msg);
	assert_int_equal(uffd_read(9, msgs, 4), 3);
	assert_int_equal(asked, 3);
	asked = 0;
	reads[0] = -EAGAIN;
	assert_int_equal(uffd_read(9, msgs, 4), 0);
	asked = 0;
	reads[0] = -EBADF;
	assert_int_equal(uffd_read(9, msgs, 4), -EBADF);
	sys_table[SYSROW_uffd_read].fn = bare;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_are_gone_on_with),
		cmocka_unit_test(eagain_without_end_is_given_up),
		cmocka_unit_test(protection_and_poison),
		cmocka_unit_test(reading_messages),
	};

	return cmocka_run_group_tests_name("uffd", tests, NULL, NULL);
}
