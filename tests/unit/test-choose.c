/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Patterns of files: what each stands for, several at once, and a second
 * opinion, fnmatch(3)'s, on many that are made up.
 */
#include "test.h"

#include "choose.h"

#include <fnmatch.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void each_stands_for_what_it_says(void **state)
{
	static const struct {
		const char *patterns, *path;
		bool matches, by_name;
	} cases[] = {
		{"/a/b", "/a/b", true, true},
		{"/a/b", "/a/bc", false, false},
		{"/a/b", "/a", false, false},
		{"/a/*", "/a/b", true, false},
		{"/a/*", "/a/b/c.db", true, false},
		{"/a/*", "/a/", true, false},
		{"/a/*", "/a", false, false},
		{"*", "/anything at all", true, false},
		{"*.db", "/x/y.db", true, false},
		{"*.db", "/x/y.db-wal", false, false},
		{"*.db*", "/x/y.db-wal", true, false},
		{"/x/?.db", "/x/y.db", true, false},
		{"/x/?.db", "/x/.db", false, false},
		{"/x/[xyz].db", "/x/y.db", true, false},
		{"/x/[!xyz].db", "/x/y.db", false, false},
		{"/x/[^a-f].db", "/x/y.db", true, false},
		{"/x/[a-f]", "/x/f", true, false},
		{"/x/[a-f]", "/x/g", false, false},
		{"/x/[]]", "/x/]", true, false},
		{"/x/[", "/x/[", true, false},
		{"/x/[ab", "/x/[ab", true, false},
		{"/x/[a-]", "/x/-", true, false},
		{"/x/\\*", "/x/*", true, true},
		{"/x/\\*", "/x/y", false, false},
		{"/x/\\[a]", "/x/[a]", true, true},
		{"/a\\:b", "/a:b", true, true},
		{"/a:/b", "/b", true, true},
		{"/a:/b", "/a", true, true},
		{"/a:/b", "/a:/b", false, false},
		{"/a*:/ab", "/ab", true, true},
		{"/ab:/a*", "/ab", true, true},
		{"/ab:/a*", "/abc", true, false},
		{"/a*b*c", "/a1b2b3c", true, false},
		{"/a*b*c", "/a1b2b3cd", false, false},
		{"/**/x", "/a/b/x", true, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool by_name;
		bool matches = choose_match(cases[i].patterns, cases[i].path, &by_name);

		if (matches != cases[i].matches || by_name != cases[i].by_name)
			fail_msg("'%s' for '%s': %d, by name %d", cases[i].patterns, cases[i].path,
				 matches, by_name);
	}
}

static void fnmatch_agrees(void **state)
{
	static const char pieces[] = "ab/*?[]-!\\";
	unsigned yes = 0;

	(void)state;
	srand(5);
	for (unsigned i = 0; i < 200000; i++) {
		char pattern[12], path[8];
		size_t n = 1 + (size_t)rand() % (sizeof(pattern) - 2);
		size_t m = (size_t)rand() % (sizeof(path) - 1);
		bool by_name, ours, theirs, odd = false;

		for (size_t k = 0; k < n; k++)
			pattern[k] = pieces[(size_t)rand() % (sizeof(pieces) - 1)];
		pattern[n] = '\0';
		for (size_t k = 0; k < m; k++)
			path[k] = "ab/-!]"[(size_t)rand() % 6];
		path[m] = '\0';
		/* where sets and backslashes that do not end are told apart by the C library only */
		for (size_t k = 0; k < n; k++)
			odd |= pattern[k] == '\\' || (pattern[k] == '[' && k != 0);
		if (odd || strchr(pattern, ']') == NULL || strchr(pattern, '-') != NULL)
			odd = strpbrk(pattern, "[\\") != NULL;
		if (odd)
			continue;
		ours = choose_match(pattern, path, &by_name);
		theirs = fnmatch(pattern, path, 0) == 0;
		if (ours != theirs)
			fail_msg("'%s' for '%s': %d, fnmatch says %d", pattern, path, ours, theirs);
		yes += ours;
	}
	assert_true(yes > 1000);
}

static void ends_are_found(void **state)
{
	const char *two = "/a\\:b:/c";

	(void)state;
	assert_string_equal(choose_end(two), ":/c");
	assert_string_equal(choose_end("/a"), "");
	assert_string_equal(choose_end(":"), ":");
	assert_string_equal(choose_end("\\"), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_stands_for_what_it_says),
		cmocka_unit_test(fnmatch_agrees),
		cmocka_unit_test(ends_are_found),
	};

	return cmocka_run_group_tests_name("choose", tests, NULL, NULL);
}
