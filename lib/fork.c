/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fork.c - duplicating an armed mm; see fork.h.
 *
 * What the child gets.  Everything of ours is private memory, the pool of
 * compressed pages among it, and so copied by the kernel, with these exceptions: page entries are a copy that the parent's
 * pager made; the maps of the areas' slots are shared memory, with a member
 * for the child; the read buffer, doorbells and rings are not inherited, and
 * made anew.  Frames in staging blocks are inherited like any other: a staged
 * page is seen by both, and copied on write.
 *
 * A present page keeps its slot in the child when the slot's write has ended,
 * but not its write-protection, which the kernel does not hand on.  A page
 * that is being read, or was read ahead, is in its slot only for the child.
 *
 * A private mapping of a file has a page cache of its own in the child, empty at
 * first, on the same open file: pages that are none are the file's in both.  Those
 * that equal it and cannot be written are protected anew, and stay known as that.  Where it maps
 * the parent's page cache (REGION_PRIVATE) the child maps its own in that place.
 *
 * Descriptors travel through the socket pair before the clone, so that nobody
 * waits for anybody: the child finds them there.  Both ends are in the
 * program's descriptor table only during the fork.  Each pager keeps its end
 * afterwards: the other's hang-up tells that a process ended that shared slots.
 * A pager's ends of sockets are in its own table, like all that it has open.
 *
 * Accepted: another thread that forks past the hooks in the moment between
 * MADV_DOFORK and MADV_DONTFORK gets memory whose absent pages are zeros.
 */
#include "fork.h"

#include "do.h"
#include "grant.h"
#include "hop.h"
#include "log.h"
#include "mm.h"
#include "pager.h"
#include "share.h"
#include "snapshot.h"
#include "store-client.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

#define FORK_STACK ((size_t)64 << 10)
#define SENT_MAX (4 + 2 * FL_SWAP_MAX)
#define SENT_DEVICE 1 /* what is among the descriptors that are sent */
#define SENT_SHARE 2
#define FDS_MAX 253U /* descriptors that one message carries */
#define KIN_MAX 510U
#define KIN_PATIENCE_NS 500000000U
#define KIN_PAUSE_NS 1000000U
#define SET_TID_MAX 32U
#define ARGS_MAX 256U

enum fork_step { FORK_IDLE, FORK_PREPARED, FORK_DONE, FORK_FAILED };

struct fork_job {
	uint32_t *step; /* futex, enum fork_step, release/acquire; a page shared with the child */
	char *stack;	/* FORK_STACK bytes */
	/* written by the caller, under the fork lock */
	long nr;
	long arg[6];
	long result;
	int sock[2]; /* in the program's table: the pager's end, the child's */
	uint64_t sock_ino;
	uint32_t tid;
	uintptr_t tp; /* its thread pointer */
	bool in_child;
	pid_t pid; /* the child's, 0 while it is not known */
	/* written by the pager, while the caller waits */
	int link; /* the pager's end in its own table */
	struct pte_table ptes;
	struct slot_map *map[FL_SWAP_MAX];
};

/* Processes that share our areas: the parent, and children. */
struct kin {
	int epoll;
	unsigned n;
	uint64_t until; /* one has ended, what it held is not free yet: look on until then, */
	uint64_t next;	/* and not again before then */
	int fd[KIN_MAX];
};

/* ---- kin ---- */

static int watch(struct kin *k, int fd, bool edge)
{
	struct epoll_event e = {.events = EPOLLIN | (edge ? EPOLLET : 0), .data = {.fd = fd}};

	return (int)SYS4(epoll_ctl, k->epoll, EPOLL_CTL_ADD, fd, &e);
}

/*
 * Beside the userfaultfd pagers watch an epoll of all sockets, once there is one; not
 * both through one epoll: each fault would wake them through two queues.
 */
static struct kin *kin_get(struct mm *mm)
{
	struct kin *k = mm->kin;

	if (k != NULL)
		return k;
	k = sys_mem_alloc(sizeof(*k));
	if (k == NULL)
		return NULL;
	k->epoll = (int)SYS1(epoll_create, EPOLL_CLOEXEC);
	if (k->epoll < 0) {
		sys_mem_free(k, sizeof(*k));
		return NULL;
	}
	mm->kin = k;
	mm->kin_fd = k->epoll;
	return k;
}

