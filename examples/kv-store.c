/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small key-value store in one mapped file, and what is said against databases
 * that map their files, answered, each to be tried.
 *
 * Transactional safety: what is committed is all there or not at all, whenever the
 * process is killed.  The mappings are held (FL_MAP_HOLD): records are changed where
 * they lie, and none of that reaches the file before the program says so, however tight
 * memory is.  A commit copies the pages that it changed to the journal and syncs that,
 * then syncs the pages themselves.  Who opens the file puts back what a complete
 * journal has: the pages may have been written in part.
 *
 * Errors: each page of records has its checksum.  They are mapped from a source of
 * pages, which looks at it before anybody sees the page; what is damaged is asked for of
 * a function, which has the journal's copy.
 *
 * Stalls: a page is asked for beforehand, and something else is done until it is there.
 *
 * Control: a page is pinned; the rest has a limit and a read-ahead window of its own, leaves
 * before other memory, and when it is told to.
 *
 *	kv-store                   try it: kill a writer, look, again
 *	kv-store FILE put KEY VALUE
 *	kv-store FILE get KEY
 *	kv-store FILE stalls KEY   get it without waiting for the disk
 *	kv-store FILE errors KEY   try it: spoil the page that has it, twice
 *	kv-store FILE control KEY  try it: pin the page that has it
 */
#include <errno.h>
#include <faultline.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define JOURNAL_PAGES 256U /* changed by one transaction at most */
#define DATA_PAGES 4096U   /* 16 MiB of records, eight times the limit */
#define JOURNAL_BYTES ((1 + JOURNAL_PAGES) * PAGE)
#define DATA_BYTES (DATA_PAGES * PAGE)
#define MAGIC 0x32766b656e696c66U

struct record {
	char key[24]; /* "": free */
	char value[40];
};

#define RECORDS (PAGE / sizeof(struct record) - 1)

struct page {
	struct record record[RECORDS];
	uint64_t sum; /* of these; as it was committed */
	uint64_t unused[7];
};

/* The first page of the file, followed by the journal's pages and the data. */
struct journal {
	uint64_t magic, sum; /* of the rest of this page and the copies */
	uint32_t count;
	uint32_t page[JOURNAL_PAGES]; /* which page of the data each copy is of */
};

struct kv {
	struct fl *fl;
	struct fl_backing *source;
	struct journal *journal;
	struct page *copy, *data;
	bool recovers;		 /* the journal is complete */
	unsigned repaired, lost; /* damaged pages */
	uint32_t changed[JOURNAL_PAGES];
	uint32_t nchanged;
	int fd;
};

