#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The benchmark itself, in small: its own sides run to the end, no page is
# wrong, no row is empty, and nothing is left behind.  First, what it makes of
# failures and of goals, which is checks.py.
set -eu

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-test-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# bench ARGUMENT...: one run, whose table and values are in $dir
bench() {
	python3 "$FL_SRC/tests/bench/bench.py" --build "$FL_BUILD" --work-dir "$dir" \
		--csv "$dir/csv" --quick --rounds 1 --program-rounds 1 "$@" >"$dir/table"
	cat "$dir/table"
	if grep -E 'NOT MEASURED|FAILED' "$dir/table"; then
		exit 1
	fi
}

# rows PATTERN NUMBER WHAT: so many values
rows() {
	[ "$(grep -c "$1" "$dir/csv")" -eq "$2" ] || {
		echo "faultline: bench: not $2 values of $3" >&2
		exit 1
	}
}

# charts NAME...: a chart of each, and of nothing else
charts() {
	[ "$(ls "$dir/charts" | wc -l)" -eq $# ] || {
		echo "faultline: bench: not these charts alone: $*" >&2
		exit 1
	}
	for chart; do
		python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' \
			"$dir/charts/$chart.svg"
	done
	rm -r "$dir/charts"
}

TMPDIR=$dir python3 "$FL_SRC/tests/bench/checks.py"

bench --mib 32 --ops 512 --content soft --sides native,api,compressed,noswap,both,run,device \
	--parts memory,programs,unarmed,disk --svg "$dir/charts"
charts memory programs unarmed disk
rows '^disk,.*,us$' 5 'the disk by itself'
for side in native api compressed noswap both run; do
	[ "$(grep -c ",$side,1,.*,us\$" "$dir/csv")" -eq 9 ] || {
		echo "faultline: bench: not every work was measured for $side" >&2
		exit 1
	}
done
rows '^memory,[a-z]*,[128],device,.*,us$' 4 'the device by itself'
rows '^memory,randread-polled,1,device,.*,us$' 1 'the device, polled'
rows '^memory,misses of [a-z]*,[128],api,.*,an operation$' 9 'faults that waited'
rows '^memory,reads of [a-z]*,[128],api,.*,an operation$' 9 'pages read'
rows '^memory,CPU,,[a-z]*,1,.*,CPU s$' 6 'CPU time'
rows '^memory,reserve,,api,1,.*,us a call$' 1 'a terabyte mapped'
awk -F , '$2 == "reads of seqread" && $6 > 0.1 && $6 < 1.1 { found = 1 } END { exit !found }' \
	"$dir/csv" || {
	echo "faultline: bench: a sequential read did not read about each page once" >&2
	exit 1
}
for line in 'random read, 1 thread, polled ' 'CPU time, s ' 'bookkeeping: '; do
	grep -q "^$line" "$dir/table" || {
		echo "faultline: bench: the table has no line '$line'" >&2
		exit 1
	}
done
for program in sort python3 sqlite3 '"sqlite3, lookups and updates"' redis-server \
	'"redis-server, BGSAVE"' 'breadth-first search' PageRank stream; do
	[ "$(grep -c "^programs,$program," "$dir/csv")" -eq 2 ] || {
		echo "faultline: bench: $program was not measured on both sides" >&2
		exit 1
	}
done
for row in madvise mmap mprotect startup threads commands; do
	[ "$(grep -c "^unarmed,$row," "$dir/csv")" -eq 2 ] || {
		echo "faultline: bench: $row was not measured on both sides" >&2
		exit 1
	}
done
awk -F , '$2 == "evicted" && $4 == "api" && $6 > 0 { found = 1 } END { exit !found }' "$dir/csv" || {
	echo "faultline: bench: the API's side did not page" >&2
	exit 1
}
for side in compressed noswap both; do
	awk -F , -v side=$side '$2 == "faults_compressed" && $4 == side && $6 > 0 { found = 1 }
		END { exit !found }' "$dir/csv" || {
		echo "faultline: bench: nothing was compressed by $side" >&2
		exit 1
	}
done
awk -F , '$2 == "read_pages" && $4 == "both" && $6 > 0 { both = 1 }
	$2 == "read_pages" && $4 == "noswap" && $6 > 0 { alone = 1 }
	END { exit !both || alone }' "$dir/csv" || {
	echo "faultline: bench: not the area of 'both' alone was read" >&2
	exit 1
}

