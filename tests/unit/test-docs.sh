#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The documentation says what is so: functions with their prototypes, every
# name and field of the public header, commands, options and variables agree
# with the manual in both directions; pages and their examples are well formed;
# files that the documents speak of exist.
#
# All that is wrong is told, not only the first thing.
set -eu
export LC_ALL=C.UTF-8

header=$FL_SRC/include/faultline.h
faultline=$FL_BUILD/src/cli/faultline
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

wrong() {
	echo "$*"
	failed=1
}

# none FILE WHAT...: each line of FILE is something wrong
none() {
	file=$1
	shift
	[ ! -s "$file" ] || wrong "$*:" $(cat "$file")
}

# some FILE: a list that was found empty is a test that looks at nothing
some() {
	[ -s "$1" ] || {
		echo "nothing found for $(basename "$1")"
		exit 1
	}
}

# words PATTERN [FILE...]: what matches, once each
words() {
	pattern=$1
	shift
	grep -Eoh -e "$pattern" "$@" | sort -u
}

# The pages as they will lie when installed, so that .so is followed, and as
# text, one paragraph a line, without overstrikes.
for n in 1 3 7; do
	mkdir -p "$work/pages/man$n"
	cp "$FL_SRC"/man/*."$n" "$work/pages/man$n"
done
mkdir "$work/text"
for page in "$work"/pages/man*/*; do
	case $(head -n 1 "$page") in
	.so*) ;;
	*) mandoc -T ascii -O width=999 "$page" | sed 's/.\x08//g' >"$work/text/${page##*/}" ;;
	esac
done

# section PAGE NAME: one section of a page
section() {
	sed -n "/^$2\$/,/^[A-Z]/p" "$work/text/$1" | sed 1d
}

# --- pages are well formed ---

for page in "$work"/pages/man*/*; do
	name=${page##*/}
	said=$(cd "$work/pages" && man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) || true
	[ -z "$said" ] || wrong "man $name: $said"
	[ -e "$work/text/$name" ] || continue
	said=$(mandoc -T lint -W warning "$page") || true
	[ -z "$said" ] || wrong "mandoc: $said"
	for part in NAME SYNOPSIS DESCRIPTION 'SEE ALSO'; do
		[ "$part:$name" = SYNOPSIS:faultline.7 ] || [ -n "$(section "$name" "$part")" ] ||
			wrong "$name has no $part"
	done
	tail -n 1 "$work/text/$name" | grep -q 'faultline 0' ||
		wrong "$name does not end with the release"
done

# Own pages that are referred to exist; what is installed is what there is.
cat "$work"/text/* | words '(faultline|fl_)[a-z0-9_-]*\([137]\)' | tr '()' '. ' | tr -d ' ' |
	while read -r page; do
		[ -e "$FL_SRC/man/$page" ] || echo "$page"
	done >"$work/dangling"
none "$work/dangling" "referred to, but not there"
words 'man/[a-z0-9_-]+\.[137]' "$FL_SRC/man/local.mk" >"$work/installed"
(cd "$FL_SRC" && ls man/*.[137] | sort) >"$work/present"
diff "$work/installed" "$work/present" || wrong "man/local.mk (<) does not install what is in man (>)"

# --- functions ---

# What the preprocessor leaves of the header are declarations; faultline's own
# are those that its line markers put there.
$FL_CC -E -P "$header" | tr -s ' \t\n' ' ' | sed 's/;/;\n/g' >"$work/declarations"
sed -n 's/.*[ *]\(fl_[a-z0-9_]*\)(.*/\1/p' "$work/declarations" | sort -u >"$work/functions"
some "$work/functions"
while read -r function; do
	page=$FL_SRC/man/$function.3
	[ -e "$page" ] || {
		wrong "$function has no page"
		continue
	}
	target=$(sed -n '1s|^\.so man3/||p' "$page")
	text=$work/text/${target:-$function.3}
	[ -e "$text" ] || {
		wrong "$function.3 leads nowhere"
		continue
	}
	section "${text##*/}" NAME | grep -Eq "(^|[ ,])$function(,| -)" ||
		wrong "${text##*/}: $function is not under NAME"
	prototype=$(sed -n "s/^ *\(.*[ *]$function(.*\)/\1/p" "$work/declarations" | tr -d ' ')
	[ -n "$prototype" ] || wrong "$function has no prototype"
	section "${text##*/}" SYNOPSIS | sed 's|/\*.*\*/||' | tr -d ' \n' |
		grep -Fq -e "$prototype" ||
		wrong "${text##*/}: the synopsis is not that of the header: $prototype"
done <"$work/functions"

for page in "$FL_SRC"/man/*.3; do
	name=${page##*/}
	grep -qx "${name%.3}" "$work/functions" || wrong "$name: there is no such function"
done

# --- names and fields of the header ---