static uint64_t sum_add(uint64_t sum, const void *bytes, size_t length)
{
	uint64_t word;

	for (size_t at = 0; at + sizeof(word) <= length; at += sizeof(word)) {
		memcpy(&word, (const char *)bytes + at, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3U;
		sum ^= sum >> 29;
	}
	return sum;
}

static uint64_t journal_sum(const struct kv *kv)
{
	uint64_t sum = sum_add(MAGIC, &kv->journal->count, sizeof(*kv->journal) - 16);

	return sum_add(sum, kv->copy, kv->journal->count * PAGE);
}

/* Of zeros 0: a page that was never written is whole. */
static uint64_t page_sum(const struct page *page)
{
	return sum_add(0, page->record, sizeof(page->record));
}

/* ---- the source of pages, on threads of the library's ---- */

static int read_pages(void *ctx, uint64_t offset, void *buf, size_t length)
{
	const struct kv *kv = ctx;
	const struct page *page = buf;

	if (pread(kv->fd, buf, length, (off_t)(JOURNAL_BYTES + offset)) != (ssize_t)length)
		return -EIO;
	for (size_t i = 0; i < length / PAGE; i++)
		if (page[i].sum != page_sum(&page[i]))
			return -EBADMSG;
	return 0;
}

static int write_pages(void *ctx, uint64_t offset, const void *buf, size_t length)
{
	const struct kv *kv = ctx;
	ssize_t n = pwrite(kv->fd, buf, length, (off_t)(JOURNAL_BYTES + offset));

	return n == (ssize_t)length ? 0 : n < 0 ? -errno : -EIO;
}

static int sync_pages(void *ctx)
{
	const struct kv *kv = ctx;

	return fdatasync(kv->fd) == 0 ? 0 : -errno;
}

/* A page cannot be read: the journal may have it, or else its records are lost. */
static enum fl_error_choice repair(void *arg, void *addr, uint64_t offset, int error, void *page)
{
	struct kv *kv = arg;

	(void)addr;
	for (uint32_t i = 0; kv->recovers && i < kv->journal->count; i++) {
		if (kv->journal->page[i] != offset / PAGE)
			continue;
		memcpy(page, &kv->copy[i], PAGE);
		kv->repaired++;
		return FL_ERROR_PAGE;
	}
	fprintf(stderr, "kv-store: page %lu is lost: %s\n", (unsigned long)(offset / PAGE),
		strerror(-error));
	memset(page, 0, PAGE);
	kv->lost++;
	return FL_ERROR_PAGE;
}

/* ---- the store ---- */

/* A complete journal is put back; an incomplete one is of a commit that did not happen. */
static int recover(struct kv *kv)
{
	const struct journal *j = kv->journal;

	kv->recovers = j->magic == MAGIC && j->count <= JOURNAL_PAGES && j->sum == journal_sum(kv);
	if (!kv->recovers)
		return 0;
	for (uint32_t i = 0; i < j->count; i++)
		if (j->page[i] < DATA_PAGES)
			memcpy(&kv->data[j->page[i]], &kv->copy[i], PAGE);
	return fl_sync(kv->fl, kv->data, DATA_BYTES);
}

static int kv_open(struct kv *kv, const char *path)
{
	const struct fl_backing_ops ops = {
		.size = sizeof(ops),
		.read = read_pages,
		.write = write_pages,
		.sync = sync_pages,
	};
	const struct fl_region_options asks = {
		.size = sizeof(asks), .on_error = repair, .error_arg = kv};
	struct fl_options options = {.size = sizeof(options), .limit = FL_LIMIT_MIN};
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | FL_MAP_HOLD;
	int err;

	memset(kv, 0, sizeof(*kv));
	kv->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (kv->fd < 0 || ftruncate(kv->fd, JOURNAL_BYTES + DATA_BYTES) != 0) {
		perror(path);
		return -1;
	}
	err = fl_open(&kv->fl, &options);
	if (err == 0)
		err = fl_backing_open(kv->fl, &kv->source, &ops, kv, DATA_BYTES);
	if (err != 0) {
		fprintf(stderr, "kv-store: %s\n", strerror(-err));
		return -1;
	}
	kv->journal = fl_mmap(kv->fl, NULL, JOURNAL_BYTES, prot, flags, kv->fd, 0);
	kv->data = fl_mmap_backing(kv->fl, NULL, DATA_BYTES, prot, flags, kv->source, 0);
	if (kv->journal == FL_FAILED || kv->data == FL_FAILED) {
		perror("fl_mmap");
		return -1;
	}
	kv->copy = (struct page *)(void *)((char *)kv->journal + PAGE);
	err = fl_region_set(kv->fl, kv->data, DATA_BYTES, &asks);
	return err != 0 ? err : recover(kv);
}

static int kv_close(struct kv *kv)
{
	int err = fl_close(kv->fl); /* what was not committed is dropped */

	close(kv->fd);
	return err;
}

#define SLOTS (DATA_PAGES * RECORDS)

/* Where it is looked for first. */
static size_t slot_of(const char *key)
{
	uint64_t hash = 0xcbf29ce484222325U;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char)*key) * 0x100000001b3U;
	return (hash >> 20) % SLOTS;
}

/* Where a key is, or could be; NULL: the store is full. */
static struct record *find(struct kv *kv, const char *key)
{
	size_t slot = slot_of(key);

	for (size_t i = 0; i < SLOTS; i++) {
		size_t k = (slot + i) % SLOTS;
		struct record *at = &kv->data[k / RECORDS].record[k % RECORDS];

		if (at->key[0] == '\0' || strncmp(at->key, key, sizeof(at->key)) == 0)
			return at;
	}
	return NULL;
}

static uint32_t page_of(const struct kv *kv, const struct record *r)
{
	return (uint32_t)(((const char *)r - (const char *)kv->data) / (long)PAGE);
}

