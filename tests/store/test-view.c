/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MNT/proc: what is shown of a process is read back, line by line, and held
 * against what the process knows of itself.
 *
 * Three processes: the viewed one, with a runtime whose area is in the store;
 * the server, which has it on its list of clients; and the test.
 */
#include "spoil.h"

#include "clients.h"
#include "peek-text.h"
#include "server.h"

#include <ctype.h>
#include <dirent.h>
#include <regex.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)
#define PAGES (8 * LIMIT_PAGES)
#define AREA_PAGES 16384UL
#define FILLED_AT (PAGES - 600) /* pages of one word; none are touched after them */
#define FILLED_N 200UL
#define BAD_AT 5000UL /* its slot was damaged */
#define FILL_WORD 0x4242424243434343U
#define NEEDLE "a needle in a page that is swapped out"
#define NEEDLE_AT 2000UL

/* What the viewed process tells, in memory shared with it. */
static struct told {
	char *mem;
	struct fl_stats stats;
	unsigned char state[PAGES];
} * told;

static pid_t viewed, server_pid;
static int ask[2], answer[2];
static char proc[PATH_MAX / 2]; /* MNT/proc/PID */
static char *want;		/* the bytes of mem */

/* ---- the viewed process ---- */

static void tell(struct fl *fl)
{
	told->stats = live_stats(fl);
	assert_int_equal(fl_page_state(fl, told->mem, PAGES * PG, told->state), 0);
}

static void fill_content(char *mem)
{
	live_fill(mem, 0, FILLED_AT, 9);
	strcpy(mem + NEEDLE_AT * PG + 1000, NEEDLE);
	for (size_t i = 0; i < FILLED_N * WORDS; i++)
		live_page(mem, FILLED_AT)[i] = FILL_WORD;
}

static void be_viewed(void)
{
	const struct fl_swap_spec spec = {.path = in_base("store/swap/disk0"), .prio = -1};
	struct fl_options o = live_options(LIMIT);
	struct fl *fl;
	char c;

	test_child();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(ask[1]);
	close(answer[0]);
	o.areas = &spec;
	o.nareas = 1;
	o.log = live_log;
	fl = live_armed(&o);
	told->mem = live_map(fl, PAGES);
	fill_content(told->mem);
	live_out(fl, told->mem + NEEDLE_AT * PG, 1);
	live_out(fl, told->mem + BAD_AT * PG, 1);
	live_out(fl, told->mem + FILLED_AT * PG, FILLED_N);
	spoil(fl, told->mem + BAD_AT * PG);
	live_check(told->mem, 20, 30, 9);
	for (;;) {
		tell(fl);
		if (write(answer[1], "x", 1) != 1 || read(ask[0], &c, 1) != 1)
			_exit(0);
	}
}

/* What it says now. */
static void ask_viewed(void)
{
	char c;

	assert_int_equal(write(ask[1], "x", 1), 1);
	assert_int_equal(read(answer[0], &c, 1), 1);
}

/* ---- the server ---- */

static int open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int add_client(pid_t pid, uint64_t address, const char *name)
{
	struct client *c = client_new();

	if (c == NULL)
		return -1;
	c->pid = pid;
	c->uid = geteuid();
	c->gid = getegid();
	c->mem_fd = open_proc(pid, "mem");
	c->maps_fd = open_proc(pid, "maps");
	c->pagemap_fd = open_proc(pid, "pagemap");
	c->mm_addr = address;
	c->attached_at = 1000;
	snprintf(c->name, sizeof(c->name), "%s", name);
	return client_list(c);
}

/* Where it publishes itself; a second client, the test, says something else. */
static int be_server(pid_t test)
{
	static struct store store;
	FILE *maps = fdopen(open_proc(viewed, "maps"), "r");
	int mem = open_proc(viewed, "mem");
	uint64_t address;
	struct why why;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	close(ask[1]);
	close(answer[0]);
	if (maps == NULL || peek_find(mem, maps, &address, 1) != 1 ||
	    add_client(viewed, address, "a \"viewed\\\" one") != 0 ||
	    add_client(test, (uintptr_t)told, "garbage") != 0)
		return 3;
	if (store_open(&store, in_base("store"), &why) != 0 || store_lock(&store, &why) != 0) {
		fprintf(stderr, "%s\n", why.text);
		return 4;
	}
	server.store = &store;
	snprintf(server.mnt, sizeof(server.mnt), "%s", in_base("mnt"));
	server.options.foreground = true;
	server.options.sandbox = MOUNT_OPTIONS[0] == '\0';
	if (server_run(&why) != 0) {
		fprintf(stderr, "%s\n", why.text);
		return 5;
	}
	return 0;
}

