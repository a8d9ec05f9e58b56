/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * report.c - the summary at the end of a process, and what --verify finds; see report.h.
 *
 * A process reports in the last moment of its first thread that calls
 * exit_group(2), after everything that the program does at exit.  Programs
 * close standard error before that, so the descriptor is duplicated in the
 * moment in which the program closes it; until then nothing of it shows.  Where
 * there was none, or where the program closed the duplicate, too, the number is
 * one of the program's own files by now, perhaps, and nothing is written.
 *
 * Between vfork and exec a child runs in its parent's memory: the process
 * number tells it apart.
 *
 * Nothing is locked: of several threads that end the process at once one wins
 * the exchange on `pending`.
 */
#include "report.h"

#include "faultline.h"
#include "log.h"
#include "mmap.h"
#include "open.h"
#include "options.h"
#include "sys.h"
#include "verify.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define STDERR_FD 2
#define SAVED_FD_MIN 100 /* above what a program may expect to be free */

#define COMMAND_MAX 64
#define TEXT_MAX 8192

static struct {
	struct mm *mm;
	const char *where;
	char command[COMMAND_MAX];
	pid_t main_pid;
	pid_t pid;
	int saved_fd;	       /* the program's standard error, once closed; -1 */
	struct stat stderr_is; /* at the start, or once closed; its inode is 0: there is none */
	bool verify;
	uint64_t differences; /* atomic: found so far */
	bool pending;	      /* atomic */
} report = {.saved_fd = -1};

struct text {
	size_t len;
	char buf[TEXT_MAX];
};

/* What a report needs room for; not on the stack of a thread that may be small. */
struct work {
	struct fl_stats stats;
	struct verify verify;
	struct text text;
};

/* The time that `permille` of the faults stayed below, in nanoseconds: a bucket's upper end. */
static uint64_t percentile(const struct fl_stats *s, unsigned permille)
{
	uint64_t total = 0, sum = 0, want;

	for (unsigned i = 0; i < FL_LATENCY_BUCKETS; i++)
		total += s->latency[i];
	want = (total * permille + 999) / 1000;
	for (unsigned i = 0; i < FL_LATENCY_BUCKETS; i++) {
		sum += s->latency[i];
		if (sum >= want)
			return (uint64_t)2 << i;
	}
	return 0;
}

#define ADD(t, ...) ((t)->len += log_format((t)->buf + (t)->len, TEXT_MAX - (t)->len, __VA_ARGS__))

/* One decimal, in the unit that fits. */
static void add_pages(struct text *t, uint64_t pages)
{
	uint64_t kib = pages * 4;

	if (kib < 1024)
		ADD(t, "%7llu KiB", (unsigned long long)kib);
	else if (kib < 1024 * 1024)
		ADD(t, "%5llu.%llu MiB", (unsigned long long)(kib / 1024),
		    (unsigned long long)(kib % 1024 * 10 / 1024));
	else
		ADD(t, "%5llu.%llu GiB", (unsigned long long)(kib >> 20),
		    (unsigned long long)(kib % (1024 * 1024) * 10 >> 20));
}

static void add_size(struct text *t, const char *label, uint64_t pages)
{
	ADD(t, "  %s", label);
	add_pages(t, pages);
	ADD(t, "\n");
}

