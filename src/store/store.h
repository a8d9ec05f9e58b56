/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store.h - a store as a directory: what it holds, and the checks of it.
 *
 * A store is a directory of the host with
 *
 *	version   "faultline store 1"; written last, so that what has it is whole
 *	lock      flock(2)ed by the server for as long as it serves;
 *		  holds the server's process number and its mount point
 *	swap/     swap areas: preallocated files, or links to block devices
 *	files/    ordinary files
 *	socket    where the server listens to clients, while it serves
 *
 * Functions return 0 or -errno, with one line for people in a struct why.
 */
#ifndef FL_STORE_H
#define FL_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define STORE_PAGE 4096U
#define STORE_FSTYPE "fuse.faultline"
#define STORE_SOCKET "socket"

struct why {
	char text[2 * PATH_MAX];
};

/* Store the line and hand the error on. */
int why_set(struct why *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

struct store {
	char dir[PATH_MAX]; /* absolute, without links */
	int dir_fd;
	int swap_fd;
	int files_fd;
	int lock_fd; /* -1 unless locked by us */
};

/* Make `path` a store: a directory that is empty or not there yet. */
int store_init(const char *path, struct why *why);
/* Open what is there; nothing is kept after a failure. */
int store_open(struct store *s, const char *path, struct why *why);
void store_close(struct store *s);
/* Become its only server: -EBUSY while another is. */
int store_lock(struct store *s, struct why *why);
/* Tell in the lock who serves it and where. */
int store_lock_note(struct store *s, pid_t pid, const char *mnt, struct why *why);
/*
 * What the lock's holder told: true while there is one.  mnt is a buffer of
 * PATH_MAX, and empty when it was not told.
 */
bool store_served(const struct store *s, pid_t *pid, char *mnt);
/* One line on `out` a problem; their number, or -errno when it cannot be told. */
int store_check(const char *path, FILE *out, struct why *why);

/* One entry of swap/. */
struct area_info {
	int fd; /* O_RDONLY, -1 where it could not be opened */
	bool device;
	bool on;	 /* some process has it locked */
	bool valid;	 /* the header is whole and fits the size */
	char damage[96]; /* what is wrong with it otherwise */
	uint64_t bytes;	 /* of the file or device */
	uint64_t slots;	 /* as in the header, its page included */
	uint32_t version;
	uint32_t page_size;
	uint8_t uuid[16];
	dev_t dev; /* of the file or the device's node */
	ino_t ino;
	int64_t mtime;
	uint64_t allocated; /* bytes that a file has on its filesystem */
};

/* False for what no area is called: hidden files, and what AREA.stat needs. */
bool area_name(const char *name);
/* 0, or -errno: -EINVAL when it is no file or link to a block device. */
int area_open(int swap_fd, const char *name, struct area_info *a);
void area_close(struct area_info *a);
/* AREA.stat's text; the length that it has. */
int area_text(const struct area_info *a, const char *name, char *text, size_t size);
/* Call fn for each entry of swap/ that area_name() allows, in no order; stops when fn is not 0. */
int area_each(int swap_fd, int (*fn)(const char *name, void *arg), void *arg);

#endif
