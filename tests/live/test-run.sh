#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# 'faultline run': the program's own status, output, descriptors and
# environment come through; what cannot be run is told in one line with status
# 125 (126 and 127: the program's fault); the summary; nothing is left behind.
. "${FL_SRC:-.}/tests/functions.sh"

deny=$FL_BUILD/tests/live/deny
mkdir "$work/swap"
bare_environment
export FAULTLINE_SWAP_DIR="$work/swap"

# run STATUS ARGUMENT...: as it should be, so nothing is said
run() {
	want=$1
	shift
	expect "$want" "$faultline" run "$@"
	[ ! -s "$work/err" ] || fail "run $*: something on standard error"
}

# refuses STATUS TEXT COMMAND...: one line that holds the text, and no output
refuses() {
	want=$1 text=$2
	shift 2
	expect "$want" "$@"
	one_line "$text" "$@"
}

output() {
	[ "$(cat "$work/out")" = "$1" ] || fail "output is not '$1'"
}

# --- what the program does shows as it is ---

run 0 -- true
run 0 true
run 1 --limit 64M -- false
run 37 -- sh -c 'exit 37'
run 125 -- sh -c 'exit 125'
expect 143 "$faultline" run -- sh -c 'kill -TERM $$'
if grep -q faultline "$work/err"; then
	fail "a signal: something on standard error"
fi
run 0 -- printf '%s|' a 'b c' ''
output 'a|b c||'
run 0 --limit=64M -- sh -c 'echo "$@"' name --limit --swap=x
output '--limit --swap=x'
printf 'in\n' | "$faultline" run -- sh -c 'cat; echo err >&2' >"$work/out" 2>"$work/err"
output in
[ "$(cat "$work/err")" = err ] || fail "standard error is not the program's"

# The same process, with the same descriptors and the same environment but for ours.
sh -c 'echo $$; exec "$0" run -- sh -c "echo \$\$"' "$faultline" >"$work/out"
[ "$(sort -u "$work/out" | wc -l)" -eq 1 ] || fail "not the same process"
ls /proc/self/fd >"$work/native" 2>/dev/null
run 0 -- ls /proc/self/fd
diff "$work/native" "$work/out" || fail "descriptors differ"
env | grep -v -e '^_=' | sort >"$work/native"
run 0 -- env
grep -v -e '^_=' -e '^LD_PRELOAD=' -e '^FAULTLINE_MAIN=' "$work/out" | sort | diff "$work/native" - ||
	fail "the environment differs"
grep -q '^FAULTLINE_MAIN=[0-9]*$' "$work/out" || fail "no FAULTLINE_MAIN"
LD_PRELOAD=$(sed -n 's/^LD_PRELOAD=//p' "$work/out")
preload=$LD_PRELOAD
unset LD_PRELOAD
[ -f "$preload" ] || fail "LD_PRELOAD is not a file: $preload"

# What the user preloads stays, behind ours.
status=0
LD_PRELOAD=libm.so.6 "$faultline" run -- env >"$work/out" 2>"$work/err" || status=$?
grep -qx "LD_PRELOAD=$preload:libm.so.6" "$work/out" || fail "LD_PRELOAD of the user is lost"

# --- options reach the program's environment, paths whole ---

(cd "$work" && "$faultline" run --limit 25% --swap 'a,,b;c,prio=3,size=1M' --swap sub,size=64K \
	--swap-dir swap --engine sync --wp sync --pagers 2 --fault-around 64K --readahead 128K \
	--stats=summary --log error -- env >out)
for line in FAULTLINE_LIMIT=25% "FAULTLINE_SWAP=$work/a,,b;;c,prio=3,size=1048576;$work/sub,size=65536" \
	"FAULTLINE_SWAP_DIR=$work/swap" FAULTLINE_ENGINE=sync FAULTLINE_WP=sync FAULTLINE_PAGERS=2 \
	FAULTLINE_FAULT_AROUND=64K FAULTLINE_READAHEAD=128K "FAULTLINE_STATS=$work/summary" \
	FAULTLINE_LOG=error; do
	grep -qxF "$line" "$work/out" || fail "not in the environment: $line"
