#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# git, sqlite3 and rsync on MNT/files, with the checks that they have
# themselves; what they leave is the same in DIR/files.
. "${FL_SRC:-.}/tests/functions.sh"

mkdir "$work/mnt"
export HOME="$work" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b

"$faultline" store init "$work/store"
# shellcheck disable=SC2086
"$faultline" mount $sandbox "$work/store" "$work/mnt"
files=$work/mnt/files

# --- git ---

mkdir "$files/repo"
cd "$files/repo"
git init -q .
cp -r "$FL_SRC/lib" "$FL_SRC/man" .
git add -A
git commit -qm first
git checkout -qb side
git mv lib library
echo changed >>man/faultline.1
git commit -qam second
git checkout -q -
[ -e lib/sys.h ] && [ ! -e library ]
git gc -q
git fsck --full --strict
git merge -q side
[ -z "$(git status --porcelain)" ]
git clone -q "$files/repo" "$work/clone"
git -C "$work/clone" fsck --full
cmp "$work/clone/library/sys.h" "$FL_SRC/lib/sys.h"
cd "$work"

# --- sqlite3 ---

for mode in wal delete truncate persist; do
	{
		echo "PRAGMA journal_mode=$mode;"
		echo "CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT);"
		echo "BEGIN;"
		echo "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
			INSERT INTO t SELECT i, hex(zeroblob(100)) || i FROM n;"
		echo "COMMIT;"
		echo "BEGIN; DELETE FROM t; ROLLBACK;"
		echo "UPDATE t SET v = v || 'x' WHERE k % 3 = 0;"
		echo "DELETE FROM t WHERE k % 5 = 0;"
		echo "VACUUM;"
	} | sqlite3 "$files/$mode.db" >/dev/null
	[ "$(sqlite3 "$files/$mode.db" 'PRAGMA integrity_check')" = ok ]
	[ "$(sqlite3 "$files/$mode.db" 'SELECT count(*), sum(length(v)) FROM t')" = \
		"$(sqlite3 "$work/store/files/$mode.db" 'SELECT count(*), sum(length(v)) FROM t')" ]
	[ "$(sqlite3 "$files/$mode.db" 'SELECT count(*) FROM t')" -eq 2400 ]
done

# two writers: the locks keep them apart
for writer in 1 2; do
	i=0
	while [ "$i" -lt 20 ]; do
		echo "INSERT INTO t (v) VALUES ('writer $writer');"
		i=$((i + 1))
	done | sqlite3 -cmd '.timeout 60000' "$files/wal.db" &
	eval "writer$writer=$!"
done
wait "$writer1"
wait "$writer2"
[ "$(sqlite3 "$files/wal.db" 'PRAGMA integrity_check')" = ok ]
[ "$(sqlite3 "$files/wal.db" "SELECT count(*) FROM t WHERE v LIKE 'writer%'")" -eq 40 ]

# --- rsync ---

mkdir "$work/from"
cp -r "$FL_SRC/lib" "$FL_SRC/tests" "$work/from"
ln -s lib/sys.h "$work/from/link"
ln "$work/from/lib/sys.h" "$work/from/hard"
mkfifo "$work/from/fifo"
truncate -s 3M "$work/from/sparse"
printf data | dd of="$work/from/sparse" bs=1 seek=2000000 conv=notrunc status=none
setfattr -n user.test -v value "$work/from/hard"
rsync -aHXS "$work/from/" "$files/to/"
[ -z "$(rsync -aHXSnci --delete "$work/from/" "$files/to/")" ]
[ -z "$(rsync -aHXSnci --delete "$work/from/" "$work/store/files/to/")" ]
echo more >>"$work/from/lib/sys.h"
rm "$work/from/lib/sys.c"
rsync -aHXS --inplace --delete "$work/from/" "$files/to/"
[ -z "$(rsync -aHXSnci --delete "$work/from/" "$files/to/")" ]
[ "$(stat -c %h "$files/to/hard")" -eq 2 ]
[ "$(du -k "$files/to/sparse" | cut -f 1)" -lt 1000 ]

"$faultline" umount "$work/mnt"
[ -z "$(rsync -aHXSnci --delete "$work/from/" "$work/store/files/to/")" ]
git -C "$work/store/files/repo" fsck --full
