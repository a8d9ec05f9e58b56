/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * in-thread.c - faults that are answered by the thread that takes them; see
 * in-thread.h.
 *
 * x86-64 only: whether a touch was a write, and of a page that is there, is told
 * by the processor's error code in the signal's context.
 */
#include "in-thread.h"

#include "hop.h"
#include "mm.h"
#include "reclaim.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define RUNTIMES 16U
#define STACK_BELOW ((uintptr_t)64 << 10) /* of its stack the handler may use so much */
#define PIDFD_THREAD_FLAG O_EXCL	  /* PIDFD_THREAD, Linux 6.9 */

int in_thread_uffd_at(const struct mm *mm, uintptr_t addr)
{
	const struct region *r;

	if (mm->in_thread_uffd < 0)
		return mm->uffd;
	r = region_find(&mm->regions, addr);
	return r != NULL && (r->flags & REGION_IN_THREAD) ? mm->in_thread_uffd : mm->uffd;
}

long do_in_thread(struct mm *mm)
{
	long r;

	if (mm->in_thread_uffd >= 0)
		return mm->in_thread_uffd;
	r = uffd_open_sigbus(mm->device);
	if (!sys_err(r))
		mm->in_thread_uffd = (int)r;
	return r;
}

#if defined(__x86_64__)

/* As rt_sigaction(2) takes it. */
struct kernel_action {
	uintptr_t handler;
	uint64_t flags;
	uintptr_t restorer;
	uint64_t mask;
};

#define FLAG_SIGINFO 4UL
#define FLAG_RESTORER 0x04000000UL
#define FLAG_ONSTACK 0x08000000UL
#define FLAG_NODEFER 0x40000000UL
#define FLAG_RESETHAND 0x80000000UL

/* The processor's error code for a page fault. */
#define FAULT_PRESENT 1U
#define FAULT_WRITE 2U

/*
 * The runtimes with such regions, for the handler, which takes no lock to look;
 * looking counts those who are, until they are counted in the one that they found, so that
 * it is not freed under them.  In a page
 * that fork(2) empties in the child, which inherits the handler: the memory is the parent's.
 */
struct served {
	struct mm *mm[RUNTIMES]; /* atomic */
	uint32_t looking;	 /* atomic */
	uint32_t installing;	 /* atomic: 1 while one thread is */
};

static struct served *served;	    /* atomic, written once */
static uint32_t installed;	    /* atomic */
static struct kernel_action before; /* written once, before our handler is there */

void in_thread_restorer(void);
__asm__(".text\n"
	".hidden in_thread_restorer\n"
	".globl in_thread_restorer\n"
	".type in_thread_restorer, @function\n"
	"in_thread_restorer:\n\t"
	"mov $15, %eax\n\t" /* rt_sigreturn */
	"syscall\n"
	".size in_thread_restorer, . - in_thread_restorer\n");

/* ---- the faults that need no pager ---- */

static bool first_touch(struct mm *mm, const struct fault *f, const struct region *r)
{
	uint32_t n = reclaim_free_room(mm, STAGE_BLOCK - 1);

	return n != 0 && fault_anon_give(mm, mm->in_thread_own, f, r, n);
}

static bool refault(struct mm *mm, const struct fault *f, pte_t pte)
{
	/* a move brings a frame that counts already */
	if (!stage_move_back(mm, mm->in_thread_own, -1, vpn_of(f->addr), pte))
		return false;
	stat_add(&mm->stats.faults_staged, 1);
	stat_add(&mm->stats.faults_minor, 1);
	fault_latency(mm, f->t0);
	return true;
}

