#!/usr/bin/env bash
#
# Storms in modes: the checked storms of internal/verify/storm (TestStorm_Mode) in
# binaries that are built in different ways, under loads that differ in
# cancellation, Forget, number of keys and placement of keys. Each way to build
# finds bugs that others do not: preemption at each function's entry makes windows
# wide, the race detector finds unordered accesses, 386 and arm64 lower atomics
# and align words otherwise. (QEMU on amd64 does not show arm64's reordering.)
#
# usage: scripts/stress.sh [-full] [-without-qemu] [-calls N]
#
#	-full           all 378 combinations, not the 21 that cover all pairs
#	-without-qemu   leave out arm64 where qemu-aarch64-static cannot be had
#	-calls N        calls of each of the eight clients in a storm (2000)
#
# It prints a line for each storm, and fails if one of them broke the contract.

set -euo pipefail
cd "$(dirname "$0")/.."
export GOWORK=off GORACE='halt_on_error=1 history_size=3'

builds=(plain cpu8 preempt race race+preempt 386 arm64)
cancels=(0 20)
forgets=(0 1 5)
keys=(1 2 64)
hashes=(default constant and15)

# Every pair of values of two columns is in a row; covers checks that.
pairwise='
plain        0  0 1  default
plain        20 1 2  constant
plain        0  5 64 and15
cpu8         20 0 2  and15
cpu8         0  1 64 default
cpu8         20 5 1  constant
preempt      0  0 64 constant
preempt      20 1 1  and15
preempt      0  5 2  default
race         20 0 1  constant
race         0  1 2  and15
race         20 5 64 default
race+preempt 0  0 2  default
race+preempt 20 1 64 constant
race+preempt 0  5 1  and15
386          20 0 64 and15
386          0  1 1  default
386          20 5 2  constant
arm64        0  0 1  constant
arm64        20 1 2  and15
arm64        0  5 64 default
'

full='' without_qemu='' calls=2000
while [ $# -gt 0 ]; do
	case $1 in
	-full) full=1 ;;
	-without-qemu) without_qemu=1 ;;
	-calls)
		[[ ${2-} =~ ^[1-9][0-9]{0,6}$ ]] || { echo "-calls is '${2-}' (want 1 to 9999999)" >&2; exit 2; }
		calls=$2 && shift
		;;
	*) sed -n '/^# usage/,/^$/s/^# \{0,1\}//p' "$0" && exit 2 ;;
	esac
	shift
done

# product prints all combinations.
product() {
	local b c f k h
	for b in "${builds[@]}"; do for c in "${cancels[@]}"; do for f in "${forgets[@]}"; do
		for k in "${keys[@]}"; do for h in "${hashes[@]}"; do echo "$b $c $f $k $h"; done; done
	done; done; done
}

# pairs prints the pairs of values that the rows of its input have.
pairs() {
	awk 'NF == 5 {for (i = 1; i < 5; i++) for (j = i + 1; j <= 5; j++) print i, $i, j, $j}' | sort -u
}

# covers TABLE fails, and prints what is missing, unless all pairs are in TABLE.
covers() {
	local missing
	missing=$(comm -13 <(pairs <<<"$1") <(product | pairs))
	[ -z "$missing" ] || { printf 'pairs that no row has:\n%s\n' "$missing"; return 1; }
}

covers "$pairwise"
if covers "$(sed 2d <<<"$pairwise")" >/dev/null; then
	echo 'the check of the pairs does not see a row that is missing'
	exit 1
fi

qemu=qemu-aarch64-static
if ! command -v $qemu >/dev/null && [ -z "$without_qemu" ]; then
	{ apt-get update -q && apt-get install -qy qemu-user-static; } >/dev/null 2>&1 || true
	if ! command -v $qemu >/dev/null; then
		echo "$qemu cannot be had: arm64 CANNOT BE RUN (-without-qemu leaves it out)" >&2
		exit 1
	fi
fi

package=./internal/verify/storm
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
preempt=-gcflags=all=-d=maymorestack=runtime.mayMoreStackPreempt

# build NAME builds the tests in that way.
build() {
	local out=$temp/$1
	case $1 in
	plain) go test -c -o "$out" "$package" ;;
	cpu8) ln -s plain "$out" ;;
	preempt) go test -c "$preempt" -o "$out" "$package" ;;
	race) go test -c -race -o "$out" "$package" ;;
	race+preempt) go test -c -race "$preempt" -o "$out" "$package" ;;
	386) GOARCH=386 go test -c -o "$out" "$package" ;;
	arm64) GOARCH=arm64 CGO_ENABLED=0 go test -c -o "$out" "$package" ;;
	esac
}

# storm BUILD CANCEL FORGET KEYS HASH runs one storm and prints its line.
failed=0
storm() {
	local run=("$temp/$1") n=$calls begin=$EPOCHREALTIME end counts bad
	case $1 in
	cpu8) run+=(-test.cpu 8) ;;
	race) n=$((calls / 4)) ;;
	race+preempt) n=$((calls / 8)) ;;
	arm64) run=("$qemu" "${run[@]}") n=$((calls / 2)) ;;
	esac
	bad=0
	COALESCE_STORM_MODE="cancel=$2 forget=$3 keys=$4 hash=$5 calls=$n" \
		"${run[@]}" -test.v -test.run '^TestStorm_Mode$' -test.timeout 5m >"$temp/log" 2>&1 || bad=1
	end=$EPOCHREALTIME
	counts=$(sed -n 's/.* \([0-9]*\) calls, \([0-9]*\) joined, \([0-9]*\) left$/\1 \2 \3/p' "$temp/log")
	[ "$(wc -w <<<"$counts")" = 3 ] || bad=1 # nothing ran
	# shellcheck disable=SC2086 # three words
	printf '%-12s %7s %6s %4s %-9s %8s %8s %8s %7s %10s\n' "$@" ${counts:-- - -} \
		"$(awk "BEGIN {printf \"%.1f\", $end - $begin}")" "$bad"
	if [ $bad = 1 ]; then
		failed=$((failed + 1))
		cat "$temp/log"
	fi
}

rows=$pairwise
[ -z "$full" ] || rows=$(product)
[ -z "$without_qemu" ] || rows=$(grep -v '^arm64' <<<"$rows")
for b in $(awk 'NF {print $1}' <<<"$rows" | uniq); do
	[ "$b" != cpu8 ] || [ -e "$temp/plain" ] || build plain
	build "$b"
done
printf '%-12s %7s %6s %4s %-9s %8s %8s %8s %7s %10s\n' \
	build cancel forget keys hash calls joined left seconds violations
while read -r b c f k h; do
	[ -z "$b" ] || storm "$b" "$c" "$f" "$k" "$h"
done <<<"$rows"
[ -z "$without_qemu" ] || echo 'arm64 WAS LEFT OUT'
[ $failed = 0 ] || { echo "$failed storms broke the contract"; exit 1; }
