/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options as text: sizes beside a second reading of the same grammar, areas
 * there and back, and rubbish, which is refused with a reason or taken, and
 * never read or written beyond its end.
 */
#include "fuzz.h"

#include "options.h"

#include <ctype.h>
#include <math.h>

#define TEXT_MAX 200
#define WHY_MAX 120

static char *text_edge, *path_edge, *why_edge;

/* A copy of text that ends where memory ends. */
static const char *at_edge(const char *text)
{
	size_t n = strlen(text) + 1;

	return memcpy(text_edge + TEXT_MAX - n, text, n);
}

/* Pieces that mean something, and now and then a byte that does not. */
static void rubbish(char *out, size_t size)
{
	static const char *const pieces[] = {
		"0",	 "1",	  "9",	       "12",	"512", "18446744073709551615",
		"4096",	 ".",	  ".5",	       "00",	"K",   "m",
		"G",	 "T",	  "P",	       "iB",	"i",   "%",
		",",	 ",,",	  "prio=",     "size=", "=",   "/",
		"/a",	 "32767", "32768",     "-1",	";",   ";;",
		" ",	 "e3",	  "auto",      "sync",	"off", "2M",
		"uring", "warn",  "-",	       "0x10",	"25%", "100%",
		"1.5G",	 "64K",	  "/x,prio=1", "debug", "E",   "+",
	};
	unsigned n = fuzz_below(9);
	size_t len = 0;

	while (n-- > 0) {
		char byte[2] = {(char)(1 + fuzz_below(255)), '\0'};
		const char *piece =
			fuzz_below(12) == 0
				? byte
				: pieces[fuzz_below(sizeof(pieces) / sizeof(pieces[0]))];

		if (len + strlen(piece) + 1 > size)
			break;
		strcpy(out + len, piece);
		len += strlen(piece);
	}
	out[len] = '\0';
}

/* DIGITS [. DIGITS] [UNIT [iB] | %], read with the C library: false when it is not that. */
static bool second_reading(const char *text, long double whole, long double *value)
{
	size_t digits = strspn(text, "0123456789"), n = digits;
	bool fraction = false;
	long double v;

	if (digits == 0)
		return false;
	if (text[n] == '.') {
		digits = strspn(text + n + 1, "0123456789");
		if (digits == 0)
			return false;
		n += 1 + digits;
		fraction = true;
	}
	v = strtold(text, NULL);
	if (strcmp(text + n, "%") == 0) {
		*value = v * whole / 100;
		return whole != 0 && floorl(v) <= 1000;
	}
	if (text[n] == '\0') {
		*value = v;
		return !fraction;
	}
	for (const char *units = "kmgtp"; *units != '\0'; units++) {
		v *= 1024;
		if (tolower((unsigned char)text[n]) == *units) {
			*value = v;
			return text[n + 1] == '\0' || strcmp(text + n + 1, "iB") == 0;
		}
	}
	return false;
}

static void sizes(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 300000), taken = 0;

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		uint64_t whole = fuzz_below(2) ? 0 : fuzz_random() >> (1 + fuzz_below(60));
		uint64_t got = 0x5a5a;
		long double want = 0;
		char text[TEXT_MAX];
		bool valid;
		int r;

		rubbish(text, sizeof(text));
		valid = second_reading(text, (long double)whole, &want);
		r = options_size(at_edge(text), whole, &got);
		if (r != 0) {
			assert_int_equal(r, -EINVAL);
			assert_int_equal(got, 0x5a5a);
			if (valid && want < 18446744073709551615.0L &&
			    strspn(text, "0123456789") < 19)
				fail_msg("refused '%s' of %llu", text, (unsigned long long)whole);
			continue;
		}
		taken++;
		/* nine digits of a fraction are read */
		if (!valid ||
		    fabsl((long double)got - want) > 2 + want / 1e8L + (long double)whole / 1e8L)
			fail_msg("took '%s' of %llu for %llu", text, (unsigned long long)whole,
				 (unsigned long long)got);
	}
	assert_true(taken > rounds / 100);
}

