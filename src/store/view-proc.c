/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * view-proc.c - MNT/proc; see view-proc.h.
 *
 * Everything is read from the client's memory (peek.h) by the worker that has
 * the request, at the time of the request: texts at open, mem and pagemap at
 * read.
 *
 * A client's memory may be such that reading it takes for ever (a mapping of a
 * filesystem that does not answer), so only PEEKS_MAX of the workers read
 * clients at a time; others wait for a quarter of a second and are then EBUSY.
 *
 * mem is read ahead: who reads slots one after the other gets them from windows
 * that the ring fills meanwhile.  What they hold may have become old; peek_read()
 * finds out by the checksum, and asks again for what is there now.
 *
 * Locks: a watch's, of its areas and windows; none is taken with it but the
 * ring's.
 */
#include "view-proc.h"

#include "clients.h"
#include "mapped.h"
#include "peek-text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PEEKS_MAX 6U
#define PEEK_WAITS 250U
#define PEEK_WAIT_NS 1000000L
#define WINDOW_SLOTS 256U
#define WINDOW_BYTES (WINDOW_SLOTS * PAGE_SIZE)
#define WINDOWS 2U
#define HOLE_CHUNKS 65536U
#define SEEK_REGIONS 65536U
#define TEXTS_MAX ((uint64_t)1 << 30) /* bytes of texts that are open */
#define XATTR_PREFIX "user.faultline."

typedef unsigned long long ull;

/* ---- names and numbers ---- */

