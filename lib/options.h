/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * options.h - a runtime's options as text: on the command line and in the environment.
 *
 * One table names every option.  "limit" is --limit of `faultline run` and
 * FAULTLINE_LIMIT of the environment; "swap-dir" is --swap-dir and
 * FAULTLINE_SWAP_DIR; both take the same text.
 *
 * Nothing is allocated: texts that outlive the call (paths) are copied into
 * the struct options itself, which must therefore stay where it is.
 */
#ifndef FL_OPTIONS_H
#define FL_OPTIONS_H

#include "faultline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPT_TEXT_MAX 8192U /* room for all paths */
#define OPT_VAR_MAX 32U	   /* longest name of a variable, terminator included */

/* What struct fl_options takes for dirty_expire, ms, and dirty_background, per cent. */
#define OPT_DIRTY_EXPIRE_MIN 250U
#define OPT_DIRTY_EXPIRE_MAX 3600000U
#define OPT_DIRTY_BACKGROUND_MAX 50U

struct options {
	struct fl_options fl; /* areas points to the array below */
	struct fl_swap_spec areas[FL_SWAP_MAX];
	const char
		*stats; /* where the summary goes: NULL nowhere, "-" standard error, else a file */
	bool verify;	/* hold what is mapped against what is managed, at the end */
	uint64_t verify_every; /* and after so many memory calls; 0: not */
	bool no_children;      /* page the first program only */
	bool limit_group;      /* the limit is that of all programs that it starts */
	bool snapshots;	       /* a pager runs from the start, so that one can be asked for */
	const char *files; /* patterns (choose.h) of the files whose mappings are managed; NULL */
	size_t text_len;
	char text[OPT_TEXT_MAX];
};

struct option_def {
	const char *name;     /* without the leading "--" */
	const char *argument; /* how the manual calls its argument; NULL: none, --name means "1" */
	bool optional;	      /* --name alone means the value "-" */
	const char *what;     /* one line for --help */
	int (*set)(struct options *o, const char *value, char *why, size_t why_size);
};

extern const struct option_def option_defs[];
extern const unsigned option_count;

/* Every option at its default. */
void options_init(struct options *o);

/*
 * Set one option.  On failure -EINVAL, and why says what is wrong with the
 * value, without the option's name.
 */
int options_set(struct options *o, const struct option_def *def, const char *value, char *why,
		size_t why_size);

/*
 * Set what the environment asks for.  An empty variable counts as absent, and
 * FAULTLINE_SWAP may name several areas, separated by ';' (";;" stands for a
 * semicolon in a path).  On failure -EINVAL, and why begins with the variable's name.
 */
int options_environment(struct options *o, char *const *envp, char *why, size_t why_size);

/* The value of a variable of envp, or NULL; an empty one counts as absent. */
const char *options_getenv(char *const *envp, const char *name);

/* "swap-dir" -> "FAULTLINE_SWAP_DIR". */
void options_variable(const struct option_def *def, char name[OPT_VAR_MAX]);

/*
 * A size: digits, perhaps with a fraction, and one of K M G T P (powers of
 * 1024, in either case, "iB" may follow), or a percentage of `whole`.  A whole
 * of 0 admits no percentage.  0, or -EINVAL.
 */
int options_size(const char *text, uint64_t whole, uint64_t *bytes);

/* dirty_expire: seconds, perhaps with a fraction.  0, or -EINVAL: not so, or out of its range. */
int options_dirty_expire(const char *text, unsigned *ms);
/* dirty_background: a whole number.  The same. */
int options_dirty_background(const char *text, unsigned *percent);

/*
 * A swap area: FILE[,prio=N][,size=S].  ",," stands for a comma in FILE.
 * The path is written to path.  0, or -EINVAL and why.
 */
int options_swap(const char *text, struct fl_swap_spec *spec, char *path, size_t path_size,
		 char *why, size_t why_size);

/* Forget the patterns of files that were set, so that others take their place. */
void options_forget_files(struct options *o);

/* Bytes of RAM of this machine. */
uint64_t options_ram(void);

#endif
