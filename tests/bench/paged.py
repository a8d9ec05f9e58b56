# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that get a quarter of the memory that they need.

What a program needs is what it takes when nobody pages.  It then runs natively, with a quarter
of that in a memory control group with kernel swap, and under `faultline run`, where all of its
processes share the limit, too (--limit-group).  zram's memory is not its group's, while a pool is
of the limit: who has a pool and no area gets half of the need.  What is timed is the whole process;
of redis-server, the time that redis-benchmark takes against it, and that of a BGSAVE.  Whoever
pages, a control group says what the program's processes took at most.
"""

import base64
import copy
import os
import sys

import programs
import sides

PART = 4  # of its need a program gets one such part
PART_NOSWAP = 2
GROUP = "--limit-group"
SIDES = {
    "native": "native",
    "file": "kernel swap, file",
    "zram": "kernel swap, zram",
    "run": "faultline run",
    "noswap": "faultline run, compressed only",
    "both": "faultline run, compressed and file",
}
LEAST = 4 * sides.MIB

NEED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


class Sort(programs.Sort):
    """Lines of a thousand characters: to merge them is to touch pages at random, a few times each."""

    def write(self, f, r):
        for _ in range(int(80_000 * self.scale)):
            f.write(base64.b64encode(r.randbytes(750)) + b"\n")


class Redis(programs.Redis):
    # keys, bytes of each, operations
    size = (100_000, 1000, 100_000)


class Save(programs.Save):
    size = Redis.size


TITLES = {
    "paged-sort": "sort",
    "paged-python3": "python3",
    "paged-sqlite3": "sqlite3, load and index",
    "paged-btree": "sqlite3, lookups and updates",
    "paged-redis": "redis-server",
    "paged-bgsave": "redis-server, BGSAVE",
    "paged-bfs": "breadth-first search",
    "paged-pagerank": "PageRank",
    "paged-stream": "stream",
}
NAMES = list(TITLES)


def program_of(name, setup, scale):
    return {
        "paged-sort": lambda: Sort(setup, scale),
        "paged-python3": lambda: programs.Python(setup, scale * 0.5),
        "paged-sqlite3": lambda: programs.Sqlite(setup, scale * 0.5),
        "paged-btree": lambda: programs.Lookups(setup, scale),
        "paged-redis": lambda: Redis(setup, scale),
        "paged-bgsave": lambda: Save(setup, scale),
        "paged-bfs": lambda: programs.search(setup, scale),
        "paged-pagerank": lambda: programs.rank(setup, scale),
        "paged-stream": lambda: programs.stream(setup, scale),
    }[name]()


def need(program):
    """Bytes that it takes natively."""
    if isinstance(program, programs.Redis):
        program.seconds([])
        return program.peak
    out, _ = sides.run([sys.executable, "-c", NEED, *program.command()])
    return int(out.split()[-1]) << 10


class DoesNotFit(sides.NotMeasured):
    """Its pages do not compress, and have nowhere to go."""


class Kernel:
    """A quarter of the need in a control group, with kernel swap."""

    stops = 0

    def __init__(self, kind, setup, limit, bytes_):
        self.limit, self.work = limit, setup.work
        # room for all that it needs twice over, and the limit's worth on top
        sized = copy.copy(setup)
        sized.size, sized.limit = 2 * bytes_, limit
        self.swap, self.key = kind(sized), kind.key

    def prepare(self):
        self.swap.prepare()

    def seconds(self, program):
        """(seconds, sides.Used)."""
        self.swap.on()
        try:
            group = sides.Cgroup(self.work.name, self.limit)
            try:
                with group.kept_fresh():
                    took, used = program.seconds([], group), program.used
                    return took, used._replace(peak=used.peak + self.swap.beside())
            except sides.Failed:
                group.end_all()
                raise
            finally:
                self.stops += group.stops
                group.remove()
        finally:
            self.swap.off()

    def end(self):
        self.swap.end()


class Plain:
    """Natively, or under `faultline run`."""

    stops = 0

    def __init__(self, key, setup, prefix):
        self.key, self.work, self.prefix = key, setup.work, prefix

    def prepare(self):
        pass

    def seconds(self, program):
        group = sides.counting_group(self.work.name)
        try:
            return program.seconds(self.prefix, group), program.used
        except sides.Failed:
            if group:
                group.end_all()
            raise
        finally:
            if group:
                group.remove()

    def end(self):
        pass


class NoArea(Plain):
    """Under `faultline run`, with a pool and no area."""

    def seconds(self, program):
        try:
            return super().seconds(program)
        except sides.Failed as e:
            # a fork needs a frame for each of the parent's that no area can take
            if any(t in str(e) for t in ("faultline: out of memory", "leaves no room for a child")):
                raise DoesNotFit("half of its need is not enough for its pages compressed") from e
            raise


def measure(setup, name, scale, wanted, results, rounds, say):
    """Rounds of one program."""
    program, title = program_of(name, setup, scale), TITLES[name]
    try:
        program.prepare()
        bytes_ = need(program)
    except sides.NotMeasured as e:
        results.why[title] = str(e)
        return
    except sides.Failed as e:
        results.failed[title] = str(e)
        return
    limit, noswap = (max(bytes_ // part, LEAST) // sides.MIB * sides.MIB
                     for part in (PART, PART_NOSWAP))
    pool = f"--compress=lz4,{noswap * 3 // 4 // sides.MIB}M"
    results.add((title, "need"), "native", 0, bytes_ / sides.MIB)
    able = []
    for side in (Plain("native", setup, []), Kernel(sides.KernelFile, setup, limit, bytes_),
                 Kernel(sides.KernelZram, setup, limit, bytes_),
                 Plain("run", setup, setup.faultline_run(limit, GROUP)),
                 NoArea("noswap", setup,
                        setup.faultline_run(noswap, GROUP, pool, "--swap", "none")),
                 Plain("both", setup, setup.faultline_run(limit, GROUP, "--compress=lz4"))):
        if side.key not in wanted:
            continue
        try:
            side.prepare()
            able.append(side)
        except sides.NotMeasured as e:
            results.why[f"{title}, {side.key}"] = str(e)
        except sides.Failed as e:
            results.failed[f"{title}, {side.key}"] = str(e)
    for r in rounds() if able else ():
        for side in sides.in_turn(able, r):
            if f"{title}, {side.key}" in {**results.failed, **results.why}:
                continue
            say(f"{title}, round {r + 1}: {side.key}, of {bytes_ // sides.MIB} MiB "
                f"{limit // sides.MIB}")
            os.sync()  # what one side has to write is not the next one's burden
            try:
                took, used = side.seconds(program)
                results.add(title, side.key, r, took)
                results.add((title, "CPU"), side.key, r, used.cpu)
                if used.peak:
                    results.add((title, "peak"), side.key, r, used.peak / sides.MIB)
            except DoesNotFit as e:
                results.why[f"{title}, {side.key}"] = str(e)
            except (sides.Failed, sides.NotMeasured) as e:
                results.failed[f"{title}, {side.key}"] = str(e)
    for side in able:
        side.end()
        if side.stops:
            results.lines.append(f"{title}, {side.key}: out of memory, and woken again, "
                                 f"{side.stops} times")
