// Package lincheck checks the checker: that package internal/verify/history decides like
// porcupine where it is exact, and that it raises no false alarm. Its command cmd/soak
// runs for as long as the user wants.
package lincheck
