/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Patched system-call sites, with a hook of the test's own behind them: what
 * is a site and what is not, that a call is served or made where it stands,
 * and that nothing but its result changes - general registers, red zone, and
 * vector registers of every width that the processor has.
 */
#include "test.h"

#include "entry-offsets.h"
#include "entry.h"
#include "hook.h"
#include "patch.h"
#include "sys.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define PAGE 4096U

/* ---- the hook ---- */

static struct {
	unsigned calls;
	unsigned of[512];
	struct hook_call last;
	long nr;
	int serve; /* what hook_call() returns; AS_KERNEL: makes the call itself */
	long result;
	unsigned made; /* calls of hook_made() */
	long answer;   /* what the last was told */
	long add;      /* to that */
	bool spoil;    /* vector registers */
	void *frames[32];
	int nframes;
	const char *last_words; /* written when the process ends */
} hook;

#define AS_KERNEL 4

static unsigned width; /* bytes of a vector register: 16, 32 or 64 */

__asm__(".text\n"
	".type spoil_vectors, @function\n"
	"spoil_vectors:\n" /* edi: the width */
	"	pcmpeqd %xmm0, %xmm0\n"
	".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	movdqa %xmm0, %xmm\\n\n"
	".endr\n"
	"	cmp $32, %edi\n"
	"	jb 1f\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	"	vcmptrueps %ymm\\n, %ymm\\n, %ymm\\n\n"
	".endr\n"
	"	cmp $64, %edi\n"
	"	jb 1f\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,"
	" 23, 24, 25, 26, 27, 28, 29, 30, 31\n"
	"	vpternlogd $255, %zmm\\n, %zmm\\n, %zmm\\n\n"
	".endr\n"
	".irp n, 1, 2, 3, 4, 5, 6, 7\n"
	"	kxnorw %k0, %k0, %k\\n\n"
	".endr\n"
	"1:	ret\n"
	".size spoil_vectors, . - spoil_vectors\n");
void spoil_vectors(unsigned bytes);

bool hook_is_file(uintptr_t addr)
{
	(void)addr;
	return false;
}

int hook_call(struct hook_call *c, long nr)
{
	hook.calls++;
	hook.of[nr & 511]++;
	hook.last = *c;
	hook.nr = nr;
	hook.nframes = hook.nframes < 0 ? backtrace(hook.frames, 32) : 0;
	if (nr == SYS_exit_group && hook.last_words != NULL)
		dprintf(2, "%s", hook.last_words);
	if (hook.serve == AS_KERNEL) {
		c->result = sys_bare(nr, c->arg[0], c->arg[1], c->arg[2], c->arg[3], c->arg[4],
				     c->arg[5]);
		return 1;
	}
	if (hook.serve == 1)
		c->result = hook.result;
	if (hook.spoil)
		spoil_vectors(width);
	return hook.serve;
}

int hook_made(struct hook_call *c, long nr, long result)
{
	hook.made++;
	hook.last = *c;
	hook.nr = nr;
	hook.answer = result;
	c->result = result + hook.add;
	if (hook.spoil)
		spoil_vectors(width);
	return 1;
}

/* ---- a run of a site, all registers known ---- */

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, NGPR };

struct registers {
	uint64_t gpr[NGPR]; /* offset 0 */
	uint64_t pad;
	uint64_t k[8];	     /* offset 128 */
	uint8_t vec[32][64]; /* offset 192 */
};

