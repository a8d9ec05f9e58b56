/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test-store-crash.c - a store's server is killed at one of its steps (crash.h), and
 * what it leaves is held against what was promised.
 *
 * A course is a sequence of operations that follows from a seed: stores into shared
 * mappings, write(2) through the mount, syncs, truncation, holes, names, and processes
 * that are killed, by two processes that this one tells what to do, one operation
 * at a time or two at once.  It is run again and again; each time the server is
 * killed at another point of it.  Then
 *
 *	the processes see in their mappings what they stored last, or SIGBUS;
 *	on the host each byte is what it was when it was last synced, or what was
 *	stored there after that; sizes and names are those of the operations
 *	that were answered, and the operation that was not is done or not;
 *	`faultline store check` finds nothing, and a new server shows the same.
 *
 * A course whose end is reached ends with the server's own end: then all is there.
 *
 * The other kind of course is of memory that is swapped to the store's area.
 *
 * FL_CRASH_KILLS is the number of kills of each test, or "all": at each point;
 * FL_CRASH_SEED makes the course another one, FL_CRASH_AT is one point alone, and with
 * FL_CRASH_VERBOSE each run says where the server was killed.
 *
 * usage: test-store-crash [TEST]
 */
#include "mounted.h"

#include "crash.h"

#include "api.h"
#include "server.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG 4096UL
#define CLIENTS 2U
#define LIMIT (2UL << 20)
#define CACHE (2UL << 20) /* all files do not fit */
#define NAMES 4U
#define PAGES 220U
#define ROOM (PAGES * PG)
#define FILES 8U    /* that a course makes */
#define UNMAPPED 2U /* this one is never mapped */
#define STEPS 48U
#define CHANGES 256U
#define NOBODY UINT32_MAX

/* --- content --- */

/* Never zero, so that zeros are never what somebody stored. */
static uint8_t value(uint32_t seed, uint64_t at)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15U ^ (uint64_t)seed * 0xbf58476d1ce4e5b9U;

	return (uint8_t)(1 + ((x ^ x >> 29) * 0x94d049bb133111ebU >> 40) % 255);
}

static uint64_t rng;

static uint64_t next(void)
{
	uint64_t x = rng += 0x9e3779b97f4a7c15U;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
	x = (x ^ x >> 27) * 0x94d049bb133111ebU;
	return x ^ x >> 31;
}

/* --- what is known of the files --- */

/* Bytes [from, to) of a file became others. */
struct change {
	uint32_t file;
	uint64_t from, to;
	uint32_t seed;
	bool zero; /* a hole, or cut off */
	bool done; /* and its operation was answered */
	bool cut;
};

struct file {
	ino_t ino;
	uint64_t size;
	uint64_t size_then;	/* of an operation that was not answered; else the same */
	bool grows;		/* and sizes in between are right, too */
	uint32_t durable;	/* that many of the host's writes are (crash.h) */
	uint32_t synced[PAGES]; /* changes before that are in base */
	uint8_t cur[ROOM];	/* as the last operations left it; zeros behind the end */
	uint8_t base[ROOM];	/* as of the last sync */
};

/* In memory that the processes share; written by the test alone. */
struct world {
	struct file file[FILES];
	uint32_t nfiles;
	uint32_t name[NAMES];	   /* the file of each, or NOBODY */
	uint32_t name_then[NAMES]; /* after an operation that was not answered */
	struct change change[CHANGES];
	uint32_t nchanges;
};

static struct world *world;
static bool direct; /* the mount is: nothing can be mapped */

/* What is written to a file that is not is the host's at once. */
static bool is_mapped(uint32_t file)
{
	return !direct && file != UNMAPPED;
}
static char name_of[NAMES][2] = {"a", "b", "c", "d"};

static unsigned run; /* each has a directory of its own: names of the one before may be known */

static const char *on_mount(uint32_t name)
{
	char text[64];

	snprintf(text, sizeof(text), "mnt/files/%u/%s", run, name_of[name]);
	return in_base(text);
}