/* True: touch it again.  With the mm lock held. */
static bool answer(struct mm *mm, const struct fault *f, struct region *r)
{
	pte_t pte = pte_get(&mm->ptes, vpn_of(f->addr));

	fault_wp_touched(r, f->write);
	/* what is not saved yet has to be before it changes: a pager's work */
	if (mm->snaps.now != NULL)
		return false;
	if (f->wp && pte_state(pte) != PTE_PRESENT)
		return true;
	switch (pte_state(pte)) {
	case PTE_NONE:
		return first_touch(mm, f, r);
	case PTE_PRESENT:
		/* there, or gone behind our back: a pager looks */
		if (!f->wp || !(pte & PTE_WP))
			return false;
		fault_wp(mm, NULL, mm->in_thread_own, f, r);
		return !(pte_get(&mm->ptes, vpn_of(f->addr)) & PTE_WP);
	case PTE_STAGED:
		return refault(mm, f, pte);
	case PTE_COMPRESSED:
		return reclaim_free_room(mm, 1) != 0 &&
		       fault_compressed_give(mm, mm->in_thread_own, f, r, mm->in_thread_page);
	case PTE_FILLED:
		return reclaim_free_room(mm, 1) != 0 &&
		       fault_filled_give(mm, mm->in_thread_own, f, mm->in_thread_page) ==
			       FAULT_DONE;
	default:
		return false;
	}
}

/* The runtime that has an address, in which the thread is counted; NULL: none. */
static struct mm *enter(uintptr_t addr)
{
	struct served *s = __atomic_load_n(&served, __ATOMIC_ACQUIRE);
	struct mm *found = NULL;

	/* Sequentially consistent, as in_thread_end(): one of the two sees the other. */
	__atomic_add_fetch(&s->looking, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < RUNTIMES && found == NULL; i++) {
		struct mm *mm = __atomic_load_n(&s->mm[i], __ATOMIC_SEQ_CST);

		if (mm != NULL && region_overlaps(&mm->regions, addr, addr + PAGE_SIZE))
			found = mm;
	}
	if (found != NULL)
		__atomic_add_fetch(&found->in_thread_inside, 1, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&s->looking, 1, __ATOMIC_SEQ_CST);
	return found;
}

static void leave(struct mm *mm)
{
	__atomic_sub_fetch(&mm->in_thread_inside, 1, __ATOMIC_SEQ_CST);
}

/* Hand it over; true: touch it again.  A runtime that ends brings all pages without being asked. */
static bool ask(struct mm *mm, const struct fault *f)
{
	bool ours = true;

	/* Sequentially consistent, as in_thread_ending(): one of the two sees the other. */
	__atomic_add_fetch(&mm->in_thread_asking, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&mm->in_thread_state, __ATOMIC_SEQ_CST) == IN_THREAD_MADE)
		ours = hop_fault(mm, f->addr, f->write, f->wp) == 0;
	else
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	__atomic_sub_fetch(&mm->in_thread_asking, 1, __ATOMIC_SEQ_CST);
	return ours;
}

/* Whether the fault was of a region of ours that asks for this; then it was answered. */
static bool serve(uintptr_t addr, uint64_t error)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	struct mm *mm = enter(addr & PAGE_MASK);
	struct fault f = {
		.addr = addr & PAGE_MASK,
		.write = (error & FAULT_WRITE) != 0,
		.wp = (error & FAULT_WRITE) != 0 && (error & FAULT_PRESENT) != 0,
	};
	bool ours = true;
	bool done = false;

	if (mm == NULL)
		return false;
	f.t0 = sys_now();
	if (!region_overlaps(&mm->regions, (here - STACK_BELOW) & PAGE_MASK, here + PAGE_SIZE)) {
		struct region *r;
		bool gone;

		lock_take(&mm->lock);
		r = region_find(&mm->regions, f.addr);
		/* what is not armed any more is the kernel's */
		gone = in_thread_gone(r) || !mm->armed;
		ours = gone || (r->flags & REGION_IN_THREAD) != 0;
		done = gone || (ours && answer(mm, &f, r));
		if (done && !gone)
			stat_add(&mm->stats.faults_in_thread, 1);
		lock_drop(&mm->lock);
	}
	if (ours && !done)
		ours = ask(mm, &f);
	leave(mm);
	return ours;
}

/* ---- the signal ---- */

