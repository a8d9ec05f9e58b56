/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * group.c - the table of a group; see group.h.
 *
 * The invariant: free pages + grants of all members <= limit, always.
 *
 * Concurrency.  No lock is shared by processes, so that one that is stopped or
 * killed holds up nobody.  A member's grant is changed by that member, and
 * before it lives by its parent.  Free pages change by compare-and-exchange of
 * one word that also counts its changes.  A page moves in two steps: first it
 * leaves where it was, then it arrives; `moving` is set around both.
 *
 * Death.  A member killed between the two steps leaves a page that nobody has:
 * availability is lost, the limit is not passed.  recount() finds it: it
 * reads the free word, sums up the grants, and exchanges that word for
 * limit - sum.  A member that moved something meanwhile was seen with `moving`
 * set, before or after its grant was read, or has changed the word since, and the
 * exchange fails.
 *
 * Life.  A process is alive while /proc/PID/map_files shows the table mapped where it
 * mapped it, whatever became of its threads: exec, exit and kill all end
 * that, a new process with the old number has none there, and one that has (a
 * relative) takes the number's member away when it is born.  A process number
 * means something in one /proc only, so each member notes which.
 *
 * The limit.  Who changes it says first what it is to be, its aim.  A higher one is there
 * at once, and its pages are what a recount finds.  For a lower one a member draws
 * free pages and gives them up together with as much of the limit, `moving` set,
 * and nobody draws for frames until there is enough.  An aim that nobody follows any more
 * is forgotten.
 *
 * A place in the table is taken, settled in and given up by one
 * compare-and-exchange each of its owner, a word that says whose it is, and
 * counts its uses: who found a process dead cannot take the place of the next.
 * What a place held before is cleared while it is settled in, and counts no more.
 *
 * Trust.  All members are one user's, and each can write to all of the table.  One that
 * is mad may write anything: then the limit is not kept, or nobody is given a page.
 * But what is read is read once; members are never more than the table has
 * (members_used()), a grant and a limit never more than FREE_PAGES; and
 * what another can undo is tried TRIES times.
 *
 * Accepted: a member that no other can see in its /proc (in another namespace,
 * or none mounted) is swept by none, unless it leaves by itself.
 * A fork that no hook saw shares its parent's member, and passes the limit by
 * what its parent held.  A table that is made anew has the limit of the start.
 */
#include "group.h"

#include "lock.h"
#include "log.h"
#include "port.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#ifndef SHM_STAT
#define SHM_STAT 13
#define SHM_INFO 14
#endif
#ifndef SHM_DEST
#define SHM_DEST 01000
#endif

#define MAGIC 0x70756f7267206c66U
#define SEEK_TRIES 2000U
#define SEEK_PAUSE 1000000U /* ns */
#define ORPHAN_TRIES 20U    /* how often a table is seen without a process before it is removed */
#define IDLE_NS 1000000000U /* a member that needed nothing for so long is idle */
#define SHORT_NS 20000000U  /* how long those above their share hold back for one below it */
#define AIM_NS 1000000000U  /* how long an aim is remembered without who follows it */
#define BIND_NAME_MAX 15U
#define TRIES 1000U /* how often a word is exchanged that another changes meanwhile */

/* owner: a process number, two flags, the /proc that the number is of (0: not known), the count of uses. */
#define OWNER_PID (((uint64_t)1 << 22) - 1)
#define OWNER_UNBORN ((uint64_t)1 << 22) /* the number is that of the parent */
#define OWNER_SETTLING ((uint64_t)1 << 23)
#define OWNER_PROC_SHIFT 24
#define OWNER_PROC (((uint64_t)1 << 20) - 1)
#define OWNER_USE ((uint64_t)1 << 44)
#define OWNER_WHO (OWNER_USE - 1) /* 0: a free place */

/* All atomic. */
struct member {
	uint64_t owner;
	uint64_t at; /* where it has mapped the table */
	uint64_t grant;
	uint64_t asked;	 /* pages that another wants of it */
	uint64_t needed; /* when it last needed a page, ns */
	uint8_t moving;	 /* a page is on its way */
	uint8_t armed;
	uint8_t name_len; /* of its socket; 0: none */
	char name[BIND_NAME_MAX + 2];
};