int fork_watch(struct mm *mm, int fd, bool edge)
{
	struct kin *k = kin_get(mm);

	return k != NULL ? watch(k, fd, edge) : -ENOMEM;
}

void fork_unwatch(struct mm *mm, int fd)
{
	if (mm->kin != NULL)
		SYS4(epoll_ctl, mm->kin->epoll, EPOLL_CTL_DEL, fd, 0);
}

/* Keep the end of a socket pair whose other end is another process's; it may fail: then its end is found late. */
static void kin_add(struct mm *mm, int fd)
{
	struct kin *k = kin_get(mm);

	if (k == NULL || k->n == KIN_MAX || watch(k, fd, false) != 0) {
		SYS1(close, fd);
		return;
	}
	k->fd[k->n++] = fd;
}

static void kin_remove(struct kin *k, int fd)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->fd[i] == fd) {
			k->fd[i] = k->fd[--k->n];
			SYS1(close, fd); /* and it is not watched any more */
			return;
		}
}

bool fork_kin_ending(const struct mm *mm)
{
	return mm->kin != NULL && mm->kin->until != 0;
}

/*
 * The socket of an ended process may close a moment before the lock that tells
 * that it lives: so its slots are looked for a few times.
 */
void fork_look_after_kin(struct mm *mm)
{
	struct epoll_event e[16];
	struct kin *k = mm->kin;
	uint64_t now = sys_now();
	long n;

	if (k == NULL || now < k->next)
		return;
	n = SYS6(epoll_wait, k->epoll, e, 16, 0, 0, 8);
	for (long i = 0; i < n; i++) {
		if (stored_ready(mm, e[i].data.fd))
			continue;
		if (mm->group != NULL && e[i].data.fd == group_socket(mm->group)) {
			group_heard(mm->group);
			continue;
		}
		if (snapshot_heard(mm, e[i].data.fd))
			continue;
		kin_remove(k, e[i].data.fd);
		k->until = now + KIN_PATIENCE_NS;
	}
	if (k->until == 0)
		return;
	k->next = now + KIN_PAUSE_NS;
	if (now > k->until)
		k->until = 0;
	if (swap_sweep(&mm->swap))
		mm->swap_full = false;
	/* what it was granted is looked for when it is next needed */
	mm->grant_next = 0;
}

/* ---- in the parent's pager ---- */

/*
 * Around a thread pointer lies what the kernel may touch for the thread at any
 * time (restartable sequences, robust locks), and we do.  It may be managed:
 * what the program gave the thread for a stack holds it.
 */
static const int near_tp[] = {-64, 0, 2560};

static bool caller_is_in(struct mm *mm, uintptr_t tp)
{
	for (unsigned i = 0; i < sizeof(near_tp) / sizeof(near_tp[0]); i++) {
		uintptr_t a = tp + (uintptr_t)(intptr_t)near_tp[i];
		pte_t pte = pte_get(&mm->ptes, vpn_of(a));

		snapshot_spare(mm, vpn_of(a));
		if (region_find(&mm->regions, a) != NULL &&
		    (pte_state(pte) != PTE_PRESENT || (pte & PTE_WP) ||
		     snapshot_unsaved(mm, vpn_of(a))))
			return false;
	}
	return true;
}

/* The caller's descriptor, in this table: the caller's may not be the process's. */
static int fetch(const struct mm *mm, const struct fork_job *job)
{
	long pidfd = SYS2(pidfd_open, job->tid, PIDFD_THREAD);
	struct stat st;
	long fd;

	fd = SYS3(pidfd_getfd, sys_err(pidfd) ? mm->pidfd : pidfd, job->sock[0], 0);
	if (!sys_err(pidfd))
		SYS1(close, pidfd);
	if (sys_err(fd))
		return (int)fd;
	if (sys_err(SYS2(fstat, fd, &st)) || (uint64_t)st.st_ino != job->sock_ino) {
		SYS1(close, fd);
		return -EBADF;
	}
	return (int)fd;
}

struct duplication {
	struct mm *mm;
	struct fork_job *job;
	bool failed;
};

/* The child uses the slot as well. */
static bool share(struct duplication *d, swp_t swp)
{
	unsigned area = swp_area(swp);

	/* the pool is copied by the kernel */
	if (swp_pooled(swp))
		return true;
	return slot_share(d->mm->swap.area[area]->map, d->job->map[area], swp_slot(swp)) == 0;
}

