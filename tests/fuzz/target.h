/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * target.h - what takes one input of bytes nobody vouches for.
 *
 * A target is one function, driven by three: the seeded test of its name, the
 * inputs in corpus/ (the same test), and libFuzzer (make fuzz).  It keeps
 * nothing from one input to the next, and ends the process when the code did
 * what it may not.
 */
#ifndef FL_FUZZ_TARGET_H
#define FL_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What became of the last input: a test sees that all of it happens. */
enum target_outcome { TARGET_NO_INPUT, TARGET_TAKEN, TARGET_REFUSED };
extern enum target_outcome target_outcome;

#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Memory of `size` bytes that ends where no memory is: reading or writing on is caught. */
static inline char *fuzz_edge(size_t size)
{
	size_t whole = (size + 4095) & ~(size_t)4095;
	char *p = mmap(NULL, whole + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	must(p != MAP_FAILED);
	must(mprotect(p + whole, 4096, PROT_NONE) == 0);
	return p + whole - size;
}

#endif
