/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Options as text: sizes, swap areas, words and windows; what is refused and
 * what is said then; the same text in the environment.
 */
#include "test.h"

#include "options.h"

#include <stdio.h>
#include <stdlib.h>

#define G ((uint64_t)1 << 30)
#define M ((uint64_t)1 << 20)
#define K ((uint64_t)1 << 10)

static struct options opts;
static char why[256];

static int fresh(void **state)
{
	(void)state;
	memset(&opts, 0xa5, sizeof(opts)); /* options_init() must not lean on zeros */
	options_init(&opts);
	strcpy(why, "");
	return 0;
}

static const struct option_def *option(const char *name)
{
	for (unsigned i = 0; i < option_count; i++)
		if (strcmp(option_defs[i].name, name) == 0)
			return &option_defs[i];
	fail_msg("no option %s", name);
	return NULL;
}

static void accepts(const char *name, const char *value)
{
	int r = options_set(&opts, option(name), value, why, sizeof(why));

	if (r != 0)
		fail_msg("--%s '%s' was refused: %s", name, value, why);
}

static void refuses(const char *name, const char *value, const char *reason)
{
	strcpy(why, "");
	if (options_set(&opts, option(name), value, why, sizeof(why)) != -EINVAL)
		fail_msg("--%s '%s' was not refused", name, value);
	assert_string_equal(why, reason);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"1k", K},
		{"512M", 512 * M},
		{"512MiB", 512 * M},
		{"1.5G", G + G / 2},
		{"0.25g", G / 4},
		{"1.0000000001G", G}, /* the tenth digit is dropped */
		{"3T", 3 * K * G},
		{"2P", 2 * K * K * G},
		{"25%", 1000},
		{"12.5%", 500},
		{"100%", 4000},
		{"0.025%", 1},
		{"18446744073709551615", UINT64_MAX},
		{"16383P", 16383 * K * K * G},
	};
	static const char *const bad[] = {
		"",
		" ",
		"M",
		"-1",
		"+1",
		"1.",
		".5G",
		"1.5",
		"1,5G",
		"1MB",
		"1Mi",
		"1 M",
		"1M ",
		"0x10",
		"1E",
		"1KK",
		"5%%",
		"%",
		"5%M",
		"1..5G",
		"1e3",
		"١M",
		"16384P",
		"18446744073709551616",
		"99999999999999999999999",
		"1001%",
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		v = 77;
		if (options_size(good[i].text, 4000, &v) != 0 || v != good[i].bytes)
			fail_msg("'%s' gives %llu", good[i].text, (unsigned long long)v);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		v = 77;
		if (options_size(bad[i], 4000, &v) != -EINVAL || v != 77)
			fail_msg("'%s' is taken for %llu", bad[i], (unsigned long long)v);
	}
	assert_int_equal(options_size("25%", 0, &v), -EINVAL);
}

