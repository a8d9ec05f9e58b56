#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One table: what paging costs natively, by kernel swap and by faultline.

The sides take turns within each round, in another order in each (sides.in_turn),
so that a machine whose speed drifts drifts for all of them.  A cell is
the median over the rounds and half the distance from the least to the
greatest, in per cent of it.  A ratio is the same of the rounds' ratios: both of
its sides are from the same round.  So is a difference, but for the per cent.

A side or a program that cannot run here is named with the reason; one that
crashes or is wrong makes the exit status 1, as does, with --check, a goal that is
missed, or that a side could not be measured for.
"""

import argparse
import copy
import csv
import hashlib
import json
import math
import os
import pathlib
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True

import device  # noqa: E402
import files  # noqa: E402
import micro  # noqa: E402
import paged  # noqa: E402
import pause  # noqa: E402
import programs  # noqa: E402
import sides  # noqa: E402
import svg  # noqa: E402
import unarmed  # noqa: E402

MIB = sides.MIB

WORKS = [
    (("fill", 1), "fill"),
    (("seqread", 1), "sequential re-read"),
    (("randread", 1), "random read, 1 thread"),
    (("randread", 2), "random read, 2 threads"),
    (("randread", 8), "random read, 8 threads"),
    (("randwrite", 1), "random write, 1 thread"),
    (("randwrite", 2), "random write, 2 threads"),
    (("randwrite", 8), "random write, 8 threads"),
    (("reread", 1), "sequential, after the writes"),
]
PATTERNS = [
    (("stride", 1), "each 16th page, read"),
    (("stridewrite", 1), "each 16th page, write"),
    (("zipfread", 1), "zipf 0.99 read, 1 thread"),
    (("zipfread", 8), "zipf 0.99 read, 8 threads"),
    (("zipfwrite", 1), "zipf 0.99 write, 1 thread"),
    (("zipfwrite", 8), "zipf 0.99 write, 8 threads"),
]
THREADS = [
    (("randread", 4), "random read, 4 threads"),
    (("randread", 16), "random read, 16 threads"),
    (("randwrite", 4), "random write, 4 threads"),
    (("randwrite", 16), "random write, 16 threads"),
    *[((f"zipf{what}", n), f"zipf 0.99 {what}, {n} threads")
      for what in ("read", "write") for n in (2, 4, 16)],
]


def by_threads(works):
    return [((work, n), f"{title}, {n} thread{'s' * (n > 1)}")
            for work, title in works for n in (1, 2, 4, 8, 16)]


SEQUENTIAL = by_threads((("fill", "fill"), ("seqread", "sequential read"),
                         ("seqwrite", "sequential write")))
STRIDED = by_threads((("stride", "each 16th page, read"), ("stridewrite", "each 16th page, write")))
PERCENTS = (75, 50, 25, 10)
LIMIT_WORKS = [("fill", "fill"), ("seqread", "sequential read"), ("randread", "random read"),
               ("randwrite", "random write"), ("zipfread", "zipf 0.99 read"),
               ("zipfwrite", "zipf 0.99 write"), ("seqwrite", "sequential write"),
               ("stride", "each 16th page, read"), ("stridewrite", "each 16th page, write")]
LIMITS = [((f"{work}@{percent}", 1), f"{title}, limit {percent} %")
          for percent in PERCENTS for work, title in LIMIT_WORKS]

# Half the memory by few threads, and twice the memory, its pages far apart, by many.
SPREAD = 16
WIDE = [((f"{work}@{name}", n), f"{title}, {n} threads, {name}")
        for work, title in (("randread", "random read"), ("randwrite", "random write"))
        for name, n in (("near", 4), ("wide", 16))]
WIDE_GOAL = 1.0  # near being 1

# The most that faultline may take, kernel swap on a file being 1.
GOALS = {
    ("fill", 1): 1 / 1.5,
    ("seqread", 1): 1 / 5,
    ("randread", 1): 1.00,
    ("randread", 8): 0.95,
    ("randwrite", 1): 0.90,
    ("randwrite", 8): 0.90,
    **{(f"zipf{what}", n): 0.80 for what in ("read", "write") for n in (1, 8)},
}
# What the API takes beside the device is of each of these: a work, what the worker counts of it.
DEVICE_PER = [
    ("seqread", "reads", " a page read"),
    ("randread", "misses", " a miss"),
]
# The most that the API may take of each, the device by itself being 1.
DEVICE_GOALS = {
    ("seqread", 1): 1 / 0.8,
    ("randread", 8): 1 / 0.9,
}
# Microseconds that it may take more than the device, polled, as pagers do.
OVERHEAD_GOALS = {("randread", 1): 12}
PAGED_GOAL = 1.0  # kernel swap on a file being 1
PAGED_FAST, PAGED_FAST_PART = 1.3, 0.5  # times as fast as that; as many of the programs
# Nanoseconds that a fault may take, by row and place.
MICRO_GOALS = {("anon", "same"): 10000, ("zero", "same"): 10000,
               ("anon", "in-thread"): 6000, ("zero", "in-thread"): 6000}
# The most that compressed pages may take, kernel swap on zram being 1.
ZRAM_GOALS = {
    ("seqread", 1): 0.6,
    ("randread", 1): 1.0,
    ("randwrite", 1): 0.9,
}
PROGRAM_GOAL = 1.02  # native being 1
PROGRAM_LIMIT = 2048 * MIB
PARTS = ["memory", "patterns", "threads", "sequential", "strided", "wide", "limits", "files",
         *paged.NAMES, "micro", "pause", "programs", "unarmed", "disk"]
# Those whose sides are the ones of --sides, with what the worker does in them.
MEMORY_PARTS = {"memory": WORKS, "patterns": PATTERNS, "threads": THREADS,
                "sequential": SEQUENTIAL, "strided": STRIDED, "wide": WIDE, "limits": LIMITS}
# What kept values depend on: files of the build (some are libtool's scripts), of ours, and options.
BUILT = ("src/cli/faultline", "src/cli/.libs/faultline", "lib/.libs/libfaultline.so",
         "src/preload/.libs/libfaultline-preload.so", "tests/bench/bench-*")
SCRIPTS = pathlib.Path(__file__).resolve().parent
OF_VALUES = ("mib", "limit_mib", "ops", "content", "sides", "quick", "rounds", "program_rounds",
             "engine", "wp", "pagers")
PAGED_BY_US = (sides.Api, sides.Run)
SIDES = (*sides.ALL, device.Device)
STARTUP_GOAL = 0.005  # seconds more
BOOKKEEPING_GOAL = 16  # bytes a touched page
RESERVE = "a 1 TiB region that is not touched"
RESERVE_GOAL = 1000  # microseconds until it is mapped
# What a side used in its whole run.
USED = [(("peak", "MiB"), "peak memory, MiB"), (("CPU", "s"), "CPU time, s")]
USED_UNITS = {"need": "MiB", "peak": "MiB", "CPU": "CPU s"}


class Setup:
    """What every side needs to know."""

    def __init__(self, args, work):
        self.work = work
        self.build = args.build
        self.size, self.limit = args.mib * MIB, args.limit_mib * MIB
        self.ops, self.content, self.last_part = args.ops, args.content, args.last_part
        self.file_ops = args.file_ops
        self.engine, self.wp, self.pagers = args.engine, args.wp, args.pagers
        self.works = None  # of the worker
        self.device_seconds = args.device_seconds
        self.spread = 1  # pages from one page to the next

    def doing(self, rows):
        """The same, with the worker doing what rows are about."""
        s = copy.copy(self)
        s.works = ",".join(["fill", *(f"{w}:{n}" for (w, n), _ in rows if (w, n) != ("fill", 1))])
        return s

    def program(self, name):
        return self.build / "tests/bench" / name

    def faultline_run(self, limit, *options):
        pagers = ["--pagers", self.pagers] if self.pagers else []
        return [self.build / "src/cli/faultline", "run", "--limit", f"{limit // MIB}M",
                "--swap-dir", self.work, "--engine", self.engine, "--wp", self.wp, *pagers,
                *options, "--"]


class Results:
    """Values by (row, side, round), and who could not be measured."""

    def __init__(self):
        self.values, self.why, self.failed = {}, {}, {}
        self.lines = []  # to be said below the table

    def saved(self):
        return {"values": [[row, side, list(values.items())]
                           for (row, side), values in self.values.items()],
                "why": self.why, "failed": self.failed, "lines": self.lines}

    @staticmethod
    def loaded(saved):
        r = Results()
        for row, side, values in saved["values"]:
            r.values[tuple(row) if isinstance(row, list) else row, side] = dict(map(tuple, values))
        r.why, r.failed, r.lines = saved["why"], saved["failed"], saved["lines"]
        return r

    def spread(self, row, side):
        """(median, least, greatest), or None."""
        v = self.of(row, side).values()
        return (statistics.median(v), min(v), max(v)) if v else None

    def add(self, row, side, round_, value):
        self.values.setdefault((row, side), {})[round_] = value

    def of(self, row, side):
        return self.values.get((row, side), {})

    def ratios(self, row, side, base, base_row=None):
        """One of each round that has both."""
        a, b = self.of(row, side), self.of(base_row or row, base)
        return [a[r] / b[r] for r in a if r in b]


STARTED = time.monotonic()


def say(text):
    print(f"bench: {time.monotonic() - STARTED:4.0f} s: {text}", file=sys.stderr, flush=True)


class Rounds:
    """The numbers of the rounds, as long as there is time for one more."""

    def __init__(self, rounds, most):
        self.rounds, self.most = rounds, most

    def __call__(self):
        start, longest = time.monotonic(), 0
        for r in range(self.rounds):
            begun = time.monotonic()
            if r and self.most and begun - start + longest > self.most:
                say(f"no time for round {r + 1} of {self.rounds}")
                return
            yield r
            longest = max(longest, time.monotonic() - begun)


def number(value):
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def cell(values):
    if not values:
        return "-"
    v = list(values.values())
    middle = statistics.median(v)
    if len(v) == 1 or not middle:
        return number(middle)
    return f"{number(middle)} ±{half(v) / middle * 100:.0f}%"


def half(values):
    return (max(values) - min(values)) / 2


def times(ratios, digits=2, what=""):
    """The text of the rounds' ratios."""
    if not ratios:
        return "-"
    middle = statistics.median(ratios)
    spread = f" ±{half(ratios) / middle * 100:.0f}%" if len(ratios) > 1 else ""
    return f"{middle:.{digits}f}{spread}{what}"