done
grep -q '^faultline: env (process [0-9]*)' "$work/summary" || fail "no summary in the file"
rm "$work/summary"

# The command line is stronger, and its areas replace those of the environment.
FAULTLINE_LIMIT=nonsense
export FAULTLINE_LIMIT
refuses 125 "FAULTLINE_LIMIT: 'nonsense' is not a size" "$faultline" run -- true
FAULTLINE_LIMIT=64M FAULTLINE_SWAP=/nowhere/at/all
export FAULTLINE_SWAP
refuses 125 '/nowhere/at/all' "$faultline" run -- true
run 0 --limit 32M --swap "$work/area,size=1M" -- sh -c 'echo $FAULTLINE_LIMIT $FAULTLINE_SWAP'
output "32M $work/area,size=1048576"
unset FAULTLINE_LIMIT FAULTLINE_SWAP

# --- bad input ---

refuses 125 "unknown option '--bogus'" "$faultline" run --bogus -- true
refuses 125 "unknown option '-x'" "$faultline" run -x true
refuses 125 'no program is named' "$faultline" run
refuses 125 'no program is named' "$faultline" run --limit 64M --
refuses 125 "'--limit' wants an argument" "$faultline" run --limit
refuses 125 "limit: '12Q' is not a size" "$faultline" run --limit 12Q -- true
refuses 125 "limit: '' is not a size" "$faultline" run --limit= -- true
refuses 125 'too small' "$faultline" run --limit 1M -- true
refuses 125 "engine: 'fast' is none of auto, uring, sync" "$faultline" run --engine fast -- true
refuses 125 "pagers: '99' is not a number" "$faultline" run --pagers 99 -- true
refuses 125 "'prio=x'\|'x' is not a priority" "$faultline" run --swap "$work/a,prio=x" -- true
refuses 125 'no such file' "$faultline" run --swap "$work/none" -- true
refuses 125 'no such device' "$faultline" run --swap "/dev/none-$$,size=1M" -- true
refuses 125 'irectory' "$faultline" run --swap "$work" -- true
: >"$work/empty"
refuses 125 'too small' "$faultline" run --swap "$work/empty" -- true
refuses 125 'No such file' "$faultline" run --swap-dir "$work/none" -- true
refuses 125 'named twice' "$faultline" run --swap "$work/x,size=1M" --swap "$work/x,size=1M" -- true
truncate -s 1M "$work/locked"
"$faultline" mkswap "$work/locked"
flock "$work/locked" "$faultline" run --swap "$work/locked" -- true >"$work/out" 2>"$work/err" &&
	fail "an area in use was taken"
grep -q 'in use' "$work/err" || fail "an area in use: not told"
run 0 --swap "$work/locked" -- true

refuses 127 "cannot run 'no-such-program': No such file" "$faultline" run -- no-such-program
refuses 127 "cannot run '$work/none'" "$faultline" run -- "$work/none"
# An argument that an option need not have is behind a '='.
for which in lz4 zstd none lz4,1M; do
	refuses 125 "write --compress=$which, or -- before" "$faultline" run --compress $which true
done
refuses 127 "cannot run 'lz': No such file or directory (or write --compress=lz)" \
	"$faultline" run --compress lz true
refuses 127 "cannot run 'out.txt': No such .* (or write --stats=out.txt)" \
	"$faultline" run --limit 64M --stats out.txt -- true
refuses 127 "cannot run '3': No such .* (or write --verify=3)" "$faultline" run --verify 3 true
refuses 127 "cannot run 'no-such-program': No such file or directory$" \
	"$faultline" run --stats -- no-such-program
refuses 127 "cannot run 'no-such-program': No such file or directory$" \
	"$faultline" run --stats --limit 64M no-such-program
printf '#!/bin/sh\necho lz4 "$@"\n' >"$work/lz4"
chmod 755 "$work/lz4"
(PATH=$work:$PATH run 0 --compress -- lz4 x)
output 'lz4 x'
refuses 126 "cannot run '$work': Permission denied" "$faultline" run -- "$work"
refuses 126 'Permission denied' "$faultline" run -- "$work/empty"
mkfifo "$work/program"
refuses 126 'Permission denied' "$faultline" run -- "$work/program"

