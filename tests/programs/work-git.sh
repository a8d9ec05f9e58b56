# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work-git.sh HISTORY DIRECTORY: import, clone, collect, check and look at a
# repository, with the memory-hungry settings.
set -eu

history=$1
cd "$2"
mkdir work
cd work

git init -q -b main origin
git -C origin fast-import --quiet --done <"$history"
git -C origin reset -q --hard
git -C origin rev-parse main side

echo "== clone"
git clone -q --no-local "file://$PWD/origin" copy
git clone -q --bare --depth 5 "file://$PWD/origin" shallow
git -C copy rev-parse HEAD origin/side
git -C shallow rev-list --count HEAD

echo "== gc"
git -C copy -c pack.threads=2 -c pack.window=20 -c core.deltaBaseCacheLimit=64m gc -q --aggressive
git -C copy count-objects -v | grep -E '^(count|in-pack|packs|garbage)'

echo "== fsck"
git -C copy fsck --full --strict
git -C origin fsck --full
git verify-pack copy/.git/objects/pack/*.idx
echo "verified"

echo "== contents"
git -C copy rev-list --objects --all | cut -d ' ' -f 1 | sort | git -C copy cat-file --batch | md5sum
git -C copy log --format='%H %T %s' --stat --all --topo-order | md5sum
git -C copy log -p -M main | md5sum

echo "== diff"
git -C copy diff --stat main~20 main | tail -n 1
git -C copy diff main origin/side | md5sum
git -C copy diff --word-diff main~3 main -- dir1 | md5sum
git -C copy diff --name-status origin/side main

echo "== merge and rewrite"
cd copy
git config user.name 'A U Thor'
git config user.email author@example.com
git merge-base main origin/side
git merge -q -m merge -X ours origin/side
git rev-parse 'HEAD^{tree}'
git rebase -q main~3 >/dev/null 2>&1 || git rebase --abort
git blame -s dir1/file1.txt | md5sum
git grep -c -e a | sort | md5sum
git archive HEAD | md5sum
git stash list
git bundle create -q ../all.bundle --all
git clone -q ../all.bundle ../again
git -C ../again rev-parse 'HEAD^{tree}'
