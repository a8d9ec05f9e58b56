/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * doctor.c - 'faultline doctor': can this machine run faultline, and if not,
 * what mends it?
 *
 * It looks and changes nothing; what it makes to look at (a file without a
 * name in the swap directory) is gone when it ends.
 */
#include "cli.h"
#include "doctor.h"
#include "pte.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 8
#define MIB ((uint64_t)1 << 20)
#define SWAP_LEAST (64 * MIB) /* a private area's first step */
#define NOFILE_LEAST 64

static const char *swap_dir = "/var/tmp";

void check_found(struct check_result *res, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(res->found, sizeof(res->found), fmt, ap);
	va_end(ap);
}

void check_mend(struct check_result *res, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(res->mend, sizeof(res->mend), fmt, ap);
	va_end(ap);
}

static enum check_state check_kernel(struct check_result *res)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	uname(&u);
	check_found(res, "%s %s, %s", u.sysname, u.release, u.machine);
	if (sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	    (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)))
		return CHECK_OK;
	check_found(res, "%s %s; %u.%u or later is needed", u.sysname, u.release, KERNEL_MAJOR,
		    KERNEL_MINOR);
	check_mend(res,
		   "sudo sh -c 'echo deb http://deb.debian.org/debian bookworm-backports main "
		   ">/etc/apt/sources.list.d/backports.list; apt-get update; apt-get install -t "
		   "bookworm-backports linux-image-amd64', then reboot (Debian 12)");
	return CHECK_MISSING;
}

static enum check_state check_page_size(struct check_result *res)
{
	long size = sysconf(_SC_PAGESIZE);

	check_found(res, "%ld bytes", size);
	if (size == 4096)
		return CHECK_OK;
	check_mend(res, "boot a kernel with pages of 4096 bytes");
	return CHECK_MISSING;
}

static enum check_state check_intercept(struct check_result *res)
{
#if defined(__x86_64__) && defined(__GLIBC__)
	check_found(res, "x86-64, glibc: 'faultline run' takes unmodified programs");
	return CHECK_OK;
#else
	check_found(res, "'faultline run' knows x86-64 with glibc only; -lfaultline works");
	return CHECK_OPTIONAL;
#endif
}

static enum check_state check_uring(struct check_result *res)
{
	struct io_uring_params params;
	char disabled = '0';
	int fd;

	memset(&params, 0, sizeof(params));
	fd = (int)syscall(425, 8, &params);
	if (fd >= 0) {
		check_found(res, "a ring can be made");
		close(fd);
		return CHECK_OK;
	}
	check_found(res, "%s; the sync engine serves, more slowly", strerror(errno));
	fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, &disabled, 1) == 1 && disabled != '0')
			check_mend(res, "sudo sysctl kernel.io_uring_disabled=0");
		close(fd);
	}
	return CHECK_OPTIONAL;
}

static bool in_path(const char *name)
{
	const char *path = getenv("PATH");
	char file[4096];

	if (path == NULL)
		path = "/usr/bin:/bin";
	while (*path != '\0') {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, name);
		if (access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

static enum check_state check_fuse(struct check_result *res)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		check_found(res, "/dev/fuse: %s; a store cannot be mounted", strerror(errno));
		check_mend(res,
			   errno == ENOENT ? "sudo modprobe fuse" : "sudo chmod 666 /dev/fuse");
		return CHECK_OPTIONAL;
	}
	close(fd);
	if (geteuid() != 0 && !in_path("fusermount3")) {
		check_found(res, "no fusermount3; only root can mount a store");
		check_mend(res, "sudo apt-get install fuse3");
		return CHECK_OPTIONAL;
	}
	check_found(res, "/dev/fuse can be opened");
	return CHECK_OK;
}

static const char *size_text(uint64_t bytes, char *buf, size_t size)
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes / 1024;
	size_t i = 0;

	for (; v >= 1024 && i + 2 < sizeof(units); i++)
		v /= 1024;
	snprintf(buf, size, "%.*f%c", v < 10 ? 1 : 0, v, units[i]);
	return buf;
}

static enum check_state check_nofile(struct check_result *res)
{
	struct rlimit r;