enum kind {
	KIND_DIR, /* PID */
	KIND_STATUS,
	KIND_MAPS,
	KIND_PAGEMAP,
	KIND_MEM,
	KIND_PAGES,  /* the directory */
	KIND_REGION, /* a file in it */
	KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {
	[KIND_STATUS] = "status", [KIND_MAPS] = "maps",	  [KIND_PAGEMAP] = "pagemap",
	[KIND_MEM] = "mem",	  [KIND_PAGES] = "pages",
};

#define KIND_SHIFT 60
#define PID_SHIFT 38
#define PID_MASK 0x3fffffU
#define NR_SHIFT 35
#define VPN_MASK (((fuse_ino_t)1 << NR_SHIFT) - 1)

/* A runtime of a process. */
struct who {
	pid_t pid;
	unsigned nr;
};

static fuse_ino_t number(struct who who, enum kind kind, vpn_t vpn)
{
	return PROC_INO | (fuse_ino_t)kind << KIND_SHIFT |
	       (fuse_ino_t)((unsigned)who.pid & PID_MASK) << PID_SHIFT |
	       (fuse_ino_t)(who.nr - 1) << NR_SHIFT | (vpn & VPN_MASK);
}

static enum kind kind_of(fuse_ino_t ino)
{
	return (enum kind)(ino >> KIND_SHIFT & 7);
}

static struct who who_of(fuse_ino_t ino)
{
	return (struct who){.pid = (pid_t)(ino >> PID_SHIFT & PID_MASK),
			    .nr = (unsigned)(ino >> NR_SHIFT & (CLIENT_RUNTIMES - 1)) + 1};
}

/* ---- a client's memory, held open ---- */

struct window {
	struct watch *watch;
	int fd;
	uint64_t slot; /* the first */
	unsigned n;    /* read, or on their way */
	bool reading;
	char *bytes;
};

struct watch {
	struct client *client;
	struct peek peek;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t read;  /* a window was */
	struct window window[WINDOWS];
	int fd;	       /* where a reader who goes on would, */
	uint64_t slot; /* and at which slot */
	unsigned nareas;
	struct {
		uint64_t device, inode;
		int fd; /* or -errno */
	} area[2 * FL_SWAP_MAX];
};

static unsigned peeking; /* atomic */

static int peek_enter(void)
{
	const struct timespec pause = {.tv_nsec = PEEK_WAIT_NS};

	for (unsigned i = 0; i < PEEK_WAITS; i++) {
		if (__atomic_fetch_add(&peeking, 1, __ATOMIC_RELAXED) < PEEKS_MAX)
			return 0;
		__atomic_fetch_sub(&peeking, 1, __ATOMIC_RELAXED);
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return EBUSY;
}

static void peek_leave(void)
{
	__atomic_fetch_sub(&peeking, 1, __ATOMIC_RELAXED);
}

/* Look for an area among those of the store. */
struct search {
	uint64_t device, inode;
	int fd;
};

static int is_that(const char *name, void *arg)
{
	struct search *s = arg;
	struct area_info a;
	struct stat st;

	if (area_open(server.store->swap_fd, name, &a) != 0)
		return 0;
	if (fstat(a.fd, &st) == 0 &&
	    (S_ISBLK(st.st_mode) ? st.st_rdev == s->device && s->inode == 0
				 : st.st_dev == s->device && st.st_ino == s->inode)) {
		s->fd = a.fd;
		return 1;
	}
	area_close(&a);
	return 0;
}

/*
 * An area of the process's own.  Only what it has open itself, and only for a
 * server that is no more privileged than it.
 */
static int own_area(const struct watch *w, const struct peek_area *a)
{
	char path[96];
	struct stat st;
	int fd, tid = peek_pager(&w->peek);

	if (tid <= 0 || a->fd < 0 || geteuid() != w->client->uid)
		return -EIO;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", (int)w->client->pid, tid, a->fd);
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EIO;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	tid = open(path, O_RDONLY | O_CLOEXEC);
	if (tid < 0)
		tid = -errno;
	close(fd);
	return tid;
}

static int open_bytes(const struct watch *w, const struct peek_area *a)
{
	struct search s = {.device = a->device, .inode = a->inode, .fd = -1};
	struct area_info named;
	int flags;

	/* An area that the store gave is known by its name in swap/, others by what they are. */
	if (strchr(a->path, '/') == NULL && area_open(server.store->swap_fd, a->path, &named) == 0)
		s.fd = named.fd;
	else if (area_each(server.store->swap_fd, is_that, &s) != 1)
		s.fd = own_area(w, a);
	if (s.fd < 0)
		return s.fd;
	/* What clients write goes past the host's cache; where that is not possible, for them neither. */
	flags = fcntl(s.fd, F_GETFL);
	if (flags >= 0 && fcntl(s.fd, F_SETFL, flags | O_DIRECT) != 0)
		errno = 0;
	return s.fd;
}

/* A descriptor of an area's bytes, or -errno. */
static int watch_area(struct watch *w, unsigned index)
{
	struct peek_area a;
	int fd = peek_area(&w->peek, index, &a);
	unsigned i;

	if (fd != 0)
		return fd;
	pthread_mutex_lock(&w->lock);
	for (i = 0; i < w->nareas; i++)
		if (w->area[i].device == a.device && w->area[i].inode == a.inode)
			break;
	if (i == w->nareas && i < 2 * FL_SWAP_MAX) {
		w->area[i].device = a.device;
		w->area[i].inode = a.inode;
		w->area[i].fd = open_bytes(w, &a);
		w->nareas++;
	}
	fd = i < w->nareas ? w->area[i].fd : -EMFILE;
	pthread_mutex_unlock(&w->lock);
	return fd;
}

/* ---- slots, read ahead ---- */

static void window_read(void *arg, int res)
{
	struct window *v = arg;

	pthread_mutex_lock(&v->watch->lock);
	v->n = res > 0 ? (unsigned)res / PAGE_SIZE : 0;
	v->reading = false;
	pthread_cond_broadcast(&v->watch->read);
	pthread_mutex_unlock(&v->watch->lock);
}

/* The lock is held.  NULL: no window has the slot. */
static struct window *window_find(struct watch *w, int fd, uint64_t slot)
{
	for (unsigned i = 0; i < WINDOWS; i++) {
		struct window *v = &w->window[i];

		if (v->n != 0 && v->fd == fd && slot >= v->slot && slot - v->slot < v->n)
			return v;
	}
	return NULL;
}

/* The lock is held.  Fill a window that is not `keep`. */
static void window_start(struct watch *w, const struct window *keep, int fd, uint64_t slot)
{
	struct window *v = &w->window[keep == &w->window[0]];

	if (v->reading)
		return;
	if (v->bytes == NULL) {
		void *p = mmap(NULL, WINDOW_BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return;
		v->bytes = p;
	}
	*v = (struct window){.watch = w,
			     .fd = fd,
			     .slot = slot,
			     .n = WINDOW_SLOTS,
			     .reading = true,
			     .bytes = v->bytes};
	if (io_ahead(fd, v->bytes, WINDOW_BYTES, (off_t)(slot * PAGE_SIZE), window_read, v) != 0) {
		v->reading = false;
		v->n = 0;
	}
}

/* From a window, which is waited for; how many slots, 0: none has it. */
static unsigned window_take(struct watch *w, int fd, uint64_t slot, unsigned n, char *buf)
{
	struct window *v = window_find(w, fd, slot);

	if (v == NULL && fd == w->fd && slot == w->slot) {
		window_start(w, NULL, fd, slot);
		v = window_find(w, fd, slot);
	}
	while (v != NULL && v->reading)
		pthread_cond_wait(&w->read, &w->lock);
	/* it may have been filled with something else, or with less */
	if (v == NULL || v != window_find(w, fd, slot))
		return 0;
	if (v->slot + v->n - slot < n)
		n = (unsigned)(v->slot + v->n - slot);
	memcpy(buf, v->bytes + (slot - v->slot) * PAGE_SIZE, n * PAGE_SIZE);
	if (v->n == WINDOW_SLOTS && window_find(w, fd, v->slot + v->n) == NULL)
		window_start(w, v, fd, v->slot + v->n);
	return n;
}

/* The callback of peek_read(). */
static int watch_slots(void *arg, unsigned area, uint32_t slot, unsigned n, char *buf, bool again)
{
	struct watch *w = arg;
	int fd = watch_area(w, area);
	unsigned taken = 0;
	ssize_t got;

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&w->lock);
	if (!again)
		taken = window_take(w, fd, slot, n, buf);
	w->fd = fd;
	w->slot = (uint64_t)slot + (taken != 0 ? taken : n);
	pthread_mutex_unlock(&w->lock);
	if (taken != 0)
		return (int)taken;
	got = pread(fd, buf, n * PAGE_SIZE, (off_t)slot * (off_t)PAGE_SIZE);
	return got >= (ssize_t)PAGE_SIZE ? (int)((size_t)got / PAGE_SIZE) : -EIO;
}

static int watch_file(void *arg, uint64_t backing, enum peek_part part, uint64_t page, unsigned n,
		      char *buf)
{
	const struct watch *w = arg;

	return mapped_read(w->client, backing, part, page, n, buf);
}

static void watch_close(struct watch *w)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < WINDOWS; i++) {
		while (w->window[i].reading)
			pthread_cond_wait(&w->read, &w->lock);
		if (w->window[i].bytes != NULL)
			munmap(w->window[i].bytes, WINDOW_BYTES);
	}
	pthread_mutex_unlock(&w->lock);
	pthread_cond_destroy(&w->read);
	for (unsigned i = 0; i < w->nareas; i++)
		if (w->area[i].fd >= 0)
			close(w->area[i].fd);
	pthread_mutex_destroy(&w->lock);
	client_put(w->client);
	free(w);
}