static void add_memory(struct text *t, const struct verify *v)
{
	static const char *const labels[VERIFY_KINDS] = {
		[VERIFY_MANAGED] = "  managed                   ",
		[VERIFY_MANAGED_FILE] = "  managed, of files         ",
		[VERIFY_BEFORE] = "  there before the start    ",
		[VERIFY_STACK] = "  stacks                    ",
		[VERIFY_HUGE] = "  huge pages                ",
		[VERIFY_SHARED] = "  shared memory             ",
		[VERIFY_FILE_SHARED] = "  files, shared             ",
		[VERIFY_FILE_PRIVATE] = "  files, private            ",
		[VERIFY_CHOSEN_SHARED] = "  chosen files, shared      ",
		[VERIFY_CHOSEN_CODE] = "  chosen files, code        ",
		[VERIFY_CHOSEN_LEFT] = "  chosen files, others      ",
		[VERIFY_CLOSED] = "  not writable              ",
		[VERIFY_OWN] = "  faultline's own           ",
		[VERIFY_UNKNOWN] = "  for no known reason       ",
	};

	ADD(t, "  memory at the end, resident of mapped\n");
	for (unsigned i = 0; i < VERIFY_KINDS; i++) {
		if (v->mapped[i] == 0)
			continue;
		ADD(t, "  %s", labels[i]);
		add_pages(t, v->resident[i]);
		ADD(t, " of");
		add_pages(t, v->mapped[i]);
		ADD(t, "\n");
	}
}

static void add_count(struct text *t, const char *label, uint64_t n)
{
	ADD(t, "  %s%11llu\n", label, (unsigned long long)n);
}

static void add_time(struct text *t, const char *label, uint64_t ns)
{
	ADD(t, "  %s%5llu.%llu us\n", label, (unsigned long long)(ns / 1000),
	    (unsigned long long)(ns % 1000 / 100));
}

static bool compresses(const struct fl_stats *s)
{
	return s->pool != 0 || s->compress_rejects != 0 || s->faults_compressed != 0;
}

/* Mappings of chosen files, over all the time. */
static void add_made(struct text *t)
{
	static const char *const labels[CHOICES] = {
		[CHOICE_TAKE] = "mappings of files, managed  ",
		[CHOICE_SHARED] = "  not managed: shared       ",
		[CHOICE_CODE] = "  not managed: code         ",
		[CHOICE_KIND] = "  not managed: other        ",
	};

	for (unsigned i = CHOICE_TAKE; i < CHOICES; i++) {
		uint64_t n = mm_files_made(report.mm, (enum choice)i);

		if (n != 0)
			add_count(t, labels[i], n);
	}
}

static void add_files(struct text *t, const struct fl_stats *s)
{
	add_size(t, "pages of files cached       ", s->cache_pages);
	add_count(t, "faults in files, no read    ", s->file_minor);
	add_count(t, "  and with one              ", s->file_major);
	add_size(t, "read from files             ", s->file_read_pages);
	add_count(t, "  in requests               ", s->file_reads);
	add_count(t, "  cached pages dropped      ", s->file_dropped);
	add_count(t, "errors of files             ", s->file_errors);
}

