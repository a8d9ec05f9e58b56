# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sides of the benchmark: who pages the worker's memory, and what each needs.

Everything that outlives a process (swap that is on, control groups, a zram
device, files) carries the name of one work directory, which is locked while
its owner lives.  It is given back when the benchmark ends, whatever way; what
a killed one left is found by the next start, in sweep().
"""

import collections
import contextlib
import fcntl
import mmap
import os
import pathlib
import resource
import select
import shutil
import signal
import subprocess
import tempfile

PREFIX = "faultline-bench."
MIB = 1 << 20
LOOK = 0.005  # seconds from one look at a group to the next
STOPS_MAX = 2000  # looks that find a program stopped, until that is its end
WORKER_TIMEOUT = 1800  # seconds; a hang is a failure, not a wait
REFUSALS = (1, 125)  # exit status of a worker, and of `faultline run`, that could not begin


class NotMeasured(Exception):
    """A side cannot run here; the text says why."""


class Failed(Exception):
    """A side ran and was wrong; the text says how."""

    refused = False  # one of our programs ended with its one line, before anything was done


# Bytes that a process and what it started took at most (None: nobody counted); seconds of CPUs.
Used = collections.namedtuple("Used", "peak cpu")


def read(path, default=""):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return default


def write(path, text):
    pathlib.Path(path).write_text(str(text))


def call(*command):
    """Run a system tool; its complaint is the reason why a side is not measured."""
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as e:
        raise NotMeasured(f"{command[0]}: {e.strerror}") from e
    if p.returncode:
        lines = p.stdout.strip().splitlines()
        raise NotMeasured(f"{command[0]}: {lines[-1] if lines else f'exit {p.returncode}'}")
    return p.stdout


# The memory controller, version 1 or 2.

def cgroup_root():
    v1 = pathlib.Path("/sys/fs/cgroup/memory")
    if (v1 / "memory.limit_in_bytes").exists():
        return 1, v1
    v2 = pathlib.Path("/sys/fs/cgroup")
    if "memory" in read(v2 / "cgroup.controllers").split():
        return 2, v2
    raise NotMeasured("no memory control group is mounted")


class Cgroup:
    """One control group for one process: a limit (or none), and its peak."""

    stops = 0  # how often kept_fresh() found its program stopped, out of memory

    def __init__(self, token, limit):
        self.version, root = cgroup_root()
        self.dir = root / token
        try:
            if self.version == 2:
                write(root / "cgroup.subtree_control", "+memory")
            self.dir.mkdir()
        except OSError as e:
            raise NotMeasured(f"control group {self.dir}: {e.strerror}") from e
        try:
            if limit:
                write(self.dir / ("memory.max" if self.version == 2 else "memory.limit_in_bytes"),
                      limit)
        except OSError as e:
            self.remove()
            raise NotMeasured(f"limit of {self.dir}: {e.strerror}") from e

    def enter(self):
        write(self.dir / "cgroup.procs", os.getpid())

    @contextlib.contextmanager
    def kept_fresh(self):
        """Keep a small group from being ended for want of memory that it could have.

        The kernel's reclaim decides by counters that may be two seconds old whether pages are
        to leave the active list.  All of a small group changes in that time: reclaim then finds
        the other list empty, leaves the active one as it is, and the group is out of memory
        with swap free and nothing under way.  Who reads memory.stat brings the counters up to
        date.  In version 1 the kernel kills nobody meanwhile, but stops who finds no memory; it
        goes on when the limit is a page higher, for one system call.
        """
        on, end = os.pipe()
        heard, told = os.pipe()
        pid = os.fork()  # no thread: subprocess forks, too
        if not pid:
            try:
                os.close(end)
                os.write(told, str(self.look(on)).encode())
            finally:
                os._exit(0)
        os.close(on)
        os.close(told)
        try:
            yield
        finally:
            os.close(end)
            self.stops += int(os.read(heard, 32) or 0)
            os.close(heard)
            os.waitpid(pid, 0)

    def look(self, on):
        """Do that until nobody has the other end of `on`: how often there was a stop."""
        limit, control = self.dir / "memory.limit_in_bytes", self.dir / "memory.oom_control"
        usual, stops, in_a_row = int(read(limit, "0")), 0, 0
        if self.version == 1:
            write(control, 1)
        with open(self.dir / "memory.stat", "rb", buffering=0) as stat:
            while not select.select([on], [], [], LOOK)[0]:
                os.pread(stat.fileno(), 1, 0)
                if self.version != 1 or "under_oom 1" not in read(control):
                    in_a_row = 0
                    continue
                stops += 1
                in_a_row += 1
                if in_a_row == STOPS_MAX:
                    write(control, 0)  # there is no memory indeed
                for size in (usual + mmap.PAGESIZE, usual):
                    with contextlib.suppress(OSError):
                        write(limit, size)
        return stops

    def peak(self):
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return int(read(self.dir / name, "0"))

    def end_all(self):
        """Kill whom a failure has left in it, and wait until they are gone."""
        for pid in map(int, read(self.dir / "cgroup.procs").split()):
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                with open(fd, "rb", buffering=0):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    select.select([fd], [], [])

    def remove(self):
        with contextlib.suppress(FileNotFoundError):
            self.dir.rmdir()


def counting_group(token):
    """A control group without a limit, for the peak; None where there can be none."""
    try:
        return Cgroup(token, 0)
    except NotMeasured:
        return None


# What is to be cleaned up.

def swaps():
    """The swap that is on, as /proc/swaps names it."""
    return [line.split()[0] for line in read("/proc/swaps").splitlines()[1:]]


def zram_remove(number):
    with contextlib.suppress(OSError):
        write(f"/sys/block/zram{number}/reset", 1)
    with contextlib.suppress(OSError):
        write("/sys/class/zram-control/hot_remove", number)


def release(path):
    """Give back all that carries a work directory's name, and the directory."""
    zram = read(path / "zram")
    for on in swaps():
        if on.startswith(f"{path}/") or (zram and on == f"/dev/zram{zram}"):
            call("swapoff", on)
    if zram:
        zram_remove(zram)
    with contextlib.suppress(NotMeasured):
        group = cgroup_root()[1] / path.name
        for pid in read(group / "cgroup.procs").split():
            os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            group.rmdir()
    shutil.rmtree(path)


