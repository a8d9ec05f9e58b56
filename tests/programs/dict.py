# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build a dictionary of random data, change it, and check every entry.

    dict.py MIB

takes about MIB of memory.  The random streams are made again to check against,
so nothing but the dictionary knows what it holds.
"""

import hashlib
import random
import sys

ENTRY = 512  # bytes an entry takes, roughly: key, value, their objects, the table


def stream(seed, n):
    r = random.Random(seed)
    for _ in range(n):
        k = r.getrandbits(60)
        yield k, r.randbytes(240 + k % 128)


def main():
    n = int(sys.argv[1]) * (1 << 20) // ENTRY
    d = {}
    for k, v in stream(1, n):
        d[k] = v
    print("entries", len(d))

    # Every third is removed, every other third replaced: holes, and new objects in them.
    for i, (k, _) in enumerate(stream(1, n)):
        if i % 3 == 0:
            del d[k]
        elif i % 3 == 1:
            d[k] = k.to_bytes(8, "little") * 30
    print("entries", len(d))

    for i, (k, v) in enumerate(stream(1, n)):
        want = (None, k.to_bytes(8, "little") * 30, v)[i % 3]
        if d.get(k) != want:
            sys.exit(f"entry {i} is wrong")

    h = hashlib.sha256()
    for k, v in d.items():
        h.update(k.to_bytes(8, "little"))
        h.update(v)
    print("sha256", h.hexdigest())


main()
