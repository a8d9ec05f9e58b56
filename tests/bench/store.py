#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a store costs: one table of what goes through it, beside what does not.

The two sides of a line take turns within each round, and change their order
from round to round.  A cell is the median over the rounds and half the
distance from the least to the greatest, and a ratio the same of the rounds'
ratios.  The file systems' lines need fio(1) and the source of libfuse's
example passthrough_ll (Debian: libfuse3-dev); what cannot be measured is named
with the reason.  --check makes a missed goal the exit status.
"""

import argparse
import contextlib
import csv
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

import bench  # noqa: E402
import device  # noqa: E402
import sides  # noqa: E402
import svg  # noqa: E402

MIB = sides.MIB
EXAMPLES = pathlib.Path("/usr/share/doc/libfuse3-dev/examples")
PARTS = ["swap", "mem", "attach", "crowd", "watched", "files"]


def say(text):
    bench.say(text)


class Row:
    """One line: a better side is smaller (time) or greater (rate)."""

    def __init__(self, title, unit, goal, rate=False):
        self.title, self.unit, self.goal, self.rate = title, unit, goal, rate
        self.ours, self.base = [], []
        self.part = None  # that it belongs to

    def add(self, ours, base):
        self.ours.append(ours)
        self.base.append(base)

    def ratios(self):
        return [a / b for a, b in zip(self.ours, self.base)]

    def missed(self):
        if self.goal is None or not self.ours:
            return False
        r = statistics.median(self.ratios() or self.ours)
        return r < self.goal if self.rate else r > self.goal

    def cells(self):
        sign = "≥" if self.rate else "≤"
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        verdict = "" if self.goal is None else bench.verdict(self.ours, self.missed())
        return [f"{self.title}, {self.unit}", bench.cell(dict(enumerate(self.ours))),
                bench.cell(dict(enumerate(self.base))), bench.times(self.ratios()),
                goal + verdict]


class Store:
    """A store below the work directory, mounted."""

    def __init__(self, args, work):
        self.cli = args.build / "src/cli/faultline"
        self.dir, self.mnt = work / "store", work / "mnt"
        self.mnt.mkdir()
        sides.run([self.cli, "store", "init", self.dir])
        size = max(3 * args.mib, 2048)
        sides.run([self.cli, "mkswap", "--size", f"{size}M", self.dir / "swap/disk0"])

    @contextlib.contextmanager
    def mounted(self, options="cached"):
        sides.run([self.cli, "mount", "-o", options, self.dir, self.mnt])
        try:
            yield self.mnt
        finally:
            sides.run([self.cli, "umount", "--lazy", self.mnt])
            # until its server has ended, nobody else serves it
            sides.run(["flock", self.dir / "lock", "true"])


def in_turn(round_, first, second):
    """What both give, in the round's order."""
    if round_ % 2:
        b = second()
        return first(), b
    a = first()
    return a, second()


def drop_caches():
    os.sync()
    sides.write("/proc/sys/vm/drop_caches", 3)


# --- swap ---

