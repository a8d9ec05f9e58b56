/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * open.c - making and ending a runtime's mm; its counters; see open.h.
 */
#include "open.h"

#include "do.h"
#include "in-thread.h"
#include "mm.h"
#include "options.h"
#include "pager.h"
#include "publish.h"
#include "store-client.h"
#include "sys.h"
#include "verify.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define AROUND_DEFAULT FL_WINDOW_MAX /* pages */
#define READAHEAD_DEFAULT 256U	     /* pages */
#define DIRTY_EXPIRE_DEFAULT 5000U   /* ms */
#define DIRTY_BACKGROUND_DEFAULT 12U /* per cent */

/* An age is told by 16 bits: before it wraps, a page is due for longer than it was not. */
#define TICK_MS (FILE_TICK / 1000000U)
_Static_assert(OPT_DIRTY_EXPIRE_MAX / TICK_MS <= UINT16_MAX / 4, "ages wrap");
_Static_assert(OPT_DIRTY_EXPIRE_MIN >= TICK_MS, "finer than ages are told");

/* Regions may follow it. */
#define MM_SIZE ((sizeof(struct mm) + 63) & ~(size_t)63)

static int refuse(char *why, size_t why_size, int err, const char *text)
{
	log_format(why, why_size, "%s", text);
	return err;
}

static int window_option(size_t bytes, uint32_t def, uint32_t *pages)
{
	if (bytes != 0 && (bytes < PAGE_SIZE || bytes > FL_WINDOW_MAX * PAGE_SIZE))
		return -EINVAL;
	*pages = bytes != 0 ? (uint32_t)(bytes / PAGE_SIZE) : def;
	return 0;
}

/* When dirty pages of files are written. */
static int take_dirty(struct mm *mm, const struct fl_options *o, char *why, size_t why_size)
{
	unsigned ms = o->dirty_expire != 0 ? o->dirty_expire : DIRTY_EXPIRE_DEFAULT;

	if (ms < OPT_DIRTY_EXPIRE_MIN || ms > OPT_DIRTY_EXPIRE_MAX)
		return refuse(why, why_size, -EINVAL,
			      "dirty_expire takes 250 to 3600000 milliseconds");
	if (o->dirty_background > OPT_DIRTY_BACKGROUND_MAX)
		return refuse(why, why_size, -EINVAL, "dirty_background takes 1 to 50 per cent");
	mm->opt.dirty_expire = (ms + TICK_MS - 1) / TICK_MS;
	mm->opt.dirty_background =
		o->dirty_background != 0 ? o->dirty_background : DIRTY_BACKGROUND_DEFAULT;
	return 0;
}

/* The pool that is asked for; that it can be opened is tried here, on an application thread. */
static int take_tier(struct mm *mm, const struct fl_options *o, char *why, size_t why_size)
{
	const uint64_t most = (uint64_t)ZPOOL_SPANS_MAX * ZPOOL_SPAN;
	uint64_t pool = (mm->limit << PAGE_SHIFT) / 4;
	int r;

	if (o->reserved != 0)
		return refuse(why, why_size, -EINVAL, "options: reserved is not 0");
	if ((unsigned)o->compress > FL_COMPRESS_ZSTD)
		return refuse(why, why_size, -EINVAL, "no such compression");
	if (o->no_swap && (o->compress == FL_COMPRESS_NONE || o->nareas != 0 || o->store != NULL))
		return refuse(why, why_size, -EINVAL,
			      o->nareas != 0 || o->store != NULL
				      ? "no swap is asked for, and areas are given"
				      : "without swap and compression no page could leave");
	if (o->compress == FL_COMPRESS_NONE)
		return 0;
	if (o->pool != 0)
		pool = o->pool;
	else if (pool > most)
		pool = most;
	if (pool < TIER_POOL_MIN || pool > most)
		return refuse(why, why_size, -EINVAL,
			      "the pool of compressed pages takes 512 KiB to 64 GiB");
	mm->tier.pool_bytes = pool;
	r = codec_open(&mm->tier.codec, o->compress);
	if (r == -EOPNOTSUPP)
		return refuse(why, why_size, -EINVAL, "this build has no such compression");
	if (r != 0)
		return refuse(why, why_size, r, "compression cannot be set up");
	return 0;
}