static const char *on_host(uint32_t name)
{
	char text[64];

	snprintf(text, sizeof(text), "store/files/%u/%s", run, name_of[name]);
	return in_base(text);
}

/* Whether a byte may be v on the host. */
static bool may_be(uint32_t file, uint64_t at, uint8_t v, bool was_cut)
{
	const struct file *f = &world->file[file];

	for (uint32_t k = world->nchanges; k-- > f->synced[at / PG];) {
		const struct change *c = &world->change[k];

		if (c->file != file || at < c->from || at >= c->to)
			continue;
		/* what was not cut off is not to be changed by the attempt */
		if (c->cut && !c->done && !was_cut)
			continue;
		if (v == (c->zero ? 0 : value(c->seed, at)))
			return true;
		if (c->zero && c->done)
			return false;
	}
	return v == f->base[at];
}

/* --- the processes --- */

enum what {
	OPEN,	/* `file` by `name` unless it is open, mapped if it is to be */
	CLOSE,	/* `file`, if it is open */
	STORE,	/* `seed` into [from, to) of its mapping */
	WRITE,	/* by write(2) */
	MSYNC,	/* pages [from, to), with the flags `seed` */
	FSYNC,	/* `seed`: of the data alone */
	CUT,	/* to `to` bytes; `seed`: by ftruncate(2), not fl_ftruncate() */
	HOLE,	/* [from, to) */
	RENAME, /* `name` to `file` */
	REMOVE, /* `name` */
	CREATE, /* `name` */
	CHECK,	/* that the file is what it should be, mapped and read */
	LOOK,	/* the same of what is in memory, after the server's end */
	/* of memory */
	FILL,	/* all of it with version `seed` */
	VERIFY, /* that it has that, or `file`; `from`: pages may be lost; how many are */
	/* of both */
	END,
};

struct order {
	enum what what;
	uint32_t name, file, seed;
	uint64_t from, to;
};

struct process {
	pid_t pid;
	int sock;
	bool busy;
};

static struct process process[CLIENTS];

static sigjmp_buf escape;
static struct fl *fl;
static int own_sock;
static struct {
	int fd;
	char *map;
} opened[FILES];

static void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

static int64_t failed(int r)
{
	return r == 0 ? 0 : -errno;
}

static int64_t do_open(const struct order *o)
{
	struct stat st;
	int fd;

	if (opened[o->file].fd >= 0)
		return 0;
	fd = open(on_mount(o->name), O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -errno;
	opened[o->file].fd = fd;
	opened[o->file].map = NULL;
	if (!is_mapped(o->file))
		return (int64_t)st.st_ino;
	opened[o->file].map = fl_mmap(fl, NULL, ROOM, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (opened[o->file].map == FL_FAILED) {
		opened[o->file].map = NULL;
		return -errno;
	}
	return (int64_t)st.st_ino;
}

static int64_t do_close(const struct order *o)
{
	int64_t r = 0;

	if (opened[o->file].map != NULL)
		r = fl_munmap(fl, opened[o->file].map, ROOM);
	opened[o->file].map = NULL;
	if (opened[o->file].fd >= 0)
		close(opened[o->file].fd);
	opened[o->file].fd = -1;
	return r;
}

static int64_t do_store(const struct order *o)
{
	volatile char *p = opened[o->file].map;

	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t at = o->from; at < o->to; at++)
		p[at] = (char)value(o->seed, at);
	return 0;
}

static uint8_t buffer[ROOM];

static int64_t do_write(const struct order *o)
{
	uint64_t n = o->to - o->from;
	ssize_t r;

	for (uint64_t at = o->from; at < o->to; at++)
		buffer[at - o->from] = value(o->seed, at);
	r = pwrite(opened[o->file].fd, buffer, n, (off_t)o->from);
	if (r < 0)
		return -errno;
	return (uint64_t)r == n ? 0 : -EIO;
}

static int64_t differs(const char *what, uint32_t file, uint64_t at, uint8_t have)
{
	fprintf(stderr, "%s: file %u, byte %lu (page %lu): %02x, not %02x\n", what, file,
		(unsigned long)at, (unsigned long)(at / PG), have, world->file[file].cur[at]);
	return -EBADMSG;
}

/* The file by read(2), and by its mapping. */
static int64_t do_check(const struct order *o)
{
	const struct file *f = &world->file[o->file];
	volatile uint8_t *map = (volatile uint8_t *)opened[o->file].map;
	ssize_t n = pread(opened[o->file].fd, buffer, ROOM, 0);

	if (n < 0)
		return -errno;
	if ((uint64_t)n != f->size) {
		fprintf(stderr, "file %u: %ld bytes, not %lu\n", o->file, (long)n,
			(unsigned long)f->size);
		return -EBADMSG;
	}
	for (uint64_t at = 0; at < (uint64_t)n; at++)
		if (buffer[at] != f->cur[at])
			return differs("read", o->file, at, buffer[at]);
	if (map == NULL)
		return 0;
	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t at = 0; at < f->size; at++)
		if (map[at] != f->cur[at])
			return differs("mapped", o->file, at, map[at]);
	return 0;
}

