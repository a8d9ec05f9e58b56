/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * codec.c - a page, compressed and back; see codec.h.
 */
#include "codec.h"

#include "sys.h"

#include <errno.h>
#include <string.h>

#ifdef FL_LZ4
#include <lz4.h>
#endif
#ifdef FL_ZSTD
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#define ZSTD_LEVEL 1
#endif

#define PAGE 4096U

bool codec_there(enum fl_compress kind)
{
#ifdef FL_LZ4
	if (kind == FL_COMPRESS_LZ4)
		return true;
#endif
#ifdef FL_ZSTD
	if (kind == FL_COMPRESS_ZSTD)
		return true;
#endif
	return kind == FL_COMPRESS_NONE;
}

static int set_up(struct codec *c)
{
#ifdef FL_LZ4
	if (c->kind == FL_COMPRESS_LZ4) {
		c->memory_size = (size_t)LZ4_sizeofState();
		c->memory = c->packer = sys_mem_alloc(c->memory_size);
		return c->memory != NULL ? 0 : -ENOMEM;
	}
#endif
#ifdef FL_ZSTD
	if (c->kind == FL_COMPRESS_ZSTD) {
		ZSTD_compressionParameters params = ZSTD_getCParams(ZSTD_LEVEL, PAGE, 0);
		size_t pack = (ZSTD_estimateCCtxSize_usingCParams(params) + 63) & ~(size_t)63;
		size_t unpack = ZSTD_estimateDCtxSize();

		c->memory_size = pack + unpack;
		c->memory = sys_mem_alloc(c->memory_size);
		if (c->memory == NULL)
			return -ENOMEM;
		c->packer = ZSTD_initStaticCCtx(c->memory, pack);
		c->unpacker = ZSTD_initStaticDCtx((char *)c->memory + pack, unpack);
		return c->packer != NULL && c->unpacker != NULL ? 0 : -EIO;
	}
#endif
	(void)c;
	return -EOPNOTSUPP;
}

int codec_open(struct codec *c, enum fl_compress kind)
{
	uint64_t page[PAGE / 8], back[PAGE / 8];
	char out[PAGE];
	uint32_t size;
	int r;

	*c = (struct codec){.kind = kind};
	if (kind == FL_COMPRESS_NONE)
		return 0;
	r = set_up(c);
	if (r == 0) {
		for (unsigned i = 0; i < PAGE / 8; i++)
			page[i] = i * i / 7;
		memset(back, 0xff, sizeof(back));
		size = codec_pack(c, page, out, PAGE - 1);
		if (size == 0 || !codec_unpack(c, out, size, back) ||
		    memcmp(page, back, sizeof(page)) != 0)
			r = -EIO;
	}
	if (r != 0)
		codec_close(c);
	return r;
}

void codec_close(struct codec *c)
{
	sys_mem_free(c->memory, c->memory_size);
	*c = (struct codec){.kind = FL_COMPRESS_NONE};
}

uint32_t codec_pack(struct codec *c, const void *page, void *out, uint32_t max)
{
#ifdef FL_LZ4
	if (c->kind == FL_COMPRESS_LZ4)
		return (uint32_t)LZ4_compress_fast_extState(c->packer, page, out, (int)PAGE,
							    (int)max, 1);
#endif
#ifdef FL_ZSTD
	if (c->kind == FL_COMPRESS_ZSTD) {
		size_t n = ZSTD_compressCCtx(c->packer, out, max, page, PAGE, ZSTD_LEVEL);

		return ZSTD_isError(n) ? 0 : (uint32_t)n;
	}
#endif
	(void)c, (void)page, (void)out, (void)max;
	return 0;
}

bool codec_unpack(struct codec *c, const void *bytes, uint32_t size, void *page)
{
#ifdef FL_LZ4
	if (c->kind == FL_COMPRESS_LZ4)
		return LZ4_decompress_safe(bytes, page, (int)size, (int)PAGE) == (int)PAGE;
#endif
#ifdef FL_ZSTD
	if (c->kind == FL_COMPRESS_ZSTD)
		return ZSTD_decompressDCtx(c->unpacker, page, PAGE, bytes, size) == PAGE;
#endif
	(void)c, (void)bytes, (void)size, (void)page;
	return false;
}
