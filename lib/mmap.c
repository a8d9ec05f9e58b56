/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mmap.c - the memory calls as an application makes them; see mmap.h.
 *
 * Each call decides whether managed memory is concerned, and where the work is
 * done: here, under the mm lock, while nothing is armed (or by the caller, between
 * mm_hold() and mm_follow()); on a pager, by hop_call(), afterwards.  No signal's
 * handler may run meanwhile: they are blocked, or the preload library puts them off
 * (MM_PRELOAD).  The armed flag is looked at again under the lock.  What populates
 * memory (MAP_POPULATE, mlock) is done by the calling thread afterwards, as faults.
 */
#include "mmap.h"

#include "do.h"
#include "fork.h"
#include "grant.h"
#include "log.h"
#include "mm.h"
#include "open.h"
#include "pager.h"
#include "proc.h"
#include "share.h"
#include "sys.h"
#include "truncate.h"
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define VERIFY_TRIES 4U

/* ---- where a call is done ---- */

static void signals_block(const struct mm *mm, uint64_t *old)
{
	uint64_t all = ~(uint64_t)0;

	if (!(mm->flags & MM_PRELOAD))
		SYS4(sigprocmask, SIG_SETMASK, &all, old, sizeof(*old));
}

static void signals_restore(const struct mm *mm, const uint64_t *old)
{
	if (!(mm->flags & MM_PRELOAD))
		SYS4(sigprocmask, SIG_SETMASK, old, 0, sizeof(*old));
}

/* True: the mm lock is held and nothing is armed.  False: hand the call to a pager. */
static bool local_begin(struct mm *mm, uint64_t *mask)
{
	if (mm_armed(mm))
		return false;
	signals_block(mm, mask);
	lock_take(&mm->lock);
	if (!mm->armed)
		return true;
	lock_drop(&mm->lock);
	signals_restore(mm, mask);
	return false;
}

static void local_end(struct mm *mm, const uint64_t *mask)
{
	lock_drop(&mm->lock);
	signals_restore(mm, mask);
}

/*
 * Whether what is mapped could pass the limit.  Only accessible pages count:
 * a reservation becomes memory when it is opened.
 */
static bool tight(struct mm *mm)
{
	if (mm->armed)
		return false;
	if (mm->group != NULL)
		return !grant_mapped(mm, mm->regions.open_pages);
	return mm->regions.open_pages > mm->limit;
}

long mm_start(struct mm *mm)
{
	char why[LOG_LINE_MAX];
	uint64_t mask;
	long r = 0;

	if (!local_begin(mm, &mask))
		return 0;
	if (!mm->pagers_up && mm->confined) {
		r = -EPERM;
	} else if (!mm->pagers_up) {
		r = pager_start(mm, why, sizeof(why));
		if (r != 0)
			pager_not_started(mm, why);
	}
	local_end(mm, &mask);
	return r;
}

void mm_filtered(struct mm *mm)
{
	__atomic_store_n(&mm->choice.filtered, true, __ATOMIC_RELAXED);
}

void mm_confine(struct mm *mm)
{
	uint64_t mask;

	mm_filtered(mm);
	if (!local_begin(mm, &mask))
		return;
	mm->confined = true;
	local_end(mm, &mask);
}

/* Start pagers where there are none, then arm.  No lock held. */
static long arm(struct mm *mm)
{
	long r = mm_start(mm);

	return r != 0 ? r : hop_call(mm, HOP_ARM, 0, 0, 0, 0, 0, 0, 0);
}

/* Flags of the managed regions of a range, in an armed mm. */
static long change_flags(struct mm *mm, uintptr_t start, uintptr_t end, uint32_t set,
			 uint32_t clear)
{
	return hop_call(mm, HOP_FLAGS, (long)start, (long)end, set, clear, 0, 0, 0);
}

static bool ours(const struct mm *mm, uintptr_t start, size_t len)
{
	return region_overlaps(&mm->regions, start, start + page_up(len));
}

/*
 * Why memory is not managed, for those who ask (verify.h).  What is noted is
 * about to be used by this thread alone.
 */
static void left_change(struct mm *mm, uintptr_t start, size_t len, enum verify_kind kind)
{
	uintptr_t end = start + page_up(len);
	uint64_t mask;

	if (!(mm->flags & MM_LEFT) ||
	    (kind == VERIFY_MANAGED && !region_overlaps(&mm->left, start, end)))
		return;
	if (local_begin(mm, &mask)) {
		do_left(mm, start, end, kind);
		local_end(mm, &mask);
	} else {
		hop_call(mm, HOP_LEFT, (long)start, (long)end, kind, 0, 0, 0, 0);
	}
}

/* The kernel and mm->left are changed one after the other: verify.c is to know. */
static void left_begin(struct mm *mm, bool changes)
{
	if (changes)
		__atomic_fetch_add(&mm->left_changing, 1, __ATOMIC_ACQ_REL);
}

static void left_end(struct mm *mm, bool changes)
{
	if (changes)
		__atomic_fetch_sub(&mm->left_changing, 1, __ATOMIC_RELEASE);
}

/* ---- mmap ---- */

/* What is managed: private anonymous memory that nothing special is asked of. */
static bool manageable(int flags)
{
	const int special = MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK;

	return (flags & MAP_ANONYMOUS) && (flags & MAP_TYPE) == MAP_PRIVATE && !(flags & special);
}