#define VECTORS(from, op)                                                                          \
	"	cmpl $64, run_width(%rip)\n"                                                             \
	"	je 64f\n"                                                                                \
	"	cmpl $32, run_width(%rip)\n"                                                             \
	"	je 32f\n"                                                                                \
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"                           \
	"	" op##_XMM "\n"                                                                    \
			   ".endr\n"                                                               \
			   "	jmp 16f\n"                                                            \
			   "32:\n"                                                                 \
			   ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"        \
			   "	" op##_YMM "\n"                                                    \
					   ".endr\n"                                               \
					   "	jmp 16f\n"                                            \
					   "64:\n"                                                 \
					   ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, "    \
					   "13, 14, 15, 16, 17, 18, 19, 20, 21, 22,"               \
					   " 23, 24, 25, 26, 27, 28, 29, 30, 31\n"                 \
					   "	" op##_ZMM "\n"                                    \
							   ".endr\n"                               \
							   ".irp n, 1, 2, 3, 4, 5, 6, 7\n"         \
							   "	" op##_K "\n"                      \
									 ".endr\n"                 \
									 "16:\n"
#define LOAD_XMM "movdqu 192+64*\\n(%rax), %xmm\\n"
#define LOAD_YMM "vmovdqu 192+64*\\n(%rax), %ymm\\n"
#define LOAD_ZMM "vmovdqu64 192+64*\\n(%rax), %zmm\\n"
#define LOAD_K "kmovw 128+8*\\n(%rax), %k\\n"
#define STORE_XMM "movdqu %xmm\\n, 192+64*\\n(%rax)"
#define STORE_YMM "vmovdqu %ymm\\n, 192+64*\\n(%rax)"
#define STORE_ZMM "vmovdqu64 %zmm\\n, 192+64*\\n(%rax)"
#define STORE_K "kmovw %k\\n, 128+8*\\n(%rax)"

void (*run_code)(void);
struct registers *run_in, *run_out;
unsigned run_width;
void run(void);

__asm__(".text\n"
	".type run, @function\n"
	"run:\n"
	"	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	"
	"push %r15\n"
	"	push %rax\n"
	"	mov run_in(%rip), %rax\n" VECTORS(
		in,
		LOAD) "	mov 8(%rax), %rbx\n	mov 16(%rax), %rcx\n	mov 24(%rax), %rdx\n"
		      "	mov 32(%rax), %rsi\n	mov 40(%rax), %rdi\n	mov 48(%rax), %rbp\n"
		      "	mov 56(%rax), %r8\n	mov 64(%rax), %r9\n	mov 72(%rax), %r10\n"
		      "	mov 80(%rax), %r11\n	mov 88(%rax), %r12\n	mov 96(%rax), %r13\n"
		      "	mov 104(%rax), %r14\n	mov 112(%rax), %r15\n	mov (%rax), %rax\n"
		      "	call *run_code(%rip)\n"
		      "	mov %rax, (%rsp)\n"
		      "	mov run_out(%rip), %rax\n"
		      "	mov %rbx, 8(%rax)\n	mov %rcx, 16(%rax)\n	mov %rdx, 24(%rax)\n"
		      "	mov %rsi, 32(%rax)\n	mov %rdi, 40(%rax)\n	mov %rbp, 48(%rax)\n"
		      "	mov %r8, 56(%rax)\n	mov %r9, 64(%rax)\n	mov %r10, 72(%rax)\n"
		      "	mov %r11, 80(%rax)\n	mov %r12, 88(%rax)\n	mov %r13, 96(%rax)\n"
		      "	mov %r14, 104(%rax)\n	mov %r15, 112(%rax)\n"
		      "	pop (%rax)\n" VECTORS(
			      out, STORE) "	pop %r15\n	pop %r14\n	pop %r13\n	"
					  "pop %r12\n	pop %rbp\n	pop %rbx\n"
					  "	ret\n"
					  ".size run, . - run\n");

/*
 * The code under test: fills its red zone from rbx, makes the call, and reads
 * the red zone's ends back into r14 and r15.
 */
static const unsigned char before[] = {
	0x48, 0x89, 0x5c, 0x24, 0xf8, /* mov %rbx,-8(%rsp) */
	0x48, 0x89, 0x5c, 0x24, 0x80, /* mov %rbx,-128(%rsp) */
};
static const unsigned char after[] = {
	0x4c, 0x8b, 0x74, 0x24, 0xf8, /* mov -8(%rsp),%r14 */
	0x4c, 0x8b, 0x7c, 0x24, 0x80, /* mov -128(%rsp),%r15 */
	0xc3,
};

