/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ops.c - the kernel's requests: counted, and led to MNT/files or the view.
 *
 * Permissions were checked by the kernel (default_permissions); names come
 * from it and are one component each.
 */
#include "shared.h"
#include "view-proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKGROUND_MAX 256U

void ops_error(fuse_req_t req, enum tally_op op, int err)
{
	tally_add(&tally.errors[op], 1);
	fuse_reply_err(req, err);
}

static void called(enum tally_op op)
{
	tally_add(&tally.calls[op], 1);
}

static bool in_view(fuse_ino_t ino)
{
	return ino < VIEW_MAX || in_proc(ino);
}

static struct node *node_of(fuse_ino_t ino)
{
	return (struct node *)(uintptr_t)ino;
}

/* What the view has is not changed through the mount; true when that was answered. */
static bool refused(fuse_req_t req, enum tally_op op, fuse_ino_t ino)
{
	called(op);
	if (!in_view(ino))
		return false;
	ops_error(req, op, EPERM);
	return true;
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	/*
	 * The host does not take set-id bits away when root writes: the kernel
	 * asks for that.  Data are written from the buffer that they came in.
	 */
	conn->want &=
		~(unsigned)(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_SPLICE_READ |
			    FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_POSIX_LOCKS |
			    FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_WRITEBACK_CACHE);
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	server_ready();
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	called(TALLY_lookup);
	if (in_view(parent))
		view_lookup(req, parent, name);
	else
		files_lookup(req, node_of(parent), name);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	called(TALLY_forget);
	if (!in_view(ino))
		node_forget(node_of(ino), nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	tally_add(&tally.calls[TALLY_forget], count);
	for (size_t i = 0; i < count; i++)
		if (!in_view(forgets[i].ino))
			node_forget(node_of(forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	called(TALLY_getattr);
	if (in_view(ino))
		view_getattr(req, ino);
	else
		files_getattr(req, node_of(ino), fi);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		       struct fuse_file_info *fi)
{
	if (view_truncates(ino) &&
	    (set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME)) == 0) {
		called(TALLY_setattr);
		view_getattr(req, ino);
		return;
	}
	if (!refused(req, TALLY_setattr, ino))
		files_setattr(req, node_of(ino), attr, set, fi);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	called(TALLY_readlink);
	if (in_view(ino))
		view_readlink(req, ino);
	else
		files_readlink(req, node_of(ino));
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	if (!refused(req, TALLY_mknod, parent))
		files_mknod(req, node_of(parent), name, mode, rdev);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	if (!refused(req, TALLY_mkdir, parent))
		files_mkdir(req, node_of(parent), name, mode);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refused(req, TALLY_unlink, parent))
		files_unlink(req, node_of(parent), name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!refused(req, TALLY_rmdir, parent))
		files_unlink(req, node_of(parent), name, AT_REMOVEDIR);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	if (!refused(req, TALLY_symlink, parent))
		files_symlink(req, target, node_of(parent), name);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	if (!refused(req, TALLY_rename, parent)) {
		if (in_view(newparent))
			ops_error(req, TALLY_rename, EPERM);
		else
			files_rename(req, node_of(parent), name, node_of(newparent), newname,
				     flags);
	}
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	if (!refused(req, TALLY_link, ino)) {
		if (in_view(newparent))
			ops_error(req, TALLY_link, EPERM);
		else
			files_link(req, node_of(ino), node_of(newparent), newname);
	}
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	called(TALLY_open);
	if (in_view(ino))
		view_open(req, ino, fi);
	else
		files_open(req, node_of(ino), fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	if (!refused(req, TALLY_create, parent))
		files_create(req, node_of(parent), name, mode, fi);
}

/* From a copy: once the answer is out another worker may release the file. */
static void read_text(fuse_req_t req, const struct handle *h, size_t size, off_t off)
{
	size_t from = (uint64_t)off < h->len ? (size_t)off : h->len;
	char *copy;

	if (size > h->len - from)
		size = h->len - from;
	copy = malloc(size != 0 ? size : 1);
	if (copy == NULL) {
		ops_error(req, TALLY_read, ENOMEM);
		return;
	}
	memcpy(copy, h->text + from, size);
	fuse_reply_buf(req, copy, size);
	free(copy);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	called(TALLY_read);
	if (h->kind == HANDLE_TEXT) {
		read_text(req, h, size, off);
		return;
	}
	if (h->kind == HANDLE_MEM || h->kind == HANDLE_PAGEMAP) {
		proc_read(req, h, size, off);
		return;
	}
	if (h->kind == HANDLE_AREA) {
		uint64_t from = (uint64_t)off < h->size ? (uint64_t)off : h->size;

		if (size > h->size - from)
			size = (size_t)(h->size - from);
	}
	if (h->kind == HANDLE_FILE && shared_read(req, node_of(ino), h->fd, size, off))
		return;
	io_read(req, h->fd, size, off);
}

/*
 * Whether a direct write that appends goes where the kernel says.  A long one comes in parts, all at
 * once and in any order: the place of each is counted from the file's end before the first.  Where
 * others have made the file longer, which the kernel has not heard of, its end is behind all that
 * such parts reach; then the host knows the place.
 *
 * Accepted: parts of a write that comes then lie in the order in which they come.
 */
static bool is_placed(struct node *n, int fd, uint64_t off, uint64_t end)
{
	struct stat st;
	uint64_t placed;

	if (fstat(fd, &st) != 0)
		return false;
	/* after that: who has made it longer said so before */
	placed = __atomic_load_n(&n->placed, __ATOMIC_SEQ_CST);
	if (off < (uint64_t)st.st_size && (uint64_t)st.st_size > placed)
		return false;
	while (placed < end && !__atomic_compare_exchange_n(&n->placed, &placed, end, false,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return true;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	/* What the kernel writes back of a mapping lies where it lies. */
	bool append = (fi->flags & O_APPEND) != 0 && !fi->writepage;
	const bool sync = (fi->flags & (O_SYNC | O_DSYNC)) != 0;

	called(TALLY_write);
	if (in_view(ino)) {
		if (!view_write(req, ino, buf, size, off, handle_of(fi)))
			io_write(req, NULL, handle_of(fi)->fd, buf, size, off, append);
		return;
	}
	if (append && (fi->flags & O_DIRECT) != 0)
		append = !is_placed(node_of(ino), handle_of(fi)->fd, (uint64_t)off,
				    (uint64_t)off + size);
	do {
		if (shared_write(req, node_of(ino), handle_of(fi)->fd, (char *)(uintptr_t)buf, size,
				 off, append, sync ? &handle_of(fi)->heard : NULL))
			return;
	} while (!io_write(req, node_of(ino), handle_of(fi)->fd, buf, size, off, append));
}

/* The host's errors of close(2), those of network filesystems above all. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int err = 0;

	called(TALLY_flush);
	if (!in_view(ino)) {
		int fd = fcntl(h->fd, F_DUPFD_CLOEXEC, 0);

		if (fd < 0 || close(fd) != 0)
			err = errno;
	}
	if (err != 0)
		ops_error(req, TALLY_flush, err);
	else
		fuse_reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	called(TALLY_release);
	handle_free(handle_of(fi));
	fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	int err = in_view(ino) ? 0 : shared_sync(node_of(ino), &handle_of(fi)->heard);

	called(TALLY_fsync);
	/* an error of ours is answered when the host has told what it has to tell of the same bytes */
	if (in_view(ino))
		fuse_reply_err(req, 0);
	else
		io_fsync(req, handle_of(fi)->fd, datasync != 0, TALLY_fsync,
			 err != -ENOENT ? -err : 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	called(TALLY_opendir);
	if (in_view(ino))
		view_opendir(req, ino, fi);
	else
		files_opendir(req, node_of(ino), fi);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct handle *h,
		 bool plus)
{
	called(TALLY_readdir);
	if (h->kind == HANDLE_LIST)
		view_readdir(req, ino, size, off, h, plus);
	else
		files_readdir(req, node_of(ino), size, off, h, plus);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	list(req, ino, size, off, handle_of(fi), false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	list(req, ino, size, off, handle_of(fi), true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	called(TALLY_releasedir);
	handle_free(handle_of(fi));
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	called(TALLY_fsyncdir);
	if (in_view(ino))
		fuse_reply_err(req, 0);
	else
		io_fsync(req, dirfd(handle_of(fi)->dp), datasync != 0, TALLY_fsyncdir, 0);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	called(TALLY_statfs);
	files_statfs(req, in_view(ino) ? server.files : node_of(ino));
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	if (!refused(req, TALLY_setxattr, ino))
		files_setxattr(req, node_of(ino), name, value, size, flags);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	called(TALLY_getxattr);
	if (in_proc(ino))
		proc_getxattr(req, ino, name, size);
	else if (in_view(ino))
		view_getxattr(req, ino, name, size);
	else
		files_getxattr(req, node_of(ino), name, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	called(TALLY_listxattr);
	if (in_proc(ino))
		proc_listxattr(req, ino, size);
	else if (in_view(ino))
		view_listxattr(req, ino, size);
	else
		files_listxattr(req, node_of(ino), size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	if (!refused(req, TALLY_removexattr, ino))
		files_removexattr(req, node_of(ino), name);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct beside beside;

	if (refused(req, TALLY_fallocate, ino))
		return;
	shared_beside(&beside, node_of(ino));
	if (!shared_fallocate(req, node_of(ino), handle_of(fi)->fd, mode, off, len)) {
		if (fallocate(handle_of(fi)->fd, mode, off, len) != 0)
			ops_error(req, TALLY_fallocate, errno);
		/* what a server before us left may be cached by now */
		else if (!shared_fallocate(req, node_of(ino), handle_of(fi)->fd, mode, off, len))
			fuse_reply_err(req, 0);
	}
	shared_beside_end(&beside, NULL, 0, 0);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct beside beside;
	ssize_t n = -1;
	int err = EXDEV; /* The caller reads and writes instead. */

	if (refused(req, TALLY_copy_file_range, ino_out))
		return;
	shared_beside(&beside, node_of(ino_out));
	if (!in_view(ino_in) && !shared_maybe(node_of(ino_in)) && !shared_maybe(node_of(ino_out))) {
		n = copy_file_range(handle_of(fi_in)->fd, &off_in, handle_of(fi_out)->fd, &off_out,
				    len, (unsigned)flags);
		err = errno;
	}
	shared_beside_end(&beside, NULL, 0, 0);
	if (n < 0) {
		ops_error(req, TALLY_copy_file_range, err);
	} else {
		tally_add(&tally.read_bytes, (uint64_t)n);
		tally_add(&tally.written_bytes, (uint64_t)n);
		fuse_reply_write(req, (size_t)n);
	}
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	off_t at;

	called(TALLY_lseek);
	if (in_proc(ino)) {
		proc_lseek(req, handle_of(fi), off, whence);
		return;
	}
	if (in_view(ino)) {
		ops_error(req, TALLY_lseek, EINVAL);
		return;
	}
	/* data that are not written yet may lie where the host has a hole */
	if (whence == SEEK_DATA || whence == SEEK_HOLE)
		shared_sync(node_of(ino), NULL);
	at = lseek(handle_of(fi)->fd, off, whence);
	if (at < 0)
		ops_error(req, TALLY_lseek, errno);
	else
		fuse_reply_lseek(req, at);
}

const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
};
