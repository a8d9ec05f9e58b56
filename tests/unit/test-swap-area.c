/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Swap areas: what is no area is refused with one line and left as it was,
 * what is one is filled in its order and nothing of it is left behind.
 */
#include "test.h"

#include "swap-area.h"
#include "sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PAGE 4096U
#define MIB (1U << 20)
#define NOBODY 65534U

static struct sys_entry table_was[SYSROW_COUNT];
static char dir[200];
static struct swap swap;
static char why[512];

/* Files and directories. */

static const char *in_dir(const char *name)
{
	static char path[4][512];
	static unsigned n;

	n = (n + 1) % 4;
	snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
	return path[n];
}

static unsigned entries(const char *where, bool remove)
{
	DIR *d = opendir(where);
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n++;
		if (remove)
			unlink(in_dir(e->d_name));
	}
	closedir(d);
	return n;
}

static unsigned descriptors(void)
{
	return entries("/proc/self/fd", false);
}

static void make_file(const char *name, uint64_t size)
{
	int fd = open(in_dir(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void put(const char *name, uint64_t off, const void *bytes, size_t n)
{
	int fd = open(in_dir(name), O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)off), (ssize_t)n);
	close(fd);
}

static uint64_t allocated(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void format(const char *name, uint64_t size)
{
	assert_int_equal(swap_format(in_dir(name), size, why, sizeof(why)), 0);
}

static int setup(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	memcpy(table_was, sys_table, sizeof(table_was));
	snprintf(dir, sizeof(dir), "%s/faultline-test-XXXXXX", base != NULL ? base : "/var/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0755), 0);
	memset(&swap, 0, sizeof(swap));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memcpy(sys_table, table_was, sizeof(table_was));
	swap_close_all(&swap);
	entries(dir, true);
	return rmdir(dir);
}

static struct swap_area *on(const char *name, uint64_t size, int prio)
{
	struct fl_swap_spec spec = {
		.path = name != NULL ? in_dir(name) : NULL, .size = size, .prio = prio};
	unsigned index;
	int r = swap_on(&swap, &spec, dir, &index, why, sizeof(why));

	if (r != 0)
		fail_msg("%s", why);
	assert_true(swap.area[index]->on);
	assert_int_equal(swap.area[index]->index, index);
	return swap.area[index];
}

/* swap_check() and swap_on() refuse it alike, with one line; nothing is kept. */
static void refused(const struct fl_swap_spec *spec, int err, const char *text)
{
	unsigned fds = descriptors(), files = entries(dir, false), index;

	for (unsigned i = 0; i < 2; i++) {
		memset(why, 0, sizeof(why));
		if (i == 0)
			assert_int_equal(swap_check(spec, dir, why, sizeof(why)), err);
		else
			assert_int_equal(swap_on(&swap, spec, dir, &index, why, sizeof(why)), err);
		if (strstr(why, text) == NULL || strchr(why, '\n') != NULL)
			fail_msg("'%s' in place of '%s'", why, text);
		assert_non_null(strstr(why, spec->path != NULL ? spec->path : dir));
		assert_int_equal(swap.narea, 0);
		assert_int_equal(descriptors(), fds);
		assert_int_equal(entries(dir, false), files);
	}
}

static void refused_file(const char *name, uint64_t size, int err, const char *text)
{
	struct fl_swap_spec spec = {.path = in_dir(name), .size = size};

	refused(&spec, err, text);
}

/* Refusals. */

static void what_is_no_area_is_refused(void **state)
{
	struct fl_swap_spec spec = {.prio = 0};
	char name[300];
	int fd;

	(void)state;
	spec.path = dir;
	refused(&spec, -EISDIR, "is a directory");
	refused_file("none", 0, -ENOENT, "no such file; make one with 'faultline mkswap");
	refused_file("none/none", MIB, -ENOENT, "cannot be made: No such file or directory");
	refused_file("none", 4096, -EINVAL, "too small: 4096 bytes, at least 65536 are needed");
	spec.path = "/dev/null";
	refused(&spec, -EINVAL, "is neither a file nor a block device");
	assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
	refused_file("fifo", 0, -EINVAL, "is neither a file nor a block device");
	make_file("small", 65535);
	refused_file("small", 0, -EINVAL, "too small: 65535 bytes, at least 65536 are needed");
	make_file("blank", MIB);
	refused_file("blank", MIB + PAGE, -EINVAL,
		     "a size of 1052672 bytes is beyond the 1048576 that it has");
	refused_file("blank", PAGE, -EINVAL, "too small: 4096 bytes");
	spec.path = in_dir("blank");
	spec.prio = 32768;
	refused(&spec, -EINVAL, "priority 32768 is not between 0 and 32767");
	spec.prio = -2;
	refused(&spec, -EINVAL, "priority -2 is not between 0 and 32767");
	spec.prio = 0;
	memset(name, 'x', sizeof(name));
	name[250] = '\0';
	spec.path = name;
	refused(&spec, -ENAMETOOLONG, "its name is too long");
	fd = open(in_dir("blank"), O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	refused_file("blank", 0, -EBUSY, "already in use");
	close(fd);
}

static void data_are_never_overwritten(void **state)
{
	static const uint64_t where[] = {0,	      4095,    4096,	    65536,	    MIB - 1,
					 5 * MIB - 1, 4 * MIB, 5 * MIB / 2, 5 * MIB / 2 - 1};
	static const char not_ours[] = "is not a faultline swap area; make one with 'faultline "
				       "mkswap FILE'";

	(void)state;
	for (unsigned i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		char c = 0;
		int fd;

		make_file("data", 5 * MIB);
		put("data", where[i], "\1", 1);
		refused_file("data", 0, -EINVAL, not_ours);
		assert_int_equal(swap_format(in_dir("data"), 0, why, sizeof(why)), -EINVAL);
		assert_non_null(strstr(why, "is not blank"));
		assert_int_equal(swap_format(in_dir("data"), 6 * MIB, why, sizeof(why)), -EINVAL);
		fd = open(in_dir("data"), O_RDONLY);
		assert_int_equal(lseek(fd, 0, SEEK_END), 5 * MIB);
		assert_int_equal(pread(fd, &c, 1, (off_t)where[i]), 1);
		assert_int_equal(c, 1);
		assert_true(allocated(fd) <= 65536);
		close(fd);
	}
	/* a file too small for a header is somebody's as well */
	make_file("data", 0);
	put("data", 0, "hello", 5);
	assert_int_equal(swap_format(in_dir("data"), MIB, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "is not blank"));
}

static void headers_are_checked(void **state)
{
	struct area_header h;

	(void)state;
	make_file("area", MIB);
	format("area", 0);
	memset(&h, 0, sizeof(h));
	memcpy(h.magic, AREA_MAGIC, sizeof(h.magic));
	h.version = 1;
	h.page_size = 4096;
	h.slots = 257;
	put("area", 0, &h, sizeof(h));
	refused_file("area", 0, -EINVAL, "damaged: its header says 1052672 bytes, it has 1048576");
	h.slots = UINT64_MAX;
	put("area", 0, &h, sizeof(h));
	refused_file("area", 0, -EINVAL, "damaged");
	h.slots = 15;
	put("area", 0, &h, sizeof(h));
	refused_file("area", 0, -EINVAL, "too small: 61440 bytes");
	h.slots = 200;
	h.version = 2;
	put("area", 0, &h, sizeof(h));
	refused_file("area", 0, -EINVAL, "made by another version (2,");
	h.version = 1;
	put("area", 0, &h, sizeof(h));
	refused_file("area", MIB, -EINVAL, "beyond the 819200 that it has");
	assert_int_equal(on("area", 0, 0)->dev.size, 200 * PAGE);
}

static long read_only(long a, long b, long c, long d, long e, long f)
{
	if ((c & O_ACCMODE) == O_RDWR)
		return -EROFS;
	return sys_bare(table_was[SYSROW_openat].nr, a, b, c, d, e, f);
}

static void try_as_nobody(void *path)
{
	struct fl_swap_spec spec = {.path = path};

	if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0)
		_exit(2);
	if (swap_check(&spec, NULL, why, sizeof(why)) != -EACCES)
		_exit(3);
	dprintf(STDERR_FILENO, "%s", why);
}

static void what_cannot_be_written_is_refused(void **state)
{
	struct fl_swap_spec spec = {.path = NULL};
	char text[600], path[300];

	(void)state;
	make_file("area", MIB);
	format("area", 0);
	assert_int_equal(chmod(in_dir("area"), 0400), 0);
	snprintf(path, sizeof(path), "%s", in_dir("area"));
	assert_int_equal(in_child(try_as_nobody, path, text, sizeof(text)), 0);
	assert_non_null(strstr(text, "for reading and writing: Permission denied"));
	sys_table[SYSROW_openat].fn = read_only;
	refused_file("area", 0, -EROFS, "for reading and writing: Read-only file system");
	refused_file("none", MIB, -EROFS, "cannot be made: Read-only file system");
	refused(&spec, -EROFS, "cannot be made: Read-only file system");
}

static uint64_t free_blocks;

static long little_free(long fd, long buf, long c, long d, long e, long f)
{
	long r = sys_bare(table_was[SYSROW_fstatfs].nr, fd, buf, c, d, e, f);
	struct statfs *st = (struct statfs *)(uintptr_t)buf;

	st->f_bsize = st->f_frsize = PAGE;
	st->f_bavail = free_blocks;
	return r;
}

static long fallocate_error;
static unsigned fallocates, fallocate_good;
static uint64_t fallocate_end[64];

static long full_disk(long fd, long mode, long off, long len, long e, long f)
{
	assert_true(fallocates < 64);
	fallocate_end[fallocates] = (uint64_t)(off + len);
	if (fallocates++ < fallocate_good)
		return sys_bare(table_was[SYSROW_fallocate].nr, fd, mode, off, len, e, f);
	return fallocate_error;
}

static void a_full_disk_is_told(void **state)
{
	struct fl_swap_spec spec = {.path = NULL};
	struct stat st;
	unsigned fds = descriptors(), index;

	(void)state;
	make_file("sparse", 4 * MIB);
	sys_table[SYSROW_fstatfs].fn = little_free;
	free_blocks = 500;
	refused_file("sparse", 0, -ENOSPC,
		     "4194304 bytes do not fit on the disk: 2048000 are free");
	refused_file("none", 4 * MIB, -ENOSPC, "4194304 bytes do not fit on the disk");
	assert_int_equal(swap_format(in_dir("none"), 4 * MIB, why, sizeof(why)), -ENOSPC);
	assert_int_equal(access(in_dir("none"), F_OK), -1);
	spec.size = 4 * MIB;
	refused(&spec, -ENOSPC, "4194304 bytes do not fit on the disk");
	spec.size = 0;
	free_blocks = 15;
	refused(&spec, -ENOSPC, "do not fit on the disk: 61440 are free");
	/* and when it fills up after that was looked at */
	memcpy(sys_table, table_was, sizeof(table_was));
	sys_table[SYSROW_fallocate].fn = full_disk;
	fallocates = fallocate_good = 0;
	fallocate_error = -ENOSPC;
	for (unsigned i = 0; i < 3; i++) {
		spec.path = i == 0 ? in_dir("sparse") : i == 1 ? in_dir("none") : NULL;
		spec.size = i == 1 ? 4 * MIB : 0;
		assert_int_equal(swap_on(&swap, &spec, dir, &index, why, sizeof(why)), -ENOSPC);
		assert_non_null(strstr(why, "cannot be allocated: No space left on device"));
		assert_int_equal(entries(dir, false), 1);
		assert_int_equal(descriptors(), fds);
	}
	assert_int_equal(swap_format(in_dir("none"), 4 * MIB, why, sizeof(why)), -ENOSPC);
	assert_non_null(strstr(why, "cannot be allocated: No space left on device"));
	assert_int_equal(swap_format(in_dir("sparse"), 8 * MIB, why, sizeof(why)), -ENOSPC);
	assert_int_equal(entries(dir, false), 1);
	assert_int_equal(stat(in_dir("sparse"), &st), 0);
	assert_int_equal(st.st_size, 4 * MIB);
	assert_int_equal(descriptors(), fds);
}

/* Formatting. */

static void formatting_makes_areas(void **state)
{
	struct area_header h, h2;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(swap_format(in_dir("new"), 0, why, sizeof(why)), -ENOENT);
	assert_non_null(strstr(why, "give --size SIZE"));
	assert_int_equal(swap_format(in_dir("new"), 65535, why, sizeof(why)), -EINVAL);
	assert_int_equal(entries(dir, false), 0);
	format("new", 3 * MIB + 5);
	fd = open(in_dir("new"), O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 3 * MIB);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(allocated(fd) >= 3 * MIB);
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	assert_memory_equal(h.magic, AREA_MAGIC, 16);
	assert_int_equal(h.version, 1);
	assert_int_equal(h.page_size, 4096);
	assert_int_equal(h.slots, 768);
	/* again, larger, and with slots that were written to */
	put("new", MIB, "dirt", 4);
	put("new", 2 * MIB + 4096, "dirt", 4);
	format("new", 4 * MIB);
	assert_int_equal(pread(fd, &h2, sizeof(h2), 0), sizeof(h2));
	assert_int_equal(h2.slots, 1024);
	assert_memory_not_equal(h.uuid, h2.uuid, sizeof(h.uuid));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4 * MIB);
	/* a part of it */
	format("new", 2 * MIB);
	assert_int_equal(on("new", 0, 0)->dev.size, 2 * MIB);
	/* but not while it is on */
	assert_int_equal(swap_format(in_dir("new"), 0, why, sizeof(why)), -EBUSY);
	close(fd);
	make_file("empty", 0);
	assert_int_equal(swap_format(in_dir("empty"), 0, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "too small: 0 bytes"));
	format("empty", 65536);
	make_file("small", 65535);
	assert_int_equal(swap_format(in_dir("small"), 0, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "too small: 65535 bytes"));
	assert_int_equal(slot_map_total(on("empty", 0, 0)->map), AREA_MIN_SLOTS - 1);
}

/* Use. */

static void an_area_takes_pages(void **state)
{
	char *mem =
		mmap(NULL, 1024 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct area_header h;
	struct swap_area *a;
	uint32_t total = 0, got;
	swp_t e;

	(void)state;
	make_file("area", 4 * MIB);
	a = on("area", 0, 7);
	assert_int_equal(a->prio, 7);
	assert_false(a->private_file);
	assert_string_equal(a->dev.name, in_dir("area"));
	assert_true(allocated(a->dev.fd) >= 4 * MIB);
	assert_int_equal(swap_total(&swap), 1023);
	while ((e = swap_alloc(&swap, 100, &got)) != SWP_NONE) {
		const struct blk_dev *dev;
		uint32_t run;
		uint64_t off;

		assert_int_equal(swp_area(e), a->index);
		assert_true(got >= 1 && got <= 100);
		dev = swap_extent(&swap, e, got, &off, &run);
		assert_ptr_equal(dev, &a->dev);
		assert_int_equal(run, got);
		assert_int_equal(off, swp_slot(e) * (uint64_t)PAGE);
		assert_true(off + got * PAGE <= dev->size);
		memset(mem, (int)(total + 1), got * PAGE);
		assert_int_equal(pwrite(dev->fd, mem, got * PAGE, (off_t)off), got * PAGE);
		swap_csum_set(&swap, e, total);
		assert_int_equal(swap_csum(&swap, e), total);
		total += got;
		assert_int_equal(swap_used(&swap), total);
		assert_int_equal(swap_half_full(&swap, e), total * 2 > 1023);
	}
	assert_int_equal(got, 0);
	assert_int_equal(total, 1023);
	e = swp_make(a->index, 5);
	swap_busy(&swap, e);
	assert_int_equal(swap_users(&swap, e), 1);
	assert_false(swap_put(&swap, e));
	assert_true(swap_idle(&swap, e));
	assert_int_equal(swap_alloc(&swap, 3, &got), e);
	assert_int_equal(got, 1);
	assert_true(swap_bytes(&swap) >= 1024 * 6);
	/* the run ends with the area */
	{
		uint32_t run;
		uint64_t off;

		swap_extent(&swap, swp_make(a->index, 1020), 100, &off, &run);
		assert_int_equal(run, 4);
	}
	/* the header is where it was: the file is an area when it is opened again */
	assert_int_equal(swap_close_area(&swap, a->index), -EBUSY);
	swap_close_all(&swap);
	assert_int_equal(swap.narea, 0);
	a = on("area", 2 * MIB, 0);
	assert_int_equal(swap_total(&swap), 511);
	assert_int_equal(pread(a->dev.fd, mem, PAGE, 0), PAGE);
	memcpy(&h, mem, sizeof(h));
	assert_int_equal(h.slots, 1024);
	munmap(mem, 1024 * PAGE);
}

static void an_area_is_on_once(void **state)
{
	struct fl_swap_spec spec;
	unsigned index;

	(void)state;
	make_file("area", MIB);
	on("area", 0, 0);
	spec = (struct fl_swap_spec){.path = in_dir("area")};
	assert_int_equal(swap_on(&swap, &spec, dir, &index, why, sizeof(why)), -EBUSY);
	assert_non_null(strstr(why, "already in use"));
	swap_close_all(&swap);
	on("area", 0, 0);
}

static long buffered_only(long fd, long cmd, long arg, long d, long e, long f)
{
	if (cmd == F_SETFL && (arg & O_DIRECT) != 0)
		return -EINVAL;
	return sys_bare(table_was[SYSROW_fcntl].nr, fd, cmd, arg, d, e, f);
}

static void direct_io_is_used_where_it_works(void **state)
{
	int fd;

	(void)state;
	make_file("area", MIB);
	fd = open(in_dir("area"), O_RDWR | O_DIRECT);
	if (fd >= 0)
		close(fd);
	assert_int_equal((fcntl(on("area", 0, 0)->dev.fd, F_GETFL) & O_DIRECT) != 0, fd >= 0);
	assert_int_equal((fcntl(on(NULL, MIB, 0)->dev.fd, F_GETFL) & O_DIRECT) != 0, fd >= 0);
	swap_close_all(&swap);
	sys_table[SYSROW_fcntl].fn = buffered_only;
	assert_int_equal(fcntl(on("area", 0, 0)->dev.fd, F_GETFL) & O_DIRECT, 0);
}

static uint64_t take_all(unsigned area)
{
	uint64_t n = 0;
	uint32_t got;
	swp_t e;

	while ((e = swap_alloc(&swap, SLOT_CLUSTER, &got)) != SWP_NONE) {
		struct swap_area *a = swap.area[swp_area(e)];

		assert_int_equal(swp_area(e), area);
		/* handed out are slots that the file has */
		assert_true((swp_slot(e) + (uint64_t)got) * PAGE <= a->dev.size);
		n += got;
	}
	return n;
}

static void a_private_area_grows(void **state)
{
	struct swap_area *a;
	struct stat st;
	uint32_t got;
	swp_t e;

	(void)state;
	sys_table[SYSROW_fallocate].fn = full_disk;
	fallocates = 0;
	fallocate_good = 64;
	a = on(NULL, (uint64_t)19 * MIB, -1);
	assert_int_equal(entries(dir, false), 0);
	assert_true(a->private_file);
	assert_int_equal(a->dev.size, 4 * MIB);
	assert_int_equal(swap_total(&swap), 19 * 256 - 1);
	/* not more than it needs */
	while (swap_area_used(a) < 2 * 256)
		assert_int_not_equal(swap_alloc(&swap, 64, &got), SWP_NONE);
	assert_int_equal(a->dev.size, 8 * MIB);
	assert_int_equal(take_all(0), 19 * 256 - 1 - 2 * 256);
	assert_int_equal(fallocates, 4);
	assert_int_equal(fallocate_end[0], 4 * MIB);
	assert_int_equal(fallocate_end[1], 8 * MIB);
	assert_int_equal(fallocate_end[2], 16 * MIB);
	assert_int_equal(fallocate_end[3], 19 * MIB);
	assert_int_equal(fstat(a->dev.fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_true(allocated(a->dev.fd) >= (uint64_t)19 * MIB);
	/* half full is half of what it may have */
	e = swp_make(0, 1);
	assert_true(swap_half_full(&swap, e));
	for (uint32_t s = 1; s <= 9 * 256 + 128; s++)
		assert_true(swap_put(&swap, swp_make(0, s)));
	assert_false(swap_half_full(&swap, e));
}

static void a_private_area_stops_where_the_disk_is_full(void **state)
{
	struct swap_area *a;
	struct stat st;

	(void)state;
	sys_table[SYSROW_fallocate].fn = full_disk;
	fallocates = 0;
	fallocate_good = 2;
	fallocate_error = -ENOSPC;
	a = on(NULL, (uint64_t)25 * MIB, -1);
	assert_int_equal(swap_total(&swap), 25 * 256 - 1);
	assert_int_equal(take_all(0), 8 * 256 - 1);
	assert_int_equal(fallocates, 3);
	assert_int_equal(a->dev.size, 8 * MIB);
	assert_int_equal(swap_total(&swap), 8 * 256 - 1);
	assert_int_equal(fstat(a->dev.fd, &st), 0);
	assert_int_equal(st.st_size, 8 * MIB);
}

static void a_private_area_is_bounded_by_the_disk(void **state)
{
	struct swap_area *a;

	(void)state;
	sys_table[SYSROW_fstatfs].fn = little_free;
	free_blocks = 100000;
	a = on(NULL, 0, -1);
	assert_int_equal(a->max_slots, 50000);
	assert_int_equal(swap_total(&swap), 49999);
	assert_int_equal(a->dev.size, 4 * MIB);
	free_blocks = 100;
	a = on(NULL, 0, -1);
	assert_int_equal(a->dev.size, 50 * PAGE);
}

static void a_named_private_area_vanishes(void **state)
{
	struct swap_area *a = on("mine", 100 * MIB, 3);
	struct stat st;

	(void)state;
	assert_int_equal(entries(dir, false), 0);
	assert_true(a->private_file);
	assert_int_equal(fstat(a->dev.fd, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_size, 100 * MIB);
	assert_true(allocated(a->dev.fd) >= 100 * MIB);
	assert_int_equal(swap_total(&swap), 100 * 256 - 1);
	assert_int_equal(swap_find(&swap, in_dir("mine")), 0);
	assert_int_equal(take_all(0), 100 * 256 - 1);
}

static long no_tmpfile(long a, long b, long c, long d, long e, long f)
{
	if ((c & O_TMPFILE) == O_TMPFILE)
		return -EOPNOTSUPP;
	return sys_bare(table_was[SYSROW_openat].nr, a, b, c, d, e, f);
}

static void plain_filesystems_will_do(void **state)
{
	struct swap_area *a;

	(void)state;
	sys_table[SYSROW_openat].fn = no_tmpfile;
	sys_table[SYSROW_fallocate].fn = full_disk;
	fallocates = fallocate_good = 0;
	fallocate_error = -EOPNOTSUPP;
	a = on(NULL, 70 * MIB, -1);
	assert_int_equal(entries(dir, false), 0);
	assert_true(allocated(a->dev.fd) >= 4 * MIB);
	assert_int_equal(take_all(0), 70 * 256 - 1);
	assert_true(allocated(a->dev.fd) >= 70 * MIB);
	make_file("sparse", 3 * MIB + PAGE);
	format("sparse", 0);
	a = on("sparse", 0, 0);
	assert_true(allocated(a->dev.fd) >= 3 * MIB + PAGE);
	swap_close_all(&swap);
	assert_int_equal(on("sparse", 0, 0)->dev.size, 3 * MIB + PAGE);
}

/* Order. */

static void areas_are_filled_in_order(void **state)
{
	static const int prio[] = {-1, 5, 1, 5, -1, 5};
	/* when each area may be handed out */
	static const unsigned stage[] = {2, 0, 1, 0, 3, 0};
	unsigned used[6] = {0}, now = 0, last = 99, run = 0, switches = 0;
	uint32_t got;
	swp_t e;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		char name[16];

		snprintf(name, sizeof(name), "area%u", i);
		make_file(name, 8 * MIB);
		assert_int_equal(on(name, 0, prio[i])->index, i);
	}
	assert_true(swap.area[0]->prio < 0);
	assert_true(swap.area[4]->prio < swap.area[0]->prio);
	while ((e = swap_alloc(&swap, 8, &got)) != SWP_NONE) {
		unsigned i = swp_area(e);

		assert_true(stage[i] >= now);
		now = stage[i];
		used[i] += got;
		if (now != 0)
			continue;
		/* in turn, a cluster at a time, as long as all three have slots */
		if (i != last) {
			assert_true(last == 99 || run == SLOT_CLUSTER ||
				    used[i] > 3 * SLOT_CLUSTER);
			assert_true(last == 99 || i == (last == 5 ? 1 : last + 2) ||
				    used[i] > 3 * SLOT_CLUSTER);
			switches++;
			run = 0;
			last = i;
		}
		run += got;
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(used[i], 8 * 256 - 1);
	assert_true(switches >= 12);
	/* what is freed in a better area is taken first again */
	assert_true(swap_put(&swap, swp_make(4, 9)));
	assert_true(swap_put(&swap, swp_make(2, 9)));
	assert_int_equal(swap_alloc(&swap, 8, &got), swp_make(2, 9));
	assert_int_equal(swap_alloc(&swap, 8, &got), swp_make(4, 9));
	assert_int_equal(swap_alloc(&swap, 8, &got), SWP_NONE);
}

static void areas_come_and_go(void **state)
{
	struct swap_area *a, *b;
	uint32_t got;
	swp_t e, f;

	(void)state;
	assert_int_equal(swap_alloc(&swap, 8, &got), SWP_NONE);
	assert_int_equal(swap_total(&swap), 0);
	make_file("a", MIB);
	make_file("b", MIB);
	a = on("a", 0, 9);
	b = on("b", 0, 1);
	e = swap_alloc(&swap, 8, &got);
	assert_int_equal(swp_area(e), a->index);
	/* off: nothing more goes there, what is there stays */
	a->on = false;
	assert_int_equal(swap_total(&swap), 255);
	assert_int_equal(swap_used(&swap), 8);
	f = swap_alloc(&swap, 1, &got);
	assert_int_equal(swp_area(f), b->index);
	assert_int_equal(swap_find(&swap, in_dir("a")), a->index);
	assert_int_equal(swap_find(&swap, in_dir("../..//c")), -ENOENT);
	assert_int_equal(swap_find(&swap, in_dir("./b")), b->index);
	assert_int_equal(swap_close_area(&swap, a->index), -EBUSY);
	for (unsigned i = 1; i < 8; i++)
		assert_true(swap_put(&swap, e + i));
	assert_int_equal(swap_close_area(&swap, a->index), -EBUSY);
	a->bad_slots = 1;
	assert_int_equal(swap_close_area(&swap, 0), 0);
	assert_int_equal(swap.narea, 2);
	assert_int_equal(swap_find(&swap, in_dir("a")), -ENOENT);
	assert_int_equal(swap_users(&swap, f), 1);
	a = on("a", 0, 9);
	assert_int_equal(a->index, 0);
	assert_int_equal(swp_area(swap_alloc(&swap, 1, &got)), 0);
}

static void there_are_at_most_so_many(void **state)
{
	struct fl_swap_spec spec = {.prio = 0};
	unsigned index, fds;
	char name[16];

	(void)state;
	for (unsigned i = 0; i <= FL_SWAP_MAX; i++) {
		snprintf(name, sizeof(name), "area%u", i);
		make_file(name, 65536);
		if (i < FL_SWAP_MAX)
			on(name, 0, 0);
	}
	assert_int_equal(swap_total(&swap), FL_SWAP_MAX * 15);
	fds = descriptors();
	spec.path = in_dir(name);
	assert_int_equal(swap_on(&swap, &spec, dir, &index, why, sizeof(why)), -EMFILE);
	assert_non_null(strstr(why, "32 swap areas are on"));
	assert_int_equal(descriptors(), fds);
	assert_int_equal(swap_close_area(&swap, 7), 0);
	assert_int_equal(on(name, 0, 0)->index, 7);
}

/* A block device, acted by a file. */

static long device_fstat(long fd, long buf, long c, long d, long e, long f)
{
	long r = sys_bare(table_was[SYSROW_fstat].nr, fd, buf, c, d, e, f);
	struct stat *st = (struct stat *)(uintptr_t)buf;

	if (r == 0 && S_ISREG(st->st_mode)) {
		st->st_mode = S_IFBLK | 0660;
		st->st_size = 0;
		st->st_blocks = 0;
	}
	return r;
}

static long device_ioctl(long fd, long request, long arg, long d, long e, long f)
{
	struct stat st;

	(void)d, (void)e, (void)f;
	assert_int_equal(request, BLKGETSIZE64);
	assert_int_equal(fstat((int)fd, &st), 0);
	*(uint64_t *)(uintptr_t)arg = (uint64_t)st.st_size;
	return 0;
}

static bool device_mounted;

static long device_openat(long a, long path, long flags, long d, long e, long f)
{
	/* what is opened once more by its descriptor is ours already */
	if ((flags & O_PATH) == 0 && (flags & O_ACCMODE) == O_RDWR &&
	    strncmp((const char *)path, "thread-self/fd/", 15) != 0) {
		assert_true((flags & O_EXCL) != 0);
		assert_true((flags & O_CREAT) == 0);
		if (device_mounted)
			return -EBUSY;
	}
	return sys_bare(table_was[SYSROW_openat].nr, a, path, flags, d, e, f);
}

static void block_devices_are_areas(void **state)
{
	struct swap_area *a;

	(void)state;
	make_file("disk", 5 * MIB);
	sys_table[SYSROW_fstat].fn = device_fstat;
	sys_table[SYSROW_ioctl].fn = device_ioctl;
	sys_table[SYSROW_openat].fn = device_openat;
	sys_table[SYSROW_fallocate].fn = full_disk;
	fallocates = fallocate_good = 0;
	fallocate_error = -ENODEV;
	device_mounted = true;
	refused_file("disk", 0, -EBUSY,
		     "in use by the system (mounted, or part of another device)");
	device_mounted = false;
	refused_file("disk", 6 * MIB, -EINVAL, "beyond the 5242880 that it has");
	assert_int_equal(swap_format(in_dir("disk"), 6 * MIB, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "beyond the 5242880 that it has"));
	format("disk", 0);
	a = on("disk", 0, 0);
	assert_int_equal(a->dev.size, 5 * MIB);
	assert_int_equal(swap_total(&swap), 5 * 256 - 1);
	/* a device is never allocated */
	assert_int_equal(fallocates, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_no_area_is_refused),
		CASE(data_are_never_overwritten),
		CASE(headers_are_checked),
		CASE(what_cannot_be_written_is_refused),
		CASE(a_full_disk_is_told),
		CASE(formatting_makes_areas),
		CASE(an_area_takes_pages),
		CASE(an_area_is_on_once),
		CASE(direct_io_is_used_where_it_works),
		CASE(a_private_area_grows),
		CASE(a_private_area_stops_where_the_disk_is_full),
		CASE(a_private_area_is_bounded_by_the_disk),
		CASE(a_named_private_area_vanishes),
		CASE(plain_filesystems_will_do),
		CASE(areas_are_filled_in_order),
		CASE(areas_come_and_go),
		CASE(there_are_at_most_so_many),
		CASE(block_devices_are_areas),
	};

	return cmocka_run_group_tests_name("swap-area", tests, NULL, NULL);
}
