#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# 'faultline map' and 'faultline top' of a program that pages: sums agree, each
# line is well formed, the screen is painted and left by q; one line for who
# cannot be shown.
. "${FL_SRC:-.}/tests/functions.sh"
export LC_ALL=C.UTF-8 TERM=xterm

finish() {
	exec 3>&-
	[ ! -s "$work/top" ] || [ -s "$work/status" ] || kill "$(cat "$work/top")" || true
	wait
	remove_work
}

# run STATUS ARGUMENT...
run() {
	want=$1
	shift
	expect "$want" "$faultline" "$@" </dev/null
}

# refuses STATUS TEXT ARGUMENT...: one line
refuses() {
	want=$1
	text=$2
	shift 2
	run "$want" "$@"
	one_line "$text" "$@"
}

# A program that holds some 40 MiB in 8, until its standard input ends.
mkfifo "$work/in" "$work/says"
"$faultline" run --limit 8M --swap-dir "$work" -- perl -e \
	'$s .= pack "L*", map { rand 4294967296 } 1 .. 1024 for 1 .. 10240;
	print "$$\n"; close STDOUT; <STDIN>' \
	<"$work/in" >"$work/says" 3>&- &
exec 3>"$work/in"
read -r pid <"$work/says"

# --- map ---

run 0 map "$pid"
awk '
	NR == 1 { columns = NF; next }
	/^total/ {
		for (i = 2; i <= NF; i++)
			if ($i != sum[i + 1])
				exit 1
		total = 1
		next
	}
	{
		if (NF != columns + 1 || $1 !~ /^[0-9a-f]+-[0-9a-f]+$/ || $2 !~ /^[r-][w-][x-]$/)
			exit 1
		for (i = 3; i <= NF; i++)
			sum[i] += $i
	}
	END { exit !(total && sum[5] > 5000) }' "$work/out" || fail "map: not a table with its sums"
swapped=$(awk '/^total/ { print $4 }' "$work/out")

run 0 map --pages "$pid"
awk -v swapped="$swapped" '
	NF != 5 || $1 !~ /^[0-9a-f]+$/ || $2 !~ /^[1-9][0-9]*$/ { exit 1 }
	$3 == "swapped" { n += $2; if ($4 !~ /^[0-9]+:[0-9]+$/) exit 1 }
	END { exit !(n > swapped / 2 && n < swapped * 2) }' "$work/out" || fail "map --pages: not runs"

refuses 2 "wants a process number" map
refuses 2 "one process: '2'" map 1 2
refuses 2 "'x1' is not a process number" map x1
refuses 2 "unknown option" map --bogus 1
refuses 1 "process 4194305: No such process" map 4194305
refuses 1 "process $$ has no memory that faultline manages" map "$$"
if by_root "map as nobody"; then
	cp "$faultline" "$work/faultline"
	chmod 755 "$work"
	status=0
	setpriv --reuid=65534 --regid=65534 --clear-groups "$work/faultline" map "$pid" \
		>"$work/out" 2>"$work/err" || status=$?
	[ "$status" -eq 1 ] || fail "map as nobody: status $status instead of 1"
	grep -q "^faultline: process $pid may not be looked into" "$work/err" ||
		fail "map as nobody: not told"
fi

# --- top ---

run 0 top --once --sort swapped
head -n 1 "$work/out" | grep -q '^ *PID COMMAND  *LIMIT ' || fail "top: no heading"
awk -v pid="$pid" '$1 == pid && $2 == "perl" && $3 == "8.0M" && $6 ~ /M$/ { found = NF } END { exit found != 13 }' \
	"$work/out" || fail "top: no line for the program"
[ "$(awk '{ if (length > n) n = length } END { print n }' "$work/out")" -le 80 ] ||
	fail "top: lines are too long"
refuses 2 "'colour' is nothing to sort by" top --sort colour
refuses 2 "'0' is not a delay" top --delay 0
refuses 2 "one mount: 'b'" top a b
refuses 1 "no store is mounted there" top "$work"
refuses 1 "no store is mounted there" top "$work/none"

# On a terminal, which script(1) makes: a screen, and q leaves it.
echo q | timeout 300 script -qec "stty cols 80 rows 200; '$faultline' top --delay 0.2 --sort pid" \
	/dev/null >"$work/out" 2>"$work/err" || fail "top did not end by q"
grep -aq 'by pid' "$work/out" || fail "top: nothing on the screen"
grep -aq 'perl' "$work/out" || fail "top: the program is not on the screen"
status=0
timeout 300 script -qec "TERM=none-such '$faultline' top" /dev/null </dev/null >"$work/out" \
	2>"$work/err" || status=$?
[ "$status" -eq 1 ] || fail "top on an unknown terminal: status $status instead of 1"
[ "$(tr -d '\r' <"$work/out")" = \
	"faultline: the terminal 'none-such' is not known; --once prints a table" ] ||
	fail "top on an unknown terminal: not told"

# A terminal that goes, when nobody is sent away by its signal, ends top all the same.
cat >"$work/hold" <<'END'
trap '' HUP
sh -c 'echo $$ >"$1"; exec "$2" top' sh "$1/top" "$2" 2>"$1/err"
echo $? >"$1/status"
END
script -qec "sh '$work/hold' '$work' '$faultline'" /dev/null <"$work/in" >"$work/screen" 2>&1 &
painted() {
	grep -aq 'by resident' "$work/screen"
}
until_so painted
kill -KILL $!
until_so [ -s "$work/status" ]
[ "$(cat "$work/status")" -eq 1 ] || fail "top without its terminal: status $(cat "$work/status")"
[ "$(cat "$work/err")" = "faultline: the terminal is gone" ] || fail "top without its terminal: not told"
