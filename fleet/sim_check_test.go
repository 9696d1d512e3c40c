package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds what must hold in each simulation:
//
//  I1. Two executions of a key overlap only if a fault explains it.
//  I2. A lease is taken over only after it has expired, and because its leader had a fault.
//  I3. Each token has one value. Tokens that are published for a key rise, and none is
//      written in the place of a greater one.
//  I4. A result is of an execution that ran when the call began, or later, or had ended at
//      most the time of a delivery before; that of a DoFresh began later, and so did that
//      of a call which came after a Forget began after that.
//  I5. A call ends in time, and it does not wait for longer than that while nothing runs.
//  I6. No call has a zero value and a nil error, or the end of another process's context.
//  I7. The classes of runs add up.
//  I8. At the end nothing is left: no run, no watch, no record.
//  I9. A run takes no more operations than it needs.

// check returns what does not hold.
func (s *sim) check() (broken []string) {
	fail := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	s.checkOverlaps(fail)
	s.checkWrites(fail)
	s.checkCalls(fail)
	s.checkEnd(fail)
	return broken
}

// faultless reports whether nothing goes wrong with the engine or a process.
func (s *sim) faultless() bool {
	p := *s.plan
	return p.refused+p.lostRequest+p.failedAfter+p.lostAnswer+p.lateSwap+p.staleRead+p.lostPush+p.latePush+
		p.spreading+p.foreign+p.unnamed+p.hint == 0 && len(p.dataLoss) == 0 && len(p.trouble) == 0
}

// hit reports whether a process had a fault that may have cost it its lease in this time.
func (s *sim) hit(process int, from, to time.Duration) bool {
	for _, t := range s.plan.trouble {
		if t.process == process && t.from <= to && t.to >= from-s.plan.lease {
			return true
		}
	}
	for _, at := range s.lost {
		if at >= from && at <= to {
			return true
		}
	}
	// A foreign record may be in the place of the lease.
	for _, w := range s.writes {
		if w.process < 0 && w.at >= from-s.plan.lease && w.at <= to {
			return true
		}
	}
	return false
}

func (s *sim) forgottenIn(key string, from, to time.Duration) bool {
	return slices.ContainsFunc(s.forgotten[key], func(f *span) bool { return f.to >= from-s.plan.lease && f.from <= to })
}

func (s *sim) checkOverlaps(fail func(string, ...any)) { // I1
	for i, a := range s.runs {
		for _, b := range s.runs[i+1:] {
			if a.key != b.key {
				continue
			}
			if b.begin < a.begin {
				a, b = b, a
			}
			switch {
			case b.begin >= a.end, a.token == 0 || b.token == 0,
				s.hit(a.process, a.begin, b.begin), s.forgottenIn(a.key, a.begin, b.begin),
				b.begin-a.begin >= s.maxAge*9/10, a.cause != nil,
				s.unlucky(s.groups[0].RecordName(a.key), a.process, a.begin, b.begin):
				continue
			}
			fail("I1: executions of %s overlap: %+v and %+v", a.key, *a, *b)
		}
	}
}

// unlucky reports whether so many operations of a process for a key have failed by chance
// that it may have lost its lease.
func (s *sim) unlucky(key string, process int, from, to time.Duration) bool {
	for _, w := range s.writes {
		if s.late[w.rev] && w.key == key && w.at >= from && w.at <= to {
			return true
		}
	}
	return s.procs[process].misses(key, from-s.plan.lease/2, to) >= 2
}

