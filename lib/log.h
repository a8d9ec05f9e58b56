/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log.h - one line at a time, from any thread.
 *
 * The formatter is our own because printf(3) may allocate, lock and read the
 * locale: this one does none, and works on a pager and in a hook.  It knows
 * %s %c %d %u %x %p %%, with l, ll and z, a width, and a leading 0.
 */
#ifndef FL_LOG_H
#define FL_LOG_H

#include "faultline.h"

#include <stdarg.h>
#include <stddef.h>

#define LOG_LINE_MAX 512

struct log_sink {
	enum fl_log_level level; /* lines above it are dropped */
	fl_log_fn fn;		 /* NULL: "faultline: LINE" on standard error */
	void *arg;
};

/* Format into buf (always terminated); the length that was written. */
size_t log_format(char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
size_t log_vformat(char *buf, size_t size, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

void log_line(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same on a thread that has the program's descriptor table: no line is lost for want of it. */
void log_line_own(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * The same on a thread of the program, by write(2) alone: where a seccomp
 * filter of the program's may allow no more.  A SIGPIPE or SIGXFSZ is then the program's.
 */
void log_line_confined(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The last line of a process: written to standard error, then SIGABRT. */
_Noreturn void log_fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Write to the standard error of the program: on a pager, which has a
 * descriptor table of its own, the program's present descriptor 2 is fetched
 * for the line and given back.
 */
void log_stderr(const char *text, size_t len);

/*
 * All of a text to a file, as far as it can be written; the signals of a broken pipe and
 * of a file that has its full length (SIGPIPE, SIGXFSZ) are kept from the program.
 */
void log_write(int fd, const char *text, size_t len);

/* "No such file or directory" for -ENOENT; never NULL, no locale. */
const char *log_strerror(int negative_errno);

#endif
