package coalesce

import (
	"context"
	"testing"
)

// TestBatch_ConcludedIsNotAbandoned: once fn has returned, a batch that all callers
// leave before its last flight has finished is not abandoned: its context does not end,
// a call that comes joins, and values linger.
func TestBatch_ConcludedIsNotAbandoned(t *testing.T) {
	g := Group[int, int]{Shards: 1, Linger: Forever}
	s := g.use().at(0)
	ctx := context.Background()
	b := newBatch[int, int](ctx, func(context.Context, []int) (map[int]int, error) { return nil, nil }, 1)
	c := caller[int, int]{shard: s, ctx: ctx, leads: true}
	h, _ := g.use().hash(1)
	s.mu.Lock()
	c.flight = c.leadIn(b, h, 1)
	s.mu.Unlock()
	b.conclude()
	if !c.withdraw(ctx) {
		t.Fatal("the call has not left")
	}
	if st := g.Stats(); c.flight.abandoned() || b.ctx.Err() != nil || st.Left != 1 || st.Abandoned != 0 {
		t.Errorf("got abandoned %v, context %v, %+v", c.flight.abandoned(), b.ctx.Err(), st)
	}
	late := caller[int, int]{ctx: ctx, fn: nothing}
	if v := late.arrive(g.use(), 1, anything); v != joins {
		t.Errorf("got verdict %d for a call that comes late, want that it joins", v)
	}
	s.mu.Unlock()
	a := answers[int, int]{how: returned, values: map[int]int{1: 1}}
	b.finish(a, b.ask(a))
	if v, shared, err := g.Do(1, func() (int, error) { return 2, nil }); v != 1 || !shared || err != nil {
		t.Errorf("got %d, %v, %v, want what lingers", v, shared, err)
	}
}