static unsigned char *code_page(void *hint, int flags)
{
	unsigned char *p = mmap(hint, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 0x90, 2 * PAGE);
	return p;
}

/* "mov $nr,%eax; syscall", or for nr -1 "mov 8(%rsp),%r9; syscall", with its setting. */
static unsigned char *put_site(unsigned char *p, int nr)
{
	static const unsigned char any[] = {0x4c, 0x8b, 0x4c, 0x24, 0x08, 0x0f, 0x05};
	static const unsigned char call[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x05};
	unsigned char *site = p + sizeof(before);

	memcpy(p, before, sizeof(before));
	memcpy(site, nr == -1 ? any : call, sizeof(any));
	if (nr != -1)
		memcpy(site + 1, &nr, sizeof(nr));
	memcpy(site + sizeof(any), after, sizeof(after));
	return site;
}

static void run_at(unsigned char *p, struct registers *in, struct registers *out)
{
	memset(in, 0, sizeof(*in));
	for (size_t i = 0; i < sizeof(*in); i++)
		((unsigned char *)in)[i] = (unsigned char)(i * 7 + 1 + i / 251);
	*out = *in;
	run_in = in;
	run_out = out;
	run_width = width;
	memcpy(&run_code, &p, sizeof(p));
	run();
}

static void check_unchanged(const struct registers *in, const struct registers *out, bool kernel)
{
	for (int i = 0; i < NGPR; i++) {
		if (i == RAX || i == R14 || i == R15 || (kernel && (i == RCX || i == R11)))
			continue;
		if (in->gpr[i] != out->gpr[i])
			fail_msg("general register %d: %lx became %lx", i, in->gpr[i], out->gpr[i]);
	}
	assert_int_equal(out->gpr[R14], in->gpr[RBX]);
	assert_int_equal(out->gpr[R15], in->gpr[RBX]);
	for (unsigned i = 0; i < (width == 64 ? 32U : 16U); i++)
		if (memcmp(in->vec[i], out->vec[i], width) != 0)
			fail_msg("vector register %u changed", i);
	for (int i = 1; i < 8 && width == 64; i++)
		assert_int_equal((uint16_t)in->k[i], (uint16_t)out->k[i]);
}

static bool is_patched(const unsigned char *site)
{
	return site[0] == 0xe9 && site[5] == 0x0f && site[6] == 0x05;
}

static const unsigned char *trampoline(const unsigned char *site)
{
	int32_t rel;

	assert_int_equal(site[0], 0xe9);
	memcpy(&rel, site + 1, sizeof(rel));
	return site + 5 + rel;
}

static int fresh(void **state)
{
	(void)state;
	memset(&hook, 0, sizeof(hook));
	memset(entry_wanted, 0, sizeof(entry_wanted));
	entry_init();
	return 0;
}

/* ---- cases ---- */

static void served(void **state)
{
	unsigned char *p = code_page(NULL, 0);
	struct registers in, out;

	(void)state;
	entry_want(SYS_getppid);
	assert_true(entry_wants(SYS_getppid));
	put_site(p, SYS_getppid);
	patch_mapping(p, PAGE);
	hook.serve = 1;
	hook.result = 0x123456789abcdef;
	hook.spoil = true;
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(hook.nr, SYS_getppid);
	assert_int_equal(hook.last.arg[0], in.gpr[RDI]);
	assert_int_equal(hook.last.arg[1], in.gpr[RSI]);
	assert_int_equal(hook.last.arg[2], in.gpr[RDX]);
	assert_int_equal(hook.last.arg[3], in.gpr[R10]);
	assert_int_equal(hook.last.arg[4], in.gpr[R8]);
	assert_int_equal(hook.last.arg[5], in.gpr[R9]);
	assert_int_equal(out.gpr[RAX], 0x123456789abcdef);
	check_unchanged(&in, &out, false);
	munmap(p, 2 * PAGE);
}

