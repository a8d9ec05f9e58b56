/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * files.c - MNT/files: each operation is done on DIR/files.
 *
 * A name is opened beneath its parent's descriptor, never through a link, so
 * no request can leave DIR/files.  A node's own descriptor is O_PATH; what
 * needs a path or a real descriptor of it goes by /proc/self/fd/N, a string of
 * our making.
 *
 * The kernel has checked permissions before we are asked (default_permissions).
 * When root serves others, what is made is made as the caller: setfsuid(2) and
 * setfsgid(2) of this thread, capabilities kept, since membership in further
 * groups is known to the kernel's check only.
 *
 * Accepted: flock(2) and fcntl(2) locks are kept by the kernel, for all
 * users of the mount; those who open DIR/files directly do not see them.
 * O_DIRECT tells the kernel to keep nothing; the host's page cache is used all
 * the same, so that nothing needs alignment.  A default ACL is applied by the
 * host after the umask, not instead of it.  Device nodes cannot be made.
 */
#include "shared.h"
#include "view-proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_MAX 65536U
#define FMODE_EXEC 0x20 /* the kernel's own: it opens what is to be executed */

struct proc_path {
	char text[32];
};

static struct proc_path proc_path(int fd)
{
	struct proc_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

static int open_beneath(int dir_fd, const char *name, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = (flags & O_CREAT) != 0 ? mode & 07777 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
}

/* One component that is neither the directory itself nor its parent. */
static bool plain_name(const char *name)
{
	return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

/* Who a new file belongs to; to be given back before anything else is done. */
static void act_as(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (server.act_as_caller && (ctx->uid != 0 || ctx->gid != 0)) {
		setfsgid(ctx->gid);
		setfsuid(ctx->uid);
	}
}

static void act_as_self(void)
{
	if (server.act_as_caller) {
		setfsuid(0);
		setfsgid(0);
	}
}

static uintptr_t number(const struct node *n)
{
	return (uintptr_t)n;
}

/* Fill in an entry for an O_PATH descriptor, which is taken over: 0 or an errno. */
static int entry_of(int fd, struct fuse_entry_param *e)
{
	struct node *n;
	int err;

	memset(e, 0, sizeof(*e));
	if (fstatat(fd, "", &e->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0) {
		err = errno;
		close(fd);
		return err;
	}
	n = node_get(fd, &e->attr);
	if (n == NULL)
		return ENOMEM;
	e->ino = number(n);
	e->entry_timeout = ATTR_SECONDS;
	e->attr_timeout = shared_attr(e->attr.st_dev, e->attr.st_ino, &e->attr);
	return 0;
}

static int look_up(const struct node *parent, const char *name, struct fuse_entry_param *e)
{
	int fd;

	if (!plain_name(name))
		return EINVAL;
	fd = open_beneath(parent->fd, name, O_PATH, 0);
	return fd < 0 ? errno : entry_of(fd, e);
}

static void answer_entry(fuse_req_t req, enum tally_op op, int err,
			 const struct fuse_entry_param *e)
{
	if (err != 0)
		ops_error(req, op, err);
	else if (fuse_reply_entry(req, e) != 0)
		/* interrupted: the kernel did not get to know it */
		node_forget((struct node *)(uintptr_t)e->ino, 1);
}

static void answer_err(fuse_req_t req, enum tally_op op, int failed)
{
	if (failed != 0)
		ops_error(req, op, errno);
	else
		fuse_reply_err(req, 0);
}

void files_lookup(fuse_req_t req, struct node *parent, const char *name)
{
	struct fuse_entry_param e;
	int err = look_up(parent, name, &e);

	answer_entry(req, TALLY_lookup, err, &e);
}

static int stat_node(const struct node *n, const struct handle *h, struct stat *st)
{
	if (h != NULL && h->kind == HANDLE_FILE)
		return fstat(h->fd, st);
	return fstatat(n->fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

void files_getattr(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
	struct stat st;

	if (stat_node(n, fi != NULL ? handle_of(fi) : NULL, &st) != 0)
		ops_error(req, TALLY_getattr, errno);
	else
		fuse_reply_attr(req, &st, shared_attr(st.st_dev, st.st_ino, &st));
}

static int set_owner(struct node *n, const struct stat *attr, int set)
{
	uid_t uid = (set & FUSE_SET_ATTR_UID) != 0 ? attr->st_uid : (uid_t)-1;
	gid_t gid = (set & FUSE_SET_ATTR_GID) != 0 ? attr->st_gid : (gid_t)-1;

	return fchownat(n->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/* To write what is stored changes a file's time: what was stored before this one is set, before it. */
static int set_times(struct node *n, const struct stat *attr, int set)
{
	struct timespec tv[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	/* cut as well: both are of this moment */
	if ((set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0 &&
	    (set & FUSE_SET_ATTR_SIZE) == 0)
		shared_clean(n);
	if ((set & FUSE_SET_ATTR_ATIME_NOW) != 0)
		tv[0].tv_nsec = UTIME_NOW;
	else if ((set & FUSE_SET_ATTR_ATIME) != 0)
		tv[0] = attr->st_atim;
	if ((set & FUSE_SET_ATTR_MTIME_NOW) != 0)
		tv[1].tv_nsec = UTIME_NOW;
	else if ((set & FUSE_SET_ATTR_MTIME) != 0)
		tv[1] = attr->st_mtim;
	return utimensat(n->fd, "", tv, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/* truncate(2) of what others have mapped, or may map meanwhile: -1 and errno. */
static int set_size(struct node *n, const struct handle *h, off_t size)
{
	struct proc_path p = proc_path(n->fd);
	int fd = h != NULL ? h->fd : -1, err = -ENOENT;
	struct beside beside;

	__atomic_store_n(&n->placed, 0, __ATOMIC_SEQ_CST);
	shared_beside(&beside, n);
	if (shared_maybe(n)) {
		if (fd < 0)
			fd = open(p.text, O_WRONLY | O_CLOEXEC);
		err = fd >= 0 ? shared_truncate(n, fd, size) : -errno;
		if (h == NULL && fd >= 0)
			close(fd);
	}
	if (err == -ENOENT) {
		err = h != NULL ? ftruncate(h->fd, size) : truncate(p.text, size);
		err = err != 0 ? -errno : 0;
	}
	shared_beside_end(&beside, NULL, 0, 0);
	errno = -err;
	return err != 0 ? -1 : 0;
}

/* What changes the mode comes last: a change of owner takes bits of it away. */
static int set_all(struct node *n, const struct handle *h, const struct stat *attr, int set)
{
	struct proc_path p = proc_path(n->fd);

	if (h != NULL && h->kind != HANDLE_FILE)
		h = NULL;
	if ((set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0 && set_owner(n, attr, set) != 0)
		return -1;
	if ((set & FUSE_SET_ATTR_SIZE) != 0 && set_size(n, h, attr->st_size) != 0)
		return -1;
	if ((set & FUSE_SET_ATTR_MODE) != 0) {
		if (S_ISLNK(n->type)) {
			errno = EOPNOTSUPP;
			return -1;
		}
		if (chmod(p.text, attr->st_mode & 07777) != 0)
			return -1;
	}
	if ((set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
		    FUSE_SET_ATTR_MTIME_NOW)) != 0)
		return set_times(n, attr, set);
	return 0;
}

void files_setattr(fuse_req_t req, struct node *n, struct stat *attr, int set,
		   struct fuse_file_info *fi)
{
	struct stat st;
	struct handle *h = fi != NULL ? handle_of(fi) : NULL;

	if (set_all(n, h, attr, set) != 0 || stat_node(n, h, &st) != 0)
		ops_error(req, TALLY_setattr, errno);
	else
		fuse_reply_attr(req, &st, shared_attr(st.st_dev, st.st_ino, &st));
}

void files_readlink(fuse_req_t req, struct node *n)
{
	char target[PATH_MAX + 1];
	ssize_t len = readlinkat(n->fd, "", target, sizeof(target));

	if (len < 0) {
		ops_error(req, TALLY_readlink, errno);
	} else if (len == (ssize_t)sizeof(target)) {
		ops_error(req, TALLY_readlink, ENAMETOOLONG);
	} else {
		target[len] = '\0';
		fuse_reply_readlink(req, target);
	}
}

/* After something was made: `failed` as its call said, look it up and answer. */
static void answer_made(fuse_req_t req, enum tally_op op, struct node *parent, const char *name,
			int failed)
{
	struct fuse_entry_param e;
	int err = failed != 0 ? errno : 0;

	act_as_self();
	if (err == 0)
		err = look_up(parent, name, &e);
	answer_entry(req, op, err, &e);
}

void files_mknod(fuse_req_t req, struct node *parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!plain_name(name)) {
		ops_error(req, TALLY_mknod, EINVAL);
		return;
	}
	act_as(req);
	answer_made(req, TALLY_mknod, parent, name, mknodat(parent->fd, name, mode, rdev));
}

void files_mkdir(fuse_req_t req, struct node *parent, const char *name, mode_t mode)
{
	if (!plain_name(name)) {
		ops_error(req, TALLY_mkdir, EINVAL);
		return;
	}
	act_as(req);
	answer_made(req, TALLY_mkdir, parent, name, mkdirat(parent->fd, name, mode));
}

void files_symlink(fuse_req_t req, const char *target, struct node *parent, const char *name)
{
	if (!plain_name(name)) {
		ops_error(req, TALLY_symlink, EINVAL);
		return;
	}
	act_as(req);
	answer_made(req, TALLY_symlink, parent, name, symlinkat(target, parent->fd, name));
}

void files_unlink(fuse_req_t req, struct node *parent, const char *name, int flags)
{
	enum tally_op op = flags == AT_REMOVEDIR ? TALLY_rmdir : TALLY_unlink;

	if (!plain_name(name))
		ops_error(req, op, EINVAL);
	else
		answer_err(req, op, unlinkat(parent->fd, name, flags));
}

void files_rename(fuse_req_t req, struct node *from, const char *name, struct node *to,
		  const char *newname, unsigned flags)
{
	if (!plain_name(name) || !plain_name(newname))
		ops_error(req, TALLY_rename, EINVAL);
	else
		answer_err(req, TALLY_rename,
			   (int)syscall(SYS_renameat2, from->fd, name, to->fd, newname, flags));
}

void files_link(fuse_req_t req, struct node *n, struct node *parent, const char *name)
{
	struct proc_path p = proc_path(n->fd);
	int failed;

	if (!plain_name(name)) {
		ops_error(req, TALLY_link, EINVAL);
		return;
	}
	failed = linkat(AT_FDCWD, p.text, parent->fd, name, AT_SYMLINK_FOLLOW);
	answer_made(req, TALLY_link, parent, name, failed);
}

/* What the backing file is opened with, of what the caller asked for. */
static int open_flags(int flags)
{
	return flags & (O_ACCMODE | O_TRUNC | O_CREAT | O_EXCL | O_SYNC | O_DSYNC | O_NOATIME);
}

static void set_file(struct fuse_file_info *fi, const struct node *n, struct handle *h)
{
	h->heard = shared_heard(n, h->fd);
	fi->fh = (uintptr_t)h;
	fi->direct_io = server.options.direct;
	/*
	 * Without an error to tell, closing asks us nothing.  A descriptor of the
	 * mount's that we were sent (shared.c) is closed by the kernel when we are
	 * killed, before it knows that nobody will answer.
	 */
	fi->noflush = !server.late_errors || (fi->flags & WIRE_OPENS_AGAIN) == WIRE_OPENS_AGAIN;
}

/* open(2) with O_TRUNC of what others have mapped, or may map meanwhile: -1 and errno. */
static int open_and_cut(struct node *n, int flags)
{
	struct proc_path p = proc_path(n->fd);
	struct beside beside;
	int fd = -1, err;

	__atomic_store_n(&n->placed, 0, __ATOMIC_SEQ_CST);
	shared_beside(&beside, n);
	if (!shared_maybe(n))
		fd = open(p.text, flags);
	else if (set_size(n, NULL, 0) == 0)
		fd = open(p.text, flags & ~O_TRUNC);
	err = errno;
	shared_beside_end(&beside, NULL, 0, 0);
	errno = err;
	return fd;
}

void files_open(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
	struct proc_path p = proc_path(n->fd);
	struct handle *h;
	int fd, flags;

	/* The kernel opens all others itself, and opening them can have effects. */
	if (!S_ISREG(n->type)) {
		ops_error(req, TALLY_open, S_ISDIR(n->type) ? EISDIR : ENXIO);
		return;
	}
	/* of descriptors that are open for writing the kernel knows */
	if ((fi->flags & FMODE_EXEC) != 0 && shared_is_stored_to(n)) {
		ops_error(req, TALLY_open, ETXTBSY);
		return;
	}
	flags = (open_flags(fi->flags) & ~(O_CREAT | O_EXCL)) | O_CLOEXEC;
	fd = (flags & O_TRUNC) != 0 ? open_and_cut(n, flags) : open(p.text, flags);
	if (fd < 0) {
		ops_error(req, TALLY_open, errno);
		return;
	}
	h = handle_new(HANDLE_FILE, fd);
	if (h == NULL) {
		ops_error(req, TALLY_open, ENOMEM);
		return;
	}
	set_file(fi, n, h);
	if (fuse_reply_open(req, fi) != 0)
		handle_free(h);
}

void files_create(fuse_req_t req, struct node *parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct handle *h;
	struct stat st;
	int fd, err = 0;

	if (!plain_name(name)) {
		ops_error(req, TALLY_create, EINVAL);
		return;
	}
	act_as(req);
	/* What came in between may be no file: opening must have no effects. */
	fd = open_beneath(parent->fd, name, open_flags(fi->flags) | O_CREAT | O_NONBLOCK, mode);
	if (fd < 0)
		err = errno;
	act_as_self();
	if (err != 0) {
		ops_error(req, TALLY_create, err);
		return;
	}
	h = handle_new(HANDLE_FILE, fd);
	if (h == NULL) {
		err = ENOMEM;
	} else if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
		   fcntl(fd, F_SETFL, open_flags(fi->flags) & (O_SYNC | O_DSYNC | O_NOATIME)) !=
			   0) {
		err = ENXIO;
	} else {
		struct proc_path p = proc_path(fd);
		int path_fd = open(p.text, O_PATH | O_CLOEXEC);

		err = path_fd < 0 ? errno : entry_of(path_fd, &e);
	}
	if (err != 0) {
		if (h != NULL)
			handle_free(h);
		ops_error(req, TALLY_create, err);
		return;
	}
	set_file(fi, (const struct node *)(uintptr_t)e.ino, h);
	/* what others had made meanwhile, and was cut, may be mapped by now */
	if ((fi->flags & O_TRUNC) != 0)
		shared_look((const struct node *)(uintptr_t)e.ino);
	if (fuse_reply_create(req, &e, fi) != 0) {
		handle_free(h);
		node_forget((struct node *)(uintptr_t)e.ino, 1);
	}
}

void files_opendir(fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
	int fd = open_beneath(n->fd, ".", O_RDONLY | O_DIRECTORY, 0);
	struct handle *h;

	if (fd < 0) {
		ops_error(req, TALLY_opendir, errno);
		return;
	}
	h = handle_new(HANDLE_DIR, -1);
	if (h != NULL)
		h->dp = fdopendir(fd);
	if (h == NULL || h->dp == NULL) {
		close(fd);
		if (h != NULL)
			handle_free(h);
		ops_error(req, TALLY_opendir, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) != 0)
		handle_free(h);
}

/* Add one entry to the answer; false when it does not fit. */
static bool add_entry(fuse_req_t req, struct node *n, const struct dirent *d, bool plus, char *buf,
		      size_t room, size_t *used)
{
	struct fuse_entry_param e = {
		.attr = {.st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12},
	};

	if (!plus) {
		*used = fuse_add_direntry(req, buf, room, d->d_name, &e.attr, d->d_off);
		return *used <= room;
	}
	/* Looked up only when it fits: a lookup that is not told would be lost. */
	if (fuse_add_direntry_plus(req, NULL, 0, d->d_name, NULL, 0) > room)
		return false;
	if (plain_name(d->d_name) && look_up(n, d->d_name, &e) != 0) {
		/* It has gone, or cannot be looked at: told by name alone. */
		memset(&e, 0, sizeof(e));
		e.attr.st_ino = d->d_ino;
		e.attr.st_mode = (mode_t)d->d_type << 12;
	}
	*used = fuse_add_direntry_plus(req, buf, room, d->d_name, &e, d->d_off);
	return true;
}

void files_readdir(fuse_req_t req, struct node *n, size_t size, off_t off, struct handle *h,
		   bool plus)
{
	char *buf = malloc(size);
	size_t len = 0, used;
	int err = 0;

	if (buf == NULL) {
		ops_error(req, TALLY_readdir, ENOMEM);
		return;
	}
	pthread_mutex_lock(&h->lock);
	if (off != h->pos) {
		seekdir(h->dp, off);
		h->entry = NULL;
		h->pos = off;
	}
	for (;;) {
		if (h->entry == NULL) {
			errno = 0;
			h->entry = readdir(h->dp);
			if (h->entry == NULL) {
				err = errno;
				break;
			}
		}
		if (!add_entry(req, n, h->entry, plus, buf + len, size - len, &used))
			break;
		len += used;
		h->pos = h->entry->d_off;
		h->entry = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	/* What was looked up has to be told; the error comes again. */
	if (err != 0 && len == 0)
		ops_error(req, TALLY_readdir, err);
	else
		fuse_reply_buf(req, buf, len);
	free(buf);
}

void files_statfs(fuse_req_t req, struct node *n)
{
	struct statvfs st;

	if (fstatvfs(n->fd, &st) != 0)
		ops_error(req, TALLY_statfs, errno);
	else
		fuse_reply_statfs(req, &st);
}

void files_setxattr(fuse_req_t req, struct node *n, const char *name, const char *value,
		    size_t size, int flags)
{
	answer_err(req, TALLY_setxattr, setxattr(proc_path(n->fd).text, name, value, size, flags));
}

void files_removexattr(fuse_req_t req, struct node *n, const char *name)
{
	answer_err(req, TALLY_removexattr, removexattr(proc_path(n->fd).text, name));
}

/* Both kinds of reading: size 0 asks for the size that is needed. */
static void answer_xattr(fuse_req_t req, enum tally_op op, struct node *n, const char *name,
			 size_t size)
{
	struct proc_path p = proc_path(n->fd);
	char *buf = NULL;
	ssize_t r;

	if (size > XATTR_MAX)
		size = XATTR_MAX;
	if (size != 0) {
		buf = malloc(size);
		if (buf == NULL) {
			ops_error(req, op, ENOMEM);
			return;
		}
	}
	r = name != NULL ? getxattr(p.text, name, buf, size) : listxattr(p.text, buf, size);
	if (r < 0)
		ops_error(req, op, errno);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)r);
	else
		fuse_reply_buf(req, buf, (size_t)r);
	free(buf);
}

void files_getxattr(fuse_req_t req, struct node *n, const char *name, size_t size)
{
	answer_xattr(req, TALLY_getxattr, n, name, size);
}

void files_listxattr(fuse_req_t req, struct node *n, size_t size)
{
	answer_xattr(req, TALLY_listxattr, n, NULL, size);
}

struct handle *handle_new(int kind, int fd)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (h == NULL) {
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	h->kind = kind;
	h->fd = fd;
	pthread_mutex_init(&h->lock, NULL);
	tally_add(&tally.handles, 1);
	return h;
}

void handle_free(struct handle *h)
{
	if (__atomic_sub_fetch(&tally.handles, 1, __ATOMIC_SEQ_CST) == 0)
		server_none_open();
	if (h->fd >= 0)
		close(h->fd);
	proc_free(h);
	if (h->dp != NULL)
		closedir(h->dp);
	pthread_mutex_destroy(&h->lock);
	free(h->text);
	free(h);
}