refuses 125 'Linux 6.8 or later is needed' "$deny" old "$faultline" run -- true
refuses 125 "no access to /dev/userfaultfd: .*faultline doctor" "$deny" device "$faultline" run -- true

FAULTLINE_PRELOAD=$work/none
export FAULTLINE_PRELOAD
refuses 125 "$work/none: No such file" "$faultline" run -- true
mkdir "$work/a:b"
cp "$preload" "$work/a:b/preload.so"
FAULTLINE_PRELOAD=$work/a:b/preload.so
refuses 125 "':' or ' '" "$faultline" run -- true
cp "$preload" "$work/preload.so"
FAULTLINE_PRELOAD=$work/preload.so
run 0 -- sh -c 'echo $LD_PRELOAD'
output "$work/preload.so"
unset FAULTLINE_PRELOAD

# By LD_PRELOAD alone: the same line, from the program's own start.
LD_PRELOAD=$preload FAULTLINE_LIMIT=1Q expect 125 env true
grep -q "^faultline: FAULTLINE_LIMIT: '1Q' is not a size" "$work/err" || fail "LD_PRELOAD: not told"

# Without access each mapping beyond the limit fails, and one line says why.
status=0
"$deny" device env LD_PRELOAD="$preload" FAULTLINE_LIMIT=4M \
	perl -e 'my $x = "x" x 20000000' >"$work/out" 2>"$work/err" || status=$?
[ "$status" -ne 0 ] || fail "LD_PRELOAD without access: memory beyond the limit"
[ "$(grep -c '^faultline: cannot open /dev/userfaultfd: ' "$work/err")" -eq 1 ] ||
	fail "LD_PRELOAD without access: not one line"
status=0
LD_PRELOAD=$preload FAULTLINE_LIMIT=4M FAULTLINE_SWAP_DIR=$work/none \
	perl -e 'my $x = "x" x 20000000' >"$work/out" 2>"$work/err" || status=$?
[ "$status" -ne 0 ] || fail "LD_PRELOAD without an area: memory beyond the limit"
[ "$(grep -c '^faultline: private swap area in .*: cannot be made: ' "$work/err")" -eq 1 ] ||
	fail "LD_PRELOAD without an area: not one line"

# A loader of any name.
loader=$(LD_TRACE_LOADED_OBJECTS=1 "$faultline" | sed -n 's|^[[:space:]]*\(/[^ ]*ld-[^ ]*\) .*|\1|p')
cp "$loader" "$work/loader"
LD_PRELOAD=$preload FAULTLINE_STATS=- expect 0 "$work/loader" "$(command -v ls)" -d /
output /
grep -q '^faultline: ls (process' "$work/err" || fail "another loader: not intercepted"

# --- programs that cannot be paged run, and it is said ---

echo 'int main(void) { return 9; }' >"$work/static.c"
${FL_CC:-cc} -static -o "$work/static" "$work/static.c"
expect 9 "$faultline" run -- "$work/static"
grep -q "^faultline: '$work/static' is statically linked: it runs without a limit$" "$work/err" ||
	fail "a static program: not told"
run 9 --log error -- "$work/static"
run 0 -- sh -c "$work/static; test \$? -eq 9"

# --- the summary ---

# summary COMMAND: names the program, whatever way it ends
summary() {
	grep -q "^faultline: $1 (process [0-9]*): memory never got tight" "$work/err" ||
		fail "no summary of $1"
	[ "$(grep -c '^faultline:' "$work/err")" -eq 1 ] || fail "more than one summary"
}
expect 0 "$faultline" run --stats -- echo words
output words
summary echo
expect 5 "$faultline" run --stats -- sh -c 'exit 5'
summary sh
expect 3 "$faultline" run --stats -- sh -c '(exit 1); ls / >/dev/null; seq 3 | sort >/dev/null; exit 3'
summary sh
expect 0 "$faultline" run --stats -- sh -c 'exec ls /'
summary ls
expect 0 "$faultline" run --stats -- sort /dev/null # closes standard error before it ends
summary sort
(ulimit -n 60 && expect 0 "$faultline" run --stats -- sort /dev/null)
summary sort
expect 137 "$faultline" run --stats -- sh -c 'kill -KILL $$'
if grep -q faultline "$work/err"; then
	fail "a killed program has a summary"
