/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * view.c - what is not below MNT/files: the root, swap/, stats, metrics, control,
 * socket, and the names of proc/, whose rest is in view-proc.c.
 *
 * All of it is made when it is asked for and cannot be changed through the
 * mount, but that control takes commands (control.c) and an area the pages of
 * clients that do their I/O here.  A text is made at open and stays as it is for that open file; its
 * size is told as 0, as that of files in /proc, and read without the kernel's
 * cache.  An area is read straight from its file or device.
 *
 * An area's inode number comes from its place in a table of the names that
 * were seen; names stay there, so a number is never given to another.
 */
#include "attach.h"
#include "view-proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	VIEW_ROOT = FUSE_ROOT_ID,
	VIEW_SWAP,
	VIEW_PROC,
	VIEW_STATS,
	VIEW_METRICS,
	VIEW_CONTROL,
	VIEW_SOCKET,
	VIEW_AREAS = 16, /* two for each: AREA, AREA.stat */
};

#define AREAS_MAX ((VIEW_MAX - VIEW_AREAS) / 2)
#define AREA_TEXT_MAX (NAME_MAX + 512)
#define STAT_SUFFIX ".stat"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char **areas; /* under the lock; what they point to stays */
static size_t nareas;

/* The inode number of an area's name, 0 without memory. */
static fuse_ino_t area_number(const char *name)
{
	fuse_ino_t ino = 0;
	size_t i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < nareas && strcmp(areas[i], name) != 0; i++)
		continue;
	if (i == nareas && i < AREAS_MAX) {
		char **more = reallocarray(areas, i + 1, sizeof(*more));

		if (more != NULL) {
			areas = more;
			more[i] = strdup(name);
			nareas += more[i] != NULL;
		}
	}
	if (i < nareas)
		ino = VIEW_AREAS + 2 * i;
	pthread_mutex_unlock(&lock);
	return ino;
}

static const char *area_by_number(fuse_ino_t ino)
{
	const char *name = NULL;

	pthread_mutex_lock(&lock);
	if (ino >= VIEW_AREAS && (ino - VIEW_AREAS) / 2 < nareas)
		name = areas[(ino - VIEW_AREAS) / 2];
	pthread_mutex_unlock(&lock);
	return name;
}

static bool is_stat(fuse_ino_t ino)
{
	return (ino & 1) != 0;
}

/* Attributes: 0 or an errno. */
static int attributes(fuse_ino_t ino, struct stat *st)
{
	struct area_info a;
	const char *name;
	int err;

	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_nlink = 1;
	st->st_uid = geteuid();
	st->st_gid = getegid();
	st->st_blksize = STORE_PAGE;
	clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	if (in_proc(ino)) {
		err = proc_attributes(ino, st);
		st->st_atim = st->st_ctim = st->st_mtim;
		return err;
	}
	switch (ino) {
	case VIEW_ROOT:
		st->st_nlink = 5;
		st->st_mode = S_IFDIR | 0555;
		break;
	case VIEW_PROC:
		st->st_nlink = 2;
		st->st_mode = S_IFDIR | 0555;
		break;
	case VIEW_SWAP:
		st->st_nlink = 2;
		st->st_mode = S_IFDIR | 0555;
		break;
	case VIEW_STATS:
	case VIEW_METRICS:
		st->st_mode = S_IFREG | 0444;
		break;
	case VIEW_CONTROL:
		st->st_mode = S_IFREG | 0600;
		break;
	case VIEW_SOCKET:
		st->st_mode = S_IFLNK | 0777;
		st->st_size = (off_t)(strlen(server.store->dir) + strlen("/" STORE_SOCKET));
		break;
	default:
		name = area_by_number(ino);
		if (name == NULL)
			return ENOENT;
		err = area_open(server.store->swap_fd, name, &a);
		if (err != 0)
			return err == -EINVAL ? ENOENT : -err;
		st->st_mode = S_IFREG | (is_stat(ino)		  ? 0444
					 : server.options.page_io ? 0600
								  : 0400);
		st->st_mtim = (struct timespec){.tv_sec = a.mtime};
		if (!is_stat(ino)) {
			st->st_size = (off_t)(a.valid ? a.slots * STORE_PAGE : a.bytes);
			st->st_blocks = (blkcnt_t)((a.device ? a.bytes : a.allocated) / 512);
		}
		area_close(&a);
	}
	st->st_atim = st->st_ctim = st->st_mtim;
	return 0;
}

