/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A small key-value store in one mapped file, whose transactions are all there
 * or not at all, whenever the process is killed.
 *
 * The mapping is held (FL_MAP_HOLD): records are changed where they lie, and
 * none of that reaches the file before the program says so, however tight memory
 * is.  A commit copies the pages that it changed to the journal and syncs that,
 * then syncs the pages themselves.  Who opens the file puts back what a complete
 * journal has: the pages may have been written in part.
 *
 *	kv-store                   try it: kill a writer, look, again
 *	kv-store FILE put KEY VALUE
 *	kv-store FILE get KEY
 */
#include <faultline.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define JOURNAL_PAGES 256U /* changed by one transaction at most */
#define DATA_PAGES 4096U   /* 16 MiB of records, eight times the limit */
#define FILE_BYTES ((1 + JOURNAL_PAGES + DATA_PAGES) * PAGE)
#define MAGIC 0x31766b656e696c66U

struct record {
	char key[24]; /* "": free */
	char value[40];
};

#define RECORDS (PAGE / sizeof(struct record))

/* The first page of the file, followed by the journal's pages and the data. */
struct journal {
	uint64_t magic, sum; /* of the rest of this page and the copies */
	uint32_t count;
	uint32_t page[JOURNAL_PAGES]; /* which page of the data each copy is of */
};

struct kv {
	struct fl *fl;
	struct journal *journal;
	char *copy, *data;
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

/* A complete journal is put back; an incomplete one is of a commit that did not happen. */
static int recover(struct kv *kv)
{
	struct journal *j = kv->journal;

	if (j->magic != MAGIC || j->count > JOURNAL_PAGES || j->sum != journal_sum(kv))
		return 0;
	for (uint32_t i = 0; i < j->count; i++)
		if (j->page[i] < DATA_PAGES)
			memcpy(kv->data + j->page[i] * PAGE, kv->copy + i * PAGE, PAGE);
	return fl_sync(kv->fl, kv->data, DATA_PAGES * PAGE);
}

static int kv_open(struct kv *kv, const char *path)
{
	struct fl_options options = {.size = sizeof(options), .limit = FL_LIMIT_MIN};
	char *map;
	int err;

	memset(kv, 0, sizeof(*kv));
	kv->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (kv->fd < 0 || ftruncate(kv->fd, FILE_BYTES) != 0) {
		perror(path);
		return -1;
	}
	err = fl_open(&kv->fl, &options);
	if (err != 0) {
		fprintf(stderr, "kv-store: %s\n", strerror(-err));
		return -1;
	}
	map = fl_mmap(kv->fl, NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | FL_MAP_HOLD,
		      kv->fd, 0);
	if (map == FL_FAILED) {
		perror("fl_mmap");
		return -1;
	}
	kv->journal = (struct journal *)(void *)map;
	kv->copy = map + PAGE;
	kv->data = kv->copy + JOURNAL_PAGES * PAGE;
	return recover(kv);
}

static int kv_close(struct kv *kv)
{
	int err = fl_close(kv->fl); /* what was not committed is dropped */

	close(kv->fd);
	return err;
}

/* Where a key is, or could be; NULL: the store is full. */
static struct record *find(struct kv *kv, const char *key)
{
	uint64_t hash = 0xcbf29ce484222325U;
	struct record *r = (struct record *)(void *)kv->data;
	size_t n = DATA_PAGES * RECORDS;

	for (const char *c = key; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3U;
	for (size_t i = 0; i < n; i++) {
		struct record *at = &r[((hash >> 20) + i) % n];

		if (at->key[0] == '\0' || strncmp(at->key, key, sizeof(at->key)) == 0)
			return at;
	}
	return NULL;
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
	page = (uint32_t)(((char *)(void *)r - kv->data) / (long)PAGE);
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

	for (uint32_t i = 0; i < kv->nchanged; i++) {
		j->page[i] = kv->changed[i];
		memcpy(kv->copy + i * PAGE, kv->data + kv->changed[i] * PAGE, PAGE);
	}
	j->magic = MAGIC;
	j->count = kv->nchanged;
	j->sum = journal_sum(kv);
	/* from here on it has happened, */
	err = fl_sync(kv->fl, j, (1 + kv->nchanged) * PAGE);
	/* and the journal may be overwritten when the pages are there, too */
	for (uint32_t i = 0; i < kv->nchanged && err == 0; i++)
		err = fl_sync(kv->fl, kv->data + kv->changed[i] * PAGE, PAGE);
	if (err == 0)
		kv->nchanged = 0;
	return err;
}

/* The pages are the file's again. */
static void kv_abort(struct kv *kv)
{
	for (uint32_t i = 0; i < kv->nchanged; i++)
		fl_madvise(kv->fl, kv->data + kv->changed[i] * PAGE, PAGE, MADV_DONTNEED);
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

int main(int argc, char **argv)
{
	struct kv kv;
	const char *v = NULL;
	int err = 1;

	if (argc == 1)
		return try();
	if (!(argc == 5 && strcmp(argv[2], "put") == 0) &&
	    !(argc == 4 && strcmp(argv[2], "get") == 0)) {
		fprintf(stderr, "usage: kv-store [FILE put KEY VALUE | FILE get KEY]\n");
		return 2;
	}
	if (kv_open(&kv, argv[1]) != 0)
		return 1;
	if (argc == 5) {
		err = kv_put(&kv, argv[3], argv[4]) != 0 || kv_commit(&kv) != 0;
	} else {
		v = kv_get(&kv, argv[3]);
		err = v == NULL;
		puts(v != NULL ? v : "(nothing)");
	}
	return kv_close(&kv) == 0 && !err ? 0 : 1;
}