fi
run 6 --stats="$work/summary" -- sh -c 'exit 6'
grep -q '^faultline: sh (process' "$work/summary" || fail "no summary in the file"

# One that cannot be written is told before the program runs, or where that came later, after.
refuses 125 "cannot write the summary to $work/none/x: No such file" \
	"$faultline" run --stats="$work/none/x" -- true
refuses 125 "cannot write the summary to $work: Is a directory" \
	"$faultline" run --stats="$work" -- true
ln -s "$work/later/x" "$work/link"
expect 0 "$faultline" run --stats="$work/link" -- mkdir "$work/later"
grep -q '^faultline: mkdir (process' "$work/later/x" || fail "no summary behind a link"
mkdir "$work/gone"
expect 0 "$faultline" run --stats="$work/gone/x" -- sh -c 'rmdir "$0"; exit 0' "$work/gone"
one_line "cannot write the summary to $work/gone/x: No such file" run --stats
# A file that the program has in the place of its standard error gets no line of ours.
mkdir "$work/gone"
expect 0 "$faultline" run --stats="$work/gone/x" -- perl -e 'rmdir $ARGV[0];
	open(my $f, ">", $ARGV[1]); use POSIX; POSIX::dup2(fileno($f), 2);
	print STDERR "mine\n"' "$work/gone" "$work/own"
[ "$(cat "$work/own")" = mine ] || fail "the program's own file: $(cat "$work/own")"
mkdir "$work/gone"
expect 0 sh -c 'exec "$@" 2>&-' sh "$faultline" run --stats="$work/gone/x" -- perl -e '
	rmdir $ARGV[0]; open(my $f, ">", $ARGV[1]); print $f "mine\n"' "$work/gone" "$work/own"
[ "$(cat "$work/own")" = mine ] || fail "the program's own file: $(cat "$work/own")"

# Nor the one that goes to standard error: "own FILE BEFORE AFTER" has FILE as its descriptor 2,
# and before and after that does what the letters say.
cat >"$work/own.c" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

static void act(const char *letters)
{
	for (; *letters != '\0'; letters++)
		if (*letters == 'c')
			close(2);
		else if (*letters == 'r')
			close_range(2, 2, 0);
		else if (*letters == 'f')
			closefrom(2);
		else if (*letters == 'x')
			close_range(2, 2, CLOSE_RANGE_CLOEXEC);
		else if (*letters == '3')
			closefrom(3);
		else if (*letters == 'd')
			for (int i = 0; i < 200; i++)
				dup(2);
}

int main(int argc, char **argv)
{
	int fd;

	act(argv[2]);
	fd = open(argv[1], O_WRONLY | O_CREAT, 0600);
	if (argc == 5)
		dup2(fd, 2);
	else if (fd != 2)
		return 1;
	if (write(2, "mine\n", 5) != 5)
		return 1;
	act(argv[3]);
	return 0;
}
END
${FL_CC:-cc} -Wno-unused-result -o "$work/own" "$work/own.c"

# own_says TEXT REDIRECTION BEFORE AFTER [dup2]: what is in FILE but its own line
own_says() {
	text=$1 redirection=$2
	shift 2
	rm -f "$work/file"
	expect 0 sh -c "exec \"\$@\" $redirection" sh "$faultline" run --stats -- \
		"$work/own" "$work/file" "$@"
	[ "$(sed -e '1{/^mine$/d;}' -e 's/ (process.*//' -e '2q' "$work/file")" = "$text" ] ||
		fail "own $redirection $*: the file has $(cat "$work/file")"
}
own_says '' '2>&-' '' ''
own_says '' '2>&-' '' c
own_says '' '' c ''
summary own
own_says '' '' r ''
summary own
own_says '' '' f ''
own_says '' '' c3 d
# but what it put in the place of its standard error is that
for after in '' c r x; do
	own_says 'faultline: own' '' '' "$after" dup2
done

