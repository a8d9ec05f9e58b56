#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# with-store.sh direct|fuse COMMAND [ARG...]: run a command whose programs have
# their swap on a store of its own: they do their I/O to its areas, or through
# its mount.  FAULTLINE_STORE tells `faultline run`, FL_STORE the tests.
#
# The status is the command's; or 1, when it left slots in use or a store that
# `faultline store check` finds something wrong with.
: "${FL_BUILD:=$PWD}"
. "$(dirname "$0")/../functions.sh"

io=$1
shift

mkdir "$work/mnt"
"$faultline" store init "$work/store"
for area in disk0 disk1; do
	"$faultline" mkswap --size "${FL_STORE_SIZE:-1G}" "$work/store/swap/$area"
done
case $io in
direct) options=cached mnt=$work/mnt ;;
fuse) options=io=fuse mnt=$work/mnt,io=fuse ;;
*)
	echo "usage: with-store.sh direct|fuse COMMAND [ARG...]" >&2
	exit 2
	;;
esac
# shellcheck disable=SC2086
"$faultline" mount $sandbox -o "$options" "$work/store" "$work/mnt"

status=0
FL_STORE=$mnt FAULTLINE_STORE=$mnt "$@" || status=$?

no_slot_is_used() {
	grep '^used: ' "$work"/mnt/swap/disk[01].stat >"$work/out"
	[ "$(grep -c ':used: 0$' "$work/out")" -eq 2 ]
}

# What ended a moment ago is found a moment later.
until_so no_slot_is_used
"$faultline" store check "$work/store"
grep -e '^written_bytes: ' "$work/mnt/stats"
"$faultline" umount "$work/mnt"
exit "$status"
