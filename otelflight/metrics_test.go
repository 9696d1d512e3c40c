package otelflight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed342dcb2d/coalesce"
)

// counted is a Source whose numbers all differ.
type counted struct{}

func (counted) Len() int { return 17 }

func (counted) Stats() coalesce.Stats {
	return coalesce.Stats{
		Calls: 15, Led: 1, Joined: 2, Lingered: 3, Rejected: 4, EndedOnEntry: 5,
		Left: 6, Abandoned: 7, Forgotten: 8, TakenOver: 9, Panics: 10, Goexits: 11, PanicsLogged: 12, Evicted: 13,
		Lingering: 14, HookPanics: 16,
	}
}

// TestMetrics_Names: each metric is exported with its unit, its kind, its attributes and its
// value, and no other is.
func TestMetrics_Names(t *testing.T) {
	k := newKit()
	k.add(t, "a group", counted{})
	group := attribute.String("coalesce.group.name", "a group")
	type metric struct {
		unit, kind string
		value      int64
	}
	wants := map[string]metric{
		"coalesce.left_calls":         {"{call}", "counter", 6},
		"coalesce.abandoned_flights":  {"{flight}", "counter", 7},
		"coalesce.forgotten_keys":     {"{key}", "counter", 8},
		"coalesce.taken_over_flights": {"{flight}", "counter", 9},
		"coalesce.panics":             {"{panic}", "counter", 10},
		"coalesce.goexits":            {"{goexit}", "counter", 11},
		"coalesce.panics_logged":      {"{panic}", "counter", 12},
		"coalesce.evicted_outcomes":   {"{outcome}", "counter", 13},
		"coalesce.hook_panics":        {"{panic}", "counter", 16},
		"coalesce.lingering_outcomes": {"{outcome}", "gauge", 14},
		"coalesce.active_keys":        {"{key}", "up-down counter", 17},
	}
	got := k.collect(t)
	for name, want := range wants {
		m := got[name]
		kind, points := numbers(t, m)
		if m.Unit != want.unit || m.Description == "" || kind != want.kind {
			t.Errorf("%s: got unit %q, description %q, kind %q, want unit %q, any description, kind %q", name, m.Unit, m.Description, kind, want.unit, want.kind)
		}
		if len(points) != 1 || points[0].Value != want.value || !points[0].Attributes.Equals(new(attribute.NewSet(group))) {
			t.Errorf("%s: got %v, want one point of %d with the group's name", name, points, want.value)
		}
		delete(got, name)
	}

	m := got["coalesce.calls"]
	kind, points := numbers(t, m)
	if m.Unit != "{call}" || kind != "counter" || len(points) != 5 {
		t.Errorf("coalesce.calls: got unit %q, kind %q and %d points, want {call}, counter and 5", m.Unit, kind, len(points))
	}
	for outcome, want := range map[string]int64{"led": 1, "joined": 2, "lingered": 3, "rejected": 4, "ended_on_entry": 5} {
		set := attribute.NewSet(group, attribute.String("coalesce.call.outcome", outcome))
		i := slices.IndexFunc(points, func(p metricdata.DataPoint[int64]) bool { return p.Attributes.Equals(&set) })
		if i < 0 || points[i].Value != want {
			t.Errorf("coalesce.calls, %s: got %v, want %d", outcome, points, want)
		}
	}
	delete(got, "coalesce.calls")
	for name := range got {
		t.Errorf("got %s, want no such metric", name)
	}
}

// numbers returns the kind of a metric, and its data points.
func numbers(t *testing.T, m metricdata.Metrics) (kind string, points []metricdata.DataPoint[int64]) {
	switch d := m.Data.(type) {
	case metricdata.Gauge[int64]:
		return "gauge", d.DataPoints
	case metricdata.Sum[int64]:
		if d.Temporality != metricdata.CumulativeTemporality {
			t.Errorf("%s: got temporality %v, want cumulative", m.Name, d.Temporality)
		}
		if d.IsMonotonic {
			return "counter", d.DataPoints
		}
		return "up-down counter", d.DataPoints
	}
	return fmt.Sprintf("%T", m.Data), nil
}