static const char *kv_get(struct kv *kv, const char *key)
{
	struct record *r = find(kv, key);

	return r != NULL && r->key[0] != '\0' ? r->value : NULL;
}

static int kv_put(struct kv *kv, const char *key, const char *value)
{
	struct record *r = find(kv, key);
	uint32_t page, i;

	if (r == NULL || key[0] == '\0' || strlen(key) >= sizeof(r->key) ||
	    strlen(value) >= sizeof(r->value))
		return -1;
	page = page_of(kv, r);
	for (i = 0; i < kv->nchanged && kv->changed[i] != page; i++)
		;
	if (i == JOURNAL_PAGES)
		return -1; /* too large a transaction */
	if (i == kv->nchanged)
		kv->changed[kv->nchanged++] = page;
	strcpy(r->key, key);
	strcpy(r->value, value);
	return 0;
}

static int kv_commit(struct kv *kv)
{
	struct journal *j = kv->journal;
	int err;

	/* until it is complete it is no page's copy */
	kv->recovers = false;
	for (uint32_t i = 0; i < kv->nchanged; i++) {
		struct page *page = &kv->data[kv->changed[i]];

		page->sum = page_sum(page);
		j->page[i] = kv->changed[i];
		memcpy(&kv->copy[i], page, PAGE);
	}
	j->magic = MAGIC;
	j->count = kv->nchanged;
	j->sum = journal_sum(kv);
	/* from here on it has happened, */
	err = fl_sync(kv->fl, j, (1 + kv->nchanged) * PAGE);
	/* and the journal may be overwritten when the pages are there, too */
	for (uint32_t i = 0; i < kv->nchanged && err == 0; i++)
		err = fl_sync(kv->fl, &kv->data[kv->changed[i]], PAGE);
	if (err != 0)
		return err;
	kv->nchanged = 0;
	kv->recovers = true;
	return 0;
}

/* The pages are the file's again. */
static void kv_abort(struct kv *kv)
{
	for (uint32_t i = 0; i < kv->nchanged; i++)
		fl_madvise(kv->fl, &kv->data[kv->changed[i]], PAGE, MADV_DONTNEED);
	kv->nchanged = 0;
}

/* ---- trying it ---- */

#define KEYS 24U

/* Transactions on and on: each gives all keys the next number, or is taken back. */
static void write_on(const char *path, int out)
{
	struct kv kv;
	char key[24], value[40];
	const char *last;
	unsigned n;

	if (kv_open(&kv, path) != 0)
		_exit(1);
	last = kv_get(&kv, "key0");
	n = last != NULL ? (unsigned)atoi(last) : 0;
	for (;;) {
		bool keep = n % 5 != 4;

		n++;
		snprintf(value, sizeof(value), "%u", keep ? n : 4000000000U);
		for (unsigned i = 0; i < KEYS; i++) {
			snprintf(key, sizeof(key), "key%u", i);
			if (kv_put(&kv, key, value) != 0)
				_exit(1);
		}
		/* memory is tight: much of what was changed and looked at is pushed out */
		for (unsigned i = 0; i < 100; i++) {
			snprintf(key, sizeof(key), "other%u", n * 100 + i);
			kv_get(&kv, key);
		}
		if (!keep)
			kv_abort(&kv);
		else if (kv_commit(&kv) != 0 || write(out, &n, sizeof(n)) != sizeof(n))
			_exit(1);
	}
}

/* All keys have one number, no less than the last that was told.  That number, 0: not so. */
static unsigned look(const char *path, unsigned told)
{
	struct kv kv;
	char key[24], value[40];
	unsigned n = 0;
	const char *v;

	if (kv_open(&kv, path) != 0)
		return 0;
	v = kv_get(&kv, "key0");
	snprintf(value, sizeof(value), "%s", v != NULL ? v : "0");
	n = (unsigned)atoi(value);
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		v = kv_get(&kv, key);
		if (v == NULL || strcmp(v, value) != 0) {
			printf("%s is %s, not %s\n", key, v != NULL ? v : "nothing", value);
			n = 0;
		}
	}
	if (kv_close(&kv) != 0 || n < told || n > told + 2)
		return 0;
	return n;
}

