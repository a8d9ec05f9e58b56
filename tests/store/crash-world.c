/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-world.c - what the files of a crash course must be; see crash-world.h.
 */
#include "crash-world.h"

#include "test.h"

#include "crash.h"
#include "random.h"
#include "server.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

/* --- content --- */

uint8_t value(uint32_t seed, uint64_t at)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15U ^ (uint64_t)seed * 0xbf58476d1ce4e5b9U;

	return (uint8_t)(1 + ((x ^ x >> 29) * 0x94d049bb133111ebU >> 40) % 255);
}

static uint64_t rng;

void begin_course(uint64_t seed)
{
	rng = seed;
}

uint64_t next(void)
{
	return splitmix(&rng);
}

/* --- what is known of the files --- */

struct world *world;
bool direct;
unsigned run;
char course[128];

bool is_mapped(uint32_t file)
{
	return !direct && file != UNMAPPED;
}

static char name_of[NAMES][2] = {"a", "b", "c", "d"};

const char *on_mount(uint32_t name)
{
	char text[64];

	snprintf(text, sizeof(text), "mnt/files/%u/%s", run, name_of[name]);
	return crash_in_base(text);
}

const char *on_host(uint32_t name)
{
	char text[64];

	snprintf(text, sizeof(text), "store/files/%u/%s", run, name_of[name]);
	return crash_in_base(text);
}

/* Whether a byte may be v on the host. */
static bool may_be(uint32_t file, uint64_t at, uint8_t v, bool was_cut)
{
	const struct file *f = &world->file[file];

	for (uint32_t k = world->nchanges; k-- > f->synced[at / PG];) {
		const struct change *c = &world->change[k];

		if (c->file != file || at < c->from || at >= c->to)
			continue;
		/* what was not cut off is not to be changed by the attempt */
		if (c->cut && !c->done && !was_cut)
			continue;
		if (v == (c->zero ? 0 : value(c->seed, at)))
			return true;
		if (c->zero && c->done)
			return false;
	}
	return v == f->base[at];
}

ino_t ino_of(uint32_t name)
{
	struct stat st;

	return stat(on_host(name), &st) == 0 ? st.st_ino : 0;
}

bool in_flight(uint32_t file, uint64_t at, uint8_t have)
{
	for (uint32_t k = world->nchanges; k-- > 0;) {
		const struct change *c = &world->change[k];

		if (c->file == file && !c->done && at >= c->from && at < c->to &&
		    have == (c->zero ? 0 : value(c->seed, at)))
			return true;
	}
	return false;
}

/* --- what is left --- */

static void names_are_right(void)
{
	ino_t have[NAMES];
	bool now = true, then = true;

	for (uint32_t n = 0; n < NAMES; n++) {
		ino_t a = world->name[n] != NOBODY ? world->file[world->name[n]].ino : 0;
		ino_t b = world->name_then[n] != NOBODY ? world->file[world->name_then[n]].ino : 0;

		have[n] = ino_of(n);
		now &= have[n] == a;
		/* one that is being made has a number that nobody was told */
		then &= world->name_then[n] == world->nfiles ? have[n] != 0 : have[n] == b;
	}
	if (!now && !then)
		fail_msg("%s: names are neither as before the last operation nor as after it",
			 course);
	if (!now)
		memcpy(world->name, world->name_then, sizeof(world->name));
}

static uint8_t buffer[ROOM];

static ssize_t read_file(const char *path, uint8_t *buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, buf, ROOM, 0) : -1;
	char more;

	if (n == (ssize_t)ROOM && pread(fd, &more, 1, ROOM) != 0)
		n = -1;
	if (fd >= 0)
		close(fd);
	return n;
}