/* Made in the hook's midst, with the program's arguments. */
static void made(void **state)
{
	unsigned char *p = code_page(NULL, 0);
	struct registers in, out;

	(void)state;
	entry_want(SYS_getppid);
	put_site(p, SYS_getppid);
	patch_mapping(p, PAGE);
	hook.serve = HOOK_HELD;
	hook.add = 1;
	hook.spoil = true;
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(hook.made, 1);
	assert_int_equal(hook.nr, SYS_getppid);
	assert_int_equal(hook.answer, getppid());
	assert_int_equal(hook.last.arg[0], in.gpr[RDI]);
	assert_int_equal(hook.last.arg[5], in.gpr[R9]);
	assert_int_equal(out.gpr[RAX], getppid() + 1);
	check_unchanged(&in, &out, false);
	munmap(p, 2 * PAGE);
}

static void in_place(void **state)
{
	unsigned char *p = code_page(NULL, 0);
	struct registers in, out;

	(void)state;
	entry_want(SYS_getppid);
	put_site(p, SYS_getppid);
	patch_mapping(p, PAGE);
	hook.spoil = true;
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(out.gpr[RAX], getppid());
	check_unchanged(&in, &out, true);
	munmap(p, 2 * PAGE);
}

/* Without AVX and xsave only the SSE registers need to be kept. */
static void old_processor(void **state)
{
	unsigned char *p = code_page(NULL, 0);
	struct registers in, out;
	unsigned whole = width;

	(void)state;
	entry_xsave_mask = 0;
	entry_area_size = 512;
	entry_want(SYS_getppid);
	put_site(p, SYS_getppid);
	patch_mapping(p, PAGE);
	hook.serve = 1;
	hook.spoil = true;
	width = 16;
	run_at(p, &in, &out);
	check_unchanged(&in, &out, false);
	width = whole;
	munmap(p, 2 * PAGE);
}

/* The number is looked at when the call is made. */
static void any_number(void **state)
{
	unsigned char *p = code_page(NULL, 0), *site;
	struct registers in, out;

	(void)state;
	entry_want(SYS_getppid);
	site = put_site(p + 16, -1);
	patch_mapping(p, PAGE);
	assert_true(is_patched(site));
	p[0] = 0xb8; /* mov $nr,%eax */
	hook.spoil = true;

	p[1] = SYS_getppid;
	memset(p + 2, 0, 3);
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(hook.nr, SYS_getppid);
	assert_int_equal(out.gpr[RAX], getppid());

	p[1] = SYS_getpid; /* not wanted */
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(out.gpr[RAX], getpid());
	for (unsigned i = 0; i < (width == 64 ? 32U : 16U); i++)
		assert_memory_equal(in.vec[i], out.vec[i], width);

	memset(p + 1, 0xff, 4); /* no number at all */
	run_at(p, &in, &out);
	assert_int_equal(hook.calls, 1);
	assert_int_equal(out.gpr[RAX], -ENOSYS);
	munmap(p, 2 * PAGE);
}

