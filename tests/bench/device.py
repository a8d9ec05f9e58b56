# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine is, and what its disk gives without any paging."""

import json
import os
import pathlib
import shutil
import subprocess

import sides

TITLES = {
    "randread-1": "4 KiB random read, depth 1",
    "randread-1-polled": "4 KiB random read, depth 1, polled (built-in probe)",
    "randread-8": "4 KiB random read, depth 8",
    "randread-32": "4 KiB random read, depth 32",
    "seqread": "1 MiB sequential read, into huge pages (built-in probe)",
}
# fio reads into small pages, and sleeps until a read ends.
PROBED = ("seqread", "randread-1-polled")


def mounted_on(path):
    """(device, file system) that a path lies on."""
    best = ("", "?", "?")
    for line in sides.read("/proc/self/mounts").splitlines():
        device, point, kind = line.split()[:3]
        inside = point == "/" or path == point or path.startswith(point + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, device, kind)
    return best[1:]


def chosen(text):
    """The word in brackets, as sysfs marks a choice."""
    return text[text.find("[") + 1:text.find("]")] if "[" in text else text or "?"


def cpu_info(what):
    """A line of the last CPU."""
    lines = [line for line in sides.read("/proc/cpuinfo").splitlines() if line.startswith(what)]
    return lines[-1].split(":", 1)[1].strip() if lines else ""


def virtualisation():
    """Whose machine this one is, when it is none by itself."""
    told = "none"
    if shutil.which("systemd-detect-virt"):
        told = subprocess.run(["systemd-detect-virt", "--vm"], stdout=subprocess.PIPE, text=True,
                              check=False).stdout.strip()
    if told != "none":
        return told
    inside = "some" if "hypervisor" in cpu_info("flags").split() else "none"
    return sides.read("/sys/hypervisor/type") or inside


def disk_queue(device):
    """Where sysfs has the queue of a disk; that of a partition is its disk's."""
    path = pathlib.Path("/sys/class/block", os.path.basename(os.path.realpath(device))).resolve()
    return (path.parent if (path / "partition").exists() else path) / "queue"


def group_version():
    try:
        return f"version {sides.cgroup_root()[0]}"
    except sides.NotMeasured:
        return "none"


class Machine:
    """What stays as it is while the machine runs; what: without its disk."""

    def __init__(self, work):
        total = int(sides.read("/proc/meminfo", "MemTotal: 0").split()[1]) >> 10
        device, kind = mounted_on(str(work))
        queue = disk_queue(device)
        self.what = (f"{os.cpu_count()} CPUs ({cpu_info('model name') or '?'}), {total} MiB of "
                     f"memory, Linux {os.uname().release}, virtualisation {virtualisation()}")
        self.disk = (f"{device}, {kind}, scheduler {chosen(sides.read(queue / 'scheduler'))}, "
                     f"rotational {sides.read(queue / 'rotational', '?')}, "
                     f"read_ahead_kb {sides.read(queue / 'read_ahead_kb', '?')}; "
                     f"areas below {work.parent}")


def machine(work):
    """Lines that say where the figures are from."""
    vm = "/sys/kernel/mm/transparent_hugepage/enabled"
    on, known = sides.swaps(), Machine(work)
    lines = [
        f"machine: {known.what}",
        f"disk: {known.disk}",
        f"kernel: memory control groups {group_version()}, "
        f"MGLRU {sides.read('/sys/kernel/mm/lru_gen/enabled', 'none')}, "
        f"transparent huge pages {chosen(sides.read(vm))}, "
        f"page-cluster {sides.read('/proc/sys/vm/page-cluster')}, "
        f"swappiness {sides.read('/proc/sys/vm/swappiness')}, "
        f"zswap {sides.read('/sys/module/zswap/parameters/enabled', 'N')}, "
        f"load {sides.read('/proc/loadavg').split()[0]}",
    ]
    if on:
        lines.append(f"other swap that is on: {' '.join(on)}")
    if float(sides.read("/proc/loadavg", "0").split()[0]) > os.cpu_count() / 4:
        lines.append("BUSY: others use this machine; compare only figures of one round")
    return lines


def fio(path, mib, seconds, names):
    """Rows (name, microseconds an operation, MiB/s) of random reads by fio(1)."""
    rows = []
    for name in names:
        out, _ = sides.run(["fio", f"--name={name}", f"--filename={path}", f"--size={mib}m",
                            "--direct=1", "--ioengine=io_uring", "--rw=randread", "--bs=4k",
                            f"--iodepth={name.split('-')[1]}", "--time_based",
                            f"--runtime={seconds * 1000:.0f}ms", "--randrepeat=0",
                            "--output-format=json"])
        job = json.loads(out[out.index("{"):])["jobs"][0]["read"]
        rows.append((name, 1e6 / job["iops"], job["bw_bytes"] / sides.MIB))
    return rows


def probe(program, path, mib, seconds, names):
    """The same rows by the built-in probe."""
    out, _ = sides.run([program, path, mib, seconds, *names])
    lines = map(str.split, out.splitlines())
    return [(name, float(us), float(rate)) for _, name, us, rate in lines]


def who():
    return "fio" if shutil.which("fio") else "built-in probe"


def measure(setup, path, mib, seconds, names):
    """Rows of these names; the file is made where there is none and stays."""
    by_fio = [n for n in names if who() == "fio" and n not in PROBED]
    ours = [n for n in names if n not in by_fio]
    rows = probe(setup.program("bench-device"), path, mib, seconds, ours) if ours else []
    rows += fio(path, mib, seconds, by_fio)
    return sorted(rows, key=lambda row: list(names).index(row[0]))


class Device(sides.Side):
    """Nobody's paging: what the disk gives to who reads a file as large as the memory, with
    as many reads in flight as there are threads; by one thread also polled, as a pager does."""

    key, title = "device", "device, O_DIRECT"

    @property
    def path(self):
        return self.setup_.work / "device"

    def prepare(self):
        pass

    def measure(self, seed):
        s, names = self.setup_, {}
        for work in s.works.split(","):
            name, _, threads = work.partition(":")
            if name == "randread":
                names[f"randread-{threads}"] = f"row randread {threads}"
                if f"randread-{threads}-polled" in PROBED:
                    names[f"randread-{threads}-polled"] = f"row randread-polled {threads}"
            elif name == "seqread" and threads in ("", "1"):
                names["seqread"] = "row seqread 1"
        if not names:
            return "", None
        pages = {name: 256 if name == "seqread" else 1 for name in names}
        return "".join(f"{names[name]} {us / pages[name]}\n" for name, us, _ in measure(
            s, self.path, s.size // sides.MIB, s.device_seconds, names)), None

    def end(self):
        self.path.unlink(missing_ok=True)