/* What says when dirty pages are written: text to numbers, and no others than struct fl_options takes. */
static void write_back(void **state)
{
	static const struct {
		const char *text;
		unsigned ms;
	} good[] = {
		{"0.25", 250},	   {"0.2509", 250},	{"1", 1000},
		{"5.0", 5000},	   {"007.125", 7125},	{"30", 30000},
		{"3600", 3600000}, {"3600.0", 3600000}, {"3600.0009", 3600000},
	};
	static const char *const bad[] = {
		"",	" ",	"0",   "0.249", "3601", "3600.001", "18446744073709552",
		"-1",	"+5",	"5s",  "5 ",	".5",	"5.",	    "1,5",
		"1..5", "1.5.", "1e3", "0x10",	"5%",	"never",    "99999999999999999999",
	};
	static const char *const bad_percents[] = {
		"", "0", "51", "-1", "+1", "12%", "12.5", "1 ", "0x10", "99999999999999999999",
	};
	unsigned v;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		v = 77;
		if (options_dirty_expire(good[i].text, &v) != 0 || v != good[i].ms)
			fail_msg("'%s' gives %u", good[i].text, v);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		v = 77;
		if (options_dirty_expire(bad[i], &v) != -EINVAL || v != 77)
			fail_msg("'%s' is taken for %u", bad[i], v);
	}
	assert_int_equal(options_dirty_background("1", &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(options_dirty_background("50", &v), 0);
	assert_int_equal(v, 50);
	for (size_t i = 0; i < sizeof(bad_percents) / sizeof(bad_percents[0]); i++) {
		v = 77;
		if (options_dirty_background(bad_percents[i], &v) != -EINVAL || v != 77)
			fail_msg("'%s' is taken for %u", bad_percents[i], v);
	}
}

static void percentage_of_ram(void **state)
{
	uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

	(void)state;
	assert_int_equal(options_ram(), ram);
	accepts("limit", "50%");
	assert_int_equal(opts.fl.limit, ram / 2);
}

static void swap_areas(void **state)
{
	static const struct {
		const char *text, *path;
		int prio;
		uint64_t size;
	} good[] = {
		{"/swap", "/swap", -1, 0},
		{"swap", "swap", -1, 0},
		{"/swap,prio=0", "/swap", 0, 0},
		{"/swap,prio=32767,size=1.5G", "/swap", 32767, G + G / 2},
		{"/swap,size=64K,prio=3", "/swap", 3, 64 * K},
		{"/a,,b,,", "/a,b,", -1, 0},
		{"/a,,prio=1,prio=2", "/a,prio=1", 2, 0},
		{"/dev/disk/by-path/pci-0000:00:1f.2", "/dev/disk/by-path/pci-0000:00:1f.2", -1, 0},
	};
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{"", "no file is named"},
		{",prio=1", "no file is named"},
		{"/s,prio=", "'' is not a priority (0 to 32767)"},
		{"/s,prio=-1", "'-1' is not a priority (0 to 32767)"},
		{"/s,prio=32768", "'32768' is not a priority (0 to 32767)"},
		{"/s,size=0", "an area of no size"},
		{"/s,size=5%", "'5%' is not a size (give it as 512M, 1.5G or 64K)"},
		{"/s,pri=1", "'pri=1' is neither prio=N nor size=S (a comma in a name is ',,')"},
		{"/s,", "'' is neither prio=N nor size=S (a comma in a name is ',,')"},
		{"/s,prio=1,", "'' is neither prio=N nor size=S (a comma in a name is ',,')"},
		{"/longer-than-its-room", "the path is too long"},
	};
	struct fl_swap_spec spec;
	char path[64];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (options_swap(good[i].text, &spec, path, sizeof(path), why, sizeof(why)) != 0)
			fail_msg("'%s' was refused: %s", good[i].text, why);
		assert_ptr_equal(spec.path, path);
		assert_string_equal(path, good[i].path);
		assert_int_equal(spec.prio, good[i].prio);
		assert_int_equal(spec.size, good[i].size);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t room = bad[i].text[0] == '/' && bad[i].text[1] == 'l' ? 20 : sizeof(path);

		assert_int_equal(options_swap(bad[i].text, &spec, path, room, why, sizeof(why)),
				 -EINVAL);
		assert_string_equal(why, bad[i].reason);
	}
}

static void many_areas(void **state)
{
	char spec[64];

	(void)state;
	for (int i = 0; i < FL_SWAP_MAX; i++) {
		snprintf(spec, sizeof(spec), "/area/%d,prio=%d", i, i);
		accepts("swap", spec);
	}
	assert_int_equal(opts.fl.nareas, FL_SWAP_MAX);
	for (int i = 0; i < FL_SWAP_MAX; i++) {
		snprintf(spec, sizeof(spec), "/area/%d", i);
		assert_string_equal(opts.fl.areas[i].path, spec);
		assert_int_equal(opts.fl.areas[i].prio, i);
	}
	refuses("swap", "/one/more", "more than 32 areas");
	assert_int_equal(opts.fl.nareas, FL_SWAP_MAX);
}

static void text_has_an_end(void **state)
{
	char path[3000];
	unsigned taken = 0;

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	while (options_set(&opts, option("swap"), path, why, sizeof(why)) == 0) {
		path[1]++;
		taken++;
	}
	assert_int_equal(taken, OPT_TEXT_MAX / sizeof(path));
	assert_string_equal(why, "the path is too long");
	refuses("swap-dir", path, "too long");
	assert_true(opts.text_len <= OPT_TEXT_MAX);
}

