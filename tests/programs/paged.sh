# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Real programs, natively and under `faultline run` at a quarter of the memory
# that they took natively.  A test sources this file and says
#
#	paged NAME COMMAND [ARG ...]
#
# which runs the command both ways and fails unless standard output, standard
# error and exit status are equal byte for byte, pages were evicted and read
# back, and the peak stayed well below the native one.  For a program of many
# processes a test sets $limit, of KiB a process, and says
#
#	paged_family NAME PROCESSES COMMAND [ARG ...]
#
# which asks instead that at least so many processes were paged, that none held
# more than the limit, and that no swap failed.  Tests of servers use the steps
# one by one.
#
# FL_BUILD and FL_SRC name the trees (make check sets them).  Files go to a
# directory below $TMPDIR or /var/tmp, which is removed whatever happens.

set -eu

: "${FL_BUILD:=.}"
: "${FL_SRC:=$(dirname "$0")/../..}"
faultline=$FL_BUILD/src/cli/faultline
measure=$FL_BUILD/tests/measure

fail() {
	echo "faultline: $*" >&2
	exit 1
}

needs() {
	for tool; do
		command -v "$tool" >/dev/null || fail "this test needs $tool"
	done
}

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-programs.XXXXXX")

clean_up() {
	# A server that a failed test leaves says in this file who it is.
	if [ -s "$dir/pid" ] && kill -KILL "$(head -n 1 "$dir/pid")" 2>/dev/null; then
		wait
	fi
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# A shim that chooses among interpreters is a script of its own: what it would run.
python3_itself() {
	python3 -c 'import sys; print(sys.executable)'
}

# peak NAME native|paged: the most that was resident, in KiB.
peak() {
	cut -d ' ' -f 2 "$dir/$1.$2.cost"
}

# seconds NAME native|paged
seconds() {
	cut -d ' ' -f 1 "$dir/$1.$2.cost"
}

# native NAME COMMAND...: run it, keep output, status and cost.
native() {
	name=$1
	shift
	status=0
	"$measure" "$dir/$name.native.cost" "$@" </dev/null \
		>"$dir/$name.native.out" 2>"$dir/$name.native.err" || status=$?
	echo "$status" >"$dir/$name.native.status"
}

# set_limit NAME: a quarter of the native peak, in KiB.
set_limit() {
	limit=$(($(peak "$1" native) / 4))
	[ "$limit" -ge 8192 ] || fail "$1: takes too little memory to be paged: 4 x $limit KiB"
}

# managed NAME COMMAND...: the same under faultline; $limit is set.
managed() {
	name=$1
	shift
	status=0
	"$measure" "$dir/$name.paged.cost" "$faultline" run --limit "${limit}K" --swap-dir "$dir" \
		--stats="$dir/$name.stats" -- "$@" </dev/null \
		>"$dir/$name.paged.out" 2>"$dir/$name.paged.err" || status=$?
	echo "$status" >"$dir/$name.paged.status"
}

# stat NAME LABEL: a figure of the summary.
stat() {
	awk -v label="$2" '{ sub(/^ +/, "") }
		index($0, label " ") == 1 { print $NF; found = 1; exit }
		END { if (!found) exit 1 }' "$dir/$1.stats" ||
		fail "$1: the summary has no line '$2'"
}

same() {
	for what in status out err; do
		cmp "$dir/$1.native.$what" "$dir/$1.paged.$what" >&2 || {
			tail -n 5 "$dir/$1.paged.out" "$dir/$1.paged.err" >&2
			fail "$1: $what differs from native"
		}
	done
}

# total NAME LABEL: a figure of the summary, summed over all processes.
total() {
	awk -v label="$2" '{ sub(/^ +/, "") } index($0, label " ") == 1 { sum += $NF }
		END { print sum + 0 }' "$dir/$1.stats"
}

# came_back NAME: that evicted pages did, into $swapped; and compressed ones, where there are any.
came_back() {
	compressed=$(total "$1" 'compressed page')
	swapped=$(($(total "$1" 'page in swap') + compressed))
	[ "$swapped" -gt 0 ] || fail "$1: no page came back from swap"
	[ -z "${FAULTLINE_COMPRESS:-}" ] || [ "$compressed" -gt 0 ] ||
		fail "$1: no compressed page came back"
}

# was_paged NAME: that the run went through faultline, and within the limit.
was_paged() {
	[ -s "$dir/$1.stats" ] || fail "$1: no summary was written"
	evicted=$(stat "$1" 'pages evicted')
	[ "$evicted" -gt 0 ] || fail "$1: no page was evicted"
	came_back "$1"
	was=$(peak "$1" native) is=$(peak "$1" paged)
	[ "$is" -lt $((was * 2 / 3)) ] ||
		fail "$1: held $is KiB with a limit of $limit KiB; $was KiB natively"
	echo "$1: equal to native; limit $limit KiB, held $is KiB of $was," \
		"$evicted pages evicted, $swapped faults on swapped pages," \
		"$(seconds "$1" native) s natively, $(seconds "$1" paged) s paged"
}

paged() {
	native "$@"
	set_limit "$1"
	managed "$@"
	same "$1"
	was_paged "$1"
}

# family_was_limited NAME PROCESSES: at least so many were paged, none held too much.
family_was_limited() {
	[ -s "$dir/$1.stats" ] || fail "$1: no summary was written"
	processes=$(grep -c '^faultline: .*(process [0-9]*)$' "$dir/$1.stats") || :
	[ "$processes" -ge "$2" ] ||
		fail "$1: $processes processes were paged, at least $2 should have been"
	evicted=$(total "$1" 'pages evicted')
	[ "$evicted" -gt 0 ] || [ "$2" -eq 0 ] || fail "$1: no page was evicted"
	[ "$(total "$1" 'errors of swap')" -eq 0 ] || fail "$1: swap failed"
	most=$(awk '$1 == "most" && $2 == "held" {
			kib = $3 * ($4 == "GiB" ? 1048576 : $4 == "MiB" ? 1024 : 1)
			if (kib > most) most = kib
		}
		END { print int(most) }' "$dir/$1.stats")
	[ "$most" -le "$limit" ] || fail "$1: a process held $most KiB, the limit is $limit KiB"
	swapped=$(($(total "$1" 'page in swap') + $(total "$1" 'compressed page')))
	echo "$1: as native; limit $limit KiB, $processes processes paged, held $most KiB at" \
		"most, $evicted pages evicted, $swapped faults on swapped pages," \
		"$(seconds "$1" native) s natively, $(seconds "$1" paged) s paged"
}

# family_was_paged NAME PROCESSES: that, and pages came back.
family_was_paged() {
	family_was_limited "$@"
	came_back "$1"
}

# paged_family NAME PROCESSES COMMAND...; $limit is set.
paged_family() {
	name=$1 least=$2
	shift 2
	native "$name" "$@"
	managed "$name" "$@"
	same "$name"
	family_was_paged "$name" "$least"
}