def more(differences, digits, unit):
    """The text of the rounds' differences."""
    if not differences:
        return "-"
    spread = f" ±{half(differences):.{digits}f}" if len(differences) > 1 else ""
    return f"{statistics.median(differences):+.{digits}f}{spread} {unit}"


def layout(rows):
    """Rows of text as aligned columns: the first to the left, the others to the right."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    out = []
    for n, r in enumerate(rows):
        out.append("  ".join(c.rjust(w) if i else c.ljust(w)
                             for i, (c, w) in enumerate(zip(r, widths))).rstrip())
        if not n:
            out.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    return out


def able_sides(setup, wanted, results):
    able = []
    for kind in wanted:
        side = kind(setup)
        try:
            side.prepare()
            able.append(side)
        except sides.NotMeasured as e:
            results.why[side.key] = str(e)
            say(f"{side.title}: not measured: {e}")
        except sides.Failed as e:
            results.failed[side.key] = str(e)
            say(f"{side.title}: FAILED: {e}")
    return able


def measure_sides(setup, wanted, rounds, results, suffix=""):
    """Rounds of what wanted measure; suffix: behind the names of rows."""
    able = able_sides(setup, wanted, results)
    for r in rounds():
        for side in sides.in_turn(able, r):
            if side.key in results.failed:
                continue
            say(f"round {r + 1}{suffix}: {side.title}")
            os.sync()  # what one side has to write is not the next one's burden
            try:
                out, used = side.measure(r + 1)
            except (sides.Failed, sides.NotMeasured) as e:
                results.failed[side.key] = str(e)
                say(f"{side.title}: FAILED: {e}")
                continue
            for line in map(str.split, out.splitlines()):
                if line[0] == "row":
                    results.add((line[1] + suffix, int(line[2])), side.key, r, float(line[3]))
                elif line[0] in ("misses", "reads"):
                    results.add((f"{line[0]} of {line[1]}{suffix}", int(line[2])), side.key, r,
                                float(line[3]))
                elif line[0] == "stat" and not suffix:
                    results.add(("stat", line[1]), side.key, r, float(line[2]))
            # of a store's side it would be without the server's
            if used and not suffix and not isinstance(side, files.Stored):
                results.add(("CPU", "s"), side.key, r, used.cpu)
            if used and used.peak and not suffix:
                results.add(("peak", "MiB"), side.key, r, used.peak / MIB)
    for side in able:
        side.end()


def measure_limits(setup, wanted, rounds, results):
    """All percentages in one round: a part of the time for each."""
    works = setup.doing([((w, 1), "") for w, _ in LIMIT_WORKS])
    each = Rounds(rounds.rounds, rounds.most / len(PERCENTS) if rounds.most else 0)
    for percent in PERCENTS:
        works.limit = max(setup.size * percent // 100, 2 * MIB) // MIB * MIB
        measure_sides(works, wanted, each, results, f"@{percent}")


def measure_sequential(setup, wanted, rounds, results):
    """In half the memory: it is gone through fifteen times."""
    works = setup.doing(SEQUENTIAL)
    works.size, works.limit = setup.size // 2, max(setup.limit // 2 // MIB, 2) * MIB
    measure_sides(works, wanted, rounds, results)


def measure_wide(setup, wanted, rounds, results):
    """As much of it missing, with 64 times as much mapped and 4 times the threads."""
    for suffix, n, size, limit, spread in (
            ("@near", 4, setup.size // 2, setup.limit // 2, 1),
            ("@wide", 16, setup.size * 2, setup.limit * 2, SPREAD)):
        works = setup.doing([((w, n), "") for w in ("randread", "randwrite")])
        works.size, works.limit, works.spread = size, limit // MIB * MIB, spread
        measure_sides(works, wanted, rounds, results, suffix)


def wide_lines(results, wanted):
    """(lines, missed goals)."""
    lines, missed = [], 0
    for work in ("randread", "randwrite"):
        for side in wanted:
            ratios = results.ratios((f"{work}@wide", 16), side.key, side.key, (f"{work}@near", 4))
            text, miss = goal_text([ratios], WIDE_GOAL if side in PAGED_BY_US else None)
            missed += miss
            if ratios or miss:
                lines.append(f"{work}, wide ÷ near, {side.title}: {times(ratios)} {text}".rstrip())
    return lines, missed


def verdict(known, missed):
    return "" if not known else " missed" if missed else " met"


def judge(several, goal, asked=True):
    """(verdict, is it missed?): of a goal that each of several lists has to meet by its median.
    One that was asked for and is without values is not met."""
    known = [statistics.median(x) for x in several if x]
    if any(x > goal for x in known):
        return " missed", True
    if asked and len(known) < len(several):
        return " not measured", True
    return verdict(known, False), False


def goal_text(several, goal, asked=True):
    """(text, is it missed?): of a goal that each of several lists of ratios has to meet."""
    if goal is None:
        return "", False
    text, missed = judge(several, goal, asked)
    return f"≤ {goal:.2f}{text}", missed


def beside_device(results, row):
    """(what the API takes beside the device, the goal, is it missed?)."""
    (work, threads), device_ = row, results.of(row, "device")
    took, each = results.of(row, "api"), ""
    for of, counted, what in DEVICE_PER:
        if work == of:
            count, each = results.of((f"{counted} of {work}", threads), "api"), what
            took = {r: t / count[r] for r, t in took.items() if count.get(r)}
    if row in OVERHEAD_GOALS:
        device_ = results.of((f"{work}-polled", threads), "device")
        extra = [took[r] - device_[r] for r in took if r in device_]
        text, missed = judge([extra], OVERHEAD_GOALS[row])
        return more(extra, 1, f"µs{each}"), f"≤ +{OVERHEAD_GOALS[row]} µs{text}", missed
    ratios = [took[r] / device_[r] for r in took if r in device_]
    return times(ratios, what=each), *goal_text([ratios], DEVICE_GOALS.get(row))


def memory_table(results, wanted, works):
    ours = [k for k in wanted if k in PAGED_BY_US]
    both = [k for k in wanted if k is sides.Both]
    rows = [["µs an operation", *[k.title for k in wanted],
             *[f"{k.key} ÷ file" for k in (*ours, *both)], "goal"]]
    packed = ([k for k in wanted if k in (sides.Compressed, sides.NoSwap)]
              if sides.KernelZram in wanted else [])
    rows[0] += [*[f"{k.key} ÷ zram" for k in packed], "goal"] if packed else []
    direct = sides.Api in wanted and device.Device in wanted
    rows[0] += ["api beside device", "goal"] if direct else []
    missed = 0
    for row, title in works:
        ratios = [results.ratios(row, k.key, "file") for k in ours]
        goal, miss = goal_text(ratios, GOALS.get(row), sides.KernelFile in wanted)
        missed += miss
        rows.append([title, *[cell(results.of(row, k.key)) for k in wanted],
                     *[times(x) for x in ratios],
                     *[times(results.ratios(row, k.key, "file")) for k in both], goal])
        if packed:
            ratios = [results.ratios(row, k.key, "zram") for k in packed]
            goal, miss = goal_text(ratios, ZRAM_GOALS.get(row))
            missed += miss
            rows[-1] += [*[times(x) for x in ratios], goal]
        if direct:
            *texts, miss = beside_device(results, row)
            missed += miss
            rows[-1] += texts
    polled = [((f"{w}-polled", n), f"{title}, polled") for (w, n), title in works
              if results.of((f"{w}-polled", n), "device")]
    for row, title in polled:
        rows.append([title, *[cell(results.of(row, k.key)) for k in wanted],
                     *[""] * (len(rows[0]) - 1 - len(wanted))])
    if works not in (LIMITS, WIDE):
        rows += [[title, *[cell(results.of(row, k.key)) for k in wanted],
                  *[""] * (len(rows[0]) - 1 - len(wanted))] for row, title in USED]
    return layout(rows), missed


def files_table(results, keys, one_copy):
    """keys: of the sides that were asked for."""
    titles = files.titles(results)
    rows = [["µs a page", *titles.values(), "goal"]]
    missed = 0
    for row, title in files.ROWS:
        goals = []
        for what, side, base_row, base, most in files.GOALS:
            if what != row:
                continue
            ratios = results.ratios(row, side, base, base_row)
            text, miss = goal_text([ratios], most, {side, base} <= keys)
            missed += miss
            name = base if base_row == row else "of threads"
            goals.append(f"{times(ratios)} {name} {text}")
        rows.append([title, *[cell(results.of(row, k)) for k in titles], ", ".join(goals)])
    copies = [v / one_copy for v in results.of(("peak", "MiB"), "store").values()]
    text, miss = goal_text([copies], files.MEMORY_GOAL, files.Stored.key in keys)
    text = f"{times(copies)} of one copy {text}" if copies or miss else ""
    rows.append(["peak memory, MiB", *[cell(results.of(("peak", "MiB"), k)) for k in titles], text])
    rows.append(["CPU time, s", *[cell(results.of(("CPU", "s"), k)) for k in titles], ""])
    return layout(rows), missed + miss


def paged_table(results, keys, titles):
    """keys: of the sides that were asked for."""
    asked = {"run", "file"} <= set(keys)
    shown = {k: t for k, t in paged.SIDES.items()
             if k in ("native", "file", "run") or any(results.of(t_, k) for t_ in titles)}
    more_ = [(k, b) for k, b in (("both", "file"), ("noswap", "zram")) if {k, b} <= set(shown)]
    rows = [["programs with a quarter of their need", "need, MiB", *shown.values(), "run ÷ file",
             "goal", *[f"{k} ÷ {b}" for k, b in more_]]]
    missed = 0
    for title in titles:
        ratios = results.ratios(title, "run", "file")
        goal, miss = goal_text([ratios], PAGED_GOAL, asked)
        missed += miss
        rows.append([title + ", s", cell(results.of((title, "need"), "native")),
                     *[cell(results.of(title, k)) for k in shown], times(ratios), goal,
                     *[times(results.ratios(title, k, b)) for k, b in more_]])
    # one that was not measured is not fast
    told = {t: statistics.median(x) for t in titles if (x := results.ratios(t, "run", "file"))}
    fast = sum(x <= 1 / PAGED_FAST for x in told.values())
    wanted = math.ceil(len(titles) * PAGED_FAST_PART)
    goal, miss = [], False
    if asked or told:
        miss = fast < wanted
        goal = [f"{fast} of {len(titles)} programs at least {PAGED_FAST} times as fast as kernel "
                f"swap on a file (goal: ≥ {wanted}{verdict(True, miss)})", ""]
    used = [["of the whole run", *shown.values()]]
    for (what, _), head in USED:
        used += [[f"{title}: {head}", *[cell(results.of((title, what), k)) for k in shown]]
                 for title in titles]
    return [*layout(rows), "", *goal, *layout(used)], missed + miss


def micro_table(results, head, names, columns):
    rows, missed = [[head, *columns.values(), "goal"]], 0
    for row, title in names.items():
        goals = {c: MICRO_GOALS[row, c] for c in columns if (row, c) in MICRO_GOALS}
        judged = {c: judge([results.of(row, c).values()], goals[c]) for c in goals}
        missed += sum(miss for _, miss in judged.values())
        rows.append([title, *[cell(results.of(row, c)) for c in columns],
                     ", ".join(f"{c} ≤ {goals[c]}{text}" for c, (text, _) in judged.items())])
    return layout(rows), missed


def pause_table(results):
    rows = [["ms", *pause.SIDES.values(), "snapshot ÷ fork", "first ÷ fork", "goal"]]
    missed = 0
    for row, (title, _) in pause.ROWS.items():
        ratios = [results.ratios(row, side, "fork") for side in ("snapshot", "first")]
        text, miss = goal_text(ratios, pause.GOALS.get(row.partition("-")[0]))
        missed += miss
        rows.append([title, *[cell(results.of(row, side)) for side in pause.SIDES],
                     *map(times, ratios), text])
    return layout(rows), missed


def notes(results, titles):
    lines = [f"{titles[k]}: NOT MEASURED: {why}" for k, why in results.why.items()]
    lines += [f"{titles[k]}: FAILED: {why}" for k, why in results.failed.items()]
    return lines


def measure_reserve(setup, results):
    try:
        out, _ = sides.run(sides.Api(setup).command("--reserve-gib", 1024))
    except sides.Failed as e:
        results.failed[RESERVE] = str(e)
        say(f"{RESERVE}: FAILED: {e}")
        return
    told = {tuple(f[:2]): float(f[-1]) for f in map(str.split, out.splitlines())}
    results.add(("reserve", "us a call"), "api", 0, told["row", "reserve"])
    results.add(("reserve", "bytes"), "api", 0, told["stat", "bookkeeping"])


def bookkeeping_lines(mib, results):
    """(lines, missed goals): what the runtime says of its own memory."""
    used = [v / (mib * MIB // 4096) for v in results.of(("stat", "bookkeeping"), "api").values()]
    took = results.of(("reserve", "us a call"), "api").values()
    touched, miss = judge([used], BOOKKEEPING_GOAL)
    reserved, miss_too = judge([took], RESERVE_GOAL)
    lines = [f"bookkeeping: {times(used, 1)} bytes a touched page (goal: ≤ {BOOKKEEPING_GOAL}"
             f"{touched})",
             f"{RESERVE}: mapped in {times(took, 0)} µs (goal: < {RESERVE_GOAL}{reserved}), "
             f"{cell(results.of(('reserve', 'bytes'), 'api'))} bytes of bookkeeping"]
    return lines, miss + miss_too


def measure_programs(setup, todo, rounds, results):
    able = []
    prefixes = {"native": [], "run": setup.faultline_run(PROGRAM_LIMIT)}
    try:
        sides.run([*prefixes["run"], setup.program("bench-empty")])
    except sides.Failed as e:
        (results.why if e.refused else results.failed)["run"] = str(e)
        say(f"faultline run: {'not measured' if e.refused else 'FAILED'}: {e}")
        del prefixes["run"]
    for p in todo:
        try:
            p.prepare()
            able.append(p)
        except sides.NotMeasured as e:
            results.why[p.title] = str(e)
    for p in able:
        say(f"{p.title}, {rounds.rounds} rounds")
        each = Rounds(rounds.rounds, rounds.most / len(able) if rounds.most else 0)
        try:
            p.seconds([])  # warms up
            for r in each():
                for side in sides.in_turn(list(prefixes), r):
                    os.sync()  # what one side has to write is not the next one's burden
                    results.add(p.title, side, r, p.seconds(prefixes[side]))
        except sides.Failed as e:
            results.failed[p.title] = str(e)
            say(f"{p.title}: FAILED: {e}")


def programs_table(results, todo):
    rows = [["programs that fit the limit", "native", "faultline run", "ratio", "goal"]]
    missed = 0
    for p in todo:
        native, run = results.of(p.title, "native"), results.of(p.title, "run")
        if isinstance(p, programs.Empty):
            extra = [run[r] - native[r] for r in run if r in native]
            text, miss = judge([extra], STARTUP_GOAL)
            goal = f"≤ +{STARTUP_GOAL * 1e3:.0f} ms{text}"
            shown = [cell({r: v * 1e3 for r, v in x.items()}) for x in (native, run)]
            rows.append([p.title + ", ms", *shown,
                         more([x * 1e3 for x in extra], 2, "ms"), goal])
        else:
            ratios = results.ratios(p.title, "run", "native")
            goal, miss = goal_text([ratios], PROGRAM_GOAL)
            rows.append([p.title + ", s", cell(native), cell(run), times(ratios, 3), goal])
        missed += miss
    return layout(rows), missed


def measure_unarmed(setup, before, rounds, runs, count, results):
    libraries = {"native": None, "run": setup.build / "src/preload/.libs/libfaultline-preload.so"}
    if before:
        libraries["before"] = before
    say(f"unarmed, {rounds.rounds} rounds")
    try:
        unarmed.measure(setup, results.add, libraries, rounds, runs, count)
    except sides.Failed as e:
        results.failed["run"] = str(e)
        say(f"unarmed: FAILED: {e}")


def unarmed_table(results, before):
    shown = ["native", *(["before"] if before else []), "run"]
    rows = [["unarmed", *["tracked" if s == "run" else s for s in shown], "more", "goal"]]
    missed = 0
    for row, (title, unit, goal, is_ratio) in unarmed.ROWS.items():
        native, run = results.of(row, "native"), results.of(row, "run")
        if is_ratio:
            extra = results.ratios(row, "run", "native")
            text, limit = times(extra, 3), f"≤ {goal:.2f}"
        else:
            extra = [run[r] - native[r] for r in run if r in native]
            text, limit = more(extra, 0, unit), f"≤ +{goal} {unit}"
        judged, miss = judge([extra], goal)
        missed += miss
        rows.append([f"{title}, {unit}", *[cell(results.of(row, s)) for s in shown], text,
                     limit + judged])
    return layout(rows), missed


def measure_device(setup, mib, seconds, results):
    try:
        rows = device.measure(setup, setup.work / "device", mib, seconds, device.TITLES)
    except sides.Failed as e:
        (results.why if e.refused else results.failed)["disk"] = str(e)
        return
    finally:
        (setup.work / "device").unlink(missing_ok=True)
    results.lines.append(device.who())
    for name, us, rate in rows:
        results.add(name, "us", 0, us)
        results.add(name, "MiB/s", 0, rate)


def device_table(results):
    who = results.lines[0] if results.lines else "nobody"
    rows = [[f"the disk by itself ({who})", "µs an operation", "MiB/s"]]
    for name, title in device.TITLES.items():
        us, rate = results.spread(name, "us"), results.spread(name, "MiB/s")
        if us:
            rows.append([title, number(us[0]), f"{rate[0]:.0f}"])
    return layout(rows) if len(rows) > 1 else []


def units(part, row, side):
    """(row, threads, unit) of a value, for the list of values."""
    if part in MEMORY_PARTS or part == "files":
        if row[0] == "stat":
            return row[1], "", "count"
        if row[0] == "reserve":
            return row[0], "", row[1]
        if row[0] in ("peak", "CPU"):
            return row[0], "", USED_UNITS[row[0]]
        if " of " in row[0]:
            return row[0], row[1], "an operation"
        return row[0], row[1], "us"
    if part in paged.NAMES and isinstance(row, tuple):
        return f"{row[0]}, {row[1]}", "", USED_UNITS[row[1]]
    if part == "unarmed":
        return row, "", unarmed.ROWS[row][1]
    if part == "micro":
        return row, "", "ns"
    if part == "pause":
        return row, "", pause.ROWS[row][1]
    if part == "disk":
        return row, "", side
    return row, "", "s"


def write_csv(path, measured):
    with open(path, "w", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["part", "row", "threads", "side", "round", "value", "unit"])
        for part, results in measured.items():
            for (row, side), values in results.values.items():
                name, threads, unit = units(part, row, side)
                for r, v in values.items():
                    out.writerow([part, name, threads, "" if part == "disk" else side, r + 1,
                                  f"{v:.0f}" if unit == "count" else f"{v:.6g}", unit])


def write_charts(directory, measured, small, paged_titles):
    """A chart for each table."""
    directory.mkdir(parents=True, exist_ok=True)

    def one(name, title, unit, results, rows, shown):
        chart = svg.chart(title, unit,
                          [(t, {k: v for k, _ in shown if (v := results.spread(row, k))})
                           for row, t in rows], shown, small)
        if chart:
            (directory / f"{name}.svg").write_text(chart, encoding="utf-8")

    all_sides = [(k.key, k.title) for k in SIDES]
    for part, rows in MEMORY_PARTS.items():
        if part in measured:
            one(part, f"memory: {part}" if part != "memory" else "memory", "µs an operation",
                measured[part], rows, all_sides)
    if "files" in measured:
        one("files", "a mapped file", "µs a page", measured["files"], files.ROWS,
            list(files.titles(measured["files"]).items()))
    quarter = Results()
    for part in paged.NAMES:
        if part in measured:
            quarter.values.update(measured[part].values)
    one("paged", "programs with a quarter of their need", "s", quarter,
        [(t, t) for t in paged_titles],
        [(k, t + ", all of it" * (k == "native")) for k, t in paged.SIDES.items()])
    if "micro" in measured:
        one("micro-faults", "one fault", "ns", measured["micro"], micro.FAULTS.items(),
            list(micro.PLACES.items()))
        one("micro-ioctls", "one call, a page", "ns", measured["micro"], micro.IOCTLS.items(),
            list(micro.CPUS.items()))
        one("micro-other", "runtimes, processes, hooked calls", "ns", measured["micro"],
            micro.OTHER.items(), [("native", "native"), ("run", "faultline")])
    if "pause" in measured:
        one("pause", "a snapshot", "ms", measured["pause"],
            [(r, t) for r, (t, unit) in pause.ROWS.items() if unit == "ms"],
            list(pause.SIDES.items()))
    if "programs" in measured:
        one("programs", "programs that fit the limit", "s", measured["programs"],
            [(t, t) for t in dict.fromkeys(row for row, _ in measured["programs"].values)],
            [("native", "native"), ("run", "faultline run")])
    if "unarmed" in measured:
        one("unarmed", "nothing paged", "ns, µs or ms", measured["unarmed"],
            [(r, f"{v[0]}, {v[1]}") for r, v in unarmed.ROWS.items()],
            [("native", "native"), ("before", "before"), ("run", "tracked")])
    if "disk" in measured:
        one("disk", "the disk by itself", "µs an operation", measured["disk"],
            device.TITLES.items(), [("us", "O_DIRECT, io_uring")])


def arguments():
    keys = [k.key for k in SIDES]
    p = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    p.add_argument("--build", type=pathlib.Path, default=pathlib.Path("."),
                   help="top of the build tree (default: here)")
    p.add_argument("--work-dir", default=os.environ.get("TMPDIR") or "/var/tmp",
                   help="on the disk that is measured (default: $TMPDIR or /var/tmp)")
    p.add_argument("--quick", action="store_true", help="256 MiB in 64 MiB, in under a minute")
    p.add_argument("--rounds", type=int, help="of the memory work (default: 5; quick: 2)")
    p.add_argument("--program-rounds", type=int, help="of the programs (default: 9; quick: 3)")
    p.add_argument("--mib", type=int, help="memory to work on (default: 2048; quick: 256)")
    p.add_argument("--limit-mib", type=int, help="limit (default: a quarter of the memory)")
    p.add_argument("--ops", type=int, help="random operations (default: 65536; quick: 4096; on a "
                   "mapped file: as many as touch twice the limit)")
    p.add_argument("--content", choices=["word", "soft", "whole"], default="word",
                   help="fill one word of a page, or all, in a form that compresses or does not")
    usual = ",".join(k.key for k in SIDES if k not in sides.MORE)
    p.add_argument("--sides", default=usual,
                   help=f"some of {','.join(keys)}, or 'all' (default: {usual})")
    p.add_argument("--parts", help=f"some of {','.join(PARTS)}, or 'paged' for all that begin "
                   "with it, or 'all' (default: memory,programs,unarmed,disk)")
    p.add_argument("--part-seconds", type=float, default=0,
                   help="begin no round of a part that would end later (default: no bound)")
    p.add_argument("--state", type=pathlib.Path,
                   help="keep each part's values in this directory, and do not measure again what "
                   "it has of this build, machine and options: a run that was ended goes on where "
                   "it was")
    p.add_argument("--svg", type=pathlib.Path, help="write a chart of each table to this directory")
    p.add_argument("--before", type=pathlib.Path,
                   help="another build's preload library, for the unarmed part")
    p.add_argument("--engine", choices=["auto", "uring", "sync"], default="auto")
    p.add_argument("--wp", choices=["auto", "sync", "off"], default="auto")
    p.add_argument("--pagers", type=int, default=0, help="pager threads (default: faultline's)")
    p.add_argument("--csv", help="write every single value to this file")
    p.add_argument("--check", action="store_true", help="exit 1 when a goal is missed, "
                   "or cannot be judged since what was asked for could not be measured")
    a = p.parse_args()
    a.build = a.build.resolve()
    a.mib = a.mib or (256 if a.quick else 2048)
    a.limit_mib = a.limit_mib or a.mib // 4
    given_ops = a.ops
    a.ops = a.ops or (4096 if a.quick else 65536)
    a.rounds = a.rounds or (2 if a.quick else 5)
    a.program_rounds = a.program_rounds or (3 if a.quick else 9)
    a.last_part = 8 if a.quick else 1
    a.scale, a.startups, a.disk_mib, a.disk_seconds = ((0.1, 50, 128, 1) if a.quick else
                                                       (1, 300, 1024, 5))
    a.device_seconds = 0.25 if a.quick else 1
    a.commands = 100 if a.quick else 1000
    wanted = (a.parts or "memory,programs,unarmed,disk").split(",")
    a.parts = [q for p_ in wanted for q in (PARTS if p_ == "all" else
                                            paged.NAMES if p_ == "paged" else [p_])]
    a.parts.sort(key=lambda q: PARTS.index(q) if q in PARTS else -1)
    a.sides = keys if a.sides == "all" else a.sides.split(",")
    sided = [*keys, files.MmapNormal.key]
    for given, known in ((a.sides, sided), (a.parts, PARTS)):
        for name in given:
            if name not in known:
                p.error(f"'{name}' is none of {', '.join(known)}")
    a.sides = [k for k in sided if k in a.sides]
    if a.limit_mib < 2 or a.limit_mib > a.mib or a.ops < 64 or min(a.rounds, a.program_rounds) < 1:
        p.error("the limit is at least 2 MiB and at most the memory, --ops at least 64, "
                "and there is at least one round")
    a.file_ops = files.Ops(a.mib * MIB, a.limit_mib * MIB, given_ops, a.quick)
    return a


def measure_part(part, args, setup, wanted, todo):
    """All rounds of one part."""
    results, rounds = Results(), Rounds(args.rounds, args.part_seconds)
    longer = Rounds(args.program_rounds, args.part_seconds)
    if part == "memory":
        measure_sides(setup.doing(WORKS), wanted, rounds, results)
        if results.of(("stat", "bookkeeping"), "api"):
            measure_reserve(setup, results)
    elif part == "limits":
        measure_limits(setup, wanted, rounds, results)
    elif part == "sequential":
        measure_sequential(setup, wanted, rounds, results)
    elif part == "wide":
        measure_wide(setup, wanted, rounds, results)
    elif part in MEMORY_PARTS:
        measure_sides(setup.doing(MEMORY_PARTS[part]), wanted, rounds, results)
    elif part == "files":
        with files.file(setup):
            measure_sides(setup, files.wanted(args.sides), rounds, results)
    elif part in paged.NAMES:
        paged.measure(setup, part, args.scale, args.sides, results, rounds, say)
    elif part == "micro":
        for r in rounds():
            say(f"single faults and calls, round {r + 1}")
            micro.measure(setup, results, r)
    elif part == "pause":
        for r in rounds():
            say(f"snapshots, round {r + 1}")
            pause.measure(setup, args.mib // 2, results, r)
    elif part == "programs":
        measure_programs(setup, todo, longer, results)
    elif part == "unarmed":
        measure_unarmed(setup, args.before, longer, args.startups, args.commands, results)
    elif part == "disk":
        say("the disk by itself")
        measure_device(setup, args.disk_mib, args.disk_seconds, results)
    return results


def show(args, measured, wanted, todo):
    """(lines, missed goals)."""
    titles = {**{k.key: k.title for k in files.ALL}, **{k.key: k.title for k in SIDES}}
    text, missed = [], 0

    def add(table, miss, results, *head):
        nonlocal text, missed
        text += ["", *head, *([""] if head else []), *table, "",
                 *notes(results, {**{k: k for k in {**results.why, **results.failed}}, **titles})]
        missed += miss

    for part, works in MEMORY_PARTS.items():
        if part not in measured:
            continue
        mib, limit = f"{args.mib}", f"{args.limit_mib} MiB limit"
        if part == "limits":
            limit = "limit as told"
        elif part == "sequential":
            mib, limit = f"{args.mib // 2}", f"{max(args.limit_mib // 2, 2)} MiB limit"
        elif part == "wide":
            mib = f"near {args.mib // 2}, wide {args.mib * 2} in {args.mib * 2 * SPREAD}"
            limit = f"{args.limit_mib // 2} and {args.limit_mib * 2} MiB limit"
        add(*memory_table(measured[part], wanted, works), measured[part],
            f"{mib} MiB of anonymous memory, {limit}, at most {args.rounds} rounds, "
            f"{args.ops} random operations, content: {args.content}")
        lines, miss = [], 0
        if part == "wide":
            lines, miss = wide_lines(measured[part], wanted)
        elif part == "memory" and sides.Api in wanted:
            lines, miss = bookkeeping_lines(args.mib, measured[part])
        text += lines
        missed += miss
    if "files" in measured:
        keys = {k.key for k in files.wanted(args.sides)}
        add(*files_table(measured["files"], keys, args.file_ops.one_copy()), measured["files"],
            f"a mapped file of {args.mib} MiB, {args.limit_mib} MiB limit, {args.file_ops}")
    quarter, names = Results(), []
    for part in paged.NAMES:
        if part in measured:
            r = measured[part]
            for of, to in ((r.values, quarter.values), (r.why, quarter.why),
                           (r.failed, quarter.failed)):
                to.update(of)
            quarter.lines += r.lines
            names.append(paged.TITLES[part])
    if names:
        add(*paged_table(quarter, args.sides, names), quarter)
        text += quarter.lines
    if "micro" in measured:
        for head, rows, columns in (("ns a fault", micro.FAULTS, micro.PLACES),
                                    ("ns a page", micro.IOCTLS, micro.CPUS),
                                    ("ns", micro.OTHER, {"native": "native", "run": "faultline"})):
            add(*micro_table(measured["micro"], head, rows, columns), Results())
        micros = measured["micro"]
        text += notes(micros, {k: k for k in (*micros.why, *micros.failed)})
    if "pause" in measured:
        add(*pause_table(measured["pause"]), measured["pause"],
            f"a snapshot of {args.mib // 2} MiB in memory while another thread writes")
    if "programs" in measured:
        add(*programs_table(measured["programs"], todo), measured["programs"])
    if "unarmed" in measured:
        add(*unarmed_table(measured["unarmed"], args.before), measured["unarmed"])
    if "disk" in measured:
        add(device_table(measured["disk"]), 0, measured["disk"])
    return text, missed


def digest(paths):
    of = hashlib.sha256()
    for path in sorted(paths):
        of.update(path.name.encode() + b"\0" + path.read_bytes())
    return of.hexdigest()


def fingerprint(args, work):
    """What values are of: those of another one are not to be shown in one table with them."""
    build = digest(q for p_ in BUILT for q in args.build.glob(p_) if q.is_file())
    machine = device.Machine(work)
    return {"build": build, "scripts": digest(SCRIPTS.glob("*.py")), "machine": machine.what, "disk": machine.disk,
            **{f"--{name.replace('_', '-')}": getattr(args, name) for name in OF_VALUES},
            "--before": str(args.before)}


def kept(directory, part, of):
    """What an earlier run measured of a part, or None."""
    path = directory / f"{part}.json" if directory else None
    if path is None or not path.exists():
        return None
    saved = json.loads(path.read_text(encoding="utf-8"))
    was = saved.get("of", {})
    others = [what for what in of if was.get(what) != of[what]]
    if others:
        say(f"{part}: measured anew, since {path} is of another {', '.join(others)}")
        return None
    say(f"{part}: measured before")
    return Results.loaded(saved)


def keep(directory, part, of, results):
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        new = directory / f"{part}.new"
        new.write_text(json.dumps({"of": of, **results.saved()}), encoding="utf-8")
        new.replace(directory / f"{part}.json")


def measure(args, work):
    setup = Setup(args, work)
    wanted = [k for k in SIDES if k.key in args.sides]
    text, measured = device.machine(work), {}
    todo = programs.all_programs(setup, args.scale, args.startups)
    of = fingerprint(args, work)
    for part in args.parts:
        measured[part] = kept(args.state, part, of)
        if measured[part] is None:
            measured[part] = measure_part(part, args, setup, wanted, todo)
            keep(args.state, part, of, measured[part])
    lines, missed = show(args, measured, wanted, todo)
    small = [*text, *device_table(measured["disk"])] if "disk" in measured else text
    text += lines
    while text[-1] == "":
        text.pop()
    print("\n".join(text).replace("\n\n\n", "\n\n"))
    if args.csv:
        write_csv(args.csv, measured)
    if args.svg:
        write_charts(args.svg, measured, small, paged.TITLES.values())
    failed = any(r.failed for r in measured.values())
    return 1 if failed or (args.check and missed) else 0


def main():
    args = arguments()
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda n, _: sys.exit(128 + n))
    try:
        with sides.work_dir(args.work_dir, say) as work:
            return measure(args, work)
    except KeyboardInterrupt:
        return 130
    except (sides.NotMeasured, OSError) as e:
        print(f"faultline: bench: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
