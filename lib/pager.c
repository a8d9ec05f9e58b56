/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pager.c - pager threads, their loop, arming; see pager.h.
 *
 * The loop: take the lock; read messages; answer faults and calls; call back
 * ended I/O, with a look at messages in between; retry what was deferred; keep
 * frames free; drop the lock; start the I/O that was queued and sleep until a
 * message or a completion.
 */
#include "pager.h"

#include "do.h"
#include "fault.h"
#include "fork.h"
#include "grant.h"
#include "in-thread.h"
#include "prefetch.h"
#include "proc.h"
#include "reclaim.h"
#include "share.h"
#include "snapshot.h"
#include "store-client.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PAGER_STACK ((size_t)256 << 10)
#define PAGER_TLS_SPARE ((size_t)64 << 10)
#define PAGER_TCB ((size_t)8192)
#define IO_DEPTH 256U
#define BUSY_PAUSE 1000000U /* ns */
#define BUSY_OTHERS 10000000U
#define BUSY_OURS 3000000000U
#define PUMP_NS 1000000U
#define ANSWER_MAX 32U /* pages that come before a pager does the rest of a round */
#define AWAKE_NS 150000U
#define AWAKE_NEXT_NS 40000U
#define AT_ONCE 2U	 /* reads that are answered before a pager looks for faults again */
#define PLACED_MOST 128U /* pages that are put in place before it does so, too */

/* ---- the thread ---- */

/*
 * clone(2) into fn(arg) on a new stack.  In assembly because the child must
 * not return through this frame.
 */
