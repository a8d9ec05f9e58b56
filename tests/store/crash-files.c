/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * crash-files.c - courses of files: stores into shared mappings, write(2) through the
 * mount, syncs, truncation, holes, names, and processes that are killed.
 */
#include "crash-course.h"

#include "test.h"

#include <sys/mman.h>

#define STEPS 48U

struct step {
	struct order o;
	unsigned who;
	struct change *change; /* that it makes, or NULL */
	uint32_t mark;	       /* syncs: the changes before it */
};

static struct change *add_change(uint32_t file, uint64_t from, uint64_t to, uint32_t seed)
{
	struct change *c = &world->change[world->nchanges];

	assert_true(world->nchanges < CHANGES);
	*c = (struct change){.file = file, .from = from, .to = to, .seed = seed};
	world->nchanges++;
	return c;
}

/* What it may do is known before it begins. */
static void begin_step(struct step *s)
{
	struct order *o = &s->o;
	struct file *f = &world->file[o->file];

	s->mark = world->nchanges;
	switch (o->what) {
	case WRITE:
		if (o->to > f->size) {
			f->size_then = o->to;
			f->grows = true;
		}
		s->change = add_change(o->file, o->from, o->to, o->seed);
		break;
	case STORE:
		if (o->from < f->size)
			s->change = add_change(o->file, o->from, o->to, o->seed);
		break;
	case CUT:
		if (o->to < f->size) {
			s->change = add_change(o->file, o->to, f->size, 0);
			s->change->zero = s->change->cut = true;
		}
		f->size_then = o->to;
		f->grows = false;
		break;
	case HOLE:
		s->change = add_change(o->file, o->from, o->to, 0);
		s->change->zero = true;
		break;
	case RENAME:
		world->name_then[o->file] = world->name[o->name];
		world->name_then[o->name] = NOBODY;
		break;
	case REMOVE:
		world->name_then[o->name] = NOBODY;
		break;
	case CREATE:
		world->name_then[o->name] = world->nfiles;
		break;
	default:
		break;
	}
	tell(&process[s->who], o);
}

static void synced(uint32_t file, uint64_t from, uint64_t to, uint32_t mark)
{
	struct file *f = &world->file[file];

	for (uint64_t page = from / PG; page * PG < to; page++) {
		memcpy(f->base + page * PG, f->cur + page * PG, PG);
		f->synced[page] = mark;
	}
}

static void apply(const struct step *s)
{
	const struct order *o = &s->o;
	struct file *f = &world->file[o->what == RENAME ? 0 : o->file];
	struct change *c = s->change;

	if (c != NULL) {
		c->done = true;
		for (uint64_t at = c->from; at < c->to; at++)
			f->cur[at] = c->zero ? 0 : value(c->seed, at);
	}
	if (o->what == MSYNC && o->seed == MS_SYNC)
		synced(o->file, o->from, o->to, s->mark);
	if (o->what == FSYNC)
		synced(o->file, 0, ROOM, s->mark);
	if (o->what == CREATE) {
		f = &world->file[world->nfiles++];
		memset(f, 0, sizeof(*f));
		f->ino = ino_of(o->name);
	}
	f->size = f->size_then;
	if (o->what == FSYNC || (o->what == MSYNC && o->seed == MS_SYNC))
		f->durable = crash_synced(f->ino);
	if (!power && (o->what == WRITE || o->what == CUT || o->what == HOLE) &&
	    !is_mapped(o->file))
		synced(o->file, 0, ROOM, world->nchanges);
	memcpy(world->name, world->name_then, sizeof(world->name));
}

static void end_step(struct step *s)
{
	int64_t r = hear(&process[s->who]);

	if (r >= 0) {
		apply(s);
		return;
	}
	if (!__atomic_load_n(&crash->killed, __ATOMIC_SEQ_CST) || r == -EBADMSG || r == -EOWNERDEAD)
		fail_msg("%s: operation %d of process %u: %s", course, (int)s->o.what, s->who,
			 strerror((int)-r));
	over = true;
}

