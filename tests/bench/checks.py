#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What test-bench.sh cannot see in a run that goes well: what becomes of crashes, of goals that
are missed or cannot be judged, of values that are of something else, and of the order of sides."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

sys.dont_write_bytecode = True

import bench  # noqa: E402
import device  # noqa: E402
import paged  # noqa: E402
import programs  # noqa: E402
import sides  # noqa: E402


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def results(values):
    """Results of one round: {(row, side): value}."""
    r = bench.Results()
    for (row, side), value in values.items():
        r.add(row, side, 0, value)
    return r


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(
            dir=os.environ.get("TMPDIR") or "/var/tmp")))
        self.enterContext(contextlib.redirect_stderr(io.StringIO()))

    def enterContext(self, cm):
        """As Python 3.11 has it."""
        value = cm.__enter__()
        self.addCleanup(cm.__exit__, None, None, None)
        return value

    def arguments(self, *words):
        self.enterContext(mock.patch.object(sys, "argv", [
            "bench", "--build", str(self.dir), "--work-dir", str(self.dir), "--quick", *words]))
        return bench.arguments()

    def setup_of(self, *words):
        return bench.Setup(self.arguments(*words), self.dir)

    def status(self, measured, *words):
        """The exit status of a run that measures that, and what it prints."""
        args = self.arguments("--parts", ",".join(measured), *words)
        out = io.StringIO()
        with mock.patch.object(bench, "measure_part",
                               lambda part, *_: measured[part]), contextlib.redirect_stdout(out):
            return bench.measure(args, self.dir), out.getvalue()


class Order(unittest.TestCase):
    def test_first_rounds(self):
        self.assertEqual(["".join(sides.in_turn("abc", r)) for r in range(4)],
                         ["abc", "cba", "bca", "acb"])

    def test_nobody_always_comes_behind_the_same_one(self):
        for those in ("ab", "abc", "abcde"):
            before = {x: set() for x in those}
            for r in range(2 * len(those)):
                order = sides.in_turn(those, r)
                self.assertEqual(sorted(order), list(those))
                for a, b in zip(order, order[1:]):
                    before[b].add(a)
            self.assertGreaterEqual(min(map(len, before.values())), min(2, len(those) - 1), those)

    def test_no_sides(self):
        self.assertEqual(sides.in_turn([], 3), [])


class Failures(Case):
    def prepare(self, text):
        script(self.dir / "tests/bench/bench-worker", text)
        r = bench.Results()
        bench.able_sides(self.setup_of(), [sides.Side], r)
        return r

    def test_a_crash_is_a_failure(self):
        for text in ("kill -SEGV $$", "exit 1", "exit 3", "echo faultline: no >&2; exit 3"):
            r = self.prepare(text)
            self.assertIn("native", r.failed, text)
            self.assertFalse(r.why, text)
            self.assertEqual(self.status({"memory": r}, "--sides", "native")[0], 1, text)

    def test_what_cannot_begin_here_is_none(self):
        r = self.prepare("echo faultline: bench worker: fl_open: no such call >&2; exit 1")
        self.assertIn("no such call", r.why["native"])
        self.assertFalse(r.failed)
        self.assertEqual(self.status({"memory": r}, "--sides", "native")[0], 0)

    def test_no_program_is_a_failure(self):
        r = bench.Results()
        bench.able_sides(self.setup_of(), [sides.Side], r)
        self.assertIn("native", r.failed)

    def test_a_wrong_word_is_a_failure(self):
        script(self.dir / "tests/bench/bench-worker",
               '[ $# -eq 0 ] || { echo "faultline: bench worker: page 1 holds 2" >&2; exit 1; }')
        r, setup = bench.Results(), self.setup_of("--mib", "8")
        bench.measure_sides(setup, [sides.Side], bench.Rounds(1, 0), r)
        self.assertIn("page 1 holds 2", r.failed["native"])

    def test_the_terabyte(self):
        script(self.dir / "tests/bench/bench-worker-faultline", "exit 1")
        r = results({(("stat", "bookkeeping"), "api"): 1})
        bench.measure_reserve(self.setup_of(), r)
        status, text = self.status({"memory": r}, "--sides", "api")
        self.assertEqual(status, 1)
        self.assertIn(f"{bench.RESERVE}: FAILED: exit 1", text)


