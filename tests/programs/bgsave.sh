# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# What the tests of BGSAVE share: a server, a stream of commands that any server
# can be given in part, and its digest.  $keys and $dir are set.

socket=$dir/redis.sock

# Commands of the inline protocol: base, or writes FROM TO.
commands() {
	awk -v what="$1" -v n="$keys" -v from="${2:-0}" -v to="${3:-0}" 'BEGIN {
		x = 1
		for (i = 0; i < 64; i++) {
			s = ""
			while (length(s) < 1000) {
				x = (x * 69069 + 12345) % 4294967296
				s = s sprintf("%08x", x)
			}
			text[i] = s
		}
		ORS = "\r\n"
		for (i = 0; what == "base" && i < n; i++)
			print "SET key:" i " " i ":" text[i % 64]
		for (i = from; what == "writes" && i < to; i++) {
			k = (i * 7919) % n
			if (i % 5 == 0)
				print "DEL key:" k
			else if (i % 5 < 3)
				print "SET key:" k " " i ":" text[(i * 31) % 64]
			else
				print "APPEND key:" k " " substr(text[i % 64], 1, 400)
			if (i % 10 == 0)
				print "RPUSH list:" k % 50 " " text[i % 64]
		}
	}'
}

cli() {
	redis-cli -s "$socket" "$@"
}

# start native|managed|... NAME [OPTION...]
start() {
	way=$1 what=$2
	shift 2
	"$way" "$what" redis-server --port 0 --unixsocket "$socket" --save "" --appendonly no \
		--dir "$dir" --enable-debug-command yes --pidfile "$dir/pid" \
		--logfile "$dir/log.$what" "$@" &
	server=$!
	until [ "$(cli ping 2>/dev/null)" = PONG ]; do
		kill -0 "$server" 2>/dev/null || fail "redis-server ($what) did not start: $(cat "$dir/log.$what")"
	done
}

stop() {
	cli shutdown nosave
	wait "$server"
}

# send WHAT: standard input to the server
send() {
	redis-cli -s "$socket" --pipe >"$dir/said" || fail "redis-server: $(tail -n 1 "$dir/said")"
	grep -q 'errors: 0,' "$dir/said" || fail "redis-server ($1): $(cat "$dir/said")"
}

info() {
	cli info persistence | tr -d '\r' | awk -F : -v name="$1" '$1 == name { print $2 }'
}