/* Bring a range in by faulting it, as the kernel's mm_populate; its errors are not the call's. */
static void populate(uintptr_t addr, size_t len, int prot)
{
	SYS3(madvise, addr, page_up(len),
	     prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

/*
 * By the API every file on storage is managed: 1, 0, or -errno.  What cannot be told is not the
 * kernel's to map: there may be more of the file in a cache of ours.
 */
static int fileable(const struct mm *mm, int flags, int fd, bool *noexec)
{
	const int special = MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK;
	int r = 0;

	if (!(mm->flags & MM_PRELOAD) && !mm->confined && !(flags & special))
		r = choose_on_storage(fd, noexec);
	return r != -EBADF ? r : 0; /* as mmap(2) orders its errors */
}

static void made(struct mm *mm, enum choice how)
{
	if (how != CHOICE_NONE)
		__atomic_fetch_add(&mm->choice.made[how], 1, __ATOMIC_RELAXED);
}

uint64_t mm_files_made(const struct mm *mm, enum choice how)
{
	return __atomic_load_n(&mm->choice.made[how], __ATOMIC_RELAXED);
}

/* How a mapping that was chosen and is the kernel's all the same is shown. */
static enum verify_kind kind_left(enum choice how, int flags)
{
	switch (how) {
	case CHOICE_SHARED:
		return VERIFY_CHOSEN_SHARED;
	case CHOICE_CODE:
		return VERIFY_CHOSEN_CODE;
	case CHOICE_KIND:
		return VERIFY_CHOSEN_LEFT;
	default:
		return flags & MAP_STACK ? VERIFY_STACK : VERIFY_MANAGED;
	}
}

void mm_choose_files(struct mm *mm, const char *patterns, const char *mount)
{
	mm->choice = (struct file_choice){.patterns = patterns, .mount = mount};
}

/* A mapping that is not managed. */
static long map_left(struct mm *mm, const long a[6], enum verify_kind kind)
{
	bool noted = (mm->flags & MM_LEFT) && kind != VERIFY_MANAGED;
	long r;

	left_begin(mm, noted);
	r = SYS6(mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (!sys_err(r))
		left_change(mm, (uintptr_t)r, (size_t)a[1], kind);
	left_end(mm, noted);
	return r;
}

/* A mapping that is not managed replaces one that is. */
static long replace(struct mm *mm, uintptr_t addr, size_t len, long nr, const long a[6])
{
	uintptr_t end = addr + page_up(len);
	uint64_t mask;
	long r;

	if (local_begin(mm, &mask)) {
		r = -ENOMEM;
		if (region_can_remove(&mm->regions, addr, end))
			r = sys_bare(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (!sys_err(r))
			do_forget(mm, addr, end);
		local_end(mm, &mask);
		return r;
	}
	/* The descriptor is the caller's, so the call must be made here: nothing is evicted meanwhile. */
	r = change_flags(mm, addr, end, REGION_HELD, 0);
	if (r != 0)
		return r;
	r = sys_bare(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (!sys_err(r))
		hop_call(mm, HOP_FORGET, (long)addr, (long)end, 0, 0, 0, 0, 0);
	else
		change_flags(mm, addr, end, 0, REGION_HELD);
	return r;
}

/*
 * Whether that much more may be locked, asked before anything is mapped: a
 * mapping that is refused must leave what was there.  The kernel is asked with
 * a mapping that it cannot populate.  own: it counts to our limit.
 */
static long may_lock(const struct mm *mm, size_t len, bool own)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_LOCKED;
	long r = SYS6(mmap, 0, len, PROT_NONE, flags, -1, 0);

	if (r == -EPERM || r == -EAGAIN)
		return r;
	if (!sys_err(r))
		SYS2(munmap, r, len);
	if (own && mm_armed(mm) &&
	    mm->regions.locked_open_pages + (page_up(len) >> PAGE_SHIFT) >
		    mm_lockable(mm, grant_budget_most(mm)))
		return -EAGAIN;
	return 0;
}

/* Lock or bring in what was just mapped, as mmap(2)'s flags ask; its address, or -errno. */
static long map_flags(struct mm *mm, long r, size_t len, int prot, int flags)
{
	bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
	long err;

	if (flags & MAP_LOCKED) {
		/* mlock(2) fails for what it cannot bring in, mmap(2) does not */
		err = mm_mlock2(mm, (uintptr_t)r, len, prot == PROT_NONE ? MLOCK_ONFAULT : 0);
		if (err == -ENOMEM || err == -EPERM) {
			mm_munmap(mm, (uintptr_t)r, len);
			return err == -ENOMEM ? -EAGAIN : err;
		}
	} else if ((flags & MAP_POPULATE) && !(flags & MAP_NONBLOCK)) {
		populate((uintptr_t)r, len, shared ? PROT_READ : prot);
	}
	return r;
}

/*
 * Map a file, or (fd -1) a backing.  Whether the descriptor may be mapped so is
 * for the kernel to say: it is asked with a mapping of the same kind.  From here on
 * the runtime is armed.
 */
static long map_file(struct mm *mm, const struct map_file *want)
{
	const int elsewhere =
		MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_POPULATE | MAP_LOCKED | FL_MAP_HOLD;
	bool chosen = want->id.tid != 0;
	struct map_file *m;
	long r;

	if (want->fd >= 0) {
		r = SYS6(mmap, 0, want->len, want->prot, want->flags & ~elsewhere, want->fd,
			 want->pgoff << PAGE_SHIFT);
		if (sys_err(r))
			return r;
		SYS2(munmap, r, want->len);
	}
	if (want->flags & MAP_LOCKED) {
		bool shared =
			(want->flags & MAP_TYPE) != MAP_PRIVATE && !(want->flags & FL_MAP_HOLD);

		r = may_lock(mm, want->len, !shared || want->fd < 0 || !share_would(mm, want->fd));
		if (r != 0)
			return r;
	}
	r = mm_armed(mm) ? 0 : arm(mm);
	if (r != 0)
		return chosen ? -ERESTART : r;
	m = sys_mem_alloc(sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	*m = *want;
	if (m->fd >= 0)
		m->write = (m->flags & MAP_TYPE) != MAP_PRIVATE &&
			   (SYS3(fcntl, m->fd, F_GETFL, 0) & O_ACCMODE) == O_RDWR;
	r = hop_call(mm, HOP_MMAP_FILE, (long)m, 0, 0, 0, 0, 0, 0);
	sys_mem_free(m, sizeof(*m));
	return sys_err(r) ? r : map_flags(mm, r, want->len, want->prot, want->flags);
}

long mm_mmap_file(struct mm *mm, struct map_file *m, long off)
{
	if (m->len == 0 || off < 0 || (off & (long)~PAGE_MASK) ||
	    ((m->flags & FL_MAP_HOLD) && (m->flags & MAP_TYPE) == MAP_PRIVATE))
		return -EINVAL;
	m->pgoff = (uint64_t)off >> PAGE_SHIFT;
	return map_file(mm, m);
}

/* A mapping of a program that was not written for faultline, if it is chosen; -ERESTART: the kernel's. */
static long map_chosen(struct mm *mm, const long a[6], enum choice *how)
{
	struct map_file m = {
		.addr = (uintptr_t)a[0],
		.len = (size_t)a[1],
		.prot = (int)a[2],
		.flags = (int)a[3] & ~FL_MAP_HOLD,
		.fd = (int)a[4],
		.pgoff = (uint64_t)a[5] >> PAGE_SHIFT,
	};
	long r;

	*how = choose_mapping(mm, m.prot, m.flags, m.fd, &m.id, &m.noexec);
	if (*how != CHOICE_TAKE || m.len == 0 || a[5] < 0 || (a[5] & (long)~PAGE_MASK))
		return -ERESTART;
	r = map_file(mm, &m);
	if (!sys_err(r))
		made(mm, *how);
	else if (r == -ERESTART)
		*how = CHOICE_KIND;
	return r;
}

long mm_mmap(struct mm *mm, uintptr_t addr, size_t len, int prot, int flags, int fd, long off)
{
	const int fixed = MAP_FIXED & ~MAP_FIXED_NOREPLACE;
	/* the bit is a part of a huge page's size, elsewhere */
	const int hold = (mm->flags & MM_PRELOAD) || (flags & MAP_HUGETLB) ? 0 : FL_MAP_HOLD;
	struct map_file m = {.addr = addr, .len = len, .prot = prot, .flags = flags, .fd = fd};
	uint64_t mask;
	int plain;
	long err = 0;
	long r;

	r = fileable(mm, flags & ~hold, fd, &m.noexec);
	if (r < 0)
		return r;
	if (r != 0)
		return mm_mmap_file(mm, &m, off);
	if (flags & hold) {
		r = flags & MAP_ANONYMOUS ? -EINVAL : SYS3(fcntl, fd, F_GETFD, 0);
		return sys_err(r) ? r : -EOPNOTSUPP;
	}
	if (!manageable(flags)) {
		const long a[6] = {(long)addr, (long)len, prot, flags, fd, off};
		enum choice how;

		r = map_chosen(mm, a, &how);
		if (r != -ERESTART)
			return r;
		if ((flags & fixed) && len != 0 && ours(mm, addr, len)) {
			r = replace(mm, addr, len, SYS_mmap, a);
			if (!sys_err(r) && how != CHOICE_NONE)
				left_change(mm, addr, len, kind_left(how, flags));
		} else {
			r = map_left(mm, a, kind_left(how, flags));
		}
		if (!sys_err(r))
			made(mm, how);
		return r;
	}
	if (off & (long)~PAGE_MASK)
		return -EINVAL;
	if (flags & MAP_LOCKED) {
		err = may_lock(mm, len, true);
		if (err != 0)
			return err;
	}
	plain = flags & ~(MAP_POPULATE | MAP_LOCKED | MAP_NONBLOCK);
	if (local_begin(mm, &mask)) {
		bool arm_now;

		r = do_mmap(mm, addr, len, prot, plain);
		arm_now = !sys_err(r) && tight(mm);
		local_end(mm, &mask);
		if (arm_now && arm(mm) != 0) {
			mm_munmap(mm, (uintptr_t)r, len);
			return -ENOMEM;
		}
	} else {
		r = hop_call(mm, HOP_MMAP, (long)addr, (long)len, prot, plain, 0, 0, 0);
	}
	return sys_err(r) ? r : map_flags(mm, r, len, prot, flags);
}

static long unmap(struct mm *mm, uintptr_t addr, size_t len)
{
	uint64_t mask;
	long r;

	if ((addr & ~PAGE_MASK) || len == 0)
		return SYS2(munmap, addr, len);
	if (local_begin(mm, &mask)) {
		bool managed = region_aim(&mm->regions, addr, addr + page_up(len));

		if (managed)
			r = do_munmap(mm, addr, len);
		if (managed && mm->group != NULL)
			grant_mapped(mm, mm->regions.open_pages);
		local_end(mm, &mask);
		if (managed)
			return r;
	} else if (ours(mm, addr, len)) {
		return hop_call(mm, HOP_MUNMAP, (long)addr, (long)len, 0, 0, 0, 0, 0);
	}
	return SYS2(munmap, addr, len);
}

long mm_munmap(struct mm *mm, uintptr_t addr, size_t len)
{
	bool left = (mm->flags & MM_LEFT) && !(addr & ~PAGE_MASK) && len != 0 &&
		    region_overlaps(&mm->left, addr, addr + page_up(len));
	long r;

	left_begin(mm, left);
	/* before it is another's */
	if (left)
		left_change(mm, addr, len, VERIFY_MANAGED);
	r = unmap(mm, addr, len);
	left_end(mm, left);
	return r;
}

/* Memory that is not managed moves; its reason with it. */
static long remap_left(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
		       uintptr_t new_addr)
{
	bool left = (mm->flags & MM_LEFT) && old_len != 0 &&
		    region_overlaps(&mm->left, old, old + page_up(old_len));
	long r;

	left_begin(mm, left);
	r = SYS5(mremap, old, old_len, new_len, flags, new_addr);
	if (left && !sys_err(r)) {
		left_change(mm, old, old_len, VERIFY_MANAGED);
		left_change(mm, (uintptr_t)r, new_len, VERIFY_BEFORE);
	}
	left_end(mm, left);
	return r;
}

long mm_mremap(struct mm *mm, uintptr_t old, size_t old_len, size_t new_len, int flags,
	       uintptr_t new_addr)
{
	/* a length of 0 asks for a second mapping of what is shared there */
	bool touches = ours(mm, old, old_len != 0 ? old_len : 1) ||
		       ((flags & MREMAP_FIXED) && new_len != 0 && ours(mm, new_addr, new_len));
	uint64_t mask;
	bool arm_now;
	long r;

	if ((old & ~PAGE_MASK) || !touches)
		return remap_left(mm, old, old_len, new_len, flags, new_addr);
	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_MREMAP, (long)old, (long)old_len, (long)new_len, flags,
				(long)new_addr, 0, 0);
	r = do_mremap(mm, old, old_len, new_len, flags, new_addr);
	arm_now = !sys_err(r) && tight(mm);
	local_end(mm, &mask);
	if (arm_now && arm(mm) != 0)
		mm_log(mm, FL_LOG_ERROR, "the limit cannot be kept");
	return r;
}

long mm_remap_file_pages(struct mm *mm, uintptr_t addr, size_t len, int prot, size_t pgoff,
			 int flags)
{
	uintptr_t start = addr & PAGE_MASK;
	uint64_t pages = len >> PAGE_SHIFT;
	long r;

	/* what the kernel refuses, and shared mappings that it has */
	if (prot != 0 || start + (pages << PAGE_SHIFT) <= start || pgoff + pages < pgoff ||
	    !mm_armed(mm) || !ours(mm, start, pages << PAGE_SHIFT))
		return sys_bare(SYS_remap_file_pages, (long)addr, (long)len, prot, (long)pgoff,
				flags, 0);
	r = hop_call(mm, HOP_REMAP_PAGES, (long)start, (long)(pages << PAGE_SHIFT), (long)pgoff, 0,
		     0, 0, 0);
	if (r == 0 && !(flags & MAP_NONBLOCK))
		populate(start, pages << PAGE_SHIFT, PROT_READ);
	return r;
}

long mm_mprotect(struct mm *mm, uintptr_t addr, size_t len, int prot, int pkey)
{
	uint64_t mask;
	bool arm_now;
	long r;

	if ((addr & ~PAGE_MASK) || len == 0 || !ours(mm, addr, len))
		return pkey == -1 ? SYS3(mprotect, addr, len, prot)
				  : sys_bare(SYS_pkey_mprotect, (long)addr, (long)len, prot, pkey,
					     0, 0);
	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_MPROTECT, (long)addr, (long)len, prot, pkey, 0, 0, 0);
	r = do_mprotect(NULL, mm, addr, len, prot, pkey);
	arm_now = tight(mm);
	local_end(mm, &mask);
	if (arm_now && arm(mm) != 0)
		r = -ENOMEM;
	return r;
}

long mm_brk(struct mm *mm, uintptr_t addr)
{
	uint64_t mask;
	bool arm_now;
	uintptr_t was;
	long r;

	if (addr == 0)
		return SYS1(brk, 0);
	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_BRK, (long)addr, 0, 0, 0, 0, 0, 0);
	was = mm->brk != 0 ? mm->brk : (uintptr_t)SYS1(brk, 0);
	r = do_brk(mm, addr);
	arm_now = tight(mm);
	local_end(mm, &mask);
	if (arm_now && arm(mm) != 0 && (uintptr_t)r > was)
		r = mm_brk(mm, was);
	return r;
}

/* ---- a call in two halves ---- */

/* Whether what the kernel will have done can be noted; false: that is for who is told so before. */
static bool can_follow(struct mm *mm, long nr, uintptr_t start, size_t len)
{
	if (nr == SYS_mmap)
		return region_can_insert(&mm->regions);
	return nr != SYS_munmap || region_can_remove(&mm->regions, start, start + page_up(len));
}

bool mm_hold(struct mm *mm, long nr, const long a[6])
{
	const int special = MAP_GROWSDOWN | MAP_HUGETLB | MAP_STACK | MAP_POPULATE | MAP_LOCKED;
	uintptr_t start = (uintptr_t)a[0];
	size_t len = (size_t)a[1];

	if (nr == SYS_mmap) {
		if ((a[3] & (MAP_ANONYMOUS | MAP_TYPE | special)) != (MAP_ANONYMOUS | MAP_PRIVATE))
			return false;
	} else if ((start & ~PAGE_MASK) || len == 0 ||
		   (nr == SYS_madvise &&
		    (a[2] == MADV_POPULATE_READ || a[2] == MADV_POPULATE_WRITE))) {
		return false;
	}
	if (mm_armed(mm))
		return false;
	lock_take(&mm->lock);
	if (mm->armed || mm->confined || (nr == SYS_mmap && mm->lock_future) ||
	    (nr != SYS_mmap && !region_aim(&mm->regions, start, start + page_up(len))) ||
	    !can_follow(mm, nr, start, len)) {
		lock_drop(&mm->lock);
		return false;
	}
	if (nr == SYS_munmap && (mm->flags & MM_LEFT))
		do_left(mm, start, start + page_up(len), VERIFY_MANAGED);
	return true;
}

long mm_follow(struct mm *mm, long nr, const long a[6], long r)
{
	uintptr_t start = (uintptr_t)a[0];
	size_t len = (size_t)a[1];
	bool arm_now = false;

	switch (nr) {
	case SYS_mmap:
		if (sys_err(r))
			break;
		r = did_mmap(mm, (uintptr_t)r, len, (int)a[2], (int)a[3]);
		arm_now = !sys_err(r) && tight(mm);
		break;
	case SYS_munmap:
		if (sys_err(r))
			break;
		do_forget(mm, start, start + page_up(len));
		if (mm->group != NULL)
			grant_mapped(mm, mm->regions.open_pages);
		break;
	case SYS_mprotect:
		if (!sys_err(r))
			r = did_mprotect(mm, start, len, (int)a[2]);
		else if (r == -ENOMEM || r == -EACCES)
			protected_in_part(mm, start, len, (int)a[2], -1);
		arm_now = tight(mm);
		break;
	default:
		/* what is mapped of the range was advised, too */
		if (!sys_err(r) || r == -ENOMEM)
			did_madvise(mm, start, len, (int)a[2]);
		break;
	}
	lock_drop(&mm->lock);
	if (!arm_now || arm(mm) == 0)
		return r;
	if (nr == SYS_mmap)
		mm_munmap(mm, (uintptr_t)r, len);
	return -ENOMEM;
}

/* ---- advice and locking ---- */

/* What is not ours of the range is removed here: no pager waits for the lock of a file. */
static long remove_pages(struct mm *mm, uintptr_t at, size_t len)
{
	const uintptr_t end = at + page_up(len);
	bool gap = false;

	for (;;) {
		long r = hop_call(mm, HOP_REMOVE, (long)at, (long)(end - at), false, 0, 0, 0, 0);
		uintptr_t first = (uintptr_t)r;

		if (sys_err(r))
			return r;
		if (first >= end)
			return gap ? -ENOMEM : 0;
		at = (uintptr_t)hop_call(mm, HOP_REMOVE, r, (long)(end - first), true, 0, 0, 0, 0);
		r = SYS3(madvise, first, at - first, MADV_REMOVE);
		if (sys_err(r) && r != -ENOMEM)
			return r;
		gap |= sys_err(r);
		if (at >= end)
			return gap ? -ENOMEM : 0;
	}
}

long mm_madvise(struct mm *mm, uintptr_t addr, size_t len, int advice)
{
	uint64_t mask;
	long r;

	if ((addr & ~PAGE_MASK) || len == 0 || !ours(mm, addr, len))
		return SYS3(madvise, addr, len, advice);
	/* These fault, and must be free to wait for a pager. */
	if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
		r = SYS3(madvise, addr, len, advice);
		/* what raises SIGBUS here is poison to the kernel */
		return r == -EHWPOISON ? -EFAULT : r;
	}
	if (advice == MADV_REMOVE && mm_armed(mm))
		return remove_pages(mm, addr, len);
	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_MADVISE, (long)addr, (long)len, advice, 0, 0, 0, 0);
	r = do_madvise(NULL, mm, addr, len, advice);
	local_end(mm, &mask);
	return r;
}

