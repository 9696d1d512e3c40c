// Corpus keeps what fuzzing has found worth keeping: of the inputs in the fuzzer's
// cache and in testdata/fuzz, it chooses some that together reach every block of the
// package that all of them reach, and as often, to the next power of two; and puts
// these in testdata/fuzz, where each go test runs them.
//
//	go test -run - -fuzz FuzzGroup -fuzztime 10m .
//	go run ./internal/verify/corpus -fuzz FuzzGroup
//
// It is run in the root of the module. Inputs in testdata/fuzz stay: each of them
// has once found something.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

func main() {
	target := flag.String("fuzz", "FuzzGroup", "the fuzz `target`")
	parallel := flag.Int("parallel", 2, "how many inputs run side by side")
	flag.Parse()
	if err := check(flag.Args(), *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(2)
	}
	if err := run(*target, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

// check returns an error for wrong arguments and flags.
func check(args []string, parallel int) error {
	const most = 256
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case parallel < 1 || parallel > most:
		return fmt.Errorf("-parallel is %d (want 1 to %d)", parallel, most)
	}
	return nil
}

// An input is a file of the fuzzer's, with the features that it reaches.
type input struct {
	name string
	text []byte
	kept bool // it is in testdata/fuzz

	reaches map[feature]bool
	err     error
}

// A feature is a block of the package and the number of its runs, as the bit length of
// that number.
type feature struct {
	block string
	times int
}

func run(target string, parallel int) error {
	temp, err := os.MkdirTemp("", "corpus")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	committed := filepath.Join("testdata", "fuzz", target)
	cached, err := cache(target)
	if err != nil {
		return err
	}
	inputs, err := read(committed, cached)
	if err != nil {
		return err
	}
	folder := filepath.Join(temp, "testdata", "fuzz", target)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, in := range inputs {
		if err := os.WriteFile(filepath.Join(folder, in.name), in.text, 0o600); err != nil {
			return err
		}
	}
	binary := filepath.Join(temp, "corpus.test")
	if out, err := exec.Command("go", "test", "-c", "-covermode=count", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("go test -c: %w (is this the root of the module?)\n%s", err, out)
	}
	measure(inputs, target, binary, temp, parallel)

	n, size := 0, 0
	for _, in := range choose(inputs) {
		n, size = n+1, size+len(in.text)
		if in.err != nil {
			return fmt.Errorf("%s: %w", in.name, in.err)
		}
		if !in.kept {
			if err := os.WriteFile(filepath.Join(committed, in.name), in.text, 0o644); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%d of %d inputs reach what all of them reach: %d bytes\n", n, len(inputs), size)
	return nil
}

// cache returns the folder in which the fuzzer keeps a target's inputs.
func cache(target string) (string, error) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}", ".").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w (is this the root of the module?)", err)
	}
	root, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "fuzz", strings.TrimSpace(string(out)), target), nil
}

// read returns the inputs in the two folders, by name.
func read(committed, cached string) ([]*input, error) {
	all := map[string]*input{}
	for _, folder := range []string{cached, committed} {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			all[e.Name()] = &input{name: e.Name(), text: text, kept: folder == committed}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *input) int { return cmp.Compare(a.name, b.name) }), nil
}

// measure runs the target on each of the inputs, and enters the features that they reach.
func measure(inputs []*input, target, binary, temp string, parallel int) {
	var wg sync.WaitGroup
	queue := make(chan *input)
	for i := range parallel {
		wg.Go(func() {
			profile := filepath.Join(temp, fmt.Sprintf("profile%d", i))
			for in := range queue {
				cmd := exec.Command(binary, "-test.run=^"+target+"$/^"+in.name+"$", "-test.coverprofile="+profile)
				cmd.Dir = temp
				if out, err := cmd.CombinedOutput(); err != nil {
					in.err = fmt.Errorf("%w\n%s", err, out)
					continue
				}
				in.reaches, in.err = features(profile)
			}
		})
	}
	for i, in := range inputs {
		queue <- in
		if (i+1)%100 == 0 {
			fmt.Printf("%d of %d inputs\n", i+1, len(inputs))
		}
	}
	close(queue)
	wg.Wait()
}

// features returns the features in a coverage profile.
func features(profile string) (map[feature]bool, error) {
	text, err := os.ReadFile(profile)
	if err != nil {
		return nil, err
	}
	reached := map[feature]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Scan() // mode: count
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // the block, its statements, how often it ran
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: %q", profile, lines.Text())
		}
		times, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", profile, err)
		}
		for n := bits.Len64(times); n > 0; n-- { // a block that runs more often has run as often as well
			reached[feature{fields[0], n}] = true
		}
	}
	return reached, nil
}

// choose returns the inputs that are kept anyway, and then, again and again, the one that
// reaches most of the missing features, the shortest if there are several. Inputs that
// fail come first.
func choose(inputs []*input) []*input {
	var chosen, rest []*input
	missing := map[feature]bool{}
	for _, in := range inputs {
		maps.Copy(missing, in.reaches)
		if in.kept || in.err != nil {
			chosen = append(chosen, in)
		} else {
			rest = append(rest, in)
		}
	}
	for _, in := range chosen {
		maps.DeleteFunc(missing, func(f feature, _ bool) bool { return in.reaches[f] })
	}
	for len(missing) > 0 {
		var best *input
		most := 0
		for _, in := range rest {
			n := 0
			for f := range in.reaches {
				if missing[f] {
					n++
				}
			}
			if n > most || n == most && n > 0 && len(in.text) < len(best.text) {
				best, most = in, n
			}
		}
		chosen = append(chosen, best)
		maps.DeleteFunc(missing, func(f feature, _ bool) bool { return best.reaches[f] })
	}
	return chosen
}