void view_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char path[PATH_MAX + sizeof(STORE_SOCKET)];

	if (ino != VIEW_SOCKET) {
		ops_error(req, TALLY_readlink, EINVAL);
		return;
	}
	snprintf(path, sizeof(path), "%s/" STORE_SOCKET, server.store->dir);
	fuse_reply_readlink(req, path);
}

void view_getattr(fuse_req_t req, fuse_ino_t ino)
{
	struct stat st;
	int err = attributes(ino, &st);

	if (err != 0)
		ops_error(req, TALLY_getattr, err);
	else
		fuse_reply_attr(req, &st, 0);
}

/* A name of swap/ to its inode number, 0 for none. */
static fuse_ino_t swap_number(const char *name)
{
	const size_t s = strlen(STAT_SUFFIX);
	char plain[NAME_MAX + 1];
	size_t n = strlen(name);

	if (n > NAME_MAX)
		return 0;
	strcpy(plain, name);
	if (n > s && strcmp(name + n - s, STAT_SUFFIX) == 0)
		plain[n - s] = '\0';
	if (!area_name(plain))
		return 0;
	/* Only what is there gets a number. */
	if (faccessat(server.store->swap_fd, plain, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	return area_number(plain) == 0 ? 0 : area_number(plain) + (n > s && plain[n - s] == '\0');
}

static fuse_ino_t root_number(const char *name)
{
	static const struct {
		const char *name;
		fuse_ino_t ino;
	} entries[] = {{"swap", VIEW_SWAP},	{"proc", VIEW_PROC},
		       {"stats", VIEW_STATS},	{"control", VIEW_CONTROL},
		       {"socket", VIEW_SOCKET}, {"metrics", VIEW_METRICS}};

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		if (strcmp(name, entries[i].name) == 0)
			return entries[i].ino;
	return 0;
}

static fuse_ino_t entry_number(fuse_ino_t parent, const char *name)
{
	if (parent == VIEW_PROC || in_proc(parent))
		return proc_number(parent, name);
	return parent == VIEW_ROOT   ? root_number(name)
	       : parent == VIEW_SWAP ? swap_number(name)
				     : 0;
}

void view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = 0};
	int err = 0;

	if (parent == VIEW_ROOT && strcmp(name, "files") == 0) {
		int fd = dup(server.files->fd);

		if (fd < 0 || fstat(fd, &e.attr) != 0)
			err = errno;
		else if (node_get(fd, &e.attr) == NULL)
			err = ENOMEM;
		e.ino = (uintptr_t)server.files;
		e.attr_timeout = e.entry_timeout = ATTR_SECONDS;
	} else {
		e.ino = entry_number(parent, name);
		err = e.ino == 0 ? ENOENT : attributes(e.ino, &e.attr);
	}
	if (err != 0)
		ops_error(req, TALLY_lookup, err);
	else if (fuse_reply_entry(req, &e) != 0 && e.ino >= VIEW_MAX && !in_proc(e.ino))
		node_forget(server.files, 1);
}

static char *area_stat_text(const char *name, size_t *len)
{
	char *text = malloc(AREA_TEXT_MAX);
	struct area_use use;
	struct area_info a;
	int err;

	if (text == NULL)
		return NULL;
	err = area_open(server.store->swap_fd, name, &a);
	if (err != 0) {
		free(text);
		errno = -err;
		return NULL;
	}
	*len = (size_t)area_text(&a, name, text, AREA_TEXT_MAX);
	area_close(&a);
	if (areas_look(name, &use)) {
		int n = snprintf(text + *len, AREA_TEXT_MAX - *len,
				 "used: %llu\nfree: %llu\npriority: %d\nprocesses: %u\n%s",
				 (unsigned long long)use.used,
				 (unsigned long long)(use.slots - use.used), use.prio, use.members,
				 use.leaving ? "leaving: yes\n" : "");

		*len += (size_t)n < AREA_TEXT_MAX - *len ? (size_t)n : 0;
	}
	return text;
}

