#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# sort(1), two threads, all in memory: FL_SORT_MIB (default 400) of random text.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs sort python3
python3 - "${FL_SORT_MIB:-400}" >"$dir/text" <<'END'
import base64, random, sys

r = random.Random(4)
out = sys.stdout.buffer
left = int(sys.argv[1]) << 20
while left > 0:
    left -= out.write(base64.b64encode(r.randbytes(r.randrange(60, 4000))) + b"\n")
END
LC_ALL=C
export LC_ALL
paged sort sort --parallel=2 -S "$((${FL_SORT_MIB:-400} * 4))M" "$dir/text"