class Goals(Case):
    def check(self, part, r, *words):
        """(status without --check, status with it, text)."""
        status, _ = self.status({part: r}, *words)
        return status, *self.status({part: r}, *words, "--check")

    def test_a_side_that_was_not_measured(self):
        values = {(row, "api"): 0.01 for row, _ in bench.WORKS}
        values.update({(("stat", "bookkeeping"), "api"): 1, (("reserve", "us a call"), "api"): 1})
        r = results(values)
        r.why["file"] = "needs root"
        self.assertEqual(self.check("memory", r, "--sides", "api")[:2], (0, 0))
        *status, text = self.check("memory", r, "--sides", "api,file")
        self.assertEqual(status, [0, 1])
        self.assertIn("≤ 0.67 not measured", text)
        r.values.update(results({(row, "file"): 1 for row, _ in bench.WORKS}).values)
        self.assertEqual(self.check("memory", r, "--sides", "api,file")[:2], (0, 0))

    def test_bookkeeping_and_the_terabyte(self):
        good = {(("stat", "bookkeeping"), "api"): 8 * 65536, (("reserve", "us a call"), "api"): 999}
        for row, value in (("stat", "bookkeeping"), 17 * 65536), (("reserve", "us a call"), 1001):
            words = ("--sides", "api", "--mib", "256")
            self.assertEqual(self.check("memory", results(good), *words)[:2], (0, 0))
            bad = results({**good, (row, "api"): value})
            self.assertEqual(self.check("memory", bad, *words)[:2], (0, 1), row)
        del good[("reserve", "us a call"), "api"]
        self.assertEqual(self.check("memory", results(good), *words)[:2], (0, 1))

    def test_wide(self):
        for wide, status in ((0.9, 0), (1.1, 1)):
            r = results({((f"{work}@{at}", n), "api"): us for work in ("randread", "randwrite")
                         for at, n, us in (("near", 4, 1), ("wide", 16, wide))})
            *got, text = self.check("wide", r, "--sides", "api")
            self.assertEqual(got, [0, status])
            self.assertIn("randwrite, wide ÷ near, faultline API:", text)
        self.assertEqual(self.check("wide", bench.Results(), "--sides", "api")[:2], (0, 1))

    def test_programs_that_page(self):
        r = results({("sort", "file"): 1.31, ("sort", "run"): 1})
        *status, text = self.check("paged-sort", r, "--sides", "file,run")
        self.assertEqual(status, [0, 0])
        self.assertIn("1 of 1 programs at least 1.3 times as fast as kernel swap on a file "
                      "(goal: ≥ 1 met)", text)
        r = results({("sort", "file"): 1.2, ("sort", "run"): 1})
        *status, text = self.check("paged-sort", r, "--sides", "file,run")
        self.assertEqual(status, [0, 1])
        self.assertIn("0 of 1 programs at least", text)
        self.assertEqual(self.check("paged-sort", bench.Results(), "--sides", "file,run")[:2],
                         (0, 1))
        *status, text = self.check("paged-sort", bench.Results(), "--sides", "run")
        self.assertEqual(status, [0, 0])
        self.assertNotIn("times as fast as", text)

    def test_other_parts_that_were_not_measured(self):
        for part in ("micro", "programs", "unarmed"):
            self.assertEqual(self.check(part, bench.Results())[:2], (0, 1), part)

    def test_spread(self):
        """Of the rounds' values, of their ratios, and of their differences."""
        r = bench.Results()
        for round_, (api, file) in enumerate(((2, 1), (6, 4), (9, 3))):
            r.add(("fill", 1), "api", round_, api)
            r.add(("fill", 1), "file", round_, file)
        self.assertEqual(bench.cell(r.of(("fill", 1), "api")), "6.00 ±58%")
        self.assertEqual(bench.times(r.ratios(("fill", 1), "api", "file")), "2.00 ±38%")
        self.assertEqual(bench.more([1.0, 2.0, 6.0], 1, "µs"), "+2.0 ±2.5 µs")
        table, _ = bench.memory_table(r, [sides.KernelFile, sides.Api], bench.WORKS)
        self.assertRegex(table[2], r"^fill +3\.00 ±50% +6\.00 ±58% +2\.00 ±38% +≤ 0\.67 missed$")

    def test_beside_the_device(self):
        """Of a page that was read, and of one read that nobody slept for."""
        values = {(("seqread", 1), "api"): 3.0, (("seqread", 1), "device"): 3.5,
                  (("reads of seqread", 1), "api"): 0.5,
                  (("randread", 1), "api"): 45.0, (("misses of randread", 1), "api"): 0.75,
                  (("randread", 1), "device"): 90.0, (("randread-polled", 1), "device"): 47.0}
        r = results(values)
        self.assertEqual(bench.beside_device(r, ("seqread", 1)),
                         ("1.71 a page read", "≤ 1.25 missed", True))
        self.assertEqual(bench.beside_device(r, ("randread", 1)),
                         ("+13.0 µs a miss", "≤ +12 µs missed", True))
        table, _ = bench.memory_table(r, [sides.Api, device.Device], bench.WORKS)
        line = [row for row in table if row.startswith("random read, 1 thread, polled")]
        self.assertIn("47.00", line[0])
        del values[("randread-polled", 1), "device"]
        self.assertEqual(bench.beside_device(results(values), ("randread", 1)),
                         ("-", "≤ +12 µs not measured", True))


