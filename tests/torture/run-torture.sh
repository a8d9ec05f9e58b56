#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# run-torture.sh [SECONDS [SEED]]: torture in each mode of dirty tracking with
# each engine, once with several pagers and with compressed pages, through the
# library, with faults answered in the threads that take them, too; mappings of
# files and of sources, which fail at times; and then, with forks, under `faultline run`, at last with one limit for all processes: SECONDS
# in all (60), an equal part each, with seeds from SEED on (by the day, so that
# each day meets others).  A line before each run gives the command that repeats it.
# FL_COMPRESS, "lz4" or "zstd,512K", has all of them compress that would not.
set -eu

total=${1:-60}
seed=${2:-}
: "${total:=60}"
: "${seed:=$(($(date +%s) / 86400))}"
build=${FL_BUILD:-.}
runs='auto:uring:1:none sync:uring:1:none off:uring:1:none auto:sync:1:none sync:sync:1:none
	off:sync:1:none auto:uring:3:none auto:uring:1:lz4 sync:uring:2:lz4 off:sync:1:zstd'

case $total$seed in
*[!0-9]*)
	echo "faultline: run-torture.sh: seconds and seed are numbers: $total $seed" >&2
	exit 2
	;;
esac
kind=${FL_COMPRESS:-}
kind=${kind%,*}
each=$((total / 22))
[ "$each" -gt 0 ] || each=1

# repeat COMMAND...: run it, with its line before; a hang is a failure
repeat()
{
	echo "$*"
	status=0
	# what is checked at the end takes a while, too
	timeout -k 10 $((each + 300)) "$@" || status=$?
	if [ "$status" -ne 0 ]; then
		echo "faultline: torture failed with $status: $*" >&2
		exit 1
	fi
	seed=$((seed + 1))
}

# parts RUN: into $wp, $engine, $pagers and $compress
parts()
{
	IFS=: read -r wp engine pagers compress <<-END
		$1
	END
	[ "$compress" != none ] || compress=${FL_COMPRESS:-none}
}

for run in $runs; do
	parts "$run"
	repeat "$build/tests/torture/torture" --seconds "$each" --seed "$seed" --wp "$wp" \
		--engine "$engine" --pagers "$pagers" --compress "${compress%,*}"
done
for options in '--wp auto' '--wp sync --engine sync --pagers 2'; do
	# shellcheck disable=SC2086 # several options
	repeat "$build/tests/torture/torture" --seconds "$each" --seed "$seed" --in-thread $options \
		${kind:+--compress "$kind"}
done
for options in '--engine uring' '--engine uring --pages 8192 --limit 8388608' \
	'--engine sync --pagers 2' '--source --pagers 2' --errors; do
	# shellcheck disable=SC2086 # several options
	repeat "$build/tests/torture/torture-files" --seconds "$each" --seed "$seed" $options \
		${kind:+--compress "$kind"}
done
for run in auto:uring:1:none sync:sync:1:none off:uring:2:none auto:uring:1:lz4,512K; do
	parts "$run"
	repeat "$build/src/cli/faultline" run --limit 2M --wp "$wp" --engine "$engine" \
		--pagers "$pagers" --compress="$compress" -- "$build/tests/torture/torture-fork" --seconds "$each" \
		--seed "$seed"
done
for run in auto:uring:1:none off:sync:2:lz4,512K; do
	parts "$run"
	repeat "$build/src/cli/faultline" run --limit 2M --files '*/torture-fork-*' --wp "$wp" \
		--engine "$engine" --pagers "$pagers" --compress="$compress" -- \
		"$build/tests/torture/torture-fork" --seconds "$each" --seed "$seed" --file
done
repeat "$build/src/cli/faultline" run --limit 12M --limit-group \
	--compress="${FL_COMPRESS:-none}" -- "$build/tests/torture/torture-fork" --seconds "$each" \
	--seed "$seed" --refused
