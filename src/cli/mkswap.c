/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mkswap.c - 'faultline mkswap': make a file or a block device a swap area.
 */
#include "cli.h"

#include "log.h"
#include "options.h"
#include "swap-area.h"

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>

static void usage(void)
{
	puts("usage: faultline mkswap [--size SIZE] FILE\n"
	     "\n"
	     "Write the header of a swap area to FILE, a block device or a file, so that\n"
	     "'faultline run --swap FILE' takes it.  Only what is blank is taken.\n"
	     "\n"
	     "  --size SIZE  how large the area is to be, as 512M or 1.5G (default: as FILE is);\n"
	     "               a file that does not exist is made with this size\n"
	     "  --help       show this text\n"
	     "\n"
	     "Exit status: 0 FILE is an area, 1 it is not, 2 usage.");
}

int cmd_mkswap(int argc, char **argv)
{
	static const struct option options[] = {
		{"size", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char why[LOG_LINE_MAX];
	uint64_t size = 0;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			if (options_size(optarg, 0, &size) != 0 || size == 0)
				return cli_usage("mkswap", "'%s' is not a size as 512M or 1.5G",
						 optarg);
			break;
		case 'h':
			usage();
			return EXIT_OK;
		default:
			return cli_bad_option("mkswap", argv, opt);
		}
	}
	if (optind == argc)
		return cli_usage("mkswap", "mkswap wants a file or a device");
	if (optind + 1 < argc)
		return cli_usage("mkswap", "mkswap takes one file: '%s'", argv[optind + 1]);
	if (swap_format(argv[optind], size, why, sizeof(why)) != 0) {
		cli_error("%s", why);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}