static int take_options(struct mm *mm, const struct fl_options *o, char *why, size_t why_size)
{
	uint64_t limit = o->limit != 0 ? o->limit : options_ram() / 4 * 3;
	int r;

	if (limit < FL_LIMIT_MIN)
		return refuse(why, why_size, -EINVAL, "the limit is below 2 MiB");
	if (o->pagers > PAGERS_MAX)
		return refuse(why, why_size, -EINVAL, "more than 16 pagers");
	if (o->nareas > FL_SWAP_MAX)
		return refuse(why, why_size, -EINVAL, "more than 32 swap areas");
	if ((unsigned)o->engine > FL_ENGINE_SYNC || (unsigned)o->wp > FL_WP_OFF)
		return refuse(why, why_size, -EINVAL, "no such engine or dirty tracking");
	if ((unsigned)o->log_level > FL_LOG_DEBUG)
		return refuse(why, why_size, -EINVAL, "no such log level");
	if (window_option(o->fault_around, AROUND_DEFAULT, &mm->opt.fault_around) != 0 ||
	    window_option(o->readahead, READAHEAD_DEFAULT, &mm->opt.readahead) != 0)
		return refuse(why, why_size, -EINVAL,
			      "fault-around and read-ahead take 4096 bytes to 2 MiB");
	mm->limit = limit >> PAGE_SHIFT;
	mm->opt.engine = o->engine;
	mm->opt.wp = o->wp;
	mm->opt.pagers = o->pagers != 0 ? o->pagers : 1;
	if (o->near > 1)
		return refuse(why, why_size, -EINVAL, "near is neither 0 nor 1");
	mm->near.wanted = o->near && mm->opt.pagers == 1;
	if (log_format(mm->opt.swap_dir, sizeof(mm->opt.swap_dir), "%s",
		       o->swap_dir != NULL ? o->swap_dir : "/var/tmp") >=
	    sizeof(mm->opt.swap_dir) - 1)
		return refuse(why, why_size, -ENAMETOOLONG,
			      "the swap directory's name is too long");
	mm->sink = (struct log_sink){.level = o->log_level, .fn = o->log, .arg = o->log_arg};
	if (o->store != NULL) {
		if (strlen(o->store) > 400)
			return refuse(why, why_size, -ENAMETOOLONG, "the store's name is too long");
		if (o->store[0] != '/')
			return refuse(why, why_size, -EINVAL, "the store's path is not absolute");
		mm->store = stored_new(o->store, (o->store_flags & FL_STORE_FUSE) != 0);
		if (mm->store == NULL)
			return refuse(why, why_size, -ENOMEM, "no memory");
	}
	if ((o->store_flags & ~FL_STORE_FUSE) != 0)
		return refuse(why, why_size, -EINVAL, "no such flag of a store");
	r = take_tier(mm, o, why, why_size);
	if (r == 0)
		r = take_dirty(mm, o, why, why_size);
	if (r != 0)
		return r;
	mm->private_area =
		o->nareas == 0 && o->store == NULL && !o->no_swap && !(mm->flags & MM_SERVER);
	for (unsigned i = 0; i < o->nareas; i++) {
		struct fl_swap_spec *s = &mm->spec[mm->nspec];

		*s = o->areas[i];
		if (s->path != NULL) {
			if (log_format(mm->spec_path[i], sizeof(mm->spec_path[i]), "%s", s->path) >=
			    sizeof(mm->spec_path[i]) - 1)
				return refuse(why, why_size, -ENAMETOOLONG,
					      "a swap area's name is too long");
			s->path = mm->spec_path[i];
		}
		mm->nspec++;
	}
	return 0;
}

int mm_open(struct mm **out, const struct fl_options *options, unsigned flags, char *why,
	    size_t why_size)
{
	/* a seccomp filter may let the program unmap memory and not us map any */
	size_t spare = flags & MM_PRELOAD ? REGION_RESERVE : 0;
	struct mm *mm = sys_mem_alloc(MM_SIZE + spare);
	int r;

	*out = NULL;
	if (mm == NULL)
		return refuse(why, why_size, -ENOMEM, "no memory");
	/* where all memory gets huge pages, each program would have one zeroed for a few small ones */
	if (spare != 0)
		SYS3(madvise, mm, MM_SIZE + spare, MADV_NOHUGEPAGE);
	lock_init(&mm->lock, RANK_MM);
	region_tree_init(&mm->regions);
	fill_init(&mm->fills);
	readahead_init(&mm->ra);
	snapshots_init(mm);
	mm->flags = flags;
	lock_init(&mm->fork_lock, RANK_FORK);
	mm->device = mm->proc_fd = mm->wait_fd = mm->kin_fd = -1;
	mm->in_thread_uffd = mm->in_thread_own = -1;
	mm->uffd = mm->pagemap_fd = mm->pidfd = mm->mem_fd = mm->maps_fd = -1;
	r = take_options(mm, options, why, why_size);
	if (r == 0 && (flags & MM_LEFT) && verify_start(mm) != 0)
		r = refuse(why, why_size, -EIO, "/proc/self/maps cannot be read");
	if (r == 0 && (flags & MM_PRELOAD)) {
		mm->brk = (uintptr_t)SYS1(brk, 0);
		region_tree_reserve(&mm->regions, (char *)mm + MM_SIZE, spare);
	}
	for (unsigned i = 0; r == 0 && !(flags & MM_PRELOAD) && i < mm->nspec; i++)
		r = swap_look(&mm->spec[i], why, why_size);
	if (r == 0 && !(flags & MM_PRELOAD) && (mm->nspec != 0 || mm->store != NULL)) {
		lock_take(&mm->lock);
		r = pager_start(mm, why, why_size);
		lock_drop(&mm->lock);
	}
	if (r != 0) {
		if (mm->store != NULL)
			stored_free(mm->store);
		codec_close(&mm->tier.codec);
		region_tree_fini(&mm->regions);
		sys_mem_free(mm, MM_SIZE + spare);
		return r;
	}
	publish_begin(mm);
	*out = mm;
	return 0;
}

