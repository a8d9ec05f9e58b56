/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* preload.c - a library that does nothing: what preloading one costs in any case. */
int bench_preload(void);

int bench_preload(void)
{
	return 0;
}
