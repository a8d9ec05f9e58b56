/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * swap-slot.c - the slots of one area: who is free, who has users, and what
 * was written there.
 *
 * The map is one memfd, sparse, laid out for the most slots that the area may
 * ever have:
 *
 *	header, with the table of members
 *	clusters	32 bits each: free slots, and who allocates there
 *	used		1 bit a slot
 *	checksums	32 + 16 bits a slot, in two arrays
 *	users		16 bits a slot: members beyond the first
 *	members		for each: held, 1 bit a slot; busy, 1 bit a slot
 *
 * A member maps all but the other members' bits.
 *
 * Concurrency.  No lock is shared by processes, so that one that is stopped or
 * killed holds up nobody.  `used` changes by atomic operations: who sets a bit
 * that was clear has the slot.  A member's own bits are written by that member
 * alone (under its mm lock), before it lives by its parent, and when it is
 * dead by whoever claimed it for sweeping.  A slot is given back by release():
 * the member that finds no other user frees it.  A checksum is written once,
 * between a slot's allocation and its first sharing.
 *
 * Death.  Every transition orders its steps so that a member killed between
 * two of them leaves a slot in use that nobody holds, never one that somebody
 * holds free: taking sets `used` or `users` first and `held` last, giving back
 * clears `held` first.  When a member was swept and only one is left, it
 * recounts, and finds such slots.  That a member lives is told by a lock
 * (fcntl(2), F_OFD_SETLK) on the byte of its number, on an open file
 * description that only its pagers have: it ends with exit, exec and kill alike.
 * A lock on the area itself, on the description that its I/O goes through,
 * ends with the last request, which may be later.
 *
 * Clusters.  A member allocates in one cluster at a time, in one pass over it,
 * and marks it so that others choose another; the mark is advice.  The next
 * one is an empty one, else a fresh one (with a number not used before) while
 * few slots lie free in clusters that were used, else the one with most free slots
 * among the next SCAN_MIN that have any.  Few are fewer than one for SPARE_PART in
 * use; while the clusters are small beside the pages that they are for
 * (slot_map_roomy()), fewer than one for SPARE_ROOMY.  So runs are long, and bookkeeping
 * stays close to the slots in use.
 *
 * Trust.  Each member can write to all of the map, and one that is mad, or means harm, may write
 * anything there at any time.  Then slots may be handed out twice, never, or not
 * be counted, and what others have in the area may be lost, as that member can write to the area as
 * well; but nobody reads or writes beside the map or beside the area, gets slot 0, or goes on without
 * an end.  So what is read of the map is read once; a number is brought into its
 * range by the function that reads it (slots_now(), clusters_used()); what a count
 * says is tried, and given up after TRIES; and what a debug build asserts of a
 * member's own slots it asserts of what that member noted in memory of its own.
 * Counts are too high by themselves, too, where a member was killed while it took slots.
 */
#include "swap-slot.h"

#include "log.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096U
#define NIL UINT32_MAX
#define CLUSTER_WORDS (SLOT_CLUSTER / 64)
#define SCAN_MIN 1024U
#define USERS_MAX (UINT16_MAX - 1U)
/* How often something is tried that another member can undo: far more than members that agree take. */
#define TRIES 64U
#define PASSES 4U /* over clusters that promised a slot and had none, before all are looked at */

/* Free slots in used clusters, as a part of the slots in use, above which they are used first. */
#define SPARE_PART 4U
#define SPARE_ROOMY 2U

/* Of the area, the byte that a member locks: beyond what any file has. */
#define IO_BYTE ((uint64_t)1 << 60)

#define MAP_MAGIC 0x31504d4c53464cU
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

#define CLUSTER_FREE 0xffffU
#define CLUSTER_TAKEN 0x10000U

enum member_state { MEMBER_NONE, MEMBER_ALIVE, MEMBER_SWEEPING, MEMBER_SWEPT };

struct member {
	uint32_t state; /* atomic: enum member_state, above it the number of who sweeps */
	uint32_t io;	/* its I/O goes through a locked description; written by it */
	uint64_t died;	/* when its death was seen; written by who sweeps */
};

#define STATE_BITS 4
#define STATE_MASK ((1U << STATE_BITS) - 1)

/* All atomic. */
struct header {
	uint64_t magic;
	uint32_t max_slots;
	uint32_t served; /* there is or was a server: nobody else recounts */
	uint32_t nslots; /* slot 0 included */
	uint32_t used;	 /* without it */
	uint32_t fresh;	 /* clusters from here on were never used */
	uint32_t nmembers;
	uint32_t recount; /* a member was swept: counts may be too high */
	uint32_t shared;  /* there was ever more than one member */
	struct member member[SLOT_MEMBERS_MAX];
};

struct slot_map {
	struct header *h;
	uint32_t *cluster;
	uint64_t *used;
	uint32_t *low; /* checksums */
	uint16_t *high;
	uint16_t *users;
	uint64_t *held, *busy; /* this member's */
#ifdef FL_DEBUG
	uint64_t *noted; /* the same in memory of its own: what is asserted is asserted of that */
#endif
	uint32_t max_slots;
	uint32_t self;
	uint32_t mine;	  /* slots held or busy */
	uint32_t current; /* cluster */
	uint32_t next;	  /* where in it the pass goes on */
	uint32_t hint;	  /* where the search for a cluster goes on */
	uint64_t roomy;	  /* slots that clusters may have for long runs */
	int fd;
	int io_fd; /* of the area, own or not; -1: not known */
	bool server;
	uint64_t common; /* bytes of the file before the members' bits */
	uint64_t stride; /* bytes of one member's */
};

