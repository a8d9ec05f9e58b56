#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# stress-ng's stressors of memory and processes, which check what they read
# back; FL_STRESS times (default 1) as many operations.  Figures differ from run to
# run, so what is compared is the verdict.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs stress-ng
factor=${FL_STRESS:-1}

# stress NAME LIMIT PROCESSES OPTION...: under faultline, LIMIT KiB a process
stress() {
	stressor=$1 limit=$2 least=$3
	shift 3
	set -- stress-ng --seed 5 --verify --timeout 300 --metrics-brief --temp-path "$dir" "$@"
	native "$stressor" "$@"
	managed "$stressor" "$@"
	for way in native paged; do
		[ "$(cat "$dir/$stressor.$way.status")" -eq 0 ] ||
			fail "stress-ng $stressor ($way): $(cat "$dir/$stressor.$way".[eo]*)"
		cat "$dir/$stressor.$way.err" "$dir/$stressor.$way.out" >"$dir/$stressor.$way"
		grep -q 'successful run completed' "$dir/$stressor.$way" ||
			fail "stress-ng $stressor ($way): $(cat "$dir/$stressor.$way")"
		if grep -e ' fail: ' -e faultline: -e ' skip' "$dir/$stressor.$way" >&2; then
			fail "stress-ng $stressor ($way): did not do its work"
		fi
		awk -v name="$stressor" '$1 ~ /^stress-ng:/ && $4 == name && $5 > 0 { found = 1 }
			END { exit !found }' "$dir/$stressor.$way" ||
			fail "stress-ng $stressor ($way): no operation was done"
	done
	family_was_limited "$stressor" "$least"
}

stress vm 4096 2 --vm 2 --vm-bytes 24m --vm-keep --vm-ops $((16 * factor))
stress mmap 2048 1 --mmap 1 --mmap-bytes 3m --mmap-ops $((2 * factor))
stress mremap 2048 1 --mremap 1 --mremap-bytes 6m --mremap-ops $((10 * factor))
stress brk 2048 1 --brk 1 --brk-ops $((4000 * factor))
stress bigheap 4096 2 --bigheap 2 --bigheap-growth 1m --bigheap-ops $((60 * factor))
stress malloc 4096 1 --malloc 1 --malloc-bytes 1m --malloc-max 500 --malloc-ops $((2000 * factor))
stress fork 2048 0 --fork 2 --fork-ops $((100 * factor))
stress clone 2048 1 --clone 1 --clone-max 20 --clone-ops $((20 * factor))
stress vfork 2048 0 --vfork 2 --vfork-ops $((200 * factor))
