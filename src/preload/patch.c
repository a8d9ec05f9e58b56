/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * patch.c - find system-call sites and turn them into jumps; see patch.h.
 *
 * A site is a five-byte instruction that the compiler or the C library's
 * authors put before a system call:
 *
 *	b8 nr nr nr nr      mov $nr,%eax        the number is known here
 *	0f 05               syscall
 *
 *	4c 8b 4c 24 08      mov 8(%rsp),%r9     syscall(2): the number is in rax
 *	0f 05               syscall
 *
 * or, in _exit(2), whose loop loads the number first and makes the call later:
 *
 *	b8+r e7 00 00 00    mov $231,%r32       watched only
 *
 * The five bytes become a jump to a trampoline of the site's own; the system
 * call instruction stays where it is and is what a call that the hook leaves
 * alone goes back to.  Nobody can jump between the two instructions'
 * beginnings and ends, so no thread ever meets half a jump, provided that none
 * stands on the site while it is written: the program's libraries are patched
 * while it has one thread, a mapping before anybody runs it.  Each page of text
 * that is written to costs each process three microseconds: so some calls are
 * left for when they come to matter (patch_affinity()).
 *
 * A trampoline, TRAMPOLINE_SIZE bytes within reach of its site:
 *
 *	 0  the site's own five bytes
 *	 5  lea -128(%rsp),%rsp		step over the red zone
 *	10  push [48]			where the site resumes, for unwinders
 *	16  push $nr, or push %rax	the number
 *	21  call *[56]			entry.S
 *	27  lea 144(%rsp),%rsp
 *	35  jc 42
 *	37  jmp site + 7		behind the system call: it was served
 *	42  jmp site + 5		at the system call: the kernel's
 *	48  site + 7
 *	56  the entry
 *
 * Trampolines live on islands, mapped readable and executable.  Text is
 * written through /proc/self/mem, which leaves protections as they are; where
 * that is refused, by making it writable for a moment.  What is written to in a
 * large text becomes a mapping of its own first (set_apart()).
 *
 * Vector registers.  The C library's sites stand in short functions with
 * nothing but a system call in them.  At the entry of a function no vector
 * register is in use, so if no instruction between entry and site can load
 * one, none is at the site: there entry_plain serves.  Everywhere else
 * entry_saving does.
 *
 * Locks: patch_lock (RANK_PATCH) guards islands, the list and the writing of text
 * once the program runs; it is taken in hooks, where signals wait.
 *
 * What is searched.  In the C library, the functions that are known to make
 * the calls; all of the loader.  Reading text maps it, 0.2 us a KiB, and every
 * program would pay for it at its start: so of the program itself and its other
 * libraries only the small ones are read (SCAN_EACH, SCAN_ALL), which is where
 * thin wrappers of the kernel's interface are.  What is mapped later is read
 * whole.
 *
 * Accepted: a system call whose number is not loaded right before it is not
 * seen, nor is one in a large program or a large library that was there at the
 * start.  Seven bytes of data in a text segment that look like a site are taken
 * for one.  The trampolines of a library that is unloaded are not used again.
 */
#include "patch.h"

#include "entry.h"
#include "lock.h"
#include "log.h"
#include "sys.h"

#include <emmintrin.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/lib-names.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096UL

#define INSN_SIZE 5 /* what a jump needs and a site has */
#define SITE_SIZE 7 /* with the system call instruction */

#define TRAMPOLINE_SIZE 64U
#define ISLAND_SIZE (2 * PAGE)
#define ISLANDS_MAX 64U
#define ISLAND_STEP (16UL << 20) /* between the places tried for an island */
#define ISLAND_TRIES 64UL
#define REACH ((1L << 31) - (1L << 20))
#define SCAN_EACH (128UL << 10) /* bytes of text */
#define SCAN_ALL (512UL << 10)

#define APART (64L * (long)PAGE) /* sites that lie nearer are in one mapping */

#define NR_ANY (-1)

typedef unsigned char byte;