static int open_text(fuse_ino_t ino, struct handle **out)
{
	struct handle *h = handle_new(HANDLE_TEXT, -1);

	errno = ENOMEM;
	if (h == NULL)
		return ENOMEM;
	if (ino == VIEW_STATS)
		h->text = tally_stats(server.store, &h->len);
	else if (ino == VIEW_METRICS)
		h->text = tally_metrics(server.store, &h->len);
	else
		h->text = area_stat_text(area_by_number(ino), &h->len);
	if (h->text == NULL) {
		int err = errno;

		handle_free(h);
		return err;
	}
	*out = h;
	return 0;
}

static int open_area(fuse_ino_t ino, bool writes, struct handle **out)
{
	struct area_use use;
	struct area_info a;
	int err = area_open(server.store->swap_fd, area_by_number(ino), &a);

	if (err != 0)
		return -err;
	/* pages are written to an area that is on, and to what is one */
	if (writes &&
	    (!server.options.page_io || !a.valid || !areas_look(area_by_number(ino), &use))) {
		area_close(&a);
		return EACCES;
	}
	if (writes) {
		char path[64];
		int fd;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", a.fd);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
		if (fd < 0)
			err = errno;
		area_close(&a);
		if (err != 0)
			return err;
		a.fd = fd;
	}
	*out = handle_new(HANDLE_AREA, a.fd);
	if (*out == NULL)
		return ENOMEM;
	(*out)->size = a.valid ? a.slots * STORE_PAGE : a.bytes;
	return 0;
}

/* It reads as nothing. */
static int open_control(struct handle **out)
{
	*out = handle_new(HANDLE_TEXT, -1);
	return *out != NULL ? 0 : ENOMEM;
}

/* True when the write was answered, or will be. */
bool view_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		const struct handle *h)
{
	if (ino == VIEW_CONTROL) {
		control_write(req, buf, size);
	} else if (h->kind != HANDLE_AREA || off < 0 || off % STORE_PAGE != 0 ||
		   size % STORE_PAGE != 0 || (uint64_t)off < STORE_PAGE ||
		   (uint64_t)off + size > h->size) {
		/* the header is nobody's to write, and pages are whole */
		ops_error(req, TALLY_write, h->kind == HANDLE_AREA ? EINVAL : EPERM);
	} else {
		return false;
	}
	return true;
}

bool view_truncates(fuse_ino_t ino)
{
	return ino == VIEW_CONTROL;
}

void view_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	bool is_area = area_by_number(ino) != NULL && !is_stat(ino);
	struct handle *h = NULL;
	int err;

	if (ino == VIEW_CONTROL)
		err = open_control(&h);
	else if ((writes && !is_area) || (fi->flags & O_TRUNC) != 0)
		err = EACCES;
	else if (in_proc(ino))
		err = proc_open(ino, &h);
	else if (ino == VIEW_STATS || ino == VIEW_METRICS ||
		 (area_by_number(ino) != NULL && is_stat(ino)))
		err = open_text(ino, &h);
	else
		err = is_area ? open_area(ino, writes, &h) : ENOENT;
	if (err != 0) {
		ops_error(req, TALLY_open, err);
		return;
	}
	fi->fh = (uintptr_t)h;
	fi->direct_io = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) != 0)
		handle_free(h);
}

/* --- extended attributes of an area: what AREA.stat tells, each by itself --- */

#define XATTR_PREFIX "user.faultline."

/* clang-format off */
static const char *const area_attributes[] = {"state", "slots", "used", "prio"};
/* clang-format on */
#define AREA_ATTRIBUTES (sizeof(area_attributes) / sizeof(area_attributes[0]))

/* One attribute's text; its length, or -errno: -ENODATA when the area does not have it now. */
static int area_attribute(const char *area, unsigned which, char *text, size_t size)
{
	struct area_use use;
	bool have = areas_look(area, &use);
	struct area_info a;
	int err, n;

	if (which >= 2)
		return !have	    ? -ENODATA
		       : which == 2 ? snprintf(text, size, "%llu", (unsigned long long)use.used)
				    : snprintf(text, size, "%d", use.prio);
	err = area_open(server.store->swap_fd, area, &a);
	if (err != 0)
		return err;
	if (which == 0)
		n = snprintf(text, size, "%s",
			     !a.valid		   ? "damaged"
			     : have && use.leaving ? "leaving"
			     : a.on		   ? "on"
						   : "off");
	else
		n = a.valid ? snprintf(text, size, "%llu", (unsigned long long)a.slots) : -ENODATA;
	area_close(&a);
	return n;
}

