#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# --limit-group: the processes of a tree, forked and executed, never hold more
# than the one limit (all are stopped while it is looked); what one does not need
# or leaves behind is the others'; who finds no room is told so; nothing is left.
set -eu

# Segments of shared memory are counted: they are this test's own.
if [ "$(id -u)" -eq 0 ] && [ -z "${own_ipc:-}" ]; then
	exec env own_ipc=yes unshare --ipc sh "$0"
fi
unset own_ipc

. "${FL_SRC:-.}/tests/functions.sh"

held=$FL_BUILD/tests/held
tree=$FL_BUILD/tests/live/group-tree
bare_environment
use_swap
export FAULTLINE_SWAP_DIR="$work" tree work

# group STATUS LIMIT ARGUMENT...
group() {
	want=$1 limit=$2
	shift 2
	status=0
	rm -f "$work/stats"
	"$faultline" run --limit "$limit" --limit-group --stats="$work/stats" "$@" \
		>"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq "$want" ] || fail "$*: status $status instead of $want"
}

quiet() {
	[ ! -s "$work/err" ] || fail "$1: something on standard error"
}

says() {
	grep -q -e "$1" "$work/err" || fail "nobody says '$1'"
}

# watched KIB PROCESSES COMMAND...: under a limit, all of it held by that many, and never more
watched() {
	limit=$1 least=$2
	shift 2
	"$held" "$work/held" "$faultline" run --limit "${limit}K" --limit-group -- "$@" \
		>"$work/out" 2>"$work/err" || fail "$*: status $?"
	read -r most samples processes <"$work/held"
	[ "$most" -le "$limit" ] || fail "$*: $most KiB were held, the limit is $limit KiB"
	[ "$processes" -ge "$least" ] || fail "$*: $processes processes at once"
	[ "$most" -ge $((limit / 4)) ] || fail "$*: $most KiB were held of $limit in $samples samples"
	echo "$*: $most KiB of $limit, $processes processes, $samples samples"
}

segments=$(ipcs -m | wc -l)

# --- the limit ---

watched 20480 6 "$tree" 14 4 3 2
quiet tree
grep -q '^0 refused, 0 ended badly' "$work/out" || fail "forks were refused"
# 50 programs that come and go, 8 at a time
watched 49152 8 sh -c 'yes 6 | head -n 50 | xargs -P 8 -n 1 sh -c '\''"$tree" "$0" 0 0'\'
quiet xargs
[ "$(grep -c '^0 refused, 0 ended badly' "$work/out")" -eq 50 ] || fail "not all ended well"
# by processes alone, each with the same limit, it is passed
"$held" "$work/held" "$faultline" run --limit 20480K -- "$tree" 14 4 3 1 >"$work/out" 2>"$work/err" ||
	fail "tree: status $?"
read -r most _ <"$work/held"
[ "$most" -gt 20480 ] || fail "a limit for each process held for all: the test sees too little"

# --- nothing is paged while there is room ---

group 0 64M -- "$tree" 4 2 2
quiet 'a small tree'
grep -q 'memory never got tight, nothing was paged' "$work/stats" || fail "something was paged"

# --- what others do not need ---

# one that is killed, or becomes another program, leaves all
group 0 24M -- sh -c '
	mkfifo "$work/in" "$work/said"
	"$tree" hold 20 <"$work/in" >"$work/said" & pid=$!
	exec 3>"$work/in"
	read -r _ <"$work/said"
	kill -KILL $pid
	wait $pid
	exec "$tree" 20 0 0'
most=$(awk '/group-tree/ { ours = 1 } /most held/ && ours { print int($3); exit }' "$work/stats")
[ "$most" -ge 18 ] || fail "$most MiB held by the only one"
rm -f "$work/in" "$work/said"
# one that is idle gives what it does not need, and still has its data
group 0 24M -- sh -c '
	mkfifo "$work/in" "$work/said"
	"$tree" hold 20 <"$work/in" >"$work/said" &
	exec 3>"$work/in"
	read -r _ <"$work/said"
	"$tree" 18 0 0 0 16 3>&-
	exec 3>&-
	wait $!'