struct site {
	byte *at;
	int nr;	      /* NR_ANY: in rax */
	bool watch;   /* no system call instruction behind it */
	bool vectors; /* vector registers may be in use */
	byte *tramp;  /* once it has one */
};

struct island {
	byte *base;
	size_t used;
};

/*
 * A call that is only seen may be made by a function without a name before the
 * one that has it (get_nprocs(3)), or by another version of that.
 */
#define LOAD_BEFORE 192
#define LOAD_REACH 19 /* bytes from a load to the system call, at most */

/* The C library's functions with a site, and how far behind the entry to look for it. */
static const struct wrapper {
	const char *name;
	int nr;
	unsigned window;
	enum {
		NEEDED,
		YOUNG, /* younger than the oldest C library that we know */
		WATCH,
		THREADS, /* tells of a second thread, before it is there */
		NEAR,	 /* what tells of an affinity, or hands it on: patched later */
		FILES,	 /* concerns mappings of files: where these are managed */
	} role;
} wrappers[] = {
	{"mmap", SYS_mmap, 96, NEEDED},
	{"munmap", SYS_munmap, 96, NEEDED},
	{"mremap", SYS_mremap, 96, NEEDED},
	{"mprotect", SYS_mprotect, 96, NEEDED},
	{"pkey_mprotect", SYS_pkey_mprotect, 96, NEEDED},
	{"madvise", SYS_madvise, 96, NEEDED},
	{"posix_madvise", SYS_madvise, 96, NEEDED},
	{"process_madvise", SYS_process_madvise, 96, YOUNG},
	{"brk", SYS_brk, 96, NEEDED},
	{"remap_file_pages", SYS_remap_file_pages, 96, NEEDED},
	{"shmat", SYS_shmat, 96, NEEDED},
	{"shmdt", SYS_shmdt, 96, NEEDED},
	{"mlock", SYS_mlock, 96, NEEDED},
	{"mlock2", SYS_mlock2, 96, NEEDED},
	{"munlock", SYS_munlock, 96, NEEDED},
	{"mlockall", SYS_mlockall, 96, NEEDED},
	{"munlockall", SYS_munlockall, 96, NEEDED},
	{"_Fork", SYS_clone, 96, NEEDED},
	{"clone", SYS_clone, 96, NEEDED},
	{"__libc_sigaction", SYS_rt_sigaction, 320, NEEDED},
	{"prctl", SYS_prctl, 128, NEEDED},
	{"syscall", NR_ANY, 96, NEEDED},
	{"msync", SYS_msync, 192, FILES},
	{"mincore", SYS_mincore, 96, FILES},
	{"truncate", SYS_truncate, 96, FILES},
	{"ftruncate", SYS_ftruncate, 96, FILES},
	{"_exit", SYS_exit_group, 96, WATCH},
	{"close", SYS_close, 96, WATCH},
	{"__close_nocancel", SYS_close, 32, WATCH},
	{"close_range", SYS_close_range, 96, WATCH},
	{"clone", SYS_clone3, 8192, THREADS}, /* which has no name of its own */
	{"sched_getaffinity", SYS_sched_getaffinity, 96, NEAR},
	{"sched_setaffinity", SYS_sched_setaffinity, 96, NEAR},
	{"get_nprocs", SYS_sched_getaffinity, 96, NEAR},
	{"pthread_getaffinity_np", SYS_sched_getaffinity, 160, NEAR},
	{"pthread_setaffinity_np", SYS_sched_setaffinity, 96, NEAR},
	{"vfork", SYS_vfork, 96, NEAR},
	{"execve", SYS_execve, 96, NEAR},
	{"fexecve", SYS_execveat, 288, NEAR},
	{"execveat", SYS_execveat, 96, NEAR},
};

static bool sees_threads = true;

/* The loader's private copies, which have no names. */
static const int loader_calls[] = {SYS_mmap, SYS_munmap, SYS_mprotect};

#define NWRAPPERS (sizeof(wrappers) / sizeof(wrappers[0]))
#define NLOADER_CALLS (sizeof(loader_calls) / sizeof(loader_calls[0]))
#define SITES_MAX 256U
#define OTHERS_MAX 64U