static void compose(struct text *t, const struct fl_stats *s, const struct verify *v)
{
	t->len = 0;
	ADD(t, "faultline: %s (process %d)%s\n", report.command, (int)report.pid,
	    s->armed != 0 ? "" : ": memory never got tight, nothing was paged");
	add_size(t, "limit                       ", s->limit);
	if (s->group_limit != 0) {
		add_size(t, "  of a group's              ", s->group_limit);
		add_size(t, "  granted to its processes  ", s->group_held);
		add_size(t, "  most granted at once      ", s->group_most);
		add_count(t, "  its processes             ", s->group_members);
	}
	add_size(t, "mapped at the end           ", s->mapped);
	if (v != NULL)
		add_memory(t, v);
	add_made(t);
	if (report.verify)
		add_count(t, "differences found           ", report.differences);
	if (s->armed == 0)
		return;
	add_size(t, "most held                   ", s->resident_max);
	add_size(t, "held at the end             ", s->resident + s->staged + s->pool);
	if (compresses(s)) {
		add_size(t, "  compressed pages in       ", s->pool);
		add_size(t, "compressed at the end       ", s->compressed);
		add_size(t, "  which take                ", (s->compressed_bytes + 4095) / 4096);
	}
	add_size(t, "in swap at the end          ", s->swapped);
	add_size(t, "one repeated word           ", s->filled);
	add_count(t, "minor faults                ", s->faults_minor);
	add_count(t, "major faults                ", s->faults_major);
	add_count(t, "  first read                ", s->faults_zero);
	add_count(t, "  first write               ", s->faults_anon);
	add_count(t, "  write to a protected page ", s->faults_wp);
	add_count(t, "  page in staging           ", s->faults_staged);
	add_count(t, "  page in swap              ", s->faults_swap);
	add_count(t, "  page of one repeated word ", s->faults_filled);
	if (compresses(s))
		add_count(t, "  compressed page           ", s->faults_compressed);
	add_count(t, "  page was there already    ", s->faults_stale);
	add_count(t, "pages given beside these    ", s->faults_around);
	add_size(t, "read from swap              ", s->read_pages);
	add_count(t, "  in requests               ", s->reads);
	add_size(t, "written to swap             ", s->write_pages);
	add_count(t, "  in requests               ", s->writes);
	add_count(t, "pages evicted               ", s->evicted);
	add_count(t, "  clean, not written        ", s->dropped_clean);
	if (compresses(s)) {
		add_count(t, "  not to be compressed      ", s->compress_rejects);
		add_count(t, "compressed pages written    ", s->written_through);
	}
	add_count(t, "pages read ahead and used   ", s->readahead_hits);
	add_count(t, "  and not used              ", s->readahead_misses);
	add_count(t, "swap slots in use           ", s->slots_used);
	add_count(t, "errors of swap              ", s->io_errors + s->csum_errors);
	if (s->file_minor + s->file_major != 0)
		add_files(t, s);
	if (s->faults_minor + s->faults_major != 0) {
		add_time(t, "half of the faults within   ", percentile(s, 500));
		add_time(t, "90 % within                 ", percentile(s, 900));
		add_time(t, "99 % within                 ", percentile(s, 990));
		add_time(t, "99.9 % within               ", percentile(s, 999));
	}
}

static bool is_stderr(int fd)
{
	struct stat st;

	return report.stderr_is.st_ino != 0 && !sys_err(SYS2(fstat, fd, &st)) &&
	       st.st_dev == report.stderr_is.st_dev && st.st_ino == report.stderr_is.st_ino;
}

/* Whether there is one, and its number is not a file of the program's own by now. */
static bool has_stderr(void)
{
	return is_stderr(report.saved_fd >= 0 ? report.saved_fd : STDERR_FD);
}

/* What the program put in its place with dup2(2) is the program's standard error as well. */
static void write_stderr(const char *p, size_t len)
{
	if (report.saved_fd < 0 && report.stderr_is.st_ino != 0)
		log_write(STDERR_FD, p, len);
	else if (has_stderr())
		log_write(report.saved_fd, p, len);
}

/* Each difference in a line. */
static void tell(struct work *w, long found)
{
	const char *p = w->verify.text;
	struct text *t = &w->text;
	unsigned lines = 0;

	if (found < 0) {
		t->len = 0;
		ADD(t, "faultline: verify: cannot be done: %s\n", log_strerror((int)found));
		write_stderr(t->buf, t->len);
		return;
	}
	__atomic_fetch_add(&report.differences, (uint64_t)found, __ATOMIC_RELAXED);
	for (; *p != '\0'; lines++) {
		size_t n = strcspn(p, "\n") + 1;

		t->len = 0;
		ADD(t, "faultline: verify: ");
		memcpy(t->buf + t->len, p, n);
		write_stderr(t->buf, t->len + n);
		p += n;
	}
	if (lines < w->verify.differences) {
		t->len = 0;
		ADD(t, "faultline: verify: and %u more\n", w->verify.differences - lines);
		write_stderr(t->buf, t->len);
	}
}

