# SPDX-License-Identifier: LGPL-2.1-or-later
#
# job-awk.sh ROWS N: fill a table, change it and sum it up.
exec awk -v rows="$1" -v n="$2" 'BEGIN {
	for (i = 0; i < rows; i++)
		t[i] = sprintf("%d:%080d", (i * 7919 + n) % rows, i)
	for (i = 0; i < rows; i += 3)
		t[i] = t[i] "+"
	for (i = 0; i < rows; i++)
		s = (s * 33 + length(t[i]) + t[i]) % 1000000007
	print n, length(t), s
}'
