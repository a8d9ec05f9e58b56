# SPDX-License-Identifier: LGPL-2.1-or-later
"""Single faults, ioctls, runtimes opened, processes forked: nanoseconds each."""

import sides

PLACES = {
    "kernel": "nobody pages",
    "same": "pager on the same CPU",
    "other": "pager on another CPU",
    "in-thread": "in the thread",
}
FAULTS = {
    "zero": "first touch, read",
    "anon": "first touch, write",
    "wp": "write to a write-protected page",
    "staged": "page in staging",
    "filled": "page of one word",
    "compressed": "compressed page",
    "swap": "page in a slot, read",
    "file-read": "page of a file, read",
}
CALLS = {"copy": "UFFDIO_COPY", "zeropage": "UFFDIO_ZEROPAGE", "move": "UFFDIO_MOVE",
         "wp": "write-protect", "unwp": "un-write-protect", "drop": "MADV_DONTNEED"}
BATCHES = (1, 16, 64, 512)
CPUS = {"one": "one CPU runs the process", "two": "another one does, too"}
IOCTLS = {**{f"{c}-{b}": f"{t}, {b} a call" for c, t in CALLS.items() for b in BATCHES},
          "drop-scattered-512": "process_madvise, 512 scattered"}
OTHER = {"open": "fl_open() to the first armed touch", "close": "fl_close()",
         "fork": "fork of 64 MiB"}


def measure(setup, results, round_):
    """One round of everything; results.add(row, column, round, nanoseconds)."""
    micro = setup.program("bench-micro")

    def add(column, *command):
        try:
            out, _ = sides.run(command)
        except sides.Failed as e:
            results.failed[column] = str(e)
            return
        for line in map(str.split, out.splitlines()):
            results.add(line[1], column, round_, float(line[2]))

    for place in sorted(PLACES, reverse=round_ % 2 == 1):
        add(place, micro, "faults", place, setup.work)
    for cpus in CPUS:
        add(cpus, micro, "ioctls", cpus)
    add("native", micro, "fork", 64)
    add("run", micro, "open", setup.work)
    add("run", *setup.faultline_run(32 * sides.MIB), micro, "fork", 64)