/* 0 or an errno. */
static int watch_open(struct who who, struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));
	int err;

	if (w == NULL)
		return ENOMEM;
	w->client = client_get(who.pid, who.nr);
	if (w->client == NULL) {
		free(w);
		return ENOENT;
	}
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->read, NULL);
	err = peek_enter();
	if (err == 0) {
		err = -peek_open(&w->peek, w->client->mem_fd, w->client->pagemap_fd,
				 w->client->mm_addr);
		peek_leave();
	}
	if (err != 0) {
		watch_close(w);
		return err;
	}
	w->peek.slots = watch_slots;
	w->peek.file = watch_file;
	w->fd = -1;
	w->peek.arg = w;
	*out = w;
	return 0;
}

/* ---- the tree ---- */

static bool listed(struct who who)
{
	struct client *c = client_get(who.pid, who.nr);

	if (c != NULL)
		client_put(c);
	return c != NULL;
}

/* START-END, as pages/ lists it: is there a region that begins so? */
static fuse_ino_t region_number(struct who who, const char *name)
{
	struct watch *w;
	struct peek_region r;
	ull start, end;
	int n = 0, found;

	if (sscanf(name, "%llx-%llx%n", &start, &end, &n) != 2 || name[n] != '\0' ||
	    watch_open(who, &w) != 0)
		return 0;
	found = peek_enter() == 0;
	if (found) {
		found = peek_region(&w->peek, start, &r) == 1 && r.start == start && r.end == end;
		peek_leave();
	}
	watch_close(w);
	return found ? number(who, KIND_REGION, start >> PAGE_SHIFT) : 0;
}

