//go:build coalesceexplore

package coalesce

import "fmt"

// This file is part of the build for the explorer alone. It gives the programs that are
// explored a view of the lingering outcomes that changes nothing: a call that is not
// answered would load the key, and drop expired ones.

// A Kept is an outcome that lingers.
type Kept[K comparable, V any] struct {
	Key K
	Val V
	Err error
}

// KeptIn returns the outcomes that linger in g, those that have expired included, and an
// error if the invariants of linger.go and expiry.go do not hold. No call may be under
// way, nor a sweep.
func KeptIn[K comparable, V any](g *Group[K, V]) (kept []Kept[K, V], err error) {
	gs := g.use()
	l := gs.lingering
	if l == nil {
		return nil, nil
	}
	broken := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	indexed := 0
	for s := range gs.all() {
		x := s.outcomes.Load()
		if x == nil {
			continue
		}
		x.Range(func(at slot[K], p *lingerer[K, V]) bool {
			indexed++
			if p.key != at.key || p.hash != at.hash || p.shard != s {
				broken("the outcome of %v is in the index of another shard or key", p.key)
			}
			if p.place < 0 || int(p.place) >= l.order.n || l.order.at(int(p.place)).lingerer != p {
				broken("the outcome of %v is in the index and not in the order", p.key)
			}
			return true
		})
	}
	if indexed != l.order.n {
		broken("%d outcomes are in the order, and %d in the index", l.order.n, indexed)
	}
	for i := range l.order.n {
		e := l.order.at(i)
		p := e.lingerer
		kept = append(kept, Kept[K, V]{p.key, p.val, p.err})
		if !p.answers.Load() || int(p.place) != i || e.end != p.end {
			broken("at place %d is %+v", i, *e)
		}
		if i > 0 && l.order.Less(i, (i-1)/2) {
			broken("the outcome at place %d expires before that at place %d", i, (i-1)/2)
		}
	}
	if l.order.n > l.max {
		broken("%d outcomes linger, and %d may", l.order.n, l.max)
	}
	if p := l.order.first(); p != nil && p.end != never && len(l.sweeps) == 0 {
		broken("no sweep is to come for %v", p.key)
	}
	return kept, err
}
