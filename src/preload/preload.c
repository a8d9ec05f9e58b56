/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * preload.c - the preload library's constructor.
 *
 * LD_PRELOAD brings this library into a program that was not written for
 * faultline.  The linker marks it (-z initfirst) so that the constructor runs
 * before that of any other library: the process has one thread and has mapped
 * next to nothing.  It reads the options from the environment, opens the mm
 * and patches the system-call sites; no thread is started and no descriptor
 * stays open.
 *
 * When it cannot do so, the program that a person named is ended, with one
 * line, rather than run without its limit.  A program started by that one runs
 * as it would by itself, since a pipeline of many may well hold one that
 * cannot be paged, just as it may hold a static one, which never loads this
 * library: FAULTLINE_MAIN, set by `faultline run`, tells which is which.
 *
 * With --no-children the library leaves the others alone: it takes itself out of
 * their environment, before they look at it.  So it does not matter how a program
 * makes the environment of its children, and the first program stays paged when
 * it becomes another by exec, as wrappers do.  Where FAULTLINE_MAIN does not tell,
 * the first is the one that is started with the library, until it becomes another.
 */
#include "entry.h"
#include "grant.h"
#include "group.h"
#include "hook.h"
#include "mmap.h"
#include "log.h"
#include "near.h"
#include "open.h"
#include "options.h"
#include "patch.h"
#include "report.h"
#include "signals.h"
#include "sys.h"

#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/types.h>

#define EXIT_CANNOT 125 /* as `faultline run` */

static struct options options;
static bool no_room; /* in the group, for this program */

/* ---- --no-children ---- */

static int find_self(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t here = (uintptr_t)&options;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];

		if (ph->p_type == PT_LOAD && here - (info->dlpi_addr + ph->p_vaddr) < ph->p_memsz)
			*(const char **)arg = info->dlpi_name;
	}
	return 0;
}

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Take ourselves from a list of libraries to preload; false when nothing else is in it. */
static bool leave_list(char *list)
{
	const char *self = "";
	char *out = list;

	dl_iterate_phdr(find_self, &self);
	self = base(self);
	for (char *p = list, *next; *p != '\0'; p = next) {
		size_t n = strcspn(p, ": ");
		char end = p[n];

		next = p + n + (end != '\0');
		p[n] = '\0';
		if (n == 0 || strcmp(base(p), self) == 0)
			continue;
		if (out != list)
			*out++ = ':';
		memmove(out, p, n);
		out += n;
	}
	*out = '\0';
	return out != list;
}

/*
 * What this program starts is not to load us.  The environment is changed where
 * it is, before anybody has made a copy.
 */
static void leave_environment(char **envp)
{
	char **out = envp;

	for (; *envp != NULL; envp++) {
		if (strncmp(*envp, "FAULTLINE_", 10) == 0 ||
		    (strncmp(*envp, "LD_PRELOAD=", 11) == 0 && !leave_list(*envp + 11)))
			continue;
		*out++ = *envp;
	}
	*out = NULL;
}

/* ---- the constructor ---- */

static pid_t main_pid(char *const *envp)
{
	const char *p = options_getenv(envp, "FAULTLINE_MAIN");
	pid_t pid = 0;

	for (; p != NULL && *p >= '0' && *p <= '9'; p++)
		pid = pid * 10 + (*p - '0');
	return pid;
}

/* It runs one thread at a time, and makes none that it does not know: no pager. */
static bool under_valgrind(char *const *envp)
{
	const char *list = options_getenv(envp, "LD_PRELOAD");

	return list != NULL && strstr(list, "/vgpreload_core") != NULL;
}

/*
 * One limit for all: a program that finds no room in the group is ended, as one
 * that could not be loaded would be.  One that cannot join goes on alone.
 */
static int join_group(struct mm *mm, const char *command, char *const *envp, char *why,
		      size_t why_size)
{
	/* ours to change in place: the programs that this one starts are to find what it found */
	char *handle = (char *)(uintptr_t)options_getenv(envp, GROUP_VARIABLE);
	struct log_sink sink = {.level = options.fl.log_level};
	int r = -EINVAL;

	if (handle == NULL)
		log_format(why, why_size, "%s is not set: start with 'faultline run'",
			   GROUP_VARIABLE);
	else
		r = grant_open(mm, handle, why, why_size);
	if (r == -ENOMEM) {
		no_room = true;
		return r;
	}
	if (r != 0)
		log_line(&sink, FL_LOG_WARN, "%s has a limit of its own: %s", command, why);
	return 0;
}

static int start(const char *command, char **envp, pid_t main_process, char *why, size_t why_size)
{
	struct mm *mm;
	int r = options_environment(&options, envp, why, why_size);
	bool watch = options.stats != NULL || options.verify;

	if (r != 0)
		return r;
	if (options.no_children && main_process != (pid_t)SYS0(getpid)) {
		leave_environment(envp);
		if (main_process != 0)
			return 0; /* one of the children */
	}
	if (!__libc_single_threaded) {
		log_format(why, why_size, "the program has threads already: preload this library");
		return -1;
	}
	/* `faultline run` has looked at the areas, for all programs that are started from there */
	r = mm_open(&mm, &options.fl,
		    MM_PRELOAD | (watch ? MM_LEFT : 0) | (main_process != 0 ? MM_LOOKED : 0), why,
		    why_size);
	if (r == 0 && options.limit_group)
		r = join_group(mm, command, envp, why, why_size);
	if (r != 0)
		return r;
	if (options.files != NULL || options.fl.store != NULL) {
		mm_choose_files(mm, options.files, options.fl.store);
		hook_files();
	}
	entry_init();
	signal_init();
	hook_init(mm, options.verify_every);
	if (options.no_children)
		hook_no_children();
	near_later(mm);
	r = patch_program(watch, why, why_size);
	if (!patch_sees_threads())
		near_end(mm);
	if (r != 0)
		hook_init(NULL, 0);
	else if (watch)
		report_init(mm, &options, command, main_process);
	/* where none can be started the program runs on, and pagers say why when they are needed */
	if (r == 0 && options.snapshots)
		mm_start(mm);
	return r;
}

__attribute__((constructor)) static void preload(int argc, char **argv, char **envp)
{
	pid_t main_process = main_pid(envp);
	struct log_sink sink = {.level = FL_LOG_WARN};
	char why[LOG_LINE_MAX / 2];

	options_init(&options);
	if (under_valgrind(envp)) {
		log_line(&sink, FL_LOG_WARN, "%s is not paged: it runs under valgrind",
			 argc > 0 ? argv[0] : "?");
		return;
	}
	if (start(argc > 0 ? argv[0] : "?", envp, main_process, why, sizeof(why)) == 0)
		return;
	if (!no_room && main_process != 0 && main_process != (pid_t)SYS0(getpid)) {
		log_line(&sink, FL_LOG_WARN, "%s is not paged: %s", argc > 0 ? argv[0] : "?", why);
		return;
	}
	if (no_room)
		log_line(&sink, FL_LOG_ERROR, "%s: %s", argc > 0 ? argv[0] : "?", why);
	else
		log_line(&sink, FL_LOG_ERROR, "%s", why);
	SYS1(exit_group, EXIT_CANNOT);
}
