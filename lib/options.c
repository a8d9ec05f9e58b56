/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * options.c - a runtime's options as text; see options.h.
 *
 * It runs in the constructor of the preload library, before the program and
 * perhaps before the C library is set up, hence no strtoull(3), no errno and
 * no getenv(3).
 *
 * Invariants.
 * - A pointer in struct options is NULL, a constant, or into that struct.  Its text only
 *   grows, so what an earlier option kept stays valid.
 * - A function that takes `why` and fails has written one line there.
 *
 * Locks: none; a struct options belongs to one thread.
 */
#include "options.h"

#include "choose.h"
#include "codec.h"
#include "log.h"
#include "sys.h"
#include "tier.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#define PAGE 4096U
#define FRACTION_DIGITS 9 /* more are read and dropped */
#define PERCENT_MAX 1000U
#define SWAP_PRIO_MAX 32767U
#define PAGERS_MAX 16U
#define WINDOW_MAX ((uint64_t)2 << 20)

#define VARIABLE_PREFIX "FAULTLINE_"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits up to the first other character; false when there are none or too many. */
static bool read_digits(const char **p, uint64_t *out)
{
	uint64_t v = 0;

	if (!is_digit(**p))
		return false;
	for (; is_digit(**p); (*p)++)
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
			return false;
	*out = v;
	return true;
}

static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
	return read_digits(&text, out) && *text == '\0' && *out <= max;
}

/* The unit's factor, 0 for none; *p moves behind it. */
static uint64_t read_unit(const char **p)
{
	static const char units[] = "kmgtp";
	char c = (char)(**p | 0x20); /* lower case */
	const char *u = c != '\0' ? strchr(units, c) : NULL;

	if (u == NULL)
		return 0;
	(*p)++;
	if ((*p)[0] == 'i' && (*p)[1] == 'B')
		*p += 2;
	return (uint64_t)1 << (10 * (u - units + 1));
}

/* "." and digits, or nothing: *fraction of *scale; false when the digits are missing. */
static bool read_fraction(const char **p, uint64_t *fraction, uint64_t *scale)
{
	*fraction = 0;
	*scale = 1;
	if (**p != '.')
		return true;
	(*p)++;
	if (!is_digit(**p))
		return false;
	for (int n = 0; is_digit(**p); (*p)++, n++)
		if (n < FRACTION_DIGITS) {
			*fraction = *fraction * 10 + (uint64_t)(**p - '0');
			*scale *= 10;
		}
	return true;
}

int options_size(const char *text, uint64_t whole, uint64_t *bytes)
{
	uint64_t integer, fraction, scale, unit;
	const char *p = text;
	unsigned __int128 total;

	if (!read_digits(&p, &integer) || !read_fraction(&p, &fraction, &scale))
		return -EINVAL;
	if (*p == '%') {
		p++;
		if (whole == 0 || integer > PERCENT_MAX)
			return -EINVAL;
		total = ((unsigned __int128)integer * scale + fraction) * whole / scale / 100;
	} else {
		unit = read_unit(&p);
		if (unit == 0 && scale != 1) /* a fraction of a byte */
			return -EINVAL;
		if (unit == 0)
			unit = 1;
		total = (unsigned __int128)integer * unit +
			(unsigned __int128)fraction * unit / scale;
	}
	if (*p != '\0' || total > UINT64_MAX)
		return -EINVAL;
	*bytes = (uint64_t)total;
	return 0;
}

int options_dirty_expire(const char *text, unsigned *ms)
{
	uint64_t seconds, fraction, scale, total;
	const char *p = text;

	if (!read_digits(&p, &seconds) || !read_fraction(&p, &fraction, &scale) || *p != '\0' ||
	    seconds > OPT_DIRTY_EXPIRE_MAX / 1000)
		return -EINVAL;
	total = seconds * 1000 + fraction * 1000 / scale;
	if (total < OPT_DIRTY_EXPIRE_MIN || total > OPT_DIRTY_EXPIRE_MAX)
		return -EINVAL;
	*ms = (unsigned)total;
	return 0;
}

int options_dirty_background(const char *text, unsigned *percent)
{
	uint64_t v;

	if (!read_number(text, OPT_DIRTY_BACKGROUND_MAX, &v) || v == 0)
		return -EINVAL;
	*percent = (unsigned)v;
	return 0;
}

