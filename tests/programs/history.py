# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write the history of a made repository, for git fast-import.

    history.py COMMITS

Files of text change a little from commit to commit; two branches part and
merge; a few blobs are large.
"""

import random
import sys

commits = int(sys.argv[1])
r = random.Random(11)
out = sys.stdout.buffer
words = ["".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=r.randrange(2, 11))) for _ in range(4000)]
files = {}


def line():
    return " ".join(r.choices(words, k=r.randrange(3, 14)))


def data(b):
    out.write(b"data %d\n" % len(b) + b + b"\n")


def commit(mark, branch, parents, changed):
    out.write(f"commit refs/heads/{branch}\nmark :{mark}\n".encode())
    out.write(f"committer A U Thor <author@example.com> {1600000000 + mark * 60} +0000\n".encode())
    data(f"Change {len(changed)} files, {mark}\n\n{line()}\n".encode())
    for kind, parent in zip(("from", "merge"), parents):
        out.write(f"{kind} :{parent}\n".encode())
    for name in changed:
        out.write(f"M 100644 inline {name}\n".encode())
        data("\n".join(files[name]).encode() + b"\n")


def edit(name):
    text = files[name]
    for _ in range(r.randrange(1, 30)):
        at = r.randrange(len(text))
        text[at : at + r.randrange(3)] = [line() for _ in range(r.randrange(1, 4))]


for i in range(60):
    files[f"dir{i % 7}/file{i}.txt"] = [line() for _ in range(r.randrange(100, 900))]
files["large.txt"] = [line() for _ in range(60000)]

commit(1, "main", (), list(files))
last = {"main": 1, "side": 1}
for mark in range(2, commits + 2):
    branch = "side" if mark % 5 == 0 else "main"
    parents = [last[branch]]
    if mark % 20 == 0:
        parents.append(last["main"])
    changed = r.sample([f for f in files if f != "large.txt"], r.randrange(1, 9))
    if mark % 16 == 0:
        changed.append("large.txt")
    for name in changed:
        edit(name)
    commit(mark, branch, parents, changed)
    last[branch] = mark
out.write(b"done\n")