/* What the program wanted of a SIGBUS that is not ours. */
static void chain(int sig, siginfo_t *info, ucontext_t *context)
{
	const struct kernel_action dfl = {.handler = (uintptr_t)SIG_DFL,
					  .flags = FLAG_RESTORER,
					  .restorer = (uintptr_t)in_thread_restorer};
	struct kernel_action was = before;
	void (*handler)(int, siginfo_t *, void *);
	uint64_t mask;

	if (was.handler == (uintptr_t)SIG_IGN && info->si_code <= 0)
		return;
	if (was.handler == (uintptr_t)SIG_DFL || was.handler == (uintptr_t)SIG_IGN) {
		/* the instruction is run again, or the signal waits until we return */
		SYS4(sigaction, SIGBUS, &dfl, NULL, sizeof(dfl.mask));
		if (info->si_code <= 0)
			SYS3(tgkill, SYS0(getpid), SYS0(gettid), SIGBUS);
		return;
	}
	memcpy(&mask, &context->uc_sigmask, sizeof(mask));
	mask |= was.mask;
	if (!(was.flags & FLAG_NODEFER))
		mask |= (uint64_t)1 << (SIGBUS - 1);
	if (was.flags & FLAG_RESETHAND)
		SYS4(sigaction, SIGBUS, &dfl, NULL, sizeof(dfl.mask));
	SYS4(sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	memcpy(&handler, &was.handler, sizeof(handler));
	handler(sig, info, context);
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;

	if (info->si_code == BUS_ADRERR &&
	    serve((uintptr_t)info->si_addr, (uint64_t)c->uc_mcontext.gregs[REG_ERR]))
		return;
	chain(sig, info, c);
}

/* NULL: no memory. */
static struct served *make(void)
{
	struct served *s = __atomic_load_n(&served, __ATOMIC_ACQUIRE), *none = NULL;

	if (s != NULL)
		return s;
	s = sys_mem_alloc(PAGE_SIZE);
	if (s == NULL)
		return NULL;
	if (sys_err(SYS3(madvise, s, PAGE_SIZE, MADV_WIPEONFORK))) {
		sys_mem_free(s, PAGE_SIZE);
		return NULL;
	}
	/* Release: whoever sees it sees it empty; acquire: of another thread's, too. */
	if (!__atomic_compare_exchange_n(&served, &none, s, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		sys_mem_free(s, PAGE_SIZE);
		s = none;
	}
	return s;
}

/* One thread at a time. */
static long set_handler(void)
{
	struct kernel_action act = {
		.handler = (uintptr_t)on_sigbus,
		.flags = FLAG_SIGINFO | FLAG_RESTORER | FLAG_ONSTACK,
		.restorer = (uintptr_t)in_thread_restorer,
		.mask = ~(uint64_t)0,
	};
	struct kernel_action was;
	long r = SYS4(sigaction, SIGBUS, NULL, &was, sizeof(act.mask));

	/* ours: of a parent that forked when it had been set, and `before` with it */
	if (sys_err(r) || was.handler == act.handler)
		return r;
	/* what is there is known before ours can be called */
	before = was;
	return SYS4(sigaction, SIGBUS, &act, NULL, sizeof(act.mask));
}

static long install(void)
{
	struct served *s = make();
	uint32_t no = 0;
	long r = 0;

	if (s == NULL)
		return -ENOMEM;
	while (!__atomic_compare_exchange_n(&s->installing, &no, 1, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_ACQUIRE)) {
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		no = 0;
	}
	if (!__atomic_load_n(&installed, __ATOMIC_RELAXED))
		r = set_handler();
	if (!sys_err(r))
		__atomic_store_n(&installed, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&s->installing, 0, __ATOMIC_RELEASE);
	return r;
}

/* The descriptor that a pager made, in the program's table, too. */
static long fetch(struct mm *mm, long theirs)
{
	long pidfd = SYS2(pidfd_open, mm->pager[0]->tid, PIDFD_THREAD_FLAG);
	long r;

	if (sys_err(pidfd))
		return pidfd == -EINVAL ? -EOPNOTSUPP : pidfd;
	r = SYS3(pidfd_getfd, pidfd, theirs, 0);
	SYS1(close, pidfd);
	return r;
}

static long enlist(struct mm *mm)
{
	for (unsigned i = 0; i < RUNTIMES; i++) {
		struct mm *none = NULL;

		if (__atomic_compare_exchange_n(&served->mm[i], &none, mm, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return 0;
	}
	return -EAGAIN;
}

static void delist(struct mm *mm)
{
	for (unsigned i = 0; i < RUNTIMES; i++)
		if (__atomic_load_n(&served->mm[i], __ATOMIC_SEQ_CST) == mm)
			__atomic_store_n(&served->mm[i], NULL, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&served->looking, __ATOMIC_SEQ_CST) != 0)
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

/* One after the other, by a futex of its own: the mm lock is not held while a pager is asked. */
long in_thread_begin(struct mm *mm)
{
	uint32_t no = IN_THREAD_NONE;
	long fd;
	long r;

	while (!__atomic_compare_exchange_n(&mm->in_thread_state, &no, IN_THREAD_MAKING, false,
					    __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		if (no == IN_THREAD_MADE)
			return 0;
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		no = IN_THREAD_NONE;
	}
	r = install();
	fd = sys_err(r) ? r : hop_call(mm, HOP_IN_THREAD, 0, 0, 0, 0, 0, 0, 0);
	if (!sys_err(fd))
		fd = fetch(mm, fd);
	r = sys_err(fd) ? fd : 0;
	if (r == 0) {
		mm->in_thread_own = (int)fd;
		mm->in_thread_page = sys_mem_alloc(PAGE_SIZE);
		r = mm->in_thread_page == NULL ? -ENOMEM : enlist(mm);
		if (r != 0) {
			SYS1(close, fd);
			mm->in_thread_own = -1;
			sys_mem_free(mm->in_thread_page, PAGE_SIZE);
			mm->in_thread_page = NULL;
		}
	}
	/* Release: pairs with the acquire above, for who comes next. */
	__atomic_store_n(&mm->in_thread_state, r == 0 ? IN_THREAD_MADE : IN_THREAD_NONE,
			 __ATOMIC_RELEASE);
	return r;
}

/* The program may have closed the descriptor, and have another behind the number. */
static bool is_userfaultfd(int fd)
{
	static const char want[] = "anon_inode:[userfaultfd]";
	char path[LOG_LINE_MAX], text[sizeof(want)];

	log_format(path, sizeof(path), "/proc/self/fd/%d", fd);
	return SYS4(readlink, AT_FDCWD, path, text, sizeof(text)) == (long)sizeof(want) - 1 &&
	       memcmp(text, want, sizeof(want) - 1) == 0;
}

void in_thread_ending(struct mm *mm)
{
	if (mm->in_thread_state != IN_THREAD_MADE)
		return;
	__atomic_store_n(&mm->in_thread_state, IN_THREAD_ENDING, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&mm->in_thread_asking, __ATOMIC_SEQ_CST) != 0)
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

void in_thread_stays(struct mm *mm)
{
	if (mm->in_thread_state == IN_THREAD_ENDING)
		__atomic_store_n(&mm->in_thread_state, IN_THREAD_MADE, __ATOMIC_SEQ_CST);
}

void in_thread_end(struct mm *mm)
{
	if (mm->in_thread_state != IN_THREAD_ENDING)
		return;
	delist(mm);
	while (__atomic_load_n(&mm->in_thread_inside, __ATOMIC_SEQ_CST) != 0)
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	if (is_userfaultfd(mm->in_thread_own))
		SYS1(close, mm->in_thread_own);
	sys_mem_free(mm->in_thread_page, PAGE_SIZE);
}

#else

long in_thread_begin(struct mm *mm)
{
	(void)mm;
	return -EOPNOTSUPP;
}

void in_thread_ending(struct mm *mm)
{
	(void)mm;
}

void in_thread_stays(struct mm *mm)
{
	(void)mm;
}

void in_thread_end(struct mm *mm)
{
	(void)mm;
}

#endif