fuse_ino_t proc_number(fuse_ino_t parent, const char *name)
{
	if (!in_proc(parent)) {
		struct who who;

		if (client_parse(name, &who.pid, &who.nr) != 0 || who.pid > (pid_t)PID_MASK ||
		    !listed(who))
			return 0;
		return number(who, KIND_DIR, 0);
	}
	if (kind_of(parent) == KIND_PAGES)
		return region_number(who_of(parent), name);
	for (unsigned k = 0; kind_of(parent) == KIND_DIR && k < KIND_COUNT; k++)
		if (kind_names[k] != NULL && strcmp(name, kind_names[k]) == 0)
			return number(who_of(parent), (enum kind)k, 0);
	return 0;
}

mode_t proc_type(fuse_ino_t ino)
{
	return kind_of(ino) == KIND_DIR || kind_of(ino) == KIND_PAGES ? S_IFDIR : S_IFREG;
}

/* Addresses are the owner's business, as in /proc. */
static const mode_t modes[KIND_COUNT] = {
	[KIND_DIR] = 0555, [KIND_STATUS] = 0444, [KIND_MAPS] = 0400,   [KIND_PAGEMAP] = 0400,
	[KIND_MEM] = 0400, [KIND_PAGES] = 0500,	 [KIND_REGION] = 0400,
};

int proc_attributes(fuse_ino_t ino, struct stat *st)
{
	const struct who who = who_of(ino);
	struct client *c = client_get(who.pid, who.nr);

	if (c == NULL || kind_of(ino) >= KIND_COUNT) {
		if (c != NULL)
			client_put(c);
		return ENOENT;
	}
	st->st_uid = c->uid;
	st->st_gid = c->gid;
	st->st_mtim = (struct timespec){.tv_sec = (time_t)c->attached_at};
	client_put(c);
	st->st_mode = proc_type(ino) | modes[kind_of(ino)];
	if (kind_of(ino) == KIND_DIR)
		st->st_nlink = 3;
	else if (kind_of(ino) == KIND_PAGES)
		st->st_nlink = 2;
	else if (kind_of(ino) == KIND_MEM)
		st->st_size = (off_t)PEEK_END;
	else if (kind_of(ino) == KIND_PAGEMAP)
		st->st_size = (off_t)(PEEK_END / PAGE_SIZE * sizeof(uint64_t));
	return 0;
}

static void add_name(FILE *f, const char *name)
{
	fwrite(name, strlen(name) + 1, 1, f);
}

static int list_client(struct client *c, void *arg)
{
	char name[CLIENT_NAME_MAX];

	client_name(c->pid, c->nr, name);
	add_name(arg, name);
	return 0;
}

static int list_region(const struct peek_region *r, void *arg)
{
	char name[48];

	snprintf(name, sizeof(name), "%08llx-%08llx", (ull)r->start, (ull)r->end);
	add_name(arg, name);
	return 0;
}

int proc_list(fuse_ino_t ino, FILE *f)
{
	struct watch *w;
	int err;

	if (!in_proc(ino))
		return -clients_each(list_client, f);
	if (kind_of(ino) == KIND_DIR) {
		if (!listed(who_of(ino)))
			return ENOENT;
		for (unsigned k = 0; k < KIND_COUNT; k++)
			if (kind_names[k] != NULL)
				add_name(f, kind_names[k]);
		return 0;
	}
	if (kind_of(ino) != KIND_PAGES)
		return ENOTDIR;
	err = watch_open(who_of(ino), &w);
	if (err != 0)
		return err;
	err = peek_enter();
	if (err == 0) {
		err = -each_region(&w->peek, list_region, f);
		peek_leave();
	}
	watch_close(w);
	return err;
}

/* ---- texts ---- */

static int make_text(const struct watch *w, fuse_ino_t ino, FILE *f)
{
	const struct client *c = w->client;
	struct peek_region r;
	int err;

	switch (kind_of(ino)) {
	case KIND_STATUS:
		fprintf(f, "name: %s\npid: %d\nuid: %u\ngid: %u\nattached: %llu\n", c->name,
			(int)c->pid, (unsigned)c->uid, (unsigned)c->gid, (ull)c->attached_at);
		return -text_status(&w->peek, f);
	case KIND_MAPS:
		return -text_maps(&w->peek, f);
	case KIND_REGION:
		err = peek_region(&w->peek, (ino & VPN_MASK) << PAGE_SHIFT, &r);
		if (err == 0 || (err == 1 && r.start != (ino & VPN_MASK) << PAGE_SHIFT))
			return ENOENT;
		return err < 0 ? -err : -text_pages(&w->peek, &r, f);
	default:
		return ENOENT;
	}
}

static uint64_t text_bytes; /* of all that are open; atomic */

