#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Debuggers and paged programs: gdb attaches and prints what was swapped out, and
# the program goes on as if nothing had been; strace traces it; a core dump is a
# core dump, of about the size of a native one.
. "${FL_SRC:-.}/tests/functions.sh"
bare_environment
use_swap
export FAULTLINE_SWAP_DIR="$work"

cat >"$work/subject.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct item {
	struct item *next;
	long number;
	char text[4080];
};

struct item *items, *first;

int main(int argc, char **argv)
{
	const long count = 6000;
	long sum = 0;

	items = mmap(NULL, count * sizeof(*items), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (items == MAP_FAILED)
		return 1;
	for (long i = 0; i < count; i++) {
		items[i].next = i > 0 ? &items[i - 1] : NULL;
		items[i].number = i * 7 + 1;
		for (int k = 0; k < 4000; k += 16)
			sprintf(items[i].text + k, "item %ld", i * k);
	}
	first = &items[count - 1];
	puts("ready");
	fflush(stdout);
	if (argc > 1 && strcmp(argv[1], "crash") == 0)
		abort();
	if (argc > 1)
		getchar();
	for (struct item *i = first; i != NULL; i = i->next)
		sum += i->number;
	printf("%ld\n", sum);
	return 0;
}
END
${FL_CC:-cc} -g -O1 -o "$work/subject" "$work/subject.c"

# --- gdb attaches ---

mkfifo "$work/go" "$work/said"
"$faultline" run --limit 8M --stats="$work/stats" -- "$work/subject" wait \
	<"$work/go" >"$work/said" 2>"$work/err" &
pid=$!
exec 6>"$work/go" 5<"$work/said"
read -r line <&5
[ "$line" = ready ] || fail "the program said '$line'"
# in read(2), of which main() is a caller
until_so grep -q '^0 0x0 ' "/proc/$pid/syscall"
cat >"$work/commands" <<END
set pagination off
source $FL_SRC/dist/faultline-gdb.py
fl print items[7].number
fl print first->next->next->number
up
fl print items[1234].text[160]@9
frame
fl print *(long *)8
END
timeout -k 5 300 gdb -q -batch -nx -p "$pid" -x "$work/commands" "$work/subject" >"$work/gdb" 2>&1 || :
for answer in '^\$1 = 50$' '^\$2 = 41980$' '^\$3 = "item 1974' \
	'Cannot access memory at address 0x8$'; do
	grep -q "$answer" "$work/gdb" || fail "gdb says $(tail -n 20 "$work/gdb"), not '$answer'"
done
[ "$(grep -c '^#1 ' "$work/gdb")" -eq 2 ] || fail "gdb has selected another frame"
echo >&6
exec 6>&-
read -r line <&5
[ "$line" = 125985000 ] || fail "the program that was looked at said '$line'"
exec 5<&-
status=0
wait "$pid" || status=$?
[ "$status" -eq 0 ] || fail "the program that was looked at: status $status"
grep -q '^  pages evicted  *[1-9]' "$work/stats" || fail "it was not paged"

# --- strace ---

for how in outside inside; do
	set -- strace -f -o "$work/trace"
	case $how in
	outside) set -- "$@" "$faultline" run --limit 8M -- "$work/subject" ;;
	inside) set -- "$faultline" run --limit 8M -- "$@" "$work/subject" ;;
	esac
	"$@" >"$work/out" 2>"$work/err" || fail "strace $how: status $?"
	[ "$(cat "$work/out")" = "$(printf 'ready\n125985000')" ] || fail "strace $how: another output"
	grep -q 'execve(".*subject"' "$work/trace" || fail "strace $how: no trace"
done

# --- a core dump ---

# crash WHERE COMMAND...: the size of its core on disk, in KiB, is in $work/WHERE/kib
crash() (
	mkdir "$work/$1"
	cd "$work/$1"
	shift
	ulimit -c unlimited
	status=0
	"$@" crash >/dev/null 2>"$work/err" || status=$?
	[ "$status" -eq 134 ] || fail "$*: status $status instead of 134"
	[ -e core ] || fail "$*: no core"
	du -k core | cut -f 1 >kib
)
if [ "$(cat /proc/sys/kernel/core_pattern)" != core ]; then
	left_out "core dumps: this machine sends them elsewhere (kernel.core_pattern)"
else
	crash native "$work/subject"
	crash paged "$faultline" run --limit 8M -- "$work/subject"
	native=$(cat "$work/native/kib") paged=$(cat "$work/paged/kib")
	[ "$paged" -gt 1000 ] || fail "no core of a paged program"
	[ "$paged" -le $((native + 2048)) ] || fail "a core of $paged KiB, natively $native KiB"
fi