static void file_is_right(uint32_t name, bool killed)
{
	uint32_t file = world->name[name];
	const struct file *f = &world->file[file];
	ssize_t n = read_file(on_host(name), buffer);
	uint64_t size = (uint64_t)n;
	bool right;

	if (file >= world->nfiles) {
		/* just made */
		assert_int_equal(n, 0);
		return;
	}
	right = size == f->size || size == f->size_then;
	if (f->grows)
		right |= size > f->size && size < f->size_then;
	if (!right)
		fail_msg("%s: file %u has %ld bytes, not %lu (or %lu)", course, file, (long)n,
			 (unsigned long)f->size, (unsigned long)f->size_then);
	if (memcmp(buffer, f->cur, size) == 0)
		return;
	for (uint64_t at = 0; at < size; at++) {
		if (buffer[at] == f->cur[at] ||
		    (killed && may_be(file, at, buffer[at], size == f->size_then)))
			continue;
		fail_msg("%s: file %u of %lu bytes (of %lu, %lu): byte %lu (page %lu) is %02x; "
			 "synced: %02x, stored last: %02x",
			 course, file, (unsigned long)size, (unsigned long)f->size,
			 (unsigned long)f->size_then, (unsigned long)at, (unsigned long)(at / PG),
			 buffer[at], f->base[at], f->cur[at]);
	}
}

void host_is_right(bool killed)
{
	char dir[32];
	struct dirent *e;
	unsigned extra = 0;
	DIR *dp;

	snprintf(dir, sizeof(dir), "store/files/%u", run);
	names_are_right();
	for (uint32_t n = 0; n < NAMES; n++)
		if (world->name[n] != NOBODY)
			file_is_right(n, killed);
	dp = opendir(crash_in_base(dir));
	assert_non_null(dp);
	while ((e = readdir(dp)) != NULL)
		extra += e->d_name[0] != '.' && (e->d_name[0] > 'd' || e->d_name[1] != '\0');
	closedir(dp);
	if (extra != 0)
		fail_msg("%s: %u files that nobody made", course, extra);
}

void store_is_right(void)
{
	struct why why = {.text = ""};
	int n = store_check(crash_in_base("store"), stderr, &why);

	if (n != 0)
		fail_msg("%s: store check: %d, %s", course, n, why.text);
}

void lose_power(void)
{
	const uint32_t n = crash->nold;

	assert_true(n <= CRASH_OLD_MAX);
	for (uint32_t name = 0; name < NAMES; name++) {
		bool kept[PAGES] = {false};
		const struct file *f;
		int fd;

		if (world->name[name] == NOBODY)
			continue;
		f = &world->file[world->name[name]];
		fd = open(on_host(name), O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		for (uint32_t k = n; k-- > f->durable;) {
			const struct crash_old *o = &crash->old[k];

			/* the newest first: once one is kept, those before it are, too */
			if (o->ino != f->ino || kept[o->page])
				continue;
			if (next() % 2 == 0) {
				kept[o->page] = true;
				continue;
			}
			assert_int_equal(
				pwrite(fd, crash->bytes[k], o->bytes, (off_t)(o->page * PG)),
				(ssize_t)o->bytes);
		}
		close(fd);
	}
}

void next_shows_the_same(void)
{
	static uint8_t other[ROOM];

	for (uint32_t n = 0; n < NAMES; n++) {
		ssize_t size = read_file(on_host(n), buffer);

		if (read_file(on_mount(n), other) != size ||
		    (size > 0 && memcmp(buffer, other, (size_t)size) != 0))
			fail_msg("%s: a new server shows something else", course);
	}
	store_is_right();
}

void make_files(void)
{
	char dir[64];

	snprintf(dir, sizeof(dir), "store/files/%u", run);
	assert_int_equal(mkdir(crash_in_base(dir), 0755), 0);
	world->nfiles = 3;
	world->nchanges = 0;
	for (uint32_t n = 0; n < NAMES; n++)
		world->name[n] = world->name_then[n] = n < 3 ? n : NOBODY;
	for (uint32_t n = 0; n < 3; n++) {
		struct file *f = &world->file[n];
		int fd = open(on_host(n), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

		memset(f, 0, sizeof(*f));
		f->size = f->size_then = (PAGES - 60) * PG + next() % (50 * PG);
		for (uint64_t at = 0; at < f->size; at++)
			f->cur[at] = value(n, at);
		memcpy(f->base, f->cur, ROOM);
		assert_int_equal(write(fd, f->cur, f->size), (ssize_t)f->size);
		close(fd);
		f->ino = ino_of(n);
	}
}

void remove_files(void)
{
	char dir[64];

	for (uint32_t n = 0; n < NAMES; n++)
		unlink(on_host(n));
	snprintf(dir, sizeof(dir), "store/files/%u", run);
	rmdir(crash_in_base(dir));
}