static void what_is_a_site(void **state)
{
	unsigned char *p = code_page(NULL, 0), *q;
	unsigned char *first, *straddles, *last, *unwanted, *apart, *cut;

	(void)state;
	entry_want(SYS_getppid);
	p[0] = 0x0f; /* a system call at the very beginning has no room for a number */
	p[1] = 0x05;
	first = put_site(p + 2, SYS_getppid);
	unwanted = put_site(p + 128, SYS_getpid);
	apart = put_site(p + 256, SYS_getppid);
	memmove(apart + 6, apart + 5, 2);
	apart[5] = 0x90;
	straddles = put_site(p + PAGE - sizeof(before) - 3, SYS_getppid);
	last = put_site(p + 2 * PAGE - 64, SYS_getppid);
	memset(last + 7, 0x90, 57 - sizeof(before));
	memmove(p + 2 * PAGE - 7, last, 7);
	memset(last, 0x90, 7);
	last = p + 2 * PAGE - 7;
	patch_mapping(p, 2 * PAGE);
	assert_true(is_patched(first));
	assert_true(is_patched(straddles));
	assert_true(is_patched(last));
	assert_int_equal(unwanted[0], 0xb8);
	assert_int_equal(apart[0], 0xb8);

	/* What ends in the middle of a site is not read beyond. */
	q = code_page(NULL, 0);
	mprotect(q + PAGE, PAGE, PROT_NONE);
	cut = q + PAGE - 6;
	memcpy(cut, (unsigned char[]){0xb8, SYS_getppid, 0, 0, 0, 0x0f}, 6);
	patch_mapping(q, PAGE);
	assert_int_equal(cut[0], 0xb8);
	patch_mapping(q, 0);
	munmap(p, 2 * PAGE);
	munmap(q, 2 * PAGE);
}

/* Every offset of a site against the sixteen bytes that are searched at once. */
static void every_alignment(void **state)
{
	unsigned char *p = code_page(NULL, 0);

	(void)state;
	entry_want(SYS_getppid);
	for (unsigned len = 7; len < 60; len++)
		for (unsigned at = 0; at + 7 <= len; at++) {
			memset(p, 0x0f, 64);
			memcpy(p + at, (unsigned char[]){0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05},
			       7);
			patch_mapping(p, len);
			if (!is_patched(p + at))
				fail_msg("site at %u of %u bytes was not found", at, len);
		}
	munmap(p, 2 * PAGE);
}

static long refuse(long a, long b, long c, long d, long e, long f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return -EIO;
}

/* The kernel may refuse writing to text through /proc/self/mem, or /proc may be missing. */
static void without_proc(void **state)
{
	static const enum sys_row rows[] = {SYSROW_pwrite, SYSROW_openat};
	struct registers in, out;

	(void)state;
	entry_want(SYS_getppid);
	hook.serve = 1;
	hook.result = 42;
	for (int i = 0; i < 2; i++) {
		unsigned char *p = code_page(NULL, 0);
		sys_fn whole = sys_table[rows[i]].fn;

		put_site(p, SYS_getppid);
		mprotect(p, 2 * PAGE, PROT_READ | PROT_EXEC);
		sys_table[rows[i]].fn = refuse;
		patch_mapping(p, PAGE);
		sys_table[rows[i]].fn = whole;
		run_at(p, &in, &out);
		assert_int_equal(out.gpr[RAX], 42);
		check_unchanged(&in, &out, false);
		munmap(p, 2 * PAGE);
	}
	assert_int_equal(hook.calls, 2);
}

/* No jump reaches further than 2 GiB: such code gets an island of its own. */
static void far_away(void **state)
{
	struct registers in, out;
	unsigned char *site[3];

	(void)state;
	entry_want(SYS_getppid);
	hook.serve = 1;
	hook.result = 42;
	for (unsigned i = 0; i < 3; i++) {
		unsigned char *p =
			code_page((void *)((i + 1) * 0x100000000000), MAP_FIXED_NOREPLACE);
		const unsigned char *t;

		site[i] = put_site(p, SYS_getppid);
		patch_mapping(p, PAGE);
		t = trampoline(site[i]);
		assert_true((t > p ? t - p : p - t) < (1L << 31));
		run_at(p, &in, &out);
		assert_int_equal(out.gpr[RAX], 42);
		check_unchanged(&in, &out, false);
	}
	assert_int_equal(hook.calls, 3);
	for (unsigned i = 0; i < 3; i++)
		munmap((void *)((i + 1) * 0x100000000000), 2 * PAGE);
}