static void words_and_numbers(void **state)
{
	(void)state;
	accepts("engine", "sync");
	assert_int_equal(opts.fl.engine, FL_ENGINE_SYNC);
	accepts("engine", "uring");
	assert_int_equal(opts.fl.engine, FL_ENGINE_URING);
	accepts("wp", "off");
	assert_int_equal(opts.fl.wp, FL_WP_OFF);
	accepts("wp", "sync");
	assert_int_equal(opts.fl.wp, FL_WP_SYNC);
	accepts("log", "debug");
	assert_int_equal(opts.fl.log_level, FL_LOG_DEBUG);
	accepts("pagers", "16");
	assert_int_equal(opts.fl.pagers, 16);
	accepts("fault-around", "4K");
	assert_int_equal(opts.fl.fault_around, 4096);
	accepts("readahead", "2M");
	assert_int_equal(opts.fl.readahead, 2 * M);
	accepts("limit", "2M");
	assert_int_equal(opts.fl.limit, FL_LIMIT_MIN);
	accepts("swap-dir", "/some/where");
	assert_string_equal(opts.fl.swap_dir, "/some/where");
	accepts("stats", "-");
	assert_string_equal(opts.stats, "-");
	accepts("stats", "/tmp/stats");
	assert_string_equal(opts.stats, "/tmp/stats");

	refuses("engine", "Sync", "'Sync' is none of auto, uring, sync");
	refuses("wp", "", "'' is none of auto, sync, off");
	refuses("log", "all", "'all' is none of error, warn, info, debug");
	refuses("pagers", "0", "'0' is not a number from 1 to 16");
	refuses("pagers", "17", "'17' is not a number from 1 to 16");
	refuses("pagers", "2x", "'2x' is not a number from 1 to 16");
	refuses("fault-around", "2K", "'2K' is not a multiple of 4K from 4K to 2M");
	refuses("fault-around", "6K", "'6K' is not a multiple of 4K from 4K to 2M");
	refuses("readahead", "4M", "'4M' is not a multiple of 4K from 4K to 2M");
	refuses("readahead", "50%", "'50%' is not a size (give it as 512M, 1.5G or 64K)");
	refuses("limit", "1M", "'1M' is too small: at least 2048 KiB are needed");
	refuses("limit", "lots", "'lots' is not a size (give it as 512M, 1.5G or 25%)");
	refuses("swap-dir", "some/where", "'some/where' is not an absolute path");
	refuses("stats", "", "'' is not an absolute path");
	refuses("swap", "here", "'here' is not an absolute path");
	accepts("swap", "/here");
	refuses("swap", "/here,prio=5", "'/here' is named twice");
	refuses("swap", "none", "'none' stands alone");
	options_init(&opts);
	accepts("swap", "none");
	assert_int_equal(opts.fl.no_swap, 1);
	assert_int_equal(opts.fl.nareas, 0);
	refuses("swap", "/here", "'none' stands alone");
	accepts("swap", "none");
}

static void compression(void **state)
{
	(void)state;
	accepts("compress", "-");
	assert_int_equal(opts.fl.compress, FL_COMPRESS_LZ4);
	assert_int_equal(opts.fl.pool, 0);
	accepts("compress", "zstd,64M");
	assert_int_equal(opts.fl.compress, FL_COMPRESS_ZSTD);
	assert_int_equal(opts.fl.pool, 64 * M);
	accepts("compress", "lz4");
	assert_int_equal(opts.fl.compress, FL_COMPRESS_LZ4);
	assert_int_equal(opts.fl.pool, 0);
	accepts("compress", "none");
	assert_int_equal(opts.fl.compress, FL_COMPRESS_NONE);
	refuses("compress", "lzo", "'lzo' is none of none, lz4, zstd");
	refuses("compress", "", "'' is none of none, lz4, zstd");
	refuses("compress", "a-word-that-is-none,1M", "'a-word-that-is-none,1M' is too long");
	refuses("compress", "lz4,", "'' is not a size (give it as 512M, 1.5G or 64K)");
	refuses("compress", "lz4,511K", "'511K' is not from 512K to 64G");
	refuses("compress", "lz4,65G", "'65G' is not from 512K to 64G");
	assert_int_equal(opts.fl.compress, FL_COMPRESS_NONE);
	accepts("compress", "lz4,512K");
	assert_int_equal(opts.fl.pool, M / 2);
}

static void environment(void **state)
{
	char *env[] = {
		(char[]){"PATH=/bin"},
		(char[]){"FAULTLINE_LIMITS=nonsense"},
		(char[]){"FAULTLINE_LIMIT=64M"},
		(char[]){"FAULTLINE_SWAP=/a,prio=1;/b;;c,size=1M;/d,,e"},
		(char[]){"FAULTLINE_SWAP_DIR=/dir"},
		(char[]){"FAULTLINE_ENGINE="},
		(char[]){"FAULTLINE_FAULT_AROUND=64K"},
		(char[]){"FAULTLINE_STATS=-"},
		NULL,
	};

	(void)state;
	assert_int_equal(options_environment(&opts, env, why, sizeof(why)), 0);
	assert_int_equal(opts.fl.limit, 64 * M);
	assert_int_equal(opts.fl.nareas, 3);
	assert_string_equal(opts.fl.areas[0].path, "/a");
	assert_int_equal(opts.fl.areas[0].prio, 1);
	assert_string_equal(opts.fl.areas[1].path, "/b;c");
	assert_int_equal(opts.fl.areas[1].size, M);
	assert_string_equal(opts.fl.areas[2].path, "/d,e");
	assert_int_equal(opts.fl.areas[2].prio, -1);
	assert_string_equal(opts.fl.swap_dir, "/dir");
	assert_int_equal(opts.fl.engine, FL_ENGINE_AUTO);
	assert_int_equal(opts.fl.fault_around, 64 * K);
	assert_string_equal(opts.stats, "-");
	assert_string_equal(options_getenv(env, "PATH"), "/bin");
	assert_null(options_getenv(env, "PAT"));
	assert_null(options_getenv(env, "FAULTLINE_ENGINE"));
	assert_null(options_getenv(NULL, "PATH"));
}

