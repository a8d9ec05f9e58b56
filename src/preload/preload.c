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
 */
#include "entry.h"
#include "hook.h"
#include "log.h"
#include "open.h"
#include "options.h"
#include "patch.h"
#include "report.h"
#include "sys.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
#include <sys/types.h>

#define EXIT_CANNOT 125 /* as `faultline run` */

static struct options options;

static pid_t main_pid(char *const *envp)
{
	const char *p = options_getenv(envp, "FAULTLINE_MAIN");
	pid_t pid = 0;

	for (; p != NULL && *p >= '0' && *p <= '9'; p++)
		pid = pid * 10 + (*p - '0');
	return pid;
}

static int start(const char *command, char *const *envp, pid_t main_process, char *why,
		 size_t why_size)
{
	struct mm *mm;
	int r = options_environment(&options, envp, why, why_size);
	bool watch = options.stats != NULL || options.verify;

	if (r != 0)
		return r;
	if (!__libc_single_threaded) {
		log_format(why, why_size, "the program has threads already: preload this library");
		return -1;
	}
	r = mm_open(&mm, &options.fl, MM_PRELOAD | (watch ? MM_LEFT : 0), why, why_size);
	if (r != 0)
		return r;
	entry_init();
	hook_init(mm, options.verify_every);
	r = patch_program(watch, why, why_size);
	if (r != 0)
		hook_init(NULL, 0);
	else if (watch)
		report_init(mm, &options, command, main_process);
	return r;
}

__attribute__((constructor)) static void preload(int argc, char **argv, char **envp)
{
	pid_t main_process = main_pid(envp);
	struct log_sink sink = {.level = FL_LOG_WARN};
	char why[LOG_LINE_MAX / 2];

	options_init(&options);
	if (start(argc > 0 ? argv[0] : "?", envp, main_process, why, sizeof(why)) == 0)
		return;
	if (main_process != 0 && main_process != (pid_t)SYS0(getpid)) {
		log_line(&sink, FL_LOG_WARN, "%s is not paged: %s", argc > 0 ? argv[0] : "?", why);
		return;
	}
	log_line(&sink, FL_LOG_ERROR, "%s", why);
	SYS1(exit_group, EXIT_CANNOT);
}
