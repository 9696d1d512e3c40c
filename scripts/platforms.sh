#!/usr/bin/env bash
#
# Vets everything, tests included, for the systems and processors that it is
# made for: code that does not compile there, or a constant that does not fit into
# 32 bits, is found without such a machine.
#
# usage: scripts/platforms.sh
#
# It prints a line for each platform of the root module, which is vetted for all
# that it may be used on, and of the nested modules, which are for the people who
# work on it.

set -euo pipefail
cd "$(dirname "$0")/.."
export GOWORK=off CGO_ENABLED=0

root='linux/386 linux/arm linux/arm64 linux/riscv64 linux/s390x windows/amd64 darwin/arm64 freebsd/amd64
	openbsd/amd64 netbsd/amd64 dragonfly/amd64 plan9/386 js/wasm wasip1/wasm'
nested='windows/amd64 darwin/arm64' # that of the machine is the step vet

# vet DIR PLATFORM... vets the module in the directory for each of the platforms.
vet() {
	local dir=$1 platform begin
	shift
	for platform in "$@"; do
		begin=$SECONDS
		if ! (cd "$dir" && GOOS=${platform%/*} GOARCH=${platform#*/} go vet ./...); then
			echo "$dir on $platform: failed"
			failed=1
			continue
		fi
		echo "$dir on $platform: ok, $((SECONDS - begin)) s"
	done
}

failed=''
# shellcheck disable=SC2086 # several words
vet . $root
while IFS= read -r mod; do
	# shellcheck disable=SC2086 # several words
	vet "$(dirname "$mod")" $nested
done < <(git ls-files '*/go.mod')
[ -z "$failed" ]
