/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * verify.c - what the kernel has mapped, held against what we know; see verify.h.
 *
 * /proc/self/smaps is read in pieces while other threads of the program run:
 * what they map and unmap without us (files, stacks) may show half.  So a
 * difference counts only when it is there again the next time: mm_verify()
 * asks several times.
 *
 * A mapping of the kernel's may hold several of our ranges, since it merges
 * what is alike: each is cut into pieces of one kind.
 *
 * Locks: the mm lock is held.  Only memory of our own is touched.
 *
 * Accepted: a mapping's name is looked at no further than NAME_MAX_SEEN bytes.
 */
#include "verify.h"

#include "log.h"
#include "mm.h"
#include "region.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>

#define READ_SIZE 32768U
#define LINE_SIZE 512U
#define NAME_MAX_SEEN 200U
#define RUNS 64U

struct mapping {
	uintptr_t start, end;
	int prot;
	bool shared, grows_down, huge, registered;
	uint64_t inode;
	uint64_t resident; /* pages */
	char name[NAME_MAX_SEEN];
};

/* One walk. */
struct walk {
	struct mm *mm;
	struct verify *v; /* NULL: only remember what is there */
	struct mapping m;
	bool have;	/* m is a mapping, to be looked at when all its lines are read */
	bool exec_read; /* what is readable is executable, too (personality(2)) */
	uintptr_t seen; /* mappings below are done */
	long pagemap;	/* -1: resident pages of a part are not known */
	int err;
	size_t line_len;
	char line[LINE_SIZE];
	char buf[READ_SIZE];
};

/* ---- telling ---- */

static const char *prot_text(int prot, char text[4])
{
	text[0] = prot & PROT_READ ? 'r' : '-';
	text[1] = prot & PROT_WRITE ? 'w' : '-';
	text[2] = prot & PROT_EXEC ? 'x' : '-';
	text[3] = '\0';
	return text;
}

__attribute__((format(printf, 4, 5))) static void differ(struct walk *w, uintptr_t start,
							 uintptr_t end, const char *fmt, ...)
{
	struct verify *v = w->v;
	char line[LOG_LINE_MAX];
	size_t n = log_format(line, sizeof(line), "0x%lx-0x%lx ", (unsigned long)start,
			      (unsigned long)end);
	va_list ap;

	va_start(ap, fmt);
	n += log_vformat(line + n, sizeof(line) - n, fmt, ap);
	va_end(ap);
	v->differences++;
	if (v->len + n + 2 > sizeof(v->text))
		return;
	memcpy(v->text + v->len, line, n);
	v->text[v->len + n] = '\n';
	v->text[v->len + n + 1] = '\0';
	v->len += n + 1;
}

/* ---- one piece of one kind ---- */

static uint64_t present_pages(const struct walk *w, uintptr_t start, uintptr_t end)
{
	struct page_region runs[RUNS];
	uint64_t pages = 0;

	if (w->m.resident == 0 || w->pagemap < 0)
		return 0;
	if (start == w->m.start && end == w->m.end)
		return w->m.resident;
	while (start < end) {
		uintptr_t next;
		long n = uffd_scan_present((int)w->pagemap, start, end, runs, RUNS, &next);

		for (long i = 0; i < n; i++)
			pages += (runs[i].end - runs[i].start) >> PAGE_SHIFT;
		if (n < 0 || next <= start)
			break;
		start = next;
	}
	return pages;
}