func (s *sim) checkWrites(fail func(string, ...any)) {
	values := map[uint64]string{}
	published := map[string]uint64{}
	begun := map[uint64]time.Duration{} // by token
	for _, w := range s.writes {
		r := w.rec
		if w.old.token > r.token && (r.kind == lease || r.kind == result) {
			fail("I3: process %d writes token %d in the place of %d", w.process, r.token, w.old.token)
		}
		if r.kind == lease && r.token == w.rev {
			begun[w.rev] = w.at
		}
		switch r.kind {
		case result:
			if v, ok := values[r.token]; ok && v != string(r.payload) {
				fail("I3: token %d has the values %q and %q", r.token, v, r.payload)
			}
			values[r.token] = string(r.payload)
			if r.token < published[w.key] {
				fail("I3: token %d was published after %d", r.token, published[w.key])
			}
			published[w.key] = r.token
		case lease:
			if w.old.kind != lease || w.old.nonce == r.nonce {
				break
			}
			held := w.at - w.oldAt
			squats := s.maxAge < time.Minute && w.at-begun[w.old.token] >= s.maxAge*9/10
			own := s.plan.lateSwap > 0 && s.processNamed(w.old.process) == w.process // its own try, made late
			if held < w.old.lease*99/100 && !squats && !own {
				fail("I2: the lease of token %d was taken over after %v by %d", w.old.token, held, w.process)
			}
			holder := s.processNamed(w.old.process)
			if !squats && !s.hit(holder, w.oldAt, w.at) && !s.late[w.oldRev] && !s.unlucky(w.key, holder, w.oldAt, w.at) {
				fail("I2: the lease of token %d of %d was taken over by %d without a cause at %v", w.old.token, holder, w.process, w.at)
			}
		}
	}
}

func (s *sim) processNamed(name string) int {
	return slices.IndexFunc(s.groups, func(g *Group[string, string]) bool { return g.Process == name })
}

// of returns the execution that has returned a value.
func (s *sim) of(value string) *execution {
	i := slices.IndexFunc(s.runs, func(e *execution) bool { return e.value == value })
	if i < 0 {
		return nil
	}
	return s.runs[i]
}

func (s *sim) checkCalls(fail func(string, ...any)) {
	for _, c := range s.calls {
		var deadlock *coalesce.DeadlockError
		if c.end == 0 || errors.As(c.err, &deadlock) {
			fail("I5: call %+v has not ended", *c)
			continue
		}
		if c.err == nil && c.panicked == nil && !c.exited {
			e := s.of(c.v)
			switch {
			case c.v == "":
				fail("I6: %+v", *c)
				continue
			case e == nil || e.key != c.key:
				fail("I3: a value that no execution has returned: %+v", *c)
				continue
			case c.fresh && e.begin < c.begin:
				fail("I4: %+v is answered by %+v, which began before", *c, *e)
			}
			if f := s.forgottenBefore(c); e.begin < f {
				fail("I4: %+v is answered by %+v, which began before a Forget at %v", *c, *e, f)
			}
			if bound := s.age(c); !c.fresh && e.end < c.begin-bound {
				fail("I4: %+v is answered by %+v, which ended more than %v before", *c, *e, bound)
			}
		}
		var remote *RemoteError
		if errors.As(c.err, &remote) && remote.Message != "fn has failed" && remote.Message != "fn has panicked" && remote.Kind != "goexit" {
			fail("I6: %+v has the error of another process: %v", *c, c.err)
		}
		if idle, most := s.idle(c), s.mostIdle(c); idle > most {
			fail("I5: %+v has waited for %v while nothing ran, want at most %v", *c, idle, most)
		}
		if took, most := c.end-c.begin, s.longest(c); took > most {
			fail("I5: %+v took %v, want at most %v", *c, took, most)
		}
	}
}

// forgottenBefore returns when the last Forget began that has ended before the call.
func (s *sim) forgottenBefore(c *simCall) (at time.Duration) {
	p := s.plan
	if p.lostPush+p.latePush+p.hint+p.spreading+p.staleRead > 0 || len(p.trouble)+len(p.dataLoss) > 0 {
		return 0 // what was there before may still be on its way
	}
	if s.maxAge < time.Minute {
		return 0 // the next flight may have been taken over, like that of before
	}
	for _, f := range s.forgotten[c.key] {
		if f.done && f.to+4*p.latency < c.begin {
			at = max(at, f.from)
		}
	}
	return at
}

