package fleet

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds what a Group says about calls, runs and the engine: the Info of a call,
// Stats, Flights and the Observer.

// A Role says where a result comes from.
type Role uint8

// The roles. A call that got no result has RoleNone.
const (
	RoleNone Role = iota
	Led           // this process ran fn, as the leader
	Followed      // another process ran fn
	Adopted       // this process ran fn, was replaced, and the result is its successor's
	Local         // this process ran fn without a lease
)

// String returns the name of the role in lower case.
func (r Role) String() string {
	names := [...]string{"none", "led", "followed", "adopted", "local"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// An Info says how a result came about.
type Info struct {
	Role      Role
	Token     uint64 // of the execution; 0 if Role is Local
	Process   string // that ran fn
	Takeovers int    // processes that have died, stalled or been too slow with this flight

	// Wait is the time from the beginning of this process's run to that of fn or, if
	// another process ran fn, to its result.
	Wait time.Duration

	Stale       bool // another process has taken over meanwhile, or the key was forgotten
	Unpublished bool // the result has not reached the engine
}

// Stats are the counters of a Group since its first use, in this process. Calls of the
// process that share a run count as one.
type Stats struct {
	Runs uint64 // those that have begun

	// How runs have ended: one of Led, Followed, Adopted and Local, or Left, if all
	// callers have left first; or Refused, with ErrEngine, ErrOversize or ErrTakeovers, or
	// by a Shutdown.
	Led, Followed, Adopted, Local, Left, Refused uint64

	// Why fn ran without a lease, for those in Local.
	LocalOutage   uint64 // the engine did not answer
	LocalOversize uint64 // the leader's value was too large, or could not be encoded
	LocalUnread   uint64 // the leader's value could not be decoded
	LocalMissed   uint64 // three executions have come and gone without a result that arrived

	Takeovers    uint64 // leases of others that this process has taken over
	Lost         uint64 // leases of this process that others have taken over
	Stale        uint64 // results that were not stored because of that or of a Forget
	Unpublished  uint64 // results that the engine has not acknowledged
	Conflicts    uint64 // swaps that found another revision
	EngineErrors uint64 // operations that were not answered
	Retries      uint64
	Renewals     uint64
	PushMisses   uint64 // news that a read found before a push, or without one
	Unreadable   uint64 // records that could not be understood or opened

	GraceSpent time.Duration // by all runs together
	Breaker    bool          // whether calls do not wait for the engine now
}

// counters are the Stats as they are counted.
type counters struct {
	runs, led, followed, adopted, local, left, refused     atomic.Uint64
	localOutage, localOversize, localUnread, localMissed   atomic.Uint64
	takeovers, lost, stale, unpublished, conflicts         atomic.Uint64
	engineErrors, retries, renewals, pushMisses, notOpened atomic.Uint64
	graceSpent                                             atomic.Int64
}

// Stats returns the counters.
func (g *Group[K, V]) Stats() Stats {
	s := g.use()
	c := &s.stats
	s.breaker.mu.Lock()
	open := s.breaker.isSet
	s.breaker.mu.Unlock()
	return Stats{
		Runs: c.runs.Load(), Led: c.led.Load(), Followed: c.followed.Load(), Adopted: c.adopted.Load(),
		Local: c.local.Load(), Left: c.left.Load(), Refused: c.refused.Load(),
		LocalOutage: c.localOutage.Load(), LocalOversize: c.localOversize.Load(),
		LocalUnread: c.localUnread.Load(), LocalMissed: c.localMissed.Load(),
		Takeovers: c.takeovers.Load(), Lost: c.lost.Load(), Stale: c.stale.Load(),
		Unpublished: c.unpublished.Load(), Conflicts: c.conflicts.Load(),
		EngineErrors: c.engineErrors.Load(), Retries: c.retries.Load(), Renewals: c.renewals.Load(),
		PushMisses: c.pushMisses.Load(), Unreadable: c.notOpened.Load(),
		GraceSpent: time.Duration(c.graceSpent.Load()), Breaker: open,
	}
}

// An Observer is called when something happens, outside all locks, on a goroutine of the
// Group, which waits for it. Any field may be nil. A function must not panic.
type Observer struct {
	// Answered is called when a run has its result.
	Answered func(Info)

	// Renewed is called when the engine has acknowledged a renewal, with what was left of
	// the lease.
	Renewed func(margin time.Duration)

	// Published is called when the engine has acknowledged a result, with the time that
	// it took and the bytes of the value.
	Published func(took time.Duration, bytes int)
}

// A State says what a run does.
type State uint8

// The states.
const (
	Acquiring State = iota // it asks the engine
	Leading                // fn runs in this process, with a lease
	Following              // it waits for another process
	RunningLocally
)

// String returns the name of the state in lower case.
func (s State) String() string {
	names := [...]string{"acquiring", "leading", "following", "running locally"}
	if int(s) < len(names) {
		return names[s]
	}
	return "unknown"
}

// A Flight is a run of this process, at one moment.
type Flight[K comparable] struct {
	ID        uint64 // from 1; that of no other run of the Group
	Key       K
	State     State
	Waiters   int           // calls of this process that wait for it, beside the one that leads them
	Age       time.Duration // since the run began
	Token     uint64        // of the lease, if it is known
	Process   string        // that leads, if it is known
	Takeovers int
}

// Flights returns the runs of this process, in no order. They are collected when the
// iteration begins. Of several runs for a key, after a Forget or MaxAge, one has the
// Waiters of all.
func (g *Group[K, V]) Flights() iter.Seq[Flight[K]] {
	s := g.use()
	return func(yield func(Flight[K]) bool) {
		now, all := s.clock.now(), s.runs.all()
		waiters := make(map[K]int, len(all))
		for f := range s.core.Flights() {
			if f.State != coalesce.StateQueued {
				waiters[f.Key] += f.Waiters
			}
		}
		for _, a := range all {
			a.mu.Lock()
			f := a.flight
			a.mu.Unlock()
			f.Age, f.Waiters = now-a.began, waiters[f.Key]
			delete(waiters, f.Key)
			if !yield(f) {
				return
			}
		}
	}
}

// An activity is a run as others see it.
type activity[K comparable] struct {
	began  time.Duration
	called atomic.Int64 // when the last call came for the key, on the same clock

	mu     sync.Mutex
	flight Flight[K] // but for its Age
}

func (a *activity[K]) set(s State, token uint64, process string, takeovers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flight.State, a.flight.Token, a.flight.Process, a.flight.Takeovers = s, token, process, takeovers
}

// runs are the runs of a Group that have not ended.
type runs[K comparable] struct {
	mu   sync.Mutex
	set  map[*activity[K]]struct{}
	n    uint64        // how many there have been
	more int           // leases that are withdrawn
	last sync.Map      // K to the *activity of the latest run
	idle chan struct{} // closed when there is neither; nil if nothing waits for that
}

// begin and done are called before and after a lease is withdrawn.
func (r *runs[K]) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.more++
}

func (r *runs[K]) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.more--
	r.notify()
}