static void one_step(struct step s)
{
	begin_step(&s);
	end_step(&s);
}

static uint32_t a_name(bool taken)
{
	uint32_t n = (uint32_t)(next() % NAMES);

	for (unsigned i = 0; i < NAMES; i++, n = (n + 1) % NAMES)
		if ((world->name[n] != NOBODY) == taken)
			return n;
	return NOBODY;
}

/* A file that has a name; mostly one that is mapped. */
static uint32_t a_file(void)
{
	uint32_t file = world->name[a_name(true)];

	return file == UNMAPPED && next() % 4 != 0 ? world->name[a_name(true)] : file;
}

/* Some bytes of [0, limit), mostly among the first pages. */
static void a_range(struct order *o, uint64_t limit)
{
	uint64_t part = next() % 3 != 0 && limit > 24 * PG ? 24 * PG : limit;
	uint64_t n = next() % 3 == 0 ? 1 + next() % 300 : 1 + next() % (12 * PG);

	o->from = next() % part;
	o->to = o->from + n < limit ? o->from + n : limit;
}

static void open_all(unsigned who)
{
	for (uint32_t n = 0; n < NAMES && !is_over(); n++)
		if (world->name[n] != NOBODY)
			one_step(
				(struct step){.o = {OPEN, n, world->name[n], 0, 0, 0}, .who = who});
}

static void step_sync(uint32_t file, unsigned who)
{
	struct file *f = &world->file[file];
	struct step s = {.o = {.what = FSYNC, .file = file}, .who = who};
	struct step other = {.o = {.what = STORE, .file = file, .seed = (uint32_t)next()},
			     .who = 1 - who};
	bool two = is_mapped(file) && f->size != 0 && next() % 2 == 0;

	if (is_mapped(file) && next() % 3 != 0) {
		s.o.what = MSYNC;
		a_range(&s.o, ROOM);
		s.o.from = s.o.from / PG * PG;
		s.o.to = (s.o.to + PG - 1) / PG * PG;
		s.o.seed = next() % 4 == 0 ? MS_ASYNC : MS_SYNC;
	} else {
		s.o.seed = next() % 2;
	}
	if (two)
		a_range(&other.o, f->size);
	begin_step(&s);
	if (two)
		begin_step(&other);
	end_step(&s);
	if (two)
		end_step(&other);
}

static unsigned names_taken(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < NAMES; i++)
		n += world->name[i] != NOBODY;
	return n;
}

static void step_names(uint32_t from, unsigned who)
{
	uint32_t to = a_name(names_taken() > 2 && next() % 4 == 0);

	if (to != NOBODY && to != from && next() % 2 == 0) {
		one_step(
			(struct step){.o = {.what = RENAME, .name = from, .file = to}, .who = who});
	} else if (world->nfiles < FILES && next() % 2 == 0 && a_name(false) != NOBODY) {
		to = a_name(false);
		one_step((struct step){.o = {.what = CREATE, .name = to}, .who = who});
		for (unsigned i = 0; i < CLIENTS && !is_over(); i++)
			one_step(
				(struct step){.o = {OPEN, to, world->name[to], 0, 0, 0}, .who = i});
	} else if (world->name[from] != UNMAPPED && names_taken() > 2) {
		one_step((struct step){.o = {.what = REMOVE, .name = from}, .who = who});
	}
}

/* Another size: anything, a little less, or a little more. */
static uint64_t a_size(uint64_t size)
{
	uint64_t n = next() % (3 * PG);

	switch (next() % 3) {
	case 0:
		return next() % ROOM;
	case 1:
		return size > n ? size - n : 0;
	default:
		return size + n < ROOM ? size + n : ROOM;
	}
}

