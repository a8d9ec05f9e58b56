/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program that opens runtimes on a store by itself: each is listed in MNT/proc,
 * shows its own memory wherever it is, and has its own limit.
 *
 * Two processes beside the server: the program, which does what it is told, one
 * letter a time, and the test.
 */
#include "spoil.h"

#include "clients.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT (4 * MIB)
#define PAGES 3072UL
#define NEEDLE_AT 700UL
#define BAD_AT 1000UL
#define RUNTIMES 10U

/* What the program tells, in memory shared with it. */
static struct told {
	char *mem[2];
	unsigned char needle[2]; /* states of their pages */
	uint64_t limit[2];
	unsigned long wrong;
} * told;

static pid_t program;
static int ask[2], answer[2];

/* ---- the program ---- */

static struct fl *runtime[RUNTIMES];

static struct fl *open_one(void)
{
	struct fl_options o = live_options(LIMIT);
	char mnt[PATH_MAX];

	snprintf(mnt, sizeof(mnt), "%s", in_base("mnt"));
	o.store = mnt;
	o.log = live_log;
	return live_open(&o);
}

static const char *needle(unsigned i)
{
	return i == 0 ? "the needle of the first" : "a needle of the second one";
}

static void tell(void)
{
	for (unsigned i = 0; i < 2 && runtime[i] != NULL; i++) {
		told->needle[i] = live_state(runtime[i], told->mem[i] + NEEDLE_AT * PG);
		told->limit[i] = live_stats(runtime[i]).limit;
	}
}

static void do_as_told(char c)
{
	switch (c) {
	case 'o': /* one after the other */
		for (unsigned i = 0; i < 2; i++) {
			runtime[i] = open_one();
			told->mem[i] = live_map(runtime[i], PAGES);
			live_fill(told->mem[i], 0, PAGES, i + 1);
			strcpy(told->mem[i] + NEEDLE_AT * PG + 100, needle(i));
			live_out(runtime[i], told->mem[i] + NEEDLE_AT * PG, 1);
			live_out(runtime[i], told->mem[i] + BAD_AT * PG, 1);
		}
		break;
	case 'b':
		spoil(runtime[0], told->mem[0] + BAD_AT * PG);
		break;
	case 'c':
		assert_int_equal(fl_close(runtime[1]), 0);
		runtime[1] = NULL;
		break;
	case 'm':
		for (unsigned i = 1; i < RUNTIMES; i++)
			runtime[i] = open_one();
		break;
	case 'v':
		told->wrong = live_wrong(told->mem[0], 0, NEEDLE_AT, 1) +
			      live_wrong(told->mem[0], NEEDLE_AT + 1, BAD_AT - NEEDLE_AT - 1, 1) +
			      live_wrong(told->mem[0], BAD_AT + 1, PAGES - BAD_AT - 1, 1);
		break;
	case 't':
		break;
	}
	tell();
}

static void be_program(void)
{
	char c;

	test_child();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(ask[1]);
	close(answer[0]);
	while (read(ask[0], &c, 1) == 1) {
		do_as_told(c);
		if (write(answer[1], &c, 1) != 1)
			break;
	}
	_exit(0);
}

/* ---- the test ---- */

static void have(char c)
{
	char reply = 0;

	assert_int_equal(write(ask[1], &c, 1), 1);
	assert_int_equal(read(answer[0], &reply, 1), 1);
	assert_int_equal(reply, c);
}

static int begin(void **state)
{
	told = mmap(NULL, sizeof(*told), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED || mounted_begin(state) != 0 ||
	    run_faultline("mkswap --size 256M \"$BASE/store/swap/disk0\"") != 0 ||
	    run_faultline("swapon \"$BASE/mnt\" disk0") != 0 || pipe(ask) != 0 || pipe(answer) != 0)
		return -1;
	program = fork();
	if (program == 0)
		be_program();
	close(ask[0]);
	close(answer[1]);
	return program > 0 ? 0 : -1;
}

static int end(void **state)
{
	kill(program, SIGKILL);
	waitpid(program, NULL, 0);
	return mounted_end(state);
}

/* MNT/proc/PID[.NR]/NAME */
static const char *file(unsigned nr, const char *name)
{
	char who[CLIENT_NAME_MAX], path[128];

	client_name(program, nr, who);
	snprintf(path, sizeof(path), "mnt/proc/%s/%s", who, name);
	return in_base(path);
}

static unsigned listed(void)
{
	DIR *dp = opendir(in_base("mnt/proc"));
	unsigned n = 0;

	assert_non_null(dp);
	for (const struct dirent *e; (e = readdir(dp)) != NULL;)
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(dp);
	return n;
}

static void each_is_listed(void **state)
{
	static const char *const odd[] = {".1", ".0", ".02", ".3", ".", ".2 ", ".22"};

	(void)state;
	have('o');
	assert_int_equal(listed(), 2);
	assert_int_equal(access(file(1, "status"), R_OK), 0);
	assert_int_equal(access(file(2, "status"), R_OK), 0);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), "mnt/proc/%d%s", (int)program, odd[i]);
		assert_int_equal(access(in_base(path), F_OK), -1);
		assert_int_equal(errno, ENOENT);
	}
	assert_int_equal(run_faultline("store check \"$BASE/store\" >/dev/null"), 0);
}

