package promflight_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

// newCollector is promflight.New for what cannot fail.
func newCollector(t testing.TB, name string, g promflight.Source) *promflight.Collector {
	t.Helper()
	c, err := promflight.New(name, g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// registered returns a pedantic registry that has all of cs.
func registered(t testing.TB, cs ...prometheus.Collector) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// hooked returns a collector for g that is registered, and whose hooks g has.
func hooked[V any](t testing.TB, name string, g *coalesce.Group[string, V]) *prometheus.Registry {
	t.Helper()
	c := newCollector(t, name, g)
	g.Hooks = promflight.Hooks(c, g.Hooks)
	return registered(t, c)
}

// scrape gets the metrics of r by HTTP, and parses them.
func scrape(t testing.TB, r *prometheus.Registry) map[string]*dto.MetricFamily {
	t.Helper()
	s := httptest.NewServer(promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	defer s.Close()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("got status %s, want 200", resp.Status)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatalf("the scrape does not parse: %v", err)
	}
	return families
}

// values returns the series of r with their labels. A histogram has two, of its count and
// its sum.
func values(t testing.TB, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				series[f.GetName()+labels(m)] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				series[f.GetName()+labels(m)] = m.GetGauge().GetValue()
			default:
				series[f.GetName()+"_count"+labels(m)] = float64(m.GetHistogram().GetSampleCount())
				series[f.GetName()+"_sum"+labels(m)] = m.GetHistogram().GetSampleSum()
			}
		}
	}
	return series
}

// labels returns the labels of m as they are written, in order of their names.
func labels(m *dto.Metric) string {
	var l []string
	for _, p := range m.GetLabel() {
		l = append(l, p.GetName()+"="+p.GetValue())
	}
	slices.Sort(l)
	return "{" + strings.Join(l, ",") + "}"
}

// expect fails the test unless r has these series with these values.
func expect(t testing.TB, r prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	got := values(t, r)
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Errorf("%s: got %v (exported: %t), want %v", name, g, ok, w)
		}
	}
}

// heap returns how many bytes are in use after a collection.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
