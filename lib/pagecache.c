/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pagecache.c - cached pages of files; see pagecache.h.
 *
 * The clock.  Nobody tells when a mapped page is touched, so the clock has two
 * hands that go around all cached pages.  The leading one unmaps a page and
 * marks it CACHE_IDLE; a touch meanwhile is a fault without I/O, and makes the
 * page YOUNG.  The hand that follows drops what is still IDLE.  What is read
 * once by a scan thus leaves without having displaced what is touched again.
 *
 * Before the hands go, what streams have passed over goes the same way, the oldest first
 * (the trail): so a scan does not even have what is in use unmapped.  Its runs say
 * where to look only: what a stream found there, or was touched again, is not PLACED and is
 * left to the hands, and so is what the trail never comes to.
 *
 * Taking over.  What is LOOSE may be stored to by a process that has not come: one that
 * is stopped, say.  Its page is put into a pipe, which refers to the frame and copies
 * nothing, and punched out of the memfd, which takes it from every mapping of every
 * process; so what the pipe then has is the last that anybody stored there, and it is
 * put back.
 *
 * Accepted: a server that is killed between these last two steps, within some µs, loses
 * what was stored within the same µs by a process that has not come.  So does one whose
 * memfds have frames of several pages (shmem_enabled is neither never nor advise) within some
 * µs before.  A LOOSE page whose bytes change, and change back, between its checksum
 * and the read of the device that writes it is thought clean, while the file has what was
 * in between.
 */
#include "pagecache.h"

#include "choose.h"
#include "do.h"
#include "mm.h"
#include "source.h"
#include "store-client.h"
#include "sys.h"
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RECENT_TICK 10000000U /* ns */
#define FRAME (CACHE_UPTODATE | CACHE_LOCKED)
#define LEAD_BATCH 256U
#define REVOLUTIONS 3U
#define LOOK_PART 8U   /* of what leaves while there is a trail the clock gives that part */
#define TRAIL_KEPT 64U /* this part of the frames, brought last, stays; twice that, */
#define WAIT_MAX 1024U /* but not more, waits to be touched again */

/* ---- words ---- */

static struct cache_chunk *chunk_of(const struct pagecache *pc, uint64_t page)
{
	uint64_t i = page / CHUNK_PAGES;

	return i < CACHE_CHUNKS ? pc->chunk[i] : NULL;
}

uint32_t cache_get(const struct pagecache *pc, uint64_t page)
{
	const struct cache_chunk *c = chunk_of(pc, page);

	return c != NULL ? __atomic_load_n(&c->word[page % CHUNK_PAGES], __ATOMIC_RELAXED) : 0;
}

char *cache_addr(const struct pagecache *pc, uint64_t page)
{
	return chunk_of(pc, page)->alias + (page % CHUNK_PAGES) * PAGE_SIZE;
}

static long cover(struct pagecache *pc, uint64_t pages)
{
	long r;

	if (pages <= pc->memfd_pages)
		return 0;
	r = SYS2(ftruncate, pc->memfd, pages << PAGE_SHIFT);
	if (!sys_err(r))
		pc->memfd_pages = pages;
	return r;
}

int cache_cover(struct pagecache *pc, uint64_t pages)
{
	return sys_err(cover(pc, pages)) ? -ENOMEM : 0;
}

static void chunk_free(struct cache_chunk *c)
{
	if (c->alias != NULL)
		SYS2(munmap, c->alias, CHUNK_BYTES);
	if (c->word != NULL)
		SYS2(munmap, c->word, CHUNK_PAGES * sizeof(*c->word));
	if (c->sum != NULL)
		sys_mem_free(c->sum, CHUNK_PAGES * sizeof(*c->sum));
	sys_mem_free(c, sizeof(*c));
}

