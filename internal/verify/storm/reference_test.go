package storm

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file holds the negative controls of the storms: references that break the
// contract on purpose.

// TestReference checks that a storm reports a broken reference, by the rule that it
// breaks, and accepts the one that is not broken.
func TestReference(t *testing.T) {
	tests := []struct {
		name   string
		how    Breakage
		rule   int
		keys   int
		forget int
		cancel int
	}{
		{"intact", Intact, 0, 1, 5, 0},
		{"intact, callers leave", Intact, 0, 1, 5, 40},
		{"wakes followers before it unlinks", WakesFirst, 3, 1, 0, 0},
		{"looks once", LooksOnce, 4, 1, 0, 0},
		{"unlinks any", UnlinksAny, 4, 1, 1, 0},
		{"stays joinable", StaysJoinable, 3, 1, 0, 0},
		{"claims alone", ClaimsAlone, 7, 1, 0, 0},
		{"mixes keys", MixesKeys, 1, 4, 0, 0},
		{"forgets none", ForgetsNone, 5, 1, 20, 0},
		{"never ends", NeverEnds, 6, 1, 0, 60},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var err error
			for begin := time.Now(); err == nil && time.Since(begin) < 20*time.Second; {
				s := Storm{
					Clients: 8, Calls: 200, Keys: test.keys, Forget: test.forget, Cancel: test.cancel,
					Forms: []Form{ByDo}, Calm: true, Seed: rand.Uint64(),
				}
				if test.cancel > 0 {
					s.Forms = []Form{ByDo, ByContext}
				}
				g := NewReference(test.how)
				h := s.Start(g)()
				for !g.Idle() {
					runtime.Gosched()
				}
				err = h.Check()
				if test.how == Intact {
					break
				}
			}
			var v *history.Violation
			if test.rule == 0 && err != nil || test.rule != 0 && (!errors.As(err, &v) || v.Rule != test.rule) {
				t.Errorf("got %v, want rule %d", err, test.rule)
			}
		})
	}
}
