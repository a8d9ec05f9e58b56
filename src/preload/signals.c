/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signals.c - putting signals off; see signals.h.
 *
 * A hook's end looks at `waits` after it gave up `held` (entry.S): a signal
 * that arrives before is copied and found; one that arrives after, or between,
 * goes straight to the program's handler, as nothing is held any more.
 *
 * Of the signals that wait, the lowest interrupted the hook, and each other one
 * the one below it: its thunk, signal_arrived(), or the restorer that goes back
 * to its frame.  The first that is done with going back has all blocked, so
 * nothing comes on top any more, and the others are done from the top down.  But
 * each may be interrupted before it has said that it is there, and afterwards.
 * So they wait in no order; it is found when all of them are done, by stacks:
 * what a signal is on top of has its frame right above the stack that it
 * interrupted.
 *
 * Records are given out by an atomic counter and never taken back.  Two
 * threads that want the same one at the same time get one each: harmless.
 */
#include "signals.h"

#include "hook.h"
#include "sys.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#define FLAG_SIGINFO 4UL
#define FLAG_ONSTACK 0x08000000UL
#define FLAG_NODEFER 0x40000000UL

#define STACK_DISABLE 2U
#define STACK_AUTODISARM (1U << 31)

#define FP_WORDS_AT 464 /* in fxsave's area: what the processor leaves to software */
#define FP_LEGACY_SIZE 512U
#define FP_MAGIC1 0x46505853U
#define FP_MAGIC2 0x46505845U

#define FP_CONTROL 0x37fU /* where a handler begins; at 0 of fxsave's area */
#define FP_MXCSR 0x1f80U
#define FP_MXCSR_AT 24
#define FP_MXCSR_MASK_AT 28

#define RED_ZONE 128

/* The most of the stack below its frame that a signal takes on its way to `waiting`. */
#define ARRIVAL_STACK 2048UL

#define PLAIN_FLAGS 0x202UL /* rflags of a program between two instructions */

#define BIT(sig) ((uint64_t)1 << ((sig)-1))
#define RAISED_BY_CODE                                                                             \
	(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) | BIT(SIGSYS))

/* As rt_sigaction(2) takes it. */
struct kernel_action {
	uintptr_t handler;
	uint64_t flags;
	uintptr_t restorer;
	uint64_t mask;
};

/* What entry.S left on the stack for signal_deliver(). */
struct program {
	long served;
	uint64_t r15, r14, r13, r12, rbx;
	struct hook_call call;
	uint64_t rbp;
	const unsigned char *ret; /* into the trampoline */
};

__thread struct signal_state signal_state;
struct signal_record signal_records[SIGNAL_RECORDS];
bool signal_waiting = true;

static uint32_t nrecords; /* atomic; may pass SIGNAL_RECORDS */
static bool lost_said;	  /* atomic */

extern const unsigned char signal_thunks[] __attribute__((visibility("hidden")));

void signal_arrived(int sig, void *info, struct signal_context *context, unsigned index);
void signal_bus(siginfo_t *info);
void signal_deliver(const struct program *p, unsigned char *fp, struct signal_context *enter);

_Static_assert(offsetof(struct signal_state, held) == STATE_HELD, "entry-offsets.h");
_Static_assert(offsetof(struct signal_state, waits) == STATE_WAITS, "entry-offsets.h");
_Static_assert(offsetof(struct signal_state, xfeatures) == STATE_XFEATURES, "entry-offsets.h");
_Static_assert(offsetof(struct signal_state, fp_size) == STATE_FP_SIZE, "entry-offsets.h");
_Static_assert(sizeof(struct signal_record) == 1 << SIGNAL_RECORD_SHIFT, "entry-offsets.h");
_Static_assert(SIGBUS == SIGNAL_BUS && BUS_MCEERR_AR == SIGNAL_BUS_POISON, "entry-offsets.h");
_Static_assert(offsetof(siginfo_t, si_code) == SIGINFO_CODE, "entry-offsets.h");
_Static_assert(sizeof(struct signal_context) == 304, "the kernel's ucontext");
_Static_assert(sizeof(struct signal_frame) == 440, "the kernel's rt_sigframe");
_Static_assert(FRAME_BELOW >= sizeof(struct signal_frame) && FRAME_BELOW % 16 == 8,
	       "a function's stack at its entry");