/*
 * What was locked comes in; false: not all of it.  Writable memory gets frames of its own,
 * as mlock(2) breaks copy-on-write; pages of files are not to be written for that.
 */
static bool bring_locked(uintptr_t start, size_t len, bool shared)
{
	return (!shared && !sys_err(SYS3(madvise, start, len, MADV_POPULATE_WRITE))) ||
	       !sys_err(SYS3(madvise, start, len, MADV_POPULATE_READ));
}

long mm_mlock2(struct mm *mm, uintptr_t addr, size_t len, unsigned flags)
{
	uintptr_t start = addr & PAGE_MASK;
	size_t span = page_up(addr + len) - start;
	uint64_t mask;
	long r;

	if (len == 0 || !ours(mm, start, span))
		return kernel_mlock(addr, len, flags);
	if (local_begin(mm, &mask)) {
		r = do_mlock(mm, addr, len, flags);
		local_end(mm, &mask);
		return r;
	}
	r = hop_call(mm, HOP_MLOCK, (long)addr, (long)len, flags, 0, 0, 0, 0);
	/* as mlock(2) for what cannot be read */
	if (r >= 0 && !(flags & MLOCK_ONFAULT) && !bring_locked(start, span, r == 1))
		return -ENOMEM;
	return r < 0 ? r : 0;
}