/* Of a mapping of a file that cannot be written for now: the child protects such pages anew. */
static bool stays_clean(const struct mm *mm, vpn_t vpn)
{
	const struct region *r = region_find(&mm->regions, addr_of(vpn));

	return r != NULL && r->users != NULL && !(r->prot & PROT_WRITE);
}

/* An entry as the child has it (the kernel's copy_one_pte). */
static pte_t duplicate(void *arg, vpn_t vpn, pte_t pte)
{
	struct duplication *d = arg;
	struct mm *mm = d->mm;
	const struct stage_page *sp;
	swp_t swp;

	switch (pte_state(pte)) {
	case PTE_PRESENT:
		swp = pte_swp(pte);
		if (swp == SWP_NONE && (pte & PTE_WP) && stays_clean(mm, vpn))
			return pte;
		/* exact tracking: without its protection it is not known to be clean */
		if (swp != SWP_NONE &&
		    (swap_csum(&mm->swap, swp) == 0 || mm->opt.wp == FL_WP_SYNC || !share(d, swp)))
			swp = SWP_NONE;
		return pte_make(PTE_PRESENT, swp, pte & PTE_YOUNG);
	case PTE_SWAPPED:
		if (!share(d, pte_swp(pte)))
			d->failed = true;
		return pte;
	case PTE_STAGED:
		sp = &mm->staging.page[pte_payload(pte)];
		if (sp->state == STAGE_READING || sp->state == STAGE_CACHED) {
			if (!share(d, sp->swp))
				d->failed = true;
			return pte_make(PTE_SWAPPED, sp->swp, 0);
		}
		/* staging_forked() sees which slots the child holds */
		if ((sp->state == STAGE_MOVED || sp->state == STAGE_CLEAN) && sp->swp != SWP_NONE &&
		    swap_csum(&mm->swap, sp->swp) != 0)
			share(d, sp->swp);
		return pte;
	default:
		return pte;
	}
}

static void part_maps(struct mm *mm, struct fork_job *job, bool failed)
{
	for (unsigned i = 0; i < FL_SWAP_MAX; i++) {
		if (job->map[i] != NULL)
			slot_map_part(mm->swap.area[i]->map, job->map[i], failed);
		job->map[i] = NULL;
	}
}

static int join_maps(struct mm *mm, struct fork_job *job)
{
	for (unsigned i = 0; i < mm->swap.narea; i++) {
		int r = 0;

		if (mm->swap.area[i] != NULL)
			r = slot_map_join(mm->swap.area[i]->map, mm->proc_fd, &job->map[i]);
		if (r != 0) {
			part_maps(mm, job, true);
			return r;
		}
	}
	return 0;
}

union fd_message {
	struct cmsghdr head;
	char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

static int send_fds(int link, char byte, const int *fds, unsigned n)
{
	struct iovec iov = {&byte, 1};
	union fd_message control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	long r;

	memset(&control, 0, sizeof(control));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.head), fds, n * sizeof(int));
	r = SYS3(sendmsg, link, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	return r == 1 ? 0 : sys_err(r) ? (int)r : -EIO;
}

/* The files that are mapped, in the order of their list. */
static int send_files(const struct mm *mm, int link)
{
	const struct pagecache *pc = mm->files.first;
	int fds[FDS_MAX];
	int r = 0;

	while (pc != NULL && r == 0) {
		unsigned n = 0;

		for (; pc != NULL && n < FDS_MAX; pc = pc->next)
			if (pc->source == NULL)
				fds[n++] = pc->fd;
		if (n != 0)
			r = send_fds(link, 0, fds, n);
	}
	return r;
}

/* Into the socket, for the child to find. */
static int send_descriptors(struct mm *mm, const struct fork_job *job)
{
	int fds[SENT_MAX];
	unsigned n = 0;
	char sent = (char)(mm->device >= 0 ? SENT_DEVICE : 0);
	int share = share_fork(mm);
	int r;

	if (mm->device >= 0)
		fds[n++] = mm->device;
	if (share >= 0) {
		fds[n++] = share;
		sent |= SENT_SHARE;
	}
	fds[n++] = mm->proc_fd;
	fds[n++] = job->ptes.memfd;
	for (unsigned i = 0; i < mm->swap.narea; i++)
		if (mm->swap.area[i] != NULL) {
			fds[n++] = mm->swap.area[i]->shared_fd;
			fds[n++] = slot_map_fd(job->map[i]);
		}
	r = send_fds(job->link, sent, fds, n);
	/* a child that never comes lets go of it */
	if (share >= 0)
		SYS1(close, share);
	return r != 0 ? r : send_files(mm, job->link);
}

