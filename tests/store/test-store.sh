#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# 'faultline store', 'mount' and 'umount': what is made and shown, one line for
# each bad input, and no mount or process left, however the server ends.
. "${FL_SRC:-.}/tests/functions.sh"

chmod 755 "$work"

loop=
finish() {
	for mnt in "$work"/mnt*; do
		"$faultline" umount --lazy "$mnt" 2>/dev/null || true
	done
	[ -z "$loop" ] || losetup -d "$loop" || true
	rm -rf "$work"
}
mkdir "$work/mnt" "$work/mnt2"

# run STATUS ARGUMENT...
run() {
	want=$1
	shift
	expect "$want" "$faultline" "$@"
}

# refuses TEXT ARGUMENT...: one line, status 1
refuses() {
	text=$1
	shift
	run 1 "$@"
	one_line "$text" "$@"
}

mount_store() {
	# shellcheck disable=SC2086
	run 0 mount $sandbox "$@" "$work/store" "$work/mnt"
}

# The server's processes: the keeper is in the lock.
keeper() {
	cut -d ' ' -f 1 "$work/store/lock"
}

# gone PID: wait until it has ended
gone() {
	timeout -k 5 "$hang_seconds" tail --pid="$1" -f /dev/null || fail "process $1 goes on"
}

# ended: wait until there is no server
ended() {
	flock -w "$hang_seconds" "$work/store/lock" true || fail "the server goes on"
}

mounted() {
	grep -q " $work/mnt fuse.faultline " /proc/self/mounts
}

# --- making ---

run 0 store init "$work/store"
[ "$(cat "$work/store/version")" = "faultline store 1" ] || fail "no version"
[ "$(stat -c %a "$work/store/swap")" = 700 ] || fail "others may look into swap"
refuses "is a store already" store init "$work/store"
mkdir "$work/full"
touch "$work/full/x"
refuses "not empty, and not a store" store init "$work/full"
refuses "No such file" store init "$work/none/store"
refuses "Not a directory" store init "$work/full/x"
mkdir "$work/empty"
run 0 store init "$work/empty"
run 2 store
run 2 store bogus x
run 2 store init
run 2 store init a b

run 0 mkswap --size 1M "$work/store/swap/disk0"
run 0 store check "$work/store"
grep -q ': clean$' "$work/out" || fail "check: not clean"

# --- bad mounts ---

run 2 mount
run 2 mount "$work/store"
run 2 mount "$work/store" "$work/mnt" x
run 2 mount -o bogus "$work/store" "$work/mnt"
for option in dirty_expire= dirty_expire=0 dirty_expire=0.24 dirty_expire=3601 dirty_expire=5s; do
	run 2 mount -o "cache=8M,$option" "$work/store" "$work/mnt"
	one_line "$option: 0.25 to 3600 seconds are wanted" mount -o "$option"
done
for option in dirty_background= dirty_background=0 dirty_background=51 dirty_background=5%; do
	run 2 mount -o "$option,noatime" "$work/store" "$work/mnt"
	one_line "$option: 1 to 50 per cent are wanted" mount -o "$option"
done
refuses "No such file" mount "$work/none" "$work/mnt"
refuses "is not a store" mount "$work/full" "$work/mnt"
refuses "No such file" mount "$work/store" "$work/none"
refuses "not empty" mount "$work/store" "$work/full"
refuses "Not a directory" mount "$work/store" "$work/full/x"
refuses "lies in the other" mount "$work/store" "$work/store/files"
refuses "no store is mounted there" umount "$work/mnt"
echo "faultline store 9" >"$work/empty/version"
refuses "another version (9)" mount "$work/empty" "$work/mnt"
echo "something" >"$work/empty/version"
refuses "its version file says" mount "$work/empty" "$work/mnt"
! mounted || fail "a mount is left"

# Who looks at a store does not keep a server away: it waits for that, here until told.
exec 9<"$work/store/lock"
flock -s 9
# shellcheck disable=SC2086
"$faultline" mount $sandbox "$work/store" "$work/mnt" >"$work/out" 2>"$work/err" 9<&- &
waits_or_ended() {
	! kill -0 $! 2>/dev/null || grep -q '^7 0x0 0x0 ' "/proc/$!/syscall"
}
until_so waits_or_ended
flock -u 9
exec 9<&-
status=0
wait $! || status=$?
[ "$status" -eq 0 ] || fail "mount beside who looks: status $status"
run 0 umount "$work/mnt"