/* What a byte is in memory while an operation was not answered. */
static bool in_flight(uint32_t file, uint64_t at, uint8_t have)
{
	for (uint32_t k = world->nchanges; k-- > 0;) {
		const struct change *c = &world->change[k];

		if (c->file == file && !c->done && at >= c->from && at < c->to &&
		    have == (c->zero ? 0 : value(c->seed, at)))
			return true;
	}
	return false;
}

/* 1: it is not in memory. */
static int64_t look_page(uint32_t file, uint64_t from, uint64_t end)
{
	const struct file *f = &world->file[file];
	const volatile uint8_t *map = (volatile uint8_t *)opened[file].map;

	if (sigsetjmp(escape, 1) != 0)
		return 1;
	for (uint64_t at = from; at < end; at++) {
		uint8_t have = map[at];

		if (have != f->cur[at] && !in_flight(file, at, have))
			return differs("after the server's end", file, at, have);
	}
	return 0;
}

static int64_t do_look(const struct order *o)
{
	const struct file *f = &world->file[o->file];
	uint64_t size = f->size < f->size_then ? f->size : f->size_then;
	int64_t lost = 0, r = 0;

	if (opened[o->file].map == NULL)
		return 0;
	for (uint64_t from = 0; r >= 0 && from < size; from += PG) {
		r = look_page(o->file, from, from + PG < size ? from + PG : size);
		lost += r;
	}
	return r < 0 ? r : lost;
}

/* Memory of the process's own. */
#define OWN_PAGES 1536U
static char *memory;

static int64_t do_fill(const struct order *o)
{
	if (memory == NULL)
		memory = fl_mmap(fl, NULL, OWN_PAGES * PG, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == FL_FAILED) {
		memory = NULL;
		return -errno;
	}
	if (sigsetjmp(escape, 1) != 0)
		return -EFAULT;
	for (uint64_t page = 0; page < OWN_PAGES; page++)
		for (uint64_t at = page * PG; at < page * PG + PG; at += 64)
			memory[at] = (char)value(o->seed, at);
	return 0;
}

static int64_t verify_page(const struct order *o, uint64_t page)
{
	const volatile uint8_t *p = (volatile uint8_t *)memory;

	if (sigsetjmp(escape, 1) != 0)
		return 1;
	for (uint64_t at = page * PG; at < page * PG + PG; at += 64) {
		uint8_t have = p[at];

		if (have == value(o->seed, at) || have == value(o->file, at))
			continue;
		fprintf(stderr, "memory, byte %lu of page %lu: %02x, not %02x\n",
			(unsigned long)(at % PG), (unsigned long)page, have, value(o->seed, at));
		return -EBADMSG;
	}
	return 0;
}