uint64_t options_ram(void)
{
	struct sysinfo info;

	if (sys_err(sys_bare(SYS_sysinfo, (long)&info, 0, 0, 0, 0, 0)))
		return 0;
	return (uint64_t)info.totalram * info.mem_unit;
}

#define NOT_A_SIZE "'%s' is not a size (give it as 512M, 1.5G or 64K)"

static int set_size(const char *value, uint64_t whole, uint64_t *bytes, char *why, size_t why_size)
{
	if (options_size(value, whole, bytes) == 0)
		return 0;
	log_format(why, why_size,
		   whole != 0 ? "'%s' is not a size (give it as 512M, 1.5G or 25%%)" : NOT_A_SIZE,
		   value);
	return -EINVAL;
}

/* One of a few words: its index, or -EINVAL and why. */
static int set_word(const char *value, const char *const *words, unsigned n, char *why,
		    size_t why_size)
{
	size_t len;

	for (unsigned i = 0; i < n; i++)
		if (strcmp(value, words[i]) == 0)
			return (int)i;
	len = log_format(why, why_size, "'%s' is none of", value);
	for (unsigned i = 0; i < n; i++)
		len += log_format(why + len, why_size - len, "%s %s", i != 0 ? "," : "", words[i]);
	return -EINVAL;
}

/* Keep a text of len bytes in o; NULL when there is no room. */
static char *keep(struct options *o, const char *text, size_t len)
{
	char *kept = o->text + o->text_len;

	if (len >= OPT_TEXT_MAX - o->text_len)
		return NULL;
	memcpy(kept, text, len);
	kept[len] = '\0';
	o->text_len += len + 1;
	return kept;
}

static int set_path(struct options *o, const char **path, const char *value, char *why,
		    size_t why_size)
{
	const char *kept;

	if (value[0] != '/') {
		log_format(why, why_size, "'%s' is not an absolute path", value);
		return -EINVAL;
	}
	kept = keep(o, value, strlen(value));
	if (kept == NULL) {
		log_format(why, why_size, "too long");
		return -EINVAL;
	}
	*path = kept;
	return 0;
}

static int set_limit(struct options *o, const char *value, char *why, size_t why_size)
{
	uint64_t bytes;
	int r = set_size(value, options_ram(), &bytes, why, why_size);

	if (r != 0)
		return r;
	if (bytes < FL_LIMIT_MIN) {
		log_format(why, why_size, "'%s' is too small: at least %llu KiB are needed", value,
			   (unsigned long long)(FL_LIMIT_MIN >> 10));
		return -EINVAL;
	}
	o->fl.limit = bytes;
	return 0;
}

/* The number behind "prio=" or the size behind "size=". */
static int swap_attribute(const char *attr, struct fl_swap_spec *spec, char *why, size_t why_size)
{
	uint64_t v;

	if (strncmp(attr, "prio=", 5) == 0) {
		if (!read_number(attr + 5, SWAP_PRIO_MAX, &v)) {
			log_format(why, why_size, "'%s' is not a priority (0 to %u)", attr + 5,
				   SWAP_PRIO_MAX);
			return -EINVAL;
		}
		spec->prio = (int)v;
		return 0;
	}
	if (strncmp(attr, "size=", 5) == 0) {
		int r = set_size(attr + 5, 0, &spec->size, why, why_size);

		if (r == 0 && spec->size == 0) {
			log_format(why, why_size, "an area of no size");
			r = -EINVAL;
		}
		return r;
	}
	log_format(why, why_size, "'%s' is neither prio=N nor size=S (a comma in a name is ',,')",
		   attr);
	return -EINVAL;
}

int options_swap(const char *text, struct fl_swap_spec *spec, char *path, size_t path_size,
		 char *why, size_t why_size)
{
	bool attributes = false;
	char attr[64];
	size_t n = 0;

	*spec = (struct fl_swap_spec){.path = path, .prio = -1};
	for (; *text != '\0'; text++) {
		if (*text == ',' && *++text != ',') {
			attributes = true;
			break;
		}
		if (n + 1 >= path_size) {
			log_format(why, why_size, "the path is too long");
			return -EINVAL;
		}
		path[n++] = *text;
	}
	path[n] = '\0';
	if (n == 0) {
		log_format(why, why_size, "no file is named");
		return -EINVAL;
	}
	while (attributes) {
		int r;

		n = strcspn(text, ",");
		if (n >= sizeof(attr)) {
			log_format(why, why_size, "'%s' is too long", text);
			return -EINVAL;
		}
		memcpy(attr, text, n);
		attr[n] = '\0';
		r = swap_attribute(attr, spec, why, why_size);
		if (r != 0)
			return r;
		text += n;
		attributes = *text == ',';
		if (attributes)
			text++;
	}
	return 0;
}