static void reply_xattr(fuse_req_t req, enum tally_op op, const char *text, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (len > size)
		ops_error(req, op, ERANGE);
	else
		fuse_reply_buf(req, text, len);
}

void view_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	const char *area = is_stat(ino) ? NULL : area_by_number(ino);
	char text[64];
	int n = -ENODATA;

	if (area != NULL && strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) == 0)
		for (unsigned i = 0; i < AREA_ATTRIBUTES; i++)
			if (strcmp(name + strlen(XATTR_PREFIX), area_attributes[i]) == 0)
				n = area_attribute(area, i, text, sizeof(text));
	if (n < 0)
		ops_error(req, TALLY_getxattr, -n);
	else
		reply_xattr(req, TALLY_getxattr, text, (size_t)n, size);
}

void view_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const char *area = is_stat(ino) ? NULL : area_by_number(ino);
	char list[AREA_ATTRIBUTES * 32], text[64];
	size_t len = 0;

	for (unsigned i = 0; area != NULL && i < AREA_ATTRIBUTES; i++)
		if (area_attribute(area, i, text, sizeof(text)) >= 0)
			len += (size_t)snprintf(list + len, sizeof(list) - len, XATTR_PREFIX "%s",
						area_attributes[i]) +
			       1;
	reply_xattr(req, TALLY_listxattr, list, len, size);
}

static void add_name(FILE *f, const char *name)
{
	fwrite(name, strlen(name) + 1, 1, f);
}

static int add_area(const char *name, void *arg)
{
	struct area_info a;
	FILE *f = arg;

	if (area_open(server.store->swap_fd, name, &a) != 0)
		return 0;
	area_close(&a);
	add_name(f, name);
	fprintf(f, "%s" STAT_SUFFIX, name);
	fputc('\0', f);
	return 0;
}

void view_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_new(HANDLE_LIST, -1);
	FILE *f = h != NULL ? open_memstream(&h->text, &h->len) : NULL;
	int err = 0;

	if (f == NULL) {
		if (h != NULL)
			handle_free(h);
		ops_error(req, TALLY_opendir, ENOMEM);
		return;
	}
	add_name(f, ".");
	add_name(f, "..");
	if (ino == VIEW_ROOT) {
		add_name(f, "control");
		add_name(f, "files");
		add_name(f, "metrics");
		add_name(f, "proc");
		add_name(f, "socket");
		add_name(f, "stats");
		add_name(f, "swap");
	} else if (ino == VIEW_SWAP) {
		err = -area_each(server.store->swap_fd, add_area, f);
	} else if (ino == VIEW_PROC || in_proc(ino)) {
		err = proc_list(ino, f);
	}
	if (fclose(f) != 0)
		err = ENOMEM;
	if (err != 0) {
		handle_free(h);
		ops_error(req, TALLY_opendir, err);
		return;
	}
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) != 0)
		handle_free(h);
}

void view_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct handle *h,
		  bool plus)
{
	char *buf = malloc(size);
	size_t len = 0;

	if (buf == NULL) {
		ops_error(req, TALLY_readdir, ENOMEM);
		return;
	}
	while ((size_t)off < h->len) {
		const char *name = h->text + off;
		struct fuse_entry_param e = {.ino = 0};
		off_t next = off + (off_t)strlen(name) + 1;
		size_t used;

		e.attr.st_ino = *name != '.' ? entry_number(ino, name) : 0;
		if (e.attr.st_ino == 0)
			e.attr.st_ino = strcmp(name, "files") == 0 ? server.files->ino : ino;
		if (*name != '.' && in_proc(e.attr.st_ino))
			e.attr.st_mode = proc_type(e.attr.st_ino);
		else
			e.attr.st_mode =
				e.attr.st_ino == VIEW_SOCKET && *name != '.' ? S_IFLNK
				: *name == '.' || (ino == VIEW_ROOT && strcmp(name, "stats") != 0 &&
						   strcmp(name, "metrics") != 0 &&
						   strcmp(name, "control") != 0)
					? S_IFDIR
					: S_IFREG;
		/* No inode: told by name, looked up when it is wanted. */
		used = plus ? fuse_add_direntry_plus(req, buf + len, size - len, name, &e, next)
			    : fuse_add_direntry(req, buf + len, size - len, name, &e.attr, next);
		if (used > size - len)
			break;
		len += used;
		off = next;
	}
	fuse_reply_buf(req, buf, len);
	free(buf);
}
