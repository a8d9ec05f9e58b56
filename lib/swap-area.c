/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-area.c - areas: opening and checking them, and handing out their slots.
 *
 * Opening.  A spec leads to a backing: an open, locked descriptor with a size.
 * backing_open() makes every check and leaves nothing behind when one fails;
 * swap_check() stops there, backing_take() makes it an area: allocates what is
 * sparse, writes a header on what is blank, and asks for direct I/O.
 *
 * Blank.  A file without our header is taken only when it is nothing but zeros;
 * holes, and what was allocated and not written, need not be read for that.  What
 * was written is, which takes long: swap_look() does it on the thread that asks,
 * without the lock on the file, and who takes the area (swap_on_looked()) looks at
 * the edges (the first and last BLANK_EDGE bytes) again.  Of a device these are all
 * that is looked at: filesystems, partition tables and volume managers all keep
 * something there, though not always in the first page.
 *
 * Growth.  A private area grows when more than half of it is in use, not when
 * it is full: so its clusters never get as fragmented as those of a full area,
 * and the file is at most twice as large as what was in it, and a step.
 * Without a size it takes no more than half of what the disk has free.
 *
 * Accepted: an area has one extent, the file itself: the filesystem
 * maps slots to blocks.  A path is compared by name, and by inode when the
 * file is still there.
 *
 * Everything here is called with the mm lock held, on a pager; swap_check(),
 * swap_look() and swap_format() anywhere.
 */
#include "swap-area.h"

#include "log.h"
#include "sys.h"
#include "zpool.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PAGE ((uint64_t)4096)
#define MIB ((uint64_t)1 << 20)
#define AREA_MIN_BYTES (AREA_MIN_SLOTS * PAGE)
#define AREA_MAX_BYTES (UINT32_MAX * PAGE)
#define STEP_FIRST (4 * MIB) /* many processes may have an area each */
#define STEP_MAX (1024 * MIB)
#define BLANK_EDGE MIB
#define SCRATCH MIB
#define PATH_LONGEST 240U
#define HEADER_VERSION 1U
#define NOT_AN_AREA "is not a faultline swap area; make one with 'faultline mkswap FILE'"
#define NAME_TRIES 100U
/* With the 8 bytes of a page's entry, and 51 bits a slot, 15.7 bytes a page. */
#define ROOM_SLOTS 6U
#define ROOM_PAGES 5U

typedef unsigned long long ull; /* for log_format() */

/* Where the one line about a failure goes. */
struct line {
	char label[300]; /* "swap area /x" */
	char *why;
	size_t size;
};

struct backing {
	int fd;
	bool is_private;
	bool device;
	bool blank;	/* has no header */
	uint64_t bytes; /* of the file or device */
	uint64_t used;	/* of these, what the area has now */
	uint64_t bound; /* what it may have in time */
	char *scratch;	/* SCRATCH bytes */
};

__attribute__((format(printf, 3, 4))) static int refuse(const struct line *l, long err,
							const char *fmt, ...)
{
	size_t n = log_format(l->why, l->size, "%s: ", l->label);
	va_list ap;

	va_start(ap, fmt);
	log_vformat(l->why + n, l->size - n, fmt, ap);
	va_end(ap);
	return (int)err;
}

static int refuse_errno(const struct line *l, long err, const char *what)
{
	return refuse(l, err, "%s: %s", what, log_strerror((int)err));
}

/* Bytes of a file. */

static void sys_close(int fd)
{
	SYS1(close, fd);
}

static bool all_zeros(const char *bytes, size_t n)
{
	uint64_t all = 0, word;

	for (; n >= sizeof(word); n -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		all |= word;
	}
	for (; n != 0; n--)
		all |= (unsigned char)*bytes++;
	return all == 0;
}

/* 1: [from, to) is all zeros, 0: it is not, or -errno. */
static int is_blank(const struct backing *b, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t n = to - from < SCRATCH ? to - from : SCRATCH;
		long r = SYS4(pread, b->fd, b->scratch, n, from);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? (int)r : -EIO;
		if (!all_zeros(b->scratch, (size_t)r))
			return 0;
		from += (uint64_t)r;
	}
	return 1;
}

/* The same of the edges; `whole`: and, of a file, of what is between them. */
static int all_blank(const struct backing *b, bool whole)
{
	uint64_t edge = b->bytes < BLANK_EDGE ? b->bytes : BLANK_EDGE;
	int r = is_blank(b, 0, edge);

	if (r == 1)
		r = is_blank(b, b->bytes - edge, b->bytes);
	if (b->device || !whole)
		return r;
	for (uint64_t at = 0, end; r == 1 && at < b->bytes; at = end) {
		long data = sys_bare(SYS_lseek, b->fd, (long)at, SEEK_DATA, 0, 0, 0);
		long hole = data;

		if (data == -ENXIO)
			break;
		if (!sys_err(data)) {
			at = (uint64_t)data;
			hole = sys_bare(SYS_lseek, b->fd, data, SEEK_HOLE, 0, 0, 0);
		}
		/* a filesystem that knows none, or one that is growing */
		end = sys_err(hole) || (uint64_t)hole > b->bytes ? b->bytes : (uint64_t)hole;
		r = is_blank(b, at, end);
	}
	return r;
}