int cache_reserve(struct pagecache *pc, uint64_t page)
{
	const size_t words = CHUNK_PAGES * sizeof(uint32_t);
	uint64_t i = page / CHUNK_PAGES, end = (i + 1) * CHUNK_PAGES;
	struct cache_chunk *c;
	long r;

	if (i >= CACHE_CHUNKS)
		return -EFBIG;
	/* no more than the file needs: RLIMIT_FSIZE counts the memfd as a file */
	r = cover(pc, cache_pages(pc) < end ? cache_pages(pc) : end);
	if (sys_err(r))
		return (int)r;
	if (pc->chunk[i] != NULL)
		return 0;
	if (i >= pc->chunks) {
		/* a server's reach behind all words */
		r = pc->mm->flags & MM_SERVER ? 0 : SYS2(ftruncate, pc->state_fd, (i + 1) * words);
		if (sys_err(r))
			return (int)r;
		pc->chunks = i + 1;
	}
	c = sys_mem_alloc(sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	c->alias = sys_mem_map(CHUNK_BYTES, MAP_SHARED | MAP_NORESERVE, pc->memfd, i * CHUNK_BYTES);
	c->word = sys_mem_map(words, MAP_SHARED | MAP_NORESERVE, pc->state_fd, i * words);
	if (c->alias == NULL || c->word == NULL) {
		chunk_free(c);
		return -ENOMEM;
	}
	sys_mem_nodump(c->alias, CHUNK_BYTES);
	SYS3(madvise, c->alias, CHUNK_BYTES, MADV_DONTFORK);
	SYS3(madvise, c->alias, CHUNK_BYTES, MADV_NOHUGEPAGE);
	pc->chunk[i] = c;
	return 0;
}

static void count(uint64_t *total, bool was, bool is)
{
	if (was != is)
		__atomic_store_n(total, *total + (is ? 1U : (uint64_t)-1), __ATOMIC_RELAXED);
}

static bool is_bound(uint32_t w)
{
	return w & (w & CACHE_ERROR ? CACHE_BOUND & ~CACHE_DIRTY : CACHE_BOUND);
}

/* A word is about to be another: where words are counted. */
static void recount(struct pagecache *pc, uint64_t page, uint32_t was, uint32_t word)
{
	struct cache_chunk *c = chunk_of(pc, page);
	unsigned b = (unsigned)(page % CHUNK_PAGES / CACHE_BLOCK);
	struct files *f = &pc->mm->files;
	bool frame = word & FRAME;
	bool dirty = word & CACHE_DIRTY;

	count(&f->frames, was & FRAME, frame);
	count(&f->dirty, was & CACHE_DIRTY, dirty);
	count(&f->writeback, was & CACHE_WRITEBACK, word & CACHE_WRITEBACK);
	count(&f->bound, is_bound(was), is_bound(word));
	count(&f->idle, was & CACHE_IDLE, word & CACHE_IDLE);
	count(&f->recent, was & CACHE_RECENT, word & CACHE_RECENT);
	count(&pc->loose, was & CACHE_LOOSE, word & CACHE_LOOSE);
	count(&pc->frames, was & FRAME, frame);
	count(&pc->dirty, was & CACHE_DIRTY, dirty);
	count(&pc->recent, was & CACHE_RECENT, word & CACHE_RECENT);
	c->block[b].frames = (uint16_t)(c->block[b].frames + frame - ((was & FRAME) != 0));
	c->block[b].dirty = (uint16_t)(c->block[b].dirty + dirty - ((was & CACHE_DIRTY) != 0));
}

void cache_set(struct pagecache *pc, uint64_t page, uint32_t word)
{
	uint32_t *w = &chunk_of(pc, page)->word[page % CHUNK_PAGES];

	recount(pc, page, *w, word);
	__atomic_store_n(w, word, __ATOMIC_RELAXED);
}

uint64_t cache_next_before(const struct pagecache *pc, uint64_t page, uint64_t stop, uint32_t mask)
{
	while (page < stop && page / CHUNK_PAGES < pc->chunks) {
		const struct cache_chunk *c = chunk_of(pc, page);
		unsigned i = (unsigned)(page % CHUNK_PAGES);
		unsigned b = i / CACHE_BLOCK;

		if (c == NULL) {
			page = (page / CHUNK_PAGES + 1) * CHUNK_PAGES;
			continue;
		}
		if (mask == CACHE_DIRTY ? c->block[b].dirty == 0 : c->block[b].frames == 0) {
			page = (page / CACHE_BLOCK + 1) * CACHE_BLOCK;
			continue;
		}
		do {
			if (c->word[i++] & mask)
				return page;
			page++;
		} while (page % CACHE_BLOCK != 0);
	}
	return CACHE_NONE;
}

uint64_t cache_next(const struct pagecache *pc, uint64_t page, uint32_t mask)
{
	return cache_next_before(pc, page, CACHE_NONE, mask);
}

/* ---- opening ---- */

/*
 * What other processes have copies of cannot be made smaller by them, nor (by other
 * users, from a copy that is for reading) opened anew for writing.
 */
static long make_memfd(const struct pagecache *pc, const char *name)
{
	bool shared = pc->mm->flags & MM_SERVER;
	long fd = SYS2(memfd_create, name, MFD_CLOEXEC | (shared ? MFD_ALLOW_SEALING : 0));
	long r;

	if (sys_err(fd) || !shared)
		return fd;
	r = SYS3(fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
	if (!sys_err(r))
		r = sys_bare(SYS_fchmod, fd, 0600, 0, 0, 0, 0);
	if (!sys_err(r))
		return fd;
	SYS1(close, fd);
	return r;
}

/* Ours are the words, and what they tell of; -EAGAIN: somebody's. */
static long lock_words(const struct pagecache *pc)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return SYS3(fcntl, pc->state_fd, F_OFD_SETLK, &whole);
}

static uint64_t ino_of(int fd)
{
	struct stat st;

	return sys_err(SYS2(fstat, fd, &st)) ? 0 : st.st_ino;
}

static int make_memfds(struct pagecache *pc)
{
	long r = make_memfd(pc, "faultline-cache");

	if (sys_err(r))
		return (int)r;
	pc->memfd = (int)r;
	pc->memfd_ino = pc->mm->flags & MM_SERVER ? ino_of(pc->memfd) : 0;
	r = make_memfd(pc, "faultline-cache-state");
	if (sys_err(r))
		return (int)r;
	pc->state_fd = (int)r;
	if (!(pc->mm->flags & MM_SERVER))
		return 0;
	r = make_memfd(pc, "faultline-marks");
	if (sys_err(r))
		return (int)r;
	pc->marks_fd = (int)r;
	return (int)lock_words(pc);
}

/*
 * Behind a server's words there is what they are of, for another server: who has them may read
 * them only.  A server that lets go of them leaves the time of the file's last change, too, which
 * may be a write of its own.
 */
struct words_of {
	uint64_t dev, ino; /* the file's */
	uint64_t memfd_ino, marks_ino;
	struct left_at {
		int64_t s, ns; /* st_ctim; 0: not known */
	} changed;
};

#define WORDS_OF_AT (CACHE_CHUNKS * CHUNK_PAGES * sizeof(uint32_t))

static bool what_of(const struct pagecache *pc, struct words_of *of)
{
	struct stat memfd, marks;

	memset(of, 0, sizeof(*of));
	if (sys_err(SYS2(fstat, pc->memfd, &memfd)) || sys_err(SYS2(fstat, pc->marks_fd, &marks)))
		return false;
	*of = (struct words_of){pc->dev, pc->ino, memfd.st_ino, marks.st_ino, {0, 0}};
	return true;
}

static bool write_words_of(const struct pagecache *pc)
{
	struct words_of of;

	return !(pc->mm->flags & MM_SERVER) ||
	       (what_of(pc, &of) &&
		SYS4(pwrite, pc->state_fd, &of, sizeof(of), WORDS_OF_AT) == (long)sizeof(of));
}

#define TICK_S 2 /* a file's times are no finer than that, whatever keeps it */

/* What nobody changes from here on may be gone on with; where a change would show. */
static void note_changed(const struct pagecache *pc)
{
	struct timespec now;
	struct left_at at;
	struct stat st;

	if (!(pc->mm->flags & MM_SERVER) || sys_err(SYS2(fstat, pc->fd, &st)))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if (st.st_ctim.tv_sec + TICK_S >= now.tv_sec)
		return;
	at = (struct left_at){st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
	SYS4(pwrite, pc->state_fd, &at, sizeof(at),
	     WORDS_OF_AT + offsetof(struct words_of, changed));
}

/* Without its memfds. */
static struct pagecache *make_bare(struct mm *mm)
{
	struct pagecache *pc = sys_mem_alloc(sizeof(*pc));

	if (pc == NULL)
		return NULL;
	pc->mm = mm;
	pc->memfd = pc->state_fd = pc->fd = pc->rd.fd = pc->wr.fd = pc->tail.fd = -1;
	pc->direct_fd = pc->marks_fd = -1;
	pc->chunk = sys_mem_alloc(CACHE_CHUNKS * sizeof(struct cache_chunk *));
	if (pc->chunk == NULL) {
		cache_free(pc);
		return NULL;
	}
	return pc;
}

static int make(struct mm *mm, struct pagecache **out)
{
	struct pagecache *pc = make_bare(mm);
	int r = pc != NULL ? make_memfds(pc) : -ENOMEM;

	if (r != 0 && pc != NULL)
		cache_free(pc);
	*out = pc;
	return r;
}

static void link_cache(struct pagecache *pc)
{
	struct files *f = &pc->mm->files;

	pc->next = f->first;
	f->first = pc;
	landing_fit(pc->mm);
	stored_tell(pc->mm);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		SYS1(close, fd);
}

/* When a file was made: another one may get its number. */
static uint64_t birth_of(int fd)
{
	struct statx st;

	if (sys_err(sys_bare(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_BTIME, (long)&st, 0)) ||
	    !(st.stx_mask & STATX_BTIME))
		return 0;
	return (uint64_t)st.stx_btime.tv_sec * 1000000000U + st.stx_btime.tv_nsec;
}

static struct ended_cache *find_ended(struct mm *mm, uint64_t dev, uint64_t ino)
{
	struct ended_cache *e = mm->files.ended;

	while (e < mm->files.ended + ENDED_MAX &&
	       (e->failure.number == 0 || e->dev != dev || e->ino != ino))
		e++;
	return e < mm->files.ended + ENDED_MAX ? e : NULL;
}

struct cache_failure *cache_failed(struct mm *mm, uint64_t dev, uint64_t ino)
{
	struct ended_cache *e = find_ended(mm, dev, ino);

	return e != NULL ? &e->failure : NULL;
}

/* The failure of the file behind fd, whose cache has ended; if that may have been another file's, seen. */
static struct cache_failure failure_of(struct mm *mm, int fd, const struct stat *st)
{
	const struct ended_cache *e = find_ended(mm, st->st_dev, st->st_ino);
	struct cache_failure f = {.number = 0};

	if (e == NULL)
		return f;
	f = e->failure;
	f.seen |= e->birth == 0 || e->birth != birth_of(fd);
	return f;
}

/* Who has the file open has not heard of it yet, perhaps, or nobody has. */
static void note_failure(const struct pagecache *pc)
{
	struct files *f = &pc->mm->files;
	struct ended_cache *e;

	if (pc->failure.number == 0 || !(pc->mm->flags & MM_SERVER))
		return;
	e = find_ended(pc->mm, pc->dev, pc->ino);
	if (e != NULL && e->failure.number == pc->failure.number) {
		e->failure.seen |= pc->failure.seen;
		return;
	}
	if (e == NULL) {
		e = &f->ended[f->next_ended];
		f->next_ended = (f->next_ended + 1) % ENDED_MAX;
	}
	*e = (struct ended_cache){pc->dev, pc->ino, birth_of(pc->fd), pc->failure};
}

uint64_t cache_heard(struct mm *mm, const struct pagecache *pc, int fd)
{
	struct cache_failure f = {.number = 0};
	struct stat st;

	if (pc != NULL)
		f = pc->failure;
	else if (!sys_err(SYS2(fstat, fd, &st)))
		f = failure_of(mm, fd, &st);
	return f.number != 0 && !f.seen ? f.number - 1 : mm->files.failures;
}

int cache_news(struct cache_failure *f, uint64_t *heard)
{
	if (f->number <= *heard)
		return 0;
	*heard = f->number;
	f->seen = true;
	return f->err;
}

void cache_free(struct pagecache *pc)
{
	struct files *f = &pc->mm->files;

	note_failure(pc);
	for (struct pagecache **link = &f->first; *link != NULL; link = &(*link)->next) {
		if (*link == pc) {
			*link = pc->next;
			note_changed(pc);
			stored_forget(pc->mm, &pc->users);
			break;
		}
	}
	if (f->lead == pc)
		f->lead = NULL;
	if (f->tail == pc)
		f->tail = NULL;
	trail_forget(&pc->mm->file_trail, pc);
	trail_forget(&pc->mm->file_waiting, pc);
	if (pc->left != 0)
		peers_forget(pc);
	/* the words stay: other processes may go on with what is in the memfd */
	for (uint64_t page = 0; (page = cache_next(pc, page, FRAME)) != CACHE_NONE; page++)
		recount(pc, page, cache_get(pc, page), 0);
	for (unsigned i = 0; i < pc->nfds; i++)
		SYS1(close, pc->fds[i]);
	close_fd(pc->memfd);
	close_fd(pc->marks_fd);
	close_fd(pc->state_fd);
	pc->next = f->dead;
	f->dead = pc;
	cache_bury(pc->mm);
}

void cache_bury(struct mm *mm)
{
	struct files *f = &mm->files;
	struct pagecache *pc;

	/* Pairs with mm_try(): who comes now finds no region of these. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	while ((pc = f->dead) != NULL && __atomic_load_n(&f->lookers, __ATOMIC_SEQ_CST) == 0) {
		f->dead = pc->next;
		for (uint64_t i = 0; i < pc->chunks; i++)
			if (pc->chunk[i] != NULL)
				chunk_free(pc->chunk[i]);
		sys_mem_free(pc->chunk, CACHE_CHUNKS * sizeof(struct cache_chunk *));
		sys_mem_free(pc, sizeof(*pc));
	}
}

/* Open the file of a descriptor of ours anew; -errno where that is not allowed. */
static long reopen(struct mm *mm, int fd, int flags)
{
	char path[48];

	log_format(path, sizeof(path), "thread-self/fd/%d", fd);
	return SYS4(openat, mm->proc_fd, path, flags | O_CLOEXEC | O_NONBLOCK, 0);
}

/* What there may be enough of the next time. */
static bool is_scarce(long err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

/*
 * Descriptors for reading, or for both.  A file that may not be opened again
 * (its mode changed, the process gave up rights) is used through the
 * program's own descriptor; direct I/O is done without where it cannot be had.
 */
static int open_devices(struct pagecache *pc, int dup, bool write)
{
	const int mode = write ? O_RDWR : O_RDONLY;
	long buffered = reopen(pc->mm, dup, mode);
	long direct = reopen(pc->mm, dup, mode | O_DIRECT);

	if (sys_err(buffered)) {
		if (!sys_err(direct))
			SYS1(close, direct);
		if (is_scarce(buffered))
			return (int)buffered;
		/* what is written through that one would go to the file's end */
		if (SYS3(fcntl, dup, F_GETFL, 0) & (O_DIRECT | O_PATH | (write ? O_APPEND : 0)))
			return (int)buffered;
		direct = -EACCES;
		buffered = SYS3(fcntl, dup, F_DUPFD_CLOEXEC, 3);
		if (sys_err(buffered))
			return (int)buffered;
	}
	pc->fds[pc->nfds++] = (int)buffered;
	if (!sys_err(direct))
		pc->fds[pc->nfds++] = (int)direct;
	/* once for reading, perhaps a second time for writing */
	if (pc->fd < 0)
		pc->rd.fd = (int)(sys_err(direct) ? buffered : direct);
	pc->fd = (int)buffered;
	pc->wr.fd = (int)(sys_err(direct) ? buffered : direct);
	pc->tail.fd = pc->fd;
	pc->writable |= write;
	pc->rd.file = pc->wr.file = pc->tail.file = true;
	pc->rd.size = pc->wr.size = pc->tail.size = UINT64_MAX / 2;
	pc->rd.name = pc->wr.name = pc->tail.name = pc->name;
	return 0;
}

/* On one line, of a log or an image's text; one that is cut ends in dots. */
static void note_name(struct pagecache *pc, int dup)
{
	static const char cut[] = "...";
	char path[48];
	long n;

	log_format(path, sizeof(path), "thread-self/fd/%d", dup);
	n = sys_bare(SYS_readlinkat, pc->mm->proc_fd, (long)path, (long)pc->name,
		     sizeof(pc->name) - 1, 0, 0);
	pc->name[sys_err(n) ? 0 : n] = '\0';
	for (char *c = pc->name; *c != '\0'; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	if (n == (long)sizeof(pc->name) - 1)
		memcpy(pc->name + sizeof(pc->name) - sizeof(cut), cut, sizeof(cut));
}

struct pagecache *cache_find(const struct mm *mm, uint64_t dev, uint64_t ino)
{
	struct pagecache *pc = mm->files.first;

	while (pc != NULL && (pc->source != NULL || pc->dev != dev || pc->ino != ino))
		pc = pc->next;
	return pc;
}

static int open_dup(struct mm *mm, int dup, bool write, struct pagecache **out)
{
	struct pagecache *pc;
	struct stat st;
	long r = SYS2(fstat, dup, &st);

	if (sys_err(r))
		return (int)r;
	if (!S_ISREG(st.st_mode))
		return -ENODEV;
	pc = cache_find(mm, st.st_dev, st.st_ino);
	if (pc != NULL) {
		*out = pc;
		pc->orphan_tries = 0;
		cache_renew(pc);
		return write && !pc->writable ? open_devices(pc, dup, true) : 0;
	}
	r = make(mm, &pc);
	if (r != 0)
		return (int)r;
	pc->dev = st.st_dev;
	pc->ino = st.st_ino;
	pc->size = (uint64_t)st.st_size;
	pc->failure = failure_of(mm, dup, &st);
	note_name(pc, dup);
	r = write_words_of(pc) ? open_devices(pc, dup, write) : -ENOMEM;
	if (r != 0) {
		cache_free(pc);
		return (int)r;
	}
	link_cache(pc);
	*out = pc;
	cache_renew(pc);
	return 0;
}

int cache_open_file(struct mm *mm, int fd, bool write, struct pagecache **out)
{
	long dup = mm->pidfd < 0 ? -ENOSYS : SYS3(pidfd_getfd, mm->pidfd, fd, 0);
	int r;

	if (sys_err(dup))
		return (int)dup;
	r = open_dup(mm, (int)dup, write, out);
	SYS1(close, dup);
	return r;
}

int cache_open_here(struct mm *mm, int fd, bool write, struct pagecache **out)
{
	return open_dup(mm, fd, write, out);
}

#define FDS_SPARED 96U /* descriptors that files leave for the rest: areas, forks */

/* Whether the lowest free descriptor is close to the most that there may be. */
static bool is_crowded(int lowest)
{
	struct rlimit most;

	return sys_bare(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&most, 0, 0) == 0 &&
	       (rlim_t)lowest + FDS_SPARED > most.rlim_cur;
}

int cache_open_chosen(struct mm *mm, int fd, const struct file_id *id, struct pagecache **out)
{
	long pidfd = SYS2(pidfd_open, id->tid, PIDFD_THREAD);
	long dup = sys_err(pidfd) && mm->pidfd < 0
			   ? -ENOSYS
			   : SYS3(pidfd_getfd, sys_err(pidfd) ? mm->pidfd : pidfd, fd, 0);
	struct stat st;
	int r = -EBADF;

	if (!sys_err(pidfd))
		SYS1(close, pidfd);
	if (sys_err(dup))
		return (int)dup;
	if (is_crowded((int)dup))
		r = -EMFILE;
	else if (!sys_err(SYS2(fstat, dup, &st)) && st.st_dev == id->dev && st.st_ino == id->ino)
		r = open_dup(mm, (int)dup, false, out);
	SYS1(close, dup);
	return r;
}

int cache_open_source(struct mm *mm, struct source *source, uint64_t size, bool write,
		      struct pagecache **out)
{
	struct pagecache *pc;
	int r = make(mm, &pc);

	if (r != 0)
		return r;
	pc->source = source;
	pc->size = size;
	pc->writable = write;
	log_format(pc->name, sizeof(pc->name), "%s", "a source of the program's");
	link_cache(pc);
	*out = pc;
	return 0;
}

void files_forked(struct mm *mm)
{
	struct files *f = &mm->files;

	/* what is in flight is the parent's; pages that raise SIGBUS do so here, too */
	pool_fini(&f->io_pool);
	pool_init(&f->io_pool, sizeof(struct file_io), (size_t)64 << 10);
	f->frames = f->dirty = f->writeback = f->bound = f->cuts = f->idle = f->recent = 0;
	f->jobs = f->reading = 0;
	f->lead = f->tail = NULL;
	mm->file_trail.count = mm->file_waiting.count = 0;
	mm->file_trail.pages = mm->file_waiting.pages = 0;
	f->next_tick = f->drained = 0;
	f->behind = false;
	landing_forked(mm);
}

int cache_forked(struct pagecache *pc, int fd)
{
	int r;

	for (uint64_t i = 0; i < pc->chunks; i++) {
		struct cache_chunk *c = pc->chunk[i];

		if (c == NULL)
			continue;
		/* the alias was not inherited, and the words are the parent's */
		SYS2(munmap, c->word, CHUNK_PAGES * sizeof(*c->word));
		if (c->sum != NULL)
			sys_mem_free(c->sum, CHUNK_PAGES * sizeof(*c->sum));
		sys_mem_free(c, sizeof(*c));
		pc->chunk[i] = NULL;
	}
	pc->chunks = pc->memfd_pages = pc->frames = pc->dirty = pc->recent = 0;
	pc->inflight = pc->reading = pc->handles = pc->nfds = 0;
	pc->writing[0] = pc->writing[1] = 0;
	pc->writable = false;
	pc->memfd = pc->state_fd = pc->fd = pc->rd.fd = pc->wr.fd = pc->tail.fd = -1;
	pc->direct_reads = 0;
	pc->direct_fd = -1;
	pc->seen_by = NULL;
	pc->cuts = NULL;
	pc->truncating = false;
	pc->syncing = pc->unsynced = 0;
	r = make_memfds(pc);
	if (r == 0)
		r = open_devices(pc, fd, false);
	SYS1(close, fd);
	return r;
}

void cache_sweep(struct pager *p)
{
	struct pagecache *next;

	for (struct pagecache *pc = p->mm->files.first; pc != NULL; pc = next) {
		next = pc->next;
		if (pc->users.count != 0 || pc->handles != 0 || pc->inflight != 0)
			continue;
		if (pc->given_up) {
			cache_free(pc);
			continue;
		}
		if (pc->dirty != 0 || pc->loose != 0 || cache_is_kept(pc))
			continue;
		cache_look_again(pc, 0, CACHE_NONE);
		if (pc->dirty == 0)
			cache_free(pc);
	}
}

/* ---- where pages are mapped ---- */

static bool is_free_to_go(uint32_t w)
{
	return (w & CACHE_UPTODATE) &&
	       !(w & (CACHE_LOCKED | CACHE_DIRTY | CACHE_WRITEBACK | CACHE_RECENT | CACHE_LEFT));
}

bool cache_part(const struct region *r, uint64_t page, uint64_t n, vpn_t *vpn, uint64_t *part)
{
	uint64_t first = vpn_of(r->start) + r->delta;
	uint64_t end = vpn_of(r->end) + r->delta;
	uint64_t from = page > first ? page : first;
	uint64_t to = page + n < end ? page + n : end;

	if (from >= to)
		return false;
	*vpn = from - r->delta;
	*part = to - from;
	return true;
}

bool cache_is_locked(const struct pagecache *pc, uint64_t page)
{
	uint64_t n;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if ((r->flags & (REGION_LOCKED | REGION_HELD)) && (r->flags & REGION_SHARED) &&
		    cache_part(r, page, 1, &vpn, &n))
			return true;
	return false;
}

/* The kernel takes the pages out of every mapping. */
static bool punch(const struct pagecache *pc, uint64_t page, uint64_t n)
{
	return !sys_err(SYS4(fallocate, pc->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			     page << PAGE_SHIFT, n << PAGE_SHIFT));
}

/*
 * Out of other processes' mappings: taken from the memfd, and put back.  Clean
 * pages without I/O only: they are write-protected, so nothing is stored there
 * meanwhile.  Who looks at the words after we were killed in the middle finds pages that are
 * mapped, and as their words say; or holes; or, behind the punch, pages that are being read,
 * and that nobody has mapped.
 */
static void take_and_put(struct pagecache *pc, uint64_t page, uint64_t n)
{
	char *aside = pc->mm->files.aside;

	memcpy(aside, cache_addr(pc, page), n * PAGE_SIZE);
	if (!punch(pc, page, n))
		return;
	for (uint64_t i = page; i < page + n; i++)
		cache_set(pc, i, cache_get(pc, i) ^ (CACHE_UPTODATE | CACHE_LOCKED));
	memcpy(cache_addr(pc, page), aside, n * PAGE_SIZE);
	for (uint64_t i = page; i < page + n; i++)
		cache_set(pc, i, cache_get(pc, i) ^ (CACHE_UPTODATE | CACHE_LOCKED));
}

/* Whether the memfd has a frame for the page. */
static bool is_present(const struct pagecache *pc, uint64_t page)
{
	long at = (long)(page << PAGE_SHIFT);

	return sys_bare(SYS_lseek, pc->memfd, at, SEEK_DATA, 0, 0, 0) == at;
}

static uint64_t *sum_of(const struct pagecache *pc, uint64_t page)
{
	return &chunk_of(pc, page)->sum[page % CHUNK_PAGES];
}

static void read_pipe(const struct files *f, size_t n)
{
	for (size_t have = 0; have < n;) {
		long r = SYS3(read, f->pipe[0], f->aside + have, n - have);

		if (r <= 0)
			log_fatal("a page of a file is lost on its way");
		have += (size_t)r;
	}
}

static bool is_zeros(const char *bytes)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, PAGE_SIZE - 1) == 0;
}

/*
 * For pages that are LOOSE, written and not being written: whether it is as it was written.
 *
 * Where memfds get frames of more than a page, the kernel zeroes what is punched out of
 * one before it tries to split that, which our reference forbids: then the page stays,
 * and has what it had before.
 */
static bool take_from_all(struct pagecache *pc, uint64_t page)
{
	const struct files *f = &pc->mm->files;
	char *before = f->aside + PAGE_SIZE;
	uint64_t sum = *sum_of(pc, page);
	uint32_t w = cache_get(pc, page);
	int64_t at = (int64_t)(page << PAGE_SHIFT);
	bool gone;
	long n = sys_bare(SYS_splice, pc->memfd, (long)&at, f->pipe[1], 0, PAGE_SIZE,
			  SPLICE_F_NONBLOCK);

	if (sys_err(n))
		return false;
	memcpy(before, cache_addr(pc, page), PAGE_SIZE);
	gone = n == (long)PAGE_SIZE && punch(pc, page, 1);
	/* as take_and_put() does: who has it mapped may store to it until here */
	if (gone)
		cache_set(pc, page, w ^ (CACHE_UPTODATE | CACHE_LOCKED));
	read_pipe(f, (size_t)n);
	if (!gone)
		return false;
	if (is_present(pc, page) && is_zeros(f->aside))
		memcpy(f->aside, before, PAGE_SIZE);
	memcpy(cache_addr(pc, page), f->aside, PAGE_SIZE);
	cache_set(pc, page, w & ~CACHE_LOOSE);
	if (XXH3_64bits(f->aside, PAGE_SIZE) == sum)
		return true;
	cache_dirty(pc, page);
	return false;
}

void cache_unmap(struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint64_t part;
	vpn_t vpn;

	if (pc->mm->flags & MM_SERVER) {
		for (uint64_t end = page + n; page < end; page += part) {
			part = 0;
			/* what is copied ends with the chunk */
			while (page + part < end && part < LEAD_BATCH &&
			       part < CHUNK_PAGES - page % CHUNK_PAGES &&
			       is_free_to_go(cache_get(pc, page + part)))
				part++;
			if (part != 0)
				take_and_put(pc, page, part);
			else
				part = 1;
		}
		return;
	}
	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if ((r->flags & REGION_SHARED) && cache_part(r, page, n, &vpn, &part))
			SYS3(madvise, addr_of(vpn), part * PAGE_SIZE, MADV_DONTNEED_LOCKED);
}

bool cache_protect(struct pagecache *pc, uint64_t page, uint64_t n)
{
	bool all = true;
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		if (!(r->flags & REGION_SHARED) || !cache_part(r, page, n, &vpn, &part))
			continue;
		all &= peer_protected(r->peer,
				      uffd_writeprotect(peer_uffd(pc->mm, r->peer), addr_of(vpn),
							part * PAGE_SIZE, true));
		if (r->peer != NULL && (r->prot & PROT_WRITE))
			peer_cleaned(r->peer);
	}
	return all;
}

void cache_wake(struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if (cache_part(r, page, n, &vpn, &part))
			uffd_wake(peer_uffd(pc->mm, r->peer), addr_of(vpn), part * PAGE_SIZE);
}

/* ---- coming and going ---- */

/* Before pages are taken out of the memfd, and when their words say so. */
static void count_drops(struct pagecache *pc, uint64_t page, uint64_t n)
{
	for (uint64_t at = page - page % CACHE_BLOCK; at < page + n; at += CACHE_BLOCK) {
		struct cache_chunk *c = chunk_of(pc, at);
		uint32_t *drops =
			c != NULL ? &c->block[at % CHUNK_PAGES / CACHE_BLOCK].drops : NULL;

		/* Release: who finds pages gone, or other ones there, sees another number. */
		if (drops != NULL)
			__atomic_store_n(drops, *drops + 1, __ATOMIC_RELEASE);
	}
}

bool cache_drop(struct pagecache *pc, uint64_t page, uint64_t n)
{
	uint32_t wasted = 0;

	count_drops(pc, page, n);
	/* first: nobody finds a page that its word says is absent */
	if (!punch(pc, page, n)) {
		count_drops(pc, page, n);
		return false;
	}
	for (uint64_t i = 0; i < n; i++) {
		wasted += (cache_get(pc, page + i) & CACHE_AHEAD) != 0;
		cache_set(pc, page + i, 0);
	}
	count_drops(pc, page, n);
	if (wasted != 0) {
		file_stream_wasted(&pc->streams, wasted);
		stat_add(&pc->mm->stats.readahead_misses, wasted);
	}
	stat_add(&pc->mm->stats.file_dropped, n);
	return true;
}

int cache_leave(struct pagecache *pc, uint64_t page, const void *bytes)
{
	char *place = cache_addr(pc, page);
	long r = SYS6(mmap, place, PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sys_err(r))
		return (int)r;
	SYS3(madvise, place, PAGE_SIZE, MADV_DONTFORK);
	SYS3(madvise, place, PAGE_SIZE, MADV_DONTDUMP);
	cache_set(pc, page, cache_get(pc, page) | CACHE_LEFT);
	if (!punch(pc, page, 1))
		return -EIO;
	r = SYS4(pwrite, pc->memfd, bytes, PAGE_SIZE, page << PAGE_SHIFT);
	if (r != (long)PAGE_SIZE)
		return sys_err(r) ? (int)r : -EIO;
	/* the bytes are the file's of now, whatever its end did before: not GONE */
	cache_set(pc, page, CACHE_UPTODATE | CACHE_LEFT);
	return 0;
}

bool cache_left(struct pagecache *pc, uint64_t page)
{
	char *place = cache_addr(pc, page);
	uint32_t w = cache_get(pc, page);

	if (!(w & CACHE_LEFT))
		return false;
	if (sys_err(SYS6(mmap, place, PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_FIXED | MAP_SHARED | MAP_NORESERVE, pc->memfd, page << PAGE_SHIFT)))
		log_fatal("no memory to map a page of a file again");
	SYS3(madvise, place, PAGE_SIZE, MADV_DONTFORK);
	SYS3(madvise, place, PAGE_SIZE, MADV_DONTDUMP);
	SYS3(madvise, place, PAGE_SIZE, MADV_NOHUGEPAGE);
	w &= ~(CACHE_LEFT | CACHE_DEMAND | CACHE_MANY);
	cache_set(pc, page, w);
	/*
	 * One that could not be given its bytes, or was cut off meanwhile.  And what nobody stored
	 * to is read again: its bytes are of the middle of a write, which may have filled it since.
	 */
	if (!(w & CACHE_UPTODATE) || (w & CACHE_GONE) || is_free_to_go(w))
		cache_drop(pc, page, 1);
	cache_wake(pc, page, 1);
	return true;
}

/* From a byte of a cached page on there are zeros. */
static void zero_rest(const struct pagecache *pc, uint64_t page, size_t from)
{
	static const char zeros[PAGE_SIZE];

	if (cache_get(pc, page) & CACHE_LEFT)
		SYS4(pwrite, pc->memfd, zeros, PAGE_SIZE - from, (page << PAGE_SHIFT) + from);
	else
		memset(cache_addr(pc, page) + from, 0, PAGE_SIZE - from);
}

void cache_forget(struct pagecache *pc, uint64_t page, uint64_t end)
{
	while ((page = cache_next(pc, page, FRAME)) < end) {
		uint64_t n = 0;

		while (page + n < end && n < CACHE_BLOCK &&
		       is_free_to_go(cache_get(pc, page + n)) && !cache_is_locked(pc, page + n))
			n++;
		if (n != 0)
			cache_drop(pc, page, n);
		page += n != 0 ? n : 1;
	}
}

/* ---- what devices store ---- */

/* For how long, so that a cache can be written through at 256 MiB a second. */
static uint64_t recent_ns(const struct mm *mm)
{
	const uint64_t a_second = (uint64_t)1 << (28 - PAGE_SHIFT); /* pages */
	uint64_t ns;

	if (mm->limit / a_second >= RECENT_MAX / 1000000000U)
		return RECENT_MAX;
	ns = mm->limit * 1000000000U / a_second;
	return ns > RECENT_MIN ? ns : RECENT_MIN;
}

static bool is_as_written(const struct pagecache *pc, uint64_t page)
{
	return XXH3_64bits(cache_addr(pc, page), PAGE_SIZE) == *sum_of(pc, page);
}

int cache_note(struct pagecache *pc, uint64_t page, uint64_t n)
{
	struct files *f = &pc->mm->files;
	uint64_t now = sys_now();
	uint32_t tick = (uint32_t)(now / RECENT_TICK) << CACHE_TICK_SHIFT;
	struct cache_chunk *c = chunk_of(pc, page);

	if (c->sum == NULL)
		c->sum = sys_mem_alloc(CHUNK_PAGES * sizeof(*c->sum));
	if (c->sum == NULL)
		return -ENOMEM;
	for (uint64_t i = page; i < page + n; i++) {
		uint32_t w = cache_get(pc, i) & ((1U << CACHE_TICK_SHIFT) - 1);

		*sum_of(pc, i) = XXH3_64bits(cache_addr(pc, i), PAGE_SIZE);
		cache_set(pc, i, w | CACHE_RECENT | tick);
	}
	f->recent_until = now + recent_ns(pc->mm) + RECENT_TICK;
	if (f->next_tick == 0)
		f->next_tick = now + FILE_TICK;
	return 0;
}

/* `now`: of after the last cache_note(), or what was written since would look old. */
static bool settled_at(struct pagecache *pc, uint64_t page, uint64_t now)
{
	uint32_t w = cache_get(pc, page);
	uint16_t age = (uint16_t)((uint32_t)(now / RECENT_TICK) - (w >> CACHE_TICK_SHIFT));

	if (!(w & CACHE_RECENT))
		return true;
	/* the tick that it began in was not whole; at a server's end it is for the next one to say */
	if (pc->mm->files.closing || (w & CACHE_WRITEBACK) ||
	    age <= recent_ns(pc->mm) / RECENT_TICK || cache_is_locked(pc, page))
		return false;
	if (!is_as_written(pc, page)) {
		cache_dirty(pc, page);
		return false;
	}
	if ((w & CACHE_LOOSE) && !take_from_all(pc, page))
		return false;
	cache_set(pc, page, w & ~(CACHE_RECENT | CACHE_LOOSE) & ((1U << CACHE_TICK_SHIFT) - 1));
	return true;
}

bool cache_settled(struct pagecache *pc, uint64_t page)
{
	return settled_at(pc, page, sys_now());
}

void cache_look_again(struct pagecache *pc, uint64_t page, uint64_t stop)
{
	if (pc->recent == 0)
		return;
	for (; (page = cache_next(pc, page, CACHE_RECENT)) < stop; page++)
		if (!is_as_written(pc, page))
			cache_dirty(pc, page);
}

uint64_t cache_may_bind(const struct mm *mm, uint64_t n, bool asked)
{
	uint64_t budget = mm_budget(mm);
	uint64_t most = budget - budget / (asked ? 16 : 8);

	/* what a server reads and writes is behind its store's files, and nobody locks that */
	if (mm->flags & MM_SERVER)
		return n;
	if (mm->files.bound >= most)
		return 0;
	return n < most - mm->files.bound ? n : most - mm->files.bound;
}

void cache_dirty(struct pagecache *pc, uint64_t page)
{
	struct files *f = &pc->mm->files;
	uint32_t w = cache_get(pc, page);
	uint64_t now = sys_now();

	if (!(w & CACHE_DIRTY)) {
		w &= ((1U << CACHE_TICK_SHIFT) - 1) & ~CACHE_RECENT;
		w |= CACHE_DIRTY | (uint32_t)(now / FILE_TICK) << CACHE_TICK_SHIFT;
		if (f->next_tick == 0)
			f->next_tick = now + FILE_TICK;
	}
	cache_set(pc, page,
		  (w & ~(CACHE_IDLE | CACHE_AHEAD | CACHE_PLACED)) |
			  (w & CACHE_IDLE ? CACHE_YOUNG : 0));
}

/* ---- what is durable ---- */

void cache_wrote(struct pagecache *pc, uint64_t page, uint64_t n)
{
	struct cache_chunk *c = chunk_of(pc, page);

	pc->wrote++;
	for (uint64_t i = page % CHUNK_PAGES / CACHE_BLOCK;
	     i <= (page + n - 1) % CHUNK_PAGES / CACHE_BLOCK; i++) {
		pc->unsynced += !c->block[i].unsynced;
		c->block[i].unsynced = true;
	}
}

static void page_synced(struct pagecache *pc, uint64_t page, bool durable)
{
	uint32_t w = cache_get(pc, page);

	if (!(w & CACHE_UNSYNCED) ||
	    (w & (CACHE_UPTODATE | CACHE_LOCKED | CACHE_LEFT | CACHE_GONE)) != CACHE_UPTODATE)
		return;
	cache_set(pc, page, w & ~CACHE_UNSYNCED);
	/* one that is being written will be UNSYNCED, or dirty */
	if (!durable && !(w & CACHE_WRITEBACK))
		cache_dirty(pc, page);
}

void cache_synced(struct pagecache *pc, bool durable)
{
	for (uint64_t i = 0; pc->unsynced != 0 && i < pc->chunks; i++) {
		struct cache_chunk *c = pc->chunk[i];

		for (uint64_t page = 0; c != NULL && page < CHUNK_PAGES; page++) {
			bool *unsynced = &c->block[page / CACHE_BLOCK].unsynced;

			if (page % CACHE_BLOCK == 0 && !*unsynced) {
				page += CACHE_BLOCK - 1;
				continue;
			}
			page_synced(pc, i * CHUNK_PAGES + page, durable);
			if (page % CACHE_BLOCK == CACHE_BLOCK - 1) {
				*unsynced = false;
				pc->unsynced--;
			}
		}
	}
}

/* ---- its size ---- */

/*
 * The file ends elsewhere in the page, or behind it: private mappings that have it as the file's,
 * and not written since, forget it.  What fl_sync() has taken is no longer all there is of it to
 * write: it stays changed.
 */
static void drop_private_clean(struct pagecache *pc, uint64_t page)
{
	struct mm *mm = pc->mm;
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		pte_t pte;

		if ((r->flags & REGION_SHARED) || !cache_part(r, page, 1, &vpn, &part))
			continue;
		pte = pte_get(&mm->ptes, vpn);
		if (pte & PTE_SYNC)
			pte_set_bits(&mm->ptes, vpn, 0, PTE_SYNC);
		else if (pte_state(pte) == PTE_PRESENT && (pte & PTE_WP) &&
			 pte_swp(pte) == SWP_NONE &&
			 !sys_err(SYS3(madvise, addr_of(vpn), PAGE_SIZE, MADV_DONTNEED_LOCKED)))
			pte_set(&mm->ptes, vpn, 0);
	}
}

/* What private mappings have of pages beyond the end goes, too. */
static void drop_private(struct pagecache *pc, uint64_t first)
{
	uint64_t part;
	vpn_t vpn;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next) {
		if ((r->flags & REGION_SHARED) ||
		    !cache_part(r, first, CACHE_PAGES_MAX, &vpn, &part))
			continue;
		SYS3(madvise, addr_of(vpn), part * PAGE_SIZE, MADV_DONTNEED_LOCKED);
		drop_entries(pc->mm, addr_of(vpn), addr_of(vpn + part));
	}
}

