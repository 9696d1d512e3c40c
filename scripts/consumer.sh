#!/usr/bin/env bash
#
# Builds and runs a program of a user, from tags: of the root module, and of each
# nested module that is meant for users. A nested module that works here only
# because of its replace directive, or that needs a version which no tag has,
# fails. Nothing is tagged but a bare clone in a temporary directory.
#
# usage: scripts/consumer.sh [VERSION]
#
#	VERSION   the tag to try (v0.1.0), which nested modules have to require

set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:-v0.1.0}
path=$(go list -m)
temp=$(mktemp -d)
trap 'chmod -R u+w "$temp"; rm -rf "$temp"' EXIT

# Nested modules that users import: those with a package outside of internal and
# examples that is no command, and that are not about checking this repository.
nested=$(git ls-files '*/go.mod' | sed 's|/go.mod$||' |
	grep -vE '(^|/)(internal|examples|benchmarks)(/|$)' || true)

git clone --quiet --bare . "$temp/origin.git"
for tag in "$version" $(printf '%s\n' $nested | sed "s|\$|/$version|"); do
	[ "$tag" = "/$version" ] || git -C "$temp/origin.git" tag -f "$tag" HEAD >/dev/null
done

# The go command fetches the modules of this repository from the clone, and all
# others as ever. The module cache is one of its own, so that nothing of an
# earlier run can serve.
cat >"$temp/gitconfig" <<-EOF
	[url "file://$temp/origin.git"]
		insteadOf = https://$path
	[safe]
		directory = *
EOF
export GOWORK=off GOFLAGS=-mod=mod GOPRIVATE=$path GIT_CONFIG_GLOBAL=$temp/gitconfig GIT_ALLOW_PROTOCOL=file:https
cache=$(go env GOMODCACHE)
export GOMODCACHE=$temp/cache
[ ! -d "$cache/cache/download" ] || export GOPROXY="file://$cache/cache/download,$(go env GOPROXY)"

mkdir "$temp/user"
cd "$temp/user"
go mod init example.com/user 2>/dev/null
cat >main.go <<-EOF
	package main

	import (
		"fmt"

		"$path"
	)

	func main() {
		var g coalesce.Group[string, int]
		fmt.Println(g.Do("answer", func() (int, error) { return 42, nil }))
	}
EOF
go get "$path@$version"
[ "$(go run .)" = '42 false <nil>' ]
echo "ok   $path@$version"
for module in $nested; do
	required=$(git -C "$temp/origin.git" show "HEAD:$module/go.mod" | awk -v path="$path" '$1 == "require" { sub(/^require /, "") } $1 == path && $2 != "=>" { print $2 }')
	if [ -n "$required" ] && [ "$required" != "$version" ]; then
		echo "$module/go.mod requires $path $required, want $version"
		exit 1
	fi
	go get "$path/$module@$version"
	go build "$path/$module/..."
	echo "ok   $path/$module@$version"
done

# The command, as a user installs it, which a replace directive would forbid.
GOBIN=$temp/bin go install "$path/flightcheck/cmd/flightcheck@$version"
go vet -vettool="$temp/bin/flightcheck" .
echo "ok   go install $path/flightcheck/cmd/flightcheck@$version"

# A program that uses what the telemetry modules need of the root.
mkdir telemetry
cat >telemetry/main.go <<-EOF
	package main

	import (
		"fmt"
		"os"

		"$path"
		"$path/otelflight"
		"$path/promflight"
	)

	func main() {
		var g coalesce.Group[string, int]
		c, err := promflight.New("answers", promflight.WithFlights(&g, 10))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var r otelflight.Registry
		g.Hooks = otelflight.Hooks(&r, "answers", promflight.Hooks(c, g.Hooks))
		if _, err := r.Add("answers", otelflight.WithFlights(&g, 10)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(g.Do("answer", func() (int, error) { return 42, nil }))
	}
EOF
[ "$(go run ./telemetry)" = '42 false <nil>' ]
echo "ok   a program with otelflight and promflight"

# A program of a fleet; nothing but the engine of its choice is linked.
mkdir fleet
cat >fleet/main.go <<-EOF
	package main

	import (
		"context"
		"fmt"

		"$path/fleet"
		"$path/fleet/natsfleet"
		"$path/fleet/natsfleet/embedded"
	)

	func main() {
		s, err := embedded.Start(embedded.Options{})
		if err != nil {
			panic(err)
		}
		defer s.Shutdown()
		nc, err := s.Connect()
		if err != nil {
			panic(err)
		}
		defer nc.Close()
		engine, err := natsfleet.New(context.Background(), nc, natsfleet.Options{})
		if err != nil {
			panic(err)
		}
		defer engine.Close()
		g := fleet.Group[string, int]{Engine: engine, Name: "answers"}
		fmt.Println(g.DoContext(context.Background(), "answer", func(context.Context) (int, error) { return 42, nil }))
	}
EOF
[ "$(go run ./fleet)" = '42 false <nil>' ]
echo "ok   a program with fleet and natsfleet"
go vet ./...
