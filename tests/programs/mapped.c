/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work on a file through a mapping of it, which is private or shared.
 *
 *	mapped make FILE MIB	records of 32 bytes in no order, with a key and a word
 *	mapped sort FILE	sort them in a private one; the file stays as it is
 *	mapped find FILE WORD	where a word is, and by a child as well
 *	mapped order FILE	sort them in a shared one: the file is sorted
 *	mapped search FILE WORD	find, in a shared one that may only be read
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct record {
	uint64_t key;
	char word[24];
};

static void die(const char *what)
{
	fprintf(stderr, "mapped: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005U + 1442695040888963407U;
	return *x >> 11;
}

static void make(const char *path, unsigned long mib)
{
	FILE *f = fopen(path, "w");
	uint64_t x = 7;

	if (f == NULL)
		die(path);
	for (unsigned long i = 0; i < mib << 15; i++) {
		struct record r = {.key = next(&x)};

		snprintf(r.word, sizeof(r.word), "w%06u-%u\n", (unsigned)(next(&x) % 1000000),
			 (unsigned)(i & 0xffffff));
		if (fwrite(&r, sizeof(r), 1, f) != 1)
			die(path);
	}
	if (fclose(f) != 0)
		die(path);
}

/* Mapped, and the descriptor closed. */
static void *map(const char *path, int prot, int flags, size_t *len)
{
	int fd = open(path, (flags & MAP_SHARED) && (prot & PROT_WRITE) ? O_RDWR : O_RDONLY);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) != 0)
		die(path);
	*len = (size_t)st.st_size;
	p = mmap(NULL, *len, prot, flags, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	close(fd);
	return p;
}

static uint64_t sum_of(const void *p, size_t len)
{
	const unsigned char *b = p;
	uint64_t h = 14695981039346656037U;

	for (size_t i = 0; i < len; i++)
		h = (h ^ b[i]) * 1099511628211U;
	return h;
}

/* In place: the C library's would make a copy. */
static void quicksort(struct record *r, long n)
{
	while (n > 1) {
		uint64_t pivot = r[n / 2].key;
		long i = 0, k = n - 1;

		while (i <= k) {
			while (r[i].key < pivot)
				i++;
			while (r[k].key > pivot)
				k--;
			if (i <= k) {
				struct record t = r[i];

				r[i++] = r[k];
				r[k--] = t;
			}
		}
		if (k + 1 < n - i) {
			quicksort(r, k + 1);
			r += i;
			n -= i;
		} else {
			quicksort(r + i, n - i);
			n = k + 1;
		}
	}
}

static void sort(const char *path, int flags)
{
	size_t len, len2;
	struct record *r = map(path, PROT_READ | PROT_WRITE, flags, &len);
	size_t n = len / sizeof(*r);
	void *again;

	quicksort(r, (long)n);
	for (size_t i = 1; i < n; i++)
		if (r[i - 1].key > r[i].key) {
			printf("not sorted at %zu\n", i);
			exit(1);
		}
	printf("sorted %016llx, first %s", (unsigned long long)sum_of(r, len), r[0].word);
	again = map(path, PROT_READ, flags, &len2);
	printf("file %016llx\n", (unsigned long long)sum_of(again, len2));
}

static void find_in(const char *p, size_t len, const char *word)
{
	const char *at = p;
	size_t n = 0;
	uint64_t h = 0;

	while ((at = memmem(at, len - (size_t)(at - p), word, strlen(word))) != NULL) {
		if (n++ < 10)
			printf("%zu: %.*s", (size_t)(at - p), 20, at);
		h = h * 31 + (uint64_t)(at - p);
		at++;
	}
	printf("%zu, %016llx\n", n, (unsigned long long)h);
	fflush(stdout);
}

static void find(const char *path, const char *word, int flags)
{
	size_t len;
	const char *p = map(path, PROT_READ, flags, &len);
	pid_t pid;
	int status = 1;

	find_in(p, len, word);
	pid = fork();
	if (pid == 0) {
		find_in(p, len, word);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		die("child");
	find_in(p, len, word);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "make") == 0) {
		make(argv[2], strtoul(argv[3], NULL, 10));
	} else if (argc == 3 && strcmp(argv[1], "sort") == 0) {
		sort(argv[2], MAP_PRIVATE);
	} else if (argc == 3 && strcmp(argv[1], "order") == 0) {
		sort(argv[2], MAP_SHARED);
	} else if (argc == 4 && strcmp(argv[1], "find") == 0) {
		find(argv[2], argv[3], MAP_PRIVATE);
	} else if (argc == 4 && strcmp(argv[1], "search") == 0) {
		find(argv[2], argv[3], MAP_SHARED);
	} else {
		fprintf(stderr, "usage: mapped make FILE MIB | sort FILE | find FILE WORD | "
				"order FILE | search FILE WORD\n");
		return 2;
	}
	return 0;
}
