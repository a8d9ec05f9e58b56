# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the machine is, and what its disk gives without any paging."""

import json
import os
import shutil

import sides

TITLES = {
    "randread-1": "4 KiB random read, depth 1",
    "randread-32": "4 KiB random read, depth 32",
    "seqread": "1 MiB sequential read",
}


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


def machine(work):
    """Lines that say where the figures are from."""
    cpu = "?"
    for line in sides.read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
    total = int(sides.read("/proc/meminfo", "MemTotal: 0").split()[1]) >> 10
    device, kind = mounted_on(str(work))
    name = os.path.basename(os.path.realpath(device))
    scheduler = chosen(sides.read(f"/sys/class/block/{name}/queue/scheduler"))
    vm = "/sys/kernel/mm/transparent_hugepage/enabled"
    on = sides.swaps()
    lines = [
        f"machine: {os.cpu_count()} CPUs ({cpu}), {total} MiB of memory, "
        f"Linux {os.uname().release}",
        f"disk: {device}, {kind}, scheduler {scheduler}; areas below {work.parent}",
        f"kernel: transparent huge pages {chosen(sides.read(vm))}, "
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


def fio(work, mib, seconds):
    """Rows (name, microseconds an operation, MiB/s) by fio(1)."""
    rows = []
    for name, rw, bs, depth in (("randread-1", "randread", "4k", 1),
                                ("randread-32", "randread", "4k", 32),
                                ("seqread", "read", "1m", 4)):
        out, _ = sides.run(["fio", f"--name={name}", f"--filename={work}/fio", f"--size={mib}m",
                            "--direct=1", "--ioengine=io_uring", f"--rw={rw}", f"--bs={bs}",
                            f"--iodepth={depth}", "--time_based", f"--runtime={seconds}",
                            "--randrepeat=0", "--output-format=json"])
        job = json.loads(out[out.index("{"):])["jobs"][0]["read"]
        rows.append((name, 1e6 / job["iops"], job["bw_bytes"] / sides.MIB))
    os.unlink(f"{work}/fio")
    return rows


def probe(setup, mib, seconds):
    """The same rows by the built-in probe."""
    out, _ = sides.run([setup.program("bench-device"), setup.work, mib, seconds])
    lines = map(str.split, out.splitlines())
    return [(name, float(us), float(rate)) for _, name, us, rate in lines]


def measure(setup, mib, seconds):
    """(who measured, rows)."""
    if shutil.which("fio"):
        return "fio", fio(setup.work, mib, seconds)
    return "built-in probe", probe(setup, mib, seconds)