// every is a Source whose Stats have a number of its own in each field.
type every struct{}

func (every) Len() int { return 0 }

func (every) Stats() (s coalesce.Stats) {
	for i := range reflect.TypeFor[coalesce.Stats]().NumField() {
		reflect.ValueOf(&s).Elem().Field(i).SetUint(uint64(1000 + i))
	}
	return s
}

// TestMetrics_AllOfStats: each field of Stats is exported, but Calls, which is the sum of
// others.
func TestMetrics_AllOfStats(t *testing.T) {
	k := newKit()
	k.add(t, "a", every{})
	exported := map[float64]bool{}
	for _, v := range k.values(t) {
		exported[v] = true
	}
	for i, f := range reflect.VisibleFields(reflect.TypeFor[coalesce.Stats]()) {
		if want := f.Name != "Calls"; exported[float64(1000+i)] != want {
			t.Errorf("Stats.%s: got exported %t, want %t", f.Name, !want, want)
		}
	}
}

// TestMetrics_Histograms: the histograms have their units, one attribute, boundaries from 5
// ms to 10 s, and what the hooks have recorded.
func TestMetrics_Histograms(t *testing.T) {
	k := newKit()
	var g coalesce.Group[string, int]
	hooked(k, &g)
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		wg.Go(func() { g.DoContext(t.Context(), "k", sleep(2*time.Second)) })
		synctest.Wait()
		time.Sleep(1200 * time.Millisecond)
		g.DoContext(t.Context(), "k", notCalled)
		wg.Wait()
	})
	got := k.collect(t)
	for name, want := range map[string]struct{ sum, above, in float64 }{
		"coalesce.wait.duration":   {0.8, 0.75, 1},
		"coalesce.flight.duration": {2, 1, 2.5},
	} {
		m := got[name]
		d, ok := m.Data.(metricdata.Histogram[float64])
		if !ok || m.Unit != "s" || m.Description == "" || len(d.DataPoints) != 1 {
			t.Errorf("%s: got %+v, want a histogram in s with one point", name, m)
			continue
		}
		p := d.DataPoints[0]
		if !p.Attributes.Equals(new(attribute.NewSet(attribute.String("coalesce.group.name", "a")))) {
			t.Errorf("%s: got attributes %v, want the group's name alone", name, p.Attributes)
		}
		if p.Count != 1 || p.Sum != want.sum {
			t.Errorf("%s: got count %d and sum %v, want 1 and %v", name, p.Count, p.Sum, want.sum)
		}
		if p.Bounds[0] != 0.005 || p.Bounds[len(p.Bounds)-1] != 10 {
			t.Errorf("%s: got boundaries %v, want 5 ms to 10 s", name, p.Bounds)
		}
		if i := slices.Index(p.BucketCounts, 1); p.Bounds[i-1] != want.above || p.Bounds[i] != want.in {
			t.Errorf("%s: got an observation in bucket %d of %v, want above %v and up to %v", name, i, p.Bounds, want.above, want.in)
		}
	}
}

// TestMetrics_TwoGroups: each group reports for itself.
func TestMetrics_TwoGroups(t *testing.T) {
	k := newKit()
	var g, h coalesce.Group[string, int]
	k.add(t, "a", &g)
	k.add(t, "b", &h)
	g.Do("k", func() (int, error) { return 0, nil })
	k.expect(t, map[string]float64{
		calls("led"): 1,
		"coalesce.calls{coalesce.call.outcome=led,coalesce.group.name=b}": 0,
	})
}

