/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-store-crash.c - a store's server is killed at one of its steps (crash.h), and
 * what it leaves is held against what was promised.
 *
 * A course is a sequence of operations that follows from a seed: stores into shared
 * mappings, write(2) through the mount, syncs, truncation, holes, names, and processes
 * that are killed, by two processes that this one tells what to do, one operation
 * at a time or two at once.  It is run again and again; each time the server is
 * killed at another point of it.  Then
 *
 *	the processes see in their mappings what they stored last, or SIGBUS;
 *	on the host each byte is what it was when it was last synced, or what was
 *	stored there after that; sizes and names are those of the operations
 *	that were answered, and the operation that was not is done or not;
 *	`faultline store check` finds nothing, and a new server shows the same.
 *
 * A course whose end is reached ends with the server's own end: then all is there.
 *
 * The other kind of course is of memory that is swapped to the store's area.
 *
 * FL_CRASH_KILLS is the number of kills of each test, or "all": at each point;
 * FL_CRASH_SEED makes the course another one, FL_CRASH_AT is one point alone, and with
 * FL_CRASH_VERBOSE each run says where the server was killed.
 *
 * usage: test-store-crash [TEST]
 */
#include "mounted.h"

#include "crash-course.h"

#include "faultline.h"
#include "server.h"
#include "sys.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CACHE (2UL << 20) /* all files do not fit */

bool over;
bool power;

/* --- runs --- */

/* One run; how many points were passed. */
static uint32_t run_once(const struct plan *p, uint64_t seed, uint32_t at, bool *killed)
{
	uint64_t begun = sys_now();
	uint32_t count;

	snprintf(course, sizeof(course), "%s, seed %lu, point %u", p->name, (unsigned long)seed,
		 at);
	crash_serve(&p->mount);
	if (run != 0) {
		next_shows_the_same();
		remove_files();
	}
	run++;
	begin_course(seed);
	over = false;
	power = p->power;
	direct = p->mount.direct;
	make_files();
	for (unsigned i = 0; i < CLIENTS; i++)
		start(&process[i], p->store_flags);
	count = p->body(p, at, killed);
	if (getenv("FL_CRASH_VERBOSE") != NULL)
		print_message("%s: %s %s, %lu ms\n", course, *killed ? crash->when : "the",
			      *killed ? crash->where : "end",
			      (unsigned long)((sys_now() - begun) / 1000000));
	return count;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void run_all(const struct plan *p, uint64_t kills)
{
	const char *text = getenv("FL_CRASH_KILLS");
	uint64_t seed = number_of("FL_CRASH_SEED", 1);
	bool all = text != NULL && strcmp(text, "all") == 0;
	uint32_t points, done = 0;
	bool killed;

	if (getenv("FL_CRASH_AT") != NULL) {
		run_once(p, seed, (uint32_t)number_of("FL_CRASH_AT", 0), &killed);
		return;
	}
	kills = all ? UINT64_MAX : number_of("FL_CRASH_KILLS", kills);
	points = run_once(p, seed, 0, &killed);
	assert_false(killed);
	if (points < kills)
		kills = points;
	else
		points -= points / 10; /* the last ones may not be reached each time */
	for (uint64_t i = 0; i < kills; i++) {
		uint64_t from = i * points / kills, to = (i + 1) * points / kills;
		uint32_t at = (uint32_t)(from + (seed + i) * 7919 % (to - from)) + 1;

		run_once(p, seed, at, &killed);
		done += killed;
	}
	assert_true(done >= kills / 2);
	crash_serve(&p->mount);
	next_shows_the_same();
	crash_end();
}

/* --- tests --- */

static int begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0)
		return -1;
	umask(022);
	run = 0;
	if (world == NULL)
		world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return world == MAP_FAILED || run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mkswap --size 64M \"$BASE/store/swap/disk0\"") != 0;
}

static int end(void **state)
{
	char line[PATH_MAX];

	(void)state;
	for (unsigned i = 0; i < CLIENTS; i++)
		end_it(&process[i]);
	crash_clean();
	snprintf(line, sizeof(line), "rm -rf '%s'", base);
	return system(line);
}

#define STORE_OPTIONS .base = base, .cache = CACHE, .sandbox = MOUNT_OPTIONS[0] == '\0'

static void at_writes(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_writes",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_NAME | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS},
			       .body = files_course},
		14);
}

static void at_pages(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_pages",
			       .kinds = CRASH_PAGE,
			       .mount = {STORE_OPTIONS},
			       .body = files_course},
		7);
}

/* The server's part in paging: who comes, is given areas, and ends. */
static void at_messages(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_messages",
			       .kinds = CRASH_CLIENT,
			       .mount = {STORE_OPTIONS},
			       .body = memory_course},
		2);
}

/* And where it writes what is swapped. */
static void at_swap(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_swap",
			       .kinds = CRASH_WRITE | CRASH_ANSWER | CRASH_CLIENT,
			       .mount = {STORE_OPTIONS, .page_io = true},
			       .store_flags = FL_STORE_FUSE,
			       .body = memory_course},
		3);
}

/* What a sync promises holds when the host goes with the server. */
static void at_power_loss(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_power_loss",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS},
			       .power = true,
			       .body = files_course},
		7);
}

/*
 * The server has a descriptor of a file of its own mount just then, and is not to
 * wait for itself when the kernel closes that.
 */
static void at_opening(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_opening",
			       .kinds = CRASH_FILE,
			       .mount = {STORE_OPTIONS},
			       .opening = true,
			       .body = files_course},
		2);
}

static void at_direct_writes(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_direct_writes",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_NAME | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS, .direct = true},
			       .body = files_course},
		3);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(at_writes, begin, end),
		cmocka_unit_test_setup_teardown(at_pages, begin, end),
		cmocka_unit_test_setup_teardown(at_opening, begin, end),
		cmocka_unit_test_setup_teardown(at_direct_writes, begin, end),
		cmocka_unit_test_setup_teardown(at_power_loss, begin, end),
		cmocka_unit_test_setup_teardown(at_messages, begin, end),
		cmocka_unit_test_setup_teardown(at_swap, begin, end),
	};

	signal(SIGPIPE, SIG_IGN);
	/* children of those that were killed */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
