/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * near.c - a pager and the thread that pages alone, on one CPU; see near.h.
 *
 * bind() and unbind() are the pager's, near_leave() and near_end() the program's.
 *
 * Invariants.
 * - While near.bound names a thread, that thread's affinity is near.one, unless somebody
 *   else has changed it; near.mine is what it gets back, and only if nobody has.
 * - near.one and near.mine are written by whoever has set NEAR_HELD in near.bound.
 * - A pager is bound exactly while its `cpu` is not -1.
 * - No binding begins while a snapshot is being taken.
 *
 * Locks: the pager's half runs with the mm lock held; near.h has the order between it
 * and the program's half, which takes no lock.
 */
#include "near.h"

#include "mm.h"
#include "pager.h"
#include "proc.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define FOLLOW_AFTER 16U     /* faults in a row of one thread before the pager goes to its CPU */
#define FOLLOW_EVERY 1024U   /* not bound: and looks where it is now */
#define UNLIKE_MAX 8U	     /* faults of others that end it */
#define CHECK_NS 5000000U    /* how often the CPU is looked at */
#define BOUND_NS 1000000000U /* the longest binding */
#define PAUSE_NS 100000000U  /* after others wanted the CPU; doubles */
#define PAUSE_MAX_NS 10000000000U
#define READS 64U /* after which it is known how long they take */
#define TOOK_MAX_NS 1000000U
#define TRIED_NS 30000000000U /* how long that holds */
#define HELD_NS 50000U	      /* then it is seen whether near.bound is still held */

static long affinity_get(uint32_t tid, struct cpu_mask *m)
{
	memset(m, 0, sizeof(*m));
	return sys_bare(SYS_sched_getaffinity, tid, sizeof(*m), (long)m, 0, 0, 0);
}

static long affinity_set(uint32_t tid, const struct cpu_mask *m)
{
	return sys_bare(SYS_sched_setaffinity, tid, sizeof(*m), (long)m, 0, 0, 0);
}

static bool affinity_is(uint32_t tid, const struct cpu_mask *m)
{
	struct cpu_mask now;

	return !sys_err(affinity_get(tid, &now)) && memcmp(&now, m, sizeof(now)) == 0;
}

static bool has_several(const struct cpu_mask *m)
{
	bool one = false;

	for (unsigned i = 0; i < NEAR_CPUS / 64; i++) {
		uint64_t w = m->word[i];

		if ((w & (w - 1)) != 0 || (w != 0 && one))
			return true;
		one |= w != 0;
	}
	return false;
}

static void everywhere(struct cpu_mask *m)
{
	memset(m, 0xff, sizeof(*m));
}

/* Whoever has near.bound: the thread is as it was, unless somebody changed it meanwhile. */
static void give_back(struct near *near, uint32_t tid)
{
	if (affinity_is(tid, &near->one))
		affinity_set(tid, &near->mine);
}

