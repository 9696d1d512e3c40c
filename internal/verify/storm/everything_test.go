package storm_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the storm with every feature on at once: limits, outcomes that linger
// for times of their own, clones, hooks, batches whose keys fail one by one, flights that
// are held, all forms of Forget, and fns that call each other in cycles.

// A loot is the value of that storm. Each call must get one of its own.
type loot struct {
	key   int
	start int64 // the storm's clock when fn began
	taken atomic.Bool
}

// A sea is the place of the storm.
type sea struct {
	t     *testing.T
	g     coalesce.Group[int, *loot]
	keys  int
	clock atomic.Int64
	asked atomic.Int64 // calls, one for each distinct key
	got   atomic.Int64 // answers
	loose atomic.Int64 // goroutines that an fn has left behind

	did *deeds // of all rounds

	calls atomic.Int64 // the last number that a call got

	mu      sync.Mutex
	seqs    map[uint64]string           // the hook that got each number; that of a Finish for a Receive, too
	flights map[uint64]map[string]int   // the hooks that were called for each flight, and how often
	last    map[uint64]map[string]int64 // the greatest number of each hook of each flight
	lives   map[seaCall][]string        // the hooks that were called for each call, in order
}

// deeds count events that Stats does not.
type deeds struct {
	cycles, holds, keyErrors, forgetFuncs, forgetFlights atomic.Int64
}

// A seaCall is one key of one call that has a context, which carries the number.
type seaCall struct {
	call int64
	key  int
}

type seaCallKey struct{}

// numbered returns a context for one call, with a number of its own.
func (s *sea) numbered(ctx context.Context) context.Context {
	return context.WithValue(ctx, seaCallKey{}, s.calls.Add(1))
}

func (s *sea) hook(name string) func(context.Context, coalesce.Event[int]) {
	return func(ctx context.Context, e coalesce.Event[int]) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if call, ok := ctx.Value(seaCallKey{}).(int64); ok {
			at := seaCall{call, e.Key}
			s.lives[at] = append(s.lives[at], name)
		}
		if s.flights[e.FlightID] == nil {
			s.flights[e.FlightID], s.last[e.FlightID] = map[string]int{}, map[string]int64{}
		}
		s.flights[e.FlightID][name]++
		if name == "leave" && e.Err != nil {
			s.flights[e.FlightID]["refused"]++ // it waited for itself
		}
		if e.FlightID == 0 || e.Waiters < 0 || e.Wait < 0 || e.Run < 0 || name != "finish" && e.Waiters > stormWaiters+1 {
			s.t.Errorf("got %s with %+v, want possible numbers", name, e)
		}
		numbered := name
		if name == "receive" {
			numbered = "finish" // a Receive has the number of the Finish, whichever comes first
		}
		if other, ok := s.seqs[e.Seq]; ok && (numbered != "finish" || other != "finish") {
			s.t.Errorf("got number %d for %s and for %s, want two numbers", e.Seq, name, other)
		}
		s.seqs[e.Seq] = numbered
		s.last[e.FlightID][numbered] = max(s.last[e.FlightID][numbered], int64(e.Seq))
		switch {
		case name == "finish" && e.Outcome == coalesce.OutcomeClosed:
			s.flights[e.FlightID]["closed"] = 1
		case name == "finish":
			// A batch has one Start, with the event of its first key.
			started, _ := ctx.Value(seaStartKey{}).(uint64)
			if s.flights[started]["start"] != 1 || s.flights[e.FlightID]["start"] > 0 && started != e.FlightID {
				s.t.Errorf("flight %d: Finish got the context that Start returned for %d, want its own", e.FlightID, started)
			}
		}
	}
}

// seaStartKey is the key of the value that start puts into the context of a flight: its
// ID.
type seaStartKey struct{}

// start is the Start hook.
func (s *sea) start(ctx context.Context, e coalesce.Event[int]) context.Context {
	s.hook("start")(ctx, e)
	return context.WithValue(context.WithoutCancel(ctx), seaStartKey{}, e.FlightID)
}

// stormWaiters is MaxWaiters.
const stormWaiters = 6

var errStorm = errors.New("fn failed in the storm")

// A keyFailure is the error of one key of a batch.
type keyFailure struct{ key int }