struct text {
	byte *start, *end;
};

struct site_list {
	struct site site[SITES_MAX];
	unsigned n;
};

static struct site_list list;
static struct lock patch_lock = LOCK_INIT(RANK_PATCH);
static struct island islands[ISLANDS_MAX];
static unsigned nislands;

/* ---- finding ---- */

static int32_t load32(const byte *p)
{
	int32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The site at p, of which SITE_SIZE bytes are readable. */
static bool match_call(byte *p, struct site *s)
{
	static const byte from_stack[INSN_SIZE] = {0x4c, 0x8b, 0x4c, 0x24, 0x08};

	if (p[5] != 0x0f || p[6] != 0x05)
		return false;
	*s = (struct site){.at = p, .nr = NR_ANY, .vectors = true};
	if (memcmp(p, from_stack, INSN_SIZE) == 0)
		return true;
	s->nr = load32(p + 1);
	return p[0] == 0xb8 && entry_wants((unsigned)s->nr);
}

/* "mov $nr,%r32", whatever comes behind. */
static bool match_load(byte *p, int nr, struct site *s)
{
	if ((p[0] & 0xf8) != 0xb8 || load32(p + 1) != nr)
		return false;
	*s = (struct site){.at = p, .nr = nr, .watch = true, .vectors = true};
	return true;
}

/* Which of 16 bytes at p are the beginning of a system call instruction: all ones. */
static __m128i syscalls_in(const byte *p)
{
	const __m128i first = _mm_set1_epi8(0x0f), second = _mm_set1_epi8(0x05);
	__m128i a = _mm_loadu_si128((const __m128i *)p);
	__m128i b = _mm_loadu_si128((const __m128i *)(p + 1));

	return _mm_and_si128(_mm_cmpeq_epi8(a, first), _mm_cmpeq_epi8(b, second));
}

/* The next system call instruction in [p, end), or NULL. */
static byte *next_syscall(byte *p, const byte *end)
{
	for (; end - p > 64; p += 64) {
		__m128i low = _mm_or_si128(syscalls_in(p), syscalls_in(p + 16));
		__m128i high = _mm_or_si128(syscalls_in(p + 32), syscalls_in(p + 48));

		if (_mm_movemask_epi8(_mm_or_si128(low, high)) != 0)
			break;
	}
	for (; end - p > 16; p += 16) {
		int hits = _mm_movemask_epi8(syscalls_in(p));

		if (hits != 0)
			return p + __builtin_ctz((unsigned)hits);
	}
	for (; p + 2 <= end; p++)
		if (p[0] == 0x0f && p[1] == 0x05)
			return p;
	return NULL;
}

static bool list_add(struct site_list *l, const struct site *s)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->site[i].at == s->at) { /* seen from a neighbour, too */
			l->site[i].vectors &= s->vectors;
			return true;
		}
	if (l->n == SITES_MAX)
		return false;
	l->site[l->n++] = *s;
	return true;
}

/* By address. */
static void sort(struct site_list *l)
{
	for (unsigned i = 1; i < l->n; i++) {
		struct site s = l->site[i];
		unsigned k = i;

		for (; k > 0 && l->site[k - 1].at > s.at; k--)
			l->site[k] = l->site[k - 1];
		l->site[k] = s;
	}
}

/*
 * Can an instruction in [p, end) load a vector register?  Looks at every
 * offset for a prefix or an opcode that does, so it errs towards yes.
 */
static bool may_load_vectors(const byte *p, const byte *end)
{
	for (; p < end; p++) {
		if (p[0] == 0xc4 || p[0] == 0xc5 || p[0] == 0x62) /* VEX, EVEX */
			return true;
		if (p[0] != 0x0f || p + 1 == end)
			continue;
		if ((p[1] & 0xf8) == 0x10 || (p[1] & 0xf8) == 0x28 || p[1] == 0x38 ||
		    p[1] == 0x3a || (p[1] >= 0x50 && p[1] <= 0x7f) || p[1] == 0xc2 ||
		    (p[1] >= 0xc4 && p[1] <= 0xc6) || p[1] >= 0xd0)
			return true;
	}
	return false;
}