# --- what is shown ---

# Descriptors that are closed at its start are none of the server's.
# shellcheck disable=SC2086
for closed in '<&-' '>&-' '2>&-' '<&- >&- 2>&-'; do
	expect 0 sh -c "exec \"\$@\" $closed" sh "$faultline" mount $sandbox "$work/store" "$work/mnt"
	mounted || fail "not mounted: $closed"
	run 0 umount "$work/mnt"
done

# Nor is it the server's that who starts it is not told of the ends of his children.
# shellcheck disable=SC2086
expect 0 env --ignore-signal=CHLD "$faultline" mount $sandbox "$work/store" "$work/mnt"
run 0 umount "$work/mnt"

mount_store
mounted || fail "not mounted"
[ "$(ls "$work/mnt" | tr '\n' ' ')" = "control files metrics proc socket stats swap " ] || fail "not the tree"
[ -z "$(ls "$work/mnt/proc")" ] || fail "proc is not empty"
[ "$(ls "$work/mnt/swap" | tr '\n' ' ')" = "disk0 disk0.stat " ] || fail "not the areas"
printf 'a page of slot five' |
	dd of="$work/store/swap/disk0" bs=1 seek=$((5 * 4096)) conv=notrunc status=none
[ "$(dd if="$work/mnt/swap/disk0" bs=4096 skip=5 count=1 status=none | tr -d '\0')" = \
	"a page of slot five" ] || fail "slot 5 is not at offset 5 * 4096"
cmp "$work/mnt/swap/disk0" "$work/store/swap/disk0" || fail "the area reads otherwise"
[ "$(stat -c '%s %a' "$work/mnt/swap/disk0")" = "1048576 400" ] || fail "size or mode of the area"
if dd if=/dev/zero of="$work/mnt/swap/disk0" bs=1 count=1 conv=notrunc status=none 2>/dev/null; then
	fail "the area could be written"
fi

# field FILE NAME: the value
field() {
	sed -n "s/^$2: //p" "$1"
}
stat=$work/mnt/swap/disk0.stat
[ "$(field "$stat" area)" = disk0 ] || fail "area"
[ "$(field "$stat" backing)" = file ] || fail "backing"
[ "$(field "$stat" size)" = 1048576 ] || fail "size"
[ "$(field "$stat" slots)" = 256 ] || fail "slots"
uuid=$(dd if="$work/store/swap/disk0" bs=1 skip=32 count=16 status=none | od -An -tx1 | tr -d ' \n')
[ "$(field "$stat" uuid | tr -d -)" = "$uuid" ] || fail "uuid"
[ "$(field "$stat" state)" = on ] || fail "state is not on"
[ "$(field "$stat" used) $(field "$stat" free) $(field "$stat" processes)" = "0 255 0" ] ||
	fail "used, free, processes"
if flock -n "$work/store/swap/disk0" true; then
	fail "the server has not locked its area"
fi
echo "swapoff disk0" >"$work/mnt/control"
[ "$(field "$stat" state)" = off ] || fail "state is not off"
[ -z "$(field "$stat" used)" ] || fail "used, of an area that is off"
[ "$(flock -w "$hang_seconds" "$work/store/swap/disk0" sed -n 's/^state: //p' "$stat")" = on ] || fail "locked is not on"
status=0
flock -w "$hang_seconds" -E 75 "$work/store/swap/disk0" \
	sh -c 'echo "swapon disk0" >"$1"' sh "$work/mnt/control" 2>/dev/null || status=$?
[ "$status" -ne 75 ] || fail "an area that is off stays locked"
[ "$status" -ne 0 ] || fail "somebody else's area could be turned on"
echo "swapon disk0 3" >"$work/mnt/control"
[ "$(field "$stat" state) $(field "$stat" priority)" = "on 3" ] || fail "state is not on again"
for bad in bogus swapon "swapon " "swapon ../disk0" "swapoff none" "limit 1" "limit x 10M" \
	"limit 1 1K" "limit 1 1000000000G"; do
	if echo "$bad" 2>/dev/null >"$work/mnt/control"; then
		fail "control takes '$bad'"
	fi