static uint32_t holder(void)
{
	return NEAR_HELD | (uint32_t)sys_bare(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/* A process has ended that vfork(2) made: of ours no thread ends alone that holds it. */
static bool has_ended(uint32_t pid)
{
	struct pollfd ended = {.events = POLLIN};
	struct timespec now = {0};
	long fd = sys_bare(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
	bool yes;

	if (sys_err(fd))
		return fd == -ESRCH;
	ended.fd = (int)fd;
	yes = sys_bare(SYS_ppoll, (long)&ended, 1, (long)&now, 0, 0, 0) == 1;
	sys_bare(SYS_close, fd, 0, 0, 0, 0, 0);
	return yes;
}

/* Not a yield: who holds it may be of a lower priority, on this CPU. */
static void wait_held(struct near *near, uint32_t held)
{
	futex_wait(&near->bound, held, HELD_NS);
	if (__atomic_load_n(&near->bound, __ATOMIC_SEQ_CST) == held && has_ended(held & ~NEAR_HELD))
		__atomic_compare_exchange_n(&near->bound, &held, near->whom, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* ---- threads of the program ---- */

bool near_waits(const struct mm *mm)
{
	return __atomic_load_n(&mm->near.off, __ATOMIC_SEQ_CST) == NEAR_LATER;
}

void near_later(struct mm *mm)
{
	if (mm->near.wanted)
		__atomic_store_n(&mm->near.off, NEAR_LATER, __ATOMIC_SEQ_CST);
}

void near_begin(struct mm *mm)
{
	uint32_t later = NEAR_LATER;

	__atomic_compare_exchange_n(&mm->near.off, &later, 0, false, __ATOMIC_SEQ_CST,
				    __ATOMIC_SEQ_CST);
}

void near_leave(struct mm *mm)
{
	struct near *near = &mm->near;
	uint64_t all = ~(uint64_t)0, old;
	uint32_t tid, held;

	if (!near->wanted || near_waits(mm))
		return;
	/* Sequentially consistent, as the load below: pairs with bind(). */
	__atomic_add_fetch(&near->calls, 1, __ATOMIC_SEQ_CST);
	while ((tid = __atomic_load_n(&near->bound, __ATOMIC_SEQ_CST)) != 0) {
		if (tid & NEAR_HELD) {
			wait_held(near, tid);
			continue;
		}
		/* a handler that ran meanwhile could wait for a pager, which waits for us */
		sys_bare(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, sizeof(old), 0,
			 0);
		held = holder();
		if (__atomic_compare_exchange_n(&near->bound, &tid, held, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST)) {
			give_back(near, tid);
			__atomic_store_n(&near->bound, 0, __ATOMIC_SEQ_CST);
		}
		sys_bare(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, sizeof(old), 0, 0);
	}
}

void near_end(struct mm *mm)
{
	__atomic_store_n(&mm->near.off, 1, __ATOMIC_SEQ_CST);
	near_leave(mm);
}

void near_forked(struct mm *mm)
{
	__atomic_store_n(&mm->near.bound, 0, __ATOMIC_RELAXED);
}

/* ---- the pager ---- */

struct strays {
	const struct mm *mm;
	bool mend; /* or only look */
};

/* A thread has the binding that it got from the one that made it. */
static bool stray(uint32_t tid, void *arg)
{
	const struct strays *s = arg;
	const struct near *near = &s->mm->near;

	if (pager_is(s->mm, tid) || !affinity_is(tid, &near->one))
		return true;
	if (s->mend)
		affinity_set(tid, &near->mine);
	return s->mend;
}

/* near.bound is ours: bind thread tid, too.  False: it is not to be. */
static bool bind_thread(struct pager *p, uint32_t tid)
{
	struct mm *mm = p->mm;
	struct near *near = &mm->near;
	struct strays look = {.mm = mm};
	struct cpu_mask all;

	/* pairs with near_leave() and near_end() */
	if (__atomic_load_n(&near->calls, __ATOMIC_SEQ_CST) != p->near.calls ||
	    __atomic_load_n(&near->off, __ATOMIC_SEQ_CST) != 0)
		return false;
	if (sys_err(affinity_get(tid, &near->mine)) || !has_several(&near->mine))
		return false;
	/* Who may be everywhere will be so when more CPUs are given to us. */
	everywhere(&all);
	if (!sys_err(affinity_set(0, &all)) && affinity_is(0, &near->mine))
		everywhere(&near->mine);
	affinity_set(0, &p->near.home);
	return proc_threads(mm->proc_fd, stray, &look) && !sys_err(affinity_set(tid, &near->one));
}

/* Take near.bound, whoever is bound; who is. */
static uint32_t take(struct near *near)
{
	uint32_t tid = __atomic_load_n(&near->bound, __ATOMIC_SEQ_CST);
	const uint32_t held = holder();

	while ((tid & NEAR_HELD) ||
	       !__atomic_compare_exchange_n(&near->bound, &tid, held, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST)) {
		if (!(tid & NEAR_HELD))
			continue;
		wait_held(near, tid);
		tid = __atomic_load_n(&near->bound, __ATOMIC_SEQ_CST);
	}
	return tid;
}

static void release(struct near *near, uint32_t tid)
{
	__atomic_store_n(&near->bound, tid, __ATOMIC_SEQ_CST);
}

static void unbind(struct pager *p)
{
	struct near_pager *n = &p->near;
	struct near *near = &p->mm->near;

	if (near->wanted) {
		struct strays mend = {.mm = p->mm, .mend = true};
		uint32_t tid = take(near);

		if (tid != 0)
			give_back(near, tid);
		/* Who chose that CPU since by a call that was seen keeps it. */
		if (__atomic_load_n(&near->calls, __ATOMIC_SEQ_CST) == n->calls)
			proc_threads(p->mm->proc_fd, stray, &mend);
		release(near, 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		if (n->sched_fd[i] >= 0)
			SYS1(close, n->sched_fd[i]);
		n->sched_fd[i] = -1;
	}
	affinity_set(0, &n->home);
	n->cpu = -1;
	n->same = n->unlike = 0;
	n->waits = false;
}

/* Others want the CPU: thread or pager waited for it half of the time. */
static bool crowded(struct near_pager *n, uint64_t now)
{
	bool much = false;

	for (unsigned i = 0; i < 2; i++) {
		uint64_t delay;

		if (n->sched_fd[i] < 0 || !proc_schedstat_delay(n->sched_fd[i], &delay))
			continue;
		if (n->checked != 0 && delay - n->delay[i] > (now - n->checked) / 2)
			much = true;
		n->delay[i] = delay;
	}
	n->checked = now;
	return much;
}

/* ---- which CPU ---- */

static struct near_cpu *tried(struct near_pager *n, uint32_t cpu)
{
	for (uint32_t i = 0; i < n->ntried; i++)
		if (n->tried[i].cpu == cpu)
			return &n->tried[i];
	return NULL;
}

static bool in_mask(const struct cpu_mask *m, uint32_t cpu)
{
	return m->word[cpu / 64] >> cpu % 64 & 1;
}

/* One of the mask that was not tried yet, behind cpu if possible; NEAR_CPUS: none is to be. */
static uint32_t untried(struct near_pager *n, const struct cpu_mask *m, uint32_t cpu)
{
	for (uint32_t i = 1; n->ntried < NEAR_TRIED && i < NEAR_CPUS; i++) {
		uint32_t c = (cpu + i) % NEAR_CPUS;

		if (in_mask(m, c) && tried(n, c) == NULL)
			return c;
	}
	return NEAR_CPUS;
}

/* The one that is clearly better than cpu, or cpu. */
static uint32_t better(struct near_pager *n, const struct cpu_mask *m, uint32_t cpu)
{
	const struct near_cpu *here = tried(n, cpu);
	const struct near_cpu *best = here;

	if (here == NULL || here->took == 0)
		return cpu;
	for (uint32_t i = 0; i < n->ntried; i++) {
		const struct near_cpu *t = &n->tried[i];

		if (in_mask(m, t->cpu) && t->took != 0 && t->took < best->took)
			best = t;
	}
	return best->took < here->took - here->took / 10 ? best->cpu : cpu;
}

/* Where a thread goes that is on cpu and may be on those of the mask. */
static uint32_t choose(struct near_pager *n, const struct cpu_mask *m, uint32_t cpu, uint64_t now)
{
	const struct near_cpu *here;
	uint32_t c;

	if (now - n->tried_at > TRIED_NS) {
		n->ntried = 0;
		n->tried_at = now;
	}
	/* another one may be busy: it is worth that where reads can be faster */
	here = tried(n, cpu);
	if (here != NULL && here->took != 0 && untried(n, m, cpu) != NEAR_CPUS)
		c = untried(n, m, cpu);
	else
		c = better(n, m, cpu);
	if (tried(n, c) == NULL && n->ntried < NEAR_TRIED)
		n->tried[n->ntried++] = (struct near_cpu){.cpu = c};
	n->reads = 0;
	n->took = 0;
	n->move = false;
	return c;
}

void near_answered(struct pager *p, uint64_t ns)
{
	struct near_pager *n = &p->near;
	struct near_cpu *here = near_binds(p) ? tried(n, (uint32_t)n->cpu) : NULL;
	uint32_t mean;

	if (here == NULL)
		return;
	n->took += ns < TOOK_MAX_NS ? ns : TOOK_MAX_NS;
	if (++n->reads < READS)
		return;
	mean = (uint32_t)(n->took / READS) + 1;
	here->took = here->took == 0 ? mean : here->took - here->took / 4 + mean / 4;
	n->reads = 0;
	n->took = 0;
	n->move = untried(n, &n->may, here->cpu) != NEAR_CPUS ||
		  better(n, &n->may, here->cpu) != here->cpu;
}

static void bind(struct pager *p, uint32_t tid, uint64_t now)
{
	struct mm *mm = p->mm;
	struct near *near = &mm->near;
	struct near_pager *n = &p->near;
	struct cpu_mask one;
	uint64_t cpu;
	bool ok;

	n->whom = tid;
	if (!proc_stat(mm->proc_fd, tid, PROC_STAT_CPU, &cpu) || cpu >= NEAR_CPUS ||
	    (int)cpu == n->cpu)
		return;
	if (near->wanted) {
		if (sys_err(affinity_get(tid, &n->may)))
			return;
		cpu = choose(n, &n->may, (uint32_t)cpu, now);
	}
	memset(&one, 0, sizeof(one));
	one.word[cpu / 64] = (uint64_t)1 << (cpu % 64);
	if (near->wanted) {
		take(near);
		near->one = one;
		ok = bind_thread(p, tid);
		near->whom = ok ? tid : 0;
		release(near, near->whom);
		if (!ok) {
			n->not_before = now + BOUND_NS;
			return;
		}
	}
	if (sys_err(affinity_set(0, &one))) {
		unbind(p);
		return;
	}
	n->cpu = (int)cpu;
	n->since = now;
	if (!near->wanted)
		return;
	n->sched_fd[0] = proc_schedstat_open(mm->proc_fd, tid);
	n->sched_fd[1] = proc_schedstat_open(mm->proc_fd, p->tid);
	n->checked = 0;
	crowded(n, now);
}

void near_init(struct near_pager *n)
{
	*n = (struct near_pager){.cpu = -1, .sched_fd = {-1, -1}, .pause = PAUSE_NS};
	if (sys_err(affinity_get(0, &n->home)))
		everywhere(&n->home);
}

/* Whether the binding goes on. */
static bool still(struct pager *p, uint64_t now)
{
	struct near_pager *n = &p->near;

	if (__atomic_load_n(&p->mm->near.calls, __ATOMIC_SEQ_CST) != n->calls) {
		unbind(p);
		n->not_before = now + CHECK_NS;
		return false;
	}
	if (n->move) {
		unbind(p);
		return false;
	}
	if (now - n->checked < CHECK_NS)
		return true;
	if (crowded(n, now)) {
		struct near_cpu *here = tried(n, (uint32_t)n->cpu);

		if (here != NULL)
			here->took = TOOK_MAX_NS;
		unbind(p);
		n->not_before = now + n->pause;
		n->pause = n->pause * 2 < PAUSE_MAX_NS ? n->pause * 2 : PAUSE_MAX_NS;
		return false;
	}
	if (now - n->since < BOUND_NS)
		return true;
	n->pause = PAUSE_NS;
	unbind(p);
	return false;
}

void near_fault(struct pager *p, uint32_t tid, bool waits, uint64_t now)
{
	struct near_pager *n = &p->near;
	bool both = p->mm->near.wanted;

	if (p->mm->snaps.now != NULL) {
		n->same = 0;
		return;
	}
	/* whom may have ended, and the one that pages alone now is not bound at all */
	if (n->cpu >= 0 && (tid != n->whom || tid != n->tid || (waits && !both))) {
		if (++n->unlike >= UNLIKE_MAX)
			unbind(p);
	} else {
		n->unlike = 0;
	}
	if (tid != n->tid || (waits && !both)) {
		n->tid = tid;
		n->same = 0;
		return;
	}
	if (n->cpu >= 0 && tid != n->whom)
		return;
	n->faulted = now;
	if (both && n->cpu >= 0) {
		if (still(p, now))
			n->waits = waits;
		return;
	}
	if (n->same == 0)
		n->calls = __atomic_load_n(&p->mm->near.calls, __ATOMIC_SEQ_CST);
	if (++n->same < FOLLOW_AFTER || now < n->not_before)
		return;
	if (n->same % (both ? FOLLOW_AFTER : FOLLOW_EVERY) == 0 || n->same == FOLLOW_AFTER)
		bind(p, tid, now);
	if (both && n->cpu < 0)
		n->same = 0;
}

void near_stream(struct pager *p)
{
	struct near_pager *n = &p->near;

	n->same = 0;
	if (n->cpu >= 0 && ++n->unlike >= UNLIKE_MAX)
		unbind(p);
}

bool near_binds(const struct pager *p)
{
	return p->near.cpu >= 0 && p->mm->near.wanted;
}

void near_apart(struct pager *p)
{
	if (p->near.cpu >= 0)
		unbind(p);
}

void near_idle(struct pager *p)
{
	if (near_binds(p) && sys_now() - p->near.faulted >= NEAR_IDLE_NS)
		unbind(p);
}