/* Where the number of a call is loaded that is only seen; false where that is not found. */
static bool find_load(const struct wrapper *w, byte *entry, const struct text *libc,
		      struct site_list *l)
{
	const byte *end = libc->end - entry > w->window ? entry + w->window : libc->end;
	bool found = false;
	struct site s;

	if (entry - libc->start >= LOAD_BEFORE)
		entry -= LOAD_BEFORE;
	for (byte *call = entry; (call = next_syscall(call, end)) != NULL; call += 2)
		for (byte *p = call - INSN_SIZE; p >= entry && call - p <= LOAD_REACH; p--) {
			if (!match_load(p, w->nr, &s))
				continue;
			if (!list_add(l, &s))
				return false;
			found = true;
		}
	return found;
}

/* Every site within a wrapper's window; false when the one that it must have is not there. */
static bool find_in_wrapper(const struct wrapper *w, byte *entry, const struct text *libc,
			    struct site_list *l)
{
	const byte *end = libc->end - entry > w->window ? entry + w->window : libc->end;
	bool found = false;
	struct site s;

	for (byte *p = entry; w->nr == SYS_exit_group && p + SITE_SIZE <= end; p++)
		if (match_load(p, w->nr, &s)) {
			if (!list_add(l, &s))
				return false;
			found = true;
		}
	for (byte *call = entry; (call = next_syscall(call, end)) != NULL; call += 2) {
		byte *p = call - INSN_SIZE;

		if (p < entry || !match_call(p, &s))
			continue;
		if (w->role == WATCH && s.nr != w->nr)
			continue; /* a neighbour's */
		s.vectors = w->role == WATCH || may_load_vectors(entry, p);
		if (!list_add(l, &s))
			return false;
		found |= s.nr == w->nr;
	}
	return found;
}

/* Every site of a text; false when there are too many. */
static bool find_all(const struct text *text, struct site_list *l)
{
	byte *p = text->start;
	struct site s;

	for (; (p = next_syscall(p, text->end)) != NULL; p += 2)
		if (p - text->start >= INSN_SIZE && match_call(p - INSN_SIZE, &s) &&
		    !list_add(l, &s))
			return false;
	return true;
}

/* Not once the program's libraries are there, except to measure one of them (LD_PROFILE). */
static bool loader_never_makes(int nr)
{
	return nr == SYS_brk || nr == SYS_execve || nr == SYS_rt_sigaction;
}

static bool find_in_loader(const struct text *loader, struct site_list *l)
{
	unsigned first = l->n;

	if (!find_all(loader, l))
		return false;
	for (unsigned i = first; i < l->n; i++)
		if (loader_never_makes(l->site[i].nr))
			l->site[i--] = l->site[--l->n];
	for (unsigned i = 0; i < NLOADER_CALLS; i++) {
		unsigned k = first;

		while (k < l->n && l->site[k].nr != loader_calls[i])
			k++;
		if (k == l->n)
			return false;
	}
	return true;
}

/* A library of the program: its text, and what is needed to look up a name in it. */
struct library {
	struct text text;
	const ElfW(Sym) * symbols;
	const char *names;
	const uint32_t *hash; /* DT_GNU_HASH */
	ElfW(Addr) base;
};

static struct library libc; /* the program's, constant once it was found */

struct libraries {
	struct library loader;
	struct text other[OTHERS_MAX]; /* small ones */
	unsigned nother;
	size_t others_size;
};

static bool is_named(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash != NULL ? slash + 1 : path, name) == 0;
}

static void note_dynamic(struct library *lib, const ElfW(Dyn) * dyn)
{
	for (; dyn->d_tag != DT_NULL; dyn++) {
		uintptr_t at = dyn->d_un.d_ptr;

		if (at < lib->base) /* the loader has not relocated it */
			at += lib->base;
		if (dyn->d_tag == DT_SYMTAB)
			lib->symbols = (const void *)at;
		else if (dyn->d_tag == DT_STRTAB)
			lib->names = (const void *)at;
		else if (dyn->d_tag == DT_GNU_HASH)
			lib->hash = (const void *)at;
	}
}