// TestMetrics_KeysDoNotMatter: the number of data points does not move with the number of
// keys.
func TestMetrics_KeysDoNotMatter(t *testing.T) {
	k := newKit()
	g := coalesce.Group[string, int]{LingerMax: 1000, Linger: coalesce.Forever}
	hooked(k, &g)
	k.add(t, "a", WithFlights(&g, 10))
	g.Do("first", func() (int, error) { return 0, nil })
	before := len(k.values(t))
	for i := range 100_000 {
		g.Do(fmt.Sprint("key ", i), func() (int, error) { return 0, nil })
		if i%10_000 == 0 {
			k.exporter.Reset()
		}
	}
	if after := len(k.values(t)); after != before {
		t.Errorf("got %d data points after 100,000 keys, want %d as before", after, before)
	}
	k.expect(t, map[string]float64{calls("led"): 100_001, a("coalesce.evicted_outcomes"): 99_001})
	for _, s := range k.exporter.GetSpans() {
		if strings.Contains(fmt.Sprint(s.Name, s.Attributes, s.Events, s.Links), "key ") {
			t.Fatalf("got span %+v, want none with a key", s)
		}
	}
}

// TestMetrics_Forms: each form of call, and each way in which fn may end, is counted and
// timed.
func TestMetrics_Forms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit()
		var g coalesce.Group[string, int]
		s := hooked(k, &g)
		k.add(t, "a", &g)
		ctx := t.Context()
		waits, flights := a("coalesce.wait.duration.count"), a("coalesce.flight.duration.count")
		second := sleep(time.Second)

		// DoMulti: a flight for each key.
		g.DoMulti(ctx, []string{"a", "b", "c"}, func(context.Context, []string) (map[string]int, error) {
			time.Sleep(time.Second)
			return nil, nil
		})
		synctest.Wait()
		k.expect(t, map[string]float64{calls("led"): 3, flights: 3, a("coalesce.flight.duration.sum"): 3})

		// DoFresh: two queue behind a flight; one of them leads, the other waits for both.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { g.DoFresh(ctx, "k", second) })
			synctest.Wait()
		}
		k.expect(t, map[string]float64{a("coalesce.active_keys"): 1})
		wg.Wait()
		synctest.Wait()
		k.expect(t, map[string]float64{
			calls("led"): 5, calls("joined"): 1, flights: 5, waits: 1, a("coalesce.wait.duration.sum"): 2,
			a("coalesce.active_keys"): 0,
		})

		// A panic and a Goexit, each with a follower by DoChan.
		for _, exit := range []func(){func() { panic("p") }, runtime.Goexit} {
			wg.Go(func() {
				defer func() { _ = recover() }()
				g.Do("k", func() (int, error) { time.Sleep(time.Second); exit(); return 0, nil })
			})
			synctest.Wait()
			if res := <-g.DoChan(ctx, "k", second); res.Err == nil {
				t.Error("got no error, want that of fn's exit")
			}
			wg.Wait()
		}
		synctest.Wait()
		k.expect(t, map[string]float64{a("coalesce.panics"): 1, a("coalesce.goexits"): 1, flights: 7, waits: 3})

		// A held flight whose only caller leaves; an abandoned one.
		for _, hold := range []bool{true, false} {
			one, cancel := context.WithCancel(ctx)
			wg.Go(func() {
				g.DoContext(one, "k", func(ctx context.Context) (int, error) {
					if hold && !coalesce.Hold(ctx) {
						t.Error("Hold: got false, want true")
					}
					return second(ctx)
				})
			})
			synctest.Wait()
			cancel()
			wg.Wait()
			k.expect(t, map[string]float64{a("coalesce.active_keys"): 1})
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		k.expect(t, map[string]float64{
			a("coalesce.left_calls"): 2, a("coalesce.abandoned_flights"): 1, flights: 9, waits: 3,
			a("coalesce.active_keys"): 0,
		})

		// Shutdown refuses a queued call: it has waited, and no fn has run for it.
		wg.Go(func() { g.DoFresh(ctx, "k", second) })
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := g.DoFresh(ctx, "k", second); err != coalesce.ErrClosed {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		wg.Wait()
		synctest.Wait()
		k.expect(t, map[string]float64{calls("rejected"): 1, flights: 10, waits: 4})
		if n := s.listed(); n != 0 {
			t.Errorf("got %d flights listed at the end, want none", n)
		}
	})
}