done
# attribute NAME: of the area
attribute() {
	python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())' \
		"$work/mnt/swap/disk0" "user.faultline.$1"
}
[ "$(attribute state) $(attribute slots) $(attribute used) $(attribute prio)" = "on 256 0 3" ] ||
	fail "attributes of the area"
[ "$(python3 -c 'import os, sys; print(*sorted(os.listxattr(sys.argv[1])))' "$work/mnt/swap/disk0")" = \
	"user.faultline.prio user.faultline.slots user.faultline.state user.faultline.used" ] ||
	fail "list of the area's attributes"
[ -z "$(cat "$work/mnt/control")" ] || fail "control reads as something"
[ "$(stat -c %a "$work/mnt/control")" = 600 ] || fail "mode of control"
[ "$(cat "$work/store/lock")" = "$(keeper) $work/mnt" ] || fail "the note in the lock"
[ "$(getfattr -d --absolute-names "$work/mnt/swap/disk0")" = "# file: $work/mnt/swap/disk0
user.faultline.prio=\"3\"
user.faultline.slots=\"256\"
user.faultline.state=\"on\"
user.faultline.used=\"0\"" ] || fail "getfattr of the area"
[ "$(readlink "$work/mnt/socket")" = "$work/store/socket" ] || fail "socket"
[ "$(stat -c '%F %a' "$work/store/socket")" = "socket 600" ] || fail "mode of the socket"
head -c 65536 /dev/zero >"$work/store/swap/blank"
chmod 600 "$work/store/swap/blank"
field "$work/mnt/swap/blank.stat" state | grep -q '^damaged: has no header' || fail "blank"
rm "$work/store/swap/blank"
[ ! -e "$work/mnt/swap/blank" ] || fail "an area that has gone is shown"

echo content >"$work/mnt/files/file"
cat "$work/mnt/files/file" "$work/mnt/files/file" >/dev/null
[ "$(field "$work/mnt/stats" store)" = "$work/store" ] || fail "stats: store"
[ "$(field "$work/mnt/stats" written_bytes)" = 8 ] || fail "stats: written_bytes"
[ "$(field "$work/mnt/stats" requests)" -gt 10 ] || fail "stats: requests"
for name in version pid uptime errors read_bytes clients inflight nodes handles \
	cache_limit cache_pages cache_dirty cache_errors cache_minor cache_major cache_read \
	cache_written; do
	[ -n "$(field "$work/mnt/stats" "$name")" ] || fail "stats: no $name"
