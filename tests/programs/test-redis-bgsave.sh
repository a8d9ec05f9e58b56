#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# redis-server saves in a forked child while writes go on.  The dump must be the
# data set of the moment of BGSAVE, which comes in the middle of a stream of
# writes: another server that was given the writes up to there, natively, must
# have the digest of one that loads the dump.  FL_BGSAVE_KEYS (default 24000)
# values of 1 kB.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs redis-server redis-cli awk
socket=$dir/redis.sock
keys=${FL_BGSAVE_KEYS:-24000}
writes=$((keys * 2))

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

# start native|managed NAME [OPTION...]
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

# How it should be.
start native server
commands base | send base
commands writes 0 "$keys" | send 'first half'
cli debug digest >"$dir/expected.dump"
commands writes "$keys" "$writes" | send 'second half'
cli debug digest >"$dir/expected.end"
stop

limit=$(($(peak server native) / 3))
start managed server
commands base | send base
# The child pauses at every key, so that it is at work while the writes come.
cli config set rdb-key-save-delay 100 >/dev/null
{
	commands writes 0 "$keys"
	printf 'BGSAVE\r\n'
	commands writes "$keys" $((keys + keys / 20))
} | send 'writes and save'
during=$(info rdb_bgsave_in_progress)
commands writes $((keys + keys / 20)) "$writes" | send 'writes during the save'
until [ "$(info rdb_bgsave_in_progress)" = 0 ]; do :; done
[ "$(info rdb_last_bgsave_status)" = ok ] || fail "redis-server: BGSAVE failed: $(cat "$dir/log.server")"
cli debug digest | cmp - "$dir/expected.end" >&2 || fail "redis-server: data differs from native"
mv "$dir/dump.rdb" "$dir/dump"
# And once more, nothing being written.
cli config set rdb-key-save-delay 0 >/dev/null
cli save >/dev/null
mv "$dir/dump.rdb" "$dir/end"
stop
[ "$during" = 1 ] || fail "redis-server: nothing was written during the save"
same server

for dump in dump end; do
	start native "load-$dump" --dbfilename "$dump"
	until [ "$(info loading)" = 0 ]; do :; done
	cli debug digest | cmp - "$dir/expected.$dump" >&2 ||
		fail "redis-server: '$dump' is not what was there at the save"
	stop
done
family_was_paged server 1
