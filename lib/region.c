/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * region.c - the managed address space; see region.h.
 *
 * An AVL tree ordered by start, threaded: each node knows its neighbours, so a
 * change walks the tree once.  Splitting needs at most two nodes; they are
 * taken before anything changes, so that a change either happens whole or not
 * at all.
 */
#include "region.h"

#include "log.h"

#include <errno.h>
#include <sys/mman.h>

/* Deeper than any AVL tree of 2^47 pages: a lock-free walk that exceeds it saw a tree in motion. */
#define WALK_MAX 96

void region_tree_init(struct region_tree *t)
{
	*t = (struct region_tree){0};
	pool_init(&t->pool, sizeof(struct region), 16384);
}

void region_tree_reserve(struct region_tree *t, void *mem, size_t bytes)
{
	pool_give(&t->pool, mem, bytes);
}

void region_tree_fini(struct region_tree *t)
{
	pool_fini(&t->pool);
	t->root = t->last = t->hint = NULL;
}

static void write_begin(struct region_tree *t)
{
	/* Odd before any node changes: the release fence keeps the stores to nodes
	 * behind it; pairs with the acquire fence in region_overlaps(). */
	__atomic_store_n(&t->seq, t->seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

static void write_end(struct region_tree *t)
{
	/* Even after every node changed; pairs with the second load in region_overlaps(). */
	__atomic_store_n(&t->seq, t->seq + 1, __ATOMIC_RELEASE);
}

static int height(const struct region *r)
{
	return r != NULL ? r->height : 0;
}

static void fix_height(struct region *r)
{
	int l = height(r->left);
	int h = height(r->right);

	r->height = (l > h ? l : h) + 1;
}

static void adopt(struct region *parent, struct region *child)
{
	if (child != NULL)
		child->parent = parent;
}

/* Each gives back the node that is on top now; its parent is the caller's to set. */

static struct region *rotate_right(struct region *r)
{
	struct region *l = r->left;

	r->left = l->right;
	adopt(r, r->left);
	l->right = r;
	r->parent = l;
	fix_height(r);
	fix_height(l);
	return l;
}

static struct region *rotate_left(struct region *r)
{
	struct region *n = r->right;

	r->right = n->left;
	adopt(r, r->right);
	n->left = r;
	r->parent = n;
	fix_height(r);
	fix_height(n);
	return n;
}

static struct region *balance(struct region *r)
{
	int d = height(r->left) - height(r->right);

	if (d > 1) {
		if (height(r->left->left) < height(r->left->right)) {
			r->left = rotate_left(r->left);
			r->left->parent = r;
		}
		return rotate_right(r);
	}
	if (d < -1) {
		if (height(r->right->right) < height(r->right->left)) {
			r->right = rotate_right(r->right);
			r->right->parent = r;
		}
		return rotate_left(r);
	}
	fix_height(r);
	return r;
}

/* The link that leads to r. */
static struct region **link_to(struct region_tree *t, const struct region *r)
{
	if (r->parent == NULL)
		return &t->root;
	return r->parent->left == r ? &r->parent->left : &r->parent->right;
}

/* From r, whose children changed, upwards as far as heights change. */
static void rebalance(struct region_tree *t, struct region *r)
{
	while (r != NULL) {
		struct region **link = link_to(t, r), *parent = r->parent;
		int was = r->height;

		*link = balance(r);
		(*link)->parent = parent;
		if ((*link)->height == was)
			break;
		r = parent;
	}
}

/* Between two neighbours; NULL: at that end. */
static void node_insert(struct region_tree *t, struct region *n, struct region *below,
			struct region *above)
{
	n->left = n->right = n->parent = NULL;
	n->height = 1;
	n->prev = below;
	n->next = above;
	if (below != NULL)
		below->next = n;
	if (above != NULL)
		above->prev = n;
	else
		t->last = n;
	/* of two neighbours one lies beneath the other, which thus has no child on that side */
	if (below != NULL && below->right == NULL) {
		n->parent = below;
		below->right = n;
	} else if (above != NULL) {
		n->parent = above;
		above->left = n;
	} else {
		t->root = n;
	}
	rebalance(t, n->parent);
}

static void node_remove(struct region_tree *t, struct region *n)
{
	struct region *above = n->next, *from;

	if (n->prev != NULL)
		n->prev->next = above;
	if (above != NULL)
		above->prev = n->prev;
	else
		t->last = n->prev;
	if (n->left == NULL || n->right == NULL) {
		struct region *child = n->left != NULL ? n->left : n->right;

		from = n->parent;
		*link_to(t, n) = child;
		adopt(from, child);
	} else {
		/* the next one above takes its place: it has no left child */
		from = above;
		if (above != n->right) {
			from = above->parent;
			from->left = above->right;
			adopt(from, from->left);
			above->right = n->right;
			adopt(above, above->right);
		}
		above->left = n->left;
		adopt(above, above->left);
		above->height = n->height;
		*link_to(t, n) = above;
		above->parent = n->parent;
	}
	rebalance(t, from);
}

struct region *region_next(const struct region_tree *t, uintptr_t addr)
{
	struct region *r = t->hint;
	struct region *best = NULL;

	if (r != NULL && r->end > addr && (r->prev == NULL || r->prev->end <= addr))
		return r;
	r = t->root;
	while (r != NULL) {
		if (r->end > addr) {
			best = r;
			r = r->left;
		} else {
			r = r->right;
		}
	}
	return best;
}

/* The same, and the last region that ends at addr or below. */
static struct region *neighbours(const struct region_tree *t, uintptr_t addr, struct region **below)
{
	struct region *above = region_next(t, addr);

	*below = above != NULL ? above->prev : t->last;
	return above;
}

struct region *region_find(const struct region_tree *t, uintptr_t addr)
{
	struct region *r = region_next(t, addr);

	return r != NULL && r->start <= addr ? r : NULL;
}

/* What it reads while the tree moves is thrown away: no race, whatever the thread sanitizer thinks. */
__attribute__((no_sanitize_thread)) bool region_overlaps(const struct region_tree *t,
							 uintptr_t start, uintptr_t end)
{
	for (;;) {
		uint32_t seq = __atomic_load_n(&t->seq, __ATOMIC_ACQUIRE);
		const struct region *r;
		bool found = false;
		unsigned steps = 0;

		if (seq & 1)
			continue;
		r = __atomic_load_n(&t->root, __ATOMIC_RELAXED);
		while (r != NULL && steps++ < WALK_MAX) {
			if (__atomic_load_n(&r->end, __ATOMIC_RELAXED) <= start) {
				r = __atomic_load_n(&r->right, __ATOMIC_RELAXED);
			} else if (__atomic_load_n(&r->start, __ATOMIC_RELAXED) >= end) {
				r = __atomic_load_n(&r->left, __ATOMIC_RELAXED);
			} else {
				found = true;
				break;
			}
		}
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&t->seq, __ATOMIC_RELAXED) == seq && steps <= WALK_MAX)
			return found;
	}
}

