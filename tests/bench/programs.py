# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that fit the limit: what faultline costs when there is nothing to page.

Each runs natively and under `faultline run` with a limit that it never
reaches.  What is timed is the whole process, start to end; of redis-server, the
time that redis-benchmark takes against it.
"""

import base64
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import sides

PYTHON = """
import random
r = random.Random(1)
d = {r.getrandbits(64): r.getrandbits(64) for _ in range(%d)}
r = random.Random(1)
for _ in range(len(d)):
    k = r.getrandbits(64)
    assert d[k] == r.getrandbits(64)
"""

SQL = """
create table t(k integer primary key, a integer, b text);
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
  select i, random(), hex(randomblob(16)) from n;
create index t_a on t(a);
create index t_b on t(b);
select count(*), sum(a & 1) >= 0 from t where b > '8';
pragma integrity_check;
"""


LOOKUPS = """
create table t(k integer primary key, v blob);
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < %(rows)d)
  select i - 1, randomblob(200) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < %(ops)d)
  select count(v) from n join t on t.k = (n.i * 104729) %% %(rows)d;
update t set v = zeroblob(200) where k in (
  with recursive n(i) as (select 1 union all select i + 1 from n where i < %(ops)d / 4)
  select (i * 15485863) %% %(rows)d from n);
select count(*) from t where v = zeroblob(200);
"""


def timed(command, group=None):
    """(seconds, standard output, sides.Used) of one process."""
    start = time.monotonic()
    out, used = sides.run(command, group)
    return time.monotonic() - start, out, used


def most_resident(pid):
    """Bytes of frames that a process had at most."""
    for line in sides.read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise sides.Failed(f"/proc/{pid}/status does not tell VmHWM")


class Program:
    needs = ()
    used = None  # by the last run: sides.Used

    def __init__(self, setup, scale):
        self.setup, self.scale = setup, scale

    def prepare(self):
        for name in self.needs:
            if not shutil.which(name):
                raise sides.NotMeasured(f"{name} is not installed")

    def seconds(self, prefix, group=None):
        took, out, self.used = timed([*prefix, *self.command()], group)
        self.checked(out)
        return took

    def checked(self, out):
        """Raises Failed when what the program said is wrong."""


class Sort(Program):
    title, needs = "sort", ("sort",)

    def prepare(self):
        super().prepare()
        self.input = self.setup.work / "text"
        with open(self.input, "wb") as f:
            self.write(f, random.Random(1))

    def write(self, f, r):
        """A text, from a random number generator."""
        for _ in range(int(80 * self.scale)):
            f.write(base64.encodebytes(r.randbytes(3 << 18)))

    def command(self):
        return ["sort", "--parallel=2", "-S", "512M", "-o", "/dev/null", self.input]


class Python(Program):
    title = "python3"

    def command(self):
        return [sys.executable, "-c", PYTHON % int(1_500_000 * self.scale)]


class Sqlite(Program):
    title, needs = "sqlite3", ("sqlite3",)

    def command(self):
        return ["sqlite3", ":memory:", SQL % int(600_000 * self.scale)]


class Redis(Program):
    title, needs = "redis-server", ("redis-server", "redis-benchmark", "redis-cli")
    size = (400_000, 100, 1_000_000)  # keys, bytes of each, operations
    peak = 0  # bytes that the last server took

    @staticmethod
    def cli(socket, *words):
        return sides.run(["redis-cli", "-s", socket, *words])[0]

    def benchmark(self, socket, tests, part=1):
        """Seconds of so many of its operations."""
        keys, data, ops = self.size
        return timed(["redis-benchmark", "-s", socket, "-t", tests, "-q", "-P", "16",
                      "-n", int(ops * self.scale * part), "-r", int(keys * self.scale),
                      "-d", data])[0]

    def ask(self, socket):
        return self.benchmark(socket, "set,get")

    def seconds(self, prefix, group=None):
        """What is timed is what ask() does; what is used, by the server all the time."""
        socket = self.setup.work / "redis"
        command = [*prefix, "redis-server", "--port", "0", "--unixsocket", socket,
                   "--save", "", "--appendonly", "no", "--dir", self.setup.work]
        with subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=sides.clean_env(), start_new_session=True,
                              preexec_fn=group.enter if group else None) as server:
            try:
                last = "no message"
                for line in server.stdout:
                    last = line.strip() or last
                    if "eady to accept connections" in line:
                        break
                else:
                    raise sides.Failed(f"redis-server: {last}")
                took = self.ask(socket)
                self.peak = most_resident(server.pid)
                self.cli(socket, "shutdown", "nosave")
                server.stdout.read()
                before = sides.cpu_of_ended()
                if server.wait(60):
                    raise sides.Failed(f"redis-server: exit {server.returncode}")
                self.used = sides.Used(group.peak() if group else None,
                                       sides.cpu_of_ended() - before)
                return took
            except sides.Failed as e:
                self.kill(server)
                told = [line.strip() for line in server.stdout if line.startswith("faultline: ")]
                raise sides.Failed("; ".join([str(e), *told[-1:]])) from e
            finally:
                self.kill(server)

    @staticmethod
    def kill(server):
        """With the child that may be saving for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


