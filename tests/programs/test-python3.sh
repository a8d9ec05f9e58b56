#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# python3 builds, changes and checks a dictionary of FL_DICT_MIB (default 300).
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs python3
paged python3 "$(python3_itself)" "$FL_SRC/tests/programs/dict.py" "${FL_DICT_MIB:-300}"