__attribute__((no_sanitize_thread)) bool region_peek(const struct region_tree *t, uintptr_t addr,
						     struct region *out)
{
	for (;;) {
		uint32_t seq = __atomic_load_n(&t->seq, __ATOMIC_ACQUIRE);
		const struct region *r;
		unsigned steps = 0;

		if (seq & 1)
			continue;
		r = __atomic_load_n(&t->root, __ATOMIC_RELAXED);
		while (r != NULL && steps++ < WALK_MAX) {
			*out = *r;
			if (out->end <= addr)
				r = out->right;
			else if (out->start > addr)
				r = out->left;
			else
				break;
		}
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&t->seq, __ATOMIC_RELAXED) == seq && steps <= WALK_MAX)
			return r != NULL;
	}
}

bool region_is_file(const struct region_tree *t, uintptr_t addr)
{
	struct region r;

	return region_peek(t, addr, &r) && r.users != NULL;
}

static void account(struct region_tree *t, const struct region *r, int sign)
{
	uint64_t pages = (r->end - r->start) >> 12;
	uint64_t d = sign > 0 ? pages : -pages;

	t->pages += d;
	if (r->flags & REGION_HELD)
		t->held_pages += d;
	if (r->flags & REGION_REMOTE)
		return;
	if (r->prot != PROT_NONE)
		t->open_pages += d;
	if (r->flags & REGION_LOCKED)
		t->locked_pages += d;
	if (r->prot != PROT_NONE && (r->flags & REGION_LOCKED))
		t->locked_open_pages += d;
}

static void link_node(struct region_tree *t, struct region *n, struct region *below,
		      struct region *above)
{
	node_insert(t, n, below, above);
	n->peer = t->peer;
	t->hint = n;
	t->count++;
	if (n->users != NULL) {
		n->user_next = n->users->first;
		n->user_link = &n->users->first;
		if (n->user_next != NULL)
			n->user_next->user_link = &n->user_next;
		n->users->first = n;
		n->users->count++;
	}
	account(t, n, 1);
}

