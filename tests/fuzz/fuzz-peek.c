/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process that lies about its memory: structures of a runtime with words of
 * them changed at random, addresses to anywhere, counts of any size, trees with
 * cycles.  The reader answers or says why not, in bounded time, writes nowhere but
 * where it was told to, and a reader that was not lied to sees what is there.
 *
 * The memory is the test's own, and read through /proc/self/mem.
 */
#include "fuzz.h"

#include "peek-text.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define IMAGE_BYTES ((size_t)2 << 20)
#define MANAGED ((uintptr_t)0x5000000000) /* two regions are told of here, nothing is mapped */
#define MANAGED_PAGES 1024U
#define NODES 16U

/* What a runtime has, in one piece. */
struct image {
	struct published published;
	struct region_tree regions;
	struct pte_table ptes;
	struct fill_table fills;
	struct mm_counters counters;
	struct swap_area *areas[FL_SWAP_MAX];
	struct pager *pagers[PAGERS_MAX];
	uint64_t limit, csum_key, cached, group, table[GROUP_HEAD / 8];
	uint32_t armed;
	struct swap_area area;
	struct pager pager;
	struct region region[3];
	struct fill_word fill[16];
	uint32_t low[2048];
	uint16_t high[2048];
	struct staging staging;
	char *chunk[4];
	struct stage_page place[STAGE_BLOCK_PAGES + STAGE_BUFFER_MAX];
	uint64_t node[NODES][512] __attribute__((aligned(4096)));
	char frames[64][4096] __attribute__((aligned(4096)));
};

static struct image *image, *whole;
static struct peek peek;
static char *bytes;
static int mem_fd, pagemap_fd;

static int slots(void *arg, unsigned area, uint32_t slot, unsigned n, char *buf, bool again)
{
	(void)arg, (void)again;
	assert_in_range(area, 0, FL_SWAP_MAX - 1);
	assert_in_range(n, 1, PEEK_PAGES);
	memset(buf, (int)slot, 4096);
	return 1;
}

/* Entry of page i: a state of each kind, in turn. */
static pte_t an_entry(unsigned i)
{
	switch (i % 7) {
	case 0:
		return 0;
	case 1:
		return pte_make(PTE_PRESENT, 0, PTE_YOUNG);
	case 2:
		return pte_make(PTE_STAGED, i % 64, 0);
	case 3:
		return pte_make(PTE_STAGED, STAGE_BLOCK_PAGES + i % 64, 0);
	case 4:
		return pte_make(PTE_SWAPPED, 1 + i % 2000, 0);
	case 5:
		return pte_make(PTE_FILLED, i % 16, 0);
	default:
		return i % 2 ? pte_make(PTE_POISONED, 0, 0)
			     : pte_make(PTE_PRESENT, 1 + i % 2000, PTE_WP);
	}
}