/* "lz4", "zstd" or "none", perhaps with ",SIZE"; "-" is what --compress alone says. */
static int set_compress(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"none", "lz4", "zstd"};
	size_t n = strcspn(value, ",");
	uint64_t pool = 0;
	char word[16];
	int r;

	if (strcmp(value, "-") == 0) {
		value = "lz4";
		n = 3;
	}
	if (n >= sizeof(word)) {
		log_format(why, why_size, "'%s' is too long", value);
		return -EINVAL;
	}
	memcpy(word, value, n);
	word[n] = '\0';
	r = set_word(word, words, 3, why, why_size);
	if (r < 0)
		return r;
	if (!codec_there((enum fl_compress)r)) {
		log_format(why, why_size, "this build has no %s", word);
		return -EINVAL;
	}
	if (value[n] == ',') {
		int err = set_size(value + n + 1, 0, &pool, why, why_size);

		if (err != 0)
			return err;
		if (pool < TIER_POOL_MIN || pool / ZPOOL_SPAN > ZPOOL_SPANS_MAX) {
			log_format(why, why_size, "'%s' is not from 512K to 64G", value + n + 1);
			return -EINVAL;
		}
	}
	o->fl.compress = (enum fl_compress)r;
	o->fl.pool = pool;
	return 0;
}

static int set_swap(struct options *o, const char *value, char *why, size_t why_size)
{
	struct fl_swap_spec *spec = &o->areas[o->fl.nareas];
	char *path = o->text + o->text_len;
	int r;

	if (strcmp(value, "none") == 0 ? o->fl.nareas != 0 : o->fl.no_swap) {
		log_format(why, why_size, "'none' stands alone");
		return -EINVAL;
	}
	if (strcmp(value, "none") == 0) {
		o->fl.no_swap = 1;
		return 0;
	}
	if (o->fl.nareas == FL_SWAP_MAX) {
		log_format(why, why_size, "more than %d areas", FL_SWAP_MAX);
		return -EINVAL;
	}
	r = options_swap(value, spec, path, OPT_TEXT_MAX - o->text_len, why, why_size);
	if (r != 0)
		return r;
	if (path[0] != '/') {
		log_format(why, why_size, "'%s' is not an absolute path", path);
		return -EINVAL;
	}
	for (unsigned i = 0; i < o->fl.nareas; i++)
		if (strcmp(o->areas[i].path, path) == 0) {
			log_format(why, why_size, "'%s' is named twice", path);
			return -EINVAL;
		}
	o->text_len += strlen(path) + 1;
	o->fl.nareas++;
	return 0;
}

static int set_swap_dir(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_path(o, &o->fl.swap_dir, value, why, why_size);
}

/* One pattern of files, or several; more than once: all of them. */
static int set_files(struct options *o, const char *value, char *why, size_t why_size)
{
	size_t had = o->files != NULL ? strlen(o->files) : 0;
	size_t n = strlen(value);
	char *all = o->text + o->text_len;

	for (const char *p = value;; p++) {
		const char *end = choose_end(p);

		if (end == p || (*p != '/' && *p != '*')) {
			log_format(why, why_size, "'%s' begins with neither / nor *", p);
			return -EINVAL;
		}
		p = end;
		if (*p == '\0')
			break;
	}
	if (had + n + 1 >= OPT_TEXT_MAX - o->text_len) {
		log_format(why, why_size, "too long");
		return -EINVAL;
	}
	if (had != 0) {
		memcpy(all, o->files, had);
		all[had++] = ':';
	}
	memcpy(all + had, value, n + 1);
	o->text_len += had + n + 1;
	o->files = all;
	return 0;
}

void options_forget_files(struct options *o)
{
	o->files = NULL;
}

