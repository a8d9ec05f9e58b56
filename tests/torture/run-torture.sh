#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# run-torture.sh [SECONDS [SEED]]: torture in each mode of dirty tracking with
# each engine, and once with several pagers: SECONDS in all (60), an equal part
# each, with seeds from SEED on (by the day, so that each day meets others).  A
# line before each run gives the command that repeats it.
set -eu

total=${1:-60}
seed=${2:-}
: "${total:=60}"
: "${seed:=$(($(date +%s) / 86400))}"
torture=${FL_BUILD:-.}/tests/torture/torture
runs='auto:uring:1 sync:uring:1 off:uring:1 auto:sync:1 sync:sync:1 off:sync:1 auto:uring:3'

case $total$seed in
*[!0-9]*)
	echo "faultline: run-torture.sh: seconds and seed are numbers: $total $seed" >&2
	exit 2
	;;
esac
each=$((total / 7))
[ "$each" -gt 0 ] || each=1
for run in $runs; do
	wp=${run%%:*}
	pagers=${run##*:}
	engine=${run#*:}
	engine=${engine%:*}
	set -- --seconds "$each" --seed "$seed" --wp "$wp" --engine "$engine" --pagers "$pagers"
	echo "$torture $*"
	status=0
	# a hang is a failure: what is checked at the end takes a while, too
	timeout -k 10 $((each + 120)) "$torture" "$@" || status=$?
	if [ "$status" -ne 0 ]; then
		echo "faultline: torture failed with $status: $torture $*" >&2
		exit 1
	fi
	seed=$((seed + 1))
done
