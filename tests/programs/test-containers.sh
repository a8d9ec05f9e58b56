#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The containers of the C++ library: vector, map, unordered_map, of FL_CONTAINERS_MIB
# (default 120).
. "${FL_SRC:-.}/tests/programs/paged.sh"

CXX=${CXX:-c++}
needs "$CXX"
"$CXX" -std=c++17 -O2 -o "$dir/containers" "$FL_SRC/tests/programs/containers.cpp"
paged containers "$dir/containers" "${FL_CONTAINERS_MIB:-120}"
