package fleet

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file tests Secrets.

var (
	secretA = []byte("the first secret of all, 32 byte")
	secretB = []byte("another secret of thirty-two by.")
)

// tap returns the Groups, with a copy of each record that is swapped in.
func tap(n int, set func(*group)) (g []*group, e []*faulty, written func() []string) {
	var mu sync.Mutex
	var all []string
	m := &tapped{Memory: new(Memory), f: func(val []byte) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, string(val))
	}}
	g, e = processes(n, set)
	for i := range g {
		e[i].Memory = m.Memory
		g[i].Engine = tapped{e[i].Memory, m.f}
	}
	return g, e, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

type tapped struct {
	*Memory
	f func([]byte)
}

func (t tapped) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (Record, error) {
	t.f(val)
	return t.Memory.Swap(ctx, key, prev, val, ttl)
}

// TestSecrets: what is stored tells neither the value nor the key, and all processes read
// it, also those for which the secret is not the first.
func TestSecrets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _, written := tap(2, func(g *group) { g.Secrets = [][]byte{secretA} })
		var w work
		call(t.Context(), g[0], "the key", w.after(time.Second, "the value"))
		later(0)
		call(t.Context(), g[1], "the key", w.after(time.Second, "other")).is(t, "the value", Followed)
		if len(written()) < 3 {
			t.Errorf("got %d writes", len(written()))
		}
		for _, val := range written() {
			if strings.Contains(val, "value") || strings.Contains(val, "key") {
				t.Errorf("%q is stored", val)
			}
		}
		plain, _ := processes(1, nil)
		if a, b := g[0].RecordName("the key"), plain[0].RecordName("the key"); a == b {
			t.Errorf("the name %q does not depend on the secret", a)
		}
		if st := g[1].Stats(); st.Unreadable != 0 {
			t.Errorf("got %+v", st)
		}
		w.ran(t, 1)
	})
}

// TestSecrets_AllOpen: each secret opens; the first makes the names, so that a change of it
// separates the processes as a Version does.
func TestSecrets_AllOpen(t *testing.T) {
	old := vault{name: "n", secrets: [][]byte{secretA}}
	now := vault{name: "n", secrets: [][]byte{secretB, secretA}}
	name := old.recordName([]byte("k"))
	if name == now.recordName([]byte("k")) {
		t.Error("both secrets make the same name")
	}
	rec := record{kind: result, token: 7, nonce: newNonce(), payload: []byte("v"), process: "a"}
	got, err := now.box(name).decode(old.box(name).encode(&rec), 9)
	if err != nil || string(got.payload) != "v" || got.token != 7 || got.nonce != rec.nonce {
		t.Errorf("got %+v, %v, want %+v", got, err, rec)
	}
	if _, err := old.box(name).decode(now.box(name).encode(&rec), 9); err == nil {
		t.Error("a secret opens what another has sealed")
	}
}

// TestSecrets_Tampered: no bit of a record can be changed, and it cannot be moved to
// another key.
func TestSecrets_Tampered(t *testing.T) {
	v := vault{name: "n", secrets: [][]byte{secretA}}
	name := v.recordName([]byte("k"))
	b := v.box(name)
	for _, rec := range []record{
		{kind: lease, lease: time.Second, process: "a"},
		{kind: result, token: 7, payload: []byte("v"), process: "a"},
		{kind: failed, failure: failedPanic, token: 7, payload: encodeFailure("n", "m", 100)},
	} {
		val := b.encode(&rec)
		for i := range val {
			for bit := range 8 {
				changed := bytes.Clone(val)
				changed[i] ^= 1 << bit
				if got, err := b.decode(changed, 9); err == nil {
					t.Fatalf("byte %d, bit %d: got %+v, want an error", i, bit, got)
				}
			}
		}
		for n := range len(val) {
			if _, err := b.decode(val[:n], 9); err == nil {
				t.Fatalf("%d of %d bytes are a record", n, len(val))
			}
		}
		if _, err := v.box(v.recordName([]byte("other"))).decode(val, 9); err == nil {
			t.Error("a record was moved to another key")
		}
		if _, err := (&vault{name: "n", secrets: [][]byte{secretB}}).box(name).decode(val, 9); err == nil {
			t.Error("a wrong secret opens it")
		}
	}
}

// TestSecrets_Wrong: a process with another secret for the same records, or none, goes by
// the clock, and never returns what it cannot open.
func TestSecrets_Wrong(t *testing.T) {
	for name, forge := range map[string][]byte{
		"plain":  box{}.encode(&record{kind: result, token: 1, payload: []byte("forged"), process: "x"}),
		"sealed": (&vault{secrets: [][]byte{secretB}}).box("x").encode(&record{kind: result, token: 1, payload: []byte("forged")}),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, e := processes(1, func(g *group) { g.Secrets, g.Linger = [][]byte{secretA}, time.Minute })
				if _, err := e[0].Memory.Swap(t.Context(), g[0].RecordName("k"), 0, forge, time.Minute); err != nil {
					t.Fatal(err)
				}
				var w work
				o := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
				o.is(t, "v", Led)
				o.between(t, 4150*time.Millisecond, 4300*time.Millisecond)
				if st := g[0].Stats(); st.Unreadable == 0 {
					t.Errorf("got %+v, want what could not be opened", st)
				}
			})
		})
	}
}

// TestSecrets_Replayed: a call that waits for a lease is not answered by an older result
// that is written again in its place.
func TestSecrets_Replayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e, written := tap(2, func(g *group) { g.Secrets = [][]byte{secretA} })
		var w work
		call(t.Context(), g[0], "k", w.after(0, "old")).is(t, "old", Led)
		old := []byte(written()[1])
		a := call(t.Context(), g[0], "k", w.after(2500*time.Millisecond, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "new"))
		later(100 * time.Millisecond)
		name := g[0].RecordName("k")
		now, _ := e[0].Memory.Load(t.Context(), name)
		if _, err := e[0].Memory.Swap(t.Context(), name, now.Rev, old, time.Minute); err != nil {
			t.Fatal(err)
		}
		if b.get(); b.v != "new" || b.took < 3150*time.Millisecond {
			t.Errorf("got %q, %v after %v, want new after a lease", b.v, b.err, b.took)
		}
		if a.get(); a.v == "old" {
			t.Errorf("got %q", a.v)
		}
	})
}