/* The file ended, or ends now, within a page that is being read: who knows what the read finds there. */
static void read_again(struct pagecache *pc, uint64_t size)
{
	uint32_t w = cache_get(pc, size >> PAGE_SHIFT);

	if (size % PAGE_SIZE != 0 && (w & CACHE_LOCKED))
		cache_set(pc, size >> PAGE_SHIFT, w | CACHE_GONE);
}

void cache_resize(struct pagecache *pc, uint64_t size)
{
	uint64_t old = pc->size;
	uint64_t first;

	pc->size = size;
	read_again(pc, size > old ? old : size);
	first = cache_pages(pc);
	if (size > old) {
		uint64_t last = old >> PAGE_SHIFT;

		/* what is behind the old end is the file's now */
		if (old % PAGE_SIZE != 0) {
			cache_look_again(pc, last, last + 1);
			if (is_free_to_go(cache_get(pc, last) & ~CACHE_RECENT) &&
			    (!(cache_get(pc, last) & CACHE_LOOSE) || take_from_all(pc, last)))
				cache_drop(pc, last, 1);
			drop_private_clean(pc, last);
		}
		file_sigbus_end(pc->mm, UINT64_MAX);
		return;
	}
	if (size % PAGE_SIZE != 0 && (cache_get(pc, size >> PAGE_SHIFT) & CACHE_UPTODATE))
		zero_rest(pc, size >> PAGE_SHIFT, size % PAGE_SIZE);
	if (size % PAGE_SIZE != 0)
		drop_private_clean(pc, size >> PAGE_SHIFT);
	for (uint64_t page = first; (page = cache_next(pc, page, FRAME)) != CACHE_NONE; page++) {
		uint32_t w = cache_get(pc, page);

		cache_unmap(pc, page, 1);
		if (w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_LEFT))
			cache_set(pc, page, (w & ~(CACHE_DIRTY | CACHE_SYNC)) | CACHE_GONE);
		else if (!cache_drop(pc, page, 1))
			cache_set(pc, page, (w & ~(CACHE_DIRTY | CACHE_SYNC)) | CACHE_GONE);
	}
	drop_private(pc, first);
}

