/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * codec.h - a page, compressed and back, by lz4 or zstd.
 *
 * The libraries work in state that we give them: nothing here allocates, locks
 * or makes a system call once it is open.  One codec serves one caller at a
 * time.
 */
#ifndef FL_CODEC_H
#define FL_CODEC_H

#include "faultline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct codec {
	enum fl_compress kind;
	void *memory;
	size_t memory_size;
	void *packer, *unpacker;
};

/* Is it part of this build? */
bool codec_there(enum fl_compress kind);

/*
 * On an application thread: a first page goes there and back, so that what the
 * dynamic linker binds at a first call is bound before a pager makes it.
 * -EOPNOTSUPP: not part of this build; -ENOMEM; -EIO: the page came back wrong.
 */
int codec_open(struct codec *c, enum fl_compress kind);
void codec_close(struct codec *c);

/* Compress a page into at most `max` bytes: how many, or 0 when they do not do. */
uint32_t codec_pack(struct codec *c, const void *page, void *out, uint32_t max);

/* False: what is there is not a compressed page. */
bool codec_unpack(struct codec *c, const void *bytes, uint32_t size, void *page);

#endif