_Static_assert(FURTHER_FRAME >= RED_ZONE + 63 + FRAME_BELOW, "what next_frame() takes");
_Static_assert(CONTEXT_SIZE >= sizeof(struct signal_context), "entry-offsets.h");

/* ---- actions ---- */

static uintptr_t thunk(unsigned index)
{
	return (uintptr_t)signal_thunks + (size_t)index * SIGNAL_THUNK_SIZE;
}

/* The record behind what the kernel has as a handler; NULL when it is none of ours. */
static const struct signal_record *record_of(uintptr_t handler)
{
	if (handler < thunk(0) || handler >= thunk(SIGNAL_RECORDS))
		return NULL;
	return &signal_records[(handler - thunk(0)) / SIGNAL_THUNK_SIZE];
}

/* The index of the record that says what `a` does, or -1. */
static int record(const struct kernel_action *a)
{
	uint32_t n = __atomic_load_n(&nrecords, __ATOMIC_RELAXED);

	for (uint32_t i = 0; i < n && i < SIGNAL_RECORDS; i++) {
		const struct signal_record *r = &signal_records[i];

		/* Acquire: pairs with the release below. */
		if (__atomic_load_n(&r->handler, __ATOMIC_ACQUIRE) == a->handler &&
		    r->flags == a->flags && r->mask == a->mask && r->restorer == a->restorer)
			return (int)i;
	}
	if (n >= SIGNAL_RECORDS)
		return -1;
	n = __atomic_fetch_add(&nrecords, 1, __ATOMIC_RELAXED);
	if (n >= SIGNAL_RECORDS)
		return -1;
	signal_records[n].flags = a->flags;
	signal_records[n].mask = a->mask;
	signal_records[n].restorer = a->restorer;
	/* Release: who finds the handler finds the rest. */
	__atomic_store_n(&signal_records[n].handler, a->handler, __ATOMIC_RELEASE);
	return (int)n;
}

long signal_action(const long *arg)
{
	const struct kernel_action *act = (const struct kernel_action *)arg[1];
	struct kernel_action *old = (struct kernel_action *)arg[2];
	const struct signal_record *was;
	struct kernel_action ours;
	long r;

	if (act != NULL && arg[3] == sizeof(act->mask)) {
		ours = *act;
		if (ours.handler != (uintptr_t)SIG_DFL && ours.handler != (uintptr_t)SIG_IGN) {
			int i = record(act);

			if (i < 0) {
				__atomic_store_n(&signal_waiting, false, __ATOMIC_RELEASE);
			} else {
				ours.handler = thunk((unsigned)i);
				/* without it the kernel does not say where a signal is from */
				ours.flags |= FLAG_SIGINFO;
			}
		}
		act = &ours;
	}
	r = SYS4(sigaction, arg[0], act, old, arg[3]);
	if (sys_err(r) || old == NULL)
		return r;
	was = record_of(old->handler);
	if (was != NULL) {
		old->handler = was->handler;
		old->flags &= was->flags | ~FLAG_SIGINFO;
	}
	return r;
}

/*
 * Called by signal_entry for a SIGBUS of a poisoned page.  In a mapping of a file
 * we poison what lies beyond the end, and what cannot be read: for both the kernel
 * says BUS_ADRERR.
 */
void signal_bus(siginfo_t *info)
{
	if (!hook_is_file((uintptr_t)info->si_addr))
		return;
	info->si_code = BUS_ADRERR;
	info->si_addr_lsb = 0;
}