static int begin(void **state)
{
	char line[PATH_MAX];
	double until = test_now() + HANG_SECONDS;
	pid_t self = getpid();
	char c;

	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	told = mmap(NULL, sizeof(*told), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	want = calloc(PAGES, PG);
	if (told == MAP_FAILED || want == NULL || mkdtemp(base) == NULL ||
	    mkdir(in_base("mnt"), 0755) != 0 || run_faultline("store init \"$BASE/store\"") != 0)
		return -1;
	snprintf(line, sizeof(line), "mkswap --size %lu \"$BASE/store/swap/disk0\"",
		 AREA_PAGES * PG);
	if (run_faultline(line) != 0 || pipe(ask) != 0 || pipe(answer) != 0)
		return -1;
	fill_content(want);
	viewed = fork();
	if (viewed == 0)
		be_viewed();
	if (read(answer[0], &c, 1) != 1)
		return -1;
	server_pid = fork();
	if (server_pid == 0)
		exit(be_server(self));
	snprintf(proc, sizeof(proc), "%s/%d", in_base("mnt/proc"), (int)viewed);
	while (access(proc, F_OK) != 0) {
		if (test_now() > until || waitpid(server_pid, NULL, WNOHANG) != 0)
			return -1;
		sched_yield();
	}
	return 0;
}

static int end(void **state)
{
	char line[PATH_MAX];
	int status = run_faultline("umount \"$BASE/mnt\""), of_server = 0;

	(void)state;
	if (status != 0) {
		run_faultline("umount --lazy \"$BASE/mnt\"");
		kill(server_pid, SIGTERM);
	}
	kill(viewed, SIGKILL);
	while (waitpid(viewed, NULL, 0) < 0 && errno == EINTR)
		continue;
	waitpid(server_pid, &of_server, 0);
	snprintf(line, sizeof(line), "rm -rf '%s'", base);
	return system(line) != 0 || status != 0 || of_server != 0;
}

/* ---- reading ---- */

static const char *file(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	snprintf(p, PATH_MAX, "%s/%s", proc, name);
	return p;
}

static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0, size = 65536;
	char *text = malloc(size);
	ssize_t n;

	assert_true(fd >= 0);
	assert_non_null(text);
	while ((n = read(fd, text + len, size - 1 - len)) > 0) {
		len += (size_t)n;
		if (len == size - 1)
			text = realloc(text, size *= 2);
		assert_non_null(text);
	}
	assert_int_equal(n, 0);
	close(fd);
	text[len] = '\0';
	return text;
}

