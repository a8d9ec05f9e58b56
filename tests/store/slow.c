/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * slow.c - a filesystem with one file, each read of which takes until a byte
 * comes through a FIFO: slow GATE BEGUN MNT.
 *
 * A byte is written to the FIFO BEGUN when a read begins.
 *
 * From when somebody opens the file with O_APPEND that is so of everything that is asked, closing
 * included, but for opening it; until an 'e' comes.
 */
#define FUSE_USE_VERSION 314
#include <fuse.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int gate, begun;
static int mute; /* atomic */

/* Not for ever: who waits for us cannot be killed. */
#define MUTE_MS 120000

static void wait_if_mute(void)
{
	struct pollfd open = {.fd = gate, .events = POLLIN};
	char c;

	if (__atomic_load_n(&mute, __ATOMIC_SEQ_CST) &&
	    (poll(&open, 1, MUTE_MS) != 1 || (read(gate, &c, 1) == 1 && c == 'e')))
		__atomic_store_n(&mute, 0, __ATOMIC_SEQ_CST);
}

/* All readers at once. */
static void *slow_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	(void)config;
	conn->max_background = 64;
	return NULL;
}

static int slow_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	wait_if_mute();
	memset(st, 0, sizeof(*st));
	st->st_nlink = 1;
	st->st_mode = strcmp(path, "/") == 0 ? S_IFDIR | 0755 : S_IFREG | 0444;
	st->st_size = 4;
	return strcmp(path, "/") == 0 || strcmp(path, "/file") == 0 ? 0 : -ENOENT;
}

static int slow_open(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1;
	if (fi->flags & O_APPEND)
		__atomic_store_n(&mute, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int slow_flush(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	(void)fi;
	wait_if_mute();
	return 0;
}

static int slow_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	wait_if_mute();
	memset(st, 0, sizeof(*st));
	return 0;
}

static int slow_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	char c;

	(void)path;
	(void)fi;
	if (off != 0 || size < 4)
		return 0;
	if (write(begun, "b", 1) != 1 || read(gate, &c, 1) != 1)
		return -EIO;
	memcpy(buf, "slow", 4);
	return 4;
}

int main(int argc, char **argv)
{
	const struct fuse_operations ops = {
		.init = slow_init,
		.getattr = slow_getattr,
		.open = slow_open,
		.read = slow_read,
		.flush = slow_flush,
		.statfs = slow_statfs,
	};
	char *args[] = {argv[0], (char[]){"-omax_threads=64"}, NULL, NULL};

	if (argc != 4) {
		fputs("usage: slow GATE BEGUN MNT\n", stderr);
		return 2;
	}
	/* For reading and writing: opening waits for nobody. */
	gate = open(argv[1], O_RDWR);
	begun = open(argv[2], O_RDWR);
	if (gate < 0 || begun < 0) {
		perror("slow");
		return 1;
	}
	args[2] = argv[3];
	return fuse_main(3, args, &ops, NULL);
}