/* ---- a signal in a hook ---- */

static bool is_on(const struct signal_waiting *w, uintptr_t frame)
{
	/* in the restorer the stack is above its address, the frame's first word */
	return frame + sizeof(uint64_t) - w->sp <= ARRIVAL_STACK;
}

/*
 * To the thread's own pending signals, to come when it has them unblocked.  What the program's filter
 * refuses, or its RLIMIT_SIGPENDING, is lost, which is said once.
 */
static void queue_again(uint32_t number, const void *info)
{
	static const char line[] = "faultline: more signals came at once than can wait, and they "
				   "cannot be queued again: some are lost\n";
	long r = sys_bare(SYS_rt_tgsigqueueinfo, SYS0(getpid), SYS0(gettid), number, (long)info, 0,
			  0);

	if (sys_err(r) && !__atomic_exchange_n(&lost_said, true, __ATOMIC_RELAXED))
		sys_bare(SYS_write, STDERR_FILENO, (long)line, sizeof(line) - 1, 0, 0, 0);
}

/*
 * What the processor raised in a hook.  What waits came on top of it, and is
 * blocked: the handler may jump away, and it comes when that unblocks it.
 */
static void raised_by_code(int sig, void *info, void *context, const struct signal_record *r)
{
	struct signal_state *s = &signal_state;
	void (*handler)(int, void *, void *);

	for (uint32_t i = 0; i < s->waits; i++) {
		struct signal_waiting *w = &s->waiting[i];
		siginfo_t again = {0};

		memcpy(&again, w->info, sizeof(w->info));
		queue_again(w->number, &again);
		w->sp = 0;
	}
	s->waits = 0;
	memcpy(&handler, &r->handler, sizeof(handler));
	s->held = 0; /* it may jump away */
	handler(sig, info, context);
	s->held = 1;
}