def lock(path):
    """Lock a work directory; None when its owner lives."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def sweep(parent, say):
    for path in pathlib.Path(parent).glob(PREFIX + "*"):
        try:
            fd = lock(path)
        except OSError:
            continue
        if fd is not None:
            say(f"cleaning up what an earlier run left: {path}")
            release(path)
            os.close(fd)


@contextlib.contextmanager
def work_dir(parent, say):
    sweep(parent, say)
    path = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    fd = lock(path)
    try:
        yield path
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)
        release(path)
        os.close(fd)


# Processes.

def clean_env():
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("FAULTLINE_") and k != "LD_PRELOAD"}
    env["LC_ALL"] = "C"
    return env


def cpu_of_ended():
    """Seconds of CPUs, of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(command, group=None, env=None):
    """Run one process to its end: (standard output, Used)."""
    enter, cpu = group.enter if group else None, cpu_of_ended()
    try:
        p = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=env or clean_env(), preexec_fn=enter)
    except OSError as e:
        raise Failed(f"{command[0]}: {e.strerror}") from e
    with p:
        try:
            out, err = p.communicate(timeout=WORKER_TIMEOUT)
        except BaseException as e:
            p.kill()
            if isinstance(e, subprocess.TimeoutExpired):
                raise Failed(f"no end after {WORKER_TIMEOUT} s") from e
            raise
    if p.returncode:
        lines = err.strip().splitlines()
        last = lines[-1] if lines else "no message"
        how = f"signal {-p.returncode}" if p.returncode < 0 else f"exit {p.returncode}"
        e = Failed(f"{how}: {last}")
        e.refused = p.returncode in REFUSALS and last.startswith("faultline: ")
        raise e
    return out, Used(group.peak() if group else None, cpu_of_ended() - cpu)


def in_turn(those, round_):
    """The order of a round: each begins with another one, every second goes backwards, so that
    nobody always comes behind the same one."""
    turn = round_ // 2 % len(those) if those else 0
    order = [*those[turn:], *those[:turn]]
    return order[::-1] if round_ % 2 else order


def warm(size):
    """Touch memory and free it: a virtual machine may have to ask its host for every
    page that it has not used for a while, and that is nobody's paging."""
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
        m[::mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)


# The sides.

class Side:
    """Native: nobody pages.  The others differ in what they override."""

    key, title = "native", "native"
    limited = False
    rooted = False  # cannot do without root

    def __init__(self, setup):
        self.setup_ = setup  # bench.Setup: sizes, directories, programs, options

    def prepare(self):
        """Once, before the first round; raises NotMeasured, or Failed."""
        if self.rooted and os.geteuid():
            raise NotMeasured("needs root (control groups and swapon)")
        try:
            run(self.command())  # nothing to do: memory is opened and closed
        except Failed as e:
            if not e.refused:
                raise
            raise NotMeasured(str(e)) from e

    def command(self, *args):
        return [self.setup_.program("bench-worker"), *args]

    def on(self):
        """Before each run."""

    def off(self):
        """After each run, also a failed one."""

    def end(self):
        """After the last run."""

    def measure(self, seed):
        s = self.setup_
        group = Cgroup(s.work.name, s.limit) if self.limited else counting_group(s.work.name)
        try:
            self.on()
            warm(s.size)
            return run(self.command("--mib", s.size // MIB, "--ops", s.ops, "--seed", seed,
                                    "--content", s.content, "--last-part", s.last_part,
                                    "--spread", s.spread,
                                    *(["--works", s.works] if s.works else [])), group)
        finally:
            self.off()
            if group:
                group.remove()