# A summary that nobody reads changes nothing.
mkfifo "$work/go" "$work/pipe"
"$faultline" run --stats -- sh -c 'read line; exit 7' <"$work/go" 2>"$work/pipe" &
exec 6>"$work/go" 5<"$work/pipe"
exec 5<&-
echo >&6
exec 6>&-
status=0
wait $! || status=$?
[ "$status" -eq 7 ] || fail "a summary that nobody reads: status $status instead of 7"

# Nor does one for which its file has no room.
expect 7 "$faultline" run --stats="$work/full" -- sh -c 'ulimit -f 0; exit 7'
[ ! -s "$work/full" ] || fail "a summary beyond the limit of files"
expect 7 "$faultline" run --stats -- sh -c 'ulimit -f 0; exit 7'
[ ! -s "$work/err" ] || fail "a summary beyond the limit of files, on standard error"

# One that has to wait, and is interrupted by a signal, is written all the same.
"$faultline" run --stats -- perl -MFcntl -MPOSIX -e '$SIG{ALRM} = sub { };
	fcntl(STDERR, F_SETFL, O_NONBLOCK);
	1 while defined syswrite(STDERR, "\n" x 4096);
	fcntl(STDERR, F_SETFL, 0);
	POSIX::_exit(0)' 2>"$work/pipe" &
exec 5<"$work/pipe"
writes() {
	grep -q '^1 0x2 ' "/proc/$!/syscall"
}
until_so writes
kill -ALRM $!
took_signal() {
	! kill -0 $! 2>/dev/null || grep -q '^ShdPnd:[[:space:]]0*$' "/proc/$!/status"
}
until_so took_signal
cat <&5 >"$work/err"
exec 5<&-
wait $!
summary perl

# --- a fork copies next to nothing of the C library's text: few pages of it are the process's own ---

run 0 -- cat /proc/self/smaps
awk '/^[0-9a-f]+-[0-9a-f]+ / { ours = $2 ~ /x/ && $NF ~ /libc\.so/ }
	ours && $1 == "Size:" { size = $2; all += size }
	ours && $1 == "Anonymous:" && $2 != 0 { copied += size; own += $2 }
	END { print all, copied, own }' "$work/out" >"$work/text"
read -r all copied own <"$work/text"
[ "$own" -gt 0 ] && [ "$own" -le 64 ] || fail "$own KiB of the C library's text are written to"
[ $((copied * 4)) -le "$all" ] || fail "of $all KiB of text a fork copies the entries of $copied"

# --- the comparison ---

habits=$FL_BUILD/tests/live/habits
refuses 125 "verify: '0' is not a number of calls" "$faultline" run --verify=0 -- true
run 0 --verify -- sort /dev/null
run 0 --verify=1 -- sh -c 'ls / | sort -R >/dev/null'
for limit in 8M 512M; do
	run 0 --limit "$limit" --verify=3 -- "$habits" maps 24
	run 0 --limit "$limit" --verify=20 -- "$habits" stacks 24
	expect 0 "$faultline" run --limit "$limit" --verify --stats="$work/stats.$limit" -- "$habits" leaves 24
	read -r left gone <"$work/out"
	[ "$(wc -l <"$work/err")" -eq 2 ] || fail "not two differences"
	grep -q "^faultline: verify: 0x$left-0x[0-9a-f]* is private and writable, and not managed" \
		"$work/err" || fail "memory that is not managed: not told"
	grep -q "^faultline: verify: 0x$gone-0x[0-9a-f]* is managed, but nothing is mapped there" \
		"$work/err" || fail "memory that is gone: not told"
	grep -q '^  differences found  *2$' "$work/stats.$limit" || fail "differences are not counted"
	for row in 'managed  *[0-9.]* MiB of  *24\.[0-9] MiB' 'stacks  *[1-9]' 'files, private  *[1-9]' \
		'there before the start  *[1-9]' "faultline's own  *[1-9]" \
		'for no known reason  *0 KiB of  *256 KiB'; do
		grep -q "^    $row" "$work/stats.$limit" || {
			cat "$work/stats.$limit"
			fail "the summary has no row '$row'"
		}
	done
done