/* A text to be freed: 0 or an errno. */
static int text_of(const struct watch *w, fuse_ino_t ino, char **text, size_t *len)
{
	FILE *f = open_memstream(text, len);
	int err;

	if (f == NULL)
		return ENOMEM;
	err = peek_enter();
	if (err == 0) {
		err = make_text(w, ino, f);
		peek_leave();
	}
	if (fclose(f) != 0 && err == 0)
		err = ENOMEM;
	if (err != 0) {
		free(*text);
		*text = NULL;
	}
	return err;
}

int proc_open(fuse_ino_t ino, struct handle **out)
{
	const bool bytes = kind_of(ino) == KIND_MEM || kind_of(ino) == KIND_PAGEMAP;
	struct handle *h;
	struct watch *w;
	int err = watch_open(who_of(ino), &w);

	if (err != 0)
		return err;
	h = handle_new(!bytes			  ? HANDLE_TEXT
		       : kind_of(ino) == KIND_MEM ? HANDLE_MEM
						  : HANDLE_PAGEMAP,
		       -1);
	if (h == NULL) {
		watch_close(w);
		return ENOMEM;
	}
	if (bytes) {
		h->watch = w;
	} else {
		err = text_of(w, ino, &h->text, &h->len);
		watch_close(w);
		h->size = h->len;
		if (__atomic_add_fetch(&text_bytes, h->size, __ATOMIC_RELAXED) > TEXTS_MAX)
			err = ENOMEM;
	}
	if (err != 0)
		handle_free(h);
	else
		*out = h;
	return err;
}

void proc_free(struct handle *h)
{
	if (h->kind == HANDLE_TEXT)
		__atomic_sub_fetch(&text_bytes, h->size, __ATOMIC_RELAXED);
	if (h->watch != NULL)
		watch_close(h->watch);
}

/* ---- mem and pagemap ---- */

/* The pages of [off, off + size): their bytes; how many from the first on, or -errno. */
static ssize_t read_pages(const struct watch *w, vpn_t vpn, size_t n, char *buf)
{
	size_t done = 0;

	while (done < n) {
		unsigned run = n - done < PEEK_PAGES ? (unsigned)(n - done) : PEEK_PAGES;
		int got = peek_read(&w->peek, vpn + done, run, buf + done * PAGE_SIZE);

		if (got < 0)
			return done != 0 ? (ssize_t)done : got;
		done += (size_t)got;
		if ((unsigned)got < run)
			break;
	}
	return (ssize_t)done;
}

static int tell_chunk(const struct peek *p, vpn_t vpn, unsigned n, uint64_t *out)
{
	memset(out, 0, n * sizeof(*out));
	while (n != 0) {
		uint64_t at = vpn << PAGE_SHIFT;
		unsigned run = n;
		struct peek_region r;
		int err = peek_region(p, at, &r);

		if (err <= 0)
			return err;
		if (r.start > at) {
			uint64_t gap = (r.start - at) >> PAGE_SHIFT;

			run = gap < n ? (unsigned)gap : n;
		} else {
			if ((r.end - at) >> PAGE_SHIFT < n)
				run = (unsigned)((r.end - at) >> PAGE_SHIFT);
			err = peek_tell(p, &r, vpn, run, out, NULL);
			if (err != 0)
				return err;
		}
		vpn += run;
		out += run;
		n -= run;
	}
	return 0;
}

/* As read_pages(), of entries. */
static ssize_t read_entries(const struct watch *w, vpn_t vpn, size_t n, uint64_t *out)
{
	for (size_t done = 0; done < n;) {
		unsigned run = n - done < PEEK_PAGES ? (unsigned)(n - done) : PEEK_PAGES;
		int err = tell_chunk(&w->peek, vpn + done, run, out + done);

		if (err != 0)
			return done != 0 ? (ssize_t)done : err;
		done += run;
	}
	return (ssize_t)n;
}

/*
 * Memory for an answer, at least so much: a worker's own, which it keeps.  New
 * pages for each would take as long as what is read into them.
 */
static char *answer_room(size_t size)
{
	static __thread char *mem;
	static __thread size_t have;

	if (size <= have)
		return mem;
	if (have != 0)
		munmap(mem, have);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	have = mem != MAP_FAILED ? size : 0;
	return have != 0 ? mem : NULL;
}

