/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * owner.c - a thread that stores words of its own into a file of a store, which others have mapped,
 * too, and checks them: by its mapping, through the mount, and after msync(2) on the host.
 * It punches pages out, and cuts the file's tail off.
 *
 * A page that is not in memory raises SIGBUS between two servers, and whatever wants the server
 * fails: it is done again.  With a server nothing may fail.
 */
#include "owner.h"

#include "../unit/random.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE ((OWNER_STEADY + OWNER_TAIL) * OWNER_PAGE)

static struct shadow *shadow;
static char path[PATH_MAX];
static char *map;
static int host_fd = -1;
static int fd = -1;	 /* of the mount, */
static uint32_t fd_turn; /* of the server of this turn */
static unsigned file, self;
static bool stop; /* atomic */
static pthread_t thread;
static uint64_t rng;

static __thread sigjmp_buf escape;
static __thread uint32_t at_turn; /* when that was begun which may fail */

static uint64_t next(void)
{
	return splitmix(&rng);
}

static _Noreturn void wrong(const char *what, uint64_t page, size_t i, uint64_t have)
{
	printf("wrong: %s: file %u page %lu word %zu: %lx\n", what, file, (unsigned long)page, i,
	       (unsigned long)have);
	fflush(stdout);
	_exit(1);
}

static uint64_t *at(uint64_t place)
{
	return (uint64_t *)(void *)(map + place * OWNER_PAGE);
}

static void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

/* ---- servers ---- */

static bool is_open(uint32_t turn)
{
	return turn % TURNS == TURN_OPEN;
}

/* Tell that a new server pages the mapping: it syncs it. */
static void answer_turn(void)
{
	uint32_t turn = owner_get(&shadow->turn), *taken = &shadow->owner[file][self].taken;

	if (turn % TURNS == TURN_TAKE && owner_get(taken) != turn &&
	    msync(map, OWNER_STEADY * OWNER_PAGE, MS_SYNC) == 0)
		owner_set(taken, turn);
}

static void trying(void)
{
	at_turn = owner_get(&shadow->turn);
}

/* It may have, if there was no server the whole time. */
static void failed(const char *what, uint64_t place)
{
	int err = errno;

	if (is_open(at_turn) && owner_get(&shadow->turn) == at_turn)
		wrong(what, place, 0, (uint64_t)err);
	answer_turn();
	poll(NULL, 0, 1);
}

/* A descriptor of the mount as it is now; -1: none. */
static int descriptor(void)
{
	uint32_t turn = owner_get(&shadow->turn);

	if (!is_open(turn))
		return -1;
	if (fd >= 0 && fd_turn == turn)
		return fd;
	if (fd >= 0)
		close(fd);
	trying();
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		failed("open", 0);
		return -1;
	}
	fd_turn = turn;
	/* else it may be of the next server, whose turn has not come */
	return owner_get(&shadow->turn) == turn ? fd : -1;
}

/* ---- what it does ---- */

static void fill(uint64_t *p, unsigned k, uint32_t version)
{
	for (size_t i = owner_first(self, k); i < OWNER_WORDS; i += owner_step(k))
		__atomic_store_n(&p[i], owner_word(file, owner_place(self, k), i, version),
				 __ATOMIC_RELAXED);
}

static void punch(unsigned k)
{
	off_t from = (off_t)(owner_place(self, k) * OWNER_PAGE);

	for (;;) {
		int f = descriptor();

		if (f >= 0) {
			trying();
			if (fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
				      OWNER_PAGE) == 0)
				return;
			failed("fallocate", owner_place(self, k));
		}
		answer_turn();
		poll(NULL, 0, 1);
	}
}

/* Not inlined: nothing of it is to live across a sigsetjmp(). */
static __attribute__((noinline)) bool write_alone(unsigned k, uint32_t version)
{
	static uint64_t buf[OWNER_WORDS];
	int f = descriptor();

	if (f < 0)
		return false;
	fill(buf, k, version);
	trying();
	if (pwrite(f, buf, sizeof(buf), (off_t)(owner_place(self, k) * OWNER_PAGE)) ==
	    (ssize_t)sizeof(buf))
		return true;
	failed("pwrite", owner_place(self, k));
	return false;
}

/* The version that was begun, from its begin: whatever was done of it. */
static void put(unsigned k)
{
	uint32_t version = owner_get(&shadow->owner[file][self].page[k].begun);

	if (owner_hole(k, version)) {
		punch(k);
	} else if (k < OWNER_COMMON || version % 4 != 1 || !write_alone(k, version)) {
		while (sigsetjmp(escape, 1) != 0)
			failed("a store", owner_place(self, k));
		trying();
		fill(at(owner_place(self, k)), k,
		     owner_get(&shadow->owner[file][self].page[k].begun));
	}
	owner_set(&shadow->owner[file][self].page[k].done,
		  owner_get(&shadow->owner[file][self].page[k].begun));
}

static void store(unsigned k)
{
	uint32_t version = owner_get(&shadow->owner[file][self].page[k].done) + 1;

	owner_set(&shadow->owner[file][self].page[k].begun, version);
	put(k);
}

static __attribute__((noinline)) void compare(const char *what, const uint64_t *p, unsigned k)
{
	uint32_t low = owner_get(&shadow->owner[file][self].page[k].done);
	uint32_t high = owner_get(&shadow->owner[file][self].page[k].begun);
	size_t i = owner_differs(p, file, self, k, low, high);

	if (i != OWNER_WORDS)
		wrong(what, owner_place(self, k), i, p[i]);
}