int mm_close(struct mm *mm)
{
	if (mm->pagers_up) {
		unsigned n = mm->opt.pagers;

		in_thread_ending(mm);
		/* Each pager takes one of these calls as its own end; the first brings all pages back. */
		for (unsigned i = 0; i < n; i++) {
			long r;

			if (mm->pager[i] == NULL ||
			    __atomic_load_n(&mm->pager[i]->started, __ATOMIC_ACQUIRE) == 0)
				continue;
			r = hop_call(mm, HOP_CLOSE, 0, 0, 0, 0, 0, 0, 0);
			if (r != 0) {
				in_thread_stays(mm);
				return (int)r;
			}
		}
		pager_join(mm);
	}
	in_thread_end(mm);
	publish_end(mm);
	region_tree_fini(&mm->regions);
	hop_fini(mm);
	if (mm->store != NULL)
		stored_free(mm->store);
	codec_close(&mm->tier.codec);
	sys_mem_free(mm, MM_SIZE + (mm->flags & MM_PRELOAD ? REGION_RESERVE : 0));
	return 0;
}

static uint64_t get(const uint64_t *v)
{
	return __atomic_load_n(v, __ATOMIC_RELAXED);
}

void mm_stats_counted(const struct mm_counters *c, struct fl_stats *out)
{
	memset(out, 0, sizeof(*out));
	out->resident_max = get(&c->resident_max);
	out->faults_minor = get(&c->faults_minor);
	out->faults_major = get(&c->faults_major);
	out->faults_zero = get(&c->faults_zero);
	out->faults_anon = get(&c->faults_anon);
	out->faults_wp = get(&c->faults_wp);
	out->faults_staged = get(&c->faults_staged);
	out->faults_swap = get(&c->faults_swap);
	out->faults_filled = get(&c->faults_filled);
	out->faults_stale = get(&c->faults_stale);
	out->faults_around = get(&c->faults_around);
	out->faults_in_thread = get(&c->faults_in_thread);
	out->reads = get(&c->reads);
	out->read_pages = get(&c->read_pages);
	out->writes = get(&c->writes);
	out->write_pages = get(&c->write_pages);
	out->io_errors = get(&c->io_errors);
	out->csum_errors = get(&c->csum_errors);
	out->readahead_hits = get(&c->readahead_hits);
	out->readahead_misses = get(&c->readahead_misses);
	out->evicted = get(&c->evicted);
	out->dropped_clean = get(&c->dropped_clean);
	out->evict_busy = get(&c->evict_busy);
	out->frames_reused = get(&c->frames_reused);
	out->slots_total = get(&c->slots_total);
	out->slots_used = get(&c->slots_used);
	out->bookkeeping = get(&c->bookkeeping);
	out->compressed_bytes = get(&c->compressed_bytes);
	out->pool = get(&c->pool);
	out->faults_compressed = get(&c->faults_compressed);
	out->compress_rejects = get(&c->compress_rejects);
	out->written_through = get(&c->written_through);
	out->snapshot_pages = get(&c->snapshot_pages);
	out->snapshot_saved = get(&c->snapshot_saved);
	out->snapshot_faults = get(&c->snapshot_faults);
	out->snapshot_waits = get(&c->snapshot_waits);
	out->snapshot_pause = get(&c->snapshot_pause);
	out->snapshot_early = get(&c->snapshot_early);
	out->file_minor = get(&c->file_minor);
	out->file_major = get(&c->file_major);
	out->file_reads = get(&c->file_reads);
	out->file_read_pages = get(&c->file_read_pages);
	out->file_writes = get(&c->file_writes);
	out->file_write_pages = get(&c->file_write_pages);
	out->file_errors = get(&c->file_errors);
	out->file_dropped = get(&c->file_dropped);
	for (unsigned i = 0; i < FL_LATENCY_BUCKETS; i++)
		out->latency[i] = get(&c->latency[i]);
}

void mm_stats(struct mm *mm, struct fl_stats *out)
{
	mm_stats_counted(&mm->stats, out);
	if (mm->group != NULL) {
		out->group_limit = group_limit(mm->group);
		out->group_held = out->group_limit - group_free(mm->group);
		out->group_most = group_most(mm->group);
		out->group_members = group_members(mm->group);
	}
	out->limit = get(&mm->limit);
	out->mapped = get(&mm->regions.pages);
	out->locked = get(&mm->regions.locked_pages);
	out->armed = mm_armed(mm);
	out->resident = get(&mm->ptes.count[PTE_PRESENT]);
	out->staged = get(&mm->staging.frames);
	out->swapped = get(&mm->ptes.count[PTE_SWAPPED]);
	out->filled = get(&mm->ptes.count[PTE_FILLED]);
	out->compressed = get(&mm->ptes.count[PTE_COMPRESSED]);
	out->poisoned = get(&mm->ptes.count[PTE_POISONED]);
	out->cache_pages = get(&mm->files.frames);
	out->cache_dirty = get(&mm->files.dirty);
	out->cache_writeback = get(&mm->files.writeback);
}
