package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// This file tests the configuration of a Group: what panics, Version, other leases.

// TestGroup_Misuse: a field that cannot be served panics at first use, with its name.
func TestGroup_Misuse(t *testing.T) {
	for field, set := range map[string]func(*group){
		"Engine is":       func(g *group) { g.Engine = nil },
		"Name is \"\"":    func(g *group) { g.Name = "" },
		"Name is \"a/b\"": func(g *group) { g.Name = "a/b" },
		"Name is \"aaa":   func(g *group) { g.Name = strings.Repeat("a", 65) },
		"Version is":      func(g *group) { g.Version = "v1.0" },
		"Lease is 2":      func(g *group) { g.Lease = 29 * time.Millisecond },
		"Lease is 1h":     func(g *group) { g.Lease = time.Hour + 1 },
		"Lease is -":      func(g *group) { g.Lease = -1 },
		"MaxAge is":       func(g *group) { g.MaxAge = -1 },
		"Linger is":       func(g *group) { g.Linger = -1 },
		"OnOutage is":     func(g *group) { g.OnOutage = 2 },
		"Oversize is":     func(g *group) { g.Oversize = 2 },
		"MaxResult is -":  func(g *group) { g.MaxResult = -1 },
		"MaxResult is 67": func(g *group) { g.MaxResult = 64 << 20 },
		"MaxTakeovers is": func(g *group) { g.MaxTakeovers = 201 },
		"MaxTakeovers -":  func(g *group) { g.MaxTakeovers = -1 },
		"Process has":     func(g *group) { g.Process = strings.Repeat("a", 65) },
		"Secrets[1] has":  func(g *group) { g.Secrets = [][]byte{secretA, []byte("short")} },
		"Shards":          func(g *group) { g.Shards = -1 },
		"MaxWaiters":      func(g *group) { g.MaxWaiters = -1 },
	} {
		g, _ := processes(1, set)
		for range 2 { // also the second use
			p, _ := panics(func() { g[0].Stats() }).(string)
			if first, _, _ := strings.Cut(field, " "); !strings.Contains(p, first) {
				t.Errorf("%s: got panic %q", field, p)
			}
		}
	}
}

// TestGroup_Defaults: the zero values stand for what the fields say.
func TestGroup_Defaults(t *testing.T) {
	g := &group{Engine: new(Memory), Name: "n"}
	s := g.use()
	if s.lease != 3*time.Second || s.maxAge != 5*time.Minute || s.grace != time.Second || s.maxResult != 256<<10 || s.maxTakeovers != 3 {
		t.Errorf("got %v, %v, %v, %d, %d", s.lease, s.maxAge, s.grace, s.maxResult, s.maxTakeovers)
	}
	if s.process == "" || len(s.process) > maxProcess || s.process == (&group{Engine: new(Memory), Name: "n"}).use().process {
		t.Errorf("got process %q, want a name that no other has", s.process)
	}
}

// small is an engine of small records.
type small struct{ *Memory }

func (small) Caps() Caps { return Caps{Name: "small", MaxValue: 1000} }

// TestGroup_SmallEngine: the default of MaxResult is what the engine can store.
func TestGroup_SmallEngine(t *testing.T) {
	g := &group{Engine: small{new(Memory)}, Name: "n"}
	if got := g.use().maxResult; got != 1000-maxOverhead {
		t.Errorf("got %d, want %d", got, 1000-maxOverhead)
	}
}

// TestRecordName: it has the Name and the Version, a bounded length, and no characters
// that mean something to an engine.
func TestRecordName(t *testing.T) {
	g := &group{Engine: new(Memory), Name: "images", Version: "v2"}
	name := g.RecordName(strings.Repeat(" .*>/key", 1000))
	if !strings.HasPrefix(name, "images/v2/") || len(name) != len("images/v2/")+32 || strings.Trim(name[10:], "0123456789abcdefghijklmnopqrstuv") != "" {
		t.Errorf("got %q", name)
	}
	if name := (&group{Engine: new(Memory), Name: "images"}).RecordName("k"); !strings.HasPrefix(name, "images/-/") {
		t.Errorf("got %q", name)
	}
	// Neither can be moved into the other.
	a, b := vault{name: "ab", version: "c"}, vault{name: "a", version: "bc"}
	if a.recordName(nil)[5:] == b.recordName(nil)[5:] {
		t.Error("two versions have one id")
	}
}

// TestVersion: versions share no execution, and none reads what another has written.
func TestVersion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		g[2].Version = "2"
		g[2].Codec = badCodec{decode: func([]byte) (string, error) { return "", errors.New("of another version") }}
		var w work
		a := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		b, c := call(t.Context(), g[1], "k", w.after(time.Second, "v")), call(t.Context(), g[2], "k", w.after(time.Second, "v2"))
		a.is(t, "v", Led)
		b.is(t, "v", Followed)
		c.is(t, "v2", Led)
		w.ran(t, 2)
		left(t, e[0], g...)
	})
}

// TestLease_OfTheRecord: the lease in the record counts, whatever that of the reader is: a
// shorter one does not take over too early, and a longer one does not wait too long (C5).
func TestLease_OfTheRecord(t *testing.T) {
	for _, lease := range []time.Duration{time.Second, 30 * time.Second} {
		for _, dies := range []bool{false, true} {
			bubble(t, func(t *testing.T) {
				g, e := processes(2, nil)
				g[1].Lease = lease
				var w work
				call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
				later(0)
				e[0].cut.Store(dies)
				o := call(t.Context(), g[1], "k", w.after(time.Second/4, "other"))
				if !dies {
					o.is(t, "v", Followed)
					w.ran(t, 1)
					return
				}
				o.is(t, "other", Led)
				o.between(t, 3400*time.Millisecond, 3550*time.Millisecond)
			})
		}
	}
}

// TestUse_Concurrent: the first use may be by many calls at once.
func TestUse_Concurrent(t *testing.T) {
	g, _ := processes(1, nil)
	done := make(chan error)
	for range 8 {
		go func() {
			_, _, err := g[0].DoContext(context.Background(), "k", nil0)
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
