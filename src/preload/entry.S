/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * entry.S - from a patched system-call site into C and back (x86-64).
 *
 * A trampoline (patch.c draws it) leaves on the stack, from the top down:
 *
 *	the site's red zone	128 bytes
 *	where the site resumes	  8 bytes, for unwinders only
 *	the call's number	  8 bytes
 *	the trampoline's return	  8 bytes
 *
 * and every register as the system call instruction would find it.  The entry
 * calls hook_call() and returns with rax holding the result and the carry flag
 * clear, or, when the hook leaves the call to the kernel, with rax as it was
 * and the carry flag set.  All other registers are as they were: those that
 * the instruction itself would spoil (rcx, r11) too, since a watched site need
 * not be followed by it at once.  A child that is to run on a stack of its own
 * does not return: it goes on behind the system call.
 *
 * A system call in the midst of a hook's work is made here, between hook_call()
 * and hook_made().  The processor forgets in the kernel where calls return to,
 * and each return from a function that was entered before costs some ten
 * nanoseconds: so there is no function beneath.
 *
 * To an unwinder the entry's caller is the site: the frame description below
 * skips the trampoline, which has none.
 *
 * The general registers are laid out as struct hook_call (hook.h).
 *
 * Signals that the hook put off (signals.h) are delivered when all vectors are
 * the program's again: below struct hook_call come, from the top down,
 *
 *	rbx, r12 to r15, eax	for signal_deliver()
 *	the vectors		as the kernel has them in a signal's frame
 *	a frame			at FRAME_BELOW
 *	more frames		of FURTHER_FRAME and vectors, when several signals wait
 *	a context		which enters the topmost handler
 */


#include "entry-offsets.h"

#define NUMBER 16      /* the number, from the frame pointer */
#define RESUME 24      /* where the site resumes, from the frame pointer */
#define SAVED (9 * 8)  /* struct hook_call */
#define SYS_RT_SIGRETURN 15

	.text

	/* xrstor refuses a header with stray bits, and xsave does not clear them. */
	.macro	clear_header
	xor	%ecx, %ecx
	.irp	at, 512, 520, 528, 536, 544, 552, 560, 568
	mov	%rcx, \at(%rsp)
	.endr
	.endm

	.macro	enter
	endbr64
	.cfi_startproc
	.cfi_def_cfa	%rsp, TRAMPOLINE
	.cfi_offset	%rip, -136
	push	%rbp
	.cfi_def_cfa_offset	TRAMPOLINE + 8
	.cfi_offset	%rbp, -(TRAMPOLINE + 8)
	mov	%rsp, %rbp
	.cfi_def_cfa_register	%rbp
	push	%rax
	push	%r11
	push	%rcx
	push	%r9
	push	%r8
	push	%r10
	push	%rdx
	push	%rsi
	push	%rdi
	mov	%rsp, %rdi
	mov	NUMBER(%rbp), %rsi
	.endm

	.macro	call_hook
	call	hook_call
	cmp	$HOOK_HELD, %eax
	jne	9f
	mov	NUMBER(%rbp), %rax
	mov	-SAVED(%rbp), %rdi
	mov	8-SAVED(%rbp), %rsi
	mov	16-SAVED(%rbp), %rdx
	mov	24-SAVED(%rbp), %r10
	mov	32-SAVED(%rbp), %r8
	mov	40-SAVED(%rbp), %r9
	syscall
	lea	-SAVED(%rbp), %rdi
	mov	NUMBER(%rbp), %rsi
	mov	%rax, %rdx
	call	hook_made