	getrlimit(RLIMIT_NOFILE, &r);
	check_found(res, "%llu descriptors (RLIMIT_NOFILE)", (unsigned long long)r.rlim_cur);
	if (r.rlim_cur >= NOFILE_LEAST)
		return CHECK_OK;
	check_mend(res, "ulimit -n 1024");
	return CHECK_MISSING;
}

static enum check_state check_memlock(struct check_result *res)
{
	struct rlimit r;
	char buf[32];

	getrlimit(RLIMIT_MEMLOCK, &r);
	if (r.rlim_cur == RLIM_INFINITY) {
		check_found(res, "memory may be locked without bound (RLIMIT_MEMLOCK)");
		return CHECK_OK;
	}
	size_text(r.rlim_cur, buf, sizeof(buf));
	check_found(res, "%s may be locked (RLIMIT_MEMLOCK)", buf);
	if (r.rlim_cur >= 64 * 1024 || geteuid() == 0)
		return CHECK_OK;
	check_mend(res, "ulimit -l 8192, or memlock in /etc/security/limits.conf");
	return CHECK_OPTIONAL;
}

static enum check_state check_as(struct check_result *res)
{
	struct rlimit as, data;
	char buf[32];

	getrlimit(RLIMIT_AS, &as);
	getrlimit(RLIMIT_DATA, &data);
	if (as.rlim_cur == RLIM_INFINITY && data.rlim_cur == RLIM_INFINITY) {
		check_found(res, "no bound on mappings (RLIMIT_AS, RLIMIT_DATA)");
		return CHECK_OK;
	}
	size_text(as.rlim_cur < data.rlim_cur ? as.rlim_cur : data.rlim_cur, buf, sizeof(buf));
	check_found(res, "%s of mappings (RLIMIT_%s); swapped pages count", buf,
		    as.rlim_cur < data.rlim_cur ? "AS" : "DATA");
	check_mend(res, "ulimit -v unlimited; ulimit -d unlimited");
	return CHECK_OPTIONAL;
}

static enum check_state check_fsize(struct check_result *res)
{
	struct rlimit r;
	char buf[32];

	getrlimit(RLIMIT_FSIZE, &r);
	if (r.rlim_cur == RLIM_INFINITY) {
		check_found(res, "no bound on files (RLIMIT_FSIZE)");
		return CHECK_OK;
	}
	size_text(r.rlim_cur, buf, sizeof(buf));
	check_found(res, "%s a file (RLIMIT_FSIZE); so are areas, and tables in memory", buf);
	check_mend(res, "ulimit -f unlimited");
	/* below that no table can be made; what areas and their tables need is theirs to say */
	return r.rlim_cur < PTE_CHUNK_BYTES ? CHECK_MISSING : CHECK_OPTIONAL;
}

static enum check_state check_overcommit(struct check_result *res)
{
	FILE *f = fopen("/proc/sys/vm/overcommit_memory", "r");
	int mode = -1;

	if (f != NULL) {
		if (fscanf(f, "%d", &mode) != 1)
			mode = -1;
		fclose(f);
	}
	if (mode != 2) {
		check_found(res, "vm.overcommit_memory=%d", mode);
		return CHECK_OK;
	}
	check_found(res, "vm.overcommit_memory=2: mappings are bounded by RAM, not by areas");
	check_mend(res, "sudo sysctl vm.overcommit_memory=0");
	return CHECK_OPTIONAL;
}

static enum check_state check_swap_space(struct check_result *res)
{
	struct statfs fs;
	uint64_t free_bytes;
	char buf[32];

	if (statfs(swap_dir, &fs) != 0) {
		check_found(res, "%s: %s", swap_dir, strerror(errno));
		check_mend(res, "mkdir -p %s, or choose another with --swap-dir DIR", swap_dir);
		return CHECK_MISSING;
	}
	if (access(swap_dir, W_OK | X_OK) != 0) {
		check_found(res, "%s: %s", swap_dir, strerror(errno));
		check_mend(res, "choose another directory with --swap-dir DIR");
		return CHECK_MISSING;
	}
	free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	size_text(free_bytes, buf, sizeof(buf));
	if (free_bytes < SWAP_LEAST) {
		check_found(res, "%s: %s free; too little for a private area", swap_dir, buf);
		check_mend(res, "free some space, or choose another with --swap-dir DIR");
		return CHECK_MISSING;
	}
	if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) {
		check_found(res, "%s lies in memory: an area there saves none", swap_dir);
		check_mend(res, "choose a directory on a disk with --swap-dir DIR");
		return CHECK_OPTIONAL;
	}
	check_found(res, "%s: %s free", swap_dir, buf);
	return CHECK_OK;
}

