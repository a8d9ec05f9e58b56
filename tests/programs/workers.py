# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work of several processes on one large list: multiprocessing and os.fork.

    workers.py MIB
"""

import hashlib
import multiprocessing as mp
import os
import random
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

ENTRY = 300
data = []


def make(mib):
    r = random.Random(3)
    return [r.randbytes(200 + i % 50) for i in range((mib << 20) // ENTRY)]


def digest(items):
    h = hashlib.md5()
    for b in items:
        h.update(b)
    return h.hexdigest()


def part(n):
    return n, digest(data[n::8])


def spoil(n):
    for i in range(n, len(data), 3):
        data[i] = b"spoilt %d" % n
    return n, digest(data)


def add(counter, array, n):
    for i in range(n, len(data), 4):
        with counter.get_lock():
            counter.value += data[i][0]
        array[n] += 1


def answer(connection, queue):
    while (i := connection.recv()) is not None:
        connection.send(data[i])
    queue.put(digest(data[::5]))


def fresh(n):
    """In a spawned process: nothing is inherited."""
    mine = make(6)
    return n, len(data), digest(mine[n::2])


def deeper(level):
    if level == 0:
        return digest(data[::11])
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        data[0] = b"level %d" % level
        os.write(w, deeper(level - 1).encode())
        os._exit(level)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    _, status = os.waitpid(pid, 0)
    return f"{text}.{os.waitstatus_to_exitcode(status)}"


def main():
    data.extend(make(int(sys.argv[1])))
    whole = digest(data)
    print("entries", len(data), whole)

    fork = mp.get_context("fork")
    with fork.Pool(4) as pool:
        print(sorted(pool.map(part, range(8))))
    with fork.Pool(3, maxtasksperchild=1) as pool:  # each spoils a fresh copy
        print(sorted(pool.imap_unordered(spoil, range(6), chunksize=1)))
    print("parent", digest(data) == whole)

    counter, array = fork.Value("Q", 0), fork.Array("L", 4)
    workers = [fork.Process(target=add, args=(counter, array, n)) for n in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    print("counter", counter.value == sum(b[0] for b in data), sum(array) == len(data))

    here, there = fork.Pipe()
    queue = fork.Queue()
    worker = fork.Process(target=answer, args=(there, queue))
    worker.start()
    for i in range(0, len(data), 97):
        here.send(i)
        if here.recv() != data[i]:
            print("entry", i, "differs")
    here.send(None)
    print("queue", queue.get() == digest(data[::5]))
    worker.join()
    print("exit", worker.exitcode)

    with fork.Manager() as manager:
        shared = manager.dict()
        workers = [fork.Process(target=shared.__setitem__, args=(n, n * n)) for n in range(5)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        print("manager", sorted(shared.items()))

    with ProcessPoolExecutor(2, mp_context=mp.get_context("spawn")) as pool:
        print("spawn", list(pool.map(fresh, range(2))))

    print("depth", deeper(8))

    child = os.fork()
    if child == 0:
        signal.pause()
    os.kill(child, signal.SIGKILL)
    print("killed", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print("end", digest(data) == whole)
    return 3


if __name__ == "__main__":
    sys.exit(main())
