#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# redis-server saves in a forked child under full write load, and the two share
# one limit of 1.1 times the data set.  They never hold more, where by themselves
# they do, and the dump is the data set of the moment of BGSAVE.
# FL_BGSAVE_KEYS (default 10000) values of 1 kB.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs redis-server redis-cli awk
keys=${FL_BGSAVE_KEYS:-10000}
writes=$((keys * 2))
. "$FL_SRC/tests/programs/bgsave.sh"

# watched NAME COMMAND...: run it, and keep what all its processes held at once.
watched() {
	name=$1
	shift
	status=0
	"$FL_BUILD/tests/held" "$dir/$name.held" "$@" </dev/null >"$dir/$name.out" \
		2>"$dir/$name.err" || status=$?
	[ "$status" -eq 0 ] || fail "$name ended with $status: $(cat "$dir/$name.err")"
}

grouped() {
	name=$1
	shift
	watched "$name" "$faultline" run --limit "${limit}K" --limit-group --swap-dir "$dir" \
		--stats="$dir/$name.stats" -- "$@"
}

used() {
	cli info memory | tr -d '\r' | awk -F : '$1 == "used_memory" { print int($2 / 1024) }'
}

# Two halves of writes, and a save that begins between them and outlasts the second.
load_and_save() {
	times=8
	while :; do
		commands base | send base
		began=$(date +%s%N)
		commands writes 0 "$keys" | send 'first half'
		took=$((($(date +%s%N) - began) / 1000))
		cli debug digest >"$dir/$1.dump.digest"
		# the child pauses at every key, longer on a machine that is busy
		delay=$((took * times / keys))
		[ "$delay" -ge 200 ] || delay=200
		cli config set rdb-key-save-delay "$delay" >/dev/null
		cli bgsave >/dev/null
		commands writes "$keys" "$writes" | send 'second half'
		[ "$(info rdb_bgsave_in_progress)" != 1 ] || break
		# the second half may be much slower than the first one: all of it again
		[ "$times" -le 64 ] || fail "$1: the save ended before the writes"
		times=$((times * 4))
		cli flushall >/dev/null
	done
	until [ "$(info rdb_bgsave_in_progress)" = 0 ]; do :; done
	[ "$(info rdb_last_bgsave_status)" = ok ] || fail "$1: BGSAVE failed: $(cat "$dir/log.$1")"
	cli debug digest >"$dir/$1.end.digest"
	mv "$dir/dump.rdb" "$dir/$1.dump"
}

start watched alone
load_and_save alone
data=$(used)
stop
limit=$((data * 11 / 10))

start grouped server
load_and_save server
stop
for what in dump end; do
	cmp "$dir/alone.$what.digest" "$dir/server.$what.digest" >&2 ||
		fail "redis-server: data differs from native ($what)"
done

start native load --dbfilename server.dump
until [ "$(info loading)" = 0 ]; do :; done
cli debug digest | cmp - "$dir/alone.dump.digest" >&2 ||
	fail "redis-server: the dump is not what was there at the save"
stop

read -r alone _ <"$dir/alone.held"
read -r held samples processes <"$dir/server.held"
[ "$samples" -ge 20 ] && [ "$processes" -ge 2 ] ||
	fail "too little was seen: $samples samples of $processes processes"
[ "$alone" -gt "$limit" ] || fail "by itself it held $alone KiB only, the limit is $limit KiB"
[ "$held" -le "$limit" ] || fail "all held $held KiB at once, the limit is $limit KiB"
[ "$(total server 'errors of swap')" -eq 0 ] || fail "swap failed"
came_back server
echo "server and child: $data KiB of data, limit $limit KiB for both, held $held KiB at most" \
	"in $samples samples ($alone KiB without a limit)," \
	"$(total server 'pages evicted') pages evicted"
