#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# java: FL_JAVA_MIB (default 16) alive and a lot of garbage, with the collectors
# for one thread and for several.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs java javac
mib=${FL_JAVA_MIB:-16}
javac -d "$dir" "$FL_SRC/tests/programs/Work.java"
for collector in Serial G1; do
	limit=$((mib * 1280))
	paged_family "java-$collector" 1 java "-XX:+Use${collector}GC" -Xshare:auto -XX:-UsePerfData \
		-XX:TieredStopAtLevel=1 "-Xmx$((mib * 3))m" -cp "$dir" Work "$mib"
	[ "$(cat "$dir/java-$collector.native.status")" -eq 4 ] ||
		fail "java: $(cat "$dir/java-$collector.native.err")"
done
