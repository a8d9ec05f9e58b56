/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * run.c - 'faultline run': start a program under a limit.
 *
 * Everything that can be told before the program runs is told here, in one
 * line: options, areas, this machine.  Then the process becomes the program,
 * so that nobody who watches it sees a difference: the options travel in the
 * environment, and the preload library does the rest.
 */
#include "cli.h"

#include "choose.h"
#include "group.h"
#include "log.h"
#include "options.h"
#include "store-client.h"
#include "swap-area.h"
#include "uffd.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* As env(1) and its like have them. */
enum {
	EXIT_CANNOT = 125,
	EXIT_NOT_RUN = 126,
	EXIT_NOT_FOUND = 127,
};

#define OPTIONS_MAX 32
#define PRELOAD_NAME "libfaultline-preload.so"
#define SPEC_MAX (2 * PATH_MAX + 64)
#define SWAP_VAR_MAX (FL_SWAP_MAX * SPEC_MAX)

static struct options options;
static bool new_group; /* --limit-group is on the command line */

/* The last option, where the program may have been meant to be its argument. */
static const struct option_def *without;

/* FAULTLINE_SWAP, as the command line makes it. */
static char swap_var[SWAP_VAR_MAX];

static void usage(void)
{
	puts("usage: faultline run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	     "\n"
	     "Run PROGRAM with its private memory kept below a limit; what does not fit goes to\n"
	     "swap areas and comes back when it is touched.\n");
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_def *def = &option_defs[i];
		char left[64];

		if (def->argument == NULL)
			snprintf(left, sizeof(left), "--%s", def->name);
		else
			snprintf(left, sizeof(left), def->optional ? "--%s[=%s]" : "--%s %s",
				 def->name, def->argument);
		printf("  %-32s  %s\n", left, def->what);
	}
	printf("  %-32s  %s\n", "--help", "show this text");
	puts("\n"
	     "A variable FAULTLINE_LIMIT, FAULTLINE_SWAP and so on does what its option does.\n"
	     "Exit status: PROGRAM's; 125 faultline failed, 126 PROGRAM cannot be run, 127 there\n"
	     "is none.");
}

/* `path` from the root, in a buffer of PATH_MAX; false when it is too long. */
static bool absolute(const char *path, char *out)
{
	size_t n = 0;

	if (path[0] != '/') {
		if (getcwd(out, PATH_MAX) == NULL)
			return false;
		n = strlen(out);
		if (n + 1 >= PATH_MAX)
			return false;
		if (out[n - 1] != '/')
			out[n++] = '/';
	}
	return (size_t)snprintf(out + n, PATH_MAX - n, "%s", path) < PATH_MAX - n;
}

/* Append text, with each `special` doubled; the new length. */
static size_t append(char *out, size_t len, const char *text, char special)
{
	for (; *text != '\0'; text++) {
		out[len++] = *text;
		if (*text == special)
			out[len++] = *text;
	}
	out[len] = '\0';
	return len;
}

/*
 * One --swap: a FILE of this directory gets its whole path, in `options` and
 * in the variable, where several are separated by ';'.
 */
static int take_swap(const struct option_def *def, const char *value, char *why, size_t why_size)
{
	static char path[PATH_MAX], whole[PATH_MAX], text[SPEC_MAX];
	struct fl_swap_spec spec;
	size_t n;
	int r;

	if (strcmp(value, "none") == 0) {
		strcpy(text, value);
	} else {
		r = options_swap(value, &spec, path, sizeof(path), why, why_size);
		if (r != 0)
			return r;
		if (!absolute(path, whole)) {
			snprintf(why, why_size, "the path is too long");
			return -EINVAL;
		}
		n = append(text, 0, whole, ',');
		if (spec.prio >= 0)
			n += (size_t)sprintf(text + n, ",prio=%d", spec.prio);
		if (spec.size != 0)
			sprintf(text + n, ",size=%llu", (unsigned long long)spec.size);
	}
	if (swap_var[0] == '\0') { /* the command line replaces what the environment names */
		options.fl.nareas = 0;
		options.fl.no_swap = 0;
	}
	r = options_set(&options, def, text, why, why_size);
	if (r != 0)
		return r;
	n = strlen(swap_var);
	if (n != 0)
		swap_var[n++] = ';';
	append(swap_var, n, text, ';');
	return 0;
}

