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
ABSENT = re.compile(r"[Cc]annot access memory at address (0x[0-9a-f]+)")


def bring(address):
    """Let the program read a byte; false when nobody can."""
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