/* In the loader and nowhere else: what compilers call for thread-local variables. */
extern void *__tls_get_addr(void *);

static bool holds(const struct text *t, const byte *p)
{
	return p >= t->start && p < t->end;
}

static void note_other(struct libraries *l, const struct text *t)
{
	size_t size = (size_t)(t->end - t->start);

	/* not ourselves: our calls are the kernel's */
	if (t->start == NULL || size > SCAN_EACH || size > SCAN_ALL - l->others_size ||
	    l->nother == OTHERS_MAX || holds(t, (const byte *)(uintptr_t)entry_plain))
		return;
	l->other[l->nother++] = *t;
	l->others_size += size;
}

static int note_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	const byte *in_loader = (const byte *)(uintptr_t)__tls_get_addr;
	struct library lib = {.base = info->dlpi_addr};
	struct libraries *l = arg;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		byte *at = (byte *)(lib.base + ph->p_vaddr);

		if (ph->p_type == PT_LOAD && (ph->p_flags & PF_X) != 0 && (ph->p_flags & PF_R) != 0)
			lib.text = (struct text){at, at + ph->p_memsz};
		else if (ph->p_type == PT_DYNAMIC)
			note_dynamic(&lib, (const void *)at);
	}
	if (holds(&lib.text, in_loader))
		l->loader = lib;
	else if (info->dlpi_name != NULL && is_named(info->dlpi_name, LIBC_SO))
		libc = lib;
	else if (info->dlpi_name == NULL || !is_named(info->dlpi_name, "linux-vdso.so.1"))
		note_other(l, &lib.text);
	return 0;
}

/*
 * A function of a library, whoever else defines one of that name; NULL when it
 * has none.  dlsym(3) would do, but wants a handle, and dlopen(3) allocates.
 * A name may have several versions: *index, 0 at first, tells which comes next.
 */
static byte *look_up(const struct library *lib, const char *name, uint32_t *index)
{
	const uint32_t *h = lib->hash, *buckets, *chain;
	uint32_t hash = 5381, buckets_n, first, i;

	if (lib->symbols == NULL || lib->names == NULL || h == NULL)
		return NULL;
	for (const char *p = name; *p != '\0'; p++)
		hash = hash * 33 + (unsigned char)*p;
	buckets_n = h[0];
	first = h[1];
	buckets = h + 4 + h[2] * (sizeof(ElfW(Addr)) / sizeof(*h)); /* behind the Bloom filter */
	chain = buckets + buckets_n;
	i = buckets[hash % buckets_n];
	if (i < first)
		return NULL;
	for (;; i++) {
		uint32_t entry = chain[i - first];
		const ElfW(Sym) *sym = &lib->symbols[i];

		if (i >= *index && (entry | 1) == (hash | 1) && sym->st_shndx != SHN_UNDEF &&
		    strcmp(lib->names + sym->st_name, name) == 0) {
			*index = i + 1;
			return (byte *)(lib->base + sym->st_value);
		}
		if ((entry & 1) != 0)
			return NULL;
	}
}

/* In all versions that a function has. */
static bool find_versions(const struct wrapper *w, const struct library *lib, struct site_list *l)
{
	const struct text *text = &lib->text;
	uint32_t version = 0;
	bool found = false;
	byte *entry;

	while ((entry = look_up(lib, w->name, &version)) != NULL)
		if (entry >= text->start && entry < text->end)
			found |= find_load(w, entry, text, l);
	return found;
}

/* ---- writing ---- */

struct writer {
	long mem; /* /proc/self/mem, or -errno */
};

static void writer_open(struct writer *w)
{
	w->mem = SYS4(openat, AT_FDCWD, "/proc/self/mem", O_RDWR | O_CLOEXEC, 0);
}

static void writer_close(struct writer *w)
{
	if (!sys_err(w->mem))
		SYS1(close, w->mem);
}