/* MNT[,io=fuse|direct]; ",," stands for a comma in MNT. */
static int set_store(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"direct", "fuse"};
	char path[512];
	size_t n = 0;
	int io = 0;

	for (; *value != '\0'; value++) {
		if (*value == ',' && *++value != ',') {
			if (strncmp(value, "io=", 3) != 0) {
				log_format(why, why_size,
					   "'%s' is not io=direct or io=fuse (a comma in a name is "
					   "',,')",
					   value);
				return -EINVAL;
			}
			io = set_word(value + 3, words, 2, why, why_size);
			if (io < 0)
				return io;
			break;
		}
		if (n + 1 >= 400) {
			log_format(why, why_size, "too long");
			return -EINVAL;
		}
		path[n++] = *value;
	}
	path[n] = '\0';
	o->fl.store_flags = io == 1 ? FL_STORE_FUSE : 0;
	return set_path(o, &o->fl.store, path, why, why_size);
}

static int set_engine(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"auto", "uring", "sync"};
	int r = set_word(value, words, 3, why, why_size);

	if (r < 0)
		return r;
	o->fl.engine = (enum fl_engine)r;
	return 0;
}

static int set_wp(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"auto", "sync", "off"};
	int r = set_word(value, words, 3, why, why_size);

	if (r < 0)
		return r;
	o->fl.wp = (enum fl_wp)r;
	return 0;
}

static int set_log(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"error", "warn", "info", "debug"};
	int r = set_word(value, words, 4, why, why_size);

	if (r < 0)
		return r;
	o->fl.log_level = (enum fl_log_level)r;
	return 0;
}

static int set_near(struct options *o, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"no", "yes"};
	int r = set_word(value, words, 2, why, why_size);

	if (r < 0)
		return r;
	o->fl.near = (unsigned)r;
	return 0;
}

static int set_pagers(struct options *o, const char *value, char *why, size_t why_size)
{
	uint64_t n;

	if (!read_number(value, PAGERS_MAX, &n) || n == 0) {
		log_format(why, why_size, "'%s' is not a number from 1 to %u", value, PAGERS_MAX);
		return -EINVAL;
	}
	o->fl.pagers = (unsigned)n;
	return 0;
}

/* A window: whole pages, PAGE to WINDOW_MAX. */
static int set_window(const char *value, size_t *window, char *why, size_t why_size)
{
	uint64_t bytes;
	int r = set_size(value, 0, &bytes, why, why_size);

	if (r != 0)
		return r;
	if (bytes < PAGE || bytes > WINDOW_MAX || bytes % PAGE != 0) {
		log_format(why, why_size, "'%s' is not a multiple of 4K from 4K to 2M", value);
		return -EINVAL;
	}
	*window = (size_t)bytes;
	return 0;
}

static int set_fault_around(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_window(value, &o->fl.fault_around, why, why_size);
}

static int set_readahead(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_window(value, &o->fl.readahead, why, why_size);
}

static int set_stats(struct options *o, const char *value, char *why, size_t why_size)
{
	if (strcmp(value, "-") == 0) {
		o->stats = "-";
		return 0;
	}
	return set_path(o, &o->stats, value, why, why_size);
}

static int set_verify(struct options *o, const char *value, char *why, size_t why_size)
{
	o->verify_every = 0;
	o->verify = true;
	if (strcmp(value, "-") == 0)
		return 0;
	if (read_number(value, UINT32_MAX, &o->verify_every) && o->verify_every != 0)
		return 0;
	log_format(why, why_size, "'%s' is not a number of calls", value);
	return -EINVAL;
}

static int set_switch(bool *on, const char *value, char *why, size_t why_size)
{
	static const char *const words[] = {"0", "1"};
	int r = set_word(value, words, 2, why, why_size);

	if (r < 0)
		return r;
	*on = r == 1;
	return 0;
}

static int set_no_children(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_switch(&o->no_children, value, why, why_size);
}

static int set_snapshots(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_switch(&o->snapshots, value, why, why_size);
}

static int set_limit_group(struct options *o, const char *value, char *why, size_t why_size)
{
	return set_switch(&o->limit_group, value, why, why_size);
}