/* Sites without end: the patcher stops at its bound and spoils nothing. */
static void too_many(void **state)
{
	size_t sites = 20000, each = 7, size = (sites * each + PAGE - 1) / PAGE * PAGE, done = 0;
	unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(p, MAP_FAILED);
	entry_want(SYS_getppid);
	for (size_t i = 0; i < sites; i++)
		memcpy(p + i * each, (unsigned char[]){0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05}, 7);
	patch_mapping(p, size);
	for (size_t i = 0; i < sites; i++) {
		if (is_patched(p + i * each))
			done++;
		else
			assert_int_equal(p[i * each], 0xb8);
	}
	assert_true(done > 1000 && done < sites);
	munmap(p, size);
}

/* ---- this program's own C library, in a child ---- */

static int status_of_check;
#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			dprintf(2, "line %d: %s\n", __LINE__, #cond);                              \
			status_of_check = 1;                                                       \
		}                                                                                  \
	} while (0)

static void want_all(void)
{
	static const short calls[] = {
		SYS_mmap,	SYS_munmap, SYS_mremap,		 SYS_mprotect, SYS_pkey_mprotect,
		SYS_madvise,	SYS_brk,    SYS_process_madvise, SYS_shmat,    SYS_remap_file_pages,
		SYS_shmdt,	SYS_mlock,  SYS_mlock2,		 SYS_munlock,  SYS_mlockall,
		SYS_munlockall, SYS_fork,   SYS_clone,		 SYS_clone3,   SYS_rt_sigaction,
		SYS_prctl,
	};

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		entry_want((unsigned)calls[i]);
}

static int serve_here = AS_KERNEL;

static void patch_here(bool watch)
{
	char why[256];

	want_all();
	CHECK(patch_program(watch, why, sizeof(why)) == 0);
	hook.serve = serve_here;
	memset(hook.of, 0, sizeof(hook.of));
}

#define SEEN(nr, call)                                                                             \
	do {                                                                                       \
		unsigned seen_ = hook.of[nr];                                                      \
		call;                                                                              \
		if (hook.of[nr] != seen_ + 1) {                                                    \
			dprintf(2, "line %d: %s: seen %u times\n", __LINE__, #call,                \
				hook.of[nr] - seen_);                                              \
			status_of_check = 1;                                                       \
		}                                                                                  \
	} while (0)

