#!/usr/bin/env bash
#
# Runs the test suite of golang.org/x/sync/singleflight on package singleflight
# here, and that of resenje.org/singleflight on package coalesce: each suite as it
# is published, with an adapter of ours in the place of the implementation that
# it was written for. The modules come from the module cache, and the build
# is in a temporary directory that is removed at the end.
#
# usage: scripts/peersuites.sh
#
# Left out, both of x/sync's:
#
#   TestPanicDoChan             fn panics in DoChan
#   TestPanicDoSharedByDoChan   fn panics in Do, a call of DoChan has joined
#
# They run themselves in a child process and demand that it crash, in a way
# that no caller can recover from. Here the opposite is promised: the receiver
# finds the panic in its Result (TestMatrix in singleflight/).
#
# Nothing else of either suite is left out, and nothing is changed.

set -euo pipefail

xsync=golang.org/x/sync@v0.24.0
xsync_skip='^(TestPanicDoChan|TestPanicDoSharedByDoChan)$'
resenje=resenje.org/singleflight@v0.4.3

repo=$(cd "$(dirname "$0")/.." && pwd)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

# Neither a go.work nor flags of the caller's may reach the temporary modules.
export GOWORK=off GOFLAGS=

# module_dir MODULE@VERSION prints where the module cache has it.
module_dir() {
	(cd "$temp" && go mod download -json "$1") | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p'
}

# suite PACKAGE TESTS ADAPTER [SKIP] runs the tests of the directory TESTS as
# those of PACKAGE, on the adapter: once, and once under the race detector.
suite() {
	local package=$1 tests=$2 adapter=$3 skip=${4-'^$'}
	local dir=$temp/$package
	mkdir -p "$dir"
	install -m 644 "$tests"/*_test.go "$dir"
	install -m 644 "$repo/scripts/testdata/$adapter" "$dir/singleflight.go"
	install -m 644 "$repo/go.sum" "$dir/go.sum"
	cat >"$dir/go.mod" <<-EOF
		module $package

		go 1.26

		require github.com/seed342dcb2d/coalesce v0.0.0

		replace github.com/seed342dcb2d/coalesce => "$repo"
	EOF
	local race
	for race in -race=false -race; do
		if ! (cd "$dir" && go test -mod=mod -count=1 -v "$race" -skip "$skip" .) >"$temp/log" 2>&1; then
			cat "$temp/log"
			echo "FAIL $package ($race)"
			return 1
		fi
		echo "ok   $package ($race): $(grep -c '^--- PASS' "$temp/log") passed," \
			"$(grep -c '^--- SKIP' "$temp/log" || true) skipped, left out: ${4-none}"
	done
}

xsync_dir=$(module_dir "$xsync")
resenje_dir=$(module_dir "$resenje")
suite golang.org/x/sync/singleflight "$xsync_dir/singleflight" xsync_adapter.go.txt "$xsync_skip"
suite resenje.org/singleflight "$resenje_dir" resenje_adapter.go.txt