/*
 * /proc/self/mem breaks the page's sharing as a debugger's write does.  A
 * kernel may keep that to debuggers (proc_mem.force_override=), and /proc may
 * not be there.
 */
static bool write_text(struct writer *w, byte *to, const byte *from, size_t len)
{
	uintptr_t first = (uintptr_t)to & ~(PAGE - 1);
	size_t span = (((uintptr_t)to + len + PAGE - 1) & ~(PAGE - 1)) - first;

	if (!sys_err(w->mem) && SYS4(pwrite, w->mem, from, len, to) == (long)len)
		return true;
	if (sys_err(SYS3(mprotect, first, span, PROT_READ | PROT_WRITE | PROT_EXEC)))
		return false;
	memcpy(to, from, len);
	SYS3(mprotect, first, span, PROT_READ | PROT_EXEC);
	return true;
}

/*
 * Text that is written to stops being the file's: those pages become mappings
 * of their own first, by advice that means nothing for them.  A mapping that has
 * a page of the process's own is copied whole at each fork, entry by entry:
 * for all of the C library's text, half of what a small fork takes.  Where the
 * kernel does not know the advice, a fork takes longer.
 */
static void set_apart(byte *start, const byte *end)
{
	byte *page = start - ((uintptr_t)start & (PAGE - 1));

	SYS3(madvise, page, ((size_t)(end - page) + PAGE - 1) & ~(PAGE - 1), MADV_NOHUGEPAGE);
}

static bool in_reach(const byte *from, const byte *to)
{
	return to - from < REACH && from - to < REACH;
}

