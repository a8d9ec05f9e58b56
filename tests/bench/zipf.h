/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * zipf.h - numbers 1..n of which k comes with a probability in proportion to
 * k^-s, exactly and at a constant cost, for any s but 1.
 *
 * Rejection-inversion (W. Hoermann and G. Derflinger, "Rejection-inversion to
 * generate variates from monotone discrete distributions", 1996): a number is
 * drawn from the area below the curve x^-s, by the inverse of its integral H,
 * and rounded; bar k covers the area between H(k + 1/2) - k^-s and H(k + 1/2),
 * and what lies in none is drawn again.  Of a hundred draws two are.
 *
 * Popular numbers are not neighbours: zipf_page() scatters them over the pages,
 * one to one.
 */
#ifndef BENCH_ZIPF_H
#define BENCH_ZIPF_H

#include <math.h>
#include <stdint.h>

struct zipf {
	double s, first,
		last; /* the integral from the first bar's left end to the last one's right */
	double sure;  /* this near below the middle of a bar no look is needed */
	uint64_t n;
	uint64_t step; /* of zipf_page(): has no factor in common with n */
};

static inline double zipf_bar(const struct zipf *z, double x)
{
	return pow(x, -z->s);
}

static inline double zipf_integral(const struct zipf *z, double x)
{
	return (pow(x, 1 - z->s) - 1) / (1 - z->s);
}

static inline double zipf_inverse(const struct zipf *z, double y)
{
	return pow(1 + y * (1 - z->s), 1 / (1 - z->s));
}

static inline void zipf_init(struct zipf *z, uint64_t n, double s)
{
	*z = (struct zipf){.s = s, .n = n};
	z->first = zipf_integral(z, 1.5) - 1;
	z->last = zipf_integral(z, (double)n + 0.5);
	z->sure = 2 - zipf_inverse(z, zipf_integral(z, 2.5) - zipf_bar(z, 2));
	z->step = (uint64_t)((double)n * 0.6180339887498949) | 1;
	for (;; z->step += 2) {
		uint64_t a = n, b = z->step;

		while (b != 0) {
			uint64_t t = a % b;

			a = b;
			b = t;
		}
		if (a == 1)
			break;
	}
}

/* The next number; word() draws 64 random bits. */
static inline uint64_t zipf_next(const struct zipf *z, uint64_t (*word)(uint64_t *),
				 uint64_t *state)
{
	for (;;) {
		double u = (double)(word(state) >> 11) * 0x1p-53;
		double y = z->last + u * (z->first - z->last);
		double x = zipf_inverse(z, y);
		double k = floor(x + 0.5);

		if (k < 1)
			k = 1;
		if (k > (double)z->n)
			k = (double)z->n;
		if (k - x <= z->sure || y >= zipf_integral(z, k + 0.5) - zipf_bar(z, k))
			return (uint64_t)k;
	}
}

/* The page, below n, of number k. */
static inline uint64_t zipf_page(const struct zipf *z, uint64_t k)
{
	return (uint64_t)((unsigned __int128)k * z->step % z->n);
}

#endif