/* The file of pages/ with an address, and its bounds. */
static const char *region_of(const char *mem, unsigned long *start, unsigned long *stop)
{
	static char name[PATH_MAX];
	DIR *dp = opendir(file("pages"));
	const struct dirent *e;
	unsigned long a, b;
	int n, found = 0;

	assert_non_null(dp);
	while ((e = readdir(dp)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		assert_int_equal(e->d_type, DT_REG);
		assert_int_equal(sscanf(e->d_name, "%lx-%lx%n", &a, &b, &n), 2);
		assert_int_equal(e->d_name[n], '\0');
		if (a > (uintptr_t)mem || (uintptr_t)mem >= b)
			continue;
		snprintf(name, sizeof(name), "%s/%s", file("pages"), e->d_name);
		*start = a;
		*stop = b;
		found++;
	}
	closedir(dp);
	assert_int_equal(found, 1);
	return name;
}

static void names(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
	} files[] = {
		{".", S_IFDIR | 0555},	   {"status", S_IFREG | 0444},	{"maps", S_IFREG | 0400},
		{"pages", S_IFDIR | 0500}, {"pagemap", S_IFREG | 0400}, {"mem", S_IFREG | 0400},
	};
	char path[PATH_MAX];
	unsigned long a, b;
	struct stat st;
	DIR *dp;
	unsigned n = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		assert_int_equal(stat(file(files[i].name), &st), 0);
		assert_int_equal(st.st_mode, files[i].mode);
		assert_int_equal(st.st_uid, geteuid());
		assert_int_equal(st.st_mtim.tv_sec, 1000);
	}
	for (const char *bad = "0\0+\0 \0"
			       "9\0";
	     *bad != '\0'; bad += 2) {
		snprintf(path, sizeof(path), "%s/%s%d", in_base("mnt/proc"), bad, (int)viewed);
		assert_int_equal(stat(path, &st), -1);
		assert_int_equal(errno, ENOENT);
	}
	assert_int_equal(stat(file("environ"), &st), -1);
	assert_int_equal(stat(file("pages/1000-2000"), &st), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(stat(region_of(told->mem, &a, &b), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0400);
	assert_true((uintptr_t)told->mem + PAGES * PG <= b);
	assert_int_equal(open(file("mem"), O_RDWR | O_CLOEXEC), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(unlink(file("status")), -1);
	assert_int_equal(errno, EPERM);
	dp = opendir(in_base("mnt/proc"));
	assert_non_null(dp);
	for (const struct dirent *e; (e = readdir(dp)) != NULL;)
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(dp);
	assert_int_equal(n, 2);
}

static void status(void **state)
{
	char *text = NULL, value[64], *area = NULL;
	struct fl_stats before;
	unsigned known = 0;
	ssize_t n;

	(void)state;
	/* of a time in which nothing moved */
	do {
		free(text);
		ask_viewed();
		before = told->stats;
		text = slurp(file("status"));
		ask_viewed();
	} while (memcmp(&before, &told->stats, sizeof(before)) != 0);
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		char *colon = strstr(line, ": ");

		assert_non_null(colon);
		*colon = '\0';
#define X(field)                                                                                   \
	if (strcmp(line, #field) == 0) {                                                           \
		assert_int_equal(strtoull(colon + 2, NULL, 10), told->stats.field);                \
		known++;                                                                           \
	}
		STATS_FIELDS(X)
#undef X
		if (strcmp(line, "area0") == 0)
			area = strdup(colon + 2);
		else if (strcmp(line, "pid") == 0)
			assert_int_equal(atoi(colon + 2), viewed);
		else if (strcmp(line, "name") == 0)
			assert_string_equal(colon + 2, "a \"viewed\\\" one");
	}
#define X(field) +1
	assert_int_equal(known, 0 STATS_FIELDS(X));
#undef X
	assert_string_equal(area, in_base("store/swap/disk0"));
	free(area);
	free(text);

	n = getxattr(file("mem"), "user.faultline.limit", value, sizeof(value));
	assert_true(n > 0);
	value[n] = '\0';
	assert_int_equal(strtoull(value, NULL, 10), LIMIT_PAGES);
	assert_int_equal(getxattr(file("mem"), "user.faultline.limit", value, 1), -1);
	assert_int_equal(errno, ERANGE);
	assert_int_equal(getxattr(file("mem"), "user.faultline.colour", value, 64), -1);
	assert_int_equal(errno, ENODATA);
	assert_true(listxattr(file("status"), NULL, 0) > 100);
}

/* Whether a file of the process has the lines of status as attributes, and no others. */
static bool has_attributes(const char *path, const char *text)
{
	char names[8192], value[256];
	ssize_t len = listxattr(path, names, sizeof(names));
	const char *name = names;

	for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1) {
		const char *colon = strstr(line, ": ");
		ssize_t n = strchr(line, '\n') - colon - 2;

		if (name >= names + len || strncmp(name, "user.faultline.", 15) != 0 ||
		    strlen(name + 15) != (size_t)(colon - line) ||
		    memcmp(name + 15, line, (size_t)(colon - line)) != 0 ||
		    getxattr(path, name, NULL, 0) != n ||
		    getxattr(path, name, value, sizeof(value)) != n ||
		    memcmp(value, colon + 2, (size_t)n) != 0)
			return false;
		name += strlen(name) + 1;
	}
	return len > 0 && name == names + len;
}

static void attributes(void **state)
{
	static const char *const files[] = {".", "status", "maps", "pagemap", "mem", "pages"};
	char *text = NULL, *again = slurp(file("status"));
	unsigned long a, b;
	bool have;

	(void)state;
	/* of a time in which nothing moved */
	do {
		free(text);
		text = again;
		have = has_attributes(region_of(told->mem, &a, &b), text);
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
			have &= has_attributes(file(files[i]), text);
		again = slurp(file("status"));
	} while (strcmp(text, again) != 0);
	assert_true(have);
	free(text);
	free(again);
}

static void maps(void **state)
{
	char *text = slurp(file("maps"));
	unsigned found = 0;

	(void)state;
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		unsigned long a, b, offset, inode;
		unsigned major_nr, minor_nr;
		char perm[8];

		assert_int_equal(sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &a, &b, perm, &offset,
					&major_nr, &minor_nr, &inode),
				 7);
		assert_true(a < b && a % PG == 0 && b % PG == 0);
		if (a <= (uintptr_t)told->mem && (uintptr_t)told->mem + PAGES * PG <= b) {
			assert_string_equal(perm, "rw-p");
			found++;
		}
	}
	assert_int_equal(found, 1);
	free(text);
}

