#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A thread that ends, or is killed, with robust mutexes in a file's shared mapping
# leaves them to who comes next, as natively: at once, and after the pages that
# they are in were written, which protects them.
. "${FL_SRC:-.}/tests/functions.sh"

robust=$FL_BUILD/tests/store/robust
file=$work/mnt/files/mutexes
mkdir "$work/mnt"
bare_environment
mkfifo "$work/in" "$work/said"

finish() {
	[ -z "${holder:-}" ] || kill -KILL "$holder" 2>/dev/null || true
	remove_work
}

"$faultline" store init "$work/store"
"$faultline" mkswap --size 64M "$work/store/swap/disk0"
"$faultline" mount -o cache=4M "$work/store" "$work/mnt"

paged() {
	"$faultline" run --limit 4M --store "$work/mnt" -- "$@"
}

# dirty N: so many pages wait to be written
dirty() {
	[ "$(sed -n 's/^cache_dirty: //p' "$work/mnt/stats")" -ge "$1" ]
}

# written: all pages were, and are let in again for those who have mutexes there
written() {
	sync "$file"
	until_so dirty 64
}

# begin COMMAND [inherit]: $holder has them all
begin() {
	command=$1
	shift
	rm -f "$file"
	"$faultline" run --limit 4M --store "$work/mnt" -- \
		"$robust" "$command" "$file" "$@" <"$work/in" >"$work/said" &
	holder=$!
	exec 3>"$work/in" 4<"$work/said"
	read -r word <&4
	[ "$word" = held ]
}

# ended STATUS
ended() {
	exec 3>&-
	status=0
	wait "$holder" || status=$?
	holder=
	[ "$status" -eq "$1" ] || fail "status $status instead of $1"
}

for inherit in '' inherit; do
	for round in 1 2 3 4 5 6 7 8; do
		# shellcheck disable=SC2086
		begin hold $inherit
		[ $((round % 2)) -eq 0 ] || written
		kill -KILL "$holder"
		ended 137
		paged "$robust" take "$file" >"$work/taken" || fail "killed, round $round $inherit"
		grep -qx taken "$work/taken"
	done
	# shellcheck disable=SC2086
	begin leave $inherit
	written
	ended 0
	read -r word <&4
	[ "$word" = taken ]
done
"$faultline" umount "$work/mnt"
"$faultline" store check "$work/store"
