package otelflight_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/otelflight"
)

func Example() {
	reader, spans := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	telemetry := otelflight.Registry{ // the zero Registry takes the global providers
		MeterProvider:  metric.NewMeterProvider(metric.WithReader(reader)),
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)),
	}
	var thumbnails coalesce.Group[string, []byte]
	thumbnails.Hooks = otelflight.Hooks(&telemetry, "thumbnails", thumbnails.Hooks)
	registration, err := telemetry.Add("thumbnails", &thumbnails)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Close()

	thumbnails.Do("cat.png", func() ([]byte, error) { return []byte("…"), nil })

	for _, s := range spans.GetSpans() {
		fmt.Println("span:", s.Name)
	}
	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &metrics); err != nil {
		log.Fatal(err)
	}
	for _, m := range metrics.ScopeMetrics[0].Metrics {
		if m.Name == "coalesce.flight.duration" {
			fmt.Println(m.Name, "in", m.Unit)
		}
	}
	// Output:
	// span: coalesce thumbnails
	// coalesce.flight.duration in s
}

func ExampleHooks() {
	spans := tracetest.NewInMemoryExporter()
	telemetry := otelflight.Registry{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))}

	thumbnails := coalesce.Group[string, []byte]{Hooks: coalesce.Hooks[string]{
		// The span has no texts of errors, as they may hold keys. Here they do not.
		Finish: func(ctx context.Context, e coalesce.Event[string]) {
			trace.SpanFromContext(ctx).RecordError(e.Err)
		},
	}}
	thumbnails.Hooks = otelflight.Hooks(&telemetry, "thumbnails", thumbnails.Hooks)

	thumbnails.Do("cat.png", func() ([]byte, error) { return nil, errors.New("disk full") })

	for _, s := range spans.GetSpans() {
		fmt.Println(s.Status.Code, s.Events[0].Name)
	}
	// Output: Error exception
}

func ExampleRegistry_Add() {
	var telemetry otelflight.Registry
	var thumbnails coalesce.Group[string, []byte]
	_, err := telemetry.Add("thumbnails", &thumbnails)
	fmt.Println(err)
	_, err = telemetry.Add("thumbnails", &thumbnails)
	fmt.Println(err)
	// Output:
	// <nil>
	// otelflight: there is a group "thumbnails" already
}

func ExampleRegistration_Close() {
	var telemetry otelflight.Registry
	var tenant coalesce.Group[string, []byte] // a group that comes and goes
	registration, err := telemetry.Add("tenant 7", &tenant)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(registration.Close())
	_, err = telemetry.Add("tenant 7", &tenant) // the name is free again
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

func ExampleWithFlights() {
	reader := metric.NewManualReader()
	telemetry := otelflight.Registry{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))}
	var thumbnails coalesce.Group[string, []byte]
	if _, err := telemetry.Add("thumbnails", otelflight.WithFlights(&thumbnails, 1000)); err != nil {
		log.Fatal(err)
	}
	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &metrics); err != nil {
		log.Fatal(err)
	}
	for _, m := range metrics.ScopeMetrics[0].Metrics {
		if m.Name == "coalesce.oldest_flight.age" {
			fmt.Println(m.Name, "in", m.Unit)
		}
	}
	// Output: coalesce.oldest_flight.age in s
}