static void unlink_node(struct region_tree *t, struct region *n)
{
	account(t, n, -1);
	node_remove(t, n);
	if (t->hint == n)
		t->hint = n->next;
	t->count--;
	if (n->users != NULL) {
		*n->user_link = n->user_next;
		if (n->user_next != NULL)
			n->user_next->user_link = n->user_link;
		n->users->count--;
	}
}

/* Move a region's ends, within the gaps that are around it. */
static void resize(struct region_tree *t, struct region *r, uintptr_t start, uintptr_t end)
{
	account(t, r, -1);
	r->start = start;
	r->end = end;
	account(t, r, 1);
}

/* What a range is to be. */
struct kind {
	int prot;
	uint32_t flags;
	struct region_users *users;
	uint64_t delta;
};

static bool has(const struct region *r, const struct kind *k)
{
	return r->prot == k->prot && r->flags == k->flags && r->users == k->users &&
	       r->delta == k->delta;
}

static bool alike(const struct region *a, const struct region *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->users == b->users && a->delta == b->delta;
}

/* Join n with its neighbours where they are alike; the survivor. */
static struct region *merge_around(struct region_tree *t, struct region *n)
{
	struct region *prev = n->prev, *next;

	/* more than one: a range whose end was split off may be alike all the way */
	while ((next = n->next) != NULL && alike(n, next)) {
		uintptr_t end = next->end;

		unlink_node(t, next);
		pool_put(&t->pool, next);
		resize(t, n, n->start, end);
	}
	if (prev != NULL && alike(prev, n)) {
		uintptr_t end = n->end;

		unlink_node(t, n);
		pool_put(&t->pool, n);
		resize(t, prev, prev->start, end);
		n = prev;
	}
	return n;
}

/* Make `at` a border within r, if it is in the middle of it; the part above.  Uses *spare. */
static struct region *split_at(struct region_tree *t, struct region *r, uintptr_t at,
			       struct region **spare)
{
	struct region *n = *spare;

	if (r == NULL || r->start >= at || r->end <= at)
		return r;
	*spare = NULL;
	*n = *r;
	n->start = at;
	resize(t, r, r->start, at);
	link_node(t, n, r, r->next);
	return n;
}

/* Two spare nodes, for the two borders of a range. */
static int take_spares(struct region_tree *t, struct region *spare[2])
{
	spare[0] = pool_get(&t->pool);
	spare[1] = pool_get(&t->pool);
	if (spare[0] != NULL && spare[1] != NULL)
		return 0;
	for (unsigned i = 0; i < 2; i++)
		if (spare[i] != NULL)
			pool_put(&t->pool, spare[i]);
	return -ENOMEM;
}

static void drop_spares(struct region_tree *t, struct region *spare[2])
{
	for (unsigned i = 0; i < 2; i++)
		if (spare[i] != NULL)
			pool_put(&t->pool, spare[i]);
}

/* Remove what is in [start, end), first of all r, splitting what crosses its ends; what is above. */
static struct region *carve(struct region_tree *t, struct region *r, uintptr_t start, uintptr_t end,
			    struct region *spare[2])
{
	r = split_at(t, r, start, &spare[0]);
	while (r != NULL && r->start < end) {
		struct region *next;

		split_at(t, r, end, &spare[1]);
		next = r->next;
		unlink_node(t, r);
		pool_put(&t->pool, r);
		r = next;
	}
	return r;
}

/* A part of one region; 0 or -ENOMEM. */
static int remove_within(struct region_tree *t, struct region *r, uintptr_t start, uintptr_t end)
{
	struct region *rest = NULL;

	if (r->start < start && end < r->end) {
		rest = pool_get(&t->pool);
		if (rest == NULL)
			return -ENOMEM;
		*rest = *r;
		rest->start = end;
	}
	write_begin(t);
	if (r->start == start && r->end == end) {
		unlink_node(t, r);
		pool_put(&t->pool, r);
	} else if (r->start == start) {
		resize(t, r, end, r->end);
	} else {
		resize(t, r, r->start, start);
		if (rest != NULL)
			link_node(t, rest, r, r->next);
	}
	write_end(t);
	return 0;
}

/* Whether removing a range splits a region, of which r is the first that meets it. */
static bool splits(const struct region_tree *t, const struct region *r, uintptr_t start,
		   uintptr_t end)
{
	const struct region *last = region_find(t, end - 1);

	if (r->start <= start && end <= r->end)
		return r->start < start && end < r->end;
	return r->start < start || (last != NULL && last->end > end);
}

bool region_can_remove(struct region_tree *t, uintptr_t start, uintptr_t end)
{
	const struct region *r = region_next(t, start);

	return r == NULL || r->start >= end || !splits(t, r, start, end) || pool_have(&t->pool, 2);
}