static bool is_anonymous(const struct mapping *m)
{
	return !m->shared && m->inode == 0 &&
	       (m->name[0] == '\0' || strcmp(m->name, "[heap]") == 0 ||
		strncmp(m->name, "[anon", 5) == 0);
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* What no region, no record of ours explains. */
static enum verify_kind kind_of(const struct mapping *m)
{
	if (m->huge)
		return VERIFY_HUGE;
	if (m->grows_down)
		return VERIFY_STACK;
	if (starts_with(m->name, "/memfd:faultline-"))
		return VERIFY_OWN;
	if (m->shared)
		return starts_with(m->name, "/dev/zero") || starts_with(m->name, "/SYSV") ||
				       starts_with(m->name, "/memfd:") || m->inode == 0
			       ? VERIFY_SHARED
			       : VERIFY_FILE_SHARED;
	if (!is_anonymous(m))
		return VERIFY_FILE_PRIVATE;
	return m->prot & PROT_WRITE ? VERIFY_UNKNOWN : VERIFY_CLOSED;
}

static void count(struct walk *w, enum verify_kind kind, uintptr_t start, uintptr_t end)
{
	w->v->mapped[kind] += (end - start) >> PAGE_SHIFT;
	w->v->resident[kind] += present_pages(w, start, end);
}

static void look_at_managed(struct walk *w, const struct region *r, uintptr_t start, uintptr_t end)
{
	const struct mapping *m = &w->m;
	char want[4], have[4];
	int prot = r->prot;

	count(w, r->users != NULL ? VERIFY_MANAGED_FILE : VERIFY_MANAGED, start, end);
	if (r->flags & REGION_HELD)
		return;
	if (w->exec_read && (prot & PROT_READ))
		prot |= m->prot & PROT_EXEC;
	if (r->flags & REGION_SHARED ? !starts_with(m->name, "/memfd:faultline-cache ")
				     : !is_anonymous(m))
		differ(w, start, end, "is managed, but mapped there is %s",
		       m->name[0] != '\0' ? m->name : "shared memory");
	else if (m->prot != prot)
		differ(w, start, end, "is managed as %s, but mapped as %s", prot_text(prot, want),
		       prot_text(m->prot, have));
	else if (w->mm->armed && !m->registered)
		differ(w, start, end, "is managed, but not registered with userfaultfd");
}

/* The first piece of m from `at` on, its kind in *kind; its end. */
static uintptr_t next_piece(const struct walk *w, uintptr_t at, enum verify_kind *kind)
{
	const struct mm *mm = w->mm;
	const struct mapping *m = &w->m;
	const struct region *r = region_next(&mm->regions, at);
	uintptr_t end = r != NULL && r->start < m->end ? r->start : m->end;
	uintptr_t own;

	*kind = kind_of(m);
	if (is_anonymous(m)) {
		if (sys_mem_own(at, &own)) {
			*kind = VERIFY_OWN;
			return own < end ? own : end;
		}
		if (own < end)
			end = own;
	}
	r = region_next(&mm->left, at);
	if (r == NULL)
		return end;
	if (r->start > at)
		return r->start < end ? r->start : end;
	/* what was forgotten by a call that we did not see is not what is there now */
	if (is_anonymous(m) == (r->flags == VERIFY_BEFORE || r->flags == VERIFY_STACK))
		*kind = (enum verify_kind)r->flags;
	return r->end < end ? r->end : end;
}

/* Mapped, and not known as ours when it was looked up: was it just being allocated? */
static bool is_new_own(uintptr_t at)
{
	uintptr_t end;

	return sys_mem_pending() || sys_mem_own(at, &end);
}

/* Is a mapping with a reason just being made, moved or unmapped? */
static bool is_changing(const struct mm *mm)
{
	return __atomic_load_n(&mm->left_changing, __ATOMIC_ACQUIRE) != 0;
}

/* Is it a place for a file's pages?  Where those of a read were left behind it is private. */
static bool is_in_cache(const struct mm *mm, uintptr_t at)
{
	for (const struct pagecache *pc = mm->files.first; pc != NULL; pc = pc->next)
		for (uint64_t i = 0; i < pc->chunks; i++)
			if (pc->chunk[i] != NULL &&
			    at - (uintptr_t)pc->chunk[i]->alias < CHUNK_BYTES)
				return true;
	return false;
}

/* Regions in [w->seen, end), where nothing is mapped. */
static void look_at_gap(struct walk *w, uintptr_t end)
{
	const struct region *r;

	while (w->seen < end && (r = region_next(&w->mm->regions, w->seen)) != NULL &&
	       r->start < end) {
		uintptr_t s = r->start > w->seen ? r->start : w->seen;
		uintptr_t e = r->end < end ? r->end : end;

		if (!(r->flags & REGION_HELD))
			differ(w, s, e, "is managed, but nothing is mapped there");
		w->seen = e;
	}
}

static void look_at_mapping(struct walk *w)
{
	const struct mapping *m = &w->m;
	bool of_kernel = m->name[0] == '[' && !is_anonymous(m) && strcmp(m->name, "[stack]") != 0;

	look_at_gap(w, m->start);
	for (uintptr_t at = m->start, end; at < m->end; at = end) {
		const struct region *r = region_find(&w->mm->regions, at);
		enum verify_kind kind;

		if (r != NULL) {
			end = r->end < m->end ? r->end : m->end;
			look_at_managed(w, r, at, end);
			continue;
		}
		end = next_piece(w, at, &kind);
		if (of_kernel)
			continue;
		if (kind == VERIFY_UNKNOWN && (is_new_own(at) || is_in_cache(w->mm, at)))
			kind = VERIFY_OWN;
		count(w, kind, at, end);
		if (kind == VERIFY_UNKNOWN && (w->mm->flags & MM_LEFT) && !is_changing(w->mm))
			differ(w, at, end,
			       "is private and writable, and not managed for no known reason");
	}
	w->seen = m->end;
}

static void remember_mapping(struct walk *w)
{
	const struct mapping *m = &w->m;

	if (!is_anonymous(m))
		return;
	for (uintptr_t at = m->start, end; at < m->end && w->err == 0; at = end) {
		bool own = sys_mem_own(at, &end);

		if (end > m->end)
			end = m->end;
		if (!own) /* what is ours may be gone tomorrow */
			w->err = region_insert(&w->mm->left, at, end, PROT_NONE, VERIFY_BEFORE);
	}
}

static void mapping_ends(struct walk *w)
{
	if (!w->have)
		return;
	w->have = false;
	if (w->v != NULL)
		look_at_mapping(w);
	else
		remember_mapping(w);
}

/* ---- reading ---- */

static const char *read_hex(const char *p, uint64_t *v)
{
	for (*v = 0;; p++) {
		if (*p >= '0' && *p <= '9')
			*v = *v << 4 | (uint64_t)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			*v = *v << 4 | (uint64_t)(*p - 'a' + 10);
		else
			return p;
	}
}

static const char *read_number(const char *p, uint64_t *v)
{
	while (*p == ' ')
		p++;
	for (*v = 0; *p >= '0' && *p <= '9'; p++)
		*v = *v * 10 + (uint64_t)(*p - '0');
	return p;
}

/* "start-end rwxp offset device inode   name" */
static void read_header(struct walk *w, const char *p)
{
	struct mapping *m = &w->m;
	uint64_t v;

	memset(m, 0, sizeof(*m));
	p = read_hex(p, &v);
	m->start = v;
	p = read_hex(p + (*p == '-'), &v);
	m->end = v;
	if (strlen(p) < 6) {
		w->err = -EIO;
		return;
	}
	m->prot = (p[1] == 'r' ? PROT_READ : 0) | (p[2] == 'w' ? PROT_WRITE : 0) |
		  (p[3] == 'x' ? PROT_EXEC : 0);
	m->shared = p[4] == 's';
	p = strchr(p + 6, ' ');			   /* behind the offset */
	p = p != NULL ? strchr(p + 1, ' ') : NULL; /* behind the device */
	if (p == NULL) {
		w->err = -EIO;
		return;
	}
	p = read_number(p, &m->inode);
	while (*p == ' ')
		p++;
	log_format(m->name, sizeof(m->name), "%s", p);
	w->have = true;
}

static bool has_flag(const char *flags, const char *flag)
{
	return strstr(flags, flag) != NULL;
}

/* A line of smaps: a mapping's first begins with an address, the others with a capital letter. */
static void read_line(struct walk *w)
{
	const char *p = w->line;
	uint64_t v;

	if (*p < 'A' || *p > 'Z') {
		mapping_ends(w);
		read_header(w, p);
	} else if (starts_with(p, "Rss:")) {
		read_number(p + 4, &v);
		w->m.resident = v / (PAGE_SIZE / 1024);
	} else if (starts_with(p, "VmFlags:")) {
		p += 8;
		w->m.grows_down = has_flag(p, " gd");
		w->m.huge = has_flag(p, " ht");
		w->m.registered = has_flag(p, " um");
	}
}

static void read_text(struct walk *w, const char *p, size_t n)
{
	for (; n > 0; p++, n--) {
		if (*p != '\n') {
			if (w->line_len + 1 < LINE_SIZE)
				w->line[w->line_len++] = *p;
			continue;
		}
		w->line[w->line_len] = '\0';
		w->line_len = 0;
		read_line(w);
	}
}

static int read_file(struct walk *w, const char *path)
{
	long fd = SYS4(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	long n;

	if (sys_err(fd))
		return (int)fd;
	while ((n = SYS3(read, fd, w->buf, READ_SIZE)) > 0)
		read_text(w, w->buf, (size_t)n);
	SYS1(close, fd);
	mapping_ends(w);
	return n < 0 ? (int)n : w->err;
}

/* ---- the room's functions ---- */

int verify_start(struct mm *mm)
{
	struct walk *w = sys_mem_alloc(sizeof(*w));
	int r;

	region_tree_init(&mm->left);
	if (w == NULL)
		return -ENOMEM;
	w->mm = mm;
	r = read_file(w, "/proc/self/maps");
	sys_mem_free(w, sizeof(*w));
	return r;
}

long do_left(struct mm *mm, uintptr_t start, uintptr_t end, enum verify_kind kind)
{
	return kind == VERIFY_MANAGED ? region_remove(&mm->left, start, end)
				      : region_insert(&mm->left, start, end, PROT_NONE, kind);
}

long do_verify(struct mm *mm, struct verify *v)
{
	struct walk *w = sys_mem_alloc(sizeof(*w));
	int r;

	lock_assert_held(&mm->lock);
	memset(v, 0, sizeof(*v));
	if (w == NULL)
		return -ENOMEM;
	w->mm = mm;
	w->v = v;
	w->exec_read = sys_bare(SYS_personality, 0xffffffff, 0, 0, 0, 0, 0) & READ_IMPLIES_EXEC;
	w->pagemap = SYS4(openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	r = read_file(w, "/proc/self/smaps");
	if (r == 0)
		look_at_gap(w, addr_of(VPN_MAX));
	if (!sys_err(w->pagemap))
		SYS1(close, w->pagemap);
	sys_mem_free(w, sizeof(*w));
	return r;
}