// TestMetrics_Agree: after a storm, the metrics of a quiescent group agree with its Stats,
// the times with the events, no flight is left, and each call that has received a result has a
// link. Metrics are collected all along.
func TestMetrics_Agree(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler)) // panics
	k := newKit()
	var received, finished atomic.Int64
	count := func(n *atomic.Int64) func(context.Context, coalesce.Event[string]) {
		return func(context.Context, coalesce.Event[string]) { n.Add(1) }
	}
	g := coalesce.Group[string, int]{MaxWaiters: 6, Linger: time.Microsecond, LingerMax: 2, Hooks: coalesce.Hooks[string]{
		Receive: count(&received), Finish: count(&finished),
	}}
	s := hooked(k, &g)
	k.add(t, "a", &g)
	done := make(chan struct{})
	var collections sync.WaitGroup
	collections.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond): // with one P, all calls would wait for it
				k.values(t)
			}
		}
	})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 500 {
				k.span(context.Background(), "call", func(ctx context.Context) { storm(&g, ctx, i, j) })
			}
		})
	}
	wg.Wait()
	if err := g.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(done)
	collections.Wait()

	st := g.Stats()
	if st.Led == 0 || st.Joined == 0 || st.Rejected == 0 || st.EndedOnEntry == 0 || st.Forgotten == 0 || st.Left == 0 ||
		st.Panics == 0 || st.Goexits == 0 {
		t.Errorf("got %+v, want a storm that does more", st)
	}
	waitFor(t, func() bool { return s.listed() == 0 && finished.Load() == int64(st.Led) })
	k.expect(t, map[string]float64{
		calls("led"):                        float64(st.Led),
		calls("joined"):                     float64(st.Joined),
		calls("lingered"):                   float64(st.Lingered),
		calls("rejected"):                   float64(st.Rejected),
		calls("ended_on_entry"):             float64(st.EndedOnEntry),
		a("coalesce.left_calls"):            float64(st.Left),
		a("coalesce.abandoned_flights"):     float64(st.Abandoned),
		a("coalesce.forgotten_keys"):        float64(st.Forgotten),
		a("coalesce.panics"):                float64(st.Panics),
		a("coalesce.panics_logged"):         float64(st.PanicsLogged),
		a("coalesce.goexits"):               float64(st.Goexits),
		a("coalesce.evicted_outcomes"):      float64(st.Evicted),
		a("coalesce.lingering_outcomes"):    float64(st.Lingering),
		a("coalesce.active_keys"):           0,
		a("coalesce.flight.duration.count"): float64(st.Led),
		a("coalesce.wait.duration.count"):   float64(received.Load()),
	})
	all, linked := 0, 0
	for _, span := range k.exporter.GetSpans() {
		n := 0
		for _, e := range span.Events {
			if e.Name == "received" {
				n++
			}
		}
		all, linked = all+n, linked+len(span.Links)
		if len(span.Links) < n {
			t.Fatalf("got a call that received %d results and has %d links: %+v", n, len(span.Links), span)
		}
	}
	if all == 0 || linked == 0 {
		t.Errorf("got %d results received and %d links, want more of both", all, linked)
	}
}

// storm makes a call of g.
func storm(g *coalesce.Group[string, int], ctx context.Context, i, j int) {
	key := fmt.Sprint("key ", j%3)
	fn := func(context.Context) (int, error) {
		runtime.Gosched()
		switch j % 7 {
		case 0:
			return 0, errors.New("no value, so nothing lingers")
		case 1:
			panic("p")
		case 2:
			runtime.Goexit()
		}
		return 0, nil
	}
	short, cancel := context.WithTimeout(ctx, time.Duration(i)*5*time.Microsecond)
	defer cancel()
	defer func() { _ = recover() }()
	switch (i + j) % 6 {
	case 0:
		g.DoContext(ctx, key, fn)
	case 1:
		g.DoContext(short, key, fn)
	case 2:
		g.DoFresh(short, key, fn)
	case 3:
		<-g.DoChan(short, key, fn)
	case 4:
		g.Forget(key)
		g.TryDo(key, func() (int, error) { return 0, nil })
	case 5:
		g.DoMulti(short, []string{"key 0", "key 1", "key 2"}, func(ctx context.Context, _ []string) (map[string]int, error) {
			_, err := fn(ctx)
			return nil, err
		})
	}
}
