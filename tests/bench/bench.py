#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One table: what paging costs natively, by kernel swap and by faultline.

The sides take turns within each round, and the order turns from round to
round, so that a machine whose speed drifts drifts for all of them.  A cell is
the median over the rounds and half the distance from the least to the
greatest, in per cent of it.  A ratio is the median of the rounds' ratios: both
of its sides are from the same round.

A side or a program that cannot run here is named with the reason; one that
runs and is wrong makes the exit status 1, as does, with --check, a missed goal.
"""

import argparse
import csv
import os
import pathlib
import signal
import statistics
import sys
import time

sys.dont_write_bytecode = True

import device  # noqa: E402
import programs  # noqa: E402
import sides  # noqa: E402
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

# The most that faultline may take, kernel swap on a file being 1.
GOALS = {
    ("fill", 1): 1 / 1.5,
    ("seqread", 1): 1 / 3,
    ("randread", 1): 1.05,
    ("randread", 8): 1.10,
    ("randwrite", 1): 1.10,
}
# The most that compressed pages may take, kernel swap on zram being 1.
ZRAM_GOALS = {
    ("seqread", 1): 0.6,
    ("randread", 1): 1.0,
    ("randwrite", 1): 0.9,
}
PROGRAM_GOAL = 1.03  # native being 1
PARTS = ["memory", "programs", "unarmed", "disk"]
STARTUP_GOAL = 0.005  # seconds more


class Setup:
    """What every side needs to know."""

    def __init__(self, args, work):
        self.work = work
        self.build = args.build
        self.size, self.limit = args.mib * MIB, args.limit_mib * MIB
        self.ops, self.content, self.last_part = args.ops, args.content, args.last_part
        self.engine, self.wp, self.pagers = args.engine, args.wp, args.pagers

    def program(self, name):
        return self.build / "tests/bench" / name

    def faultline_run(self, limit):
        pagers = ["--pagers", self.pagers] if self.pagers else []
        return [self.build / "src/cli/faultline", "run", "--limit", f"{limit // MIB}M",
                "--swap-dir", self.work, "--engine", self.engine, "--wp", self.wp, *pagers, "--"]


class Results:
    """Values by (row, side, round), and who could not be measured."""

    def __init__(self):
        self.values, self.why, self.failed = {}, {}, {}

    def add(self, row, side, round_, value):
        self.values.setdefault((row, side), {})[round_] = value

    def of(self, row, side):
        return self.values.get((row, side), {})

    def ratio(self, row, side, base):
        a, b = self.of(row, side), self.of(row, base)
        both = [a[r] / b[r] for r in a if r in b]
        return statistics.median(both) if both else None


STARTED = time.monotonic()


def say(text):
    print(f"bench: {time.monotonic() - STARTED:4.0f} s: {text}", file=sys.stderr, flush=True)


def number(value):
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def cell(values):
    if not values:
        return "-"
    v = list(values.values())
    middle = statistics.median(v)
    if len(v) == 1:
        return number(middle)
    return f"{number(middle)} ±{(max(v) - min(v)) / 2 / middle * 100:.0f}%"


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


def measure_memory(setup, wanted, rounds):
    results, able = Results(), []
    for kind in wanted:
        side = kind(setup)
        try:
            side.prepare()
            able.append(side)
        except sides.NotMeasured as e:
            results.why[side.key] = str(e)
            say(f"{side.title}: not measured: {e}")
    for r in range(rounds):
        turn = r % len(able) if able else 0
        for side in able[turn:] + able[:turn]:
            if side.key in results.failed:
                continue
            say(f"round {r + 1} of {rounds}: {side.title}")
            try:
                out, peak = side.measure(r + 1)
            except (sides.Failed, sides.NotMeasured) as e:
                results.failed[side.key] = str(e)
                say(f"{side.title}: FAILED: {e}")
                continue
            for line in map(str.split, out.splitlines()):
                if line[0] == "row":
                    results.add((line[1], int(line[2])), side.key, r, float(line[3]))
                elif line[0] == "stat":
                    results.add(("stat", line[1]), side.key, r, float(line[2]))
            if peak:
                results.add(("peak", "MiB"), side.key, r, peak / MIB)
    return results


def goal_text(ratios, goal):
    if goal is None:
        return "", False
    known = [x for x in ratios if x is not None]
    missed = any(x > goal for x in known)
    verdict = "" if not known else " missed" if missed else " met"
    return f"≤ {goal:.2f}{verdict}", missed


def memory_table(results, wanted):
    ours = [k for k in wanted if k in (sides.Api, sides.Run)]
    rows = [["µs an operation", *[k.title for k in wanted],
             *[f"{k.key} ÷ file" for k in ours], "goal"]]
    packed = sides.Compressed in wanted and sides.KernelZram in wanted
    rows[0] += ["compressed ÷ zram", "goal"] if packed else []
    missed = 0
    for row, title in WORKS:
        ratios = [results.ratio(row, k.key, "file") for k in ours]
        goal, miss = goal_text(ratios, GOALS.get(row))
        missed += miss
        rows.append([title, *[cell(results.of(row, k.key)) for k in wanted],
                     *["-" if x is None else f"{x:.2f}" for x in ratios], goal])
        if packed:
            ratio = results.ratio(row, "compressed", "zram")
            goal, miss = goal_text([ratio], ZRAM_GOALS.get(row))
            missed += miss
            rows[-1] += ["-" if ratio is None else f"{ratio:.2f}", goal]
    rows.append(["peak memory, MiB", *[cell(results.of(("peak", "MiB"), k.key)) for k in wanted],
                 *["" for _ in ours], *[""] * (3 if packed else 1)])
    return layout(rows), missed


def notes(results, titles):
    lines = [f"{titles[k]}: NOT MEASURED: {why}" for k, why in results.why.items()]
    lines += [f"{titles[k]}: FAILED: {why}" for k, why in results.failed.items()]
    return lines


def bookkeeping_lines(setup, results):
    """What the runtime says of its own memory; nothing when it could not be measured."""
    used = results.of(("stat", "bookkeeping"), "api")
    if not used:
        return []
    per_page = statistics.median(used.values()) / (setup.size // 4096)
    lines = [f"bookkeeping: {per_page:.1f} bytes a touched page (goal: ≤ 16)"]
    try:
        out, _ = sides.run(sides.Api(setup).command("--reserve-gib", 1024))
    except sides.Failed as e:
        return lines + [f"a 1 TiB region that is not touched: FAILED: {e}"]
    told = {tuple(f[:2]): f[-1] for f in map(str.split, out.splitlines())}
    return lines + [f"a 1 TiB region that is not touched: mapped in "
                    f"{float(told['row', 'reserve']):.0f} µs (goal: < 1000), "
                    f"{told['stat', 'bookkeeping']} bytes of bookkeeping"]


def measure_programs(setup, limit, scale, startups, rounds):
    results = Results()
    able = []
    todo = programs.all_programs(setup, scale, startups)
    prefixes = {"native": [], "run": setup.faultline_run(limit)}
    try:
        sides.run([*prefixes["run"], setup.program("bench-empty")])
    except sides.Failed as e:
        results.why["run"] = str(e)
        say(f"faultline run: not measured: {e}")
        del prefixes["run"]
    for p in todo:
        try:
            p.prepare()
            able.append(p)
        except sides.NotMeasured as e:
            results.why[p.title] = str(e)
    for p in able:
        say(f"{p.title}, {rounds} rounds")
        try:
            p.seconds([])  # warms up
            for r in range(rounds):
                for side in sorted(prefixes, reverse=r % 2 == 1):
                    results.add(p.title, side, r, p.seconds(prefixes[side]))
        except sides.Failed as e:
            results.failed[p.title] = str(e)
            say(f"{p.title}: FAILED: {e}")
    return results, todo


def programs_table(results, todo):
    rows = [["programs that fit the limit", "native", "faultline run", "ratio", "goal"]]
    missed = 0
    for p in todo:
        native, run = results.of(p.title, "native"), results.of(p.title, "run")
        if isinstance(p, programs.Empty):
            more = [run[r] - native[r] for r in run if r in native]
            extra = statistics.median(more) if more else None
            miss = extra is not None and extra > STARTUP_GOAL
            goal = f"≤ +{STARTUP_GOAL * 1e3:.0f} ms" + ("" if extra is None else
                                                        " missed" if miss else " met")
            shown = [cell({r: v * 1e3 for r, v in x.items()}) for x in (native, run)]
            rows.append([p.title + ", ms", *shown,
                         "-" if extra is None else f"+{extra * 1e3:.2f} ms", goal])
        else:
            ratio = results.ratio(p.title, "run", "native")
            goal, miss = goal_text([ratio], PROGRAM_GOAL)
            rows.append([p.title + ", s", cell(native), cell(run),
                         "-" if ratio is None else f"{ratio:.3f}", goal])
        missed += miss
    return layout(rows), missed


def measure_unarmed(setup, before, rounds, runs, count):
    results = Results()
    libraries = {"native": None, "run": setup.build / "src/preload/.libs/libfaultline-preload.so"}
    if before:
        libraries["before"] = before
    say(f"unarmed, {rounds} rounds")
    try:
        unarmed.measure(setup, results.add, libraries, rounds, runs, count)
    except sides.Failed as e:
        results.failed["run"] = str(e)
        say(f"unarmed: FAILED: {e}")
    return results


def unarmed_table(results, before):
    shown = ["native", *(["before"] if before else []), "run"]
    rows = [["unarmed", *["tracked" if s == "run" else s for s in shown], "more", "goal"]]
    missed = 0
    for row, (title, unit, goal, is_ratio) in unarmed.ROWS.items():
        native, run = results.of(row, "native"), results.of(row, "run")
        if is_ratio:
            more = results.ratio(row, "run", "native")
            text, limit = "-" if more is None else f"{more:.3f}", f"≤ {goal:.2f}"
        else:
            both = [run[r] - native[r] for r in run if r in native]
            more = statistics.median(both) if both else None
            text, limit = "-" if more is None else f"{more:+.0f} {unit}", f"≤ +{goal} {unit}"
        miss = more is not None and more > goal
        missed += miss
        rows.append([f"{title}, {unit}", *[cell(results.of(row, s)) for s in shown], text,
                     limit + ("" if more is None else " missed" if miss else " met")])
    return layout(rows), missed


def device_table(setup, mib, seconds):
    try:
        who, rows = device.measure(setup, mib, seconds)
    except sides.Failed as e:
        return [f"the disk by itself: NOT MEASURED: {e}"], []
    table = layout([[f"the disk by itself ({who})", "µs an operation", "MiB/s"],
                    *[[device.TITLES[n], number(us), f"{rate:.0f}"] for n, us, rate in rows]])
    return table, rows


def write_csv(path, memory, progs, disk, calls):
    with open(path, "w", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["part", "row", "threads", "side", "round", "value", "unit"])
        for part, results in (("memory", memory), ("programs", progs)):
            for (row, side), values in results.values.items() if results else ():
                for r, v in values.items():
                    if part == "programs":
                        out.writerow([part, row, "", side, r + 1, f"{v:.6f}", "s"])
                    elif row[0] == "stat":
                        out.writerow([part, row[1], "", side, r + 1, f"{v:.0f}", "count"])
                    elif row[0] == "peak":
                        out.writerow([part, "peak", "", side, r + 1, f"{v:.1f}", "MiB"])
                    else:
                        out.writerow([part, row[0], row[1], side, r + 1, f"{v:.4f}", "us"])
        for (row, side), values in calls.values.items() if calls else ():
            for r, v in values.items():
                out.writerow(["unarmed", row, "", side, r + 1, f"{v:.1f}", unarmed.ROWS[row][1]])
        for name, us, rate in disk:
            out.writerow(["disk", name, "", "", "", f"{us:.2f}", "us"])
            out.writerow(["disk", name, "", "", "", f"{rate:.1f}", "MiB/s"])


def arguments():
    keys = [k.key for k in sides.ALL]
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
    p.add_argument("--ops", type=int, help="random operations (default: 65536; quick: 4096)")
    p.add_argument("--content", choices=["word", "soft", "whole"], default="word",
                   help="fill one word of a page, or all, in a form that compresses or does not")
    p.add_argument("--sides", default=",".join(keys), help=f"some of {','.join(keys)}")
    p.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    p.add_argument("--before", type=pathlib.Path,
                   help="another build's preload library, for the unarmed part")
    p.add_argument("--engine", choices=["auto", "uring", "sync"], default="auto")
    p.add_argument("--wp", choices=["auto", "sync", "off"], default="auto")
    p.add_argument("--pagers", type=int, default=0, help="pager threads (default: faultline's)")
    p.add_argument("--csv", help="write every single value to this file")
    p.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    a = p.parse_args()
    a.build = a.build.resolve()
    a.mib = a.mib or (256 if a.quick else 2048)
    a.limit_mib = a.limit_mib or a.mib // 4
    a.ops = a.ops or (4096 if a.quick else 65536)
    a.rounds = a.rounds or (2 if a.quick else 5)
    a.program_rounds = a.program_rounds or (3 if a.quick else 9)
    a.last_part = 8 if a.quick else 1
    a.scale, a.startups, a.disk_mib, a.disk_seconds = ((0.1, 50, 128, 1) if a.quick else
                                                       (1, 300, 1024, 5))
    a.commands = 100 if a.quick else 1000
    a.parts, a.sides = a.parts.split(","), a.sides.split(",")
    for given, known in ((a.sides, keys), (a.parts, PARTS)):
        for name in given:
            if name not in known:
                p.error(f"'{name}' is none of {', '.join(known)}")
    if a.limit_mib < 2 or a.limit_mib > a.mib or a.ops < 64 or min(a.rounds, a.program_rounds) < 1:
        p.error("the limit is at least 2 MiB and at most the memory, --ops at least 64, "
                "and there is at least one round")
    return a


def measure(args, work):
    setup = Setup(args, work)
    wanted = [k for k in sides.ALL if k.key in args.sides]
    titles = {k.key: k.title for k in sides.ALL}
    text, memory, progs, disk, missed = device.machine(work), None, None, [], 0
    calls = None

    if "memory" in args.parts:
        memory = measure_memory(setup, wanted, args.rounds)
        table, miss = memory_table(memory, wanted)
        missed += miss
        text += ["", f"{args.mib} MiB of anonymous memory, {args.limit_mib} MiB limit, rounds: "
                 f"{args.rounds}, {args.ops} random operations, content: {args.content}",
                 "", *table, "", *notes(memory, titles), *bookkeeping_lines(setup, memory)]
    if "programs" in args.parts:
        progs, todo = measure_programs(setup, 2048 * MIB, args.scale, args.startups,
                                       args.program_rounds)
        table, miss = programs_table(progs, todo)
        missed += miss
        text += ["", *table, "", *notes(progs, {**titles, **{p.title: p.title for p in todo}})]
    if "unarmed" in args.parts:
        calls = measure_unarmed(setup, args.before, args.program_rounds, args.startups,
                                args.commands)
        table, miss = unarmed_table(calls, args.before)
        missed += miss
        text += ["", *table, "", *notes(calls, titles)]
    if "disk" in args.parts:
        say("the disk by itself")
        table, disk = device_table(setup, args.disk_mib, args.disk_seconds)
        text += ["", *table]
    while text[-1] == "":
        text.pop()
    print("\n".join(text).replace("\n\n\n", "\n\n"))
    if args.csv:
        write_csv(args.csv, memory, progs, disk, calls)
    failed = any(r and r.failed for r in (memory, progs, calls))
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
