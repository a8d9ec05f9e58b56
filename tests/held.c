/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * held FILE COMMAND...: run COMMAND and write to FILE the most memory that its
 * processes held at once, of what faultline's limit is for, in KiB, then how
 * many samples were taken and of how many processes at most.  Its exit status
 * is COMMAND's.
 *
 * All processes of the command's process group are stopped for each sample, so
 * that nothing moves from one to another while it is taken: it is their
 * proportional share (Pss), of mappings that are registered with a
 * userfaultfd and of the runtime's read buffer in a process that has any, else of
 * all private anonymous memory.
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 512
#define PAUSE_NS 40000000L
#define WAIT_TRIES 20U
#define OWN_START 0x200000000000UL /* the zone of the runtime's own memory, lib/sys.c */
#define OWN_END 0x2a0000000000UL
#define READ_BUFFER_KIB 16384UL

/* State and process group, by a stat file; false when there is none. */
static bool read_stat(const char *path, char *state, int *group)
{
	char text[512];
	const char *p;
	size_t n;
	FILE *f = fopen(path, "r");

	if (f == NULL)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	return p != NULL && sscanf(p + 1, " %c %*d %d", state, group) == 2 && *state != 'Z' &&
	       *state != 'X';
}

/* Have all threads stopped?  One that waits in the kernel, as for a vforked child, runs no more than these. */
static bool stands(pid_t pid, bool waiting_is)
{
	char path[300], state;
	bool all = true;
	struct dirent *e;
	int group;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, e->d_name);
		if (e->d_name[0] != '.' && read_stat(path, &state, &group))
			all = all && (state == 'T' || state == 't' || (waiting_is && state == 'D'));
	}
	if (d != NULL)
		closedir(d);
	return all;
}

/* Every process of the group, once all are stopped or have ended. */
static unsigned stopped(pid_t group, pid_t *out)
{
	for (unsigned tries = 0;; tries++) {
		struct timespec pause = {.tv_nsec = 500000};
		DIR *d = opendir("/proc");
		bool all = true;
		unsigned n = 0;
		struct dirent *e;

		kill(-group, SIGSTOP);
		while (d != NULL && (e = readdir(d)) != NULL) {
			pid_t pid = (pid_t)atoi(e->d_name);
			char path[300], state;
			int of;

			snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
			if (pid <= 0 || !read_stat(path, &state, &of) || of != group)
				continue;
			all = all && stands(pid, tries > WAIT_TRIES);
			if (n < PROCESSES_MAX)
				out[n++] = pid;
		}
		if (d != NULL)
			closedir(d);
		if (all)
			return n;
		nanosleep(&pause, NULL);
	}
}

static unsigned long held_by(pid_t pid)
{
	unsigned long start = 0, size = 0, pss = 0, registered = 0, anonymous = 0;
	char path[64], line[1024], name[512] = "", perms[8] = "";
	bool armed = false, own = false, plain = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		unsigned long end;

		name[0] = '\0';
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %511s", &start, &end, perms, name) >= 3) {
			own = start >= OWN_START && start < OWN_END;
			plain = perms[3] == 'p' && (name[0] == '\0' || strcmp(name, "[heap]") == 0);
			continue;
		}
		if (sscanf(line, "Size: %lu", &size) == 1 || sscanf(line, "Pss: %lu", &pss) == 1)
			continue;
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		if (strstr(line, " um") != NULL || (own && size == READ_BUFFER_KIB)) {
			armed |= strstr(line, " um") != NULL;
			registered += pss;
		} else if (!own && plain) {
			anonymous += pss;
		}
	}
	fclose(f);
	return armed ? registered : anonymous;
}

int main(int argc, char **argv)
{
	static pid_t pids[PROCESSES_MAX];
	unsigned long most = 0, samples = 0;
	unsigned processes = 0;
	int status = 0;
	pid_t group;
	FILE *f;

	if (argc < 3)
		return 2;
	group = fork();
	if (group == 0) {
		setpgid(0, 0);
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	if (group < 0)
		return 2;
	setpgid(group, group);
	while (waitpid(group, &status, WNOHANG) == 0) {
		struct timespec pause = {.tv_nsec = PAUSE_NS};
		unsigned n = stopped(group, pids);
		unsigned long sum = 0;

		for (unsigned i = 0; i < n; i++)
			sum += held_by(pids[i]);
		kill(-group, SIGCONT);
		if (sum > most)
			most = sum;
		if (n > processes)
			processes = n;
		samples++;
		nanosleep(&pause, NULL); /* between samples: the command is to run, too */
	}
	f = fopen(argv[1], "w");
	if (f == NULL)
		return 2;
	fprintf(f, "%lu %lu %u\n", most, samples, processes);
	fclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