int region_remove(struct region_tree *t, uintptr_t start, uintptr_t end)
{
	struct region *spare[2] = {NULL, NULL};
	struct region *r = region_next(t, start);

	if (r == NULL || r->start >= end)
		return 0;
	if (r->start <= start && end <= r->end)
		return remove_within(t, r, start, end);
	if (splits(t, r, start, end) && take_spares(t, spare) != 0)
		return -ENOMEM;
	write_begin(t);
	carve(t, r, start, end, spare);
	write_end(t);
	drop_spares(t, spare);
	return 0;
}

/* Let what is around a gap grow into it, where it is alike; false when it is not. */
static bool grow_into(struct region_tree *t, struct region *below, struct region *above,
		      uintptr_t start, uintptr_t end, const struct kind *k)
{
	bool up = below != NULL && below->end == start && has(below, k);
	bool down = above != NULL && above->start == end && has(above, k);

	if (!up && !down)
		return false;
	write_begin(t);
	if (up && down) {
		end = above->end;
		unlink_node(t, above);
		pool_put(&t->pool, above);
	}
	if (up)
		resize(t, below, below->start, end);
	else
		resize(t, above, start, above->end);
	write_end(t);
	return true;
}

bool region_can_insert(struct region_tree *t)
{
	return pool_have(&t->pool, 4);
}

int region_insert(struct region_tree *t, uintptr_t start, uintptr_t end, int prot, uint32_t flags)
{
	return region_insert_file(t, start, end, prot, flags, NULL, 0);
}

int region_insert_file(struct region_tree *t, uintptr_t start, uintptr_t end, int prot,
		       uint32_t flags, struct region_users *users, uint64_t delta)
{
	const struct kind k = {prot, flags, users, users != NULL ? delta : 0};
	struct region *spare[2] = {NULL, NULL};
	struct region *below, *n;
	struct region *above = neighbours(t, start, &below);
	bool gap = above == NULL || above->start >= end;

	if (gap && grow_into(t, below, above, start, end, &k))
		return 0;
	n = pool_get(&t->pool);
	if (n == NULL)
		return -ENOMEM;
	if (!gap && take_spares(t, spare) != 0) {
		pool_put(&t->pool, n);
		return -ENOMEM;
	}
	n->start = start;
	n->end = end;
	n->prot = prot;
	n->flags = flags;
	n->users = users;
	n->delta = k.delta;
	write_begin(t);
	if (!gap)
		above = carve(t, above, start, end, spare);
	link_node(t, n, above != NULL ? above->prev : t->last, above);
	if (!gap)
		merge_around(t, n);
	write_end(t);
	drop_spares(t, spare);
	return 0;
}

/* Whether nothing in [start, end) would change. */
static bool is_so(const struct region *r, uintptr_t end, int prot, uint32_t set, uint32_t clear)
{
	for (; r != NULL && r->start < end; r = r->next)
		if ((prot != -1 && r->prot != prot) || ((r->flags & ~clear) | set) != r->flags)
			return false;
	return true;
}

/*
 * Where a change only moves the border between two neighbours, move it: memory
 * that a program reserves and then opens piece by piece.
 */
static bool move_border(struct region_tree *t, struct region *below, struct region *r,
			uintptr_t start, uintptr_t end, const struct kind *k)
{
	if (below == NULL || below->end != start || r->start != start || end >= r->end ||
	    !has(below, k))
		return false;
	write_begin(t);
	resize(t, r, end, r->end);
	resize(t, below, below->start, end);
	write_end(t);
	return true;
}

int region_change(struct region_tree *t, uintptr_t start, uintptr_t end, int prot, uint32_t set,
		  uint32_t clear)
{
	struct region *spare[2], *below;
	struct region *r = neighbours(t, start, &below);

	if (r == NULL || r->start >= end || is_so(r, end, prot, set, clear))
		return 0;
	if (move_border(t, below, r, start, end,
			&(struct kind){prot != -1 ? prot : r->prot, (r->flags & ~clear) | set,
				       r->users, r->delta}))
		return 0;
	if (take_spares(t, spare) != 0)
		return -ENOMEM;
	write_begin(t);
	for (r = split_at(t, r, start, &spare[0]); r != NULL && r->start < end; r = r->next) {
		split_at(t, r, end, &spare[1]);
		account(t, r, -1);
		if (prot != -1)
			r->prot = prot;
		r->flags = (r->flags & ~clear) | set;
		account(t, r, 1);
		r = merge_around(t, r);
		t->hint = r;
	}
	write_end(t);
	drop_spares(t, spare);
	return 0;
}