void proc_read(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
	const size_t unit = h->kind == HANDLE_MEM ? PAGE_SIZE : sizeof(uint64_t);
	const uint64_t end = h->kind == HANDLE_MEM ? PEEK_END : PEEK_END / PAGE_SIZE * unit;
	uint64_t from = (uint64_t)off < end ? (uint64_t)off : end;
	size_t skip = from % unit, n;
	ssize_t got;
	char *buf;
	int err;

	if (size > end - from)
		size = (size_t)(end - from);
	if (size == 0) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	n = (skip + size + unit - 1) / unit;
	buf = answer_room(n * unit);
	if (buf == NULL) {
		ops_error(req, TALLY_read, ENOMEM);
		return;
	}
	err = peek_enter();
	if (err == 0) {
		got = h->kind == HANDLE_MEM
			      ? read_pages(h->watch, from / unit, n, buf)
			      : read_entries(h->watch, from / unit, n, (uint64_t *)(void *)buf);
		peek_leave();
		err = got < 0 ? (int)-got : 0;
		if (err == 0 && (size_t)got * unit - skip < size)
			size = (size_t)got * unit - skip;
	}
	if (err != 0) {
		ops_error(req, TALLY_read, err);
	} else {
		tally_add(&tally.read_bytes, size);
		fuse_reply_buf(req, buf + skip, size);
	}
}

/* From a page of region r on: the first that is not touched, or where looking was given up. */
static int next_hole(const struct peek *p, vpn_t *vpn, vpn_t end)
{
	for (unsigned chunks = 0; *vpn < end && chunks < HOLE_CHUNKS; chunks++) {
		pte_t e[PEEK_PAGES];
		unsigned n = end - *vpn < PEEK_PAGES ? (unsigned)(end - *vpn) : PEEK_PAGES;
		int err = peek_entries(p, *vpn, n, e);

		if (err != 0)
			return err;
		for (unsigned i = 0; i < n; i++, (*vpn)++)
			if (e[i] == 0)
				return 0;
	}
	return 0;
}

/* 0, ENXIO or -errno; *at moves up. */
static int seek(const struct peek *p, uint64_t *at, bool data)
{
	int armed = peek_armed(p);
	uint64_t end = *at;
	int err = armed < 0 ? armed : 0;

	/* where it is given up is as good as data, or as a hole: who goes on asks from there */
	for (unsigned n = 0; err == 0 && n < SEEK_REGIONS; n++) {
		struct peek_region r;
		vpn_t vpn;

		err = peek_region(p, end, &r);
		if (err < 0)
			return err;
		if (err == 0)
			return data ? ENXIO : 0;
		err = 0;
		if (r.start > end) {
			if (!data)
				return 0;
			*at = end = r.start;
		}
		/* a file's pages are there, touched or not */
		if (armed && !r.file) {
			vpn = end >> PAGE_SHIFT;
			err = data ? peek_touched(p, &vpn, r.end >> PAGE_SHIFT)
				   : next_hole(p, &vpn, r.end >> PAGE_SHIFT);
			if (err != 0)
				return err;
			if (vpn << PAGE_SHIFT > end)
				*at = end = vpn << PAGE_SHIFT;
			if (end < r.end)
				return 0;
		} else {
			if (data)
				return 0;
			*at = end = r.end;
		}
	}
	return err;
}

void proc_lseek(fuse_req_t req, struct handle *h, off_t off, int whence)
{
	uint64_t at = (uint64_t)off;
	int err = off < 0 || at >= PEEK_END ? ENXIO : 0;

	if (h->kind != HANDLE_MEM || (whence != SEEK_DATA && whence != SEEK_HOLE))
		err = EINVAL;
	if (err == 0)
		err = peek_enter();
	if (err == 0) {
		err = seek(&h->watch->peek, &at, whence == SEEK_DATA);
		peek_leave();
	}
	if (err != 0)
		ops_error(req, TALLY_lseek, err < 0 ? -err : err);
	else
		fuse_reply_lseek(req, (off_t)at);
}

/* ---- extended attributes ---- */

static int status_of(fuse_ino_t ino, char **text, size_t *len)
{
	struct watch *w;
	int err = watch_open(who_of(ino), &w);

	if (err != 0)
		return err;
	err = text_of(w, number(who_of(ino), KIND_STATUS, 0), text, len);
	watch_close(w);
	return err;
}

/* The value of a name in lines of "name: value", and its length; NULL: none. */
static const char *value_of(const char *text, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
		if (strncmp(line, name, n) == 0 && line[n] == ':' && line[n + 1] == ' ') {
			*len = strcspn(line + n + 2, "\n");
			return line + n + 2;
		}
	return NULL;
}