static void areas_there_and_back(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 100000);

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		char name[64], text[TEXT_MAX], attr[2][40];
		size_t len = 1 + fuzz_below(sizeof(name) - 1), n = 0;
		bool has_prio = fuzz_below(2) != 0, has_size = fuzz_below(2) != 0;
		int prio = has_prio ? (int)fuzz_below(32768) : -1;
		uint64_t size = has_size ? 1 + (fuzz_random() >> fuzz_below(64)) / 2 : 0;
		struct fl_swap_spec spec;
		unsigned order = fuzz_below(2);

		for (size_t j = 0; j < len; j++) {
			name[j] = fuzz_below(3) == 0 ? ',' : (char)(1 + fuzz_below(255));
			text[n++] = name[j];
			if (name[j] == ',')
				text[n++] = ',';
		}
		name[len] = '\0';
		text[n] = '\0';
		attr[order][0] = attr[!order][0] = '\0';
		if (has_prio)
			snprintf(attr[order], sizeof(attr[0]), ",prio=%d", prio);
		if (has_size)
			snprintf(attr[!order], sizeof(attr[0]), ",size=%llu",
				 (unsigned long long)size);
		snprintf(text + n, sizeof(text) - n, "%s%s", attr[0], attr[1]);

		if (options_swap(at_edge(text), &spec, path_edge, 64, why_edge, WHY_MAX) != 0)
			fail_msg("refused '%s': %s", text, why_edge);
		assert_string_equal(spec.path, name);
		assert_int_equal(spec.prio, prio);
		assert_int_equal(spec.size, size);
	}
}

/* Attributes of any length: the number that counts must not be cut off. */
static void long_attributes(void **state)
{
	(void)state;
	for (int zeros = 0; zeros < 150; zeros++) {
		struct fl_swap_spec spec = {.prio = -2};
		char text[TEXT_MAX];

		snprintf(text, sizeof(text), "/a,prio=%0*d,size=8M", zeros + 1, 7);
		if (options_swap(at_edge(text), &spec, path_edge, 64, why_edge, WHY_MAX) == 0) {
			assert_int_equal(spec.prio, 7);
			assert_int_equal(spec.size, 8 << 20);
		}
	}
}

static void rubbish_is_survived(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 200000);
	static struct options o;

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		const struct option_def *def = &option_defs[fuzz_below(option_count)];
		char text[TEXT_MAX];
		int r;

		if (i % 40 == 0)
			options_init(&o);
		rubbish(text, sizeof(text));
		why_edge[0] = '\0';
		r = options_set(&o, def, at_edge(text), why_edge, WHY_MAX);
		assert_true(r == 0 || r == -EINVAL);
		if (r != 0 && (why_edge[0] == '\0' || memchr(why_edge, '\0', WHY_MAX) == NULL))
			fail_msg("--%s '%s' is refused without a reason", def->name, text);
		assert_true(o.fl.nareas <= FL_SWAP_MAX);
		assert_true(o.text_len <= OPT_TEXT_MAX);
		assert_true(o.fl.pagers <= 16);
		assert_true(o.fl.limit == 0 || o.fl.limit >= FL_LIMIT_MIN);
	}
}

static void environments(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 50000);
	static struct options o;

	(void)state;
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		char vars[6][TEXT_MAX + OPT_VAR_MAX], *envp[7];
		unsigned n = fuzz_below(7);
		int r;

		for (unsigned j = 0; j < n; j++) {
			char name[OPT_VAR_MAX], text[TEXT_MAX];

			options_variable(&option_defs[fuzz_below(option_count)], name);
			rubbish(text, sizeof(text));
			snprintf(vars[j], sizeof(vars[j]), "%s%s%s", name,
				 fuzz_below(9) == 0 ? "" : "=", text);
			envp[j] = vars[j];
		}
		envp[n] = NULL;
		options_init(&o);
		r = options_environment(&o, envp, why_edge, WHY_MAX);
		assert_true(r == 0 || r == -EINVAL);
		if (r != 0 && strncmp(why_edge, "FAULTLINE_", 10) != 0)
			fail_msg("'%s' names no variable", why_edge);
		assert_true(o.fl.nareas <= FL_SWAP_MAX);
	}
}

static int edges(void **state)
{
	(void)state;
	text_edge = fuzz_edge(TEXT_MAX);
	path_edge = fuzz_edge(64);
	why_edge = fuzz_edge(WHY_MAX);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),	   cmocka_unit_test(areas_there_and_back),
		cmocka_unit_test(long_attributes), cmocka_unit_test(rubbish_is_survived),
		cmocka_unit_test(environments),
	};

	return cmocka_run_group_tests_name("fuzz-options", tests, edges, NULL);
}
