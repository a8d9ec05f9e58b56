#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# postgres: initdb, a server, pgbench and its balances, and queries on
# FL_POSTGRES_ROWS (default 40000) rows with memory to sort in.
#
# postgres refuses to be root, so this is also a run as an ordinary user: one who
# has access to the device in a mount namespace of the test's own, which is gone
# when the test is.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs setpriv unshare
bin=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || fail "this test needs postgresql's initdb below /usr/lib/postgresql"
bin=${bin%/initdb}
user=nobody

# Where that user can read: a build tree may lie anywhere.
mkdir "$dir/faultline" "$dir/work" "$dir/dev"
cp "$FL_SRC/tests/programs/work-postgres.sh" "$dir/faultline"
cp "$(readlink -f "$faultline")" "$FL_BUILD/src/preload/.libs/libfaultline-preload.so" "$dir/faultline"
chmod -R a+rX "$dir"
chown "$user" "$dir" "$dir/work"
faultline=$dir/faultline/faultline
FAULTLINE_PRELOAD=$dir/faultline/libfaultline-preload.so
export FAULTLINE_PRELOAD

# as_user COMMAND...: with the device open to everybody in this namespace alone
cat >"$dir/faultline/as-user" <<'END'
set -eu
dev=$1 user=$2
shift 2
mount -t tmpfs -o mode=755 none "$dev"
mknod -m 666 "$dev/userfaultfd" c "$(stat -c %Hr /dev/userfaultfd)" "$(stat -c %Lr /dev/userfaultfd)"
mount --bind "$dev/userfaultfd" /dev/userfaultfd
exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$@"
END
as_user() {
	unshare -m --propagation private sh "$dir/faultline/as-user" "$dir/dev" "$user" "$@"
}

ln -s work/data/postmaster.pid "$dir/pid"
set -- sh "$dir/faultline/work-postgres.sh" "$bin" "$dir/work" "${FL_POSTGRES_ROWS:-40000}"
cp "$measure" "$dir/faultline/measure"
limit=5120
for way in native paged; do
	status=0
	prefix=
	[ "$way" = native ] || prefix="$faultline run --limit ${limit}K --swap-dir $dir --stats=$dir/postgres.stats --"
	# shellcheck disable=SC2086
	as_user "$dir/faultline/measure" "$dir/postgres.$way.cost" $prefix "$@" </dev/null \
		>"$dir/postgres.$way.out" 2>"$dir/postgres.$way.err" || status=$?
	echo "$status" >"$dir/postgres.$way.status"
done
[ "$(cat "$dir/postgres.native.status")" -eq 0 ] ||
	fail "postgres: $(cat "$dir/postgres.native.out" "$dir/postgres.native.err")"
grep -qx 't|t|t|360' "$dir/postgres.paged.out" ||
	fail "postgres: the balances do not agree: $(cat "$dir/postgres.paged.out" "$dir/postgres.paged.err")"
same postgres
family_was_paged postgres 4