done
# every sample has its type before it; the value is a number
awk '
	/^# HELP / { help[$3] = 1; next }
	/^# TYPE / { if (!help[$3] || $4 !~ /^(counter|gauge|histogram)$/) bad = 1; type[$3] = 1; next }
	{ name = $0; sub(/[{ ].*/, "", name); if (!type[name] || $NF !~ /^[0-9]+$/) bad = 1; n++ }
	END { exit bad || n < 60 }' "$work/mnt/metrics" || fail "metrics: not the exposition format"
grep -q '^faultline_store_area_slots{area="disk0"} 256$' "$work/mnt/metrics" || fail "metrics: area"
grep -q '^faultline_store_area_used{area="disk0"} 0$' "$work/mnt/metrics" || fail "metrics: used"
grep -q '^faultline_store_clients 0$' "$work/mnt/metrics" || fail "metrics: clients"
grep -q '^faultline_store_written_bytes_total 8$' "$work/mnt/metrics" || fail "metrics: written"

run 0 store stat "$work/store"
grep -q "^served: by process $(keeper) at $work/mnt\$" "$work/out" || fail "stat: not served"
grep -q '^slots: 256$' "$work/out" || fail "stat: no area"
run 0 store stat "$work/mnt"
grep -q '^slots: 256$' "$work/out" || fail "stat of the mount: no area"
grep -q '^uptime: ' "$work/out" || fail "stat of the mount: no uptime"

# --- confined ---

pid=$(field "$work/mnt/stats" pid)
if [ -z "$sandbox" ]; then
	grep -q '^Seccomp:	2$' "/proc/$pid/status" || fail "no list of system calls"
fi
grep -q '^NoNewPrivs:	1$' "/proc/$pid/status" || fail "new privileges"

# --- a second server, other users ---

refuses "already served by process $(keeper) at $work/mnt" mount "$work/store" "$work/mnt2"
run 0 store init "$work/other"
refuses "$work/mnt: in use: the store $work/store is mounted there" mount "$work/other" "$work/mnt"
[ "$(field "$work/mnt/stats" store)" = "$work/store" ] || fail "the one that was there is gone"
if by_root "another user looks"; then
	if setpriv --reuid=65534 --regid=65534 --clear-groups ls "$work/mnt" >/dev/null 2>&1; then
		fail "another user may look"
	fi
fi

# --- what the server has open ---

# Each link once, with how many may have it; one area is on.
run 0 umount "$work/mnt"
exec 7<"$work/store/version" 8>"$work/kept" 9<"$work"
mount_store
exec 7<&- 8>&- 9<&-
pid=$(field "$work/mnt/stats" pid)
cat >"$work/expected" <<END
3 /dev/null
1 /dev/fuse
2 /dev/userfaultfd
1 $work/store
1 $work/store/swap
2 $work/store/files
1 $work/store/lock
2 $work/store/swap/disk0
2 /proc
1 /proc/$pid/maps
1 /proc/$pid/mem
1 /proc/$pid/pagemap
1 /memfd:faultline-pte
1 /memfd:faultline-slots
1 socket:
4 pipe:
1 anon_inode:[pidfd]
1 anon_inode:[userfaultfd]
2 anon_inode:[io_uring]
2 anon_inode:[eventpoll]
2 anon_inode:[eventfd]
END
has_no_more() {
	for fd in "/proc/$pid/fd/"*; do
		readlink "$fd" || true
	done | sed 's/ (deleted)$//; s/^\(pipe:\|socket:\)\[.*/\1/' | sort | uniq -c >"$work/out"
	[ "$(wc -l <"$work/out")" -gt 10 ] || fail "the server's descriptors cannot be seen"
	awk 'NR == FNR { most[$2] = $1; next }
		$1 > most[$2] { print "has " $1 " of " $2 ", of which it needs " most[$2] + 0; bad = 1 }
		END { exit bad }' "$work/expected" "$work/out" >"$work/err"
}
# what it has for a moment, at its beginning or for who looked, it closes
until_so has_no_more

# --- ends ---

run 0 umount "$work/mnt"
! mounted || fail "umount: still mounted"
[ ! -e "$work/store/socket" ] || fail "the socket is left"
flock -n "$work/store/lock" true || fail "umount: the server goes on"
run 0 store stat "$work/store"
grep -q '^served: no$' "$work/out" || fail "stat: served"

for signal in TERM INT HUP; do
	mount_store
	pid=$(keeper)
	kill -s "$signal" "$pid"
	gone "$pid"
	! mounted || fail "SIG$signal: still mounted"
done

# what is open is served on, and ended at the second signal
mount_store
pid=$(keeper)
exec 9<"$work/mnt/files/file"
refuses "busy" umount "$work/mnt"
kill "$pid"
until ! mounted; do read -r line <&9 || true; done
[ "$(dd bs=1 count=3 status=none <&9 | wc -c)" -le 3 ] || fail "open file"
kill "$pid"
gone "$pid"
exec 9<&-
! mounted || fail "SIGTERM with an open file: still mounted"

# the server killed: the keeper unmounts; the keeper too: the next start does
mount_store
server=$(field "$work/mnt/stats" pid)
pid=$(keeper)
kill -KILL "$server"
gone "$pid"
! mounted || fail "the server was killed: still mounted"

# The server first, or it would find its keeper gone, and drain; and that is to clean nothing up.
mount_store
server=$(field "$work/mnt/stats" pid)
pid=$(keeper)
kill -STOP "$pid"
kill -KILL "$server"
kill -KILL "$pid"
gone "$server"
gone "$pid"
mounted || fail "no dead mount to clean"
if ls "$work/mnt" >/dev/null 2>&1; then
	fail "a dead mount answers"
fi
mount_store
[ "$(cat "$work/mnt/files/file")" = content ] || fail "not served again after SIGKILL"
run 0 umount "$work/mnt"
! mounted || fail "the dead mount is left"

# only the keeper killed: the server drains by itself
mount_store
server=$(field "$work/mnt/stats" pid)
kill -KILL "$(keeper)"
gone "$server"
# shared: can a file be mapped so?
shared() {
	python3 -c 'import mmap, os, sys; mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)' \
		"$work/mnt/files/file" 2>/dev/null
}
mount_store -o cached,direct
if shared; then
	fail "-o cached,direct: a file can be mapped"
fi
run 0 umount "$work/mnt"
mount_store -o direct,cached
shared || fail "-o direct,cached: a file cannot be mapped"
run 0 umount "$work/mnt"
mount_store -o direct,ro
if touch "$work/mnt/files/new" 2>/dev/null; then
	fail "-o ro: something was made"
fi
run 0 umount "$work/mnt"

# which areas are on, in which order; it is not kept
run 0 mkswap --size 1M "$work/store/swap/disk1"
run 0 mkswap --size 1M "$work/store/swap/disk2"
states() {
	for area in disk0 disk1 disk2; do
		field "$work/mnt/swap/$area.stat" state
		field "$work/mnt/swap/$area.stat" priority
	done | tr '\n' ' '
}
mount_store -o areas=disk2:disk0,noatime
[ "$(states)" = "on -2 off on -1 " ] || fail "areas=disk2:disk0: $(states)"
run 0 swapon "$work/mnt" disk1
run 0 swapoff "$work/mnt" disk2
[ "$(states)" = "on -2 on -3 off " ] || fail "after swapon and swapoff: $(states)"
run 0 umount "$work/mnt"
mount_store -o areas=
[ "$(states)" = "off off off " ] || fail "areas=: $(states)"
run 0 umount "$work/mnt"
mount_store
[ "$(states)" = "on -1 on -2 on -3 " ] || fail "all areas: $(states)"
run 0 umount "$work/mnt"
refuses "swap/disk3: there is no such area" mount -o areas=disk0:disk3 "$work/store" "$work/mnt"
refuses "there is no such area" mount -o areas=../version "$work/store" "$work/mnt"
refuses "swap/disk0: named twice" mount -o areas=disk0:disk1:disk0 "$work/store" "$work/mnt"
! mounted || fail "areas=: a mount is left"
rm "$work/store/swap/disk1" "$work/store/swap/disk2"

# --- an area that is a link to a block device ---

# told WORD: the program's next answer begins so
told() {
	read -r line <&9 || fail "the program has gone"
	[ "${line%% *}" = "$1" ] || fail "the program says '$line' instead of '$1'"
}
if by_root "a block device"; then
	run 0 store init "$work/devices"
	truncate -s 32M "$work/disk"
	loop=$(losetup -f --show "$work/disk") || fail "no loop device is to be had"
	run 0 mkswap "$loop"
	ln -s "$loop" "$work/devices/swap/disk0"
	run 0 store check "$work/devices"
	# shellcheck disable=SC2086
	run 0 mount $sandbox "$work/devices" "$work/mnt"
	[ "$(field "$stat" backing) $(field "$stat" size) $(field "$stat" slots)" = \
		"device 33554432 8192" ] || fail "the device in its stat"
	[ "$(field "$stat" state) $(field "$stat" used)" = "on 0" ] || fail "the device is not on"
	mkfifo "$work/say" "$work/hear"
	"$faultline" run --store "$work/mnt" --limit 4M -- "$FL_BUILD/tests/store/pages" 16 7 \
		<"$work/say" >"$work/hear" &
	pid=$!
	exec 8>"$work/say" 9<"$work/hear"
	told ready
	printf c >&8
	told c
	[ "$(field "$stat" used)" -gt 2048 ] || fail "nothing is paged to the device"
	[ "$(field "$stat" processes)" -eq 1 ] || fail "processes of the device"
	# a page that is there alone: what mem shows is what the device has in the slot
	region=$(sed -n 's/^\([0-9a-f]*-[0-9a-f]*\) .*/\1/p' "$work/mnt/proc/$pid/maps" | head -n 1)
	# shellcheck disable=SC2046
	set -- $(sed -n 's/^\([0-9a-f]*\) [0-9]* swapped 0:\([0-9]*\) .*/\1 \2/p' \
		"$work/mnt/proc/$pid/pages/$region" | head -n 1)
	[ $# -eq 2 ] || fail "nothing is swapped"
	dd if="$work/mnt/proc/$pid/mem" of="$work/bytes" bs=4096 skip=$((0x$1 / 4096)) count=1 \
		status=none || fail "mem of what is on the device"
	dd if="$loop" of="$work/slot" bs=4096 skip="$2" count=1 iflag=direct status=none
	cmp "$work/bytes" "$work/slot" || fail "mem differs from the device's slot"
	! cmp -s -n 4096 "$work/bytes" /dev/zero || fail "the slot is empty"
	rm "$work/bytes" "$work/slot"
	printf v >&8
	told v
	exec 8>&-
	wait "$pid" || fail "the program: status $?"
	exec 9<&-
	rm "$work/say" "$work/hear"
	run 0 store check "$work/devices"
	run 0 umount "$work/mnt"
	run 0 store check "$work/devices"
	grep -q ': clean$' "$work/out" || fail "the device: not clean"
	losetup -d "$loop"
	loop=
	rm -r "$work/disk" "$work/devices"
fi

# in the foreground, the exit status tells
# shellcheck disable=SC2086
"$faultline" mount -f $sandbox "$work/store" "$work/mnt" &
pid=$!
until mounted && [ -e "$work/mnt/stats" ]; do
	kill -0 "$pid" || fail "mount -f ended"
done
kill "$pid"
wait "$pid" || fail "mount -f: status $?"

# as mount.fuse3(8) calls it
# shellcheck disable=SC2086
run 0 "$work/store" "$work/mnt" $sandbox -o rw,dev,suid,nofail,x-systemd.automount
[ -e "$work/mnt/files/file" ] || fail "not mounted by mount.fuse3's convention"
run 0 umount "$work/mnt"

# --- another mount namespace that has a copy of the mount ---

# elsewhere COMMAND: in such a namespace, until fd 8 is closed; what it says comes from fd 9
elsewhere() {
	unshare -m --propagation private sh -euc "$1" sh "$work" <"$work/to" >"$work/from" &
	pid=$!
	exec 8>"$work/to" 9<"$work/from"
	read -r line <&9 || fail "in another namespace"
}
back() {
	exec 8>&- 9<&-
	wait "$pid" || true
}
if by_root "another mount namespace"; then
	mkfifo "$work/to" "$work/from"

	# nobody uses it there: the server ends all the same
	for how in umount TERM; do
		mount_store
		elsewhere 'echo; read -r line'
		if [ "$how" = umount ]; then
			run 0 umount "$work/mnt"
		else
			kill "$(keeper)"
		fi
		ended
		! mounted || fail "$how: still mounted"
		back
	done

	# what is open there is served until it is closed
	mount_store -o direct
	# shellcheck disable=SC2016
	elsewhere 'exec 7<"$1/mnt/files/file"
		echo
		read -r line
		end=$(($(date +%s) + 3))
		while [ "$(date +%s)" -lt "$end" ]; do
			[ "$(cat "$1/mnt/files/file")" = content ] || exit 1
		done
		cat <&7
		exec 7<&-
		read -r line'
	umount "$work/mnt"
	echo >&8
	line=
	read -r line <&9 || true
	[ "$line" = content ] || fail "in another namespace the file says '$line'"
	ended
	back
fi

# --- an ordinary user ---

# open_fuse: /dev/fuse is open to all where fusermount3 is of use; here in namespaces of the test's own
# shellcheck disable=SC2016
open_fuse='
	[ -e "$2/fuse" ] ||
		mknod -m 666 "$2/fuse" c "0x$(stat -c %t /dev/fuse)" "0x$(stat -c %T /dev/fuse)"
	mount --bind "$2/fuse" /dev/fuse
'
if by_root "an ordinary user" && has fusermount3 "an ordinary user"; then
	cp "$faultline" "$work/faultline"
	install -d -o 65534 -g 65534 "$work/own" "$work/own/mnt"
	chmod 755 "$work/faultline"
	status=0
	# shellcheck disable=SC2016
	unshare -m sh -euc "$open_fuse"'
		exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec "$4" sh "$2" "$3"
	' sh "$faultline" "$work" "$sandbox" '
		cd "$1/own"
		../faultline store init store
		../faultline mount $2 store mnt
		echo mine >mnt/files/x
		cat mnt/files/x
		stat -c %u mnt/files/x
		../faultline umount mnt
		../faultline mount $2 store mnt
		server=$(sed -n "s/^pid: //p" mnt/stats)
		keeper=$(cut -d " " -f 1 store/lock)
		kill -STOP "$keeper"
		kill -KILL "$server"
		kill -KILL "$keeper"
		tail --pid="$server" -f /dev/null
		tail --pid="$keeper" -f /dev/null
		../faultline mount $2 store mnt
		cat mnt/files/x
		../faultline umount mnt' >"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 0 ] || fail "an ordinary user: status $status"
	[ "$(tr '\n' ' ' <"$work/out")" = "mine 65534 mine " ] || fail "an ordinary user"
fi

# --- directories that cannot be written to, no fusermount3 ---

# apart COMMAND: as a script of sh in a mount namespace of its own
apart() {
	status=0
	unshare -m sh -euc "$1" sh "$faultline" "$work" "$sandbox" >"$work/out" 2>"$work/err" ||
		status=$?
}

# refused_with TEXT: what it says
refused_with() {
	[ "$status" -eq 1 ] || fail "$1: status $status"
	one_line "$1" apart
}
mkdir "$work/fs"
if by_root "directories that cannot be written to"; then
	apart 'mount -t tmpfs -o ro none "$2/fs"; "$1" store init "$2/fs"'
	refused_with 'Read-only file system'
	apart 'mount -t tmpfs -o size=1m none "$2/fs"; "$1" store init "$2/fs/store"
		mount -o remount,ro "$2/fs"; "$1" mount $3 "$2/fs/store" "$2/mnt"'
	refused_with 'Read-only file system'
	# no inode, and no block, is left
	apart 'mount -t tmpfs -o nr_inodes=4 none "$2/fs"
		status=0; "$1" store init "$2/fs/store" || status=$?; ls -A "$2/fs" >&2; exit $status'
	refused_with 'cannot be made a store: No space left on device'
	apart 'mount -t tmpfs -o size=1m none "$2/fs"; "$1" store init "$2/fs/store"
		cat /dev/zero 2>/dev/null >"$2/fs/full" || true
		status=0; "$1" mount $3 "$2/fs/store" "$2/mnt" || status=$?
		! grep " $2/mnt " /proc/self/mounts >&2 || exit 99; exit $status'
	refused_with 'No space left on device'
	if has fusermount3 "no fusermount3"; then
		apart "$open_fuse"'mount --bind /dev/null "$(command -v fusermount3)"
			cd "$2/own"; setpriv --reuid=65534 --regid=65534 --clear-groups \
				../faultline mount $3 store mnt'
		refused_with 'fusermount3'
	fi
fi

# --- checking ---

# finds TEXT: check says it, and fails
finds() {
	run 1 store check "$work/store"
	grep -q -e "$1" "$work/out" || fail "check: no line '$1'"
}
touch "$work/store/stranger"
finds '/stranger: does not belong here'
rm "$work/store/stranger"
cp --preserve=mode "$work/store/swap/disk0" "$work/store/swap/copy"
finds 'the same uuid as'
truncate -s 100K "$work/store/swap/copy"
finds 'its header says 1048576 bytes, it has 102400'
printf X | dd of="$work/store/swap/copy" bs=1 conv=notrunc status=none
finds '/swap/copy: has no header'
rm "$work/store/swap/copy"
ln -s /etc/passwd "$work/store/swap/link"
finds '/swap/link: neither a file nor a link to a block device'
rm "$work/store/swap/link"
chmod 644 "$work/store/swap/disk0"
finds 'others than its owner may open it (mode 0644)'
chmod 600 "$work/store/swap/disk0"
fallocate --punch-hole -o 65536 -l 65536 "$work/store/swap/disk0"
finds 'only .* of its 1048576 bytes are allocated'
fallocate -o 65536 -l 65536 "$work/store/swap/disk0"
run 0 store check "$work/store"
rmdir "$work/empty/swap"
refuses "is not a store" store check "$work/empty"
