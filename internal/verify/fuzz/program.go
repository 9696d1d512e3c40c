package fuzz

import (
	"math"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the language of the programs that FuzzGroup runs: two bytes
// of configuration, then two bytes for each step, an op and its argument.

// The configuration of a program. Those from fuzzWaiters on are in its second
// byte.
const (
	fuzzBatch    = 1 << iota
	fuzzOneShard // not the default number
	fuzzConstant // hash: all keys in one bucket
	fuzzClone
	fuzzBlind // Flights is not called: a flight that was seen is not used again
	fuzzNaN   // the last key is NaN
	fuzzHooks
)

const (
	fuzzWaiters = 1 << (8 + iota)
	fuzzAge
	fuzzLinger
	fuzzForever // with fuzzLinger
	fuzzMax     // with either Linger or LingerFor
	fuzzLingerFor
)

// What the configuration makes of them. Times are in units of fuzzTick.
const (
	fuzzTick       = time.Millisecond
	fuzzMaxWaiters = 2
	fuzzMaxAge     = 3
	fuzzLife       = 32 // so that sweeps do not come at every tick
	fuzzAbsence    = 2  // with LingerFor, of a key without a value
	fuzzSlack      = fuzzLife / 16
	fuzzLingerMax  = 2
)

// fuzzLives are the lives of outcomes with LingerFor. The end of an fn picks one. In a
// batch, that is the life of the first key, and the next key has the next one.
var fuzzLives = [...]int{fuzzLife, 0, fuzzAbsence, model.Forever}

// The steps of a program. A step is an op and an argument. Those from opKeyErrors on came
// later, and the numbers of the others have stayed, as the inputs in testdata have them.
const (
	opDo             = byte(model.Do)
	opContext        = byte(model.DoContext)
	opChan           = byte(model.DoChan)
	opFresh          = byte(model.DoFresh)
	opMulti          = byte(model.DoMulti)
	opTry            = byte(model.TryDo)
	opFinish         = byte(model.Forms)
	opCancel         = opFinish + byte(model.Exits)
	opForget         = opCancel + 1
	opForgetUnshared = opCancel + 2
	opShutdown       = opCancel + 3
	opOutOfTime      = opCancel + 4  // the end of the context of Shutdown
	opResume         = opCancel + 5  // of a slow context
	opWait           = opCancel + 6  // for all to come to rest, and for time to pass
	opKeyErrors      = opCancel + 7  // the end of an fn
	opHold           = opCancel + 8  // with a context of an fn's
	opForgetFunc     = opCancel + 9  // of some of the keys
	opForgetFlight   = opCancel + 10 // of one that Flights has reported
	ops              = opCancel + 11
)

// The argument of a call: two bits of key, two of context, and four more. That
// of a Forget has a key, too, and the others pick an fn or a call.
const (
	argBackground = iota << 2 // the kinds of context
	argCancel
	argTimeout // in a batch, else as argCancel
	argEnded

	argKey     = 3
	argContext = 3 << 2
	argHonors  = 1 << 4 // fn returns when its context ends
	argSlow    = 1 << 5 // a slow context, not in a batch
	argAbsent  = 1 << 5 // of DoMulti: the map lacks odd keys
	argTwo     = 0 << 6 // the kinds of DoMulti, see multiKeys
	argTwice   = 1 << 6
	argDown    = 2 << 6
	argAll     = 3 << 6
	argInside  = 1 << 2 // Forget is called from inside an fn
)

// multiKeys are what the kinds of DoMulti add to the key of the argument, modulo
// the number of keys.
var multiKeys = [...][]int{{0, 1}, {0, 1, 0, 2, 1}, {2, 1, 0}, {0, 1, 2, 3}}

// The argument of the end of an fn, beside three bits that pick the fn.
const (
	argRun = 7

	argOdd  = 0 << 3 // of opKeyErrors: the keys with an error; then no map of fn's has an error
	argEven = 1 << 3 // ... for a key that fn was not given
	argNone = 2 << 3 // an empty KeyErrors, but for nil
	argEach = 3 << 3
	argKeys = 3 << 3

	argWrapped = 1 << 5 // of opKeyErrors: it is wrapped in another error
	argAsked   = 1 << 5 // of opPanic and opExit: LingerFor does it, if there is one

	argLife = 1 << 6 // times an index of fuzzLives
)

// The argument of opHold, beside three bits that pick the fn.
const (
	argPlain       = 0 << 3 // fn's context itself, or one derived from it
	argUncanceled  = 1 << 3 // WithoutCancel
	argDetached    = 2 << 3
	argDerived     = 3 << 3
	argHolder      = 3 << 3
	argPast        = 1 << 7 // fn may be over; of opForgetFlight, the flight
	argMatch       = 15     // of opForgetFunc: a set of keys
	argMatchInside = 1 << 4 // ... match runs in an fn
	argFlight      = 63     // of opForgetFlight: which one; there may be none with that ID
	argZero        = 1 << 6 // ... the ID 0
)

// How long an opWait takes: two bits of its argument.
const (
	argInstant = iota
	argTick
	argTicks // almost MaxAge, and as long as an absence lingers
	argLong  // almost as long as a value lingers
)

// waitTicks are those lengths.
var waitTicks = [...]int{0, 1, fuzzMaxAge - 1, fuzzLife - fuzzMaxAge}

// maxSteps bounds a program, as long ones find nothing that short ones do not.
const maxSteps = 64

// modelKey returns the model's key for a key of the group.
func modelKey(key float64) int {
	if key != key {
		return model.NaN
	}
	return int(key)
}

// groupKey returns the group's key for a key of the model.
func groupKey(key int) float64 {
	if key == model.NaN {
		return math.NaN()
	}
	return float64(key)
}

// keyOf returns the key of the model in the argument of a step.
func (d *driver) keyOf(arg byte) int {
	if key := int(arg & argKey); key < argKey || !d.is(fuzzNaN) {
		return key
	}
	return model.NaN
}

// configure sets the configuration of d's group, and of its model, which has it, too.
func (d *driver) configure() {
	g, m := d.g, d.m
	if d.is(fuzzOneShard) {
		g.Shards = 1
	}
	if d.is(fuzzConstant) {
		g.Hash = func(float64) uint64 { return 1 }
	}
	if d.is(fuzzClone) {
		g.Clone = func(b *fuzzBox) *fuzzBox {
			if b == nil { // beside the error of a DoMulti
				return nil
			}
			return &fuzzBox{of: b.of, cloned: true}
		}
	}
	if d.is(fuzzWaiters) {
		g.MaxWaiters, m.MaxWaiters = fuzzMaxWaiters, fuzzMaxWaiters
	}
	if d.is(fuzzAge) {
		g.MaxAge, m.MaxAge = fuzzMaxAge*fuzzTick, fuzzMaxAge
	}
	m.Slack = fuzzSlack
	if d.is(fuzzLinger) {
		g.Linger, m.Linger = duration(fuzzLife), fuzzLife
		if d.is(fuzzForever) {
			g.Linger, m.Linger = coalesce.Forever, model.Forever
		}
	}
	if d.is(fuzzLingerFor) {
		g.LingerFor, m.LingerFor = lingerFor, true
	}
	if d.lingers() && d.is(fuzzMax) {
		g.LingerMax, m.LingerMax = fuzzLingerMax, fuzzLingerMax
	}
	if d.is(fuzzHooks) {
		g.Hooks = d.hooks.of()
	}
}

// is reports whether the configuration says what.
func (d *driver) is(what int) bool { return d.conf&what != 0 }

// lingers reports whether an outcome may linger.
func (d *driver) lingers() bool { return d.is(fuzzLinger | fuzzLingerFor) }

// duration returns a number of ticks as a time.
func duration(ticks int) time.Duration {
	if ticks == model.Forever {
		return coalesce.Forever
	}
	return time.Duration(ticks) * fuzzTick
}