static void every_wrapper(void *arg)
{
	void *(*volatile allocate)(size_t) = malloc;
	char *p = NULL, *q = NULL;
	int shm;

	(void)arg;
	patch_here(false);
	SEEN(SYS_mmap,
	     p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHECK(p != MAP_FAILED);
	CHECK(hook.last.arg[1] == 16 * PAGE && (int)hook.last.arg[4] == -1);
	p[0] = 1;
	SEEN(SYS_mprotect, CHECK(mprotect(p, PAGE, PROT_READ) == 0));
	SEEN(SYS_pkey_mprotect, CHECK(pkey_mprotect(p, PAGE, PROT_READ, 15) == -1));
	SEEN(SYS_mprotect, CHECK(pkey_mprotect(p, PAGE, PROT_READ | PROT_WRITE, -1) == 0));
	SEEN(SYS_madvise, CHECK(madvise(p, PAGE, MADV_DONTNEED) == 0));
	SEEN(SYS_madvise, CHECK(posix_madvise(p, PAGE, POSIX_MADV_WILLNEED) == 0));
	SEEN(SYS_process_madvise,
	     CHECK(process_madvise(-1, &(struct iovec){p, PAGE}, 1, MADV_COLD, 0) == -1 &&
		   errno == EBADF));
	SEEN(SYS_mlock, CHECK(mlock(p, PAGE) == 0));
	SEEN(SYS_mlock, CHECK(mlock2(p, PAGE, 0) == 0));
	SEEN(SYS_mlock2, CHECK(mlock2(p, PAGE, MLOCK_ONFAULT) == 0));
	SEEN(SYS_munlock, CHECK(munlock(p, PAGE) == 0));
	SEEN(SYS_mlockall, mlockall(99));
	SEEN(SYS_munlockall, CHECK(munlockall() == 0));
	SEEN(SYS_remap_file_pages, CHECK(remap_file_pages(p, PAGE, 0, 0, 0) == -1));
	SEEN(SYS_mremap,
	     CHECK((q = mremap(p, 16 * PAGE, 64 * PAGE, MREMAP_MAYMOVE)) != MAP_FAILED));
	SEEN(SYS_munmap, CHECK(munmap(q, 64 * PAGE) == 0));
	SEEN(SYS_brk, CHECK(sbrk(PAGE) != (void *)-1));
	SEEN(SYS_munmap, CHECK(syscall(SYS_munmap, 1, PAGE) == -1 && errno == EINVAL));
	CHECK(syscall(SYS_getpid) == getpid());

	shm = shmget(IPC_PRIVATE, PAGE, 0600);
	CHECK(shm >= 0);
	SEEN(SYS_shmat, CHECK((p = shmat(shm, NULL, 0)) != (void *)-1));
	SEEN(SYS_shmdt, CHECK(shmdt(p) == 0));
	SEEN(SYS_rt_sigaction, CHECK(sigaction(SIGUSR1, NULL, NULL) == 0));
	SEEN(SYS_prctl, CHECK(prctl(PR_GET_DUMPABLE) >= 0));
	SEEN(SYS_rt_sigaction, CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL));
	shmctl(shm, IPC_RMID, NULL);

	SEEN(SYS_clone, ({
		     pid_t pid = fork();
		     int status = -1;

		     if (pid == 0)
			     _exit(7);
		     CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
	     }));

	/* malloc's own, large and small; volatile, or the compiler makes do without */
	hook.of[SYS_mmap] = hook.of[SYS_brk] = 0;
	CHECK((p = allocate(1 << 20)) != NULL);
	p[0] = 1;
	CHECK(hook.of[SYS_mmap] == 1);
	for (int i = 0; i < 100; i++)
		CHECK(allocate(10000) != NULL);
	CHECK(hook.of[SYS_brk] > 0);
	_exit(status_of_check);
}

/* What concerns affinities is seen from then on, whatever version of it is called. */
static void affinity_later(void *arg)
{
	cpu_set_t set;
	pid_t pid;
	int status;

	(void)arg;
	patch_here(false);
	hook.serve = 0;
	CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
	CHECK(hook.of[SYS_sched_getaffinity] == 0);
	CHECK(patch_sees_threads());
	CHECK(patch_affinity());
	SEEN(SYS_sched_getaffinity, CHECK(sched_getaffinity(0, sizeof(set), &set) == 0));
	SEEN(SYS_sched_setaffinity, CHECK(sched_setaffinity(0, sizeof(set), &set) == 0));
	SEEN(SYS_sched_getaffinity,
	     CHECK(pthread_getaffinity_np(pthread_self(), sizeof(set), &set) == 0));
	SEEN(SYS_sched_setaffinity,
	     CHECK(pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0));
	SEEN(SYS_execve, CHECK(execl("/nowhere/at/all", "all", (char *)NULL) == -1));
	SEEN(SYS_mmap,
	     CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED));
	SEEN(SYS_vfork, pid = vfork(); if (pid == 0) _exit(0));
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	_exit(status_of_check);
}

/* The end of the process and of descriptors is seen and left to the kernel. */
static void watched(void *arg)
{
	int fd = dup(0);

	(void)arg;
	patch_here(true);
	hook.serve = 0;
	SEEN(SYS_close, CHECK(close(fd) == 0));
	CHECK(hook.last.arg[0] == fd);
	CHECK(close(fd) == -1 && errno == EBADF);
	SEEN(SYS_close, fclose(fdopen(dup(0), "r")));
	fd = dup(0);
	SEEN(SYS_close_range, CHECK(close_range((unsigned)fd, (unsigned)fd, 0) == 0));
	SEEN(SYS_close_range, closefrom(fd));
	hook.last_words = status_of_check == 0 ? "seen\n" : NULL;
	_exit(23);
}