/*
 * One --files: patterns that begin with neither / nor * are of this directory,
 * whose name is taken as it is.
 */
static int take_files(const struct option_def *def, const char *value, char *why, size_t why_size)
{
	static char text[OPT_TEXT_MAX];
	static bool any;
	const char *end;
	size_t n = 0;

	for (const char *p = value;; p = end + 1) {
		char cwd[PATH_MAX];
		size_t len;

		end = choose_end(p);
		len = (size_t)(end - p);
		if (*p != '/' && *p != '*' && len != 0) {
			if (getcwd(cwd, sizeof(cwd)) == NULL) {
				snprintf(why, why_size, "%s", strerror(errno));
				return -EINVAL;
			}
			for (const char *c = cwd; *c != '\0' && n + 3 < sizeof(text); c++) {
				if (strchr("*?[\\:", *c) != NULL)
					text[n++] = '\\';
				text[n++] = *c;
			}
			if (n != 0 && text[n - 1] != '/' && n + 1 < sizeof(text))
				text[n++] = '/';
		}
		if (n + len + 2 > sizeof(text)) {
			snprintf(why, why_size, "too long");
			return -EINVAL;
		}
		memcpy(text + n, p, len);
		n += len;
		text[n++] = *end;
		if (*end == '\0')
			break;
	}
	if (!any) /* the command line replaces what the environment names */
		options_forget_files(&options);
	any = true;
	return options_set(&options, def, text, why, why_size);
}

/* One option of the command line: into `options`, and into the program's environment. */
static int take(const struct option_def *def, const char *value, char *why, size_t why_size)
{
	static char whole[PATH_MAX];
	char name[OPT_VAR_MAX];
	bool is_path = strcmp(def->name, "swap-dir") == 0 || strcmp(def->name, "store") == 0 ||
		       (strcmp(def->name, "stats") == 0 && strcmp(value, "-") != 0);
	int r;

	options_variable(def, name);
	if (strcmp(def->name, "swap") == 0) {
		r = take_swap(def, value, why, why_size);
		value = swap_var;
	} else if (strcmp(def->name, "files") == 0) {
		r = take_files(def, value, why, why_size);
		value = options.files;
	} else {
		if (is_path && value[0] != '\0') {
			if (!absolute(value, whole)) {
				snprintf(why, why_size, "the path is too long");
				return -EINVAL;
			}
			value = whole;
		}
		r = options_set(&options, def, value, why, why_size);
	}
	new_group |= strcmp(def->name, "limit-group") == 0;
	if (r == 0 && setenv(name, value, 1) != 0) {
		snprintf(why, why_size, "%s", strerror(errno));
		return -ENOMEM;
	}
	return r;
}

/* "--compress lz4 prog" is to compress, and not to run lz4, which many machines have. */
static bool check_program(const char *name)
{
	char why[LOG_LINE_MAX];

	if (without == NULL || strcmp(without->name, "compress") != 0 ||
	    options_set(&options, without, name, why, sizeof(why)) != 0)
		return true;
	cli_usage("run", "write --compress=%s, or -- before a program of that name", name);
	return false;
}

/* The index of the program in argv, 0 when there is nothing more to do, -1 after a message. */
static int parse(int argc, char **argv)
{
	struct option longs[OPTIONS_MAX] = {{0}};
	static char yes[] = "1", none[] = "-";
	char why[LOG_LINE_MAX];
	int opt;

	for (unsigned i = 0; i < option_count; i++)
		longs[i] = (struct option){
			.name = option_defs[i].name,
			.has_arg = option_defs[i].argument == NULL ? no_argument
				   : option_defs[i].optional	   ? optional_argument
								   : required_argument,
			.val = 256 + (int)i,
		};
	longs[option_count] = (struct option){.name = "help", .val = 'h'};
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+:", longs, NULL)) != -1) {
		const struct option_def *def;

		if (opt == 'h') {
			usage();
			return 0;
		}
		if (opt < 256) {
			cli_bad_option("run", argv, opt);
			return -1;
		}
		def = &option_defs[opt - 256];
		without = def->optional && optarg == NULL ? def : NULL;
		if (optarg == NULL)
			optarg = def->argument == NULL ? yes : none;
		if (take(def, optarg, why, sizeof(why)) != 0) {
			cli_error("--%s: %s", def->name, why);
			return -1;
		}
	}
	if (optind == argc) {
		cli_usage("run", "no program is named");
		return -1;
	}
	if (strcmp(argv[optind - 1], "--") == 0)
		without = NULL;
	return check_program(argv[optind]) ? optind : -1;
}