static void reply_xattr(fuse_req_t req, const char *value, size_t len, size_t size,
			enum tally_op op)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (size < len)
		ops_error(req, op, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

void proc_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	const size_t prefix = strlen(XATTR_PREFIX);
	const char *value = NULL;
	char *text = NULL;
	size_t len;
	int err = ENODATA;

	if (strncmp(name, XATTR_PREFIX, prefix) == 0)
		err = status_of(ino, &text, &len);
	if (err == 0)
		value = value_of(text, name + prefix, &len);
	if (err == 0 && value == NULL)
		err = ENODATA;
	if (err != 0)
		ops_error(req, TALLY_getxattr, err);
	else
		reply_xattr(req, value, len, size, TALLY_getxattr);
	free(text);
}

void proc_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *text = NULL, *names = NULL;
	size_t len = 0;
	int err = status_of(ino, &text, &len);
	FILE *f = err == 0 ? open_memstream(&names, &len) : NULL;

	if (err == 0 && f == NULL)
		err = ENOMEM;
	if (f != NULL) {
		for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
			fprintf(f, XATTR_PREFIX "%.*s", (int)strcspn(line, ":"), line);
			fputc('\0', f);
		}
		if (fclose(f) != 0)
			err = ENOMEM;
	}
	if (err != 0)
		ops_error(req, TALLY_listxattr, err);
	else
		reply_xattr(req, names, len, size, TALLY_listxattr);
	free(names);
	free(text);
}

/* ---- for stats and metrics ---- */

/* The clients' counters, of about one moment. */
struct sample {
	struct sample *next;
	struct who who;
	char name[16];
	struct fl_stats stats;
	uint64_t latency_ns;
};

static int add_sample(struct client *c, void *arg)
{
	struct sample ***tail = arg;
	struct sample *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return 0;
	s->who = (struct who){.pid = c->pid, .nr = c->nr};
	memcpy(s->name, c->name, sizeof(s->name));
	**tail = s;
	*tail = &s->next;
	return 0;
}

/* Those that can be read. */
static struct sample *take_samples(void)
{
	struct sample *list = NULL, **tail = &list;

	clients_each(add_sample, &tail);
	for (struct sample **at = &list; *at != NULL;) {
		struct sample *s = *at;
		struct watch *w;
		int err = watch_open(s->who, &w);

		if (err == 0) {
			err = peek_enter();
			if (err == 0) {
				err = peek_stats(&w->peek, &s->stats, &s->latency_ns);
				peek_leave();
			}
			watch_close(w);
		}
		if (err == 0) {
			at = &s->next;
		} else {
			*at = s->next;
			free(s);
		}
	}
	return list;
}

static void free_samples(struct sample *s)
{
	while (s != NULL) {
		struct sample *next = s->next;

		free(s);
		s = next;
	}
}

void proc_stats(FILE *f)
{
	struct sample *list = take_samples();
	struct fl_stats total = {0};

	for (const struct sample *s = list; s != NULL; s = s->next) {
#define X(name) total.name += s->stats.name;
		STATS_FIELDS(X)
#undef X
	}
	free_samples(list);
#define X(name) fprintf(f, "clients_" #name ": %llu\n", (ull)total.name);
	STATS_FIELDS(X)
#undef X
}

struct metric {
	const char *name, *help;
	size_t offset; /* in struct fl_stats */
	unsigned scale;
	bool counter;
};