class Used(Case):
    def test_of_a_tree(self):
        busy = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"
        _, used = sides.run(["sh", "-c", "; ".join([f"({busy})"] * 5)])
        _, once = sides.run(["sh", "-c", f"({busy})"])
        self.assertGreater(once.cpu, 0)
        self.assertGreater(used.cpu, once.cpu)
        self.assertIsNone(used.peak)

    def test_of_a_worker(self):
        script(self.dir / "tests/bench/bench-worker", "echo row fill 1 2.5")
        r = bench.Results()
        with mock.patch.object(os, "sync") as sync:
            bench.measure_sides(self.setup_of("--mib", "8"), [sides.Side], bench.Rounds(3, 0), r)
        self.assertEqual(sync.call_count, 3)
        self.assertEqual(len(r.of(("CPU", "s"), "native")), 3)
        table, _ = bench.memory_table(r, [sides.Side], bench.WORKS)
        self.assertTrue(table[-2].startswith("peak memory, MiB"))
        self.assertRegex(table[-1], r"^CPU time, s +\d")

    def test_of_programs_that_page(self):
        """Every side of faultline shares one limit among its processes, and all are counted."""
        script(self.dir / "src/cli/faultline", f'echo "$@" >>{self.dir}/said\n'
               'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
        program = programs.Program(self.setup_of(), 1)
        program.command = lambda: ["true"]
        group = mock.Mock(**{"peak.return_value": 5 * sides.MIB})
        group.enter = lambda: script(self.dir / "entered", "")
        r = bench.Results()
        with mock.patch.object(paged, "program_of", lambda *_: program), \
                mock.patch.object(paged, "need", lambda _: 64 * sides.MIB), \
                mock.patch.object(sides, "counting_group", lambda _: group), \
                mock.patch.object(os, "sync") as sync:
            paged.measure(program.setup, "paged-sort", 1, ["native", "run", "noswap", "both"], r,
                          bench.Rounds(2, 0), lambda _: None)
        self.assertFalse({**r.failed, **r.why})
        self.assertEqual(sync.call_count, 8)
        self.assertEqual(group.remove.call_count, 8)
        self.assertTrue((self.dir / "entered").exists())
        said = (self.dir / "said").read_text(encoding="utf-8").splitlines()
        self.assertEqual(len(said), 6)
        for line in said:
            self.assertIn(" --limit-group ", line)
        for side in ("native", "run", "noswap", "both"):
            self.assertEqual(len(r.of(("sort", "CPU"), side)), 2)
            self.assertEqual(r.of(("sort", "peak"), side), {0: 5, 1: 5})
        r.lines.append("sort, file: out of memory, and woken again, 7 times")
        _, text = self.status({"paged-sort": r}, "--sides", "native,run,noswap,both")
        self.assertIn("woken again, 7 times", text)
        self.assertRegex(text, r"\nsort: CPU time, s +\d")
        self.assertRegex(text, r"\nsort: peak memory, MiB +5")


    def test_a_program_that_fails(self):
        """What it leaves in its group is ended, so that the next side has one."""
        child = self.enterContext(subprocess.Popen(["sleep", "1000"]))
        group = sides.Cgroup.__new__(sides.Cgroup)
        group.dir = self.dir / "group"
        group.dir.mkdir()
        (group.dir / "cgroup.procs").write_text(f"{child.pid}\n", encoding="utf-8")
        group.end_all()
        self.assertEqual(child.wait(), -signal.SIGKILL)
        group.end_all()  # of who is gone already
        program = mock.Mock(**{"seconds.side_effect": sides.Failed("no")})
        plain = paged.Plain("run", self.setup_of(), [])
        group = mock.Mock()
        with mock.patch.object(sides, "counting_group", lambda _: group), \
                self.assertRaises(sides.Failed):
            plain.seconds(program)
        self.assertEqual(group.mock_calls, [mock.call.end_all(), mock.call.remove()])


    def test_a_server_that_does_not_fit(self):
        """Its own line says why it ended; who asks it only sees that it has."""
        # at once: who reads the first line may end it
        script(self.dir / "redis-server", r"printf 'Ready to accept connections\n"
               r"faultline: out of memory: 2 MiB\n'; sleep 1000 & wait")
        script(self.dir / "redis-benchmark", "echo closed >&2; exit 1")
        path = f"{self.dir}:{os.environ['PATH']}"
        with mock.patch.dict(os.environ, {"PATH": path}), \
                mock.patch.object(sides, "counting_group", lambda _: None), \
                self.assertRaises(paged.DoesNotFit):
            setup = self.setup_of()
            paged.NoArea("noswap", setup, []).seconds(programs.Redis(setup, 1))


class Kept(Case):
    def state(self, *words):
        """Two runs, the second with words: how often there was something to measure."""
        measured = []

        def measure_part(part, *_):
            measured.append(part)
            return results({("sort", "run"): 1})

        for more in ((), words):
            args = self.arguments("--parts", "paged-sort", "--state", str(self.dir / "state"),
                                  *more)
            with mock.patch.object(bench, "measure_part", measure_part), \
                    contextlib.redirect_stdout(io.StringIO()):
                bench.measure(args, self.dir)
        return len(measured)

    def test_the_same(self):
        self.assertEqual(self.state(), 1)

    def test_other_options(self):
        for words in (("--mib", "128"), ("--limit-mib", "9"), ("--content", "soft"),
                      ("--ops", "99"), ("--sides", "run")):
            self.assertEqual(self.state(*words), 2, words)
            said = sys.stderr.getvalue()
            self.assertIn("measured anew", said)
            self.assertIn(words[0], said)

    def test_another_build(self):
        script(self.dir / "src/cli/faultline", "exit 1")
        of = bench.fingerprint(self.arguments(), self.dir)
        script(self.dir / "src/cli/faultline", "exit 2")
        now = bench.fingerprint(self.arguments(), self.dir)
        self.assertNotEqual(of["build"], now["build"])
        bench.keep(self.dir / "state", "memory", of, bench.Results())
        self.assertIsNone(bench.kept(self.dir / "state", "memory", now))
        self.assertIsNotNone(bench.kept(self.dir / "state", "memory", of))

    def test_other_scripts(self):
        scripts, bench.SCRIPTS = bench.SCRIPTS, self.dir
        self.addCleanup(setattr, bench, "SCRIPTS", scripts)
        script(self.dir / "works.py", "one")
        of = bench.fingerprint(self.arguments(), self.dir)
        script(self.dir / "works.py", "one and two")
        now = bench.fingerprint(self.arguments(), self.dir)
        self.assertEqual([k for k in of if of[k] != now[k]], ["scripts"])

    def test_what_does_not_say(self):
        (self.dir / "memory.json").write_text(bench.json.dumps(bench.Results().saved()),
                                              encoding="utf-8")
        of = bench.fingerprint(self.arguments(), self.dir)
        self.assertIsNone(bench.kept(self.dir, "memory", of))


class Device(Case):
    def test_who_measures_what(self):
        ran = []

        def run(command, *_):
            ran.append([str(c) for c in command])
            if command[0] == "fio":
                return '{"jobs": [{"read": {"iops": 1, "bw_bytes": 1}}]}', None
            return "".join(f"row {n} 1.0 2\n" for n in ran[-1][4:]), None

        setup = types.SimpleNamespace(program=lambda name: name)
        for installed in (True, False):
            ran.clear()
            with mock.patch.object(sides, "run", run), \
                    mock.patch.object(device.shutil, "which", lambda _: installed):
                rows = device.measure(setup, self.dir / "file", 1, 1, device.TITLES)
                self.assertEqual([row[0] for row in rows], list(device.TITLES))
                by_fio = [c for c in ran if c[0] == "fio"]
                self.assertEqual(len(by_fio), 3 if installed else 0)
                self.assertFalse(any("seqread" in c[1] or "polled" in c[1] for c in by_fio))
                ran.clear()
                device.measure(setup, self.dir / "file", 1, 1, ["randread-8"])
                self.assertEqual([c[0] for c in ran], ["fio" if installed else "bench-device"])

    def test_machine(self):
        said = "\n".join(device.machine(self.dir))
        for what in ("memory control groups ", "MGLRU ", "rotational ", "read_ahead_kb ",
                     "virtualisation "):
            self.assertRegex(said, what + r"\w")


if __name__ == "__main__":
    unittest.main()
