package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// This file tests what a Group says about itself: Flights, Stats, the Observer, Check.

// TestFlights: each run is shown with what it does.
func TestFlights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		var w work
		call(t.Context(), g[0], "k", w.after(10*time.Second, "v"))
		later(100 * time.Millisecond)
		call(t.Context(), g[1], "k", w.after(10*time.Second, "v"))
		e[2].cut.Store(true)
		call(t.Context(), g[2], "k", w.after(10*time.Second, "v"))
		later(100 * time.Millisecond)
		check := func(g *group, want Flight[string]) {
			t.Helper()
			n := 0
			for f := range g.Flights() {
				if f.ID == 0 {
					t.Errorf("got %+v, want an ID", f)
				}
				f.ID = 0
				if n++; f != want {
					t.Errorf("got %+v, want %+v", f, want)
				}
			}
			if n != 1 {
				t.Errorf("got %d flights, want 1", n)
			}
		}
		check(g[0], Flight[string]{Key: "k", State: Leading, Age: 200 * time.Millisecond, Token: 1, Process: "a"})
		check(g[1], Flight[string]{Key: "k", State: Following, Age: 100 * time.Millisecond, Token: 1, Process: "a"})
		check(g[2], Flight[string]{Key: "k", State: Acquiring, Age: 100 * time.Millisecond})
		later(time.Second)
		check(g[2], Flight[string]{Key: "k", State: RunningLocally, Age: 1100 * time.Millisecond, Process: "c"})
		call(t.Context(), g[0], "k2", w.after(time.Second, "v"))
		later(0)
		for range g[0].Flights() {
			break // it may end early
		}
		later(20 * time.Second)
		left(t, e[0], g...)
	})
}

// TestStrings: the names of roles and states.
func TestStrings(t *testing.T) {
	var got []string
	for r := RoleNone; r <= Local+1; r++ {
		got = append(got, r.String())
	}
	for s := Acquiring; s <= RunningLocally+1; s++ {
		got = append(got, s.String())
	}
	want := "none led followed adopted local unknown acquiring leading following running locally unknown"
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestObserver: it is called with what happens.
func TestObserver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var infos []Info
		var margins, took []time.Duration
		size := 0
		g, e := processes(1, func(g *group) {
			g.Observer = Observer{
				Answered:  func(i Info) { infos = append(infos, i) },
				Renewed:   func(m time.Duration) { margins = append(margins, m) },
				Published: func(d time.Duration, n int) { took, size = append(took, d), n },
			}
		})
		e[0].swap = func(_ context.Context, _ uint64, _ record, do func() (Record, error)) (Record, error) {
			time.Sleep(10 * time.Millisecond)
			return do()
		}
		var w work
		o := call(t.Context(), g[0], "k", w.after(1500*time.Millisecond, "value"))
		o.is(t, "value", Led)
		later(0)
		if len(infos) != 1 || infos[0] != o.info || o.info.Wait != 10*time.Millisecond {
			t.Errorf("got %+v, want %+v", infos, o.info)
		}
		if len(margins) != 1 || margins[0] != 1990*time.Millisecond {
			t.Errorf("got margins %v, want 1.99s", margins)
		}
		if len(took) != 1 || took[0] != 10*time.Millisecond || size != 5 {
			t.Errorf("got published after %v, %d bytes, want 10ms, 5", took, size)
		}
	})
}

// TestObserver_Blocks: one that blocks does not keep the lease from being renewed, nor the
// leader from noticing that it was replaced.
func TestObserver_Blocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		block := make(chan struct{})
		g[0].Observer.Renewed = func(time.Duration) { <-block }
		var w work
		a := call(t.Context(), g[0], "k", w.obeying(20*time.Second, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(0, "other")).is(t, "v", Followed)
		a.is(t, "v", Led)
		w.ran(t, 1)
		close(block)
		left(t, e[0], g...)
	})
}

// A checked engine is a Checker.
type checked struct {
	*faulty
	err    error
	sealed *bool
}

func (c checked) Check(_ context.Context, sealed bool) error {
	*c.sealed = sealed
	return c.err
}

// TestCheck: it finds out what would be silent otherwise, within a bounded time.
func TestCheck(t *testing.T) {
	var sealed bool
	tests := map[string]func(g *group, e *faulty){
		"": func(*group, *faulty) {},
		"wrong setting": func(g *group, e *faulty) {
			g.Engine = checked{e, errors.New("wrong setting"), &sealed}
			g.Secrets = [][]byte{secretA}
		},
		"nothing is pushed": func(_ *group, e *faulty) { e.mute.Store(true) },
		"Swap: cut off":     func(_ *group, e *faulty) { e.cut.Store(true) },
		"Notify: no permission": func(_ *group, e *faulty) {
			e.arm = func(context.Context) error { return errors.New("no permission") }
		},
		"Load: no permission": func(_ *group, e *faulty) {
			e.load = func(context.Context, func() (Record, error)) (Record, error) {
				return Record{}, errors.New("no permission")
			}
		},
		"Load does not find": func(_ *group, e *faulty) {
			e.load = func(context.Context, func() (Record, error)) (Record, error) { return Record{}, ErrAbsent }
		},
		"does not compare": func(_ *group, e *faulty) {
			e.swap = func(_ context.Context, prev uint64, _ record, do func() (Record, error)) (Record, error) {
				rec, err := do()
				if prev == 0 && err != nil {
					return Record{Rev: 9}, nil
				}
				return rec, err
			}
		},
	}
	for want, set := range tests {
		t.Run(want, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g, e := processes(1, nil)
				set(g[0], e[0])
				begin := time.Now()
				err := g[0].Check(context.Background())
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				if took := time.Since(begin); took > 6*time.Second {
					t.Errorf("took %v, want at most 5s and Grace", took)
				}
				left(t, e[0], g...)
			})
		})
	}
	if !sealed {
		t.Error("the engine was not told that records are sealed")
	}
}