static long clone_thread(unsigned long flags, void *stack_top, uint32_t *tid, void *tls,
			 void (*fn)(struct pager *), struct pager *arg)
{
	void **top = stack_top;
	long ret;

	*--top = arg;
	*--top = (void *)fn;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = (long)tid;
	register long r8 __asm__("r8") = (long)tls;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "pop %%rax\n\t"
			 "pop %%rdi\n\t"
			 "call *%%rax\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(ret)
			 : "a"(SYS_clone), "D"(flags), "S"(top), "d"(tid), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone;
	register long x0 __asm__("x0") = (long)flags;
	register long x1 __asm__("x1") = (long)top;
	register long x2 __asm__("x2") = (long)tid;
	register long x3 __asm__("x3") = (long)tls;
	register long x4 __asm__("x4") = (long)tid;
	__asm__ volatile("svc 0\n\t"
			 "cbnz x0, 1f\n\t"
			 "ldp x1, x0, [sp], #16\n\t"
			 "blr x1\n\t"
			 "brk #1\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	ret = x0;
#endif
	return ret;
}

static void pager_main(struct pager *p);

static uintptr_t thread_pointer(void)
{
	uintptr_t tp;

#if defined(__x86_64__)
	__asm__("mov %%fs:0, %0" : "=r"(tp));
#elif defined(__aarch64__)
	__asm__("mrs %0, tpidr_el0" : "=r"(tp));
#endif
	return tp;
}

/*
 * A thread block: zeros below the thread pointer as far as the C library's
 * errno and our own initial-exec variables reach, and a header that points to
 * itself, as the ABI wants.
 */
static void *make_tls(char *low, size_t below)
{
	char *tp = low + below;

#if defined(__x86_64__)
	uintptr_t guard;

	*(void **)(void *)tp = tp;	  /* self, for %fs:0 */
	*(void **)(void *)(tp + 16) = tp; /* the thread descriptor */
	__asm__("mov %%fs:0x28, %0" : "=r"(guard));
	*(uintptr_t *)(void *)(tp + 0x28) = guard; /* stack protector */
#endif
	return tp;
}

/* Make the thread; it sets p->state.  shared: with the caller's descriptor table. */
static int spawn(struct pager *p, bool shared)
{
	uint64_t all = ~(uint64_t)0;
	uint64_t old;
	uintptr_t tp = thread_pointer();
	uintptr_t var = (uintptr_t)&errno;
	size_t below = (var < tp && tp - var < ((size_t)16 << 20) ? tp - var : 0) + PAGER_TLS_SPARE;
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			      CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |
			      (shared ? CLONE_FILES : 0);
	void *tls;
	long r;

	below = (below + 4095) & ~(size_t)4095;
	p->stack_size = PAGER_STACK + below + PAGER_TCB;
	p->stack = sys_mem_alloc(p->stack_size);
	if (p->stack == NULL)
		return -ENOMEM;
	SYS3(mprotect, p->stack, PAGE_SIZE, PROT_NONE);
	tls = make_tls((char *)p->stack + PAGER_STACK, below);
	sys_bare(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&old, 8, 0, 0);
	r = clone_thread(flags, (char *)p->stack + PAGER_STACK, &p->tid, tls, pager_main, p);
	sys_bare(SYS_rt_sigprocmask, SIG_SETMASK, (long)&old, 0, 8, 0, 0);
	if (sys_err(r)) {
		sys_mem_free(p->stack, p->stack_size);
		p->stack = NULL;
		return (int)r;
	}
	while (__atomic_load_n(&p->state, __ATOMIC_ACQUIRE) == PAGER_STARTING)
		futex_wait(&p->state, PAGER_STARTING, 0);
	return p->state == PAGER_FAILED ? p->err : 0;
}

static void set_state(struct pager *p, enum pager_state s)
{
	/* Release: who sees the state sees err and all that was opened; pairs with spawn(). */
	__atomic_store_n(&p->state, s, __ATOMIC_RELEASE);
	futex_wake(&p->state, 1);
}

void pager_count(struct mm *mm)
{
	__atomic_store_n(&mm->stats.slots_total, swap_total(&mm->swap), __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.slots_used, swap_used(&mm->swap), __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.bookkeeping,
			 pte_bytes(&mm->ptes) + swap_bytes(&mm->swap) + mm->snaps.bytes,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.compressed_bytes, mm->tier.pool.live, __ATOMIC_RELAXED);
	__atomic_store_n(&mm->stats.pool, zpool_held(&mm->tier.pool), __ATOMIC_RELAXED);
}

/* ---- opening what pagers use ---- */

/* A program that is refused memory may ask again and again: it is told once why. */
static enum fl_log_level failing(struct mm *mm)
{
	bool said = mm->failed_said;

	mm->failed_said = true;
	return (mm->flags & MM_PRELOAD) && said ? FL_LOG_DEBUG : FL_LOG_ERROR;
}

void pager_not_started(struct mm *mm, const char *why)
{
	log_line_own(&mm->sink, failing(mm), "%s", why);
}

void pager_failing(struct mm *mm, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	if (mm->start_why == NULL) {
		log_vformat(line, sizeof(line), fmt, ap);
		mm_log(mm, failing(mm), "%s", line);
	} else if (mm->start_why[0] == '\0') {
		log_vformat(mm->start_why, mm->start_why_size, fmt, ap);
	}
	va_end(ap);
}

static int say(struct mm *mm, const char *what, long err)
{
	pager_failing(mm, "%s: %s (run 'faultline doctor')", what, log_strerror((int)err));
	return (int)err;
}

/* Whether an area that is in use was taken by this process, as it was before an exec. */
static bool was_ours(const struct mm *mm, const struct fl_swap_spec *spec)
{
	struct stat st;

	return spec->path != NULL && !sys_err(SYS4(fstatat, AT_FDCWD, spec->path, &st, 0)) &&
	       proc_flocked(mm->proc_fd, (uint32_t)SYS0(getpid), st.st_ino);
}

/*
 * The areas that were asked for.  A program's areas may have been taken by the
 * program that started it, or by one that it started: it does without those,
 * and with a private one when there is no other.  What the process itself had
 * before an exec is free again as soon as its last I/O has ended, and children that it
 * forked then: the former is waited for, and the latter no longer than that may take.
 */
static int open_areas(struct mm *mm)
{
	/* a program that `faultline run` did not start has nobody else to look */
	bool looked = (mm->flags & (MM_PRELOAD | MM_LOOKED)) != MM_PRELOAD;
	char why[LOG_LINE_MAX];
	unsigned index;

	for (unsigned i = 0; i < mm->nspec; i++) {
		uint64_t since = sys_now();
		uint32_t word = 0;
		bool ours = false;
		int r;

		for (;;) {
			uint64_t waited = sys_now() - since;

			r = (looked ? swap_on_looked : swap_on)(&mm->swap, &mm->spec[i],
								mm->opt.swap_dir, &index, why,
								sizeof(why));
			if (r != -EBUSY || !(mm->flags & MM_PRELOAD))
				break;
			/*
			 * While others lock and unlock a line may be missed: one look is enough for
			 * yes.  A look may take as long as others are waited for, and what it does
			 * not find may just have been let go: the last thing is a try.
			 */
			ours = ours || was_ours(mm, &mm->spec[i]);
			if (waited > (ours ? BUSY_OURS : BUSY_OTHERS))
				break;
			futex_wait(&word, 0, BUSY_PAUSE);
		}
		if (r == -EBUSY && (mm->flags & MM_PRELOAD)) {
			mm_log(mm, FL_LOG_INFO, "%s: process %d does without it", why,
			       (int)SYS0(getpid));
			mm->private_area = true;
			continue;
		}
		if (r != 0) {
			pager_failing(mm, "%s", why);
			return r;
		}
	}
	mm->nspec = 0;
	return 0;
}

int pager_open_proc(struct mm *mm)
{
	static const char *const name[] = {"self/pagemap", "self/mem", "self/maps"};
	int *const fd[] = {&mm->pagemap_fd, &mm->mem_fd, &mm->maps_fd};
	long r;

	for (unsigned i = 0; i < 3; i++) {
		r = SYS4(openat, mm->proc_fd, name[i], O_RDONLY | O_CLOEXEC, 0);
		if (sys_err(r)) {
			pager_failing(mm, "cannot open /proc/%s: %s", name[i],
				      log_strerror((int)r));
			return (int)r;
		}
		*fd[i] = (int)r;
	}
	r = sys_bare(SYS_pidfd_open, SYS0(getpid), 0, 0, 0, 0, 0);
	mm->pidfd = sys_err(r) ? -1 : (int)r;
	mm->batch_drop = mm->pidfd >= 0;
	return 0;
}

/* On the first pager, with an empty descriptor table. */
static int open_all(struct mm *mm)
{
	long r;

	/* none of the program's descriptors is held open here */
	if (!(mm->flags & MM_SERVER))
		SYS3(close_range, 0, ~0U, 0);
	mm->device = (int)uffd_device();
	r = SYS4(openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (sys_err(r))
		return say(mm, "cannot open /proc", r);
	mm->proc_fd = (int)r;
	r = pager_open_proc(mm);
	if (r == 0 && mm->store != NULL)
		r = stored_attach(mm);
	if (r != 0)
		return (int)r;
	r = uffd_open(mm->device);
	if (sys_err(r))
		return say(mm, "cannot open /dev/userfaultfd", r);
	mm->uffd = mm->wait_fd = (int)r;
	if (mm->store != NULL)
		stored_listen(mm);
	if (mm->flags & MM_SERVER) {
		r = peers_open(mm);
		if (r != 0)
			return say(mm, "cannot serve mappings of others", r);
	}
	r = sys_bare(SYS_getrandom, (long)&mm->csum_key, sizeof(mm->csum_key), GRND_NONBLOCK, 0, 0,
		     0);
	if (r != (long)sizeof(mm->csum_key))
		mm->csum_key = sys_now() ^ (uintptr_t)mm;
	r = pte_table_open(&mm->ptes);
	if (r != 0)
		return say(mm, "cannot make the page entries' memory", r);
	r = staging_open(mm);
	if (r != 0)
		return say(mm, "cannot make the staging area", r);
	r = tier_open(mm);
	if (r != 0)
		return say(mm, "cannot make the pool of compressed pages", r);
	r = hop_init(mm);
	if (r != 0)
		return say(mm, "cannot make the doorbells", r);
	grant_listen(mm);
	snapshot_listen(mm);
	pool_init(&mm->io_pool, sizeof(struct swap_io), (size_t)64 << 10);
	pool_init(&mm->files.io_pool, sizeof(struct file_io), (size_t)64 << 10);
	return open_areas(mm);
}

static void close_all(struct mm *mm)
{
	stored_close(mm);
	swap_close_all(&mm->swap);
	staging_close(mm);
	landing_close(mm);
	tier_close(mm);
	if (mm->ptes.chunk != NULL)
		pte_table_close(&mm->ptes);
	fill_fini(&mm->fills);
	pool_fini(&mm->io_pool);
	pool_fini(&mm->files.io_pool);
}

/* ---- the loop ---- */

/* A doorbell was touched. */
static void answer_bell(struct pager *p, uintptr_t addr, uint32_t tid, bool calls, uint64_t now)
{
	/* within a call others wait: hop_serve() looks for them when it ends */
	enum hop_served what = HOP_A_CALL;

	if (!hop_kicked(p->mm, addr) && calls)
		what = hop_serve(p, addr);
	/* who answers its own faults, but for those that it hands over */
	if (what != HOP_A_CALL)
		near_fault(p, tid, what == HOP_A_FAULT_THAT_WAITS, now);
}

/*
 * Calls come last: one that lets others go on (pager_pump) may be waiting for a thread whose
 * fault was read together with it.
 */
static unsigned read_messages(struct pager *p, bool calls)
{
	struct mm *mm = p->mm;
	struct uffd_msg msgs[PAGER_MSGS]; /* a call may nest another round (pager_pump) */
	ssize_t n = uffd_read(mm->uffd, msgs, PAGER_MSGS);
	unsigned nbells = 0;
	uint64_t now;

	if (n <= 0)
		return 0;
	now = sys_now();
	/* their entries come from memory while the first is answered */
	for (ssize_t i = 1; i < n; i++)
		if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
			pte_prefetch(&mm->ptes, vpn_of(msgs[i].arg.pagefault.address));
	for (ssize_t i = 0; i < n; i++) {
		const struct uffd_msg *m = &msgs[i];
		enum fault_result res;
		struct fault f;

		if (m->event != UFFD_EVENT_PAGEFAULT)
			continue;
		f = (struct fault){
			.addr = m->arg.pagefault.address & PAGE_MASK,
			.write = m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
			.wp = m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP,
			.tid = m->arg.pagefault.feat.ptid,
			.t0 = now,
		};
		if (hop_is_bell(mm, f.addr)) {
			msgs[nbells++] = *m;
			continue;
		}
		p->streaming = false;
		res = fault_handle(p, &f);
		if (res == FAULT_DEFER)
			fault_defer(p, &f);
		if (p->streaming)
			near_stream(p);
		else
			near_fault(p, f.tid, res != FAULT_DONE, now);
	}
	for (unsigned i = 0; i < nbells; i++)
		answer_bell(p, msgs[i].arg.pagefault.address & PAGE_MASK,
			    msgs[i].arg.pagefault.feat.ptid, calls, now);
	return (unsigned)n;
}

/* Whether there may have been any. */
static bool read_faults(struct pager *p, bool calls)
{
	p->placed = 0;
	if (!(p->mm->flags & MM_SERVER))
		return read_messages(p, calls) != 0;
	/* what is ready is mostly not its own */
	if (peers_read(p))
		read_messages(p, calls);
	return true;
}

/*
 * Call back ended I/O, some at a time.  Who got its page may ask for another soon: that is heard
 * in between and read at once.  Else threads that wait for a read each would come to wait, and to
 * go on, all at a time, and the device would have nothing to do meanwhile.  Nor is it to wait
 * while many pages of a stream are put in place: who reads the first of them asks for more
 * soon.  But the rest of a round, which sees to limits, waits for some pages only.
 */
static void answer_reads(struct pager *p, bool calls)
{
	uint64_t most = mm_frames(p->mm) + ANSWER_MAX;
	bool answered = p->answered;

	/* a thread that shares the CPU asks when the pager sleeps */
	if (near_binds(p)) {
		blkio_reap(p->io);
		return;
	}
	for (unsigned i = 0; i < ANSWER_MAX && mm_frames(p->mm) < most; i++) {
		p->answered = false;
		if (blkio_reap_some(p->io, AT_ONCE) == 0)
			break;
		answered |= p->answered;
		if ((p->answered || p->placed >= PLACED_MOST) && !p->stop && read_faults(p, calls))
			blkio_flush(p->io);
	}
	p->answered = answered;
}

static void round_trip(struct pager *p, bool calls)
{
	if (p->readable)
		read_faults(p, calls);
	if (p->kin || fork_kin_ending(p->mm))
		fork_look_after_kin(p->mm);
	if (p->mm->flags & MM_SERVER)
		peers_round(p);
	if (p->mm->share != NULL)
		share_round(p);
	if (calls && p->mm->store != NULL && !p->stop)
		stored_round(p);
	if (!calls)
		hop_serve_ends(p);
	/* the device works on what was asked for while what it answered is installed */
	if (blkio_ready(p->io))
		blkio_flush(p->io);
	answer_reads(p, calls);
	if (p->mm->ndefer != 0)
		fault_retry(p);
	if (p->mm->hop.later != 0)
		hop_serve_faults(p);
	if (p->nbells != 0) {
		lock_drop(&p->mm->lock);
		hop_answer_faults(p);
		lock_take(&p->mm->lock);
	}
	reclaim_balance(p);
	grant_round(p);
	files_round(p);
	traits_round(p);
	if (p->mm->prefetch != NULL)
		prefetch_round(p);
	snapshot_round(p, calls);
	pager_count(p->mm);
}

/*
 * A device answers within tens of microseconds, and to be woken on an idle CPU
 * may take as long again: while I/O is in flight, and shortly after it answered
 * a fault (the thread that goes on may fault again), look for a while before
 * sleeping; with that thread on the same CPU, only while it waits.  What
 * blkio_wait() returns.
 */
static int wait_awake(struct pager *p)
{
	uint64_t budget = blkio_inflight(p->io) != 0 ? AWAKE_NS : p->answered ? AWAKE_NEXT_NS : 0;
	int fd = p->mm->wait_fd;
	uint64_t start;
	int r = 0;

	if (near_binds(p)) {
		budget = p->near.waits ? AWAKE_NS : 0;
		/*
		 * The one thread that faults waits: to watch for others would cost a request.  But not
		 * twice in a row: something else may have ended, or answered it.
		 */
		if (!p->unwatched && blkio_inflight(p->io) != 0)
			fd = -1;
	}

	p->answered = p->unwatched = false;
	if (budget == 0)
		return 0;
	start = sys_now();
	do {
		r = blkio_wait(p->io, fd, 0);
	} while (r == 0 && sys_now() - start < budget);
	p->unwatched = fd < 0 && r != 0;
	return r;
}

/* For so long at most. */
static void sleep_until_event(struct pager *p, uint64_t most)
{
	/*
	 * While faults are deferred and nothing is in flight here, another pager may free what they
	 * need; within a call, the I/O that it waits for may be another pager's, and wake that one.
	 */
	bool others = p->mm->ndefer != 0 ||
		      ((p->pumped || p->mm->peers.jobs != NULL) && blkio_inflight(p->io) == 0);
	bool look_again = others || fork_kin_ending(p->mm) || grant_busy(p->mm);
	uint64_t timeout = look_again ? 1000000U : near_binds(p) ? NEAR_IDLE_NS : UINT64_MAX;
	uint64_t patience = stored_patience(p->mm);
	uint64_t files = files_timeout(p->mm);
	uint64_t prefetch = prefetch_timeout(p->mm);
	int r;

	if (patience < timeout)
		timeout = patience;
	if (files < timeout)
		timeout = files;
	if (prefetch < timeout)
		timeout = prefetch;
	if (most < timeout)
		timeout = most;
	if (snapshot_ready(p->mm))
		timeout = 0;
	blkio_also(p->io, p->mm->kin_fd);
	lock_drop(&p->mm->lock);
	r = timeout != 0 ? wait_awake(p) : 0;
	if (r == 0)
		r = blkio_wait(p->io, p->mm->wait_fd, timeout);
	if (r < 0)
		log_fatal("a pager cannot wait for faults any more: %s", log_strerror(r));
	lock_take(&p->mm->lock);
	p->readable = r & BLKIO_READABLE;
	p->kin = r & BLKIO_ALSO;
	if (!p->readable)
		near_idle(p);
}

void pager_pump(struct pager *p)
{
	p->pumped = true;
	if (hop_serve_ends(p))
		return;
	p->mm->pumping++;
	/* what another pager started ends in its ring, and is not told here */
	sleep_until_event(p, p->mm->opt.pagers > 1 ? PUMP_NS : UINT64_MAX);
	round_trip(p, false);
	p->mm->pumping--;
}

/*
 * Where a thread ends the address sanitizer asks the C library for its stack,
 * and the C library does not know a pager.
 */
#define UNKNOWN_THREAD __attribute__((no_sanitize_address))

UNKNOWN_THREAD static void pager_end(struct pager *p)
{
	if (p->io != NULL)
		blkio_close(p->io);
	p->io = NULL;
	if (p->index == 0)
		close_all(p->mm);
	for (;;)
		sys_bare(SYS_exit, 0, 0, 0, 0, 0, 0);
}

UNKNOWN_THREAD static void pager_main(struct pager *p)
{
	struct mm *mm = p->mm;

	/* each says by itself what it could not do */
	if (p->index == 0)
		p->err = fork_is_child(mm) ? fork_adopt(mm) : open_all(mm);
	if (p->err == 0) {
		p->err = mm->flags & MM_SERVER
				 ? blkio_open_restricted(&p->io, mm->opt.engine, IO_DEPTH)
				 : blkio_open(&p->io, mm->opt.engine, IO_DEPTH);
		if (p->err != 0)
			say(mm, "cannot set up I/O for a pager", p->err);
	}
	if (p->err != 0) {
		set_state(p, PAGER_FAILED);
		pager_end(p);
	}
	if (p->index == 0) {
		for (unsigned i = 1; i < mm->opt.pagers; i++) {
			int err = spawn(mm->pager[i], true);

			if (err != 0) {
				mm_log(mm, FL_LOG_WARN, "pager %u did not start: %s", i,
				       log_strerror(err));
				break;
			}
		}
		pager_count(mm); /* what fl_stats() tells is there before anybody can ask */
	}
	/* Release: pairs with mm_close(), which ends those that started. */
	__atomic_store_n(&p->started, 1, __ATOMIC_RELEASE);
	set_state(p, PAGER_RUNNING);
	lock_take(&mm->lock);
	for (;;) {
		round_trip(p, true);
		if (p->stop)
			break;
		sleep_until_event(p, UINT64_MAX);
	}
	lock_drop(&mm->lock);
	if (p->index == 0) {
		/* the descriptors are shared: the others go first */
		for (unsigned i = 1; i < mm->opt.pagers; i++) {
			uint32_t tid;

			while ((tid = __atomic_load_n(&mm->pager[i]->tid, __ATOMIC_ACQUIRE)) != 0)
				sys_bare(SYS_futex, (long)&mm->pager[i]->tid, 0 /* FUTEX_WAIT */,
					 tid, 0, 0, 0);
		}
	}
	pager_end(p);
}

/* ---- arming ---- */

int pager_register(struct mm *mm, uintptr_t start, uintptr_t end)
{
	struct page_region runs[64];
	uintptr_t at = start;
	const struct region *region = region_find(&mm->regions, start);
	bool file = region != NULL && region->users != NULL;
	int r;

	if (file && (region->flags & REGION_SHARED)) {
		/* what is present there is known to the page cache, and not mapped yet */
		r = uffd_register_shared(mm->uffd, start, end - start);
		if (r == 0)
			SYS3(madvise, start, end - start, MADV_DONTFORK);
		return r;
	}
	r = uffd_register(in_thread_uffd_at(mm, start), start, end - start,
			  file || mm->opt.wp != FL_WP_OFF);
	if (r != 0)
		return r;
	/* a child forked past us must not read zeros: it has no such memory */
	SYS3(madvise, start, end - start, MADV_DONTFORK);
	while (at < end) {
		uintptr_t next;
		long n = uffd_scan_present(mm->pagemap_fd, at, end, runs, 64, &next);

		if (n < 0)
			return (int)n;
		for (long i = 0; i < n; i++) {
			vpn_t v = vpn_of(runs[i].start);
			vpn_t stop = vpn_of(runs[i].end);

			if (pte_reserve(&mm->ptes, v, stop - v) != 0)
				return -ENOMEM;
			while ((v = pte_fill_present(&mm->ptes, v, stop)) < stop) {
				/* Moved here, and read from outside before it was registered:
				 * the kernel's zero page stands where ours is to come back. */
				if (pte_state(pte_get(&mm->ptes, v)) != PTE_PRESENT)
					SYS3(madvise, addr_of(v), PAGE_SIZE, MADV_DONTNEED);
				v++;
			}
		}
		if (next <= at)
			break;
		at = next;
	}
	return 0;
}

/* Arming failed: what was registered below `end` is the kernel's again; nothing was evicted. */
static void disarm(struct mm *mm, uintptr_t end)
{
	const struct region *r;
	uintptr_t at = 0;

	while ((r = region_next(&mm->regions, at)) != NULL && r->start < end) {
		uffd_unregister(in_thread_uffd_at(mm, r->start), r->start, r->end - r->start);
		SYS3(madvise, r->start, r->end - r->start,
		     r->flags & REGION_DONTFORK ? MADV_DONTFORK : MADV_DOFORK);
		drop_entries(mm, r->start, r->end);
		at = r->end;
	}
}

int pager_arm(struct mm *mm)
{
	const struct region *r;
	uintptr_t at = 0;

	lock_assert_held(&mm->lock);
	if (mm->armed)
		return 0;
	if (mm->swap.narea == 0 && mm->private_area) {
		struct fl_swap_spec spec = {.prio = -1};
		char why[LOG_LINE_MAX];
		unsigned index;
		int err = swap_on(&mm->swap, &spec, mm->opt.swap_dir, &index, why, sizeof(why));

		if (err != 0) {
			pager_failing(mm, "%s", why);
			return err;
		}
	}
	while ((r = region_next(&mm->regions, at)) != NULL) {
		int err = pager_register(mm, r->start, r->end);

		if (err != 0) {
			pager_failing(mm, "cannot register 0x%lx-0x%lx with userfaultfd: %s",
				      (unsigned long)r->start, (unsigned long)r->end,
				      log_strerror(err));
			disarm(mm, r->end);
			return err;
		}
		/*
		 * On fault from now on: what it grows by would be brought in within the call that
		 * makes it grow, by a pager that waits for itself.
		 */
		if (r->flags & REGION_LOCKED)
			SYS3(mlock2, r->start, r->end - r->start, MLOCK_ONFAULT);
		at = r->end;
	}
	mm->failed_said = false;
	/* Release: pairs with mm_armed(). */
	__atomic_store_n(&mm->armed, 1, __ATOMIC_RELEASE);
	if (mm->group != NULL)
		group_armed(mm->group);
	mm_log(mm, FL_LOG_INFO, "armed: %lu MiB mapped, limit %lu MiB, engine %s, %s",
	       (unsigned long)(mm->regions.pages >> 8), (unsigned long)(mm->limit >> 8),
	       blkio_engine_name(mm->pager[0]->io),
	       mm->batch_drop ? "batched drops" : "single drops");
	return 0;
}

/* Wait for those that run. */
static void pagers_free(struct mm *mm)
{
	for (unsigned i = 0; i < mm->opt.pagers; i++) {
		struct pager *p = mm->pager[i];
		uint32_t tid;

		if (p == NULL)
			continue;
		while ((tid = __atomic_load_n(&p->tid, __ATOMIC_ACQUIRE)) != 0)
			sys_bare(SYS_futex, (long)&p->tid, 0 /* FUTEX_WAIT */, tid, 0, 0, 0);
		sys_mem_free(p->stack, p->stack_size);
		sys_mem_free(p, sizeof(*p));
		mm->pager[i] = NULL;
	}
}

static int start_pagers(struct mm *mm)
{
	int r;

	/* what is locked as it is mapped comes in at once, and a doorbell that is there does not ring */
	if (mm->lock_future) {
		long err = sys_bare(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT, 0, 0, 0, 0, 0);

		if (sys_err(err))
			return (int)err;
	}
	mm->closing = false;
	for (unsigned i = 0; i < mm->opt.pagers; i++) {
		struct pager *p = sys_mem_alloc(sizeof(*p));

		if (p == NULL) {
			pagers_free(mm);
			return -ENOMEM;
		}
		p->mm = mm;
		p->index = i;
		near_init(&p->near);
		p->readable = true;
		mm->pager[i] = p;
	}
	/*
	 * The caller holds the lock and waits; the first pager opens everything
	 * meanwhile as if it held it, and takes it for itself only afterwards.
	 */
	r = spawn(mm->pager[0], mm->flags & MM_SERVER);
	if (r != 0) {
		pagers_free(mm);
		hop_fini(mm);
		return r;
	}
	mm->pagers_up = 1;
	mm->failed_said = false;
	return 0;
}

int pager_start(struct mm *mm, char *why, size_t why_size)
{
	int r;

	lock_assert_held(&mm->lock);
	why[0] = '\0';
	mm->start_why = why;
	mm->start_why_size = why_size;
	r = start_pagers(mm);
	mm->start_why = NULL;
	if (r != 0 && why[0] == '\0')
		log_format(why, why_size, "cannot start a pager: %s", log_strerror(r));
	return r;
}

bool pager_is(const struct mm *mm, uint32_t tid)
{
	for (unsigned i = 0; i < PAGERS_MAX; i++)
		if (mm->pager[i] != NULL &&
		    __atomic_load_n(&mm->pager[i]->tid, __ATOMIC_ACQUIRE) == tid)
			return true;
	return false;
}

void pager_forget(struct pager *p)
{
	if (p->io != NULL)
		blkio_forget(p->io);
	sys_mem_free(p->stack, p->stack_size);
	sys_mem_free(p, sizeof(*p));
}

void pager_join(struct mm *mm)
{
	pagers_free(mm);
	mm->pagers_up = 0;
}
