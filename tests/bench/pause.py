# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a program stands for a snapshot, beside fork(2): what pause.c does, in rounds."""

import sides

SIDES = {"fork": "fork(2)", "snapshot": "snapshot", "first": "first snapshot"}
WRITTEN = {"none": "nothing", "few": "64 pages", "all": "all pages"}
# title, unit
WHAT = {
    "call": ("the call", "ms"),
    "pause": ("nothing is answered", "ms"),
    "stall": ("longest write", "ms"),
    "early": ("writes to pages protected before (number)", "count"),
}
ROWS = {f"{what}-{at}": (f"{title}, {written} written", unit)
        for what, (title, unit) in WHAT.items() for at, written in WRITTEN.items()
        if at != "none" or what in ("call", "pause")}

# The most that it may take beside fork(2).
GOALS = {"call": 1.0, "pause": 1.0}


def measure(setup, mib, results, round_):
    """One round."""
    try:
        out, _ = sides.run([setup.program("bench-pause"), mib])
    except sides.Failed as e:
        results.failed["pause"] = str(e)
        return
    for _, row, side, value in map(str.split, out.splitlines()):
        results.add(row, side, round_, float(value))