static void make_whole(void)
{
	struct image *m = image;
	vpn_t vpn = MANAGED / 4096;
	char page[4096] __attribute__((aligned(64)));

	memset(m, 0, IMAGE_BYTES);
	m->published = (struct published){
		.magic = PUBLISH_MAGIC,
		.layout = publish_layout(),
		.self = (uintptr_t)m,
		.armed = (uintptr_t)&m->armed,
		.limit = (uintptr_t)&m->limit,
		.regions = (uintptr_t)&m->regions,
		.ptes = (uintptr_t)&m->ptes,
		.fills = (uintptr_t)&m->fills,
		.staging = (uintptr_t)&m->staging,
		.areas = (uintptr_t)m->areas,
		.counters = (uintptr_t)&m->counters,
		.csum_key = (uintptr_t)&m->csum_key,
		.pagers = (uintptr_t)m->pagers,
		.cached = (uintptr_t)&m->cached,
		.group = (uintptr_t)&m->group,
	};
	m->armed = 1;
	m->limit = 1000;
	/* a struct group begins with the address of its table */
	m->group = (uintptr_t)&m->table[GROUP_HEAD / 8 - 1];
	m->table[GROUP_HEAD / 8 - 1] = (uintptr_t)m->table;
	m->areas[0] = &m->area;
	m->pagers[0] = &m->pager;
	m->pager.tid = 77;
	strcpy(m->area.path, "/an/area");
	m->area.csums = (struct slot_csums){m->low, m->high, 2048};
	m->area.max_slots = 2048;
	m->regions.root = &m->region[0];
	m->region[0] = (struct region){.left = &m->region[1],
				       .right = &m->region[2],
				       .start = MANAGED,
				       .end = MANAGED + (uintptr_t)MANAGED_PAGES * 4096,
				       .prot = 3};
	m->region[1] = (struct region){.start = 0x10000, .end = 0x20000, .prot = 1};
	m->region[2] = (struct region){.start = MANAGED * 2, .end = MANAGED * 2 + 8192};
	m->fills.word = m->fill;
	m->fills.cap = m->fills.used = 16;
	for (unsigned i = 0; i < 16; i++)
		m->fill[i].word = i * 0x1111111111U;
	m->ptes.nchunks = 1;
	m->ptes.chunk = m->chunk;
	m->chunk[0] = (char *)m->node;
	m->ptes.root = 1;
	m->node[1][vpn >> 27 & 511] = 2;
	m->node[2][vpn >> 18 & 511] = 3;
	for (unsigned i = 0; i < MANAGED_PAGES / 512; i++)
		m->node[3][(vpn >> 9 & 511) + i] = 4 + i;
	for (unsigned i = 0; i < MANAGED_PAGES; i++)
		m->node[4 + i / 512][i % 512] = an_entry(i);
	m->staging.base = (uintptr_t)m->frames;
	m->staging.buffer = (char *)m->frames;
	m->staging.page = m->place;
	for (unsigned i = 0; i < MANAGED_PAGES; i++)
		if (i % 7 == 3)
			m->place[STAGE_BLOCK_PAGES + i % 64] = (struct stage_page){
				.vpn = vpn + i, .state = STAGE_READING, .swp = 1 + i % 2000};
	for (unsigned i = 0; i < 64; i++)
		memset(m->frames[i], 128 + (int)i, 4096);
	for (unsigned i = 1; i < 2048; i++) {
		uint64_t csum;

		memset(page, (int)i, sizeof(page));
		csum = stage_csum_keyed(0, page, i);
		m->low[i] = (uint32_t)csum;
		m->high[i] = (uint16_t)(csum >> 32);
	}
	memcpy(whole, image, IMAGE_BYTES);
}

/* An address in the image, at its edges, or anywhere; a count; a bit. */
static void spoil(void)
{
	uint64_t *w = (uint64_t *)(void *)image;
	size_t used = sizeof(*image) / sizeof(*w);
	/* mostly in front, where everything has a meaning */
	size_t at = fuzz_below(4) != 0 ? fuzz_below(offsetof(struct image, place) / sizeof(*w))
				       : fuzz_below((unsigned)used);

	switch (fuzz_below(8)) {
	case 0:
		w[at] ^= (uint64_t)1 << fuzz_below(64);
		break;
	case 1:
		w[at] = fuzz_random();
		break;
	case 2:
		w[at] = (uintptr_t)image + fuzz_below((unsigned)IMAGE_BYTES);
		break;
	case 3:
		w[at] = (uintptr_t)image + (uint64_t)fuzz_below((unsigned)(IMAGE_BYTES / 8)) * 8;
		break;
	case 4:
		w[at] = (uintptr_t)image + IMAGE_BYTES - fuzz_below(64);
		break;
	case 5:
		w[at] = fuzz_random() >> fuzz_below(64);
		break;
	case 6:
		w[at] = PEEK_END - fuzz_below(8192);
		break;
	case 7: /* a region, or a node's child, that is another's */
		if (fuzz_below(2))
			image->region[fuzz_below(3)].left = &image->region[fuzz_below(3)];
		else
			image->node[1 + fuzz_below(3)][fuzz_below(512)] = fuzz_below(NODES + 2);
		break;
	}
}

static int few_regions(const struct peek_region *r, void *arg)
{
	unsigned *n = arg;

	assert_true(r->start < r->end && r->end <= PEEK_END);
	assert_int_equal((r->start | r->end) & 4095, 0);
	if (r->end - r->start <= (uint64_t)4 * MANAGED_PAGES * 4096) {
		uint64_t count[PAGE_KINDS];
		char *text = NULL;
		size_t len;
		FILE *f = open_memstream(&text, &len);

		text_pages(&peek, r, f);
		fclose(f);
		free(text);
		count_pages(&peek, r, count);
	}
	return ++*n == 8;
}

static unsigned answered, refused;

static void note(int err)
{
	if (err >= 0)
		answered++;
	else
		refused++;
}

