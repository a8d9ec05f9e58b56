/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * peek.h - another process's managed memory, read while it runs.
 *
 * Everything is read through descriptors of the process's /proc/PID/mem and
 * /proc/PID/pagemap.  Such a read does not wait for the process's pagers (a page that is not
 * there is EIO) and takes no lock of ours, so the process is neither stopped
 * nor made to fault; one that is stopped is read as well.
 *
 * What the process says of itself is not trusted: addresses and counts are
 * bounded, as is every loop, and what makes no sense is -EIO.  A process that is
 * gone is -ESRCH.
 *
 * The functions keep nothing in struct peek, so any number of threads may use one.
 */
#ifndef FL_PEEK_H
#define FL_PEEK_H

#include "faultline.h"
#include "mm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Addresses are below it. */
#define PEEK_END ((uint64_t)1 << 47)

/* Most pages of one call of peek_entries(), peek_tell() and peek_read(). */
#define PEEK_PAGES 256U

/* An area of the process. */
struct peek_area {
	char path[256];	 /* as it was named */
	uint64_t device; /* of the file; of a device its own number */
	uint64_t inode;	 /* 0: a device */
	int fd;		 /* the process's, on its pagers */
	uint64_t io_errors, bad_slots;
	uint64_t slots; /* at most */
};

/* Where pages of a mapped file are, that are not in the process. */
enum peek_part {
	PEEK_CACHED, /* in its own page cache's memfd */
	PEEK_STORED, /* in the file */
	PEEK_SERVED, /* in one of these, which the store's server knows */
};

struct peek {
	int mem_fd;
	int pagemap_fd; /* -1: none */
	struct published at;
	/*
	 * For peek_read(): the bytes of n slots of an area; how many were read, at least
	 * 1, or -errno.  What was read ahead will do, unless `again`.
	 */
	int (*slots)(void *arg, unsigned area, uint32_t slot, unsigned n, char *buf, bool again);
	/*
	 * The same for n pages of what is behind a mapped file, from `page` on; 0: the first
	 * one lies beyond the file's end.  NULL: none can be read.
	 */
	int (*file)(void *arg, uint64_t backing, enum peek_part part, uint64_t page, unsigned n,
		    char *buf);
	void *arg;
	unsigned
		passes; /* in which a page on the move is looked for; 0: what takes about a second */
};

struct peek_region {
	uint64_t start, end;
	int prot;
	uint32_t flags; /* REGION_... */
	bool file;	/* it maps a file: where it has no entry its pages are the file's, */
	uint64_t backing, delta; /* this one's; page n of the address space is its n + delta */
};

/*
 * The format of MNT/proc/PID/pagemap: the low byte is that of fl_page_state(3).
 * PEEK_SLOT is valid with FL_PAGE_HAS_SLOT.
 */
#define PEEK_KIND(e) FL_PAGE_KIND(e)
#define PEEK_YOUNG ((uint64_t)1 << 8)
#define PEEK_AREA(e) ((unsigned)((e) >> 48) & 31U)
#define PEEK_SLOT(e) ((uint32_t)((e) >> 16))
#define PEEK_WHERE_SHIFT 16

/* 0; -ESRCH; -EPROTO: of another build; -EIO: there is nothing. */
int peek_open(struct peek *p, int mem_fd, int pagemap_fd, uint64_t address);

/*
 * The runtimes of a process by its list of mappings (text of /proc/PID/maps):
 * how many there are; the addresses of the first `max`.
 */
unsigned peek_find(int mem_fd, FILE *maps, uint64_t *address, unsigned max);

/* The first region that ends above addr: 1, 0 when there is none, or -errno. */
int peek_region(const struct peek *p, uint64_t addr, struct peek_region *out);

/* Page entries of [vpn, vpn + n), n at most PEEK_PAGES. */
int peek_entries(const struct peek *p, vpn_t vpn, unsigned n, pte_t *out);

/*
 * The first page in [*vpn, end) that has an entry, or end, or where a very long
 * search was given up; 0 or -errno.
 */
int peek_touched(const struct peek *p, vpn_t *vpn, vpn_t end);

/* 1 once the process pages; -errno. */
int peek_armed(const struct peek *p);

/* The pages of a region, in the format above; `word` gets words of FILLED pages unless NULL. */
int peek_tell(const struct peek *p, const struct peek_region *r, vpn_t vpn, unsigned n,
	      uint64_t *out, uint64_t *word);

/*
 * The bytes of n pages, n at most PEEK_PAGES, buf aligned to a page; what no
 * region holds reads as zeros.  Each byte is one that the page had at some moment of the
 * call.  How many pages were read, at least 1, or -errno: -EIO for a page that
 * is lost, or whose slot or file cannot be read, or beyond its file's end.
 */
int peek_read(const struct peek *p, vpn_t vpn, unsigned n, char *buf);

/* Counters, as fl_stats(3); *latency_ns gets the sum of what its histogram counts, unless NULL. */
int peek_stats(const struct peek *p, struct fl_stats *out, uint64_t *latency_ns);

/* Area number `index`: 0, -ENOENT when there is none, or -errno. */
int peek_area(const struct peek *p, unsigned index, struct peek_area *out);

/* Where a snapshot is asked for; its length is 0 where that cannot be. */
int peek_port(const struct peek *p, struct snapshot_port *out);

/* The thread number of a pager, for /proc/PID/task/TID; 0: none, or -errno. */
int peek_pager(const struct peek *p);

#endif
