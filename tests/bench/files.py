# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work on a mapped file: by mmap(2), by faultline, and what the device gives."""

import contextlib
import math

import sides

ROWS = [
    (("seqread", 1), "sequential read"),
    (("randread", 1), "random read, 1 thread"),
    (("randread", 4), "random read, 4 threads"),
    (("randread", 8), "random read, 8 threads"),
    (("procread", 4), "random read, 4 processes"),
    (("zipfread", 1), "zipf 0.99 read, 1 thread"),
    (("randwrite", 1), "random write, then msync"),
]

# The most that faultline may take: (row, side, beside which row and side, times).
GOALS = [
    (("seqread", 1), "api", ("seqread", 1), "direct", 1 / 0.85),
    (("seqread", 1), "api", ("seqread", 1), "mmap", 1.0),
    (("randread", 1), "api", ("randread", 1), "direct", 1.15),
    (("randread", 8), "api", ("randread", 8), "direct", 1.1),
    (("procread", 4), "store", ("randread", 4), "store", 1.05),
    (("zipfread", 1), "api", ("zipfread", 1), "mmap", 1 / 1.2),
    (("randwrite", 1), "api", ("randwrite", 1), "mmap", 1 / 1.5),
]
MEMORY_GOAL = 1.5  # server and 4 processes together, of one copy of what they have read

PAGE = 4096
ZIPF_S = 0.99  # files.c
# What a random work touches, where nobody says how much it does: of the limit, and at most of
# the file.  A 20th more than twice, since how many pages are different is left to chance.
TOUCHED, TOUCHED_QUICK, TOUCHED_MOST = 2.05, 1.25, 0.75


def touched(pages, ops, s):
    """How many different ones of so many pages are touched by operations of which page k (from 1)
    gets a share in proportion to k^-s: 0 is at random.  Page numbers that are near each other are
    taken together: a thousand groups."""
    starts = sorted({int((pages + 1) ** (i / 1000)) for i in range(1000)} | {pages + 1})
    groups = [(end - start, ((start + end - 1) / 2) ** -s)
              for start, end in zip(starts, starts[1:])]
    whole = sum(n * weight for n, weight in groups)
    return sum(n * -math.expm1(-ops * weight / whole) for n, weight in groups)


