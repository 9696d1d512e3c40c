package agree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/otelflight"
	"github.com/seed342dcb2d/coalesce/promflight"
)

// The names under which the views have a field of Stats. An outcome is a label, or attribute.
var names = []struct{ field, prometheus, otel, outcome string }{
	{"Led", "coalesce_calls_total", "coalesce.calls", "led"},
	{"Joined", "coalesce_calls_total", "coalesce.calls", "joined"},
	{"Lingered", "coalesce_calls_total", "coalesce.calls", "lingered"},
	{"Rejected", "coalesce_calls_total", "coalesce.calls", "rejected"},
	{"EndedOnEntry", "coalesce_calls_total", "coalesce.calls", "ended_on_entry"},
	{"Left", "coalesce_left_calls_total", "coalesce.left_calls", ""},
	{"Abandoned", "coalesce_abandoned_flights_total", "coalesce.abandoned_flights", ""},
	{"Forgotten", "coalesce_forgotten_keys_total", "coalesce.forgotten_keys", ""},
	{"TakenOver", "coalesce_taken_over_flights_total", "coalesce.taken_over_flights", ""},
	{"Panics", "coalesce_panics_total", "coalesce.panics", ""},
	{"Goexits", "coalesce_goexits_total", "coalesce.goexits", ""},
	{"PanicsLogged", "coalesce_panics_logged_total", "coalesce.panics_logged", ""},
	{"Evicted", "coalesce_evicted_outcomes_total", "coalesce.evicted_outcomes", ""},
	{"Lingering", "coalesce_lingering_outcomes", "coalesce.lingering_outcomes", ""},
	{"HookPanics", "coalesce_hook_panics_total", "coalesce.hook_panics", ""},
}

// TestAgree: after a storm, when all is over, each view has each counter with the same value.
func TestAgree(t *testing.T) {
	g := coalesce.Group[string, int]{MaxWaiters: 3, Linger: time.Hour, LingerMax: 2}
	collector, err := promflight.New("pages", &g)
	must(t, err)
	reader := metric.NewManualReader()
	registry := otelflight.Registry{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}
	g.Hooks = otelflight.Hooks(&registry, "pages", promflight.Hooks(collector, g.Hooks))
	scraped := prometheus.NewPedanticRegistry()
	must(t, scraped.Register(collector))
	_, err = registry.Add("pages", &g)
	must(t, err)
	var pages debugflight.Registry
	_, err = pages.Add("pages", debugflight.Of(&g, nil))
	must(t, err)

	storm(t, &g)
	for histogram(t, scraped, "coalesce_flight_seconds").count < g.Stats().Led { // hooks that come last
		time.Sleep(time.Millisecond)
	}

	stats := reflect.ValueOf(g.Stats())
	if stats.NumField() != len(names)+1 { // Calls is the sum of the outcomes
		t.Fatalf("got %d fields of Stats, want %d", stats.NumField(), len(names)+1)
	}
	page, report := answer(t, &pages, "group=pages"), debugflight.Report{}
	must(t, json.Unmarshal([]byte(answer(t, &pages, "format=json")), &report))
	fromPrometheus, fromOTel := gather(t, scraped), collect(t, reader)
	never := []string{"TakenOver", "Goexits", "HookPanics", "PanicsLogged"}
	for _, n := range names {
		want := stats.FieldByName(n.field).Uint()
		for view, got := range map[string]uint64{
			"the page":      counter(t, page, n.field),
			"JSON":          report.Groups[0].Counters[n.field],
			"Prometheus":    fromPrometheus[n.prometheus+" "+n.outcome],
			"OpenTelemetry": fromOTel[n.otel+" "+n.outcome],
		} {
			if got != want {
				t.Errorf("%s: got %d from %s, want %d as in Stats", n.field, got, view, want)
			}
		}
		if want == 0 && !strings.Contains(strings.Join(never, " "), n.field) {
			t.Errorf("%s: got 0 after the storm, want more", n.field)
		}
	}
	for _, h := range []struct{ prometheus, otel string }{
		{"coalesce_flight_seconds", "coalesce.flight.duration"},
		{"coalesce_wait_seconds", "coalesce.wait.duration"},
	} {
		got, want := histogram(t, scraped, h.prometheus), otelHistogram(t, reader, h.otel)
		for end := time.Now().Add(10 * time.Second); got.count != want.count && time.Now().Before(end); { // Receives of DoChan
			got, want = histogram(t, scraped, h.prometheus), otelHistogram(t, reader, h.otel)
		}
		if got.count != want.count || math.Abs(got.sum-want.sum) > 1e-6 || got.count == 0 {
			t.Errorf("%s: got %v, want %v as OpenTelemetry has it, and more than none", h.prometheus, got, want)
		}
	}
	calls := stats.FieldByName("Calls").Uint()
	if got := counter(t, page, "Calls"); got != calls || report.Groups[0].Counters["Calls"] != calls {
		t.Errorf("Calls: got %d from the page, %d from JSON, want %d", got, report.Groups[0].Counters["Calls"], calls)
	}
}

