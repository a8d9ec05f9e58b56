/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stream.c - the four kernels of the STREAM benchmark on three arrays.
 *
 *	bench-stream MIB ROUNDS
 *
 * copies, scales, adds and does both, ROUNDS times, over arrays of MIB
 * together, in order; and checks each element at the end: all are equal, to
 * what the same steps make of one number.
 */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	size_t n = argc == 3 ? ((size_t)strtoull(argv[1], NULL, 10) << 20) / 24 : 0;
	int rounds = argc == 3 ? atoi(argv[2]) : 0;
	double *a, *b, *c;
	double x = 1, y = 2, z = 0;

	if (n == 0 || rounds < 1) {
		fputs("usage: bench-stream MIB ROUNDS\n", stderr);
		return 2;
	}
	a = malloc(n * sizeof(*a));
	b = malloc(n * sizeof(*b));
	c = malloc(n * sizeof(*c));
	if (!a || !b || !c) {
		fputs("faultline: bench-stream: out of memory\n", stderr);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		a[i] = x;
		b[i] = y;
		c[i] = z;
	}
	for (int r = 0; r < rounds; r++) {
		for (size_t i = 0; i < n; i++)
			c[i] = a[i];
		for (size_t i = 0; i < n; i++)
			b[i] = 0.25 * c[i];
		for (size_t i = 0; i < n; i++)
			c[i] = a[i] + b[i];
		for (size_t i = 0; i < n; i++)
			a[i] = b[i] + 0.5 * c[i];
		z = x;
		y = 0.25 * z;
		z = x + y;
		x = y + 0.5 * z;
	}
	for (size_t i = 0; i < n; i++)
		if (a[i] != x || b[i] != y || c[i] != z) {
			fprintf(stderr, "faultline: bench-stream: element %zu is wrong\n", i);
			return 1;
		}
	printf("checksum %a\n", x + y + z);
	free(a);
	free(b);
	free(c);
	return 0;
}