static void (*way_of(const char *name))(void)
{
	unsigned char *p = dlsym(RTLD_DEFAULT, name);
	void (*entry)(void);

	for (int i = 0; !is_patched(p) && i < 96; i++)
		p++;
	memcpy(&entry, trampoline(p) + 56, sizeof(entry));
	return entry;
}

/* The C library's short wrappers take the short way; syscall(2) does not. */
static void ways(void *arg)
{
	static const char *const plain[] = {"mmap", "munmap", "mprotect", "madvise",
					    "brk",  "mremap", "_Fork"};

	(void)arg;
	patch_here(false);
	for (unsigned i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		CHECK(way_of(plain[i]) == entry_plain);
	CHECK(way_of("syscall") == entry_any);
	_exit(status_of_check);
}

/* Through the trampoline, which has no frame description, to the caller of the C library. */
static __attribute__((noinline)) bool caller_of_munmap(void)
{
	hook.nframes = -1;
	return munmap((void *)1, PAGE) == -1;
}

static void unwinds(void *arg)
{
	const char *fn = (const char *)caller_of_munmap;
	void *frames[4];
	bool seen = false;

	(void)arg;
	backtrace(frames, 4); /* loads the unwinder */
	patch_here(false);
	CHECK(caller_of_munmap());
	for (int i = 0; i < hook.nframes; i++)
		seen |= (const char *)hook.frames[i] > fn &&
			(const char *)hook.frames[i] < fn + 200;
	CHECK(hook.nframes > 4);
	CHECK(seen);
	_exit(status_of_check);
}

static void expect(void (*fn)(void *), int status, const char *words)
{
	char text[2048];
	int r = in_child(fn, NULL, text, sizeof(text));

	if (!WIFEXITED(r) || WEXITSTATUS(r) != status || strcmp(text, words) != 0)
		fail_msg("wait status %x: %s", r, text);
}

static void affinity(void **state)
{
	(void)state;
	expect(affinity_later, 0, "");
}

static void c_library(void **state)
{
	(void)state;
	expect(every_wrapper, 0, "");
	serve_here = HOOK_HELD;
	expect(every_wrapper, 0, "");
	serve_here = AS_KERNEL;
}

static void watches(void **state)
{
	(void)state;
	expect(watched, 23, "seen\n");
}

static void backtraces(void **state)
{
	(void)state;
	expect(unwinds, 0, "");
}

static void short_ways(void **state)
{
	(void)state;
	expect(ways, 0, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(served, fresh),
		cmocka_unit_test_setup(made, fresh),
		cmocka_unit_test_setup(in_place, fresh),
		cmocka_unit_test_setup(old_processor, fresh),
		cmocka_unit_test_setup(any_number, fresh),
		cmocka_unit_test_setup(what_is_a_site, fresh),
		cmocka_unit_test_setup(every_alignment, fresh),
		cmocka_unit_test_setup(without_proc, fresh),
		cmocka_unit_test_setup(far_away, fresh),
		cmocka_unit_test_setup(c_library, fresh),
		cmocka_unit_test_setup(affinity, fresh),
		cmocka_unit_test_setup(watches, fresh),
		cmocka_unit_test_setup(short_ways, fresh),
		cmocka_unit_test_setup(backtraces, fresh),
		cmocka_unit_test_setup(too_many, fresh),
	};

	width = __builtin_cpu_supports("avx512f") ? 64 : __builtin_cpu_supports("avx") ? 32 : 16;
	return cmocka_run_group_tests_name("patch", tests, NULL, NULL);
}