// TestAgree_InFlight: while flights are under way, each view has the keys, the calls that wait
// and the age of the oldest flight as Flights has them. A group with nothing in flight is in
// each view, too.
func TestAgree_InFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g, idle coalesce.Group[string, int]
		reader := metric.NewManualReader()
		registry := otelflight.Registry{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}
		scraped := prometheus.NewPedanticRegistry()
		var pages debugflight.Registry
		add := func(name string, g *coalesce.Group[string, int]) {
			collector, err := promflight.New(name, promflight.WithFlights(g, 10))
			must(t, err)
			must(t, scraped.Register(collector))
			_, err = registry.Add(name, otelflight.WithFlights(g, 10))
			must(t, err)
			_, err = pages.Add(name, debugflight.Of(g, nil))
			must(t, err)
		}
		add("pages", &g)
		sleep := func(context.Context) (int, error) { time.Sleep(time.Minute); return 0, nil }
		var wg sync.WaitGroup
		for _, key := range []string{"a", "a", "a", "b"} {
			wg.Go(func() { _, _, _ = g.DoContext(t.Context(), key, sleep) })
			synctest.Wait()
			time.Sleep(time.Second)
		}
		g.Forget("b") // it runs on
		wg.Go(func() { _, _, _ = g.DoFresh(t.Context(), "a", sleep) })
		synctest.Wait()
		const keys, waiting, oldest = 1, 3, 4 // two calls follow, one is queued

		report := debugflight.Report{}
		must(t, json.Unmarshal([]byte(answer(t, &pages, "format=json")), &report))
		if got := report.Groups[0]; got.Flights != 3 || got.Waiters != waiting || got.Oldest != oldest {
			t.Errorf("JSON: got %d flights, %d waiting, oldest %v s, want 3, %d, %d", got.Flights, got.Waiters, got.Oldest, waiting, oldest)
		}
		p := gather(t, scraped)
		if p["coalesce_keys_in_flight "] != keys || p["coalesce_waiting_calls "] != waiting || p["coalesce_oldest_flight_age_seconds "] != oldest {
			t.Errorf("Prometheus: got %v, want %d keys, %d waiting, oldest %d s", p, keys, waiting, oldest)
		}
		o := collect(t, reader)
		if o["coalesce.active_keys "] != keys || o["coalesce.waiting_calls "] != waiting || o["coalesce.oldest_flight.age "] != oldest {
			t.Errorf("OpenTelemetry: got %v, want %d keys, %d waiting, oldest %d s", o, keys, waiting, oldest)
		}
		wg.Wait()

		add("idle", &idle)
		must(t, json.Unmarshal([]byte(answer(t, &pages, "format=json")), &report))
		if len(report.Groups) != 2 || !strings.Contains(answer(t, &pages, ""), "idle") {
			t.Errorf("the page and JSON: got groups %v, want two", report.Groups)
		}
		families, err := scraped.Gather()
		must(t, err)
		for _, f := range families {
			if n := len(f.GetMetric()); n%2 != 0 {
				t.Errorf("Prometheus: got %d series of %s for two groups, want as many for each", n, f.GetName())
			}
		}
		var all metricdata.ResourceMetrics
		must(t, reader.Collect(t.Context(), &all))
		if !strings.Contains(fmt.Sprint(all.ScopeMetrics), "idle") {
			t.Error("OpenTelemetry: got nothing of the group that is idle")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// storm makes calls of all kinds, and returns when all is over.
func storm(t *testing.T, g *coalesce.Group[string, int]) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 300 {
				call(t, g, i, j)
			}
		})
	}
	wg.Wait()
	for g.Len() > 0 { // flights without callers
		time.Sleep(time.Millisecond)
	}
	for _, key := range []string{"a", "b", "c"} { // one is evicted
		_, _, _ = g.Do(key, func() (int, error) { return 1, nil })
	}
}

