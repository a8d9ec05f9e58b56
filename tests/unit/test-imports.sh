#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What runs on pagers and in hooks calls nothing of the C library but memory
# and string functions: no malloc, no stdio, no errno, nothing that the program
# could be in the middle of; and of the compressors what works in given memory.  The preload library shows nothing, and needs no
# library that the program might bring in another version.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
preload=$FL_BUILD/src/preload/.libs/libfaultline-preload.so

cat >"$work/allowed" <<'END'
LZ4_compress_fast_extState
LZ4_decompress_safe
LZ4_sizeofState
ZSTD_compressCCtx
ZSTD_decompressDCtx
ZSTD_estimateCCtxSize_usingCParams
ZSTD_estimateDCtxSize
ZSTD_getCParams
ZSTD_initStaticCCtx
ZSTD_initStaticDCtx
ZSTD_isError
__divti3
__errno_location
__libc_single_threaded
__tls_get_addr
__udivti3
__x86_get_cpuid_feature_leaf
_GLOBAL_OFFSET_TABLE_
clock_gettime
dl_iterate_phdr
getauxval
io_uring_queue_exit
io_uring_queue_mmap
io_uring_ring_dontfork
memchr
memcmp
memcpy
memmove
memset
strchr
strcmp
strcspn
strerrordesc_np
strlen
strncmp
strrchr
strstr
END

# Of our own objects: liburing's archive brings functions that nobody calls.
# pager.c wants the place of errno in order to give a pager one of its own, and
# entry-init.c asks for an auxiliary value before the program runs.
"${NM:-nm}" -g "$FL_BUILD"/lib/.libs/libfaultline_core_la-*.o "$FL_BUILD"/src/preload/.libs/*.o |
	awk 'NF == 3 { defined[$3] } NF == 2 && $1 == "U" { wanted[$2] }
		END { for (name in wanted) if (!(name in defined)) print name }' |
	grep -v -e '^__asan_' -e '^__tsan_' -e '^__ubsan_' -e '^__stack_chk_fail$' \
		-e '^__mem[a-z]*_chk$' |
	sort >"$work/imports"
[ -s "$work/imports" ] || {
	echo "no imports were found"
	exit 1
}
LC_ALL=C sort -o "$work/allowed" "$work/allowed"
LC_ALL=C sort -o "$work/imports" "$work/imports"
if LC_ALL=C comm -13 "$work/allowed" "$work/imports" | grep .; then
	echo "called, and not safe to call"
	exit 1
fi

if "${NM:-nm}" -D --defined-only "$preload" | grep .; then
	echo "shown by the preload library"
	exit 1
fi
if "${READELF:-readelf}" -d "$preload" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
	grep -v -e '^libc\.so\.6$' -e '^ld-linux-x86-64\.so\.2$' -e '^lib[atu]*san\.so'; then
	echo "needed by the preload library"
	exit 1
fi
"${READELF:-readelf}" -d "$preload" | grep -q INITFIRST || {
	echo "the preload library is not initialised first"
	exit 1
}
