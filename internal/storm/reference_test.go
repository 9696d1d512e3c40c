package storm

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/history"
)

// This file holds the negative controls of the storms: references that break the
// contract on purpose.

// TestReference checks that a storm finds a reference that is broken, by the rule
// that it breaks, and accepts the one that is not.
func TestReference(t *testing.T) {
	tests := []struct {
		name   string
		how    Breakage
		rule   int
		keys   int
		forget int
	}{
		{"intact", Intact, 0, 1, 5},
		{"wakes followers before it unlinks", WakesFirst, 3, 1, 0},
		{"looks once", LooksOnce, 4, 1, 0},
		{"unlinks any", UnlinksAny, 4, 1, 1},
		{"stays joinable", StaysJoinable, 3, 1, 0},
		{"claims alone", ClaimsAlone, 7, 1, 0},
		{"mixes keys", MixesKeys, 1, 4, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var err error
			for begin := time.Now(); err == nil && time.Since(begin) < 20*time.Second; {
				s := Storm{
					Clients: 8, Calls: 200, Keys: test.keys, Forget: test.forget,
					Forms: []Form{ByDo}, Calm: true, Seed: rand.Uint64(),
				}
				err = s.Start(NewReference(test.how))().Check()
				if test.how == Intact {
					break
				}
			}
			var v *history.Violation
			if test.rule == 0 && err != nil || test.rule != 0 && (!errors.As(err, &v) || v.Rule != test.rule) {
				t.Errorf("Check() = %v, want rule %d", err, test.rule)
			}
		})
	}
}
