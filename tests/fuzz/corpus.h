/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * corpus.h - the inputs of a target that are kept: what was found once, and
 * where libFuzzer begins.
 */
#ifndef FL_FUZZ_CORPUS_H
#define FL_FUZZ_CORPUS_H

#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define FUZZ_INPUT_MAX 4096U

/* One input of a target, from a file. */
static inline void fuzz_file(const char *path)
{
	static uint8_t input[FUZZ_INPUT_MAX];
	FILE *f = fopen(path, "re");
	size_t n;

	if (f == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	n = fread(input, 1, sizeof(input), f);
	fclose(f);
	LLVMFuzzerTestOneInput(input, n);
}

/* The inputs of a target that are kept in corpus/NAME: each is driven, and there are some. */
static inline void fuzz_corpus(const char *name)
{
	char path[PATH_MAX];
	unsigned driven = 0;
	struct dirent *e;
	DIR *dp;

	snprintf(path, sizeof(path), "%s/%s", FUZZ_CORPUS, name);
	dp = opendir(path);
	if (dp == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	while ((e = readdir(dp)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/%s", FUZZ_CORPUS, name, e->d_name);
		fuzz_file(path);
		driven++;
	}
	closedir(dp);
	assert_true(driven != 0);
}

#define FUZZ_INPUT_ROOM 1024U

/* Inputs that make() writes, of which some are taken and some are refused. */
static inline void fuzz_spoilt(size_t (*make)(uint8_t input[FUZZ_INPUT_ROOM]), unsigned long rounds)
{
	unsigned long taken = 0, refused = 0;
	uint8_t input[FUZZ_INPUT_ROOM];

	rounds = fuzz_number("FUZZ_ROUNDS", rounds);
	fuzz_begin();
	for (unsigned long i = 0; i < rounds; i++) {
		LLVMFuzzerTestOneInput(input, make(input));
		taken += target_outcome == TARGET_TAKEN;
		refused += target_outcome == TARGET_REFUSED;
	}
	assert_int_equal(taken + refused, rounds);
	assert_true(taken > rounds / 50);
	assert_true(refused > rounds / 50);
}

/* The program of a target: its seeded test, and the inputs that are kept. */
#define FUZZ_TESTS(which, seeded)                                                                  \
	static void corpus(void **state)                                                           \
	{                                                                                          \
		(void)state;                                                                       \
		fuzz_corpus(which);                                                                \
	}                                                                                          \
                                                                                                   \
	int main(void)                                                                             \
	{                                                                                          \
		const struct CMUnitTest tests[] = {                                                \
			cmocka_unit_test(seeded),                                                  \
			cmocka_unit_test(corpus),                                                  \
		};                                                                                 \
                                                                                                   \
		return cmocka_run_group_tests_name("fuzz-" which, tests, NULL, NULL);              \
	}

#endif