static const struct metric metrics[] = {
#define GAUGE(name, field, scale, help)                                                            \
	{                                                                                          \
		name, help, offsetof(struct fl_stats, field), scale, false                         \
	}
#define COUNTER(name, field, scale, help)                                                          \
	{                                                                                          \
		name, help, offsetof(struct fl_stats, field), scale, true                          \
	}
	GAUGE("limit_bytes", limit, PAGE_SIZE, "Frames that a process may hold."),
	GAUGE("mapped_bytes", mapped, PAGE_SIZE, "Managed memory."),
	GAUGE("armed", armed, 1, "1 once the process pages."),
	GAUGE("resident_bytes", resident, PAGE_SIZE, "Frames in the application."),
	GAUGE("staged_bytes", staged, PAGE_SIZE, "Frames in staging."),
	GAUGE("swapped_bytes", swapped, PAGE_SIZE, "Pages in slots only."),
	GAUGE("compressed_bytes", compressed, PAGE_SIZE, "Pages that are compressed only."),
	GAUGE("pool_bytes", pool, PAGE_SIZE, "Memory of compressed pages."),
	GAUGE("filled_bytes", filled, PAGE_SIZE, "Pages of one repeated word."),
	GAUGE("poisoned_bytes", poisoned, PAGE_SIZE, "Pages that are lost."),
	GAUGE("locked_bytes", locked, PAGE_SIZE, "Locked memory."),
	COUNTER("read_bytes_total", read_pages, PAGE_SIZE, "Bytes read from areas."),
	COUNTER("written_bytes_total", write_pages, PAGE_SIZE, "Bytes written to areas."),
	COUNTER("reads_total", reads, 1, "Requests to read."),
	COUNTER("writes_total", writes, 1, "Requests to write."),
	COUNTER("io_errors_total", io_errors, 1, "Requests that failed."),
	COUNTER("csum_errors_total", csum_errors, 1, "Pages that did not match their checksum."),
	COUNTER("evicted_pages_total", evicted, 1, "Pages taken from the application."),
	COUNTER("dropped_clean_pages_total", dropped_clean, 1, "Of these, dropped without I/O."),
	COUNTER("readahead_hits_total", readahead_hits, 1, "Pages read ahead and used."),
	COUNTER("readahead_misses_total", readahead_misses, 1, "Pages read ahead in vain."),
#undef GAUGE
#undef COUNTER
};

static const struct {
	const char *kind;
	size_t offset;
} fault_kinds[] = {
#define KIND(name)                                                                                 \
	{                                                                                          \
#name, offsetof(struct fl_stats, faults_##name)                                    \
	}
	KIND(zero), KIND(anon),	  KIND(wp),    KIND(staged),
	KIND(swap), KIND(filled), KIND(stale), KIND(compressed),
#undef KIND
};

static ull value(const struct sample *s, size_t offset)
{
	uint64_t v;

	memcpy(&v, (const char *)&s->stats + offset, sizeof(v));
	return v;
}

static void put_header(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP faultline_process_%s %s\n# TYPE faultline_process_%s %s\n", name, help,
		name, type);
}

static void put_labels(FILE *f, const struct sample *s)
{
	char name[CLIENT_NAME_MAX];

	client_name(s->who.pid, s->who.nr, name);
	fprintf(f, "{pid=\"%s\",name=\"", name);
	tally_label(f, s->name);
	fputc('"', f);
}

static void put_histogram(FILE *f, const struct sample *s)
{
	ull sum = 0;

	for (unsigned i = 0; i < FL_LATENCY_BUCKETS; i++) {
		sum += s->stats.latency[i];
		fputs("faultline_process_fault_seconds_bucket", f);
		put_labels(f, s);
		/* the last bucket has no end */
		if (i + 1 < FL_LATENCY_BUCKETS)
			fprintf(f, ",le=\"%.9g\"} %llu\n", (double)(2ULL << i) * 1e-9, sum);
		else
			fprintf(f, ",le=\"+Inf\"} %llu\n", sum);
	}
	fputs("faultline_process_fault_seconds_sum", f);
	put_labels(f, s);
	fprintf(f, "} %.9f\n", (double)s->latency_ns * 1e-9);
	fputs("faultline_process_fault_seconds_count", f);
	put_labels(f, s);
	fprintf(f, "} %llu\n", sum);
}

void proc_metrics(FILE *f)
{
	struct sample *list = take_samples();

	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		const struct metric *m = &metrics[i];

		put_header(f, m->name, m->counter ? "counter" : "gauge", m->help);
		for (const struct sample *s = list; s != NULL; s = s->next) {
			fprintf(f, "faultline_process_%s", m->name);
			put_labels(f, s);
			fprintf(f, "} %llu\n", value(s, m->offset) * m->scale);
		}
	}
	put_header(f, "faults_total", "counter", "Faults that were answered, by kind.");
	for (const struct sample *s = list; s != NULL; s = s->next)
		for (size_t i = 0; i < sizeof(fault_kinds) / sizeof(fault_kinds[0]); i++) {
			fputs("faultline_process_faults_total", f);
			put_labels(f, s);
			fprintf(f, ",kind=\"%s\"} %llu\n", fault_kinds[i].kind,
				value(s, fault_kinds[i].offset));
		}
	put_header(f, "fault_seconds", "histogram", "From reading a fault to its answer.");
	for (const struct sample *s = list; s != NULL; s = s->next)
		put_histogram(f, s);
	free_samples(list);
}