# Thread and pager may be bound, or not.
for near in 0 1; do
	"$FL_BUILD/tests/bench/bench-worker-faultline" --near $near --mib 16 --limit-mib 4 \
		--swap-dir "$dir" --ops 128 --works fill,randread >"$dir/table"
	grep -q '^row randread 1 ' "$dir/table"
done

# The other parts, kept: what was measured is not measured again.
bench --mib 16 --ops 128 --sides api,inthread --parts patterns,threads,sequential,strided,wide,limits,files,micro,pause \
	--state "$dir/state" --svg "$dir/charts"
rows '^patterns,.*,us$' 14 'patterns'
rows '^threads,.*,us$' 22 'threads'
rows '^sequential,.*,us$' 30 'work in order'
rows '^strided,.*,us$' 22 'work in strides'
rows '^wide,.*,us$' 12 'wide'
rows '^limits,.*,us$' 72 'limits'
rows '^files,.*,us$' 13 'a file'
rows '^micro,[a-z-]*,,same,.*,ns$' 12 'faults with the pager on the same CPU'
rows '^micro,[a-z-]*,,other,.*,ns$' 12 'faults with the pager on another CPU'
rows '^micro,[a-z-]*,,in-thread,.*,ns$' 8 'faults in the thread'
rows '^micro,[a-z]*-[0-9]*,,two,.*,ns$' 48 'ioctls by batch size'
rows '^micro,drop-scattered-[0-9]*,,two,.*,ns$' 4 'process_madvise by batch size'
rows '^micro,hook-[a-z]*,,run,.*,ns$' 4 'hooked calls'
rows '^micro,hook-[a-z]*,,native,.*,ns$' 4 'calls that nobody hooks'
rows '^micro,fork,,run,' 1 'a fork'
rows '^pause,.*,ms$' 24 'a snapshot, and fork'
rows '^pause,.*,count$' 4 'writes to protected pages'
awk -F , '$2 == "faults_in_thread" && $4 == "inthread" && $6 > 0 { found = 1 } END { exit !found }' \
	"$dir/csv" || {
	echo "faultline: bench: no fault was answered in its thread" >&2
	exit 1
}
charts patterns threads sequential strided wide limits files micro-faults micro-ioctls micro-other pause
mv "$dir/csv" "$dir/before"
bench --mib 16 --ops 128 --sides api,inthread --parts patterns,threads,sequential,strided,wide,limits,files,micro,pause \
	--state "$dir/state"
cmp "$dir/csv" "$dir/before" || {
	echo "faultline: bench: what was kept is not what was measured" >&2
	exit 1
}
rm -r "$dir/state" "$dir/before"

# A file, with as many operations as its limit asks for: what they touch does not fit.
bench --mib 64 --sides file,api,mmap-normal --parts files
rows '^files,.*,us$' 25 'a file, and of it unadvised'
rows '^files,[a-z]*,[148],mmap-normal,.*,us$' 5 'a file by mmap(2), unadvised'
for work in randread:1 randread:8 zipfread:1 randwrite:1 randread:4; do
	awk -F , -v row="$work:file_dropped" '$2 == row && $4 == "api" && $6 > 0 { found = 1 }
		END { exit !found }' "$dir/csv" || {
		echo "faultline: bench: nothing left memory in $work of a file" >&2
		exit 1
	}
done
for side in mmap mmap-normal api store; do
	awk -F , -v side=$side '$2 == "peak" && $4 == side && $6 > 0 { found = 1 }
		END { exit !found }' "$dir/csv" || {
		echo "faultline: bench: it is not known what memory a file took by $side" >&2
		exit 1
	}
done

bench --sides native,run,both --parts paged --svg "$dir/charts"
charts paged
for program in sort python3 sqlite3 btree redis bgsave bfs pagerank stream; do
	rows "^paged-$program,.*,run,1,.*,s\$" 1 "$program with a quarter of its need"
	rows "^paged-$program,.*,both,1,.*,s\$" 1 "$program with a pool and an area"
	rows "^paged-$program,.*, CPU\",,[a-z]*,1,.*,CPU s\$" 3 "the CPU time of $program"
done
bench --sides native,noswap --parts paged-bgsave,paged-stream
rows '^paged-bgsave,.*,noswap,1,.*,s$' 1 'a server and its child with a pool and no area'
rows '^paged-stream,.*,noswap,1,.*,s$' 1 'a stream with a pool and no area'

rm "$dir/csv" "$dir/table"
rmdir "$dir" || {
	echo "faultline: bench: left behind: $(ls -A "$dir")" >&2
	exit 1
}