static enum check_state check_direct(struct check_result *res)
{
	void *page = NULL;
	ssize_t n = -1;
	int fd = open(swap_dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	if (fd >= 0) {
		if (posix_memalign(&page, 4096, 4096) == 0) {
			memset(page, 0, 4096);
			n = pwrite(fd, page, 4096, 0);
			free(page);
		}
		close(fd);
	}
	if (n == 4096) {
		check_found(res, "%s takes O_DIRECT and O_TMPFILE", swap_dir);
		return CHECK_OK;
	}
	check_found(res, "%s: no O_DIRECT or no O_TMPFILE; swapped pages take page cache",
		    swap_dir);
	check_mend(res, "choose a directory on ext4, xfs or btrfs with --swap-dir DIR");
	return CHECK_OPTIONAL;
}

static const struct check first_checks[] = {
	{"kernel", check_kernel},
	{"page size", check_page_size},
	{"interception", check_intercept},
};

static const struct check last_checks[] = {
	{"io_uring", check_uring},	  {"swap directory", check_swap_space},
	{"direct I/O", check_direct},	  {"FUSE", check_fuse},
	{"open files", check_nofile},	  {"locked memory", check_memlock},
	{"address space", check_as},	  {"file size", check_fsize},
	{"overcommit", check_overcommit},
};

/* Print the rows of some checks; how many needed things are missing. */
static unsigned run_checks(const struct check *checks, size_t n)
{
	static const char *const words[] = {
		[CHECK_OK] = "ok",
		[CHECK_MISSING] = "missing",
		[CHECK_OPTIONAL] = "optional",
		[CHECK_UNTRIED] = "untried",
	};
	unsigned missing = 0;

	for (size_t i = 0; i < n; i++) {
		struct check_result res = {.found = ""};
		enum check_state state = checks[i].fn(&res);

		printf("%-21s %-9s %s\n", checks[i].name, words[state], res.found);
		if (state != CHECK_OK && res.mend[0] != '\0')
			printf("%-21s %-9s mend: %s\n", "", "", res.mend);
		if (state == CHECK_MISSING)
			missing++;
	}
	return missing;
}

static void usage(void)
{
	puts("usage: faultline doctor [--swap-dir DIR]\n"
	     "\n"
	     "Tell whether this machine can run faultline, what is missing, and the command that\n"
	     "mends it.  Nothing is changed.  'optional' is missing too, but not needed.\n"
	     "\n"
	     "  --swap-dir DIR  look at DIR for private swap areas (default: $FAULTLINE_SWAP_DIR,\n"
	     "                  else /var/tmp)\n"
	     "  --help          show this text\n"
	     "\n"
	     "Exit status: 0 all that is needed is there, 1 something is missing, 2 usage.");
}

int cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{"swap-dir", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *dir = getenv("FAULTLINE_SWAP_DIR");
	unsigned missing;
	int opt;

	if (dir != NULL && *dir != '\0')
		swap_dir = dir;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			swap_dir = optarg;
			break;
		case 'h':
			usage();
			return EXIT_OK;
		default:
			return cli_bad_option("doctor", argv, opt);
		}
	}
	if (optind < argc)
		return cli_usage("doctor", "doctor takes no argument: '%s'", argv[optind]);

	missing = run_checks(first_checks, sizeof(first_checks) / sizeof(first_checks[0]));
	missing += run_checks(uffd_checks, uffd_nchecks);
	missing += run_checks(last_checks, sizeof(last_checks) / sizeof(last_checks[0]));
	putchar('\n');
	if (missing == 0)
		puts("This machine can run faultline.");
	else
		printf("This machine cannot run faultline: %u needed %s missing.\n", missing,
		       missing == 1 ? "thing is" : "things are");
	return missing == 0 ? EXIT_OK : EXIT_FAILED;
}
