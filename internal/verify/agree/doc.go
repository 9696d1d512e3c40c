// Package agree tests that all views of a group say the same of it: Stats, the page, its JSON,
// Prometheus and OpenTelemetry.
package agree