void cache_grow(struct pagecache *pc, uint64_t size)
{
	uint64_t last = pc->size >> PAGE_SHIFT;
	size_t from = pc->size % PAGE_SIZE;

	if (size > pc->size && from != 0 && (cache_get(pc, last) & CACHE_UPTODATE))
		zero_rest(pc, last, from);
}

int cache_look_at_size(struct pagecache *pc)
{
	struct stat st;
	long r = pc->source == NULL ? SYS2(fstat, pc->fd, &st) : 0;

	if (sys_err(r) || pc->source != NULL)
		return (int)r;
	if ((uint64_t)st.st_size != pc->size)
		cache_resize(pc, (uint64_t)st.st_size);
	return 0;
}

void cache_renew(struct pagecache *pc)
{
	struct timespec now;
	struct stat st;
	bool same;

	for (const struct region *r = pc->users.first; r != NULL; r = r->user_next)
		if (region_is_shared(r))
			return;
	if (pc->source != NULL || pc->writable || sys_err(SYS2(fstat, pc->fd, &st)))
		return;
	/*
	 * A change within the tick in which we looked before would not show.  What is
	 * read directly is flushed before by who stores into a mapping of it, and
	 * stores that follow show, too; by way of the kernel's cache they need not.
	 */
	same = pc->rd.fd != pc->fd && st.st_ctim.tv_sec == pc->changed.tv_sec &&
	       st.st_ctim.tv_nsec == pc->changed.tv_nsec &&
	       pc->changed.tv_sec + TICK_S < pc->looked.tv_sec;
	clock_gettime(CLOCK_REALTIME, &now);
	pc->changed = st.st_ctim;
	pc->looked = now;
	if ((uint64_t)st.st_size != pc->size)
		cache_resize(pc, (uint64_t)st.st_size);
	if (same)
		return;
	cache_forget(pc, 0, CACHE_NONE);
	/* the end of its read, or who faults on it, drops what is left */
	for (uint64_t page = 0; (page = cache_next(pc, page, FRAME)) != CACHE_NONE; page++)
		cache_set(pc, page, cache_get(pc, page) | CACHE_GONE);
}

