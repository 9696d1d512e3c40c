package storm_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds storms in modes: a load that the environment describes, so that
// scripts/stress.sh can run it in binaries that were built in different ways.

// A mode has the parameters that may differ between two storms of one binary.
type mode struct {
	cancel int // percentage of contexts that end during the call
	forget int // percentage of calls that come with a Forget
	keys   int
	hash   string // of storm.Hashes
	calls  int    // of each client
}

// parseMode returns the mode that s describes: fields such as keys=64, in any
// order, each of them once.
func parseMode(s string) (m mode, err error) {
	given := map[string]bool{}
	for _, field := range strings.Fields(s) {
		name, value, _ := strings.Cut(field, "=")
		if given[name] {
			return m, fmt.Errorf("%s is given twice", name)
		}
		given[name] = true
		if name == "hash" {
			m.hash = value
			continue
		}
		const most = 10_000_000
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > most {
			return m, fmt.Errorf("%q is no number from 0 to %d", field, most)
		}
		switch name {
		case "cancel":
			m.cancel = n
		case "forget":
			m.forget = n
		case "keys":
			m.keys = n
		case "calls":
			m.calls = n
		default:
			return m, fmt.Errorf("%q is no parameter", field)
		}
	}
	if len(given) != 5 || m.keys == 0 || m.calls == 0 {
		return m, fmt.Errorf("%q lacks a parameter", s)
	}
	return m, nil
}

// TestStorm_Mode runs the storm that COALESCE_STORM_MODE describes or, without it,
// one for each pair of parameters or so.
func TestStorm_Mode(t *testing.T) {
	storm.SilenceLog(t)
	modes := []string{
		"cancel=0 forget=0 keys=64 hash=constant",
		"cancel=0 forget=1 keys=1 hash=and15",
		"cancel=0 forget=5 keys=2 hash=default",
		"cancel=20 forget=0 keys=2 hash=and15",
		"cancel=20 forget=1 keys=64 hash=default",
		"cancel=20 forget=5 keys=64 hash=and15",
		"cancel=20 forget=5 keys=1 hash=constant",
	}
	for i := range modes {
		modes[i] += fmt.Sprintf(" calls=%d", storm.Scaled(t, 30))
	}
	if s := os.Getenv("COALESCE_STORM_MODE"); s != "" {
		modes = []string{s}
	}
	for _, s := range modes {
		t.Run(s, func(t *testing.T) {
			m, err := parseMode(s)
			if err != nil {
				t.Fatal(err)
			}
			testMode(t, m)
		})
	}
}

// testMode runs a storm in mode m, on all Ps, and logs its counters.
func testMode(t *testing.T, m mode) {
	for _, h := range storm.Hashes {
		if h.Name != m.hash {
			continue
		}
		s := storm.Storm{Clients: 8, Calls: m.calls, Keys: m.keys, Cancel: m.cancel, Forget: m.forget}
		g := &storm.Group{Hash: h.Hash}
		var asked map[int]uint64 // the keys that g has hashed; nil during the storm
		if h.Hash != nil {
			g.Hash = func(key int) uint64 {
				if asked != nil {
					asked[key] = h.Hash(key)
				}
				return h.Hash(key)
			}
		}
		st := storm.Check(t, &s, g, 0, h.Values)
		asked = map[int]uint64{}
		for key := range m.keys {
			g.Forget(key)
		}
		wantHashes(t, asked, m.keys, h.Values)
		t.Logf("%d calls, %d joined, %d left", st.Calls, st.Joined, st.Left+st.EndedOnEntry)
		if m.cancel == 0 && st.Left+st.EndedOnEntry > 0 {
			t.Errorf("got %d calls that left though no context ended, want none", st.Left+st.EndedOnEntry)
		}
		many := m.calls >= 500 // a smaller storm may lack rare events
		if m.cancel > 0 && many && st.Left+st.EndedOnEntry == 0 {
			t.Error("got no call that left though contexts ended, want some")
		}
		if m.forget == 0 && st.Forgotten > 0 || m.forget > 0 && m.keys == 1 && many && st.Forgotten == 0 {
			t.Errorf("got %d flights forgotten, want some only with forget", st.Forgotten)
		}
		return
	}
	t.Fatalf("got the hash %q, want one of Hashes", m.hash)
}

// wantHashes checks that a group with a Hash has called it for all keys, and got no more
// than most hashes: a degenerate placement must really be one.
func wantHashes(t *testing.T, asked map[int]uint64, keys, most int) {
	t.Helper()
	if most == 0 {
		return
	}
	hashes := map[uint64]bool{}
	for _, h := range asked {
		hashes[h] = true
	}
	if len(asked) != keys || len(hashes) != min(keys, most) {
		t.Errorf("got %d of %d keys hashed to %d hashes, want all to %d", len(asked), keys, len(hashes), min(keys, most))
	}
}

// TestParseMode: parseMode refuses a misspelled or incomplete mode, which would otherwise
// be gentler than the intended one.
func TestParseMode(t *testing.T) {
	want := mode{20, 5, 64, "and15", 100}
	if m, err := parseMode("cancel=20 forget=5 keys=64 hash=and15 calls=100"); m != want || err != nil {
		t.Errorf("got %+v, %v, want %+v, nil", m, err, want)
	}
	for _, s := range []string{
		"", "cancel=20 forget=5 keys=64 hash=and15", "cancel=20 forget=5 keys=64 hash=and15 call=100",
		"cancel=20 forget=x keys=64 hash=and15 calls=100", "cancel=20 forget=5 keys=0 hash=and15 calls=100",
		"cancel=20 forget=5 keys=64 keys=2 hash=and15 calls=100", "cancel=20 forget=5 keys=64 hash=and15 calls=10000001",
	} {
		if m, err := parseMode(s); err == nil {
			t.Errorf("%q: got %+v, want an error", s, m)
		}
	}
}
