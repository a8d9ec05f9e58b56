/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * view-proc.h - MNT/proc: the store's clients, and their memory.
 *
 * Its inode numbers have the highest bit, which no node's address has: process,
 * kind of file, and for a region's its first page.  Nothing is kept for
 * them.
 */
#ifndef FL_VIEW_PROC_H
#define FL_VIEW_PROC_H

#include "server.h"

#define PROC_INO ((fuse_ino_t)1 << 63)

static inline bool in_proc(fuse_ino_t ino)
{
	return (ino & PROC_INO) != 0;
}

/* A name in MNT/proc itself (parent is not in_proc()), or below: its number, or 0. */
fuse_ino_t proc_number(fuse_ino_t parent, const char *name);
/* 0 or an errno, as all below. */
int proc_attributes(fuse_ino_t ino, struct stat *st);
mode_t proc_type(fuse_ino_t ino);
/* Names, each with its terminator. */
int proc_list(fuse_ino_t ino, FILE *f);
int proc_open(fuse_ino_t ino, struct handle **out);
void proc_free(struct handle *h); /* what proc_open() gave a handle of any kind */
void proc_read(fuse_req_t req, struct handle *h, size_t size, off_t off);
void proc_lseek(fuse_req_t req, struct handle *h, off_t off, int whence);
/* user.faultline.NAME is NAME's value in status. */
void proc_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void proc_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

/* What tally.c tells of processes. */
void proc_stats(FILE *f);
void proc_metrics(FILE *f);

#endif