#define LOAD(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

static void check(bool ok, const char *what, uint32_t slot)
{
#ifdef FL_DEBUG
	if (!ok)
		log_fatal("slot %u: %s", slot, what);
#else
	(void)ok;
	(void)what;
	(void)slot;
#endif
}

static bool bit_get(const uint64_t *w, uint32_t i)
{
	return LOAD(&w[i / 64]) >> i % 64 & 1;
}

/* Bits that one process writes at a time. */
static void bit_put(uint64_t *w, uint32_t i, bool on)
{
	uint64_t bit = (uint64_t)1 << i % 64;

	STORE(&w[i / 64], on ? LOAD(&w[i / 64]) | bit : LOAD(&w[i / 64]) & ~bit);
}

/* A bit of this member's. */
static void own_put(struct slot_map *m, uint64_t *set, uint32_t slot, bool on)
{
	bit_put(set, slot, on);
#ifdef FL_DEBUG
	bit_put(m->noted + (set - m->held), slot, on);
#else
	(void)m;
#endif
}

/* What it is by this member's own doing. */
static bool own_noted(const struct slot_map *m, const uint64_t *set, uint32_t slot)
{
#ifdef FL_DEBUG
	set = m->noted + (set - m->held);
#else
	(void)m;
#endif
	return bit_get(set, slot);
}

/* Not held and not busy any more.  Whoever spoilt its bits may have it counted twice. */
static void own_less(struct slot_map *m)
{
	m->mine -= m->mine != 0;
}

/* ---- layout ---- */

static uint64_t whole(uint64_t bytes)
{
	return (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static uint32_t clusters_of(uint32_t nslots)
{
	return (uint32_t)(((uint64_t)nslots + SLOT_CLUSTER - 1) / SLOT_CLUSTER);
}

static uint64_t bits_bytes(uint32_t max_slots)
{
	return whole((uint64_t)clusters_of(max_slots) * (SLOT_CLUSTER / 8));
}

/* Point into the common part at base. */
static void lay_out(struct slot_map *m, uintptr_t base)
{
	uint64_t slots = (uint64_t)clusters_of(m->max_slots) * SLOT_CLUSTER;
	uint64_t at = whole(sizeof(struct header));

	m->h = (struct header *)base;
	m->cluster = (uint32_t *)(base + at);
	at += whole(clusters_of(m->max_slots) * sizeof(*m->cluster));
	m->used = (uint64_t *)(base + at);
	at += bits_bytes(m->max_slots);
	m->low = (uint32_t *)(base + at);
	at += whole(slots * sizeof(*m->low));
	m->high = (uint16_t *)(base + at);
	at += whole(slots * sizeof(*m->high));
	m->users = (uint16_t *)(base + at);
	at += whole(slots * sizeof(*m->users));
	m->common = at;
	m->stride = 2 * bits_bytes(m->max_slots);
}

static void *map_shared(int fd, uint64_t off, uint64_t bytes)
{
	void *p = sys_mem_map(bytes, MAP_SHARED | MAP_NORESERVE, fd, off);

	if (p == NULL)
		return NULL;
	sys_mem_nodump(p, bytes);
	return p;
}

static void *map_bits(const struct slot_map *m, int fd, uint32_t member)
{
	return map_shared(fd, m->common + member * m->stride, m->stride);
}

static void unmap_own(struct slot_map *m)
{
#ifdef FL_DEBUG
	sys_mem_free(m->noted, m->stride);
	m->noted = NULL;
#endif
	sys_mem_free(m->held, m->stride);
	m->held = m->busy = NULL;
}

/* The bits of the member that this view is of: 0 or -ENOMEM. */
static int map_own(struct slot_map *m, uint32_t member)
{
	m->held = map_bits(m, m->fd, member);
#ifdef FL_DEBUG
	m->noted = sys_mem_alloc(m->stride);
	if (m->noted == NULL) {
		unmap_own(m);
		return -ENOMEM;
	}
#endif
	if (m->held == NULL) {
		unmap_own(m);
		return -ENOMEM;
	}
	m->busy = m->held + m->stride / 2 / sizeof(uint64_t);
	return 0;
}

static int lock_bytes(int fd, uint64_t byte, uint64_t n, bool ask, bool *held)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = (off_t)n};
	long r = SYS3(fcntl, fd, ask ? F_OFD_GETLK : F_OFD_SETLK, &l);

	if (ask && held != NULL)
		*held = sys_err(r) || l.l_type != F_UNLCK;
	return sys_err(r) ? (int)r : 0;
}

static int lock_byte(int fd, uint64_t byte, bool ask, bool *held)
{
	return lock_bytes(fd, byte, 1, ask, held);
}

/* Slots that the area has, the header's included. */
static uint32_t slots_now(const struct slot_map *m)
{
	uint32_t n = LOAD(&m->h->nslots);

	return n == 0 ? 1 : n < m->max_slots ? n : m->max_slots;
}

/* Clusters that were ever used. */
static uint32_t clusters_used(const struct slot_map *m)
{
	uint32_t most = clusters_of(m->max_slots), n = LOAD(&m->h->fresh);

	return n < most ? n : most;
}

/* Words of a bitmap in use. */
static uint64_t words_in_use(const struct slot_map *m)
{
	return (uint64_t)clusters_used(m) * CLUSTER_WORDS;
}

/* ---- clusters ---- */