long mm_munlock(struct mm *mm, uintptr_t addr, size_t len)
{
	uintptr_t start = addr & PAGE_MASK;
	size_t span = page_up(addr + len) - start;
	uint64_t mask;
	long r;

	if (len == 0 || !ours(mm, start, span))
		return SYS2(munlock, addr, len);
	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_MUNLOCK, (long)addr, (long)len, 0, 0, 0, 0, 0);
	r = do_munlock(mm, addr, len);
	local_end(mm, &mask);
	return r;
}

/* All on a pager. */
static long unlock_staging(struct pager *p, void *arg)
{
	(void)arg;
	staging_unlock(p->mm);
	return 0;
}

/* Where managed memory at or behind an address is locked; 0: nowhere. */
static long locked_from(struct pager *p, void *arg)
{
	const uintptr_t at = (uintptr_t)arg;
	const struct region *r = region_next(&p->mm->regions, at);

	while (r != NULL && !(r->flags & REGION_LOCKED))
		r = r->next;
	return r == NULL ? 0 : (long)(r->start > at ? r->start : at);
}

/* Where that ends, and 1 more where it is shared. */
static long locked_until(struct pager *p, void *arg)
{
	const struct region *r = region_find(&p->mm->regions, (uintptr_t)arg);

	return r == NULL ? (long)arg : (long)r->end + region_is_shared(r);
}