void report_init(struct mm *mm, const struct options *o, const char *command, pid_t main_pid)
{
	const char *slash = strrchr(command, '/');

	report.mm = mm;
	if (sys_err(SYS2(fstat, STDERR_FD, &report.stderr_is)))
		report.stderr_is.st_ino = 0;
	report.where = o->stats;
	report.verify = o->verify;
	report.main_pid = main_pid;
	report.pid = (pid_t)SYS0(getpid);
	log_format(report.command, COMMAND_MAX, "%s", slash != NULL ? slash + 1 : command);
	__atomic_store_n(&report.pending, true, __ATOMIC_RELEASE);
}

void report_verify(void)
{
	uint64_t all = ~(uint64_t)0, old;
	struct work *w;

	if (!__atomic_load_n(&report.pending, __ATOMIC_ACQUIRE) || SYS0(getpid) != report.pid)
		return;
	/* a handler that does not come back would leave the memory behind */
	SYS4(sigprocmask, SIG_SETMASK, &all, &old, sizeof(old));
	w = sys_mem_alloc(sizeof(*w));
	if (w != NULL)
		tell(w, mm_verify(report.mm, &w->verify));
	sys_mem_free(w, sizeof(*w));
	SYS4(sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
}

static void summary(struct work *w, const struct verify *v)
{
	long fd;

	compose(&w->text, &w->stats, v);
	if (strcmp(report.where, "-") == 0) {
		write_stderr(w->text.buf, w->text.len);
		return;
	}
	fd = SYS4(openat, AT_FDCWD, report.where, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (sys_err(fd)) {
		w->text.len = 0;
		ADD(&w->text, "faultline: cannot write the summary to %s: %s\n", report.where,
		    log_strerror((int)fd));
		if (has_stderr())
			write_stderr(w->text.buf, w->text.len);
		return;
	}
	log_write((int)fd, w->text.buf, w->text.len);
	SYS1(close, fd);
}

void report_exit(void)
{
	struct work *w;
	bool say;
	long found;

	if (!__atomic_load_n(&report.pending, __ATOMIC_ACQUIRE) || SYS0(getpid) != report.pid ||
	    !__atomic_exchange_n(&report.pending, false, __ATOMIC_ACQ_REL))
		return;
	w = sys_mem_alloc(sizeof(*w));
	if (w == NULL)
		return;
	say = report.where != NULL &&
	      (mm_is_armed(report.mm) || report.main_pid == 0 || report.main_pid == report.pid);
	if (say || report.verify) {
		found = mm_verify(report.mm, &w->verify);
		if (report.verify)
			tell(w, found);
		/* after that: a pager has just looked at everything */
		mm_stats(report.mm, &w->stats);
		if (say)
			summary(w, found >= 0 ? &w->verify : NULL);
	}
	sys_mem_free(w, sizeof(*w));
}

void report_closing(unsigned first, unsigned last)
{
	bool needed = report.verify || (report.where != NULL && strcmp(report.where, "-") == 0);
	long saved;

	/* where it is not needed: who reads it may wait for its end */
	if (!needed || first > STDERR_FD || last < STDERR_FD || report.saved_fd >= 0 ||
	    report.stderr_is.st_ino == 0 || SYS0(getpid) != report.pid)
		return;
	saved = sys_bare(SYS_fcntl, STDERR_FD, F_DUPFD_CLOEXEC, SAVED_FD_MIN, 0, 0, 0);
	if (sys_err(saved)) /* so few are allowed */
		saved = sys_bare(SYS_fcntl, STDERR_FD, F_DUPFD_CLOEXEC, STDERR_FD + 1, 0, 0, 0);
	if (sys_err(saved) || sys_err(SYS2(fstat, (int)saved, &report.stderr_is)))
		report.stderr_is.st_ino = 0;
	else
		report.saved_fd = (int)saved;
}

void report_forked(void)
{
	if (report.mm == NULL)
		return;
	report.pid = (pid_t)SYS0(getpid);
	__atomic_store_n(&report.pending, true, __ATOMIC_RELEASE);
}