/* What a free word holds: pages, and above them the count of its changes. */
#define FREE_PAGES 0xffffffffU
#define FREE_CHANGE ((uint64_t)1 << 32)

struct table {
	uint64_t magic; /* set last */
	uint64_t name;
	uint64_t limit;	      /* atomic */
	uint64_t aim;	      /* atomic: what the limit is to be, */
	uint64_t aim_until;   /* atomic: and when that is over, ns; 0: it is what it is to be */
	uint64_t free;	      /* atomic */
	uint64_t most;	      /* atomic: the most that was granted */
	uint64_t short_until; /* atomic: one below its share needs pages, ns */
	uint32_t top;	      /* atomic: members from here on were never used */
	uint32_t given;	      /* futex: counts what came back */
	uint32_t sleepers;    /* atomic: who waits for that; too many after a kill */
	struct member member[GROUP_MEMBERS_MAX];
};

struct group {
	struct table *t;
	struct member *me;
	uint64_t proc;	 /* the minor device number of our /proc; 0: none */
	bool view;	 /* its numbers are those that we are given by clone(2) */
	int sock;	 /* in the pagers' table */
	uint64_t unborn; /* owner of the child's place, as it was conceived */
};

#define TABLE_BYTES ((sizeof(struct table) + 4095) & ~(size_t)4095)

#define LOAD(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)