/* What is locked comes in, as mlockall(2) has it; where that fails is not said there either. */
static void populate_locked(struct mm *mm)
{
	long start = 0, end;

	while ((start = hop_run(mm, locked_from, (void *)start)) > 0) {
		end = hop_run(mm, locked_until, (void *)start);
		bring_locked((uintptr_t)start, (size_t)((end & (long)PAGE_MASK) - start), end & 1);
		start = end & (long)PAGE_MASK;
	}
}

/*
 * All of a process: what is managed is locked region by region, the rest by
 * the kernel.  Where pagers run that is asked to lock on fault, so that it populates nothing
 * behind the limit's back, nor memory of ours that is to stay empty: it would wait for ever.
 */
long mm_mlockall(struct mm *mm, int flags)
{
	bool bring = (flags & (MCL_CURRENT | MCL_ONFAULT)) == MCL_CURRENT;
	uint64_t mask;
	long r;

	if (local_begin(mm, &mask)) {
		bool paged = mm->pagers_up;

		r = sys_bare(SYS_mlockall, paged ? flags | MCL_ONFAULT : flags, 0, 0, 0, 0, 0);
		if (!sys_err(r)) {
			if (flags & MCL_CURRENT)
				region_change(&mm->regions, 0, addr_of(VPN_MAX), -1, REGION_LOCKED,
					      0);
			mm->lock_future = flags & MCL_FUTURE;
		}
		local_end(mm, &mask);
		if (paged && !sys_err(r))
			hop_run(mm, unlock_staging, NULL);
		bring = bring && paged;
	} else {
		if ((flags & MCL_CURRENT) &&
		    mm->regions.open_pages > mm_lockable(mm, grant_budget_most(mm)))
			return -ENOMEM;
		r = sys_bare(SYS_mlockall, flags | MCL_ONFAULT, 0, 0, 0, 0, 0);
		if (sys_err(r))
			return r;
		hop_run(mm, unlock_staging, NULL);
		if (flags & MCL_CURRENT)
			r = change_flags(mm, 0, addr_of(VPN_MAX), REGION_LOCKED, 0);
		mm->lock_future = flags & MCL_FUTURE;
	}
	if (r == 0 && bring)
		populate_locked(mm);
	return r;
}