# What it finds is told while the program goes on, whether somebody reads it or not.
"$faultline" run --limit 512M --verify=1 -- sh -c 'read line; exec "$0" leaves 24' "$habits" \
	<"$work/go" 2>"$work/pipe" >"$work/out" &
exec 6>"$work/go" 5<"$work/pipe"
exec 5<&-
echo >&6
exec 6>&-
status=0
wait $! || status=$?
[ "$status" -eq 0 ] || fail "differences that nobody reads: status $status"

# --- under valgrind, whose library is preloaded too ---

cp "$FL_BUILD/tests/live/.libs/inline-sites.so" "$work/vgpreload_core-test.so"
status=0
LD_PRELOAD=$work/vgpreload_core-test.so "$faultline" run --limit 8M --stats -- "$habits" nothing 24 \
	>"$work/out" 2>"$work/err" || status=$?
[ "$status" -eq 0 ] || fail "under valgrind: status $status"
[ "$(cat "$work/err")" = "faultline: $habits is not paged: it runs under valgrind" ] ||
	fail "under valgrind: not told"

# --- the first program only ---

refuses 125 "FAULTLINE_NO_CHILDREN: 'x' is none of 0, 1" env FAULTLINE_NO_CHILDREN=x "$faultline" run -- true
refuses 125 "takes no argument: '--no-children=1'" "$faultline" run --no-children=1 -- true
env | grep -v -e '^_=' -e '^FAULTLINE_' | sort >"$work/native"
run 0 --no-children -- sh -c 'env; true'
grep -v -e '^_=' "$work/out" | sort | diff "$work/native" - || fail "a child's environment holds more"
status=0
LD_PRELOAD=libm.so.6 "$faultline" run --no-children -- sh -c 'env; true' >"$work/out" 2>"$work/err" || status=$?
grep -qx 'LD_PRELOAD=libm.so.6' "$work/out" || fail "LD_PRELOAD of the user is lost for children"
status=0
LD_PRELOAD=$preload FAULTLINE_NO_CHILDREN=1 env >"$work/out" 2>"$work/err" || status=$?
if grep -e '^FAULTLINE_' -e '^LD_PRELOAD=' "$work/out"; then
	fail "LD_PRELOAD with --no-children: the first program's children are to be paged"
fi

# paged COUNT COMMAND...: so many processes are
paged() {
	count=$1
	shift
	rm -f "$work/stats"
	run 0 --limit 8M --no-children --stats="$work/stats" -- "$@"
	[ "$(grep -c '^  pages evicted  *[1-9]' "$work/stats")" -eq "$count" ] || {
		cat "$work/stats"
		fail "$*: not $count were paged"
	}
}
paged 1 "$habits" nothing 24
paged 1 sh -c 'exec "$0" nothing 24' "$habits"
paged 0 sh -c '"$0" nothing 24; true' "$habits"
paged 0 "$habits" starts 24
run 0 --limit 8M --no-children --stats="$work/stats" -- "$habits" daemon 24
[ "$(grep -c '^  pages evicted  *[1-9]' "$work/stats")" -ge 2 ] ||
	fail "a child of a process that was paged already: was not"
# What a child maps that is not paged is not compared, either.
run 0 --no-children --verify=1 -- perl -e 'my $x = "x" x 10000000;
	if (fork) { wait; exit $? >> 8 }
	undef $x; $SIG{USR1} = "IGNORE"'

# --- under the limit ---

seq 400000 | sort -R --random-source=/dev/zero >"$work/numbers"
expect 0 "$faultline" run --limit 8M --stats="$work/paged" -- sort -n -S 64M "$work/numbers"
seq 400000 | cmp - "$work/out" || fail "the numbers are not sorted"
grep -q '^faultline: sort (process [0-9]*)$' "$work/paged" || fail "no summary of a paged program"
for row in 'most held  *[0-8]\.[0-9] MiB' 'major faults  *[1-9]' 'written to swap  *[1-9].* MiB' \
	'errors of swap  *0'; do
	grep -q "^  $row" "$work/paged" || {
		cat "$work/paged"
		fail "the summary has no row '$row'"
	}
done

[ -z "$(ls "$work/swap")" ] || fail "something is left in the swap directory"