/* ---- taking over ---- */

#define LOCK_TRIES 3U
#define LOCK_NS 50000U
#define STORED (CACHE_DIRTY | CACHE_WRITEBACK | CACHE_RECENT | CACHE_ERROR | CACHE_LOOSE)
#define MARKS_STEP 4096U

/* One that a server of our user made: nobody else's can be of that user, mode and seals. */
static bool is_servers(int fd)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	long has = SYS3(fcntl, fd, F_GET_SEALS, 0);
	struct stat st;

	return !sys_err(has) && (has & seals) == (F_SEAL_SEAL | F_SEAL_SHRINK) &&
	       !sys_err(SYS2(fstat, fd, &st)) && (st.st_mode & 07777) == 0600 &&
	       st.st_uid == (uid_t)sys_bare(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}

static bool is_memfd(const struct pagecache *pc, uint64_t ino)
{
	return pc->memfd_ino == ino;
}

bool cache_has(const struct mm *mm, uint64_t dev, uint64_t ino, uint64_t memfd_ino)
{
	const struct pagecache *pc = cache_find(mm, dev, ino);

	return pc != NULL && is_memfd(pc, memfd_ino);
}

/* Whether they belong together, and to the file; when that had changed last, if it was noted. */
static bool is_of(const struct pagecache *pc, struct left_at *changed)
{
	const long least = offsetof(struct words_of, changed);
	struct words_of of, is;
	long n;

	memset(&of, 0, sizeof(of));
	n = SYS4(pread, pc->state_fd, &of, sizeof(of), WORDS_OF_AT);
	*changed = n == (long)sizeof(of) ? of.changed : (struct left_at){0, 0};
	return !sys_err(n) && n >= least && what_of(pc, &is) && memcmp(&of, &is, least) == 0;
}