/* Words of cluster c that are slots. */
static uint32_t cluster_slots(const struct slot_map *m, uint32_t c)
{
	uint32_t n = slots_now(m), first = c * SLOT_CLUSTER;
	uint32_t left = n > first ? n - first : 0;

	return left < SLOT_CLUSTER ? left : SLOT_CLUSTER;
}

/* Of them, those that can be free: all but slot 0. */
static uint32_t cluster_usable(const struct slot_map *m, uint32_t c)
{
	return cluster_slots(m, c) - (c == 0);
}

static void cluster_leave(struct slot_map *m)
{
	if (m->current != NIL)
		__atomic_fetch_and(&m->cluster[m->current], ~CLUSTER_TAKEN, __ATOMIC_RELAXED);
	m->current = NIL;
}

/* A cluster that was never used; NIL when there is none. */
static uint32_t cluster_fresh(struct slot_map *m)
{
	uint32_t n = clusters_of(slots_now(m)), c = LOAD(&m->h->fresh);
	bool got = false;

	for (unsigned tries = 0; tries < TRIES && !got; tries++) {
		if (c >= n)
			return NIL;
		got = __atomic_compare_exchange_n(&m->h->fresh, &c, c + 1, false, __ATOMIC_RELAXED,
						  __ATOMIC_RELAXED);
	}
	if (!got)
		return NIL;
	if (c == 0)
		__atomic_fetch_or(&m->used[0], 1, __ATOMIC_RELAXED); /* the header's, for ever */
	__atomic_fetch_add(&m->cluster[c], cluster_usable(m, c), __ATOMIC_RELAXED);
	return c;
}

/*
 * The best cluster with free slots that nobody is at (taken: or that somebody
 * is); *empty tells whether all of it is free.
 */
static uint32_t cluster_best(const struct slot_map *m, bool taken, bool *empty)
{
	uint32_t n = clusters_used(m), best = NIL, most = 0, seen = 0;

	*empty = false;
	for (uint32_t i = 0; i < n && seen < SCAN_MIN; i++) {
		uint32_t c = m->hint + i < n ? m->hint + i : (m->hint + i) % n;
		uint32_t v = LOAD(&m->cluster[c]);

		if ((v & CLUSTER_FREE) == 0 || (!taken && (v & CLUSTER_TAKEN)))
			continue;
		seen++;
		if ((v & CLUSTER_FREE) == cluster_usable(m, c)) {
			*empty = true;
			return c;
		}
		/* in eighths, the first of equals: those that were passed longest ago */
		if ((v & CLUSTER_FREE) / (SLOT_CLUSTER / 8) + 1 > most) {
			most = (v & CLUSTER_FREE) / (SLOT_CLUSTER / 8) + 1;
			best = c;
		}
	}
	return best;
}

/* Whether so few slots of used clusters are free that a cluster more is better. */
static bool few_free(const struct slot_map *m)
{
	uint64_t room = slot_map_room(m);
	uint32_t used = LOAD(&m->h->used);
	uint32_t part = room + SLOT_CLUSTER <= m->roomy ? SPARE_ROOMY : SPARE_PART;

	return room < used || (room - used) * part < used;
}

static void cluster_enter(struct slot_map *m, uint32_t c)
{
	m->current = c;
	m->next = c == 0; /* slot 0 is the header's, whatever its bit says */
	m->hint = c + 1;
	__atomic_fetch_or(&m->cluster[c], CLUSTER_TAKEN, __ATOMIC_RELAXED);
}

/* Make another cluster the current one; false when every slot is taken. */
static bool cluster_next(struct slot_map *m)
{
	bool empty;
	uint32_t c = cluster_best(m, false, &empty);

	if (!empty && (c == NIL || few_free(m))) {
		uint32_t fresh = cluster_fresh(m);

		if (fresh != NIL)
			c = fresh;
	}
	if (c == NIL)
		c = cluster_best(m, true, &empty);
	if (c == NIL)
		return false;
	cluster_enter(m, c);
	return true;
}

/*
 * A run of clear bits among [from, n) of w that has `want`, or else the
 * longest: its length, and in *first where it begins.
 */
static uint32_t find_run(const uint64_t *w, uint32_t from, uint32_t n, uint32_t want,
			 uint32_t *first)
{
	uint32_t best = 0;
	uint32_t i = from;

	while (i < n) {
		uint64_t word = LOAD(&w[i / 64]) >> i % 64;
		uint32_t start;

		if (word & 1) {
			/* over what is used */
			i += ~word != 0 ? (uint32_t)__builtin_ctzll(~word) : 64;
			continue;
		}
		start = i++;
		while (i < n && i - start < want && !bit_get(w, i))
			i++;
		if (i - start > best) {
			best = i - start;
			*first = start;
			if (best == want)
				break;
		}
	}
	return best;
}

/* Set bits [at, at + n) of used as far as they were clear; how many were, from the first. */
static uint32_t take_bits(struct slot_map *m, uint32_t at, uint32_t n)
{
	uint32_t got = 0;

	while (got < n) {
		uint32_t i = at + got;
		uint32_t k = 64 - i % 64 < n - got ? 64 - i % 64 : n - got;
		uint64_t mask = (k == 64 ? ~(uint64_t)0 : ((uint64_t)1 << k) - 1) << i % 64;
		uint64_t old = LOAD(&m->used[i / 64]);
		bool done = false;

		for (unsigned tries = 0; tries < TRIES && !done; tries++) {
			if (old & mask)
				return got;
			/* acquire: what freed the slot is over; pairs with slot_free() */
			done = __atomic_compare_exchange_n(&m->used[i / 64], &old, old | mask,
							   false, __ATOMIC_ACQUIRE,
							   __ATOMIC_RELAXED);
		}
		if (!done)
			return got;
		got += k;
	}
	return got;
}