static bool check_areas(void)
{
	static const struct fl_swap_spec private_area = {.prio = -1};
	const char *dir = options.fl.swap_dir != NULL ? options.fl.swap_dir : "/var/tmp";
	char why[LOG_LINE_MAX];

	if (options.fl.no_swap && options.fl.compress == FL_COMPRESS_NONE) {
		cli_error("--swap none without --compress: no page could leave");
		return false;
	}
	if (options.fl.nareas == 0 && options.fl.store == NULL && !options.fl.no_swap &&
	    swap_check(&private_area, dir, why, sizeof(why)) != 0) {
		cli_error("%s", why);
		return false;
	}
	for (unsigned i = 0; i < options.fl.nareas; i++)
		if (swap_check(&options.areas[i], dir, why, sizeof(why)) != 0) {
			cli_error("%s", why);
			return false;
		}
	return true;
}

/* The summary is written when the program ends; whether it can be is told now. */
static bool check_stats(void)
{
	const char *file = options.stats;
	char dir[PATH_MAX];
	struct stat st;
	int err = 0;

	if (file == NULL || strcmp(file, "-") == 0)
		return true;
	if (stat(file, &st) == 0) {
		err = S_ISDIR(st.st_mode) ? EISDIR : access(file, W_OK) != 0 ? errno : 0;
	} else if (errno == ENOENT && lstat(file, &st) == 0) {
		return true; /* a link: where it leads to, the program may see to */
	} else if (errno == ENOENT) {
		snprintf(dir, sizeof(dir), "%s", file);
		strrchr(dir, '/')[1] = '\0'; /* it is an absolute path */
		err = access(dir, W_OK | X_OK) != 0 ? errno : 0;
	} else {
		err = errno;
	}
	if (err != 0)
		cli_error("cannot write the summary to %s: %s", file, strerror(err));
	return err == 0;
}

/*
 * The group: a new one where it is asked for here, the one that this command is
 * in where only the environment asks for it.
 */
static bool set_group(void)
{
	const char *in = getenv(GROUP_VARIABLE);
	char handle[GROUP_HANDLE_MAX];
	int r;

	if (!options.limit_group) {
		unsetenv(GROUP_VARIABLE);
		return true;
	}
	if (!new_group && in != NULL && in[0] != '\0')
		return true;
	r = group_check();
	if (r != 0) {
		cli_error("--limit-group needs shared memory (shmget): %s", log_strerror(r));
		return false;
	}
	group_name(handle);
	return setenv(GROUP_VARIABLE, handle, 1) == 0;
}

/* That the store can be attached to; *device: a userfaultfd's that it would give us, or -1. */
static bool check_store(int *device)
{
	char why[LOG_LINE_MAX];

	*device = -1;
	if (options.fl.store == NULL ||
	    stored_probe(options.fl.store, (options.fl.store_flags & FL_STORE_FUSE) != 0, device,
			 why, sizeof(why)) == 0)
		return true;
	cli_error("%s", why);
	return false;
}

/* given: the device, from a store; used where we may not open it. */
static bool check_machine(int given)
{
	struct utsname u;
	long device = uffd_device();
	long fd;

	if (device < 0 && given >= 0)
		device = given;
	else if (given >= 0)
		close(given);
	fd = uffd_open(device);

	if (device >= 0)
		close((int)device);
	if (fd >= 0) {
		close((int)fd);
		return true;
	}
	uname(&u);
	if (fd == -ENOSYS)
		cli_error("Linux 6.8 or later is needed, this is %s (see 'faultline doctor')",
			  u.release);
	else
		cli_error("no access to /dev/userfaultfd: %s (see 'faultline doctor')",
			  strerror((int)-fd));
	return false;
}

/*
 * The library to preload: where FAULTLINE_PRELOAD says, beside this program in
 * a build tree, else where it is installed.
 */
