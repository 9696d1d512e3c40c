package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// This file holds the checker of histories; see history.go for the rules.

// A Violation is a broken rule, and how it is broken.
type Violation struct {
	Rule int
	Text string
}

// Error implements error.
func (v *Violation) Error() string { return fmt.Sprintf("rule %d: %s", v.Rule, v.Text) }

// findings keeps, of the violations that are found, one of the lowest rule: the others
// tend to follow from it.
type findings struct {
	first *Violation
}

func (f *findings) refuse(rule int, format string, args ...any) {
	if f.first == nil || rule < f.first.Rule {
		f.first = &Violation{rule, fmt.Sprintf(format, args...)}
	}
}

// Check returns a [*Violation], or nil if there is none. Nothing may still be
// writing h.
func (h *History) Check() error {
	var found findings
	keys := map[int]*keyHistory{}
	shut := Never // the first time at which a call had ErrClosed
	of := func(key int) *keyHistory {
		if keys[key] == nil {
			keys[key] = &keyHistory{findings: &found, closing: h.Closing, lingering: h.Lingering, aging: h.Aging, runs: map[Token]*run{}}
		}
		return keys[key]
	}
	ids := map[uint64]bool{} // of flights that a ForgetFlight has forgotten
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Inv == 0 {
				continue // nested in an fn that did not run
			}
			k := of(c.Key)
			k.calls = append(k.calls, c)
			if c.Got == GotClosed {
				shut = min(shut, c.Ret)
			}
			if c.Exec.Runs > 0 {
				r := &run{Call: c, minRet: Never, life: h.life(c)}
				k.runs[c.Token] = r
				k.lingering = k.lingering || r.life > 0
			}
		}
	}
	for _, client := range h.Forgets {
		for i := range client {
			f := &client[i]
			k := of(f.Key)
			k.forgets = append(k.forgets, f)
			if f.Flight != 0 && f.Done {
				if ids[f.Flight] {
					found.refuse(11, "flight %d of key %d was forgotten twice", f.Flight, f.Key)
				}
				ids[f.Flight] = true
			}
		}
	}
	for _, note := range h.Notes {
		found.refuse(10, "%s", note)
	}
	for _, k := range keys {
		for _, c := range k.calls {
			k.attribute(c)
		}
	}
	if found.first != nil {
		return found.first // the other checks build on it
	}
	needed := neededBatches(keys)
	for _, k := range keys {
		forgotten := newSpans(k.forgets)
		for _, r := range k.runs {
			if r.Inv > shut {
				found.refuse(9, "fn of %v ran, whose call began at %d, and a call had ErrClosed at %d", r.Token, r.Inv, shut)
			}
			k.checkRun(r, forgotten)
			k.checkContext(r, needed)
		}
		k.checkOverlaps(forgotten)
		k.checkForgets()
		k.checkNameless()
	}
	if found.first != nil {
		return found.first
	}
	return nil
}

// A run is an execution as its receivers saw it.
type run struct {
	*Call // the leader's

	receivers      int
	sharing        int // of them, those that report that they share it
	mute           int // of them, those whose form of answer cannot report it
	maxInv, minRet Stamp
	until          Stamp // the last instant at which it can have been registered
	life           Stamp // how long it may linger
}

// life returns the time for which the outcome of the execution of c may linger.
func (h *History) life(c *Call) Stamp {
	switch c.Exec.How {
	case ExitReturn:
		if h.Lingering {
			return Never
		}
		return c.Exec.Life
	case ExitError, ExitAbsent:
		return c.Exec.Life
	}
	return 0
}

// finish returns the earliest instant at which r can have finished.
func (r *run) finish() Stamp {
	if r.life > 0 {
		return r.Exec.End
	}
	return max(r.Exec.End, r.maxInv)
}

// after returns the instant that is r's life after another.
func (r *run) after(at Stamp) Stamp {
	if r.life > Never-at {
		return Never
	}
	return at + r.life
}

// nameless reports whether the answers of r's receivers do not name it, so that some may
// not be counted.
func (r *run) nameless() bool { return r.Exec.How == ExitGoexit || r.Exec.How == ExitAbsent }

// needed reports whether fn's context may be needed after fn has returned: a call may have
// received the outcome, or may yet, as it lingers.
func (r *run) needed() bool { return r.receivers > 0 || r.nameless() || r.life > 0 }