uint64_t slot_map_room(const struct slot_map *m)
{
	return (uint64_t)clusters_used(m) * SLOT_CLUSTER;
}

void slot_map_roomy(struct slot_map *m, uint64_t slots)
{
	m->roomy = slots;
}

/* Of slots that were taken so many are new to this member, which has none twice, whatever the map says. */
static uint32_t new_of(const struct slot_map *m, uint32_t slot, uint32_t n)
{
	uint32_t i = 0;

	while (i < n && !own_noted(m, m->held, slot + i) && !own_noted(m, m->busy, slot + i))
		i++;
	return i;
}

/* A run of the current cluster, from where the pass over it is: its length, *at in it; 0: it is passed. */
static uint32_t take_run(struct slot_map *m, uint32_t want, uint32_t *at)
{
	for (unsigned tries = 0; tries < TRIES; tries++) {
		uint32_t n = find_run(m->used + (size_t)m->current * CLUSTER_WORDS, m->next,
				      cluster_slots(m, m->current), want, at);

		if (n == 0)
			break;
		n = take_bits(m, m->current * SLOT_CLUSTER + *at, n);
		n = new_of(m, m->current * SLOT_CLUSTER + *at, n);
		if (n != 0)
			return n;
	}
	/* what was freed behind the pass is for the next one */
	cluster_leave(m);
	return 0;
}

/* The same of any cluster that says that it has one, in turn. */
static uint32_t take_anywhere(struct slot_map *m, uint32_t want, uint32_t *at)
{
	uint32_t n = clusters_used(m), from = m->hint < n ? m->hint : 0, got = 0;

	for (uint32_t i = 0; i < n && got == 0; i++) {
		uint32_t c = i < n - from ? from + i : i - (n - from);

		if ((LOAD(&m->cluster[c]) & CLUSTER_FREE) == 0)
			continue;
		cluster_enter(m, c);
		got = take_run(m, want, at);
	}
	return got;
}

uint32_t slot_alloc(struct slot_map *m, uint32_t want, uint32_t *first)
{
	uint32_t n = 0, at = 0;

	if (want == 0)
		return 0;
	if (want > SLOT_CLUSTER)
		want = SLOT_CLUSTER;
	if (m->current != NIL)
		n = take_run(m, want, &at);
	for (unsigned passes = 0; n == 0 && passes < PASSES; passes++) {
		if (!cluster_next(m))
			return 0;
		n = take_run(m, want, &at);
	}
	if (n == 0)
		n = take_anywhere(m, want, &at);
	if (n == 0)
		return 0;
	__atomic_fetch_sub(&m->cluster[m->current], n, __ATOMIC_RELAXED);
	__atomic_fetch_add(&m->h->used, n, __ATOMIC_RELAXED);
	m->next = at + n;
	at += m->current * SLOT_CLUSTER;
	for (uint32_t i = 0; i < n; i++)
		own_put(m, m->held, at + i, true);
	m->mine += n;
	*first = at;
	return n;
}

/* ---- users ---- */

static void slot_free(struct slot_map *m, uint32_t slot)
{
	STORE(&m->low[slot], 0);
	STORE(&m->high[slot], 0);
	/* release: pairs with take_bits() */
	__atomic_fetch_and(&m->used[slot / 64], ~((uint64_t)1 << slot % 64), __ATOMIC_RELEASE);
	__atomic_fetch_add(&m->cluster[slot / SLOT_CLUSTER], 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&m->h->used, 1, __ATOMIC_RELAXED);
}

/* A member less.  Two that are the last ones may both find another user: the later one sees 0 go below. */
static bool release(struct slot_map *m, uint32_t slot)
{
	if (LOAD(&m->h->shared) && __atomic_load_n(&m->users[slot], __ATOMIC_ACQUIRE) != 0 &&
	    __atomic_fetch_sub(&m->users[slot], 1, __ATOMIC_ACQ_REL) != 0)
		return false;
	STORE(&m->users[slot], 0);
	slot_free(m, slot);
	return true;
}

bool slot_put(struct slot_map *m, uint32_t slot)
{
	bool is_slot = slot != 0 && slot < m->max_slots;
	bool held = is_slot && bit_get(m->held, slot);

	check(is_slot && own_noted(m, m->held, slot), "is put, but it is not held", slot);
	if (!held)
		return false;
	own_put(m, m->held, slot, false);
	if (bit_get(m->busy, slot))
		return false;
	own_less(m);
	return release(m, slot);
}

void slot_busy(struct slot_map *m, uint32_t slot)
{
	check(own_noted(m, m->held, slot), "I/O, but it is not held", slot);
	check(!own_noted(m, m->busy, slot), "I/O, but it is busy", slot);
	own_put(m, m->busy, slot, true);
}

bool slot_idle(struct slot_map *m, uint32_t slot)
{
	check(own_noted(m, m->busy, slot), "I/O ended, but it was not busy", slot);
	own_put(m, m->busy, slot, false);
	if (bit_get(m->held, slot))
		return false;
	own_less(m);
	return release(m, slot);
}

bool slot_is_busy(const struct slot_map *m, uint32_t slot)
{
	return bit_get(m->busy, slot);
}

bool slot_held(const struct slot_map *m, uint32_t slot)
{
	return slot < m->max_slots && bit_get(m->held, slot);
}

