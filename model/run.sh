#!/usr/bin/env bash
#
# Checks the model: without a mistake there must be no error and no step that is
# never taken, and each planted mistake must be found. Needs spin and gcc.
#
#	model/run.sh         a minute and 2 GB of memory
#	model/run.sh -long   larger programs, too: a minute more, and 3 GB

set -euo pipefail
case "$*" in
'' | -long) ;;
*) echo "unexpected arguments: $* (want none, or -long)" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")"
model=$PWD/flight.pml
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

# search DEFINES... searches all states of the model and prints what was found.
search() {
	local errors
	spin -a -o3 "$@" "$model" >spin.txt || { cat spin.txt; exit 1; }
	gcc "${optimize:--O2}" -DSAFETY -DVECTORSZ=2048 -o pan pan.c
	./pan -m1000000 -w25 >pan.txt || { cat pan.txt; exit 1; }
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.txt)
	printf '%-60s %s errors %10s states %6s s%s\n' "$*" "$errors" \
		"$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.txt)" \
		"$(sed -n 's/^pan: elapsed time \([0-9.e-]*\) seconds.*/\1/p' pan.txt)" \
		"$(sed -n 's/^pan:1: \(.*\) (at depth.*/  \1/p' pan.txt)"
	if grep -q 'max search depth too small\|out of memory' pan.txt; then
		echo "the search was cut short"
		exit 1
	fi
	[ "$errors" = "${want_errors:-0}" ] || { echo "want ${want_errors:-0} errors"; exit 1; }
}

# correct NAME DEFINES... demands that there be no error, and keeps in the file
# NAME.unreached which steps were not taken.
correct() {
	local name=$1
	shift
	search "$@"
	awk '/^unreached in/ {process = $4} /flight.pml:/ {sub(/.*flight.pml:/, ""); print process ":" $1, $2, $3}' \
		pan.txt | sort -u >"$name.unreached"
}

# found BUG DEFINES... demands that the mistake be found.
found() {
	optimize=-O0 want_errors=1 search -DBUG="$1" "${@:2}"
}

correct two -DCALLERS=2 -DCALLS=1 -DFORGETS=1
correct twice -DCALLERS=2 -DCALLS=2 -DFORGETS=1 -DLAST=2
correct forgotten -DCALLERS=3 -DCALLS=1 -DFORGETS=1 -DLAST=2
correct receivers -DCALLERS=3 -DCALLS=1 -DFORGETS=0 -DFIRST=4
correct fresh -DCALLERS=3 -DCALLS=1 -DFORGETS=0 -DLAST=3
if [ "${1:-}" = -long ]; then
	correct three -DCALLERS=3 -DCALLS=1 -DFORGETS=0
	correct twice-fresh -DCALLERS=2 -DCALLS=2 -DFORGETS=0 -DFIRST=2 -DLAST=4
fi

# Every line of the model must be taken by some process in one of these programs:
# one that is not, checks nothing. (An inline is compiled anew wherever it is used,
# and not all of it is for all of its users; the lines of planted mistakes are
# constants that are optimized away.) With -o3 spin merges no steps: those that are
# merged it takes for taken.
spin -a -o3 "$model" >spin.txt
gcc -DSAFETY -DVECTORSZ=2048 -o pan pan.c
./pan -d | awk '/^proctype/ {process = $2} /flight.pml:/ {
	from = $2; line = $0; sub(/.*flight.pml:/, "", line); sub(/ .*/, "", line); print process ":" line ", state " from ","
}' | sort -u >steps
cat ./*.unreached | sort | uniq -c |
	awk -v all="$(find . -name '*.unreached' | wc -l)" '$1 == all {print $2, $3, $4}' | sort -u >never
grep -vxFf never steps | sed 's/.*:\([0-9]*\),.*/\1/' | sort -un >taken
sed 's/.*:\([0-9]*\),.*/\1/' steps | sort -un | grep -vxFf taken |
	grep -vxFf <(grep -n BUG "$model" | cut -d: -f1) >vacuous || true
if [ -s vacuous ]; then
	while read -r line; do sed -n "${line}s/^/never taken: $line: /p" "$model"; done <vacuous
	exit 1
fi
printf 'all %d lines with steps are taken\n' "$(wc -l <taken)"

for bug in 1 2 3 4 5 7 8 9 10 11 12 13 14 15 17 18 19 20; do
	found "$bug" -DCALLERS=2 -DCALLS=1 -DFORGETS=1
done
for bug in 6 16; do # take three
	found "$bug" -DCALLERS=3 -DCALLS=1 -DFORGETS=0
done