class Save(Redis):
    """BGSAVE, a child that writes all keys to a file, while the server is written to."""

    title, needs = "redis-server, BGSAVE", (*Redis.needs, "redis-check-rdb")

    def ask(self, socket):
        dump = self.setup.work / "dump.rdb"
        self.benchmark(socket, "set")
        keys = int(self.cli(socket, "dbsize"))
        start = time.monotonic()
        self.cli(socket, "bgsave")
        self.benchmark(socket, "set", 0.25)
        while "rdb_bgsave_in_progress:0" not in (info := self.cli(socket, "info", "persistence")):
            time.sleep(0.01)
        took = time.monotonic() - start
        if "rdb_last_bgsave_status:ok" not in info:
            raise sides.Failed("redis-server: BGSAVE failed")
        said = sides.run(["redis-check-rdb", dump])[0]
        if f"{keys} keys read" not in said:
            raise sides.Failed(f"{dump} has other than {keys} keys: {said.strip()}")
        dump.unlink()
        return took


class Same(Program):
    """A program whose output is the same wherever it runs."""

    said = None

    def checked(self, out):
        if self.said not in (None, out):
            raise sides.Failed(f"another result than before: {out.strip()}")
        self.said = out


class Own(Same):
    """One of ours."""

    def __init__(self, setup, scale, title, name, *args):
        super().__init__(setup, scale)
        self.title, self.name, self.args = title, name, args

    def command(self):
        return [self.setup.program(self.name), *self.args]


class Lookups(Same):
    title, needs = "sqlite3, lookups and updates", ("sqlite3",)

    def command(self):
        return ["sqlite3", ":memory:", LOOKUPS % {"rows": int(300_000 * self.scale) | 1,
                                                  "ops": int(100_000 * self.scale)}]


class Empty:
    """Start-up: milliseconds of a program that does nothing."""

    title = "start-up of an empty program"

    def __init__(self, setup, runs):
        self.setup, self.runs = setup, runs

    def prepare(self):
        pass

    def seconds(self, prefix):
        out, _ = sides.run([self.setup.program("bench-startup"), self.runs, *prefix,
                            self.setup.program("bench-empty")])
        return float(out) / 1e6


def search(setup, scale):
    return Own(setup, scale, "breadth-first search", "bench-graph", "bfs", graph_size(scale))


def rank(setup, scale):
    return Own(setup, scale, "PageRank", "bench-graph", "pagerank", graph_size(scale))


def graph_size(scale):
    """Binary logarithm of its vertices."""
    return 19 if scale == 1 else 14


def stream(setup, scale):
    return Own(setup, scale, "stream", "bench-stream", 384 if scale == 1 else 24, 2)


def all_programs(setup, scale, startups):
    return [*(kind(setup, scale) for kind in (Sort, Python, Sqlite, Lookups, Redis, Save, search,
                                              rank, stream)), Empty(setup, startups)]