/* All of its own memory, and nothing of the other's. */
static void each_shows_its_memory(void **state)
{
	char *buf = malloc(PAGES * PG), *want = malloc(PAGES * PG);

	(void)state;
	assert_true(buf != NULL && want != NULL);
	for (unsigned i = 0; i < 2; i++) {
		int fd = open(file(i + 1, "mem"), O_RDONLY | O_CLOEXEC);
		size_t got = 0;

		assert_true(fd >= 0);
		live_fill(want, 0, PAGES, i + 1);
		strcpy(want + NEEDLE_AT * PG + 100, needle(i));
		while (got < PAGES * PG) {
			ssize_t n = pread(fd, buf + got, PAGES * PG - got,
					  (off_t)(uintptr_t)told->mem[i] + (off_t)got);

			assert_true(n > 0);
			got += (size_t)n;
		}
		assert_memory_equal(buf, want, PAGES * PG);
		assert_int_equal(pread(fd, buf, 16 * PG,
				       (off_t)(uintptr_t)told->mem[1 - i] + 800 * (off_t)PG),
				 16 * PG);
		for (size_t k = 0; k < 16 * PG; k++)
			assert_int_equal(buf[k], 0);
		close(fd);
	}
	free(want);
	free(buf);
}

static void tools_find_what_is_swapped(void **state)
{
	static const char *const lines[] = {
		"xxd -s $AT -l 64 $MEM | grep -q \"$(printf %.16s \"$NEEDLE\")\"",
		"grep -aqz \"$NEEDLE\" $MEM",
		"! grep -aqz \"$NEEDLE\" $OTHER",
		"dd if=$MEM iflag=skip_bytes,count_bytes skip=$AT count=64 status=none | "
		"grep -aq \"^$NEEDLE\"",
	};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		have('t');
		assert_int_equal(FL_PAGE_KIND(told->needle[i]), FL_PAGE_SWAPPED);
		for (size_t k = 0; k < sizeof(lines) / sizeof(lines[0]); k++) {
			char line[4 * PATH_MAX];

			snprintf(line, sizeof(line), "NEEDLE='%s' MEM='%s' OTHER='%s' AT=%lu; %s",
				 needle(i), file(i + 1, "mem"), file(2 - i, "mem"),
				 (uintptr_t)told->mem[i] + NEEDLE_AT * PG + 100, lines[k]);
			if (system(line) != 0)
				fail_msg("%s", line);
		}
		have('t');
		assert_int_equal(FL_PAGE_KIND(told->needle[i]), FL_PAGE_SWAPPED);
	}
}

static void a_lost_page_is_told(void **state)
{
	int fd = open(file(1, "mem"), O_RDONLY | O_CLOEXEC);
	off_t at = (off_t)(uintptr_t)told->mem[0] + (off_t)(BAD_AT * PG);
	char *buf = malloc(4 * PG), *want = malloc((BAD_AT + 2) * PG);

	(void)state;
	assert_true(fd >= 0 && buf != NULL && want != NULL);
	live_fill(want, BAD_AT - 1, 3, 1);
	assert_int_equal(pread(fd, buf, PG, at), PG);
	assert_memory_equal(buf, want + BAD_AT * PG, PG);
	have('b');
	assert_int_equal(pread(fd, buf, PG, at), -1);
	assert_int_equal(errno, EIO);
	assert_int_equal(pread(fd, buf, 3 * PG, at - (off_t)PG), PG);
	assert_memory_equal(buf, want + (BAD_AT - 1) * PG, PG);
	assert_int_equal(pread(fd, buf, PG, at + (off_t)PG), PG);
	assert_memory_equal(buf, want + (BAD_AT + 1) * PG, PG);
	have('v');
	assert_int_equal(told->wrong, 0);
	free(want);
	free(buf);
	close(fd);
}

static void each_has_its_limit(void **state)
{
	char line[128];

	(void)state;
	have('t');
	assert_int_equal(told->limit[0], LIMIT / PG);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d.2 3M", (int)program);
	assert_int_equal(run_faultline(line), 0);
	have('t');
	assert_int_equal(told->limit[0], LIMIT / PG);
	assert_int_equal(told->limit[1], 3 * MIB / PG);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d 5M", (int)program);
	assert_int_equal(run_faultline(line), 0);
	have('t');
	assert_int_equal(told->limit[0], 5 * MIB / PG);
	assert_int_equal(told->limit[1], 3 * MIB / PG);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d.3 5M 2>\"$BASE/err\"", (int)program);
	assert_int_equal(run_faultline(line), 1);
	snprintf(line, sizeof(line), "limit \"$BASE/mnt\" %d.x 5M 2>\"$BASE/err\"", (int)program);
	assert_int_equal(run_faultline(line), 2);
	snprintf(line, sizeof(line), "grep -q 'pid=\"%d.2\"' '%s'", (int)program,
		 in_base("mnt/metrics"));
	assert_int_equal(system(line), 0);
}

/* One that ends leaves its number to the next; there are not more than eight. */
static void numbers_are_used_again(void **state)
{
	(void)state;
	have('c');
	until(listed() == 1);
	assert_int_equal(access(file(2, "status"), F_OK), -1);
	assert_int_equal(access(file(1, "status"), R_OK), 0);
	have('m');
	until(listed() == CLIENT_RUNTIMES);
	for (unsigned nr = 1; nr <= CLIENT_RUNTIMES; nr++)
		assert_int_equal(access(file(nr, "status"), R_OK), 0);
	kill(program, SIGKILL);
	until(listed() == 0);
	until(run_faultline("store check \"$BASE/store\" >/dev/null") == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_listed),
		cmocka_unit_test(each_shows_its_memory),
		cmocka_unit_test(tools_find_what_is_swapped),
		cmocka_unit_test(a_lost_page_is_told),
		cmocka_unit_test(each_has_its_limit),
		cmocka_unit_test(numbers_are_used_again),
	};

	return cmocka_run_group_tests_name("runtimes", tests, begin, end);
}
