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
keys=${FL_BGSAVE_KEYS:-24000}
writes=$((keys * 2))
. "$FL_SRC/tests/programs/bgsave.sh"

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
# The child pauses at every key, so that it is at work while the writes come; where it was
# not, longer and all of it again.
delay=100
while :; do
	commands base | send base
	cli config set rdb-key-save-delay "$delay" >/dev/null
	{
		commands writes 0 "$keys"
		printf 'BGSAVE\r\n'
		commands writes "$keys" $((keys + keys / 20))
	} | send 'writes and save'
	[ "$(info rdb_bgsave_in_progress)" != 1 ] || break
	[ "$delay" -le 1600 ] || fail "redis-server: nothing was written during the save"
	delay=$((delay * 4))
	cli flushall >/dev/null
done
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
same server

for dump in dump end; do
	start native "load-$dump" --dbfilename "$dump"
	until [ "$(info loading)" = 0 ]; do :; done
	cli debug digest | cmp - "$dir/expected.$dump" >&2 ||
		fail "redis-server: '$dump' is not what was there at the save"
	stop
done
family_was_paged server 1