static unsigned kind_named(const char *name)
{
	for (unsigned k = 0; k < PAGE_KINDS; k++)
		if (strcmp(name, page_kind_name(k)) == 0)
			return k;
	fail_msg("no kind of page: %s", name);
	return 0;
}

/* A page in a slot has its bytes there. */
static void check_slot(int area, unsigned slot, size_t page)
{
	char bytes[PG];

	assert_in_range(slot, 1, AREA_PAGES - 1);
	assert_int_equal(pread(area, bytes, PG, (off_t)slot * (off_t)PG), PG);
	assert_memory_equal(bytes, want + page * PG, PG);
}

/* One line: its pages are as the process says. */
static void check_line(const char *line, int area, unsigned long *at, unsigned *seen)
{
	unsigned long address, n;
	char kind[16], where[32], flags[32];
	unsigned index, slot;
	bool in_slot;

	assert_int_equal(sscanf(line, "%lx %lu %15s %31s %31s", &address, &n, kind, where, flags),
			 5);
	assert_int_equal(address, *at);
	*at += n * PG;
	in_slot = sscanf(where, "%u:%u", &index, &slot) == 2;
	for (unsigned long i = 0; i < n; i++) {
		size_t page = (address - (uintptr_t)told->mem) / PG + i;
		unsigned char s;

		if (address + i * PG < (uintptr_t)told->mem || page >= PAGES)
			continue;
		s = told->state[page];
		assert_int_equal(FL_PAGE_KIND(s), kind_named(kind));
		assert_int_equal((s & FL_PAGE_HAS_SLOT) != 0, in_slot);
		assert_int_equal((s & FL_PAGE_WP) != 0, strstr(flags, "wp") != NULL);
		assert_int_equal((s & FL_PAGE_BUSY) != 0, strstr(flags, "busy") != NULL);
		assert_int_equal((s & FL_PAGE_LOCKED) != 0, strstr(flags, "locked") != NULL);
		if (FL_PAGE_KIND(s) == FL_PAGE_SWAPPED) {
			assert_int_equal(index, 0);
			check_slot(area, slot + (unsigned)i, page);
		}
		if (FL_PAGE_KIND(s) == FL_PAGE_FILLED)
			assert_int_equal(strtoull(where, NULL, 16), FILL_WORD);
		*seen |= 1U << FL_PAGE_KIND(s);
	}
}

/* Asks until the process and its pages are at rest: what was told before and after is the same. */
static void pages(void **state)
{
	const unsigned all = 1U << FL_PAGE_NONE | 1U << FL_PAGE_PRESENT | 1U << FL_PAGE_STAGED |
			     1U << FL_PAGE_SWAPPED | 1U << FL_PAGE_FILLED | 1U << FL_PAGE_POISONED;
	int area = open(in_base("store/swap/disk0"), O_RDONLY | O_CLOEXEC);
	int pagemap = open(file("pagemap"), O_RDONLY | O_CLOEXEC);
	static unsigned char before[PAGES];
	static uint64_t entry[PAGES];
	unsigned long at, stop;
	unsigned seen = 0;
	char *text = NULL;

	(void)state;
	assert_true(pagemap >= 0 && area >= 0);
	do {
		free(text);
		ask_viewed();
		memcpy(before, told->state, PAGES);
		text = slurp(region_of(told->mem, &at, &stop));
		for (size_t i = 0; i < PAGES; i += 1000) {
			size_t n = PAGES - i < 1000 ? PAGES - i : 1000;

			assert_int_equal(pread(pagemap, &entry[i], n * 8,
					       (off_t)(((uintptr_t)told->mem / PG + i) * 8)),
					 n * 8);
		}
		ask_viewed();
	} while (memcmp(before, told->state, PAGES) != 0);
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n"))
		check_line(line, area, &at, &seen);
	assert_int_equal(at, stop);
	assert_int_equal(seen & all, all);
	assert_int_equal(FL_PAGE_KIND(told->state[BAD_AT]), FL_PAGE_POISONED);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(entry[i] & 0xff, told->state[i]);
		if (FL_PAGE_KIND(entry[i]) == FL_PAGE_SWAPPED)
			check_slot(area, PEEK_SLOT(entry[i]), i);
	}
	/* at no border of entries, and where nothing is managed */
	assert_int_equal(pread(pagemap, entry, 13, (off_t)((uintptr_t)told->mem / PG * 8 + 3)), 13);
	assert_int_equal(pread(pagemap, entry, 80, 8000), 80);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(entry[i], 0);
	assert_int_equal(pread(pagemap, entry, 8, (off_t)(PEEK_END / PG * 8)), 0);
	close(area);
	close(pagemap);
	free(text);
}

