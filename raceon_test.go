//go:build race

package coalesce_test

const raceEnabled = true // the race detector is on
