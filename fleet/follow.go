package fleet

import (
	"context"
	"time"
)

// This file holds how a run waits for another process: for a push, for the time to read,
// and for the expiry of the lease (C3, C4).

// follow waits until there is something to do.
func (r *run[K, V]) follow(fctx context.Context) next {
	if r.watch == nil {
		if n := r.arm(fctx); n.step != stepWait {
			return n
		}
	}
	for {
		seen, n := r.await(fctx)
		if n.step != stepWait {
			return n
		}
		if n := r.judge(seen); n.step != stepWait {
			return n
		}
	}
}

// arm arms the push, and reads.
func (r *run[K, V]) arm(fctx context.Context) next {
	w := newWatch()
	if r.s.engine.Caps().Push {
		ctx, cancel := context.WithTimeout(context.Background(), r.s.tryFor)
		stop, err := r.s.engine.Notify(ctx, r.name, w.push)
		cancel()
		if err == nil {
			w.stop = stop
		} else { // it reads instead
			r.s.stats.engineErrors.Add(1)
		}
	}
	r.watch = w
	seen, n := r.read(fctx, false)
	r.armed, r.again = r.s.clock.now(), true
	if n.step != stepWait {
		return n
	}
	return r.judge(seen)
}

func (r *run[K, V]) disarm() {
	if r.watch != nil && r.watch.stop != nil {
		r.watch.stop()
	}
}

const (
	secondRead = 50 * time.Millisecond // after arming; and how often an engine without push is read
	heartbeats = 3                     // in a lease
)

// await returns the next thing that is seen, or what follows from the time.
func (r *run[K, V]) await(fctx context.Context) (sight, next) {
	s := r.s
	for {
		due := min(r.expiry, r.news+s.heartbeat(&r.latest)*5/4)
		if r.again {
			due = min(due, r.armed+secondRead)
		}
		if r.watch.stop == nil {
			due = min(due, r.news+secondRead)
		}
		squatter := r.squatter()
		due = min(due, squatter)
		wake := make(chan struct{})
		stop := s.clock.after(max(0, due-s.clock.now()), func() { close(wake) })
		select {
		case <-r.watch.bell:
			stop()
			rec, ok := r.watch.pop()
			if !ok {
				continue
			}
			if rec.Rev != 0 && rec.Val != nil {
				return r.sighted(rec), next{}
			}
			return r.read(fctx, false) // a hint, or a reconnect
		case <-fctx.Done():
			stop()
			return sight{}, next{step: stepAborted, err: context.Cause(fctx)}
		case <-wake:
		}
		now := s.clock.now()
		switch {
		case now >= squatter:
			return sight{}, r.takeOver()
		case now >= r.expiry:
			seen, n := r.read(fctx, true)
			if n.step != stepWait || seen.rev > r.latest.rev || s.clock.now() < r.expiry {
				return seen, n
			}
			return sight{}, r.takeOver()
		case r.again && now >= r.armed+secondRead:
			r.again = false
			return r.read(fctx, true)
		default:
			return r.read(fctx, true)
		}
	}
}

// heartbeat is how often the leader of the lease writes it.
func (s *state[K, V]) heartbeat(seen *sight) time.Duration {
	if seen.isLease() {
		return seen.rec.lease / heartbeats
	}
	return s.lease / heartbeats
}

// squatter returns when the leader has had its time, however often it renews.
func (r *run[K, V]) squatter() time.Duration {
	if r.s.maxAge == 0 {
		return maxTime
	}
	return r.since + r.s.maxAge + r.s.lease + r.s.lease/10
}

const maxTime = time.Duration(1<<63 - 1)

// postpone puts the expiry off after the engine has not answered: perhaps the leader has
// not reached it either. It has a heartbeat, and the longest pause between two tries.
func (r *run[K, V]) postpone() {
	r.expiry = max(r.expiry, r.s.clock.now()+r.s.heartbeat(&r.latest)+2*mostWait)
}

// read is load within await.
func (r *run[K, V]) read(fctx context.Context, counts bool) (sight, next) {
	misses := r.budget.misses
	seen, err := r.load(&r.budget, fctx)
	if err != nil {
		return sight{}, next{step: stepAborted, err: err}
	}
	if r.budget.misses > misses {
		r.postpone()
	}
	if counts && seen.rev > r.latest.rev {
		r.s.stats.pushMisses.Add(1)
	}
	return seen, next{}
}