static void bytes(void **state)
{
	static const size_t sizes[] = {1, 100, 4096, 5000, 131072, 1048576};
	const off_t start = (off_t)(uintptr_t)told->mem;
	int fd = open(file("mem"), O_RDONLY | O_CLOEXEC);
	char *buf = malloc(MIB);
	size_t hole = 0;

	(void)state;
	ask_viewed();
	assert_true(fd >= 0 && buf != NULL);
	assert_int_equal(pread(fd, buf, MIB, start + (off_t)(BAD_AT * PG)), -1);
	assert_int_equal(errno, EIO);
	assert_int_equal(pread(fd, buf, MIB, start + (off_t)((BAD_AT - 2) * PG)), 2 * PG);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t at = (BAD_AT + 1) * PG + i * 4099;

		for (; at < PAGES * PG; at += sizes[i] * (MIB / sizes[i] / 8 + 1)) {
			size_t n = PAGES * PG - at < sizes[i] ? PAGES * PG - at : sizes[i];

			assert_int_equal(pread(fd, buf, n, start + (off_t)at), n);
			assert_memory_equal(buf, want + at, n);
		}
	}
	/* what is not managed reads as zeros, and is a hole */
	assert_int_equal(pread(fd, buf, 8192, 0), 8192);
	for (unsigned i = 0; i < 8192; i++)
		assert_int_equal(buf[i], 0);
	assert_true(lseek(fd, 0, SEEK_DATA) > 0);
	assert_int_equal(lseek(fd, 0, SEEK_HOLE), 0);
	assert_int_equal(lseek(fd, start, SEEK_DATA), start);
	while (FL_PAGE_KIND(told->state[hole]) != FL_PAGE_NONE)
		hole++;
	assert_true(hole >= FILLED_AT + FILLED_N && hole < PAGES);
	assert_int_equal(lseek(fd, start, SEEK_HOLE), start + (off_t)(hole * PG));
	assert_int_equal(lseek(fd, start + (off_t)(hole * PG) + 5, SEEK_HOLE),
			 start + (off_t)(hole * PG) + 5);
	assert_int_equal(pread(fd, buf, 10, (off_t)PEEK_END), 0);
	close(fd);
	free(buf);
}

/* The tools that people have. */
static void tools(void **state)
{
	static const char *const lines[] = {
		"xxd -s $AT -l 64 $MEM | grep -q 'a needle in a pa'",
		"dd if=$MEM iflag=skip_bytes,count_bytes skip=$AT count=38 status=none | "
		"grep -qx '" NEEDLE "'",
		"grep -aqz '" NEEDLE "' $MEM",
		"dd if=$MEM bs=1M iflag=skip_bytes,count_bytes skip=$START count=10M status=none | "
		"grep -aq '" NEEDLE "'",
		"! dd if=$MEM bs=1M iflag=skip_bytes,count_bytes skip=$START count=2M status=none "
		"| "
		"grep -aq '" NEEDLE "'",
	};
	char line[2 * PATH_MAX];
	unsigned long at = (uintptr_t)told->mem + NEEDLE_AT * PG;

	(void)state;
	ask_viewed();
	assert_int_equal(FL_PAGE_KIND(told->state[NEEDLE_AT]), FL_PAGE_SWAPPED);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(line, sizeof(line), "MEM='%s' START=%lu AT=%lu; %s", file("mem"),
			 (uintptr_t)told->mem, at + 1000, lines[i]);
		if (system(line) != 0)
			fail_msg("%s", lines[i]);
	}
	ask_viewed();
	assert_int_equal(FL_PAGE_KIND(told->state[NEEDLE_AT]), FL_PAGE_SWAPPED);
}