func (e *keyFailure) Error() string { return "a key failed in the storm" }

// lingerFor is the LingerFor: each outcome has a life of its own.
func (s *sea) lingerFor(l *loot, err error) time.Duration {
	switch {
	case err == coalesce.ErrAbsent:
		return 100 * time.Microsecond
	case err != nil:
		return time.Duration(s.clock.Load()%3) * 100 * time.Microsecond
	}
	return time.Duration(l.start%4) * 100 * time.Microsecond
}

// fn returns an fn for a key which ends in any way, holds its flight at times, and calls
// for other keys if it has a context that counts these calls as its own.
func (s *sea) fn(key int, seed uint64) func(context.Context) (*loot, error) {
	return func(ctx context.Context) (*loot, error) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := &loot{key: key, start: s.clock.Add(1)}
		if ctx != context.Background() && ctx.Value(seaStartKey{}) == nil {
			s.t.Errorf("key %d: got fn's context without the value of Start, want it", key)
		}
		if r.IntN(6) == 0 && coalesce.Hold(ctx) {
			s.did.holds.Add(1)
		}
		if ctx != context.Background() && r.IntN(3) == 0 {
			s.call(ctx, r, false)
		}
		if ctx != context.Background() && r.IntN(10) == 0 {
			s.loose.Add(1)
			go func() {
				defer s.loose.Add(-1)
				s.call(coalesce.Detach(ctx), r, false)
			}()
			runtime.Gosched()
			return l, nil
		}
		switch r.IntN(8) {
		case 0:
			time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
		case 1:
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Duration(r.IntN(2000)) * time.Microsecond):
			}
		case 2, 3:
			runtime.Gosched()
		}
		switch r.IntN(12) {
		case 0:
			return nil, errStorm
		case 1:
			panic(errStorm)
		case 2:
			runtime.Goexit()
		}
		return l, nil
	}
}

// call makes a random call and checks its answer. It survives every answer.
func (s *sea) call(ctx context.Context, r *rand.Rand, outside bool) {
	key, form, seed := r.IntN(s.keys), r.IntN(6), r.Uint64()
	if !outside && form == 0 {
		form = 1 // a cycle through a Do is not found
	}
	if r.IntN(3) == 0 && form > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(1500))*time.Microsecond)
		defer cancel()
		if r.IntN(20) == 0 {
			cancel() // on entry
		}
	}
	began := s.clock.Add(1)
	ctx = s.numbered(ctx)
	fn := s.fn(key, seed)
	if form == 5 {
		s.callMulti(ctx, r, seed)
		return
	}
	s.asked.Add(1)
	returned := false
	var res coalesce.Result[*loot]
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if e, ok := recover().(*coalesce.PanicError); ok {
				res.Err = e
			} else if !returned {
				res.Err = coalesce.ErrGoexit
			}
		}()
		switch form {
		case 0:
			res.Val, res.Shared, res.Err = s.g.Do(key, func() (*loot, error) { return fn(context.Background()) })
		case 1, 4:
			res.Val, res.Shared, res.Err = s.g.DoContext(ctx, key, fn)
		case 2:
			res = <-s.g.DoChan(ctx, key, fn)
		case 3:
			res.Val, res.Shared, res.Err = s.g.DoFresh(ctx, key, fn)
		}
		returned = true
	}()
	<-done
	if form == 3 && res.Err == nil && res.Val.start < began {
		s.t.Errorf("DoFresh: got a value of an execution begun at %d, want one begun after %d", res.Val.start, began)
	}
	s.check(ctx, key, res)
}

// callMulti makes a DoMulti for some keys.
func (s *sea) callMulti(ctx context.Context, r *rand.Rand, seed uint64) {
	var keys []int
	distinct := map[int]bool{}
	for range r.IntN(6) {
		key := r.IntN(s.keys)
		keys = append(keys, key)
		distinct[key] = true
	}
	s.asked.Add(int64(len(distinct)))
	lacks, fails := r.IntN(s.keys), r.IntN(s.keys)
	res := s.g.DoMulti(ctx, keys, func(ctx context.Context, keys []int) (map[int]*loot, error) {
		_, err := s.fn(keys[0], seed)(ctx)
		m, failed := map[int]*loot{}, coalesce.KeyErrors[int]{}
		for _, key := range keys {
			if !distinct[key] {
				s.t.Errorf("fn: got key %d, want one of %v, once", key, distinct)
			}
			switch key {
			case lacks:
			case fails:
				failed[key] = &keyFailure{key}
			default:
				m[key] = &loot{key: key, start: s.clock.Add(1)}
			}
		}
		if err != nil {
			return m, err
		}
		return m, failed
	})
	if len(res) != len(distinct) {
		s.t.Errorf("got %d results, want %d", len(res), len(distinct))
	}
	for key, r := range res {
		s.check(ctx, key, r)
	}
}