// notify closes idle if nothing is left. r.mu must be held.
func (r *runs[K]) notify() {
	if len(r.set) == 0 && r.more == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

func (r *runs[K]) add(a *activity[K]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		r.set = map[*activity[K]]struct{}{}
	}
	r.set[a] = struct{}{}
	r.n++
	a.flight.ID = r.n
	if key := a.flight.Key; key == key { //nolint:gocritic // else it could not be deleted
		r.last.Store(key, a)
	}
}

// called notes that a call has come for key, and may join its latest run.
func (r *runs[K]) called(key K, now time.Duration) {
	if a, ok := r.last.Load(key); ok {
		a.(*activity[K]).called.Store(int64(now))
	}
}

// part is called when later calls do not join the run of a.
func (r *runs[K]) part(a *activity[K]) { r.last.CompareAndDelete(a.flight.Key, a) }

func (r *runs[K]) remove(a *activity[K]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.set, a)
	r.last.CompareAndDelete(a.flight.Key, a)
	r.notify()
}

func (r *runs[K]) all() []*activity[K] {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*activity[K], 0, len(r.set))
	for a := range r.set {
		all = append(all, a)
	}
	return all
}

// ended returns a channel that is closed when there is no run, and no lease is withdrawn.
func (r *runs[K]) ended() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.set) == 0 && r.more == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	return r.idle
}
