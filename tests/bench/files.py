# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work on a mapped file: by mmap(2), by faultline, and what the device gives."""

import contextlib

import sides

ROWS = [
    (("seqread", 1), "sequential read"),
    (("randread", 1), "random read, 1 thread"),
    (("randread", 8), "random read, 8 threads"),
    (("zipfread", 1), "zipf 0.99 read, 1 thread"),
    (("randwrite", 1), "random write, then msync"),
]


class Mmap(sides.Side):
    """The kernel's page cache, in a control group."""

    key, title = "mmap", "mmap(2)"
    limited = rooted = True
    way = "mmap"

    def prepare(self):
        if self.rooted and sides.os.geteuid():
            raise sides.NotMeasured("needs root (control groups)")
        if self.limited:
            sides.cgroup_root()

    def command(self, *args):
        s = self.setup_
        return [s.program("bench-files"), "--by", self.way, "--limit-mib", s.limit // sides.MIB,
                "--ops", s.ops, *args, s.work / "file"]

    def measure(self, seed):
        s = self.setup_
        group = sides.Cgroup(s.work.name, s.limit) if self.limited else None
        try:
            return sides.run(self.command("--seed", seed), group)
        finally:
            if group:
                group.remove()


class Faultline(Mmap):
    key, title, way = "api", "faultline API", "faultline"
    limited = rooted = False


class Direct(Mmap):
    key, title, way = "direct", "device, O_DIRECT", "direct"
    limited = rooted = False


ALL = (Mmap, Faultline, Direct)


def wanted(keys):
    """Those that go with the sides of anonymous memory that are asked for."""
    return [k for k in ALL if k.key in ("direct", *keys) or (k is Mmap and "file" in keys)]


@contextlib.contextmanager
def file(setup):
    """The file that all sides use."""
    path = setup.work / "file"
    try:
        sides.run([setup.program("bench-files"), "--make", path, setup.size // sides.MIB])
        yield
    finally:
        path.unlink(missing_ok=True)
