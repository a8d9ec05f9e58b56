/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log.c - one line at a time, from any thread; see log.h.
 *
 * A line leaves in one write(2), which keeps lines of different threads apart
 * (they are shorter than PIPE_BUF), so there is no lock and a signal handler
 * that logs over a line in the making does no harm.
 *
 * Accepted: a line is cut at LOG_LINE_MAX; on a standard error that would
 * block and is set not to, it is lost.
 */
#include "log.h"

#include "sys.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define STDERR_FD 2
#define PREFIX "faultline: "

/* The kernel's signal set: one word on every architecture that we know. */
typedef uint64_t ksigset;
#define KSIG(sig) ((ksigset)1 << ((sig)-1))

struct ksigaction {
	void (*handler)(int);
	unsigned long flags;
	void (*restorer)(void);
	ksigset mask;
};

struct out {
	char *buf;
	size_t size; /* room for text; the terminator has its own byte */
	size_t len;
};

static void out_char(struct out *o, char c)
{
	if (o->len < o->size)
		o->buf[o->len++] = c;
}

static void out_text(struct out *o, const char *s, size_t width)
{
	size_t n = strlen(s);

	for (; width > n; width--)
		out_char(o, ' ');
	while (*s != '\0')
		out_char(o, *s++);
}

static void out_number(struct out *o, unsigned long long v, unsigned base, int negative,
		       size_t width, int zero)
{
	char digits[24];
	size_t n = 0, len;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v != 0);
	len = n + (negative ? 1 : 0);
	if (!zero)
		for (; width > len; width--)
			out_char(o, ' ');
	if (negative)
		out_char(o, '-');
	for (; width > len; width--)
		out_char(o, '0');
	while (n > 0)
		out_char(o, digits[--n]);
}

/* The next argument of a conversion, by its length: 0, 1 (l), 2 (ll), 3 (z). */
#define TAKE_SIGNED(ap, length)                                                                    \
	((length) == 0	 ? va_arg(ap, int)                                                         \
	 : (length) == 1 ? va_arg(ap, long)                                                        \
	 : (length) == 2 ? va_arg(ap, long long)                                                   \
			 : va_arg(ap, ssize_t))
#define TAKE_UNSIGNED(ap, length)                                                                  \
	((length) == 0	 ? va_arg(ap, unsigned)                                                    \
	 : (length) == 1 ? va_arg(ap, unsigned long)                                               \
	 : (length) == 2 ? va_arg(ap, unsigned long long)                                          \
			 : va_arg(ap, size_t))