static bool exchange(uint64_t *p, uint64_t *was, uint64_t is)
{
	return __atomic_compare_exchange_n(p, was, is, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void nap(uint64_t ns)
{
	uint32_t word = 0;

	futex_wait(&word, 0, ns);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Members that were ever used. */
static uint32_t members_used(const struct table *t)
{
	return (uint32_t)smaller(LOAD(&t->top), GROUP_MEMBERS_MAX);
}

static uint64_t grant_of(const struct member *m)
{
	return smaller(LOAD(&m->grant), FREE_PAGES);
}

static uint64_t limit_of(const struct table *t)
{
	return smaller(LOAD(&t->limit), FREE_PAGES);
}

/* ---- pages ---- */

/* Move pages from the free ones to a member: how many. */
static uint64_t draw(struct table *t, struct member *m, uint64_t least, uint64_t most,
		     uint64_t keep)
{
	uint64_t word, n = 0, limit, granted;
	bool got = false;

	STORE(&m->moving, 1);
	word = LOAD(&t->free);
	for (unsigned tries = 0; tries < TRIES && !got; tries++) {
		uint64_t pages = word & FREE_PAGES;

		n = smaller(pages > keep ? pages - keep : 0, most);
		if (n == 0 || n < least)
			break;
		got = exchange(&t->free, &word, word - n + FREE_CHANGE);
	}
	if (!got) {
		STORE(&m->moving, 0);
		return 0;
	}
	__atomic_fetch_add(&m->grant, n, __ATOMIC_SEQ_CST);
	STORE(&m->moving, 0);
	limit = limit_of(t);
	granted = limit - (word & FREE_PAGES) + n;
	/* for people: of two at once either may win; a limit may have become lower since */
	if (limit >= (word & FREE_PAGES) && granted > LOAD(&t->most))
		STORE(&t->most, granted);
	return n;
}

static void tell_given(struct table *t)
{
	__atomic_fetch_add(&t->given, 1, __ATOMIC_SEQ_CST);
	if (LOAD(&t->sleepers) != 0)
		SYS3(futex, &t->given, FUTEX_WAKE, GROUP_MEMBERS_MAX);
}

static void put_back(struct table *t, struct member *m, uint64_t pages)
{
	STORE(&m->moving, 1);
	__atomic_fetch_sub(&m->grant, pages, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&t->free, pages + FREE_CHANGE, __ATOMIC_SEQ_CST);
	STORE(&m->moving, 0);
	tell_given(t);
}

/* Is it a member's, with what is there? */
static bool counts(uint64_t owner)
{
	return (owner & OWNER_WHO) != 0 && !(owner & OWNER_SETTLING);
}

/* See above; true when pages came of it. */
static bool recount(struct table *t)
{
	uint64_t word = LOAD(&t->free);
	uint64_t sum = 0, limit;

	for (uint32_t i = 0; i < members_used(t); i++) {
		const struct member *m = &t->member[i];
		uint64_t owner = LOAD(&m->owner);

		if (!counts(owner))
			continue;
		/* before: one that has drawn has it in its grant; after: one that gives has changed the word */
		if (LOAD(&m->moving))
			return false;
		sum += grant_of(m);
		if (LOAD(&m->moving))
			return false;
	}
	/* a lower one came with a lower grant, which was seen, or has changed the word */
	limit = limit_of(t);
	return sum + (word & FREE_PAGES) < limit &&
	       exchange(&t->free, &word,
			(word & ~(uint64_t)FREE_PAGES) + FREE_CHANGE + (limit - sum));
}

/* The limit, or the lower one that is aimed at. */
static uint64_t soon(const struct table *t)
{
	uint64_t limit = limit_of(t), aim = LOAD(&t->aim);

	return aim < limit && LOAD(&t->aim_until) > sys_now() ? aim : limit;
}

/* What frames are not granted, so that a program that starts finds its floor, where that is a small part. */
static uint64_t reserve(const struct table *t)
{
	return soon(t) >= 16 * GROUP_FLOOR ? GROUP_FLOOR : 0;
}

uint64_t group_share(const struct group *g)
{
	const struct table *t = g->t;
	uint64_t unarmed = reserve(t), armed = 0, limit = soon(t);

	for (uint32_t i = 0; i < members_used(t); i++) {
		const struct member *m = &t->member[i];

		if (!counts(LOAD(&m->owner)))
			continue;
		/* one that is being made is counted as it will be */
		if (LOAD(&m->armed) || m == g->me || grant_of(m) < GROUP_FLOOR)
			armed++;
		else
			unarmed += grant_of(m);
	}
	return unarmed < limit && armed != 0 ? (limit - unarmed) / armed : 0;
}

static uint64_t kept_from(const struct group *g, enum group_claim claim)
{
	const struct table *t = g->t;
	uint64_t limit = limit_of(t);

	if (claim == GROUP_FOR_FLOOR)
		return 0;
	if (soon(t) < limit)
		return limit;
	if (claim == GROUP_FOR_MAPPED)
		return limit / 2;
	if (LOAD(&t->short_until) > sys_now() && grant_of(g->me) >= group_share(g))
		return limit;
	return reserve(t);
}

static bool idle(const struct member *m, uint64_t now)
{
	uint64_t needed = LOAD(&m->needed);

	return now > needed && now - needed > IDLE_NS;
}

/* What a member need not keep. */
static uint64_t spare(const struct member *m, uint64_t share, uint64_t now)
{
	uint64_t keep = idle(m, now) || share < GROUP_FLOOR ? GROUP_FLOOR : share;
	uint64_t grant = grant_of(m);

	return grant > keep ? grant - keep : 0;
}

uint64_t group_take(struct group *g, uint64_t least, uint64_t most, enum group_claim claim)
{
	return draw(g->t, g->me, least, most, kept_from(g, claim));
}

void group_give(struct group *g, uint64_t pages)
{
	pages = smaller(pages, grant_of(g->me));
	if (pages != 0)
		put_back(g->t, g->me, pages);
}

uint64_t group_limit(const struct group *g)
{
	return limit_of(g->t);
}

_Static_assert(offsetof(struct group, t) == 0, "what a reader from outside begins with");
_Static_assert(offsetof(struct table, free) + sizeof(uint64_t) <= GROUP_HEAD, "what it reads");

bool group_told(const char head[GROUP_HEAD], uint64_t *limit, uint64_t *held)
{
	uint64_t magic, left;

	memcpy(&magic, head + offsetof(struct table, magic), sizeof(magic));
	memcpy(limit, head + offsetof(struct table, limit), sizeof(*limit));
	memcpy(&left, head + offsetof(struct table, free), sizeof(left));
	left &= FREE_PAGES;
	*held = left < *limit ? *limit - left : 0;
	return magic == MAGIC;
}

int group_aim(struct group *g, uint64_t pages)
{
	struct table *t = g->t;

	if (pages > FREE_PAGES)
		return -EINVAL;
	if (pages < LOAD(&t->limit) && pages / GROUP_FLOOR < group_members(g))
		return -ENOMEM;
	STORE(&t->aim, pages);
	STORE(&t->aim_until, sys_now() + AIM_NS);
	return 0;
}

/* Pages of this member, with as much of the limit; see recount(). */
static void give_up(struct group *g, uint64_t pages)
{
	struct table *t = g->t;

	STORE(&g->me->moving, 1);
	__atomic_fetch_sub(&g->me->grant, pages, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&t->limit, pages, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&t->free, FREE_CHANGE, __ATOMIC_SEQ_CST);
	STORE(&g->me->moving, 0);
}

uint64_t group_follow(struct group *g)
{
	struct table *t = g->t;
	uint64_t limit = LOAD(&t->limit), aim = LOAD(&t->aim), n;

	if (aim < limit) {
		STORE(&t->aim_until, sys_now() + AIM_NS);
		n = draw(t, g->me, 1, limit - aim, 0);
		if (n != 0)
			give_up(g, n);
		if (limit - aim > n)
			return limit - aim - n;
	} else if (aim > limit) {
		if (!exchange(&t->limit, &limit, aim))
			return 1; /* two follow it */
		/* one that moves a page is not waited for: who is short counts again */
		recount(t);
		tell_given(t);
	}
	STORE(&t->aim_until, 0);
	return 0;
}

void group_ask_self(struct group *g)
{
	uint64_t now = sys_now(), n = spare(g->me, group_share(g), now);

	if (LOAD(&g->me->asked) < n)
		STORE(&g->me->asked, n);
}

uint64_t group_grant(const struct group *g)
{
	return grant_of(g->me);
}

uint64_t group_free(const struct group *g)
{
	return LOAD(&g->t->free) & FREE_PAGES;
}

uint64_t group_most(const struct group *g)
{
	return LOAD(&g->t->most);
}

unsigned group_members(const struct group *g)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < members_used(g->t); i++)
		n += counts(LOAD(&g->t->member[i].owner));
	return n;
}

/* ---- members ---- */

/* Take a free place and settle in: with no pages. */
static struct member *place_take(struct group *g, uint64_t who)
{
	struct table *t = g->t;

	for (uint32_t i = 0; i < GROUP_MEMBERS_MAX; i++) {
		struct member *m = &t->member[i];
		uint64_t owner = LOAD(&m->owner);
		uint32_t top = LOAD(&t->top);

		if ((owner & OWNER_WHO) != 0)
			continue;
		/* before there is anybody to count */
		for (unsigned tries = 0; tries < TRIES && top <= i; tries++)
			if (__atomic_compare_exchange_n(&t->top, &top, i + 1, false,
							__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				break;
		who |= g->proc << OWNER_PROC_SHIFT;
		if (!exchange(&m->owner, &owner, (owner + OWNER_USE) | who | OWNER_SETTLING))
			continue;
		STORE(&m->grant, 0);
		STORE(&m->asked, 0);
		STORE(&m->needed, 0);
		STORE(&m->armed, 0);
		STORE(&m->name_len, 0);
		STORE(&m->moving, 0);
		STORE(&m->at, (uintptr_t)t);
		STORE(&m->owner, (owner + OWNER_USE) | who);
		return m;
	}
	return NULL;
}

/* Give up a place that `owner` was seen to have, and what it has. */
static bool place_give(struct member *m, uint64_t owner)
{
	return exchange(&m->owner, &owner, owner & ~OWNER_WHO);
}

/* Is the table mapped there, in that process (at 0: is there one)?  -errno when that cannot be told. */
static int mapped_in(int proc_fd, unsigned pid, uint64_t at)
{
	char path[80], who[16];
	struct stat st;
	long r;

	if (pid != 0)
		log_format(who, sizeof(who), "%u", pid);
	else
		log_format(who, sizeof(who), "self");
	if (at != 0)
		log_format(path, sizeof(path), "%s%s/map_files/%llx-%llx",
			   proc_fd >= 0 ? "" : "/proc/", who, (unsigned long long)at,
			   (unsigned long long)(at + TABLE_BYTES));
	else
		log_format(path, sizeof(path), "%s%s", proc_fd >= 0 ? "" : "/proc/", who);
	r = SYS4(fstatat, proc_fd >= 0 ? proc_fd : AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW);
	return r == 0 ? 1 : r == -ENOENT || r == -ESRCH ? 0 : (int)r;
}

/*
 * Take a dead member's place away, and free what it had.  Its pages are counted
 * no more in that moment, and a recount may find them before they are free: then
 * the word has changed.
 */
static bool bury(struct table *t, struct member *m, uint64_t owner)
{
	uint64_t word = LOAD(&t->free);
	uint64_t grant = LOAD(&m->moving) ? 0 : grant_of(m);

	return place_give(m, owner) && grant != 0 &&
	       exchange(&t->free, &word, word + grant + FREE_CHANGE);
}

bool group_sweep(struct group *g, int proc_fd)
{
	struct table *t = g->t;
	bool found = false;
	/* only where we see ourselves do we see others */
	bool see = g->proc != 0 && mapped_in(proc_fd, 0, (uintptr_t)t) == 1;

	for (uint32_t i = 0; see && i < members_used(t); i++) {
		struct member *m = &t->member[i];
		uint64_t owner = LOAD(&m->owner);

		if (m == g->me || (owner & OWNER_WHO) == 0 ||
		    (owner >> OWNER_PROC_SHIFT & OWNER_PROC) != g->proc)
			continue;
		if (owner & OWNER_SETTLING) {
			if (mapped_in(proc_fd, owner & OWNER_PID, 0) == 0)
				place_give(m, owner);
		} else if (mapped_in(proc_fd, owner & OWNER_PID, LOAD(&m->at)) == 0) {
			found |= bury(t, m, owner);
		}
	}
	found |= recount(t);
	if (found)
		tell_given(t);
	return found;
}

/* Which /proc we see, and the number that this process has there; 0: none. */
static uint32_t look_at_self(struct group *g)
{
	struct stat st;
	char text[16];
	uint32_t pid = 0;
	long n = SYS4(readlink, AT_FDCWD, "/proc/self", text, sizeof(text) - 1);

	g->proc = 0;
	g->view = false;
	if (n <= 0 || SYS4(fstatat, AT_FDCWD, "/proc", &st, 0) != 0)
		return 0;
	text[n] = '\0';
	for (const char *p = text; *p >= '0' && *p <= '9'; p++)
		pid = pid * 10 + (uint32_t)(*p - '0');
	g->proc = minor(st.st_dev);
	g->view = pid == (uint32_t)SYS0(getpid);
	return pid;
}

/* A number is one process's: what another member with it was is gone. */
static void forget_number(struct group *g, uint32_t pid)
{
	struct table *t = g->t;

	for (uint32_t i = 0; i < members_used(t); i++) {
		struct member *m = &t->member[i];
		uint64_t owner = LOAD(&m->owner);

		if (m != g->me && (owner & OWNER_WHO) == (g->proc << OWNER_PROC_SHIFT | pid))
			place_give(m, owner);
	}
}

/* ---- finding the table ---- */

void group_name(char handle[GROUP_HANDLE_MAX])
{
	uint64_t name = 0;

	if (SYS3(getrandom, &name, sizeof(name), GRND_NONBLOCK) != (long)sizeof(name))
		name = sys_now() * 0x9e3779b97f4a7c15U + (uint64_t)SYS0(getpid);
	log_format(handle, GROUP_HANDLE_MAX, "%010d:%016llx", 0, (unsigned long long)name);
}

int group_check(void)
{
	struct shmid_ds ds;
	long r = SYS3(shmget, IPC_PRIVATE, TABLE_BYTES, IPC_CREAT | 0600);

	if (sys_err(r))
		return (int)r;
	SYS3(shmctl, r, IPC_RMID, &ds);
	return 0;
}

static bool parse(const char *handle, int *id, uint64_t *name)
{
	const char *p = handle;

	*id = 0;
	*name = 0;
	for (; *p >= '0' && *p <= '9' && p - handle < 10; p++)
		*id = (int)((unsigned)*id * 10U + (unsigned)(*p - '0'));
	if (*p++ != ':')
		return false;
	for (; (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
		*name = *name << 4 | (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	return *p == '\0' && p - handle == 27;
}

/* Put the segment's number where the handle has it. */
static void renew(char *handle, int id)
{
	for (unsigned i = 10; i-- > 0; id /= 10)
		handle[i] = (char)('0' + id % 10);
}

/* The table of that name in that segment, or NULL. */
static struct table *attach(int id, uint64_t name)
{
	struct shmid_ds ds;
	struct table *t;

	if (sys_err(SYS3(shmctl, id, IPC_STAT, &ds)) || ds.shm_segsz != TABLE_BYTES ||
	    ds.shm_perm.uid != (uid_t)sys_bare(SYS_geteuid, 0, 0, 0, 0, 0, 0))
		return NULL;
	t = sys_mem_attach(id, TABLE_BYTES);
	/* Acquire: pairs with make(). */
	if (t != NULL && __atomic_load_n(&t->magic, __ATOMIC_ACQUIRE) == MAGIC && t->name == name)
		return t;
	sys_mem_detach(t);
	return NULL;
}

/* Another user's: what is in it is not to be relied on, or not to be seen. */
static bool foreign(int id)
{
	struct shmid_ds ds;
	long r = SYS3(shmctl, id, IPC_STAT, &ds);

	return r == -EACCES ||
	       (r == 0 && ds.shm_perm.uid != (uid_t)sys_bare(SYS_geteuid, 0, 0, 0, 0, 0, 0));
}

/* Look at all segments; those that live only as long as their processes are marked so. */
static struct table *find(uint64_t name, int *id)
{
	struct shmid_ds ds;
	struct shm_info info;
	long max = SYS3(shmctl, 0, SHM_INFO, &info);

	for (long i = 0; i <= max; i++) {
		long n = SYS3(shmctl, i, SHM_STAT, &ds);
		struct table *t;

		if (sys_err(n) || !(ds.shm_perm.mode & SHM_DEST) || ds.shm_segsz != TABLE_BYTES)
			continue;
		t = attach((int)n, name);
		if (t != NULL) {
			*id = (int)n;
			return t;
		}
	}
	return NULL;
}

/*
 * Make the table of a name that has none.  The segment's key is the name's, so
 * that one process at a time can make one, and it loses its key when it is
 * marked; whoever made one then looks whether there is a marked one already.
 */
static struct table *make(uint64_t name, uint64_t limit, int *id, int *err)
{
	int key = (int)((name ^ name >> 32) | 1);
	long r = SYS3(shmget, key, TABLE_BYTES, IPC_CREAT | IPC_EXCL | 0600);
	struct table *t, *other;
	struct shmid_ds ds;

	*err = sys_err(r) ? (int)r : 0;
	if (sys_err(r))
		return NULL;
	t = sys_mem_attach((int)r, TABLE_BYTES);
	if (t == NULL) {
		SYS3(shmctl, r, IPC_RMID, &ds);
		*err = -ENOMEM;
		return NULL;
	}
	other = find(name, id);
	if (other != NULL) {
		SYS3(shmctl, r, IPC_RMID, &ds);
		sys_mem_detach(t);
		return other;
	}
	*id = (int)r;
	t->name = name;
	t->limit = t->aim = limit;
	t->free = limit;
	/* Release: pairs with attach(). */
	__atomic_store_n(&t->magic, MAGIC, __ATOMIC_RELEASE);
	SYS3(shmctl, r, IPC_RMID, &ds);
	return t;
}

/* One that was killed in the middle of making a table left its segment. */
static void remove_orphan(uint64_t name, unsigned *seen)
{
	int key = (int)((name ^ name >> 32) | 1);
	long id = SYS3(shmget, key, TABLE_BYTES, 0);
	struct shmid_ds ds;

	if (!sys_err(id) && SYS3(shmctl, id, IPC_STAT, &ds) == 0 && ds.shm_nattch == 0 &&
	    ++*seen >= ORPHAN_TRIES)
		SYS3(shmctl, id, IPC_RMID, &ds);
}

static struct table *seek(char *handle, uint64_t limit, int *err)
{
	struct table *t;
	unsigned orphan = 0;
	uint64_t name;
	int id;

	*err = -EINVAL;
	if (!parse(handle, &id, &name))
		return NULL;
	t = attach(id, name);
	if (t != NULL)
		return t;
	*err = -EACCES;
	if (foreign(id))
		return NULL;
	for (unsigned tries = 0; tries < SEEK_TRIES; tries++) {
		t = find(name, &id);
		if (t == NULL)
			t = make(name, limit, &id, err);
		if (t != NULL) {
			renew(handle, id);
			return t;
		}
		if (*err != -EEXIST)
			return NULL;
		remove_orphan(name, &orphan);
		nap(SEEK_PAUSE);
	}
	return NULL;
}

int group_open(struct group **out, char *handle, uint64_t limit, char *why, size_t why_size)
{
	struct group *g;
	uint32_t pid;
	int err = -ENOMEM;

	*out = NULL;
	if (limit > FREE_PAGES) {
		log_format(why, why_size, "the limit of a group is 16 TiB at most");
		return -EINVAL;
	}
	g = sys_mem_alloc(sizeof(*g));
	if (g != NULL)
		g->t = seek(handle, limit, &err);
	if (g == NULL || g->t == NULL) {
		log_format(why, why_size, "the group's table cannot be had: %s", log_strerror(err));
		sys_mem_free(g, sizeof(*g));
		return err;
	}
	g->sock = -1;
	pid = look_at_self(g);
	/* an image that this process was before an exec */
	if (pid != 0)
		forget_number(g, pid);
	g->me = place_take(g, pid != 0 ? pid : OWNER_PID);
	if (g->me == NULL) {
		log_format(why, why_size, "the group has %u processes already", GROUP_MEMBERS_MAX);
		sys_mem_detach(g->t);
		sys_mem_free(g, sizeof(*g));
		return -EAGAIN;
	}
	*out = g;
	return 0;
}

void group_close(struct group *g)
{
	group_give(g, UINT64_MAX);
	place_give(g->me, LOAD(&g->me->owner));
	if (g->sock >= 0)
		SYS1(close, g->sock);
	sys_mem_detach(g->t);
	sys_mem_free(g, sizeof(*g));
}

/* ---- asking ---- */

void group_armed(struct group *g)
{
	STORE(&g->me->armed, 1);
}

int group_listen(struct group *g)
{
	const struct port_heard heard = {
		.bytes = sizeof(g->t->name),
		.token = &g->t->name,
		.words = 1,
	};
	uint32_t len;
	int fd = port_open(&heard, g->me->name, sizeof(g->me->name), &len);

	if (fd < 0)
		return fd;
	g->sock = fd;
	STORE(&g->me->name_len, (uint8_t)len);
	return fd;
}

int group_socket(const struct group *g)
{
	return g->sock;
}

void group_heard(struct group *g)
{
	uint64_t name;

	while (SYS3(read, g->sock, &name, sizeof(name)) > 0)
		;
}

/* By the group's name, which its user alone knows, without waiting: a full queue wakes as well. */
static void wake_member(const struct group *g, const struct member *m)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	uint8_t len = LOAD(&m->name_len);
	long fd = g->sock;

	if (len == 0 || len > sizeof(m->name))
		return;
	memcpy(addr.sun_path, m->name, len);
	if (fd < 0)
		fd = SYS3(socket, AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sys_err(fd))
		return;
	SYS6(sendto, fd, &g->t->name, sizeof(g->t->name), MSG_DONTWAIT | MSG_NOSIGNAL, &addr,
	     sizeof(addr.sun_family) + len);
	if (g->sock < 0)
		SYS1(close, fd);
}

void group_needs(struct group *g)
{
	STORE(&g->me->needed, sys_now());
}

bool group_ask(struct group *g, uint64_t pages, enum group_claim claim)
{
	struct table *t = g->t;
	uint64_t now = sys_now(), most = 0;
	uint64_t share = group_share(g);
	bool below = claim == GROUP_FOR_FLOOR || grant_of(g->me) < share;
	struct member *best = NULL;

	if (below)
		STORE(&t->short_until, now + SHORT_NS);
	for (uint32_t i = 0; i < members_used(t); i++) {
		struct member *m = &t->member[i];
		uint64_t n = spare(m, share, now);

		/* an unarmed one arms when it is asked, at its next memory call */
		if (m == g->me || !counts(LOAD(&m->owner)) || n == 0 ||
		    (!below && !(LOAD(&m->armed) && idle(m, now))))
			continue;
		if (!LOAD(&m->armed))
			n = 1;
		if (n > most) {
			most = n;
			best = m;
		}
	}
	if (best == NULL)
		return false;
	if (pages > most)
		pages = most;
	if (LOAD(&best->asked) < pages)
		STORE(&best->asked, pages);
	wake_member(g, best);
	return true;
}

uint64_t group_asked(struct group *g)
{
	uint64_t asked = LOAD(&g->me->asked), most;

	if (asked == 0)
		return 0;
	most = spare(g->me, group_share(g), sys_now());
	return asked < most ? asked : most;
}

void group_answered(struct group *g, uint64_t pages)
{
	uint64_t asked = LOAD(&g->me->asked);

	for (unsigned tries = 0; tries < TRIES; tries++)
		if (exchange(&g->me->asked, &asked, asked > pages ? asked - pages : 0))
			break;
}

void group_wait(struct group *g, uint64_t ns)
{
	struct table *t = g->t;
	uint32_t given = LOAD(&t->given);
	uint64_t ts[2] = {ns / 1000000000U, ns % 1000000000U};

	__atomic_fetch_add(&t->sleepers, 1, __ATOMIC_SEQ_CST);
	SYS4(futex, &t->given, FUTEX_WAIT, given, ts);
	__atomic_fetch_sub(&t->sleepers, 1, __ATOMIC_SEQ_CST);
}

/* ---- fork ---- */

uint32_t group_conceive(struct group *g)
{
	struct member *m = place_take(g, OWNER_UNBORN | (LOAD(&g->me->owner) & OWNER_PID));

	if (m == NULL)
		return GROUP_NONE;
	g->unborn = LOAD(&m->owner);
	return (uint32_t)(m - g->t->member);
}

uint64_t group_take_for(struct group *g, uint32_t child, uint64_t least, uint64_t most,
			enum group_claim claim)
{
	return draw(g->t, &g->t->member[child], least, most, kept_from(g, claim));
}

void group_hand(struct group *g, uint32_t child, uint64_t pages)
{
	STORE(&g->me->moving, 1);
	__atomic_fetch_sub(&g->me->grant, pages, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&g->t->member[child].grant, pages, __ATOMIC_SEQ_CST);
	/* who counted one of the two before it changed is to count again */
	__atomic_fetch_add(&g->t->free, FREE_CHANGE, __ATOMIC_SEQ_CST);
	STORE(&g->me->moving, 0);
}

uint64_t group_grant_of(const struct group *g, uint32_t child)
{
	return grant_of(&g->t->member[child]);
}

/* Child and parent say the same, whoever comes first; the one whose place it is not any more changes nothing. */
static bool name_child(const struct group *g, struct member *m, uint32_t pid)
{
	uint64_t owner = g->unborn;
	uint64_t named = (owner & ~(OWNER_UNBORN | OWNER_PID)) | pid;

	return exchange(&m->owner, &owner, named) || owner == named;
}

void group_born(struct group *g, uint32_t child, pid_t pid)
{
	if (pid > 0 && g->view)
		name_child(g, &g->t->member[child], (uint32_t)pid);
}

void group_stillborn(struct group *g, uint32_t child)
{
	struct member *m = &g->t->member[child];
	uint64_t grant = grant_of(m);

	if (grant != 0)
		put_back(g->t, m, grant);
	place_give(m, g->unborn);
}

bool group_enter(struct group *g, uint32_t child, bool quiet)
{
	struct member *m = &g->t->member[child];
	uint32_t pid;

	g->me = m;
	g->sock = -1;
	if (quiet)
		return true;
	pid = look_at_self(g);
	if (pid == 0)
		return true; /* the parent names it, or it is never swept */
	if (!name_child(g, m, pid)) {
		/* the parent ended at once, and somebody swept before we came: another place */
		g->me = place_take(g, pid);
		if (g->me == NULL)
			return false;
	}
	forget_number(g, pid);
	return true;
}