def measure_swap(args, work, store, rows):
    names = {("seqread", "1"): ("sequential swap-in", None),
             ("randread", "1"): ("random swap-in, 1 thread", 1.05),
             ("randread", "8"): ("random swap-in, 8 threads", 1.05),
             ("randwrite", "1"): ("random write, 1 thread", None)}
    lines = {k: Row(t, "µs", g) for k, (t, g) in names.items()}
    worker = [args.build / "tests/bench/bench-worker", "--mib", args.mib, "--ops", args.ops,
              "--content", "whole", "--last-part", 64]

    def run(where, seed):
        sides.warm(args.mib // 4 * MIB)
        out, _ = sides.run([store.cli, "run", "--limit", f"{args.mib // 4}M", *where, "--",
                            *worker, "--seed", seed])
        got = (line.split() for line in out.splitlines())
        return {(w[1], w[2]): float(w[3]) for w in got if w[0] == "row"}

    with store.mounted() as mnt:
        for r in range(args.rounds):
            say(f"swap, round {r + 1} of {args.rounds}")
            ours, private = in_turn(r, lambda: run(["--store", mnt], r + 1),
                                    lambda: run(["--swap-dir", work], r + 1))
            for k, row in lines.items():
                row.add(ours[k], private[k])
    rows += lines.values()


# --- mem ---

def dd(source, mib, *flags):
    """MiB a second."""
    start = time.monotonic()
    with open(os.devnull, "wb") as null:
        p = subprocess.run(["dd", f"if={source}", "bs=1M", f"count={mib}M", *flags], stdout=null,
                           stderr=subprocess.PIPE, text=True, check=False)
    if p.returncode or f"{mib * MIB} bytes" not in p.stderr:
        raise sides.Failed(f"dd: {p.stderr.strip()}")
    return mib / (time.monotonic() - start)


def measure_mem(args, work, store, rows):
    row = Row(f"mem of a process, {args.mem_mib} MiB, mostly swapped, against dd of the area",
              "MiB/s", 0.5, rate=True)
    with store.mounted() as mnt, subprocess.Popen(
            [store.cli, "run", "--store", mnt, "--limit", "32M", "--",
             args.build / "tests/store/pages", str(args.mem_mib), "1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        try:
            if p.stdout.readline() != "ready\n":
                raise sides.Failed("the program did not start")
            proc = mnt / "proc" / str(p.pid)
            regions = [[int(x, 16) for x in line.split()[0].split("-")]
                       for line in (proc / "maps").read_text().splitlines()]
            start, _ = max(regions, key=lambda x: x[1] - x[0])
            swapped = int(re.search(r"^swapped: (\d+)", (proc / "status").read_text(),
                                    re.M).group(1))
            say(f"mem: {swapped >> 8} of {args.mem_mib} MiB are swapped")
            for r in range(args.rounds):
                say(f"mem, round {r + 1} of {args.rounds}")
                row.add(*in_turn(
                    r, lambda: dd(proc / "mem", args.mem_mib,
                                  "iflag=skip_bytes,count_bytes", f"skip={start}"),
                    lambda: dd(store.dir / "swap/disk0", args.mem_mib,
                               "iflag=direct,count_bytes")))
        finally:
            p.kill()
    rows.append(row)


# --- attaching ---

def measure_attach(args, work, store, rows):
    row = Row("fl_open with a store, against a private area", "ms", None)
    with store.mounted() as mnt:
        say("attach")
        out, _ = sides.run([args.build / "tests/bench/bench-attach", "time", mnt, args.attaches])
    for a, b in (map(float, line.split()) for line in out.splitlines()):
        row.add(a / 1e3, b / 1e3)
    rows.append(row)
    whole = Row("the same, by itself", "ms", 2)
    whole.ours = row.ours
    rows.append(whole)


@contextlib.contextmanager
def crowd(args, mnt, n):
    with subprocess.Popen([args.build / "tests/bench/bench-attach", "hold", mnt, str(n)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        try:
            if p.stdout.readline() != "ready\n":
                raise sides.Failed("the others did not start")
            yield
        finally:
            p.stdin.close()
            p.wait()


WATCHED_PAGES = 4  # of mem, of each region at a time


def look_at(proc, turn):
    """All that is told of a process, and some of its pages: others each time."""
    (proc / "status").read_bytes()
    for name in (proc / "pages").iterdir():
        name.read_bytes()
    with open(proc / "mem", "rb", buffering=0) as mem, \
            open(proc / "pagemap", "rb", buffering=0) as pagemap:
        for line in (proc / "maps").read_text().splitlines():
            start, end = (int(x, 16) // 4096 for x in line.split()[0].split("-"))
            at = start * 8
            while at < end * 8:
                entries = os.pread(pagemap.fileno(), min(end * 8 - at, MIB), at)
                if not entries:
                    raise OSError(f"{proc}: pagemap ends at {at}")
                at += len(entries)
            page = start + turn * 7919 % (end - start)
            with contextlib.suppress(OSError):  # one that is between two places for a second
                os.pread(mem.fileno(), min(WATCHED_PAGES, end - page) * 4096, page * 4096)


@contextlib.contextmanager
def watching(mnt):
    """Look at every process ten times a second."""
    end = threading.Event()
    looks = 0

    def watch():
        nonlocal looks
        while not end.wait(0.1):
            for proc in (mnt / "proc").iterdir():
                with contextlib.suppress(OSError):
                    look_at(proc, looks)
                    looks += 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
    if not looks:
        raise sides.Failed("nothing was looked at")


def measure_beside(args, store, rows, what, others):
    """One process with something beside it, against alone."""
    lines = {k: Row(f"random {t} of one, {what} against alone", "µs", 1.05)
             for k, t in ((("randread", "1"), "swap-in"), (("randwrite", "1"), "write"))}
    mib = min(args.mib, 512)

    def run(mnt, seed):
        out, _ = sides.run([store.cli, "run", "--limit", f"{mib // 4}M", "--store", mnt, "--",
                            args.build / "tests/bench/bench-worker", "--mib", mib, "--ops",
                            args.ops, "--content", "whole", "--last-part", 64, "--seed", seed])
        got = (line.split() for line in out.splitlines())
        return {(w[1], w[2]): float(w[3]) for w in got if w[0] == "row"}

    def beside(mnt, seed):
        with others(mnt):
            return run(mnt, seed)

    with store.mounted() as mnt:
        for r in range(args.rounds):
            say(f"{what}, round {r + 1} of {args.rounds}")
            more, alone = in_turn(r, lambda: beside(mnt, r + 1), lambda: run(mnt, r + 1))
            for k, row in lines.items():
                row.add(more[k], alone[k])
    rows += lines.values()


def measure_crowd(args, work, store, rows):
    measure_beside(args, store, rows, f"with {args.others} others attached",
                   lambda mnt: crowd(args, mnt, args.others))


def measure_watched(args, work, store, rows):
    measure_beside(args, store, rows, "looked at ten times a second", watching)


# --- files ---

class Passthrough:
    """libfuse's example, of the store's files."""

    def __init__(self, args, work, store):
        self.program, self.mnt, self.files = work / "passthrough_ll", work / "pass", store.dir / "files"
        self.mnt.mkdir()
        source = EXAMPLES / "passthrough_ll.c"
        text = (sides.read(source) or "") if source.exists() else ""
        if not text:
            raise sides.NotMeasured(f"{source} is not here")
        for name in ("passthrough_ll.c", "passthrough_helpers.h"):
            shutil.copy(EXAMPLES / name, work / name)
        flags = sides.call("pkg-config", "--cflags", "--libs", "fuse3").split()
        sides.call(os.environ.get("CC", "cc"), "-O2", "-w", str(work / "passthrough_ll.c"), "-o",
                   str(self.program), *flags)

    @contextlib.contextmanager
    def mounted(self, options):
        p = subprocess.Popen([self.program, "-f", "-o", f"source={self.files},{options}", self.mnt],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            while not os.path.ismount(self.mnt):
                if p.poll() is not None:
                    raise sides.Failed(f"passthrough_ll: exit {p.returncode}")
                time.sleep(0.01)
            yield self.mnt
        finally:
            sides.call("umount", "--lazy", str(self.mnt))
            p.wait()


def fio(path, mib, seconds, *options):
    """MiB a second."""
    out, _ = sides.run(["fio", "--name=job", f"--filename={path}", f"--size={mib}m",
                        "--ioengine=io_uring", "--time_based", f"--runtime={seconds}",
                        "--randrepeat=0", "--invalidate=0", "--output-format=json", *options])
    return json.loads(out[out.index("{"):])["jobs"][0]["read"]["bw_bytes"] / MIB


def measure_files(args, work, store, rows):
    if not shutil.which("fio"):
        raise sides.NotMeasured("fio is not here")
    other = Passthrough(args, work, store)
    path = store.dir / "files/data"
    with open(path, "wb") as f:
        for _ in range(args.file_mib):
            f.write(os.urandom(MIB))
    random = ("--rw=randread", "--bs=4k", "--iodepth=32")
    order = ("--rw=read", "--bs=1m", "--iodepth=4")
    # title, fio's options, ours, theirs, whether the host has it cached, goal
    lines = [
        ("4 KiB random reads, depth 32, cached by the host", (*random, "--direct=1"), "direct",
         "cache=never", True, 0.8),
        ("4 KiB random reads, depth 32, from the disk", (*random, "--direct=1"), "cached",
         "cache=auto", False, 0.8),
        ("1 MiB sequential reads, cached by the host", (*order, "--direct=1"), "direct",
         "cache=never", True, 0.9),
        ("1 MiB sequential reads, from the disk", (*order, "--direct=1"), "cached", "cache=auto",
         False, 0.9),
        ("1 MiB sequential reads through the kernel's cache, from the disk",
         (*order, "--direct=0"), "cached", "cache=auto", False, 0.9),
    ]
    for title, how, ours, theirs, cached, goal in lines:
        row = Row(title + ", against passthrough_ll", "MiB/s", goal, rate=True)

        def run(mounted, options):
            with mounted(options) as mnt:
                drop_caches()
                if cached:
                    sides.run(["dd", f"if={path}", "of=/dev/null", "bs=1M"])
                return fio(mnt / "data" if mounted == other.mounted else mnt / "files/data",
                           args.file_mib, args.seconds, *how)

        for r in range(args.rounds):
            say(f"{title}, round {r + 1} of {args.rounds}")
            row.add(*in_turn(r, lambda: run(store.mounted, ours),
                             lambda: run(other.mounted, theirs)))
        rows.append(row)
    path.unlink()


def write_csv(path, rows):
    """Every single value, in the columns of bench.py."""
    with open(path, "w", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["part", "row", "threads", "side", "round", "value", "unit"])
        for row in rows:
            for side, values in (("store", row.ours), ("beside", row.base)):
                for n, v in enumerate(values, 1):
                    out.writerow([row.part, row.title, "", side, n, f"{v:.6g}", row.unit])


def write_charts(directory, rows, small):
    """A chart for each unit."""
    directory.mkdir(parents=True, exist_ok=True)
    for unit in dict.fromkeys(row.unit for row in rows):
        shown = [(row.title, {side: (statistics.median(v), min(v), max(v))
                              for side, v in (("store", row.ours), ("beside", row.base)) if v})
                 for row in rows if row.unit == unit]
        rate = any(row.rate for row in rows if row.unit == unit)
        chart = svg.chart("a store", unit, shown, [("store", "store"), ("beside", "beside")], small,
                          better="longer" if rate else "shorter")
        if chart:
            name = {"µs": "us", "MiB/s": "rate"}.get(unit, unit)
            (directory / f"store-{name}.svg").write_text(chart, encoding="utf-8")


def arguments():
    p = argparse.ArgumentParser(description="Measure what a store costs.")
    p.add_argument("--build", type=pathlib.Path, default=pathlib.Path("."), help="build tree")
    p.add_argument("--work-dir", default="/var/tmp", help="where the store lies")
    p.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--mib", type=int, default=1024, help="memory of the program that swaps")
    p.add_argument("--mem-mib", type=int, default=1024, help="memory that is read from outside")
    p.add_argument("--file-mib", type=int, default=1024, help="size of the file that is read")
    p.add_argument("--ops", type=int, default=32768, help="random operations")
    p.add_argument("--seconds", type=int, default=5, help="of each run of fio")
    p.add_argument("--attaches", type=int, default=300)
    p.add_argument("--others", type=int, default=199, help="that are attached, too")
    p.add_argument("--csv", help="write every single value to this file")
    p.add_argument("--svg", type=pathlib.Path, help="write charts to this directory")
    p.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    a = p.parse_args()
    a.build = a.build.resolve()
    a.parts = a.parts.split(",")
    for name in a.parts:
        if name not in PARTS:
            p.error(f"'{name}' is none of {', '.join(PARTS)}")
    return a


def main():
    args = arguments()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda n, _: sys.exit(128 + n))
    rows, notes, failed, text = [], [], False, []
    try:
        with sides.work_dir(args.work_dir, say) as work:
            text = device.machine(work)
            store = Store(args, work)
            for part in args.parts:
                begun = len(rows)
                try:
                    globals()[f"measure_{part}"](args, work, store, rows)
                except sides.NotMeasured as e:
                    notes.append(f"{part}: NOT MEASURED: {e}")
                except sides.Failed as e:
                    notes.append(f"{part}: FAILED: {e}")
                    failed = True
                finally:
                    for row in rows[begun:]:
                        row.part = part
            text += [f"load after it: {sides.read('/proc/loadavg').split()[0]}"]
    except (KeyboardInterrupt, SystemExit):
        notes.append("ENDED before everything was measured")
        failed = True
    except (sides.NotMeasured, sides.Failed, OSError) as e:
        print(f"faultline: bench: {e}", file=sys.stderr)
        return 1
    table = bench.layout([["", "store", "beside", "ratio", "goal"], *[r.cells() for r in rows]])
    print("\n".join([*text, "", *table, *([""] if notes else []), *notes]))
    if args.csv:
        write_csv(args.csv, rows)
    if args.svg:
        write_charts(args.svg, rows, text)
    return 1 if failed or (args.check and any(r.missed() for r in rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
