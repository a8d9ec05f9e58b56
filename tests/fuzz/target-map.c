/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target-map.c - the map of an area's slots, which a store's server takes from
 * a client of a server before it, and reads while clients write there: it is
 * taken or refused, in bounded time, and what is counted there is no more than
 * there is.
 *
 * Input: changes to a map that was in use, each two bytes with a page of it
 * (modulo how many are changed), two with a place there (modulo 4096), one with
 * a length (modulo 32), and that many bytes.
 */
#include "target.h"

#include "swap-slot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 1000U
#define PAGES 32U /* the common part, and the bits of the first members */

enum target_outcome target_outcome;

/* A member in another process's place: its view, and the descriptor by which it lives. */
static struct slot_map *invited(struct slot_map *server, int proc_fd)
{
	struct slot_map *m;
	uint32_t member;
	int fd;

	if (slot_map_invite(server, proc_fd, &fd, &member) != 0)
		return NULL;
	if (slot_map_accept(&m, fd, member, SLOTS) == 0)
		return m;
	close(fd);
	return NULL;
}

static void change(int fd, const uint8_t *data, size_t size)
{
	while (size > 5) {
		uint32_t page = (data[0] | (uint32_t)data[1] << 8) % PAGES;
		uint32_t place = (data[2] | (uint32_t)data[3] << 8) % 4096;
		size_t n = data[4] % 32;

		data += 5;
		size -= 5;
		n = n < size ? n : size;
		n = n < 4096 - place ? n : 4096 - place;
		must(pwrite(fd, data, n, page * 4096 + place) == (ssize_t)n);
		data += n;
		size -= n;
	}
}

/* Count, as `faultline store check` does. */
static void count(int fd)
{
	struct slot_count n;

	if (slot_map_count(fd, SLOTS, &n) != 0)
		return;
	/* in whole clusters */
	must(n.used < 2 * SLOT_CLUSTER && n.lost <= n.used && n.free < 2 * SLOT_CLUSTER);
	must(n.members + n.dead <= SLOT_MEMBERS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int proc_fd;
	struct slot_map *server, *lives, *dies, *next, *again;
	uint32_t first, got;
	struct stat before, after;
	int fd;

	target_outcome = TARGET_NO_INPUT;
	if (proc_fd == 0)
		proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	must(slot_map_open(&server, SLOTS, SLOTS) == 0 && slot_map_serve(server) == 0);
	lives = invited(server, proc_fd);
	dies = invited(server, proc_fd);
	must(lives != NULL && dies != NULL);
	got = slot_alloc(lives, 20, &first);
	must(got == 20);
	slot_busy(lives, first);
	got = slot_alloc(dies, 30, &first);
	must(got == 30);
	fd = dup(slot_map_fd(lives));
	slot_map_close(server);
	slot_map_close(dies);
	change(fd, data, size);
	must(fstat(fd, &before) == 0);

	count(fd);
	target_outcome = TARGET_REFUSED;
	if (slot_map_adopt(&next, proc_fd, fd, SLOTS) == 0) {
		target_outcome = TARGET_TAKEN;
		slot_map_sweep(next);
		again = invited(next, proc_fd);
		slot_map_used(next);
		slot_map_members(next);
		if (again != NULL)
			slot_map_close(again);
		slot_map_sweep(next);
		count(fd);
		slot_map_close(next);
	}
	must(fstat(fd, &after) == 0 && after.st_size == before.st_size);
	slot_map_close(lives);
	close(fd);
	return 0;
}