static int try(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	unsigned told = 0, n = 0;

	snprintf(path, sizeof(path), "%s/kv-store-%d", dir != NULL ? dir : "/var/tmp",
		 (int)getpid());
	for (unsigned round = 0; round < 12; round++) {
		unsigned wait = 3 + round * 7 % 19;
		int fds[2], status;
		pid_t pid;

		if (pipe(fds) != 0 || (pid = fork()) < 0) {
			perror("kv-store");
			return 1;
		}
		if (pid == 0)
			write_on(path, fds[1]);
		close(fds[1]);
		/* after so many commits, in the middle of whatever it does then */
		while (wait-- != 0 && read(fds[0], &told, sizeof(told)) == sizeof(told))
			;
		usleep(round * 131 % 3000);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		while (read(fds[0], &told, sizeof(told)) == sizeof(told))
			;
		close(fds[0]);
		n = look(path, told);
		printf("killed after commit %u was told: %u is there\n", told, n);
		if (n == 0)
			break;
	}
	unlink(path);
	return n != 0 ? 0 : 1;
}

/* ---- stalls ---- */

/* Where a key would be, if nothing else was there first. */
static struct page *first_page(struct kv *kv, const char *key)
{
	return &kv->data[slot_of(key) / RECORDS];
}

/* A touch may wait for the disk: ask whether it would, have the page brought, work meanwhile. */
static int stalls(const char *path, const char *key)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct pollfd here = {.fd = fd, .events = POLLIN};
	struct page *page;
	unsigned long done = 0;
	const char *v;
	struct kv kv;

	if (fd < 0 || kv_open(&kv, path) != 0)
		return 1;
	page = first_page(&kv, key);
	if (fl_try(kv.fl, page, PAGE) == -EAGAIN) {
		printf("%s would wait for the disk\n", key);
		if (fl_prefetch(kv.fl, page, PAGE, fd) != 0)
			return 1;
		while (poll(&here, 1, 0) == 0)
			done++; /* here other keys are looked up */
		printf("looked %lu times whether it is there\n", done + 1);
	}
	if (fl_try(kv.fl, page, PAGE) != 0)
		return 1;
	v = kv_get(&kv, key);
	puts(v != NULL ? v : "(nothing)");
	close(fd);
	return kv_close(&kv) == 0 && v != NULL ? 0 : 1;
}

/* ---- errors ---- */

/* As a disk does it: one byte of the page that has a key. */
static int spoil(const char *path, uint32_t page)
{
	off_t at = (off_t)(JOURNAL_BYTES + page * PAGE + 1);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char c = 0;
	int bad = fd < 0 || pread(fd, &c, 1, at) != 1;

	c ^= 0x10;
	bad |= pwrite(fd, &c, 1, at) != 1;
	close(fd);
	return bad;
}

/* A key of another page than that. */
static int put_elsewhere(struct kv *kv, uint32_t page)
{
	char key[24];
	unsigned i = 0;

	do
		snprintf(key, sizeof(key), "elsewhere%u", i++);
	while (page_of(kv, find(kv, key)) == page);
	return kv_put(kv, key, "there") != 0 || kv_commit(kv) != 0;
}

/* Nobody sees bytes that are not what was committed. */
static int errors(const char *path, const char *key)
{
	const char *v;
	struct kv kv;
	uint32_t page;

	if (kv_open(&kv, path) != 0 || kv_put(&kv, key, "whole") != 0 || kv_commit(&kv) != 0)
		return 1;
	page = page_of(&kv, find(&kv, key));
	if (kv_close(&kv) != 0 || spoil(path, page) != 0 || kv_open(&kv, path) != 0)
		return 1;
	v = kv_get(&kv, key);
	printf("damaged, and the journal has it: repaired %u, %s is %s\n", kv.repaired, key,
	       v != NULL ? v : "(nothing)");
	if (kv.repaired != 1 || v == NULL || strcmp(v, "whole") != 0)
		return 1;
	/* that it has another transaction's pages is the usual case */
	if (put_elsewhere(&kv, page) != 0 || kv_close(&kv) != 0 || spoil(path, page) != 0 ||
	    kv_open(&kv, path) != 0)
		return 1;
	v = kv_get(&kv, key);
	printf("damaged, and nobody has it: lost %u, %s is %s\n", kv.lost, key,
	       v != NULL ? v : "(nothing)");
	if (kv.lost != 1 || v != NULL || kv_put(&kv, key, "whole again") != 0 ||
	    kv_commit(&kv) != 0 || kv_close(&kv) != 0 || kv_open(&kv, path) != 0)
		return 1;
	v = kv_get(&kv, key);
	printf("written again: %s is %s\n", key, v != NULL ? v : "(nothing)");
	return v != NULL && kv.lost == 0 && kv_close(&kv) == 0 ? 0 : 1;
}

