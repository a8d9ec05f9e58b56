# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work-postgres.sh BIN DIRECTORY ROWS: make a database cluster, work with it, end
# it.  As an ordinary user.
set -eu

PATH=$1:$PATH
cd "$2"
rows=$3
PGDATA=$2/data PGHOST=$2 PGUSER=postgres PGDATABASE=postgres LC_ALL=C TZ=UTC
export PGDATA PGHOST PGUSER PGDATABASE LC_ALL TZ
rm -rf "$PGDATA"

initdb -N -A trust -U postgres --locale=C -E UTF8 >initdb.log 2>&1 || {
	cat initdb.log >&2
	exit 1
}
cat >>"$PGDATA/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$2'
fsync = off
shared_buffers = 8MB
work_mem = 256MB
hash_mem_multiplier = 2
maintenance_work_mem = 256MB
max_parallel_workers_per_gather = 2
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
jit = off
autovacuum = off
END
pg_ctl -w -s -t 300 -l server.log start || {
	cat server.log >&2
	exit 1
}
trap 'pg_ctl -w -s -t 300 -m immediate stop' EXIT

sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1
}

echo "== pgbench"
pgbench -i -q -s 2 >pgbench.log 2>&1
pgbench -n -c 6 -j 2 -t 60 --random-seed=7 >>pgbench.log 2>&1
grep -E '^number of (clients|transactions actually processed|failed)' pgbench.log
sql <<'END'
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),
	(SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
	(SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),
	(SELECT count(*) FROM pgbench_history);
END

echo "== large sorts and tables of hashes"
sql <<END
CREATE TABLE t AS SELECT i, (i * 7919) % 100003 AS k, md5(i::text) AS word
	FROM generate_series(1, $rows) i;
ANALYZE t;
SELECT md5(string_agg(word, '' ORDER BY word DESC)) FROM t;
SELECT count(*), sum(n), max(w) FROM (SELECT k, count(*) AS n, min(word) AS w FROM t GROUP BY k) s;
SELECT count(*) FROM t a JOIN t b ON a.word = b.word AND a.k = b.k;
SELECT sum(r) FROM (SELECT rank() OVER (PARTITION BY k % 10 ORDER BY word) AS r FROM t) s;
CREATE INDEX ON t (word, k);
SELECT count(DISTINCT word) FROM t;
SELECT md5(array_agg(i ORDER BY k, i)::text) FROM t;
END

echo "== several at once"
jobs=
for n in 1 2 3 4; do
	sql >"out.$n" <<END &
SELECT md5(string_agg(word || '$n', '' ORDER BY reverse(word))) FROM t WHERE i % 4 <> $n;
UPDATE t SET k = k + $n WHERE i % 4 = $n % 4;
END
	jobs="$jobs $!"
done
for job in $jobs; do
	wait "$job"
done
cat out.1 out.2 out.3 out.4
sql <<'END'
VACUUM FULL t;
SELECT sum(k), md5(string_agg(word, '' ORDER BY k, word)) FROM t;
END
echo 'COPY (SELECT * FROM t ORDER BY i) TO STDOUT' | sql | md5sum
pg_dump -t t --no-owner | wc -l

echo "== again after a stop"
trap - EXIT
pg_ctl -w -s -t 300 -m fast stop
pg_ctl -w -s -t 300 -l server.log start
trap 'pg_ctl -w -s -t 300 -m immediate stop' EXIT
echo 'SELECT count(*), sum(k) FROM t' | sql
trap - EXIT
pg_ctl -w -s -t 300 -m fast stop
# a connection that psql has left may be told of the stop
if grep -E 'PANIC|FATAL|ERROR|terminated by signal|faultline: ' server.log |
	grep -v 'due to administrator command'; then
	exit 1
fi