static void files(void **state)
{
	char *env[] = {(char[]){"FAULTLINE_FILES=/e/*:*.log"}, NULL};
	static char pattern[OPT_TEXT_MAX];

	(void)state;
	assert_null(opts.files);
	refuses("files", "", "'' begins with neither / nor *");
	refuses("files", "data.db", "'data.db' begins with neither / nor *");
	refuses("files", "/a:", "'' begins with neither / nor *");
	refuses("files", "/a::/b", "':/b' begins with neither / nor *");
	assert_null(opts.files);
	accepts("files", "/a/*");
	accepts("files", "*.db:/x\\:y");
	assert_string_equal(opts.files, "/a/*:*.db:/x\\:y");
	options_forget_files(&opts);
	assert_null(opts.files);
	assert_int_equal(options_environment(&opts, env, why, sizeof(why)), 0);
	assert_string_equal(opts.files, "/e/*:*.log");
	/* there is an end to it */
	memset(pattern, '/', sizeof(pattern) - 1);
	refuses("files", pattern, "too long");
	pattern[3000] = '\0';
	accepts("files", pattern);
	refuses("files", pattern, "too long");
}

static void bad_environment(void **state)
{
	static const struct {
		const char *entry, *reason;
	} bad[] = {
		{"FAULTLINE_LIMIT=x",
		 "FAULTLINE_LIMIT: 'x' is not a size (give it as 512M, 1.5G or 25%)"},
		{"FAULTLINE_SWAP=/a;", "FAULTLINE_SWAP: no file is named"},
		{"FAULTLINE_SWAP=/a;b", "FAULTLINE_SWAP: 'b' is not an absolute path"},
		{"FAULTLINE_SWAP_DIR=tmp", "FAULTLINE_SWAP_DIR: 'tmp' is not an absolute path"},
		{"FAULTLINE_WP=maybe", "FAULTLINE_WP: 'maybe' is none of auto, sync, off"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *env[] = {strdup(bad[i].entry), NULL};

		options_init(&opts);
		assert_int_equal(options_environment(&opts, env, why, sizeof(why)), -EINVAL);
		assert_string_equal(why, bad[i].reason);
		free(env[0]);
	}
}

/* Long values must cut the message, not run over it. */
static void short_messages(void **state)
{
	char value[600], small[16];

	(void)state;
	memset(value, 'y', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	for (unsigned i = 0; i < option_count; i++) {
		if (strcmp(option_defs[i].name, "swap") == 0)
			continue;
		memset(small, 'z', sizeof(small));
		assert_int_equal(options_set(&opts, &option_defs[i], value, small, 8), -EINVAL);
		assert_int_equal(strlen(small), 7);
		assert_int_equal(small[8], 'z');
	}
}

static void variables(void **state)
{
	char name[OPT_VAR_MAX];

	(void)state;
	options_variable(option("limit"), name);
	assert_string_equal(name, "FAULTLINE_LIMIT");
	options_variable(option("fault-around"), name);
	assert_string_equal(name, "FAULTLINE_FAULT_AROUND");
	for (unsigned i = 0; i < option_count; i++)
		assert_true(strlen(option_defs[i].name) + sizeof("FAULTLINE_") <= OPT_VAR_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(write_back),
		cmocka_unit_test_setup(percentage_of_ram, fresh),
		cmocka_unit_test(swap_areas),
		cmocka_unit_test_setup(many_areas, fresh),
		cmocka_unit_test_setup(text_has_an_end, fresh),
		cmocka_unit_test_setup(words_and_numbers, fresh),
		cmocka_unit_test_setup(compression, fresh),
		cmocka_unit_test_setup(environment, fresh),
		cmocka_unit_test_setup(files, fresh),
		cmocka_unit_test(bad_environment),
		cmocka_unit_test_setup(short_messages, fresh),
		cmocka_unit_test(variables),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
