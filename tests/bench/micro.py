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
    "swap-write": "page in a slot, write",
    "file-read": "page of a file, read",
    "file-cached": "page of a file, cached, read",
    "file-dirty": "page of a shared file, first write",
    "file-copy": "page of a private file, copied",
}
CALLS = {"copy": "UFFDIO_COPY", "zeropage": "UFFDIO_ZEROPAGE", "move": "UFFDIO_MOVE",
         "wp": "write-protect", "unwp": "un-write-protect", "drop": "MADV_DONTNEED",
         "continue": "UFFDIO_CONTINUE", "wake": "UFFDIO_WAKE", "poison": "UFFDIO_POISON",
         "register": "UFFDIO_REGISTER", "unregister": "UFFDIO_UNREGISTER",
         "scan": "PAGEMAP_SCAN", "drop-scattered": "process_madvise, scattered"}
BATCHES = (1, 16, 64, 512)
CPUS = {"one": "one CPU runs the process", "two": "another one does, too"}
IOCTLS = {f"{c}-{b}": f"{t}, {b} a call" for c, t in CALLS.items() for b in BATCHES}
OTHER = {"open": "fl_open() to the first armed touch", "close": "fl_close()",
         "fork": "fork of 64 MiB", "hook-none": "madvise of nothing",
         "hook-other": "madvise of a page that is not paged",
         "hook-mprotect": "mprotect of a page, as it is", "hook-mmap": "mmap and munmap, each"}


def measure(setup, results, round_):
    """One round of everything; results.add(row, column, round, nanoseconds)."""
    micro = setup.program("bench-micro")

    def add(column, *command):
        try:
            out, _ = sides.run(command)
        except sides.Failed as e:
            results.failed[column] = str(e)
            return
        for what, row, *value in map(str.split, out.splitlines()):
            if what == "row":
                results.add(row, column, round_, float(value[0]))
            else:
                results.why[f"{row}, {column}, round {round_ + 1}"] = "its pager was elsewhere"

    for place in sorted(PLACES, reverse=round_ % 2 == 1):
        add(place, micro, "faults", place, setup.work)
    for cpus in CPUS:
        add(cpus, micro, "ioctls", cpus)
    add("run", micro, "open", setup.work)
    armed = setup.faultline_run(32 * sides.MIB)
    for what in ("fork", "hooks"):
        add("native", micro, what, 64)
        add("run", *armed, micro, what, 64)