static bool is_as_left(const struct left_at *changed, const struct stat *st)
{
	return changed->s != 0 && changed->s == st->st_ctim.tv_sec &&
	       changed->ns == st->st_ctim.tv_nsec;
}

/* Have the words, as far as there are any. */
static int take_chunks(struct pagecache *pc)
{
	const uint64_t words = CHUNK_PAGES * sizeof(uint32_t);
	struct stat memfd;

	if (sys_err(SYS2(fstat, pc->memfd, &memfd)))
		return -EIO;
	pc->memfd_pages = (uint64_t)memfd.st_size >> PAGE_SHIFT;
	for (uint64_t i = 0; i < CACHE_CHUNKS; i++) {
		long at = sys_bare(SYS_lseek, pc->state_fd, (long)(i * words), SEEK_DATA, 0, 0, 0);
		int err;

		if (sys_err(at))
			return (int)at;
		i = (uint64_t)at / words;
		err = i < CACHE_CHUNKS ? cache_reserve(pc, i * CHUNK_PAGES) : 0;
		if (err != 0)
			return err;
	}
	return 0;
}

/* The run of pages that the memfd has at or after the one that is looked at. */
struct there {
	uint64_t from, to;
};

static bool is_there(const struct pagecache *pc, uint64_t page, struct there *t)
{
	if (page >= t->to) {
		long at = sys_bare(SYS_lseek, pc->memfd, (long)(page << PAGE_SHIFT), SEEK_DATA, 0,
				   0, 0);
		long end =
			sys_err(at) ? at : sys_bare(SYS_lseek, pc->memfd, at, SEEK_HOLE, 0, 0, 0);

		t->from = sys_err(at) ? CACHE_NONE : (uint64_t)at >> PAGE_SHIFT;
		t->to = sys_err(end) ? CACHE_NONE : (uint64_t)end >> PAGE_SHIFT;
	}
	return page >= t->from && page < t->to;
}

/* Whether a page was stored to, and is there, whole, and the file's. */
static bool is_stored_to(const struct pagecache *pc, uint64_t page, uint32_t w, bool marked,
			 struct there *t)
{
	return (w & CACHE_UPTODATE) && !(w & (CACHE_LOCKED | CACHE_GONE)) &&
	       ((w & STORED) || marked) && page < cache_pages(pc) && is_there(pc, page, t);
}

static void take_word(struct pagecache *pc, uint64_t page, uint32_t w)
{
	recount(pc, page, 0, w);
	__atomic_store_n(&chunk_of(pc, page)->word[page % CHUNK_PAGES], w, __ATOMIC_RELAXED);
}

/* Pages that go: what is not dirty the file has, and may have been changed since by who knows whom. */
static void take_none(struct pagecache *pc, uint64_t page, uint64_t n)
{
	if (n == 0)
		return;
	/* first: nobody finds a page that its word says is absent */
	if (!punch(pc, page, n))
		log_fatal("pages of %s cannot be taken over", pc->name);
	for (uint64_t i = page; i < page + n; i++)
		take_word(pc, i, 0);
}

/*
 * Whether something is not in the file yet, without having any of it mapped.  Who has stored
 * to a page that was clean marked it before; marks and words stand still while we hold the lock.
 */