static byte *map_island(byte *hint, int flags)
{
	long r = SYS6(mmap, hint, ISLAND_SIZE, PROT_READ | PROT_EXEC,
		      MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return sys_err(r) ? NULL : (byte *)r;
}

static byte *new_island(byte *at)
{
	byte *page = at - ((uintptr_t)at & (PAGE - 1));
	byte *base = map_island(NULL, 0);

	if (base != NULL && in_reach(at, base))
		return base;
	if (base != NULL)
		SYS2(munmap, base, ISLAND_SIZE);
	for (size_t i = 1; i <= ISLAND_TRIES; i++) {
		base = map_island(page - i * ISLAND_STEP, MAP_FIXED_NOREPLACE);
		if (base == NULL)
			base = map_island(page + i * ISLAND_STEP, MAP_FIXED_NOREPLACE);
		if (base != NULL)
			return base;
	}
	return NULL;
}

/* Room for a trampoline that the site can jump to; NULL when there is none. */
static byte *new_trampoline(byte *at)
{
	byte *base;

	for (unsigned i = 0; i < nislands; i++) {
		struct island *is = &islands[i];

		if (is->used + TRAMPOLINE_SIZE <= ISLAND_SIZE && in_reach(at, is->base)) {
			is->used += TRAMPOLINE_SIZE;
			return is->base + is->used - TRAMPOLINE_SIZE;
		}
	}
	if (nislands == ISLANDS_MAX)
		return NULL;
	base = new_island(at);
	if (base == NULL)
		return NULL;
	islands[nislands].base = base;
	islands[nislands++].used = TRAMPOLINE_SIZE;
	return base;
}

static void store32(byte *p, long v)
{
	int32_t v32 = (int32_t)v;

	memcpy(p, &v32, sizeof(v32));
}

static void store64(byte *p, uintptr_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void store_jump(byte *p, const byte *from, const byte *to)
{
	p[0] = 0xe9;
	store32(p + 1, to - (from + INSN_SIZE));
}

/* The drawing at the top of this file. */
static void compose(byte code[TRAMPOLINE_SIZE], const struct site *s)
{
	static const byte skeleton[TRAMPOLINE_SIZE] = {
		0x90, 0x90, 0x90, 0x90, 0x90,			/*  0 */
		0x48, 0x8d, 0x64, 0x24, 0x80,			/*  5 */
		0xff, 0x35, 32,	  0,	0,    0,		/* 10 */
		0x50, 0x0f, 0x1f, 0x40, 0x00,			/* 16: push %rax; nop */
		0xff, 0x15, 29,	  0,	0,    0,		/* 21 */
		0x48, 0x8d, 0xa4, 0x24, 0x90, 0x00, 0x00, 0x00, /* 27 */
		0x72, 0x05,					/* 35 */
		0xe9, 0,    0,	  0,	0,			/* 37 */
		0xe9, 0,    0,	  0,	0,			/* 42 */
		0xcc,						/* 47 */
	};
	void (*entry)(void) = s->nr == NR_ANY ? entry_any : s->vectors ? entry_saving : entry_plain;
	byte *back = s->at + INSN_SIZE;
	byte *served = s->watch ? back : s->at + SITE_SIZE;

	memcpy(code, skeleton, TRAMPOLINE_SIZE);
	memcpy(code, s->at, INSN_SIZE);
	if (s->nr != NR_ANY) {
		code[16] = 0x68;
		store32(code + 17, s->nr);
	}
	store_jump(code + 37, s->tramp + 37, served);
	store_jump(code + 42, s->tramp + 42, back);
	store64(code + 48, (uintptr_t)served);
	store64(code + 56, (uintptr_t)entry);
}

/* Trampolines for all, where they follow each other with few writes. */
static bool make_trampolines(struct writer *w, struct site *s, unsigned n, byte buf[PAGE])
{
	byte *start = NULL;
	size_t len = 0;

	for (unsigned i = 0; i < n; i++) {
		s[i].tramp = new_trampoline(s[i].at);
		if (s[i].tramp == NULL)
			return false;
		if (len != 0 && (s[i].tramp != start + len || len == PAGE)) {
			if (!write_text(w, start, buf, len))
				return false;
			len = 0;
		}
		if (len == 0)
			start = s[i].tramp;
		compose(buf + len, &s[i]);
		len += TRAMPOLINE_SIZE;
	}
	return len == 0 || write_text(w, start, buf, len);
}

/* The same for the jumps of sites that lie in one page. */
static bool make_jumps(struct writer *w, const struct site *s, unsigned n, byte buf[PAGE])
{
	for (unsigned first = 0, next; first < n; first = next) {
		byte *at = s[first].at;
		size_t len = 0;

		for (next = first; next < n && s[next].at + INSN_SIZE <= at + PAGE; next++) {
			size_t end = (size_t)(s[next].at + INSN_SIZE - at);

			if (((uintptr_t)at ^ (uintptr_t)s[next].at) >= PAGE && next > first)
				break;
			memcpy(buf + len, at + len, end - len);
			store_jump(buf + end - INSN_SIZE, s[next].at, s[next].tramp);
			len = end;
		}
		if (!write_text(w, at, buf, len))
			return false;
	}
	return true;
}

/* Of the C library's text: copying that of small libraries takes less than mappings more. */
static void set_all_apart(const struct site *s, unsigned n)
{
	for (unsigned first = 0, next; first < n; first = next) {
		for (next = first + 1; next < n && holds(&libc.text, s[next].at) &&
				       s[next].at - s[next - 1].at < APART;
		     next++)
			;
		if (holds(&libc.text, s[first].at))
			set_apart(s[first].at, s[next - 1].at + INSN_SIZE);
	}
}

/*
 * Many sites, sorted by address, with few writes: each costs three microseconds,
 * and each process pays.  All trampolines are there before the first jump.
 * buf is the caller's to have: a stack that a hook finds may be small.
 */
static bool patch_sites(struct writer *w, struct site *s, unsigned n, byte buf[PAGE])
{
	if (!make_trampolines(w, s, n, buf))
		return false;
	set_all_apart(s, n);
	return make_jumps(w, s, n, buf);
}

static bool patch_site(struct writer *w, struct site *s)
{
	byte code[TRAMPOLINE_SIZE], jump[INSN_SIZE];

	s->tramp = new_trampoline(s->at);
	if (s->tramp == NULL)
		return false;
	compose(code, s);
	store_jump(jump, s->at, s->tramp);
	set_apart(s->at, s->at + INSN_SIZE);
	return write_text(w, s->tramp, code, sizeof(code)) &&
	       write_text(w, s->at, jump, sizeof(jump));
}

/* ---- the program's libraries ---- */

static int find_sites(bool watch, struct site_list *l, char *why, size_t why_size)
{
	const struct text *text = &libc.text;
	struct libraries libs;

	memset(&libs, 0, sizeof(libs));
	dl_iterate_phdr(note_library, &libs);
	if (text->start == NULL || libs.loader.text.start == NULL) {
		log_format(why, why_size, "this program's " LIBC_SO " is not to be found");
		return -ENOSYS;
	}
	for (unsigned i = 0; i < NWRAPPERS; i++) {
		const struct wrapper *w = &wrappers[i];
		uint32_t version = 0;
		byte *entry;

		if (w->role == NEAR || (w->role == WATCH && !watch) ||
		    (w->role == FILES && !entry_wants((unsigned)w->nr)))
			continue;
		if (w->role == THREADS) {
			sees_threads &= find_versions(w, &libc, l);
			continue;
		}
		entry = look_up(&libc, w->name, &version);
		if (entry == NULL && w->role == YOUNG)
			continue;
		if (entry < text->start || entry >= text->end ||
		    !find_in_wrapper(w, entry, text, l)) {
			log_format(why, why_size,
				   "this C library's %s() does not make its system call in the "
				   "known way",
				   w->name);
			return -ENOSYS;
		}
	}
	if (!find_in_loader(&libs.loader.text, l)) {
		log_format(why, why_size,
			   "this loader does not make its system calls in the known way");
		return -ENOSYS;
	}
	for (unsigned i = 0; i < libs.nother; i++)
		find_all(&libs.other[i], l);
	return 0;
}

bool patch_sees_threads(void)
{
	return sees_threads;
}

bool patch_affinity(void)
{
	byte *buf = sys_mem_alloc(PAGE);
	struct writer w;
	bool found = true;

	if (buf == NULL)
		return false;
	lock_take(&patch_lock);
	list.n = 0;
	for (unsigned i = 0; i < NWRAPPERS; i++)
		if (wrappers[i].role == NEAR)
			found &= find_versions(&wrappers[i], &libc, &list);
	sort(&list);
	writer_open(&w);
	found &= patch_sites(&w, list.site, list.n, buf);
	writer_close(&w);
	lock_drop(&patch_lock);
	sys_mem_free(buf, PAGE);
	return found;
}

int patch_program(bool watch, char *why, size_t why_size)
{
	byte buf[PAGE];
	struct writer w;
	int r;

	if (watch) {
		entry_want(SYS_exit_group);
		entry_want(SYS_close);
		entry_want(SYS_close_range);
	}
	r = find_sites(watch, &list, why, why_size);
	if (r != 0)
		return r;
	sort(&list);
	writer_open(&w);
	if (!patch_sites(&w, list.site, list.n, buf)) {
		log_format(why, why_size, "the C library's text cannot be written");
		r = -EACCES;
	}
	writer_close(&w);
	return r;
}

/* ---- what is mapped later ---- */

bool patch_mapping(byte *start, size_t len)
{
	const byte *end = start + len;
	struct writer w;
	bool open = false, all = true;
	struct site s;

	lock_take(&patch_lock);
	for (byte *p = start; all && (p = next_syscall(p, end)) != NULL; p += 2) {
		if (p - start < INSN_SIZE || !match_call(p - INSN_SIZE, &s))
			continue;
		if (!open)
			writer_open(&w);
		open = true;
		all = patch_site(&w, &s);
	}
	if (open)
		writer_close(&w);
	lock_drop(&patch_lock);
	return all;
}

void patch_fork_begin(bool alone)
{
	if (!alone)
		lock_take(&patch_lock);
}

void patch_fork_end(bool alone, bool child)
{
	if (!alone)
		lock_drop(&patch_lock);
	else if (child && __atomic_load_n(&patch_lock.word, __ATOMIC_RELAXED) != 0)
		lock_init(&patch_lock, RANK_PATCH); /* its holder is not here */
}
