/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * areas.c - the areas that the server shares out; see attach.h.
 *
 * Each is opened and locked as a process opens its own (swap-area.h), with a
 * map of its slots.  Clients get copies of the descriptor that holds the lock,
 * so that the area stays locked while any of them lives: a server that starts
 * anew cannot take it with an empty map.  It waits until a client brings the
 * map along, or until all have ended.
 *
 * What clients wrote into a map is not trusted: swap-slot.c bounds all that
 * the server reads there.
 *
 * Accepted: neither an area's priority nor that it was turned off is kept in it; after a
 * start all are on, in the order of their names, or those that the mount's options list.
 */
#include "attach.h"

#include "swap-area.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct swap swap; /* pointers change under the lock */
static bool leaving[FL_SWAP_MAX];
static const struct store *store;
static int proc_fd = -1;

/* Names of those that somebody had at the start. */
static char *waiting[FL_SWAP_MAX];
static unsigned nwaiting;

unsigned areas_waiting(void)
{
	return nwaiting;
}

int areas_find(const char *name)
{
	for (unsigned i = 0; i < swap.narea; i++)
		if (swap.area[i] != NULL && strcmp(swap.area[i]->path, name) == 0)
			return (int)i;
	return -ENOENT;
}

const char *areas_name(int index)
{
	return swap.area[index]->path;
}

uint32_t areas_set(void)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < swap.narea; i++)
		if (swap.area[i] != NULL && !leaving[i])
			set |= 1U << i;
	return set;
}

int areas_on(const char *name, int prio, struct why *why)
{
	struct fl_swap_spec spec = {.prio = prio};
	struct area_info info;
	char path[64], text[512], *rest;
	unsigned index = 0;
	int err = area_open(store->swap_fd, name, &info);

	if (err == 0 && !info.valid)
		err = why_set(why, -EINVAL, "%s/swap/%s: %s", store->dir, name, info.damage);
	else if (err != 0)
		why_set(why, err, "%s/swap/%s: %s", store->dir, name,
			err == -EINVAL ? "neither a file nor a link to a block device"
				       : strerror(-err));
	if (err == 0 && areas_find(name) >= 0)
		err = why_set(why, -EBUSY, "%s/swap/%s: is on already", store->dir, name);
	if (err == 0) {
		/* the one that was looked at, whatever the name means by now */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", info.fd);
		spec.path = path;
		pthread_mutex_lock(&lock);
		err = swap_on(&swap, &spec, NULL, &index, text, sizeof(text));
		if (err == 0) {
			struct swap_area *a = swap.area[index];

			snprintf(a->path, sizeof(a->path), "%s", name);
			leaving[index] = false;
			err = slot_map_serve(a->map);
			if (err != 0) {
				snprintf(text, sizeof(text), "area: %s", strerror(-err));
				swap_close_area(&swap, index);
			}
		}
		pthread_mutex_unlock(&lock);
		if (err != 0) {
			rest = strstr(text, ": ");
			why_set(why, err, "%s/swap/%s%s", store->dir, name,
				rest != NULL ? rest : text);
		}
	}
	area_close(&info);
	return err != 0 ? err : (int)index;
}

uint32_t areas_retry(void)
{
	uint32_t set = 0;

	for (unsigned i = 0; i < nwaiting;) {
		struct why why;
		int r = areas_on(waiting[i], -1, &why);

		if (r == -EBUSY && areas_find(waiting[i]) < 0) {
			i++;
			continue;
		}
		if (r >= 0)
			set |= 1U << r;
		free(waiting[i]);
		waiting[i] = waiting[--nwaiting];
	}
	return set;
}

static void not_waiting(const char *name)
{
	for (unsigned i = 0; i < nwaiting; i++)
		if (strcmp(waiting[i], name) == 0) {
			free(waiting[i]);
			waiting[i] = waiting[--nwaiting];
			return;
		}
}