size_t log_vformat(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = {buf, size - 1, 0};

	if (size == 0)
		return 0;
	for (; *fmt != '\0'; fmt++) {
		int zero = 0, length = 0;
		size_t width = 0;

		if (*fmt != '%') {
			out_char(&o, *fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0') {
			zero = 1;
			fmt++;
		}
		for (; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (size_t)(*fmt - '0');
		if (*fmt == 'z') {
			length = 3;
			fmt++;
		} else {
			for (; *fmt == 'l' && length < 2; fmt++)
				length++;
		}
		switch (*fmt) {
		case 's': {
			const char *s = va_arg(ap, const char *);

			out_text(&o, s != NULL ? s : "(null)", width);
			break;
		}
		case 'c': {
			char s[2] = {(char)va_arg(ap, int), '\0'};

			out_text(&o, s, width);
			break;
		}
		case 'd': {
			long long v = TAKE_SIGNED(ap, length);
			unsigned long long u = (unsigned long long)v;

			out_number(&o, v < 0 ? 0 - u : u, 10, v < 0, width, zero);
			break;
		}
		case 'u':
			out_number(&o, TAKE_UNSIGNED(ap, length), 10, 0, width, zero);
			break;
		case 'x':
			out_number(&o, TAKE_UNSIGNED(ap, length), 16, 0, width, zero);
			break;
		case 'p':
			out_char(&o, '0');
			out_char(&o, 'x');
			out_number(&o, (uintptr_t)va_arg(ap, void *), 16, 0, 0, 0);
			break;
		case '%':
			out_char(&o, '%');
			break;
		default: /* the arguments that follow cannot be told any more */
			out_text(&o, "%?", 0);
			buf[o.len] = '\0';
			return o.len;
		}
	}
	buf[o.len] = '\0';
	return o.len;
}

size_t log_format(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = log_vformat(buf, size, fmt, ap);
	va_end(ap);
	return n;
}

static long write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		long n = SYS3(write, fd, text, len);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/*
 * The signals of a write that fails are thread-directed, so they can be held back and
 * taken off here, unless one was pending before.
 */
void log_write(int fd, const char *text, size_t len)
{
	ksigset set = KSIG(SIGPIPE) | KSIG(SIGXFSZ), old = 0, pending = 0, raised;
	long blocked = SYS4(sigprocmask, SIG_BLOCK, &set, &old, sizeof(old));
	struct timespec none = {0, 0};
	long r;

	SYS2(sigpending, &pending, sizeof(pending));
	r = write_all(fd, text, len);
	raised = r == -EPIPE ? KSIG(SIGPIPE) : r == -EFBIG ? KSIG(SIGXFSZ) : 0;
	raised &= ~pending;
	if (raised != 0)
		SYS4(sigtimedwait, &raised, NULL, &none, sizeof(raised));
	if (blocked == 0)
		SYS4(sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

/*
 * The first thread of a process has the program's descriptor table; any other
 * may be a pager, whose descriptor 2 is not the program's, so the program's is
 * fetched.  If that cannot be done the line is dropped: a pager's own
 * descriptor 2 could be anything, a swap area included.
 */
void log_stderr(const char *text, size_t len)
{
	long pid = SYS0(getpid), pidfd, fd;

	if (SYS0(gettid) == pid) {
		log_write(STDERR_FD, text, len);
		return;
	}
	pidfd = SYS2(pidfd_open, pid, 0);
	if (sys_err(pidfd))
		return;
	fd = SYS3(pidfd_getfd, pidfd, STDERR_FD, 0);
	SYS1(close, pidfd);
	if (sys_err(fd))
		return;
	log_write((int)fd, text, len);
	SYS1(close, fd);
}

/* "faultline: LINE\n", whatever its length; the length of that. */
static size_t compose(char text[sizeof(PREFIX) + LOG_LINE_MAX], const char *line, size_t len)
{
	size_t n = sizeof(PREFIX) - 1;

	memcpy(text, PREFIX, n);
	memcpy(text + n, line, len);
	n += len;
	text[n++] = '\n';
	return n;
}

static void stderr_line(const char *line, size_t len)
{
	char text[sizeof(PREFIX) + LOG_LINE_MAX];

	log_stderr(text, compose(text, line, len));
}

void log_line_confined(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX], text[sizeof(PREFIX) + LOG_LINE_MAX];
	va_list ap;
	size_t n;

	if (level > sink->level)
		return;
	va_start(ap, fmt);
	n = log_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	write_all(STDERR_FD, text, compose(text, line, n));
}

void log_line(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;
	size_t n;

	if (level > sink->level)
		return;
	va_start(ap, fmt);
	n = log_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (sink->fn != NULL)
		sink->fn(sink->arg, level, line);
	else
		stderr_line(line, n);
}

void log_line_own(const struct log_sink *sink, enum fl_log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_MAX], text[sizeof(PREFIX) + LOG_LINE_MAX];
	va_list ap;
	size_t n;

	if (level > sink->level)
		return;
	va_start(ap, fmt);
	n = log_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (sink->fn != NULL)
		sink->fn(sink->arg, level, line);
	else
		log_write(STDERR_FD, text, compose(text, line, n));
}

/*
 * The program's own handler for SIGABRT is set aside: it could touch a page
 * that nobody would bring any more.
 */
void log_fatal(const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	struct ksigaction dfl = {.handler = SIG_DFL};
	ksigset abort_set = KSIG(SIGABRT);
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = log_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	stderr_line(line, n);
	SYS4(sigaction, SIGABRT, &dfl, NULL, sizeof(dfl.mask));
	SYS4(sigprocmask, SIG_UNBLOCK, &abort_set, NULL, sizeof(abort_set));
	SYS3(tgkill, SYS0(getpid), SYS0(gettid), SIGABRT);
	for (;;)
		SYS1(exit_group, 128 + SIGABRT);
}

const char *log_strerror(int negative_errno)
{
	const char *s = strerrordesc_np(-negative_errno);

	return s != NULL ? s : "Unknown error";
}
