package promflight_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/promflight"
)

func Example() {
	var thumbnails coalesce.Group[string, []byte]

	c, err := promflight.New("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	thumbnails.Hooks = promflight.Hooks(c, thumbnails.Hooks)
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		log.Fatal(err)
	}
	http.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))

	thumbnails.Do("cat.png", func() ([]byte, error) { return []byte("…"), nil })

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "coalesce_flight_seconds" {
			fmt.Println(f.GetMetric()[0].GetHistogram().GetSampleCount(), "flight")
		}
	}
	// Output: 1 flight
}

func ExampleNew() {
	var thumbnails coalesce.Group[string, []byte]
	c, err := promflight.New("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	fmt.Println(registry.Register(c))

	// A name is taken until its Collector is unregistered.
	same, err := promflight.New("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(registry.Register(same))
	fmt.Println(registry.Unregister(c))
	fmt.Println(registry.Register(same))
	// Output:
	// <nil>
	// duplicate metrics collector registration attempted
	// true
	// <nil>
}

func ExampleHooks() {
	thumbnails := coalesce.Group[string, []byte]{Hooks: coalesce.Hooks[string]{
		Finish: func(_ context.Context, e coalesce.Event[string]) { fmt.Println("loaded", e.Key) },
	}}
	c, err := promflight.New("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	thumbnails.Hooks = promflight.Hooks(c, thumbnails.Hooks) // calls that Finish, too
	prometheus.MustRegister(c)
	defer prometheus.Unregister(c)

	thumbnails.Do("cat.png", func() ([]byte, error) { return []byte("…"), nil })
	// Output: loaded cat.png
}

func ExampleWithFlights() {
	var thumbnails coalesce.Group[string, []byte]
	c, err := promflight.New("thumbnails", promflight.WithFlights(&thumbnails, 1000))
	if err != nil {
		log.Fatal(err)
	}
	thumbnails.Do("cat.png", func() ([]byte, error) {
		fmt.Println(testutil.CollectAndCount(c, "coalesce_oldest_flight_age_seconds"))
		return []byte("…"), nil
	})
	// Output: 1
}

func ExampleCollector() {
	// A registry may add labels, or a prefix, to the metrics of a Collector.
	var thumbnails coalesce.Group[string, []byte]
	c, err := promflight.New("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"tenant": "acme"}, registry).MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "coalesce_keys_in_flight" {
			for _, l := range f.GetMetric()[0].GetLabel() {
				fmt.Printf("%s=%q\n", l.GetName(), l.GetValue())
			}
		}
	}
	// Output:
	// group="thumbnails"
	// tenant="acme"
}