/* ---- control ---- */

#define RANGE_LIMIT (512UL << 10)
#define RANGE_AHEAD (128UL << 10)

/* How many of the pages are in frames of the program. */
static unsigned long present(const struct kv *kv)
{
	static unsigned char state[DATA_PAGES];
	unsigned long n = 0;

	if (fl_page_state(kv->fl, kv->data, DATA_BYTES, state) != 0)
		return DATA_PAGES;
	for (size_t i = 0; i < DATA_PAGES; i++)
		n += FL_PAGE_KIND(state[i]) == FL_PAGE_PRESENT;
	return n;
}

static int page_out(const struct kv *kv, size_t first, size_t end)
{
	return first == end
		       ? 0
		       : fl_madvise(kv->fl, &kv->data[first], (end - first) * PAGE, MADV_PAGEOUT);
}

/* What stays, what leaves and when is the program's to say. */
static int control(const char *path, const char *key)
{
	struct fl_region_options range = {.size = sizeof(range),
					  .priority = FL_PRIORITY_COLD,
					  .limit = RANGE_LIMIT,
					  .readahead = RANGE_AHEAD,
					  .on_error = repair};
	unsigned long before, after;
	const volatile char *c;
	struct page *page;
	struct kv kv;
	size_t at;

	if (kv_open(&kv, path) != 0)
		return 1;
	range.error_arg = &kv;
	page = first_page(&kv, key);
	at = (size_t)(page - kv.data);
	if (fl_mlock(kv.fl, page, PAGE) != 0 ||
	    fl_region_set(kv.fl, kv.data, DATA_BYTES, &range) != 0)
		return 1;
	for (size_t i = 0; i < DATA_PAGES; i++) {
		c = (const volatile char *)&kv.data[i];
		(void)*c;
	}
	before = present(&kv);
	printf("%lu pages were touched, of which %lu are present: the range has %lu at most\n",
	       DATA_PAGES * 1UL, before, RANGE_LIMIT / PAGE);
	/* advice is not for what is locked */
	if (page_out(&kv, 0, at) != 0 || page_out(&kv, at + 1, DATA_PAGES) != 0)
		return 1;
	after = present(&kv);
	printf("told to leave: %lu is, that of %s\n", after, key);
	if (before > 2 * RANGE_LIMIT / PAGE || after != 1 || fl_try(kv.fl, page, PAGE) != 0)
		return 1;
	return kv_close(&kv) == 0 ? 0 : 1;
}

static int put(const char *path, const char *key, const char *value)
{
	struct kv kv;
	int err;

	if (kv_open(&kv, path) != 0)
		return 1;
	err = kv_put(&kv, key, value) != 0 || kv_commit(&kv) != 0;
	return kv_close(&kv) == 0 ? err : 1;
}

static int get(const char *path, const char *key)
{
	const char *v;
	struct kv kv;

	if (kv_open(&kv, path) != 0)
		return 1;
	v = kv_get(&kv, key);
	puts(v != NULL ? v : "(nothing)");
	return kv_close(&kv) == 0 && v != NULL ? 0 : 1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(const char *path, const char *key);
	} commands[] = {{"get", get}, {"stalls", stalls}, {"errors", errors}, {"control", control}};

	if (argc == 1)
		return try();
	if (argc == 5 && strcmp(argv[2], "put") == 0)
		return put(argv[1], argv[3], argv[4]);
	for (size_t i = 0; argc == 4 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[2], commands[i].name) == 0)
			return commands[i].run(argv[1], argv[3]);
	fprintf(stderr,
		"usage: kv-store [FILE put KEY VALUE | FILE get|stalls|errors|control KEY]\n");
	return 2;
}
