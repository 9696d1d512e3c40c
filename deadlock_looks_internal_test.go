package coalesce

import "testing"

// This file holds the common part of the looks for the keys of one DoMulti.

// TestDeadlock_LooksOfOneDoMulti: the looks for the keys of a DoMulti, which wait for
// different flights that all wait for the same one, pass the edges of that one once,
// whether there is a path back or not. When each look passed them, a DoMulti for 5,000
// keys took a processor for a minute. A path that is over by then is searched for again.
func TestDeadlock_LooksOfOneDoMulti(t *testing.T) {
	node := func() *flight[int, int] { return &flight[int, int]{cold: &cold[int, int]{ctx: new(flightContext)}} }
	lead := func(from, to *flight[int, int]) *edge {
		e := &edge{from: from.cold.ctx}
		point(e, to)
		return e
	}
	for _, back := range []bool{false, true} {
		from, hub := node(), node()
		lead(node(), from)
		var keys, far []*edge
		for range 10 {
			between := node()
			keys = append(keys, lead(from, between))
			lead(between, hub)
			far = append(far, lead(hub, node()))
		}
		way := far[0]
		if back {
			way = lead(hub, from)
		}
		found := map[*flightContext][]hop{}
		for i, e := range keys[:9] {
			if err := e.search(found); (err != nil) != back {
				t.Errorf("way back %v: key %d: got %v, want an error only for a path back", back, i, err)
			}
			if n := far[5].look; n != far[0].look || i > 0 && n >= looks {
				t.Errorf("way back %v: key %d: got the edges passed by look %d, want by the first of %d", back, i, n, looks)
			}
		}
		way.drop()
		if err := keys[9].search(found); err != nil {
			t.Errorf("way back %v, but over: got %v, want nil", back, err)
		}
		if !back {
			continue
		}
		other := node()
		lead(hub, other)
		lead(other, from)
		found = map[*flightContext][]hop{hub.cold.ctx: {{edge: way, from: hub.cold.ctx, to: from.cold.ctx}}}
		if err := keys[9].search(found); err == nil {
			t.Error("another way back: got no error, want a *DeadlockError")
		}
	}
}