unsigned slot_users(const struct slot_map *m, uint32_t slot)
{
	if (slot == 0 || slot >= m->max_slots || !bit_get(m->used, slot))
		return 0;
	return 1U + LOAD(&m->users[slot]);
}

void slot_csum_set(struct slot_map *m, uint32_t slot, uint64_t csum)
{
	check(own_noted(m, m->held, slot) || own_noted(m, m->busy, slot),
	      "a checksum for it, but it is not held", slot);
	STORE(&m->low[slot], (uint32_t)csum);
	STORE(&m->high[slot], (uint16_t)(csum >> 32));
}

uint64_t slot_csum(const struct slot_map *m, uint32_t slot)
{
	return LOAD(&m->low[slot]) | (uint64_t)LOAD(&m->high[slot]) << 32;
}

struct slot_csums slot_csums(const struct slot_map *m)
{
	return (struct slot_csums){.low = m->low, .high = m->high, .slots = m->max_slots};
}

/* ---- the map ---- */

int slot_map_open(struct slot_map **out, uint32_t nslots, uint32_t max_slots)
{
	struct slot_map *m;
	void *base = NULL;
	long r;

	if (nslots == 0 || max_slots < nslots)
		return -EINVAL;
	m = sys_mem_alloc(sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	m->max_slots = max_slots;
	m->current = NIL;
	m->fd = m->io_fd = -1;
	lay_out(m, 0);
	r = SYS2(memfd_create, "faultline-slots", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (!sys_err(r)) {
		m->fd = (int)r;
		r = SYS2(ftruncate, m->fd, m->common + SLOT_MEMBERS_MAX * m->stride);
	}
	if (!sys_err(r)) {
		base = map_shared(m->fd, 0, m->common);
		r = base != NULL && map_own(m, 0) == 0 ? lock_byte(m->fd, 0, false, NULL) : -ENOMEM;
	}
	if (r != 0) {
		unmap_own(m);
		sys_mem_free(base, m->common);
		if (m->fd >= 0)
			SYS1(close, m->fd);
		sys_mem_free(m, sizeof(*m));
		return r == -EMFILE || r == -ENFILE ? (int)r : -ENOMEM;
	}
	lay_out(m, (uintptr_t)base);
	m->h->magic = MAP_MAGIC;
	m->h->max_slots = max_slots;
	m->h->nslots = nslots;
	m->h->nmembers = 1;
	m->h->member[0].state = MEMBER_ALIVE;
	*out = m;
	return 0;
}

/* Unmap a view; its descriptor stays. */
static void view_free(struct slot_map *m)
{
	unmap_own(m);
	sys_mem_free(m->h, m->common);
	sys_mem_free(m, sizeof(*m));
}

void slot_map_close(struct slot_map *m)
{
	cluster_leave(m);
	SYS1(close, m->fd); /* and with it the lock that says that this member lives */
	view_free(m);
}

int slot_map_grow(struct slot_map *m, uint32_t nslots)
{
	uint32_t old = slots_now(m);
	uint32_t last = (old - 1) / SLOT_CLUSTER;
	uint32_t had = old - last * SLOT_CLUSTER;

	if (nslots < old)
		return LOAD(&m->h->shared) ? 0 : -EINVAL; /* another member was faster */
	if (nslots > m->max_slots)
		return -EINVAL;
	if (!__atomic_compare_exchange_n(&m->h->nslots, &old, nslots, false, __ATOMIC_RELAXED,
					 __ATOMIC_RELAXED))
		return 0; /* another member made it grow */
	/* The last cluster may have been cut short; the others are fresh. */
	if (last < clusters_used(m)) {
		uint32_t has = nslots - last * SLOT_CLUSTER;

		has = has < SLOT_CLUSTER ? has : SLOT_CLUSTER;
		__atomic_fetch_add(&m->cluster[last], has - had, __ATOMIC_RELAXED);
	}
	return 0;
}

uint32_t slot_map_total(const struct slot_map *m)
{
	return slots_now(m) - 1;
}

uint32_t slot_map_used(const struct slot_map *m)
{
	uint32_t used = LOAD(&m->h->used), total = slot_map_total(m);

	return used < total ? used : total;
}

uint32_t slot_map_mine(const struct slot_map *m)
{
	return m->mine;
}

unsigned slot_map_members(const struct slot_map *m)
{
	return LOAD(&m->h->nmembers);
}

uint64_t slot_map_bytes(const struct slot_map *m)
{
	uint64_t n = clusters_used(m);
	uint64_t bits = whole(n * SLOT_CLUSTER / 8);

	return whole(sizeof(struct header)) + whole(n * sizeof(*m->cluster)) + bits +
	       whole(n * SLOT_CLUSTER * sizeof(*m->low)) +
	       whole(n * SLOT_CLUSTER * sizeof(*m->high)) +
	       (LOAD(&m->h->shared) ? whole(n * SLOT_CLUSTER * sizeof(*m->users)) : 0) + 2 * bits;
}

/* ---- members ---- */

static int reopen(int proc_fd, int fd)
{
	char path[48];

	log_format(path, sizeof(path), "thread-self/fd/%d", fd);
	return (int)SYS4(openat, proc_fd, path, O_RDWR | O_CLOEXEC, 0);
}

/*
 * A number for a member that lives while fd's description is open; NIL when
 * there is none.  The byte is locked before the number is claimed, so that
 * nobody takes a member that is being made for a dead one: numbers are tried
 * in turn.
 */
static uint32_t claim_number(struct slot_map *m, int fd)
{
	for (uint32_t i = 0; i < SLOT_MEMBERS_MAX; i++) {
		uint32_t none = MEMBER_NONE;

		if (LOAD(&m->h->member[i].state) != MEMBER_NONE ||
		    lock_byte(fd, i, false, NULL) != 0)
			continue;
		if (__atomic_compare_exchange_n(&m->h->member[i].state, &none, MEMBER_ALIVE, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			return i;
	}
	return NIL;
}

/* A member more, before it has any slot. */
static void member_counted(struct slot_map *m)
{
	__atomic_fetch_add(&m->h->nmembers, 1, __ATOMIC_RELAXED);
	/* before any slot has a second user; others read it before they free one, which they then share with us */
	__atomic_store_n(&m->h->shared, 1, __ATOMIC_SEQ_CST);
}

int slot_map_join(struct slot_map *m, int proc_fd, struct slot_map **out)
{
	struct slot_map *c = sys_mem_alloc(sizeof(*c));
	int r = -ENOMEM;
	void *base;

	if (c == NULL)
		return -ENOMEM;
	*c = (struct slot_map){
		.max_slots = m->max_slots,
		.self = NIL,
		.current = NIL,
		.hint = m->hint,
		.roomy = m->roomy,
		.fd = reopen(proc_fd, m->fd),
		.io_fd = m->io_fd,
		.common = m->common,
		.stride = m->stride,
	};
	base = c->fd >= 0 ? map_shared(c->fd, 0, m->common) : NULL;
	if (base != NULL)
		c->self = claim_number(m, c->fd);
	if (c->self == NIL || map_own(c, c->self) != 0) {
		if (c->fd < 0)
			r = c->fd;
		else if (base != NULL && c->self == NIL)
			r = -EAGAIN;
		if (c->self != NIL)
			STORE(&m->h->member[c->self].state, MEMBER_NONE);
		sys_mem_free(base, m->common);
		if (c->fd >= 0)
			SYS1(close, c->fd);
		sys_mem_free(c, sizeof(*c));
		return r;
	}
	lay_out(c, (uintptr_t)base);
	member_counted(m);
	*out = c;
	return 0;
}

int slot_map_serve(struct slot_map *m)
{
	long r = SYS3(fcntl, m->fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL);

	if (sys_err(r))
		return (int)r;
	STORE(&m->h->served, 1);
	m->server = true;
	return 0;
}

int slot_map_invite(struct slot_map *m, int proc_fd, int *fd, uint32_t *member)
{
	int own = reopen(proc_fd, m->fd);

	if (own < 0)
		return own;
	*member = claim_number(m, own);
	if (*member == NIL) {
		SYS1(close, own);
		return -EAGAIN;
	}
	STORE(&m->h->member[*member].io, 0);
	member_counted(m);
	*fd = own;
	return 0;
}

/* A view of the map behind fd, of no member yet; NULL: fd has no such map, or there is no memory. */
static struct slot_map *view_make(int fd, uint32_t max_slots, int *err)
{
	struct slot_map *m = sys_mem_alloc(sizeof(*m));
	struct stat st;
	void *base = NULL;

	*err = -ENOMEM;
	if (m == NULL)
		return NULL;
	m->max_slots = max_slots;
	m->current = m->self = NIL;
	m->fd = fd;
	m->io_fd = -1;
	lay_out(m, 0);
	if (max_slots == 0 || sys_err(SYS2(fstat, fd, &st)) || !S_ISREG(st.st_mode) ||
	    (uint64_t)st.st_size != m->common + SLOT_MEMBERS_MAX * m->stride)
		*err = -EINVAL;
	else
		base = map_shared(fd, 0, m->common);
	if (base != NULL) {
		lay_out(m, (uintptr_t)base);
		if (LOAD(&m->h->magic) == MAP_MAGIC && LOAD(&m->h->max_slots) == max_slots &&
		    LOAD(&m->h->nslots) <= max_slots) {
			*err = 0;
			return m;
		}
		*err = -EINVAL;
	}
	sys_mem_free(base, m->common);
	sys_mem_free(m, sizeof(*m));
	return NULL;
}

static int view_bits(struct slot_map *m, uint32_t self)
{
	m->self = self;
	return map_own(m, self);
}

int slot_map_accept(struct slot_map **out, int fd, uint32_t member, uint32_t max_slots)
{
	int r;
	struct slot_map *m = view_make(fd, max_slots, &r);

	if (m == NULL)
		return r;
	if (member >= SLOT_MEMBERS_MAX || LOAD(&m->h->member[member].state) != MEMBER_ALIVE)
		r = -EINVAL;
	if (r == 0)
		r = view_bits(m, member);
	if (r != 0) {
		view_free(m);
		return r;
	}
	*out = m;
	return 0;
}

int slot_map_adopt(struct slot_map **out, int proc_fd, int fd, uint32_t max_slots)
{
	long seals = SYS3(fcntl, fd, F_GET_SEALS, 0);
	struct slot_map *m;
	uint32_t self;
	int own, r;

	if (sys_err(seals) || (seals & SEALS) != SEALS)
		return -EINVAL;
	own = reopen(proc_fd, fd);
	if (own < 0)
		return own;
	m = view_make(own, max_slots, &r);
	self = m != NULL ? claim_number(m, own) : NIL;
	if (m != NULL && self == NIL)
		r = -EAGAIN;
	else if (m != NULL)
		r = view_bits(m, self);
	if (r != 0) {
		if (self != NIL)
			STORE(&m->h->member[self].state, MEMBER_NONE);
		if (m != NULL)
			view_free(m);
		SYS1(close, own);
		return r;
	}
	STORE(&m->h->member[self].io, 0);
	member_counted(m);
	STORE(&m->h->served, 1);
	m->server = true;
	/* whoever ended while nobody served */
	STORE(&m->h->recount, 1);
	*out = m;
	return 0;
}

static unsigned count_bits(uint64_t v)
{
	unsigned n = 0;

	for (; v != 0; v &= v - 1)
		n++;
	return n;
}

int slot_map_count(int fd, uint32_t max_slots, struct slot_count *out)
{
	uint64_t *all, words;
	int r;
	struct slot_map *m = view_make(fd, max_slots, &r);

	*out = (struct slot_count){.used = 0};
	if (m == NULL)
		return r;
	all = sys_mem_alloc(m->stride / 2);
	if (all == NULL)
		r = -ENOMEM;
	words = words_in_use(m);
	for (uint32_t i = 0; r == 0 && i < SLOT_MEMBERS_MAX; i++) {
		uint64_t *held, *busy;
		bool alive = true, any = false;

		if (LOAD(&m->h->member[i].state) == MEMBER_NONE)
			continue;
		held = map_bits(m, fd, i);
		if (held == NULL) {
			r = -ENOMEM;
			break;
		}
		busy = held + m->stride / 2 / sizeof(uint64_t);
		for (uint64_t w = 0; w < words; w++) {
			uint64_t v = LOAD(&held[w]) | LOAD(&busy[w]);

			any = any || v != 0;
			all[w] |= v;
		}
		sys_mem_free(held, m->stride);
		lock_byte(fd, i, true, &alive);
		out->members += alive;
		out->dead += !alive && any;
	}
	for (uint64_t w = 0; r == 0 && w < words; w++) {
		uint64_t used = LOAD(&m->used[w]) & ~(uint64_t)(w == 0 ? 1 : 0);

		out->used += count_bits(used);
		out->lost += count_bits(used & ~all[w]);
		out->free += count_bits(all[w] & ~used & ~(uint64_t)(w == 0 ? 1 : 0));
	}
	sys_mem_free(all, m->stride / 2);
	view_free(m);
	return r;
}

int slot_map_fd(const struct slot_map *m)
{
	return m->fd;
}

int slot_share(struct slot_map *m, struct slot_map *child, uint32_t slot)
{
	check(own_noted(m, m->held, slot), "shared, but not held", slot);
	check(!own_noted(child, child->held, slot), "shared twice", slot);
	if (__atomic_fetch_add(&m->users[slot], 1, __ATOMIC_ACQ_REL) >= USERS_MAX) {
		__atomic_fetch_sub(&m->users[slot], 1, __ATOMIC_ACQ_REL);
		return -ENOMEM;
	}
	own_put(child, child->held, slot, true);
	child->mine++;
	return 0;
}

/* Give back every slot of the set; how many became free. */
static uint32_t release_all(struct slot_map *m, uint64_t *set, const uint64_t *except)
{
	uint64_t words = words_in_use(m);
	uint32_t freed = 0;

	for (uint64_t i = 0; i < words; i++) {
		uint64_t w = LOAD(&set[i]);

		if (except != NULL)
			w &= ~LOAD(&except[i]);
		while (w != 0) {
			uint32_t slot = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(w);

			w &= w - 1;
			bit_put(set, slot, false);
			freed += release(m, slot);
		}
	}
	return freed;
}

static void member_gone(struct slot_map *m, uint32_t member)
{
	__atomic_fetch_sub(&m->h->nmembers, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&m->h->member[member].state, MEMBER_NONE, __ATOMIC_RELEASE);
}

void slot_map_part(struct slot_map *m, struct slot_map *child, bool failed)
{
	if (failed) {
		release_all(m, child->held, NULL);
		member_gone(m, child->self);
	}
	SYS1(close, child->fd);
	view_free(child);
}

void slot_map_enter(struct slot_map *child, struct slot_map *parent, int fd)
{
	child->fd = fd;
	child->io_fd = -1;
	STORE(&child->h->member[child->self].io, 0);
	view_free(parent);
}

int slot_map_io(struct slot_map *m, int fd)
{
	int r = lock_byte(fd, IO_BYTE + m->self, false, NULL);

	if (r != 0)
		return r;
	m->io_fd = fd;
	STORE(&m->h->member[m->self].io, 1);
	return 0;
}

/* Whether what a dead member was busy with is over. */
static bool io_over(const struct slot_map *m, uint32_t i)
{
	const struct member *d = &m->h->member[i];
	bool going_on = true;

	if (!LOAD(&d->io) || m->io_fd < 0)
		return sys_now() - LOAD(&d->died) >= SLOT_QUARANTINE_NS;
	lock_byte(m->io_fd, IO_BYTE + i, true, &going_on);
	return !going_on;
}

/*
 * The server is alone, and holds nothing: everything is free, whatever is
 * written there.  The memory is given back.  False: it cannot be.
 */
static bool wipe(struct slot_map *m, uint32_t *freed)
{
	uint64_t head = whole(sizeof(struct header)), words = words_in_use(m);
	struct header *h = m->h;

	for (uint64_t i = 0; i < words; i++)
		*freed += count_bits(LOAD(&m->used[i]) & ~(uint64_t)(i == 0 ? 1 : 0));
	if (sys_err(SYS4(fallocate, m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, head,
			 m->common + SLOT_MEMBERS_MAX * m->stride - head)))
		return false;
	STORE(&h->nslots, m->max_slots);
	STORE(&h->max_slots, m->max_slots);
	STORE(&h->magic, MAP_MAGIC);
	STORE(&h->served, 1);
	STORE(&h->used, 0);
	STORE(&h->fresh, 0);
	for (uint32_t i = 0; i < SLOT_MEMBERS_MAX; i++) {
		STORE(&h->member[i].io, i == m->self && m->io_fd >= 0);
		STORE(&h->member[i].died, 0);
		STORE(&h->member[i].state, i == m->self ? MEMBER_ALIVE : MEMBER_NONE);
	}
	return true;
}

/* This member is the only one: what is in use and not its own was left by one that was killed half-way. */
static uint32_t recount(struct slot_map *m)
{
	uint64_t words = words_in_use(m);
	uint32_t freed = 0;

	if (m->server && m->mine == 0 && wipe(m, &freed))
		return freed;
	freed = 0;
	/* those who died left the marks of where they were at */
	for (uint64_t c = 0; c < words / CLUSTER_WORDS; c++)
		if (c != m->current)
			__atomic_fetch_and(&m->cluster[c], ~CLUSTER_TAKEN, __ATOMIC_RELAXED);
	for (uint64_t i = 0; i < words; i++) {
		uint64_t mine = LOAD(&m->held[i]) | LOAD(&m->busy[i]) | (i == 0);
		uint64_t lost = LOAD(&m->used[i]) & ~mine;

		for (uint32_t k = 0; k < 64; k++)
			if (mine >> k & 1)
				STORE(&m->users[i * 64 + k], 0);
		for (; lost != 0; lost &= lost - 1) {
			uint32_t slot = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(lost);

			STORE(&m->users[slot], 0);
			slot_free(m, slot);
			freed++;
		}
	}
	return freed;
}

/*
 * Whether this member is the only one: not by the count, which misses who died while joining.  A
 * server goes by the locks of members and of their I/O alone, for these nobody else can set for them.
 */
static bool alone(const struct slot_map *m)
{
	bool lives, writes = false;

	if (m->server) {
		lock_bytes(m->fd, 0, SLOT_MEMBERS_MAX, true, &lives);
		if (m->io_fd >= 0)
			lock_bytes(m->io_fd, IO_BYTE, SLOT_MEMBERS_MAX, true, &writes);
		return !lives && !writes;
	}
	for (uint32_t i = 0; i < SLOT_MEMBERS_MAX; i++)
		if (i != m->self && (LOAD(&m->h->member[i].state) & STATE_MASK) != MEMBER_NONE)
			return false;
	return !LOAD(&m->h->served);
}

/* Whether its bits are still to be given back: claimed for this member then. */
static bool claim_dead(struct slot_map *m, uint32_t i)
{
	uint32_t state = __atomic_load_n(&m->h->member[i].state, __ATOMIC_ACQUIRE);
	uint32_t by = state >> STATE_BITS;
	bool alive = true;

	if (i == m->self || (state & STATE_MASK) == MEMBER_NONE)
		return false;
	lock_byte(m->fd, i, true, &alive);
	if (alive)
		return false;
	if ((state & STATE_MASK) == MEMBER_SWEEPING && by != m->self) {
		lock_byte(m->fd, by, true, &alive);
		if (alive)
			return false;
	}
	if (!__atomic_compare_exchange_n(&m->h->member[i].state, &state,
					 MEMBER_SWEEPING | m->self << STATE_BITS, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return false;
	/* swept by another meanwhile, and the number given to a new member: that one has its lock */
	lock_byte(m->fd, i, true, &alive);
	if (alive)
		__atomic_store_n(&m->h->member[i].state, MEMBER_ALIVE, __ATOMIC_RELEASE);
	return !alive;
}

uint32_t slot_map_sweep(struct slot_map *m)
{
	uint32_t freed = 0;
	bool kept = false;

	/* what the map says of itself a server does not believe: a member may have spoilt it */
	if (!m->server && !LOAD(&m->h->shared))
		return 0;
	for (uint32_t i = 0; i < SLOT_MEMBERS_MAX; i++) {
		uint64_t words = words_in_use(m);
		struct member *d = &m->h->member[i];
		uint64_t *held, *busy;
		bool any = false;

		if (!claim_dead(m, i))
			continue;
		held = map_bits(m, m->fd, i);
		if (held == NULL) {
			/* it may be busy with any */
			kept = true;
			__atomic_store_n(&d->state, MEMBER_SWEPT, __ATOMIC_RELEASE);
			continue;
		}
		busy = held + m->stride / 2 / sizeof(uint64_t);
		if (LOAD(&d->died) == 0)
			STORE(&d->died, sys_now());
		freed += release_all(m, held, busy);
		for (uint64_t w = 0; w < words && !any; w++)
			any = LOAD(&busy[w]) != 0;
		if (any && io_over(m, i)) {
			for (uint64_t w = 0; w < words; w++)
				STORE(&held[w], LOAD(&held[w]) & ~LOAD(&busy[w]));
			freed += release_all(m, busy, NULL);
			any = false;
		}
		sys_mem_free(held, m->stride);
		STORE(&m->h->recount, 1);
		if (any) {
			kept = true;
			__atomic_store_n(&d->state, MEMBER_SWEPT, __ATOMIC_RELEASE);
		} else {
			STORE(&d->died, 0);
			member_gone(m, i);
		}
	}
	if (!kept && (m->server || LOAD(&m->h->recount)) && alone(m)) {
		STORE(&m->h->recount, 0);
		STORE(&m->h->nmembers, 1);
		freed += recount(m);
	}
	return freed;
}