static bool has_stored(const struct pagecache *pc)
{
	enum { STEP = PAGE_SIZE / sizeof(uint32_t) };
	struct there t = {0, 0};
	uint32_t word[STEP];
	char mark[STEP];

	for (uint64_t page = 0; page < cache_pages(pc); page += STEP) {
		long at = sys_bare(SYS_lseek, pc->state_fd, (long)(page * sizeof(word[0])),
				   SEEK_DATA, 0, 0, 0);

		/* what cannot be known is taken for stored to */
		if (sys_err(at))
			return true;
		page = (uint64_t)at / sizeof(word);
		page *= STEP;
		if (page >= cache_pages(pc))
			return false;
		memset(word, 0, sizeof(word));
		memset(mark, 0, sizeof(mark));
		if (sys_err(SYS4(pread, pc->state_fd, word, sizeof(word),
				 page * sizeof(word[0]))) ||
		    sys_err(SYS4(pread, pc->marks_fd, mark, sizeof(mark), page)))
			return true;
		for (unsigned i = 0; i < STEP; i++)
			if (word[i] != 0 && is_stored_to(pc, page + i, word[i], mark[i] != 0, &t))
				return true;
	}
	return false;
}

/* Go over what was left: it is ours from now on. */
static void take_words(struct pagecache *pc)
{
	uint32_t tick = (uint32_t)(sys_now() / FILE_TICK) << CACHE_TICK_SHIFT;
	struct there t = {0, 0};
	char mark[MARKS_STEP];
	uint64_t gone = 0; /* pages before this one */

	for (uint64_t page = 0; page < pc->chunks * CHUNK_PAGES; page++) {
		const struct cache_chunk *c = chunk_of(pc, page);
		uint32_t w;

		if (page % MARKS_STEP == 0) {
			take_none(pc, page - gone, gone);
			gone = 0;
		}
		if (c == NULL) {
			page += CHUNK_PAGES - 1;
			continue;
		}
		if (page % MARKS_STEP == 0) {
			memset(mark, 0, sizeof(mark));
			/* what cannot be known is taken for stored to */
			if (sys_err(SYS4(pread, pc->marks_fd, mark, sizeof(mark), page)))
				memset(mark, 1, sizeof(mark));
		}
		w = c->word[page % CHUNK_PAGES];
		if (w != 0 && is_stored_to(pc, page, w, mark[page % MARKS_STEP] != 0, &t)) {
			take_none(pc, page - gone, gone);
			gone = 0;
			take_word(pc, page, CACHE_UPTODATE | CACHE_DIRTY | CACHE_LOOSE | tick);
		} else if (w != 0) {
			gone++;
		} else {
			take_none(pc, page - gone, gone);
			gone = 0;
		}
	}
	take_none(pc, pc->chunks * CHUNK_PAGES - gone, gone);
}

static int take_all(struct pagecache *pc, bool unchanged, bool write)
{
	struct files *f = &pc->mm->files;
	struct stat st;
	int r;

	if (!(write && unchanged) && has_stored(pc))
		return unchanged ? -EAGAIN : -EBUSY;
	r = take_chunks(pc);
	if (r != 0)
		return r;
	take_words(pc);
	/* the words have what the marks said */
	if (!sys_err(SYS2(fstat, pc->marks_fd, &st)) && st.st_size != 0)
		SYS4(fallocate, pc->marks_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		     st.st_size);
	cache_keep(pc, CACHE_KEEP_NS);
	if (f->next_tick == 0)
		f->next_tick = sys_now() + FILE_TICK;
	return 0;
}

void cache_keep(struct pagecache *pc, uint64_t ns)
{
	uint64_t until = sys_now() + ns;

	if (pc->keep_until < until)
		pc->keep_until = until;
}

bool cache_is_kept(const struct pagecache *pc)
{
	return pc->left != 0 || (pc->keep_until != 0 && sys_now() < pc->keep_until);
}

/* Another server has them, or one that has not gone yet. */
static bool is_held(const struct pagecache *pc)
{
	struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return !sys_err(SYS3(fcntl, pc->state_fd, F_OFD_GETLK, &whole)) && whole.l_type == F_WRLCK;
}

/*
 * A client that answers itself has the lock for some µs; one that is stopped then, for long.
 * Who asks us asks again.
 */
static long lock_left_words(const struct pagecache *pc)
{
	long r = lock_words(pc);

	for (unsigned tries = 0; r == -EAGAIN && tries < LOCK_TRIES && !is_held(pc); tries++) {
		uint32_t word = 0;

		futex_wait(&word, 0, LOCK_NS);
		r = lock_words(pc);
	}
	return r;
}

static long reopen_left(struct mm *mm, int fd, int *out)
{
	long r = reopen(mm, fd, O_RDWR);

	if (sys_err(r))
		return is_scarce(r) ? r : -EPERM;
	*out = (int)r;
	return 0;
}

static long take(struct mm *mm, int fd, bool write, const struct cache_before *before,
		 struct pagecache **out)
{
	struct left_at changed = {0, 0};
	struct pagecache *pc;
	struct stat st;
	long r = SYS2(fstat, fd, &st);

	if (sys_err(r))
		return r;
	pc = cache_find(mm, st.st_dev, st.st_ino);
	if (pc != NULL) {
		if (!is_memfd(pc, before->memfd_ino))
			return -EBUSY;
		*out = pc;
		return write && !pc->writable ? open_devices(pc, fd, true) : 0;
	}
	if (before->memfd < 0)
		return -EAGAIN;
	if (!is_servers(before->memfd) || !is_servers(before->state_fd) ||
	    !is_servers(before->marks_fd))
		return -EPERM;
	pc = make_bare(mm);
	if (pc == NULL)
		return -ENOMEM;
	pc->dev = st.st_dev;
	pc->ino = st.st_ino;
	pc->size = (uint64_t)st.st_size;
	pc->failure = failure_of(mm, fd, &st);
	note_name(pc, fd);
	r = reopen_left(mm, before->memfd, &pc->memfd);
	pc->memfd_ino = before->memfd_ino;
	if (r == 0)
		r = reopen_left(mm, before->state_fd, &pc->state_fd);
	if (r == 0)
		r = reopen_left(mm, before->marks_fd, &pc->marks_fd);
	if (r == 0)
		r = is_of(pc, &changed) ? lock_left_words(pc) : -EPERM;
	if (r == 0)
		r = open_devices(pc, fd, write);
	if (r == 0)
		r = take_all(pc, before->unchanged || is_as_left(&changed, &st), write);
	if (r != 0) {
		cache_free(pc);
		return r;
	}
	link_cache(pc);
	*out = pc;
	return 0;
}

int cache_take(struct mm *mm, int fd, bool write, const struct cache_before *before,
	       struct pagecache **out)
{
	long r = take(mm, fd, write, before, out);

	return is_scarce(r) ? -EAGAIN : (int)r;
}

/* ---- the clock ---- */

/* The next cached page at or behind a hand; false: once around. */
static bool hand_next(struct mm *mm, struct pagecache **pc, uint64_t *page, uint32_t mask,
		      unsigned *rounds)
{
	for (;;) {
		if (*pc == NULL) {
			if (++*rounds > REVOLUTIONS || mm->files.first == NULL)
				return false;
			*pc = mm->files.first;
			*page = 0;
		}
		*page = cache_next(*pc, *page, mask);
		if (*page != CACHE_NONE)
			return true;
		*pc = (*pc)->next;
		*page = 0;
	}
}

/* Whether a stream brought it, and the trail may come to it. */
static bool is_brought(uint32_t w)
{
	return (w & (CACHE_PLACED | CACHE_AHEAD)) == CACHE_PLACED;
}

/* Whether a page can be unmapped as it is. */
static bool can_idle(struct pagecache *pc, uint64_t page)
{
	uint32_t w = cache_get(pc, page);

	return (w & CACHE_UPTODATE) &&
	       !(w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_IDLE | CACHE_DIRTY | CACHE_LEFT)) &&
	       (!(pc->mm->flags & MM_SERVER) || cache_settled(pc, page)) &&
	       !cache_is_locked(pc, page);
}

/* Pages are unmapped, to see whether they are touched again. */
static void make_idle(struct pagecache *pc, uint64_t page, uint64_t n)
{
	cache_unmap(pc, page, n);
	for (uint64_t i = page; i < page + n; i++)
		cache_set(pc, i, (cache_get(pc, i) & ~(CACHE_YOUNG | CACHE_PLACED)) | CACHE_IDLE);
}

/*
 * Pass over [page, end), which is hot, or some of it; false: it is not to be.  What programs
 * share is hot by what one of them says: that is half of the cache at most.
 */
static bool pass_hot(struct files *f, const struct pagecache *pc, uint64_t page, uint64_t end)
{
	if (!(pc->mm->flags & MM_SERVER)) {
		f->lead_page = end;
		return true;
	}
	if (f->passed >= f->frames / 2)
		return false;
	for (; f->passed < f->frames / 2 && (page = cache_next(pc, page, FRAME)) < end; page++)
		f->passed++;
	f->lead_page = page < end ? page : end;
	return true;
}

/*
 * Unmap what is not young; start writing what is dirty.  False: nothing came of it, nor will.
 * To find out what is hot goes over all mappings of a file: of many ranges of others some are
 * passed at a time.
 */
