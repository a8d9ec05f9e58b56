/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store.c - 'faultline store': make a store, check one, tell about one.
 */
#include "cli.h"

#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define AREA_TEXT_MAX (NAME_MAX + 512)

static void usage(void)
{
	puts("usage: faultline store init DIR\n"
	     "       faultline store check DIR\n"
	     "       faultline store stat DIR|MNT\n"
	     "\n"
	     "  init   make DIR, which is empty or not there yet, a store\n"
	     "  check  look for what is wrong in DIR: a line for each thing\n"
	     "  stat   tell about the store DIR, or about the one that is mounted at MNT\n"
	     "\n"
	     "  --help  show this text\n"
	     "\n"
	     "Exit status: 0 done (check: nothing is wrong), 1 not (check: something is), 2 "
	     "usage.");
}

static int fail(const struct why *why)
{
	cli_error("%s", why->text);
	return EXIT_FAILED;
}

static int do_init(const char *dir)
{
	struct why why;

	return store_init(dir, &why) == 0 ? EXIT_OK : fail(&why);
}

static int do_check(const char *dir)
{
	struct why why;
	int n = store_check(dir, stdout, &why);

	if (n < 0)
		return fail(&why);
	if (n != 0)
		printf("%s: %d problem%s\n", dir, n, n == 1 ? "" : "s");
	else
		printf("%s: clean\n", dir);
	return n == 0 ? EXIT_OK : EXIT_FAILED;
}

static int area_print(const char *name, void *arg)
{
	const struct store *s = arg;
	char text[AREA_TEXT_MAX];
	struct area_info a;

	if (area_open(s->swap_fd, name, &a) != 0)
		return 0;
	area_text(&a, name, text, sizeof(text));
	area_close(&a);
	printf("\n%s", text);
	return 0;
}

static int stat_dir(const char *dir)
{
	char mnt[PATH_MAX];
	struct statvfs st;
	struct store s;
	struct why why;
	pid_t pid;
	int err;

	if (store_open(&s, dir, &why) != 0)
		return fail(&why);
	printf("store: %s\nversion: 1\n", s.dir);
	if (store_served(&s, &pid, mnt))
		printf("served: by process %ld at %s\n", (long)pid, mnt);
	else
		puts("served: no");
	if (fstatvfs(s.files_fd, &st) == 0)
		printf("free_bytes: %llu\n", (unsigned long long)st.f_bavail * st.f_frsize);
	err = area_each(s.swap_fd, area_print, &s);
	store_close(&s);
	if (err != 0) {
		why_set(&why, err, "%s/swap: %s", dir, strerror(-err));
		return fail(&why);
	}
	return EXIT_OK;
}

static int copy_out(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	close(fd);
	return n < 0 ? -errno : 0;
}

static int stat_mount(int mnt_fd, const char *mnt)
{
	int swap_fd = openat(mnt_fd, "swap", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dp = swap_fd < 0 ? NULL : fdopendir(swap_fd);
	struct dirent *e;
	struct why why;
	int err;

	err = dp == NULL ? -errno : copy_out(mnt_fd, "stats");
	while (err == 0 && (e = readdir(dp)) != NULL) {
		size_t n = strlen(e->d_name);

		if (n > 5 && strcmp(e->d_name + n - 5, ".stat") == 0) {
			putchar('\n');
			err = copy_out(dirfd(dp), e->d_name);
		}
	}
	if (dp != NULL)
		closedir(dp);
	if (err == 0)
		return EXIT_OK;
	why_set(&why, err, "%s: %s", mnt, strerror(-err));
	return fail(&why);
}

static int do_stat(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs st;
	struct why why;
	int r;

	if (fd < 0) {
		why_set(&why, -errno, "%s: %s", path, strerror(errno));
		return fail(&why);
	}
	if (fstatfs(fd, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC &&
	    faccessat(fd, "metrics", F_OK, 0) == 0)
		r = stat_mount(fd, path);
	else
		r = stat_dir(path);
	close(fd);
	return r;
}

int cmd_store(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	static const struct {
		const char *name;
		int (*fn)(const char *path);
	} subs[] = {{"init", do_init}, {"check", do_check}, {"stat", do_stat}};
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (opt != 'h')
			return cli_bad_option("store", argv, opt);
		usage();
		return EXIT_OK;
	}
	if (optind == argc)
		return cli_usage("store", "store wants init, check or stat");
	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++) {
		if (strcmp(argv[optind], subs[i].name) != 0)
			continue;
		if (argc - optind < 2)
			return cli_usage("store", "store %s wants a directory", subs[i].name);
		if (argc - optind > 2)
			return cli_usage("store", "store %s takes one directory: '%s'",
					 subs[i].name, argv[optind + 2]);
		return subs[i].fn(argv[optind + 1]);
	}
	return cli_usage("store", "there is no 'store %s'", argv[optind]);
}