static void step_change(uint32_t file, unsigned who, uint64_t kind)
{
	struct file *f = &world->file[file];
	struct step s = {.o = {.what = STORE, .file = file, .seed = (uint32_t)next()}, .who = who};
	uint64_t limit = f->size;

	/* sizes and holes are the host's to keep: only bytes are looked at */
	if (power)
		kind %= 65;
	if (kind < 45 && is_mapped(file) && f->size != 0) {
		a_range(&s.o, limit);
		/* what is stored behind the end is nobody's */
		if (next() % 4 == 0 && f->size % PG != 0) {
			s.o.from = f->size;
			s.o.to = (f->size + PG - 1) / PG * PG;
		}
	} else if (kind < 65 || f->size == 0) {
		s.o.what = WRITE;
		if (!power && next() % 4 == 0)
			limit = f->size + 5 * PG < ROOM ? f->size + 5 * PG : ROOM;
		a_range(&s.o, limit != 0 ? limit : PG);
		if (!power && next() % 5 == 0 && f->size + 1000 < ROOM) {
			s.o.from = f->size;
			s.o.to = f->size + 1000;
		}
		/* no hole in between: it is told apart from nothing */
		if (s.o.from > f->size)
			s.o.from = f->size;
	} else if (kind < 82) {
		s.o.what = HOLE;
		a_range(&s.o, limit);
	} else {
		s.o.what = CUT;
		s.o.seed = next() % 2;
		s.o.to = a_size(f->size);
	}
	one_step(s);
	if (s.o.what != STORE || s.o.from >= limit || next() % 2 == 0 || is_over())
		return;
	/* as programs do */
	s.o.what = MSYNC;
	s.o.seed = MS_SYNC;
	s.o.from = s.o.from / PG * PG;
	s.o.to = (s.o.to + PG - 1) / PG * PG;
	one_step(s);
}

static void a_step(void)
{
	unsigned who = (unsigned)(next() % CLIENTS);
	uint32_t file = a_file();
	uint64_t what = next() % 100;

	if (what < 50) {
		step_change(file, who, next() % 100);
	} else if (what < 72) {
		step_sync(file, who);
	} else if (what < 82) {
		one_step((struct step){.o = {.what = CHECK, .file = file}, .who = who});
	} else if (what < 90 && !power) {
		step_names(a_name(true), who);
	} else if (what < 96) {
		one_step((struct step){.o = {.what = CLOSE, .file = file}, .who = who});
		open_all(who);
	} else {
		end_it(&process[who]);
		start(&process[who], 0);
		open_all(who);
	}
}

/* After the server's end processes go on with what they hold. */
static void processes_are_right(void)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		for (uint32_t file = 0; file < world->nfiles; file++) {
			int64_t r = order(&process[i], &(struct order){.what = LOOK, .file = file});

			if (r < 0)
				fail_msg("%s: process %u: %s", course, i, strerror((int)-r));
			/* nobody says that anything is written any more */
			if (is_mapped(file) && order(&process[i], &(struct order){.what = MSYNC,
										  .file = file,
										  .seed = MS_SYNC,
										  .to = ROOM}) == 0)
				fail_msg("%s: process %u: a sync without a server", course, i);
		}
	}
}

uint32_t files_course(const struct plan *p, uint32_t at, bool *killed)
{
	if (p->opening)
		crash_arm(p->kinds, at, p->power);
	for (unsigned i = 0; i < CLIENTS; i++)
		open_all(i);
	if (!p->opening)
		crash_arm(p->kinds, at, p->power);
	for (unsigned i = 0; i < STEPS && !is_over(); i++)
		a_step();
	*killed = crash_disarm();
	if (*killed) {
		crash_wait();
		processes_are_right();
	} else {
		for (unsigned i = 0; i < CLIENTS; i++)
			assert_int_equal(order(&process[i], &(struct order){.what = END}), 0);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		end_it(&process[i]);
	if (!*killed)
		crash_end();
	else if (p->power)
		lose_power();
	host_is_right(*killed);
	return crash->count;
}
