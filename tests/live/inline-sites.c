/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A library with system-call sites of its own, for test-intercept to load.
 */
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* The number right before the instruction, as compilers and assemblers write it. */
#define CALL "mov %1, %%eax\n\tsyscall"

void *inline_mmap(size_t len);
int inline_munmap(void *p, size_t len);

__attribute__((visibility("default"))) void *inline_mmap(size_t len)
{
	register long flags __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS;
	register long fd __asm__("r8") = -1;
	register long off __asm__("r9") = 0;
	void *p;

	__asm__ volatile(CALL
			 : "=&a"(p)
			 : "i"(SYS_mmap), "D"(0L), "S"(len), "d"(PROT_READ | PROT_WRITE),
			   "r"(flags), "r"(fd), "r"(off)
			 : "rcx", "r11", "memory");
	return p;
}

__attribute__((visibility("default"))) int inline_munmap(void *p, size_t len)
{
	long r;

	__asm__ volatile(CALL
			 : "=&a"(r)
			 : "i"(SYS_munmap), "D"(p), "S"(len)
			 : "rcx", "r11", "memory");
	return (int)r;
}