// neededBatches returns the batches whose context may be needed, because that of one of
// the keys is.
func neededBatches(keys map[int]*keyHistory) map[Token]bool {
	needed := map[Token]bool{}
	for _, k := range keys {
		for _, r := range k.runs {
			if r.Exec.Batch != (Token{}) && r.needed() {
				needed[r.Exec.Batch] = true
			}
		}
	}
	return needed
}

// A keyHistory is the part of a history that is about one key: keys do not
// disturb each other.
type keyHistory struct {
	*findings

	calls     []*Call
	runs      map[Token]*run
	forgets   []*Forget
	left      []*Call // got the end of their own context
	closed    []*Call // got ErrClosed
	followers []*Call // of left, the calls whose fn did not run: they led no flight
	closing   Stamp

	lingering bool
	aging     bool
}

// attribute checks the answer of c by itself and adds c to the run that it comes from.
func (k *keyHistory) attribute(c *Call) {
	if c.Exec.Runs > 1 {
		k.refuse(1, "fn of %v ran %d times", c.Token, c.Exec.Runs)
	}
	if c.Exec.Runs == 1 && c.Exec.End == 0 {
		k.refuse(1, "fn of %v never ended", c.Token)
	}
	switch c.Got {
	case GotResult:
		r := k.runs[c.From]
		if r == nil || r.Exec.How != c.How {
			k.refuse(1, "%v got what no fn of its key ended with: exit %d of %v", c.Token, c.How, c.From)
			return
		}
		if c.Exec.Runs == 1 && r.Call != c {
			k.refuse(1, "%v led and got the result of %v", c.Token, c.From)
		}
		r.receivers++
		r.maxInv = max(r.maxInv, c.Inv)
		r.minRet = min(r.minRet, c.Ret)
		if c.Shared {
			r.sharing++
		} else if c.Try || c.Mute {
			r.mute++
		}
		if c.Fresh && r.Exec.Start < c.Inv {
			k.refuse(8, "DoFresh %v began at %d and got the execution of %v, which started at %d", c.Token, c.Inv, c.From, r.Exec.Start)
		}
	case GotGoexit, GotAbsent:
		if c.Exec.Runs == 0 {
			return // see checkNameless
		}
		if c.Exec.How != namelessExit(c.Got) {
			k.refuse(1, "%v got reply %d, and its own fn ended with exit %d", c.Token, c.Got, c.Exec.How)
		}
		r := k.runs[c.Token]
		r.receivers++
		r.maxInv, r.minRet = c.Inv, c.Ret
	case GotOwnEnd:
		k.left = append(k.left, c)
		if c.Exec.Runs == 0 {
			k.followers = append(k.followers, c)
		}
	case GotClosed:
		if c.Exec.Runs != 0 {
			k.refuse(1, "%v got ErrClosed, and its fn ran", c.Token)
		}
		if c.Ret < k.closing {
			k.refuse(9, "%v got ErrClosed before Shutdown was called", c.Token)
		}
		k.closed = append(k.closed, c)
	case GotFull:
		if c.Exec.Runs != 0 {
			k.refuse(1, "%v got ErrSaturated, and its fn ran", c.Token)
		}
	case GotInFlight:
		if c.Exec.Runs != 0 || !c.Try {
			k.refuse(9, "%v got ErrInFlight", c.Token)
		}
	case NoAnswer:
		k.refuse(9, "%v was never answered", c.Token)
	default:
		k.refuse(9, "%v got nonsense: %s", c.Token, c.Note)
	}
}

// namelessExit returns the exit that a reply without the name of an execution is from.
func namelessExit(got Reply) Exit {
	if got == GotAbsent {
		return ExitAbsent
	}
	return ExitGoexit
}