quiet idle
[ "$(grep -c 'most held' "$work/stats")" -eq 2 ] || fail "two should have been paged"
awk '/most held/ && $3 < 15 { exit 1 }' "$work/stats" ||
	fail "who works has not got what the idle one does not need"
rm -f "$work/in" "$work/said"

# --- compressed, without an area ---

# of the only process the pool may have as much of the limit as without a group
store=${FAULTLINE_STORE:-}
unset FAULTLINE_STORE
group 0 24M --compress=lz4,18M --swap none -- perl -e 'my (@a, $x); my ($s, $n) = (1, 0);
	for (1..100) {
		$x = "";
		for (1..16384) {
			$s = ($s * 1103515245 + 12345) % 2147483648;
			$x .= pack("L", $s) . "." x 26;
		}
		push @a, $x;
		$n += unpack("%32L*", $x);
	}
	$n -= unpack("%32L*", $_) for @a;
	exit($n != 0)'
quiet compressed
[ -z "$store" ] || export FAULTLINE_STORE="$store"

# --- no room ---

group 0 4M -- "$tree" hold 3 4 </dev/null
says '^faultline: fork: the group.s limit of 4 MiB'
[ "$(grep -c fork: "$work/err")" -eq 1 ] || fail "a refused fork is said more than once"
grep -q '^3 refused' "$work/out" || fail "not three of four forks were refused"
group 125 4M -- sh -c '
	mkfifo "$work/in" "$work/said"
	"$tree" hold 3 <"$work/in" >"$work/said" &
	exec 3>"$work/in"
	read -r _ <"$work/said"
	"$tree" 1 0 0'
says "^faultline: .*group-tree: the group's limit of 4 MiB is taken by 2 processes"
rm -f "$work/in" "$work/said"

# --- which group ---

# one below has a group of its own, where it asks for one, and one alone has none
group 0 32M -- sh -c '"$0" run --limit 8M --limit-group --stats="$work/inner" "$tree" 1 0 0;
	FAULTLINE_LIMIT_GROUP=0 "$0" run --limit 8M --stats="$work/alone" "$tree" 1 0 0;
	"$0" run --limit 8M --stats="$work/same" "$tree" 1 0 0' "$faultline"
quiet groups
grep -q "of a group's  *8.0 MiB" "$work/inner" || fail "the inner group has another limit"
grep -q "of a group's  *32.0 MiB" "$work/same" || fail "the inner program is in another group"
! grep -q "of a group's" "$work/alone" || fail "who asks for none is in a group"
FAULTLINE_GROUP=nonsense
export FAULTLINE_GROUP
status=0
FAULTLINE_LIMIT=16M FAULTLINE_LIMIT_GROUP=1 LD_PRELOAD=$FL_BUILD/src/preload/.libs/libfaultline-preload.so \
	"$tree" 1 0 0 >"$work/out" 2>"$work/err" || fail "nonsense: status $?"
says '^faultline: .*group-tree has a limit of its own: '
unset FAULTLINE_GROUP
# nor does a program that becomes another user's come into this one's group
if by_root "another user's program"; then
	# the tree may be where others cannot read
	cp "$FL_BUILD/src/preload/.libs/libfaultline-preload.so" "$tree" "$work"
	chmod 755 "$work" "$work"/*
	export FAULTLINE_PRELOAD="$work/libfaultline-preload.so"
	group 0 16M -- sh -c 'setpriv --reuid 65534 --clear-groups -- "$work/group-tree" 1 0 0'
	unset FAULTLINE_PRELOAD
	says '^faultline: .*group-tree has a limit of its own: .*Permission denied'
fi

# --- nothing shows, nothing stays ---

ls -l /proc/self/fd | wc -l >"$work/native"
group 0 16M -- sh -c 'ls -l /proc/self/fd | wc -l'
[ "$(cat "$work/out")" -eq "$(cat "$work/native")" ] || fail "a descriptor shows"
# a process that was ended with another one is gone, and its segments with it, in a moment
no_segment_is_left() {
	[ "$(ipcs -m | wc -l)" -eq "$segments" ]
}
until_so no_segment_is_left
