/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fl_snapshot(): the image is the memory as it was at one instant, whatever is
 * written, dropped, moved or evicted while it is taken, with pages in every state.
 */
#include "live.h"

#include "image-read.h"

#include <sys/eventfd.h>

#define LIMIT (4 * MIB)
#define LIMIT_PAGES (LIMIT / PG)

static int image_fd(void)
{
	int fd = open(live_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void image_is_whole(int fd, struct image *im)
{
	char why[128] = "";
	char page[IMAGE_PAGE];

	if (image_open(im, fd, why, sizeof(why)) != 0)
		fail_msg("image: %s", why);
	for (uint64_t i = 0; i < im->footer.ranges; i++)
		for (uint64_t a = im->range[i].start; a < im->range[i].end; a += PG) {
			enum image_page what;

			assert_int_equal(image_page(im, a, page, &what), 0);
			assert_int_equal(what, IMAGE_PAGE_GOOD);
		}
}

/* The image of n pages at mem, mapped. */
static char *map_image(struct fl *fl, int fd, size_t n)
{
	struct image im;
	uint64_t read;
	char *p;

	image_is_whole(fd, &im);
	assert_true(im.footer.flags & IMAGE_LINEAR);
	assert_int_equal(im.footer.end - im.footer.start, n * PG);
	image_close(&im);
	read = live_stats(fl).file_read_pages;
	p = fl_mmap(fl, NULL, n * PG, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(p, FL_FAILED);
	/* it comes as it is touched */
	assert_int_equal(live_stats(fl).file_read_pages, read);
	return p;
}

static size_t differing(const char *a, const char *b, size_t n)
{
	size_t wrong = 0;

	for (size_t p = 0; p < n; p++)
		wrong += memcmp(a + p * PG, b + p * PG, PG) != 0;
	return wrong;
}

/* ---- every state ---- */

#define PAGES (2 * LIMIT_PAGES)

static const struct {
	const char *name;
	enum fl_wp wp;
	enum fl_compress compress;
	unsigned pagers;
	enum fl_engine engine;
} ways[] = {
	{"auto", FL_WP_AUTO, FL_COMPRESS_NONE, 1, FL_ENGINE_AUTO},
	{"sync", FL_WP_SYNC, FL_COMPRESS_NONE, 2, FL_ENGINE_AUTO},
	{"off", FL_WP_OFF, FL_COMPRESS_NONE, 1, FL_ENGINE_SYNC},
#ifdef FL_LZ4
	{"lz4", FL_WP_AUTO, FL_COMPRESS_LZ4, 2, FL_ENGINE_AUTO},
	{"lz4 off", FL_WP_OFF, FL_COMPRESS_LZ4, 1, FL_ENGINE_AUTO},
#endif
};

/* Content of which a part is words that compress. */
static void fill(char *mem, size_t page, uint64_t tag)
{
	live_fill(mem, page, 1, tag);
	if (page % 3 != 0)
		memset(live_page(mem, page) + 64, (int)(page + tag), PG - 512);
}

static void keep(char *shadow, const char *mem, size_t first, size_t n)
{
	memcpy(shadow + first * PG, mem + first * PG, n * PG);
}

static void one_of_each_state(struct fl *fl, char *mem, char *shadow)
{
	for (size_t p = 0; p < PAGES / 2; p++)
		fill(mem, p, 1);
	for (size_t p = PAGES / 2; p < PAGES / 2 + 200; p++)
		memset(mem + p * PG, p % 2 ? 0x5a : 0, PG);
	keep(shadow, mem, 0, PAGES / 2 + 200);
	live_out(fl, mem, PAGES / 2 + 200);
	/* read back and clean, read back and written, and new */
	for (size_t p = 0; p < 100; p++)
		shadow[p * PG] = ((volatile char *)mem)[p * PG];
	for (size_t p = 100; p < 200; p++)
		fill(mem, p, 2);
	for (size_t p = PAGES / 2 + 400; p < PAGES / 2 + 500; p++)
		fill(mem, p, 3);
	for (size_t p = PAGES / 2 + 500; p < PAGES / 2 + 510; p++)
		shadow[p * PG] = ((volatile char *)mem)[p * PG];
	keep(shadow, mem, 100, 100);
	keep(shadow, mem, PAGES / 2 + 400, 100);
	/* on their way out */
	assert_int_equal(fl_madvise(fl, mem + (PAGES / 2 + 400) * PG, 50 * PG, MADV_PAGEOUT), 0);
}

/* How many stores were waited for: none where all was saved before the first one. */
static uint64_t saves_every_state(size_t w)
{
	struct fl_options o = live_options(LIMIT);
	char *shadow = calloc(PAGES, PG);
	struct fl_stats st;
	struct fl *fl;
	char *mem, *image;
	uint64_t read;
	int fd = image_fd();

	o.wp = ways[w].wp;
	o.compress = ways[w].compress;
	o.pagers = ways[w].pagers;
	o.engine = ways[w].engine;
	fl = live_armed(&o);
	mem = live_map(fl, PAGES);
	one_of_each_state(fl, mem, shadow);
	assert_true(live_count(fl, mem, PAGES, FL_PAGE_PRESENT) != 0);
	assert_true(live_count(fl, mem, PAGES, FL_PAGE_NONE) != 0);
	assert_true(live_count(fl, mem, PAGES, FL_PAGE_FILLED) != 0);
	if (ways[w].compress != FL_COMPRESS_NONE)
		assert_true(live_count(fl, mem, PAGES, FL_PAGE_COMPRESSED) != 0);
	else
		assert_true(live_count(fl, mem, PAGES, FL_PAGE_SWAPPED) != 0);
	assert_int_equal(fl_snapshot(fl, mem, PAGES * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
	/* every page changes at once, first those that are saved last */
	for (size_t p = PAGES / 2 + 500; p-- > 0;)
		fill(mem, p, 7);
	for (size_t p = PAGES / 2 + 500; p < PAGES; p++)
		fill(mem, p, 7);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	image = map_image(fl, fd, PAGES);
	read = live_stats(fl).file_read_pages;
	(void)*(volatile char *)image;
	assert_in_range(live_stats(fl).file_read_pages - read, 1, PAGES / 2);
	if (differing(image, shadow, PAGES) != 0)
		fail_msg("%s: %zu of %zu pages differ", ways[w].name,
			 differing(image, shadow, PAGES), (size_t)PAGES);
	for (size_t p = 0; p < PAGES; p++)
		fill(shadow, p, 7);
	assert_int_equal(differing(mem, shadow, PAGES), 0);
	st = live_stats(fl);
	assert_int_equal(st.snapshot_saved, st.snapshot_pages);
	assert_true(st.resident_max <= LIMIT_PAGES);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	free(shadow);
	return st.snapshot_faults;
}

static void every_state(void **state)
{
	uint64_t faults = 0;

	(void)state;
	for (unsigned tries = 0; faults == 0; tries++) {
		assert_true(tries < 20);
		for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++)
			faults += saves_every_state(w);
	}
}

/*
 * Pages that wait for their second chance come back by a move, which does not
 * write-protect them; compressed ones by a copy that may.
 */
static void written_from_afar(void **state)
{
	static const enum fl_compress kinds[] = {
		FL_COMPRESS_NONE,
#ifdef FL_LZ4
		FL_COMPRESS_LZ4,
#endif
	};
	const size_t n = 9000;

	(void)state;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct fl_options o = live_options(32 * MIB);
		enum fl_page_kind kind = k == 0 ? FL_PAGE_STAGED : FL_PAGE_COMPRESSED;
		char *shadow = malloc(n * PG);
		unsigned char *vec = malloc(n);
		struct fl *fl;
		char *mem, *image;
		size_t far = 0;
		int fd = image_fd();

		o.compress = kinds[k];
		fl = live_armed(&o);
		mem = live_map(fl, n);
		for (size_t p = 0; p < n; p++) {
			fill(mem, p, 1);
			fill(shadow, p, 1);
		}
		assert_int_equal(fl_page_state(fl, mem, n * PG, vec), 0);
		assert_int_equal(fl_snapshot(fl, mem, n * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
		for (size_t p = n; p-- > 0;)
			if (FL_PAGE_KIND(vec[p]) == kind) {
				*live_page(mem, p) = 7;
				far++;
			}
		assert_true(far > 100);
		assert_int_equal(fl_snapshot_wait(fl), 0);
		image = map_image(fl, fd, n);
		assert_int_equal(differing(image, shadow, n), 0);
		for (size_t p = 0; p < n; p++)
			if (FL_PAGE_KIND(vec[p]) == kind)
				*live_page(shadow, p) = 7;
		assert_int_equal(differing(mem, shadow, n), 0);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
		free(shadow);
		free(vec);
	}
}

/* ---- one instant ---- */

#define WRITERS_MAX 3U

struct writer {
	pthread_t thread;
	volatile uint64_t *follows; /* whose value is written; NULL: a count */
	char *mem;
	size_t pages, stride, spread;
	uint32_t *stop;
};

static volatile uint64_t *slot_of(char *mem, size_t page)
{
	return (volatile uint64_t *)(void *)(mem + page * PG + (page * 72 % PG & ~7UL));
}

/*
 * Where a writer writes as the nth: to each spread-th page, in an order that stride makes, which
 * has no divisor in common with pages.
 */
static volatile uint64_t *nth_of(const struct writer *w, char *mem, size_t n)
{
	return slot_of(mem, n * w->stride % w->pages * w->spread);
}

/*
 * The first writer counts; each other one copies what the one before it wrote on
 * its last page.  So what a page holds never passes what stands before it in that chain.
 */
static void *write_on(void *arg)
{
	struct writer *w = arg;
	uint64_t value = 0;

	while (!__atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
		value = w->follows != NULL ? *w->follows : value + 1;
		for (size_t n = 0; n < w->pages; n++)
			*nth_of(w, w->mem, n) = value;
	}
	return NULL;
}

struct chain {
	unsigned writers, rounds, pagers;
	size_t pages, stride, spread; /* of each writer */
	uint64_t limit;
	enum fl_wp wp;
	bool file; /* a private mapping of one, in an image of all memory */
};

static size_t chain_pages(const struct chain *c)
{
	return c->writers * c->pages * c->spread;
}

static char *chain_map(struct fl *fl, const struct chain *c)
{
	const size_t all = chain_pages(c) * PG;
	char *mem;
	int fd;

	if (!c->file)
		return live_map(fl, chain_pages(c));
	fd = open(live_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)all), 0);
	mem = fl_mmap(fl, NULL, all, RW, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(mem, FL_FAILED);
	close(fd);
	return mem;
}

/* The pages from mem on that are written, of an image. */
static char *chain_image(const struct chain *c, const struct image *im, const char *mem)
{
	const size_t all = chain_pages(c) * PG;
	char *to = mmap(NULL, all, RW, ANON | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(to, MAP_FAILED);
	for (size_t at = 0; at < all; at += c->spread * PG) {
		enum image_page what;

		assert_int_equal(image_page(im, (uintptr_t)mem + at, to + at, &what), 0);
		assert_int_equal(what, IMAGE_PAGE_GOOD);
	}
	return to;
}

static void one_image(struct fl *fl, struct writer *w, const struct chain *c, char *mem,
		      uint64_t *before)
{
	const size_t all = chain_pages(c) * PG;
	int fd = image_fd();
	struct image im;
	uint64_t last = UINT64_MAX;
	uint64_t first, now, then;
	char *image, why[128];

	until(*nth_of(&w[0], mem, c->pages - 1) > *before);
	now = *nth_of(&w[0], mem, 0);
	assert_int_equal(fl_snapshot(fl, c->file ? NULL : mem, c->file ? 0 : all, fd,
				     FL_SNAPSHOT_NOSYNC, -1),
			 0);
	then = *nth_of(&w[0], mem, 0);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	if (image_open(&im, fd, why, sizeof(why)) != 0)
		fail_msg("image: %s", why);
	image = chain_image(c, &im, mem);
	image_close(&im);
	for (size_t i = 0; i < c->writers; i++)
		for (size_t n = 0; n < c->pages; n++) {
			uint64_t v = *nth_of(&w[i], image + (w[i].mem - mem), n);

			if (v > last)
				fail_msg("write %zu of writer %zu is of %lu, the one before it of "
					 "%lu",
					 n, i, (unsigned long)v, (unsigned long)last);
			last = v;
		}
	/* no older than before the call, no newer than after it, and no page of the first one behind */
	first = *nth_of(&w[0], image, 0);
	assert_true(first >= now && first <= then);
	assert_true(first - *nth_of(&w[0], image, c->pages - 1) <= 1);
	*before = first;
	munmap(image, all);
	close(fd);
}

static void images_of_one_instant(const struct chain *c)
{
	struct fl_options o = live_options(c->limit);
	struct writer w[WRITERS_MAX];
	uint64_t before = 0;
	uint32_t stop = 0;
	struct fl *fl;
	char *mem;

	o.pagers = c->pagers;
	o.wp = c->wp;
	fl = live_armed(&o);
	mem = chain_map(fl, c);
	/* what is beside the chain takes its time to be protected, and to be saved */
	for (size_t i = 0; i < chain_pages(c); i++)
		*(volatile char *)(mem + i * PG) = 0;
	for (unsigned i = 0; i < c->writers; i++) {
		w[i] = (struct writer){.mem = mem + i * c->pages * c->spread * PG,
				       .pages = c->pages,
				       .spread = c->spread,
				       .stride = i % 2 ? c->stride : 1,
				       .stop = &stop};
		if (i != 0)
			w[i].follows = nth_of(&w[i - 1], w[i - 1].mem, c->pages - 1);
		assert_int_equal(pthread_create(&w[i].thread, NULL, write_on, &w[i]), 0);
	}
	until(*nth_of(&w[c->writers - 1], w[c->writers - 1].mem, c->pages - 1) != 0);
	for (unsigned round = 0; round < c->rounds; round++)
		one_image(fl, w, c, mem, &before);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < c->writers; i++)
		pthread_join(w[i].thread, NULL);
	assert_int_equal(fl_close(fl), 0);
}

static void one_instant(void **state)
{
	(void)state;
	for (unsigned pagers = 1; pagers <= 2; pagers++) {
		const struct chain c = {.writers = 3,
					.rounds = 8,
					.pagers = pagers,
					.pages = 600,
					.stride = 1,
					.spread = 1,
					.limit = FL_LIMIT_MIN,
					.wp = FL_WP_AUTO};

		images_of_one_instant(&c);
	}
}

/*
 * Memory that each pass protects in many slices, and that is written all the time: what is
 * written to a page that was protected already is in the image if it was before the
 * instant, and is not if it was after.
 */
static void written_before_the_instant(void **state)
{
	static const enum fl_wp wp[] = {FL_WP_AUTO, FL_WP_OFF, FL_WP_SYNC};

	(void)state;
	for (size_t i = 0; i < sizeof(wp) / sizeof(wp[0]); i++) {
		const struct chain c = {.writers = 2,
					.rounds = 3,
					.pagers = 1 + i % 2,
					.pages = 16,
					.stride = 5,
					.spread = 1024,
					/* the last one beside eviction */
					.limit = wp[i] == FL_WP_SYNC ? 32 * MIB : 256 * MIB,
					.wp = wp[i],
					.file = wp[i] != FL_WP_AUTO};

		images_of_one_instant(&c);
	}
}

/* ---- what drops and moves pages ---- */

#define PART 256UL
#define NPARTS 9U

static void dropped_and_moved(void **state)
{
	(void)state;
	for (unsigned present = 0; present < 2; present++) {
		const size_t n = NPARTS * PART;
		struct fl_options o = live_options(present ? 2 * n * PG : LIMIT);
		struct fl *fl = live_armed(&o);
		char *mem = live_map(fl, n);
		char *shadow = calloc(n, PG);
		char *moved, *image, *to;
		int fd = image_fd();

		for (size_t p = 0; p < n; p++)
			fill(mem, p, 1);
		keep(shadow, mem, 0, n);
		if (!present)
			live_out(fl, mem, n);
		to = live_map(fl, PART);
		assert_int_equal(fl_snapshot(fl, mem, n * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
#define AT(i) (mem + (i)*PART * PG)
		/* from the end, which is saved last */
		assert_int_equal(fl_madvise(fl, AT(8), PART * PG, MADV_DONTNEED), 0);
		for (size_t p = 8 * PART; p < 9 * PART; p++)
			assert_int_equal(*live_page(mem, p), 0);
		moved = fl_mremap(fl, AT(7), PART * PG, PART * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
				  to);
		assert_ptr_equal(moved, to);
		for (size_t p = 0; p < PART; p++)
			assert_memory_equal(moved + p * PG, shadow + (7 * PART + p) * PG, PG);
		memset(moved, 0x77, PART * PG);
		assert_int_equal(fl_munmap(fl, AT(6), PART * PG), 0);
		assert_ptr_equal(fl_mmap(fl, AT(5), PART * PG, RW, ANON | MAP_FIXED, -1, 0), AT(5));
		memset(AT(5), 0x55, PART * PG);
		assert_int_equal(fl_mprotect(fl, AT(4), PART * PG, PROT_NONE), 0);
		assert_int_equal(fl_mprotect(fl, AT(3), PART * PG, PROT_READ), 0);
		assert_int_equal(fl_mprotect(fl, AT(3), PART * PG, RW), 0);
		memset(AT(3), 0x33, PART * PG);
		assert_int_equal(fl_madvise(fl, AT(2), PART * PG, MADV_FREE), 0);
		memset(AT(2), 0x22, PART * PG);
		/* not managed any more: what replaces it past the runtime's own mapping */
		assert_ptr_equal(fl_mmap(fl, AT(1), PART * PG, RW,
					 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 AT(1));
		memset(AT(1), 0x11, PART * PG);
		assert_int_equal(fl_mlock(fl, AT(0), PART / 4 * PG), 0);
		memset(AT(0), 0x44, PART * PG);
		assert_int_equal(fl_snapshot_wait(fl), 0);
		image = map_image(fl, fd, n);
		assert_int_equal(differing(image, shadow, n), 0);
		for (size_t p = 0; p < PART; p++) {
			assert_int_equal((unsigned char)moved[p * PG], 0x77);
			assert_int_equal((unsigned char)AT(5)[p * PG], 0x55);
			assert_int_equal((unsigned char)AT(3)[p * PG], 0x33);
			assert_int_equal((unsigned char)AT(2)[p * PG], 0x22);
			assert_int_equal((unsigned char)AT(0)[p * PG], 0x44);
		}
		assert_int_equal(fl_mprotect(fl, AT(4), PART * PG, RW), 0);
		assert_int_equal(differing(AT(4), shadow + 4 * PART * PG, PART), 0);
		munmap(AT(1), PART * PG);
		assert_int_equal(fl_close(fl), 0);
		close(fd);
		free(shadow);
	}
}

/* Memory that is given back, a runtime that ends, while a snapshot is taken. */
static void given_back(void **state)
{
	const size_t n = 2048;
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_armed(&o);
	char *mem = mmap(NULL, n * PG, RW, ANON, -1, 0);
	char *shadow = calloc(n, PG);
	char *more, *image;
	int fd[2] = {image_fd(), image_fd()};

	(void)state;
	assert_int_equal(fl_register(fl, mem, n * PG), 0);
	for (size_t p = 0; p < n; p++)
		fill(mem, p, 1);
	keep(shadow, mem, 0, n);
	assert_int_equal(fl_snapshot(fl, mem, n * PG, fd[0], FL_SNAPSHOT_NOSYNC, -1), 0);
	assert_int_equal(fl_unregister(fl, mem, n * PG), 0);
	for (size_t p = 0; p < n; p++)
		fill(mem, p, 2);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	image = mmap(NULL, n * PG, PROT_READ, MAP_PRIVATE, fd[0], 0);
	assert_int_equal(differing(image, shadow, n), 0);
	munmap(image, n * PG);

	more = live_map(fl, n);
	for (size_t p = 0; p < n; p++)
		fill(more, p, 3);
	keep(shadow, more, 0, n);
	assert_int_equal(fl_snapshot(fl, more, n * PG, fd[1], 0, -1), 0);
	assert_int_equal(fl_close(fl), 0);
	for (size_t p = 0; p < n; p++)
		fill(more, p, 4);
	image = mmap(NULL, n * PG, PROT_READ, MAP_PRIVATE, fd[1], 0);
	assert_int_equal(differing(image, shadow, n), 0);
	munmap(image, n * PG);
	close(fd[0]);
	close(fd[1]);
	munmap(mem, n * PG);
	munmap(more, n * PG);
	free(shadow);
}

/* ---- all memory, tables, notices, refusals ---- */

static void all_memory(void **state)
{
	struct fl_options o = live_options(64 * MIB);
	struct fl *fl = live_open(&o);
	char *a = live_map(fl, 100), *gap = live_map(fl, 1), *b;
	int fd = image_fd(), event = eventfd(0, EFD_CLOEXEC);
	char text[64], page[PG];
	enum image_page what;
	struct image im;
	uint64_t value;

	(void)state;
	b = live_map(fl, 3000);
	live_fill(a, 10, 10, 1);
	live_fill(b, 2990, 10, 2);
	assert_int_equal(fl_mprotect(fl, a, 50 * PG, PROT_READ), 0);
	/* it was below its limit, and is paged from here on */
	assert_int_equal(live_stats(fl).armed, 0);
	assert_int_equal(fl_snapshot(fl, NULL, 0, fd, 0, event), 0);
	assert_int_equal(live_stats(fl).armed, 1);
	live_fill(b, 2990, 10, 3);
	assert_int_equal(read(event, &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 1);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	image_is_whole(fd, &im);
	assert_int_equal(im.footer.pid, getpid());
	assert_false(im.footer.flags & IMAGE_LINEAR);
	assert_true(im.footer.ranges >= 2);
	for (size_t p = 0; p < 10; p++) {
		assert_int_equal(image_page(&im, (uintptr_t)a + (10 + p) * PG, page, &what), 0);
		assert_memory_equal(page, a + (10 + p) * PG, PG);
		assert_int_equal(image_page(&im, (uintptr_t)b + (2990 + p) * PG, page, &what), 0);
		assert_int_equal(live_wrong(page - (2990 + p) * PG, 2990 + p, 1, 2), 0);
	}
	assert_int_equal(image_page(&im, (uintptr_t)gap, page, &what), 0);
	assert_int_equal(page[0], 0);
	snprintf(text, sizeof(text), "%08lx-%08lx r--p ", (unsigned long)a,
		 (unsigned long)a + 50 * PG);
	assert_non_null(strstr(im.maps, text));
	image_close(&im);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	close(event);
}

static void one_at_a_time(void **state)
{
	struct fl_options o = live_options(64 * MIB);
	struct fl *fl = live_armed(&o);
	const size_t n = 8192;
	char *mem = live_map(fl, n);
	int fd = image_fd(), other = image_fd(), ro, pipes[2];
	char path[64];

	(void)state;
	assert_int_equal(fl_snapshot_wait(fl), -ENOENT);
	live_fill(mem, 0, n, 1);
	/* refused, and nothing was begun */
	assert_int_equal(fl_snapshot(fl, mem + 1, PG, fd, 0, -1), -EINVAL);
	assert_int_equal(fl_snapshot(fl, mem, 0, fd, 0, -1), -EINVAL);
	assert_int_equal(fl_snapshot(fl, mem, PG, fd, 2, -1), -EINVAL);
	assert_int_equal(fl_snapshot(fl, mem, PG, -1, 0, -1), -EBADF);
	assert_int_equal(fl_snapshot(fl, mem, PG, 12345, 0, -1), -EBADF);
	assert_int_equal(fl_snapshot(fl, mem, PG, fd, 0, 12345), -EBADF);
	assert_int_equal(fl_snapshot(fl, mem, PG, fd, 0, -2), -EBADF);
	assert_int_equal(fl_snapshot(fl, mem, PG, fd, 0, other), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(fl_snapshot(fl, mem, PG, pipes[1], 0, -1), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fl_snapshot(fl, mem, PG, ro, 0, -1), -EBADF);
	assert_int_equal(fl_snapshot(fl, (void *)PG, PG, fd, 0, -1), -ENOMEM);
	assert_int_equal(fl_snapshot_wait(fl), -ENOENT);

	assert_int_equal(fl_snapshot(fl, mem, n * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
	/* until it has ended there is no other */
	for (int r; (r = fl_snapshot(fl, mem, 16 * PG, other, FL_SNAPSHOT_NOSYNC, -1)) != 0;) {
		assert_int_equal(r, -EBUSY);
		assert_int_equal(lseek(other, 0, SEEK_END), 0);
	}
	assert_int_equal(fl_snapshot_wait(fl), 0);
	live_check(map_image(fl, fd, n), 0, n, 1);
	live_check(map_image(fl, other, 16), 0, 16, 1);
	/* a file that has something in it is not written over */
	assert_int_equal(fl_snapshot(fl, mem, PG, fd, 0, -1), -EEXIST);
	/* mappings of files are not for images */
	assert_int_equal(fl_snapshot(fl, map_image(fl, fd, n), PG, image_fd(), 0, -1), -EINVAL);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	close(other);
	close(ro);
	close(pipes[0]);
	close(pipes[1]);
}

/*
 * Private mappings of a file: what was written is in an image of all memory, wherever it is; of
 * the rest it says that it is the file's, and where it stands there.
 */
static void files(void **state)
{
	enum { READ = 20, WRITTEN = 40, OUT = 60, SHIFT = 3, N = 80 };
	struct fl_options o = live_options(LIMIT);
	struct fl *fl = live_open(&o);
	int fd = image_fd(), file = open(live_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *shadow = malloc((N + SHIFT) * PG), page[PG], name[256];
	enum image_page what;
	struct image im;
	uint64_t offset;
	char *mem;

	(void)state;
	assert_true(file >= 0);
	live_fill(shadow, 0, N + SHIFT, 1);
	assert_int_equal(pwrite(file, shadow, (N + SHIFT) * PG, 0), (N + SHIFT) * PG);
	mem = fl_mmap(fl, NULL, N * PG, RW, MAP_PRIVATE, file, SHIFT * PG);
	assert_ptr_not_equal(mem, FL_FAILED);
	for (size_t p = 0; p < WRITTEN; p++)
		if (p < READ)
			live_check(mem - SHIFT * PG, p + SHIFT, 1, 1);
		else
			live_fill(mem, p, 1, 2);
	live_fill(mem, WRITTEN, OUT - WRITTEN, 3);
	assert_int_equal(fl_madvise(fl, mem + WRITTEN * PG, (OUT - WRITTEN) * PG, MADV_PAGEOUT), 0);
	assert_int_equal(fl_snapshot(fl, NULL, 0, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
	live_fill(mem, 0, N - 1, 4);
	/* the last page that was written is cut off, the others stay what they are */
	assert_int_equal(fl_ftruncate(fl, file, (SHIFT + OUT - 1) * PG), 0);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	if (image_open(&im, fd, name, sizeof(name)) != 0)
		fail_msg("image: %s", name);
	for (size_t p = 0; p < N; p++) {
		assert_int_equal(image_page(&im, (uintptr_t)mem + p * PG, page, &what), 0);
		if (p >= READ && p < OUT) {
			assert_int_equal(what, IMAGE_PAGE_GOOD);
			assert_int_equal(live_wrong(page - p * PG, p, 1, p < WRITTEN ? 2 : 3), 0);
			continue;
		}
		assert_int_equal(what, IMAGE_PAGE_FILE);
		assert_true(image_file(&im, (uintptr_t)mem + p * PG, name, sizeof(name), &offset));
		assert_int_equal(offset, (p + SHIFT) * PG);
		assert_true(name[0] != '\0');
	}
	image_close(&im);
	live_check(mem, 0, OUT - 1, 4);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
	close(file);
	free(shadow);
}

/* Memory that had huge pages before it was paged. */
static void huge_pages(void **state)
{
	const size_t n = 4096;
	struct fl_options o = live_options(64 * MIB);
	struct fl *fl = live_open(&o);
	char *mem = fl_mmap(fl, NULL, n * PG, RW, ANON, -1, 0);
	int fd = image_fd();

	(void)state;
	assert_ptr_not_equal(mem, FL_FAILED);
	madvise(mem, n * PG, MADV_HUGEPAGE);
	live_fill(mem, 0, n, 1);
	assert_int_equal(fl_snapshot(fl, mem, n * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
	for (size_t p = n; p-- > 0;)
		live_fill(mem, p, 1, 2);
	assert_int_equal(fl_snapshot_wait(fl), 0);
	live_check(map_image(fl, fd, n), 0, n, 1);
	live_check(mem, 0, n, 2);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

/* The limit falls below what the buffer was made for; what is held stays within it. */
static void lower_limit(void **state)
{
	const size_t n = 16384;
	struct fl_options o = live_options(256 * MIB);
	struct fl *fl = live_armed(&o);
	char *mem = live_map(fl, n);
	char *image;
	int fd = image_fd();

	(void)state;
	live_fill(mem, 0, n, 1);
	assert_int_equal(fl_snapshot(fl, mem, n * PG, fd, FL_SNAPSHOT_NOSYNC, -1), 0);
	assert_int_equal(fl_set_limit(fl, FL_LIMIT_MIN), 0);
	for (size_t p = n; p-- > 0;) {
		struct fl_stats st;

		live_fill(mem, p, 1, 2);
		if (p % 512 != 0)
			continue;
		st = live_stats(fl);
		assert_true(st.resident + st.staged <= FL_LIMIT_MIN / PG);
	}
	assert_int_equal(fl_snapshot_wait(fl), 0);
	image = mmap(NULL, n * PG, PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(image, MAP_FAILED);
	live_check(image, 0, n, 1);
	munmap(image, n * PG);
	live_check(mem, 0, n, 2);
	assert_int_equal(fl_close(fl), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state),
		cmocka_unit_test(written_from_afar),
		cmocka_unit_test(one_instant),
		cmocka_unit_test(written_before_the_instant),
		cmocka_unit_test(dropped_and_moved),
		cmocka_unit_test(given_back),
		cmocka_unit_test(all_memory),
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(files),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(lower_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
