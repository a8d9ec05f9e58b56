#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# redis-server without saves: load it, change much of it in another order than
# it was loaded, read everything back, and compare that and DEBUG DIGEST.
# FL_REDIS_KEYS (default 90000) values of 1 kB.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs redis-server redis-cli awk
socket=$dir/redis.sock
keys=${FL_REDIS_KEYS:-90000}

# Commands of the inline protocol: $1 is load or read.
commands() {
	awk -v what="$1" -v n="$keys" 'BEGIN {
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
		for (i = 0; what == "load" && i < n; i++) {
			print "SET key:" i " " i ":" text[i % 64]
			if (i % 50 == 0) {
				print "RPUSH list:" i % 400 " " text[(i / 50) % 64]
				print "HSET hash:" i % 1000 " f" i " " substr(text[i % 64], 1, 200)
				print "ZADD zset " (i * 7919) % n " m" i
			}
		}
		for (i = 0; what == "load" && i < n; i += 3) {
			k = (i * 7919) % n
			if (k % 7 == 0)
				print "DEL key:" k
			else if (k % 7 < 4)
				print "APPEND key:" k " " substr(text[k % 64], 1, 300)
			else
				print "SET key:" k " again:" text[(k + 1) % 64]
		}
		for (i = 0; what == "read" && i < n; i++)
			print "GET key:" i
		for (i = 0; what == "read" && i < 1000; i += 50)
			print "LRANGE list:" i % 400 " 0 -1\r\nHGET hash:" i " f" i + 4000
		if (what == "read")
			print "ZRANGE zset 0 -1 WITHSCORES\r\nDBSIZE\r\nDEBUG DIGEST"
	}'
}

# session native|managed: start it that way, work with it, end it.
session() {
	"$1" redis redis-server --port 0 --unixsocket "$socket" --save "" --appendonly no \
		--dir "$dir" --enable-debug-command yes --pidfile "$dir/pid" --logfile "$dir/log.$1" &
	server=$!
	until redis-cli -s "$socket" ping >/dev/null 2>&1; do
		kill -0 "$server" 2>/dev/null || fail "redis-server ($1) did not start: $(cat "$dir"/redis.*.err)"
	done
	commands load | redis-cli -s "$socket" --pipe >"$dir/load.$1" ||
		fail "redis-server ($1): $(tail -n 1 "$dir/load.$1")"
	grep -q 'errors: 0,' "$dir/load.$1" || fail "redis-server ($1): $(tail -n 1 "$dir/load.$1")"
	commands read | tr -d '\r' | redis-cli -s "$socket" >"$dir/contents.$1"
	redis-cli -s "$socket" shutdown nosave
	wait "$server"
}

session native
set_limit redis
session managed
[ "$(wc -l <"$dir/contents.native")" -gt "$keys" ] || fail "redis-server: the contents were not read"
cmp "$dir/contents.native" "$dir/contents.managed" >&2 ||
	fail "redis-server: contents differ from native"
same redis
was_paged redis