// checkRun checks an execution against its receivers. Where outcomes linger, other rules
// hold for a flight that one of forgotten may have detached.
func (k *keyHistory) checkRun(r *run, forgotten spans) {
	if r.Exec.Start < r.Inv {
		k.refuse(2, "fn of %v started before its call began", r.Token)
	}
	if r.Exec.End > r.minRet {
		k.refuse(2, "fn of %v ended at %d, and a receiver returned at %d", r.Token, r.Exec.End, r.minRet)
	}
	if r.life > 0 {
		k.checkLife(r)
		k.checkNewest(r, forgotten)
	} else if r.maxInv > r.minRet {
		k.refuse(3, "the result of %v was had at %d and given to a call that began at %d", r.Token, r.minRet, r.maxInv)
	}
	if k.lingering {
		return
	}
	if r.receivers > 1 && r.sharing+r.mute < r.receivers {
		k.refuse(7, "%d calls received the result of %v, and %d of them got that they shared it", r.receivers, r.Token, r.sharing)
	}
	if r.receivers == 1 && r.sharing == 1 && r.Got != GotOwnEnd && !anyOverlaps(k.followers, r.Inv, r.minRet) {
		k.refuse(7, "%v alone received its result and got that it shared it", r.Token)
	}
}

// checkContext checks rule 6. needed are the batches whose context may be needed.
func (k *keyHistory) checkContext(r *run, needed map[Token]bool) {
	if r.Exec.Canceled && (r.receivers > 0 || r.Exec.Held) && r.Exec.End < k.closing {
		k.refuse(6, "the context of %v ended before fn did, though %d calls received its result (held: %v)", r.Token, r.receivers, r.Exec.Held)
	}
	if r.Exec.Ctx == nil {
		return
	}
	switch ended := r.Exec.Ctx.Err() != nil; {
	case ended && r.receivers > 0 && r.minRet < k.closing:
		k.refuse(6, "the context of %v has ended, though %d calls received its result", r.Token, r.receivers)
	case !ended && !r.needed() && !needed[r.Exec.Batch]:
		k.refuse(6, "the context of %v has not ended, though no call received its result", r.Token)
	}
}

// checkLife checks rule 3 for r, which lingers: it answers no call after its time is
// over. That time counts from before the first call had it. A call that began earlier
// than that may have followed in the flight, however short the time is.
func (k *keyHistory) checkLife(r *run) {
	if end := r.after(r.minRet); r.maxInv > r.minRet && r.maxInv >= end {
		k.refuse(3, "the result of %v was had at %d, lingered until %d at most, and was given to a call that began at %d",
			r.Token, r.minRet, end, r.maxInv)
	}
}

// checkNewest checks rule 3 for r, which lingers: no call gets it that began after
// another had a later one, which has dropped it, unless the later one had been forgotten.
func (k *keyHistory) checkNewest(r *run, forgotten spans) {
	if k.aging {
		return // the later one may have been taken over
	}
	for _, o := range k.runs {
		if o != r && o.Exec.Start >= r.Exec.End && o.minRet < r.maxInv && !forgotten.overlap(o.Inv, o.minRet) {
			k.refuse(3, "the result of %v was given to a call that began at %d, and that of %v, which is newer, was had at %d",
				r.Token, r.maxInv, o.Token, o.minRet)
		}
	}
}

// anyOverlaps reports whether one of calls overlaps [from, to].
func anyOverlaps(calls []*Call, from, to Stamp) bool {
	return slices.ContainsFunc(calls, func(c *Call) bool {
		return c.Inv <= to && c.Ret >= from
	})
}

// checkOverlaps checks rule 4 and sets the runs' until.
func (k *keyHistory) checkOverlaps(forgotten spans) {
	runs := make([]*run, 0, len(k.runs))
	for _, r := range k.runs {
		r.until = r.minRet
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b *run) int {
		// of those that start in one instant, the first has finished in it
		return cmp.Or(cmp.Compare(a.Exec.Start, b.Exec.Start), cmp.Compare(a.finish(), b.finish()))
	})
	var open []*run // runs that a Forget lets others follow before they end
	for _, r := range runs {
		open = slices.DeleteFunc(open, func(o *run) bool { return o.finish() <= r.Exec.Start })
		for _, o := range open {
			if !k.aging && !forgotten.overlap(min(o.Inv, r.Inv), r.Exec.Start) {
				k.refuse(4, "executions of key %d overlap: %v in [%d, %d], %v from %d on", r.Key,
					o.Token, o.Exec.Start, o.finish(), r.Token, r.Exec.Start)
			}
		}
		open = append(open, r)
	}
	for i := 1; i < len(runs); i++ {
		a, b := runs[i-1], runs[i]
		if !k.aging && !forgotten.overlap(min(a.Inv, b.Inv), b.Exec.Start) {
			a.until = min(a.until, b.Exec.Start)
		}
	}
}

