//go:build coalesceexplore

package explore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/internal/sched"
)

// This file shows that the explorer finds bugs.

// TestExplore_Finds: the explorer itself finds an error that only one order brings about,
// a deadlock, a panic, and a program that does not end.
func TestExplore_Finds(t *testing.T) {
	lost := func() error {
		var mu sched.Mutex
		n := 0
		for range 2 {
			sched.Go(func() {
				mu.Lock()
				v := n
				mu.Unlock()
				mu.Lock()
				n = v + 1
				mu.Unlock()
			})
		}
		sched.Join()
		if n != 2 {
			return fmt.Errorf("n = %d", n)
		}
		return nil
	}
	early := func() error {
		var mu sched.Mutex
		n := 0
		for range 2 {
			sched.Go(func() {
				mu.Lock()
				v := n
				mu.Unlock()
				n = v + 1
			})
		}
		sched.Join()
		if n != 2 {
			return fmt.Errorf("n = %d", n)
		}
		return nil
	}
	locks := func() error {
		var a, b sched.Mutex
		for _, m := range [][2]*sched.Mutex{{&a, &b}, {&b, &a}} {
			sched.Go(func() {
				for _, l := range m {
					l.Lock()
				}
				for _, l := range m {
					l.Unlock()
				}
			})
		}
		sched.Join()
		return nil
	}
	wakeLost := func() error {
		var flag sched.Int64
		c := sched.NewCompletion()
		sched.Go(func() {
			if flag.Load() == 0 {
				sched.Wait(c)
			}
		})
		flag.Store(1) // and no thread completes c
		sched.Join()
		return nil
	}
	panics := func() error {
		var p sched.Pointer[int]
		sched.Go(func() { p.Store(new(int)) })
		sched.Go(func() { _ = *p.Load() })
		sched.Join()
		return nil
	}
	endless := func() error {
		for {
			sched.Point()
		}
	}
	for _, tt := range []struct {
		name        string
		program     func() error
		preemptions int // that the bug takes
		want        string
	}{
		{"a lost update", lost, 1, "n = 1"},
		{"a lock released early", early, 1, "n = 1"},
		{"locks in opposite orders", locks, 1, "deadlock"},
		{"a wake that is lost", wakeLost, 1, "deadlock"},
		{"a panic", panics, 0, "panicked"},
		{"no end", endless, 0, "no end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.preemptions > 0 {
				if rep := (sched.Explorer{Preemptions: tt.preemptions - 1, Releases: true}).Explore(tt.program); rep.Err != nil || !rep.Complete {
					t.Errorf("with %d preemptions: got %+v, want no error in all schedules", tt.preemptions-1, rep)
				}
			}
			for _, x := range []sched.Explorer{
				{Preemptions: tt.preemptions, Releases: true}, {Random: 1000, Changes: 2, Releases: true},
			} {
				rep := x.Explore(tt.program)
				if rep.Err == nil || !strings.Contains(rep.Err.Error(), tt.want) || rep.Trace == "" && tt.name != "no end" {
					t.Errorf("%+v: got %+v, want the error %q with a trace", x, rep, tt.want)
				}
				t.Logf("%d schedules", rep.Runs)
			}
		})
	}
}