class KernelFile(Side):
    key, title = "file", "kernel swap, file"
    limited = rooted = True
    device = None

    def beside(self):
        """Bytes that its swap took at most, which are not its control group's."""
        return 0

    def prepare(self):
        super().prepare()
        cgroup_root()
        self.device = self.setup_.work / "swapfile"
        # The limit's worth on top: the kernel frees slots late.
        bytes_ = self.setup_.size + self.setup_.limit
        try:
            with open(self.device, "xb") as f:
                os.fchmod(f.fileno(), 0o600)
                os.posix_fallocate(f.fileno(), 0, bytes_)
        except OSError as e:
            raise NotMeasured(f"{self.device}: {e.strerror}") from e
        call("mkswap", str(self.device))
        self.try_()

    def try_(self):
        self.on()
        self.off()

    def on(self):
        call("swapon", "--priority", "32767", str(self.device))

    def off(self):
        if str(self.device) in swaps():
            call("swapoff", str(self.device))

    def end(self):
        if self.device:
            self.device.unlink(missing_ok=True)


class KernelZram(KernelFile):
    key, title = "zram", "kernel swap, zram"
    sys = None

    def on(self):
        write(self.sys / "mem_used_max", 0)
        super().on()

    def beside(self):
        return int(read(self.sys / "mm_stat").split()[4])

    def measure(self, seed):
        out, used = super().measure(seed)
        return out, used._replace(peak=used.peak + self.beside())

    def prepare(self):
        Side.prepare(self)
        cgroup_root()
        if not os.path.exists("/sys/class/zram-control/hot_add"):
            try:
                call("modprobe", "zram")
            except NotMeasured as e:
                raise NotMeasured("the kernel has no zram") from e
        number = read("/sys/class/zram-control/hot_add")
        if not number:
            raise NotMeasured("no zram device to be had")
        write(self.setup_.work / "zram", number)
        self.sys = sys = pathlib.Path(f"/sys/block/zram{number}")
        algorithms = read(sys / "comp_algorithm").replace("[", "").replace("]", "").split()
        if "lz4" not in algorithms:
            raise NotMeasured(f"zram knows no lz4, only {' '.join(algorithms)}")
        write(sys / "comp_algorithm", "lz4")
        write(sys / "disksize", self.setup_.size + self.setup_.limit)
        self.device = pathlib.Path(f"/dev/zram{number}")
        call("mkswap", str(self.device))
        self.try_()

    def end(self):
        if self.sys:
            zram_remove(read(self.setup_.work / "zram"))
            (self.setup_.work / "zram").unlink()


class Api(Side):
    key, title = "api", "faultline API"

    def command(self, *args):
        s = self.setup_
        pagers = ["--pagers", s.pagers] if s.pagers else []
        return [s.program("bench-worker-faultline"), "--limit-mib", s.limit // MIB,
                "--swap-dir", s.work, "--engine", s.engine, "--wp", s.wp, *pagers, *args]


class InThread(Api):
    """The same, faults answered in the thread that takes them."""

    key, title = "inthread", "faultline, in-thread"

    def command(self, *args):
        return [*super().command(*args), "--in-thread"]


class Compressed(Api):
    key, title = "compressed", "faultline, compressed"

    # What lz4 makes of a page of each content, with what a pool adds to it.
    PACKED = {"word": 0.02, "soft": 0.39, "whole": 1}

    def command(self, *args):
        """zram's memory is not the control group's, the pool's is of the limit: as much on top."""
        s = self.setup_
        pool = max(int(s.size * self.PACKED[s.content]), 4 * MIB)
        return [*super().command(*args), "--limit-mib", (s.limit + pool) // MIB,
                "--pool-mib", (s.limit + pool) * 3 // 4 // MIB]


class NoSwap(Compressed):
    """The same, and there is no area."""

    key, title = "noswap", "faultline, compressed only"

    def prepare(self):
        if self.setup_.content == "whole":
            raise NotMeasured("pages that do not compress have nowhere to go")
        super().prepare()

    def command(self, *args):
        return [*super().command(*args), "--no-swap"]


class Both(Api):
    """The API's side, with a pool in its limit that holds a quarter of the pages: the others
    go on to the area."""

    key, title = "both", "faultline, compressed and file"

    def command(self, *args):
        s = self.setup_
        pool = int(s.size * Compressed.PACKED[s.content]) // 4
        pool = min(max(pool, MIB), s.limit // 2)
        return [*super().command(*args), "--pool-mib", max(pool // MIB, 1)]


class Run(Side):
    key, title = "run", "faultline run"

    def command(self, *args):
        s = self.setup_
        return [*s.faultline_run(s.limit), s.program("bench-worker"), *args]


ALL = (Side, KernelFile, KernelZram, Api, InThread, Compressed, NoSwap, Both, Run)
MORE = (NoSwap, Both)  # those that are to be asked for