const struct option_def option_defs[] = {
	{"limit", "SIZE", false, "memory that the program may hold (three quarters of RAM)",
	 set_limit},
	{"limit-group", NULL, false,
	 "the limit is for the program and all that it starts, together", set_limit_group},
	{"swap", "FILE[,prio=N][,size=S]", false,
	 "swap to this file or device, or to none; may be repeated (a private file)", set_swap},
	{"compress", "WHICH[,SIZE]", true,
	 "compress evicted pages by lz4 or zstd, into SIZE of the limit first (none)",
	 set_compress},
	{"swap-dir", "DIR", false, "where the private swap file lives (/var/tmp)", set_swap_dir},
	{"store", "MNT[,io=fuse]", false, "take swap areas from the store mounted at MNT (none)",
	 set_store},
	{"files", "PATTERN", false,
	 "manage private mappings of these files; may be repeated (those of the store)", set_files},
	{"engine", "WHICH", false, "block I/O by auto, uring or sync (auto)", set_engine},
	{"wp", "HOW", false, "tell written pages by auto, sync or off (auto)", set_wp},
	{"pagers", "N", false, "pager threads, 1 to 16 (1)", set_pagers},
	{"near", "HOW", false, "bind a thread that pages alone to its pager's CPU, yes or no (yes)",
	 set_near},
	{"fault-around", "SIZE", false, "most to give for one first touch, 4K to 2M (2M)",
	 set_fault_around},
	{"readahead", "SIZE", false, "most to read ahead from swap, 4K to 2M (1M)", set_readahead},
	{"snapshots", NULL, false,
	 "run a pager from the start, so that 'faultline snapshot' works below the limit, too",
	 set_snapshots},
	{"no-children", NULL, false, "leave alone the programs that this one starts",
	 set_no_children},
	{"stats", "FILE", true, "write a summary at exit, to FILE or standard error", set_stats},
	{"verify", "N", true,
	 "compare what is mapped with what is managed, at exit and after every N calls",
	 set_verify},
	{"log", "LEVEL", false, "tell error, warn, info or debug (warn)", set_log},
};

const unsigned option_count = sizeof(option_defs) / sizeof(option_defs[0]);

void options_init(struct options *o)
{
	o->fl = (struct fl_options){
		.size = sizeof(o->fl), .areas = o->areas, .log_level = FL_LOG_WARN, .near = 1};
	o->stats = o->files = NULL;
	o->verify = o->no_children = o->limit_group = o->snapshots = false;
	o->verify_every = 0;
	o->text_len = 0;
}

int options_set(struct options *o, const struct option_def *def, const char *value, char *why,
		size_t why_size)
{
	return def->set(o, value, why, why_size);
}

void options_variable(const struct option_def *def, char name[OPT_VAR_MAX])
{
	char *out = name + sizeof(VARIABLE_PREFIX) - 1;
	const char *in = def->name;

	memcpy(name, VARIABLE_PREFIX, sizeof(VARIABLE_PREFIX) - 1);
	for (; *in != '\0'; in++)
		*out++ = *in == '-' ? '_' : (char)(*in - 0x20);
	*out = '\0';
}

const char *options_getenv(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; envp != NULL && *envp != NULL; envp++)
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return (*envp)[len + 1] != '\0' ? *envp + len + 1 : NULL;
	return NULL;
}

/* Each of the areas of FAULTLINE_SWAP. */
static int environment_swap(struct options *o, const struct option_def *def, const char *value,
			    char *why, size_t why_size)
{
	char spec[4096 + 64];
	size_t n = 0;

	for (;; value++) {
		bool end = *value == '\0' || (*value == ';' && value[1] != ';');
		int r;

		if (!end) {
			if (*value == ';')
				value++;
			if (n + 1 >= sizeof(spec)) {
				log_format(why, why_size, "the path is too long");
				return -EINVAL;
			}
			spec[n++] = *value;
			continue;
		}
		spec[n] = '\0';
		r = options_set(o, def, spec, why, why_size);
		if (r != 0 || *value == '\0')
			return r;
		n = 0;
	}
}

int options_environment(struct options *o, char *const *envp, char *why, size_t why_size)
{
	for (unsigned i = 0; i < option_count; i++) {
		const struct option_def *def = &option_defs[i];
		char name[OPT_VAR_MAX];
		const char *value;
		size_t len;
		int r;

		options_variable(def, name);
		value = options_getenv(envp, name);
		if (value == NULL)
			continue;
		len = log_format(why, why_size, "%s: ", name);
		if (def->set == set_swap)
			r = environment_swap(o, def, value, why + len, why_size - len);
		else
			r = options_set(o, def, value, why + len, why_size - len);
		if (r != 0)
			return r;
	}
	return 0;
}