// idle is how long a call has waited while no fn ran for its key.
func (s *sim) idle(c *simCall) time.Duration {
	at, idle := c.begin, time.Duration(0)
	for at < c.end {
		var until, next time.Duration = 0, c.end // until when something runs, or when it begins
		for _, e := range s.runs {
			switch {
			case e.key != c.key:
			case e.begin <= at && e.end > at:
				until = max(until, e.end)
			case e.begin > at:
				next = min(next, e.begin)
			}
		}
		if until > 0 {
			at = until
			continue
		}
		idle += next - at
		at = next
	}
	return idle
}

// mostIdle bounds idle: each leader that has died, stopped or been forgotten costs a lease,
// and each lost push 1.25 heartbeats.
func (s *sim) mostIdle(c *simCall) time.Duration {
	if s.faultless() && s.maxAge > time.Minute && len(s.forgotten[c.key]) == 0 {
		return 100 * time.Millisecond
	}
	d := s.plan.grace + 3*s.plan.lease
	for _, t := range s.plan.trouble {
		if t.from < c.end && t.to > c.begin-2*s.plan.lease {
			d += s.plan.lease * 11 / 10
			if t.process == c.process {
				d += min(t.to, c.end) - max(t.from, c.begin)
			}
		}
	}
	for range s.lost {
		d += s.plan.lease * 11 / 10
	}
	return d + time.Duration(10*s.plan.foreign)*s.plan.lease
}

// age is how long before a call its execution may have ended.
func (s *sim) age(c *simCall) time.Duration {
	d := s.linger + 4*s.plan.latency
	if s.faultless() {
		return d
	}
	for _, t := range s.plan.trouble {
		if t.process == c.process {
			d += t.to - t.from
		}
	}
	return d + s.plan.lease*5/12 + time.Second + s.plan.grace // stale reads, tries
}

// longest is how long a call may take.
func (s *sim) longest(c *simCall) time.Duration {
	const fn = 4 * time.Second
	if s.faultless() && s.maxAge > time.Minute && len(s.forgotten[c.key]) == 0 {
		// A flight that is joined, one behind which a DoFresh queues, and its own; each in
		// this process and in another.
		d := 4*(fn+s.plan.lease*5/12) + time.Second
		return d
	}
	d := 5*(fn+s.plan.lease*12/10) + 2*s.plan.grace + 3*time.Second
	for _, t := range s.plan.trouble {
		d += min(t.to-t.from, 10*time.Second)
	}
	return d
}

func (s *sim) checkEnd(fail func(string, ...any)) {
	for i, g := range s.groups {
		st := g.Stats()
		if sum := st.Led + st.Followed + st.Adopted + st.Local + st.Left + st.Refused; sum != st.Runs { // I7
			fail("I7: process %d has %d runs, of which %d are in a class: %+v", i, st.Runs, sum, st)
		}
		for f := range g.Flights() {
			fail("I8: process %d has %+v left", i, f)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.watches {
		fail("I8: %s is watched", key)
	}
	for key := range s.past {
		if v := s.get(key); v.Rev != 0 && v.expires-v.at < time.Minute && v.expires > s.now()+5*time.Second {
			fail("I8: %s has a record until %v", key, v.expires)
		}
	}
	if s.faultless() { // I9
		for i, p := range s.procs {
			st := s.groups[i].Stats()
			most := 3*int(st.Led+st.Adopted+st.Left+st.Refused) + int(st.Renewals+st.Conflicts+3*(st.Lost+st.Stale))
			for _, at := range s.forgotten {
				most += 3 * len(at)
			}
			if p.ops.swaps > most {
				fail("I9: process %d made %d swaps for %+v", i, p.ops.swaps, st)
			}
		}
	}
}