class Ops:
    """How many random operations a work does: as many as are given, or else enough of them that
    the pages that they touch do not fit the limit, however few get most of a zipf work's."""

    def __init__(self, size, limit, given, quick):
        self.pages, self.limit, self.given = size // PAGE, limit // PAGE, given
        want = min((TOUCHED_QUICK if quick else TOUCHED) * self.limit, TOUCHED_MOST * self.pages)
        self.even, self.zipf = (given or self.least(want, s) for s in (0, ZIPF_S))

    def least(self, want, s):
        """How many touch so many pages."""
        low, high = 0, 64
        while touched(self.pages, high, s) < want:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = ((middle, high) if touched(self.pages, middle, s) < want else
                         (low, middle))
        return high

    def mib_touched(self, s=0):
        return touched(self.pages, self.zipf if s else self.even, s) * PAGE / sides.MIB

    def one_copy(self):
        """MiB of the pages that are in memory when all have touched theirs."""
        return min(self.limit * PAGE / sides.MIB, self.mib_touched())

    def options(self, part=1):
        """For the program."""
        if self.given:
            return ["--ops", self.given]
        return ["--ops", self.even // part, "--zipf-ops", self.zipf // part]

    def __str__(self):
        return (f"{self.even} random operations, on {self.mib_touched():.0f} MiB, or {self.zipf} "
                f"by zipf, on {self.mib_touched(ZIPF_S):.0f} MiB")


class Mmap(sides.Side):
    """The kernel's page cache, in a control group."""

    key, title = "mmap", "mmap(2)"
    limited = rooted = True
    way = "mmap"
    works = "seqread,randread:1,randread:8,zipfread,randwrite,randread:4,procread:4"
    part = 1

    def prepare(self):
        if self.rooted and sides.os.geteuid():
            raise sides.NotMeasured("needs root (control groups)")
        if self.limited:
            sides.cgroup_root()

    def group(self):
        """The control group of a run, or None."""
        return sides.Cgroup(self.setup_.work.name, self.setup_.limit)

    def command(self, *args):
        s = self.setup_
        return [s.program("bench-files"), "--by", self.way, "--limit-mib", s.limit // sides.MIB,
                *s.file_ops.options(self.part), "--works", self.works, *args, s.work / "file"]

    def measure(self, seed):
        group = self.group()
        sides.warm(self.setup_.limit)
        try:
            return sides.run(self.command("--seed", seed), group)
        finally:
            if group:
                group.remove()


class MmapNormal(Mmap):
    """The same, without MADV_RANDOM: with read-around, and with the recency of what is mapped."""

    key, title = "mmap-normal", "mmap(2), unadvised"
    works = "randread:1,randread:8,zipfread,randwrite,randread:4"
    part = 32  # of the operations: a miss brings so many pages, the kernel's default, or more

    def command(self, *args):
        return super().command("--unadvised", *args)


class Faultline(Mmap):
    key, title, way = "api", "faultline API", "faultline"
    limited = rooted = False
    works = "seqread,randread:1,randread:8,zipfread,randwrite,randread:4"

    def group(self):
        """Without a limit: it is the runtime that has one.  The group says what all takes."""
        try:
            return sides.Cgroup(self.setup_.work.name, 0)
        except sides.NotMeasured:
            return None


class Stored(Faultline):
    """The file is a store's: its server has the one page cache, whoever maps it."""

    key, title = "store", "faultline, store"
    rooted = True
    works = "randread:4,procread:4"
    kept = None

    def faultline(self, *args):
        sides.run([self.setup_.build / "src/cli/faultline", *args])

    def prepare(self):
        super().prepare()
        self.kept = self.setup_.work / "files-store"
        self.mnt.mkdir()
        try:
            self.faultline("store", "init", self.kept)
            # a runtime attaches to areas; nothing is swapped
            self.faultline("mkswap", "--size", "64M", self.kept / "swap/disk0")
        except sides.Failed as e:
            raise sides.NotMeasured(str(e)) from e

    @property
    def mnt(self):
        return self.setup_.work / "files-mnt"

    def command(self, *args):
        s = self.setup_
        return [s.program("bench-files"), "--by", self.way, "--limit-mib", s.limit // sides.MIB,
                *s.file_ops.options(), "--store", self.mnt, *args, self.mnt / "files/file"]

    def measure(self, seed):
        """Each work by a server of its own, for nobody else can empty a server's cache.  The work
        that is second may gain by what the disk has kept of the first: they take turns."""
        name = self.kept / "files/file"
        if not name.exists():
            sides.os.link(self.setup_.work / "file", name)
        turn = 1 if seed % 2 else -1
        told = [self.measure_one(work, seed) for work in self.works.split(",")[::turn]]
        return "".join(out for out, _ in told), max(peak for _, peak in told)

    def measure_one(self, work, seed):
        """Its group counts what server and processes have together: a page of one memfd once."""
        s = self.setup_
        with open(s.work / "file", "rb") as f:
            # what the host has cached, which emptying a client's cache leaves
            sides.os.posix_fadvise(f.fileno(), 0, 0, sides.os.POSIX_FADV_DONTNEED)
        sides.warm(s.limit)
        group = sides.Cgroup(s.work.name, 0)
        try:
            sides.run([s.build / "src/cli/faultline", "mount", "-o",
                       f"cache={s.limit // sides.MIB}M", self.kept, self.mnt], group)
            try:
                return sides.run(self.command("--works", work, "--seed", seed), group)
            finally:
                self.faultline("umount", "--lazy", self.mnt)
                # until its server has ended, nobody else serves it
                sides.run(["flock", self.kept / "lock", "true"])
        finally:
            group.remove()

    def end(self):
        if self.kept:
            (self.kept / "files/file").unlink(missing_ok=True)


class Direct(Mmap):
    key, title, way = "direct", "device, O_DIRECT", "direct"
    limited = rooted = False
    works = "seqread,randread:1,randread:8,randwrite,randread:4"

    def group(self):
        return None


ALL = (Mmap, MmapNormal, Faultline, Stored, Direct)


def wanted(keys):
    """Those that go with the sides of anonymous memory that are asked for, or are by name."""
    return [k for k in ALL if k.key in ("direct", *keys) or (k is Mmap and "file" in keys) or
            (k is Stored and "api" in keys)]


def titles(results):
    """By key; the one that is measured by name only, if it was."""
    return {k.key: k.title for k in ALL
            if k is not MmapNormal or any(side == k.key for _, side in results.values)}


@contextlib.contextmanager
def file(setup):
    """The file that all sides use."""
    path = setup.work / "file"
    try:
        sides.run([setup.program("bench-files"), "--make", path, setup.size // sides.MIB])
        yield
    finally:
        path.unlink(missing_ok=True)