static bool find_preload(char *path)
{
	static const char *const inside[] = {"/src/cli/.libs/", "/src/cli/"};
	const char *given = getenv("FAULTLINE_PRELOAD");
	ssize_t n;

	if (given != NULL && given[0] != '\0')
		return absolute(given, path);
	n = readlink("/proc/self/exe", path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		size_t len = strlen(inside[i]);
		char *slash = strrchr(path, '/');
		char *dir = slash != NULL ? slash + 1 - len : path - 1;

		if (dir < path || memcmp(dir, inside[i], len) != 0)
			continue;
		if (dir - path > PATH_MAX - 64)
			return false;
		strcpy(dir, "/src/preload/.libs/" PRELOAD_NAME);
		return true;
	}
	strcpy(path, FL_LIBDIR "/" PRELOAD_NAME);
	return true;
}

/* Put the library before what the user preloads. */
static bool set_preload(void)
{
	static char path[PATH_MAX];
	const char *before = getenv("LD_PRELOAD");
	char *value;
	bool ok;

	if (!find_preload(path)) {
		cli_error("the path of " PRELOAD_NAME " is too long");
		return false;
	}
	if (access(path, R_OK) != 0) {
		cli_error("%s: %s", path, strerror(errno));
		return false;
	}
	if (strpbrk(path, ": ") != NULL) { /* LD_PRELOAD knows no escape */
		cli_error("%s: a library with ':' or ' ' in its path cannot be preloaded", path);
		return false;
	}
	if (before == NULL || before[0] == '\0')
		before = NULL;
	if (asprintf(&value, "%s%s%s", path, before != NULL ? ":" : "",
		     before != NULL ? before : "") < 0)
		return false;
	ok = setenv("LD_PRELOAD", value, 1) == 0;
	free(value);
	return ok;
}

/* As execvp(3) finds it; false when it does not. */
static bool find_program(const char *name, char *path)
{
	const char *dirs = getenv("PATH");
	struct stat st;

	if (strchr(name, '/') != NULL)
		return (size_t)snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
	if (dirs == NULL)
		dirs = "/bin:/usr/bin";
	for (;; dirs++) {
		size_t n = strcspn(dirs, ":");

		if ((size_t)snprintf(path, PATH_MAX, "%.*s%s%s", (int)n, dirs, n != 0 ? "/" : "",
				     name) < PATH_MAX &&
		    access(path, X_OK) == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode))
			return true;
		dirs += n;
		if (*dirs == '\0')
			return false;
	}
}

/* Why the loader would not preload into this program; NULL when it would, or when it is a script. */
static const char *left_alone(int fd)
{
	struct stat st;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (fstat(fd, &st) != 0 || pread(fd, &eh, sizeof(eh), 0) != sizeof(eh) ||
	    memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return NULL;
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return "is not a program for x86-64";
	if (((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid()) ||
	    ((st.st_mode & S_ISGID) != 0 && st.st_gid != getgid()))
		return "gains privilege";
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		off_t at = (off_t)(eh.e_phoff + (uint64_t)i * eh.e_phentsize);

		if (pread(fd, &ph, sizeof(ph), at) != sizeof(ph))
			return NULL;
		if (ph.p_type == PT_INTERP)
			return NULL;
	}
	return "is statically linked";
}

/* The program runs all the same, but whoever gave a limit should know. */
static void warn_left_alone(const char *name)
{
	char path[PATH_MAX];
	const char *why;
	int fd;

	if (options.fl.log_level < FL_LOG_WARN || !find_program(name, path))
		return;
	/* what is no program may be a pipe, which nobody writes to */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return;
	why = left_alone(fd);
	close(fd);
	if (why != NULL)
		cli_error("'%s' %s: it runs without a limit", name, why);
}

int cmd_run(int argc, char **argv)
{
	char why[LOG_LINE_MAX], pid[16];
	int first, err, device;

	options_init(&options);
	if (options_environment(&options, environ, why, sizeof(why)) != 0) {
		cli_error("%s", why);
		return EXIT_CANNOT;
	}
	first = parse(argc, argv);
	if (first <= 0)
		return first == 0 ? EXIT_OK : EXIT_CANNOT;
	if (!check_areas() || !check_stats() || !check_store(&device) || !check_machine(device) ||
	    !set_group() || !set_preload())
		return EXIT_CANNOT;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("FAULTLINE_MAIN", pid, 1);
	warn_left_alone(argv[first]);
	execvp(argv[first], argv + first);
	err = errno;
	if (err == ENOENT && without != NULL)
		cli_error("cannot run '%s': %s (or write --%s=%s)", argv[first], strerror(err),
			  without->name, argv[first]);
	else
		cli_error("cannot run '%s': %s", argv[first], strerror(err));
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN;
}
