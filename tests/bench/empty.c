/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* empty.c - a program that does nothing: what is left of its time is start-up. */
int main(void)
{
	return 0;
}
