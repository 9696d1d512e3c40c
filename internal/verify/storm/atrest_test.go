package storm_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// TestAtRest: AtRest finds everything that a group keeps of a call that is in flight, in
// the slot, with a record, in the table, or forgotten; and nothing before and after.
func TestAtRest(t *testing.T) {
	for _, c := range []struct {
		name   string
		during func(g *coalesce.Group[string, int], fn func() (int, error))
		want   string
	}{
		{"alone", func(*coalesce.Group[string, int], func() (int, error)) {}, " has "},
		{"joined", func(g *coalesce.Group[string, int], fn func() (int, error)) { _, _, _ = g.Do("k", fn) }, " has "},
		{"forgotten", func(g *coalesce.Group[string, int], _ func() (int, error)) { g.Forget("k") }, " is a flight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := coalesce.Group[string, int]{Shards: 1}
				wantRest(t, &g)
				end := make(chan struct{})
				fn := func() (int, error) { <-end; return 1, nil }
				go g.Do("k", fn)
				synctest.Wait()
				go c.during(&g, fn)
				synctest.Wait()
				wantFound(t, &g, c.want)
				close(end)
				synctest.Wait()
				wantRest(t, &g)
			})
		})
	}
}

// TestAtRest_Table: AtRest also finds a flight in the hash table, and its place.
func TestAtRest_Table(t *testing.T) {
	g := coalesce.Group[string, int]{Shards: 1, MaxAge: time.Hour}
	_, _, _ = g.Do("k", func() (int, error) {
		wantFound(t, &g, "] is a flight")
		return 1, nil
	})
	wantRest(t, &g)
}

// TestAtRest_Lingering: an outcome that lingers is not left over.
func TestAtRest_Lingering(t *testing.T) {
	g := coalesce.Group[string, *int]{Linger: coalesce.Forever}
	_, _, _ = g.Do("k", func() (*int, error) { return new(int), nil })
	wantRest(t, &g)
}

func wantRest(t *testing.T, g any) {
	t.Helper()
	if err := storm.AtRest(g); err != nil {
		t.Error(err)
	}
}

func wantFound(t *testing.T, g any, want string) {
	t.Helper()
	if err := storm.AtRest(g); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("during a call: got %v, want %q", err, want)
	}
}