/* There is no room for a signal: what came on top of it takes its place. */
static void leave_out(int sig, const struct signal_frame *frame)
{
	const struct signal_context *c = &frame->context;
	struct signal_state *s = &signal_state;
	uint64_t all = ~(uint64_t)0;

	SYS4(sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	queue_again((uint32_t)sig, frame->info);
	for (unsigned i = 0; i < SIGNALS_WAITING; i++) {
		struct signal_waiting *w = &s->waiting[i];

		if (is_on(w, (uintptr_t)frame)) {
			w->sp = c->reg[REG_RSP];
			w->mask = c->mask;
			w->stack = c->stack;
		}
	}
	__atomic_sub_fetch(&s->waits, 1, __ATOMIC_RELAXED);
}

/* Called by signal_entry while the thread is in a hook; then the frame is gone back to. */
void signal_arrived(int sig, void *info, struct signal_context *context, unsigned index)
{
	struct signal_state *s = &signal_state;
	const struct signal_frame *frame =
		(void *)((char *)context - offsetof(struct signal_frame, context));
	struct signal_waiting *w;
	uint32_t word, at;

	if ((BIT(sig) & RAISED_BY_CODE) != 0 && ((const siginfo_t *)info)->si_code > 0) {
		raised_by_code(sig, info, context, &signal_records[index]);
		return;
	}
	/* one instruction: a signal that comes before or behind it takes another place */
	at = __atomic_fetch_add(&s->waits, 1, __ATOMIC_RELAXED);
	if (at < SIGNALS_WAITING) {
		w = &s->waiting[at];
		w->number = (uint32_t)sig;
		w->record = index;
		w->frame = (uintptr_t)frame;
		w->mask = context->mask;
		w->stack = context->stack;
		memcpy(w->info, info, sizeof(w->info));
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		w->sp = context->reg[REG_RSP];
	} else {
		leave_out(sig, frame);
	}
	/* the same in all of a thread's frames: one that comes between writes it again */
	memcpy(&s->context, context, sizeof(*context));
	memcpy(s->fp_words, (const char *)context->fp + FP_WORDS_AT, sizeof(s->fp_words));
	memcpy(&word, s->fp_words, sizeof(word));
	s->xfeatures = word == FP_MAGIC1 ? s->fp_words[1] : 0;
	s->fp_size = word == FP_MAGIC1 ? s->fp_words[0] >> 32 : FP_LEGACY_SIZE;
	context->mask = ~(uint64_t)0;
}

/* The program's registers right behind its system call, or right before it. */
static void set_registers(uint64_t *reg, const struct program *p)
{
	const struct hook_call *c = &p->call;
	uintptr_t rip;
	int32_t distance;

	if (p->served) {
		memcpy(&rip, p->ret + RETURN_TO_SERVED, sizeof(rip));
	} else {
		memcpy(&distance, p->ret + RETURN_TO_DISPLACED, sizeof(distance));
		rip = (uintptr_t)p->ret + RETURN_TO_LEFT + (uintptr_t)(intptr_t)distance;
	}
	reg[REG_RDI] = (uint64_t)c->arg[0];
	reg[REG_RSI] = (uint64_t)c->arg[1];
	reg[REG_RDX] = (uint64_t)c->arg[2];
	reg[REG_R10] = (uint64_t)c->arg[3];
	reg[REG_R8] = (uint64_t)c->arg[4];
	reg[REG_R9] = (uint64_t)c->arg[5];
	reg[REG_RCX] = (uint64_t)c->rcx;
	reg[REG_R11] = (uint64_t)c->r11;
	reg[REG_RAX] = (uint64_t)c->result;
	reg[REG_RBX] = p->rbx;
	reg[REG_RBP] = p->rbp;
	reg[REG_R12] = p->r12;
	reg[REG_R13] = p->r13;
	reg[REG_R14] = p->r14;
	reg[REG_R15] = p->r15;
	reg[REG_RSP] = (uint64_t)(uintptr_t)&p->ret + TRAMPOLINE;
	reg[REG_RIP] = rip;
	reg[REG_EFL] = PLAIN_FLAGS;
}

/* As the kernel chooses: an alternate stack is used when there is one and it is not in use. */
static bool on_alternate(const struct signal_record *r, const struct signal_stack *st, uint64_t sp)
{
	if ((r->flags & FLAG_ONSTACK) == 0 || st->size == 0 || (st->flags & STACK_DISABLE) != 0)
		return false;
	return (st->flags & STACK_AUTODISARM) != 0 || sp <= st->sp || sp - st->sp > st->size;
}

/* What the kernel puts around the vectors of a frame. */
static void finish_vectors(unsigned char *fp)
{
	const struct signal_state *s = &signal_state;
	const uint32_t magic2 = FP_MAGIC2;

	memcpy(fp + FP_WORDS_AT, s->fp_words, sizeof(s->fp_words));
	if (s->xfeatures != 0)
		memcpy(fp + s->fp_size - sizeof(magic2), &magic2, sizeof(magic2));
}

/* The vectors with which a handler begins; `like` has the processor's own word. */
static void initial_vectors(unsigned char *fp, const unsigned char *like)
{
	const uint32_t mxcsr = FP_MXCSR;
	const uint16_t control = FP_CONTROL;

	memset(fp, 0, signal_state.fp_size);
	memcpy(fp, &control, sizeof(control));
	memcpy(fp + FP_MXCSR_AT, &mxcsr, sizeof(mxcsr));
	memcpy(fp + FP_MXCSR_MASK_AT, like + FP_MXCSR_MASK_AT, sizeof(mxcsr));
	finish_vectors(fp);
}

static unsigned char *vectors_below(uint64_t sp)
{
	return (unsigned char *)((sp - signal_state.fp_size) & ~63UL);
}

/* Of those that are left, the one that is on top of none of them. */
static unsigned lowest(uint32_t left)
{
	const struct signal_waiting *w = signal_state.waiting;
	unsigned i, j;

	for (i = 0; i < SIGNALS_WAITING; i++) {
		if ((left >> i & 1) == 0)
			continue;
		for (j = 0; j < SIGNALS_WAITING; j++)
			if (j != i && (left >> j & 1) != 0 && is_on(&w[i], w[j].frame))
				break;
		if (j == SIGNALS_WAITING)
			return i;
	}
	return (unsigned)__builtin_ctz(left);
}

/*
 * The frame of a signal that interrupts `enter`, which becomes its handler's
 * entry.  The program's vectors are at `fp`, with room for a frame below; after
 * the first frame fp is NULL: the handler below has not run yet.
 */
static void next_frame(const struct signal_waiting *w, struct signal_context *enter,
		       unsigned char *fp, const unsigned char *like)
{
	const struct signal_record *r = &signal_records[w->record];
	const struct signal_stack st = enter->stack;
	uint64_t sp = enter->reg[REG_RSP];
	bool alternate = on_alternate(r, &st, sp);
	unsigned char *at = fp;
	struct signal_frame *f;

	if (alternate)
		at = vectors_below(st.sp + st.size);
	else if (fp == NULL)
		at = vectors_below(sp - RED_ZONE);
	if (fp == NULL)
		initial_vectors(at, like);
	else if (at != fp)
		memcpy(at, fp, signal_state.fp_size);
	f = (struct signal_frame *)(void *)(at - FRAME_BELOW);
	f->restorer = r->restorer;
	f->context = *enter;
	f->context.reg[REG_OLDMASK] = enter->mask;
	f->context.fp = (uintptr_t)at;
	memset(f->info, 0, sizeof(f->info));
	memcpy(f->info, w->info, sizeof(w->info));

	enter->reg[REG_RDI] = w->number;
	enter->reg[REG_RSI] = (uintptr_t)f->info;
	enter->reg[REG_RDX] = (uintptr_t)&f->context;
	enter->reg[REG_RAX] = 0;
	enter->reg[REG_RSP] = (uintptr_t)f;
	enter->reg[REG_RIP] = r->handler;
	enter->fp = 0; /* a handler begins with cleared vectors */
	enter->mask |= r->mask | (r->flags & FLAG_NODEFER ? 0 : BIT(w->number));
	if ((st.flags & STACK_AUTODISARM) != 0)
		enter->stack = (struct signal_stack){.flags = STACK_DISABLE};
}

/*
 * Called by entry.S where a hook returns with signals waiting.  `fp` holds the
 * program's vectors, with room for a frame of each below, and for a context
 * (`enter`).  The thread then makes rt_sigreturn(2) with `enter`, which starts
 * the topmost handler as the kernel would.
 */
void signal_deliver(const struct program *p, unsigned char *fp, struct signal_context *enter)
{
	struct signal_state *s = &signal_state;
	uint32_t left = ((uint32_t)1 << s->waits) - 1;
	unsigned i = lowest(left);
	unsigned char *vectors = fp;

	finish_vectors(fp);
	*enter = s->context;
	enter->mask = s->waiting[i].mask;
	enter->stack = s->waiting[i].stack;
	set_registers(enter->reg, p);
	for (;;) {
		next_frame(&s->waiting[i], enter, vectors, fp);
		s->waiting[i].sp = 0;
		left &= ~((uint32_t)1 << i);
		if (left == 0)
			break;
		i = lowest(left);
		vectors = NULL;
	}
	s->waits = 0;
}

/* 0 where there is no shadow stack: the instruction does nothing there. */
static uint64_t shadow_stack(void)
{
	uint64_t at = 0;

	__asm__ volatile("rdsspq %0" : "+r"(at));
	return at;
}

void signal_init(void)
{
	if (shadow_stack() != 0)
		signal_waiting = false;
}