// check checks the answer that a call for key got.
func (s *sea) check(ctx context.Context, key int, r coalesce.Result[*loot]) {
	s.got.Add(1)
	var e *coalesce.PanicError
	var failed *keyFailure
	switch err := r.Err; {
	case err == nil && (r.Val == nil || r.Val.key != key):
		s.t.Errorf("key %d: got %+v, want a value of the key", key, r)
	case err == nil && r.Val.taken.Swap(true):
		s.t.Errorf("key %d: got one value for two callers, want two", key)
	case err == nil, err == errStorm, err == coalesce.ErrGoexit, err == coalesce.ErrAbsent,
		err == coalesce.ErrSaturated, err == coalesce.ErrClosed:
	case errors.As(err, &failed) && failed.key == key:
		s.did.keyErrors.Add(1)
	case errors.Is(err, coalesce.ErrDeadlock):
		s.did.cycles.Add(1)
	case errors.As(err, &e) && e.Value == errStorm:
	case err == context.Canceled, err == context.DeadlineExceeded: // its own, or the error of fn
	default:
		s.t.Errorf("key %d: got %v, want an error of the storm", key, err)
	}
}

// forget forgets in a random way.
func (s *sea) forget(r *rand.Rand) {
	key := r.IntN(s.keys)
	switch r.IntN(4) {
	case 0:
		s.g.Forget(key)
	case 1:
		s.g.ForgetUnshared(key)
	case 2:
		n := s.g.ForgetFunc(func(k int) bool { return k%4 == key%4 })
		if most := (s.keys + 3 - key%4) / 4; n > most {
			s.t.Errorf("ForgetFunc: got %d keys, want %d at most", n, most)
		}
		s.did.forgetFuncs.Add(int64(n))
	case 3:
		for f := range s.g.Flights() {
			if f.Key == key && s.g.ForgetFlight(f.ID) {
				s.did.forgetFlights.Add(1)
				if s.g.ForgetFlight(f.ID) || f.Forgotten {
					s.t.Errorf("%+v: got it forgotten twice, want once", f)
				}
			}
		}
	}
}

// TestStorm_Everything: each call is answered, by a flight or an outcome that may answer
// it; hooks and counters agree; nothing is stuck, lost, shared without a clone, or left.
func TestStorm_Everything(t *testing.T) {
	storm.SilenceLog(t)
	goroutines := runtime.NumGoroutine()
	rounds := 4 * storm.Scale(t)
	var sum coalesce.Stats
	var did deeds
	for round := range rounds {
		s := &sea{
			t: t, keys: 1 + round%2*15, did: &did,
			seqs: map[uint64]string{}, flights: map[uint64]map[string]int{}, last: map[uint64]map[string]int64{},
			lives: map[seaCall][]string{},
		}
		s.g = coalesce.Group[int, *loot]{
			MaxWaiters: stormWaiters, MaxAge: 800 * time.Microsecond,
			LingerFor: s.lingerFor, LingerMax: 3,
			Clone: func(l *loot) *loot {
				if l == nil {
					return nil
				}
				return &loot{key: l.key, start: l.start}
			},
			Hooks: coalesce.Hooks[int]{
				Start: s.start, Join: s.hook("join"), Receive: s.hook("receive"), Leave: s.hook("leave"), Finish: s.hook("finish"),
			},
		}
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for range 60 {
					s.call(t.Context(), r, true)
					if r.IntN(8) == 0 {
						s.forget(r)
					}
					if r.IntN(20) == 0 {
						for f := range s.g.Flights() {
							if f.Waiters > stormWaiters+1 {
								t.Errorf("got %+v, want %d waiters at most", f, stormWaiters+1)
							}
						}
					}
				}
			})
		}
		if round%4 == 3 {
			time.Sleep(5 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_ = s.g.Shutdown(ctx)
			cancel()
		}
		wg.Wait()
		if !kit.Eventually(func() bool {
			for range s.g.Flights() {
				return false
			}
			return s.loose.Load() == 0 && runtime.NumGoroutine() <= goroutines && s.heardAll()
		}) {
			buf := make([]byte, 1<<20)
			t.Fatalf("got flights or goroutines that are left, want none:\n%s", buf[:runtime.Stack(buf, true)])
		}
		s.account(&sum)
		if t.Failed() {
			t.Fatalf("round %d: got failures, want none", round)
		}
	}
	t.Logf("%+v, %+v", sum, &did)
	if sum.Led == 0 || sum.Joined == 0 || sum.Lingered == 0 || sum.Rejected == 0 || sum.EndedOnEntry == 0 || sum.Left == 0 ||
		sum.TakenOver == 0 || sum.Evicted == 0 || sum.Abandoned == 0 || sum.Forgotten == 0 ||
		did.cycles.Load() == 0 || did.holds.Load() == 0 || did.keyErrors.Load() == 0 || did.forgetFuncs.Load() == 0 || did.forgetFlights.Load() == 0 {
		t.Errorf("got %+v, %+v, want some of each", sum, &did)
	}
}