#define REVOKE_TRIES 2000U
#define REVOKE_PAUSE 1000000U /* ns */

/* Children inherit a range, or not any more: which must not fail for want of memory that comes back. */
static long inherit_range(uintptr_t start, size_t len, bool on)
{
	long r = SYS3(madvise, start, len, on ? MADV_DOFORK : MADV_DONTFORK);

	for (unsigned tries = 0; !on && sys_err(r) && tries < REVOKE_TRIES; tries++) {
		uint32_t word = 0;

		futex_wait(&word, 0, REVOKE_PAUSE);
		r = SYS3(madvise, start, len, MADV_DONTFORK);
	}
	if (!on && sys_err(r))
		log_fatal("memory cannot be kept from a child that is forked past us: %s",
			  log_strerror((int)r));
	return r;
}

/* Everything armed is inherited, or nothing of it; what the program asked not to be never is. */
static int inherit(struct mm *mm, bool on)
{
	const struct region *r;
	uintptr_t at = 0;
	long err = inherit_range(mm->staging.base, STAGE_BLOCK_PAGES * PAGE_SIZE, on);

	while (mm->armed && !sys_err(err) && (r = region_next(&mm->regions, at)) != NULL) {
		if (!(r->flags & REGION_DONTFORK))
			err = inherit_range(r->start, r->end - r->start, on);
		at = r->end;
	}
	return (int)err;
}

long fork_prepare(struct mm *mm)
{
	struct fork_job *job = mm->fork;
	struct duplication d = {.mm = mm, .job = job};
	long r;

	if (mm->closing)
		return -ENOMEM;
	/* who replaces memory says so afterwards: no child would hear that */
	if (mm->armed && (mm->regions.held_pages != 0 || !caller_is_in(mm, job->tp)))
		return -ERESTART;
	job->link = fetch(mm, job);
	if (job->link < 0)
		return job->link;
	swap_sweep(&mm->swap);
	r = join_maps(mm, job);
	if (r == 0) {
		r = pte_table_copy(&job->ptes, &mm->ptes, duplicate, &d);
		if (r == 0 && d.failed)
			r = -ENOMEM;
		if (r == 0)
			r = send_descriptors(mm, job);
		if (r == 0)
			r = inherit(mm, true);
		if (r != 0) {
			inherit(mm, false);
			if (job->ptes.chunk != NULL)
				pte_table_close(&job->ptes);
			part_maps(mm, job, true);
		}
	}
	if (r != 0) {
		SYS1(close, job->link);
		return r;
	}
	__atomic_store_n(job->step, FORK_PREPARED, __ATOMIC_RELAXED);
	return 0;
}

void fork_finish(struct mm *mm)
{
	struct fork_job *job = mm->fork;
	uint32_t step;

	/* Acquire: what the caller wrote; pairs with told(). */
	while ((step = __atomic_load_n(job->step, __ATOMIC_ACQUIRE)) == FORK_PREPARED)
		SYS3(futex, job->step, FUTEX_WAIT, FORK_PREPARED);
	inherit(mm, false);
	grant_forked(mm, step == FORK_DONE, job->pid);
	pte_table_close(&job->ptes);
	part_maps(mm, job, step == FORK_FAILED);
	if (step == FORK_FAILED)
		SYS1(close, job->link);
	else
		kin_add(mm, job->link);
	/* Release: the job is the next caller's; pairs with fork_body(). */
	__atomic_store_n(job->step, FORK_IDLE, __ATOMIC_RELEASE);
	SYS3(futex, job->step, FUTEX_WAKE, 1);
}

/* ---- in the child's first pager ---- */

bool fork_is_child(const struct mm *mm)
{
	return mm->fork != NULL && mm->fork->in_child;
}

