# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb sees memory that faultline has swapped out.

    (gdb) source /usr/local/share/faultline/faultline-gdb.py
    (gdb) fl print list->head
    (gdb) fl backtrace

The kernel lets a debugger read pages that are there, and no others.  "fl COMMAND"
runs any command of gdb; where that meets a page that is not there, it lets the
program read one byte of it, which brings the page back, and runs the command
again.  While the program does so all its threads run, the pagers among them: they
are what brings the page.

A core dump and a process that has ended have nobody to bring pages.
"""

import re

import gdb

TRIES = 10000
LOAD = b"\x0f\xb6\x07"  # movzbl (%rdi),%eax
ABSENT = re.compile(r"[Cc]annot access memory at address (0x[0-9a-f]+)")


def call(address):
    """Have the program call a function that reads the byte."""
    unwind = gdb.parameter("unwindonsignal")
    gdb.execute("set unwindonsignal on", False, True)
    try:
        gdb.parse_and_eval("((unsigned long (*)(const char *, unsigned long))strnlen)"
                           "((const char *)%d, 1)" % address)
        return True
    except gdb.error:
        return False
    finally:
        gdb.execute("set unwindonsignal %s" % ("on" if unwind else "off"), False, True)


def mappings(permissions):
    """What the program has mapped so: start and end of each."""
    with open("/proc/%d/maps" % gdb.selected_inferior().pid, encoding="utf-8") as maps:
        for words in map(str.split, maps):
            if re.match(permissions, words[1]):
                yield tuple(int(word, 16) for word in words[0].split("-"))


def load():
    """Where there is such an instruction in the program's code; search_memory() of gdb 13 errs."""
    for start, end in mappings("r.x"):
        for at in range(start, end, 1 << 16):
            try:
                found = bytes(gdb.selected_inferior().read_memory(
                    at, min(1 << 16, end - at))).find(LOAD)
            except gdb.MemoryError:
                break
            if found >= 0:
                return at + found
    return None


def register(name):
    return int(gdb.parse_and_eval("(unsigned long)$" + name))


def set_registers(values):
    gdb.newest_frame().select()
    for name, value in values.items():
        gdb.execute("set $%s = %d" % (name, value), False, True)


def step(thread, at, address):
    """
    Have the thread do one instruction that reads the byte, at `at`.

    After a call gdb puts all registers back, which gdb 13 cannot do where they are as
    large as with AMX ("Couldn't write extended state status"); here it is four that any can.
    """
    frame = gdb.selected_frame()
    gdb.newest_frame().select()
    before = {name: register(name) for name in ("rip", "rdi", "rax", "orig_rax")}
    behind = gdb.Breakpoint("*%d" % (at + len(LOAD)), internal=True)
    behind.silent = True
    behind.thread = thread.global_num
    try:
        # what it is in the middle of is no system call for now, that the kernel would begin again
        set_registers({"orig_rax": -1, "rdi": address, "rip": at})
        gdb.execute("continue", False, True)
        thread.switch()
        stopped_at = register("rip")
        if stopped_at == at:
            # the signal that it was given for this is not the program's
            gdb.execute("queue-signal 0", False, True)
        return stopped_at == at + len(LOAD)
    finally:
        behind.delete()
        thread.switch()
        set_registers(before)
        frame.select()


def bring(address):
    """Let the program read a byte; false when nobody can."""
    if gdb.selected_frame().architecture().name() != "i386:x86-64":
        return call(address)
    at = load()
    if at is None or not any(start <= address < end for start, end in mappings("r")):
        return False
    return step(gdb.selected_thread(), at, address)


class Fl(gdb.Command):
    """fl COMMAND: run a command of gdb, bringing back what faultline has swapped out."""

    def __init__(self):
        super().__init__("fl", gdb.COMMAND_DATA, gdb.COMPLETE_COMMAND)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("fl: no command is given")
        last = None
        for _ in range(TRIES):
            try:
                gdb.write(gdb.execute(argument, from_tty, True))
                return
            except gdb.error as e:
                found = ABSENT.search(str(e))
                # the same twice: it is not the pager's
                if not found or found.group(1) == last or not bring(int(found.group(1), 16)):
                    raise gdb.GdbError(str(e))
                last = found.group(1)
        raise gdb.GdbError("fl: pages leave faster than they can be read; raise the limit")


Fl()