struct names {
	char **name;
	size_t n;
};

static int add_name(const char *name, void *arg)
{
	struct names *l = arg;
	char **more = reallocarray(l->name, l->n + 1, sizeof(*more));

	if (more == NULL)
		return -ENOMEM;
	l->name = more;
	more[l->n] = strdup(name);
	if (more[l->n] == NULL)
		return -ENOMEM;
	l->n++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The areas that are to be on. */
static int find_names(const struct store *s, const char *areas, struct names *l)
{
	int err = 0;

	if (areas == NULL) {
		err = area_each(s->swap_fd, add_name, l);
		if (l->n != 0)
			qsort(l->name, l->n, sizeof(*l->name), by_name);
		return err;
	}
	while (err == 0 && *areas != '\0') {
		char name[NAME_MAX + 1];
		size_t n = strcspn(areas, ":");

		snprintf(name, sizeof(name), "%.*s", (int)n, areas);
		err = add_name(name, l);
		areas += n + (areas[n] != '\0');
	}
	return err;
}

int areas_start(const struct store *s, void (*say)(const char *line))
{
	struct names l = {.n = 0};
	struct why why;
	int err;

	store = s;
	proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0)
		return -errno;
	err = find_names(s, server.options.areas, &l);
	for (size_t i = 0; err == 0 && i < l.n; i++) {
		int r = areas_on(l.name[i], -1, &why);

		if (r == -EBUSY && nwaiting < FL_SWAP_MAX) {
			waiting[nwaiting++] = l.name[i];
			l.name[i] = NULL;
		} else if (r < 0) {
			say(why.text);
		}
	}
	for (size_t i = 0; i < l.n; i++)
		free(l.name[i]);
	free(l.name);
	return err;
}

void areas_stop(void)
{
	pthread_mutex_lock(&lock);
	swap_close_all(&swap);
	pthread_mutex_unlock(&lock);
	while (nwaiting != 0)
		free(waiting[--nwaiting]);
	if (proc_fd >= 0)
		close(proc_fd);
	proc_fd = -1;
}

/* A description of its own of the file behind fd. */
static int again(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	char path[64];
	int own;

	snprintf(path, sizeof(path), "thread-self/fd/%d", fd);
	own = flags < 0 ? -1 : openat(proc_fd, path, O_RDWR | O_CLOEXEC | (flags & O_DIRECT));
	return own < 0 ? -errno : own;
}

/* What a client's descriptor is of, without a request to a filesystem that may be the client's own. */
static bool look_at(int fd, struct statx *st)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, st) == 0;
}

static bool is_inode(const struct statx *st, dev_t dev, ino_t ino)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor) == dev && st->stx_ino == ino;
}

/* Whether a client's descriptor is of the area of that name, and may be written. */
static bool is_area(const char *name, int fd, uint64_t slots)
{
	struct area_info info;
	struct statx st;
	int flags = fcntl(fd, F_GETFL);
	bool same;

	if (area_open(store->swap_fd, name, &info) != 0)
		return false;
	same = info.valid && slots <= info.slots && flags >= 0 &&
	       (flags & (O_ACCMODE | O_PATH)) == O_RDWR && look_at(fd, &st) &&
	       (info.device ? S_ISBLK(st.stx_mode) : S_ISREG(st.stx_mode)) &&
	       is_inode(&st, info.dev, info.ino);
	area_close(&info);
	return same;
}