long mm_munlockall(struct mm *mm)
{
	uint64_t mask;
	long r = sys_bare(SYS_munlockall, 0, 0, 0, 0, 0, 0);

	if (sys_err(r))
		return r;
	mm->lock_future = false;
	if (local_begin(mm, &mask)) {
		region_change(&mm->regions, 0, addr_of(VPN_MAX), -1, 0, REGION_LOCKED);
		local_end(mm, &mask);
	} else {
		change_flags(mm, 0, addr_of(VPN_MAX), 0, REGION_LOCKED);
	}
	return r;
}

/* ---- files ---- */

#define EVENT_PATIENCE 100000000U /* ns: a write may have failed to start */

/* Wait for fsync(2) of the files of a range. */
static long sync_range(struct mm *mm, uintptr_t addr, size_t len, uint64_t since)
{
	struct sync_wait *wait = sys_mem_alloc(sizeof(*wait));
	uint32_t pending;
	long r;

	if (wait == NULL)
		return -ENOMEM;
	wait->since = since;
	r = hop_call(mm, HOP_SYNC_RANGE, (long)addr, (long)len, (long)wait, 0, 0, 0, 0);
	while ((pending = __atomic_load_n(&wait->pending, __ATOMIC_ACQUIRE)) != 0)
		futex_wait(&wait->pending, pending, 0);
	if (r == 0)
		r = wait->err;
	/* the pager's wake follows its store; the next call of ours is served after it */
	hop_call(mm, HOP_FLAGS, 0, 0, 0, 0, 0, 0, 0);
	sys_mem_free(wait, sizeof(*wait));
	return r;
}