static int64_t do_verify(const struct order *o)
{
	int64_t lost = 0, r = 0;

	for (uint64_t page = 0; memory != NULL && r >= 0 && page < OWN_PAGES; page++) {
		r = verify_page(o, page);
		lost += r;
	}
	if (r < 0)
		return r;
	return lost != 0 && !o->from ? -EFAULT : lost;
}

static int64_t obey(const struct order *o)
{
	int fd;

	switch (o->what) {
	case OPEN:
		return do_open(o);
	case CLOSE:
		return do_close(o);
	case STORE:
		return do_store(o);
	case WRITE:
		return do_write(o);
	case MSYNC:
		return fl_msync(fl, opened[o->file].map + o->from, o->to - o->from, (int)o->seed);
	case FSYNC:
		fd = opened[o->file].fd;
		return failed(o->seed ? fdatasync(fd) : fsync(fd));
	case CUT:
		fd = opened[o->file].fd;
		return o->seed ? failed(ftruncate(fd, (off_t)o->to))
			       : fl_ftruncate(fl, fd, (off_t)o->to);
	case HOLE:
		return failed(fallocate(opened[o->file].fd,
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)o->from,
					(off_t)(o->to - o->from)));
	case RENAME:
		return failed(rename(on_mount(o->name), on_mount(o->file)));
	case REMOVE:
		return failed(unlink(on_mount(o->name)));
	case CREATE:
		fd = open(on_mount(o->name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			return -errno;
		close(fd);
		return 0;
	case CHECK:
		return do_check(o);
	case LOOK:
		return do_look(o);
	case FILL:
		return do_fill(o);
	case VERIFY:
		return do_verify(o);
	case END:
		return fl_close(fl);
	}
	return -EINVAL;
}

static void say_nothing(void *arg, enum fl_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

static _Noreturn void live(unsigned store_flags)
{
	static const int signals[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL};
	struct sigaction sa = {.sa_handler = on_bus};
	char mnt[PATH_MAX];
	struct fl_options options = {
		.size = sizeof(options),
		.limit = LIMIT,
		.store = mnt,
		.store_flags = store_flags,
		.log = say_nothing,
	};
	struct order o;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	sigaction(SIGBUS, &sa, NULL);
	snprintf(mnt, sizeof(mnt), "%s/mnt", base);
	for (unsigned i = 0; i < FILES; i++)
		opened[i].fd = -1;
	/* one that came when there was no server has nothing, and says so */
	err = fl_open(&fl, &options);
	while (read(own_sock, &o, sizeof(o)) == (ssize_t)sizeof(o)) {
		int64_t r = err == 0 ? obey(&o) : o.what == LOOK ? 0 : err;

		if (write(own_sock, &r, sizeof(r)) != (ssize_t)sizeof(r) || o.what == END)
			break;
	}
	_exit(0);
}

static void start(struct process *p, unsigned store_flags)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (p->pid == 0) {
		close(pair[0]);
		own_sock = pair[1];
		live(store_flags);
	}
	close(pair[1]);
	p->sock = pair[0];
}

static void end_it(struct process *p)
{
	if (p->pid == 0)
		return;
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	close(p->sock);
	p->pid = 0;
}

static char course[128]; /* for messages: what is run */

static void tell(const struct process *p, const struct order *o)
{
	/* one that has ended is found by who listens to it */
	if (write(p->sock, o, sizeof(*o)) < 0)
		assert_int_equal(errno, EPIPE);
}

static int64_t hear(const struct process *p)
{
	struct pollfd f = {.fd = p->sock, .events = POLLIN};
	int64_t r;

	if (poll(&f, 1, HANG_SECONDS * 1000) != 1)
		fail_msg("%s: process %d does not answer", course, (int)p->pid);
	if (read(p->sock, &r, sizeof(r)) != (ssize_t)sizeof(r))
		return -EOWNERDEAD;
	return r;
}

static int64_t order(const struct process *p, const struct order *o)
{
	tell(p, o);
	return hear(p);
}

/* --- courses of files --- */

struct step {
	struct order o;
	unsigned who;
	struct change *change; /* that it makes, or NULL */
	uint32_t mark;	       /* syncs: the changes before it */
};

static bool over;  /* the server was killed, and somebody noticed */
static bool power; /* what is written is the host's with the next fsync(2) only */

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

static ino_t ino_of(uint32_t name)
{
	struct stat st;

	return stat(on_host(name), &st) == 0 ? st.st_ino : 0;
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

static bool is_over(void)
{
	return over || __atomic_load_n(&crash->killed, __ATOMIC_SEQ_CST);
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

/* --- what is left --- */

static void names_are_right(void)
{
	ino_t have[NAMES];
	bool now = true, then = true;

	for (uint32_t n = 0; n < NAMES; n++) {
		ino_t a = world->name[n] != NOBODY ? world->file[world->name[n]].ino : 0;
		ino_t b = world->name_then[n] != NOBODY ? world->file[world->name_then[n]].ino : 0;

		have[n] = ino_of(n);
		now &= have[n] == a;
		/* one that is being made has a number that nobody was told */
		then &= world->name_then[n] == world->nfiles ? have[n] != 0 : have[n] == b;
	}
	if (!now && !then)
		fail_msg("%s: names are neither as before the last operation nor as after it",
			 course);
	if (!now)
		memcpy(world->name, world->name_then, sizeof(world->name));
}

static ssize_t read_file(const char *path, uint8_t *buf)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, buf, ROOM, 0) : -1;
	char more;

	if (n == (ssize_t)ROOM && pread(fd, &more, 1, ROOM) != 0)
		n = -1;
	if (fd >= 0)
		close(fd);
	return n;
}

static void file_is_right(uint32_t name, bool killed)
{
	uint32_t file = world->name[name];
	const struct file *f = &world->file[file];
	ssize_t n = read_file(on_host(name), buffer);
	uint64_t size = (uint64_t)n;
	bool right;

	if (file >= world->nfiles) {
		/* just made */
		assert_int_equal(n, 0);
		return;
	}
	right = size == f->size || size == f->size_then;
	if (f->grows)
		right |= size > f->size && size < f->size_then;
	if (!right)
		fail_msg("%s: file %u has %ld bytes, not %lu (or %lu)", course, file, (long)n,
			 (unsigned long)f->size, (unsigned long)f->size_then);
	if (memcmp(buffer, f->cur, size) == 0)
		return;
	for (uint64_t at = 0; at < size; at++) {
		if (buffer[at] == f->cur[at] ||
		    (killed && may_be(file, at, buffer[at], size == f->size_then)))
			continue;
		fail_msg("%s: file %u of %lu bytes (of %lu, %lu): byte %lu (page %lu) is %02x; "
			 "synced: %02x, stored last: %02x",
			 course, file, (unsigned long)size, (unsigned long)f->size,
			 (unsigned long)f->size_then, (unsigned long)at, (unsigned long)(at / PG),
			 buffer[at], f->base[at], f->cur[at]);
	}
}

static void host_is_right(bool killed)
{
	char dir[32];
	struct dirent *e;
	unsigned extra = 0;
	DIR *dp;

	snprintf(dir, sizeof(dir), "store/files/%u", run);
	names_are_right();
	for (uint32_t n = 0; n < NAMES; n++)
		if (world->name[n] != NOBODY)
			file_is_right(n, killed);
	dp = opendir(in_base(dir));
	assert_non_null(dp);
	while ((e = readdir(dp)) != NULL)
		extra += e->d_name[0] != '.' && (e->d_name[0] > 'd' || e->d_name[1] != '\0');
	closedir(dp);
	if (extra != 0)
		fail_msg("%s: %u files that nobody made", course, extra);
}

static void store_is_right(void)
{
	struct why why = {.text = ""};
	int n = store_check(in_base("store"), stderr, &why);

	if (n != 0)
		fail_msg("%s: store check: %d, %s", course, n, why.text);
}

/*
 * Of each page some of the last writes that are not durable are undone, as a disk may
 * have done them in any order.
 */
static void lose_power(void)
{
	const uint32_t n = crash->nold;

	assert_true(n <= CRASH_OLD_MAX);
	for (uint32_t name = 0; name < NAMES; name++) {
		bool kept[PAGES] = {false};
		const struct file *f;
		int fd;

		if (world->name[name] == NOBODY)
			continue;
		f = &world->file[world->name[name]];
		fd = open(on_host(name), O_RDWR | O_CLOEXEC);
		assert_true(fd >= 0);
		for (uint32_t k = n; k-- > f->durable;) {
			const struct crash_old *o = &crash->old[k];

			/* the newest first: once one is kept, those before it are, too */
			if (o->ino != f->ino || kept[o->page])
				continue;
			if (next() % 2 == 0) {
				kept[o->page] = true;
				continue;
			}
			assert_int_equal(
				pwrite(fd, crash->bytes[k], o->bytes, (off_t)(o->page * PG)),
				(ssize_t)o->bytes);
		}
		close(fd);
	}
}

/* The next server shows what is on the host. */
static void next_shows_the_same(void)
{
	static uint8_t other[ROOM];

	for (uint32_t n = 0; n < NAMES; n++) {
		ssize_t size = read_file(on_host(n), buffer);

		if (read_file(on_mount(n), other) != size ||
		    (size > 0 && memcmp(buffer, other, (size_t)size) != 0))
			fail_msg("%s: a new server shows something else", course);
	}
	store_is_right();
}

static void make_files(void)
{
	char dir[64];

	snprintf(dir, sizeof(dir), "store/files/%u", run);
	assert_int_equal(mkdir(in_base(dir), 0755), 0);
	world->nfiles = 3;
	world->nchanges = 0;
	for (uint32_t n = 0; n < NAMES; n++)
		world->name[n] = world->name_then[n] = n < 3 ? n : NOBODY;
	for (uint32_t n = 0; n < 3; n++) {
		struct file *f = &world->file[n];
		int fd = open(on_host(n), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

		memset(f, 0, sizeof(*f));
		f->size = f->size_then = (PAGES - 60) * PG + next() % (50 * PG);
		for (uint64_t at = 0; at < f->size; at++)
			f->cur[at] = value(n, at);
		memcpy(f->base, f->cur, ROOM);
		assert_int_equal(write(fd, f->cur, f->size), (ssize_t)f->size);
		close(fd);
		f->ino = ino_of(n);
	}
}

static void remove_files(void)
{
	char dir[64];

	for (uint32_t n = 0; n < NAMES; n++)
		unlink(on_host(n));
	snprintf(dir, sizeof(dir), "store/files/%u", run);
	rmdir(in_base(dir));
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

struct plan {
	const char *name;
	uint32_t kinds;
	struct crash_mount mount;
	unsigned store_flags; /* of runtimes */
	bool opening;	      /* points count while files are opened for the first time */
	bool power;	      /* with the server the host loses what was not made durable */
	uint32_t (*body)(const struct plan *p, uint32_t at, bool *killed);
};

static uint32_t files_course(const struct plan *p, uint32_t at, bool *killed)
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

/* --- courses of memory --- */

static struct {
	uint32_t now, then; /* versions that it may have */
} version[CLIENTS];

/* What is in memory or swapped is right; through the mount it may be lost with the server. */
static void memory_is_right(const struct plan *p)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		int64_t r;

		if (process[i].pid == 0 || version[i].then == 0)
			continue;
		r = order(&process[i], &(struct order){.what = VERIFY,
						       .seed = version[i].now,
						       .file = version[i].then,
						       .from = p->store_flags != 0});
		/* a runtime that cannot go on ends its process */
		if (r == -EOWNERDEAD && p->store_flags != 0 && is_over())
			end_it(&process[i]);
		else if (r < 0 || (r != 0 && !is_over()))
			fail_msg("%s: memory of process %u: %s", course, i, strerror((int)-r));
	}
}

static void fill(const struct plan *p, unsigned who, uint32_t seed)
{
	int64_t r;

	/* one that did not come to its end leaves two versions: that is enough */
	if (process[who].pid == 0 || version[who].now != version[who].then)
		return;
	version[who].then = seed;
	r = order(&process[who], &(struct order){.what = FILL, .seed = seed});
	if (r == 0)
		version[who].now = seed;
	else if (!is_over() || (p->store_flags == 0 && version[who].now != 0))
		fail_msg("%s: memory of process %u: %s", course, who, strerror((int)-r));
	else if (r == -EOWNERDEAD || version[who].now == 0)
		end_it(&process[who]); /* it could not attach, or go on */
}

static uint64_t slots_used(void)
{
	char text[4096];
	int fd = open(in_base("mnt/swap/disk0.stat"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	const char *at;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "used: ");
	return at != NULL ? strtoull(at + 6, NULL, 10) : UINT64_MAX;
}

/* Every slot is given back, if after a while: what ended is found by and by. */
static void slots_come_free(void)
{
	time_t until = time(NULL) + HANG_SECONDS;

	while (slots_used() != 0) {
		if (time(NULL) > until)
			fail_msg("%s: %lu slots are left in use", course,
				 (unsigned long)slots_used());
		poll(NULL, 0, 2);
	}
}

static uint32_t memory_course(const struct plan *p, uint32_t at, bool *killed)
{
	uint32_t count;

	memset(version, 0, sizeof(version));
	crash_arm(p->kinds, at, p->power);
	for (uint32_t i = 0; i < 6 && !is_over(); i++) {
		unsigned who = i % CLIENTS;

		if (i >= CLIENTS && next() % 3 == 0) {
			end_it(&process[who]);
			start(&process[who], p->store_flags);
			version[who].now = version[who].then = 0;
		}
		fill(p, who, i + 1);
		if (i % 2 != 0)
			memory_is_right(p);
	}
	*killed = crash_disarm();
	count = crash->count;
	if (*killed) {
		over = true;
		crash_wait();
		/* without a server they go on with what they hold */
		memory_is_right(p);
		for (unsigned i = 0; i < CLIENTS; i++)
			fill(p, i, 100 + i);
		memory_is_right(p);
		crash_serve(&p->mount);
	}
	memory_is_right(p);
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (i == 0 && process[i].pid != 0)
			order(&process[i], &(struct order){.what = END});
		end_it(&process[i]);
	}
	slots_come_free();
	store_is_right();
	crash_end();
	return count;
}

/* --- runs --- */

/* One run; how many points were passed. */
static uint32_t run_once(const struct plan *p, uint64_t seed, uint32_t at, bool *killed)
{
	uint64_t begun = sys_now();
	uint32_t count;

	snprintf(course, sizeof(course), "%s, seed %lu, point %u", p->name, (unsigned long)seed,
		 at);
	crash_serve(&p->mount);
	if (run != 0) {
		next_shows_the_same();
		remove_files();
	}
	run++;
	rng = seed;
	over = false;
	power = p->power;
	direct = p->mount.direct;
	make_files();
	for (unsigned i = 0; i < CLIENTS; i++)
		start(&process[i], p->store_flags);
	count = p->body(p, at, killed);
	if (getenv("FL_CRASH_VERBOSE") != NULL)
		print_message("%s: %s %s, %lu ms\n", course, *killed ? crash->when : "the",
			      *killed ? crash->where : "end",
			      (unsigned long)((sys_now() - begun) / 1000000));
	return count;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && text[0] != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void run_all(const struct plan *p, uint64_t kills)
{
	const char *text = getenv("FL_CRASH_KILLS");
	uint64_t seed = number_of("FL_CRASH_SEED", 1);
	bool all = text != NULL && strcmp(text, "all") == 0;
	uint32_t points, done = 0;
	bool killed;

	if (getenv("FL_CRASH_AT") != NULL) {
		run_once(p, seed, (uint32_t)number_of("FL_CRASH_AT", 0), &killed);
		return;
	}
	kills = all ? UINT64_MAX : number_of("FL_CRASH_KILLS", kills);
	points = run_once(p, seed, 0, &killed);
	assert_false(killed);
	if (points < kills)
		kills = points;
	else
		points -= points / 10; /* the last ones may not be reached each time */
	for (uint64_t i = 0; i < kills; i++) {
		uint64_t from = i * points / kills, to = (i + 1) * points / kills;
		uint32_t at = (uint32_t)(from + (seed + i) * 7919 % (to - from)) + 1;

		run_once(p, seed, at, &killed);
		done += killed;
	}
	assert_true(done >= kills / 2);
	crash_serve(&p->mount);
	next_shows_the_same();
	crash_end();
}

/* --- tests --- */

static int begin(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/var/tmp/faultline-XXXXXX");
	if (mkdtemp(base) == NULL || mkdir(in_base("mnt"), 0755) != 0)
		return -1;
	umask(022);
	run = 0;
	if (world == NULL)
		world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return world == MAP_FAILED || run_faultline("store init \"$BASE/store\"") != 0 ||
	       run_faultline("mkswap --size 64M \"$BASE/store/swap/disk0\"") != 0;
}

static int end(void **state)
{
	char line[PATH_MAX];

	(void)state;
	for (unsigned i = 0; i < CLIENTS; i++)
		end_it(&process[i]);
	crash_clean();
	snprintf(line, sizeof(line), "rm -rf '%s'", base);
	return system(line);
}

#define STORE_OPTIONS .base = base, .cache = CACHE, .sandbox = MOUNT_OPTIONS[0] == '\0'

static void at_writes(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_writes",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_NAME | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS},
			       .body = files_course},
		14);
}