# the titles are names in capitals
grep -hv 'FL_[A-Z0-9_]*(3)$' "$work"/text/* | words '\b(fl|FL)_[A-Za-z0-9_]+\b' >"$work/named"
words '\b(fl|FL)_[A-Za-z0-9_]+\b' "$header" >"$work/public"
some "$work/named"
comm -23 "$work/named" "$work/public" >"$work/unknown"
none "$work/unknown" "in the manual and not in faultline.h"
comm -13 "$work/named" "$work/public" >"$work/silent"
none "$work/silent" "in faultline.h and not in the manual"

# fields STRUCT PAGE: every member of the struct is in the page, as a word
fields() {
	sed -n "s/.*struct $1 {\(.*\)/\1/p" "$work/declarations" >"$work/fields"
	sed -n "/struct $1 {/,/}/p" "$work/declarations" | sed "s/.*{//; s/\[.*\]//; s/[;}]//g" |
		awk 'NF { sub(/^\*/, "", $NF); print $NF }' | tr -d '*' >"$work/fields"
	some "$work/fields"
	while read -r field; do
		grep -Eq "(^|[^a-z_])$field([^a-z_]|\$)" "$work/text/$2" ||
			wrong "$2: nothing about $field of struct $1"
	done <"$work/fields"
}
fields fl_options fl_open.3
fields fl_swap_spec fl_swapon.3
fields fl_stats fl_stats.3

# --- commands, options, variables ---

# Options of a page are the tags of its section OPTIONS.
page_options() {
	section "$1" OPTIONS | grep -E '^ {5,7}-' | words '--[a-z][a-z-]*' || true
}

"$faultline" --help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p' | sort >"$work/commands"
some "$work/commands"
section faultline.1 COMMANDS | sed -n 's/^ \{5,7\}\([a-z][a-z-]*\).*/\1/p' | sort >"$work/page"
diff "$work/commands" "$work/page" || wrong "commands of the program (<) and of faultline.1 (>)"
page_options faultline.1 >"$work/page"
some "$work/page"
while read -r option; do
	"$faultline" "$option" >/dev/null || wrong "faultline $option is not accepted"
done <"$work/page"
"$faultline" --help | words '--[a-z][a-z-]*' | comm -23 - "$work/page" >"$work/silent"
none "$work/silent" "not in faultline.1"

for command in run doctor limit map mkswap mount snapshot store swapoff swapon top umount; do
	"$faultline" "$command" --help >"$work/help" || wrong "faultline $command --help failed"
	sed -n 's/^ *\(--[a-z][a-z-]*\).*/\1/p' "$work/help" | sort -u >"$work/options.$command"
	some "$work/options.$command"
	page_options "faultline-$command.1" >"$work/page"
	diff "$work/options.$command" "$work/page" ||
		wrong "options of faultline $command (<) and of faultline-$command.1 (>)"
	grep -v "'faultline run --swap" "$work/help" | words '--[a-z][a-z-]+' | comm -23 - "$work/page" >"$work/silent"
	none "$work/silent" "in the help of $command and not in its page"
done

# Variables: one for each option of run, and those that the sources name.
{
	sed -n '/^--help$/d; s/^--/FAULTLINE_/p' "$work/options.run" | tr 'a-z-' 'A-Z_'
	grep -Eoh -e '"FAULTLINE_[A-Z_]+["=]' "$FL_SRC"/lib/*.[ch] "$FL_SRC"/src/*/*.[ch] |
		tr -d '"=' | grep -vx FAULTLINE_
} | sort -u >"$work/variables"
words 'FAULTLINE_[A-Z_]+' "$work"/text/*.1 "$work"/text/*.7 >"$work/page"
diff "$work/variables" "$work/page" || wrong "variables of the sources (<) and of the manual (>)"
section faultline-run.1 ENVIRONMENT | words '^ {5,7}FAULTLINE_[A-Z_]+' | tr -d ' ' >"$work/page"
diff "$work/variables" "$work/page" || wrong "variables (<) and ENVIRONMENT of faultline-run.1 (>)"

# --- examples and files ---

# An example that begins with #include is a program, and compiles.
for page in "$FL_SRC"/man/*.3; do
	awk -v out="$work/${page##*/}" '
		/^\.EX/ { on = 1; n++; next }
		/^\.EE/ { on = 0 }
		on { gsub(/\\e/, "\\"); gsub(/\\-/, "-"); print > (out "." n ".c") }' "$page"
done
set -- 0
for program in "$work"/*.c; do
	head -n 1 "$program" | grep -q '^#' || continue
	shift
	set -- found
	$FL_CC -Wall -Wextra -Werror -D_GNU_SOURCE -I"$FL_SRC/include" -fsyntax-only "$program" ||
		wrong "the example ${program##*/} does not compile"
done
[ "$1" = found ] || wrong "no page has a program"

# Files of the sources, or made from them, that the documents name.
words '\b(lib|src|tests|examples|man|include|docs|scripts|dist)/[A-Za-z0-9_./-]*[A-Za-z0-9_]' \
	"$FL_SRC"/docs/*.md "$FL_SRC"/README.md "$FL_SRC"/HACKING.md |
	grep -v KIND | while read -r file; do
		[ -e "$FL_SRC/$file" ] || [ -e "$FL_BUILD/$file" ] || echo "$file"
	done >"$work/dangling"
none "$work/dangling" "named in docs, README.md or HACKING.md and not there"

exit "$failed"
