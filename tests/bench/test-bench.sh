#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The benchmark itself, in small: its own sides run to the end, no page is
# wrong, no row is empty, and nothing is left behind.
set -eu

dir=$(mktemp -d "${TMPDIR:-/var/tmp}/faultline-test-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT

python3 "$FL_SRC/tests/bench/bench.py" --build "$FL_BUILD" --work-dir "$dir" --csv "$dir/csv" \
	--quick --rounds 1 --program-rounds 1 --mib 32 --ops 512 --content soft \
	--sides native,api,compressed,run --parts memory,programs,unarmed >"$dir/table"
cat "$dir/table"
if grep -E 'NOT MEASURED|FAILED' "$dir/table"; then
	exit 1
fi
for side in native api compressed run; do
	[ "$(grep -c ",$side,1,.*,us\$" "$dir/csv")" -eq 9 ] || {
		echo "faultline: bench: not every work was measured for $side" >&2
		exit 1
	}
done
for program in sort python3 sqlite3 redis-server; do
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
awk -F , '$2 == "faults_compressed" && $4 == "compressed" && $6 > 0 { found = 1 } END { exit !found }' \
	"$dir/csv" || {
	echo "faultline: bench: nothing was compressed" >&2
	exit 1
}
rm "$dir/csv" "$dir/table"
rmdir "$dir" || {
	echo "faultline: bench: left behind: $(ls -A "$dir")" >&2
	exit 1
}