int areas_adopt(const struct wire_msg *held, int shared_fd, int map_fd)
{
	struct swap_given g = {.name = held->name, .prio = held->prio, .slots = held->slots};
	unsigned index = 0;
	int err;

	/* only what was found in use, which its lock tells, can be a client's */
	if (!area_name(held->name) || areas_find(held->name) >= 0 ||
	    !is_area(held->name, shared_fd, held->slots))
		return -EINVAL;
	g.shared_fd = fcntl(shared_fd, F_DUPFD_CLOEXEC, 3);
	if (g.shared_fd < 0)
		return -errno;
	/* the same description has the lock already, or gets it: nobody else is to have it */
	err = flock(g.shared_fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -EBUSY;
	if (err == 0)
		err = slot_map_adopt(&g.map, proc_fd, map_fd, (uint32_t)held->slots);
	if (err != 0) {
		close(g.shared_fd);
		return err;
	}
	g.io_fd = again(g.shared_fd);
	pthread_mutex_lock(&lock);
	err = swap_take(&swap, &g, &index);
	if (err == 0) {
		leaving[index] = false;
		if (held->prio < 0 && held->prio < swap.next_prio)
			swap.next_prio = held->prio;
	}
	pthread_mutex_unlock(&lock);
	if (err != 0) {
		slot_map_close(g.map);
		if (g.io_fd >= 0)
			close(g.io_fd);
		close(g.shared_fd);
		return err;
	}
	not_waiting(held->name);
	return (int)index;
}

bool areas_same(int index, int map_fd)
{
	struct statx given;
	struct stat st;

	return fstat(slot_map_fd(swap.area[index]->map), &st) == 0 && look_at(map_fd, &given) &&
	       is_inode(&given, st.st_dev, st.st_ino);
}

int areas_hand(int index, bool count, bool via_mount, struct wire_msg *m, int fds[WIRE_FDS_MAX],
	       unsigned *nfds)
{
	struct swap_area *a = swap.area[index];
	int map_fd, io_fd, shared_fd;
	int err;

	wire_init(m, WIRE_AREA);
	m->prio = a->prio;
	m->slots = a->max_slots;
	snprintf(m->name, sizeof(m->name), "%s", a->path);
	if (count) {
		map_fd = again(slot_map_fd(a->map));
		if (map_fd < 0)
			return map_fd;
		fds[0] = map_fd;
		*nfds = 1;
		return 0;
	}
	err = slot_map_invite(a->map, proc_fd, &map_fd, &m->member);
	if (err != 0)
		return err;
	if (via_mount) {
		fds[0] = map_fd;
		*nfds = 1;
		return 0;
	}
	io_fd = again(a->shared_fd);
	shared_fd = fcntl(a->shared_fd, F_DUPFD_CLOEXEC, 3);
	if (io_fd < 0 || shared_fd < 0) {
		err = io_fd < 0 ? io_fd : -errno;
		if (io_fd >= 0)
			close(io_fd);
		if (shared_fd >= 0)
			close(shared_fd);
		close(map_fd);
		return err;
	}
	fds[0] = shared_fd;
	fds[1] = io_fd;
	fds[2] = map_fd;
	*nfds = 3;
	return 0;
}

void areas_leave(int index, bool going)
{
	pthread_mutex_lock(&lock);
	leaving[index] = going;
	pthread_mutex_unlock(&lock);
}

bool areas_unused(int index)
{
	const struct swap_area *a = swap.area[index];

	return slot_map_used(a->map) == 0 && slot_map_members(a->map) <= 1;
}

void areas_off(int index)
{
	pthread_mutex_lock(&lock);
	swap_close_area(&swap, (unsigned)index);
	leaving[index] = false;
	pthread_mutex_unlock(&lock);
}

void areas_sweep(void)
{
	swap_sweep(&swap);
}

bool areas_look(const char *name, struct area_use *use)
{
	int index;

	pthread_mutex_lock(&lock);
	index = areas_find(name);
	if (index >= 0) {
		const struct swap_area *a = swap.area[index];
		unsigned members = slot_map_members(a->map);

		*use = (struct area_use){.leaving = leaving[index],
					 .prio = a->prio,
					 .slots = a->max_slots - 1,
					 .used = slot_map_used(a->map),
					 .members = members > 0 ? members - 1 : 0};
	}
	pthread_mutex_unlock(&lock);
	return index >= 0;
}