long mm_msync(struct mm *mm, uintptr_t addr, size_t len, int flags)
{
	/*
	 * The kernel writes what is its own of the range, and says what is wrong with the call, or
	 * not mapped.  What is ours is anonymous or of memfds to it: there is nothing to write.
	 */
	const long kernel = sys_bare(SYS_msync, (long)addr, (long)len, flags, 0, 0, 0);
	const uint64_t since = __atomic_load_n(&mm->files.failures, __ATOMIC_RELAXED);
	uintptr_t at = addr;
	unsigned round = 0;
	long r;

	if (kernel == -EINVAL || kernel == -EBUSY || len == 0 || addr + page_up(len) < addr ||
	    !mm_armed(mm) || !ours(mm, addr, len))
		return kernel;
	for (;;) {
		/* Acquire: pairs with the release in writeback.c; an end that comes later is seen by the wait. */
		uint32_t event = __atomic_load_n(&mm->files.event, __ATOMIC_ACQUIRE);

		r = hop_call(mm, HOP_MSYNC, (long)at, (long)(addr + page_up(len) - at), flags,
			     round++, 0, 0, 0);
		if (r <= 1)
			break;
		at = (uintptr_t)r;
		futex_wait(&mm->files.event, event, EVENT_PATIENCE);
	}
	/* 1: of no file, or private: nothing to write */
	if (r == 0 && (flags & MS_SYNC))
		r = sync_range(mm, addr, len, since);
	if (kernel != 0 && kernel != -ENOMEM)
		return kernel;
	return r < 0 ? r : kernel;
}

void mm_write_out(struct mm *mm)
{
	unsigned round = 0, tries = 1;

	if (!mm_armed(mm) || __atomic_load_n(&mm->files.first, __ATOMIC_RELAXED) == NULL)
		return;
	__atomic_store_n(&mm->files.exiting, 1, __ATOMIC_RELAXED);
	for (;;) {
		/* Acquire: as mm_msync(). */
		uint32_t event = __atomic_load_n(&mm->files.event, __ATOMIC_ACQUIRE);
		long r = hop_call(mm, HOP_WRITE_OUT, round++, tries == CLOSE_TRIES, 0, 0, 0, 0, 0);

		if (r > 0) {
			futex_wait(&mm->files.event, event, EVENT_PATIENCE);
			continue;
		}
		if (r == 0 || tries++ == CLOSE_TRIES)
			break;
		round = 0;
	}
}

