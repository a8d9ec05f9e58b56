/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * owner.h - files of a store that several programs have mapped, for tests: what each of them stores
 * there, and what everybody knows of it.
 *
 *	common pages	each owner has every third word of each
 *	alone pages	all words are of one owner, who punches them out now and then
 *	tail		is cut off and grows
 *
 * All words of an owner in a page are of one version.  The shadow tells which: begun before the first word is
 * stored, done after the last.  It is in memory of the kernel's, and so survives whoever is killed.
 *
 * The shadow's turn says what there is of a server: whoever sees it open before and after something
 * failed has found a mistake.  Only while it is open a file is changed but through a mapping, for a server that
 * is told of a mapping takes it only if nobody else has changed the file since it began.
 */
#ifndef FL_OWNER_H
#define FL_OWNER_H

#include <stddef.h>
#include <stdint.h>

#define OWNER_FILES 3U
#define OWNERS 3U
#define OWNER_COMMON 96U
#define OWNER_ALONE 24U /* pages of each */
#define OWNER_PAGES (OWNER_COMMON + OWNER_ALONE)
#define OWNER_STEADY (OWNER_COMMON + OWNERS * OWNER_ALONE) /* pages of a file that stay */
#define OWNER_TAIL 16U					   /* and behind them at most */
#define OWNER_PAGE 4096U
#define OWNER_WORDS (OWNER_PAGE / sizeof(uint64_t))

/* turn % TURNS; it only grows */
enum { TURN_OPEN, TURN_KILLED, TURN_TAKE, TURNS };

struct shadow {
	uint32_t turn;
	struct {
		uint32_t taken; /* the turn of a server that has taken its mapping */
		struct {
			uint32_t begun, done; /* versions */
		} page[OWNER_PAGES];
	} owner[OWNER_FILES][OWNERS];
};

static inline uint32_t owner_get(const uint32_t *v)
{
	return __atomic_load_n(v, __ATOMIC_SEQ_CST);
}

static inline void owner_set(uint32_t *v, uint32_t to)
{
	__atomic_store_n(v, to, __ATOMIC_SEQ_CST);
}

/* Where an owner's page k is in its file, its first word there, and how far to the next. */
static inline uint64_t owner_place(unsigned owner, unsigned k)
{
	return k < OWNER_COMMON ? k : k + (uint64_t)owner * OWNER_ALONE;
}

static inline size_t owner_first(unsigned owner, unsigned k)
{
	return k < OWNER_COMMON ? owner : 0;
}

static inline size_t owner_step(unsigned k)
{
	return k < OWNER_COMMON ? OWNERS : 1;
}

/* Of such a version nothing is stored: the page is punched out. */
static inline int owner_hole(unsigned k, uint32_t version)
{
	return version == 0 || (k >= OWNER_COMMON && version % 4 == 0);
}

static inline uint64_t owner_word(unsigned file, uint64_t place, size_t i, uint32_t version)
{
	uint64_t x = ((uint64_t)file << 56 | place << 44 | (uint64_t)i << 32) + version;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
	x = (x ^ x >> 27) * 0x94d049bb133111ebU;
	return x | 1;
}

/* Whether a word that was found is of one of these versions. */
static inline int owner_is_of(unsigned file, unsigned owner, unsigned k, size_t i, uint64_t have,
			      uint32_t low, uint32_t high)
{
	for (uint32_t v = low; v <= high; v++)
		if (have == (owner_hole(k, v) ? 0 : owner_word(file, owner_place(owner, k), i, v)))
			return 1;
	return 0;
}

/* The first word of an owner's page that is of none of these versions; OWNER_WORDS: none. */
static inline size_t owner_differs(const uint64_t *p, unsigned file, unsigned owner, unsigned k,
				   uint32_t low, uint32_t high)
{
	for (size_t i = owner_first(owner, k); i < OWNER_WORDS; i += owner_step(k))
		if (!owner_is_of(file, owner, k, i, __atomic_load_n(&p[i], __ATOMIC_RELAXED), low,
				 high))
			return i;
	return OWNER_WORDS;
}

/* ---- the program's side, owner.c ---- */

/* Map file number `file` of BASE as one of its owners, and begin; 0: it cannot be. */
int owner_begin(const char *base, unsigned file, unsigned owner);

/* End: what was begun is done. */
void owner_end(void);

/* Of a child that was forked: look at words, whosever. */
void owner_look(unsigned n);

#endif
