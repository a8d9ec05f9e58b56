# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write a C project of made sources and a Makefile.

    project.py DIRECTORY FILES FUNCTIONS

Each of FILES sources has FUNCTIONS functions with tables, switches and loops,
enough to make a compiler work.  The program calls them all and prints a sum.
"""

import random
import sys

directory, files, functions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def function(r, name):
    size = r.randrange(32, 200)
    table = ", ".join(str(r.randrange(1 << 31)) for _ in range(size))
    cases = "".join(
        f"\t\tcase {i}: x = (x << {r.randrange(1, 7)}) ^ t[(x + {r.randrange(99)}) % {size}]; break;\n"
        for i in sorted(r.sample(range(64), 24))
    )
    return (
        f"unsigned {name}(unsigned x)\n{{\n"
        f"\tstatic const unsigned t[{size}] = {{{table}}};\n"
        f"\tfor (unsigned i = 0; i < {size}; i++) {{\n"
        f"\t\tswitch ((x ^ t[i]) % 64) {{\n{cases}"
        f"\t\tdefault: x += t[i] * {r.randrange(3, 999, 2)}u; break;\n\t\t}}\n"
        f"\t\tif (x % {r.randrange(3, 17)} == 0)\n\t\t\tx = x / 3 + t[x % {size}];\n"
        "\t}\n\treturn x;\n}\n\n"
    )


for n in range(files):
    r = random.Random(n)
    with open(f"{directory}/unit{n}.c", "w") as f:
        f.write('#include "all.h"\n\n')
        f.writelines(function(r, f"f{n}_{i}") for i in range(functions))
        f.write(f"unsigned unit{n}(unsigned x)\n{{\n")
        f.writelines(f"\tx ^= f{n}_{i}(x);\n" for i in range(functions))
        f.write("\treturn x;\n}\n")

with open(f"{directory}/all.h", "w") as f:
    f.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
    f.writelines(f"unsigned unit{n}(unsigned x);\n" for n in range(files))

with open(f"{directory}/main.c", "w") as f:
    f.write('#include "all.h"\n\nint main(void)\n{\n\tunsigned x = 1;\n\n')
    f.writelines(f"\tx += unit{n}(x);\n" for n in range(files))
    f.write('\tprintf("%u\\n", x);\n\treturn 0;\n}\n')

objects = " ".join(["main.o"] + [f"unit{n}.o" for n in range(files)])
with open(f"{directory}/Makefile", "w") as f:
    f.write(
        f"CFLAGS = -O2 -Wall -Wextra\nOBJECTS = {objects}\n\n"
        "all: program libunits.a\n\n"
        "program: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)\n\n"
        "libunits.a: $(OBJECTS)\n\tar rcD $@ $(OBJECTS)\n\n"
        "%.o: %.c all.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n"
    )
