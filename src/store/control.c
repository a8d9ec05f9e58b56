/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.c - MNT/control: a line is a command, its result the write's.
 *
 *	swapon NAME [PRIO]
 *	swapoff NAME
 *	limit PID[.NR] SIZE
 */
#include "attach.h"

#include "clients.h"
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_MAX 512

/* Digits alone, at most max; -1 when it is something else. */
static long number(const char *text, long max)
{
	char *end;
	long v;

	if (!isdigit((unsigned char)*text))
		return -1;
	errno = 0;
	v = strtol(text, &end, 10);
	return *end != '\0' || errno != 0 || v > max ? -1 : v;
}

static int set_name(struct job *j, const char *name)
{
	if (!area_name(name) || strlen(name) >= sizeof(j->name))
		return ENOENT;
	strcpy(j->name, name);
	return 0;
}

/* The whole is a name where there is one, else what follows the last blank is a priority. */
static int parse_swapon(struct job *j, char *rest)
{
	char *blank = strrchr(rest, ' ');
	long prio = blank != NULL ? number(blank + 1, 32767) : -1;

	j->kind = JOB_SWAPON;
	j->prio = -1;
	if (prio >= 0 && (!area_name(rest) ||
			  faccessat(server.store->swap_fd, rest, F_OK, AT_SYMLINK_NOFOLLOW) != 0)) {
		j->prio = (int)prio;
		*blank = '\0';
	}
	return set_name(j, rest);
}

static int parse_limit(struct job *j, char *rest)
{
	char *blank = strchr(rest, ' ');

	if (blank == NULL)
		return EINVAL;
	*blank = '\0';
	if (client_parse(rest, &j->pid, &j->nr) != 0 ||
	    options_size(blank + 1, 0, &j->bytes) != 0 || j->bytes < WIRE_LIMIT_MIN ||
	    j->bytes > UINT64_MAX / 4)
		return EINVAL;
	j->kind = JOB_LIMIT;
	return 0;
}

static int parse(struct job *j, char *line)
{
	if (strncmp(line, "swapon ", 7) == 0)
		return parse_swapon(j, line + 7);
	if (strncmp(line, "swapoff ", 8) == 0) {
		j->kind = JOB_SWAPOFF;
		return set_name(j, line + 8);
	}
	if (strncmp(line, "limit ", 6) == 0)
		return parse_limit(j, line + 6);
	return EINVAL;
}

void control_write(fuse_req_t req, const char *text, size_t size)
{
	char line[COMMAND_MAX];
	struct job *j;
	size_t len = size;
	int err;

	if (len != 0 && text[len - 1] == '\n')
		len--;
	if (len == 0 || len >= sizeof(line) || memchr(text, '\n', len) != NULL ||
	    memchr(text, '\0', len) != NULL) {
		ops_error(req, TALLY_write, EINVAL);
		return;
	}
	memcpy(line, text, len);
	line[len] = '\0';
	j = calloc(1, sizeof(*j));
	err = j != NULL ? parse(j, line) : ENOMEM;
	if (err != 0) {
		free(j);
		ops_error(req, TALLY_write, err);
		return;
	}
	j->req = req;
	j->size = size;
	attach_job(j);
}