// checkForgets checks rule 5.
func (k *keyHistory) checkForgets() {
	// After the first Forget, the key had nothing from before, and after the second no
	// flight.
	var nothing, noFlight []*Forget
	for _, f := range k.forgets {
		switch {
		case f.Flight != 0 && f.Done:
			noFlight = append(noFlight, f)
		case f.Flight == 0 && (f.Done || !f.Unshared):
			nothing = append(nothing, f)
		}
	}
	all, flights := newBarriers(nothing), newBarriers(noFlight)
	for _, c := range k.calls {
		if c.Got != GotResult {
			continue
		}
		r := k.runs[c.From]
		if all.between(r.Exec.Start, c.Inv) || r.life == 0 && flights.between(r.Exec.Start, c.Inv) {
			k.refuse(5, "%v began at %d, after a Forget, and got %v, which started before that at %d", c.Token, c.Inv, c.From, r.Exec.Start)
		}
	}
}

// checkNameless checks the answers that name no execution: there must be one that they
// can come from.
func (k *keyHistory) checkNameless() {
	for _, c := range k.calls {
		switch {
		case (c.Got == GotGoexit || c.Got == GotAbsent) && c.Exec.Runs == 0:
			if !k.anyRun(func(r *run) bool {
				return r.Exec.How == namelessExit(c.Got) && r.Exec.End <= c.Ret && c.Inv <= r.after(r.until) && (!c.Fresh || c.Inv <= r.Exec.Start)
			}) {
				k.refuse(1, "%v got reply %d, and no fn can have ended like that for it", c.Token, c.Got)
			}
		case c.Got == GotInFlight && !k.inFlight(c):
			k.refuse(9, "%v got ErrInFlight, and nothing was in flight", c.Token)
		case c.Got == GotFull && !k.inFlight(c):
			k.refuse(9, "%v got ErrSaturated, and nothing was in flight", c.Token)
		}
	}
}

// inFlight reports whether a flight can have been in flight during c. It may never have
// run, because all callers left it, or it was rejected.
func (k *keyHistory) inFlight(c *Call) bool {
	return anyOverlaps(k.left, c.Inv, c.Ret) || anyOverlaps(k.closed, c.Inv, c.Ret) ||
		k.anyRun(func(r *run) bool { return r.Inv <= c.Ret && c.Inv <= r.until })
}

func (k *keyHistory) anyRun(ok func(*run) bool) bool {
	for _, r := range k.runs {
		if ok(r) {
			return true
		}
	}
	return false
}

// barriers reports whether a whole Forget lies between two instants.
type barriers struct {
	fs     []*Forget // by inv
	minRet []Stamp   // over the Forgets from i on
}

func newBarriers(fs []*Forget) barriers {
	slices.SortFunc(fs, func(a, b *Forget) int { return cmp.Compare(a.Inv, b.Inv) })
	minRet := make([]Stamp, len(fs)+1)
	minRet[len(fs)] = Never
	for i := len(fs) - 1; i >= 0; i-- {
		minRet[i] = min(minRet[i+1], fs[i].Ret)
	}
	return barriers{fs, minRet}
}

func (b barriers) between(from, to Stamp) bool {
	i := sort.Search(len(b.fs), func(i int) bool { return b.fs[i].Inv > from })
	return b.minRet[i] < to
}

// spans reports which intervals a successful Forget overlaps.
type spans struct {
	fs     []*Forget // by inv
	maxRet []Stamp   // over the Forgets up to i
}

func newSpans(forgets []*Forget) spans {
	var s spans
	for _, f := range forgets {
		if f.Done {
			s.fs = append(s.fs, f)
		}
	}
	slices.SortFunc(s.fs, func(a, b *Forget) int { return cmp.Compare(a.Inv, b.Inv) })
	m := Stamp(0)
	for _, f := range s.fs {
		m = max(m, f.Ret)
		s.maxRet = append(s.maxRet, m)
	}
	return s
}

func (s spans) overlap(from, to Stamp) bool {
	n := sort.Search(len(s.fs), func(i int) bool { return s.fs[i].Inv > to })
	return n > 0 && s.maxRet[n-1] >= from
}
