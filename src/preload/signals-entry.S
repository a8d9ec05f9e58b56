/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * signals-entry.S - what the kernel calls for a signal (x86-64); see signals.h.
 *
 * A thunk a record, 16 bytes each.  It and signal_entry have no frame of their
 * own, so that to an unwinder the kernel's frame is the handler's caller.
 */
#include "entry-offsets.h"

	.text

	.globl	signal_thunks
	.hidden	signal_thunks
	.type	signal_thunks, @function
	.balign	16
signal_thunks:
	.cfi_startproc
	.set	index, 0
	.rept	SIGNAL_THUNKS
	.balign	SIGNAL_THUNK_SIZE
	endbr64
	mov	$index, %eax
	jmp	signal_entry
	.set	index, index + 1
	.endr
	.balign	SIGNAL_THUNK_SIZE
	.cfi_endproc
	.size	signal_thunks, . - signal_thunks

	/* eax: the record.  To the handler all registers are as the kernel set them. */
	.type	signal_entry, @function
	.balign	16
signal_entry:
	.cfi_startproc
	cmp	$SIGNAL_BUS, %edi
	je	2f
3:	mov	signal_state@gottpoff(%rip), %rcx
	cmpl	$0, %fs:STATE_HELD(%rcx)
	jne	1f
	shl	$SIGNAL_RECORD_SHIFT, %eax
	lea	signal_records(%rip), %rcx
	mov	(%rcx,%rax), %rcx
	xor	%eax, %eax
	jmp	*%rcx
1:	mov	%eax, %ecx
	jmp	signal_arrived
	/* what a page raised that we made poisonous is to look as the kernel's own would */
2:	cmpl	$SIGNAL_BUS_POISON, SIGINFO_CODE(%rsi)
	jne	3b
	push	%rax
	.cfi_adjust_cfa_offset 8
	push	%rdi
	.cfi_adjust_cfa_offset 8
	push	%rsi
	.cfi_adjust_cfa_offset 8
	push	%rdx
	.cfi_adjust_cfa_offset 8
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	mov	%rsi, %rdi
	call	signal_bus
	add	$8, %rsp
	.cfi_adjust_cfa_offset -8
	pop	%rdx
	.cfi_adjust_cfa_offset -8
	pop	%rsi
	.cfi_adjust_cfa_offset -8
	pop	%rdi
	.cfi_adjust_cfa_offset -8
	pop	%rax
	.cfi_adjust_cfa_offset -8
	jmp	3b
	.cfi_endproc
	.size	signal_entry, . - signal_entry

	.section .note.GNU-stack, "", @progbits
