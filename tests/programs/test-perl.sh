#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# perl with a hash of FL_PERL_ENTRIES (default 8000), its forks, pipes and sockets.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs perl
limit=4096
paged_family perl 10 perl "$FL_SRC/tests/programs/work.pl" "${FL_PERL_ENTRIES:-8000}"
[ "$(cat "$dir/perl.native.status")" -eq 6 ] || fail "perl: the script did not reach its end"