static void at_pages(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_pages",
			       .kinds = CRASH_PAGE,
			       .mount = {STORE_OPTIONS},
			       .body = files_course},
		7);
}

/* The server's part in paging: who comes, is given areas, and ends. */
static void at_messages(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_messages",
			       .kinds = CRASH_CLIENT,
			       .mount = {STORE_OPTIONS},
			       .body = memory_course},
		2);
}

/* And where it writes what is swapped. */
static void at_swap(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_swap",
			       .kinds = CRASH_WRITE | CRASH_ANSWER | CRASH_CLIENT,
			       .mount = {STORE_OPTIONS, .page_io = true},
			       .store_flags = FL_STORE_FUSE,
			       .body = memory_course},
		3);
}

/* What a sync promises holds when the host goes with the server. */
static void at_power_loss(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_power_loss",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS},
			       .power = true,
			       .body = files_course},
		7);
}

/*
 * The server has a descriptor of a file of its own mount just then, and is not to
 * wait for itself when the kernel closes that.
 */
static void at_opening(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_opening",
			       .kinds = CRASH_FILE,
			       .mount = {STORE_OPTIONS},
			       .opening = true,
			       .body = files_course},
		2);
}

static void at_direct_writes(void **state)
{
	(void)state;
	run_all(&(struct plan){.name = "at_direct_writes",
			       .kinds = CRASH_WRITE | CRASH_SYNC | CRASH_NAME | CRASH_ANSWER,
			       .mount = {STORE_OPTIONS, .direct = true},
			       .body = files_course},
		3);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(at_writes, begin, end),
		cmocka_unit_test_setup_teardown(at_pages, begin, end),
		cmocka_unit_test_setup_teardown(at_opening, begin, end),
		cmocka_unit_test_setup_teardown(at_direct_writes, begin, end),
		cmocka_unit_test_setup_teardown(at_power_loss, begin, end),
		cmocka_unit_test_setup_teardown(at_messages, begin, end),
		cmocka_unit_test_setup_teardown(at_swap, begin, end),
	};

	signal(SIGPIPE, SIG_IGN);
	/* children of those that were killed */
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