// call makes the jth call of a goroutine.
func call(t *testing.T, g *coalesce.Group[string, int], i, j int) {
	defer func() { _ = recover() }() // of fn's panic
	key := fmt.Sprint("key ", (i+j)%4)
	fn := func(context.Context) (int, error) {
		runtime.Gosched()
		if j%3 == 0 {
			return 1, nil
		}
		return 0, errors.New("it fails")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(j%8)*20*time.Microsecond)
	defer cancel()
	switch (i + j) % 6 {
	case 0:
		_, _, _ = g.DoContext(t.Context(), key, fn)
	case 1:
		_, _, _ = g.DoContext(ctx, key, func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(time.Millisecond): // others have joined
				return 0, nil
			}
		})
	case 2:
		_, _, _ = g.DoFresh(ctx, key, fn)
	case 3:
		<-g.DoChan(t.Context(), key, fn)
	case 4:
		g.Forget(key)
		_, _ = g.TryDo(key, func() (int, error) { return fn(t.Context()) })
	case 5:
		_, _, _ = g.Do(key, func() (int, error) { panic("a bug") })
	}
}

func answer(t *testing.T, r *debugflight.Registry, query string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d, want 200: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// counter returns a counter from the page.
func counter(t *testing.T, page, name string) uint64 {
	t.Helper()
	row := regexp.MustCompile(`<tr><td>` + name + `</td><td class="n">([0-9,]+)</td>`).FindStringSubmatch(page)
	if row == nil {
		t.Fatalf("got a page without %s, want it", name)
	}
	n, err := strconv.ParseUint(strings.ReplaceAll(html.UnescapeString(row[1]), ",", ""), 10, 64)
	must(t, err)
	return n
}

// gather returns the values of all counters and gauges by name and outcome.
func gather(t *testing.T, r *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	values := map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			outcome := ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "outcome" {
					outcome = l.GetValue()
				}
			}
			values[f.GetName()+" "+outcome] = uint64(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return values
}

// A summary is what histograms of both kinds have.
type summary struct {
	count uint64
	sum   float64
}

// histogram returns the summary of a histogram of one group.
func histogram(t *testing.T, r *prometheus.Registry, name string) (s summary) {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			h := f.GetMetric()[0].GetHistogram()
			s = summary{h.GetSampleCount(), h.GetSampleSum()}
		}
	}
	return s
}

// otelHistogram is histogram for OpenTelemetry.
func otelHistogram(t *testing.T, r *metric.ManualReader, name string) (s summary) {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, r.Collect(t.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if d, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				s = summary{d.DataPoints[0].Count, d.DataPoints[0].Sum}
			}
		}
	}
	return s
}

// collect is gather for OpenTelemetry.
func collect(t *testing.T, r *metric.ManualReader) map[string]uint64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, r.Collect(t.Context(), &all))
	values := map[string]uint64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			var points []metricdata.DataPoint[int64]
			if d, ok := m.Data.(metricdata.Gauge[float64]); ok {
				for _, p := range d.DataPoints {
					values[m.Name+" "] = uint64(p.Value)
				}
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = d.DataPoints
			case metricdata.Gauge[int64]:
				points = d.DataPoints
			}
			for _, p := range points {
				outcome, _ := p.Attributes.Value("coalesce.call.outcome")
				values[m.Name+" "+outcome.AsString()] = uint64(p.Value)
			}
		}
	}
	return values
}
