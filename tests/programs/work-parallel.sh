# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work-parallel.sh ROWS JOB: the same job many times, by xargs and GNU parallel.
set -eu

rows=$1 job=$2

echo "== xargs"
seq 6 | xargs -P 4 -I N sh "$job" "$rows" N | sort -n
echo 8 | xargs -P 2 -n 1 sh "$job" "$rows"
status=0
seq 3 | xargs -P 3 -I N sh -c 'exit $((N == 2 ? 7 : 0))' || status=$?
echo "status $status"

echo "== parallel"
parallel --no-notice -j 4 --keep-order sh "$job" "$rows" ::: 1 2 3 4 5 6
parallel --no-notice -j 3 --keep-order --tag echo {1}-{2} ::: a b c ::: x y z
status=0
parallel --no-notice -j 2 'exit {}' ::: 0 1 0 1 1 || status=$?
echo "status $status"
seq 20000 | parallel --no-notice -j 4 --keep-order --pipe -N 5000 'awk "{ s += \$1 } END { print s }"'
seq 6 | parallel --no-notice -j 3 --keep-order --results "$3/results" "seq {} | sort -rn | tr '\n' ' '"
cat "$3"/results/1/*/stdout
