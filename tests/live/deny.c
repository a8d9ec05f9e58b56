/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * deny WHAT PROGRAM ARGUMENT...: run a program on a kernel that lacks something.
 *
 *	old	the userfaultfd of a kernel before 6.8: its features are refused
 *	device	nobody may make a userfaultfd, nor take another's descriptor, as in a container
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xaa, 0)
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define FAIL(err) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (err))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

int main(int argc, char **argv)
{
	struct sock_filter old[] = {
		LOAD(nr),      SKIP_UNLESS(SYS_ioctl, 3),
		LOAD(args[1]), SKIP_UNLESS((unsigned)UFFDIO_API, 1),
		FAIL(EINVAL),  ALLOW,
	};
	struct sock_filter device[] = {
		LOAD(nr),      SKIP_UNLESS(SYS_pidfd_getfd, 1),
		FAIL(EPERM),   SKIP_UNLESS(SYS_userfaultfd, 1),
		FAIL(EPERM),   SKIP_UNLESS(SYS_ioctl, 3),
		LOAD(args[1]), SKIP_UNLESS((unsigned)USERFAULTFD_IOC_NEW, 1),
		FAIL(EACCES),  ALLOW,
	};
	struct sock_fprog prog = {sizeof(old) / sizeof(old[0]), old};

	if (argc < 3) {
		fputs("usage: deny old|device PROGRAM ARGUMENT...\n", stderr);
		return 2;
	}
	if (strcmp(argv[1], "device") == 0)
		prog = (struct sock_fprog){sizeof(device) / sizeof(device[0]), device};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0) {
		perror("deny");
		return 2;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 2;
}
