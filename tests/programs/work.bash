# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work.bash ELEMENTS DIRECTORY: a shell with a large array does what scripts do:
# subshells, pipelines, substitutions, here-documents, jobs, traps.  Whatever a
# child changes must stay the child's.

elements=$1 dir=$2
set -u
LC_ALL=C

pad=
for ((i = 0; i < 20; i++)); do
	pad+="$((i * 7919 % 1000)),"
done

declare -a a
declare -A by_name
for ((i = 0; i < elements; i++)); do
	a[i]="$i:$((i * 31 % 1009)):$pad"
done
for ((i = 0; i < elements; i += 50)); do
	by_name[name$i]=${a[i]}
done

# digest FROM TO: of a slice of the array, in this process
digest() {
	local -i sum=0 k
	for ((k = $1; k < $2; k += 7)); do
		local rest=${a[k]#*:}
		sum=$(((sum * 33 + ${#a[k]} + ${rest%%:*}) % 1000000007))
	done
	echo "$sum"
}

whole() {
	digest 0 elements
}

echo "== array"
echo "${#a[@]} ${#by_name[@]} $(whole)"

echo "== subshell"
(
	for ((i = 0; i < elements; i += 3)); do a[i]=child; done
	unset 'a[1]'
	echo "${a[0]} ${a[3]} ${#a[@]}"
)
whole

echo "== substitution"
all=$(printf '%s\n' "${a[@]}")
echo "${#all}"
md5sum <<<"$all"
[ "$(printf '%s' "${a[*]:0:1000}" | md5sum)" = "$(md5sum < <(printf '%s' "${a[*]:0:1000}"))" ]
echo "$?"
unset all

echo "== pipelines"
for x in "${a[@]}"; do echo "${x%%:*}"; done | sort -rn | sed -n 1,3p
printf '%s\n' "${a[@]}" | tac | while read -r line; do echo "${#line}"; done | sort -n | uniq -c
printf '%s\n' "${a[@]}" | sed -n 1p | cut -c 1-20
diff <(printf '%s\n' "${a[@]:0:2000}") <(printf '%s\n' "${a[@]:1:2000}") | wc -l

echo "== here-documents"
cat <<END | md5sum
first ${a[0]}
last ${a[elements - 1]} $(digest 0 100)
END
cat <<'END'
nothing $here is `expanded`
END

echo "== jobs"
slice=$((elements / 6))
for job in 0 1 2 3 4 5; do
	{
		digest $((job * slice)) $(((job + 1) * slice)) >"$dir/job.$job"
		a[0]=job
		exit $((job + 10))
	} &
	pids[job]=$!
done
for ((i = 0; i < elements; i += 1000)); do # writes of the parent while they read
	a[i]="x${a[i]}"
done
for job in 0 1 2 3 4 5; do
	wait "${pids[job]}"
	echo "job $job: status $? $(cat "$dir/job.$job")"
done
for ((i = 0; i < elements; i += 1000)); do
	a[i]=${a[i]#x}
done
whole

echo "== traps"
signals=0
trap 'signals=$((signals + 1)); a[5]="signal $signals"' USR1
saved=${a[5]}
for i in 1 2 3; do
	(kill -USR1 $$)
done
echo "$signals ${a[5]}"
a[5]=$saved
(trap 'echo "left with ${#a[@]}"' EXIT; exit 3)
echo "$?"
(trap '' TERM; kill -TERM "$BASHPID"; echo "ignored")
(kill -TERM "$BASHPID")
echo "$?"

echo "== depth"
deeper() {
	if (($1 == 0)); then
		whole
	else
		(a[$1]="$1:$1:deep"; deeper $(($1 - 1)); exit $?)
	fi
}
deeper 10
whole

echo "== coprocess"
coproc { while read -r i; do echo "${a[i]}"; done; }
copy=$COPROC_PID
for i in 3 30 300; do
	echo "$i" >&"${COPROC[1]}"
	read -r line <&"${COPROC[0]}"
	[ "$line" = "${a[i]}" ] && echo "$i: same"
done
eval "exec ${COPROC[1]}>&-"
wait "$copy"
echo "$?"

echo "== short commands"
for ((i = 0; i < 40; i++)); do
	[ "$(echo "${a[i]}")" = "${a[i]}" ] || echo "element $i differs"
	/bin/true
	/bin/false && echo "false is true"
done
eval "printf '%s\n' $(printf '%q ' "${by_name[@]}")" | md5sum
trap 'echo "end: $(whole)"' EXIT
exit 7
