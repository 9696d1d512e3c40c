package coalesce_test

import (
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/model"
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
)

const (
	fuzzWaiters = 1 << (8 + iota)
	fuzzAge
	fuzzLinger
	fuzzForever // with fuzzLinger
	fuzzMax     // with fuzzLinger
)

// What the configuration makes of them. Times are in units of fuzzTick.
const (
	fuzzTick       = time.Millisecond
	fuzzMaxWaiters = 2
	fuzzMaxAge     = 3
	fuzzLingerFor  = 32 // so that sweeps do not come at every tick
	fuzzLingerMax  = 2
)

// The steps of a program. A step is an op and an argument.
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
	opOutOfTime      = opCancel + 4 // the end of the context of Shutdown
	opResume         = opCancel + 5 // of a slow context
	opWait           = opCancel + 6 // for all to come to rest, and for time to pass
	ops              = opCancel + 7
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

// How long an opWait takes: two bits of its argument.
const (
	argInstant = iota
	argTick
	argTicks // almost MaxAge
	argLong  // almost as long as a success lingers
)

// waitTicks are those lengths.
var waitTicks = [...]int{0, 1, fuzzMaxAge - 1, fuzzLingerFor - fuzzMaxAge}

// maxSteps bounds a program, as long ones find nothing that short ones do not.
const maxSteps = 64

// configure sets the configuration of g, and of its model, which has it, too.
func configure(g *coalesce.Group[int, *fuzzBox], m *model.Group, conf int) {
	if conf&fuzzOneShard != 0 {
		g.Shards = 1
	}
	if conf&fuzzConstant != 0 {
		g.Hash = func(int) uint64 { return 1 }
	}
	if conf&fuzzClone != 0 {
		g.Clone = func(b *fuzzBox) *fuzzBox {
			if b == nil { // beside the error of a DoMulti
				return nil
			}
			return &fuzzBox{of: b.of, cloned: true}
		}
	}
	if conf&fuzzWaiters != 0 {
		g.MaxWaiters, m.MaxWaiters = fuzzMaxWaiters, fuzzMaxWaiters
	}
	if conf&fuzzAge != 0 {
		g.MaxAge, m.MaxAge = fuzzMaxAge*fuzzTick, fuzzMaxAge
	}
	if conf&fuzzLinger != 0 {
		g.Linger, m.Linger = fuzzLingerFor*fuzzTick, fuzzLingerFor
		if conf&fuzzForever != 0 {
			g.Linger, m.Linger = coalesce.Forever, model.Forever
		}
		if conf&fuzzMax != 0 {
			g.LingerMax, m.LingerMax = fuzzLingerMax, fuzzLingerMax
		}
	}
}
