#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# exec under faultline: a program finds nothing of what paged its predecessor,
# by whatever way it was started, and is paged itself; a static one and one that
# gains privilege simply run.  An area that a process has taken is not there for
# the programs that it starts: they swap to a private file.
. "${FL_SRC:-.}/tests/functions.sh"

live=$FL_BUILD/tests/live
mkdir "$work/swap"
bare_environment
use_swap
export FAULTLINE_SWAP_DIR="$work/swap"

# paged COMMAND...: under a limit that the command passes
paged() {
	rm -f "$work/stats"
	EXEC_PAGED=yes "$faultline" run --limit 8M --stats="$work/stats" -- "$@"
}

native() {
	EXEC_PAGED=no "$@"
}

# same WHAT COMMAND...: equal output and status both ways; nothing is said
same() {
	what=$1
	shift
	status=0
	native "$@" >"$work/native" 2>"$work/native.err" || status=$?
	[ "$status" -eq 0 ] || fail "$what: native status $status: $(cat "$work/native.err")"
	paged "$@" >"$work/paged" 2>"$work/paged.err" || status=$?
	[ "$status" -eq 0 ] || fail "$what: status $status: $(cat "$work/paged.err")"
	diff "$work/native" "$work/paged" || fail "$what: differs from native (<)"
	[ ! -s "$work/paged.err" ] || fail "$what: said $(cat "$work/paged.err")"
	[ "$(wc -l <"$work/paged")" -gt 40 ] || fail "$what: shows next to nothing"
}

# was_paged PROGRAM
was_paged() {
	grep -q "^faultline: $1 (process [0-9]*)\$" "$work/stats" || {
		cat "$work/stats"
		fail "$1 was not paged"
	}
}

cp "$live/exec-show-static" "$work/setuid"
chown 65534 "$work/setuid"
chmod 4755 "$work/setuid"

for way in exec second thread fexecve vfork spawn; do
	same "$way" "$live/exec-become" "$way" 24 "$live/exec-show"
	same "$way, paged as well" "$live/exec-become" "$way" 24 "$live/exec-show" 24
	was_paged exec-show
	same "$way, static" "$live/exec-become" "$way" 24 "$live/exec-show-static" 24
	same "$way, setuid" "$live/exec-become" "$way" 24 "$work/setuid" 24
	# one that was paged, then one that was paged, then one
	same "$way, twice" "$live/exec-become" "$way" 24 /bin/sh -c \
		'EXEC_PAGED='"\${LD_PRELOAD:+yes}"' exec "$0" "$@"' \
		"$live/exec-become" "$way" 24 "$live/exec-show"
done

# A dynamic program that gains privilege: the loader preloads nothing into it.
cp "$live/exec-show" "$work/setuid-dynamic"
chown 65534 "$work/setuid-dynamic"
chmod 4755 "$work/setuid-dynamic"
same 'setuid, dynamic' "$live/exec-become" exec 24 "$work/setuid-dynamic" 24

# An area is its first user's.
truncate -s 64M "$work/area"
"$faultline" mkswap "$work/area"
for way in exec heir spawn; do
	EXEC_PAGED=yes "$faultline" run --limit 8M --swap "$work/area" --log info -- \
		"$live/exec-become" "$way" 24 "$live/exec-show" 24 >"$work/out" 2>"$work/err" ||
		fail "an area of a program that uses $way: status $?, $(cat "$work/err")"
	said=$(grep -c "^faultline: swap area $work/area: already in use: process" "$work/err" || :)
	case $way:$said in exec:0 | heir:0 | spawn:1) ;; *) false ;; esac ||
		fail "an area of a program that uses $way: told $said times: $(cat "$work/err")"
	[ "$(grep -c '^faultline: armed' "$work/err")" -eq 2 ] || fail "$way: not both were paged"
done
EXEC_PAGED=yes "$faultline" run --limit 8M --swap "$work/area" -- \
	"$live/exec-become" spawn 24 "$live/exec-show" 24 >"$work/out" 2>"$work/err"
[ ! -s "$work/err" ] || fail "an area in use: said $(cat "$work/err")"

[ -z "$(ls "$work/swap")" ] || fail "something is left in the swap directory"
