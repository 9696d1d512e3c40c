// Package lincheck checks the checker: that package internal/history decides as
// porcupine does where it is exact, that it raises no false alarm, and that it
// raises one where it should. Its command cmd/soak runs for as long as one wants.
package lincheck