static bool lead(struct pager *p)
{
	struct mm *mm = p->mm;
	struct files *f = &mm->files;
	unsigned rounds = 0, round = 0;
	unsigned seen = 0, passed = 0;
	bool any = false;

	while (seen < LEAD_BATCH && passed < LEAD_BATCH &&
	       hand_next(mm, &f->lead, &f->lead_page, FRAME, &rounds)) {
		struct pagecache *pc = f->lead;
		uint64_t page = f->lead_page;
		uint32_t w = cache_get(pc, page);
		uint64_t n = 1, end;
		enum fl_priority priority = traits_cached(pc, page, &end);

		if (rounds != round)
			f->passed = 0;
		round = rounds;
		/* the first round begins somewhere, the second one has seen all */
		if (priority == FL_PRIORITY_HOT && rounds < 2 && pass_hot(f, pc, page, end)) {
			passed += (mm->flags & MM_SERVER) != 0;
			continue;
		}
		f->lead_page++;
		seen++;
		if ((w & (CACHE_LOCKED | CACHE_WRITEBACK | CACHE_IDLE | CACHE_LEFT)) ||
		    cache_is_locked(pc, page))
			continue;
		if (is_brought(w) && !(w & CACHE_DIRTY) && priority != FL_PRIORITY_COLD) {
			/* the stream is to pass over it first, unless it has not done so in a round */
			w ^= CACHE_YOUNG;
			cache_set(pc, page, w);
			any = true;
			if (w & CACHE_YOUNG)
				continue;
		}
		if ((w & CACHE_YOUNG) && priority != FL_PRIORITY_COLD) {
			cache_set(pc, page, w & ~CACHE_YOUNG);
			continue;
		}
		if (w & CACHE_DIRTY) {
			n = w & CACHE_ERROR ? 0 : cache_write(p, pc, page, CACHE_BLOCK);
			any |= n != 0;
			/* what is written cannot be unmapped in other processes: the next time, then */
			if (n == 0 || (mm->flags & MM_SERVER))
				continue;
		}
		if ((mm->flags & MM_SERVER) && !cache_settled(pc, page))
			continue;
		while (n < LEAD_BATCH && page + n < end && !(w & CACHE_DIRTY) &&
		       can_idle(pc, page + n) && !(cache_get(pc, page + n) & CACHE_YOUNG) &&
		       !is_brought(cache_get(pc, page + n)))
			n++;
		make_idle(pc, page, n);
		f->lead_page = page + n;
		seen += (unsigned)n - 1;
		any = true;
	}
	return any || passed == LEAD_BATCH;
}

/*
 * Of `most` pages from there on those that were not touched again leave; up to which one.
 * `now` as for settled_at(): many are looked at for one that leaves where much is written.
 */
static uint64_t drop_idle(struct pagecache *pc, uint64_t page, uint64_t most, uint64_t now,
			  uint64_t *left)
{
	struct mm *mm = pc->mm;
	uint64_t n = 0;

	while (n < most && n < CACHE_BLOCK) {
		uint32_t w = cache_get(pc, page + n);

		if (!(w & CACHE_IDLE) || !is_free_to_go(w & ~CACHE_RECENT) ||
		    cache_is_locked(pc, page + n) || !settled_at(pc, page + n, now))
			break;
		/* what nobody asked for says nothing of what is in use */
		if (!(w & CACHE_AHEAD))
			workingset_left(&mm->ws, WS_FILES, cache_name(pc, page + n), mm_budget(mm));
		n++;
	}
	if (n != 0 && cache_drop(pc, page, n))
		*left += n;
	return page + (n != 0 ? n : 1);
}

void cache_spare(struct pagecache *pc, uint64_t page, uint64_t n, bool now)
{
	uint64_t end = page + n;
	uint64_t left = 0;

	for (uint64_t i = page; i < end; i++) {
		uint32_t w = cache_get(pc, i);

		if ((w & CACHE_UPTODATE) && !(w & CACHE_YOUNG))
			cache_set(pc, i, w | CACHE_IDLE | CACHE_PLACED);
	}
	while (now && page < end)
		page = drop_idle(pc, page, end - page, sys_now(), &left);
}

static uint64_t follow_lead(struct mm *mm, uint64_t want)
{
	struct files *f = &mm->files;
	uint64_t now = sys_now();
	unsigned rounds = 0;
	uint64_t left = 0;

	while (left < want && hand_next(mm, &f->tail, &f->tail_page, CACHE_IDLE, &rounds))
		f->tail_page = drop_idle(f->tail, f->tail_page, want - left, now, &left);
	return left;
}

/* The oldest of the trail, `most` pages of it, are unmapped and wait. */
static void unmap_trail(struct mm *mm, uint64_t most)
{
	const struct trail_run *run = trail_oldest(&mm->file_trail);
	struct pagecache *pc = run->of;
	uint64_t page = run->page;
	uint64_t n = 0, end;

	if (most > run->n)
		most = run->n;
	if (most > LEAD_BATCH)
		most = LEAD_BATCH;
	/* where private copies were made of it, it waits already */
	while (n < most && is_brought(cache_get(pc, page + n)) &&
	       ((cache_get(pc, page + n) & CACHE_IDLE) || can_idle(pc, page + n)) &&
	       traits_cached(pc, page + n, &end) != FL_PRIORITY_HOT)
		n++;
	trail_cut(&mm->file_trail, n != 0 ? n : 1);
	if (n == 0)
		return;
	make_idle(pc, page, n);
	trail_add(&mm->file_waiting, pc, page, n);
}

/* What streams brought leaves, the oldest first, unless it is touched again; the last of it stays. */
static uint64_t shrink_trail(struct mm *mm, uint64_t want)
{
	const uint64_t keep = mm_budget(mm) / TRAIL_KEPT;
	const uint64_t wait = 2 * keep < WAIT_MAX ? 2 * keep : WAIT_MAX;
	uint64_t left = 0;

	while (left < want) {
		const struct trail_run *run = trail_oldest(&mm->file_waiting);
		uint64_t most = want - left;

		if (run == NULL || mm->file_waiting.pages <= wait) {
			if (mm->file_trail.pages <= keep)
				break;
			unmap_trail(mm, mm->file_trail.pages - keep);
			continue;
		}
		if (most > mm->file_waiting.pages - wait)
			most = mm->file_waiting.pages - wait;
		if (most > run->n)
			most = run->n;
		trail_cut(&mm->file_waiting,
			  drop_idle(run->of, run->page, most, sys_now(), &left) - run->page);
	}
	return left;
}

uint64_t cache_shrink(struct pager *p, uint64_t want)
{
	struct mm *mm = p->mm;
	struct files *f = &mm->files;
	uint64_t keep = mm->limit / 8;
	uint64_t left;

	if (f->frames == 0)
		return 0;
	/* what is not of the trail is looked at now and then, too, for it may be in use no longer */
	f->looks += want;
	left = shrink_trail(mm, want - f->looks / LOOK_PART);
	f->looks %= LOOK_PART;
	if (keep > f->frames / 2)
		keep = f->frames / 2;
	for (unsigned tries = 0; left < want && tries < 16; tries++) {
		uint64_t n = 0;

		if (f->idle < keep + want && lead(p) && f->idle < keep)
			continue;
		if (f->idle != 0)
			n = follow_lead(mm, want - left);
		if (n == 0 && !lead(p))
			break;
		left += n;
	}
	return left;
}

/* ---- I/O ---- */

static void io_ended(struct blk_req *req, int res)
{
	struct file_io *io = (struct file_io *)(void *)req;

	io->done(io, res);
}

static void start(struct file_io *io)
{
	struct pagecache *pc = io->pc;

	io->req.done = io_ended;
	io->req.off = io->page << PAGE_SHIFT;
	if (pc->source != NULL) {
		source_post(pc->source, io);
		return;
	}
	if (io->req.op == BLK_READ || io->req.op == BLK_WRITE) {
		io->req.iov = &io->iov;
		io->req.niov = 1;
	}
	blkio_queue(io->pager->io, &io->req);
}

void cache_start(struct file_io *io)
{
	struct pagecache *pc = io->pc;

	pc->inflight++;
	if (pc->source != NULL)
		pc->mm->files.jobs++;
	if (io->req.op == BLK_SYNC) {
		pc->syncing++;
		io->wrote = pc->wrote;
	} else if (io->req.op == BLK_WRITE) {
		io->direct = pc->source == NULL && io->req.dev->fd != pc->fd;
	}
	start(io);
}

void cache_io_restart(struct file_io *io)
{
	start(io);
}

bool cache_write_refused(struct file_io *io, int res)
{
	struct pagecache *pc = io->pc;

	if (res != -EINVAL || !io->direct)
		return false;
	pc->wr.fd = pc->fd;
	io->direct = false;
	start(io);
	return true;
}

void cache_io_end(struct file_io *io)
{
	struct pagecache *pc = io->pc;

	pc->inflight--;
	if (io->peer != NULL)
		peer_let_go(io->peer);
	if (pc->source != NULL)
		pc->mm->files.jobs--;
	pool_put(&pc->mm->files.io_pool, io);
}
