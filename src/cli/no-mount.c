/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * no-mount.c - 'faultline mount' and 'faultline umount' of a build without the
 * server of stores.
 */
#include "cli.h"

static int without(const char *command)
{
	cli_error("this faultline was built without '%s' (configure --without-fuse)", command);
	return EXIT_FAILED;
}

int cmd_mount(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return without("mount");
}

int cmd_umount(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return without("umount");
}
