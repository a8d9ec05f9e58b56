#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# node with a heap of some FL_NODE_MIB (default 16), worker threads and children.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs node
limit=24576
paged_family node 1 node --expose-gc "$FL_SRC/tests/programs/work.mjs" "${FL_NODE_MIB:-16}"
[ "$(cat "$dir/node.native.status")" -eq 5 ] || fail "node: $(cat "$dir/node.native.err")"