/* A name, labels in order, a number. */
#define SAMPLE "^([a-z_]+)(\\{([a-z]+=\"([^\"\\\\]|\\\\.)*\",?)*\\})? ([0-9.e+-]+)$"

/* Each line of metrics is what the exposition format allows, a family's lines together. */
static void metrics(void **state)
{
	char *text = slurp(in_base("mnt/metrics")), family[128] = "", type[32] = "";
	unsigned long long last = 0, inf = 0, count = 0;
	unsigned buckets = 0, samples = 0;
	regex_t sample;

	(void)state;
	assert_int_equal(regcomp(&sample, SAMPLE, REG_EXTENDED | REG_NOSUB), 0);
	for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		const char *value = strrchr(line, ' ') + 1;

		if (strncmp(line, "# HELP ", 7) == 0)
			continue;
		if (sscanf(line, "# TYPE %127s %31s", family, type) == 2)
			continue;
		if (regexec(&sample, line, 0, NULL, 0) != 0)
			fail_msg("no sample: %s", line);
		assert_memory_equal(line, family, strlen(family));
		if (strncmp(line, "faultline_process_", 18) != 0)
			continue;
		samples++;
		assert_non_null(strstr(line, "name=\"a \\\"viewed\\\\\\\" one\""));
		if (strcmp(type, "histogram") != 0)
			continue;
		if (strstr(line, "_bucket{") != NULL) {
			assert_true(strtoull(value, NULL, 10) >= last);
			last = strtoull(value, NULL, 10);
			if (strstr(line, "le=\"+Inf\"") != NULL)
				inf = last;
			buckets++;
		} else if (strstr(line, "_count{") != NULL) {
			count = strtoull(value, NULL, 10);
		} else {
			assert_non_null(strstr(line, "_sum{"));
			assert_true(strtod(value, NULL) > 0);
		}
	}
	assert_int_equal(buckets, FL_LATENCY_BUCKETS);
	assert_int_equal(inf, count);
	assert_true(count > 20 && samples >= 60);
	regfree(&sample);
	free(text);

	text = slurp(in_base("mnt/stats"));
	assert_non_null(strstr(text, "\nclients_limit: 1024\n"));
	free(text);
}

/* One that says nonsense of itself gets an error, and the others are served. */
static void garbage(void **state)
{
	static const char *const files[] = {"status", "maps", "pagemap", "mem"};
	char path[PATH_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%d/%s", in_base("mnt/proc"), (int)getpid(),
			 files[i]);
		assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), -1);
		assert_int_equal(errno, EIO);
	}
	free(slurp(file("status")));
}

/* Stopped, it is shown as ever; then it is killed while it is read. */
static void stopped_and_killed(void **state)
{
	const off_t start = (off_t)(uintptr_t)told->mem;
	int fd = open(file("mem"), O_RDONLY | O_CLOEXEC);
	char *buf = malloc(MIB);
	unsigned reads = 0;
	ssize_t n;

	(void)state;
	assert_true(fd >= 0 && buf != NULL);
	assert_int_equal(kill(viewed, SIGSTOP), 0);
	assert_int_equal(waitpid(viewed, NULL, WUNTRACED), viewed);
	free(slurp(file("status")));
	for (size_t at = (BAD_AT + 1) * PG; at + MIB <= PAGES * PG; at += MIB) {
		assert_int_equal(pread(fd, buf, MIB, start + (off_t)at), MIB);
		assert_memory_equal(buf, want + at, MIB);
	}
	for (size_t at = (BAD_AT + 1) * PG;; at = at + 2 * MIB < PAGES * PG ? at + MIB : MIB * 4) {
		n = pread(fd, buf, MIB, start + (off_t)at);
		if (n <= 0)
			break;
		assert_memory_equal(buf, want + at, (size_t)n);
		if (++reads == 20)
			assert_int_equal(kill(viewed, SIGKILL), 0);
	}
	assert_true(reads >= 20);
	assert_int_equal(n, -1);
	assert_int_equal(errno, ESRCH);
	assert_int_equal(open(file("status"), O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, ESRCH);
	close(fd);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),      cmocka_unit_test(status),
		cmocka_unit_test(attributes), cmocka_unit_test(maps),
		cmocka_unit_test(pages),      cmocka_unit_test(bytes),
		cmocka_unit_test(tools),      cmocka_unit_test(metrics),
		cmocka_unit_test(garbage),    cmocka_unit_test(stopped_and_killed),
	};

	return cmocka_run_group_tests_name("view", tests, begin, end);
}