9:
	.endm

	/*
	 * eax: 1 when the hook served the call, 2 when the caller goes on, on the
	 * stack in rcx's place, where the site resumes: the child of a clone(2) that
	 * names a stack.  No instruction after cmp alters the flags.
	 */
	.macro	leave_by_eax
	mov	signal_state@gottpoff(%rip), %rcx
	cmpl	$0, %fs:STATE_WAITS(%rcx)
	jne	signal_waits
	lea	-SAVED(%rbp), %rsp
	cmp	$1, %eax
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%r10
	pop	%r8
	pop	%r9
	pop	%rcx
	pop	%r11
	pop	%rax
	ja	8f
	.cfi_remember_state
	pop	%rbp
	.cfi_def_cfa	%rsp, TRAMPOLINE
	.cfi_restore	%rbp
	ret
	.cfi_restore_state
8:	mov	RESUME(%rbp), %r11
	mov	(%rbp), %rbp
	.cfi_undefined	%rip
	mov	%rcx, %rsp
	jmp	*%r11
	.cfi_endproc
	.endm

	.type	signal_waits, @function
	.balign	16
signal_waits:
	.cfi_startproc
	.cfi_def_cfa	%rbp, TRAMPOLINE + 8
	.cfi_offset	%rip, -136
	.cfi_offset	%rbp, -(TRAMPOLINE + 8)
	lea	-SAVED(%rbp), %rsp
	push	%rbx
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rax
	mov	%rsp, %rdi
	mov	%rcx, %rbx
	sub	%fs:STATE_FP_SIZE(%rbx), %rsp
	and	$-64, %rsp
	mov	%rsp, %rsi
	mov	%fs:STATE_XFEATURES(%rbx), %rax
	mov	%rax, %rdx
	shr	$32, %rdx
	test	%rax, %rax
	jz	1f
	clear_header
	xsave64	(%rsp)
	jmp	2f
1:	fxsave64 (%rsp)
2:	mov	%fs:STATE_WAITS(%rbx), %eax
	dec	%eax
	mov	%fs:STATE_FP_SIZE(%rbx), %rdx
	add	$FURTHER_FRAME, %rdx
	imul	%rdx, %rax
	lea	-(FRAME_BELOW + CONTEXT_SIZE)(%rsi), %rdx
	sub	%rax, %rdx
	and	$-16, %rdx
	mov	%rdx, %rsp
	call	signal_deliver
	mov	$SYS_RT_SIGRETURN, %eax
	syscall
	hlt
	.cfi_endproc
	.size	signal_waits, . - signal_waits

	.globl	entry_plain
	.hidden	entry_plain
	.type	entry_plain, @function
	.balign	16
entry_plain:
	enter
	and	$-16, %rsp
	call_hook
	leave_by_eax
	.size	entry_plain, . - entry_plain

	/* Not wanted: straight on to the kernel, nothing saved, nothing spoilt but flags. */
	.globl	entry_any
	.hidden	entry_any
	.type	entry_any, @function
	.balign	16
entry_any:
	.cfi_startproc
	.cfi_def_cfa	%rsp, TRAMPOLINE
	.cfi_offset	%rip, -136
	endbr64
	cmp	$511, %rax
	ja	1f
	bt	%rax, entry_wanted(%rip)
	jc	entry_saving
1:	stc
	ret
	.cfi_endproc
	.size	entry_any, . - entry_any

	.globl	entry_saving
	.hidden	entry_saving
	.type	entry_saving, @function
	.balign	16
entry_saving:
	enter
	sub	entry_area_size(%rip), %rsp
	and	$-64, %rsp
	mov	entry_xsave_mask(%rip), %rax
	test	%rax, %rax
	jz	1f
	clear_header
	xor	%edx, %edx
	xsave64	(%rsp)
	call_hook
	mov	%eax, %ecx
	mov	entry_xsave_mask(%rip), %rax
	xor	%edx, %edx
	xrstor64 (%rsp)
	mov	%ecx, %eax
	jmp	2f
1:	fxsave64 (%rsp)
	call_hook
	fxrstor64 (%rsp)
2:
	leave_by_eax
	.size	entry_saving, . - entry_saving

	.section .note.GNU-stack, "", @progbits