/* Ask everything. */
static void ask(void)
{
	static const uint64_t edge = 0x5a5a5a5a5a5a5a5aU;
	uint64_t *guard = (uint64_t *)(void *)(bytes + PEEK_PAGES * 4096);
	struct fl_stats s;
	struct peek_area a;
	char *text = NULL;
	size_t len;
	FILE *f;
	vpn_t vpn;
	unsigned n = 0;

	if (peek_open(&peek, mem_fd, fuzz_below(2) ? pagemap_fd : -1, (uintptr_t)image) != 0) {
		refused++;
		return;
	}
	peek.slots = slots;
	peek.passes = 3;
	*guard = edge;
	note(each_region(&peek, few_regions, &n));
	note(peek_stats(&peek, &s, NULL));
	for (unsigned i = 0; i < FL_SWAP_MAX; i += 1 + fuzz_below(8))
		if (peek_area(&peek, i, &a) == 0)
			assert_true(strlen(a.path) < sizeof(a.path));
	note(peek_pager(&peek));
	for (unsigned i = 0; i < 6; i++) {
		unsigned run = 1 + fuzz_below(PEEK_PAGES);

		vpn = MANAGED / 4096 + fuzz_below(MANAGED_PAGES);
		note(peek_read(&peek, vpn, run, bytes));
		note(peek_read(&peek, fuzz_random() >> (17 + fuzz_below(30)), run, bytes));
		vpn = fuzz_random() >> (17 + fuzz_below(47));
		note(peek_touched(&peek, &vpn, vpn + fuzz_below(1U << 20)));
	}
	f = open_memstream(&text, &len);
	note(text_status(&peek, f));
	fclose(f);
	free(text);
	assert_true(*guard == edge);
}

static void untouched(void **state)
{
	struct peek_region r;
	struct fl_stats s;

	(void)state;
	fuzz_begin();
	make_whole();
	assert_int_equal(peek_open(&peek, mem_fd, pagemap_fd, (uintptr_t)image), 0);
	peek.slots = slots;
	peek.passes = 3;
	assert_int_equal(peek_region(&peek, 0, &r), 1);
	assert_int_equal(r.start, 0x10000);
	assert_int_equal(peek_region(&peek, 0x20000, &r), 1);
	assert_int_equal(r.start, MANAGED);
	assert_int_equal(peek_stats(&peek, &s, NULL), 0);
	assert_int_equal(s.limit, 1000);
	for (unsigned i = 0; i < MANAGED_PAGES; i++) {
		int got = peek_read(&peek, MANAGED / 4096 + i, 1, bytes);
		unsigned char want = 0;

		if (i % 7 == 1 || (i % 7 == 6 && i % 2) ||
		    (i % 7 == 3 &&
		     whole->place[STAGE_BLOCK_PAGES + i % 64].vpn != MANAGED / 4096 + i)) {
			assert_int_equal(got, -EIO);
			continue;
		}
		if (i % 7 == 2)
			want = (unsigned char)(128 + i % 64);
		else if (i % 7 == 3 || i % 7 == 4 || i % 7 == 6)
			want = (unsigned char)(1 + i % 2000);
		else if (i % 7 == 5)
			want = (unsigned char)(i % 16 * 0x11);
		assert_int_equal(got, 1);
		assert_int_equal((unsigned char)bytes[0], want);
	}
}

static void spoilt(void **state)
{
	unsigned long rounds = fuzz_number("FUZZ_ROUNDS", 400);

	(void)state;
	fuzz_begin();
	make_whole();
	answered = refused = 0;
	for (unsigned long i = 0; i < rounds; i++) {
		unsigned n = 1 + fuzz_below(12);

		memcpy(image, whole, IMAGE_BYTES);
		while (n-- > 0)
			spoil();
		ask();
	}
	assert_true(answered > rounds && refused > rounds / 10);
	print_message("# %u answers, %u refusals\n", answered, refused);
}

static int begin(void **state)
{
	(void)state;
	image = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	whole = malloc(IMAGE_BYTES);
	bytes = fuzz_edge(PEEK_PAGES * 4096 + 4096);
	mem_fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return image == MAP_FAILED || sizeof(struct image) > IMAGE_BYTES || whole == NULL ||
	       mem_fd < 0 || pagemap_fd < 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(untouched), cmocka_unit_test(spoilt)};

	return cmocka_run_group_tests_name("peek", tests, begin, NULL);
}