static int receive(int link, int *fds, unsigned *n, int *sent)
{
	char byte;
	struct iovec iov = {&byte, 1};
	union fd_message control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	long r = SYS3(recvmsg, link, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (r != 1)
		return sys_err(r) ? (int)r : -EIO;
	if ((m.msg_flags & MSG_CTRUNC) || m.msg_controllen < CMSG_LEN(sizeof(int)) ||
	    control.head.cmsg_type != SCM_RIGHTS)
		return -EMFILE;
	*n = (unsigned)((control.head.cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(&control.head), *n * sizeof(int));
	*sent = byte;
	return 0;
}

/* *share: the connection of share.h, or -1. */
static int take_descriptors(struct mm *mm, int link, int *share)
{
	struct fork_job *job = mm->fork;
	struct pte_table old = mm->ptes;
	int fds[FDS_MAX];
	unsigned n, k = 0, want = 2;
	int sent;
	int r = receive(link, fds, &n, &sent);

	if (r != 0)
		return r;
	for (unsigned i = 0; i < mm->swap.narea; i++)
		want += mm->swap.area[i] != NULL ? 2 : 0;
	want += ((sent & SENT_DEVICE) != 0) + ((sent & SENT_SHARE) != 0);
	if (n != want)
		return -EIO;
	mm->device = sent & SENT_DEVICE ? fds[k++] : -1;
	*share = sent & SENT_SHARE ? fds[k++] : -1;
	mm->proc_fd = fds[k++];
	mm->ptes = job->ptes;
	mm->ptes.memfd = fds[k++];
	old.memfd = -1;
	pte_table_close(&old);
	for (unsigned i = 0; i < mm->swap.narea; i++) {
		struct swap_area *a = mm->swap.area[i];

		if (a == NULL)
			continue;
		swap_area_adopt(a, mm->proc_fd, fds[k], job->map[i], fds[k + 1]);
		k += 2;
		job->map[i] = NULL;
	}
	return 0;
}

/* The files that are mapped, with page caches of their own: pages that are none are the file's here, too. */
static int take_files(struct mm *mm, int link)
{
	int fds[FDS_MAX];
	unsigned n = 0, k = 0;
	int r = 0, sent;

	for (struct pagecache *pc = mm->files.first; pc != NULL && r == 0; pc = pc->next) {
		if (pc->source != NULL)
			continue;
		if (k == n) {
			k = 0;
			r = receive(link, fds, &n, &sent);
			if (r != 0)
				break;
		}
		r = cache_forked(pc, fds[k++]);
	}
	return r;
}

/* Pages that equal their file's are write-protected, or not known as that any more. */
static void protect_clean(struct mm *mm, uintptr_t start, uintptr_t end)
{
	vpn_t stop = vpn_of(end);

	for (vpn_t v = vpn_of(start);
	     (v = pte_next(&mm->ptes, v, stop, 1U << PTE_PRESENT)) < stop;) {
		vpn_t n = 0;

		while (v + n < stop) {
			pte_t pte = pte_get(&mm->ptes, v + n);

			if (pte_state(pte) != PTE_PRESENT || !(pte & PTE_WP))
				break;
			n++;
		}
		if (n != 0 &&
		    uffd_writeprotect(mm->uffd, addr_of(v), n * PAGE_SIZE, true) != UFFD_OK)
			for (vpn_t i = 0; i < n; i++)
				pte_set_bits(&mm->ptes, v + i, 0, PTE_WP);
		v += n != 0 ? n : 1;
	}
}

/*
 * The regions as fork(2) hands them on: locks are not, and what the program
 * asked not to be is empty, or (child_start() sees to that) gone.
 */
static int adopt_regions(struct mm *mm)
{
	const struct region *r;
	uintptr_t at = 0;
	int err = region_change(&mm->regions, 0, addr_of(VPN_MAX), -1, 0,
				REGION_LOCKED | REGION_LOCKONFAULT | REGION_HELD);

	while (err == 0 && (r = region_next(&mm->regions, at)) != NULL) {
		uintptr_t start = r->start;
		uint32_t flags = r->flags;
		bool file = r->users != NULL;

		at = r->end;
		if (flags & (REGION_DONTFORK | REGION_WIPEONFORK))
			drop_entries(mm, start, at);
		if (flags & REGION_REMOTE) {
			if (flags & REGION_DONTFORK)
				share_leave(mm, start, at);
			else
				err = share_adopt(mm, r);
			continue;
		}
		if (!(flags & REGION_DONTFORK) && (flags & REGION_SHARED)) {
			err = file_adopt(mm, r);
			continue;
		}
		if (!(flags & REGION_DONTFORK) && mm->armed) {
			err = uffd_register(mm->uffd, start, at - start,
					    file || mm->opt.wp != FL_WP_OFF);
			if (err == 0)
				err = (int)SYS3(madvise, start, at - start, MADV_DONTFORK);
			if (err == 0 && file)
				protect_clean(mm, start, at);
		}
	}
	return err;
}

int fork_adopt(struct mm *mm)
{
	struct fork_job *job = mm->fork;
	int link = job->sock[1];
	int share = -1;
	long r;

	/* none of the program's descriptors is held open here */
	if (link > 0)
		SYS3(close_range, 0, link - 1, 0);
	SYS3(close_range, link + 1, ~0U, 0);
	mm->kin = NULL;
	mm->kin_fd = -1;
	r = take_descriptors(mm, link, &share);
	if (r != 0)
		return (int)r;
	r = uffd_open(mm->device >= 0 ? mm->device : -ENOENT);
	if (sys_err(r))
		return (int)r;
	mm->uffd = mm->wait_fd = (int)r;
	files_forked(mm);
	r = grant_child(mm);
	if (r == 0)
		r = pager_open_proc(mm);
	if (r == 0)
		r = take_files(mm, link);
	if (r == 0)
		r = staging_forked(mm);
	if (r == 0)
		tier_forked(mm);
	if (r == 0) {
		staging_resize(mm); /* the child's limit may be another */
		tier_resize(mm);
		landing_fit(mm);
	}
	if (r == 0)
		r = hop_forked(mm);
	if (r == 0)
		r = share_forked(mm, share);
	if (r == 0)
		r = adopt_regions(mm);
	if (r == 0)
		share_adopted(mm);
	pool_fini(&mm->io_pool);
	pool_init(&mm->io_pool, sizeof(struct swap_io), (size_t)64 << 10);
	if (r == 0) {
		kin_add(mm, link);
		grant_listen(mm);
		snapshot_listen(mm);
	}
	if (r == 0 && mm->store != NULL)
		stored_forked(mm);
	return (int)r;
}

/* ---- the caller ---- */

static void told(struct fork_job *job, enum fork_step step)
{
	uint32_t prepared = FORK_PREPARED;

	/* Release: pairs with fork_finish().  Of caller and child (CLONE_VFORK) the first one tells. */
	__atomic_compare_exchange_n(job->step, &prepared, step, false, __ATOMIC_RELEASE,
				    __ATOMIC_RELAXED);
	SYS3(futex, job->step, FUTEX_WAKE, 1);
}

/*
 * Regions that the program asked not to hand on are holes, and would be taken
 * by memory of our own: the program that touches one must meet nothing there.
 */
static void holes(struct mm *mm, bool fill)
{
	const struct region *r;
	uintptr_t at = 0;

	while ((r = region_next(&mm->regions, at)) != NULL) {
		uintptr_t start = r->start, end = r->end;

		at = end;
		if (!(r->flags & REGION_DONTFORK))
			continue;
		if (fill) {
			SYS6(mmap, start, end - start, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		} else {
			SYS2(munmap, start, end - start);
			region_remove(&mm->regions, start, end);
		}
	}
}

/* In the child, the only thread: what the parent's pagers had, then pagers of its own. */
static int child_start(struct mm *mm, char *why, size_t why_size)
{
	int r;

	holes(mm, true);

	lock_init(&mm->lock, RANK_MM);
	near_forked(mm);
	snapshots_forked(mm);
	mm->pagers_up = 0;
	mm->lock_future = false;
	mm->ndefer = 0;
	mm->pumping = 0;
	mm->left_changing = 0;
	mm->stuck_since = 0;
	mm->oom_said = false;
	mm->failed_said = false;
	memset(&mm->stats, 0, sizeof(mm->stats));
	memset(mm->choice.made, 0, sizeof(mm->choice.made));
	for (unsigned i = 0; i < PAGERS_MAX; i++) {
		if (mm->pager[i] != NULL)
			pager_forget(mm->pager[i]);
		mm->pager[i] = NULL;
	}
	lock_take(&mm->lock);
	r = pager_start(mm, why, why_size);
	holes(mm, false);
	lock_drop(&mm->lock);
	return r;
}

/* clone3(2)'s argument and what it points to, and the same for clone(2), in our own memory. */
struct call {
	uint64_t flags; /* as the program gave them */
	pid_t *parent_tid, *child_tid, *pidfd_to;
	int pidfd;
	pid_t set_tid[SET_TID_MAX];
	size_t args_size;
	union {
		struct clone_args args;
		char room[ARGS_MAX];
	};
};

/* What the kernel would write into the program's memory is written by us, later. */
#define WRITES (CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)

static long make_call(struct call *c, long nr, const long *arg)
{
	memset(c, 0, sizeof(*c));
	if (nr == SYS_clone3) {
		const struct clone_args *given = (const struct clone_args *)arg[0];

		c->args_size = (size_t)arg[1];
		if (c->args_size > sizeof(c->room))
			return -E2BIG;
		memcpy(c->room, given, c->args_size);
		c->flags = c->args.flags;
		c->parent_tid = (pid_t *)(uintptr_t)c->args.parent_tid;
		c->child_tid = (pid_t *)(uintptr_t)c->args.child_tid;
		c->pidfd_to = (pid_t *)(uintptr_t)c->args.pidfd;
		if (c->args_size > offsetof(struct clone_args, set_tid_size) &&
		    c->args.set_tid != 0) {
			if (c->args.set_tid_size > SET_TID_MAX)
				return -EINVAL;
			memcpy(c->set_tid, (const void *)(uintptr_t)c->args.set_tid,
			       c->args.set_tid_size * sizeof(pid_t));
			c->args.set_tid = (uintptr_t)c->set_tid;
		}
		c->args.flags &= ~(uint64_t)WRITES;
		c->args.pidfd = (uintptr_t)&c->pidfd;
		return 0;
	}
	c->flags = nr == SYS_clone ? (uint64_t)arg[0] : SIGCHLD;
	if (nr == SYS_clone) {
		c->parent_tid = c->pidfd_to = (pid_t *)arg[2];
#if defined(__x86_64__)
		c->child_tid = (pid_t *)arg[3];
#else
		c->child_tid = (pid_t *)arg[4];
#endif
	}
	return 0;
}

static long do_call(struct call *c, long nr, const long *arg)
{
	if (nr == SYS_clone3)
		return sys_bare(nr, (long)&c->args, (long)c->args_size, 0, 0, 0, 0);
	if (nr == SYS_clone)
#if defined(__x86_64__)
		return sys_bare(nr, (long)(c->flags & ~(uint64_t)WRITES), 0, (long)&c->pidfd, 0,
				arg[4], 0);
#else
		return sys_bare(nr, (long)(c->flags & ~(uint64_t)WRITES), 0, (long)&c->pidfd,
				arg[3], 0, 0);
#endif
	return sys_bare(nr, 0, 0, 0, 0, 0, 0);
}

static void write_back(const struct call *c, long pid)
{
	if (pid > 0) {
		if (c->flags & CLONE_PARENT_SETTID)
			*c->parent_tid = (pid_t)pid;
		if (c->flags & CLONE_PIDFD)
			*c->pidfd_to = c->pidfd;
		return;
	}
	if (c->flags & CLONE_CHILD_SETTID)
		*c->child_tid = (pid_t)SYS0(gettid);
	if (c->flags & CLONE_CHILD_CLEARTID)
		sys_bare(SYS_set_tid_address, (long)c->child_tid, 0, 0, 0, 0, 0);
}

/* Bring that in, for writing. */
static void touch_caller(const struct mm *mm, uintptr_t tp)
{
	for (unsigned i = 0; i < sizeof(near_tp) / sizeof(near_tp[0]); i++) {
		uintptr_t a = tp + (uintptr_t)(intptr_t)near_tp[i];

		if (region_overlaps(&mm->regions, a & PAGE_MASK, (a & PAGE_MASK) + PAGE_SIZE))
			__atomic_fetch_or((char *)a, 0, __ATOMIC_RELAXED);
	}
}

static void close_sockets(const struct fork_job *job)
{
	SYS1(close, job->sock[0]);
	SYS1(close, job->sock[1]);
}

/* A program may have filled its descriptor table, and fork all the same: for a moment it gets more. */
static long make_sockets(int sock[2])
{
	struct rlimit was, more;
	long r = SYS4(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock);

	if (r != -EMFILE || sys_bare(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&was, 0, 0) != 0 ||
	    was.rlim_max < was.rlim_cur + 2)
		return r;
	more = (struct rlimit){.rlim_cur = was.rlim_cur + 2, .rlim_max = was.rlim_max};
	if (sys_bare(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&more, 0, 0, 0) != 0)
		return r;
	r = SYS4(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock);
	sys_bare(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&was, 0, 0, 0);
	return r;
}

static long refuse(struct mm *mm, const char *what, long err)
{
	mm_log(mm, FL_LOG_ERROR, "fork: %s: %s", what, log_strerror((int)err));
	return -ENOMEM;
}

/* On our own stack; between HOP_FORK and told() nothing of the program's memory may be touched. */
static void fork_body(void *arg)
{
	struct mm *mm = arg;
	struct fork_job *job = mm->fork;
	struct call call;
	struct stat st;
	long r = make_call(&call, job->nr, job->arg);

	if (r == 0)
		r = make_sockets(job->sock);
	if (sys_err(r)) {
		if (r == -EMFILE || r == -ENFILE)
			r = refuse(mm, "no descriptor is free for the moment", r);
		job->result = r;
		return;
	}
	SYS2(fstat, job->sock[0], &st);
	job->sock_ino = st.st_ino;
	do {
		touch_caller(mm, job->tp);
		r = hop_call(mm, HOP_FORK, 0, 0, 0, 0, 0, 0, 0);
	} while (r == -ERESTART);
	if (r == -ENOSPC) { /* of the group's limit: grant_fork() said so */
		close_sockets(job);
		job->result = -ENOMEM;
		return;
	}
	if (r != 0) {
		close_sockets(job);
		job->result = refuse(mm, "the child's pages cannot be shared", r);
		return;
	}
	r = do_call(&call, job->nr, job->arg);
	if (r != 0) {
		job->pid = (pid_t)r;
		told(job, sys_err(r) ? FORK_FAILED : FORK_DONE);
		/* with one table for both, the child takes them from it when it is done with them */
		if (sys_err(r) || !(call.flags & CLONE_FILES))
			close_sockets(job);
	} else {
		char why[LOG_LINE_MAX];
		int err;

		if (call.flags & CLONE_VFORK)
			told(job, FORK_DONE);
		job->in_child = true;
		err = child_start(mm, why, sizeof(why));
		if (err != 0) {
			mm_log(mm, FL_LOG_ERROR,
			       "fork: the child cannot be given its memory, and is ended: %s", why);
			for (;;)
				SYS2(kill, SYS0(getpid), SIGKILL);
		}
		job->in_child = false;
		close_sockets(job);
		/* that one is the parent's */
		sys_mem_free(job->step, PAGE_SIZE);
		job->step = NULL;
	}
	if (!sys_err(r))
		write_back(&call, r);
	job->result = r;
}

/* Call fn(arg) on another stack. */
static void call_on(char *top, void (*fn)(void *), void *arg)
{
#if defined(__x86_64__)
	__asm__ volatile("mov %%rsp, %%rbx\n\t"
			 "mov %[top], %%rsp\n\t"
			 "call *%[fn]\n\t"
			 "mov %%rbx, %%rsp\n\t"
			 : "+D"(arg)
			 : [top] "r"(top), [fn] "r"(fn)
			 : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc",
			   "memory");
#else
	(void)top;
	fn(arg);
#endif
}

static uintptr_t thread_pointer(void)
{
	return (uintptr_t)__builtin_thread_pointer();
}

static struct fork_job *job_get(struct mm *mm)
{
	struct fork_job *job = mm->fork;

	if (job == NULL) {
		job = sys_mem_alloc(sizeof(*job));
		if (job == NULL)
			return NULL;
		mm->fork = job;
	}
	if (job->stack == NULL)
		job->stack = sys_mem_alloc(FORK_STACK);
	if (job->step == NULL)
		job->step = sys_mem_shared(PAGE_SIZE);
	return job->stack != NULL && job->step != NULL ? job : NULL;
}

long fork_paged(struct mm *mm, long nr, const long arg[6])
{
	struct fork_job *job;
	uint32_t step;
	long r = -ENOMEM;

	lock_take(&mm->fork_lock);
	job = job_get(mm);
	if (job != NULL) {
		/* Acquire: the pager is done with the fork before; pairs with fork_finish(). */
		while ((step = __atomic_load_n(job->step, __ATOMIC_ACQUIRE)) != FORK_IDLE)
			SYS3(futex, job->step, FUTEX_WAIT, step);
		job->nr = nr;
		job->pid = 0;
		memcpy(job->arg, arg, sizeof(job->arg));
		job->tid = (uint32_t)SYS0(gettid);
		job->tp = thread_pointer();
		call_on(job->stack + FORK_STACK, fork_body, mm);
		r = job->result;
	}
	lock_drop(&mm->fork_lock);
	return r;
}
