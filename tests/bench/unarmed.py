# SPDX-License-Identifier: LGPL-2.1-or-later
"""What being watched costs a program while nothing is paged.

Memory calls, threads, short commands and start-up, natively and with the preload
library loaded; --before names another build of that library to put beside it.
"""

import os
import time

import sides

# row: title, unit, goal, is the goal a ratio?
ROWS = {
    "madvise": ("madvise", "ns", 150, False),
    "mmap": ("mmap and munmap, each", "ns", 150, False),
    "mprotect": ("mprotect", "ns", 150, False),
    "startup": ("start-up over an empty library", "µs", 400, False),
    "threads": ("1000 threads", "µs", 1.05, True),
    "commands": ("bash, short commands", "ms", 1.4, True),
}


def loops(setup, env):
    out, _ = sides.run([setup.program("bench-unarmed")], env=env)
    return {f[0]: float(f[1]) for f in map(str.split, out.splitlines())}


def startup(setup, library, runs):
    # a process as native as any loads one library more: that is not ours to pay
    out, _ = sides.run([setup.program("bench-startup"), "-p", library, runs,
                        setup.program("bench-empty")])
    return float(out)


def commands(env, count):
    start = time.monotonic()
    sides.run(["bash", "-c", f"for i in $(seq {count}); do /bin/true; done"], env=env)
    return (time.monotonic() - start) * 1e3


def measure(setup, add, libraries, rounds, runs, count):
    """add(row, side, round, value) for every side of libraries, taking turns."""
    empty = setup.program(".libs/bench-preload.so")
    for r in rounds():
        for side in sorted(libraries, reverse=r % 2 == 1):
            library = libraries[side]
            env = sides.clean_env()
            if library:
                env = {**env, "LD_PRELOAD": os.fspath(library)}
            for row, value in loops(setup, env).items():
                add(row, side, r, value)
            add("startup", side, r, startup(setup, library or empty, runs))
            add("commands", side, r, commands(env, count))
