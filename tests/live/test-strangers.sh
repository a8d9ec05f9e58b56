#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Anybody can send to the abstract sockets of a paged program, and with a message a descriptor
# whose close(2) takes long.  The program's faults are answered meanwhile: in one that can be
# asked for a snapshot, in a child of it, and in a member of a group.
. "${FL_SRC:-.}/tests/functions.sh"

bare_environment
use_swap

# strangers_send OPTION... PROGRAM: to a program that prints its number, and then, for each line, another
strangers_send() {
	expect 0 python3 - "$hang_seconds" "$faultline" run --limit 4M --swap-dir "$work" "$@" <<'END'
import os, re, select, signal, socket, struct, subprocess, sys, time

seconds = int(sys.argv[1])
paged = subprocess.Popen(sys.argv[2:-1] + ["--", "python3", "-c", sys.argv[-1]],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
pid = int(paged.stdout.readline())
tasks = f"/proc/{pid}/task"
listener = socket.create_server(("127.0.0.1", 0))

# pagers have a descriptor table of their own
def sockets():
    inodes = set()
    for tid in os.listdir(tasks):
        for fd in os.listdir(f"{tasks}/{tid}/fd"):
            try:
                inodes.update(re.findall(r"^socket:\[(\d+)\]$",
                                         os.readlink(f"{tasks}/{tid}/fd/{fd}")))
            except FileNotFoundError:
                pass
    with open("/proc/net/unix") as table:
        fields = [line.split() for line in table]
    return [f[7].replace("@", "\0", 1) for f in fields
            if len(f) == 8 and f[4] == "0002" and f[6] in inodes and f[7][0] == "@"]

def stopped():
    return all(open(f"{tasks}/{tid}/stat").read().rsplit(")", 1)[1].split()[0] == "T"
               for tid in os.listdir(tasks))

# Its peer does not read, so to close it last is to wait; but not for a process that ends.
def send_lingering(name, message):
    if os.fork() == 0:
        s = socket.create_connection(listener.getsockname())
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10 * seconds))
        s.setblocking(False)
        try:
            while True:
                s.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        to.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                struct.pack("i", s.fileno()))], 0, name)
        os._exit(0)
    if os.wait()[1] != 0:
        sys.exit("nothing was sent")

names = sockets()
if not names:
    sys.exit("the program has no such socket")
# what is in the queue is nobody else's when it goes on
os.kill(pid, signal.SIGSTOP)
end = time.monotonic() + seconds
while not stopped():
    if time.monotonic() > end:
        sys.exit("the program does not stop")
    time.sleep(0.001)
for name in names:
    send_lingering(name, b"")
    send_lingering(name, b"x")
    send_lingering(name, bytes(8))
    # a request for a snapshot, of another token
    send_lingering(name, struct.pack("=QQQII", 0x31706E73466C6146, 1, 2, 0, 0))
os.kill(pid, signal.SIGCONT)
paged.stdin.write(b"go\n")
paged.stdin.flush()
if not select.select([paged.stdout], [], [], seconds)[0]:
    os.kill(pid, signal.SIGKILL)
    sys.exit(f"a fault was not answered in {seconds} s")
paged.stdout.readline()
paged.stdin.close()
sys.exit(paged.wait())
END
}

program='
import os, sys
data = bytearray(b"abcdefgh" * (2 << 20))
if len(sys.argv) > 1 and os.fork() != 0:
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
print(os.getpid(), flush=True)
for line in sys.stdin:
    print(sum(data[::4096]), flush=True)
'

strangers_send "$program"
strangers_send "import sys; sys.argv.append('child')$program"
# members of a group wake each other
strangers_send --limit-group "$program"
