#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# How a machine that boots mounts a store: the lines of dist/fstab.example, by
# mount(8) and mount.fuse3(8), and dist/faultline-store@.service, as systemd would
# run it.  Only the paths are changed.
. "${FL_SRC:-.}/tests/functions.sh"

mounted() {
	grep -q " $work/mnt fuse.faultline " /proc/self/mounts
}

mkdir "$work/mnt" "$work/bin"
"$faultline" store init "$work/store"
"$faultline" mkswap --size 1M "$work/store/swap/disk0"
echo content >"$work/store/files/file"
# the faultline that is installed; a sanitizer's system calls are not on the server's list
cat >"$work/bin/faultline" <<-END
	#!/bin/sh
	if [ "\$1" = mount ]; then shift; set -- mount $sandbox "\$@"
	else set -- "\$@" $sandbox; fi
	exec '$faultline' "\$@"
END
chmod 755 "$work/bin/faultline"
PATH=$PATH:/usr/sbin:/sbin
export PATH

# --- fstab ---

line=$(grep '^/' "$FL_SRC/dist/fstab.example")
[ "$(echo "$line" | wc -l)" -eq 1 ] || fail "not one line in fstab.example"
echo "$line" | sed -e "s,^/srv/store,$work/store," -e "s, /mnt/store , $work/mnt ," >"$work/fstab"
# mount(8) hands no PATH on: who installed faultline has it where sh looks without one
cat >"$work/by-mount" <<'END'
set -eu
fail() {
	echo "$*"
	exit 1
}
mounted() {
	grep -q " $work/mnt fuse.faultline " /proc/self/mounts
}
mount -t tmpfs none /usr/local/bin
cp "$work/bin/faultline" /usr/local/bin
mount -T "$work/fstab" "$work/mnt" || fail "mount -T: status $?"
mounted || fail "mount: not mounted"
[ "$(cat "$work/mnt/files/file")" = content ] || fail "mount: no file"
grep " $work/mnt " /proc/self/mounts | grep -q 'nosuid,nodev.*allow_other' ||
	fail "mount: not the options"
[ "$(sed -n 's/^state: //p' "$work/mnt/swap/disk0.stat")" = on ] || fail "mount: not on"
umount "$work/mnt"
! mounted || fail "umount: still mounted"
flock "$work/store/lock" true
# without a line there, with what else a line may have
mount -t fuse.faultline -o areas=,noatime,x-systemd.automount "$work/store" "$work/mnt" ||
	fail "mount -t: status $?"
[ "$(sed -n 's/^state: //p' "$work/mnt/swap/disk0.stat")" = off ] || fail "mount -t: on"
umount "$work/mnt"
flock "$work/store/lock" true
# what is wrong is said by mount, too
if mount -t fuse.faultline "$work/none" "$work/mnt" 2>"$work/err"; then
	fail "mount: something is mounted"
fi
grep -q "^faultline: $work/none: No such file" "$work/err" || fail "mount: does not say why"
END
if by_root "the line of fstab" && has mount.fuse3 "the line of fstab"; then
	export work
	unshare -m sh "$work/by-mount" >"$work/out" 2>&1 || fail "mount: status $?"
fi

# --- the unit ---

sed -e "s,/var/lib/faultline/%i,$work/store,g" -e "s,/run/faultline/%i,$work/mnt,g" \
	-e "s,^\(ExecStart=\)faultline,\1$work/bin/faultline," \
	"$FL_SRC/dist/faultline-store@.service" >"$work/faultline-store@.service"
if has systemd-analyze "the unit, by systemd"; then
	systemd-analyze verify --man=no "$work/faultline-store@.service" >"$work/out" 2>&1 ||
		fail "systemd-analyze: status $?"
	if grep -q "faultline-store" "$work/out"; then
		fail "systemd-analyze complains"
	fi
fi
rmdir "$work/mnt"
python3 - "$work/faultline-store@.service" "$work/mnt" <<'END' || fail "the unit"
import os, shlex, signal, socket, subprocess, sys
unit, mnt = sys.argv[1:]
has = dict(line.strip().split("=", 1) for line in open(unit) if "=" in line and line[0] != "#")
assert has["Type"] == "notify" and has["KillMode"] == "mixed", has
subprocess.run(shlex.split(has["ExecStartPre"]), check=True)
listen = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listen.bind(os.path.join(os.path.dirname(unit), "notify"))
listen.settimeout(300)
env = dict(os.environ, NOTIFY_SOCKET=listen.getsockname())
main = subprocess.Popen(shlex.split(has["ExecStart"]), env=env)
try:
    assert listen.recv(100) == b"READY=1"
    assert open(mnt + "/files/file").read() == "content\n"
    main.send_signal(signal.SIGTERM)
    assert listen.recv(100) == b"STOPPING=1"
    assert main.wait(300) == 0, main.returncode
    assert not os.path.ismount(mnt)
    # when it was killed it starts again over what is left
    main = subprocess.Popen(shlex.split(has["ExecStart"]), env=env)
    assert listen.recv(100) == b"READY=1"
    server = [int(l.split()[1]) for l in open(mnt + "/stats") if l.startswith("pid:")][0]
    os.kill(server, signal.SIGKILL)
    assert main.wait(300) != 0
    subprocess.run(shlex.split(has["ExecStartPre"]), check=True)
    main = subprocess.Popen(shlex.split(has["ExecStart"]), env=env)
    assert listen.recv(100) == b"READY=1"
    assert open(mnt + "/files/file").read() == "content\n"
finally:
    main.terminate()
    main.wait(300)
END
! mounted || fail "the unit: still mounted"
"$faultline" store check "$work/store" >"$work/out"