long mm_ftruncate(struct mm *mm, int fd, long len)
{
	struct truncation *t;
	struct stat st;
	uint64_t mask;
	long r;

	if (!mm_armed(mm) || len < 0)
		return SYS2(ftruncate, fd, len);
	r = SYS2(fstat, fd, &st);
	if (sys_err(r))
		return r;
	t = sys_mem_alloc(sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	t->dev = st.st_dev;
	t->ino = st.st_ino;
	t->size = (uint64_t)len;
	/* a handler that never came back would leave the file's pages cut off */
	signals_block(mm, &mask);
	do {
		/* Acquire: as mm_msync(). */
		uint32_t event = __atomic_load_n(&mm->files.event, __ATOMIC_ACQUIRE);

		r = hop_call(mm, HOP_TRUNCATE, (long)t, 0, 0, 0, 0, 0, 0);
		if (r > 0)
			futex_wait(&mm->files.event, event, EVENT_PATIENCE);
	} while (r > 0);
	if (r == 0) {
		r = t->result = SYS2(ftruncate, fd, len);
		t->called = true;
		hop_call(mm, HOP_TRUNCATE, (long)t, 0, 0, 0, 0, 0, 0);
	}
	signals_restore(mm, &mask);
	sys_mem_free(t, sizeof(*t));
	return r;
}

long mm_truncate(struct mm *mm, long nr, const long a[2])
{
	long r = sys_bare(nr, a[0], a[1], 0, 0, 0, 0);

	/* the kernel has done it, a signal for RLIMIT_FSIZE and all; what is mapped of it follows */
	if (r == 0 && mm_armed(mm) && __atomic_load_n(&mm->files.first, __ATOMIC_RELAXED) != NULL)
		hop_call(mm, HOP_RESIZED, 0, 0, 0, 0, 0, 0, 0);
	return r;
}

#define RESIDENT_STEP 62U /* pages that one call tells of */

/* The kernel knows of pages that are mapped; of a file's, those that are cached count too. */
long mm_mincore(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec)
{
	long r = sys_bare(SYS_mincore, (long)addr, (long)len, (long)vec, 0, 0, 0);
	uint64_t pages = page_up(len) >> PAGE_SHIFT;

	if (r != 0 || !mm_armed(mm) ||
	    __atomic_load_n(&mm->files.first, __ATOMIC_RELAXED) == NULL || !ours(mm, addr, len))
		return r;
	for (uint64_t at = 0; at < pages; at += RESIDENT_STEP) {
		uint64_t n = pages - at < RESIDENT_STEP ? pages - at : RESIDENT_STEP;
		long there = hop_call(mm, HOP_RESIDENT, (long)(addr + at * PAGE_SIZE), (long)n, 0,
				      0, 0, 0, 0);

		for (uint64_t i = 0; i < n; i++)
			vec[at + i] |= (unsigned char)(there >> i & 1);
	}
	return r;
}

/* ---- calls that can only take managed memory away ---- */

long mm_shmat(struct mm *mm, int shmid, uintptr_t addr, int flags)
{
	const long a[6] = {shmid, (long)addr, flags, 0, 0, 0};
	struct shmid_ds ds;

	if (addr != 0 && (flags & SHM_REMAP) &&
	    !sys_err(sys_bare(SYS_shmctl, shmid, IPC_STAT, (long)&ds, 0, 0, 0)) &&
	    ours(mm, addr & PAGE_MASK, ds.shm_segsz))
		return replace(mm, addr & PAGE_MASK, ds.shm_segsz, SYS_shmat, a);
	return sys_bare(SYS_shmat, shmid, (long)addr, flags, 0, 0, 0);
}

long mm_shmdt(struct mm *mm, uintptr_t addr)
{
	(void)mm;
	return sys_bare(SYS_shmdt, (long)addr, 0, 0, 0, 0, 0);
}

bool mm_is_file(const struct mm *mm, uintptr_t addr)
{
	return mm_armed(mm) && region_is_file(&mm->regions, addr);
}

bool mm_is_armed(const struct mm *mm)
{
	return mm_armed(mm);
}

long mm_arm_if_tight(struct mm *mm)
{
	return tight(mm) ? arm(mm) : 0;
}

long mm_page_state(struct mm *mm, uintptr_t addr, size_t len, unsigned char *vec)
{
	uint64_t mask;
	long r;

	if (!local_begin(mm, &mask))
		return hop_call(mm, HOP_PAGE_STATE, (long)addr, (long)len, (long)vec, 0, 0, 0, 0);
	r = do_page_state(mm, addr, len, vec);
	local_end(mm, &mask);
	return r;
}

long mm_verify(struct mm *mm, struct verify *v)
{
	uint64_t mask;
	long r = 0;

	for (unsigned tries = 0; tries < VERIFY_TRIES; tries++) {
		if (local_begin(mm, &mask)) {
			r = do_verify(mm, v);
			local_end(mm, &mask);
		} else {
			r = hop_call(mm, HOP_VERIFY, (long)v, 0, 0, 0, 0, 0, 0);
		}
		if (r != 0 || v->differences == 0)
			break;
		sys_bare(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	return r != 0 ? r : (long)v->differences;
}

/* ---- fork ---- */

/* In the child: the regions as fork(2) hands them on, without locks and what the program keeps from children. */
static void regions_forked(struct mm *mm)
{
	const struct region *r, *next;

	if (mm->lock_future)
		mm->lock_future = false;
	if (mm->regions.locked_pages != 0)
		region_change(&mm->regions, 0, addr_of(VPN_MAX), -1, 0,
			      REGION_LOCKED | REGION_LOCKONFAULT);
	for (r = region_next(&mm->regions, 0); r != NULL; r = next) {
		next = r->next;
		if (r->flags & REGION_DONTFORK)
			region_remove(&mm->regions, r->start, r->end);
	}
}

/* The kernel's fork, of a consistent tree, with the mm lock held; a confined child can have no pager. */
static long fork_unpaged(struct mm *mm, long nr, const long arg[6])
{
	long r = sys_bare(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);

	if (r != 0) {
		grant_forked(mm, !sys_err(r), (pid_t)r);
		return r;
	}
	/* what is not written to is not copied */
	if (mm->pagers_up) {
		mm->pagers_up = 0;
		memset(mm->pager, 0, sizeof(mm->pager));
	}
	if (mm->left_changing != 0)
		mm->left_changing = 0;
	regions_forked(mm);
	if (mm->group != NULL && grant_child(mm) != 0) {
		mm_log(mm, FL_LOG_ERROR,
		       "fork: the group has no memory for the child, which is ended");
		for (;;)
			SYS2(kill, SYS0(getpid), SIGKILL);
	}
	return 0;
}

long mm_fork(struct mm *mm, long nr, const long arg[6])
{
	uint64_t mask;
	long r;

	if (local_begin(mm, &mask)) {
		if (!mm->pagers_up || mm->confined) {
			r = mm->group != NULL ? grant_fork_unarmed(mm) : 0;
			if (r == 0)
				r = fork_unpaged(mm, nr, arg);
			else
				r = !mm->confined ? -ERESTART : -ENOMEM;
			local_end(mm, &mask);
			if (r != -ERESTART)
				return r;
			/* parent and child fit when they are paged */
			if (arm(mm) != 0)
				return -ENOMEM;
		} else {
			local_end(mm, &mask);
		}
	}
	return fork_paged(mm, nr, arg);
}

/* ---- exit ---- */

#define PF_IO_WORKER 0x10UL /* a ring's worker: the kernel's own */

static bool is_worker(uint32_t tid)
{
	uint64_t flags;

	/* one that cannot be looked at is gone meanwhile */
	return !proc_stat(AT_FDCWD, tid, PROC_STAT_FLAGS, &flags) || (flags & PF_IO_WORKER);
}

struct only {
	const struct mm *mm;
	uint32_t self; /* 0: the first that is found */
};

static bool is_extra(uint32_t tid, void *arg)
{
	struct only *o = arg;

	if (tid == o->self || pager_is(o->mm, tid) || is_worker(tid))
		return true;
	if (o->self != 0)
		return false;
	o->self = tid;
	return true;
}

bool mm_alone(const struct mm *mm)
{
	struct only o = {.mm = mm, .self = (uint32_t)SYS0(gettid)};

	return proc_threads(AT_FDCWD, is_extra, &o);
}

/* On a pager, for a thread that waits; and exit_group(2) may be forbidden to it, too. */
static long end_if_alone(struct pager *p, void *status)
{
	struct only o = {.mm = p->mm};

	if (proc_threads(AT_FDCWD, is_extra, &o))
		SYS1(exit_group, status);
	return 0;
}

void mm_exit(struct mm *mm, int status)
{
	if (!mm->pagers_up)
		return;
	if (mm_is_filtered(mm))
		hop_run(mm, end_if_alone, (void *)(intptr_t)status);
	else if (mm_alone(mm))
		SYS1(exit_group, status);
}

/* ---- under a filter of the program's ---- */

bool mm_is_filtered(const struct mm *mm)
{
	return __atomic_load_n(&mm->choice.filtered, __ATOMIC_RELAXED);
}

long mm_ask(struct mm *mm, long (*fn)(struct pager *p, void *arg), void *arg)
{
	if (mm->pagers_up)
		return hop_run(mm, fn, arg);
	return mm_is_filtered(mm) ? 0 : fn(NULL, arg);
}