// heardAll reports whether the hooks have been called for all events: Finish for each
// flight, Receive or Leave for each call that joined and did not lead.
func (s *sea) heardAll() bool {
	st := s.g.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	total := map[string]uint64{}
	for _, of := range s.flights {
		for hook, times := range of {
			total[hook] += uint64(times)
		}
	}
	return total["finish"]-total["closed"] == st.Led && total["leave"]-total["refused"] == st.Left && s.unfinished() == seaCall{}
}

// unfinished returns a call whose hooks are not one of lives. s.mu must be held.
func (s *sea) unfinished() (call seaCall) {
	for call, hooks := range s.lives {
		hooks = slices.DeleteFunc(slices.Clone(hooks), func(hook string) bool { return hook == "finish" })
		if !kit.HookLives[strings.Join(hooks, " ")] {
			return call
		}
	}
	return seaCall{}
}

// account compares the events of hooks with the counters and the answers.
func (s *sea) account(sum *coalesce.Stats) {
	s.mu.Lock() // a hook may run on a goroutine that no call waits for
	defer s.mu.Unlock()
	st := s.g.Stats()
	if asked, got := s.asked.Load(), s.got.Load(); asked != got || st.Calls != uint64(asked) {
		s.t.Errorf("got %d answers, %+v, want %d", got, st, asked)
	}
	if call := s.unfinished(); call != (seaCall{}) {
		s.t.Errorf("call %+v: got the hooks %q, want one of the possible orders", call, s.lives[call])
	}
	total := map[string]int{}
	for n, of := range s.flights {
		for hook, times := range of {
			total[hook] += times
		}
		if of["finish"] > 1 || of["start"]+of["closed"] > of["finish"] {
			s.t.Errorf("flight %d: got hooks %v, want at most one finish, and one for each start", n, of)
		}
		for hook, seq := range s.last[n] {
			if seq > s.last[n]["finish"] && of["finish"] > 0 {
				s.t.Errorf("flight %d: got number %d for %s, want %d at most, that of finish", n, seq, hook, s.last[n]["finish"])
			}
		}
	}
	if uint64(total["leave"]-total["refused"]) != st.Left || st.HookPanics != 0 || s.g.Len() != 0 {
		s.t.Errorf("got hooks %v, counters %+v, Len %d, want as many leaves, no hook panics, 0", total, st, s.g.Len())
	}
	sum.Led += st.Led
	sum.Joined += st.Joined
	sum.Lingered += st.Lingered
	sum.Rejected += st.Rejected
	sum.EndedOnEntry += st.EndedOnEntry
	sum.Left += st.Left
	sum.TakenOver += st.TakenOver
	sum.Evicted += st.Evicted
	sum.Abandoned += st.Abandoned
	sum.Forgotten += st.Forgotten
	sum.Panics += st.Panics
	sum.Goexits += st.Goexits
	sum.PanicsLogged += st.PanicsLogged
}