static int write_all(int fd, const char *buf, uint64_t off, uint64_t len)
{
	while (len != 0) {
		long r = SYS4(pwrite, fd, buf, len, off);

		if (r == -EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? (int)r : -EIO;
		buf += r;
		off += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

/* Allocate [from, to) on the filesystem; what is allocated there already is lost or kept. */
static int reserve(int fd, uint64_t from, uint64_t to)
{
	char *zeros;
	long r;

	do
		r = SYS4(fallocate, fd, 0, from, to - from);
	while (r == -EINTR);
	if (r != -EOPNOTSUPP && r != -ENOSYS)
		return (int)r;
	zeros = sys_mem_alloc(SCRATCH);
	if (zeros == NULL)
		return -ENOMEM;
	for (r = 0; r == 0 && from < to; from += SCRATCH)
		r = write_all(fd, zeros, from, to - from < SCRATCH ? to - from : SCRATCH);
	sys_mem_free(zeros, SCRATCH);
	return (int)r;
}

/* Bytes that may be allocated on the filesystem of fd. */
static int free_bytes(int fd, uint64_t *bytes)
{
	struct statfs st;
	long r = SYS2(fstatfs, fd, &st);

	*bytes = 0;
	if (r < 0)
		return (int)r;
	if (st.f_blocks == 0) {
		*bytes = UINT64_MAX / 2; /* not told: allocating will */
		return 0;
	}
	*bytes = st.f_bavail * (uint64_t)(st.f_frsize != 0 ? st.f_frsize : st.f_bsize);
	return 0;
}

static int check_free(const struct line *l, int fd, uint64_t need)
{
	uint64_t have;
	int r = free_bytes(fd, &have);

	if (r != 0)
		return refuse_errno(l, r, "its filesystem does not tell its free space");
	if (have < need)
		return refuse(l, -ENOSPC, "%llu bytes do not fit on the disk: %llu are free",
			      (ull)need, (ull)have);
	return 0;
}

static int check_size(const struct line *l, uint64_t bytes)
{
	if (bytes < AREA_MIN_BYTES)
		return refuse(l, -EINVAL, "too small: %llu bytes, at least %llu are needed",
			      (ull)bytes, (ull)AREA_MIN_BYTES);
	return 0;
}

/* A size that was asked for, in whole pages; no area has more than AREA_MAX_BYTES. */
static uint64_t round_size(uint64_t size)
{
	size &= ~(PAGE - 1);
	return size < AREA_MAX_BYTES ? size : AREA_MAX_BYTES;
}

/* Headers. */

static int header_write(int fd, uint64_t slots)
{
	struct {
		struct area_header h;
		char rest[PAGE - sizeof(struct area_header)];
	} page;
	const struct iovec whole = {&page, sizeof(page)};
	long synced;
	int r;

	memset(&page, 0, sizeof(page));
	memcpy(page.h.magic, AREA_MAGIC, sizeof(page.h.magic));
	page.h.version = htole32(HEADER_VERSION);
	page.h.page_size = htole32((uint32_t)PAGE);
	page.h.slots = htole64(slots);
	if (SYS3(getrandom, page.h.uuid, sizeof(page.h.uuid), 0) < 0)
		memset(page.h.uuid, 0, sizeof(page.h.uuid));
	r = write_all(fd, (const char *)&page, 0, PAGE);
	if (r != 0)
		return r;
	/*
	 * Pages go past the page cache.  If the power failed, some of them without a
	 * header would not be blank, so it is on the disk first, where the kernel can do that.
	 */
	synced = sys_bare(SYS_pwritev2, fd, (long)&whole, 1, 0, 0, RWF_DSYNC);
	return synced == -EIO || synced == -ENOSPC || synced == -EDQUOT ? (int)synced : 0;
}

/* 1: the backing begins as an area does, and *h is its header, 0: it does not, or -errno. */
static int header_look(const struct line *l, const struct backing *b, struct area_header *h)
{
	long r;

	do
		r = SYS4(pread, b->fd, b->scratch, PAGE, 0);
	while (r == -EINTR);
	if (r != (long)PAGE)
		return refuse_errno(l, r < 0 ? r : -EIO, "cannot be read");
	memcpy(h, b->scratch, sizeof(*h));
	return memcmp(h->magic, AREA_MAGIC, sizeof(h->magic)) == 0;
}

/*
 * Look at what the backing holds: a header, and *slots gets what it says, or
 * nothing (b->blank).  What is neither is refused with the words in `refusal`.
 */
static int header_read(const struct line *l, struct backing *b, const char *refusal, bool whole,
		       uint64_t *slots)
{
	struct area_header h;
	int r = header_look(l, b, &h);

	if (r < 0)
		return r;
	if (r == 0) {
		r = all_blank(b, whole);
		if (r < 0)
			return refuse_errno(l, r, "cannot be read");
		b->blank = true;
		return r == 1 ? 0 : refuse(l, -EINVAL, "%s", refusal);
	}
	if (le32toh(h.version) != HEADER_VERSION || le32toh(h.page_size) != PAGE)
		return refuse(l, -EINVAL,
			      "made by another version (%u, pages of %u bytes); make it anew with "
			      "'faultline mkswap FILE'",
			      le32toh(h.version), le32toh(h.page_size));
	*slots = le64toh(h.slots);
	return 0;
}

/* Opening. */

/* The kind of what is there. */
static int path_kind(const struct line *l, const char *path, struct backing *b, struct stat *st)
{
	long r = SYS4(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	int fd = (int)r;

	/* Not opened for real before its kind is known: that can have effects. */
	if (r < 0)
		return refuse(l, r, "%s", log_strerror((int)r));
	r = SYS2(fstat, fd, st);
	sys_close(fd);
	if (r < 0)
		return refuse(l, r, "%s", log_strerror((int)r));
	if (S_ISDIR(st->st_mode))
		return refuse(l, -EISDIR, "is a directory");
	b->device = S_ISBLK(st->st_mode);
	if (!b->device && !S_ISREG(st->st_mode))
		return refuse(l, -EINVAL, "is neither a file nor a block device");
	return 0;
}

/* A file or device that is there: opened, locked, its kind and size told. */
static int open_path(const struct line *l, const char *path, struct backing *b, struct stat *st)
{
	long r = path_kind(l, path, b, st);

	if (r != 0)
		return (int)r;
	/* A device is not shared with the kernel's own users of it. */
	r = SYS4(openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | (b->device ? O_EXCL : 0), 0);
	if (r == -EBUSY && b->device)
		return refuse(l, r, "in use by the system (mounted, or part of another device)");
	if (r < 0)
		return refuse_errno(l, r, "cannot be opened for reading and writing");
	b->fd = (int)r;
	r = SYS2(flock, b->fd, LOCK_EX | LOCK_NB);
	if (r == -EWOULDBLOCK)
		return refuse(l, -EBUSY, "already in use");
	if (r < 0)
		return refuse_errno(l, r, "cannot be locked");
	r = SYS2(fstat, b->fd, st);
	if (r < 0)
		return refuse(l, r, "%s", log_strerror((int)r));
	if (S_ISBLK(st->st_mode) != b->device || (!b->device && !S_ISREG(st->st_mode)))
		return refuse(l, -EINVAL, "changed while it was opened");
	b->bytes = (uint64_t)st->st_size;
	if (b->device) {
		r = SYS3(ioctl, b->fd, BLKGETSIZE64, &b->bytes);
		if (r < 0)
			return refuse_errno(l, r, "does not tell its size");
	}
	return 0;
}

/*
 * Below /dev are devices: a file that is made there for want of one would lie in memory.
 * The kernel tells what the directory is really called (by thread-self: a pager has descriptors
 * of its own), or else it is taken as it is written.
 */
static bool names_device(const char *path)
{
	char dir[PATH_LONGEST + 2], link[48];
	const char *slash = strrchr(path, '/');
	size_t n = slash != NULL ? (size_t)(slash - path) + 1 : 0;
	long fd, r;

	if (n > PATH_LONGEST)
		return false;
	memcpy(dir, n != 0 ? path : ".", n != 0 ? n : 1);
	dir[n != 0 ? n : 1] = '\0';
	fd = SYS4(openat, AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd >= 0) {
		log_format(link, sizeof(link), "/proc/thread-self/fd/%d", (int)fd);
		r = SYS4(readlink, AT_FDCWD, link, dir, sizeof(dir) - 1);
		sys_close((int)fd);
		if (r > 0) { /* cut where it is long, which the beginning of /dev/ is not */
			if (r == (long)sizeof(dir) - 1)
				r--;
			dir[r] = '/';
			dir[r + 1] = '\0';
		}
	}
	return strncmp(dir, "/dev/", 5) == 0 && strncmp(dir, "/dev/shm/", 9) != 0;
}

static int open_area(const struct line *l, const struct fl_swap_spec *spec, struct backing *b)
{
	uint64_t size = round_size(spec->size), slots = 0;
	struct stat st;
	int r = open_path(l, spec->path, b, &st);

	if (r == -ENOENT && names_device(spec->path))
		return refuse(l, r, "no such device");
	if (r == -ENOENT)
		return refuse(l, r,
			      "no such file; make one with 'faultline mkswap --size SIZE FILE', or "
			      "give a size with it");
	if (r != 0)
		return r;
	r = check_size(l, b->bytes);
	if (r == 0)
		r = header_read(l, b, NOT_AN_AREA, false, &slots);
	if (r != 0)
		return r;
	if (b->blank)
		slots = round_size(b->bytes) / PAGE;
	b->used = slots * PAGE;
	if (slots > UINT32_MAX || b->used > b->bytes)
		return refuse(l, -EINVAL, "damaged: its header says %llu bytes, it has %llu",
			      (ull)b->used, (ull)b->bytes);
	if (size > b->used)
		return refuse(l, -EINVAL, "a size of %llu bytes is beyond the %llu that it has",
			      (ull)spec->size, (ull)b->used);
	if (spec->size != 0)
		b->used = size;
	b->bound = b->used;
	r = check_size(l, b->used);
	if (r == 0 && !b->device && (uint64_t)st.st_blocks * 512 < b->used)
		r = check_free(l, b->fd, b->used - (uint64_t)st.st_blocks * 512);
	return r;
}

/* A private area with a name, which it has for a moment only. */
static int open_named(const struct line *l, const struct fl_swap_spec *spec, struct backing *b)
{
	int r = check_size(l, spec->size);
	long fd;

	if (r != 0)
		return r;
	fd = SYS4(openat, AT_FDCWD, spec->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse_errno(l, fd, "cannot be made");
	b->fd = (int)fd;
	b->is_private = true;
	SYS3(unlink, AT_FDCWD, spec->path, 0);
	b->used = b->bound = round_size(spec->size);
	return check_free(l, b->fd, b->used);
}

/* An unlinked file in dir where the filesystem has no O_TMPFILE. */
static long open_unlinked(const char *dir)
{
	uint64_t name = sys_now();
	long r = -EEXIST;

	for (unsigned i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
		char path[300];

		name = name * 6364136223846793005U + 1442695040888963407U;
		log_format(path, sizeof(path), "%s/.faultline-%016llx", dir, (ull)name);
		r = SYS4(openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (r >= 0)
			SYS3(unlink, AT_FDCWD, path, 0);
	}
	return r;
}

static int open_growing(const struct line *l, const struct fl_swap_spec *spec, const char *dir,
			struct backing *b)
{
	uint64_t have;
	long fd;
	int r;

	if (spec->size != 0) {
		r = check_size(l, spec->size);
		if (r != 0)
			return r;
	}
	fd = SYS4(openat, AT_FDCWD, dir, O_RDWR | O_TMPFILE | O_EXCL | O_CLOEXEC, 0600);
	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -EINVAL)
		fd = open_unlinked(dir);
	if (fd < 0)
		return refuse_errno(l, fd, "cannot be made");
	b->fd = (int)fd;
	b->is_private = true;
	b->bound = round_size(spec->size);
	if (spec->size == 0) {
		r = free_bytes(b->fd, &have);
		if (r != 0)
			return refuse_errno(l, r, "its filesystem does not tell its free space");
		b->bound = round_size(have / 2);
	}
	b->used = b->bound < STEP_FIRST ? b->bound : STEP_FIRST;
	if (b->bound < AREA_MIN_BYTES)
		return check_free(l, b->fd, AREA_MIN_BYTES + AREA_MIN_BYTES / 8);
	return check_free(l, b->fd, b->bound);
}

static void backing_close(struct backing *b)
{
	if (b->fd >= 0)
		sys_close(b->fd);
	sys_mem_free(b->scratch, SCRATCH);
}

/* Make every check; on failure nothing is kept.  *l is set in any case. */
static int backing_open(struct line *l, const struct fl_swap_spec *spec, const char *dir,
			struct backing *b)
{
	int r;

	memset(b, 0, sizeof(*b));
	b->fd = -1;
	if (dir == NULL)
		dir = "/var/tmp";
	if (spec->path != NULL)
		log_format(l->label, sizeof(l->label), "swap area %s", spec->path);
	else
		log_format(l->label, sizeof(l->label), "private swap area in %s", dir);
	if (spec->prio < -1 || spec->prio > 32767)
		return refuse(l, -EINVAL, "priority %d is not between 0 and 32767", spec->prio);
	if (spec->flags != 0)
		return refuse(l, -EINVAL, "no such flag");
	if (strlen(spec->path != NULL ? spec->path : dir) > PATH_LONGEST)
		return refuse(l, -ENAMETOOLONG, "its name is too long");
	b->scratch = sys_mem_alloc(SCRATCH);
	if (b->scratch == NULL)
		return refuse(l, -ENOMEM, "%s", log_strerror(-ENOMEM));
	if (spec->path == NULL) {
		r = open_growing(l, spec, dir, b);
	} else {
		r = open_area(l, spec, b);
		if (r == -ENOENT && spec->size != 0 && !names_device(spec->path))
			r = open_named(l, spec, b);
	}
	if (r != 0)
		backing_close(b);
	return r;
}

/* Ask for direct I/O, and see that it works; a page cache would keep every page twice. */
static void ask_direct(const struct backing *b)
{
	long flags = SYS3(fcntl, b->fd, F_GETFL, 0);

	if (flags < 0 || SYS3(fcntl, b->fd, F_SETFL, flags | O_DIRECT) < 0)
		return;
	if (SYS4(pread, b->fd, b->scratch, PAGE, 0) != (long)PAGE)
		SYS3(fcntl, b->fd, F_SETFL, flags);
}

/* Do what backing_open() only checked. */
static int backing_take(const struct line *l, struct backing *b)
{
	int r = 0;

	if (b->is_private) {
		r = reserve(b->fd, 0, b->used);
	} else if (!b->device) {
		struct stat st;

		r = (int)SYS2(fstat, b->fd, &st);
		if (r == 0 && (uint64_t)st.st_blocks * 512 < b->used)
			r = reserve(b->fd, PAGE, b->used);
	}
	if (r != 0)
		return refuse(l, r, "%llu bytes cannot be allocated: %s", (ull)b->used,
			      log_strerror(r));
	if (b->blank)
		r = header_write(b->fd, round_size(b->bytes) / PAGE);
	if (r != 0)
		return refuse_errno(l, r, "cannot be written");
	ask_direct(b);
	return 0;
}

int swap_check(const struct fl_swap_spec *spec, const char *swap_dir, char *why, size_t why_size)
{
	struct line l = {.why = why, .size = why_size};
	struct backing b;
	int r = backing_open(&l, spec, swap_dir, &b);

	if (r != 0)
		return r;
	backing_close(&b);
	return swap_look(spec, why, why_size);
}

/* swap_look() of a file that is open. */
static int look_through(const struct line *l, const struct backing *b)
{
	struct area_header h;
	int r = header_look(l, b, &h), blank;

	if (r != 0)
		return r < 0 ? r : 0;
	blank = all_blank(b, true);
	if (blank < 0)
		return refuse_errno(l, blank, "cannot be read");
	if (blank == 1) {
		/* who takes it syncs a header, and then need not wait for all this */
		SYS1(fsync, b->fd);
		return 0;
	}
	/* it is not locked: another may have made it an area meanwhile */
	r = header_look(l, b, &h);
	if (r != 0)
		return r < 0 ? r : 0;
	return refuse(l, -EINVAL, "%s", NOT_AN_AREA);
}

int swap_look(const struct fl_swap_spec *spec, char *why, size_t why_size)
{
	struct line l = {.why = why, .size = why_size};
	struct backing b = {.fd = -1};
	struct stat st;
	long r;

	if (spec->path == NULL || strlen(spec->path) > PATH_LONGEST)
		return 0;
	log_format(l.label, sizeof(l.label), "swap area %s", spec->path);
	r = path_kind(&l, spec->path, &b, &st);
	if (r != 0 || b.device)
		return r == -ENOENT ? 0 : (int)r;
	r = SYS4(openat, AT_FDCWD, spec->path, O_RDWR | O_CLOEXEC, 0);
	if (r < 0)
		return refuse_errno(&l, r, "cannot be opened for reading and writing");
	b.fd = (int)r;
	r = SYS2(fstat, b.fd, &st);
	if (r < 0)
		r = refuse(&l, r, "%s", log_strerror((int)r));
	else if (!S_ISREG(st.st_mode))
		r = refuse(&l, -EINVAL, "changed while it was opened");
	b.bytes = (uint64_t)st.st_size;
	if (r == 0 && b.bytes >= AREA_MIN_BYTES) {
		b.scratch = sys_mem_alloc(SCRATCH);
		r = b.scratch != NULL ? look_through(&l, &b)
				      : refuse(&l, -ENOMEM, "%s", log_strerror(-ENOMEM));
	}
	backing_close(&b);
	return (int)r;
}

/* Make a file of `size` bytes; it is removed again when that fails. */
static int format_new(const struct line *l, const char *path, uint64_t size)
{
	long fd;
	int r;

	fd = SYS4(openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse_errno(l, fd, "cannot be made");
	r = check_free(l, (int)fd, size);
	if (r == 0) {
		r = reserve((int)fd, 0, size);
		if (r == 0)
			r = header_write((int)fd, size / PAGE);
		if (r != 0)
			refuse(l, r, "%llu bytes cannot be allocated: %s", (ull)size,
			       log_strerror(r));
	}
	if (r != 0)
		SYS3(unlink, AT_FDCWD, path, 0);
	sys_close((int)fd);
	return r;
}

static int format_old(const struct line *l, const char *path, uint64_t size, struct backing *b)
{
	uint64_t slots;
	struct stat st;
	int r = open_path(l, path, b, &st);

	if (r != 0)
		return r;
	if (size == 0) {
		r = check_size(l, b->bytes);
		if (r != 0)
			return r;
		size = round_size(b->bytes);
	}
	if (b->bytes >= PAGE)
		r = header_read(l, b, "is not blank: it holds data that are not faultline's", true,
				&slots);
	else if (is_blank(b, 0, b->bytes) != 1)
		r = refuse(l, -EINVAL, "is not blank: it holds data that are not faultline's");
	if (r != 0)
		return r;
	if (size > b->bytes) {
		if (b->device)
			return refuse(l, -EINVAL,
				      "a size of %llu bytes is beyond the %llu that it has",
				      (ull)size, (ull)b->bytes);
		r = check_free(l, b->fd, size - b->bytes);
		if (r != 0)
			return r;
		r = reserve(b->fd, b->bytes, size);
		if (r != 0) {
			SYS2(ftruncate, b->fd, b->bytes);
			return refuse(l, r, "%llu bytes cannot be allocated: %s", (ull)size,
				      log_strerror(r));
		}
	}
	r = header_write(b->fd, size / PAGE);
	return r == 0 ? 0 : refuse_errno(l, r, "cannot be written");
}

int swap_format(const char *path, uint64_t size, char *why, size_t why_size)
{
	struct line l = {.why = why, .size = why_size};
	struct backing b = {.fd = -1};
	int r;

	log_format(l.label, sizeof(l.label), "swap area %s", path);
	if (size != 0) {
		r = check_size(&l, size);
		if (r != 0)
			return r;
		size = round_size(size);
	}
	b.scratch = sys_mem_alloc(SCRATCH);
	if (b.scratch == NULL)
		return refuse(&l, -ENOMEM, "%s", log_strerror(-ENOMEM));
	r = format_old(&l, path, size, &b);
	if (r == -ENOENT && names_device(path))
		refuse(&l, r, "no such device");
	else if (r == -ENOENT && size != 0)
		r = format_new(&l, path, size);
	else if (r == -ENOENT)
		refuse(&l, r, "no such file; give --size SIZE to have it made");
	backing_close(&b);
	return r;
}

/* Areas. */

static void area_free(struct swap_area *a)
{
	if (a->map != NULL)
		slot_map_close(a->map);
	sys_mem_free(a, sizeof(*a));
}

/*
 * I/O goes through an open file description of this process's own, with the
 * lock by which others can tell when the last request of ours is over, however
 * we ended (swap-slot.h).  Where there is none the common one serves.
 */
static void area_own(struct swap_area *a, long proc_fd)
{
	long flags = SYS3(fcntl, a->shared_fd, F_GETFL, 0);
	char path[48];
	long fd;

	a->dev.fd = a->shared_fd;
	if (a->via_mount)
		return; /* a lock there is not one on the area */
	log_format(path, sizeof(path), "thread-self/fd/%d", a->shared_fd);
	fd = flags < 0 ? flags
		       : SYS4(openat, proc_fd, path, O_RDWR | O_CLOEXEC | (flags & O_DIRECT), 0);
	if (fd < 0)
		return;
	if (slot_map_io(a->map, (int)fd) != 0)
		sys_close((int)fd);
	else
		a->dev.fd = (int)fd;
}

void swap_area_adopt(struct swap_area *a, int proc_fd, int shared_fd, struct slot_map *map,
		     int map_fd)
{
	slot_map_enter(map, a->map, map_fd);
	a->map = map;
	a->csums = slot_csums(map);
	a->shared_fd = shared_fd;
	a->bad_slots = a->io_errors = 0;
	/* it is the parent's call that turns it off, and only there */
	a->on = a->on || a->leaving;
	a->leaving = false;
	area_own(a, proc_fd);
}

/* By what others know the file or device. */
static void area_identify(struct swap_area *a)
{
	struct stat st;

	if (sys_err(SYS2(fstat, a->shared_fd, &st)))
		return;
	a->device_number = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	a->inode = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
}

static int area_make(const struct line *l, const struct fl_swap_spec *spec, const char *dir,
		     struct backing *b, struct swap_area **out)
{
	struct swap_area *a = sys_mem_alloc(sizeof(*a));
	long proc_fd;
	int r = a != NULL ? slot_map_open(&a->map, (uint32_t)(b->used / PAGE),
					  (uint32_t)(b->bound / PAGE))
			  : -ENOMEM;

	if (r != 0) {
		refuse(l, r, "%s", log_strerror(r));
	} else {
		r = backing_take(l, b);
	}
	if (r != 0) {
		if (a != NULL)
			area_free(a);
		return r;
	}
	if (spec->path != NULL)
		log_format(a->path, sizeof(a->path), "%s", spec->path);
	else
		log_format(a->path, sizeof(a->path), "%s/(private)", dir);
	a->shared_fd = b->fd;
	a->csums = slot_csums(a->map);
	area_identify(a);
	proc_fd = SYS4(openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	area_own(a, proc_fd);
	if (proc_fd >= 0)
		sys_close((int)proc_fd);
	a->dev.size = b->used;
	a->dev.name = a->path;
	a->private_file = b->is_private;
	a->max_slots = b->bound / PAGE;
	a->step = STEP_FIRST;
	*out = a;
	return 0;
}

int swap_on(struct swap *s, const struct fl_swap_spec *spec, const char *swap_dir, unsigned *index,
	    char *why, size_t why_size)
{
	int r = swap_look(spec, why, why_size);

	return r != 0 ? r : swap_on_looked(s, spec, swap_dir, index, why, why_size);
}

int swap_on_looked(struct swap *s, const struct fl_swap_spec *spec, const char *swap_dir,
		   unsigned *index, char *why, size_t why_size)
{
	const char *dir = swap_dir != NULL ? swap_dir : "/var/tmp";
	struct line l = {.why = why, .size = why_size};
	struct swap_area *a = NULL;
	struct backing b;
	unsigned i = 0;
	int r = backing_open(&l, spec, dir, &b);

	if (r != 0)
		return r;
	while (i < FL_SWAP_MAX && s->area[i] != NULL)
		i++;
	if (i == FL_SWAP_MAX)
		r = refuse(&l, -EMFILE, "%u swap areas are on, no more are possible", FL_SWAP_MAX);
	else
		r = area_make(&l, spec, dir, &b, &a);
	if (r != 0) {
		backing_close(&b);
		return r;
	}
	sys_mem_free(b.scratch, SCRATCH);
	a->index = i;
	a->prio = spec->prio >= 0 ? spec->prio : --s->next_prio;
	a->on = true;
	s->area[i] = a;
	if (i >= s->narea)
		s->narea = i + 1;
	*index = i;
	return 0;
}

int swap_take(struct swap *s, const struct swap_given *g, unsigned *index)
{
	struct swap_area *a;
	unsigned i = 0;

	while (i < FL_SWAP_MAX && s->area[i] != NULL)
		i++;
	if (i == FL_SWAP_MAX)
		return -EMFILE;
	a = sys_mem_alloc(sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	log_format(a->path, sizeof(a->path), "%s", g->name);
	a->map = g->map;
	a->csums = slot_csums(a->map);
	a->shared_fd = a->dev.fd = g->shared_fd;
	area_identify(a);
	a->stored = true;
	a->via_mount = g->via_mount;
	if (g->io_fd >= 0 && slot_map_io(a->map, g->io_fd) == 0)
		a->dev.fd = g->io_fd;
	else if (g->io_fd >= 0)
		sys_close(g->io_fd);
	a->dev.size = g->slots * PAGE;
	a->dev.name = a->path;
	a->max_slots = g->slots;
	a->prio = g->prio;
	a->index = i;
	a->on = true;
	s->area[i] = a;
	if (i >= s->narea)
		s->narea = i + 1;
	*index = i;
	return 0;
}

static void area_close(struct swap *s, struct swap_area *a)
{
	s->area[a->index] = NULL;
	while (s->narea != 0 && s->area[s->narea - 1] == NULL)
		s->narea--;
	if (a->dev.fd != a->shared_fd)
		sys_close(a->dev.fd);
	sys_close(a->shared_fd);
	area_free(a);
}

int swap_close_area(struct swap *s, unsigned index)
{
	struct swap_area *a = s->area[index];

	if (swap_area_mine(a) > a->bad_slots)
		return -EBUSY;
	area_close(s, a);
	return 0;
}

void swap_close_all(struct swap *s)
{
	while (s->narea != 0)
		area_close(s, s->area[s->narea - 1]);
}

int swap_find(const struct swap *s, const char *path)
{
	struct stat want, st;
	long fd;
	int found = -ENOENT;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL && strcmp(s->area[i]->path, path) == 0)
			return (int)i;
	fd = SYS4(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return found;
	if (SYS2(fstat, fd, &want) == 0)
		for (unsigned i = 0; i < s->narea && found < 0; i++)
			if (s->area[i] != NULL && SYS2(fstat, s->area[i]->dev.fd, &st) == 0 &&
			    st.st_dev == want.st_dev && st.st_ino == want.st_ino)
				found = (int)i;
	sys_close((int)fd);
	return found;
}

/* Handing out. */

/* Usable slots, growth included. */
static uint64_t area_total(const struct swap_area *a)
{
	return a->max_slots - 1;
}

static bool area_may_grow(const struct swap_area *a)
{
	return a->dev.size < a->max_slots * PAGE;
}

/*
 * The area is as large as its map says: another process may have made it grow; none makes it
 * smaller.  Read without the lock by blkio_queue(), for slots below what it was.
 */
static void area_size_told(struct swap_area *a)
{
	uint64_t size = (slot_map_total(a->map) + (uint64_t)1) * PAGE;

	if (a->dev.size < size)
		__atomic_store_n(&a->dev.size, size, __ATOMIC_RELAXED);
}

/* Where the filesystem has no more, the area's bound is what it has. */
static void area_grow(struct swap_area *a)
{
	uint64_t have, most = a->max_slots * PAGE;
	uint64_t want;
	int r;

	area_size_told(a);
	have = a->dev.size;
	if (have >= most)
		return;
	want = most - have < a->step ? most : have + a->step;
	r = reserve(a->dev.fd, have, want);
	if (r == 0)
		r = slot_map_grow(a->map, (uint32_t)(want / PAGE));
	if (r != 0) {
		/* what another process made of it since is not ours to take away */
		if (slot_map_members(a->map) == 1)
			SYS2(ftruncate, a->dev.fd, have);
		a->max_slots = have / PAGE;
		return;
	}
	area_size_told(a);
	if (a->step < STEP_MAX)
		a->step *= 2;
}

/*
 * The area whose turn it is, of those with the highest priority that have
 * slots; NULL when none has.  Areas in the set `full` have none.
 */
static struct swap_area *choose(struct swap *s, uint32_t full)
{
	struct swap_area *best = NULL;

	/* From the current one on, so that it is first among equals and the next one second. */
	for (unsigned n = 0; n < s->narea; n++) {
		unsigned i = (s->current + n) % s->narea;
		struct swap_area *a = s->area[i];

		if (a == NULL || !a->on || (full & 1U << i) != 0 ||
		    (slot_map_used(a->map) == slot_map_total(a->map) && !area_may_grow(a)))
			continue;
		if (best == NULL || a->prio > best->prio ||
		    (a->prio == best->prio && best->index == s->current && s->turn == 0))
			best = a;
	}
	if (best != NULL && (best->index != s->current || s->turn == 0)) {
		s->current = best->index;
		s->turn = SLOT_CLUSTER;
	}
	return best;
}

static swp_t alloc_once(struct swap *s, uint32_t want, uint32_t *got)
{
	struct swap_area *a;
	uint32_t full = 0;

	while (want != 0 && (a = choose(s, full)) != NULL) {
		uint32_t n = want < s->turn ? want : s->turn, first;

		if (area_may_grow(a) && (swap_area_used(a) + n) * 2 > slot_map_total(a->map) &&
		    slot_map_sweep(a->map) == 0)
			area_grow(a);
		n = slot_alloc(a->map, n, &first);
		if (n != 0) {
			area_size_told(a);
			s->turn -= n;
			*got = n;
			return swp_make(a->index, first);
		}
		full |= 1U << a->index;
	}
	return SWP_NONE;
}

void swap_roomy(struct swap *s, uint64_t pages)
{
	uint64_t most = pages / ROOM_PAGES * ROOM_SLOTS;
	uint64_t room = 0;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL)
			room += slot_map_room(s->area[i]->map);
	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL)
			slot_map_roomy(s->area[i]->map,
				       most > room ? slot_map_room(s->area[i]->map) + most - room
						   : 0);
}

swp_t swap_alloc(struct swap *s, uint32_t want, uint32_t *got)
{
	swp_t swp;

	*got = 0;
	swp = alloc_once(s, want, got);
	if (swp == SWP_NONE && want != 0 && swap_sweep(s))
		swp = alloc_once(s, want, got);
	return swp;
}

static struct slot_map *map_of(const struct swap *s, swp_t e)
{
	return s->area[swp_area(e)]->map;
}

_Static_assert(SWP_POOL >= FL_SWAP_MAX, "the pool's number is an area's");

bool swap_put(struct swap *s, swp_t e)
{
	if (swp_pooled(e)) {
		zpool_free(s->pool, swp_object(e));
		return true;
	}
	return slot_put(map_of(s, e), swp_slot(e));
}

void swap_busy(struct swap *s, swp_t e)
{
	slot_busy(map_of(s, e), swp_slot(e));
}

bool swap_idle(struct swap *s, swp_t e)
{
	return slot_idle(map_of(s, e), swp_slot(e));
}

bool swap_is_busy(const struct swap *s, swp_t e)
{
	return slot_is_busy(map_of(s, e), swp_slot(e));
}

bool swap_held(const struct swap *s, swp_t e)
{
	if (swp_pooled(e))
		return true;
	return slot_held(map_of(s, e), swp_slot(e));
}

unsigned swap_users(const struct swap *s, swp_t e)
{
	return slot_users(map_of(s, e), swp_slot(e));
}

void swap_csum_set(struct swap *s, swp_t e, uint64_t csum)
{
	slot_csum_set(map_of(s, e), swp_slot(e), csum);
}

uint64_t swap_csum(const struct swap *s, swp_t e)
{
	if (swp_pooled(e))
		return zpool_head(s->pool, swp_object(e))->csum;
	return slot_csum(map_of(s, e), swp_slot(e));
}

const struct blk_dev *swap_extent(const struct swap *s, swp_t e, uint32_t n, uint64_t *off,
				  uint32_t *run)
{
	const struct swap_area *a = s->area[swp_area(e)];
	uint64_t slots = a->dev.size / PAGE, slot = swp_slot(e);

	*off = slot * PAGE;
	/* what lies behind the end, by a map that another process spoilt, is for blkio.c to refuse */
	*run = slot + n <= slots || slot >= slots ? n : (uint32_t)(slots - slot);
	return &a->dev;
}

bool swap_sweep(struct swap *s)
{
	uint32_t freed = 0;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL)
			freed += slot_map_sweep(s->area[i]->map);
	return freed != 0;
}

/* Counting. */

uint64_t swap_area_used(const struct swap_area *a)
{
	return slot_map_used(a->map);
}

uint64_t swap_area_mine(const struct swap_area *a)
{
	return slot_map_mine(a->map);
}

uint64_t swap_total(const struct swap *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL && s->area[i]->on)
			n += area_total(s->area[i]);
	return n;
}

uint64_t swap_used(const struct swap *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL)
			n += swap_area_used(s->area[i]);
	return n;
}

bool swap_half_full(const struct swap *s, swp_t e)
{
	const struct swap_area *a = s->area[swp_area(e)];

	return swap_area_used(a) * 2 > area_total(a);
}

uint64_t swap_bytes(const struct swap *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < s->narea; i++)
		if (s->area[i] != NULL)
			n += slot_map_bytes(s->area[i]->map) + PAGE;
	return n;
}