static void check(const char *what, unsigned k)
{
	while (sigsetjmp(escape, 1) != 0)
		failed("a load", owner_place(self, k));
	trying();
	compare(what, at(owner_place(self, k)), k);
}

static void check_by_read(unsigned k)
{
	static uint64_t buf[OWNER_WORDS];
	int f = descriptor();

	if (f < 0)
		return;
	trying();
	if (pread(f, buf, sizeof(buf), (off_t)(owner_place(self, k) * OWNER_PAGE)) ==
	    (ssize_t)sizeof(buf))
		compare("read", buf, k);
	else
		failed("pread", owner_place(self, k));
}

/* Synced, it is on the host, whatever becomes of the server. */
static void sync_page(unsigned k)
{
	static uint64_t buf[OWNER_WORDS];
	uint64_t place = owner_place(self, k);

	trying();
	if (msync(at(place), OWNER_PAGE, MS_SYNC) != 0) {
		failed("msync", place);
		return;
	}
	if (pread(host_fd, buf, sizeof(buf), (off_t)(place * OWNER_PAGE)) != (ssize_t)sizeof(buf))
		wrong("pread of the host's", place, 0, (uint64_t)errno);
	compare("synced", buf, k);
}

static __attribute__((noinline)) void look_at(unsigned owner, unsigned k)
{
	size_t first = owner_first(owner, k), step = owner_step(k);
	size_t i = first + next() % ((OWNER_WORDS - first) / step) * step;
	uint64_t place = owner_place(owner, k), have;
	uint32_t low = owner_get(&shadow->owner[file][owner].page[k].done);

	have = __atomic_load_n(at(place) + i, __ATOMIC_SEQ_CST);
	if (!owner_is_of(file, owner, k, i, have, low,
			 owner_get(&shadow->owner[file][owner].page[k].begun)))
		wrong("another's", place, i, have);
}

/* A child's mapping may not have been taken yet when its parent's is. */
static void look(bool child)
{
	unsigned owner = (unsigned)(next() % OWNERS), k = (unsigned)(next() % OWNER_PAGES);

	if (sigsetjmp(escape, 1) == 0) {
		trying();
		look_at(owner, k);
	} else if (!child) {
		failed("a look", owner_place(owner, k));
	}
}

/* A word there is 0, or what anybody stores. */
static void tail(void)
{
	uint64_t place = OWNER_STEADY + next() % OWNER_TAIL;
	size_t i = next() % OWNER_WORDS;
	uint64_t want = owner_word(file, place, i, 1), have;
	off_t size = (off_t)(OWNER_STEADY * OWNER_PAGE + next() % (OWNER_TAIL * OWNER_PAGE + 1));

	if (self == 0 && next() % 4 == 0) {
		int f = descriptor();

		trying();
		if (f >= 0 && ftruncate(f, size) != 0)
			failed("ftruncate", place);
	} else if (sigsetjmp(escape, 1) == 0) {
		if (next() % 2 != 0) {
			__atomic_store_n(at(place) + i, want, __ATOMIC_RELAXED);
		} else {
			have = __atomic_load_n(at(place) + i, __ATOMIC_RELAXED);
			if (have != 0 && have != want)
				wrong("the tail", place, i, have);
		}
	}
}

static void *work(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		uint64_t what = next() % 100;
		unsigned k = (unsigned)(next() % OWNER_PAGES);

		answer_turn();
		if (what < 40)
			store(k);
		else if (what < 65)
			check("its own", k);
		else if (what < 75)
			look(false);
		else if (what < 83)
			tail();
		else if (what < 93)
			check_by_read(k);
		else
			sync_page(k);
		/* others want to run, too */
		poll(NULL, 0, 2);
	}
	return arg;
}

int owner_begin(const char *base, unsigned number, unsigned owner)
{
	struct sigaction sa = {.sa_handler = on_bus};
	char name[PATH_MAX];
	int f;

	file = number;
	self = owner;
	rng = (uint64_t)getpid() << 8;
	snprintf(name, sizeof(name), "%s/shadow", base);
	f = open(name, O_RDWR | O_CLOEXEC);
	shadow = mmap(NULL, sizeof(*shadow), PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	close(f);
	snprintf(name, sizeof(name), "%s/store/files/f%u", base, file);
	host_fd = open(name, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/mnt/files/f%u", base, file);
	if (f < 0 || shadow == MAP_FAILED || host_fd < 0 || file >= OWNER_FILES || self >= OWNERS)
		return 0;
	f = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	close(f);
	if (f < 0 || map == MAP_FAILED || sigaction(SIGBUS, &sa, NULL) != 0)
		return 0;
	/* who was this owner before may have been killed in the middle */
	for (unsigned k = 0; k < OWNER_PAGES; k++) {
		check("of one that was killed", k);
		if (owner_get(&shadow->owner[file][self].page[k].begun) !=
		    owner_get(&shadow->owner[file][self].page[k].done))
			put(k);
	}
	return pthread_create(&thread, NULL, work, NULL) == 0;
}

void owner_end(void)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	for (unsigned k = 0; k < OWNER_PAGES; k++)
		check("at the end", k);
}

void owner_look(unsigned n)
{
	while (map != NULL && n-- != 0)
		look(true);
}
