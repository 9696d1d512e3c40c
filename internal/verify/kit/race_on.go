//go:build race

package kit

const RaceEnabled = true // the race detector is on
